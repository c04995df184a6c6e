"""homeassistant/extra200tomqtt/: YAML for the topics of extra200tomqtt: `python -m bridge.tools.extra200_package`.

The topics are those that `type: pylontech-extra2000` publishes with `topics:`, and extra200tomqtt itself. They are not
retained and say nothing when a battery falls silent, so each entity expires.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from bridge.fields import CELL_VOLTAGE, DURATION, ENERGY_STORED, Field, Level
from bridge.sinks import homeassistant as ha
from bridge.sinks.victron import ROWS, Row
from bridge.tools.packages import entry_lines

FILE = Path("homeassistant/extra200tomqtt/package.yaml")
BASE = "victron-battery-middleware"
BATTERIES, CELLS = 5, 15
EXPIRES = 120
"""Seconds; five batteries on one console take some of them."""

HEAD = f"""# The topics of extra200tomqtt in Home Assistant: {BATTERIES} batteries of {CELLS} cells, and all together.
# Made by `python -m bridge.tools.extra200_package`; a test keeps it current.
# A package: copy it into your folder packages as extra200.yaml.
#
# `topic_base` is taken to be {BASE}; if yours is another one, replace it. Delete the batteries you do not have.
# With the bridge's own discovery you need none of this: the same batteries are there already, with more values.
"""
LEFT_OUT = {
    ("Alarms", "BmsCable"),
    ("Alarms", "HighCellVoltage"),
    ("System", "MinTemperatureCellId"),
    ("System", "MaxTemperatureCellId"),
    ("Info", "ChargeRequest"),
    ("Info", "BatteryLowVoltage"),
    ("", "Soh"),
    ("", "Balancing"),
}
"""What these topics do not have."""
MAIN = {"Power", "Voltage", "Current", "Temperature", "Soc", "Capacity", "TimeToGo"}


def document() -> str:
    """Return the file's text."""
    lines = ["mqtt:"]
    for number in range(1, BATTERIES + 1):
        lines += _device(f"battery_{number}", f"Battery {number}", CELLS)
    lines += _device("pylon", "Pylon", 0)
    return HEAD + "\n".join(lines) + "\n"


def _device(topic: str, name: str, cells: int) -> Iterator[str]:
    """Yield the entries of one topic; a bank has no cells of its own."""
    identity = f"solarbridge_extra200_{topic}"
    common = {
        "state_topic": f"{BASE}/{topic}",
        "expire_after": EXPIRES,
        "device": {"identifiers": [identity], "name": name, "manufacturer": "Pylontech", "model": "Extra2000"},
    }
    components = {**_rows(), **_derived(), **_cells(cells)}
    first = True
    for platform in ("sensor", "binary_sensor"):
        yield f"  - {platform}:"
        for key, component in components.items():
            if component["p"] == platform:
                yield from entry_lines(topic, common, {**component, "uniq_id": f"{identity}_{key}"}, first=first)
                first = False


def _rows() -> dict[str, ha.Component]:
    found: dict[str, ha.Component] = {}
    for row in ROWS:
        if (row.section, row.name) in LEFT_OUT:
            continue
        key = f"{row.section}_{row.name}".strip("_").lower()
        found[key] = _alarm(row) if row.section == "Alarms" else _value(row)
    return found


def _value(row: Row) -> ha.Component:
    component = ha.entity(row.field, main=row.name in MAIN)
    component.pop("en", None)
    return {**component, "val_tpl": f"{{{{ {_path(row.section, row.name)} }}}}"}


def _alarm(row: Row) -> ha.Component:
    """Levels 1 and 2, warning and alarm, are both a problem."""
    return {
        "p": "binary_sensor", "name": row.field.name, "dev_cla": "problem", "ent_cat": "diagnostic",
        "val_tpl": f"{{% set a = {_path(row.section, row.name)} %}}{{{{ a > 0 if a is number else none }}}}",
        "pl_on": "True", "pl_off": "False",
    }  # fmt: skip


def _derived() -> dict[str, ha.Component]:
    """Return what follows from what the topics tell: energy is charge times voltage, a time is charge by current."""
    volts, amperes = _path("Dc", "Voltage"), _path("Dc", "Current")
    left, whole = _path("", "Capacity"), _path("", "InstalledCapacity")
    stored = ha.entity(Field("", ENERGY_STORED, "Energy left"), main=True)
    room = ha.entity(Field("", ENERGY_STORED, "Energy when full", level=Level.DIAGNOSTIC), main=False)
    return {
        "energy": {**stored, "val_tpl": _if_known({"v": volts, "c": left}, "(v * c / 1000) | round(2)")},
        "energy_full": {**room, "val_tpl": _if_known({"v": volts, "c": whole}, "(v * c / 1000) | round(2)")},
        "time_to_full": {
            **ha.entity(Field("", DURATION, "Time to full"), main=True),
            "val_tpl": _if_known(
                {"i": amperes, "c": left, "w": whole}, "((w - c) / i * 3600) | round if i > 0.5 else none"
            ),
        },
        "charging": {
            "p": "sensor", "name": "Charging status", "dev_cla": "enum", "ops": ["charging", "discharging", "idle"],
            "val_tpl": _if_known({"i": amperes}, "'charging' if i > 0.5 else 'discharging' if i < -0.5 else 'idle'"),
        },
    }  # fmt: skip


def _cells(cells: int) -> dict[str, ha.Component]:
    found = {}
    for number in range(1, cells + 1):
        item = Field("", CELL_VOLTAGE, f"Cell {number} voltage", level=Level.DIAGNOSTIC)
        path = _path("Voltages", f"Cell{number}")
        found[f"cell_{number}"] = {**ha.entity(item, main=False), "val_tpl": f"{{{{ {path} }}}}"}
    return found


def _path(section: str, name: str) -> str:
    return f"value_json.get('{section}', {{}}).get('{name}')" if section else f"value_json.get('{name}')"


def _if_known(values: dict[str, str], expression: str) -> str:
    """Return a template that is unknown while one of its values is."""
    sets = "".join(f"{{% set {name} = {path} %}}" for name, path in values.items())
    known = " and ".join(f"{name} is number" for name in values)
    return f"{sets}{{{{ ({expression}) if {known} else none }}}}"


def main() -> int:
    """Write the file."""
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(document(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
