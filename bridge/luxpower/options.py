"""The keys of a device with `type: lxp` (pure)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bridge.config import host_name, option
from bridge.devices import WritableOptions
from bridge.luxpower.inverter import Manner
from bridge.luxpower.models import Feature, PowerUnit
from bridge.lxp_bridge import LXP_BRIDGE, LxpBridge

PUSH_AGE = 630.0
"""Default age limit in s when nothing is asked: two pushes of the slowest sticks."""

SERIAL = re.compile(r"[A-Za-z0-9]{10}")
_UNITS = {"percent": PowerUnit.PERCENT, "kw": PowerUnit.HUNDRED_WATTS}
_PHASES = {
    "one": frozenset[Feature](),
    "split": frozenset({Feature.SPLIT_PHASE}),
    "three": frozenset({Feature.THREE_PHASE}),
}


def _serial(text: str) -> str | None:
    return None if SERIAL.fullmatch(text) else "expected the 10 letters and digits of a serial number"


def _interval(seconds: float) -> str | None:
    return "expected 10 or more, or 0 to ask nothing" if 0 < seconds < 10 else None


def _setting(name: str) -> str | None:
    from bridge.luxpower.settings import NAMES, meant

    return None if name in NAMES else f"no such setting{meant(name, NAMES)}; docs/settings.md lists them"


def _address(text: str) -> str | None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return "expected an IP address"
    return None


@dataclass(frozen=True, kw_only=True)
class Options(WritableOptions):
    """One entry of `devices` with `type: lxp`."""

    host: str | None = option(None, check=host_name, doc="the stick's address, to connect to it")
    port: int = option(8000, minimum=1, maximum=65535, doc="the stick's port")
    listen: int | None = option(None, minimum=1, maximum=65535, doc="port on which to wait for the stick, 4346")
    udp: int | None = option(None, minimum=1, maximum=65535, doc="port of the stick's broadcasts, 4346; reading only")
    bind: str = option("0.0.0.0", check=_address, doc="address of ours for listen and udp")  # noqa: S104 (meant so)
    source: str | None = option(
        None, check=_address, doc="the only address to take anything from, listen and udp",
        empty="write the stick's address, or leave source out to take what comes from any",
    )
    datalogger: str | None = option(None, check=_serial, doc="the stick's serial number; learned when left out")
    inverter: str | tuple[str, ...] | None = option(
        None, check=_serial, doc="the inverter's serial number, learned when left out; a list of them on one stick"
    )
    interval: float = option(30.0, minimum=0, maximum=3600, check=_interval, doc="s between rounds; 0 asks nothing")
    settings_interval: float = option(600.0, minimum=60, maximum=86400, doc="s between readings of the settings")
    heartbeat: bool = option(True, doc="whether heartbeats are answered; a stick without its cloud wants that")
    max_age: float | None = option(
        None, minimum=10, maximum=86400,
        doc="s a reading stays true; three intervals, at least 90; where nothing is asked 630",
    )
    power_unit: Literal["auto", "percent", "kw"] = option("auto", doc="what power settings count in; auto: by model")
    limit_divisor: Literal["auto", 10, 100] = option("auto", doc="steps of one ampere in the BMS limits")
    phases: Literal["auto", "one", "split", "three"] = option("auto", doc="of the grid; auto: by model, never three")
    packs: bool = option(False, doc="whether to read the battery packs behind the inverter")
    raw: bool = option(False, doc="whether to publish every received word by number, too")
    allow: tuple[str, ...] = option(
        (), check=_setting, doc="settings of class B and C that may be written, by name or group"
    )
    raw_writes: bool = option(False, doc="whether set/hold/N is taken, within what is allowed by name")
    max_battery_current: int = option(140, minimum=1, maximum=250, doc="A that the current limits may be set to")
    compat: Literal["lxp-bridge"] | None = option(None, doc="lxp-bridge: its topics and commands, too")
    lxp_bridge: LxpBridge | None = option(None, doc="namespace, discovery, prefix of compat: lxp-bridge")

    @staticmethod
    def conflicts(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """One way to the stick, both ways for writing; a list of inverters has no double, nor a place in lxp-bridge."""
        yield from WritableOptions.conflicts(values)
        if values.get("raw_writes") and values.get("writes") is False:
            yield "raw_writes", "is of no use without writes: true"
        if values.get("writes") and values.get("udp") is not None:
            yield "writes", "broadcasts (udp) are for reading only; expected false"
        ways = [key for key in ("host", "listen", "udp") if values.get(key) is not None]
        if len(ways) != 1 and {"host", "listen", "udp"} <= values.keys():
            yield ways[-1] if ways else "host", "expected exactly one of host, listen and udp"
        if values.get("source") and ways == ["host"]:
            yield "source", "is for listen and udp"
        serials = values.get("inverter")
        if isinstance(serials, tuple) and (not serials or len(set(serials)) < len(serials)):
            yield "inverter", "expected different serial numbers, at least one"
        if values.get("compat") and isinstance(serials, tuple) and len(serials) > 1:
            yield "compat", "lxp-bridge's topics have one place for each stick; expected one inverter on it"
        if values.get("lxp_bridge") and values.get("compat", LXP_BRIDGE) != LXP_BRIDGE:
            yield "lxp_bridge", f"is of no use without compat: {LXP_BRIDGE}"


def manner_of(options: Options) -> Manner:
    """Return what the options say about how readings are made."""
    asking = options.interval if options.udp is None else 0.0
    overrides: dict[str, Any] = {}
    if options.power_unit != "auto":
        overrides["power_unit"] = _UNITS[options.power_unit]
    if options.limit_divisor != "auto":
        overrides["limit_divisor"] = options.limit_divisor
    phases = _PHASES[options.phases] if options.phases != "auto" else None
    age = options.max_age or (max(90.0, 3 * asking) if asking else PUSH_AGE)
    return Manner(options.name, age, overrides, phases, options.packs, options.raw)
