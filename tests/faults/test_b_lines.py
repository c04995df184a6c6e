"""Rows B1 to B5 and B16 on the running bridge: two cables, of which one is in trouble; the other must not notice."""

from __future__ import annotations

import json
import math
import os
import signal
import time
import tty
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bridge.pylontech.questions import LONGEST_PAUSE
from bridge.simulators.axpert import AxpertSimulator
from bridge.simulators.pylontech import PylontechSimulator
from bridge.simulators.simulator import LineSimulator
from bridge.transports.base import Stop
from bridge.transports.serial_port import open_serial
from tests.faults.ledger import note
from tests.faults.rig import BASE, KEPT, MEMORY_GROWTH_KIB
from tests.harness import Bridge, Mosquitto, Recorder, Stopwatch, await_true
from tests.transports.lines import thief

INTERVAL = 0.2
AGE_LIMIT = 4.0
RECOVERY = 5.0 + INTERVAL + 2.0
"""Seconds: the longest pause between two attempts to open a port, one poll cycle, and two."""


@dataclass
class Site:
    """The bridge between two simulated cables and a broker."""

    folder: Path
    recorder: Recorder
    bridge: Bridge
    units: dict[str, LineSimulator]

    def states(self, device: str, since: float = 0.0) -> list[float]:
        """Return when states of a device came."""
        return [m.at for m in self.recorder.on(f"{BASE}/{device}/state") if m.at >= since and not m.retained]

    def availability(self, device: str) -> bytes:
        messages = self.recorder.on(f"{BASE}/{device}/availability")
        return messages[-1].payload if messages else b""

    def await_gone(self, device: str) -> None:
        await_true(lambda: self.availability(device) == b"offline", AGE_LIMIT + 2, f"{device} is offline")

    def await_back(self, device: str, watch: Stopwatch) -> None:
        """Wait for a new state, made of a frame that the unit has sent since; note how long it took."""
        await_true(lambda: self.states(device, watch.began), RECOVERY, f"a state of {device}")
        recovery = watch.seconds(self.states(device, watch.began)[0])
        note(recovery=recovery)
        assert recovery <= RECOVERY
        await_true(lambda: self.availability(device) == b"online", 5, f"{device} is online")

    def polls(self, device: str) -> int:
        """Return how often a device was asked what it measures; a stack is asked as often as its first module."""
        name, _, serial = device.partition("/")
        asked = [record.unit for record in self.units[name].truth.records("QPIGS" if name == "roof" else "42")]
        return asked.count(serial or asked[0])

    @contextmanager
    def undisturbed(self, device: str) -> Iterator[None]:
        """See that a device keeps its rate, by what was asked on its line, and that nothing is left behind."""
        before = self.bridge.descriptors(), self.bridge.threads()
        memory, begun, polls = self.bridge.memory_kib(), time.monotonic(), self.polls(device)
        watch = Stopwatch(self.bridge.pid)
        yield
        polls = self.polls(device) - polls
        wanted = watch.seconds() / INTERVAL  # for how long the machine starved them is not counted
        assert polls >= KEPT * wanted - 1, f"{device}: {polls} polls of {wanted:.1f}"
        gaps = [b - a for a, b in pairwise(self.states(device, begun))]
        assert max(gaps, default=0.0) - watch.starved < 2.0, f"{device} paused"
        grown = self.bridge.memory_kib() - memory
        note(memory=grown / 1024)
        assert grown < MEMORY_GROWTH_KIB
        await_true(lambda: self.bridge.descriptors() <= before[0], 5, "no descriptor is left open")
        await_true(lambda: self.bridge.threads() <= before[1], 5, "no thread is left")
        assert "Traceback" not in self.bridge.log()


@contextmanager
def site(folder: Path, plugged: bool = True, prelude: str = "") -> Iterator[Site]:
    """Build it: `roof` and `batteries`; unless `plugged`, the roof's cable is out at the start."""
    with ExitStack() as parts:
        broker = parts.enter_context(Mosquitto(folder / "broker"))
        recorder = parts.enter_context(Recorder(broker.port))
        roof = parts.enter_context(AxpertSimulator(link=folder / "by-id-roof", baud=None))
        stack = parts.enter_context(PylontechSimulator(link=folder / "by-id-stack", modules=2, baud=None))
        if not plugged:
            roof.unplug()
        devices: list[dict[str, Any]] = [
            {"name": "roof", "type": "axpert", "port": str(folder / "by-id-roof"), "interval": INTERVAL,
             "max_age": AGE_LIMIT},
            {"name": "batteries", "type": "pylontech", "port": str(folder / "by-id-stack"), "interval": INTERVAL,
             "max_age": AGE_LIMIT},
        ]  # fmt: skip
        config = {"mqtt": {"host": "127.0.0.1", "port": broker.port, "base_topic": BASE}, "devices": devices}
        bridge = parts.enter_context(Bridge(folder / "bridge", json.dumps(config), prelude=prelude))
        recorder.wait(f"{BASE}/batteries/state", seconds=20)
        if plugged:
            recorder.wait(f"{BASE}/roof/state", seconds=20)
        yield Site(folder, recorder, bridge, {"roof": roof, "batteries": stack})


@pytest.mark.parametrize("device", ["roof", "batteries"])
def test_b1_a_cable_pulled_out_and_plugged_in_again(tmp_path: Path, device: str) -> None:
    other = "batteries" if device == "roof" else "roof"
    with site(tmp_path) as here, here.undisturbed(other):
        here.units[device].unplug()
        here.await_gone(device)
        watch = Stopwatch(here.bridge.pid)
        here.units[device].replug()
        here.await_back(device, watch)
        assert here.bridge.log().count("not there") <= 2, "the same news again and again"


def test_b2_a_cable_that_comes_back_as_another_node_is_found_by_its_link(tmp_path: Path) -> None:
    with site(tmp_path) as here, here.undisturbed("batteries"):
        link = tmp_path / "by-id-roof"
        before = link.resolve()
        held = os.dup(here.units["roof"].line.end._slave)  # so its number is not free for the new one
        try:
            here.units["roof"].unplug()
            watch = Stopwatch(here.bridge.pid)
            here.units["roof"].replug()
            assert link.resolve() != before
            here.await_back("roof", watch)
        finally:
            os.close(held)


def test_b3_a_port_that_is_not_there_is_told_once_and_used_when_it_comes(tmp_path: Path) -> None:
    with site(tmp_path, plugged=False) as here:
        await_true(lambda: "not there" in here.bridge.log(), 10, "the reason in the log")
        began = time.monotonic()
        await_true(lambda: time.monotonic() > began + 2, 3, "some attempts")
        assert here.bridge.log().count("not there") == 1
        watch = Stopwatch(here.bridge.pid)
        here.units["roof"].replug()
        here.await_back("roof", watch)


def test_b3_and_b5_a_port_in_use_is_left_to_who_has_it_and_taken_when_free(tmp_path: Path) -> None:
    with site(tmp_path) as here, here.undisturbed("batteries"):
        here.units["roof"].unplug()
        here.await_gone("roof")
        asked = len(here.units["roof"].truth.records())
        here.bridge.send(signal.SIGSTOP)  # we are first at the port
        here.units["roof"].replug()
        other = open_serial(str(tmp_path / "by-id-roof"), 2400, Stop())
        here.bridge.send(signal.SIGCONT)
        try:
            await_true(lambda: "in use by another program" in here.bridge.log(), RECOVERY, "the reason in the log")
            assert len(here.units["roof"].truth.records()) == asked, "a question to a port of others"
        finally:
            other.close()
        here.await_back("roof", Stopwatch(here.bridge.pid))
        assert here.bridge.log().count("in use by another program") == 1


@contextmanager
def full_line(link: Path) -> Iterator[None]:
    """A port that opens and takes no byte: nobody reads at its other end, and its buffer is full."""
    near, far = os.openpty()
    tty.setraw(far)
    os.set_blocking(far, False)
    refused_at = math.inf
    while time.monotonic() < refused_at + 0.5:  # the kernel moves what it took in its own time, and takes more then
        try:
            os.write(far, bytes(512))
            refused_at = math.inf
        except BlockingIOError:
            refused_at = min(refused_at, time.monotonic())
            time.sleep(0.01)
    link.symlink_to(os.ttyname(far))
    try:
        yield
    finally:  # until now `far` stays open: the last one to close a port may empty its buffer
        link.unlink()
        os.close(far)
        os.close(near)


def test_b5_a_port_that_another_program_reads_too_is_told_of(tmp_path: Path) -> None:
    quick = "from bridge import damage\ndamage.WINDOW, damage.LEAST = 1.0, 2"
    with site(tmp_path, prelude=quick) as here, here.undisturbed("roof"):
        with thief(tmp_path / "by-id-stack"):
            await_true(lambda: "or a shared port" in here.bridge.log(), 15, "what it may be")
        await_true(lambda: "batteries: answers come whole again" in here.bridge.log(), 15, "the end of it")
        assert "roof: " not in "".join(line for line in here.bridge.log().splitlines() if "damaged" in line)


def test_b4_a_line_that_takes_no_bytes_is_given_up_and_does_not_hold_the_others_up(tmp_path: Path) -> None:
    with site(tmp_path) as here, here.undisturbed("batteries"):
        here.units["roof"].unplug()
        with full_line(tmp_path / "by-id-roof"):
            await_true(lambda: "does not take bytes" in here.bridge.log(), RECOVERY + 2, "it is given up")
            here.await_gone("roof")
        watch = Stopwatch(here.bridge.pid)
        here.units["roof"].replug()
        here.await_back("roof", watch)


def test_b16_a_silent_module_leaves_the_others_their_rate(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        stack = here.units["batteries"].stack  # type: ignore[attr-defined]
        lost, kept = stack.modules[3], stack.modules[2]
        for module in (lost, kept):
            here.recorder.wait(f"{BASE}/batteries/{module.serial}/state", seconds=20)
        with here.undisturbed(f"batteries/{kept.serial}"):
            lost.silent = True
            here.await_gone(f"batteries/{lost.serial}")
            watch = Stopwatch(here.bridge.pid)
            lost.silent = False
            await_true(lambda: here.states(f"batteries/{lost.serial}", watch.began), 12, "it is back")
            recovery = watch.seconds(here.states(f"batteries/{lost.serial}", watch.began)[0])
            note(recovery=recovery)
            assert recovery <= LONGEST_PAUSE + INTERVAL + 2.0, "asked more rarely, but not for ever"
