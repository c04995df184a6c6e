"""Streams bent at random end in frames or ProtocolError, nothing else, and nothing grows.

SOLARBRIDGE_MUTATIONS sets how many in the ordinary run, SOLARBRIDGE_SOAK_MUTATIONS in the soak.
"""

from __future__ import annotations

import os
import random
import tracemalloc

import pytest

from bridge.errors import ProtocolError
from bridge.luxpower.frame import Decoder, Registers, Reply, decode_request
from bridge.luxpower.models import Family, Feature
from bridge.luxpower.packs import packs_in
from bridge.luxpower.registers import HOLDS, INPUTS
from bridge.luxpower.store import Store
from tests.luxpower import wire
from tests.luxpower.captured import CAPTURES
from tests.luxpower.stream import drain

GOOD = [raw for capture in CAPTURES for raw in (*capture.received, *capture.sent)]


def bent(rng: random.Random, raw: bytes) -> bytes:
    """Return a frame with one to four faults, half of them with the CRC made right again."""
    data = bytearray(raw)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data)) if data else 0
        fault = rng.randrange(6)
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
    if len(data) > 22 and rng.random() < 0.5:
        data[-2:] = wire.little(wire.bitwise_crc(bytes(data[20:-2])) if len(data) < 60 or rng.random() < 0.1 else 0)
        if rng.random() < 0.5:
            data[4:6], data[18:20] = wire.little(len(data) - 6), wire.little(len(data) - 20)
    return bytes(data)


class Consumer:
    """Everything that received bytes can reach in the pure part of the slice."""

    def __init__(self) -> None:
        everything = Family(10, None, frozenset(Feature))
        self.decoder = Decoder()
        self.inputs, self.holds = Store(INPUTS, everything, max_age=60), Store(HOLDS, everything)
        self.frames = self.refused = 0

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
            except ProtocolError:
                self.refused += 1
            packs_in(frame)


def soaked(mutations: int, seed: int) -> Consumer:
    rng, consumer = random.Random(seed), Consumer()
    for number in range(mutations):
        consumer.feed(bent(rng, rng.choice(GOOD)), float(number))
        assert consumer.decoder.waiting <= Decoder.MOST_WAITING
        if number % 50 == 0:
            consumer.inputs.snapshot(float(number))
            consumer.holds.snapshot(float(number))
            consumer.decoder.give_up()
    return consumer


def test_bent_streams_end_in_frames_or_protocol_errors() -> None:
    consumer = soaked(int(os.environ.get("SOLARBRIDGE_MUTATIONS", "50000")), seed=4)
    assert consumer.frames > 100
    assert consumer.refused > 1000
    assert len(consumer.inputs) <= Store.MOST_BLOCKS
    assert len(consumer.holds) <= Store.MOST_BLOCKS


@pytest.mark.soak
def test_a_million_bent_streams_end_in_frames_or_protocol_errors() -> None:
    consumer = soaked(int(os.environ.get("SOLARBRIDGE_SOAK_MUTATIONS", "1000000")), seed=194)
    assert consumer.frames > 1000
    assert consumer.refused > 10000


def test_bent_streams_leave_no_memory_behind() -> None:
    soaked(500, seed=1)
    tracemalloc.start()
    try:
        soaked(500, seed=2)
        before = tracemalloc.get_traced_memory()[0]
        soaked(3000, seed=3)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 256 * 1024


def test_bent_requests_end_in_requests_or_protocol_errors() -> None:
    rng, decoded = random.Random(6), 0
    for _ in range(5000):
        try:
            decode_request(bent(rng, rng.choice(GOOD)))
        except ProtocolError:
            continue
        decoded += 1
    assert decoded > 10
