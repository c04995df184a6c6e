"""The blueprints can be read, and ask for nothing that they do not use."""

from __future__ import annotations

import pytest

from tests.homeassistant.folder import FOLDER, Input, load, walk

FILES = sorted((FOLDER / "blueprints/automation/solarbridge").glob("*.yaml"))


def test_there_are_blueprints() -> None:
    assert {"bridge_offline", "low_soc"} <= {path.stem for path in FILES}


@pytest.mark.parametrize("stem", [path.stem for path in FILES])
def test_a_blueprint_uses_the_inputs_that_it_asks_for_and_no_others(stem: str) -> None:
    content = load(FOLDER / "blueprints/automation/solarbridge" / f"{stem}.yaml")
    assert content.keys() == {"blueprint", "triggers", "actions", "mode"} | (content.keys() & {"conditions"})
    assert content["blueprint"]["domain"] == "automation"
    asked = content["blueprint"]["input"]
    assert all({"name", "selector"} <= one.keys() for one in asked.values())
    assert {one.name for one in walk(content) if isinstance(one, Input)} == set(asked)
