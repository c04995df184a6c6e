"""RS485 frames: checksums, lengths, a decoder that finds its feet again after noise.

    ~ | VER 2 | ADR 2 | CID1 2 | CID2 or RTN 2 | LENGTH 4 | INFO n | CHKSUM 4 | CR      characters

Between the two ends stands upper-case ASCII hex, two characters a byte, numbers big-endian. LENGTH is
LCHKSUM (one digit) and LENID (three digits): the number of *characters* of INFO. CHKSUM is the negated
sum of all characters between ~ and itself. A request names its command in CID2; the same place of a
reply holds the return code RTN, so a reply does not say what it answers.
Source: vendor's RS485 protocol, low voltage, V3.3, sections 2.2 to 2.4.
"""

from __future__ import annotations

from dataclasses import dataclass

from bridge.errors import ProtocolError

SOI, EOI = 0x7E, 0x0D
VERSION = 0x20
VERSIONS = (0x20, 0x21, 0x25)
"""Protocol versions read as this one. Batteries answer 20h. unconfirmed: 21h and 25h of lookalikes."""
BATTERY = 0x46
"""CID1 of battery data."""
CLONE_VERSION, CLONE_BATTERY = 0x22, 0x4A
"""Lookalikes whose frames look the same but count in 10 mV, 10 mA and 10 mAh."""

HEX = b"0123456789ABCDEF"
SMALLEST = 1 + 12 + 4 + 1
LARGEST = SMALLEST + 0xFFF

REFUSALS = {
    0x01: "version error",
    0x02: "checksum error",
    0x03: "length checksum error",
    0x04: "command unknown",
    0x05: "command format error",
    0x06: "invalid data",
    0x90: "no module at this address",
    0x91: "module listed, but it does not answer the master",
}
"""Return codes and what they mean. Source: V3.3 section 2.4; other codes exist in lookalikes and stay numbers."""


class Refusal(ProtocolError):
    """The battery said no; `code` is its return code."""

    def __init__(self, code: int, raw: bytes = b"") -> None:
        super().__init__("refused", f"RTN {code:02X}, {REFUSALS.get(code, 'meaning unknown')}", raw)
        self.code = code


@dataclass(frozen=True, slots=True)
class Frame:
    """One whole frame with right checksums. `code` is CID2 in a request, RTN in a reply."""

    address: int
    code: int
    info: bytes
    version: int = VERSION
    cid1: int = BATTERY


def checksum(characters: bytes) -> int:
    """Return CHKSUM of everything between SOI and CHKSUM: the negated sum of the characters, 16 bits."""
    return -sum(characters) & 0xFFFF


def length_word(lenid: int) -> int:
    """Return LENGTH for `lenid` characters of INFO: LCHKSUM in the upper four bits.

    LCHKSUM is the negated digit sum modulo 16, so it is 0, not 16, when the sum is a multiple of 16.
    """
    return (-((lenid >> 8) + (lenid >> 4 & 15) + (lenid & 15)) & 15) << 12 | lenid


def encode(address: int, code: int, info: bytes = b"", version: int = VERSION) -> bytes:
    """Return the frame as it goes over the wire."""
    lenid = 2 * len(info)
    if lenid > 0xFFF:
        raise ValueError(f"{len(info)} bytes of INFO do not fit into one frame")
    body = b"%02X%02X%02X%02X%04X" % (version, address, BATTERY, code, length_word(lenid)) + info.hex().upper().encode()
    return b"~%b%04X\r" % (body, checksum(body))


def decode(raw: bytes) -> Frame:
    """Return the frame in `raw`, which reaches from SOI to EOI.

    Raises ProtocolError: "length" for a frame too short or a LENID that does not fit, "format" for
    anything but upper-case hex, "checksum" for CHKSUM or LCHKSUM.
    """
    body = raw[1:-5]
    if len(raw) < SMALLEST or len(raw) & 1:
        raise ProtocolError("length", f"{len(raw)} characters are no frame", raw)
    if raw[1:-1].translate(None, HEX):
        raise ProtocolError("format", "other characters than upper-case hex", raw)
    if -sum(body) & 0xFFFF != int(raw[-5:-1], 16):
        raise ProtocolError("checksum", f"CHKSUM should be {checksum(body):04X}", raw)
    data = bytes.fromhex(body.decode("ascii"))
    length = data[4] << 8 | data[5]
    if length != length_word(length & 0xFFF):
        raise ProtocolError("checksum", f"LCHKSUM of LENGTH {length:04X}", raw)
    if length & 0xFFF != 2 * (len(data) - 6):
        raise ProtocolError("length", f"LENID {length & 0xFFF}, but {2 * (len(data) - 6)} characters of INFO", raw)
    return Frame(data[1], data[3], data[6:], data[0], data[2])


def reply_info(frame: Frame, address: int) -> bytes:
    """Return the INFO of a reply that comes from `address`.

    Raises ProtocolError: "foreign" for another module's reply, "format" for a dialect whose units are
    others; Refusal when the battery said no.
    """
    if frame.cid1 == CLONE_BATTERY or frame.version == CLONE_VERSION:
        raise ProtocolError("format", f"a lookalike's dialect (VER {frame.version:02X}h, CID1 {frame.cid1:02X}h)")
    if frame.cid1 != BATTERY or frame.version not in VERSIONS:
        raise ProtocolError("format", f"VER {frame.version:02X}h, CID1 {frame.cid1:02X}h are not a battery's")
    if frame.address != address:
        raise ProtocolError("foreign", f"address {frame.address:02X}h answers, {address:02X}h was asked")
    if frame.code:
        raise Refusal(frame.code)
    return frame.info


class Decoder:
    r"""Cuts a received byte stream into frames.

    >>> decoder = Decoder()
    >>> decoder.receive(b"\xff\x00~2002460000")
    >>> decoder.next_frame() is None
    True
    >>> decoder.receive(b"00FDB2\r")
    >>> decoder.next_frame()
    Frame(address=2, code=0, info=b'', version=32, cid1=70)
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._noise = False

    def receive(self, data: bytes) -> None:
        """Take bytes as they come. Keeps no more than one frame's worth of unfinished ones."""
        self._buffer += data
        if len(self._buffer) > LARGEST and EOI not in self._buffer:
            self._forget_noise()

    def next_frame(self) -> Frame | None:
        """Return the next frame, or None until more bytes are received.

        Raises ProtocolError for one that fails a check; it is dropped, so the next call goes on behind it.
        """
        while (end := self._buffer.find(EOI)) >= 0:
            # A driver that switches leaves bytes before ~; a ~ inside a frame starts it anew.
            start = self._buffer.rfind(SOI, 0, end)
            raw = bytes(self._buffer[start : end + 1]) if start >= 0 else b""
            self._noise = self._noise or start < 0
            del self._buffer[: end + 1]
            if raw:
                return decode(raw)
        return None

    def missing(self) -> int:
        """Return how many characters the frame under way lacks, by its LENGTH where that has come; at least 1."""
        start = self._buffer.rfind(SOI)
        if start < 0:
            return 1
        size = SMALLEST
        characters = self._buffer[start + 9 : start + 13]
        if len(characters) == 4 and not characters.translate(None, HEX):
            length = int(characters, 16)
            if length == length_word(length & 0xFFF):
                size += length & 0xFFF
        return max(1, size - len(self._buffer) + start)

    def clear(self) -> None:
        """Forget what came so far: an unfinished frame must not meet the next reply."""
        self._buffer.clear()
        self._noise = False

    def unfinished(self) -> str:
        """Return why no frame came: "no reply", "no frame" (bytes, but no ~) or "incomplete"."""
        if SOI in self._buffer:
            return "incomplete"
        return "no frame" if self._buffer or self._noise else "no reply"

    def _forget_noise(self) -> None:
        start = self._buffer.rfind(SOI)
        keep = bytes(self._buffer[start:]) if start >= 0 and len(self._buffer) - start <= LARGEST else b""
        self._buffer[:] = keep
        self._noise = True
