"""The restart wrapper for systems without systemd: real processes and signals; its pauses are short by environment."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.harness import PATIENCE, await_true
from tests.shared import REPOSITORY

WRAPPER = REPOSITORY / "systemd" / "restart.sh"

CHILD = """
import os, signal, sys, time
folder = sys.argv[1]
def note(text):
    with open(os.path.join(folder, "notes"), "a") as file:
        file.write(text + "\\n")
def on_signal(number, frame):
    note(signal.Signals(number).name)
    if number != signal.SIGHUP:
        sys.exit(7)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, on_signal)
note("begun %d" % os.getpid())
while True:
    time.sleep(0.02)
    status = os.path.join(folder, "end")
    if os.path.exists(status):
        sys.exit(int(open(status).read()))
"""
"""Notes what reaches it, ends with 7 on TERM and INT, and with a status of its own when a file says one."""


class Wrapped:
    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self.process = process

    def notes(self) -> list[str]:
        path = self.folder / "notes"
        return path.read_text().splitlines() if path.exists() else []

    def begun(self) -> list[int]:
        return [int(note.split()[1]) for note in self.notes() if note.startswith("begun")]

    def says(self) -> list[str]:
        return (self.folder / "stderr").read_text().splitlines()

    def await_begun(self, count: int) -> None:
        await_true(lambda: len(self.begun()) >= count, 20, f"start {count}")


@contextmanager
def wrapped(folder: Path, *command: str, delay: float = 1, most: float = 4, steady: int = 600) -> Iterator[Wrapped]:
    folder.mkdir(exist_ok=True)
    environ = {**os.environ, "RESTART_DELAY_MS": f"{delay * 1000:.0f}",
               "RESTART_DELAY_MAX_MS": f"{most * 1000:.0f}", "RESTART_STEADY": str(steady)}  # fmt: skip
    with (folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            [str(WRAPPER), *(command or (sys.executable, "-c", CHILD, str(folder)))], env=environ, stderr=stderr,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    site = Wrapped(folder, process)
    try:
        yield site
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # a session of its own: the wrapper, its child, its sleep
            process.wait(5 * PATIENCE)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_reaches_the_program_and_ends_both_with_its_status(tmp_path: Path, number: signal.Signals) -> None:
    with wrapped(tmp_path / "with a space") as site:
        site.await_begun(1)
        site.process.send_signal(number)
        assert site.process.wait(10 * PATIENCE) == 7
        assert site.notes()[1:] == [number.name]
        assert not Path(f"/proc/{site.begun()[0]}").exists()


def test_a_hangup_reaches_the_program_and_ends_neither(tmp_path: Path) -> None:
    with wrapped(tmp_path) as site:
        site.await_begun(1)
        for count in (1, 2):
            site.process.send_signal(signal.SIGHUP)
            await_true(lambda count=count: site.notes().count("SIGHUP") == count, 10, "a hangup arrived")
        assert site.process.poll() is None
        assert len(site.begun()) == 1


def test_a_program_that_dies_is_started_again(tmp_path: Path) -> None:
    with wrapped(tmp_path, delay=0.1) as site:
        site.await_begun(1)
        os.kill(site.begun()[0], signal.SIGKILL)
        site.await_begun(2)
        assert site.says() == ["restart.sh: ended with status 137; starts again in 0.100 s"]
        site.process.send_signal(signal.SIGTERM)
        assert site.process.wait(10 * PATIENCE) == 7


def test_pauses_grow_to_a_bound_with_one_line_each(tmp_path: Path) -> None:
    with wrapped(tmp_path, "false", delay=0.1, most=0.4) as site:
        await_true(lambda: len(site.says()) >= 5, 20, "five ends")
        site.process.send_signal(signal.SIGTERM)
        assert site.process.wait(10 * PATIENCE) == 0
    pauses = [float(re.findall(r"again in ([\d.]+) s$", line)[0]) for line in site.says()]
    assert pauses[:5] == [0.1, 0.2, 0.4, 0.4, 0.4]
    assert all(len(line) < 120 for line in site.says())


def test_a_good_run_makes_the_next_pause_short_again(tmp_path: Path) -> None:
    with wrapped(tmp_path, "false", delay=0.1, steady=0) as site:
        await_true(lambda: len(site.says()) >= 3, 20, "three ends")
    assert all(line.endswith("in 0.100 s") for line in site.says())


def test_a_wrong_configuration_ends_it_with_a_message(tmp_path: Path) -> None:
    with wrapped(tmp_path / "a", sys.executable, "-m", "bridge", "run", "--config", str(tmp_path / "none")) as site:
        assert site.process.wait(20 * PATIENCE) == 2
        assert "is not there" in site.says()[0], "the program's own message is not seen"
        assert "the configuration is wrong" in site.says()[-1]


def test_a_signal_during_the_pause_ends_it_at_once(tmp_path: Path) -> None:
    with wrapped(tmp_path, "false", delay=600) as site:
        await_true(lambda: site.says(), 10, "the first end")
        site.process.send_signal(signal.SIGTERM)
        assert site.process.wait(10 * PATIENCE) == 0


def test_called_with_nothing_to_run_it_says_how_it_is_called(tmp_path: Path) -> None:
    done = subprocess.run([str(WRAPPER)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("usage:")
