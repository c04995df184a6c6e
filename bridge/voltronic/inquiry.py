"""What a table of inquiries is made of: rows that turn a reply's fields into values, keys and units.

A reply becomes values in two steps. `decode` gives what the device said, field by field, under the names the
vendor's papers led to, codes as codes and bits as bits: that is what captures and tools compare. `publish`
turns that into the keys of a state topic: codes become words, each bit becomes a boolean, Wh become kWh.
Both, and the announced keys, follow from the same row.

Rules of `decode`:

- A field of dashes is absent: None.
- A number has a point or not: float or int.
- A value outside its row's range refuses the whole frame ("implausible"): its CRC is right, so the device
  means another layout than this, and no other field of it can be trusted either. Only rows marked `loose`,
  where firmware is known to write figures of another kind, become None by themselves.
- More fields than known are kept as text under "_extra_fields", where an inquiry allows for them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, TypeAlias

from bridge.errors import ProtocolError
from bridge.fields import (
    ACTIVE_POWER,
    APPARENT_POWER,
    BATTERY_VOLTAGE,
    CURRENT,
    ENUM,
    FLAG,
    FREQUENCY,
    MINUTES,
    PERCENT,
    PLAIN,
    PROBLEM,
    SOC,
    TEMPERATURE,
    TEXT,
    VOLTAGE,
    Field,
    Level,
    Quantity,
    Value,
)

Decoded: TypeAlias = dict[str, Any]
"""What a reply said, by wire name: numbers, texts, None, and lists where the reply is one."""

Code: TypeAlias = int | str
Reader: TypeAlias = Callable[[str], Any]
Rule: TypeAlias = Callable[[Any], Any]
Contract: TypeAlias = tuple[tuple[str, Rule], ...]
"""Keys in the JSON of other software, each with the rule that turns the decoded value into theirs."""

OTHER = "other"
"""The word for a code that no table knows; what the device said is in `<key>_code`."""


# -- readers: the text of one field -> a value


def number(text: str) -> float | int | None:
    """Return a float when the field has a point, else an int; None for dashes."""
    try:
        return float(text) if "." in text else int(text)
    except ValueError:  # dashes: the pattern let nothing else through
        return None


def text(text: str) -> str | None:
    """Return the field as it is; None for dashes."""
    return text if text.strip("-") else None


def tenth(text: str) -> float | None:
    """Return a whole number of tenths as a float; None for an empty field."""
    return int(text) / 10 if text else None


def whole(text: str) -> int | None:
    """Return a whole number; None for an empty field."""
    return int(text) if text else None


# no field has more digits than a float tells apart; a longer one could not even be divided
_FIGURE = r"\d{1,15}(?:\.\d{1,15})?"
_SHAPES: dict[Reader, str] = {
    number: rf"(?:{_FIGURE}|-+(?:\.-+)?)",
    text: r"[!-~]+",
    tenth: r"\d{0,15}",
    whole: r"\d{0,15}",
}
_SIGNED = rf"(?:-?{_FIGURE}|-+(?:\.-+)?)"

_RANGES: dict[Quantity, tuple[float, float]] = {
    VOLTAGE: (0, 1200),
    BATTERY_VOLTAGE: (0, 100),
    CURRENT: (0, 1000),
    ACTIVE_POWER: (0, 40_000),
    APPARENT_POWER: (0, 40_000),
    FREQUENCY: (0, 100),
    PERCENT: (0, 999),
    SOC: (0, 100),
    TEMPERATURE: (-40, 150),
    MINUTES: (0, 1440),
}
"""What no inverter of this family can exceed, by quantity; a row may say it more closely."""


_TRUTH: dict[Any, bool] = {0: False, 1: True, "0": False, "1": True}


# -- rows


class Bit(NamedTuple):
    """One character of a field of bits, `at` counted from its left end, published as true or false."""

    at: int
    key: str
    name: str


@dataclass(frozen=True, slots=True)
class Token(Field):
    """One field of a reply, and the key it is published under.

    `wire` is its name in `decode` where that differs from `key`. `shape` is a regular expression where
    the reader's own is too wide. `codes` and `bits` say what the characters mean. `contract` lists key
    and rule in the JSON of other software. `shared` marks what belongs to a whole parallel set.
    """

    read: Reader = number
    wire: str = field(default="", kw_only=True)
    shape: str = field(default="", kw_only=True)
    limits: tuple[float, float] | None = field(default=None, kw_only=True)
    loose: bool = field(default=False, kw_only=True)
    codes: Mapping[Code, str] | None = field(default=None, kw_only=True)
    bits: tuple[Bit, ...] = field(default=(), kw_only=True)
    divisor: int = field(default=1, kw_only=True)
    contract: Contract = field(default=(), kw_only=True)
    shared: bool = field(default=False, kw_only=True)
    published: bool = field(default=True, kw_only=True)

    @property
    def wire_name(self) -> str:
        return self.wire or self.key

    @property
    def pattern(self) -> str:
        return self.shape or (_SIGNED if self.read is number and self.quantity is TEMPERATURE else _SHAPES[self.read])

    @property
    def range(self) -> tuple[float, float] | None:
        return self.limits or (None if self.codes else _RANGES.get(self.quantity))

    @property
    def as_it_is(self) -> bool:
        """Whether the decoded value is what is published, and nothing else."""
        return not (self.codes or self.bits or self.quantity in (FLAG, PROBLEM) or self.divisor > 1)

    def fields(self) -> tuple[Field, ...]:
        """Return what a state topic announces for this row."""
        if not self.published:
            return ()
        if self.codes:
            options = (*dict.fromkeys(self.codes.values()), OTHER)
            plain = TEXT if self.read is text else PLAIN
            code = Field(f"{self.key}_code", plain, f"{self.name} code", level=Level.HIDDEN)
            return Field(self.key, ENUM, self.name, level=self.level, options=options), code
        own = Field(self.key, self.quantity, self.name, level=self.level)
        return own, *(Field(bit.key, FLAG, bit.name, level=Level.DIAGNOSTIC) for bit in self.bits)

    def publish(self, value: Any, into: dict[str, Value]) -> None:
        """Put what `value` (as decoded) means under this row's keys."""
        if self.codes:
            into[self.key] = None if value is None else self.codes.get(value, OTHER)
            into[f"{self.key}_code"] = value
            return
        if self.quantity in (FLAG, PROBLEM):
            into[self.key] = _TRUTH.get(value)
            return
        into[self.key] = value / self.divisor if self.divisor > 1 and value is not None else value
        for bit in self.bits:
            mark = value[bit.at] if value is not None and bit.at < len(value) else None
            into[bit.key] = _TRUTH.get(mark)


@dataclass(frozen=True, slots=True)
class Derived(Field):
    """A value that follows from others of the same reply; `compute` gets the decoded ones, none of them None."""

    sources: tuple[str, ...]
    compute: Callable[..., Value]

    def publish(self, decoded: Decoded, into: dict[str, Value]) -> None:
        """Put the value under its key; None where one of its sources is not known."""
        values = [decoded.get(name) for name in self.sources]
        into[self.key] = None if None in values else self.compute(*values)


class Layout:
    """The rows of one form of a reply, made ready: one pattern, one reader a field, the ranges."""

    def __init__(self, rows: Sequence[Token], extra: int, separator: str, gap: str) -> None:
        self._known = len(rows)
        self._extra = extra
        # the fields beyond the known ones may be anything, even empty
        shapes = [row.pattern for row in rows] + [rf"[^{separator}]*"] * extra
        self._whole = re.compile(gap.join(f"(?:{shape})" for shape in shapes), re.ASCII).fullmatch
        self._names = tuple(row.wire_name for row in rows)
        self._readers = tuple(row.read for row in rows)
        spans = [(row.wire_name, row.range, row.loose) for row in rows]
        self._ranges = tuple((name, span[0], span[1], loose) for name, span, loose in spans if span)

    def decode(self, payload: str, tokens: list[str]) -> Decoded:
        """Return the values of `tokens`, the fields of `payload`. Raises ProtocolError."""
        if not self._whole(payload):
            raise ProtocolError("foreign", "the fields are not those of this inquiry", payload.encode())
        values = {name: read(token) for name, read, token in zip(self._names, self._readers, tokens, strict=False)}
        for name, low, high, loose in self._ranges:
            value = values[name]
            if value is not None and not low <= value <= high:
                if not loose:
                    raise ProtocolError("implausible", f"{name} is {value}", payload.encode())
                values[name] = None
        if self._extra:
            values["_extra_fields"] = tokens[self._known :]
        return values


@dataclass(frozen=True)
class Inquiry:
    """One question and what its reply means, field by field.

    `rows` is the longest known form; a shorter reply holds its first fields, `minimum` of them at least.
    `forms` holds forms that are no beginning of `rows`, by their number of fields, or by what `form` makes
    of a reply's fields. `refused` lists numbers of fields that belong to another protocol's reply of the
    same name. `more` is how many unknown fields may follow: newer firmware adds some, but a short inquiry would
    take any long reply for its own. `doubtful` names what is decoded but not to be believed. `twin` marks a reply
    that looks like that of another inquiry, so that a late one could be taken for it.
    """

    command: str
    rows: tuple[Token, ...]
    minimum: int = 0
    forms: Mapping[int, tuple[Token, ...]] = field(default_factory=dict)
    form: Callable[[list[str]], int] = len
    refused: tuple[int, ...] = ()
    derived: tuple[Derived, ...] = ()
    doubtful: Callable[[Decoded], tuple[str, ...]] | None = None
    twin: bool = False
    more: int = 0
    runs_of_spaces: bool = False

    separator: ClassVar[str] = " "

    def decode(self, payload: str) -> Decoded:
        """Return what `payload` (a reply's text) says, by wire name. Raises ProtocolError."""
        payload = payload.rstrip(" ")
        tokens = payload.split() if self.runs_of_spaces else payload.split(" ")
        return self._layout(payload, tokens).decode(payload, tokens)

    def publish(self, decoded: Decoded) -> dict[str, Value]:
        """Return the values of a state topic, under the keys `fields` announces for this form."""
        doubtful = self.doubtful(decoded) if self.doubtful else ()
        values: dict[str, Value] = {}
        for name, key, put in self._published:
            if name not in decoded:
                continue
            value = None if name in doubtful else decoded[name]
            if put is None:
                values[key] = value
            else:
                put(value, values)
        for derived in self.derived:
            derived.publish(decoded, values)
        return values

    def fields(self, decoded: Decoded | None = None) -> tuple[Field, ...]:
        """Return what is announced for the form of `decoded`; without it, for the shortest form."""
        known = self.rows[: self.minimum or len(self.rows)]
        rows = known if decoded is None else [row for row in self._every_row if row.wire_name in decoded]
        return (*(item for row in rows for item in row.fields()), *self.derived)

    def every_field(self) -> tuple[Field, ...]:
        """Return what any form of the reply announces, for documentation."""
        return self.fields(dict.fromkeys(row.wire_name for row in self._every_row))

    def contract(self, decoded: Decoded) -> dict[str, Value]:
        """Return the object that other software expects of this reply; what is not known is left out."""
        values: dict[str, Value] = {}
        for name, key, rule in self._contract:
            value = decoded.get(name)
            if value is not None and (ruled := rule(value)) is not None:
                values[key] = ruled
        return values

    def view(self, wanted: Callable[[Token], bool], derived: tuple[Derived, ...] = ()) -> Inquiry:
        """Return an inquiry that publishes only the wanted rows of what this one decodes."""
        return replace(self, rows=tuple(row for row in self.rows if wanted(row)), minimum=0, derived=derived)

    @cached_property
    def _every_row(self) -> tuple[Token, ...]:
        """The rows of all forms; a wire name means the same in each."""
        rows = (row for form in (self.rows, *self.forms.values()) for row in form)
        return tuple({row.wire_name: row for row in rows}.values())

    @cached_property
    def _published(self) -> tuple[tuple[str, str, Callable[[Any, dict[str, Value]], None] | None], ...]:
        """Of each published row its wire name, its key, and what publishes it; None where the value stays as it is."""
        rows = [row for row in self._every_row if row.published]
        return tuple((row.wire_name, row.key, None if row.as_it_is else row.publish) for row in rows)

    @cached_property
    def _contract(self) -> tuple[tuple[str, str, Rule], ...]:
        return tuple((row.wire_name, key, rule) for row in self.rows for key, rule in row.contract)

    @cached_property
    def _layouts(self) -> dict[tuple[int, int], Layout]:
        return {}

    def _layout(self, payload: str, tokens: list[str]) -> Layout:
        """Return the layout for these fields. Raises ProtocolError when their number fits none."""
        count, form = len(tokens), self.form(tokens)
        layout = self._layouts.get((count, form))
        if layout is not None:
            return layout
        rows = self.forms.get(form, self.rows)
        if count < (len(rows) if form in self.forms else self.minimum or len(rows)):
            raise ProtocolError("length", f"{count} fields are too few for {self.command}", payload.encode())
        if count in self.refused:
            raise ProtocolError("foreign", f"{count} fields: another protocol's {self.command}", payload.encode())
        if count > len(rows) + self.more:
            raise ProtocolError("length", f"{count} fields are too many for {self.command}", payload.encode())
        gap = " +" if self.runs_of_spaces else self.separator
        layout = Layout(rows[:count], max(0, count - len(rows)), self.separator, gap)
        self._layouts[count, form] = layout
        return layout
