"""docs/values.md and docs/settings.md, made from the tables: `python -m bridge.tools.values`, `... values settings`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from importlib import import_module

from bridge import summary
from bridge.devices import SLICES
from bridge.fields import Field, Level

HEAD = """# Values

Made from the tables that decode them (`python -m bridge.tools.values > docs/values.md`); a test keeps it current.
Which of them a device has depends on its model and firmware; a key that a state announces is in every message, `null`
while it is not known. Charging is positive for battery current and power, import is positive for the grid.
"""

SETTINGS_HEAD = """# Settings

Made from the tables that check them (`python -m bridge.tools.values settings > docs/settings.md`); a test keeps it
current. The name is the end of the set topic, `solarbridge/{device}/set/{name}`, and the key under which the settings
topic (of an axpert: the state topic) shows what is set. With `writes: true` those of class A can be set; of class B and
C only the ones that are named under `allow:`, one by one or by a group's name. A wrong value of class B costs comfort
or money, of class C batteries or appliances. What is not here is never written.
"""

LEVELS = {Level.MAIN: "", Level.DIAGNOSTIC: "diagnostic", Level.HIDDEN: "hidden"}


def document() -> str:
    """Return the whole page: for each device type what `documented_fields()` of its slice lists, and a bank's state."""
    parts = [HEAD]
    for device_type in sorted(SLICES):
        module = import_module(SLICES[device_type])
        for title, fields in module.documented_fields().items():
            parts += _table(f"`{device_type}`: {title}", fields)
    parts += _table("a bank", summary.FIELDS)
    return "\n".join(parts) + "\n"


def settings_document() -> str:
    """Return the page of settings: for each device type what `documented_settings()` of its slice lists, if it does."""
    parts = [SETTINGS_HEAD]
    for device_type in sorted(SLICES):
        module = import_module(SLICES[device_type])
        found = module.documented_settings() if hasattr(module, "documented_settings") else {}
        for title, rows in found.items():
            parts.append(f"\n## `{device_type}`: {title}\n")
            parts.append("| name | class | what | unit | values | conditions | group | where |")
            parts.append("|---|---|---|---|---|---|---|---|")
            for row in rows:
                one = row.setting
                cells = (f"`{one.key}`", one.risk.value, one.name, one.quantity.unit or "", row.allowed, row.conditions,
                         ", ".join(f"`{group}`" for group in one.groups), row.place)  # fmt: skip
                parts.append(f"| {' | '.join(cells)} |")
    return "\n".join(parts) + "\n"


def _table(title: str, fields: Iterable[Field]) -> list[str]:
    return [f"\n## {title}\n", "| key | unit | what | | values |\n|---|---|---|---|---|", *_rows(fields)]


def merged(fields: Iterable[Field]) -> list[Field]:
    """Return one row a key; what protocols call by the same key shares it, with the words of all."""
    known: dict[str, Field] = {}
    for item in fields:
        first = known.setdefault(item.key, item)
        known[item.key] = replace(first, options=tuple(dict.fromkeys((*first.options, *item.options))))
    return list(known.values())


def _rows(fields: Iterable[Field]) -> Iterable[str]:
    for item in merged(fields):
        options = ", ".join(item.options) or {"flag": "true, false", "problem": "true, false"}.get(
            item.quantity.device_class or "", ""
        )
        unit = item.quantity.unit or ""
        yield f"| `{item.key}` | {unit} | {item.name} | {LEVELS[item.level]} | {options} |"


if __name__ == "__main__":
    print(settings_document() if sys.argv[1:] == ["settings"] else document(), end="")
