"""A small JSON file that outlives a power cut, and the folder where such files live.

Written whole to a temporary name, synced, renamed, and the folder synced: at every moment the old or the new
one is there. What is damaged is set aside under another name, with a notice, and counts as not there. A file that is
there and cannot be read (no right to, no descriptor left, a bad disk) is neither: it may be read a moment later, so
nobody may take it for empty and write over it.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

LARGEST = 4 << 20
"""Bytes; a larger file is not one of ours."""


def state_directory(configured: str | None, environ: Mapping[str, str]) -> Path:
    """Return the folder for what has to outlive a restart; it need not exist yet.

    The configured one, else systemd's, else the user's own.
    """
    if configured:
        return Path(configured)
    if given := environ.get("STATE_DIRECTORY"):
        return Path(given.split(":")[0])
    home = environ.get("XDG_STATE_HOME") or os.path.join(environ.get("HOME") or "/var/lib", ".local", "state")
    return Path(home) / "solarbridge"


class StateFile:
    """One JSON object on disk. Used by one thread."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> dict[str, Any]:
        """Return what was saved last; empty when nothing was, or when it is damaged.

        Raises OSError when there may be something that cannot be read: then nothing must be saved over it.
        """
        try:
            with open(self.path, "rb") as file:
                data = file.read(LARGEST + 1)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        try:
            if len(data) > LARGEST:
                raise ValueError("too large")
            found = json.loads(data)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict):
            return found
        self._set_aside()
        return {}

    def _set_aside(self) -> None:
        aside = self.path.with_name(self.path.name + ".bad")
        try:
            os.replace(self.path, aside)
        except OSError as err:
            log.warning("%s is damaged and cannot be set aside (%s); starting without it", self.path, err.strerror)
        else:
            log.warning("%s was damaged, by a power cut perhaps; it is now %s, starting without it", self.path, aside)

    def save(self, content: Mapping[str, Any]) -> None:
        """Replace the file. Raises OSError, and the old one is still there then."""
        data = json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # not by `tempfile`, which loads 2 ms of modules at a start
        temporary = self.path.with_name(f".{self.path.name}.{os.urandom(6).hex()}")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        except OSError:
            _remove(temporary)
            raise
        _sync_folder(self.path.parent)


def _remove(path: Path) -> None:
    try:
        os.unlink(path)
    except OSError:
        log.debug("%s stays", path)


def _sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
