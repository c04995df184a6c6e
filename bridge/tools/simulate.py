"""`solarbridge simulate TYPE`: one simulated device, for as long as it is wanted."""

from __future__ import annotations

import argparse
import signal
import sys

from bridge import simulators
from bridge.transports.base import Stop


def run(arguments: list[str]) -> int:
    """Start the simulator the arguments describe, print its port, and serve until interrupted."""
    parser = argparse.ArgumentParser(prog="solarbridge simulate", description="A simulated device.")
    simulators.add_arguments(parser)
    options = parser.parse_args(arguments)
    stop = Stop()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        simulator = simulators.from_arguments(options).start()
    except (ValueError, OverflowError) as err:  # an hour, a port or the like that there is not
        parser.error(str(err))
    except OSError as err:
        print(f"simulate: {err}", file=sys.stderr)
        return 1
    try:
        print(f"{simulator.name} answers on {simulator.port}; Ctrl-C ends it", flush=True)
        while not stop.wait(3600.0):
            pass
    finally:
        simulator.stop()
    return 0
