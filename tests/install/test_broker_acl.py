"""Rows T9 and E14: the sample files of docs/broker.md on a real mosquitto, with the real bridge as one of its users."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.subscribeoptions import SubscribeOptions

from tests.certificates import Authority
from tests.fake_slice import PRELUDE
from tests.faults.rig import configuration
from tests.harness import Bridge, Mosquitto, Recorder, await_true, free_port
from tests.shared import REPOSITORY
from tests.tools.test_settings import solarbridge

SAMPLES = REPOSITORY / "docs" / "mosquitto"
USERS = ("bridge", "homeassistant", "gx", "onlooker", "stranger")
PASSWORD = "pass word"


@contextmanager
def sample_broker(folder: Path) -> Iterator[tuple[Mosquitto, int]]:
    """Start a mosquitto on the samples; only their paths and ports are ours. Yields it and its TLS port."""
    folder.mkdir()
    certificate = Authority(folder, "ca").issue("broker", "DNS:localhost,IP:127.0.0.1")
    passwords, acl = folder / "passwords", folder / "acl"
    tool = shutil.which("mosquitto_passwd")
    assert tool is not None, "mosquitto_passwd comes with mosquitto"
    passwords.touch(mode=0o600)
    for user in USERS:
        subprocess.run([tool, "-b", str(passwords), user, PASSWORD], check=True, capture_output=True)
    shutil.copy(SAMPLES / "acl", acl)
    acl.chmod(0o600)
    tls_port = free_port()
    text = (SAMPLES / "mosquitto.conf").read_text()
    for theirs, ours in (
        ("listener 1883 127.0.0.1\n", ""),  # Mosquitto() begins with a listener of its own
        ("set_tcp_nodelay true\n", ""),
        ("listener 8883\n", f"listener {tls_port} 127.0.0.1\n"),
        ("/etc/mosquitto/solarbridge.passwords", str(passwords)),
        ("/etc/mosquitto/solarbridge.acl", str(acl)),
        ("/etc/mosquitto/certs/ca.pem", str(folder / "ca.pem")),
        ("/etc/mosquitto/certs/broker.pem", str(certificate.certificate)),
        ("/etc/mosquitto/certs/broker.key", str(certificate.key)),
    ):
        assert text.count(theirs) == 1, theirs
        text = text.replace(theirs, ours)
    with Mosquitto(folder / "broker", text) as broker:
        yield broker, tls_port


class Client:
    """A user of the broker who learns, by MQTT 5, what it lets them do."""

    def __init__(self, port: int, user: str, password: str = PASSWORD) -> None:
        self._answer = threading.Event()
        self._said = ""
        self.client = paho.Client(CallbackAPIVersion.VERSION2, f"test-{user}", protocol=paho.MQTTv5)
        if user:
            self.client.username_pw_set(user, password)
        self.client.on_connect = lambda _c, _u, _f, reason, _p: self._say(str(reason))
        self.client.on_publish = lambda _c, _u, _m, reason, _p: self._say(str(reason))
        self.client.on_subscribe = lambda _c, _u, _m, reasons, _p: self._say(str(reasons[0]))
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        self.admitted = self._await()

    def _say(self, text: str) -> None:
        self._said = text
        self._answer.set()

    def _await(self) -> str:
        assert self._answer.wait(10), "the broker does not answer"
        self._answer.clear()
        return self._said

    def may_write(self, topic: str) -> bool:
        self.client.publish(topic, b"x", qos=1)
        return self._await() in ("Success", "No matching subscribers")

    def may_read(self, topic: str) -> bool:
        self.client.subscribe(topic, options=SubscribeOptions(qos=1))
        return self._await().startswith("Granted")

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mosquitto, int]]:
    with sample_broker(tmp_path_factory.mktemp("acl") / "sample broker") as made:
        yield made


COMMAND = "solarbridge/house/set/ac_charge"
STATE = "solarbridge/house/state"

RIGHTS = [
    # who, topics they may write, topics they may not
    ("bridge", (STATE, "homeassistant/device/x/config", "battery/data", "power/axpert"),
     ("other/topic", "zigbee2mqtt/bridge/request/permit_join", "homeassistant2/x")),
    ("homeassistant", (COMMAND, "solarbridge/house/refresh", "homeassistant/status", "homeassistant/device/x/config"),
     (STATE, "solarbridge/status", "battery/data", "solarbridge/house/availability", "homeassistant/sensor/x/config",
      "homeassistant/device/x/y/config")),
    ("gx", (), (STATE, COMMAND, "battery/data")),
    ("onlooker", (), (STATE, COMMAND, "battery/data", "solarbridge/house/refresh", "homeassistant/status")),
    ("stranger", (), (STATE, COMMAND, "battery/data", "anything")),
]  # fmt: skip


@pytest.mark.parametrize(("user", "allowed", "refused"), RIGHTS, ids=[row[0] for row in RIGHTS])
def test_t9_each_user_writes_what_is_theirs_and_nothing_else(
    broker: tuple[Mosquitto, int], user: str, allowed: tuple[str, ...], refused: tuple[str, ...]
) -> None:
    with Client(broker[0].port, user) as client:
        assert client.admitted == "Success"
        assert [topic for topic in allowed if not client.may_write(topic)] == []
        assert [topic for topic in refused if client.may_write(topic)] == []


SPOKEN = [
    # who says it, where
    ("bridge", STATE), ("bridge", "solarbridge/house/result"), ("bridge", "homeassistant/device/x/config"),
    ("bridge", "homeassistant/sensor/x/config"), ("bridge", "battery/data"), ("bridge", "power/axpert"),
    ("homeassistant", COMMAND), ("homeassistant", "homeassistant/status"),
]  # fmt: skip

HEARD = [
    # who, what reaches them of that
    ("bridge", {STATE, "solarbridge/house/result", "homeassistant/device/x/config", "battery/data", COMMAND,
                "homeassistant/status"}),
    ("homeassistant", {STATE, "solarbridge/house/result", "homeassistant/device/x/config",
                       "homeassistant/sensor/x/config", COMMAND, "homeassistant/status"}),
    ("gx", {"battery/data"}),
    ("onlooker", {STATE, "solarbridge/house/result", "battery/data", "power/axpert", COMMAND}),
    ("stranger", set()),
]  # fmt: skip


@pytest.mark.parametrize(("user", "topics"), HEARD, ids=[row[0] for row in HEARD])
def test_t9_each_user_reads_what_is_for_them_and_nothing_else(
    broker: tuple[Mosquitto, int], user: str, topics: set[str]
) -> None:
    with Recorder(broker[0].port, "#", username=user, password=PASSWORD) as recorder:
        for speaker, topic in SPOKEN:
            with Client(broker[0].port, speaker) as client:
                assert client.may_write(topic)
        with Client(broker[0].port, user) as client:
            client.may_read("end")  # answered on a connection of its own, after all of the above was sent
        await_true(lambda: {m.topic for m in recorder.messages} >= topics, 10, "what is for them")
        assert {m.topic for m in recorder.messages} == topics


def test_t9_nobody_comes_in_without_the_right_password(broker: tuple[Mosquitto, int]) -> None:
    for user, password in (("", ""), ("bridge", "guessed"), ("nobody", PASSWORD)):
        with Client(broker[0].port, user, password) as client:
            assert client.admitted == "Not authorized", user


def test_e14_commands_of_who_may_not_send_them_do_not_arrive(broker: tuple[Mosquitto, int]) -> None:
    credentials = {"username": "bridge", "password": PASSWORD}
    with Recorder(broker[0].port, "solarbridge/+/set/#", **credentials) as recorder:
        for user in ("onlooker", "stranger", "gx"):
            with Client(broker[0].port, user) as client:
                client.may_write(COMMAND)
        with Client(broker[0].port, "homeassistant") as client:
            client.client.publish(COMMAND, b"on", qos=1)
            recorder.wait_payload(COMMAND, b"on")
        assert [message.payload for message in recorder.on(COMMAND)] == [b"on"]


def test_t9_the_bridge_finds_every_right_it_needs_over_tls(broker: tuple[Mosquitto, int], tmp_path: Path) -> None:
    plain, tls_port = broker
    password = tmp_path / "mqtt-password"
    password.write_text(PASSWORD)
    password.chmod(0o600)
    authority = next(line.removeprefix("cafile ") for line in conf_lines(plain) if line.startswith("cafile "))
    mqtt = {
        "host": "localhost", "base_topic": "solarbridge", "username": "bridge", "password_file": str(password),
        "tls": {"ca": authority},
    }  # fmt: skip
    config = configuration(tmp_path, tls_port, {"one": {"parts": 1, "bank": "battery/data"}}, mqtt)
    with (
        Recorder(plain.port, "solarbridge/#", username="onlooker", password=PASSWORD) as recorder,
        Recorder(plain.port, "battery/#", username="gx", password=PASSWORD) as battery,
        Bridge(tmp_path / "bridge", config, prelude=PRELUDE) as bridge,
    ):
        recorder.wait_payload("solarbridge/status", b"online")
        recorder.wait("solarbridge/one/state")
        recorder.wait("solarbridge/one/part0/state")
        battery.wait("battery/data")
        health = json.loads(recorder.wait("solarbridge/health").payload)
        assert health["mqtt"]["denied"] == []
        assert "does not let us subscribe" not in bridge.log()
        with Client(plain.port, "homeassistant") as client:
            count = json.loads(recorder.on("solarbridge/one/state")[-1].payload)["count"]
            client.client.publish("solarbridge/one/refresh", b"", qos=1)
            recorder.wait("solarbridge/one/state", lambda m: json.loads(m.payload)["count"] >= count + 1000)
        assert bridge.stop() == 0


def test_t9_the_tools_find_every_right_they_need_as_the_bridge_s_user(
    broker: tuple[Mosquitto, int], tmp_path: Path
) -> None:
    port = broker[0].port
    mqtt = {"base_topic": "solarbridge", "username": "bridge", "password": PASSWORD}
    config = configuration(tmp_path, port, {"one": {"parts": 1, "writes": True}}, mqtt)
    with (
        Recorder(port, "solarbridge/#", username="onlooker", password=PASSWORD) as recorder,
        Bridge(tmp_path / "bridge", config, prelude=PRELUDE),
    ):
        recorder.wait("solarbridge/one/part0/state")
        done = solarbridge(tmp_path, "read", "one", "--json")
        assert {"state", "settings", "part0/state"} == json.loads(done.stdout).keys(), done.stderr
        done = solarbridge(tmp_path, "write", "one", "limit", "80", "--yes")
        assert json.loads(done.stdout)["outcome"] == "done", done.stderr
        assert recorder.on("solarbridge/one/result"), "the bridge itself did it"
        with Client(port, "bridge") as client:
            place, device = "solarbridge/one/gone", "homeassistant/device/sb_one_gone/config"
            kept = {f"{place}/availability": "offline", f"{place}/state": "{}",
                    device: json.dumps({"avty": [{"t": f"{place}/availability"}]})}  # fmt: skip
            for topic, payload in kept.items():
                client.client.publish(topic, payload, 1, retain=True).wait_for_publish(10)
        done = solarbridge(tmp_path, "forget", "one", "gone")
        assert (done.returncode, set(done.stdout.split())) == (0, set(kept)), done.stderr


def test_t9_home_assistant_takes_a_device_off_the_broker(broker: tuple[Mosquitto, int]) -> None:
    topic = "homeassistant/device/sb_gone/config"
    with Client(broker[0].port, "bridge") as client:
        client.client.publish(topic, b"{}", 1, retain=True).wait_for_publish(10)
    with Recorder(broker[0].port, topic, username="homeassistant", password=PASSWORD) as recorder:
        assert recorder.wait(topic).retained
        recorder.client.publish(topic, b"", 1, retain=True).wait_for_publish(10)
        recorder.wait_payload(topic, b"")
    with Recorder(broker[0].port, topic, "homeassistant/status", username="homeassistant", password=PASSWORD) as other:
        other.client.publish("homeassistant/status", b"online")
        other.wait("homeassistant/status")
        assert not other.on(topic)


def conf_lines(broker: Mosquitto) -> list[str]:
    return (broker._folder / "mosquitto.conf").read_text().splitlines()
