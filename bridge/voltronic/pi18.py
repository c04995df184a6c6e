"""Frames of PI18 and PI17 (InfiniSolar V, LV5048 V2, ...): commands, and replies out of a byte stream.

```
query  : ^P nnn name             | CRC hi | CRC lo | CR         ^P005GS
setter : ^S nnn name and value   | CRC hi | CRC lo | CR         ^S007POP1
reply  : ^D nnn fields, by comma | CRC hi | CRC lo | CR
answer : ^1 or ^0                | CRC hi | CRC lo | CR         done, or refused and unknown
```
nnn counts the bytes behind it, CRC and CR included. The CRC is that of frame.py. A CRC byte may be ``^``,
so unlike ``(`` it does not prove where a frame begins; and the papers' own lengths are wrong in places. The
frame is the one whose CRC is right, that with the right length first.

Source: PI18_InfiniSolar-V 2017 in jblance/mpp-solar docs/protocols; syssi/esphome-pipsolar docs/pdus/pi18.
"""

from __future__ import annotations

import re

from bridge.errors import ProtocolError
from bridge.voltronic import frame
from bridge.voltronic.frame import Segments, matches, printable

PAPER_LENGTHS = {"FWS": 5, "ACCT": 5, "ACLT": 5}
"""Lengths as the paper prints them where its own rule gives another. Unconfirmed which one a unit wants."""

_BEGIN = re.compile(rb"\^(?:D(\d{3})|[01](?=..\r\Z))", re.DOTALL)


def forms(command: str) -> tuple[bytes, ...]:
    """Return the frames to try for the query `command` ("GS", "EY2026"), the likelier first.

    They are two at most: the paper's length and the rule's, or a zero byte of the CRC as 01 and as 00.
    """
    by_rule = len(command) + 3
    lengths = dict.fromkeys((PAPER_LENGTHS.get(command, by_rule), by_rule))
    return tuple(form for length in lengths for form in frame.forms(f"^P{length:03d}{command}"))


def setters(command: str) -> tuple[bytes, ...]:
    """Return the frames to try for a setter ("POP1"), the likelier first: a zero byte of the CRC as 01, and as 00."""
    body = f"^S{len(command) + 3:03d}{command}"
    return frame.forms(body)


class Decoder(Segments):
    """Cuts a received byte stream into the texts of replies, without ``^``, CRC and CR.

    >>> decoder = Decoder()
    >>> decoder.receive(bytes.fromhex("5e 31 0b c2 0d"))
    >>> decoder.next_reply()
    '1'
    """

    def __init__(self) -> None:
        super().__init__(b"^")

    def next_reply(self, *, timed_out: bool = False) -> str | None:  # noqa: ARG002 - as the other decoder
        """Return the next reply's text ("D005" and fields, "0" or "1"), or None until more is received.

        Raises ProtocolError for one that fails its checks; it is dropped, so the next call goes on
        behind it. `timed_out` changes nothing here: no unit is known to end a reply otherwise.
        """
        segment = self._next_segment()
        if segment is None:
            return None
        found = [match for match in _BEGIN.finditer(segment) if len(segment) - match.start() >= 5]
        found.sort(key=lambda match: match[1] is None or int(match[1]) != len(segment) - match.start() - 5)
        for match in found:
            whole = segment[match.start() :]
            if matches(whole[:-3], whole[-3:-1]):
                return printable(whole[1:-3], whole)
        if found:
            raise ProtocolError("checksum", "the CRC does not fit", segment[found[0].start() :])
        raise ProtocolError("format", "a line without the start of a reply", segment)
