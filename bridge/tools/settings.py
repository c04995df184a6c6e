"""`solarbridge read` and `solarbridge write`: through the running bridge when it has the device, else directly.

Both ways print the same. A bridge that runs is asked over MQTT, since two programs must never share a cable.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from bridge.config import Config
from bridge.devices import DeviceOptions
from bridge.errors import BridgeError, CommandError, LinkError, Stopped
from bridge.fields import Channel, Reading
from bridge.inbox import SetSetting
from bridge.statefile import state_directory
from bridge.tools.client import Visitor, parsed
from bridge.tools.direct import Direct
from bridge.transports.base import Stop

READING, WRITING = 30.0, 60.0
"""Seconds to wait for a reading, and for the result of a write."""

Found = dict[str, dict[str, Any]]
"""What a device and its units said, by the topic's end: "state", "settings", "4512670118/state"."""


def read(config: Config, address: str, names: Sequence[str], *, as_json: bool) -> int:
    """Print what a device is and what it is set to; 0 when it answered, 1 when not, 2 when there is none."""
    return _run(config, address, lambda options, unit: _read(config, options, unit, names, as_json=as_json))


def write(config: Config, address: str, setting: str, value: str, *, yes: bool) -> int:
    """Set one setting and print the result; 0 when the read-back shows it, 1 when not, 2 when there is no device."""
    if not yes and not _confirmed(address, setting, value):
        return 1
    return _run(config, address, lambda options, unit: _write(config, options, unit, setting, value))


def _run(config: Config, address: str, body: Any) -> int:
    device, _, unit = address.partition("/")
    options = next((one for one in config.devices if one.name == device), None)
    if options is None:
        print(f"{device[:60]!a}: no such device; there are {', '.join(one.name for one in config.devices)}",
              file=sys.stderr)  # fmt: skip
        return 2
    try:
        status: int = body(options, unit)
    except Stopped:
        return 130
    except BridgeError as err:
        print(f"{device}: {err}", file=sys.stderr)
        return 1
    return status


def _confirmed(address: str, setting: str, value: str) -> bool:
    if not sys.stdin.isatty():
        print("nothing was written: --yes is needed where nobody can be asked", file=sys.stderr)
        return False
    return input(f"{address}: set {setting} to {value}? Type yes: ") == "yes"


def _visitor(config: Config) -> Visitor | None:
    """Return a connection to the broker, or None (and a notice) when there is no broker."""
    visitor = Visitor(config.mqtt)
    try:
        return visitor.__enter__()
    except LinkError as err:
        print(f"{err}; asking the device itself", file=sys.stderr)
        return None


# -- reading


def _read(config: Config, options: DeviceOptions, unit: str, names: Sequence[str], *, as_json: bool) -> int:
    visitor = _visitor(config)
    try:
        owned = visitor is not None and options.name in visitor.running_devices()
        found = _read_over_mqtt(visitor, options.name) if visitor and owned else _read_directly(config, options)
    finally:
        if visitor is not None:
            visitor.__exit__(None, None, None)
    if unit:
        found = {name: values for name, values in found.items() if name.startswith(f"{unit}/")}
    if not any(name.endswith("state") for name in found):
        print(f"{options.name}: no reading came within {READING:.0f} s", file=sys.stderr)
        return 1
    return _print(found, names, as_json=as_json)


def _read_over_mqtt(visitor: Visitor, device: str) -> Found:
    """Let the bridge read everything anew, and collect what it publishes."""
    root = f"{visitor.base}/{device}"
    kinds = ("state", "settings")
    visitor.subscribe(*(f"{root}{middle}/{kind}" for middle in ("", "/+") for kind in kinds))
    visitor.publish(f"{root}/refresh", b"read")
    found: Found = {}
    fresh: set[str] = set()
    settled = until = time.monotonic() + READING
    for topic, payload, retained in visitor.messages(until):
        name = topic.removeprefix(f"{root}/")
        found[name] = parsed(payload)
        if not retained and name not in fresh:
            fresh.add(name)
            settled = time.monotonic() + 2.0  # its units follow one another closely
        if fresh and time.monotonic() > settled:
            break
    # what the broker kept of a unit that is silent now is no reading
    return {name: values for name, values in found.items() if name in fresh or name.endswith("settings")}


def _read_directly(config: Config, options: DeviceOptions) -> Found:
    found: Found = {}
    with Direct(options, state_directory(config.state_directory, os.environ), _stop_signal()) as device:
        for reading in device.readings(_is_complete, READING, whole=True):
            if reading.topic is None and reading.channel in (Channel.STATE, Channel.SETTINGS):
                path = f"{reading.unit.path}/" if reading.unit.path else ""
                found[f"{path}{reading.channel.value}"] = dict(reading.values)
    return found


def _is_complete(taken: list[Reading]) -> bool:
    """Whether every unit that was seen told its state, and those that have settings told them."""
    units = {one.unit.path: one.unit for one in taken}
    told = {(one.unit.path, one.channel) for one in taken if one.topic is None}
    wanted = {(path, Channel.STATE) for path in units} | {
        (path, Channel.SETTINGS) for path, unit in units.items() if unit.settings
    }
    return bool(units) and wanted <= told


def _print(found: Found, names: Sequence[str], *, as_json: bool) -> int:
    if names:
        known = {key for values in found.values() for key in values}
        if missing := [name for name in names if name not in known]:
            print(f"not there: {', '.join(missing)}; there are {', '.join(sorted(known))}", file=sys.stderr)
            return 1
        found = {part: {name: values[name] for name in names if name in values} for part, values in found.items()}
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return 0
    for part in sorted(part for part, values in found.items() if values):
        print(f"{part}:")
        width = max(map(len, found[part]))
        for name, value in found[part].items():
            print(f"  {name:<{width}}  {_shown(value)}")
    return 0


def _shown(value: Any) -> str:
    return "-" if value is None else "on" if value is True else "off" if value is False else str(value)


# -- writing


def _write(config: Config, options: DeviceOptions, unit: str, setting: str, value: str) -> int:
    visitor = _visitor(config)
    try:
        if visitor is not None and options.name in visitor.running_devices():
            result = _write_over_mqtt(visitor, options.name, unit, setting, value)
        else:
            result = _write_directly(config, options, unit, setting, value)
    finally:
        if visitor is not None:
            visitor.__exit__(None, None, None)
    if result is None:
        print(f"{options.name}: no result came within {WRITING:.0f} s; `read` shows what it is set to", file=sys.stderr)
        return 1
    print(json.dumps(result, indent=2, ensure_ascii=False))
    return 0 if result.get("outcome") in ("done", "unchanged") else 1


def _write_over_mqtt(visitor: Visitor, device: str, unit: str, setting: str, value: str) -> Mapping[str, Any] | None:
    root = f"{visitor.base}/{device}"
    request_id = f"cli-{uuid.uuid4().hex}"
    visitor.subscribe(f"{root}/result", f"{root}/+/result")
    place = f"{root}/{unit}" if unit else root
    visitor.publish(f"{place}/set/{setting}", json.dumps({"value": value, "id": request_id}).encode())
    for _topic, payload, _retained in visitor.messages(time.monotonic() + WRITING):
        result = parsed(payload)
        if result.get("id") == request_id:
            result.pop("ts", None)
            return result
    return None


def _write_directly(
    config: Config, options: DeviceOptions, unit: str, setting: str, value: str
) -> Mapping[str, Any] | None:
    now = time.monotonic()
    payload = json.dumps({"value": value, "id": f"cli-{uuid.uuid4().hex}"}).encode()
    command = SetSetting(unit, setting, payload, now, now + WRITING, source="command line")
    with Direct(options, state_directory(config.state_directory, os.environ), _stop_signal()) as device:
        reading = device.set(command, WRITING)
    if reading is None:
        raise CommandError("it does not answer, so nothing was written")
    return dict(reading.values)


def _stop_signal() -> Stop:
    stop = Stop()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop
