"""Driving a decoder to the end of what it has."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from bridge.errors import ProtocolError
from bridge.luxpower.frame import Decoder, Reply


def drain(decoder: Decoder) -> tuple[list[Reply], list[ProtocolError]]:
    """Return all frames and errors that the received bytes hold; fails when the decoder does not get ahead."""
    frames: list[Reply] = []
    errors: list[ProtocolError] = []
    for _ in range(2 * decoder.waiting + 10):
        try:
            frame = decoder.next_frame()
        except ProtocolError as err:
            errors.append(err)
            continue
        if frame is None:
            return frames, errors
        frames.append(frame)
    raise AssertionError("the decoder turns on the spot")


def decode_all(chunks: Iterable[bytes]) -> tuple[list[Reply], list[ProtocolError]]:
    decoder = Decoder()
    frames: list[Reply] = []
    errors: list[ProtocolError] = []
    for chunk in chunks:
        decoder.receive(chunk)
        more, wrong = drain(decoder)
        frames += more
        errors += wrong
    return frames, errors


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]
