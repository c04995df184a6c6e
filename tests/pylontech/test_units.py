"""Who a module is, how long what it said is true, and what the stack makes of it."""

from __future__ import annotations

import pytest

from bridge import battery as k
from bridge.errors import ProtocolError
from bridge.fields import VOLTAGE, Field
from bridge.pylontech.units import Module, Source, Units

MEASURED = Source("measured", 10.0, watched=True)
LIMITS = Source("limits", 4.0)
SERIAL = Source("serial", float("inf"), lasting=True)
FIELDS = (k.VOLTAGE, k.CURRENT, k.POWER)


def known(units: Units, place: str, serial: str | None) -> Module:
    assert units.claim(place, serial) is None
    module = units.claim(place, serial)
    assert module is not None
    return module


@pytest.fixture
def units() -> Units:
    return Units("batteries", 10.0)


def test_a_serial_number_is_believed_when_read_twice(units: Units) -> None:
    assert units.claim("2", "A") is None
    assert units.claim("2", "B") is None
    module = units.claim("2", "B")
    assert module is not None
    assert (module.path, module.serial, module.place) == ("B", "B", "2")


def test_one_reading_is_enough_to_confirm_a_module(units: Units) -> None:
    module = known(units, "2", "A")
    assert units.claim("2", "A") is module


def test_a_module_without_a_serial_number_is_its_place(units: Units) -> None:
    module = known(units, "2", None)
    assert (module.path, module.serial) == ("2", None)


@pytest.mark.parametrize("serial", ["A/B", "A+", "#", "$A", "A B", "A\x1b", "A\0", "Ä", "3", "A" * 65])
def test_a_serial_number_that_is_no_topic_level_names_nothing(units: Units, serial: str) -> None:
    module = known(units, "2", serial)
    assert (module.path, module.serial) == ("2", serial)


def test_swapped_modules_keep_their_paths(units: Units) -> None:
    first, second = known(units, "2", "A"), known(units, "3", "B")
    assert known(units, "2", "B") is second
    assert "3" not in units.places
    assert known(units, "3", "A") is first
    assert (first.place, second.place) == ("3", "2")


def test_a_serial_number_that_two_places_tell_names_neither(units: Units) -> None:
    known(units, "2", "A")
    known(units, "3", "A")
    assert known(units, "2", "A").path == "2"
    assert known(units, "3", "A").path == "3"
    assert set(units.states(0.0)) == {"2", "3"}


@pytest.mark.parametrize("first", ["2", "3"])
def test_a_module_that_moves_up_and_back_again_keeps_its_name(units: Units, first: str) -> None:
    """The one before it is taken out for repair, and put back later: nobody answered at its old place meanwhile."""
    known(units, "2", "A")
    module = known(units, "3", "B")
    assert known(units, "2", "B") is module
    units.vacant("3")
    for place in sorted(("2", "3"), key=first.__eq__, reverse=True):
        assert known(units, place, {"2": "A", "3": "B"}[place]).path == {"2": "A", "3": "B"}[place]
    assert units.places["3"] is module
    assert set(units.states(0.0)) == {"2", "3"}


def numbers(units: Units) -> set[str]:
    """Return whom the stack counts: places, and modules that have none."""
    return set(units.states(0.0))


def test_a_module_that_another_one_replaces_at_its_place_is_missed_no_more(units: Units) -> None:
    for place, serial in (("2", "A"), ("3", "B"), ("4", "C")):
        known(units, place, serial)
    module = known(units, "3", "NEW")
    assert numbers(units) == {"2", "3", "4"}
    assert units.places["3"] is module


def test_a_module_is_missed_while_those_behind_it_have_moved_up_and_until_as_many_are_there_again(
    units: Units,
) -> None:
    for place, serial in (("2", "A"), ("3", "B"), ("4", "C")):
        known(units, place, serial)
    known(units, "3", "C")
    assert numbers(units) == {"2", "3", "B (gone)"}
    known(units, "4", "NEW")
    assert numbers(units) == {"2", "3", "4"}


def test_a_replaced_module_that_turns_up_elsewhere_counts_and_is_the_same(units: Units) -> None:
    known(units, "2", "A")
    module = known(units, "3", "B")
    known(units, "3", "NEW")
    assert known(units, "4", "B") is module
    assert numbers(units) == {"2", "3", "4"}


def test_a_silent_module_whose_place_nobody_has_is_missed_though_another_one_was_replaced(units: Units) -> None:
    for place, serial in (("2", "A"), ("3", "B"), ("4", "C")):
        known(units, place, serial).take(MEASURED, {"voltage": 50.0}, 80.0 if place == "4" else 100.0, FIELDS)
    known(units, "2", "NEW").take(MEASURED, {"voltage": 50.0}, 100.0, FIELDS)
    reading = units.root_reading(100.0)
    assert reading is not None
    assert (reading.values["modules_online"], reading.values["modules_offline"]) == (2, 1)


def test_of_two_displaced_modules_the_last_one_is_missed(units: Units) -> None:
    for place, serial in (("2", "A"), ("3", "B"), ("4", "C")):
        known(units, place, serial)
    known(units, "2", "NEW")
    known(units, "3", "C")
    assert numbers(units) == {"2", "3", "B (gone)"}


def test_a_place_that_is_expected_is_not_missed_twice_when_modules_move_up(units: Units) -> None:
    units.expect(["2", "3", "4"])
    for place, serial in (("2", "A"), ("3", "B"), ("4", "C")):
        known(units, place, serial)
    known(units, "3", "C")
    assert len(units.states(0.0)) == 3


def test_a_module_that_told_no_number_at_first_is_not_counted_twice(units: Units) -> None:
    known(units, "2", None)
    known(units, "2", "A")
    assert list(units.states(0.0)) == ["2"]


def test_values_are_null_when_they_are_too_old(units: Units) -> None:
    module = known(units, "2", "A")
    module.announce((*FIELDS, k.CHARGE_CURRENT_LIMIT))
    module.take(MEASURED, {"voltage": 50.0, "current": 1.0, "power": 50.0}, 100.0)
    module.take(LIMITS, {"charge_current_limit": 25.0}, 100.0)
    assert module.state(104.0) == {"voltage": 50.0, "current": 1.0, "power": 50.0, "charge_current_limit": 25.0}
    late = module.state(104.1)
    assert late is not None
    assert late["charge_current_limit"] is None
    assert module.state(110.1) is None
    assert module.reading(110.1) is None


def test_a_reading_is_dated_by_what_was_measured(units: Units) -> None:
    module = known(units, "2", "A")
    module.announce((*FIELDS, k.CHARGE_CURRENT_LIMIT))
    module.take(MEASURED, {"voltage": 50.0}, 100.0)
    module.take(LIMITS, {"charge_current_limit": 25.0}, 108.0)
    reading = module.reading(108.0)
    assert reading is not None
    assert reading.at == 100.0
    later = module.reading(110.5)
    assert later is not None
    assert (later.at, later.values["voltage"]) == (108.0, None)


def test_who_a_module_is_says_nothing_about_its_being_there(units: Units) -> None:
    module = known(units, "2", "A")
    module.take(SERIAL, {"serial": "A"}, 100.0, (k.SERIAL,))
    assert module.state(100.0) is None


def test_keys_never_had_before_are_believed_when_seen_twice(units: Units) -> None:
    module = known(units, "2", "A")
    module.take(MEASURED, {"voltage": 50.0}, 1.0, FIELDS)
    extra = Field("extra", VOLTAGE, "Extra")
    with pytest.raises(ProtocolError, match="never had before"):
        module.take(MEASURED, {"voltage": 50.0, "extra": 1.0}, 2.0, (*FIELDS, extra))
    assert "extra" not in (module.state(2.0) or {})
    module.take(MEASURED, {"voltage": 50.0, "extra": 1.0}, 3.0, (*FIELDS, extra))
    assert (module.state(3.0) or {})["extra"] == 1.0


def test_a_value_that_nothing_announces_is_a_mistake(units: Units) -> None:
    module = known(units, "2", "A")
    with pytest.raises(ValueError, match="no field announces"):
        module.take(MEASURED, {"nonsense": 1.0}, 1.0, FIELDS)


def test_the_unit_is_made_anew_only_for_news(units: Units) -> None:
    module = known(units, "2", "A")
    module.take(MEASURED, {"voltage": 50.0}, 1.0, FIELDS)
    unit = module.unit
    module.take(MEASURED, {"voltage": 50.0}, 2.0, FIELDS)
    module.learn(firmware=None)
    assert module.unit is unit
    module.learn(firmware="1.2")
    assert module.unit.firmware == "1.2"


def test_the_stack_counts_silent_and_expected_modules_as_offline(units: Units) -> None:
    units.expect(["2", "3", "10"])
    module, other = known(units, "2", "A"), known(units, "3", "B")
    module.take(MEASURED, {"voltage": 50.0}, 100.0, FIELDS)
    other.take(MEASURED, {"voltage": 50.0}, 85.0, FIELDS)
    reading = units.root_reading(100.0)
    assert reading is not None
    assert (reading.values["modules_online"], reading.values["modules_offline"], reading.at) == (1, 2, 100.0)
    assert set(reading.values) == {field.key for field in units.root.fields}
    assert list(units.states(100.0)) == ["2", "3", "10"]


def test_a_stack_of_silent_modules_says_nothing(units: Units) -> None:
    module = known(units, "2", "A")
    module.take(MEASURED, {"voltage": 50.0}, 100.0, FIELDS)
    assert units.root_reading(111.0) is None


def test_a_longer_age_limit_is_that_of_every_unit(units: Units) -> None:
    module = known(units, "2", "A")
    units.set_max_age(20.0)
    assert (units.root.max_age, module.unit.max_age) == (20.0, 20.0)
