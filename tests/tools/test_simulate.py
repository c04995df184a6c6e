"""`solarbridge simulate`: a device in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import await_true
from tests.shared import REPOSITORY


@pytest.mark.parametrize("arguments", [["pylontech", "--console", "--asleep"], ["pylontech-extra2000"]])
def test_a_simulator_serves_until_it_is_told_to_end(arguments: list[str], tmp_path: Path) -> None:
    link = tmp_path / "port"
    command = [sys.executable, "-m", "bridge", "simulate", *arguments, "--link", str(link)]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    try:
        await_true(lambda: os.path.lexists(link) or process.poll() is not None, 30, "no port")
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert not os.path.lexists(link)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["lxp", "--hour", "24"], 2, "simulate: error: hour must be in 0..23"),
        (["lxp", "--tcp-port", "70000"], 2, "port must be 0-65535"),
        (["pylontech", "--link", "/nonexistent/port"], 1, "simulate: "),
    ],
    ids=["hour", "port", "link"],
)
def test_what_cannot_be_is_said_in_a_line(arguments: list[str], status: int, words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bridge", "simulate", *arguments],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (status, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr
