"""A bank's values -> the JSON that dbus-mqtt-battery takes for a Victron GX (pure).

What the driver does with a message decides what may stand in it: a key left out keeps its old value, so
each message has the same keys; null in power, voltage or SOC stops the driver for good, so those are
numbers or there is no message; a text where a number belongs ends it; true and false are ignored, so
flags are 0 and 1. `Voltages.Sum` and `Diff` come with the four extremes of `System`, or it takes them
for cells. A limit of 0 stands in `Info`: `Io` is for display only.
Source: mr-manuel/venus-os_dbus-mqtt-battery 1.0.12 (README, and what it did when it was run).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TypeAlias

from bridge import battery as k
from bridge import summary as s
from bridge.fields import Field, Value

Number: TypeAlias = float | int | None
Document: TypeAlias = dict[str, "Number | dict[str, Number | str]"]


@dataclass(frozen=True, slots=True)
class Row:
    """One key of the message: its section ("" for none), its name, the bank's value, decimals, and what it is.

    `text` marks free text. `must` a number that can never be null. `optional` a key that is there only if
    the batteries can tell it.
    """

    section: str
    name: str
    field: Field
    decimals: int = 0
    text: bool = False
    must: bool = False
    optional: bool = False


# fmt: off
ROWS = (
    Row("Dc", "Power", k.POWER, 1, must=True),
    Row("Dc", "Voltage", k.VOLTAGE, 3, must=True),
    Row("Dc", "Current", k.CURRENT, 2),
    Row("Dc", "Temperature", k.TEMPERATURE, 1),
    Row("", "Soc", k.SOC, 2, must=True),
    Row("", "Soh", k.SOH, 1, optional=True),
    Row("", "InstalledCapacity", k.TOTAL, 1),
    Row("", "Capacity", k.REMAINING, 1),
    Row("", "ConsumedAmphours", s.CONSUMED, 1),
    Row("", "TimeToGo", k.TIME_TO_EMPTY),
    Row("", "Balancing", k.BALANCING, optional=True),
    Row("Alarms", "LowVoltage", s.LOW_VOLTAGE.field),
    Row("Alarms", "HighVoltage", s.HIGH_VOLTAGE.field),
    Row("Alarms", "LowSoc", s.LOW_SOC.field),
    Row("Alarms", "HighChargeCurrent", s.HIGH_CHARGE_CURRENT.field),
    Row("Alarms", "HighDischargeCurrent", s.HIGH_DISCHARGE_CURRENT.field),
    Row("Alarms", "HighCurrent", s.HIGH_CURRENT.field),
    Row("Alarms", "CellImbalance", s.IMBALANCE.field),
    Row("Alarms", "HighChargeTemperature", s.HOT_CHARGE.field),
    Row("Alarms", "LowChargeTemperature", s.COLD_CHARGE.field),
    Row("Alarms", "LowCellVoltage", s.LOW_CELL.field),
    Row("Alarms", "HighCellVoltage", s.HIGH_CELL.field),
    Row("Alarms", "LowTemperature", s.COLD.field),
    Row("Alarms", "HighTemperature", s.HOT.field),
    Row("Alarms", "BmsCable", s.CABLE),
    Row("Alarms", "InternalFailure", s.FAILURE.field),
    Row("Info", "MaxChargeVoltage", s.CHARGE_VOLTAGE, 2, must=True),
    Row("Info", "MaxChargeCurrent", s.CHARGE_CURRENT, 1, must=True),
    Row("Info", "MaxDischargeCurrent", s.DISCHARGE_CURRENT, 1, must=True),
    Row("Info", "BatteryLowVoltage", k.DISCHARGE_VOLTAGE_LIMIT, 2),
    Row("Info", "ChargeRequest", s.CHARGE_WANTED),
    Row("History", "ChargeCycles", k.CYCLES),
    Row("System", "MinVoltageCellId", s.CELL_MIN_ID, text=True),
    Row("System", "MinCellVoltage", k.CELL_MIN, 3),
    Row("System", "MaxVoltageCellId", s.CELL_MAX_ID, text=True),
    Row("System", "MaxCellVoltage", k.CELL_MAX, 3),
    Row("System", "MinTemperatureCellId", s.COLDEST_ID, text=True),
    Row("System", "MinCellTemperature", k.COLDEST, 1),
    Row("System", "MaxTemperatureCellId", s.HOTTEST_ID, text=True),
    Row("System", "MaxCellTemperature", k.HOTTEST, 1),
    Row("System", "MOSTemperature", s.MOS_WARMTH, 1, optional=True),
    Row("System", "NrOfCellsPerBattery", s.CELLS),
    Row("System", "NrOfModulesOnline", k.MODULES_ONLINE, must=True),
    Row("System", "NrOfModulesOffline", k.MODULES_OFFLINE, must=True),
    Row("System", "NrOfModulesBlockingCharge", k.BLOCKING_CHARGE, must=True),
    Row("System", "NrOfModulesBlockingDischarge", k.BLOCKING_DISCHARGE, must=True),
)
# fmt: on


def document(
    values: Mapping[str, Value], cells: Sequence[float | None], optional: frozenset[str], *, controls: bool
) -> Document:
    """Return the message for a bank's values (every key of summary.FIELDS) and the cells it shows, in V.

    `optional` are the keys of optional rows that every message of this run has. With `controls` it carries
    `Info.MaxChargeVoltage`, by which a GX lets the battery steer its chargers; only one battery may.
    Raises ValueError where a number is missing or not finite: such a message must never be sent.
    """
    result: Document = {}
    for row in ROWS:
        if (row.optional and row.field.key not in optional) or (row.field is s.CHARGE_VOLTAGE and not controls):
            continue
        _section(result, row.section)[row.name] = _entry(row, values[row.field.key])
    charge, discharge = _numbers(values, s.CHARGE_CURRENT), _numbers(values, s.DISCHARGE_CURRENT)
    result["Io"] = {"AllowToCharge": int(charge > 0), "AllowToDischarge": int(discharge > 0)}
    if cells:
        result["Voltages"] = _voltages(cells)
    return result


def _section(result: Document, name: str) -> dict[str, Number | str]:
    if not name:
        return result  # type: ignore[return-value]
    section = result.setdefault(name, {})
    if not isinstance(section, dict):
        raise ValueError(f"{name} is a section")
    return section


def _entry(row: Row, value: Value) -> Number | str:
    """Return a value as the driver takes it. Raises ValueError for one that it must not get."""
    if row.text:
        return value if isinstance(value, str) else None
    if isinstance(value, bool):
        return int(value)
    if value is None and not row.must:
        return None
    if isinstance(value, int):
        return value
    if not isinstance(value, float) or not isfinite(value):
        raise ValueError(f"{row.section}.{row.name} cannot be {value!r}")
    return round(value, row.decimals) if row.decimals else round(value)


def _numbers(values: Mapping[str, Value], field: Field) -> float:
    value = values[field.key]
    if not isinstance(value, int | float):
        raise ValueError(f"{field.key} cannot be {value!r}")
    return value


def _voltages(cells: Sequence[float | None]) -> dict[str, Number | str]:
    """Return the cells of a bank of one module; with one of them unknown, sum and spread are unknown too."""
    known = [cell for cell in cells if cell is not None]
    whole = len(known) == len(cells)
    return {
        **{f"Cell{n}": None if cell is None else round(cell, 3) for n, cell in enumerate(cells, 1)},
        "Sum": round(sum(known), 3) if whole else None,
        "Diff": round(max(known) - min(known), 3) if whole else None,
    }
