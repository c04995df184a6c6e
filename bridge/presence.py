"""Who of a device is there: a unit is online while its last good reading is young enough."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from bridge.fields import Reading, Unit
from bridge.sinks.base import Sink

log = logging.getLogger(__name__)


@dataclass
class _Seen:
    unit: Unit
    at: float
    online: bool


class Presence:
    """Keeps the units of one device with the time of their last good reading, and tells the sinks.

    Two threads come here: the device's own and the supervisor's, which takes a unit offline when the
    device's thread hangs. Hence the lock; it is held while the sinks are told, so that "online" and
    "offline" of one unit cannot overtake each other.
    """

    def __init__(self, device: str, sinks: Iterable[Sink]) -> None:
        self._device = device
        self._sinks = sinks
        self._seen: dict[str, _Seen] = {}
        self._lock = threading.Lock()

    def fresh(self, reading: Reading) -> None:
        """Note a good reading; its unit is online from now on. One that is older than the last makes it no older."""
        unit = reading.unit
        with self._lock:
            seen = self._seen.get(unit.path)
            if seen is None:
                seen = self._seen[unit.path] = _Seen(unit, reading.at, online=False)
            seen.unit, seen.at = unit, max(seen.at, reading.at)
            if not seen.online:
                self._turn(seen, online=True)

    def expire(self) -> None:
        """Take every unit offline whose last good reading is older than its age limit."""
        now = time.monotonic()
        with self._lock:
            for seen in self._seen.values():
                age = now - seen.at
                if seen.online and age > seen.unit.max_age:
                    log.warning("%s: no good reading for %.0f s", _label(self._device, seen.unit), age)
                    self._turn(seen, online=False)

    def lost(self) -> None:
        """Take every unit offline: the link to the device is gone."""
        with self._lock:
            for seen in self._seen.values():
                if seen.online:
                    self._turn(seen, online=False)

    def ages(self) -> dict[str, float]:
        """Return seconds since the last good reading, by unit path ("" is the device itself)."""
        now = time.monotonic()
        with self._lock:
            return {path: round(now - seen.at, 1) for path, seen in self._seen.items()}

    def next_expiry(self) -> float:
        """Return the time.monotonic() at which the next unit would expire; far away when none can."""
        with self._lock:
            return min((s.at + s.unit.max_age for s in self._seen.values() if s.online), default=float("inf"))

    def online(self) -> bool:
        """Whether any unit of the device is online."""
        with self._lock:
            return any(seen.online for seen in self._seen.values())

    def _turn(self, seen: _Seen, *, online: bool) -> None:
        seen.online = online
        log.info("%s: %s", _label(self._device, seen.unit), "online" if online else "offline")
        for sink in self._sinks:
            sink.presence(self._device, seen.unit, online)


def _label(device: str, unit: Unit) -> str:
    return f"{device}/{unit.path}" if unit.path else device
