"""The thread of one bank: looks at the newest readings, lets the bank judge, and publishes.

It touches no port. Readings come to its Board from the devices' threads, messages on its own topic to its
Watch from the broker's; both are locked and only note things. Data for chargers is never retained, and
is dropped rather than sent late.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, Protocol

from bridge import battery as k
from bridge import summary as s
from bridge.bank import Bank, Data, Readings, Round, Rules
from bridge.bank_options import Bank as Options
from bridge.fields import Channel, Reading, Unit
from bridge.presence import Presence
from bridge.sinks.base import Sink
from bridge.sinks.session import Arrived
from bridge.sinks.text import encode
from bridge.sinks.victron import document
from bridge.transports.base import Stop

log = logging.getLogger(__name__)

REMEMBERED = 600
"""Payloads of our own that are known again when they come back from the broker: minutes of them."""

STRANGERS = 2
"""So many messages of someone else within FORGIVEN seconds are another publisher; a single one may be left over
from before a restart."""
FORGIVEN = 120.0

LASTING = 15.0
"""Seconds for which a bank waits for one and the same before the log says so: at a start that changes every second."""


class Outlet(Protocol):
    """Where the data for chargers goes (MqttSink)."""

    def publish_data(self, topic: str, payload: bytes, expires: float) -> None:
        """Publish, never retained, and not after `expires`."""


class Board:
    """A sink that keeps the newest reading of each unit of some devices."""

    def __init__(self, devices: Iterable[str]) -> None:
        self._devices = frozenset(devices)
        self._newest: dict[tuple[str, str], Reading] = {}
        self._lock = threading.Lock()

    def take(self, device: str, reading: Reading) -> None:
        if device not in self._devices or reading.topic is not None or reading.channel is not Channel.STATE:
            return
        place = (device, reading.unit.path)
        with self._lock:
            known = self._newest.get(place)
            if known is None or reading.at > known.at:
                self._newest[place] = reading
                self._forget_former_name(device, reading)

    def _forget_former_name(self, device: str, reading: Reading) -> None:
        """Drop what was read of the same module under another name, or it would count twice until that is too old.

        A module is known by its place until it tells its serial number.
        """
        unit = reading.unit
        if unit.place is None:
            return
        for owner, path in list(self._newest):
            other = self._newest[owner, path].unit
            same = owner == device and path != unit.path and other.place == unit.place
            if same and (unit.serial is None or other.serial is None):
                del self._newest[owner, path]

    def presence(self, device: str, unit: Unit, online: bool) -> None:
        """Ages decide here, not events: a module's last values count until they are too old."""

    def readings(self) -> Readings:
        """Return the newest reading by device and unit path."""
        with self._lock:
            return dict(self._newest)


class Watch:
    """Tells our own messages from another publisher's, on the topic of one bank."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._ours: deque[int] = deque(maxlen=REMEMBERED)
        self._strange: deque[float] = deque(maxlen=STRANGERS)
        self._lock = threading.Lock()
        self._warned = False

    def sending(self, payload: bytes) -> None:
        """Note a message of ours, before it is sent."""
        with self._lock:
            self._ours.append(hash(payload))

    def arrived(self, message: Arrived) -> None:
        """Note what came on the topic."""
        if message.retained:
            log.error("%s: a retained message lies there; a GX that starts takes it for the battery of now. Remove it "
                      "with: mosquitto_pub -r -n -t '%s'", self._topic, self._topic)  # fmt: skip
            return
        with self._lock:
            if hash(message.payload) in self._ours:
                return
            self._strange.append(time.monotonic())
        if self.disturbed() and not self._warned:
            self._warned = True
            log.error("%s: someone else publishes there too; the GX takes turns between two batteries", self._topic)

    def disturbed(self) -> bool:
        """Whether someone else publishes on the topic."""
        with self._lock:
            full = len(self._strange) == STRANGERS
            disturbed = full and time.monotonic() - self._strange[0] < FORGIVEN
        if not disturbed:
            self._warned = self._warned and full and time.monotonic() - self._strange[-1] < FORGIVEN
        return disturbed


class Keeper:
    """Publishes one bank; `run` is the body of its thread."""

    late_after = 30.0

    def __init__(
        self, options: Options, controls: bool, watch: Watch, outlet: Outlet, sinks: Iterable[Sink], stop: Stop
    ) -> None:
        self.name = options.name
        self.topic = options.topic
        self.beat_at = time.monotonic()
        self.board = Board(options.from_)
        self.watch = watch
        self.presence = Presence(options.name, sinks)
        self._options = options
        self._controls = controls
        self._outlet = outlet
        self._sinks = sinks
        self._stop = stop
        self._bank = Bank(_rules(options))
        self._unit = Unit("", options.name, s.FIELDS, max_age=options.max_age, manufacturer="solarbridge", model="bank")
        self._round: Round | None = None
        self._phase = self._told = ""
        self._why: str | None = None
        """What it waits for, and since when; `_told` is what the log said of it."""
        self._why_since = time.monotonic()
        self._duplicates: list[str] = []
        self._published = 0

    def run(self) -> None:
        """Make a round every interval, and when the last module falls silent, until the program stops."""
        for sink in self._sinks:
            sink.presence(self.name, self._unit, False)
        due = time.monotonic()
        try:
            while not self._stop.wait(max(0.0, min(due, self._bank.silent_at() + 0.01) - time.monotonic())):
                now = self.beat_at = time.monotonic()
                due = max(due + self._options.interval, now) if now >= due else due
                self._make_round(now)
        finally:
            self.presence.lost()

    def health(self) -> dict[str, Any]:
        """Return how the bank is doing, for {base}/health."""
        state = self._round.state if self._round else {}
        shown = (s.PHASE, s.WAITING_FOR, k.MODULES_ONLINE, k.MODULES_OFFLINE, s.DUPLICATES)
        return {
            **{field.key: state.get(field.key) for field in shown},
            "published": self._published,
            s.OTHER_PUBLISHER.key: self.watch.disturbed(),
        }

    def _make_round(self, now: float) -> None:
        found = self._bank.round(self.board.readings(), now)
        if found.data is not None:
            self._publish(found.data)
        found.state[s.OTHER_PUBLISHER.key] = self.watch.disturbed()
        self._tell(found, now)
        self._round = found
        reading = Reading(self._unit, found.state, now)
        for sink in self._sinks:
            sink.take(self.name, reading)
        if found.state[s.PHASE.key] == s.PUBLISHING:
            self.presence.fresh(reading)
        else:
            self.presence.lost()

    def _publish(self, data: Data) -> None:
        layout = self._bank.layout
        optional = layout.optional if layout else frozenset[str]()
        payload = encode(document(data.values, data.cells, optional, controls=self._controls))
        self.watch.sending(payload)
        self._outlet.publish_data(self._options.topic, payload, data.until)
        self._published += 1

    def _tell(self, found: Round, now: float) -> None:
        """Log what has changed."""
        phase, why = str(found.state[s.PHASE.key]), str(found.state[s.WAITING_FOR.key])
        if why != self._why:
            self._why, self._why_since = why, now
        lasting = phase == s.WAITING and why != self._told and now - self._why_since >= LASTING
        if phase != self._phase or lasting:
            if phase == s.PUBLISHING:
                count = found.state[k.MODULES_ONLINE.key]
                log.info("%s: %s modules, publishing on %s", self.name, count, self._options.topic)
            elif phase == s.SILENT:
                log.error("%s: no module answers; told the chargers to stop, and nothing more is published", self.name)
            else:
                log.warning("%s: nothing is published on %s yet, it waits for %s", self.name, self._options.topic, why)
            self._phase, self._told = phase, why
        if self._bank.duplicates != self._duplicates:
            self._duplicates = self._bank.duplicates
            for text in self._duplicates:
                log.error("%s: the same module is read twice, counted once: %s", self.name, text)


def _rules(options: Options) -> Rules:
    return Rules(
        devices=options.from_,
        limits=options,
        expected=options.modules,
        interval=options.interval,
        max_age=options.max_age,
        startup=options.startup,
        stop_discharge_when_silent=options.discharge_when_silent == "stop",
        full_charge_is_wanted=options.full_charge_request,
    )
