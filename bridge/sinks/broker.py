"""The one connection to the MQTT broker: its thread, its back-off, and sending without a hop.

How the library's traps are kept out (measured with paho-mqtt 2.2, mosquitto 2.0):

- One client object lives for one connection only. So nothing old is in it after a reconnect: no
  queue of stale messages, no repeated QoS 1 publish that sets a state topic back.
- The library's own loop thread is not used: it dies of an exception in a callback while
  is_connected() still says yes. This thread calls loop_read() itself; callbacks only note things.
- A publishing thread sends on the socket itself, under this object's lock, while the socket takes
  it; what it does not take waits in the Outbox, and the thread here goes on when it can.
  The library never holds more than one unfinished packet.
- A kernel takes megabytes for a broker that stands still or a link that crawls, and delivers them old.
  So a receipt is asked for behind what is sent (session.py); while the broker owes one for long,
  messages wait in the Outbox, where the newest wins.
- A dead link shows by silence: after 1.5 x keepalive without a byte from the broker the connection
  is given up. The library, asked for half the keep-alive, pings in time to provoke an answer.
"""

from __future__ import annotations

import hashlib
import logging
import select
import socket
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bridge.config import Mqtt
from bridge.sinks.ending import Ending, Patience, from_connect_error, no_answer
from bridge.sinks.outbox import Message, Outbox
from bridge.wake import Wake

if TYPE_CHECKING:
    from bridge.sinks.session import Arrived, Session

log = logging.getLogger(__name__)

ANSWER_SECONDS = 10.0
"""How long the broker may take for CONNACK and SUBACK."""

FIRST_ANSWER_SECONDS = 3.0
"""How long it may take for the very first CONNACK in MQTT 5: a broker that knows only 3.1.1 may choke on it and stay
silent (amqtt 0.12 does), and the next try in 3.1.1 has the full time again."""

PACKET_OVERHEAD = 64
"""Bytes of a PUBLISH around topic and payload, generously."""

TURN = 1.0
"""Seconds for which this thread waits at most before it looks around."""

WINDOW, MOST_IN_WINDOW = 0.1, 200
"""Seconds, and messages received in them, past which reading pauses: the broker has to hold a flood back."""

MOST_DENIED = 100
"""Topics that are kept and told of for being denied: an answer goes wherever somebody asks for it."""

YOUNG = 2.0
"""Seconds of a connection in which nothing that arrives can be old: the broker has kept nothing for us. However much it
is, it is what lies there retained, and our own availability that comes back."""


class Broker:
    """Keeps one connection to the broker alive; `run` is the body of the thread "mqtt".

    `on_online` is called by this thread after each connect, when the subscriptions are
    acknowledged and before anything waiting is sent; `on_message` for everything that arrives. What the broker
    holds on the topics `at_once` arrives before `on_online`.
    """

    name = "mqtt"
    late_after = 120.0  # a resolver may take its time, twice

    def __init__(
        self,
        config: Mqtt,
        status_topic: str,
        subscriptions: list[str],
        on_online: Callable[[], None],
        on_message: Callable[[Arrived], None],
        at_once: Sequence[str] = (),
    ) -> None:
        self.beat_at = time.monotonic()
        self.connected = False
        """The broker has accepted us and our subscriptions."""
        self.ending: Ending | None = None
        """Why the last connection ended, None before and while there is one."""
        self.connects = 0
        self.received_dropped = 0
        self.too_large: set[str] = set()
        """Topics whose message the broker will not take for its size."""
        self.denied: set[str] = set()
        """Topics on which the broker refused a message (access list)."""
        self._config = config
        self._status_topic = status_topic
        self._subscriptions = subscriptions
        self._at_once = at_once
        self._on_online = on_online
        self._on_message = on_message
        self._empty_at = float("inf")
        """When nothing was seen to wait on the socket the last time."""
        self._window_began, self._in_window = 0.0, 0
        self.flooded = False
        """Whether more arrives than is read at once, so that what arrives now may have been sent a while ago."""
        self._client_id = config.client_id or installation_id(config.base_topic)
        self._version = str(config.protocol)
        self._doubt: bool | None = None
        """Whether the other version is only guessed, since nothing came in the configured one; None before that."""
        self._patience = Patience()
        self._lock = threading.RLock()
        self._outbox = Outbox()
        self._wake = Wake()
        self._closing = threading.Event()
        self._size_limit: int | None = None
        self._session: Session | None = None
        """The connection there is, once the broker has accepted it."""

    # -- for every thread

    def publish(self, message: Message) -> None:
        """Send a message now if the socket takes it, else as soon as it does. Never blocks on the network."""
        with self._lock:
            if not self._passes(message):
                self._put(message)
                self._flush()
            if self._session is not None and self._session.client.want_write():
                self._wake.set()  # the rest goes when the socket can be written, which the mqtt thread watches

    def publish_last(self, message: Message) -> None:
        """Send a message behind everything that waits."""
        with self._lock:
            self._outbox.put_last(message)
            self._flush()
            self._wake.set()

    def publish_again(self, wanted: Callable[[str], bool]) -> None:
        """Send what we retain on some topics once more, as far as it is still true."""
        with self._lock:
            self._outbox.again(wanted)
            self._flush()
            self._wake.set()

    def forget(self, prefix: str) -> None:
        """Drop what waits or is retained by us on topics that begin so."""
        with self._lock:
            self._outbox.forget(prefix)

    def waiting(self) -> int:
        """Messages not yet handed over, plus those the broker has not acknowledged."""
        with self._lock:
            return len(self._outbox) + (len(self._session.unacknowledged) if self._session else 0)

    def dropped(self) -> int:
        """Messages given up because a bound was reached, since the start."""
        session = self._session
        return self._outbox.dropped + self.received_dropped + (session.arrived_dropped if session else 0)

    def retained_state(self, topic: str) -> bytes | None:
        """Return what we last published on a retained topic of ours, or None."""
        with self._lock:
            return self._outbox.state(topic)

    def lag(self) -> float:
        """Return for how many seconds a message that is handed out now may have lain here: this process may have stood
        still behind its arrival. The wait of a turn, in which messages are seen at once, does not count.
        """
        return max(0.0, time.monotonic() - self._empty_at - TURN)

    def protocol_name(self) -> str:
        """Return the protocol spoken now: "5" or "3.1.1"."""
        return self._version

    def close(self, last: list[Message], seconds: float) -> bool:
        """Publish `last`, wait until all is sent and acknowledged, disconnect; True when it was in time."""
        deadline = time.monotonic() + seconds
        for message in last:
            self.publish(message)
        while self.connected and self.waiting() and time.monotonic() < deadline:
            time.sleep(0.01)
        delivered = not self.waiting()
        self._closing.set()
        self._wake.set()
        return delivered

    # -- the thread

    def run(self) -> None:
        """Connect, serve, and come back after each end, until closed."""
        while not self._closing.is_set():
            began = time.monotonic()
            ending = self._one_connection()
            if self._closing.is_set():
                return
            ending, pause = self._patience.judge(ending, time.monotonic() - began)
            if ending.kind == "protocol" or (ending.kind == "unanswered" and not self.connects):
                self._other_protocol()  # one who has answered before is only away, behind a port forwarder say
                if self._doubt is None and ending.kind == "unanswered":
                    self._doubt = True
            self._tell(ending, pause)
            self._rest(pause)

    def _one_connection(self) -> Ending:
        """Connect and serve; return how it ended."""
        from bridge.sinks.session import Session

        config = self._config
        try:
            session = Session(config, self._client_id, self._version, self._status_topic)
            self.beat_at = time.monotonic()
            session.connect(config.host, config.port, max(2, config.keepalive // 2))
        except (OSError, ValueError) as err:  # ssl.SSLError and socket.gaierror are OSErrors
            return from_connect_error(err, config.host)
        ending = Ending("lost", "an error of our own")
        try:
            ending = self._serve(session)
        finally:
            self._forget(session, ending)
        return ending

    def _serve(self, session: Session) -> Ending:
        """Shake hands, then receive and send until the connection ends."""
        began = self._empty_at = time.monotonic()
        first = session.is_5 and not self.connects
        while session.ending is None and not self._closing.is_set():
            seconds = FIRST_ANSWER_SECONDS if first and not session.accepted else ANSWER_SECONDS
            if not session.online and time.monotonic() - began > seconds:
                return no_answer("SUBSCRIBE" if session.accepted else "CONNECT")
            self._turn(session)
            if session.accepted and self._doubt and self._version != str(self._config.protocol):
                return self._ask_once_more(session)
            if session.accepted and not session.subscribing:
                with self._lock:
                    session.subscribe(self._subscriptions, self._at_once)
            if session.arrived:
                began = time.monotonic()  # it is at it: all that it retains comes before its last answer
            self._hand_out(session)  # first what the broker retained: it may say what is not true any more
            if session.subscribed and not session.online:
                self._go_online(session)
            if time.monotonic() - session.heard_at > session.silence_limit(self._config.keepalive):
                return Ending("silent", "the broker went silent", lived=session.lived())
        if session.ending is not None:
            return session.ending
        with self._lock:
            session.close()
        return Ending("closed", "closed by us")

    def _ask_once_more(self, session: Session) -> Ending:
        """Leave a broker that answers in the other version: it may only have been away before, behind a port forwarder
        that takes every call, as containers have it.
        """
        self._doubt = False
        with self._lock:
            session.close()
        return Ending("protocol", f"it answers in MQTT {self._version}; asking once more in {self._config.protocol}")

    def _turn(self, session: Session) -> None:
        """Wait for the socket or a poke, and let the library do its part."""
        self.beat_at = time.monotonic()
        client = session.client
        sock = client.socket()
        if sock is None:
            session.end(Ending("lost", "connection closed", lived=session.lived()))
            return
        poller = select.poll()
        poller.register(self._wake.fileno(), select.POLLIN)
        poller.register(sock.fileno(), select.POLLIN | (select.POLLOUT if client.want_write() else 0))
        pending = session.pending()
        events = dict(poller.poll(0))
        if not pending and not events.get(sock.fileno(), 0) & ~select.POLLOUT:
            self._empty_at = time.monotonic()
            events = events or dict(poller.poll(TURN * 1000))
        if self._wake.fileno() in events:
            self._wake.clear()
        with self._lock:
            if pending or events.get(sock.fileno(), 0) & ~select.POLLOUT:
                session.heard_at = time.monotonic()
                session.note(client.loop_read())
            if client.socket() is not None:
                session.note(client.loop_write())
            if client.socket() is not None:
                session.note(client.loop_misc())
            self._flush()
            if client.socket() is not None:
                session.follow_up(time.monotonic())

    def _go_online(self, session: Session) -> None:
        session.online = True
        for topic in session.refused:
            log.error("the broker does not let us subscribe to %s; commands from there will not arrive", topic)
        self._on_online()  # what it publishes goes first
        with self._lock:
            self._session = session
            self._outbox.retained_again()
            self.connected, self.ending = True, None
            self.connects += 1
            self._flush()
        log.info("connected to %s:%d, MQTT %s", self._config.host, self._config.port, self.protocol_name())

    def _hand_out(self, session: Session) -> None:
        """Pass received messages on, outside the library and outside the lock."""
        while session.arrived:
            self._count_arrival(session)
            self._on_message(session.arrived.popleft())
        while session.denied:
            topic, why = session.denied.popleft()
            if topic not in self.denied and len(self.denied) < MOST_DENIED:
                self.denied.add(topic)
                log.error("%s: the broker does not take our message there: %s", topic, why)

    def _count_arrival(self, session: Session) -> None:
        """Slow down for a flood: reading it at full speed would take the processor from the devices' threads."""
        now = time.monotonic()
        since = now - self._window_began
        full = self._in_window >= MOST_IN_WINDOW and since < 2 * WINDOW
        if since > WINDOW:
            self._window_began, self._in_window = now, 0
        self._in_window += 1
        full = full or self._in_window >= MOST_IN_WINDOW
        self.flooded = full and session.lived() > YOUNG
        if self._in_window >= MOST_IN_WINDOW:
            time.sleep(max(0.0, self._window_began + WINDOW - now))

    def _forget(self, session: Session, ending: Ending) -> None:
        """Drop the connection; what it did not bring to the broker waits again."""
        with self._lock:
            self.connected = False
            self._session = None
            for message in reversed(session.unacknowledged.values()):
                self._outbox.give_back(message)
            session.unacknowledged.clear()
            self.received_dropped += session.arrived_dropped
            if sock := session.client.socket():
                sock.close()
        if session.largest is not None:
            self._blame_size(ending, session.largest)

    def _blame_size(self, ending: Ending, largest: Message) -> None:
        """Learn from a broker that ends the connection over a message's size, so that it is not sent for ever."""
        if ending.kind == "too_large" or self._patience.repeatedly_after(ending, largest.topic, len(largest.payload)):
            # an eighth less: the next message of that topic may be a few bytes shorter, and no more welcome
            self._size_limit = (len(largest.topic) + len(largest.payload) + PACKET_OVERHEAD) * 7 // 8

    def _other_protocol(self) -> None:
        """Speak the other protocol next time: the broker did not take this one."""
        self._version = "3.1.1" if self._version == "5" else "5"
        log.info("trying MQTT %s", self._version)

    def _tell(self, ending: Ending, pause: float) -> None:
        """Log why there is no connection: when it is news, not at every attempt."""
        before, self.ending = self.ending, ending
        if before is None or (before.kind, before.text) != (ending.kind, ending.text):
            level = logging.ERROR if ending.loud else logging.WARNING
            log.log(level, "broker %s:%d: %s; next attempt in %.0f s, then on and on",
                    self._config.host, self._config.port, ending.text, pause)  # fmt: skip

    def _rest(self, seconds: float) -> None:
        """Sleep, but not past close()."""
        until = time.monotonic() + seconds
        while not self._closing.is_set() and (left := until - time.monotonic()) > 0:
            self.beat_at = time.monotonic()
            self._closing.wait(min(left, 5.0))

    # -- under the lock

    def _passes(self, message: Message) -> bool:
        """Hand a message over at once, past the Outbox, where nothing is in its way; return whether that was done."""
        session, now = self._session, time.monotonic()
        if session is None or not self._outbox.passes(message, now):
            return False
        if session.client.want_write() or not session.takes_more(now) or not self._fits(message, session):
            return False
        if not session.hand_over(message, now):
            return False
        self._outbox.sent(message)
        return True

    def _put(self, message: Message) -> None:
        """Let a message wait; the first time that one is given up for it is told."""
        before = self._outbox.dropped
        self._outbox.put(message)
        if self._outbox.dropped > before == 0:
            log.error("%s: too much waits for the broker; messages are given up from here on, and counted on the "
                      "health topic", ascii(message.topic[:100]))  # fmt: skip

    def _flush(self) -> None:
        """Hand messages to the socket while it takes them."""
        session = self._session
        if session is None:
            return
        now = time.monotonic()
        while not session.client.want_write() and session.takes_more(now):
            message = self._outbox.next(now)
            if message is None:
                return
            if self._fits(message, session) and not session.hand_over(message, now):
                self._outbox.give_back(message)

    def _fits(self, message: Message, session: Session) -> bool:
        """Whether the broker takes a message of this size; if not it is dropped, with one line in the log."""
        if session.maximum_packet is None and self._size_limit is None and not self.too_large:
            return True
        size = len(message.topic) + len(message.payload) + PACKET_OVERHEAD
        limits = [limit for limit in (session.maximum_packet, self._size_limit) if limit is not None]
        if not limits or size <= min(limits):
            self.too_large.discard(message.topic)
            return True
        if message.topic not in self.too_large:
            self.too_large.add(message.topic)
            log.error("%s: %d bytes are more than the broker takes; not sent", message.topic, len(message.payload))
        return False


def installation_id(base_topic: str) -> str:
    """Return a client id that is stable for this installation and differs from every other one's.

    Made of the machine's id, its host name and the base topic, so that two machines, two containers
    and two bridges on one machine never throw each other out.
    """
    try:
        machine = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        machine = f"{uuid.getnode():x}"
    digest = hashlib.sha256(f"{machine}\n{socket.gethostname()}\n{base_topic}".encode()).hexdigest()
    return f"solarbridge-{digest[:11]}"  # an MQTT 3.1.1 broker need not take more than 23 characters
