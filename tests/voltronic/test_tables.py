"""What every table must keep: keys are a contract."""

from __future__ import annotations

import re

import pytest

from bridge.fields import Field
from bridge.voltronic.inquiries import ALARMS, FLAGS, PI30, PI41, QPGS, lone_unit, unit_of_set, whole_set
from bridge.voltronic.inquiry import Inquiry, Token
from bridge.voltronic.pi18_inquiries import PI18
from bridge.voltronic.plan import ALSO, PLANS, Plan

TABLES = {"PI30": PI30, "PI41": PI41, "PI18": PI18}
INQUIRIES = [(protocol, inquiry) for protocol, table in TABLES.items() for inquiry in table.values()]


def forms(inquiry: Inquiry) -> list[tuple[Token, ...]]:
    return [inquiry.rows, *inquiry.forms.values()]


def announced(inquiry: Inquiry) -> list[Field]:
    return [item for rows in forms(inquiry) for row in rows for item in row.fields()] + list(inquiry.derived)


def root_fields(plan: Plan) -> dict[str, set[str]]:
    """Key -> the inquiries that fill it in the root unit's state."""
    found: dict[str, set[str]] = {}
    sources = [plan.table[ask.name] for ask in plan.asks]
    if plan.parallel:
        sources += [whole_set(plan.table[plan.parallel]), lone_unit(plan.table[plan.parallel])]
    for number, inquiry in enumerate(sources):
        for item in (*announced(inquiry), *inquiry.fields()):
            found.setdefault(item.key, set()).add(f"{inquiry.command}.{number}")
    return found


@pytest.mark.parametrize(("protocol", "inquiry"), INQUIRIES, ids=lambda part: getattr(part, "command", part))
def test_keys_and_wire_names_of_one_form_are_unique(protocol: str, inquiry: Inquiry) -> None:
    for rows in forms(inquiry):
        keys = [item.key for row in rows for item in row.fields()] + [item.key for item in inquiry.derived]
        assert len(keys) == len(set(keys))
        assert len(rows) == len({row.wire_name for row in rows})


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_no_two_questions_fill_the_same_key(plan: Plan) -> None:
    assert {key: who for key, who in root_fields(plan).items() if len(who) > 1} == {}


@pytest.mark.parametrize(("protocol", "inquiry"), INQUIRIES, ids=lambda part: getattr(part, "command", part))
def test_every_announced_value_has_a_key_and_words_of_its_own(protocol: str, inquiry: Inquiry) -> None:
    for item in announced(inquiry):
        assert re.fullmatch(r"[a-z][a-z0-9_]*", item.key)
        assert item.name[:1].isupper() or item.name[:1].isdigit()
        assert item.name == item.name.strip()


@pytest.mark.parametrize(("protocol", "inquiry"), INQUIRIES, ids=lambda part: getattr(part, "command", part))
def test_a_wire_name_means_the_same_in_every_form(protocol: str, inquiry: Inquiry) -> None:
    seen: dict[str, Token] = {}
    for rows in forms(inquiry):
        for row in rows:
            assert seen.setdefault(row.wire_name, row) == row


def test_words_for_codes_are_unique_and_lower_case() -> None:
    for _, inquiry in INQUIRIES:
        for row in (row for rows in forms(inquiry) for row in rows if row.codes):
            words = list(row.codes.values())
            assert len(words) == len(set(words)), row.key
            assert all(re.fullmatch(r"[a-z][a-z0-9_]*", word) for word in words)
            assert "other" not in words


def test_no_two_bits_of_a_field_are_the_same() -> None:
    for _, inquiry in INQUIRIES:
        for row in (row for rows in forms(inquiry) for row in rows):
            assert len({bit.at for bit in row.bits}) == len(row.bits)


def test_an_alarm_bit_is_named_once_for_each_length() -> None:
    for length in (32, 36, 38):
        for pi41 in (False, True):
            bits = [alarm.bit for alarm in ALARMS if length in alarm.lengths and (pi41 or not alarm.pi41)]
            keys = [alarm.key for alarm in ALARMS if length in alarm.lengths and (pi41 or not alarm.pi41)]
            assert len(set(bits)) == len(bits) == len(set(keys))
            assert all(bit < length for bit in bits)
    assert len({flag.letter for flag in FLAGS}) == len({flag.key for flag in FLAGS}) == len(FLAGS)


def test_the_views_of_a_parallel_unit_leave_nothing_out_and_double_nothing() -> None:
    unit = {row.key for row in unit_of_set(QPGS).rows}
    whole = {row.key for row in whole_set(QPGS).rows}
    assert unit | whole == {row.key for row in QPGS.rows}
    assert not unit & whole
    assert {row.key for row in lone_unit(QPGS).rows} == {"active_fault"}


def test_every_question_of_a_plan_has_its_table() -> None:
    for plan in PLANS.values():
        for ask in plan.asks:
            assert ask.name in plan.table
        assert {plan.status, plan.serial, plan.clock} <= set(plan.table)
        assert plan.asks[0].name == plan.status
    assert set(ALSO) <= set(PI30)
