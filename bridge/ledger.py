"""What one device's settings have been written with: the budget, the ids of commands, and the one under way.

Kept on disk, and saved before a frame goes out: a restart neither renews the budget nor forgets a command, and
after a power cut in the middle of a write the bridge knows what to read back. Where it cannot be saved nothing is
written to the device.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.errors import CommandError
from bridge.statefile import StateFile

log = logging.getLogger(__name__)

SAVE_AGAIN = 10.0
"""Seconds between two attempts to save what could not be saved."""
CLOCK_WAS_SET = 60.0
"""Seconds by which the wall clock has to move against the other one, so that what it stamped is saved anew."""
SAME_REGISTER = 10.0
"""Seconds between two commands that write the same register."""
MINUTE, DAY = 60.0, 86_400.0
IDS = 256
"""Ids remembered; the oldest is forgotten first."""
FORGET_AFTER = DAY
"""Seconds for which an id is remembered."""


@dataclass(frozen=True, slots=True)
class _Spent:
    at: float
    register: str


@dataclass(frozen=True, slots=True)
class _Known:
    at: float
    digest: str
    result: Mapping[str, Any]


def digest(unit: str, setting: str, text: str) -> str:
    """Return what tells two commands with the same id apart."""
    return hashlib.sha256("\0".join((unit, setting, text)).encode()).hexdigest()[:16]


class Ledger:
    """The record of one device's writes. Used by the device's own thread. Raises OSError when it cannot be read.

    Times are `clock`'s in the program and `wall`'s on disk. On loading, a moment in the future counts as now: a
    wall clock that was set back cannot renew a budget.
    """

    def __init__(
        self,
        file: StateFile,
        per_minute: int,
        per_day: int,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._file = file
        self._per_minute, self._per_day = per_minute, per_day
        self._clock, self._wall = clock, wall
        self._spent: list[_Spent] = []
        self._ids: dict[str, _Known] = {}
        self._unsaved = False
        self._save_due = 0.0
        self._saved_by: float | None = None
        """What the wall clock was ahead of the other one at the last save of this run."""
        self.pending: dict[str, Any] | None = None
        """The command whose frame may have gone out and whose outcome is not known yet."""
        self._load(file.load())

    def _load(self, content: Mapping[str, Any]) -> None:
        now, wall = self._clock(), self._wall()
        try:
            self._spent = [_Spent(now - max(0.0, wall - float(at)), str(name)) for at, name in content.get("spent", [])]
            self._ids = {
                str(key): _Known(now - max(0.0, wall - float(at)), str(mark), dict(result))
                for key, (at, mark, result) in content.get("ids", {}).items()
            }
            pending = content.get("pending")
            self.pending = dict(pending) if pending is not None else None
        except (TypeError, ValueError, AttributeError, OverflowError):  # somebody has edited it
            self._spent, self._ids, self.pending = [], {}, None

    def check(self, registers: Sequence[str]) -> None:
        """See whether these words may be written now. Raises CommandError, which says when they may."""
        now = self._clock()
        self._spent = [one for one in self._spent if now - one.at < DAY]
        for one in self._spent:
            if one.register in registers and (left := SAME_REGISTER - (now - one.at)) > 0:
                raise CommandError(f"{one.register} was written a moment ago; possible again in {left:.0f} s")
        self._within(registers, MINUTE, self._per_minute, "a minute")
        self._within(registers, DAY, self._per_day, "a day")

    def _within(self, registers: Sequence[str], period: float, most: int, words: str) -> None:
        now = self._clock()
        young = [one.at for one in self._spent if now - one.at < period]
        excess = len(young) + len(registers) - most
        if excess > 0:
            left = period - (now - young[excess - 1]) if excess <= len(young) else period
            raise CommandError(f"{most} words {words} are allowed for this device; possible again in {left:.0f} s")

    def begin(self, entry: Mapping[str, Any], register: str) -> None:
        """Count one word and note the command as under way, on disk. Raises CommandError when that fails.

        To be called before each frame; the day's limit holds for repetitions too.
        """
        self._within((register,), DAY, self._per_day, "a day")
        spent, pending = self._spent, self.pending
        self._spent = [*spent, _Spent(self._clock(), register)]
        self.pending = dict(entry)
        try:
            self._save()
        except OSError as err:
            self._spent, self.pending = spent, pending
            raise CommandError(f"not written, since it cannot be recorded: {self._file.path}: {err.strerror}") from err

    def end(self, request_id: str | None, mark: str, result: Mapping[str, Any]) -> None:
        """Note what became of the command that was carried out. Raises OSError; it is remembered all the same, and
        `save_again` brings it to the disk: on that it is under way still, and a restart would settle it once more.

        Costs nothing on disk when no frame went out and the command has no id.
        """
        under_way, self.pending = self.pending, None
        if request_id is not None:
            self._ids[request_id] = _Known(self._clock(), mark, dict(result))
            while len(self._ids) > IDS:
                del self._ids[next(iter(self._ids))]
        elif under_way is None:
            return
        self._save()

    def save_again(self, *, now: bool = False) -> None:
        """Save what could not be saved, every SAVE_AGAIN seconds until it can be; or now, since it is the last time.

        Save again, too, what a clock stamped that has been set since: many boards begin in the past, and behind a
        restart what was written this minute would be as old as that.
        """
        moved = self._wall() - self._clock() - self._saved_by if self._saved_by is not None else 0.0
        self._unsaved |= abs(moved) > CLOCK_WAS_SET
        if not self._unsaved or (self._clock() < self._save_due and not now):
            return
        try:
            self._save()
        except OSError as err:
            log.debug("%s: still not saved: %s", self._file.path, err.strerror)
        else:
            log.info("%s: saved anew", self._file.path)

    def recall(self, request_id: str, mark: str) -> Mapping[str, Any] | None:
        """Return the result of the command that had this id before, None when there was none.

        Raises CommandError when that was another command.
        """
        known = self._ids.get(request_id)
        if known is None or self._clock() - known.at > FORGET_AFTER:
            return None
        if known.digest != mark:
            raise CommandError("this id was used before, for another command")
        return known.result

    def _save(self) -> None:
        now, wall = self._clock(), self._wall()
        self._unsaved, self._save_due = True, now + SAVE_AGAIN  # until it is done
        self._file.save(
            {
                "spent": [[round(wall - (now - one.at), 3), one.register] for one in self._spent],
                "ids": {
                    key: [round(wall - (now - one.at), 3), one.digest, one.result] for key, one in self._ids.items()
                },
                "pending": self.pending,
            }
        )
        self._unsaved, self._saved_by = False, wall - now
