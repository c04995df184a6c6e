"""`solarbridge scan` and `scan --probe`: what is plugged in, and who answers there, on simulated devices on ptys."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.config import load
from bridge.pylontech import console_connection, sounding
from bridge.simulators.axpert import AxpertSimulator
from bridge.simulators.pylontech import PylontechSimulator
from bridge.simulators.pylontech_console import ConsoleSimulator
from bridge.tools import scan_ports
from bridge.transports import hidapi
from bridge.transports.base import Stop
from bridge.transports.hidraw import Node
from bridge.transports.serial_port import open_serial
from bridge.voltronic import connection
from tests.shared import REPOSITORY


def scan(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "bridge", "scan", *arguments],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=240, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is known sooner than on a real line, which takes half a minute for every port."""
    monkeypatch.setattr(connection, "FIRST_BYTE", 0.5)
    monkeypatch.setattr(console_connection, "KNOCKING", 0.2)
    monkeypatch.setattr(console_connection, "OTHERS_THINKING", 1.0)
    monkeypatch.setattr(sounding, "PATIENCE", 0.05)
    monkeypatch.setattr("signal.signal", lambda *_: None)


def entries(said: str, folder: Path) -> list[dict[str, Any]]:
    """Return the printed entries, once the loader has taken them as a configuration."""
    text = said.partition("names of your own:")[2]
    path = folder / "config.yaml"
    path.write_text(f"mqtt: {{host: localhost}}\n{text}")
    path.chmod(0o600)
    load(str(path), {})
    return list(yaml.safe_load(text)["devices"])


def test_inverters_and_a_stack_are_told_apart(tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]) -> None:
    with (
        AxpertSimulator(link=tmp_path / "roof", baud=None) as roof,
        PylontechSimulator(link=tmp_path / "stack", modules=3, baud=None) as stack,
        AxpertSimulator("two", link=tmp_path / "shed", model="pi18", baud=None),
    ):
        status = scan_ports.probe([str(tmp_path / name) for name in ("roof", "stack", "shed")], yes=True)
        serial, modules = roof.plant.units[0].serial, stack.stack.modules
    said = capsys.readouterr().out
    assert status == 0, said
    assert f"roof: an Axpert or kin that speaks PI30; serial number {serial}" in said
    assert "shed: an Axpert or kin that speaks PI18; serial number" in said
    assert all(f"{address} ({module.serial})" in said for address, module in modules.items())
    assert entries(said, tmp_path) == [
        {"name": "inverter", "type": "axpert", "port": str(tmp_path / "roof")},
        {"name": "batteries", "type": "pylontech", "port": str(tmp_path / "stack"), "link": "rs485", "baud": 115200},
        {"name": "inverter2", "type": "axpert", "port": str(tmp_path / "shed"), "topics": {"parallel": None}},
    ]


def test_where_nobody_answers_it_says_so(quick: None, capsys: pytest.CaptureFixture[str]) -> None:
    near, far = pty.openpty()
    tty.setraw(far)
    try:
        assert scan_ports.probe([os.ttyname(far)], yes=True) == 1
    finally:
        os.close(near)
        os.close(far)
    assert "nobody answers; a Pylontech console that sleeps is woken by the bridge alone" in capsys.readouterr().out


def test_a_console_is_known_by_its_prompt_and_not_woken(tmp_path: Path) -> None:
    with ConsoleSimulator(modules=2, link=tmp_path / "console", baud=None) as console:
        status, said = scan("--yes", "--probe", str(tmp_path / "console"))
        assert console.port
    assert status == 0
    assert "a Pylontech console; modules at positions 1, 2" in said
    (entry,) = entries(said, tmp_path)
    assert entry["link"] == "console"


def test_modules_of_another_group_are_found(tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]) -> None:
    with PylontechSimulator(link=tmp_path / "stack", modules=2, group=3, baud=None) as stack:
        assert scan_ports.probe([stack.port], yes=True) == 0
    (entry,) = entries(capsys.readouterr().out, tmp_path)
    assert entry["groups"] == [3]


def test_a_port_that_another_program_holds_is_left_alone(tmp_path: Path) -> None:
    with AxpertSimulator(link=tmp_path / "roof", baud=None) as roof:
        link = open_serial(str(tmp_path / "roof"), 2400, Stop())
        try:
            status, said = scan("--yes", "--probe", str(tmp_path / "roof"))
        finally:
            link.close()
        assert roof.truth.records() == [], "something was written to it"
    assert status == 1
    assert "left alone" in said
    assert "in use by another program" in said


def test_without_a_terminal_and_without_yes_nothing_is_written(tmp_path: Path) -> None:
    with AxpertSimulator(link=tmp_path / "roof", baud=None) as roof:
        status, said = scan("--probe", str(tmp_path / "roof"))
        assert roof.truth.records() == []
    assert (status, "--yes is needed" in said) == (2, True)


@contextmanager
def typing(monkeypatch: pytest.MonkeyPatch, answer: str) -> Iterator[None]:
    """A person at a terminal who types this."""
    terminal = io.StringIO(answer)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)
    yield


@pytest.mark.parametrize("answer", ["\n", "y\n", "no\n", ""], ids=["return", "y", "no", "ctrl-d"])
def test_on_a_terminal_anything_but_yes_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, answer: str
) -> None:
    with AxpertSimulator(link=tmp_path / "roof", baud=None) as roof, typing(monkeypatch, answer):
        assert scan_ports.probe([roof.port], yes=False) == 2
        assert roof.truth.records() == []
    said = capsys.readouterr()
    assert roof.port in said.err, "the ports are named first"
    assert said.out == "", "what goes to a file must not hide the question"


def test_what_is_plugged_in_is_listed_by_lasting_names(tmp_path: Path) -> None:
    """Device nodes cannot be made here, so files stand for them."""
    (tmp_path / "serial/by-id").mkdir(parents=True)
    for name in ("ttyUSB0", "ttyUSB1", "ttyACM0", "ttyS0", "null"):
        (tmp_path / name).touch()
    lasting = tmp_path / "serial/by-id/usb-FTDI_A1-if00-port0"
    lasting.symlink_to("../../ttyUSB1")
    (tmp_path / "serial/by-id/usb-gone").symlink_to("../../ttyUSB7")
    found = scan_ports.serial_ports(str(tmp_path))
    assert [(port.name, os.path.basename(port.node)) for port in found] == [
        (str(tmp_path / "ttyACM0"), "ttyACM0"), (str(tmp_path / "ttyUSB0"), "ttyUSB0"), (str(lasting), "ttyUSB1"),
    ]  # fmt: skip


def test_adapters_that_share_a_name_are_listed_by_their_sockets(tmp_path: Path) -> None:
    """Two with a CH340: the system has one link for both, which leads to the one that came last."""
    for folder in ("by-id", "by-path"):
        (tmp_path / "serial" / folder).mkdir(parents=True)
    for number in range(2):
        (tmp_path / f"ttyUSB{number}").touch()
        (tmp_path / f"serial/by-path/usb-0:1.{number}:1.0-port0").symlink_to(f"../../ttyUSB{number}")
    (tmp_path / "serial/by-id/usb-1a86_USB_Serial-if00-port0").symlink_to("../../ttyUSB1")
    found = scan_ports.serial_ports(str(tmp_path))
    assert [port.name.removeprefix(f"{tmp_path}/serial/") for port in found] == [
        "by-path/usb-0:1.0:1.0-port0", "by-path/usb-0:1.1:1.0-port0",
    ]  # fmt: skip
    (tmp_path / "ttyUSB0").unlink()
    assert [port.name.removeprefix(f"{tmp_path}/serial/") for port in scan_ports.serial_ports(str(tmp_path))] == [
        "by-id/usb-1a86_USB_Serial-if00-port0"
    ]


def test_inverters_on_usb_are_listed_by_names_that_outlive_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [Node(str(tmp_path / f"hidraw{n}"), serial) for n, serial in enumerate(("", "", "A1", "A2", "A2"))]
    monkeypatch.setattr(hidapi, "nodes_found", lambda: nodes)
    (tmp_path / "solarbridge").mkdir()
    for n in (1, 2, 3):
        (tmp_path / "solarbridge" / f"axpert-1-1.{n}").symlink_to(f"../hidraw{n}")
    assert [port.name.removeprefix(f"{tmp_path}/") for port in scan_ports.hid_ports(str(tmp_path))] == [
        "hidraw0", "solarbridge/axpert-1-1.1", "hid:A1", "solarbridge/axpert-1-1.3", "hidraw4",
    ]  # fmt: skip


def test_without_options_it_says_what_is_there_and_how_to_go_on() -> None:
    status, said = scan()
    assert status == 0
    assert "Serial ports:" in said
    assert "(0665:5161)" in said
    assert "scan --probe [PORT ...]" in said
