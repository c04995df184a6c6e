"""Which kind of link a configured `port` becomes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bridge.errors import LinkError
from bridge.transports.base import Stop
from bridge.transports.hidraw import ReportLink
from bridge.transports.ports import open_port
from bridge.transports.serial_port import SerialLink
from tests.transports.lines import Pty
from tests.transports.test_hidapi import Backend


def test_a_pty_or_a_link_to_one_is_a_serial_port(tmp_path: Path) -> None:
    line = Pty()
    (tmp_path / "ttyAxpert").symlink_to(line.path)
    for port in (line.path, str(tmp_path / "ttyAxpert")):
        link = open_port(port, 2400, Stop())
        assert isinstance(link, SerialLink)
        link.close()
    line.unplug()


def test_a_hidraw_node_or_a_link_to_one_is_opened_as_such(tmp_path: Path) -> None:
    (tmp_path / "hidraw4").write_bytes(b"")  # a plain file stands in for the node
    (tmp_path / "axpert").symlink_to("hidraw4")
    for port in ("hidraw4", "axpert"):
        link = open_port(str(tmp_path / port), 2400, Stop())
        assert isinstance(link, ReportLink)
        link.close()


@pytest.mark.parametrize("port", ["hid", "hid:A1"])
def test_hid_is_looked_for_by_its_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    backend = Backend()
    monkeypatch.setitem(sys.modules, "hidraw", backend)
    monkeypatch.setitem(sys.modules, "hid", None)
    with pytest.raises(LinkError, match=f"{port}: not there"):
        open_port(port, 2400, Stop())
    (tmp_path / "hidraw1").write_bytes(b"")
    backend.plug(str(tmp_path / "hidraw1"), "A1")
    link = open_port(port, 2400, Stop())
    assert isinstance(link, ReportLink)
    link.close()


def test_a_name_no_system_takes_is_a_link_error() -> None:
    for port in ("a\0b", "hidraw\0", "x" * 5000):
        with pytest.raises(LinkError):
            open_port(port, 2400, Stop())


def test_a_port_imports_only_the_library_it_needs() -> None:
    code = (
        "import sys\n"
        "from bridge.errors import LinkError\n"
        "from bridge.transports.base import Stop\n"
        "from bridge.transports.ports import open_port\n"
        "heavy = lambda: sorted({'serial', 'hid', 'hidraw'} & set(sys.modules))\n"
        "for port in ('', '/nowhere/hidraw0', '/nowhere/tty'):\n"
        "    try:\n"
        "        port and open_port(port, 2400, Stop())\n"
        "    except LinkError:\n"
        "        pass\n"
        "    print(heavy())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.splitlines() == ["[]", "[]", "['serial']"]
