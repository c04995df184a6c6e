"""What can be set: the rows of a settings table, and the one spelling of each kind of value (pure).

A maker's table rows are subclasses that add where the setting stands in that protocol. A setting's `key` is its
name in the topic `{base}/{device}/set/{key}` and, at the same time, the key under which the device's settings (or
state) topic shows what it is: that topic is the read-back.

A text is taken or refused, never repaired: no blanks, no other digits than 0-9, no clamping, no rounding.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Protocol, TypeAlias

from bridge.errors import CommandError
from bridge.fields import Field, Value

_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,9}")
_DECIMAL = re.compile(r"(?:0|-?[1-9][0-9]{0,9}|-?(?:0|[1-9][0-9]{0,9})\.[0-9]{1,4})")
_WINDOW = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]")
_MOMENT = re.compile(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}")

NOW = "now"
"""The text that sets a clock to the bridge's own local time at the moment of writing."""
ON, OFF = "on", "off"
PRESS = "press"
WINDOW_PATTERN = "^" + _WINDOW.pattern.replace("(", "(?:") + "$"
"""What a window looks like, for a form that checks it in front of the bridge."""


class Risk(Enum):
    """What may be written without being named. What must never be written has no row at all."""

    HARMLESS = "A"
    """Written as soon as a device has `writes: true`."""
    CAUTION = "B"
    """Has to be named under `allow`: a wrong value costs comfort or money."""
    DANGEROUS = "C"
    """Has to be named under `allow`: a wrong value can cost batteries or appliances."""


class Spelling(Protocol):
    """How the value of one setting is written as text."""

    def read(self, text: str) -> Value:
        """Return the value that `text` stands for. Raises CommandError, which says what is allowed."""

    def write(self, value: Value) -> str:
        """Return the text of a value that `read` would take."""

    @property
    def allowed(self) -> str:
        """What is taken, in a few words."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number in its unit, in steps of `step`, with both bounds included.

    `among` holds the only values there are, where they do not follow from bounds and step; `also` what may stand
    outside of the bounds and means something of its own, such as 0 for "off". A whole number is spelled without a
    point where `step` is whole.
    """

    minimum: Decimal
    maximum: Decimal
    step: Decimal = Decimal(1)
    among: tuple[Decimal, ...] = ()
    also: tuple[Decimal, ...] = ()

    @property
    def decimals(self) -> int:
        """How many decimals a value can have."""
        return max(0, -int(self.step.normalize().as_tuple().exponent))

    def read(self, text: str) -> Value:
        if not (_DECIMAL if self.decimals else _WHOLE).fullmatch(text):
            raise CommandError(f"{_shown(text)} is no number as expected here; {self.allowed}")
        number = Decimal(text)
        if number in self.also:
            return float(number) if self.decimals else int(number)
        if not self.minimum <= number <= self.maximum:
            raise CommandError(f"{text} is out of range; {self.allowed}")
        if (self.among and number not in self.among) or (number - self.minimum) % self.step:
            raise CommandError(f"{text} is between the values there are; {self.allowed}")
        return float(number) if self.decimals else int(number)

    def write(self, value: Value) -> str:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{value!r} is no number")
        return f"{value:.{self.decimals}f}"

    @property
    def allowed(self) -> str:
        if self.among:
            return "expected one of " + ", ".join(str(one) for one in (*self.also, *self.among))
        steps = "" if self.step == 1 else f" in steps of {self.step}"
        also = "".join(f", or {one}" for one in self.also)
        return f"expected {self.minimum} to {self.maximum}{steps}{also}"


def whole(minimum: int, maximum: int, step: int = 1) -> Number:
    """Return the spelling of a whole number."""
    return Number(Decimal(minimum), Decimal(maximum), Decimal(step))


def scaled(lowest: int, highest: int, divisor: int) -> Number:
    """Return the spelling of a number that is kept as a whole one: raw bounds, and how many raw steps make 1."""
    one = Decimal(divisor)
    return Number(Decimal(lowest) / one, Decimal(highest) / one, 1 / one)


@dataclass(frozen=True, slots=True)
class Switch:
    """on or off; the value is true or false."""

    def read(self, text: str) -> Value:
        if text not in (ON, OFF):
            raise CommandError(f"{_shown(text)} is neither; {self.allowed}")
        return text == ON

    def write(self, value: Value) -> str:
        return ON if value else OFF

    @property
    def allowed(self) -> str:
        return "expected on or off"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words."""

    options: tuple[str, ...]

    def read(self, text: str) -> Value:
        if text not in self.options:
            raise CommandError(f"{_shown(text)} is not among them; {self.allowed}")
        return text

    def write(self, value: Value) -> str:
        return str(value)

    @property
    def allowed(self) -> str:
        return "expected one of " + ", ".join(self.options)


@dataclass(frozen=True, slots=True)
class Window:
    """From a time of day to another, HH:MM-HH:MM. It may cross midnight; 00:00-00:00 is a window not used."""

    def read(self, text: str) -> Value:
        if not _WINDOW.fullmatch(text):
            raise CommandError(f"{_shown(text)} is no window; {self.allowed}")
        return text

    def write(self, value: Value) -> str:
        return str(value)

    @property
    def allowed(self) -> str:
        return "expected HH:MM-HH:MM, from 00:00 to 23:59"


@dataclass(frozen=True, slots=True)
class Clock:
    """A date and time of the inverter's own clock, which knows no zone; or `now`."""

    def read(self, text: str) -> Value:
        if text == NOW:
            return NOW
        if _MOMENT.fullmatch(text):
            try:
                return datetime.fromisoformat(text).isoformat()
            except ValueError:
                pass
        raise CommandError(f"{_shown(text)} is no time; {self.allowed}")

    def write(self, value: Value) -> str:
        return str(value)

    @property
    def allowed(self) -> str:
        return f"expected {NOW} or YYYY-MM-DDTHH:MM:SS in local time"


@dataclass(frozen=True, slots=True)
class Press:
    """An act rather than a state, such as a reset."""

    def read(self, text: str) -> Value:
        if text != PRESS:
            raise CommandError(f"{_shown(text)} does not do it; {self.allowed}")
        return PRESS

    def write(self, _value: Value) -> str:
        return PRESS

    @property
    def allowed(self) -> str:
        return f"expected {PRESS}"


AnySpelling: TypeAlias = Number | Switch | Choice | Window | Clock | Press


@dataclass(frozen=True, slots=True)
class Setting(Field):
    """One thing that can be set. Rows without bounds do not exist: `spelling` has them."""

    spelling: AnySpelling = field(kw_only=True)
    risk: Risk = field(kw_only=True)
    groups: tuple[str, ...] = field(default=(), kw_only=True)
    """Further names under which `allow` may list it, together with others."""


@dataclass(frozen=True, slots=True)
class Documented:
    """One row of docs/settings.md: `place` is where it stands, `allowed` its values, `conditions` what else counts."""

    setting: Setting
    place: str
    allowed: str
    conditions: str = ""


def _shown(text: str) -> str:
    """Return a received text in a form that is safe in a log and a topic."""
    return ascii(text[:40]) + ("..." if len(text) > 40 else "")
