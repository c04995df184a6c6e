"""The truth log: what each simulated device really sent, so that every published value can be traced to one frame.

A record's `sequence` counts the frames of one simulator from 1. Where a frame has room for it, the low
digits of the sequence also stand inside one of its values (each simulator documents which), so a message
found at a subscriber leads back to the very frame it came from.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO, TypeAlias

Scalar: TypeAlias = float | int | str | bool | None


@dataclass(frozen=True, slots=True)
class Record:
    """One frame that a device sent, or would have sent.

    `at` is time.monotonic() just before its last byte was handed over (or when it was lost). `values` are as they
    stand in the frame: rounded to its digits, keyed by the protocol's own field names. `whole` tells that
    the frame went out undamaged; `faults` names what was done to it otherwise (also "dropped": a new
    command cut it off, "unplugged": nobody there, "lost": unplugged or switched off on its way).
    """

    at: float
    device: str
    unit: str
    frame: str
    sequence: int
    values: Mapping[str, Scalar]
    whole: bool = True
    faults: tuple[str, ...] = ()


class TruthLog:
    """The last `limit` records, and every record as a line of JSON in `path` when one is given. Thread-safe."""

    def __init__(self, path: str | Path | None = None, limit: int = 10_000) -> None:
        self._records: deque[Record] = deque(maxlen=limit)
        self._changed = threading.Condition()
        self._path = path
        self._file: TextIO | None = None
        self._unwritten: list[Record] = []

    def add(self, record: Record, *, write: bool = True) -> None:
        """Remember one record and wake whoever waits for it.

        Its line in the file is left to `write_out` with `write` False, since it takes longer than a byte on the wire.
        """
        with self._changed:
            self._records.append(record)
            self._changed.notify_all()
            if self._path is not None:
                self._unwritten.append(record)
        if write:
            self.write_out()

    def write_out(self) -> None:
        """Write the lines that are still to be written."""
        with self._changed:
            if self._path is None or not self._unwritten:
                return
            if self._file is None:
                self._file = open(self._path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115 (closed in close)
            for record in self._unwritten:
                self._file.write(json.dumps(asdict(record)) + "\n")
            self._unwritten.clear()

    def records(self, frame: str | None = None) -> list[Record]:
        """Return the remembered records, oldest first; only those of one frame name when given."""
        with self._changed:
            return [record for record in self._records if frame is None or record.frame == frame]

    def wait(self, accept: Callable[[Record], bool], timeout: float = 5.0) -> Record:
        """Return the first remembered or coming record that `accept` takes; raises TimeoutError when none comes."""
        deadline = time.monotonic() + timeout
        seen = 0
        with self._changed:
            while True:
                for record in list(self._records)[seen:]:
                    if accept(record):
                        return record
                # a full log drops its oldest records, so look at all of them again then
                seen = len(self._records) if len(self._records) < (self._records.maxlen or 0) else 0
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError("no such frame was sent")
                self._changed.wait(left)

    def clear(self) -> None:
        """Forget the remembered records; the file keeps them."""
        with self._changed:
            self._records.clear()

    def close(self) -> None:
        """Close the file; the records stay readable."""
        self.write_out()
        with self._changed:
            if self._file is not None:
                self._file.close()
                self._file = None
