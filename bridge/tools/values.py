"""docs/values.md, made from the tables that decode the values: `python -m bridge.tools.values`."""

from __future__ import annotations

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


def _table(title: str, fields: Iterable[Field]) -> list[str]:
    return [f"\n## {title}\n", "| key | unit | what | | values |\n|---|---|---|---|---|", *_rows(fields)]


def _rows(fields: Iterable[Field]) -> Iterable[str]:
    """Return one row a key; what protocols call by the same key shares it, with the words of all."""
    known: dict[str, Field] = {}
    for item in fields:
        first = known.setdefault(item.key, item)
        known[item.key] = replace(first, options=tuple(dict.fromkeys((*first.options, *item.options))))
    for item in known.values():
        options = ", ".join(item.options) or {"flag": "true, false", "problem": "true, false"}.get(
            item.quantity.device_class or "", ""
        )
        unit = item.quantity.unit or ""
        yield f"| `{item.key}` | {unit} | {item.name} | {LEVELS[item.level]} | {options} |"


if __name__ == "__main__":
    print(document(), end="")
