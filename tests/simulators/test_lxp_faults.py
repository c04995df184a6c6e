"""Each knob of the simulated stick does what it says, and nothing after clear()."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import fields

import pytest

from bridge.simulators.lxp import LxpSimulator
from bridge.simulators.lxp_faults import Lies
from bridge.simulators.truth import Record
from tests.simulators.lxp_client import HOLD, INPUT, WRITE, Client, Frame, modbus, read, u16, write, write_multi

Pair = tuple[LxpSimulator, Client]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A stick that says nothing unasked but its first heartbeat, and a client that has heard it."""
    with LxpSimulator(shape="40", greeting=3600.0, pace=0.0) as stick, Client.to(stick.port) as client:
        assert client.frame().kind == 0xC1
        yield stick, client


def last(stick: LxpSimulator) -> Record:
    """The newest record, when the simulator is through with what it is doing."""
    return stick.call(lambda: stick.truth.records()[-1])


# --- connections ---


def test_nobody_listens_while_it_refuses(pair: Pair) -> None:
    stick, client = pair
    stick.faults.refuse = True
    stick.call(lambda: None)
    client.ask(read(HOLD, 21))
    with pytest.raises(ConnectionRefusedError):
        Client.to(stick.port)
    stick.faults.clear()
    stick.call(lambda: None)
    client.ask(read(HOLD, 21))
    with Client.to(stick.port) as again:
        assert again.frame().kind == 0xC1


def test_a_locked_stick_resets_at_once(pair: Pair) -> None:
    stick, _ = pair
    stick.faults.reset_at_once = True
    with Client.to(stick.port) as client:
        assert client.end() == "rst"
    assert len(stick.ports.peers) == 1


def test_a_silent_stick_accepts_and_says_nothing(pair: Pair) -> None:
    stick, client = pair
    stick.faults.silent = True
    with Client.to(stick.port) as other:
        other.send(read(HOLD, 21))
        stick.push()
        stick.heartbeat()
        assert other.silence() == b""
    assert client.silence(0.01) == b""
    assert (last(stick).whole, last(stick).faults) == (False, ("silent",))


def test_a_hanging_stick_takes_up_where_it_was(pair: Pair) -> None:
    stick, client = pair
    stick.faults.hang = True
    stick.call(lambda: None)
    client.send(read(HOLD, 21))
    stick.push()
    assert client.silence() == b""
    stick.faults.hang = False
    stick.call(lambda: None)
    assert {client.frame().function for _ in range(4)} == {HOLD, INPUT}


def test_only_heartbeats(pair: Pair) -> None:
    stick, client = pair
    stick.faults.only_heartbeats = True
    client.send(read(HOLD, 21))
    stick.push()
    stick.heartbeat()
    got = client.silence()
    assert (len(got), got[7]) == (19, 0xC1)
    stick.faults.clear()
    stick.faults.no_pushes = True
    stick.push()
    assert client.ask(read(HOLD, 21)).function == HOLD


def test_the_second_client_kicks_out_the_first(pair: Pair) -> None:
    stick, client = pair
    stick.ports.most = 1
    with Client.to(stick.port) as second:
        assert client.end() == "fin"
        assert second.ask(read(HOLD, 21)).sound
        with Client.to(stick.port) as third:
            assert second.end() == "fin"
            assert third.frame().kind == 0xC1
    assert stick.ports.kicked == 2


def test_the_second_client_is_turned_away(pair: Pair) -> None:
    stick, client = pair
    stick.ports.most, stick.ports.newest_wins = 1, False
    with Client.to(stick.port) as second:
        assert second.end() == "rst"
    assert client.ask(read(HOLD, 21)).sound
    assert stick.ports.kicked == 1


@pytest.mark.parametrize(("reset", "end"), [(False, "fin"), (True, "rst")])
def test_the_link_drops_in_the_middle_of_a_frame(pair: Pair, reset: bool, end: str) -> None:
    stick, client = pair
    stick.faults.drop_at, stick.faults.reset, stick.faults.times = 50, reset, 1
    client.send(read(INPUT, 0, 40))
    assert client.end() == end
    if not reset:  # an RST may overtake what was sent
        assert len(client.buffer) == 50
    assert (last(stick).whole, last(stick).faults) == (False, ("drop_at",))
    with Client.to(stick.port) as again:
        assert again.ask(read(INPUT, 0, 40)).sound


@pytest.mark.parametrize(("reset", "end"), [(False, "fin"), (True, "rst")])
def test_all_links_drop(pair: Pair, reset: bool, end: str) -> None:
    stick, client = pair
    client.send(b"bytes that nobody reads")
    stick.drop(reset)
    assert client.end() == end


# --- the stream ---


def test_bytes_come_one_by_one(pair: Pair) -> None:
    stick, client = pair
    stick.faults.segment = 1
    client.pieces.clear()
    assert client.ask(read(INPUT, 0, 40)).sound
    assert b"".join(client.pieces)[7] == 0xC2
    assert len(client.pieces) > 20


def test_two_and_a_half_frames_a_segment(pair: Pair) -> None:
    stick, client = pair
    stick.faults.merge, stick.faults.segment, stick.faults.byte_pause = 5, 293, 0.05
    client.pieces.clear()
    for _ in range(5):
        client.send(read(INPUT, 0, 40))
    assert all(client.frame().sound for _ in range(5))
    assert [len(piece) for piece in client.pieces] == [293, 292]


def test_a_frame_under_way_is_never_interrupted_by_another(pair: Pair) -> None:
    stick, client = pair
    stick.faults.byte_pause = 0.0005
    for register in (0, 40, 80):
        client.send(read(INPUT, register, 40))
    stick.heartbeat()
    got = [client.frame() for _ in range(4)]
    assert all(frame.sound for frame in got)
    assert [frame.register for frame in got if frame.kind == 0xC2] == [0, 40, 80]


def test_a_pause_within_a_frame(pair: Pair) -> None:
    stick, client = pair
    stick.faults.pause_at = (100, 0.1)
    client.send(read(INPUT, 0, 40))
    client.take(3)
    assert len(client.buffer) == 100
    began = time.monotonic()
    assert client.frame().sound
    assert time.monotonic() - began > 0.05


def test_stray_text_and_noise(pair: Pair) -> None:
    stick, client = pair
    stick.say(b"AT+QUIT\r")
    stick.faults.noise_before, stick.faults.noise_after = b"\xa1\x1a\xff\xff", b"AT+QUIT\r"
    client.send(read(HOLD, 21))
    client.take(3)
    while len(client.buffer) < 8 + 4 + 39 + 8:
        client.take(3)
    assert client.buffer.startswith(b"AT+QUIT\r\xa1\x1a\xff\xff\xa1\x1a\x02\x00")
    assert client.buffer.endswith(b"AT+QUIT\r")
    client.buffer.clear()


def test_endless_noise_leaves_whole_frames_between(pair: Pair) -> None:
    stick, client = pair
    stick.faults.chatter = True
    client.take(3)
    client.send(read(HOLD, 64))
    head = b"\xa1\x1a\x02\x00\x21\x00\x01\xc2"
    while len(client.buffer) < 2000 or head not in client.buffer[:-39]:
        client.take(3)
    start = client.buffer.find(head)
    assert Frame(bytes(client.buffer[start : start + 39])).sound
    stick.faults.clear()
    stick.call(lambda: None)
    client.silence(0.05)
    assert client.silence(0.05) == b""


def test_a_late_answer_comes_behind_the_next_one(pair: Pair) -> None:
    stick, client = pair
    stick.faults.delay, stick.faults.times = 0.1, 1
    client.send(read(HOLD, 21))
    assert client.ask(read(HOLD, 67)).register == 67
    assert client.frame().register == 21


def test_faults_can_be_for_some_frames_only(pair: Pair) -> None:
    stick, client = pair
    stick.faults.wrong_crc, stick.faults.only = True, read(INPUT, 40, 40)[20:-2]
    assert client.ask(read(INPUT, 0, 40)).sound
    assert not client.ask(read(INPUT, 40, 40)).sound
    assert client.ask(read(INPUT, 80, 40)).sound


# --- wrong frames ---


def test_a_wrong_crc_is_the_only_thing_wrong(pair: Pair) -> None:
    stick, client = pair
    stick.faults.wrong_crc = True
    raw = client.ask(read(INPUT, 0, 40)).raw
    assert modbus(raw[20:-2]) ^ u16(raw, 115) == 0x55
    assert u16(raw, 4) == u16(raw, 18) + 14 == 111
    assert (last(stick).whole, last(stick).faults) == (False, ("crc",))


@pytest.mark.parametrize(
    ("knob", "value", "at"), [("data_length", 0, 18), ("data_length", 65535, 18), ("data_length", 98, 18)]
)
def test_a_wrong_inner_length(pair: Pair, knob: str, value: int, at: int) -> None:
    stick, client = pair
    setattr(stick.faults, knob, value)
    frame = client.ask(read(INPUT, 0, 40))
    assert u16(frame.raw, at) == value
    assert not frame.sound
    stick.faults.clear()
    assert client.ask(read(INPUT, 0, 40)).sound


@pytest.mark.parametrize("length", [0, 12, 65535])
def test_a_wrong_frame_length(pair: Pair, length: int) -> None:
    stick, client = pair
    stick.faults.frame_length, stick.faults.times = length, 1
    client.send(read(INPUT, 0, 40))
    while len(client.buffer) < 117:
        client.take(3)
    assert u16(client.buffer, 4) == length
    client.buffer.clear()
    assert client.ask(read(INPUT, 0, 40)).sound


def test_a_wrong_value_length_has_a_right_crc(pair: Pair) -> None:
    stick, client = pair
    stick.faults.value_length = 82
    raw = client.ask(read(INPUT, 0, 40)).raw
    assert (raw[34], modbus(raw[20:-2])) == (82, u16(raw, 115))


def test_other_serials(pair: Pair) -> None:
    stick, client = pair
    stick.faults.other_inverter = "9999999999"
    frame = client.ask(read(INPUT, 0, 40))
    assert (frame.inverter, frame.sound) == ("9999999999", True)
    stick.faults.clear()
    stick.faults.other_datalog = "ZZ99999999"
    stick.heartbeat()
    assert client.frame().raw[8:18] == b"ZZ99999999"


def test_another_block_is_answered_and_a_shorter_one(pair: Pair) -> None:
    stick, client = pair
    stick.faults.foreign_block = (127, 127)
    frame = client.ask(read(INPUT, 0, 40))
    assert (frame.register, len(frame.words), frame.sound) == (127, 127, True)
    stick.faults.clear()
    stick.faults.short_reads = 80
    assert len(client.ask(read(INPUT, 0, 125)).words) == 80
    assert len(client.ask(read(INPUT, 0, 40)).words) == 40


def test_a_block_of_a_set_is_late_with_its_old_values(pair: Pair) -> None:
    stick, client = pair
    stick.faults.late_block = (80, 0.1)
    stick.push()
    stick.push()
    got = [client.frame() for _ in range(6)]
    assert [frame.register for frame in got] == [0, 40, 0, 40, 80, 80]
    records = stick.call(lambda: stick.truth.records("input"))
    assert [record.sequence - records[0].sequence for record in records] == [0, 1, 3, 4, 2, 5]
    assert got[4].words[21] % 100 == records[4].sequence % 100


def test_every_bit_of_a_frame_can_be_flipped(pair: Pair) -> None:
    stick, client = pair
    for bit in range(20 * 8, 39 * 8):
        stick.faults.flip = (bit // 8, 1 << bit % 8)
        assert not client.ask(read(HOLD, 64)).sound
    assert not last(stick).whole


# --- lies ---


def test_acknowledged_but_not_stored(pair: Pair) -> None:
    stick, client = pair
    stick.lies.forget = True
    ack = client.ask(write(67, 80))
    assert (ack.register, ack.value, ack.sound) == (67, 80, True)
    assert client.hold(67) == 90
    assert (stick.writes[-1].stored, stick.writes[-1].lies) == ((90,), ("forget",))
    stick.lies.clear()
    client.ask(write(67, 80))
    assert client.hold(67) == 80


def test_a_lie_can_be_told_once(pair: Pair) -> None:
    stick, client = pair
    stick.lies.forget, stick.lies.times = True, 1
    client.ask(write(67, 80))
    client.ask(write(75, 70))
    assert (client.hold(67), client.hold(75)) == (90, 70)


def test_clamped_with_and_without_saying_so(pair: Pair) -> None:
    stick, client = pair
    stick.lies.clamp = (20, 60)
    assert client.ask(write(67, 80)).value == 80
    assert client.hold(67) == 60
    stick.lies.echo_stored = True
    assert client.ask(write(67, 5)).value == 20
    assert client.hold(67) == 20


def test_another_value_is_stored_or_echoed(pair: Pair) -> None:
    stick, client = pair
    stick.lies.store = 55
    assert client.ask(write(67, 80)).value == 80
    assert client.hold(67) == 55
    stick.lies.clear()
    stick.lies.echo = 1
    assert client.ask(write(67, 81)).value == 1
    assert client.hold(67) == 81


def test_neighbouring_bits_change_along(pair: Pair) -> None:
    stick, client = pair
    before = client.hold(21)
    stick.lies.neighbours = 0x8010
    assert client.ask(write(21, before | 0x80)).value == before | 0x80
    assert client.hold(21) == (before | 0x80) ^ 0x8010


def test_the_acknowledgement_is_that_of_another_client(pair: Pair) -> None:
    stick, client = pair
    stick.lies.answer_other = (75, 42)
    ack = client.ask(write(67, 80))
    assert (ack.register, ack.value) == (75, 42)
    assert client.hold(67) == 90


def test_another_client_writes_just_before(pair: Pair) -> None:
    stick, client = pair
    word = client.hold(21)
    stick.lies.interleave = (21, word ^ 0x400)
    client.send(write(21, word | 0x80))
    assert [client.frame().value for _ in range(2)] == [word ^ 0x400, word | 0x80]
    assert stick.writes[-1].old == (word ^ 0x400,)


@pytest.mark.parametrize(("when", "stored"), [("before", 90), ("after", 80)])
def test_the_link_drops_when_a_write_comes(pair: Pair, when: str, stored: int) -> None:
    stick, client = pair
    stick.lies.drop, stick.lies.times = when, 1
    client.send(write(67, 80))
    assert client.end() == "fin"
    with Client.to(stick.port) as again:
        again.frame()
        assert again.hold(67) == stored


def test_stored_but_never_or_late_acknowledged(pair: Pair) -> None:
    stick, client = pair
    stick.lies.mute, stick.lies.times = True, 1
    client.send(write(67, 80))
    assert client.hold(67) == 80
    stick.lies.late = 0.1
    client.send(write(67, 70))
    assert client.hold(67) == 70
    assert client.frame().value == 70


def test_stored_late_and_taken_back(pair: Pair) -> None:
    stick, client = pair
    stick.lies.store_late, stick.lies.revert_after = 0.1, 0.2
    client.ask(write(67, 80))
    began = time.monotonic()
    seen = [client.hold(67)]
    while time.monotonic() < began + 3 and len(seen) < 3:
        value = client.hold(67)
        seen += [value] if value != seen[-1] else []
    assert seen == [90, 80, 90]


def test_refused_with_and_without_being_stored(pair: Pair) -> None:
    stick, client = pair
    stick.lies.exception = 6
    ack = client.ask(write(67, 80))
    assert (ack.function, ack.raw[34]) == (WRITE | 0x80, 6)
    assert client.hold(67) == 90
    stick.lies.clear()
    stick.lies.exception_stored = 4
    assert client.ask(write(67, 80)).raw[34] == 4
    assert client.hold(67) == 80


def test_an_acknowledgement_in_read_style(pair: Pair) -> None:
    stick, client = pair
    stick.lies.read_style = True
    ack = client.ask(write(67, 80))
    assert (len(ack.raw), ack.raw[34], u16(ack.raw, 35), ack.sound) == (39, 2, 80, True)


def test_lies_reach_several_registers(pair: Pair) -> None:
    stick, client = pair
    stick.lies.clamp = (0, 10)
    client.ask(write_multi(68, 5, 23))
    assert client.ask(read(HOLD, 68, 2)).words == [5, 10]


def test_every_lie_is_named_and_cleared() -> None:
    lies = Lies()
    spared = {"register", "chance", "times", "seed", "reset"}
    knobs = [knob for knob in fields(lies) if knob.init and knob.name not in spared]
    for knob in knobs:
        setattr(lies, knob.name, (1, 2) if knob.default is None else 1)
    assert lies.names() == tuple(knob.name for knob in knobs)
    lies.clear()
    assert lies.names() == ()
    assert lies == Lies()


def test_a_lie_can_be_for_one_register(pair: Pair) -> None:
    stick, client = pair
    stick.lies.exception, stick.lies.register = 4, 69
    for register, function in ((68, 6), (69, 0x86)):
        answer = client.ask(write(register, 0x0A01))
        assert (answer.function, answer.register) == (function, register)


def test_some_writes_are_lied_about_by_chance() -> None:
    lies, twin = Lies(forget=True, chance=0.3, seed=7), Lies(forget=True, chance=0.3, seed=7)
    told = [lies.told(64).forget for _ in range(1000)]
    assert 200 < sum(told) < 400
    assert told == [twin.told(64).forget for _ in range(1000)]


def test_what_is_logged_as_whole_is_whole_at_the_client(pair: Pair) -> None:
    stick, client = pair
    right = client.ask(read(HOLD, 64)).raw
    stick.call(stick.truth.clear)
    stick.faults.flips, stick.faults.chance = 1, 0.5
    whole = []
    for _ in range(60):
        client.send(read(HOLD, 64))
        while len(client.buffer) < 39:
            client.take(3)
        whole.append(bytes(client.buffer) == right)
        client.buffer.clear()
    assert 10 < sum(whole) < 50
    assert [record.whole for record in stick.call(lambda: stick.truth.records("hold"))] == whole
