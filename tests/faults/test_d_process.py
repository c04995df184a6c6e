"""Rows D1, D2, D6, D8, D9 and D10: the clock, the process and its threads."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest

from tests.faults.rig import (
    BANK,
    BASE,
    REPEATS,
    House,
    assert_never_set_back,
    assert_young,
    at_once,
    house,
    pause,
)
from tests.harness import Manager, Stopwatch, await_true

CLOCK = """
import os, time
_real = time.time
def _shifted():
    try:
        return _real() + float(open(os.environ["CLOCK"]).read())
    except (OSError, ValueError):
        return _real()
time.time = _shifted
"""
"""The wall clock of this one process reads its offset from a file; setting the machine's needs root, and the
monotonic clock must not move with it."""

YEAR = 365.25 * 86400


def test_d1_a_wall_clock_that_jumps_changes_nothing_but_the_time_stamp(tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    with house(tmp_path, prelude=CLOCK, environ={"CLOCK": str(clock)}) as site:
        site.await_up()
        now = time.time()
        with site.keeps_rate("one"):
            for offset in (3600.0, -3600.0, 10 * YEAR, -10 * YEAR, -now + 60, 0.0):
                clock.write_text(str(offset))
                jumped = time.monotonic()
                pause(0.5)
                messages = [m for m in site.recorder.on(f"{BASE}/one/state") if m.at > jumped + 0.2]
                stamps = {b'"ts":null' in m.payload for m in messages}
                insane = now + offset < 1_767_225_600  # 2026: before it the clock has not been set
                assert stamps == {insane}, f"time stamps after a jump of {offset} s"
        seen = site.seen("one")
        assert len(seen) >= 0.9 * (seen[-1].count - seen[0].count), "readings were not published"
        assert site.recorder.on(f"{BASE}/one/availability")[-1].payload == b"online"
        assert "offline" not in site.bridge.log()
        assert len(site.proxy.accepted) == 1, "the connection did not live through it"


def test_d1_the_start_is_told_once_the_clock_is_set(tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    clock.write_text(str(-time.time() + 60))  # a board without a clock of its own, before it has asked for the time
    with house(tmp_path, prelude=CLOCK, environ={"CLOCK": str(clock)}) as site:
        site.await_up()
        began = time.time()
        assert [json.loads(m.payload)["started"] for m in site.recorder.on(f"{BASE}/info")] == [None]
        clock.write_text("0")
        message = site.recorder.wait(f"{BASE}/info", lambda m: b'"started":null' not in m.payload, 5)
        started = datetime.fromisoformat(json.loads(message.payload)["started"])
        assert -30 < started.timestamp() - began < 1
        clock.write_text("1")  # as time servers do now and then
        pause(2.5)
        assert len(site.recorder.on(f"{BASE}/info")) == 2


def test_d2_a_process_that_stood_still_publishes_nothing_from_before(tmp_path: Path) -> None:
    with house(tmp_path, {"one": {"bank": BANK, "interval": 0.05}}, mqtt={"keepalive": 5}) as site:
        site.await_up()
        site.say("one", "held")  # most of the time a reading is on its way
        for frozen in (2.4, 2.5, 4.0):  # after the last one the broker has given us up
            site.bridge.send(signal.SIGSTOP)
            pause(frozen)
            went_on = time.monotonic()
            site.bridge.send(signal.SIGCONT)
            site.await_state("one", went_on, 5)
        assert_young(site.bank())
        assert_young(site.seen("one"))
        assert_never_set_back(site.seen("one"))
        site.recorder.wait_payload(f"{BASE}/one/availability", b"online")
        await_true(lambda: site.recorder.on(f"{BASE}/status")[-1].payload == b"online", 5, "online again")
        await_true(lambda: site.recorder.on(f"{BASE}/one/availability")[-1].payload == b"online", 5, "available again")


def ends_well(site: House, number: int, times: int = 1) -> None:
    """Send the signal and see to it that the process ends as promised."""
    watch = Stopwatch(site.bridge.pid)
    for _ in range(times):
        site.bridge.send(number)
        pause(0.02 if times > 1 else 0)
    assert site.bridge.await_end(watch) == 0, site.bridge.log()
    for topic in (f"{BASE}/status", f"{BASE}/one/availability"):
        await_true(lambda topic=topic: site.recorder.on(topic)[-1].payload == b"offline", 2, f"offline on {topic}")
    assert "Sending PUBACK" in site.broker.log()
    assert site.broker.log().count("Received DISCONNECT") >= 1, "left without a word"


@pytest.mark.parametrize("word", ["ok", "slow", "silent", "link"])
def test_d6_a_sigterm_ends_it_in_time_with_offline_seen(tmp_path: Path, word: str) -> None:
    with house(tmp_path) as site:
        site.await_up()
        site.say("one", word)
        pause(0.3)
        ends_well(site, signal.SIGTERM)


def test_d6_a_hangup_ends_it_in_order_and_nohup_keeps_it_off(tmp_path: Path) -> None:
    with house(tmp_path) as site:
        site.await_up()
        ends_well(site, signal.SIGHUP)
    with house(tmp_path, prelude="import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)") as site:
        site.await_up()
        site.bridge.send(signal.SIGHUP)
        pause(0.5)
        ends_well(site, signal.SIGTERM)


def test_d6_a_second_sigterm_and_a_sigint_end_it_as_well(tmp_path: Path) -> None:
    def twice(folder: Path, number: int, times: int) -> None:
        folder.mkdir()
        with house(folder) as site:
            site.await_up()
            ends_well(site, number, times)

    at_once(
        partial(twice, tmp_path / "term", signal.SIGTERM, 3),
        partial(twice, tmp_path / "int", signal.SIGINT, 1),
        partial(twice, tmp_path / "ints", signal.SIGINT, 2),
    )


@pytest.mark.parametrize("away", ["refuse", "hang"])
def test_d6_without_a_broker_it_ends_in_time_too(tmp_path: Path, away: str) -> None:
    with house(tmp_path) as site:
        site.await_up()
        if away == "refuse":
            site.proxy.refuse()
        else:
            site.proxy.mode = "hang"
        pause(0.5)
        assert site.bridge.stop() == 0


def test_d6_a_sigterm_while_it_starts_ends_it(tmp_path: Path) -> None:
    """Before the handler is there the signal ends Python at once, which is as good: nothing was published."""
    with house(tmp_path) as site:
        pause(0.05)
        process = site.bridge.process
        assert process is not None
        watch = Stopwatch(site.bridge.pid)
        for _ in range(50):
            if process.poll() is None:
                site.bridge.send(signal.SIGTERM)
                watch.look()
            pause(0.02)
        assert site.bridge.await_end(watch) in (0, -signal.SIGTERM)
        statuses = site.recorder.on(f"{BASE}/status")
        assert not statuses or statuses[-1].payload == b"offline"


@pytest.mark.soak
def test_d6_at_random_phase_many_times(tmp_path: Path) -> None:
    for number in range(REPEATS):
        folder = tmp_path / str(number)
        folder.mkdir()
        with house(folder, {"one": {"interval": 0.03}}) as site:
            site.await_up()
            site.say("one", random.choice(["ok", "slow", "held", "silent"]))
            pause(random.uniform(0, 0.5))
            ends_well(site, random.choice([signal.SIGTERM, signal.SIGINT]))


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    one = Manager(tmp_path / "notify")
    yield one
    one.close()


IMPATIENT = "from bridge import publisher\npublisher.LATE_AFTER = 0.9\npublisher.Publisher.late_after = 0.9"
"""The program's thirty seconds would make the test too long."""


def test_d8_a_crashing_reader_is_restarted_and_the_others_go_on(tmp_path: Path) -> None:
    with house(tmp_path, {"one": {}, "two": {}}) as site:
        site.await_up()
        began = time.monotonic()
        with site.keeps_rate("two"):
            site.say("one", "raise")
            await_true(lambda: site.recorder.on(f"{BASE}/one/availability")[-1].payload == b"offline", 5, "one offline")
            crashes = lambda: site.bridge.log().count("crashed, starting it anew")  # noqa: E731
            await_true(lambda: crashes() >= 2, 5, "it was tried again")
            pause(0.5)
            assert crashes() <= 3, "no pause between restarts"
            site.recorder.wait(f"{BASE}/health", lambda m: b'"crashes":0' not in m.payload.split(b'"two"')[0], 5)
            lifted = time.monotonic()
            site.say("one", "ok")
            site.await_state("one", lifted, 6)
        assert_young(site.seen("two", began))
        availability = site.recorder.on(f"{BASE}/two/availability")
        assert availability[-1].payload == b"online"
        assert not [message for message in availability if message.at >= began], "it changed"


def test_d9_a_hung_reader_starves_the_watchdog_and_the_others_go_on(tmp_path: Path, manager: Manager) -> None:
    environ = {"NOTIFY_SOCKET": manager.path}
    with house(tmp_path, {"one": {}, "two": {}}, prelude=IMPATIENT, environ=environ) as site:
        site.await_up()
        assert "READY=1" in manager.lines
        await_true(lambda: "WATCHDOG=1" in manager.lines, 5, "the watchdog is fed")
        with site.keeps_rate("two"):
            site.say("one", "hang")
            site.await_log("one: its thread hangs")
            assert "fake_slice.py" in site.bridge.log(), "the stack of the hung thread"
            fed = manager.lines.count("WATCHDOG=1")
            pause(2.3)  # two rounds of the supervisor
            assert manager.lines.count("WATCHDOG=1") == fed, "fed although a thread hangs"
            assert site.recorder.on(f"{BASE}/one/availability")[-1].payload == b"offline"
        lifted = time.monotonic()
        site.say("one", "ok")
        await_true(lambda: manager.lines.count("WATCHDOG=1") > fed, 5, "fed again")
        site.await_state("one", lifted, 5)
        assert any(line.startswith("STATUS=2 of 2 devices online, broker connected") for line in manager.lines)
        assert site.bridge.stop() == 0
        assert "STOPPING=1" in manager.lines


def test_d9_a_hung_reader_does_not_keep_the_program_from_ending(tmp_path: Path) -> None:
    with house(tmp_path) as site:
        site.await_up()
        site.say("one", "hang")
        pause(0.3)
        assert site.bridge.stop() == 1, "a thread that will not end is a failure"
        assert "one: its thread does not end" in site.bridge.log()
        for topic in (f"{BASE}/status", f"{BASE}/one/availability"):
            await_true(lambda topic=topic: site.recorder.on(topic)[-1].payload == b"offline", 2, f"offline: {topic}")


WEIRD = [b"", b"\x00", b"\xff\xfe\x80", b"[" * 100_000, b"NaN", b"online\n", b"OFFLINE", b"offline", b"x" * 60_000]


def test_d10_no_payload_on_any_subscription_ends_the_mqtt_thread(tmp_path: Path) -> None:
    with house(tmp_path) as site:
        site.await_up()
        publish = site.recorder.client.publish
        for topic in ("one/refresh", "nobody/refresh", "ä\u2603/refresh", "status", "one/availability",
                      "one/part9/availability", "nobody/availability", "//availability", "/refresh"):  # fmt: skip
            for payload in WEIRD:
                for retain in (False, True):
                    publish(f"{BASE}/{topic}", payload, 1, retain)
        done = time.monotonic()
        site.recorder.client.publish(f"{BASE}/one/refresh", b"").wait_for_publish(5)
        await_true(lambda: site.seen("one", done) and site.seen("one", done)[-1].count > 1000, 5, "commands are obeyed")
        await_true(lambda: site.recorder.on(f"{BASE}/status")[-1].payload == b"online", 5, "status is put right")
        site.await_state("one", done, 3)
        assert len(site.proxy.accepted) == 1
        assert "Traceback" not in site.bridge.log()


DIES_ONCE = """
import os
from bridge.sinks.broker import Broker
_real = Broker._hand_out
def _once(self, session):
    if os.path.exists(os.environ["DIE"]):
        os.unlink(os.environ["DIE"])
        raise RuntimeError("planted")
    _real(self, session)
Broker._hand_out = _once
"""


def test_d10_an_mqtt_thread_that_dies_is_started_again(tmp_path: Path) -> None:
    die = tmp_path / "die"
    with house(tmp_path, prelude=DIES_ONCE, environ={"DIE": str(die)}) as site:
        site.await_up()
        threads, descriptors = site.bridge.threads(), site.bridge.descriptors()
        with site.keeps_rate("one"):
            die.touch()
            site.await_log("mqtt: its thread died")
            assert "planted" in site.bridge.log()
            site.await_log("connected to 127.0.0.1", 10)
            await_true(lambda: len(site.proxy.accepted) == 2, 5, "a second connection")
            site.await_state("one", time.monotonic(), 5)
            await_true(lambda: site.recorder.on(f"{BASE}/status")[-1].payload == b"online", 5, "online again")
        assert (site.bridge.threads(), site.bridge.descriptors()) == (threads, descriptors)
        assert site.bridge.stop() == 0
