"""Many modules, one battery: the summary of a stack.

Only modules whose last good reading is young enough count; the caller hands in None for one that is
listed but silent or too old, and it takes part in nothing but `modules_offline`. A sum over live
modules of which one does not know its part is not known either: no sum is ever short of a module.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bridge import battery as k
from bridge.fields import (
    BATTERY_VOLTAGE,
    CELL_VOLTAGE,
    CYCLES,
    FLAG,
    PERCENT,
    TEXT,
    Field,
    Level,
)
from bridge.pylontech import values as v
from bridge.pylontech.values import Values, blank, number

DIAGNOSTIC = Level.DIAGNOSTIC

RESTING = 0.2
"""A below which a stack neither fills nor empties: the resolution of two modules' current."""

# fmt: off
SOH_MIN = Field("soh_min", PERCENT, "Lowest state of health", level=DIAGNOSTIC)
CYCLES_AVERAGE = Field("cycles_average", CYCLES, "Average charge cycles", level=DIAGNOSTIC)
CELL_AVERAGE = Field("cell_average_voltage", CELL_VOLTAGE, "Average cell voltage", level=DIAGNOSTIC)
CELL_MIN_MODULE = Field("cell_min_module", TEXT, "Module with the lowest cell voltage", level=DIAGNOSTIC)
CELL_MAX_MODULE = Field("cell_max_module", TEXT, "Module with the highest cell voltage", level=DIAGNOSTIC)
COLDEST_MODULE = Field("cell_min_temperature_module", TEXT, "Module with the coldest cell", level=DIAGNOSTIC)
HOTTEST_MODULE = Field("cell_max_temperature_module", TEXT, "Module with the hottest cell", level=DIAGNOSTIC)
MODULE_SPREAD = Field("module_spread", BATTERY_VOLTAGE, "Module voltage spread", level=DIAGNOSTIC)
CHARGE_WANTED = Field("charge_immediately", FLAG, "Charge immediately", level=DIAGNOSTIC)
ALARMS = Field("alarms", TEXT, "Alarms", level=DIAGNOSTIC)
# fmt: on

FIELDS = (
    k.VOLTAGE, k.CURRENT, k.POWER, k.SOC, k.SOH, SOH_MIN,
    k.REMAINING, k.TOTAL, k.REMAINING_ENERGY, k.TOTAL_ENERGY, k.TIME_TO_FULL, k.TIME_TO_EMPTY,
    k.CYCLES, CYCLES_AVERAGE, k.TEMPERATURE, MODULE_SPREAD,
    k.CELL_MIN, CELL_MIN_MODULE, k.CELL_MIN_NUMBER, k.CELL_MAX, CELL_MAX_MODULE, k.CELL_MAX_NUMBER, k.CELL_SPREAD,
    CELL_AVERAGE, k.COLDEST, COLDEST_MODULE, k.HOTTEST, HOTTEST_MODULE,
    k.CHARGE_VOLTAGE_LIMIT, k.DISCHARGE_VOLTAGE_LIMIT, k.CHARGE_CURRENT_LIMIT, k.DISCHARGE_CURRENT_LIMIT,
    k.CHARGE_ENABLE, k.DISCHARGE_ENABLE, k.BLOCKING_CHARGE, k.BLOCKING_DISCHARGE, CHARGE_WANTED, k.FULL_CHARGE_REQUEST,
    k.ALARM, ALARMS, k.MODULES_ONLINE, k.MODULES_OFFLINE,
)  # fmt: skip
"""Every value of a stack's state; keys it shares with a module mean the same there, for the whole stack."""

ALARM_FIELDS = (
    k.MODULE_OVER_VOLTAGE, k.MODULE_UNDER_VOLTAGE, k.CELL_UNDER_VOLTAGE,
    k.CHARGE_OVER_CURRENT, k.DISCHARGE_OVER_CURRENT,
    k.CHARGE_OVER_TEMPERATURE, k.DISCHARGE_OVER_TEMPERATURE, k.CELL_FAULT, *v.EVENT_ALARMS,
)  # fmt: skip
"""The module values that raise the stack's `alarm`."""


def summary(modules: Mapping[str, Values | None]) -> Values:
    """Return the state of a stack: every key of FIELDS, None for what is not known.

    `modules` maps a module's name (its address or position) to its state, or to None when it is silent.
    Voltage and temperature are means, current, power, capacities and energies sums, `soc` is weighted
    by capacity, `cycles` the highest. A module that blocks adds 0 A to its current limit; the charge
    voltage limit is the lowest, the discharge voltage limit the highest of all.
    """
    live = {name: state for name, state in modules.items() if state is not None}
    result = blank(FIELDS)
    result[k.MODULES_ONLINE.key] = len(live)
    result[k.MODULES_OFFLINE.key] = len(modules) - len(live)
    if live:
        states = list(live.values())
        _totals(result, states)
        _energy(result, states)
        _times(result)
        _limits(result, states)
        _extremes(result, live)
        _alarms(result, live)
    return result


def _known(states: Iterable[Values], field: Field) -> list[float] | None:
    """Return the value of every state, or None when one of them does not know it."""
    found = [number(state, field) for state in states]
    complete = [value for value in found if value is not None]
    return complete if complete and len(complete) == len(found) else None


def _mean(found: list[float] | None, decimals: int) -> float | None:
    return None if found is None else round(sum(found) / len(found), decimals)


def _sum(found: list[float] | None, decimals: int = 3) -> float | None:
    return None if found is None else round(sum(found), decimals)


def remaining_capacity(state: Values) -> float | None:
    """Return what is left in a module in Ah: as reported, else by its state of charge, None when unknown."""
    reported = number(state, k.REMAINING)
    if reported is not None:
        return reported
    soc, total = number(state, k.SOC), number(state, k.TOTAL)
    return None if soc is None or total is None else round(soc * total / 100, 3)


def _totals(result: Values, states: list[Values]) -> None:
    voltages = _known(states, k.VOLTAGE)
    result[k.VOLTAGE.key] = _mean(voltages, 3)
    result[MODULE_SPREAD.key] = None if voltages is None else round(max(voltages) - min(voltages), 3)
    result[k.CURRENT.key] = _sum(_known(states, k.CURRENT))
    result[k.POWER.key] = _sum(_known(states, k.POWER), 2)
    result[k.TEMPERATURE.key] = _mean(_known(states, k.TEMPERATURE), 1)
    healths, cycles = _known(states, k.SOH), _known(states, k.CYCLES)
    result[k.SOH.key] = _mean(healths, 1)
    result[SOH_MIN.key] = None if healths is None else min(healths)
    result[k.CYCLES.key] = None if cycles is None else int(max(cycles))
    result[CYCLES_AVERAGE.key] = _mean(cycles, 1)
    left = [remaining_capacity(state) for state in states]
    remaining = None if None in left else round(sum(value for value in left if value is not None), 3)
    total = _sum(_known(states, k.TOTAL))
    result[k.REMAINING.key], result[k.TOTAL.key] = remaining, total
    if remaining is not None and total:
        result[k.SOC.key] = round(100 * remaining / total, 2)
    elif len(states) == 1:
        result[k.SOC.key] = number(states[0], k.SOC)


def cell_count(state: Values) -> int | None:
    """Return how many cells in series a module has, from its values; None when they do not tell."""
    counted = v.cell_count(state)
    if counted:
        return counted
    voltage, low, high = (number(state, field) for field in (k.VOLTAGE, k.CELL_MIN, k.CELL_MAX))
    if voltage is None or low is None or high is None or low + high <= 0:
        return None
    return round(2 * voltage / (low + high))


def _energy(result: Values, states: list[Values]) -> None:
    remaining = total = 0.0
    for state in states:
        cells, left, full = cell_count(state), remaining_capacity(state), number(state, k.TOTAL)
        if cells is None or left is None or full is None:
            return
        remaining += left * cells * k.NOMINAL_CELL / 1000
        total += full * cells * k.NOMINAL_CELL / 1000
    result[k.REMAINING_ENERGY.key] = round(remaining, 3)
    result[k.TOTAL_ENERGY.key] = round(total, 3)


def _times(result: Values) -> None:
    """Seconds to full or empty at the present current; not known while the stack rests."""
    current, left, total = (number(result, field) for field in (k.CURRENT, k.REMAINING, k.TOTAL))
    if current is None or left is None or total is None:
        return
    if current > RESTING:
        result[k.TIME_TO_FULL.key] = round(3600 * max(0.0, total - left) / current)
    elif current < -RESTING:
        result[k.TIME_TO_EMPTY.key] = round(3600 * left / -current)


def _limits(result: Values, states: list[Values]) -> None:
    charge, discharge = _known(states, k.CHARGE_VOLTAGE_LIMIT), _known(states, k.DISCHARGE_VOLTAGE_LIMIT)
    result[k.CHARGE_VOLTAGE_LIMIT.key] = None if charge is None else min(charge)
    result[k.DISCHARGE_VOLTAGE_LIMIT.key] = None if discharge is None else max(discharge)
    for enable, limit, blocking in (
        (k.CHARGE_ENABLE, k.CHARGE_CURRENT_LIMIT, k.BLOCKING_CHARGE),
        (k.DISCHARGE_ENABLE, k.DISCHARGE_CURRENT_LIMIT, k.BLOCKING_DISCHARGE),
    ):
        allowed = [state.get(enable.key) is not False for state in states]
        amperes = [number(state, limit) if may else 0.0 for state, may in zip(states, allowed, strict=True)]
        if None not in amperes:
            result[limit.key] = round(sum(value for value in amperes if value is not None), 3)
            result[blocking.key] = amperes.count(0.0)
        if not any(state.get(enable.key) is None for state in states):
            result[enable.key] = any(allowed)
    wishes = [[state.get(field.key) for state in states] for field in (k.CHARGE_IMMEDIATELY_1, k.CHARGE_IMMEDIATELY_2)]
    result[CHARGE_WANTED.key] = _any(wishes[0] + wishes[1])
    result[k.FULL_CHARGE_REQUEST.key] = _any([state.get(k.FULL_CHARGE_REQUEST.key) for state in states])


def _any(flags: Sequence[object]) -> bool | None:
    """True when one is set, False when all are known and none is, else None."""
    if any(flag is True for flag in flags):
        return True
    return False if all(flag is False for flag in flags) else None


def _extremes(result: Values, live: Mapping[str, Values]) -> None:
    for field, module, cell, pick in (
        (k.CELL_MIN, CELL_MIN_MODULE, k.CELL_MIN_NUMBER, min),
        (k.CELL_MAX, CELL_MAX_MODULE, k.CELL_MAX_NUMBER, max),
        (k.COLDEST, COLDEST_MODULE, None, min),
        (k.HOTTEST, HOTTEST_MODULE, None, max),
    ):
        found = {name: value for name, state in live.items() if (value := number(state, field)) is not None}
        if len(found) != len(live):
            continue
        value = pick(found.values())
        name = next(name for name, candidate in found.items() if candidate == value)
        result[field.key], result[module.key] = value, name
        if cell is not None:
            result[cell.key] = live[name].get(cell.key)
    low, high = number(result, k.CELL_MIN), number(result, k.CELL_MAX)
    if low is not None and high is not None:
        result[k.CELL_SPREAD.key] = round(high - low, 3)
    result[CELL_AVERAGE.key] = _average_cell(list(live.values()))


def _average_cell(states: list[Values]) -> float | None:
    voltages, cells = _known(states, k.VOLTAGE), [cell_count(state) for state in states]
    count = sum(cell for cell in cells if cell is not None)
    return None if voltages is None or None in cells or not count else round(sum(voltages) / count, 3)


def _alarms(result: Values, live: Mapping[str, Values]) -> None:
    """Name every alarm with its module, as in "2: cell_under_voltage, 3: charge_over_current"."""
    raised = [f"{name}: {field.key}" for name, state in live.items() for field in ALARM_FIELDS if state.get(field.key)]
    raised += [
        f"{name}: {told.key.key} {told.key.text(state)}"
        for name, state in live.items()
        for told in k.STATES_FAULTY
        if told.key.key in state and told.level(state)
    ]
    looked = all(any(state.get(field.key) is not None for field in ALARM_FIELDS) for state in live.values())
    if raised or looked:
        result[k.ALARM.key] = bool(raised)
        result[ALARMS.key] = ", ".join(raised)
