"""The configuration: what is taken, what is refused and in which words, and that secrets stay secret."""

from __future__ import annotations

import copy
import json
import os
import pickle
import re
import stat
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridge import devices
from bridge.config import Config, Secret, digest, dump, file_there, load, option, secrets, topic
from bridge.devices import DeviceOptions
from bridge.errors import ConfigError
from tests.rights import error_without_rights
from tests.shared import REPOSITORY

SECRET = "xyzzy-hunter2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    parallel: str | None = option(None, check=topic, doc="topic of the totals")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(DeviceOptions):
    """One key of every type; `tests.test_config` stands in the list of slices as type `fake`."""

    port: str = option(doc="where it is attached")
    interval: float = option(1.0, minimum=0.1, maximum=3600, doc="seconds between polls")
    writes: bool = option(False, doc="whether settings may be written")
    inverter: str | None = option(None, doc="serial number")
    link: Literal["rs485", "console"] = option("rs485", doc="interface")
    baud: int = option(2400, choices=(2400, 9600, 115200), doc="speed")
    groups: list[int] = option([0], minimum=0, maximum=15, doc="group numbers")
    modules: list[int] | Literal["auto"] = option("auto", doc="addresses")
    listen: int | Literal["auto"] = option("auto", minimum=1, maximum=65535, doc="port")
    names: tuple[str, ...] = option((), doc="texts")
    limits: dict[str, float] = option({}, doc="volts by name")
    pin: Secret | None = option(None, doc="a code")
    topics: Topics = option(Topics(), doc="compatible topics")


@pytest.fixture(autouse=True)
def fake_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(devices.SLICES, "fake", __name__)


HEAD = "mqtt:\n  host: broker\n"
DEVICE = "devices:\n  - name: roof\n    type: fake\n    port: hid\n"
GOOD = HEAD + DEVICE


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(0o600)
    return path


def loaded(folder: Path, text: str | bytes, environ: dict[str, str] | None = None) -> Config:
    return load(write(folder, text), environ or {})


def problems(folder: Path, text: str | bytes, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text, environ)
    return [problem.replace(str(folder) + "/", "") for problem in caught.value.problems]


def device(config: Config) -> Options:
    options = config.devices[0]
    assert isinstance(options, Options)
    return options


# -- what is taken


def test_a_file_with_a_host_and_one_device_is_enough(tmp_path: Path) -> None:
    config = loaded(tmp_path, GOOD)
    assert (config.mqtt.host, config.mqtt.port, config.mqtt.protocol) == ("broker", 1883, 5)
    assert config.mqtt.base_topic == "solarbridge"
    assert config.mqtt.password is None
    assert config.mqtt.tls is None
    assert config.devices == (Options(name="roof", type="fake", port="hid"),)
    assert config.logging.level == "info"
    assert config.warnings == ()


def test_every_type_is_read(tmp_path: Path) -> None:
    text = GOOD + (
        "    interval: 2\n    writes: true\n    inverter: '0123456789'\n    link: console\n    baud: 9600\n"
        "    groups: [0, 15]\n    modules: [2, 3]\n    listen: 4346\n    names: [a, \"7\"]\n"
        "    limits: {upper: 52.4, lower: -1e1}\n    pin: secret-pin\n    topics: {parallel: null}\n"
    )  # fmt: skip
    assert device(loaded(tmp_path, text)) == Options(
        name="roof", type="fake", port="hid", interval=2.0, writes=True, inverter="0123456789", link="console",
        baud=9600, groups=[0, 15], modules=[2, 3], listen=4346, names=("a", "7"),
        limits={"upper": 52.4, "lower": -10.0}, pin=Secret("secret-pin"), topics=Topics(parallel=None),
    )  # fmt: skip
    assert isinstance(device(loaded(tmp_path, text)).interval, float)


def test_a_mutable_default_is_not_shared(tmp_path: Path) -> None:
    first = device(loaded(tmp_path, GOOD))
    first.groups.append(7)
    assert device(loaded(tmp_path, GOOD)).groups == [0]


@pytest.mark.parametrize(("text", "protocol"), [("5", 5), ('"5"', 5), ("3.1.1", "3.1.1"), ("'3.1.1'", "3.1.1")])
def test_the_protocol_can_be_written_in_any_way(tmp_path: Path, text: str, protocol: object) -> None:
    assert loaded(tmp_path, f"mqtt:\n  host: b\n  protocol: {text}\n{DEVICE}").mqtt.protocol == protocol


@pytest.mark.parametrize(("more", "port"), [("tls: {}", 8883), ("tls: {}\n  port: 1884", 1884), ("tls: null", 1883)])
def test_tls_has_its_own_default_port(tmp_path: Path, more: str, port: int) -> None:
    assert loaded(tmp_path, f"{HEAD}  {more}\n{DEVICE}").mqtt.port == port


@pytest.mark.parametrize("more", ["tls:", "tls:\n    # ca: ca.pem", "tls: # later"])
def test_t6_tls_with_nothing_under_it_is_no_plain_connection(tmp_path: Path, more: str) -> None:
    assert problems(tmp_path, f"{HEAD}  {more}\n{DEVICE}") == [
        "config.yaml:3: mqtt.tls: found nothing; for an encrypted connection write `tls: {}` (the system's authorities)"
        " or give ca, certificate or key; for a plain one leave tls out"
    ]


def test_files_are_found_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("certificate")
    config = loaded(tmp_path, f"{HEAD}  tls: {{ca: ca.pem}}\n{DEVICE}")
    assert config.mqtt.tls is not None
    assert config.mqtt.tls.ca == str(tmp_path / "ca.pem")


def test_the_example_is_right() -> None:
    config = load(REPOSITORY / "config.example.yaml", {})
    assert [(options.name, options.type) for options in config.devices] == [("roof", "axpert")]
    assert config.warnings == ()


def test_what_the_example_shows_commented_out_is_right_too(tmp_path: Path) -> None:
    lines = (REPOSITORY / "config.example.yaml").read_text().splitlines()
    shown = [re.sub(r"^( *)# (?=[ ]*(?:- )?[a-z_]+:( |$))", r"\1", line) for line in lines]
    text = "\n".join(line for line in shown if not re.match(r" +port: hid|solarbridge:|If your|An enc", line))
    for name in ("ca.pem", "client.pem", "client.key"):
        (tmp_path / name).write_text("certificate")
    (tmp_path / "secret").write_text("x")
    text = text.replace("/etc/solarbridge/mqtt-password", str(tmp_path / "secret"))
    config = loaded(tmp_path, text)
    assert config.mqtt.username == "bridge"
    assert config.mqtt.tls is not None
    assert config.logging.max_megabytes == 20
    assert "port: /dev/ttyUSB0" in dump(config)
    assert {options.type for options in config.devices} >= {"axpert", "lxp", "pylontech", "pylontech-extra2000"}
    assert [(bank.topic, bank.from_, bank.modules) for bank in config.banks] == [("battery/data", ("batteries",), 4)]


# -- what is refused. Each sample is the file, the line of the problem, its key and a word of the advice.

TWO = "  - name: shed\n    type: fake\n"

# fmt: off
SAMPLES = {
    "unknown key at the top": (GOOD + "loging: {}\n", 7, "loging", "did you mean logging"),
    "unknown key, nothing near": (GOOD + "xyz: 1\n", 7, "xyz", "known are mqtt, devices, banks, homeassistant"),
    "unknown key in mqtt": (HEAD + "  prot: 1883\n" + DEVICE, 3, "mqtt.prot", "did you mean port"),
    "dash for underscore": (HEAD + "  base-topic: a\n" + DEVICE, 3, "mqtt.base-topic", "did you mean base_topic"),
    "unknown key in a device": (GOOD + "    intervall: 1\n", 7, "devices[0].intervall", "did you mean interval"),
    "unknown key, nested": (GOOD + "    topics: {all: x}\n", 7, "devices[0].topics.all", "known are parallel"),
    "merge key": (HEAD + "  <<: {port: 1}\n" + DEVICE, 3, "mqtt.<<", "unknown key"),
    "duplicate key at the top": (GOOD + "mqtt: {host: other}\n", 7, "mqtt", "first on line 1"),
    "duplicate key inside": (HEAD + "  host: other\n" + DEVICE, 3, "mqtt.host", "first on line 2"),
    "key that is a list": (GOOD + "    [a]: 1\n", 7, "devices[0]", "plain word"),
    "host missing": ("mqtt: {port: 1883}\n" + DEVICE, 1, "mqtt.host", "missing; expected text"),
    "mqtt missing": (DEVICE, 1, "mqtt", "missing"),
    "devices missing": (HEAD, 1, "devices", "missing; expected a list"),
    "devices empty": (HEAD + "devices: []\n", 3, "devices", "at least one device"),
    "devices without a list": (HEAD + "devices:\n  name: roof\n", 4, "devices", "expected a list"),
    "devices nothing": (HEAD + "devices:\n", 3, "devices", "found nothing; expected a list"),
    "device that is a word": (HEAD + "devices: [roof]\n", 3, "devices[0]", "expected a mapping"),
    "mqtt that is a word": ("mqtt: broker\n" + DEVICE, 1, "mqtt", "expected a mapping"),
    "mqtt that is a list": ("mqtt: [broker]\n" + DEVICE, 1, "mqtt", "found a list"),
    "mqtt empty": ("mqtt:\n" + DEVICE, 1, "mqtt", "found nothing"),
    "port a word": (HEAD + "  port: mqtt\n" + DEVICE, 3, "mqtt.port", "found 'mqtt'; expected a whole number, 1"),
    "port in quotes": (HEAD + "  port: '1883'\n" + DEVICE, 3, "mqtt.port", "without quotes"),
    "port too large": (HEAD + "  port: 65536\n" + DEVICE, 3, "mqtt.port", "found the number 65536; expected"),
    "port zero": (HEAD + "  port: 0\n" + DEVICE, 3, "mqtt.port", "1 to 65535"),
    "port true": (HEAD + "  port: true\n" + DEVICE, 3, "mqtt.port", "whole number"),
    "port with a point": (HEAD + "  port: 1883.0\n" + DEVICE, 3, "mqtt.port", "whole number"),
    "port null": (HEAD + "  port:\n" + DEVICE, 3, "mqtt.port", "found nothing"),
    "octal": (HEAD + "  port: 01883\n" + DEVICE, 3, "mqtt.port", "plain decimal number"),
    "hexadecimal": (HEAD + "  port: 0x75B\n" + DEVICE, 3, "mqtt.port", "plain decimal number"),
    "underscores": (HEAD + "  port: 1_883\n" + DEVICE, 3, "mqtt.port", "plain decimal number"),
    "five thousand digits": (HEAD + f"  port: {'9' * 5000}\n" + DEVICE, 3, "mqtt.port", "plain decimal number"),
    "full-width digits": (HEAD + "  port: １８８３\n" + DEVICE, 3, "mqtt.port", "whole number"),
    "boolean yes": (HEAD + "  retain_states: yes\n" + DEVICE, 3, "mqtt.retain_states", "true or false"),
    "boolean off": (GOOD + "    writes: off\n", 7, "devices[0].writes", "the word true or false"),
    "boolean True": (GOOD + "    writes: True\n", 7, "devices[0].writes", "the word true or false"),
    "boolean in quotes": (GOOD + "    writes: 'false'\n", 7, "devices[0].writes", "unquoted"),
    "boolean 0": (GOOD + "    writes: 0\n", 7, "devices[0].writes", "true or false"),
    "number for a text": (GOOD + "    inverter: 1234567890\n", 7, "devices[0].inverter", "put it in quotes"),
    "leading zeros for a text": (GOOD + "    inverter: 0012345\n", 7, "devices[0].inverter", "put it in quotes"),
    "yes for a text": (GOOD + "    inverter: yes\n", 7, "devices[0].inverter", "put it in quotes"),
    "date for a text": (GOOD + "    inverter: 2024-01-02\n", 7, "devices[0].inverter", "put it in quotes"),
    "time for a text": (GOOD + "    inverter: 12:30:00\n", 7, "devices[0].inverter", "put it in quotes"),
    "number for a password": (HEAD + "  password: 123456\n" + DEVICE, 3, "mqtt.password", "put it in quotes"),
    "list for a text": (GOOD + "    inverter: [1]\n", 7, "devices[0].inverter", "found a list; expected text"),
    "empty text": (GOOD + "    inverter: ''\n", 7, "devices[0].inverter", "is empty"),
    "NUL in a text": (GOOD + '    inverter: "a\\0b"\n', 7, "devices[0].inverter", "control character"),
    "escape code in a text": (GOOD + '    inverter: "\\e[2J"\n', 7, "devices[0].inverter", "control character"),
    "lone surrogate in a text": (GOOD + '    inverter: "\\ud800"\n', 7, "devices[0].inverter", "control character"),
    "lines in a text": (GOOD + "    inverter: |\n      a\n      b\n", 7, "devices[0].inverter", "control character"),
    "interval too small": (GOOD + "    interval: 0\n", 7, "devices[0].interval", "0.1 to 3600"),
    "interval not a number": (GOOD + "    interval: .nan\n", 7, "devices[0].interval", "expected a number"),
    "interval infinite": (GOOD + "    interval: .inf\n", 7, "devices[0].interval", "expected a number"),
    "interval beyond floats": (GOOD + "    interval: 1e999\n", 7, "devices[0].interval", "expected a number"),
    "interval with a comma": (GOOD + "    interval: 1,5\n", 7, "devices[0].interval", "plain decimal number"),
    "choice": (GOOD + "    link: rs232\n", 7, "devices[0].link", "rs485 or console"),
    "choice of numbers": (GOOD + "    baud: 300\n", 7, "devices[0].baud", "one of 2400, 9600, 115200"),
    "list item": (GOOD + "    groups: [0, 16]\n", 7, "devices[0].groups[1]", "0 to 15"),
    "scalar for a list": (GOOD + "    groups: 0\n", 7, "devices[0].groups", "[first, second]"),
    "neither list nor word": (GOOD + "    modules: all\n", 7, "devices[0].modules", "or auto"),
    "neither number nor word": (GOOD + "    listen: any\n", 7, "devices[0].listen", "1 to 65535 or auto"),
    "null in a list": (GOOD + "    names: [a, ]\n    groups: [~]\n", 8, "devices[0].groups[0]", "found nothing"),
    "mapping item": (GOOD + "    limits:\n      a: 1\n      b: x\n", 9, "devices[0].limits.b", "expected a number"),
    "keepalive": (HEAD + "  keepalive: 2\n" + DEVICE, 3, "mqtt.keepalive", "5 to 600"),
    "protocol": (HEAD + "  protocol: 4\n" + DEVICE, 3, "mqtt.protocol", "5 or 3.1.1"),
    "log level": (GOOD + "logging: {level: verbose}\n", 7, "logging.level", "debug or info or warning or error"),
    "address for a host": ("mqtt:\n  host: mqtt://broker:1883\n" + DEVICE, 2, "mqtt.host", "alone"),
    "port behind a host": ("mqtt:\n  host: 192.168.0.10:1883\n" + DEVICE, 2, "mqtt.host", "alone"),
    "host in brackets": ("mqtt:\n  host: '[::1]'\n" + DEVICE, 2, "mqtt.host", "alone"),
    "base topic with a wildcard": (HEAD + "  base_topic: a/#\n" + DEVICE, 3, "mqtt.base_topic", "+ or #"),
    "base topic with a blank": (HEAD + "  base_topic: ' a'\n" + DEVICE, 3, "mqtt.base_topic", "blank"),
    "base topic with a slash": (HEAD + "  base_topic: a/\n" + DEVICE, 3, "mqtt.base_topic", "/"),
    "base topic of the broker": (HEAD + "  base_topic: $SYS\n" + DEVICE, 3, "mqtt.base_topic", "$"),
    "base topic too long": (HEAD + f"  base_topic: {'é' * 600}\n" + DEVICE, 3, "mqtt.base_topic", "1024"),
    "topic of a device": (GOOD + "    topics: {parallel: a+}\n", 7, "devices[0].topics.parallel", "+ or #"),
    "type missing": (HEAD + "devices:\n  - name: roof\n", 4, "devices[0].type", "expected one of axpert"),
    "type unknown": (HEAD + "devices:\n  - name: roof\n    type: axprt\n", 5, "devices[0].type", "axpert"),
    "name missing": (HEAD + "devices:\n  - type: fake\n    port: hid\n", 4, "devices[0].name", "missing"),
    "port missing": (HEAD + "devices:\n  - name: a\n    type: fake\n", 4, "devices[0].port", "where it is attached"),
    "name of ours": (GOOD + "  - name: status\n    type: fake\n    port: x\n", 7, "devices[1].name", "another name"),
    "name with a slash": (GOOD + "  - name: a/b\n    type: fake\n    port: x\n", 7, "devices[1].name", "/"),
    "name with a wildcard": (GOOD + "  - name: a+\n    type: fake\n    port: x\n", 7, "devices[1].name", "+ #"),
    "name empty": (GOOD + "  - name: ''\n    type: fake\n    port: x\n", 7, "devices[1].name", "empty"),
    "name with a line end": (GOOD + '  - name: "a\\n"\n    type: fake\n    port: x\n', 7, "devices[1].name", "control"),
    "name with a blank": (GOOD + "  - name: ' a'\n    type: fake\n    port: x\n", 7, "devices[1].name", "blank"),
    "name a number": (GOOD + "  - name: 1\n    type: fake\n    port: x\n", 7, "devices[1].name", "quotes"),
    "name too long": (GOOD + f"  - name: {'a' * 65}\n    type: fake\n    port: x\n", 7, "devices[1].name", "64"),
    "name twice": (GOOD + "  - name: roof\n    type: fake\n    port: x\n", 7, "devices[1].name", "devices[0]"),
    "port twice": (GOOD + TWO + "    port: hid\n", 9, "devices[1].port", "devices[0]"),
    "port twice by another path": (
        GOOD.replace("hid", "/dev/null") + TWO + "    port: /dev/../dev/null\n", 9, "devices[1].port", "the same port"),
    "TLS file not there": (HEAD + "  tls: {ca: ca.pem}\n" + DEVICE, 3, "mqtt.tls.ca", "is not there"),
    "TLS file a folder": (HEAD + "  tls: {ca: /}\n" + DEVICE, 3, "mqtt.tls.ca", "can be read"),
    "TLS key alone": (HEAD + "  tls: {key: /etc/hostname}\n" + DEVICE, 3, "mqtt.tls.key", "without certificate"),
    "TLS true": (HEAD + "  tls: true\n" + DEVICE, 3, "mqtt.tls", "expected a mapping"),
    "two passwords": (HEAD + "  password: a\n  password_file: b\n" + DEVICE, 4, "mqtt.password_file", "not both"),
    "password file not there": (HEAD + "  password_file: pw\n" + DEVICE, 3, "mqtt.password_file", "is not there"),
    "password file a folder": (HEAD + "  password_file: /\n" + DEVICE, 3, "mqtt.password_file", "a folder"),
    "password file endless": (HEAD + "  password_file: /dev/zero\n" + DEVICE, 3, "mqtt.password_file", "not a file"),
    "password empty": (HEAD + "  password: ''\n" + DEVICE, 3, "mqtt.password", "empty"),
}
SYNTAX = {
    # here the line stands for the place: the parser knows no key
    "tab": ("mqtt:\n\thost: a\n" + DEVICE, 2, "spaces"),
    "tab, deeper": (HEAD + DEVICE + "  \t  interval: 1\n", 7, "spaces"),
    "bracket left open": (GOOD + "    groups: [0\nlogging: {}\n", 7, "flow sequence"),
    "colon in a text": (HEAD + "  username: a: b\n" + DEVICE, 3, "quoted"),
    "no blank after the colon": ("mqtt:\n  host:broker\n  port: 1\n" + DEVICE, 3, "syntax"),
    "quote left open": (HEAD + "  username: 'abc\n" + DEVICE, 3, "quoted scalar"),
    "indented too little": ("mqtt:\n  host: a\n port: 1\n", 3, "one column"),
    "indented too much": (GOOD + "     interval: 1\n", 7, "one column"),
    "an entry that is indented too much": (GOOD + "   - name: shed\n     type: fake\n", 7, "one column"),
    "reserved character": (HEAD + "  username: @home\n" + DEVICE, 3, "quoted"),
    "unknown escape": (HEAD + '  username: "C:\\Users"\n' + DEVICE, 3, "syntax"),
    "second document": (GOOD + "---\n" + GOOD, 7, "only one"),
    "alias": ("mqtt: &a\n  host: b\n" + DEVICE + "logging: *a\n", 7, "alias"),
    "anchor": ("mqtt: &a\n  host: b\n" + DEVICE, 1, "anchor"),
    "password that begins with a star": (HEAD + f"  password: *{SECRET}\n" + DEVICE, 3, "quote"),
    "password that begins with an exclamation mark": (HEAD + f"  password: !{SECRET}\n" + DEVICE, 3, "quote"),
    "tag of Python": ("mqtt: !!python/object/apply:os.system [id]\n" + DEVICE, 1, "tag"),
    "tag of a string": (HEAD + "  port: !!int '5'\n" + DEVICE, 3, "tag"),
    "unknown tag handle": (HEAD + f"  password: !{SECRET}!x y\n" + DEVICE, 3, "syntax"),
    "control character": (GOOD + "# \x07\n", 7, "U+0007"),
    "escape beyond Unicode": (HEAD + '  username: "\\UFFFFFFFF"\n' + DEVICE, 1, "escape"),
    "only a word": ("hello\n", 1, "key: value"),
    "a list at the top": ("- a\n", 1, "key: value"),
    "nothing": ("", 1, "empty"),
    "only comments": ("# mqtt:\n", 1, "empty"),
    "nested too deeply": ("mqtt: " + "[" * 50_000 + "\n", 1, "nested"),
    "nested too deeply, in braces": ("mqtt: " + "{a: " * 5000 + "\n", 1, "nested"),
}
# fmt: on


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES.keys())
def test_a_wrong_value_is_refused_with_line_key_and_advice(tmp_path: Path, sample: tuple[str, int, str, str]) -> None:
    text, line, key, advice = sample
    found = problems(tmp_path, text)
    assert len(found) == 1
    assert found[0].startswith(f"config.yaml:{line}: {key}: ")
    assert advice in found[0]


@pytest.mark.parametrize("sample", SYNTAX.values(), ids=SYNTAX.keys())
def test_broken_yaml_is_refused_with_line_and_advice(tmp_path: Path, sample: tuple[str, int, str]) -> None:
    text, line, advice = sample
    found = problems(tmp_path, text)
    matching = [problem for problem in found if problem.startswith(f"config.yaml:{line}: ") and advice in problem]
    assert matching, found
    assert SECRET not in "".join(found)


def test_all_problems_are_told_at_once_sorted_by_line(tmp_path: Path) -> None:
    text = (
        "mqtt:\n"
        "  host: broker\n"
        "  port: 70000\n"
        "  pasword: a\n"
        "  keepalive: fast\n"
        "  tls: {ca: ca.pem, key: client.key}\n"
        "devices:\n"
        "  - name: status\n"
        "    type: fake\n"
        "    port: hid\n"
        "    writes: yes\n"
        "    groups: [0, x, 16]\n"
        "  - name: a\n"
        "    type: nothing\n"
        "  - name: a\n"
        "    type: fake\n"
        "    port: hid\n"
        "loging: 1\n"
    )
    found = problems(tmp_path, text, {"SOLARBRIDGE_MQTT_PORT": "x"})
    places = [re.sub(r": .*", "", problem.removeprefix("config.yaml:")) for problem in found]
    assert places == ["SOLARBRIDGE_MQTT_PORT", "4", "5", "6", "6", "8", "11", "12", "12", "14", "15", "17", "18"]
    assert [problem.split(": ")[1] for problem in found[1:6]] == [
        "mqtt.pasword", "mqtt.keepalive", "mqtt.tls.ca", "mqtt.tls.key", "devices[0].name",
    ]  # fmt: skip


def test_every_tab_is_told(tmp_path: Path) -> None:
    found = problems(tmp_path, "mqtt:\n\thost: a\n\tport: 1\n")
    assert [problem.split(": ")[0] for problem in found] == ["config.yaml:2", "config.yaml:3"]


def test_a_file_of_something_else_is_not_told_to_the_last_line(tmp_path: Path) -> None:
    found = problems(tmp_path, GOOD + "".join(f"k{number}: 1\n" for number in range(150)))
    assert len(found) == 101
    assert found[-1] == "config.yaml: and 50 more"


def test_a_yaml_bomb_costs_nothing(tmp_path: Path) -> None:
    layers = ["a0: &a0 [lol]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    found = problems(tmp_path, "\n".join(layers))
    assert any("alias" in problem for problem in found)


def test_a_key_that_may_be_half_a_password_is_not_shown(tmp_path: Path) -> None:
    found = problems(tmp_path, f'{HEAD}  "{SECRET}!": 1\n{DEVICE}')
    assert len(found) == 1
    assert SECRET not in found[0]


# -- files that cannot be read


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.yaml is not there"):
        load(tmp_path / "config.yaml", {})


def test_a_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a file but a folder"):
        load(tmp_path, {})


def test_a_pipe_nobody_writes_to_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.yaml")
    with pytest.raises(ConfigError, match="is not a file"):
        load(tmp_path / "config.yaml", {})


def test_a_link_to_itself_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").symlink_to("config.yaml")
    with pytest.raises(ConfigError, match="cannot read"):
        load(tmp_path / "config.yaml", {})


def test_a_path_with_a_nul_is_told() -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load("a\0b", {})


def test_a_file_without_rights_is_told(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    path = write(tmp_path, GOOD)
    path.chmod(0)
    assert error_without_rights(lambda: load(path, {})) == f"ConfigError: {path}: no right to read {path}"


def test_a_file_that_is_not_utf8_is_told_with_its_line(tmp_path: Path) -> None:
    found = problems(tmp_path, HEAD.encode() + b"  username: M\xfcller\n" + DEVICE.encode())
    assert found[0].startswith("config.yaml:3: not UTF-8")


def test_a_file_larger_than_a_mebibyte_is_told(tmp_path: Path) -> None:
    assert "larger than 1048576 bytes" in problems(tmp_path, GOOD + "#" * (1 << 20))[0]


@pytest.mark.parametrize("prefix", [b"\xef\xbb\xbf", b"---\n", b"%YAML 1.1\n---\n"])
def test_what_editors_put_in_front_is_no_problem(tmp_path: Path, prefix: bytes) -> None:
    assert loaded(tmp_path, prefix + GOOD.encode()).mqtt.host == "broker"


def test_line_ends_of_windows_are_no_problem(tmp_path: Path) -> None:
    assert loaded(tmp_path, GOOD.replace("\n", "\r\n")).mqtt.host == "broker"


# -- any text

PIECES = st.sampled_from(
    [HEAD, DEVICE, TWO, "    ", "  ", "\n", "- ", ": ", "[", "]", "{", "}", "&a ", "*a ", "!x ", "!!str ", "'", '"',
     "|\n", "---\n", "...\n", "%YAML 1.1\n", "# ", "\t", "\r", "\u2028", "\x85", "\ufeff", "mqtt", "port", "topics",
     "groups", "null", "~", "yes", "0x1", "1e5", ".inf", "12:30", "2024-01-01", "<<", "=", "? ",
     "\\ud800", "\\UFFFFFFFF", "\x00"]
)  # fmt: skip


@given(st.one_of(st.text(max_size=200), st.lists(PIECES | st.text(max_size=3), max_size=25).map("".join)))
@settings(max_examples=400, deadline=None)
@example("%YAML 1." + "9" * 5000 + "\n--- a")
@example('"\\UFFFFFFFF"')
@example("? ")
@example("{}")
@example("mqtt: {host: a}\ndevices: [{type: [fake]}]")
@example('mqtt: {host: a}\ndevices: [{type: fake, port: "/\\0", name: a}]')
def test_any_text_loads_or_raises_config_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.getbasetemp()
    try:
        loaded(folder, text.encode("utf-8", "surrogatepass"))
    except ConfigError as err:
        told = err.problems
    else:
        told = ["loaded"]
    assert told
    assert "\n".join(told).encode()  # printable anywhere


@given(st.binary(max_size=100))
@settings(deadline=None)
def test_any_bytes_load_or_raise_config_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    with pytest.raises(ConfigError):
        loaded(tmp_path_factory.getbasetemp(), data)


@given(
    st.builds(
        dict,
        username=st.none() | st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp", "Cn"]), min_size=1),
        keepalive=st.integers(5, 600),
        retain_states=st.booleans(),
        protocol=st.sampled_from([5, "3.1.1"]),
    ),
    st.floats(0.1, 3600),
)
@settings(deadline=None)
def test_what_dump_shows_can_be_loaded_again(
    tmp_path_factory: pytest.TempPathFactory, mqtt: dict[str, object], interval: float
) -> None:
    folder = tmp_path_factory.getbasetemp()
    text = json.dumps({
        "mqtt": {"host": "b", **mqtt},
        "devices": [{"name": "a", "type": "fake", "port": "hid", "interval": round(interval, 3)}],
    }, ensure_ascii=False)  # fmt: skip
    config = loaded(folder, text)
    again = loaded(folder, dump(config))
    assert again == config
    assert digest(again) == digest(config)


# -- environment and passwords


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    environ = {
        "SOLARBRIDGE_MQTT_HOST": "10.0.0.1",
        "SOLARBRIDGE_MQTT_PORT": "1884",
        "SOLARBRIDGE_MQTT_USERNAME": "0123",
        "SOLARBRIDGE_MQTT_PASSWORD": "12345",
    }
    mqtt = loaded(tmp_path, f"{HEAD}  port: 1\n  password: old\n{DEVICE}", environ).mqtt
    assert (mqtt.host, mqtt.port, mqtt.username) == ("10.0.0.1", 1884, "0123")
    assert mqtt.password == Secret("12345")


def test_the_environment_alone_can_name_the_broker(tmp_path: Path) -> None:
    assert loaded(tmp_path, DEVICE, {"SOLARBRIDGE_MQTT_HOST": "broker"}).mqtt.host == "broker"


def test_the_port_of_the_environment_wins_over_the_one_of_tls(tmp_path: Path) -> None:
    config = loaded(tmp_path, f"{HEAD}  tls: {{}}\n{DEVICE}", {"SOLARBRIDGE_MQTT_PORT": "1884"})
    assert config.mqtt.port == 1884


def test_an_empty_variable_counts_as_not_set(tmp_path: Path) -> None:
    names = ("HOST", "PORT", "USERNAME", "PASSWORD")
    config = loaded(tmp_path, GOOD, {f"SOLARBRIDGE_MQTT_{name}": "" for name in names})
    assert config.mqtt.host == "broker"
    assert config.mqtt.password is None


@pytest.mark.parametrize(
    ("name", "value", "advice"),
    [
        ("SOLARBRIDGE_MQTT_PORT", "99999", "1 to 65535"),
        ("SOLARBRIDGE_MQTT_PORT", "mqtt", "whole number"),
        ("SOLARBRIDGE_MQTT_PORT", " 1883", "whole number"),
        ("SOLARBRIDGE_MQTT_HOST", "tcp://broker", "alone"),
        ("SOLARBRIDGE_MQTT_USERNAME", "a\nb", "control character"),
        ("SOLARBRIDGE_MQTT_USERNAME", "\udcff", "control character"),
        ("SOLARBRIDGE_MQTT_PASSWORD", "\udcff", "cannot be sent"),
    ],
)
def test_a_bad_variable_is_refused_by_its_name(tmp_path: Path, name: str, value: str, advice: str) -> None:
    found = problems(tmp_path, GOOD, {name: value})
    assert len(found) == 1
    assert found[0].startswith(f"{name}: ")
    assert advice in found[0]


def test_a_bad_value_of_the_file_is_not_told_when_the_environment_replaces_it(tmp_path: Path) -> None:
    config = loaded(tmp_path, f"{HEAD}  port: x\n{DEVICE}", {"SOLARBRIDGE_MQTT_PORT": "1883"})
    assert config.mqtt.port == 1883


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "with a byte order mark"])
def test_a_password_comes_from_a_file(tmp_path: Path, mark: bytes) -> None:
    file = tmp_path / "pw"
    file.write_bytes(mark + f"{SECRET}\r\n".encode())
    file.chmod(0o640)
    config = loaded(tmp_path, f"{HEAD}  password_file: pw\n{DEVICE}")
    assert config.mqtt.password == Secret(SECRET)
    assert config.warnings == ()


@pytest.mark.parametrize("content", [b"", b"\n", b"a\nb\n", b"\xff\n", b"a\0b", b"x" * 5000])
def test_a_password_file_with_anything_but_one_line_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pw").write_bytes(content)
    found = problems(tmp_path, f"{HEAD}  password_file: pw\n{DEVICE}")
    assert found[0].startswith("config.yaml:3: mqtt.password_file: ")


def test_a_password_file_that_everyone_can_read_is_warned_about(tmp_path: Path) -> None:
    file = tmp_path / "pw"
    file.write_text(SECRET)
    file.chmod(0o644)
    config = loaded(tmp_path, f"{HEAD}  password_file: pw\n{DEVICE}")
    assert config.warnings == (f"{file} can be read by everyone; chmod 640 it",)


@pytest.mark.parametrize(
    ("mode", "password", "warned"), [(0o644, True, True), (0o640, True, False), (0o644, False, False)]
)
def test_a_readable_file_with_a_password_is_warned_about(
    tmp_path: Path, mode: int, password: bool, warned: bool
) -> None:
    path = write(tmp_path, HEAD + (f"  password: {SECRET}\n" if password else "") + DEVICE)
    path.chmod(mode)
    config = load(path, {})
    assert bool(config.warnings) == warned
    assert SECRET not in str(config.warnings)


def credentials(folder: Path) -> dict[str, str]:
    (folder / "credentials").mkdir()
    (folder / "credentials" / "mqtt-password").write_text("of systemd\n")
    return {"CREDENTIALS_DIRECTORY": str(folder / "credentials")}


def test_a_password_comes_from_a_systemd_credential(tmp_path: Path) -> None:
    assert loaded(tmp_path, GOOD, credentials(tmp_path)).mqtt.password == Secret("of systemd")


def test_a_bad_credential_is_told(tmp_path: Path) -> None:
    environ = credentials(tmp_path)
    (tmp_path / "credentials" / "mqtt-password").write_bytes(b"")
    assert "mqtt-password must hold the password" in problems(tmp_path, GOOD, environ)[0]


def test_without_the_credential_there_is_no_password(tmp_path: Path) -> None:
    assert loaded(tmp_path, GOOD, {"CREDENTIALS_DIRECTORY": str(tmp_path)}).mqtt.password is None


def test_the_environment_comes_before_the_file_and_the_file_before_the_credential(tmp_path: Path) -> None:
    environ = credentials(tmp_path)
    text = f"{HEAD}  password: of the file\n{DEVICE}"
    assert loaded(tmp_path, text, environ).mqtt.password == Secret("of the file")
    environ["SOLARBRIDGE_MQTT_PASSWORD"] = "of the environment"
    assert loaded(tmp_path, text, environ).mqtt.password == Secret("of the environment")


# -- secrets


def test_a_secret_shows_itself_to_nobody_but_who_asks() -> None:
    secret = Secret(SECRET)
    for shown in (repr(secret), str(secret), f"{secret}", f"{secret!r:>40}", f"{secret:s}", repr([secret])):
        assert SECRET not in shown
        assert "***" in shown
    for leak in (json.dumps, pickle.dumps, vars):
        with pytest.raises(TypeError) as caught:
            leak(secret)  # type: ignore[operator]
        assert SECRET not in str(caught.value)
    assert copy.deepcopy(secret) == secret
    assert secret.reveal() == SECRET
    assert secret != Secret("other")
    assert secret != SECRET
    assert not Secret("")


def test_a_planted_secret_is_seen_nowhere(tmp_path: Path) -> None:
    text = f"{HEAD}  password: {SECRET}\n{DEVICE}    pin: {SECRET}-pin\n"
    config = loaded(tmp_path, text)
    assert SECRET not in repr(config) + str(config) + dump(config) + f"{asdict(config)}" + digest(config)
    assert dump(config).count("'***'") == 2
    assert secrets(config) == [SECRET, f"{SECRET}-pin"]


def test_a_digest_tells_configurations_apart_but_not_passwords(tmp_path: Path) -> None:
    first = digest(loaded(tmp_path, f"{HEAD}  password: a\n{DEVICE}"))
    assert first == digest(loaded(tmp_path, f"{HEAD}  password: b\n{DEVICE}"))
    assert first != digest(loaded(tmp_path, f"{HEAD}  password: b\n  port: 1\n{DEVICE}"))
    assert re.fullmatch("[0-9a-f]{12}", first)


@pytest.mark.parametrize(
    "line",
    [
        f"password: [{SECRET}]",
        f"password: {{{SECRET}: 1}}",
        f"password: {SECRET}: x",
        f"pasword: {SECRET}",
        f"password:{SECRET}",
        f"password: '{SECRET}",
        f'password: "{SECRET}\\q"',
        f"password: &{SECRET} x",
        f"password: *{SECRET}",
        f"password: !{SECRET} x",
        f"password: %{SECRET}",
        f"password: @{SECRET}",
        f"password: {SECRET}\n    port: 1",
        f'password: "{SECRET}\\0"',
        f"{SECRET}",
        f"- {SECRET}",
    ],
)
def test_a_secret_written_wrongly_is_in_no_error_and_no_traceback(tmp_path: Path, line: str) -> None:
    for text in (f"{HEAD}  {line}\n{DEVICE}", f"mqtt:\n  {line}\n{DEVICE}"):
        with pytest.raises(ConfigError) as caught:
            loaded(tmp_path, text)
        err = caught.value
        assert SECRET not in str(err) + repr(err) + "".join(traceback.format_exception(err))


def test_the_mode_of_a_file_is_checked_on_what_was_read(tmp_path: Path) -> None:
    # through a link: the link's own mode is 777 and means nothing
    write(tmp_path, f"{HEAD}  password: {SECRET}\n{DEVICE}")
    (tmp_path / "link.yaml").symlink_to(tmp_path / "config.yaml")
    assert stat.S_IMODE(os.lstat(tmp_path / "link.yaml").st_mode) == 0o777
    assert load(tmp_path / "link.yaml", {}).warnings == ()


def test_a_file_that_is_there_is_no_complaint() -> None:
    assert file_there(__file__) is None


LXP = "devices:\n  - {name: a, type: lxp, host: stick}\n  - {name: b, type: lxp, host: %s}\n"


def test_two_devices_on_a_network_may_have_the_same_port_but_not_the_same_address(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(HEAD + LXP % "other, port: 8000")
    assert len(load(path, {}).devices) == 2
    for address in ("stick", "stick, port: 8000"):  # which is the port of one that gives none
        path.write_text(HEAD + LXP % address)
        with pytest.raises(ConfigError, match=r"devices\[1\]\.host: the same port"):
            load(path, {})


@pytest.mark.parametrize(
    "more",
    [
        ("listen: 4346, port: 8000", "listen: 4347, port: 8000"),  # which is not used there
        ("host: one, listen: null, udp: ~", "host: other, listen: null, udp: ~"),
        ("host: null, listen: 4346", "host: null, listen: 4347"),
    ],
)
def test_what_leads_nowhere_is_no_port_that_two_devices_have(tmp_path: Path, more: tuple[str, str]) -> None:
    entries = [f"  - {{name: d{number}, type: lxp, {one}}}\n" for number, one in enumerate(more)]
    config = loaded(tmp_path, HEAD + "devices:\n" + "".join(entries))
    assert loaded(tmp_path, dump(config)) == config, "as `check` shows it"


def test_two_sticks_cannot_be_awaited_on_one_port(tmp_path: Path) -> None:
    entries = "".join(f"  - {{name: d{number}, type: lxp, listen: 4346}}\n" for number in range(2))
    (found,) = problems(tmp_path, HEAD + "devices:\n" + entries)
    assert "devices[1].listen: the same port (one bus is one device) as devices[0]" in found


@pytest.mark.parametrize("address", ["broker", "broker.lan", "192.168.0.10", "::1", "fe80::1%eth0", "localhost"])
def test_any_host_name_and_ip_address_is_one(tmp_path: Path, address: str) -> None:
    assert loaded(tmp_path, f"mqtt:\n  host: '{address}'\n{DEVICE}").mqtt.host == address


@pytest.mark.parametrize("kind", ["pylontech", "pylontech-extra2000"])
@pytest.mark.parametrize("port", ["COM3", "ttyUSB0", "~/port", "hid"])
def test_a_serial_port_is_a_path(tmp_path: Path, kind: str, port: str) -> None:
    (found,) = problems(tmp_path, f"{HEAD}devices:\n  - name: a\n    type: {kind}\n    port: {port}\n")
    assert f"6: devices[0].port: found '{port}'; expected a path such as /dev/ttyUSB0" in found


# -- topics of other software

AXPERTS = "devices:\n  - {{name: a, type: axpert, port: hid:A{0}}}\n  - {{name: b, type: axpert, port: hid:B{1}}}\n"
EXTRA = (
    "devices:\n  - name: a\n    type: pylontech-extra2000\n    port: /dev/a\n    topics: {%s}\n"
    "    limits: {module_charge_current: 40, module_discharge_current: 50}\n"
)


def two_axperts(first: str, second: str) -> str:
    return AXPERTS.format(*(f", topics: {{{one}}}" if one else "" for one in (first, second)))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (two_axperts("", ""),
         "5: devices[1].topics.parallel: power/axpert is the topic of devices[0].topics.parallel, too; "
         "each needs one of its own, or none: topics: {parallel: null}"),
        (two_axperts("", "parallel: power/axpert"), "5: devices[1].topics.parallel: power/axpert is the topic of"),
        (two_axperts("unit: x", "parallel: x"), "5: devices[1].topics.parallel: x is the topic of devices[0].topics.u"),
        (two_axperts("parallel: x, unit: x", "parallel: null"),
         "4: devices[0].topics.unit: x is the topic of devices[0].topics.parallel, too"),
        (two_axperts("parallel: null, unit: 'x{n}'", "parallel: null, unit: 'x{n}'"),
         "5: devices[1].topics.unit: x{n} is the topic of devices[0].topics.unit, too"),
        (two_axperts("parallel: 'power/{sn}'", ""), "4: devices[0].topics.parallel: nothing is filled in here"),
        (two_axperts("parallel: solarbridge/a/state", ""),
         "4: devices[0].topics.parallel: solarbridge/a/state is among the bridge's own topics; expected one that does "
         "not begin with solarbridge/, or none: topics: {parallel: null}"),
        (two_axperts("parallel: solarbridge", ""), "solarbridge is among the bridge's own topics"),
        (two_axperts("unit: 'solarbridge/{sn}'", "parallel: null"), "4: devices[0].topics.unit: solarbridge/{sn} is a"),
        (EXTRA % "bank: battery/data" + "banks: [{name: e, from: [a]}]\n",
         "9: banks[0].topic: battery/data is the topic of devices[0].topics.bank, too; each needs one of its own"),
        (EXTRA % "battery: 'battery/{n}'" + "banks:\n  - name: e\n    from: [a]\n    topic: battery/12\n",
         "12: banks[0].topic: battery/12 is the topic of devices[0].topics.battery, too"),
        (EXTRA % "bank: b/12, battery: 'b/{n}'", "7: devices[0].topics.bank: b/12 is the topic of"),
        (EXTRA % "bank: 'b/{n}'", "7: devices[0].topics.bank: nothing is filled in here"),
    ],
)  # fmt: skip
def test_a_topic_of_other_software_has_one_publisher(tmp_path: Path, text: str, complaint: str) -> None:
    (found,) = problems(tmp_path, HEAD + text)
    assert complaint in found


@pytest.mark.parametrize(
    ("base", "more", "place"),
    [
        ("homeassistant", "", "3: mqtt.base_topic"),
        ("ha", "homeassistant: {prefix: ha}\n", "4: homeassistant.prefix"),
        ("sb", "homeassistant:\n  prefix: ha\n  birth_topic: sb/status\n", "6: homeassistant.birth_topic"),
    ],
)
def test_the_birth_topic_of_home_assistant_is_none_of_ours(tmp_path: Path, base: str, more: str, place: str) -> None:
    (found,) = problems(tmp_path, f"{HEAD}  base_topic: {base}\n{more}{DEVICE}")
    assert f"config.yaml:{place}: Home Assistant says on {base}/status that it starts" in found


@pytest.mark.parametrize("base", ["homeassistant2", "homeassistant/solar", "solarbridge"])
def test_other_base_topics_stay_clear_of_the_birth_topic(tmp_path: Path, base: str) -> None:
    assert loaded(tmp_path, f"{HEAD}  base_topic: {base}\n{DEVICE}").devices
    silent = "homeassistant: {discovery: false}\n"
    assert loaded(tmp_path, f"{HEAD}  base_topic: homeassistant\n{silent}{DEVICE}").devices, "nobody listens there"


@pytest.mark.parametrize(
    "text",
    [
        two_axperts("", "parallel: null"),
        two_axperts("", "parallel: power/barn"),
        two_axperts("parallel: null, unit: 'x{sn}'", "parallel: null, unit: 'x{sn}'"),
        two_axperts("parallel: solarbridge2/a", ""),
        EXTRA % "battery: 'battery/{n}', bank: battery/all" + "banks: [{name: e, from: [a]}]\n",
    ],
)
def test_topics_of_other_software_may_differ_by_a_serial_number_alone(tmp_path: Path, text: str) -> None:
    assert loaded(tmp_path, HEAD + text).devices


# -- banks

BANK = GOOD + "banks:\n  - name: bank\n    from: [roof]\n"


def test_a_bank_needs_its_devices_and_has_a_default_for_all_else(tmp_path: Path) -> None:
    config = loaded(tmp_path, BANK)
    (bank,) = config.banks
    assert (bank.from_, bank.topic, bank.interval, bank.discharge_when_silent) == (
        ("roof",), "battery/data", 1.0, "unchanged",
    )  # fmt: skip
    assert config.warnings == ()
    assert "from:\n  - roof" in dump(config)


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ("banks:\n  - name: bank\n", "banks[0].from: missing"),
        ("banks:\n  - {name: bank, from: []}\n", "banks[0].from: found an empty list"),
        ("banks:\n  - {name: bank, from: [roof, roof]}\n", "names a device twice"),
        ("banks:\n  - {name: bank, from: [attic]}\n", "bank is made of 'attic', but devices are roof"),
        ("banks:\n  - {name: roof, from: [roof]}\n", "the same name as devices[0]"),
        ("banks:\n  - {name: health, from: [roof]}\n", "a topic of the bridge itself"),
        (
            "banks:\n  - {name: a, from: [roof]}\n  - {name: b, from: [roof]}\n",
            "banks[1].topic: battery/data is the topic of banks[0].topic, too; each needs one of its own",
        ),
        ("banks:\n  - {name: bank, from_: [roof]}\n", "from_: unknown key; did you mean from?"),
        ("banks:\n  - {name: bank, from: [roof], topic: battery/#}\n", "a topic to publish on"),
        ("banks:\n  - {name: bank, from: [roof], max_age: 60}\n", "2 to 55"),
    ],
)
def test_a_bank_that_cannot_be_is_refused(tmp_path: Path, lines: str, complaint: str) -> None:
    assert complaint in " ".join(problems(tmp_path, GOOD + lines))


@pytest.mark.parametrize(("interval", "warned"), [(1, False), (15, False), (16, True), (60, True)])
def test_a_bank_whose_device_is_read_too_rarely_for_it_is_warned_of(
    tmp_path: Path, interval: int, warned: bool
) -> None:
    found = loaded(tmp_path, BANK.replace("port: hid\n", f"port: hid\n    interval: {interval}\n", 1)).warnings
    told = f"roof is read every {interval} s, but bank takes its modules for silent after 30 s"
    assert [told in warning for warning in found] == [True] * warned


def test_two_banks_that_steer_are_warned_of_and_further_ones_do_not_by_default(tmp_path: Path) -> None:
    second = "  - {name: pack, from: [roof], topic: battery/two%s}\n"
    assert loaded(tmp_path, BANK + second % "").warnings == ()
    (warning,) = loaded(tmp_path, BANK + second % ", controls: true").warnings
    assert "banks bank, pack all send a charge voltage" in warning
