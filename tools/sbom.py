"""Write sbom.cdx.json: the list of parts (CycloneDX) of an installation, made of requirements.lock and pyproject.toml.

Run it as `make sbom`. The same input gives the same file, so a test can hold it to the lock.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
import uuid
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
LOCK = REPOSITORY / "requirements.lock"
SBOM = REPOSITORY / "sbom.cdx.json"

LICENCES = {
    "hidapi": "GPL-3.0-only OR BSD-3-Clause OR HIDAPI",
    "paho-mqtt": "EPL-2.0 OR BSD-3-Clause",
    "pyserial": "BSD-3-Clause",
    "pyyaml": "MIT",
}
"""As the packages' own licence files say."""


def locked(text: str) -> dict[str, tuple[str, list[str]]]:
    """Return what a lock file pins: name -> version and the SHA-256 of each file."""
    found = {}
    for name, version, hashes in re.findall(r"^([a-z0-9-]+)==(\S+)((?: \\\n +--hash=\S+)+)$", text, re.MULTILINE):
        found[name] = (version, re.findall(r"sha256:([0-9a-f]{64})", hashes))
    return found


def component(name: str, version: str, hashes: list[str]) -> dict[str, Any]:
    """Return one part."""
    purl = f"pkg:pypi/{name}@{version}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        "licenses": [{"expression": LICENCES[name]}],
        "hashes": [{"alg": "SHA-256", "content": digest} for digest in hashes],
    }


def sbom() -> str:
    """Return the list of parts as JSON."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version = re.search(r'__version__ = "([^"]+)"', (REPOSITORY / "bridge" / "__init__.py").read_text(encoding="utf-8"))
    if version is None:
        sys.exit("bridge/__init__.py names no version")
    own = f"pkg:generic/{project['name']}@{version[1]}"
    text = LOCK.read_text(encoding="utf-8")
    parts = [component(name, *pinned) for name, pinned in locked(text).items()]
    content = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": uuid.uuid5(uuid.NAMESPACE_OID, own + text).urn,
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": project["name"],
                "version": version[1],
                "purl": own,
                "licenses": [{"expression": project["license"]["text"]}],
            }
        },
        "components": parts,
        "dependencies": [
            {"ref": own, "dependsOn": [part["bom-ref"] for part in parts]},
            *({"ref": part["bom-ref"], "dependsOn": []} for part in parts),
        ],
    }
    return json.dumps(content, indent=2) + "\n"


def main() -> int:
    """Write the file; return the exit status."""
    SBOM.write_text(sbom(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
