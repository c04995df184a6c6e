"""What commands of ours change on a unit, so that it is not taken for somebody else's doing. (pure)

A setting shows up in more than one place: QPIRI tells the charging currents of the unit on the cable, QPGSn tells them
again under the unit's own serial number, and a priority may hold for the whole set. And one setting moves another, as
the type of the battery moves its voltages. So a command leaves marks: the next reading of what it is proven by may
differ in anything, and where the same setting is told again the value that was set is expected, whenever that comes.
Any other value there was set by somebody else. Times are time.monotonic().
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from bridge.fields import Value

LATE = 10.0
"""Seconds for which a unit may still tell what was set before: units of a set pass it on among themselves."""

Change: TypeAlias = tuple[str, Value, Value]
"""Key, old and new value."""
Counterparts: TypeAlias = Callable[[str, str], Iterable[tuple[str, str]]]
"""(path of a unit, key) -> where else the same setting is told."""


@dataclass
class _Mark:
    """Values that may turn up under a key, in the order in which they were set, the first one at `since`."""

    since: float
    until: float = 0.0
    values: list[Value] = field(default_factory=list)


class Meant:
    """The marks of one device's commands. Owned by the device's thread."""

    def __init__(self, counterparts: Counterparts) -> None:
        self._counterparts = counterparts
        self._proofs: dict[tuple[str, str], float] = {}
        self._marks: dict[tuple[str, str], _Mark] = {}

    def forget(self) -> None:
        """Drop all marks: nothing is known any more that a reading could differ from."""
        self._proofs.clear()
        self._marks.clear()

    def sent(self, path: str, key: str, wanted: Value, proofs: Iterable[tuple[str, str]], now: float) -> None:
        """Note that a command goes out which sets `key` of a unit.

        `proofs` are the questions whose next answers may differ in anything, each with the path of its unit.
        """
        self._proofs.update(dict.fromkeys(proofs, now))
        self._expect(path, key, wanted, now)

    def others(
        self, path: str, question: str, told: Mapping[str, Value], found: Iterable[Change], at: float
    ) -> list[Change]:
        """Return those changes in a reading that no command of ours made. `told` is the whole reading."""
        if not self._marks and not self._proofs:
            return list(found)
        rest = list(self._judge(path, question, found, at))
        for place in [(path, key) for key in told]:
            if place in self._marks and at > self._marks[place].until:
                del self._marks[place]
        return rest

    def _judge(self, path: str, question: str, found: Iterable[Change], at: float) -> Iterator[Change]:
        proof = self._is_proof(path, question, at)
        for key, old, new in found:
            if proof:
                self._expect(path, key, new, at)
            if not self._is_expected(path, key, new, at):
                yield key, old, new

    def _expect(self, path: str, key: str, value: Value, now: float) -> None:
        for place in ((path, key), *self._counterparts(path, key)):
            mark = self._marks.setdefault(place, _Mark(now))
            mark.values = [*(one for one in mark.values if one != value), value]
            mark.until = now + LATE

    def _is_proof(self, path: str, question: str, at: float) -> bool:
        """Whether this is the first reading behind a command of what the command is proven by."""
        if at < self._proofs.get((path, question), float("inf")):
            return False
        del self._proofs[path, question]
        return True

    def _is_expected(self, path: str, key: str, value: Value, at: float) -> bool:
        """Whether a value was set by a command; it, and what was set before it, is expected no longer."""
        mark = self._marks.get((path, key))
        if mark is None or at < mark.since or value not in mark.values:
            return False
        del mark.values[: mark.values.index(value) + 1]
        if not mark.values:
            del self._marks[path, key]
        return True
