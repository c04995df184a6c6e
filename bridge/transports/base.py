"""What a link offers, the stop signal, and links over any file descriptor.

Every wait ends at a deadline of time.monotonic(), or at once when the program stops.
"""

from __future__ import annotations

import errno
import os
import select
import time
from typing import Protocol

from bridge.errors import LinkError, Stopped
from bridge.wake import Wake

READ_SIZE = 4096
BITS = 10
"""On a serial wire for each byte: 8N1."""
MOVED_AFTER = 2.0
"""Seconds that it takes at least to put a serial cable from one device into another."""

_OPEN_FAILURES = {
    errno.ENOENT: "not there",
    errno.ENOTDIR: "not there",
    errno.ENXIO: "not there",
    errno.ENODEV: "not there",
    errno.EBUSY: "in use by another program",
    errno.EAGAIN: "in use by another program",
    errno.ENOTTY: "not a serial port",
}


def open_failure(name: str, err: BaseException, rights: str) -> LinkError:
    """Return the exact reason why a port cannot be opened; `rights` says how a person gets the right to.

    `err` may be an OSError or one of the errors that only carry a number: termios.error, and pyserial's
    own, whose cause does.
    """
    code = _code_of(err) or _code_of(err.__context__)
    if code in (errno.EACCES, errno.EPERM):
        return LinkError(f"{name}: no right to open it; {rights}")
    return LinkError(f"{name}: {_OPEN_FAILURES.get(code) or os.strerror(code) if code else err}")


def _code_of(err: BaseException | None) -> int | None:
    code = getattr(err, "errno", None) or (err.args[0] if err is not None and err.args else None)
    return code if isinstance(code, int) else None


class Stop:
    """The program's one stop signal: set once, seen by every waiting thread."""

    def __init__(self) -> None:
        self._wake = Wake()
        self._set = False

    def set(self) -> None:
        """Wake everything that waits; safe in a signal handler."""
        self._set = True
        self._wake.set()

    def is_set(self) -> bool:
        return self._set

    def fileno(self) -> int:
        """Readable for good once stop is set."""
        return self._wake.fileno()

    def wait(self, seconds: float) -> bool:
        """Sleep that long unless stopped; return whether stop is set."""
        poller = select.poll()
        poller.register(self._wake.fileno(), select.POLLIN)
        poller.poll(max(0.0, seconds) * 1000)
        return self._set


class Link(Protocol):
    """An open port. Owned by one thread; failures of any kind come as LinkError."""

    def read(self, deadline: float, expected: int = 1, /) -> bytes:
        """Return what has arrived, at least one byte, or b"" when the deadline has passed.

        `expected` is how many bytes are still to come if all goes well: a slow line is not looked at again
        before they can be there. It promises nothing, fewer or more may come.
        Raises LinkError when the port is gone, Stopped when the program stops.
        """

    def write(self, data: bytes, deadline: float) -> None:
        """Send all of `data`; raises LinkError when it is not taken before the deadline."""

    def drain(self) -> bytes:
        """Return everything that has arrived already, without waiting."""

    def fileno(self) -> int | None:
        """The descriptor that becomes readable with new bytes, or None when there is none."""

    def close(self) -> None:
        """Close the port; harmless when it is closed already."""


class DescriptorLink:
    """A link over a file descriptor: serial port, pty, hidraw node, socket.

    Takes over `fd` and closes it. End of file counts as an unplugged device.
    """

    def __init__(self, fd: int, name: str, stop: Stop) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._name = name
        self._stop = stop
        self._readable = select.poll()
        self._readable.register(fd, select.POLLIN)
        self._readable.register(stop.fileno(), select.POLLIN)

    def read(self, deadline: float, _expected: int = 1, /) -> bytes:
        while True:
            data = self._take()
            if data is not None:
                return data
            left = deadline - time.monotonic()
            if left <= 0:
                return b""
            self._wait(self._readable, left)

    def write(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                self._wait_writable(deadline)
            except OSError as err:
                raise self._gone(err) from err

    def drain(self) -> bytes:
        taken = bytearray()
        while data := self._take():
            taken += data
            if len(taken) > 1 << 20:
                raise LinkError(f"{self._name}: flooded with bytes nobody asked for")
        return bytes(taken)

    def fileno(self) -> int | None:
        return self._fd

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def _take(self) -> bytes | None:
        """Return waiting bytes, or None when there are none yet."""
        try:
            data = os.read(self._fd, READ_SIZE)
        except BlockingIOError:
            return None
        except OSError as err:
            raise self._gone(err) from err
        if not data:
            raise LinkError(f"{self._name}: closed by the other side")
        return data

    def _wait(self, poller: select.poll, seconds: float) -> None:
        poller.poll(seconds * 1000)
        if self._stop.is_set():
            raise Stopped

    def _wait_writable(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise LinkError(f"{self._name}: does not take bytes any more")
        writable = select.poll()
        writable.register(self._fd, select.POLLOUT)
        writable.register(self._stop.fileno(), select.POLLIN)
        self._wait(writable, left)

    def _gone(self, err: OSError) -> LinkError:
        reason = errno.errorcode.get(err.errno or 0, "?")
        return LinkError(f"{self._name}: {os.strerror(err.errno or 0)} ({reason})")
