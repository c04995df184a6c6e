"""The simulated stick as a client sees it: pushes, answers, writes, parameters, its three ways to connect."""

from __future__ import annotations

import argparse
import gc
import os
import socket
import threading
import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from bridge.simulators import lxp
from bridge.simulators.living import DayClock
from bridge.simulators.lxp import LxpSimulator
from bridge.simulators.lxp_registers import MODELS, SHAPES
from bridge.simulators.truth import Record, TruthLog
from tests.simulators.lxp_client import (
    DATALOG,
    HOLD,
    INPUT,
    INVERTER,
    WRITE,
    Client,
    Frame,
    data_frame,
    le,
    parameter,
    read,
    u16,
    write,
    write_multi,
)

Pair = tuple[LxpSimulator, Client]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A stick that says nothing unasked but its first heartbeat, and a client that has heard it."""
    with LxpSimulator(greeting=3600.0) as stick, Client.to(stick.port) as client:
        assert client.frame().kind == 0xC1
        yield stick, client


def blocks(client: Client, count: int) -> list[Frame]:
    return [client.until(lambda frame: frame.kind == 0xC2) for _ in range(count)]


def told(stick: LxpSimulator, frame: str) -> list[Record]:
    """The records of a kind, when the simulator is through with what it is doing: it logs a frame after sending it."""
    return stick.call(lambda: stick.truth.records(frame))


# --- pushes ---


@pytest.mark.parametrize("protocol", [1, 2, 5])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_fresh_connection_gets_a_heartbeat_and_then_a_set_of_blocks(shape: str, protocol: int) -> None:
    with LxpSimulator(shape=shape, greeting=0.01, pace=0.001) as stick:
        stick.protocol = protocol
        with Client.to(stick.port) as client:
            first = client.frame()
            assert first.raw == b"\xa1\x1a" + le(protocol, 13) + b"\x01\xc1" + DATALOG.encode() + b"\0"
            got = blocks(client, len(SHAPES[shape]))
    assert [(frame.function, frame.register, len(frame.words)) for frame in got] == list(SHAPES[shape])
    assert all(frame.sound and frame.inverter == INVERTER for frame in got)
    assert {len(frame.raw) for frame in got} == {37 - (protocol == 1) + 2 * block[2] for block in SHAPES[shape]}


@pytest.mark.parametrize("model", MODELS)
def test_every_model_pushes_its_own_shape_and_refuses_larger_reads(model: str) -> None:
    with LxpSimulator(model=model, greeting=0.0, pace=0.001) as stick, Client.to(stick.port) as client:
        shape = SHAPES[MODELS[model].shape]
        assert [len(frame.words) for frame in blocks(client, len(shape))] == [block[2] for block in shape]
        code = client.ask(read(INPUT, 0, MODELS[model].largest_read + 1))
        assert (code.function, code.raw[34], len(code.raw), code.sound) == (0x84, 3, 37, True)


def test_pushes_and_heartbeats_come_again_and_again() -> None:
    with (
        LxpSimulator(shape="40", greeting=3600.0, pace=0.0, push_interval=0.05, heartbeat_interval=0.03) as stick,
        Client.to(stick.port) as one,
        Client.to(stick.port) as other,
    ):
        for client in (one, other):
            assert [frame.register for frame in blocks(client, 6)] == [0, 40, 80, 0, 40, 80]
            client.until(lambda frame: frame.kind == 0xC1)


def test_a_push_carries_its_sequence_in_every_input_block(pair: Pair) -> None:
    stick, client = pair
    places = {"v_bus_1": 10, "runtime": 1, "max_cell_voltage": 1000, "v_bus_half": 10, "v_eps_l1": 10}
    for shape in SHAPES:
        stick.shape, stick.pace = shape, 0.0
        stick.truth.clear()
        stick.push()
        got = [frame for frame in blocks(client, len(SHAPES[shape])) if frame.function == INPUT]
        records = told(stick, "input")
        assert len(got) == len(records)
        for frame, record in zip(got, records, strict=True):
            assert (record.values["register"], record.values["count"]) == (frame.register, len(frame.words))
            here = {name: record.values[name] for name in places if name in record.values}
            traced = {name: round(value * places[name]) % 100 for name, value in here.items()}
            assert set(traced.values()) <= {record.sequence % 100}
            assert traced or frame.register >= 254


def test_the_truth_log_says_what_the_words_say(pair: Pair) -> None:
    stick, client = pair
    stick.plant.inverters[0].faults.add(16)
    stick.plant.inverters[0].warnings |= {3, 30}
    frame = client.ask(read(INPUT, 0, 127))
    (record,) = told(stick, "input")
    words, values = frame.words, record.values
    assert values["v_bat"] == words[4] / 10
    assert (values["soc"], values["soh"]) == (words[5] & 255, words[5] >> 8)
    assert values["e_pv_all_1"] == (words[40] + 65536 * words[41]) / 10
    assert values["fault_code"] == words[60] | words[61] << 16 == 1 << 16
    assert values["warning_code"] == words[62] | words[63] << 16 == 1 << 3 | 1 << 30
    assert values["f_ac"] == words[15] / 100
    assert values["bat_current"] == (words[98] ^ 0x8000) / 10 - 3276.8
    assert values["max_cell_voltage"] == words[101] / 1000
    assert b"".join(word.to_bytes(2, "little") for word in words[115:120]).decode() == INVERTER == record.unit
    assert (record.device, record.frame, record.whole, record.faults) == ("lxp", "input", True, ())


def test_current_limits_are_in_hundredths_on_old_models() -> None:
    raw = {}
    for model in ("hybrid", "sna"):
        with LxpSimulator(model=model, greeting=3600.0) as stick, Client.to(stick.port) as client:
            raw[model] = client.ask(read(INPUT, 82)).words[0]
            assert told(stick, "input")[0].values["max_dischg_curr"] == 100.0
    assert raw == {"hybrid": 10000, "sna": 1000}


# --- reads ---


def test_reads_answer_any_start_and_count(pair: Pair) -> None:
    _, client = pair
    for function, first, count in ((HOLD, 0, 1), (HOLD, 21, 1), (HOLD, 64, 100), (INPUT, 4, 2), (INPUT, 254, 127)):
        frame = client.ask(read(function, first, count))
        assert (frame.function, frame.register, len(frame.words), frame.sound) == (function, first, count, True)


def test_the_serial_and_the_model_stand_in_the_first_holds(pair: Pair) -> None:
    _, client = pair
    words = client.ask(read(HOLD, 0, 20)).words
    text = b"".join(word.to_bytes(2, "little") for word in words[2:9])
    assert text.decode() == INVERTER + "cBaa"
    assert words[19] == 6


def test_the_clock_runs() -> None:
    with (
        LxpSimulator(greeting=3600.0, clock=DayClock(datetime(2026, 6, 1, 10, 59, 58))) as stick,
        Client.to(stick.port) as client,
    ):
        assert client.ask(read(HOLD, 12, 3)).words[:2] == [26 | 6 << 8, 1 | 10 << 8]
        stick.fast_forward(4)
        assert client.ask(read(HOLD, 12, 3)).words[1:2] == [1 | 11 << 8]


def test_old_models_do_not_read_across_a_group_edge() -> None:
    with LxpSimulator(model="acs", greeting=3600.0) as stick, Client.to(stick.port) as client:
        assert client.ask(read(INPUT, 30, 10)).function == INPUT
        assert client.ask(read(INPUT, 30, 11)).function == 0x84
        assert client.ask(read(INPUT, 120, 1)).raw[34] == 2


def test_battery_packs_are_told_from_5000_on() -> None:
    with LxpSimulator(model="eg4", greeting=3600.0) as stick, Client.to(stick.port) as client:
        words = client.ask(read(INPUT, 5000, 120)).words
        record = told(stick, "packs")[-1]
        assert words[2] == words[32] == 0xC002
        assert words[62] == 0
        serials = [b"".join(w.to_bytes(2, "little") for w in words[at : at + 8]).rstrip(b"\0") for at in (19, 49)]
        assert serials == [b"PACK01180001", b"PACK01180002"]
        assert record.values["PACK01180001_cell_high"] == words[14] / 1000
        assert words[14] % 100 == record.sequence % 100
        assert 4400 < words[8] < 5800
        assert words[10] & 255 == 60
        assert client.ask(read(INPUT, 5122, 1)).raw[34] == 3


def test_wrong_serials_zero_counts_and_damaged_requests_get_no_answer(pair: Pair) -> None:
    stick, client = pair
    client.send(read(INPUT, 0, 40, inverter="0000000000"))
    client.send(read(INPUT, 0, 40, datalog="AA00000000"))
    client.send(read(INPUT, 0, 0))
    client.send(read(INPUT, 0, 40)[:-1] + b"\0")
    client.send(b"\xa1\x1a\x02\x00\x00\x00noise\xa1")
    assert client.silence() == b""
    assert [request.sound for request in stick.requests] == [True, True, True, False]
    assert client.ask(read(INPUT, 0, 40)).sound


def test_a_firmware_function_is_refused_and_seen(pair: Pair) -> None:
    stick, client = pair
    frame = client.ask(data_frame(33, 0, le(0)))
    assert (frame.function, frame.raw[34]) == (33 | 0x80, 1)
    assert stick.requests[-1].function == 33


def test_answers_go_to_every_client_unless_told_otherwise(pair: Pair) -> None:
    stick, client = pair
    with Client.to(stick.port) as other:
        other.frame()
        assert client.ask(read(HOLD, 21)).raw == other.frame().raw
        stick.broadcast = False
        client.ask(read(HOLD, 21))
        assert other.silence() == b""


# --- writes ---


def test_a_write_is_stored_and_read_back(pair: Pair) -> None:
    stick, client = pair
    ack = client.ask(write(67, 85))
    assert (ack.function, ack.register, ack.value, len(ack.raw), ack.sound) == (WRITE, 67, 85, 38, True)
    assert client.hold(67) == 85
    (entry,) = stick.writes
    assert (entry.register, entry.old, entry.wanted, entry.stored) == (67, (90,), (85,), (85,))
    assert (entry.code, entry.lies) == (None, ())
    assert dict(told(stick, "write")[0].values) == {"register": 67, "value": 85}


def test_several_registers_are_written_at_once(pair: Pair) -> None:
    _, client = pair
    ack = client.ask(write_multi(68, 23 | 30 << 8, 5 | 15 << 8))
    assert (ack.function, ack.register, ack.value, len(ack.raw)) == (16, 68, 2, 38)
    assert client.ask(read(HOLD, 68, 2)).words == [23 | 30 << 8, 5 | 15 << 8]


# fmt: off
REFUSED = (
    (64, 101, 3), (66, 101, 3), (68, 24, 3), (68, 60 << 8, 3), (105, 9, 3), (106, 0xFE00, 3), (234, 30, 3),
    (12, 13 << 8, 3), (2, 1, 2), (7, 0x4141, 2), (19, 1, 2), (17, 0, 2), (400, 1, 2),
)
# fmt: on


@pytest.mark.parametrize(("register", "value", "code"), REFUSED)
def test_a_value_out_of_place_is_refused_and_not_stored(pair: Pair, register: int, value: int, code: int) -> None:
    stick, client = pair
    before = dict(stick.inverters[0].holds)
    frame = client.ask(write(register, value))
    assert (frame.function, frame.register, frame.raw[34], len(frame.raw)) == (0x86, register, code, 37)
    assert frame.sound
    assert stick.inverters[0].holds == before
    assert stick.writes[-1].code == code


def test_an_acs_refuses_the_eps_bit_and_quick_charge() -> None:
    with LxpSimulator(model="acs", greeting=3600.0) as stick, Client.to(stick.port) as client:
        word = client.hold(21)
        assert client.ask(write(21, word ^ 1)).raw[34] == 3
        assert client.ask(write(21, word ^ 0x80)).function == WRITE
        assert client.ask(write(233, 1)).raw[34] == 2
        assert client.ask(read(HOLD, 233)).function == 0x83


def test_the_clock_is_set_by_one_frame_or_three(pair: Pair) -> None:
    _, client = pair
    words = (24 | 2 << 8, 29 | 13 << 8, 14 | 15 << 8)
    assert client.ask(write_multi(12, *words)).function == 16
    assert client.ask(read(HOLD, 12, 2)).words == list(words[:2])
    assert client.ask(write(12, 23 | 2 << 8)).raw[34] == 3  # there is no 29th of February 2023
    assert client.ask(write(13, 28 | 7 << 8)).function == WRITE
    assert client.ask(read(HOLD, 12, 2)).words == [words[0], 28 | 7 << 8]


def test_quick_charge_runs_for_its_minutes_and_ends_by_itself(pair: Pair) -> None:
    stick, client = pair
    assert client.ask(write(234, 20)).function == 0x86
    assert client.ask(write_multi(233, 1, 20)).function == 16
    assert client.hold(234) == 20
    stick.fast_forward(300)
    assert client.hold(234) == 15
    assert 850 < client.ask(read(INPUT, 210)).words[0] <= 900
    assert client.ask(read(INPUT, 17)).words[0] > 0
    assert client.ask(write(234, 5)).function == WRITE
    assert client.hold(234) == 5
    stick.fast_forward(320)
    assert client.hold(233) == 0
    assert client.ask(read(INPUT, 210)).words[0] == 0


def test_a_foreign_write_is_stored_and_told_to_all(pair: Pair) -> None:
    stick, client = pair
    stick.foreign_write(83, 33)
    ack = client.frame()
    assert (ack.function, ack.register, ack.value) == (WRITE, 83, 33)
    assert client.hold(83) == 33
    stick.foreign_read(INPUT, 127, 127)
    assert (client.frame().register, told(stick, "input")[-1].values["count"]) == (127, 127)


# --- parameters, heartbeats ---


def test_the_push_interval_is_parameter_0(pair: Pair) -> None:
    stick, client = pair
    assert client.ask(parameter(0xC3, le(0))).raw[18:] == le(0, 2, 120)
    assert client.ask(parameter(0xC4, le(0, 2, 300))).raw[18:] == b"\0\0\0"
    assert client.ask(parameter(0xC3, le(0))).raw[18:] == le(0, 2, 300)
    assert stick.push_interval == 300
    stick.protocol = 1
    assert client.ask(parameter(0xC3, le(0))).raw[18:] == le(0, 300)


def test_a_stick_without_its_cloud_pushes_only_to_clients_that_answer_heartbeats() -> None:
    with LxpSimulator(shape="40", greeting=3600.0, pace=0.0) as stick:
        stick.cloud = False
        with Client.to(stick.port) as good, Client.to(stick.port) as mute:
            good.send(good.frame().raw)
            mute.frame()
            mute.send(b"\xa1\x1a" + le(2, 13) + b"\x01\xc1" + b"AA00000000" + b"\0")
            good.ask(read(HOLD, 0))  # by now the echo was heard
            mute.until(lambda frame: frame.function == HOLD)
            assert stick.echoes == 1
            stick.push()
            assert len(blocks(good, 3)) == 3
            assert mute.silence() == b""
            stick.heartbeat()
            stick.heartbeat()
            stick.push()
            assert [frame.kind for frame in (good.frame(), good.frame())] == [0xC1, 0xC1]
            assert good.silence() == b""


# --- several inverters, other links ---


def test_inverters_on_one_stick_are_told_apart_by_serial() -> None:
    serials = ("4512670118", "4512670119")
    with (
        LxpSimulator(serials=serials, shape="125", model="lxp12k", greeting=0.0, pace=0.0) as stick,
        Client.to(stick.port) as client,
    ):
        assert [frame.inverter for frame in blocks(client, 4)] == [serials[0]] * 2 + [serials[1]] * 2
        client.ask(write(67, 70, inverter=serials[1]))
        held = [client.ask(read(HOLD, 67, inverter=serial)).words[0] for serial in serials]
        assert held == [90, 70]
        roles = [client.ask(read(INPUT, 113, inverter=serial)).words[0] for serial in serials]
        assert [role & 3 for role in roles] == [1, 2]
        assert {role >> 8 for role in roles} == {2}


def test_it_dials_out_again_and_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(3)
        stick = LxpSimulator(tcp_port=None, dial=server.getsockname(), greeting=0.0, pace=0.0)
        stick.ports.dial_pause = 0.01
        with stick:
            assert stick.port == f"127.0.0.1:{server.getsockname()[1]}"
            for _ in range(2):
                with Client(server.accept()[0]) as client:
                    assert client.frame().kind == 0xC1
                    assert client.ask(read(HOLD, 105)).sound
        assert stick.ports.accepted == 2


def test_it_dials_until_somebody_listens() -> None:
    with socket.socket() as later:
        later.bind(("127.0.0.1", 0))
        stick = LxpSimulator(tcp_port=None, dial=later.getsockname(), greeting=3600.0)
        stick.ports.dial_pause = 0.01
        with stick:
            stick.call(lambda: None)
            assert stick.ports.accepted == 0
            later.listen()
            later.settimeout(3)
            with Client(later.accept()[0]) as client:
                assert client.frame().kind == 0xC1


def test_it_broadcasts_its_pushes_one_frame_a_datagram_and_can_be_forged() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(3)
        with LxpSimulator(tcp_port=None, udp=receiver.getsockname(), shape="40", pace=0.0) as stick:
            stick.push()
            got = [receiver.recvfrom(2048) for _ in range(3)]
            assert [Frame(data).register for data, _ in got] == [0, 40, 80]
            assert all(Frame(data).sound and source[0] == "127.0.0.1" for data, source in got)
            assert len(told(stick, "input")) == 3
            stick.forge(got[0][0])
            assert receiver.recvfrom(2048)[1][0] == "127.0.0.2"


# --- life ---


def test_it_ends_at_once_and_leaves_nothing_behind() -> None:
    gc.collect()  # what other tests left closes now, not in between
    before = set(os.listdir("/proc/self/fd")), threading.active_count()
    with socket.create_server(("127.0.0.1", 0)) as server:
        for _ in range(3):
            stick = LxpSimulator(greeting=0.0, dial=server.getsockname(), udp=("127.0.0.1", 9))
            with stick, Client.to(stick.port) as client, Client(server.accept()[0]) as dialled:
                client.frame()
                dialled.frame()
                stick.faults.byte_pause = 0.5
                stick.push()
                began = time.monotonic()
                stick.stop()
                assert time.monotonic() - began < 1.0
                assert client.end() in ("fin", "rst")
    assert (set(os.listdir("/proc/self/fd")), threading.active_count()) == before


def test_it_can_be_started_again_on_the_same_port() -> None:
    stick = LxpSimulator(greeting=3600.0)
    with stick:
        port = stick.port
        with Client.to(port) as client:
            client.ask(write(67, 66))
    with pytest.raises(ConnectionRefusedError):
        Client.to(port)
    with stick, Client.to(port) as client:
        assert client.hold(67) == 66


def test_a_peer_that_does_not_read_is_dropped_and_the_others_live_on() -> None:
    with (
        LxpSimulator(shape="127", greeting=3600.0, pace=0.0) as stick,
        Client.to(stick.port) as reader,
        socket.create_connection(stick.port.split(":")) as deaf,
    ):
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        reader.frame()
        assert len(deaf.recv(19)) == 19
        for _ in range(200):
            stick.say(bytes(100_000))
            while sum(map(len, reader.pieces)) < 100_000:
                reader.take(3.0)
            reader.pieces.clear()
            reader.buffer.clear()
            if len(stick.ports.peers) == 1:
                break
        else:
            pytest.fail("twenty megabytes wait for a peer that does not read")
        stick.push()
        assert reader.until(lambda frame: frame.kind == 0xC2 and frame.sound, 10.0)


def test_the_command_line_describes_one() -> None:
    parser = argparse.ArgumentParser()
    lxp.add_arguments(parser)
    parser.set_defaults(turnaround=0.0, seed=3)
    options = parser.parse_args(["--model", "eg4", "--inverters", "2", "--udp", ":4346", "--push-interval", "5"])
    stick = lxp.from_arguments(options, DayClock(), TruthLog())
    assert [inverter.serial for inverter in stick.inverters] == ["4512670118", "4512670119"]
    assert (stick.shape, stick.ports.udp, stick.push_interval) == ("120", ("127.0.0.1", 4346), 5)
    options = parser.parse_args(["--dial", "127.0.0.1:4346"])
    assert lxp.from_arguments(options, DayClock(), TruthLog()).port == "127.0.0.1:4346"
    assert u16(le(4346), 0) == 4346
