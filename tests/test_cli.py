"""What the command line adds to the configuration's own checks: whether the service may read it."""

from __future__ import annotations

import argparse
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge import cli
from tests.rights import NOBODY
from tests.shared import REPOSITORY


@pytest.fixture
def etc() -> Iterator[Path]:
    """A folder as /etc/solarbridge, with a password; the service is user nobody."""
    if os.geteuid() != 0:
        pytest.skip("only root may read what the service may not")
    folder = Path(tempfile.mkdtemp(prefix="solarbridge-etc-", dir="/tmp"))  # which a user without rights can reach
    folder.chmod(0o750)
    os.chown(folder, 0, NOBODY)
    (folder / "mqtt-password").write_text("secret\n")
    (folder / "config.yaml").write_text(
        "mqtt: {host: broker.lan, username: bridge, password_file: mqtt-password}\n"
        "devices: [{name: roof, type: axpert, port: hid}]\n"
    )
    os.chown(folder / "config.yaml", 0, NOBODY)
    (folder / "config.yaml").chmod(0o640)
    yield folder
    shutil.rmtree(folder)


def check(folder: Path, user: str = pwd.getpwuid(NOBODY).pw_name) -> subprocess.CompletedProcess[str]:
    """Check the service's configuration, which is in `folder`, as root."""
    code = (f"import sys; from bridge import cli; cli.DEFAULT_CONFIG = {str(folder / 'config.yaml')!r}; "
            f"cli.SERVICE_USER = {user!r}; sys.exit(cli.main(['check']))")  # fmt: skip
    return subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False
    )  # fmt: skip


def test_a_password_that_root_alone_may_read_is_found_before_the_service_stumbles_over_it(etc: Path) -> None:
    password = etc / "mqtt-password"
    password.chmod(0o644)
    done = check(etc)
    assert (done.returncode, done.stderr) == (0, f"warning: {password} can be read by everyone; chmod 640 it\n")
    password.chmod(0o640)  # as it says, and it is still root's alone
    done = check(etc)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"config.yaml:1: mqtt.password_file: no right to read {password}\n" in done.stderr
    assert "chgrp nobody the file, and chmod 640 it" in done.stderr
    os.chown(password, 0, NOBODY)
    done = check(etc)
    assert (done.returncode, done.stderr) == (0, "")
    assert "host: broker.lan" in done.stdout


def test_where_the_service_has_no_user_of_its_own_root_s_word_counts(etc: Path) -> None:
    assert check(etc, "solarbridge-is-not-here").returncode == 0


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_seen_enough_gets_no_traceback(unbuffered: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "bridge", "check", "--config", "config.example.yaml"], cwd=REPOSITORY, check=False,
        stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, ""), "as any program that head or grep -q ends"


def test_a_terminal_that_lacks_a_character_is_shown_its_number(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("mqtt: {host: localhost}\ndevices: [{name: Dach ☀, type: axpert, port: hid}]\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "bridge", "check", "--config", str(config)], cwd=REPOSITORY, check=False,
        capture_output=True, timeout=60, env={**os.environ, "PYTHONIOENCODING": "latin-1"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"Dach \\u2600" in done.stdout


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("read house --json soc", {"device": "house", "names": ["soc"], "json": True}),
        ("read -c a.yaml house soc v_bat --direct", {"names": ["soc", "v_bat"], "direct": True, "config": "a.yaml"}),
        ("read house", {"names": [], "json": False}),
        ("forget batteries --config a.yaml PPTSIM01", {"device": "batteries", "unit": "PPTSIM01", "config": "a.yaml"}),
        ("forget batteries", {"unit": None}),
        ("write house --yes limit -5 --direct", {"setting": "limit", "value": "-5", "yes": True, "direct": True}),
        ("scan --probe /dev/a /dev/b --yes", {"probe": ["/dev/a", "/dev/b"], "yes": True}),
    ],
)
def test_options_may_stand_between_the_words(line: str, expected: dict[str, object]) -> None:
    seen: list[argparse.Namespace] = []
    name, *rest = line.split()

    def note(arguments: argparse.Namespace) -> int:
        seen.append(arguments)
        return 0

    command = cli.COMMANDS[name]._replace(carry_out=note)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(cli.COMMANDS, name, command)
        assert cli.main([name, *rest]) == 0
    assert {key: getattr(seen[0], key) for key in expected} == expected
