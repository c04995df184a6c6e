"""A unit is online while its last good reading is young enough, and every change is told once and in order."""

from __future__ import annotations

import threading
import time

import pytest

from bridge.fields import Reading, Unit
from bridge.presence import Presence


class Listener:
    """Keeps what it is told; slowly, so that two threads would overtake each other if they could."""

    def __init__(self) -> None:
        self.told: list[tuple[str, bool]] = []

    def take(self, device: str, reading: Reading) -> None:
        pass

    def presence(self, device: str, unit: Unit, online: bool) -> None:
        time.sleep(0.0002)
        self.told.append((unit.path, online))


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def presence(listener: Listener) -> Presence:
    return Presence("dev", [listener])


def reading(path: str, age: float = 0.0, max_age: float = 10.0) -> Reading:
    return Reading(Unit(path, path, (), max_age), {}, time.monotonic() - age)


def test_the_first_good_reading_brings_a_unit_online_once(presence: Presence, listener: Listener) -> None:
    for _ in range(3):
        presence.fresh(reading("a"))
    assert listener.told == [("a", True)]
    assert presence.online()


def test_a_unit_goes_offline_by_its_own_age_limit(presence: Presence, listener: Listener) -> None:
    presence.fresh(reading("old", age=5, max_age=4))
    presence.fresh(reading("young", age=5, max_age=6))
    presence.expire()
    presence.expire()
    assert listener.told == [("old", True), ("young", True), ("old", False)]
    assert presence.online()


def test_a_message_of_older_values_makes_no_unit_older(presence: Presence) -> None:
    presence.fresh(reading("a"))
    presence.fresh(reading("a", age=8))
    assert presence.next_expiry() == pytest.approx(time.monotonic() + 10, abs=0.5)


def test_a_unit_that_comes_back_is_online_again(presence: Presence, listener: Listener) -> None:
    presence.fresh(reading("a", age=11))
    presence.expire()
    presence.fresh(reading("a"))
    assert listener.told == [("a", True), ("a", False), ("a", True)]


def test_a_lost_link_takes_every_unit_offline(presence: Presence, listener: Listener) -> None:
    presence.fresh(reading("a"))
    presence.fresh(reading("b"))
    presence.lost()
    presence.lost()
    assert listener.told[2:] == [("a", False), ("b", False)]
    assert not presence.online()
    assert presence.next_expiry() == float("inf")


def test_the_next_expiry_is_that_of_the_unit_that_expires_first(presence: Presence) -> None:
    assert presence.next_expiry() == float("inf")
    presence.fresh(reading("a", max_age=50))
    presence.fresh(reading("b", max_age=5))
    assert presence.next_expiry() == pytest.approx(time.monotonic() + 5, abs=0.5)


def test_ages_are_told_by_path(presence: Presence) -> None:
    presence.fresh(reading("", age=3))
    presence.fresh(reading("m1", age=7))
    assert presence.ages() == {"": pytest.approx(3, abs=0.5), "m1": pytest.approx(7, abs=0.5)}


def test_online_and_offline_from_two_threads_never_overtake_each_other(
    presence: Presence, listener: Listener
) -> None:
    def come(times: int) -> None:
        for _ in range(times):
            presence.fresh(reading("a", age=11))

    def go(times: int) -> None:
        for _ in range(times):
            presence.expire()

    threads = [threading.Thread(target=body, args=(300,)) for body in (come, go)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    words = [online for _, online in listener.told]
    assert words == [number % 2 == 0 for number in range(len(words))]
    assert words[-1] == presence.online()
