"""HID reports. There is no hidraw node without the hardware: a pair of sequential-packet sockets keeps
reports apart as the kernel does, and a plain file stands in for the node where only opening matters."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import LinkError, Stopped
from bridge.transports.base import Stop
from bridge.transports.hidraw import Node, ReportLink, nodes, open_hidraw, reports
from tests.rights import error_without_rights
from tests.transports.lines import Waiting, descriptors, far, soon


@pytest.fixture
def stop() -> Stop:
    return Stop()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    device, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    device.settimeout(10)
    yield device, ours
    device.close()


@pytest.fixture
def device(ends: tuple[socket.socket, socket.socket]) -> socket.socket:
    return ends[0]


@pytest.fixture
def link(ends: tuple[socket.socket, socket.socket], stop: Stop) -> Iterator[ReportLink]:
    link = ReportLink(ends[1].detach(), "hidraw0", stop)
    yield link
    link.close()


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (b"QMOD\x49\xc1\r", [b"\0QMOD\x49\xc1\r\0"]),
        (b"QPIGS\xb7\xa9\r", [b"\0QPIGS\xb7\xa9\r"]),
        (b"QPIGS2\x68\x2d\r", [b"\0QPIGS2\x68\x2d", b"\0\r\0\0\0\0\0\0\0"]),
        (b"1234567\0\0bc\r", [b"\x001234567\0", b"\0\0bc\r\0\0\0\0"]),
        (b"12345678\x00\x01\r", [b"\x0012345678", b"\0\0\x01\r\0\0\0\0\0"]),
        (b"x" * 17, [b"\0xxxxxxxx", b"\0xxxxxxxx", b"\0x\0\0\0\0\0\0\0"]),
    ],
    ids=["short", "exactly eight", "nine", "zero at the cut", "chunk that begins with zero", "three"],
)
def test_a_command_is_written_in_reports_of_nine_bytes(
    device: socket.socket, link: ReportLink, command: bytes, expected: list[bytes]
) -> None:
    link.write(command, far())
    assert [device.recv(100) for _ in expected] == expected
    device.setblocking(False)
    with pytest.raises(BlockingIOError):
        device.recv(100)


@given(st.binary(max_size=64))
def test_reports_carry_every_byte_in_order(data: bytes) -> None:
    cut = reports(data)
    assert all(len(report) == 9 and report[0] == 0 for report in cut)
    assert b"".join(report[1:] for report in cut).ljust(64, b"\0") == data.ljust(64, b"\0")
    assert len(cut) == -(-len(data) // 8)


def test_reports_are_read_one_by_one_with_their_padding(device: socket.socket, link: ReportLink) -> None:
    for report in (b"(230.0 4", b"9.9\x12\x00\r\0\0", b"\0" * 8):
        device.send(report)
    assert [link.read(far()) for _ in range(3)] == [b"(230.0 4", b"9.9\x12\x00\r\0\0", b"\0" * 8]


def test_what_an_older_command_left_is_thrown_away_before_a_new_one(device: socket.socket, link: ReportLink) -> None:
    device.send(b"(NAKss\r\0")
    device.send(b"\0" * 8)
    link.write(b"QPI\xbe\xac\r", far())
    assert device.recv(100) == b"\0QPI\xbe\xac\r\0\0"
    device.send(b"(PI30\x9a\x0b\r")
    assert link.read(far()) == b"(PI30\x9a\x0b\r"


def test_drain_joins_all_waiting_reports(device: socket.socket, link: ReportLink) -> None:
    device.send(b"12345678")
    device.send(b"abc\r\0\0\0\0")
    assert link.drain() == b"12345678abc\r\0\0\0\0"
    assert link.drain() == b""


def test_no_report_until_the_deadline_is_no_failure(link: ReportLink) -> None:
    assert link.read(soon()) == b""


def test_stop_wakes_a_waiting_read(link: ReportLink, stop: Stop) -> None:
    waiting = Waiting(lambda: link.read(far()))
    waiting.sleeps()
    stop.set()
    assert isinstance(waiting.result(), Stopped)


def test_b1_an_unplugged_device_is_a_link_error(device: socket.socket, link: ReportLink) -> None:
    waiting = Waiting(lambda: link.read(far()))
    waiting.sleeps()
    device.close()
    assert isinstance(waiting.result(), LinkError)
    with pytest.raises(LinkError, match="hidraw0"):
        link.write(b"QPI\r", far())


def test_b4_a_device_that_takes_no_reports_is_a_link_error_by_the_deadline(link: ReportLink) -> None:
    deadline = soon()
    with pytest.raises(LinkError, match="does not take bytes"):
        link.write(b"x" * 1_000_000, deadline)
    assert time.monotonic() >= deadline


def test_b5_a_second_opening_is_refused_until_the_first_is_closed(tmp_path: Path, stop: Stop) -> None:
    node = tmp_path / "hidraw0"
    node.write_bytes(b"")
    before = descriptors()
    link = open_hidraw(str(node), stop)
    with pytest.raises(LinkError, match="in use by another program"):
        open_hidraw(str(node), stop)
    link.close()
    link.close()
    assert descriptors() == before
    open_hidraw(str(node), stop).close()


def test_b3_a_node_without_rights_names_the_udev_rule(tmp_path: Path, stop: Stop) -> None:
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    node = tmp_path / "hidraw0"
    node.write_bytes(b"")
    node.chmod(0)
    text = error_without_rights(lambda: open_hidraw(str(node), stop))
    assert "no right to open it" in text
    assert "udev rule 60-solarbridge.rules" in text


def test_a_node_that_is_not_there_is_told(tmp_path: Path, stop: Stop) -> None:
    with pytest.raises(LinkError, match="hidraw7: not there"):
        open_hidraw(str(tmp_path / "hidraw7"), stop)
    with pytest.raises(LinkError, match="null byte"):
        open_hidraw("hidraw\0", stop)


# -- looking for nodes


def plug(sysfs: Path, name: str, hid_id: str, serial: str = "") -> None:
    """Write what the kernel shows of a hidraw node."""
    folder = sysfs / "class" / "hidraw" / name / "device"
    folder.mkdir(parents=True)
    text = f"DRIVER=hid-generic\nHID_ID={hid_id}\nHID_NAME=HID 0665:5161\nHID_PHYS=usb-1\nHID_UNIQ={serial}\n"
    (folder / "uevent").write_text(text)


INVERTER = "0003:00000665:00005161"


def test_nodes_are_found_by_vendor_and_product(tmp_path: Path) -> None:
    plug(tmp_path, "hidraw10", INVERTER, "A1")
    plug(tmp_path, "hidraw2", INVERTER)
    plug(tmp_path, "hidraw0", "0003:0000046D:0000C52B", "keyboard")
    plug(tmp_path, "hidraw1", "0003:00000665:00005162")
    (tmp_path / "class" / "hidraw" / "hidraw3").mkdir()  # unplugged in this moment
    assert nodes(str(tmp_path)) == [Node("/dev/hidraw2", ""), Node("/dev/hidraw10", "A1")]


@pytest.mark.parametrize("uevent", ["", "HID_ID\n", "HID_ID=\n", "HID_ID=0003\n", "=\n", "\udcff"])
def test_an_odd_uevent_is_no_inverter(tmp_path: Path, uevent: str) -> None:
    plug(tmp_path, "hidraw0", INVERTER)
    (tmp_path / "class/hidraw/hidraw0/device/uevent").write_text(uevent, errors="surrogateescape")
    assert nodes(str(tmp_path)) == []


def test_a_kernel_without_hidraw_has_no_nodes(tmp_path: Path) -> None:
    assert nodes(str(tmp_path)) == []
    assert os.listdir(tmp_path) == []
