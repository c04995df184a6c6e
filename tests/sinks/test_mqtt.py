"""The MQTT sink at a real mosquitto: topics, availability that nobody stands for, refresh, strict JSON."""

from __future__ import annotations

import json
import logging
import math
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge.config import Mqtt
from bridge.errors import CommandError
from bridge.fields import COUNT, FLAG, VOLTAGE, Channel, Field, Reading, Unit
from bridge.inbox import CAPACITY, Inbox, ReadRegisters, Refresh, SetSetting
from bridge.sinks import broker, complaints, mqtt, outbox
from bridge.sinks.complaints import Complaints
from bridge.sinks.halves import Halves
from bridge.sinks.mqtt import MqttSink, read_command, timestamp
from bridge.sinks.outbox import Message
from bridge.sinks.text import encode
from tests.harness import Mosquitto, Proxy, Recorder, await_true

FIELDS = (Field("count", COUNT, "Count"), Field("voltage", VOLTAGE, "Voltage"))
DEVICE = Unit("", "Roof", FIELDS, 60.0)
MODULE = Unit("P1", "Module", FIELDS, 60.0)


class Site:
    """A sink with its broker's thread, and a recorder."""

    def __init__(self, mosquitto: Mosquitto, recorder: Recorder) -> None:
        self.mosquitto = mosquitto
        self.recorder = recorder
        self.inbox = Inbox()
        self.sink: MqttSink | None = None
        self.thread: threading.Thread | None = None

    def start(
        self, port: int | None = None, *, first: Callable[[MqttSink], None] = lambda _: None, **options: object
    ) -> MqttSink:
        """Start a sink; `first` is done before it connects."""
        port = port or self.mosquitto.port
        config = Mqtt(host="127.0.0.1", port=port, base_topic="b", **options)  # type: ignore[arg-type]
        self.sink = MqttSink(config, {"roof": self.inbox})
        first(self.sink)
        self.thread = threading.Thread(target=self.sink.broker.run)
        self.thread.start()
        return self.sink

    def stop(self) -> None:
        if self.sink is not None and self.thread is not None:
            self.sink.close(2)
            self.thread.join(5)
            assert not self.thread.is_alive()

    def now_retained(self, topic: str) -> bytes | None:
        """Return what the broker keeps on a topic."""
        with Recorder(self.mosquitto.port, topic, "probe") as other:
            other.client.publish("probe", b"")
            other.wait("probe")
            return next((m.payload for m in other.on(topic)), None)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Mosquitto(tmp_path / "broker") as mosquitto, Recorder(mosquitto.port) as recorder:
        one = Site(mosquitto, recorder)
        yield one
        one.stop()


def retained(site: Site, topic: str, payload: bytes) -> None:
    site.recorder.client.publish(topic, payload, 1, True).wait_for_publish(5)


def test_an_online_that_nobody_stands_for_is_taken_back(site: Site) -> None:
    for topic in ("b/roof/availability", "b/roof/P9/availability", "b/gone/availability"):
        retained(site, topic, b"online")
    site.start().presence("roof", MODULE, True)
    for topic in ("b/roof/availability", "b/roof/P9/availability", "b/gone/availability"):
        site.recorder.wait_payload(topic, b"offline")
        assert site.now_retained(topic) == b"offline"
    site.recorder.wait_payload("b/roof/P1/availability", b"online")
    assert site.now_retained("b/roof/P1/availability") == b"online"


def test_a_second_bridge_with_the_same_base_topic_is_told_of(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    def told() -> list[str]:
        return [record.levelname for record in caplog.records if "base_topic of its own" in record.message]

    sink = site.start()
    await_true(lambda: sink.broker.connected, 5, "connected")
    retained(site, "b/shed/availability", b"online")
    await_true(lambda: site.recorder.on("b/shed/availability")[-1].payload == b"offline", 5, "it is taken back")
    await_true(lambda: told() == ["ERROR"], 5, "that is told")
    caplog.clear()
    for online in (True, False, True):  # our own may come back when it is no longer true
        sink.presence("roof", MODULE, online)
    retained(site, "b/roof/P1/availability", b"online")
    await_true(lambda: site.recorder.on("b/roof/P1/availability")[-1].payload == b"online", 5, "ours")
    assert not told()


def test_settings_of_the_run_before_do_not_look_alive(site: Site) -> None:
    retained(site, "b/roof/settings", b'{"ac_charge": true, "ts": "2026-11-01T00:00:00.000Z"}')
    sink = site.start()
    unit = DEVICE._replace(settings=(Field("ac_charge", FLAG, "AC charge"),))
    sink.take("roof", Reading(unit, {"soc": 50}, time.monotonic()))
    site.recorder.wait_payload("b/roof/settings", b'{"ac_charge":null,"ts":null}')
    sink.take("roof", Reading(unit, {"ac_charge": False}, time.monotonic(), channel=Channel.SETTINGS))
    sink.take("roof", Reading(unit, {"soc": 51}, time.monotonic()))
    site.recorder.wait("b/roof/settings", lambda m: b"false" in m.payload)
    assert json.loads(site.now_retained("b/roof/settings") or b"")["ac_charge"] is False


def test_who_is_away_is_told_before_the_bridge_is_back(site: Site) -> None:
    """Else old values would look alive until it is told, if only for a moment: enough to start an automation."""
    topics = ["b/roof/availability", *(f"b/roof/P{number}/availability" for number in range(40))]

    def in_order() -> bool:
        seen = [(m.topic, m.payload) for m in list(site.recorder.messages)]
        away, back = [(topic, b"offline") for topic in topics], ("b/status", b"online")
        return all(one in seen and seen.index(one) < seen.index(back) for one in away)

    for topic in topics:
        retained(site, topic, b"online")  # as behind a kill
    retained(site, "b/status", b"offline")
    with Proxy(site.mosquitto.port) as proxy:
        sink = site.start(proxy.port)
        site.recorder.wait_payload("b/status", b"online")
        assert in_order()
        began = time.monotonic()
        sink.presence("roof", DEVICE, True)
        sink.presence("roof", DEVICE, False)
        site.recorder.wait("b/roof/availability", lambda m: m.payload == b"offline" and m.at > began)
        proxy.mode = "hang-answers"
        site.recorder.forget()
        sink.broker.publish(Message("b/status", b"online", 1, True))  # never acknowledged, so it is sent once more
        site.recorder.wait_payload("b/status", b"online")
        proxy.mode = "hang"
        proxy.cut()
        site.recorder.wait_payload("b/status", b"offline")
        for topic in topics:
            retained(site, topic, b"online")  # as a broker does that went back to what it saved last
        site.recorder.forget()
        sink.take("roof", Reading(DEVICE, {"count": 1, "voltage": 2.0}, time.monotonic()))
        proxy.cut()
        proxy.resume()
        site.recorder.wait_payload("b/status", b"online")
        assert in_order()
        site.stop()


def test_t18_a_foreign_online_on_any_number_of_topics_keeps_no_bank_silent(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outbox, "TOPICS", 50)
    sink = site.start()
    site.recorder.wait_payload("b/status", b"online")
    for begin in range(0, 200, 40):
        topics = [f"b/x{number}/availability" for number in range(begin, begin + 40)]
        for topic in topics:
            site.recorder.client.publish(topic, b"online", 1, True)
        for topic in topics:
            site.recorder.wait_payload(topic, b"offline")
    sink.publish_data("battery/data", b"{}", time.monotonic() + 5)
    sink.presence("roof", DEVICE, True)
    site.recorder.wait("battery/data")
    site.recorder.wait_payload("b/roof/availability", b"online")
    assert sink.broker.retained_state("b/x0/availability") is None
    assert "given up" not in caplog.text
    site.recorder.forget()
    sink.availability_again()
    site.recorder.wait_payload("b/roof/availability", b"online")
    assert site.recorder.on("b/x0/availability") == []


def test_t18_retained_availabilities_that_take_long_to_read_keep_nobody_off(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(300):
        site.recorder.client.publish(f"b/strange{number}/availability", b"offline", 1, True)
    retained(site, "b/last/availability", b"offline")
    monkeypatch.setattr(broker, "MOST_IN_WINDOW", 10)  # a hundred a second, not 2000
    monkeypatch.setattr(broker, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(broker, "FIRST_ANSWER_SECONDS", 1.0)
    sink = site.start()
    await_true(lambda: sink.broker.connected, 8, "connected")


def test_t18_what_is_given_up_for_a_bound_is_told_once(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outbox, "TOPICS", 2)
    sink = site.start()
    for number in range(5):
        sink.presence(f"d{number}", DEVICE, False)
    assert caplog.text.count("too much waits for the broker") == 1
    assert sink.broker.dropped() >= 4


def test_a_late_will_of_our_own_is_put_right(site: Site) -> None:
    site.start()
    site.recorder.wait_payload("b/status", b"online")
    site.recorder.forget()
    retained(site, "b/status", b"offline")
    site.recorder.wait_payload("b/status", b"online", 3)
    assert site.now_retained("b/status") == b"online"


def test_the_last_word_on_the_status_is_ours_whatever_was_said_in_between(site: Site) -> None:
    sink = site.start()
    site.recorder.wait_payload("b/status", b"online")
    retained(site, "b/status", b"offline")
    await_true(lambda: site.now_retained("b/status") == b"online", 3, "corrected at once")
    retained(site, "b/status", b"neither")
    site.recorder.wait_payload("b/status", b"neither")

    def righted() -> bool:
        sink.put_right()  # as the supervisor does every second
        return site.now_retained("b/status") == b"online"

    await_true(righted, 5, "corrected a second later")


def test_offline_at_the_end_stays(site: Site) -> None:
    site.start()
    site.recorder.wait_payload("b/status", b"online")
    site.stop()
    site.recorder.wait_payload("b/status", b"offline")
    assert site.now_retained("b/status") == b"offline"


def test_a_refresh_reaches_the_inbox_and_a_retained_one_does_not(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    retained(site, "b/roof/refresh", b"")  # an empty retained payload only deletes
    retained(site, "b/roof/refresh", b"old")
    site.start()
    await_true(lambda: "b/roof/refresh': retained" in caplog.text, 5, "the retained one is refused")
    assert len(site.inbox) == 0
    site.recorder.client.publish("b/roof/refresh", b"")
    await_true(lambda: len(site.inbox) == 1, 5, "a command in the inbox")


def test_a_refresh_for_nobody_is_named(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.start()
    site.recorder.wait_payload("b/status", b"online")
    site.recorder.client.publish("b/cellar/refresh", b"")
    await_true(lambda: "b/cellar/refresh': there is no such device" in caplog.text, 5, "a warning")


def test_a_flood_of_commands_fills_the_inbox_and_is_told_once(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.start()
    site.recorder.wait_payload("b/status", b"online")
    for _ in range(CAPACITY + 30):
        site.recorder.client.publish("b/roof/refresh", b"", 1)
    await_true(lambda: site.inbox.refused == 30, 10, "the rest is refused")
    assert len(site.inbox) == CAPACITY
    assert caplog.text.count("more commands than the device can take") == 1


def test_a_state_carries_its_keys_and_a_time_stamp_and_is_retained(site: Site) -> None:
    sink = site.start()
    at = time.monotonic() - 5
    sink.take("roof", Reading(MODULE, {"count": 1, "voltage": None}, at))
    message = site.recorder.wait("b/roof/P1/state")
    values = json.loads(message.payload)
    assert list(values) == ["count", "voltage", "ts"]
    assert values["voltage"] is None
    assert values["ts"] == timestamp(at)
    assert site.now_retained("b/roof/P1/state") == message.payload


def test_no_character_of_a_units_path_ends_the_connection_or_is_a_level(site: Site) -> None:
    sink = site.start()
    odd = MODULE._replace(path="P\x1b[3\0+#/\ud800Ä")
    sink.take("roof", Reading(odd, {"count": 1, "voltage": None}, time.monotonic()))
    sink.presence("roof", odd, True)
    level = "b/roof/P_[3_____Ä"
    site.recorder.wait(f"{level}/state")
    assert site.recorder.wait(f"{level}/availability").payload == b"online"
    assert sink.broker.connects == 1


def test_states_are_not_retained_when_so_configured(site: Site) -> None:
    sink = site.start(retain_states=False)
    sink.take("roof", Reading(DEVICE, {"count": 1, "voltage": 50.0}, time.monotonic()))
    site.recorder.wait("b/roof/state")
    assert site.now_retained("b/roof/state") is None


def test_nothing_is_ever_retained_on_a_topic_of_other_software(site: Site) -> None:
    sink = site.start(retain_states=True)
    for number in range(20):
        values = {"count": number, "voltage": 50.0}
        sink.take("roof", Reading(DEVICE, values, time.monotonic(), topic="power/axpert"))
    message = site.recorder.wait("power/axpert", lambda m: b'"count":19' in m.payload)
    assert json.loads(message.payload) == {"count": 19, "voltage": 50.0}, "as they are, without ts"
    assert site.now_retained("power/axpert") is None


def test_a_reading_that_grew_old_while_the_broker_was_away_is_not_sent(site: Site) -> None:
    site.mosquitto.stop()
    sink = site.start()
    await_true(lambda: sink.broker.ending is not None, 5, "no connection")
    short = Unit("", "Roof", FIELDS, 0.5)
    sink.take("roof", Reading(short, {"count": 1, "voltage": 50.0}, time.monotonic()))
    sink.take("roof", Reading(short, {"count": 1, "voltage": 50.0}, time.monotonic(), topic="battery/data"))
    sink.take("roof", Reading(MODULE, {"count": 2, "voltage": 50.0}, time.monotonic()))
    until = time.monotonic() + 0.6
    await_true(lambda: time.monotonic() > until, 2, "it is old")
    site.mosquitto.start()
    site.recorder.wait("b/roof/P1/state")
    site.recorder.wait_payload("b/status", b"online")
    assert site.recorder.on("b/roof/state") == []
    assert site.recorder.on("battery/data") == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_is_strict(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode({"voltage": value})


def test_json_is_utf_8_and_compact() -> None:
    assert encode({"a": 1, "b": "°C", "c": None, "d": True}) == '{"a":1,"b":"°C","c":null,"d":true}'.encode()


def test_a_time_stamp_is_null_while_the_clock_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    stamp = timestamp(time.monotonic())
    assert stamp is not None
    assert stamp.endswith("Z")
    monkeypatch.setattr(mqtt, "SANE_CLOCK", time.time() + 1000)
    assert timestamp(time.monotonic()) is None


def test_settings_are_retained_and_stay_true(site: Site) -> None:
    sink = site.start(retain_states=False)
    short = Unit("", "Roof", FIELDS, 0.1, settings=FIELDS)
    sink.take("roof", Reading(short, {"count": 1}, time.monotonic() - 9, channel=Channel.SETTINGS))
    message = site.recorder.wait("b/roof/settings")
    assert list(json.loads(message.payload)) == ["count", "ts"]
    assert site.now_retained("b/roof/settings") == message.payload


def test_every_answer_about_registers_is_told_and_none_retained(site: Site) -> None:
    sink = site.start()  # not connected yet, so that the answers wait together
    for number in range(3):
        sink.take("roof", Reading(DEVICE, {"hold_1": number}, time.monotonic(), channel=Channel.REGISTERS))
    await_true(lambda: len(site.recorder.on("b/roof/registers")) == 3, 15, "three answers")
    assert [json.loads(m.payload)["hold_1"] for m in site.recorder.on("b/roof/registers")] == [0, 1, 2]
    assert site.now_retained("b/roof/registers") is None


def test_a_command_to_read_registers_reaches_the_inbox(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    retained(site, "b/roof/read/hold/1", b"2")
    site.start()
    await_true(lambda: "b/roof/read/hold/1': retained" in caplog.text, 5, "the retained one is refused")
    site.recorder.client.publish("b/roof/read/hold/64", b"10")
    site.recorder.client.publish("b/roof/read/input/7", b"")
    await_true(lambda: len(site.inbox) == 2, 5, "commands in the inbox")
    assert site.inbox.take() == ReadRegisters("hold", 64, 10)
    assert site.inbox.take() == ReadRegisters("input", 7, 1)


BAD_READS = [
    ("hold", "0x14", b""), ("hold", "1_0", b""), ("hold", "010", b""), ("hold", "-1", b""), ("hold", "", b""),
    ("hold", "٣", b""), ("hold", "65536", b""), ("hold", "99999999999", b""), ("coil", "1", b""), ("hold", "1.0", b""),
    ("hold", "1", b" 1"), ("hold", "1", b"1 "), ("hold", "1", b"0"), ("hold", "1", b"128"), ("hold", "1", b"true"),
    ("hold", "1", b"1e2"), ("hold", "1", b"\xff"), ("hold", "1", b"NaN"), ("hold", "65535", b"2"),
    ("hold", "1", "１".encode()), ("hold", "1", b"[" * 5000), ("hold", "1", b"\xef\xbb\xbf1"), ("hold", "1", b"1\n"),
]  # fmt: skip


@pytest.mark.parametrize(("table", "register", "count"), BAD_READS)
def test_a_malformed_read_is_refused(table: str, register: str, count: bytes) -> None:
    with pytest.raises(CommandError, match="expected"):
        read_command(table, register.encode(), count)


def test_a_malformed_read_is_answered(site: Site) -> None:
    site.start()
    site.recorder.wait_payload("b/status", b"online")
    site.recorder.client.publish("b/roof/read/hold/1_0", b"")
    answer = json.loads(site.recorder.wait("b/roof/registers").payload)
    assert (answer["command"], answer["outcome"]) == ("read/hold/1_0", "refused")
    assert len(site.inbox) == 0


def test_t18_a_flood_of_what_is_wrong_is_few_lines_and_few_answers(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(complaints, "TELL_EVERY", 0.3)
    sink = site.start()
    for number in range(150):
        for topic in ("nobody/set/x", "nobody/refresh", "nobody/read/hold/1", "roof/read/hold/x", "roof/read/x/1",
                      "nobody/unit/set/" + "x" * 500):  # fmt: skip
            site.recorder.client.publish(f"b/{topic}", b"noon" if number else b"1", 1)
    site.recorder.client.publish("b/end/refresh", b"", 1)
    refused = site.inbox.refused
    await_true(lambda: site.inbox.refused > refused + 200, 30, "what was answered too often is counted")
    until = time.monotonic() + 0.4
    while time.monotonic() < until:
        sink.complaints.sum_up()
    assert caplog.text.count("no such device") <= 6
    assert re.search(r"\d+ more messages in 0 s: there is no such device", caplog.text)
    assert len(caplog.records) < 20
    assert max(len(record.message) for record in caplog.records) < 250
    assert len(site.recorder.on("b/roof/registers")) < 60


def test_a_second_wrong_message_is_told_again_after_a_while(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(complaints.time, "monotonic", lambda: now[0])
    one = Complaints(logging.getLogger("x"))
    one.tell("a", "wrong", ", so")
    one.tell("b", "wrong")
    one.tell("b", "bad")
    now[0] = complaints.TELL_EVERY
    one.sum_up()
    one.sum_up()
    now[0] *= 2
    one.sum_up()
    one.tell("c", "wrong")
    told = [record.message for record in caplog.records]
    assert told == ["'a': wrong, so", "'b': bad", "1 more messages in 10 s: wrong", "'c': wrong"]


def with_window(sink: MqttSink) -> None:
    """Take halves of a window that the settings topic shows."""
    sink.halves = Halves()
    values = {"window": "01:00-02:00"}
    sink.take("roof", Reading(DEVICE, values, time.monotonic(), channel=Channel.SETTINGS))


def payloads(site: Site) -> list[bytes]:
    """Take what is in the inbox."""
    return [one.payload for one in iter(site.inbox.take, None) if isinstance(one, SetSetting)]


def test_times_of_the_day_become_one_window_for_the_device(site: Site) -> None:
    site.start(first=with_window)
    site.recorder.wait("b/roof/settings")
    site.recorder.client.publish("b/roof/set/window/start", b"06:00:00", 1)
    site.recorder.client.publish("b/roof/set/window/end", b"07:15:00", 1)
    site.recorder.client.publish("b/roof/set/window/end", b"noon", 1)
    await_true(lambda: len(site.inbox) == 3, 5, "three commands")
    commands = [site.inbox.take() for _ in range(3)]
    assert [one[1:3] + one[-2:] for one in commands if isinstance(one, SetSetting)] == [
        ("window", b"06:00-02:00", "01:00-02:00", None), ("window", b"06:00-07:15", "06:00-02:00", None),
        ("window/end", b"noon", None, "expected a time of the day, HH:MM:00"),
    ]  # fmt: skip


def test_a_half_of_a_window_that_is_not_known_is_answered_like_any_command(site: Site) -> None:
    site.start(first=with_window)
    site.recorder.wait("b/roof/settings")
    site.recorder.client.publish("b/roof/P1/set/window/end", b"07:15:00", 1)
    await_true(lambda: len(site.inbox) == 1, 5, "a command")
    command = site.inbox.take()
    assert isinstance(command, SetSetting)
    assert (command.unit, command.setting, command.objection) == (
        "P1", "window/end", "the other half of the window is not known yet"
    )  # fmt: skip


def test_e4_a_retained_half_of_a_window_is_in_no_command(site: Site) -> None:
    retained(site, "b/roof/set/window/start", b"06:00:00")
    site.start(first=with_window)
    await_true(lambda: len(site.inbox) == 1, 5, "the retained one")
    command = site.inbox.take()
    assert isinstance(command, SetSetting)
    assert command.retained
    assert "retained" in (command.objection or "")
    site.recorder.client.publish("b/roof/set/window/end", b"07:15:00", 1)
    await_true(lambda: len(site.inbox) == 1, 5, "a command")
    assert payloads(site) == [b"01:00-07:15"]


def test_a_half_that_the_inbox_did_not_take_is_in_no_command(site: Site) -> None:
    site.start(first=with_window)
    site.recorder.wait("b/roof/settings")
    site.recorder.client.publish("b/roof/set/window/start", b"06:00:00", 1)
    await_true(lambda: len(site.inbox) == 1, 5, "a command")
    while site.inbox.put(Refresh()):
        pass
    refused = site.inbox.refused
    site.recorder.client.publish("b/roof/set/window/start", b"09:00:00", 1)
    await_true(lambda: site.inbox.refused == refused + 1, 5, "it is refused")
    assert payloads(site) == [b"06:00-02:00"]
    site.recorder.client.publish("b/roof/set/window/end", b"07:15:00", 1)
    await_true(lambda: len(site.inbox) == 1, 5, "a command")
    assert payloads(site) == [b"06:00-07:15"], "built on the one that is under way"


def test_a_half_in_a_flood_is_in_no_command(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.start(first=with_window)
    site.recorder.wait("b/roof/settings")
    with monkeypatch.context() as few:
        few.setattr(broker, "MOST_IN_WINDOW", 1)  # one message is a flood
        few.setattr(broker, "YOUNG", 0.0)
        site.recorder.client.publish("b/roof/set/window/start", b"06:00:00", 1)
        await_true(lambda: site.inbox.refused == 1, 5, "it is refused")
    time.sleep(2 * broker.WINDOW)  # what comes behind the flood is not of it
    site.recorder.client.publish("b/roof/set/window/end", b"07:15:00", 1)
    await_true(lambda: len(site.inbox) == 1, 5, "a command")
    assert payloads(site) == [b"01:00-07:15"]
