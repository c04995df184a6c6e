"""A disk that gets full: a file system in memory with little room, which only root can mount."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """Mount one with `size` bytes of room on a new folder; where that cannot be, skip the test and say why."""
    why = mounted(folder, size)
    if why is not None:
        pytest.skip(f"a disk that gets full cannot be mounted here: {why}")
    try:
        yield
    finally:
        unmount(folder)


def mounted(folder: Path, size: int) -> str | None:
    """Mount one; return why that cannot be, or None."""
    folder.mkdir()
    if os.geteuid() != 0:
        return "that takes root"
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    return done.stderr.strip() if done.returncode else None


def unmount(folder: Path) -> None:
    """Take it away, whoever still has a file of it open."""
    subprocess.run(["umount", "-l", str(folder)], check=True)
