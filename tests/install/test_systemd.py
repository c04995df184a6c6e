"""install.sh and uninstall.sh on a Linux with systemd: the whole life of an installation, from folders with spaces."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.harness import await_true
from tests.install.rig import (
    PATH,
    Image,
    assert_takes_relative_names,
    base_python,
    copy_sources,
    image,
    program,
    script,
    tree,
    wheels,
)
from tests.rights import NOBODY
from tests.shared import REPOSITORY

CONFIG = "etc/solarbridge/config.yaml"
ACCOUNTS = ("passwd", "shadow", "group", "gshadow", "subuid", "subgid")
ACCOUNT_FILES = {"etc/.pwd.lock"} | {f"etc/{name}{backup}" for name in ACCOUNTS for backup in ("", "-")}


@pytest.fixture
def system(tmp_path: Path) -> Iterator[Image]:
    for command in ("systemd-sysusers", "systemd-tmpfiles"):
        if shutil.which(command) is None:
            pytest.skip(f"{command} is not on this machine, which has no systemd")
    if subprocess.run(
        ["/usr/bin/python3", "-c", "import venv, ensurepip"], check=False, capture_output=True
    ).returncode:
        pytest.skip("the system's own Python has no venv")
    with image(tmp_path / "image") as made:
        copy_sources(made.root / "home/some one/solar bridge")
        shutil.copytree(program(), made.root / "opt/solarbridge", symlinks=True)
        shutil.copytree(wheels(), made.root / "home/some one/solar bridge/wheels")
        yield made


def owner(system: Image, path: str) -> str:
    return system.run("stat", "-c", "%U:%G %a", f"/{path}").stdout.strip()


def accounts(system: Image) -> str:
    return "".join(sorted((system.root / "etc" / name).read_text() for name in ("passwd", "group")))


def test_t20_an_installation_is_made_repeated_upgraded_and_leaves_without_a_trace(system: Image) -> None:
    folder = "/home/some one/solar bridge"
    before, accounts_before = system.written(), accounts(system)
    install = (f"{folder}/install.sh", "--system", "systemd")

    shown = system.run(*install, "--dry-run").stdout
    assert "would: write /etc/systemd/system/solarbridge.service" in shown
    assert system.written() == before, "a dry run wrote"

    system.run(*install, "--log-size", "20")
    written = system.written() - before
    assert_installed(system)
    assert {path.split("/")[0] for path in written} <= {"opt", "etc", "usr", "var"}
    assert not [path for path in written if path.startswith(("root/", "tmp/", "var/tmp/"))], "left something behind"

    assert_chosen(system, *install)
    config = system.root / CONFIG
    config.write_text(config.read_text().replace("host: localhost", "host: broker.lan"))
    state = tree(system.changes)
    assert "Nothing to do" in system.run(*install).stdout
    assert tree(system.changes) == state, "a second run changed something"

    old = (system.root / "opt/solarbridge/current").readlink()
    with (system.root / "home/some one/solar bridge/bridge/backoff.py").open("a") as file:
        file.write("\n# a new version\n")
    system.run(*install)
    assert (system.root / "opt/solarbridge/current").readlink() != old
    assert not (system.root / "opt/solarbridge" / old).exists(), "the old version stayed"
    assert "broker.lan" in config.read_text(), "the configuration was overwritten"
    assert "size=20M" in (system.root / "etc/systemd/system/var-log-solarbridge.mount").read_text()

    system.run(f"{folder}/uninstall.sh", "--system", "systemd")
    left = system.written() - before - ACCOUNT_FILES - {"home/some one/solar bridge/bridge/backoff.py"}
    assert left == {CONFIG}
    system.run(f"{folder}/uninstall.sh", "--system", "systemd", "--purge")
    left = system.written() - before - ACCOUNT_FILES - {"home/some one/solar bridge/bridge/backoff.py"}
    assert left == set()
    assert accounts(system) == accounts_before


def assert_chosen(system: Image, *install: str) -> None:
    """--choose opens the configuration in the editor, here one that writes a line, and checks it."""
    editor = system.root / "home/some one/editor"
    editor.write_text('#!/bin/sh\necho "# edited" >>"$1"\n')
    editor.chmod(0o755)
    terminal, end = os.openpty()
    try:
        os.write(terminal, b"no\n")  # to the question whether ports may be asked, where this machine has some
        system.run(*install, "--choose", environ={"EDITOR": "/home/some one/editor"}, stdin=end)
    finally:
        os.close(terminal)
        os.close(end)
    editor.unlink()
    assert (system.root / CONFIG).read_text().endswith("# edited\n")


def test_without_systemd_it_runs_under_the_restart_wrapper_as_its_own_user(system: Image) -> None:
    folder, before, accounts_before = "/home/some one/solar bridge", system.written(), accounts(system)
    shown = system.run(f"{folder}/install.sh", "--system", "plain").stdout
    assert "restart.sh" in shown
    assert owner(system, CONFIG) == "root:solarbridge 640"
    for path in ("var/lib/solarbridge", "var/log/solarbridge"):
        assert owner(system, path) == "solarbridge:solarbridge 700"
    assert "Nothing to do" in system.run(f"{folder}/install.sh", "--system", "plain").stdout
    (system.root / CONFIG).write_text("mqtt: {}\n")
    wrapped = ("/opt/solarbridge/restart.sh", "/opt/solarbridge/current/bin/solarbridge", "run")
    said = system.run(*wrapped, user="solarbridge", status=2).stderr
    assert "config.yaml:1: mqtt.host: missing" in said
    assert "the configuration is wrong" in said
    system.run(f"{folder}/uninstall.sh", "--system", "plain", "--purge")
    assert system.written() - before - ACCOUNT_FILES == set()
    assert accounts(system) == accounts_before


SLOW = """#!/bin/sh
trap 'sleep 2; exit 0' TERM
: >/tmp/runs
while :; do sleep 0.1; done
"""
"""A program that takes its time to end, as the bridge does until the broker has its last words."""


def test_without_systemd_what_still_runs_has_ended_before_its_user_is_removed(tmp_path: Path) -> None:
    with image(tmp_path / "image") as system:
        copy_sources(system.root / "home/sources")
        accounts_before = accounts(system)
        system.run("groupadd", "--system", "solarbridge-hid")
        system.run("useradd", "--system", "--user-group", "--groups", "solarbridge-hid", "solarbridge")
        folder = system.root / "opt/solarbridge"
        folder.mkdir(parents=True)
        shutil.copy(REPOSITORY / "systemd/restart.sh", folder)
        (folder / "slow").write_text(SLOW)
        (folder / "slow").chmod(0o755)
        with ThreadPoolExecutor() as pool:
            wrapped = ("/opt/solarbridge/restart.sh", "/opt/solarbridge/slow")
            running = pool.submit(system.run, *wrapped, user="solarbridge")
            await_true((system.root / "tmp/runs").exists, 10, "it runs")
            done = system.run("/home/sources/uninstall.sh", "--system", "plain", "--purge")
            running.result(10)
        assert done.stderr == ""
        assert accounts(system) == accounts_before


def assert_installed(system: Image) -> None:
    assert owner(system, "etc/solarbridge") == "root:solarbridge 750"
    assert owner(system, CONFIG) == "root:solarbridge 640"
    groups = system.run("id", "-nG", "solarbridge").stdout.split()
    assert set(groups) == {"solarbridge", "dialout", "solarbridge-hid"}
    assert "size=20M" in (system.root / "etc/systemd/system/var-log-solarbridge.mount").read_text()
    # the program, as the service's user runs it and by the name a person types
    version = system.run("solarbridge", "--version").stdout
    assert version.startswith("solarbridge ")
    shown = system.run("/opt/solarbridge/current/bin/solarbridge", "check", user="solarbridge").stdout
    assert "directory: /var/log/solarbridge" in shown
    assert "max_megabytes: 16" in shown
    refused = system.run("/opt/solarbridge/current/bin/solarbridge", "check", user="nobody", status=2).stderr
    assert "no right to read" in refused
    program = system.root / "opt/solarbridge"
    for path in program.rglob("*"):
        status = path.lstat()
        assert status.st_uid == 0
        assert path.is_symlink() or not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH), f"{path} can be changed"
    assert not list(program.rglob("pip*")), "an installation that can download at run time"
    system.run("systemd-analyze", "verify", "solarbridge.service", "var-log-solarbridge.mount")


def test_an_installation_into_another_root_touches_nothing_outside_and_runs_from_there(tmp_path: Path) -> None:
    sources = copy_sources(tmp_path / "the sources")
    root = tmp_path / "an image's root"
    root.mkdir()
    arguments = ("--root", root, "--offline", wheels(), "--python", base_python())
    outside = {path: path.exists() for path in map(Path, ("/etc/solarbridge", "/opt/solarbridge", "/data"))}
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    home.mkdir()
    temporary.mkdir()
    script(sources / "install.sh", *arguments, environ={"HOME": str(home), "TMPDIR": str(temporary), "PATH": PATH})
    assert {path: path.exists() for path in outside} == outside
    assert not [*home.iterdir(), *temporary.iterdir()], "something was left behind"
    assert not (root / "opt/solarbridge/restart-needed").exists(), "nothing runs there"
    assert str(root) not in (root / "etc/systemd/system/solarbridge.service").read_text()
    program = root / "opt/solarbridge/current/bin/solarbridge"
    assert script(program, "check", "-c", root / CONFIG).stdout.startswith("mqtt:")
    assert_takes_relative_names(program, tmp_path / "somebody's files")
    state = tree(root)
    script(sources / "install.sh", *arguments)
    assert tree(root) == state
    script(sources / "uninstall.sh", "--root", root, "--purge")
    assert not [path for path in root.rglob("*") if not path.is_dir()]


def test_an_image_that_has_booted_before_will_look_for_the_new_user(tmp_path: Path) -> None:
    sources, root = copy_sources(tmp_path / "sources"), tmp_path / "an image"
    for folder in ("usr", "etc"):
        (root / folder).mkdir(parents=True)
    install = (sources / "install.sh", "--root", root, "--python", base_python(), "--dry-run")
    touched = f"would: touch -- {root}/usr\n"
    assert touched not in script(*install).stdout, "it looks at its first boot anyway"
    looked = (root / "usr").stat()
    (root / "etc/.updated").write_text("")
    os.utime(root / "etc/.updated", ns=(looked.st_atime_ns, looked.st_mtime_ns))  # as systemd notes that it has looked
    assert touched in script(*install).stdout
    os.utime(root / "usr")
    assert touched not in script(*install).stdout
    os.utime(root / "usr", ns=(looked.st_atime_ns, looked.st_mtime_ns))
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nsolarbridge:x:990:990::/var/lib/solarbridge:\n")
    assert touched not in script(*install).stdout, "the user is there"


def test_a_dry_run_without_rights_does_not_say_that_the_configuration_is_replaced() -> None:
    with tempfile.TemporaryDirectory(prefix="solarbridge-dry-", dir="/tmp") as place:  # which such a user can reach
        folder = Path(place)
        folder.chmod(0o755)
        sources, root = copy_sources(folder / "sources"), folder / "root"
        (root / CONFIG).parent.mkdir(parents=True, mode=0o750)
        (root / CONFIG).write_text("mqtt: {host: broker.lan}\n")
        is_root = os.geteuid() == 0
        (root / CONFIG).parent.chmod(0o750 if is_root else 0)  # who is not root may not look into his own
        done = subprocess.run(
            [str(sources / "install.sh"), "--dry-run", "--root", str(root), "--python", "/usr/bin/python3"],
            capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL, cwd="/",
            **({"user": NOBODY, "group": NOBODY, "extra_groups": []} if is_root else {}),
        )  # fmt: skip
        (root / CONFIG).parent.chmod(0o750)
    assert done.returncode == 0, done.stderr
    assert "would: write" in done.stdout
    assert "config.yaml" not in done.stdout


def test_a_mistaken_call_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    root = tmp_path / "empty root"
    root.mkdir()
    sources = copy_sources(tmp_path / "sources")
    for arguments, words in (
        (["--log-size", "0"], "--log-size"),
        (["--log-size", "12; rm"], "--log-size"),
        (["--log-size"], "needs a value"),
        (["--offline", "/nonexistent"], "not a folder"),
        (["--system", "windows"], "none of systemd, venus, plain"),
        (["--python", "/bin/false"], "not Python 3.11"),
        (["--choose"], "needs a terminal"),
        (["--frobnicate"], "usage:"),
    ):
        done = script(sources / "install.sh", "--root", root, *arguments, status=1)
        assert words in done.stderr, arguments
    assert not list(root.iterdir())


def test_a_missing_venv_module_is_named_with_the_line_to_type(tmp_path: Path) -> None:
    """A Python without venv cannot be had here, so one is acted by a script."""
    python = tmp_path / "python3"
    python.write_text(f'#!/bin/sh\ncase $2 in *"import venv"*) exit 1;; esac\nexec "{base_python()}" "$@"\n')
    python.chmod(0o755)
    root = tmp_path / "root"
    root.mkdir()
    done = script(
        copy_sources(tmp_path / "sources") / "install.sh", "--root", root, "--python", python, status=1
    )  # fmt: skip
    assert "sudo apt-get update && sudo apt-get install -y --no-install-recommends python3." in done.stderr
    assert not list(root.iterdir())
