"""The message for the GX: exactly these keys, numbers only, and nothing that harms the driver."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import battery as k
from bridge import summary as s
from bridge.bank import Bank, Round, Rules
from bridge.fields import Value
from bridge.guard import Limits
from bridge.sinks.text import encode
from bridge.sinks.victron import ROWS, document
from tests.battery_modules import reading, state, without
from tests.victron_driver import ALARMS, FLAGS, MINIMUM, NUMBERS, TEXTS, Driver, leaves


def said(*modules: dict[str, Value], expected: int | None = None) -> tuple[Round, Bank]:
    """Return what a bank of these modules says, read twice."""
    bank = Bank(Rules(("bus",), Limits(), expected=expected or len(modules)))
    for now in (100.0, 101.0):
        found = bank.round({("bus", str(n)): reading(str(n), one, now) for n, one in enumerate(modules, 2)}, now)
    assert found.data is not None
    return found, bank


def message(*modules: dict[str, Value], controls: bool = True) -> dict[str, Any]:
    found, bank = said(*modules)
    assert found.data is not None
    assert bank.layout is not None
    payload = encode(document(found.data.values, found.data.cells, bank.layout.optional, controls=controls))
    result: dict[str, Any] = json.loads(payload)
    return result


def test_two_modules_make_exactly_this_message() -> None:
    assert message(state(current=10.0), state(soc=80.0, remaining_capacity=40.0, current=5.0, voltage=49.6)) == {
        "Dc": {"Power": 743.0, "Voltage": 49.55, "Current": 15.0, "Temperature": 22.0},
        "Soc": 70.0, "InstalledCapacity": 100.0, "Capacity": 70.0, "ConsumedAmphours": 30.0, "TimeToGo": None,
        "Alarms": {
            "LowVoltage": 0, "HighVoltage": 0, "LowSoc": 0, "HighChargeCurrent": 0, "HighDischargeCurrent": 0,
            "HighCurrent": None, "CellImbalance": 0, "HighChargeTemperature": 0, "LowChargeTemperature": 0,
            "LowCellVoltage": 0, "HighCellVoltage": 0, "LowTemperature": 0, "HighTemperature": 0, "BmsCable": 0,
            "InternalFailure": 0,
        },
        "Info": {
            "MaxChargeVoltage": 52.4, "MaxChargeCurrent": 50.0, "MaxDischargeCurrent": 50.0,
            "BatteryLowVoltage": 47.0, "ChargeRequest": 0,
        },
        "History": {"ChargeCycles": 120},
        "System": {
            "MinVoltageCellId": "M1 C04", "MinCellVoltage": 3.295,
            "MaxVoltageCellId": "M1 C09", "MaxCellVoltage": 3.305,
            "MinTemperatureCellId": "M1 T2", "MinCellTemperature": 18.0,
            "MaxTemperatureCellId": "M1 T5", "MaxCellTemperature": 20.0, "NrOfCellsPerBattery": 15,
            "NrOfModulesOnline": 2, "NrOfModulesOffline": 0,
            "NrOfModulesBlockingCharge": 0, "NrOfModulesBlockingDischarge": 0,
        },
        "Io": {"AllowToCharge": 1, "AllowToDischarge": 1},
    }  # fmt: skip


def test_every_key_is_one_that_the_driver_knows() -> None:
    driver = Driver()
    driver.receive(encode(message(state(), state(soh=99, balancing=True, mos_temperature=30.0))), 0.0)
    driver.receive(encode(message(state())), 1.0)
    driver.tick(1.0)
    assert driver.warnings == []
    assert driver.on_dbus
    assert not driver.frozen


def test_a_bank_of_one_module_shows_its_cells_with_their_sum_and_spread() -> None:
    voltages = message(state())["Voltages"]
    assert list(voltages) == [*(f"Cell{n}" for n in range(1, 16)), "Sum", "Diff"]
    assert (voltages["Cell4"], voltages["Sum"], voltages["Diff"]) == (3.295, 49.5, 0.01)


def test_cells_that_are_told_later_than_all_else_have_their_keys_from_the_first_message_on() -> None:
    """A console tells of each module's cells by a question of its own."""
    cells = [f"cell_{n}_voltage" for n in range(1, 16)]
    early = message(without(state(), *cells))["Voltages"]
    assert (early.keys(), set(early.values())) == (message(state())["Voltages"].keys(), {None})


def test_sum_and_spread_come_only_with_the_extremes_they_are_mistaken_for() -> None:
    for modules in ([state()], [state(), state()], [without(state(), "cell_min_voltage")]):
        found = leaves(message(*modules))
        if "Voltages.Sum" in found:
            assert {"System.MinCellVoltage", "System.MaxCellVoltage"} <= found.keys()
            assert {"System.MinVoltageCellId", "System.MaxVoltageCellId"} <= found.keys()


def test_what_rs485_cannot_tell_is_left_out_and_what_the_console_can_is_there() -> None:
    assert not {"Soh", "Balancing", "System.MOSTemperature"} & leaves(message(state())).keys()
    console = leaves(message(state(soh=98, balancing=False, mos_temperature=31.5)))
    assert (console["Soh"], console["Balancing"], console["System.MOSTemperature"]) == (98, 0, 31.5)


def test_a_further_bank_sends_no_charge_voltage() -> None:
    found = message(state(), controls=False)["Info"]
    assert "MaxChargeVoltage" not in found
    assert found["MaxChargeCurrent"] == 25.0


@pytest.mark.parametrize("key", [k.POWER.key, k.VOLTAGE.key, k.SOC.key, s.CHARGE_CURRENT.key])
@pytest.mark.parametrize("value", [None, math.nan, math.inf, "12"])
def test_g3_a_message_without_a_needed_number_is_never_made(key: str, value: Value) -> None:
    found, _ = said(state())
    assert found.data is not None
    with pytest.raises(ValueError, match="cannot be"):
        document({**found.data.values, key: value}, (), frozenset(), controls=True)


ANYTHING = st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), st.text())


@given(st.dictionaries(st.sampled_from(s.FIELDS), ANYTHING))
def test_g8_whatever_the_bank_holds_the_driver_gets_numbers_or_nothing(values: dict[Any, Value]) -> None:
    found, _ = said(state())
    assert found.data is not None
    changed = found.data.values | {field.key: value for field, value in values.items()}
    try:
        made = document(changed, (), frozenset(), controls=True)
    except ValueError:
        return
    driver = Driver()
    driver.receive(json.dumps(made, allow_nan=False).encode(), 0.0)
    driver.tick(0.0)
    assert (driver.frozen, driver.killed, driver.warnings) == (False, False, [])


def test_the_table_names_each_key_once_and_marks_what_must_be_a_number() -> None:
    names = [f"{row.section}.{row.name}".lstrip(".") for row in ROWS]
    assert len(set(names)) == len(names)
    assert {row.name for row in ROWS if row.section == "Alarms"} <= set(ALARMS)
    assert set(names) <= NUMBERS | TEXTS
    assert set(MINIMUM) <= {name for name, row in zip(names, ROWS, strict=True) if row.must}
    assert {name for name, row in zip(names, ROWS, strict=True) if row.text} == TEXTS
    assert {"Balancing", "Info.ChargeRequest"} <= FLAGS
