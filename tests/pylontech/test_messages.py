"""Payloads: every model's shape, and what is refused."""

from __future__ import annotations

import random
import struct
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import ProtocolError
from bridge.pylontech import messages, system_messages
from bridge.pylontech import values as values_of
from bridge.pylontech.frame import Decoder, decode, reply_info
from bridge.pylontech.plausible import Watch
from tests.pylontech.build import analog_record, capture, reply

CELLS = [3300, 3301, 3302, 3303, 3304] * 3
WARM = [2731 + 250, 2731 + 220, 2731 + 221, 2731 + 219, 2731 + 223]
RECORD = analog_record(CELLS, WARM, -26, 33500, 50000)


def info_of(record: str, address: int = 2, flag: int = 0) -> bytes:
    return bytes.fromhex(f"{flag:02X}{address:02X}{record}")


def refused(record: str) -> ProtocolError:
    with pytest.raises(ProtocolError) as refusal:
        messages.analog(info_of(record), 2)
    return refusal.value


@given(
    st.lists(st.integers(2500, 3650), min_size=1, max_size=20),
    st.lists(st.integers(2731 - 300, 2731 + 800), min_size=1, max_size=8),
    st.integers(-2000, 2000),
    st.integers(0, 60000),
    st.sampled_from((2, 4)),
)
def test_what_is_written_is_read_for_any_counts(
    cells: list[int], warm: list[int], current: int, left: int, items: int
) -> None:
    if not sum(cells) >= 5000:
        cells = cells + [3300] * 2
    values = messages.analog(info_of(analog_record(cells, warm, current, left, 60000, items=items)), 2)
    assert [values[f"cell_{n}_voltage"] for n in range(1, len(cells) + 1)] == [mv / 1000 for mv in cells]
    assert values["voltage"] == sum(cells) / 1000
    assert values["current"] == current / 10
    assert values["remaining_capacity"] == left / 1000
    assert values["temperature"] == (warm[0] - 2731) / 10
    fields = {field.key for field in (*messages.MEASURED, *values_of.temperatures(len(warm))[1:])}
    assert set(values) == fields | {f"cell_{n}_voltage" for n in range(1, len(cells) + 1)}


def test_a_payload_cut_anywhere_is_refused() -> None:
    whole = info_of(RECORD)
    for end in range(len(whole)):
        with pytest.raises(ProtocolError, match="length"):
            messages.analog(whole[:end], 2)


def test_a_byte_too_many_is_refused_where_none_is_known() -> None:
    assert refused(RECORD + "00").kind == "length"


def test_more_than_four_items_may_carry_more_behind_the_capacities() -> None:
    record = analog_record(CELLS, WARM, -26, 70000, 100000, items=5)
    assert messages.analog(info_of(record + "0102"), 2)["remaining_capacity"] == 70.0
    assert refused(record + "00" * 17).kind == "length"


@pytest.mark.parametrize("items", [0, 1, 3])
def test_unknown_item_counts_are_refused(items: int) -> None:
    assert refused(analog_record(CELLS, WARM, 0, 1000, 50000, items=items)).kind == "format"


def test_capacities_that_contradict_the_item_count_are_refused() -> None:
    two_that_point_on = RECORD.replace("82DC02C350", "FFFF02FFFF")
    four_that_do_not = analog_record(CELLS, WARM, 0, 70000, 100000, items=4).replace("FFFF04FFFF", "82DC04C350")
    assert refused(two_that_point_on).kind == refused(four_that_do_not).kind == "format"


def test_an_empty_capacity_has_no_state_of_charge() -> None:
    values = messages.analog(info_of(analog_record(CELLS, WARM, 0, 0, 0)), 2)
    assert (values["soc"], values["total_capacity"]) == (None, 0.0)
    assert refused(analog_record(CELLS, WARM, 0, 1, 0)).kind == "implausible"


@pytest.mark.parametrize("raw", [0x0000, 0xFFFF])
def test_an_absent_sensor_is_null_and_the_others_hold(raw: int) -> None:
    values = messages.analog(info_of(analog_record(CELLS, [WARM[0], raw, *WARM[2:]], 0, 1000, 50000)), 2)
    assert values["temperature_2"] is None
    assert values["temperature_3"] == 22.1
    assert (values["cell_min_temperature"], values["cell_min_temperature_sensor"]) == (21.9, 4)


@pytest.mark.parametrize(
    "record",
    [
        analog_record([*CELLS[:14], 0], WARM, 0, 1000, 50000),
        analog_record([*CELLS[:14], 0xFFFF], WARM, 0, 1000, 50000),
        analog_record(CELLS, WARM, 0x7FFF, 1000, 50000),
        analog_record(CELLS, WARM, 0, 1000, 50000, voltage=sum(CELLS) - 600),
        analog_record(CELLS, WARM, 0, 1000, 50000, voltage=0xFFFF),
        analog_record(CELLS, [2731 - 500, *WARM[1:]], 0, 1000, 50000),
        analog_record(CELLS, [*WARM, 0x7FFF], 0, 1000, 50000),
        analog_record(CELLS, WARM, 0, 65000, 50000),
        analog_record(CELLS, WARM, 0, 1000, 50000, cycles=0xFFFF),
        "00" + analog_record([], WARM, 0, 1000, 50000, voltage=0)[2:],
    ],
    ids=["cell 0 V", "cell FFFF", "current", "sum of cells", "voltage FFFF", "too cold", "too hot", "SOC 130", "cycles",
         "no cells"],
)  # fmt: skip
def test_what_no_module_can_mean_is_refused_as_implausible(record: str) -> None:
    assert refused(record).kind == "implausible"


def test_the_echo_of_another_module_is_foreign() -> None:
    with pytest.raises(ProtocolError, match="foreign"):
        messages.analog(info_of(RECORD, 3), 2)
    assert messages.analog(info_of(RECORD, 0x07), 0x37)["cycles"] == 7


def test_a_group_reply_is_not_mistaken_for_a_single_one() -> None:
    both = bytes.fromhex(f"0002{RECORD}{RECORD}")
    assert len(messages.analog_group(both)) == 2
    with pytest.raises(ProtocolError, match="length"):
        messages.analog(both, 2)
    with pytest.raises(ProtocolError, match="length"):
        messages.analog_group(info_of(RECORD))


def test_a_sleeping_module_filled_with_zeros_is_none_in_a_group() -> None:
    zeros = analog_record([0] * 15, [0] * 5, 0, 0, 0, cycles=0)
    found = messages.analog_group(bytes.fromhex(f"0003{RECORD}{zeros}{RECORD}"))
    assert [values is not None for values in found] == [True, False, True]


@pytest.mark.parametrize("count", [0, 17, 255])
def test_impossible_group_sizes_are_refused(count: int) -> None:
    with pytest.raises(ProtocolError):
        messages.analog_group(bytes.fromhex(f"00{count:02X}{RECORD}"))
    with pytest.raises(ProtocolError):
        messages.alarm_group(bytes.fromhex(f"00{count:02X}{'00' * 30}"))


@given(st.binary(max_size=120))
def test_any_payload_is_read_or_refused_and_nothing_else_happens(info: bytes) -> None:
    for read in (messages.analog, messages.alarm, messages.management, messages.serial_number, messages.firmware):
        try:
            read(info, 2)
        except ProtocolError:
            continue
    for name in ("analog_group", "alarm_group", "management_group", "parameters", "identity", "system_analog",
                 "system_alarm", "system_management"):  # fmt: skip
        try:
            (getattr(messages, name, None) or getattr(system_messages, name))(info)
        except ProtocolError:
            continue


@given(st.integers(1, 24), st.integers(0, 8), st.binary(max_size=80), st.integers(0, 3))
def test_any_announced_counts_are_read_or_refused(cells: int, sensors: int, rest: bytes, shift: int) -> None:
    info = bytes([0, 2, cells, *rest[: 2 * cells + shift], sensors, *rest])
    for read in (messages.analog, messages.alarm):
        try:
            read(info, 2)
        except ProtocolError:
            continue


def alarm_info(*, cells: str = "00" * 15, singles: str = "000000", status: str = "000E000000") -> bytes:
    return bytes.fromhex(f"00020F{cells}05{'00' * 5}{singles}{status}")


@pytest.mark.parametrize("code", ["03", "0F", "F1", "80", "FF"])
def test_a_state_code_that_does_not_exist_is_refused(code: str) -> None:
    with pytest.raises(ProtocolError, match="implausible"):
        messages.alarm(alarm_info(cells="00" * 14 + code), 2)
    with pytest.raises(ProtocolError, match="implausible"):
        messages.alarm(alarm_info(singles=f"00{code}00"), 2)


def test_a_fault_of_a_cell_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ProtocolError, match="implausible"):
        messages.alarm(alarm_info(status="000E000080"), 2)


@pytest.mark.parametrize("bit", messages.BITS, ids=lambda bit: bit.short or bit.field.key)
def test_each_status_bit_raises_its_own_value_alone(bit: messages.Bit) -> None:
    status = bytearray(5)
    quiet = messages.alarm(alarm_info(status="0000000000"), 2)
    status[bit.byte - 1] = 1 << bit.bit
    raised = messages.alarm(alarm_info(status=status.hex()), 2)
    assert {key for key in raised if raised[key] != quiet[key]} == {bit.field.key}


def test_every_bit_of_the_old_monitor_is_there() -> None:
    monitor = "UV OV CHG_OC DIS_OC CHG_OT DIS_OT CHG_FET DIS_FET CELL_UV BUZ FULL ONBAT DE CE EDC ECC CI1 CI2 FCR"
    shorts = {bit.short for bit in (*messages.BITS, *messages.ALLOWANCES)}
    assert shorts == {*monitor.split(), ""}


@pytest.mark.parametrize("cell", range(1, 16))
def test_each_fault_bit_names_its_cell(cell: int) -> None:
    status = 1 << (cell - 1)
    values = messages.alarm(alarm_info(status=f"000E00{status & 255:02X}{status >> 8:02X}"), 2)
    assert (values["cell_fault"], values["faulty_cells"]) == (True, str(cell))


def test_a_negative_charge_limit_is_refused() -> None:
    with pytest.raises(ProtocolError, match="charge_current_limit"):
        messages.management(bytes.fromhex("02D002B798FF06FF06C0"), 2)


def test_reserved_bits_of_the_allowances_are_refused() -> None:
    with pytest.raises(ProtocolError, match="management status"):
        messages.management(bytes.fromhex("02D002B79800FAFF06C1"), 2)


def test_a_blank_serial_number_is_not_known_and_a_binary_one_refused() -> None:
    assert messages.serial_number(b"\x02" + bytes(16), 2) == {"serial": None}
    with pytest.raises(ProtocolError, match="implausible"):
        messages.serial_number(b"\x02ABC\x1b[31mDEFGHIJKL"[:17].ljust(17, b"\0"), 2)


def test_writing_commands_cannot_be_asked() -> None:
    for command in (0x91, 0x94, 0x95, 0x99, 0x82):
        with pytest.raises(ValueError, match="not one that reads"):
            messages.request(command, 2)
        with pytest.raises(ValueError, match="does not exist"):
            messages.group_request(command, 0)


# -- what the checksum cannot see --------------------------------------------------------------------------------------


def believed(frame: bytes) -> messages.Values | None:
    decoder = Decoder()
    decoder.receive(frame)
    try:
        found = decoder.next_frame()
        return None if found is None else messages.analog(reply_info(found, 2), 2)
    except ProtocolError:
        return None


def passes_checksum(frame: bytes) -> bool:
    try:
        return decode(frame) is not None
    except ProtocolError:
        return False


def damaged_frames(whole: bytes, rng: random.Random, count: int) -> list[bytes]:
    """Swaps of two characters, and two to eight flipped bits, of which most fail the checksum."""
    frames = []
    for n in range(count):
        raw = bytearray(whole)
        if n % 2:
            a, b = rng.sample(range(1, len(raw) - 5), 2)
            raw[a], raw[b] = raw[b], raw[a]
        else:
            for place in rng.sample(range(1, len(raw) - 1), rng.randint(2, 8)):
                raw[place] ^= 1 << rng.randrange(8)
        if bytes(raw) != whole:
            frames.append(bytes(raw))
    return frames


def test_damage_that_passes_the_checksum_is_nearly_always_caught_behind_it() -> None:
    _, whole, _ = capture("analog-15-cells")
    before = believed(whole)
    assert before is not None
    tally: Counter[str] = Counter()
    for frame in damaged_frames(whole, random.Random(1), 20000):
        tally["damaged"] += 1
        if not passes_checksum(frame):
            continue
        tally["checksum passed"] += 1
        values = believed(frame)
        if values is None or values == before:
            continue
        tally["frame checks passed"] += 1
        watch = Watch()
        for second in range(4):
            watch.admit(before, float(second))
        try:
            watch.admit(values, 4.0)
        except ProtocolError:
            continue
        tally["believed"] += 1
    print(f"\n{dict(tally)}")
    assert tally["checksum passed"] > 1000
    assert tally["frame checks passed"] < 0.4 * tally["checksum passed"]
    # What is left moved current, capacity or a temperature by little, or exchanged two cells' last digits.
    assert tally["believed"] < 0.04 * tally["checksum passed"]


def test_no_single_bit_error_gives_a_value() -> None:
    _, whole, _ = capture("analog-6-temperatures")
    for place in range(len(whole)):
        for bit in range(8):
            raw = bytearray(whole)
            raw[place] ^= 1 << bit
            assert believed(bytes(raw)) is None


def test_a_captured_frame_is_read_at_another_address_only_by_asking_it() -> None:
    frame = decode(reply(5, "0005" + RECORD))
    with pytest.raises(ProtocolError, match="foreign"):
        reply_info(frame, 2)
    assert messages.analog(reply_info(frame, 5), 5)["current"] == -2.6


def system_analog(**words: int) -> bytes:
    """Return a 61h payload with these temperatures in 0.1 K."""
    warm = {"cells": 2981, "hottest": 2991, "coldest": 2971, "mos": 3001, "mos_max": 3011, "mos_min": 2991,
            "board": 2981, "board_max": 2991, "board_min": 2971}  # fmt: skip
    ends = [value for name, one in (warm | words).items() for value in ((one,) if name in ONE else (one, 0x0101))]
    return struct.pack(">HhBHHBBHHHH", 49900, 0, 60, 100, 120, 99, 98, 3330, 0x0102, 3320, 0x0103) + struct.pack(
        f">{len(ends)}H", *ends
    )


ONE = ("cells", "mos", "board")
"""Averages: no module and cell stand behind them."""


@pytest.mark.parametrize("padding", [0x0000, 0xFFFF])
def test_where_a_battery_has_no_such_temperature_it_is_not_known(padding: int) -> None:
    assert system_messages.system_analog(system_analog())["max_temperature"] == 26.0
    values = system_messages.system_analog(system_analog(mos_max=padding, board=padding, board_min=padding))
    assert [values[key] for key in ("mos_max_temperature", "temperature", "min_temperature")] == [None] * 3
    assert (values["mos_min_temperature"], values["soh_min"]) == (26.0, 98)


@pytest.mark.parametrize("field", ["cells", "mos_max", "mos_min", "board_max", "board_min"])
def test_a_61h_reply_with_an_impossible_temperature_is_refused(field: str) -> None:
    for word in (1, 2731 - 600, 2731 + 1600):
        with pytest.raises(ProtocolError, match="implausible"):
            system_messages.system_analog(system_analog(**{field: word}))


@pytest.mark.parametrize("word", range(12))
def test_a_47h_reply_with_an_impossible_level_is_refused(word: int) -> None:
    levels = [3650, 3050, 2800, 3331, 2631, 1000, 54000, 46000, 43000, 3331, 2631, 0x10000 - 1000]
    assert messages.parameters(b"\0" + struct.pack(">12H", *levels))["charge_current_protection"] == 100.0
    levels[word] = 200 if word in (6, 7, 8) else 0x8001
    with pytest.raises(ProtocolError, match="implausible"):
        messages.parameters(b"\0" + struct.pack(">12H", *levels))
