"""A day in a house: sun, load and battery, the same ones for the same seed, as fast as one likes."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

DAY = 86_400.0
SUNRISE, SUNSET = 6.0, 19.5
CLOUD_SECONDS = 600.0
"""How long a cloud takes to come or go."""
APPLIANCE_SECONDS = 420.0
"""How long a kettle, an oven or a pump runs."""


class DayClock:
    """Simulated time: `speed` seconds of it pass in each real one, from `start` on."""

    def __init__(
        self,
        start: datetime = datetime(2026, 6, 1, 10, 0, 0),
        speed: float = 1.0,
        real: Callable[[], float] = time.monotonic,
    ) -> None:
        self.start = start
        self.speed = speed
        self._real = real
        self._origin = real()

    def seconds(self) -> float:
        """Return the simulated seconds since midnight of the first day; they only grow."""
        first = self.start.hour * 3600 + self.start.minute * 60 + self.start.second
        return first + (self._real() - self._origin) * self.speed

    def date(self, seconds: float | None = None) -> datetime:
        """Return the calendar date and time at `seconds`, now when left out."""
        midnight = self.start.replace(hour=0, minute=0, second=0, microsecond=0)
        return midnight + timedelta(seconds=self.seconds() if seconds is None else seconds)


@dataclass(frozen=True, slots=True)
class House:
    """Sun and load as functions of the simulated time alone: no memory, so any moment may be asked for."""

    seed: int = 1
    base_load: float = 220.0
    """Watts that are always there."""
    peak_load: float = 2600.0
    """Watts of the largest appliance."""

    def sun(self, seconds: float) -> float:
        """Return how much of the panels' peak power the sun gives, 0 to 1, clouds included."""
        hour = seconds % DAY / 3600
        if not SUNRISE < hour < SUNSET:
            return 0.0
        height = math.sin(math.pi * (hour - SUNRISE) / (SUNSET - SUNRISE))
        return math.pow(height, 1.3) * (1.0 - 0.45 * self.wave(seconds / CLOUD_SECONDS, 1))

    def load(self, seconds: float) -> float:
        """Return the watts the house takes."""
        hour = seconds % DAY / 3600
        fridge = 90.0 if seconds % 2400 < 900 else 0.0
        evening = 500.0 * math.exp(-(((hour - 19.5) / 2.2) ** 2)) + 260.0 * math.exp(-(((hour - 7.5) / 1.2) ** 2))
        slot = int(seconds // APPLIANCE_SECONDS)
        awake = 7 <= hour < 23
        appliance = self.peak_load * self.noise(slot, 3) if awake and self.noise(slot, 2) > 0.82 else 0.0
        return self.base_load + fridge + evening + appliance + 40.0 * self.wave(seconds / 45, 4)

    def wave(self, position: float, channel: int) -> float:
        """Return smooth noise, 0 to 1, that takes a new value at each whole number."""
        index = math.floor(position)
        part = position - index
        smooth = part * part * (3 - 2 * part)
        return self.noise(index, channel) * (1 - smooth) + self.noise(index + 1, channel) * smooth

    def noise(self, index: int, channel: int) -> float:
        """Return a number from 0 to 1 that looks random and depends on seed, index and channel alone."""
        word = (index * 0x9E3779B1 ^ channel * 0x85EBCA6B ^ self.seed * 0xC2B2AE35) & 0xFFFFFFFF
        word = (word ^ word >> 15) * 0x2C1B3C6D & 0xFFFFFFFF
        word = (word ^ word >> 12) * 0x297A2D39 & 0xFFFFFFFF
        return (word ^ word >> 15) / 0xFFFFFFFF


# fmt: off
LFP_CURVE = (
    (0.0, 44.0), (5.0, 47.0), (10.0, 49.0), (20.0, 50.6), (50.0, 52.0), (80.0, 53.0), (95.0, 53.8), (100.0, 54.6),
)
"""State of charge in % -> volts at rest of sixteen lithium iron phosphate cells."""
# fmt: on


@dataclass(slots=True)
class Battery:
    """A battery of sixteen cells (or a part of them, by `nominal` / 48) that fills and empties."""

    capacity_wh: float = 9600.0
    soc: float = 60.0
    nominal: float = 48.0

    def rest_voltage(self) -> float:
        """Return its voltage without current, in V."""
        for (low, below), (high, above) in itertools.pairwise(LFP_CURVE):
            if self.soc <= high:
                return (below + (above - below) * (self.soc - low) / (high - low)) * self.nominal / 48.0
        return LFP_CURVE[-1][1] * self.nominal / 48.0

    def voltage(self, power: float) -> float:
        """Return its voltage while `power` watts go in (positive) or come out, in V."""
        rest = self.rest_voltage()
        # 1 % up or down at a rate that fills it in five hours
        return rest * (1 + 0.05 * power / self.capacity_wh)

    def acceptance(self) -> float:
        """Return how much of the wanted charge it takes, 0 to 1: the last few percent go slowly."""
        return 1.0 if self.soc < 92 else max(0.0, (100.0 - self.soc) / 8)

    def flow(self, power: float, seconds: float) -> None:
        """Let `power` watts flow in (positive) or out for that long."""
        stored = power * (0.97 if power > 0 else 1.0) * seconds / 3600
        self.soc = min(100.0, max(0.0, self.soc + 100.0 * stored / self.capacity_wh))
