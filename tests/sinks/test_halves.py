"""Windows set by halves: both halves arrive, however fast they are sent, and what was refused is not kept."""

from __future__ import annotations

import pytest

from bridge.sinks.halves import READ_BACK, UNDER_WAY, Halves

PLACE = ("house", "", "ac_charge_window_1")
SHOWN = "01:00-02:00"


def test_a_half_keeps_the_other_one() -> None:
    assert Halves().whole(PLACE, "start", b"06:30:00", SHOWN, 0.0) == (b"06:30-02:00", SHOWN)
    assert Halves().whole(PLACE, "end", b"06:30", SHOWN, 0.0) == (b"01:00-06:30", SHOWN)


def test_the_second_half_builds_on_the_first_that_is_under_way() -> None:
    halves = Halves()
    halves.whole(PLACE, "start", b"06:30:00", SHOWN, 0.0)
    assert halves.whole(PLACE, "end", b"08:00:00", SHOWN, 0.1)[0] == b"06:30-08:00"
    halves.result(PLACE, "done", 2.0)
    assert halves.whole(PLACE, "start", b"07:00:00", SHOWN, 2.1)[0] == b"07:00-08:00"  # settings are still on the way


def test_what_was_refused_is_not_built_on() -> None:
    halves = Halves()
    halves.whole(PLACE, "start", b"06:30:00", SHOWN, 0.0)
    halves.result(PLACE, "refused", 0.5)
    assert halves.whole(PLACE, "end", b"08:00:00", SHOWN, 1.0)[0] == b"01:00-08:00"


def test_what_was_undone_is_not_built_on_but_what_was_under_way_before_is() -> None:
    halves = Halves()
    halves.whole(PLACE, "start", b"06:30:00", SHOWN, 0.0)
    halves.undo(PLACE)
    assert halves.whole(PLACE, "end", b"08:00:00", SHOWN, 1.0)[0] == b"01:00-08:00"
    halves.whole(PLACE, "end", b"09:00:00", SHOWN, 2.0)
    halves.undo(PLACE)
    assert halves.whole(PLACE, "start", b"07:00:00", SHOWN, 3.0)[0] == b"07:00-08:00"


def test_a_result_that_comes_before_the_undoing_counts() -> None:
    halves = Halves()
    halves.whole(PLACE, "start", b"06:30:00", SHOWN, 0.0)
    halves.whole(PLACE, "end", b"08:00:00", SHOWN, 1.0)
    halves.result(PLACE, "done", 2.0)
    halves.undo(PLACE)
    assert halves.whole(PLACE, "end", b"09:00:00", SHOWN, 2.0 + READ_BACK)[0] == b"01:00-09:00"
    halves.whole(PLACE, "start", b"06:30:00", SHOWN, 20.0)
    halves.result(PLACE, "refused", 21.0)
    halves.undo(PLACE)
    assert halves.whole(PLACE, "start", b"07:00:00", SHOWN, 22.0)[0] == b"07:00-02:00"


def test_what_is_long_ago_is_not_built_on() -> None:
    halves = Halves()
    halves.whole(PLACE, "start", b"06:30:00", SHOWN, 0.0)
    assert halves.whole(PLACE, "end", b"08:00:00", SHOWN, UNDER_WAY + 1)[0] == b"01:00-08:00"
    halves.result(PLACE, "done", 100.0)
    assert halves.whole(PLACE, "end", b"09:00:00", SHOWN, 101.0 + READ_BACK)[0] == b"01:00-09:00"


def test_a_window_set_as_a_whole_brings_back_none_of_before() -> None:
    halves = Halves()
    halves.whole(PLACE, "start", b"06:30:00", SHOWN, 0.0)
    halves.result(PLACE, "done", 1.0)
    halves.result(PLACE, "done", 100.0)  # of a command for both halves
    assert halves.whole(PLACE, "end", b"09:00:00", "04:00-05:00", 101.0)[0] == b"04:00-09:00"


def test_other_settings_are_not_concerned() -> None:
    halves = Halves()
    halves.whole(PLACE, "start", b"06:30:00", SHOWN, 0.0)
    assert halves.whole(("house", "P1", PLACE[2]), "end", b"08:00:00", SHOWN, 0.1)[0] == b"01:00-08:00"


WRONG = [b"", b"6:30", b"24:00:00", b"06:30:01", b"06:30:00 ", b"\xff\xff:00", b"06:30" * 9]


@pytest.mark.parametrize("payload", WRONG)
def test_what_is_no_time_is_refused(payload: bytes) -> None:
    window, reason = Halves().whole(PLACE, "start", payload, SHOWN, 0.0)
    assert window is None
    assert "HH:MM" in reason


@pytest.mark.parametrize("shown", [None, 5, "", "unknown"])
def test_half_of_an_unknown_window_is_refused(shown: object) -> None:
    window, reason = Halves().whole(PLACE, "start", b"06:30", shown, 0.0)
    assert window is None
    assert "not known" in reason


def test_only_the_ends_of_a_setting_are_halves() -> None:
    assert Halves.split("window/start") == ("window", "start")
    assert Halves.split("hold/64") is None
    assert Halves.split("start") is None
