"""lxp-bridge's scheme made of our registers: its keys, signs and topics; its commands turned into ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from bridge.config import load
from bridge.errors import CommandError, ConfigError
from bridge.fields import Channel, Reading, Unit, Value
from bridge.inbox import Foreign, ReadRegisters, SetSetting
from bridge.luxpower.device import Options
from bridge.luxpower.frame import Function, Registers
from bridge.luxpower.lxp_bridge import KEYS, Mirror, translate
from bridge.lxp_bridge import BARE, NO_SENSOR, LxpBridge
from tests.harness import await_true
from tests.luxpower.rig import DATALOG, SERIAL, Site, eager, quiet, short, site

__all__ = ["short"]

# written down from celsworth/lxp-bridge src/lxp/packet.rs, as a judge of what is made of our own tables
ITS_KEYS = (
    "status v_pv_1 v_pv_2 v_pv_3 v_bat soc soh internal_fault p_pv p_pv_1 p_pv_2 p_pv_3 p_battery p_charge p_discharge "
    "v_ac_r v_ac_s v_ac_t f_ac p_inv p_rec pf v_eps_r v_eps_s v_eps_t f_eps p_eps s_eps p_grid p_to_grid p_to_user "
    "e_pv_day e_pv_day_1 e_pv_day_2 e_pv_day_3 e_inv_day e_rec_day e_chg_day e_dischg_day e_eps_day e_to_grid_day "
    "e_to_user_day v_bus_1 v_bus_2",
    "e_pv_all e_pv_all_1 e_pv_all_2 e_pv_all_3 e_inv_all e_rec_all e_chg_all e_dischg_all e_eps_all e_to_grid_all "
    "e_to_user_all fault_code warning_code t_inner t_rad_1 t_rad_2 t_bat runtime",
    "max_chg_curr max_dischg_curr charge_volt_ref dischg_cut_volt bat_status_0 bat_status_1 bat_status_2 bat_status_3 "
    "bat_status_4 bat_status_5 bat_status_6 bat_status_7 bat_status_8 bat_status_9 bat_status_inv bat_count "
    "bat_capacity bat_current bms_event_1 bms_event_2 max_cell_voltage min_cell_voltage max_cell_temp min_cell_temp "
    "bms_fw_update_state cycle_count vbat_inv",
    "v_gen f_gen p_gen e_gen_day e_gen_all v_eps_l1 v_eps_l2 p_eps_l1 p_eps_l2 s_eps_l1 s_eps_l2 e_eps_l1_day "
    "e_eps_l2_day e_eps_l1_all e_eps_l2_all",
)


def test_every_key_of_its_four_blocks_is_made_of_our_rows_and_no_other() -> None:
    assert [set(block) for block in KEYS] == [set(line.split()) for line in ITS_KEYS]


def test_all_its_sensors_and_no_more_are_left_when_the_others_are_taken_out() -> None:
    keys = {key for block in KEYS for key in block}
    assert keys > NO_SENSOR
    assert len(keys - NO_SENSOR) == 74


# -- what it tells


def told(house: Site) -> dict[str, Mapping[str, Value]]:
    return {str(r.topic): r.values for r in house.told(Channel.COMPAT)}


def test_its_topics_come_of_pushes_and_polls_with_the_values_of_our_own_state(short: None) -> None:
    with eager(model="acs") as one, site(one, compat="lxp-bridge") as house:
        await_true(lambda: {"inputs/1", "inputs/2", "inputs/all", "hold/21/bits", "ac_first/3"} <= told(house).keys(),
                   10, f"its topics: {sorted(told(house))}")  # fmt: skip
        by_time = {reading.at: reading.values for reading in reversed(house.states())}  # told again behind a round
        for reading in house.told(Channel.COMPAT):
            assert reading.unit.path == DATALOG
            if reading.topic == "inputs/1":
                ours = by_time[max(at for at in by_time if at <= reading.at)]
                expected = {its: ours[key] for its, key in KEYS[0].items() if ours[key] is not None}
                assert reading.values == {**expected, "datalog": DATALOG}
        seen = told(house)
        assert isinstance(seen["inputs/all"]["status"], int), "the code, as it has it"
        battery = (seen["inputs/1"]["p_charge"], seen["inputs/1"]["p_discharge"], seen["inputs/1"]["p_battery"])
        assert isinstance(battery[0], int)
        assert isinstance(battery[1], int)
        assert battery[2] == battery[0] - battery[1], "negative while discharging"
        assert seen["input/0/parsed"][BARE]
        assert seen["input/fault_code/parsed"] == {BARE: "none"}
        word = one.inverters[0].holds[64]
        assert seen["hold/64"] == {BARE: word}
        assert "hold/225" not in seen, "a password"
        assert {family.rpartition("/")[0] for family in seen if family[-2:] == "/2" and "start" in seen[family]} == {
            "ac_charge", "ac_first", "charge_priority", "forced_discharge",
        }  # fmt: skip


def test_bits_of_register_21_are_on_and_off_by_its_names(short: None) -> None:
    with quiet(model="acs") as one, site(one, compat="lxp-bridge", datalogger=DATALOG, inverter=SERIAL) as house:
        one.inverters[0].holds[21] = 1 << 7 | 1 << 9
        await_true(lambda: "hold/21/bits" in told(house), 10, "bits")
        bits = told(house)["hold/21/bits"]
        assert [name for name, state in bits.items() if state == "ON"] == ["ac_charge_en", "set_to_standby"]
        assert len(bits) == 16
        assert set(bits.values()) == {"ON", "OFF"}


UNIT = Unit("", "house", (), 90.0, SERIAL)


def mirror(**options: bool) -> Mirror:
    return Mirror(UNIT, DATALOG, LxpBridge(**options))


def block(first: int, *words: int, function: int = Function.READ_INPUT) -> Registers:
    data = b"".join(word.to_bytes(2, "little") for word in words)
    return Registers(2, DATALOG, SERIAL, function, first, data)


def topics(readings: list[Reading]) -> list[str]:
    return [str(reading.topic) for reading in readings]


STATE: dict[str, Value] = dict.fromkeys(
    ["fault", "warning", "status", *(ours for keys in KEYS for ours in keys.values())], 1
)


def inputs(one: Mirror, first: int, count: int) -> list[str]:
    return [t for t in topics(list(one.of(block(first, *[0] * count), 1.0, STATE))) if t.startswith("inputs")]


def test_all_comes_with_the_second_block_and_does_not_wait_for_a_fourth() -> None:
    one = mirror()
    assert inputs(one, 0, 40) == ["inputs/1"]
    assert inputs(one, 40, 40) == ["inputs/2", "inputs/all"]
    assert inputs(one, 80, 40) == ["inputs/3", "inputs/all"]
    assert inputs(one, 120, 40) == ["inputs/4", "inputs/all"]


@pytest.mark.parametrize(("sizes", "expected"), [
    ((127,), [["inputs/1", "inputs/2", "inputs/3", "inputs/all"]]),
    ((125, 125), [["inputs/1", "inputs/2", "inputs/3", "inputs/all"], ["inputs/4", "inputs/all"]]),
    ((80, 80), [["inputs/1", "inputs/2", "inputs/all"], ["inputs/3", "inputs/4", "inputs/all"]]),
])  # fmt: skip
def test_larger_blocks_fill_the_same_topics(sizes: tuple[int, ...], expected: list[list[str]]) -> None:
    one, first, seen = mirror(), 0, []
    for size in sizes:
        seen.append(inputs(one, first, size))
        first += size
    assert seen == expected


def test_a_part_of_a_block_fills_none() -> None:
    one = mirror()
    assert inputs(one, 39, 1) == []
    assert inputs(one, 20, 20) == []
    assert inputs(one, 0, 20) == []
    assert inputs(one, 20, 20) == ["inputs/1"], "both halves, one after the other"


def test_what_is_not_known_is_left_out_and_not_null() -> None:
    one = mirror()
    state = {**STATE, "v_pv_3": None, "p_pv": None}
    (reading,) = (r for r in one.of(block(0, *[0] * 40), 1.0, state) if r.topic == "inputs/1")
    assert "v_pv_3" not in reading.values
    assert "p_pv" not in reading.values
    assert None not in reading.values.values()


def test_single_inputs_are_told_when_they_are_configured_or_asked_for() -> None:
    assert topics(list(mirror().of(block(7, 1, 2), 1.0, None))) == []
    assert topics(list(mirror(individual_input=True).of(block(7, 1, 2), 1.0, None))) == ["input/7", "input/8"]
    one = mirror()
    one.again(Function.READ_INPUT, 8, 9)
    assert topics(list(one.of(block(7, 1, 2), 1.0, None))) == ["input/8"]
    assert topics(list(one.of(block(7, 1, 2), 1.0, None))) == [], "once"


def test_a_setting_is_told_when_it_changes_or_is_asked_for() -> None:
    one = mirror()
    frame = block(64, 100, 90, function=Function.READ_HOLD)
    assert topics(list(one.of(frame, 1.0, None))) == ["hold/64", "hold/65"]
    assert topics(list(one.of(frame, 2.0, None))) == []
    one.again(Function.READ_HOLD, 65, 66)
    assert topics(list(one.of(frame, 3.0, None))) == ["hold/65"]
    changed = block(64, 50, 90, function=Function.READ_HOLD)
    assert topics(list(one.of(changed, 4.0, None))) == ["hold/64"]


def test_a_window_needs_both_words_of_one_frame_and_times_that_exist() -> None:
    one = mirror()
    assert topics(list(one.of(block(68, 5, function=Function.READ_HOLD), 1.0, None))) == ["hold/68"]
    readings = list(one.of(block(68, 0x1E17, 0x0005, function=Function.READ_HOLD), 2.0, None))
    assert readings[-1].topic == "ac_charge/1"
    assert readings[-1].values == {"start": "23:30", "end": "05:00"}
    assert topics(list(one.of(block(68, 0x1E18, 5, function=Function.READ_HOLD), 3.0, None))) == ["hold/68"]


def test_numbers_are_offered_where_the_model_counts_percent() -> None:
    one = mirror()
    assert one.unit.settings == (), "nothing is known yet"
    one.settled("%")
    assert len(one.unit.settings) == 11
    for unit in ("kW", None):
        one.settled(unit)
        left = {field.key for field in one.unit.settings}
        assert len(left) == 9
        assert not left & {"AcChargePowerCmd", "ChargePriorityPowerCmd"}


# -- what it takes


def foreign(path: str, payload: bytes = b"") -> Foreign:
    return Foreign(path, payload, 1.0, 31.0, "lxp/cmd/x", "tag")


@pytest.mark.parametrize(("path", "payload", "expected"), [
    ("read/inputs/1", b"", ("input", 0, 40)),
    ("read/inputs/4", b"whatever", ("input", 120, 40)),
    ("read/input/5", b"", ("input", 5, 1)),
    ("read/input/5", b"3", ("input", 5, 3)),
    ("read/hold/64", b"two", ("hold", 64, 1)),
    ("read/hold/64", b"0", ("hold", 64, 1)),
    ("read/ac_charge/2", b"", ("hold", 70, 2)),
    ("read/ac_first/3", b"", ("hold", 156, 2)),
    ("read/charge_priority/1", b"", ("hold", 76, 2)),
    ("read/forced_discharge/3", b"", ("hold", 88, 2)),
    ("read/param/0", b"", ("param", 0, 1)),
])  # fmt: skip
def test_its_readings_become_ours(path: str, payload: bytes, expected: tuple[str, int, int]) -> None:
    command = translate(foreign(path, payload), None)
    assert command == ReadRegisters(*expected, "tag")


@pytest.mark.parametrize(
    "path", ["read", "read/inputs/5", "read/hold", "read/hold/x", "read/hold/70000", "read/ac_charge/4", "read/param/6"]
)
def test_a_reading_there_is_not_is_refused(path: str) -> None:
    with pytest.raises(CommandError):
        translate(foreign(path), None)


@pytest.mark.parametrize("count", [b"128", b"99999"])
def test_a_reading_of_more_than_a_frame_holds_is_refused(count: bytes) -> None:
    with pytest.raises(CommandError, match="127 at most"):
        translate(foreign("read/hold/0", count), None)


@pytest.mark.parametrize(("path", "payload", "setting", "text"), [
    ("set/ac_charge", b"1", "ac_charge", b"on"),
    ("set/ac_charge", b"Yes", "ac_charge", b"on"),
    ("set/charge_priority", b"T", "charge_priority", b"on"),
    ("set/forced_discharge", b"OFF", "forced_discharge", b"off"),
    ("set/forced_discharge", b"0", "forced_discharge", b"off"),
    ("set/ac_charge", b"onn", "ac_charge", b"onn"),
    ("set/ac_charge", b"", "ac_charge", b""),
    ("set/ac_charge/1", b'{"start":"23:30","end":"05:30"}', "ac_charge_window_1", b"23:30-05:30"),
    ("set/ac_first/3", b'{"start":"5:00", "end":"6:0"}', "ac_first_window_3", b"05:00-06:00"),
    ("set/charge_priority/2", b'{"start":"25:00","end":"26:00"}', "charge_priority_window_2", b"25:00-26:00"),
    ("set/ac_charge/1", b'{"start":5,"end":6}', "ac_charge_window_1", b'{"start":5,"end":6}'),
    ("set/ac_charge/1", b"[", "ac_charge_window_1", b"["),
    ("set/charge_rate_pct", b"50", "charge_rate_pct", b"50"),
    ("set/discharge_cutoff_soc_limit_pct", b"20", "discharge_cutoff_soc_limit_pct", b"20"),
    ("set/hold/64", b"50", "charge_rate_pct", b"50"),
    ("set/hold/161", b"90", "ac_charge_end_soc_pct", b"90"),
    ("set/hold/119", b"1", "hold/119", b"1"),
    ("set/hold/064", b"1", "hold/064", b"1"),
    ("set/param/0", b"60", "param/0", b"60"),
    ("set/nothing", b"60", "nothing", b"60"),
    ("what/ever", b"", "what/ever", b""),
])  # fmt: skip
def test_its_settings_become_ours(path: str, payload: bytes, setting: str, text: bytes) -> None:
    command = translate(foreign(path, payload), None)
    assert isinstance(command, SetSetting)
    assert (command.setting, command.payload) == (setting, text)
    assert (command.unit, command.expires, command.source, command.tag) == ("", 31.0, "lxp/cmd/x", "tag")


@pytest.mark.parametrize(("unit", "by_name", "by_number"), [
    ("%", "ac_charge_rate", "ac_charge_rate"),
    # a model that counts 100 W must not take 50 for 5 kW: as a percentage there is no such setting, by number the
    # raw write decides
    ("kW", "ac_charge_rate_pct", "hold/66"),
    (None, "ac_charge_rate_pct", "hold/66"),
])  # fmt: skip
def test_a_rate_is_a_percentage_only_where_the_model_counts_percent(
    unit: Value, by_name: str, by_number: str
) -> None:
    for path, expected in (("set/ac_charge_rate_pct", by_name), ("set/hold/66", by_number)):
        command = translate(foreign(path, b"50"), unit)
        assert isinstance(command, SetSetting)
        assert command.setting == expected


# -- the configuration

FILE = """
mqtt: {{host: localhost}}
devices:
  - {{name: house, type: lxp, host: 192.168.0.30, {more}}}
"""


def options_of(tmp_path: Path, more: str) -> Options:
    file = tmp_path / "config.yaml"
    file.write_text(FILE.format(more=more))
    (device,) = load(file, {}).devices
    assert isinstance(device, Options)
    return device


def test_compat_alone_is_enough(tmp_path: Path) -> None:
    assert options_of(tmp_path, "compat: lxp-bridge").compat == "lxp-bridge"
    assert options_of(tmp_path, "compat: lxp-bridge, lxp_bridge: {namespace: attic}").lxp_bridge == LxpBridge(
        namespace="attic"
    )


@pytest.mark.parametrize(("more", "complaint"), [
    ("compat: lxpbridge", "expected lxp-bridge"),
    ("lxp_bridge: {namespace: lxp}", "of no use without compat"),
    ("compat: lxp-bridge, lxp_bridge: {namespace: 'a/#'}", "cannot hold"),
    ('compat: lxp-bridge, inverter: ["4512670118", "4512670119"]', "one inverter"),
])  # fmt: skip
def test_what_lxp_bridge_has_no_place_for_is_refused(tmp_path: Path, more: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        options_of(tmp_path, more)


def test_e15_a_command_that_waits_in_the_inbox_at_the_end_fails_and_says_so(short: None) -> None:
    with eager(model="acs") as one, site(one, compat="lxp-bridge") as house:
        house.await_states(1)
    house.put(foreign("set/ac_charge", b"on"))
    house.put(foreign("read/hold/64"))
    house.publisher._refuse_the_rest()
    answers = [(r.tag, r.values["outcome"]) for r in house.sink.readings if r.tag == "tag"]
    assert answers == [("tag", "refused"), ("tag", "failed")]
