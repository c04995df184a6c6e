"""homeassistant/packages/, made from the tables: `python -m bridge.tools.packages` writes the folder anew.

A package is what discovery would tell Home Assistant of a device, as YAML, for those who have discovery switched off.
`python -m bridge.tools.packages FILE NAME [UNIT]` prints one of them for a device with another name, and
for the unit with that serial number: `... batteries_module cellar PPTC1234567890`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from bridge import __version__, energy, summary
from bridge.devices import SLICES
from bridge.fields import Field
from bridge.settings import Risk, Setting
from bridge.sinks import homeassistant as ha
from bridge.tools.values import merged

FOLDER = Path("homeassistant/packages")
BASE = "solarbridge"
UNIT = "SERIAL"
"""What stands in a file for the serial number of a module or unit."""

LONG = {
    "p": "platform", "name": "name", "uniq_id": "unique_id", "val_tpl": "value_template", "stat_t": "state_topic",
    "dev_cla": "device_class", "unit_of_meas": "unit_of_measurement", "stat_cla": "state_class",
    "sug_dsp_prc": "suggested_display_precision", "ent_cat": "entity_category", "en": "enabled_by_default",
    "ops": "options", "pl_on": "payload_on", "pl_off": "payload_off", "stat_on": "state_on", "stat_off": "state_off",
    "ic": "icon", "cmd_t": "command_topic", "pl_prs": "payload_press", "ptrn": "pattern", "min": "min", "max": "max",
    "step": "step", "mode": "mode", "json_attr_t": "json_attributes_topic",
}  # fmt: skip
"""Home Assistant's abbreviations, which YAML does not know, in the order in which an entry is written."""
CONTROLS = ("number", "select", "switch", "text", "button")
OFFERED = (Risk.HARMLESS, Risk.CAUTION)
"""Classes of settings that get a control. Class C is written seldom, and by someone who has read about it."""


@dataclass(frozen=True, slots=True)
class Package:
    """One file: which values of which device type, under the name that stands in it.

    `title` and `settings` are titles of the slice's documented fields, `kind` says in words what it is.
    `module` is for a unit of the device, `controls` for what can be set; `hidden` takes what is disabled at first, too.
    """

    kind: str
    device_type: str
    device: str
    title: str
    settings: str = ""
    controls: str = ""
    module: bool = False
    hidden: bool = False


ON_CABLE = "the inverter on the cable"
SETTABLE = "PI30 and PI41"
HOLDS = "its settings, on `{device}/settings`"
PACKAGES = {
    "roof": Package("an Axpert inverter", "axpert", "roof", ON_CABLE),
    "roof_settings": Package("settings of an Axpert inverter", "axpert", "roof", ON_CABLE, controls=SETTABLE),
    "roof_unit": Package("a unit of a parallel set", "axpert", "roof", "a unit of a parallel set", module=True),
    "house": Package("an LXP inverter", "lxp", "house", "the inverter", HOLDS),
    "house_settings": Package("settings of an LXP inverter", "lxp", "house", "the inverter", HOLDS, "the inverter"),
    "batteries": Package("a Pylontech stack on RS485", "pylontech", "batteries", "stack on RS485"),
    "batteries_module": Package(
        "a module of a Pylontech stack on RS485", "pylontech", "batteries", "module on RS485", module=True, hidden=True
    ),
    "garage": Package("a Pylontech stack on the console, Extra2000 too", "pylontech-extra2000", "garage", "stack"),
    "garage_module": Package(
        "a module of a Pylontech stack on the console, Extra2000 too", "pylontech-extra2000", "garage", "module",
        module=True, hidden=True,
    ),
    "bank": Package("a bank", "", "bank", ""),
}  # fmt: skip


def document(file: str, name: str = "", unit: str = UNIT) -> str:
    """Return a package's text; `name` is the device's, if it has another one than the file was made for."""
    if file == "bridge":
        return bridge_document()
    package = PACKAGES[file]
    device = name or package.device
    path = unit if package.module else ""
    site = ha.Site(BASE, __version__)
    described, rows = _described(package, device, path)
    components = _chosen(package, dict(ha.components_of(site, described)), rows)
    common = _common(site, described, package, path)
    lines = [*_head(file, package, device), *_entries(described.identity, components, common, rows)]
    return "\n".join(lines) + "\n"


def bridge_document() -> str:
    """Return the package of the bridge itself: whether it is there. What it shows has availabilities of its own."""
    site = ha.Site(BASE, __version__)
    components = {name: one for name, one in ha.bridge_components(site).items() if one["p"] != "button"}
    about = {"identifiers": [f"{BASE}_package"], "name": BASE, "manufacturer": ha.NAME, "model": "MQTT bridge"}
    lines = [
        "# The bridge itself, for Home Assistant without discovery. Made by `python -m bridge.tools.packages`.",
        *_entries(f"{BASE}_package", components, {"qos": 1, "device": about}, {}),
    ]
    return "\n".join(lines) + "\n"


def _head(file: str, package: Package, device: str) -> Iterator[str]:
    yield f"# {package.kind[0].upper()}{package.kind[1:]}, for Home Assistant without discovery."
    yield "# Made from the bridge's tables by `python -m bridge.tools.packages`; a test keeps it current."
    yield "#"
    yield f"# Its name in the bridge's configuration is taken to be {device!r}. If yours has another one:"
    yield f"""#   sed -E 's#(/|package_|"){device}#\\1YOURS#g' {file}.yaml > YOURS.yaml"""
    if package.module:
        yield f"# Replace {UNIT} by the serial number of the module or unit, one file each; the topics have it:"
        yield f"#   mosquitto_sub -v -t '{BASE}/{device}/+/availability'"
    if package.controls:
        yield "#"
        yield '# Nothing of this works before the device has `writes: true`; what says "allow" has to be named there.'
        yield '# The bridge refuses all else, and says so in "Last command". Delete what you do not want to see.'


# -- what is in it


def _described(package: Package, device: str, path: str) -> tuple[ha.Described, Mapping[str, Setting]]:
    """Return the device as discovery would describe it, and the rows behind its controls by key."""
    module = import_module(SLICES[package.device_type]) if package.device_type else None
    tables = module.documented_fields() if module is not None else {"": summary.FIELDS}
    settings = {item.key: item for item in merged(tables[package.settings])} if package.settings else {}
    fields = merged(tables[package.title])
    rows: dict[str, Setting] = {}
    if package.controls and module is not None:
        for row in module.documented_settings()[package.controls]:
            if row.setting.risk in OFFERED:
                rows.setdefault(row.setting.key, row.setting)
    described = ha.Described(
        f"{BASE}_package_{device}{f'_{path}' if path else ''}", f"{device}/{path}" if path else device,
        f"{device} {path}" if path else device, "", tuple(fields), settings=tuple(settings.values()),
        controls=tuple(rows.values()), energy=tuple(_estimated(path, fields)),
        root=not path and module is not None,
    )  # fmt: skip
    return described, rows


def _estimated(path: str, fields: Iterable[Field]) -> Iterator[Field]:
    """Return the energies the bridge may have to estimate: whether it has to depends on the model."""
    keys = [item.key for item in fields]
    told: dict[str, Field] = {}
    for meter in energy.METERS:
        if energy.meters_of(path, {meter.powers[0], *meter.needs} & set(keys)):
            told.update((item.key, item) for item in meter.fields)
    return iter(told.values())


def _chosen(
    package: Package, components: Mapping[str, ha.Component], rows: Mapping[str, Setting]
) -> dict[str, ha.Component]:
    if package.controls:
        wanted = {name for name in components if ha.key_of(name) in rows or name == "sensor_last_command"}
        return {name: one for name, one in components.items() if name in wanted}
    return {name: one for name, one in components.items() if package.hidden or one.get("en", True)}


def _common(site: ha.Site, described: ha.Described, package: Package, path: str) -> dict[str, Any]:
    """Return what every entry of a file has."""
    maker = {"axpert": "Voltronic Power", "lxp": "LuxPower", "": ha.NAME}.get(package.device_type, "Pylontech")
    about = {"identifiers": [described.identity], "name": described.name, "manufacturer": maker}
    if path:
        about["serial_number"] = path
    return {
        "availability": [{"topic": site.status}, {"topic": f"{site.base}/{described.topic}/availability"}],
        "availability_mode": "all",
        "qos": 1,
        "device": about,
    }


# -- how it is written


def _entries(
    identity: str, components: Mapping[str, ha.Component], common: Mapping[str, Any], rows: Mapping[str, Setting]
) -> Iterator[str]:
    """Yield the lines of `mqtt:`: a list for each platform. What all have is written once, and merged into the rest."""
    yield "mqtt:"
    place = common["availability"][-1]["topic"].removesuffix("/availability") if "availability" in common else ""
    first = True
    for platform in dict.fromkeys(one["p"] for one in components.values()):
        yield f"  - {platform}:"
        for name, component in components.items():
            if component["p"] != platform:
                continue
            row = rows.get(ha.key_of(name))
            if row is not None and row.risk is not Risk.HARMLESS:
                yield f"      # class {row.risk.value}: allow {' or '.join((row.key, *row.groups))}"
            told = {**component, "uniq_id": f"{identity}_{name}"}
            if platform != "button":
                told.setdefault("stat_t", f"{place}/state")
            yield from entry_lines("common", common, told, first=first)
            first = False


def entry_lines(anchor: str, common: Mapping[str, Any], component: ha.Component, *, first: bool) -> Iterator[str]:
    """Yield the lines of one entry of a platform's list.

    What all entries of a device have stands in its first one, under `anchor`, and is merged into the others.
    """
    if first:
        yield f"      - <<: &{anchor}"
        for key, value in common.items():
            yield f"          {key}: {_text(value)}"
    else:
        yield f"      - <<: *{anchor}"
    if "avty" in component:
        yield f"        availability: {_text([{'topic': one['t']} for one in component['avty']])}"
    for short, key in LONG.items():
        if short in component and short != "p":
            yield f"        {key}: {_text(component[short])}"


def _text(value: Any) -> str:
    """Return a value as JSON, which is YAML, and plain where that is the same thing."""
    if isinstance(value, str) and value.replace("/", "").replace("_", "").isalnum() and not value.isdigit():
        plain = value.isascii() and value.lower() not in ("on", "off", "yes", "no", "true", "false", "null", "y", "n")
        return value if plain else json.dumps(value, ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False)


def files() -> dict[str, str]:
    """Return the folder's files, by name."""
    return {f"{file}.yaml": document(file) for file in ("bridge", *PACKAGES)}


def main(arguments: list[str]) -> int:
    """Write the folder, or print the package that is asked for."""
    if arguments:
        if not 2 <= len(arguments) <= 3 or arguments[0] not in PACKAGES:
            print(f"expected one of {', '.join(PACKAGES)}, a device's name, and a serial number for a module or unit",
                  file=sys.stderr)  # fmt: skip
            return 2
        print(document(*arguments), end="")
        return 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
