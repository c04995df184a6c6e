"""A client of a simulated stick, written from scratch: no code of the bridge or of the simulator takes part in it."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

DATALOG, INVERTER = "BA24500731", "4512670118"
HOLD, INPUT, WRITE, WRITE_MULTI = 3, 4, 6, 16


def modbus(data: bytes) -> int:
    """CRC-16/MODBUS as a division of the reflected message, another way than the simulator's table."""
    value = 0xFFFF
    for bit in (byte >> i & 1 for byte in data for i in range(8)):
        odd = (value ^ bit) & 1
        value = (value >> 1) ^ (0xA001 * odd)
    return value


def u16(data: bytes, at: int) -> int:
    return data[at] | data[at + 1] << 8


def le(*words: int) -> bytes:
    return b"".join(bytes((word & 255, word >> 8)) for word in words)


def data_frame(function: int, register: int, tail: bytes, inverter: str = INVERTER, datalog: str = DATALOG) -> bytes:
    data = bytes((0, function)) + inverter.encode() + le(register) + tail
    body = le(len(data) + 2) + data + le(modbus(data))
    return b"\xa1\x1a" + le(2, 12 + len(body)) + b"\x01\xc2" + datalog.encode() + body


def read(function: int, register: int, count: int = 1, inverter: str = INVERTER, datalog: str = DATALOG) -> bytes:
    return data_frame(function, register, le(count), inverter, datalog)


def write(register: int, value: int, inverter: str = INVERTER) -> bytes:
    return data_frame(WRITE, register, le(value), inverter)


def write_multi(register: int, *values: int, inverter: str = INVERTER) -> bytes:
    return data_frame(WRITE_MULTI, register, le(len(values)) + bytes((2 * len(values),)) + le(*values), inverter)


def parameter(function: int, tail: bytes, datalog: str = DATALOG) -> bytes:
    return b"\xa1\x1a" + le(2, 12 + len(tail)) + bytes((1, function)) + datalog.encode() + tail


@dataclass(frozen=True)
class Frame:
    """A received frame, taken apart by its offsets."""

    raw: bytes

    @property
    def kind(self) -> int:
        return self.raw[7]

    @property
    def function(self) -> int:
        return self.raw[21] if self.kind == 0xC2 else 0

    @property
    def inverter(self) -> str:
        return self.raw[22:32].decode()

    @property
    def register(self) -> int:
        return u16(self.raw, 32)

    @property
    def value(self) -> int:
        """Of an acknowledgement."""
        return u16(self.raw, 34)

    @property
    def words(self) -> list[int]:
        start = 34 if self.raw[2] == 1 else 35
        return [u16(self.raw, at) for at in range(start, len(self.raw) - 2, 2)]

    @property
    def sound(self) -> bool:
        """Whether lengths, value-length byte and CRC are all right."""
        raw = self.raw
        if u16(raw, 4) != len(raw) - 6:
            return False
        if self.kind != 0xC2:
            return True
        right = u16(raw, 18) == len(raw) - 20 and modbus(raw[20:-2]) == u16(raw, len(raw) - 2)
        if self.function in (HOLD, INPUT) and raw[2] != 1:
            right = right and raw[34] == len(raw) - 37
        return right


@dataclass
class Client:
    """One connection to a stick."""

    sock: socket.socket
    buffer: bytearray = field(default_factory=bytearray)
    pieces: list[bytes] = field(default_factory=list)
    """What each recv returned."""

    @classmethod
    def to(cls, port: str) -> Self:
        host, number = port.split(":")
        return cls(socket.create_connection((host, int(number)), 3))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def take(self, timeout: float) -> bool:
        """Receive once; False after `timeout` seconds without anything. Raises at the end of the connection."""
        self.sock.settimeout(max(0.001, timeout))
        try:
            data = self.sock.recv(65536)
        except TimeoutError:
            return False
        if not data:
            raise EOFError
        self.pieces.append(data)
        self.buffer += data
        return True

    def frame(self, timeout: float = 3.0) -> Frame:
        """Return the next frame by its length, whatever it is worth; bytes before its prefix are dropped."""
        deadline = time.monotonic() + timeout
        while True:
            start = self.buffer.find(b"\xa1\x1a")
            if start >= 0 and len(self.buffer) >= start + 6:
                end = start + 6 + u16(self.buffer, start + 4)
                if len(self.buffer) >= end:
                    frame = Frame(bytes(self.buffer[start:end]))
                    del self.buffer[:end]
                    return frame
            if not self.take(deadline - time.monotonic()) and time.monotonic() >= deadline:
                raise TimeoutError(f"no frame; there is {bytes(self.buffer)!r}")

    def until(self, accept: Callable[[Frame], bool], timeout: float = 3.0) -> Frame:
        deadline = time.monotonic() + timeout
        while True:
            frame = self.frame(deadline - time.monotonic())
            if accept(frame):
                return frame

    def ask(self, request: bytes) -> Frame:
        """Send a request; return the next data or parameter frame."""
        self.send(request)
        return self.until(lambda frame: frame.kind != 0xC1)

    def hold(self, register: int) -> int:
        return self.ask(read(HOLD, register)).words[0]

    def silence(self, seconds: float = 0.15) -> bytes:
        """Return all that comes in that time and what is left over: b"" for nothing."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.take(left)
        data = bytes(self.buffer)
        self.buffer.clear()
        return data

    def end(self, timeout: float = 3.0) -> str:
        """Wait until the stick ends the connection: "fin" or "rst"."""
        deadline = time.monotonic() + timeout
        try:
            while time.monotonic() < deadline:
                self.take(deadline - time.monotonic())
        except EOFError:
            return "fin"
        except ConnectionResetError:
            return "rst"
        return "open"
