"""Rows D3 and D13: a log that cannot be written does not touch the service."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.fake_slice import PRELUDE
from tests.faults.rig import BASE, INTERVAL, MEMORY_GROWTH_KIB, House, configuration, pause, say
from tests.harness import Bridge, Mosquitto, Proxy, Recorder, await_true
from tests.small_disk import mounted, unmount

PLACE = 64 * 1024
"""Bytes the log may take."""

FILE_LIMIT = f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({PLACE}, {PLACE}))"


@pytest.fixture
def full_soon(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A log directory with no room, and what the bridge must run first: a tmpfs for root, else a limit on its file."""
    directory = tmp_path / "log"
    if mounted(directory, PLACE) is not None:
        yield directory, FILE_LIMIT
        return
    (directory / "of somebody else").write_bytes(bytes(PLACE))  # what is the log's own would make room for it
    yield directory, ""
    unmount(directory)


def started(stack: ExitStack, folder: Path, directory: Path | None, prelude: str, stderr: int | None) -> House:
    """Start a house whose bridge logs into `directory` and to the descriptor `stderr`."""
    broker = stack.enter_context(Mosquitto(folder / "broker"))
    recorder = stack.enter_context(Recorder(broker.port))
    proxy = stack.enter_context(Proxy(broker.port))
    config = json.loads(configuration(folder, proxy.port, {"one": {}}))
    if directory is not None:
        config["logging"] = {"directory": str(directory), "max_megabytes": 1}
    bridge = Bridge(folder / "bridge", json.dumps(config), prelude=f"{PRELUDE}\n{prelude}", stderr=stderr)
    stack.enter_context(bridge)
    return House(folder, broker, proxy, recorder, bridge)


def assert_serves(site: House, seconds: float) -> None:
    began, memory = time.monotonic(), site.bridge.memory_kib()
    with site.keeps_rate("one"):
        pause(seconds)
    assert len(site.seen("one", began)) >= 0.5 * seconds / INTERVAL
    assert site.bridge.memory_kib() - memory < MEMORY_GROWTH_KIB


def test_d3_a_full_log_disk_costs_lines_and_one_notice(tmp_path: Path, full_soon: tuple[Path, str]) -> None:
    directory, prelude = full_soon
    output = tmp_path / "stderr"
    with ExitStack() as stack:
        reader, writer = os.pipe()
        stack.callback(os.close, reader)
        stack.enter_context(output.open("wb"))
        cat = subprocess.Popen(["cat"], stdin=reader, stdout=output.open("wb"))  # a pipe has no file limit
        stack.callback(cat.kill)
        site = started(stack, tmp_path, directory, prelude, writer)
        os.close(writer)
        site.await_up()
        site.say("one", "chatty")
        await_true(lambda: b"cannot be written" in output.read_bytes(), 10, "a notice that the log is full")
        lines, full = output.read_bytes().count(b"\n"), time.monotonic()
        assert_serves(site, 2)
        text = output.read_bytes()
        assert text.count(b"cannot be written") == 1
        assert b"Traceback" not in text
        assert b"Logging error" not in text
        grown = text.count(b"\n") - lines
        assert grown <= 45 * ((time.monotonic() - full) / INTERVAL + 3), "more lines than were logged"
        assert sum(file.stat().st_size for file in directory.iterdir()) <= PLACE
        assert site.bridge.stop() == 0


def test_d13_a_stderr_that_nobody_reads_does_not_block(tmp_path: Path) -> None:
    with ExitStack() as stack:
        reader, writer = os.pipe()
        stack.callback(os.close, reader)
        site = started(stack, tmp_path, None, "", writer)
        os.set_blocking(writer, True)
        os.close(writer)
        site.await_up()
        say(tmp_path, "one", "chatty")  # the pipe of 64 KiB is full after a few polls
        pause(1)
        assert_serves(site, 2)
        assert site.bridge.stop() == 0
        assert len(os.read(reader, 1 << 20)) > 30_000, "nothing was logged, so nothing was tried"


def test_d13_a_terminal_that_nobody_reads_does_not_block(tmp_path: Path) -> None:
    """As behind a connection of ssh whose other end is asleep."""
    with ExitStack() as stack:
        reader, terminal = os.openpty()
        stack.callback(os.close, reader)
        site = started(stack, tmp_path, None, "", terminal)
        site.await_up()
        say(tmp_path, "one", "chatty")  # it takes no more after a few polls
        pause(1)
        assert_serves(site, 2)
        assert os.get_blocking(terminal), "the terminal is others', too"
        os.close(terminal)
        assert site.bridge.stop() == 0
        assert os.read(reader, 1 << 20), "nothing was logged, so nothing was tried"


def test_d13_a_stderr_that_was_closed_does_not_end_it(tmp_path: Path) -> None:
    with ExitStack() as stack:
        reader, writer = os.pipe()
        site = started(stack, tmp_path, None, "", writer)
        os.close(writer)
        site.await_up()
        os.close(reader)  # now every write fails, and SIGPIPE would end a program that does not ignore it
        say(tmp_path, "one", "chatty")
        assert_serves(site, 2)
        assert site.bridge.stop() == 0
        site.recorder.wait_payload(f"{BASE}/status", b"offline", 2)


def test_d13_no_stderr_at_all_from_the_start_is_no_trouble(tmp_path: Path) -> None:
    with ExitStack() as stack:
        site = started(stack, tmp_path, None, "import os\nos.close(2)\nos.close(1)", None)
        say(tmp_path, "one", "chatty")
        site.await_up()
        assert_serves(site, 1)
        assert len(site.proxy.accepted) == 1, "the log went down the broker's connection"
        assert site.bridge.stop() == 0
