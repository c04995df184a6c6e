"""What was published against what was sent: each message has to be the words of one whole frame, young enough.

The judge knows the makers' frames by the simulators' truth logs only; published keys are held against theirs by the
maps of the makers' own tests, which are written down apart from the decoders' tables.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.simulators.truth import Record, TruthLog
from tests.harness import Message
from tests.luxpower.rig import CORE
from tests.pylontech.stack_rig import MEASURED
from tests.victron_driver import Driver, leaves

SETTLED = 2.0
"""Seconds after which every frame that can be behind a message is in the truth log."""
KEEP = 120.0
"""Seconds for which frames are remembered; longer than any age limit in the run."""


class Truth(TruthLog):
    """A truth log that finds the frames of a unit by their name, newest first, and forgets old ones."""

    def __init__(self) -> None:
        super().__init__(limit=10)
        self._frames: defaultdict[tuple[str, str], deque[Record]] = defaultdict(deque)
        self._lock = threading.Lock()

    def add(self, record: Record, *, write: bool = True) -> None:
        super().add(record, write=write)
        with self._lock:
            frames = self._frames[record.unit, record.frame]
            frames.append(record)
            while frames[0].at < record.at - KEEP:
                frames.popleft()

    def frames(self, unit: str | None, name: str) -> list[Record]:
        """Return the remembered frames of a unit (None: of any), newest first."""
        with self._lock:
            found = [list(v) for (owner, frame), v in self._frames.items() if frame == name and unit in (None, owner)]
        return sorted((record for frames in found for record in frames), key=lambda r: r.at, reverse=True)


@dataclass(frozen=True)
class Rule:
    """How a message of one kind is held against its frame: the frame's name, and their keys by ours."""

    frame: str
    keys: Mapping[str, str]
    max_age: float
    by_serial: bool = True


SAME: Mapping[str, str] = {}
"""Our keys are theirs."""

NOT_OF_THE_FRAME = {"ts"}
INTACT = {"merge", "duplicates", "delay", "noise_before", "noise_after", "chatter", "byte_pause", "pause_at", "segment"}
"""Faults that leave every byte of a frame as it is."""


@dataclass
class Device:
    """A device under judgement."""

    name: str
    truth: Truth
    rule: Rule
    serial: str | None = None
    judged: int = 0
    newest: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """By unit: time.monotonic() of the last frames that were seen published, and of their messages."""

    def told(self, unit: str | None, since: float) -> float | None:
        """Return when a message came that was made of a frame since then (None for `unit`: of any unit)."""
        known = [pair for path, pairs in self.newest.items() if unit in (None, path) for pair in pairs]
        return min((arrived for at, arrived in known if at > since), default=None)


def pylontech(max_age: float) -> Rule:
    return Rule("42", MEASURED, max_age)


def axpert(max_age: float) -> Rule:
    return Rule("QPIGS", SAME, max_age, by_serial=False)


def lxp(max_age: float) -> Rule:
    return Rule("input", {key: key for key in CORE}, max_age)


class Judge:
    """Takes every message of the recorder and keeps count. One thread calls `look` in turns."""

    def __init__(self, base: str, devices: list[Device], bank: str, modules: int, bank_age: float) -> None:
        self._base = base
        self._devices = {device.name: device for device in devices}
        self._bank, self._modules, self._bank_age = bank, modules, bank_age
        self._seen = 0
        self.judged: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.keys: dict[str, frozenset[str]] = {}
        self.driver = Driver()
        self.results: list[dict[str, Any]] = []
        self.largest_age: dict[str, float] = {}

    def look(self, messages: list[Message]) -> None:
        """Judge what has come since the last call, and forget it."""
        # a frame enters the truth log with the last byte of what was sent around it, so a while after its message
        settled = time.monotonic() - SETTLED
        while self._seen < len(messages) and messages[self._seen].at < settled:
            message = messages[self._seen]
            self._seen += 1
            if not message.retained:
                self._judge(message)
        if self._seen > 2000:  # the recorder's thread only appends
            del messages[: self._seen]
            self._seen = 0

    def _judge(self, message: Message) -> None:
        if message.topic == self._bank:
            self._judge_bank(message)
            return
        levels = message.topic.removeprefix(f"{self._base}/").split("/")
        device = self._devices.get(levels[0])
        if device is None:
            return
        if levels[-1] == "result":
            self.results.append({**json.loads(message.payload), "device": device.name})
        elif levels[-1] == "state":
            self._judge_state(device, "/".join(levels[1:-1]), message)

    def _judge_state(self, device: Device, unit: str, message: Message) -> None:
        values = json.loads(message.payload)
        keys = self.keys.setdefault(message.topic, frozenset(values))
        if not keys <= values.keys():
            self._complain(message, f"keys are gone: {sorted(keys - values.keys())}")
        self.keys[message.topic] = frozenset(values)
        rule = device.rule
        if rule.by_serial and not unit and device.serial is None:
            return  # the stack's summary: its parts are judged
        record = self._origin(device, unit, values, message)
        if record is None:
            return
        self.judged[rule.frame] += 1
        device.judged += 1
        pairs = device.newest.setdefault(unit, [])
        pairs.append((record.at, message.at))
        del pairs[:-200]
        if rule.frame == "input":
            self._judge_the_rest(device, values, message)
        age = message.at - record.at
        self.largest_age[rule.frame] = max(self.largest_age.get(rule.frame, 0.0), age)
        if age > rule.max_age + 1.0:
            self._complain(message, f"the frame was {age:.1f} s old")

    def _judge_the_rest(self, device: Device, values: Mapping[str, Any], message: Message) -> None:
        """Words of other blocks may be of other frames; each must have been said by one."""
        frames = device.truth.frames(device.serial, "input")
        for key in {key for record in frames for key in record.values} & values.keys():
            said = [record for record in frames if key in record.values and not _differing_in(key, values, record)]
            if values[key] is not None and not said:
                self._complain(message, f"no frame said {key} {values[key]}")

    def restarted(self) -> None:
        """Forget which keys there were: a new bridge learns them anew."""
        self.keys.clear()

    def _origin(self, device: Device, unit: str, values: Mapping[str, Any], message: Message) -> Record | None:
        """Return the newest whole frame that says all of this; complain when there is none."""
        rule = device.rule
        serial = (unit or device.serial) if rule.by_serial else None
        address = int(unit) if unit.isdecimal() and len(unit) < 4 else None  # a module that told no serial number yet
        if address is not None:
            serial = None
        nearest: tuple[int, list[str]] = (1 << 30, [])
        damaged = ""
        for record in device.truth.frames(serial, rule.frame):
            if record.at > message.at + SETTLED or (rule.frame == "input" and record.values["register"] != 0):
                continue
            if address is not None and record.values["address"] != address:
                continue
            differing = _differing(rule, values, record)
            if not differing and (record.whole or _intact(record.faults)):
                return record
            if not differing:
                damaged = f"; a damaged one did, {message.at - record.at:.1f} s before: {', '.join(record.faults)}"
                continue
            nearest = min(nearest, (len(differing), differing))
        self._complain(message, f"no frame said that{damaged}; nearest differs in {nearest[1][:6]}")
        return None

    def _judge_bank(self, message: Message) -> None:
        self.judged["bank"] += 1
        text = message.payload.decode()
        found = leaves(json.loads(text, parse_constant=self._no_number))
        self.driver.receive(message.payload, message.at)
        self.driver.tick(message.at)
        if self.driver.frozen or self.driver.killed or self.driver.warnings:
            self._complain(message, f"the driver is unwell: {self.driver.warnings[:3]}")
        online, offline = found["System.NrOfModulesOnline"], found["System.NrOfModulesOffline"]
        if online + offline > self._modules:
            self._complain(message, f"{online} + {offline} modules")
        if online == 0 and found["Info.MaxChargeCurrent"] > 0:
            self._complain(message, "nobody is there, and charging is allowed")

    @staticmethod
    def _no_number(name: str) -> float:
        raise AssertionError(f"{name} in a message")

    def _complain(self, message: Message, what: str) -> None:
        if len(self.wrong) < 200:
            self.wrong.append(f"{message.topic} at {message.at:.3f}: {what}: {message.payload[:300]!r}")


def _intact(faults: tuple[str, ...]) -> bool:
    """Whether a frame left as it was; of several copies a new question drops the rest, and one was whole by then."""
    more = {"dropped"} if {"duplicates", "merge"} & set(faults) else set()
    return bool(faults) and INTACT | more >= set(faults)


def _differing(rule: Rule, values: Mapping[str, Any], record: Record) -> list[str]:
    """Return our keys whose numbers are not those of the frame."""
    pairs = rule.keys.items() if rule.keys else ((key, key) for key in record.values)
    return [ours for ours, theirs in pairs if _differing_in(ours, values, record, theirs)]


def _differing_in(ours: str, values: Mapping[str, Any], record: Record, theirs: str | None = None) -> bool:
    said, sent = values.get(ours), record.values.get(theirs or ours)
    if ours in NOT_OF_THE_FRAME or said is None or isinstance(said, str | bool) or isinstance(sent, str | bool):
        return False
    return sent is not None and abs(said - sent) > 1e-6 * max(1.0, abs(sent))
