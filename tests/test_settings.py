"""One spelling of each kind of value: what is taken, and that everything else is refused."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import CommandError
from bridge.fields import Value
from bridge.settings import (
    WINDOW_PATTERN,
    AnySpelling,
    Choice,
    Clock,
    Number,
    Press,
    Switch,
    Window,
    scaled,
    whole,
)

PERCENT = whole(0, 100)
OFFSET = whole(-199, 199)
VOLTS = scaled(480, 584, 10)
LISTED = Number(Decimal("44"), Decimal("51"), Decimal("0.1"), among=tuple(map(Decimal, ("44", "45.5", "51"))))
OR_FULL = Number(Decimal(48), Decimal(58), also=(Decimal(0),))
ALL: tuple[AnySpelling, ...] = (
    PERCENT, OFFSET, VOLTS, LISTED, OR_FULL, Switch(), Choice(("solar", "grid first")), Window(), Clock(), Press(),
)  # fmt: skip

TAKEN: list[tuple[AnySpelling, str, Value]] = [
    (PERCENT, "0", 0), (PERCENT, "100", 100), (OFFSET, "-199", -199),
    (VOLTS, "52.4", 52.4), (VOLTS, "52", 52.0), (VOLTS, "52.0", 52.0), (VOLTS, "58.4", 58.4), (LISTED, "45.5", 45.5),
    (whole(5, 900, 5), "15", 15), (OR_FULL, "0", 0), (OR_FULL, "48", 48), (OR_FULL, "58", 58),
    (Switch(), "on", True), (Switch(), "off", False),
    (Choice(("solar", "grid first")), "grid first", "grid first"),
    (Window(), "23:30-05:30", "23:30-05:30"), (Window(), "00:00-00:00", "00:00-00:00"),
    (Clock(), "now", "now"), (Clock(), "2026-02-28T23:59:59", "2026-02-28T23:59:59"), (Press(), "press", "press"),
]  # fmt: skip

REFUSED: list[tuple[AnySpelling, str]] = [
    *((PERCENT, text) for text in (
        "", " ", "101", "-1", "-0", "00", "007", "+5", "1.0", "1e1", "0x14", "1_0", " 5", "5 ", "5\n", "NaN", "nan",
        "inf", "true", "null", "\uff15\uff10", "\u0665\u0660", "5,0", "9" * 5000, "on", "five", "\u2212 5", "5\0",
    )),
    *((VOLTS, text) for text in (
        "47.9", "58.5", "52.45", "52.", ".5", "052.0", "5.2e1", "52,4", "NaN", "-0", "infinity", "52.40000", "52.4V",
    )),
    (LISTED, "44.1"), (LISTED, "45"), (OR_FULL, "1"), (OR_FULL, "47"), (OR_FULL, "0.0"), (OR_FULL, "00"),
    (whole(5, 900, 5), "16"),
    *((Switch(), text) for text in ("ON", "On", "1", "true", "yes", "t", "on ", "", "onoff")),
    (Choice(("solar", "grid first")), "Solar"), (Choice(("solar",)), "sol"), (Choice(("solar",)), ""),
    *((Window(), text) for text in (
        "24:00-00:00", "23:60-05:00", "1:00-2:00", "01:00 - 02:00", "01:00-02:00-03:00", "01:00", "01-02",
        "01:00-02:00\n", "0\u0661:00-02:00",
    )),
    *((Clock(), text) for text in (
        "2026-02-30T00:00:00", "2026-11-26 21:00:00", "2026-11-26T21:00:00Z", "26-11-26T21:00:00", "NOW", "",
        "2026-11-26T24:00:01",
    )),
    (Press(), "PRESS"), (Press(), "1"),
]  # fmt: skip


@pytest.mark.parametrize(("spelling", "text", "value"), TAKEN, ids=str)
def test_the_one_spelling_of_a_value_is_taken(spelling: AnySpelling, text: str, value: Value) -> None:
    found = spelling.read(text)
    assert (found, type(found)) == (value, type(value))
    assert spelling.read(spelling.write(found)) == value


@pytest.mark.parametrize(("spelling", "text"), REFUSED, ids=lambda one: ascii(one)[:60])
def test_everything_else_is_refused_and_told_what_is_allowed(spelling: AnySpelling, text: str) -> None:
    with pytest.raises(CommandError) as caught:
        spelling.read(text)
    said = str(caught.value)
    assert "expected" in said
    assert said.isascii()
    assert said.isprintable()
    assert len(said) < 200


@given(st.sampled_from(ALL), st.text(max_size=30))
def test_any_text_is_in_range_or_refused(spelling: AnySpelling, text: str) -> None:
    try:
        value = spelling.read(text)
    except CommandError:
        return
    if isinstance(spelling, Number):
        assert isinstance(value, int | float)
        assert spelling.minimum <= Decimal(text) <= spelling.maximum or Decimal(text) in spelling.also
    assert spelling.read(spelling.write(value)) == value


@given(st.integers(480, 584))
def test_a_scaled_number_is_read_to_the_last_step(raw: int) -> None:
    value = VOLTS.read(f"{raw // 10}.{raw % 10}")
    assert isinstance(value, float)
    assert round(value * 10) == raw
    assert VOLTS.write(value) == f"{raw // 10}.{raw % 10}"


@given(st.from_regex(WINDOW_PATTERN) | st.text("0123456789:-", max_size=12))
def test_the_pattern_for_forms_takes_what_a_window_takes(text: str) -> None:
    try:
        Window().read(text)
        taken = True
    except CommandError:
        taken = False
    assert taken == bool(re.fullmatch(WINDOW_PATTERN.strip("^$"), text))
