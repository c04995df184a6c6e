"""Who set what, when, and what came of it: JSON lines, appended and synced one by one, never changed.

The file is bounded: past its size it is renamed, and the one before it goes. A power cut can cut the last line
short; it is ended at the next start, so that what follows is whole, and readers leave it out.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

NAME = "audit.jsonl"
LARGEST = 1 << 20
"""Bytes of the file before it is renamed; there are two, so about 6000 commands can be read."""


class AuditLog:
    """The audit log of the whole program; any thread may append."""

    def __init__(self, folder: Path, largest: int = LARGEST) -> None:
        self.path = folder / NAME
        self._largest = largest
        self._lock = threading.Lock()
        self._checked = False

    def append(self, entry: Mapping[str, Any]) -> None:
        """Write one line, stamped with the wall clock, and bring it to the disk. Raises OSError."""
        stamp = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"ts": stamp, **entry}, allow_nan=False, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_room(len(line))
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            fd = os.open(self.path, flags, 0o600)
            try:
                if not self._checked:
                    line = self._end_cut_line(line)
                if os.write(fd, line) < len(line):
                    raise OSError(28, "no space left on device")
                os.fsync(fd)
                self._checked = True
            except OSError:
                self._checked = False  # the line may be there in part
                raise
            finally:
                os.close(fd)

    def _make_room(self, more: int) -> None:
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            return
        if size + more > self._largest:
            os.replace(self.path, self.path.with_name(NAME + ".1"))

    def _end_cut_line(self, line: bytes) -> bytes:
        with open(self.path, "rb") as file:
            if file.seek(0, os.SEEK_END) == 0:
                return line
            file.seek(-1, os.SEEK_END)
            return line if file.read(1) == b"\n" else b"\n" + line

    def entries(self) -> Iterator[dict[str, Any]]:
        """Return the lines that are whole, oldest first."""
        for path in (self.path.with_name(NAME + ".1"), self.path):
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                continue
            for line in data.split(b"\n"):
                try:
                    entry = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if isinstance(entry, dict):
                    yield entry
