"""Rows D11 and D12: descriptors, threads and processor time run out, and come back."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.faults.rig import BASE, INTERVAL, house, pause
from tests.harness import Bridge, Mosquitto, Recorder, await_true
from tests.shared import REPOSITORY


def test_d11_without_descriptors_it_says_so_reads_on_and_recovers(tmp_path: Path) -> None:
    with house(tmp_path, {"one": {}, "two": {}}) as site:
        site.await_up()
        _, most = resource.prlimit(site.bridge.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(site.bridge.pid, resource.RLIMIT_NOFILE, (3, most))  # what is open stays, nothing new opens
        counts, cut = {device: site.seen(device)[-1].count for device in ("one", "two")}, time.monotonic()
        lines = site.bridge.log().count("\n")
        site.proxy.cut()
        site.await_log("Too many open files")
        pause(1.5)
        assert site.bridge.process is not None
        assert site.bridge.process.poll() is None, site.bridge.log()
        assert site.bridge.log().count("\n") - lines <= 10, "a log flood"
        assert site.recorder.on(f"{BASE}/status")[-1].payload == b"offline"
        lifted = time.monotonic()
        resource.prlimit(site.bridge.pid, resource.RLIMIT_NOFILE, (most, most))
        for device in ("one", "two"):
            first = site.await_state(device, lifted, 7)
            assert (first.count - counts[device]) / (first.made - cut) >= 0.8 / INTERVAL, "it was not read meanwhile"
        assert site.bridge.stop() == 0


def test_d11_without_memory_it_reads_on_and_recovers(tmp_path: Path) -> None:
    big = {"padding": 1_000_000, "interval": 0.5}  # what it takes is given back at once, so that it has to be had anew
    frugal = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    with house(tmp_path, {"one": {}, "two": big}, environ=frugal) as site:
        site.await_up()
        _, most = resource.prlimit(site.bridge.pid, resource.RLIMIT_DATA)
        lines = site.bridge.log().count("\n")
        with site.keeps_rate("one"):
            resource.prlimit(site.bridge.pid, resource.RLIMIT_DATA, (1 << 20, most))
            site.proxy.cut()  # the next connection takes memory, too
            site.await_log("MemoryError")
            pause(3)
            assert site.bridge.process is not None
            assert site.bridge.process.poll() is None, site.bridge.log()
            assert site.bridge.log().count("\n") - lines <= 200, "a log flood"
            lifted = time.monotonic()
            resource.prlimit(site.bridge.pid, resource.RLIMIT_DATA, (most, most))
            for device in ("one", "two"):
                site.await_state(device, lifted, 7)
        assert site.bridge.stop() == 0


THREADS = """
import logging, os, resource, sys, time
from bridge import supervisor
from bridge.notify import Notifier
from bridge.transports.base import Stop

logging.basicConfig(stream=sys.stdout, format="%(message)s")
supervisor.ROUND = 0.05
stop = Stop()
begun = time.monotonic()
if os.geteuid() == 0:
    os.setuid(54321)  # nobody else's, and root knows no such limit
_, most = resource.getrlimit(resource.RLIMIT_NPROC)

class Worker:
    name, late_after, beat_at, runs = "worker", 60.0, time.monotonic(), 0
    def run(self):
        Worker.runs += 1
        while Worker.runs > 1 and not stop.wait(0.02):
            pass

def rounds():
    if time.monotonic() - begun > 1.5:
        resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
    if Worker.runs == 2 or time.monotonic() - begun > 30:
        stop.set()

one = supervisor.Supervisor(stop, Notifier({}), rounds)
one.start(Worker())
resource.setrlimit(resource.RLIMIT_NPROC, (1, most))
one.watch()
print("runs", Worker.runs)
"""
"""A worker ends, and for two seconds no thread is to be had."""


def test_d11_a_thread_that_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", THREADS], capture_output=True, text=True, cwd=REPOSITORY, timeout=60, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "worker: can't start new thread; trying again" in done.stdout
    assert done.stdout.endswith("runs 2\n")


HOG = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"


@contextlib.contextmanager
def starved(pid: int) -> Iterator[None]:
    """Let a process share one processor with one that never rests, so that half of one is all it can have."""
    processor = min(os.sched_getaffinity(0))
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {processor})
    hog = subprocess.Popen([sys.executable, "-c", HOG, str(processor)])
    try:
        yield
    finally:
        hog.kill()
        hog.wait(5)


def test_d12_a_starved_processor_makes_no_dead_device(tmp_path: Path) -> None:
    port = tmp_path / "port"
    simulator = [sys.executable, "-m", "bridge", "simulate", "pylontech", "--modules", "4", "--link", str(port)]
    with (
        subprocess.Popen(simulator, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as wire,
        Mosquitto(tmp_path / "broker") as broker,
        Recorder(broker.port) as recorder,
    ):
        try:
            await_true(port.exists, 20, "the simulator's port")
            config = {
                "mqtt": {"host": "127.0.0.1", "port": broker.port},
                "devices": [{"name": "batteries", "type": "pylontech", "port": str(port)}],
            }
            state = "solarbridge/batteries/state"
            with Bridge(tmp_path / "bridge", json.dumps(config)) as bridge, starved(bridge.pid):
                recorder.wait(state, seconds=60)
                await_true(lambda: len(recorder.on(state)) >= 4, 60, "four readings under load")
                units = {m.topic for m in recorder.messages if m.topic.endswith("/availability")}
                for topic in units:
                    payloads = [message.payload for message in recorder.on(topic)]
                    first = payloads.index(b"online")
                    assert b"offline" not in payloads[first:], f"{topic}: called dead under load"
                health = json.loads(recorder.wait("solarbridge/health", seconds=30).payload)
                assert health["late_threads"] == []
                assert bridge.stop() == 0
        finally:
            wire.terminate()
            wire.wait(10)
