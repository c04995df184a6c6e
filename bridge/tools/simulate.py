"""`solarbridge simulate TYPE`: one simulated device, for as long as it is wanted."""

from __future__ import annotations

import argparse
import signal

from bridge import simulators
from bridge.transports.base import Stop


def run(arguments: list[str]) -> int:
    """Start the simulator the arguments describe, print its port, and serve until interrupted."""
    parser = argparse.ArgumentParser(prog="solarbridge simulate", description="A simulated device.")
    simulators.add_arguments(parser)
    simulator = simulators.from_arguments(parser.parse_args(arguments))
    stop = Stop()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with simulator:
        print(f"{simulator.name} answers on {simulator.port}; Ctrl-C ends it", flush=True)
        while not stop.wait(3600.0):
            pass
    return 0
