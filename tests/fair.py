"""A clock and a link for tests whose simulated device is a thread beside them: what the machine keeps both from doing
is no silence of the device.

With few cores and many programs a thread may get no processor for longer than a device may think. Then nobody can
tell a slow device from a slow machine, but for a simulated one: it can be asked whether it is done, and the kernel
tells how long each thread was kept waiting. Faults of the device (late, silent, never) count as ever.
"""

from __future__ import annotations

import os
import time
from typing import Any

from bridge.simulators.simulator import Simulator
from bridge.transports.base import Link
from tests.harness import starved


class FairClock:
    """Stands in for the module `time` in code that waits for a device; it can be held at a deadline."""

    def __init__(self) -> None:
        self._starved = 0.0
        self._behind = 0.0

    def start(self) -> None:
        """Show the real time again, at a new question."""
        self._starved, self._behind = starved(os.getpid()), 0.0

    def excused(self, late: float) -> bool:
        """Whether the machine has kept this process waiting for so many seconds since the question."""
        return late <= 0 or late <= starved(os.getpid()) - self._starved

    def hold(self, deadline: float) -> None:
        """Let a deadline that has passed be just now."""
        self._behind += max(0.0, self.monotonic() - deadline)

    def monotonic(self) -> float:
        return time.monotonic() - self._behind

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


class FairLink:
    """A link that calls nothing silence before the simulator has done what it had to by then."""

    def __init__(self, link: Link, clock: FairClock, simulator: Simulator) -> None:
        self._link = link
        self._clock = clock
        self._simulator = simulator

    def drain(self) -> bytes:
        self._clock.start()  # a question begins with it
        return self._link.drain()

    def read(self, deadline: float) -> bytes:
        left = deadline - self._clock.monotonic()
        excused = self._clock.excused(-left)
        data = self._link.read(time.monotonic() + left)
        if not data:
            for _ in range(2):  # at its first turn it hears and answers, at the second it hands over what is due
                self._simulator.call(lambda: None)
            data = self._link.read(0.0)
        if data and excused:
            self._clock.hold(deadline)  # whoever began to wait in time got it in time: the rest was the machine's
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)
