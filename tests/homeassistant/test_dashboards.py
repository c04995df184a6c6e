"""Dashboards and helpers name entities that are there, and use nothing but Home Assistant's own cards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bridge.tools.demo import _configuration, demo_devices
from tests.harness import Bridge, Mosquitto, Recorder, await_true
from tests.homeassistant.folder import FOLDER, entity_id, load, named_entities, slug, walk
from tests.homeassistant.test_packages import entries
from tests.sinks.ha_rules import expanded

DEVICES = ("roof", "batteries", "house")
CARDS = {"heading", "tile", "gauge", "entities", "glance", "history-graph", "markdown"}
HELPERS = sorted((FOLDER / "helpers").glob("*.yaml"))
DASHBOARDS = [FOLDER / "dashboard.yaml", FOLDER / "extra200tomqtt" / "dashboard.yaml"]


def announced(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Return what discovery makes of the demo's devices, by entity id: the ids that Home Assistant gives at first."""
    simulated = [one for one in demo_devices(tmp_path) if one.entry["name"] in DEVICES]
    for one in simulated:
        one.simulator.__enter__()
    try:
        with Mosquitto(tmp_path / "broker") as broker, Recorder(broker.port, "homeassistant/#") as recorder:
            config = _configuration(broker.port, [one.configured() for one in simulated], tmp_path / "state")
            config = config.replace("from: [batteries, cellar, garage]", "from: [batteries]").replace(
                "modules: 8", "modules: 4"
            )
            with Bridge(tmp_path / "bridge", config):
                wanted = len(DEVICES) + 4 + 2  # and modules, the bank, the bridge
                await_true(lambda: len({m.topic for m in recorder.messages}) >= wanted, 60, "all are announced")
                told = [expanded(payload) for payload in {m.topic: m.payload for m in recorder.messages}.values()]
    finally:
        for one in simulated:
            one.simulator.__exit__(None, None, None)
    return {
        entity_id(component["platform"], message["device"]["name"], component["name"]): component
        for message in told
        for component in message["components"].values()
    }


def helped(content: dict[str, Any]) -> set[str]:
    """Return the entities that a helpers' package makes itself."""
    meters = [f"sensor.{slug(one['name'])}" for one in content.get("utility_meter", {}).values()]
    integrals = [f"sensor.{slug(one['name'])}" for one in content.get("sensor", [])]
    splits = [f"sensor.{slug(one['name'])}" for part in content.get("template", []) for one in part["sensor"]]
    assert len({*meters, *integrals, *splits}) == len(meters) + len(integrals) + len(splits)
    return {*meters, *integrals, *splits}


def test_every_entity_that_the_dashboard_or_a_helper_names_is_made_by_discovery(tmp_path: Path) -> None:
    known = announced(tmp_path)
    assert named_entities(load(FOLDER / "dashboard.yaml")) - known.keys() == set()
    for path in HELPERS:
        content = load(path)
        assert named_entities(content) - known.keys() - helped(content) == set(), path.name
    for source in [one["source"] for one in load(FOLDER / "helpers" / "energy_meters.yaml")["utility_meter"].values()]:
        assert (known[source]["device_class"], known[source]["state_class"]) == ("energy", "total_increasing"), source
    # what the README tells to put into the energy dashboard
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    counters = {one for one in named_entities(readme) if "energy" in one}
    assert counters
    for one in counters:
        assert known[one]["device_class"] == "energy", one


def test_the_dashboard_of_extra200tomqtt_names_what_its_package_makes() -> None:
    package = load(FOLDER / "extra200tomqtt" / "package.yaml")
    made = {entity_id(platform, one["device"]["name"], one["name"]) for platform, one in entries(package)}
    assert named_entities(load(DASHBOARDS[1])) - made == set()


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.parent.name)
def test_a_dashboard_has_core_cards_only(path: Path) -> None:
    content = load(path)
    for view in content["views"]:
        assert view["type"] == "sections"
        cards = [card for section in view["sections"] for card in section["cards"]]
        assert {card["type"] for card in cards} <= CARDS
        assert all(section["type"] == "grid" for section in view["sections"])
    assert not [one for one in walk(content) if isinstance(one, str) and one.startswith("custom:")]
    assert len({view["path"] for view in content["views"]}) == len(content["views"])


def test_unique_ids_of_helpers_are_distinct() -> None:
    ids = [
        one["unique_id"] for path in HELPERS for one in walk(load(path)) if isinstance(one, dict) and "unique_id" in one
    ]
    assert len(ids) > 20
    assert len(set(ids)) == len(ids)
