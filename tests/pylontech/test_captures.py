"""Every capture of this repository means what stands beside it."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.errors import ProtocolError
from bridge.pylontech import console, console_cells, console_frame, messages, system_messages
from bridge.pylontech.frame import Decoder, Refusal, encode, reply_info
from tests.pylontech.build import CAPTURES, capture

NAMES = sorted(path.stem for path in CAPTURES.glob("*.txt"))
FRAMES = [name for name in NAMES if not name.startswith("console-")]
TEXTS = [name for name in NAMES if name.startswith("console-")]


def close(got: Any, wanted: Any) -> bool:
    return got == pytest.approx(wanted, abs=1e-9) if isinstance(wanted, float) else got == wanted


def check(values: Any, wanted: Any) -> None:
    wrong = {key: (values.get(key), value) for key, value in wanted.items() if not close(values.get(key), value)}
    assert not wrong


@pytest.mark.parametrize("name", FRAMES)
def test_a_captured_frame_means_what_stands_beside_it(name: str) -> None:
    sent, received, wanted = capture(name)
    decoder = Decoder()
    decoder.receive(received)
    frame = decoder.next_frame()
    assert frame is not None
    assert encode(frame.address, frame.code, frame.info) == received
    asked = Decoder()
    asked.receive(sent)
    request = asked.next_frame()
    assert request is not None
    if wanted["read"] == "refused":
        with pytest.raises(Refusal) as refusal:
            reply_info(frame, wanted["address"])
        assert refusal.value.code == wanted["code"]
        return
    info = reply_info(frame, request.address)
    read = getattr(messages, wanted["read"], None) or getattr(system_messages, wanted["read"])
    result = read(info, wanted["address"]) if "address" in wanted else read(info)
    found, meant = (result, wanted["modules"]) if "modules" in wanted else ([result], [wanted["values"]])
    for values, expected in zip(found, meant, strict=True):
        check(values, expected)


@pytest.mark.parametrize("name", TEXTS)
def test_a_captured_answer_means_what_stands_beside_it(name: str) -> None:
    sent, received, wanted = capture(name)
    decoder = console_frame.Decoder()
    decoder.receive(received)
    answer = decoder.next_answer()
    assert answer is not None
    if wanted["read"] == "refused_text":
        with pytest.raises(ProtocolError) as refusal:
            answer.body(sent)
        assert refusal.value.kind == "refused"
        return
    lines = answer.body(sent)
    read = getattr(console, wanted["read"], None) or getattr(console_cells, wanted["read"])
    result = read(lines, wanted["position"]) if "position" in wanted else read(lines)
    if wanted["read"] == "modules":
        assert not result.refused
        assert result.absent == set(wanted["absent"])
        assert {str(position) for position in result.present} == set(wanted["modules"])
        for position, expected in wanted["modules"].items():
            check(result.present[int(position)], expected)
    elif wanted["read"] == "clock":
        assert result == wanted["clock"]
    else:
        check(result, wanted["values"])


def test_the_requests_of_the_captures_are_those_we_send() -> None:
    for name in FRAMES:
        sent, _, wanted = capture(name)
        decoder = Decoder()
        decoder.receive(sent)
        frame = decoder.next_frame()
        assert frame is not None
        if frame.code not in messages.READING:
            continue
        if wanted["read"].endswith("_group"):
            assert messages.group_request(frame.code, frame.address >> 4) == sent
        else:
            assert messages.request(frame.code, frame.address) == sent


def test_every_capture_names_its_source_and_has_its_meaning() -> None:
    assert sorted(path.stem for path in CAPTURES.glob("*.json")) == NAMES
    assert all((CAPTURES / f"{name}.txt").read_text().startswith("# ") for name in NAMES)
