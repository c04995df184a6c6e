"""Where a real Home Assistant core comes from: the one SOLARBRIDGE_HASS names, else one set up here from PyPI.

Core is bound to a version of Python: 2025.4, the oldest we support, takes 3.13, and 2026.11 takes 3.14.2. The
interpreter is the one SOLARBRIDGE_HASS_PYTHON names, or the first that fits of those that are installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.shared import REPOSITORY

FOLDER = REPOSITORY / ".homeassistant"
CORES = (((3, 13, 0), (3, 14, 0), "2025.4.4"), ((3, 14, 2), (3, 15, 0), "2026.11.0"))
"""From which Python on, below which, and the core it takes."""
INTEGRATIONS = ("mqtt", "recorder", "history", "energy", "api", "websocket_api", "config", "template", "automation")
"""What the test loads. Core is started so that it installs nothing by itself."""

REQUIREMENTS = """
import json, pathlib, re, sys
import homeassistant
components = pathlib.Path(homeassistant.__file__).parent / "components"
started = (components.parent / "bootstrap.py").read_text()
always = re.search(r"^DEFAULT_INTEGRATIONS\\b[^{]*\\{(.*?)^\\}", started, re.S | re.M).group(1)
wanted = set(sys.argv[1:]) | set(re.findall(r'^ *"([a-z0-9_]+)"', always, re.M))
wanted |= {"homeassistant", "persistent_notification"}
manifests = {path.parent.name: json.loads(path.read_text()) for path in components.glob("*/manifest.json")}
wanted |= {name for name, told in manifests.items() if told.get("integration_type") == "entity"}
known, needed = set(), set()
while wanted:
    name = wanted.pop()
    if name in known or name not in manifests:
        continue
    known.add(name)
    told = manifests[name]
    needed |= set(told.get("requirements", ()))
    wanted |= set(told.get("dependencies", ()))
    if name in sys.argv[1:]:
        wanted |= set(told.get("after_dependencies", ()))
print("\\n".join(sorted(needed)))
"""
"""Run by core's Python: what pip has to bring for these integrations and for those that core always loads."""


class NoCore(Exception):
    """There is no core to test with; the text says what to do."""


def hass() -> str:
    """Return the path of core's executable, setting it up if need be. Raises NoCore."""
    if given := os.environ.get("SOLARBRIDGE_HASS"):
        executable = os.path.join(given, "bin", "hass") if os.path.isdir(given) else given
        if not os.access(executable, os.X_OK):
            raise NoCore(f"SOLARBRIDGE_HASS: {executable} cannot be run; expected a virtual environment or a program")
        return executable
    python, version = _python()
    folder = FOLDER / f"core-{version}"
    if not (folder / "complete").exists():
        _install(python, version, folder)
    return str(folder / "bin" / "hass")


def _python() -> tuple[str, str]:
    """Return an interpreter that a core takes, and the version of that core."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    names = [os.environ.get("SOLARBRIDGE_HASS_PYTHON"), "python3.13", "python3.14", "python3"]
    found = [shutil.which(name) for name in names if name]
    found += [str(path) for path in sorted(pyenv.glob("3.1[34]*/bin/python"))]
    seen = []
    for python in found:
        if python is None or (version := _version_of(python)) is None:
            continue
        seen.append(".".join(map(str, version)))
        for first, end, core in CORES:
            if first <= version < end:
                return python, core
    raise NoCore(
        f"Home Assistant core needs Python 3.13 (core 2025.4) or 3.14.2 and newer (core 2026.11); found here: "
        f"{', '.join(dict.fromkeys(seen)) or 'none'}. Install one, name it in SOLARBRIDGE_HASS_PYTHON, or name an "
        f"existing core in SOLARBRIDGE_HASS."
    )


def _version_of(python: str) -> tuple[int, ...] | None:
    code = "import sys; print(*sys.version_info[:3])"
    told = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return tuple(map(int, told.stdout.split())) if told.returncode == 0 else None


def _install(python: str, version: str, folder: Path) -> None:
    print(f"Setting up Home Assistant core {version} in {folder}; this takes some minutes.", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([python, "-m", "venv", folder], check=True)
    own = folder / "bin" / "python"
    pip = [own, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
    subprocess.run([*pip, f"homeassistant=={version}"], check=True)
    needed = subprocess.run(
        [own, "-c", REQUIREMENTS, *INTEGRATIONS], check=True, capture_output=True, text=True, cwd=folder
    )  # fmt: skip
    (folder / "requirements.txt").write_text(needed.stdout)
    code = "import homeassistant, os; print(os.path.dirname(homeassistant.__file__))"
    package = subprocess.run([own, "-c", code], check=True, capture_output=True, text=True, cwd=folder).stdout.strip()
    constraints = os.path.join(package, "package_constraints.txt")
    subprocess.run([*pip, "-c", constraints, "-r", folder / "requirements.txt"], check=True)
    (folder / "complete").touch()


if __name__ == "__main__":
    try:
        print(hass())
    except NoCore as err:
        sys.exit(str(err))
