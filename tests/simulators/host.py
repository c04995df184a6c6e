"""The host's side of a simulated line, written from scratch: no code of the bridge takes part in these tests."""

from __future__ import annotations

import os
import select
import socket
import time
from dataclasses import dataclass, field
from typing import Self


def xmodem(data: bytes) -> int:
    """CRC-16/XMODEM by table, another way than the simulator's."""
    value = 0
    for byte in data:
        index = (value >> 8 ^ byte) & 0xFF
        entry = index << 8
        for _ in range(8):
            entry = ((entry << 1) ^ (0x1021 if entry & 0x8000 else 0)) & 0xFFFF
        value = (value << 8 & 0xFFFF) ^ entry
    return value


def command(text: str) -> bytes:
    body = text.encode()
    pair = bytes(b + 1 if b in b"(\r\n\0" else b for b in xmodem(body).to_bytes(2, "big"))
    return body + pair + b"\r"


def pi18(kind: str, text: str) -> bytes:
    return command(f"^{kind}{len(text) + 3:03d}{text}")


def holds(reply: bytes) -> bool:
    """Whether a reply's CRC is right."""
    body, received = reply[:-3], reply[-3:-1]
    plain = xmodem(body).to_bytes(2, "big")
    return reply[-1:] == b"\r" and received == bytes(b + 1 if b in b"(\r\n" else b for b in plain)


@dataclass
class Host:
    """An open port: a tty by its path, or the host end of a simulated hidraw node."""

    fd: int
    end: socket.socket | None = None
    arrivals: list[tuple[float, bytes]] = field(default_factory=list)

    @classmethod
    def tty(cls, path: str) -> Self:
        return cls(os.open(path, os.O_RDWR | os.O_NOCTTY))

    @classmethod
    def hidraw(cls, end: socket.socket) -> Self:
        return cls(end.fileno(), end)

    def write(self, data: bytes) -> float:
        """Send; return the moment before it."""
        at = time.monotonic()
        os.write(self.fd, data)
        return at

    def write_reports(self, data: bytes) -> None:
        for first in range(0, len(data), 8):
            os.write(self.fd, b"\0" + data[first : first + 8].ljust(8, b"\0"))

    def read(self, timeout: float) -> bytes:
        ready, _, _ = select.select([self.fd], [], [], max(0.0, timeout))
        if not ready:
            return b""
        data = os.read(self.fd, 4096)
        self.arrivals.append((time.monotonic(), data))
        return data

    def read_until(self, end: bytes = b"\r", timeout: float = 5.0) -> bytes:
        """Return all bytes up to the first one in `end`; b"" comes back when nothing did."""
        deadline, taken = time.monotonic() + timeout, b""
        while not any(byte in end for byte in taken):
            data = self.read(deadline - time.monotonic())
            if not data:
                return taken
            taken += data
        return taken

    def read_count(self, count: int, timeout: float = 5.0) -> bytes:
        deadline, taken = time.monotonic() + timeout, b""
        while len(taken) < count:
            data = self.read(deadline - time.monotonic())
            if not data:
                return taken
            taken += data
        return taken

    def silence(self, seconds: float = 0.15) -> bytes:
        """Return what comes within that time."""
        deadline, taken = time.monotonic() + seconds, b""
        while data := self.read(deadline - time.monotonic()):
            taken += data
        return taken

    def ask(self, text: str, timeout: float = 5.0) -> bytes:
        self.write(command(text))
        return self.read_until(b"\r", timeout)

    def fields(self, text: str) -> list[str]:
        """Ask, check bracket and CRC, return the fields."""
        reply = self.ask(text).rstrip(b"\0")
        assert reply[:1] == b"(", reply
        assert holds(reply), reply
        return reply[1:-3].decode().rstrip().split(" ")

    def close(self) -> None:
        if self.end is not None:
            self.end.close()
        else:
            os.close(self.fd)
