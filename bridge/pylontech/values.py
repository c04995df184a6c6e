"""The values of one battery module, described once, whichever link brings them.

RS485 replies and the console's text carry the same physical values; the tables of `messages` and
`console` say where each stands there and point to the field described here. Current and power are
positive while charging. Limits are magnitudes: both current limits are positive numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import TypeAlias

from bridge.fields import (
    ACTIVE_POWER,
    BATTERY_VOLTAGE,
    CAPACITY,
    CELL_VOLTAGE,
    COUNT,
    CURRENT,
    CYCLES,
    FLAG,
    PERCENT,
    PLAIN,
    PROBLEM,
    SOC,
    TEMPERATURE,
    TEXT,
    Field,
    Level,
    Value,
)

Values: TypeAlias = dict[str, Value]

DIAGNOSTIC, HIDDEN = Level.DIAGNOSTIC, Level.HIDDEN

# fmt: off
# What a module measures.
VOLTAGE = Field("voltage", BATTERY_VOLTAGE, "Voltage")
MODULE_CURRENT = Field("current", CURRENT, "Current")
POWER = Field("power", ACTIVE_POWER, "Power")
STATE_OF_CHARGE = Field("soc", SOC, "State of charge")
STATE_OF_HEALTH = Field("soh", PERCENT, "State of health", level=DIAGNOSTIC)
REMAINING = Field("remaining_capacity", CAPACITY, "Remaining capacity")
TOTAL = Field("total_capacity", CAPACITY, "Total capacity", level=DIAGNOSTIC)
CYCLE_COUNT = Field("cycles", CYCLES, "Charge cycles", level=DIAGNOSTIC)
# unconfirmed: that the console's Tempr is the board sensor, the first of a 42h reply; it lies above the cells in both
MODULE_TEMPERATURE = Field("temperature", TEMPERATURE, "Temperature")
MOS_TEMPERATURE = Field("mos_temperature", TEMPERATURE, "MOSFET temperature", level=DIAGNOSTIC)

# The extremes among a module's cells.
CELL_MIN = Field("cell_min_voltage", CELL_VOLTAGE, "Lowest cell voltage")
CELL_MAX = Field("cell_max_voltage", CELL_VOLTAGE, "Highest cell voltage")
CELL_MIN_NUMBER = Field("cell_min_number", PLAIN, "Cell with the lowest voltage", level=DIAGNOSTIC)
CELL_MAX_NUMBER = Field("cell_max_number", PLAIN, "Cell with the highest voltage", level=DIAGNOSTIC)
CELL_SPREAD = Field("cell_spread", CELL_VOLTAGE, "Cell voltage spread")
CELL_COLDEST = Field("cell_min_temperature", TEMPERATURE, "Lowest cell temperature")
CELL_HOTTEST = Field("cell_max_temperature", TEMPERATURE, "Highest cell temperature")

# What the module allows at this moment, and what it wishes.
CHARGE_VOLTAGE_LIMIT = Field("charge_voltage_limit", BATTERY_VOLTAGE, "Charge voltage limit", level=DIAGNOSTIC)
DISCHARGE_VOLTAGE_LIMIT = Field("discharge_voltage_limit", BATTERY_VOLTAGE, "Discharge voltage limit", level=DIAGNOSTIC)
CHARGE_CURRENT_LIMIT = Field("charge_current_limit", CURRENT, "Charge current limit", level=DIAGNOSTIC)
DISCHARGE_CURRENT_LIMIT = Field("discharge_current_limit", CURRENT, "Discharge current limit", level=DIAGNOSTIC)
MAX_CHARGE_CURRENT = Field("max_charge_current", CURRENT, "Rated charge current", level=DIAGNOSTIC)
MAX_DISCHARGE_CURRENT = Field("max_discharge_current", CURRENT, "Rated discharge current", level=DIAGNOSTIC)
CHARGE_ENABLE = Field("charge_enable", FLAG, "Charging allowed")
DISCHARGE_ENABLE = Field("discharge_enable", FLAG, "Discharging allowed")
CHARGE_IMMEDIATELY_1 = Field("charge_immediately_1", FLAG, "Charge immediately 1", level=DIAGNOSTIC)
CHARGE_IMMEDIATELY_2 = Field("charge_immediately_2", FLAG, "Charge immediately 2", level=DIAGNOSTIC)
FULL_CHARGE_REQUEST = Field("full_charge_request", FLAG, "Full charge requested", level=DIAGNOSTIC)

# Alarms.
MODULE_OVER_VOLTAGE = Field("module_over_voltage", PROBLEM, "Module over voltage")
MODULE_UNDER_VOLTAGE = Field("module_under_voltage", PROBLEM, "Module under voltage")
CELL_UNDER_VOLTAGE = Field("cell_under_voltage", PROBLEM, "Cell under voltage")
CHARGE_OVER_CURRENT = Field("charge_over_current", PROBLEM, "Charge over current")
DISCHARGE_OVER_CURRENT = Field("discharge_over_current", PROBLEM, "Discharge over current")
CHARGE_OVER_TEMPERATURE = Field("charge_over_temperature", PROBLEM, "Charge over temperature")
DISCHARGE_OVER_TEMPERATURE = Field("discharge_over_temperature", PROBLEM, "Discharge over temperature")
CELL_FAULT = Field("cell_fault", PROBLEM, "Cell fault")
OVER_TEMPERATURE = Field("over_temperature", PROBLEM, "Over temperature")
UNDER_TEMPERATURE = Field("under_temperature", PROBLEM, "Under temperature")
SHORT_CIRCUIT = Field("short_circuit", PROBLEM, "Short circuit")
HIGH_VOLTAGE = Field("high_voltage", PROBLEM, "High voltage")
LOW_VOLTAGE = Field("low_voltage", PROBLEM, "Low voltage")
HIGH_TEMPERATURE = Field("high_temperature", PROBLEM, "High temperature")
LOW_TEMPERATURE = Field("low_temperature", PROBLEM, "Low temperature")
LOW_CAPACITY = Field("low_capacity", PROBLEM, "Low capacity")
SYSTEM_FAULT = Field("system_fault", PROBLEM, "System fault")
FULLY_CHARGED = Field("fully_charged", FLAG, "Fully charged")
VOLTAGE_STATE = Field("voltage_state", TEXT, "Voltage state", level=DIAGNOSTIC)

EVENT_ALARMS = (
    OVER_TEMPERATURE, UNDER_TEMPERATURE, SHORT_CIRCUIT, SYSTEM_FAULT,
    HIGH_VOLTAGE, LOW_VOLTAGE, HIGH_TEMPERATURE, LOW_TEMPERATURE, LOW_CAPACITY,
)
"""Alarms that only the console tells, by its events."""

# Who the module is.
SERIAL = Field("serial", TEXT, "Serial number", level=DIAGNOSTIC)
MANUFACTURER = Field("manufacturer", TEXT, "Manufacturer", level=HIDDEN)
MODEL = Field("model", TEXT, "Model", level=HIDDEN)
SOFTWARE = Field("software_version", TEXT, "Software version", level=DIAGNOSTIC)
CELL_COUNT = Field("cell_count", COUNT, "Cells", level=HIDDEN)


@cache
def cell_voltages(cells: int) -> tuple[Field, ...]:
    """Return the fields of that many cell voltages, first cell first."""
    numbers = range(1, cells + 1)
    return tuple(Field(f"cell_{n}_voltage", CELL_VOLTAGE, f"Cell {n} voltage", level=HIDDEN) for n in numbers)
# fmt: on


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


@cache
def temperatures(sensors: int) -> tuple[Field, ...]:
    """Return the fields of a module with that many temperatures; the first is the module's own."""
    names = {n: f"Temperature of {group}" for n, group in TEMPERATURE_GROUPS.items()}
    rest = (
        Field(f"temperature_{n}", TEMPERATURE, names.get(n, f"Temperature {n}"), level=HIDDEN)
        for n in range(2, sensors + 1)
    )
    return (MODULE_TEMPERATURE, *rest)[:sensors]


CELL_EXTREMES = (CELL_MIN, CELL_MIN_NUMBER, CELL_MAX, CELL_MAX_NUMBER, CELL_SPREAD)


def cell_extremes(millivolts: Sequence[int]) -> Values:
    """Return the values of CELL_EXTREMES for all cells of a module, first cell first, in mV."""
    low, high = min(millivolts), max(millivolts)
    return {
        CELL_MIN.key: low / 1000,
        CELL_MIN_NUMBER.key: millivolts.index(low) + 1,
        CELL_MAX.key: high / 1000,
        CELL_MAX_NUMBER.key: millivolts.index(high) + 1,
        CELL_SPREAD.key: (high - low) / 1000,
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
