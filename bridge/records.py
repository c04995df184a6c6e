"""Where the writes of a device are recorded: one ledger each, one audit log for all, in the state directory."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from bridge.audit import AuditLog
from bridge.devices import WritableOptions
from bridge.ledger import Ledger
from bridge.statefile import StateFile
from bridge.writing import Records


@cache
def audit_of(folder: Path) -> AuditLog:
    """Return the audit log of a folder; the same one for all devices, since its file is renamed now and then."""
    return AuditLog(folder)


def records_of(options: WritableOptions, folder: Path) -> Records:
    """Return the records of one device; its ledger is read from disk."""
    file = StateFile(folder / f"writes-{_file_name(options.name)}.json")
    ledger = Ledger(file, options.writes_per_minute, options.writes_per_day)
    return Records(ledger, audit_of(folder))


def _file_name(name: str) -> str:
    """Return a device's name as part of a file name, different for different names."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else f"%{ord(c):x}" for c in name)
