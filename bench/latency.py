"""From the last byte of a reply to the message at a subscriber: the bridge against a bare paho client.

Both have a simulated device of their own, of the same kind, and are woken by its last byte. They are measured in
turns of a few seconds; whoever is not measured stands still, its device too. See README.md for the reasons.
"""

from __future__ import annotations

import json
import math
import sys
import time
from bisect import bisect_left
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.kit import Kit, Subject, Table, spread, truth
from tests.harness import Message, Recorder, await_true
from tests.shared import REPOSITORY

TURNS, SECONDS, SETTLING = 8, 2.5, 0.7
"""Turns of each side, how long one lasts, and how long nothing is counted after its begin."""
FLOOR_TOPIC = "floor/latency/unit/state"
Delays = dict[str, list[float]]


@dataclass(frozen=True)
class Case:
    """What is measured. `port` says where a new device is to be, `simulate` its command; "{dir}" is its folder.

    `requests` are what the bare client asks, one message an answer; none: the device pushes frames of `frame_size`.
    `ends` gives, by what they are of, the times of a truth log's last bytes, each with the topic whose message follows;
    the first kind is judged.
    """

    simulate: Callable[[str], list[str]]
    port: Callable[[], str]
    entry: Callable[[str], str]
    ends: Callable[[list[dict[str, Any]]], dict[str, list[tuple[float, str]]]]
    requests: tuple[bytes, ...] = ()
    pace: float = 0.0
    frame_size: int = 0
    ready: Callable[[Recorder], object] = lambda _: True


@dataclass
class Side:
    """One of the two, with its device; both stand still together."""

    subjects: list[Subject] = field(default_factory=list)
    windows: list[tuple[float, float]] = field(default_factory=list)

    def turn(self) -> None:
        """Go on for one turn, then stand still again."""
        for one in self.subjects:
            one.go_on()
        begin = time.monotonic() + SETTLING
        time.sleep(SETTLING + SECONDS)
        self.windows.append((begin, time.monotonic() - 0.05))
        for one in reversed(self.subjects):
            one.stand_still()
        time.sleep(0.1)

    def counts(self, at: float) -> bool:
        return any(begin <= at <= end for begin, end in self.windows)


def device(kit: Kit, case: Case, stack: ExitStack) -> tuple[Subject, str, Path]:
    """Start a simulated device; return it, its port and its truth log."""
    port = case.port()
    subject = stack.enter_context(kit.subject(case.simulate(port)))
    port = port.replace("{dir}", str(subject.folder))
    await_true(lambda: ":" in port or Path(port).exists(), 10, "the simulator's port")
    return subject, port, subject.folder / "truth"


def measure(kit: Kit, case: Case) -> tuple[Delays, Delays, int]:
    """Return the bridge's delays by what they are of, the floor's ("woken" and "publish") and the message's size."""
    with ExitStack() as stack, kit.recorder("#") as recorder:
        bridge, floor = Side(), Side()
        simulated, port, log = device(kit, case, stack)
        bridge.subjects = [simulated, stack.enter_context(kit.bridge(case.entry(port)))]
        await_true(lambda: case.ready(recorder), 60, "the bridge publishes")
        topics = {topic for found in case.ends(truth(log)).values() for _, topic in found}
        size = len(next(m for m in reversed(recorder.messages) if m.topic in topics).payload)
        for one in reversed(bridge.subjects):
            one.stand_still()
        floor_log = start_floor(kit, case, stack, floor, size)
        await_true(lambda: recorder.on(FLOOR_TOPIC), 30, "the bare client publishes")
        floor.subjects[0].stand_still()
        floor.subjects[1].stand_still()
        for _ in range(TURNS):
            bridge.turn()
            floor.turn()
        for side in (bridge, floor):
            for one in side.subjects:
                one.go_on()
        floor.subjects[1].stop()
        sent = json.loads(floor.subjects[1].log().splitlines()[-1])["sent"]
        messages = recorder.messages[:]
    ours = {what: delays(found, messages, bridge) for what, found in case.ends(truth(log)).items()}
    ends = [(at, FLOOR_TOPIC) for found in list(case.ends(truth(floor_log)).values())[:1] for at, _ in found]
    theirs = {
        "woken": delays(ends, messages, floor),
        "publish": delays([(at, FLOOR_TOPIC) for at in sent], messages, floor),
    }
    return ours, theirs, size


def start_floor(kit: Kit, case: Case, stack: ExitStack, floor: Side, size: int) -> Path:
    """Start the bare client on a device of its own; return that one's truth log."""
    simulated, port, log = device(kit, case, stack)
    asked = [request.hex() for request in case.requests]
    arguments = [kit.mqtt_port, FLOOR_TOPIC, size, port, case.pace or case.frame_size, *asked]
    script = str(REPOSITORY / "bench" / "peers" / "paho_floor.py")
    command = [sys.executable, script, "woken", *map(str, arguments)]
    floor.subjects = [simulated, stack.enter_context(kit.subject(command))]
    return log


def delays(ends: list[tuple[float, str]], messages: list[Message], side: Side) -> list[float]:
    """Return the seconds from each end of a frame to the next message on its topic, if it comes before the next end."""
    seen: dict[str, list[float]] = {}
    for message in messages:
        seen.setdefault(message.topic, []).append(message.at)
    begins: dict[str, list[float]] = {}
    for at, topic in ends:
        begins.setdefault(topic, []).append(at)
    found = []
    for topic, times in begins.items():
        arrived = seen.get(topic, [])
        for at, following in pairwise([*sorted(times), math.inf]):
            place = bisect_left(arrived, at)
            if side.counts(at) and place < len(arrived) and arrived[place] < following:
                found.append(arrived[place] - at)
    return found


def add_rows(table: Table, kit: Kit, case: Case) -> None:
    """Measure a case and add its rows: the floor both ways, and the bridge against them."""
    ours, theirs, size = measure(kit, case)
    for name, words in (
        ("woken", "bare paho client, *woken*: from the last byte of such a reply"),
        ("publish", "bare paho client, *publish*: from publish()"),
    ):
        median, p99 = spread(theirs[name])
        figure = f"{median * 1e6:.0f} µs, p99 {p99 * 1e6:.0f} µs"
        table.add(f"{words} ({len(theirs[name])} messages of {size} bytes)", figure)
    for number, (what, found) in enumerate(ours.items()):
        median, p99 = spread(found)
        for name in ("woken", "publish"):
            floor_median, floor_p99 = spread(theirs[name])
            for words, value, ratio, aim in (
                ("median", median, median / floor_median, 1.5), ("p99", p99, p99 / floor_p99, 2.5)
            ):  # fmt: skip
                judged = number == 0
                table.add(
                    f"bridge, {what}: {words} of {len(found)} / {name}", f"{value * 1e6:.0f} µs", f"{ratio:.2f} x",
                    f"<= {aim} x" if judged else "", ratio <= aim if judged else None,
                )  # fmt: skip
