"""A clock and a link for tests whose simulated device is a thread beside them: what the machine keeps both from doing
is no silence of the device.

With few cores and many programs a thread may get no processor for longer than a device may think, and so may the
kernel's own, which carry bytes from one end of a pseudo-terminal to the other. Then nobody can tell a slow device
from a slow machine, but for a simulated one: it can be asked whether it is done, what was put on the wire can be
counted, and the kernel tells how long each thread was kept waiting. Faults of the device (late, silent, never) count
as ever.
"""

from __future__ import annotations

import math
import os
import time
from typing import Any

from bridge.simulators.simulator import LineSimulator
from bridge.transports.base import Link
from tests.harness import starved

UNDER_WAY = 2.0
"""Seconds for which bytes on the wire are waited for; then they count as lost."""


class FairClock:
    """Stands in for the module `time` in code that waits for a device; it can be held at a deadline."""

    def __init__(self) -> None:
        self._starved = 0.0
        self._behind = 0.0
        self._limit = math.inf
        self.most = 0.0
        """By how many seconds it was ever behind."""

    def start(self) -> None:
        """Show the real time again, at a new question."""
        self._starved, self._behind, self._limit = starved(os.getpid()), 0.0, math.inf

    def excused(self, late: float) -> bool:
        """Whether the machine has kept this process waiting for so many seconds since the question."""
        return late <= 0 or late <= starved(os.getpid()) - self._starved

    def hold(self, deadline: float) -> None:
        """Let it be no later than a deadline when somebody looks next, and go on from there."""
        self._limit = deadline

    def monotonic(self) -> float:
        limit, self._limit = self._limit, math.inf
        now = time.monotonic() - self._behind
        if now <= limit:
            return now
        self._behind += now - limit
        self.most = max(self.most, self._behind)
        return limit

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


class Wire:
    """Counts the bytes that either end of a simulator's line has put on it and taken off it."""

    def __init__(self, simulator: LineSimulator) -> None:
        self._simulator = simulator
        self._end: Any = simulator.line.end
        self._receive, self._hand_over = self._end.receive, self._end.hand_over
        self._end.receive, self._end.hand_over = self._taken_there, self._put_there
        self.forget()

    def forget(self) -> None:
        """Count anew, from an empty wire."""
        self.put_here = self.taken_here = self._put = self._taken = 0

    def _taken_there(self) -> bytes:
        data: bytes = self._receive()
        self._taken += len(data)
        return data

    def _put_there(self, data: bytes) -> None:
        lost = self._end.lost
        self._put += len(data)  # first, as somebody may take it at once
        self._hand_over(data)
        self._put -= self._end.lost - lost

    def settle(self) -> None:
        """Let the simulator hear all that was said to it, answer, and hand over what is due."""
        give_up = time.monotonic() + UNDER_WAY
        while self._taken < self.put_here and self._end.filenos():
            self._simulator.call(lambda: time.sleep(0.0005))
            if time.monotonic() > give_up:
                self.put_here = self._taken
        for _ in range(2):  # at its first turn it answers what it has heard, at the second it hands over
            self._simulator.call(lambda: None)

    def under_way(self) -> bool:
        """Whether bytes from the simulator are on the wire."""
        return self._put > self.taken_here


class FairLink:
    """A link that calls nothing silence before the simulator has done what it had to by then."""

    def __init__(self, link: Link, clock: FairClock, wire: Wire) -> None:
        self._link = link
        self._clock = clock
        self._wire = wire

    def drain(self) -> bytes:
        self._clock.start()  # a question begins with it
        return self._took(self._link.drain())

    def write(self, data: bytes, deadline: float) -> None:
        self._wire.put_here += len(data)
        self._link.write(data, deadline)

    def read(self, deadline: float, expected: int = 1, /) -> bytes:
        left = deadline - self._clock.monotonic()
        excused = self._clock.excused(-left)
        data = self._took(self._link.read(time.monotonic() + left, expected))
        if not data and excused:
            self._wire.settle()
            data = self._took(self._link.read(time.monotonic() + UNDER_WAY if self._wire.under_way() else 0.0))
            if not data:
                self._wire.forget()
        if data and excused:
            self._clock.hold(deadline)  # whoever began to wait in time got it in time: the rest was the machine's
        return data

    def _took(self, data: bytes) -> bytes:
        self._wire.taken_here += len(data)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)
