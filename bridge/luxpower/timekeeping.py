"""When the clock of an inverter is to be set (pure): looked at each hour, set when it is two minutes off."""

from __future__ import annotations

from datetime import datetime

LOOK_EVERY, LOOK_AGAIN = 3600.0, 60.0
"""Seconds from one look at a clock to the next, and to the look that shows whether setting it helped."""
NEAR_HOUR = 30.0
"""Seconds to wait close to a full hour, when a date that is off by one part is off most."""
DRIFT = 120.0
"""Seconds that a clock may be off."""
DAY = 86_400.0


class Timekeeper:
    """Knows of one inverter's clock when to look at it. Times in s are monotonic ones."""

    def __init__(self) -> None:
        self._look_at = 0.0
        self._tried = False
        self._not_before = 0.0

    def due(self, now: float) -> bool:
        """Whether to look at the clock now."""
        return now >= self._look_at

    def look_now(self) -> None:
        """Look at the clock at once: the inverter may have been away. When it was set last stays known."""
        self._look_at = 0.0

    def put_off(self, now: float) -> None:
        """It could not be read: look again a little later."""
        self._look_at = now + LOOK_AGAIN

    def judge(self, shown: datetime | None, local: datetime, now: float) -> bool:
        """Return whether the clock, which shows that while it is `local`, is to be set now.

        Once a day at most when that helped; each hour when it did not.
        """
        tried, self._tried = self._tried, False
        self._look_at = now + LOOK_EVERY
        if shown is not None and abs((shown - local).total_seconds()) <= DRIFT:
            if tried:
                self._not_before = now + DAY
            return False
        if tried or now < self._not_before:
            return False
        seconds = local.minute * 60 + local.second
        if seconds >= 3590 or seconds < 10:
            self._look_at = now + NEAR_HOUR
            return False
        self._tried = True
        self._look_at, self._not_before = now + LOOK_AGAIN, now + LOOK_EVERY
        return True
