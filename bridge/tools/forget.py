"""`solarbridge forget DEVICE [UNIT]`: take what is gone for good off the broker, and out of Home Assistant.

A module that is merely silent stays, as unavailable. What is forgotten are the retained messages: its availability
first, by which a running bridge forgets it too, then its state, settings and energy, and the device messages that
refer to it.
"""

from __future__ import annotations

import sys
import time

from bridge.bank_options import banks_of
from bridge.config import RESERVED, Config
from bridge.errors import BridgeError
from bridge.tools.client import RETAINED, Visitor, parsed


def run(config: Config, device: str, unit: str | None) -> int:
    """Forget a unit or a whole device; 0 when something was forgotten, 1 when not, 2 when that must not be."""
    configured = {*(one.name for one in config.devices), *(bank.name for bank in banks_of(config))}
    if unit is None and device in configured:
        print(f"{device}: it is in the configuration; take it out and restart the bridge first, or name a unit of it",
              file=sys.stderr)  # fmt: skip
        return 2
    if "" in (device, unit) or set(device) & set("+#/") or set(unit or "") & set("+#/"):
        print("a device and a unit are one level of a topic each, without + # and /", file=sys.stderr)
        return 2
    if device in RESERVED:
        print(f"{device} is a topic of the bridge itself; there is no such device", file=sys.stderr)
        return 2
    try:
        with Visitor(config.mqtt) as visitor:
            return _forget(visitor, config, device, unit)
    except BridgeError as err:
        print(err, file=sys.stderr)
        return 1


def _forget(visitor: Visitor, config: Config, device: str, unit: str | None) -> int:
    prefix = config.homeassistant.prefix
    place = f"{visitor.base}/{device}/{unit}" if unit else f"{visitor.base}/{device}"
    status = f"{visitor.base}/status"
    visitor.subscribe(status, f"{place}/#", f"{prefix}/device/+/config")
    found = {
        topic: payload for topic, payload, retained in visitor.messages(time.monotonic() + RETAINED)
        if retained and payload
    }  # fmt: skip
    alive = found.pop(status, b"") == b"online"
    online = [topic for topic, payload in found.items() if topic.endswith("/availability") and payload == b"online"]
    if alive and online:
        print(f"{online[0].removesuffix('/availability')} is online; only what is silent can be forgotten",
              file=sys.stderr)  # fmt: skip
        return 2
    gone = [topic for topic, payload in found.items() if not _is_elsewhere(topic, payload, place, prefix)]
    if not gone:
        print(f"nothing of {place} is kept at the broker; if there is: {visitor.rights}", file=sys.stderr)
        return 1
    for topic in sorted(gone, key=lambda topic: (not topic.endswith("/availability"), topic)):
        visitor.publish(topic, b"", retain=True)
        print(topic)
    told = config.mqtt.retain_states or config.homeassistant.discovery
    if told and not any(topic.endswith(("/state", "/config")) for topic in gone):
        print(f"{place}: no state and no device message of it was to be seen, which the broker may keep all the same: "
              f"{visitor.rights} and {prefix}/device/+/config; then forget it once more", file=sys.stderr)  # fmt: skip
        return 1
    return 0


def _is_elsewhere(topic: str, payload: bytes, place: str, prefix: str) -> bool:
    """Whether a topic is a device message of something else; it refers to a unit by its availability."""
    if not topic.startswith(f"{prefix}/device/") or topic.startswith(f"{place}/"):
        return False
    listed = parsed(payload).get("avty")
    topics = [one.get("t") for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    return not any(isinstance(one, str) and one.startswith(f"{place}/") for one in topics)
