"""A clock and a link for tests whose simulated device is a thread beside them: what the machine keeps both from doing
is no silence of the device.

With few cores and many programs a thread may get no processor for longer than a device may think. Then nobody can
tell a slow device from a slow machine, but for a simulated one: it can be asked whether it is done, and the kernel
tells how long each thread was kept waiting. Faults of the device (late, silent, never) count as ever.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from bridge.transports.base import Link
from tests.harness import starved


class FairClock:
    """Stands in for the module `time` in code that waits for a device: runs from question to answer while we do."""

    def __init__(self) -> None:
        self._starved = 0.0
        self._behind = 0.0
        self._shown = 0.0
        self.start()

    def start(self) -> None:
        """Show the real time again, at a new question."""
        self._starved, self._behind, self._shown = starved(os.getpid()), 0.0, 0.0

    def hold(self, deadline: float) -> None:
        """Go back to a deadline that was passed while the device was not allowed to run."""
        self._behind += max(0.0, self.monotonic() - deadline)
        self._shown = min(self._shown, deadline)

    def monotonic(self) -> float:
        now = time.monotonic() - self._behind - max(0.0, starved(os.getpid()) - self._starved)
        self._shown = max(self._shown, now)
        return self._shown

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


class FairLink:
    """A link that calls nothing silence before `settle` has let the device do what it had to by then."""

    def __init__(self, link: Link, clock: FairClock, settle: Callable[[], object]) -> None:
        self._link = link
        self._clock = clock
        self._settle = settle

    def write(self, data: bytes, deadline: float) -> None:
        self._clock.start()
        self._link.write(data, deadline)

    def read(self, deadline: float) -> bytes:
        while (left := deadline - self._clock.monotonic()) > 0:
            if data := self._link.read(time.monotonic() + left):
                return data
        if data := self._link.read(0.0):
            return data
        self._settle()
        if data := self._link.read(0.0):
            self._clock.hold(deadline)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)
