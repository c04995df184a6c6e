"""The table of settings: bounds, bits, what no command ever changes, and what a model makes of a row."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import CommandError
from bridge.luxpower.changes import Changed, Changes
from bridge.luxpower.models import Family, Feature, PowerUnit, family_of
from bridge.luxpower.raw_setting import raw_setting
from bridge.luxpower.registers import HOLDS, VOLTS
from bridge.luxpower.rows import clock, window
from bridge.luxpower.settings import (
    KEYS,
    NAMES,
    NEVER,
    SETTINGS,
    LxpSetting,
    Model,
    find,
    never,
    permit,
    settings_of,
    writable,
)
from bridge.luxpower.timekeeping import DAY, LOOK_AGAIN, LOOK_EVERY, NEAR_HOUR, Timekeeper
from bridge.settings import Choice, Clock, Number, Risk, Switch, Window

ROWS = pytest.mark.parametrize("setting", SETTINGS, ids=lambda one: one.key)
BITS = {21: 0x8F81, 110: 0x0012, 120: 0x00FE, 179: 0x0080, 233: 0x0003}
"""The bits of words of bits that may change at all, by any setting."""


def model(code: str | None = "FAAB", device_type: int | None = 12, **changes: object) -> Model:
    return replace(Model(code, device_type, family_of(code, device_type)), **changes)  # type: ignore[arg-type]


ACS, SNA, LARGE, EG4 = model("BAAA", 4), model("CBAA", 6), model(), model("EAAB", 2092)


def everything(_: LxpSetting) -> bool:
    return True


def harmless(setting: LxpSetting) -> bool:
    return setting.risk is Risk.HARMLESS


# -- the rows


@ROWS
def test_every_setting_has_bounds_and_is_shown_under_its_own_key(setting: LxpSetting) -> None:
    assert setting.key in {row.key for row in HOLDS.rows}
    match setting.spelling:
        case Number(minimum=lowest, maximum=highest):
            assert lowest < highest
            assert Decimal(setting.lowest) / setting.divisor == lowest or setting.among
        case Choice(options=options):
            assert len(options) >= 2
        case Switch():
            assert setting.mask.bit_count() == 1
        case spelling:
            assert isinstance(spelling, Window | Clock)


def test_no_two_settings_claim_the_same_bits() -> None:
    claimed: dict[int, int] = {}
    for setting in SETTINGS:
        for register in setting.registers:
            assert not claimed.get(register, 0) & setting.mask, setting.key
            claimed[register] = claimed.get(register, 0) | setting.mask
    assert {register: claimed[register] for register in BITS} == BITS


@ROWS
def test_no_setting_touches_what_is_never_changed(setting: LxpSetting) -> None:
    for register in setting.registers:
        assert not never(register) & setting.mask


@ROWS
def test_every_voltage_of_the_battery_is_checked_against_the_battery(setting: LxpSetting) -> None:
    others = ("eps_voltage", "start_pv_voltage_v")
    assert setting.is_voltage == (setting.quantity is VOLTS and setting.key not in others)


def test_rows_stand_in_the_order_of_their_places_and_have_different_names() -> None:
    places = [(setting.row.register, setting.mask & -setting.mask) for setting in SETTINGS]
    assert places == sorted(places)
    assert len(KEYS) == len(SETTINGS)
    assert not {group for setting in SETTINGS for group in setting.groups} & KEYS.keys()


def test_the_documented_names_can_be_allowed() -> None:
    assert {"ac_charge", "charge_windows", "discharge_windows"} <= NAMES


def test_nothing_dangerous_is_harmless() -> None:
    risks = {risk: {one.key for one in SETTINGS if one.risk is risk} for risk in Risk}
    assert risks[Risk.DANGEROUS] == {"start_pv_voltage_v", "active_power_pct", "eps_voltage", "eps_frequency"}
    assert {"eps", "running", "feed_in_grid", "feed_in_limit", "charge_voltage_v"} <= risks[Risk.CAUTION]


def test_an_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(CommandError, match="did you mean ac_charge"):
        find("ac_chrage")
    with pytest.raises(CommandError, match="is no setting; docs"):
        find("\n" + "x" * 5000)


# -- values


def words_of(setting: LxpSetting, raw: int = 0) -> dict[int, int]:
    """Words in which the setting's number is `raw` and every other bit is set."""
    words = dict.fromkeys(setting.registers, 0xFFFF)
    words[setting.registers[0]] = 0xFFFF & ~setting.mask | raw * (setting.mask & -setting.mask) & setting.mask
    return words


@pytest.mark.parametrize("kind", [ACS, SNA, LARGE, EG4], ids=["acs", "sna", "large", "eg4"])
def test_what_is_shown_can_be_written_again_to_the_same_word(kind: Model) -> None:
    for setting in settings_of(kind, everything, lambda _: True):
        codes = setting.row.codes or {}
        raws = list(setting.among or codes or range(setting.lowest, setting.highest + 1)) or [0, 1]
        for raw in raws if setting.row.read not in (window, clock) else ():
            words = words_of(setting, raw)
            assert setting.raw(words) == raw
            shown = setting.value(words)
            text = setting.spelling.write(shown)
            assert setting.encode(setting.spelling.read(text), words) == words, (setting.key, text)


@pytest.mark.parametrize("number", range(50))
def test_a_window_is_two_words_hour_first(number: int) -> None:
    chance = random.Random(number)
    start, end = ((chance.randrange(24), chance.randrange(60)) for _ in range(2))
    text = f"{start[0]:02}:{start[1]:02}-{end[0]:02}:{end[1]:02}"
    setting = find("ac_charge_window_2")
    words = setting.encode(setting.spelling.read(text), {})
    assert words == {70: start[0] | start[1] << 8, 71: end[0] | end[1] << 8}
    assert setting.value(words) == text


@given(st.text(max_size=12) | st.from_regex(r"-?[0-9.:\-e+ ]{1,11}", fullmatch=True), st.sampled_from(SETTINGS))
def test_any_text_is_in_bounds_or_refused(text: str, setting: LxpSetting) -> None:
    try:
        value = setting.spelling.read(text)
    except CommandError:
        return
    if isinstance(setting.spelling, Number):
        assert setting.lowest <= setting.number(value) <= setting.highest or setting.number(value) in setting.among


@given(st.integers(0, 0xFFFF), st.sampled_from([s for s in SETTINGS if s.mask != 0xFFFF]), st.booleans())
def test_setting_bits_leaves_all_others_alone(word: int, setting: LxpSetting, last: bool) -> None:
    register = setting.row.register
    value = setting.spelling.options[-last] if isinstance(setting.spelling, Choice) else last
    new = setting.encode(value, {register: word})
    assert new.keys() == {register}
    assert (new[register] ^ word) & ~setting.mask == 0
    assert setting.value(new) == value
    permit(register, (word,), (new[register],))


@pytest.mark.parametrize("text", ["now", "2017-01-01T00:00:00", "2099-12-31T23:59:59"])
def test_a_clock_takes(text: str) -> None:
    assert find("time").spelling.read(text) == text


@pytest.mark.parametrize("text", ["2016-12-31T23:59:59", "2027-02-29T00:00:00", "2027-01-01T24:00:00", "Now", "12:00",
                                  "2027-01-01 00:00:00", "2027-01-01T00:00:00Z", "0", ""])  # fmt: skip
def test_a_clock_refuses(text: str) -> None:
    with pytest.raises(CommandError):
        find("time").spelling.read(text)


# -- never


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_the_last_gate_lets_only_bits_of_settings_through(register: int, old: int, new: int) -> None:
    passes = not (old ^ new) & (never(register) | ~writable(register))
    try:
        permit(register, (old,), (new,))
    except CommandError:
        assert not passes
    else:
        assert passes


@pytest.mark.parametrize("register", [
    0, 7, 11, 15, 19, 23, 59, 61, 92, 98, 104, 112, 113, 121, 170, 178, 185, 199, 203, 205, 225, 230, 231, 241, 252,
    260, 262, 275, 500, 0xFFFF,
])  # fmt: skip
def test_no_bit_of_these_registers_is_ever_changed(register: int) -> None:
    assert never(register) == 0xFFFF
    for bit in range(16):
        with pytest.raises(CommandError):
            permit(register, (0,), (1 << bit,))


@pytest.mark.parametrize("register", BITS)
def test_of_words_of_bits_only_those_of_settings_pass(register: int) -> None:
    for bit in range(16):
        allowed = BITS[register] >> bit & 1
        if allowed:
            permit(register, (0xFFFF,), (0xFFFF ^ 1 << bit,))
        else:
            with pytest.raises(CommandError):
                permit(register, (0xFFFF,), (0xFFFF ^ 1 << bit,))


def test_several_words_in_one_frame_are_for_the_clock_alone() -> None:
    permit(12, (0, 0, 0), (1, 2, 3))
    for first, count in ((68, 2), (233, 2), (12, 2), (11, 3), (12, 4), (64, 0)):
        with pytest.raises(CommandError):
            permit(first, (0,) * count, (1,) * count)


def test_the_list_of_what_is_never_changed_is_in_order() -> None:
    ends = [(first, last) for first, last, _ in NEVER]
    assert all(first <= last for first, last in ends)
    assert all(before[1] < after[0] for before, after in pairwise(ends))


# -- models and conditions


@pytest.mark.parametrize(
    ("kind", "key", "words"),
    [
        (SNA, "ac_charge_rate", "whether this model counts in % or kW is not known"),
        (model(None, None), "feed_in_limit", "not known"),
        (LARGE, "output_priority", "off-grid models only"),
        (model(None, None), "ac_first_window_1", "off-grid models only"),
        (LARGE, "peak_shaving_window_1", "EG4 hybrids only"),
        (ACS, "eps", "not on the LXP 3600 ACS"),
        (model("CEAA", 54), "quick_charge", "not on the EG4 6000XP"),
        (model("CEAA", 54), "ac_charge_soc_limit_pct", "not on the EG4 6000XP"),
        (model("ACAB", 1), "ac_charge_current_a", "not on the GEN-LB-EU"),
        (LARGE, "fast_zero_export", "differs between models"),
        (LARGE, "ac_charge_type", "differs between models"),
        (SNA, "start_pv_voltage_v", "differs between models"),
        (model("CEAA", 54), "start_pv_voltage_v", "differs between models"),
        (model(None, None), "start_pv_voltage_v", "differs between models"),
        (model("ZZZZ", 99), "start_pv_voltage_v", "differs between models"),
    ],
)
def test_a_setting_that_a_model_does_not_have_says_so(kind: Model, key: str, words: str) -> None:
    with pytest.raises(CommandError, match=words):
        find(key).for_model(kind)
    assert key not in {one.key for one in settings_of(kind, everything, lambda _: True)}


@pytest.mark.parametrize("kind", [ACS, LARGE, EG4, model("ACAB", 1)], ids=lambda kind: kind.code)
def test_the_pv_start_voltage_is_set_where_register_22_is_known_to_be_that(kind: Model) -> None:
    row = find("start_pv_voltage_v").for_model(kind)
    assert row.encode(row.spelling.read("150"), {22: 1200}) == {22: 1500}


@pytest.mark.parametrize(
    ("kind", "key", "highest", "unit"),
    [
        (ACS, "ac_charge_rate", 100, "%"),
        (LARGE, "ac_charge_rate", 15.0, "kW"),
        (LARGE, "forced_discharge_rate", 25.5, "kW"),
        (SNA, "ac_charge_soc_limit_pct", 100, "%"),
        (EG4, "ac_charge_soc_limit_pct", 101, "%"),
        (LARGE, "charge_current_limit_a", 140, "A"),
        (model(largest_current=250), "charge_current_limit_a", 250, "A"),
    ],
)
def test_bounds_follow_the_model(kind: Model, key: str, highest: float, unit: str) -> None:
    setting = find(key).for_model(kind)
    assert isinstance(setting.spelling, Number)
    assert (float(setting.spelling.maximum), setting.quantity.unit) == (highest, unit)


GOOD = {"v_bat": 51.2, "status_code": 4, "max_chg_curr": 50.0, "max_dischg_curr": 60.0, "charge_volt_ref": 56.0}


def objection(key: str, raw: int, words: dict[int, int], nominal: int | None = 512, **facts: object) -> str | None:
    setting = find(key)
    return setting.objection(raw, {setting.row.register: 0, **words}, {**GOOD, **facts}, nominal)  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("key", "good", "bad", "words"),
    [
        ("discharge_cutoff_soc_limit_pct", 20, 19, {125: 20}),
        ("eps_discharge_cutoff_soc_limit_pct", 20, 21, {105: 20}),
        ("ac_charge_start_soc_pct", 79, 80, {161: 80}),
        ("ac_charge_end_soc_pct", 81, 80, {160: 80}),
        ("ac_charge_start_voltage_v", 519, 520, {159: 520}),
        ("ac_charge_end_voltage_v", 481, 480, {158: 480}),
        ("charge_voltage_v", 540, 539, {144: 540}),
        ("charge_voltage_v", 560, 561, {144: 500}),
        ("float_voltage_v", 540, 541, {99: 540}),
        ("derating_start_voltage_v", 461, 460, {100: 440}),
        ("charge_current_limit_a", 50, 51, {}),
        ("discharge_current_limit_a", 60, 61, {}),
        ("eps_voltage", 240, 208, {90: 230}),
    ],
)
def test_one_setting_bounds_another_and_the_battery_bounds_both(
    key: str, good: int, bad: int, words: dict[int, int]
) -> None:
    assert objection(key, good, words) is None
    assert objection(key, bad, words)


def test_a_battery_of_another_voltage_gets_no_voltages() -> None:
    assert objection("discharge_cutoff_voltage_v", 450, {}) is None
    for facts in ({"v_bat": 400.0}, {"v_bat": 25.6}, {"v_bat": None}):
        assert objection("discharge_cutoff_voltage_v", 450, {}, **facts)
    assert objection("discharge_cutoff_voltage_v", 450, {}, nominal=240)
    assert objection("discharge_cutoff_voltage_v", 450, {}, nominal=None) is None
    assert objection("discharge_cutoff_voltage_v", 450, {}, nominal=0) is None


def test_a_bms_that_allows_nothing_is_obeyed_and_one_that_says_nothing_is_none() -> None:
    assert objection("charge_current_limit_a", 5, {}, max_chg_curr=0.0)
    nobody = {"max_chg_curr": 0.0, "max_dischg_curr": 0.0, "charge_volt_ref": None}
    assert objection("charge_current_limit_a", 140, {}, **nobody) is None


@pytest.mark.parametrize("status", [0x40, 0x88, None, "other"])
def test_the_grid_of_the_house_is_not_changed_off_grid(status: object) -> None:
    assert objection("eps_frequency", 60, {}, status_code=status)
    assert objection("eps_voltage", 240, {90: 230}, status_code=status)


# -- by number


def test_a_register_of_one_setting_has_its_bounds_by_number_too() -> None:
    setting = raw_setting(105, LARGE, harmless)
    assert setting.spelling.read("90") == 90
    for text in ("91", "9", "0x20", "20.0"):
        with pytest.raises(CommandError):
            setting.spelling.read(text)


def test_a_number_is_the_raw_word_whatever_its_unit() -> None:
    setting = raw_setting(99, LARGE, everything)
    assert isinstance(setting, LxpSetting)
    assert setting.encode(setting.spelling.read("565"), {99: 0}) == {99: 565}
    assert setting.value({99: 565}) == 565
    assert setting.objection(565, {144: 540}, GOOD, 512) == "more than the battery's own limit, 56 now"
    rate = raw_setting(66, LARGE, harmless)
    assert (rate.spelling.read("150"), rate.spelling.allowed) == (150, "expected 0 to 150")
    signed = raw_setting(119, LARGE, everything)
    assert isinstance(signed, LxpSetting)
    assert signed.encode(signed.spelling.read("-199"), {119: 0}) == {119: 0x10000 - 199}
    coded = raw_setting(145, SNA, everything)
    assert isinstance(coded, LxpSetting)
    assert (coded.encode(coded.spelling.read("2"), {145: 0}), coded.value({145: 2})) == ({145: 2}, 2)


@pytest.mark.parametrize(
    ("register", "words"),
    [
        (0, "not in the table"), (11, "not in the table"), (59, "not in the table"), (600, "not in the table"),
        (176, "not in the table"), (12, "setting time"), (13, "setting time"), (22, "by its name only"),
        (90, "by its name only"), (60, "by its name only"), (103, "named under allow"), (110, "named under allow"),
        (234, "named under allow"),
    ],
)  # fmt: skip
def test_what_cannot_be_set_by_number_says_why(register: int, words: str) -> None:
    with pytest.raises(CommandError, match=words):
        raw_setting(register, ACS, harmless)


def test_a_register_whose_unit_is_not_known_is_not_set_by_number() -> None:
    with pytest.raises(CommandError, match="power_unit"):
        raw_setting(66, SNA, harmless)


def test_half_a_window_is_a_time_of_day() -> None:
    spelling = raw_setting(68, LARGE, harmless).spelling
    assert spelling.read("15127") == 59 << 8 | 23
    for raw in (24, 60 << 8, 23 | 60 << 8, 0xFFFF):
        with pytest.raises(CommandError):
            spelling.read(str(raw))


def test_a_word_of_bits_is_compared_as_a_whole() -> None:
    def named(setting: LxpSetting) -> bool:
        return setting.risk is Risk.HARMLESS or setting.key == "feed_in_grid"

    word = raw_setting(21, LARGE, named)
    assert not isinstance(word, LxpSetting)
    for bit in range(16):
        mays = bit in (7, 10, 11, 15)
        assert (word.objection(0xF354, 0xF354 ^ 1 << bit) is None) == mays, bit


def test_a_field_of_a_word_takes_only_its_codes_and_a_field_of_another_model_stays() -> None:
    small, large = raw_setting(120, SNA, everything), raw_setting(120, LARGE, everything)
    assert not isinstance(small, LxpSetting)
    assert not isinstance(large, LxpSetting)
    assert small.objection(0, 5 << 1) is None
    assert small.objection(0, 6 << 1) == "ac_charge_type cannot be 6"
    assert small.objection(0, 3 << 4) == "discharge_control_type cannot be 3"
    assert small.objection(0, 1 << 8) == "bits 8 must stay as they are; the word is 0 now"
    assert large.objection(0, 1 << 1) == "bits 1 must stay as they are; the word is 0 now"
    assert large.objection(0, 1 << 6) is None


# -- clocks


NOON = datetime(2026, 11, 27, 12, 0, 30)


def after(seconds: float) -> datetime:
    return datetime(2026, 11, 27, 12, int(seconds // 60), int(seconds % 60))


def test_a_clock_within_two_minutes_is_left_alone_and_looked_at_each_hour() -> None:
    keeper = Timekeeper()
    assert keeper.due(5.0)
    assert not keeper.judge(after(150), NOON, 5.0)
    assert not keeper.due(5.0 + LOOK_EVERY - 1)
    assert keeper.due(5.0 + LOOK_EVERY)


@pytest.mark.parametrize("shown", [after(151), datetime(2026, 11, 27, 11, 58, 29), None])
def test_a_clock_that_is_off_or_shows_nonsense_is_set(shown: datetime | None) -> None:
    assert Timekeeper().judge(shown, NOON, 0.0)


def test_a_clock_is_set_once_a_day_when_that_helps_and_each_hour_when_not() -> None:
    keeper = Timekeeper()
    assert keeper.judge(after(600), NOON, 0.0)
    assert keeper.due(LOOK_AGAIN)
    assert not keeper.judge(after(30), NOON, LOOK_AGAIN), "it helped"
    assert not keeper.judge(after(600), NOON, LOOK_EVERY)
    assert keeper.judge(after(600), NOON, DAY + 2 * LOOK_AGAIN)
    assert not keeper.judge(after(600), NOON, DAY + 3 * LOOK_AGAIN), "it did not help: not at once again"
    assert not keeper.due(DAY + 4 * LOOK_AGAIN)
    assert keeper.judge(after(600), NOON, DAY + LOOK_EVERY + 3 * LOOK_AGAIN)


def test_a_clock_that_cannot_be_set_is_tried_each_hour_however_often_the_link_breaks() -> None:
    keeper = Timekeeper()
    tries = 0
    for second in range(0, 7200, 30):
        keeper.look_now()
        tries += keeper.judge(after(600), NOON, float(second))
    assert tries == 2


@pytest.mark.parametrize("local", [datetime(2026, 11, 27, 11, 59, 50), datetime(2026, 11, 27, 12, 0, 9)])
def test_no_clock_is_set_close_to_the_full_hour(local: datetime) -> None:
    keeper = Timekeeper()
    assert not keeper.judge(after(1800), local, 0.0)
    assert keeper.due(NEAR_HOUR)


# -- changes by others


FAMILY = Family(10, PowerUnit.PERCENT, frozenset(Feature))


def test_what_others_change_is_named_bit_by_bit() -> None:
    changes = Changes()
    assert changes.saw(21, (0xF354,), FAMILY) == []
    assert changes.saw(21, (0xF3D4,), FAMILY) == [Changed("ac_charge", 21, False, True)]
    assert changes.saw(21, (0xF3D4,), FAMILY) == []


def test_a_window_is_named_once_whichever_word_changed() -> None:
    changes = Changes()
    changes.saw(68, (0x0000, 0x0000), FAMILY)
    assert changes.saw(68, (0x1E17, 0x0005), FAMILY) == [
        Changed("ac_charge_window_1", 68, "00:00-00:00", "23:30-05:00")
    ]
    assert changes.saw(69, (0x0006,), FAMILY)[0].new == "23:30-06:00"


def test_what_moves_by_itself_is_no_change() -> None:
    changes = Changes()
    changes.saw(12, (1, 2, 3), FAMILY)
    changes.saw(233, (1, 30), FAMILY)
    assert changes.saw(12, (1, 2, 4), FAMILY) == []
    assert changes.saw(233, (0, 29), FAMILY) == [], "the end of a quick charge"
    assert changes.saw(233, (1, 30), FAMILY) == [Changed("quick_charge", 233, False, True)]


def test_our_own_writes_are_no_change_but_what_comes_with_them_is() -> None:
    changes = Changes()
    changes.saw(21, (0xF354,), FAMILY)
    changes.writing(21, (0xF354,), (0xF3D4,))
    assert changes.saw(21, (0xF3D5,), FAMILY) == [Changed("eps", 21, False, True)]
    assert changes.saw(21, (0xF3D4,), FAMILY) == [Changed("eps", 21, True, False)]


def test_what_we_wrote_may_be_seen_late_and_somebody_may_take_it_back() -> None:
    changes = Changes()
    changes.saw(21, (0xF354,), FAMILY)
    changes.writing(21, (0xF354,), (0xF3D4,))
    changes.written()
    assert changes.saw(21, (0xF3D4,), FAMILY) == [], "ours, seen late"
    assert changes.saw(21, (0xF354,), FAMILY) == [Changed("ac_charge", 21, True, False)]
    assert changes.saw(21, (0xF3D4,), FAMILY) == [Changed("ac_charge", 21, False, True)]
