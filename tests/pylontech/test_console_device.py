"""The console device on simulated consoles over real ptys: what it asks, believes, publishes and survives."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from bridge.errors import LinkError, NoReply, Stopped
from bridge.pylontech import console_cells, console_connection
from bridge.simulators import pylontech_console
from bridge.simulators.pylontech_stack import make_modules
from tests.pylontech.console_rig import (
    ConsoleRig,
    check,
    console,
    move_cable,
    shorten,
    states,
    until_known,
    wrong,
)
from tests.transports.lines import descriptors

Make = Callable[..., ConsoleRig]

WAITED = {"THINKING": console_connection.THINKING, "OTHERS_THINKING": console_connection.OTHERS_THINKING}
"""How long an answer is waited for where a test does not shorten it."""


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch)


@pytest.fixture
def rig() -> Iterator[Make]:
    rigs: list[ConsoleRig] = []

    def make(options: dict[str, Any] | None = None, **simulated: Any) -> ConsoleRig:
        rigs.append(console(options, **simulated))
        return rigs[-1]

    yield make
    for one in rigs:
        one.close()


# -- reading a stack


@pytest.mark.parametrize(
    "models",
    [["US2000", "US2000"], ["US2000C", "US2000"], ["US5000", "US2000C", "US5000"], ["US3000D", "US3000C"], ["16-cell"]],
)
def test_every_layout_is_read_without_a_wrong_value(rig: Make, models: list[str]) -> None:
    one = rig(modules=models)
    one.settle()
    one.poll(20)
    check(one)
    whole = states(one.readings)[-1]
    assert (whole["modules_online"], whole["modules_offline"]) == (len(models), 0)
    assert whole["soc"] is not None
    assert whole["alarm"] is False
    assert one.sim.wakes == 0


def test_a_serial_number_is_read_twice_before_a_module_is_believed(rig: Make) -> None:
    one = rig(modules=2)
    polled = one.device.poll()
    first = next(reading for reading in polled if reading is not None)
    assert first.unit.path == one.serial(1)
    assert len(one.sim.truth.records("info")) == 2


def test_the_stack_says_nothing_before_each_module_has_a_name(rig: Make) -> None:
    one = rig(modules=3)
    one.settle()
    for reading in one.readings:
        if not reading.unit.path:
            assert (reading.values["modules_online"], reading.values["modules_offline"]) == (3, 0)


def test_a_us3000d_is_named_by_info_alone_and_its_slaves_by_their_places(rig: Make) -> None:
    one = rig(modules=["US3000D", "US3000C"])
    one.settle()
    assert {reading.unit.path for reading in one.readings} == {"", one.serial(1), "2"}
    module = states(one.readings, one.serial(1))[-1]
    assert module["cell_voltage_word"].startswith("0x4")
    assert "power_events" not in module
    one.poll(10)
    assert one.failures()["refused"] == 7  # info 1, info 2 twice, stat 1, stat 2, soh 1, soh 2: not again for an hour
    one.poll(10)
    assert one.failures()["refused"] == 7
    assert states(one.readings, one.serial(1))[-1]["cycles"] == one.sim.stack.modules[1].cycles


def test_health_and_balancing_are_keys_from_the_first_reading_on(rig: Make) -> None:
    """A bank settles at its beginning what it ever shows a GX; what a key that came later said would be lost."""
    one = rig(modules=2)
    one.settle()
    for position in (1, 2):
        first = states(one.readings, one.serial(position))[0]
        assert (first["soh"], first["balancing"], "cell_1_voltage" in first) == (None, None, False)


def test_pwr_is_asked_in_every_round_and_bat_in_turn(rig: Make) -> None:
    one = rig(modules=4)
    one.settle()
    one.sim.truth.clear()
    one.poll(20)
    asked = [record.frame for record in one.sim.truth.records()]
    assert asked.count("pwr") == 20
    assert 0 < asked.count("bat") <= 2 * 20
    assert {r.unit for r in one.sim.truth.records("bat")} == {one.serial(n) for n in range(1, 5)}


def test_limits_are_told_after_a_login_only(rig: Make) -> None:
    alone, logged_in = rig(modules=2), rig({"login": True}, modules=2)
    for one in (alone, logged_in):
        one.settle()
        one.poll(3)
        check(one)
    assert "module_charge_current_limit" not in states(alone.readings)[-1]
    limits = states(logged_in.readings)[-1]
    assert (limits["module_charge_current_limit"], limits["charge_current_limit"]) == (25.0, 50.0)
    logged_in.sim.restart()  # it comes back out of debug mode
    logged_in.poll_until(lambda new: len(new) > 20)
    logged_in.sim.truth.clear()
    logged_in.poll_until(lambda _: logged_in.sim.truth.records("pwrsys"))


def test_the_limits_are_asked_in_time_however_much_else_is_due(rig: Make) -> None:
    """Of many modules more is due than can be asked; chargers would stop as soon as the limits are too old."""
    one = rig({"login": True, "limits_interval": 0.0, "max_age": 1.0}, modules=16)
    one.settle()
    one.sim.truth.clear()
    one.sim.faults.delay = 0.03
    one.poll_until(lambda _: len(one.sim.truth.records("pwr")) > 30)
    asked = [record.at for record in one.sim.truth.records("pwrsys")]
    assert max(later - earlier for earlier, later in pairwise(asked)) < 0.8
    others = [record for record in one.sim.truth.records() if not record.frame.startswith("pwr")]
    assert len(others) >= 10, "they are asked, too"


@pytest.mark.parametrize(
    "label", [b"\n Recommend chg current", b"system Recommend dsg current", b"system Recommend chg voltage"]
)
def test_b11_one_damaged_answer_raises_no_limit_of_the_stack(rig: Make, label: bytes) -> None:
    rare = dict.fromkeys(("cells_interval", "alarms_interval"), 3600.0)
    one = rig({"login": True, "limits_interval": 0.0, **rare}, modules=2)
    one.settle()
    one.poll(8)
    before = states(one.readings)[-1]
    names = [key for key in before if key.endswith("_limit")]
    damage = re.compile(b"(" + re.escape(label) + rb" *: *-?)\d")
    one.sim.faults.only, one.sim.faults.times = b"pwrsys", 1
    one.sim.faults.mutate = lambda said: damage.sub(rb"\g<1>6", said)
    one.sim.truth.clear()
    told = states(one.poll(5))
    assert [{name: state[name] for name in names} for state in told] == 5 * [{name: before[name] for name in names}]
    assert len(one.sim.truth.records("pwrsys")) == 6, "once more for the higher limit"


def test_only_listed_modules_are_read_and_one_that_is_not_there_is_offline(rig: Make) -> None:
    one = rig({"modules": (1, 3, 5)}, modules=3)
    one.poll_until(lambda new: len({r.unit.path for r in new}) == 3)
    one.poll(5)
    check(one)
    assert {reading.unit.path for reading in one.readings} == {"", one.serial(1), one.serial(3)}
    assert (states(one.readings)[-1]["modules_online"], states(one.readings)[-1]["modules_offline"]) == (2, 1)


def test_refresh_asks_everything_in_the_next_round(rig: Make) -> None:
    one = rig({"cells_interval": 3600.0}, modules=2)
    one.settle()
    one.poll(10)
    one.sim.truth.clear()
    one.poll()
    assert not {"stat", "bat", "time"} & {record.frame for record in one.sim.truth.records()}
    one.device.refresh()
    one.poll()
    assert {"pwr", "pwr N", "info", "stat", "bat", "soh", "time"} == {r.frame for r in one.sim.truth.records()}


def test_a_refresh_takes_nobody_offline(rig: Make) -> None:
    """It asks five questions of each module: where that takes longer than readings are true, rounds go on between."""
    one = rig({"cells_interval": 3600.0, "settings_interval": 3600.0, "max_age": 2.0}, modules=4)
    one.settle()
    one.poll(10)
    one.sim.faults.delay = 0.13
    one.sim.truth.clear()
    one.poll()
    one.device.refresh()
    one.poll_until(lambda _: len(one.sim.truth.records("soh")) >= 4)
    one.poll()
    rounds = [record.at for record in one.sim.truth.records("pwr")]
    assert max(later - earlier for earlier, later in pairwise(rounds)) < 2.0
    assert {record.unit for record in one.sim.truth.records("stat")} == {one.serial(n) for n in range(1, 5)}


# -- modules come and go


def test_a_module_that_is_taken_out_grows_old_and_is_offline(rig: Make) -> None:
    one = rig({"max_age": 0.3}, modules=3)
    one.settle()
    gone = one.serial(2)
    one.sim.remove(2)
    new = one.poll_until(lambda new: states(new) and states(new)[-1]["modules_offline"] == 1)
    assert states(new)[-1]["modules_online"] == 2
    one.readings.clear()
    one.poll(5)
    assert gone not in {reading.unit.path for reading in one.readings}
    check(one)


def test_a_module_that_is_added_is_named_and_read(rig: Make) -> None:
    one = rig(modules=2)
    one.settle()
    added = make_modules(1, "US2000C", 77, 55.0)[0]
    one.sim.add(3, added)
    one.poll_until(lambda new: added.serial in {r.unit.path for r in new})
    one.poll(5)
    assert states(one.readings)[-1]["modules_online"] == 3
    check(one)


def test_b18_a_module_exchanged_for_a_new_one_is_missed_until_that_one_is_known_by_its_own_name(rig: Make) -> None:
    one = rig({"max_age": 0.5}, modules=2)
    one.settle()
    one.sim.remove(2)
    one.poll_until(lambda new: states(new) and states(new)[-1]["modules_offline"] == 1)
    added = make_modules(1, "US2000C", 77, 55.0)[0]
    one.sim.add(2, added)
    one.poll_until(lambda new: added.serial in {r.unit.path for r in new})
    one.poll(5)
    state = states(one.readings)[-1]
    assert (state["modules_online"], state["modules_offline"]) == (2, 0)
    check(one)


def test_b18_modules_that_change_places_keep_their_names(rig: Make) -> None:
    one = rig(modules=["US2000C", "US2000C"])
    one.sim.stack.modules[2].soc = 30.0
    one.settle()
    first, second = one.serial(1), one.serial(2)
    one.sim.swap(1, 2)
    one.poll_until(lambda new: {r.unit.path for r in new if r.values.get("address") == 2} & {first})
    one.poll(5)
    assert {reading.unit.path for reading in one.readings} == {"", first, second}
    check(one)


def test_b18_a_module_that_moves_up_and_back_again_keeps_its_name(rig: Make) -> None:
    """The one before it is taken out for repair, and put back later."""
    one = rig({"identity_interval": 0.0}, modules=3)
    one.sim.stack.modules[2].soc = 30.0
    one.settle()
    out, last = one.sim.remove(2), one.sim.remove(3)
    one.sim.add(2, last)
    one.poll_until(lambda new: any(r.unit.path == last.serial and r.values["address"] == 2 for r in new))
    one.poll(2)
    one.sim.add(3, one.sim.remove(2))
    one.sim.add(2, out)
    one.poll(20)
    assert {reading.unit.path for reading in one.readings} == {"", one.serial(1), out.serial, last.serial}
    assert states(one.readings, last.serial)[-1]["address"] == 3
    check(one)


def test_a_cable_moved_between_two_rounds_brings_nothing_under_the_old_names(
    rig: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = rig({"identity_interval": 5.0}, modules=3)
    one.settle()
    monkeypatch.setattr(console_connection, "MOVED_AFTER", 0.2)
    old = move_cable(one)
    time.sleep(0.3)
    assert not old & {reading.unit.path for reading in until_known(one)}
    assert "implausible" not in one.failures(), "nothing but the serial numbers told them apart"


def refuse_stat(one: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the console refuse `stat` until the patch is undone."""
    said = one.sim._said
    refusal = ([pylontech_console.REFUSED], {}, "", "stat", False)
    monkeypatch.setattr(one.sim, "_said", lambda line: refusal if line.startswith("stat") else said(line))


def test_what_another_stack_refused_is_asked_of_this_one(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one = rig(modules=1)
    with monkeypatch.context() as patch:
        refuse_stat(one, patch)
        one.poll_until(lambda _: one.failures().get("refused", 0) >= 2)
        one.poll(5)
    assert states(one.readings, one.serial(1))[-1].get("cycles") is None
    monkeypatch.setattr(console_connection, "MOVED_AFTER", 0.2)
    move_cable(one)
    time.sleep(0.3)
    one.poll_until(lambda new: any(state.get("cycles") is not None for state in states(new, one.serial(1))), 5.0)


def test_what_another_stack_refuses_behind_a_moved_cable_is_no_crash(
    rig: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two questions of one round: a damaged answer may take as long as it takes to move the cable."""
    one = rig(modules=1)
    one.settle()
    refuse_stat(one, monkeypatch)
    monkeypatch.setattr(console_connection, "MOVED_AFTER", 0.2)
    for (name, _), task in one.device._tasks.items():
        task.due = 0.0 if name == "stat" else time.monotonic() + 60.0
    move_cable(one)
    time.sleep(0.3)
    list(one.device._ask_slow(time.monotonic()))
    until_known(one)


def test_a_cable_moved_while_an_answer_is_waited_for_brings_nothing_under_the_old_names(
    rig: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second try is answered by the other stack."""
    one = rig({"identity_interval": 5.0}, modules=3)
    one.settle()
    monkeypatch.setattr(console_connection, "MOVED_AFTER", 0.2)
    one.sim.faults.only, one.sim.faults.silent, one.sim.faults.times = b"pwr", True, 1
    old = move_cable(one)
    assert not old & {reading.unit.path for reading in until_known(one)}
    assert one.failures()["no_reply"] == 1


def test_after_a_silence_one_module_speaks_for_all_and_nothing_is_lost(
    rig: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = rig(modules=3)
    one.settle()
    one.poll(20)
    asked = len(one.sim.truth.records("info"))
    one.poll(5)
    assert len(one.sim.truth.records("info")) == asked, "a line that is kept busy costs nothing"
    monkeypatch.setattr(console_connection, "MOVED_AFTER", 0.2)
    for number in range(1, 4):
        time.sleep(0.3)
        published = {reading.unit.path for reading in one.poll(1)}
        assert published == {"", *(one.serial(position) for position in one.sim.stack.modules)}
        assert [record.unit for record in one.sim.truth.records("info")[asked:]] == number * [one.serial(1)]
    check(one)


def test_a_witness_that_does_not_answer_is_followed_by_another_one(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one = rig(modules=3)
    one.settle()
    one.poll(20)
    monkeypatch.setattr(console_connection, "MOVED_AFTER", 0.2)
    asked = len(one.sim.truth.records("info"))
    time.sleep(0.3)
    one.sim.faults.only, one.sim.faults.silent, one.sim.faults.times = b"info 1", True, 1
    assert {one.serial(2), one.serial(3)} <= {reading.unit.path for reading in one.poll(1)}
    named = [record.unit for record in one.sim.truth.records("info")[asked:]]
    assert set(named) == {one.serial(1), one.serial(2)}, "only the one that was not heard is asked again"
    check(one)


def test_witnesses_that_do_not_answer_leave_it_to_each_to_say_who_it_is(
    rig: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = rig(modules=3)
    one.settle()
    monkeypatch.setattr(console_connection, "MOVED_AFTER", 0.2)
    time.sleep(0.3)
    one.sim.faults.only, one.sim.faults.silent, one.sim.faults.times = b"info", True, 2
    one.readings.clear()
    until_known(one)
    check(one)


def test_a_step_that_cannot_be_is_taken_only_when_it_stays(rig: Make) -> None:
    one = rig(modules=1)
    one.settle()
    one.sim.stack.modules[1].override["Coulomb"] = "20%"
    one.poll()
    assert {state["soc"] for state in states(one.readings, one.serial(1))} == {62}
    assert one.failures()["implausible"] >= 1
    one.poll_until(lambda new: 20 in {state["soc"] for state in states(new, one.serial(1))})


@pytest.mark.parametrize("text", ["130%", "-", "6?%", "1000%"])
def test_a_row_that_makes_no_sense_costs_only_its_own_module(rig: Make, text: str) -> None:
    one = rig(modules=3)
    one.settle()
    one.readings.clear()
    one.sim.stack.modules[2].override["Coulomb"] = text
    one.poll(5)
    assert {None, 62} >= {state["soc"] for state in states(one.readings, one.serial(2))}
    assert len(states(one.readings, one.serial(1))) >= 5
    assert len(states(one.readings, one.serial(3))) >= 5


def test_cells_that_do_not_make_up_their_module_are_refused(rig: Make) -> None:
    one = rig(modules=1)
    one.settle()
    one.sim.stack.modules[1].override["cell_7"] = 2312  # one digit, 3312 before
    one.readings.clear()
    one.poll(6)
    assert one.failures()["implausible"] >= 1
    assert 2.312 not in {state["cell_7_voltage"] for state in states(one.readings, one.serial(1))}


# -- waking


def test_b19_a_sleeping_console_is_woken_once(rig: Make) -> None:
    one = rig(modules=2, asleep=True)
    one.settle()
    assert one.sim.wakes == 1
    check(one)


def test_b19_a_console_that_answers_is_never_woken(rig: Make) -> None:
    one = rig(modules=2)
    one.settle()
    for knob, value in (("cut", 40), ("noise_inside", b"\x00\xff?>"), ("swallow", 2), ("no_end", True), ("flips", 4)):
        setattr(one.sim.faults, knob, value)
        one.poll(2)
        one.sim.faults.clear()
        one.poll(2)
    assert one.sim.wakes == 0
    check(one)


def test_b19_a_console_that_went_to_sleep_is_woken_and_says_who_it_is_again(rig: Make) -> None:
    one = rig(modules=2, asleep=True)
    one.settle()
    one.sim.restart()
    known = len(one.sim.truth.records("info"))
    one.poll_until(lambda _: len(one.sim.truth.records("info")) >= known + 2)
    assert one.sim.wakes == 2
    one.poll(3)
    check(one)


def test_a_console_at_another_speed_gives_nothing(rig: Make) -> None:
    one = rig(modules=2, speed=9600, strict_speed=True)
    assert one.poll(2) == []
    assert one.silent_rounds == 2


def test_a_talking_line_without_a_prompt_is_not_woken(rig: Make) -> None:
    one = rig(modules=1)
    one.sim.faults.mutate = lambda reply: b"half a prompt"
    one.sim.faults.times = None
    assert one.poll(2) == []
    assert one.silent_rounds == 2
    assert one.sim.wakes == 0
    one.sim.faults.clear()
    one.settle()


# -- faults of the line

KNOBS: list[tuple[str, Any]] = [
    ("swallow", 3), ("delay", 0.25), ("cut", 1), ("cut", 60), ("cut", 300), ("cut", -6), ("flips", 6),
    ("flip", (200, 0x10)), ("noise_before", b"\xfe\x00garbage @ $$ pylon\r\n"), ("noise_before", b"\r\npylon>"),
    ("noise_inside", b"#\x80#"), ("noise_inside", b"\r\npylon>"), ("noise_after", b"\xff\xff"),
    ("noise_after", b"\r\npylon>\r\npylon>"), ("merge", 2), ("duplicates", 1), ("byte_pause", 0.0002),
    ("pause_at", (100, 0.05)), ("pause_at", (100, 0.3)), ("silent", True), ("no_end", True), ("no_prompt", True),
    ("stray", True), ("plain_lines", True), ("locked", True), ("busy", frozenset({2})),
    ("overwrite", (150, b"999")), ("swap", (180, 181)),
]  # fmt: skip


@pytest.mark.parametrize(("knob", "value"), KNOBS, ids=[f"{knob}-{value}" for knob, value in KNOBS])
def test_no_fault_of_the_line_brings_a_wrong_value_or_stays(rig: Make, knob: str, value: Any) -> None:
    one = rig(modules=2)
    one.settle()
    setattr(one.sim.faults, knob, value)
    one.poll(2)
    one.sim.faults.clear()
    one.poll_until(lambda new: len(states(new, one.serial(1))) > 2 and len(states(new, one.serial(2))) > 2)
    check(one)
    assert one.sim.wakes == 0 or knob == "silent"


def test_b8_an_answer_cut_anywhere_is_never_published(rig: Make) -> None:
    one = rig(modules=1)
    one.settle()
    whole = len(_raw(one))
    for cut in range(0, whole, whole // 12):
        one.sim.faults.only = b"pwr\n"
        one.sim.faults.cut = cut
        one.sim.faults.times = 1
        one.poll()
    one.sim.faults.clear()
    one.poll(2)
    check(one)


def _raw(one: ConsoleRig) -> bytes:
    return b"pwr\n\r@\r\r\n" + b" " * 1800


def test_b14_the_answer_about_another_module_is_never_filed(rig: Make) -> None:
    one = rig(modules=2)
    heard: dict[bytes, bytes] = {}

    def other(reply: bytes) -> bytes:
        echo = reply.partition(b"\n")[0]
        heard[echo] = reply
        return heard.get(b"bat 2", reply) if echo == b"bat 1" else reply

    one.settle()
    one.sim.faults.mutate = other
    one.readings.clear()
    one.poll_until(lambda _: one.failures().get("foreign", 0) >= 2)
    one.sim.faults.clear()
    one.poll(2)
    check(one)


def test_the_retry_brings_what_the_first_try_lost(rig: Make) -> None:
    one = rig(modules=2)
    one.settle()
    one.sim.faults.cut, one.sim.faults.times = 200, 1
    one.readings.clear()
    one.poll()
    assert len(states(one.readings, one.serial(1))) >= 1
    assert sum(one.failures().values()) >= 1


@pytest.mark.parametrize("lost", [(b"bat 2",), (b"bat 2", b"pwr")])
def test_b16_lost_answers_take_nobody_offline(rig: Make, monkeypatch: pytest.MonkeyPatch, lost: tuple[bytes]) -> None:
    monkeypatch.setattr(console_connection, "THINKING", WAITED["THINKING"])
    monkeypatch.setattr(console_connection, "OTHERS_THINKING", WAITED["OTHERS_THINKING"])
    one = rig({"max_age": 5.0}, modules=2)
    one.settle()
    for number, words in enumerate(lost, 1):
        one.sim.faults.only, one.sim.faults.silent, one.sim.faults.times = words, True, 1
        one.poll_until(lambda _, number=number: one.failures().get("no_reply") == number)
    one.poll(2)
    for position in (1, 2):
        told = [reading.at for reading in one.readings if reading.unit.path == one.serial(position)]
        assert max(later - earlier for earlier, later in pairwise(told)) < 5.0


def test_what_chargers_go_by_is_true_for_no_longer_than_the_modules_reading(rig: Make) -> None:
    one = rig({"max_age": 1.0}, modules=2)
    one.settle()
    serial = one.serial(2)

    def lame(said: bytes) -> bytes:
        # neither its row nor its cells can be read, but what it says of its events
        return said.replace(b"\n2 ", b"\n? ") if said.startswith(b"pwr\n") else said.replace(b"mAH", b"mA?")

    one.sim.faults.mutate = lambda said: said if said.startswith(b"pwr 2") else lame(said)
    one.poll_until(lambda new: states(new, serial)[-1:] and states(new, serial)[-1]["cell_max_voltage"] is None)
    state = states(one.readings, serial)[-1]
    assert state["voltage"] is not None
    assert state["cell_1_voltage"] is not None  # that is shown, and may be some rounds old
    check(one)


def test_the_stacks_charge_is_weighted_by_capacity_also_while_a_module_does_not_tell_it(rig: Make) -> None:
    one = rig(modules=["US5000", "US2000C"])
    one.sim.stack.power, one.sim.stack.modules[1].soc, one.sim.stack.modules[2].soc = 0.0, 80.0, 20.0
    one.settle()
    one.poll(4)
    soc = states(one.readings)[-1]["soc"]
    module = one.device._units.places["2"]
    module.forget(next(told.source for name, told in module._told.items() if name == "pwr N"))
    one.sim.faults.only, one.sim.faults.silent = b"pwr 2", True
    new = states(one.poll(3))
    assert [state["soc"] for state in new] == [soc] * len(new)
    assert states(one.readings, one.serial(2))[-1]["power_events"] is None


def test_a_busy_module_is_no_module_without_a_name(rig: Make) -> None:
    one = rig(modules=2)
    one.sim.faults.busy, one.sim.faults.busy_with_success = frozenset({2}), True
    one.poll(4)
    assert {reading.unit.path for reading in one.readings} == {"", one.serial(1)}
    assert states(one.readings)[-1]["modules_offline"] == 1
    one.sim.faults.clear()
    one.device.refresh()
    one.settle()
    check(one)


def test_a_silent_console_is_no_reply_and_endless_noise_too(rig: Make) -> None:
    one = rig(modules=1)
    one.settle()
    one.sim.faults.silent = True
    with pytest.raises(NoReply):
        list(one.device.poll())
    one.sim.faults.clear()
    one.sim.faults.chatter = True
    one.poll(1)
    one.sim.faults.clear()
    one.settle()
    check(one)


def test_an_answer_that_waited_for_a_frozen_process_is_dropped(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one = rig(modules=1)
    one.settle()
    monkeypatch.setattr(console_connection, "SLICE", 0.05)
    monkeypatch.setattr(console_connection, "STANDSTILL", 0.05)
    read = one.device._console._link.read

    def stand_still(deadline: float) -> bytes:
        # stopping this very process would stop the simulator in it too
        time.sleep(0.2)
        return bytes(read(deadline))

    monkeypatch.setattr(one.device._console._link, "read", stand_still)
    one.readings.clear()
    one.poll()
    assert one.readings == []
    assert one.failures()["late"] >= 1


def test_waiting_costs_no_processor_time(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one = rig(modules=1)
    one.settle()
    monkeypatch.setattr(console_connection, "OTHERS_THINKING", 1.0)
    one.sim.faults.silent = True
    began = time.thread_time()
    one.poll()
    assert time.thread_time() - began < 0.1


# -- the port


def test_a_long_answer_is_fetched_in_few_pieces(rig: Make) -> None:
    one = rig({"baud": 19200}, modules=1, baud=19200, speed=19200)
    one.settle()
    line = one.device._line()
    pieces, take = [], line._link.read

    def read(deadline: float) -> bytes:
        data: bytes = take(deadline)
        pieces.append(data)
        return data

    line._link.read = read
    line.ask("bat", 1, console_cells.cells)
    characters = sum(map(len, pieces))
    assert characters > 1000
    assert len(pieces) < characters / 4, "it woke for every few characters"


def test_b1_an_unplugged_port_is_a_link_error_and_is_read_again_under_its_link(rig: Make, tmp_path: Any) -> None:
    one = rig(modules=2, link=tmp_path / "console")
    one.settle()
    before = descriptors()
    for _ in range(3):
        one.sim.unplug()
        with pytest.raises(LinkError):
            one.poll()
        one.device.close()
        with pytest.raises(LinkError, match="not there"):
            one.device.open()
        one.sim.replug()
        one.device.open()
        one.settle()
    assert descriptors() <= before
    check(one)


def test_a_closed_device_is_a_link_error(rig: Make) -> None:
    one = rig(modules=1)
    one.device.close()
    one.device.close()
    with pytest.raises(LinkError, match="not open"):
        one.poll()


def test_stop_ends_a_waiting_device_at_once(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one = rig(modules=1)
    one.settle()
    monkeypatch.setattr(console_connection, "OTHERS_THINKING", 60.0)
    one.sim.faults.silent = True
    threading.Timer(0.1, one.world.stop.set).start()
    began = time.monotonic()
    with pytest.raises(Stopped):
        one.poll()
    assert time.monotonic() - began < 5.0


def test_the_judge_sees_a_wrong_value(rig: Make) -> None:
    one = rig(modules=1)
    one.settle()
    record = one.sim.truth.records("pwr")[-1]
    assert wrong(one, one.readings) == []
    one.sim.truth.clear()
    assert wrong(one, one.readings[-1:]) != []
    assert record.whole
