"""What Home Assistant 2025.4 to 2026.11 takes of a device message, written down from its documentation and from what
running cores said; not from our code. `complaints` lists what a message does wrong."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

SHORT = {
    "dev": "device", "o": "origin", "cmps": "components", "stat_t": "state_topic", "avty": "availability",
    "avty_mode": "availability_mode", "p": "platform", "uniq_id": "unique_id", "val_tpl": "value_template",
    "dev_cla": "device_class", "unit_of_meas": "unit_of_measurement", "stat_cla": "state_class",
    "sug_dsp_prc": "suggested_display_precision", "ent_cat": "entity_category", "en": "enabled_by_default",
    "ops": "options", "pl_on": "payload_on", "pl_off": "payload_off", "stat_on": "state_on", "stat_off": "state_off",
    "ic": "icon", "cmd_t": "command_topic", "pl_prs": "payload_press", "ptrn": "pattern",
    "json_attr_t": "json_attributes_topic", "t": "topic",
}  # fmt: skip
DEVICE_SHORT = {
    "ids": "identifiers", "mf": "manufacturer", "mdl": "model", "sn": "serial_number", "sw": "sw_version",
}  # fmt: skip

TOP = {"device", "origin", "components", "state_topic", "availability", "availability_mode", "qos"}
DEVICE = {"identifiers", "name", "manufacturer", "model", "serial_number", "sw_version", "via_device"}
EVERY = {"platform", "unique_id", "name", "entity_category", "enabled_by_default", "icon", "availability", "qos"}
KEYS = {
    "sensor": {"state_topic", "value_template", "device_class", "unit_of_measurement", "state_class", "options",
               "suggested_display_precision", "json_attributes_topic"},
    "binary_sensor": {"state_topic", "value_template", "device_class", "payload_on", "payload_off"},
    "number": {"state_topic", "value_template", "command_topic", "min", "max", "step", "mode", "device_class",
               "unit_of_measurement"},
    "select": {"state_topic", "value_template", "command_topic", "options"},
    "switch": {"state_topic", "value_template", "command_topic", "payload_on", "payload_off", "state_on", "state_off"},
    "button": {"command_topic", "payload_press"},
    "text": {"state_topic", "value_template", "command_topic", "min", "max", "pattern"},
    "time": {"state_topic", "value_template", "command_topic"},
}  # fmt: skip
NEWER_THAN_THE_FLOOR = {"time"}

CLASSES = {
    # device class: units, state classes
    "voltage": ({"V", "mV"}, {"measurement", None}),
    "current": ({"A", "mA"}, {"measurement", None}),
    "power": ({"W", "kW"}, {"measurement", None}),
    "apparent_power": ({"VA"}, {"measurement", None}),
    "reactive_power": ({"var"}, {"measurement", None}),
    "frequency": ({"Hz"}, {"measurement", None}),
    "temperature": ({"°C"}, {"measurement", None}),
    "battery": ({"%"}, {"measurement", None}),
    "power_factor": ({"%", None}, {"measurement", None}),
    "energy": ({"kWh", "Wh"}, {"total", "total_increasing"}),
    "energy_storage": ({"kWh", "Wh"}, {"measurement"}),
    "duration": ({"s", "min", "h", "d"}, {"measurement", "total_increasing", None}),
    "data_size": ({"KiB"}, {"measurement"}),
    "timestamp": ({None}, {None}),
    "enum": ({None}, {None}),
}
BINARY_CLASSES = {None, "problem", "connectivity"}
IDENTITY = re.compile(r"[A-Za-z0-9_-]{1,64}")


def expanded(payload: bytes) -> dict[str, Any]:
    """Return a message with its abbreviations written out, as Home Assistant does; JSON's own traps refused."""
    message = json.loads(payload, parse_constant=lambda name: _refuse(name))
    result = {SHORT.get(key, key): value for key, value in message.items()}
    result["device"] = {DEVICE_SHORT.get(key, key): value for key, value in result.get("device", {}).items()}
    result["components"] = {
        name: {SHORT.get(key, key): value for key, value in component.items()}
        for name, component in result.get("components", {}).items()
    }
    return result


def _refuse(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def complaints(topic: str, payload: bytes, *, newest: bool = False) -> list[str]:
    """Return what is wrong with a device message; `newest` allows what the floor does not know."""
    return list(_complaints(topic, expanded(payload), newest=newest))


def _complaints(topic: str, message: dict[str, Any], *, newest: bool) -> Iterator[str]:
    levels = topic.split("/")
    if levels[-3:-2] != ["device"] or levels[-1] != "config" or not IDENTITY.fullmatch(levels[-2]):
        yield f"topic {topic}"
    if unknown := message.keys() - TOP:
        yield f"top-level keys {unknown}"
    if not message.get("origin", {}).get("name") or message["origin"].keys() - {"name", "sw"}:
        yield "origin"
    device = message["device"]
    if device.keys() - DEVICE or not device.get("identifiers") or not device.get("name"):
        yield f"device {device}"
    for key, text in device.items():
        for one in text if isinstance(text, list) else [text]:
            if not isinstance(one, str) or not one or not one.isprintable() or len(one) > 100:
                yield f"device.{key} {one!r}"
    if any(not IDENTITY.fullmatch(one) for one in (*device["identifiers"], device.get("via_device", "x"))):
        yield "an identifier"
    if message.get("via_device") in device["identifiers"]:
        yield "its own parent"
    topics = [one.get("t") for one in message.get("availability", [])]
    if "availability" in message and (message.get("availability_mode") != "all" or len(topics) != 2):
        yield "availability"
    taken: Counter[tuple[str, str]] = Counter()
    names: Counter[str] = Counter()
    for name, component in message["components"].items():
        if component.keys() == {"platform"}:
            continue
        taken[component.get("platform", ""), component.get("unique_id", "")] += 1
        names[str(component.get("name", "")).lower()] += 1
        for text in _component(component, message, newest=newest):
            yield f"{name}: {text}"
    yield from (f"unique id {one} twice" for one, count in taken.items() if count > 1)
    yield from (f"name {one} twice" for one, count in names.items() if count > 1)
    plain = [one for one in message["components"].values() if "name" in one and "entity_category" not in one]
    if len(plain) > 20:
        yield f"{len(plain)} entities without a category"


def _component(component: dict[str, Any], message: dict[str, Any], *, newest: bool) -> Iterator[str]:
    platform = component.get("platform")
    if platform not in KEYS or (platform in NEWER_THAN_THE_FLOOR and not newest):
        yield f"platform {platform}"
        return
    if unknown := component.keys() - KEYS[platform] - EVERY:
        yield f"keys {unknown}"
    if not re.fullmatch("[A-Za-z0-9_-]{1,130}", str(component.get("unique_id", ""))):
        yield "unique_id"
    if not component.get("name") or len(component["name"]) > 100:
        yield "name"
    if any(value is None for value in component.values()):
        yield "null"
    if component.get("entity_category") not in (None, "diagnostic", "config"):
        yield "category"
    controls = platform in ("number", "select", "switch", "button", "text", "time")
    if (component.get("entity_category") == "config") != controls:
        yield "config is for controls, and all of them"
    if platform != "button" and not (component.get("state_topic") or message.get("state_topic")):
        yield "no state topic"
    if controls and "command_topic" not in component:
        yield "no command topic"
    for key in ("state_topic", "command_topic", "json_attributes_topic"):
        if set(component.get(key) or "") & set("+#\0"):
            yield f"{key} has a wildcard"
    if "icon" in component and (component.get("device_class") or not component["icon"].startswith("mdi:")):
        yield "an icon where the class gives one"
    yield from {"sensor": _sensor, "binary_sensor": _binary, "number": _number, "text": _text,
                "select": _options}.get(platform, _nothing)(component)  # fmt: skip


def _nothing(_: dict[str, Any]) -> Iterator[str]:
    return iter(())


def _sensor(component: dict[str, Any]) -> Iterator[str]:
    device_class, unit = component.get("device_class"), component.get("unit_of_measurement")
    state_class = component.get("state_class")
    if device_class is not None:
        units, state_classes = CLASSES.get(device_class, (set(), set()))
        if unit not in units or state_class not in state_classes:
            yield f"class {device_class} with unit {unit} and state class {state_class}"
    if ("options" in component) != (device_class == "enum"):
        yield "options without enum, or the other way round"
    yield from _options(component)
    numeric = unit is not None or state_class is not None
    if ("suggested_display_precision" in component) != numeric:
        yield "precision is for numbers"


def _options(component: dict[str, Any]) -> Iterator[str]:
    options = component.get("options", ["one"])
    if not options or len(set(options)) < len(options) or not all(isinstance(one, str) and one for one in options):
        yield f"options {options}"


def _binary(component: dict[str, Any]) -> Iterator[str]:
    if component.get("device_class") not in BINARY_CLASSES:
        yield f"class {component.get('device_class')}"
    if "value_template" in component and (component["payload_on"], component["payload_off"]) != ("True", "False"):
        yield "JSON's true is rendered as True"


def _number(component: dict[str, Any]) -> Iterator[str]:
    if not component["min"] < component["max"] or not component["step"] >= 0.001:
        yield "bounds"
    units, _ = CLASSES.get(component.get("device_class", ""), ({component.get("unit_of_measurement")}, set()))
    if component.get("unit_of_measurement") not in units:
        yield "unit"


def _text(component: dict[str, Any]) -> Iterator[str]:
    if not 0 <= component["min"] <= component["max"] <= 255:
        yield "lengths"
    if not re.fullmatch(component["pattern"], "unknown"):
        yield "a text that is not known fails over the pattern"
