"""State on disk over power cuts (row D4): files cut at every byte, a full disk."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bridge.statefile import StateFile, state_directory
from tests.harness import no_descriptors
from tests.small_disk import small_disk

CONTENT = {"spent": [[1.5, "hold 64"]], "pending": None, "text": "ä"}


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "a" / "b.json")
    assert file.load() == {}
    file.save(CONTENT)
    file.save({**CONTENT, "more": 1})
    assert file.load() == {**CONTENT, "more": 1}
    assert [path.name for path in file.path.parent.iterdir()] == ["b.json"], "no temporary file is left"
    assert file.path.stat().st_mode & 0o077 == 0, "for us alone"


def test_d4_a_file_cut_at_any_byte_is_set_aside_and_the_start_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = json.dumps(CONTENT).encode()
    file = StateFile(tmp_path / "b.json")
    for length in range(len(whole)):
        file.path.write_bytes(whole[:length])
        caplog.clear()
        assert file.load() == {}, length
        assert "damaged" in caplog.text
        assert not file.path.exists()
        assert (tmp_path / "b.json.bad").read_bytes() == whole[:length]
    file.save(CONTENT)
    assert file.load() == CONTENT


def test_d4_it_is_on_the_disk_before_it_takes_the_old_ones_place_and_that_before_anything_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No power can be cut here: this is the order in which one may be."""
    file = StateFile(tmp_path / "b.json")
    file.save({})
    done: list[tuple[str, Path, bytes]] = []
    sync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        sync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").resolve()
        done.append(("synced", path, path.read_bytes() if path.is_file() else b""))

    def replaced(old: Path, new: Path) -> None:
        replace(old, new)
        done.append(("replaced", old, new.read_bytes()))

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    file.save(CONTENT)
    (first, temporary, data), *rest = done
    assert first == "synced"
    assert json.loads(data) == CONTENT
    assert rest == [("replaced", temporary, data), ("synced", tmp_path, b"")]


@pytest.mark.parametrize("data", [b"[1]", b"\xff\xff", b"[" * 100_000, b"null", b"{} {}"])
def test_d4_what_is_no_object_is_set_aside(data: bytes, tmp_path: Path) -> None:
    file = StateFile(tmp_path / "b.json")
    file.path.write_bytes(data)
    assert file.load() == {}
    assert not file.path.exists()


def test_d4_a_file_that_cannot_be_read_is_not_taken_for_empty(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "b.json")
    file.save(CONTENT)
    with no_descriptors(), pytest.raises(OSError, match="Too many open files"):
        file.load()
    assert [path.name for path in tmp_path.iterdir()] == ["b.json"], "it stays where it is"
    assert file.load() == CONTENT


def test_where_no_file_can_be_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file where the folder should be")
    assert StateFile(tmp_path / "a" / "b.json").load() == {}


def test_d4_a_full_disk_is_an_error_and_the_old_file_stays(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    with small_disk(folder, 64 * 1024):
        file = StateFile(folder / "b.json")
        file.save(CONTENT)
        with pytest.raises(OSError, match="space"):
            file.save({"much": "x" * 100_000})
        assert file.load() == CONTENT
        assert [path.name for path in folder.iterdir()] == ["b.json"]


def test_the_folder_is_the_configured_one_or_the_service_managers_or_the_users(tmp_path: Path) -> None:
    assert state_directory("/a", {"STATE_DIRECTORY": "/b"}) == Path("/a")
    assert state_directory(None, {"STATE_DIRECTORY": "/b:/c", "HOME": "/h"}) == Path("/b")
    assert state_directory(None, {"XDG_STATE_HOME": "/x", "HOME": "/h"}) == Path("/x/solarbridge")
    assert state_directory(None, {"HOME": "/h"}) == Path("/h/.local/state/solarbridge")
