"""The whole bridge: start, memory, first message, and from a frame's last byte to a subscriber."""

from __future__ import annotations

import statistics
import sys

from bench.axpert import BAUD, QUERIES, replies
from bench.kit import Kit, Table, child, peer
from bench.latency import Case, add_rows
from tests.shared import REPOSITORY

ROUNDS = 9


def run(kit: Kit) -> list[Table]:
    return [start_table(kit), latency_table(kit)]


def start_table(kit: Kit) -> Table:
    table = Table("Start and memory, one Axpert on a paced serial line, broker connected")
    # where only what an installation has is there: tools for development begin with 10 ms of imports of their own
    programs = peer("installed", str(REPOSITORY), anew=True)
    python = programs / "python" if programs else sys.executable
    imports, floor, first, memory = [], [], [], []
    for _ in range(ROUNDS):  # in turns: a machine's pace changes within minutes
        imports.append(child(python, "paho_floor.py", "import")["ms"] / 1e3)
        floor.append(child(python, "paho_floor.py", "rss", str(kit.mqtt_port))["mib"])
        with kit.recorder("solarbridge/unit/state") as recorder, kit.simulator("axpert") as (port, _):
            recorder.forget()
            devices = f"- {{name: unit, type: axpert, port: {port}}}\n"
            with kit.bridge(devices, ", retain_states: false", python) as subject:
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
    """From the last byte handed over on the pty to the state at a subscriber."""
    table = Table("Axpert: last byte of a QPIGS reply to the state at a subscriber")
    topic = "solarbridge/unit/state"
    add_rows(table, kit, Case(
        simulate=lambda port: [sys.executable, "-m", "bridge", "simulate", "axpert", "--baud", "115200",
                               "--link", port, "--truth", "{dir}/truth"],
        port=lambda: "{dir}/ttyUSB0",
        entry=lambda port: f"- {{name: unit, type: axpert, port: {port}, baud: 115200, interval: 0.05,"
                           " parallel: false}\n",
        ends=lambda records: {"its state": [(r["at"], topic) for r in records if r["frame"] == "QPIGS"]},
        requests=(QUERIES["QPIGS"],),
        pace=0.05,
        ready=lambda recorder: len(recorder.on(topic)) > 40,
    ))  # fmt: skip
    return table
