"""The RS485 device on simulated stacks: who is found, what is published, who is asked how often."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from bridge.errors import LinkError, NoReply, Stopped
from bridge.pylontech import connection, questions, rs485_device
from bridge.pylontech.device import Options
from bridge.simulators.pylontech_models import MODELS
from bridge.simulators.pylontech_stack import make_modules
from tests.pylontech.stack_rig import Rig, check, paths, states

Make = Callable[..., Rig]


@pytest.fixture
def rig() -> Iterator[Make]:
    made: list[Rig] = []

    def make(options: dict[str, Any] | None = None, **simulated: Any) -> Rig:
        made.append(Rig(options, **simulated))
        return made[-1].open()

    yield make
    for one in made:
        one.close()


class OwnClock:
    """Stands in for the module `time` where rounds are planned: it goes on when the test says so."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def monotonic(self) -> float:
        return self.now


# -- finding modules


def test_every_module_is_found_and_named_by_its_serial_number(rig: Make) -> None:
    one = rig(modules=4)
    readings = one.poll(2)
    assert paths(readings) == {"", *(one.serial(address) for address in (2, 3, 4, 5))}
    assert states(readings)[-1]["modules_online"] == 4
    check(one)


def test_nothing_is_published_before_the_serial_number_was_read_twice(rig: Make) -> None:
    one = rig(modules=1)
    first = next(reading for reading in one.device.poll() if reading is not None)
    assert first.unit.path == first.unit.serial == one.serial(2)
    assert [record.frame for record in one.sim.truth.records()] == ["4F", "93", "93", "42"]


def test_modules_of_several_groups_are_found(rig: Make) -> None:
    one = rig({"groups": (1, 2)}, modules=5, group=1, per_group=3)
    readings = one.poll(3)
    assert states(readings)[-1]["modules_online"] == 5
    assert {state["address"] for path in paths(readings) - {""} for state in states(readings, path)} == {
        0x12, 0x13, 0x14, 0x22, 0x23,
    }  # fmt: skip
    check(one)


def test_a_gap_of_one_address_does_not_end_the_first_look(rig: Make) -> None:
    one = rig(addresses=[2, 4], modules=2)
    assert states(one.poll(2))[-1]["modules_online"] == 2


def test_only_the_configured_addresses_are_asked(rig: Make) -> None:
    one = rig({"modules": (3, 5)}, modules=4)
    readings = one.poll(3)
    assert paths(readings) == {"", one.serial(3), one.serial(5)}
    assert {record.values["address"] for record in one.sim.truth.records()} == {3, 5}


def test_a_configured_module_that_never_answers_counts_as_offline(rig: Make) -> None:
    one = rig({"modules": (2, 9)}, modules=1)
    root = states(one.poll(3))[-1]
    assert (root["modules_online"], root["modules_offline"]) == (1, 1)


def test_a_module_that_tells_no_serial_number_is_known_by_its_address(rig: Make) -> None:
    one = rig(modules=2)
    one.sim.faults.rtn, one.sim.faults.only = 4, b"~20024693"
    readings = one.poll(3)
    assert paths(readings) == {"", "2", one.serial(3)}
    assert states(readings, "2")[-1]["serial"] is None


@pytest.mark.parametrize("model", ["US2000", "US2000C", "US3000C", "US5000", "UP2500", "16-cell"])
def test_every_model_is_read_with_all_its_cells_and_sensors(rig: Make, model: str) -> None:
    one = rig(model=model, modules=2)
    readings = one.poll(3)
    state = states(readings, one.serial(3))[-1]
    assert sum(key.startswith("cell_") and key.endswith("_voltage") and key[5].isdigit() for key in state) == (
        MODELS[model].cells
    )
    assert (f"temperature_{MODELS[model].temperatures}" in state, state["charge_enable"]) == (True, True)
    assert state["total_capacity"] == MODELS[model].capacity / 1000
    check(one)


def test_a_mixed_stack_is_read(rig: Make) -> None:
    one = rig(modules=["US5000", "US3000C", "US2000"])
    root = states(one.poll(3))[-1]
    assert (root["modules_online"], root["total_capacity"]) == (3, 224.0)
    check(one)


# -- what is published


def test_a_modules_keys_are_the_same_from_the_first_reading_on(rig: Make) -> None:
    one = rig(modules=3)
    readings = one.poll(8)
    for path in paths(readings):
        assert len({frozenset(state) for state in states(readings, path)}) == 1
        assert len({id(r.unit) for r in readings if r.unit.path == path}) <= 3, "units are made anew without need"
    check(one)


def test_a_round_publishes_each_module_and_the_stack_once(rig: Make) -> None:
    one = rig({"interval": 0.01}, modules=3)
    one.poll(12)
    for _ in range(3):
        assert sorted(r.unit.path for r in one.poll()) == sorted(["", *(one.serial(a) for a in (2, 3, 4))])


def test_alarms_and_limits_go_out_with_the_measurement_that_follows(rig: Make) -> None:
    one = rig(modules=2)
    one.poll(3)
    one.modules[3].override["status_1"] = 0x80
    one.modules[3].override["max_charge_current"] = 100
    readings = one.poll(2)
    state = states(readings, one.serial(3))[-1]
    assert (state["module_under_voltage"], state["charge_current_limit"]) == (True, 10.0)
    root = states(readings)[-1]
    assert (root["alarm"], root["alarms"]) == (True, "3: module_under_voltage")


def test_identity_and_settings_follow_one_to_a_round(rig: Make) -> None:
    one = rig({"settings_interval": 3600.0}, modules=2)
    readings = one.poll(10)
    root = [r for r in readings if not r.unit.path][-1]
    assert (root.values["model"], root.values["cell_under_voltage_protection"]) == ("US2000C", 2.8)
    assert (root.unit.model, root.values["protocol_version"]) == ("US2000C", "2.0")
    module = [r for r in readings if r.unit.path == one.serial(3)][-1]
    assert module.values["mainline_version"] == module.unit.firmware is not None
    assert len(one.asked("47")) == len(one.asked("51")) == 1
    assert len(one.asked("96")) == 2


def test_values_older_than_their_limit_become_null(rig: Make) -> None:
    one = rig({"max_age": 1.0}, modules=2)
    one.poll(3)
    one.sim.faults.silent, one.sim.faults.only = True, b"~20034692"
    one.poll_until(lambda: states(one.readings, one.serial(3))[-1]["charge_current_limit"] is None, 8)
    one.sim.faults.clear()
    last = states(one.readings, one.serial(3))[-1]
    assert last["charge_enable"] is None
    assert last["serial"] == one.serial(3)
    one.poll_until(lambda: states(one.readings, one.serial(3))[-1]["charge_current_limit"] is not None)
    check(one)


def test_slow_questions_have_their_own_intervals(rig: Make) -> None:
    one = rig({"limits_interval": 0.6, "alarms_interval": 0.6}, modules=2)
    one.poll(2)
    one.sim.truth.clear()
    one.poll_for(1.0)
    assert 2 <= len(one.asked("92")) <= 4
    assert 2 <= len(one.asked("44")) <= 4
    assert len(one.asked("42")) > 20


def test_the_list_of_values_holds_what_is_published(rig: Make) -> None:
    listed = questions.published_fields()
    one = rig(model="16-cell", modules=1)
    readings = one.poll(3)
    assert {f.key for f in listed["stack on RS485"]} == set(states(readings)[-1])
    assert {f.key for f in listed["module on RS485"]} == set(states(readings, one.serial(2))[-1])
    for fields in listed.values():
        assert len({f.key for f in fields}) == len(fields)


def test_a_long_round_lengthens_the_age_limit(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one = rig(modules=2)
    one.poll(2)
    assert {r.unit.max_age for r in one.readings} == {10.0}
    for _ in range(3):
        one.device._note_duration(4.1)
    assert {r.unit.max_age for r in one.readings} == {10.0}
    monkeypatch.setattr(one.device, "_note_duration", lambda seconds: None)
    assert {r.unit.max_age for r in one.poll(1)} == {20.0}


def test_one_round_that_was_held_up_does_not_lengthen_it_and_it_shrinks_back(rig: Make) -> None:
    one = rig(modules=2)
    one.poll(3)
    note = one.device._note_duration
    note(15.0)
    note(9.0)
    assert {r.unit.max_age for r in one.poll(1)} == {10.0}
    for _ in range(3):
        note(4.1)
    assert one.device._units.root.max_age == 20.0
    for seconds in (4.0, 3.9, 3.8):  # about as long: it does not go up and down
        note(seconds)
        assert one.device._units.root.max_age == 20.0
    one.readings.clear()
    one.poll(2)
    assert {r.unit.max_age for r in one.readings[-2:]} == {10.0}
    assert one.device._sources["measured"].max_age == 10.0


def test_the_age_limit_is_the_intervals_own_again(rig: Make) -> None:
    one = rig({"interval": 8.0}, modules=1)
    one.poll(1)
    for seconds in (9.0, 9.0, 9.0, 0.1):
        one.device._note_duration(seconds)
    assert one.device._units.root.max_age == 24.0


# -- silent, added, removed and swapped modules


def test_b16_a_silent_module_goes_offline_and_the_others_go_on(rig: Make) -> None:
    one = rig({"max_age": 1.0}, modules=3)
    one.poll(3)
    one.modules[3].silent = True
    one.poll_until(lambda: states(one.readings)[-1]["modules_offline"] == 1, 6)
    assert states(one.readings)[-1]["modules_online"] == 2
    one.modules[3].silent = False
    one.poll_until(lambda: states(one.readings)[-1]["modules_online"] == 3, 12)
    check(one)


def test_b16_a_silent_module_is_asked_with_growing_pauses(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one = rig(modules=2)
    one.poll(3)
    one.modules[3].silent = True
    clock = OwnClock()
    monkeypatch.setattr(rs485_device, "time", clock)
    probes: list[float] = []
    line = one.device._line
    send = line.send

    def noting(asked: Any) -> None:
        if asked.address == 3:
            probes.append(clock.now)
        send(asked)

    line.send = noting
    step = 0.25
    for _ in range(int(8.0 / step)):
        one.poll()
        clock.now += step
    # the lost question, the retry in one of the next rounds, then after 1, 2 and 4 s
    retry, *pauses = [after - before for before, after in pairwise(probes)]
    assert retry < 1.0
    assert pauses == [1.0, 2.0, 4.0]


def test_of_many_silent_modules_one_is_asked_in_a_round(rig: Make) -> None:
    one = rig({"modules": (2, 3, 4, 5)}, modules=4)
    one.poll(3)
    for address in (3, 4, 5):
        one.modules[address].silent = True
    one.poll(2)
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        before = one.failures().get("no_reply", 0)
        one.poll()
        assert one.failures().get("no_reply", 0) - before <= 1


def test_a_module_that_its_master_calls_dead_counts_as_silent(rig: Make) -> None:
    one = rig({"max_age": 1.0}, modules=2)
    one.poll(3)
    one.modules[3].unreachable = True
    one.poll_until(lambda: states(one.readings)[-1]["modules_offline"] == 1, 6)
    one.modules[3].unreachable = False
    one.poll_until(lambda: states(one.readings)[-1]["modules_online"] == 2, 12)
    check(one)


def test_b18_an_added_module_is_found(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    # every address is asked within FOUND_WITHIN; shortened here
    monkeypatch.setattr(rs485_device, "FOUND_WITHIN", 1.0)
    monkeypatch.setattr(rs485_device, "LEAST_BETWEEN_PROBES", 0.05)
    one = rig(modules=2)
    one.poll(2)
    added = make_modules(9, "US2000C", 1, 50.0)[8]
    one.sim.add(9, added)
    one.poll_until(lambda: added.serial in paths(one.readings))
    one.poll(1)
    assert states(one.readings)[-1]["modules_online"] == 3
    check(one)


def test_b18_the_last_address_there_is_can_be_filled(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rs485_device, "FOUND_WITHIN", 1.0)
    monkeypatch.setattr(rs485_device, "LEAST_BETWEEN_PROBES", 0.05)
    one = rig(modules=12)
    one.modules[13].silent = True
    one.poll(2)
    one.modules[13].silent = False
    one.poll_until(lambda: one.modules[13].serial in paths(one.readings))
    one.poll(2)
    assert states(one.readings)[-1]["modules_online"] == 12
    check(one)


def test_a_gap_between_modules_is_asked_every_other_time(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rs485_device, "LEAST_BETWEEN_PROBES", 0.0)
    monkeypatch.setattr(rs485_device, "FOUND_WITHIN", 0.0)
    one = rig(modules=5)
    for address in (3, 5):  # one by one: two in a row end the first look
        one.modules[address].silent = True
    one.poll(2)
    asked = list[int]()
    probe = one.device._probe
    monkeypatch.setattr(one.device, "_probe", lambda address: asked.append(address) or probe(address))
    one.poll(36)
    assert asked[:36].count(3) + asked[:36].count(5) >= 18
    assert set(asked) == {3, 5, *range(7, 14)}
    one.modules[5].silent = False
    one.poll_until(lambda: one.modules[5].serial in paths(one.readings))
    check(one)


def test_modules_behind_two_silent_ones_are_found_one_after_the_other(rig: Make) -> None:
    one = rig(modules=8)
    for address in (3, 4):
        one.modules[address].silent = True
    asked: list[int] = []
    probe = one.device._probe
    one.device._probe = lambda address: asked.append(address) or probe(address)
    one.poll_until(lambda: len(paths(one.readings) - {""}) == 6, 30)
    found = asked.index(5, 3)
    assert asked[found : found + 5] == [5, 6, 7, 8, 9]
    check(one, one.readings[-10:])


class Probes:
    """Notes which addresses are asked for an added module, at which poll, and asks nobody."""

    def __init__(self, one: Rig, monkeypatch: pytest.MonkeyPatch, silence: float = 0.0) -> None:
        self.one, self.clock, self.asked = one, OwnClock(), list[tuple[float, int]]()
        self.silence = silence
        monkeypatch.setattr(rs485_device, "time", self.clock)
        one.device._probe = self._probe

    def _probe(self, address: int) -> Iterator[None]:
        self.asked.append((self.clock.now, address))
        self.clock.now += self.silence
        return False
        yield

    def polls(self, seconds: float, interval: float) -> list[int]:
        """Poll for so long; return how many addresses each poll asked."""
        counts, end = list[int](), self.clock.now + seconds
        while self.clock.now < end:
            began, before = self.clock.now, len(self.asked)
            self.one.poll()
            counts.append(len(self.asked) - before)
            self.clock.now = max(began + interval, self.clock.now)
        return counts


@pytest.mark.parametrize(
    ("interval", "groups"),
    [(0.5, 1), (1.0, 1), (2.0, 1), (2.7, 1), (3.0, 1), (4.5, 1), (10.0, 1), (30.0, 1), (60.0, 1), (1.0, 4), (1.0, 8)],
)
def test_b18_every_address_is_looked_at_within_a_minute(
    rig: Make, monkeypatch: pytest.MonkeyPatch, interval: float, groups: int
) -> None:
    one = rig({"interval": interval, "groups": tuple(range(groups))}, modules=2)
    one.poll(2)
    strangers = set(one.device._strangers())
    probes = Probes(one, monkeypatch)
    probes.polls(max(45.0, interval) + interval, interval)
    assert {address for _, address in probes.asked} == strangers


def test_a_poll_is_not_held_up_for_long_by_empty_addresses(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one = rig({"interval": 30.0, "groups": (0, 1, 2)}, modules=2)
    one.poll(2)
    assert max(Probes(one, monkeypatch, silence=0.25).polls(120.0, 30.0)) == 4


def test_a_line_that_is_kept_busy_is_asked_for_one_address_every_two_seconds_at_most(
    rig: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = rig({"groups": (0, 1, 2, 3)}, modules=2)
    one.poll(2)
    probes = Probes(one, monkeypatch)
    assert max(probes.polls(30.0, 0.25)) == 1
    assert min(later - earlier for (earlier, _), (later, _) in pairwise(probes.asked)) >= 2.0


def test_b18_a_removed_module_is_counted_offline_not_taken_for_another(rig: Make) -> None:
    one = rig({"max_age": 1.0}, modules=3)
    one.poll(3)
    gone = one.sim.remove(4)
    one.poll_until(lambda: states(one.readings)[-1]["modules_offline"] == 1, 6)
    before = len(states(one.readings, gone.serial))
    one.poll(5)
    assert len(states(one.readings, gone.serial)) == before
    check(one)


def test_b18_swapped_modules_keep_their_names(rig: Make) -> None:
    one = rig(modules=3)
    one.poll(3)
    first, second = one.serial(2), one.serial(3)
    one.sim.swap(2, 3)
    one.poll_until(lambda: states(one.readings, first)[-1]["address"] == 3
                   and states(one.readings, second)[-1]["address"] == 2)  # fmt: skip
    assert states(one.poll(1))[-1]["modules_online"] == 3
    check(one)


def test_b18_a_module_exchanged_for_a_new_one_is_missed_until_that_one_is_known_by_its_own_name(rig: Make) -> None:
    one = rig({"max_age": 1.0}, modules=2)
    one.poll(3)
    old = one.sim.remove(3)
    one.poll_until(lambda: states(one.readings)[-1]["modules_offline"] == 1, 6)
    new = make_modules(7, "US2000C", 1, 30.0)[6]
    one.sim.add(3, new)
    one.poll_until(lambda: new.serial in paths(one.readings))
    one.poll_for(1.2)
    counts = [(state["modules_online"], state["modules_offline"]) for state in states(one.readings)]
    assert list(dict.fromkeys(counts)) == [(2, 0), (1, 1)]
    assert counts[-1] == (2, 0)
    assert old.serial in paths(one.readings)
    check(one)


def test_b18_a_module_that_moves_up_and_back_again_keeps_its_name(rig: Make) -> None:
    """The one before it is taken out for repair, and put back later."""
    one = rig(modules=3)
    one.poll(3)
    last = one.serial(4)
    out, moved = one.sim.remove(3), one.sim.remove(4)
    one.sim.add(3, moved)
    one.poll_until(lambda: states(one.readings, last)[-1]["address"] == 3)
    one.device.refresh()
    one.poll(2)
    one.sim.add(4, one.sim.remove(3))
    one.sim.add(3, out)
    one.readings.clear()
    one.poll_until(lambda: {3, 4} <= {reading.values.get("address") for reading in one.readings if reading.unit.path})
    one.poll(3)
    assert (paths(one.readings), states(one.readings, last)[-1]["address"]) == (
        {"", one.serial(2), out.serial, last},
        4,
    )
    check(one)


def test_a_serial_number_that_two_modules_tell_names_none(rig: Make) -> None:
    one = rig(modules=2)
    one.modules[3].serial = one.modules[2].serial
    one.poll_until(lambda: {"2", "3"} <= paths(one.readings))
    assert states(one.poll(2))[-1]["modules_online"] == 2


def test_a_14th_module_is_asked_where_it_is_listed(rig: Make) -> None:
    one = rig({"modules": (2, 15)}, modules=2, addresses=[2, 15])
    one.poll_until(lambda: states(one.readings) and states(one.readings)[-1]["modules_online"] == 2)
    assert states(one.readings, one.serial(15))
    check(one)


# -- what newer batteries tell inverters


def test_health_and_warnings_are_asked_of_the_master_where_it_is_configured(rig: Make) -> None:
    one = rig({"inverter_set": True}, modules=2, inverter_set=True)
    one.modules[2].override["alarm_1"] = 0x80
    one.poll(12)
    root = [dict(r.values) for r in one.readings if not r.unit.path][-1]
    healths = [module.soh for module in one.modules.values()]
    assert (root["soh"], root["soh_min"]) == (sum(healths) // 2, min(healths))
    assert root["mos_max_temperature"] is not None
    assert (root["high_voltage_warning"], root["low_voltage_warning"]) == (True, False)
    assert root["cell_min_module"] in {"2", "3"}, "an address, which the battery's own number is not"
    assert len(one.asked("61")) == len(one.asked("62")) == 1
    check(one)


def test_they_are_not_asked_without_being_configured(rig: Make) -> None:
    one = rig(modules=1, inverter_set=True)
    readings = one.poll(12)
    assert one.asked("61") == one.asked("62") == []
    assert all("high_voltage_warning" not in reading.values for reading in readings)


def test_a_battery_that_does_not_know_them_is_read_all_the_same(rig: Make) -> None:
    one = rig({"inverter_set": True}, modules=1)
    one.poll(16)
    assert one.failures()["refused"] == 2
    root = [dict(r.values) for r in one.readings if not r.unit.path][-1]
    assert (root["modules_online"], root["soh"], root["high_voltage_warning"]) == (1, None, None)


def test_silence_to_them_puts_nobody_in_doubt(rig: Make) -> None:
    one = rig({"inverter_set": True}, modules=1, inverter_set=True)
    one.poll(1)
    before = one.failures().get("no_reply", 0)
    one.sim.faults.silent, one.sim.faults.only = True, b"~20024661"
    one.poll_until(lambda: one.failures().get("no_reply", 0) > before)
    assert one.device._stations[2].verified
    one.poll(5)
    assert one.failures()["no_reply"] == before + 1


# -- refused commands


def test_b17_a_command_that_is_refused_twice_is_asked_rarely(rig: Make) -> None:
    one = rig(modules=2)
    one.poll(2)
    one.sim.faults.rtn, one.sim.faults.only = 4, b"~20034692"
    one.poll(20)
    assert one.failures()["refused"] == 2
    assert len(one.asked("92", 2)) > 15
    one.sim.faults.clear()
    one.device.refresh()
    one.poll(2)
    assert len([r for r in one.asked("92", 3) if r.whole]) >= 2


@pytest.mark.parametrize("refused", [b"~2003", b"~200346", b"~20034693"], ids=["everything", "all", "its number"])
def test_b17_a_module_that_refused_its_number_for_a_while_keeps_its_name(rig: Make, refused: bytes) -> None:
    one = rig(modules=3)
    one.poll(3)
    one.sim.faults.rtn, one.sim.faults.only = 4, refused
    one.device._stations[3].doubt()
    one.poll(4)
    one.sim.faults.clear()
    module = one.sim.stack.modules[3]
    module.silent = True
    one.poll(2)
    module.silent = False
    before = len(one.readings)
    one.poll_until(lambda: one.serial(3) in paths(one.readings[before:]))
    assert paths(one.readings) == {"", *(one.serial(address) for address in (2, 3, 4))}
    check(one)


def test_b17_what_another_stack_refused_is_asked_of_this_one(rig: Make) -> None:
    one = rig(modules=2)
    one.poll(4)
    one.sim.faults.rtn, one.sim.faults.only = 4, b"4692"
    one.poll(4)
    one.sim.faults.clear()
    one.device.close()
    move_cable(one)
    one.device.open()
    told = one.poll_until(lambda: len(paths(one.readings)) == 5)
    told += one.poll(2)
    assert states(told, one.serial(2))[-1]["charge_current_limit"] is not None


def test_what_another_master_told_of_its_stack_is_not_told_of_this_one(rig: Make) -> None:
    one = rig(modules=2)
    one.poll(8)
    assert states(one.readings)[-1]["cell_high_voltage_protection"] is not None
    one.device.close()
    move_cable(one)
    one.device.open()
    one.sim.faults.rtn, one.sim.faults.only = 4, b"~20024647"
    told = one.poll_until(lambda: len(paths(one.readings)) == 5)
    assert states(told)[-1]["cell_high_voltage_protection"] is None
    one.sim.faults.clear()


def test_a_question_that_arrived_damaged_is_asked_again(rig: Make) -> None:
    one = rig(modules=1)
    one.poll(2)
    one.sim.faults.rtn, one.sim.faults.times = 2, 1
    one.poll(3)
    assert one.failures() == {**one.failures(), "refused": 1}
    assert one.device._stations[2].refused_until == {}
    check(one)


# -- asking a whole group


def test_a_group_is_asked_at_once_where_the_model_answers(rig: Make) -> None:
    one = rig({"request": "group"}, model="US2000", modules=4)
    one.poll(3)
    one.sim.truth.clear()
    readings = one.poll(5)
    assert len(one.asked("42 group")) >= 5
    assert not one.asked("42")
    assert states(readings)[-1]["modules_online"] == 4
    check(one, readings)


def test_a_groups_alarms_have_their_own_interval(rig: Make) -> None:
    one = rig({"request": "group", "alarms_interval": 3600.0}, model="US2000", modules=3)
    one.poll(4)
    one.sim.truth.clear()
    one.poll(5)
    assert (len(one.asked("44 group")), len(one.asked("42 group"))) == (0, 5)
    one.device.refresh()
    one.poll(3)
    assert len(one.asked("44 group")) == 1


def test_a_group_that_does_not_answer_as_a_whole_is_asked_one_by_one(rig: Make) -> None:
    one = rig({"request": "group", "modules": (2, 3, 4)}, model="US2000C", modules=3)  # nobody else is looked for
    one.poll(4)
    silent = one.failures()["no_reply"]
    one.poll(5)
    assert one.failures()["no_reply"] == silent
    assert states(one.readings)[-1]["modules_online"] == 3
    check(one)


@pytest.mark.parametrize("zero_filled", [False, True])
def test_b14_a_groups_answer_is_never_filed_under_another_module(rig: Make, zero_filled: bool) -> None:
    one = rig({"request": "group", "max_age": 1.0}, model="US2000", modules=4)
    one.sim.faults.zero_filled = zero_filled
    one.poll(3)
    one.modules[3].silent = True
    one.poll_until(lambda: states(one.readings)[-1]["modules_offline"] == 1, 6)
    one.modules[3].silent = False
    one.poll_until(lambda: states(one.readings)[-1]["modules_online"] == 4, 12)
    one.sim.truth.clear()
    one.poll(4)
    assert one.asked("42 group")
    check(one, one.readings[-6:])


@pytest.mark.parametrize("interval", [0.0, 0.05])
def test_b20_an_absurd_module_does_not_silence_its_group(rig: Make, interval: float) -> None:
    one = rig({"request": "group", "interval": interval, "modules": (2, 3, 4)}, model="US2000", modules=3)
    one.poll(3)
    one.modules[3].override["temperature_3"] = 2731 - 500
    one.poll(1)
    one.sim.truth.clear()
    readings = one.poll(8)
    assert [len(states(readings, one.serial(address))) >= 8 for address in (2, 3, 4)] == [True, False, True]
    assert len(one.asked("42 group")) <= 1
    check(one, readings)


# -- the line


def test_a_round_without_any_answer_says_so(rig: Make) -> None:
    one = rig(modules=2)
    one.sim.faults.silent = True
    with pytest.raises(NoReply, match="no module answers"):
        list(one.device.poll())
    one.sim.faults.clear()
    one.poll_until(lambda: len(paths(one.readings)) == 3)


def test_b16_all_modules_silent_says_so_and_they_are_back_at_once(rig: Make) -> None:
    one = rig(modules=2)
    one.poll(3)
    one.sim.faults.silent = True
    one.poll_until(lambda: one.silent_rounds >= 2, 8)
    one.sim.faults.clear()
    begin = len(one.readings)
    one.poll_until(lambda: {one.serial(2), one.serial(3)} <= paths(one.readings[begin:]), 10)
    check(one)


def test_noise_instead_of_frames_names_the_baud_rate(rig: Make) -> None:
    one = rig(modules=2)
    one.sim.faults.mutate = lambda data: bytes(0x80 | byte for byte in data)
    with pytest.raises(NoReply, match="is the baud rate right"):
        list(one.device.poll())


def test_b1_an_unplugged_port_is_a_link_error_and_works_again_when_back(rig: Make, tmp_path: Any) -> None:
    link = tmp_path / "port"
    one = rig({"port": str(link)}, link=link, modules=2)
    one.poll(2)
    one.sim.unplug()
    with pytest.raises(LinkError):
        one.poll(2)
    one.device.close()
    with pytest.raises(LinkError, match="not there"):
        one.device.open()
    one.sim.replug()
    one.device.open()
    one.sim.truth.clear()
    begin = len(one.readings)
    one.poll_until(lambda: len(paths(one.readings[begin:])) == 3)
    # identity first: another stack may be on the cable
    for address in (2, 3):
        assert next(r.frame for r in one.sim.truth.records() if r.values["address"] == address) == "93"


def test_b2_another_stack_on_the_cable_is_not_published_under_the_old_names(rig: Make) -> None:
    one = rig({"max_age": 1.0}, modules=2)
    one.poll(2)
    old = {one.serial(2), one.serial(3)}
    one.device.close()
    others = make_modules(6, "US2000C", 77, 40.0)
    for address in (2, 3):
        one.sim.remove(address)
        one.sim.add(address, others[address])
    one.device.open()
    begin = len(one.readings)
    one.poll_until(lambda: states(one.readings[begin:])[-1:] and states(one.readings)[-1]["modules_online"] == 2)
    assert not old & paths(one.readings[begin:])
    check(one, one.readings[begin:])


APART = {"interval": 0.05}
"""No question of the next round is on the wire before that begins."""


def move_cable(one: Rig) -> set[str]:
    """Put the cable into a stack that looks just the same; return the serial numbers that are on it no more."""
    old = {str(module.serial) for module in one.modules.values()}
    for module in one.modules.values():
        module.serial = f"Z{module.serial[1:]}"
    return old


@pytest.fixture
def swift(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a cable be moved within a fraction of a second."""
    monkeypatch.setattr(connection, "MOVED_AFTER", 0.2)


@pytest.mark.usefixtures("swift")
def test_a_cable_moved_between_two_rounds_brings_nothing_under_the_old_names(rig: Make) -> None:
    one = rig({**APART, "identity_interval": 5.0}, modules=3)
    one.poll(3)
    old = move_cable(one)
    time.sleep(0.3)
    readings = one.poll_until(lambda: len(paths(one.readings)) == 7)
    assert not old & paths(readings)
    assert "implausible" not in one.failures(), "nothing but the serial numbers told them apart"


@pytest.mark.usefixtures("swift")
def test_a_cable_moved_in_the_midst_of_a_round_brings_nothing_under_the_old_names(rig: Make) -> None:
    """Those that were not asked while it hung in the air answer again as if nothing had been."""
    one = rig({"turnaround": 0.3, "identity_interval": 5.0}, modules=3)
    one.poll(3)
    one.modules[2].silent = True
    old = move_cable(one)
    readings = one.poll_until(lambda: len(paths(one.readings)) == 6)
    assert not old & paths(readings)


@pytest.mark.usefixtures("swift")
def test_after_a_silence_one_module_speaks_for_all_and_nothing_is_lost(rig: Make) -> None:
    one = rig(APART, modules=3)
    one.poll(8)
    asked, failures = len(one.asked("93")), one.failures()
    one.poll(5)
    assert len(one.asked("93")) == asked, "a line that is kept busy costs nothing"
    for _ in range(3):
        time.sleep(0.3)
        one.sim.truth.clear()
        published = one.poll(1)
        frames = [(record.frame, record.values.get("address")) for record in one.sim.truth.records()]
        assert [frame for frame in frames if frame[0] == "93"] == [("93", 2)]
        assert paths(published) == {"", *(one.serial(address) for address in one.modules)}
    assert one.failures() == failures


@pytest.mark.usefixtures("swift")
def test_a_witness_that_does_not_answer_is_followed_by_another_one(rig: Make) -> None:
    one = rig(APART, modules=3)
    one.poll(3)
    time.sleep(0.3)
    one.modules[2].silent = True
    assert {one.serial(3), one.serial(4)} <= paths(one.poll(1))
    check(one)


@pytest.mark.usefixtures("swift")
def test_modules_without_serial_numbers_go_on_behind_each_silence(rig: Make) -> None:
    one = rig(APART, modules=2)
    for module in one.modules.values():
        module.serial = ""
    one.poll_until(lambda: {"2", "3"} <= paths(one.readings))
    one.poll(2)
    for _ in range(2):
        time.sleep(0.3)
        one.sim.truth.clear()
        assert paths(one.poll(1)) == {"", "2", "3"}
        assert {record.frame for record in one.sim.truth.records()} >= {"42", "44", "92"}


def test_stop_ends_a_wait_at_once(rig: Make) -> None:
    one = rig({"turnaround": 1.0}, modules=2)
    one.poll(2)
    one.sim.faults.silent = True
    timer = threading.Timer(0.1, one.world.stop.set)
    timer.start()
    begin = time.monotonic()
    with pytest.raises(Stopped):
        one.poll(50)
    assert time.monotonic() - begin < 0.9
    timer.join()


def test_between_two_exchanges_the_publisher_gets_its_turn(rig: Make) -> None:
    one = rig(modules=3)
    one.poll(12)
    answers = one.world.tally.replies
    steps = sum(reading is None for reading in one.device.poll())
    assert steps >= one.world.tally.replies - answers > 0
    assert one.world.beats >= one.world.tally.replies


def test_no_descriptor_is_left_after_many_openings(rig: Make) -> None:
    one = rig(modules=1)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        one.device.open()
        one.poll(1)
    assert len(os.listdir("/proc/self/fd")) == before


def test_nothing_is_ever_written_to_a_module(rig: Make) -> None:
    one = rig({"groups": (0, 1)}, modules=3)
    one.poll(10)
    assert one.sim.writes == []


# -- options


def test_addresses_below_the_master_are_refused() -> None:
    found = list(Options.conflicts({"modules": (1, 2), "link": "rs485"}))
    assert [key for key, _ in found] == ["modules"]
    assert not list(Options.conflicts({"modules": (1, 2), "link": "console"}))
    assert not list(Options.conflicts({"modules": (2, 18), "link": "rs485"}))
    assert list(Options.conflicts({"modules": (17,), "link": "console"}))
    assert list(Options.conflicts({"modules": ()}))


def test_without_a_group_nobody_would_be_looked_for() -> None:
    assert [key for key, _ in Options.conflicts({"groups": ()})] == ["groups"]


def test_defaults_are_those_of_a_single_group_at_full_speed() -> None:
    options = Options(name="b", type="pylontech", port="/dev/null")
    assert (options.baud, options.groups, options.modules, options.link) == (115200, (0,), "auto", "rs485")
    assert replace(options, interval=5.0).max_age is None
