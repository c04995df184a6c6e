"""Axpert: decode against peers, poll time against wire time and peers, waiting costs."""

from __future__ import annotations

import os
import select
import statistics
import sys
import time
from pathlib import Path

from bench.kit import Kit, Table, child, peer, truth
from bridge.simulators.axpert import AxpertSimulator

BAUD = 2400
SECONDS = 14.0
SETTLING = 30.0
MPPSOLAR, POWERMON = "mppsolar==0.16.56", "powermon==1.0.18"

MPPSOLAR_CONF = """[SETUP]
pause=0
mqtt_broker=127.0.0.1
mqtt_port={mqtt}

[unit]
protocol=PI30
type=mppsolar
port={port}
{porttype}baud=2400
command=QPIGS#QMOD
outputs=mqtt
"""

POWERMON_CONF = """device:
  name: unit
  serial_number: 1
  model: any
  manufacturer: any
  port: {{type: usb, path: {port}, protocol: PI30}}
commands:
- {{command: QPIGS, trigger: {{loops: 1}}, outputs: [{{type: mqtt, topic: a/b, format: simple}}]}}
- {{command: QMOD, trigger: {{loops: 1}}, outputs: [{{type: mqtt, topic: a/c, format: simple}}]}}
mqttbroker: {{name: 127.0.0.1, port: {mqtt}}}
loop: 0
"""

QUERIES = {"QPIGS": b"QPIGS\xb7\xa9\r", "QMOD": b"QMOD\x49\xc1\r"}


def replies() -> dict[str, bytes]:
    """Return what the simulated unit answers, at once, to the two queries."""
    told = {}
    with AxpertSimulator(baud=None) as unit:
        fd = os.open(unit.port, os.O_RDWR | os.O_NOCTTY)
        try:
            for name, query in QUERIES.items():
                os.write(fd, query)
                reply = b""
                while not reply.endswith(b"\r") and select.select([fd], [], [], 2)[0]:
                    reply += os.read(fd, 4096)
                told[name] = reply
        finally:
            os.close(fd)
    return told


def wire_seconds(told: dict[str, bytes]) -> float:
    """Return what one QPIGS and one QMOD, queries and replies, need on the wire: 10 bits a byte."""
    return sum(10 * (len(query) + len(told[name])) / BAUD for name, query in QUERIES.items())


def cycle(path: Path, since: float) -> tuple[float, int]:
    """Return the median time from one QPIGS reply to the next, with nothing but QMOD between, and how many."""
    records = [r for r in truth(path) if r["at"] > since and r["whole"]]
    gaps = [
        third["at"] - first["at"]
        for first, second, third in zip(records, records[1:], records[2:], strict=False)
        if (first["frame"], second["frame"], third["frame"]) == ("QPIGS", "QMOD", "QPIGS")
    ]
    return (statistics.median(gaps), len(gaps)) if gaps else (float("inf"), 0)


def run(kit: Kit) -> list[Table]:
    told = replies()
    return [decode_table(told), poll_table(kit, told), waiting_table(kit)]


def decode_table(told: dict[str, bytes]) -> Table:
    table = Table("Axpert: decoding one QPIGS reply")
    reply = told["QPIGS"].hex()
    ours = child(sys.executable, "axpert_decode.py", "solarbridge", reply)
    table.add("solarbridge", f"{ours['us']:.1f} µs, {ours['values']} values")
    for name, requirement in (("mppsolar", MPPSOLAR), ("powermon", POWERMON)):
        programs = peer(name, requirement)
        theirs = child(programs / "python", "axpert_decode.py", name, reply) if programs else None
        if theirs is None:
            table.add(requirement, "could not be installed here")
            continue
        ratio, figure = theirs["us"] / ours["us"], f"{theirs['us']:.1f} µs, {theirs['values']} values"
        table.add(requirement, figure, f"{ratio:.1f} x", ">= 10 x", ratio >= 10)
    return table


def poll_table(kit: Kit, told: dict[str, bytes]) -> Table:
    table = Table("Axpert: QPIGS + QMOD cycle at 2400 baud against the wire")
    for transport in ("serial", "hid"):
        wire = wire_seconds(told)
        cycles = {"solarbridge": ours(kit, transport)}
        cycles |= theirs(kit, transport)
        for name, (seconds, count) in cycles.items():
            words = "8-byte reports" if transport == "hid" else "serial"
            if not count:
                table.add(f"{words}: {name}", "no cycle seen")
                continue
            ratio = seconds / wire
            aim, met = ("<= 1.02 x wire", ratio <= 1.02) if name == "solarbridge" else ("", None)
            figure = f"{seconds:.3f} s (wire {wire:.3f} s, {count} cycles)"
            table.add(f"{words}: {name}", figure, f"{ratio:.3f} x", aim, met)
            if name != "solarbridge" and transport == "hid":
                faster = seconds / cycles["solarbridge"][0]
                table.add(f"{words}: {name} / solarbridge", "", f"{faster:.1f} x", ">= 5 x", faster >= 5)
    return table


def entry(port: str, interval: float) -> str:
    """Return the entry of a lone unit, of which nothing but QPIGS and QMOD is asked in every round."""
    switches = "parallel: false, topics: {parallel: null}"
    return f"- {{name: unit, type: axpert, port: {port}, interval: {interval}, {switches}}}\n"


def ours(kit: Kit, transport: str) -> tuple[float, int]:
    with kit.simulator("axpert", "--model", "pi30", "--transport", transport) as (port, log):
        with kit.bridge(entry(port, 0)) as subject:
            subject.watch(SETTLING)  # until the slow questions are through
            begin = time.monotonic()
            subject.watch(SECONDS)
        return cycle(log, begin)


def theirs(kit: Kit, transport: str) -> dict[str, tuple[float, int]]:
    """Return the peers' cycles; powermon's serial port cannot be configured in that release."""
    measured = {}
    programs = peer("mppsolar", MPPSOLAR)
    if programs:
        with kit.simulator("axpert", "--model", "pi30", "--transport", transport) as (port, log):
            porttype = "porttype=hidraw\n" if transport == "hid" else ""
            conf = MPPSOLAR_CONF.format(mqtt=kit.mqtt_port, port=port, porttype=porttype)
            command = [str(programs / "mpp-solar"), "-C", "{dir}/mpp.conf", "--daemon"]
            with kit.subject(command, mpp_conf=conf) as subject:
                begin = time.monotonic()
                subject.watch(SECONDS)
            measured[MPPSOLAR] = cycle(log, begin)
    programs = peer("powermon", POWERMON)
    if programs and transport == "hid":
        with kit.simulator("axpert", "--model", "pi30", "--transport", transport) as (port, log):
            conf = POWERMON_CONF.format(mqtt=kit.mqtt_port, port=port)
            with kit.subject([str(programs / "powermon"), "-C", "{dir}/p.yaml"], p_yaml=conf) as subject:
                begin = time.monotonic()
                subject.watch(SECONDS)
            measured[POWERMON] = cycle(log, begin)
    return measured


def waiting_table(kit: Kit) -> Table:
    """CPU while the bridge mostly waits: one poll a second, and the bus kept busy."""
    table = Table("Axpert: CPU while waiting")
    for words, interval in (("one poll a second", 1), ("bus kept busy", 0)):
        with kit.simulator("axpert", "--model", "pi30") as (port, _), kit.bridge(entry(port, interval)) as subject:
            subject.watch(4)
            used = subject.watch(SECONDS)
        table.add(words, f"{used.cpu_percent:.2f} % of a core", "", "< 1 %", used.cpu_percent < 1)
    return table
