"""Where the captured frames of other projects are, which tests may read but the repository does not carry.

They lie beside a developer's checkout, or where SOLARBRIDGE_SHARED points. Without them the tests that
need them are skipped with a notice; the repository's own captures test the same code.
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("SOLARBRIDGE_SHARED") or REPOSITORY.parent / "shared")


def shared_file(relative: str) -> Path:
    """Return the path of a shared file; skips the test, saying so, where it is absent."""
    path = SHARED / relative
    if not path.exists():
        pytest.skip(f"captured frames are not here: {path} (set SOLARBRIDGE_SHARED to the folder of {relative})")
    return path


@cache
def _load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def vectors(maker: str) -> Any:
    """Return the whole of protocols/<maker>-vectors.json; skips where it is absent."""
    return _load(shared_file(f"protocols/{maker}-vectors.json"))
