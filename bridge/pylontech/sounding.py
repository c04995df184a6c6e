"""A look at a serial port by somebody who does not know yet what is on it: whether a Pylontech battery answers there.

RS485 at both of its speeds, then the console. Only questions are put that the bridge puts itself; a console that
sleeps is not woken, since the frame for that is a command.
"""

from __future__ import annotations

from collections.abc import Iterator

from bridge import battery as k
from bridge.devices import Context, Found, Tally
from bridge.errors import NoReply, ProtocolError
from bridge.pylontech import console, questions
from bridge.pylontech import messages as m
from bridge.pylontech.connection import Line
from bridge.pylontech.console_connection import Console
from bridge.pylontech.frame import Refusal, reply_info
from bridge.transports.base import Stop
from bridge.transports.serial_port import open_serial

BAUDS = (115200, 9600)
"""Of RS485, by DIP switch 1."""
CONSOLE_BAUD = 115200
PATIENCE = 0.25
"""Seconds a module may think; the slowest reply known took as long."""
GROUPS = range(16)
TRIES = 2


def sound_out_port(port: str, stop: Stop) -> list[Found]:
    """Ask every group's master, then its modules; then the console; return what answers.

    `port` is a serial port, free of anybody else: it is opened for this program alone. Silence takes 20 s. Raises
    LinkError when it cannot be opened or breaks, Stopped.
    """
    for baud in BAUDS:
        if found := _on_rs485(port, baud, stop):
            return [found]
    found = _on_console(port, stop)
    return [found] if found else []


def _on_rs485(port: str, baud: int, stop: Stop) -> Found | None:
    line = Line(open_serial(port, baud, stop), baud, PATIENCE, Tally())
    try:
        modules = dict(_modules(line))
    finally:
        line.close()
    if not modules:
        return None
    shown = ", ".join(f"{address} ({serial or 'tells no serial number'})" for address, serial in modules.items())
    groups = sorted({address >> 4 for address in modules})
    entry: dict[str, object] = {"name": "batteries", "type": "pylontech", "port": port, "link": "rs485", "baud": baud}
    if groups != [0]:
        entry["groups"] = groups
    return Found(f"Pylontech modules on RS485 at {baud} baud, by address: {shown}", entry)


def _modules(line: Line) -> Iterator[tuple[int, str]]:
    """Yield address and serial number of each module; a group ends at the second address without one."""
    for group in GROUPS:
        silent = 0
        for number in range(questions.FIRST, questions.LAST + 1):
            address = 16 * group + number
            serial = _serial(line, address)
            if serial is None:
                silent += 1
            else:
                yield address, serial
            if silent == TRIES or (silent and number == questions.FIRST):
                break


def _serial(line: Line, address: int) -> str | None:
    """Return the serial number of the module at an address, "" when it tells none; None for no module."""
    for again in range(TRIES):
        try:
            line.send(questions.question(m.SERIAL_NUMBER, address, again=bool(again)))
            info = reply_info(line.listen().frame, address)
            return str(m.serial_number(info, address)[k.SERIAL.key] or "")
        except Refusal as err:
            return None if err.code in questions.DEAD_CODES else ""
        except NoReply:
            return None
        except ProtocolError:
            continue
    return None


def _on_console(port: str, stop: Stop) -> Found | None:
    context = Context(stop, Tally(), lambda: None)
    terminal = Console(open_serial(port, CONSOLE_BAUD, stop), context, CONSOLE_BAUD, login=False)
    try:
        if not terminal.is_awake():
            return None
        present = terminal.ask("pwr", None, console.modules).values.present
    except (NoReply, ProtocolError):
        return None
    finally:
        terminal.close()
    positions = ", ".join(map(str, sorted(present)))
    entry = {"name": "batteries", "type": "pylontech", "port": port, "link": "console"}
    return Found(f"a Pylontech console; modules at positions {positions}", entry)
