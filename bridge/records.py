"""Where the writes of a device are recorded: one ledger each, one audit log for all, in the state directory."""

from __future__ import annotations

import fcntl
import logging
import os
from functools import cache
from pathlib import Path

from bridge.audit import AuditLog
from bridge.devices import WritableOptions
from bridge.ledger import Ledger
from bridge.statefile import StateFile
from bridge.writing import Records

log = logging.getLogger(__name__)

_claimed: dict[Path, int] = {}
"""The locks this process holds."""


@cache
def audit_of(folder: Path) -> AuditLog:
    """Return the audit log of a folder; the same one for all devices, since its file is renamed now and then."""
    return AuditLog(folder)


def records_of(options: WritableOptions, folder: Path) -> Records | None:
    """Return the records of one device, its ledger read from disk.

    None, and an error in the log, when they cannot be had. They are ours until the program ends: two programs that
    each keep an own budget would keep none.
    """
    file = StateFile(folder / f"writes-{_file_name(options.name)}.json")
    if (trouble := _claim(file.path)) is not None:
        log.error("%s: writing is off, since its record cannot be kept: %s", options.name, trouble)
        return None
    try:
        ledger = Ledger(file, options.writes_per_minute, options.writes_per_day)
    except OSError as err:  # taken for empty, it would renew the budget and forget the write under way
        log.error("%s: writing is off, since its record cannot be read: %s: %s; mend that and start anew",
                  options.name, file.path, err.strerror)  # fmt: skip
        return None
    return Records(ledger, audit_of(folder))


def _claim(path: Path) -> str | None:
    """Lock the record for this process; return what is in the way, or None."""
    if path in _claimed:
        return None
    lock = path.with_suffix(".lock")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as err:
        return f"{lock}: {err.strerror}"
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return f"{lock}: another solarbridge has it"
    _claimed[path] = fd  # kept open until the process ends
    return None


def _file_name(name: str) -> str:
    """Return a device's name as part of a file name, different for different names."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else f"%{ord(c):x}" for c in name)
