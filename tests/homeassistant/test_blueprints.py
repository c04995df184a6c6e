"""Blueprints: their shape, and that every input is asked for and used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.homeassistant.folder import FOLDER, Input, load, walk

BLUEPRINTS = sorted((FOLDER / "blueprints" / "automation" / "solarbridge").glob("*.yaml"))
PARTS = {"blueprint", "mode", "max", "variables", "triggers", "conditions", "actions"}
SELECTORS = {"entity", "time", "number", "action"}


def test_there_are_three() -> None:
    assert [path.stem for path in BLUEPRINTS] == ["bridge_offline", "charge_window", "low_soc"]


@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)
def test_a_blueprint_has_the_shape_that_core_wants(path: Path) -> None:
    content = load(path)
    head = content["blueprint"]
    assert content.keys() <= PARTS
    assert content["triggers"]
    assert content["actions"]
    assert head["domain"] == "automation"
    assert head["homeassistant"]["min_version"] == "2025.4.0"
    for key in ("name", "description"):
        assert isinstance(head[key], str)
    for name, asked in head["input"].items():
        assert asked.keys() <= {"name", "description", "default", "selector"}, name
        assert next(iter(asked["selector"])) in SELECTORS
        _within(asked)


def _within(asked: dict[str, Any]) -> None:
    bounds = asked["selector"].get("number")
    if bounds:
        assert bounds["min"] <= asked["default"] <= bounds["max"]


@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)
def test_every_input_is_asked_for_and_used(path: Path) -> None:
    content = load(path)
    asked = set(content["blueprint"].pop("input"))
    used = {one.name for one in walk(content) if isinstance(one, Input)}
    assert used == asked
