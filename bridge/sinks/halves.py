"""Windows set by halves: {setting}/start and {setting}/end make one command for the whole window (pure).

A `time` entity of Home Assistant sends one time of the day, a window is written as a whole. The other half is the
one on the settings topic, or of a command that is under way: who sets the start and then the end means both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

HALVES = ("start", "end")
UNDER_WAY = 60.0
"""Seconds for which a command counts before its result has come."""
READ_BACK = 10.0
"""Seconds behind a good result, in which the settings topic may show what was before."""

_TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9](:00)?")
_WINDOW = re.compile(r"[0-9]{2}:[0-9]{2}-[0-9]{2}:[0-9]{2}")


@dataclass(slots=True)
class _Wanted:
    window: str
    until: float
    former: _Wanted | None = None
    """What was wanted before, for one that is undone."""


class Halves:
    """What was made of halves lately. Called by the broker's thread, `result` by the devices' too."""

    def __init__(self) -> None:
        self._wanted: dict[tuple[str, str, str], _Wanted] = {}

    @staticmethod
    def split(setting: str) -> tuple[str, str] | None:
        """Return a topic's end as the setting and the half of it, None when it names none."""
        key, _, half = setting.rpartition("/")
        return (key, half) if key and half in HALVES else None

    def whole(
        self, place: tuple[str, str, str], half: str, payload: bytes, shown: object, now: float
    ) -> tuple[bytes | None, str]:
        """Return the window to command and the one it is made from, or None and why there is none.

        It counts as under way: see `undo`.

        `place` is device, unit and setting; `shown` the window that the settings topic has.
        """
        text = payload[:20].decode("ascii", "replace")
        if not _TIME.fullmatch(text) or len(payload) > 8:
            return None, "expected a time of the day, HH:MM:00"
        wanted = self._wanted.get(place)
        known = wanted.window if wanted is not None and now < wanted.until else shown
        if not isinstance(known, str) or not _WINDOW.fullmatch(known):
            return None, "the other half of the window is not known yet"
        start, end = known.split("-")
        window = f"{text[:5]}-{end}" if half == "start" else f"{start}-{text[:5]}"
        if wanted is not None:
            wanted.former = None
        self._wanted[place] = _Wanted(window, now + UNDER_WAY, wanted)
        return window.encode(), known

    def undo(self, place: tuple[str, str, str]) -> None:
        """Forget the window made last, since it was not commanded: the one before it counts again."""
        wanted = self._wanted.pop(place, None)
        if wanted is not None and (former := wanted.former) is not None:
            former.until = min(former.until, wanted.until)  # its result may have come meanwhile
            self._wanted[place] = former

    def result(self, place: tuple[str, str, str], outcome: object, now: float) -> None:
        """Take the result of a command: only what was set counts on."""
        wanted = self._wanted.get(place)
        if wanted is None:
            return
        if outcome in ("done", "unchanged") and now < wanted.until:  # else it is of a command given in another way
            wanted.until = now + READ_BACK
        else:
            self._wanted.pop(place, None)
