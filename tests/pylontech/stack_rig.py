"""A stack of simulated modules on a real pty, the device that reads it, and a judge who holds both together.

The simulator answers at once; waits are shortened so that silence does not take seconds, and fair (tests/fair.py), so
that a busy machine is no silence. The judge believes the simulator's truth log alone: every published value must
stand in a whole frame of that very module.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeAlias

from bridge.errors import NoReply
from bridge.fields import Reading
from bridge.pylontech import connection
from bridge.pylontech.device import Options, build
from bridge.simulators.pylontech import PylontechSimulator
from bridge.simulators.truth import Record
from tests.fair import FairClock, FairLink, Wire
from tests.faults.ledger import note
from tests.harness import PATIENCE
from tests.voltronic.peer import Surroundings

TURNAROUND = 0.03


class Rig:
    """One device on one simulated stack."""

    def __init__(self, options: dict[str, Any] | None = None, **simulated: Any) -> None:
        self.sim = PylontechSimulator(**{"baud": None, **simulated}).start()
        self.world = Surroundings()
        wanted = {"name": "batteries", "type": "pylontech", "port": self.sim.port, "interval": 0.0,
                  "turnaround": TURNAROUND, "limits_interval": 0.0, **(options or {})}  # fmt: skip
        self.device: Any = build(Options(**wanted), self.world.context)
        self._open, self.device.open = self.device.open, self.open
        self._clock, self._wire = FairClock(), Wire(self.sim)
        connection.time = self._clock  # type: ignore[assignment]
        self.readings: list[Reading] = []
        self.silent_rounds = 0

    def open(self) -> Rig:
        self._wire.forget()
        self._open()
        line = self.device._line
        line._link = FairLink(line._link, self._clock, self._wire)
        return self

    def close(self) -> None:
        connection.time = time
        self.device.close()
        self.sim.stop()

    @property
    def modules(self) -> dict[int, Any]:
        return self.sim.stack.modules

    def serial(self, address: int) -> str:
        return str(self.modules[address].serial)

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

    def poll_until(self, done: Callable[[], object], seconds: float = 15.0) -> list[Reading]:
        """Poll until `done`; at the deadline the test fails."""
        new: list[Reading] = []
        end = time.monotonic() + seconds * PATIENCE
        while not done():
            assert time.monotonic() < end, f"not in time; {self.failures()}, {self.world.tally.last_failure}"
            new += self.poll()
        return new

    def poll_for(self, seconds: float) -> list[Reading]:
        end = time.monotonic() + seconds
        return self.poll_until(lambda: time.monotonic() >= end, seconds + 10)

    def asked(self, command: str, address: int | None = None) -> list[Record]:
        """Return the answers that the stack gave to a command."""
        records = self.sim.truth.records(command)
        return [r for r in records if address is None or r.values.get("address") == address]

    def failures(self) -> dict[str, int]:
        return dict(self.world.tally.failures)

    @property
    def held(self) -> float:
        """By how many seconds a reading may seem to be older than it is."""
        return self._clock.most


def states(readings: list[Reading], path: str = "") -> list[dict[str, Any]]:
    return [dict(r.values) for r in readings if r.unit.path == path]


def paths(readings: list[Reading]) -> set[str]:
    return {r.unit.path for r in readings}


# -- the judge: published key -> the truth log's key, written down anew, not taken from the decoder's tables

MEASURED = {"voltage": "voltage", "current": "current", "remaining_capacity": "remaining_capacity",
            "total_capacity": "total_capacity", "cycles": "cycles", "temperature": "temperature_1"}  # fmt: skip
MEASURED |= {f"temperature_{n}": f"temperature_{n}" for n in range(2, 7)}
MEASURED |= {f"cell_{n}_voltage": f"cell_{n}" for n in range(1, 17)}
LIMITS = {"charge_voltage_limit": "charge_voltage_limit", "discharge_voltage_limit": "discharge_voltage_limit",
          "charge_current_limit": "max_charge_current"}  # fmt: skip


def wrong(rig: Rig, readings: list[Reading], max_age: float = 10.0) -> list[str]:
    """Return what no whole frame of that module, young enough, has said: there should be nothing.

    Frames that a fault changed count as such a module's when `whole` is false but both checksums hold only in the
    tests that say so; here they do not.
    """
    complaints = []
    records = rig.sim.truth.records()
    for reading in readings:
        if not reading.unit.path:
            continue
        told = {key: value for key, value in reading.values.items() if value is not None}
        for frame, keys in (("42", MEASURED), ("92", LIMITS)):
            published = {theirs: told[ours] for ours, theirs in keys.items() if ours in told}
            if published and not _spoken(records, reading, frame, published, (-0.5 - rig.held, max_age)):
                complaints.append(f"{reading.unit.path}: no {frame}h frame says {published}")
    return complaints


Ages: TypeAlias = tuple[float, float]


def _spoken(records: list[Record], reading: Reading, frame: str, published: dict[str, Any], ages: Ages) -> bool:
    for record in reversed(records):
        if record.frame not in (frame, f"{frame} group") or not ages[0] <= reading.at - record.at <= ages[1]:
            continue
        prefix = f"{reading.unit.path}/" if record.frame.endswith("group") else ""
        own = record.unit == reading.unit.path or prefix
        if own and all(record.values.get(prefix + key) == value for key, value in published.items()) and record.whole:
            return True
    return False


def check(rig: Rig, readings: list[Reading] | None = None) -> None:
    """Fail when a wrong value was published, or a key set that is not the announced one."""
    judged = rig.readings if readings is None else readings
    assert judged, "nothing was published, so nothing can be judged"
    found = wrong(rig, judged)
    note(wrong=len(found))
    assert found == []
    for reading in judged:
        assert set(reading.values) == {field.key for field in reading.unit.fields}
