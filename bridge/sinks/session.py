"""One connection to the broker through paho: its client, its callbacks, what is known of it.

Imported by the broker's thread only when it begins: the devices' threads wait for their first bytes by then, so the
library's import costs the first reading nothing.
"""

from __future__ import annotations

import logging
import socket
import ssl
import struct
import time
from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from bridge.config import Mqtt
from bridge.sinks.ending import LARGE, Ending, from_connack, from_disconnect
from bridge.sinks.outbox import Message

log = logging.getLogger(__name__)

MAXIMUM_PACKET = 65_536
"""Largest packet the broker may send us (MQTT 5): no command is longer, and a broker that is told so
holds a 60 MB payload back. MQTT 3.1.1 has no such word; there only the broker's own limit helps."""

UNACKNOWLEDGED = 32
"""QoS 1 messages under way at most; fewer where the broker takes fewer at once."""

RECEIPT_SECONDS = 0.5
"""How long the broker may owe a receipt before messages wait for it. What was sent since then may
arrive old, so this is how much of the past a frozen broker can still hand out."""

BURST_SECONDS = 0.05
"""The same on a link that has proved slow: enough to send what waits, then the receipt is waited for. It
counts as quick again when a receipt takes no longer than twice this."""

ARRIVED = 256
"""Received messages waiting for this thread at most; a flood past it is dropped and counted."""

GOODBYE = 0.2
"""Seconds for the broker to close the connection after our goodbye."""

FORGOTTEN = 10.0
"""Seconds after which a receipt that a living broker still owes is given up."""


class Arrived(NamedTuple):
    """A message received on one of our subscriptions."""

    topic: str
    payload: bytes
    retained: bool
    reply_topic: str | None = None
    """MQTT 5: where the sender wants the answer, with the `correlation` it goes by."""
    correlation: bytes | None = None
    expiry: float | None = None
    """MQTT 5: for how many more seconds the message may be acted upon."""
    sender: str = ""
    """MQTT 5: what the sender says of itself, its user properties."""


class _Receipt(NamedTuple):
    """An answer that the broker owes; it shows how far the broker has read."""

    mid: int
    asked_at: float
    number: int
    """How many messages had been handed over by then."""


class Session:
    """One connection: the library's client, and what is known of it. The callbacks note things and do nothing else.

    Not locked: its owner does that.
    """

    def __init__(self, config: Mqtt, client_id: str, version: str, status_topic: str) -> None:
        self.is_5 = version == "5"
        self.client = self._build_client(config, client_id, status_topic)
        self.accepted = False
        self.subscribing = False
        self.subscribed = False
        self.online = False
        self.ending: Ending | None = None
        self.heard_at = self._began = time.monotonic()
        self.maximum_packet: int | None = None
        self._most_unacknowledged = UNACKNOWLEDGED
        self.server_keepalive = 0
        self.arrived: deque[Arrived] = deque()
        self.arrived_dropped = 0
        self.unacknowledged: dict[int, Message] = {}
        self.receipt: _Receipt | None = None
        self._receipt_filter = f"{status_topic}/receipt"
        self._asked_at = 0.0
        self._patience = RECEIPT_SECONDS
        self.denied: deque[tuple[str, str]] = deque()
        self.handed = 0
        self.largest: Message | None = None
        """The largest message that the broker may not have read yet."""
        self._largest_number = 0
        self._asked: dict[int, str] = {}
        """Topics that the broker has not answered for yet, by the number of their packet."""
        self.refused: list[str] = []
        """Topics that the broker does not let us have."""

    def connect(self, host: str, port: int, keepalive: int) -> None:
        """Resolve the name, open the connection and send CONNECT. Raises OSError (ssl's and the resolver's too)."""
        if self.is_5:
            self.client.connect(host, port, keepalive, clean_start=True, properties=_connect_properties())
        else:
            self.client.connect(host, port, keepalive)

    def subscribe(self, topics: Sequence[str], at_once: Sequence[str]) -> None:
        """Ask for the topics; `subscribed` says when the broker has answered for all of them.

        One packet each: a broker goes through them in order, so what it has retained on the first is here before its
        answer for the last. That holds for those `at_once`, which come first and with QoS 0; of QoS 1 a broker keeps
        back what is more than its window (mosquitto: 20 messages), to send it behind its answer.
        """
        self.subscribing = True
        for qos, group in enumerate((at_once, topics)):
            for topic in group:
                # not noLocal: it would hide the will of our own former connection from us
                _, mid = self.client.subscribe(topic, qos)
                self._asked[mid or 0] = topic

    def close(self) -> None:
        """Say goodbye to the broker; what the kernel still holds is delivered first."""
        sock = self.client.socket()
        _set_linger(sock, True)
        self.client.disconnect()
        _read_out(sock)

    def note(self, code: MQTTErrorCode) -> None:
        """End the session when the library says the connection is gone and no callback said why."""
        if code not in (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_AGAIN):
            kind = "lost" if self.accepted else "unanswered"
            self.end(Ending(kind, paho.error_string(code), lived=self.lived()))

    def pending(self) -> bool:
        """Whether TLS holds decrypted bytes, of which the descriptor knows nothing."""
        sock = self.client.socket()
        return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0

    def hand_over(self, message: Message, now: float) -> bool:
        """Give one message to the library, which writes it at once; False when the connection is gone."""
        self._note_size(message)
        if message.qos or not self._write(message):
            properties = _properties(message) if self.is_5 and (message.correlation or message.by) else None
            info = self.client.publish(message.topic, message.payload, message.qos, message.retain, properties)
            if message.qos:
                self.unacknowledged[info.mid] = message
                return True
            if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
                return False
        if now - self._asked_at >= self._patience / 2 and self.receipt is None:
            self._ask_for_receipt(now)
        else:
            self.follow_up(now)
        return True

    def follow_up(self, now: float) -> None:
        """Ask for a receipt behind a large message at once, or behind the receipt that was asked for before it.

        Else one that is lost later, for whatever reason, would be blamed on it where nothing was sent behind it.
        """
        if self.receipt is None and self.largest is not None and len(self.largest.payload) >= LARGE:
            self._ask_for_receipt(now)

    def _write(self, message: Message) -> bool:
        """Write a QoS 0 PUBLISH to the socket itself; False where the library has to do it, nothing is written then.

        A third of the time between a reading and the socket went into the library's objects for acknowledgements,
        which such a message needs none of. Only a message without properties, and only while the library has nothing
        to write; what the socket does not take becomes the library's next packet. Not through TLS, which may want to
        read first.
        """
        sock = self.client.socket()
        if sock is None or isinstance(sock, ssl.SSLSocket) or self.client.want_write():
            return False
        if message.correlation or message.by:
            return False
        packet = publish_packet(message, self.is_5)
        try:
            count = sock.send(packet)
        except OSError:  # nothing was written: full, or gone, which the library finds out and tells in its own way
            return False
        if count < len(packet):
            self.client._packet_queue(paho.PUBLISH, packet[count:], 0, 0, paho.MQTTMessageInfo(0))
        return True

    def _ask_for_receipt(self, now: float) -> None:
        """Provoke an answer behind what was sent: an UNSUBSCRIBE from what was never subscribed.

        A broker has to answer that, and nobody else sees it. The library offers no PINGREQ; and states as
        QoS 1 would be kept by the broker for subscribers that are away, and reach them old.
        """
        _, mid = self.client.unsubscribe(self._receipt_filter)
        self.receipt = _Receipt(mid or 0, now, self.handed)
        self._asked_at = now

    def lived(self) -> float:
        """Seconds since the broker accepted us, 0 before."""
        return time.monotonic() - self._began if self.accepted else 0.0

    def silence_limit(self, keepalive: int) -> float:
        """Seconds without a byte from the broker after which it counts as gone."""
        return 1.5 * max(keepalive, self.server_keepalive)

    def _note_size(self, message: Message) -> None:
        """Count a message that is handed over, and remember the largest."""
        self.handed += 1
        if self.largest is None or len(message.payload) > len(self.largest.payload):
            self.largest, self._largest_number = message, self.handed

    def takes_more(self, now: float) -> bool:
        """Whether the broker keeps up with what it was sent."""
        return self.ending is None and not self._owes(now) and len(self.unacknowledged) < self._most_unacknowledged

    def _owes(self, now: float) -> bool:
        """Whether messages wait for a receipt; one that was forgotten is given up when the broker is alive."""
        if self.receipt is None or now - self.receipt.asked_at <= self._patience:
            return False
        if now - self.receipt.asked_at > FORGOTTEN and self.heard_at > self.receipt.asked_at + FORGOTTEN / 2:
            self.receipt = None
            return False
        return True

    def _receipt_came(self, receipt: _Receipt) -> None:
        self.receipt = None
        if self._largest_number <= receipt.number:
            self.largest = None
        took = time.monotonic() - receipt.asked_at
        if took > RECEIPT_SECONDS:
            self._patience = BURST_SECONDS
        elif took < 2 * BURST_SECONDS:
            self._patience = RECEIPT_SECONDS

    def end(self, ending: Ending) -> None:
        if self.ending is None:
            self.ending = ending

    def _build_client(self, config: Mqtt, client_id: str, status_topic: str) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id,
            clean_session=None if self.is_5 else True,
            protocol=MQTTProtocolVersion.MQTTv5 if self.is_5 else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
        )
        client.connect_timeout = 5.0
        client.max_inflight_messages_set(UNACKNOWLEDGED)
        client.will_set(status_topic, b"offline", qos=1, retain=True)
        password = config.password
        if config.username or password:
            client.username_pw_set(config.username or "", password.reveal() if password else None)
        if config.tls is not None:
            client.tls_set_context(tls_context(config.tls.ca, config.tls.certificate, config.tls.key))
        client.on_socket_open = _set_up_socket
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_unsubscribe = self._on_unsubscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        return client

    def _on_message(self, _client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        if not topic or len(self.arrived) >= ARRIVED:
            self.arrived_dropped += 1
            return
        payload, retained = bytes(message.payload), bool(message.retain)
        properties = message.properties
        if properties is None or properties.isEmpty():  # type: ignore[no-untyped-call]
            self.arrived.append(Arrived(topic, payload, retained))
            return
        self.arrived.append(
            Arrived(
                topic,
                payload,
                retained,
                getattr(properties, "ResponseTopic", None),
                getattr(properties, "CorrelationData", None),
                getattr(properties, "MessageExpiryInterval", None),
                ", ".join(f"{name}={value}" for name, value in getattr(properties, "UserProperty", [])[:8]),
            )
        )

    def _on_connect(
        self, _client: paho.Client, _userdata: Any, _flags: Any, code: ReasonCode, properties: Properties | None
    ) -> None:
        if code.is_failure:
            self.end(from_connack(code))
            return
        self.accepted = True
        self._began = time.monotonic()
        self.maximum_packet = getattr(properties, "MaximumPacketSize", None)
        # MQTT 5, 3.2.2.3.3: a client that exceeds it is thrown out; mosquitto says 20, HiveMQ 10
        self._most_unacknowledged = min(UNACKNOWLEDGED, getattr(properties, "ReceiveMaximum", None) or 65_535)
        self.server_keepalive = getattr(properties, "ServerKeepAlive", 0)

    def _on_subscribe(
        self, _client: paho.Client, _userdata: Any, mid: int, codes: list[ReasonCode], _properties: Properties | None
    ) -> None:
        topic = self._asked.pop(mid, None)
        if topic is not None and any(code.is_failure for code in codes):
            self.refused.append(topic)
        self.subscribed = not self._asked

    def _on_publish(
        self, _client: paho.Client, _userdata: Any, mid: int, code: ReasonCode, _properties: Properties | None
    ) -> None:
        message = self.unacknowledged.pop(mid, None)
        if message is not None and code.is_failure:
            self.denied.append((message.topic, str(code)))

    def _on_unsubscribe(
        self, _client: paho.Client, _userdata: Any, mid: int, _codes: list[ReasonCode], _properties: Properties | None
    ) -> None:
        if self.receipt is not None and self.receipt.mid == mid:
            self._receipt_came(self.receipt)

    def _on_disconnect(
        self, _client: paho.Client, _userdata: Any, flags: Any, code: ReasonCode, _properties: Properties | None
    ) -> None:
        self.end(from_disconnect(code, flags.is_disconnect_packet_from_server, self.accepted, self.lived()))


def publish_packet(message: Message, is_5: bool) -> bytes:
    """Return a PUBLISH with QoS 0 as it goes over the wire, in MQTT 5 without properties."""
    head = _publish_head(message.topic, is_5)
    left = len(head) + len(message.payload)
    length = b""
    while left > 127:
        length += bytes((left & 127 | 128,))
        left >>= 7
    return b"%c%b%c%b%b" % (paho.PUBLISH | message.retain, length, left, head, message.payload)


@lru_cache(maxsize=1024)
def _publish_head(topic: str, is_5: bool) -> bytes:
    """Return what stands between the length and the payload. Raises ValueError for a topic nobody can publish on."""
    name = topic.encode()
    if not 0 < len(name) < 0x10000 or b"+" in name or b"#" in name:
        raise ValueError(f"no topic to publish on: {topic[:100]!r}")
    return len(name).to_bytes(2, "big") + name + (b"\0" if is_5 else b"")


def tls_context(ca: str | None, certificate: str | None, key: str | None) -> ssl.SSLContext:
    """Return a context that checks the broker's certificate and name, TLS 1.2 at least.

    Without `ca` the system's authorities count. Raises OSError for files that cannot be used.
    """
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate:
        context.load_cert_chain(certificate, key)
    return context


def _connect_properties() -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = 0
    properties.MaximumPacketSize = MAXIMUM_PACKET
    return properties


def _properties(message: Message) -> Properties:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    if message.correlation:
        properties.CorrelationData = message.correlation
    if message.by:
        properties.UserProperty = [("by", message.by)]
    return properties


def _set_up_socket(_client: paho.Client, _userdata: Any, sock: Any) -> None:
    # without it the kernel holds a small message back while an earlier one is unacknowledged: p99 to
    # a subscriber is 21 ms instead of 0.2 ms (measured on loopback)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        log.debug("TCP_NODELAY not set")
    _set_linger(sock, False)


def _read_out(sock: Any) -> None:
    """Read what the broker still sends until it closes, for a moment at most.

    A socket closed with unread bytes in it resets the connection; a broker that sees that before our goodbye
    takes us for dead and publishes the will.
    """
    until = time.monotonic() + GOODBYE
    try:
        while sock is not None and (left := until - time.monotonic()) > 0:
            sock.settimeout(left)
            if not sock.recv(65536):
                return
    except (OSError, ValueError):
        log.debug("the broker did not close")


def _set_linger(sock: Any, linger: bool) -> None:
    """Say what the kernel does at close with bytes not yet delivered: go on for minutes, or drop them.

    After a dead link they would reach the broker old, beside the next connection's new ones.
    """
    if sock is not None:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", not linger, 0))
        except OSError:
            log.debug("SO_LINGER not set")
