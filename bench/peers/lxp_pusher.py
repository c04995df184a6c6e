"""A simulated stick that pushes one block of inputs again and again. Usage: lxp_pusher.py PORT SECONDS WORDS TRUTH."""

import signal
import sys
import threading

from bridge.simulators.lxp import LxpSimulator
from bridge.simulators.truth import TruthLog

if __name__ == "__main__":
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    shape = ((4, 0, int(sys.argv[3])),)
    with LxpSimulator(model="sna", tcp_port=int(sys.argv[1]), greeting=0.0, pace=0.0, push_interval=float(sys.argv[2]),
                      shape=shape, truth=TruthLog(sys.argv[4])):  # fmt: skip
        over.wait()
