"""The Home Assistant entities of lxp-bridge, with its topics and unique ids, so that their history goes on (pure).

Source: celsworth/lxp-bridge src/home_assistant.rs; the keys: Home Assistant's MQTT integrations sensor, switch, number
and text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from bridge.fields import Field, Level, Unit
from bridge.lxp_bridge import NO_SENSOR, NUMBERS, PARSED, SWITCHES, WINDOWS, LxpBridge
from bridge.settings import WINDOW_PATTERN

Payload: TypeAlias = Mapping[str, Any]

_NOT_AN_ENTITY_CLASS = ("flag", "problem", "enum")


def discovery(options: LxpBridge, unit: Unit, availability_topic: str) -> dict[str, Payload | None]:
    """Return the retained configurations by topic; None takes one back.

    `unit.path` is the stick's serial number, `unit.fields` what inputs/all can tell, `unit.settings` the numbers that
    count in %; while it is empty, nothing is known about numbers and nothing is said. An entity is available
    while the bridge is (the LWT, as ever) and the inverter is.
    """
    datalog, root = unit.path, f"{options.namespace}/{unit.path}"
    common = {
        "device": {"identifiers": [f"lxp_{datalog}"], "name": f"lxp_{datalog}", "manufacturer": "LuxPower"},
        "availability": [{"topic": f"{options.namespace}/LWT"}, {"topic": availability_topic}],
        "availability_mode": "all",
    }
    command = f"{options.namespace}/cmd/{datalog}/set"
    entities = [
        *_sensors(unit, root), *_switches(root, command), *_texts(root, command), *_numbers(unit, root, command),
    ]  # fmt: skip
    found: dict[str, Payload | None] = {}
    for kind, key, own_id, payload in entities:
        topic = f"{options.prefix}/{kind}/lxp_{datalog}/{key.replace('/', '_')}/config"
        unique = {"unique_id": f"lxp_{datalog}_{own_id}"}
        found[topic] = {**unique, **payload, **common} if payload is not None else None
    return found


_Entities: TypeAlias = Iterator[tuple[str, str, str, Payload | None]]
"""Kind, key in the topic, the unique id's end, and what belongs to this one."""


def _sensors(unit: Unit, root: str) -> _Entities:
    for field in unit.fields:
        if field.key in NO_SENSOR:
            continue
        payload: dict[str, Any] = {"name": field.name}
        if field.level is not Level.MAIN:
            payload["entity_category"] = "diagnostic"
        if parsed := PARSED.get(field.key):
            payload["state_topic"] = f"{root}/{parsed}/parsed"
        else:
            # get: a key that is left out makes the state unknown, without a warning at every message
            payload |= {
                "state_topic": f"{root}/inputs/all",
                "value_template": f"{{{{ value_json.get('{field.key}') }}}}",
                **_measured(field),
            }
        yield "sensor", field.key, field.key, payload


def _measured(field: Field) -> Payload:
    quantity = field.quantity
    named = {
        "unit_of_measurement": quantity.unit,
        "device_class": quantity.device_class if quantity.device_class not in _NOT_AN_ENTITY_CLASS else None,
        # lxp-bridge counts the running time up
        "state_class": "total_increasing" if field.key == "runtime" else quantity.state_class,
    }
    return {key: value for key, value in named.items() if value is not None}


def _switches(root: str, command: str) -> _Entities:
    for name in SWITCHES:
        yield "switch", name, name, {
            "name": _words(name),
            "state_topic": f"{root}/hold/21/bits",
            "value_template": f"{{{{ value_json.{name}_en }}}}",
            "command_topic": f"{command}/{name}",
        }  # fmt: skip


def _texts(root: str, command: str) -> _Entities:
    for family in WINDOWS:
        for number in (1, 2, 3):
            path = f"{family}/{number}"
            yield "text", path, f"text_{path}", {
                "name": f"{_words(family)} window {number}",
                "state_topic": f"{root}/{path}",
                "value_template": "{{ value_json.start }}-{{ value_json.end }}",
                "command_topic": f"{command}/{path}",
                "command_template": '{"start":"{{ value[:5] }}","end":"{{ value[6:] }}"}',
                "pattern": WINDOW_PATTERN,
            }  # fmt: skip


def _numbers(unit: Unit, root: str, command: str) -> _Entities:
    offered = {field.key: field for field in unit.settings}
    for number in NUMBERS if offered else ():
        field = offered.get(number.name)
        payload = None  # one that lxp-bridge offered in % while the model counts 100 W is taken back
        if field is not None:
            payload = {
                "name": field.name,
                "state_topic": f"{root}/hold/{number.register}",
                "command_topic": f"{command}/hold/{number.register}",
                "min": 0, "max": 100, "step": 1, "unit_of_measurement": "%",
            }  # fmt: skip
        yield "number", number.name, f"number_{number.name}", payload


def _words(name: str) -> str:
    """Return ac_charge as "AC charge"."""
    return name.replace("_", " ").capitalize().replace("Ac ", "AC ")
