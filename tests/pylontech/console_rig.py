"""A simulated console on a real pty, the device that reads it, and a judge who holds both together.

The simulator answers at once; waits are shortened so that silence does not take seconds, and fair (tests/fair.py), so
that a busy machine is no silence. The judge believes the simulator's truth log alone: what was published together
must stand together in what one answer meant to say, whatever was done to it on its way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import pytest

from bridge.errors import NoReply
from bridge.fields import Reading
from bridge.pylontech import console_connection, console_tasks, device, extra2000_device
from bridge.simulators.pylontech_console import ConsoleSimulator, Extra2000Simulator
from bridge.simulators.truth import Record
from tests.fair import FairClock, FairLink, Wire
from tests.faults.ledger import note
from tests.harness import PATIENCE
from tests.voltronic.peer import Surroundings

WAITS = {"THINKING": {}, "OTHERS_THINKING": 0.2, "BETWEEN": 0.1, "FOLLOWS": 0.1, "KNOCKING": 0.08,
         "QUIET": 0.02, "RECENTLY": 0.4, "WAKING": 0.02, "CHANGING": 0.02}  # fmt: skip


def shorten(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in WAITS.items():
        monkeypatch.setattr(console_connection, name, value)
    monkeypatch.setattr(console_tasks, "EVENTS_INTERVAL", 0.0)
    monkeypatch.setattr(console_tasks, "LIMITS_INTERVAL", 0.0)


class ConsoleRig:
    """One device on one simulated console."""

    def __init__(self, sim: ConsoleSimulator, reader: Any, options: dict[str, Any]) -> None:
        self.sim = sim
        self.world = Surroundings()
        self.device: Any = reader.build(reader.Options(port=sim.port, **options), self.world.context)
        self.readings: list[Reading] = []
        self.silent_rounds = 0
        self._open, self.device.open = self.device.open, self.open
        self._clock, self._wire = FairClock(), Wire(sim)
        console_connection.time = self._clock  # type: ignore[assignment]
        self.open()

    def open(self) -> None:
        self._wire.forget()
        self._open()
        talk = self.device._console
        talk._link = FairLink(talk._link, self._clock, self._wire)

    def close(self) -> None:
        console_connection.time = time
        self.device.close()
        self.sim.stop()

    def serial(self, position: int) -> str:
        return str(self.sim.stack.modules[position].serial)

    def poll(self, rounds: int = 1) -> list[Reading]:
        """Poll so many rounds; return what they published. A round without any answer is counted."""
        new: list[Reading] = []
        for _ in range(rounds):
            try:
                new += [reading for reading in self.device.poll() if reading is not None]
            except NoReply:
                self.silent_rounds += 1
        self.readings += new
        return new

    def poll_until(self, done: Callable[[list[Reading]], object], seconds: float = 15.0) -> list[Reading]:
        """Poll until `done` says so of all that was published meanwhile; at the deadline the test fails."""
        new: list[Reading] = []
        end = time.monotonic() + seconds * PATIENCE
        while not done(new):
            assert time.monotonic() < end, "not in time"
            new += self.poll()
        return new

    def settle(self) -> list[Reading]:
        """Poll until the stack and the cells of all its modules are published."""
        count = len(self.sim.stack.modules)

        def complete(readings: list[Reading]) -> bool:
            known = {r.unit.path for r in readings if r.values.get("cell_1_voltage") is not None}
            return len(known) == count and "" in {r.unit.path for r in readings}

        return self.poll_until(complete)

    def failures(self) -> dict[str, int]:
        return dict(self.world.tally.failures)

    @property
    def held(self) -> float:
        """By how many seconds a reading may seem to be older than it is."""
        return self._clock.most


def console(options: dict[str, Any] | None = None, **simulated: Any) -> ConsoleRig:
    sim = ConsoleSimulator(**{"baud": None, **simulated}).start()
    wanted = {"name": "batteries", "type": "pylontech", "link": "console", "interval": 0.0, "cells_interval": 0.0}
    return ConsoleRig(sim, device, {**wanted, **(options or {})})


def extra2000(options: dict[str, Any] | None = None, **simulated: Any) -> ConsoleRig:
    sim = Extra2000Simulator(**{"baud": None, "asleep": False, **simulated}).start()
    wanted = {"name": "garage", "type": "pylontech-extra2000", "interval": 0.0, "cells_interval": 0.0}
    return ConsoleRig(sim, extra2000_device, {**wanted, **(options or {})})


def move_cable(one: ConsoleRig) -> set[str]:
    """Put the cable into a stack that looks just the same; return the serial numbers that are on it no more."""
    modules = one.sim.stack.modules.values()
    old = {str(module.serial) for module in modules}
    for module in modules:
        module.serial = f"Z{module.serial[1:]}"
    return old


def until_known(one: ConsoleRig) -> list[Reading]:
    """Poll until each module has its own name; return what was published before."""
    names = {str(module.serial) for module in one.sim.stack.modules.values()}
    return one.poll_until(lambda new: names <= {reading.unit.path for reading in new})


def states(readings: Iterable[Reading], path: str = "") -> list[dict[str, Any]]:
    return [dict(r.values) for r in readings if r.unit.path == path and r.topic is None]


def on(readings: Iterable[Reading], topic: str) -> list[dict[str, Any]]:
    return [dict(r.values) for r in readings if r.topic == topic]


# -- the judge: published key -> the truth log's key, written down anew, not taken from the decoder's tables

MEASURED = {"voltage": "voltage", "current": "current", "temperature": "temperature", "soc": "soc"}
CELLS = {f"cell_{n}_voltage": f"cell_{n}" for n in range(1, 17)}
CELLS |= {f"cell_{n}_temperature": f"cell_{n}_temperature" for n in range(1, 17)}
TOGETHER = (
    (("pwr", "pwr N"), MEASURED),
    (("bat",), CELLS),
    (("stat",), {"cycles": "cycles", "soh": "soh"}),
    (("pwr N",), {"total_capacity": "total_capacity", "power_events": "power_events", "system_faults": "system_fault"}),
    (("info",), {"serial": "serial", "model": "model"}),
)


def wrong(rig: ConsoleRig, readings: Iterable[Reading], max_age: float = 60.0) -> list[str]:
    """Return what no answer about that module, young enough, meant to say: there should be nothing."""
    complaints = []
    records = rig.sim.truth.records()
    for reading in readings:
        path = reading.unit.path
        if not path or reading.topic is not None:
            continue
        serial = rig.serial(int(path)) if path.isdigit() else path
        for frames, keys in TOGETHER:
            known = {ours: value for ours, value in reading.values.items() if ours in keys and value is not None}
            told = {keys[ours]: value for ours, value in known.items()}
            ages = (-1.0 - rig.held, max_age)
            if told and not any(_spoken(r, serial, reading.at, told, ages) for r in records if r.frame in frames):
                complaints.append(f"{path}: no {frames} says {told}")
    return complaints


Ages: TypeAlias = tuple[float, float]


def _spoken(record: Record, serial: str, at: float, told: dict[str, Any], ages: Ages) -> bool:
    if not ages[0] <= at - record.at <= ages[1]:
        return False
    prefix = f"{serial}/" if record.frame == "pwr" else ""
    own = bool(prefix) or record.unit == serial
    return own and all(record.values.get(prefix + key) == value for key, value in told.items())


def check(rig: ConsoleRig) -> None:
    """Fail when a wrong value was published, a key set another than the announced, or a command that writes."""
    assert rig.readings, "nothing was published, so nothing can be judged"
    found = wrong(rig, rig.readings)
    note(wrong=len(found))
    assert not found, found[:3]
    for reading in rig.readings:
        if reading.topic is None:
            assert set(reading.values) == {field.key for field in reading.unit.fields}
    assert rig.sim.writes == []
