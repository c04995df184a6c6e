"""Part C of the fault matrix: a LuxPower stick, one test or more a row, on real sockets.

The judge is the simulator's truth log: at the end of each `site` block every published value must have been carried by
a whole frame of that inverter, and all core values of one message by one and the same frame.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.backoff import Backoff
from bridge.fields import Channel
from bridge.inbox import ReadRegisters
from bridge.luxpower import device as device_module
from bridge.luxpower import reader
from bridge.luxpower.device import REOPEN, Options, build
from bridge.simulators.lxp import LxpSimulator
from tests.harness import Bridge, Mosquitto, Recorder, await_true, free_port
from tests.luxpower.rig import DATALOG, SECOND, SERIAL, Site, eager, quiet, short, site
from tests.simulators.lxp_client import HOLD, Client, read
from tests.voltronic.peer import Surroundings

__all__ = ["short"]
pytestmark = pytest.mark.usefixtures("short")

INPUT = 4
PUSHED = 3
"""States that one push makes, one for each of its blocks of inputs: when all have come, no more may come."""


@pytest.fixture
def stick() -> Iterator[LxpSimulator]:
    with eager() as one:
        yield one


# -- C1: refused, unreachable, name gone


def test_c1_a_refused_connection_is_tried_again_with_growing_pauses_and_recovers(
    stick: LxpSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    stick.faults.refuse = True
    stick.call(lambda: None)
    with site(stick) as house:
        house.await_failure("link", 3)
        stick.faults.refuse = False
        house.await_online()
    assert caplog.text.count("refused") == 1, "told once"
    assert "local port is off" in caplog.text


@pytest.mark.parametrize(
    ("host", "words"),
    [("no-such-stick.invalid", "the name does not resolve"), ("255.255.255.255", "unreachable")],
)
def test_c1_a_name_that_is_gone_and_a_host_out_of_reach_are_told_apart(host: str, words: str) -> None:
    with site(None, host=host) as house:
        house.await_failure("link", 1, 15)
        assert words in str(house.publisher.tally.last_failure)


def test_c1_pauses_grow_to_a_minute_with_jitter() -> None:
    pauses = [pause for backoff in [Backoff(*REOPEN)] for pause in (backoff.pause() for _ in range(8))]
    assert 3.75 <= pauses[0] <= 5
    assert 45 <= pauses[-1] <= 60
    assert len(set(pauses[4:])) == 4


def test_c1_a_stop_does_not_wait_for_a_name() -> None:
    with Site(None, host="no-such-stick.invalid"):
        pass  # leaving joins the thread


# -- C2: accepts, then silent


def test_c2_a_silent_stick_is_noticed_while_polling_and_read_again_after(stick: LxpSimulator) -> None:
    with site(stick) as house:
        house.await_online()
        stick.faults.hang = True
        house.await_offline(seconds=8)
        assert "silent" in str(house.publisher.tally.last_failure)
        stick.faults.hang = False
        house.await_online(seconds=8)


def test_c2_a_silent_stick_is_noticed_without_polling(stick: LxpSimulator) -> None:
    with site(stick, interval=0.0) as house:
        house.await_online()
        stick.faults.hang = True
        house.await_offline(seconds=8)
        stick.faults.hang = False
        house.await_online(seconds=8)


def test_c2_a_stick_that_never_says_a_word_is_called_locked(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, site(None, host="127.0.0.1",
                                                                  port=listener.getsockname()[1]):  # fmt: skip
        await_true(lambda: "silent, since it was connected: a locked stick" in caplog.text, 8, "the words for it")


def test_c2_the_limits_are_those_that_are_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the real times
    rounds = reader.ANSWER * (1 + reader.RETRIES) + reader.RETRY_PAUSE * reader.RETRIES
    interval = Options(name="a", type="lxp", host="h").interval
    # silence that begins right after an answered round is noticed when the next one failed, or at the look after
    assert max(interval + rounds, device_module.SILENT_POLLING) + device_module.TICK <= 60
    assert device_module.SILENT_PASSIVE + device_module.TICK <= 300


# -- C3: drops in mid-frame


@pytest.mark.parametrize("reset", [False, True])
def test_c3_a_link_that_drops_in_mid_frame_costs_that_frame_only(stick: LxpSimulator, reset: bool) -> None:
    with site(stick) as house:
        house.await_online()
        for cut in (0, 1, 20, 36, 100):
            stick.faults.reset, stick.faults.drop_at, stick.faults.times = reset, cut, 1
            house.await_failure("link", house.failures.get("link", 0) + 1)
            house.await_offline()
            house.await_online()


def test_c3_a_question_whose_link_drops_is_told_so() -> None:
    with quiet() as one, site(one, inverter=SERIAL, interval=60.0) as house:
        house.await_states(3)
        await_true(lambda: house.told(Channel.SETTINGS), 5, "the first round is over")
        one.faults.swallow = 1
        house.put(ReadRegisters("hold", 21, 1))
        await_true(lambda: any(r.count == 1 for r in list(one.requests)), 5, "it is asked")
        one.drop()
        await_true(lambda: house.told(Channel.REGISTERS), 5, "an answer")
        told = house.told(Channel.REGISTERS)[0].values
        assert (told["command"], told["outcome"]) == ("read/hold/21", "failed")
        assert "closed by the other side" in str(told["reason"])
        house.put(ReadRegisters("hold", 22, 1))
        await_true(lambda: house.told(Channel.REGISTERS)[1:], 5, "the next one is answered")


# -- C4: one byte at a time; two and a half frames a segment


def test_c4_every_frame_is_read_byte_by_byte(stick: LxpSimulator) -> None:
    stick.faults.segment = 1
    with site(stick, interval=0.0) as house:
        house.await_states(2, seconds=10)
        assert set(house.failures) == set()


@pytest.mark.parametrize(("merge", "segment"), [(5, 0), (5, 292), (3, 7), (2, 120)])
def test_c4_every_frame_is_read_however_segments_fall(merge: int, segment: int) -> None:
    with quiet() as one, site(one, interval=0.0, inverter=SERIAL) as house:
        await_true(lambda: one.ports.peers, 5, "connected")
        await_true(lambda: one.truth.records("heartbeat"), 5, "greeted")
        one.faults.merge, one.faults.segment = merge, segment
        for _ in range(merge * 2):
            one.foreign_read(INPUT, 0, 40)
        house.await_states(merge * 2, seconds=10)
        assert set(house.failures) == set()


# -- C5: garbage between frames


def test_c5_stray_text_and_noise_cost_no_frame(stick: LxpSimulator) -> None:
    with site(stick) as house:
        house.await_online()
        long = b"\xa1\x1a\x02\x00\xff\xff"
        for stray in (b"AT+QUIT\r", b"\xa1", b"\xa1\x1a", long, b"\xa1\x1a" * 50, bytes(range(256))):
            stick.say(stray)
            house.await_more(4)
        assert house.failures.get("link", 0) == 0, "within the connection"
        assert house.failures["format"] >= 3


def test_c5_a_false_prefix_gives_way_after_a_while(stick: LxpSimulator) -> None:
    with site(stick, interval=0.0) as house:
        house.await_online()
        stick.say(b"\xa1\x1a\x02\x00\xf0\x03\x01\xc2")  # claims a thousand bytes that never come
        house.await_failure("length")
        house.await_after(stick.push, 2)


def test_c5_endless_noise_costs_neither_memory_nor_the_next_frame(stick: LxpSimulator) -> None:
    with site(stick) as house:
        house.await_online()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        stick.faults.chatter = True
        house.await_failure("format", 20)
        stick.faults.chatter = False
        house.await_more(4)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before <= 16 * 1024


# -- C6: absurd lengths


@pytest.mark.parametrize("length", [0, 1, 12, 1019, 65535])
def test_c6_an_absurd_frame_length_is_refused(stick: LxpSimulator, length: int) -> None:
    with site(stick) as house:
        house.await_online()
        stick.faults.frame_length, stick.faults.times = length, 2
        house.await_failure("length")
        house.await_more(4)


INNER_LENGTHS = [("data_length", 0), ("data_length", 65535), ("data_length", 40),
                 ("value_length", 0), ("value_length", 255), ("value_length", 81)]  # fmt: skip


@pytest.mark.parametrize(("knob", "value"), INNER_LENGTHS)
def test_c6_an_inner_length_that_disagrees_is_refused(stick: LxpSimulator, knob: str, value: int) -> None:
    with site(stick) as house:
        house.await_online()
        setattr(stick.faults, knob, value)
        stick.faults.times = 2
        house.await_failure("length")
        house.await_more(4)


# -- C7: CRC


def test_c7_a_frame_with_a_wrong_crc_is_dropped_and_counted(stick: LxpSimulator) -> None:
    with site(stick) as house:
        house.await_online()
        stick.faults.wrong_crc, stick.faults.times = True, 3
        house.await_failure("checksum", 3)
        stick.faults.flips, stick.faults.times = 3, 20
        house.await_more(10, 20)


# -- C8: other serials


def test_c8_another_inverters_frames_are_not_mixed_in(stick: LxpSimulator, caplog: pytest.LogCaptureFixture) -> None:
    with site(stick, interval=0.0) as house:
        house.await_states(PUSHED)
        seen = len(house.sink.readings)
        stick.faults.other_inverter = "9999999999"
        for _ in range(3):
            stick.push()
        house.await_failure("foreign", 6)
        assert len(house.sink.readings) == seen
        assert caplog.text.count("9999999999 are left out") == 1, "loud, but once"


def test_c8_another_dataloggers_frames_are_not_mixed_in(stick: LxpSimulator) -> None:
    with site(stick, interval=0.0, datalogger=DATALOG) as house:
        house.await_states(PUSHED)
        seen = len(house.sink.readings)
        stick.faults.other_datalog = "BB00000000"
        stick.push()
        house.await_failure("foreign", 3)
        assert len(house.sink.readings) == seen


def test_c8_a_configured_serial_that_is_not_the_sticks_is_told_and_nothing_is_published(
    stick: LxpSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    with site(stick, inverter="1111111111") as house:
        await_true(lambda: f"answers with other serials: inverter {SERIAL}" in caplog.text, 10, "the words for it")
        assert house.sink.readings == []


def test_c8_a_replaced_inverter_is_learned_anew(stick: LxpSimulator) -> None:
    with Site(stick) as house:
        house.await_online()
        stick.inverters[0].serial = SECOND
        stick.drop()
        await_true(lambda: any(r.unit.serial == SECOND for r in house.states()), 10, "the new one")


def test_c8_a_damaged_datalogger_serial_is_not_learned_for_good() -> None:
    with eager() as one:
        one.faults.other_datalog, one.faults.times = "BA24500730", 1
        with site(one) as house:
            house.await_states(3)


# -- C9: answers to another client


def test_c9_an_answer_to_another_client_is_a_reading_but_not_our_answer(stick: LxpSimulator) -> None:
    with site(stick, interval=60.0, inverter=SERIAL) as house:
        house.await_states(3)
        await_true(lambda: house.told(Channel.SETTINGS), 5, "the first round is over")
        house.await_after(lambda: stick.foreign_read(INPUT, 0, 40))
        stick.faults.swallow = 1
        house.put(ReadRegisters("hold", 64, 1))
        await_true(lambda: any(request.count == 1 for request in list(stick.requests)), 5, "the question")
        stick.foreign_read(HOLD, 65, 1)
        await_true(lambda: house.told(Channel.REGISTERS), 5, "our answer")
        words = {k: v for k, v in house.told(Channel.REGISTERS)[-1].values.items() if k.startswith("hold_")}
        assert words == {"hold_64": stick.inverters[0].holds[64]}, "of the register that was asked for"
        assert house.failures["no_reply"] == 1


def test_c9_a_block_handed_out_in_place_of_ours_is_stored_where_it_belongs(stick: LxpSimulator) -> None:
    with site(stick) as house:
        house.await_online()
        stick.faults.foreign_block = (127, 127)
        house.await_failure("no_reply")
        stick.faults.foreign_block = None
        house.await_more(4)


def test_c9_a_single_word_that_nobody_asked_for_is_no_reading(stick: LxpSimulator) -> None:
    with site(stick, interval=0.0) as house:
        house.await_states(PUSHED)
        seen = len(house.sink.readings)
        stick.protocol = 1
        stick.foreign_read(INPUT, 4, 1)  # a request of another client, sent back, has the same bytes
        house.await_failure("foreign")
        assert len(house.sink.readings) == seen


def test_c9_another_client_reads_beside_us(stick: LxpSimulator) -> None:
    with site(stick) as house:
        house.await_online()
        with Client.to(stick.port) as other:
            for first in (0, 40, 80):
                other.ask(read(HOLD, first, 40))
            house.await_more(5)
        assert house.failures.get("foreign", 0) == 0


# -- C10: only heartbeats


def test_c10_with_only_heartbeats_the_link_stays_and_the_data_goes_stale() -> None:
    with eager(heartbeat_interval=0.2) as one, site(one, max_age=1.0) as house:
        house.await_online()
        one.faults.only_heartbeats = True
        house.await_offline(seconds=8)
        echoes, accepted = one.echoes, one.ports.accepted
        await_true(lambda: one.echoes > echoes + 5, 5, "heartbeats are answered")
        assert one.ports.accepted == accepted, "the same connection"
        one.faults.only_heartbeats = False
        house.await_online()


# -- C11: blocks of one set from different cycles


def test_c11_a_set_has_one_time_and_says_how_far_its_blocks_are_apart() -> None:
    with quiet(shape="40") as one, site(one, interval=0.0, inverter=SERIAL) as house:
        await_true(lambda: one.ports.peers, 5, "connected")
        one.faults.late_block = (80, 1.0)
        one.push()
        state = house.await_states(3)[-1]
        core = next(r for r in one.truth.records("input") if r.values["register"] == 0)
        assert state.at == pytest.approx(core.at, abs=0.3), "the time of its core, not of the late block"
        assert 0.7 <= float(str(state.values["set_spread"])) <= 1.5


def test_c11_a_block_older_than_the_limit_is_dropped_from_the_set() -> None:
    with quiet(shape="40") as one, site(one, interval=0.0, inverter=SERIAL, max_age=0.8) as house:
        await_true(lambda: one.ports.peers, 5, "connected")
        one.push()
        assert house.await_states(3)[-1].values["max_cell_voltage"] is not None

        def without_the_rest() -> bool:
            one.foreign_read(INPUT, 0, 40)
            return house.states()[-1].values["max_cell_voltage"] is None

        await_true(without_the_rest, 5, "the old block is left out")
        assert house.states()[-1].values["soc"] is not None


# -- C12: forged broadcasts


@pytest.mark.parametrize("source", ["127.0.0.1", None])
def test_c12_a_forged_broadcast_is_not_taken(source: str | None) -> None:
    port = free_port()
    with site(None, udp=port, source=source, inverter=SERIAL) as house:
        await_true(lambda: house.device is not None and house.device.fileno() is not None, 5, "it listens")
        with quiet(tcp_port=None, udp=("127.0.0.1", port)) as one:
            one.push()
            house.await_states(PUSHED)
            seen = len(house.sink.readings)
            one.plant.battery.soc = 11.0
            one.forge(one.frame(INPUT, 0, 40), "127.0.0.2")
            one.forge(b"\xa1\x1a" * 100, "127.0.0.3")
            house.await_failure("foreign", 2)
            assert len(house.sink.readings) == seen
            one.plant.battery.soc = 60.0
            one.push()
            house.await_states(2 * PUSHED)
            assert {reading.values["soc"] for reading in house.states()} == {60}


def test_c12_a_broadcast_with_another_serial_is_not_taken() -> None:
    port = free_port()
    with site(None, udp=port, inverter=SECOND) as house:
        await_true(lambda: house.device is not None and house.device.fileno() is not None, 5, "it listens")
        with quiet(tcp_port=None, udp=("127.0.0.1", port)) as one:
            one.push()
            house.await_failure("foreign", 2)
            assert house.sink.readings == []


def test_c12_a_frame_cut_off_in_one_datagram_does_not_spoil_the_next() -> None:
    port = free_port()
    with site(None, udp=port, inverter=SERIAL) as house:
        await_true(lambda: house.device is not None and house.device.fileno() is not None, 5, "it listens")
        with quiet(tcp_port=None, udp=("127.0.0.1", port)) as one:
            one.forge(one.frame(INPUT, 0, 40)[:50], "127.0.0.1")
            house.await_failure("length")
            one.push()
            house.await_states(2)


# -- C13: the stick serves one client and kicks out the oldest


def test_c13_being_kicked_out_again_and_again_is_told_and_slows_us_down(
    stick: LxpSimulator, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_module, "STABLE", 30.0)
    stick.ports.most = 1
    chosen: list[tuple[float, float, bool]] = []
    pause = device_module.LxpDevice.pause

    def noting(device: device_module.LxpDevice) -> float:
        """Note when a pause is chosen, how long it is, and whether the fight was told by then."""
        seconds = pause(device)
        chosen.append((time.monotonic(), seconds, "may be taking our place" in caplog.text))
        return seconds

    monkeypatch.setattr(device_module.LxpDevice, "pause", noting)
    with site(stick) as house:
        for kicks in range(1, device_module.KICKED + 2):
            house.await_online()
            with Client.to(stick.port):
                house.await_failure("link", kicks)
                house.await_offline()
        house.await_online()
        back = time.monotonic()
    longest = device_module.REOPEN[1]
    before, fight = chosen[: device_module.KICKED - 1], chosen[device_module.KICKED - 1 :]
    assert len(fight) == 2
    assert not any(told for _, _, told in before)
    assert all(told for _, _, told in fight)
    assert max(seconds for _, seconds, _ in before) < 0.7 * longest, "not before it is a fight"
    assert min(seconds for _, seconds, _ in fight) >= 0.7 * longest, "as slow as can be"
    at, seconds, _ = fight[-1]
    assert back - at >= seconds, "the pause is kept"
    assert caplog.text.count("may be taking our place") == 1


def test_c13_a_stick_that_resets_every_connection_is_called_locked_or_taken(
    stick: LxpSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    stick.faults.reset_at_once = True
    with site(stick) as house:
        house.await_failure("link", 3)
        stick.faults.reset_at_once = False
        house.await_online()
    assert caplog.text.count("a locked stick, or its only slot is taken by another program") == 1, "told, and once"


# -- B20 and D2 on this transport


def test_b20_absurd_values_with_a_good_crc_are_refused_and_counted(stick: LxpSimulator) -> None:
    with site(stick, interval=0.0) as house:
        house.await_states(PUSHED)
        stick.plant.battery.soc = 130.0
        seen = len(house.states())
        stick.foreign_read(INPUT, 0, 40)
        house.await_failure("implausible")
        assert len(house.states()) == seen, "never clipped into something plausible"


def test_d2_a_bridge_that_was_stopped_does_not_publish_what_waited_meanwhile(tmp_path: Path) -> None:
    prelude = (
        "from bridge.luxpower import connection, device\n"
        "connection.STOOD_STILL = connection.LATE_WAKE = 1.0; device.TICK = 0.3; device.BETWEEN = 0.01"
    )
    with Mosquitto(tmp_path / "broker") as broker, Recorder(broker.port) as recorder, eager() as one:
        host, port = one.port.split(":")
        entry = {"name": "house", "type": "lxp", "host": host, "port": int(port), "max_age": 3600}
        config = json.dumps({"mqtt": {"host": "127.0.0.1", "port": broker.port}, "devices": [entry]})
        with Bridge(tmp_path / "bridge", config, prelude=prelude) as bridge:
            recorder.wait("solarbridge/house/settings", seconds=20)
            os.kill(bridge.pid, 19)
            before = len(one.truth.records("input"))
            one.push()
            await_true(lambda: len(one.truth.records("input")) >= before + PUSHED, 5, "the push")
            pushed = next(r for r in one.truth.records("input")[before:] if r.values["register"] == 127)
            until = time.monotonic() + 3.0
            await_true(lambda: time.monotonic() > until, 5, "it stood still")
            asked = len(one.requests)
            recorder.forget()
            os.kill(bridge.pid, 18)
            await_true(lambda: len(one.requests) > asked, 15, "asked anew")
            fresh = recorder.wait("solarbridge/house/state", lambda m: not m.retained, 10)
            runtime = json.loads(fresh.payload)["runtime"]
            assert runtime != pushed.values.get("runtime"), "not the one that waited"
            records = [r for r in one.truth.records("input") if r.at <= pushed.at]
            old = {r.values["runtime"] for r in records if "runtime" in r.values}
            states = [json.loads(m.payload)["runtime"] for m in recorder.on("solarbridge/house/state")]
            assert not old & set(states)


def test_descriptors_are_given_back_over_many_reconnections(stick: LxpSimulator) -> None:
    def open_now() -> int:
        return len(os.listdir("/proc/self/fd"))

    with site(stick) as house:
        house.await_online()
        before = open_now()
        for _ in range(5):
            stick.drop(reset=True)
            house.await_offline()
            house.await_online()
        await_true(lambda: open_now() <= before + 2, 3, "no descriptor is left over")


def test_a_closed_device_can_be_closed_again_and_says_so_when_asked() -> None:
    device = build(Options(name="a", type="lxp", udp=free_port()), Surroundings().context)
    device.close()
    assert device.fileno() is None
