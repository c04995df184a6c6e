"""The settings of the inverters behind a stick: what can be set of each, by whom the line is lent, and their clocks.

Loaded when a device may be written to, or when somebody tries.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Protocol

from bridge.clock import SANE_YEAR
from bridge.errors import CommandError, NoReply, ProtocolError
from bridge.fields import Reading, Unit
from bridge.inbox import SetSetting
from bridge.luxpower.frame import EXCEPTIONS, Function, Read, Refused, Write, WriteMany
from bridge.luxpower.inverter import MODEL, Inverter
from bridge.luxpower.options import Options
from bridge.luxpower.raw_setting import raw_setting
from bridge.luxpower.reader import Asker
from bridge.luxpower.settings import CLOCK_REGISTERS, Facts, LxpSetting, Model, find, permit, settings_of
from bridge.luxpower.targets import RawTarget, WordTarget, target_of
from bridge.luxpower.timekeeping import Timekeeper
from bridge.settings import NOW
from bridge.writing import Records, Rejected, Wire, Writer

_RAW = re.compile(r"hold/(0|[1-9][0-9]{0,4})")
TIME = "time"
COMMAND_AGE = 30.0
"""Seconds in which setting a clock has to begin."""


class Stick(Protocol):
    """What the device tells about itself."""

    inverters: dict[str, Inverter]
    datalog: str | None
    asker: Asker

    @property
    def connected(self) -> bool:
        """Whether there is a line to the stick."""

    def root(self) -> Unit:
        """Return the unit of the device itself."""

    def is_another(self, inverter: Inverter) -> bool:
        """Whether it and its stick are both others than were learned first."""


class Settable:
    """What can be set behind one stick. The owner that writing.Writer asks."""

    def __init__(self, options: Options, stick: Stick, records: Records | None) -> None:
        self._options = options
        self._stick = stick
        self.writer = Writer(options, self, records)
        self._clocks: dict[str, Timekeeper] = {}

    # -- what the writer asks

    def unit(self, path: str) -> Unit:
        return self._stick.root() if path == "" else self._inverter(path).unit

    def target(self, path: str, name: str) -> WordTarget | RawTarget:
        if name.startswith("hold/") and not self._options.raw_writes:
            raise CommandError("writing registers by number is off; raw_writes: true in the configuration allows it")
        if name.startswith("hold/") and not _RAW.fullmatch(name):
            raise CommandError(f"{name[:40]!a} names no register; expected hold/N, a plain decimal number")
        setting = None if name.startswith("hold/") else find(name)
        inverter = self._inverter(path)
        _refuse_stranger(inverter)
        if self._stick.is_another(inverter):
            raise CommandError(f"another stick with another inverter, {inverter.serial}, is there now; to write to it "
                               "give its serial in the configuration, or restart the bridge")  # fmt: skip
        wires = _Wires(self._stick, inverter)
        model = self._model(inverter)
        try:
            if setting is None:
                return target_of(raw_setting(int(name.removeprefix("hold/")), model, self._may), wires)
            return target_of(setting.for_model(model), wires)
        except CommandError as err:
            if inverter.known:
                raise
            raise CommandError(f"the inverter's model is not known yet; it is being read ({err})") from err

    def away(self) -> str | None:
        if not self._stick.connected:
            return "not connected"
        return None if self._stick.datalog is not None else "the stick's serial number is not known yet"

    def _inverter(self, path: str) -> Inverter:
        known = list(self._stick.inverters.values())
        if not known:
            raise CommandError("no inverter is known yet: its serial number comes with the first data it sends")
        for inverter in known:
            if inverter.unit.path == path:
                return inverter
        if path:
            raise CommandError(f"there is no inverter {path[:40]!a} here")
        topics = ", ".join(f"{self._options.name}/{inverter.unit.path}/set/..." for inverter in known)
        raise CommandError(f"there are several inverters here, each with topics of its own: {topics}")

    def _may(self, setting: LxpSetting) -> bool:
        return self.writer.may(setting)

    def _model(self, inverter: Inverter) -> Model:
        return Model(inverter.code, inverter.device_type, inverter.family, self._options.max_battery_current)

    # -- what the device calls

    def announce(self, inverter: Inverter) -> None:
        """Let the inverter's unit list what can be set on it, once all that can be read was read."""
        if not self.writer.on or not inverter.asked_all or inverter.family.stranger:
            return
        controls = settings_of(
            self._model(inverter), self._may, lambda register: inverter.hold(register) is not None
        )
        if controls != inverter.unit.controls:
            inverter.unit = inverter.unit._replace(controls=controls)

    def work(self) -> Wire[None]:
        """Carry out one command that waits for the line."""
        if self.writer.busy():
            try:
                yield from self.writer.work(1)
            finally:
                for inverter in self._stick.inverters.values():
                    inverter.changes.written()

    def look_at_clocks_anew(self) -> None:
        """A connection begins: the clocks are looked at now."""
        for keeper in self._clocks.values():
            keeper.look_now()

    def keep_time(self) -> Iterator[Reading | None]:
        """Look at the clocks that are due, and have those set that are off."""
        if not self._options.time_sync or not self.writer.on:
            return
        known = [one for one in self._stick.inverters.values() if not self._stick.is_another(one)]
        for inverter in [one for one in known if not one.family.stranger]:
            keeper = self._clocks.setdefault(inverter.serial, Timekeeper())
            if keeper.due(time.monotonic()):
                yield from self._look_at_clock(inverter, keeper)

    def _look_at_clock(self, inverter: Inverter, keeper: Timekeeper) -> Iterator[Reading | None]:
        wires, row = _Wires(self._stick, inverter), find(TIME)
        if wires.local().year < SANE_YEAR:
            keeper.put_off(time.monotonic())
            return
        try:
            words = yield from wires.read(Function.READ_HOLD, CLOCK_REGISTERS[0], len(CLOCK_REGISTERS))
        except (NoReply, ProtocolError, CommandError):
            keeper.put_off(time.monotonic())
            return
        shown = row.value(dict(zip(CLOCK_REGISTERS, words, strict=True)))
        now = time.monotonic()
        if keeper.judge(datetime.fromisoformat(shown) if isinstance(shown, str) else None, wires.local(), now):
            path = inverter.unit.path
            command = SetSetting(path, TIME, NOW.encode(), now, now + COMMAND_AGE, source="time_sync")
            yield from self.writer.admit(command)


class _Wires:
    """The line to one inverter, as its targets want it."""

    def __init__(self, stick: Stick, inverter: Inverter) -> None:
        self._stick = stick
        self._inverter = inverter
        self._model_asked = False
        self.prefix = f"{inverter.unit.path} " if inverter.unit.path else ""

    def read(self, function: int, first: int, count: int) -> Wire[tuple[int, ...]]:
        yield from self._ask_model()
        _refuse_stranger(self._inverter)  # a command may be older than what is known of the model
        question = Read(self._datalog(), self._inverter.serial, function, first, count)
        reply = yield from self._stick.asker.ask_afresh(question)
        if reply is None:
            raise NoReply(f"registers {first} to {first + count - 1}: no answer")
        if isinstance(reply, Refused):
            raise CommandError(f"the inverter does not tell register {first}: {_words(reply.code)}")
        words = reply.words
        if len(words) < count:
            raise ProtocolError("length", f"{len(words)} registers from {first} on, not {count}")
        return words[:count]

    def _ask_model(self) -> Wire[None]:
        """Ask what it is where nobody has: that is no round's business where nothing is polled."""
        if self._model_asked or self._inverter.model_read:
            return
        question = Read(self._datalog(), self._inverter.serial, Function.READ_HOLD, MODEL[0], MODEL[-1] - MODEL[0] + 1)
        if (yield from self._stick.asker.ask(question)) is None:
            raise NoReply("its model: no answer")
        self._model_asked = True

    def write(self, first: int, old: tuple[int, ...], new: tuple[int, ...]) -> Wire[None]:
        permit(first, old, new)
        _refuse_stranger(self._inverter)
        serial = self._inverter.serial
        request: Write | WriteMany = (
            Write(self._datalog(), serial, first, new[0]) if len(new) == 1
            else WriteMany(self._datalog(), serial, first, new)
        )  # fmt: skip
        self._inverter.changes.writing(first, old, new)
        self._inverter.holds.due_now(first)  # some units fall back later, so it is looked at once more
        reply = yield from self._stick.asker.tell(request)
        if isinstance(reply, Refused):
            raise Rejected(f"the inverter refused it: {_words(reply.code)}")

    def pause(self, seconds: float) -> Wire[None]:
        yield from self._stick.asker.listen_until(time.monotonic() + seconds)

    def now(self) -> float:
        return time.monotonic()

    def local(self) -> datetime:
        return datetime.now()

    def facts(self) -> Facts:
        return self._inverter.facts(time.monotonic())

    def word(self, register: int) -> int | None:
        return self._inverter.hold(register)

    def _datalog(self) -> str:
        if self._stick.datalog is None:
            raise NoReply("the stick's serial number is not known yet")
        return self._stick.datalog


def _refuse_stranger(inverter: Inverter) -> None:
    if inverter.family.stranger:
        raise CommandError(f"this is {inverter.family.stranger}, whose registers mean something else")


def _words(code: int) -> str:
    return EXCEPTIONS.get(code, f"code {code}")
