"""What every benchmark needs: rows of ratios, simulators and subjects as processes, a broker, peers from PyPI.

Only ratios of one run mean anything; absolute figures move with the machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.harness import Mosquitto, Recorder, await_true
from tests.shared import REPOSITORY

TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Row:
    """One figure. `ratio` is what counts, `aim` what it should be, `met` whether it is (None: no aim)."""

    what: str
    figure: str
    ratio: str = ""
    aim: str = ""
    met: bool | None = None


@dataclass
class Table:
    """The rows of one benchmark."""

    title: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, what: str, figure: str, ratio: str = "", aim: str = "", met: bool | None = None) -> None:
        self.rows.append(Row(what, figure, ratio, aim, met))

    def markdown(self) -> str:
        lines = [f"## {self.title}", "", "| what | measured | ratio | aim | met |", "|---|---|---|---|---|"]
        for row in self.rows:
            met = "" if row.met is None else "yes" if row.met else "**no**"
            lines.append(f"| {row.what} | {row.figure} | {row.ratio} | {row.aim} | {met} |")
        return "\n".join([*lines, "", *[f"- {note}" for note in self.notes]]) + "\n"


def peer(name: str, requirement: str, python: str = sys.executable, *, anew: bool = False) -> Path | None:
    """Return the folder of programs of a peer in a venv of its own, made by `python`; None when that fails.

    It is made once; `anew` is for what changes under the same requirement.
    """
    venv = REPOSITORY / f".bench-venv-{name}"
    if anew:
        shutil.rmtree(venv, ignore_errors=True)
    if not (venv / ".done").exists():
        print(f"installing {requirement} to measure against", file=sys.stderr)
        pip = [str(venv / "bin/pip"), "-q", "install", requirement]
        for command in ([python, "-m", "venv", str(venv)], pip):
            if subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
                return None
        (venv / ".done").touch()
    return venv / "bin"


def child(python: Path | str, script: str, *arguments: str) -> Any:
    """Run a script of bench/peers with that interpreter; return the JSON it prints, None when it fails."""
    path = REPOSITORY / "bench" / "peers" / script
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": ""}
    command = [str(python), str(path), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
    if done.returncode:
        print(f"{script}: {done.stderr.strip()[-300:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


@dataclass
class Usage:
    """What a subject used while it was watched."""

    cpu_percent: float
    rss_mib: float


class Subject:
    """A program under measurement, in a scratch folder."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self.folder = folder
        self.started = time.monotonic()
        with (folder / "subject.log").open("wb") as output:
            self._process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": ""},
            )  # fmt: skip
        self._log = folder / "subject.log"

    def watch(self, seconds: float) -> Usage:
        """Let it run for so long; return its CPU share and highest memory over that time."""
        begin, cpu, rss = time.monotonic(), self._cpu(), 0.0
        while (left := begin + seconds - time.monotonic()) > 0:
            time.sleep(min(0.5, left))
            rss = max(rss, self.rss_mib())
        return Usage(100 * (self._cpu() - cpu) / (time.monotonic() - begin), rss)

    def _cpu(self) -> float:
        stat = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(stat[11]) + int(stat[12])) / TICK

    def rss_mib(self) -> float:
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
        return 0.0

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def stand_still(self) -> None:
        """Stop its clock until `go_on`."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self.go_on()
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Kit:
    """One run's scratch folder, broker and recorder."""

    def __init__(self, folder: Path, broker: Mosquitto) -> None:
        self._folder = folder
        self._count = 0
        self.mqtt_port = broker.port

    def folder(self) -> Path:
        self._count += 1
        made = self._folder / str(self._count)
        made.mkdir()
        return made

    @contextlib.contextmanager
    def simulator(self, *arguments: str, seconds: float = 10) -> Iterator[tuple[str, Path]]:
        """Run `solarbridge simulate ...` as a process; yield its port and its truth log."""
        folder = self.folder()
        link, truth = folder / "ttyUSB0", folder / "truth"  # some peers judge a port by its name
        command = [sys.executable, "-m", "bridge", "simulate", *arguments, "--link", str(link), "--truth", str(truth)]
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
        try:
            await_true(link.exists, seconds, "the simulator's port")
            yield str(link), truth
        finally:
            process.terminate()
            process.wait(10)

    @contextlib.contextmanager
    def subject(self, command: list[str], **files: str) -> Iterator[Subject]:
        """Run a program in a scratch folder holding `files` (a name's "_" stands for "."); {dir} is that folder."""
        folder = self.folder()
        for name, text in files.items():
            (folder / name.replace("_", ".")).write_text(text)
        one = Subject([part.replace("{dir}", str(folder)) for part in command], folder)
        try:
            yield one
        finally:
            one.stop()

    @contextlib.contextmanager
    def bridge(self, devices: str, mqtt: str = "", python: Path | str = sys.executable) -> Iterator[Subject]:
        """Run our bridge with these lines under `devices:` and further keys of `mqtt:`."""
        config = f"mqtt: {{host: 127.0.0.1, port: {self.mqtt_port}{mqtt}}}\ndevices:\n{devices}"
        command = [str(python), "-m", "bridge", "run", "--config", "{dir}/config.yaml"]
        with self.subject(command, config_yaml=config) as subject:
            yield subject

    def recorder(self, *topics: str) -> Recorder:
        return Recorder(self.mqtt_port, *topics)


@contextlib.contextmanager
def kit() -> Iterator[Kit]:
    """A kit with a broker, for one run."""
    with tempfile.TemporaryDirectory(prefix="solarbridge-bench-") as name:
        folder = Path(name)
        with Mosquitto(folder / "broker", verbose=False) as broker:
            yield Kit(folder, broker)


def truth(path: Path) -> list[dict[str, Any]]:
    """Return the records of a truth log."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def spread(values: list[float]) -> tuple[float, float]:
    """Return median and 99th percentile."""
    ordered = sorted(values)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
