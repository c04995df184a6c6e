"""Readings on topics: state, settings, availability, info, health; and commands from topics to inboxes."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from bridge.clock import SANE_CLOCK
from bridge.config import Mqtt
from bridge.errors import CommandError
from bridge.fields import Channel, Reading, Unit, topic_level
from bridge.inbox import Command, Inbox, ReadRegisters, Refresh, SetSetting
from bridge.sinks.broker import Broker
from bridge.sinks.complaints import Complaints
from bridge.sinks.outbox import Message
from bridge.sinks.text import Texts, encode

if TYPE_CHECKING:
    from bridge.sinks.halves import Halves
    from bridge.sinks.session import Arrived

log = logging.getLogger(__name__)

CORRECT_EVERY = 1.0
"""Seconds between two corrections of our own status at least."""
COMMAND_AGE = 30.0
"""Seconds after which a command to set something is not carried out any more, when its sender says nothing less."""

RETAINED = "retained, so it may be old; ignored"
NO_SUCH_DEVICE = "there is no such device"
NOT_OURS = "somebody else says online there, which is taken back; a second bridge needs a base_topic of its own"

MOST_REGISTERS = 127
_NUMBER = re.compile(rb"0|[1-9][0-9]{0,4}")
"""The one spelling of a register or a count."""


class ReplyTo(NamedTuple):
    """Where else the result of a command goes: the response topic of MQTT 5."""

    topic: str
    correlation: bytes | None


class MqttSink:
    """Publishes readings under the base topic and hands commands to the devices' inboxes.

    `watched` are topics outside of it to listen on, each with what takes a message there; it is called
    by the broker's thread and must neither block nor raise. `elsewhere` are first levels of topics that other
    sinks fill.
    """

    def __init__(
        self,
        config: Mqtt,
        inboxes: Mapping[str, Inbox],
        watched: Mapping[str, Callable[[Arrived], None]] | None = None,
        elsewhere: Iterable[str] = (),
    ) -> None:
        self._base = config.base_topic
        self._retain = config.retain_states
        self._inboxes = inboxes
        self._watched = dict(watched or {})
        self._filled = tuple(f"{root}/" for root in (self._base, *elsewhere))
        self._online: set[str] = set()
        self._own: set[str] = set()
        """Availabilities that this bridge has ever told of."""
        self._online_lock = threading.Lock()
        self._corrected_at = 0.0
        self._status_wrong = False
        """Whether the broker holds something else than that we are here."""
        self._texts = Texts()
        self._state_topics: dict[tuple[str, str], str] = {}
        self._closing = False
        self.complaints = Complaints(log)
        self._contracts = set(self._watched)
        self._newest: dict[str, Message] = {}
        """The newest states, where the broker does not retain them."""
        self.halves: Halves | None = None
        """Takes times of the day for windows, where that is wanted."""
        self.on_forgotten: list[Callable[[str, str], None]] = []
        """Who wants to hear that a unit is gone for good: device and path. Called by the broker's thread."""
        self.status_topic = f"{self._base}/status"
        availability = (f"{self._base}/+/availability", f"{self._base}/+/+/availability")
        subscriptions = [
            self.status_topic,
            f"{self._base}/+/refresh",
            f"{self._base}/+/read/+/+",
            f"{self._base}/+/set/#",
            f"{self._base}/+/+/set/#",
            *self._watched,
        ]
        self.broker = Broker(config, self.status_topic, subscriptions, self._on_online, self._on_message, availability)
        for device in inboxes:
            self._publish_availability(f"{self._base}/{device}/availability", online=False)

    # -- readings, from any device's thread

    def take(self, device: str, reading: Reading) -> None:
        if reading.channel is Channel.COMPAT:
            return
        expires = reading.at + reading.unit.max_age
        if reading.topic is not None:
            self._contracts.add(reading.topic)
            self.broker.publish(Message(reading.topic, encode(reading.values), expires=expires))
            return
        values = {**reading.values, "ts": timestamp(reading.at)}
        if reading.channel is Channel.STATE:
            topic = self._state_topics.get((device, reading.unit.path)) or self._begin(device, reading.unit)
            text = self._texts.encode(topic, values)
            message = Message(topic, text, retain=self._retain, expires=expires)
            self.broker.publish(message)
            if not self._retain:
                self._newest[topic] = message
            return
        topic = f"{self._of(device, reading.unit)}/{reading.channel.value}"
        if reading.channel is Channel.SETTINGS:
            self.broker.publish(Message(topic, encode(values), qos=1, retain=True))
        elif reading.channel is Channel.RESULT:
            if self.halves is not None:
                place = (device, reading.unit.path, str(reading.values.get("setting")))
                self.halves.result(place, reading.values.get("outcome"), time.monotonic())
            self._publish_result(topic, encode(values), reading.tag)
        else:
            self.broker.publish(Message(topic, encode(values), expires=expires, event=True))

    def _publish_result(self, topic: str, payload: bytes, tag: object) -> None:
        self.broker.publish(Message(topic, payload, qos=1, event=True))
        if isinstance(tag, ReplyTo):
            self.broker.publish(Message(tag.topic, payload, qos=1, event=True, correlation=tag.correlation))

    def presence(self, device: str, unit: Unit, online: bool) -> None:
        self._publish_availability(f"{self._of(device, unit)}/availability", online=online)

    def publish_data(self, topic: str, payload: bytes, expires: float) -> None:
        """Publish for other software, outside the base topic: never retained, and not after `expires`."""
        self.broker.publish(Message(topic, payload, expires=expires))

    def publish_info(self, info: Mapping[str, Any]) -> None:
        """Publish what this bridge is, retained."""
        self.broker.publish(Message(f"{self._base}/info", encode(info), qos=1, retain=True))

    def publish_health(self, health: Mapping[str, Any]) -> None:
        """Publish how the bridge is doing; only worth sending while it is news."""
        self.broker.publish(Message(f"{self._base}/health", encode(health), expires=time.monotonic() + 30))

    # -- for sinks that announce what is published here

    def connection(self) -> int:
        """Return the number of the connection there is, 0 while there is none."""
        return self.broker.connects if self.broker.connected else 0

    def announce(self, topic: str, payload: bytes) -> None:
        """Publish a retained message without keeping it: whoever sends it can make it again."""
        self.broker.publish(Message(topic, payload, qos=1, retain=True, event=True))

    def availability_again(self) -> None:
        """Publish once more who is there."""
        self.broker.publish_again(lambda topic: topic == self.status_topic or topic.endswith("/availability"))

    def states_again(self) -> None:
        """Publish once more every state, setting and energy that is true still."""
        self.broker.publish_again(lambda topic: topic.endswith(("/state", "/settings", "/energy")))
        for message in list(self._newest.values()):
            self.broker.publish(message)

    def settings_again(self, device: str, unit: Unit) -> None:
        """Publish a unit's settings once more, as they were read last."""
        self.broker.publish_again(f"{self._of(device, unit)}/settings".__eq__)

    def publish_energy(self, device: str, unit: Unit, values: Mapping[str, float]) -> None:
        """Publish the estimated energies of a unit, retained."""
        text = encode({**values, "ts": timestamp(time.monotonic())})
        self.broker.publish(Message(f"{self._of(device, unit)}/energy", text, qos=1, retain=True))

    def close(self, seconds: float) -> bool:
        """Say offline, bring everything out, disconnect; True when all was acknowledged in time."""
        self._closing = True
        return self.broker.close([self._status(b"offline")], seconds)

    def _of(self, device: str, unit: Unit) -> str:
        return f"{self._base}/{device}/{topic_level(unit.path)}" if unit.path else f"{self._base}/{device}"

    def _begin(self, device: str, unit: Unit) -> str:
        """Return the topic of a unit's states, at its first one; what the run before knew of its settings is gone.

        The broker still holds them, and they may have been changed since: with the unit online they would look alive.
        """
        place = self._of(device, unit)
        topic = self._state_topics[device, unit.path] = f"{place}/{Channel.STATE.value}"
        settings = f"{place}/{Channel.SETTINGS.value}"
        if unit.settings and self.broker.retained_state(settings) is None:
            nothing = {**dict.fromkeys([field.key for field in unit.settings]), "ts": None}
            self.broker.publish(Message(settings, encode(nothing), qos=1, retain=True))
        return topic

    def _publish_availability(self, topic: str, *, online: bool) -> None:
        with self._online_lock:
            self._own.add(topic)
            (self._online.add if online else self._online.discard)(topic)
            self.broker.publish(Message(topic, b"online" if online else b"offline", qos=1, retain=True))

    def _status(self, payload: bytes) -> Message:
        return Message(self.status_topic, payload, qos=1, retain=True)

    # -- from the broker's thread

    def _on_online(self) -> None:
        """Say who is there, and then that we are.

        Behind a kill or a long absence the broker may hold an "online" of a device or module that is away. Told first
        that we are back, a reader would take its old values for new ones until the rest is told, and start an
        automation. What the broker held was taken back by now (_correct_availability); that waits before this. An
        "online" of the last connection may wait too, where the broker did not acknowledge it: not in its old place.
        """
        self.broker.publish_again(lambda topic: topic.endswith("/availability"))
        self.broker.publish_last(self._status(b"online"))

    def _on_message(self, message: Arrived) -> None:
        if watcher := self._watched.get(message.topic):
            watcher(message)
            return
        levels = message.topic.removeprefix(self._base + "/").split("/")
        if message.topic == self.status_topic:
            self._correct_status(message.payload)
        elif levels[-1] == "availability":
            self._correct_availability(message)
        elif levels[-1] == "refresh":
            self._command(levels[0], message, Refresh())
        elif len(levels) == 4 and levels[1] == "read":
            self._read(levels[0], message, levels[2], levels[3])
        elif "set" in levels[1:3]:
            at = levels.index("set", 1)
            self._set(levels[0], "/".join(levels[1:at]), "/".join(levels[at + 1 :]), message)

    def _correct_status(self, payload: bytes) -> None:
        """Say online again: the will of our own former connection may reach the broker after our return."""
        self._status_wrong = payload != b"online"
        self.put_right()

    def put_right(self) -> None:
        """Say online where somebody else has said something: once a second, also when the last word came in between."""
        told = self.broker.connected and not self._closing  # before that it is about to be told, behind who is away
        if self._status_wrong and told and time.monotonic() - self._corrected_at > CORRECT_EVERY:
            self._status_wrong, self._corrected_at = False, time.monotonic()
            self.broker.publish(self._status(b"online"))

    def _correct_availability(self, message: Arrived) -> None:
        """Take back an "online" that nobody stands for.

        After a kill the broker still holds the retained "online" of a module that has died or been
        taken out since; believed, its old values would look alive as soon as the bridge is back.
        """
        with self._online_lock:
            online = message.topic in self._online
            if message.payload == b"online" and not online:
                # once, and not kept: anybody can say online on any number of topics
                self.broker.publish(Message(message.topic, b"offline", qos=1, retain=True, event=True))
                if not message.retained and message.topic not in self._own:
                    self.complaints.tell(message.topic, NOT_OURS, level=logging.ERROR)
        if not message.payload and not message.retained:
            self._forget(message.topic, online=online)

    def _forget(self, topic: str, *, online: bool) -> None:
        """Drop a unit whose availability was taken off the broker: somebody says that it is gone for good.

        One that is there, or a device as such, is not gone: it says again how it is.
        """
        place = topic.removesuffix("/availability")
        device, _, path = place.removeprefix(f"{self._base}/").partition("/")
        if online or not path:
            self.broker.publish_again(topic.__eq__)
            return
        self.complaints.tell(place, "forgotten", level=logging.INFO)
        self.broker.forget(f"{place}/")
        for tell in self.on_forgotten:
            tell(device, path)

    def _read(self, device: str, message: Arrived, table: str, register: str) -> None:
        """Take read/hold/{register} and read/input/{register}; the payload is the count, 1 when empty."""
        try:
            command = read_command(table, register.encode(), message.payload)
        except CommandError as err:
            inbox = self._inboxes.get(device)
            if inbox is None or message.retained:
                self.complaints.tell(message.topic, str(err))
                return
            if not inbox.affords_answer():
                return
            refusal = {"command": f"read/{table[:20]}/{register[:20]}", "outcome": "refused", "reason": str(err)}
            expires = time.monotonic() + 30
            self.broker.publish(
                Message(f"{self._base}/{device}/registers", encode(refusal), expires=expires, event=True)
            )  # fmt: skip
        else:
            self._command(device, message, command)

    def _set(self, device: str, unit: str, setting: str, message: Arrived) -> None:
        """Take {device}/set/{setting} and {device}/{unit}/set/{setting}; judging it is for the device's thread."""
        inbox = self._inboxes.get(device)
        if inbox is None:
            self.complaints.tell(message.topic, NO_SUCH_DEVICE)
            return
        if self.broker.flooded:
            inbox.refuse()  # nobody knows how long it lay before the flood let it through
            return
        now = time.monotonic()
        made_from: str | None = None
        objection: str | None = None
        halved = self.halves.split(setting) if self.halves is not None else None
        if self.halves is not None and halved is not None:
            key, half = halved
            shown = self._setting(f"{self._base}/{device}/{unit}/settings".replace("//", "/"), key)
            if not message.retained:
                window, told = self.halves.whole((device, unit, key), half, message.payload, shown, now)
            else:  # no window is made of it, which the next half would build on
                window, told = None, RETAINED
            if window is None:
                objection = told
            else:
                setting, made_from, message = key, told, message._replace(payload=window)
        age = COMMAND_AGE if message.expiry is None else min(COMMAND_AGE, message.expiry)
        age -= self.broker.lag()
        source = f"{message.topic} {message.sender}".rstrip()
        # a payload that is far too long is not kept: the device's thread refuses it by its length all the same
        command = SetSetting(
            unit, setting, message.payload[:4096], now, now + age, message.retained, source, self._reply_to(message),
            made_from, objection,
        )  # fmt: skip
        if inbox.put(command):
            return
        if self.halves is not None and made_from is not None:
            self.halves.undo((device, unit, setting))
        if inbox.refused == 1:
            log.warning("%s: more commands than the device can take; the rest is refused", device)

    def _setting(self, topic: str, key: str) -> object:
        """Return what a settings topic last said of one setting, None when nothing is known."""
        text = self.broker.retained_state(topic)
        return json.loads(text).get(key) if text else None

    def _reply_to(self, message: Arrived) -> ReplyTo | None:
        """Return where the sender wants its answer; not where others expect something else of us."""
        topic = message.reply_topic
        if topic is None:
            return None
        own = topic == self._base or topic.startswith(self._filled)
        if own or topic in self._contracts or not topic.strip("/") or set(topic) & set("+#\0") or topic[0] == "$":
            self.complaints.tell(message.topic, "no answer is sent to its response topic", f", {topic[:100]!a}")
            return None
        return ReplyTo(topic, message.correlation)

    def _command(self, device: str, message: Arrived, command: Command) -> None:
        if message.retained:
            self.complaints.tell(message.topic, RETAINED)
            return
        inbox = self._inboxes.get(device)
        if inbox is None:
            self.complaints.tell(message.topic, NO_SUCH_DEVICE)
        elif not inbox.put(command) and inbox.refused == 1:
            log.warning("%s: more commands than the device can take; the rest is refused", device)


def read_command(table: str, register: bytes, count: bytes) -> ReadRegisters:
    """Return the command of a topic's last two levels and its payload. Raises CommandError for any but one spelling."""
    if table not in ("hold", "input"):
        raise CommandError("expected read/hold/REGISTER or read/input/REGISTER")
    if not _NUMBER.fullmatch(register) or not _NUMBER.fullmatch(count or b"1"):
        raise CommandError("expected plain decimal numbers: the register in the topic, the count as payload or none")
    first, length = int(register), int(count or b"1")
    if not 1 <= length <= MOST_REGISTERS or first + length > 0x10000:
        raise CommandError(f"expected registers 0 to 65535, {MOST_REGISTERS} at most")
    return ReadRegisters(table, first, length)


def timestamp(at: float) -> str | None:
    """Return the wall-clock time of a time.monotonic() moment as ISO 8601 UTC; None while the clock is not set."""
    wall = time.time() - (time.monotonic() - at)
    if wall < SANE_CLOCK:
        return None
    second = int(wall)
    return f"{_to_the_second(second)}.{int((wall - second) * 1000):03d}Z"


@lru_cache(maxsize=8)
def _to_the_second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
