"""The byte clock, the ports and the line's faults, seen from the host with a unit that echoes lines."""

from __future__ import annotations

import errno
import os
import select
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.simulators.simulator import LineSimulator, Reply
from bridge.simulators.truth import TruthLog
from bridge.simulators.wire import HidrawPair, Line, Pty, Request
from tests.simulators.host import Host


class Echo(LineSimulator):
    """Answers each line that ends in CR with itself in brackets, and X with 200 bytes."""

    def __init__(self, link: Path | None = None, *, hidraw: bool = False, truth: TruthLog | None = None, **line: Any):
        end = HidrawPair() if hidraw else Pty(link)
        super().__init__("echo", Line(end, truth if truth is not None else TruthLog(), **line))

    def _split(self, received: bytes) -> int:
        return received.find(b"\r") + 1

    def _answer(self, request: bytes) -> Reply | None:
        sequence = self.next_sequence()
        text = request.strip(b"\0\r")
        body = bytes(range(65, 91)) * 7 if text == b"X" else text
        return Reply(b"<" + body + b">\r", "echo", {"text": text.decode(), "number": sequence})


@pytest.fixture
def plugged() -> Iterator[Any]:
    """Start an echo unit with the given line and open it."""
    opened: list[Any] = []

    def build(**line: Any) -> tuple[Echo, Host]:
        unit = Echo(**line).start()
        host = Host.hidraw(unit.open_hidraw()) if line.get("hidraw") else Host.tty(unit.port)
        opened.extend([host, unit])
        return unit, host

    yield build
    for thing in opened:
        thing.close() if isinstance(thing, Host) else thing.stop()


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def hung_up(fd: int) -> bool:
    """Whether a tty ends: with an end of file or with EIO, both are seen."""
    try:
        return os.read(fd, 10) == b""
    except OSError as err:
        return err.errno == errno.EIO


@pytest.mark.parametrize(("baud", "turnaround"), [(2400, 0.0), (9600, 0.02), (115200, 0.005)])
def test_no_byte_comes_before_its_end_on_the_wire(plugged: Any, baud: int, turnaround: float) -> None:
    _, host = plugged(baud=baud, turnaround=turnaround)
    for request in (b"hello there\r", b"X\r"):
        host.arrivals.clear()
        asked = host.write(request)
        reply = host.read_until()
        count = 0
        for at, data in host.arrivals:
            count += len(data)
            assert at >= asked + turnaround + (len(request) + count) * 10 / baud
        # a bound that only a broken clock exceeds: the machine may be busy
        assert host.arrivals[-1][0] < asked + turnaround + (len(request) + len(reply)) * 10 / baud + 2.0


def test_bytes_come_in_groups_of_a_tick_and_not_all_at_the_end(plugged: Any) -> None:
    _, host = plugged(baud=2400)
    asked = host.write(b"X\r")
    first = host.read(5.0)
    assert len(first) < 20
    assert time.monotonic() < asked + 100 * 10 / 2400
    assert len(first + host.read_until()) == 185


def processor_time_of_silence(host: Any) -> float:
    used = time.process_time()
    assert host.silence(0.2) == b""
    return time.process_time() - used


def test_an_attentive_line_keeps_the_same_time_and_still_ends(plugged: Any) -> None:
    unit, host = plugged(baud=115200)
    asleep = processor_time_of_silence(host)
    unit.line.attention = 30.0  # no request behind the first is found by sleeping
    for request in (b"one\r", b"two\r", b"three\r"):
        host.arrivals.clear()
        asked = host.write(request)
        reply = host.read_until()
        assert reply == b"<" + request[:-1] + b">\r"
        assert host.arrivals[-1][0] >= asked + (len(request) + len(reply)) * 10 / 115200
    # several looks: others may have the processor for all of one
    awake = max(processor_time_of_silence(host) for _ in range(10))
    assert awake > asleep + 0.02, "it is awake, as far as it is let"
    assert unit.call(lambda: unit.line.idle)
    unit.stop()


def test_a_request_in_two_pieces_counts_from_each_piece(plugged: Any) -> None:
    _, host = plugged(baud=9600)
    host.write(b"hel")
    assert host.silence(0.05) == b""
    asked = host.write(b"lo\r")
    assert host.read_until() == b"<hello>\r"
    assert host.arrivals[-1][0] >= asked + (3 + 8) * 10 / 9600


def test_without_a_baud_rate_the_reply_comes_in_one_piece(plugged: Any) -> None:
    _, host = plugged()
    host.write(b"X\r")
    assert len(host.read(5.0)) == 185


def test_a_reply_waits_for_the_one_before_it_on_a_half_duplex_line(plugged: Any) -> None:
    _, host = plugged(baud=9600)
    host.write(b"one\rtwo\r")
    assert host.read_count(12) == b"<one>\r<two>\r"


def test_a_new_request_drops_the_reply_under_way_at_a_report(plugged: Any) -> None:
    unit, host = plugged(baud=9600, reports=True, half_duplex=False)
    host.write(b"X\r")
    got = host.read_count(16)
    host.write(b"two\r")
    got += host.read_until()
    cut, whole = got[: got.rindex(b"<")], got[got.rindex(b"<") :]
    assert whole == b"<two>\r\0\0"
    assert len(cut) % 8 == 0
    assert 16 <= len(cut) < 185
    first, second = unit.truth.records()
    assert (first.whole, first.faults) == (False, ("dropped",))
    assert second.whole


def test_a_new_request_drops_a_reply_that_has_not_begun(plugged: Any) -> None:
    unit, host = plugged(baud=9600, turnaround=0.4, half_duplex=False)
    host.write(b"one\r")
    host.write(b"two\r")
    assert host.read_until() == b"<two>\r"
    assert [record.whole for record in unit.truth.records()] == [False, True]


def test_reports_have_eight_bytes_and_the_last_is_filled_with_zeros(plugged: Any) -> None:
    _, host = plugged(hidraw=True, baud=2400, reports=True)
    asked = time.monotonic()
    host.write_reports(b"hello there\r")
    got = host.read_until()
    assert got == b"<hello there>\r\0\0"
    assert [len(data) for _, data in host.arrivals] == [8, 8]
    assert host.arrivals[0][0] >= asked + (12 + 8) * 10 / 2400
    assert host.arrivals[1][0] >= asked + (12 + 14) * 10 / 2400


def test_a_hidraw_write_of_more_than_eight_bytes_is_lost(plugged: Any) -> None:
    unit, host = plugged(hidraw=True, reports=True)
    host.write(b"\x00123456789\r")
    assert host.silence() == b""
    assert unit.line.end.lost == 10
    # eight bytes with or without the leading "no report id"
    host.write(b"\0a\r\0\0\0\0\0\0")
    assert host.read_until() == b"<a>\r\0\0\0\0"
    host.write(b"1234567\r")
    assert host.read_count(16) == b"<1234567>\r\0\0\0\0\0\0"


def test_every_open_hidraw_end_receives_every_report(plugged: Any) -> None:
    unit, host = plugged(hidraw=True, reports=True)
    other = Host.hidraw(unit.open_hidraw())
    host.write(b"a\r")
    assert host.read_until() == other.read_until() == b"<a>\r\0\0\0\0"
    other.close()
    host.write(b"b\r")
    assert host.read_until() == b"<b>\r\0\0\0\0"


# fmt: off
DAMAGES = [
    ({"flip": (1, 0x20)}, b"<Hello>\r"),
    ({"flip": (-3, 0x01)}, b"<helln>\r"),
    ({"swap": (1, 2)}, b"<ehllo>\r"),
    ({"overwrite": (1, b"XY")}, b"<XYllo>\r"),
    ({"cut": 3}, b"<he"),
    ({"cut": 8}, b"<hello>\r"),
    ({"cut": 0}, b""),
    ({"noise_before": b"??"}, b"??<hello>\r"),
    ({"noise_inside": b"??"}, b"<hel??lo>\r"),
    ({"noise_after": b"??"}, b"<hello>\r??"),
    ({"duplicates": 2}, b"<hello>\r<hello>\r<hello>\r"),
    ({"mutate": bytes.upper}, b"<HELLO>\r"),
    ({"silent": True}, b""),
    ({"swallow": 1}, b""),
]
# fmt: on


@pytest.mark.parametrize(("knobs", "expected"), DAMAGES, ids=lambda value: str(value)[:30])
def test_a_fault_does_to_the_reply_what_it_says(plugged: Any, knobs: dict[str, Any], expected: bytes) -> None:
    unit, host = plugged(baud=115200)
    for name, value in knobs.items():
        setattr(unit.faults, name, value)
    host.write(b"hello\r")
    record = unit.truth.wait(lambda record: True)
    assert host.silence() == expected
    assert record.whole is (b"<hello>\r" in expected)
    assert record.faults == tuple(knobs)
    unit.faults.clear()
    host.write(b"again\r")
    assert host.read_until() == b"<again>\r"


def test_a_reply_told_twice_is_in_the_truth_log_once_it_was_told(plugged: Any) -> None:
    unit, host = plugged(baud=2400)
    unit.faults.duplicates = 1
    host.write(b"X\r")
    host.read_until()
    assert [record.whole for record in unit.truth.records()] == [True], "the second one takes most of a second more"


def test_flips_change_that_many_bits(plugged: Any) -> None:
    unit, host = plugged()
    unit.faults.flips = 3
    host.write(b"hello\r")
    got = host.read_count(8)
    assert sum((a ^ b).bit_count() for a, b in zip(got, b"<hello>\r", strict=True)) == 3


def test_faults_end_after_as_many_replies_as_told(plugged: Any) -> None:
    unit, host = plugged()
    unit.faults.cut, unit.faults.times = 2, 2
    host.write(b"a\ra\ra\r")
    assert host.read_count(8) == b"<a<a<a>\r"
    assert unit.faults.cut is None


def test_faults_strike_only_the_chosen_requests(plugged: Any) -> None:
    unit, host = plugged()
    unit.faults.cut, unit.faults.only = 1, b"two"
    host.write(b"one\rtwo\rone\r")
    assert host.read_count(13) == b"<one>\r<<one>\r"


def test_chance_strikes_some_replies_and_the_same_ones_for_the_same_seed(plugged: Any) -> None:
    from bridge.simulators.faults import Faults

    def struck(seed: int) -> list[bool]:
        faults = Faults(cut=1, chance=0.3, seed=seed)
        return [bool(faults.plan(b"", b"abc").struck) for _ in range(200)]

    assert struck(1) == struck(1)
    assert struck(1) != struck(2)
    assert 20 < sum(struck(1)) < 120


def test_a_late_reply_comes_before_the_next_one(plugged: Any) -> None:
    unit, host = plugged(half_duplex=False)
    unit.faults.delay, unit.faults.times = 0.2, 1
    host.write(b"one\r")
    assert host.silence(0.05) == b""
    asked = host.write(b"two\r")
    assert host.read_count(12) == b"<one>\r<two>\r"
    assert host.arrivals[-1][0] >= asked


def test_merged_replies_come_together(plugged: Any) -> None:
    unit, host = plugged()
    unit.faults.merge = 2
    host.write(b"one\r")
    assert host.silence(0.05) == b""
    host.write(b"two\r")
    assert host.read(5.0) == b"<one>\r<two>\r"
    assert [record.whole for record in unit.truth.records()] == [True, True]


def test_bytes_can_come_one_by_one_with_pauses(plugged: Any) -> None:
    unit, host = plugged(baud=115200)
    unit.faults.byte_pause = 0.01
    handed: list[bytes] = []
    hand_over = unit.line.end.hand_over
    unit.line.end.hand_over = lambda data: handed.append(data) or hand_over(data)
    asked = host.write(b"hello\r")
    assert host.read_until() == b"<hello>\r"
    assert host.arrivals[-1][0] >= asked + 0.08
    # looked at where they are handed over: a host that shares its core may find several at once
    assert handed == [b"<", b"h", b"e", b"l", b"l", b"o", b">", b"\r"]


def test_a_reply_can_stop_in_the_middle_and_go_on(plugged: Any) -> None:
    unit, host = plugged(baud=115200)
    unit.faults.pause_at = (3, 0.1)
    asked = host.write(b"hello\r")
    assert host.read(5.0) == b"<he"
    assert host.read_until() == b"llo>\r"
    assert host.arrivals[-1][0] >= asked + 0.1


def test_chatter_never_ends_and_replies_come_through_it(plugged: Any) -> None:
    unit, host = plugged(baud=115200)
    unit.faults.chatter = True
    assert len(host.read_count(500)) >= 500
    host.write(b"hello\r")
    taken, deadline = b"", time.monotonic() + 5
    while b"<hello>\r" not in taken and time.monotonic() < deadline:
        taken += host.read(1.0)
    assert b"<hello>\r" in taken
    unit.faults.chatter = False


def test_the_truth_log_tells_each_frame_in_memory_and_in_its_file(plugged: Any, tmp_path: Path) -> None:
    import json

    truth = TruthLog(tmp_path / "truth.jsonl", limit=2)
    unit, host = plugged(truth=truth)
    for text in (b"a\r", b"b\r", b"c\r"):
        asked = host.write(text)
        host.read_until()
    last = truth.wait(lambda record: record.values["text"] == "c")
    assert (last.sequence, last.values["number"], last.device, last.whole) == (3, 3, "echo", True)
    assert asked <= last.at <= time.monotonic()
    assert [record.sequence for record in truth.records()] == [2, 3]
    unit.stop()
    lines = [json.loads(line) for line in (tmp_path / "truth.jsonl").read_text().splitlines()]
    assert [line["sequence"] for line in lines] == [1, 2, 3]
    assert lines[2]["values"] == {"text": "c", "number": 3}


def test_waiting_for_a_frame_that_never_comes_ends() -> None:
    with pytest.raises(TimeoutError):
        TruthLog().wait(lambda record: True, timeout=0.05)


def test_unplugging_hangs_up_and_replugging_serves_the_same_name(plugged: Any, tmp_path: Path) -> None:
    link = tmp_path / "ttyX"
    unit, host = plugged(link=link)
    host.write(b"a\r")
    assert host.read_until() == b"<a>\r"
    unit.unplug()
    assert not link.is_symlink()
    ready, _, _ = select.select([host.fd], [], [], 5)
    assert ready
    assert hung_up(host.fd)
    unit.replug()
    again = Host.tty(str(link))
    again.write(b"b\r")
    assert again.read_until() == b"<b>\r"
    again.close()


def test_a_port_can_come_back_under_another_name(plugged: Any, tmp_path: Path) -> None:
    unit, _ = plugged(link=tmp_path / "ttyX0")
    unit.unplug()
    unit.replug(tmp_path / "ttyX1")
    assert unit.port == str(tmp_path / "ttyX1")
    assert [path.name for path in tmp_path.iterdir()] == ["ttyX1"]
    again = Host.tty(unit.port)
    again.write(b"b\r")
    assert again.read_until() == b"<b>\r"
    again.close()


def test_unplugging_a_hidraw_node_ends_its_file(plugged: Any) -> None:
    unit, host = plugged(hidraw=True, reports=True)
    unit.unplug()
    assert host.read(5.0) == b""
    with pytest.raises(FileNotFoundError):
        unit.open_hidraw()


def test_a_link_never_replaces_a_real_file(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    before = descriptors()
    unit = Echo(tmp_path / "precious")
    with pytest.raises(FileExistsError):
        unit.start()
    assert (tmp_path / "precious").read_text() == "mine"
    assert descriptors() == before


def test_nothing_is_left_after_stop(tmp_path: Path) -> None:
    before, threads = descriptors(), set(threading.enumerate())
    for _ in range(5):
        with Echo(tmp_path / "tty") as unit:
            host = Host.tty(unit.port)
            host.write(b"a\r")
            host.read_until()
            unit.unplug()
            unit.replug()
            host.close()
        with Echo(hidraw=True) as unit:
            unit.open_hidraw().close()
    unit.stop()
    assert descriptors() == before
    assert set(threading.enumerate()) == threads
    assert list(tmp_path.iterdir()) == []


def test_a_stopped_unit_can_be_started_again(tmp_path: Path) -> None:
    unit = Echo(tmp_path / "tty")
    for _ in range(2):
        with unit:
            host = Host.tty(unit.port)
            host.write(b"a\r")
            assert host.read_until() == b"<a>\r"
            host.close()


def test_waiting_costs_no_processor_time(plugged: Any) -> None:
    _, host = plugged(baud=2400, turnaround=0.5)
    before = time.process_time()
    host.write(b"a\r")
    host.read_until()
    # a spinning thread would have used the whole half second
    assert time.process_time() - before < 0.2


def test_the_speed_the_host_has_set_can_be_seen(plugged: Any) -> None:
    import termios

    unit, host = plugged()
    settings = termios.tcgetattr(host.fd)
    settings[4] = settings[5] = termios.B1200
    termios.tcsetattr(host.fd, termios.TCSANOW, settings)
    assert unit.call(unit.line.end.host_baud) == 1200


def test_what_the_host_does_not_read_is_lost_and_blocks_nothing(plugged: Any) -> None:
    unit, _ = plugged()
    for _ in range(100):
        unit.call(lambda: unit.line.send(b"x" * 1000, Request(b"", time.monotonic())))
    unit.call(lambda: None)
    deadline = time.monotonic() + 5
    while unit.line.end.lost == 0 and time.monotonic() < deadline:
        unit.call(lambda: None)
    assert unit.line.end.lost > 0
