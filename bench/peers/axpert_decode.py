"""Microseconds for one decode of one QPIGS reply (CRC and fields, no port, no MQTT), by whoever is installed here.

Usage: PYTHON axpert_decode.py mppsolar|powermon|solarbridge REPLY-IN-HEX; prints JSON.
"""

import json
import logging
import statistics
import sys
import time


def mppsolar(reply):
    from mppsolar.protocols.pi30 import pi30

    protocol = pi30()
    return lambda: protocol.decode(reply, "QPIGS")


def powermon(reply):
    from powermon.commands.command import Command
    from powermon.protocols import get_protocol_definition

    protocol = get_protocol_definition("PI30")
    command = Command.from_config({"command": "QPIGS"})
    command.command_definition = protocol.get_command_definition("QPIGS")
    return lambda: command.build_result(raw_response=reply, protocol=protocol).readings


def solarbridge(reply):
    from bridge.voltronic.frame import Decoder
    from bridge.voltronic.inquiries import QPIGS

    decoder = Decoder()

    def one():
        decoder.receive(reply)
        return QPIGS.decode(decoder.next_reply())

    return one


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    decode_once = {"mppsolar": mppsolar, "powermon": powermon, "solarbridge": solarbridge}[sys.argv[1]](
        bytes.fromhex(sys.argv[2])
    )
    told = decode_once()
    batches = []
    for _ in range(7):
        begin = time.perf_counter()
        for _ in range(300):
            decode_once()
        batches.append((time.perf_counter() - begin) / 300 * 1e6)
    print(json.dumps({"us": statistics.median(batches), "values": len(told)}))
