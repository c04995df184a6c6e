"""What Home Assistant is told of a unit: one device message made of its field tables (pure).

The floor is Home Assistant 2025.4. That version refuses a whole message for one key at the top, one key in the device,
or one kind of entity that it does not know, so nothing newer is in here. Keys are written in Home Assistant's own
abbreviations, since an inverter has hundreds of entities.

Every template is one look-up that takes a key which is not there (yet) for "not known": a bridge that has just
started publishes the slow values some seconds later, and Home Assistant would log each of them at every message.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from bridge.fields import TEXT, Field, Level, Quantity

Component: TypeAlias = dict[str, Any]

MOST_MAIN = 20
"""Entities without a category on one device: what fits on the first card a person sees of it."""
QUOTAS = (("battery", 1), ("enum", 2), ("problem", 2), ("power", 8), ("energy_storage", 1), ("energy", 6))
"""What goes first where a unit has more of them, by device class and how many; the rest in the order of its table.
Within each, what its table calls first."""

LONGEST_STATE = 255
"""Characters that Home Assistant keeps of a state; a longer one is a warning at every message."""
LONGEST_TEXT = 100
LONGEST_ID = 60

UNIT_ICONS = {"Ah": "mdi:battery-charging-medium", "cycles": "mdi:battery-sync", "%": "mdi:percent"}
"""Icons of what has no device class to give it one."""

NAME = "solarbridge"


@dataclass(frozen=True, slots=True)
class Site:
    """What all messages of one bridge have in common."""

    base: str
    version: str
    prefix: str = "homeassistant"
    time_entities: bool = False
    """Whether time windows are two `time` entities each, which old versions of Home Assistant refuse."""

    @property
    def id(self) -> str:
        """The identity of the bridge itself: one to a base topic."""
        return safe_id(self.base)

    @property
    def status(self) -> str:
        return f"{self.base}/status"

    @property
    def republish(self) -> str:
        """The topic on which the bridge is asked to announce everything again."""
        return f"{self.base}/discovery"

    def config_topic(self, identity: str) -> str:
        """Return where the message of a device goes."""
        return f"{self.prefix}/device/{identity}/config"


@dataclass(frozen=True, slots=True)
class Described:
    """One device as it is to be announced. `topic` is the level its topics begin with, `settings` and `energy` say
    what is on its further topics, `parent` is the identity of the device it belongs to."""

    identity: str
    topic: str
    name: str
    parent: str
    fields: Sequence[Field]
    settings: Sequence[Field] = ()
    controls: Sequence[Field] = ()
    energy: Sequence[Field] = ()
    serial: str | None = None
    manufacturer: str | None = None
    model: str | None = None
    firmware: str | None = None
    root: bool = True
    """Whether it is a configured device itself and so can be asked to refresh. A bank cannot: it reads nothing."""


# -- texts and identities ----------------------------------------------------------------------------------------------


def safe_id(text: str) -> str:
    """Return `text` as an identity: A-Z a-z 0-9 _ - only, not too long, and different for different texts."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in text)
    if kept == text and 0 < len(text) <= LONGEST_ID:
        return text
    return f"{kept[: LONGEST_ID - 9]}_{hashlib.blake2b(text.encode('utf-8', 'replace'), digest_size=4).hexdigest()}"


def safe_text(text: str | None) -> str | None:
    """Return a device's text fit to be shown: no control characters, not too long; None when nothing is left."""
    if text is None:
        return None
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:LONGEST_TEXT].strip() or None


def identity_by_serial(manufacturer: str | None, serial: str) -> str:
    """Return the identity of a unit that told its serial number: nothing of its name or its place is in it."""
    return safe_id(f"{(manufacturer or 'unit').lower().replace(' ', '_')}_{serial}")


def identity_by_name(site: Site, device: str, path: str) -> str:
    """Return the identity of a unit that tells no serial number."""
    return safe_id("_".join(part for part in (site.base, device, path) if part))


# -- the message -------------------------------------------------------------------------------------------------------


def message(site: Site, device: Described, components: Iterable[tuple[str, Component]]) -> bytes:
    """Return the payload of a device with these components.

    They are written one by one: an inverter has hundreds, and as a whole they would make the process larger for good.
    """
    about = {
        "ids": [device.identity],
        "name": safe_text(device.name) or device.identity,
        "mf": safe_text(device.manufacturer),
        "mdl": safe_text(device.model),
        "sn": safe_text(device.serial),
        "sw": safe_text(device.firmware),
        "via_device": device.parent if device.parent != device.identity else None,
    }
    availability = [site.status, f"{site.base}/{device.topic}/availability"] if device.topic else []
    payload: dict[str, Any] = {
        "dev": {key: value for key, value in about.items() if value is not None},
        "o": {"name": NAME, "sw": site.version},
        "qos": 1,
    }
    if availability:
        payload["stat_t"] = f"{site.base}/{device.topic}/state"
        payload["avty"] = [{"t": topic} for topic in availability]
        payload["avty_mode"] = "all"
    text = bytearray(_to_json(payload).encode())
    text[-1:] = b',"cmps":{'
    comma = b""
    for name, component in components:
        text += comma + f"{_to_json(name)}:{_to_json(component)}".encode()
        comma = b","
    text += b"}}"
    return bytes(text)


_to_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def components_of(site: Site, device: Described) -> Iterator[tuple[str, Component]]:
    """Yield the entities of a unit, each with its name in the message, which begins with the platform."""
    taken, known = set[str](), set[str]()
    for key, component in _entities(site, device):
        name = f"{component['p']}_{safe_id(key)}"
        if name in known:
            continue
        known.add(name)
        if component["name"].lower() in taken:
            # Home Assistant would number them, in the order in which they happen to come
            component["name"] += f" ({safe_id(key)})"
        taken.add(component["name"].lower())
        component["uniq_id"] = f"{device.identity}_{safe_id(key)}"
        yield name, component


def _entities(site: Site, device: Described) -> Iterator[tuple[str, Component]]:
    """Yield the entities of a unit with their keys."""
    place = f"{site.base}/{device.topic}"
    shown = {item.key: f"{place}/settings" for item in device.settings}
    controlled = {item.key for item in device.controls}
    free = [item for item in device.fields if item.key not in controlled and item.key not in shown]
    main = main_keys(free, MOST_MAIN - len(device.energy))
    for item in free:
        yield item.key, entity(item, main=item.key in main)
    for item in device.settings:
        if item.key not in controlled:
            yield item.key, {**entity(item, main=False), "stat_t": f"{place}/settings"}
    for item in device.energy:
        yield item.key, {**entity(item, main=True), "stat_t": f"{place}/energy"}
    if device.controls:
        from bridge.sinks import controls

        options = {item.key: item.options for item in (*device.fields, *device.settings)}
        for item in device.controls:
            topic = shown.get(item.key, f"{place}/state")
            for control in controls.entities(site, item, place, topic, options.get(item.key, ())):
                yield control.pop("key", item.key), control
        yield "last_command", controls.last_command(place)
    if device.root and device.topic:
        yield "refresh", button("Refresh", f"{place}/refresh")


def bridge_components(site: Site) -> dict[str, Component]:
    """Return the entities of the bridge itself. It has no availability: its own sensor says whether it is there."""
    here = [{"t": site.status}]
    entities: dict[str, Component] = {
        "binary_sensor_connection": {
            "p": "binary_sensor", "name": "Connection", "dev_cla": "connectivity", "ent_cat": "diagnostic",
            "stat_t": site.status, "pl_on": "online", "pl_off": "offline",
        },
        "sensor_started": {
            "p": "sensor", "name": "Started", "dev_cla": "timestamp", "ent_cat": "diagnostic", "en": False,
            "stat_t": f"{site.base}/info", "val_tpl": look_up("started"), "avty": here,
        },
        "sensor_memory": {
            "p": "sensor", "name": "Memory", "dev_cla": "data_size", "unit_of_meas": "KiB", "stat_cla": "measurement",
            "sug_dsp_prc": 0, "ent_cat": "diagnostic", "en": False,
            "stat_t": f"{site.base}/health", "val_tpl": look_up("memory_kib"), "avty": here,
        },
        "button_republish": {**button("Announce everything again", site.republish), "avty": here},
    }  # fmt: skip
    for name, component in entities.items():
        component["uniq_id"] = f"{site.id}_{key_of(name)}"
    return entities


def bridge(site: Site) -> Described:
    """Return the bridge itself as a device."""
    return Described(
        site.id, "", site.base, site.id, (), manufacturer=NAME, model="MQTT bridge", firmware=site.version
    )  # fmt: skip


def removals(gone: Iterable[str]) -> dict[str, Component]:
    """Return what to send once, in the place of components that are to vanish."""
    return {name: {"p": platform_of(name)} for name in gone}


def key_of(name: str) -> str:
    """Return what a component's name says behind its platform."""
    return name.removeprefix(f"{platform_of(name)}_")


def platform_of(name: str) -> str:
    """Return the platform with which a component's name begins."""
    return "binary_sensor" if name.startswith("binary_sensor_") else name.partition("_")[0]


# -- one entity --------------------------------------------------------------------------------------------------------


def entity(item: Field, *, main: bool) -> Component:
    """Return a value as a sensor or binary sensor; `main` shows it without a category where its level allows."""
    component: Component = {"p": "sensor", "name": item.name, "val_tpl": look_up(item.key)}
    component.update(_kind(item.quantity, item.options))
    if item.quantity is TEXT:
        component["val_tpl"] = f"{{{{ (value_json.get({_literal(item.key)})|string)[:{LONGEST_STATE}] }}}}"
    if component["p"] == "binary_sensor":
        # JSON's true reaches Home Assistant as the word True
        component["pl_on"], component["pl_off"] = "True", "False"
    if item.level is not Level.MAIN or not main:
        component["ent_cat"] = "diagnostic"
    if item.level is Level.HIDDEN:
        component["en"] = False
    return component


def _kind(quantity: Quantity, options: Collection[str]) -> Component:
    """Return platform, class, unit and all that follows from what a value is."""
    match quantity.device_class:
        case "flag":
            return {"p": "binary_sensor"}
        case "problem":
            return {"p": "binary_sensor", "dev_cla": "problem"}
        case "enum":
            return {"dev_cla": "enum", "ops": list(options)} if options else {}
        case "timestamp":
            return {"dev_cla": "timestamp"}
    found: Component = {}
    if quantity.device_class is not None:
        found["dev_cla"] = quantity.device_class
    elif quantity.unit in UNIT_ICONS:
        found["ic"] = UNIT_ICONS[quantity.unit]
    if quantity.unit is not None:
        found["unit_of_meas"] = quantity.unit
    if quantity.state_class is not None:
        found["stat_cla"] = quantity.state_class
    if found.keys() & {"unit_of_meas", "stat_cla"}:
        found["sug_dsp_prc"] = quantity.decimals
    return found


def button(name: str, topic: str, payload: str = "press", category: str = "config") -> Component:
    """Return a button that publishes on a topic."""
    icons = {"ic": "mdi:refresh"} if payload == "press" else {}
    return {"p": "button", "name": name, "cmd_t": topic, "pl_prs": payload, "ent_cat": category, **icons}


def main_keys(fields: Sequence[Field], room: int = MOST_MAIN) -> set[str]:
    """Return which values are shown without a category: all that the tables call main, as far as there is room.

    More alarms than their quota are the bits of a word, and not for the first card, one as little as another; what
    sums them up is marked as first.
    """
    candidates = sorted((item for item in fields if item.level is Level.MAIN), key=lambda item: not item.first)
    alarms = {item.key for item in candidates if item.quantity.device_class == "problem" and not item.first}
    if len(alarms) > dict(QUOTAS)["problem"]:
        candidates = [item for item in candidates if item.key not in alarms]
    if len(candidates) <= room:
        return {item.key for item in candidates}
    chosen: list[str] = []
    for device_class, most in QUOTAS:
        chosen += [item.key for item in candidates if item.quantity.device_class == device_class][:most]
    chosen += [item.key for item in candidates if item.key not in chosen]
    return set(chosen[:room])


def look_up(key: str) -> str:
    """Return the template that takes one value out of a JSON object; an absent one counts as not known."""
    return f"{{{{ value_json.get({_literal(key)}) }}}}"


def _literal(text: str) -> str:
    """Return a text as a template spells it."""
    plain = text.isascii() and text.isprintable() and "'" not in text and "\\" not in text
    return f"'{text}'" if plain else json.dumps(text)
