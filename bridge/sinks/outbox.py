"""What is to be sent to the broker: newest-wins for topics, in order for events, all bounded (pure).

The MQTT library's own queues keep the oldest message and grow without bound for QoS 0, so it is never
handed more than the socket takes; everything else waits here.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

EVENTS = 256
"""Events kept while the broker is away; past it the oldest is dropped and counted."""

TOPICS = 20_000
"""Topics of retained messages known at once; past it new ones are refused and counted. Sixteen modules on each of many
stacks stay far below it: only a fault can reach it. It is none for what is not retained: those topics are our own
units', and a bank has to be told whatever else happens."""


class Message(NamedTuple):
    """One message for the broker.

    `expires` is the time.monotonic() after which it must not be sent any more, None for never.
    An `event` is sent once and in order, and not kept; a retained one replaces what waits on its topic, since nobody
    would see that. Any other message is the newest state of its topic and replaces what waits there. A retained state
    is sent again on every connect, while it is true.
    """

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    expires: float | None = None
    event: bool = False
    correlation: bytes | None = None
    """MQTT 5: what the asker of this answer knows it by."""
    by: str | None = None
    """MQTT 5: who says this, as a user property."""


class Outbox:
    """The messages that wait, and the retained states that a broker may have lost.

    Not locked: its owner does that.
    """

    def __init__(self) -> None:
        self._states: dict[str, Message] = {}
        self._waiting: OrderedDict[str, None] = OrderedDict()
        self._events: deque[Message] = deque()
        self._once: OrderedDict[str, Message] = OrderedDict()
        """Events that are retained."""
        self.dropped = 0
        """Messages given up because a bound was reached."""

    def passes(self, message: Message, now: float) -> bool:
        """Whether a message need not wait: nothing is before it, and it is young and known enough to be sent."""
        return (
            not self._waiting
            and not self._events
            and not self._once
            and (message.expires is None or message.expires > now)
            and (message.event or self._has_room(self._states, message))
        )

    def _has_room(self, known: Mapping[str, Message], message: Message) -> bool:
        return not message.retain or message.topic in known or len(known) < TOPICS

    def sent(self, message: Message) -> None:
        """Note a message that passed: a retained state is remembered, as if it had waited here."""
        if message.retain and not message.event:
            self._states[message.topic] = message

    def put(self, message: Message) -> None:
        """Queue a message; of a state topic only the newest one is kept."""
        if message.event and not message.retain:
            if len(self._events) >= EVENTS:
                self._events.popleft()
                self.dropped += 1
            self._events.append(message)
        elif not self._has_room(self._once if message.event else self._states, message):
            self.dropped += 1
        elif message.event:
            self._once[message.topic] = message
        else:
            self._states[message.topic] = message
            self._waiting[message.topic] = None

    def put_last(self, message: Message) -> None:
        """Queue a message behind everything that waits, also where its topic waits already."""
        self._waiting.pop(message.topic, None)
        self.put(message)

    def next(self, now: float) -> Message | None:
        """Take the message to send now, or None. Events first, those that are retained last of them, then states by
        their waiting time.

        What has expired is left out.
        """
        while self._events or self._once:
            message = self._events.popleft() if self._events else self._once.popitem(last=False)[1]
            if message.expires is None or message.expires > now:
                return message
        while self._waiting:
            topic, _ = self._waiting.popitem(last=False)
            message = self._states[topic]
            if not message.retain:
                del self._states[topic]
            if message.expires is None or message.expires > now:
                return message
        return None

    def give_back(self, message: Message) -> None:
        """Put a message back that could not be sent or was never acknowledged, unless a newer one waits."""
        if message.event and not message.retain:
            self._events.appendleft(message)
        elif message.event:
            self._once.setdefault(message.topic, message)
            self._once.move_to_end(message.topic, last=False)
        elif message.topic not in self._waiting:
            newest = self._states.setdefault(message.topic, message)
            self._waiting[newest.topic] = None
            self._waiting.move_to_end(newest.topic, last=False)

    def retained_again(self) -> None:
        """Let every retained state be sent once more: a new connection may be to a broker that forgot."""
        for topic, message in self._states.items():
            if message.retain:
                self._waiting[topic] = None

    def again(self, wanted: Callable[[str], bool]) -> None:
        """Let the retained states on some topics be sent once more."""
        for topic, message in self._states.items():
            if message.retain and wanted(topic):
                self._waiting[topic] = None

    def forget(self, prefix: str) -> None:
        """Drop what is or is to be retained on all topics that begin so."""
        for topic in [topic for topic in self._once if topic.startswith(prefix)]:
            del self._once[topic]
        for topic in [topic for topic in self._states if topic.startswith(prefix)]:
            del self._states[topic]
            self._waiting.pop(topic, None)

    def state(self, topic: str) -> bytes | None:
        """Return the newest payload of a retained topic, or None when it was never put."""
        message = self._states.get(topic)
        return message.payload if message is not None else None

    def __len__(self) -> int:
        return len(self._waiting) + len(self._events) + len(self._once)
