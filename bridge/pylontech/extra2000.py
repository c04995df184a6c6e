"""The Extra2000, read over its master's console, and the topics of extra200tomqtt for people who come from it.

The console is the one of `console`, at another speed and after a login; `pwr n`, `bat n` and `info n`
of each configured module are asked. Events are looked at bit by bit, a silent module is named offline
and takes part in nothing, and no value is made up: what is not known is null.
Source: ned-kelly/extra200tomqtt, the only program known to read this model; what it alone says about
the battery is marked unconfirmed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from bridge import battery as k
from bridge import summary as s
from bridge.fields import Field
from bridge.pylontech import stack
from bridge.pylontech import values as v
from bridge.pylontech.console_cells import CELL_BALANCING
from bridge.pylontech.values import Values, number

BAUD = 19200
"""unconfirmed: the console's speed after waking; other models talk at 115200."""
Number: TypeAlias = float | int | None
Section: TypeAlias = Mapping[str, Number | str]
Message: TypeAlias = dict[str, Section | Number]

# fmt: off
ALARMS: Mapping[str, tuple[Field, ...]] = {
    "LowVoltage":            (k.LOW_VOLTAGE, k.MODULE_UNDER_VOLTAGE),
    "HighVoltage":           (k.HIGH_VOLTAGE, k.MODULE_OVER_VOLTAGE),
    "LowSoc":                (k.LOW_CAPACITY,),
    "HighChargeCurrent":     (k.CHARGE_OVER_CURRENT,),
    "HighDischargeCurrent":  (k.DISCHARGE_OVER_CURRENT,),
    "HighCurrent":           (k.SHORT_CIRCUIT,),
    "CellImbalance":         (),
    "HighChargeTemperature": (k.CHARGE_OVER_TEMPERATURE,),
    "LowChargeTemperature":  (),
    "LowCellVoltage":        (k.CELL_UNDER_VOLTAGE,),
    "LowTemperature":        (k.LOW_TEMPERATURE, k.UNDER_TEMPERATURE),
    "HighTemperature":       (k.HIGH_TEMPERATURE, k.OVER_TEMPERATURE, k.DISCHARGE_OVER_TEMPERATURE),
    "FuseBlown":             (),
    "InternalFailure":       (k.SYSTEM_FAULT, k.CELL_FAULT),
}
STATES: Mapping[str, tuple[k.Told, ...]] = {
    "LowVoltage":           s.LOW_VOLTAGE.states,
    "HighVoltage":          s.HIGH_VOLTAGE.states,
    "HighChargeCurrent":    s.HIGH_CHARGE_CURRENT.states,
    "HighDischargeCurrent": s.HIGH_DISCHARGE_CURRENT.states,
    "HighCurrent":          s.HIGH_CURRENT.states,
    "LowTemperature":       s.COLD.states,
    "HighTemperature":      s.HOT.states,
    "InternalFailure":      s.FAILURE.states,
}
"""Each alarm of the message and the module values that raise it; those without are raised by levels, or unknown.
extra200tomqtt has the first thirteen, and calls every system fault a blown fuse."""
# fmt: on
WARNING = frozenset(
    field.key for field in (k.HIGH_VOLTAGE, k.LOW_VOLTAGE, k.HIGH_TEMPERATURE, k.LOW_TEMPERATURE, k.LOW_CAPACITY)
)
"""Values that warn: level 1. By the others the battery protects itself: level 2."""

CELL_HIGH, CELL_LOW = 3.65, 2.5
IMBALANCE = 0.1
COLD, HOT = 0.0, 45.0
LOW_SOC, EMPTY_SOC = 10.0, 5.0
"""The levels of extra200tomqtt's alarms, in V, °C and %."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the chargers may do with a module or the bank: V, A and A, both positive, None when not known.

    A current of 0 forbids; `Io` in the message only repeats it, since a GX does not obey `Io`.
    """

    charge_voltage: float | None
    charge_current: float | None
    discharge_current: float | None


def raised_alarms(state: Values) -> dict[str, int | None]:
    """Return the level of every alarm: 0 none, 1 warning, 2 protecting; None when nothing tells of it."""
    levels: dict[str, int | None] = {}
    measured = _levels(state)
    for name, fields in ALARMS.items():
        known = [state.get(field.key) for field in fields]
        raised = [1 if field.key in WARNING else 2 for field, flag in zip(fields, known, strict=True) if flag is True]
        told = [0] if any(flag is not None for flag in known) else []
        told += [found for one in STATES.get(name, ()) if (found := one.level(state)) is not None]
        level = measured.get(name)
        levels[name] = max([*raised, *told, *([] if level is None else [level])], default=None)
    return levels


def _levels(state: Values) -> dict[str, int | None]:
    """Return the levels of the alarms that measured values raise by themselves, None where one is not known."""
    high, low, spread = (number(state, field) for field in (k.CELL_MAX, k.CELL_MIN, k.CELL_SPREAD))
    cold, hot = number(state, k.COLDEST), number(state, k.HOTTEST)
    inside, soc = number(state, k.TEMPERATURE), number(state, k.SOC)
    coldest = min((value for value in (cold, inside) if value is not None), default=None)
    hottest = max((value for value in (hot, inside) if value is not None), default=None)
    return {
        "HighVoltage": None if high is None else int(high > CELL_HIGH),
        "LowCellVoltage": None if low is None else int(low < CELL_LOW),
        "CellImbalance": None if spread is None else int(spread > IMBALANCE),
        "LowTemperature": None if cold is None else int(cold < COLD),
        "HighTemperature": None if hot is None else int(hot > HOT),
        "LowChargeTemperature": None if coldest is None else int(coldest < COLD),
        "HighChargeTemperature": None if hottest is None else int(hottest > HOT),
        "LowSoc": None if soc is None else 0 if soc >= LOW_SOC else 1 if soc >= EMPTY_SOC else 2,
    }


def battery_message(state: Values, limits: Limits, cells: int) -> Message | None:
    """Return the message of `{topic_base}/battery_{n}` for a module that answers; a silent one gets none.

    `state` is the module's state as `console` reads it, `cells` how many it has: the same keys stand
    there in every message, null for what is not known. None as long as power, voltage or SOC is not
    known, without which the GX driver takes no message.
    """
    numbers = range(1, cells + 1)
    balancing = {n: state.get(CELL_BALANCING.of(n).key) for n in numbers}
    system: Section = {
        **_extremes(state, _cell_name(state, k.CELL_MIN_NUMBER), _cell_name(state, k.CELL_MAX_NUMBER)),
        **_counts(1, 0, int(limits.charge_current == 0), int(limits.discharge_current == 0)),
        "MOSTemperature": number(state, k.MOS_TEMPERATURE),
        "NrOfCellsPerBattery": cells,
    }
    return _complete(state, limits, raised_alarms(state), {
        "System": system,
        "Voltages": {f"Cell{n}": number(state, field) for n, field in enumerate(v.cell_voltages(cells), 1)},
        "Balances": {f"Cell{n}": None if flag is None else int(flag is True) for n, flag in balancing.items()},
    })  # fmt: skip


def bank_message(
    modules: Mapping[str, Values | None], limits: Limits, cells: int, blocking: tuple[int, int] = (0, 0)
) -> Message | None:
    """Return the message of `{topic_base}/pylon`, None when no module answers: then nothing is published.

    `modules` maps positions to states, None for a silent one: it is counted offline and lends nothing.
    `blocking` is how many forbid charging, and discharging. SOC is weighted by capacity; the extreme
    cells carry their module, as in "M2 C7"; there are no `Voltages`, a mean would hide the bad cell.
    """
    live = [state for state in modules.values() if state is not None]
    summary = stack.summary(modules)
    each = [raised_alarms(state) for state in live]
    levels = {name: max((one[name] or 0 for one in each if one[name] is not None), default=None) for name in ALARMS}
    spread = number(summary, k.CELL_SPREAD)
    if spread is not None and spread > IMBALANCE:
        levels["CellImbalance"] = max(1, levels["CellImbalance"] or 0)
    hottest = [value for state in live if (value := number(state, k.MOS_TEMPERATURE)) is not None]
    lowest, highest = (
        None if summary[module.key] is None or name is None else f"M{summary[module.key]} {name}"
        for module, name in (
            (stack.CELL_MIN_MODULE, _cell_name(summary, k.CELL_MIN_NUMBER)),
            (stack.CELL_MAX_MODULE, _cell_name(summary, k.CELL_MAX_NUMBER)),
        )
    )
    system: Section = {
        **_extremes(summary, lowest, highest),
        **_counts(len(live), len(modules) - len(live), *blocking),
        "MOSTemperature": max(hottest, default=None),
        "NrOfCellsPerBattery": cells,
    }
    return _complete(summary, limits, levels, {"System": system})


def _cell_name(state: Values, field: Field) -> str | None:
    cell = state.get(field.key)
    return None if cell is None else f"C{cell}"


def _extremes(state: Values, lowest: str | None, highest: str | None) -> Section:
    return {
        "MinVoltageCellId": lowest,
        "MinCellVoltage": number(state, k.CELL_MIN),
        "MaxVoltageCellId": highest,
        "MaxCellVoltage": number(state, k.CELL_MAX),
        "MinCellTemperature": number(state, k.COLDEST),
        "MaxCellTemperature": number(state, k.HOTTEST),
    }


def _counts(online: int, offline: int, blocking_charge: int, blocking_discharge: int) -> Section:
    return {
        "NrOfModulesOnline": online,
        "NrOfModulesOffline": offline,
        "NrOfModulesBlockingCharge": blocking_charge,
        "NrOfModulesBlockingDischarge": blocking_discharge,
    }


def _complete(state: Values, limits: Limits, alarms: Mapping[str, int | None], rest: Message) -> Message | None:
    voltage, current, power, soc = (
        number(state, field) for field in (k.VOLTAGE, k.CURRENT, k.POWER, k.SOC)
    )
    if voltage is None or power is None or soc is None:
        return None
    total, left = number(state, k.TOTAL), stack.remaining_capacity(state)
    balancing, cycles = state.get(k.BALANCING.key), number(state, k.CYCLES)
    seconds = None if left is None or current is None or current >= 0 else round(3600 * left / -current)
    return {
        "Dc": {
            "Power": round(power, 1),
            "Voltage": round(voltage, 2),
            "Current": None if current is None else round(current, 2),
            "Temperature": number(state, k.TEMPERATURE),
        },
        "Soc": soc,
        "InstalledCapacity": None if total is None else round(total, 1),
        "Capacity": None if left is None else round(left, 1),
        "ConsumedAmphours": None if left is None or total is None else round(total - left, 1),
        "TimeToGo": seconds,
        "Balancing": None if balancing is None else int(balancing is True),
        "Alarms": dict(alarms),
        "Info": {
            "MaxChargeVoltage": limits.charge_voltage,
            "MaxChargeCurrent": limits.charge_current,
            "MaxDischargeCurrent": limits.discharge_current,
        },
        "History": {"ChargeCycles": None if cycles is None else round(cycles)},
        **rest,
        "Io": {
            "AllowToCharge": None if limits.charge_current is None else int(limits.charge_current > 0),
            "AllowToDischarge": None if limits.discharge_current is None else int(limits.discharge_current > 0),
        },
    }
