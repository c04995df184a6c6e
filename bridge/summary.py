"""The state of a bank: its values, its alarms, and how both come of its live modules (pure).

Voltage and temperature are means, current, power, capacities and energies sums, the state of charge is
weighted by capacity. A sum or an extreme of which one live module does not know its part is not known:
no sum is ever short of a module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from bridge import battery as k
from bridge.fields import (
    CAPACITY,
    ENUM,
    FLAG,
    PLAIN,
    PROBLEM,
    TEXT,
    Field,
    Level,
    Value,
)
from bridge.guard import Felt, Levels

Values: TypeAlias = dict[str, Value]
States: TypeAlias = Mapping[str, Mapping[str, Value]]
"""The values of each live module by its name in the bank, "M1" and so on."""

DIAGNOSTIC = Level.DIAGNOSTIC
WAITING, PUBLISHING, SILENT = "waiting", "publishing", "silent"

# fmt: off
PHASE = Field("phase", ENUM, "Publishing", options=(WAITING, PUBLISHING, SILENT))
WAITING_FOR = Field("waiting_for", TEXT, "Waiting for", level=DIAGNOSTIC)
MOS_WARMTH = replace(k.MOS_TEMPERATURE, name="Highest MOSFET temperature")
CONSUMED = Field("consumed_capacity", CAPACITY, "Consumed capacity", level=DIAGNOSTIC)
CELL_MIN_ID = Field("cell_min_id", TEXT, "Cell with the lowest voltage", level=DIAGNOSTIC)
CELL_MAX_ID = Field("cell_max_id", TEXT, "Cell with the highest voltage", level=DIAGNOSTIC)
COLDEST_ID = Field("cell_min_temperature_id", TEXT, "Place of the lowest cell temperature", level=DIAGNOSTIC)
HOTTEST_ID = Field("cell_max_temperature_id", TEXT, "Place of the highest cell temperature", level=DIAGNOSTIC)
CELLS = replace(k.CELL_COUNT, name="Cells in series", level=DIAGNOSTIC)
CHARGE_VOLTAGE = replace(k.CHARGE_VOLTAGE_LIMIT, level=Level.MAIN)
CHARGE_VOLTAGE_WHY = Field("charge_voltage_reason", TEXT, "Reason of the charge voltage limit")
CHARGE_CURRENT = replace(k.CHARGE_CURRENT_LIMIT, level=Level.MAIN)
CHARGE_CURRENT_WHY = Field("charge_current_reason", TEXT, "Reason of the charge current limit")
DISCHARGE_CURRENT = replace(k.DISCHARGE_CURRENT_LIMIT, level=Level.MAIN)
DISCHARGE_CURRENT_WHY = Field("discharge_current_reason", TEXT, "Reason of the discharge current limit")
CHARGE_WANTED = Field("charge_request", FLAG, "Charge requested", level=DIAGNOSTIC)
MODULES = Field("modules", TEXT, "Modules by name", level=DIAGNOSTIC)
DUPLICATES = Field("duplicate_modules", TEXT, "Modules read twice", level=DIAGNOSTIC)
OTHER_PUBLISHER = Field("other_publisher", PROBLEM, "Another publisher on the topic")
# fmt: on

RESTING = 0.2
"""A for each module below which it neither fills nor empties."""


# -- alarms ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Alarm:
    """One alarm: 0 none, 1 warning, 2 alarm, the highest of all modules; None when nothing tells of it.

    `protecting` flags raise it to 2, `warning` flags to 1, and so does a list of cells or sensors that is
    not empty. `states` in words have levels of their own. `measured` judges what a module measures.
    """

    field: Field
    protecting: tuple[k.Key, ...] = ()
    warning: tuple[k.Key, ...] = ()
    listed: tuple[k.Key, ...] = ()
    states: tuple[k.Told, ...] = ()
    measured: Callable[[Mapping[str, Value], Felt, Levels], int | None] | None = None


def _named(key: str, name: str) -> Field:
    return Field(f"alarm_{key}", PLAIN, f"{name} alarm", level=DIAGNOSTIC)


def _above(value: float | None, levels: Sequence[float]) -> int | None:
    return None if value is None else sum(value >= level for level in levels)


def _below(value: float | None, levels: Sequence[float]) -> int | None:
    return None if value is None else sum(value <= level for level in levels)


def _low_soc(_: Mapping[str, Value], felt: Felt, levels: Levels) -> int | None:
    return _below(felt.soc_low, levels.low_soc)


def _spread(values: Mapping[str, Value], _: Felt, levels: Levels) -> int | None:
    low, high = k.CELL_MIN.number(values), k.CELL_MAX.number(values)
    return None if low is None or high is None else _above(round(high - low, 3), levels.imbalance)


def _low_cell(_: Mapping[str, Value], felt: Felt, levels: Levels) -> int | None:
    return _below(felt.cell_low, levels.low_cell)


def _high_cell(values: Mapping[str, Value], felt: Felt, levels: Levels) -> int | None:
    """No bit tells of a cell's over voltage; its state does, and the charge MOSFET that opens over it."""
    if k.CELLS_HIGH.text(values) and k.CHARGE_FET.flag(values) is False:
        return 2
    return _above(felt.cell_high, levels.high_cell)


def _cold(_: Mapping[str, Value], felt: Felt, levels: Levels) -> int | None:
    return _below(felt.coldest, levels.low_temperature)


def _hot(_: Mapping[str, Value], felt: Felt, levels: Levels) -> int | None:
    return _above(felt.hottest, levels.high_temperature)


def _errors(values: Mapping[str, Value], _: Felt, __: Levels) -> int | None:
    """A sensor that is missing, a cell that cannot be read, a state that is none of those there are."""
    lists = (k.CELLS_ERROR.text(values), k.TEMPERATURES_ERROR.text(values))
    states = (k.VOLTAGE_STATE, k.CHARGE_CURRENT_STATE, k.DISCHARGE_CURRENT_STATE)
    return 2 if any(lists) or any(key.text(values) == "error" for key in states) else None


WARMTHS = (k.TEMPERATURE_STATE, k.CELL_TEMPERATURE_STATE, k.MOS_TEMPERATURE_STATE)
# fmt: off
LOW_VOLTAGE = Alarm(_named("low_voltage", "Low voltage"), (k.MODULE_UNDER_VOLTAGE,), (k.LOW_VOLTAGE,),
                    states=(k.Told(k.VOLTAGE_STATE, ("low",), ("under voltage",)),))
HIGH_VOLTAGE = Alarm(_named("high_voltage", "High voltage"), (k.MODULE_OVER_VOLTAGE,), (k.HIGH_VOLTAGE,),
                     states=(k.Told(k.VOLTAGE_STATE, ("high",), ("over voltage",)),))
LOW_SOC = Alarm(_named("low_soc", "Low state of charge"), (),
                (k.LOW_CAPACITY, k.CHARGE_IMMEDIATELY_1, k.CHARGE_IMMEDIATELY_2), measured=_low_soc)
HIGH_CHARGE_CURRENT = Alarm(_named("high_charge_current", "High charge current"), (k.CHARGE_OVER_CURRENT,),
                            states=(k.Told(k.CHARGE_CURRENT_STATE, ("high", "low")),
                                    k.Told(k.CURRENT_STATE, ("charge current warning",),
                                           ("charge over current", "charge over current 2"))))
HIGH_DISCHARGE_CURRENT = Alarm(_named("high_discharge_current", "High discharge current"), (k.DISCHARGE_OVER_CURRENT,),
                               states=(k.Told(k.DISCHARGE_CURRENT_STATE, ("high", "low")),
                                       k.Told(k.CURRENT_STATE, ("discharge current warning",),
                                              ("discharge over current", "discharge over current 2"))))
HIGH_CURRENT = Alarm(_named("high_current", "High current"), (k.SHORT_CIRCUIT,),
                     states=(k.Told(k.CURRENT_STATE, ("high",), ("short circuit",)),))
IMBALANCE = Alarm(_named("cell_imbalance", "Cell imbalance"), measured=_spread)
LOW_CELL = Alarm(_named("low_cell_voltage", "Low cell voltage"), (k.CELL_UNDER_VOLTAGE,), (),
                 (k.CELLS_LOW,), (k.Told(k.CELL_VOLTAGE_STATE, ("low",), ("under voltage",)),), _low_cell)
HIGH_CELL = Alarm(_named("high_cell_voltage", "High cell voltage"), (), (), (k.CELLS_HIGH,),
                  (k.Told(k.CELL_VOLTAGE_STATE, ("high",), ("over voltage",)),), _high_cell)
COLD = Alarm(_named("low_temperature", "Low temperature"), (k.UNDER_TEMPERATURE,), (k.LOW_TEMPERATURE,),
             (k.TEMPERATURES_LOW,), tuple(k.Told(key, ("low",), k.TOO_COLD) for key in WARMTHS), _cold)
HOT = Alarm(_named("high_temperature", "High temperature"), (k.OVER_TEMPERATURE, k.DISCHARGE_OVER_TEMPERATURE),
            (k.HIGH_TEMPERATURE,), (k.TEMPERATURES_HIGH,),
            tuple(k.Told(key, ("high",), k.TOO_HOT) for key in WARMTHS), _hot)
FAILURE = Alarm(_named("internal_failure", "Internal failure"), (k.SYSTEM_FAULT, k.CELL_FAULT),
                states=(k.Told(k.STATE, (), ("error",)),), measured=_errors)
COLD_CHARGE = Alarm(_named("low_charge_temperature", "Low charge temperature"))
HOT_CHARGE = Alarm(_named("high_charge_temperature", "High charge temperature"), (k.CHARGE_OVER_TEMPERATURE,))
# fmt: on
ALARMS = (
    LOW_VOLTAGE, HIGH_VOLTAGE, LOW_SOC, HIGH_CHARGE_CURRENT, HIGH_DISCHARGE_CURRENT, HIGH_CURRENT, IMBALANCE,
    LOW_CELL, HIGH_CELL, COLD, HOT, COLD_CHARGE, HOT_CHARGE, FAILURE,
)  # fmt: skip
WHILE_CHARGING = ((COLD, COLD_CHARGE), (HOT, HOT_CHARGE))
"""A temperature that warns does so for charging as well, while there is any."""
CABLE = _named("cable", "Cable")
"""Modules that do not answer: 1 while others do, 2 when none does."""

FIELDS = (
    PHASE, WAITING_FOR, k.VOLTAGE, k.CURRENT, k.POWER, k.SOC, k.SOH, k.TEMPERATURE, MOS_WARMTH,
    k.REMAINING, k.TOTAL, CONSUMED, k.REMAINING_ENERGY, k.TOTAL_ENERGY, k.TIME_TO_FULL, k.TIME_TO_EMPTY, k.CYCLES,
    k.CELL_MIN, CELL_MIN_ID, k.CELL_MAX, CELL_MAX_ID, k.COLDEST, COLDEST_ID, k.HOTTEST, HOTTEST_ID, CELLS, k.BALANCING,
    CHARGE_VOLTAGE, CHARGE_VOLTAGE_WHY, CHARGE_CURRENT, CHARGE_CURRENT_WHY,
    DISCHARGE_CURRENT, DISCHARGE_CURRENT_WHY, k.DISCHARGE_VOLTAGE_LIMIT, CHARGE_WANTED, k.FULL_CHARGE_REQUEST,
    k.MODULES_ONLINE, k.MODULES_OFFLINE, k.BLOCKING_CHARGE, k.BLOCKING_DISCHARGE, MODULES, DUPLICATES, OTHER_PUBLISHER,
    k.ALARM, *(alarm.field for alarm in ALARMS), CABLE,
)  # fmt: skip
"""Every value of a bank's state."""


def alarm_level(alarm: Alarm, values: Mapping[str, Value], felt: Felt, levels: Levels) -> int | None:
    """Return one module's level of an alarm; None when nothing tells of it."""
    told: list[int] = []
    for keys, level in ((alarm.protecting, 2), (alarm.warning, 1)):
        told += [level if flag else 0 for key in keys if (flag := key.flag(values)) is not None]
    told += [1 if key.text(values) else 0 for key in alarm.listed if values.get(key.key) is not None]
    told += [found for state in alarm.states if (found := state.level(values)) is not None]
    if alarm.measured is not None and (level_measured := alarm.measured(values, felt, levels)) is not None:
        told.append(level_measured)
    return max(told, default=None)


def put_alarms(state: Values, states: States, felt: Mapping[str, Felt], levels: Levels, offline: int) -> None:
    """Fill in the alarms: each by itself, the highest level among the modules."""
    found: dict[str, list[int]] = {alarm.field.key: [] for alarm in ALARMS}
    for name, values in states.items():
        each = {alarm.field.key: alarm_level(alarm, values, felt[name], levels) for alarm in ALARMS}
        charging = (k.CURRENT.number(values) or 0.0) > RESTING
        for general, charge in WHILE_CHARGING:
            told = (each[charge.field.key], (each[general.field.key] or 0) if charging else 0)
            each[charge.field.key] = max(level for level in told if level is not None)
        for key, level in each.items():
            found[key] += [] if level is None else [level]
    state.update((key, max(told, default=None)) for key, told in found.items())
    state[CABLE.key] = 1 if offline else 0
    state[k.ALARM.key] = any(state[key] for key in (*found, CABLE.key))


# -- sums, means and extremes ------------------------------------------------------------------------------------------


def known(states: States, read: Callable[[Mapping[str, Value]], float | None]) -> list[float]:
    """Return the value of every module, or [] when one of them does not know it."""
    found = [read(values) for values in states.values()]
    complete = [value for value in found if value is not None]
    return complete if len(complete) == len(found) else []


def any_flag(flags: Iterable[bool | None]) -> bool | None:
    """Return True when one is set, False when one is known and none set, else None."""
    told = [flag for flag in flags if flag is not None]
    return any(told) if told else None


def put_totals(state: Values, states: States) -> None:
    """Fill in what the bank measures as a whole."""
    voltages, currents = known(states, k.VOLTAGE.number), known(states, k.CURRENT.number)
    state[k.VOLTAGE.key] = round(sum(voltages) / len(voltages), 3)
    state[k.CURRENT.key] = round(sum(currents), 3)
    state[k.POWER.key] = round(sum(volts * amperes for volts, amperes in zip(voltages, currents, strict=True)), 2)
    left, total = known(states, k.remaining), known(states, k.TOTAL.number)
    if left and total:
        state[k.REMAINING.key], state[k.TOTAL.key] = round(sum(left), 3), round(sum(total), 3)
        state[CONSUMED.key] = round(max(0.0, sum(total) - sum(left)), 3)
        soc = 100 * sum(left) / sum(total)
    else:
        shares = known(states, k.SOC.number)
        soc = sum(shares) / len(shares)
    state[k.SOC.key] = round(min(100.0, soc), 2)
    for field, pick in ((k.SOH, _mean), (k.TEMPERATURE, _mean), (MOS_WARMTH, max), (k.CYCLES, max)):
        found = known(states, field.number)
        state[field.key] = pick(found) if found else None
    state[k.BALANCING.key] = any_flag(k.BALANCING.flag(values) for values in states.values())
    counts = known(states, k.cell_count)
    state[CELLS.key] = int(min(counts)) if counts else None
    _put_energies(state, states)
    _put_times(state, len(states))


def _mean(found: list[float]) -> float:
    return round(sum(found) / len(found), 1)


def _put_energies(state: Values, states: States) -> None:
    cells, left, total = known(states, k.cell_count), known(states, k.remaining), known(states, k.TOTAL.number)
    if cells and left and total:
        for field, charges in ((k.REMAINING_ENERGY, left), (k.TOTAL_ENERGY, total)):
            hours = sum(charge * count for charge, count in zip(charges, cells, strict=True))
            state[field.key] = round(hours * k.NOMINAL_CELL / 1000, 3)


def _put_times(state: Values, modules: int) -> None:
    """Seconds to full or empty at the present current; not known while the bank rests."""
    current, left, consumed = (state[field.key] for field in (k.CURRENT, k.REMAINING, CONSUMED))
    if not isinstance(current, float) or not isinstance(left, float) or not isinstance(consumed, float):
        return
    if current > RESTING * modules:
        state[k.TIME_TO_FULL.key] = round(3600 * consumed / current)
    elif current < -RESTING * modules:
        state[k.TIME_TO_EMPTY.key] = round(3600 * left / -current)


def put_extremes(state: Values, states: States) -> None:
    """Fill in the lowest and highest cell and temperature, each with its place: "M2 C07", "M2 T3"."""
    for field, place, pick, numbered in (
        (k.CELL_MIN, CELL_MIN_ID, min, ((k.CELL_MIN_NUMBER, "C{:02d}"),)),
        (k.CELL_MAX, CELL_MAX_ID, max, ((k.CELL_MAX_NUMBER, "C{:02d}"),)),
        (k.COLDEST, COLDEST_ID, min, ((k.COLDEST_SENSOR, "T{}"), (k.COLDEST_CELL, "C{:02d}"))),
        (k.HOTTEST, HOTTEST_ID, max, ((k.HOTTEST_SENSOR, "T{}"), (k.HOTTEST_CELL, "C{:02d}"))),
    ):
        found = known(states, field.number)
        if not found:
            continue
        value = pick(found)
        name = next(name for name, values in states.items() if field.number(values) == value)
        where = [
            form.format(int(number)) for one, form in numbered if (number := one.number(states[name])) is not None
        ]
        state[field.key], state[place.key] = value, " ".join([name, *where[:1]])
