"""The values of a battery, described once: of a module, of a stack of modules, of a bank (pure).

A slice publishes modules under these keys, in these units; a bank reads them and knows no maker. A key that is
not among a module's values is one that its link cannot tell; one that is there with None is not known
now. The two are different: what a link never tells may be configured, what is not known lowers limits.
A bank believes every number only within its range, whoever checked it before: outside, it is not known.

Current and power are positive while charging. Limits are magnitudes: both current limits are positive numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import ceil

from bridge import fields as f
from bridge.fields import Field, Level, Value

DIAGNOSTIC, HIDDEN = Level.DIAGNOSTIC, Level.HIDDEN


@dataclass(frozen=True, slots=True)
class Key(Field):
    """A value that a bank reads of a module, and the range in which a number is believed (its own unit)."""

    low: float = 0.0
    high: float = 0.0

    def number(self, values: Mapping[str, Value]) -> float | None:
        """Return the number, None when it is not known or outside its range (NaN is outside of any)."""
        value = values.get(self.key)
        if not isinstance(value, int | float) or isinstance(value, bool) or not self.low <= value <= self.high:
            return None
        return float(value)

    def flag(self, values: Mapping[str, Value]) -> bool | None:
        """Return true or false, None for anything else."""
        value = values.get(self.key)
        return value if isinstance(value, bool) else None

    def text(self, values: Mapping[str, Value]) -> str:
        """Return the text, "" when it is not known."""
        value = values.get(self.key)
        return value if isinstance(value, str) else ""


# fmt: off
# Measured. Without voltage, current and SOC a module cannot be part of a bank.
VOLTAGE = Key("voltage", f.BATTERY_VOLTAGE, "Voltage", 5.0, 80.0)
CURRENT = Key("current", f.CURRENT, "Current", -500.0, 500.0)
POWER = Field("power", f.ACTIVE_POWER, "Power")
SOC = Key("soc", f.SOC, "State of charge", 0.0, 105.0)
SOH = Key("soh", f.PERCENT, "State of health", 0.0, 110.0, level=DIAGNOSTIC)
REMAINING = Key("remaining_capacity", f.CAPACITY, "Remaining capacity", 0.0, 2000.0)
TOTAL = Key("total_capacity", f.CAPACITY, "Total capacity", 0.001, 2000.0, level=DIAGNOSTIC)
CYCLES = Key("cycles", f.CYCLES, "Charge cycles", 0.0, 100_000.0, level=DIAGNOSTIC)
# unconfirmed: that the console's Tempr is the board sensor, the first of a 42h reply; it lies above the cells in both
TEMPERATURE = Key("temperature", f.TEMPERATURE, "Temperature", -40.0, 120.0)
MOS_TEMPERATURE = Key("mos_temperature", f.TEMPERATURE, "MOSFET temperature", -40.0, 150.0, level=DIAGNOSTIC)
CELL_COUNT = Key("cell_count", f.COUNT, "Cells", 1, 64, level=HIDDEN)
BALANCING = Key("balancing", f.FLAG, "Balancing", level=DIAGNOSTIC)

# The extremes among a module's cells. Places are counted from 1; a sensor sits at a group of cells.
CELL_MIN = Key("cell_min_voltage", f.CELL_VOLTAGE, "Lowest cell voltage", 0.5, 5.0)
CELL_MAX = Key("cell_max_voltage", f.CELL_VOLTAGE, "Highest cell voltage", 0.5, 5.0)
CELL_MIN_NUMBER = Key("cell_min_number", f.PLAIN, "Cell with the lowest voltage", 1, 64, level=DIAGNOSTIC)
CELL_MAX_NUMBER = Key("cell_max_number", f.PLAIN, "Cell with the highest voltage", 1, 64, level=DIAGNOSTIC)
CELL_SPREAD = Field("cell_spread", f.CELL_VOLTAGE, "Cell voltage spread")
COLDEST = Key("cell_min_temperature", f.TEMPERATURE, "Lowest cell temperature", -40.0, 120.0)
HOTTEST = Key("cell_max_temperature", f.TEMPERATURE, "Highest cell temperature", -40.0, 120.0)
COLDEST_SENSOR = Key("cell_min_temperature_sensor", f.PLAIN, "Sensor of the lowest cell temperature", 1, 64,
                     level=DIAGNOSTIC)
HOTTEST_SENSOR = Key("cell_max_temperature_sensor", f.PLAIN, "Sensor of the highest cell temperature", 1, 64,
                     level=DIAGNOSTIC)
COLDEST_CELL = Key("cell_min_temperature_number", f.PLAIN, "Cell with the lowest temperature", 1, 64, level=DIAGNOSTIC)
HOTTEST_CELL = Key("cell_max_temperature_number", f.PLAIN, "Cell with the highest temperature", 1, 64, level=DIAGNOSTIC)

# What a module allows at this moment, what it is rated at, and what it wishes.
CHARGE_VOLTAGE_LIMIT = Key("charge_voltage_limit", f.BATTERY_VOLTAGE, "Charge voltage limit", 10.0, 80.0,
                           level=DIAGNOSTIC)
DISCHARGE_VOLTAGE_LIMIT = Key("discharge_voltage_limit", f.BATTERY_VOLTAGE, "Discharge voltage limit", 10.0, 80.0,
                              level=DIAGNOSTIC)
CHARGE_CURRENT_LIMIT = Key("charge_current_limit", f.CURRENT, "Charge current limit", 0.0, 500.0, level=DIAGNOSTIC)
DISCHARGE_CURRENT_LIMIT = Key("discharge_current_limit", f.CURRENT, "Discharge current limit", 0.0, 500.0,
                              level=DIAGNOSTIC)
CHARGE_RATING = Key("max_charge_current", f.CURRENT, "Rated charge current", 0.0, 500.0, level=DIAGNOSTIC)
DISCHARGE_RATING = Key("max_discharge_current", f.CURRENT, "Rated discharge current", 0.0, 500.0, level=DIAGNOSTIC)
CHARGE_ENABLE = Key("charge_enable", f.FLAG, "Charging allowed")
DISCHARGE_ENABLE = Key("discharge_enable", f.FLAG, "Discharging allowed")
CHARGE_FET = Key("charge_fet_on", f.FLAG, "Charge MOSFET on", level=DIAGNOSTIC)
DISCHARGE_FET = Key("discharge_fet_on", f.FLAG, "Discharge MOSFET on", level=DIAGNOSTIC)
CHARGE_IMMEDIATELY_1 = Key("charge_immediately_1", f.FLAG, "Charge immediately 1", level=DIAGNOSTIC)
CHARGE_IMMEDIATELY_2 = Key("charge_immediately_2", f.FLAG, "Charge immediately 2", level=DIAGNOSTIC)
FULL_CHARGE_REQUEST = Key("full_charge_request", f.FLAG, "Full charge requested", level=DIAGNOSTIC)

# Protections and warnings.
MODULE_OVER_VOLTAGE = Key("module_over_voltage", f.PROBLEM, "Module over voltage")
MODULE_UNDER_VOLTAGE = Key("module_under_voltage", f.PROBLEM, "Module under voltage")
CELL_UNDER_VOLTAGE = Key("cell_under_voltage", f.PROBLEM, "Cell under voltage")
CHARGE_OVER_CURRENT = Key("charge_over_current", f.PROBLEM, "Charge over current")
DISCHARGE_OVER_CURRENT = Key("discharge_over_current", f.PROBLEM, "Discharge over current")
CHARGE_OVER_TEMPERATURE = Key("charge_over_temperature", f.PROBLEM, "Charge over temperature")
DISCHARGE_OVER_TEMPERATURE = Key("discharge_over_temperature", f.PROBLEM, "Discharge over temperature")
CELL_FAULT = Key("cell_fault", f.PROBLEM, "Cell fault")
OVER_TEMPERATURE = Key("over_temperature", f.PROBLEM, "Over temperature")
UNDER_TEMPERATURE = Key("under_temperature", f.PROBLEM, "Under temperature")
SHORT_CIRCUIT = Key("short_circuit", f.PROBLEM, "Short circuit")
HIGH_VOLTAGE = Key("high_voltage", f.PROBLEM, "High voltage")
LOW_VOLTAGE = Key("low_voltage", f.PROBLEM, "Low voltage")
HIGH_TEMPERATURE = Key("high_temperature", f.PROBLEM, "High temperature")
LOW_TEMPERATURE = Key("low_temperature", f.PROBLEM, "Low temperature")
LOW_CAPACITY = Key("low_capacity", f.PROBLEM, "Low capacity")
SYSTEM_FAULT = Key("system_fault", f.PROBLEM, "System fault")

# States in words, and lists of cells or sensors ("" for none).
VOLTAGE_STATE = Key("voltage_state", f.TEXT, "Voltage state", level=DIAGNOSTIC)
CHARGE_CURRENT_STATE = Key("charge_current_state", f.TEXT, "Charge current state", level=DIAGNOSTIC)
DISCHARGE_CURRENT_STATE = Key("discharge_current_state", f.TEXT, "Discharge current state", level=DIAGNOSTIC)
# of the console only: what its firmware makes of each module, and of its cells
STATE = Key("state", f.TEXT, "State")
CURRENT_STATE = Key("current_state", f.TEXT, "Current state", level=DIAGNOSTIC)
TEMPERATURE_STATE = Key("temperature_state", f.TEXT, "Temperature state", level=DIAGNOSTIC)
CELL_VOLTAGE_STATE = Key("cell_voltage_state", f.TEXT, "Cell voltage state", level=DIAGNOSTIC)
CELL_TEMPERATURE_STATE = Key("cell_temperature_state", f.TEXT, "Cell temperature state", level=DIAGNOSTIC)
MOS_TEMPERATURE_STATE = Key("mos_temperature_state", f.TEXT, "MOSFET temperature state", level=DIAGNOSTIC)
CELLS_LOW = Key("cells_low", f.TEXT, "Cells in state low", level=DIAGNOSTIC)
CELLS_HIGH = Key("cells_high", f.TEXT, "Cells in state high", level=DIAGNOSTIC)
CELLS_ERROR = Key("cells_error", f.TEXT, "Cells in state error", level=DIAGNOSTIC)
TEMPERATURES_LOW = Key("temperatures_low", f.TEXT, "Temperatures in state low", level=DIAGNOSTIC)
TEMPERATURES_HIGH = Key("temperatures_high", f.TEXT, "Temperatures in state high", level=DIAGNOSTIC)
TEMPERATURES_ERROR = Key("temperatures_error", f.TEXT, "Temperatures in state error", level=DIAGNOSTIC)

SERIAL = Key("serial", f.TEXT, "Serial number", level=DIAGNOSTIC)

# What many modules have together, in a stack or in a bank.
REMAINING_ENERGY = Field("remaining_energy", f.ENERGY_STORED, "Remaining energy")
TOTAL_ENERGY = Field("total_energy", f.ENERGY_STORED, "Total energy", level=DIAGNOSTIC)
TIME_TO_FULL = Field("time_to_full", f.DURATION, "Time to full")
TIME_TO_EMPTY = Field("time_to_empty", f.DURATION, "Time to empty")
MODULES_ONLINE = Key("modules_online", f.COUNT, "Modules online", 0, 256)
MODULES_OFFLINE = Key("modules_offline", f.COUNT, "Modules offline", 0, 256)
"""How many a stack has, as the device itself counts them: it knows of those that never answered."""
BLOCKING_CHARGE = Field("modules_blocking_charge", f.COUNT, "Modules blocking charge", level=DIAGNOSTIC)
BLOCKING_DISCHARGE = Field("modules_blocking_discharge", f.COUNT, "Modules blocking discharge", level=DIAGNOSTIC)
ALARM = Field("alarm", f.PROBLEM, "Alarm", first=True)

# Limits that a stack states once, for each of its modules.
EACH_CHARGE_LIMIT = Key("module_charge_current_limit", f.CURRENT, "Charge current limit of a module", 0.0, 500.0,
                        level=DIAGNOSTIC)
EACH_DISCHARGE_LIMIT = Key("module_discharge_current_limit", f.CURRENT, "Discharge current limit of a module", 0.0,
                           500.0, level=DIAGNOSTIC)
# fmt: on

INHERITED = (
    (EACH_CHARGE_LIMIT, CHARGE_CURRENT_LIMIT),
    (EACH_DISCHARGE_LIMIT, DISCHARGE_CURRENT_LIMIT),
    (CHARGE_VOLTAGE_LIMIT, CHARGE_VOLTAGE_LIMIT),
    (DISCHARGE_VOLTAGE_LIMIT, DISCHARGE_VOLTAGE_LIMIT),
)
"""Values of the stack (the device itself) that hold for each of its modules which does not tell its own:
a console states limits once for all. Only the first two mark a stack that does."""

MEASURED = (VOLTAGE, CURRENT, SOC, REMAINING, TOTAL)
NEEDED = MEASURED[:3]

MISREAD = 0.1
"""Cells by which a module's voltage and its highest cell may disagree, which are not measured at the same moment."""

NOMINAL_CELL = 3.2
"""V of an LFP cell: with it capacity gives the makers' own figures, 2.4 kWh for a 50 Ah module of 15 cells."""


@dataclass(frozen=True, slots=True)
class Told:
    """A state in words: which of them warn, and by which the battery protects itself."""

    key: Key
    warnings: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()

    def level(self, values: Mapping[str, Value]) -> int | None:
        """Return 0 for neither, 1 for a warning, 2 for a fault, None when the state is not known."""
        words = set(self.key.text(values).split(", "))
        if words == {""}:
            return None
        return 2 if words & set(self.faults) else 1 if words & set(self.warnings) else 0


TOO_HOT, TOO_COLD = ("over temperature",), ("under temperature",)
STATES_FAULTY = (
    Told(STATE, (), ("error",)),
    Told(VOLTAGE_STATE, (), ("over voltage", "under voltage")),
    Told(CELL_VOLTAGE_STATE, (), ("over voltage", "under voltage")),
    Told(TEMPERATURE_STATE, (), TOO_HOT + TOO_COLD),
    Told(CELL_TEMPERATURE_STATE, (), TOO_HOT + TOO_COLD),
    Told(MOS_TEMPERATURE_STATE, (), TOO_HOT + TOO_COLD),
    Told(CURRENT_STATE, (), ("charge over current", "charge over current 2", "discharge over current",
                             "discharge over current 2", "short circuit")),
)  # fmt: skip
"""Every state of a console's module that stands for a protection.
unconfirmed: the words for them are known from other programs; captures show normal modules."""


@cache
def cell(number: int) -> Key:
    """Return one cell's voltage, counted from 1."""
    return Key(f"cell_{number}_voltage", f.CELL_VOLTAGE, f"Cell {number} voltage", 0.5, 5.0, level=HIDDEN)


def usable(values: Mapping[str, Value]) -> bool:
    """Whether a module can be part of a bank with these values."""
    return all(key.number(values) is not None for key in NEEDED)


def cell_voltages(values: Mapping[str, Value]) -> list[float | None]:
    """Return the cells' voltages in V, first cell first, None where one is not known; [] when none is told."""
    found: list[float | None] = []
    while cell(len(found) + 1).key in values:
        found.append(cell(len(found) + 1).number(values))
    return found


def cell_count(values: Mapping[str, Value]) -> int | None:
    """Return how many cells in series a module has, as far as its values tell.

    Where they do not say so, the fewest that make its voltage: the charge voltage is capped by the number, and with one
    weak cell among 15 their mean would make 16 of them.
    """
    if cells := cell_voltages(values):
        return len(cells)
    told = CELL_COUNT.number(values)
    if told is not None:
        return int(told)
    voltage, high = VOLTAGE.number(values), CELL_MAX.number(values)
    return None if voltage is None or high is None else ceil(voltage / high - MISREAD)


def remaining(values: Mapping[str, Value]) -> float | None:
    """Return what is left in Ah: as told, else by SOC and total capacity."""
    told, soc, total = REMAINING.number(values), SOC.number(values), TOTAL.number(values)
    if told is not None:
        return told
    return None if soc is None or total is None else soc * total / 100


def inherited(stack: Mapping[str, Value], stack_key: Key, key: Key) -> float | None:
    """Return the limit of INHERITED that a stack states for each of its modules, None when it is not known.

    Of a current never more than its part of what the stack states for all of them together.
    """
    each, modules = stack_key.number(stack), MODULES_ONLINE.number(stack)
    whole = stack.get(key.key)
    if each is None or stack_key is key or not modules or not isinstance(whole, int | float):
        return each
    return min(each, whole / modules)
