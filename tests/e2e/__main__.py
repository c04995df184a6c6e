"""The house of the demo, the bridge, a broker and a real Home Assistant core: what core makes of it all.

Each check prints a line; the first that fails ends the run with status 1 and what was seen. `--keep` leaves core
running after the checks, for a look with a browser.
"""

from __future__ import annotations

import contextlib
import json
import math
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bridge.tools.demo import _configuration, demo_devices
from tests.e2e.blueprints import (
    a_full_battery_is_not_charged_in_the_window_of_before,
    a_refused_window_switches_nothing_on,
    bridge_offline_tells_of_each,
    charge_window_is_set,
    low_soc_tells_once_per_fall,
)
from tests.e2e.core import Core
from tests.e2e.energy import energy_is_valid
from tests.e2e.setup_core import NoCore, hass
from tests.harness import Bridge, Message, Mosquitto, Recorder, await_true
from tests.sinks.ha_rules import complaints, expanded

ALLOWED = ("charge_voltage_v", "ongrid_cutoff_type")
"""Settings of class B that the test changes beside those that need not be named."""
KEEPALIVE = 15
SPACING = 5.0 - 0.05
"""Seconds between two different messages of a device, less what two arrivals may differ in their way here."""
SETTLED = 45.0
"""Seconds without a new device message after which the house counts as announced."""
UNKNOWN = ("unknown", "unavailable")


class House:
    """Everything that runs, and questions to it."""

    def __init__(self, folder: Path, executable: str, stack: contextlib.ExitStack) -> None:
        self.folder = folder
        self.mosquitto = stack.enter_context(Mosquitto(folder / "broker", PERSISTENT.format(folder=folder)))
        self.recorder = stack.enter_context(Recorder(self.mosquitto.port))
        entries = []
        self._simulators: dict[str, Any] = {}
        for device in demo_devices(folder):
            self._simulators[device.entry["name"]] = device.simulator
            stack.enter_context(device.simulator)
            allowed = {"allow": list(ALLOWED)} if device.entry["type"] == "lxp" else {}
            entries.append({**device.configured(), **allowed})
        self.newest = _version(executable) >= "2026"
        self.config = _configuration(self.mosquitto.port, entries, folder / "state")
        if self.newest:
            self.config += "homeassistant: {time_entities: true}\n"
        self.bridge = Bridge(folder / "bridge", self.config).start()
        stack.callback(self._end_bridge)
        self.core = Core(executable, folder / "core", self.mosquitto.port)
        stack.callback(self.core.stop)

    def _end_bridge(self) -> None:
        self.bridge.send(signal.SIGCONT)
        self.bridge.stop()

    def simulator(self, device: str) -> Any:
        """Return the simulated device of that name."""
        return self._simulators[device]

    def announced(self) -> dict[str, dict[str, Any]]:
        """Return the newest device message by identity, written out."""
        found: dict[str, bytes] = {}
        for message in list(self.recorder.messages):
            if message.topic.startswith("homeassistant/device/"):
                found[message.topic.split("/")[2]] = message.payload
        for identity, payload in found.items():
            topic = f"homeassistant/device/{identity}/config"
            assert complaints(topic, payload, newest=self.newest) == [], identity
        return {identity: expanded(payload) for identity, payload in found.items() if payload}

    def await_announced(self) -> None:
        """Wait until no device message has come for a while."""

        def quiet() -> bool:
            times = [m.at for m in list(self.recorder.messages) if m.topic.startswith("homeassistant/")]
            newest = max(times, default=0)
            return newest > 0 and time.monotonic() - newest > SETTLED

        await_true(quiet, 300, "the house is announced")

    def expected(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Yield platform, unique id and component of every entity announced, with what it inherits."""
        for message in self.announced().values():
            shared = {key: message[key] for key in ("state_topic", "availability") if key in message}
            for component in message["components"].values():
                if "unique_id" in component:
                    yield component["platform"], component["unique_id"], {**shared, **component}

    def entity(self, platform: str, device: str, key: str) -> str:
        """Return the entity id of a value of a device, by its name in the configuration."""
        topic = f"solarbridge/{device}/availability"
        for identity, message in self.announced().items():
            here = any(one.get("t") == topic for one in message.get("availability", ()))
            if here and f"{platform}_{key}" in message["components"]:
                return str(self.core.entities()[platform, f"{identity}_{key}"]["entity_id"])
        raise AssertionError(f"{device} has no {platform} {key}")

    def connection(self) -> str:
        """Return the entity id that says whether the bridge is there."""
        found = [key for *key, one in self.expected() if one.get("state_topic") == "solarbridge/status"]
        assert len(found) == 1, found
        return str(self.core.entities()[found[0][0], found[0][1]]["entity_id"])

    def module(self) -> str:
        """Return the place of one module of the stack `batteries`: device/serial number."""
        topics = {one.topic.split("/", 1)[1] for one in list(self.recorder.messages)}
        found = sorted(t for t in topics if t.startswith("batteries/") and t.count("/") == 2 and t.endswith("/state"))
        return found[0].removesuffix("/state")

    def results_since(self, number: int) -> list[dict[str, Any]]:
        """Return what became of the commands to `house` behind so many."""
        return [json.loads(one.payload) for one in self.recorder.on("solarbridge/house/result")[number:]]

    def state(self, entity_id: str) -> str:
        return str(self.core.states()[entity_id]["state"])

    def newest_values(self, topic: str) -> dict[str, Any]:
        return dict(json.loads(self.recorder.on(topic)[-1].payload))

    def published(self) -> dict[str, list[bytes]]:
        """Return every payload so far by topic."""
        found: dict[str, list[bytes]] = {}
        for message in list(self.recorder.messages):
            found.setdefault(message.topic, []).append(message.payload)
        return found

    def absent(self) -> list[str]:
        """Return the entities whose key the newest message on their topic lacks."""
        newest = {topic: carried(payloads[-1]) for topic, payloads in self.published().items()}
        found = []
        for platform, unique_id, component in self.expected():
            keys = newest.get(component["state_topic"]) if platform != "button" else None
            if keys is not None and key_of(component) not in keys:
                found.append(unique_id)
        return found

    def available(self) -> bool:
        """Whether every entity that is enabled and whose device is online is available."""
        return not self.unavailable()

    def unavailable(self) -> list[str]:
        states = self.core.states()
        entities = self.core.entities()
        found = []
        for platform, unique_id, _ in self.expected():
            entity = entities.get((platform, unique_id))
            if entity is None or (entity["disabled_by"] is None and self._is_away(states, entity["entity_id"])):
                found.append(unique_id)
        return found

    @staticmethod
    def _is_away(states: dict[str, dict[str, Any]], entity_id: str) -> bool:
        return entity_id not in states or states[entity_id]["state"] == "unavailable"


def _version(executable: str) -> str:
    told = subprocess.run([executable, "--version"], capture_output=True, text=True, check=True)
    return told.stdout.strip()


PERSISTENT = "allow_anonymous true\npersistence true\npersistence_location {folder}/broker/\nautosave_interval 1"


def everything_exists(house: House) -> None:
    """Every device and entity is in core's registries, below its parent."""
    announced = house.announced()
    house.core.start()
    await_true(lambda: len(house.core.entities()) >= len(list(house.expected())), 120, "all entities exist")
    entities, devices = house.core.entities(), house.core.devices()
    missing = [one for one in house.expected() if one[:2] not in entities]
    assert missing == []
    assert set(devices) >= set(announced)
    for identity, message in announced.items():
        parent = message["device"].get("via_device")
        assert devices[identity]["via_device_id"] == (devices[parent]["id"] if parent else None), identity
    for platform, unique_id, component in house.expected():
        entity = entities[platform, unique_id]
        assert (entity["disabled_by"] is not None) == (component.get("enabled_by_default") is False), unique_id
        assert entity["entity_category"] == component.get("entity_category"), unique_id
    kinds = sorted({platform for platform, _ in entities})
    print(f"  core {house.core.version}: {len(devices)} devices, {len(entities)} entities: {', '.join(kinds)}")


def values_are_right(house: House) -> None:
    """What core shows is what was published within the last seconds, entity by entity."""
    await_true(house.available, 60, f"available: {house.unavailable()[:5]}")
    # a bridge that has just started asks for its slow values one by one; then every announced key is there, always
    await_true(lambda: not house.absent(), 120, f"every key is published: {house.absent()[:5]}")
    time.sleep(15)  # one round of the slowest device
    states = house.core.states()
    published = house.published()  # at once: what comes from here on core did not show yet
    entities = house.core.entities()
    compared = 0
    for platform, unique_id, component in house.expected():
        entity = entities[platform, unique_id]
        if entity["disabled_by"] is not None or platform == "button":
            continue
        shown = states[entity["entity_id"]]["state"]
        payloads = published.get(component["state_topic"], [])[-60:]
        candidates = [text_of(platform, component, one) for one in payloads]
        if unique_id.endswith("_last_command"):
            candidates.append("unknown")  # a result is not retained, and core was started anew since
        if not candidates:
            assert shown in UNKNOWN, (unique_id, shown)
        else:
            assert any(same(shown, one) for one in candidates), (unique_id, shown, candidates[-3:])
            compared += 1
    known = sum(one["state"] not in UNKNOWN for one in states.values())
    print(f"  {compared} values compared, {known} known")


def key_of(component: dict[str, Any]) -> str:
    """Return the key that an entity looks up, "" for one that takes the payload as it is."""
    template = component.get("value_template", "get('')")
    return str(template.split("get('")[1].split("')")[0])


def carried(payload: bytes) -> set[str]:
    """Return the keys of a payload, and "" for what is no object."""
    return set(json.loads(payload)) if payload.startswith(b"{") else {""}


def text_of(platform: str, component: dict[str, Any], payload: bytes) -> str:
    """Return what core has to show for a payload."""
    if "value_template" not in component:
        return {"online": "on", "offline": "off"}[payload.decode()]
    value = json.loads(payload).get(key_of(component))
    if platform == "time" and value is not None:
        return str(value).split("-")[component["unique_id"].endswith("_end")] + ":00"
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)[:255]


def same(shown: str, expected: str) -> bool:
    if shown == expected:
        return True
    try:
        return math.isclose(float(shown), float(expected), rel_tol=1e-6, abs_tol=1e-6)
    except ValueError:
        return shown.replace("+00:00", "Z") == expected


def control(house: House, service: str, platform: str, key: str, old: str, **data: Any) -> None:
    """Set one control, and see it in core, on the topic and in the result."""
    entity = house.entity(platform, "house", key)
    await_true(lambda: house.state(entity) not in UNKNOWN, 30, f"{entity} is known")
    before = len(house.recorder.on("solarbridge/house/result"))
    assert house.core.do(service, entity_id=entity, **data) == 200
    await_true(lambda: len(house.recorder.on("solarbridge/house/result")) > before, 60, f"{key}: a result")
    result = house.newest_values("solarbridge/house/result")
    assert result["outcome"] == "done", result
    wanted = str(data.get("value", data.get("option", data.get("time", old))))
    await_true(lambda: same(house.state(entity), wanted), 30, f"{entity} shows {wanted}, not {house.state(entity)}")
    print(f"  {entity}: {result['old']} -> {result['read_back']} in {result['duration']} s")


def controls_work(house: House) -> None:
    """A number, a switch, a select, a window and a decimal reach the inverter and come back verified."""
    limit = "ac_charge_soc_limit_pct"
    old = float(house.state(house.entity("number", "house", limit)))
    control(house, "number.set_value", "number", limit, "", value=60 if old != 60 else 70)
    control(house, "number.set_value", "number", "charge_voltage_v", "", value=55.5)
    switch = house.entity("switch", "house", "ac_charge")
    on = house.state(switch) == "on"
    control(house, f"switch.turn_{'off' if on else 'on'}", "switch", "ac_charge", "off" if on else "on")
    select = house.entity("select", "house", "ongrid_cutoff_type")
    option = "soc" if house.state(select) != "soc" else "voltage"
    control(house, "select.select_option", "select", "ongrid_cutoff_type", "", option=option)
    if house.newest:
        control(house, "time.set_value", "time", "ac_charge_window_1_start", "", time="23:30:00")
        time.sleep(11)  # a register is written at most every 10 s
        control(house, "time.set_value", "time", "ac_charge_window_1_end", "", time="05:15:00")
    else:
        control(house, "text.set_value", "text", "ac_charge_window_1", "", value="23:30-05:15")
    assert house.newest_values("solarbridge/house/settings")["ac_charge_window_1"] == "23:30-05:15"
    last = house.core.states()[house.entity("sensor", "house", "last_command")]
    assert last["state"] == "done"
    assert last["attributes"]["setting"] == "ac_charge_window_1"
    refresh = house.entity("button", "house", "refresh")
    house.recorder.forget_topic("solarbridge/house/refresh")
    assert house.core.do("button.press", entity_id=refresh) == 200
    house.recorder.wait("solarbridge/house/refresh")


def a_refused_value_falls_back(house: House) -> None:
    """What the bridge refuses changes nothing, and core says why."""
    entity = house.entity("number", "house", "charge_voltage_v")
    last = house.entity("sensor", "house", "last_command")
    before = house.state(entity)
    assert house.core.do("number.set_value", entity_id=entity, value=55.55) == 200  # between two steps
    await_true(lambda: house.state(last) == "refused", 30, "refused")
    told = house.core.states()[last]["attributes"]
    assert "between the values" in told["reason"], told
    assert house.state(entity) == before
    limit = house.entity("number", "house", "ac_charge_soc_limit_pct")
    assert house.core.do("number.set_value", entity_id=limit, value=150) in (400, 500)  # core itself refuses it
    print(f"  {entity} stays {before}: {told['reason']}")


def a_frozen_and_a_killed_bridge_are_unavailable(house: House) -> None:
    """Within twice the keep-alive, however the bridge ends; and all is back behind its start."""
    voltage = house.entity("sensor", "roof", "battery_voltage")
    for number in (signal.SIGSTOP, signal.SIGKILL):
        begun = time.monotonic()
        house.bridge.send(number)
        await_true(lambda: house.state(voltage) == "unavailable", 2 * KEEPALIVE, "unavailable")
        took = time.monotonic() - begun
        states, entities = house.core.states(), house.core.entities()
        left = [
            unique_id for platform, unique_id, component in house.expected()
            if "availability" in component and entities[platform, unique_id]["disabled_by"] is None
            and states[entities[platform, unique_id]["entity_id"]]["state"] != "unavailable"
        ]  # fmt: skip
        assert left == []
        print(f"  {signal.Signals(number).name}: unavailable after {took:.1f} s")
        if number == signal.SIGSTOP:
            house.bridge.send(signal.SIGCONT)
            await_true(house.available, 60, "available behind a freeze")
    assert house.bridge.process is not None
    house.bridge.process.wait(10)
    house.bridge.start()
    await_true(house.available, 90, "available behind a new start")


def core_restarts(house: House) -> None:
    """All is back, with the same entity ids."""
    before = {key: one["entity_id"] for key, one in house.core.entities().items()}
    house.core.stop()
    house.core.start()
    begun = time.monotonic()
    await_true(house.available, 60, "available behind core's restart")
    took = time.monotonic() - begun
    assert {key: one["entity_id"] for key, one in house.core.entities().items()} == before
    house.recorder.forget_topic("homeassistant/status")
    house.recorder.wait_payload("homeassistant/status", b"online", 60)
    print(f"  all live {took:.1f} s behind its connection")
    time.sleep(10)  # the answer to the birth message
    assert house.available()


def the_broker_restarts(house: House) -> None:
    """All is back."""
    house.mosquitto.stop()
    house.mosquitto.start()
    begun = time.monotonic()
    await_true(house.available, 90, "available behind the broker's restart")
    print(f"  all live {time.monotonic() - begun:.1f} s behind its start")


def messages_keep_their_distance(house: House) -> None:
    """Of no device did two different messages come within 5 s, which core would lose parts of."""
    last: dict[str, Message] = {}
    closest = math.inf
    for message in list(house.recorder.messages):
        if message.topic.startswith("homeassistant/device/") and message.payload and not message.retained:
            before = last.get(message.topic)
            if before is not None and before.payload != message.payload:
                closest = min(closest, message.at - before.at)
            last[message.topic] = message
    assert closest >= SPACING, closest
    print(f"  {len(last)} devices, the closest two {closest:.1f} s apart")


def nothing_is_logged(house: House) -> None:
    """Not one warning or error about what we send."""
    lines = [line for line in house.core.log() if not any(text in line for text in OUR_DOING)]
    assert lines == [], "\n".join(lines[:20])


OUR_DOING = (
    "Failed to connect to MQTT server", "Disconnected from MQTT server", "Error returned from MQTT server",
    "maximum: 100", "between 0.0 and 100.0", "Unexpected exception", "No ACK from MQTT server in", "Updating state for",
)  # fmt: skip
"""What core logs of the broker's restart, of the value out of range that this test asks for, and of a machine that has
more to do than it can: an acknowledgement or an update that takes long."""

CHECKS: tuple[Callable[[House], None], ...] = (
    everything_exists,
    values_are_right,
    controls_work,
    a_refused_value_falls_back,
    low_soc_tells_once_per_fall,
    charge_window_is_set,
    a_full_battery_is_not_charged_in_the_window_of_before,
    a_refused_window_switches_nothing_on,
    bridge_offline_tells_of_each,
    a_frozen_and_a_killed_bridge_are_unavailable,
    core_restarts,
    the_broker_restarts,
    energy_is_valid,
    values_are_right,
    messages_keep_their_distance,
    nothing_is_logged,
)


def main(arguments: list[str]) -> int:
    """Run all checks; return the exit status."""
    try:
        executable = hass()
    except NoCore as err:
        print(err, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="solarbridge-ha-") as folder, contextlib.ExitStack() as stack:
        house = House(Path(folder), executable, stack)
        print("The house is being announced.", flush=True)
        house.await_announced()
        for check in CHECKS:
            print(f"{check.__name__.replace('_', ' ')}: {(check.__doc__ or '').splitlines()[0]}", flush=True)
            try:
                check(house)
            except AssertionError as err:
                print(f"FAILED: {err}\n", *house.core.log()[:20], house.bridge.log()[-3000:], sep="\n")
                return 1
        if "--keep" in arguments:
            print(f"Core listens on {house.core._port}; Ctrl-C ends it.", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
    print("All is well.")
    return 0


def _ended(_number: int, _frame: Any) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _ended)  # take everything down in order
    sys.exit(main(sys.argv[1:]))
