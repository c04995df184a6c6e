"""UDP, for reading only: datagrams that a device broadcasts."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable

from bridge.errors import LinkError
from bridge.transports.base import DescriptorLink, Stop

LARGEST = 2048
AT_ONCE = 256
"""Datagrams of strangers thrown away before the reader gets its turn."""


class DatagramLink(DescriptorLink):
    """Datagrams to one port. `read` returns the bytes of exactly one.

    `source` is the only address they are taken from; while it is None any is, until `pin`. `strange` is told
    about others. Who is on the network can write any source address: this keeps out mistakes, no attacker.
    """

    def __init__(self, sock: socket.socket, name: str, source: str | None, stop: Stop, strange: Callable[[str], None]):
        self._socket = sock
        super().__init__(sock.fileno(), name, stop)
        self._source = source
        self._strange = strange
        self._latest: str | None = None

    def pin(self) -> None:
        """From now on take nothing but what comes from the same address as the latest datagram."""
        self._source = self._latest

    def write(self, data: bytes, deadline: float) -> None:  # noqa: ARG002 (never written)
        raise LinkError(f"{self._name}: is for reading only")

    def drain(self) -> bytes:
        taken = bytearray()
        while (data := self.read(time.monotonic())) and len(taken) < 1 << 20:
            taken += data
        return bytes(taken)

    def close(self) -> None:
        self._fd = -1
        self._socket.close()

    def _take(self) -> bytes | None:
        for _ in range(AT_ONCE):
            try:
                data, (address, *_) = self._socket.recvfrom(LARGEST)
            except BlockingIOError:
                return None
            except OSError as err:
                raise self._gone(err) from err
            if self._source is not None and address != self._source:
                self._strange(address)
            elif data:
                self._latest = address
                return data
        return None


def open_udp(port: int, address: str, source: str | None, stop: Stop, strange: Callable[[str], None]) -> DatagramLink:
    """Listen for datagrams to `port`. Raises LinkError with the exact reason."""
    try:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    except OSError as err:
        raise LinkError(f"UDP port {port}: cannot listen ({os.strerror(err.errno or 0)})") from err
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
    except OSError as err:
        sock.close()
        raise LinkError(f"UDP port {port}: cannot listen ({os.strerror(err.errno or 0)})") from err
    return DatagramLink(sock, f"UDP port {port}", source, stop, strange)
