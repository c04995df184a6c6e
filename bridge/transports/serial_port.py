"""Serial ports and ptys: pyserial opens and configures, the descriptor does the rest.

pyserial sets any speed and 8N1 raw on any Unix, but its reads and writes raise four kinds of errors
and its write can block for ever, so only its descriptor is used afterwards.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import termios

from bridge.errors import LinkError
from bridge.transports.base import DescriptorLink, Stop, open_failure

RIGHTS = "add the bridge's user to the group dialout"


class SerialLink(DescriptorLink):
    """An open serial port."""

    def set_baud(self, baud: int) -> None:
        """Change the speed; what came in at the old one is thrown away. Waits for nothing.

        Raises LinkError when the port does not know the speed, and when it has not yet sent what was written.
        """
        speed = getattr(termios, f"B{baud}", None)
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

    Raises LinkError with the exact reason.
    """
    import serial  # 0.4 MB that a bridge of sockets and HID does without

    try:
        opened = serial.Serial(port, baud, timeout=0, write_timeout=0, exclusive=True)
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
        _finish(fd, port)
    except (OSError, termios.error) as err:
        os.close(fd)
        raise open_failure(port, err, RIGHTS) from err
    return SerialLink(fd, port, stop)


def _finish(fd: int, port: str) -> None:
    """Set what pyserial does not."""
    attributes = termios.tcgetattr(fd)
    # with VMIN 0, as pyserial leaves it, "no bytes yet" and "unplugged" read the same
    attributes[6][termios.VMIN], attributes[6][termios.VTIME] = 1, 0
    termios.tcsetattr(fd, termios.TCSANOW, attributes)
    # the lock keeps out programs that lock too; this one the others. Not on a pty: its flag would outlive a
    # killed bridge as long as the pty's master is open
    if not os.path.realpath(port).startswith("/dev/pts/"):
        with contextlib.suppress(OSError):
            fcntl.ioctl(fd, termios.TIOCEXCL)
