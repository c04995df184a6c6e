"""Row A12: Home Assistant restarts, with the real program: it is told everything again, in order, within seconds."""

from __future__ import annotations

import time
from pathlib import Path

from tests.faults.rig import BASE, MAX_AGE, House, assert_young, house
from tests.harness import await_true
from tests.sinks.ha_rules import complaints

QUICK = "import bridge.sinks.discovery as d\nd.SETTLED = 0.5"
DEVICE = "homeassistant/device"
UNITS = ("one", "one/part0", "two")
LIMIT = 10.0


def announced(site: House) -> set[str]:
    return {m.topic for m in list(site.recorder.messages) if m.topic.startswith(f"{DEVICE}/") and m.payload}


def test_a12_home_assistant_restarts_and_is_told_everything_again(tmp_path: Path) -> None:
    devices = {"one": {"parts": 1, "interval": 0.5}, "two": {"interval": 0.5}}
    with house(tmp_path, devices, prelude=QUICK) as site:
        expected = {f"{DEVICE}/{name}/config" for name in ("sb", "sb_one", "sb_one_part0", "sb_two")}
        await_true(lambda: announced(site) == expected, 20, "announced")
        time.sleep(6)  # the distance that two messages of one device keep
        site.recorder.forget()
        asked = time.monotonic()
        site.recorder.client.publish("homeassistant/status", b"online")
        availability = {f"{BASE}/{unit}/availability" for unit in UNITS}
        await_true(lambda: announced(site) == expected, LIMIT, "announced again")
        await_true(lambda: all(site.recorder.on(topic) for topic in availability), LIMIT, "availability again")
        await_true(lambda: all(site.recorder.on(f"{BASE}/{unit}/state") for unit in UNITS), LIMIT, "states")
        messages = list(site.recorder.messages)
        for message in messages:
            if message.topic in expected:
                assert complaints(message.topic, message.payload) == []
        order = [m.topic for m in messages]
        first_announced = min(order.index(topic) for topic in expected)
        assert max(order.index(topic) for topic in availability) < first_announced
        assert order.index(f"{DEVICE}/sb/config") == first_announced  # the parent first
        assert_young([one for device in ("one", "two") for one in site.seen(device, since=asked)], MAX_AGE)


def test_a12_a_flood_of_birth_messages_floods_nobody(tmp_path: Path) -> None:
    with house(tmp_path, {"one": {}}, prelude=QUICK) as site:
        site.recorder.wait(f"{DEVICE}/sb_one/config", seconds=20)
        site.recorder.forget()
        for _ in range(300):
            site.recorder.client.publish("homeassistant/status", b"online")
            time.sleep(0.01)
        site.recorder.wait(f"{DEVICE}/sb_one/config", seconds=20)
        time.sleep(3)
        assert len(site.recorder.on(f"{DEVICE}/sb_one/config")) <= 3
        assert site.seen("one")


def test_a12_other_topics_and_payloads_as_configured(tmp_path: Path) -> None:
    with house(tmp_path, {"one": {}}, prelude=QUICK) as site:
        site.recorder.wait(f"{DEVICE}/sb_one/config", seconds=20)
        site.bridge.stop()
        other = '"homeassistant": {"prefix": "ha/x", "birth_topic": "ha/birth", "birth_payload": "here"}'
        site.bridge.config = site.bridge.config[:-1] + f", {other}}}"
        site.bridge.start()
        site.recorder.wait("ha/x/device/sb_one/config", seconds=20)
        time.sleep(6)
        site.recorder.forget()
        site.recorder.client.publish("ha/birth", b"here")
        site.recorder.wait("ha/x/device/sb_one/config", seconds=LIMIT)


def test_without_discovery_nothing_is_announced(tmp_path: Path) -> None:
    with house(tmp_path, {"one": {}}, prelude=QUICK) as site:
        site.recorder.wait(f"{DEVICE}/sb_one/config", seconds=20)
        site.bridge.stop()
        site.bridge.config = site.bridge.config[:-1] + ', "homeassistant": {"discovery": false}}'
        site.recorder.forget()
        site.bridge.start()
        site.await_up()
        time.sleep(4)
        assert not [m for m in site.recorder.messages if m.topic.startswith("homeassistant")]
