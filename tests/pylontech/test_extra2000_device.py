"""The Extra2000 device on a simulated console over a real pty; defect_d numbers are those of extra200tomqtt.

Those that are no matter of this device are tested where it is decided: one connection with a will and TLS (d7) in
tests/sinks/test_broker.py, the battery's own limits (d19) in test_console_device.py and tests/test_bank.py, defaults,
passwords and unknown keys (d23, d24) in tests/test_config.py and tests/faults/test_d5_config.py, logs (d25, d26) in
tests/test_logs.py and tests/faults/test_d_logs.py, installing and restarting (d27 to d33) in tests/install, entities of
Home Assistant (d34 to d37) in tests/sinks/test_discovery.py, time to full and empty (d36) in test_stack.py.
Source of the defects: ned-kelly/extra200tomqtt at commit e34feed.
"""

from __future__ import annotations

import re
import termios
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bridge.bank import Bank, Rules
from bridge.config import load
from bridge.errors import ConfigError, LinkError, NoReply
from bridge.guard import Limits
from bridge.keeper import Board
from bridge.pylontech import console_connection, extra2000_device
from bridge.pylontech.extra2000_device import Options, Topics
from bridge.simulators.pylontech_stack import make_modules
from tests.pylontech.console_rig import ConsoleRig, check, extra2000, move_cable, on, shorten, states, until_known

Make = Callable[..., ConsoleRig]

THINKING, OTHERS_THINKING = console_connection.THINKING, console_connection.OTHERS_THINKING
"""How long an answer is waited for where a test does not shorten it."""

BATTERY, BANK = "v/battery_{n}", "v/pylon"
TOPICS = Topics(battery=BATTERY, bank=BANK)
LIMITS = Limits(module_charge_current=25.0, module_discharge_current=20.0, raise_after=0.0)
COMPATIBLE = {"topics": TOPICS, "limits": LIMITS}


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch)
    monkeypatch.setattr(extra2000_device, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(extra2000_device, "LONGEST_PAUSE", 0.1)


@pytest.fixture
def rig() -> Iterator[Make]:
    rigs: list[ConsoleRig] = []

    def make(options: dict[str, Any] | None = None, **simulated: Any) -> ConsoleRig:
        rigs.append(extra2000(options, **simulated))
        return rigs[-1]

    yield make
    for one in rigs:
        one.close()


def bank(one: ConsoleRig, rounds: int = 2) -> dict[str, Any]:
    """Return the bank's newest message of so many rounds."""
    return on(one.poll(rounds), BANK)[-1]


def until_bank(one: ConsoleRig, done: Callable[[dict[str, Any]], bool], seconds: float = 10.0) -> dict[str, Any]:
    new = one.poll_until(lambda new: any(done(message) for message in on(new, BANK)), seconds)
    return next(message for message in on(new, BANK) if done(message))


def shape(message: dict[str, Any]) -> list[str]:
    sections = ([key, *value] if isinstance(value, dict) else [key] for key, value in message.items())
    return [key for section in sections for key in section]


# -- reading


def test_it_wakes_logs_in_and_reads_every_module(rig: Make) -> None:
    one = rig({"modules": (1, 2, 3)}, modules=3, asleep=True)
    one.settle()
    one.poll(5)
    check(one)
    assert one.sim.wakes == 1
    assert one.device._console.logged_in
    assert {reading.unit.path for reading in one.readings} == {"", *(one.serial(n) for n in (1, 2, 3))}
    whole = states(one.readings)[-1]
    assert (whole["modules_online"], whole["module_charge_current_limit"]) == (3, 25.0)


def test_topics_are_off_unless_configured(rig: Make) -> None:
    one = rig(modules=2)
    one.settle()
    one.poll(5)
    assert {reading.topic for reading in one.readings} == {None}


def test_a_console_that_does_not_let_in_is_read_all_the_same(rig: Make) -> None:
    one = rig(modules=2)
    one.sim.faults.mutate = lambda said: said.replace(b"pylon_debug>", b"pylon>")
    one.settle()
    assert not one.device._console.logged_in
    check(one)


@pytest.mark.parametrize(
    ("knob", "value"),
    [("cut", 100), ("no_end", True), ("no_prompt", True), ("swallow", 2), ("noise_inside", b"\xff\r\n@"),
     ("stray", True), ("busy", frozenset({2})), ("flips", 5), ("duplicates", 1), ("locked", True),
     ("plain_lines", True)],
)  # fmt: skip
def test_no_fault_of_the_line_brings_a_wrong_value_or_stays(rig: Make, knob: str, value: Any) -> None:
    one = rig({"modules": (1, 2), **COMPATIBLE}, modules=2)
    one.settle()
    setattr(one.sim.faults, knob, value)
    one.poll(2)
    one.sim.faults.clear()
    one.poll_until(lambda new: len(states(new, one.serial(1))) > 2 and len(states(new, one.serial(2))) > 2)
    check(one)


def test_an_unplugged_port_is_a_link_error_and_is_read_again(rig: Make, tmp_path: Path) -> None:
    one = rig(modules=2, link=tmp_path / "garage")
    one.settle()
    one.sim.unplug()
    with pytest.raises(LinkError):
        one.poll()
    one.device.close()
    one.sim.replug()
    one.device.open()
    one.settle()
    check(one)


def test_a_silent_module_is_asked_more_rarely(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extra2000_device, "FIRST_PAUSE", 60.0)
    one = rig({"modules": (1, 2)}, modules=2)
    one.settle()
    one.sim.faults.only, one.sim.faults.silent = b" 2\n", True
    one.poll(1)
    one.sim.faults.clear()
    silence = one.failures()["no_reply"]
    one.readings.clear()
    one.poll(10)
    assert one.failures()["no_reply"] == silence
    assert len(states(one.readings, one.serial(1))) >= 10


def test_b16_lost_answers_take_nobody_offline(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_connection, "THINKING", THINKING)
    monkeypatch.setattr(console_connection, "OTHERS_THINKING", OTHERS_THINKING)
    one = rig({"modules": (1, 2), "max_age": 6.0}, modules=2)
    one.settle()
    for number, words in enumerate((b"bat 2", b"pwr 2"), 1):
        one.sim.faults.only, one.sim.faults.silent, one.sim.faults.times = words, True, 1
        one.poll_until(lambda _, number=number: one.failures().get("no_reply") == number)
    one.poll_until(lambda new: len(states(new, one.serial(2))) > 1)
    for position in (1, 2):
        told = [reading.at for reading in one.readings if reading.unit.path == one.serial(position)]
        assert max(later - earlier for earlier, later in pairwise(told)) < 6.0


@pytest.mark.parametrize("absent", [{1}, {2}, {2, 4}, {4, 5}])
def test_b18_modules_behind_one_that_is_missing_are_found_at_the_start(rig: Make, absent: set[int]) -> None:
    one = rig(modules=5)
    for position in absent:
        one.sim.stack.modules[position].unreachable = True
    one.poll()
    assert set(one.device._positions()) == {1, 2, 3, 4, 5} - absent
    one.poll(5)
    check(one)


def test_b18_every_number_is_looked_at_now_and_then(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one = rig(modules=6)
    for position in (2, 3, 4, 5):
        one.sim.stack.modules[position].unreachable = True
    one.poll(5)
    assert one.device._positions() == [1]  # two in a row are missing
    asked: list[int] = []
    ask = one.device._ask_module
    monkeypatch.setattr(one.device, "_ask_module", lambda position: asked.append(position) or ask(position))
    one.poll(5)
    assert set(asked) == {1}  # not at once again
    monkeypatch.setattr(extra2000_device, "PROBE_PAUSE", 0.0)
    monkeypatch.setattr(extra2000_device, "PROBE_SHARE", 0.0)
    one.device._probe_due = 0.0
    one.poll_until(lambda new: states(new, one.serial(6)))
    one.poll(40)
    assert set(asked) == set(range(1, 17))
    strangers = [position for position in asked if position not in (1, 6)]
    assert sum(position in (2, 3, 4, 5, 7, 8) for position in strangers) >= len(strangers) // 2
    one.sim.stack.modules[3].unreachable = False
    one.poll_until(lambda new: states(new, one.serial(3)))
    check(one)


def test_cells_are_true_for_no_longer_than_the_modules_reading(rig: Make) -> None:
    one = rig({"modules": (1, 2), "max_age": 1.0}, modules=2)
    one.settle()
    one.poll_until(lambda new: states(new, one.serial(2))[-1:] and states(new, one.serial(2))[-1]["cell_max_voltage"])
    one.sim.faults.only, one.sim.faults.mutate = b"bat 2", lambda said: said.replace(b"mAH", b"mA?")
    struck = time.monotonic()
    one.poll_until(lambda _: time.monotonic() > struck + 1.5)
    state = states(one.readings, one.serial(2))[-1]
    assert state["voltage"] is not None
    assert (state["cell_max_voltage"], state["cell_1_voltage"]) == (None, None)
    assert states(one.readings, one.serial(1))[-1]["cell_max_voltage"] is not None
    check(one)


def test_a_bank_gives_no_charge_to_modules_whose_cells_are_not_read_yet(rig: Make) -> None:
    """At each start; nothing but `bat` tells of a full cell."""
    one = rig({"modules": (1, 2, 3), "login": False}, modules=3, soc=85.0)
    one.sim.stack.power = 0.0
    one.sim.stack.modules[2].override["cell_5"] = 3590
    board, whole = Board(["garage"]), Bank(Rules(("garage",), LIMITS, expected=3))
    given = set[Any]()
    for _ in range(12):
        for reading in one.poll():
            board.take("garage", reading)
        found = whole.round(board.readings(), time.monotonic())
        given |= {found.state["charge_current_limit"]} if found.data else set()
    assert (max(given), found.state["charge_current_reason"]) == (0.7, "cell voltage (M2)")
    assert found.state["discharge_current_limit"] == 60.0


def test_readings_stay_true_for_longer_where_the_cells_of_all_take_longer(rig: Make) -> None:
    one = rig({"modules": (1, 2)}, modules=2)
    one.settle()
    assert {reading.unit.max_age for reading in one.readings} == {30.0}
    for position in (1, 2):
        one.device._tasks["bat", position].took = 8.0
    one.device._lengthen_age()
    assert 85.0 in {reading.unit.max_age for reading in one.poll()}
    one.poll_until(lambda new: new and new[-1].unit.max_age == 30.0)
    assert rig({"max_age": 20.0}, modules=1).device._settings.lengthened is False


def test_how_long_readings_stay_true_is_known_with_the_first_cells(rig: Make) -> None:
    """Not only when the last module's were read: the first one's would be too old by then."""
    one = rig({"modules": (1, 2, 3, 4)}, modules=4)
    one.poll_until(lambda _: 1 in one.device._watches)
    for position in (2, 3, 4):
        one.device._watches.pop(position, None)
    one.device._tasks["bat", 1].took = 4.0
    one.device._lengthen_age()
    assert one.device._max_age == 85.0


# -- the defects


def test_defect_d1_a_silent_battery_is_no_answer_however_well_bytes_are_taken(rig: Make) -> None:
    one = rig({"modules": (1,)}, modules=1)
    one.settle()
    one.sim.faults.silent = True
    for _ in range(2):
        with pytest.raises(NoReply):
            list(one.device.poll())


def test_defect_d2_a_cut_answer_publishes_nothing(rig: Make) -> None:
    one = rig({"modules": (1,), **COMPATIBLE}, modules=1)
    one.settle()
    one.readings.clear()
    for cut in range(5, 900, 149):
        one.sim.faults.cut = cut
        one.poll()
        one.sim.faults.clear()
        assert one.readings == [], cut


def test_defect_d3_waiting_costs_no_processor_time(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one = rig({"modules": (1,)}, modules=1)
    one.settle()
    monkeypatch.setattr(console_connection, "OTHERS_THINKING", 1.0)
    one.sim.faults.silent = True
    began = time.thread_time()
    one.poll()
    assert time.thread_time() - began < 0.1


def test_defect_d4_modules_are_found_and_each_has_its_own_name_and_rating(rig: Make) -> None:
    one = rig(modules=["Extra2000", "US2000", "US2000C"])
    one.settle()
    for position in (1, 2, 3):
        state, module = states(one.readings, one.serial(position))[-1], one.sim.stack.modules[position]
        assert state["serial"] == module.serial
        assert state["max_charge_current"] == module.model.protection.charge


def test_defect_d5_the_speed_is_changed_on_the_open_port_and_nobody_else_can_open_it(rig: Make) -> None:
    one = rig(modules=1, asleep=True)
    fd = one.device._console._link.fileno()
    one.settle()
    assert one.device._console._link.fileno() == fd
    assert termios.tcgetattr(fd)[4] == termios.B19200
    other = extra2000_device.build(Options(name="x", type="x", port=one.sim.port), one.world.context)
    with pytest.raises(LinkError, match="in use"):
        other.open()


def test_defect_d6_speed_and_limits_are_configuration(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    text = (
        "mqtt: {host: localhost}\ndevices:\n  - name: garage\n    type: pylontech-extra2000\n    port: /dev/ttyX\n"
        "    baud: 9600\n    topics: {battery: 'v/battery_{n}', bank: v/pylon}\n    limits: {max_charge_voltage: 51.5, "
        "module_charge_current: 40, module_discharge_current: 50, charge_by_cell: {points: [[3.4, 1], [3.5, 0]]}}\n"
    )
    file.write_text(text)
    options: Any = load(file, {}).devices[0]
    assert (options.baud, options.limits.max_charge_voltage, options.topics.bank) == (9600, 51.5, "v/pylon")
    file.write_text(text.replace("module_charge_current: 40, ", "").replace("{n}", ""))
    with pytest.raises(ConfigError) as refused:
        load(file, {})
    assert "{n}" in str(refused.value)
    file.write_text(text.replace("module_charge_current: 40, ", ""))
    with pytest.raises(ConfigError, match=r"limits\.module_charge_current: missing"):
        load(file, {})
    file.write_text(text.replace("{max_charge_voltage", "{alarms: {low_soc: [20, 10]}, max_charge_voltage"))
    with pytest.raises(ConfigError, match=r"limits\.alarms: is of no use here"):  # the topics have levels of their own
        load(file, {})


def test_defect_d8_every_message_has_the_same_keys(rig: Make) -> None:
    one = rig({"modules": (1, 2), **COMPATIBLE}, modules=2)
    one.settle()
    for power in (900.0, -900.0, 0.0):
        one.sim.stack.power = power
        one.poll(3)
    one.sim.faults.only, one.sim.faults.swallow = b"bat", 4
    one.poll(3)
    for topic in ("v/battery_1", "v/battery_2", BANK):
        messages = on(one.readings, topic)
        assert len(messages) > 6
        assert len({tuple(shape(message)) for message in messages}) == 1
    assert {m["TimeToGo"] is None for m in on(one.readings, BANK)} == {True, False}


def test_defect_d9_when_all_modules_are_silent_nothing_is_said(rig: Make) -> None:
    one = rig({"modules": (1, 2), "max_age": 0.3, **COMPATIBLE}, modules=2)
    bank(one, 6)
    one.sim.faults.silent = True
    one.readings.clear()
    one.poll(2)
    assert one.readings == []


def test_defect_d10_one_lost_reading_changes_no_limit(rig: Make) -> None:
    one = rig({"modules": (1, 2), **COMPATIBLE}, modules=2)
    before = bank(one, 6)["Info"]
    assert before == {"MaxChargeVoltage": 52.4, "MaxChargeCurrent": 50.0, "MaxDischargeCurrent": 40.0}
    one.sim.faults.only, one.sim.faults.swallow = b"pwr 2\n", 2
    for message in on(one.poll(3), BANK):
        assert message["Info"] == before
        assert message["System"]["NrOfModulesOnline"] == 2


def test_defect_d11_a_silent_module_lowers_limits_and_is_not_counted_online(rig: Make) -> None:
    one = rig({"modules": (1, 2, 3), "max_age": 0.6, **COMPATIBLE}, modules=3)
    assert bank(one, 8)["System"]["NrOfModulesOnline"] == 3
    one.sim.stack.modules[2].silent = True
    message = until_bank(one, lambda message: message["System"]["NrOfModulesOffline"] == 1)
    assert message["System"]["NrOfModulesOnline"] == 2
    assert (message["Info"]["MaxChargeCurrent"], message["Info"]["MaxDischargeCurrent"]) == (50.0, 40.0)
    one.readings.clear()
    one.poll(3)
    assert on(one.readings, "v/battery_2") == []
    one.sim.stack.modules[2].silent = False
    until_bank(one, lambda message: message["System"]["NrOfModulesOnline"] == 3)
    until_bank(one, lambda message: message["Info"]["MaxChargeCurrent"] == 75.0)  # as soon as its cells are known anew


def test_a_cable_moved_between_two_rounds_brings_nothing_under_the_old_names(
    rig: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = rig({"identity_interval": 5.0}, modules=3)
    one.settle()
    monkeypatch.setattr(console_connection, "MOVED_AFTER", 0.2)
    old = move_cable(one)
    time.sleep(0.3)
    assert not old & {reading.unit.path for reading in until_known(one)}


def test_a_cable_moved_while_a_module_is_waited_for_brings_nothing_under_the_old_names(
    rig: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = rig({"identity_interval": 5.0}, modules=3)
    one.settle()
    monkeypatch.setattr(console_connection, "MOVED_AFTER", 0.2)
    one.sim.faults.only, one.sim.faults.silent = b" 1\n", True
    old = move_cable(one)
    readings = one.poll_until(lambda new: {one.serial(2), one.serial(3)} <= {reading.unit.path for reading in new})
    assert not old & {reading.unit.path for reading in readings}


def test_b18_a_module_exchanged_for_a_new_one_is_missed_until_that_one_answers(rig: Make) -> None:
    one = rig({"modules": (1, 2), "max_age": 0.6, **COMPATIBLE}, modules=2)
    assert bank(one, 8)["System"]["NrOfModulesOnline"] == 2
    one.sim.remove(2)
    until_bank(one, lambda message: message["System"]["NrOfModulesOffline"] == 1)
    one.sim.add(2, make_modules(1, "Extra2000", 77, 55.0)[0])
    one.device.refresh()
    message = until_bank(one, lambda message: message["System"]["NrOfModulesOnline"] == 2)
    assert message["System"]["NrOfModulesOffline"] == 0
    check(one)


def test_g1_a_module_that_falls_silent_gives_the_others_no_more_for_a_while(
    rig: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may hang on the same rails still, with its full cell."""
    one = rig({"modules": (1, 2, 3), "max_age": 0.6, **COMPATIBLE}, modules=3, soc=85.0)
    one.sim.stack.power = 0.0
    one.settle()
    one.sim.stack.modules[2].override["cell_5"] = 3560
    before = until_bank(one, lambda message: message["System"]["MaxCellVoltage"] == 3.56)["Info"]["MaxChargeCurrent"]
    assert before < 5.0
    one.sim.stack.modules[2].silent = True
    message = until_bank(one, lambda message: message["System"]["NrOfModulesOffline"] == 1)
    assert message["Info"] == {"MaxChargeVoltage": 52.4, "MaxChargeCurrent": before, "MaxDischargeCurrent": 40.0}
    monkeypatch.setattr(extra2000_device, "BINDING", 1.0)
    until_bank(one, lambda message: message["Info"]["MaxChargeCurrent"] == 50.0)


def test_defect_d12_protections_are_alarms_of_level_two(rig: Make) -> None:
    one = rig({"modules": (1,), **COMPATIBLE}, modules=1)
    one.settle()
    for events, level in ((0x2, 1), (0x1, 2), (0x3, 2), (0x0, 0)):
        one.sim.stack.modules[1].power_events = events
        assert on(one.poll(3), "v/battery_1")[-1]["Alarms"]["HighVoltage"] == level


def test_defect_d13_soc_is_weighted_and_extreme_cells_carry_their_module(rig: Make) -> None:
    one = rig({"modules": (1, 2), **COMPATIBLE}, modules=["US2000", "US5000"])
    one.sim.stack.modules[1].soc, one.sim.stack.modules[2].soc = 20.0, 80.0
    message = bank(one, 8)
    assert message["Soc"] == pytest.approx((20 * 50 + 80 * 100) / 150, abs=0.7)
    assert message["System"]["MinVoltageCellId"].startswith("M1 C")
    assert message["System"]["MaxVoltageCellId"].startswith("M2 C")


def test_defect_d14_balancing_is_what_the_battery_says_of_its_cells(rig: Make) -> None:
    one = rig({"modules": (1,), **COMPATIBLE}, modules=1)
    one.sim.stack.modules[1].override["Heater Status"] = "ON"
    one.settle()
    message = on(one.poll(4), "v/battery_1")[-1]
    assert (message["Balancing"], message["System"]["MOSTemperature"]) == (0, None)
    one.sim.stack.modules[1].balancing = frozenset({4})
    message = on(one.poll(6), "v/battery_1")[-1]
    assert message["Balancing"] == 1
    assert [cell for cell, flag in message["Balances"].items() if flag] == ["Cell5"]


def test_defect_d15_a_module_with_more_cells_is_read_like_any_other(rig: Make) -> None:
    one = rig({"modules": (1, 2), **COMPATIBLE}, modules=["Extra2000", "16-cell"])
    assert bank(one, 8)["System"]["NrOfCellsPerBattery"] == 16
    assert len(on(one.readings, "v/battery_2")[-1]["Voltages"]) == 16


def test_defect_d16_configured_limits_are_obeyed(rig: Make) -> None:
    limits = Limits(
        max_charge_voltage=51.0, max_charge_current=30.0, max_discharge_current=12.5,
        module_charge_current=25.0, module_discharge_current=20.0,
    )  # fmt: skip
    one = rig({"modules": (1, 2), "topics": TOPICS, "limits": limits}, modules=2)
    assert bank(one, 8)["Info"] == {"MaxChargeVoltage": 51.0, "MaxChargeCurrent": 30.0, "MaxDischargeCurrent": 12.5}
    info = on(one.readings, "v/battery_1")[-1]["Info"]
    assert info == {"MaxChargeVoltage": 51.0, "MaxChargeCurrent": 25.0, "MaxDischargeCurrent": 20.0}


def test_defect_d17_a_limit_falls_at_once_and_rises_only_behind_a_hysteresis(rig: Make) -> None:
    one = rig({"modules": (1,), **COMPATIBLE}, modules=1, soc=90.0)
    one.sim.stack.power = 0.0
    one.settle()
    currents = []
    for soc in ("90%", "91%", "90%", "89%"):
        one.sim.stack.modules[1].override["Coulomb"] = soc
        currents.append(on(one.poll(4), "v/battery_1")[-1]["Info"]["MaxChargeCurrent"])
    assert currents[1] < currents[0]
    assert currents[1] == currents[2] == currents[3]


def test_defect_d18_a_full_cell_stops_the_charge_current_not_only_a_flag(rig: Make) -> None:
    one = rig({"modules": (1, 2), **COMPATIBLE}, modules=2, soc=99.0)
    one.sim.stack.power = 0.0
    one.settle()
    one.sim.stack.modules[2].override["cell_5"] = 3655
    one.poll_until(lambda new: any(m["System"]["MaxCellVoltage"] == 3.655 for m in on(new, "v/battery_2")))
    message = on(one.poll(2), "v/battery_2")[-1]
    assert message["Info"]["MaxChargeCurrent"] == 0
    assert (message["Io"]["AllowToCharge"], message["Alarms"]["HighVoltage"]) == (0, 1)
    assert bank(one)["Info"]["MaxChargeCurrent"] == 0


def test_defect_d19_the_limits_of_the_battery_itself_count_where_its_console_tells_them(rig: Make) -> None:
    one = rig({"modules": (1, 2), **COMPATIBLE}, modules=2)
    one.settle()
    stated = re.compile(rb"(\n Recommend chg current +: )25000")
    one.sim.faults.only, one.sim.faults.mutate = b"pwrsys", lambda said: stated.sub(rb"\g<1>0    ", said)
    message = until_bank(one, lambda message: message["Info"]["MaxChargeCurrent"] < 50.0)
    assert (message["Info"]["MaxChargeCurrent"], message["Info"]["MaxDischargeCurrent"]) == (0.0, 40.0)
    assert (message["Io"]["AllowToCharge"], states(one.readings)[-1]["module_charge_current_limit"]) == (0, 0.0)


def test_a_console_that_tells_less_for_the_whole_stack_than_for_each_module_is_believed(rig: Make) -> None:
    one = rig({"modules": (1, 2), **COMPATIBLE}, modules=2)
    one.settle()
    stated = b"system Recommend chg current: "
    one.sim.faults.only = b"pwrsys"
    one.sim.faults.mutate = lambda said: said.replace(stated + b"50000", stated + b"30000")
    message = until_bank(one, lambda message: message["Info"]["MaxChargeCurrent"] < 50.0)
    assert (message["Info"]["MaxChargeCurrent"], message["Info"]["MaxDischargeCurrent"]) == (30.0, 40.0)
    assert states(one.readings)[-1]["module_charge_current_limit"] == 25.0


def test_a_console_that_tells_limits_of_the_whole_stack_only_leaves_the_configured_ones(rig: Make) -> None:
    one = rig({"modules": (1, 2), **COMPATIBLE}, modules=2)
    lines = re.compile(rb" Recommend (chg|dsg) current +:[^\r]*\r\r\n")
    one.sim.faults.only, one.sim.faults.mutate = b"pwrsys", lambda said: lines.sub(b"", said)
    one.settle()
    assert bank(one, 6)["Info"] == {"MaxChargeVoltage": 52.4, "MaxChargeCurrent": 50.0, "MaxDischargeCurrent": 40.0}
    assert "module_charge_current_limit" not in states(one.readings)[-1]
    assert states(one.readings)[-1]["charge_current_limit"] == 50.0


def test_the_message_of_all_modules_is_as_old_as_the_oldest_of_them(rig: Make) -> None:
    """It must not wait for a broker longer than that one's values are true."""
    one = rig({"modules": (1, 2), **COMPATIBLE}, modules=2)
    one.settle()
    bank(one, 4)
    one.sim.faults.only, one.sim.faults.silent = b" 2\n", True
    new = one.poll(4)
    last = [reading.at for reading in one.readings if reading.unit.path == one.serial(2) and reading.topic is None][-1]
    newest = [reading.at for reading in new if reading.unit.path == one.serial(1) and reading.topic is None][-1]
    assert last < newest
    assert [reading.at for reading in new if reading.topic == BANK][-1] == last


def test_a_new_module_whose_limit_is_not_told_turns_no_house_dark(rig: Make) -> None:
    """Chargers go by `pylon`, and a discharge limit of 0 there switches an off-grid house off."""
    one = rig({"modules": (1, 2), "max_age": 1.0, "identity_interval": 0.0, **COMPATIBLE}, modules=2)
    one.settle()
    assert bank(one, 6)["Info"]["MaxDischargeCurrent"] == 40.0
    one.sim.faults.only, one.sim.faults.mutate = b"pwrsys", lambda said: said.replace(b"Total Num", b"Total Nom")
    struck = time.monotonic()
    one.poll_until(lambda _: time.monotonic() > struck + 1.5)
    one.sim.stack.modules[2].serial = new = "PPTSIM9999000002"
    one.poll_until(lambda told: states(told, new))
    messages = on(one.poll_until(lambda told: len(on(told, BANK)) > 3), BANK)
    assert [message["Info"]["MaxDischargeCurrent"] for message in messages] == [20.0] * len(messages)


def test_defect_d20_one_reading_alone_raises_no_limit(rig: Make) -> None:
    one = rig({"modules": (1,), **COMPATIBLE}, modules=1, soc=92.0)
    one.sim.stack.power = 0.0
    one.settle()
    currents = []
    for soc, rounds in (("92%", 4), ("90%", 3), ("88%", 1), ("88%", 1)):
        one.sim.stack.modules[1].override["Coulomb"] = soc
        currents.append(on(one.poll(rounds), "v/battery_1")[-1]["Info"]["MaxChargeCurrent"])
    assert currents[0] == currents[1] == currents[2] < currents[3]


def test_a_module_that_comes_back_is_read_twice_before_its_message(rig: Make) -> None:
    one = rig({"modules": (1, 2), "max_age": 0.3, **COMPATIBLE}, modules=2)
    bank(one, 8)
    one.sim.faults.silent = True
    end = time.monotonic() + 0.4
    while time.monotonic() < end:
        one.poll()
    one.sim.faults.clear()
    back: list[Any] = []
    while not states(back, one.serial(1)):
        back = one.poll()
    assert {reading.topic for reading in back} == {None}
    one.poll_until(lambda new: on(new, "v/battery_1") and on(new, BANK))


def test_defect_d21_events_are_bits(rig: Make) -> None:
    one = rig({"modules": (1,), **COMPATIBLE}, modules=1)
    one.sim.stack.power = 400.0
    one.settle()
    one.sim.stack.modules[1].power_events = 0x100 | 0x8000  # with "charging", which this console adds
    message = on(one.poll(3), "v/battery_1")[-1]
    assert states(one.readings, one.serial(1))[-1]["power_events"] & 0x400000
    assert (message["Alarms"]["HighTemperature"], message["Alarms"]["LowSoc"]) == (2, 1)


def test_defect_d22_a_system_fault_is_an_internal_failure_and_a_battery_event_no_imbalance(rig: Make) -> None:
    one = rig({"modules": (1,), **COMPATIBLE}, modules=1)
    one.settle()
    one.sim.stack.modules[1].system_fault, one.sim.stack.modules[1].bat_events = 0x400, 0x2
    alarms = on(one.poll(3), "v/battery_1")[-1]["Alarms"]
    assert (alarms["InternalFailure"], alarms["FuseBlown"], alarms["CellImbalance"]) == (2, None, 0)
