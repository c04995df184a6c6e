"""Serial ports and ptys: pyserial opens and configures, the descriptor does the rest.

pyserial sets any speed and 8N1 raw on any Unix, but its reads and writes raise four kinds of errors
and its write can block for ever, so only its descriptor is used afterwards.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sys
import termios
import time

from bridge.errors import LinkError, Stopped
from bridge.transports.base import BITS, DescriptorLink, Stop, open_failure

log = logging.getLogger(__name__)

RIGHTS = "add the bridge's user to the group dialout"
BY_ID = "/dev/serial/by-id"
ADAPTERS = ("ttyUSB", "ttyACM")
"""How the nodes of adapters begin: the system gives each a name there that lasts."""
"""Where the system names adapters by what they are, whatever number they get."""

_lasting: dict[str, str | None] = {}
"""Every port that this program was told to use, and, once it was open, the name that its adapter keeps, if any.
The devices' threads share it, and each writes of its own port, but where no name can be relied on any more."""
_found: dict[str, str] = {}
"""Where the adapter of a port was found that was not where its name says."""

EARLIER = 0.97
"""Of the time that bytes should take: no two answers are alike to the last bit."""
SHORTEST_PAUSE = 0.02
"""Seconds below which a wait for several bytes is not worth it: whoever sleeps long gets up late."""

MOST_LET_DOWN = 6
"""Waits in a row that were of no use, as far as they are counted."""


class SerialLink(DescriptorLink):
    """An open serial port.

    A port hands over byte by byte, and being woken for each costs more than all else the bridge does with them;
    so `read` waits as long as all but the last one of the `expected` bytes take at least. How long a byte takes is
    seen from the last answer, since a port may be a pty or lead through a network: never longer than by its speed.
    Where a wait brings much less than was expected, the next answers are read as they come: 2, then 4, up to 64 of
    them; some ends give no more before what they gave has been read.
    """

    def __init__(self, fd: int, name: str, baud: int, stop: Stop) -> None:
        super().__init__(fd, name, stop)
        self._slowest = BITS / baud
        self._pace = 0.0
        self._began = self._ended = 0.0
        self._followed = 0
        self._let_down = self._unhurried = 0

    def write(self, data: bytes, deadline: float) -> None:
        if self._began:
            seen = (self._ended - self._began) / self._followed if self._followed else 0.0
            self._pace = min(self._slowest, seen)
            self._began, self._followed = 0.0, 0
            if self._unhurried:
                self._pace, self._unhurried = 0.0, self._unhurried - 1
        super().write(data, deadline)

    def read(self, deadline: float, expected: int = 1, /) -> bytes:
        pause = (expected - 1) * self._pace * EARLIER
        pausing = SHORTEST_PAUSE < pause < deadline - time.monotonic()
        if pausing and self._stop.wait(pause):
            raise Stopped
        data = super().read(deadline)
        if pausing:
            self._judge(2 * len(data) >= expected)
        if data:
            self._ended = time.monotonic()
            if self._began:
                self._followed += len(data)
            else:
                self._began = self._ended
        return data

    def _judge(self, useful: bool) -> None:
        """Take note whether it was worth waiting for several bytes at once."""
        self._let_down = 0 if useful else min(self._let_down + 1, MOST_LET_DOWN)
        if not useful:
            self._pace, self._unhurried = 0.0, 2**self._let_down

    def set_baud(self, baud: int) -> None:
        """Change the speed; what came in at the old one is thrown away. Waits for nothing.

        Raises LinkError when the port does not know the speed, and when it has not yet sent what was written.
        """
        speed = getattr(termios, f"B{baud}", None)
        self._slowest = BITS / baud
        if speed is None:
            raise LinkError(f"{self._name}: cannot be set to {baud} baud")
        try:
            if int.from_bytes(fcntl.ioctl(self._fd, termios.TIOCOUTQ, bytes(4)), sys.byteorder):
                raise LinkError(f"{self._name}: does not take bytes any more")
            attributes = termios.tcgetattr(self._fd)
            attributes[4] = attributes[5] = speed
            termios.tcsetattr(self._fd, termios.TCSANOW, attributes)
            termios.tcflush(self._fd, termios.TCIFLUSH)
        except (OSError, termios.error) as err:
            raise LinkError(f"{self._name}: {os.strerror(err.args[0])}") from err

    def close(self) -> None:
        if self._fd >= 0:
            # else the kernel waits up to 30 s for bytes that an unplugged or stuck line does not take
            with contextlib.suppress(termios.error):
                termios.tcflush(self._fd, termios.TCOFLUSH)
        super().close()


def open_serial(port: str, baud: int, stop: Stop) -> SerialLink:
    """Open a serial port, a pty or a link to one: 8N1, raw, exclusive, its old input thrown away.

    An adapter that has come back as another ttyUSB is found by the name it keeps. Raises LinkError with the exact
    reason.
    """
    import serial  # 0.4 MB that a bridge of sockets and HID does without

    where = _where(port)
    try:
        opened = serial.Serial(where, baud, timeout=0, write_timeout=0, exclusive=True)
    except (OSError, termios.error) as err:  # pyserial's own error is an OSError, termios' is not
        raise open_failure(port, err, RIGHTS) from err
    except (ValueError, OverflowError) as err:  # a speed the driver does not take, a NUL in the name
        raise LinkError(f"{port}: {err}") from err
    try:
        with contextlib.suppress(ValueError, OSError, NotImplementedError):
            opened.set_low_latency_mode(True)  # FTDI adapters hold bytes back for 16 ms without it
        fd = os.dup(opened.fileno())  # keeps port and lock open without pyserial's four pipe ends
    except OSError as err:
        raise open_failure(port, err, RIGHTS) from err
    finally:
        opened.close()
    try:
        _finish(fd, where)
    except (OSError, termios.error) as err:
        os.close(fd)
        raise open_failure(port, err, RIGHTS) from err
    _remember(port, where)
    return SerialLink(fd, port, baud, stop)


def _where(port: str) -> str:
    """Return where to open a port: where its name leads, else where its adapter has come back under another one.

    Never where another port of the configuration leads, nor by a name that two adapters have: what is asked would be
    asked somebody else's device.
    """
    lasting = _lasting.setdefault(port, None)
    if lasting is None or os.path.exists(port) or not os.path.exists(lasting):
        return port
    node = os.path.realpath(lasting)
    others = [(other, name) for other, name in [*_lasting.items()] if other != port]
    if node not in _lasting_names() or any(_node(other) == node or name == lasting for other, name in others):
        return port
    if _found.get(port) != node:
        _found[port] = node
        log.warning("%s: not there any more, its adapter is at %s now; best name it %s", port, node, lasting)
    return node


def _remember(port: str, where: str) -> None:
    """Remember the name that the adapter of an open port keeps; of none where two of them have one between them."""
    names = _lasting_names()
    if not names:
        _lasting.update(dict.fromkeys([*_lasting]))
    _lasting[port] = names.get(_node(where))


def _lasting_names() -> dict[str, str]:
    """Return the names that adapters keep by where they lead, none where an adapter is there without one.

    It has the same name as another then, which leads to either of them, as the system has it at the moment.
    """
    names = links_in(BY_ID)
    return names if all(adapter in names for adapter in _adapters()) else {}


def _adapters() -> list[str]:
    return [f"/dev/{one}" for one in os.listdir("/dev") if one.startswith(ADAPTERS)]


def links_in(folder: str) -> dict[str, str]:
    """Return the links in a folder by where they lead, of two the first by its name; none where there is no folder."""
    try:
        names = sorted(os.listdir(folder), reverse=True)
    except OSError:  # no adapter has one, or the system gives none
        return {}
    return {_node(link): link for link in (f"{folder}/{name}" for name in names)}


def _node(name: str) -> str:
    return os.path.realpath(name.replace("\0", ""))


def _finish(fd: int, port: str) -> None:
    """Set what pyserial does not."""
    attributes = termios.tcgetattr(fd)
    # with VMIN 0, as pyserial leaves it, "no bytes yet" and "unplugged" read the same
    attributes[6][termios.VMIN], attributes[6][termios.VTIME] = 1, 0
    termios.tcsetattr(fd, termios.TCSANOW, attributes)
    # the lock keeps out programs that lock too; this one the others. Not on a pty: its flag would outlive a
    # killed bridge as long as the pty's master is open
    if not _node(port).startswith("/dev/pts/"):
        with contextlib.suppress(OSError):
            fcntl.ioctl(fd, termios.TIOCEXCL)
