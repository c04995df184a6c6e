"""`solarbridge scan`: which ports there are, and with `--probe` who answers on them, as entries for the configuration.

Looking at what there is writes nothing. Probing writes questions, and nobody knows to whom: so it is asked for, and
each port is opened for this program alone; one that another program holds is left alone.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bridge.devices import Found, slice_of
from bridge.errors import LinkError, Stopped
from bridge.tools.asking import agreed
from bridge.transports.base import Stop
from bridge.transports.serial_port import ADAPTERS, links_in

NAMES = ("ttyUSB*", "ttyACM*", "ttyAMA*", "ttySC*", "ttymxc*")
"""Serial ports of adapters and of boards; PCs list ttyS ports that are not there, so those are to be named."""
VOLTRONIC = "0665:5161"


@dataclass(frozen=True, slots=True)
class Port:
    """A port that is there: what a configuration names, and the node behind it."""

    name: str
    node: str

    @property
    def is_hid(self) -> bool:
        return self.name.startswith("hid") or os.path.basename(os.path.realpath(self.node)).startswith("hidraw")

    def words(self) -> str:
        return self.name if self.name == self.node else f"{self.name}  ({self.node})"


def serial_ports(dev: str = "/dev") -> list[Port]:
    """Return the serial ports, by their lasting names under serial/by-id where they have one, sorted.

    Where an adapter is there without one it has the same name as another, which leads to either of them, as the system
    has it at the moment: then by the USB sockets they are in, under serial/by-path.
    """
    folder = Path(dev)
    named = links_in(f"{dev}/serial/by-id")
    nodes = sorted({str(node) for name in NAMES for node in folder.glob(name)} | named.keys())
    if named and any(node not in named for node in nodes if os.path.basename(node).startswith(ADAPTERS)):
        named |= links_in(f"{dev}/serial/by-path")
    return [Port(named.get(node, node), node) for node in nodes if os.path.exists(node)]


def hid_ports(dev: str = "/dev") -> list[Port]:
    """Return the USB interfaces of Voltronic inverters, by the name that outlives replugging where there is one.

    Most tell no serial number. Of two such ones hidraw0 may be the other one after the next start, so what our udev
    rule calls them by, after the USB socket, goes before that.
    """
    from bridge.transports.hidapi import nodes_found

    nodes = nodes_found()
    serials = [node.serial for node in nodes]
    named = {os.path.realpath(link): str(link) for link in sorted((Path(dev) / "solarbridge").glob("*"))}
    if len(nodes) == 1:
        return [Port("hid", nodes[0].path)]
    return [
        Port(
            f"hid:{node.serial}" if node.serial and serials.count(node.serial) == 1
            else named.get(os.path.realpath(node.path), node.path),
            node.path,
        )
        for node in nodes
    ]  # fmt: skip


def show() -> int:
    """Print what is plugged in and how to go on; 0."""
    found_serial, found_hid = serial_ports(), hid_ports()
    print("Serial ports:")
    print("\n".join(f"  {port.words()}" for port in found_serial) or "  none")
    print(f"\nUSB interfaces of Voltronic inverters ({VOLTRONIC}):")
    print("\n".join(f"  {port.words()}" for port in found_hid) or "  none")
    print("\nWho answers there:     solarbridge scan --probe [PORT ...]")
    print("A LuxPower WiFi stick: solarbridge scan --lxp HOST")
    return 0


def probe(names: Sequence[str], *, yes: bool) -> int:
    """Ask on the ports of these names, or on all, who is there; print entries for `devices`.

    Returns 0 when somebody answers, 1 when nobody does, 2 when it may not be done.
    """
    ports = [Port(name, name) for name in names] or [*hid_ports(), *serial_ports()]
    if not ports:
        print("there is no port to ask on", file=sys.stderr)
        return 1
    if not yes and not _agreed(ports):
        return 2
    stop = Stop()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    found: list[Found] = []
    try:
        for port in ports:
            found += _look(port, stop)
    except Stopped:
        return 130
    _print_entries(found)
    return 0 if found else 1


def _agreed(ports: Sequence[Port]) -> bool:
    if not sys.stdin.isatty():
        print("nothing was asked: --yes is needed where nobody can be asked", file=sys.stderr)
        return False
    print("Questions to inverters and batteries will be written to:", file=sys.stderr)
    print("\n".join(f"  {port.words()}" for port in ports), file=sys.stderr)
    return agreed("Nothing else should be plugged in there. Go on?")


def _look(port: Port, stop: Stop) -> list[Found]:
    """Print who answers on one port, and return it."""
    print(f"{port.words()}: ", end="", flush=True)
    try:
        found = next(filter(None, _answers(port, stop)), [])
    except LinkError as err:
        print(f"left alone: {err}")
        return []
    for one in found:
        print(one.words)
    if not found:
        console = "" if port.is_hid else "; a Pylontech console that sleeps is woken by the bridge alone"
        print(f"nobody answers{console}")
    return found


def _answers(port: Port, stop: Stop) -> Iterator[list[Found]]:
    """Ask each kind of device that can be there, until one answers."""
    for device_type in ("axpert",) if port.is_hid else ("pylontech", "axpert"):
        yield slice_of(device_type).sound_out_port(port.name, stop)


def _print_entries(found: Sequence[Found]) -> None:
    if not found:
        return
    import yaml

    entries: list[dict[str, object]] = []
    for one in found:
        name = str(one.entry["name"])
        count = sum(str(entry["name"]).startswith(name) for entry in entries)
        entry = {**one.entry, "name": f"{name}{count + 1}" if count else name}
        if count and entry["type"] == "axpert":
            entry["topics"] = {"parallel": None}  # power/axpert is the first one's
        entries.append(entry)
    print("\nFor the configuration, with names of your own:\n")
    print(yaml.safe_dump({"devices": entries}, sort_keys=False))
