"""Notices a line on which answers come damaged again and again (pure)."""

from __future__ import annotations

from collections.abc import Mapping

KINDS = ("format", "checksum", "length")
"""Of failures, those in which bytes were lost or added on the way."""
WINDOW = 60.0
"""Seconds over which they are counted."""
LEAST, SHARE = 5, 0.05
"""So many of them, and such a share of all answers, are no bad luck."""


class Damage:
    """Counts the damaged answers of one device; times are time.monotonic()."""

    def __init__(self, now: float) -> None:
        self._due = now + WINDOW
        self._damaged = self._whole = 0
        self.much = False

    def look(self, now: float, failures: Mapping[str, int], replies: int) -> str | None:
        """Return what there is to say when much damage begins, and when it is over; `replies` are the good answers."""
        if now < self._due:
            return None
        damaged = sum(failures.get(kind, 0) for kind in KINDS)
        lost, whole = damaged - self._damaged, replies - self._whole
        self._due, self._damaged, self._whole = now + WINDOW, damaged, replies
        if not lost + whole:
            return None  # nothing at all is no news of the line
        before, self.much = self.much, lost >= LEAST and lost > SHARE * (lost + whole)
        if self.much == before:
            return None
        if not self.much:
            return "answers come whole again"
        return (
            f"{lost} of {lost + whole} answers came damaged in the last minute: a bad line, "
            "or a shared port, which another program reads too?"
        )
