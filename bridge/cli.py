"""The command line."""

from __future__ import annotations

import argparse
import gc
import os
import sys

from bridge import __version__
from bridge.errors import ConfigError

DEFAULT_CONFIG = "/etc/solarbridge/config.yaml"


def main(argv: list[str] | None = None) -> int:
    """Run one command; return its exit status: 0 done, 1 failed, 2 the arguments or the configuration are wrong."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        if argv[:1] == ["simulate"]:
            return _simulate(argv[1:])
        arguments = _parser().parse_args(argv)
        status: int = arguments.command(arguments)
    except ConfigError as err:
        for problem in err.problems:
            print(problem, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="solarbridge", description="Pylontech, LuxPower LXP and Voltronic/Axpert devices on MQTT."
    )
    parser.add_argument("--version", action="version", version=f"solarbridge {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="serve the configured devices until stopped")
    _add_config(run)
    run.set_defaults(command=_run)

    check = commands.add_parser("check", help="read the configuration, say what is wrong or print what it means")
    _add_config(check)
    check.set_defaults(command=_check)

    scan = commands.add_parser("scan", help="what is plugged in, and who answers, in plain words")
    where = scan.add_mutually_exclusive_group()
    where.add_argument("--probe", metavar="PORT", nargs="*", help="put questions on these ports, or on all")
    where.add_argument("--lxp", metavar="HOST[:PORT]", help="listen to a LuxPower datalogger")
    scan.add_argument("--yes", action="store_true", help="with --probe: do not ask first")
    scan.add_argument("--seconds", type=float, default=20.0, help="with --lxp: for how long (default: %(default)g)")
    scan.set_defaults(command=_scan)

    read = commands.add_parser("read", help="what a device says and is set to, once, as a table or JSON")
    read.add_argument("device", help="its name in the configuration; NAME/SERIAL for one unit of several")
    read.add_argument("names", nargs="*", metavar="KEY", help="only these values")
    read.add_argument("--json", action="store_true", help="print JSON")
    _add_config(read)
    read.set_defaults(command=_read)

    write = commands.add_parser("write", help="set one setting, read it back, print the result")
    write.add_argument("device", help="its name in the configuration; NAME/SERIAL for one unit of several")
    write.add_argument("setting")
    write.add_argument("value")
    write.add_argument("--yes", action="store_true", help="do not ask first")
    _add_config(write)
    write.set_defaults(command=_write)

    forget = commands.add_parser("forget", help="take a module or device that is gone for good out of Home Assistant")
    forget.add_argument("device", help="its name in the configuration, or the one it had there")
    forget.add_argument("unit", nargs="?", help="the serial number (or address) of one of its units")
    _add_config(forget)
    forget.set_defaults(command=_forget)

    migrate = commands.add_parser("migrate", help="print a configuration made of another program's")
    migrate.add_argument("--from", dest="kind", choices=("lxp-bridge", "extra200tomqtt", "mpp-solar"), default=None,
                         help="whose it is (default: by what it holds)")  # fmt: skip
    migrate.add_argument("file", metavar="FILE", help="its configuration file")
    migrate.set_defaults(command=_migrate)

    demo = commands.add_parser("demo", help="simulated devices, a broker and the bridge, here and now")
    demo.add_argument("--seconds", type=float, default=None, help="end by itself after so many seconds")
    demo.set_defaults(command=_demo)

    # for the list only: its options are those of the simulators, which are loaded when asked for
    commands.add_parser("simulate", help="a simulated device on a pseudo-terminal; --help says which")
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", "-c", default=DEFAULT_CONFIG, help="configuration file (default: %(default)s)")


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
    print(dump(config), end="")
    return 0


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

    return read(load(arguments.config, os.environ), arguments.device, arguments.names, as_json=arguments.json)


def _write(arguments: argparse.Namespace) -> int:
    from bridge.config import load
    from bridge.tools.settings import write

    config = load(arguments.config, os.environ)
    return write(config, arguments.device, arguments.setting, arguments.value, yes=arguments.yes)


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
