"""Keeps estimated energies over restarts and power cuts, and publishes them.

Nothing is published that is not on disk already, so that a total never falls, whatever happens in between. The file
is written seldom, since it may be on an SD card: what a power cut costs is the energy of the minutes since. While
it cannot be read nothing is published either; what is added up meanwhile is added to what it holds.

The devices' threads add up, the main thread saves and publishes (`round`, `close`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Protocol

from bridge.energy import TELLING, Integrator, meters_of
from bridge.fields import Channel, Field, Reading, Unit
from bridge.statefile import StateFile

log = logging.getLogger(__name__)

SAVE_EVERY = 300.0
"""Seconds between two savings."""
FIRST = 30.0
"""Seconds from a new unit's first reading to the first saving; by then it is known what it counts itself."""
LARGEST = 1e9
"""kWh; a larger number in the file is damage."""


class Outlet(Protocol):
    """Where totals go (MqttSink)."""

    def publish_energy(self, device: str, unit: Unit, values: Mapping[str, float]) -> None:
        """Publish the totals of a unit, retained."""


@dataclass(slots=True)
class _Counted:
    """One unit with what is counted of it."""

    unit: Unit
    integrator: Integrator
    published: dict[str, float] | None = None


class EnergyKeeper:
    """A sink that integrates power. See the module's text for who calls what."""

    def __init__(self, file: StateFile, outlet: Outlet) -> None:
        self._file = file
        self._outlet = outlet
        self._saved: dict[str, dict[str, float]] = {}
        self._loaded = False
        self._counted: dict[tuple[str, str], _Counted] = {}
        self._units: dict[str, dict[str, Unit]] = {}
        self._told: dict[tuple[str, str], set[str]] = {}
        self._lock = threading.Lock()
        self._due = float("inf")
        self._trouble: str | None = None
        self._load()

    # -- from the devices' threads

    def take(self, device: str, reading: Reading) -> None:
        if reading.channel is not Channel.STATE or reading.topic is not None:
            return
        unit = reading.unit
        known = self._units.get(device)
        if known is None or known.get(unit.path) is not unit:
            self._note(device, unit)
        counted = self._counted.get((device, unit.path))
        if counted is not None:
            counted.integrator.take(reading.values, reading.at, unit.max_age)

    def presence(self, device: str, unit: Unit, online: bool) -> None:
        """A unit that was away left a gap; the ages of its readings say so."""

    def _note(self, device: str, unit: Unit) -> None:
        """Look which meters a unit needs, now that it announces these keys; what it once had counts on."""
        place = (device, unit.path)
        with self._lock:
            self._units.setdefault(device, {})[unit.path] = unit
            told = self._told.setdefault(place, set())
            told |= TELLING.intersection(item.key for item in unit.fields)
            meters = meters_of(unit.path, told)
            counted = self._counted.get(place)
            if counted is not None and counted.integrator.meters == meters:
                counted.unit = unit
            elif meters:
                totals = counted.integrator.totals if counted else dict(self._saved.get(_name(*place), {}))
                self._counted[place] = _Counted(unit, Integrator(meters, totals))
                self._due = min(self._due, time.monotonic() + FIRST)
            else:
                self._counted.pop(place, None)

    # -- from the main thread

    def fields(self, device: str, path: str) -> tuple[Field, ...]:
        """Return the totals that are published of a unit; nothing before they are."""
        counted = self._counted.get((device, path))
        if counted is None or counted.published is None:
            return ()
        return tuple(item for meter in counted.integrator.meters for item in meter.fields)

    def round(self) -> None:
        """Save and publish when it is time."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + SAVE_EVERY
            self._save()

    def close(self) -> None:
        """Save and publish what was counted to the end."""
        if self._counted:
            self._save()

    def forget(self, device: str, path: str) -> None:
        """Drop the totals of a unit that is gone for good."""
        with self._lock:
            self._counted.pop((device, path), None)
            self._units.get(device, {}).pop(path, None)
            self._saved.pop(_name(device, path), None)

    def _load(self) -> bool:
        """Take up what was saved, unless that was done; return whether it is there."""
        if self._loaded:
            return True
        try:
            saved = _read(self._file)
        except OSError as err:
            self._tell(f"{self._file.path} cannot be read: {err.strerror}")
            return False
        with self._lock:
            self._saved, self._loaded = saved, True
            for place, counted in self._counted.items():
                # another object, since the device's thread may be adding to this one: that may lose a step of its own
                counted.integrator = _upon(saved.get(_name(*place), {}), counted.integrator)
        return True

    def _save(self) -> None:
        if not self._load():
            return
        with self._lock:
            places = dict(self._counted)
        now = {place: counted.integrator.told() for place, counted in places.items()}
        changed = {_name(*place): totals for place, totals in now.items() if self._saved.get(_name(*place)) != totals}
        if changed:
            try:
                self._file.save({**self._saved, **changed})
            except OSError as err:
                self._tell(f"{self._file.path}: {err.strerror}")
                return
            self._saved.update(changed)
            self._tell(None)
        for place, counted in places.items():
            totals = now[place]
            if counted.published != totals:
                counted.published = totals
                self._outlet.publish_energy(place[0], counted.unit, totals)

    def _tell(self, trouble: str | None) -> None:
        if trouble is not None and trouble != self._trouble:
            log.warning("estimated energies cannot be kept (%s), so they stand still; state_directory: says where "
                        "they go, energy: false switches them off", trouble)  # fmt: skip
        elif trouble is None and self._trouble is not None:
            log.info("estimated energies are kept again")
        self._trouble = trouble


def _upon(saved: Mapping[str, float], counted: Integrator) -> Integrator:
    """Return what adds to the sum of what was saved and what was counted."""
    totals = dict(saved)
    for key, total in counted.totals.items():
        totals[key] = totals.get(key, 0.0) + total
    return Integrator(counted.meters, totals)


def _name(device: str, path: str) -> str:
    return f"{device}/{path}" if path else device


def _read(file: StateFile) -> dict[str, dict[str, float]]:
    """Return what was saved; whatever is no total is left out."""
    found: dict[str, dict[str, float]] = {}
    for name, totals in file.load().items():
        if isinstance(totals, dict):
            found[name] = {
                key: float(value) for key, value in totals.items()
                if isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)
                and 0 <= value <= LARGEST
            }  # fmt: skip
    return found
