"""extra200tomqtt's topics: its shape, without its faults."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from bridge.pylontech import console, console_cells, extra2000
from bridge.pylontech.extra2000 import Limits
from bridge.pylontech.values import Values
from tests.pylontech.build import capture
from tests.pylontech.test_console import body

SHAPE = {
    "Dc": {"Power", "Voltage", "Current", "Temperature"},
    "Soc": None, "InstalledCapacity": None, "Capacity": None, "ConsumedAmphours": None, "TimeToGo": None,
    "Balancing": None,
    "Alarms": {"LowVoltage", "HighVoltage", "LowSoc", "HighChargeCurrent", "HighDischargeCurrent", "HighCurrent",
               "CellImbalance", "HighChargeTemperature", "LowChargeTemperature", "LowCellVoltage", "LowTemperature",
               "HighTemperature", "FuseBlown", "InternalFailure"},
    "Info": {"MaxChargeVoltage", "MaxChargeCurrent", "MaxDischargeCurrent"},
    "History": {"ChargeCycles"},
    "System": {"MinVoltageCellId", "MinCellVoltage", "MaxVoltageCellId", "MaxCellVoltage", "MinCellTemperature",
               "MaxCellTemperature", "MOSTemperature", "NrOfCellsPerBattery", "NrOfModulesOnline",
               "NrOfModulesOffline", "NrOfModulesBlockingCharge", "NrOfModulesBlockingDischarge"},
    "Voltages": {f"Cell{n}" for n in range(1, 16)},
    "Balances": {f"Cell{n}" for n in range(1, 16)},
    "Io": {"AllowToCharge", "AllowToDischarge"},
}  # fmt: skip
LIMITS = Limits(52.4, 25.0, 25.0)


def state(**more: object) -> Values:
    values = console.module(body("console-pwr-1"), 1) | console_cells.cells(body("console-bat-1"))
    return {**values, "cycles": 412, **more}  # type: ignore[dict-item]


def battery(values: Values, limits: Limits = LIMITS) -> dict[str, Any]:
    message = extra2000.battery_message(values, limits, 15)
    assert message is not None
    return dict(message)


def bank(modules: dict[str, Values | None], limits: Limits = LIMITS) -> dict[str, Any]:
    message = extra2000.bank_message(modules, limits, 15)
    assert message is not None
    return dict(message)


def shape(message: dict[str, Any]) -> dict[str, set[str] | None]:
    return {key: set(value) if isinstance(value, dict) else None for key, value in message.items()}


def leaves(message: dict[str, Any]) -> list[Any]:
    return [leaf for value in message.values() for leaf in (value.values() if isinstance(value, dict) else [value])]


def test_the_shape_is_the_same_whatever_is_known() -> None:
    poor: Values = {"voltage": 49.8, "power": 10.0, "soc": 50}
    for values in (state(), poor, state(current=5.0), state(balancing=None, cycles=None)):
        assert shape(battery(values)) == SHAPE
    without_cells = {key: value for key, value in SHAPE.items() if key not in ("Voltages", "Balances")}
    assert shape(bank({"1": state(), "2": None})) == without_cells


def test_a_message_is_strict_json_of_numbers() -> None:
    for message in (battery(state()), bank({"1": state(), "2": state()})):
        json.dumps(message, allow_nan=False)
        for leaf in leaves(message):
            assert leaf is None or type(leaf) in (int, float, str)
            assert not isinstance(leaf, float) or math.isfinite(leaf)


def test_values_are_those_of_the_console() -> None:
    message = battery(state())
    assert message["Dc"] == {"Power": -209.8, "Voltage": 49.83, "Current": -4.21, "Temperature": 27.1}
    assert (message["Soc"], message["InstalledCapacity"], message["Capacity"]) == (71.0, 50.0, 35.5)
    assert (message["ConsumedAmphours"], message["TimeToGo"]) == (14.5, round(35.5 / 4.21 * 3600))
    assert message["History"]["ChargeCycles"] == 412
    assert message["Voltages"]["Cell1"] == 3.321
    assert message["Balances"]["Cell4"] == 1
    assert message["Balances"]["Cell1"] == 0


def test_time_to_go_is_null_and_not_left_out_while_charging() -> None:
    assert battery(state(current=5.0))["TimeToGo"] is None


@pytest.mark.parametrize("key", ["voltage", "power", "soc"])
def test_without_power_voltage_or_charge_there_is_no_message(key: str) -> None:
    assert extra2000.battery_message(state(**{key: None}), LIMITS, 15) is None


def test_a_silent_bank_has_no_message() -> None:
    assert extra2000.bank_message({"1": None, "2": None}, LIMITS, 15) is None
    assert extra2000.bank_message({}, LIMITS, 15) is None


def test_a_silent_module_is_offline_and_changes_nothing_else() -> None:
    alone, beside = bank({"1": state()}), bank({"1": state(), "2": None})
    assert (beside["System"]["NrOfModulesOnline"], beside["System"]["NrOfModulesOffline"]) == (1, 1)
    for key in ("Dc", "Soc", "Info", "Io", "Alarms"):
        assert beside[key] == alone[key]


def test_a_heater_is_no_balancing_and_the_module_no_mosfet() -> None:
    message = battery(state(heater=True, balancing=False))
    assert message["Balancing"] == 0
    assert message["System"]["MOSTemperature"] is None


@pytest.mark.parametrize(
    ("word", "alarm", "level"),
    [(0x1, "HighVoltage", 2), (0x2, "HighVoltage", 1), (0x8, "LowVoltage", 1), (0x10, "LowVoltage", 2),
     (0x100, "HighTemperature", 2), (0x200, "HighTemperature", 1), (0x800, "LowTemperature", 1),
     (0x1000, "LowTemperature", 2), (0x8000, "LowSoc", 1), (0x20000, "HighDischargeCurrent", 2),
     (0x80000, "HighDischargeCurrent", 2), (0x40000, "HighChargeCurrent", 2), (0x100000, "HighChargeCurrent", 2),
     (0x10000, "HighCurrent", 2)],
)  # fmt: skip
def test_each_event_raises_its_alarm_also_beside_others(word: int, alarm: str, level: int) -> None:
    for beside in (0, 0x400000, 0x2000):
        alarms = extra2000.raised_alarms(state() | console.raised_events(word | beside))
        assert {name: found for name, found in alarms.items() if found} == {alarm: level}


@pytest.mark.parametrize(
    ("key", "word", "alarm", "level"),
    [("voltage_state", "over voltage", "HighVoltage", 2), ("current_state", "discharge current warning",
      "HighDischargeCurrent", 1), ("temperature_state", "under temperature", "LowTemperature", 2),
     ("state", "error", "InternalFailure", 2)],
)  # fmt: skip
def test_a_state_in_words_raises_its_alarm_without_any_event(key: str, word: str, alarm: str, level: int) -> None:
    assert extra2000.raised_alarms(state(**{key: word}))[alarm] == level
    assert extra2000.raised_alarms(state())[alarm] == 0


def test_all_pairs_of_events_show_both_alarms() -> None:
    words = (0x1, 0x8, 0x100, 0x800, 0x8000, 0x20000, 0x40000)
    for first in words:
        for second in words:
            both = extra2000.raised_alarms(state() | console.raised_events(first | second))
            for word in (first, second):
                for name, level in extra2000.raised_alarms(state() | console.raised_events(word)).items():
                    assert (both[name] or 0) >= (level or 0)


def test_a_system_fault_is_an_internal_failure_and_no_blown_fuse() -> None:
    alarms = extra2000.raised_alarms(state(system_fault=True))
    assert (alarms["InternalFailure"], alarms["FuseBlown"]) == (2, None)


@pytest.mark.parametrize(
    ("values", "alarm", "level"),
    [({"cell_max_voltage": 3.66}, "HighVoltage", 1), ({"cell_min_voltage": 2.49}, "LowCellVoltage", 1),
     ({"cell_spread": 0.11}, "CellImbalance", 1), ({"cell_min_temperature": -0.1}, "LowTemperature", 1),
     ({"cell_max_temperature": 45.1}, "HighTemperature", 1), ({"temperature": -0.1}, "LowChargeTemperature", 1),
     ({"temperature": 45.1}, "HighChargeTemperature", 1), ({"soc": 9}, "LowSoc", 1), ({"soc": 4}, "LowSoc", 2)],
)  # fmt: skip
def test_measured_levels_raise_their_alarm(values: Values, alarm: str, level: int) -> None:
    assert extra2000.raised_alarms(state() | values)[alarm] == level
    assert not any(extra2000.raised_alarms(state()).values())


def test_alarms_that_nothing_tells_of_are_null_and_a_told_alarm_is_zero() -> None:
    alarms = extra2000.raised_alarms({"soc": 50})
    assert alarms.pop("LowSoc") == 0
    assert set(alarms.values()) == {None}


def test_a_limit_of_zero_stands_in_the_limits_and_the_permission_follows() -> None:
    message = battery(state(), Limits(52.4, 0.0, 25.0))
    assert (message["Info"]["MaxChargeCurrent"], message["Io"]) == (0.0, {"AllowToCharge": 0, "AllowToDischarge": 1})
    assert message["System"]["NrOfModulesBlockingCharge"] == 1
    assert battery(state(), Limits(None, None, None))["Io"] == {"AllowToCharge": None, "AllowToDischarge": None}


def test_the_bank_names_the_module_of_its_extreme_cells() -> None:
    low = state(cell_min_voltage=3.2, cell_min_number=9)
    system = bank({"1": state(), "3": low})["System"]
    assert (system["MinVoltageCellId"], system["MinCellVoltage"]) == ("M3 C9", 3.2)
    assert bank({"1": state(), "3": low})["Alarms"]["CellImbalance"] == 1


def test_a_module_with_more_cells_than_counted_is_no_error() -> None:
    message = extra2000.battery_message(state(cell_16_voltage=3.3), LIMITS, 15)
    assert message is not None
    assert extra2000.battery_message(state(), LIMITS, 16) is not None


def test_the_capture_behind_these_tests_is_the_consoles() -> None:
    assert capture("console-pwr-1")[2]["read"] == "module"
