"""The simulated inverters' day: every watt is accounted for, counters only grow, settings act, seeds repeat."""

from __future__ import annotations

from datetime import datetime

import pytest

from bridge.simulators.living import Battery, DayClock, House
from bridge.simulators.lxp_plant import METERS, Inverter, Plant, state, status, strings
from bridge.simulators.lxp_registers import MODELS, ROWS, input_words, named

HOUR = 3600


class Time:
    """A real clock that only moves when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def plant(model: str = "lxp12k", count: int = 1, seed: int = 1, hour: int = 0) -> tuple[Plant, Time]:
    time = Time()
    inverters = [Inverter(MODELS[model], f"45126701{18 + i}") for i in range(count)]
    clock = DayClock(datetime(2026, 6, 1, hour), real=time)
    return Plant(inverters, House(seed), clock, Battery(10_240.0 * count, 60.0)), time


def day(model: str = "lxp12k", hours: int = 24, step: int = 600, **options: int) -> list[dict[str, float]]:
    made, time = plant(model, **options)
    told = []
    for sequence in range(hours * HOUR // step):
        time.now += step
        told.append(state(made, 0, sequence))
    return told


@pytest.mark.parametrize("model", MODELS)
def test_every_watt_is_accounted_for(model: str) -> None:
    kinds = set()
    for now in day(model):
        ac_pv = now["p_pv_1"] if not MODELS[model].strings else 0
        drawn = now["p_inv"] - now["p_rec"] + now["p_to_user"] - now["p_to_grid"] + now["p_eps"] + ac_pv
        assert drawn == now["p_load"]
        pv = sum(now[f"p_pv_{i}"] for i in (1, 2, 3)) if MODELS[model].strings else 0
        dc = pv + now["p_discharge"] - now["p_charge"]
        # the inverter loses 6 % one way and the other
        assert now["p_inv"] == pytest.approx(0.94 * dc if dc > 0 else 0, abs=1)
        assert 0.94 * now["p_rec"] == pytest.approx(-dc if now["p_rec"] else 0, abs=1)
        assert min(now["p_to_user"], now["p_to_grid"]) == min(now["p_charge"], now["p_discharge"]) == 0
        assert all(now[name] >= 0 for name in now if name.startswith("p_"))
        assert max(now["p_inv"], now["p_rec"]) <= MODELS[model].rated
        kinds.add(now["status"])
    assert len(kinds) >= 2


def test_counters_are_the_powers_added_up_and_never_fall() -> None:
    told = day(step=10, hours=24)
    for meter in ("inv", "rec", "chg", "dischg", "to_grid", "to_user", "load"):
        power = {"chg": "p_charge", "dischg": "p_discharge"}.get(meter, f"p_{meter}")
        summed = sum(now[power] for now in told[:-1]) * 10 / 3600 / 1000
        gained = told[-1][f"e_{meter}_all"] - told[0][f"e_{meter}_all"]
        assert gained == pytest.approx(summed, abs=0.2), meter
    for name in [name for name in told[0] if name.endswith("_all") or "_all_" in name or name == "runtime"]:
        values = [now[name] for now in told]
        assert values == sorted(values), name
    assert told[-1]["e_pv_all_1"] > told[0]["e_pv_all_1"] + 5


def test_the_running_time_ends_in_the_sequence_and_only_rises() -> None:
    made, time = plant()
    told = []
    for sequence in (1, 2, 3, 99, 100, 101, 250, 251):
        time.now += sequence % 3 * 40
        told.append(int(state(made, 0, sequence)["runtime"]))
        assert told[-1] % 100 == sequence % 100
    assert told == sorted(set(told))


def test_day_counters_start_anew_at_the_inverters_midnight() -> None:
    made, time = plant(hour=20)
    made.inverters[0].clock_offset = 2 * HOUR
    time.now = 1.5 * HOUR
    before = state(made, 0, 1)
    assert before["e_load_day"] > 0.3
    time.now = 2.1 * HOUR
    after = state(made, 0, 2)
    assert after["e_load_day"] < 0.2
    assert after["e_load_all"] > before["e_load_all"]


def test_the_battery_lives_within_its_limits() -> None:
    told = day("sna", hours=48)
    charges = [now["soc"] for now in told]
    assert min(charges) >= 14
    assert max(charges) > 90
    assert max(charges) <= 100
    for now in told:
        assert 16 * now["min_cell_voltage"] - 0.1 <= now["v_bat"] <= 16 * now["max_cell_voltage"]
        assert now["bat_current"] * now["v_bat"] == pytest.approx(now["p_charge"] - now["p_discharge"], abs=1)


def test_the_same_seed_gives_the_same_day_and_another_one_another() -> None:
    assert day(step=1200) == day(step=1200)
    assert day(step=1200, seed=2) != day(step=1200)


def test_a_day_is_the_same_however_often_it_is_looked_at() -> None:
    once, often = day(step=7200)[-1], day(step=60)[-1]
    moving = {"runtime", "v_bus_1", "v_bus_half", "v_eps_l1", "v_ac_l1", "max_cell_voltage"}  # with the sequence
    assert {k: v for k, v in once.items() if k not in moving} == {k: v for k, v in often.items() if k not in moving}


def at_night(model: str = "lxp12k") -> tuple[Plant, Inverter]:
    made, _ = plant(model, hour=2)
    return made, made.inverters[0]


def window(inverter: Inverter, first: int) -> None:
    inverter.holds[first], inverter.holds[first + 1] = 23, 5 | 30 << 8


def test_ac_charge_needs_its_bit_its_window_and_room() -> None:
    made, inverter = at_night()
    assert made.flows(inverter, 2 * HOUR).rec == 0
    inverter.holds[21] |= 1 << 7
    assert made.flows(inverter, 2 * HOUR).rec == 0
    window(inverter, 68)
    flows = made.flows(inverter, 2 * HOUR)
    assert flows.rec == 5000
    assert (flows.charge, flows.to_user, status(flows, inverter, True)) == (4700, flows.load + 5000, 32)
    inverter.holds[66] = 20
    assert made.flows(inverter, 2 * HOUR).rec == 2000
    assert made.flows(inverter, 6 * HOUR).rec == 0
    inverter.holds[67] = 60
    assert made.flows(inverter, 2 * HOUR).rec == 0


def test_forced_discharge_exports_until_its_limit() -> None:
    made, inverter = at_night()
    inverter.holds[21] |= 1 << 10
    inverter.holds[102] = 200
    window(inverter, 84)
    flows = made.flows(inverter, 2 * HOUR)
    assert flows.inv == pytest.approx(5000, abs=2)
    assert flows.to_grid == flows.inv - flows.load
    inverter.holds[83] = 60
    assert made.flows(inverter, 2 * HOUR).to_grid == 0


def test_rates_and_cut_off_bound_the_battery() -> None:
    made, inverter = at_night("sna")
    assert made.flows(inverter, 2 * HOUR).discharge > 0
    inverter.holds[65] = 1
    assert made.flows(inverter, 2 * HOUR).discharge == 60
    inverter.holds[65] = 0
    assert made.flows(inverter, 2 * HOUR).discharge == 0
    inverter.holds[65], inverter.holds[105] = 100, 60
    assert made.flows(inverter, 2 * HOUR).discharge == 0


def test_charge_priority_fills_the_battery_before_the_house() -> None:
    made, time = plant(hour=12)
    time.now = 60
    inverter = made.inverters[0]
    inverter.holds[21] |= 1 << 11
    inverter.holds[76], inverter.holds[77] = 10, 15
    inverter.holds[74] = 20
    flows = made.flows(inverter, 12 * HOUR)
    assert flows.charge == 2000
    inverter.holds[21] &= ~(1 << 11)
    assert made.flows(inverter, 12 * HOUR).charge > 2000


def test_without_feed_in_the_sun_is_curtailed() -> None:
    made, _ = plant(hour=12)
    made.battery.soc = 100.0
    inverter = made.inverters[0]
    assert made.flows(inverter, 12 * HOUR).to_grid > 1000
    inverter.holds[103] = 5
    assert made.flows(inverter, 12 * HOUR).to_grid <= 501
    inverter.holds[21] &= 0x7FFF
    flows = made.flows(inverter, 12 * HOUR)
    assert flows.to_grid <= 1
    assert flows.pv < 0.2 * MODELS["lxp12k"].pv_peak


def test_standby_and_faults_leave_the_house_to_the_grid() -> None:
    made, inverter = at_night()
    inverter.holds[21] &= ~(1 << 9)
    flows = made.flows(inverter, 2 * HOUR)
    assert (flows.to_user, flows.discharge, status(flows, inverter, True)) == (flows.load, 0, 0)
    inverter.faults.add(14)
    assert state(made, 0, 1)["status"] == 1


def test_without_a_grid_the_house_hangs_on_the_eps_output_if_that_is_on() -> None:
    made, inverter = at_night()
    made.grid_present = False
    dark = state(made, 0, 1)
    assert (dark["p_eps"], dark["v_eps_r"], dark["v_ac_r"], dark["status"]) == (0, 0, 0, 0)
    inverter.holds[21] |= 1
    lit = state(made, 0, 2)
    assert lit["p_eps"] == lit["p_load"] > 100
    assert (lit["v_eps_r"], lit["f_eps"], lit["v_ac_r"], lit["status"]) == (230, 50, 0, 64)
    assert lit["warning_code"] == 1 << 16
    inverter.holds[125] = 60
    assert state(made, 0, 3)["p_eps"] == 0


def test_inverters_in_parallel_share_the_house_and_the_battery() -> None:
    made, time = plant("eg4", count=3, hour=2)
    alone, _ = plant("eg4", hour=2)
    time.now = 1
    load = alone.flows(alone.inverters[0], made.now()).load
    shared = [made.flows(inverter, made.now()).load for inverter in made.inverters]
    assert sum(shared) == pytest.approx(load, abs=3)
    assert len({state(made, i, 1)["soc"] for i in range(3)}) == 1


def test_strings_add_up() -> None:
    for model in MODELS.values():
        made, _ = plant(model.name, hour=12)
        flows = made.flows(made.inverters[0], 12 * HOUR)
        assert sum(strings(flows, model)) == (flows.pv or flows.ac_pv) > 500


def test_rows_do_not_overlap_and_all_values_fit() -> None:
    taken = set()
    for row in ROWS:
        for register in range(row.register, row.register + (2 if row.form == "u32" else 1)):
            assert (register, row.form in ("high",)) not in taken
            taken.add((register, row.form == "high"))
    assert len({row.name for row in ROWS}) == len(ROWS)
    made, _ = plant("sna", hour=12)
    now = state(made, 0, 77)
    known = {row.name for row in ROWS}
    assert set(now) - known <= {f"e_{meter}_{kind}" for meter in METERS for kind in ("day", "all")}
    values = named(input_words(now, "4512670118", MODELS["sna"]), 0, 381, MODELS["sna"])
    for name, value in values.items():
        row = next(row for row in ROWS if row.name == name)
        assert value == pytest.approx(now.get(name, 0), abs=0.51 / row.divisor), name
