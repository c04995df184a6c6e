"""What every simulator has: a thread of its own, a port, a truth log, faults.

    with AxpertSimulator(link="/tmp/axpert") as unit:
        ...                     # unit.port goes into a configuration
        unit.faults.silent = True
        unit.unplug()
        unit.replug()
        unit.truth.records("QPIGS")
"""

from __future__ import annotations

import argparse
import os
import queue
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypedDict, TypeVar

from bridge.simulators.faults import Faults
from bridge.simulators.living import DayClock
from bridge.simulators.truth import Record, Scalar, TruthLog
from bridge.simulators.wire import HidrawPair, Line, Request, fine_timers

T = TypeVar("T")
STEP = 0.2
"""The longest a simulator's thread waits for anything, in seconds."""


class Simulator(ABC):
    """A simulated device in a thread of its own; the thread owns every descriptor of it.

    A subclass opens its ports in `_open` (called by `start`, so that `port` is known when it returns),
    lives in `_step`, and gives back every descriptor in `_close`.
    """

    def __init__(self, name: str, faults: Faults, truth: TruthLog | None = None) -> None:
        self.name = name
        self.faults = faults
        self.truth = truth if truth is not None else TruthLog()
        self.sequence = 0
        """The number of the last frame made."""
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._wake = -1
        self._stopping = False
        self._thread: threading.Thread | None = None

    @property
    @abstractmethod
    def port(self) -> str:
        """What a configuration names to reach this device: a path, or host:port."""

    @abstractmethod
    def _open(self) -> None:
        """Open the ports."""

    @abstractmethod
    def _close(self) -> None:
        """Close all that `_open` opened, also where it got only halfway; the thread has ended."""

    @abstractmethod
    def _step(self, wake: int, until: float) -> None:
        """Wait for something to do until that time, or until the descriptor `wake` is readable; do it."""

    def start(self) -> Self:
        """Open the port and begin to answer. Raises OSError when the port cannot be made."""
        if self._thread is not None:
            raise RuntimeError(f"{self.name} runs already")
        self._stopping = False
        try:
            self._open()
        except OSError:
            self._close()
            raise
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name=f"simulated {self.name}", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """End the thread and close every descriptor; harmless when it does not run."""
        if self._thread is None:
            return
        self._stopping = True
        os.eventfd_write(self._wake, 1)
        self._thread.join(5.0)
        if self._thread.is_alive():
            raise RuntimeError(f"{self.name} does not end")
        self._thread = None
        os.close(self._wake)
        self._wake = -1
        self._close()
        self.truth.close()

    def call(self, function: Callable[[], T]) -> T:
        """Run `function` in the simulator's thread and return what it returns, or raise what it raises."""
        if self._thread is None or threading.current_thread() is self._thread:
            return function()
        outcome: Future[T] = Future()
        self._calls.put(lambda: _settle(outcome, function))
        os.eventfd_write(self._wake, 1)
        return outcome.result(timeout=5.0)

    def next_sequence(self) -> int:
        """Return the number of the next frame, counting from 1."""
        self.sequence += 1
        return self.sequence

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def _run(self) -> None:
        fine_timers()
        while not self._stopping:
            self._step(self._wake, time.monotonic() + STEP)
            self._obey()

    def _obey(self) -> None:
        """Run what other threads asked for."""
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            return
        while not self._calls.empty():
            self._calls.get()()


@dataclass(frozen=True, slots=True)
class Reply:
    """What a unit answers, and what the truth log shall say about it.

    `faults` names what the unit itself did wrong to its frame; such a frame is not whole.
    """

    data: bytes
    frame: str
    values: Mapping[str, Scalar] = field(default_factory=dict)
    unit: str = ""
    faults: tuple[str, ...] = ()
    delay: float = 0.0
    """Seconds that the unit takes longer for this one."""


class OnALine(TypedDict, total=False):
    """What every device on a line takes: its port's name, pace, clock, chance, and where the truth is written."""

    link: str | Path | None
    baud: float | None
    turnaround: float
    clock: DayClock | None
    seed: int
    truth: TruthLog | None


def on_a_line(options: argparse.Namespace, clock: DayClock, truth: TruthLog) -> OnALine:
    """Return what the options that every simulator has say."""
    return {
        "link": options.link,
        "baud": options.baud or None,
        "turnaround": options.turnaround,
        "clock": clock,
        "seed": options.seed,
        "truth": truth,
    }


class LineSimulator(Simulator):
    """A device on one line: cuts requests out of the received bytes and answers them, one at a time."""

    def __init__(self, name: str, line: Line) -> None:
        super().__init__(name, line.faults, line.truth)
        self.line = line

    @abstractmethod
    def _split(self, received: bytes) -> int:
        """Return how many of the received bytes are the first whole request, 0 when it is not there yet."""

    @abstractmethod
    def _answer(self, request: bytes) -> Reply | None:
        """Return the reply to a request, None for none. Calls next_sequence() for each frame it makes."""

    @property
    def port(self) -> str:
        return self.line.end.path

    def unplug(self) -> None:
        """Pull the cable: the port vanishes, with its link."""
        self.call(self.line.unplug)

    def replug(self, link: str | Path | None = None) -> None:
        """Plug the cable in again, under the same name or another one."""
        self.call(lambda: self.line.plug(link))

    def open_hidraw(self) -> socket.socket:
        """Return a new host end of a simulated hidraw node; the caller closes it."""
        end = self.line.end
        if not isinstance(end, HidrawPair):
            raise TypeError(f"{self.name} is not on hidraw")
        return self.call(end.connect)

    def _open(self) -> None:
        self.line.plug()

    def _close(self) -> None:
        self.line.unplug()

    def _step(self, wake: int, until: float) -> None:
        if not self.line.step(wake, until):
            return
        while self.line.buffer and (count := self._split(bytes(self.line.buffer))):
            self._serve(self.line.take(count))

    def _serve(self, request: Request) -> None:
        reply = self._answer(request.data)
        if reply is not None:
            values, damaged = dict(reply.values), reply.faults
            record = Record(0.0, self.name, reply.unit, reply.frame, self.sequence, values, not damaged, damaged)
            self.line.send(reply.data, request, record, reply.delay)


def _settle(outcome: Future[Any], function: Callable[[], Any]) -> None:
    try:
        outcome.set_result(function())
    except (OSError, ValueError, TypeError, RuntimeError) as err:
        outcome.set_exception(err)
