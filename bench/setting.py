"""From a message on a set topic to the first frame on the wire: the bridge against a bare paho client.

Both hang on a pseudo-terminal of their own whose other end notes the time of the first byte; the bridge's goes on to a
simulated inverter. Nothing else is on the line: the bridge polls once an hour. The values are those that are set
already, so the first frame is the reading that precedes a write, and no budget is used. They take turns.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
import tty
from contextlib import ExitStack

from bench.axpert import QUERIES
from bench.kit import Kit, Subject, Table, spread
from tests.harness import Recorder, await_true
from tests.shared import REPOSITORY

ROUNDS, EACH, PACE = 12, 20, 0.4
"""Turns of each side, commands in one, and seconds from one to the next: settings come at 4 a second at most."""
SETTING, VALUE = "output_source_priority", "utility_first"


class Tap:
    """A pseudo-terminal that notes when its first byte after `arm` came, and passes all on to another one."""

    def __init__(self, onward: str | None = None) -> None:
        self._near, far = os.openpty()
        tty.setraw(far)
        self.path = os.ttyname(far)
        self._far = far
        self._onward = os.open(onward, os.O_RDWR | os.O_NOCTTY) if onward else None
        if self._onward is not None:
            tty.setraw(self._onward)
        self.first: float | None = None
        self._running = True
        self._thread = threading.Thread(target=self._pass_on)
        self._thread.start()

    def arm(self) -> None:
        self.first = None

    def _pass_on(self) -> None:
        ends = {self._near: self._onward}
        if self._onward is not None:
            ends[self._onward] = self._near
        while self._running:
            for end in select.select(list(ends), [], [], 0.2)[0]:
                data = os.read(end, 4096)
                if end == self._near and self.first is None:
                    self.first = time.monotonic()
                other = ends[end]
                if other is not None:
                    os.write(other, data)

    def close(self) -> None:
        self._running = False
        self._thread.join()
        for descriptor in (self._near, self._far, self._onward):
            if descriptor is not None:
                os.close(descriptor)


def run(kit: Kit) -> list[Table]:
    table = Table("A set topic's message to the first frame on an idle line")
    with ExitStack() as stack:
        recorder = stack.enter_context(kit.recorder("solarbridge/#"))
        port, _ = stack.enter_context(kit.simulator("axpert", "--baud", "0"))
        taps = {"bridge": Tap(port), "floor": Tap()}
        for tap in taps.values():
            stack.callback(tap.close)
        entry = f"- {{name: unit, type: axpert, port: {taps['bridge'].path}, interval: 3600, writes: true}}\n"
        bridge = stack.enter_context(kit.bridge(entry, "}\nstate_directory: state\nhomeassistant: {discovery: false"))
        script = REPOSITORY / "bench" / "peers" / "set_floor.py"
        request = QUERIES["QPIRI"] if "QPIRI" in QUERIES else next(iter(QUERIES.values()))
        command = [sys.executable, str(script), str(kit.mqtt_port), "floor/set", taps["floor"].path, request.hex()]
        floor = stack.enter_context(kit.subject(command))
        recorder.wait("solarbridge/unit/state", seconds=20)
        time.sleep(3)
        delays = measure(recorder, taps, {"bridge": bridge, "floor": floor})
    figures = {side: spread(found) for side, found in delays.items()}
    (median, late), (floor_median, floor_late) = figures["bridge"], figures["floor"]
    table.add(f"bare paho subscriber and os.write ({len(delays['floor'])} commands)",
              f"{floor_median * 1e6:.0f} µs, p99 {floor_late * 1e6:.0f} µs")  # fmt: skip
    table.add(f"bridge, median of {len(delays['bridge'])}", f"{median * 1e6:.0f} µs", f"{median / floor_median:.2f} x")
    table.add("bridge, p99", f"{late * 1e6:.0f} µs", f"{late / floor_late:.2f} x", "<= 2 x", late <= 2 * floor_late)
    return [table]


def measure(recorder: Recorder, taps: dict[str, Tap], subjects: dict[str, Subject]) -> dict[str, list[float]]:
    """Return the delays of both sides; the one that is not measured stands still."""
    topics = {"bridge": (f"solarbridge/unit/set/{SETTING}", VALUE), "floor": ("floor/set", "x")}
    delays: dict[str, list[float]] = {side: [] for side in taps}
    subjects["floor"].stand_still()
    for _ in range(ROUNDS):
        for side in taps:
            other = next(one for name, one in subjects.items() if name != side)
            other.stand_still()
            subjects[side].go_on()
            time.sleep(0.5)
            for _ in range(EACH):
                tap = taps[side]
                tap.arm()
                begun = time.monotonic()
                recorder.client.publish(topics[side][0], topics[side][1], 1)
                await_true(lambda tap=tap: tap.first is not None, 5, f"a frame of the {side}")
                assert tap.first is not None
                delays[side].append(tap.first - begun)
                time.sleep(PACE)
    for one in subjects.values():
        one.go_on()
    refused = [m.payload for m in recorder.on("solarbridge/unit/result") if b'"unchanged"' not in m.payload]
    assert not refused, refused[:2]
    return delays
