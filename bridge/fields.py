"""What a published value is: quantities, fields, units and readings.

Signs, for the whole program: battery current and power are positive while charging, grid power is
positive while importing. Units: V, A, W, VA, kWh, Hz, °C, %, Ah, s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import NamedTuple, TypeAlias

Value: TypeAlias = float | int | str | bool | None
"""One value of a state topic. None is "not known" and becomes JSON null; it is never replaced by 0."""


class Quantity(NamedTuple):
    """A physical quantity as Home Assistant knows it.

    `decimals` is the resolution worth showing. `unit` None means a plain number or a text.
    """

    unit: str | None
    device_class: str | None = None
    state_class: str | None = "measurement"
    decimals: int = 0


VOLTAGE = Quantity("V", "voltage", decimals=1)
BATTERY_VOLTAGE = Quantity("V", "voltage", decimals=2)
CELL_VOLTAGE = Quantity("V", "voltage", decimals=3)
CURRENT = Quantity("A", "current", decimals=1)
ACTIVE_POWER = Quantity("W", "power")
APPARENT_POWER = Quantity("VA", "apparent_power")
REACTIVE_POWER = Quantity("var", "reactive_power")
FREQUENCY = Quantity("Hz", "frequency", decimals=2)
TEMPERATURE = Quantity("°C", "temperature", decimals=1)
PERCENT = Quantity("%")
SOC = Quantity("%", "battery")
ENERGY_TOTAL = Quantity("kWh", "energy", "total_increasing", decimals=1)
ENERGY_STORED = Quantity("kWh", "energy_storage", decimals=2)
CAPACITY = Quantity("Ah", decimals=1)
DURATION = Quantity("s", "duration")
MINUTES = Quantity("min", "duration")
CYCLES = Quantity("cycles", state_class="total_increasing")
COUNT = Quantity(None)
PLAIN = Quantity(None, state_class=None)
"""A number that is no measurement: a setting's code, a version, a raw word."""
TEXT = Quantity(None, state_class=None)
ENUM = Quantity(None, "enum", None)
FLAG = Quantity(None, "flag", None)
"""On or off, published as JSON true or false."""
PROBLEM = Quantity(None, "problem", None)
"""An alarm or warning, true while it is there."""
TIMESTAMP = Quantity(None, "timestamp", None)


class Level(Enum):
    """How much of a person's attention a value deserves."""

    MAIN = "main"
    DIAGNOSTIC = "diagnostic"
    HIDDEN = "hidden"
    """Diagnostic, and disabled in Home Assistant until someone asks for it: cells, raw words."""


@dataclass(frozen=True, slots=True)
class Field:
    """One published value: its JSON key, quantity and name for people.

    Every maker's table rows are subclasses that add where the value stands in that protocol. `key`
    is a contract and never renamed. `name` is in sentence case and does not repeat the device's.
    `options` are all texts an ENUM value can take. `first` is for what a person looks for before
    others of its kind: totals before their parts.
    """

    key: str
    quantity: Quantity
    name: str
    level: Level = field(default=Level.MAIN, kw_only=True)
    options: tuple[str, ...] = field(default=(), kw_only=True)
    first: bool = field(default=False, kw_only=True)


class Channel(Enum):
    """Which of a unit's topics a reading belongs to."""

    STATE = "state"
    """What it measures: true for the unit's `max_age`. Only these make a unit online."""
    SETTINGS = "settings"
    """What it is set to: true until something else is read. Holds exactly the keys of `unit.settings`."""
    REGISTERS = "registers"
    """Raw words somebody asked for, or why there are none: an answer, given once."""
    RESULT = "result"
    """What became of a command to set something: an answer, given once."""
    COMPAT = "compat"
    """What another program's scheme would tell, for the sink that carries that scheme; `topic` is below its root."""


@lru_cache(maxsize=1024)
def topic_level(path: str) -> str:
    """Return a unit's path as one level of a topic, whatever characters a device has put into it.

    Over a control character in a topic a broker ends the connection, and over a retained one again each time.
    """
    return "".join(one if one.isprintable() and one not in "+#/" else "_" for one in path)


class Unit(NamedTuple):
    """A thing with an identity of its own: a device, or a part of one (a module, a parallel inverter).

    `path` is "" for the configured device itself, else one topic level: the part's serial number or
    address. `fields` announces every key that its state carries, always, `settings` those of its
    settings. `max_age` is how many seconds its last good reading stays true; after that the unit is offline.
    """

    path: str
    title: str
    fields: tuple[Field, ...]
    max_age: float
    serial: str | None = None
    manufacturer: str | None = None
    model: str | None = None
    firmware: str | None = None
    place: str | None = None
    """Where a part sits (an address, a position), if it has been told apart by that. Of two units of one device at one
    place, one of which tells no serial number, only the one that spoke last is there: it is the same thing."""
    settings: tuple[Field, ...] = ()
    controls: tuple[Field, ...] = ()
    """What can be set right now: rows of a settings table (settings.Setting), with the bounds of this very unit.
    Each shows what it is under the same key in `settings` or, where that has none, in `fields`."""


class Reading(NamedTuple):
    """What a unit's values are, as of one moment.

    `at` is time.monotonic() when the last byte of the frame behind it came in. Without `topic` the
    values are the unit's state and hold exactly the keys of `unit.fields`, or belong to another
    `channel`; with it they are published on that very topic as they are (a contract with other software).
    """

    unit: Unit
    values: Mapping[str, Value]
    at: float
    topic: str | None = None
    channel: Channel = Channel.STATE
    tag: object = None
    """Whatever the command carried whose result this is: it lets an entrance find its own answers."""
