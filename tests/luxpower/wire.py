"""Frames as a stick sends them, built byte by byte with a bitwise CRC: nothing here comes from bridge/."""

from __future__ import annotations

from collections.abc import Iterable

DATALOG, INVERTER = b"BA90817263", b"4052061837"


def bitwise_crc(data: bytes) -> int:
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ 0xA001 if value & 1 else value >> 1
    return value


def little(word: int) -> bytes:
    return word.to_bytes(2, "little")


def words(values: Iterable[int]) -> bytes:
    return b"".join(little(value & 0xFFFF) for value in values)


def envelope(function: int, payload: bytes, protocol: int = 2, datalog: bytes = DATALOG) -> bytes:
    return b"\xa1\x1a" + little(protocol) + little(12 + len(payload)) + bytes([1, function]) + datalog + payload


def data_frame(
    function: int,
    register: int,
    part: bytes,
    *,
    protocol: int = 2,
    address: int = 1,
    datalog: bytes = DATALOG,
    inverter: bytes = INVERTER,
) -> bytes:
    data = bytes([address, function]) + inverter + little(register) + part
    return envelope(0xC2, little(len(data) + 2) + data + little(bitwise_crc(data)), protocol, datalog)


def read_reply(function: int, register: int, values: Iterable[int], *, protocol: int = 2, **serials: bytes) -> bytes:
    part = words(values)
    length = b"" if protocol == 1 else bytes([len(part)])
    return data_frame(function, register, length + part, protocol=protocol, **serials)  # type: ignore[arg-type]


def heartbeat(protocol: int = 2) -> bytes:
    return envelope(0xC1, b"\0", protocol)
