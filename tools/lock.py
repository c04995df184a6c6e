"""Write requirements.lock: the packages the bridge needs, pinned, with the hash of each file an install may take.

Run it as `make lock` to take up newer releases, and commit the two files that changes: it asks the package index that
pip is set up with, takes the newest final release that pyproject.toml allows, and notes the source archive and the
wheels for Linux on the Pythons and machines we support. Tests hold pyproject.toml, the lock and the list of parts
together.
"""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path

from pip._internal.models.index import PyPI  # pip's own default: no second place that names an index
from pip._vendor import requests
from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename
from pip._vendor.packaging.version import Version

REPOSITORY = Path(__file__).resolve().parents[1]
LOCK = REPOSITORY / "requirements.lock"
PYTHONS = ("cp311", "cp312", "cp313", "cp314")
MACHINES = ("x86_64", "aarch64", "armv7l")

HEAD = """\
# Every file that install.sh takes from a package index, by its hash. Made by `make lock`; do not edit.
"""


def requirements() -> list[Requirement]:
    """Return what pyproject.toml asks for, sorted by name."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return sorted(map(Requirement, project["dependencies"]), key=lambda one: canonicalize_name(one.name))


def fits(filename: str) -> Version | None:
    """Return a file's version if it is a source archive or a wheel for one of our machines, else None."""
    try:
        if not filename.endswith(".whl"):
            return parse_sdist_filename(filename)[1] if filename.endswith(".tar.gz") else None
        _, version, _, tags = parse_wheel_filename(filename)
    except ValueError:
        return None
    for tag in tags:
        glibc = tag.platform.startswith("manylinux") and tag.platform.endswith(MACHINES)
        if tag.interpreter == "py3" and tag.abi == "none" and tag.platform == "any":
            return version
        if glibc and (tag.abi in PYTHONS or (tag.abi == "abi3" and tag.interpreter.startswith("cp3"))):
            return version
    return None


def locked(requirement: Requirement) -> tuple[Version, dict[str, str]]:
    """Return the newest release allowed, and its files: name -> SHA-256."""
    index = os.environ.get("PIP_INDEX_URL", PyPI.simple_url).rstrip("/")
    reply = requests.get(
        f"{index}/{canonicalize_name(requirement.name)}/",
        headers={"Accept": "application/vnd.pypi.simple.v1+json"},
        timeout=60,
    )
    reply.raise_for_status()
    releases: dict[Version, dict[str, str]] = {}
    for file in reply.json()["files"]:
        version = fits(file["filename"])
        if version is None or file.get("yanked") or version.is_prerelease or version not in requirement.specifier:
            continue
        releases.setdefault(version, {})[file["filename"]] = file["hashes"]["sha256"]
    newest = max(releases)
    return newest, releases[newest]


def main() -> int:
    """Write the lock file; return the exit status."""
    text = HEAD
    for requirement in requirements():
        version, files = locked(requirement)
        text += "\n" + "".join(f"# {files[name][:12]} {name}\n" for name in sorted(files))
        text += f"{canonicalize_name(requirement.name)}=={version}"
        text += "".join(f" \\\n    --hash=sha256:{files[name]}" for name in sorted(files)) + "\n"
    LOCK.write_text(text, encoding="utf-8")
    print(f"{LOCK.name}: {text.count('--hash')} files; hashes of them all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
