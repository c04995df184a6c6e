"""TCP and UDP links on 127.0.0.1: reasons in plain words, prompt stops, one caller at a time, pinned sources."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from bridge.errors import LinkError, Stopped
from bridge.transports import tcp
from bridge.transports.base import Stop
from bridge.transports.tcp import ConnectError, Failure, Listener, open_tcp
from bridge.transports.udp import DatagramLink, open_udp
from tests.harness import await_true, free_port, no_descriptors


@pytest.fixture
def stop() -> Stop:
    return Stop()


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as one:
        one.settimeout(5)
        yield one


def soon() -> float:
    return time.monotonic() + 5


# -- the client


def test_a_client_sends_and_receives(server: socket.socket, stop: Stop) -> None:
    link = open_tcp("127.0.0.1", server.getsockname()[1], stop)
    far, _ = server.accept()
    with far:
        link.write(b"question", soon())
        assert far.recv(100) == b"question"
        far.sendall(b"answer")
        assert link.read(soon()) == b"answer"
        assert link.read(time.monotonic()) == b""
        far.close()
        with pytest.raises(LinkError, match="closed by the other side"):
            link.read(soon())
    link.close()
    link.close()


def test_a_name_is_resolved(server: socket.socket, stop: Stop) -> None:
    open_tcp("localhost", server.getsockname()[1], stop).close()


def test_small_requests_leave_at_once_and_a_dead_peer_is_noticed(server: socket.socket, stop: Stop) -> None:
    link = open_tcp("127.0.0.1", server.getsockname()[1], stop)
    with socket.socket(fileno=link.fileno()) as sock:
        for level, name, value in tcp._OPTIONS:
            assert sock.getsockopt(level, name) == value
        sock.detach()
    link.close()


def test_a_refused_connection_says_so(stop: Stop) -> None:
    with pytest.raises(ConnectError, match="refused, nothing listens on that port") as caught:
        open_tcp("127.0.0.1", free_port(), stop)
    assert caught.value.failure is Failure.REFUSED


def test_a_name_that_does_not_exist_says_so(stop: Stop) -> None:
    with pytest.raises(ConnectError, match="the name does not resolve") as caught:
        open_tcp("no-such-host.invalid", 8000, stop)
    assert caught.value.failure is Failure.NAME


@pytest.mark.parametrize("host", ["a" * 300, "\udcff", "a..b", "-"])
def test_a_name_that_cannot_be_one_says_so(host: str, stop: Stop) -> None:
    with pytest.raises(ConnectError):
        open_tcp(host, 8000, stop)


def test_an_address_out_of_reach_says_so(stop: Stop) -> None:
    with pytest.raises(ConnectError, match="unreachable") as caught:
        open_tcp("255.255.255.255", 8000, stop)
    assert caught.value.failure is Failure.UNREACHABLE


def test_a_handshake_ends_at_its_deadline_or_when_the_program_stops(
    stop: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a full backlog answers no further handshake
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        try:
            for sock in waiting:
                sock.setblocking(False)
                sock.connect_ex(("127.0.0.1", port))
            monkeypatch.setattr(tcp, "CONNECTING", 0.2)
            with pytest.raises(ConnectError, match="timed out"):
                open_tcp("127.0.0.1", port, stop)
            monkeypatch.setattr(tcp, "CONNECTING", 60.0)
            threading.Timer(0.1, stop.set).start()
            with pytest.raises(Stopped):
                open_tcp("127.0.0.1", port, stop)
        finally:
            for sock in waiting:
                sock.close()


def test_a_silent_address_leaves_time_for_the_next_one(stop: Stop, monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = [(socket.AF_INET, (f"127.0.0.{number}", 8000)) for number in (1, 2)]
    given: list[float] = []

    def silence(_family: int, _address: object, deadline: float, _stop: Stop) -> int:  # on loopback none can be silent
        given.append(deadline - time.monotonic())
        time.sleep(max(0.0, given[-1]))
        raise TimeoutError(errno.ETIMEDOUT, "timed out")

    monkeypatch.setattr(tcp, "CONNECTING", 0.6)
    monkeypatch.setattr(tcp, "_addresses", lambda *_: addresses)
    monkeypatch.setattr(tcp, "_connect", silence)
    with pytest.raises(ConnectError, match="timed out"):
        open_tcp("stick.lan", 8000, stop)
    assert given == [pytest.approx(0.3, abs=0.1)] * 2


# -- the listener


class Door:
    def __init__(self, stop: Stop, source: str | None = None) -> None:
        self.port = free_port()
        self.strangers: list[str] = []
        self.listener = Listener(self.port, "127.0.0.1", source, stop, self.strangers.append)

    def call(self, source: str = "127.0.0.1") -> socket.socket:
        sock = socket.socket()
        sock.bind((source, 0))
        sock.connect(("127.0.0.1", self.port))
        sock.settimeout(5)
        return sock


@pytest.fixture
def door(stop: Stop) -> Iterator[Door]:
    one = Door(stop)
    yield one
    one.listener.close()


def test_a_caller_is_served(door: Door) -> None:
    with door.call() as caller:
        link = door.listener.accept(soon())
        caller.sendall(b"frame")
        assert link.read(soon()) == b"frame"
        link.close()


def test_nobody_calls(door: Door, stop: Stop) -> None:
    with pytest.raises(LinkError, match="nothing has connected"):
        door.listener.accept(time.monotonic() + 0.05)
    stop.set()
    with pytest.raises(Stopped):
        door.listener.accept(soon())


def test_a_port_that_is_taken_says_so(door: Door, stop: Stop) -> None:
    with pytest.raises(LinkError, match="cannot listen"):
        Listener(door.port, "127.0.0.1", None, stop, print)


def test_a_newer_call_from_the_same_address_takes_over(door: Door) -> None:
    with door.call():
        link = door.listener.accept(soon())
        with door.call() as newer:
            with pytest.raises(LinkError, match="a newer connection took its place"):
                link.read(soon())
            link.close()
            link = door.listener.accept(soon())
            newer.sendall(b"new")
            assert link.read(soon()) == b"new"
            link.close()


def test_a_call_from_elsewhere_does_not_take_over_while_the_line_is_in_use(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    with door.call() as first:
        link = door.listener.accept(soon())
        with door.call("127.0.0.2") as other:
            first.sendall(b"still here")
            assert link.read(soon()) == b"still here"
            assert link.read(time.monotonic() + 0.2) == b""
            assert other.recv(10) == b"", "turned away"
        assert door.strangers == ["127.0.0.2"]
        monkeypatch.setattr(tcp, "QUIET", 0.0)
        with door.call("127.0.0.2"), pytest.raises(LinkError, match="took its place"):
            link.read(soon())
        link.close()


def test_only_the_configured_address_is_let_in(stop: Stop) -> None:
    door = Door(stop, "127.0.0.1")
    with door.call("127.0.0.3") as stranger, door.call() as right:
        link = door.listener.accept(soon())
        right.sendall(b"x")
        assert link.read(soon()) == b"x"
        assert stranger.recv(10) == b""
        assert door.strangers == ["127.0.0.3"]
        link.close()
    door.listener.close()


def test_the_descriptor_is_readable_for_bytes_and_for_a_newcomer(door: Door) -> None:
    import select

    with door.call() as caller:
        link = door.listener.accept(soon())
        fd = link.fileno()
        assert fd is not None
        assert select.select([fd], [], [], 0)[0] == []
        caller.sendall(b"x")
        assert select.select([fd], [], [], 5)[0]
        link.read(soon())
        with door.call():
            assert select.select([fd], [], [], 5)[0]
        link.close()


def test_d11_without_descriptors_a_caller_is_not_waited_for_in_a_circle_and_none_is_lost(door: Door) -> None:
    with door.call() as caller:
        time.sleep(0.1)  # the handshake is over
        open_before = len(os.listdir("/proc/self/fd"))
        worked = time.process_time()
        with no_descriptors(), pytest.raises(LinkError, match=r"cannot let anybody in \(Too many open files\)"):
            door.listener.accept(soon())
        assert time.process_time() - worked < 0.5
        with no_descriptors(but=1), pytest.raises(LinkError, match="Too many open files"):
            door.listener.accept(soon())
        assert len(os.listdir("/proc/self/fd")) == open_before
        assert caller.recv(1) == b"", "he is told, and may call again"
    with door.call() as caller:
        link = door.listener.accept(soon())
        caller.sendall(b"x")
        assert link.read(soon()) == b"x"
        link.close()


def test_d11_without_descriptors_who_is_served_stays_and_a_caller_waits(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp, "DEAF", 0.2)
    with door.call() as served, socket.socket() as other:
        other.bind(("127.0.0.2", 0))
        link = door.listener.accept(soon())
        with no_descriptors():
            other.connect(("127.0.0.1", door.port))
            worked = time.process_time()
            assert link.read(time.monotonic() + 0.7) == b""
            assert time.process_time() - worked < 0.3, "he wakes us on and on"
            served.sendall(b"frame")
            assert link.read(soon()) == b"frame"
        assert link.read(time.monotonic() + 0.4) == b""
        other.settimeout(5)
        assert other.recv(1) == b"", "turned away once there is room"
        assert door.strangers == ["127.0.0.2"]
        link.close()


def test_d11_without_descriptors_nothing_listens_and_it_says_so(stop: Stop) -> None:
    with no_descriptors(), pytest.raises(LinkError, match=r"cannot listen \(Too many open files\)"):
        Listener(1, "127.0.0.1", None, stop, print)
    with no_descriptors(), pytest.raises(LinkError, match=r"cannot listen \(Too many open files\)"):
        open_udp(1, "127.0.0.1", None, stop, print)


# -- datagrams


@pytest.fixture
def datagrams(stop: Stop) -> Iterator[tuple[DatagramLink, list[str]]]:
    strangers: list[str] = []
    link = open_udp(free_port(), "127.0.0.1", None, stop, strangers.append)
    yield link, strangers
    link.close()
    link.close()


def send(link: DatagramLink, data: bytes, source: str = "127.0.0.1") -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((source, 0))
        sock.sendto(data, link._socket.getsockname())


def test_each_read_is_one_datagram(datagrams: tuple[DatagramLink, list[str]]) -> None:
    link, _ = datagrams
    send(link, b"one")
    send(link, b"two")
    assert link.read(soon()) == b"one"
    assert link.read(soon()) == b"two"
    assert link.read(time.monotonic()) == b""


def test_once_pinned_nobody_else_is_heard(datagrams: tuple[DatagramLink, list[str]]) -> None:
    link, strangers = datagrams
    send(link, b"ours")
    assert link.read(soon()) == b"ours"
    link.pin()
    send(link, b"forged", "127.0.0.2")
    send(link, b"ours again")
    assert link.read(soon()) == b"ours again"
    assert strangers == ["127.0.0.2"]


def test_nothing_can_be_sent(datagrams: tuple[DatagramLink, list[str]]) -> None:
    with pytest.raises(LinkError, match="for reading only"):
        datagrams[0].write(b"x", soon())


def test_a_flood_of_strangers_does_not_hold_the_reader(stop: Stop) -> None:
    strangers: list[str] = []
    link = open_udp(free_port(), "127.0.0.1", "127.0.0.9", stop, strangers.append)
    for _ in range(300):
        send(link, b"x", "127.0.0.2")
    assert link.read(time.monotonic()) == b""
    assert len(strangers) <= 256
    await_true(lambda: link.read(time.monotonic()) == b"" and len(strangers) >= 200, 5, "the rest is thrown away")
    link.close()
