"""The datalogger's frames: cutting the byte stream, checking, decoding, and encoding of requests.

```
A1 1A | protocol u16 | length u16 | 01 | TCP function | datalog serial 10 | payload                 little-endian
C1 heartbeat    payload: one byte, any value
C2 data         payload: data length u16 | address | function | inverter serial 10 | register u16 | value part | CRC u16
C3, C4          payload: parameter u16 | the stick's own settings, no CRC
```
`length` counts from offset 6. The CRC covers the bytes from `address` up to the CRC, so the envelope with the
datalog serial is not covered: lengths, function and serials have checks of their own.

A read reply carries a byte with the length of its values before them, unless its protocol number is 1; then
it holds one bare word. Requests and replies cannot be told apart by their bytes alone (the address byte is 0
in requests and in the replies of some sticks), hence two decoders: `decode_reply` for what a stick sends,
`decode_request` for what a client sends.

Source: celsworth/lxp-packet doc/LXP_PACKET.txt; celsworth/lxp-bridge src/lxp/packet.rs; vendor's "Modbus RTU
Protocol" 2025-03-13 chapters 2 and 3; sizes and stray text: observed in luxpower_sna tools/lux_pure_proxy.log.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from bridge.errors import ProtocolError

PREFIX = b"\xa1\x1a"
PROTOCOLS = (1, 2, 5)
SHORTEST, LONGEST = 13, 1018
"""Accepted frame lengths, as the length word counts."""
LONGEST_HEARTBEAT = 32
"""Ours: 13 and 15 were seen; more would only let a false prefix swallow good frames."""
MOST_WORDS = 127
"""The value-length byte holds no more."""

HEARTBEAT, DATA, READ_PARAMETER, WRITE_PARAMETER = 0xC1, 0xC2, 0xC3, 0xC4
EXCEPTION = 0x80


class Function(IntEnum):
    """Device functions. Others exist (33 to 35 write firmware): never sent, refused when seen."""

    READ_HOLD = 3
    READ_INPUT = 4
    WRITE_SINGLE = 6
    WRITE_MULTI = 16


FUNCTIONS = tuple(Function)
READS = (Function.READ_HOLD, Function.READ_INPUT)

EXCEPTIONS = {
    1: "illegal function",
    2: "illegal register",
    3: "illegal value or count",
    4: "read or write failed",
    6: "busy",
}
"""What an exception code means. Source: vendor's document, table 3."""

_ENVELOPE = struct.Struct("<2sHHBB10s")
_LENGTHS = struct.Struct("<2sHHBB")
_DATA = struct.Struct("<HBB10sH")
_ADDRESSED = struct.Struct("<BB10s")
_WORD = struct.Struct("<H")
_TWO_WORDS = struct.Struct("<HH")


def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ 0xA001 if value & 1 else value >> 1
        table.append(value)
    return tuple(table)


_CRC_TABLE = _crc_table()


def crc(data: bytes, value: int = 0xFFFF) -> int:
    """Return the CRC-16/MODBUS of `data` (check value 4B37 for ASCII 123456789), behind bytes whose CRC is `value`."""
    for byte in data:
        value = value >> 8 ^ _CRC_TABLE[(value ^ byte) & 255]
    return value


def ends_in_its_crc(data: bytes) -> bool:
    """Whether the last two bytes are the CRC of those before, quickly for any length.

    Taken as one number, lowest byte first, with ones for the start value put in, such data is a multiple of the
    CRC's polynomial, y^16 + y^14 + y + 1 in this order of the bits, and no other data is. It is the product of y + 1
    (a multiple has an even number of ones) and y^15 + y^14 + 1. By the latter 1 = y^14k + y^15k for k = 1, 2, 4 ...:
    the lowest 14k bits may be taken away if they are put in again 14k and 15k places higher. The power of y that is
    then behind everything may go too. Of the 15 bits that are left in the end none may be set.

    A dozen operations on whole numbers; a table of bytes takes a step for each, all over the memory.
    """
    number = int.from_bytes(data, "little") ^ 0xFFFF
    if number.bit_count() & 1:
        return False
    for width, mask, shift in _folds(len(data)):
        low = number & mask
        number = number >> width ^ low ^ low << shift
    return not number


@lru_cache(maxsize=1024)
def _folds(size: int) -> tuple[tuple[int, int, int], ...]:
    """Return, for data of so many bytes, how many bits are folded at a time (14k), a mask of them, and k."""
    folds, bits, k = [], 8 * size, 1 << size.bit_length()
    while k:
        while bits > 15 * k:
            folds.append((14 * k, (1 << 14 * k) - 1, k))
            bits = max(bits - 14 * k, 15 * k)
        k //= 2
    return tuple(folds)


@lru_cache(maxsize=1024)
def _words_of(count: int) -> struct.Struct:
    return struct.Struct(f"<{count}H")


class Heartbeat(NamedTuple):
    """The stick lives; says nothing about the inverter. It is answered with `raw`, unchanged."""

    protocol: int
    datalog_serial: str
    raw: bytes


class Registers(NamedTuple):
    """Words of registers, asked for or pushed. `data` is two bytes a register, low byte first."""

    protocol: int
    datalog_serial: str
    inverter_serial: str
    function: int
    """READ_HOLD or READ_INPUT."""
    register: int
    data: bytes

    @property
    def words(self) -> tuple[int, ...]:
        return _words_of(len(self.data) // 2).unpack(self.data)


class Written(NamedTuple):
    """The inverter echoes a single write."""

    protocol: int
    datalog_serial: str
    inverter_serial: str
    register: int
    value: int


class WrittenMany(NamedTuple):
    """The inverter says how many registers it wrote."""

    protocol: int
    datalog_serial: str
    inverter_serial: str
    register: int
    length: int


class Refused(NamedTuple):
    """An exception: the inverter did not do it. `code` as in EXCEPTIONS."""

    protocol: int
    datalog_serial: str
    inverter_serial: str
    function: int
    """The refused function, without the exception bit."""
    register: int
    code: int


class Parameter(NamedTuple):
    """The value of one of the stick's own parameters."""

    protocol: int
    datalog_serial: str
    parameter: int
    data: bytes


class ParameterWritten(NamedTuple):
    """The stick's answer to a written parameter; status 0 is accepted."""

    protocol: int
    datalog_serial: str
    parameter: int
    status: int


Reply: TypeAlias = Heartbeat | Registers | Written | WrittenMany | Refused | Parameter | ParameterWritten


class Read(NamedTuple):
    """Asks for `length` registers from `register` on. Protocol 1 and 2 are both answered by every stick."""

    datalog_serial: str
    inverter_serial: str
    function: int
    register: int
    length: int
    protocol: int = 2

    def encode(self) -> bytes:
        """Return the frame. Raises ValueError for what no frame can say."""
        if self.function not in READS or not 1 <= self.length <= MOST_WORDS:
            raise ValueError(f"no read request: function {self.function}, {self.length} registers")
        return _data_frame(self, self.function, self.register, _word(self.length))

    def answered_by(self, reply: Reply) -> bool:
        """Whether `reply` answers this: it may hold fewer registers than asked, so go by what it has."""
        if isinstance(reply, Registers):
            return _same(self, reply) and (reply.function, reply.register) == (self.function, self.register)
        return isinstance(reply, Refused) and _refuses(self, self.function, reply)


class Write(NamedTuple):
    """Writes one register."""

    datalog_serial: str
    inverter_serial: str
    register: int
    value: int
    protocol: int = 2

    def encode(self) -> bytes:
        """Return the frame. Raises ValueError for what no frame can say."""
        return _data_frame(self, Function.WRITE_SINGLE, self.register, _word(self.value))

    def answered_by(self, reply: Reply) -> bool:
        """Whether `reply` is the echo of this very write, or its refusal."""
        if isinstance(reply, Written):
            return _same(self, reply) and (reply.register, reply.value) == (self.register, self.value)
        return isinstance(reply, Refused) and _refuses(self, Function.WRITE_SINGLE, reply)


class WriteMany(NamedTuple):
    """Writes consecutive registers in one frame."""

    datalog_serial: str
    inverter_serial: str
    register: int
    values: tuple[int, ...]
    protocol: int = 2

    def encode(self) -> bytes:
        """Return the frame. Raises ValueError for what no frame can say."""
        count = len(self.values)
        if not 1 <= count <= MOST_WORDS:
            raise ValueError(f"no write request: {count} registers")
        part = struct.pack("<HB", count, 2 * count) + b"".join(_word(value) for value in self.values)
        return _data_frame(self, Function.WRITE_MULTI, self.register, part)

    def answered_by(self, reply: Reply) -> bool:
        """Whether `reply` acknowledges as many registers from the same one on, or refuses them."""
        if isinstance(reply, WrittenMany):
            return _same(self, reply) and (reply.register, reply.length) == (self.register, len(self.values))
        return isinstance(reply, Refused) and _refuses(self, Function.WRITE_MULTI, reply)


class ReadParameter(NamedTuple):
    """Asks the stick for one of its own parameters; 0 is the seconds between two pushes."""

    datalog_serial: str
    parameter: int
    protocol: int = 2

    def encode(self) -> bytes:
        """Return the frame. Raises ValueError for what no frame can say."""
        return _envelope(self.protocol, READ_PARAMETER, self.datalog_serial, _word(self.parameter))

    def answered_by(self, reply: Reply) -> bool:
        return isinstance(reply, Parameter) and reply[1:3] == (self.datalog_serial, self.parameter)


class WriteParameter(NamedTuple):
    """Writes a parameter of the stick: its cloud endpoint, its serial number, a factory reset. Read here, not sent."""

    datalog_serial: str
    parameter: int
    data: bytes
    protocol: int = 2

    def encode(self) -> bytes:
        """Return the frame. Raises ValueError for what no frame can say."""
        payload = _word(self.parameter) + _word(len(self.data)) + self.data
        return _envelope(self.protocol, WRITE_PARAMETER, self.datalog_serial, payload)

    def answered_by(self, reply: Reply) -> bool:
        return isinstance(reply, ParameterWritten) and reply[1:3] == (self.datalog_serial, self.parameter)


Request: TypeAlias = Heartbeat | Read | Write | WriteMany | ReadParameter | WriteParameter


def _same(request: Read | Write | WriteMany, reply: Registers | Written | WrittenMany | Refused) -> bool:
    return reply[1:3] == request[0:2]


def _refuses(request: Read | Write | WriteMany, function: int, reply: Refused) -> bool:
    return _same(request, reply) and (reply.function, reply.register) == (function, request.register)


def _word(value: int) -> bytes:
    if not 0 <= value <= 0xFFFF:
        raise ValueError(f"{value} is no 16-bit word")
    return _WORD.pack(value)


@lru_cache(maxsize=64)
def _serial_bytes(serial: str) -> bytes:
    if len(serial) != 10 or not serial.isascii() or not serial.isprintable():
        raise ValueError(f"{serial!r}: a serial number has 10 printable ASCII characters")
    return serial.encode("ascii")


def _envelope(protocol: int, tcp_function: int, datalog_serial: str, payload: bytes) -> bytes:
    return _head(protocol, 12 + len(payload), tcp_function, datalog_serial) + payload


@lru_cache(maxsize=64)
def _head(protocol: int, length: int, tcp_function: int, datalog_serial: str) -> bytes:
    if protocol not in PROTOCOLS or length > LONGEST:
        raise ValueError(f"no frame: protocol {protocol}, length {length}")
    return _ENVELOPE.pack(PREFIX, protocol, length, 1, tcp_function, _serial_bytes(datalog_serial))


@lru_cache(maxsize=64)
def _addressed(function: int, inverter_serial: str) -> tuple[bytes, int]:
    """Return what the data of every such request begins with, and its CRC."""
    data = _ADDRESSED.pack(0, function, _serial_bytes(inverter_serial))
    return data, crc(data)


def _data_frame(request: Read | Write | WriteMany, function: int, register: int, part: bytes) -> bytes:
    if not 0 <= register <= 0xFFFF:
        raise ValueError(f"{register} is no register")
    addressed, begun = _addressed(function, request.inverter_serial)
    rest = _WORD.pack(register) + part
    length = len(addressed) + len(rest) + _WORD.size
    payload = _WORD.pack(length) + addressed + rest + _WORD.pack(crc(rest, begun))
    return _envelope(request.protocol, DATA, request.datalog_serial, payload)


@lru_cache(maxsize=64)
def _serial(raw: bytes) -> str:
    """Return a serial number as text; raises ProtocolError for anything but printable ASCII."""
    text = raw.decode("latin-1")
    if not text.isascii() or not text.isprintable():
        raise ProtocolError("format", "serial number is not printable", raw)
    return text


def decode_reply(raw: bytes) -> Reply:
    """Return what a stick said in exactly one frame. Raises ProtocolError."""
    protocol, function, datalog_serial = _opened(raw)
    if function == DATA:
        return _data_reply(raw, protocol, datalog_serial)
    if function == HEARTBEAT:
        return Heartbeat(protocol, datalog_serial, raw)
    if function == READ_PARAMETER:
        return _parameter(raw, protocol, datalog_serial)
    if len(raw) != 21:
        raise ProtocolError("length", "no acknowledgement of a parameter", raw)
    return ParameterWritten(protocol, datalog_serial, _WORD.unpack_from(raw, 18)[0], raw[20])


def decode_request(raw: bytes) -> Request:
    """Return what a client said in exactly one frame. Raises ProtocolError."""
    protocol, function, datalog_serial = _opened(raw)
    if function == DATA:
        return _data_request(raw, protocol, datalog_serial)
    if function == HEARTBEAT:
        return Heartbeat(protocol, datalog_serial, raw)
    if len(raw) < 20:
        raise ProtocolError("length", "a parameter request ends early", raw)
    parameter = _WORD.unpack_from(raw, 18)[0]
    if function == READ_PARAMETER:
        if len(raw) != 20:
            raise ProtocolError("length", "no request for a parameter", raw)
        return ReadParameter(datalog_serial, parameter, protocol)
    if len(raw) < 22 or _WORD.unpack_from(raw, 20)[0] != len(raw) - 22:
        raise ProtocolError("length", "the parameter's length disagrees with the frame", raw)
    return WriteParameter(datalog_serial, parameter, raw[22:], protocol)


def _opened(raw: bytes) -> tuple[int, int, str]:
    """Check the envelope; return protocol, TCP function and datalog serial."""
    if len(raw) < SHORTEST + 6:
        raise ProtocolError("length", "shorter than any frame", raw)
    prefix, protocol, length, one, function, serial = _ENVELOPE.unpack_from(raw)
    if prefix != PREFIX or protocol not in PROTOCOLS or one != 1 or not HEARTBEAT <= function <= WRITE_PARAMETER:
        raise ProtocolError("format", "no frame of this protocol", raw)
    if length + 6 != len(raw) or length > (LONGEST_HEARTBEAT if function == HEARTBEAT else LONGEST):
        raise ProtocolError("length", "the length word is wrong", raw)
    return protocol, function, _serial(serial)


def _opened_data(raw: bytes) -> tuple[int, bytes, int]:
    """Check the data frame's length and CRC; return function, inverter serial and register."""
    if len(raw) < 37:
        raise ProtocolError("length", "a data frame ends early", raw)
    data_length, _, function, serial, register = _DATA.unpack_from(raw, 18)
    if data_length + 20 != len(raw):
        raise ProtocolError("length", "the data length disagrees with the frame", raw)
    if not ends_in_its_crc(raw[20:]):
        raise ProtocolError("checksum", "CRC is wrong", raw)
    return function, serial, register


def _data_reply(raw: bytes, protocol: int, datalog_serial: str) -> Reply:
    function, serial, register = _opened_data(raw)
    inverter_serial = _serial(serial)
    if function in READS:
        data = _values(raw, protocol)
        if register + len(data) // 2 > 0x10000:
            raise ProtocolError("format", "registers beyond 65535", raw)
        return Registers(protocol, datalog_serial, inverter_serial, function, register, data)
    if function & EXCEPTION:
        if len(raw) != 37 or function ^ EXCEPTION not in FUNCTIONS:
            raise ProtocolError("format", "no exception of a known function", raw)
        return Refused(protocol, datalog_serial, inverter_serial, function ^ EXCEPTION, register, raw[34])
    if function not in (Function.WRITE_SINGLE, Function.WRITE_MULTI):
        raise ProtocolError("format", f"unknown device function {function}", raw)
    if len(raw) != 38:
        raise ProtocolError("length", "no acknowledgement of a write", raw)
    value = _WORD.unpack_from(raw, 34)[0]
    shape = Written if function == Function.WRITE_SINGLE else WrittenMany
    return shape(protocol, datalog_serial, inverter_serial, register, value)


def _values(raw: bytes, protocol: int) -> bytes:
    """Return the value bytes of a read reply, by the rule of the value-length byte."""
    if protocol == 1:
        if len(raw) != 38:
            raise ProtocolError("length", "a reply of protocol 1 holds one word", raw)
        return raw[34:36]
    size = raw[34]
    if size + 37 != len(raw) or size & 1 or not size:
        raise ProtocolError("length", "the value length disagrees with the frame", raw)
    return raw[35:-2]


def _data_request(raw: bytes, protocol: int, datalog_serial: str) -> Request:
    function, serial, register = _opened_data(raw)
    inverter_serial = _serial(serial)
    if len(raw) < 38:
        raise ProtocolError("length", "a request ends early", raw)
    value = _WORD.unpack_from(raw, 34)[0]
    if function == Function.WRITE_MULTI:
        if not value or raw[36] != 2 * value or len(raw) != 39 + 2 * value:
            raise ProtocolError("length", "the byte count disagrees with the frame", raw)
        return WriteMany(datalog_serial, inverter_serial, register, _words_of(value).unpack_from(raw, 37), protocol)
    if len(raw) != 38:
        raise ProtocolError("length", "no request is that long", raw)
    if function in READS:
        return Read(datalog_serial, inverter_serial, function, register, value, protocol)
    if function == Function.WRITE_SINGLE:
        return Write(datalog_serial, inverter_serial, register, value, protocol)
    raise ProtocolError("format", f"unknown device function {function}", raw)


def _parameter(raw: bytes, protocol: int, datalog_serial: str) -> Parameter:
    if protocol == 1:
        if len(raw) < 21:
            raise ProtocolError("length", "a parameter without a value", raw)
        return Parameter(protocol, datalog_serial, _WORD.unpack_from(raw, 18)[0], raw[20:])
    if len(raw) < 22:
        raise ProtocolError("length", "a parameter without a value", raw)
    parameter, size = _TWO_WORDS.unpack_from(raw, 18)
    if size != len(raw) - 22:
        raise ProtocolError("length", "the parameter's length disagrees with the frame", raw)
    return Parameter(protocol, datalog_serial, parameter, raw[22:])


class Decoder:
    """Cuts the bytes of one connection into what the stick said. A new connection takes a new decoder.

    >>> decoder = Decoder()
    >>> decoder.receive(bytes.fromhex("a11a02000d0001c1") + b"BA123")
    >>> decoder.next_frame() is None
    True
    >>> decoder.receive(b"45678\\0")
    >>> decoder.next_frame().datalog_serial
    'BA12345678'
    """

    MOST_WAITING = 1 << 16
    """Bytes kept for a reader that does not come; beyond, the oldest are dropped and counted as stray."""
    MOST_STRAY = 4096
    """Stray bytes are reported at the next prefix, at the latest when there are so many."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._stray = 0
        self._sample = b""
        self._excused = 0
        self._given_up = False

    @property
    def waiting(self) -> int:
        """How many bytes wait for the rest of their frame. Not for ever: see `give_up`."""
        return len(self._buffer)

    def receive(self, data: bytes) -> None:
        """Take what arrived, cut anyhow."""
        self._buffer += data
        if len(self._buffer) > self.MOST_WAITING:
            self._drop(len(self._buffer) - self.MOST_WAITING)

    def give_up(self) -> None:
        """Wait no longer for the rest of a frame: a false prefix can claim 1018 bytes and would swallow good frames.

        To be called when nothing came for two seconds or so; `next_frame` then reports it and searches on.
        """
        self._given_up = bool(self._buffer)

    def next_frame(self) -> Reply | None:
        """Return the next frame, or None until more bytes are received.

        Raises ProtocolError for what fails a check. The search then goes on right behind the refused
        prefix, not behind the length it claimed, so a false prefix hides no true one; the bytes of a
        refused frame are not reported a second time.
        """
        given_up, self._given_up = self._given_up, False
        if not self._find_prefix():
            return None
        total = self._claimed()
        if total and len(self._buffer) >= total:
            return self._take(total)
        if given_up:
            raise self._refuse("length", "the rest of a frame never came", len(self._buffer))
        return None

    def _take(self, total: int) -> Reply:
        raw = bytes(self._buffer[:total])
        try:
            reply = decode_reply(raw)
        except ProtocolError:
            self._refuse("", "", total)
            raise
        del self._buffer[:total]
        self._excused = max(0, self._excused - total)
        return reply

    def _claimed(self) -> int:
        """Return the size of the frame at the start of the buffer, 0 while unknown. Raises ProtocolError."""
        if len(self._buffer) < _LENGTHS.size:
            return 0
        _, protocol, length, one, function = _LENGTHS.unpack_from(self._buffer)
        if not SHORTEST <= length <= (LONGEST_HEARTBEAT if function == HEARTBEAT else LONGEST):
            raise self._refuse("length", f"a frame of {length} bytes", len(PREFIX))
        if protocol not in PROTOCOLS or one != 1:
            raise self._refuse("format", f"protocol {protocol}, byte six {one}", len(PREFIX))
        if not HEARTBEAT <= function <= WRITE_PARAMETER:
            raise self._refuse("format", f"unknown TCP function {function}", length + 6)
        return int(length) + 6

    def _refuse(self, kind: str, detail: str, claimed: int) -> ProtocolError:
        """Step over the prefix, and excuse what belongs to the same refused frame from being stray."""
        refused = ProtocolError(kind, detail, bytes(self._buffer[: _LENGTHS.size]))
        self._excused = max(self._excused, claimed)
        self._drop(len(PREFIX))
        return refused

    def _find_prefix(self) -> bool:
        """Drop bytes up to the next prefix; return whether there is one. Raises ProtocolError about stray bytes."""
        buffer = self._buffer
        if buffer.startswith(PREFIX) and not self._stray:
            return True
        start = buffer.find(PREFIX)
        end = start if start >= 0 else len(buffer) - buffer.endswith(PREFIX[:1])
        while end:
            step = min(end, self._excused + self.MOST_STRAY - self._stray)
            self._drop(step)
            end -= step
            if self._stray >= self.MOST_STRAY:
                raise self._report_stray()
        if start >= 0 and self._stray:
            raise self._report_stray()
        return start >= 0

    def _drop(self, count: int) -> None:
        excused = min(count, self._excused)
        self._excused -= excused
        self._sample += bytes(self._buffer[excused : min(count, excused + 48 - len(self._sample))])
        self._stray += count - excused
        del self._buffer[:count]

    def _report_stray(self) -> ProtocolError:
        report = ProtocolError("format", f"{self._stray} stray bytes", self._sample)
        self._stray, self._sample = 0, b""
        return report
