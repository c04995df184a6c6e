"""The audit log: whole lines, bounded, over a power cut at every byte (rows D4, T21)."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from bridge.audit import NAME, AuditLog


def numbers(log: AuditLog) -> list[int]:
    return [entry["n"] for entry in log.entries()]


def test_lines_are_appended_with_their_time(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "new")
    log.append({"n": 1, "reason": "no\nbreak"})
    log.append({"n": 2})
    assert numbers(log) == [1, 2]
    entry = next(log.entries())
    assert entry["ts"].endswith("+00:00")
    assert len(log.path.read_bytes().splitlines()) == 2
    assert log.path.stat().st_mode & 0o077 == 0


def test_d7_a_line_is_on_the_disk_before_anything_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog(tmp_path)
    synced: list[int] = []
    sync = os.fsync

    def noting(descriptor: int) -> None:
        sync(descriptor)
        synced.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(os, "fsync", noting)
    for n in range(3):
        log.append({"n": n})
        assert synced == [*synced[:n], log.path.stat().st_size]


def test_a_file_cut_at_any_byte_loses_its_last_line_alone(tmp_path: Path) -> None:
    first = AuditLog(tmp_path)
    first.append({"n": 1})
    first.append({"n": 2})
    whole = first.path.read_bytes()
    end_of_first = whole.index(b"\n") + 1
    for length in range(len(whole) + 1):
        first.path.write_bytes(whole[:length])
        log = AuditLog(tmp_path)
        log.append({"n": 3})
        kept = ([1] if length >= end_of_first - 1 else []) + ([2] if length >= len(whole) - 1 else [])
        assert numbers(log) == [*kept, 3], length


def test_its_size_is_bounded_and_the_newest_lines_stay(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, largest=2000)
    for n in range(200):
        log.append({"n": n})
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 4000
    found = numbers(log)
    assert found == list(range(200 - len(found), 200))
    assert len(found) > 20


def test_many_threads_write_whole_lines(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    threads = [threading.Thread(target=lambda: [log.append({"n": n}) for n in range(25)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers(log)) == sorted(list(range(25)) * 4)


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine\n")
    (tmp_path / NAME).symlink_to(elsewhere)
    with pytest.raises(OSError):  # noqa: PT011 - the number differs between kernels
        AuditLog(tmp_path).append({"n": 1})
    assert elsewhere.read_text() == "mine\n"
