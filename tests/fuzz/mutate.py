"""Good inputs bent at random: what no parser may stumble over."""

from __future__ import annotations

import random
from collections.abc import Sequence

ODD = (
    b"", b"\0", b"\xff", b"\r", b"\n", b" ", b"-", b"+", b".", b"%", b"{", b"[", b'"', b"*", b"&a", b"!!", b": ", b"#",
    b"nan", b"inf", b"-0", b"1e999", b"1" * 400, b"\xef\xbb\xbf", b"\xed\xa0\x80", "٣".encode(), b"0x", b"_", b"/",
    b'"\\UFFFFFFFF"', b"\\ud800", b"null", b"true", b"[" * 300, b"{}", b"2026-13-45", b"99:99", b"\x1b[2J",
)  # fmt: skip
"""Pieces that parsers have stumbled over before."""
LONGEST = 8192
"""Bytes of what comes out."""


def bent(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Return one of the seeds with one to five faults."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 2, 3, 5))):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(8):
            case 0 if data:
                data[at % len(data)] ^= 1 << rng.randrange(8)
            case 1 if data:
                data[at % len(data)] = rng.randrange(256)
            case 2:
                del data[at : at + rng.randint(1, 12)]
            case 3:
                data[at:at] = rng.choice(ODD)
            case 4:
                data[at : at + rng.randint(0, 6)] = rng.choice(ODD)
            case 5:
                data[at:at] = data[at : at + rng.randint(1, 60)]
            case 6:
                other = rng.choice(seeds)
                begin = rng.randrange(len(other) + 1)
                data[at:] = other[begin : begin + rng.randint(0, 80)]
            case _:
                del data[at:]
    return bytes(data[:LONGEST])
