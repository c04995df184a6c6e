"""The bank: when it speaks, who counts, and what several modules are together."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from bridge import battery
from bridge import summary as s
from bridge.bank import GRACE, SETTLED, Bank, Round, Rules
from bridge.fields import Reading, Value
from bridge.guard import Limits
from bridge.pylontech import console, console_cells, messages, stack, values
from tests.battery_modules import reading, state, without


class Rig:
    """A bank, a board and a clock; every step is a second, in which each module that talks is read once."""

    def __init__(self, *paths: str, **rules: Any) -> None:
        devices = rules.pop("devices", ("bus",))
        limits = rules.pop("limits", Limits(raise_after=0))
        self.bank = Bank(Rules(devices, limits, **rules))
        self.now = 1000.0
        self.board: dict[tuple[str, str], Reading] = {}
        self.modules: dict[tuple[str, str], dict[str, Value]] = {(devices[0], path): state() for path in paths}
        self.serials: dict[tuple[str, str], str] = {}
        self.places: dict[tuple[str, str], str] = {}

    def read(self, device: str, path: str) -> None:
        place = (device, path)
        unit = {"serial": self.serials[place]} if place in self.serials else {}
        if place in self.places:
            unit["place"] = self.places[place]
        self.board[place] = reading(path, dict(self.modules[place]), self.now, max_age=5.0, **unit)

    def step(self, seconds: int = 1) -> Round:
        found = None
        for _ in range(seconds):
            self.now += 1.0
            for place in self.modules:
                self.read(*place)
            found = self.bank.round(self.board, self.now)
        assert found is not None
        return found

    def set(self, path: str, **changes: Value) -> None:
        self.modules["bus", path].update(changes)


def speaking(*paths: str, **rules: Any) -> Rig:
    """Return a rig whose bank has begun to publish."""
    rig = Rig(*paths, expected=rules.pop("expected", len(paths)), **rules)
    assert rig.step(2).data is not None
    return rig


# -- the seam


def test_every_key_the_bank_reads_is_one_that_the_pylontech_slice_publishes() -> None:
    known = {field.key for field in (*messages.MEASURED, *messages.ALARM_FIELDS, *messages.MANAGEMENT_ROWS.fields)}
    known |= {bit.field.key for bit in messages.ALLOWANCES} | {field.key for field in values.EVENT_ALARMS}
    known |= {field.key for field in (*console.PWR_FIELDS, *console.PWRSYS_FIELDS, *console.INFO_FIELDS,
                                      *console.STAT_FIELDS, *console_cells.cell_fields(15), *stack.FIELDS)}  # fmt: skip
    wanted = {item.key for item in vars(battery).values() if isinstance(item, battery.Key)}
    wanted |= {key.key for key, _ in battery.INHERITED} | {battery.cell(1).key}
    assert wanted <= known, wanted - known


def test_g3_a_state_has_every_field_and_no_key_twice() -> None:
    keys = [field.key for field in s.FIELDS]
    assert len(set(keys)) == len(keys)
    assert list(Rig("2").step().state) == keys


# -- when it speaks


def test_nothing_is_said_until_every_expected_module_was_read_twice() -> None:
    rig = Rig("2", "3", expected=3)
    for _ in range(20):
        found = rig.step()
        assert found.data is None
        assert found.state["phase"] == "waiting"
    assert "modules" in str(found.state["waiting_for"])
    rig.modules["bus", "4"] = state()
    assert rig.step().data is None
    assert rig.step().data is not None


def test_without_a_number_it_waits_until_no_new_module_comes() -> None:
    rig = Rig("2")
    assert rig.step(5).data is None
    rig.modules["bus", "3"] = state()
    assert rig.step(int(SETTLED) - 1).data is None
    found = rig.step(2)
    assert found.data is not None
    assert found.state["modules_online"] == 2


def test_after_the_startup_time_it_goes_on_with_those_that_answer() -> None:
    rig = Rig("2", "3", expected=4, startup=20.0)
    assert rig.step(20).data is None
    found = rig.step(3)
    assert found.data is not None
    assert (found.state["modules_online"], found.state["modules_offline"]) == (2, 2)
    assert found.state["charge_current_limit"] == 50.0


def test_a_device_without_any_module_is_waited_for_and_then_counted_offline() -> None:
    rig = Rig("2", devices=("bus", "garage"), startup=20.0)
    assert "garage" in str(rig.step(15).state["waiting_for"])
    assert rig.step(10).state["modules_offline"] == 1


def test_the_stack_knows_of_modules_that_never_answered() -> None:
    rig = Rig("2", startup=30.0)
    rig.modules["bus", ""] = {"modules_online": 1, "modules_offline": 2}
    assert rig.step(25).data is None
    assert rig.step(10).state["modules_offline"] == 2


def test_g3_a_discharge_limit_that_nobody_tells_is_waited_for_and_never_zero() -> None:
    rig = Rig("2", expected=1, startup=5.0)
    rig.set("2", discharge_current_limit=None)
    found = rig.step(30)
    assert found.data is None
    assert "module_discharge_current" in str(found.state["waiting_for"])


def test_g1_a_silent_module_counts_until_its_age_limit_and_lends_nothing_after_it() -> None:
    rig = speaking("2", "3", "4")
    rig.set("4", soc=0.0, remaining_capacity=0.0)
    assert rig.step().state["soc"] == 40.0
    del rig.modules["bus", "4"]
    found = rig.step(5)
    assert (found.state["modules_online"], found.state["charge_current_limit"]) == (3, 75.0)
    found = rig.step()
    assert (found.state["modules_online"], found.state["modules_offline"]) == (2, 1)
    assert (found.state["charge_current_limit"], found.state["discharge_current_limit"]) == (50.0, 50.0)
    assert (found.state["soc"], found.state["total_capacity"]) == (60.0, 100.0)
    assert (found.state["alarm_cable"], found.state["alarm"]) == (1, True)
    assert "1 silent" in str(found.state["charge_current_reason"])
    rig.modules["bus", "4"] = state()
    assert rig.step().state["modules_online"] == 2
    assert rig.step().state["charge_current_limit"] == 75.0


def test_g1_a_module_that_falls_silent_is_missed_also_where_fewer_are_expected() -> None:
    """A stack has grown, and the configuration has not."""
    rig = speaking("2", "3", "4", expected=2)
    assert rig.step().state["modules_offline"] == 0
    del rig.modules["bus", "4"]
    found = rig.step(6).state
    assert (found["modules_online"], found["modules_offline"], found["alarm_cable"]) == (2, 1, 1)


@pytest.mark.parametrize(("stop", "amperes"), [(False, 50.0), (True, 0.0)])
def test_g2_all_silent_is_one_safe_message_and_then_silence(stop: bool, amperes: float) -> None:
    rig = speaking("2", "3", stop_discharge_when_silent=stop)
    last = rig.step().data
    rig.modules.clear()
    assert rig.step(5).data is not None
    found = rig.step()
    assert last is not None
    assert found.data is not None
    changed = {key: value for key, value in found.data.values.items() if value != last.values[key]}
    for text in ("charge_current_reason", "discharge_current_reason"):
        changed.pop(text, None)
    assert changed.pop("discharge_current_limit", 50.0) == amperes
    assert changed.pop("modules_blocking_discharge", 2) == 2
    assert changed == {
        "charge_current_limit": 0.0, "modules_online": 0, "modules_offline": 2, "modules_blocking_charge": 2,
        "alarm": True, "alarm_cable": 2, "alarm_internal_failure": 2,
    }  # fmt: skip
    for _ in range(100):
        assert rig.step().data is None
    assert rig.step().state["phase"] == "silent"


def test_after_silence_it_waits_again_until_all_are_back() -> None:
    rig = speaking("2", "3")
    kept = dict(rig.modules)
    rig.modules.clear()
    rig.step(10)
    rig.modules["bus", "2"] = kept["bus", "2"]
    assert rig.step(10).state["phase"] == "waiting"
    rig.modules["bus", "3"] = kept["bus", "3"]
    found = rig.step(2)
    assert found.data is not None
    assert found.state["charge_current_limit"] == 50.0


def test_d2_after_a_freeze_nothing_old_is_said_and_no_alarm_is_raised_for_it() -> None:
    rig = speaking("2", "3")
    rig.now += 60.0
    assert rig.bank.round(rig.board, rig.now).data is None
    rig.now += 1.0
    rig.read("bus", "2")
    assert rig.bank.round(rig.board, rig.now).data is None
    assert rig.step().data is None
    found = rig.step()
    assert found.data is not None
    assert (found.state["modules_online"], found.state["alarm"]) == (2, False)


def test_d2_during_the_grace_after_a_freeze_no_round_is_due_at_once() -> None:
    """Else the bank's thread would make rounds without a pause until the grace is over."""
    rig = speaking("2", "3")
    rig.now += 60.0
    assert rig.bank.round(rig.board, rig.now).data is None
    assert rig.bank.silent_at() == rig.now + GRACE


def test_d2_a_module_that_does_not_come_back_after_a_freeze_binds() -> None:
    rig = speaking("2", "3", startup=20.0, max_age=5.0)
    rig.set("2", cell_max_voltage=3.56)
    rig.step(5)
    del rig.modules["bus", "2"]
    rig.now += 100.0
    found = rig.step(int(GRACE) + 5).state
    assert (found["modules_online"], found["charge_current_limit"]) == (1, 2.0)
    assert rig.step(20).state["charge_current_limit"] == 25.0


def test_d2_modules_that_are_read_rarely_have_the_time_for_a_second_reading_after_a_freeze() -> None:
    rig = speaking("2", "3", max_age=20.0)
    rig.modules.clear()
    rig.now += 60.0
    said = []
    for second in range(20):
        rig.now += 1.0
        if second % 8 == 2:
            for path in ("2", "3"):
                rig.board["bus", path] = reading(path, state(), rig.now, max_age=20.0)
        said.append(rig.bank.round(rig.board, rig.now))
    assert [found.state["phase"] for found in said] == ["waiting"] * 10 + ["publishing"] * 10
    assert {found.data.values["charge_current_limit"] for found in said if found.data} == {50.0}
    assert not any(found.state["alarm"] for found in said)


def test_d2_a_module_that_answered_once_after_a_freeze_does_not_put_the_safe_message_off_for_long() -> None:
    rig = speaking("2", "3")
    rig.modules.clear()
    rig.now += 60.0
    rig.step(3)
    rig.board["bus", "2"] = reading("2", state(), rig.now, max_age=5.0)
    said = [rig.step().data for _ in range(8)]
    assert [data is not None for data in said] == [False] * 4 + [True] + [False] * 3


def test_d2_after_a_freeze_that_the_modules_did_not_survive_the_safe_message_comes() -> None:
    rig = speaking("2", "3")
    rig.modules.clear()
    rig.now += 60.0
    for _ in range(int(GRACE)):
        assert rig.bank.round(rig.board, rig.now).data is None
        rig.now += 1.0
    found = rig.bank.round(rig.board, rig.now)
    assert found.data is not None
    assert found.data.values["charge_current_limit"] == 0.0


def test_g5_a_message_ends_when_the_oldest_reading_in_it_is_too_old() -> None:
    rig = speaking("2", "3")
    del rig.modules["bus", "3"]
    read_at = rig.now
    found = rig.step(3)
    assert found.data is not None
    assert found.data.until == read_at + 5.0


def test_a_reading_without_a_needed_value_keeps_the_measured_ones_only_while_they_are_true() -> None:
    rig = speaking("2", "3")
    rig.set("3", soc=None, charge_current_limit=5.0)
    found = rig.step()
    assert (found.state["modules_online"], found.state["soc"], found.state["charge_current_limit"]) == (2, 60.0, 10.0)
    found = rig.step(5)
    assert (found.state["modules_online"], found.state["modules_offline"]) == (1, 1)


# -- who counts


def test_a_module_read_on_two_ways_counts_once_and_is_named() -> None:
    rig = Rig("A1", "A2", devices=("bus", "garage"), expected=2)
    rig.modules["garage", "1"] = state(current=5.0)
    rig.serials = {("bus", "A1"): "SN1", ("bus", "A2"): "SN2", ("garage", "1"): "SN1"}
    found = rig.step(2)
    assert found.data is not None
    assert found.state["duplicate_modules"] == "SN1 on bus/A1 and garage/1"
    assert (found.state["modules_online"], found.state["current"]) == (2, 0.0)
    assert found.state["charge_current_limit"] == 50.0
    del rig.modules["bus", "A1"]  # now the other way is the only one
    found = rig.step(10)
    assert (found.state["modules_online"], found.state["current"], found.state["duplicate_modules"]) == (2, 5.0, "")


def test_a_module_first_known_by_its_address_is_the_same_with_its_serial_number() -> None:
    rig = Rig("2", "3", startup=30.0)
    rig.modules["bus", ""] = {"modules_online": 2, "modules_offline": 0}
    rig.step(15)
    rig.modules["bus", "SN2"] = rig.modules.pop(("bus", "2"))
    rig.serials["bus", "SN2"] = "SN2"
    found = rig.step(10)
    assert (found.state["modules_online"], found.state["modules_offline"]) == (2, 0)


def test_names_follow_addresses_in_their_order() -> None:
    rig = Rig("10", "9", "2", expected=3)
    assert rig.step(2).state["modules"] == "M1 bus/2, M2 bus/9, M3 bus/10"


def test_limits_that_a_stack_states_for_each_module_hold_where_modules_tell_none() -> None:
    rig = Rig("1", "2", expected=2)
    for place, one in rig.modules.items():
        rig.modules[place] = without(one, *(key for key in one if "limit" in key or "enable" in key or "fet" in key))
    rig.modules["bus", ""] = {"module_charge_current_limit": 10.0, "module_discharge_current_limit": 25.0,
                              "charge_voltage_limit": 51.9, "discharge_voltage_limit": 46.0}  # fmt: skip
    found = rig.step(3)
    assert found.data is not None
    assert (found.state["charge_current_limit"], found.state["discharge_current_limit"]) == (20.0, 50.0)
    assert (found.state["charge_voltage_limit"], found.state["discharge_voltage_limit"]) == (51.9, 46.0)


def test_a_stack_that_states_less_for_all_its_modules_than_for_each_is_given_no_more_than_that() -> None:
    rig = Rig("1", "2", expected=2)
    for place, one in rig.modules.items():
        rig.modules[place] = without(one, *(key for key in one if "limit" in key or "enable" in key or "fet" in key))
    root: dict[str, Value] = {"module_charge_current_limit": 10.0, "module_discharge_current_limit": 25.0,
                              "charge_current_limit": 15.0, "discharge_current_limit": 50.0,
                              "modules_online": 2, "modules_offline": 0}  # fmt: skip
    rig.modules["bus", ""] = root
    found = rig.step(3)
    assert (found.state["charge_current_limit"], found.state["discharge_current_limit"]) == (15.0, 50.0)
    root["charge_current_limit"] = 0.0
    assert rig.step().state["charge_current_limit"] == 0.0


def test_a_limit_of_the_stack_needs_two_of_its_readings_like_any_other() -> None:
    rig = Rig("1", expected=1)
    rig.modules["bus", "1"] = without(state(), "charge_current_limit", "discharge_current_limit")
    root: dict[str, Value] = {"module_charge_current_limit": 10.0, "module_discharge_current_limit": 25.0}
    rig.step(3)
    rig.modules["bus", ""] = root
    assert rig.step().data is None
    rig.step(2)
    root["module_charge_current_limit"] = 40.0
    assert rig.step().state["charge_current_limit"] == 10.0
    root["module_charge_current_limit"] = 10.0
    assert [rig.step().state["charge_current_limit"] for _ in range(3)] == [10.0] * 3


def test_limits_of_a_stack_whose_rounds_take_long_hold_from_one_to_the_next() -> None:
    """Of its two last readings one is too old for most of the time; that one was true when the other came."""
    rig = Rig("1", expected=1)
    rig.modules["bus", "1"] = without(state(), "charge_current_limit", "discharge_current_limit")
    root: dict[str, Value] = {"module_charge_current_limit": 10.0, "module_discharge_current_limit": 25.0}
    given = []
    for _ in range(8):
        rig.board["bus", ""] = reading("", root, rig.now, max_age=5.0)
        given += [rig.step().state["charge_current_limit"] for _ in range(4)]
    assert given[-20:] == [10.0] * 20
    assert rig.step(4).state["charge_current_limit"] == 0.0, "silent for longer than that"


def test_limits_that_a_stack_begins_to_state_lower_the_configured_ones_no_further_than_they_say() -> None:
    """A console is asked for them when the modules are long read; not known in between, they gave one module's 20 A."""
    limits = Limits(raise_after=0, module_charge_current=20.0, module_discharge_current=20.0)
    rig = Rig("1", "2", expected=2, limits=limits)
    for place, one in rig.modules.items():
        rig.modules[place] = without(one, "charge_current_limit", "discharge_current_limit")
    rig.step(5)
    rig.modules["bus", ""] = {"module_charge_current_limit": 15.0, "module_discharge_current_limit": 25.0}
    given = [rig.step().state for _ in range(6)]
    assert [(one["charge_current_limit"], one["discharge_current_limit"]) for one in given] == (
        [(40.0, 40.0)] + [(30.0, 40.0)] * 5
    )  # fmt: skip


def test_readings_that_lack_a_needed_value_confirm_nothing() -> None:
    rig = speaking("2", "3")
    rig.set("3", soc=None)
    assert rig.step(10).state["modules_online"] == 1
    rig.set("3", soc=60.0)
    assert [rig.step().state["modules_online"] for _ in range(2)] == [1, 2]


# -- together


def test_values_are_put_together_and_limits_name_their_reasons() -> None:
    rig = speaking("2", "3")
    rig.set("2", voltage=50.0, current=10.0, soc=50.0, remaining_capacity=50.0, total_capacity=100.0)
    rig.set("3", voltage=49.0, current=20.0, cell_max_voltage=3.5)
    state_ = rig.step().state
    assert (state_["voltage"], state_["current"], state_["power"]) == (49.5, 30.0, 1480.0)
    assert (state_["soc"], state_["total_capacity"], state_["consumed_capacity"]) == (53.33, 150.0, 70.0)
    assert (state_["time_to_full"], state_["time_to_empty"]) == (8400, None)
    assert (state_["cell_max_voltage"], state_["cell_max_id"]) == (3.5, "M2 C09")
    assert (state_["charge_current_limit"], state_["charge_current_reason"]) == (12.5, "cell voltage (M2)")
    assert (state_["charge_voltage_limit"], state_["charge_voltage_reason"]) == (52.4, "cap for the number of cells")
    assert (state_["discharge_current_limit"], state_["discharge_current_reason"]) == (50.0, "battery")


def test_sixteen_cells_get_their_cap_and_mixed_ones_the_lowest() -> None:
    sixteen = {**state(), "cell_16_voltage": 3.3, "voltage": 52.8, "charge_voltage_limit": 57.0}
    rig = speaking("2")
    rig.modules["bus", "2"] = sixteen
    assert rig.step(2).state["charge_voltage_limit"] == 56.0
    rig.modules["bus", "3"] = state()
    assert rig.step(2).state["charge_voltage_limit"] == 52.4


def test_the_batterys_own_lower_charge_voltage_counts_and_rises_after_two_readings() -> None:
    rig = speaking("2", "3")
    rig.set("3", charge_voltage_limit=51.5)
    found = rig.step()
    assert (found.state["charge_voltage_limit"], found.state["charge_voltage_reason"]) == (51.5, "battery (M2)")
    rig.set("3", charge_voltage_limit=53.25)
    assert rig.step().state["charge_voltage_limit"] == 51.5
    assert rig.step().state["charge_voltage_limit"] == 52.4


def test_b11_a_single_frame_never_raises_a_limit() -> None:
    rig = speaking("2", "3")
    rig.set("2", charge_current_limit=100.0)
    assert rig.step().state["charge_current_limit"] == 50.0
    rig.set("2", charge_current_limit=25.0)
    assert rig.step(2).state["charge_current_limit"] == 50.0


SINGLE = [
    {"charge_enable": False},
    {"charge_fet_on": False},
    {"cell_fault": True},
    {"charge_current_limit": 0.0},
    {"charge_current_limit": None},
    {"cell_max_voltage": None},
    {"cell_max_voltage": 3.3},
    {"cell_min_temperature": None, "cell_max_temperature": None, "temperature": None},
    {"charge_current_limit": None, "charge_enable": None, "charge_fet_on": None},
]


@pytest.mark.parametrize("change", SINGLE, ids=str)
@pytest.mark.parametrize(("cell", "amperes"), [(3.56, 2.0), (3.62, 0.0)])
@pytest.mark.parametrize("raise_after", [0.0, 5.0])
def test_b11_one_reading_of_the_module_that_binds_raises_nothing(
    change: dict[str, Value], cell: float, amperes: float, raise_after: float
) -> None:
    """A module that stands apart leaves more to the others; it must say so twice."""
    rig = speaking("2", "3", limits=Limits(raise_after=raise_after))
    rig.set("2", cell_max_voltage=cell)
    assert rig.step(10).state["charge_current_limit"] == amperes
    rig.set("2", **change)
    given = [rig.step().state["charge_current_limit"]]
    rig.set("2", **state(cell_max_voltage=cell))
    given += [rig.step().state["charge_current_limit"] for _ in range(15)]
    assert max(given) <= amperes  # type: ignore[type-var]
    assert given[-1] == amperes


def test_a_module_that_says_twice_that_it_stands_apart_binds_no_longer() -> None:
    rig = speaking("2", "3", limits=Limits(raise_after=5))
    rig.set("2", cell_max_voltage=3.56)
    rig.step(10)
    rig.set("2", charge_enable=False)
    given = [rig.step().state["charge_current_limit"] for _ in range(7)]
    assert given == [2.0] * 5 + [25.0] * 2


@pytest.mark.parametrize(
    "unknown", [("charge_current_limit",), ("charge_current_limit", "charge_enable"), ("cell_max_voltage",)], ids=str
)
@pytest.mark.parametrize("told", [True, False])
def test_b20_what_is_not_known_raises_nothing_however_long_it_lasts(unknown: tuple[str, ...], told: bool) -> None:
    rig = speaking("2", "3")
    rig.set("2", cell_max_voltage=3.62)
    assert rig.step(10).state["charge_current_limit"] == 0.0
    kept = rig.modules["bus", "2"]
    rig.modules["bus", "2"] = kept | dict.fromkeys(unknown) if told else without(kept, *unknown)
    for _ in range(60):
        found = rig.step().state
        assert found["charge_current_limit"] == 0.0
    assert "cell voltage (M1)" in str(found["charge_current_reason"])
    rig.modules["bus", "2"] = state()
    assert rig.step(3).state["charge_current_limit"] == 50.0


def test_b11_one_reading_before_it_is_not_known_raises_nothing() -> None:
    rig = speaking("2", "3")
    rig.set("2", cell_max_voltage=3.56, cell_min_voltage=2.8, charge_voltage_limit=50.0)
    kept = {key: value for key, value in rig.step(5).state.items() if key.endswith("_limit")}
    for values_ in (state(), state() | dict.fromkeys(["cell_max_voltage", "cell_min_voltage", "charge_voltage_limit"])):
        rig.modules["bus", "2"] = values_
        for _ in range(1 if values_ == state() else 20):
            found = rig.step().state
            assert {key: found[key] for key in kept} == kept


def test_a_high_cell_binds_also_where_the_charge_limit_became_unknown_before() -> None:
    rig = speaking("2", "3")
    rig.set("2", charge_current_limit=None)
    found = rig.step(3).state
    assert (found["charge_current_limit"], found["charge_current_reason"]) == (
        25.0, "battery (M2); charge limit not known (M1)"
    )  # fmt: skip
    rig.set("2", cell_max_voltage=3.56)
    assert rig.step().state["charge_current_limit"] == 2.0


@pytest.mark.parametrize(
    ("shown", "low", "key", "reason"),
    [
        ("charge_current_limit", 2.0, {"cell_max_voltage": 3.56}, "cell voltage before it fell silent (M1); 1 silent"),
        ("charge_current_limit", 0.0, {"cell_max_voltage": 3.62}, "cell voltage before it fell silent (M1); 1 silent"),
        ("discharge_current_limit", 5.0, {"cell_min_voltage": 2.8},
         "cell voltage before it fell silent (M1); 1 silent"),
        ("charge_voltage_limit", 50.0, {"charge_voltage_limit": 50.0}, "battery before it fell silent (M1)"),
    ],
)  # fmt: skip
def test_g1_a_module_that_falls_silent_binds_as_long_as_a_missing_one_is_waited_for(
    shown: str, low: float, key: dict[str, Value], reason: str
) -> None:
    rig = speaking("2", "3", startup=40.0, max_age=5.0)
    rig.set("2", **key)
    assert rig.step(5).state[shown] == low
    del rig.modules["bus", "2"]
    assert rig.step(6).state["modules_online"] == 1
    found = rig.step(40).state
    assert (found[shown], found[shown.replace("limit", "reason")]) == (low, reason)
    assert (found["modules_offline"], found["alarm_cable"]) == (1, 1)
    given = {"charge_current_limit": 25.0, "discharge_current_limit": 25.0, "charge_voltage_limit": 52.4}
    assert {name: found[name] for name in given if name != shown} == {n: v for n, v in given.items() if n != shown}
    found = rig.step().state
    assert {name: found[name] for name in given} == given


def test_a_module_that_answers_once_after_its_silence_raises_nothing() -> None:
    rig = speaking("2", "3")
    rig.set("2", cell_max_voltage=3.56)
    rig.step(5)
    binding = rig.modules.pop(("bus", "2"))
    rig.step(10)
    rig.modules["bus", "2"] = state()
    assert [rig.step().state["charge_current_limit"] for _ in range(2)] == [2.0, 50.0]
    rig.modules["bus", "2"] = binding
    assert rig.step().state["charge_current_limit"] == 2.0


def test_a_silent_module_that_its_device_counts_no_more_binds_all_the_same() -> None:
    rig = Rig("2", "3", startup=20.0, max_age=5.0)
    rig.modules["bus", ""] = {"modules_online": 2, "modules_offline": 0}
    rig.set("2", cell_max_voltage=3.56)
    assert rig.step(15).state["charge_current_limit"] == 2.0
    del rig.modules["bus", "2"]
    rig.step(5)
    rig.modules["bus", ""] = {"modules_online": 1, "modules_offline": 0}
    found = rig.step(15).state
    assert (found["modules"], found["modules_offline"], found["charge_current_limit"]) == ("M1 bus/3", 0, 2.0)
    assert rig.step(10).state["charge_current_limit"] == 25.0


def exchange(rig: Rig, old: str, new: str) -> None:
    """Let a module have the place of another, in a device that says how many it has."""
    rig.places["bus", new] = rig.places["bus", old]
    del rig.modules["bus", old]
    rig.modules["bus", new] = state()


def test_b18_a_module_and_the_one_that_has_its_place_now_never_count_both() -> None:
    rig = Rig("A", "B", "C", startup=20.0, max_age=5.0)
    rig.places = {("bus", path): str(n) for n, path in enumerate("ABC", 2)}
    rig.modules["bus", ""] = {"modules_online": 3, "modules_offline": 0}
    rig.step(15)
    exchange(rig, "B", "NEW")
    seen = [rig.step().state for _ in range(8)]
    assert {(found["modules_online"], found["charge_current_limit"]) for found in seen} == {(3, 75.0)}
    assert [found["modules_offline"] for found in seen] == [1, 1, 1, 1, 1, 0, 0, 0]
    assert seen[-1]["modules"] == "M1 bus/A, M2 bus/C, M3 bus/NEW"


@pytest.mark.parametrize("silent", [0, 1])
def test_a_module_that_tells_its_serial_number_late_never_counts_twice(silent: int) -> None:
    rig = Rig("2", expected=None, startup=20.0, max_age=5.0)
    rig.places = {("bus", "2"): "2"}
    rig.modules["bus", ""] = {"modules_online": 1, "modules_offline": silent}
    rig.step(25)
    exchange(rig, "2", "SN")
    rig.serials["bus", "SN"] = "SN"
    seen = [rig.step().state for _ in range(8)]
    assert {(found["modules_online"], found["charge_current_limit"]) for found in seen} == {(1, 25.0)}
    assert {(found["modules_offline"], found["modules"]) for found in seen} == {(silent, "M1 SN")}


def test_b18_modules_that_change_places_are_not_taken_for_replaced() -> None:
    rig = Rig("A", "B", expected=None, startup=20.0, max_age=5.0)
    rig.places = {("bus", "A"): "2", ("bus", "B"): "3"}
    rig.modules["bus", ""] = {"modules_online": 2, "modules_offline": 0}
    rig.step(15)
    first = rig.modules.pop(("bus", "A"))
    rig.places = {("bus", "A"): "3", ("bus", "B"): "2"}
    assert rig.step(3).state["modules_online"] == 2
    rig.modules["bus", "A"] = first
    assert rig.step().state["modules_online"] == 2


def test_of_a_silent_module_and_a_replaced_one_the_silent_one_is_missed() -> None:
    rig = Rig("A", "B", "C", startup=20.0, max_age=5.0)
    rig.places = {("bus", path): str(n) for n, path in enumerate("ABC", 2)}
    rig.modules["bus", ""] = {"modules_online": 3, "modules_offline": 0}
    rig.step(15)
    del rig.modules["bus", "C"]
    rig.modules["bus", ""] = {"modules_online": 2, "modules_offline": 1}
    rig.step(10)
    exchange(rig, "A", "NEW")
    found = rig.step(10).state
    assert (found["modules_online"], found["modules_offline"]) == (2, 1)
    assert found["modules"] == "M1 bus/B, M2 bus/C, M3 bus/NEW"


def test_g3_a_discharge_limit_that_the_modules_left_never_told_stays_as_published() -> None:
    """A limit of 0 turns an off-grid house dark."""
    rig = Rig("2", "3", expected=2)
    rig.set("3", discharge_current_limit=None)
    found = rig.step(5).state
    assert (found["discharge_current_limit"], found["discharge_current_reason"]) == (
        25.0, "battery (M1); discharge limit not known (M2)"
    )  # fmt: skip
    del rig.modules["bus", "2"]
    for _ in range(100):
        found = rig.step().state
        assert found["discharge_current_limit"] == 25.0
    assert found["modules_online"] == 1
    assert found["discharge_current_reason"] == "as last published; discharge limit not known; 1 silent"
    rig.set("3", discharge_current_limit=50.0)
    assert [rig.step().state["discharge_current_limit"] for _ in range(2)] == [25.0, 50.0]


def test_a_discharge_limit_told_once_lowers_the_one_that_was_published() -> None:
    rig = Rig("2", "3", expected=2)
    rig.set("3", discharge_current_limit=None)
    rig.step(5)
    del rig.modules["bus", "2"]
    rig.step(70)
    rig.set("3", discharge_current_limit=5.0)
    assert rig.step().state["discharge_current_limit"] == 5.0


def test_a_discharge_limit_told_for_the_first_time_needs_two_readings() -> None:
    rig = Rig("2", "3", expected=2)
    rig.set("3", discharge_current_limit=None)
    rig.step(5)
    rig.set("3", discharge_current_limit=25.0)
    assert rig.step().state["discharge_current_limit"] == 25.0
    rig.set("3", discharge_current_limit=None)
    assert rig.step(5).state["discharge_current_limit"] == 25.0
    rig.set("3", discharge_current_limit=5.0)
    assert rig.step().state["discharge_current_limit"] == 10.0


@pytest.mark.parametrize("told", [True, False])
def test_a_charge_voltage_that_is_not_known_stays_as_it_was(told: bool) -> None:
    rig = speaking("2", "3", limits=Limits(raise_after=5))
    for path in ("2", "3"):
        rig.set(path, charge_voltage_limit=50.0)
    assert rig.step(10).state["charge_voltage_limit"] == 50.0
    for place, values_ in rig.modules.items():
        rig.modules[place] = (
            values_ | {"charge_voltage_limit": None} if told else without(values_, "charge_voltage_limit")
        )
    for _ in range(30):
        found = rig.step().state
        assert found["charge_voltage_limit"] == 50.0
    assert found["charge_voltage_reason"] == "as last told"


def test_a_number_of_cells_or_a_capacity_that_is_not_known_raises_nothing() -> None:
    eight = without(state(charge_voltage_limit=28.4, voltage=26.4), *(f"cell_{n}_voltage" for n in range(1, 16)))
    rig = speaking("2", "3", limits=Limits(raise_after=0, current_sharing="capacity"))
    rig.modules["bus", "2"] = eight | {"cell_count": 8, "charge_voltage_limit": None, "total_capacity": 100.0}
    rig.modules["bus", "3"] = eight | {"cell_count": 8, "charge_voltage_limit": None}
    found = rig.step(5).state
    assert (found["charge_voltage_limit"], found["charge_current_limit"]) == (28.0, 37.5)
    for path in ("2", "3"):
        rig.set(path, cell_count=None, cell_min_voltage=None, total_capacity=None)
    found = rig.step(10).state
    assert (found["charge_voltage_limit"], found["charge_current_limit"]) == (28.0, 37.5)


def test_a_module_is_not_back_with_one_reading_that_has_all_it_needs() -> None:
    rig = speaking("2", "3")
    rig.set("3", voltage=None)
    rig.step(10)
    rig.set("3", voltage=49.5)
    rig.step()
    rig.set("3", voltage=None)
    assert [rig.step().state["modules_online"] for _ in range(4)] == [1] * 4


def test_a_wish_for_charge_is_a_request_and_a_warning_and_for_a_full_one_only_if_configured() -> None:
    rig = speaking("2", "3")
    rig.set("3", charge_immediately_2=True)
    assert [rig.step().state[key] for key in ("charge_request", "alarm_low_soc")] == [True, 1]
    for wanted in (False, True):
        rig = speaking("2", full_charge_is_wanted=wanted)
        rig.set("2", full_charge_request=True)
        assert [rig.step().state[key] for key in ("full_charge_request", "charge_request")] == [True, wanted]


def test_the_highest_discharge_voltage_counts() -> None:
    rig = speaking("2", "3")
    rig.set("2", discharge_voltage_limit=46.0)
    assert rig.step().state["discharge_voltage_limit"] == 47.0


def test_a_battery_that_counts_a_little_over_full_is_full() -> None:
    rig = speaking("2")
    rig.set("2", soc=102.0, remaining_capacity=51.0)
    found = rig.step().state
    assert (found["soc"], found["consumed_capacity"]) == (100.0, 0.0)


def test_a_limit_is_rounded_down() -> None:
    rig = speaking("2", "3", "4")
    rig.set("2", charge_current_limit=8.33)
    assert rig.step().state["charge_current_limit"] == 24.9


# -- alarms

RAISED = {
    "alarm_low_voltage": ({"module_under_voltage": True}, 2),
    "alarm_high_voltage": ({"voltage_state": "high"}, 1),
    "alarm_low_soc": ({"soc": 4.0}, 2),
    "alarm_high_charge_current": ({"charge_over_current": True}, 2),
    "alarm_high_discharge_current": ({"discharge_current_state": "high"}, 1),
    "alarm_high_current": ({"short_circuit": True}, 2),
    "alarm_low_cell_voltage": ({"cells_low": "3 4"}, 1),
    "alarm_high_cell_voltage": ({"cells_high": "3", "charge_fet_on": False}, 2),
    "alarm_low_temperature": ({"temperatures_low": "2"}, 1),
    "alarm_high_temperature": ({"discharge_over_temperature": True}, 2),
    "alarm_high_charge_temperature": ({"charge_over_temperature": True}, 2),
    "alarm_internal_failure": ({"cells_error": "9"}, 2),
    "alarm_cell_imbalance": ({"cell_max_voltage": 3.45}, 1),
}


@pytest.mark.parametrize("pair", list(itertools.combinations(RAISED, 2)), ids="+".join)
@pytest.mark.parametrize("apart", [False, True])
def test_g7_two_alarms_at_once_are_both_shown(pair: tuple[str, str], apart: bool) -> None:
    rig = speaking("2", "3")
    for name, path in zip(pair, ("2", "3" if apart else "2"), strict=True):
        rig.set(path, **RAISED[name][0])
    found = rig.step().state
    shown = {key for key in RAISED if found[key]}
    assert shown == set(pair)
    assert [found[name] for name in pair] == [RAISED[name][1] for name in pair]
    assert found["alarm"] is True


CONSOLE_STATES = [
    ({"voltage_state": "over voltage"}, "alarm_high_voltage", 2),
    ({"voltage_state": "under voltage"}, "alarm_low_voltage", 2),
    ({"cell_voltage_state": "high"}, "alarm_high_cell_voltage", 1),
    ({"cell_voltage_state": "over voltage"}, "alarm_high_cell_voltage", 2),
    ({"cell_voltage_state": "under voltage"}, "alarm_low_cell_voltage", 2),
    ({"temperature_state": "over temperature"}, "alarm_high_temperature", 2),
    ({"cell_temperature_state": "under temperature"}, "alarm_low_temperature", 2),
    ({"mos_temperature_state": "high"}, "alarm_high_temperature", 1),
    ({"current_state": "charge current warning"}, "alarm_high_charge_current", 1),
    ({"current_state": "charge over current 2"}, "alarm_high_charge_current", 2),
    ({"current_state": "discharge over current"}, "alarm_high_discharge_current", 2),
    ({"current_state": "short circuit"}, "alarm_high_current", 2),
    ({"state": "error"}, "alarm_internal_failure", 2),
]
STOPS = ("over voltage", "over temperature", "under temperature", "charge over current 2", "short circuit", "error")


@pytest.mark.parametrize(("change", "alarm", "level"), CONSOLE_STATES)
def test_a_state_that_a_console_tells_is_an_alarm_and_a_protection_ends_charging(
    change: dict[str, Any], alarm: str, level: int
) -> None:
    rig = speaking("1")
    rig.set("1", **change)
    found = rig.step().state
    assert (found[alarm], found["alarm"]) == (level, True)
    (word,) = change.values()
    stopped = found["charge_current_limit"] == 0
    assert stopped == (word in STOPS), found["charge_current_reason"]
    assert found["discharge_current_limit"] > 0
    assert not stopped or word in found["charge_current_reason"]


@pytest.mark.parametrize("key", ["voltage_state", "charge_current_state", "discharge_current_state"])
def test_a_state_that_is_an_error_is_an_internal_failure(key: str) -> None:
    """F0 on the line, "other error": of the voltage and of both currents."""
    rig = speaking("2", "3")
    rig.set("3", **{key: messages.STATES[0xF0]})
    found = rig.step().state
    assert (found["alarm_internal_failure"], found["alarm"]) == (2, True)


def test_a_cold_battery_warns_of_charging_only_while_it_charges() -> None:
    rig = speaking("2", "3")
    rig.set("2", cell_min_temperature=-1.0)
    assert [rig.step().state[key] for key in ("alarm_low_temperature", "alarm_low_charge_temperature")] == [1, 0]
    rig.set("2", current=3.0)
    assert [rig.step().state[key] for key in ("alarm_low_temperature", "alarm_low_charge_temperature")] == [1, 1]


def test_an_alarm_that_nothing_tells_of_is_not_known() -> None:
    assert speaking("2").step().state["alarm_high_current"] is None
