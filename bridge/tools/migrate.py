"""`solarbridge migrate`: the configuration of another program as one of ours, with comments on what became of it.

Read are lxp-bridge's and extra200tomqtt's config.yaml and mpp-solar's daemon configuration. What the other program
never checked is checked here, with the line in its file; what is written passes `solarbridge check`.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.config import load
from bridge.errors import ConfigError
from bridge.tools.migrate_source import Section, looks_like_ini, read_file, read_ini, read_yaml

LXP_BRIDGE, EXTRA, MPP = "lxp-bridge", "extra200tomqtt", "mpp-solar"
KINDS = (LXP_BRIDGE, EXTRA, MPP)

_LEVELS = {"info": "info", "warn": "warning", "warning": "warning", "error": "error", "critical": "error"}
SERIAL_LENGTH = 10
REVO = "PI30REVO"
"""It calls itself PI30, and means other things by some fields."""
PASSWORD_ADVICE = "better alone in a file: password_file: /etc/solarbridge/mqtt-password"  # noqa: S105 - advice
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*")
_NO_TEXT = ("y", "n", "yes", "no", "on", "off", "true", "false", "null")


@dataclass(slots=True)
class Draft:
    """What will be written: keys by section in order, and what a person should read first."""

    kind: str
    mqtt: dict[str, Any] = field(default_factory=dict)
    devices: list[dict[str, Any]] = field(default_factory=list)
    logging: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """What to look at."""
    gone: list[str] = field(default_factory=list)
    """What has no counterpart, and why that is no loss or what to do."""
    reasons: dict[str, str] = field(default_factory=dict)
    """Words for `gone`, by the last part of a key that nothing asked for."""
    comments: dict[str, str] = field(default_factory=dict)
    """A comment behind a key."""

    def broker(self, section: Section, host: str, username: str, password: str, port: str = "port") -> None:
        """Take over where the broker is, by the other program's names of the keys."""
        self.mqtt["host"] = section.needed(host, "the broker's host name or IP address")
        if (number := section.whole(port, 1, 65535)) is not None and number != 1883:
            self.mqtt["port"] = number
        if name := section.text(username):
            self.mqtt["username"] = name
        if secret := section.text(password):
            self.mqtt["password"] = secret
            self.comments["password"] = PASSWORD_ADVICE

    def text(self, file: str) -> str:
        """Return the whole file."""
        name = _printable(os.path.basename(file))
        lines = [f"# Made of {name} ({self.kind}) by `solarbridge migrate`. Read it once before use."]
        lines += _remarks("What to look at:", self.notes) + _remarks("Without a counterpart:", self.gone)
        lines += ["", "mqtt:", *(self._line("  ", *pair) for pair in self.mqtt.items()), "", "devices:"]
        for device in self.devices:
            first, *rest = device.items()
            lines += [self._line("  - ", *first), *(self._line("    ", *pair) for pair in rest), ""]
        if self.logging:
            lines += ["logging:", *(self._line("  ", *pair) for pair in self.logging.items()), ""]
        return "\n".join(lines)

    def _line(self, indent: str, key: str, value: Any) -> str:
        comment = f"   # {self.comments[key]}" if key in self.comments else ""
        return f"{indent}{key}: {_written(value)}{comment}"


def _remarks(title: str, texts: list[str]) -> list[str]:
    return ["#", f"# {title}", *(f"# - {_printable(text)}" for text in texts)] if texts else []


def _printable(text: str) -> str:
    """Return a text that cannot leave its comment: names of the other file may hold anything."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _written(value: Any) -> str:
    """Return a value as our reader takes it: a text in quotes unless it is plainly one."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_written(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_written(inner) for inner in value) + "]"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _NO_TEXT:
        return value
    return json.dumps(value, ensure_ascii=False)


# -- lxp-bridge


def from_lxp_bridge(root: Section) -> Draft:
    """Return what lxp-bridge's config.yaml says."""
    draft = Draft(LXP_BRIDGE)
    mqtt = root.one("mqtt")
    draft.broker(mqtt, "host", "username", "password")
    if not mqtt.flag("enabled", True):
        draft.notes.append("mqtt was switched off (enabled: false); here it is what the program is for.")
    scheme = _scheme(mqtt)
    inverters = [one for one in root.all("inverters") if one.flag("enabled", True)]
    if not inverters:
        root.fail("inverters", "expected at least one inverter that is enabled")
    for number, inverter in enumerate(inverters, 1):
        draft.devices.append(_lxp(inverter, "inverter" if number == 1 else f"inverter-{number}", scheme))
    draft.notes += [
        "The names of the devices are levels of our own topics; choose your words.",
        "Stop lxp-bridge before you start: a stick serves one program, and in its topics there is room for one.",
        "Settings are written only with writes: true, and set/hold/N of registers that are no percentage only with "
        "raw_writes: true; until then every set command is answered FAIL.",
        "Home Assistant shows our own device beside lxp-bridge's; homeassistant: {discovery: false} leaves it out.",
        "With compat all its topics and entities go on as they were. Without it only our own are there.",
    ]
    for section in root.all("inverters"):
        if section not in inverters:
            draft.gone.append(f"{section.place} (line {section.line}): it was not enabled.")
            section.used |= section.lines.keys()
    draft.reasons = {
        "publish_holdings_on_connect": "settings are always read, and told when they change.",
        "read_timeout": "a silent stick is noticed and connected to again by itself.",
        "influx": "nothing is written to a database; Telegraf reads the topics, for one.",
        "databases": "as influx.",
        "scheduler": "time_sync: true, with writes: true, sets the inverter's clock when it is 2 minutes off.",
    }
    _note_level(draft, root.text("loglevel"), "loglevel")
    return draft


def _scheme(mqtt: Section) -> dict[str, Any]:
    """Return the keys of `lxp_bridge` that differ from their defaults."""
    scheme: dict[str, Any] = {}
    homeassistant = mqtt.one("homeassistant")
    if (namespace := mqtt.text("namespace")) and namespace != "lxp":
        scheme["namespace"] = namespace
    if not homeassistant.flag("enabled", True):
        scheme["discovery"] = False
    if (prefix := homeassistant.text("prefix")) and prefix != "homeassistant":
        scheme["prefix"] = prefix
    if mqtt.flag("publish_individual_input", False):
        scheme["individual_input"] = True
    return scheme


def _lxp(inverter: Section, name: str, scheme: Mapping[str, Any]) -> dict[str, Any]:
    device: dict[str, Any] = {"name": name, "type": "lxp"}
    device["host"] = inverter.needed("host", "the stick's address")
    device["port"] = inverter.whole("port", 1, 65535) or 8000
    for key, ours in (("datalog", "datalogger"), ("serial", "inverter")):
        serial = inverter.needed(key, "a serial number")
        if len(serial) != SERIAL_LENGTH or not serial.isalnum() or not serial.isascii():
            inverter.fail(key, f"expected the {SERIAL_LENGTH} letters and digits of a serial number")
        device[ours] = serial
    if "heartbeats" in inverter.lines:
        device["heartbeat"] = inverter.flag("heartbeats", False)
    device["compat"] = LXP_BRIDGE
    if scheme:
        device["lxp_bridge"] = scheme
    return device


# -- extra200tomqtt


def from_extra(root: Section) -> Draft:
    """Return what extra200tomqtt's config.yaml says."""
    draft = Draft(EXTRA)
    mqtt, serial, battery = root.one("mqtt"), root.one("serial"), root.one("battery")
    draft.broker(mqtt, "broker", "username", "password")
    if draft.mqtt["host"] == "0.0.0.0":  # noqa: S104 - its own default
        mqtt.fail("broker", "0.0.0.0 is no address of a broker")
    mqtt.flag("active", True)
    base = mqtt.text("topic_base") or "victron-battery-middleware"
    device: dict[str, Any] = {"name": "batteries", "type": "pylontech-extra2000"}
    device["port"] = serial.needed("port", "the serial port")
    if (interval := serial.number("reading_freq", 0, 3600)) is not None:
        device["interval"] = interval
    device["modules"] = _addresses(battery)
    device["topics"] = {"battery": f"{base}/battery_{{n}}", "bank": f"{base}/pylon"}
    charge = battery.number("max_charge_current", 0, 500)
    discharge = battery.number("max_discharge_current", 0, 500)
    device["limits"] = {
        "module_charge_current": round(0.8 * (50.0 if charge is None else charge), 1),
        "module_discharge_current": 50.0 if discharge is None else discharge,
    }
    draft.devices.append(device)
    _note_extra(draft, battery)
    _extra_log(draft, root.one("logging"))
    return draft


def _addresses(battery: Section) -> list[int] | str:
    battery.used.add("addresses")
    texts = battery.lists.get("addresses") or ([battery.values["addresses"]] if battery.values.get("addresses") else [])
    if not texts:
        return "auto"
    if any(not text.isdecimal() or not 1 <= int(text) <= 16 for text in texts):
        battery.fail("addresses", "expected numbers from 1 to 16")
    return list(dict.fromkeys(int(text) for text in texts))


def _note_extra(draft: Draft, battery: Section) -> None:
    voltage = battery.number("max_charge_voltage", 10, 70)
    if voltage is not None:
        line = battery.lines["max_charge_voltage"]
        draft.gone.append(
            f"battery.max_charge_voltage (line {line}): it was not used while the state of charge was known; 52.5 and "
            f"51.0 V were. Here 52.4 V for 15 cells holds. Add max_charge_voltage: {voltage:g} under limits to cap it."
        )
    if battery.text("num_cells"):
        draft.gone.append(f"battery.num_cells (line {battery.lines['num_cells']}): the modules tell it.")
    draft.notes += [
        "The charge current is 0.8 times its max_charge_current, as it reckoned. docs/bank.md has its curves.",
        "A module that is silent gets no message, and a bank without any is silent: no zeros are made up.",
        "For a Victron GX a bank on battery/data is the better way: docs/bank.md.",
        "Best name the port as under /dev/serial/by-id: ttyUSB numbers change.",
    ]


def _extra_log(draft: Draft, section: Section) -> None:
    _note_level(draft, section.text("level"), "logging.level")
    path = section.text("file_path")
    size, files = section.whole("file_max_size_kb", 1, 10_000_000), section.whole("file_max_files", 1, 1000)
    if path and os.path.dirname(path):
        draft.logging["directory"] = os.path.dirname(path)
        draft.logging["max_megabytes"] = min(max(1, -(-(size or 1000) * (files or 5) // 1000)), 10_000)


# -- mpp-solar


def from_mpp(root: Section) -> Draft:
    """Return what mpp-solar's daemon configuration says. Several sections of one port are one inverter here."""
    draft = Draft(MPP)
    setup = next((root.one(name) for name in root.sections if name.upper() == "SETUP"), None)
    if setup is None:
        raise ConfigError([f"{root.file}:1: [SETUP]: missing; expected it with mqtt_broker"])
    draft.broker(setup, "mqtt_broker", "mqtt_user", "mqtt_pass", "mqtt_port")
    pause = setup.number("pause", 0, 3600)
    ports: dict[str, dict[str, Any]] = {}
    for name in root.sections:
        section = root.one(name)
        if section is setup or section.place == setup.place:
            continue
        device = _axpert(draft, section, name)
        if device is not None and device["port"] not in ports:
            if pause:
                device["interval"] = pause
            if ports:
                device["topics"] = {"parallel": None}  # power/axpert is one inverter's
            device["name"] = _unlike(device["name"], [other["name"] for other in ports.values()])
            ports[device["port"]] = device
    if not ports:
        raise ConfigError([f"{root.file}:{root.line}: expected a section with an inverter of protocol PI30 or PI18"])
    draft.devices += ports.values()
    draft.notes += [
        "What the inverter tells is read without listing commands: the values each round, the rest now and then.",
        "Values are on solarbridge/NAME/state as one JSON, not one topic for each: dashboards have to be changed.",
        "The interval is mpp-solar's pause; 1 second is what these inverters can do.",
    ]
    return draft


def _axpert(draft: Draft, section: Section, name: str) -> dict[str, Any] | None:
    port, kind = section.text("port"), (section.text("type") or "mppsolar").lower()
    protocol = (section.text("protocol") or "PI30").upper()
    baud = section.whole("baud", 300, 115200)
    section.used |= {"command", "outputs"}
    if port is None or kind != "mppsolar" or not protocol.startswith(("PI30", "PI41", "PI18")) or protocol == REVO:
        reason = "a Revo is not read" if protocol == REVO else "not type mppsolar with PI30, PI41 or PI18"
        draft.gone.append(f"{section.place} (line {section.line}): {reason}.")
        section.used |= section.lines.keys()
        return None
    if not port.startswith("/"):
        section.fail("port", "expected a device such as /dev/hidraw0 or /dev/ttyUSB0")
    device: dict[str, Any] = {"name": _level(name), "type": "axpert", "port": port}
    if baud is not None and "hidraw" not in port:
        device["baud"] = baud
    if not protocol.startswith("PI30"):
        device["protocol"] = protocol[:4]
    return device


def _level(name: str) -> str:
    """Return a section's name as one level of a topic."""
    level = "".join(c if c.isalnum() or c in "-_" else "-" for c in name).strip("-").lower()
    return level if level not in ("", "status", "info", "health") else f"inverter-{level}".rstrip("-")


def _unlike(name: str, others: list[str]) -> str:
    """Return a name that none of the others has: sections may differ by a capital letter or a blank alone."""
    numbered = (f"{name}-{number}" for number in range(2, len(others) + 3))
    return next(one for one in (name, *numbered) if one not in others)


# -- all of them


def _note_level(draft: Draft, level: str | None, place: str) -> None:
    if level is None:
        return
    ours = _LEVELS.get(level.lower())
    if ours is not None:
        draft.logging["level"] = ours
    else:
        draft.gone.append(f"{place}: {level.lower()[:20]!a} is left at info; debug shows every byte on the line.")


CONVERTERS: Mapping[str, Callable[[Section], Draft]] = {
    LXP_BRIDGE: from_lxp_bridge,
    EXTRA: from_extra,
    MPP: from_mpp,
}


def kind_of(root: Section, ini: bool) -> str:
    """Return whose configuration it is, by what it holds. Raises ConfigError."""
    if ini:
        return MPP
    if "inverters" in root.lines:
        return LXP_BRIDGE
    if {"serial", "battery"} & root.lines.keys():
        return EXTRA
    if "devices" in root.lines:
        raise ConfigError([f"{root.file}:{root.lines['devices']}: this is a configuration of solarbridge already"])
    raise ConfigError([
        f"{root.file}: not recognised; expected inverters: (lxp-bridge), serial: and battery: (extra200tomqtt) or "
        f"[SETUP] (mpp-solar). --from says what it is"
    ])  # fmt: skip


def converted(file: str, kind: str | None = None) -> str:
    """Return our configuration made of another program's. Raises ConfigError with file and line."""
    text = read_file(file)
    ini = kind == MPP or (kind is None and looks_like_ini(text))
    root = read_ini(file, text) if ini else read_yaml(file, text)
    draft = CONVERTERS[kind or kind_of(root, ini)](root)
    for place, line in root.left():
        reason = draft.reasons.get(place.rpartition(".")[2])
        draft.gone.append(f"{place} (line {line})" + (f": {reason}" if reason else ""))
    made = draft.text(file)
    _prove(file, made)
    return made


def _prove(file: str, made: str) -> None:
    """Read what was made as `solarbridge check` does. Raises ConfigError with what does not fit."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "config.yaml")
        with open(path, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as output:
            output.write(made)
        try:
            load(path, {})
        except ConfigError as err:
            texts = [problem.removeprefix(f"{path}:").partition(": ")[2] for problem in err.problems]
            raise ConfigError([f"{file}: what it says does not fit here: {text}" for text in texts]) from None


def run(file: str, kind: str | None) -> int:
    """Print our configuration made of `file`; return the exit status. Raises ConfigError."""
    print(converted(file, kind), end="")
    return 0
