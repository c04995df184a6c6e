"""The YAML for extra200tomqtt's topics: current, distinct, and of keys that are in the messages."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from bridge.battery import POWER, SOC, VOLTAGE
from bridge.pylontech import extra2000
from bridge.tools import extra200_package
from tests.homeassistant.folder import FOLDER, load
from tests.homeassistant.test_packages import entries
from tests.sinks.ha_rules import _component

PATH = FOLDER / "extra200tomqtt" / "package.yaml"
LIMITS = extra2000.Limits(52.4, 40.0, 50.0)
LOOK_UP = re.compile(r"value_json\.get\('(\w+)'(?:, \{\}\)\.get\('(\w+)')?\)")


def test_the_package_is_current() -> None:
    assert PATH.read_text(encoding="utf-8") == extra200_package.document(), "python -m bridge.tools.extra200_package"


def test_every_entry_is_what_home_assistant_takes_and_has_an_id_of_its_own() -> None:
    ids: Counter[str] = Counter()
    names: Counter[tuple[str, ...]] = Counter()
    for platform, entry in entries(load(PATH)):
        told = {key: value for key, value in entry.items() if key not in ("device", "expire_after")}
        assert list(_component({**told, "platform": platform}, {}, newest=False)) == [], entry["unique_id"]
        assert entry["expire_after"] >= 60
        ids[entry["unique_id"]] += 1
        names[platform, entry["device"]["name"], entry["name"].lower()] += 1
    assert {*ids.values()} == {*names.values()} == {1}


def test_every_key_that_is_looked_up_is_in_the_message() -> None:
    state: dict[str, Any] = {POWER.key: 500.0, VOLTAGE.key: 50.0, SOC.key: 50.0}
    module = extra2000.battery_message(state, LIMITS, 15)
    assert module is not None
    bank = extra2000.bank_message({"1": state}, LIMITS, 15)
    assert bank is not None
    for _, entry in entries(load(PATH)):
        message: Any = bank if entry["state_topic"].endswith("pylon") else module
        found = LOOK_UP.findall(entry["value_template"])
        assert found
        for section, key in found:
            assert key in message[section] if key else section in message, entry["unique_id"]
