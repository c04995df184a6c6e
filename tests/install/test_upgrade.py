"""An upgrade beneath a bridge that runs: it goes on running, from a folder that is there, until the new one does.

The bridges are real. systemd and Venus OS' supervisor are acted by scripts that start and end them.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.harness import PATIENCE, await_true
from tests.install.rig import Image, copy_sources, image, program, wheels

FOLDER = "/home/some one/solar bridge"
APP = "opt/solarbridge"
VENUS = "data/apps/solarbridge"
MARK = "restart-needed"

SYSTEMCTL = """#!/bin/sh
# systemctl of a systemd that knows one mount and one service
echo "$*" >>/run/calls
units=/etc/systemd/system
log=/var/log/solarbridge
case $* in
daemon-reload) [ ! -e /run/fails ] ;;
*is-active*) mountpoint -q $log ;;
reload*) mount -o "remount,$(sed -n 's/.*\\(size=[0-9]*M\\).*/\\1/p' $units/var-log-solarbridge.mount)" $log ;;
try-restart* | restart*)
    if [ -e /run/pid ]; then kill "$(cat /run/pid)"; elif [ "$1" = try-restart ]; then exit 0; fi
    : >/run/output
    STATE_DIRECTORY=/var/lib/solarbridge $(sed -n 's/^ExecStart=//p' $units/solarbridge.service) >>/run/output 2>&1 &
    echo $! >/run/pid
    # as Type=notify: until it is ready, or has ended
    while kill -0 $! && ! grep -q 'solarbridge 0' /run/output; do sleep 0.1; done 2>/dev/null
    kill -0 $! 2>/dev/null
    ;;
esac
"""

SVC = """#!/bin/sh
# svc -t: the supervisor ends the service, which takes a moment, and starts it again
(sleep 1; kill "$(cat /run/pid)"; /service/solarbridge/run >/run/output 2>&1 & echo $! >/run/pid) >/dev/null 2>&1 &
"""

CONFIG = "mqtt: {host: 127.0.0.1, port: 1}\ndevices: [{name: a, type: pylontech, port: /dev/ttyUSB-none}]\n"
LOGGING = "logging: {directory: /var/log/solarbridge, max_megabytes: 16}\n"


class Upgraded:
    """An image with an installation, and what is looked at in it."""

    def __init__(self, system: Image, kind: str) -> None:
        self.system = system
        self.kind = kind
        self.app = system.root / (VENUS if kind == "venus" else APP)
        self.install()
        self.config = system.root / ("data/conf/solarbridge" if kind == "venus" else "etc/solarbridge") / "config.yaml"
        self.config.write_text(CONFIG + ("" if kind == "venus" else LOGGING))

    def install(self, *more: str, status: int = 0) -> str:
        done = self.system.run(f"{FOLDER}/install.sh", "--system", self.kind, *more, status=status)
        return done.stdout + done.stderr

    def new_version(self, name: str = "backoff", text: str = "# a new version") -> None:
        with (self.system.root / FOLDER[1:] / f"bridge/{name}.py").open("a") as file:
            file.write(f"\n{text}\n")

    def current(self) -> Path:
        return self.app / (self.app / "current").readlink()

    def release(self) -> str:
        return self.current().name

    def releases(self) -> list[str]:
        return sorted(path.name for path in self.app.glob("[0-9]*-*"))

    def pid(self) -> int:
        return int((self.system.root / "run/pid").read_text())

    def runs(self) -> str:
        """Return the folder from which the bridge loads what it is made of, "" when it does not run."""
        with suppress(OSError):
            made_of = (Path(f"/proc/{self.pid()}") / "cmdline").read_bytes()
            made_of += (Path(f"/proc/{self.pid()}") / "environ").read_bytes()
            found = re.search(rb"^(?:PYTHONPATH=)?/[a-z/]+solarbridge/([\w.-]+)/(?:lib|bin/python)$",
                              made_of.replace(b"\0", b"\n"), re.MULTILINE)  # fmt: skip
            return found[1].decode() if found else ""
        return ""

    def start(self, command: str, environ: str = "") -> int:
        """Start a command in the image as a person would, in the background."""
        shown = self.system.run("sh", "-c", f"{environ} {command} >>/run/output 2>&1 & echo $!")
        return int(shown.stdout)

    def calls(self) -> list[str]:
        path = self.system.root / "run/calls"
        calls = path.read_text().splitlines()
        path.write_text("")
        return calls

    def acted(self, name: str, text: str) -> None:
        path = self.system.root / "usr/local/bin" / name
        path.write_text(text)
        path.chmod(0o755)


@contextmanager
def installed(folder: Path, kind: str) -> Iterator[Upgraded]:
    if subprocess.run(
        ["/usr/bin/python3", "-c", "import venv, ensurepip"], check=False, capture_output=True
    ).returncode:
        pytest.skip("the system's own Python has no venv")
    with image(folder / "image") as system:
        copy_sources(system.root / FOLDER[1:])
        shutil.copytree(wheels(), system.root / FOLDER[1:] / "wheels")
        if kind == "venus":
            (system.root / "opt/victronenergy").mkdir()
            (system.root / "opt/victronenergy/version").write_text("v3.60\n")
        else:
            shutil.copytree(program(), system.root / APP, symlinks=True)
        try:
            yield Upgraded(system, kind)
        finally:
            ended(system)


def ended(system: Image) -> None:
    """End what runs in the image: the supervisors first, which would start a bridge again."""
    for word in (b"restart.sh", b"bridge"):
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                inside = (process / "root").stat().st_dev == system.root.stat().st_dev
                if inside and word in (process / "cmdline").read_bytes():
                    os.kill(int(process.name), signal.SIGKILL)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Upgraded]:
    """A bridge that systemd runs."""
    for command in ("systemd-sysusers", "systemd-tmpfiles"):
        if shutil.which(command) is None:
            pytest.skip(f"{command} is not on this machine, which has no systemd")
    with installed(tmp_path, "systemd") as house:
        house.acted("systemctl", SYSTEMCTL)
        (house.system.root / "run/systemd/system").mkdir(parents=True)
        house.system.run("mkdir", "-p", "/var/log/solarbridge", "/var/lib/solarbridge")
        house.system.run("mount", "-t", "tmpfs", "-o", "size=50M", "tmpfs", "/var/log/solarbridge")
        house.system.run("systemctl", "restart", "solarbridge.service")
        assert house.runs() == house.release()
        house.calls()
        yield house


def test_an_upgrade_cut_short_leaves_what_runs_and_is_finished_by_the_next(house: Upgraded) -> None:
    before, pid = house.release(), house.pid()
    house.new_version()
    (house.system.root / "run/fails").touch()
    house.install(status=1)
    assert house.calls() == ["daemon-reload"]
    assert (house.pid(), house.runs()) == (pid, before), "it loads modules of the new version, or ended"
    assert before in house.releases(), "what runs was removed"
    (house.system.root / "run/fails").unlink()

    assert "would: systemctl try-restart solarbridge.service" in house.install("--dry-run")
    assert "Up to date" in house.install()
    assert [call for call in house.calls() if "active" not in call] == [
        "daemon-reload", "reload var-log-solarbridge.mount", "try-restart solarbridge.service",
    ]  # fmt: skip
    assert house.release() != before
    assert house.runs() == house.release()
    assert house.releases() == [house.release()]
    assert not (house.app / MARK).exists()
    assert "Nothing to do" in house.install()
    assert house.calls() == []


def test_a_log_that_cannot_be_made_smaller_is_told_and_stops_nothing(house: Upgraded) -> None:
    (house.system.root / "var/log/solarbridge/solarbridge.log.1").write_bytes(bytes(8 << 20))
    house.new_version()
    said = house.install("--log-size", "5")
    assert "keeps the size it has until this machine starts again" in said
    assert "set logging.max_megabytes to 4 in /etc/solarbridge/config.yaml" in said
    assert "try-restart solarbridge.service" in house.calls()
    assert house.runs() == house.release()
    house.config.write_text(CONFIG + LOGGING.replace("16", "4"))
    assert "max_megabytes" not in house.install()


def test_a_new_version_that_does_not_start_makes_room_for_the_one_before(house: Upgraded) -> None:
    before = house.release()
    house.new_version("app", "raise RuntimeError('a new fault')")
    assert "The version before runs again" in house.install(status=1)
    assert (house.release(), house.runs()) == (before, before)
    house.new_version("app", "# a second one, and mended")
    path = house.system.root / FOLDER[1:] / "bridge/app.py"
    path.write_text(path.read_text().replace("raise RuntimeError('a new fault')", ""))
    house.install()
    assert house.runs() == house.release() != before
    assert house.releases() == [house.release()]


def test_a_new_version_that_refuses_the_configuration_is_not_switched_to(house: Upgraded) -> None:
    before, pid = house.release(), house.pid()
    path = house.system.root / FOLDER[1:] / "bridge/config.py"
    path.write_text(path.read_text().replace("max_megabytes", "max_size"))
    said = house.install(status=1)
    assert "logging.max_megabytes: unknown key" in said
    assert "goes on running" in said
    assert (house.release(), house.pid(), house.runs()) == (before, pid, before)
    assert house.calls() == []
    house.config.write_text(CONFIG)
    house.install()
    assert house.runs() == house.release() != before


def test_without_systemd_what_restart_sh_runs_is_started_again_from_the_new_folder(tmp_path: Path) -> None:
    with installed(tmp_path, "plain") as house:
        before = house.release()
        wrapper = house.start(f"/{APP}/restart.sh /{APP}/current/bin/solarbridge run", "RESTART_DELAY_MS=100")

        def child() -> bool:
            shown = Path(f"/proc/{wrapper}/task/{wrapper}/children").read_text().split()
            (house.system.root / "run/pid").write_text(shown[0] if shown else "0")
            return bool(house.runs())

        await_true(child, 20 * PATIENCE, "the bridge runs")
        assert house.runs() == before
        house.new_version()
        said = house.install()
        assert "restart.sh starts the new version" in said
        assert "Up to date" in said
        assert house.releases() == [house.release()] != [before]
        await_true(child, 20 * PATIENCE, "the bridge runs again")
        assert house.runs() == house.release()


def test_what_a_person_started_by_hand_is_left_alone_and_keeps_its_folder(tmp_path: Path) -> None:
    with installed(tmp_path, "plain") as house:
        before = house.release()
        pid = house.start(f"/{APP}/current/bin/solarbridge run")
        (house.system.root / "run/pid").write_text(str(pid))
        await_true(lambda: house.runs() == before, 20 * PATIENCE, "the bridge runs")
        house.new_version()
        said = house.install()
        assert f"the version before still runs (process {pid})" in said
        assert "Restart it, then run this again" in said
        assert house.runs() == before
        assert before in house.releases()
        os.kill(pid, signal.SIGTERM)
        house.install()
        assert house.releases() == [house.release()]


def test_on_venus_os_the_folder_stays_until_the_supervisor_has_ended_what_ran(tmp_path: Path) -> None:
    with installed(tmp_path, "venus") as house:
        house.acted("svc", "#!/bin/sh\nexit 111\n")
        house.system.run("mkdir", "/service")
        house.system.run(f"/{VENUS}/boot.sh")
        (house.system.root / "run/pid").write_text(str(house.start("/service/solarbridge/run")))
        before = house.release()
        await_true(lambda: house.runs() == before, 20 * PATIENCE, "the bridge runs")
        house.new_version()
        house.install(status=111)
        assert house.runs() == before
        assert before in house.releases()
        house.acted("svc", SVC)
        assert "Up to date" in house.install()
        await_true(lambda: house.runs() == house.release(), 20 * PATIENCE, "the bridge runs again")
        assert house.releases() == [house.release()] != [before]
        assert not (house.app / MARK).exists()
