"""What is known of one inverter: blocks of words with their ages, and one honest picture made of them.

Words land by number, whatever block carried them (40, 80, 120, 125, 127 registers, or a single one): blocks of one
shape replace each other, newer blocks cover older ones. Each block is decoded by itself, so both words of a 32-bit
value, and both ends of a time window, always come from one frame.

A picture has one time, that of its oldest core value, and says how far apart its blocks are (`set_spread`). What is
older than `max_age` is left out: its keys are None. A derived value uses inputs of one cycle only, or is that of the
register which says it itself, where the firmware fills that. A sum of counters is that of the last whole cycle, while
the next one is on its way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bridge.errors import ProtocolError
from bridge.fields import DURATION, Field, Level, Value
from bridge.luxpower.frame import Registers
from bridge.luxpower.models import Family
from bridge.luxpower.plausibility import Counters, keep_following, keep_possible
from bridge.luxpower.rows import Layout, Table

SET_SPREAD = Field("set_spread", DURATION, "Time between the blocks of this set", level=Level.HIDDEN)


class Block(NamedTuple):
    """One frame's words from `register` on, taken at `at`, with the values that could be believed."""

    register: int
    at: float
    data: bytes
    values: dict[str, Value]
    refused: frozenset[str]
    """Counters that did not follow: a matter of time, so it stays with the block."""


class Snapshot(NamedTuple):
    """All announced keys; `at` is the time of the oldest core value in it."""

    values: dict[str, Value]
    at: float


class Cover(NamedTuple):
    """The places, in a row of blocks, of those that count, and of those with core values."""

    counting: tuple[int, ...]
    core: tuple[int, ...]


class Sum(NamedTuple):
    """A sum of counters as it was when all of them were of one cycle."""

    value: Value
    parts: tuple[Value, ...]
    at: float
    """No part of it is older."""


class Word(NamedTuple):
    """One raw word and when it came."""

    value: int
    at: float


class Store:
    """The input registers, or the holding registers, of one inverter. Pure: times come from the caller.

    `max_age` in seconds, None for settings that stay true until read anew; `cycle` is how many seconds
    the blocks of one round of reading or pushing may be apart; `max_power` in W bounds the counters.
    """

    MOST_COVERS = 256
    MOST_BLOCKS = 32
    """Devices use ten or so; a stream of odd shapes must not grow without end."""

    def __init__(
        self,
        table: Table,
        family: Family,
        *,
        max_age: float | None = None,
        cycle: float = 10.0,
        max_power: float = 50_000.0,
    ) -> None:
        self._table = table
        self._layout = Layout(table, family)
        self._max_age = max_age
        self._cycle = cycle
        self._counters = Counters(max_power)
        self._blocks: dict[tuple[int, int], Block] = {}
        self._covers: dict[tuple[tuple[int, int], ...], Cover] = {}
        self._filled: set[str] = set()
        """Counters that this firmware fills, of those that only some do."""
        self._given: set[str] = set()
        """What was ever more than nothing, of what only some models tell."""
        self._sums: dict[str, Sum] = {}
        """Those that stay, as they were worked out last."""
        self._last_at = self._began = float("-inf")
        self._round_over = False
        self.fields: tuple[Field, ...] = (*table.fields, SET_SPREAD) if table.core else table.fields
        self._empty: dict[str, Value] = dict.fromkeys(field.key for field in self.fields)

    def __len__(self) -> int:
        """Return how many blocks are kept."""
        return len(self._blocks)

    @property
    def family(self) -> Family:
        return self._layout.family

    def learn(self, family: Family) -> None:
        """Take what became known about the model; what is stored already is read again in its light."""
        self._layout = Layout(self._table, family)
        self._covers.clear()
        for shape, block in list(self._blocks.items()):
            try:
                values, _ = self._believable(block.register, block.data)
            except ProtocolError:
                del self._blocks[shape]
                continue
            values.update(dict.fromkeys(block.refused & values.keys(), None))
            self._blocks[shape] = block._replace(values=values)

    def take(self, frame: Registers, at: float) -> tuple[str, ...]:
        """Store one frame that came at `at`; return the values that were refused, in words.

        `frame` is of this table's function. Raises ProtocolError "implausible" when the whole frame is
        refused; then nothing is stored of it.
        """
        values, refusals = self._believable(frame.register, frame.data)
        if self._max_age is not None and at - self._last_at > self._max_age:
            self._began, self._round_over = at, False
        self._last_at = at
        plan = self._layout.plan(frame.register, len(frame.data))
        unfollowing = keep_following(plan, values, at, self._counters)
        shape = (frame.register, len(frame.data))
        self._blocks.pop(shape, None)  # so that the order of the blocks is their age
        if len(self._blocks) >= self.MOST_BLOCKS:
            self._make_room()
        self._blocks[shape] = Block(frame.register, at, frame.data, values, frozenset(unfollowing))
        return (*refusals, *unfollowing.values())

    def end_round(self) -> bool:
        """Take note that everything was asked for, so that no more is to come; return whether that is news."""
        news, self._round_over = not self._round_over, True
        return news

    def snapshot(self, now: float) -> Snapshot | None:
        """Return the picture as of `now`, or None before all core values are known and young enough."""
        alive = [block for block in self._blocks.values() if self._is_young(block, now)]
        cover = self._cover(alive)
        if not cover.counting:
            return None
        values = self._empty.copy()
        for block in alive:
            values.update(block.values)
        if any(values[key] is None for key in self._table.core):
            return None
        newest, oldest = alive[cover.counting[-1]].at, min([alive[index].at for index in cover.counting])
        if newest - oldest <= self._cycle:
            for key, inputs, rule in self._table.derivations:
                values[key] = rule(inputs(values), ())
        else:
            self._derive_apart(values, alive)
        self._leave_out_parts(values, now)
        self._let_stay(values, alive, now)
        self._take_filled(values)
        self._leave_out_untold(values)
        for told in self._table.told:
            values[told.key] = told.rule(self.family)
        if self._table.core:
            values[SET_SPREAD.key] = round(newest - oldest, 1)
        return Snapshot(values, min([alive[index].at for index in cover.core], default=newest))

    def word(self, register: int) -> Word | None:
        """Return the newest raw word of a register, whatever its age, or None when it never came."""
        for block in reversed(self._blocks.values()):
            offset = 2 * (register - block.register)
            if 0 <= offset < len(block.data):
                return Word(int.from_bytes(block.data[offset : offset + 2], "little"), block.at)
        return None

    def _make_room(self) -> None:
        """Drop the shortest block, of several the oldest; what it brought goes into the older ones it lay over.

        The shortest, since a stream of single registers must not push out the blocks that everything else is in.
        Into the older ones, since their words would come to light again.
        """
        gone = self._blocks.pop(min(self._blocks, key=lambda shape: shape[1]))
        for shape, block in self._blocks.items():
            first = max(gone.register, block.register)
            words = min(gone.register + len(gone.data) // 2, block.register + len(block.data) // 2) - first
            if block.at > gone.at or words <= 0:
                continue
            to, source = 2 * (first - block.register), 2 * (first - gone.register)
            data = block.data[:to] + gone.data[source : source + 2 * words] + block.data[to + 2 * words :]
            newer = {key: value for key, value in gone.values.items() if key in block.values}
            self._blocks[shape] = block._replace(data=data, values={**block.values, **newer})

    def _believable(self, register: int, data: bytes) -> tuple[dict[str, Value], list[str]]:
        plan = self._layout.plan(register, len(data))
        values = plan.values(data)
        return values, keep_possible(plan, values)

    def _is_young(self, known: Block | Sum, now: float) -> bool:
        return self._max_age is None or now - known.at <= self._max_age

    def _cover(self, alive: list[Block]) -> Cover:
        """Return which of these blocks, oldest first, some value is taken from; it follows from their shapes alone."""
        shapes = tuple([(block.register, len(block.data)) for block in alive])
        cover = self._covers.get(shapes)
        if cover is None:
            if len(self._covers) >= self.MOST_COVERS:
                self._covers.clear()
            source = {key: index for index, block in enumerate(alive) for key in block.values}
            core = {source[key] for key in self._table.core if key in source}
            cover = self._covers[shapes] = Cover(tuple(sorted(set(source.values()))), tuple(sorted(core)))
        return cover

    def _take_filled(self, values: dict[str, Value]) -> None:
        """Put in what a register says itself where the firmware fills it, whatever cycle it is of.

        A value that is worked out in one message and read in the next one would go up and down.
        """
        for key, register, counts in self._table.filled:
            value = values[register]
            if isinstance(value, (int, float)) and value > 0:
                values[key] = value
                if counts:
                    self._filled.add(register)
            elif register in self._filled:
                values[key] = value

    def _leave_out_parts(self, values: dict[str, Value], now: float) -> None:
        """Take out what lacks a part that may still come, or one that is not known while it is known to be there."""
        more_may_come = self._more_may_come(now)
        for key, late in self._table.late:
            self._given.update([one for one in late if values[one]])
            missing = [one for one in late if values[one] is None]
            if missing and (more_may_come or not self._given.isdisjoint(missing)):
                values[key] = None

    def _leave_out_untold(self, values: dict[str, Value]) -> None:
        """Take out each 0 beside something that is told along with it and is not: nobody has told that either."""
        for keys, other in self._table.told_with:
            if values[other] is None and not values[keys[-1]]:
                values.update(dict.fromkeys(keys))

    def _let_stay(self, values: dict[str, Value], alive: list[Block], now: float) -> None:
        """Put in the last whole sum while its parts are of two cycles: all of them known, and none less than then."""
        for key, first, inputs in self._table.staying:
            value, parts, last = values[key], inputs(values), self._sums.get(key)
            if value is not None:
                newest = next(block.at for block in reversed(alive) if first in block.values)
                self._sums[key] = Sum(value, parts, newest - self._cycle)
            elif last is not None and self._is_young(last, now) and _none_less(parts, last.parts):
                values[key] = last.value

    def _more_may_come(self, now: float) -> bool:
        """Whether what is not known may only be late: at the start, and behind an outage, until all was asked for."""
        return self._max_age is not None and not self._round_over and now - self._began <= self._max_age

    def _derive_apart(self, values: dict[str, Value], alive: list[Block]) -> None:
        """Put in the derived values when not all blocks are of one cycle."""
        times = {key: block.at for block in alive for key in block.values}
        for row in self._table.derived:
            first = times.get(row.inputs[0])
            if first is None:
                values[row.key] = None
                continue
            same: list[Value] = []
            old: list[Value] = []
            for key in row.inputs:
                fits = key in times and abs(times[key] - first) <= self._cycle
                same.append(values[key] if fits else None)
                if key in times and not fits:
                    old.append(values[key])
            values[row.key] = row.rule(same, old)


def _none_less(parts: Sequence[Value], then: Sequence[Value]) -> bool:
    """Whether every part that was known then is known, and no less."""
    pairs = zip(parts, then, strict=True)
    return all(old is None or (isinstance(new, float) and isinstance(old, float) and new >= old) for new, old in pairs)
