"""How each kind of setting is read, judged and written on the line of a stick (pure): the targets of writing.Writer.

A word is written by function 6, always as the freshly read one with only the wanted bits changed; the two words of a
window one after the other, its start first; the clock's three in one frame. `Wires` is what the device lends them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from bridge.clock import SANE_YEAR
from bridge.errors import CommandError
from bridge.fields import Value
from bridge.luxpower.blocks import GROUP
from bridge.luxpower.frame import Function
from bridge.luxpower.raw_setting import RawWord
from bridge.luxpower.settings import CLOCK_REGISTERS, NOMINAL_VOLTAGE, Facts, LxpSetting
from bridge.settings import NOW, Setting
from bridge.writing import Step, Wire

QUICK_CHARGE, QUICK_MINUTES = 233, 234
CLOCK_TOLERANCE = 10.0
"""Seconds by which a clock may differ from what was asked for: writing and reading take a few."""
MOVING = frozenset({*CLOCK_REGISTERS, QUICK_MINUTES})
"""Registers that change by themselves."""


class Wires(Protocol):
    """The line to one inverter."""

    prefix: str
    """In front of the names of registers, where there are several inverters."""

    def read(self, function: int, first: int, count: int) -> Wire[tuple[int, ...]]:
        """Read exactly so many words. Raises NoReply, ProtocolError, and CommandError when they are refused."""

    def write(self, first: int, old: tuple[int, ...], new: tuple[int, ...]) -> Wire[None]:
        """Write words once, `old` being the ones freshly read. Raises Rejected, NoReply, ProtocolError."""

    def pause(self, seconds: float) -> Wire[None]:
        """Let time pass; what comes meanwhile is taken."""

    def now(self) -> float:
        """Return a monotonic time in s."""

    def local(self) -> datetime:
        """Return the local time, without a zone."""

    def facts(self) -> Facts:
        """Return what the inverter measures, as far as it is young."""

    def word(self, register: int) -> int | None:
        """Return a holding register as it was read last, whenever that was."""


class Snapshot(NamedTuple):
    """Freshly read holding registers, and the state code where it matters."""

    words: Mapping[int, int]
    status: int | None = None


class Change(NamedTuple):
    """Words to write from a register on, and the ones read before."""

    first: int
    old: tuple[int, ...]
    new: tuple[int, ...]

    def back(self) -> Change:
        """Return what takes it back."""
        return Change(self.first, self.new, self.old)


def _read(wires: Wires, registers: Iterable[int]) -> Wire[dict[int, int]]:
    """Read these holding registers, one question for each group that old firmware reads at once."""
    groups: dict[int, list[int]] = {}
    for register in sorted(registers):
        groups.setdefault(register // GROUP, []).append(register)
    words: dict[int, int] = {}
    for group in groups.values():
        found = yield from wires.read(Function.READ_HOLD, group[0], group[-1] - group[0] + 1)
        words.update(enumerate(found, group[0]))
    return words


def _disturbed(before: Snapshot, after: Snapshot, own: Mapping[int, int]) -> str | None:
    """Say what changed between two snapshots outside of the bits of `own`."""
    texts = []
    for register in sorted(before.words.keys() & after.words.keys() - MOVING):
        old, new = before.words[register], after.words[register]
        changed = (old ^ new) & ~own.get(register, 0)
        if changed:
            bits = ", ".join(str(bit) for bit in range(16) if changed >> bit & 1)
            texts.append(f"hold {register} went from {old} to {new} meanwhile: bits {bits} are not of this command")
    return "; ".join(texts) or None


class WordTarget:
    """A number, a switch, a choice, or a window."""

    def __init__(self, setting: LxpSetting, wires: Wires) -> None:
        self.setting: Setting = setting
        self.place = setting.place
        self.registers: Sequence[str] = [f"{wires.prefix}hold {register}" for register in setting.registers]
        self._row = setting
        self._wires = wires

    def read(self) -> Wire[Snapshot]:
        words = yield from _read(self._wires, {*self._row.registers, *self._row.looks_at})
        if not self._row.on_grid:
            return Snapshot(words)
        status = yield from self._wires.read(Function.READ_INPUT, 0, 1)
        return Snapshot(words, status[0])

    def shown(self, snapshot: Snapshot) -> Value:
        return self._row.value(snapshot.words)

    def fits(self, snapshot: Snapshot, wanted: Value) -> bool:
        if wanted is None:
            return False
        return all(snapshot.words[at] == word for at, word in self._row.encode(wanted, snapshot.words).items())

    def steps(self, snapshot: Snapshot, wanted: Value) -> list[Step]:
        new = self._row.encode(wanted, snapshot.words)
        if len(new) == 1:
            facts = self._wires.facts()
            if self._row.on_grid:
                facts = {**facts, "status_code": snapshot.status}
            nominal = self._wires.word(NOMINAL_VOLTAGE)
            objection = self._row.objection(self._row.raw(new), snapshot.words, facts, nominal)
            if objection is not None:
                raise CommandError(f"{self.setting.key}: {objection}")
        changes = [Change(at, (snapshot.words[at],), (word,)) for at, word in new.items()]
        return [
            Step(f"{self._wires.prefix}hold {one.first}", one, one.back() if len(new) > 1 else None)
            for one in changes
            if one.old != one.new
        ]

    def send(self, _step: Step, body: Change) -> Wire[None]:
        yield from self._wires.write(body.first, body.old, body.new)

    def pause(self, seconds: float) -> Wire[None]:
        yield from self._wires.pause(seconds)

    def disturbed(self, before: Snapshot, after: Snapshot) -> str | None:
        return _disturbed(before, after, dict.fromkeys(self._row.registers, self._row.mask))


class MinutesTarget(WordTarget):
    """The length of a running quick charge: what is read is what is left of it.

    While quick charge is off the inverter refuses it (eg4_web_monitor issue 251), so it is not even sent then.
    """

    def __init__(self, setting: LxpSetting, wires: Wires) -> None:
        super().__init__(setting, wires)
        self._sent_at: float | None = None

    def read(self) -> Wire[Snapshot]:
        return Snapshot((yield from _read(self._wires, (QUICK_CHARGE, QUICK_MINUTES))))

    def fits(self, snapshot: Snapshot, wanted: Value) -> bool:
        if not isinstance(wanted, int) or not snapshot.words[QUICK_CHARGE] & 1:
            return False
        left = snapshot.words[QUICK_MINUTES]
        if self._sent_at is None:
            return left == wanted
        passed = (self._wires.now() - self._sent_at) / 60
        return max(0.0, wanted - passed - 1) <= left <= wanted and left > 0

    def steps(self, snapshot: Snapshot, wanted: Value) -> list[Step]:
        if not snapshot.words[QUICK_CHARGE] & 1:
            raise CommandError("quick charge is off; set quick_charge to on first, then its minutes")
        return super().steps(snapshot, wanted)

    def send(self, _step: Step, body: Change) -> Wire[None]:
        self._sent_at = self._wires.now()
        yield from super().send(_step, body)


class ClockTarget(WordTarget):
    """The inverter's clock, which goes on while it is written and read: what it showed before is never written back."""

    def __init__(self, setting: LxpSetting, wires: Wires) -> None:
        super().__init__(setting, wires)
        self._asked_at = wires.now()
        self._wanted: Value = None

    def fits(self, snapshot: Snapshot, wanted: Value) -> bool:
        shown = self.shown(snapshot)
        if not isinstance(shown, str) or not isinstance(wanted, str):
            return False
        return abs((datetime.fromisoformat(shown) - self._moment(wanted)).total_seconds()) <= CLOCK_TOLERANCE

    def steps(self, snapshot: Snapshot, wanted: Value) -> list[Step]:
        if wanted == NOW and self._wires.local().year < SANE_YEAR:
            raise CommandError("the bridge's own clock has not been set yet")
        old = tuple(snapshot.words[register] for register in CLOCK_REGISTERS)
        self._wanted = wanted
        return [Step(self.registers[0], Change(CLOCK_REGISTERS[0], old, old))]

    def send(self, _step: Step, body: Change) -> Wire[None]:
        at = self._moment(str(self._wanted))
        words = (at.year % 100 | at.month << 8, at.day | at.hour << 8, at.minute | at.second << 8)
        yield from self._wires.write(body.first, body.old, words)

    def disturbed(self, _before: Snapshot, _after: Snapshot) -> str | None:
        return None

    def _moment(self, wanted: str) -> datetime:
        """Return what the clock has to show now."""
        if wanted == NOW:
            return self._wires.local()
        return datetime.fromisoformat(wanted) + timedelta(seconds=self._wires.now() - self._asked_at)


class RawTarget:
    """A word of several rows, or half a window, by its number."""

    def __init__(self, setting: RawWord, wires: Wires) -> None:
        self.setting: Setting = setting
        self.place = f"hold {setting.register}"
        self.registers: Sequence[str] = [f"{wires.prefix}hold {setting.register}"]
        self._row = setting
        self._wires = wires

    def read(self) -> Wire[Snapshot]:
        # of half a window both words, so that the window is shown anew as well
        return Snapshot((yield from _read(self._wires, {r for row in self._row.rows for r in row.registers})))

    def shown(self, snapshot: Snapshot) -> Value:
        return snapshot.words[self._row.register]

    def fits(self, snapshot: Snapshot, wanted: Value) -> bool:
        return snapshot.words[self._row.register] == wanted

    def steps(self, snapshot: Snapshot, wanted: Value) -> list[Step]:
        old = snapshot.words[self._row.register]
        if not isinstance(wanted, int) or (objection := self._row.objection(old, wanted)) is not None:
            raise CommandError(f"{self.place}: {objection}")
        return [Step(self.registers[0], Change(self._row.register, (old,), (wanted,)))]

    def send(self, _step: Step, body: Change) -> Wire[None]:
        yield from self._wires.write(body.first, body.old, body.new)

    def pause(self, seconds: float) -> Wire[None]:
        yield from self._wires.pause(seconds)

    def disturbed(self, before: Snapshot, after: Snapshot) -> str | None:
        return _disturbed(before, after, {self._row.register: 0xFFFF})


def target_of(setting: LxpSetting | RawWord, wires: Wires) -> WordTarget | RawTarget:
    """Return how this setting is written."""
    if isinstance(setting, RawWord):
        return RawTarget(setting, wires)
    if setting.registers == CLOCK_REGISTERS:
        return ClockTarget(setting, wires)
    if setting.row.register == QUICK_MINUTES:
        return MinutesTarget(setting, wires)
    return WordTarget(setting, wires)
