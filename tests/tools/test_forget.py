"""`solarbridge forget`: what is gone for good leaves the broker, what lives stays, and the bridge forgets too."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.config import Mqtt
from bridge.errors import LinkError
from bridge.tools import client
from tests.fake_slice import PRELUDE
from tests.faults.rig import BASE, House, configuration, house
from tests.harness import Mosquitto, Recorder, await_true
from tests.shared import REPOSITORY

RUN = f"{PRELUDE}\nimport sys\nfrom bridge.cli import main\nsys.exit(main())"
QUICK = "import bridge.sinks.discovery as d\nd.SETTLED = 0.5\nd.SPACING = 0.5\nd.SPREAD = 0.1"


def forget(site: House, *arguments: str) -> subprocess.CompletedProcess[str]:
    config = site.folder / "bridge" / "config.yaml"
    return subprocess.run(
        [sys.executable, "-c", RUN, "forget", *arguments, "--config", str(config)],
        cwd=REPOSITORY, env=dict(os.environ), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def retained(site: House) -> dict[str, bytes]:
    """Return what the broker keeps, but for what the bridge says of itself."""
    with Recorder(site.broker.port, "#") as other:
        other.client.publish("probe", b"")
        other.wait("probe")
        return {m.topic: m.payload for m in list(other.messages) if m.retained}


def without_parts(site: House) -> None:
    """Take the device's parts away, and start the bridge anew."""
    site.bridge.stop()
    site.bridge.config = configuration(site.folder, site.proxy.port, {"one": {}})
    site.recorder.forget()
    site.bridge.start()
    site.await_up()


def test_a_module_that_is_gone_leaves_the_broker_and_the_bridge(tmp_path: Path) -> None:
    with house(tmp_path, {"one": {"parts": 2}}, prelude=QUICK) as site:
        for name in ("sb_one", "sb_one_part0", "sb_one_part1"):
            site.recorder.wait(f"homeassistant/device/{name}/config", seconds=20)
        living = forget(site, "one", "part0")
        assert living.returncode == 2
        assert "is online" in living.stderr
        assert forget(site, "one").returncode == 2  # still configured
        without_parts(site)
        done = forget(site, "one", "part0")
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [
            f"{BASE}/one/part0/availability", "homeassistant/device/sb_one_part0/config", f"{BASE}/one/part0/state",
        ]  # fmt: skip
        site.await_log("one/part0': forgotten")
        kept = retained(site)
        assert not [topic for topic in kept if "part0" in topic]
        assert {f"{BASE}/one/part1/state", "homeassistant/device/sb_one_part1/config"} <= kept.keys()
        site.recorder.client.publish(f"{BASE}/discovery", b"press")
        site.proxy.cut()  # a new connection brings all that is known
        await_true(lambda: len(site.recorder.on("homeassistant/device/sb_one/config")) > 1, 20, "announced again")
        assert not [topic for topic in retained(site) if "part0" in topic]
        remembered = site.folder / "bridge" / "state" / "solarbridge" / "homeassistant.json"
        await_true(lambda: "one/part0" not in json.loads(remembered.read_text()), 10, "the bridge forgets")
        assert forget(site, "one", "part0").returncode == 1


def test_a_device_that_left_the_configuration_is_forgotten_as_a_whole(tmp_path: Path) -> None:
    with house(tmp_path, {"one": {}, "gone": {"parts": 1}}, prelude=QUICK) as site:
        for name in ("sb_gone", "sb_gone_part0"):
            site.recorder.wait(f"homeassistant/device/{name}/config", seconds=20)
        without_parts(site)
        assert forget(site, "gone").returncode == 0
        assert not [topic for topic in retained(site) if "gone" in topic]


FEW_RIGHTS = f"topic readwrite #\nuser bridge\ntopic write {BASE}/#\ntopic read {BASE}/+/+/availability\n"


def test_where_the_broker_shows_an_availability_alone_it_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "acl").write_text(FEW_RIGHTS)
    (tmp_path / "acl").chmod(0o600)
    kept = {f"{BASE}/one/gone/availability": b"offline", f"{BASE}/one/gone/state": b"{}"}
    with house(
        tmp_path, {"one": {}}, mqtt={"username": "bridge"},
        broker_lines=f"allow_anonymous true\nacl_file {tmp_path / 'acl'}",
    ) as site:  # fmt: skip
        site.await_up()
        for topic, payload in kept.items():
            site.recorder.client.publish(topic, payload, 1, retain=True).wait_for_publish(10)
        done = forget(site, "one", "gone")
        assert done.returncode == 1
        assert f"access list has to let user bridge read {BASE}/# and homeassistant/device/+/config" in done.stderr
        assert f"{BASE}/one/gone/state" in retained(site), "which it could not see"


def test_an_availability_alone_is_all_there_is_where_nothing_else_is_kept(tmp_path: Path) -> None:
    with house(tmp_path, {"one": {}}, mqtt={"retain_states": False}) as site:
        config = json.loads(site.bridge.config) | {"homeassistant": {"discovery": False}}
        (site.folder / "bridge" / "config.yaml").write_text(json.dumps(config))
        site.await_up()
        site.recorder.client.publish(f"{BASE}/one/gone/availability", b"offline", 1, retain=True).wait_for_publish(10)
        assert forget(site, "one", "gone").returncode == 0


def test_a_broker_that_stands_still_has_forgotten_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Mosquitto(tmp_path / "broker") as broker, client.Visitor(Mqtt(host="127.0.0.1", port=broker.port)) as visitor:
        visitor.publish("solarbridge/old/state", b"{}", retain=True)
        monkeypatch.setattr(client, "ANSWERING", 0.5)
        broker.send(signal.SIGSTOP)
        with pytest.raises(LinkError, match=f"the broker at 127.0.0.1:{broker.port}: it does not answer"):
            visitor.publish("solarbridge/old/state", b"", retain=True)
        broker.send(signal.SIGCONT)


def without_broker(folder: Path, *arguments: str, **more: object) -> subprocess.CompletedProcess[str]:
    path = folder / "config.yaml"
    path.write_text(json.dumps(json.loads(configuration(folder, 1, {"one": {}})) | more))
    return subprocess.run(
        [sys.executable, "-c", RUN, "forget", *arguments, "--config", str(path)],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_bank_that_is_configured_is_not_forgotten_while_it_waits_for_its_modules(tmp_path: Path) -> None:
    done = without_broker(tmp_path, "cellar", banks=[{"name": "cellar", "from": ["one"]}])
    assert done.returncode == 2
    assert "it is in the configuration" in done.stderr


@pytest.mark.parametrize("arguments", [("+",), ("one", "#"), ("a/b",), ("one", "")])
def test_a_name_that_is_not_one_level_is_refused(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = without_broker(tmp_path, *arguments)
    assert done.returncode == 2
    assert "one level" in done.stderr


def test_what_the_bridge_says_of_itself_is_not_forgotten(tmp_path: Path) -> None:
    done = without_broker(tmp_path, "info")
    assert done.returncode == 2
    assert "info is a topic of the bridge itself" in done.stderr
