"""The sockets of a simulated datalogger: it listens, dials out and broadcasts; only its own thread touches them."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections import deque
from dataclasses import dataclass, field

from bridge.simulators.lxp_faults import LxpFaults

Address = tuple[str, int]
ROOM = 1 << 18
"""Bytes that may wait for a peer; one that lets more gather is dropped."""
TURN_AWAY = 0.02
"""Seconds after which a connection that is not wanted is reset; at once, connect() itself would fail now and then."""


@dataclass(eq=False, slots=True)
class Peer:
    """One TCP connection. `dialled` tells who made it."""

    sock: socket.socket
    dialled: bool
    received: bytearray = field(default_factory=bytearray)
    waiting: bytearray = field(default_factory=bytearray)
    heartbeat: bytes = b""
    """The last one it was sent."""
    pending: bool = False
    """It has not sent the last one back yet."""
    answered: bool = False
    """It sends heartbeats back."""


class Ports:
    """A TCP listener (`port` 0: any free one, None: none), an outgoing connection, a UDP target.

    `most` is how many clients the listener serves, None for any number; `newest_wins` tells who goes when one
    more comes: the oldest, or the new one. All may be changed at any time, as may `dial` and `udp`.
    """

    def __init__(
        self, host: str, port: int | None, dial: Address | None, udp: Address | None, faults: LxpFaults
    ) -> None:
        self.host = host
        self.port = port
        self.dial = dial
        self.dial_pause = 5.0
        self.udp = udp
        self.most: int | None = None
        self.newest_wins = True
        self.peers: list[Peer] = []
        self.accepted = 0
        """How many connections there were so far, in either direction."""
        self.kicked = 0
        """How many of them the client limit ended."""
        self.fresh: deque[Peer] = deque()
        """New connections that nobody has greeted yet."""
        self._faults = faults
        self._listener: socket.socket | None = None
        self._dialling: socket.socket | None = None
        self._dial_at = 0.0
        self._datagrams: socket.socket | None = None
        self._unwanted: deque[tuple[float, socket.socket]] = deque()

    def open(self) -> None:
        """Open what is wanted. Raises OSError for a port that is taken."""
        self._dial_at = 0.0
        if self.port is not None:
            self._listen()

    def close(self) -> None:
        for sock in (self._listener, self._dialling, self._datagrams):
            if sock is not None:
                sock.close()
        self._listener = self._dialling = self._datagrams = None
        while self._unwanted:
            _end(self._unwanted.popleft()[1], True)
        for peer in list(self.peers):
            self.drop(peer)
        self.fresh.clear()

    def step(self, wake: int, until: float) -> list[Peer]:
        """Wait for something to do until that time or for `wake`; return who sent something."""
        if self._faults.hang:
            select.select([wake], [], [], max(0.0, until - time.monotonic()))
            return []
        self._keep_up()
        readers: list[socket.socket | int] = [wake, *(peer.sock for peer in self.peers)]
        readers += [self._listener] if self._listener else []
        writers = [peer.sock for peer in self.peers if peer.waiting]
        writers += [self._dialling] if self._dialling else []
        if self.dial is not None and self._dial_at > time.monotonic():
            until = min(until, self._dial_at)
        if self._unwanted:
            until = min(until, self._unwanted[0][0])
        # select and not poll: poll counts whole milliseconds
        ready, free, _ = select.select(readers, writers, [], max(0.0, until - time.monotonic()))
        if self._dialling in free:
            self._dialled()
        for peer in [peer for peer in self.peers if peer.sock in free]:
            self._flush(peer)
        senders = [peer for peer in list(self.peers) if peer.sock in ready and self._receive(peer)]
        if self._listener in ready:
            self._accept()
        return senders

    def send(self, peer: Peer, data: bytes) -> None:
        """Give bytes to a peer, now as far as it takes them; nothing when it is gone."""
        if peer in self.peers:
            peer.waiting += data
            self._flush(peer)
            if len(peer.waiting) > ROOM:
                self.drop(peer)

    def datagram(self, data: bytes, source: str | None = None) -> None:
        """Send one datagram to the UDP target, from another local address when given."""
        if self.udp is None:
            return
        if source is not None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.bind((source, 0))
                other.sendto(data, self.udp)
            return
        if self._datagrams is None:
            self._datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._datagrams.bind((self.host, 0))
        # an earlier one may have found nobody there; a broadcaster does not mind
        with contextlib.suppress(ConnectionError):
            self._datagrams.sendto(data, self.udp)

    def drop(self, peer: Peer, reset: bool = False) -> None:
        """End a connection, with FIN or with RST; harmless when it has ended."""
        if peer not in self.peers:
            return
        self.peers.remove(peer)
        if peer.dialled:
            self._dial_at = time.monotonic() + self.dial_pause
        _end(peer.sock, reset)

    def _keep_up(self) -> None:
        """Bring listener and outgoing connection in line with the knobs."""
        if self._listener is not None and self._faults.refuse:
            self._listener.close()
            self._listener = None
        elif self._listener is None and self.port is not None and not self._faults.refuse:
            # somebody else may have the port by now: try again at the next step
            with contextlib.suppress(OSError):
                self._listen()
        while self._unwanted and self._unwanted[0][0] <= time.monotonic():
            _end(self._unwanted.popleft()[1], True)
        busy = self._dialling is not None or any(peer.dialled for peer in self.peers)
        if self.dial is not None and not busy and time.monotonic() >= self._dial_at:
            self._call()

    def _listen(self) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((self.host, self.port or 0))
            sock.listen(8)
            sock.setblocking(False)
        except OSError:
            sock.close()
            raise
        self.port = sock.getsockname()[1]
        self._listener = sock

    def _accept(self) -> None:
        if self._listener is None:
            return
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        served = [peer for peer in self.peers if not peer.dialled]
        full = self.most is not None and len(served) >= self.most
        if self._faults.reset_at_once or (full and not self.newest_wins):
            self.kicked += full
            self._unwanted.append((time.monotonic() + TURN_AWAY, sock))
            return
        for oldest in served[: len(served) + 1 - self.most] if self.most is not None and full else ():
            self.kicked += 1
            self.drop(oldest)
        self._welcome(Peer(sock, False))

    def _call(self) -> None:
        """Begin to connect to whoever listens for the stick."""
        if self.dial is None:
            return
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.connect_ex(self.dial)
        self._dialling = sock

    def _dialled(self) -> None:
        sock, self._dialling = self._dialling, None
        if sock is None:
            return
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            sock.close()
            self._dial_at = time.monotonic() + self.dial_pause
            return
        self._welcome(Peer(sock, True))

    def _welcome(self, peer: Peer) -> None:
        peer.sock.setblocking(False)
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.peers.append(peer)
        self.fresh.append(peer)
        self.accepted += 1

    def _receive(self, peer: Peer) -> bool:
        try:
            data = peer.sock.recv(4096)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.drop(peer)
            return False
        peer.received += data
        return True

    def _flush(self, peer: Peer) -> None:
        try:
            while peer.waiting:
                del peer.waiting[: peer.sock.send(peer.waiting)]
        except BlockingIOError:
            return
        except OSError:
            self.drop(peer)


def _end(sock: socket.socket, reset: bool) -> None:
    with contextlib.suppress(OSError):
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            # bytes that nobody read would turn the FIN into an RST
            while sock.recv(4096, socket.MSG_DONTWAIT):
                pass
    sock.close()
