"""Notices holding registers that somebody else changed: the cloud, an app, the panel (pure)."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from bridge.devices import Context
from bridge.fields import Unit, Value
from bridge.luxpower.models import Family
from bridge.luxpower.registers import HOLDS
from bridge.luxpower.rows import Plan

log = logging.getLogger(__name__)

HOUR, CHANGES_PER_HOUR = 3600.0, 200
"""Changes by others that are logged and recorded at most."""
ALONE = frozenset({*range(12, 15), 122, 234, 235})
"""Registers that change by themselves: clock, counters, what is left of a quick charge."""
ENDS_ALONE = (233, 0)
"""Register and bit that the inverter takes back by itself: the end of a quick charge."""


class Changed(NamedTuple):
    """One value that is another now."""

    key: str
    register: int
    old: Value
    new: Value

    def entry(self) -> dict[str, Value]:
        """Return it as a part of a line of the audit log."""
        return {"setting": self.key, "register": f"hold {self.register}", "old": self.old, "new": self.new}


class Changes:
    """The holding registers of one inverter as they were seen last."""

    def __init__(self) -> None:
        self._words: dict[int, int] = {}
        self._busy: dict[int, int] = {}
        self._ours: dict[int, int] = {}

    def writing(self, first: int, old: Sequence[int], new: Sequence[int]) -> None:
        """A command of ours writes these words: what happens to the bits it changes is told in its result."""
        for register, (before, after) in enumerate(zip(old, new, strict=True), first):
            self._busy[register] = self._busy.get(register, 0) | (before ^ after)
            self._ours[register] = after

    def written(self) -> None:
        """Our command is over."""
        self._busy.clear()

    def saw(self, first: int, words: Sequence[int], family: Family) -> list[Changed]:
        """Take words that were read, or that somebody wrote; return what changed, and not through us."""
        found: list[Changed] = []
        before = dict(self._words)
        self._words.update(enumerate(words, first))
        for register, word in enumerate(words, first):
            changed = (before.get(register, word) ^ word) & ~self._busy.get(register, 0)
            if (register, 0) == ENDS_ALONE and not word & 1:
                changed &= ~1
            if not changed or register in ALONE or self._ours.get(register) == word:
                continue
            self._ours.pop(register, None)
            found += [one for one in self._named(register, changed, before, family) if one not in found]
        return found

    def _named(self, register: int, changed: int, before: Mapping[int, int], family: Family) -> Iterator[Changed]:
        """Return the rows that hold these bits, with their old and new values."""
        for row in HOLDS.rows:
            place = register - row.register
            if not 0 <= place < row.read.words or not row.read.claims >> 16 * place & changed:
                continue
            words = range(row.register, row.register + row.read.words)
            if not all(at in before for at in words):
                continue
            plan = Plan((row,), row.register, family, row.read.words)
            old, new = (
                plan.values(b"".join(known[at].to_bytes(2, "little") for at in words))[row.key]
                for known in (before, self._words)
            )
            if old != new:
                yield Changed(row.key, row.register, old, new)


class Herald:
    """Says what somebody else has set, and records it. Owned by the device's thread."""

    def __init__(self, device: str, context: Context) -> None:
        self._device = device
        self._context = context
        self._told: deque[float] = deque()

    def tell(self, unit: Unit, changed: Iterable[Changed], now: float) -> None:
        """Say what changed on a unit, as far as there may be more in this hour; `now` is time.monotonic()."""
        records = self._context.records
        for one in changed:
            if not self._may_tell(now):
                continue
            log.info("%s: %s went from %s to %s, not set from here", unit.title, one.key, one.old, one.new)
            if records is not None:
                records.note_change(self._device, unit.path, one.entry())

    def _may_tell(self, now: float) -> bool:
        """Whether a change is told: each is a line on disk, and a stick that sends nonsense sends it without end."""
        while self._told and now - self._told[0] > HOUR:
            self._told.popleft()
        if len(self._told) >= CHANGES_PER_HOUR:
            self._context.tally.failed("implausible", "more settings change than anybody would change")
            return False
        self._told.append(now)
        return True
