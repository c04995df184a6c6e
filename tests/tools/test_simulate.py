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
