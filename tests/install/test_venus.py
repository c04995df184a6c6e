"""install.sh on Venus OS, in a folder that looks like a GX device's root: no GX is at hand, so what its own programs do
is acted by scripts (svc, multilog, serial-starter's stop-tty.sh, udevadm)."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from tests.harness import await_true
from tests.install.rig import (
    assert_takes_relative_names,
    base_python,
    copy_sources,
    script,
    tree,
    wheels,
)

APP = "data/apps/solarbridge"
CONFIG = "data/conf/solarbridge/config.yaml"
LINE = "/data/apps/solarbridge/boot.sh"


@pytest.fixture
def gx(tmp_path: Path) -> Path:
    root = tmp_path / "a GX device"
    (root / "opt/victronenergy").mkdir(parents=True)
    (root / "opt/victronenergy/version").write_text("v3.60\nVictron Energy\n")
    (root / "data/conf").mkdir(parents=True)
    return root


def install(sources: Path, root: Path, *more: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    arguments = ("--root", root, "--offline", wheels(), "--python", base_python())
    return script(sources / "install.sh", *arguments, *more, status=status)


def test_t20_on_venus_os_it_lives_in_data_alone_and_leaves_without_a_trace(tmp_path: Path, gx: Path) -> None:
    sources = copy_sources(tmp_path / "the sources")
    (gx / "data/rc.local").write_text("#!/bin/bash\n/data/other.sh\nexit 0\n")
    before = tree(gx)
    assert "would: write" in install(sources, gx, "--dry-run").stdout
    assert tree(gx) == before

    install(sources, gx)
    assert {path.split("/")[0] for path in set(tree(gx)) - set(before)} == {"data"}, "a firmware update would lose it"
    assert (gx / "data/rc.local").read_text().splitlines() == ["#!/bin/bash", LINE, "/data/other.sh", "exit 0"]
    assert stat.S_IMODE((gx / "data/rc.local").stat().st_mode) == 0o755
    assert " n5 " in (gx / APP / "service/log/run").read_text()
    assert not list((gx / APP).rglob("*.so")), "compiled for another machine"
    program = gx / APP / "current/bin/solarbridge"
    assert script(program, "--version").stdout.startswith("solarbridge ")
    assert "type: axpert" in script(program, "check", "-c", gx / CONFIG).stdout
    assert_takes_relative_names(program, tmp_path / "somebody's files")

    state = tree(gx)
    assert "Nothing to do" in install(sources, gx).stdout
    assert tree(gx) == state
    (gx / CONFIG).write_text((gx / CONFIG).read_text().replace("localhost", "broker.lan"))
    with (sources / "bridge/backoff.py").open("a") as file:
        file.write("\n# a new version\n")
    install(sources, gx, "--log-size", "9")
    assert "broker.lan" in (gx / CONFIG).read_text()
    assert " n9 " in (gx / APP / "service/log/run").read_text()
    assert script(program, "--version").stdout.startswith("solarbridge ")
    assert len(list((gx / APP).glob("0.*"))) == 1

    script(sources / "uninstall.sh", "--root", gx)
    files = {path for path, what in tree(gx).items() if not what.startswith("folder")}
    assert files == {path for path, what in before.items() if not what.startswith("folder")} | {CONFIG}
    assert (gx / "data/rc.local").read_text() == "#!/bin/bash\n/data/other.sh\nexit 0\n"
    script(sources / "uninstall.sh", "--root", gx, "--purge")
    assert not (gx / CONFIG).parent.exists()


def test_t19_a_package_that_is_not_the_locked_one_is_refused_and_nothing_changes(tmp_path: Path, gx: Path) -> None:
    sources = copy_sources(tmp_path / "sources")
    install(sources, gx)
    before = tree(gx)
    with (sources / "requirements.lock").open("a") as file:
        file.write("# a new lock\n")
    folder = shutil.copytree(wheels(), tmp_path / "some wheels")
    wheel = next(folder.glob("pyserial*"))
    wheel.write_bytes(wheel.read_bytes() + b"\0")
    arguments = ("--root", gx, "--offline", folder, "--python", base_python())
    done = script(sources / "install.sh", *arguments, status=1)
    assert "is not the file that requirements.lock names" in done.stderr
    assert "Nothing was changed" in done.stderr
    assert tree(gx) == before, "what runs was touched"


def test_without_pip_and_wheels_it_says_how_to_get_them(tmp_path: Path, gx: Path) -> None:
    """A Python without pip, as on a GX, is acted by a script."""
    python = tmp_path / "python3"
    python.write_text(f'#!/bin/sh\ncase "$1 $2" in "-m pip") exit 1;; esac\nexec "{base_python()}" "$@"\n')
    python.chmod(0o755)
    done = script(
        copy_sources(tmp_path / "sources") / "install.sh", "--root", gx, "--python", python, status=1
    )  # fmt: skip
    assert "opkg install python3-pip" in done.stderr
    assert "make wheels" in done.stderr


def test_the_service_takes_its_ports_back_and_becomes_the_bridge(tmp_path: Path, gx: Path) -> None:
    """The run script as the supervisor starts it, with its fixed paths pointing into the folder."""
    sources = copy_sources(tmp_path / "sources")
    install(sources, gx)
    assert (gx / "data/rc.local").read_text() == f"#!/bin/sh\n{LINE}\n"
    tools = tmp_path / "tools"
    tools.mkdir()
    acted(tools / "stop-tty.sh", f'echo "stop-tty $*" >>"{tmp_path}/calls"')
    acted(tools / "udevadm", f'echo "udevadm $*" >>"{tmp_path}/calls"; [ "$1" = info ] && echo ID_SERIAL=FTDI_A1')
    master, slave = os.openpty()
    port = os.ttyname(slave)
    (gx / CONFIG).write_text(
        f"mqtt: {{host: 127.0.0.1, port: 1}}\ndevices: [{{name: a, type: pylontech, port: {port}}}]\n"
    )
    run = gx / APP / "service/run"
    run.write_text(run.read_text().replace("/data/", f"{gx}/data/").replace("python3 ", f"'{base_python()}' "))
    run.write_text(quoted_paths(run.read_text(), gx))
    environ = {
        **os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "SOLARBRIDGE_STOP_TTY": str(tools / "stop-tty.sh"),
        "SOLARBRIDGE_UDEV_RULES": str(tmp_path / "udev rules" / "zz.rules"),
    }  # fmt: skip
    output = (tmp_path / "output").open("wb")
    with subprocess.Popen([str(run)], stdout=output, stdin=subprocess.DEVNULL, env=environ) as process:
        try:
            await_true(lambda: b"solarbridge 0" in (tmp_path / "output").read_bytes(), 30, "the bridge runs")
            assert "stop-tty " + os.path.basename(port) in (tmp_path / "calls").read_text()
            assert "udevadm control --reload-rules" in (tmp_path / "calls").read_text()
            assert (tmp_path / "udev rules" / "zz.rules").read_text() == (
                'ACTION=="add", SUBSYSTEM=="tty", ENV{ID_SERIAL}=="FTDI_A1", ENV{VE_SERVICE}="ignore"\n'
            )
            process.send_signal(signal.SIGTERM)  # reaches the bridge itself, since the script became it
            assert process.wait(10) == 0
        finally:
            process.kill()
    output.close()
    os.close(master)
    os.close(slave)
    script(sources / "uninstall.sh", "--root", gx)
    assert not (gx / "data/rc.local").exists(), "a file made for us alone stayed"


def acted(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def quoted_paths(text: str, root: Path) -> str:
    """Quote assignments that now hold the folder's blanks."""
    lines = [
        f'{name}="{value}"' if (name := line.partition("=")[0]) and (value := line.partition("=")[2]) and
        value.startswith(str(root)) else line
        for line in text.splitlines()
    ]  # fmt: skip
    return "\n".join(lines) + "\n"
