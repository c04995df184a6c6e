"""A house for the fault tests: a broker, a proxy before it, a recorder behind it, a bridge with fake devices."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.fake_slice import PRELUDE, voltage_of
from tests.faults.ledger import note
from tests.harness import Bridge, Message, Mosquitto, Proxy, Recorder, await_true, starved

BASE = "sb"
BANK = "battery/data"
INTERVAL = 0.1
MAX_AGE = 1.0
KEEPALIVE = 5
MEMORY_GROWTH_KIB = 16 * 1024
NETWORK_RECOVERY = 5.0
KEPT = 0.95
"""Share of its rate that a device keeps whatever happens to others, to the broker or to the log."""
MACHINE = 1.2
"""Seconds that a busy machine may add between a reading's age limit and its arrival at the recorder."""
REPEATS = int(os.environ.get("FAULT_REPEATS", "20"))
"""How often the soak variants let a fault happen."""


@dataclass(frozen=True)
class Seen:
    """One state message, taken apart."""

    at: float
    count: int
    made: float
    retained: bool

    @property
    def age(self) -> float:
        return self.at - self.made


def taken_apart(message: Message) -> Seen:
    """Return what a state message says; fails for one that no reading of the device can have been."""
    values = json.loads(message.payload)
    assert values["voltage"] == voltage_of(values["count"]), "the values of two readings in one message"
    return Seen(message.at, values["count"], values["made"], message.retained)


class House:
    """The running parts of one test, and words for what happens to them."""

    def __init__(self, folder: Path, broker: Mosquitto, proxy: Proxy, recorder: Recorder, bridge: Bridge) -> None:
        self.folder = folder
        self.broker = broker
        self.proxy = proxy
        self.recorder = recorder
        self.bridge = bridge
        self._memory: int | None = None

    def say(self, device: str, word: str) -> None:
        """Tell a fake device how to behave from now on."""
        say(self.folder, device, word)

    def seen(self, device: str, since: float = 0.0) -> list[Seen]:
        """Return the states of a device that arrived fresh, not from the broker's memory."""
        every = [taken_apart(m) for m in self.recorder.on(f"{BASE}/{device}/state") if m.at >= since]
        return [one for one in every if not one.retained]

    def bank(self, since: float = 0.0) -> list[Seen]:
        return [taken_apart(m) for m in self.recorder.on(BANK) if m.at >= since]

    def await_state(self, device: str, since: float, seconds: float) -> Seen:
        """Wait for a state of the device that was read after `since`, the end of a fault."""
        await_true(lambda: self._newest(device, since), seconds, f"a state of {device}")
        first = next(one for one in self.seen(device) if one.made > since)
        note(recovery=first.at - since)
        return first

    def _newest(self, device: str, since: float) -> bool:
        messages = [m for m in self.recorder.on(f"{BASE}/{device}/state") if not m.retained]
        return bool(messages) and taken_apart(messages[-1]).made > since

    @contextmanager
    def keeps_rate(self, *devices: str) -> Iterator[None]:
        """See that devices are read as often as when nothing is wrong, to the end of the block and behind it.

        They count their readings themselves, so it is no matter how many arrive. What the machine gave the bridge no
        processor for is not counted, and one reading may be under way at either end.
        """
        first = {device: self.seen(device)[-1] for device in devices}
        began = starved(self.bridge.pid)
        yield
        ended = time.monotonic()
        for device, before in first.items():
            await_true(partial(self._newest, device, ended), 5, f"{device} is read still")
            after = self.seen(device)[-1]
            wanted = (after.made - before.made - (starved(self.bridge.pid) - began)) / INTERVAL
            made = after.count - before.count
            assert made >= KEPT * wanted - 1, f"{device}: {made} readings of {wanted:.1f}"

    def await_up(self, seconds: float = 10.0) -> None:
        """Wait until the bridge is connected and every device's state has come."""
        self.recorder.wait_payload(f"{BASE}/status", b"online", seconds)
        for device in json.loads(self.recorder.wait(f"{BASE}/info", seconds=seconds).payload)["devices"]:
            self.recorder.wait(f"{BASE}/{device}/state", seconds=seconds)
        self._memory = self.bridge.memory_kib()

    def note_memory(self) -> None:
        """Note by how much the bridge has grown since it was up, if it still runs."""
        process = self.bridge.process
        if self._memory is not None and process is not None and process.poll() is None:
            note(memory=max(0, self.bridge.memory_kib() - self._memory) / 1024)

    def await_log(self, text: str, seconds: float = 10.0) -> None:
        await_true(lambda: text in self.bridge.log(), seconds, f"{text!r} in the log")


def say(folder: Path, device: str, word: str) -> None:
    """Write a device's control file, whole at any time."""
    new = folder / f"{device}.new"
    new.write_text(word)
    new.replace(folder / f"{device}.control")


def configuration(
    folder: Path, port: int, devices: Mapping[str, Mapping[str, Any]], mqtt: Mapping[str, Any] | None = None
) -> str:
    """Return a configuration with fake devices; JSON is YAML too."""
    entries = [
        {"name": name, "type": "fake", "control": str(folder / f"{name}.control"), "interval": INTERVAL,
         "max_age": MAX_AGE, **options}
        for name, options in devices.items()
    ]  # fmt: skip
    broker = {"host": "127.0.0.1", "port": port, "base_topic": BASE, "keepalive": KEEPALIVE, **(mqtt or {})}
    return json.dumps({"mqtt": broker, "devices": entries})


@contextmanager
def house(
    folder: Path,
    devices: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    mqtt: Mapping[str, Any] | None = None,
    broker_lines: str = "allow_anonymous true",
    prelude: str = "",
    environ: Mapping[str, str] | None = None,
    record: bool = False,
) -> Iterator[House]:
    """Build it and start all of it; the bridge is not waited for."""
    with ExitStack() as stack:
        broker = stack.enter_context(Mosquitto(folder / "broker", broker_lines))
        proxy = stack.enter_context(Proxy(broker.port, record=record))
        recorder = stack.enter_context(Recorder(broker.port))
        config = configuration(folder, proxy.port, devices or {"one": {}}, mqtt)
        bridge = Bridge(folder / "bridge", config, dict(environ or {}), prelude=f"{PRELUDE}\n{prelude}")
        stack.enter_context(bridge)
        site = House(folder, broker, proxy, recorder, bridge)
        yield site
        site.note_memory()


def assert_never_set_back(seen: list[Seen]) -> None:
    """No older state after a newer one."""
    counts = [one.count for one in seen]
    note(wrong=sum(b < a for a, b in pairwise(counts)))
    assert counts == sorted(counts), "an older state came after a newer one"


def assert_young(seen: list[Seen], limit: float = MAX_AGE) -> None:
    """No message was older than its age limit when it arrived, but for the test machine's own time."""
    oldest = max((one.age for one in seen), default=0.0)
    note(wrong=sum(one.age > limit + MACHINE for one in seen))
    assert oldest <= limit + MACHINE, f"a message was {oldest:.1f} s old"


def pause(seconds: float) -> None:
    """Let a fault last."""
    time.sleep(seconds)


def at_once(*bodies: Callable[[], None]) -> None:
    """Run several houses side by side, since they mostly wait; the first failure is raised when all are done."""
    with ThreadPoolExecutor(len(bodies)) as pool:
        for done in [pool.submit(body) for body in bodies]:
            done.result()
