"""When device messages are sent: at a real mosquitto, in rounds by a clock of the test's own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge.bank_options import Bank as BankOptions
from bridge.config import Mqtt
from bridge.fields import PERCENT, SOC, VOLTAGE, Channel, Field, Reading, Unit
from bridge.inbox import Inbox
from bridge.keeper import Keeper, Watch
from bridge.settings import Risk, Setting, whole
from bridge.sinks import discovery as subject
from bridge.sinks.discovery import SAVE_AGAIN, SETTLED, SPACING, VANISHED, Discovery
from bridge.sinks.homeassistant import Site
from bridge.sinks.mqtt import MqttSink
from bridge.sinks.session import Arrived
from bridge.statefile import StateFile
from bridge.transports.base import Stop
from bridge.voltronic.settings import steps
from tests.harness import Mosquitto, Recorder, await_true
from tests.sinks.ha_rules import complaints, expanded

CHARGE = Field("soc", SOC, "State of charge")
VOLTS = Field("voltage", VOLTAGE, "Voltage")
LIMIT = Setting("limit", PERCENT, "Limit", spelling=whole(0, 100), risk=Risk.HARMLESS)
ROOT = Unit("", "roof", (CHARGE,), 60.0, serial="S1", manufacturer="Maker")
MODULE = Unit("P1", "roof P1", (CHARGE,), 60.0, serial="P1", manufacturer="Maker")
PREFIX = "homeassistant/device"


class Clock:
    """The time as the subject sees it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Home:
    """A sink at a broker with its discovery, whose rounds the test makes."""

    def __init__(self, mosquitto: Mosquitto, recorder: Recorder, folder: Path, clock: Clock) -> None:
        self.mosquitto = mosquitto
        self.recorder = recorder
        self.clock = clock
        self.file = StateFile(folder / "state" / "homeassistant.json")
        self.start()

    def start(self, **options: Any) -> None:
        self.discovery = Discovery(Site("b", "1"), self.file, energies=lambda *_: ())
        config = Mqtt(host="127.0.0.1", port=self.mosquitto.port, base_topic="b", **options)
        watched = {"homeassistant/status": self.discovery.birth, "b/discovery": self.discovery.asked}
        self.sink = MqttSink(config, {"roof": Inbox()}, watched)
        self.sink.on_forgotten.append(self.discovery.forget)
        self.discovery.attach(self.sink)
        self.thread = threading.Thread(target=self.sink.broker.run)
        self.thread.start()
        await_true(lambda: self.sink.broker.connected, 10, "connected")
        self.go(2)

    def stop(self) -> None:
        self.sink.close(2)
        self.thread.join(5)
        assert not self.thread.is_alive()

    def tell(self, unit: Unit, device: str = "roof") -> None:
        """Let a unit give a reading."""
        reading = Reading(unit, {item.key: 1 for item in unit.fields}, self.clock.now)
        self.discovery.take(device, reading)
        self.discovery.presence(device, unit, True)

    def go(self, seconds: float) -> None:
        """Let time pass in rounds of a second."""
        for _ in range(round(seconds)):
            self.clock.now += 1.0
            self.discovery.round()

    def sent(self, identity: str) -> list[bytes]:
        """Return every message for a device so far; what was sent before has arrived by then."""
        mark = str(len(self.recorder.messages)) + identity
        self.sink.announce("probe", mark.encode())
        self.recorder.wait_payload("probe", mark.encode())
        return [m.payload for m in self.recorder.on(f"{PREFIX}/{identity}/config") if not m.retained]

    def last(self, identity: str) -> dict[str, Any]:
        return expanded(self.sent(identity)[-1])

    def message(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self.recorder.client.publish(topic, payload, 1, retain).wait_for_publish(5)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    clock = Clock()
    monkeypatch.setattr(subject, "time", clock)
    monkeypatch.setattr(subject, "_random", lambda _: 0.0)
    with Mosquitto(tmp_path / "broker") as mosquitto, Recorder(mosquitto.port) as recorder:
        one = Home(mosquitto, recorder, tmp_path, clock)
        yield one
        one.stop()


def test_a_module_and_a_device_whose_names_meet_are_two_devices(home: Home) -> None:
    def announced() -> dict[str, str]:
        home.sent("any")
        found = {m.topic: json.loads(m.payload) for m in home.recorder.messages if m.topic.startswith(PREFIX)}
        return {topic: told["avty"][1]["t"] for topic, told in found.items() if "avty" in told}

    units = [(Unit("", "garage", (CHARGE,), 60.0), "garage"), (Unit("2", "garage 2", (CHARGE,), 60.0), "garage"),
             (Unit("", "garage_2", (CHARGE,), 60.0), "garage_2")]  # fmt: skip
    for unit, device in units:
        home.tell(unit, device)
    home.go(SETTLED + 3)
    first = announced()
    assert set(first.values()) == {f"b/{name}/availability" for name in ("garage", "garage/2", "garage_2")}
    home.stop()
    home.start()
    for unit, device in reversed(units):
        home.tell(unit, device)
    home.go(SETTLED + 3)
    assert announced() == first, "who is who is kept"


def test_a_bank_has_no_button_that_nobody_listens_to(home: Home) -> None:
    bank = Keeper(BankOptions(name="bank", from_=("roof",)), True, Watch("battery/data"), home.sink, [], Stop())
    home.tell(ROOT)
    home.tell(bank._unit, "bank")
    home.go(SETTLED + 3)
    assert "button_refresh" in home.last("maker_S1")["components"]
    assert "button_refresh" not in home.last("b_bank")["components"]


def test_a_unit_is_announced_once_it_is_settled_and_the_parent_first(home: Home) -> None:
    home.tell(MODULE)
    home.go(5)
    home.tell(ROOT)
    home.go(SETTLED - 2)
    assert home.sent("maker_S1") == []
    home.go(3)
    home.recorder.wait(f"{PREFIX}/maker_P1/config", lambda _: True, 10)
    topics = [m.topic for m in home.recorder.messages if m.topic.startswith(PREFIX)]
    assert topics == [f"{PREFIX}/{name}/config" for name in ("b", "maker_S1", "maker_P1")]
    for topic in topics:
        assert complaints(topic, home.recorder.on(topic)[-1].payload) == []
    assert home.last("maker_P1")["device"]["via_device"] == "maker_S1"
    assert home.last("maker_S1")["device"]["via_device"] == "b"


def test_messages_are_retained_and_not_kept_in_memory(home: Home) -> None:
    home.tell(ROOT)
    home.go(SETTLED + 2)
    home.sent("maker_S1")
    with Recorder(home.mosquitto.port, f"{PREFIX}/#") as other:
        other.wait(f"{PREFIX}/maker_S1/config")
    assert home.sink.broker.retained_state(f"{PREFIX}/maker_S1/config") is None


def test_nothing_is_sent_again_while_nothing_is_news(home: Home) -> None:
    for _ in range(3):
        home.tell(ROOT)
        home.go(30)
    assert len(home.sent("maker_S1")) == 1


def test_a_unit_that_grows_is_announced_anew_after_a_while_of_quiet(home: Home) -> None:
    home.tell(ROOT)
    home.go(SETTLED + 2)
    home.tell(ROOT._replace(fields=(CHARGE, VOLTS)))
    home.go(SETTLED - 2)
    assert len(home.sent("maker_S1")) == 1
    home.go(4)
    assert {"sensor_soc", "sensor_voltage"} <= home.last("maker_S1")["components"].keys()
    assert len(home.sent("maker_S1")) == 2


@pytest.mark.parametrize("while_in", ["message", "announce"])
def test_what_is_learned_while_the_message_is_made_is_announced_next(
    home: Home, monkeypatch: pytest.MonkeyPatch, while_in: str
) -> None:
    at = (subject.ha, "message") if while_in == "message" else (home.sink, "announce")
    made = getattr(*at)

    def learn_meanwhile(*arguments: Any) -> Any:
        result = made(*arguments)
        if "roof" in str(arguments):
            monkeypatch.setattr(*at, made)
            device = threading.Thread(target=home.tell, args=(ROOT._replace(fields=(CHARGE, VOLTS)),))
            device.start()
            device.join()
        return result

    monkeypatch.setattr(*at, learn_meanwhile)
    home.tell(ROOT)
    home.go(SETTLED + 1)
    assert "sensor_voltage" not in home.last("maker_S1")["components"]
    home.go(SETTLED + SPACING)
    assert "sensor_voltage" in home.last("maker_S1")["components"]
    assert len(home.sent("maker_S1")) == 2


def test_another_serial_number_that_is_told_while_the_message_is_made_is_another_device(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = subject.ha.message

    def swap_meanwhile(site: Site, device: Any, components: Any) -> bytes:
        if device.serial == "S1":
            home.tell(ROOT._replace(serial="S2"))
        return made(site, device, components)

    monkeypatch.setattr(subject.ha, "message", swap_meanwhile)
    home.tell(ROOT)
    home.go(2 * SETTLED + SPACING)
    assert home.sent("maker_S1")[-1] == b""
    assert home.last("maker_S2")["device"]["serial_number"] == "S2"


def test_a_unit_that_never_stops_growing_is_announced_all_the_same(home: Home) -> None:
    for number in range(70):
        fields = tuple(Field(f"v{n}", VOLTAGE, f"V{n}") for n in range(number + 1))
        home.tell(ROOT._replace(fields=fields))
        home.go(1)
    assert len(home.sent("maker_S1")) == 1


def test_two_messages_of_a_device_keep_their_distance(home: Home) -> None:
    home.tell(ROOT)
    home.go(SETTLED + 1)
    assert len(home.sent("maker_S1")) == 1
    for _ in range(3):
        home.message("b/discovery", b"press")
        home.message("homeassistant/status", b"online")
        await_true(lambda: home.discovery._again_at < float("inf"), 5, "the wish has arrived")
        home.go(1)
    assert len(home.sent("maker_S1")) == 1
    home.go(SPACING)
    assert len(home.sent("maker_S1")) == 2


def test_a12_a_birth_message_brings_availability_then_discovery_then_states(home: Home) -> None:
    home.tell(ROOT)
    home.sink.presence("roof", ROOT, True)
    home.sink.take("roof", Reading(ROOT, {"soc": 50}, subject_time()))
    home.go(SETTLED + 2 + SPACING)
    home.sent("maker_S1")
    home.recorder.forget()
    home.message("homeassistant/status", b"online")
    home.recorder.wait("homeassistant/status")
    await_true(lambda: home.discovery._again_at < float("inf"), 5, "the birth message has arrived")
    home.go(1)
    home.go(6)
    state = home.recorder.wait("b/roof/state")
    seen = [m.topic for m in home.recorder.messages]
    order = ["b/roof/availability", "b/status", f"{PREFIX}/b/config", f"{PREFIX}/maker_S1/config", "b/roof/state"]
    assert [topic for topic in seen if topic in order] == order
    assert json.loads(state.payload)["soc"] == 50


def subject_time() -> float:
    """Return the real time of now: the sink itself lives by it."""
    import time

    return time.monotonic()


def test_a_state_that_is_not_retained_is_sent_again_too(home: Home) -> None:
    home.stop()
    home.start(retain_states=False)
    home.sink.take("roof", Reading(ROOT, {"soc": 51}, subject_time()))
    home.sink.take("roof", Reading(MODULE, {"soc": 52}, subject_time() - 3600))
    home.recorder.wait("b/roof/state")
    home.recorder.forget()
    home.sink.states_again()
    home.recorder.wait("b/roof/state")
    home.sent("x")
    assert home.recorder.on("b/roof/P1/state") == []  # it is not true any more


def test_a_retained_birth_message_is_an_old_one(home: Home) -> None:
    home.discovery.birth(Arrived("homeassistant/status", b"online", True))
    home.discovery.birth(Arrived("homeassistant/status", b"offline", False))
    home.discovery.asked(Arrived("b/discovery", b"press", True))
    assert home.discovery._again_at == float("inf")


def test_a_new_connection_brings_everything_again(home: Home) -> None:
    home.tell(ROOT)
    home.go(SETTLED + 2)
    assert len(home.sent("maker_S1")) == 1
    home.mosquitto.stop(9)
    await_true(lambda: not home.sink.broker.connected, 10, "the connection ends")
    home.go(10)  # nothing may be sent now
    home.mosquitto.start()
    await_true(lambda: home.sink.broker.connected, 20, "connected again")
    await_true(home.recorder.client.is_connected, 20, "the recorder too")
    home.recorder.forget()
    home.go(2)
    home.recorder.wait(f"{PREFIX}/maker_S1/config")


# -- who is who


def test_a_serial_number_that_comes_later_changes_no_identity(home: Home) -> None:
    home.tell(ROOT._replace(serial=None))
    home.go(SETTLED + 2)
    assert home.last("b_roof")["device"]["identifiers"] == ["b_roof"]
    home.tell(ROOT)
    home.go(SETTLED + 2)
    assert home.last("b_roof")["device"]["serial_number"] == "S1"
    assert home.sent("maker_S1") == []
    home.stop()
    home.start()
    home.tell(ROOT)
    home.go(SETTLED + 2)
    assert home.sent("maker_S1") == []


def test_a_unit_known_by_its_serial_number_waits_for_it(home: Home) -> None:
    home.tell(ROOT)
    home.go(SETTLED + 2)
    home.stop()
    home.start()
    home.recorder.forget()
    for _ in range(20):
        home.tell(ROOT._replace(serial=None))
        home.go(10)
    assert home.sent("b_roof") == home.sent("maker_S1") == []
    home.tell(ROOT)
    home.go(SETTLED + 2)
    assert len(home.sent("maker_S1")) == 1


def test_a_serial_number_that_is_not_known_for_a_moment_is_no_news(home: Home) -> None:
    home.tell(ROOT)
    home.go(SETTLED + 2)
    home.tell(ROOT._replace(serial=None, fields=()))  # the link was opened anew
    home.go(30)
    home.tell(ROOT)
    home.go(30)
    assert len(home.sent("maker_S1")) == 1


def test_another_inverter_in_the_same_place_is_another_device(home: Home) -> None:
    home.tell(ROOT)
    home.go(SETTLED + 2)
    home.tell(ROOT._replace(serial="S2"))
    home.go(SETTLED + 2)
    assert home.sent("maker_S1")[-1] == b""
    assert home.last("maker_S2")["device"]["serial_number"] == "S2"


def test_the_unit_on_the_cable_and_itself_in_its_set_are_two_devices(home: Home) -> None:
    for _ in range(2):
        home.tell(ROOT)
        home.tell(MODULE._replace(path="S1", serial="S1"))
        home.go(SETTLED + 2)
        assert home.last("maker_S1_unit")["device"]["via_device"] == "maker_S1"
        assert home.last("maker_S1")["state_topic"] == "b/roof/state"
        home.stop()
        home.start()


def test_an_inverter_that_becomes_one_of_two_keeps_its_identity(home: Home) -> None:
    home.tell(ROOT)
    home.go(SETTLED + 2)
    home.stop()
    home.start()
    home.tell(MODULE._replace(path="S1", serial="S1"))
    home.tell(ROOT._replace(serial=None))
    home.go(SETTLED + 2)
    assert home.last("maker_S1")["state_topic"] == "b/roof/S1/state"
    assert home.last("b_roof")["state_topic"] == "b/roof/state"
    assert b"" not in home.sent("maker_S1")


def test_one_module_read_over_two_links_is_announced_once_by_its_serial_number(home: Home) -> None:
    home.tell(MODULE)
    home.tell(MODULE, device="cellar")
    home.go(70)
    assert len({m["state_topic"] for m in map(expanded, home.sent("maker_P1"))}) == 1
    assert home.last("b_cellar_P1")["state_topic"] == "b/cellar/P1/state"


# -- what is gone


def test_what_vanished_over_a_restart_is_taken_back_late_and_once(home: Home) -> None:
    home.tell(ROOT._replace(fields=(CHARGE, VOLTS)))
    home.go(SETTLED + 2)
    home.stop()
    home.start()
    home.recorder.forget()
    home.tell(ROOT)
    home.go(SETTLED + 2)
    assert home.sent("maker_S1") == []  # it may come yet
    home.go(VANISHED - 30)
    assert "sensor_voltage" not in home.last("maker_S1")["components"]
    home.go(60)
    *_, taken_back, final = map(expanded, home.sent("maker_S1"))
    assert taken_back["components"]["sensor_voltage"] == {"platform": "sensor"}
    assert "sensor_voltage" not in final["components"]
    count = len(home.sent("maker_S1"))
    home.go(VANISHED * 2)
    assert len(home.sent("maker_S1")) == count


def test_what_comes_late_after_a_restart_is_waited_for(home: Home) -> None:
    both = ROOT._replace(fields=(CHARGE, VOLTS))
    home.tell(both)
    home.go(SETTLED + 2)
    home.stop()
    home.start()
    home.recorder.forget()
    home.tell(ROOT)
    home.go(25)
    home.tell(both)
    home.go(VANISHED * 2)
    assert len(home.sent("maker_S1")) == 1


def test_nothing_vanishes_of_a_unit_that_is_away(home: Home) -> None:
    home.tell(ROOT._replace(fields=(CHARGE, VOLTS)))
    home.go(SETTLED + 2)
    home.stop()
    home.start()
    home.tell(ROOT)
    home.discovery.presence("roof", ROOT, False)
    home.go(VANISHED * 2)
    assert "sensor_voltage" not in home.last("maker_S1")["components"]


def test_controls_become_sensors_when_writing_is_switched_off(home: Home) -> None:
    home.tell(ROOT._replace(settings=(LIMIT,), controls=(LIMIT,)))
    home.go(SETTLED + 2)
    assert home.last("maker_S1")["components"]["number_limit"]["command_topic"] == "b/roof/set/limit"
    home.stop()
    home.start()
    home.tell(ROOT._replace(settings=(LIMIT,)))
    home.go(80)
    swap, final = (one["components"] for one in map(expanded, home.sent("maker_S1")[-2:]))
    assert swap["number_limit"] == {"platform": "number"}
    assert swap["sensor_limit"]["entity_category"] == "diagnostic"
    assert "number_limit" not in final


@pytest.mark.parametrize("restart", [False, True])
def test_a_number_that_becomes_a_choice_leaves_no_number_behind(home: Home, restart: bool) -> None:
    home.tell(ROOT._replace(settings=(LIMIT,), controls=(LIMIT,)))
    home.go(SETTLED + 2)
    before = home.last("maker_S1")["components"]["number_limit"]
    if restart:
        home.stop()
        home.start()
    home.tell(ROOT._replace(settings=(LIMIT,), controls=(replace(LIMIT, spelling=steps("30", "40", "1", "0")),)))
    home.go(80)
    swap, final = (one["components"] for one in map(expanded, home.sent("maker_S1")[-2:]))
    assert swap["number_limit"] == {"platform": "number"}
    assert "number_limit" not in final
    assert final["select_limit"]["unique_id"] == before["unique_id"]
    assert final["select_limit"]["options"] == ["0", *map(str, range(30, 41))]


def test_a_silent_module_is_forgotten_when_its_availability_is_taken_off_the_broker(home: Home) -> None:
    home.tell(ROOT)
    home.tell(MODULE)
    home.sink.presence("roof", MODULE, True)
    home.sink.take("roof", Reading(MODULE, {"soc": 50}, subject_time()))
    home.sink.presence("roof", MODULE, False)
    home.go(SETTLED + 2)
    home.recorder.wait_payload("b/roof/P1/availability", b"offline")
    home.message("b/roof/P1/availability", b"", retain=True)
    await_true(lambda: home.sink.broker.retained_state("b/roof/P1/state") is None, 5, "its state is dropped")
    await_true(lambda: home.discovery._forgotten, 5, "discovery has heard of it")
    home.recorder.forget()
    home.message("b/discovery", b"press")
    await_true(lambda: home.discovery._again_at < float("inf"), 5, "the wish has arrived")
    home.go(20)
    assert len(home.sent("maker_S1")) == 1
    assert home.sent("maker_P1") == []
    home.tell(MODULE)  # it is back after all
    home.go(SETTLED + 2)
    assert len(home.sent("maker_P1")) == 1


def test_a_module_that_lives_is_not_forgotten(home: Home) -> None:
    home.sink.presence("roof", MODULE, True)
    home.recorder.wait_payload("b/roof/P1/availability", b"online")
    home.recorder.forget()
    home.message("b/roof/P1/availability", b"", retain=True)
    home.recorder.wait_payload("b/roof/P1/availability", b"online")


def test_a_configured_device_is_not_forgotten(home: Home) -> None:
    home.message("b/roof/availability", b"", retain=True)
    home.recorder.wait_payload("b/roof/availability", b"")
    home.recorder.wait("b/roof/availability", lambda m: m.payload == b"offline" and not m.retained)


# -- results, and trouble


def test_every_result_brings_the_settings_again(home: Home) -> None:
    unit = ROOT._replace(settings=(LIMIT,))
    home.sink.take("roof", Reading(unit, {"limit": 50}, subject_time(), channel=Channel.SETTINGS))
    first = home.recorder.wait("b/roof/settings").payload
    home.recorder.forget()
    home.discovery.take("roof", Reading(unit, {"outcome": "refused"}, subject_time(), channel=Channel.RESULT))
    assert home.recorder.wait("b/roof/settings").payload == first


def test_without_a_place_to_keep_them_devices_are_announced_all_the_same(home: Home) -> None:
    home.stop()
    blocked = home.file.path.parent.parent / "blocked"
    blocked.write_text("a file where a folder should be")
    home.file = StateFile(blocked / "homeassistant.json")
    home.start()
    home.tell(ROOT)
    home.go(SETTLED + 2)
    assert len(home.sent("maker_S1")) == 1


def test_d4_while_it_cannot_be_read_who_is_who_nothing_is_announced_anew(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    home.tell(ROOT._replace(serial=None))
    home.go(SETTLED + 2)
    home.stop()
    kept, aside = home.file.path.read_bytes(), home.file.path.with_name("aside")
    home.file.path.rename(aside)
    home.file.path.mkdir()  # nothing else is unreadable for root, too
    home.start()
    home.recorder.forget()
    home.tell(ROOT)
    home.go(SETTLED + 2)
    assert home.sent("maker_S1") == home.sent("b_roof") == []
    assert caplog.text.count("homeassistant.json cannot be read (Is a directory)") == 1
    home.file.path.rmdir()
    aside.rename(home.file.path)
    home.go(2)
    assert home.sent("maker_S1") == [], "it is known by its name, and stays so"
    assert len(home.sent("b_roof")) == 1
    assert json.loads(home.file.path.read_bytes())["roof"]["id"] == json.loads(kept)["roof"]["id"]


def test_what_could_not_be_kept_is_tried_again_and_told_once(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    home.stop()
    home.file = Attempts(home.file.path)
    home.start()
    home.go(2)
    folder = home.file.path.parent
    folder.rename(folder.with_name("aside"))
    folder.write_text("a file where the folder should be")
    home.file.attempts = 0
    home.tell(ROOT._replace(serial=None))
    home.go(SETTLED + 2 * SAVE_AGAIN + 5)
    assert home.file.attempts == 3
    assert caplog.text.count("it is not kept who is who") == 1
    folder.unlink()
    home.go(SAVE_AGAIN + 1)
    assert home.file.attempts == 4
    assert caplog.text.count("it is kept again") == 1
    assert len(home.sent("b_roof")) == 1
    home.stop()
    home.start()
    home.tell(ROOT)
    home.go(2 * SETTLED + SPACING)
    assert home.sent("maker_S1") == []  # it is who it was


class Attempts(StateFile):
    """A file that counts how often it is to be written."""

    attempts = 0

    def save(self, content: Any) -> None:
        self.attempts += 1
        super().save(content)


def test_a_damaged_file_is_as_good_as_none(home: Home) -> None:
    home.stop()
    home.file.path.write_text('{"roof": {"id": 5}, "x": null, "y": {"id": "a", "components": "b", "serial": 7}}')
    home.start()
    home.tell(ROOT)
    home.go(SETTLED + 2)
    assert len(home.sent("maker_S1")) == 1
