"""What a bank reads of a battery module's state: the one table of keys between battery slices and bank (pure).

A slice that publishes modules under these keys, in these units, can be part of a bank. A key that is
not among a module's values is one that its link cannot tell; one that is there with None is not known
now. The two are different: what a link never tells may be configured, what is not known lowers limits.
Every number is believed only within its range, whoever checked it before: outside, it is not known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bridge.fields import Value


@dataclass(frozen=True, slots=True)
class Key:
    """One value of a module's state, and the range a number is believed in (its own unit)."""

    name: str
    low: float = 0.0
    high: float = 0.0

    def number(self, values: Mapping[str, Value]) -> float | None:
        """Return the number, None when it is not known or outside its range (NaN is outside of any)."""
        value = values.get(self.name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not self.low <= value <= self.high:
            return None
        return float(value)

    def flag(self, values: Mapping[str, Value]) -> bool | None:
        """Return true or false, None for anything else."""
        value = values.get(self.name)
        return value if isinstance(value, bool) else None

    def text(self, values: Mapping[str, Value]) -> str:
        """Return the text, "" when it is not known."""
        value = values.get(self.name)
        return value if isinstance(value, str) else ""


# fmt: off
# Measured. Without voltage, current and SOC a module cannot be part of a bank.
VOLTAGE                 = Key("voltage", 5.0, 80.0)                        # V
CURRENT                 = Key("current", -500.0, 500.0)                    # A, positive while charging
SOC                     = Key("soc", 0.0, 105.0)                           # %
REMAINING               = Key("remaining_capacity", 0.0, 2000.0)           # Ah
TOTAL                   = Key("total_capacity", 0.001, 2000.0)             # Ah
SOH                     = Key("soh", 0.0, 110.0)                           # %, console only
CYCLES                  = Key("cycles", 0.0, 100_000.0)
TEMPERATURE             = Key("temperature", -40.0, 120.0)                 # °C, the module's own sensor
MOS_TEMPERATURE         = Key("mos_temperature", -40.0, 150.0)             # °C, console only
CELL_MIN                = Key("cell_min_voltage", 0.5, 5.0)                # V
CELL_MAX                = Key("cell_max_voltage", 0.5, 5.0)                # V
CELL_MIN_NUMBER         = Key("cell_min_number", 1, 64)                    # from 1
CELL_MAX_NUMBER         = Key("cell_max_number", 1, 64)
CELL_COLDEST            = Key("cell_min_temperature", -40.0, 120.0)        # °C
CELL_HOTTEST            = Key("cell_max_temperature", -40.0, 120.0)
COLDEST_SENSOR          = Key("cell_min_temperature_sensor", 1, 64)        # RS485: sensors for groups of cells
HOTTEST_SENSOR          = Key("cell_max_temperature_sensor", 1, 64)
COLDEST_CELL            = Key("cell_min_temperature_number", 1, 64)        # console: cells
HOTTEST_CELL            = Key("cell_max_temperature_number", 1, 64)
CELL_COUNT              = Key("cell_count", 1, 64)
BALANCING               = Key("balancing")                                 # console only

# What the module allows and wishes.
CHARGE_VOLTAGE_LIMIT    = Key("charge_voltage_limit", 10.0, 80.0)          # V
DISCHARGE_VOLTAGE_LIMIT = Key("discharge_voltage_limit", 10.0, 80.0)       # V
CHARGE_CURRENT_LIMIT    = Key("charge_current_limit", 0.0, 500.0)          # A, a magnitude
DISCHARGE_CURRENT_LIMIT = Key("discharge_current_limit", 0.0, 500.0)       # A, a magnitude
CHARGE_RATING           = Key("max_charge_current", 0.0, 500.0)            # A, console: what the maker rates it at
DISCHARGE_RATING        = Key("max_discharge_current", 0.0, 500.0)         # A
CHARGE_ENABLE           = Key("charge_enable")
DISCHARGE_ENABLE        = Key("discharge_enable")
CHARGE_FET              = Key("charge_fet_on")
DISCHARGE_FET           = Key("discharge_fet_on")
CHARGE_IMMEDIATELY_1    = Key("charge_immediately_1")
CHARGE_IMMEDIATELY_2    = Key("charge_immediately_2")
FULL_CHARGE_REQUEST     = Key("full_charge_request")

# Protections and warnings.
MODULE_OVER_VOLTAGE     = Key("module_over_voltage")
MODULE_UNDER_VOLTAGE    = Key("module_under_voltage")
CELL_UNDER_VOLTAGE      = Key("cell_under_voltage")
CHARGE_OVER_CURRENT     = Key("charge_over_current")
DISCHARGE_OVER_CURRENT  = Key("discharge_over_current")
CHARGE_OVER_TEMPERATURE = Key("charge_over_temperature")
DISCHARGE_OVER_TEMPERATURE = Key("discharge_over_temperature")
OVER_TEMPERATURE        = Key("over_temperature")
UNDER_TEMPERATURE       = Key("under_temperature")
SHORT_CIRCUIT           = Key("short_circuit")
CELL_FAULT              = Key("cell_fault")
SYSTEM_FAULT            = Key("system_fault")
HIGH_VOLTAGE            = Key("high_voltage")
LOW_VOLTAGE             = Key("low_voltage")
HIGH_TEMPERATURE        = Key("high_temperature")
LOW_TEMPERATURE         = Key("low_temperature")
LOW_CAPACITY            = Key("low_capacity")

# States in words, and lists of cells or sensors ("" for none).
VOLTAGE_STATE           = Key("voltage_state")
CHARGE_CURRENT_STATE    = Key("charge_current_state")
DISCHARGE_CURRENT_STATE = Key("discharge_current_state")
CELLS_LOW               = Key("cells_low")
CELLS_HIGH              = Key("cells_high")
CELLS_ERROR             = Key("cells_error")
TEMPERATURES_LOW        = Key("temperatures_low")
TEMPERATURES_HIGH       = Key("temperatures_high")
TEMPERATURES_ERROR      = Key("temperatures_error")

SERIAL                  = Key("serial")                                    # who it is, where Unit.serial is not set
# fmt: on

INHERITED = (
    (Key("module_charge_current_limit", 0.0, 500.0), CHARGE_CURRENT_LIMIT),
    (Key("module_discharge_current_limit", 0.0, 500.0), DISCHARGE_CURRENT_LIMIT),
    (CHARGE_VOLTAGE_LIMIT, CHARGE_VOLTAGE_LIMIT),
    (DISCHARGE_VOLTAGE_LIMIT, DISCHARGE_VOLTAGE_LIMIT),
)
"""Values of the stack (the device itself) that hold for each of its modules which does not tell its own:
a console states limits once for all. Only the first two mark a stack that does."""

STACK_ONLINE, STACK_OFFLINE = Key("modules_online", 0, 256), Key("modules_offline", 0, 256)
"""How many modules a stack has, as the device itself counts them: it knows of those that never answered."""

MEASURED = (VOLTAGE, CURRENT, SOC, REMAINING, TOTAL)
NEEDED = MEASURED[:3]

NOMINAL_CELL = 3.2
"""V of an LFP cell, for energies."""


def cell(number: int) -> Key:
    """Return the key of one cell's voltage, counted from 1."""
    return Key(f"cell_{number}_voltage", 0.5, 5.0)


def usable(values: Mapping[str, Value]) -> bool:
    """Whether a module can be part of a bank with these values."""
    return all(key.number(values) is not None for key in NEEDED)


def cell_voltages(values: Mapping[str, Value]) -> list[float | None]:
    """Return the cells' voltages in V, first cell first, None where one is not known; [] when none is told."""
    found: list[float | None] = []
    while cell(len(found) + 1).name in values:
        found.append(cell(len(found) + 1).number(values))
    return found


def cell_count(values: Mapping[str, Value]) -> int | None:
    """Return how many cells in series a module has, as far as its values tell."""
    if cells := cell_voltages(values):
        return len(cells)
    told = CELL_COUNT.number(values)
    if told is not None:
        return int(told)
    voltage, low, high = VOLTAGE.number(values), CELL_MIN.number(values), CELL_MAX.number(values)
    return None if voltage is None or low is None or high is None else round(2 * voltage / (low + high))


def remaining(values: Mapping[str, Value]) -> float | None:
    """Return what is left in Ah: as told, else by SOC and total capacity."""
    told, soc, total = REMAINING.number(values), SOC.number(values), TOTAL.number(values)
    if told is not None:
        return told
    return None if soc is None or total is None else soc * total / 100
