"""The RS232 console of a simulated Pylontech stack, and that of an Extra2000.

    with ConsoleSimulator(modules=["US5000", "US2000C"], asleep=True, link="/tmp/console") as stack:
        stack.stack.modules[2].silent = True            # places are the console's numbers, 1 for the master
        stack.stack.modules[1].override["Coulomb"] = "130%"
        stack.faults.busy = frozenset({2})

Asleep it hears nothing but the wake-up frame at 1200 baud, then it answers at `baud`. `strict_speed` keeps it deaf
for a host at another speed; asleep turns that on. restart() puts it to sleep again, and out of debug mode. The
console is the master's: with the master silent there is no answer for anybody. `writes` also notes every command that
a console does not know, for it might be one that changes something on another firmware.

The sequence number stands in the cells and pack voltages (pylontech_stack): `bat N`, `soh N` and `getpwr` carry it
modulo 1000, each row of `pwr` and `pwr N` in the last two digits of the voltage in mV. The rest carries none. In the
truth log a frame is called by its command ("pwr", "pwr N", "bat", ...).
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Unpack

from bridge.simulators import pylontech_text as text
from bridge.simulators.faults import Faults
from bridge.simulators.living import DayClock
from bridge.simulators.pylontech_bus import BAUD, OfAStack, StackSimulator
from bridge.simulators.pylontech_stack import Module, Snapshot
from bridge.simulators.pylontech_text import Text
from bridge.simulators.simulator import Reply
from bridge.simulators.truth import Scalar, TruthLog

EXTRA_BAUD, WAKE_BAUD = 19200, 1200
WAKE = b"~20014682C0048520FCC3"
LONGEST_COMMAND = 256
DONE = "Command completed successfully"
REFUSED = "Invalid command or fail to excute."
"""As the device spells it."""
# what one may ask; anything else is refused, and noted as a write where the device would obey
PATTERN = re.compile(r"(pwrsys|getpwr|pwr|bat|info|stat|soh|time|login)(?: +(.*))?")


@dataclass
class ConsoleFaults(Faults):
    """What a console does wrong besides the faults of its line."""

    busy: frozenset[int] = frozenset()
    """Modules for which it says "Target device is Busy"."""
    busy_with_success: bool = False
    """... and the success line behind it."""
    locked: bool = False
    """No answer at all until an empty line came."""
    no_prompt: bool = False
    """The answer ends behind `$$`."""
    no_end: bool = False
    """The answer ends before the success line."""
    stray: bool = False
    """The old prompt and a `>` stand before the echo."""
    plain_lines: bool = False
    """Lines end in CR LF instead of CR CR LF."""


class ConsoleSimulator(StackSimulator):
    """A console. `layout` (2019, c, us3000d, 2024) is the master's own when left out; so are the words of `info`."""

    faults: ConsoleFaults
    cells_label = "Cell Number"
    state_events = False
    """Whether Power Events tell idle, charging and discharging."""

    def __init__(
        self,
        name: str = "console",
        *,
        places: Sequence[int] | None = None,
        layout: str | None = None,
        speed: int = BAUD,
        asleep: bool = False,
        debug: bool = False,
        **common: Unpack[OfAStack],
    ) -> None:
        super().__init__(name, ConsoleFaults, speed=speed, **common)
        self._settle(places or range(1, len(self._made) + 1))
        self.strict_speed |= asleep
        self._layout = layout
        self._paced = self.line.baud is not None
        self._sleeps = asleep
        self.wakes = 0
        """How often the wake-up frame was sent, heard or not."""
        self._prompts_debug = debug
        self._debug, self.awake = debug, not asleep
        self._set_pace()

    @property
    def layout(self) -> str:
        """The firmware's layout: the master decides."""
        return self._layout or self._master.model.layout

    @property
    def _master(self) -> Module:
        return self.stack.modules[min(self.stack.modules)]

    def _restart(self, boot: float) -> None:
        super()._restart(boot)
        self._debug, self.awake = self._prompts_debug, not self._sleeps
        self._set_pace()

    def _set_pace(self) -> None:
        if self._paced:
            self.line.baud = self.speed if self.awake else WAKE_BAUD

    def _split(self, received: bytes) -> int:
        ends = [at for at in (received.find(b"\r"), received.find(b"\n")) if at >= 0]
        if not ends and len(received) > LONGEST_COMMAND:
            self.line.discard(len(received))
        return min(ends) + 1 if ends else 0

    def _answer(self, request: bytes) -> Reply | None:
        if WAKE in request:
            self.wakes += 1
        if not self.stack.modules or self._master.silent:
            return None
        if not self.awake:
            self._perhaps_wake(request)
            return None
        # the wake-up frame does no harm to a console that is awake: at 1200 baud it is rubbish to it
        if WAKE in request or not self._hears():
            return None
        line = request.strip(b"\r\n\0").decode("latin-1")
        if self.faults.locked:
            self.faults.locked = bool(line)
            if line:
                return None
        if not line:
            return Reply(f"\n\r{self._prompt}".encode(), "prompt")
        self.next_sequence()
        said, values, unit, frame, ended = self._said(line.strip())
        return Reply(self._dressed(line, said, ended), frame, values, unit)

    def _perhaps_wake(self, request: bytes) -> None:
        if WAKE in request and self._pty.host_baud() == WAKE_BAUD:
            self.awake = True
            self._set_pace()

    @property
    def _prompt(self) -> str:
        return "pylon_debug>" if self._debug else "pylon>"

    def _dressed(self, echo: str, said: list[str], ended: bool) -> bytes:
        """Put echo, marks and prompt around the lines. Source: Pylontech-Battery-Monitoring issue 1, hex log."""
        faults = self.faults
        old = f"{self._prompt}\r\n>" if faults.stray else ""
        head = f"{old}{echo}\n\r@\r\r\n" + text.joined(said, "\r\n" if faults.plain_lines else "\r\r\n")
        if faults.no_end:
            return head.encode("latin-1")
        tail = (f"{DONE}\r\n" if ended else "") + "\r$$\r\n\r"
        return (head + tail + ("" if faults.no_prompt else self._prompt)).encode("latin-1")

    def _said(self, line: str) -> tuple[list[str], dict[str, Scalar], str, str, bool]:
        """Return lines, values, module's serial, frame name, and whether the success line follows."""
        found = PATTERN.fullmatch(line)
        word, argument = found.groups("") if found else ("", "")
        if not found or word not in self._words():
            if not word:
                self.writes.append(line)
            return [f"Unknown command '{line.split(' ')[0]}' - try 'help'"], {}, "", "unknown", False
        argument = argument.strip()
        if word == "login":
            return self._login(argument)
        if word in WHOLE and not (word == "time" and argument):
            said = WHOLE[word](self)
            return said.lines, said.values, "", word, True
        if word == "pwr" and not argument:
            said = text.pwr_table(self._snapshots(), self.layout, self.stack.clock.date())
            return said.lines, said.values, "", "pwr", True
        if word == "time":
            self.writes.append(line)
        return self._of_module(word, argument)

    def _of_module(self, word: str, argument: str) -> tuple[list[str], dict[str, Scalar], str, str, bool]:
        refused: tuple[dict[str, Scalar], str, str] = ({}, "", f"{word} N" if word == "pwr" else word)
        alone = self.layout == "us3000d" and word in ("info", "stat")
        if word not in ONE or (argument and (alone or not argument.isdigit())):
            return [REFUSED], *refused, False
        number = int(argument) if argument else min(self.stack.modules)
        module = self.stack.modules.get(number)
        if number in self.faults.busy:
            return ["Target device is Busy"], *refused, self.faults.busy_with_success
        if module is None or module.unreachable or module.silent:
            return [f"Device {number} is not present"], *refused, False
        said = ONE[word](self, number, self._snapshot(number))
        return said.lines, said.values, module.serial, refused[2], True

    def _login(self, argument: str) -> tuple[list[str], dict[str, Scalar], str, str, bool]:
        if argument != "debug":
            return [REFUSED], {}, "", "login", False
        again, self._debug = self._debug, True
        return (["Quit current mode", "Invalid command"] if again else []), {}, "", "login", not again

    def _words(self) -> frozenset[str]:
        words = ALL_WORDS if self._debug else ALL_WORDS - DEBUG_WORDS
        return words - {"soh"} if self.layout == "us3000d" else words

    def _snapshot(self, number: int) -> Snapshot:
        snap = self.stack.snapshot(number, self.sequence)
        if self.state_events:
            state = {"Idle": 0x200000, "Charge": 0x400000, "Dischg": 0x800000}[snap.state]
            snap.module.power_events = snap.module.power_events & ~0xE00000 | state
        return snap

    def _snapshots(self) -> list[tuple[int, Snapshot]]:
        present = [number for number, module in self.stack if not (module.silent or module.unreachable)]
        return [(number, self._snapshot(number)) for number in present]


def _time(unit: ConsoleSimulator) -> Text:
    at = unit.stack.clock.date().strftime("%Y-%m-%d %H:%M:%S")
    return Text([f"RTC {at}", "Test result:pass"], {"time": at})


def _system(unit: ConsoleSimulator) -> Text:
    snaps = [snap for _, snap in unit._snapshots()]
    return text.system_block(snaps, len(unit.stack.modules) - len(snaps))


WHOLE: dict[str, Callable[[ConsoleSimulator], Text]] = {
    "time": _time,
    "pwrsys": _system,
    "getpwr": lambda unit: text.raw_block(unit._snapshots()[0][1]),
}
"""Commands about the stack or its master alone."""
ONE: dict[str, Callable[[ConsoleSimulator, int, Snapshot], Text]] = {
    "pwr": lambda unit, number, snap: text.pwr_block(number, snap, unit.layout),
    "bat": lambda unit, _number, snap: text.bat_table(snap, unit.layout),
    "info": lambda unit, number, snap: text.info_block(number, snap, unit.cells_label, unit.speed),
    "stat": lambda _unit, number, snap: text.stat_block(number, snap),
    "soh": lambda _unit, number, snap: text.soh_table(number, snap),
}
"""Commands about one module, the master when no number follows."""
DEBUG_WORDS = frozenset({"pwrsys", "getpwr"})
ALL_WORDS = frozenset(WHOLE) | frozenset(ONE) | {"login"}


class Extra2000Simulator(ConsoleSimulator):
    """An Extra2000's console: 19200 baud, "Cell Count", events that tell the state.

    Source: ned-kelly/extra200tomqtt alone. unconfirmed: that Power Events tell the state, that `stat` is there.
    """

    cells_label = "Cell Count"
    state_events = True

    def __init__(
        self,
        name: str = "extra2000",
        *,
        places: Sequence[int] | None = None,
        asleep: bool = True,
        **common: Unpack[OfAStack],
    ) -> None:
        usual: OfAStack = {"modules": 5, "model": "Extra2000", "baud": EXTRA_BAUD}
        super().__init__(name, places=places, speed=EXTRA_BAUD, asleep=asleep, **(usual | common))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the Extra2000's own options to those every simulator has."""
    from bridge.simulators.pylontech import add_model_arguments

    add_model_arguments(parser, "Extra2000")
    parser.add_argument("--awake", action="store_true", help="needs no wake-up at 1200 baud")
    parser.set_defaults(baud=EXTRA_BAUD)


def from_arguments(options: argparse.Namespace, clock: DayClock, truth: TruthLog) -> Extra2000Simulator:
    """Build the Extra2000 that the options describe."""
    from bridge.simulators.pylontech import stack_options

    return Extra2000Simulator(asleep=not options.awake, **stack_options(options, clock, truth))
