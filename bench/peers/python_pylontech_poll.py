"""python-pylontech as people run it: ask modules 2 and up for their values, one after the other.

Usage: PYTHON python_pylontech_poll.py PORT BAUD MODULES; runs until it is ended. It writes JSON to its output:
its waits are so long that a broker would make no difference.
"""

import json
import sys

from pylontech import Pylontech

port, baud, modules = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
stack = Pylontech(port, baud)
while True:
    for address in range(2, 2 + modules):
        values = stack.get_values_single(address)
        known = {key: value for key, value in values.items() if not key.startswith("_")}
        print(json.dumps(known), flush=True)
