"""Rows T7 and T8: secrets planted in the configuration appear nowhere, at debug level and on a real broker."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from bridge.cli import COMMANDS
from bridge.config import load, secrets
from bridge.errors import ConfigError
from tests.fake_slice import PRELUDE
from tests.faults.rig import BASE, at_once, configuration
from tests.harness import Bridge, Mosquitto, Recorder, await_true
from tests.shared import REPOSITORY

MARK = "planted-Secret"
"""What of it would still be seen in any quoting."""
SECRET = f"{MARK}%7/ü"
OTHER = "another-planted-1"

LEAK = f"""
import os
from tests import fake_slice
_poll = fake_slice.FakeDevice.poll
def _leaking(self):
    import logging
    logging.getLogger("leak").debug("a debug line with %s in it", {SECRET!r})
    if self._word() == "leak":
        password = {SECRET!r}
        raise RuntimeError("a traceback with " + password)
    return _poll(self)
fake_slice.FakeDevice.poll = _leaking
"""
"""A bug that would let the password out, both in a debug line and in a traceback."""


def guarded_broker(folder: Path, password: str) -> Mosquitto:
    """Return a broker that lets in "bridge" with this password, and "watcher"."""
    folder.mkdir()
    tool = shutil.which("mosquitto_passwd")
    assert tool is not None, "mosquitto_passwd comes with mosquitto"
    passwords = folder / "passwords"
    passwords.touch(mode=0o600)
    for user, word in (("bridge", password), ("watcher", "watcher")):
        subprocess.run([tool, "-b", str(passwords), user, word], check=True, capture_output=True)
    return Mosquitto(folder / "broker", f"allow_anonymous false\npassword_file {passwords}")


def way(name: str, folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return the mqtt keys and the environment that carry the password in one of the four ways."""
    if name == "key":
        return {"password": SECRET}, {}
    if name == "environment":
        return {}, {"SOLARBRIDGE_MQTT_PASSWORD": SECRET}
    place = folder / "credentials" / "mqtt-password"
    place.parent.mkdir()
    place.write_text(SECRET)
    place.chmod(0o600)
    return ({"password_file": str(place)}, {}) if name == "file" else ({}, {"CREDENTIALS_DIRECTORY": str(place.parent)})


def test_t7_t8_the_password_works_and_appears_nowhere(tmp_path: Path) -> None:
    at_once(*(partial(one_way, tmp_path / name, name) for name in ("key", "environment", "file", "credential")))


def one_way(tmp_path: Path, name: str) -> None:
    tmp_path.mkdir()
    keys, environ = way(name, tmp_path)
    with ExitStack() as stack:
        broker = stack.enter_context(guarded_broker(tmp_path / "guarded", SECRET))
        recorder = stack.enter_context(Recorder(broker.port, "#", username="watcher", password="watcher"))
        config = json.loads(configuration(tmp_path, broker.port, {"one": {}}, {"username": "bridge", **keys}))
        config["logging"] = {"level": "debug", "directory": str(tmp_path / "log"), "max_megabytes": 1}
        text = json.dumps(config, ensure_ascii=False)
        bridge = stack.enter_context(Bridge(tmp_path / "bridge", text, environ, prelude=f"{PRELUDE}\n{LEAK}"))
        recorder.wait(f"{BASE}/one/state")
        (tmp_path / "one.control").write_text("leak")
        await_true(lambda: "a traceback with ***" in bridge.log(), 10, "the bug shows in the log, masked")
        recorder.wait(f"{BASE}/health", lambda m: b"RuntimeError" in m.payload or b"crashes" in m.payload)
        command = Path(f"/proc/{bridge.pid}/cmdline").read_bytes()
        assert bridge.stop() == 0
        shown = check(tmp_path / "bridge" / "config.yaml", environ)

        everything = {
            "the process list": command.decode().replace(f"{PRELUDE}\n{LEAK}", ""),  # which planted it
            "stderr": bridge.log(),
            "the log file": (tmp_path / "log" / "solarbridge.log").read_text(),
            "check": shown,
            "topics": "".join(f"{message.topic} {message.payload!r}\n" for message in recorder.messages),
            "topics, decoded": "".join(message.payload.decode(errors="replace") for message in recorder.messages),
        }
        assert "a debug line with *** in it" in everything["the log file"]
        for where, found in everything.items():
            assert found, where
            assert MARK not in found, f"the password is in {where}"


def check(config: Path, environ: dict[str, str]) -> str:
    """Return all that `solarbridge check` says; the made-up device type is announced as in the bridge itself."""
    code = f"{PRELUDE}\nimport sys\nfrom bridge.cli import main\nsys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "check", "-c", str(config)], cwd=REPOSITORY, capture_output=True, text=True,
        env={**os.environ, **environ}, check=True, timeout=30,
    )  # fmt: skip
    return done.stdout + done.stderr


MISTAKES = [
    f"mqtt: {{host: h, password: [{OTHER}]}}",
    f"mqtt: {{host: h, password: {{a: {OTHER}}}}}",
    f"mqtt: {{host: h, passwort: {OTHER}}}",
    f"mqtt: {{host: h, password: {OTHER}, password: {OTHER}}}",
    f"mqtt: {{host: h, password: !!python/object {OTHER}}}",
    f"mqtt: {{host: h, password: &a {OTHER}, username: *a}}",
    f"mqtt:\n  host: h\n  password: '{OTHER}\n",
    f"mqtt:\n  host: h\n   password: {OTHER}\n",
    f"mqtt: {{host: h, password: {OTHER}, password_file: /nonexistent}}",
    f'mqtt: {{host: h, password: "{OTHER}\\0"}}',
]


@pytest.mark.parametrize("text", MISTAKES, ids=range(len(MISTAKES)))
def test_t8_a_mistake_around_the_password_is_explained_without_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert OTHER not in str(caught.value) + repr(caught.value)


def test_t8_a_password_file_with_more_than_a_password_is_refused_without_showing_it(tmp_path: Path) -> None:
    place = tmp_path / "password"
    place.write_text(f"{OTHER}\n{OTHER}\n")
    path = tmp_path / "config.yaml"
    path.write_text(f"mqtt: {{host: h, password_file: {place}}}\ndevices: [{{name: a, type: axpert, port: hid}}]\n")
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert OTHER not in str(caught.value)


def test_t8_the_configuration_can_be_shown_in_any_way(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"mqtt: {{host: h, password: {OTHER}}}\ndevices: [{{name: a, type: axpert, port: hid}}]\n")
    path.chmod(0o600)
    config = load(path, {})
    assert secrets(config) == [OTHER]
    password = config.mqtt.password
    for shown in (repr(config), str(config), f"{password}", f"{password!r}", json.dumps([str(password)])):
        assert OTHER not in shown


def test_t7_a_configuration_with_a_password_that_all_can_read_is_warned_about(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"mqtt: {{host: h, password: {OTHER}}}\ndevices: [{{name: a, type: axpert, port: hid}}]\n")
    path.chmod(0o644)
    assert any("chmod 640" in warning for warning in load(path, {}).warnings)
    path.chmod(0o640)
    assert load(path, {}).warnings == ()


def test_t7_no_command_takes_a_password_as_an_argument() -> None:
    parsers = [command.parser(name) for name, command in COMMANDS.items()]
    options = [name for parser in parsers for action in parser._actions for name in action.option_strings]
    assert "--config" in options
    assert not [name for name in options if "pass" in name or "secret" in name]
