"""The packages are those of the tables, and Home Assistant can take all of them at once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from bridge.tools import packages
from tests.homeassistant.folder import FOLDER, Loader, load
from tests.sinks.ha_rules import _component

FILES = sorted((FOLDER / "packages").glob("*.yaml"))
MADE = ("bridge", *packages.PACKAGES)
ONE_LOOK_UP = re.compile(
    r"\{\{ value_json\.get\('[^']+'\) \}\}"  # as it is
    r"|\{\{ \(value_json\.get\('[^']+'\)\|string\)\[:255\] \}\}"  # a text
    r"|\{\{ value_json\.get\('[^']+'\) or 'unknown' \}\}"  # a time window
    r"|\{% set v = value_json\.get\('[^']+'\) %\}\{\{ v[^{}]* else none \}\}"  # a control, within its bounds
)


def entries(content: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield platform and entry of every entity of a package."""
    assert content.keys() == {"mqtt"}
    for part in content["mqtt"]:
        for platform, listed in part.items():
            for entry in listed:
                yield platform, entry


@pytest.mark.parametrize("file", MADE)
def test_a_package_is_current(file: str) -> None:
    written = (FOLDER / "packages" / f"{file}.yaml").read_text(encoding="utf-8")
    assert written == packages.document(file) == packages.files()[f"{file}.yaml"], "python -m bridge.tools.packages"


def test_no_package_is_left_over() -> None:
    assert {path.stem for path in FILES} == set(MADE)


@pytest.mark.parametrize("file", MADE)
def test_every_entry_of_a_package_is_what_home_assistant_takes(file: str) -> None:
    found = list(entries(load(FOLDER / "packages" / f"{file}.yaml")))
    assert found
    for platform, entry in found:
        assert entry["qos"] == 1
        assert entry["device"].keys() <= {"identifiers", "name", "manufacturer", "model", "serial_number"}
        if file != "bridge":
            assert entry["availability_mode"] == "all"
            assert [one["topic"].rpartition("/")[2] for one in entry["availability"]] == ["status", "availability"]
        told = {key: value for key, value in entry.items() if key not in ("device", "availability_mode")}
        assert list(_component({**told, "platform": platform}, {}, newest=False)) == [], entry["unique_id"]
        if "value_template" in entry:
            assert ONE_LOOK_UP.fullmatch(entry["value_template"]), entry["value_template"]


def test_no_two_entities_of_all_packages_share_an_id_or_a_name_on_their_device() -> None:
    ids: Counter[str] = Counter()
    names: Counter[tuple[str, ...]] = Counter()
    for path in FILES:
        for platform, entry in entries(load(path)):
            ids[entry["unique_id"]] += 1
            names[platform, entry["device"]["name"], entry["name"].lower()] += 1
    assert [one for one, count in ids.items() if count > 1] == []
    assert [one for one, count in names.items() if count > 1] == []


@pytest.mark.parametrize("file", packages.PACKAGES)
def test_the_line_that_renames_a_package_does_what_the_tool_does(file: str) -> None:
    package = packages.PACKAGES[file]
    text = packages.document(file)
    assert f"""sed -E 's#(/|package_|"){package.device}#\\1YOURS#g' {file}.yaml""" in text
    renamed = re.sub(f'(/|package_|"){package.device}', r"\1shed", text)
    if package.module:
        renamed = renamed.replace(packages.UNIT, "PPT0001")
    wanted = packages.document(file, "shed", "PPT0001")
    assert yaml.load(renamed, Loader) == yaml.load(wanted, Loader) != yaml.load(text, Loader)


def test_a_control_says_what_has_to_be_allowed_and_class_c_has_none() -> None:
    text = (FOLDER / "packages" / "house_settings.yaml").read_text()
    assert "# class B: allow ac_charge" in text
    assert "# class C" not in text
    assert "battery_bulk_voltage" not in (FOLDER / "packages" / "roof_settings.yaml").read_text()


def test_a_package_is_printed_for_another_device(capsys: pytest.CaptureFixture[str]) -> None:
    assert packages.main(["batteries_module", "cellar", "PPT0001"]) == 0
    assert "state_topic: solarbridge/cellar/PPT0001/state" in capsys.readouterr().out
    assert packages.main(["attic", "cellar"]) == 2
    assert "batteries_module" in capsys.readouterr().err
