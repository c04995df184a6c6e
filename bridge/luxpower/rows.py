"""Table rows for registers, and the plans that turn a block of words into named values at once.

A block may start at any register and have any length. For each shape of block that a device really uses, a Plan
is made once: one struct format that cuts the bytes, and columns of keys with one divisor each. A row takes part
only when all of its words lie in the block, so a 32-bit value is never put together from two frames.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import repeat
from operator import ge, itemgetter, le, truediv
from typing import Any, TypeAlias

from bridge.fields import ENERGY_TOTAL, PLAIN, Field, Level, Value
from bridge.luxpower.codes import OTHER, names_of_bits
from bridge.luxpower.models import Family, Feature, Scale

Raw: TypeAlias = Any
"""What struct gives: int, or bytes for texts and times."""


@dataclass(frozen=True, slots=True)
class Reader:
    """How a row reads its words: a struct code, the bits it claims as its own, and a conversion."""

    code: str
    words: int
    claims: int
    convert: Callable[[Raw], Value] | None = None


u16 = Reader("H", 1, 0xFFFF)
i16 = Reader("h", 1, 0xFFFF)
u32 = Reader("I", 2, 0xFFFFFFFF)
"""Low word first. Never read from two frames."""
low = Reader("H", 1, 0x00FF, lambda word: word & 0xFF)
high = Reader("H", 1, 0xFF00, lambda word: word >> 8)
word = Reader("H", 1, 0)
"""A raw word shown beside the rows that claim its bits."""


def bit(number: int) -> Reader:
    """Return a reader of one bit, as true or false."""
    return Reader("H", 1, 1 << number, lambda word: word >> number & 1 == 1)


def bits(first: int, width: int) -> Reader:
    """Return a reader of `width` bits from `first` on, as a number."""
    mask = (1 << width) - 1
    return Reader("H", 1, mask << first, lambda word: word >> first & mask)


def text(words: int, convert: Callable[[str], str] = str) -> Reader:
    """Return a reader of ASCII, two characters a word, low byte first; None when empty or unprintable."""

    def read(raw: bytes) -> Value:
        written = raw.rstrip(b"\0 ").decode("latin-1")
        return convert(written) if written.isascii() and written.isprintable() and written else None

    return Reader(f"{2 * words}s", words, (1 << 16 * words) - 1, read)


def _clock(raw: bytes) -> Value:
    year, month, day, hour, minute, second = raw
    try:
        return datetime(2000 + year, month, day, hour, minute, second).isoformat()  # the inverter knows no zone
    except ValueError:
        return None


def _window(raw: bytes) -> Value:
    if raw[0] > 23 or raw[1] > 59 or raw[2] > 23 or raw[3] > 59:
        return None
    return "{:02}:{:02}-{:02}:{:02}".format(*raw)


def _folded(raw: int) -> Value:
    if raw <= 1000:
        return raw / 1000
    return (1000 - raw) / 1000 if raw < 2000 else None


clock = Reader("6s", 3, (1 << 48) - 1, _clock)
"""Year - 2000, month, day, hour, minute, second, one byte each: local time as "2020-04-07T16:14:49"."""
window = Reader("4s", 2, 0xFFFFFFFF, _window)
"""Two packed times, hour in the low byte: "HH:MM-HH:MM". It may cross midnight; 00:00-00:00 is unused."""
power_factor = Reader("H", 1, 0xFFFF, _folded)
"""Up to 1000 is positive, from there to 2000 negative. unconfirmed: 0 while idle; 2000 and more is not known."""


@dataclass(frozen=True, slots=True)
class Row(Field):
    """One value of the register table: where it stands and what can be believed of it.

    A row with `codes` or `bit_names` publishes words under its key and the number under `<key>_code`.
    """

    register: int
    read: Reader = u16
    divisor: int | Scale = 1
    codes: Mapping[int, str] | None = field(default=None, kw_only=True)
    bit_names: tuple[str, ...] = field(default=(), kw_only=True)
    within: tuple[float, float] | None = field(default=None, kw_only=True)
    """Inclusive limits; what lies outside cannot be."""
    absent: float | None = field(default=None, kw_only=True)
    """The value that stands for "not reported"."""
    told_with: str | None = field(default=None, kw_only=True)
    """Key of what is told along with it: where that is not known, a 0 of this one stands for "not reported", too."""
    zero_needs: Feature | None = field(default=None, kw_only=True)
    """On models without this a 0 stands for "not reported", too."""
    needs: Feature | None = field(default=None, kw_only=True)
    core: bool = field(default=False, kw_only=True)
    """Nothing is published before this is known, and a frame in which it cannot be is refused."""

    def __post_init__(self) -> None:
        if self.codes is not None:
            object.__setattr__(self, "options", (*dict.fromkeys(self.codes.values()), OTHER))

    @property
    def coded(self) -> bool:
        return self.codes is not None or bool(self.bit_names)

    @property
    def lifetime(self) -> bool:
        """Whether this is an energy counter that never goes back."""
        return self.read is u32 and self.quantity is ENERGY_TOTAL

    def fields(self) -> tuple[Field, ...]:
        """Return what this row announces: itself, and its number when it is coded."""
        if not self.coded:
            return (self,)
        return self, Field(f"{self.key}_code", PLAIN, f"{self.name} code", level=Level.HIDDEN)

    def words_for(self, code: int) -> str:
        """Return the words for a code of this coded row."""
        if self.codes is not None:
            return self.codes.get(code, OTHER)
        return names_of_bits(self.bit_names, code)


@dataclass(frozen=True, slots=True)
class Derived(Field):
    """A value that no register holds, worked out from others of the same cycle.

    `rule` gets the values of `inputs`, in that order, None where one is not known in this cycle; and those that are
    known from another cycle only. The first input tells the cycle.
    """

    inputs: tuple[str, ...]
    rule: Callable[[Sequence[Value], Sequence[Value]], Value]
    filled: str | None = field(default=None, kw_only=True)
    """A register that some firmwares fill with this very value, if it is above 0: then that counts. Of a counter it
    alone does from then on, also at 0: it would seem to begin anew with each change of the source."""
    late: tuple[str, ...] = field(default=(), kw_only=True)
    """What only some models tell, behind the inputs: nothing is worked out while it was not read and may still be."""
    stays: bool = field(default=False, kw_only=True)
    """A sum of counters: what it was in the last whole cycle stays while the inputs are of two."""


@dataclass(frozen=True, slots=True)
class Told(Field):
    """A value that follows from the family alone."""

    rule: Callable[[Family], Value]


Getter: TypeAlias = Callable[[Any], tuple[Raw, ...]]


class Plan:
    """How one shape of block becomes values, for one family.

    `values` names and scales, and no more. The other attributes are what the store needs to judge
    them: `limits` (key, lowest, highest, row), `absent` (key, value), `unsupported` keys and `lifetime` keys.
    """

    def __init__(self, rows: Iterable[Row], first: int, family: Family, length: int) -> None:
        inside = [r for r in rows if first <= r.register and r.register + r.read.words <= first + length]
        self._struct, slots = _cut(inside, first, length)
        columns: dict[int, list[tuple[str, int]]] = {}
        self._converted: list[tuple[str, int, Callable[[Raw], Value], int]] = []
        self._coded: list[tuple[str, str, int, Callable[[Raw], Value] | None, Callable[[int], str]]] = []
        self._unknown: list[str] = []
        for row in inside:
            slot = slots[row.register, row.read.code]
            divisor = row.divisor if isinstance(row.divisor, int) else family.divisor(row.divisor)
            if divisor is None:
                self._unknown.append(row.key)
            elif row.coded:
                self._coded.append((row.key, f"{row.key}_code", slot, row.read.convert, row.words_for))
            elif row.read.convert:
                self._converted.append((row.key, slot, row.read.convert, divisor))
            else:
                columns.setdefault(divisor, []).append((row.key, slot))
        self._keys = [key for pairs in columns.values() for key, _ in pairs]
        self._columns = [(_getter([slot for _, slot in pairs]), divisor) for divisor, pairs in columns.items()]
        slots_in_words = [slot for _, slot, *_ in self._converted] + [slot for _, _, slot, *_ in self._coded]
        self._pick = _getter(slots_in_words)
        self._picked: tuple[Raw, ...] | None = None
        self._in_words: dict[str, Value] = {}
        """What the words at those places meant in the last block: states, bits and names hardly ever change."""
        self._nothing: dict[str, Value] = dict.fromkeys(field.key for row in inside for field in row.fields())
        self._judge(inside, family)

    def _judge(self, inside: list[Row], family: Family) -> None:
        self.unsupported = [f.key for r in inside if r.needs and r.needs not in family.features for f in r.fields()]
        gone = {*self.unsupported, *self._unknown}
        believed = [r for r in inside if r.key not in gone]
        self.limits = [(r.key, *r.within, r) for r in believed if r.within is not None]
        self._limited = _getter([key for key, *_ in self.limits])
        self._lowest, self._highest = [limit[1] for limit in self.limits], [limit[2] for limit in self.limits]
        self.absent = [(r.key, r.absent) for r in believed if r.absent is not None]
        self.absent += [(r.key, 0) for r in believed if r.zero_needs and r.zero_needs not in family.features]
        self.lifetime = [r.key for r in believed if r.lifetime]

    def all_within(self, values: dict[str, Value]) -> bool:
        """Whether no value is outside its row's limits: the usual case, and quickly seen."""
        judged = self._limited(values)
        return None not in judged and all(map(le, self._lowest, judged)) and all(map(ge, self._highest, judged))

    def values(self, data: bytes) -> dict[str, Value]:
        """Return all values of one block, in their units. `data` has the length the plan was made for."""
        raw = self._struct.unpack(data)
        numbers: list[Value] = []
        for get, divisor in self._columns:
            numbers += get(raw) if divisor == 1 else map(truediv, get(raw), repeat(divisor))
        values = self._nothing.copy()
        values.update(zip(self._keys, numbers, strict=True))
        picked = self._pick(raw)
        if picked != self._picked:
            self._picked, self._in_words = picked, self._convert(raw)
        values.update(self._in_words)
        return values

    def _convert(self, raw: tuple[Raw, ...]) -> dict[str, Value]:
        """Return the values that are more than a number and a scale."""
        values: dict[str, Value] = {}
        for key, slot, convert, divisor in self._converted:
            value = convert(raw[slot])
            values[key] = value if divisor == 1 else _divided(value, divisor)
        for key, code_key, slot, part, words_for in self._coded:
            code: Any = part(raw[slot]) if part else raw[slot]
            values[key] = words_for(code)
            values[code_key] = code
        return values


def _divided(value: Value, divisor: int) -> Value:
    return value / divisor if isinstance(value, int) else value


def _getter(places: Sequence[int] | Sequence[str]) -> Getter:
    """Return what takes these places out of a tuple or a mapping, as a tuple."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda found: tuple([found[place] for place in places])


def _cut(inside: list[Row], first: int, length: int) -> tuple[struct.Struct, dict[tuple[int, str], int]]:
    """Return the struct that cuts a block for these rows, and which of its items each one reads."""
    places = sorted({(row.register, row.read.code): row.read.words for row in inside}.items())
    layout, slots, position = "<", {}, first
    for slot, ((register, code), words) in enumerate(places):
        if register < position:
            raise ValueError(f"two rows read register {register} in different ways")
        layout += f"{2 * (register - position)}x{code}" if register > position else code
        slots[register, code] = slot
        position = register + words
    left = 2 * (first + length - position)
    return struct.Struct(layout + (f"{left}x" if left else "")), slots


class Table:
    """All rows of one kind of register, and what follows from them. Frozen and shared."""

    def __init__(
        self, function: int, rows: tuple[Row, ...], derived: tuple[Derived, ...] = (), told: tuple[Told, ...] = ()
    ) -> None:
        self.function = function
        self.rows = rows
        self.derived = derived
        self.told = told
        self.fields: tuple[Field, ...] = (*(f for row in rows for f in row.fields()), *derived, *told)
        self.core = tuple(row.key for row in rows if row.core)
        self.told_with = tuple((tuple(f.key for f in row.fields()), row.told_with) for row in rows if row.told_with)
        """Of each row that is told along with another one its keys, and the other's."""
        self.derivations = tuple((row.key, _getter(row.inputs), row.rule) for row in derived)
        """Of each derived value its key, what takes its inputs out of all values, and its rule."""
        self.filled = tuple((row.key, row.filled, row.quantity is ENERGY_TOTAL) for row in derived if row.filled)
        """Of each that a register may hold its key, that register's, and whether it counts."""
        self.late = tuple((row.key, row.late) for row in derived if row.late)
        """Of each that has to wait its key and what for."""
        self.staying = tuple((row.key, row.inputs[0], _getter(row.inputs)) for row in derived if row.stays)
        """Of each that stays its key, its first input, and what takes all of them out of all values."""


class Layout:
    """A table as one family has it, with the plans made so far."""

    MOST_PLANS = 64
    """Devices use a handful of block shapes; a stream of odd ones must not grow without end."""

    def __init__(self, table: Table, family: Family) -> None:
        self.table = table
        self.family = family
        self._plans: dict[tuple[int, int], Plan] = {}

    def plan(self, register: int, size: int) -> Plan:
        """Return the plan of a block of `size` bytes from `register` on."""
        plan = self._plans.get((register, size))
        if plan is None:
            if len(self._plans) >= self.MOST_PLANS:
                self._plans.clear()
            plan = self._plans[register, size] = Plan(self.table.rows, register, self.family, size // 2)
        return plan

    def decode(self, register: int, data: bytes) -> dict[str, Value]:
        """Return the named values of one block, as they stand: nothing is judged here, see store.py."""
        return self.plan(register, len(data)).values(data)
