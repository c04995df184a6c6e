"""Talking to systemd's service manager through the datagram socket it names in NOTIFY_SOCKET.

Source: sd_notify(3). Without the variable nothing is sent, so the same program runs anywhere.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

log = logging.getLogger(__name__)


class Notifier:
    """Sends READY, STATUS, WATCHDOG and STOPPING."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        # "@" stands for the leading zero byte of Linux' abstract socket names
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._socket: socket.socket | None = None
        if path:
            import socket  # 2 ms that a start without a service manager does without

            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)

    def send(self, *lines: str) -> None:
        """Send assignments such as "READY=1"; trouble is logged and not raised, the bridge works without."""
        if self._socket is None:
            return
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError as err:
            log.debug("service manager not reached: %s", err)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
