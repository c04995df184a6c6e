"""Voltronic's USB interface found by vendor and product id, and by serial number when there are several.

hidapi looks for it. Its Linux wheel holds two backends: module `hidraw` finds /dev/hidrawN nodes,
which are then opened directly, since poll() on a descriptor is exact; module `hid` goes through
libusb, takes the device away from the kernel and needs other rights, so it is used only where no node is
found. Without hidapi, as on Venus OS, the nodes are looked up in /sys.
"""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any

from bridge.errors import LinkError, Stopped
from bridge.transports.base import Link, Stop
from bridge.transports.hidraw import PRODUCT, REPORT, RIGHTS, VENDOR, Node, nodes, open_hidraw, reports

SLICE = 0.2
"""Seconds of one wait inside hidapi, which cannot be woken: a stop is seen after at most that."""


def open_hid(serial: str | None, stop: Stop, sysfs: str = "/sys") -> Link:
    """Open the only interface present, or the one with that serial number, wherever it is plugged in now.

    Raises LinkError when it is not there, when there are several to choose from, or as opening does.
    """
    name = f"hid:{serial}" if serial else "hid"
    found = nodes_found(sysfs)
    library = None
    if not found:
        library = _module("hid")
        found = _enumerate(library)
    node = choose(found, serial)
    shown = f"{name} ({node.path})"
    if library is None or node.path.startswith("/dev/hidraw"):
        return open_hidraw(node.path, stop, shown)
    return HidapiLink(_open_path(library, node.path, shown), shown, stop)


def nodes_found(sysfs: str = "/sys") -> list[Node]:
    """Return all hidraw nodes: as hidapi lists them, or without hidapi as the kernel does."""
    library = _module("hidraw")
    return nodes(sysfs) if library is None else _enumerate(library)


def choose(found: list[Node], serial: str | None) -> Node:
    """Return the node meant. Raises LinkError that says what there is instead."""
    name = f"hid:{serial}" if serial else "hid"
    present = ", ".join(f"{node.path} (serial {node.serial or 'none'})" for node in found)
    if not found:
        raise LinkError(f"{name}: not there; no USB device {VENDOR:04x}:{PRODUCT:04x} is plugged in")
    fitting = [node for node in found if not serial or node.serial == serial]
    if not fitting:
        raise LinkError(f"{name}: not there; present are {present}")
    if len(fitting) > 1:
        raise LinkError(f"{name}: several fit: {present}; write hid:SERIAL or /dev/..., as `solarbridge scan` does")
    return fitting[0]


class HidapiLink:
    """A link over an open device of hidapi's libusb backend."""

    def __init__(self, device: Any, name: str, stop: Stop) -> None:
        self._device: Any = device
        self._name = name
        self._stop = stop

    def read(self, deadline: float, _expected: int = 1, /) -> bytes:
        while True:
            left = deadline - time.monotonic()
            data = self._call("read", REPORT, *([max(1, int(min(left, SLICE) * 1000))] if left > 0 else []))
            if data or left <= 0:
                return bytes(data)
            if self._stop.is_set():
                raise Stopped

    def write(self, data: bytes, deadline: float) -> None:
        self.drain()
        for report in reports(data):
            if time.monotonic() > deadline:
                raise LinkError(f"{self._name}: does not take bytes any more")
            if self._call("write", report) < REPORT:
                raise LinkError(f"{self._name}: the device did not take a report")

    def drain(self) -> bytes:
        taken = bytearray()
        while data := self._call("read", REPORT):
            taken += bytes(data)
            if len(taken) > 1 << 20:
                raise LinkError(f"{self._name}: flooded with bytes nobody asked for")
        return bytes(taken)

    def fileno(self) -> int | None:
        return None

    def close(self) -> None:
        if self._device is not None:
            device, self._device = self._device, None
            device.close()

    def _call(self, method: str, *arguments: object) -> Any:
        if self._device is None:
            raise LinkError(f"{self._name}: closed")
        try:
            return getattr(self._device, method)(*arguments)
        except (OSError, ValueError) as err:
            raise LinkError(f"{self._name}: {err}") from err


def _module(name: str) -> Any:
    """Import a backend of hidapi, 1 MB that only this port needs; None where it is not installed."""
    try:
        return import_module(name)
    except ImportError:  # also when libusb or libudev is missing
        return None


def _enumerate(library: Any) -> list[Node]:
    """Return what a backend of hidapi lists."""
    if library is None:
        return []
    try:
        listed = library.enumerate(VENDOR, PRODUCT)
    except (OSError, ValueError) as err:
        raise LinkError(f"hid: cannot look for USB devices: {err}") from err
    found = {_text(entry["path"]): Node(_text(entry["path"]), entry.get("serial_number") or "") for entry in listed}
    return list(found.values())


def _text(path: bytes | str) -> str:
    return path.decode() if isinstance(path, bytes) else path


def _open_path(library: Any, path: str, name: str) -> Any:
    device = library.device()
    try:
        device.open_path(path.encode())
        device.set_nonblocking(1)
    except (OSError, ValueError) as err:  # it does not say why
        device.close()
        raise LinkError(f"{name}: cannot be opened: in use by another program, or {RIGHTS}") from err
    return device
