"""The charge guard: curves, backlash, rising slowly, and how modules share a current."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.bank_options import Bank
from bridge.config import load
from bridge.errors import ConfigError
from bridge.fields import Value
from bridge.guard import SHAPES, Backlash, Curve, Limit, Limits, ModuleGuard, total_current, voltage_cap
from tests.battery_modules import state, without
from tests.shared import REPOSITORY


def guarded(values: dict[str, Value], limits: Limits | None = None) -> ModuleGuard:
    """Return the guard of a module that was read twice with the same values."""
    guard = ModuleGuard(limits or Limits())
    guard.take(values, 0.0, 10.0)
    guard.take(values, 1.0, 10.0)
    return guard


def charge(values: dict[str, Value], limits: Limits | None = None) -> Limit:
    return guarded(values, limits).allowed().charge


def discharge(values: dict[str, Value], limits: Limits | None = None) -> Limit:
    limit = guarded(values, limits).allowed().discharge
    assert limit is not None
    return limit


# -- curves


def test_a_curve_goes_straight_between_its_points_and_level_beyond_them() -> None:
    curve = Curve(points=((90.0, 1.0), (100.0, 0.2)))
    assert [curve.at(value) for value in (0, 90, 95, 100, 130)] == [1.0, 1.0, pytest.approx(0.6), 0.2, 0.2]


def test_a_curve_of_steps_keeps_each_limit_up_to_the_next_point() -> None:
    curve = Curve(points=((0.0, 0.0), (5.0, 10.0), (10.0, 1000.0)), unit="A", between="step")
    assert [curve.at(value) for value in (-1, 4.9, 5, 9.9, 10)] == [0, 0, 10, 10, 1000]


@given(st.floats(-100, 200))
def test_no_default_curve_leaves_zero_to_one(value: float) -> None:
    limits = Limits()
    for curve in (limits.charge_by_soc, limits.charge_by_cell, limits.charge_by_temperature,
                  limits.discharge_by_cell, limits.discharge_by_temperature):  # fmt: skip
        assert curve is not None
        assert 0 <= curve.at(value) <= 1


def test_no_default_curve_stops_discharging() -> None:
    for values in (state(cell_min_voltage=2.0), state(cell_min_temperature=-30.0), state(soc=0.0)):
        assert discharge(values).value > 0


@pytest.mark.parametrize(
    ("key", "value", "share", "reason"),
    [
        ("soc", 95.0, 0.6, "state of charge"),
        ("cell_max_voltage", 3.50, 0.25, "cell voltage"),
        ("cell_max_voltage", 3.60, 0.0, "cell voltage"),
        ("cell_min_temperature", 0.0, 0.0, "temperature"),
        ("cell_min_temperature", 5.0, 0.25, "temperature"),
        ("cell_max_temperature", 45.0, 0.5, "temperature"),
        ("cell_max_temperature", 50.0, 0.0, "temperature"),
    ],
)
def test_each_default_curve_cuts_the_charge_current_and_is_named(
    key: str, value: float, share: float, reason: str
) -> None:
    limit = charge(state(**{key: value}))
    assert (limit.value, limit.reasons, limit.apart) == (pytest.approx(25.0 * share), (reason,), False)


def test_a_module_without_cell_sensors_is_judged_by_its_own_temperature() -> None:
    values = without(state(temperature=-5.0), "cell_min_temperature", "cell_max_temperature")
    assert charge(values) == Limit(0.0, ("temperature",))


# -- what the battery says


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"charge_enable": False}, "charging not enabled"),
        ({"charge_fet_on": False}, "charge MOSFET off"),
        ({"charge_current_limit": 0.0}, "battery"),
        ({"charge_current_limit": None}, "charge limit not known"),
        ({"charge_current_limit": math.nan}, "charge limit not known"),
        ({"charge_current_limit": -25.0}, "charge limit not known"),
        ({"cell_max_voltage": None}, "cell voltage not known"),
        ({"module_over_voltage": True}, "module over voltage"),
        ({"cell_fault": True}, "cell fault"),
    ],
)
def test_a_module_that_forbids_charging_or_does_not_tell_gives_none_and_stands_apart(
    changes: dict[str, Value], reason: str
) -> None:
    limit = charge(state(**changes))
    assert (limit.value, limit.reasons, limit.apart) == (0.0, (reason,), True)


def test_a_discharge_limit_that_is_no_longer_told_stays_as_it_was() -> None:
    guard = guarded(state())
    for at in (2.0, 3.0):
        guard.take(state(discharge_current_limit=None), at, 10.0)
    assert guard.allowed().discharge == Limit(25.0, ("battery", "as last told"))
    assert guard.allowed().charge.value == 25.0


def test_a_discharge_limit_never_told_is_not_known() -> None:
    assert guarded(state(discharge_current_limit=None)).allowed().discharge is None
    assert guarded(without(state(), "discharge_current_limit")).allowed().discharge is None


def test_where_the_link_tells_no_limit_the_configured_one_holds_under_the_rating() -> None:
    values = without(state(), "charge_current_limit", "discharge_current_limit", "charge_enable", "discharge_enable")
    limits = Limits(module_charge_current=40, module_discharge_current=50, share_of_rating=0.8)
    assert charge(values, limits) == Limit(40.0, ("module limit configured",))
    assert charge(values | {"max_charge_current": 45.0}, limits) == Limit(36.0, ("rating",))
    assert discharge(values, limits) == Limit(50.0, ("module limit configured",))
    limit = charge(values)
    assert (limit.value, limit.reasons, limit.apart) == (0.0, ("charge limit not known",), True)


def test_a_share_of_the_rating_holds_also_where_no_limit_is_configured() -> None:
    values = state(max_charge_current=40.0, max_discharge_current=30.0)
    limits = Limits(share_of_rating=0.5)
    assert charge(values, limits) == Limit(20.0, ("rating",))
    assert discharge(values, limits) == Limit(15.0, ("rating",))
    assert charge(values) == Limit(25.0, ("battery",))
    assert charge(state(max_charge_current=40.0, charge_current_limit=0.0), limits) == Limit(
        0.0, ("battery",), apart=True
    )
    unknown = without(values, "charge_current_limit", "discharge_current_limit")
    assert charge(unknown, limits).value == 0.0
    assert guarded(unknown, limits).allowed().discharge is None


def test_a_configured_limit_only_lowers_what_the_battery_tells() -> None:
    assert charge(state(), Limits(module_charge_current=10)) == Limit(10.0, ("module limit configured",))
    assert charge(state(), Limits(module_charge_current=100)) == Limit(25.0, ("battery",))
    assert charge(state(charge_current_limit=None), Limits(module_charge_current=10)).value == 0.0


# -- rising slowly


def test_g9_a_limit_falls_with_one_reading_and_rises_after_two() -> None:
    guard = guarded(state(), Limits(raise_after=0))
    seen = []
    for at, amperes in enumerate((5.0, 25.0, 25.0, 10.0, 25.0, 5.0, 25.0), 2):
        guard.take(state(charge_current_limit=amperes), float(at), 10.0)
        seen.append(guard.allowed().charge.value)
    assert seen == [5.0, 5.0, 25.0, 10.0, 10.0, 5.0, 5.0]


def test_a_limit_rises_only_after_it_has_held_for_so_long() -> None:
    guard = guarded(state(charge_current_limit=5.0), Limits(raise_after=5))
    seen = []
    for at in range(2, 9):
        guard.take(state(), float(at), 10.0)
        seen.append(guard.allowed().charge.value)
    assert seen == [5.0, 5.0, 5.0, 5.0, 5.0, 25.0, 25.0]


def test_after_a_silence_two_new_readings_are_needed() -> None:
    guard = guarded(state())
    guard.take(state(), 20.0, 10.0)
    assert not guard.confirmed
    guard.take(state(), 21.0, 10.0)
    assert guard.confirmed


def test_a_step_does_not_flip_at_its_edge() -> None:
    curve = Curve(points=((0.0, 52.5), (95.0, 51.0)), unit="V", between="step")
    limits = Limits(voltage_by_soc=curve, max_charge_voltage=53.0, raise_after=0)
    guard = ModuleGuard(limits)
    seen = []
    for at, soc in enumerate((94, 94, 95, 94, 93.5, 94.5, 92.9, 92.9)):
        guard.take(state(soc=soc), float(at), 10.0)
        seen.append(guard.allowed().voltage.value)
    assert seen == [52.5, 52.5, 51.0, 51.0, 51.0, 51.0, 51.0, 52.5]


@given(st.lists(st.floats(0, 100), min_size=1), st.sampled_from([1, -1]))
def test_the_backlash_never_sees_less_than_there_is(values: list[float], strict: int) -> None:
    backlash = Backlash(2.0, strict)
    for value in values:
        seen = backlash.follow(value)
        assert seen is not None
        assert 0 <= (seen - value) * strict <= 2.0 + 1e-9


@pytest.mark.parametrize(
    ("strict", "values", "seen"),
    [(1, (90, 89, 87, 91), (90, 90, 89, 91)), (-1, (10, 11, 13, 9), (10, 10, 11, 9))],
)
def test_the_backlash_follows_at_once_to_the_strict_side_and_late_back(
    strict: int, values: tuple[float, ...], seen: tuple[float, ...]
) -> None:
    backlash = Backlash(2.0, strict)
    assert tuple(backlash.follow(value) for value in values) == seen


# -- together


def together(sharing: str, *limits: Limit, sizes: tuple[float, ...] = (), cap: float | None = None) -> Limit:
    names = [f"M{n}" for n in range(1, len(limits) + 1)]
    capacities = {name: (size, size) for name, size in zip(names, sizes or (50.0,) * len(limits), strict=True)}
    return total_current(dict(zip(names, limits, strict=True)), capacities, sharing, cap, 0)


def test_modules_that_are_alike_give_their_sum_however_they_share() -> None:
    for sharing in ("even", "capacity", "sum"):
        assert together(sharing, *[Limit(25.0, ("battery",))] * 4) == Limit(100.0, ("battery",))


def test_sharing_decides_about_modules_that_differ() -> None:
    small, large = Limit(25.0, ("battery",)), Limit(80.0, ("battery",))
    assert together("even", small, large, sizes=(50, 100)).value == 50.0
    assert together("capacity", small, large, sizes=(50, 100)).value == pytest.approx(75.0)
    assert together("sum", small, large, sizes=(50, 100)).value == 105.0
    assert together("even", small, large).reasons == ("battery (M1)",)


def test_a_module_that_stands_apart_takes_its_share_with_it_and_one_cut_to_zero_stops_all() -> None:
    open_one, cut = Limit(0.0, ("charging not enabled",), apart=True), Limit(0.0, ("cell voltage",))
    good = Limit(25.0, ("battery",))
    assert together("even", good, open_one, good) == Limit(50.0, ("battery (M1, M3)", "charging not enabled (M2)"))
    assert together("even", good, cut, good) == Limit(0.0, ("cell voltage (M2)",))
    assert together("even", open_one, open_one) == Limit(0.0, ("charging not enabled",))


LIMIT = st.builds(Limit, st.floats(0, 500), st.just(("x",)), st.booleans())


@given(st.lists(LIMIT, min_size=1, max_size=16), st.sampled_from(["even", "capacity", "sum"]), st.data())
def test_a_bank_never_gets_more_than_its_modules_together(limits: list[Limit], sharing: str, data: Any) -> None:
    sizes = tuple(data.draw(st.floats(1, 300)) for _ in limits)
    most = sum(limit.value for limit in limits if not limit.apart)
    assert together(sharing, *limits, sizes=sizes).value <= most + 1e-9
    assert together(sharing, *limits, sizes=sizes, cap=30.0).value <= 30.0


MAYBE = st.builds(
    lambda giving: Limit(0.0, ("a",), apart=True, giving=giving), st.builds(Limit, st.floats(0, 500), st.just(("x",)))
)
SIZE = st.tuples(st.floats(1, 300), st.floats(0, 100)).map(lambda pair: (pair[0], sum(pair)))


@given(st.lists(st.tuples(st.one_of(LIMIT, MAYBE), SIZE, st.booleans()), min_size=1, max_size=5),
       st.sampled_from(["even", "capacity", "sum"]))  # fmt: skip
def test_what_is_not_settled_counts_as_the_worst_that_it_may_be(modules: list[Any], sharing: str) -> None:
    names = [f"M{n}" for n in range(len(modules))]
    limits = {name: limit for name, (limit, _, _) in zip(names, modules, strict=True)}
    sizes = {name: size if told else (0.0, 0.0) for name, (_, size, told) in zip(names, modules, strict=True)}
    total = total_current(limits, sizes, sharing, None, 0).value
    choices = [[limit, limit.giving] if limit.giving else [limit] for limit in limits.values()]
    for chosen in itertools.product(*choices):
        for ends in itertools.product((0, 1), repeat=len(names)):
            exact = {name: (sizes[name][end],) * 2 for name, end in zip(names, ends, strict=True)}
            one = total_current(dict(zip(names, chosen, strict=True)), exact, sharing, None, 0)
            assert total <= one.value + 1e-6


@pytest.mark.parametrize(
    ("cells", "volts"),
    [(15, 52.4), (16, 56.0), (8, 28.0), (None, 52.4)],
)
def test_the_cap_follows_the_number_of_cells(cells: int | None, volts: float) -> None:
    assert voltage_cap(Limits(), cells) == Limit(volts, ("cap for the number of cells",))
    assert voltage_cap(Limits(max_charge_voltage=51.0), cells).value == 51.0


@pytest.mark.parametrize(("cells", "volts"), [(15, 52.4), (16, 56.0), (8, 28.0)])
@pytest.mark.parametrize("weak", [3.5, 3.3, 2.9, 2.0])
def test_a_weak_cell_makes_no_further_cell_of_which_the_cap_would_rise(cells: int, volts: float, weak: float) -> None:
    """As a console tells it whose `info` does not name the number, before `bat` does."""
    told = without(state(), "charge_voltage_limit", *(f"cell_{n}_voltage" for n in range(1, 16)))
    values = told | {"cell_min_voltage": weak, "cell_max_voltage": 3.5, "voltage": round((cells - 1) * 3.5 + weak, 3)}
    found = guarded(values).allowed().voltage.value
    assert found <= volts
    assert found == volts or weak < 3.0


# -- configuration


HEAD = "mqtt: {host: broker}\ndevices:\n  - {name: batteries, type: axpert, port: hid}\n"


def bank_of(folder: Path, lines: str) -> Bank:
    path = folder / "config.yaml"
    path.write_text(f"{HEAD}banks:\n  - name: bank\n    from: [batteries]\n{lines}")
    return load(path, {}).banks[0]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("charge_by_cell: {points: [[3.4, 0.5], [3.5, 1]]}", "charge_by_cell: with a rising value the limits of this"),
        ("discharge_by_cell: {points: [[2.8, 1], [3.0, 0]]}", "discharge_by_cell: with a rising value"),
        ("charge_by_temperature: {points: [[0, 1], [5, 0], [9, 1]]}", "may only rise and then fall"),
        ("charge_by_soc: {points: [[90, 1], [90, 0]]}", "must rise from pair to pair"),
        ("charge_by_soc: {points: [[90, 1, 2]]}", "expected pairs of numbers"),
        ("charge_by_soc: {points: []}", "expected pairs of numbers"),
        ("charge_by_soc: {points: [[90, 7]]}", "must be 0 to 1"),
        ("charge_by_soc: {points: [[90, 52]], unit: V}", "a charge voltage is in V"),
        ("voltage_by_soc: {points: [[90, 0.5]]}", "a charge voltage is in V"),
        ("alarms: {low_soc: [5, 10]}", "the alarm no less far out"),
        ("max_charge_voltage: 524", "10 to 70"),
        ("from: []", "given twice"),
    ],
)
def test_a_curve_that_bends_the_wrong_way_is_refused(tmp_path: Path, line: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        bank_of(tmp_path, f"    {line}\n")
    assert complaint in " ".join(caught.value.problems)


def preset(name: str, folder: Path) -> Bank:
    """Return the bank of a block of lines in docs/bank.md, as a person would paste it."""
    text = (REPOSITORY / "docs" / "bank.md").read_text(encoding="utf-8")
    block = text.partition(f"<!-- {name} -->\n```yaml\n")[2].partition("```")[0]
    assert block, f"docs/bank.md shows no {name}"
    return bank_of(folder, "".join(f"    {line}\n" for line in block.splitlines()))


@pytest.mark.parametrize(
    ("no", "then"),
    [
        ({"discharge_fet_on": False}, {"discharge_fet_on": None}),
        ({"discharge_enable": False}, {"discharge_enable": None}),
        ({"discharge_current_limit": 0.0}, {}),
    ],
    ids=str,
)
def test_what_is_not_known_any_more_turns_no_house_dark(no: dict[str, Any], then: dict[str, Any]) -> None:
    guard, found = ModuleGuard(Limits(raise_after=2.0)), []
    for at, values in enumerate([{}, no, no, then, *[then or {"discharge_current_limit": None}] * 6]):
        guard.take(state() | values, 100.0 + at, 30.0)
        discharge = guard.allowed().discharge
        found.append(discharge.value if discharge is not None else None)
    assert found[1:5] == [0.0] * 4, "one reading raises nothing"
    assert found[-1] == 25.0


@pytest.mark.parametrize("key", ["charge", "discharge"])
def test_what_is_configured_stands_for_what_a_second_link_does_not_tell(key: str) -> None:
    guard = ModuleGuard(Limits(raise_after=0.0, **{f"module_{key}_current": 20.0}))  # type: ignore[arg-type]
    limit = f"{key}_current_limit"
    for at in range(6):
        values = state() | {limit: 0.0} if at < 2 else without(state(), limit)
        guard.take(values, 100.0 + at, 30.0)
    assert getattr(guard.allowed(), key).value == 20.0


CONSOLE = without(state(), *(key for key in state() if "limit" in key or "enable" in key or "fet" in key))


@pytest.mark.parametrize(
    ("changes", "volts", "charge_amperes", "discharge_amperes"),
    [
        ({}, 52.5, 40.0, 50.0),
        ({"soc": 90}, 52.5, 40.0, 50.0),
        ({"soc": 91}, 52.5, 7.0, 50.0),
        ({"soc": 95}, 51.0, 7.0, 50.0),
        ({"soc": 10}, 52.5, 40.0, 50.0),
        ({"soc": 9}, 52.5, 40.0, 10.0),
        ({"soc": 4}, 52.5, 40.0, 0.0),
        ({"temperature": 3.0}, 52.5, 10.0, 50.0),
        ({"temperature": -1.0}, 52.5, 0.0, 50.0),
        ({"temperature": 46.0}, 52.5, 10.0, 50.0),
        ({"cell_max_voltage": 3.66}, 52.5, 0.0, 50.0),
        ({"cell_min_voltage": 2.4}, 52.5, 40.0, 0.0),
        ({"max_charge_current": 45.0}, 52.5, 36.0, 50.0),
    ],
)
def test_the_preset_gives_the_limits_of_extra200tomqtt(
    tmp_path: Path, changes: dict[str, Value], volts: float, charge_amperes: float, discharge_amperes: float
) -> None:
    bank = preset("extra200tomqtt", tmp_path)
    values = without(CONSOLE, "cell_min_temperature", "cell_max_temperature") | changes
    allowed = guarded(values, bank).allowed()
    assert allowed.discharge is not None
    assert allowed.voltage.value == volts
    assert (allowed.charge.value, allowed.discharge.value) == (charge_amperes, discharge_amperes)


def test_the_documented_default_curves_are_the_defaults(tmp_path: Path) -> None:
    text = (REPOSITORY / "docs" / "bank.md").read_text(encoding="utf-8")
    block = text.partition("```yaml\n")[2].partition("```")[0]
    written = bank_of(tmp_path, "".join(f"    {line}\n" for line in block.splitlines()))
    names = [line.partition(":")[0] for line in block.splitlines()]
    assert names == [name for name in SHAPES if getattr(Limits(), name) is not None]
    assert [getattr(written, name) for name in names] == [getattr(Limits(), name) for name in names]
    for name in names:
        assert bank_of(tmp_path, f"    {name}: null\n") != bank_of(tmp_path, "")
