"""Growing pauses between attempts."""

from __future__ import annotations

import os


class Backoff:
    """Pauses that double from `first` to `most` seconds, each shortened by up to a quarter at random.

    The jitter keeps several devices that lost the same thing from coming back in step; since it only
    shortens, `most` is a promise.
    """

    def __init__(self, first: float, most: float) -> None:
        self._first = first
        self._most = most
        self._next = first

    def pause(self) -> float:
        """Return the seconds to wait now; the next pause is twice as long."""
        seconds, self._next = self._next, min(self._next * 2, self._most)
        # not by `random`, which loads 3 ms of modules at a start
        return seconds * (1.0 - int.from_bytes(os.urandom(4), "big") / 2**34)

    def reset(self) -> None:
        """Start over with the shortest pause, after a success."""
        self._next = self._first
