"""The broker connection, alone in a thread: against a real mosquitto, amqtt, and a server that breaks the rules."""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from bridge.config import Mqtt
from bridge.sinks import broker as broker_module
from bridge.sinks import session as session_module
from bridge.sinks.broker import MOST_DENIED, MOST_IN_WINDOW, YOUNG, Broker, installation_id
from bridge.sinks.outbox import Message
from bridge.sinks.session import ARRIVED, Arrived
from tests.harness import Mosquitto, Proxy, Recorder, await_true, free_port
from tests.shared import REPOSITORY


class Running:
    """A Broker with its thread, and what it told."""

    def __init__(self, port: int, **options: object) -> None:
        config = Mqtt(host="127.0.0.1", port=port, **{"keepalive": 5, **options})  # type: ignore[arg-type]
        self.arrived: list[Arrived] = []
        self.onlines = 0
        self.broker = Broker(config, "t/status", ["t/in/#"], self._online, self.arrived.append)
        self.thread = threading.Thread(target=self.broker.run)
        self.thread.start()

    def _online(self) -> None:
        self.onlines += 1

    def await_connected(self, seconds: float = 10) -> Running:
        await_true(lambda: self.broker.connected, seconds, "connected")
        return self


@pytest.fixture
def run() -> Iterator[Callable[..., Running]]:
    made: list[Running] = []

    def start(port: int, **options: object) -> Running:
        made.append(Running(port, **options))
        return made[-1]

    yield start
    for one in made:
        one.broker.close([], 0.5)
        one.thread.join(6)
        assert not one.thread.is_alive()


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as one:
        yield one


def memory_kib() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


def test_the_client_id_is_stable_short_and_differs_by_base_topic() -> None:
    assert installation_id("solarbridge") == installation_id("solarbridge")
    assert installation_id("solarbridge") != installation_id("other")
    assert len(installation_id("x" * 500)) <= 23
    assert installation_id("ä/ö").isascii()


def test_under_a_hung_link_only_the_newest_of_each_topic_is_kept(
    mosquitto: Mosquitto, run: Callable[..., Running]
) -> None:
    topics = [f"t/out/{number}" for number in range(100)]
    with Proxy(mosquitto.port) as proxy, Recorder(mosquitto.port, "t/out/#") as recorder:
        one = run(proxy.port, keepalive=60).await_connected()
        proxy.mode = "hang"
        before = memory_kib()
        for number in range(200_000):
            one.broker.publish(Message(topics[number % 100], b"%d:" % number + b"x" * 1000))
        assert memory_kib() - before < 16 * 1024
        assert one.broker.waiting() <= 101
        recorder.forget()
        proxy.cut()
        proxy.resume()
        for number, topic in enumerate(topics):
            newest = b"%d:" % (199_900 + number)
            recorder.wait(topic, lambda m, newest=newest: m.payload.startswith(newest), 8)
        assert len(recorder.messages) < 5000, "the past was sent as well"


def test_an_unacknowledged_message_is_sent_again_on_the_next_connection(
    mosquitto: Mosquitto, run: Callable[..., Running]
) -> None:
    with Proxy(mosquitto.port) as proxy, Recorder(mosquitto.port, "t/out") as recorder:
        one = run(proxy.port).await_connected()
        proxy.mode = "drop-answers"
        one.broker.publish(Message("t/out", b"event", qos=1, event=True))
        recorder.wait("t/out")
        assert one.broker.waiting() == 1
        proxy.cut()
        proxy.resume()
        await_true(lambda: len(recorder.on("t/out")) == 2, 6, "the message comes once more")
        await_true(lambda: one.broker.waiting() == 0, 5, "and is acknowledged then")


@pytest.mark.parametrize(("lines", "most"), [("max_inflight_messages 5", 5), ("max_inflight_messages 0", 32)])
def test_no_more_is_under_way_than_the_broker_takes_at_once(
    tmp_path: Path, run: Callable[..., Running], lines: str, most: int
) -> None:
    # mosquitto tells its receive maximum, and acknowledges too fast for it ever to be exceeded; so its answers are lost
    topics = [f"t/out/{number}" for number in range(40)]
    with (
        Mosquitto(tmp_path / "broker", f"allow_anonymous true\n{lines}") as mosquitto,
        Proxy(mosquitto.port) as proxy,
        Recorder(mosquitto.port, "t/out/#") as recorder,
    ):
        one = run(proxy.port, keepalive=60).await_connected()
        proxy.mode = "drop-answers"
        for topic in topics:
            one.broker.publish(Message(topic, b"event", qos=1, event=True))
        recorder.wait(topics[most - 1])
        time.sleep(0.3)  # what must not come has the time to
        assert [m.topic for m in recorder.messages] == topics[:most]
        recorder.forget()
        proxy.cut()
        proxy.resume()
        recorder.wait(topics[-1])
        await_true(lambda: one.broker.waiting() == 0, 5, "all is acknowledged")
        assert [m.topic for m in recorder.messages] == topics


def test_a_state_that_may_have_arrived_is_not_sent_again_behind_newer_ones(
    mosquitto: Mosquitto, run: Callable[..., Running]
) -> None:
    with Proxy(mosquitto.port) as proxy, Recorder(mosquitto.port, "t/out") as recorder:
        one = run(proxy.port).await_connected()
        proxy.mode = "drop-answers"
        for number in range(3):
            one.broker.publish(Message("t/out", b"%d" % number))
        recorder.wait_payload("t/out", b"2")
        proxy.cut()
        proxy.resume()
        await_true(lambda: one.broker.connects == 2, 6, "connected again")
        one.broker.publish(Message("t/out", b"3"))
        recorder.wait_payload("t/out", b"3")
        assert [m.payload for m in recorder.on("t/out")] == [b"0", b"1", b"2", b"3"]


@pytest.mark.parametrize("protocol", [5, "3.1.1"])
def test_the_version_that_is_configured_is_spoken(
    mosquitto: Mosquitto, run: Callable[..., Running], protocol: int | str
) -> None:
    one = run(mosquitto.port, protocol=protocol).await_connected()
    assert one.broker.protocol_name() == str(protocol)
    assert f"as {installation_id('solarbridge')} (p{'5' if protocol == 5 else '2'}, c1" in mosquitto.log()


def test_a_broker_that_speaks_3_1_1_only_is_spoken_to_in_3_1_1(run: Callable[..., Running]) -> None:
    port = free_port()
    command = [sys.executable, "-m", "bridge.tools.brokers", str(port)]
    process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        one = run(port).await_connected(30)
        assert one.broker.protocol_name() == "3.1.1"
        with Recorder(port, "t/out") as recorder:
            one.broker.publish(Message("t/out", b"hello"))
            recorder.wait_payload("t/out", b"hello")
            recorder.client.publish("t/in/x", b"back")
            await_true(lambda: one.arrived, 5, "a message comes in")
    finally:
        process.terminate()
        process.wait(5)


def test_a_broker_that_starts_behind_a_port_forwarder_is_spoken_to_as_configured(
    tmp_path: Path, run: Callable[..., Running]
) -> None:
    port = free_port()
    with Proxy(port) as forwarder:  # takes calls, and ends them while nobody is behind it
        one = run(forwarder.port)
        await_true(lambda: one.broker.ending is not None, 5, "a first attempt in vain")
        assert one.broker.ending is not None
        assert one.broker.ending.kind == "unanswered"
        with Mosquitto(tmp_path / "broker", port=port):
            one.await_connected()
            assert one.broker.protocol_name() == "5"


class OddServer:
    """An MQTT 5 server of a few lines that does what no broker does; `send` says anything to the client."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.published: list[bytes] = []
        self.endings: list[str] = []
        """How each connection ended: "closed" (all was delivered) or "reset" (what was not delivered is dropped)."""
        self.acknowledge = self.alive = True
        self.code = b""
        """What a PUBACK says, nothing for "all is well"."""
        self.subscribing = 0.0
        """Seconds that it takes over a subscription."""
        self.connections: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def send(self, data: bytes) -> None:
        self.connections[-1].sendall(data)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections.append(connection)
                threading.Thread(target=self._serve, args=(connection.makefile("rb"), connection), daemon=True).start()

    def _serve(self, stream: object, connection: socket.socket) -> None:
        self.endings.append("reset")
        with contextlib.suppress(OSError, ValueError, IndexError):
            while head := stream.read(1):  # type: ignore[attr-defined]
                length = shift = 0
                while True:
                    byte = stream.read(1)[0]  # type: ignore[attr-defined]
                    length |= (byte & 0x7F) << shift
                    shift += 7
                    if byte < 0x80:
                        break
                self._answer(head[0], stream.read(length), connection)  # type: ignore[attr-defined]
            self.endings[-1] = "closed"

    def _answer(self, head: int, body: bytes, connection: socket.socket) -> None:
        kind = head >> 4
        if kind == 1:
            connection.sendall(b"\x20\x03\0\0\0")
        elif kind == 8:
            time.sleep(self.subscribing)
            connection.sendall(b"\x90\x04" + body[:2] + b"\0\1")
        elif kind == 10 and self.acknowledge:
            connection.sendall(b"\xb0\x04" + body[:2] + b"\0\x11")
        elif kind == 12 and self.alive:
            connection.sendall(b"\xd0\0")
        elif kind == 3:
            size = struct.unpack_from("!H", body)[0]
            self.published.append(body[2 : 2 + size])
            if head & 0x06 and self.acknowledge:
                connection.sendall(bytes((0x40, 2 + len(self.code))) + body[2 + size : 4 + size] + self.code)


@pytest.fixture
def odd() -> Iterator[OddServer]:
    one = OddServer()
    yield one
    one.close()


def test_whoever_has_greeted_in_mqtt_5_has_the_full_time_for_the_rest(
    odd: OddServer, run: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_module, "FIRST_ANSWER_SECONDS", 0.5)
    odd.subscribing = 1.5
    run(odd.port).await_connected()
    assert len(odd.connections) == 1


def test_a_topic_that_is_no_utf_8_is_dropped_and_the_connection_goes_on(
    odd: OddServer, run: Callable[..., Running]
) -> None:
    one = run(odd.port).await_connected()
    odd.send(b"\x30\x09\x00\x05t/\xff\xfe\x80\0x")
    odd.send(b"\x30\x0a\x00\x06t/in/a\0x")
    await_true(lambda: one.arrived, 5, "the next message")
    assert [m.topic for m in one.arrived] == ["t/in/a"]
    assert one.broker.dropped() == 1
    assert one.broker.connects == 1


@pytest.mark.parametrize(
    "rubbish", [b"\xff" * 50, b"\x40\x03\0\1\x95", b"\0\0", b"\x30\xff\xff\xff\xff\xff", b"\x30\x02\xff\xff"]
)
def test_what_breaks_the_protocol_ends_the_connection_and_not_the_thread(
    odd: OddServer, run: Callable[..., Running], rubbish: bytes
) -> None:
    one = run(odd.port).await_connected()
    odd.send(rubbish)
    odd.connections[-1].shutdown(socket.SHUT_WR)
    await_true(lambda: one.broker.connects == 2, 6, "a new connection")
    assert one.thread.is_alive()


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (0x8E, "taken_over", "is a second bridge running?"),
        (0x93, "too_many", "raise its receive maximum"),
        (0x95, "too_large", "over a message that is too large"),
    ],
)
def test_why_the_broker_ended_the_connection_is_told(
    odd: OddServer, run: Callable[..., Running], caplog: pytest.LogCaptureFixture, code: int, kind: str, words: str
) -> None:
    one = run(odd.port).await_connected()
    odd.send(bytes((0xE0, 1, code)))
    await_true(lambda: one.broker.ending is not None, 5, "an end")
    assert one.broker.ending is not None
    assert one.broker.ending.kind == kind
    assert [record.levelname for record in caplog.records if words in record.message] == ["ERROR"]


@pytest.mark.parametrize("protocol", [5, "3.1.1"])
def test_a_large_message_that_was_received_is_not_blamed_for_a_link_that_breaks_twice(
    mosquitto: Mosquitto, run: Callable[..., Running], protocol: int | str
) -> None:
    with Proxy(mosquitto.port) as proxy, Recorder(mosquitto.port, "t/out/#") as recorder:
        one = run(proxy.port, protocol=protocol).await_connected()
        one.broker.publish(Message("t/out/small", b"x", retain=True))  # the receipt is asked for behind this one
        one.broker.publish(Message("t/out/large", b"x" * 7000, retain=True))
        for connects in (2, 3):
            await_true(lambda: len(recorder.on("t/out/large")[-1:]), 5, "the large one")
            time.sleep(0.3)
            recorder.forget()
            proxy.cut()
            proxy.resume()
            await_true(lambda connects=connects: one.broker.connects == connects, 10, "connected again")
        one.broker.publish(Message("t/out/large", b"y" * 7000, retain=True))
        recorder.wait_payload("t/out/large", b"y" * 7000)
        assert not one.broker.too_large


def test_a_flood_of_messages_is_bounded_and_counted(odd: OddServer, run: Callable[..., Running]) -> None:
    one = run(odd.port).await_connected()
    hold = threading.Event()
    one.broker._on_message = lambda _message: hold.wait(5)  # type: ignore[assignment]  # a reader that is slow
    packet = b"\x30\x0a\x00\x06t/in/a\0x"
    for _ in range(20):
        odd.send(packet * 200)
    hold.set()
    await_true(lambda: one.broker._session is not None and not one.broker._session.arrived, 10, "all is handed out")
    assert one.broker.connects == 1
    assert ARRIVED < 4000


def test_t18_answers_that_the_broker_denies_fill_neither_memory_nor_log(
    odd: OddServer, run: Callable[..., Running], caplog: pytest.LogCaptureFixture
) -> None:
    odd.code = b"\x87"  # not authorized
    one = run(odd.port).await_connected()
    for number in range(200):
        one.broker.publish(Message(f"reply/{number}", b"x", qos=1, event=True))
    await_true(lambda: len(odd.published) == 200 and not one.broker.waiting(), 10, "all are sent")
    await_true(lambda: one.broker.denied, 5, "it is told")
    time.sleep(0.2)
    assert len(one.broker.denied) == MOST_DENIED
    assert sum("does not take our message" in record.message for record in caplog.records) == MOST_DENIED


def noted_floods(one: Running) -> list[bool]:
    """Return what will be known, at each message from here on, of whether it is one of a flood."""
    flooded: list[bool] = []
    one.broker._on_message = lambda _message: flooded.append(one.broker.flooded)
    return flooded


def test_a_message_long_behind_a_flood_is_not_of_it(
    odd: OddServer, run: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_module, "WINDOW", 1.0)  # within which a slow machine reads them all
    one = run(odd.port).await_connected()
    flooded = noted_floods(one)
    time.sleep(YOUNG)
    packet = b"\x30\x0a\x00\x06t/in/a\0x"
    odd.send(packet * MOST_IN_WINDOW)  # a window is just full
    await_true(lambda: len(flooded) == MOST_IN_WINDOW, 10, "all of them")
    assert flooded[-1]
    time.sleep(2.1)
    odd.send(packet)
    await_true(lambda: len(flooded) > MOST_IN_WINDOW, 5, "one more")
    assert not flooded[-1]


def test_what_the_broker_has_to_tell_at_a_new_connection_is_no_flood(
    odd: OddServer, run: Callable[..., Running]
) -> None:
    one = run(odd.port).await_connected()
    flooded = noted_floods(one)
    odd.send(b"\x31\x0a\x00\x06t/in/a\0x" * 2 * MOST_IN_WINDOW)
    await_true(lambda: len(flooded) == 2 * MOST_IN_WINDOW, 10, "all of them")
    assert not any(flooded)


def test_without_receipts_messages_wait_and_a_forgotten_receipt_is_given_up(
    odd: OddServer, run: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "FORGOTTEN", 2.0)
    odd.acknowledge = False
    one = run(odd.port).await_connected()
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        one.broker.publish(Message("t/out", b"x"))
        time.sleep(0.01)
    sent = len(odd.published)
    assert 1 <= sent <= 110, "more than half a second's worth went out without a receipt"
    assert one.broker.waiting() == 1
    # the server answers pings, so it is alive: its forgetting one acknowledgement must not stop us for good
    await_true(lambda: len(odd.published) > sent, 8, "the newest message goes out in the end")
    assert one.broker.connects == 1


def test_an_idle_link_with_a_full_socket_does_not_spin(mosquitto: Mosquitto, run: Callable[..., Running]) -> None:
    with Proxy(mosquitto.port) as proxy:
        one = run(proxy.port, keepalive=30).await_connected()
        proxy.mode = "hang"
        one.broker.publish(Message("t/big", b"x" * 20_000_000))
        await_true(lambda: (s := one.broker._session) is not None and s.client.want_write(), 5, "a full socket")
        one.broker.publish(Message("t/small", b"x"))
        before = time.thread_time(), time.process_time()
        time.sleep(1.0)
        assert time.process_time() - before[1] < 0.3


def test_the_reason_for_no_connection_is_logged_once_and_again_when_it_changes(
    run: Callable[..., Running], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    port = free_port()
    one = run(port)
    await_true(lambda: one.broker.ending is not None, 5, "a refused connection")
    time.sleep(2.2)  # a second attempt is over by then
    assert [r.message for r in caplog.records if "Connection refused" in r.message][1:] == []


@pytest.mark.parametrize("protocol", [5, "3.1.1"])
def test_states_stay_qos_0_for_a_subscriber_that_is_away(
    mosquitto: Mosquitto, run: Callable[..., Running], protocol: int | str
) -> None:
    with Recorder(mosquitto.port, "t/out") as recorder:
        one = run(mosquitto.port, protocol=protocol).await_connected()
        recorder.client.disconnect()
        recorder.client.loop_stop()
        for _ in range(5):
            one.broker.publish(Message("t/out", b"state"))
            time.sleep(0.15)
        one.broker.publish(Message("t/out", b"result", qos=1, event=True))
        await_true(lambda: one.broker.waiting() == 0, 5, "all is acknowledged")
        recorder.client.reconnect()
        recorder.client.loop_start()
        recorder.wait_payload("t/out", b"result")
        assert [m.payload for m in recorder.on("t/out")] == [b"result"], "the broker kept states for later"


def test_what_a_dead_link_did_not_deliver_is_dropped_and_a_goodbye_is_not(
    odd: OddServer, run: Callable[..., Running]
) -> None:
    one = run(odd.port).await_connected()
    odd.acknowledge = odd.alive = False
    one.broker.publish(Message("t/out", b"x"))
    await_true(lambda: one.broker.connects == 2, 12, "given up and connected again")
    await_true(lambda: odd.published == [b"t/out"], 5, "the message came")
    one.broker.close([], 0.5)
    one.thread.join(5)
    await_true(lambda: odd.endings == ["reset", "closed"], 5, f"a reset and a goodbye: {odd.endings}")


@pytest.mark.parametrize("is_5", [True, False])
@pytest.mark.parametrize("size", [0, 100, 121, 122, 16_000, 20_000, 3_000_000])
@pytest.mark.parametrize("retain", [True, False])
def test_a_packet_of_ours_is_the_one_that_the_library_makes(is_5: bool, size: int, retain: bool) -> None:
    session = session_module.Session(Mqtt(host="127.0.0.1"), "c", "5" if is_5 else "3.1.1", "t/status")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        session.client._sock = ours
        session.client._packet_queue = lambda _c, packet, *_: made.append(bytes(packet))  # type: ignore
        made: list[bytes] = []
        session.client.publish("t/ä/state", b"x" * size, 0, retain)
        assert session_module.publish_packet(Message("t/ä/state", b"x" * size, retain=retain), is_5) == made[0]
        session.client._sock = None


def test_a_packet_that_the_socket_takes_in_part_arrives_whole_and_before_the_next(
    mosquitto: Mosquitto, run: Callable[..., Running]
) -> None:
    with Proxy(mosquitto.port) as proxy, Recorder(mosquitto.port, "t/out/#") as recorder:
        running = run(proxy.port).await_connected()
        proxy.mode = "hang"
        payloads = [bytes([65 + number]) * 3_000_000 for number in range(3)]
        for number, payload in enumerate(payloads):
            running.broker.publish(Message(f"t/out/{number}", payload, event=True))
        session = running.broker._session
        assert session is not None
        assert session.client.want_write(), "the socket took it all, so nothing is tried here"
        running.broker.publish(Message("t/out/kept", b"last", qos=1, retain=True))
        proxy.resume()
        recorder.wait_payload("t/out/kept", b"last", 30)
        assert [(m.topic, m.payload) for m in recorder.messages[:3]] == [
            (f"t/out/{number}", payload) for number, payload in enumerate(payloads)
        ]
        assert running.broker.connects == 1


def test_a2_a_broker_whose_machine_is_off_is_found_as_soon_as_one_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing answers there, so an attempt takes its full time: that counts as a part of the pause behind it."""
    begun: list[float] = []

    def swallowed(*_: object) -> None:
        begun.append(time.monotonic())
        if len(begun) == 4:
            one.broker.close([], 0.0)
        time.sleep(1.5)
        raise TimeoutError("timed out")

    monkeypatch.setattr(session_module.Session, "connect", swallowed)
    one = Running(free_port())
    one.thread.join(40)
    assert len(begun) == 4
    gaps = [later - earlier for earlier, later in pairwise(begun)]
    assert max(gaps) < 4.3, "the longest pause, and not that and an attempt"
    assert min(gaps) > 1.5 + 0.7, "and never without any"
