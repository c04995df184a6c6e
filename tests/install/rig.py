"""Running the install scripts for real: in a folder as --root, or as root in a writable image of this very system."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.shared import REPOSITORY

SOURCES = (
    "install.sh", "uninstall.sh", "requirements.lock", "config.example.yaml", "bridge", "systemd", "tools",
)  # fmt: skip
"""What the scripts need of the repository."""


def base_python() -> str:
    """Return the interpreter behind our virtual environment."""
    return os.path.realpath(sys.executable)


def wheels() -> Path:
    """Return a folder with the wheels of the lock for this machine, fetched once by their hashes."""
    lock = REPOSITORY / "requirements.lock"
    folder = REPOSITORY / "build" / f"wheels-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    if not folder.exists():
        folder.parent.mkdir(exist_ok=True)
        new = Path(tempfile.mkdtemp(dir=folder.parent))
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                   "--only-binary", ":all:", "--require-hashes", "-d", str(new), "-r", str(lock)]  # fmt: skip
        subprocess.run(command, check=True, timeout=300)
        with suppress(OSError):  # another worker was faster
            new.rename(folder)
        shutil.rmtree(new, ignore_errors=True)
    return folder


def program() -> Path:
    """Return the /opt/solarbridge of an installation made by install.sh with the system's own Python, made once.

    An image that begins with it is spared the half minute that a small machine needs for the packages; how these are
    made is tested where an installation goes into a folder.
    """
    digest = hashlib.sha256()
    for name in ("requirements.lock", "tools/unpack.py", "install.sh", "systemd/common.sh", "systemd/packages.sh"):
        digest.update((REPOSITORY / name).read_bytes())
    folder = REPOSITORY / "build" / f"installed-{digest.hexdigest()[:12]}"
    if not folder.exists():
        offline = wheels()
        new = Path(tempfile.mkdtemp(dir=folder.parent))
        script(REPOSITORY / "install.sh", "--root", new, "--offline", offline, "--python", "/usr/bin/python3")
        with suppress(OSError):  # another worker was faster
            new.rename(folder)
        shutil.rmtree(new, ignore_errors=True)
    return folder / "opt/solarbridge"


def copy_sources(folder: Path) -> Path:
    """Copy what an installation is made from into `folder`, as a user who unpacked it has it."""
    folder.mkdir(parents=True)
    for name in SOURCES:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder / name)
    return folder


def script(
    path: Path,
    *arguments: str | Path,
    status: int = 0,
    environ: Mapping[str, str] | None = None,
    folder: Path = Path("/"),
) -> subprocess.CompletedProcess[str]:
    """Run a script in a folder; fail with what it printed unless it ends with `status`."""
    done = subprocess.run(
        [str(path), *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False,
        stdin=subprocess.DEVNULL, env={**os.environ, **(environ or {})}, cwd=folder,
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    return done


def assert_takes_relative_names(installed: Path, folder: Path) -> None:
    """Check that the program reads files whose names are relative, and no modules of that folder."""
    folder.mkdir()
    (folder / "my.yaml").write_text("mqtt: {host: broker.lan}\ndevices: [{name: a, type: axpert, port: hid}]\n")
    (folder / "mpp.conf").write_text("[SETUP]\nmqtt_broker=broker.lan\n[a]\nport=/dev/hidraw0\nprotocol=PI30\n"
                                     "command=QPIGS\ntag=a\noutputs=screen\n")  # fmt: skip
    (folder / "yaml.py").write_text("raise SystemExit('not ours')\n")
    assert "host: broker.lan" in script(installed, "check", "--config", "my.yaml", folder=folder).stdout
    assert "host: broker.lan" in script(installed, "migrate", "mpp.conf", folder=folder).stdout


def tree(folder: Path) -> dict[str, str]:
    """Return everything below a folder: relative path -> kind, mode and content, in short."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        if path.is_symlink():
            what = f"link {path.readlink()}"
        elif path.is_dir():
            what = f"folder {stat.S_IMODE(status.st_mode):o}"
        elif path.is_file():
            digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
            what = f"file {stat.S_IMODE(status.st_mode):o} {digest} {status.st_mtime_ns} {status.st_ino}"
        else:
            what = "other"
        found[str(path.relative_to(folder))] = what
    return found


class Image:
    """This system, writable and thrown away afterwards: an overlay in a mount namespace of its own.

    `changes` is the folder that holds what was written, and nothing else.
    """

    def __init__(self, holder: subprocess.Popen[str], place: str) -> None:
        self._pid = holder.pid
        self.root = Path(f"/proc/{holder.pid}/root{place}/system")
        self.changes = Path(f"/proc/{holder.pid}/root{place}/changes")
        self._inside = f"{place}/system"

    def run(
        self,
        *command: str,
        status: int = 0,
        user: str = "",
        environ: Mapping[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in it, as root or another user; fail with what it printed unless it ends with `status`."""
        chroot = ["chroot", *([f"--userspec={user}"] if user else []), self._inside]
        done = subprocess.run(
            ["nsenter", "-t", str(self._pid), "-m", *chroot, *command],
            capture_output=True, text=True, timeout=300, check=False, stdin=stdin,
            env={"PATH": PATH, "LANG": "C.UTF-8", "HOME": "/root", **(environ or {})},
        )  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
        return done

    def written(self) -> set[str]:
        """Return the files and links that were written or removed in it; folders do not count."""
        return {str(path.relative_to(self.changes)) for path in self.changes.rglob("*") if not _is_folder(path)}


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


PATH = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

MOUNT = """
set -e
mount -t tmpfs -o mode=755 tmpfs "$1"
mkdir "$1/changes" "$1/work" "$1/system"
mount -t overlay -o "lowerdir=/,upperdir=$1/changes,workdir=$1/work" overlay "$1/system"
mount -t proc proc "$1/system/proc"
mount -t tmpfs -o mode=755 tmpfs "$1/system/run"
mount --rbind /dev "$1/system/dev"
echo ready
read -r _
"""


@contextmanager
def image(folder: Path) -> Iterator[Image]:
    """Make an image of this system; skips the test, saying so, where that cannot be done."""
    if os.geteuid() != 0:
        pytest.skip("the real installation needs root for an image of this system (mount, chroot)")
    folder.mkdir()
    holder = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", MOUNT, "sh", str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stderr is not None
    try:
        if holder.stdout.readline() != "ready\n":
            pytest.skip(f"no image of this system can be made here: {holder.stderr.read().strip()}")
        yield Image(holder, str(folder))
    finally:
        holder.stdin.close()
        holder.wait(10)
        holder.stdout.close()
        holder.stderr.close()
