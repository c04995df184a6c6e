"""Frames from physical values, by string formatting alone: what the decoders are judged by."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CAPTURES = Path(__file__).resolve().parents[1] / "captures" / "pylontech"


def capture(name: str) -> tuple[bytes, bytes, Any]:
    """Return what was sent, what came back, and what it means."""
    sent, received = bytearray(), bytearray()
    for line in (CAPTURES / f"{name}.txt").read_text().splitlines():
        way, _, digits = line.partition(" ")
        if way == "tx":
            sent += bytes.fromhex(digits)
        elif way == "rx":
            received += bytes.fromhex(digits)
    return bytes(sent), bytes(received), json.loads((CAPTURES / f"{name}.json").read_text())


def reply(address: int, info: str, code: int = 0) -> bytes:
    """Return a frame around INFO, given as hex text."""
    size = len(info)
    digit = (16 - (size // 256 + size // 16 % 16 + size % 16) % 16) % 16
    body = f"20{address:02X}46{code:02X}{digit:X}{size:03X}{info}"
    total = (0x10000 - sum(ord(c) for c in body) % 0x10000) % 0x10000
    return f"~{body}{total:04X}\r".encode()


def word(value: int, size: int = 2) -> str:
    return f"{value % (1 << 8 * size):0{2 * size}X}"


def analog_record(
    cells: Sequence[int],
    temperatures: Sequence[int],
    current: int,
    remaining: int,
    total: int,
    *,
    voltage: int | None = None,
    cycles: int = 7,
    items: int = 2,
) -> str:
    """Return one module's part of a 42h reply: mV, 0.1 K, 0.1 A, mAh."""
    text = f"{len(cells):02X}" + "".join(word(mv) for mv in cells)
    text += f"{len(temperatures):02X}" + "".join(word(raw) for raw in temperatures)
    text += word(current) + word(sum(cells) if voltage is None else voltage)
    if items == 2:
        return text + word(remaining) + "02" + word(total) + word(cycles)
    return text + f"FFFF{items:02X}FFFF" + word(cycles) + word(remaining, 3) + word(total, 3)


def console(command: str, *lines: str, success: bool = True, prompt: str = "pylon") -> bytes:
    """Return a console's whole answer, line ends as on the wire."""
    text = f"{command}\n\r@\r\r\n" + "".join(f"{line}\r\r\n" for line in lines)
    text += "Command completed successfully\r\n" if success else ""
    return f"{text}\r$$\r\n\r{prompt}>".encode()
