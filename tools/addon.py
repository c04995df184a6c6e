"""Make build/addon/: Home Assistant's add-on as a folder that needs nothing beside it. Run it as `make addon`.

The supervisor builds an add-on from its own folder alone, so the package, the lock file, the example and the changes
are put there beside what homeassistant/addon/ holds. The result is a repository of add-ons: its folder `solarbridge`
can be copied to a Home Assistant's /addons, or all of it be published as a git repository of its own.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCE = REPOSITORY / "homeassistant" / "addon"
FROM_ELSEWHERE = {
    "bridge": "bridge",
    "requirements.lock": "requirements.lock",
    # the supervisor takes every config.*.yaml in a repository for an add-on, so not by its own name
    "config.example.yaml": "example.yaml",
    "CHANGELOG.md": "CHANGELOG.md",
    "LICENSE": "LICENSE",
}
"""What comes from the rest of the repository -> its name in the add-on's folder."""


def assemble(target: Path) -> Path:
    """Make the repository of add-ons in `target`, in the place of what is there; return the add-on's folder in it."""
    leave = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(SOURCE, target, ignore=leave)
    addon = target / "solarbridge"
    for name, new in FROM_ELSEWHERE.items():
        path = REPOSITORY / name
        if path.is_dir():
            shutil.copytree(path, addon / new, ignore=leave)
        else:
            shutil.copy(path, addon / new)
    return addon


if __name__ == "__main__":
    made = assemble(Path(sys.argv[1]) if len(sys.argv) > 1 else REPOSITORY / "build" / "addon")
    print(f"{made} can be copied to /addons of Home Assistant; homeassistant/README.md says how.")
