"""How a simulated LuxPower datalogger writes its frames and cuts requests out of what a client sends.

A1 1A | protocol u16 | frame length u16 | 01 | TCP function | datalog serial 10 | payload        little-endian
payload of function C2:
data length u16 | address | device function | inverter serial 10 | register u16 | value part | CRC-16/MODBUS
Source: celsworth/lxp-packet doc/LXP_PACKET.txt; celsworth/lxp-bridge src/lxp/packet.rs.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

PREFIX = b"\xa1\x1a"
HEARTBEAT, DATA, READ_PARAMETER, WRITE_PARAMETER = 0xC1, 0xC2, 0xC3, 0xC4
READ_HOLD, READ_INPUT, WRITE_SINGLE, WRITE_MULTI = 3, 4, 6, 16
EXCEPTION = 0x80
ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE, FAILED, BUSY = 1, 2, 3, 4, 6
LONGEST = 1024
SERIAL_LENGTH = 10


def _remainder(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ 0xA001 if byte & 1 else byte >> 1
    return byte


REMAINDERS = tuple(_remainder(byte) for byte in range(256))


def crc(data: bytes) -> int:
    """Return CRC-16/MODBUS of `data`; 4B37 for b"123456789"."""
    value = 0xFFFF
    for byte in data:
        value = value >> 8 ^ REMAINDERS[(value ^ byte) & 0xFF]
    return value


def serial_bytes(text: str) -> bytes:
    """Return a serial number as its ten bytes on the wire. Raises ValueError for another length."""
    data = text.encode("ascii")
    if len(data) != SERIAL_LENGTH:
        raise ValueError(f"a serial has {SERIAL_LENGTH} characters, not {text!r}")
    return data


@dataclass(frozen=True, slots=True)
class Dress:
    """What a stick puts around its data at the moment: its serial, the protocol number, the address byte."""

    datalog: str
    protocol: int = 2
    address: int = 1

    def envelope(self, function: int, payload: bytes) -> bytes:
        """Return a whole frame of a TCP function."""
        head = struct.pack("<HHBB", self.protocol, len(payload) + 12, 1, function)
        return PREFIX + head + serial_bytes(self.datalog) + payload

    def data(self, function: int, inverter: str, register: int, value: bytes) -> bytes:
        """Return a whole data frame with its CRC."""
        data = struct.pack("<BB10sH", self.address, function, serial_bytes(inverter), register) + value
        return self.envelope(DATA, struct.pack("<H", len(data) + 2) + data + struct.pack("<H", crc(data)))

    def heartbeat(self) -> bytes:
        return self.envelope(HEARTBEAT, b"\0")

    def block(self, function: int, inverter: str, first: int, words: Sequence[int]) -> bytes:
        """Return a read reply, asked for or not.

        Protocol 1 has no value-length byte; only single registers were seen with it (lxp-bridge
        integration_tests/fixtures/read_hold_12_ok), so longer ones are unconfirmed.
        """
        values = struct.pack(f"<{len(words)}H", *words)
        length = b"" if self.protocol == 1 else bytes([len(values)])
        return self.data(function, inverter, first, length + values)

    def written(self, inverter: str, register: int, value: int, read_style: bool = False) -> bytes:
        """Return the acknowledgement of a write single; `read_style` puts a length byte before the value.

        unconfirmed: only joyfulhouse/pylxpweb reports acknowledgements in read style.
        """
        echo = struct.pack("<H", value)
        return self.data(WRITE_SINGLE, inverter, register, (b"\x02" if read_style else b"") + echo)

    def written_multi(self, inverter: str, register: int, count: int) -> bytes:
        return self.data(WRITE_MULTI, inverter, register, struct.pack("<H", count))

    def exception(self, function: int, inverter: str, register: int, code: int) -> bytes:
        return self.data(function | EXCEPTION, inverter, register, bytes([code]))

    def parameter(self, number: int, value: bytes) -> bytes:
        """Return the answer to a read parameter; with protocol 1 it has no length word."""
        length = b"" if self.protocol == 1 else struct.pack("<H", len(value))
        return self.envelope(READ_PARAMETER, struct.pack("<H", number) + length + value)

    def parameter_written(self, number: int, status: int = 0) -> bytes:
        return self.envelope(WRITE_PARAMETER, struct.pack("<HB", number, status))


@dataclass(frozen=True, slots=True)
class Request:
    """A frame from a client, taken apart. `number` is a register or a parameter.

    `words` are the values to write; for reads `count` says how many registers. `sound` is False when
    lengths or CRC are wrong.
    """

    raw: bytes
    tcp_function: int
    protocol: int
    datalog: bytes
    sound: bool = True
    function: int = 0
    inverter: bytes = b""
    number: int = 0
    count: int = 0
    words: tuple[int, ...] = ()
    data: bytes = b""


def cut(buffer: bytearray) -> list[Request]:
    """Take all whole frames off the front of `buffer`; what is no frame is thrown away."""
    found: list[Request] = []
    while (start := buffer.find(PREFIX)) >= 0:
        del buffer[:start]
        if len(buffer) < 6:
            return found
        total = 6 + struct.unpack_from("<H", buffer, 4)[0]
        if not 18 < total <= LONGEST:
            del buffer[:2]
        elif len(buffer) < total:
            return found
        else:
            found.append(_parse(bytes(buffer[:total])))
            del buffer[:total]
    del buffer[: -1 if buffer[-1:] == PREFIX[:1] else len(buffer)]
    return found


def _parse(raw: bytes) -> Request:
    protocol, tcp_function = struct.unpack_from("<H", raw, 2)[0], raw[7]
    plain = Request(raw, tcp_function, protocol, raw[8:18])
    if tcp_function == DATA:
        return _parse_data(plain)
    if tcp_function in (READ_PARAMETER, WRITE_PARAMETER):
        return _parse_parameter(plain)
    return plain


def _parse_parameter(plain: Request) -> Request:
    raw = plain.raw
    sound = len(raw) >= 20
    number = struct.unpack_from("<H", raw, 18)[0] if sound else 0
    data = b""
    if plain.tcp_function == WRITE_PARAMETER:
        data = raw[22:]
        sound = len(raw) >= 22 and struct.unpack_from("<H", raw, 20)[0] == len(data)
    return replace(plain, sound=sound, number=number, data=data)


def _parse_data(plain: Request) -> Request:
    raw = plain.raw
    unsound = replace(plain, sound=False)
    if len(raw) < 38 or struct.unpack_from("<H", raw, 18)[0] != len(raw) - 20:
        return unsound
    if crc(raw[20:-2]) != struct.unpack("<H", raw[-2:])[0]:
        return unsound
    function, inverter, number, value = struct.unpack_from("<B10sHH", raw, 21)
    words: tuple[int, ...] = ()
    if function == WRITE_SINGLE:
        words = (value,)
    elif function == WRITE_MULTI:
        # a byte count stands behind the register count (lxp-bridge test frame: 45 bytes for three registers)
        if len(raw) != 39 + 2 * value or raw[36] != 2 * value:
            return unsound
        words = struct.unpack_from(f"<{value}H", raw, 37)
    elif len(raw) != 38:
        return unsound
    count = value if function in (READ_HOLD, READ_INPUT) else len(words)
    return replace(plain, function=function, inverter=inverter, number=number, count=count, words=words)


def redress(frame: bytes, **wrong: int | bytes | bool) -> bytes:
    """Return the frame with something wrong in it that an ordinary bit flip would not give.

    `inverter`, `datalog`: other serials. `value_length`: that byte of a read reply. `data_length`,
    `frame_length`: those words, 0 to 65535. The CRC is made right again, unless `crc`.
    """
    out = bytearray(frame)
    if frame[7] == DATA:
        if isinstance(inverter := wrong.get("inverter"), bytes):
            out[22:32] = inverter
        if "value_length" in wrong and frame[21] in (READ_HOLD, READ_INPUT) and frame[2] != 1:
            out[34] = int(wrong["value_length"])
        out[-2:] = struct.pack("<H", crc(bytes(out[20:-2])) ^ (0x55 if wrong.get("crc") else 0))
        if "data_length" in wrong:
            out[18:20] = struct.pack("<H", wrong["data_length"])
    if isinstance(datalog := wrong.get("datalog"), bytes):
        out[8:18] = datalog
    if "frame_length" in wrong:
        out[4:6] = struct.pack("<H", wrong["frame_length"])
    return bytes(out)
