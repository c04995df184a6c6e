"""What a module can mean, alone and after its last reading."""

from __future__ import annotations

import pytest

from bridge.errors import ProtocolError
from bridge.pylontech import messages
from bridge.pylontech.plausible import RANGES, Watch, check_cells, check_change, check_ranges
from bridge.pylontech.values import Values
from tests.pylontech.build import analog_record

CELLS = [3300, 3301, 3302, 3303, 3304] * 3
WARM = [2981, 2951, 2952, 2950, 2954]


def reading(
    shift: int = 0, current: int = -26, left: int = 33500, warm: int = 0, total: int = 50000, cycles: int = 7
) -> Values:
    """Return a module's state with cell 3, current (0.1 A), capacity (mAh) and all temperatures (0.1 K) moved."""
    cells = [mv + shift * (n == 2) for n, mv in enumerate(CELLS)]
    record = analog_record(cells, [raw + warm for raw in WARM], current, left, total, cycles=cycles)
    return messages.analog(bytes.fromhex("0002" + record), 2)


@pytest.mark.parametrize("key", RANGES)
def test_a_value_outside_its_range_is_refused_and_its_edges_are_not(key: str) -> None:
    low, high = RANGES[key]
    check_ranges({key: low})
    check_ranges({key: high})
    check_ranges({key: None})
    for value in (low - 0.1, high + 0.1):
        with pytest.raises(ProtocolError) as refusal:
            check_ranges({key: value})
        assert refusal.value.kind == "implausible"
        assert key in refusal.value.detail


def test_sums_over_many_modules_have_wider_ranges() -> None:
    check_ranges({"current": 900.0}, modules=4)
    with pytest.raises(ProtocolError):
        check_ranges({"current": 900.0})
    with pytest.raises(ProtocolError):
        check_ranges({"voltage": 100.0}, modules=4)


def test_cells_must_make_up_the_module_within_one_percent() -> None:
    check_cells(CELLS, sum(CELLS) + 490)
    for wrong in (sum(CELLS) + 500, sum(CELLS) - 500, 0):
        with pytest.raises(ProtocolError, match="sum up"):
            check_cells(CELLS, wrong)


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (reading(shift=60), "cell_3_voltage moved"),
        (reading(shift=-60), "cell_3_voltage moved"),
        (reading(left=36000), "soc moved"),
        (reading(warm=30), "temperature moved"),
        (reading(left=35500, total=53000), "total_capacity moved"),
        (reading(cycles=10), "cycles moved"),
    ],
    ids=["cell up", "cell down", "soc", "temperature", "total", "cycles"],
)
def test_a_jump_between_two_readings_is_refused(after: Values, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        check_change(reading(), after, 1.0)


@pytest.mark.parametrize(
    ("after", "seconds"),
    [
        (reading(), 1.0),
        (reading(shift=20), 1.0),
        (reading(current=500, shift=150), 1.0),
        (reading(left=34000), 1.0),
        (reading(left=43500), 600.0),
        (reading(warm=40), 60.0),
        (reading(cycles=8), 1.0),
    ],
    ids=["same", "small step", "load switched", "one percent", "ten minutes", "warming", "cycle"],
)
def test_what_a_battery_does_is_not_refused(after: Values, seconds: float) -> None:
    check_change(reading(), after, seconds)


def test_one_damaged_reading_never_gets_through_and_the_next_good_one_does() -> None:
    watch = Watch()
    watch.admit(reading(), 0.0)
    with pytest.raises(ProtocolError):
        watch.admit(reading(shift=200), 1.0)
    watch.admit(reading(), 2.0)


def test_a_true_step_is_taken_with_the_second_reading_that_shows_it() -> None:
    watch = Watch()
    watch.admit(reading(), 0.0)
    with pytest.raises(ProtocolError):
        watch.admit(reading(left=49000), 1.0)
    watch.admit(reading(left=49000), 2.0)
    watch.admit(reading(left=49000), 3.0)


def test_two_different_damaged_readings_do_not_confirm_each_other() -> None:
    watch = Watch()
    watch.admit(reading(), 0.0)
    for shift in (200, -200, 300):
        with pytest.raises(ProtocolError):
            watch.admit(reading(shift=shift), 1.0)


def test_a_refusal_is_forgotten_when_a_good_reading_comes_between() -> None:
    watch = Watch()
    watch.admit(reading(), 0.0)
    for second in range(1, 6, 2):
        with pytest.raises(ProtocolError):
            watch.admit(reading(shift=200), float(second))
        watch.admit(reading(), float(second + 1))


def test_cells_that_always_made_up_the_module_exactly_must_go_on_doing_so() -> None:
    def off(by: int) -> Values:
        record = analog_record(CELLS, WARM, -26, 33500, 50000, voltage=sum(CELLS) + by)
        return messages.analog(bytes.fromhex("0002" + record), 2)

    watch = Watch()
    for second in range(3):
        watch.admit(off(0), float(second))
    with pytest.raises(ProtocolError, match="never did before"):
        watch.admit(off(5), 3.0)
    watch.admit(off(5), 4.0)

    measured_apart = Watch()
    for second, by in enumerate((40, 45, 38, 41, 40)):
        measured_apart.admit(off(by), float(second))


def test_after_forgetting_anything_is_taken() -> None:
    watch = Watch()
    watch.admit(reading(), 0.0)
    watch.forget()
    watch.admit(reading(left=5000, warm=-100), 0.5)
