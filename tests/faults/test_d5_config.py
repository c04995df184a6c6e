"""Row D5: with a broken configuration nothing starts; the message has file, line, key and what is allowed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fake_slice import PRELUDE
from tests.shared import REPOSITORY

GOOD = """\
mqtt:
  host: 127.0.0.1
  port: @PORT@
devices:
  - name: one
    type: fake
"""


@dataclass(frozen=True)
class Case:
    """A configuration and what must be said about it: `line` of the file (None: the file as a whole) and words."""

    name: str
    text: str | bytes
    line: int | None
    words: tuple[str, ...]


def edited(name: str, old: str, new: str, line: int | None, *words: str) -> Case:
    assert old in GOOD
    return Case(name, GOOD.replace(old, new), line, words)


def more(name: str, lines: str, line: int | None, *words: str) -> Case:
    """Return a case with more keys under `mqtt:`; the first stands in line 4."""
    return edited(name, "devices:", lines + "devices:", line, *words)


PLANTED = "planted-8812"
TYPE = "    type: fake\n"
PORT = "    port: /dev/x\n"
ONE, TWO = "  - name: one\n", "  - name: two\n"
GONE = "/nonexistent/file"

# fmt: off
CASES = (
    Case("empty", "", 1, ("empty", "mqtt", "devices")),
    Case("only a comment", "# nothing\n", 1, ("empty",)),
    Case("a scalar", "hello\n", 1, ("key: value",)),
    Case("a list", "- a\n- b\n", 1, ("key: value",)),
    Case("no mqtt", GOOD[GOOD.index("devices"):], None, ("mqtt", "missing")),
    Case("no devices", GOOD[:GOOD.index("devices")], None, ("devices", "missing")),
    Case("not UTF-8", GOOD.encode() + b"# \xff\n", 7, ("UTF-8",)),
    Case("a NUL", GOOD + "# \0\n", 7, ("U+0000",)),
    Case("a second document", GOOD + "---\nmqtt: {}\n", None, ("second document",)),
    Case("no end of a quote", GOOD + "logging: {level: \"info}\n", None, ("syntax",)),
    edited("a tab", "  host: 127", "\thost: 127", 2, "tab"),
    edited("wrong indent", "  port: @PORT@", " port: @PORT@", None, "syntax"),
    edited("unknown key", "  port:", "  prot:", 3, "mqtt.prot", "unknown", "did you mean port", "host"),
    edited("unknown section", "mqtt:\n", "mqqt:\n", 1, "mqqt", "unknown", "did you mean mqtt"),
    edited("unknown key of a device", TYPE, TYPE + "    intervall: 1\n", 7, "devices[0].intervall", "interval"),
    edited("duplicate key", "  port:", "  host: other\n  port:", 3, "mqtt.host", "twice", "line 2"),
    edited("duplicate section", "devices:", "mqtt: {host: other}\ndevices:", 4, "mqtt", "twice"),
    edited("wrong type of a number", "@PORT@", "x", 3, "mqtt.port", "'x'", "1 to 65535"),
    edited("a number in quotes", "@PORT@", '"1883"', 3, "mqtt.port", "without quotes"),
    edited("a number with an underscore", "@PORT@", "1_883", 3, "mqtt.port"),
    edited("an octal number", "@PORT@", "01883", 3, "mqtt.port"),
    edited("a port too high", "@PORT@", "65536", 3, "mqtt.port", "65535"),
    edited("a port of 0", "@PORT@", "0", 3, "mqtt.port"),
    edited("NaN", "    type: fake", "    type: fake\n    interval: .nan", 7, "devices[0].interval"),
    edited("infinity", "    type: fake", "    type: fake\n    interval: 1e999", 7, "devices[0].interval"),
    edited("a mapping for a text", "127.0.0.1", "{a: b}", 2, "mqtt.host", "mapping"),
    edited("a list for a text", "127.0.0.1", "[a]", 2, "mqtt.host", "list"),
    edited("nothing for a text", "127.0.0.1", "", 2, "mqtt.host", "nothing"),
    more("yes for a boolean", "  retain_states: yes\n", 4, "mqtt.retain_states", "true or false"),
    edited("a URL for a host", "127.0.0.1", "mqtt://127.0.0.1", 2, "mqtt.host"),
    edited("an unknown device type", "type: fake", "type: axprt", 6, "devices[0].type", "axprt", "axpert"),
    edited("no device type", "    type: fake\n", "", 5, "devices[0].type", "missing"),
    edited("no device name", "  - name: one\n    type", "  - type", 5, "devices[0].name", "missing"),
    edited("two devices of one name", TYPE, TYPE + ONE + TYPE, 7, "devices[1].name"),
    edited("two devices on one port", TYPE, TYPE + PORT + TWO + TYPE + PORT, 10, "devices[1].port"),
    edited("a name with a wildcard", "name: one", 'name: "a+b"', 5, "devices[0].name"),
    edited("a name of the bridge's own", "name: one", "name: status", 5, "devices[0].name", "status"),
    edited("an empty list of devices", "devices:\n" + ONE + TYPE, "devices: []\n", 4, "devices", "at least one"),
    more("a base topic with a wildcard", "  base_topic: a/#\n", 4, "mqtt.base_topic"),
    more("an unknown protocol", "  protocol: 4\n", 4, "mqtt.protocol", "5", "3.1.1"),
    more("a password file that is not there", f"  password_file: {GONE}\n", 4, "mqtt.password_file", "not there"),
    more("a password and a file", f"  password: {PLANTED}\n  password_file: /x\n", 5, "mqtt.password_file", "not both"),
    more("a password that is a number", "  password: 12345678812\n", 4, "mqtt.password", "a number"),
    more("a broken line with a password", f"  password: 'it's {PLANTED}\n", None, "syntax"),
    more("a certificate that is not there", f"  tls: {{ca: {GONE}}}\n", 4, "mqtt.tls.ca", "not there"),
    edited("an unknown log level", "devices:", "logging: {level: loud}\ndevices:", 4, "logging.level", "loud", "debug"),
    edited("an anchor and an alias", "127.0.0.1", "&a b\n  username: *a", 2, "anchor"),
    edited("a tag that would run code", "127.0.0.1", "!!python/object/apply:os.system [touch /tmp/never]", 2, "tag"),
    edited("a merge key", "mqtt:\n", "mqtt:\n  <<: {host: a}\n", 2, "mqtt"),
    Case("nested without an end", "a: " + "[" * 5000 + "\n", 1, ("nested",)),
)
# fmt: on


def run(*arguments: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    code = f"{PRELUDE}\nimport sys\nfrom bridge.cli import main\nsys.exit(main())"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command,
        cwd=REPOSITORY,
        env={**os.environ, **(environ or {})},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


@dataclass
class Outcome:
    file: Path
    status: int
    stdout: str
    stderr: str


@pytest.fixture
def outcome(tmp_path: Path, case: Case) -> Outcome:
    """What the real command line makes of a case; nothing may come to the broker's port."""
    with socket.create_server(("127.0.0.1", 0)) as broker:
        text = case.text.encode() if isinstance(case.text, str) else case.text
        file = tmp_path / "config.yaml"
        file.write_bytes(text.replace(b"@PORT@", str(broker.getsockname()[1]).encode()))
        done = run("run", "--config", str(file))
        broker.setblocking(False)
        with pytest.raises(BlockingIOError):
            broker.accept()
    return Outcome(file, done.returncode, done.stdout, done.stderr)


def test_d5_there_are_more_than_thirty_cases_and_the_file_they_break_is_good(tmp_path: Path) -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 30
    file = tmp_path / "good.yaml"
    file.write_text(GOOD.replace("@PORT@", "1883"))
    assert run("check", "--config", str(file)).returncode == 0


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_d5_a_broken_configuration_starts_nothing_and_is_explained(outcome: Outcome, case: Case) -> None:
    assert outcome.status == 2, outcome.stderr
    place = str(outcome.file) if case.line is None else f"{outcome.file}:{case.line}:"
    said = [line for line in outcome.stderr.splitlines() if line.startswith(place)]
    assert said, f"nothing about {place} in: {outcome.stderr}"
    for word in case.words:
        assert any(word in line for line in said), f"{word!r} is not in: {outcome.stderr}"
    assert "Traceback" not in outcome.stderr
    assert PLANTED not in outcome.stderr + outcome.stdout
    assert outcome.stdout == ""


def test_d5_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing.yaml"
    folder = tmp_path / "folder.yaml"
    folder.mkdir()
    unreadable = tmp_path / "unreadable.yaml"
    unreadable.write_text(GOOD)
    unreadable.chmod(0)
    cases = [(missing, "not there"), (folder, "folder")]
    if os.geteuid() != 0:  # root reads it nevertheless
        cases.append((unreadable, "no right to read"))
    for path, words in cases:
        done = run("run", "--config", str(path))
        assert done.returncode == 2
        assert str(path) in done.stderr
        assert words in done.stderr


def test_d5_all_problems_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("mqtt:\n  hots: a\n  port: x\ndevices:\n  - name: status\n    type: nothing\nlogging: {level: 7}\n")
    done = run("check", "--config", str(file))
    assert done.returncode == 2
    for place in (":2: mqtt.hots", ":3: mqtt.port", ":6: devices[0].type", ":7: logging.level"):
        assert f"{file}{place}" in done.stderr


def test_d5_a_bad_value_in_the_environment_is_named_by_its_variable(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(GOOD.replace("@PORT@", "1883"))
    done = run("run", "--config", str(file), environ={"SOLARBRIDGE_MQTT_PORT": "many"})
    assert done.returncode == 2
    assert "SOLARBRIDGE_MQTT_PORT: mqtt.port" in done.stderr
