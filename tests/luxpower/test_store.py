"""Blocks that come in any shape and order, and what is believed of them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import ProtocolError
from bridge.fields import Value
from bridge.luxpower.frame import Registers, decode_reply
from bridge.luxpower.models import Family, Feature, PowerUnit, family_of
from bridge.luxpower.plausibility import AGREEING
from bridge.luxpower.registers import HOLDS, INPUTS
from bridge.luxpower.rows import Table
from bridge.luxpower.store import Snapshot, Store
from tests.luxpower import wire

FAMILY = family_of("FAAB", 12)
HYBRID = {0: 12, 4: 530, 5: 71 | 99 << 8, 7: 2000, 8: 1500, 10: 1800, 16: 1700, 26: 900, 27: 0}


def frame(register: int, values: list[int], function: int = 4) -> Registers:
    decoded = decode_reply(wire.read_reply(function, register, values))
    assert isinstance(decoded, Registers)
    return decoded


def block(first: int, length: int, words: Mapping[int, int]) -> Registers:
    return frame(first, [words.get(register, 0) for register in range(first, first + length)])


def inputs(family: Family = FAMILY, max_age: float | None = 60.0) -> Store:
    return Store(INPUTS, family, max_age=max_age)


def seen(store: Store, now: float) -> Snapshot:
    snapshot = store.snapshot(now)
    assert snapshot is not None
    return snapshot


def test_nothing_is_published_before_the_core_values_are_known() -> None:
    store = inputs()
    assert store.snapshot(0.0) is None
    store.take(block(40, 40, {40: 5}), 0.0)
    assert store.snapshot(0.0) is None
    store.take(block(0, 20, HYBRID), 1.0)
    assert store.snapshot(1.0) is None  # registers 26 and 27 are missing
    store.take(block(20, 20, HYBRID), 2.0)
    assert seen(store, 2.0).values["p_grid"] == -900


def test_all_announced_keys_are_always_there_and_null_when_unknown() -> None:
    store = inputs()
    store.take(block(0, 40, HYBRID), 0.0)
    values = seen(store, 0.0).values
    assert list(values) == [field.key for field in store.fields]
    assert values["e_pv_all_1"] is values["max_chg_curr"] is values["p_load"] is None


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 127)), max_size=12), st.randoms())
def test_words_land_by_number_whatever_block_carried_them(shapes: list[tuple[int, int]], rng: object) -> None:
    """Against a plain word table: every 16-bit value is that of the newest word."""
    store, table = inputs(max_age=None), dict.fromkeys(range(200), 0)
    for number, (first, length) in enumerate([(0, 40), *shapes]):
        words = dict.fromkeys(range(first, first + length), number + 1)
        words[5] = 1
        store.take(block(first, length, words), float(number))
        table.update({register: words.get(register, 0) for register in range(first, first + length)})
    values = seen(store, 99.0).values
    for row in INPUTS.rows:
        if row.key in ("p_pv_1", "p_inv", "bms_event_2", "cycle_count"):
            assert values[row.key] == (table[row.register] if store.word(row.register) else None)
    assert all(
        (word := store.word(register)) is None or word.value == value for register, value in table.items()
    )


@pytest.mark.parametrize("length", [40, 80, 120, 125, 127])
def test_every_block_size_gives_the_same_values(length: int) -> None:
    words = {**HYBRID, **dict.fromkeys(range(40, 60), 7), 83: 560, 98: 0xFFFF, 101: 3300}
    store, whole = inputs(), inputs()
    for first in range(0, 127, length):
        store.take(block(first, min(length, 127 - first), words), 0.0)
    whole.take(block(0, 127, words), 0.0)
    assert seen(store, 0.0).values == seen(whole, 0.0).values


def test_a_32_bit_value_is_never_put_together_from_two_frames() -> None:
    store = inputs()
    store.take(block(0, 41, {**HYBRID, 40: 65535}), 0.0)
    store.take(block(41, 39, {41: 1}), 1.0)
    assert seen(store, 1.0).values["e_pv_all_1"] is None
    store.take(block(40, 2, {40: 3, 41: 1}), 2.0)
    assert seen(store, 2.0).values["e_pv_all_1"] == 6553.9


def test_a_set_has_the_time_of_its_core_and_says_how_far_its_blocks_are_apart() -> None:
    store = inputs()
    store.take(block(0, 40, HYBRID), 10.0)
    store.take(block(40, 40, {}), 14.5)
    snapshot = seen(store, 20.0)
    assert (snapshot.at, snapshot.values["set_spread"]) == (10.0, 4.5)


def test_a_block_that_did_not_come_this_cycle_is_flagged_and_then_dropped() -> None:
    store = inputs(max_age=60.0)
    store.take(block(0, 40, HYBRID), 0.0)
    store.take(block(80, 40, {83: 560}), 2.0)
    store.take(block(0, 40, HYBRID), 50.0)
    values = seen(store, 50.0).values
    assert (values["charge_volt_ref"], values["set_spread"]) == (56.0, 48.0)
    store.take(block(0, 40, HYBRID), 70.0)
    values = seen(store, 70.0).values
    assert (values["charge_volt_ref"], values["set_spread"]) == (None, 0.0)


def test_a_core_that_is_too_old_ends_publishing() -> None:
    store = inputs(max_age=60.0)
    store.take(block(0, 40, HYBRID), 0.0)
    store.take(block(40, 40, {}), 61.0)
    assert store.snapshot(61.0) is None


DAY = {31: 200, 32: 10, 35: 0, 36: 80, 37: 20}
"""Energies of the day: 20 kWh of the inverter, 1 rectified, 0 of EPS, 8 exported, 2 imported."""


def test_the_house_is_what_the_load_register_says_where_the_firmware_fills_it() -> None:
    store = inputs()
    store.take(block(0, 40, HYBRID), 0.0)
    assert seen(store, 0.0).values["p_house"] == 0 + 1700 - 0 - 900
    store.take(block(160, 40, {170: 650}), 2.0)
    assert seen(store, 2.0).values["p_house"] == 650
    store.take(block(0, 40, {**HYBRID, 16: 1000}), 30.0)
    values = seen(store, 30.0).values
    assert values["p_house"] == values["p_load"] == 650, "the message says so itself"
    store.take(block(0, 40, {**HYBRID, 0: 0x40, 24: 730}), 60.0)
    store.take(block(160, 40, {170: 0}), 62.0)
    assert seen(store, 62.0).values["p_house"] == 730, "off grid it is 0 where it counts the load on grid"
    store.take(block(160, 40, {170: 0xFF38}), 63.0)
    assert seen(store, 63.0).values["p_house"] == 730, "and never negative"


def test_the_days_energy_of_the_house_never_goes_back_and_forth_between_two_sources() -> None:
    store, told = inputs(), []
    for start in (0.0, 30.0, 60.0):
        store.take(block(0, 40, HYBRID | DAY), start)
        told.append(seen(store, start).values["e_house_day"])
        store.take(block(160, 40, {171: 157}), start + 2)
        told.append(seen(store, start + 2).values["e_house_day"])
    assert told == [None, 15.7, 15.7, 15.7, 15.7, 15.7]
    store.take(block(160, 40, {171: 0}), 90.0)
    assert seen(store, 90.0).values["e_house_day"] == 0.0, "a new day"
    store.take(block(0, 40, HYBRID | DAY), 151.0)
    assert seen(store, 151.0).values["e_house_day"] is None, "never worked out again"


@pytest.mark.parametrize("load", [None, 0])
def test_the_days_energy_of_the_house_is_worked_out_where_no_register_tells_it(load: int | None) -> None:
    store = inputs(max_age=60.0)
    for start in (0.0, 30.0, 61.0):
        store.take(block(0, 40, HYBRID | DAY), start)
        if load is not None:
            store.take(block(160, 40, {171: load}), start)
        known = load is not None or start > 60.0
        assert seen(store, start).values["e_house_day"] == (13.0 if known else None), start


def test_the_days_energy_of_the_load_is_none_where_the_firmware_counts_no_load() -> None:
    store = inputs()
    for at, (load, day, lifetime, told) in enumerate([(363, 0, 0, None), (363, 0, 5000, 0.0), (363, 12, 0, 1.2)]):
        store.take(block(0, 40, HYBRID | DAY), at)
        store.take(block(160, 40, {170: load, 171: day, 172: lifetime}), at)
        assert seen(store, at).values["e_load_day"] == told


SUN = {28: 100, 29: 100, 30: 100}
MORE_SUN = {220: 600, 223: 60, 224: 30_000}
"""What a fourth string gives: 600 W, 6 kWh today, 3000 kWh in all."""


def test_the_sum_of_the_strings_never_leaves_out_those_that_come_late() -> None:
    store, told = inputs(max_age=60.0), []
    for start in (0.0, 30.0, 200.0, 230.0):  # the third is behind an outage
        store.take(block(0, 40, HYBRID | SUN), start)
        told.append(seen(store, start).values)
        store.take(block(40, 20, {40: 30_000, 42: 30_000, 44: 30_000}), start + 1)
        store.take(block(200, 40, MORE_SUN), start + 2)
        told.append(seen(store, start + 2).values)
    assert [values["e_pv_day"] for values in told] == [None, *[36.0] * 3] * 2
    assert [values["e_pv_all"] for values in told] == [None, *[12000.0] * 3] * 2
    assert [values["p_pv"] for values in told] == [None, 4100] * 4


def test_the_sum_of_the_strings_is_told_once_no_more_can_come() -> None:
    store = inputs(max_age=60.0)
    store.take(block(0, 40, HYBRID | SUN), 0.0)
    assert seen(store, 0.0).values["p_pv"] is None
    assert store.end_round()
    assert seen(store, 0.0).values["p_pv"] == 3500
    assert not store.end_round()
    store.take(block(0, 40, HYBRID | SUN), 300.0)
    assert seen(store, 300.0).values["p_pv"] is None, "behind an outage"
    for at in (330.0, 361.0):
        store.take(block(0, 40, HYBRID | SUN), at)
    assert seen(store, 361.0).values["p_pv"] == 3500, "nobody asks, and nothing came"


def test_a_sum_of_counters_is_that_of_the_last_whole_cycle_until_the_next_one_is_whole() -> None:
    store, told = inputs(max_age=60.0), []
    for start, first, fourth in ((0.0, 100, 60), (30.0, 104, 63), (60.0, 0, 63), (62.0, 0, 0), (90.0, 1, 5)):
        store.take(block(0, 40, HYBRID | SUN | {28: first}), start)
        told.append(seen(store, start).values["e_pv_day"])
        store.take(block(200, 40, MORE_SUN | {223: fourth}), start + 7)
        told.append(seen(store, start + 7).values["e_pv_day"])
    assert told == [None, 36.0, 36.0, 36.7, None, 26.3, 26.3, 20.0, 20.1, 20.6]


def test_a_sum_of_counters_does_not_stay_where_a_part_is_refused_nor_beyond_its_age() -> None:
    store = inputs(max_age=60.0)
    for start in (0.0, 30.0):
        store.take(block(0, 40, HYBRID | SUN), start)
        store.take(block(200, 40, MORE_SUN), start + 7)
        assert seen(store, start + 7).values["e_pv_day"] == 36.0
    store.take(block(0, 40, HYBRID | SUN), 60.0)
    assert seen(store, 60.0).values["e_pv_day"] == 36.0, "a whole cycle is 30 s old"
    store.take(block(0, 40, HYBRID | SUN | {28: 30_000}), 70.0)
    assert seen(store, 70.0).values["e_pv_day"] is None, "refused"
    store.take(block(0, 40, HYBRID | SUN), 80.0)
    assert seen(store, 80.0).values["e_pv_day"] == 36.0
    assert seen(store, 81.0).values["e_pv_day"] is None, "10 s before the age limit, as its parts may be apart so far"
    assert seen(store, 81.0).values["e_pv_day_4"] == 6.0


@pytest.mark.parametrize("fault", ["a counter that goes back", "a power that cannot be", "a block that does not come"])
def test_the_sum_of_the_strings_never_leaves_out_one_that_is_not_known_for_once(fault: str) -> None:
    store, told = inputs(max_age=60.0), []
    wrong = {"a counter that goes back": {224: 29_000}, "a power that cannot be": {220: 61_000}}.get(fault, {})
    for start in (0.0, 30.0, 60.0, 90.0, 120.0, 150.0):
        store.take(block(0, 60, HYBRID | SUN | {40: 30_000, 42: 30_000, 44: 30_000}), start)
        if fault != "a block that does not come" or start not in (60.0, 90.0):
            store.take(block(200, 40, MORE_SUN | wrong if start == 60.0 else MORE_SUN), start)
        store.end_round()
        told.append(seen(store, start + 9.0).values)
    for key, whole in (("p_pv", 4100), ("e_pv_day", 36.0), ("e_pv_all", 12_000.0)):
        found = [values[key] for values in told]
        assert [found[0], found[1], found[4], found[5]] == [whole] * 4
        assert set(found[2:4]) <= {None, whole}, key


def test_a_stream_of_single_registers_does_not_push_out_the_blocks() -> None:
    store = Store(HOLDS, FAMILY)
    store.take(frame(0, [*range(7), 0x4146, 0x4241, *range(31)], 3), 0.0)
    store.take(frame(40, [100] * 40, 3), 1.0)
    store.take(frame(64, [80], 3), 2.0)
    for number in range(2 * Store.MOST_BLOCKS):
        store.take(frame(1000 + number, [1], 3), 3.0 + number)
    values = seen(store, 99.0).values
    assert values["model_code"] == "FAAB"
    assert values["charge_rate_pct"] == 80, "the newer word outlives its own block"
    assert [word.value for register in (64, 65) if (word := store.word(register))] == [80, 100]
    assert len(store) == Store.MOST_BLOCKS


def test_a_higher_string_counts_in_its_cycle_and_leaves_no_wrong_sum_behind() -> None:
    store = inputs()
    store.take(block(0, 40, HYBRID), 0.0)
    store.take(block(217, 15, {220: 400}), 1.0)
    assert seen(store, 1.0).values["p_pv"] == 3900
    store.take(block(0, 40, HYBRID), 30.0)
    assert seen(store, 30.0).values["p_pv"] is None
    store.take(block(217, 15, {}), 31.0)
    assert seen(store, 31.0).values["p_pv"] == 3500
    store.take(block(0, 40, HYBRID), 60.0)
    assert seen(store, 60.0).values["p_pv"] == 3500  # a string that gives nothing may be of the cycle before


def test_house_consumption_off_grid_is_what_eps_gives() -> None:
    store = inputs()
    store.take(block(0, 40, {**HYBRID, 0: 0x40, 16: 0, 24: 730, 26: 0}), 0.0)
    assert seen(store, 0.0).values["p_house"] == 730


def test_a_house_that_would_produce_is_not_known() -> None:
    store = inputs()
    store.take(block(0, 40, {**HYBRID, 16: 100, 26: 900}), 0.0)
    assert seen(store, 0.0).values["p_house"] is None


# what is believed


ACS_BMS = {81: 6600, 82: 6600, 83: 535, 84: 400, 107: 527}
"""All that an LXP 3600 ACS tells of its battery in inputs 80 to 119 (celsworth/lxp-bridge read_inputs_80_to_119_ok)."""
OF_PACKS = ("bat_charge_allowed", "bat_discharge_allowed", "bat_force_charge", "bat_count", "bat_capacity",
            "bat_current", "bms_event_1", "bms_event_1_code", "cycle_count")  # fmt: skip
OF_CELLS = ("max_cell_voltage", "min_cell_voltage", "max_cell_temp", "min_cell_temp")


def battery(words: Mapping[int, int]) -> dict[str, Value]:
    store = inputs(family_of("BAAA", 4))
    store.take(block(0, 40, HYBRID), 0.0)
    assert store.take(block(80, 40, words), 0.0) == ()
    values = seen(store, 0.0).values
    return {key: values[key] for key in (*OF_PACKS, *OF_CELLS, "max_chg_curr", "vbat_inv")}


def test_what_an_inverter_leaves_at_0_since_it_hears_no_packs_is_not_known() -> None:
    told = battery(ACS_BMS)
    assert told == {**dict.fromkeys((*OF_PACKS, *OF_CELLS)), "max_chg_curr": 66.0, "vbat_inv": 52.7}


def test_what_an_inverter_leaves_at_0_since_it_hears_no_cells_is_not_known() -> None:
    told = battery({**ACS_BMS, 95: 2, 96: 1, 97: 50, 98: 0xFF4C, 106: 4099})
    assert [told[key] for key in OF_CELLS] == [None] * 4
    assert [told[key] for key in OF_PACKS] == [False, True, False, 1, 50, -18.0, "none", 0, 4099]


def test_a_0_of_a_bms_that_is_heard_is_one() -> None:
    told = battery({**ACS_BMS, 96: 2, 97: 280, 101: 3391, 102: 3345})
    assert [told[key] for key in OF_CELLS] == [3.391, 3.345, 0.0, 0.0]
    assert [told[key] for key in OF_PACKS] == [False, False, False, 2, 280, 0.0, "none", 0, 0]


@pytest.mark.parametrize(("register", "key"), [(139, "q_inv"), (153, "p_ac_couple")])
def test_a_power_of_unknown_sign_is_not_believed_where_it_would_be_a_negative_one(register: int, key: str) -> None:
    store = inputs()
    store.take(block(0, 40, HYBRID), 0.0)
    assert store.take(block(120, 40, {register: 6000}), 0.0) == ()
    assert seen(store, 0.0).values[key] == 6000
    assert store.take(block(120, 40, {register: 0x10000 - 6000}), 1.0) == (f"{key} 59536",)
    assert seen(store, 1.0).values[key] is None


@pytest.mark.parametrize(
    ("model", "cold"), [(("BAAA", 4), None), (("AAAB", 4), 0), (("FAAB", 12), 0), ((None, None), None)]
)
def test_0_degrees_of_the_battery_are_none_where_that_is_told_without_a_sensor_too(
    model: tuple[str | None, int | None], cold: int | None
) -> None:
    for word, expected in ((0, cold), (12, 12), (0xFFFB, -5), (127, None)):
        store = inputs(family_of(*model))
        store.take(block(0, 40, HYBRID), 0.0)
        assert store.take(block(40, 40, {64: 28, 67: word}), 0.0) == ()
        assert seen(store, 0.0).values["t_bat"] == expected
        assert seen(store, 0.0).values["t_inner"] == 28


@pytest.mark.parametrize(("register", "word"), [(5, 101), (5, 255), (4, 0xFFFF), (10, 0xFFFF), (27, 61_000)])
def test_a_frame_with_an_impossible_core_value_is_refused_whole(register: int, word: int) -> None:
    store = inputs()
    store.take(block(0, 40, HYBRID), 0.0)
    with pytest.raises(ProtocolError) as caught:
        store.take(block(0, 40, {**HYBRID, 7: 4, register: word}), 30.0)
    assert caught.value.kind == "implausible"
    snapshot = seen(store, 30.0)
    assert (snapshot.at, snapshot.values["p_pv_1"]) == (0.0, 2000)


@pytest.mark.parametrize(
    ("register", "word", "key"),
    [
        (1, 0xFFFF, "v_pv_1"),
        (5, 71 | 130 << 8, "soh"),
        (12, 5193, "v_ac_r"),
        (15, 0xFFFF, "f_ac"),
        (20, 0xFFFF, "v_eps_r"),
        (64, 0x8000, "t_inner"),
        (65, 0xFF00, "t_rad_1"),
        (67, 127, "t_bat"),
        (81, 0xFFFF, "max_chg_curr"),
        (82, 29_960, "max_dischg_curr"),
        (98, 29_960, "bat_current"),
        (98, 0x8000, "bat_current"),
        (101, 0, "max_cell_voltage"),
        (102, 0xFFFF, "min_cell_voltage"),
        (103, 0xF000, "max_cell_temp"),
        (19, 2000, "pf"),
    ],
)
def test_an_impossible_value_is_not_known_and_the_last_one_does_not_return(register: int, word: int, key: str) -> None:
    sane = {**HYBRID, 1: 3500, 12: 2300, 15: 5000, 20: 2300, 64: 30, 65: 31, 67: 25, 81: 500, 82: 500, 98: 100,
            101: 3400, 102: 3300, 103: 250, 19: 1000}  # fmt: skip
    store = inputs()
    assert store.take(block(0, 120, sane), 0.0) == ()
    assert seen(store, 0.0).values[key] is not None
    refusals = store.take(block(0, 120, {**sane, register: word}), 1.0)
    assert seen(store, 1.0).values[key] is None
    silent = {"t_bat", "pf"} | ({"max_cell_voltage"} if word == 0 else set())
    assert len(refusals) == (0 if key in silent else 1)
    assert seen(store, 1.0).values["soc"] == 71


def test_a_frame_of_all_ones_is_refused() -> None:
    store = inputs()
    with pytest.raises(ProtocolError):
        store.take(frame(0, [0xFFFF] * 127), 0.0)
    assert store.snapshot(0.0) is None


def counted(store: Store, kwh: float, at: float, other: float = 100.0) -> Value:
    words = {40: round(kwh * 10) & 0xFFFF, 41: round(kwh * 10) >> 16, 46: round(other * 10)}
    store.take(block(40, 40, words), at)
    store.take(block(0, 40, HYBRID), at)
    return seen(store, at).values["e_pv_all_1"]


def test_a_lifetime_counter_that_goes_back_is_not_known_until_it_follows_again() -> None:
    store = inputs()
    assert [counted(store, kwh, at) for kwh, at in ((500.0, 0), (500.1, 60), (499.0, 120), (500.2, 180))] == [
        500.0,
        500.1,
        None,
        500.2,
    ]


def test_a_lifetime_counter_cannot_outrun_the_power_that_can_flow() -> None:
    store = Store(INPUTS, FAMILY, max_age=None, max_power=12_000)
    assert counted(store, 500.0, 0) == 500.0
    assert counted(store, 512.2, 3600) == 512.2
    assert counted(store, 530.0, 7200) is None
    assert counted(store, 536.0, 10_800) == 536.0  # 23.8 kWh in two hours from the last one believed


def test_a_counter_that_begins_anew_is_believed_after_three_readings_in_a_row() -> None:
    store = inputs(max_age=None)
    assert counted(store, 500.0, 0) == 500.0
    found = [counted(store, 0.1 * number, 60.0 * number) for number in range(1, AGREEING + 1)]
    assert found == [*[None] * (AGREEING - 1), pytest.approx(0.1 * AGREEING)]


def test_a_wrong_first_reading_does_not_silence_the_right_ones_for_ever() -> None:
    store = inputs(max_age=None)
    counted(store, 90_000.0, 0)
    assert [counted(store, 500.0, at) for at in (60, 120, 180)] == [None, None, 500.0]


def test_a_frame_in_which_several_counters_go_back_is_refused_whole() -> None:
    store = inputs()
    counted(store, 500.0, 0, other=300.0)
    with pytest.raises(ProtocolError) as caught:
        counted(store, 400.0, 60, other=200.0)
    assert caught.value.kind == "implausible"
    assert counted(store, 500.1, 120, other=300.1) == 500.1


@given(st.lists(st.integers(0, 0xFFFFFFFF), min_size=2, max_size=30))
def test_a_published_counter_never_goes_back_but_for_three_agreeing_readings(raws: list[int]) -> None:
    store = inputs(max_age=None)
    store.take(block(0, 40, HYBRID), 0.0)
    last, seen_since = None, 0
    for number, raw in enumerate(raws):
        store.take(block(40, 2, {40: raw & 0xFFFF, 41: raw >> 16}), 60.0 * number)
        value = seen(store, 60.0 * number).values["e_pv_all_1"]
        seen_since += 1
        if isinstance(value, float):
            assert last is None or 0 <= value - last <= 50 * seen_since / 60 + 0.3 or seen_since >= AGREEING
            assert value == raw / 10
            last, seen_since = value, 0


# what the family tells


def test_what_depends_on_the_model_is_not_known_until_it_is() -> None:
    words = {**HYBRID, 13: 5193, 81: 600, 123: 9109, 127: 1200}
    store = inputs(Family())
    store.take(block(0, 127, words), 0.0)
    values = seen(store, 0.0).values
    assert values["max_chg_curr"] is values["p_gen"] is values["v_ac_s"] is None
    store.learn(Family(10, None, frozenset({Feature.GENERATOR})))
    values = seen(store, 1.0).values
    assert (values["max_chg_curr"], values["p_gen"], values["v_ac_s"]) == (60.0, 9109, None)
    store.learn(family_of("BAAA", 4))
    assert seen(store, 1.0).values["max_chg_curr"] == 6.0


def test_a_refused_counter_stays_refused_when_the_model_becomes_known() -> None:
    store = inputs(Family(), max_age=None)
    counted(store, 500.0, 0)
    assert counted(store, 400.0, 60) is None
    store.learn(FAMILY)
    assert seen(store, 60.0).values["e_pv_all_1"] is None


def test_power_settings_come_with_their_unit_or_not_at_all() -> None:
    for unit, expected in ((None, None), (PowerUnit.PERCENT, 55), (PowerUnit.HUNDRED_WATTS, 5.5)):
        store = Store(HOLDS, Family(10, unit))
        store.take(frame(66, [55], 3), 0.0)
        values = seen(store, 1e9).values
        assert (values["ac_charge_rate"], values["ac_charge_rate_raw"]) == (expected, 55)
        assert values["power_unit"] == (unit.value if unit else None)


def test_settings_have_no_age_limit_and_no_core() -> None:
    store = Store(HOLDS, Family())
    assert store.snapshot(0.0) is None
    store.take(frame(64, [80], 3), 0.0)
    snapshot = seen(store, 1e6)
    assert (snapshot.at, snapshot.values["charge_rate_pct"], snapshot.values["running"]) == (0.0, 80, None)


def test_a_stream_of_odd_shapes_does_not_grow_the_store() -> None:
    store = Store(Table(4, INPUTS.rows), FAMILY)
    for first in range(300):
        store.take(block(first, 3, {}), float(first))
    assert len(store) == Store.MOST_BLOCKS
    assert store.word(299) is not None
    assert store.word(0) is None
