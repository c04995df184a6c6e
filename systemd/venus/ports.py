"""Keep Venus OS' serial-starter off the configured serial ports. Usage: ports.py CONFIG, as root.

serial-starter offers each serial port to Victron's own drivers. Two things keep it off one: the udev property
VE_SERVICE=ignore when the adapter is plugged in, and its stop-tty.sh for a port it has already taken. The rules are
written to /run, so the root file system stays as it is, and with a name behind that of Victron's rules, whose word
would else be the last.

unconfirmed: taken from other projects' notes on Venus OS; no GX was at hand.
"""

from __future__ import annotations

import os
import subprocess
import sys

from bridge.config import load

RULES = os.environ.get("SOLARBRIDGE_UDEV_RULES", "/run/udev/rules.d/zz-solarbridge.rules")
STOP_TTY = os.environ.get("SOLARBRIDGE_STOP_TTY", "/opt/victronenergy/serial-starter/stop-tty.sh")


def configured(config: str) -> list[str]:
    """Return the serial ports of a configuration, as written there."""
    ports = [str(getattr(device, "port", "")) for device in load(config, os.environ).devices]
    return [port for port in ports if port.startswith("/dev/") and not port.startswith("/dev/hidraw")]


def property_of(node: str, name: str) -> str:
    """Return a device's udev property, "" when it has none."""
    query = ["udevadm", "info", "--query=property", f"--name={node}"]
    try:
        shown = subprocess.run(query, capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return next((line.partition("=")[2] for line in shown.splitlines() if line.startswith(f"{name}=")), "")


def rule(port: str) -> str:
    """Return the udev rule that keeps serial-starter off the adapter at `port`, wherever it is plugged in later."""
    node = os.path.realpath(port)
    for name in ("ID_SERIAL", "ID_PATH"):
        value = property_of(node, name)
        if value and not set(value) & set('"\n\\'):
            return f'ACTION=="add", SUBSYSTEM=="tty", ENV{{{name}}}=="{value}", ENV{{VE_SERVICE}}="ignore"\n'
    return f'ACTION=="add", SUBSYSTEM=="tty", KERNEL=="{os.path.basename(node)}", ENV{{VE_SERVICE}}="ignore"\n'


def call(*command: str) -> None:
    """Run a command of Venus OS; where it is not there nothing is to be done."""
    try:
        subprocess.run(command, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as err:
        print(f"{command[0]}: {err}", file=sys.stderr)


def main(argv: list[str]) -> int:
    """Write the rules and take the ports back; return the exit status."""
    ports = configured(argv[0])
    rules = "".join(sorted({rule(port) for port in ports}))
    try:
        with open(RULES, encoding="utf-8") as file:
            written = file.read()
    except OSError:
        written = ""
    if rules != written:
        os.makedirs(os.path.dirname(RULES), exist_ok=True)
        with open(RULES + ".new", "w", encoding="utf-8") as file:
            file.write(rules)
        os.replace(RULES + ".new", RULES)
        call("udevadm", "control", "--reload-rules")
    for port in ports:
        call(STOP_TTY, os.path.basename(os.path.realpath(port)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
