"""Microseconds for one frame of a LuxPower stick, by whoever is installed here.

Usage: PYTHON lxp_decode.py luxmodbus|solarbridge NAME=FRAME-IN-HEX ...; prints JSON: for each name what CRC and
registers cost, with named values (`values`), how many; and what encoding a write of one register costs.
"""

import json
import statistics
import sys
import time

DATALOG, INVERTER, REGISTER, VALUE = "AB12345678", "1234567890", 66, 50


def luxmodbus():
    from luxmodbus import protocol, registers

    def words(raw):
        return protocol.decode_read_response(protocol.Frame.decode(raw).data_frame())

    def encode():
        data = protocol.DataFrame.write_single(INVERTER.encode(), REGISTER, VALUE)
        return protocol.Frame(194, DATALOG.encode(), data.encode()).encode()

    return words, lambda raw: registers.decode_inputs(words(raw)), encode


def solarbridge():
    from bridge.luxpower.frame import Decoder, Write
    from bridge.luxpower.models import family_of
    from bridge.luxpower.registers import INPUTS
    from bridge.luxpower.rows import Layout

    decoder, layout = Decoder(), Layout(INPUTS, family_of("FAAB", 12))

    def frame(raw):
        decoder.receive(raw)
        return decoder.next_frame()

    def values(raw):
        one = frame(raw)
        return layout.decode(one.register, one.data)

    return lambda raw: frame(raw).words, values, lambda: Write(DATALOG, INVERTER, REGISTER, VALUE).encode()


def microseconds(one):
    one()
    batches = []
    for _ in range(7):
        begin = time.perf_counter()
        for _ in range(300):
            one()
        batches.append((time.perf_counter() - begin) / 300 * 1e6)
    return statistics.median(batches)


if __name__ == "__main__":
    words, values, encode = {"luxmodbus": luxmodbus, "solarbridge": solarbridge}[sys.argv[1]]()
    told = {"encode": microseconds(encode), "bytes": encode().hex()}
    for argument in sys.argv[2:]:
        name, _, text = argument.partition("=")
        raw = bytes.fromhex(text)
        told[name] = {
            "words": microseconds(lambda raw=raw: words(raw)),
            "values": microseconds(lambda raw=raw: values(raw)),
            "count": len(values(raw)),
        }
    print(json.dumps(told))
