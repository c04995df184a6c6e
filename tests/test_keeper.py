"""The thread of a bank: its board, its watch on the topic, and when it wakes."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from bridge import keeper as keeper_module
from bridge.bank_options import Bank as Options
from bridge.fields import Reading, Unit
from bridge.keeper import Board, Keeper, Watch
from bridge.sinks.session import Arrived
from bridge.transports.base import Stop
from tests.battery_modules import reading, state
from tests.harness import Stopwatch, await_true

TOPIC = "battery/data"


@dataclass
class Paper:
    """An outlet and a sink that write down what they get."""

    data: list[tuple[float, dict[str, object], float]] = field(default_factory=list)
    states: list[Reading] = field(default_factory=list)
    online: list[bool] = field(default_factory=list)

    def publish_data(self, topic: str, payload: bytes, expires: float) -> None:
        assert topic == TOPIC
        self.data.append((time.monotonic(), json.loads(payload), expires))

    def take(self, device: str, reading: Reading) -> None:
        assert device == "bank"
        self.states.append(reading)

    def presence(self, device: str, unit: Unit, online: bool) -> None:
        self.online.append(online)


@dataclass
class Site:
    keeper: Keeper
    paper: Paper
    watch: Watch

    def read(self, *paths: str, max_age: float = 10.0) -> None:
        for path in paths:
            self.keeper.board.take("bus", reading(path, state(), time.monotonic(), max_age=max_age))


@pytest.fixture
def interval() -> float:
    return 0.5


@pytest.fixture
def site(interval: float) -> Iterator[Site]:
    stop, paper, watch = Stop(), Paper(), Watch(TOPIC)
    options = Options(name="bank", from_=("bus",), modules=2, interval=interval)
    keeper = Keeper(options, True, watch, paper, [paper], stop)
    thread = threading.Thread(target=keeper.run)
    thread.start()
    yield Site(keeper, paper, watch)
    stop.set()
    thread.join(2)
    assert not thread.is_alive(), "it ends at once"


def test_the_board_keeps_the_newest_reading_of_each_unit_of_its_devices() -> None:
    board = Board(["bus"])
    board.take("bus", reading("2", state(soc=50.0), 10.0))
    board.take("bus", reading("2", state(soc=49.0), 9.0))
    board.take("other", reading("2", state(), 10.0))
    unit = Unit("3", "3", (), 5.0)
    board.take("bus", Reading(unit, {}, 10.0, topic="compatible/topic"))
    board.presence("bus", unit, False)
    assert {place: one.values["soc"] for place, one in board.readings().items()} == {("bus", "2"): 50.0}


def test_a_module_that_gets_another_name_counts_once() -> None:
    """Else its limits would count twice until what was read under the first name is too old."""
    board = Board(["bus"])
    board.take("bus", reading("2", state(), 10.0, place="2"))
    board.take("bus", reading("3", state(), 10.0, place="3"))
    board.take("bus", reading("P123", state(), 11.0, place="2", serial="P123"))
    assert set(board.readings()) == {("bus", "3"), ("bus", "P123")}
    board.take("bus", reading("P124", state(), 12.0, place="2", serial="P124"))
    assert set(board.readings()) == {("bus", "3"), ("bus", "P123"), ("bus", "P124")}, (
        "two modules with names of their own"
    )
    board.take("bus", reading("2", state(), 13.0, place="2"))
    assert set(board.readings()) == {("bus", "3"), ("bus", "2")}


def test_it_publishes_when_complete_and_its_state_all_the_time(site: Site) -> None:
    await_true(lambda: site.paper.states, 2, "a state")
    assert site.paper.states[-1].values["phase"] == "waiting"
    assert site.paper.data == []
    await_true(lambda: site.read("2", "3") or site.paper.data, 5, "a message")
    _, message, expires = site.paper.data[-1]
    assert message["Info"] == {
        "MaxChargeVoltage": 52.4, "MaxChargeCurrent": 50.0, "MaxDischargeCurrent": 50.0, "BatteryLowVoltage": 47.0,
        "ChargeRequest": 0,
    }  # fmt: skip
    assert expires <= time.monotonic() + 10.0
    await_true(lambda: site.paper.online == [False, True], 2, "online")
    assert site.keeper.health()["phase"] == "publishing"


def test_what_it_waits_for_in_the_end_is_in_the_log(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """At first it is the modules. That a console tells no limits shows behind them, and is for a person to mend."""
    monkeypatch.setattr(keeper_module, "LASTING", 0.9)

    def tells() -> int:
        for path in ("2", "3"):
            site.keeper.board.take("bus", reading(path, state(discharge_current_limit=None), time.monotonic()))
        return sum("a discharge limit; where" in record.getMessage() for record in caplog.records)

    with caplog.at_level(logging.WARNING):
        await_true(tells, 10, "what is missing")
        rounds = len(site.paper.states)
        await_true(lambda: tells() and len(site.paper.states) >= rounds + 4, 10, "more rounds")
    assert tells() == 1, "once"


@pytest.mark.parametrize("interval", [2.0])
def test_g2_the_safe_message_comes_as_soon_as_the_last_module_is_too_old(site: Site) -> None:
    watch = Stopwatch()
    await_true(lambda: site.read("2", "3", max_age=2.6) or site.paper.data, 10, "a message")
    last_read = max(one.at for one in site.keeper.board.readings().values())
    await_true(lambda: site.paper.data[-1][1]["System"]["NrOfModulesOnline"] == 0, 5, "the safe message")  # type: ignore[index]
    at = site.paper.data[-1][0]
    watch.look()
    assert 2.6 <= at - last_read <= 2.6 + 0.5 + watch.starved
    said = len(site.paper.data)
    await_true(lambda: site.paper.states[-1].at > at + 2.5, 10, "two rounds more")
    assert len(site.paper.data) == said
    assert site.paper.online[-1] is False


# -- other publishers


def test_our_own_messages_are_known_again_however_often_they_are_alike() -> None:
    watch = Watch(TOPIC)
    for payload in (b"1", b"1", b"2"):
        watch.sending(payload)
        for _ in range(3):
            watch.arrived(Arrived(TOPIC, payload, False))
    assert not watch.disturbed()


def test_g6_another_publisher_is_named_loudly_once_and_forgotten_when_it_has_gone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    watch = Watch(TOPIC)
    watch.arrived(Arrived(TOPIC, b"left over", False))
    assert not watch.disturbed()
    with caplog.at_level(logging.ERROR):
        for _ in range(5):
            watch.arrived(Arrived(TOPIC, b"strange", False))
    assert watch.disturbed()
    assert [record.getMessage().startswith(f"{TOPIC}: someone else") for record in caplog.records] == [True]
    monkeypatch.setattr(keeper_module, "FORGIVEN", 0.0)
    assert not watch.disturbed()


def test_a_retained_message_on_the_topic_is_named_loudly(caplog: pytest.LogCaptureFixture) -> None:
    Watch(TOPIC).arrived(Arrived(TOPIC, b"{}", True))
    assert "mosquitto_pub -r -n" in caplog.text
