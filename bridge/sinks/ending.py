"""Why a broker connection ended, in words for people, and how long to wait before the next one."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, NamedTuple

from bridge.backoff import Backoff

if TYPE_CHECKING:
    from paho.mqtt.reasoncodes import ReasonCode

SHORT_LIVED = 15.0
"""A connection that lived for fewer seconds than this was ended by something that will happen again."""

LARGE = 4096
"""Bytes of a payload from which on a message may be too large for a broker."""

SHORTEST = 1.0
"""Seconds to wait at least behind an attempt that took long by itself."""

SHORT_LIVES = 3
"""So many of them in a row, each ended by the other side and none refused, and it is no bad luck."""


class Ending(NamedTuple):
    """How one connection ended.

    `kind`: "name" (host name), "refused" (nobody listens, unreachable), "tls", "login", "protocol"
    (version not spoken), "unanswered" (no CONNACK), "taken_over" (a twin with our client
    id), "too_large", "too_many" (messages under way), "silent", "lost", "closed" (by us). `lived` is seconds from
    the broker's yes to the end.
    """

    kind: str
    text: str
    lived: float = 0.0

    @property
    def loud(self) -> bool:
        """Whether someone has to do something about it."""
        return self.kind in ("tls", "login", "taken_over", "too_large", "too_many")


class Patience:
    """Decides how long to wait after each ending.

    Ordinary trouble: 1 to 4 s from one attempt to the next, so that a broker that is back is found within 5 s even
    after hours. Where nothing answers, as where the machine is off, an attempt takes as long by itself.
    A refused login or certificate: 12 s and more, since only a person can mend it. A twin, or a
    broker that ends one connection after the other: growing to minutes, so that two bridges do not
    throw each other out for ever.
    """

    def __init__(self) -> None:
        self._ordinary = Backoff(1.0, 4.0)
        self._login = Backoff(16.0, 60.0)
        self._quarrel = Backoff(14.0, 300.0)
        self._short_lives = 0
        self._suspect: str | None = None

    def judge(self, ending: Ending, took: float = 0.0) -> tuple[Ending, float]:
        """Return how the connection ended, in the light of those before it, and the seconds to wait now.

        `took` is for how many seconds it was tried.
        """
        if ending.lived >= SHORT_LIVED:
            self._ordinary.reset()
            if ending.kind != "taken_over":
                self._quarrel.reset()
        short = ending.kind in ("lost", "taken_over") and 0 < ending.lived < SHORT_LIVED
        self._short_lives = self._short_lives + 1 if short else 0
        # MQTT 3.1.1 does not say "taken over", nor does mosquitto 2.0.11 on 5 (observed): there a twin
        # looks like one lost connection after the other, at a broker that is always there
        if ending.kind == "lost" and self._short_lives >= SHORT_LIVES:
            text = "one connection after the other is ended: is a second bridge running with our client id?"
            ending = Ending("taken_over", text, ending.lived)
        return ending, self._pause(ending, took - ending.lived)

    def _pause(self, ending: Ending, took: float) -> float:
        if ending.kind in ("login", "tls"):
            return self._login.pause()
        self._login.reset()
        if ending.kind == "taken_over":
            return self._quarrel.pause()
        if ending.kind == "protocol":
            return 0.2
        pause = self._ordinary.pause()
        return max(min(pause, SHORTEST), pause - took)

    def repeatedly_after(self, ending: Ending, topic: str, size: int) -> bool:
        """Whether a second short-lived connection in a row ended over a large message on the same topic.

        MQTT 3.1.1 brokers end the connection over a message's size without a word.
        """
        if ending.kind != "lost" or ending.lived >= SHORT_LIVED or size < LARGE:
            self._suspect = None
            return False
        again, self._suspect = self._suspect == topic, topic
        return again


def from_connect_error(err: Exception, host: str) -> Ending:
    """Say why no connection came about."""
    if isinstance(err, ssl.SSLCertVerificationError):
        return Ending("tls", f"its certificate was refused: {err.verify_message}")
    if isinstance(err, ssl.SSLError):
        return Ending("tls", f"no TLS: {_tls_words(err)}")
    if isinstance(err, socket.gaierror):
        return Ending("name", f"the name {host!r} does not resolve ({err.strerror})")
    if isinstance(err, TimeoutError):
        return Ending("refused", "does not answer")
    if isinstance(err, FileNotFoundError | PermissionError):
        return Ending("tls", f"TLS file: {err}")
    if isinstance(err, OSError):
        return Ending("refused", f"{err.strerror or err}")
    return Ending("refused", str(err))


def from_connack(code: ReasonCode) -> Ending:
    """Say why the broker said no. Source: MQTT 5, 3.2.2.2; paho turns the 3.1.1 codes into these."""
    number = code.value
    if number in (0x86, 0x87, 0x8C):
        return Ending("login", f"it refuses our login: {code}")
    if number == 0x84:
        return Ending("protocol", "it does not speak this version of MQTT")
    return Ending("refused", f"it refuses us: {code}")


def from_disconnect(code: ReasonCode, by_broker: bool, accepted: bool, lived: float) -> Ending:
    """Say why a connection ended; `by_broker` when it sent a DISCONNECT with that code."""
    if by_broker and code.value == 0x8E:
        text = "another client came with our client id and took the connection over: is a second bridge running?"
        return Ending("taken_over", text, lived)
    if by_broker and code.value == 0x93:
        text = "it ended the connection over more unacknowledged messages than it takes: raise its receive maximum"
        return Ending("too_many", text, lived)
    if by_broker and code.value == 0x95:
        return Ending("too_large", "it ended the connection over a message that is too large", lived)
    if by_broker and code.value == 0x84:
        return Ending("protocol", "it does not speak this version of MQTT", lived)
    if not by_broker and code.value == 0x8D:
        return Ending("silent", "the broker went silent", lived) if accepted else no_answer("CONNECT")
    if not accepted:
        text = "it closed the connection without an answer: another MQTT version, or no client certificate?"
        return Ending("refused", f"it refuses us: {code}") if by_broker else Ending("unanswered", text)
    return Ending("lost", f"connection lost ({code})", lived)


def no_answer(packet: str) -> Ending:
    """Say that the broker did not react in time. To another MQTT version some are deaf (amqtt 0.12, observed)."""
    return Ending("unanswered" if packet == "CONNECT" else "silent", f"no answer to {packet}")


def _tls_words(err: ssl.SSLError) -> str:
    reason = (err.reason or str(err)).replace("_", " ").lower()
    if "wrong version number" in reason or "record layer" in reason:
        return "the other side does not speak TLS on this port"
    return reason
