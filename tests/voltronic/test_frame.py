"""PI30 and PI18 frames: cut anyhow, damaged anyhow, never a wrong reply."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.errors import ProtocolError
from bridge.voltronic import frame, pi18
from bridge.voltronic.plan import PI18_PLAN
from tests.shared import vectors
from tests.voltronic.captures import BY_CASE, CAPTURES, Capture

AnyDecoder = frame.Decoder | pi18.Decoder


def decoder_for(protocol: str) -> AnyDecoder:
    return pi18.Decoder() if protocol == "PI18" else frame.Decoder()


def heard(decoder: AnyDecoder, *pieces: bytes) -> list[str]:
    """All replies in `pieces`; what is refused is left out."""
    replies = []
    for piece in pieces:
        decoder.receive(piece)
        while True:
            try:
                reply = decoder.next_reply()
            except ProtocolError:
                continue
            if reply is None:
                break
            replies.append(reply)
    return replies


def kind_of(raw: bytes) -> str:
    decoder = frame.Decoder()
    decoder.receive(raw)
    with pytest.raises(ProtocolError) as caught:
        decoder.next_reply()
    return caught.value.kind


def slow_crc(body: bytes) -> int:
    value = 0
    for byte in body:
        value ^= byte << 8
        for _ in range(8):
            value = (value << 1 ^ 0x1021 if value & 0x8000 else value << 1) & 0xFFFF
    return value


QPIGS = BY_CASE["qpigs-21"].received
PRINTABLE = st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters="(")
BODIES = st.text(PRINTABLE, min_size=1, max_size=120)


# -- checksums


def test_the_checksum_is_crc_16_xmodem() -> None:
    assert frame.crc(b"123456789") == bytes.fromhex("31c3")


@pytest.mark.parametrize(
    ("command", "check"),
    [("QPI", "beac"), ("QPIGS", "b7a9"), ("QMOD", "49c1"), ("QGMN", "4929"), ("QBOOT", "0b88"), ("POP02", "e20b")],
)
def test_a_reserved_byte_in_a_commands_checksum_is_increased(command: str, check: str) -> None:
    assert frame.encode(command) == command.encode() + bytes.fromhex(check) + b"\r"
    assert frame.forms(command) == (frame.encode(command),)


def test_a_zero_in_a_commands_checksum_goes_out_as_one_first_and_plain_second() -> None:
    assert frame.forms("QED20240615") == (
        b"QED20240615" + bytes.fromhex("01900d"),
        b"QED20240615" + bytes.fromhex("00900d"),
    )


def test_the_commands_of_other_projects_come_out_the_same() -> None:
    for command in vectors("axpert")["command_frames"]:
        raw, name = bytes.fromhex(command["frame_hex"]), command["command"]
        if name.startswith("^"):
            assert pi18.forms(name[5:])[0] == raw
        elif command.get("zero_byte_in_crc"):
            assert frame.forms(name) == (bytes.fromhex(command["frame_hex_zero_bumped"]), raw)
        else:
            assert frame.forms(name) == (raw,)


@given(st.binary(max_size=60))
def test_a_checksum_holds_no_byte_that_would_cut_the_frame(body: bytes) -> None:
    assert not set(frame.crc(body)) & set(b"(\r\n")
    plain = slow_crc(body).to_bytes(2, "big")
    assert frame.crc(body) == bytes(byte + 1 if byte in b"(\r\n" else byte for byte in plain)


def zero_checked_body() -> bytes:
    return next(body for n in range(100_000) if 0 in slow_crc(body := b"(%05d" % n).to_bytes(2, "big"))


def test_a_zero_in_a_replys_checksum_is_taken_as_it_is_and_as_one() -> None:
    body = zero_checked_body()
    plain = frame.crc(body)
    assert 0 in plain
    for check in (plain, plain.replace(b"\0", b"\1")):
        assert heard(frame.Decoder(), body + check + b"\r") == [body[1:].decode()]
    assert kind_of(body + plain.replace(b"\0", b"\2") + b"\r") == "checksum"


def test_only_the_three_reserved_bytes_are_taken_increased() -> None:
    body = next(body for n in range(100_000) if slow_crc(body := b"(%05d" % n) >> 8 == 0x0D)
    unbumped_frame = body + slow_crc(body).to_bytes(2, "big") + b"\r"
    assert heard(frame.Decoder(), body + frame.crc(body) + b"\r") == [body[1:].decode()]
    assert heard(frame.Decoder(), unbumped_frame) == []


# -- cutting


@given(BODIES, st.data())
def test_a_frame_is_read_however_it_is_cut(text: str, data: st.DataObject) -> None:
    body = b"(" + text.encode()
    raw = body + frame.crc(body) + b"\r"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert heard(frame.Decoder(), *pieces) == [text]


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda capture: capture.case)
def test_b6_a_capture_is_read_byte_by_byte_and_in_reports_of_eight(capture: Capture) -> None:
    whole = heard(decoder_for(capture.protocol), capture.received)
    assert len(whole) == 1
    assert heard(decoder_for(capture.protocol), *(bytes([byte]) for byte in capture.received)) == whole
    padded = capture.received.ljust(-len(capture.received) // 8 * -8, b"\0")
    assert heard(decoder_for(capture.protocol), *(padded[n : n + 8] for n in range(0, len(padded), 8))) == whole


def test_b12_two_joined_replies_are_both_read() -> None:
    mode = BY_CASE["qmod-b"].received
    assert len(heard(frame.Decoder(), mode + QPIGS)) == 2
    assert len(heard(frame.Decoder(), mode + b"\n\0\0\0" + QPIGS + b"\n")) == 2


@pytest.mark.parametrize("cut", range(1, len(QPIGS)))
def test_b8_a_reply_cut_anywhere_is_refused_and_the_next_one_read(cut: int) -> None:
    assert heard(frame.Decoder(), QPIGS[:cut]) == []
    assert heard(frame.Decoder(), QPIGS[:cut] + QPIGS) == [QPIGS[1:-3].decode()]
    if cut < len(QPIGS) - 1:
        assert heard(frame.Decoder(), QPIGS[:cut] + b"\r") == []


@pytest.mark.parametrize("case", ["qpigs-21", "qmod-b", "nak", "pi18-gs", "pi18-mod-3", "pi18-refused"])
def test_b10_a_single_wrong_bit_is_never_believed(case: str) -> None:
    capture = BY_CASE[case]
    for at in range(len(capture.received)):
        for bit in range(8):
            damaged = bytearray(capture.received)
            damaged[at] ^= 1 << bit
            assert heard(decoder_for(capture.protocol), bytes(damaged)) == [], (at, bit)


@given(st.sampled_from(CAPTURES), st.data())
def test_one_changed_byte_is_never_believed(capture: Capture, data: st.DataObject) -> None:
    raw = bytearray(capture.received)
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != capture.received[at]))
    found = heard(decoder_for(capture.protocol), bytes(raw))
    # the one change that means the same: a zero of the checksum that came as one, or back
    assert found == [] or {raw[at], capture.received[at]} == {0, 1}


@given(st.lists(st.binary(max_size=300), max_size=8))
@example([b"(" * 3000])
@example([b"\r" * 50])
@example([b"^D999" * 400])
def test_noise_raises_protocol_errors_and_nothing_else(pieces: list[bytes]) -> None:
    heard(frame.Decoder(), *pieces)
    heard(pi18.Decoder(), *pieces)


@pytest.mark.parametrize("start", [b"", b"(", b"^D106"])
def test_b7_endless_noise_is_bounded_and_the_next_good_frame_is_read(start: bytes) -> None:
    for decoder, raw in ((frame.Decoder(), QPIGS), (pi18.Decoder(), BY_CASE["pi18-gs"].received)):
        noise = start + bytes(byte for byte in range(256) if byte not in b"(^\r") * 4
        for _ in range(50):
            heard(decoder, noise)
            assert len(decoder._buffer) <= frame.LIMIT + len(noise)
        assert heard(decoder, raw) == [raw[1:-3].decode()]


# -- what is no reply


def test_a_refusal_without_its_checksum_is_no_answer() -> None:
    decoder = frame.Decoder()
    decoder.receive(b"(NAK\rs\r")
    for _ in range(2):
        with pytest.raises(ProtocolError) as caught:
            decoder.next_reply()
        assert caught.value.kind == "format"
    assert decoder.next_reply() is None


def test_an_echoed_command_counts_as_a_refusal() -> None:
    assert kind_of(frame.encode("QPGS0")) == "refused"


def test_the_refusal_of_another_protocol_counts_as_a_refusal() -> None:
    assert kind_of(BY_CASE["pi18-refused"].received) == "refused"


def test_a_line_without_a_bracket_is_noise() -> None:
    assert kind_of(b"hello\r") == "format"


def test_a_character_that_no_reply_holds_is_refused_though_the_checksum_is_right() -> None:
    body = b"(230.0\xf8"
    assert kind_of(body + frame.crc(body) + b"\r") == "format"
    body = b"(23\x07"
    assert kind_of(body + frame.crc(body) + b"\r") == "format"


def test_a_frame_that_ends_in_line_feed_is_taken_only_when_nothing_follows() -> None:
    decoder = frame.Decoder()
    decoder.receive(QPIGS[:-1] + b"\n\0\0")
    assert decoder.next_reply() is None
    assert decoder.next_reply(timed_out=True) == QPIGS[1:-3].decode()
    assert decoder.next_reply(timed_out=True) is None
    decoder.receive(QPIGS[:-4] + b"\n")
    assert decoder.next_reply(timed_out=True) is None


def test_the_refused_frames_of_other_projects_are_refused() -> None:
    for reject in vectors("axpert")["rejects"]:
        assert heard(frame.Decoder(), bytes.fromhex(reject["raw_hex"])) == [], reject["why"]


# -- PI18


def test_b9_a_reply_is_read_by_its_checksum_though_its_length_lies() -> None:
    raw = BY_CASE["pi18-gs-wrong-length"].received
    assert heard(pi18.Decoder(), raw) == [raw[1:-3].decode()]


def test_b13_a_begun_reply_before_a_whole_one_is_left_out() -> None:
    raw = BY_CASE["pi18-gs"].received
    for cut in range(8, len(raw) - 1, 8):
        assert heard(pi18.Decoder(), raw[:cut] + raw) == [raw[1:-3].decode()]


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters="^"), max_size=110))
def test_a_pi18_frame_is_read_whatever_its_checksum_holds(text: str) -> None:
    body = f"^D{len(text) + 3:03d}{text}".encode()
    assert heard(pi18.Decoder(), b"\0" + body + frame.crc(body) + b"\r") == [body[1:].decode()]


def test_a_caret_in_the_checksum_does_not_cut_the_frame() -> None:
    body = next(body for n in range(100_000) if 0x5E in frame.crc(body := b"^D008%05d" % n))
    assert heard(pi18.Decoder(), body + frame.crc(body) + b"\r") == [body[1:].decode()]


def test_the_papers_lengths_come_first_and_the_rules_second() -> None:
    assert pi18.forms("GS") == (b"^P005GS" + frame.crc(b"^P005GS") + b"\r",)
    assert [form[:8] for form in pi18.forms("FWS")] == [b"^P005FWS", b"^P006FWS"]
    assert [form[:9] for form in pi18.forms("ACCT")] == [b"^P005ACCT", b"^P007ACCT"]


def test_a_zero_in_a_pi18_querys_checksum_goes_out_as_one_first_and_plain_second() -> None:
    body = b"^P013ED20240626"
    assert pi18.forms("ED20240626") == (body + b"\x32\x01\r", body + b"\x32\x00\r")
    for ask in PI18_PLAN.asks:
        assert len(pi18.forms(ask.name)) <= 2, "a question has two tries"
