"""Pylontech consoles: how often each question is asked, and CPU while the battery thinks and sends.

Most of the time the bridge waits: a table of 4 modules takes a tenth of a second at 115200 baud, an Extra2000 at 19200
keeps its line busy all the time. The stacks live in a thread of this process.
"""

from __future__ import annotations

from itertools import pairwise
from statistics import median

from bench.kit import Kit, Table
from bridge.simulators.pylontech_bus import StackSimulator
from bridge.simulators.pylontech_console import ConsoleSimulator, Extra2000Simulator
from tests.harness import await_true

SECONDS = 30.0
MODULES = 4
THINKS = 0.2
"""s from the end of a command to the first byte of its answer, the quicker end of what users see."""


def run(kit: Kit) -> list[Table]:
    table = Table("Pylontech consoles: questions, and CPU while waiting")
    port = kit.folder() / "ttyUSB0"
    stack: StackSimulator
    stack = ConsoleSimulator(modules=MODULES, link=port, turnaround=THINKS)
    measure(kit, table, stack, "type: pylontech, link: console", "pwr")
    port = kit.folder() / "ttyUSB0"
    stack = Extra2000Simulator(modules=MODULES, link=port, turnaround=THINKS, asleep=False)
    measure(kit, table, stack, "type: pylontech-extra2000", "pwr N")
    table.notes.append("An Extra2000 knows no `pwr` of all modules, so each is asked `pwr N`, one after the other.")
    return [table]


def measure(kit: Kit, table: Table, stack: StackSimulator, entry: str, often: str) -> None:
    """Watch one stack, read at the default intervals; add a row for its questions and one for the CPU."""
    with stack, kit.bridge(f"- {{name: stack, {entry}, port: {stack.port}}}\n") as subject:
        await_true(lambda: len({r.unit for r in stack.truth.records("bat")}) == MODULES, 120, "cells of all modules")
        begin = stack.truth.records()[-1].at
        used = subject.watch(SECONDS)
        records = [record for record in stack.truth.records() if record.at > begin]
    who = next(record.unit for record in records if record.frame == "bat")
    measured = [record.at for record in records if record.frame == often and record.unit in ("", who)]
    cells = [record.at for record in records if record.frame == "bat" and record.unit == who]
    pace, cells_pace = (median(later - at for at, later in pairwise(times)) for times in (measured, cells))
    what = f"{stack.name}, {MODULES} modules, {stack.speed} baud"
    ratio = cells_pace / pace
    figure = f"{often} each {pace:.2f} s, bat of a module each {cells_pace:.1f} s"
    table.add(what, figure, f"{ratio:.1f} x", "> 1 x", ratio > 1)
    table.add(f"{what}: CPU", f"{used.cpu_percent:.2f} % of a core", "", "< 2 %", used.cpu_percent < 2)
