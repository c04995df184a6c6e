"""The repository's own captures of this maker."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "captures" / "luxpower"


@dataclass(frozen=True)
class Capture:
    name: str
    sent: list[bytes]
    received: list[bytes]
    expected: dict[str, Any]


def load(name: str) -> Capture:
    lines: dict[str, list[bytes]] = {"tx": [], "rx": []}
    for line in (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            lines[line[:2]].append(bytes.fromhex(line[3:]))
    return Capture(name, lines["tx"], lines["rx"], json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")))


CAPTURES = [load(path.stem) for path in sorted(FOLDER.glob("*.txt"))]
