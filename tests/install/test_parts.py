"""Row T19: what an installation takes from outside is pinned, hashed, and listed."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.install.rig import base_python, wheels
from tests.shared import REPOSITORY
from tools import sbom, unpack

LOCK = (REPOSITORY / "requirements.lock").read_text()


def test_t19_the_lock_pins_what_the_project_asks_for_and_nothing_else() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = {canonicalize_name(one.name): one for one in map(Requirement, project["dependencies"])}
    pinned = sbom.locked(LOCK)
    assert pinned.keys() == wanted.keys(), "run `make lock`"
    for name, (version, hashes) in pinned.items():
        assert wanted[name].specifier.contains(version), f"{name}: run `make lock`"
        assert len(hashes) == len(set(hashes)) >= 2, f"{name}: a wheel and the source"


def test_t19_the_lock_has_wheels_for_all_supported_pythons_and_64_bit_machines() -> None:
    for package in ("hidapi", "pyyaml"):
        for python in ("cp311", "cp312", "cp313", "cp314"):
            for machine in ("x86_64", "aarch64"):
                assert re.search(rf"^# \w+ {package}-\S+{python}-manylinux\S*{machine}\S*\.whl$", LOCK, re.MULTILINE)
    for package in ("paho_mqtt", "pyserial"):
        assert re.search(rf"^# \w+ {package}-\S+-none-any\.whl$", LOCK, re.MULTILINE)


def test_t19_the_list_of_parts_is_of_this_lock() -> None:
    text = (REPOSITORY / "sbom.cdx.json").read_text()
    assert text == sbom.sbom(), "run `make sbom`"
    content = json.loads(text)
    assert content["bomFormat"] == "CycloneDX"
    refs = {part["bom-ref"] for part in content["components"]}
    assert refs == set(content["dependencies"][0]["dependsOn"])
    assert len(refs) == LOCK.count("==")


def test_t19_no_package_comes_without_a_hash_nor_from_a_named_index() -> None:
    for name in ("install.sh", "systemd/packages.sh", "Makefile", "Dockerfile", "tools/lock.py"):
        text = (REPOSITORY / name).read_text().replace("\\\n", " ")
        for line in text.splitlines():
            if re.search(r"-m pip (install|download)\b|\bpip (install|download)\b", line) and "make wheels" not in line:
                assert "--require-hashes" in line or '"$@"' in line, f"{name}: {line}"
        assert "://" not in re.sub(r"(?m)^\s*#.*$", "", text), f"{name} names a host"
    script = (REPOSITORY / "systemd/packages.sh").read_text()
    assert "--require-hashes\n" in script[script.index("set -- --quiet") :]


def test_unpacking_takes_the_pure_part_that_the_program_runs_with(tmp_path: Path) -> None:
    target = tmp_path / "a target"
    assert unpack.main([str(REPOSITORY / "requirements.lock"), str(wheels()), str(target)]) == 0
    assert not list(target.rglob("*.so"))
    code = "import sys; sys.path.insert(0, sys.argv[1]); import yaml, paho.mqtt.client, serial; print(yaml.__file__)"
    done = subprocess.run(
        [base_python(), "-I", "-S", "-c", code, str(target)], capture_output=True, text=True, check=True
    )  # fmt: skip
    assert done.stdout.startswith(str(target))


@pytest.mark.parametrize("name", ["../out.py", "/tmp/out.py", "a/../../out.py", "x.data/scripts/out.py"])
def test_t20_a_wheel_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    wheel = tmp_path / "bad.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(name, "print()")
    with pytest.raises(SystemExit, match="no use for"):
        unpack.unpack("bad.whl", wheel.read_bytes(), tmp_path / "target")
    assert not (tmp_path / "out.py").exists()


def test_a_wheel_of_absurd_size_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "large.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/large.py", bytes(unpack.LIMIT + 1))
    with pytest.raises(SystemExit):
        unpack.unpack("large.whl", wheel.read_bytes(), tmp_path / "target")
    assert not list(tmp_path.rglob("large.py"))


def test_a_folder_without_a_wheel_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no wheel of paho-mqtt"):
        unpack.main([str(REPOSITORY / "requirements.lock"), str(tmp_path), str(tmp_path / "target")])
