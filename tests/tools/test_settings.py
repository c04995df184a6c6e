"""`solarbridge read` and `write`, through a running bridge and without one: the same words."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.errors import LinkError
from bridge.simulators.axpert import AxpertSimulator
from bridge.simulators.lxp import LxpSimulator
from bridge.simulators.pylontech import PylontechSimulator
from bridge.statefile import StateFile
from bridge.tools import direct
from bridge.tools.settings import READING
from tests.fake_slice import PRELUDE
from tests.faults.rig import BASE, configuration, house, say
from tests.harness import Bridge, Mosquitto, Recorder, await_true, free_port
from tests.rights import NOBODY
from tests.shared import REPOSITORY

RUN = f"{PRELUDE}\nimport sys\nfrom bridge.cli import main\nsys.exit(main())"


def solarbridge(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command with the configuration in `folder`, as a person without a terminal would."""
    config = folder / "bridge" / "config.yaml"
    return subprocess.run(
        [sys.executable, "-c", RUN, *arguments, "--config", str(config)],
        cwd=REPOSITORY, env={**os.environ, "STATE_DIRECTORY": str(folder / "state" / "solarbridge")},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip


def configured(folder: Path, port: int, **mqtt: object) -> None:
    (folder / "bridge").mkdir(exist_ok=True)
    config = configuration(folder, port, {"one": {"writes": True, "parts": 1}, "two": {}}, mqtt)
    (folder / "bridge" / "config.yaml").write_text(config)


def frames(folder: Path) -> list[str]:
    path = folder / "one.control.frames"
    return path.read_text().splitlines() if path.exists() else []


def same_story(folder: Path, *direct: str) -> None:
    """Read, write, refuse: what a person sees must not depend on who asks the device."""
    whole = json.loads(solarbridge(folder, "read", "one", "--json", *direct).stdout)
    assert whole["settings"]["limit"] == 50
    assert whole["state"]["count"] > 0
    assert "part0/state" in whole
    assert solarbridge(folder, "read", "one", "limit", *direct).stdout == "settings:\n  limit  50\n"
    part = json.loads(solarbridge(folder, "read", "one/part0", "--json", *direct).stdout)
    assert list(part) == ["part0/state"]

    done = solarbridge(folder, "write", "one", "limit", "80", "--yes", *direct)
    result = json.loads(done.stdout)
    assert done.returncode == 0
    assert (result["outcome"], result["old"], result["read_back"]) == ("done", 50, 80)
    assert list(result) == ["id", "unit", "setting", "source", "register", "old", "wanted", "read_back", "outcome",
                            "reason", "duration"]  # fmt: skip
    refused = solarbridge(folder, "write", "one", "limit", "101", "--yes", *direct)
    assert refused.returncode == 1
    assert "expected 0 to 100" in json.loads(refused.stdout)["reason"]
    assert frames(folder) == ["limit 80"]


def test_a_running_bridge_is_asked_over_mqtt(tmp_path: Path) -> None:
    devices = {"one": {"writes": True, "parts": 1}, "two": {}}
    with house(tmp_path, devices, environ={"XDG_STATE_HOME": str(tmp_path / "state")}) as site:
        site.await_up()
        same_story(tmp_path)
        assert site.recorder.on("sb/one/result"), "the bridge itself did it"


def test_a_device_that_is_read_seldom_is_read_to_the_end_and_no_longer(tmp_path: Path) -> None:
    """It tells its state block after block, and then nothing for an hour."""
    with LxpSimulator(push_interval=3600.0, heartbeat_interval=3600.0) as simulator:
        host, _, port = simulator.port.partition(":")
        entry = {"name": "house", "type": "lxp", "host": host, "port": int(port), "interval": 3600}
        with Mosquitto(tmp_path / "broker") as broker, Recorder(broker.port) as recorder:
            config = {"mqtt": {"host": "127.0.0.1", "port": broker.port, "base_topic": BASE}, "devices": [entry]}
            with Bridge(tmp_path / "bridge", json.dumps(config)):
                recorder.wait(f"{BASE}/house/settings", seconds=30)
                recorder.forget()
                told = json.loads(solarbridge(tmp_path, "read", "house", "--json").stdout)
                ended = time.monotonic()
                time.sleep(4)  # what else it had to tell
        states = [json.loads(one.payload) for one in recorder.on(f"{BASE}/house/state")]
        assert len(states) > 1
        assert told["state"] == states[-1], "all that was read is shown"
        asked = recorder.on(f"{BASE}/house/refresh")[0].at
        assert ended - asked < READING - 5, "not as long as a device may take that says nothing"


@pytest.mark.parametrize("status", [None, b"offline"])
def test_where_the_broker_tells_of_no_bridge_the_device_is_asked_itself(tmp_path: Path, status: bytes | None) -> None:
    with Mosquitto(tmp_path / "broker", "allow_anonymous true") as broker:
        configured(tmp_path, broker.port)
        if status is not None:
            with Recorder(broker.port) as recorder:
                recorder.client.publish(f"{BASE}/status", status, 1, retain=True).wait_for_publish(10)
        same_story(tmp_path)
        assert f"no bridge runs on {BASE}/#" in solarbridge(tmp_path, "read", "one").stderr


def test_a_person_may_say_that_the_device_is_to_be_asked_itself(tmp_path: Path) -> None:
    configured(tmp_path, free_port())
    same_story(tmp_path, "--direct")


def test_what_a_power_cut_left_open_is_not_the_answer_to_a_write(tmp_path: Path) -> None:
    configured(tmp_path, free_port())
    entry = {"id": "before", "unit": "", "setting": "limit", "text": "50", "frame": "limit", "old": 40}
    StateFile(tmp_path / "state" / "solarbridge" / "writes-one.json").save({"pending": entry})
    done = solarbridge(tmp_path, "write", "one", "limit", "80", "--yes", "--direct")
    result = json.loads(done.stdout)
    assert (result["wanted"], result["outcome"]) == ("80", "done")
    assert frames(tmp_path) == ["limit 80"]


def assert_left_alone(folder: Path, *words: str) -> None:
    """Neither way reaches the device, and both say why."""
    for arguments in (("read", "one"), ("write", "one", "limit", "80", "--yes")):
        done = solarbridge(folder, *arguments)
        assert (done.returncode, done.stdout) == (1, ""), done
        assert [word for word in words if word not in done.stderr] == [], done.stderr
    assert frames(folder) == []
    assert not (folder / "state").exists() or not list((folder / "state").rglob("writes-one.json"))


def test_a_broker_that_is_not_there_is_no_sign_that_no_bridge_runs(tmp_path: Path) -> None:
    configured(tmp_path, free_port())
    assert_left_alone(tmp_path, "no broker at", "nobody knows whether a bridge runs", "--direct")


@pytest.mark.parametrize(
    ("mqtt", "words"),
    [
        ({"host": "broker..lan"}, "label empty or too long"),
        ({"tls": {"ca": "/etc/hosts"}}, "no TLS: no certificate"),
    ],
)
def test_why_there_is_no_way_to_the_broker_is_said_in_one_line(
    mqtt: dict[str, object], words: str, tmp_path: Path
) -> None:
    with Mosquitto(tmp_path / "broker") as broker:
        configured(tmp_path, broker.port, **mqtt)
        done = solarbridge(tmp_path, "read", "one")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"{broker.port}: " in done.stderr
    assert words in done.stderr


def test_a_broker_that_lets_us_not_in_is_no_sign_that_no_bridge_runs(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker", "allow_anonymous false") as broker:
        configured(tmp_path, broker.port, username="bridge")
        assert_left_alone(tmp_path, "no password was found", "password_file", "/etc/credstore", "--direct")
        configured(tmp_path, broker.port, username="bridge", password="guessed")
        assert_left_alone(tmp_path, "Not authorized", "--direct")
        assert "no password" not in solarbridge(tmp_path, "read", "one").stderr


FEW_RIGHTS = f"""
topic readwrite #
user bridge
topic write {BASE}/#
topic read {BASE}/+/availability
topic read {BASE}/+/refresh
topic read {BASE}/+/set/#
"""


@pytest.mark.parametrize(
    ("more", "words"), [(f"topic read {BASE}/status\n", "a bridge runs"), ("", "nobody knows whether a bridge runs")],
    ids=["its status alone is heard", "nothing is heard"],
)  # fmt: skip
def test_a_bridge_that_cannot_be_heard_is_not_gone_past(tmp_path: Path, more: str, words: str) -> None:
    (tmp_path / "acl").write_text(FEW_RIGHTS + more)
    (tmp_path / "acl").chmod(0o600)
    with house(
        tmp_path, {"one": {"writes": True}}, mqtt={"username": "bridge"},
        broker_lines=f"allow_anonymous true\nacl_file {tmp_path / 'acl'}",
        environ={"XDG_STATE_HOME": str(tmp_path / "service")},
    ) as site:  # fmt: skip
        site.await_up()
        assert_left_alone(tmp_path, words, f"its access list has to let user bridge read {BASE}/#")


def test_a_bridge_that_runs_without_the_device_is_not_gone_past(tmp_path: Path) -> None:
    with house(tmp_path, {"two": {}}) as site:
        site.await_up()
        configured(tmp_path, site.broker.port)
        assert_left_alone(tmp_path, "has two alone; restart it")


def test_whoever_insists_writes_nothing_all_the_same_while_a_bridge_keeps_the_record(tmp_path: Path) -> None:
    with house(tmp_path, {"one": {"writes": True}}, environ={"XDG_STATE_HOME": str(tmp_path / "state")}) as site:
        site.await_up()
        done = solarbridge(tmp_path, "write", "one", "limit", "80", "--yes", "--direct")
        assert done.returncode == 1
        assert "another solarbridge has it" in done.stderr
        assert frames(tmp_path) == []


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A service's state directory, as systemd makes it for a user of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root can ask for another user")
    folder = Path(tempfile.mkdtemp(prefix="solarbridge-service-", dir="/tmp"))  # which a user without rights can reach
    os.chown(folder, NOBODY, NOBODY)
    monkeypatch.setattr(direct, "SERVICE", (folder / "elsewhere", folder))
    for module in (direct, os):  # as installed; here the sources or the Python may be in root's home
        monkeypatch.setattr(module, "__file__", "/")
    yield folder
    shutil.rmtree(folder)


def record_as_root(service: Path) -> None:
    """Save a record as a tool of root's does, in a process of its own: its rights are gone after that."""
    child = os.fork()
    if child == 0:
        try:
            folder = direct.records_folder(None, {"HOME": "/root", "XDG_STATE_HOME": "/root/state"})
            ours = {"uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups()}
            StateFile(folder / "writes-one.json").save(ours)
        except LinkError as err:
            (service / "error").write_text(str(err))
        finally:
            os._exit(0)
    os.waitpid(child, 0)


@pytest.mark.parametrize("below", ["", ".local/state/solarbridge"])
def test_root_records_where_the_service_does_and_as_its_user(service: Path, below: str) -> None:
    for path in (Path(below), *Path(below).parents)[::-1]:
        (service / path).mkdir(exist_ok=True)
        os.chown(service / path, NOBODY, NOBODY)
    record_as_root(service)
    record = service / below / "writes-one.json"
    assert (record.stat().st_uid, record.stat().st_gid) == (NOBODY, NOBODY)
    groups = os.getgrouplist(pwd.getpwuid(NOBODY).pw_name, NOBODY)
    assert json.loads(record.read_text()) == {"uid": NOBODY, "gid": NOBODY, "groups": sorted(groups)}


def test_a_program_for_root_alone_says_so(service: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "direct.py").touch(mode=0o600)
    monkeypatch.setattr(direct, "__file__", str(tmp_path / "direct.py"))
    record_as_root(service)
    assert "may not read this program" in (service / "error").read_text()


def test_a_folder_that_was_configured_goes_before_the_service_s(service: Path, tmp_path: Path) -> None:
    assert direct.records_folder(str(tmp_path / "new"), {}) == tmp_path / "new"
    assert direct.records_folder(None, {"STATE_DIRECTORY": str(tmp_path)}) == tmp_path
    assert os.geteuid() == 0, "what is root's own needs nobody else's rights"


def test_nothing_is_written_without_a_yes(tmp_path: Path) -> None:
    configured(tmp_path, free_port())
    done = solarbridge(tmp_path, "write", "one", "limit", "80")
    assert done.returncode == 1
    assert "--yes" in done.stderr
    assert frames(tmp_path) == []


@pytest.mark.parametrize(
    ("typed", "status", "written"), [("yes\n", 0, ["limit 80"]), ("no\n", 1, []), ("\x04", 1, [])],
    ids=["yes", "no", "ctrl-d"],
)  # fmt: skip
def test_the_question_is_seen_where_the_result_goes_to_a_file(
    typed: str, status: int, written: list[str], tmp_path: Path
) -> None:
    configured(tmp_path, free_port())
    mine, theirs = os.openpty()
    command = [sys.executable, "-c", RUN, "write", "one", "limit", "80", "--direct"]
    process = subprocess.Popen(
        [*command, "--config", str(tmp_path / "bridge" / "config.yaml")], cwd=REPOSITORY, text=True,
        stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "STATE_DIRECTORY": str(tmp_path / "state")},
    )  # fmt: skip
    os.write(mine, typed.encode())
    output, said = process.communicate(timeout=60)
    os.close(mine)
    os.close(theirs)
    assert (process.returncode, frames(tmp_path)) == (status, written), said
    assert "one: set limit to 80? Type yes: " in said
    assert "Traceback" not in said
    assert output == "" or json.loads(output)["outcome"] == "done"


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("read", "tow"), 2, "there are one, two"),
        (("read", "one", "limits"), 1, "not there: limits; there are"),
        (("read", "one/part7"), 1, "one: no reading of 'part7' came; its units that answer: part0\n"),
        (("read", "two/part7"), 1, "its units that answer: none\n"),
        (("write", "two", "limit", "80", "--yes"), 1, ""),
    ],
)
def test_what_is_not_there_is_named(arguments: tuple[str, ...], status: int, words: str, tmp_path: Path) -> None:
    configured(tmp_path, free_port())
    done = solarbridge(tmp_path, *arguments, "--direct")
    assert done.returncode == status
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_device_that_cannot_be_reached_is_said_so(tmp_path: Path) -> None:
    configured(tmp_path, free_port())
    say(tmp_path, "one", "link")
    done = solarbridge(tmp_path, "read", "one", "--direct")
    assert (done.returncode, "the cable is out" in done.stderr) == (1, True)


def test_an_inverter_without_a_bridge_is_written_once_it_has_said_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "bridge").mkdir()
    with AxpertSimulator(model="max", baud=None) as simulator:
        device = {"name": "roof", "type": "axpert", "port": simulator.port, "writes": True}
        config = {"mqtt": {"host": "127.0.0.1", "port": free_port()}, "devices": [device]}
        (tmp_path / "bridge" / "config.yaml").write_text(json.dumps(config))
        done = solarbridge(tmp_path, "write", "roof", "input_voltage_range", "ups", "--yes", "--direct")
        assert json.loads(done.stdout)["outcome"] == "done", done.stderr
        assert simulator.setters == ["PGR01"]


def lxp(folder: Path, stick: LxpSimulator) -> None:
    """Configure the inverter behind a simulated stick."""
    (folder / "bridge").mkdir()
    host, port = stick.port.split(":")
    device = {"name": "house", "type": "lxp", "host": host, "port": int(port), "writes": True}
    device["allow"] = ["charge_rate_pct"]
    config = {"mqtt": {"host": "127.0.0.1", "port": free_port()}, "devices": [device]}
    (folder / "bridge" / "config.yaml").write_text(json.dumps(config))


def test_an_lxp_without_a_bridge_is_written_as_soon_as_its_settings_are_known(tmp_path: Path) -> None:
    with LxpSimulator(model="lxp12k") as stick:
        lxp(tmp_path, stick)
        done = solarbridge(tmp_path, "write", "house", "charge_rate_pct", "60", "--yes", "--direct")
    result = json.loads(done.stdout)
    assert (result["outcome"], result["read_back"]) == ("done", 60)
    assert result["duration"] < 15, "its next state comes after 30 s"


def test_a_link_that_breaks_behind_the_frame_leaves_nobody_in_doubt(tmp_path: Path) -> None:
    with LxpSimulator(model="lxp12k") as stick:
        lxp(tmp_path, stick)
        stick.lies.drop, stick.lies.times = "after", 1
        done = solarbridge(tmp_path, "write", "house", "charge_rate_pct", "60", "--yes", "--direct")
    result = json.loads(done.stdout)
    assert (result["outcome"], result["old"], result["read_back"], done.returncode) == ("done", 100, 60, 0)
    assert "interrupted behind the frame; read back afterwards" in result["reason"]


def test_a_link_that_does_not_come_back_leaves_the_outcome_unknown(tmp_path: Path) -> None:
    hurry = f"import bridge.tools.settings as s; s.WRITING = 8.0\n{RUN}"
    with LxpSimulator(model="lxp12k") as stick:
        lxp(tmp_path, stick)
        stick.lies.drop, stick.lies.times = "after", 1
        process = subprocess.Popen(
            [sys.executable, "-c", hurry, "write", "house", "charge_rate_pct", "60", "--yes", "--direct",
             "--config", str(tmp_path / "bridge" / "config.yaml")], cwd=REPOSITORY, stdout=subprocess.PIPE,
            env={**os.environ, "STATE_DIRECTORY": str(tmp_path / "state")}, text=True,
        )  # fmt: skip
        await_true(lambda: len(stick.truth.records()) > 0, 20, "it is connected")
        stick.faults.refuse = True
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert json.loads(output)["outcome"] == "unknown"


def test_an_inverter_without_a_bridge_is_read_to_the_end_of_its_round(tmp_path: Path) -> None:
    """It tells its state after each answer: the first one knows nothing of what is set yet."""
    (tmp_path / "bridge").mkdir()
    with AxpertSimulator(model="max", baud=None) as simulator:
        device = {"name": "roof", "type": "axpert", "port": simulator.port}
        config = {"mqtt": {"host": "127.0.0.1", "port": free_port()}, "devices": [device]}
        (tmp_path / "bridge" / "config.yaml").write_text(json.dumps(config))
        state = json.loads(solarbridge(tmp_path, "read", "roof", "--json", "--direct").stdout)["state"]
        assert state["mode"] is not None
        assert state["output_source_priority"] is not None, state


def test_a_stack_without_a_bridge_is_read_until_it_has_told_what_is_rarely_asked(tmp_path: Path) -> None:
    """It is asked for one of these in each round: who made it, its protection levels, the modules' versions."""
    (tmp_path / "bridge").mkdir()
    with PylontechSimulator(modules=3, baud=None) as stack:
        device = {"name": "batteries", "type": "pylontech", "port": stack.port}
        config = {"mqtt": {"host": "127.0.0.1", "port": free_port()}, "devices": [device]}
        (tmp_path / "bridge" / "config.yaml").write_text(json.dumps(config))
        found = json.loads(solarbridge(tmp_path, "read", "batteries", "--json", "--direct").stdout)
    root = found.pop("state")
    asked = ("modules_online", "alarm", "charge_current_limit", "manufacturer", "cell_under_voltage_protection")
    assert [key for key in asked if root[key] is None] == []
    assert len(found) == 3
    for state in found.values():
        told = ("serial", "cell_1_voltage", "cell_fault", "charge_enable", "mainline_version")
        assert [key for key in told if state[key] is None] == []
