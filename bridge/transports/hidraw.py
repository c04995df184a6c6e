"""Voltronic's USB interface through /dev/hidrawN: a 2400 baud line cut into reports of eight bytes.

A write is nine bytes: report number 0, which the kernel takes off, and eight of data, so that a chunk
that begins with 0x00 arrives whole. A read gives one report. The zeros that fill a last report are
passed on: only the protocol knows whether a zero is filling or part of a checksum.

Source: kernel Documentation/hid/hidraw.rst; libvoltronic src/voltronic_dev_usb_hidapi.c.
"""

from __future__ import annotations

import fcntl
import os
import time
from dataclasses import dataclass

from bridge.errors import LinkError
from bridge.transports.base import DescriptorLink, Stop, open_failure

VENDOR = 0x0665
PRODUCT = 0x5161
REPORT = 8

RIGHTS = "it needs the udev rule 60-solarbridge.rules that install.sh sets, and a user in the group solarbridge-hid"


@dataclass(frozen=True, slots=True)
class Node:
    """One inverter's USB interface. `serial` is "" for the many that have none."""

    path: str
    serial: str


def nodes(sysfs: str = "/sys", dev: str = "/dev") -> list[Node]:
    """Return the hidraw nodes of all Voltronic interfaces, sorted by path, as the kernel lists them."""
    found = []
    folder = os.path.join(sysfs, "class", "hidraw")
    try:
        names = sorted(os.listdir(folder), key=lambda name: (len(name), name))
    except OSError:
        return []
    for name in names:
        try:
            with open(os.path.join(folder, name, "device", "uevent"), encoding="utf-8", errors="replace") as file:
                uevent = dict(line.split("=", 1) for line in file.read().splitlines() if "=" in line)
        except OSError:  # unplugged in between
            continue
        if uevent.get("HID_ID", "").upper().split(":")[1:] == [f"{VENDOR:08X}", f"{PRODUCT:08X}"]:
            found.append(Node(os.path.join(dev, name), uevent.get("HID_UNIQ", "").strip()))
    return found


def reports(data: bytes) -> list[bytes]:
    """Return `data` as the nine-byte writes that carry it, the last filled with zeros."""
    return [b"\0" + data[start : start + REPORT].ljust(REPORT, b"\0") for start in range(0, len(data), REPORT)]


class ReportLink(DescriptorLink):
    """A link over a descriptor that takes and gives whole reports: a hidraw node."""

    def write(self, data: bytes, deadline: float) -> None:
        """Send all of `data` in reports, after throwing away what an older command left behind.

        The kernel hands each report to the device before the write returns, and takes up to 5 s to
        find a device stuck; the deadline is looked at between two reports.
        """
        self.drain()
        for report in reports(data):
            if time.monotonic() > deadline:
                raise LinkError(f"{self._name}: does not take bytes any more")
            self._write_report(report, deadline)

    def _write_report(self, report: bytes, deadline: float) -> None:
        while True:
            try:
                taken = os.write(self._fd, report)
            except BlockingIOError:
                self._wait_writable(deadline)
            except OSError as err:
                raise self._gone(err) from err
            else:
                # some kernels do not count the report number
                if taken < REPORT:
                    raise LinkError(f"{self._name}: took {taken} bytes of a report of {REPORT}")
                return


def open_hidraw(path: str, stop: Stop, name: str | None = None) -> ReportLink:
    """Open a hidraw node, locked against other programs; `name` is what messages call it.

    Raises LinkError with the exact reason.
    """
    name = name or path
    try:
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as err:
        raise open_failure(name, err, RIGHTS) from err
    except ValueError as err:
        raise LinkError(f"{name}: {err}") from err
    try:
        # every reader of a hidraw node gets every report: two programs would read each other's answers
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as err:
        os.close(fd)
        raise open_failure(name, err, RIGHTS) from err
    return ReportLink(fd, name, stop)
