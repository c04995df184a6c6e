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
    """Stands in for the module `time` in code that waits for a device; it can be held at a deadline."""

    def __init__(self) -> None:
        self._starved = 0.0
        self._behind = 0.0

    def start(self) -> None:
        """Show the real time again, at a new question."""
        self._starved, self._behind = starved(os.getpid()), 0.0

    def hold(self, deadline: float, settling: float) -> None:
        """Let a deadline be just now, if it was passed while the machine kept us waiting or we did the device."""
        over = self.monotonic() - deadline
        if 0 < over <= starved(os.getpid()) - self._starved + settling:
            self._behind += over

    def monotonic(self) -> float:
        return time.monotonic() - self._behind

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


class FairLink:
    """A link that calls nothing silence before `settle` has let the device do what it had to by then."""

    def __init__(self, link: Link, clock: FairClock, settle: Callable[[], object]) -> None:
        self._link = link
        self._clock = clock
        self._settle = settle

    def drain(self) -> bytes:
        self._clock.start()  # a question begins with it
        return self._link.drain()

    def read(self, deadline: float) -> bytes:
        settling = 0.0
        data = self._link.read(time.monotonic() + deadline - self._clock.monotonic())
        if not data:
            settling = -time.monotonic()
            self._settle()
            settling += time.monotonic()
            data = self._link.read(0.0)
        if data:
            self._clock.hold(deadline, settling)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)
