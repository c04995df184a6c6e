"""Wires for the tests of links: ptys, pairs of sockets, and threads that wait on them."""

from __future__ import annotations

import contextlib
import gc
import os
import pty
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bridge.errors import BridgeError


class Pty:
    """A pseudo-terminal: `path` is the port, the test is the device behind it."""

    def __init__(self) -> None:
        self.master, slave = pty.openpty()
        self.path = os.ttyname(slave)
        os.close(slave)

    def unplug(self) -> None:
        if self.master >= 0:
            os.close(self.master)
            self.master = -1


@contextmanager
def thief(port: Path) -> Iterator[None]:
    """Another program that reads a port: it had it open before us, so our lock does not keep it out."""
    descriptor = os.open(port.resolve(), os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
    over = threading.Event()

    def steal() -> None:
        while not over.wait(0.0005):
            with contextlib.suppress(BlockingIOError):
                os.read(descriptor, 7)

    other = threading.Thread(target=steal)
    other.start()
    try:
        yield
    finally:
        over.set()
        other.join()
        os.close(descriptor)


def soon() -> float:
    """A deadline that a test is meant to reach."""
    return time.monotonic() + 0.05


def far() -> float:
    """A deadline that no test should reach."""
    return time.monotonic() + 30


def descriptors() -> int:
    """How many files this process has open, without those of earlier tests that nobody has any more."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


class Waiting:
    """Runs a call in a thread and keeps what it returned or raised."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self._result: object = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._call()
        except BridgeError as err:
            self._result = err

    def sleeps(self) -> None:
        """Return once the thread waits in the kernel."""
        stat = f"/proc/self/task/{self._thread.native_id}/stat"
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with open(stat) as file:
                if file.read().rpartition(")")[2].split()[0] == "S":
                    return
            time.sleep(0.001)
        raise AssertionError("does not wait")

    def result(self) -> object:
        """Return what came of it; fails when it still runs long before its own deadline."""
        self._thread.join(10)
        assert not self._thread.is_alive(), "still waiting"
        return self._result
