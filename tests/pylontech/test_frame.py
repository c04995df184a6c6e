"""Frames: cut, noise, damage and every length."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import ProtocolError
from bridge.pylontech.frame import (
    LARGEST,
    SMALLEST,
    Decoder,
    Frame,
    Refusal,
    checksum,
    decode,
    encode,
    length_word,
    reply_info,
)
from tests.pylontech.build import capture, reply

_, WHOLE, _ = capture("analog-15-cells")
INFOS = st.binary(max_size=200)
FRAMES = st.builds(Frame, st.integers(0, 255), st.integers(0, 255), INFOS, st.sampled_from((0x20, 0x21)))


def wire(frame: Frame) -> bytes:
    return encode(frame.address, frame.code, frame.info, frame.version)


def frames_of(decoder: Decoder) -> list[Frame]:
    frames = []
    while (frame := decoder.next_frame()) is not None:
        frames.append(frame)
    return frames


def test_the_checksum_is_the_documented_one() -> None:
    # The string whose sum is 038Eh; the document prints another string beside it.
    assert checksum(b"1203400456ABCDFE") == 0xFC72


LENGTHS = [(0, 0), (0x12, 0xD012), (0x2E0, 0x02E0), (0x178, 0x0178), (0xFFF, 0x3FFF)]


@pytest.mark.parametrize(("lenid", "length"), LENGTHS)
def test_the_length_checksum_is_zero_when_the_digit_sum_is_a_multiple_of_sixteen(lenid: int, length: int) -> None:
    assert length_word(lenid) == length


def test_every_length_digit_sum_and_its_checksum_make_a_multiple_of_sixteen() -> None:
    for lenid in range(0x1000):
        assert sum(int(digit, 16) for digit in f"{length_word(lenid):04X}") % 16 == 0


@given(FRAMES)
def test_what_is_encoded_is_decoded_again(frame: Frame) -> None:
    assert decode(wire(frame)) == frame


@given(st.integers(0, 255), st.integers(0, 255), INFOS)
def test_the_encoder_agrees_with_plain_string_formatting(address: int, code: int, info: bytes) -> None:
    assert encode(address, code, info) == reply(address, info.hex().upper(), code)


@given(st.lists(FRAMES, max_size=4), st.data())
def test_frames_come_out_the_same_however_they_are_cut(frames: list[Frame], data: st.DataObject) -> None:
    stream = b"".join(wire(frame) for frame in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    decoder, found = Decoder(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        decoder.receive(stream[start:end])
        found += frames_of(decoder)
    assert found == frames


def test_b6_a_frame_is_found_byte_by_byte() -> None:
    decoder, found = Decoder(), []
    for byte in WHOLE * 2:
        decoder.receive(bytes([byte]))
        found += frames_of(decoder)
    assert found == [decode(WHOLE)] * 2


@given(st.binary(max_size=80))
def test_noise_gives_errors_and_nothing_else(noise: bytes) -> None:
    decoder = Decoder()
    decoder.receive(noise)
    for _ in range(len(noise) + 1):
        try:
            frame = decoder.next_frame()
        except ProtocolError:
            continue
        assert frame is None


@given(st.binary(max_size=60).filter(lambda noise: b"\r" not in noise and b"~" not in noise))
def test_b7_a_frame_behind_noise_is_found(noise: bytes) -> None:
    decoder = Decoder()
    decoder.receive(noise + WHOLE + noise + WHOLE)
    assert frames_of(decoder) == [decode(WHOLE)] * 2


def test_b13_a_cut_reply_before_a_whole_one_harms_nothing() -> None:
    for end in range(1, len(WHOLE)):
        decoder = Decoder()
        decoder.receive(WHOLE[:end] + WHOLE)
        assert decoder.next_frame() == decode(WHOLE)


def test_b8_a_frame_cut_anywhere_is_never_believed() -> None:
    for start in range(len(WHOLE)):
        for end in range(start, len(WHOLE) + 1):
            decoder = Decoder()
            decoder.receive(WHOLE[start:end])
            try:
                frame = decoder.next_frame()
            except ProtocolError:
                continue
            assert frame is None or (start, end) == (0, len(WHOLE))


def test_a_frame_with_characters_missing_inside_is_never_believed() -> None:
    for start in range(1, len(WHOLE) - 1):
        for size in (1, 2, 8):
            damaged = WHOLE[:start] + WHOLE[start + size :]
            if not damaged.endswith(b"\r"):
                continue
            with pytest.raises(ProtocolError):
                decode(damaged)


def test_b10_no_single_bit_error_is_ever_believed() -> None:
    for place in range(len(WHOLE)):
        for bit in range(8):
            damaged = bytearray(WHOLE)
            damaged[place] ^= 1 << bit
            decoder = Decoder()
            decoder.receive(bytes(damaged))
            try:
                frame = decoder.next_frame()
            except ProtocolError:
                continue
            assert frame is None


@given(st.integers(1, len(WHOLE) - 2), st.integers(0, 255))
def test_one_changed_byte_is_never_believed(place: int, byte: int) -> None:
    if byte == WHOLE[place] or byte == ord("~"):
        return
    damaged = bytearray(WHOLE)
    damaged[place] = byte
    with pytest.raises(ProtocolError):
        decode(bytes(damaged))


@pytest.mark.parametrize(
    ("raw", "kind", "words"),
    [
        (b"~\r", "length", "no frame"),
        (b"~200246000000FDB\r", "length", "no frame"),
        (b"~20024600000 FDB2\r", "format", "upper-case"),
        (b"~20024600b01402d002b79800faff06c0f82d\r", "format", "upper-case"),
        (b"~200246000000FDB1\r", "checksum", "CHKSUM"),
        (b"~200246001000FDB1\r", "checksum", "LCHKSUM"),
        (b"~20024600E002FD9B\r", "length", "LENID"),
    ],
)
def test_a_refused_frame_names_its_reason(raw: bytes, kind: str, words: str) -> None:
    with pytest.raises(ProtocolError) as refusal:
        decode(raw)
    assert refusal.value.kind == kind
    assert words in refusal.value.detail


def test_b9_lengths_at_and_beyond_the_limit() -> None:
    longest = encode(2, 0, bytes(0xFFF // 2))
    assert len(longest) <= LARGEST
    assert len(decode(longest).info) == 0xFFF // 2
    with pytest.raises(ValueError, match="do not fit"):
        encode(2, 0, bytes(0x800))


def test_b7_endless_noise_does_not_grow_the_buffer() -> None:
    decoder = Decoder()
    for _ in range(200):
        decoder.receive(b"~" + b"A" * 5000)
        assert decoder.next_frame() is None
        assert len(decoder._buffer) <= LARGEST + 5001
    decoder.receive(WHOLE)
    assert decoder.next_frame() == decode(WHOLE)


def test_an_unfinished_reply_says_what_is_missing() -> None:
    decoder = Decoder()
    assert decoder.unfinished() == "no reply"
    decoder.receive(b"\xff\x00\r")
    assert decoder.next_frame() is None
    assert decoder.unfinished() == "no frame"
    decoder.receive(b"~2002")
    assert decoder.unfinished() == "incomplete"
    decoder.clear()
    assert decoder.unfinished() == "no reply"


def test_a_frame_under_way_says_how_many_characters_it_lacks() -> None:
    decoder = Decoder()
    assert decoder.missing() == 1
    decoder.receive(b"\xff\x00")
    assert decoder.missing() == 1, "noise announces nothing"
    for number in range(1, len(WHOLE)):
        decoder.receive(WHOLE[number - 1 : number])
        known = len(WHOLE) if number >= 13 else SMALLEST
        assert decoder.missing() == known - number, number
    assert len(WHOLE) > SMALLEST


@pytest.mark.parametrize("length", [b"F0FD", b"zzzz", b"00 1", b"\xff\xff\xff\xff"])
def test_a_damaged_length_announces_no_characters(length: bytes) -> None:
    decoder = Decoder()
    decoder.receive(WHOLE[:9] + length)
    assert decoder.missing() == SMALLEST - 13


def test_b14_a_reply_of_another_address_is_foreign() -> None:
    with pytest.raises(ProtocolError, match="foreign: address 02h answers, 03h was asked"):
        reply_info(decode(WHOLE), 3)


@pytest.mark.parametrize(("version", "cid1"), [(0x22, 0x46), (0x20, 0x4A), (0x22, 0x4A), (0x30, 0x46), (0x20, 0x47)])
def test_dialects_with_other_units_are_not_read(version: int, cid1: int) -> None:
    with pytest.raises(ProtocolError) as refusal:
        reply_info(Frame(2, 0, b"", version, cid1), 2)
    assert refusal.value.kind == "format"
    assert f"{cid1:02X}h" in refusal.value.detail


NOES = [(4, "command unknown"), (0x90, "no module"), (0x91, "listed"), (0x55, "unknown")]


@pytest.mark.parametrize(("code", "words"), NOES)
def test_a_no_of_the_battery_carries_its_code(code: int, words: str) -> None:
    with pytest.raises(Refusal, match=words) as refusal:
        reply_info(decode(reply(2, "", code)), 2)
    assert (refusal.value.kind, refusal.value.code) == ("refused", code)
