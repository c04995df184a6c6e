"""The command line."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Callable
from io import TextIOWrapper
from typing import NamedTuple

from bridge import __version__
from bridge.errors import ConfigError

DEFAULT_CONFIG = "/etc/solarbridge/config.yaml"
SERVICE_USER = "solarbridge"
"""Whom install.sh lets the service run as."""
READER_GONE = 141
"""The exit status of a program that SIGPIPE ended, as a shell tells it."""


def main(argv: list[str] | None = None) -> int:
    """Run one command; return its exit status: 0 done, 1 failed, 2 the arguments or the configuration are wrong."""
    argv = sys.argv[1:] if argv is None else argv
    _show_any_character()
    try:
        status = _carry_out(argv)
        _flush()
    except ConfigError as err:
        for problem in err.problems:
            print(problem, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        if not _output_is_gone():
            raise
        return READER_GONE
    return status


def _carry_out(argv: list[str]) -> int:
    if argv[:1] == ["simulate"]:
        return _simulate(argv[1:])
    command = COMMANDS.get(argv[0]) if argv else None
    if command is None:
        _overview().parse_args(argv)  # ends by itself: --help, --version or a mistake
        return 2
    return command.carry_out(command.parser(argv[0]).parse_intermixed_args(argv[1:]))


def _show_any_character() -> None:
    """Where the terminal lacks a character, show its number; stderr does so by itself."""
    try:
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
    except OSError:  # a service may have closed its output
        pass


def _flush() -> None:
    """Hand on what is left of the output while a reader who left can be told of.

    Python tells of all other trouble when it ends. A service may have closed its output: its number is a socket's now.
    """
    try:
        print(end="", flush=True)
    except BrokenPipeError:
        raise
    except OSError:
        pass


def _output_is_gone() -> bool:
    """Whether nobody reads our output any more, as behind `| head`; what is left of it then goes nowhere."""
    import select

    poller = select.poll()
    poller.register(1, 0)
    if not poller.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return True


class _Narrow(argparse.HelpFormatter):
    """As wide as any terminal: to ask how wide this one is loads 2 ms of modules, at each start of the service."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=78)


class Command(NamedTuple):
    """One command. Its parser is made when it is asked for: to make all of them takes the service 5 ms at its start."""

    does: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    carry_out: Callable[[argparse.Namespace], int]

    def parser(self, name: str) -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(prog=f"solarbridge {name}", description=self.does, formatter_class=_Narrow)
        self.add_arguments(parser)
        return parser


def _overview() -> argparse.ArgumentParser:
    """Return the parser that knows what commands there are, and nothing of their arguments."""
    parser = argparse.ArgumentParser(
        prog="solarbridge", description="Pylontech, LuxPower LXP and Voltronic/Axpert devices on MQTT."
    )
    parser.add_argument("--version", action="version", version=f"solarbridge {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.does)
    commands.add_parser("simulate", help="a simulated device on a pseudo-terminal; --help says which")
    return parser


# -- arguments


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", "-c", default=DEFAULT_CONFIG, help="configuration file (default: %(default)s)")


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("device", help="its name in the configuration; NAME/SERIAL for one unit of several")


def _add_direct(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--direct", action="store_true", help="to the device itself; only when no bridge runs")


def _add_scan(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--probe", metavar="PORT", nargs="*", help="put questions on these ports, or on all")
    where.add_argument("--lxp", metavar="HOST[:PORT]", help="listen to a LuxPower datalogger")
    parser.add_argument("--yes", action="store_true", help="with --probe: do not ask first")
    parser.add_argument("--seconds", type=float, default=20.0, help="with --lxp: for how long (default: %(default)g)")


def _add_read(parser: argparse.ArgumentParser) -> None:
    _add_device(parser)
    parser.add_argument("names", nargs="*", metavar="KEY", help="only these values")
    parser.add_argument("--json", action="store_true", help="print JSON")
    _add_direct(parser)
    _add_config(parser)


def _add_write(parser: argparse.ArgumentParser) -> None:
    _add_device(parser)
    parser.add_argument("setting", help="its name in docs/settings.md")
    parser.add_argument("value", help="as there: 80, 52.4, on, off, a word, 23:30-05:30")
    parser.add_argument("--yes", action="store_true", help="do not ask first")
    _add_direct(parser)
    _add_config(parser)


def _add_forget(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("device", help="its name in the configuration, or the one it had there")
    parser.add_argument("unit", nargs="?", help="the serial number (or address) of one of its units")
    _add_config(parser)


def _add_migrate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from", dest="kind", choices=("lxp-bridge", "extra200tomqtt", "mpp-solar"), default=None,
                        help="whose it is (default: by what it holds)")  # fmt: skip
    parser.add_argument("file", metavar="FILE", help="its configuration file")


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=None, help="end by itself after so many seconds")


# -- what they do


def _run(arguments: argparse.Namespace) -> int:
    # no garbage is made while modules are loaded, and looking for it costs 5 ms; App.run() puts it on again
    gc.disable()
    from bridge import logs
    from bridge.app import App
    from bridge.config import load, secrets

    config = load(arguments.config, os.environ)
    logs.set_up(config.logging, secrets(config))
    return App(config).run()


def _check(arguments: argparse.Namespace) -> int:
    from bridge.config import dump, load

    config = load(arguments.config, os.environ)
    for warning in config.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if arguments.config == DEFAULT_CONFIG and _become_service():
        try:
            load(arguments.config, os.environ)
        except ConfigError as err:
            advice = f"root may read it, the service may not: chgrp {SERVICE_USER} the file, and chmod 640 it"
            raise ConfigError([*err.problems, advice]) from None
    print(dump(config), end="")
    return 0


def _become_service() -> bool:
    """Give up root's rights for those of the service, for good; False where that is not to be done."""
    import pwd

    if os.geteuid() != 0:
        return False
    try:
        user = pwd.getpwnam(SERVICE_USER)
        os.initgroups(user.pw_name, user.pw_gid)
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
    except (KeyError, OSError):  # Venus OS has no such user; a container may not change it
        return False
    return True


def _scan(arguments: argparse.Namespace) -> int:
    from bridge.tools import scan, scan_ports

    if arguments.lxp is not None:
        return scan.lxp(arguments.lxp, arguments.seconds)
    if arguments.probe is not None:
        return scan_ports.probe(arguments.probe, yes=arguments.yes)
    return scan_ports.show()


def _read(arguments: argparse.Namespace) -> int:
    from bridge.config import load
    from bridge.tools.settings import read

    config = load(arguments.config, os.environ)
    return read(config, arguments.device, arguments.names, as_json=arguments.json, direct=arguments.direct)


def _write(arguments: argparse.Namespace) -> int:
    from bridge.config import load
    from bridge.tools.settings import write

    config = load(arguments.config, os.environ)
    device, setting, value = arguments.device, arguments.setting, arguments.value
    return write(config, device, setting, value, yes=arguments.yes, direct=arguments.direct)


def _migrate(arguments: argparse.Namespace) -> int:
    from bridge.tools.migrate import run

    return run(arguments.file, arguments.kind)


def _forget(arguments: argparse.Namespace) -> int:
    from bridge.config import load
    from bridge.tools.forget import run

    return run(load(arguments.config, os.environ), arguments.device, arguments.unit)


def _demo(arguments: argparse.Namespace) -> int:
    from bridge.tools.demo import run

    return run(arguments.seconds)


def _simulate(argv: list[str]) -> int:
    from bridge.tools.simulate import run

    return run(argv)


COMMANDS = {
    "run": Command("serve the configured devices until stopped", _add_config, _run),
    "check": Command("read the configuration, say what is wrong or print what it means", _add_config, _check),
    "scan": Command("what is plugged in, and who answers, in plain words", _add_scan, _scan),
    "read": Command("what a device says and is set to, once, as a table or JSON", _add_read, _read),
    "write": Command("set one setting, read it back, print the result", _add_write, _write),
    "forget": Command("take a module or device that is gone for good out of Home Assistant", _add_forget, _forget),
    "migrate": Command("print a configuration made of another program's", _add_migrate, _migrate),
    "demo": Command("simulated devices, a broker and the bridge, here and now", _add_demo, _demo),
}
"""All but `simulate`, whose options are those of the simulators, which are loaded when it is asked for."""
