"""The supervisor restarts dead threads, notices hung ones, and feeds the watchdog only while all is well."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge import supervisor
from bridge.notify import Notifier
from bridge.supervisor import Supervisor
from bridge.transports.base import Stop
from tests.harness import Manager, await_true


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
    assert one.join({"worker"}, 2) == []


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


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_thread_is_started_again(watched: tuple[Supervisor, Worker], caplog: pytest.LogCaptureFixture) -> None:
    one, worker = watched
    await_true(lambda: worker.runs == 1, 5, "first start")
    worker.mood = "die"
    await_true(lambda: worker.runs == 2, 5, "second start")
    await_true(lambda: one.restarts("worker") == 1, 5, "it is counted")
    assert "its thread died" in caplog.text


def test_without_a_service_manager_nothing_is_sent() -> None:
    notifier = Notifier({})
    notifier.send("READY=1")
    notifier.close()


def test_a_service_manager_that_is_gone_is_no_error(tmp_path: Path) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    notifier.send("READY=1")
    notifier.close()
