"""The codec alone: bytes in, frames out."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import ProtocolError
from bridge.luxpower.frame import (
    MOST_WORDS,
    Decoder,
    Heartbeat,
    Parameter,
    Read,
    ReadParameter,
    Registers,
    Reply,
    Request,
    Write,
    WriteMany,
    WriteParameter,
    Written,
    crc,
    decode_reply,
    decode_request,
    ends_in_its_crc,
)
from tests.luxpower import wire
from tests.luxpower.captured import CAPTURES
from tests.luxpower.stream import cut, decode_all, drain

GOOD = [raw for capture in CAPTURES for raw in capture.received]
STRAYS = [b"AT+QUIT\r", b"\xa1", b"\xa1\x1a", GOOD[0][:20]]
STRAYS += [wire.envelope(0xCE, b"?" * 9), wire.envelope(0xC1, b"?" * 50)]

serials = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=10, max_size=10)
registers = st.integers(0, 0xFFFF)
words = st.integers(0, 0xFFFF)
protocols = st.sampled_from([1, 2, 5])
requests = st.one_of(
    st.builds(Read, serials, serials, st.sampled_from([3, 4]), registers, st.integers(1, MOST_WORDS), protocols),
    st.builds(Write, serials, serials, registers, words, protocols),
    st.builds(WriteMany, serials, serials, registers, st.lists(words, min_size=1, max_size=127).map(tuple), protocols),
    st.builds(ReadParameter, serials, registers, protocols),
    st.builds(WriteParameter, serials, registers, st.binary(max_size=900), protocols),
)


def test_the_crc_is_crc_16_modbus() -> None:
    assert crc(b"123456789") == 0x4B37
    assert crc(b"") == 0xFFFF


@given(st.binary(max_size=300))
def test_the_crc_equals_one_taken_bit_by_bit(data: bytes) -> None:
    assert crc(data) == wire.bitwise_crc(data)


@given(st.binary(max_size=1020), st.lists(st.integers(0, 8 * 1022 - 1), max_size=4))
def test_data_ends_in_its_crc_or_does_not(data: bytes, flipped: list[int]) -> None:
    sent = data + wire.little(wire.bitwise_crc(data))
    assert ends_in_its_crc(sent)
    number = int.from_bytes(sent, "little")
    for bit in flipped:
        number ^= 1 << bit % (8 * len(sent))
    changed = number.to_bytes(len(sent), "little")
    assert ends_in_its_crc(changed) == (wire.bitwise_crc(changed[:-2]) == int.from_bytes(changed[-2:], "little"))


@pytest.mark.parametrize("data", [b"", b"\x41"])
def test_every_ending_but_one_is_no_crc(data: bytes) -> None:
    right = wire.bitwise_crc(data)
    assert [end for end in range(0x10000) if ends_in_its_crc(data + wire.little(end))] == [right]


def test_what_is_too_short_ends_in_no_crc() -> None:
    assert not any(map(ends_in_its_crc, [b"", *(bytes([byte]) for byte in range(256))]))


@given(requests)
def test_a_request_decodes_to_itself(request: Request) -> None:
    assert not isinstance(request, Heartbeat)
    assert decode_request(request.encode()) == request


many_words = st.lists(words, min_size=1, max_size=127)


@given(st.sampled_from([3, 4]), registers, many_words, st.sampled_from([2, 5]), serials, serials)
def test_a_read_reply_decodes_to_its_words(
    function: int, register: int, values: list[int], protocol: int, datalog: str, inverter: str
) -> None:
    register = min(register, 0x10000 - len(values))
    of = {"datalog": datalog.encode(), "inverter": inverter.encode()}
    raw = wire.read_reply(function, register, values, protocol=protocol, **of)
    frame = decode_reply(raw)
    assert isinstance(frame, Registers)
    assert frame[:5] == (protocol, datalog, inverter, function, register)
    assert frame.words == tuple(values)


@given(st.lists(st.sampled_from([*GOOD, *STRAYS]), max_size=12), st.lists(st.integers(0), max_size=40))
@settings(max_examples=300)
def test_cut_anyhow_a_stream_gives_the_same_frames_and_errors(parts: list[bytes], places: list[int]) -> None:
    stream = b"".join(parts)
    frames, errors = decode_all([stream])
    cut_frames, cut_errors = decode_all(cut(stream, places))
    assert cut_frames == frames
    assert [str(err) for err in cut_errors] == [str(err) for err in errors]


@given(st.lists(st.sampled_from(GOOD), min_size=1, max_size=12), st.lists(st.integers(0), max_size=40))
def test_whole_frames_all_come_out_in_order(parts: list[bytes], places: list[int]) -> None:
    frames, errors = decode_all(cut(b"".join(parts), places))
    assert frames == [decode_reply(part) for part in parts]
    assert errors == []


@given(st.lists(st.tuples(st.binary(max_size=60), st.sampled_from(GOOD)), min_size=1, max_size=6))
@settings(max_examples=200)
def test_frames_survive_whatever_stands_between_them(parts: list[tuple[bytes, bytes]]) -> None:
    noisy = [noise.replace(b"\xa1", b"?") for noise, _ in parts]
    stream = b"".join(noise + raw for noise, (_, raw) in zip(noisy, parts, strict=True))
    frames, errors = decode_all([stream])
    assert frames == [decode_reply(raw) for _, raw in parts]
    assert [err.detail for err in errors] == [f"{len(noise)} stray bytes" for noise in noisy if noise]


@pytest.mark.parametrize("raw", [raw for raw in GOOD if raw[7] == 0xC2], ids=len)
def test_one_flipped_bit_under_the_crc_is_refused(raw: bytes) -> None:
    for position in range(20 * 8, len(raw) * 8):
        bent = bytearray(raw)
        bent[position // 8] ^= 1 << position % 8
        with pytest.raises(ProtocolError) as caught:
            decode_reply(bytes(bent))
        assert caught.value.kind == "checksum"


@pytest.mark.parametrize("raw", [GOOD[0], *[raw for raw in GOOD if len(raw) == 38][:1]], ids=len)
def test_a_flipped_bit_in_the_envelope_never_changes_a_reading(raw: bytes) -> None:
    honest = decode_reply(raw)
    for position in range(20 * 8):
        bent = bytearray(raw)
        bent[position // 8] ^= 1 << position % 8
        try:
            frame = decode_reply(bytes(bent))
        except ProtocolError:
            continue
        if isinstance(frame, Parameter):
            assert frame.protocol == 1  # nothing covers the function there; a parameter carries no reading
        else:
            assert type(frame) is type(honest)
            assert isinstance(frame, Heartbeat) or frame[2:] == honest[2:]  # another protocol or datalog serial


def test_a_false_prefix_hides_no_true_frame() -> None:
    false = wire.envelope(0xC2, b"x" * 900)[:30]
    frames, errors = decode_all([false, *GOOD * 12])
    assert frames == [decode_reply(raw) for raw in GOOD * 12]
    assert [err.kind for err in errors] == ["length"]


def test_a_frame_that_never_ends_is_given_up() -> None:
    decoder = Decoder()
    decoder.receive(GOOD[-1][:-5])
    assert drain(decoder) == ([], [])
    decoder.receive(GOOD[0][:9])
    decoder.give_up()
    frames, errors = drain(decoder)
    assert frames == []
    assert [err.kind for err in errors] == ["checksum"]
    decoder.receive(GOOD[0][9:])
    assert drain(decoder) == ([decode_reply(GOOD[0])], [])


def test_giving_up_reports_a_short_rest_once_and_finds_the_next_frame() -> None:
    decoder = Decoder()
    decoder.receive(GOOD[-1][:30])
    assert decoder.next_frame() is None
    decoder.give_up()
    _, errors = drain(decoder)
    assert [err.detail for err in errors] == ["the rest of a frame never came"]
    decoder.receive(GOOD[0])
    assert drain(decoder) == ([decode_reply(GOOD[0])], [])
    assert decoder.waiting == 0


def test_a_decoder_that_nobody_reads_keeps_a_bounded_rest() -> None:
    decoder = Decoder()
    for _ in range(5000):
        decoder.receive(GOOD[-1])
    assert decoder.waiting <= Decoder.MOST_WAITING
    frames, errors = drain(decoder)
    assert len(frames) > 100
    assert errors


def test_a_flood_without_any_prefix_is_reported_and_not_kept() -> None:
    decoder = Decoder()
    decoder.receive(b"HTTP/1.1 400 Bad Request\r\n" * 1000)
    frames, errors = drain(decoder)
    assert frames == []
    assert [err.detail for err in errors] == ["4096 stray bytes"] * 6
    assert decoder.waiting == 0


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (wire.envelope(0xC1, b""), "length"),
        (wire.envelope(0xC1, b"\0" * 40), "length"),
        (wire.envelope(0xC1, b"\0", 3), "format"),
        (wire.envelope(0xC1, b"\0", datalog=b"BA\x001234567"), "format"),
        (wire.envelope(0xC0, b"\0"), "format"),
        (wire.envelope(0xC2, b"\0" * 10), "length"),
        (wire.envelope(0xC3, b"\0\0"), "length"),
        (wire.envelope(0xC3, b"\0\0\5\0\1"), "length"),
        (wire.envelope(0xC4, b"\0\0\2\0\1\1"), "length"),
        (wire.heartbeat() + b"\0", "length"),
        (wire.data_frame(3, 0, b"\3\1\1\1"), "length"),  # an odd value length
        (wire.data_frame(3, 0, b"\0"), "length"),
        (wire.data_frame(3, 0, b"\2\1\1", protocol=1), "length"),
        (wire.data_frame(3, 0, b"\1\1"), "length"),  # a request's shape, protocol 2
        (wire.data_frame(6, 0, b"\2\1\1"), "length"),
        (wire.data_frame(16, 0, b"\1\0\2\7\7"), "length"),
        (wire.data_frame(33, 0, b"\1\0"), "format"),  # firmware update
        (wire.data_frame(0xA1, 0, b"\1"), "format"),
        (wire.data_frame(0x83, 0, b"\1\0"), "format"),
        (wire.read_reply(4, 0xFFFF, [1, 2]), "format"),
        (wire.read_reply(4, 0, [1], inverter=b"\0" * 10), "format"),
    ],
)
def test_what_no_stick_says_is_refused_by_kind(raw: bytes, kind: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_reply(raw)
    assert caught.value.kind == kind


@pytest.mark.parametrize("length", [0, 12, 1019, 65535])
def test_an_impossible_length_is_refused_at_once(length: int) -> None:
    decoder = Decoder()
    decoder.receive(b"\xa1\x1a\x02\x00" + length.to_bytes(2, "little") + b"\x01\xc2")
    with pytest.raises(ProtocolError) as caught:
        decoder.next_frame()
    assert caught.value.kind == "length"


@pytest.mark.parametrize(
    "request_",
    [
        Read("short", "4052061837", 4, 0, 40),
        Read("BA90817263", "40520618\x00\x00", 4, 0, 40),
        Read("BA90817263", "4052061837", 4, 0, 0),
        Read("BA90817263", "4052061837", 4, 0, 128),
        Read("BA90817263", "4052061837", 6, 0, 1),
        Read("BA90817263", "4052061837", 4, 65536, 1),
        Read("BA90817263", "4052061837", 4, 0, 1, 3),
        Write("BA90817263", "4052061837", 67, -1),
        Write("BA90817263", "4052061837", 67, 65536),
        WriteMany("BA90817263", "4052061837", 12, ()),
        WriteParameter("BA90817263", 6, b"x" * 1100),
    ],
)
def test_a_request_that_no_frame_can_carry_is_not_built(request_: Read | Write | WriteMany | WriteParameter) -> None:
    with pytest.raises(ValueError, match=r"no |16-bit|10 printable"):
        request_.encode()


def test_an_answer_is_matched_by_serials_function_register_and_value() -> None:
    write = Write("BA90817263", "4052061837", 67, 90)
    echo = Written(5, "BA90817263", "4052061837", 67, 90)
    assert write.answered_by(echo)
    others: list[Reply] = [
        echo._replace(value=91),
        echo._replace(register=68),
        echo._replace(inverter_serial="4052061838"),
        echo._replace(datalog_serial="BA90817264"),
        decode_reply(wire.data_frame(16, 67, b"\x5a\0")),
        decode_reply(wire.data_frame(0x83, 67, b"\3")),
        decode_reply(wire.data_frame(0x86, 68, b"\3")),
        decode_reply(wire.read_reply(3, 67, [90])),
        decode_reply(wire.heartbeat()),
    ]
    assert [other for other in others if write.answered_by(other)] == []
    assert write.answered_by(decode_reply(wire.data_frame(0x86, 67, b"\3")))


def test_a_shorter_answer_to_a_read_is_an_answer() -> None:
    read = Read("BA90817263", "4052061837", 4, 0, 125)
    assert read.answered_by(decode_reply(wire.read_reply(4, 0, range(80))))
    assert not read.answered_by(decode_reply(wire.read_reply(3, 0, range(80))))
    assert not read.answered_by(decode_reply(wire.read_reply(4, 40, range(80))))
