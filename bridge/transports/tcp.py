"""TCP: a client, and a listener that serves one caller at a time.

What is open is an ordinary descriptor link. A dead peer is found by keep-alive, an unread request by its time-out.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum

from bridge.errors import LinkError, Stopped
from bridge.transports.base import DescriptorLink, Stop

CONNECTING = 10.0
"""Seconds for the name and the handshake together."""
QUIET = 90.0
"""Seconds after which a caller that sends nothing gives way to a new one from another address."""

DEAF = 1.0
"""Seconds for which nobody listens for a caller whom there was no room to let in, while another is served."""

_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""With these a caller cannot be let in and stays at the door, so waiting for him would end at once, on and on."""

_OPTIONS = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 50),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 5),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000),
)


class Failure(Enum):
    """Why a connection could not be made, in words."""

    NAME = "the name does not resolve"
    REFUSED = "refused, nothing listens on that port"
    UNREACHABLE = "unreachable"
    RESET = "reset at once"


class ConnectError(LinkError):
    """No connection; `failure` says why."""

    def __init__(self, where: str, failure: Failure, detail: str = "") -> None:
        super().__init__(f"{where}: {failure.value}" + (f" ({detail})" if detail else ""))
        self.failure = failure


def open_tcp(host: str, port: int, stop: Stop) -> DescriptorLink:
    """Connect within CONNECTING seconds, to the first address of the name that answers.

    Raises ConnectError with the exact reason, Stopped when the program stops.
    """
    where, deadline = f"{host}:{port}", time.monotonic() + CONNECTING
    failed = ConnectError(where, Failure.NAME)
    addresses = _resolve(host, port, where, deadline, stop)
    for number, (family, address) in enumerate(addresses):
        now = time.monotonic()
        share = (deadline - now) / (len(addresses) - number)  # else one that is silent would leave the others no time
        try:
            return DescriptorLink(_connect(family, address, now + share, stop), where, stop)
        except OSError as err:
            failed = _failure(where, err)
    raise failed


def _failure(where: str, err: OSError) -> ConnectError:
    if err.errno == errno.ECONNREFUSED:
        return ConnectError(where, Failure.REFUSED)
    if err.errno == errno.ECONNRESET:
        return ConnectError(where, Failure.RESET)
    return ConnectError(where, Failure.UNREACHABLE, os.strerror(err.errno or errno.ETIMEDOUT))


def _resolve(host: str, port: int, where: str, deadline: float, stop: Stop) -> list[tuple[int, tuple[str, int]]]:
    """Return families and addresses. Raises ConnectError, Stopped.

    The system's resolver cannot be hurried: a name that is no address is looked up in a thread of its own,
    which ends by itself.
    """
    with suppress(OSError, UnicodeError):  # what cannot be a name at all is no OSError
        return _addresses(host, port, socket.AI_NUMERICHOST)
    found: list[tuple[int, tuple[str, int]]] = []
    done = threading.Event()

    def look_up() -> None:
        with suppress(OSError, UnicodeError):
            found.extend(_addresses(host, port))
        done.set()

    threading.Thread(target=look_up, name=f"resolve {host}"[:40], daemon=True).start()
    while not done.wait(0.02) and time.monotonic() < deadline:
        if stop.is_set():
            raise Stopped
    if not done.is_set() or not found:
        raise ConnectError(where, Failure.NAME)
    return found


def _addresses(host: str, port: int, flags: int = 0) -> list[tuple[int, tuple[str, int]]]:
    known = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return [(family, address) for family, _, _, _, address in known]  # type: ignore[misc]  # IPv6 has two more


def _connect(family: int, address: tuple[str, int], deadline: float, stop: Stop) -> int:
    """Return the descriptor of a new connection. Raises OSError, Stopped."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        code = sock.connect_ex(address)
        if code == errno.EINPROGRESS:
            poller = select.poll()
            poller.register(sock, select.POLLOUT)
            poller.register(stop.fileno(), select.POLLIN)
            ready = poller.poll(max(0.0, deadline - time.monotonic()) * 1000)
            if stop.is_set():
                raise Stopped
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if ready else errno.ETIMEDOUT
        if code:
            raise OSError(code, os.strerror(code))
        _prepare(sock)
    except (OSError, Stopped):
        sock.close()
        raise
    return sock.detach()


def _prepare(sock: socket.socket) -> None:
    sock.setblocking(False)
    for level, name, value in _OPTIONS:
        sock.setsockopt(level, name, value)


class Listener:
    """Waits for a device that connects to us, and serves one at a time.

    `source` is the only address whose connections are taken, None for any. `strange` is told about others.
    A newer connection takes the place of an older one from the same address, since a device that restarted
    never said goodbye, and of one that has been quiet for QUIET seconds.
    """

    def __init__(self, port: int, address: str, source: str | None, stop: Stop, strange: Callable[[str], None]) -> None:
        self.name = f"port {port}"
        self._source = source
        self._stop = stop
        self._strange = strange
        self._next: tuple[socket.socket, str] | None = None
        try:
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        except OSError as err:
            raise LinkError(f"{self.name}: cannot listen ({os.strerror(err.errno or 0)})") from err
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((address, port))
            self._socket.listen(4)
            self._socket.setblocking(False)
        except OSError as err:
            self._socket.close()
            raise LinkError(f"{self.name}: cannot listen ({os.strerror(err.errno or 0)})") from err

    def accept(self, deadline: float) -> DescriptorLink:
        """Return the link of the next caller. Raises LinkError when none comes, Stopped."""
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        poller.register(self._stop.fileno(), select.POLLIN)
        while True:
            caller = self._next or self.newcomer()
            if caller is not None:
                self._next = None
                return _Called(caller[0].detach(), caller[1], self, self._stop)
            left = deadline - time.monotonic()
            if left <= 0:
                raise LinkError(f"{self.name}: nothing has connected to it yet")
            poller.poll(left * 1000)
            if self._stop.is_set():
                raise Stopped

    def newcomer(self) -> tuple[socket.socket, str] | None:
        """Return a waiting connection that may be taken, and where it comes from; others are ended.

        Raises LinkError when there is no room for one.
        """
        while True:
            try:
                sock, (address, *_) = self._socket.accept()
            except OSError as err:
                if err.errno in _NO_ROOM:
                    raise LinkError(f"{self.name}: cannot let anybody in ({os.strerror(err.errno)})") from err
                return None  # nobody there, or gone again
            if self._source is not None and address != self._source:
                self._strange(address)
                sock.close()
                continue
            try:
                _prepare(sock)
            except OSError:
                sock.close()
                continue
            return sock, address

    def keep(self, caller: tuple[socket.socket, str]) -> None:
        """Let the next `accept` return this connection."""
        self._next = caller

    def turn_away(self, caller: tuple[socket.socket, str]) -> None:
        """End a connection that cannot be served beside another."""
        self._strange(caller[1])
        caller[0].close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        """Listen no more."""
        if self._next is not None:
            self._next[0].close()
            self._next = None
        self._socket.close()


class _Called(DescriptorLink):
    """The connection being served. Looks for newer ones beside reading, and gives way to the right one.

    Raises LinkError, with `fd` closed, when no descriptor is left for it.
    """

    def __init__(self, fd: int, address: str, listener: Listener, stop: Stop) -> None:
        super().__init__(fd, f"{address} on {listener.name}", stop)
        self._address = address
        self._listener = listener
        self._heard_at = time.monotonic()
        self._deaf_until = 0.0
        self._readable.register(listener.fileno(), select.POLLIN)
        try:
            self._both = select.epoll()
            self._both.register(fd, select.EPOLLIN)
            self._both.register(listener.fileno(), select.EPOLLIN)
        except OSError as err:
            super().close()
            raise self._gone(err) from err

    def fileno(self) -> int | None:
        return self._both.fileno()

    def close(self) -> None:
        self._both.close()
        super().close()

    def _take(self) -> bytes | None:
        data = super()._take()
        now = time.monotonic()
        if data is not None:
            self._heard_at = now
            return data
        caller = self._newcomer(now)
        if caller is None:
            return None
        if caller[1] != self._address and now - self._heard_at < QUIET:
            self._listener.turn_away(caller)
            return None
        self._listener.keep(caller)
        raise LinkError(f"{self._name}: a newer connection took its place")

    def _newcomer(self, now: float) -> tuple[socket.socket, str] | None:
        """Return who else calls. Where there is no room for him he stays at the door and must not wake us on and on."""
        if now < self._deaf_until:
            return None
        if self._deaf_until:
            self._deaf_until = 0.0
            self._readable.register(self._listener.fileno(), select.POLLIN)
            self._both.register(self._listener.fileno(), select.EPOLLIN)
        try:
            return self._listener.newcomer()
        except LinkError:
            self._deaf_until = now + DEAF
            self._readable.unregister(self._listener.fileno())
            self._both.unregister(self._listener.fileno())
            return None
