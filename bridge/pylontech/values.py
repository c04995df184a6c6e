"""What both links tell of a Pylontech module beside what any battery has (`bridge.battery`), and what they share.

RS485 replies and the console's text carry the same physical values; the tables of `messages` and
`console` say where each stands there and point to the one field that describes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TypeAlias

from bridge import battery as k
from bridge.fields import FLAG, TEMPERATURE, TEXT, Field, Level, Value

Values: TypeAlias = dict[str, Value]

DIAGNOSTIC, HIDDEN = Level.DIAGNOSTIC, Level.HIDDEN

FULLY_CHARGED = Field("fully_charged", FLAG, "Fully charged")
MANUFACTURER = Field("manufacturer", TEXT, "Manufacturer", level=HIDDEN)
MODEL = Field("model", TEXT, "Model", level=HIDDEN)
SOFTWARE = Field("software_version", TEXT, "Software version", level=DIAGNOSTIC)

EVENT_ALARMS = (
    k.OVER_TEMPERATURE, k.UNDER_TEMPERATURE, k.SHORT_CIRCUIT, k.SYSTEM_FAULT,
    k.HIGH_VOLTAGE, k.LOW_VOLTAGE, k.HIGH_TEMPERATURE, k.LOW_TEMPERATURE, k.LOW_CAPACITY,
)  # fmt: skip
"""Alarms that only the console tells, by its events."""


SHAPES = 16
"""How many pairs of counts, of cells and of sensors, are remembered: a stack has a few, a line that lies any number."""


@lru_cache(maxsize=SHAPES)
def cell_voltages(cells: int) -> tuple[Field, ...]:
    """Return the fields of that many cell voltages, first cell first."""
    return tuple(k.cell(number) for number in range(1, cells + 1))


CELL_KEYS = tuple(field.key for field in cell_voltages(32))
"""The keys of all cells that any module can have, first cell first."""


def cell_count(values: Values) -> int:
    """Return for how many cells a state has keys; they are numbered from 1 without a gap."""
    count = 0
    for key in CELL_KEYS:
        if key not in values:
            break
        count += 1
    return count


TEMPERATURE_GROUPS = {2: "cells 1 to 4", 3: "cells 5 to 8", 4: "cells 9 to 12", 5: "cells 13 to 16"}
"""Which cells a temperature belongs to, by its place in a 42h reply; the first is the BMS board's.
unconfirmed: the sixth is the MOSFET's by the document, but it reads like a cell's on a US5000."""


@lru_cache(maxsize=SHAPES)
def temperatures(sensors: int) -> tuple[Field, ...]:
    """Return the fields of a module with that many temperatures; the first is the module's own."""
    names = {n: f"Temperature of {group}" for n, group in TEMPERATURE_GROUPS.items()}
    rest = (
        Field(f"temperature_{n}", TEMPERATURE, names.get(n, f"Temperature {n}"), level=HIDDEN)
        for n in range(2, sensors + 1)
    )
    return (k.TEMPERATURE, *rest)[:sensors]


CELL_EXTREMES = (k.CELL_MIN, k.CELL_MIN_NUMBER, k.CELL_MAX, k.CELL_MAX_NUMBER, k.CELL_SPREAD)


def cell_extremes(millivolts: Sequence[int]) -> Values:
    """Return the values of CELL_EXTREMES for all cells of a module, first cell first, in mV."""
    low, high = min(millivolts), max(millivolts)
    return {
        k.CELL_MIN.key: low / 1000,
        k.CELL_MIN_NUMBER.key: millivolts.index(low) + 1,
        k.CELL_MAX.key: high / 1000,
        k.CELL_MAX_NUMBER.key: millivolts.index(high) + 1,
        k.CELL_SPREAD.key: (high - low) / 1000,
    }


def number(values: Values, field: Field) -> float | None:
    """Return a measured value, None when it is not known."""
    value = values.get(field.key)
    if type(value) is float:
        return value  # nearly always, and summaries ask hundreds of times
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def blank(fields: Iterable[Field]) -> Values:
    """Return every key of `fields` with None: the state of a module nothing is known of yet."""
    return {field.key: None for field in fields}
