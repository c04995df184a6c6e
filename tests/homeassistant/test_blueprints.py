"""Blueprints: their shape, and that every input is asked for and used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.homeassistant.folder import FOLDER, Input, load, walk

BLUEPRINTS = sorted((FOLDER / "blueprints" / "automation" / "solarbridge").glob("*.yaml"))
PARTS = {"blueprint", "mode", "max", "max_exceeded", "variables", "triggers", "conditions", "actions"}
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


def steps(actions: list[Any], *, sure: bool = True) -> Iterator[tuple[str, str, bool]]:
    """Yield kind, what it is about, and whether it is always run, of every step in their order."""
    for step in actions:
        if "if" in step:
            yield from steps(step["then"], sure=False)
        elif "action" in step:
            target = step["target"]["entity_id"]
            yield step["action"], target.name if isinstance(target, Input) else target.strip("{} "), sure
        elif "wait_template" in step:
            assert step["timeout"] == 60
            assert step["continue_on_timeout"] is False
            yield "wait", step["wait_template"], sure


def test_a_charge_is_switched_on_only_behind_what_was_read_back() -> None:
    content = load(BLUEPRINTS[0].with_name("charge_window.yaml"))
    found = list(steps(content["actions"]))
    assert [(kind, sure) for kind, _, sure in found] == [
        ("switch.turn_off", False), ("text.set_value", False), ("time.set_value", False), ("wait", False),
        ("time.set_value", False), ("wait", True), ("number.set_value", False), ("wait", True),
        ("switch.turn_on", False),
    ]  # fmt: skip
    (_, start, _), (_, started, _), (_, end, _), (_, window, _) = found[2:6]
    assert (start, end) == ("window", "window_end")
    assert started == "{{ states(window)[:5] == start[:5] }}"
    enough = content["actions"][0]
    assert enough["if"][0]["value_template"] == "{{ states(soc) | float > enough | float }}"
    assert "stop" in enough["then"][-1], "and nothing is set"
    for half in ("states(window)[:5] == start[:5]", "states(window_end)[:5] == end[:5]", "states(window) == wanted"):
        assert half in window
    assert found[7][1] == "{{ states(limit) | float(-1) == percent | float }}"


def test_a_full_battery_has_no_more_than_100_percent() -> None:
    content = load(BLUEPRINTS[0].with_name("charge_window.yaml"))
    assert content["blueprint"]["input"]["enough"]["default"] == 100
    known = {"condition": "template", "value_template": "{{ is_number(states(soc)) }}"}
    assert known in content["conditions"], "of a battery that is away nobody knows whether it has enough"


def test_a_low_battery_is_waited_for_until_it_has_recovered() -> None:
    content = load(BLUEPRINTS[0].with_name("low_soc.yaml"))
    assert (content["mode"], content["max_exceeded"]) == ("single", "silent")
    told, waits = content["actions"]
    assert told == {"sequence": Input("do")}
    assert waits.keys() == {"wait_template"}  # for ever
    assert "states(soc) | float(-1) >=" in waits["wait_template"]  # what is unavailable has not recovered
    assert {"trigger": "homeassistant", "event": "start"} in content["triggers"]
