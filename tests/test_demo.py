"""The demo, as a new user starts it: it ends by itself with a summary, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bridge.tools.demo import Seen, _draw, _summary, brief
from tests.harness import Mosquitto, Recorder, free_port
from tests.shared import REPOSITORY


def start(tmp_path: Path, *arguments: str, environ: dict[str, str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bridge", "demo", *arguments],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "TMPDIR": str(tmp_path), **(environ or {})},
    )  # fmt: skip


def test_the_demo_shows_every_device_and_ends_with_a_summary(tmp_path: Path) -> None:
    demo = start(tmp_path, "--seconds", "25")
    output, _ = demo.communicate(timeout=120)
    assert demo.returncode == 0, output
    assert "mosquitto_sub -h 127.0.0.1 -p" in output
    assert "Messages per topic:" in output
    batteries = ("batteries/state", "batteries/PPTSIM0001000004/state", "cellar/state", "garage/state")
    devices = ("roof/state", "barn/state", "house/state", "house/settings", *batteries)
    for topic in ("solarbridge/status", *(f"solarbridge/{d}" for d in devices), "power/axpert", "power/barn",
                  "solarbridge/bank/state", "battery/data"):  # fmt: skip
        assert topic in output
    assert list(tmp_path.iterdir()) == []


def test_the_demo_runs_on_the_embedded_broker_alone(tmp_path: Path) -> None:
    # an empty PATH hides an installed mosquitto from this one process; /usr/sbin is looked at besides, so the
    # search itself is switched off by name
    code = (
        "import shutil, sys; shutil.which = lambda *_, **__: None\n"
        # a port of its own: another demo beside it would look for the same one
        f"import bridge.tools.demo; bridge.tools.demo.PORT = {free_port()}\n"
        "from bridge.cli import main; sys.exit(main(['demo', '--seconds', '25']))"
    )
    demo = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=120,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "Broker: amqtt" in demo.stdout
    assert "solarbridge/roof/state" in demo.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP], ids=["ctrl-c", "closed terminal"])
def test_ctrl_c_and_a_closed_terminal_end_the_demo_cleanly(tmp_path: Path, number: int) -> None:
    demo = start(tmp_path)
    assert demo.stdout is not None
    seen = []
    while not (seen and re.match("[1-9][0-9]* messages on", seen[-1])):  # all of it runs
        seen.append(demo.stdout.readline())
        assert seen[-1], seen
    demo.send_signal(number)
    rest, _ = demo.communicate(timeout=60)
    output = "".join(seen) + rest
    assert demo.returncode == 0, output
    assert "Messages per topic:" in output
    assert list(tmp_path.iterdir()) == []


def test_the_demo_tells_the_house_s_own_broker_nothing(tmp_path: Path) -> None:
    """Which the environment may name, for `read` and `write`: a GX there would be steered by batteries made up."""
    with Mosquitto(tmp_path / "broker", "allow_anonymous true") as broker, Recorder(broker.port, "#") as house:
        (tmp_path / "demo").mkdir()
        named = {"SOLARBRIDGE_MQTT_HOST": "127.0.0.1", "SOLARBRIDGE_MQTT_PORT": str(broker.port)}
        demo = start(tmp_path / "demo", "--seconds", "8", environ=named)
        output, _ = demo.communicate(timeout=60)
        assert "solarbridge/roof/state" in output, "it has a broker of its own"
        assert house.messages == []


def test_a_payload_is_shown_in_one_line_without_what_is_not_known() -> None:
    text = brief(b'{"a": 1, "b": null, "c_code": 7, "d": "x\\u001by"}', 80)
    assert text == "a=1  d=x?y"
    assert len(brief(b'{"long": "' + b"x" * 500 + b'"}', 40)) == 40


def test_a_device_that_published_nothing_makes_the_demo_fail() -> None:
    seen = {"solarbridge/roof/state": Seen(b"{}", 0.0, 3)}
    assert _summary(seen, ["roof"], time_given=True) == 0
    assert _summary(seen, ["roof", "barn"], time_given=True) == 1
    assert _summary(seen, ["roof", "barn"], time_given=False) == 0  # ended by hand, maybe before it had its turn


def test_the_screen_shows_what_is_not_online_and_counts_what_is(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "10")
    seen = {f"solarbridge/{name}/availability": Seen(b"online", 0.0, 1) for name in ("roof", "barn")}
    seen["solarbridge/house/availability"] = Seen(b"offline", 0.0, 1)
    _draw(seen, 1883)
    screen = capfd.readouterr().out
    assert "2 x availability: online" in screen
    assert "solarbridge/house/availability" in screen
    assert "solarbridge/roof" not in screen


@pytest.mark.parametrize("columns", [80, 40, 132])
def test_no_line_of_the_screen_is_wider_than_the_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", "24")
    long = "homeassistant/device/solarbridge_batteries_PPTSIM0001000001/config"
    seen = {topic: Seen(b'{"soc": 61.9}', time.monotonic(), 3) for topic in (long, "solarbridge/house/state")}
    _draw(seen, 18830)
    lines = capfd.readouterr().out.splitlines()
    assert max(map(len, lines)) - len("\x1b[H\x1b[2J") <= columns
    assert "/config" in lines[2]
    assert "solarbridge/house/state" in lines[3] or columns == 40
