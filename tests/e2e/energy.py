"""The energy dashboard of a real core, with what the documentation says to put there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.harness import await_true
from tests.shared import REPOSITORY

if TYPE_CHECKING:
    from tests.e2e.__main__ import House

STATISTICS = 300.0
"""Seconds between two compilations of statistics in core."""


def energy_is_valid(house: House) -> None:
    """The energy dashboard takes every sensor that the documentation recommends, and finds nothing wrong with it."""
    sensor = lambda device, key: house.entity("sensor", device, key)  # noqa: E731
    house.core.ask("energy/save_prefs", **recommended(house, sensor))
    await_true(lambda: _issues(house) == [], STATISTICS + 60, f"no issue: {_issues(house)}")
    prefs = house.core.ask("energy/get_prefs")
    only_newer = {sensor("bank", "power"), sensor("bank", "soc")}
    named = recommended_by_name() - only_newer
    missing = {one for one in named if f'"{one}"' not in json.dumps(prefs)}
    assert missing == set()
    units = house.core.ask("recorder/validate_statistics")
    assert units == {}, units
    known = {one["statistic_id"] for one in house.core.ask("recorder/list_statistic_ids")}
    assert {sensor("house", "soc"), sensor("bank", "power"), sensor("roof", "battery_power")} <= known
    sources, loads = len(prefs["energy_sources"]), len(prefs["device_consumption"])
    print(f"  {sources} sources and {loads} loads, {len(named)} of them by name, {len(known)} statistics")


def recommended(house: House, sensor: Callable[[str, str], str]) -> dict[str, Any]:
    """Return the dashboard's settings with every counter of docs/homeassistant.md and homeassistant/README.md."""
    grid = {
        "type": "grid", "cost_adjustment_day": 0,
        "flow_from": [_flow("stat_energy_from", sensor("house", "e_to_user_all"))],
        "flow_to": [_flow("stat_energy_to", sensor("house", "e_to_grid_all"))],
    }  # fmt: skip
    suns = [("house", f"e_pv_all{string}") for string in ("", "_1", "_2", "_3")]
    suns += [("roof", "pv_energy_total"), ("barn", "pv_energy_estimated")]
    batteries = [("house", "e_chg_all", "e_dischg_all")]
    batteries += [(device, "charge_energy_estimated", "discharge_energy_estimated") for device in ("batteries", "bank")]
    batteries += [
        (device, "battery_charge_energy_estimated", "battery_discharge_energy_estimated") for device in ("roof", "barn")
    ]
    sources: list[dict[str, Any]] = [
        {"type": "solar", "stat_energy_from": sensor(*one), "config_entry_solar_forecast": None} for one in suns
    ]
    for device, charge, discharge in batteries:
        source: dict[str, Any] = {
            "type": "battery", "stat_energy_to": sensor(device, charge), "stat_energy_from": sensor(device, discharge),
        }  # fmt: skip
        if house.newest and device == "bank":
            source["power_config"] = {"stat_rate_inverted": sensor(device, "power")}
            source["stat_soc"] = sensor(device, "soc")
        sources.append(source)
    if house.newest:  # both directions of the grid in one flat source
        grid = {
            "type": "grid", "cost_adjustment_day": 0, "stat_energy_from": sensor("house", "e_to_user_all"),
            "stat_energy_to": sensor("house", "e_to_grid_all"), "stat_cost": None, "entity_energy_price": None,
            "number_energy_price": None, "stat_compensation": None, "entity_energy_price_export": None,
            "number_energy_price_export": None,
        }  # fmt: skip
    loads = [("house", "e_load_all"), ("house", "e_eps_all"), ("roof", "load_energy_total")]
    loads += [("barn", "load_energy_estimated")]
    consumption = [{"stat_consumption": sensor(*one)} for one in loads]
    return {"energy_sources": [grid, *sources], "device_consumption": consumption}


def recommended_by_name() -> set[str]:
    """Return every sensor that homeassistant/README.md names in its section on the energy dashboard."""
    text = (REPOSITORY / "homeassistant" / "README.md").read_text()
    section = text.split("## Energy dashboard")[1].split("\n## ")[0]
    return set(re.findall(r"`(sensor\.[a-z0-9_]+)`", section))


def _flow(key: str, entity_id: str) -> dict[str, Any]:
    cost = "stat_cost" if key.endswith("from") else "stat_compensation"
    return {key: entity_id, cost: None, "entity_energy_price": None, "number_energy_price": None}


def _issues(house: House) -> list[Any]:
    told = house.core.ask("energy/validate")
    return [issue for kind in ("energy_sources", "device_consumption") for source in told[kind] for issue in source]
