"""A short visit to the broker, for tools that talk to a running bridge."""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from bridge.config import Mqtt
from bridge.errors import LinkError
from bridge.sinks.ending import from_connect_error
from bridge.sinks.session import tls_context

ANSWERING = 5.0
"""Seconds the broker may take for anything."""
RETAINED = 1.0
"""Seconds in which retained messages come after a subscription."""
IN_DOUBT = (
    "So nobody knows whether a bridge runs, and nothing was asked. With --direct the device itself is: only when no "
    "bridge runs."
)
PASSWORDS = (
    "no password was found; it comes from mqtt.password_file, mqtt.password or SOLARBRIDGE_MQTT_PASSWORD, "
    "and a credential of systemd's (/etc/credstore) is handed to the service alone"
)


class Visitor:
    """One connection to the configured broker, used by one thread. Raises LinkError when there is none."""

    def __init__(self, config: Mqtt) -> None:
        self._where = f"{config.host}:{config.port}"
        self.base = config.base_topic
        self._messages: queue.SimpleQueue[tuple[str, bytes, bool]] = queue.SimpleQueue()
        self._events: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        # 3.1.1 is what every broker speaks, and nothing here needs more
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv311)
        if config.username or config.password:
            secret = config.password.reveal() if config.password else None
            self._client.username_pw_set(config.username or "", secret)
        self._client.connect_timeout = ANSWERING
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = lambda _client, _userdata, message: self._messages.put(
            (message.topic, bytes(message.payload), bool(message.retain))
        )
        self._config = config

    def _on_connect(self, _client: paho.Client, _userdata: Any, _flags: Any, code: Any, _properties: Any) -> None:
        refusal = str(code) if self._config.password is not None else f"{code}; {PASSWORDS}"
        self._events.put(refusal if code.is_failure else None)

    def _on_subscribe(self, _client: paho.Client, _userdata: Any, _mid: int, codes: Any, _properties: Any) -> None:
        self._events.put(self.rights if any(code.is_failure for code in codes) else None)

    @property
    def rights(self) -> str:
        """What the broker has to allow, in words; many a broker takes a subscription and just sends nothing."""
        user = self._config.username
        return f"its access list has to let {f'user {user}' if user else 'users without a name'} read {self.base}/#"

    def __enter__(self) -> Self:
        config = self._config
        try:
            if config.tls is not None:
                self._client.tls_set_context(tls_context(config.tls.ca, config.tls.certificate, config.tls.key))
            self._client.connect(config.host, config.port, keepalive=30)
        except (OSError, ValueError) as err:  # the latter for a name that cannot be one
            raise LinkError(f"no broker at {self._where}: {from_connect_error(err, config.host).text}") from err
        self._client.loop_start()
        try:
            self._await_event()
        except LinkError:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _await_event(self) -> None:
        try:
            problem = self._events.get(timeout=ANSWERING)
        except queue.Empty:
            problem = "it does not answer"
        if problem is not None:
            raise LinkError(f"the broker at {self._where}: {problem}")

    def subscribe(self, *topics: str) -> None:
        """Subscribe, and wait until the broker has said yes."""
        self._client.subscribe([(topic, 1) for topic in topics])
        self._await_event()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish once and wait until the broker has it. Raises LinkError; in doubt for what it is to keep alone."""
        try:
            sent = self._client.publish(topic, payload, 1, retain)
            sent.wait_for_publish(ANSWERING)
            known = sent.is_published() or not retain  # what comes of a command is heard from the bridge
        except (RuntimeError, ValueError) as err:
            raise LinkError(f"the broker at {self._where}: {err}") from err
        if not known:
            raise LinkError(f"the broker at {self._where}: it does not answer")

    def messages(self, until: float) -> Iterator[tuple[str, bytes, bool]]:
        """Yield topic, payload and whether it is a retained one, as they come, until a time.monotonic()."""
        while (message := self.message(until)) is not None:
            yield message

    def message(self, until: float) -> tuple[str, bytes, bool] | None:
        """Return the next one of `messages`, None when none has come until then."""
        left = until - time.monotonic()
        try:
            return self._messages.get(timeout=left) if left > 0 else None
        except queue.Empty:
            return None

    def _until_heard(self) -> dict[str, bytes]:
        """Return what comes until we are handed what we say ourselves, below the bridge's status.

        Raises LinkError where that does not come: many a broker takes a subscription and just sends nothing.
        """
        place = f"{self.base}/status/visitor"
        self.subscribe(place)
        self.publish(place, b"read")
        found: dict[str, bytes] = {}
        for topic, payload, _retained in self.messages(time.monotonic() + ANSWERING):
            found[topic] = payload
            if topic == place:
                return found
        raise LinkError(f"the broker at {self._where} keeps back what is said there: {self.rights}\n{IN_DOUBT}")

    def runs(self, device: str) -> bool:
        """Whether the bridge on this base topic has a device; False when no bridge runs.

        Raises LinkError where a bridge runs that does not say so, or where the broker would keep back what it says: a
        device in its hands must not be asked past it.
        """
        status, info = f"{self.base}/status", f"{self.base}/info"
        self.subscribe(status, info)
        found: dict[str, bytes] = {}
        for topic, payload, _retained in self.messages(time.monotonic() + RETAINED):
            found[topic] = payload
            if status in found and info in found:
                break
        if status not in found:
            found |= self._until_heard()
        if found.get(status, b"offline") == b"offline":
            return False
        devices = parsed(found.get(info, b"")).get("devices")
        if not isinstance(devices, dict):
            raise LinkError(f"a bridge runs, but the broker at {self._where} keeps back what it says: {self.rights}")
        if device not in devices:
            raise LinkError(f"the bridge that runs has {', '.join(devices)} alone; restart it, so that it reads the "
                            f"configuration anew")  # fmt: skip
        return True


def parsed(payload: bytes) -> dict[str, Any]:
    """Return a JSON object, an empty one for anything else."""
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
