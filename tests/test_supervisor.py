"""The supervisor restarts dead threads, notices hung ones, and feeds the watchdog only while all is well."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge import supervisor
from bridge.keeper import Keeper
from bridge.notify import Notifier
from bridge.publisher import Publisher
from bridge.sinks.broker import Broker
from bridge.supervisor import LONGEST_PAUSE, STEADY, Supervisor
from bridge.transports.base import Stop
from tests.harness import Manager, await_true
from tests.shared import REPOSITORY

WATCHDOG = 60
"""WatchdogSec of the unit (tests/install/test_files.py)."""


class Worker:
    """Beats until told to stop, to die or to hang."""

    def __init__(self, stop: Stop, late_after: float = 1.5) -> None:
        self.name = "worker"
        self.late_after = late_after
        self.beat_at = time.monotonic()
        self.stop = stop
        self.mood = "well"
        self.runs = 0

    def run(self) -> None:
        self.runs += 1
        while not self.stop.wait(0.02):
            if self.mood == "die":
                self.mood = "well"
                raise RuntimeError("dies for the test")
            if self.mood == "well":
                self.beat_at = time.monotonic()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    one = Manager(tmp_path / "notify")
    yield one
    one.close()


@pytest.fixture
def watched(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Supervisor, Worker]]:
    monkeypatch.setattr(supervisor, "ROUND", 0.05)
    stop = Stop()
    one = Supervisor(stop, Notifier({"NOTIFY_SOCKET": manager.path}))
    worker = Worker(stop)
    one.start(worker)
    thread = threading.Thread(target=one.watch)
    thread.start()
    yield one, worker
    stop.set()
    thread.join(5)
    assert one.join([worker], 2) == []


def test_the_watchdog_is_fed_while_all_threads_are_on_time(
    manager: Manager, watched: tuple[Supervisor, Worker]
) -> None:
    await_true(lambda: manager.lines.count("WATCHDOG=1") > 3, 5, "signs of life")
    assert watched[0].late() == []


def test_a_hung_thread_is_named_with_its_stack_and_the_watchdog_starves(
    manager: Manager, watched: tuple[Supervisor, Worker], caplog: pytest.LogCaptureFixture
) -> None:
    one, worker = watched
    worker.mood = "hang"
    await_true(lambda: one.late() == ["worker"], 5, "the hang noticed")
    fed = manager.lines.count("WATCHDOG=1")
    await_true(lambda: "its thread hangs" in caplog.text, 5, "the hang told")
    assert "in run" in caplog.text
    time.sleep(0.3)  # several rounds in which nothing may be sent
    assert manager.lines.count("WATCHDOG=1") <= fed + 1
    worker.mood = "well"
    await_true(lambda: manager.lines.count("WATCHDOG=1") > fed + 1, 5, "fed again")


def test_a_device_that_is_called_as_another_thread_is_waited_for_alone(manager: Manager) -> None:
    ends, lasts = Stop(), Stop()
    one = Supervisor(lasts, Notifier({"NOTIFY_SOCKET": manager.path}))
    device, namesake = Worker(ends), Worker(lasts)
    for worker in (device, namesake):
        one.start(worker)
    ends.set()
    assert one.join([device], 5) == []
    assert one.join([namesake], 0) == ["worker"]
    lasts.set()
    assert one.join([namesake], 5) == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_thread_is_started_again(watched: tuple[Supervisor, Worker], caplog: pytest.LogCaptureFixture) -> None:
    one, worker = watched
    await_true(lambda: worker.runs == 1, 5, "first start")
    worker.mood = "die"
    await_true(lambda: worker.runs == 2, 5, "second start")
    await_true(lambda: one.restarts(worker) == 1, 5, "it is counted")
    assert "its thread died" in caplog.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_d11_a_thread_is_started_again_once_there_is_memory_for_it(
    watched: tuple[Supervisor, Worker], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, worker = watched
    await_true(lambda: worker.runs == 1, 5, "first start")
    monkeypatch.setattr(supervisor, "FIRST_STEPS", 1 << 62)
    worker.mood = "die"
    await_true(lambda: "worker: no memory is left for its thread" in caplog.text, 5, "it was tried")
    assert worker.runs == 1
    monkeypatch.setattr(supervisor, "FIRST_STEPS", 0)
    await_true(lambda: worker.runs == 2, 8, "second start")


class Mortal:
    """Ends when told to, which is a death."""

    def __init__(self) -> None:
        self.name = "mortal"
        self.late_after = 30.0
        self.beat_at = 0.0
        self.end = threading.Event()

    def run(self) -> None:
        self.end.wait(10)
        self.end.clear()


def test_d8_the_pause_before_a_restart_starts_over_behind_a_steady_life_and_stays_far_from_the_watchdog() -> None:
    one = Supervisor(Stop(), Notifier({}))
    worker = Mortal()
    one.start(worker)
    post = one._posts[0]

    def unfed(now: float) -> float:
        """Let the thread die; return for how many seconds it is not on time then."""
        worker.end.set()
        post.thread.join(5)
        for seconds in range(100):
            worker.beat_at = now + seconds
            if one._visit(post, now + seconds, judge=True):
                return seconds
        raise AssertionError("it was not started again")

    now = time.monotonic()
    pauses = []
    for _ in range(10):
        pauses.append(unfed(now + 1))
        now += 1 + pauses[-1]
    assert pauses[-1] > 10, "a thread that dies again and again is given time"
    assert max(pauses) < LONGEST_PAUSE + 3 < WATCHDOG / 2
    for _ in range(3):
        now += STEADY + 10
        assert unfed(now) <= 3, "months after the last death"
    worker.end.set()
    post.thread.join(5)


def test_d9_how_long_a_hung_thread_takes_to_restart_the_service_is_as_the_unit_says() -> None:
    text = " ".join((REPOSITORY / "systemd" / "solarbridge.service").read_text().replace("\n#", " ").split())
    for late_after in (Publisher.late_after, Keeper.late_after, Broker.late_after):
        assert f"{late_after:.0f} + {WATCHDOG} s" in text


def test_without_a_service_manager_nothing_is_sent() -> None:
    notifier = Notifier({})
    notifier.send("READY=1")
    notifier.close()


def test_a_service_manager_that_is_gone_is_no_error(tmp_path: Path) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    notifier.send("READY=1")
    notifier.close()
