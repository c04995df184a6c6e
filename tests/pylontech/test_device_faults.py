"""Rows B6 to B21 of the fault matrix on RS485: whatever the line or a module does, no wrong value is published."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import ProtocolError
from bridge.pylontech import connection, questions, rs485_reader
from bridge.pylontech.questions import Question, fits
from bridge.simulators.pylontech_stack import make_modules
from tests.faults.ledger import note
from tests.harness import Stopwatch, await_true
from tests.pylontech.build import analog_record, reply
from tests.pylontech.stack_rig import Rig, check, paths, states, wrong
from tests.simulators.pylontech_host import Bench
from tests.transports.lines import thief

Make = Callable[..., Rig]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "IN_FRAME", 0.15)
    monkeypatch.setattr(questions, "LONGEST_PAUSE", 0.5)
    monkeypatch.setattr(rs485_reader, "MEASURING_REFUSED_FOR", 0.5)


@pytest.fixture
def rig() -> Iterator[Make]:
    made: list[Rig] = []

    def make(options: dict[str, Any] | None = None, **simulated: Any) -> Rig:
        made.append(Rig(options, **simulated))
        return made[-1].open()

    yield make
    for one in made:
        one.close()


def judged(one: Rig, rounds: int = 15) -> None:
    """Poll under a fault, lift it, and see that all is well again within two seconds, and a silent one's pause."""
    one.poll(rounds)
    one.sim.faults.clear()
    begin, lifted = len(one.readings), Stopwatch()
    wanted = {"", *(one.serial(address) for address in one.modules)}
    one.poll_until(lambda: wanted <= paths(one.readings[begin:]), 12)
    note(recovery=lifted.seconds())
    assert lifted.seconds() <= questions.LONGEST_PAUSE + 2.0
    check(one)


# fmt: off
LINE_FAULTS: list[tuple[str, dict[str, Any]]] = [
    ("B6 bytes one by one",             {"byte_pause": 0.0004}),
    ("B6 a pause inside a frame",       {"pause_at": (40, 0.1)}),
    ("B7 noise before",                 {"noise_before": b"\xff\x00~2\x00\r~~\xfe"}),
    ("B7 noise after",                  {"noise_after": b"\x00\xff~20\xff"}),
    ("B7 noise inside",                 {"noise_inside": b"\xff\x00", "chance": 0.3}),
    ("B8 cut after the start",          {"cut": 3, "chance": 0.3}),
    ("B8 cut in the middle",            {"cut": 60, "chance": 0.3}),
    ("B8 the end missing",              {"cut": -1, "chance": 0.3}),
    ("B9 length 0",                     {"claimed_length": 0, "chance": 0.4}),
    ("B9 length 4095",                  {"claimed_length": 4095, "chance": 0.4}),
    ("B9 a frame of 4095 characters",   {"info_length": 4094, "chance": 0.2}),
    ("B9 an empty INFO",                {"info_length": 0, "chance": 0.4}),
    ("B9 an odd INFO",                  {"info_length": 51, "chance": 0.4}),
    ("B10 one bit",                     {"flips": 1, "chance": 0.5}),
    ("B10 eight bits",                  {"flips": 8, "chance": 0.5}),
    ("B10 a wrong checksum",            {"wrong_checksum": True, "chance": 0.4}),
    ("B10 a wrong length checksum",     {"wrong_length_checksum": True, "chance": 0.4}),
    ("B12 answers joined",              {"merge": 2, "times": 6}),
    ("B12 answers twice",               {"duplicates": 1}),
    ("B13 begin of an answer first",    {"noise_before": b"~20024600E0020202E40F0CD50CD70C"}),
    ("B14 another address",             {"address": 0x0B, "chance": 0.4}),
    ("B14 another module's answer",     {"answer_from": 3}),
    ("B15 late",                        {"delay": 0.12, "chance": 0.3}),
    ("B16 all silent",                  {"silent": True}),
    ("B16 answers lost",                {"swallow": 6}),
    ("B17 refused",                     {"rtn": 4, "chance": 0.3}),
    ("B17 invalid data",                {"rtn": 6, "chance": 0.3}),
    ("B17 a code nobody knows",         {"rtn": 0x77, "chance": 0.3}),
    ("B17 no module there",             {"rtn": 0x90, "chance": 0.3}),
    ("lower case",                      {"lower_case": True, "chance": 0.4}),
]
# fmt: on


@pytest.mark.parametrize("knobs", [pytest.param(knobs, id=name) for name, knobs in LINE_FAULTS])
def test_b6_to_b17_no_wrong_value_and_all_well_afterwards(rig: Make, knobs: dict[str, Any]) -> None:
    one = rig(modules=3)
    one.poll(4)
    for name, value in knobs.items():
        setattr(one.sim.faults, name, value)
    judged(one, 4)


@pytest.mark.parametrize("knobs", [{"pause_at": (40, 0.1)}, {"byte_pause": 0.0004}, {"noise_before": b"\xff~\xfe\r"}])
def test_b6_answers_that_are_only_slow_or_surrounded_by_noise_are_all_read(rig: Make, knobs: dict[str, Any]) -> None:
    one = rig({"modules": (2, 3)}, modules=2)
    one.poll(4)
    for name, value in knobs.items():
        setattr(one.sim.faults, name, value)
    before = one.failures()
    one.poll(5)
    failed = {kind: count - before.get(kind, 0) for kind, count in one.failures().items()}
    assert {kind for kind, count in failed.items() if count} <= {"length"}
    assert not any(station.misses for station in one.device._stations.values())


def test_b5_bytes_that_another_program_takes_make_no_wrong_value(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fair.UNDER_WAY", 0.1)  # what is taken does not come
    one = rig(modules=3)
    one.poll(4)
    before = one.failures()
    with thief(Path(one.sim.port)):
        one.poll_until(lambda: one.failures().get("format", 0) > before.get("format", 0))
        one.poll(3)
    judged(one, 1)


def test_b7_endless_noise_is_survived(rig: Make) -> None:
    one = rig(modules=2, baud=115200)
    one.poll(3)
    one.sim.faults.chatter = True
    one.poll_for(1.5)
    judged(one, 1)


def test_b8_a_frame_cut_anywhere_publishes_nothing(rig: Make) -> None:
    one = rig(modules=1)
    one.poll(3)
    whole = len(one.readings)
    for position in range(0, 128, 11):
        one.sim.faults.cut, one.sim.faults.times, one.sim.faults.only = position, 1, b"46 42".replace(b" ", b"")
        one.poll(1)
        one.sim.faults.clear()
    assert len(one.readings) > whole
    check(one)


# -- B11, B20: checksums right, values wrong


def test_b11_what_the_checksum_cannot_see_is_hardly_ever_believed(rig: Make) -> None:
    """Two exchanged characters always pass the checksum: of those that move a value none that matters gets through."""
    one = rig(modules=2, model="US5000")
    one.poll(6)
    one.sim.faults.swapped_digits, one.sim.faults.chance, one.sim.faults.only = 1, 0.5, b"42E002"
    one.poll(60)
    struck = [r for r in one.sim.truth.records("42") if "swapped_digits" in r.faults]
    believed = wrong(one, one.readings)
    assert len(struck) > 30
    for state in (dict(r.values) for r in one.readings if r.unit.path):
        # what passes is a step that a battery can make: millivolts, or tenths of a degree
        assert 3.2 < state["cell_min_voltage"] <= state["cell_max_voltage"] < 3.4
        assert abs(state["total_capacity"] - 100.0) < 0.001
    assert len(believed) < 0.35 * len(struck)


def test_b11_charge_limits_are_never_raised_by_swapped_digits_beyond_range(rig: Make) -> None:
    one = rig(modules=1)
    one.poll(4)
    one.sim.faults.swapped_digits, one.sim.faults.only = 3, b"4692"
    one.poll(40)
    for state in states(one.readings, one.serial(2)):
        limit = state["charge_voltage_limit"]
        assert limit is None or 10.0 <= limit <= 65.0


# fmt: off
ABSURD = [
    {"cell_3": 0xFFFF}, {"cell_3": 0}, {"voltage": 0}, {"voltage": 0xFFFF}, {"current": 0x7FFF},
    {"temperature_2": 1}, {"temperature_1": 0x7FFF}, {"remaining_capacity": 0xFFFE}, {"total_capacity": 0},
    {"cycles": 0xFFFF}, {"cell_count": 0}, {"cell_count": 255}, {"temperature_count": 0}, {"items": 9},
    {"status_4": 0xFF, "status_5": 0xFF}, {"cell_4_status": 0x77}, {"charge_voltage_limit": 0xFFFF},
    {"max_charge_current": 0x7FFF}, {"management_status": 0xFF},
]
# fmt: on


@pytest.mark.parametrize("override", ABSURD, ids=lambda values: " ".join(f"{k}={v:X}" for k, v in values.items()))
def test_b20_an_absurd_value_is_refused_not_clipped(rig: Make, override: dict[str, int]) -> None:
    one = rig(modules=2)
    one.poll(4)
    one.modules[3].override.update(override)
    begin = len(one.readings)
    one.poll(6)
    name = one.serial(3)
    last = [dict(r.values) for r in one.readings if r.unit.path == name][-1]
    assert all(value is None or value < 100 for key, value in last.items() if key.startswith("cell_") and "volt" in key)
    assert last["charge_voltage_limit"] is None or last["charge_voltage_limit"] == 53.25
    assert last["charge_current_limit"] is None or last["charge_current_limit"] <= 25.0
    refused = one.failures().keys() & {"implausible", "length", "format", "foreign"}
    if override not in ({"total_capacity": 0}, {"status_4": 0xFF, "status_5": 0xFF}):
        assert refused
    assert states(one.readings[begin:], one.serial(2)), "the other module went on"
    one.modules[3].override.clear()
    begin = len(one.readings)
    one.poll_until(lambda: name in paths(one.readings[begin:]), 12)


# -- B14, B15: somebody else's answer, an answer too late


def test_b14_another_modules_answer_is_never_filed_under_the_asked_one(rig: Make) -> None:
    one = rig(modules=3, model="US5000")
    one.poll(4)
    one.sim.faults.answer_from, one.sim.faults.only = 4, b"~200246"
    one.poll(6)
    assert one.failures()["foreign"] >= 1
    check(one)


def test_b15_a_late_answer_meets_no_other_question(rig: Make) -> None:
    one = rig({"turnaround": 0.03}, modules=2)
    one.poll(4)
    one.sim.faults.delay, one.sim.faults.only = 0.1, b"~20034642"
    one.poll(12)
    assert one.failures().keys() & {"foreign", "late"}
    judged(one, 1)


def test_b15_a_module_that_is_always_late_is_waited_for(rig: Make) -> None:
    """The pause is learned from the late answers, so there is no chain of errors."""
    one = rig({"turnaround": 0.03}, modules=2)
    one.poll(3)
    one.sim.line.turnaround = 0.08
    one.poll_until(lambda: one.failures().get("foreign", 0) + one.failures().get("late", 0) > 0)
    one.poll_until(lambda: all(station.verified for station in one.device._stations.values()), 12)

    def calm() -> bool:
        silent = one.failures()["no_reply"]
        one.poll(6)
        return one.failures()["no_reply"] - silent <= 1

    await_true(calm, 5, "it has learned to wait")
    check(one)


def test_b15_a_lone_module_that_is_slow_to_measure_is_waited_for(rig: Make) -> None:
    """Nobody else is asked meanwhile, so what comes late meets the next question to the same module."""
    one = rig({"turnaround": 0.03, "modules": (2,)}, modules=1)
    one.poll(3)
    one.sim.faults.delay, one.sim.faults.only = 0.1, b"~20024642"
    assert len(states(one.poll(20), one.serial(2))) > 10
    check(one)


def test_b15_an_answer_complete_after_its_deadline_is_dropped(rig: Make) -> None:
    """As after the process was frozen: nobody knows how old that answer is."""
    one = rig(modules=1)
    one.poll(3)
    line: Any = one.device._line
    asked = Question(2, 0x42, b"~20024642E00202FD33\r", 128)
    line.send(asked)
    assert select.select([line._link.fileno()], [], [], 5)[0]
    line._sent -= 60  # the question was put a minute ago
    with pytest.raises(ProtocolError, match="late"):
        line.listen()


def test_the_adapters_echo_is_no_answer(rig: Make) -> None:
    one = rig(modules=2)
    inner = one.sim.faults
    one.sim.faults.mutate = None
    asked: list[bytes] = []
    plan = inner.plan

    def echoing(request: bytes, answer: bytes) -> Any:
        asked.append(request)
        made = plan(request, answer)
        return replace(made, data=request + made.data)

    inner.plan = echoing  # type: ignore[method-assign]
    one.poll(6)
    assert states(one.readings)[-1]["modules_online"] == 2
    assert "refused" not in one.failures()


# -- B21: restart, other firmware


def test_b21_a_restart_in_mid_frame_costs_that_frame_alone(rig: Make) -> None:
    one = rig(modules=2, baud=115200)
    one.poll(3)
    for _ in range(4):
        one.sim.restart()
        one.poll(2)
    judged(one, 1)


def test_b21_a_firmware_with_longer_alarms_is_read_one_with_longer_measurements_refused(rig: Make) -> None:
    one = rig(modules=1)
    one.poll(3)
    one.sim.faults.info_tail, one.sim.faults.only = "0000", b"4644"
    before = len(one.asked("44"))
    one.poll(4)
    assert len(one.asked("44")) > before
    assert states(one.readings, one.serial(2))[-1]["voltage_state"] == "normal"
    one.sim.faults.only = b"4642"
    begin = len(one.readings)
    one.poll(3)
    assert not [r for r in one.readings[begin:] if r.unit.path and r.at > one.readings[begin - 1].at]
    assert one.failures()["length"] >= 1


def test_another_kind_of_module_at_the_address_gets_its_own_keys(rig: Make) -> None:
    one = rig({"max_age": 1.0}, modules=2)
    one.poll(3)
    one.sim.remove(3)
    new = make_modules(3, "16-cell", 5, 61.0)[2]
    one.sim.add(3, new)
    one.poll_until(lambda: new.serial in paths(one.readings))
    assert states(one.readings, new.serial)[-1]["cell_16_voltage"] > 3
    check(one)


def test_more_cells_are_believed_only_when_seen_twice(rig: Make) -> None:
    one = rig(modules=1)
    one.poll(3)
    sixteen = reply(2, "0002" + analog_record([3300] * 16, [3000] * 5, 0, 31000, 50000, cycles=120)).decode()
    one.sim.faults.mutate, one.sim.faults.only, one.sim.faults.times = lambda _: sixteen.encode(), b"4642", 1
    one.poll(3)
    assert all("cell_16_voltage" not in state for state in states(one.readings, one.serial(2)))
    assert one.failures()["implausible"] == 1


# -- what tells one answer from another


@pytest.mark.parametrize("model", ["US2000", "US2000C", "US3000", "US3000C", "US5000", "UP2500", "16-cell"])
def test_no_answer_has_the_form_of_another_question(model: str) -> None:
    commands = (0x42, 0x44, 0x47, 0x4F, 0x51, 0x92, 0x93, 0x96)
    bench = Bench(model=model, modules=2)
    try:
        infos = {command: bench.ask(command, 3).info for command in commands}
    finally:
        bench.close()
    for asked in commands:
        assert fits(asked, infos[asked])
        confused = [other for other in commands if other != asked and fits(asked, infos[other])]
        # an identity can look like alarms by its length alone; its letters are no counts
        assert confused == []
