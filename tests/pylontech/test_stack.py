"""Many modules, one battery."""

from __future__ import annotations

import pytest

from bridge.pylontech import messages, stack
from bridge.pylontech.values import Values
from tests.pylontech.build import analog_record, capture

QUIET = messages.alarm(bytes.fromhex("00020F" + "00" * 15 + "05" + "00" * 5 + "000000000E000000"), 2)


def module(millivolts: int = 3300, current: int = -20, left: int = 25000, total: int = 50000, **more: object) -> Values:
    """Return a module's state: all cells alike but the second, 10 mV higher; current in 0.1 A, charge in mAh."""
    cells = [millivolts + 10 * (n == 1) for n in range(15)]
    items = 2 if total < 65000 else 4
    record = analog_record(cells, [2981, 2951, 2952, 2950, 2954], current, left, total, items=items)
    values = messages.analog(bytes.fromhex("0002" + record), 2)
    values.update(messages.management(bytes.fromhex("02D002B79800FAFF06C0"), 2))
    return {**values, **QUIET, **more}  # type: ignore[dict-item]


def test_a_stack_carries_every_key_and_no_other() -> None:
    keys = [field.key for field in stack.FIELDS]
    assert len(keys) == len(set(keys))
    for modules in ({}, {"2": None}, {"2": module()}, {"2": module(), "3": None}):
        assert list(stack.summary(modules)) == keys


def test_totals_are_sums_and_the_state_of_charge_is_weighted_by_capacity() -> None:
    found = stack.summary({"2": module(left=10000), "3": module(left=90000, total=100000, current=-60)})
    assert found["current"] == -8.0
    assert (found["remaining_capacity"], found["total_capacity"]) == (100.0, 150.0)
    assert found["soc"] == 66.67
    assert found["voltage"] == 49.51
    assert found["power"] == pytest.approx(49.51 * -8.0, abs=0.02)


def test_energy_is_the_makers_figure() -> None:
    found = stack.summary({"2": module(), "3": module(total=100000)})
    assert found["total_energy"] == 7.2
    assert found["remaining_energy"] == 2.4
    _, _, wanted = capture("analog-8-cells")
    assert stack.summary({"2": wanted["values"]})["total_energy"] == pytest.approx(2.84, abs=0.01)


def test_time_to_empty_and_to_full_are_in_seconds_of_the_present_current() -> None:
    emptying = stack.summary({"2": module(current=-100), "3": module(current=-150)})
    assert (emptying["time_to_empty"], emptying["time_to_full"]) == (7200, None)
    filling = stack.summary({"2": module(current=100), "3": module(current=150)})
    assert (filling["time_to_full"], filling["time_to_empty"]) == (7200, None)
    resting = stack.summary({"2": module(current=1)})
    assert (resting["time_to_full"], resting["time_to_empty"]) == (None, None)


def test_the_extreme_cells_carry_their_module_and_number() -> None:
    found = stack.summary({"2": module(3300), "3": module(3280), "4": module(3310)})
    assert (found["cell_min_voltage"], found["cell_min_module"], found["cell_min_number"]) == (3.28, "3", 1)
    assert (found["cell_max_voltage"], found["cell_max_module"], found["cell_max_number"]) == (3.32, "4", 2)
    assert found["cell_spread"] == 0.04
    assert found["cell_average_voltage"] == pytest.approx((3300 + 3280 + 3310) / 3000 + 10 / 15 / 1000, abs=1e-3)


def test_a_silent_module_is_counted_offline_and_lends_nothing() -> None:
    found = stack.summary({"2": module(), "3": None, "4": module()})
    assert (found["modules_online"], found["modules_offline"]) == (2, 1)
    assert found["total_capacity"] == 100.0
    assert found["charge_current_limit"] == 50.0


def test_a_silent_stack_knows_only_its_counts() -> None:
    found = stack.summary({"2": None, "3": None})
    known = {key: value for key, value in found.items() if value is not None}
    assert known == {"modules_online": 0, "modules_offline": 2}


@pytest.mark.parametrize(
    "key", ["current", "power", "voltage", "total_capacity", "charge_current_limit", "charge_voltage_limit", "cycles",
            "cell_min_voltage", "cell_max_temperature"],
)  # fmt: skip
def test_a_value_that_one_live_module_does_not_know_is_not_known(key: str) -> None:
    assert stack.summary({"2": module(), "3": module()})[key] is not None
    unknown: Values = {**module(), key: None}
    assert stack.summary({"2": module(), "3": unknown})[key] is None


def test_a_blocking_module_adds_nothing_to_its_limit_and_the_others_go_on() -> None:
    found = stack.summary({"2": module(), "3": module(charge_enable=False), "4": module(discharge_enable=False)})
    assert (found["charge_current_limit"], found["discharge_current_limit"]) == (50.0, 50.0)
    assert (found["charge_enable"], found["discharge_enable"]) == (True, True)
    assert (found["modules_blocking_charge"], found["modules_blocking_discharge"]) == (1, 1)


def test_a_stack_that_blocks_altogether_says_so() -> None:
    found = stack.summary({"2": module(charge_enable=False), "3": module(charge_enable=False)})
    assert (found["charge_enable"], found["charge_current_limit"], found["modules_blocking_charge"]) == (False, 0.0, 2)


def test_voltage_limits_are_the_strictest() -> None:
    found = stack.summary({"2": module(charge_voltage_limit=53.0), "3": module(discharge_voltage_limit=48.0)})
    assert (found["charge_voltage_limit"], found["discharge_voltage_limit"]) == (53.0, 48.0)


def test_wishes_of_any_module_are_the_stacks() -> None:
    found = stack.summary({"2": module(), "3": module(charge_immediately_2=True, full_charge_request=True)})
    assert (found["charge_immediately"], found["full_charge_request"]) == (True, True)
    assert stack.summary({"2": module(charge_immediately_1=None)})["charge_immediately"] is None


@pytest.mark.parametrize("field", stack.ALARM_FIELDS, ids=lambda field: field.key)
def test_every_alarm_is_named_with_its_module(field: stack.Field) -> None:
    found = stack.summary({"2": module(), "3": module(**{field.key: True})})
    assert (found["alarm"], found["alarms"]) == (True, f"3: {field.key}")
    assert stack.summary({"2": module()})["alarm"] is False


def test_a_state_in_words_is_an_alarm_too() -> None:
    module = {**dict.fromkeys((field.key for field in stack.ALARM_FIELDS), False), "current_state": "short circuit"}
    found = stack.summary({"1": module, "2": {**module, "current_state": "normal"}})
    assert (found["alarm"], found["alarms"]) == (True, "1: current_state short circuit")


def test_a_module_that_told_no_alarms_leaves_the_alarm_unknown() -> None:
    silent = {key: value for key, value in module().items() if key not in QUIET}
    found = stack.summary({"2": module(), "3": silent})
    assert (found["alarm"], found["alarms"]) == (None, None)


def test_charge_is_taken_from_the_state_of_charge_where_the_console_tells_no_more() -> None:
    console_module: Values = {"voltage": 49.8, "current": -4.0, "power": -199.2, "soc": 70, "total_capacity": 50.0,
                              "cell_min_voltage": 3.31, "cell_max_voltage": 3.33}  # fmt: skip
    found = stack.summary({"1": console_module, "2": console_module})
    assert (found["remaining_capacity"], found["soc"], found["total_energy"]) == (70.0, 70.0, 4.8)
