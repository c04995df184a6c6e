"""YAML -> frozen dataclasses: what the configuration file can say, and where passwords come from.

The keys are declared here and, for a device, beside its device (`Options`); `options.py` reads them
and explains why that is own code. All problems of a file are reported at once, each as
``FILE:LINE: key.path: what was found; what is allowed``.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, fields, is_dataclass, replace
from typing import Any, Literal

import yaml

from bridge.devices import SLICES, DeviceOptions, slice_of
from bridge.errors import ConfigError
from bridge.options import (
    Reader,
    Refused,
    Rule,
    Secret,
    Variable,
    is_nothing,
    key_of,
    option,
    plain,
    rule_of,
    secrets_in,
)

__all__ = [
    "BankEntry", "Config", "HomeAssistant", "Logging", "Mqtt", "Secret", "Tls",
    "any_port", "digest", "dump", "file_there", "fixed_topic", "host_name", "level", "load", "option", "secrets",
    "serial_port", "topic",
]  # fmt: skip

MAX_FILE = 1 << 20
MAX_PASSWORD = 4096
MAX_NAME = 64

RESERVED = ("status", "info", "health", "discovery")
"""Topic levels of the bridge itself, so no device and no bank can have such a name."""

OVERRIDES = {
    "SOLARBRIDGE_MQTT_HOST": ("host", '"'),
    "SOLARBRIDGE_MQTT_PORT": ("port", None),
    "SOLARBRIDGE_MQTT_USERNAME": ("username", '"'),
}
"""Environment variable -> key under `mqtt:`, and the quotes its value is read in."""

PASSWORD_VARIABLE = "SOLARBRIDGE_MQTT_PASSWORD"  # noqa: S105 - a name
CREDENTIAL = "mqtt-password"
"""File name in systemd's $CREDENTIALS_DIRECTORY."""


# -- checks, for `option(check=...)`: what is wrong with a text, or None


def topic(text: str) -> str | None:
    """Say what keeps `text` from being a topic to publish on."""
    if "+" in text or "#" in text:
        return "a topic to publish on cannot hold + or #"
    if text != text.strip() or text.startswith(("/", "$")) or text.endswith("/"):
        return "a topic cannot begin or end with a blank or /, nor begin with $"
    if len(text.encode()) > 1024:
        return "longer than 1024 bytes"
    return None


def fixed_topic(text: str) -> str | None:
    """Say what keeps `text` from being the one topic of something that has no number or serial number to fill in."""
    if "{" in text or "}" in text:
        return "nothing is filled in here; expected a topic without { and }"
    return topic(text)


def file_there(path: str) -> str | None:
    """Say what keeps a file from being read."""
    if not os.path.exists(path):
        return f"{path} is not there"
    return None if os.path.isfile(path) and os.access(path, os.R_OK) else f"{path} is not a file that can be read"


def level(text: str) -> str | None:
    """Say what keeps `text` from being a level of a topic: the name of a device or a bank."""
    if text in RESERVED:
        return f"{text} is a topic of the bridge itself; choose another name"
    if set(text) & set("+#/"):
        return "a name is one level of a topic and cannot hold + # or /"
    if text != text.strip() or text.startswith("$"):
        return "a name cannot begin or end with a blank, nor begin with $"
    return f"longer than {MAX_NAME} characters" if len(text) > MAX_NAME else None


def serial_port(text: str) -> str | None:
    """Say what keeps `text` from being the path of a serial port; the port itself may come and go."""
    return None if text.startswith("/") else f"found {text[:40]!a}; expected a path such as /dev/ttyUSB0"


def any_port(text: str) -> str | None:
    """Say what keeps `text` from being a port an Axpert can be on."""
    if text == "hid" or (text.startswith("hid:") and text != "hid:") or text.startswith("/"):
        return None
    return f"found {text[:40]!a}; expected hid, hid:SERIAL, or a path such as /dev/hidraw0 or /dev/ttyUSB0"


def host_name(text: str) -> str | None:
    """Say what keeps `text` from being a host name or an IP address; an IPv6 one has two colons at least."""
    if set(text) & set("/@[]") or text.count(":") == 1 or any(c.isspace() for c in text):
        return "expected a host name or an IP address alone; a port and all else have keys of their own"
    return None


# -- the keys


# fmt: off
@dataclass(frozen=True, kw_only=True)
class Tls:
    """`mqtt.tls`; an empty mapping means TLS with the system's authorities."""

    ca: str | None = option(None, path=True, check=file_there, doc="certificate of the broker's authority")
    certificate: str | None = option(None, path=True, check=file_there, doc="the bridge's own certificate")
    key: str | None = option(None, path=True, check=file_there, doc="the private key of the bridge's own certificate")

    @staticmethod
    def conflicts(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """A key without its certificate is of no use; a certificate file may hold its key."""
        if values.get("key") and "certificate" in values and values["certificate"] is None:
            yield "key", "is of no use without certificate"


@dataclass(frozen=True, kw_only=True)
class Mqtt:
    """`mqtt`: the broker and how to speak to it."""

    host: str = option(doc="the broker's host name or IP address", check=host_name)
    port: int = option(1883, minimum=1, maximum=65535, doc="the broker's port; 8883 when tls is given")
    username: str | None = option(None, doc="user name at the broker")
    password: Secret | None = option(None, doc="password at the broker; better in password_file")
    password_file: str | None = option(None, path=True, doc="file that holds the password alone")
    base_topic: str = option("solarbridge", check=topic, doc="first level of every topic")
    protocol: Literal[5, "3.1.1"] = option(5, doc="MQTT version")
    tls: Tls | None = option(None, doc="files for an encrypted connection", empty=(
        "for an encrypted connection write `tls: {}` (the system's authorities) or give ca, certificate or key; for a "
        "plain one leave tls out"))
    keepalive: int = option(15, minimum=5, maximum=600, doc="s; a dead link is noticed within 1.5 times this")
    client_id: str | None = option(None, doc="left out: one that is unique to this installation")
    retain_states: bool = option(True, doc="whether the broker keeps the last state of each device")

    @staticmethod
    def conflicts(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """One source of the password in the file, not two."""
        if values.get("password") and values.get("password_file"):
            yield "password_file", "give password or password_file, not both"


@dataclass(frozen=True, kw_only=True)
class Logging:
    """`logging`: always to stderr, and to a size-capped file in `directory` if there is one."""

    level: Literal["debug", "info", "warning", "error"] = option("info", doc="how much to log")
    directory: str | None = option(None, path=True, doc="folder for log files, best on a tmpfs")
    max_megabytes: int = option(20, minimum=1, maximum=10_000, doc="MB that all log files together may take")


@dataclass(frozen=True, kw_only=True)
class HomeAssistant:
    """`homeassistant`: devices that appear there by themselves."""

    discovery: bool = option(True, doc="whether devices and their values are announced")
    prefix: str = option("homeassistant", check=topic, doc="first level of the topics on which they are announced")
    birth_topic: str | None = option(None, check=topic, doc="where Home Assistant says that it starts")
    birth_payload: str = option("online", doc="what it says then")
    time_entities: bool = option(False, doc="time windows as two times each; needs a newer Home Assistant than 2025.4")


@dataclass(frozen=True)
class BankEntry:
    """An entry of `banks`; its keys are in bank_options.py, which is loaded when there is one."""

    __slots__ = ()


@dataclass(frozen=True, kw_only=True)
class Config:
    """The whole file. `warnings` is what a person should know but what does not keep the bridge from starting."""

    mqtt: Mqtt = option(doc="the broker")
    devices: tuple[DeviceOptions, ...] = option(doc="what to read, a list")
    banks: tuple[BankEntry, ...] = option((), doc="batteries that work as one, a list")
    homeassistant: HomeAssistant = option(HomeAssistant(), doc="what Home Assistant is told")
    energy: bool = option(True, doc="whether energy is estimated from power where a device counts none")
    logging: Logging = option(Logging(), doc="where the log goes")
    state_directory: str | None = option(None, path=True, doc="folder for what must outlive a restart")
    warnings: tuple[str, ...] = option((), key=False, doc="")

    @staticmethod
    def conflicts(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """A bridge without devices is a mistake; banks are made of devices there are."""
        if values.get("devices") == ():
            yield "devices", "found an empty list; expected at least one device"
        if values.get("banks"):
            from bridge.bank_options import conflicts

            for text in conflicts(values.get("devices") or (), values["banks"]):
                yield "banks", text
# fmt: on


# -- reading


def load(path: str | os.PathLike[str], environ: Mapping[str, str]) -> Config:
    """Return the configuration. Raises ConfigError with every problem of the file and the environment."""
    file = os.fspath(path)
    reader = _ConfigReader(file)
    config: Config | None = None
    warnings: list[str] = []
    try:
        data, world_readable = _read_file(file, MAX_FILE)
        root = _root(reader, data)
        broker = _override(root, environ)
        config = reader.read(Config, root, "")
    except _Unreadable as err:
        reader.report(None, "", str(err))
    except Refused:
        pass
    if config is not None:
        _claim_topics(reader, root, config)
        _claim_birth(reader, root, config)
        config = replace(config, mqtt=_finish_mqtt(reader, broker, config.mqtt, environ, warnings))
        if world_readable and config.mqtt.password and _value_of(broker, "password"):
            warnings.append(f"{file} holds a password and can be read by everyone; chmod 640 it, or use password_file")
    if config is None or reader.problems():
        raise ConfigError(reader.problems())
    if config.banks:
        from bridge.bank_options import warnings as bank_warnings

        warnings += bank_warnings(config)
    return replace(config, warnings=tuple(warnings))


class _ConfigReader(Reader):
    """Knows that `type` chooses a device's keys, and what no two devices may share."""

    def __init__(self, file: str) -> None:
        super().__init__(file)
        self._taken: dict[tuple[str, str], str] = {}

    def variant(self, declared: Any, node: yaml.MappingNode, entries: Mapping[str, Any], place: str) -> Any:
        if declared is BankEntry:
            from bridge.bank_options import Bank

            self._claim("name", entries, place)
            return Bank
        if declared is not DeviceOptions:
            return declared
        self._claim("name", entries, place)
        known = ", ".join(SLICES)
        if "type" not in entries:
            raise self.report(node, f"{place}.type", f"missing; expected one of {known}")
        kind = self.read(str, entries["type"], f"{place}.type")
        if kind not in SLICES:
            raise self.report(entries["type"], f"{place}.type", f"found {kind[:40]!a}; expected one of {known}")
        options = slice_of(kind).Options
        keys = {item.name: item.default for item in fields(options)}
        for key in ("host", "listen", "udp") if "host" in keys else ("port",):  # a host's port is no cable
            self._claim(key, entries, place, keys.get("port"))
        return options

    def rule(self, cls: Any, item: Field[Any]) -> Rule:
        if issubclass(cls, DeviceOptions) and item.name == "name":
            return _NAME
        return rule_of(item)

    def _claim(self, key: str, entries: Mapping[str, Any], place: str, default_port: object = None) -> None:
        """Report a name or a port that another device has; the same port under two names is one port."""
        node = entries.get(key)
        if not isinstance(node, yaml.ScalarNode) or not node.value or is_nothing(node):
            return
        value = _real_path(node.value) if node.value.startswith("/") else node.value
        if key == "host":
            port = entries.get("port")
            value += f":{port.value if isinstance(port, yaml.ScalarNode) else default_port}"
        owner = self._taken.setdefault((key, value), place)
        if owner != place:
            text = "the same name" if key == "name" else "the same port (one bus is one device)"
            self.report(node, f"{place}.{key}", f"{text} as {owner}; each needs its own")


_NAME = Rule(doc="its level in the topics", check=level)


def _real_path(path: str) -> str:
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):  # a NUL in it; refused as a text elsewhere
        return path


def _root(reader: Reader, data: bytes) -> yaml.MappingNode:
    """Return the file's top mapping. Raises Refused."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as err:
        line = data.count(b"\n", 0, err.start) + 1
        raise reader.report(line, "", f"not UTF-8 text (byte {data[err.start]:#04x}); save it as UTF-8") from None
    root = reader.compose(text)
    if root is None:
        raise reader.report(1, "", "the file is empty; it needs at least mqtt (with host) and devices")
    if not isinstance(root, yaml.MappingNode):
        known = ", ".join(key_of(item) for item in fields(Config) if rule_of(item).key)
        raise reader.report(root, "", f"expected lines of key: value; the keys are {known}")
    return root


def _override(root: yaml.MappingNode, environ: Mapping[str, str]) -> yaml.MappingNode | None:
    """Put the environment's values in the place of the file's; return the `mqtt` mapping, if there is one."""
    broker = _value_of(root, "mqtt")
    for name, (key, style) in OVERRIDES.items():
        value = environ.get(name)
        if not value:
            continue
        if broker is None:
            broker = yaml.MappingNode("tag:yaml.org,2002:map", [], root.start_mark, root.end_mark)
            root.value.append((_key("mqtt", root), broker))
        if isinstance(broker, yaml.MappingNode):
            broker.value.insert(0, (_key(key, broker), Variable(name, value, style)))
    return broker if isinstance(broker, yaml.MappingNode) else None


def _key(name: str, parent: yaml.Node) -> yaml.ScalarNode:
    return yaml.ScalarNode("tag:yaml.org,2002:str", name, parent.start_mark, parent.end_mark)


def _value_of(node: yaml.MappingNode | None, key: str) -> yaml.Node | None:
    """Return the value node of a key, or None."""
    for key_node, value in node.value if node else []:
        if isinstance(key_node, yaml.ScalarNode) and key_node.value == key:
            found: yaml.Node = value
            return found
    return None


def _claim_topics(reader: Reader, root: yaml.MappingNode, config: Config) -> None:
    """Report a topic of other software's that two publish on: it would show now the one's values, now the other's."""
    base, owners = config.mqtt.base_topic, list[tuple[str, str]]()
    for node, place, text in _topics(root, config):
        none = f", or none: topics: {{{place.rpartition('.')[2]}: null}}" if place.startswith("devices") else ""
        if text == base or text.startswith(f"{base}/"):
            wanted = f"expected one that does not begin with {base}/{none}"
            reader.report(node, place, f"{text} is among the bridge's own topics; {wanted}")
        elif "{sn}" not in text or "{n}" in text:  # with a serial number in it, it is each unit's own
            owner = next((other for theirs, other in owners if _meet(text, theirs)), None)
            owners.append((text, place))
            if owner is not None:
                reader.report(node, place, f"{text} is the topic of {owner}, too; each needs one of its own{none}")


def _claim_birth(reader: Reader, root: yaml.MappingNode, config: Config) -> None:
    """Report a birth topic among our own: what we say there would be taken for Home Assistant's start, on and on."""
    options, base = config.homeassistant, config.mqtt.base_topic
    birth = options.birth_topic or f"{options.prefix}/status"
    if not options.discovery or not birth.startswith(f"{base}/"):
        return
    for section, key in (("homeassistant", "birth_topic"), ("homeassistant", "prefix"), ("mqtt", "base_topic")):
        mapping = _value_of(root, section)
        node = _value_of(mapping, key) if isinstance(mapping, yaml.MappingNode) else None
        if node is not None:
            text = f"Home Assistant says on {birth} that it starts, so the bridge cannot have it among its own topics"
            reader.report(node, f"{section}.{key}", f"{text}; expected a base_topic other than {base}")
            return


def _topics(root: yaml.MappingNode, config: Config) -> Iterator[tuple[yaml.Node, str, str]]:
    """Yield the topics of devices and banks outside of the bridge's tree: where it stands, its place, the topic."""
    for key, entries in (("devices", config.devices), ("banks", config.banks)):
        nodes = _value_of(root, key)
        for number, (entry, node) in enumerate(zip(entries, nodes.value if nodes else [], strict=False)):
            yield from _topics_in(entry, node, f"{key}[{number}]")


def _topics_in(entry: object, node: yaml.MappingNode, place: str) -> Iterator[tuple[yaml.Node, str, str]]:
    if isinstance(bank_topic := getattr(entry, "topic", None), str):
        yield _value_of(node, "topic") or node, f"{place}.topic", bank_topic
    topics, inner = getattr(entry, "topics", None), _value_of(node, "topics")
    for item in fields(topics) if is_dataclass(topics) else ():
        if isinstance(text := getattr(topics, item.name), str):
            found = _value_of(inner, key_of(item)) if isinstance(inner, yaml.MappingNode) else None
            yield found or inner or node, f"{place}.topics.{key_of(item)}", text


def _meet(one: str, other: str) -> bool:
    """Whether two topics are the same for some number in the place of {n}."""
    for pattern, text in ((one, other), (other, one)):
        if re.fullmatch("[0-9]+".join(map(re.escape, pattern.split("{n}"))), text.replace("{n}", "1")):
            return True
    return False


def _finish_mqtt(
    reader: Reader, node: yaml.MappingNode | None, mqtt: Mqtt, environ: Mapping[str, str], warnings: list[str]
) -> Mqtt:
    """Fill in what depends on more than one key: the port under TLS, and the password."""
    if mqtt.tls is not None and _value_of(node, "port") is None:
        mqtt = replace(mqtt, port=8883)
    try:
        return replace(mqtt, password=_password(reader, mqtt, environ, warnings))
    except _Unreadable as err:
        named = _value_of(node, "password_file") if mqtt.password_file else None
        reader.report(named, "mqtt.password_file" if named else "mqtt.password", str(err))
    except Refused:
        pass
    return mqtt


def _password(reader: Reader, mqtt: Mqtt, environ: Mapping[str, str], warnings: list[str]) -> Secret | None:
    """Return the broker's password: the environment's, else the file's, else systemd's.

    Raises Refused for a bad variable, _Unreadable for a bad file.
    """
    if text := environ.get(PASSWORD_VARIABLE):
        found: Secret = reader.read(Secret, Variable(PASSWORD_VARIABLE, text, '"'), "mqtt.password")
        return found
    if mqtt.password is not None:
        return mqtt.password
    if mqtt.password_file is not None:
        password, world_readable = _read_password(mqtt.password_file)
        if world_readable:
            warnings.append(f"{mqtt.password_file} can be read by everyone; chmod 640 it")
        return password
    credential = os.path.join(environ.get("CREDENTIALS_DIRECTORY") or "/nonexistent", CREDENTIAL)
    return _read_password(credential)[0] if os.path.exists(credential) else None


class _Unreadable(Exception):
    """A file could not be read; the text says why."""


def _read_password(path: str) -> tuple[Secret, bool]:
    data, world_readable = _read_file(path, MAX_PASSWORD)
    try:
        text = data.decode("utf-8-sig").removesuffix("\n").removesuffix("\r")  # some editors put a mark in front
    except UnicodeDecodeError:
        raise _Unreadable(f"{path} is not UTF-8 text") from None
    if not text or "\n" in text or "\0" in text:
        raise _Unreadable(f"{path} must hold the password on one line and nothing else")
    return Secret(text), world_readable


def _read_file(path: str, limit: int) -> tuple[bytes, bool]:
    """Return a regular file's bytes and whether everyone on the machine can read it. Raises _Unreadable."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise _Unreadable(f"{path} is not there") from None
    except PermissionError:
        raise _Unreadable(f"no right to read {path}") from None
    except (OSError, ValueError) as err:
        raise _Unreadable(f"cannot read {path}: {getattr(err, 'strerror', None) or err}") from None
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        raise _Unreadable(f"{path} is not a file" + (" but a folder" if stat.S_ISDIR(mode) else ""))
    with open(fd, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise _Unreadable(f"{path} is larger than {limit} bytes")
    return data, bool(mode & stat.S_IROTH)


# -- showing


def dump(config: Config) -> str:
    """Return the effective configuration as YAML, defaults filled in, secrets masked."""
    text: str = yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True)
    return text


def digest(config: Config) -> str:
    """Return a short fingerprint of the effective configuration, secrets left out."""
    import hashlib

    return hashlib.sha256(dump(config).encode()).hexdigest()[:12]


def secrets(config: Config) -> list[str]:
    """Return every secret text, for the log's mask."""
    return secrets_in(config)
