"""What docs/ has of the tables: `python -m bridge.tools.values` (values.md), `... settings`, `... configuration`."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Any, get_type_hints

import yaml

from bridge import summary
from bridge.bank_options import Bank
from bridge.config import BankEntry, Config
from bridge.devices import SLICES, DeviceOptions, slice_of
from bridge.fields import Field, Level
from bridge.guard import Limits
from bridge.options import expected, key_of, parts_of, plain, rule_of

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

CONFIGURATION_HEAD = """# Configuration: every key

Made from the declarations that check them (`python -m bridge.tools.values configuration > docs/configuration.md`); a
test keeps it current. Most houses need few of them: [config.example.yaml](../config.example.yaml) shows those, and
`solarbridge check` prints what all are set to, and says, with the line, what goes beyond a type and a range. A key
without a default has to be there. Every device has a `name` of its own, its level in the topics, and a `type`. Curves
are all alike: see `voltage_by_soc`.
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


def configuration_document() -> str:
    """Return the page of the configuration's keys: the file's own, each device type's, a bank's."""
    places: list[tuple[str, type[Any]]] = [("the file", Config), ("`banks`", Bank)]
    places += [(f"`devices`: `type: {kind}`", slice_of(kind).Options) for kind in sorted(SLICES)]
    return "\n".join([CONFIGURATION_HEAD, *_keys(places, {DeviceOptions, BankEntry, Limits})]) + "\n"


def _keys(places: Iterable[tuple[str, type[Any]]], shown: set[type]) -> Iterable[str]:
    """Yield a table for each place, behind it those of its parts that have none yet."""
    for title, cls in places:
        if cls in shown:
            continue
        shown.add(cls)
        yield f"\n## {title}\n"
        yield "| key | default | expected | what |\n|---|---|---|---|"
        hints, parts = get_type_hints(cls), list[tuple[str, type[Any]]]()
        for item in dataclasses.fields(cls):
            rule, key = rule_of(item), key_of(item)
            if not rule.doc:  # name and type of a device, which every entry has
                continue
            parts += [(f"{title}: `{key}`", part) for part in parts_of(hints[item.name])]
            allowed = expected(hints[item.name], rule).replace(" (indented lines of key: value)", "")
            yield f"| `{key}` | {_default(item)} | {allowed} | {rule.doc} |"
        yield from _keys(parts, shown)


def _default(item: Any) -> str:
    found = item.default if item.default_factory is dataclasses.MISSING else item.default_factory()
    if found is dataclasses.MISSING:
        return ""
    text = yaml.safe_dump(plain(found), default_flow_style=True, sort_keys=False, width=1000).removesuffix("...\n")
    return f"`{text.strip()}`" if len(text) < 120 else "its keys' own"


def _table(title: str, fields: Iterable[Field]) -> list[str]:
    return [f"\n## {title}\n", "| key | unit | what | | values |\n|---|---|---|---|---|", *_rows(fields)]


def merged(fields: Iterable[Field]) -> list[Field]:
    """Return one row a key; what protocols call by the same key shares it, with the words of all."""
    known: dict[str, Field] = {}
    for item in fields:
        first = known.setdefault(item.key, item)
        known[item.key] = dataclasses.replace(first, options=tuple(dict.fromkeys((*first.options, *item.options))))
    return list(known.values())


def _rows(fields: Iterable[Field]) -> Iterable[str]:
    for item in merged(fields):
        options = ", ".join(item.options) or {"flag": "true, false", "problem": "true, false"}.get(
            item.quantity.device_class or "", ""
        )
        unit = item.quantity.unit or ""
        yield f"| `{item.key}` | {unit} | {item.name} | {LEVELS[item.level]} | {options} |"


PAGES = {"": document, "settings": settings_document, "configuration": configuration_document}

if __name__ == "__main__":
    print(PAGES["".join(sys.argv[1:])](), end="")
