"""The blueprints of homeassistant/, each made into an automation in a real core and seen to act."""

from __future__ import annotations

import datetime
import math
import signal
import time
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from tests.harness import await_true

if TYPE_CHECKING:
    from tests.e2e.__main__ import House

BACK = [{
    "action": "persistent_notification.create",
    "data": {"title": "solarbridge", "message": "{{ what }} is back"},
}]  # fmt: skip
APART = 11.0
"""Seconds after which a register may be written again, with one to spare."""


def low_soc_tells_once_per_fall(house: House) -> None:
    """The alert for a low battery comes when the charge falls below the limit, and again only behind a recovery."""
    plant = house.simulator("house").plant
    was = plant.battery.soc
    soc = house.entity("sensor", "house", "soc")
    told = lambda: house.core.notifications("Battery low")  # noqa: E731

    def charged(percent: float) -> None:
        plant.battery.soc = percent
        await_true(lambda: _number(house.state(soc), near=percent), 60, f"{soc} is {percent}")

    def away_and_back_at(percent: float) -> None:
        house.bridge.send(signal.SIGSTOP)
        await_true(lambda: house.state(soc) == "unavailable", 60, f"{soc} is unavailable")
        plant.battery.soc = percent
        house.bridge.send(signal.SIGCONT)
        await_true(lambda: _number(house.state(soc), near=percent), 90, f"{soc} is {percent} again")

    charged(60.5)
    house.core.automate("low_soc", {"soc": soc, "low": 40, "recovered": 10, "minutes": 0})
    assert told() == []
    charged(30.5)
    await_true(lambda: len(told()) == 1, 10, "the alert")
    assert told()[0].startswith(house.core.states()[soc]["attributes"]["friendly_name"]), told()
    assert " 3" in told()[0], told()
    charged(25.5)
    charged(45.5)  # above the limit, but not recovered
    charged(30.5)
    away_and_back_at(28.5)
    time.sleep(2)
    assert len(told()) == 1, told()
    charged(60.5)
    assert len(told()) == 1, told()
    away_and_back_at(30.5)  # it crossed the limit while nobody could see it
    await_true(lambda: len(told()) == 2, 10, "the alert again")
    house.core.forget_automation("low_soc")
    plant.battery.soc = was
    print(f"  {told()}")


def _number(state: str, near: float) -> bool:
    return state not in ("unknown", "unavailable") and abs(float(state) - near) <= 2


def bridge_offline_tells_of_each(house: House) -> None:
    """Bridge, device and module are reported when the bridge is killed, and once each when they are back."""
    connection = house.connection()
    values = [house.entity("sensor", "roof", "battery_voltage"), house.entity("sensor", house.module(), "voltage")]
    await_true(lambda: house.state(connection) == "on" and house.available(), 60, "all there")
    names = [house.core.states()[one]["attributes"]["friendly_name"] for one in (connection, *values)]
    told = lambda: house.core.notifications("solarbridge")  # noqa: E731
    house.core.automate(
        "bridge_offline", {"connection": connection, "values": values, "minutes": 0.05, "back": BACK}
    )  # fmt: skip
    assert told() == []
    house.bridge.send(signal.SIGKILL)
    await_true(lambda: set(told()) == {f"{name} is away" for name in names}, 30, f"all are away: {told()}")
    assert house.bridge.process is not None
    house.bridge.process.wait(10)
    house.bridge.start()
    wanted = sorted(f"{name} is {where}" for name in names for where in ("away", "back"))
    await_true(lambda: set(told()) == set(wanted), 60, f"all are back: {told()}")
    await_true(house.available, 90, "available behind a new start")
    assert sorted(told()) == wanted
    house.core.forget_automation("bridge_offline")
    print(f"  {told()}")


def charge_window_is_set(house: House) -> None:
    """At its time the window, the limit and the switch are written, and what was read back is what was wanted."""
    entities = _charge_controls(house)
    plant = house.simulator("house").plant
    was, plant.battery.soc = plant.battery.soc, 100.0
    await_true(lambda: _number(house.state(entities["soc"]), near=100), 60, "a full battery")
    time.sleep(APART)
    before = len(house.recorder.on("solarbridge/house/result"))
    enough = math.ceil(float(house.state(entities["soc"])))
    assert enough <= 100
    _charge_window_at(house, entities, 10, start="00:30:00", end="04:45:00", enough=enough)
    wanted = {"ac_charge_window_1": "00:30-04:45", "ac_charge_soc_limit_pct": 77, "ac_charge": True}

    def settled() -> bool:
        settings = house.newest_values("solarbridge/house/settings")
        return {key: settings[key] for key in wanted} == wanted

    await_true(settled, 90, f"window, limit and switch: {house.newest_values('solarbridge/house/settings')}")
    expected = {"limit": "77", "switch": "on", "window": "00:30:00" if house.newest else "00:30-04:45"}
    if house.newest:
        expected["window_end"] = "04:45:00"
    await_true(
        lambda: all(house.state(entities[name]).removesuffix(".0") == value for name, value in expected.items()),
        60, f"core shows {expected}",
    )  # fmt: skip
    results = house.results_since(before)
    assert [one["outcome"] for one in results] == ["done"] * len(expected), results
    assert results[-1]["setting"] == "ac_charge"
    # a second run finds everything as it should be and writes nothing
    assert house.core.do("automation.trigger", entity_id=house.core.automation("charge_window")) == 200
    time.sleep(5)
    assert house.results_since(before) == results
    house.core.forget_automation("charge_window")
    plant.battery.soc = was
    for one in results:
        print(f"  {one['setting']}: {one['old']} -> {one['read_back']} in {one['duration']} s")


def a_full_battery_is_not_charged_in_the_window_of_before(house: House) -> None:
    """Where the battery has more than enough the switch that allows it goes off, and nothing else is written."""
    entities = _charge_controls(house)
    time.sleep(APART)
    assert house.core.do("switch.turn_on", entity_id=entities["switch"]) == 200
    await_true(lambda: house.state(entities["switch"]) == "on", 60, "on")
    plant = house.simulator("house").plant
    was, plant.battery.soc = plant.battery.soc, 90.0
    await_true(lambda: _number(house.state(entities["soc"]), near=90), 60, "a battery that has enough")
    time.sleep(APART)
    before = len(house.recorder.on("solarbridge/house/result"))
    _charge_window_at(house, entities, 8, start="02:30:00", end="03:45:00", enough=60)
    await_true(lambda: house.state(entities["switch"]) == "off", 60, "off")
    await_true(lambda: not house.core.is_running("charge_window"), 30, "its end")
    time.sleep(5)
    results = house.results_since(before)
    assert [(one["setting"], one["outcome"]) for one in results] == [("ac_charge", "done")], results
    house.core.forget_automation("charge_window")
    plant.battery.soc = was
    print(f"  {results[0]['setting']}: {results[0]['old']} -> {results[0]['read_back']}")


def a_refused_window_switches_nothing_on(house: House) -> None:
    """Where the window, or one half of it, is not as it was wanted the switch stays off."""
    entities = _charge_controls(house)
    time.sleep(APART)
    before = len(house.recorder.on("solarbridge/house/result"))
    _charge_window_at(house, entities, 8, start="01:30:00", end="05:45:00", enough=100)
    place, value = "ac_charge_window_1", "02:00-03:00"
    if house.newest:
        # from when core shows it, which may be seconds behind, its automation waits 15 s: 4 s behind this end
        await_true(lambda: house.state(entities["window"]) == "01:30:00", 60, "the start is set, and core shows it")
        place, value = f"{place}/end", "05:15:00"
        time.sleep(APART)
    # a register that was just written is not written again so soon
    house.recorder.client.publish(f"solarbridge/house/set/{place}", value, 1).wait_for_publish(5)
    outcomes = lambda: [one["outcome"] for one in house.results_since(before)]  # noqa: E731
    results_wanted = ["done", "done", "refused"][not house.newest :]
    await_true(lambda: len(outcomes()) >= len(results_wanted), 60, "a result of each")
    await_true(lambda: not house.core.is_running("charge_window"), 90, "it gives up")
    time.sleep(5)  # by then there is a result of all that it sent
    results = house.results_since(before)
    assert outcomes() == results_wanted, results
    assert {one["setting"] for one in results} == {"ac_charge_window_1"}, results
    assert house.state(entities["switch"]) == "off"
    house.core.forget_automation("charge_window")
    print(f"  {results[-1]['reason']}")


def _charge_controls(house: House) -> dict[str, Any]:
    """Return the blueprint's entities by input; the switch is off."""
    kind = "time" if house.newest else "text"
    entities: dict[str, Any] = {
        "window": house.entity(kind, "house", f"ac_charge_window_1{'_start' if house.newest else ''}"),
        "limit": house.entity("number", "house", "ac_charge_soc_limit_pct"),
        "switch": house.entity("switch", "house", "ac_charge"),
        "soc": house.entity("sensor", "house", "soc"),
    }
    if house.newest:
        entities["window_end"] = house.entity(kind, "house", "ac_charge_window_1_end")
    if house.state(entities["switch"]) == "on":
        time.sleep(APART)
        assert house.core.do("switch.turn_off", entity_id=entities["switch"]) == 200
        await_true(lambda: house.state(entities["switch"]) == "off", 60, "off")
    return entities


def _charge_window_at(house: House, entities: dict[str, Any], seconds: float, **inputs: Any) -> None:
    """Make the automation, to run in so many seconds."""
    zone = ZoneInfo(house.core.get("/api/config")["time_zone"])
    at = (datetime.datetime.now(zone) + datetime.timedelta(seconds=seconds)).strftime("%H:%M:%S")
    house.core.automate("charge_window", {**entities, **inputs, "percent": 77, "at": at})
