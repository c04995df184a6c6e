"""lxp-bridge's namespace: its topics, commands, results, discovery and LWT, for devices with `compat: lxp-bridge`.

The namespace has a connection of its own, since its LWT needs a will of its own: dashboards made for lxp-bridge go by
`{namespace}/LWT` alone, and a will is one to a connection. It is made only when nobody else is there: the sink first
looks, over the main connection, whether another program says `online` on that topic, and waits while it does. What
is to be told meanwhile waits in the outbox, where the newest wins.

In MQTT 5 our own `online` carries a user property, so that it is known from another's, and we give way when another
comes later. In MQTT 3.1.1 it cannot be known: there only what is heard before we begin counts.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bridge.clock import SANE_CLOCK
from bridge.config import Mqtt
from bridge.fields import Channel, Reading, Unit
from bridge.inbox import Foreign, Inbox
from bridge.lxp_bridge import BARE, LxpBridge, is_retained
from bridge.sinks.broker import Broker, installation_id
from bridge.sinks.complaints import Complaints
from bridge.sinks.lxp_bridge_discovery import discovery
from bridge.sinks.mqtt import COMMAND_AGE, RETAINED
from bridge.sinks.outbox import Message
from bridge.sinks.text import encode

if TYPE_CHECKING:
    from bridge.sinks.session import Arrived

log = logging.getLogger(__name__)

GRACE = 2.0
"""Seconds from the acknowledged subscription in which a retained `online` would have come."""
LOOK_EVERY = 0.1
CORRECT_EVERY = 1.0
"""Seconds between two corrections of the LWT at least."""
DONE = ("done", "unchanged")
LONGEST_PATH = 100
"""Characters of a command behind the stick's serial number; there is none with more. A topic can have so many that the
one of its result is none any more."""
ONLINE, OFFLINE = b"online", b"offline"


@dataclass(frozen=True, slots=True)
class Served:
    """One device of the namespace: where its commands go, and what the configuration says."""

    inbox: Inbox
    options: LxpBridge
    datalog: str | None = None
    """The stick's serial number, if it is configured."""


def served(options: Any, inbox: Inbox) -> Served:
    """Return what a device's entry in the configuration says, one that has `compat` and `lxp_bridge`."""
    return Served(inbox, options.lxp_bridge or LxpBridge(), options.datalogger)


@dataclass(frozen=True, slots=True)
class ResultOf:
    """The tag of a command from this namespace: where its OK or FAIL goes."""

    topic: str


class LxpBridgeSink:
    """One namespace. Its broker's thread runs `broker.run`; readings come from the devices' threads.

    `connected` says whether the main connection and its subscriptions stand; `heard` has to be called there, for
    messages on `lwt_topic`.
    """

    def __init__(self, config: Mqtt, devices: Mapping[str, Served], connected: Callable[[], bool]) -> None:
        self.namespace = next(iter(devices.values())).options.namespace
        self.lwt_topic = f"{self.namespace}/LWT"
        self._base = config.base_topic
        self._devices = devices
        self._connected = connected
        self._me = installation_id(f"{config.base_topic}\n{self.namespace}")
        if config.client_id:
            self._me = f"{config.client_id}-{self.namespace}"
        self._mark = f"by={self._me}"
        self._lock = threading.Lock()
        self._units: dict[str, Unit] = {}
        """By device: the unit as it was announced last; its path is the stick's serial number."""
        self._datalogs = {device: served.datalog for device, served in devices.items() if served.datalog}
        self._other = False
        """Whether somebody else is online in the namespace, as far as was heard."""
        self._ours = False
        """Whether we have been online in it since somebody else was."""
        self._wrong = False
        """Whether the LWT says something else than online, as far as was heard, while we are."""
        self._free_since: float | None = None
        self._corrected_at = 0.0
        self._closing = False
        self.complaints = Complaints(log)
        self.broker = _GivesWay(
            replace(config, client_id=self._me),
            self.lwt_topic,
            [f"{self.namespace}/cmd/#"],
            self._on_online,
            self._on_message,
            self._may_begin,
        )
        self.broker.name = f"mqtt {self.namespace}"
        self.broker.publish(self._lwt(ONLINE))

    @property
    def state(self) -> str:
        """What the namespace is at, for the health topic."""
        if self.broker.connected:
            return "online"
        return "another program is online there" if self._other else "waiting"

    # -- readings, from any device's thread

    def take(self, device: str, reading: Reading) -> None:
        if device not in self._devices:
            return  # of another namespace perhaps, whose own sink tells of it
        if isinstance(reading.tag, ResultOf) and (outcome := reading.values.get("outcome")) is not None:
            self._answer(reading.tag, outcome in DONE)
        if reading.channel is not Channel.COMPAT or reading.topic is None:
            return
        self._announce(device, reading.unit)
        topic = f"{self.namespace}/{reading.unit.path}/{reading.topic}"
        if is_retained(reading.topic):
            self.broker.publish(Message(topic, _payload(reading), qos=1, retain=True))
        else:
            self.broker.publish(Message(topic, _payload(reading), expires=reading.at + reading.unit.max_age))

    def presence(self, device: str, unit: Unit, online: bool) -> None:
        """Nothing: lxp-bridge tells of no inverter whether it is there."""

    def put_right(self) -> None:
        """Say online where it was taken back: once a second, also when the last word came in between.

        Another program's end, or the will of our own former connection, says nothing of us.
        """
        told = self.broker.connected and not self._closing and not self._other
        if self._wrong and told and time.monotonic() - self._corrected_at > CORRECT_EVERY:
            self._wrong, self._corrected_at = False, time.monotonic()
            self.broker.publish(self._lwt(ONLINE))

    def close(self, seconds: float) -> bool:
        """Say offline if the namespace is ours; True when all was acknowledged in time."""
        self._closing = True
        return self.broker.close([self._lwt(OFFLINE)] if self.broker.connected else [], seconds)

    def _announce(self, device: str, unit: Unit) -> None:
        """Publish the entities of an inverter, when it is first heard of and when more is known of it."""
        with self._lock:
            if self._units.get(device) is unit:
                return
            self._units[device], self._datalogs[device] = unit, unit.path
        options = self._devices[device].options
        if options.discovery:
            for topic, payload in discovery(options, unit, f"{self._base}/{device}/availability").items():
                text = encode(payload) if payload is not None else b""
                self.broker.publish(Message(topic, text, qos=1, retain=True))

    def _answer(self, result: ResultOf, good: bool) -> None:
        text = b"OK" if good else b"FAIL"
        self.broker.publish(Message(result.topic, text, qos=1, expires=time.monotonic() + COMMAND_AGE, event=True))

    def _lwt(self, payload: bytes) -> Message:
        return Message(self.lwt_topic, payload, qos=1, retain=True, by=self._me)

    # -- from the main connection's thread

    def heard(self, message: Arrived) -> None:
        """Take what somebody says on the LWT topic."""
        if message.payload != ONLINE:
            if self._other:
                log.info("%s: the other program has left the namespace", self.namespace)
            self._other = False
            if not self.broker.connected:
                self._ours = False
            elif message.sender != self._mark:
                self._wrong = True
                self.put_right()
        elif message.sender == self._mark or (self._ours and self.broker.protocol_name() != "5"):
            self._other = self._wrong = False
        elif not self._other:
            self._other, self._ours = True, False
            self.broker.give_way()
            log.error(
                "%s: another program is online in this namespace, lxp-bridge perhaps. Nothing is published there and "
                "no command taken until it says offline. Two programs must not be on one stick: stop it. If none runs "
                "any more, clear what it left: mosquitto_pub -r -n -t %s", self.namespace, self.lwt_topic,
            )  # fmt: skip

    # -- from this namespace's thread

    def _may_begin(self) -> bool:
        """Whether the namespace has been looked at long enough, and is free."""
        if self._other or not self._connected():
            self._free_since = None
            return False
        if self._free_since is None:
            self._free_since = time.monotonic()
        return time.monotonic() - self._free_since >= GRACE

    def _on_online(self) -> None:
        self._ours = True
        self.broker.publish(self._lwt(ONLINE))

    def _on_message(self, message: Arrived) -> None:
        """Take {namespace}/cmd/{datalog or all}/{path}."""
        target, _, path = message.topic.removeprefix(f"{self.namespace}/cmd/").partition("/")
        if message.retained:
            self.complaints.tell(message.topic, RETAINED)
            return
        if len(path) > LONGEST_PATH:
            self.complaints.tell(message.topic, "there is no such command")
            return
        with self._lock:
            meant = [(d, datalog) for d, datalog in self._datalogs.items() if target in ("all", datalog)]
        if not meant:
            self.complaints.tell(message.topic, "there is no such inverter, or its serial number is not known yet")
        for device, datalog in meant:
            self._pass_on(device, datalog, path, message)

    def _pass_on(self, device: str, datalog: str, path: str, message: Arrived) -> None:
        now = time.monotonic()
        age = COMMAND_AGE if message.expiry is None else min(COMMAND_AGE, message.expiry)
        age -= self.broker.lag()
        source = f"{message.topic} {message.sender}".rstrip()
        result = ResultOf(f"{self.namespace}/result/{datalog}/{path}")
        command = Foreign(path, message.payload[:4096], now, now + age, source, result)
        # in a flood nobody knows how long it lay before it was let through
        if self.broker.flooded or not self._devices[device].inbox.put(command):
            self._answer(result, False)


class _GivesWay(Broker):
    """A connection that is made only while `may_begin` says so."""

    def __init__(
        self, config: Mqtt, status_topic: str, subscriptions: list[str], on_online: Callable[[], None],
        on_message: Callable[[Arrived], None], may_begin: Callable[[], bool],
    ) -> None:  # fmt: skip
        super().__init__(config, status_topic, subscriptions, on_online, on_message)
        self._may_begin = may_begin
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.is_set():
            self.beat_at = time.monotonic()
            if not self._may_begin():
                self._ended.wait(LOOK_EVERY)
                continue
            self._closing.clear()
            # asked again: what came between had its mark just wiped
            if not self._ended.is_set() and self._may_begin():
                super().run()

    def give_way(self) -> None:
        """Disconnect without a word on the status topic; the thread looks again later."""
        self._closing.set()
        self._wake.set()

    def close(self, last: list[Message], seconds: float) -> bool:
        self._ended.set()
        return super().close(last, seconds)


def _payload(reading: Reading) -> bytes:
    if reading.values.keys() == {BARE}:
        return str(reading.values[BARE]).encode()
    wall = time.time() - (time.monotonic() - reading.at)
    # its fourth block has no time, and settings have none
    if reading.topic in ("inputs/1", "inputs/2", "inputs/3", "inputs/all") and wall >= SANE_CLOCK:
        return encode({**reading.values, "time": int(wall)})
    return encode(reading.values)
