from __future__ import annotations

from datetime import datetime

import pytest

from bridge.simulators.living import DAY, Battery, DayClock, House

HOUR = 3600.0


def test_the_day_clock_runs_as_fast_as_told() -> None:
    real = [100.0]
    clock = DayClock(datetime(2026, 6, 1, 23, 0), speed=600, real=lambda: real[0])
    assert clock.seconds() == 23 * HOUR
    real[0] += 12
    assert clock.seconds() == 25 * HOUR
    assert clock.date() == datetime(2026, 6, 2, 1, 0)


def test_the_same_seed_is_the_same_day_and_another_seed_another_one() -> None:
    def day(seed: int) -> list[tuple[float, float]]:
        house = House(seed)
        return [(house.sun(t), house.load(t)) for t in range(0, int(DAY), 600)]

    assert day(1) == day(1)
    assert day(1) != day(2)


def test_the_sun_shines_by_day_and_never_by_night() -> None:
    house = House()
    assert [house.sun(hour * HOUR) for hour in (0, 3, 5.9, 20, 23)] == [0.0] * 5
    assert all(0.3 < house.sun(12.75 * HOUR + day * DAY) <= 1 for day in range(20))


def test_the_load_is_always_there_and_bounded() -> None:
    house = House()
    loads = [house.load(t) for t in range(0, int(2 * DAY), 60)]
    assert min(loads) > 200
    assert 1500 < max(loads) < 4000


def test_the_battery_fills_and_empties_and_its_voltage_follows() -> None:
    battery = Battery(capacity_wh=1000, soc=50)
    rest = battery.rest_voltage()
    assert battery.voltage(500) > rest > battery.voltage(-500)
    battery.flow(-250, HOUR)
    assert battery.soc == pytest.approx(25)
    assert battery.rest_voltage() < rest
    battery.flow(10_000, HOUR)
    assert battery.soc == 100
    battery.flow(-10_000, HOUR)
    assert battery.soc == 0


def test_the_battery_voltage_never_falls_while_it_fills() -> None:
    volts = [Battery(soc=float(soc)).rest_voltage() for soc in range(101)]
    assert volts == sorted(volts)
    assert Battery(soc=50, nominal=24).rest_voltage() == pytest.approx(Battery(soc=50).rest_voltage() / 2)
