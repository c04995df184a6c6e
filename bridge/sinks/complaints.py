"""What is to be said of messages that arrive, told sparingly: anybody can send thousands, and a line takes room."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

TELL_EVERY = 10.0
"""Seconds between two lines of one kind."""
LONGEST_TOPIC = 100


@dataclass(slots=True)
class _Told:
    level: int
    until: float
    more: int = 0


class Complaints:
    """Tells of the first message of a kind, and later how many more there were. A kind is one text of a few.

    Called by the broker's thread; `sum_up` by the main thread, each second or so.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._told: dict[str, _Told] = {}

    def tell(self, topic: str, text: str, detail: str = "", level: int = logging.WARNING) -> None:
        """Say something of a message on a topic; `detail` is about this one alone."""
        with self._lock:
            told = self._told.get(text)
            if told is not None:
                told.more += 1
                return
            self._told[text] = _Told(level, time.monotonic() + TELL_EVERY)
        self._log.log(level, "%s: %s%s", ascii(topic[:LONGEST_TOPIC]), text, detail)

    def sum_up(self) -> None:
        """Say how many more there were of each kind."""
        now = time.monotonic()
        counts = []
        with self._lock:
            for text, told in list(self._told.items()):
                if now < told.until:
                    continue
                if told.more:
                    counts.append((told.level, told.more, text))
                    told.more, told.until = 0, now + TELL_EVERY
                else:
                    del self._told[text]
        for level, more, text in counts:
            self._log.log(level, "%d more messages in %.0f s: %s", more, TELL_EVERY, text)
