"""What a sink offers: a place where readings go."""

from __future__ import annotations

from typing import Protocol

from bridge.fields import Reading, Unit


class Sink(Protocol):
    """Takes what devices tell. Called from every device's thread; must not block and must not raise."""

    def take(self, device: str, reading: Reading) -> None:
        """Pass one reading on."""

    def presence(self, device: str, unit: Unit, online: bool) -> None:
        """Tell that a unit has come or gone. Called on every change, from any thread."""
