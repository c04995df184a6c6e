"""The tables: one row, one meaning, and no meaning without a name."""

from __future__ import annotations

import re

import pytest

from bridge.fields import PLAIN, Level
from bridge.luxpower.codes import FAULTS, OTHER, STATUS, WARNINGS
from bridge.luxpower.models import Family, Feature, PowerUnit, Scale, family_of
from bridge.luxpower.packs import PACKS
from bridge.luxpower.registers import HOLDS, INPUTS
from bridge.luxpower.rows import Layout, Row, Table, u32
from tests.luxpower import wire

TABLES = pytest.mark.parametrize("table", [INPUTS, HOLDS, PACKS], ids=["inputs", "holds", "packs"])


@TABLES
def test_every_key_is_announced_once_and_has_a_name(table: Table) -> None:
    keys = [field.key for field in table.fields]
    assert len(keys) == len(set(keys))
    for field in table.fields:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", field.key)
        assert field.name
        assert field.name[0].isupper() or field.name[0].isdigit()


@TABLES
def test_every_name_is_given_once(table: Table) -> None:
    names = [field.name for field in table.fields]
    assert sorted(name for name in names if names.count(name) > 1) == []


@TABLES
def test_no_two_rows_claim_the_same_bits(table: Table) -> None:
    claimed: dict[int, int] = {}
    for row in table.rows:
        for word in range(row.read.words):
            bits = row.read.claims >> 16 * word & 0xFFFF
            assert not claimed.get(row.register + word, 0) & bits, row.key
            claimed[row.register + word] = claimed.get(row.register + word, 0) | bits


@TABLES
def test_a_raw_word_beside_its_parts_is_hidden(table: Table) -> None:
    for row in table.rows:
        assert row.read.claims or row.level is Level.HIDDEN, row.key


@TABLES
def test_rows_stand_in_the_order_of_their_registers(table: Table) -> None:
    assert [row.register for row in table.rows] == sorted(row.register for row in table.rows)


@TABLES
def test_every_row_is_read_by_a_plan_of_the_whole_range(table: Table) -> None:
    length = max(row.register + row.read.words for row in table.rows)
    family = Family(10, PowerUnit.PERCENT, frozenset(Feature))
    values = Layout(table, family).decode(0, bytes(2 * length))
    assert values.keys() == {field.key for row in table.rows for field in row.fields()}


@TABLES
def test_derived_values_name_their_inputs_by_keys_that_exist(table: Table) -> None:
    keys = {field.key for field in table.fields}
    for row in table.derived:
        assert set(row.inputs) <= keys
        assert row.key not in row.inputs


def test_words_with_a_code_list_all_their_texts_and_keep_the_number_beside() -> None:
    status = next(field for field in INPUTS.fields if field.key == "status")
    assert set(status.options) == {*STATUS.values(), OTHER}
    code = next(field for field in INPUTS.fields if field.key == "status_code")
    assert code.level is Level.HIDDEN


def test_an_unknown_status_is_other_with_its_number() -> None:
    values = Layout(INPUTS, Family()).decode(0, wire.words([0x77]))
    assert (values["status"], values["status_code"]) == (OTHER, 0x77)


def test_every_fault_and_warning_bit_has_its_number() -> None:
    for letter, names in (("E", FAULTS), ("W", WARNINGS)):
        assert [name.split()[0] for name in names] == [f"{letter}{bit:03}" for bit in range(32)]


def test_two_ways_of_reading_one_register_are_no_table() -> None:
    half, whole = Row("half", PLAIN, "Half", 41), Row("whole", PLAIN, "Whole", 40, u32)
    assert Layout(Table(4, (half, half)), Family()).decode(40, bytes(4)) == {"half": 0}
    with pytest.raises(ValueError, match="different ways"):
        Layout(Table(4, (half, whole)), Family()).decode(40, bytes(4))


@pytest.mark.parametrize("start", range(38, 44))
@pytest.mark.parametrize("length", range(1, 5))
def test_a_32_bit_value_needs_both_its_words(start: int, length: int) -> None:
    values = Layout(INPUTS, Family()).decode(start, wire.words([1] * length))
    for key, register in (("e_pv_all_1", 40), ("e_pv_all_2", 42)):
        whole = start <= register and register + 2 <= start + length
        assert (key in values) == whole
        assert not whole or values[key] == 6553.7


@pytest.mark.parametrize(
    ("model", "divisor", "unit"),
    [
        (("BAAA", 4), 100, PowerUnit.PERCENT),
        (("AAAB", 4), 100, PowerUnit.PERCENT),
        (("FAAB", 12), 10, PowerUnit.HUNDRED_WATTS),
        (("EAAB", 2092), 10, PowerUnit.HUNDRED_WATTS),
        (("CBAA", 6), 10, None),
        (("CEAA", 54), 10, None),
        (("\0\0\0\0", 0), None, None),
        ((None, None), None, None),
    ],
)
def test_a_family_knows_only_what_is_known(
    model: tuple[str | None, int | None], divisor: int | None, unit: PowerUnit | None
) -> None:
    family = family_of(*model)
    assert (family.limit_divisor, family.power_unit) == (divisor, unit)
    assert (family.divisor(Scale.RATE) is None) == (unit is None)


def test_no_family_has_a_generator_where_those_registers_hold_something_else() -> None:
    assert Feature.GENERATOR in family_of("EAAB", 2092).features
    for model in (("CEAA", 54), ("CCAA", 38), ("CBAA", 6), ("EAAB", 54), ("BAAA", 4), (None, None)):
        assert Feature.GENERATOR not in family_of(*model).features


def test_the_password_and_the_write_only_registers_are_not_shown() -> None:
    covered = {row.register + word for row in HOLDS.rows for word in range(row.read.words)}
    assert covered & {11, 114, 225, 231} == set()
