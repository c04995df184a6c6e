"""Pylontech: how much of the time the bus is in use, silent modules, decode, CPU, and the way to a subscriber.

The stacks live in a thread of this process, which does nothing else meanwhile: as a process of its own a simulator
writes each frame to a file before it hands over the last byte, and that time would count as the host's.
"""

from __future__ import annotations

import contextlib
import os
import select
import statistics
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from bench.kit import Kit, Subject, Table, child, peer
from bench.latency import Case, add_rows
from bridge.simulators.pylontech import PylontechSimulator, bus_addresses
from bridge.simulators.truth import Record
from tests.harness import await_true
from tests.shared import REPOSITORY
from tests.simulators.pylontech_host import request

PEER = "python-pylontech==0.3.3"
MODEL = "US5000"
FAST, SLOW = 115200, 9600
REQUESTS = {name: request(int(name, 16), 2, "" if name in ("47", "4F", "51") else "02")
            for name in ("42", "44", "47", "4F", "51", "92", "93", "96")}  # fmt: skip
"""To the first module; those to others are as long."""
ONLY_MEASURED = "alarms_interval: 3600, limits_interval: 3600"
ALL_THREE = "alarms_interval: 0, limits_interval: 0"


def replies() -> dict[str, bytes]:
    """Return what a simulated module answers, at once, to each command."""
    told = {}
    with PylontechSimulator(baud=None, modules=1, model=MODEL) as stack:
        fd = os.open(stack.port, os.O_RDWR | os.O_NOCTTY)
        try:
            for name, query in REQUESTS.items():
                os.write(fd, query)
                reply = b""
                while not reply.endswith(b"\r") and select.select([fd], [], [], 2)[0]:
                    reply += os.read(fd, 4096)
                told[name] = reply
        finally:
            os.close(fd)
    return told


ATTENTION = 0.001
"""Seconds behind a reply in which the simulated wire does not sleep, so that it knows when the next request comes: to
get up takes its thread some 0.4 ms, 3 % of an exchange, which were no doing of the host's."""


def entry(port: str, baud: int, count: int, more: str, interval: float = 0) -> str:
    groups = sorted({address >> 4 for address in bus_addresses(count)})
    return (
        f"- {{name: stack, type: pylontech, port: {port}, baud: {baud}, groups: {groups},"
        f" interval: {interval}, {more}}}\n"
    )


@contextlib.contextmanager
def stack(kit: Kit, count: int, baud: int) -> Iterator[tuple[PylontechSimulator, str]]:
    """Simulate so many modules; yield the simulator and its port."""
    link = kit.folder() / "ttyUSB0"
    with PylontechSimulator(modules=count, model=MODEL, baud=baud, link=link) as sim:
        sim.line.attention = ATTENTION
        yield sim, str(link)


def efficiency(sim: PylontechSimulator, since: float, baud: int, told: dict[str, bytes]) -> tuple[float, float]:
    """Return the share of time that answered exchanges needed, and the median cycle of a module's 42h.

    An exchange needs its bytes on the wire, and the moment by which the simulator was late with its last byte.
    """
    late = statistics.mean(sim.line.lateness)
    records = [record for record in sim.truth.records() if record.at > since and record.whole]
    used = sum(10 * (len(REQUESTS[r.frame]) + len(told[r.frame])) / baud + late for r in records[1:])
    first = [r.at for r in records if r.frame == "42" and r.values["address"] == 2]
    cycles = [later - earlier for earlier, later in pairwise(first)]
    return used / (records[-1].at - records[0].at), statistics.median(cycles)


def settled(sim: PylontechSimulator, count: int) -> bool:
    """Whether every module has been measured, the first one twice: its first rounds are through."""
    measured = [r.values["address"] for r in sim.truth.records("42")]
    return len(set(measured)) == count and measured.count(2) > 1


def run(kit: Kit) -> list[Table]:
    told = replies()
    return [decode_table(told), efficiency_table(kit, told), silent_table(kit), latency_table(kit)]


def decode_table(told: dict[str, bytes]) -> Table:
    table = Table("Pylontech: decoding one 42h reply")
    reply = told["42"].hex()
    ours = child(sys.executable, "pylontech_decode.py", "solarbridge", reply)
    table.add("solarbridge", f"{ours['us']:.1f} µs, {ours['values']} values")
    programs = peer("python-pylontech", PEER)
    theirs = child(programs / "python", "pylontech_decode.py", "python-pylontech", reply) if programs else None
    if theirs is None:
        table.add(PEER, "could not be installed here")
    else:
        ratio = theirs["us"] / ours["us"]
        table.add(PEER, f"{theirs['us']:.1f} µs, {theirs['values']} values", f"{ratio:.1f} x", ">= 10 x", ratio >= 10)
    return table


def efficiency_table(kit: Kit, told: dict[str, bytes]) -> Table:
    table = Table("Pylontech RS485: (wire + device) time of all answered exchanges / time")
    cycles = {}
    for baud, counts in ((FAST, (1, 4, 8, 16)), (SLOW, (1, 4, 8, 16))):
        for count in counts:
            aim = 0.97 if count == 16 else None
            cycles[baud, count] = row(kit, table, told, baud, count, ONLY_MEASURED, "42h", aim)
    for baud in (FAST, SLOW):
        row(kit, table, told, baud, 16, ALL_THREE, "42h + 44h + 92h", 0.95)
    theirs = peer_cycle(kit)
    if theirs is None:
        table.add(PEER, "could not be measured here")
    else:
        ratio = theirs / cycles[FAST, 4]
        words = f"{PEER}: cycle {theirs:.2f} s"
        table.add(f"4 modules, {FAST} baud, 42h, / solarbridge", words, f"{ratio:.0f} x", ">= 100 x", ratio >= 100)
    table.notes.append("Questions that nobody answers (looking for added modules) count as time, not as wire time.")
    return table


def row(
    kit: Kit, table: Table, told: dict[str, bytes], baud: int, count: int, more: str, what: str, aim: float | None
) -> float:
    """Measure one stack and add a row; return its cycle."""
    rounds = 4 if more == ONLY_MEASURED else 2
    seconds = max(5.0, rounds * 0.18 * count * FAST / baud / 12 * (1 if more == ONLY_MEASURED else 2))
    with stack(kit, count, baud) as (sim, port), kit.bridge(entry(port, baud, count, more)) as subject:
        await_true(lambda: settled(sim, count), 90, "the stack")
        begin = time.monotonic()
        used = subject.watch(seconds)
        share, cycle = efficiency(sim, begin, baud, told)
    figure = f"cycle {cycle:.3f} s, CPU {used.cpu_percent:.1f} %"
    words = f">= {aim}" if aim else ""
    table.add(f"{count} modules, {baud} baud, {what}", figure, f"{share:.3f}", words, share >= aim if aim else None)
    return cycle


def peer_cycle(kit: Kit) -> float | None:
    """Return python-pylontech's time from one answer of a module to the next, with 4 modules."""
    programs = peer("python-pylontech", PEER)
    if programs is None:
        return None
    with stack(kit, 4, FAST) as (sim, port):
        script = str(REPOSITORY / "bench/peers/python_pylontech_poll.py")
        command = [str(programs / "python"), script, port, str(FAST), "4"]
        with kit.subject(command) as subject:
            subject.watch(14)
        ends = [record.at for record in sim.truth.records("42")]
    gaps = [later - earlier for earlier, later in pairwise(ends)]
    return 4 * statistics.median(gaps) if gaps else None


def silent_table(kit: Kit) -> Table:
    """Two of sixteen modules fall silent and come back."""
    table = Table(f"Pylontech RS485: 2 of 16 modules silent, {FAST} baud, 42h + 44h, 92h every 2 s")
    with stack(kit, 16, FAST) as (sim, port), kit.bridge(entry(port, FAST, 16, "limits_interval: 2")) as subject:
        await_true(lambda: len({r.unit for r in sim.truth.records("42")}) == 16, 30, "the stack")
        subject.watch(10)
        quiet = [sim.stack.modules[address] for address in (4, 11)]
        healthy = rate(sim, 8, subject, {module.serial for module in quiet})
        for module in quiet:
            module.silent = True
        subject.watch(3)
        others = rate(sim, 12, subject, {module.serial for module in quiet})
        for module in quiet:
            module.silent = False
        back = time.monotonic()
        found = [
            sim.truth.wait(lambda r, m=module: r.at > back and r.unit == m.serial and r.frame == "42", 20).at - back  # type: ignore[misc]
            for module in quiet
        ]
    kept = others / healthy
    figure = f"{others:.2f} of {healthy:.2f} rounds a second"
    table.add("rate of the other 14", figure, f"{kept:.3f}", ">= 0.9", kept >= 0.9)
    table.add("both measured again after", f"{max(found):.1f} s", "", "<= 10 s", max(found) <= 10)
    return table


def rate(sim: PylontechSimulator, seconds: float, subject: Subject, without: set[str]) -> float:
    """Return how many measurements a second each module but those gives."""
    begin = time.monotonic()
    subject.watch(seconds)
    end = time.monotonic()

    def counts(record: Record) -> bool:
        return begin < record.at <= end and record.unit not in without

    return sum(map(counts, sim.truth.records("42"))) / (16 - len(without)) / (end - begin)


def latency_table(kit: Kit) -> Table:
    """From the last byte of a module's reply to its state at a subscriber, and of a round's to the stack's."""
    table = Table("Pylontech: last byte of a reply to the state at a subscriber, 4 modules, a round each 0.15 s")
    arguments = ("--modules", "4", "--model", MODEL, "--baud", str(FAST))
    addresses = bus_addresses(4)

    def ends(records: list[dict[str, Any]]) -> dict[str, list[tuple[float, str]]]:
        found = [r for r in records if r["frame"] == "42" and r["whole"]]
        last = [r["at"] for r in found if r["values"]["address"] == addresses[-1]]
        return {
            "a module's state": [(r["at"], f"solarbridge/stack/{r['unit']}/state") for r in found],
            "the stack's state after the last module": [(at, "solarbridge/stack/state") for at in last],
        }

    add_rows(table, kit, Case(
        simulate=lambda port: [sys.executable, "-m", "bridge", "simulate", "pylontech", *arguments, "--link", port,
                               "--truth", "{dir}/truth"],
        port=lambda: "{dir}/ttyUSB0",
        entry=lambda port: entry(port, FAST, 4, "limits_interval: 2", interval=0.15),
        ends=ends,
        requests=tuple(request(0x42, address, f"{address:02X}") for address in addresses),
        pace=0.15,
        ready=lambda recorder: len(recorder.on("solarbridge/stack/state")) > 20,
    ))  # fmt: skip
    return table
