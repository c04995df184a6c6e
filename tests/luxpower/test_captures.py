"""Every capture decodes to what stands beside it; every request in one can be built again."""

from __future__ import annotations

import pytest

from bridge.luxpower.frame import Heartbeat, Registers, decode_reply, decode_request
from bridge.luxpower.models import Family, family_of
from bridge.luxpower.packs import packs_in
from bridge.luxpower.registers import HOLDS, INPUTS
from bridge.luxpower.store import Store
from tests.luxpower.captured import CAPTURES, Capture, load

CORE = load("input-0-39")


def published(capture: Capture) -> dict[str, object]:
    """What the store makes of the capture, after a frame with the core values."""
    frame = decode_reply(capture.received[0])
    assert isinstance(frame, Registers)
    model = capture.expected["model"]
    store = Store(INPUTS if frame.function == 4 else HOLDS, family_of(*model) if model else Family())
    if frame.function == 4:
        core = decode_reply(CORE.received[0])
        assert isinstance(core, Registers)
        store.take(core, 0.0)
    assert store.take(frame, 1.0) == ()
    snapshot = store.snapshot(1.0)
    assert snapshot is not None
    assert list(snapshot.values) == [field.key for field in store.fields]
    return dict(snapshot.values)


def named(name: str, captures: list[Capture] = CAPTURES) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("capture", [c for c in captures if name in c.expected], ids=lambda c: c.name)


@named("frame")
def test_a_capture_decodes_to_the_frame_beside_it(capture: Capture) -> None:
    frame = decode_reply(capture.received[0])
    expected = dict(capture.expected)
    assert type(frame).__name__ == expected.pop("frame")
    length = len(frame.words) if isinstance(frame, Registers) else None
    for key in expected.keys() - {"model", "state", "packs"}:
        found = getattr(frame, key) if key != "length" or length is None else length
        assert (found.hex() if isinstance(found, bytes) else found) == expected[key], key
    assert frame.datalog_serial == "BA90817263"
    assert getattr(frame, "inverter_serial", "4052061837") == "4052061837"


@named("state")
def test_a_capture_is_published_with_the_values_beside_it(capture: Capture) -> None:
    values = published(capture)
    for key, value in capture.expected["state"].items():
        assert values[key] == value, key
        assert type(values[key]) is type(value), key


@named("packs")
def test_a_capture_holds_the_packs_beside_it(capture: Capture) -> None:
    frame = decode_reply(capture.received[0])
    assert isinstance(frame, Registers)
    assert packs_in(frame) == (capture.expected["packs"], [])


@pytest.mark.parametrize("capture", [c for c in CAPTURES if c.sent], ids=lambda c: c.name)
def test_a_captured_request_is_built_again_and_answered(capture: Capture) -> None:
    request = decode_request(capture.sent[0])
    reply = decode_reply(capture.received[0])
    if isinstance(request, Heartbeat):
        assert isinstance(reply, Heartbeat)
        assert reply.raw == capture.sent[0]
    else:
        assert request.encode() == capture.sent[0]
        assert request.answered_by(reply)
