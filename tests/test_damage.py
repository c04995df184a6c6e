"""When much damage on a line is told, and when not (row B5)."""

from __future__ import annotations

from bridge.damage import LEAST, WINDOW, Damage


def test_much_damage_is_told_once_when_it_begins_and_once_when_it_is_over() -> None:
    damage = Damage(0.0)
    told = []
    for minute, (damaged, whole) in enumerate([(0, 600), (60, 1100), (60, 1100), (120, 1600), (120, 2200)], 1):
        failures = {"format": damaged // 2, "length": damaged // 2, "no_reply": 1000}
        assert damage.look(WINDOW * minute - 1, failures, whole) is None, "not in the middle of a minute"
        told.append((damage.look(WINDOW * minute, failures, whole), damage.much))
    assert [much for _, much in told] == [False, True, True, True, False]
    assert "60 of 560 answers came damaged" in str(told[1][0])
    assert "another program" in str(told[1][0])
    assert told[4][0] == "answers come whole again"
    assert [text is None for text, _ in told] == [True, False, True, True, False], "nor when nothing came at all"


def test_a_few_damaged_answers_are_no_news() -> None:
    damage = Damage(0.0)
    assert damage.look(WINDOW, {"checksum": LEAST - 1}, 0) is None
    assert damage.look(2 * WINDOW, {"checksum": LEAST - 1 + 10}, 1000) is None, "one in a hundred"
