"""T14 and others: whatever bytes come, a parser takes them or refuses them in its own words, and keeps nothing.

In the ordinary run a few hundred inputs for each parser, in `make soak` as many as fit into SOAK_MINUTES. What
was found once stands in FOUND.
"""

from __future__ import annotations

import gc
import logging
import os
import random
import time
import tracemalloc
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.mutate import bent
from tests.fuzz.parsers import PARSERS, Parser

MUTATIONS = 150
MINUTES = float(os.environ.get("SOAK_MINUTES", "5"))
MEMORY = 256 * 1024
"""Bytes by which what a parser keeps may grow in the second half of a long time: its caches are full by then."""
FIGURE = b"1" * 400
FOUND: dict[str, list[bytes]] = {
    "voltronic replies": [FIGURE, b"0" + FIGURE + b"5"],
    "lxp-bridge commands": [b'set/ac_charge/1 {"start": "5:00", "end": "\xed\xa0\x80"}',
                            b'set/ac_charge/1 {"start": "\\ud800", "end": "5:00"}'],
    "ledger": [b'{"spent": [[' + FIGURE + b', "w"]]}', b'{"ids": {"a": [' + FIGURE + b', "x", {}]}}'],
    "other programs' configurations": [b"\0", b'inverters: "\\UFFFFFFFF"'],
}  # fmt: skip

every_parser = pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Warnings about what was refused would fill the report."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def feed(parser: Parser, data: bytes) -> bool:
    """Return whether it was taken; any error but those announced comes through, with its input."""
    try:
        parser.feed(data)
    except parser.refuses:
        return False
    except Exception as err:
        err.add_note(f"{parser.name}: {data!r}")
        raise
    return True


@every_parser
def test_good_examples_are_taken(parser: Parser) -> None:
    assert any(feed(parser, seed) for seed in parser.seeds())


@every_parser
def test_bent_examples_are_taken_or_refused(parser: Parser) -> None:
    rng, seeds = random.Random(parser.name), parser.seeds()
    for _ in range(MUTATIONS):
        feed(parser, bent(rng, seeds))


@every_parser
@settings(max_examples=30)
@given(data=st.binary(max_size=300) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
def test_anything_is_taken_or_refused(parser: Parser, data: bytes) -> None:
    feed(parser, data)


@pytest.mark.parametrize(
    ("parser", "data"),
    [pytest.param(p, data, id=f"{p.name} {n}") for p in PARSERS for n, data in enumerate(FOUND.get(p.name, []))],
)
def test_what_was_found_once_is_refused(parser: Parser, data: bytes) -> None:
    feed(parser, data)


@pytest.mark.soak
@every_parser
def test_bent_examples_for_a_long_time_leave_nothing_behind(parser: Parser) -> None:
    rng, seeds = random.Random(), parser.seeds()
    for seed in seeds:
        feed(parser, seed)  # what is loaded when it is first wanted stays, and is not kept of any input
    begun, half = time.monotonic(), MINUTES * 60 / len(PARSERS) / 2
    tracemalloc.start()
    try:
        kept = [held(parser, rng, seeds, begun + half), held(parser, rng, seeds, begun + 2 * half)]
    finally:
        tracemalloc.stop()
    print(f"{parser.name}: {[f'{size / 1024:.0f} KiB' for size in kept]} kept")
    assert kept[1] - kept[0] < MEMORY


def held(parser: Parser, rng: random.Random, seeds: Sequence[bytes], until: float) -> int:
    """Feed a parser until then; return the bytes that are held since tracing began."""
    while time.monotonic() < until:
        feed(parser, bent(rng, seeds))
    gc.collect()
    return tracemalloc.get_traced_memory()[0]
