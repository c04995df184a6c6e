"""Finding an inverter by its USB ids. hidapi can do nothing without the hardware: modules made up here
stand in for its two backends; the nodes they list are plain files."""

from __future__ import annotations

import queue
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from bridge.errors import LinkError, Stopped
from bridge.transports import hidapi
from bridge.transports.base import Stop
from bridge.transports.hidraw import ReportLink
from tests.transports.lines import Waiting, descriptors, far, soon
from tests.transports.test_hidraw import INVERTER, plug


class UsbDevice:
    """What `hid.device()` gives: an inverter that answers each command's last report with ACK."""

    def __init__(self) -> None:
        self.path: bytes | None = None
        self.closed = 0
        self.broken = False
        self.written: list[bytes] = []
        self.waits: list[int] = []
        self._reports: queue.Queue[bytes] = queue.Queue()
        self._nonblocking = 0

    def open_path(self, path: bytes) -> None:
        if path == b"1-9:1.0":
            raise OSError("open failed")
        self.path = path

    def set_nonblocking(self, value: int) -> None:
        self._nonblocking = value

    def send(self, report: bytes) -> None:
        self._reports.put(report)

    def read(self, _length: int, timeout_ms: int = 0) -> list[int]:
        if self.broken:
            raise OSError("read error")
        if not timeout_ms and not self._nonblocking:
            raise AssertionError("would wait for ever")
        self.waits.append(timeout_ms)
        try:
            return list(self._reports.get(timeout_ms > 0, timeout_ms / 1000))
        except queue.Empty:
            return []

    def write(self, report: bytes) -> int:
        if self.broken:
            return -1
        self.written.append(bytes(report))
        return len(report)

    def close(self) -> None:
        self.closed += 1


class Backend:
    """A module of hidapi: lists what is plugged in."""

    def __init__(self) -> None:
        self.plugged: list[dict[str, object]] = []
        self.opened: list[UsbDevice] = []

    def enumerate(self, vendor: int, product: int) -> list[dict[str, object]]:
        assert (vendor, product) == (0x0665, 0x5161)
        return self.plugged

    def device(self) -> UsbDevice:
        self.opened.append(UsbDevice())
        return self.opened[-1]

    def plug(self, path: str, serial: str | None = "") -> None:
        # several usages of one interface are listed one by one
        self.plugged += [{"path": path.encode(), "serial_number": serial}] * 2


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Backend:
    """Stands in for hidapi's module `hidraw`."""
    backend = Backend()
    monkeypatch.setitem(sys.modules, "hidraw", backend)
    return backend


@pytest.fixture
def usb(monkeypatch: pytest.MonkeyPatch) -> Backend:
    """Stands in for hidapi's module `hid`, which goes through libusb."""
    backend = Backend()
    monkeypatch.setitem(sys.modules, "hid", backend)
    return backend


@pytest.fixture
def stop() -> Stop:
    return Stop()


def node(folder: Path, name: str) -> str:
    (folder / name).write_bytes(b"")
    return str(folder / name)


def test_the_only_inverter_is_opened_by_its_node(tmp_path: Path, kernel: Backend, usb: Backend, stop: Stop) -> None:
    kernel.plug(node(tmp_path, "hidraw3"), None)
    link = hidapi.open_hid(None, stop)
    assert isinstance(link, ReportLink)
    assert kernel.opened + usb.opened == []
    with pytest.raises(LinkError, match=r"hid \(.*hidraw3\): in use by another program"):
        hidapi.open_hid(None, stop)
    link.close()


def test_several_inverters_have_to_be_told_apart(tmp_path: Path, kernel: Backend, usb: Backend, stop: Stop) -> None:
    kernel.plug(node(tmp_path, "hidraw0"), "A1")
    kernel.plug(node(tmp_path, "hidraw1"))
    with pytest.raises(LinkError, match=r"hidraw0 \(serial A1\), .*hidraw1 \(serial none\); write hid:SERIAL or /dev"):
        hidapi.open_hid(None, stop)
    link = hidapi.open_hid("A1", stop)
    with pytest.raises(LinkError, match=r"hidraw0.*in use"):
        hidapi.open_hid("A1", stop)
    link.close()
    with pytest.raises(LinkError, match=r"hid:B2: not there; present are .*A1"):
        hidapi.open_hid("B2", stop)


def test_two_inverters_with_one_serial_number_have_to_be_told_apart(
    tmp_path: Path, kernel: Backend, stop: Stop
) -> None:
    for name in ("hidraw0", "hidraw1"):
        kernel.plug(node(tmp_path, name), "0000")
    with pytest.raises(LinkError, match="several fit"):
        hidapi.open_hid("0000", stop)


def test_b2_a_replugged_inverter_is_found_under_its_new_name(tmp_path: Path, kernel: Backend, stop: Stop) -> None:
    kernel.plug(node(tmp_path, "hidraw0"), "A1")
    hidapi.open_hid("A1", stop).close()
    kernel.plugged.clear()
    kernel.plug(node(tmp_path, "hidraw5"), "other")
    kernel.plug(node(tmp_path, "hidraw6"), "A1")
    link = hidapi.open_hid("A1", stop)
    with pytest.raises(LinkError, match=r"hid:A1 \(.*hidraw6\)"):
        hidapi.open_hid("A1", stop)
    link.close()


def test_without_hidapi_the_nodes_are_looked_up_in_sysfs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: Stop
) -> None:
    monkeypatch.setitem(sys.modules, "hidraw", None)  # import then fails
    monkeypatch.setitem(sys.modules, "hid", None)
    with pytest.raises(LinkError, match="not there; no USB device 0665:5161"):
        hidapi.open_hid(None, stop, str(tmp_path))
    plug(tmp_path, "hidraw91", INVERTER, "A1")
    plug(tmp_path, "hidraw92", INVERTER, "B2")
    with pytest.raises(LinkError, match=r"hid:B2 \(/dev/hidraw92\): not there"):
        hidapi.open_hid("B2", stop, str(tmp_path))


def test_the_real_backends_look_without_an_error() -> None:
    assert isinstance(hidapi.nodes_found(), list)


# -- through libusb, where the kernel has no node


@pytest.fixture
def device(kernel: Backend, usb: Backend) -> UsbDevice:
    usb.plug("1-2:1.0", "A1")
    device = UsbDevice()
    usb.device = lambda: device  # type: ignore[method-assign]
    return device


@pytest.fixture
def link(device: UsbDevice, stop: Stop) -> Iterator[hidapi.HidapiLink]:
    link = hidapi.open_hid("A1", stop)
    assert isinstance(link, hidapi.HidapiLink)
    yield link
    link.close()


def test_where_the_kernel_has_no_node_the_device_is_opened_through_libusb(
    device: UsbDevice, link: hidapi.HidapiLink
) -> None:
    assert device.path == b"1-2:1.0"
    device.send(b"stale\r\0\0")
    link.write(b"QPIGS2\x68\x2d\r", far())
    assert device.written == [b"\0QPIGS2\x68\x2d", b"\0\r\0\0\0\0\0\0\0"]
    device.send(b"(ACK9 \r\0")
    assert link.read(far()) == b"(ACK9 \r\0"
    assert link.fileno() is None


def test_a_libusb_read_ends_at_its_deadline(device: UsbDevice, link: hidapi.HidapiLink) -> None:
    deadline = soon()
    assert link.read(deadline) == b""
    assert time.monotonic() >= deadline
    device.send(b"late\r\0\0\0")
    assert link.read(time.monotonic() - 1) == b"late\r\0\0\0"


def test_a_libusb_read_never_waits_long_so_that_stop_is_seen(
    device: UsbDevice, link: hidapi.HidapiLink, stop: Stop
) -> None:
    waiting = Waiting(lambda: link.read(far()))
    waiting.sleeps()
    stop.set()
    assert isinstance(waiting.result(), Stopped)
    assert 0 < max(device.waits) <= 200


def test_an_unplugged_libusb_device_is_a_link_error(device: UsbDevice, link: hidapi.HidapiLink) -> None:
    device.broken = True
    for use in (lambda: link.read(far()), link.drain, lambda: link.write(b"QPI\r", far())):
        with pytest.raises(LinkError, match=r"hid:A1 \(1-2:1\.0\): read error"):
            use()


def test_a_libusb_device_that_takes_no_report_is_a_link_error(device: UsbDevice, link: hidapi.HidapiLink) -> None:
    device.write = lambda report: -1  # type: ignore[method-assign]
    with pytest.raises(LinkError, match="did not take a report"):
        link.write(b"QPI\r", far())
    with pytest.raises(LinkError, match="does not take bytes"):
        link.write(b"QPI\r", time.monotonic() - 1)


def test_a_libusb_device_is_closed_once(device: UsbDevice, link: hidapi.HidapiLink) -> None:
    link.close()
    link.close()
    assert device.closed == 1
    with pytest.raises(LinkError, match="closed"):
        link.read(far())


def test_a_libusb_device_that_cannot_be_opened_tells_the_likely_reasons(
    kernel: Backend, usb: Backend, stop: Stop
) -> None:
    usb.plug("1-9:1.0")
    before = descriptors()
    with pytest.raises(LinkError, match=r"hid \(1-9:1\.0\): cannot be opened: in use .*udev rule"):
        hidapi.open_hid(None, stop)
    assert [device.closed for device in usb.opened] == [1]
    assert descriptors() == before


def test_a_backend_that_cannot_look_is_a_link_error(monkeypatch: pytest.MonkeyPatch, stop: Stop) -> None:
    def fails(_vendor: int, _product: int) -> None:
        raise OSError("no udev")

    monkeypatch.setitem(sys.modules, "hidraw", SimpleNamespace(enumerate=fails))
    with pytest.raises(LinkError, match="cannot look for USB devices: no udev"):
        hidapi.open_hid(None, stop)
