"""`solarbridge read` and `solarbridge write`: through the running bridge, or directly where none runs.

Both ways print the same. A bridge that runs is asked over MQTT, since two programs must never share a cable: a stick
serves one and throws the other off, and a budget of writes is kept by one. So the device itself is asked only once the
broker has let us in and told that no bridge runs, or where a person says so (`--direct`).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from bridge.config import Config
from bridge.devices import DeviceOptions
from bridge.errors import BridgeError, CommandError, LinkError, Stopped
from bridge.fields import Channel, Reading
from bridge.inbox import SetSetting
from bridge.tools.asking import agreed
from bridge.tools.client import IN_DOUBT, Visitor, parsed
from bridge.tools.direct import Direct, records_folder
from bridge.transports.base import Stop

READING, WRITING = 30.0, 60.0
"""Seconds to wait for a reading, and for the result of a write."""
QUIET, ALL_TOLD = 2.0, 10.0
"""Seconds without news after which a device has told all that it is asked for, and within which it does at most."""

Found = dict[str, dict[str, Any]]
"""What a device and its units said, by the topic's end: "state", "settings", "4512670118/state"."""


def read(config: Config, address: str, names: Sequence[str], *, as_json: bool, direct: bool = False) -> int:
    """Print what a device is and what it is set to; 0 when it answered, 1 when not, 2 when there is none."""
    return _run(
        config, address, direct,
        lambda visitor, options, unit: _read(config, visitor, options, unit, names, as_json=as_json),
    )  # fmt: skip


def write(config: Config, address: str, setting: str, value: str, *, yes: bool, direct: bool = False) -> int:
    """Set one setting and print the result; 0 when the read-back shows it, 1 when not, 2 when there is no device."""
    if not yes and not _confirmed(address, setting, value):
        return 1
    return _run(
        config, address, direct,
        lambda visitor, options, unit: _write(config, visitor, options, unit, setting, value),
    )  # fmt: skip


def _run(config: Config, address: str, direct: bool, body: Any) -> int:
    device, _, unit = address.partition("/")
    options = next((one for one in config.devices if one.name == device), None)
    if options is None:
        print(f"{device[:60]!a}: no such device; there are {', '.join(one.name for one in config.devices)}",
              file=sys.stderr)  # fmt: skip
        return 2
    try:
        with _bridge_of(config, device, direct) as visitor:
            status: int = body(visitor, options, unit)
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
    return agreed(f"{address}: set {setting} to {value}?")


@contextmanager
def _bridge_of(config: Config, device: str, direct: bool) -> Iterator[Visitor | None]:
    """Yield a connection to the broker of the running bridge, None where none runs. Raises LinkError when in doubt."""
    with ExitStack() as stack:
        if direct:
            yield None
            return
        try:
            visitor = stack.enter_context(Visitor(config.mqtt))
        except LinkError as err:
            raise LinkError(f"{err}\n{IN_DOUBT}") from err
        if visitor.runs(device):
            yield visitor
            return
        stack.close()
        print(f"no bridge runs on {config.mqtt.base_topic}/#; asking the device itself", file=sys.stderr)
        yield None


# -- reading


def _read(
    config: Config, visitor: Visitor | None, options: DeviceOptions, unit: str, names: Sequence[str], *, as_json: bool
) -> int:
    found = _read_directly(config, options) if visitor is None else _read_over_mqtt(visitor, options)
    if unit and any(name.endswith("state") for name in found) and f"{unit}/state" not in found:
        there = sorted(name.removesuffix("/state") for name in found if name.endswith("/state"))
        print(f"{options.name}: no reading of {unit[:60]!a} came; its units that answer: {', '.join(there) or 'none'}",
              file=sys.stderr)  # fmt: skip
        return 1
    if unit:
        found = {name: values for name, values in found.items() if name.startswith(f"{unit}/")}
    if not any(name.endswith("state") for name in found):
        print(f"{options.name}: no reading came within {READING:.0f} s{_or_else(visitor)}", file=sys.stderr)
        return 1
    return _print(found, names, as_json=as_json)


def _read_over_mqtt(visitor: Visitor, options: DeviceOptions) -> Found:
    """Let the bridge read everything anew, and collect what it publishes until no more comes.

    A device that is read all the time tells its states over and over: there a state told again is no news.
    """
    root = f"{visitor.base}/{options.name}"
    kinds = ("state", "settings")
    visitor.subscribe(*(f"{root}{middle}/{kind}" for middle in ("", "/+") for kind in kinds))
    visitor.publish(f"{root}/refresh", b"read")
    found: Found = {}
    fresh: set[str] = set()
    seldom = getattr(options, "interval", 0.0) > QUIET
    quiet = until = time.monotonic() + READING
    while (message := visitor.message(min(quiet, until))) is not None:
        topic, payload, retained = message
        name, now = topic.removeprefix(f"{root}/"), time.monotonic()
        found[name] = parsed(payload)
        if retained:
            continue
        if not fresh:
            until = min(until, now + ALL_TOLD)
        if seldom or name not in fresh:
            quiet = now + QUIET
        fresh.add(name)
    # what the broker kept of a unit that is silent now is no reading
    return {name: values for name, values in found.items() if name in fresh or name.endswith("settings")}


def _read_directly(config: Config, options: DeviceOptions) -> Found:
    found: Found = {}
    with Direct(options, records_folder(config.state_directory, os.environ), _stop_signal()) as device:
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


def _or_else(visitor: Visitor | None) -> str:
    """Name the other reason why nothing came, where there was a broker between."""
    return "" if visitor is None else f". Where the device is online the broker keeps it back: {visitor.rights}"


# -- writing


def _write(config: Config, visitor: Visitor | None, options: DeviceOptions, unit: str, setting: str, value: str) -> int:
    if visitor is None:
        result = _write_directly(config, options, unit, setting, value)
    else:
        result = _write_over_mqtt(visitor, options.name, unit, setting, value)
    if result is None:
        print(f"{options.name}: no result came within {WRITING:.0f} s; `read` shows what it is set to"
              f"{_or_else(visitor)}", file=sys.stderr)  # fmt: skip
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
    with Direct(options, records_folder(config.state_directory, os.environ), _stop_signal()) as device:
        reading = device.set(command, WRITING)
    if reading is None:
        raise CommandError("it does not answer, so nothing was written")
    return dict(reading.values)


def _stop_signal() -> Stop:
    stop = Stop()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop
