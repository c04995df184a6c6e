"""`solarbridge demo`: simulated devices, a broker, the bridge as a process of its own, and what it says.

Everything between the devices' cables and the topics is real: bytes on ptys and sockets, the polling
threads, the broker, an ordinary configuration file.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from bridge.errors import BridgeError
from bridge.simulators.axpert import AxpertSimulator
from bridge.simulators.lxp import LxpSimulator
from bridge.simulators.pylontech import PylontechSimulator
from bridge.simulators.pylontech_console import ConsoleSimulator, Extra2000Simulator
from bridge.simulators.simulator import Simulator
from bridge.tools.brokers import DemoBroker, free_port
from bridge.transports.base import Stop

PORT = 18830
"""Where the demo's broker listens, if that port is free."""
BANK = ("batteries", "cellar", "garage")
"""Devices whose modules make the demo's bank: one stack on each kind of cable."""


@dataclass(frozen=True, slots=True)
class DemoDevice:
    """A simulated device and its entry in the bridge's configuration, but for where it is."""

    simulator: Simulator
    entry: dict[str, Any]

    def configured(self) -> dict[str, Any]:
        """Return the whole entry, once the simulator has started."""
        port = self.simulator.port
        if not isinstance(self.simulator, LxpSimulator):
            return {**self.entry, "port": port}
        host, _, number = port.rpartition(":")
        return {**self.entry, "host": host, "port": int(number)}


def demo_devices(folder: Path) -> list[DemoDevice]:
    """Return what lives in the demo's house; ports are links in `folder`."""
    roof = AxpertSimulator("roof", model="max", link=folder / "roof")
    barn = AxpertSimulator("barn", model="pi30", units=3, transport="hid", link=folder / "barn", seed=2)
    house = LxpSimulator("house", model="lxp12k", greeting=0.5, pace=0.3, push_interval=20.0)
    batteries = PylontechSimulator("batteries", modules=4, link=folder / "batteries", turnaround=0.027)
    cellar = ConsoleSimulator("cellar", modules=["US5000", "US2000C"], link=folder / "cellar", turnaround=0.05, seed=3)
    garage = Extra2000Simulator("garage", modules=2, link=folder / "garage", turnaround=0.05, seed=4)
    return [
        DemoDevice(roof, {"name": "roof", "type": "axpert"}),
        DemoDevice(barn, {"name": "barn", "type": "axpert", "topics": {"parallel": "power/barn"}}),
        DemoDevice(batteries, {"name": "batteries", "type": "pylontech"}),
        DemoDevice(cellar, {"name": "cellar", "type": "pylontech", "link": "console", "login": True}),
        DemoDevice(garage, {"name": "garage", "type": "pylontech-extra2000"}),
        DemoDevice(house, {"name": "house", "type": "lxp", "interval": 10, "writes": True}),
    ]


@dataclass(slots=True)
class Seen:
    """What arrived on one topic."""

    payload: bytes
    at: float
    count: int = 0


class Viewer:
    """A subscriber to everything."""

    def __init__(self, port: int) -> None:
        self.topics: dict[str, Seen] = {}
        self._lock = threading.Lock()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, "solarbridge-demo-view")
        self._client.on_connect = lambda client, *_: client.subscribe("#")  # a subscription lasts one connection
        self._client.on_message = self._note
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def _note(self, _client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        with self._lock:
            seen = self.topics.setdefault(message.topic, Seen(b"", 0.0))
            seen.payload, seen.at = bytes(message.payload), time.monotonic()
            seen.count += 1

    def snapshot(self) -> dict[str, Seen]:
        with self._lock:
            return {topic: Seen(s.payload, s.at, s.count) for topic, s in sorted(self.topics.items())}

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def run(seconds: float | None) -> int:
    """Run the demo until Ctrl-C, or so many seconds; 0 when every device published, else 1."""
    interrupted = Stop()
    # a closed terminal too, unless under nohup: broker and bridge would stay, for they do not end by its SIGHUP
    hangup = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]
    for number in (signal.SIGINT, signal.SIGTERM, *hangup):
        signal.signal(number, lambda *_: interrupted.set())
    try:
        with _stage() as (viewer, bridge, devices, port, broker):
            _introduce(port, broker, devices)
            _watch(viewer, bridge, interrupted, seconds, port)
            seen = viewer.snapshot()
    except BridgeError as err:
        print(f"demo: {err}", file=sys.stderr)
        return 1
    return _summary(seen, devices, time_given=seconds is not None)


@contextlib.contextmanager
def _stage() -> Iterator[tuple[Viewer, subprocess.Popen[bytes], list[str], int, str]]:
    """Set up devices, broker, bridge and viewer; take all of it down again."""
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="solarbridge-demo-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        port = free_port(PORT)
        broker = DemoBroker(folder, port)
        stack.callback(broker.stop)
        broker.wait(20)
        entries = []
        for device in demo_devices(folder):
            stack.enter_context(device.simulator)
            entries.append(device.configured())
        config = folder / "config.yaml"
        config.write_text(_configuration(port, entries, folder / "state"))
        viewer = Viewer(port)
        stack.callback(viewer.close)
        log = stack.enter_context((folder / "bridge.log").open("wb"))
        command = [sys.executable, "-m", "bridge", "run", "--config", str(config)]
        # the house's broker, which may be named here, must not hear of batteries that are not there
        environ = {name: value for name, value in os.environ.items() if not name.startswith("SOLARBRIDGE_MQTT_")}
        # a session of its own: Ctrl-C reaches the demo alone, which ends everything in order
        bridge = subprocess.Popen(
            command, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )  # fmt: skip
        stack.callback(_end, bridge)
        print("The bridge's configuration:\n" + textwrap.indent(config.read_text(), "    "))
        yield viewer, bridge, [entry["name"] for entry in entries], port, broker.name
        if bridge.poll() is not None:
            raise BridgeError(f"the bridge ended early:\n{(folder / 'bridge.log').read_text(errors='replace')}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _configuration(port: int, entries: list[dict[str, Any]], state: Path) -> str:
    """Return the bridge's config file for the demo, as a person would write it."""
    lines = ["mqtt:", "  host: 127.0.0.1", f"  port: {port}", "devices:"]
    for entry in entries:
        for index, (key, value) in enumerate(entry.items()):
            lines.append(f"  {'- ' if index == 0 else '  '}{key}: {json.dumps(value)}")
    lines += ["banks:", "  - name: bank", f"    from: [{', '.join(BANK)}]", "    modules: 8"]
    lines += [f"state_directory: {json.dumps(str(state))}"]
    return "\n".join(lines) + "\n"


def _introduce(port: int, broker: str, devices: list[str]) -> None:
    print(f"Broker: {broker} on 127.0.0.1:{port}. Devices: {', '.join(devices)}.")
    print(f"Look on in another window:  mosquitto_sub -h 127.0.0.1 -p {port} -v -t '#'")
    print("Ctrl-C ends everything.\n", flush=True)


def _watch(
    viewer: Viewer, bridge: subprocess.Popen[bytes], interrupted: Stop, seconds: float | None, port: int
) -> None:
    """Show what arrives: redrawn every second on a terminal, a line each 5 s elsewhere."""
    end = time.monotonic() + seconds if seconds is not None else float("inf")
    on_terminal = sys.stdout.isatty()
    pause = 1.0 if on_terminal else 5.0
    while bridge.poll() is None and not interrupted.wait(min(pause, max(0.0, end - time.monotonic()))):
        seen = viewer.snapshot()
        if on_terminal:
            _draw(seen, port)
        else:
            print(f"{sum(s.count for s in seen.values())} messages on {len(seen)} topics", flush=True)
        if time.monotonic() >= end:
            return


def _draw(seen: dict[str, Seen], port: int) -> None:
    width, height = shutil.get_terminal_size((100, 30))
    now = time.monotonic()
    lines = [f"mosquitto_sub -h 127.0.0.1 -p {port} -v -t '#'        Ctrl-C ends", ""]
    online = {topic for topic, s in seen.items() if topic.endswith("/availability") and s.payload == b"online"}
    shown = {topic: s for topic, s in seen.items() if topic not in online}
    wide = max(10, min(max(map(len, shown), default=0), width - 40))  # a line that wraps would push the first ones out
    if online:
        lines[1:] = [f"{len(online)} x availability: online", ""]
    for topic, s in shown.items():
        name = topic if len(topic) <= wide else "…" + topic[1 - wide :]
        head = f"{name:<{wide}} {s.count:>5} x {now - s.at:>4.0f} s ago  "
        lines.append(head + brief(s.payload, max(10, width - len(head) - 1)))
    if len(lines) > height - 1:
        lines = [*lines[: height - 2], f"... and {len(lines) - height + 2} more topics"]
    os.write(1, ("\x1b[H\x1b[2J" + "\n".join(line[:width] for line in lines) + "\n").encode())


def brief(payload: bytes, width: int) -> str:
    """Return what a payload says, in one line of at most `width` characters: known values first."""
    text = payload.decode("utf-8", "replace")
    with contextlib.suppress(ValueError):
        values = json.loads(text)
        if isinstance(values, dict):
            known = {k: v for k, v in values.items() if v is not None and not k.endswith("_code")}
            text = "  ".join(f"{key}={value}" for key, value in known.items())
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= width else text[: width - 1] + "…"


def _summary(seen: dict[str, Seen], devices: list[str], *, time_given: bool) -> int:
    """Print messages per topic; 1 when a device published nothing."""
    print("\nMessages per topic:")
    for topic, s in seen.items():
        print(f"{s.count:7}  {topic}")
    silent = [name for name in devices if f"solarbridge/{name}/state" not in seen]
    if silent:
        print(f"Published nothing: {', '.join(silent)}", file=sys.stderr)
    return 1 if silent and time_given else 0
