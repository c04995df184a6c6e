"""An entry of `devices` with `type: axpert`, through the real loader."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from bridge.config import load
from bridge.errors import ConfigError
from bridge.voltronic.device import Options, Topics


def options(tmp_path: Path, lines: str) -> Options:
    path = tmp_path / "config.yaml"
    path.write_text(f"mqtt: {{host: localhost}}\ndevices:\n  - name: roof\n    type: axpert\n{lines}", encoding="utf-8")
    return cast(Options, load(path, {}).devices[0])


def test_a_port_is_enough(tmp_path: Path) -> None:
    made = options(tmp_path, "    port: hid\n    writes: false\n")
    assert (made.port, made.baud, made.interval, made.parallel) == ("hid", 2400, 1.0, "auto")
    assert made.topics == Topics(parallel="power/axpert", unit="power/axpert{sn}")


@pytest.mark.parametrize("port", ["hid:92932004102453", "/dev/hidraw0", "/dev/ttyUSB0", "/dev/solarbridge/axpert-1"])
def test_a_port_need_not_be_there_yet(tmp_path: Path, port: str) -> None:
    assert options(tmp_path, f"    port: {port}\n").port == port


def test_a_topic_is_switched_off_with_null(tmp_path: Path) -> None:
    assert options(tmp_path, "    port: hid\n    topics: {parallel: null}\n").topics.parallel is None


def test_the_set_is_a_number_auto_or_false(tmp_path: Path) -> None:
    assert options(tmp_path, "    port: hid\n    parallel: 3\n").parallel == 3
    assert options(tmp_path, "    port: hid\n    parallel: false\n").parallel is False
    assert options(tmp_path, "    port: hid\n    parallel: auto\n").parallel == "auto"


@pytest.mark.parametrize(
    "lines",
    [
        "",
        "    port: HID\n",
        "    port: 'hid:'\n",
        "    port: COM3\n",
        "    port: ttyUSB0\n",
        "    port: hid\n    parallel: true\n",
        "    port: hid\n    parallel: 10\n",
        "    port: hid\n    interval: -1\n",
        "    port: hid\n    protocol: PI99\n",
        "    port: hid\n    also: [QPIGS]\n",
        "    port: hid\n    topics: {unit: 'power/#'}\n",
        "    port: hid\n    write: true\n",
        "    port: hid\n    writes: yes\n",
        "    port: hid\n    allow: [battery_type]\n",
        "    port: hid\n    time_sync: true\n",
        "    port: hid\n    writes: true\n    allow: [battery_typ]\n",
        "    port: hid\n    writes: true\n    bounds: {battery_type: [1, 2]}\n",
        "    port: hid\n    writes: true\n    bounds: {battery_bulk_voltage: [14.6, 12]}\n",
        "    port: hid\n    writes: true\n    bounds: {battery_bulk_voltage: [12]}\n",
        "    port: hid\n    writes: true\n    bounds: {battery_bulk_voltage: 12}\n",
    ],
)
def test_anything_else_is_refused_with_its_place(tmp_path: Path, lines: str) -> None:
    with pytest.raises(ConfigError) as caught:
        options(tmp_path, lines)
    assert all("devices[0]" in problem for problem in caught.value.problems)


def test_undocumented_questions_are_asked_when_named(tmp_path: Path) -> None:
    assert options(tmp_path, "    port: hid\n    also: [Q1, QLED]\n").also == ("Q1", "QLED")


def test_settings_are_named_and_bounded_by_their_owner(tmp_path: Path) -> None:
    lines = (
        "    port: hid\n    writes: true\n    allow: [battery_type, max_charger_current]\n"
        "    bounds: {battery_bulk_voltage: [12.0, 14.6]}\n"
    )
    made = options(tmp_path, lines)
    assert made.allow == ("battery_type", "max_charger_current")
    assert made.bounds == {"battery_bulk_voltage": (12.0, 14.6)}


def test_a_misspelled_setting_is_told_its_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"devices\[0\].allow.*did you mean charger_source_priority\?"):
        options(tmp_path, "    port: hid\n    writes: true\n    allow: [charger_source_prioritty]\n")


def test_one_word_where_a_list_of_such_belongs_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"also: found a text; expected a list, \[first, second\], of one of Q1"):
        options(tmp_path, "    port: hid\n    also: Q1\n")
