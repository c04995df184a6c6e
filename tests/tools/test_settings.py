"""`solarbridge read` and `write`, through a running bridge and without one: the same words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.simulators.axpert import AxpertSimulator
from tests.fake_slice import PRELUDE
from tests.faults.rig import configuration, house, say
from tests.harness import free_port
from tests.shared import REPOSITORY

RUN = f"{PRELUDE}\nimport sys\nfrom bridge.cli import main\nsys.exit(main())"


def solarbridge(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command with the configuration in `folder`, as a person without a terminal would."""
    config = folder / "bridge" / "config.yaml"
    return subprocess.run(
        [sys.executable, "-c", RUN, *arguments, "--config", str(config)],
        cwd=REPOSITORY, env={**os.environ, "XDG_STATE_HOME": str(folder / "state")}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip


def configured(folder: Path, port: int) -> None:
    (folder / "bridge").mkdir()
    config = configuration(folder, port, {"one": {"writes": True, "parts": 1}, "two": {}})
    (folder / "bridge" / "config.yaml").write_text(config)


def frames(folder: Path) -> list[str]:
    path = folder / "one.control.frames"
    return path.read_text().splitlines() if path.exists() else []


def same_story(folder: Path) -> None:
    """Read, write, refuse: what a person sees must not depend on who asks the device."""
    whole = json.loads(solarbridge(folder, "read", "one", "--json").stdout)
    assert whole["settings"]["limit"] == 50
    assert whole["state"]["count"] > 0
    assert "part0/state" in whole
    assert solarbridge(folder, "read", "one", "limit").stdout == "settings:\n  limit  50\n"
    part = json.loads(solarbridge(folder, "read", "one/part0", "--json").stdout)
    assert list(part) == ["part0/state"]

    done = solarbridge(folder, "write", "one", "limit", "80", "--yes")
    result = json.loads(done.stdout)
    assert done.returncode == 0
    assert (result["outcome"], result["old"], result["read_back"]) == ("done", 50, 80)
    assert list(result) == ["id", "unit", "setting", "source", "register", "old", "wanted", "read_back", "outcome",
                            "reason", "duration"]  # fmt: skip
    refused = solarbridge(folder, "write", "one", "limit", "101", "--yes")
    assert refused.returncode == 1
    assert "expected 0 to 100" in json.loads(refused.stdout)["reason"]
    assert frames(folder) == ["limit 80"]


def test_a_running_bridge_is_asked_over_mqtt(tmp_path: Path) -> None:
    devices = {"one": {"writes": True, "parts": 1}, "two": {}}
    with house(tmp_path, devices, environ={"XDG_STATE_HOME": str(tmp_path / "state")}) as site:
        site.await_up()
        same_story(tmp_path)
        assert site.recorder.on("sb/one/result"), "the bridge itself did it"


def test_without_a_bridge_the_device_is_asked_directly(tmp_path: Path) -> None:
    configured(tmp_path, free_port())
    same_story(tmp_path)
    assert "no broker" in solarbridge(tmp_path, "read", "one").stderr


def test_nothing_is_written_without_a_yes(tmp_path: Path) -> None:
    configured(tmp_path, free_port())
    done = solarbridge(tmp_path, "write", "one", "limit", "80")
    assert done.returncode == 1
    assert "--yes" in done.stderr
    assert frames(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("read", "tow"), 2, "there are one, two"),
        (("read", "one", "limits"), 1, "not there: limits; there are"),
        (("write", "two", "limit", "80", "--yes"), 1, ""),
    ],
)
def test_what_is_not_there_is_named(arguments: tuple[str, ...], status: int, words: str, tmp_path: Path) -> None:
    configured(tmp_path, free_port())
    done = solarbridge(tmp_path, *arguments)
    assert done.returncode == status
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_device_that_cannot_be_reached_is_said_so(tmp_path: Path) -> None:
    configured(tmp_path, free_port())
    say(tmp_path, "one", "link")
    done = solarbridge(tmp_path, "read", "one")
    assert (done.returncode, "the cable is out" in done.stderr) == (1, True)


def test_an_inverter_without_a_bridge_is_written_once_it_has_said_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "bridge").mkdir()
    with AxpertSimulator(model="max", baud=None) as simulator:
        device = {"name": "roof", "type": "axpert", "port": simulator.port, "writes": True}
        config = {"mqtt": {"host": "127.0.0.1", "port": free_port()}, "devices": [device]}
        (tmp_path / "bridge" / "config.yaml").write_text(json.dumps(config))
        done = solarbridge(tmp_path, "write", "roof", "input_voltage_range", "ups", "--yes")
        assert json.loads(done.stdout)["outcome"] == "done", done.stderr
        assert simulator.setters == ["PGR01"]


def test_an_inverter_without_a_bridge_is_read_to_the_end_of_its_round(tmp_path: Path) -> None:
    """It tells its state after each answer: the first one knows nothing of what is set yet."""
    (tmp_path / "bridge").mkdir()
    with AxpertSimulator(model="max", baud=None) as simulator:
        device = {"name": "roof", "type": "axpert", "port": simulator.port}
        config = {"mqtt": {"host": "127.0.0.1", "port": free_port()}, "devices": [device]}
        (tmp_path / "bridge" / "config.yaml").write_text(json.dumps(config))
        state = json.loads(solarbridge(tmp_path, "read", "roof", "--json").stdout)["state"]
        assert state["mode"] is not None
        assert state["output_source_priority"] is not None, state
