"""A simulated Voltronic / Axpert inverter, or several in parallel behind one cable.

Models: `pi30` (32 warning bits, 21 fields), `max` (24-field status, second tracker, energy counters), `old`
(24 V, 17 fields, few queries) and `pi18`. Transports: `serial`, `hid` (8-byte reports over a pty, so that a serial
port can be attached) and `hidraw` (8-byte reports over sockets, see HidrawPair; open_hidraw() gives the host end).

A frame's sequence number stands, modulo 100, in the output voltage (its tenths of a volt: 231.7 V is 17) of QPIGS,
QPGSn and GS while the output is on, and in the last two digits of QPIGS's bus voltage always. Ratings, settings,
modes, flags and texts carry none.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from bridge.simulators import axpert_pi18, axpert_pi30, axpert_setters
from bridge.simulators.axpert_frames import MODELS, crc, crc_bytes, frame
from bridge.simulators.axpert_pi30 import Asked
from bridge.simulators.axpert_plant import Plant, Setting, Unit
from bridge.simulators.faults import Faults
from bridge.simulators.living import Battery, DayClock, House
from bridge.simulators.simulator import LineSimulator, Reply, on_a_line
from bridge.simulators.truth import Scalar, TruthLog
from bridge.simulators.wire import HidrawPair, Line, Pty

BAUD = 2400.0
LONGEST_COMMAND = 64
TRANSPORTS = ("serial", "hid", "hidraw")


LIES = (
    "forgets",  # ACK, nothing stored
    "clamps",  # ACK, a value nearer to the middle stored
    "jumps",  # ACK, another value stored
    "denies",  # NAK, but stored
    "mute",  # stored, no answer
    "deaf",  # nothing stored, no answer
    "late",  # stored, ACK after LATE seconds
    "garbles",  # stored, the ACK's CRC is wrong
    "bare",  # nothing stored, a NAK without CRC
    "nudges",  # ACK, stored, and a neighbouring setting changes too
    "chats",  # stored, the answer is that to a query
)
"""What AxpertFaults.lie can say."""
LATE = 0.5
DAT = re.compile(r"DAT\d{12}")


@dataclass
class AxpertFaults(Faults):
    """What an Axpert does wrong besides the faults of its line."""

    nak_all: bool = False
    """NAK to everything: a known state of a sick unit."""
    nak_bare: bool = False
    """A NAK is five bytes, without its CRC."""
    locked: bool = False
    """The communication processor hangs: silence until power_cycle()."""
    wrong_crc: bool = False
    zero_crc: bool = False
    """QPIGS answers have a zero byte in their CRC, as it is."""
    bump_zero: bool = False
    """A zero byte in a reply's CRC is sent as 1."""
    line_feed: bool = False
    """One LF after the CR."""
    line_feed_end: bool = False
    """LF in the place of CR."""
    echo_unknown: bool = False
    """An unknown command comes back as it is, instead of a NAK."""
    needs_bumped_zero: bool = False
    """A command with a zero byte in its CRC gets no answer; with 1 in its place it does (mpp-solar pull 450)."""
    needs_plain_zero: bool = False
    """A command whose zero CRC byte was sent as 1 is refused."""
    forget_settings: bool = False
    """ACK, but nothing is stored."""
    store_other: Setting | None = None
    """ACK, but this value is stored instead (ned-kelly#79)."""
    mute_setters: bool = False
    """A setting is stored, but never answered."""
    lie: str = ""
    """How the next setters are answered and kept, one of LIES; whatever else happens, queries are answered."""
    lies: int | None = None
    """That many setters, then honest again; None: for good."""


class AxpertSimulator(LineSimulator):
    """`units` inverters of one model; the cable is in unit number `cable`.

    `baud` None answers at once. `plant` may be changed at any time: `plant.grid_present`, `plant.fault_code`,
    `plant.battery.soc`, `plant.warnings`, `plant.units[0].settings`.
    """

    faults: AxpertFaults

    def __init__(
        self,
        name: str = "axpert",
        *,
        model: str = "pi30",
        units: int = 1,
        cable: int = 0,
        transport: str = "serial",
        link: str | Path | None = None,
        baud: float | None = BAUD,
        turnaround: float = 0.0,
        clock: DayClock | None = None,
        seed: int = 1,
        truth: TruthLog | None = None,
    ) -> None:
        self.model = MODELS[model]
        end = HidrawPair() if transport == "hidraw" else Pty(link)
        super().__init__(
            name,
            Line(
                end,
                truth if truth is not None else TruthLog(),
                baud=baud,
                turnaround=turnaround,
                reports=transport != "serial",
                half_duplex=False,
                faults=AxpertFaults(seed=seed),
            ),
        )
        self.plant = Plant(
            [self._unit(f"9293260{60 + seed % 40}{index + 1:05d}") for index in range(units)],
            House(seed),
            clock if clock is not None else DayClock(),
            Battery(9600.0 * units, 60.0, self.model.battery),
            0.75 * self.model.active_power,
        )
        self.plant.advance()  # life begins now, not at the first question
        self.cable = cable
        self.setters: list[str] = []
        """Everything received that is no query, without what PI18 puts before it, in order."""
        self._lying = ""

    def power_cycle(self) -> None:
        """Switch the units off and on: ends a lock-up, keeps the settings, drops what was under way.

        A USB port vanishes for that moment; a serial one belongs to the host and stays.
        """
        self.faults.locked = False
        self.call(self._restart)

    def _restart(self) -> None:
        if not self.line.reports:
            self.line.forget()
            return
        self.line.unplug()
        self.line.plug()

    def _unit(self, serial: str) -> Unit:
        unit = Unit(self.model, serial, {}, {})
        unit.reset()
        return unit

    def _split(self, received: bytes) -> int:
        end = received.find(b"\r")
        if end < 0 and len(received) > LONGEST_COMMAND:
            self.line.discard(len(received))
        return end + 1

    def _answer(self, request: bytes) -> Reply | None:
        # padding of the last report, and what some programs send between commands
        request = request.lstrip(b"\0\n")
        body = request[:-3]
        if self.faults.locked or not self._accepts(body, request[-3:-1]):
            return None
        self.next_sequence()
        command = body.decode("latin-1")
        if self.model.protocol == "PI18":
            return self._pi18(command, request)
        return self._pi30(command, request)

    def _accepts(self, body: bytes, received: bytes) -> bool:
        """Return whether a command with this CRC gets any answer. A wrong CRC is refused, not ignored."""
        has_zero = 0 in crc(body).to_bytes(2, "big")
        return not (has_zero and self.faults.needs_bumped_zero and received == crc_bytes(body))

    def _crc_holds(self, request: bytes) -> bool:
        body, received = request[:-3], request[-3:-1]
        plain, bumped = crc_bytes(body), crc_bytes(body, bump_zero=True)
        return received == plain or (received == bumped and not self.faults.needs_plain_zero)

    def _pi30(self, command: str, request: bytes) -> Reply | None:
        if self.faults.nak_all or not self._crc_holds(request):
            return self._reply(command, b"(NAK", {"ack": False})
        if found := axpert_pi30.find(command, self.model):
            asked = Asked(self.plant, self.cable, found[1], self.sequence)
            if found[0] == "QPIGS" and self.faults.zero_crc:
                answer: axpert_pi30.Answer | None = axpert_pi30.zero_crc_status(asked, _zero_in_crc)
            else:
                answer = axpert_pi30.QUERIES[found[0]][1](asked)
            if answer is not None:
                unit = str(answer[1].get("serial_number", asked.unit.serial))
                return self._reply(command, b"(" + answer[0].encode(), answer[1], unit)
        elif not command.startswith(("Q", "^")) and self._carries_out(command):
            return self._said_of(command)
        if self.faults.echo_unknown:
            return Reply(request, command)
        return self._reply(command, b"(NAK", {"ack": False})

    def _pi18(self, command: str, request: bytes) -> Reply | None:
        parsed = axpert_pi18.command(command)
        if parsed is None or self.faults.nak_all or not self._crc_holds(request):
            return self._reply(command, b"^0", {"ack": False})
        kind, said = parsed
        found = axpert_pi18.find(said)
        if kind == "P" and found:
            asked = Asked(self.plant, self.cable, found[1], self.sequence)
            text, values = axpert_pi18.QUERIES[found[0]][1](asked)
            return self._reply(said, axpert_pi18.data_body(text), values)
        if kind == "S" and self._carries_out(said):
            return self._said_of(said)
        return self._reply(said, b"^0", {"ack": False})

    def _carries_out(self, command: str) -> bool:
        """Carry out a setter, or pretend to; return whether it is one and its value is accepted."""
        self.setters.append(command)
        self._lying = self._lie()
        if self._lying not in ("forgets", "deaf", "bare"):
            accepted = self._obeys(command)
        elif DAT.fullmatch(command):
            accepted = self._has_clock()
        else:
            accepted = axpert_setters.apply(command, self._copies(), self._stored)
        if accepted and self._lying == "nudges":
            self._nudge(command)
        return accepted

    def _said_of(self, command: str) -> Reply | None:
        """Return the answer to a setter that was accepted."""
        pi18 = self.model.protocol == "PI18"
        yes = self._reply(command, b"^1" if pi18 else b"(ACK", {"ack": True})
        no = self._reply(command, b"^0" if pi18 else b"(NAK", {"ack": False})
        match self._lying:
            case "mute" | "deaf":
                return None
            case "denies":
                return no
            case "bare":
                return replace(no, data=no.data[:-3] + b"\r", faults=("bare",))
            case "garbles":
                garbled = yes.data[:-3] + bytes([yes.data[-3] ^ 0x55]) + yes.data[-2:]
                return replace(yes, data=garbled, faults=("garbles",))
            case "late":
                return replace(yes, delay=LATE)
            case "chats":
                text = axpert_pi18.data_body("05") if pi18 else b"(L"
                return self._reply(command, text, {"ack": False})
        return None if self.faults.mute_setters else yes

    def _lie(self) -> str:
        """Return how this setter is lied about, counting down what counts down."""
        lie = self.faults.lie
        if lie and self.faults.lies is not None:
            self.faults.lies -= 1
            if self.faults.lies <= 0:
                self.faults.lie, self.faults.lies = "", None
        return lie

    def _nudge(self, command: str) -> None:
        """Change a setting that the command does not mean."""
        unit = self.plant.units[self.cable]
        if command.startswith("PGR"):
            unit.settings["max_charging_current"] = self.model.currents[0]
        else:
            unit.settings["input_voltage_range"] = 1 - int(unit.settings["input_voltage_range"])
        letter = next(iter(unit.flags))
        if not command.endswith(letter):
            unit.flags[letter] = not unit.flags[letter]

    def _obeys(self, command: str) -> bool:
        """Carry out a setter; return whether it is one and was accepted."""
        if DAT.fullmatch(command):
            return self._set_clock(command[3:])
        if self.faults.forget_settings:
            return axpert_setters.apply(command, self._copies(), self._stored)
        return axpert_setters.apply(command, self.plant.units, self._stored)

    def _copies(self) -> list[Unit]:
        """Return units to judge a setter by, so that a bad value still gets its NAK."""
        return [Unit(unit.model, unit.serial, dict(unit.settings), dict(unit.flags)) for unit in self.plant.units]

    def _stored(self, _key: str, value: Setting) -> Setting:
        if self._lying in ("clamps", "jumps") and not isinstance(value, str):
            if isinstance(value, float):
                return value - 0.5 if self._lying == "clamps" else value + 1.0
            return 1 - value if value in (0, 1) else value - 1
        return value if self.faults.store_other is None else self.faults.store_other

    def _set_clock(self, digits: str) -> bool:
        try:
            wanted = datetime.strptime(digits, "%y%m%d%H%M%S")
        except ValueError:
            return False
        if not self._has_clock():
            return False
        if not self.faults.forget_settings:
            wrong = 3600.0 if self._lying in ("clamps", "jumps") else 0.0
            self.plant.clock_offset += (wanted - self.plant.date()).total_seconds() + wrong
        return True

    def _has_clock(self) -> bool:
        return "QT" in self.model.queries or self.model.protocol == "PI18"

    def _reply(self, name: str, body: bytes, values: dict[str, Scalar], unit: str = "") -> Reply:
        """Dress an answer with its CRC, wrong in the ways the faults ask for."""
        faults = self.faults
        data = body + crc_bytes(body, faults.bump_zero) + b"\r"
        if faults.wrong_crc:
            data = body + bytes([data[-3] ^ 0x55, data[-2]]) + b"\r"
        if bare := faults.nak_bare and body == b"(NAK":
            data = body + b"\r"
        if faults.line_feed_end:
            data = data[:-1] + b"\n"
        if faults.line_feed:
            data += b"\n"
        wrong = tuple(fault for fault, on in (("wrong_crc", faults.wrong_crc), ("nak_bare", bare)) if on)
        return Reply(data, name, values, unit or self.plant.units[self.cable].serial, wrong)


def _zero_in_crc(body: bytes) -> bool:
    return 0 in frame(body)[-3:-1]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this simulator's own options to those every simulator has."""
    parser.add_argument("--model", choices=list(MODELS), default="pi30", help="kind of unit (default: %(default)s)")
    parser.add_argument("--units", type=int, choices=range(1, 10), default=1, metavar="N", help="units in parallel")
    parser.add_argument("--transport", choices=TRANSPORTS[:2], default="serial", help="plain bytes or 8-byte reports")
    parser.set_defaults(baud=BAUD)


def from_arguments(options: argparse.Namespace, clock: DayClock, truth: TruthLog) -> AxpertSimulator:
    """Build the simulator that the options describe."""
    return AxpertSimulator(
        model=options.model,
        units=options.units,
        transport=options.transport,
        **on_a_line(options, clock, truth),
    )
