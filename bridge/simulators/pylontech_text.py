"""What a simulated Pylontech console prints: tables and blocks of old and new firmware.

Every function returns lines without their ends, and what they say in V, A, °C, Ah and %. Module.override replaces a
column or label by its own name, in all rows of that module; `cell_3` (mV) is the voltage of one cell.
Source: console texts in Hrabovszki1023/pylontech-console, irekzielinski/Pylontech-Battery-Monitoring,
mikee47/IOPylontech, chinezbrun/pytes_serial issue 47 (US3000D).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from bridge.simulators.pylontech_models import Model
from bridge.simulators.pylontech_stack import Module, Snapshot
from bridge.simulators.truth import Scalar

Values = dict[str, Scalar]
Numbered = Sequence[tuple[int, Snapshot]]
"""Snapshots with the number of their place."""


class Text(NamedTuple):
    """An answer, and what it says."""

    lines: list[str]
    values: Values


# fmt: off
WIDTHS = {
    "Power": 6, "Volt": 7, "Curr": 7, "Tempr": 7,
    "Tlow": 7, "Tlow.Id": 9, "Thigh": 7, "Thigh.Id": 9, "Vlow": 7, "Vlow.Id": 9, "Vhigh": 7, "Vhigh.Id": 9,
    "Base.St": 9, "Volt.St": 9, "Curr.St": 9, "Temp.St": 9, "Coulomb": 9, "Time": 21, "B.V.St": 9, "B.T.St": 9,
    "MosTempr": 9, "M.T.St": 9, "SysAlarm.St": 9,
}
"""Columns of `pwr`, in their order, and how wide each is."""
# fmt: on

IDS = frozenset(("Tlow.Id", "Thigh.Id", "Vlow.Id", "Vhigh.Id"))
MOS = frozenset(("MosTempr", "M.T.St"))
LAYOUTS = {
    "2019": frozenset(WIDTHS) - IDS - MOS - {"SysAlarm.St"},
    "c": frozenset(WIDTHS) - IDS - {"SysAlarm.St"},
    "us3000d": frozenset(WIDTHS) - {"SysAlarm.St"},
    "2024": frozenset(WIDTHS),
}
"""Firmware -> the columns of its `pwr`. The master's firmware decides for all rows."""
ROWS = {"2019": 8, "c": 16, "us3000d": 16, "2024": 16}

PROTECTIONS = (
    "BOV BHV BLV BUV POV PHV PLV PUV CBOT CBHT CBLT CBUT DBOT DBHT DBLT DBUT POT PHT "
    "COC COC2 COCA DOCA DOC DOC2 SC LCOUL"
)
RULE = " ----------------------------"
COUNTERS = (
    "Status Cnt.", "Idle Times", "COC Times", "COC2 Times", "DOC Times", "DOC2 Times", "COCA Times", "DOCA Times",
    "SC Times", "Bat OV Times", "Bat HV Times", "Bat LV Times", "Bat UV Times", "Bat SLP Times", "Pwr OV Times",
    "Pwr HV Times", "Pwr LV Times", "Pwr UV Times", "Pwr SLP Times", "COT Times", "CUT Times", "DOT Times",
    "DUT Times", "CHT Times", "CLT Times", "DHT Times", "DLT Times", "Shut Times", "Reset Times", "RV Times",
    "Input OV Times", "SOH Times", "BMICERR Times",
)  # fmt: skip
"""Counters of `stat` that stay at 0 here."""


def pwr_table(rows: Numbered, layout: str, at: datetime) -> Text:
    """Return `pwr`: one row for each place, absent ones in the old columns whatever the layout."""
    columns = [name for name in WIDTHS if name in LAYOUTS[layout]]
    old = [name for name in WIDTHS if name in LAYOUTS["2019"]]
    present = dict(rows)
    lines, values = ["".join(name.ljust(WIDTHS[name]) for name in columns)], Values()
    for number in range(1, max([ROWS[layout], *present]) + 1):
        if snap := present.get(number):
            cells = _row(number, snap, at)
            lines.append("".join(cells[name].ljust(WIDTHS[name]) for name in columns))
            values |= _measured(snap, cells, f"{snap.module.serial}/")
        else:
            absent = {"Power": str(number), "Base.St": "Absent"}
            lines.append("".join(absent.get(name, "-").ljust(WIDTHS[name]) for name in old))
    return Text(lines, values)


def _row(number: int, snap: Snapshot, at: datetime) -> dict[str, str]:
    """Return one module's cells of `pwr`, those of every layout."""
    groups = snap.temperatures[1:]
    heat = [snap.cell_temperature(i) for i in range(len(snap.cells))]
    has_mos = snap.module.model.mos_sensor
    cells = {
        "Power": str(number),
        "Volt": str(snap.voltage),
        "Curr": str(snap.current),
        "Tempr": str(100 * snap.temperatures[0]),
        "Tlow": str(100 * min(groups)),
        "Tlow.Id": str(heat.index(min(heat))),
        "Thigh": str(100 * max(groups)),
        "Thigh.Id": str(heat.index(max(heat))),
        "Vlow": str(min(snap.cells)),
        "Vlow.Id": str(snap.cells.index(min(snap.cells))),
        "Vhigh": str(max(snap.cells)),
        "Vhigh.Id": str(snap.cells.index(max(snap.cells))),
        "Base.St": snap.state,
        "Coulomb": f"{snap.soc}%",
        "Time": at.strftime("%Y-%m-%d %H:%M:%S"),
        "MosTempr": str(100 * snap.mos_temperature) if has_mos else "-",
        "M.T.St": "Normal" if has_mos else "-",
    }
    return {name: str(snap.module.override.get(name, cells.get(name, "Normal"))) for name in WIDTHS}


def _measured(snap: Snapshot, texts: Mapping[str, str], prefix: str = "") -> Values:
    """Return what a row or block says; a text that an override made no number stays a text."""
    return {
        f"{prefix}voltage": _number(texts.get("Volt", texts.get("Voltage")), 1000),
        f"{prefix}current": _number(texts.get("Curr", texts.get("Current")), 1000),
        f"{prefix}temperature": _number(texts.get("Tempr", texts.get("Temperature")), 1000),
        f"{prefix}soc": _number(texts["Coulomb"].rstrip("%"), 1),
        f"{prefix}state": texts.get("Base.St", texts.get("Basic Status")),
        f"{prefix}serial": snap.module.serial,
    }


def _number(text: str | None, divisor: int) -> Scalar:
    try:
        return int(text or "") / divisor
    except ValueError:
        return text


def pwr_block(number: int, snap: Snapshot, layout: str) -> Text:
    """Return `pwr N`."""
    module, model = snap.module, snap.module.model
    rows: dict[str, tuple[str, str]] = {"Voltage": (str(snap.voltage), "mV")}
    if layout == "us3000d":
        rows["B+B-.Volt"] = (str(snap.voltage - 11), "mV")
    rows |= {
        "Current": (str(snap.current), "mA"),
        "Temperature": (str(100 * snap.temperatures[0]), "mC"),
        "Coulomb": (str(snap.soc), "%"),
        "Total Coulomb": (str(model.capacity), "mAH"),
        "Max Voltage": (str(model.protection.module_high), "mV"),
        # a raw counter on the master, 0 on the slaves: seen on a US2000C
        "Charge Times": (str(40 * module.cycles if number == 1 else 0), ""),
        "Basic Status": (snap.state, ""),
    }
    if snap.state != "Idle":
        rows[f"{'Charge' if snap.state == 'Charge' else 'Discharge'} Sec."] = ("620", "s")
    rows |= {f"{name} Status": ("Normal", "") for name in ("Volt", "Current", "Tmpr.")}
    rows |= {"Coul. Status": ("Full" if module.full else "Normal", ""), "Soh. Status": ("Normal", "")}
    rows |= {"Heater Status": ("OFF", ""), "Protect ENA": (PROTECTIONS, "")}
    rows |= _us3000d_words(snap) if layout == "us3000d" else _event_words(module)
    rows = {label: (str(module.override.get(label, text)), unit) for label, (text, unit) in rows.items()}
    lines = [RULE, f" Power  {number}", ""]
    lines += [f" {label:<16}: {f'{text:<12}{unit}' if unit else text}" for label, (text, unit) in rows.items()]
    texts = {label: text for label, (text, _) in rows.items()}
    values = _measured(snap, texts) | {
        "total_capacity": _number(texts["Total Coulomb"], 1000),
        "power_events": module.power_events,
        "bat_events": module.bat_events,
        "system_fault": module.system_fault,
    }
    return Text([*lines, RULE], values)


def _event_words(module: Module) -> dict[str, tuple[str, str]]:
    events = module.power_events
    # 0x2000 with its name was seen on a full US2000C
    named = f"0x{events | 0x2000:X}     COULFULL" if module.full else f"0x{events:X}"
    return {
        "Bat Events": (f"0x{module.bat_events:X}", ""),
        "Power Events": (named, ""),
        "System Fault": (f"0x{module.system_fault:X}", ""),
    }


def _us3000d_words(snap: Snapshot) -> dict[str, tuple[str, str]]:
    # unconfirmed: the words behind the second group; only their labels are known
    normal = {"Bat Volt": "0x4        BVNOR", "Bat Tmpr": "0x8        BTNOR"}
    normal |= {"Pwr Volt": "0x4        PVNOR", "Pwr Tmpr": "0x8        PTNOR"}
    rows = {f"{name} Status": (text, "") for name, text in normal.items()}
    rows |= {f"{name} Status": ("0x0", "") for name in ("Pwr Curr", "Pwr Base", "Pwr Coul", "Mos Tmpr", "Env Tmpr")}
    return rows | {"System Fault": (f"0x{snap.module.system_fault:X}", ""), "Cascade Status": ("0x0", "")}


def bat_table(snap: Snapshot, layout: str) -> Text:
    """Return `bat N`: one row for each cell, counted from 0."""
    module = snap.module
    heads = {"Battery": 9, "Volt": 9, "Curr": 9, "Tempr": 9, "Base State": 13, "Volt. State": 13, "Curr. State": 13}
    heads |= dict.fromkeys(("DTemp. State", "CTemp. State") if layout == "us3000d" else ("Temp. State",), 13)
    lines = ["".join(f"{head:<{width}}" for head, width in heads.items()) + "SOC          Coulomb      BAL"]
    values = Values()
    for index, honest in enumerate(snap.cells):
        shown = module.override.get(f"cell_{index + 1}", honest)
        row = {"Battery": index, "Volt": shown, "Curr": snap.current, "Tempr": 100 * snap.cell_temperature(index)}
        row |= {"Base State": snap.state}
        texts = [str(module.override.get(head, row.get(head, "Normal"))) for head in heads]
        ends = {"SOC": f"{snap.soc}%", "Coulomb": str(snap.remaining), "BAL": "Y" if index in module.balancing else "N"}
        soc, coulomb, balancing = (str(module.override.get(name, text)) for name, text in ends.items())
        line = "".join(f"{text:<{width}}" for text, width in zip(texts, heads.values(), strict=True))
        lines.append(f"{line}{soc:<12}{coulomb} mAH      {balancing}")
        values[f"cell_{index + 1}"] = _number(texts[1], 1000)
        values[f"cell_{index + 1}_temperature"] = _number(texts[3], 1000)
    values |= {"current": _number(texts[2], 1000), "soc": _number(soc.rstrip("%"), 1)}
    return Text(lines, values)


def info_block(number: int, snap: Snapshot, cells_label: str, speed: int) -> Text:
    """Return `info N`; `cells_label` is "Cell Number", on an Extra2000 "Cell Count"."""
    module, model = snap.module, snap.module.model
    version = f"V{model.version >> 8}.{model.version & 0xFF}"
    rows = {
        "Device address": str(number),
        "Manufacturer": "Pylon",
        "Device name": model.name,
        "Board version": "V10R04",
        "Main Soft version": "B67.5.0",
        "Soft  version": version,
        "Boot  version": "V2.0",
        "Comm version": "V2.0",
        "Release Date": "24-05-13" if model.layout == "2024" else "20-12-11",
        "Barcode": module.serial,
        "": "",
        "Specification": f"{_nominal(model)}V/{model.capacity // 1000}AH",
        cells_label: str(model.cells),
        "Max Dischg Curr": f"-{1000 * model.protection.discharge}mA",
        "Max Charge Curr": f"{1000 * model.protection.charge}mA",
        "EPONPort rate": "1200",
        "Console Port rate": str(speed),
    }
    rows = {label: str(module.override.get(label, text)) for label, text in rows.items()}
    lines = [f"{label:<20}: {text}" if label else "" for label, text in rows.items()]
    return Text(lines, {"serial": rows["Barcode"], "model": rows["Device name"], "cells": rows[cells_label]})


def _nominal(model: Model) -> int:
    return 24 if model.cells < 12 else 48


def stat_block(number: int, snap: Snapshot) -> Text:
    """Return `stat N`: counters."""
    module = snap.module
    rows: dict[str, int | str] = {"Data Items": 96, "HisData Items": 1800, "Charge Cnt.": 0, "Discharge Cnt.": 911}
    rows |= {"Charge Times": 40 * module.cycles} | dict.fromkeys(COUNTERS, 0)
    rows |= {"CYCLE Times": module.cycles, "SOH": module.soh, "Pwr Percent": snap.soc}
    rows |= {"Pwr Coulomb": 3600 * snap.remaining, "Dsg Cap": module.cycles * module.model.capacity}
    rows |= dict.fromkeys(("HT@0.5C Cnt", "LT@0.5C Cnt", "HT Cnt", "LT Cnt", "LV Cnt", "LifeWarn Times"), 0)
    rows = {label: module.override.get(label, text) for label, text in rows.items()}
    lines = [f"Device address           {number}", *(f"{label:<16}: {text:>8}" for label, text in rows.items())]
    return Text(lines, {"cycles": rows["CYCLE Times"], "soh": rows["SOH"]})


def soh_table(number: int, snap: Snapshot) -> Text:
    """Return `soh N`: a count for each cell."""
    # unconfirmed: only the columns are known, not what a worn cell's line says
    lines = [f"Power   {number}", "Battery    Voltage    SOHCount   SOHStatus"]
    lines += [f"{index:<11}{raw:<11}{0:<11}Normal" for index, raw in enumerate(snap.cells)]
    return Text(lines, {f"cell_{i + 1}": raw / 1000 for i, raw in enumerate(snap.cells)})


def system_block(snaps: Sequence[Snapshot], sleeping: int) -> Text:
    """Return `pwrsys`: the whole stack."""
    cells = [raw for snap in snaps for raw in snap.cells]
    heat = [100 * t for snap in snaps for t in snap.temperatures[1:5]]
    remaining, capacity = sum(s.remaining for s in snaps), sum(s.module.model.capacity for s in snaps)
    charge = round(1000 * min(s.module.limits()[0] for s in snaps))
    discharge = round(1000 * min(s.module.limits()[1] for s in snaps))
    advice = [s.module.model.advice for s in snaps]
    highest, lowest = min(a.charge_voltage for a in advice), max(a.discharge_voltage for a in advice)
    current, count = sum(s.current for s in snaps), len(snaps)
    system: dict[str, tuple[int, str]] = {
        "Total Num": (count + sleeping, ""),
        "Present Num": (count, ""),
        "Sleep Num": (sleeping, ""),
        "System Volt": (sum(s.voltage for s in snaps) // count, "mV"),
        "System Curr": (current, "mA"),
        "System RC": (remaining, "mAH"),
        "System FCC": (capacity, "mAH"),
        "System SOC": (round(100 * remaining / capacity), "%"),
        "System SOH": (sum(s.module.soh for s in snaps) // count, "%"),
        **_extremes("voltage", cells, "mV"),
        **_extremes("temperature", heat, "mC"),
    }
    live = {"chg voltage": (highest, "mV"), "dsg voltage": (lowest, "mV")}
    one = live | {"chg current": (charge, "mA"), "dsg current": (-discharge, "mA")}
    whole = live | {"chg current": (charge * count, "mA"), "dsg current": (-discharge * count, "mA")}
    system |= {f"Recommend {name}": value for name, value in one.items()}
    word = "charging" if current > 0 else "discharging" if current < 0 else "idle"
    lines = [" Power System Information", " ---------------------------------", f" System is {word}"]
    lines += [f" {label:<25}: {f'{raw:<9}{unit}' if unit else raw}" for label, (raw, unit) in system.items()]
    lines += [f" system Recommend {name}: {raw:<9}{unit}" for name, (raw, unit) in whole.items()]
    values: Values = {label: raw for label, (raw, _) in system.items()}
    return Text(lines, values | {f"system Recommend {name}": raw for name, (raw, _) in whole.items()})


def _extremes(name: str, raws: Sequence[int], unit: str) -> dict[str, tuple[int, str]]:
    found = {"Highest": max(raws), "Average": sum(raws) // len(raws), "Lowest": min(raws)}
    return {f"{word} {name}": (raw, unit) for word, raw in found.items()}


def raw_block(snap: Snapshot) -> Text:
    """Return `getpwr`: the same for machines."""
    state = f"{snap.state}# Normal# Normal# Normal#"
    lines = [f"{snap.voltage}# {snap.current}# {100 * snap.temperatures[0]}# {snap.remaining}# {state}"]
    lines += [f"{mv}#  {100 * snap.cell_temperature(i)}# Normal# Normal#" for i, mv in enumerate(snap.cells)]
    values: Values = {f"cell_{i + 1}": mv / 1000 for i, mv in enumerate(snap.cells)}
    values |= {"voltage": snap.voltage / 1000, "current": snap.current / 1000}
    return Text([*lines, f"{snap.module.system_fault}#", f"{snap.module.cycles}#"], values)


def joined(lines: Iterable[str], end: str) -> str:
    """Return lines as one text."""
    return "".join(line + end for line in lines)
