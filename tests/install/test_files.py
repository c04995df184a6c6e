"""The files an installation is made of, as text and as systemd and shellcheck see them.

No docker engine is at hand here, so Dockerfile and compose.yaml are only read: that their sources exist, that nothing
in them runs as root, and that they take packages as install.sh does.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.tools.scan_ports import NAMES
from tests.shared import REPOSITORY

SYSTEMD = REPOSITORY / "systemd"
UNIT = SYSTEMD / "solarbridge.service"
SCRIPTS = ["install.sh", "uninstall.sh", "systemd/common.sh", "systemd/packages.sh", "systemd/restart.sh",
           "systemd/solarbridge.sh", "systemd/venus/run", "systemd/venus/log-run", "systemd/venus/boot.sh"]  # fmt: skip


def settings(path: Path) -> dict[str, list[str]]:
    """Return what a unit file sets: key -> its values in order."""
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


# -- T11: the service


def test_t11_systemd_finds_the_service_exposed_at_most_2_0() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not on this machine, which has no systemd")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(UNIT)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    overall = re.search(r"Overall exposure level for solarbridge.service: ([\d.]+)", done.stdout)
    assert overall, done.stderr
    assert float(overall[1]) <= 2.0, done.stdout
    assert done.returncode == 0


def test_t11_the_service_has_a_user_of_its_own_no_capability_and_few_devices() -> None:
    unit = settings(UNIT)
    assert unit["User"] == ["solarbridge"]
    assert unit["CapabilityBoundingSet"] == unit["AmbientCapabilities"] == [""]
    assert unit["DevicePolicy"] == ["closed"]
    majors = {"ttyUSB": "188", "ttyACM": "166", "ttyAMA": "204", "ttymxc": "207", "ttyS": "4"}
    named = {"ttySC", "hidraw"}  # without a number of their own
    assert set(unit["DeviceAllow"]) == {f"char-{one} rw" for one in (*majors.values(), *named)}
    assert {name.rstrip("*") for name in NAMES} <= {*majors, *named}, "scan shows a port that the service may not open"
    devices = Path("/proc/devices").read_text()
    for name, major in majors.items():  # where this machine knows the driver, the number must be its
        for known in re.findall(rf"^ *(\d+) {name}$", devices, re.MULTILINE):
            assert known == major


def test_the_service_is_watched_and_a_wrong_configuration_is_not_retried_for_ever() -> None:
    unit = settings(UNIT)
    assert unit["Type"] == ["notify"]
    assert unit["Restart"] == ["always"]
    assert unit["StartLimitIntervalSec"] == ["0"], "it would give up after a few crashes"
    assert unit["RestartPreventExitStatus"] == ["2"]
    assert int(unit["WatchdogSec"][0]) == 60
    assert "mosquitto.service" in unit["After"][0], "offline would not arrive when the machine stops"


def test_d11_beyond_its_memory_the_service_is_started_anew() -> None:
    unit = settings(UNIT)
    assert unit["MemoryMax"] == ["256M"]
    assert unit["Restart"] == ["always"]


def test_t24_what_the_service_writes_is_for_itself_alone() -> None:
    unit = settings(UNIT)
    assert unit["UMask"] == ["0077"]
    assert unit["StateDirectoryMode"] == unit["RuntimeDirectoryMode"] == ["0700"]
    assert unit["ProtectSystem"] == ["strict"]
    assert unit["ReadWritePaths"] == ["-/var/log/solarbridge"]
    assert unit["PrivateTmp"] == ["yes"]


def test_t18_the_log_has_a_place_in_memory_of_limited_size() -> None:
    mount = settings(SYSTEMD / "var-log-solarbridge.mount")
    assert mount["Type"] == ["tmpfs"]
    options = set(mount["Options"][0].split(","))
    assert {"size=50M", "mode=0750", "nosuid", "nodev", "noexec", "uid=solarbridge"} <= options
    name = "var-log-solarbridge.mount"  # systemd wants the name to be the place
    assert mount["Where"] == ["/" + name.removesuffix(".mount").replace("-", "/")]
    assert name in settings(UNIT)["Wants"][0]


# -- T12: the device's node


def test_t12_the_inverters_node_is_for_a_group_and_nobody_else() -> None:
    rules = [line for line in (SYSTEMD / "60-solarbridge.rules").read_text().splitlines() if not line.startswith("#")]
    assert len(rules) == 1
    parts = dict(re.findall(r'([\w{}]+)(?:==|=|\+=|-=)"([^"]*)"', rules[0]))
    assert (parts["ATTRS{idVendor}"], parts["ATTRS{idProduct}"]) == ("0665", "5161")
    assert (parts["MODE"], parts["GROUP"]) == ("0660", "solarbridge-hid")
    assert 'TAG-="uaccess"' in rules[0], "whoever sits at the screen would get it"
    assert parts["SYMLINK"] == "solarbridge/axpert-%b"
    assert "g solarbridge-hid -" in (SYSTEMD / "sysusers.conf").read_text()
    for path in REPOSITORY.rglob("*"):
        if path.suffix in (".rules", ".md", ".sh") and ".venv" not in path.parts:
            assert not re.search(r'MODE=?="0?666"', path.read_text()), f"{path} opens a device to all"


# -- T20: the scripts


@pytest.mark.parametrize("name", SCRIPTS)
def test_t20_shellcheck_finds_nothing(name: str) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not on this machine: apt-get install shellcheck")
    done = subprocess.run(
        ["shellcheck", "-x", name], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_all_scripts_are_in_that_list_and_can_be_run() -> None:
    listed = {REPOSITORY / name for name in SCRIPTS}
    found = [path for path in (*REPOSITORY.glob("*.sh"), *SYSTEMD.rglob("*")) if path.is_file()]
    for path in found:
        if path.read_text().startswith("#!"):
            assert path in listed
            assert path.stat().st_mode & 0o111


def test_t20_temporary_files_have_names_nobody_can_foresee() -> None:
    for name in ("install.sh", "uninstall.sh", "systemd/common.sh", "systemd/packages.sh"):
        text = (REPOSITORY / name).read_text()
        assert "/tmp/" not in text
        assert "$$" not in text
        assert "sed -i" not in text, "it edits what may not be ours"
        assert "--break-system-packages" not in text


# -- containers


def instructions() -> list[tuple[str, str]]:
    text = (REPOSITORY / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    return [(line[0], line[1]) for line in lines]


def test_t11_the_container_does_not_run_as_root_and_is_made_of_files_that_exist() -> None:
    done = instructions()
    users = [index for index, (word, _) in enumerate(done) if word == "USER"]
    assert done[users[-1]][1] == "10001:10001"
    assert not [line for line in done[users[-1] :] if line[0] == "RUN"]
    assert all(image.startswith("python:3.12-slim") for word, image in done if word == "FROM")
    ignored = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    for word, rest in done:
        if word == "COPY" and not rest.startswith("--from"):
            for source in rest.split()[:-1]:
                assert (REPOSITORY / source).exists(), source
                assert f"!{source}" in ignored, f"{source} does not reach the build"
    assert [rest for word, rest in done if word == "RUN" and '"pip"' in rest and '"--require-hashes"' in rest]


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())
    return loaded


def test_t11_the_compose_example_gives_the_bridge_no_more_than_it_needs() -> None:
    bridge = compose()["services"]["solarbridge"]
    assert "privileged" not in bridge
    assert "network_mode" not in bridge
    assert bridge["read_only"] is True
    assert bridge["cap_drop"] == ["ALL"]
    assert bridge["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in compose()["services"]["mosquitto"]["ports"])


def test_the_compose_example_names_files_that_exist_and_volumes_it_declares() -> None:
    whole = compose()
    for service in whole["services"].values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            if source.startswith("./container/") or source == "/etc/localtime":
                continue  # the user's own, made as its first lines say, or the machine's
            if source.startswith("./"):
                assert (REPOSITORY / source).is_file(), source
            else:
                assert source in whole["volumes"]
    assert "container/" in (REPOSITORY / ".gitignore").read_text().splitlines()


def test_a_container_shows_the_local_time_by_which_clocks_are_set() -> None:
    assert "/etc/localtime:/etc/localtime:ro" in compose()["services"]["solarbridge"]["volumes"]


# -- what docs/threats.md claims


def test_every_test_that_the_table_of_threats_names_is_there() -> None:
    rows = [line for line in (REPOSITORY / "docs" / "threats.md").read_text().splitlines() if line.startswith("| T")]
    assert [row.split()[1] for row in rows] == [f"T{number}" for number in range(1, 25)]
    assert [row.split()[1] for row in rows if not re.search(r"`test_\w+`", row)] == [], "a row that nothing proves"
    for row in (REPOSITORY / "docs" / "threats.md").read_text().splitlines():
        source = ""
        for name in re.findall(r"`(tests/\S+\.py|test_\w+)`", row):
            if name.startswith("tests/"):
                assert (REPOSITORY / name).exists(), name
                source = (REPOSITORY / name).read_text()
            else:
                assert f"def {name}(" in source, name
