"""Unpack wheels without pip, for machines that have no pip or no ready wheels: a GX device, an old Raspberry Pi.

    python3 tools/unpack.py requirements.lock WHEELS TARGET

Takes from the folder WHEELS what the lock names, checks each file's hash against it, and puts the pure Python part
into the folder TARGET: compiled parts belong to other machines and are left out, and so is hidapi, which is nothing
else. All our packages work without theirs. Needs nothing but Python; install.sh runs it.
"""

from __future__ import annotations

import hashlib
import io
import re
import sys
import zipfile
from pathlib import Path

COMPILED_ONLY = {"hidapi"}
KEPT = (".py", ".pyi", ".typed", "/METADATA", "/LICENSE", "/LICENSE.txt")
LIMIT = 32 << 20
"""Bytes that one package may take unpacked."""


def locked(text: str) -> dict[str, set[str]]:
    """Return what the lock allows: package -> SHA-256 of its files."""
    pins = re.findall(r"^([a-z0-9-]+)==\S+((?: \\\n +--hash=\S+)+)$", text, re.MULTILINE)
    return {name: set(re.findall(r"sha256:([0-9a-f]{64})", hashes)) for name, hashes in pins}


def wheel_of(name: str, hashes: set[str], folder: Path) -> tuple[str, bytes]:
    """Return the name and the bytes, read once, of a wheel that the lock knows. Exits when there is none."""
    strangers = []
    for path in sorted(folder.glob("*.whl")):
        if path.name.partition("-")[0].lower().replace("_", "-") == name:
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() in hashes:
                return path.name, data
            strangers.append(path.name)
    why = f"{strangers[0]} is not the file that requirements.lock names" if strangers else f"no wheel of {name}"
    sys.exit(f"{folder}: {why}")


def unpack(name: str, wheel: bytes, target: Path) -> None:
    """Write a wheel's pure part into `target`. Exits on a name that leads out of it, and on absurd sizes."""
    left = LIMIT
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        for entry in archive.infolist():
            if entry.is_dir() or not entry.filename.endswith(KEPT):
                continue
            parts = Path(entry.filename).parts
            left -= entry.file_size
            if entry.filename.startswith("/") or ".." in parts or left < 0 or parts[0].endswith(".data"):
                sys.exit(f"{name}: a file that a package has no use for: {entry.filename}")
            path = target.joinpath(*parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.read(entry))


def main(argv: list[str]) -> int:
    """Unpack all packages of the lock; return the exit status."""
    if len(argv) != 3:
        sys.exit("usage: unpack.py LOCK WHEELS TARGET")
    lock, wheels, target = map(Path, argv)
    for name, hashes in sorted(locked(lock.read_text(encoding="utf-8")).items()):
        if name not in COMPILED_ONLY:
            unpack(*wheel_of(name, hashes, wheels), target)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
