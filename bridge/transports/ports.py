"""From the config's `port` to an open link."""

from __future__ import annotations

import os

from bridge.transports.base import Link, Stop


def open_port(port: str, baud: int, stop: Stop) -> Link:
    """Open `port` as it is plugged in at this moment; call it anew after every failure.

    `hid` is the only Voltronic USB interface, ``hid:SERIAL`` the one with that serial number; a path to a
    hidraw node (or a link to one) is opened as such, any other as a serial port or pty at `baud`.
    Raises LinkError with the exact reason.
    """
    if port == "hid" or port.startswith("hid:"):
        from bridge.transports.hidapi import open_hid

        return open_hid(port[4:] or None, stop)
    if os.path.basename(os.path.realpath(port.replace("\0", ""))).startswith("hidraw"):
        from bridge.transports.hidraw import open_hidraw

        return open_hidraw(port, stop)
    from bridge.transports.serial_port import open_serial

    return open_serial(port, baud, stop)
