"""Rows T6, T10, T13, T15 and T17: what others can reach, and what a device's or a person's text can do."""

from __future__ import annotations

import ast
import contextlib
import logging
import os
import re
from pathlib import Path

import pytest

from bridge.config import load
from bridge.errors import ConfigError, ProtocolError
from bridge.logs import MaskingFormatter
from bridge.luxpower.inverter import _SAFE
from bridge.pylontech.messages import text as pylontech_text
from bridge.pylontech.units import Units
from bridge.sinks.broker import installation_id
from bridge.voltronic.inquiries import QID, QSID
from tests.faults.rig import house
from tests.shared import REPOSITORY

HOSTILE = ["1+2", "#", "a/b", "../1", "$SYS", "1 2", "1\n2", "1\x1b[2J", "1\x002", "1\x9b2J", "", "x" * 300, "\u202e1"]
"""Texts that would break topics, logs, terminals or files if they were taken for a serial number."""


# -- T6


@pytest.mark.parametrize("key", ["insecure", "tls_insecure", "verify", "check_hostname", "cert_reqs"])
def test_t6_there_is_no_switch_that_leaves_a_check_out(tmp_path: Path, key: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"mqtt: {{host: h, tls: {{{key}: false}}}}\ndevices: [{{name: a, type: axpert, port: hid}}]\n")
    with pytest.raises(ConfigError, match=f"mqtt.tls.{key}: unknown key; known are ca, certificate, key"):
        load(path, {})


def test_t6_the_source_has_no_such_switch_either() -> None:
    for path in (REPOSITORY / "bridge").rglob("*.py"):
        text = path.read_text()
        for word in ("CERT_NONE", "CERT_OPTIONAL", "tls_insecure_set", "_create_unverified_context"):
            assert word not in text, f"{path}: {word}"
        assert not re.search(r"check_hostname\s*=\s*False", text), path


# -- T10


def listening(pid: int) -> list[str]:
    """Return the sockets on which a process waits for others: TCP in LISTEN, and every UDP one."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            if found := re.fullmatch(r"socket:\[(\d+)\]", os.readlink(descriptor)):
                inodes.add(found[1])
    waiting = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[9] in inodes and (words[3] == "0A" or table.startswith("udp")):
                waiting.append(f"{table} {words[1]}")
    return waiting


def test_t10_a_bridge_that_need_not_listen_listens_on_nothing(tmp_path: Path) -> None:
    with house(tmp_path) as site:
        site.await_up()
        assert listening(site.bridge.pid) == []
        assert listening(os.getpid()), "the test sees no socket at all: its own proxy listens"


# -- T13


def test_t13_nothing_is_run_through_a_shell_nor_made_from_data() -> None:
    for folder in ("bridge", "systemd", "tools"):
        for path in (REPOSITORY / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Call):
                    continue
                name = ast.unparse(node.func)
                assert name not in ("eval", "exec", "compile", "__import__", "os.system", "os.popen"), f"{path}: {name}"
                shell = [one for one in node.keywords if one.arg == "shell"]
                assert not shell, f"{path}: {name} with a shell"
                if name in ("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"):
                    raise AssertionError(f"{path}: {name}")
                assert name.split(".")[0] not in ("pickle", "marshal", "shelve", "dill", "jsonpickle"), path


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system ['touch {}']", "!!python/name:os.system", "!!python/object:os.x {{}}"]
)
def test_t13_a_tag_in_the_configuration_runs_nothing(tmp_path: Path, tag: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"mqtt: {{host: h}}\ndevices:\n  - name: {tag.format(tmp_path / 'made')}\n    type: axpert\n")
    with pytest.raises(ConfigError):
        load(path, {})
    assert not (tmp_path / "made").exists()


# -- T15


@pytest.mark.parametrize("serial", HOSTILE, ids=ascii)
def test_t15_an_inverters_serial_number_is_a_plain_word_or_refused(serial: str) -> None:
    for inquiry, payload in ((QID, serial), (QSID, f"{min(len(serial), 20):02d}{serial:0<20}")):
        with pytest.raises(ProtocolError):
            inquiry.decode(payload)
    assert not _SAFE.fullmatch(serial) or serial == "x" * 300
    assert not _SAFE.fullmatch("x" * 300), "without a digit it is no serial number"


@pytest.mark.parametrize("serial", HOSTILE, ids=ascii)
def test_t15_a_battery_modules_bar_code_never_makes_a_topic_of_its_own(serial: str) -> None:
    try:
        told = pylontech_text(serial.encode("latin-1", "replace"))
    except ProtocolError:
        return  # control characters, bytes beyond ASCII
    assert told is None or str(told).isprintable()
    if told is None or len(str(told)) > 16:
        return  # its frame has 16 bytes for it
    units = Units("batteries", 10.0)
    units.claim("2", str(told))
    module = units.claim("2", str(told))
    assert module is not None
    assert re.fullmatch(r"[0-9A-Za-z_.?-]+", module.path), module.path


@pytest.mark.parametrize("name", ["a+b", "#", "a/b", "$SYS", " a", "a\\n", "a\\e[2J", "status", "x" * 100, ""])
def test_t15_a_name_that_would_break_topics_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f'mqtt: {{host: h}}\ndevices: [{{name: "{name}", type: axpert, port: hid}}]\n')
    with pytest.raises(ConfigError, match="name"):
        load(path, {})


@pytest.mark.parametrize("text", ["\x1b[2J", "\x07", "\x9b2J", "\r", "\x00", "\x7f"])
def test_t15_no_control_character_reaches_the_log(text: str) -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "told: %s.", (f"a{text}b",), None)
    line = MaskingFormatter([]).format(record)
    assert line.isprintable()
    assert line.endswith(
        f"a{''.join(f'_x{ord(c):02x}'.replace('_', chr(92)) if c < ' ' or c > '~' else c for c in text)}b."
    )


def test_t15_a_text_with_line_breaks_forges_no_line_of_the_log() -> None:
    forged = "x\n2026-01-01T00:00:00Z INFO    house: ac_charge set to off by the owner"
    record = logging.LogRecord("x", logging.INFO, "", 0, "a name: %s", (forged,), None)
    lines = MaskingFormatter([]).format(record).split("\n")
    assert len(lines) == 2
    assert lines[1].startswith("    2026")


# -- T17


def test_t17_the_client_id_is_stable_and_differs_between_base_topics() -> None:
    assert installation_id("solarbridge") == installation_id("solarbridge")
    assert installation_id("solarbridge") != installation_id("other")
    assert re.fullmatch(r"solarbridge-[0-9a-f]{11}", installation_id("solarbridge"))


def test_t17_no_two_machines_have_the_same_client_id(monkeypatch: pytest.MonkeyPatch) -> None:
    def on(machine: str, host: str) -> str:
        monkeypatch.setattr(Path, "read_text", lambda *_a, **_k: f"{machine}\n")
        monkeypatch.setattr("socket.gethostname", lambda: host)
        return installation_id("solarbridge")

    assert on("a", "pi") == on("a", "pi")
    assert len({on("a", "pi"), on("b", "pi"), on("a", "nas")}) == 3, "an image copied to a second card has the same id"
