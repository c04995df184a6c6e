"""Frames of the PI30 family (PI30, PI41, PI16): CRC, commands, and replies out of a byte stream.

```
command : ASCII text                | CRC hi | CRC lo | CR
reply   : ( fields, one space apart | CRC hi | CRC lo | CR
```
CRC-16/XMODEM over all before it; then a CRC byte equal to ``(``, CR or LF is increased by one. So neither
``(`` nor CR can stand inside a frame, and the last ``(`` before a CR is where the frame begins: an inverter
that is asked anew drops its reply under way and begins the next, with nothing between the two.

Source: vendor papers in jblance/mpp-solar docs/protocols; libvoltronic src/voltronic_crc.c. The cut replies
were seen in the logs of Interster/AxpertInverterLogScriptPython, a third of all records.
"""

from __future__ import annotations

from binascii import crc_hqx

from bridge.errors import ProtocolError

LIMIT = 1024
"""Bytes without a CR that are kept: five times the longest reply known."""

_RESERVED = b"(\r\n"
_BUMPED = bytes(byte + 1 if byte in _RESERVED else byte for byte in range(256))
_ZERO_BUMPED = _BUMPED.replace(b"\x00", b"\x01", 1)


def crc(body: bytes) -> bytes:
    """Return the two check bytes of `body` as a reply carries them, the reserved values increased by one."""
    return crc_hqx(body, 0).to_bytes(2, "big").translate(_BUMPED)


def encode(command: str, *, plain_zero: bool = False) -> bytes:
    """Return the frame that asks `command`.

    A zero byte in the CRC goes out as 01: an Axpert VM IV does not answer one that holds 00
    (jblance/mpp-solar pull 450). `plain_zero` leaves it at 00, for a second try.
    """
    body = command.encode("ascii")
    table = _BUMPED if plain_zero else _ZERO_BUMPED
    return body + crc_hqx(body, 0).to_bytes(2, "big").translate(table) + b"\r"


def forms(command: str) -> tuple[bytes, ...]:
    """Return the frames to try for `command`, the likelier first."""
    first, second = encode(command), encode(command, plain_zero=True)
    return (first,) if first == second else (first, second)


def matches(body: bytes, received: bytes) -> bool:
    """Return whether `received` is the CRC of `body`; a computed 00 may have come as 00 or as 01."""
    expected = crc(body)
    if received == expected:
        return True
    pairs = zip(received, expected, strict=True)
    return all(got == want or (want == 0 and got == 1) for got, want in pairs)


class Segments:
    """Cuts a byte stream behind each CR and keeps no more than LIMIT bytes of what has none yet."""

    def __init__(self, start: bytes) -> None:
        self._start = start
        self._buffer = bytearray()

    def receive(self, data: bytes) -> None:
        """Take bytes as they come, in pieces of any size."""
        self._buffer += data

    def clear(self) -> None:
        """Forget what has been received: the next question begins afresh."""
        self._buffer.clear()

    def _next_segment(self) -> bytes | None:
        """Return the bytes up to and with the next CR, or None. Raises ProtocolError for endless noise."""
        end = self._buffer.find(b"\r") + 1
        if end > 0:
            segment = bytes(self._buffer[max(0, end - LIMIT) : end])
            del self._buffer[:end]
            return segment
        if len(self._buffer) <= LIMIT:
            return None
        noise = bytes(self._buffer[:48])
        begun = self._buffer.rfind(self._start, len(self._buffer) - LIMIT)
        del self._buffer[: begun if begun > 0 else len(self._buffer)]
        raise ProtocolError("length", f"no end within {LIMIT} bytes", noise)


class Decoder(Segments):
    """Cuts a received byte stream into the texts of PI30 replies, without ``(``, CRC and CR.

    >>> decoder = Decoder()
    >>> decoder.receive(b"(ACK")
    >>> decoder.next_reply() is None
    True
    >>> decoder.receive(b"9 \\r")
    >>> decoder.next_reply()
    'ACK'
    """

    def __init__(self) -> None:
        super().__init__(b"(")

    def next_reply(self, *, timed_out: bool = False) -> str | None:
        """Return the next reply's text, or None until more bytes are received.

        Raises ProtocolError for one that fails its checks; it is dropped, so the next call goes on
        behind it. With `timed_out` a frame that ends in LF where CR belongs is taken too.
        """
        segment = self._next_segment()
        if segment is None:
            return self._ended_by_line_feed() if timed_out else None
        start = segment.rfind(b"(")
        if start < 0:
            raise _without_bracket(segment.lstrip(b"\x00\n"))
        frame = segment[start:]
        if frame == b"(NAK\r":
            # most likely a whole NAK whose CRC was damaged (syssi/esphome-pipsolar issue 27): no answer at all
            raise ProtocolError("format", "a refusal without its checksum", frame)
        return _text(frame)

    def _ended_by_line_feed(self) -> str | None:
        frame = bytes(self._buffer[max(self._buffer.rfind(b"("), 0) :]).rstrip(b"\x00")
        if frame.startswith(b"(") and frame.endswith(b"\n") and len(frame) >= 5 and matches(frame[:-3], frame[-3:-1]):
            self._buffer.clear()
            return _text(frame)
        return None


def _text(frame: bytes) -> str:
    """Return the text of one frame from its ``(`` to its end, checked by length, CRC and characters."""
    if len(frame) < 5:
        raise ProtocolError("length", "too short for a reply", frame)
    body = frame[:-3]
    if not matches(body, frame[-3:-1]):
        raise ProtocolError("checksum", "the CRC does not fit", frame)
    return printable(body[1:], frame)


def printable(body: bytes, frame: bytes) -> str:
    """Return `body` as text. Raises ProtocolError when it holds anything but printable ASCII."""
    text = body.decode("latin-1")
    if not (text.isascii() and text.isprintable()):
        raise ProtocolError("format", "a character that no reply holds", frame)
    return text


def _without_bracket(rest: bytes) -> ProtocolError:
    """Say what a segment without ``(`` is: an echo, and the ``^0`` of PI18, mean "unknown command"."""
    if len(rest) >= 4 and matches(rest[:-3], rest[-3:-1]):
        another = rest.startswith(b"^")
        detail = "answered in PI17 or PI18" if another else "the command came back as it was sent"
        return ProtocolError("refused", detail, rest)
    return ProtocolError("format", "a line without the start of a reply", rest)
