"""Rows A1 to A5, A8 and A11: the broker or the way to it fails, and comes back."""

from __future__ import annotations

import signal
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.fake_slice import PRELUDE
from tests.faults.ledger import note
from tests.faults.rig import (
    BANK,
    BASE,
    INTERVAL,
    KEEPALIVE,
    MAX_AGE,
    MEMORY_GROWTH_KIB,
    NETWORK_RECOVERY,
    REPEATS,
    House,
    assert_never_set_back,
    assert_young,
    at_once,
    configuration,
    house,
    pause,
)
from tests.harness import Bridge, Mosquitto, Proxy, Recorder, Stopwatch, await_true, free_port

QUICK = "import bridge.sinks.discovery as d\nd.SETTLED = 0.5"
DISCOVERY = "homeassistant/device"
RETAINED = [f"{BASE}/status", f"{BASE}/info", f"{BASE}/one/availability", f"{DISCOVERY}/sb/config",
            f"{DISCOVERY}/sb_one/config", f"{BASE}/one/state"]  # fmt: skip

HANDED_OUT = 0.5 / INTERVAL + 3
"""Readings that may reach a frozen broker before they are held back: half a second of them, one that
asked for the receipt, and what the machine's own slowness adds."""


def assert_all_retained_topics_are_back(port: int) -> None:
    """Ask the broker by a new subscription at a time, since one that is there already sees the messages unmarked."""

    def held() -> bool:
        with Recorder(port) as late_comer:
            late_comer.client.publish("probe", b"", 1)
            late_comer.wait("probe")  # whatever the broker holds came before it
            kept = {m.topic for m in late_comer.messages if m.retained and m.payload != b"offline"}
        return kept >= set(RETAINED)

    await_true(held, NETWORK_RECOVERY, "all retained topics")


def test_a1_a_broker_that_comes_later_is_found_and_told_everything(tmp_path: Path) -> None:
    port = free_port()
    with ExitStack() as stack:
        config = configuration(tmp_path, port, {"one": {}})
        bridge = stack.enter_context(Bridge(tmp_path / "bridge", config, prelude=f"{PRELUDE}\n{QUICK}"))
        await_true(lambda: "Connection refused" in bridge.log(), 10, "a refused connection in the log")
        pause(2)  # the length of the outage
        assert bridge.process is not None
        assert bridge.process.poll() is None
        assert bridge.log().count("Connection refused") == 1, "the same news again and again"
        stack.enter_context(Mosquitto(tmp_path / "broker", port=port))
        back = Stopwatch(bridge.pid)
        recorder = stack.enter_context(Recorder(port))
        site = House(tmp_path, None, None, recorder, bridge)  # type: ignore[arg-type]  # nothing else is needed here
        for topic in RETAINED:
            recorder.wait(topic, lambda m: m.payload != b"offline", NETWORK_RECOVERY)
        first = site.await_state("one", back.began, NETWORK_RECOVERY)
        assert back.seconds(first.at) <= NETWORK_RECOVERY
        assert first.count * INTERVAL > 1.5, "the device was not read while there was no broker"


def test_a2_a_broker_that_died_is_served_again_with_and_without_its_database(tmp_path: Path) -> None:
    at_once(*(partial(a_broker_that_died, tmp_path / memory, memory) for memory in ("kept", "lost")))


def a_broker_that_died(tmp_path: Path, memory: str) -> None:
    tmp_path.mkdir()
    lines = f"allow_anonymous true\npersistence true\npersistence_location {tmp_path}/broker/\nautosave_interval 1"
    with house(tmp_path, broker_lines=lines, prelude=QUICK) as site:
        site.await_up()
        site.recorder.wait(f"{DISCOVERY}/sb_one/config")
        pause(1.2)  # for the broker to save
        before = site.bridge.descriptors(), site.bridge.threads()
        site.broker.stop(signal.SIGKILL)
        if memory == "lost":
            (tmp_path / "broker" / "mosquitto.db").unlink(missing_ok=True)
        pause(1)
        site.recorder.forget()
        site.broker.start()
        back = Stopwatch(site.bridge.pid)
        first = site.await_state("one", back.began, NETWORK_RECOVERY)
        assert back.seconds(first.at) <= NETWORK_RECOVERY
        assert_all_retained_topics_are_back(site.broker.port)
        site.recorder.client.publish(f"{BASE}/one/refresh", b"")
        await_true(lambda: site.seen("one")[-1].count > 1000, 5, "the subscriptions are there again")
        assert_never_set_back(site.seen("one"))
        assert_young(site.seen("one"))
        assert (site.bridge.descriptors(), site.bridge.threads()) == before


def freeze(site: House, fault: str) -> None:
    if fault == "stop":
        site.broker.send(signal.SIGSTOP)
    else:
        site.proxy.mode = fault


def thaw(site: House, fault: str) -> None:
    site.broker.send(signal.SIGCONT)
    if fault == "drop-answers":
        site.proxy.cut()
    site.proxy.resume()


def a_frozen_broker_is_given_up(site: House, fault: str, away: float) -> float:
    """Let the fault happen once, check everything about it, and return the recovery time."""
    memory, descriptors, threads = site.bridge.memory_kib(), site.bridge.descriptors(), site.bridge.threads()
    given_up = site.bridge.log().count("next attempt")
    began, processor = time.monotonic(), site.bridge.cpu_seconds()
    watch = Stopwatch(site.bridge.pid)
    freeze(site, fault)
    limit = 1.5 * KEEPALIVE + 5
    await_true(lambda: site.bridge.log().count("next attempt") > given_up, limit, "the broker is given up")
    assert watch.seconds() <= limit
    pause(away)
    used = site.bridge.cpu_seconds() - processor
    assert used < 0.4 * (time.monotonic() - began), "spins while the broker is silent"
    assert site.bridge.memory_kib() - memory < MEMORY_GROWTH_KIB
    watch = Stopwatch(site.bridge.pid)
    back = watch.began
    thaw(site, fault)
    first = site.await_state("one", back, NETWORK_RECOVERY)
    recovery = watch.seconds(first.at)
    assert recovery <= NETWORK_RECOVERY
    pause(0.5)
    for seen in (site.bank(back), site.seen("one", back)):
        assert len([one for one in seen if one.age > MAX_AGE + 0.5]) <= HANDED_OUT, "a burst of old messages"
    assert_young(site.bank(first.at + 0.2))
    assert site.bridge.descriptors() <= descriptors
    assert site.bridge.threads() <= threads
    return recovery


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Future[float]]:
    """Rows A3 and A4 side by side: they mostly wait."""
    folder = tmp_path_factory.mktemp("frozen")
    with ThreadPoolExecutor(4) as pool:
        return {fault: pool.submit(a_silent_link, folder / fault, fault) for fault in ("stop", *BLACK_HOLES)}


BLACK_HOLES = ("hang", "hang-answers", "drop-answers")


def a_silent_link(folder: Path, fault: str) -> float:
    """Return the seconds of recovery."""
    folder.mkdir()
    with house(folder, {"one": {"bank": BANK}, "big": {"padding": 100_000}}) as site:
        site.await_up()
        pause(0.5)
        with site.keeps_rate("one"):
            recovery = a_frozen_broker_is_given_up(site, fault, 1.0 if fault == "stop" else 0.5)
        await_true(lambda: site.recorder.on(f"{BASE}/status")[-1].payload == b"online", 3, "our will is put right")
        if fault != "stop":  # what a frozen broker took in before it is read beside the next connection's
            assert_never_set_back(site.seen("one"))
            assert_never_set_back(site.bank())
        assert f"connected to 127.0.0.1:{site.proxy.port}, MQTT 3.1.1" not in site.bridge.log()
    return recovery


def test_a3_a_broker_that_stops_answering_is_given_up(frozen: dict[str, Future[float]]) -> None:
    note(recovery=frozen["stop"].result())


@pytest.mark.parametrize("fault", BLACK_HOLES)
def test_a4_a_black_hole_is_noticed_and_sets_nothing_back(frozen: dict[str, Future[float]], fault: str) -> None:
    note(recovery=frozen[fault].result())


@pytest.mark.soak
@pytest.mark.parametrize("fault", ["stop", "hang", "hang-answers", "drop-answers"])
def test_a3_a4_many_times_at_random_phase(tmp_path: Path, fault: str) -> None:
    with house(tmp_path, {"one": {"bank": BANK}, "big": {"padding": 100_000}}) as site:
        site.await_up()
        worst = 0.0
        for number in range(REPEATS):
            pause(1.0 + number * 0.037)
            with site.keeps_rate("one"):
                worst = max(worst, a_frozen_broker_is_given_up(site, fault, 0.5))
        print(f"{fault}: worst recovery {worst:.1f} s in {REPEATS}")
        assert worst <= NETWORK_RECOVERY


def test_a5_over_a_slow_link_the_newest_state_wins_and_the_device_is_read_on(tmp_path: Path) -> None:
    limit = 4.5  # without holding back, the last message would be 6 s old
    options = {"bank": BANK, "max_age": limit}
    with house(tmp_path, {"one": options, "two": {"padding": 150, "max_age": limit}}, mqtt={"keepalive": 15}) as site:
        site.await_up()
        pause(0.5)
        memory = site.bridge.memory_kib()
        with site.keeps_rate("one", "two"):  # and not the link's pace, a few messages a second
            site.proxy.chunk, site.proxy.bytes_per_second = 50, 1000.0
            slow = time.monotonic()
            pause(8)
            seen = site.seen("one", slow)
            assert len(seen) >= 4, "hardly anything comes through"
            assert_young(seen, limit)
            assert_young(site.bank(slow), limit)
            assert_never_set_back(seen)
            assert site.bridge.memory_kib() - memory < MEMORY_GROWTH_KIB
            back = time.monotonic()
            site.proxy.resume()
        site.await_state("one", back, NETWORK_RECOVERY)
        assert "next attempt" not in site.bridge.log(), "a slow link was taken for a dead one"


def test_a8_a_broker_that_lost_its_retained_messages_gets_them_all_again(tmp_path: Path) -> None:
    lines = f"allow_anonymous true\npersistence true\npersistence_location {tmp_path}/broker/"
    with house(tmp_path, {"one": {"parts": 3}}, broker_lines=lines, prelude=QUICK) as site:
        site.await_up()
        parts = [f"{BASE}/one/part{n}/{leaf}" for n in range(3) for leaf in ("state", "availability")]
        announced = [f"{DISCOVERY}/sb_one_part{n}/config" for n in range(3)]
        for topic in [*parts, *announced]:
            site.recorder.wait(topic)
        site.say("one", "silent")  # nothing new is read: what comes back comes from the bridge's memory
        await_true(lambda: "trying again" in site.bridge.log() or "offline" in site.bridge.log(), 10, "silence noticed")
        site.broker.stop()
        (tmp_path / "broker" / "mosquitto.db").unlink()
        site.broker.start()
        back = Stopwatch(site.bridge.pid)
        with Recorder(site.broker.port) as other:
            lasting = [topic for topic in [*RETAINED, *parts, *announced] if not topic.endswith("/state")]
            for topic in lasting:
                other.wait(topic, seconds=NETWORK_RECOVERY)
            note(recovery=back.seconds())
            assert back.seconds() <= NETWORK_RECOVERY
        site.say("one", "ok")
        site.recorder.forget()
        site.recorder.wait(f"{BASE}/one/availability", lambda m: m.payload == b"online")
        assert_all_retained_topics_are_back(site.broker.port)


RESOLVER = """
import os, socket
_real = socket.getaddrinfo
def _from_file(host, *rest, **more):
    if host != "broker.test":
        return _real(host, *rest, **more)
    try:
        address = open(os.environ["RESOLVER"]).read()
    except OSError:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return _real(address, *rest, **more)
socket.getaddrinfo = _from_file
"""
"""A resolver of our own is not to be had without root, so the process' own look-up reads a file."""


def test_a11_a_name_is_resolved_again_at_each_attempt(tmp_path: Path) -> None:
    names = tmp_path / "names"
    with house(tmp_path, mqtt={"host": "broker.test"}, prelude=RESOLVER, environ={"RESOLVER": str(names)}) as site:
        site.await_log("the name 'broker.test' does not resolve")
        names.write_text("127.0.0.1")
        back = time.monotonic()
        site.await_state("one", back, NETWORK_RECOVERY)
        # the broker moves: at the old address nobody answers, at the new one the same port is another proxy's
        with Proxy(site.broker.port, site.proxy.port, address="127.0.0.2"):
            site.proxy.refuse()
            names.write_text("127.0.0.2")
            site.await_state("one", time.monotonic(), NETWORK_RECOVERY)
            assert site.bridge.log().count("does not resolve") == 1
