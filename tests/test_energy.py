"""Energy made of power: never backwards, never over gaps, kept over restarts and power cuts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge import energy_keeper as subject
from bridge.energy import METERS, Integrator, areas, meters_of
from bridge.energy_keeper import FIRST, SAVE_EVERY, EnergyKeeper
from bridge.fields import ACTIVE_POWER, ENERGY_TOTAL, Channel, Field, Reading, Unit
from bridge.statefile import StateFile
from bridge.voltronic.inquiries import PI30, PI41
from bridge.voltronic.inquiry import Inquiry
from tests.harness import no_descriptors

CHARGE, DISCHARGE = "charge_energy_estimated", "discharge_energy_estimated"
PV, LOAD = "pv_energy_estimated", "load_energy_estimated"
POWER = Field("power", ACTIVE_POWER, "Power")
STACK = Unit("", "stack", (POWER,), 10.0)


def integrated(*readings: tuple[float, Any], max_age: float = 10.0) -> dict[str, float]:
    """Return the totals in Wh after readings of (time in s, power in W)."""
    integrator = Integrator(meters_of("", ["power"]), {})
    for at, power in readings:
        integrator.take({"power": power}, at, max_age)
    return {key: round(value * 1000, 6) for key, value in integrator.totals.items()}


def test_even_power_is_power_times_time() -> None:
    assert integrated(*((second, 3600) for second in range(11))) == {CHARGE: 10.0, DISCHARGE: 0.0}


def test_changing_power_is_a_trapezoid() -> None:
    assert integrated((0, 0), (10, 7200))[CHARGE] == 10.0


def test_power_through_zero_counts_in_both_directions() -> None:
    assert integrated((0, 3600), (10, -3600)) == {CHARGE: 2.5, DISCHARGE: 2.5}
    assert areas(-300.0, 600.0, 3.0) == (600.0, 150.0)


def test_a_gap_adds_nothing() -> None:
    assert integrated((0, 3600), (10.1, 3600))[CHARGE] == 0.0
    assert integrated((0, 3600), (10.1, 3600), (11.1, 3600))[CHARGE] == 1.0


@pytest.mark.parametrize("unknown", [None, "1", True, float("nan"), float("inf")])
def test_what_is_no_number_is_a_gap(unknown: Any) -> None:
    assert integrated((0, 3600), (1, unknown), (2, 3600))[CHARGE] == 0.0


def test_the_same_reading_twice_and_an_older_one_add_nothing() -> None:
    assert integrated((0, 3600), (1, 3600), (1, 7200), (0.5, 7200), (2, 3600))[CHARGE] == 2.0


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(-1e5, 1e5) | st.none()), max_size=40))
def test_no_order_of_readings_makes_a_total_fall(readings: list[tuple[float, float | None]]) -> None:
    integrator = Integrator(METERS[:1], {})
    before = dict(integrator.totals)
    for at, power in readings:
        integrator.take({"power": power}, at, 10.0)
        assert all(integrator.totals[key] >= value for key, value in before.items())
        before = dict(integrator.totals)


@given(st.floats(-1e5, 1e5), st.floats(-1e5, 1e5), st.floats(0, 1e3))
@example(142.48447117285104, -3.2094638564568315e-77, 920.75)
def test_both_areas_together_are_the_whole(first: float, last: float, seconds: float) -> None:
    above, below = areas(first, last, seconds)
    assert above >= 0
    assert below >= 0
    assert above - below == pytest.approx((first + last) / 2 * seconds, abs=1e-3)


def powers(*keys: str, path: str = "") -> dict[str, tuple[str, ...]]:
    """Return what is added up for a unit with these keys, by key of the total."""
    return {meter.positive.key: meter.powers for meter in meters_of(path, keys)}


def test_a_device_that_counts_itself_is_not_counted() -> None:
    keys = ["battery_power", "pv_total_power", "pv1_power", "pv2_power", "ac_output_active_power"]
    assert powers(*keys) == {
        "battery_charge_energy_estimated": ("battery_power",),
        PV: ("pv_total_power",),
        LOAD: ("ac_output_active_power",),
    }
    assert powers(*keys, "pv_energy_total", "load_energy_total").keys() == {"battery_charge_energy_estimated"}
    assert powers("power", path="P1") == {}  # a module: the stack counts


@pytest.mark.parametrize("trackers", [1, 2, 3])
def test_every_tracker_that_tells_its_power_counts(trackers: int) -> None:
    keys = [f"pv{number + 1}_power" for number in range(trackers)]
    assert powers(*keys, *(key.replace("power", "current") for key in keys)) == {PV: tuple(keys)}


def test_a_tracker_that_tells_no_power_leaves_the_energy_of_the_first() -> None:
    assert powers("pv1_power", "pv2_current", "pv2_voltage") == {"pv1_energy_estimated": ("pv1_power",)}


def an_hour(*decoded: tuple[Inquiry, str]) -> dict[str, float]:
    """Return the totals after an hour in which an inverter gives these answers."""
    values: dict[str, Any] = {}
    for inquiry, payload in decoded:
        values |= inquiry.publish(inquiry.decode(payload))
    integrator = Integrator(meters_of("", values), {})
    for second in range(0, 3601, 5):
        integrator.take(values, float(second), 10.0)
    return integrator.told()


def test_both_trackers_of_a_max_make_its_pv_energy() -> None:
    status = "230.0 50.0 230.0 50.0 3000 3000 050 400 52.0 000 080 0040 10.0 300.0 0.00 00000 00010110 00 00 03000 010"
    assert an_hour((PI30["QPIGS"], status))[PV] == 3.0
    assert an_hour((PI30["QPIGS"], status), (PI30["QPIGS2"], "10.0 300.0 3000"))[PV] == 6.0


def test_both_lines_of_a_split_phase_make_its_load_energy() -> None:
    status = "120.0 60.0 120.0 60.0 2000 1900 040 400 52.0 000 080 0040 10.0 150.0 0.00 00000 00010110 00 00 01500 010"
    second = "120.0 60.0 120.0 60.0 2000 1800 040 10.0 150.0 52.0 00000000"
    told = an_hour((PI41["QPIGS"], status), (PI41["QPIGS2"], second))
    assert told[LOAD] == 3.7
    assert told["pv1_energy_estimated"] == 1.5
    assert PV not in told


@pytest.mark.parametrize("absent", [{"pv2_power": None}, {}])
def test_a_part_is_never_taken_for_the_whole(absent: dict[str, None]) -> None:
    integrator = Integrator(meters_of("", ["pv1_power", "pv2_power"]), {})
    for at, second in ((0, {"pv2_power": 3600}), (1, absent), (2, {"pv2_power": 3600}), (3, {"pv2_power": 3600})):
        integrator.take({"pv1_power": 3600, **second}, at, 10.0)
    assert round(integrator.totals[PV] * 1000, 6) == 2.0


# -- the keeper


class Outlet:
    def __init__(self) -> None:
        self.published: list[tuple[str, str, dict[str, float]]] = []

    def publish_energy(self, device: str, unit: Unit, values: Any) -> None:
        self.published.append((device, unit.path, dict(values)))


class Site:
    """A keeper whose time the test makes."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.path = path
        monkeypatch.setattr(subject, "time", self)
        self.start()

    def monotonic(self) -> float:
        return self.now

    def start(self) -> None:
        self.outlet = Outlet()
        self.keeper = EnergyKeeper(StateFile(self.path), self.outlet)

    def go(self, seconds: int, power: float | None = 3600, unit: Unit = STACK) -> None:
        for _ in range(seconds):
            self.now += 1
            values = {item.key: power for item in unit.fields}
            self.keeper.take("stack", Reading(unit, values, self.now))
            self.keeper.round()

    def last(self) -> dict[str, float]:
        return self.outlet.published[-1][2]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path / "state" / "energy.json", monkeypatch)


def test_totals_are_published_and_announced_once_they_are_saved(site: Site) -> None:
    site.go(int(FIRST) - 1)
    assert site.outlet.published == []
    assert site.keeper.fields("stack", "") == ()
    site.go(3)
    assert json.loads(site.path.read_text())["stack"] == site.last()
    assert {item.key for item in site.keeper.fields("stack", "")} == set(site.last()) == {CHARGE, DISCHARGE}


def test_the_disk_is_written_seldom(site: Site) -> None:
    saved = []
    original = site.keeper._file.save
    site.keeper._file.save = lambda content: (saved.append(1), original(content))[1]  # type: ignore[method-assign,assignment]
    site.go(int(3 * SAVE_EVERY + FIRST) + 5)
    assert len(saved) == 4


def test_nothing_is_written_while_nothing_adds_up(site: Site) -> None:
    site.go(int(FIRST) + 2)
    before = site.path.stat().st_mtime_ns
    site.go(int(2 * SAVE_EVERY), power=None)
    after = site.path.stat()
    site.go(int(2 * SAVE_EVERY), power=None)
    assert site.path.stat().st_mtime_ns == after.st_mtime_ns >= before


def test_a_restart_goes_on_where_it_was(site: Site) -> None:
    site.go(100)
    site.keeper.close()
    total = site.last()[CHARGE]
    assert total == pytest.approx(0.099)
    site.start()
    site.go(int(FIRST) + 2)
    assert site.last()[CHARGE] > total


def test_a_power_cut_never_sets_a_published_total_back(site: Site) -> None:
    highest = 0.0
    for cut_after in (50, 299, 301, 700, 5):
        site.go(cut_after)
        highest = max([highest, *(values[CHARGE] for *_, values in site.outlet.published)])
        site.start()  # what was in memory is lost
        site.go(int(FIRST) + 2)
        assert site.last()[CHARGE] >= highest
    assert highest > 1


def test_what_cannot_be_saved_is_not_published(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.path.parent.write_text("a file where the folder should be")
    site.go(int(SAVE_EVERY * 3))
    assert site.outlet.published == []
    assert caplog.text.count("cannot be kept") == 1
    site.path.parent.unlink()
    site.go(int(SAVE_EVERY))
    assert site.last()[CHARGE] > 0.9


def test_a_counter_that_turns_up_later_ends_the_estimate(site: Site) -> None:
    pv = Field("pv1_power", ACTIVE_POWER, "PV1 power")
    lone = Unit("", "roof", (pv,), 10.0)
    site.go(5, unit=lone)
    site.go(5, unit=lone._replace(fields=(pv, Field("pv_energy_total", ENERGY_TOTAL, "PV energy total"))))
    site.go(5, unit=lone._replace())  # the link was opened anew, and it has not said so yet
    site.go(int(FIRST) + 2, unit=lone._replace())
    assert site.outlet.published == []


def test_a_tracker_that_turns_up_later_is_added_from_then_on(site: Site) -> None:
    pv1, pv2 = (Field(f"pv{number}_power", ACTIVE_POWER, f"PV{number} power") for number in (1, 2))
    site.go(6, unit=Unit("", "roof", (pv1,), 10.0))
    site.go(6, unit=Unit("", "roof", (pv1, pv2), 10.0))
    site.keeper.close()
    assert site.last() == {PV: 0.015}


def test_a_unit_that_is_forgotten_starts_from_nothing(site: Site) -> None:
    site.go(100)
    site.keeper.close()
    site.keeper.forget("stack", "")
    site.go(int(FIRST) + 2)
    assert site.last()[CHARGE] < 0.05


def test_only_states_count(site: Site) -> None:
    site.keeper.take("stack", Reading(STACK, {"power": 5}, 1.0, channel=Channel.SETTINGS))
    site.keeper.take("stack", Reading(STACK, {"power": 5}, 1.0, topic="other/contract"))
    site.keeper.close()
    assert not site.path.exists()


def test_d4_a_file_that_cannot_be_read_is_not_written_over_and_added_to_later(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.path.parent.mkdir()
    before = json.dumps({"stack": {CHARGE: 4711.5}, "other": {CHARGE: 3.0}})
    site.path.write_text(before)
    with no_descriptors():
        site.start()
        site.go(int(FIRST) + 10)
    site.go(100)  # it is looked at again when it is to be saved
    assert site.outlet.published == []
    assert site.path.read_text() == before
    assert "energy.json cannot be read: Too many open files), so they stand still" in caplog.text
    site.go(int(SAVE_EVERY))
    assert site.last()[CHARGE] == pytest.approx(4711.5 + 0.33, abs=0.02), "nothing of before, nothing of since is lost"
    assert json.loads(site.path.read_text()) == {"stack": site.last(), "other": {CHARGE: 3.0}}


def test_damage_in_the_file_is_left_out(site: Site) -> None:
    site.path.parent.mkdir()
    wrong = {CHARGE: -5, DISCHARGE: "7", "x": True, "y": 1e12}
    site.path.write_text(json.dumps({"stack": wrong, "other": 5}))
    site.start()
    site.go(int(FIRST) + 2)
    assert site.last()[CHARGE] < 0.1
