"""Rows A2 (a long outage), A6, A7 and A9: a broker that says no, or not for long, is not hammered."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
import subprocess
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.fake_slice import PRELUDE
from tests.faults.rig import BASE, NETWORK_RECOVERY, at_once, configuration, house, pause
from tests.harness import Bridge, Manager, Mosquitto, Proxy, Stopwatch, await_true

WATCH = 12.0
"""Seconds over which attempts are counted."""

PASSWORD = "wrong-and-planted-73"


@dataclass
class Pace:
    """What was seen of the attempts to connect."""

    attempts: list[float] = field(default_factory=list)
    log: str = ""
    more: dict[str, Any] = field(default_factory=dict)


def watch_an_outage(folder: Path) -> Pace:
    with house(folder) as site:
        site.await_up()
        site.broker.stop(signal.SIGKILL)  # the proxy goes on and takes connections, as a port forwarder does
        pace = Pace([time.monotonic()])
        pause(WATCH)
        site.broker.start()
        back = Stopwatch(site.bridge.pid)
        pace.more["recovery"] = back.seconds(site.await_state("one", back.began, NETWORK_RECOVERY).at)
        pace.attempts += [at for at in site.proxy.accepted if at > pace.attempts[0]]
        await_true(lambda: site.bridge.log().count("connected to") == 2, 5, "the line about it")
        pace.log = site.bridge.log()
        return pace


def watch_a_refused_login(folder: Path, protocol: int | str) -> Pace:
    folder.mkdir()
    passwords = folder / "passwords"
    tool = shutil.which("mosquitto_passwd")
    assert tool is not None, "mosquitto_passwd comes with mosquitto"
    subprocess.run([tool, "-b", "-c", str(passwords), "bridge", "right"], check=True)
    passwords.chmod(0o644)
    manager = Manager(folder / "notify")
    with ExitStack() as stack:
        stack.callback(manager.close)
        broker = stack.enter_context(Mosquitto(folder / "broker", f"password_file {passwords}"))
        proxy = stack.enter_context(Proxy(broker.port))
        mqtt = {"username": "bridge", "password": PASSWORD, "protocol": protocol}
        config = configuration(folder, proxy.port, {"one": {}}, mqtt)
        bridge = Bridge(folder / "bridge", config, {"NOTIFY_SOCKET": manager.path}, prelude=PRELUDE)
        stack.enter_context(bridge)
        await_true(lambda: proxy.accepted, 10, "the first attempt")
        pause(WATCH)
        return Pace(list(proxy.accepted), bridge.log(), {"status": [x for x in manager.lines if "STATUS" in x]})


def watch_twins(folder: Path, protocol: int | str) -> Pace:
    with house(folder, mqtt={"client_id": "twin", "protocol": protocol}) as site, ExitStack() as stack:
        site.await_up()
        began = time.monotonic()
        options = {"client_id": "twin", "protocol": protocol, "base_topic": "other"}
        config = configuration(folder, site.proxy.port, {"two": {}}, options)
        twin = stack.enter_context(Bridge(folder / "twin", config, prelude=PRELUDE))
        await_true(lambda: [at for at in site.proxy.accepted if at >= began], 10, "the twin connects")
        pause(WATCH)
        return Pace([at for at in site.proxy.accepted if at >= began], site.bridge.log() + twin.log())


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Future[Pace]]:
    """The rows about the pace of attempts, side by side: they have nothing to do but wait."""
    folder = tmp_path_factory.mktemp("pace")
    with ThreadPoolExecutor(5) as pool:
        return {
            "outage": pool.submit(watch_an_outage, _made(folder / "outage")),
            "login 5": pool.submit(watch_a_refused_login, folder / "login5", 5),
            "login 3.1.1": pool.submit(watch_a_refused_login, folder / "login3", "3.1.1"),
            "twins 5": pool.submit(watch_twins, _made(folder / "twins5"), 5),
            "twins 3.1.1": pool.submit(watch_twins, _made(folder / "twins3"), "3.1.1"),
        }


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_a2_after_a_long_outage_the_pauses_stay_below_the_promised_recovery(watched: dict[str, Future[Pace]]) -> None:
    """Instead of ten minutes: every attempt is seen, and none is more than 5 s after the one before."""
    pace = watched["outage"].result()
    gaps = [later - earlier for earlier, later in itertools.pairwise(pace.attempts)]
    assert 3 <= len(gaps) <= 12, "not a tight loop, and not a growing pause"
    assert max(gaps) <= NETWORK_RECOVERY
    assert pace.more["recovery"] <= NETWORK_RECOVERY
    assert pace.log.rstrip().endswith("MQTT 5"), "fell back to 3.1.1 for a broker that was only away"
    assert pace.log.count("next attempt") <= 3, "the same news at every attempt"


def pause_told(line: str) -> int:
    """Return the seconds after which the log says that it is tried again."""
    return int(line.partition("next attempt in ")[2].split()[0])


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a6_a_refused_login_is_said_once_and_tried_slowly(watched: dict[str, Future[Pace]], protocol: str) -> None:
    pace = watched[f"login {protocol}"].result()
    assert 1 <= len(pace.attempts) <= 2, f"{len(pace.attempts)} attempts in {WATCH} s"
    refused = [line for line in pace.log.splitlines() if "refuses our login" in line]
    assert len(refused) == 1
    assert "ERROR" in refused[0]
    assert pause_told(refused[0]) >= 10, "more than 6 attempts a minute"
    assert pace.more["status"][-1].startswith("STATUS=1 of 1 devices online, broker not connected")
    assert PASSWORD not in pace.log


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a7_two_bridges_with_one_client_id_do_not_throw_each_other_out_for_ever(
    watched: dict[str, Future[Pace]], protocol: str
) -> None:
    pace = watched[f"twins {protocol}"].result()
    assert len(pace.attempts) <= 16, f"{len(pace.attempts)} connections in {WATCH} s"
    late = [at for at in pace.attempts if at > pace.attempts[0] + WATCH - 4]
    assert len(late) <= 2, "they are still at it"
    loud = [line for line in pace.log.splitlines() if "client id" in line and "ERROR" in line]
    assert loud, "nobody says what is going on"
    assert len(loud) <= 4, "the same news again and again"
    assert min(map(pause_told, loud)) >= 10, "they go on throwing each other out"


def test_a6_topics_that_an_access_list_forbids_are_named_once(tmp_path: Path) -> None:
    rights = tmp_path / "acl"
    rights.write_text(f"topic readwrite {BASE}/status\ntopic write {BASE}/info\ntopic write {BASE}/health\n"
                      f"topic read {BASE}/#\ntopic write {BASE}/two/#\n")  # fmt: skip
    rights.chmod(0o644)
    with house(tmp_path, {"one": {}, "two": {}}, broker_lines=f"allow_anonymous true\nacl_file {rights}") as site:
        site.await_log("one/availability: the broker does not take our message there")
        site.recorder.wait(f"{BASE}/two/state")
        with site.keeps_rate("two"):
            pause(1)
        assert site.recorder.on(f"{BASE}/one/state") == []
        lines = [line for line in site.bridge.log().splitlines() if "does not take our message" in line]
        denied = [line.partition("ERROR")[2].strip().partition(":")[0] for line in lines]
        assert len(denied) == len(set(denied)) <= 3, denied
        health = site.recorder.wait(f"{BASE}/health", seconds=5)
        assert f"{BASE}/one/availability" in json.loads(health.payload)["mqtt"]["denied"]
        assert len(site.proxy.accepted) == 1


def test_a9_a_message_that_is_too_large_is_not_sent_for_ever(tmp_path: Path) -> None:
    cases = itertools.product(("max_packet_size", "message_size_limit"), (5, "3.1.1"))
    at_once(*(partial(too_large, _made(tmp_path / f"{limit}-{version}"), limit, version) for limit, version in cases))


def too_large(tmp_path: Path, limit: str, protocol: int | str) -> None:
    devices = {"one": {}, "big": {"padding": 9000}}
    lines = f"allow_anonymous true\n{limit} 6000"
    with house(tmp_path, devices, mqtt={"protocol": protocol}, broker_lines=lines) as site:
        site.recorder.wait(f"{BASE}/one/state")
        if limit == "max_packet_size":  # at the other one mosquitto drops it without a word
            site.await_log(f"{BASE}/big/state: ", 8)
        connections = len(site.proxy.accepted)
        assert connections <= 3
        settled = time.monotonic()
        first = site.await_state("one", settled, 5)
        with site.keeps_rate("one"):
            pause(1.5)
        seen = site.seen("one", first.made)
        assert len(seen) > 10, "the other device's messages do not come through"
        assert len(site.proxy.accepted) == connections, "one connection after the other"
        assert site.recorder.on(f"{BASE}/big/state") == []
        assert site.bridge.log().count("big/state") <= 1
