"""lxp-bridge's namespace at a real mosquitto: topics, results, entities, its LWT, and another program in it."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from bridge.config import Mqtt
from bridge.fields import Channel, Reading, Unit
from bridge.inbox import CAPACITY, Foreign, Inbox, Refresh
from bridge.lxp_bridge import LxpBridge
from bridge.sinks import lxp_bridge
from bridge.sinks.lxp_bridge import LxpBridgeSink, Served
from bridge.sinks.mqtt import MqttSink
from tests.harness import Bridge, Mosquitto, Recorder, await_true
from tests.luxpower.rig import DATALOG, SERIAL, Site, eager, short

__all__ = ["short"]

GRACE = 0.3
NOBODY = Unit("", "house", (), 60.0)


class Place(Site):
    """A device on a simulated stick, the main sink and the namespace's, each in its thread."""

    def __init__(
        self, mosquitto: Mosquitto, stick: Any, folder: Path | None = None, *, protocol: Any = 5, **options: Any
    ) -> None:
        super().__init__(stick, folder, **{"compat": "lxp-bridge"} | options)
        config = Mqtt(host="127.0.0.1", port=mosquitto.port, base_topic="b", protocol=protocol)
        inbox = self.publisher.inbox
        served = Served(inbox, self.options.lxp_bridge or LxpBridge(), self.options.datalogger)
        self.space = LxpBridgeSink(config, {"house": served}, lambda: self.main.broker.connected)
        self.main = MqttSink(config, {"house": inbox}, {self.space.lwt_topic: self.space.heard}, ["lxp"])
        self.publisher._sinks = self.publisher.presence._sinks = [self.sink, self.main, self.space]
        self._brokers = [threading.Thread(target=s.broker.run) for s in (self.main, self.space)]

    def __enter__(self) -> Place:
        for thread in self._brokers:
            thread.start()
        super().__enter__()
        return self

    def __exit__(self, *args: object) -> None:
        super().__exit__(*args)
        self.space.close(2)
        self.main.close(2)
        for thread in self._brokers:
            thread.join(5)
            assert not thread.is_alive()


@pytest.fixture
def broker(tmp_path: Path, short: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mosquitto]:
    monkeypatch.setattr(lxp_bridge, "GRACE", GRACE)
    with Mosquitto(tmp_path / "broker") as mosquitto:
        yield mosquitto


@pytest.fixture
def recorder(broker: Mosquitto) -> Iterator[Recorder]:
    with Recorder(broker.port) as one:
        yield one


def say(recorder: Recorder, topic: str, payload: str, retain: bool = False) -> None:
    recorder.client.publish(topic, payload, 1, retain).wait_for_publish(5)


def kept(broker: Mosquitto, *topics: str) -> dict[str, bytes]:
    """Return what the broker keeps on these topics."""
    with Recorder(broker.port, *topics, "probe") as other:
        other.client.publish("probe", b"", 1)  # behind all that is kept
        other.wait("probe")
        return {m.topic: m.payload for m in other.messages if m.retained}


# -- what is told


def test_its_topics_are_there_with_its_retain_flags_and_its_time(broker: Mosquitto, recorder: Recorder) -> None:
    with eager(model="acs") as stick, Place(broker, stick) as place:
        began = int(time.time())
        message = recorder.wait(f"lxp/{DATALOG}/inputs/1")
        values = json.loads(message.payload)
        assert values["datalog"] == DATALOG
        assert began <= values["time"] <= int(time.time())
        everything = json.loads(recorder.wait(f"lxp/{DATALOG}/inputs/all").payload)
        assert everything["soc"] == values["soc"]
        assert recorder.wait(f"lxp/{DATALOG}/input/0/parsed").payload.decode() in (
            place.states()[-1].values["status"], place.states()[0].values["status"],
        )  # fmt: skip
        recorder.wait(f"lxp/{DATALOG}/forced_discharge/3")
        recorder.wait_payload(f"lxp/{DATALOG}/hold/64", str(stick.inverters[0].holds[64]).encode())
        retained = kept(broker, "lxp/#")
        assert retained["lxp/LWT"] == b"online"
        assert set(json.loads(retained[f"lxp/{DATALOG}/ac_charge/1"])) == {"start", "end"}
        assert json.loads(retained[f"lxp/{DATALOG}/hold/21/bits"])["eps_en"] in ("ON", "OFF")
        assert not [topic for topic in retained if "/input" in topic], "a measurement that was kept would grow old"
        recorder.wait("b/house/state")  # our own scheme goes on beside it
        assert not recorder.on("inputs/1")


def test_its_entities_keep_their_topics_and_unique_ids(broker: Mosquitto, recorder: Recorder) -> None:
    with eager(model="acs") as stick, Place(broker, stick):
        recorder.wait(f"homeassistant/number/lxp_{DATALOG}/AcChargePowerCmd/config")
        recorder.wait(f"homeassistant/text/lxp_{DATALOG}/ac_first_3/config")
        found = {topic: json.loads(payload) for topic, payload in kept(broker, "homeassistant/#").items()}
    by_kind = [topic.split("/")[1] for topic in found]
    assert {kind: by_kind.count(kind) for kind in by_kind} == {"sensor": 74, "switch": 3, "number": 11, "text": 12}
    ids = {topic.split("/")[1] + " " + topic.split("/")[3]: entity["unique_id"] for topic, entity in found.items()}
    assert len(set(ids.values())) == 100
    assert ids["sensor soc"] == f"lxp_{DATALOG}_soc"
    assert ids["sensor fault_code"] == f"lxp_{DATALOG}_fault_code"
    assert ids["switch ac_charge"] == f"lxp_{DATALOG}_ac_charge"
    assert ids["number DischgCutOffSocEod"] == f"lxp_{DATALOG}_number_DischgCutOffSocEod"
    assert ids["text ac_first_3"] == f"lxp_{DATALOG}_text_ac_first/3"
    for entity in found.values():
        assert entity["device"]["identifiers"] == [f"lxp_{DATALOG}"]
        assert {one["topic"] for one in entity["availability"]} == {"lxp/LWT", "b/house/availability"}
        assert entity["availability_mode"] == "all"
        assert entity["name"]
    power = found[f"homeassistant/sensor/lxp_{DATALOG}/p_pv/config"]
    assert (power["unit_of_measurement"], power["device_class"], power["state_class"]) == ("W", "power", "measurement")
    assert power["state_topic"] == f"lxp/{DATALOG}/inputs/all"
    status = found[f"homeassistant/sensor/lxp_{DATALOG}/status/config"]
    assert status["state_topic"] == f"lxp/{DATALOG}/input/0/parsed"
    number = found[f"homeassistant/number/lxp_{DATALOG}/ChargePowerPercentCmd/config"]
    assert (number["state_topic"], number["command_topic"]) == (
        f"lxp/{DATALOG}/hold/64", f"lxp/cmd/{DATALOG}/set/hold/64",
    )  # fmt: skip


def test_a_number_in_percent_is_taken_back_where_the_model_counts_100_watts(
    broker: Mosquitto, recorder: Recorder
) -> None:
    topic = f"homeassistant/number/lxp_{DATALOG}/AcChargePowerCmd/config"
    say(recorder, topic, '{"unit_of_measurement":"%"}', retain=True)
    with eager(model="lxp12k") as stick, Place(broker, stick):
        recorder.wait_payload(topic, b"")
        assert topic not in kept(broker, "homeassistant/#")
        recorder.wait(f"homeassistant/number/lxp_{DATALOG}/AcChargeSocLimit/config")


def test_without_discovery_no_entity_is_announced(broker: Mosquitto, recorder: Recorder) -> None:
    with eager(model="acs") as stick, Place(broker, stick, lxp_bridge=LxpBridge(discovery=False, namespace="lxp")):
        recorder.wait(f"lxp/{DATALOG}/hold/64")
    assert not [m for m in recorder.messages if m.topic.startswith("homeassistant")]


# -- what is taken


def result(recorder: Recorder, path: str) -> bytes:
    return recorder.wait(f"lxp/result/{DATALOG}/{path}").payload


def test_a_reading_is_answered_and_told_on_its_topic(broker: Mosquitto, recorder: Recorder) -> None:
    with eager(model="acs") as stick, Place(broker, stick):
        recorder.wait(f"lxp/{DATALOG}/hold/64")
        await_true(lambda: len(recorder.on(f"lxp/{DATALOG}/ac_first/3")) > 0, 10, "all settings")
        recorder.forget()
        say(recorder, f"lxp/cmd/{DATALOG}/read/hold/64", "2")
        assert result(recorder, "read/hold/64") == b"OK"
        recorder.wait(f"lxp/{DATALOG}/hold/65")
        say(recorder, f"lxp/cmd/{DATALOG}/read/input/4", "")
        recorder.wait(f"lxp/{DATALOG}/input/4")
        say(recorder, "lxp/cmd/all/read/ac_charge/1", "")
        assert result(recorder, "read/ac_charge/1") == b"OK"
        recorder.wait(f"lxp/{DATALOG}/ac_charge/1")
        say(recorder, f"lxp/cmd/{DATALOG}/read/param/0", "")
        assert result(recorder, "read/param/0") == b"OK"
        recorder.wait_payload(f"lxp/{DATALOG}/param/0", b"3600")
        say(recorder, f"lxp/cmd/{DATALOG}/read/inputs/1", "")
        assert result(recorder, "read/inputs/1") == b"OK"


def test_what_is_refused_is_fail_there_and_a_reason_on_our_own_topic(broker: Mosquitto, recorder: Recorder) -> None:
    with eager(model="acs") as stick, Place(broker, stick):
        recorder.wait(f"lxp/{DATALOG}/hold/64")
        for path in ("set/hold/64", "set/ac_charge", "set/ac_charge/1", "set/param/0", "read/hold/x", "read/param/6"):
            say(recorder, f"lxp/cmd/{DATALOG}/{path}", "1")
            assert result(recorder, path) == b"FAIL"
        reasons = [json.loads(m.payload)["reason"] for m in recorder.on("b/house/result")]
        assert len(reasons) == 6
        assert all(reasons)
        assert not stick.writes


@pytest.mark.parametrize(("path", "payload", "register", "topic", "told"), [
    ("set/charge_rate_pct", "42", 64, "hold/64", b"42"),
    ("set/hold/64", "43", 64, "hold/64", b"43"),
    ("set/hold/66", "44", 66, "hold/66", b"44"),
    ("set/ac_charge/2", '{"start":"1:30","end":"05:00"}', 70, "ac_charge/2", b'{"start":"01:30","end":"05:00"}'),
])  # fmt: skip
def test_a_setting_is_written_proven_and_told(
    broker: Mosquitto, recorder: Recorder, tmp_path: Path,
    path: str, payload: str, register: int, topic: str, told: bytes,
) -> None:  # fmt: skip
    with eager(model="acs") as stick, Place(broker, stick, tmp_path, writes=True):
        recorder.wait(f"lxp/{DATALOG}/ac_first/3")
        before = stick.inverters[0].holds[register]
        say(recorder, f"lxp/cmd/{DATALOG}/{path}", payload)
        assert result(recorder, path) == b"OK", recorder.on("b/house/result")[-1].payload
        assert stick.inverters[0].holds[register] != before
        recorder.wait_payload(f"lxp/{DATALOG}/{topic}", told)
        audited = json.loads(recorder.wait("b/house/result").payload)
        assert audited["outcome"] == "done"
        assert audited["source"].startswith(f"lxp/cmd/{DATALOG}/{path}")


def test_a_switch_is_switched_by_its_words_and_nothing_else(
    broker: Mosquitto, recorder: Recorder, tmp_path: Path
) -> None:
    with eager(model="acs") as stick, Place(broker, stick, tmp_path, writes=True):
        recorder.wait(f"lxp/{DATALOG}/ac_first/3")
        stick.inverters[0].holds[21] = before = stick.inverters[0].holds[21] & ~(1 << 7)
        say(recorder, f"lxp/cmd/{DATALOG}/set/ac_charge", "Yes")
        assert result(recorder, "set/ac_charge") == b"OK", recorder.on("b/house/result")[-1].payload
        assert stick.inverters[0].holds[21] == before | 1 << 7
        recorder.wait(f"lxp/{DATALOG}/hold/21/bits", lambda m: json.loads(m.payload)["ac_charge_en"] == "ON")
        recorder.forget()
        say(recorder, f"lxp/cmd/{DATALOG}/set/ac_charge", "onn")
        assert result(recorder, "set/ac_charge") == b"FAIL"
        assert stick.inverters[0].holds[21] == before | 1 << 7, "lxp-bridge would have switched it off"


def test_a_write_by_number_needs_its_own_word_in_the_configuration(
    broker: Mosquitto, recorder: Recorder, tmp_path: Path
) -> None:
    with eager(model="acs") as stick, Place(broker, stick, tmp_path, writes=True):
        recorder.wait(f"lxp/{DATALOG}/ac_first/3")
        say(recorder, f"lxp/cmd/{DATALOG}/set/hold/116", "100")
        assert result(recorder, "set/hold/116") == b"FAIL"
        assert not stick.writes


def test_a_retained_command_is_not_carried_out(broker: Mosquitto, recorder: Recorder) -> None:
    say(recorder, f"lxp/cmd/{DATALOG}/read/hold/64", "1", retain=True)
    with eager(model="acs") as stick, Place(broker, stick, datalogger=DATALOG):
        recorder.wait_payload("lxp/LWT", b"online")
        say(recorder, f"lxp/cmd/{DATALOG}/read/hold/65", "1")
        assert result(recorder, "read/hold/65") == b"OK"
        assert not recorder.on(f"lxp/result/{DATALOG}/read/hold/64")


def alone(devices: dict[str, Served]) -> LxpBridgeSink:
    return LxpBridgeSink(Mqtt(host="127.0.0.1", base_topic="b"), devices, lambda: False)


def answers(sink: LxpBridgeSink) -> list[tuple[str, bytes]]:
    found = []
    while (message := sink.broker._outbox.next(0.0)) is not None:
        if "/result/" in message.topic:
            found.append((message.topic, message.payload))
    return found


def arrived(topic: str, payload: bytes = b"1") -> Any:
    from bridge.sinks.session import Arrived

    return Arrived(topic, payload, retained=False)


def test_a_command_to_all_gives_one_result_for_each_inverter() -> None:
    inboxes = {"one": Inbox(), "two": Inbox()}
    devices = {name: Served(inbox, LxpBridge(), f"BA0000000{n}") for n, (name, inbox) in enumerate(inboxes.items())}
    sink = alone(devices)
    sink._on_message(arrived("lxp/cmd/all/set/ac_charge"))
    for name, outcome in (("one", "done"), ("two", "failed")):
        command = inboxes[name].take()
        assert isinstance(command, Foreign)
        assert command.path == "set/ac_charge"
        sink.take(name, Reading(NOBODY, {"outcome": outcome}, 0.0, channel=Channel.RESULT, tag=command.tag))
    assert answers(sink) == [
        ("lxp/result/BA00000000/set/ac_charge", b"OK"), ("lxp/result/BA00000001/set/ac_charge", b"FAIL"),
    ]  # fmt: skip


@pytest.mark.parametrize(("outcome", "text"), [
    ("done", b"OK"), ("unchanged", b"OK"), ("refused", b"FAIL"), ("failed", b"FAIL"), ("unknown", b"FAIL"),
])  # fmt: skip
def test_only_what_was_proven_is_ok(outcome: str, text: bytes) -> None:
    inbox = Inbox()
    sink = alone({"one": Served(inbox, LxpBridge(), DATALOG)})
    sink._on_message(arrived(f"lxp/cmd/{DATALOG}/set/hold/64"))
    command = inbox.take()
    assert isinstance(command, Foreign)
    sink.take("one", Reading(NOBODY, {"outcome": outcome}, 0.0, channel=Channel.RESULT, tag=command.tag))
    assert answers(sink) == [(f"lxp/result/{DATALOG}/set/hold/64", text)]


def test_a_result_is_told_in_its_own_namespace_and_in_no_other() -> None:
    inbox = Inbox()
    house = alone({"one": Served(inbox, LxpBridge(), DATALOG)})
    attic = alone({"two": Served(Inbox(), LxpBridge(namespace="attic"), "BA00000002")})
    house._on_message(arrived(f"lxp/cmd/{DATALOG}/set/hold/64"))
    command = inbox.take()
    assert isinstance(command, Foreign)
    for sink in (house, attic):  # each is given the readings of all devices
        sink.take("one", Reading(NOBODY, {"outcome": "done"}, 0.0, channel=Channel.RESULT, tag=command.tag))
    assert (len(answers(house)), answers(attic)) == (1, [])


def test_a_flood_is_answered_fail_and_kept_out() -> None:
    inbox = Inbox()
    sink = alone({"one": Served(inbox, LxpBridge(), DATALOG)})
    for _ in range(CAPACITY):
        inbox.put(Refresh())
    sink._on_message(arrived(f"lxp/cmd/{DATALOG}/set/hold/64"))
    assert answers(sink) == [(f"lxp/result/{DATALOG}/set/hold/64", b"FAIL")]


def test_e6_a_command_from_a_flood_may_be_old_and_is_answered_fail() -> None:
    inbox = Inbox()
    sink = alone({"one": Served(inbox, LxpBridge(), DATALOG)})
    sink.broker.flooded = True
    sink._on_message(arrived(f"lxp/cmd/{DATALOG}/set/ac_charge", b"on"))
    assert inbox.take() is None
    assert answers(sink) == [(f"lxp/result/{DATALOG}/set/ac_charge", b"FAIL")]
    sink.broker.flooded = False
    sink._on_message(arrived(f"lxp/cmd/{DATALOG}/set/ac_charge", b"on"))
    assert isinstance(inbox.take(), Foreign)


def test_a_command_for_another_stick_reaches_nobody() -> None:
    inbox = Inbox()
    sink = alone({"one": Served(inbox, LxpBridge(), DATALOG)})
    sink._on_message(arrived("lxp/cmd/BA99999999/set/hold/64"))
    assert inbox.take() is None
    assert answers(sink) == []


@pytest.mark.parametrize("target", [DATALOG, "all"])
def test_e3_a_command_with_a_topic_too_long_for_its_result_is_not_taken(target: str) -> None:
    inbox = Inbox()
    sink = alone({"one": Served(inbox, LxpBridge(), DATALOG)})
    head = f"lxp/cmd/{target}/"
    sink._on_message(arrived(head + "x" * (65_535 - len(head))))
    assert inbox.take() is None
    assert answers(sink) == []
    sink._on_message(arrived(f"lxp/cmd/{DATALOG}/set/discharge_cutoff_soc_limit_pct"))
    assert isinstance(inbox.take(), Foreign)


# -- who is in the namespace


@pytest.mark.parametrize("protocol", [5, "3.1.1"])
def test_nothing_is_published_while_another_is_online_and_all_once_it_has_gone(
    broker: Mosquitto, recorder: Recorder, protocol: Any, caplog: pytest.LogCaptureFixture
) -> None:
    say(recorder, "lxp/LWT", "online", retain=True)
    recorder.forget()
    with eager(model="acs") as stick, Place(broker, stick, protocol=protocol) as place:
        await_true(lambda: "another program is online" in caplog.text, 10, "a loud word")
        place.await_more(2)
        time.sleep(2 * GRACE)  # in which it would have begun
        say(recorder, f"lxp/cmd/{DATALOG}/read/hold/64", "1")
        assert place.space.state == "another program is online there"
        recorder.wait("b/house/state")
        recorder.wait(f"lxp/cmd/{DATALOG}/read/hold/64")
        ours = [m.topic for m in recorder.messages if m.topic.startswith(("lxp/", "homeassistant/"))]
        assert ours == [f"lxp/cmd/{DATALOG}/read/hold/64"]
        say(recorder, "lxp/LWT", "offline", retain=True)
        recorder.wait_payload("lxp/LWT", b"online")
        recorder.wait(f"lxp/{DATALOG}/inputs/1")
        recorder.wait(f"lxp/{DATALOG}/hold/64")
        assert place.space.state == "online"
        recorder.forget()
    recorder.wait_payload("lxp/LWT", b"offline")


def test_one_that_comes_later_gets_the_namespace(broker: Mosquitto, recorder: Recorder) -> None:
    with eager(model="acs") as stick, Place(broker, stick) as place:
        recorder.wait(f"lxp/{DATALOG}/inputs/1")
        say(recorder, "lxp/LWT", "online", retain=True)
        await_true(lambda: not place.space.broker.connected, 10, "we give way")
        say(recorder, "probe", "")
        recorder.wait("probe")  # behind what was under way
        recorder.forget()
        place.await_more(2)
        assert not [m for m in recorder.messages if m.topic.startswith("lxp/")], "no offline over its online either"
        say(recorder, "lxp/LWT", "", retain=True)
        recorder.wait(f"lxp/{DATALOG}/inputs/1")
        recorder.wait_payload("lxp/LWT", b"online")
        assert kept(broker, "lxp/LWT") == {"lxp/LWT": b"online"}


def test_an_offline_that_is_not_ours_is_corrected(broker: Mosquitto, recorder: Recorder) -> None:
    with eager(model="acs") as stick, Place(broker, stick):
        recorder.wait_payload("lxp/LWT", b"online")
        recorder.wait(f"lxp/{DATALOG}/inputs/1")
        recorder.forget()
        say(recorder, "lxp/LWT", "offline", retain=True)
        recorder.wait_payload("lxp/LWT", b"online")


def test_the_last_word_on_the_lwt_is_ours_whatever_was_said_in_between(broker: Mosquitto, recorder: Recorder) -> None:
    with eager(model="acs") as stick, Place(broker, stick) as place:
        recorder.wait_payload("lxp/LWT", b"online")
        recorder.wait(f"lxp/{DATALOG}/inputs/1")
        say(recorder, "lxp/LWT", "offline", retain=True)
        await_true(lambda: kept(broker, "lxp/LWT") == {"lxp/LWT": b"online"}, 3, "corrected at once")
        say(recorder, "lxp/LWT", "neither", retain=True)
        recorder.wait_payload("lxp/LWT", b"neither")

        def righted() -> bool:
            place.space.put_right()  # as the supervisor does every second
            return kept(broker, "lxp/LWT") == {"lxp/LWT": b"online"}

        await_true(righted, 5, "corrected a second later")

def test_our_own_online_from_before_a_power_cut_keeps_nobody_out(broker: Mosquitto, recorder: Recorder) -> None:
    with eager(model="acs") as stick:
        with Place(broker, stick) as place:
            recorder.wait_payload("lxp/LWT", b"online")
            mark = place.space._me
        client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        properties = paho.Properties(paho.PacketTypes.PUBLISH)
        properties.UserProperty = [("by", mark)]
        client.publish("lxp/LWT", "online", 1, True, properties).wait_for_publish(5)
        client.disconnect()
        client.loop_stop()
        recorder.forget()
        with Place(broker, stick):
            recorder.wait(f"lxp/{DATALOG}/inputs/1")


CONFIG = """
mqtt: {{host: 127.0.0.1, port: {port}, base_topic: b}}
devices:
  - {{name: house, type: lxp, host: 127.0.0.1, port: {stick}, datalogger: {datalog}, inverter: "{serial}",
      compat: lxp-bridge, lxp_bridge: {{namespace: attic/lxp}}}}
"""


def test_a_killed_bridge_goes_offline_there_and_comes_back(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker") as broker, Recorder(broker.port) as recorder, eager() as stick:
        config = CONFIG.format(
            port=broker.port, stick=stick.port.rpartition(":")[2], datalog=DATALOG, serial=SERIAL
        )  # fmt: skip
        with Bridge(tmp_path / "bridge", config) as bridge:
            recorder.wait(f"attic/lxp/{DATALOG}/inputs/all", seconds=20)
            recorder.wait("b/health", lambda m: "attic/lxp" in json.loads(m.payload)["lxp_bridge"])
            bridge.send(signal.SIGKILL)
            recorder.wait_payload("attic/lxp/LWT", b"offline")
            assert bridge.process is not None
            bridge.process.wait(5)
            recorder.forget()
            bridge.start()
            recorder.wait_payload("attic/lxp/LWT", b"online", 20)
            assert bridge.stop() == 0
            recorder.wait_payload("attic/lxp/LWT", b"offline")
