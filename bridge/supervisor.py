"""Watches the threads: restarts one that died, notices one that hangs, feeds the service watchdog.

Runs in the main thread, one round a second. The watchdog of the service manager is fed only while
every thread is on time; when one hangs for good, the manager restarts the program: after `late_after` of that
thread and its own WatchdogSec together.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bridge.backoff import Backoff
from bridge.notify import Notifier
from bridge.transports.base import Stop

log = logging.getLogger(__name__)

ROUND = 1.0
"""Seconds between two rounds."""

FROZEN = 5.0
"""A round that comes this much late means the whole process stood still (or the machine slept): then
every thread looks late for a moment and none of them is to blame."""

LONGEST_PAUSE = 15.0
"""Seconds before a dead thread is started again at most. The watchdog starves meanwhile: one thread's death must
come nowhere near its limit, since the program's restart is everybody's."""

STEADY = 60.0
"""Seconds of life after which a thread's death is one of its own, and not the last one's again."""

STACK_SIZE = 512 * 1024
"""Bytes of stack per thread; the default of 8 MiB is only address space, but small machines count it."""


FIRST_STEPS = 4 << 20
"""Bytes that must be free for a thread to be started again: its stack, and what it needs to begin. At the program's
start they are not looked for: to have had so much once makes glibc keep more of what is given back ever after."""


class Worker(Protocol):
    """The body of a supervised thread."""

    name: str
    late_after: float
    """Seconds without a beat after which it counts as hung."""
    beat_at: float
    """time.monotonic() of its last sign of life."""

    def run(self) -> None:
        """Work until told to stop. Returning before that counts as a crash."""


@dataclass
class _Post:
    """One worker and the thread that runs it now."""

    worker: Worker
    thread: threading.Thread
    backoff: Backoff = field(default_factory=lambda: Backoff(1.0, LONGEST_PAUSE))
    started_at: float = field(default_factory=time.monotonic)
    restart_at: float | None = None
    restarts: int = 0
    late: bool = False


class Supervisor:
    """Starts the workers' threads, keeps them going, and joins them at the end."""

    def __init__(self, stop: Stop, notifier: Notifier, rounds: Callable[[], None] = lambda: None) -> None:
        self._stop = stop
        self._notifier = notifier
        self._rounds = rounds
        self._posts: list[_Post] = []

    def start(self, worker: Worker) -> None:
        """Run a worker in a thread of its own, named after it."""
        self._posts.append(_Post(worker, _spawn(worker)))

    def watch(self) -> None:
        """Make rounds until the program is stopped."""
        last = time.monotonic()
        while not self._stop.wait(ROUND):
            now = time.monotonic()
            frozen, last = now - last > ROUND + FROZEN, now
            if frozen:
                log.warning("the whole process stood still; every device is read again before anything is believed")
            on_time = [self._visit(post, now, judge=not frozen) for post in self._posts]
            self._rounds()
            if all(on_time):
                self._notifier.send("WATCHDOG=1")

    def late(self) -> list[str]:
        """Return the names of threads that hang or are down right now."""
        return [post.worker.name for post in self._posts if post.late or post.restart_at is not None]

    def restarts(self, worker: Worker) -> int:
        """Return how often a worker's thread had to be started again."""
        return sum(post.restarts for post in self._posts if post.worker is worker)

    def join(self, workers: Sequence[Worker], seconds: float) -> list[str]:
        """Wait for those workers' threads to end; return the names of those that did not.

        By the worker and not by its name: a device may be called as the broker's thread is.
        """
        deadline = time.monotonic() + seconds
        wanted = [post for post in self._posts if any(post.worker is worker for worker in workers)]
        for post in wanted:
            post.thread.join(max(0.0, deadline - time.monotonic()))
        return [post.worker.name for post in wanted if post.thread.is_alive()]

    def _visit(self, post: _Post, now: float, *, judge: bool) -> bool:
        """Look after one thread; return whether it is on time."""
        if not post.thread.is_alive():
            return self._revive(post, now)
        late = now - post.worker.beat_at > post.worker.late_after
        if not judge:
            post.worker.beat_at = now
            return True
        if late and not post.late:
            log.error(
                "%s: its thread hangs since %.0f s:\n%s",
                post.worker.name, now - post.worker.beat_at, _stack_of(post.thread),
            )  # fmt: skip
        elif post.late and not late:
            log.info("%s: its thread goes on", post.worker.name)
        post.late = late
        return not late

    def _revive(self, post: _Post, now: float) -> bool:
        """Restart a dead thread after a growing pause; a dead one is not on time."""
        if post.restart_at is None:
            if now - post.started_at > STEADY:
                post.backoff.reset()
            pause = post.backoff.pause()
            log.error("%s: its thread died; starting it again in %.0f s", post.worker.name, pause)
            post.restart_at = now + pause
        elif now >= post.restart_at:
            post.worker.beat_at = post.started_at = now
            try:
                bytes(FIRST_STEPS)  # a thread that finds no memory for its first step is waited for without an end
                post.thread = _spawn(post.worker)
            except (RuntimeError, MemoryError) as err:  # no room for a thread just now; the others go on
                pause = post.backoff.pause()
                words = str(err) or "no memory is left for its thread"
                log.error("%s: %s; trying again in %.0f s", post.worker.name, words, pause)
                post.restart_at = now + pause
            else:
                post.restart_at = None
                post.restarts += 1
        return False


def _spawn(worker: Worker) -> threading.Thread:
    previous = threading.stack_size(STACK_SIZE)
    try:
        # daemon: a thread that hangs in a driver must not keep the program from ending
        thread = threading.Thread(target=worker.run, name=worker.name, daemon=True)
        thread.start()
    finally:
        threading.stack_size(previous)
    return thread


def _stack_of(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    return "".join(traceback.format_stack(frame)).rstrip() if frame else "(no stack)"
