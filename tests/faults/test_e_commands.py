"""Rows E1 to E8, E13, E15 and D6, D7 in a write: commands on set topics at the running bridge, over a real broker.

The device is made up (fake_slice.py): what counts here is the way from a topic to its thread and back. The makers'
own settings are tested beside their slices.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.faults.rig import BASE, MEMORY_GROWTH_KIB, House, at_once, house, pause
from tests.harness import Proxy, Recorder, await_true

RESULT = f"{BASE}/one/result"
SET = f"{BASE}/one/set"
FLOOD = int(os.environ.get("FLOOD", "20000"))
"""Commands of the flood; `make soak` sends a million."""


@contextmanager
def writable(folder: Path, **more: Any) -> Iterator[House]:
    """A house with a device that can be set and one beside it, up and running."""
    state = {"XDG_STATE_HOME": str(folder / "state")}
    devices = {"one": {"writes": True, **more}, "two": {}}
    with house(folder, devices, environ=state) as site:
        site.await_up()
        yield site


def results(site: House) -> list[dict[str, Any]]:
    return [json.loads(message.payload) for message in site.recorder.on(RESULT)]


def await_results(site: House, count: int, seconds: float = 10) -> list[dict[str, Any]]:
    await_true(lambda: len(results(site)) >= count, seconds, f"{count} results")
    return results(site)


def publish(site: House, topic: str, payload: bytes | str, *, retain: bool = False) -> None:
    site.recorder.client.publish(topic, payload, 1, retain).wait_for_publish(10)


def frames(site: House) -> list[str]:
    path = site.folder / "one.control.frames"
    return path.read_text().splitlines() if path.exists() else []


def audited(site: House) -> list[dict[str, Any]]:
    path = site.folder / "state/solarbridge/audit.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines()]


def manner(site: House, word: str) -> None:
    (site.folder / "one.control.manner").write_text(word)


def restart(site: House) -> None:
    site.recorder.forget()
    site.bridge.start()
    site.await_up()


def test_a_set_topic_becomes_a_proven_write(tmp_path: Path) -> None:
    with writable(tmp_path) as site:
        publish(site, f"{SET}/limit", b'{"value": 80, "id": "evening-1"}')
        (result,) = await_results(site, 1)
        assert (result["outcome"], result["old"], result["read_back"]) == ("done", 50, 80)
        assert (result["id"], result["setting"], result["register"]) == ("evening-1", "limit", "word limit")
        assert result["source"] == f"{SET}/limit"
        assert frames(site) == ["limit 80"]
        await_true(
            lambda: json.loads(site.recorder.on(f"{BASE}/one/settings")[-1].payload)["limit"] == 80,
            5, "the settings topic shows what was read back",
        )  # fmt: skip
        assert [entry["event"] for entry in audited(site)] == ["begin", "end"]
        assert audited(site)[1]["outcome"] == "done"


def test_t1_without_the_switch_nothing_reaches_the_device(tmp_path: Path) -> None:
    with house(tmp_path, {"one": {}}) as site:
        site.await_up()
        publish(site, f"{SET}/limit", b"80")
        (result,) = await_results(site, 1)
        assert result["outcome"] == "refused"
        assert frames(site) == []


def test_a_dangerous_setting_has_to_be_named(tmp_path: Path) -> None:
    with writable(tmp_path) as site:
        publish(site, f"{SET}/volts", b"220")
        assert await_results(site, 1)[0]["outcome"] == "refused"
        assert frames(site) == []


def test_e2_malformed_payloads_are_refused_one_by_one(tmp_path: Path) -> None:
    payloads = [b"", b"\xff\xfe", b"nan", b"1_0", "８０".encode(), b" 80", b"80 ", b"0x14", b"1.0", b"9" * 1000,
                b'{"value": true}', b'{"value": 1, "value": 2}', b"[" * 900, b"\xef\xbb\xbf80", b'{"value": NaN}',
                b"1e999", b'{"value": 1e999}', b"\xed\xa0\x80", b'{"value": "\\ud800"}', "٨٠".encode(), b"9" * 45_000,
                b"[" * 60_000, b'{"value": ' + b"[" * 60_000, b"[" * 100_000]  # fmt: skip
    with writable(tmp_path) as site:
        for payload in payloads:
            publish(site, f"{SET}/limit", payload)
        # one more than the link takes as a packet is kept back by the broker, as it should be (row E3)
        found = await_results(site, len(payloads) - 1)
        assert {result["outcome"] for result in found} == {"refused"}
        assert all(result["reason"] for result in found)
        publish(site, f"{SET}/limit", b"80")
        await_true(lambda: results(site)[-1]["outcome"] == "done", 10, "the link has survived")
        assert frames(site) == ["limit 80"]
        assert site.bridge.log().count("Traceback") == 0


def test_odd_topics_are_answered_or_left_and_harm_nothing(tmp_path: Path) -> None:
    with writable(tmp_path) as site:
        for topic in (f"{BASE}/nobody/set/limit", f"{SET}/", f"{SET}/a/b/c/d", f"{BASE}/one/part/set/limit",
                      f"{BASE}/one/set", f"{SET}/li\u00e4mit", f"{BASE}/one/set/set/limit"):  # fmt: skip
            publish(site, topic, b"80")
        publish(site, f"{SET}/limit", b"81")
        await_true(lambda: frames(site) == ["limit 81"], 10, "the good one")
        found = results(site)
        assert [one["outcome"] for one in found[:-1]] == ["refused"] * (len(found) - 1)
        assert len(found) >= 5


def test_e4_a_retained_command_found_at_the_start_is_refused(tmp_path: Path) -> None:
    with writable(tmp_path) as site:
        assert site.bridge.stop() == 0
        publish(site, f"{SET}/limit", b"80", retain=True)
        restart(site)
        assert "retained" in await_results(site, 1)[0]["reason"]
        assert frames(site) == []


def test_e5_a_command_retained_while_we_listen_is_done_once_at_most(tmp_path: Path) -> None:
    with writable(tmp_path) as site:
        publish(site, f"{SET}/limit", b"80", retain=True)
        assert await_results(site, 1)[0]["outcome"] == "done"
        site.proxy.cut()  # the bridge connects again by itself
        # a result that was not acknowledged when the link went is sent once more
        await_true(lambda: results(site)[-1]["outcome"] == "refused", 30, "the retained copy is refused")
        site.bridge.stop()
        restart(site)
        assert await_results(site, 1)[-1]["outcome"] == "refused"
        assert frames(site) == ["limit 80"]


def test_e6_commands_sent_while_we_were_away_do_not_exist(tmp_path: Path) -> None:
    with writable(tmp_path) as site:
        assert site.bridge.stop() == 0
        for value in range(5):
            publish(site, f"{SET}/limit", str(value))
        restart(site)
        publish(site, f"{SET}/limit", b"80")
        assert await_results(site, 1)[0]["outcome"] == "done"
        assert frames(site) == ["limit 80"]


def test_e7_the_same_request_is_done_once(tmp_path: Path) -> None:
    with writable(tmp_path) as site:
        for _ in range(3):
            publish(site, f"{SET}/limit", b'{"value": 80, "id": "x1"}')
        found = await_results(site, 3)
        first = [result for result in found if not result.get("repeated") and result["outcome"] != "refused"]
        assert [result["outcome"] for result in first] == ["done"]
        assert all("under way" in one["reason"] for one in found if one["outcome"] == "refused")
        assert frames(site) == ["limit 80"]
        site.bridge.stop()
        restart(site)
        publish(site, f"{SET}/limit", b'{"value": 80, "id": "x1"}')
        assert await_results(site, 1)[0]["repeated"] is True
        assert frames(site) == ["limit 80"]


@pytest.mark.parametrize("payload", [b"80", b'{"value": 80, "id": "x1"}'])
def test_e7_a_command_whose_receipt_was_lost_comes_twice_and_is_done_once(tmp_path: Path, payload: bytes) -> None:
    with writable(tmp_path) as site, Proxy(site.broker.port) as between, Recorder(between.port, "nothing") as sender:
        between.mode = "drop-answers"
        sender.client.publish(f"{SET}/limit", payload, 1)
        assert await_results(site, 1)[0]["outcome"] == "done"
        between.cut()
        between.resume()
        again = await_results(site, 2)[1]
        assert again["repeated"] if b"id" in payload else again["outcome"] == "refused", again
        assert frames(site) == ["limit 80"]


def test_e13_a_command_for_a_device_that_is_away_is_refused_and_not_kept(tmp_path: Path) -> None:
    with writable(tmp_path) as site:
        site.say("one", "link")
        site.recorder.wait_payload(f"{BASE}/one/availability", b"offline")
        publish(site, f"{SET}/limit", b"80")
        result = await_results(site, 1)[0]
        assert (result["outcome"], "cable is out" in result["reason"]) == ("refused", True)
        site.recorder.forget()
        site.say("one", "ok")
        site.recorder.wait_payload(f"{BASE}/one/availability", b"online")
        publish(site, f"{SET}/limit", b"81")
        await_results(site, 1)
        assert frames(site) == ["limit 81"]


def five(port: int) -> paho.Client:
    """Return a client that speaks MQTT 5, running."""
    client = paho.Client(CallbackAPIVersion.VERSION2, "asker", protocol=MQTTProtocolVersion.MQTTv5)
    client.connect("127.0.0.1", port)
    client.loop_start()
    return client


def properties(**given: Any) -> Properties:
    found = Properties(PacketTypes.PUBLISH)
    for name, value in given.items():
        setattr(found, name, value)
    return found


def test_the_answer_goes_to_the_response_topic_with_its_correlation(tmp_path: Path) -> None:
    with writable(tmp_path) as site:
        answers: list[paho.MQTTMessage] = []
        client = five(site.broker.port)
        try:
            client.on_message = lambda _client, _userdata, message: answers.append(message)
            client.subscribe("answers/7", 1)
            asked = properties(ResponseTopic="answers/7", CorrelationData=b"\x01\x02", UserProperty=("who", "me"))
            client.publish(f"{SET}/limit", b"80", 1, properties=asked).wait_for_publish(5)
            await_true(lambda: answers, 10, "an answer")
            assert json.loads(answers[0].payload)["outcome"] == "done"
            assert answers[0].properties is not None
            assert answers[0].properties.CorrelationData == b"\x01\x02"
            assert results(site)[0]["source"] == f"{SET}/limit who=me"
        finally:
            client.disconnect()
            client.loop_stop()


@pytest.mark.parametrize("topic", [f"{BASE}/status", f"{BASE}/two/state", BASE, "bank/data"])
def test_an_answer_never_goes_where_others_expect_something_else(topic: str, tmp_path: Path) -> None:
    with writable(tmp_path, bank="bank/data") as site:
        site.recorder.wait("bank/data")
        client = five(site.broker.port)
        try:
            asked = properties(ResponseTopic=topic)
            client.publish(f"{SET}/limit", b"80", 1, properties=asked).wait_for_publish(5)
            assert await_results(site, 1)[0]["outcome"] == "done"
            publish(site, f"{SET}/limit", b"80")
            await_results(site, 2)
        finally:
            client.disconnect()
            client.loop_stop()
        assert not [m for m in site.recorder.on(topic) if b"outcome" in m.payload]


def test_the_message_expiry_of_the_sender_is_obeyed(tmp_path: Path) -> None:
    with writable(tmp_path) as site:
        site.say("one", "slow")
        manner(site, "slow")
        client = five(site.broker.port)
        try:
            client.publish(f"{SET}/limit", b"80", 1).wait_for_publish(5)
            await_true(lambda: frames(site), 10, "the first is under way")
            client.publish(f"{SET}/volts", b"1", 1, properties=properties(MessageExpiryInterval=0)).wait_for_publish(5)
        finally:
            client.disconnect()
            client.loop_stop()
        found = await_results(site, 2)
        assert {result["setting"]: result["outcome"] for result in found} == {"limit": "done", "volts": "refused"}


def stands_still(pid: int) -> bool:
    """Whether a stopped process has stopped: on a crowded machine a thread may go on for a moment."""
    states = [(task / "stat").read_text().rpartition(")")[2].split()[0] for task in Path(f"/proc/{pid}/task").iterdir()]
    return set(states) == {"T"}


def test_d2_and_e13_a_command_that_expires_while_the_process_stands_still_is_refused(tmp_path: Path) -> None:
    with writable(tmp_path) as site:
        client = five(site.broker.port)
        try:
            site.bridge.send(signal.SIGSTOP)
            await_true(lambda: stands_still(site.bridge.pid), 5, "each of its threads stands still")
            # the broker hands it over at once, so what is left of its time is known to this process alone
            old = b'{"value": 80, "id": "old"}'
            client.publish(f"{SET}/limit", old, 1, properties=properties(MessageExpiryInterval=1)).wait_for_publish(5)
            pause(2.5)
            site.bridge.send(signal.SIGCONT)
            (result,) = await_results(site, 1)
            assert (result["id"], result["outcome"], result["reason"]) == ("old", "refused", "the command has expired")
            client.publish(f"{SET}/limit", b"81", 1).wait_for_publish(5)
            assert await_results(site, 2)[1]["outcome"] == "done", "the next one is not old"
        finally:
            client.disconnect()
            client.loop_stop()
        assert frames(site) == ["limit 81"]


def test_e1_a_flood_is_bounded_and_leaves_the_readings_alone(tmp_path: Path) -> None:
    with writable(tmp_path) as site, Recorder(site.broker.port, RESULT) as own:
        memory, begun = site.bridge.memory_kib(), time.monotonic()
        # the recorder has the whole flood to take, too, and the broker drops states for it: the device counts
        with site.keeps_rate("one", "two"):
            other = Recorder(site.broker.port, "nothing")
            last = None
            for number in range(FLOOD):
                last = other.client.publish(f"{SET}/limit", str(number % 100), 0)
                if number % 2000 == 1999:
                    last.wait_for_publish(30)
            assert last is not None
            last.wait_for_publish(30)
            other.close()
            ended = time.monotonic()
            publish(site, f"{SET}/volts", b"1")
            await_true(lambda: any(b"came faster" in m.payload for m in own.messages), 30, "one answer for the rest")
            for device in ("one", "two"):
                site.await_state(device, ended, 60)
        assert site.bridge.memory_kib() - memory < MEMORY_GROWTH_KIB
        assert len(frames(site)) <= 12
        assert len(own.messages) < 200 + (ended - begun) * 6, "not an answer for each"


def test_d6_a_stop_in_a_write_is_recorded_and_clean(tmp_path: Path) -> None:
    with writable(tmp_path) as site:
        manner(site, "hang")
        publish(site, f"{SET}/limit", b"80")
        await_true(lambda: frames(site), 10, "the frame is out")
        at = time.monotonic()
        assert site.bridge.stop() == 0
        assert time.monotonic() - at < 4
        assert [entry["event"] for entry in audited(site)] == ["begin", "end"]
        assert audited(site)[-1]["outcome"] == "unknown"
        assert results(site)[-1]["outcome"] == "unknown"


@pytest.mark.parametrize("stored", [True, False])
def test_d7_a_kill_in_a_write_is_settled_by_the_next_start(stored: bool, tmp_path: Path) -> None:
    with writable(tmp_path) as site:
        manner(site, "hang")
        publish(site, f"{SET}/limit", b'{"value": 80, "id": "k1"}')
        await_true(lambda: frames(site), 10, "the frame is out")
        site.bridge.send(signal.SIGKILL)
        assert site.bridge.process is not None
        site.bridge.process.wait(5)
        manner(site, "ok")
        if not stored:
            (site.folder / "one.control.words").write_text('{"limit": 50, "volts": 230}')
        restart(site)
        (result,) = await_results(site, 1)
        assert (result["id"], result["outcome"]) == ("k1", "done" if stored else "failed")
        assert result["read_back"] == (80 if stored else 50)
        assert [entry["event"] for entry in audited(site)] == ["begin", "end"]
        assert frames(site) == ["limit 80"], "nothing was sent again"


def test_e15_a_command_at_the_very_end_is_refused_or_done(tmp_path: Path) -> None:
    with writable(tmp_path) as site:
        enough = threading.Event()

        def shower() -> None:
            for value in range(20):
                publish(site, f"{SET}/limit", str(value))
                if value == 5:
                    enough.set()

        def stop() -> None:
            enough.wait(10)
            assert site.bridge.stop() == 0

        at_once(shower, stop)
        begun = {entry["frame"] for entry in audited(site) if entry["event"] == "begin"}
        ends = [entry for entry in audited(site) if entry["event"] == "end"]
        assert ends
        assert len([e for e in ends if e["outcome"] in ("done", "unknown")]) == len(begun), "a frame without an outcome"
        assert {e["outcome"] for e in ends} <= {"done", "unchanged", "unknown", "refused"}


def test_e15_commands_at_the_start_are_refused_or_done(tmp_path: Path) -> None:
    with writable(tmp_path) as site:
        assert site.bridge.stop() == 0
        over = threading.Event()

        def shower() -> None:
            for value in range(10_000):
                publish(site, f"{SET}/limit", str(value % 100))
                if over.wait(0.02):
                    return

        def start() -> None:
            restart(site)
            pause(0.5)
            over.set()

        at_once(shower, start)
        await_true(lambda: any(one["outcome"] == "done" for one in results(site)), 10, "one was taken")
        assert site.bridge.stop() == 0
        answers = [one for one in results(site) if "came faster" not in (one["reason"] or "")]
        outcomes = [one["outcome"] for one in answers]
        assert outcomes.count("done") == len(frames(site)) == 1, "a register is written once in ten seconds"
        assert set(outcomes) <= {"done", "unchanged", "refused"}
        events = [entry["event"] for entry in audited(site)]
        assert events.count("begin") == 1
        assert events.count("end") == len(outcomes)
