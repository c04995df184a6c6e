"""Devices of flesh and blood on ptys and sockets, for the demo, tests and replay.

They encode by themselves and share no table or codec with the decoders, so that neither is its own judge.

To add one: a module with a Simulator (simulator.py), `add_arguments(parser)` for its own options and
`from_arguments(options, clock, truth)`, and one line in TYPES.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from bridge.simulators.simulator import Simulator

TYPES = {
    "axpert": "bridge.simulators.axpert",
    "lxp": "bridge.simulators.lxp",
    "pylontech": "bridge.simulators.pylontech",
    "pylontech-extra2000": "bridge.simulators.pylontech_console",
}
"""Config type -> the module of its simulator, imported when it is wanted."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` one sub-command for each type, with the options common to all and its own."""
    kinds = parser.add_subparsers(dest="device_type", metavar="TYPE", required=True)
    for device_type, module in TYPES.items():
        sub = kinds.add_parser(device_type, help=f"simulate {device_type}")
        _add_common(sub)
        import_module(module).add_arguments(sub)


def from_arguments(options: argparse.Namespace) -> Simulator:
    """Build the simulator that the parsed options describe; it is not started yet."""
    from datetime import datetime

    from bridge.simulators.living import DayClock
    from bridge.simulators.truth import TruthLog

    start = datetime(2026, 6, 1, int(options.hour), int(options.hour % 1 * 60))
    clock = DayClock(start, options.speed)
    built: Simulator = import_module(TYPES[options.device_type]).from_arguments(
        options, clock, TruthLog(options.truth)
    )
    return built


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--link", metavar="PATH", help="symbolic link that names the port")
    parser.add_argument("--baud", type=float, help="speed of the line, 0 for at once")
    parser.add_argument("--turnaround", type=float, default=0.0, metavar="S", help="seconds it thinks before a reply")
    parser.add_argument("--speed", type=float, default=1.0, help="simulated seconds in a real one")
    parser.add_argument("--hour", type=float, default=10.0, help="hour of the day at which it begins")
    parser.add_argument("--seed", type=int, default=1, help="same number, same day")
    parser.add_argument("--truth", metavar="FILE", help="append every frame sent, one line of JSON each")
