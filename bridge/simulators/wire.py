"""Simulated lines: where the bytes of a simulator come from and go to, and when.

    host (the bridge) <-> Pty or HidrawPair (an End) <-> Line (byte clock, faults) <-> the simulator's thread

The byte clock: a byte takes ten bit times. A request that the host wrote at t is complete at
t + n * 10 / baud; then the unit thinks for `turnaround` seconds; then byte k of the reply is handed to the
host no earlier than its own end on the wire. Bytes are handed over in groups of about TICK seconds, each
group exactly when its last byte has passed. With `reports` they come as HID reports of eight bytes, the
last one filled with zeros. Without a baud rate everything is handed over at once.

One thread owns a line and everything below it; other threads reach it through Simulator.call().
A simulator that must keep time to a fraction of a millisecond runs in a process of its own: a busy
thread beside it holds Python's lock for up to 5 ms.
"""

from __future__ import annotations

import ctypes
import fcntl
import math
import os
import select
import socket
import sys
import termios
import time
import tty
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from bridge.simulators.faults import Faults, Plan
from bridge.simulators.truth import Record, TruthLog

TICK = 0.001
"""Seconds between two hand-overs: what a USB adapter with its latency timer at 1 ms does."""
LEAD = 0.0005
"""How long before a hand-over the thread gets up, in seconds."""
REPORT = 8
"""Bytes in a HID report."""
BITS_PER_BYTE = 10  # 8N1
BUFFERED = 5.0
"""Seconds a report waits for a host that does not read; then they run together."""
CHATTER = 32
"""Bytes of noise scheduled at a time."""
PR_SET_TIMERSLACK = 29
BAUD_RATES = {getattr(termios, name): int(name[1:]) for name in dir(termios) if name[0] == "B" and name[1:].isdigit()}


def fine_timers() -> None:
    """Ask the kernel to wake the calling thread within a microsecond of its time, instead of 50."""
    # without it a hand-over is late by 50 µs more, which is no error: so no complaint when there is no prctl
    if prctl := getattr(ctypes.CDLL(None), "prctl", None):
        prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0)


class End(Protocol):
    """The simulator's end of a cable. Owned by one thread."""

    @property
    def path(self) -> str:
        """What a configuration names as `port`."""

    def filenos(self) -> list[int]:
        """The descriptors to watch for bytes from the host; none while unplugged."""

    def receive(self) -> bytes:
        """Return what the host sent, b"" when nothing did."""

    def hand_over(self, data: bytes) -> None:
        """Give these bytes to the host; what it has no room for is lost, as on a real line."""

    def unread(self) -> int:
        """Return how many bytes the host has not read yet, 0 where its reads keep reports apart anyway."""

    def plug(self, link: str | Path | None = None) -> None:
        """Make the port appear; `link` gives it another name than before."""

    def unplug(self) -> None:
        """Make the port vanish, as a pulled cable does."""


class Pty:
    """A serial line: a pseudo-terminal, raw, with an optional symlink as its name.

    Unplugging closes the master, which the host sees as a hang-up; plugging makes a new pseudo-terminal
    behind the same or another link. A terminal that the host set to exclusive use (TIOCEXCL) stays so after
    the host closed it, unlike a real one: it lives on as long as its master.
    """

    def __init__(self, link: str | Path | None = None) -> None:
        self._link = str(link) if link else None
        self._master = self._slave = -1
        self._name = ""
        self.lost = 0
        """Bytes the host did not take in time."""

    @property
    def path(self) -> str:
        return self._link or self._name

    def filenos(self) -> list[int]:
        return [self._master] if self._master >= 0 else []

    def receive(self) -> bytes:
        try:
            return os.read(self._master, 4096)
        except BlockingIOError:
            return b""

    def hand_over(self, data: bytes) -> None:
        try:
            self.lost += len(data) - os.write(self._master, data)
        except BlockingIOError:
            self.lost += len(data)

    def plug(self, link: str | Path | None = None) -> None:
        self.unplug()
        if link:
            self._link = str(link)
        # the slave stays open here: a master without one is "readable" all the time
        self._master, self._slave = os.openpty()
        os.set_blocking(self._master, False)
        tty.setraw(self._slave, termios.TCSANOW)
        self._name = os.ttyname(self._slave)
        if self._link:
            _symlink(self._name, self._link)

    def unplug(self) -> None:
        if self._master < 0:
            return
        if self._link and os.path.islink(self._link) and os.readlink(self._link) == self._name:
            os.unlink(self._link)
        os.close(self._master)
        os.close(self._slave)
        self._master = self._slave = -1

    def unread(self) -> int:
        count = fcntl.ioctl(self._slave, termios.FIONREAD, bytes(4)) if self._slave >= 0 else bytes(4)
        return int.from_bytes(count, sys.byteorder)

    def host_baud(self) -> int:
        """Return the speed the host has set on its side, 0 while unplugged: for devices that answer at one only."""
        if self._slave < 0:
            return 0
        return BAUD_RATES.get(termios.tcgetattr(self._slave)[5], 0)


class HidrawPair:
    """A /dev/hidrawN made of sockets: each host end gets whole reports, one for each read.

    Every open end receives every report, as with a real node. A write is taken as the kernel takes it: a
    leading 0 is "no report id" and goes away; more than eight bytes are lost. Unplugging shows as end of
    file, where a real node says EIO or ENODEV.
    """

    path = "hidraw"

    def __init__(self) -> None:
        self._ends: list[socket.socket] = []
        self._plugged = False
        self.lost = 0
        """Bytes the host did not take in time, or wrote in one piece of more than eight."""

    def connect(self) -> socket.socket:
        """Return a new host end; whoever takes it closes it. Raises FileNotFoundError while unplugged."""
        if not self._plugged:
            raise FileNotFoundError(self.path)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._ends.append(ours)
        return theirs

    def filenos(self) -> list[int]:
        return [end.fileno() for end in self._ends]

    def receive(self) -> bytes:
        taken = bytearray()
        for end in list(self._ends):
            try:
                data = end.recv(4096)
            except BlockingIOError:
                continue
            except ConnectionError:
                data = b""
            if not data:
                self._forget(end)
                continue
            data = data[1:] if data[0] == 0 else data
            if len(data) > REPORT:
                self.lost += len(data)
            else:
                taken += data
        return bytes(taken)

    def hand_over(self, data: bytes) -> None:
        for end in list(self._ends):
            try:
                end.send(data)
            except BlockingIOError:
                self.lost += len(data)
            except ConnectionError:
                self._forget(end)

    def unread(self) -> int:
        return 0

    def plug(self, link: str | Path | None = None) -> None:
        self._plugged = True
        self.path = str(link) if link else self.path

    def unplug(self) -> None:
        self._plugged = False
        for end in list(self._ends):
            self._forget(end)

    def _forget(self, end: socket.socket) -> None:
        self._ends.remove(end)
        end.close()


@dataclass(frozen=True, slots=True)
class Request:
    """Bytes from the host, and the moment the last of them had passed the wire."""

    data: bytes
    at: float


@dataclass(slots=True)
class _HandOver:
    """Bytes that pass the wire from `begins` on and go to the host `at` their end; the last ones hold the records."""

    begins: float
    at: float
    data: bytes
    late: bool = False
    records: tuple[Record, ...] = ()
    held: float = 0.0


class Line:
    """The byte clock over an End, with faults; see the module's text.

    `half_duplex` False is a unit that drops its reply when a new request comes (at the end of the group or
    report that is passing just then); True is one that sends it to its end first. `baud`, `turnaround` and
    `faults` may be changed at any time and count from the next reply on.
    """

    def __init__(
        self,
        end: End,
        truth: TruthLog,
        *,
        baud: float | None = None,
        turnaround: float = 0.0,
        reports: bool = False,
        half_duplex: bool = True,
        faults: Faults | None = None,
    ) -> None:
        self.end = end
        self.truth = truth
        self.baud = baud
        self.turnaround = turnaround
        self.reports = reports
        self.half_duplex = half_duplex
        self.faults = faults if faults is not None else Faults()
        self.attention = 0.0
        """Seconds after a reply in which the next request is looked for without sleeping: where the host's speed is
        measured, it must not be charged with the time that this thread takes to get up."""
        self.lateness: deque[float] = deque(maxlen=1000)
        """By how many seconds each of the last replies' ends was late."""
        self.buffer = bytearray()
        """What the host sent and nobody took yet."""
        self._passed: deque[tuple[int, float]] = deque()
        self._out: deque[_HandOver] = deque()
        self._heard_until = 0.0
        self._busy_until = 0.0
        self._held: list[tuple[bytes, int, Record | None]] = []

    @property
    def idle(self) -> bool:
        """Whether nothing is on its way to the host."""
        return not self._out

    def step(self, wake: int, until: float) -> bool:
        """Wait for bytes, for the next hand-over, for `wake` to be readable or for `until`; do what is due.

        Returns whether the host sent something.
        """
        if self.faults.chatter and not self._out and self.end.filenos():
            self._chatter()
        due = min(until, self._out[0].at if self._out else math.inf)
        if self.attention and not self._out:
            self._attend(wake)
        wait = due - time.monotonic()
        if wait > 2 * LEAD:
            # get up early and doze once more: a machine that slept for long wakes late
            wait -= LEAD
        # select and not poll: poll counts whole milliseconds
        ready, _, _ = select.select([wake, *self.end.filenos()], [], [], max(0.0, wait))
        self._hand_over()
        return any(fd != wake for fd in ready) and self._receive()

    def _attend(self, wake: int) -> None:
        """Look for a request, without sleeping, as long as one is likely."""
        watched = [wake, *self.end.filenos()]
        while time.monotonic() < self._busy_until + self.attention and not select.select(watched, [], [], 0)[0]:
            os.sched_yield()  # else the kernel does not get to bring the host what was handed over: 2 ms late

    def take(self, count: int) -> Request:
        """Take the first `count` received bytes off the buffer as a request."""
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        at, left = time.monotonic(), count
        while left and self._passed:
            length, end = self._passed.popleft()
            if length > left:
                self._passed.appendleft((length - left, end))
            at = end - max(0, length - left) * self._byte_time()
            left -= min(left, length)
        if not self.half_duplex:
            self._drop(at)
        return Request(data, at)

    def discard(self, count: int) -> None:
        """Throw away the first `count` received bytes: padding, noise."""
        del self.buffer[:count]
        while count and self._passed:
            length, end = self._passed.popleft()
            if length > count:
                self._passed.appendleft((length - count, end))
            count -= min(count, length)

    def send(self, reply: bytes, request: Request, record: Record | None = None, delay: float = 0.0) -> None:
        """Send a reply to `request` when its time has come, or that much later.

        `record` enters the truth log with the last byte of the reply where all of it is sent, else with the last of
        what is sent; `record.at` is filled in here, `.whole` and `.faults` are brought up to date. For what a unit says
        unasked, the request is Request(b"", time.monotonic()).
        """
        plan = self.faults.plan(request.data, reply)
        plan.delay += delay
        if plan.data is None or not self.end.filenos():
            self._log(record, False, plan.struck or ("unplugged",))
            return
        if record is not None:
            whole = record.whole and reply in plan.data
            record = replace(record, whole=whole, faults=(*record.faults, *plan.struck))
        # told twice, it is said with the first: the host may not read the second for long
        said = plan.data.find(reply) + len(reply) if reply in plan.data else len(plan.data)
        self._held.append((plan.data, said, record))
        if len(self._held) < plan.hold:
            return
        data, records = b"", []
        for part, end, held in self._held:
            if held is not None:
                records.append((max(1, len(data) + end), held))
            data += part
        self._held.clear()
        start = max(request.at + self.turnaround, self._busy_until if self._out else 0.0) + plan.delay
        self._schedule(data, start, plan, records)

    def plug(self, link: str | Path | None = None) -> None:
        """Make the port appear, with nothing left over from before."""
        self.forget()
        self.end.plug(link)

    def unplug(self) -> None:
        """Make the port vanish; replies under way are lost."""
        self.forget()
        self.end.unplug()

    def _byte_time(self) -> float:
        return BITS_PER_BYTE / self.baud if self.baud else 0.0

    def _receive(self) -> bool:
        data = self.end.receive()
        if not data:
            return False
        self._heard_until = max(self._heard_until, time.monotonic()) + len(data) * self._byte_time()
        self._passed.append((len(data), self._heard_until))
        self.buffer += data
        return True

    def _schedule(self, data: bytes, start: float, plan: Plan, records: Sequence[tuple[int, Record]]) -> None:
        """Plan the hand-over of `data`; each record goes with the piece in which it is said, by its end there."""
        ends = self._byte_ends(len(data), start, plan)
        first = 0
        for stop in self._group_stops(ends):
            piece = data[first:stop]
            if self.reports:
                piece = piece.ljust(REPORT, b"\0")
            carried = tuple(record for end, record in records if first < end <= stop)
            begins = ends[first] - self._byte_time()
            self._out.append(_HandOver(begins, ends[stop - 1], piece, plan.delay > 0, carried))
            first = stop
        if not data:
            for _, record in records:
                self._log(record, record.whole, record.faults)
        self._busy_until = ends[-1] if ends else start

    def _byte_ends(self, count: int, start: float, plan: Plan) -> list[float]:
        """Return when each byte has passed the wire."""
        step = self._byte_time() + plan.byte_pause
        after, pause = plan.pause_at or (count, 0.0)
        return [start + (i + 1) * step + (pause if i >= after else 0.0) for i in range(count)]

    def _group_stops(self, ends: list[float]) -> Iterator[int]:
        """Yield the byte counts after which a hand-over is due: whole reports, or what passes in a tick."""
        first = 0
        for i in range(1, len(ends) + 1):
            full = i - first == REPORT if self.reports else i < len(ends) and ends[i] - ends[first] >= TICK
            if full or i == len(ends):
                yield i
                first = i

    def _hand_over(self) -> None:
        while self._out and self._out[0].at <= time.monotonic():
            if self.reports and self.end.unread() and self._out[0].held < BUFFERED:
                # a node gives one report to a read, a pty would run them together: wait until this one is read
                self._out[0].held += TICK
                self._out[0].at = time.monotonic() + TICK
                return
            piece = self._out.popleft()
            # first the log: nobody shall ever hold a frame that is not in it
            for record in piece.records:
                self._log(record, record.whole, record.faults)
            self.end.hand_over(piece.data)
            self.truth.write_out()
            if self.reports and self._out:
                # the terminal shows a byte as unread only a moment after it was written
                self._out[0].at = max(self._out[0].at, time.monotonic() + TICK)
            if piece.records:
                self.lateness.append(time.monotonic() - piece.at)

    def _drop(self, at: float) -> None:
        """Take back what has not begun to pass at `at`; late replies stay."""
        left: deque[_HandOver] = deque()
        for piece in self._out:
            if piece.begins < at or piece.late:
                left.append(piece)
                continue
            for record in piece.records:
                self._log(record, False, (*record.faults, "dropped"))
        self._out = left
        self._busy_until = left[-1].at if left else 0.0

    def _chatter(self) -> None:
        now = time.monotonic()
        step = self._byte_time() or BITS_PER_BYTE / 9600
        self._out.append(_HandOver(now, now + CHATTER * step, self.faults.noise(CHATTER)))
        self._busy_until = self._out[-1].at

    def forget(self) -> None:
        """Drop all that is under way in either direction."""
        self.truth.write_out()
        for piece in self._out:
            for record in piece.records:
                self._log(record, False, (*record.faults, "lost"))
        self._out.clear()
        self._passed.clear()
        self._held.clear()
        self.buffer.clear()
        self._busy_until = self._heard_until = 0.0

    def _log(self, record: Record | None, whole: bool, faults: tuple[str, ...]) -> None:
        if record is not None:
            self.truth.add(replace(record, at=time.monotonic(), whole=whole, faults=faults), write=False)


def _symlink(target: str, link: str) -> None:
    """Make `link` point to `target`, in one step where another link stood. Raises FileExistsError for a real file."""
    if os.path.exists(link) and not os.path.islink(link):
        raise FileExistsError(f"{link}: there is something that is not a link")
    waiting = f"{link}.{os.getpid()}.new"
    os.symlink(target, waiting)
    os.rename(waiting, link)
