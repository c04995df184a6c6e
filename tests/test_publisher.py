"""One device's thread, from outside: it polls, obeys, survives what fails, and ends when told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge import inbox as inbox_module
from bridge import ledger as ledger_module
from bridge.audit import AuditLog
from bridge.devices import Context
from bridge.errors import CommandError, LinkError
from bridge.fields import Channel, Reading, Unit
from bridge.inbox import CAPACITY, Inbox, ReadRegisters, Refresh, SetSetting
from bridge.ledger import Ledger
from bridge.publisher import Publisher
from bridge.statefile import StateFile
from bridge.transports.base import Stop
from bridge.writing import Records
from tests.fake_slice import FakeDevice, Options
from tests.harness import await_true


class ListSink:
    """Keeps what a device tells."""

    def __init__(self) -> None:
        self.readings: list[Reading] = []
        self.presences: list[tuple[str, bool]] = []

    def take(self, device: str, reading: Reading) -> None:
        self.readings.append(reading)

    def presence(self, device: str, unit: Unit, online: bool) -> None:
        self.presences.append((unit.path, online))


class Bench:
    """A publisher with a fake device in a thread."""

    def __init__(
        self, control: Path, records: Callable[[], Records | None] = lambda: None, **options: float
    ) -> None:
        self.control = control
        self.stop = Stop()
        self.sink = ListSink()
        self.say("ok")
        chosen = Options(name="dev", type="fake", control=str(control), **options)  # type: ignore[arg-type]
        self.publisher = Publisher(
            "dev", lambda context: self._build(chosen, context), [self.sink], self.stop, records
        )
        self.built = self.opened = 0
        self.thread = threading.Thread(target=self.publisher.run)

    def _build(self, options: Options, context: Context) -> FakeDevice:
        self.built += 1
        device = FakeDevice(options, context)
        plain_open = device.open

        def counted_open() -> None:
            self.opened += 1
            plain_open()

        device.open = counted_open  # type: ignore[method-assign]
        return device

    def say(self, word: str) -> None:
        self.control.write_text(word)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(**options: float) -> Bench:
        one = Bench(tmp_path / "control", **options)
        one.thread.start()
        made.append(one)
        return one

    yield make
    for one in made:
        one.say("ok")
        one.stop.set()
        one.thread.join(5)
        assert not one.thread.is_alive()


def test_a_device_is_read_and_online(bench: Callable[..., Bench]) -> None:
    one = bench(interval=0.01)
    await_true(lambda: len(one.sink.readings) > 5, 5, "readings")
    assert one.sink.presences == [("", True)]
    assert [r.values["count"] for r in one.sink.readings[:3]] == [1, 2, 3]


def test_stop_ends_the_thread_and_takes_the_device_offline(bench: Callable[..., Bench]) -> None:
    one = bench(interval=60)
    await_true(lambda: one.sink.readings, 5, "a reading")
    one.stop.set()
    one.thread.join(1)
    assert not one.thread.is_alive()
    assert one.sink.presences == [("", True), ("", False)]


def test_a_refresh_polls_at_once(bench: Callable[..., Bench]) -> None:
    one = bench(interval=60)
    await_true(lambda: len(one.sink.readings) == 1, 5, "the first reading")
    one.publisher.inbox.put(Refresh())
    await_true(lambda: len(one.sink.readings) == 2, 5, "the refreshed reading")
    assert one.sink.readings[1].values["count"] == 1002


def test_a_broken_link_is_offline_at_once_and_opened_again(bench: Callable[..., Bench]) -> None:
    one = bench(interval=0.02)
    await_true(lambda: one.sink.readings, 5, "a reading")
    one.say("link")
    await_true(lambda: one.sink.presences[-1] == ("", False), 2, "offline")
    one.say("ok")
    await_true(lambda: one.sink.presences[-1] == ("", True), 6, "online again")
    assert one.built == 1
    assert one.publisher.tally.failures["link"] >= 1


def test_a_silent_device_goes_offline_by_age_and_is_reopened(bench: Callable[..., Bench]) -> None:
    one = bench(interval=0.05, max_age=0.3)
    await_true(lambda: one.sink.readings, 5, "a reading")
    one.say("silent")
    await_true(lambda: one.sink.presences[-1] == ("", False), 3, "offline")
    await_true(lambda: one.opened >= 2, 5, "reopened")
    one.say("ok")
    await_true(lambda: one.sink.presences[-1] == ("", True), 6, "online again")


def test_a_bug_in_a_slice_is_logged_counted_and_survived(
    bench: Callable[..., Bench], caplog: pytest.LogCaptureFixture
) -> None:
    one = bench(interval=0.02)
    await_true(lambda: one.sink.readings, 5, "a reading")
    one.say("raise")
    await_true(lambda: one.sink.presences[-1] == ("", False), 3, "offline")
    assert one.publisher.crashes >= 1
    one.say("ok")
    await_true(lambda: one.sink.presences[-1] == ("", True), 6, "online again")
    assert "a bug in this slice" in caplog.text
    assert one.built == 2


def test_a_reading_that_grew_old_on_the_way_is_not_published(bench: Callable[..., Bench]) -> None:
    one = bench(interval=0.05, max_age=0.1)
    await_true(lambda: one.sink.readings, 5, "a reading")
    stale = one.sink.readings[0]
    before = len(one.sink.readings)
    await_true(lambda: len(one.sink.readings) > before + 3, 5, "more readings")
    one.publisher._deliver(stale)
    assert one.sink.readings.count(stale) == 1
    assert one.publisher.tally.failures["late"] == 1


def test_d4_an_outcome_that_could_not_be_recorded_is_recorded_once_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "SAVE_AGAIN", 0.05)
    folder = tmp_path / "state"
    ledger = Ledger(StateFile(folder / "w.json"), 12, 100)
    ledger.begin({"setting": "limit", "text": "60", "unit": ""}, "limit")
    folder.rename(tmp_path / "aside")
    folder.write_text("no folder, as good as a full disk")
    records = Records(ledger, AuditLog(tmp_path))
    one = Bench(tmp_path / "control", lambda: records, interval=0.02, writes=True)
    one.thread.start()
    try:
        await_true(lambda: any(r.channel is Channel.RESULT for r in one.sink.readings), 10, "it is settled")
        folder.unlink()
        (tmp_path / "aside").rename(folder)
        await_true(lambda: StateFile(folder / "w.json").load()["pending"] is None, 5, "it is recorded")
        assert len([r for r in one.sink.readings if r.channel is Channel.RESULT]) == 1
        assert [entry["event"] for entry in records.audit.entries()] == ["end"]
    finally:
        one.stop.set()
        one.thread.join(5)


def test_an_inbox_is_bounded_and_counts_what_it_refuses() -> None:
    inbox = Inbox()
    taken = [inbox.put(Refresh()) for _ in range(CAPACITY + 10)]
    assert taken.count(True) == CAPACITY
    assert inbox.refused == 10
    assert sum(1 for _ in iter(inbox.take, None)) == CAPACITY


@pytest.mark.parametrize("away", [True, False])
def test_t18_a_flood_of_reads_where_nothing_can_be_read_is_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, away: bool
) -> None:
    def obey(_device: FakeDevice, _command: object) -> Iterator[Reading | None]:
        raise CommandError("it has no registers")

    monkeypatch.setattr(inbox_module, "BURST", 1_000_000)
    monkeypatch.setattr(FakeDevice, "obey", obey)
    one = Bench(tmp_path / "control", interval=60)
    if away:  # there is no device that takes commands
        one.publisher._build = lambda _: (_ for _ in ()).throw(LinkError("the cable is out"))
    one.thread.start()
    try:
        taken = 0
        while taken < 200:
            taken += one.publisher.inbox.put(ReadRegisters("hold", 1, 1))
        await_true(lambda: len(one.publisher.inbox) == 0, 5, "all are taken")
        await_true(lambda: "dev: it " in caplog.text, 5, "a line about it")
        assert caplog.text.count("it cannot be reached" if away else "it has no registers") == 1
    finally:
        one.stop.set()
        one.thread.join(5)


class OnlyRead:
    """A device that takes no commands, as batteries are."""

    interval = 60.0

    def open(self) -> None: ...

    def close(self) -> None: ...

    def fileno(self) -> None: ...

    def poll(self) -> Iterator[Reading | None]:
        return iter(())


@pytest.mark.parametrize(
    ("payload", "known_by"), [(b'{"value": "80", "id": "mine"}', "mine"), (b'{"id": "mine"}', "mine"), (b"80", None)]
)
@pytest.mark.parametrize("link", [True, False], ids=["there", "away"])
def test_a_command_that_no_device_takes_is_answered_to_whom_it_is_from(
    tmp_path: Path, payload: bytes, known_by: str | None, link: bool
) -> None:
    one = Bench(tmp_path / "control")
    no_link = LinkError("the cable is out")
    one.publisher._build = lambda _: OnlyRead() if link else (_ for _ in ()).throw(no_link)  # type: ignore[assignment]
    one.thread.start()
    try:
        one.publisher.inbox.put(SetSetting("part", "limit", payload, 0.0, 30.0, tag="tag"))
        await_true(lambda: one.sink.readings, 5, "an answer")
    finally:
        one.stop.set()
        one.thread.join(5)
    (answer,) = one.sink.readings
    assert (answer.channel, answer.tag) == (Channel.RESULT, "tag")
    told = [answer.values[key] for key in ("id", "unit", "setting", "outcome")]
    assert told == [known_by, "part", "limit", "refused"]


def test_a_flood_of_commands_does_not_stop_the_readings(bench: Callable[..., Bench]) -> None:
    one = bench(interval=0.02)
    ended = threading.Event()

    def flood() -> None:
        while not ended.is_set():
            one.publisher.inbox.put(Refresh())

    thread = threading.Thread(target=flood)
    thread.start()
    before = len(one.sink.readings)
    try:
        await_true(lambda: len(one.sink.readings) > before + 20, 10, "readings under a flood")
    finally:
        ended.set()
        thread.join()
