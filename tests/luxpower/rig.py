"""A device of a stick in its publisher's thread, on real sockets, with the simulator's truth log as judge.

The device's times are shortened a hundredfold, so that a silence of a minute takes none; nothing else is changed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge import ledger, writing
from bridge.audit import AuditLog
from bridge.fields import Channel, Reading, Unit
from bridge.inbox import Command, SetSetting
from bridge.ledger import Ledger
from bridge.luxpower import connection, reader
from bridge.luxpower import device as device_module
from bridge.luxpower.device import Options, build
from bridge.publisher import Publisher
from bridge.simulators.lxp import LxpSimulator
from bridge.simulators.truth import Record
from bridge.statefile import StateFile
from bridge.transports.base import Stop
from bridge.writing import Records
from tests.faults.ledger import note
from tests.harness import await_true

SERIAL, DATALOG = "4512670118", "BA24500731"
SECOND = "4512670119"
SHORT = {
    "TICK": 0.1, "GREETING": 0.05, "ANSWER": 0.4, "RETRY_PAUSE": 0.05, "BETWEEN": 0.005, "ROOM": 0.01,
    "SILENT_POLLING": 1.0, "SILENT_PASSIVE": 1.5, "FOREIGN_ONLY": 1.0, "STABLE": 0.5, "REOPEN": (0.1, 1.2),
    "LISTEN_AGAIN": (0.02, 0.1),
}  # fmt: skip


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the device's times."""
    for name, value in SHORT.items():
        monkeypatch.setattr(reader if hasattr(reader, name) else device_module, name, value)
    monkeypatch.setattr(connection, "REST", 0.3)
    monkeypatch.setattr(connection, "STOOD_STILL", 2.0)


@pytest.fixture
def hasty(short: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses of a write as well, and let a register be written again at once."""
    monkeypatch.setattr(writing, "SETTLE", 0.02)
    monkeypatch.setattr(ledger, "SAME_REGISTER", 0.0)


class ListSink:
    """Keeps what the device tells."""

    def __init__(self) -> None:
        self.readings: list[Reading] = []
        self.presences: list[tuple[str, bool]] = []

    def take(self, device: str, reading: Reading) -> None:
        self.readings.append(reading)

    def presence(self, device: str, unit: Unit, online: bool) -> None:
        self.presences.append((unit.path, online))


class Site:
    """One device and the thread that serves it."""

    def __init__(self, stick: LxpSimulator | None, folder: Path | None = None, **options: Any) -> None:
        if stick is not None and not options.keys() & {"listen", "udp", "host"}:
            host, port = stick.port.split(":")
            options |= {"host": host, "port": int(port)}
        self.stop = Stop()
        self.sink = ListSink()
        self.options = Options(**{"name": "house", "type": "lxp", "interval": 0.3, "bind": "127.0.0.1"} | options)
        self.folder = folder
        self.publisher = Publisher("house", lambda c: build(self.options, c), [self.sink], self.stop, self._records)
        self._thread = threading.Thread(target=self.publisher.run, name="house")
        self._looked: dict[str, int] = {}
        self._gone: set[str] = set()

    def _records(self) -> Records | None:
        """Where writes are recorded, read anew by each site, as by a program that starts."""
        if self.folder is None:
            return None
        ledger = Ledger(
            StateFile(self.folder / "ledger.json"), self.options.writes_per_minute, self.options.writes_per_day
        )
        return Records(ledger, AuditLog(self.folder))

    def __enter__(self) -> Site:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self._thread.join(5)
        assert not self._thread.is_alive()
        assert self.publisher.crashes == 0

    @property
    def failures(self) -> dict[str, int]:
        return dict(self.publisher.tally.failures)

    @property
    def device(self) -> Any:
        return self.publisher._device

    def states(self, path: str = "") -> list[Reading]:
        return [r for r in list(self.sink.readings) if r.channel is Channel.STATE and r.unit.path == path]

    def told(self, channel: Channel) -> list[Reading]:
        return [r for r in list(self.sink.readings) if r.channel is channel]

    def put(self, command: Command) -> bool:
        return self.publisher.inbox.put(command)

    def send(self, setting: str, text: str | bytes, unit: str = "", **more: Any) -> None:
        """Give a command, as if it came on a set topic now."""
        now = time.monotonic()
        payload = text.encode() if isinstance(text, str) else text
        self.put(SetSetting(unit, setting, payload, **{"arrived": now, "expires": now + 30.0} | more))

    def set(self, setting: str, text: str | bytes, unit: str = "", **more: Any) -> dict[str, Any]:
        """Give a command and return its result."""
        seen = len(self.told(Channel.RESULT))
        self.send(setting, text, unit, **more)
        return self.await_results(seen + 1)[seen]

    def await_results(self, count: int, seconds: float = 15.0) -> list[dict[str, Any]]:
        await_true(lambda: len(self.told(Channel.RESULT)) >= count, seconds, f"{count} results")
        return [dict(reading.values) for reading in self.told(Channel.RESULT)]

    def await_settings(self) -> dict[str, Any]:
        """Wait until every setting that can be read was read; return them."""
        await_true(lambda: self.told(Channel.SETTINGS), 10, "the settings")
        return dict(self.told(Channel.SETTINGS)[-1].values)

    def audit(self, event: str) -> list[dict[str, Any]]:
        """Return the audit log's lines of one kind."""
        assert self.folder is not None
        return [entry for entry in AuditLog(self.folder).entries() if entry["event"] == event]

    def await_states(self, count: int, path: str = "", seconds: float = 5.0) -> list[Reading]:
        await_true(lambda: len(self.states(path)) >= count, seconds, f"{count} states of {path or 'the inverter'}")
        return self.states(path)

    def await_more(self, count: int = 1, seconds: float = 5.0) -> list[Reading]:
        """Wait for states that come from now on."""
        seen = len(self.states())
        await_true(lambda: len(self.states()) >= seen + count, seconds, "more states")
        return self.states()[seen:]

    def await_after(self, action: Callable[[], object], count: int = 1, seconds: float = 5.0) -> list[Reading]:
        """Do something, and wait for the states that come of it."""
        seen = len(self.states())
        action()
        return self.await_states(seen + count, seconds=seconds)[seen:]

    def await_failure(self, kind: str, count: int = 1, seconds: float = 5.0) -> None:
        await_true(lambda: self.failures.get(kind, 0) >= count, seconds, f"{count} x {kind}; there are {self.failures}")

    def await_offline(self, path: str = "", seconds: float = 5.0) -> None:
        self._await_presence(path, False, seconds)
        self._gone.add(path)

    def await_online(self, path: str = "", seconds: float = 5.0) -> None:
        """Wait until it is there; called right after a fault that took it away, this tells how long it took."""
        began = time.monotonic()
        self._await_presence(path, True, seconds)
        if path in self._gone:
            note(recovery=time.monotonic() - began)

    def _await_presence(self, path: str, online: bool, seconds: float) -> None:
        """Wait until a unit is so, or has been since the last time one was waited for: a short absence may be over."""
        waited = f"{path or 'it'} {'online' if online else 'offline'}"
        await_true(lambda: self._was(path, online), seconds, waited)

    def _was(self, path: str, online: bool) -> bool:
        told = list(self.sink.presences)
        first = self._looked.get(path, 0)
        if (path, online) in told[first:]:
            self._looked[path] = told.index((path, online), first) + 1
            return True
        return next((so for unit, so in reversed(told) if unit == path), None) is online


@contextmanager
def site(stick: LxpSimulator | None, folder: Path | None = None, **options: Any) -> Iterator[Site]:
    """A device that is served for the length of the block; what it told must be true of `stick` at the end."""
    with Site(stick, folder, **options) as one:
        yield one
    if stick is not None:
        assert_true(one.sink.readings, stick.truth.records("input"))


def assert_true(readings: Iterable[Reading], records: list[Record]) -> None:
    """Every published value was carried by a whole frame of that inverter, all core values by one and the same."""
    whole: dict[str, list[Record]] = {}
    for record in records:
        if record.whole:
            whole.setdefault(record.unit, []).append(record)
    for reading in readings:
        if reading.channel is not Channel.STATE or reading.unit.serial not in whole:
            continue
        values = {key: value for key, value in reading.values.items() if value is not None}
        values |= {key.removesuffix("_code"): values[key] for key in list(values) if key.endswith("_code")}
        frames = whole[reading.unit.serial]
        for key in {key for frame in frames for key in frame.values} & values.keys():
            assert any(_same(frame, key, values[key]) for frame in frames), f"{key} {values[key]} was never sent"
        core = [frame for frame in frames if frame.values["register"] == 0]
        assert any(_carries_core(frame, values) for frame in core), f"of no one frame: {values}"


def _same(frame: Record, key: str, value: Any) -> bool:
    sent = frame.values.get(key)
    return sent == value if isinstance(value, str) else sent == pytest.approx(value)


CORE = ("status", "v_bat", "soc", "p_charge", "p_discharge", "p_to_grid", "p_to_user", "v_bus_1", "p_pv_1", "p_inv")


def _carries_core(frame: Record, values: dict[str, Any]) -> bool:
    return all(_same(frame, key, values[key]) for key in CORE if key in values and key in frame.values)


def quiet(**options: Any) -> LxpSimulator:
    """A stick that pushes nothing by itself but its first heartbeat."""
    return LxpSimulator(**{"greeting": 3600.0, "pace": 0.0, "push_interval": 3600.0} | options)


def eager(**options: Any) -> LxpSimulator:
    """A stick that pushes its blocks at once to whoever connects."""
    return LxpSimulator(**{"greeting": 0.0, "pace": 0.005, "push_interval": 3600.0} | options)


Make = Callable[..., Site]
