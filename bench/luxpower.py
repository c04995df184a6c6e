"""LuxPower: decode and encode against peers, and the way from a push to a subscriber."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.kit import Kit, Table, child, peer
from bench.latency import Case, add_rows
from bridge.simulators.lxp import LxpSimulator
from tests.harness import free_port
from tests.shared import REPOSITORY

LUXMODBUS = "luxmodbus==0.3.1"
READ_INPUT = 4
SPACING = 0.05


def run(kit: Kit) -> list[Table]:
    return [codec_table(), *(latency_table(kit, words) for words in (40, 127))]


def frames() -> dict[str, str]:
    """Return what a simulated stick sends: 40 and 127 input registers."""
    with LxpSimulator(model="sna", greeting=3600.0) as stick:
        return {f"{count} registers": stick.frame(READ_INPUT, 0, count).hex() for count in (40, 127)}


def newer_python() -> str | None:
    """Return a Python that luxmodbus runs on (3.12), the running one if it does."""
    if sys.version_info >= (3, 12):
        return sys.executable
    found = [shutil.which(f"python3.{minor}") for minor in (13, 12)]
    found += map(str, sorted(Path.home().glob(".pyenv/versions/3.1[2-9]*/bin/python")))
    for python in filter(None, found):
        if subprocess.run([python, "-c", "import venv"], capture_output=True, check=False).returncode == 0:
            return python
    return None


def codec_table() -> Table:
    table = Table("LuxPower: one frame to named values, and encoding a write")
    told = frames()
    arguments = [f"{name}={raw}" for name, raw in told.items()]
    python = newer_python()
    programs = peer("luxmodbus", LUXMODBUS, python) if python else None
    interpreter = programs / "python" if programs else Path(sys.executable)
    ours = child(interpreter, "lxp_decode.py", "solarbridge", *arguments)
    for name in told:
        one = ours[name]
        table.add(f"{name}: solarbridge", f"{one['values']:.1f} µs, {one['count']} values (words {one['words']:.1f})")
    table.add("encode: solarbridge", f"{ours['encode']:.1f} µs")
    if programs is None:
        table.add(LUXMODBUS, "needs Python 3.12: none found here" if python is None else "could not be installed here")
    else:
        compare(table, ours, child(interpreter, "lxp_decode.py", "luxmodbus", *arguments))
        table.notes.append("Both by the interpreter that luxmodbus needs; solarbridge itself runs on 3.11 too.")
    add_ruby(table, ours, told)
    return table


def compare(table: Table, ours: dict[str, Any], theirs: dict[str, Any] | None) -> None:
    if theirs is None:
        table.add(LUXMODBUS, "failed here")
        return
    for name, one in ours.items():
        if isinstance(one, dict):
            ratio = theirs[name]["values"] / one["values"]
            figure = f"{theirs[name]['values']:.1f} µs, {theirs[name]['count']} values"
            table.add(f"{name}: {LUXMODBUS}", figure, f"{ratio:.1f} x", ">= 5 x", ratio >= 5)
    ratio = theirs["encode"] / ours["encode"]
    table.add(f"encode: {LUXMODBUS}", f"{theirs['encode']:.1f} µs", f"{ratio:.1f} x", ">= 5 x", ratio >= 5)


def add_ruby(table: Table, ours: dict[str, Any], told: dict[str, str]) -> None:
    """Add lxp-packet where there is a Ruby that has it, or a checkout of it in $LXP_PACKET."""
    ruby = shutil.which("ruby")
    if ruby is None:
        table.add("lxp-packet", "left out: no ruby here")
        return
    name = "40 registers"
    # it knows protocols 1 and 2, and frames of 40 registers
    theirs = child(ruby, "lxp_decode.rb", os.environ.get("LXP_PACKET", ""), told[name])
    if theirs is None:
        table.add("lxp-packet", "left out: ruby cannot load it; the path of a checkout goes into $LXP_PACKET")
        return
    for what, mine, other in (
        (name, ours[name]["values"], theirs["values"]),
        ("encode", ours["encode"], theirs["encode"]),
    ):
        table.add(f"{what}: lxp-packet", f"{other:.1f} µs", f"{other / mine:.1f} x", ">= 5 x", other / mine >= 5)


def latency_table(kit: Kit, words: int) -> Table:
    """From the last byte handed to the socket to the state at a subscriber."""
    table = Table(f"LuxPower: last byte of a push of {words} registers to the state at a subscriber")
    script = str(REPOSITORY / "bench" / "peers" / "lxp_pusher.py")
    topic = "solarbridge/house/state"

    def number(port: str) -> str:
        return port.rpartition(":")[2]

    def ends(records: list[dict[str, Any]]) -> dict[str, list[tuple[float, str]]]:
        return {"its state": [(r["at"], topic) for r in records if r["frame"] == "input" and r["whole"]]}

    add_rows(table, kit, Case(
        simulate=lambda port: [sys.executable, script, number(port), str(SPACING), str(words), "{dir}/truth"],
        port=lambda: f"127.0.0.1:{free_port()}",
        entry=lambda port: f"- {{name: house, type: lxp, host: 127.0.0.1, port: {number(port)}, interval: 0}}\n",
        ends=ends,
        frame_size=37 + 2 * words,
        ready=lambda recorder: len(recorder.on(topic)) > 20,
    ))  # fmt: skip
    return table
