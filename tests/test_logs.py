"""The log masks secrets, stays within its size, and survives whatever it cannot be written to."""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge import logs
from tests.shared import REPOSITORY
from tests.small_disk import small_disk

SECRET = "hunter2-planted"

SET_UP = """
import json, logging, os, sys, threading
from bridge import logs
from bridge.config import Logging
options = json.loads(os.environ["OPTIONS"])
logs.set_up(Logging(**options), [os.environ["SECRET"], ""])
log = logging.getLogger("bridge.test")
"""


def run(code: str, *, stderr: int = subprocess.PIPE, **options: object) -> subprocess.CompletedProcess[str]:
    """Run `code` in a process of its own, since logging is the whole process'."""
    environ = {**os.environ, "OPTIONS": json.dumps(options), "SECRET": SECRET}
    return subprocess.run(
        [sys.executable, "-c", SET_UP + code],
        cwd=REPOSITORY,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        timeout=20,
        check=False,
    )


def test_a_secret_is_masked_in_messages_arguments_and_tracebacks() -> None:
    done = run(f"""
log.info("as text {SECRET}")
log.info("as argument %s and %r", "{SECRET}", {{"password": "{SECRET}"}})
try:
    raise ValueError("in an error {SECRET}")
except ValueError as err:
    log.exception("caught")
    try:
        raise RuntimeError("chained") from err
    except RuntimeError:
        log.exception("chained too")
log.info("with a stack", stack_info=True)
def dies():
    raise OSError("in a thread {SECRET}")
thread = threading.Thread(target=dies, name="worker")
thread.start()
thread.join()
""")
    assert done.returncode == 0
    assert SECRET not in done.stderr + done.stdout
    assert done.stderr.count("***") >= 5
    assert "worker: ended by an error" in done.stderr
    assert "OSError: in a thread ***" in done.stderr


def test_a_secret_does_not_reach_the_file_either(tmp_path: Path) -> None:
    run(f'log.warning("told to %s", "{SECRET}")', directory=str(tmp_path))
    text = (tmp_path / "solarbridge.log").read_text()
    assert "told to ***" in text
    assert SECRET not in text


def test_the_level_counts() -> None:
    done = run('log.info("quiet")\nlog.warning("loud")', level="warning")
    assert "loud" in done.stderr
    assert "quiet" not in done.stderr


def test_files_together_stay_below_their_size_and_hold_the_newest_lines(tmp_path: Path) -> None:
    run('for n in range(20_000):\n    log.info("line %06d %s", n, "x" * 150)', directory=str(tmp_path), max_megabytes=1)
    files = list(tmp_path.iterdir())
    assert 2 <= len(files) <= 4
    assert sum(file.stat().st_size for file in files) <= 1024 * 1024
    assert "line 019999" in (tmp_path / "solarbridge.log").read_text()


def test_t24_a_link_in_the_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine\n")
    (tmp_path / "solarbridge.log").symlink_to(elsewhere)
    done = run('log.warning("told")', directory=str(tmp_path))
    assert "cannot be written" in done.stderr
    assert elsewhere.read_text() == "mine\n"


def test_a_full_disk_costs_lines_and_one_notice(tmp_path: Path) -> None:
    """A limit on the size of a file stands for a full disk: writing fails in the same place, and needs no root."""
    done = run("""
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for n in range(3000):
    log.info("line %d %s", n, "x" * 100)
print(logs.dropped())
""", directory=str(tmp_path))  # fmt: skip
    assert done.returncode == 0
    assert done.stderr.count("cannot be written") == 1
    assert "Traceback" not in done.stderr
    assert "Logging error" not in done.stderr
    assert int(done.stdout) > 1000


PLACE = 256 * 1024


@pytest.fixture
def small_place(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory with less room than any log may take: `max_megabytes` is 1 at least."""
    folder = tmp_path / "small"
    with small_disk(folder, PLACE):
        yield folder


FILL = """
logging.getLogger().handlers[0].setLevel("WARNING")  # else stderr drops lines, too, where its reader is slow
for n in range(5000):
    log.info("line %06d %s", n, "x" * 100)
print(logs.dropped())
"""
"""Some 700 KB: more than the place has, less than the log may take."""


def test_a_place_smaller_than_configured_costs_the_oldest_lines_and_one_notice(small_place: Path) -> None:
    for name in ("solarbridge.log.3", "solarbridge.log.2", "solarbridge.log"):  # from when the place was larger
        (small_place / name).write_text(f"of {name}\n" * 3000)
    done = run(FILL, directory=str(small_place), max_megabytes=1)
    lines = (small_place / "solarbridge.log").read_text().splitlines()
    assert "line 004999" in lines[-1], "the newest line is lost"
    assert [line for line in lines if not line.endswith("x" * 100)] == [], "a line was cut"
    assert not (small_place / "solarbridge.log.3").exists(), "the oldest was kept"
    assert int(done.stdout) == 0
    assert done.stderr.count("no space left") == 1
    assert "logging.max_megabytes" in done.stderr
    run('log.info("after a restart")', directory=str(small_place), max_megabytes=1)
    assert "after a restart" in (small_place / "solarbridge.log").read_text()


def test_a_place_that_others_filled_costs_lines_until_there_is_room_again(small_place: Path) -> None:
    other = small_place / "of somebody else"
    other.write_bytes(bytes(PLACE))
    done = run(FILL + f'os.unlink({str(other)!r})\nlog.info("room again")', directory=str(small_place))
    assert done.returncode == 0
    assert done.stdout == "5000\n"
    assert done.stderr.count("cannot be written") == 1
    assert (small_place / "solarbridge.log").read_text().endswith("room again\n")


def test_where_others_take_what_is_freed_the_old_lines_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No two programs can be made to fill a disk in step here, so os.write is told to fail."""

    def full(_fd: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    names = [tmp_path / f"solarbridge.log{end}" for end in ("", ".1", ".2", ".3")]
    for name in names:
        name.write_text("what led up to it\n")
    handler = logs.CappedFileHandler(str(names[0]), 1 << 20)
    monkeypatch.setattr(os, "write", full)
    for number in range(9):
        handler.emit(logging.LogRecord("x", logging.INFO, "", 0, f"line {number}", (), None))
    monkeypatch.undo()
    assert [name.exists() for name in names] == [True, True, True, False]
    assert names[0].read_text() == "what led up to it\n"
    handler.emit(logging.LogRecord("x", logging.INFO, "", 0, "there is room", (), None))
    assert names[0].read_text().endswith("there is room\n")
    handler.close()


def test_a_directory_that_cannot_be_made_is_one_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run('log.info("goes on")', directory=str(tmp_path / "file" / "log"))
    assert done.returncode == 0
    assert done.stderr.count("log directory") == 1
    assert "goes on" in done.stderr


def test_a_closed_stderr_is_no_error() -> None:
    done = run('os.close(2)\nlogs.set_up(Logging(), [])\nlog.info("x" * 9000)\nprint("lives", logs.dropped())')
    assert done.stdout == "lives 1\n"


@pytest.mark.parametrize("kind", ["pipe", "socket"])
@pytest.mark.parametrize("length", [200, 20_000])
def test_a_stderr_nobody_reads_never_blocks(kind: str, length: int) -> None:
    reader, writer = os.pipe() if kind == "pipe" else (end.detach() for end in socket.socketpair())
    try:
        code = f'for n in range(3000):\n    log.info("%d %s", n, "x" * {length})\nprint(logs.dropped() > 1000)'
        assert run(code, stderr=writer).stdout == "True\n"
        assert os.read(reader, 100), "nothing was written, so nothing was tried"
    finally:
        os.close(reader)
        os.close(writer)
