"""A topic's text made by its shape is what the standard encoder gives, whatever the values."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sinks.text import Shape, Texts, encode

VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
STATES = st.dictionaries(st.text(), VALUES | st.lists(VALUES, max_size=2), max_size=8)


@given(STATES)
def test_a_shape_gives_what_the_standard_encoder_gives(values: dict[str, Any]) -> None:
    assert Shape(values).encode(values) == encode(values)


@given(st.lists(STATES, min_size=1, max_size=3), st.lists(st.integers(0, 2), max_size=12))
def test_messages_of_changing_shapes_are_all_right(states: list[dict[str, Any]], order: list[int]) -> None:
    texts = Texts()
    for number in order:
        values = states[number % len(states)]
        assert texts.encode("t", values) == encode(values)


def test_a_known_shape_carries_new_numbers_and_words() -> None:
    texts, seen = Texts(), []
    for soc, word in ((50, "a"), (51, "b"), (52, 'c"%s%'), (53, "d")):
        seen.append(json.loads(texts.encode("t", {"soc": soc, "none": None, "100%": word, "on": soc > 51})))
    assert [list(one.values()) for one in seen] == [
        [50, None, "a", False], [51, None, "b", False], [52, None, 'c"%s%', True], [53, None, "d", True]
    ]  # fmt: skip


def test_a_key_that_is_renamed_or_moved_is_another_shape() -> None:
    shape = Shape({"a": None, "b": None, "c": 1})
    assert shape.fits({"a": None, "b": None, "c": 2})
    assert not shape.fits({"a": None, "x": None, "c": 2})
    assert not shape.fits({"b": None, "a": None, "c": 2})
    assert not shape.fits({"a": None, "b": None, "c": 2.0})
    assert not shape.fits({"a": None, "b": None})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_finite_number_is_never_written(value: float) -> None:
    texts = Texts()
    for _ in range(3):
        texts.encode("t", {"a": 1.0})
    with pytest.raises(ValueError, match="not JSON compliant"):
        texts.encode("t", {"a": value})
    with pytest.raises(ValueError, match="not JSON compliant"):
        Texts().encode("t", {"a": value})


def test_the_shapes_that_are_kept_are_bounded() -> None:
    texts = Texts()
    for number in range(3 * Texts.MOST):
        texts.encode(str(number // 2), {"a": number})
    assert len(texts._shapes) <= Texts.MOST
