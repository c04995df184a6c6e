"""The keys of an entry under `banks:`. Loaded only for a configuration that has one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Literal

from bridge.config import BankEntry, Config, fixed_topic, level
from bridge.devices import DeviceOptions
from bridge.guard import Limits
from bridge.options import option


# fmt: off
@dataclass(frozen=True, kw_only=True)
class Bank(Limits, BankEntry):
    """An entry of `banks`: batteries that work as one, and the topic on which a Victron GX reads of it."""

    name: str = option(doc="its level in the topics", check=level)
    topic: str = option("battery/data", check=fixed_topic, doc="where the JSON for dbus-mqtt-battery goes")
    from_: tuple[str, ...] = option(doc="names of the devices whose modules make the bank")
    modules: int | None = option(None, minimum=1, maximum=256, doc="how many there are; left out: those that answer")
    interval: float = option(1.0, minimum=0.5, maximum=10, doc="s between two messages; a GX takes one a second")
    max_age: float = option(30.0, minimum=2, maximum=55, doc="s after which a module that is silent does not count")
    startup: float = option(60.0, minimum=0, maximum=3600, doc="s that missing modules are waited for, or bind")
    discharge_when_silent: Literal["unchanged", "stop"] = option("unchanged", doc="the last message's discharge limit")
    full_charge_request: bool = option(False, doc="whether the battery's wish for a full charge requests one")
    controls: bool | None = option(None, doc="whether the GX steers by it; left out: the first bank only")

    @staticmethod
    def conflicts(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Devices are named, once each; the limits' own conflicts."""
        names = values.get("from_")
        if names is not None and not names:
            yield "from", "found an empty list; expected at least one device"
        if names and len(set(names)) < len(names):
            yield "from", "names a device twice"
        yield from Limits.conflicts(values)
# fmt: on


def banks_of(config: Config) -> list[Bank]:
    """Return the configured banks with their keys."""
    return [bank for bank in config.banks if isinstance(bank, Bank)]


def conflicts(devices: Sequence[DeviceOptions], banks: Sequence[Bank]) -> Iterator[str]:
    """Yield what is wrong between banks and devices: a device that is not there."""
    known = [device.name for device in devices]
    for bank in banks:
        for name in bank.from_:
            if devices and name not in known:
                yield f"{bank.name} is made of {name!a}, but devices are {', '.join(known)}"


def warnings(config: Config) -> Iterator[str]:
    """Yield what the owner of these banks should know."""
    banks = banks_of(config)
    steering = [bank.name for number, bank in enumerate(banks) if steers(bank, number)]
    if len(steering) > 1:
        yield f"banks {', '.join(steering)} all send a charge voltage; one GX that sees two of them raises an alarm"
    for bank in banks:
        for device in config.devices:
            if device.name not in bank.from_:
                continue
            interval, true_for = getattr(device, "interval", 0.0), min(bank.max_age, _own_age(device))
            if 2 * interval > true_for:
                yield (f"{device.name} is read every {interval:g} s, but {bank.name} takes its modules for silent after"
                       f" {true_for:g} s, so it pauses over one lost reading or never begins; set its interval to"
                       f" {true_for / 3:g}")  # fmt: skip
            every = getattr(device, "limits_interval", 0.0)
            if every > bank.raise_after:
                yield (f"{device.name} reads limits every {every:g} s only, so a single damaged answer could raise one"
                       f" in {bank.name}; set its raise_after to {2 * every:g}")  # fmt: skip


def _own_age(device: DeviceOptions) -> float:
    """Return the configured age limit of a device's readings, infinity for one that it sets itself."""
    told = getattr(device, "max_age", None)
    return inf if told is None else float(told)


def steers(bank: Bank, number: int) -> bool:
    """Whether a GX is to steer by this bank, the `number`th from 0."""
    return number == 0 if bank.controls is None else bank.controls
