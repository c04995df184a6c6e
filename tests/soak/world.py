"""A large house: stacks of batteries, inverters of every maker, a broker behind a proxy, the bridge as a process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from bridge.simulators.axpert import AxpertSimulator
from bridge.simulators.living import DayClock
from bridge.simulators.lxp import LxpSimulator
from bridge.simulators.pylontech import PylontechSimulator
from tests.harness import Bridge, Mosquitto, Proxy, Recorder
from tests.soak.judge import Device, Judge, Truth, axpert, lxp, pylontech

BASE, BANK = "sb", "battery/data"
SETTINGS = LXP_SETTING, AXPERT_SETTING = "charge_rate_pct", "output_source_priority"
PRIORITIES = ("utility_first", "solar_first", "solar_battery_utility")
"""What an Axpert can be set to, in the order of its codes."""
MODULES_AGE, AXPERT_AGE, LXP_AGE, BANK_AGE = 10.0, 10.0, 90.0, 15.0


@dataclass(frozen=True)
class Size:
    """How much there is of everything."""

    stacks: int = 3
    modules: int = 16
    inverters: int = 8
    speed: float = 5.0
    """How many times faster than in life the line, the sun and the questions are."""


@dataclass
class World:
    """All the running parts."""

    size: Size
    folder: Path
    broker: Mosquitto
    proxy: Proxy
    recorder: Recorder
    bridge: Bridge
    judge: Judge
    devices: dict[str, Device]
    stacks: dict[str, PylontechSimulator]
    roofs: dict[str, AxpertSimulator]
    houses: dict[str, LxpSimulator]

    def setting(self, name: str, dice: Random) -> tuple[str, str]:
        """Return a setting of an inverter and some value for it, as they are written on a set topic."""
        if name in self.houses:
            return LXP_SETTING, str(dice.randrange(20, 101))
        return AXPERT_SETTING, dice.choice(PRIORITIES)

    def held(self, name: str) -> str:
        """Return what the simulated inverter is set to there now, in the same spelling."""
        if name in self.houses:
            return str(self.houses[name].plant.inverters[0].holds[64])
        roof = self.roofs[name]
        return PRIORITIES[int(roof.plant.units[roof.cable].settings[AXPERT_SETTING])]


@contextmanager
def world(folder: Path, size: Size, seed: int) -> Iterator[World]:
    """Build it and start all of it."""
    with ExitStack() as parts:
        broker = parts.enter_context(Mosquitto(folder / "broker"))
        proxy = parts.enter_context(Proxy(broker.port))
        recorder = parts.enter_context(Recorder(broker.port))
        truths: dict[str, Truth] = {}

        def common(name: str) -> dict[str, Any]:
            truths[name] = Truth()
            return {"clock": DayClock(speed=60 * size.speed), "seed": seed + len(truths), "truth": truths[name]}

        stacks = {
            name: parts.enter_context(
                PylontechSimulator(
                    name, modules=size.modules, per_group=12, baud=115_200 * size.speed, turnaround=0.005,
                    link=folder / name, **common(name)
                )
            )
            for name in (f"stack{n}" for n in range(size.stacks))
        }  # fmt: skip
        roofs = {
            name: parts.enter_context(
                AxpertSimulator(name, model=("pi30", "max")[n % 2], transport=("serial", "hid")[n // 2 % 2],
                                baud=2400 * size.speed, link=folder / name, **common(name))
            )
            for n, name in enumerate(f"roof{n}" for n in range(size.inverters))
        }  # fmt: skip
        houses = {
            name: parts.enter_context(
                LxpSimulator(name, model=("lxp12k", "hybrid", "sna", "acs")[n % 4], serials=(f"45126701{n:02d}",),
                             datalog=f"BA245007{n:02d}", greeting=0.5, pace=0.1, push_interval=120 / size.speed,
                             **common(name))
            )
            for n, name in enumerate(f"house{n}" for n in range(size.inverters))
        }  # fmt: skip
        devices = {name: Device(name, truths[name], pylontech(MODULES_AGE)) for name in stacks}
        devices |= {name: Device(name, truths[name], axpert(AXPERT_AGE)) for name in roofs}
        devices |= {
            name: Device(name, truths[name], lxp(LXP_AGE), stick.plant.inverters[0].serial)
            for name, stick in houses.items()
        }
        config = configuration(size, proxy.port, folder, stacks, roofs, houses)
        bridge = Bridge(folder / "bridge", json.dumps(config), {"XDG_STATE_HOME": str(folder / "state")})
        parts.enter_context(bridge)
        judge = Judge(BASE, list(devices.values()), BANK, size.stacks * size.modules, BANK_AGE)
        yield World(size, folder, broker, proxy, recorder, bridge, judge, devices, stacks, roofs, houses)


def configuration(
    size: Size,
    port: int,
    folder: Path,
    stacks: dict[str, PylontechSimulator],
    roofs: dict[str, AxpertSimulator],
    houses: dict[str, LxpSimulator],
) -> dict[str, Any]:
    """Return the bridge's configuration for the house."""
    writing = {"writes": True, "writes_per_minute": 60, "writes_per_day": 1000}
    groups = list(range((size.modules + 11) // 12))
    devices: list[dict[str, Any]] = [
        {
            "name": name,
            "type": "pylontech",
            "port": str(folder / name),
            "interval": 1 / size.speed,
            "groups": groups,
            "max_age": MODULES_AGE,
        }
        for name in stacks
    ]
    devices += [
        {"name": name, "type": "axpert", "port": str(folder / name), "interval": 1 / size.speed,
         "settings_interval": 30, "max_age": AXPERT_AGE, "topics": {"parallel": None, "unit": None}, **writing}
        for name in roofs
    ]  # fmt: skip
    for name, stick in houses.items():
        host, _, number = stick.port.rpartition(":")
        devices.append({"name": name, "type": "lxp", "host": host, "port": int(number), "interval": 10, **writing})
    return {
        "mqtt": {"host": "127.0.0.1", "port": port, "base_topic": BASE, "keepalive": 5},
        "devices": devices,
        "banks": [{"name": "bank", "from": list(stacks), "topic": BANK, "max_age": BANK_AGE,
                   "modules": size.stacks * size.modules}],
        "logging": {"level": "warning"},
    }  # fmt: skip
