"""Streams bent at random end in frames or ProtocolError, nothing else, and nothing grows.

SOLARBRIDGE_MUTATIONS sets how many in the ordinary run, SOLARBRIDGE_SOAK_MUTATIONS in the soak.
"""

from __future__ import annotations

import gc
import os
import random
import tracemalloc

import pytest

from bridge.errors import ProtocolError
from bridge.luxpower.frame import Decoder, Registers, Reply, crc, decode_request
from bridge.luxpower.models import Family, Feature
from bridge.luxpower.packs import packs_in
from bridge.luxpower.registers import HOLDS, INPUTS
from bridge.luxpower.store import Store
from tests.luxpower import wire
from tests.luxpower.captured import CAPTURES
from tests.luxpower.stream import drain

GOOD = [raw for capture in CAPTURES for raw in (*capture.received, *capture.sent)]


def bent(rng: random.Random, raw: bytes) -> bytes:
    """Return a frame with one to four faults; most get lengths and a CRC that fit, to reach what lies behind."""
    data = bytearray(raw)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(data)) if data else 0
        fault = rng.choice((0, 0, 1, 1, 2, 3, 4, 5))
        if fault == 0 and data:
            data[at] ^= 1 << rng.randrange(8)
        elif fault == 1 and data:
            data[at] = rng.choice((0, 0xFF, 0xA1, 0x1A, rng.randrange(256)))
        elif fault == 2:
            del data[at : at + rng.randint(1, 8)]
        elif fault == 3:
            data[at:at] = rng.randbytes(rng.randint(1, 8))
        elif fault == 4:
            data[at:at] = data[at : at + rng.randint(1, 40)]
        else:
            del data[at:]
    if len(data) > 36 and rng.random() < 0.7:
        data[0:2] = b"\xa1\x1a"
        data[4:6] = wire.little(len(data) - 6)
        if data[7] == 0xC2:
            data[18:20] = wire.little(len(data) - 20)
            if data[21] in (3, 4) and rng.random() < 0.7:
                data[34] = (len(data) - 37) & 0xFE
            data[-2:] = wire.little(crc(bytes(data[20:-2])))
    return bytes(data)


class Consumer:
    """Everything that received bytes can reach in the pure part of the slice."""

    def __init__(self) -> None:
        everything = Family(10, None, frozenset(Feature))
        self.decoder = Decoder()
        self.inputs, self.holds = Store(INPUTS, everything, max_age=60), Store(HOLDS, everything)
        self.frames = self.refused = self.stored = 0

    def feed(self, data: bytes, now: float) -> None:
        self.decoder.receive(data)
        frames, errors = drain(self.decoder)
        self.frames += len(frames)
        self.refused += len(errors)
        for frame in frames:
            self._store(frame, now)

    def _store(self, frame: Reply, now: float) -> None:
        if isinstance(frame, Registers):
            store = self.inputs if frame.function == 4 else self.holds
            try:
                store.take(frame, now)
                self.stored += 1
            except ProtocolError:
                self.refused += 1
            packs_in(frame)


def soaked(mutations: int, seed: int) -> Consumer:
    rng, consumer = random.Random(seed), Consumer()
    for number in range(mutations):
        consumer.feed(bent(rng, rng.choice(GOOD)), float(number))
        assert consumer.decoder.waiting <= Decoder.MOST_WAITING
        if rng.random() < 0.5:
            consumer.decoder.give_up()
        if number % 50 == 0:
            consumer.inputs.snapshot(float(number))
            consumer.holds.snapshot(float(number))
    return consumer


def test_bent_streams_end_in_frames_or_protocol_errors() -> None:
    consumer = soaked(int(os.environ.get("SOLARBRIDGE_MUTATIONS", "50000")), seed=4)
    assert consumer.stored > 1000
    assert consumer.refused > 1000
    assert len(consumer.inputs) <= Store.MOST_BLOCKS
    assert len(consumer.holds) <= Store.MOST_BLOCKS


@pytest.mark.soak
def test_a_million_bent_streams_end_in_frames_or_protocol_errors() -> None:
    consumer = soaked(int(os.environ.get("SOLARBRIDGE_SOAK_MUTATIONS", "1000000")), seed=194)
    assert consumer.stored > 10000
    assert consumer.refused > 10000


def test_bent_streams_leave_no_memory_behind() -> None:
    tracemalloc.start()
    try:
        soaked(3000, seed=1)  # fills the bounded caches
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        soaked(3000, seed=2)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 32 * 1024


def test_bent_requests_end_in_requests_or_protocol_errors() -> None:
    rng, decoded = random.Random(6), 0
    for _ in range(5000):
        try:
            decode_request(bent(rng, rng.choice(GOOD)))
        except ProtocolError:
            continue
        decoded += 1
    assert decoded > 10
