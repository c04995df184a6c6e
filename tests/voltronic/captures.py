"""The repository's own captures: what was sent and received, as in a debug log, and what it means."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "captures" / "voltronic"


@dataclass(frozen=True)
class Capture:
    case: str
    protocol: str
    command: str
    sent: bytes
    pieces: tuple[bytes, ...]
    decoded: dict[str, Any]
    state: dict[str, Any] | None
    contract: dict[str, Any] | None

    @property
    def received(self) -> bytes:
        return b"".join(self.pieces)


def load(path: Path) -> Capture:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# "), f"{path}: the first line says what it is"
    sent = [bytes.fromhex(line[3:]) for line in lines if line.startswith("tx ")]
    received = [bytes.fromhex(line[3:]) for line in lines if line.startswith("rx ")]
    meaning = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return Capture(
        path.stem,
        meaning["protocol"],
        meaning["command"],
        b"".join(sent),
        tuple(received),
        meaning["decoded"],
        meaning.get("state"),
        meaning.get("contract"),
    )


CAPTURES = [load(path) for path in sorted(FOLDER.glob("*.txt"))]
BY_CASE = {capture.case: capture for capture in CAPTURES}
