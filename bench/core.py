"""The whole bridge: start, memory, first message, and from a frame's last byte to a subscriber."""

from __future__ import annotations

import statistics
import sys
import time

from bench.axpert import BAUD, QUERIES, replies
from bench.kit import Kit, Table, child, spread, truth

ROUNDS = 5


def run(kit: Kit) -> list[Table]:
    return [start_table(kit), latency_table(kit)]


def start_table(kit: Kit) -> Table:
    table = Table("Start and memory, one Axpert on a paced serial line, broker connected")
    imports = [child(sys.executable, "paho_floor.py", "import")["ms"] / 1e3 for _ in range(ROUNDS)]
    floor = [child(sys.executable, "paho_floor.py", "rss", str(kit.mqtt_port))["mib"] for _ in range(ROUNDS)]
    first, memory = [], []
    for _ in range(ROUNDS):
        with kit.recorder("solarbridge/unit/state") as recorder, kit.simulator("axpert") as (port, _):
            recorder.forget()
            with kit.bridge(f"- {{name: unit, type: axpert, port: {port}}}\n", ", retain_states: false") as subject:
                message = recorder.wait("solarbridge/unit/state", lambda m: not m.retained, 20)
                first.append(message.at - subject.started)
                memory.append(subject.watch(6).rss_mib)
    importing, rss = statistics.median(imports), statistics.median(floor)
    wire = 10 * (len(QUERIES["QPIGS"]) + len(replies()["QPIGS"])) / BAUD
    allowed = wire + 1.5 * importing
    began, used = statistics.median(first), statistics.median(memory)
    table.add("importing the four required packages", f"{importing * 1e3:.0f} ms")
    table.add(
        "process start to first state at a subscriber", f"{began:.3f} s (wire {wire:.3f} s)",
        f"{began / allowed:.2f} x allowed", "<= wire + 1.5 x import", began <= allowed,
    )  # fmt: skip
    table.add("bare connected paho client", f"{rss:.1f} MiB")
    table.add("bridge", f"{used:.1f} MiB", f"{used / rss:.2f} x", "<= 1.2 x", used <= 1.2 * rss)
    return table


def latency_table(kit: Kit) -> Table:
    """From the last byte handed over on the pty to the message at a subscriber, against paho's own floor."""
    table = Table("Last byte of a QPIGS reply to the state at a subscriber")
    topic = "solarbridge/unit/state"
    with kit.recorder(topic) as recorder, kit.simulator("axpert", "--baud", "115200") as (port, log):
        entry = f"- {{name: unit, type: axpert, port: {port}, baud: 115200, interval: 0.02, parallel: false}}\n"
        with kit.bridge(entry):
            time.sleep(3)  # the slow questions first
            begin = time.monotonic()
            floor = Floor(kit, len(recorder.wait(topic, seconds=20).payload), 0.05, 15)
        ends = [r["at"] for r in truth(log) if r["frame"] == "QPIGS" and r["at"] > begin]
        messages = recorder.on(topic)
    add_latency(table, first_after(ends, [message.at for message in messages]), floor)
    return table


def first_after(ends: list[float], seen: list[float], within: float = 0.015) -> list[float]:
    """Return the seconds from each end of a frame to the next message, where one came before the next frame."""
    delays, index = [], 0
    for end in ends:
        while index < len(seen) and seen[index] < end:
            index += 1
        if index < len(seen) and seen[index] - end < within:
            delays.append(seen[index] - end)
    return delays


class Floor:
    """What a bare paho client needs for messages of one size, measured for so many seconds from now on.

    It runs at the same time as the bridge and at its pace: how deep a machine sleeps between two messages
    decides the figure by a factor of two, so both must find it in the same state.
    """

    def __init__(self, kit: Kit, size: int, pace: float, seconds: float) -> None:
        self.size = size
        with kit.recorder("floor/latency") as recorder:
            arguments = (str(kit.mqtt_port), str(int(seconds / pace)), str(size), str(pace))
            sent = child(sys.executable, "paho_floor.py", "latency", *arguments)["sent"]
            arrived = [message.at for message in recorder.on("floor/latency")]
        self.delays = [after - before for before, after in zip(sent, arrived, strict=True)]


def add_latency(table: Table, delays: list[float], floor: Floor) -> None:
    """Add the bridge's delays beside the floor's."""
    floor_median, floor_p99 = spread(floor.delays)
    median, p99 = spread(delays)
    what = f"bare paho with TCP_NODELAY beside it, {len(floor.delays)} messages of {floor.size} bytes"
    table.add(f"{what}, median", f"{floor_median * 1e6:.0f} µs")
    table.add(f"{what}, p99", f"{floor_p99 * 1e6:.0f} µs")
    ratio, tail = median / floor_median, p99 / floor_p99
    words = f"bridge, median of {len(delays)} replies"
    table.add(words, f"{median * 1e6:.0f} µs", f"{ratio:.2f} x", "<= 1.5 x", ratio <= 1.5)
    table.add("bridge, p99", f"{p99 * 1e6:.0f} µs", f"{tail:.2f} x", "<= 2.5 x", tail <= 2.5)
