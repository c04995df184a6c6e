"""Microseconds for one decode of one 42h reply (checksum and values, no port), by whoever is installed here.

Usage: PYTHON pylontech_decode.py python-pylontech|solarbridge REPLY-IN-HEX; prints JSON.
"""

import json
import sys
import time


def python_pylontech(reply):
    from pylontech import Pylontech

    stack = Pylontech.__new__(Pylontech)  # without its port

    def one():
        frame = stack._decode_frame(stack._decode_hw_frame(reply))
        return stack.get_values_single_fmt.parse(frame.info[1:])

    return one


def solarbridge(reply):
    from bridge.pylontech.frame import Decoder, reply_info
    from bridge.pylontech.messages import analog

    decoder = Decoder()

    def one():
        decoder.receive(reply)
        return analog(reply_info(decoder.next_frame(), 2), 2)

    return one


if __name__ == "__main__":
    makers = {"python-pylontech": python_pylontech, "solarbridge": solarbridge}
    decode_once = makers[sys.argv[1]](bytes.fromhex(sys.argv[2]))
    told = decode_once()
    batches = []
    for _ in range(60):
        begin = time.perf_counter()
        for _ in range(300):
            decode_once()
        batches.append((time.perf_counter() - begin) / 300 * 1e6)
    # the quickest batch: the others were disturbed
    print(json.dumps({"us": min(batches), "values": len(told)}))
