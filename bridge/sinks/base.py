"""What a sink offers: a place where readings go."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Protocol

from bridge.fields import Reading, Unit


class Sink(Protocol):
    """Takes what devices tell. Called from every device's thread; must not block and must not raise."""

    def take(self, device: str, reading: Reading) -> None:
        """Pass one reading on."""

    def presence(self, device: str, unit: Unit, online: bool) -> None:
        """Tell that a unit has come or gone. Called on every change, from any thread."""


class Sinks:
    """All sinks of the program. Iterating waits until they are there.

    The devices' threads start before the sinks are made, so that a device is asked while the libraries of the
    sinks are still being loaded; what it answers meanwhile waits here.
    """

    def __init__(self) -> None:
        self._sinks: tuple[Sink, ...] = ()
        self._there = threading.Event()

    def complete(self, *sinks: Sink) -> None:
        """Say that these are all."""
        self._sinks = sinks
        self._there.set()

    def __iter__(self) -> Iterator[Sink]:
        if not self._sinks:
            self._there.wait()
        return iter(self._sinks)
