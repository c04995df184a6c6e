"""The simulated stick's bytes against hand-made ones, and against captured frames where these are at hand."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.simulators.lxp_frames import DATA, HEARTBEAT, READ_HOLD, READ_INPUT, Dress, crc, cut, redress
from tests.shared import vectors
from tests.simulators.lxp_client import modbus, parameter, read, write, write_multi

STICK = Dress("AB12345678")


def test_the_crc_is_the_published_one() -> None:
    assert crc(b"123456789") == modbus(b"123456789") == 0x4B37


# fmt: off
PINNED = {
    "heartbeat": (STICK.heartbeat(), "a11a 0200 0d00 01 c1 41423132333435363738 00"),
    "one hold": (STICK.block(3, "1234567890", 21, [0xF354]),
                 "a11a 0200 2100 01 c2 41423132333435363738 1300 01 03 31323334353637383930 1500 02 54f3 5691"),
    "two inputs": (Dress("AB12345678", 5, 0).block(4, "1234567890", 40, [0x1234, 1]),
                   "a11a 0500 2300 01 c2 41423132333435363738 1500 00 04 31323334353637383930 2800 04 3412 0100 59e0"),
    "protocol 1": (Dress("AB12345678", 1).block(3, "1234567890", 12, [0x0619]),
                   "a11a 0100 2000 01 c2 41423132333435363738 1200 01 03 31323334353637383930 0c00 1906 bd86"),
    "written": (STICK.written("1234567890", 66, 100),
                "a11a 0200 2000 01 c2 41423132333435363738 1200 01 06 31323334353637383930 4200 6400 ceff"),
    "read style": (STICK.written("1234567890", 66, 100, True),
                   "a11a 0200 2100 01 c2 41423132333435363738 1300 01 06 31323334353637383930 4200 02 6400 b44b"),
    "written multi": (STICK.written_multi("1234567890", 12, 3),
                      "a11a 0200 2000 01 c2 41423132333435363738 1200 01 10 31323334353637383930 0c00 0300 65e9"),
    "exception": (STICK.exception(6, "1234567890", 234, 3),
                  "a11a 0200 1f00 01 c2 41423132333435363738 1100 01 86 31323334353637383930 ea00 03 1585"),
    "parameter": (STICK.parameter(0, b"\x78\x00"), "a11a 0200 1200 01 c3 41423132333435363738 0000 0200 7800"),
    "parameter, protocol 1": (Dress("AB12345678", 1).parameter(0, b"\x78\x00"),
                              "a11a 0100 1000 01 c3 41423132333435363738 0000 7800"),
    "parameter written": (STICK.parameter_written(6), "a11a 0200 0f00 01 c4 41423132333435363738 0600 00"),
}
# fmt: on


@pytest.mark.parametrize("name", PINNED)
def test_a_frame_is_laid_out_byte_for_byte(name: str) -> None:
    frame, expected = PINNED[name]
    assert frame.hex() == expected.replace(" ", "")


@pytest.mark.parametrize(("count", "total"), [(40, 117), (80, 197), (120, 277), (125, 287), (127, 291)])
def test_a_block_has_the_observed_size(count: int, total: int) -> None:
    assert len(STICK.block(READ_INPUT, "1234567890", 0, [0] * count)) == total
    assert len(Dress("AB12345678", 1).block(READ_INPUT, "1234567890", 0, [0] * count)) == total - 1


def test_a_serial_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="10 characters"):
        Dress("AB1234567").heartbeat()


def test_requests_are_cut_out_of_any_stream() -> None:
    requests = [
        read(READ_INPUT, 40, 40),
        write(67, 90),
        write_multi(12, 0x061A, 0x0F01, 0x0A1E),
        parameter(0xC3, b"\0\0"),
        parameter(0xC4, b"\0\0\2\0\x78\0"),
    ]
    stream = b"AT+QUIT\r\xa1" + b"".join(requests[:2]) + b"\xa1\x1a\x02\x00\xff\xff" + b"".join(requests[2:])
    buffer = bytearray()
    found = []
    for byte in stream:
        buffer.append(byte)
        found += cut(buffer)
    assert [request.raw for request in found] == requests
    assert all(request.sound for request in found)
    assert not buffer
    told = [(request.function, request.number, request.count) for request in found]
    assert told == [(4, 40, 40), (6, 67, 1), (16, 12, 3), (0, 0, 0), (0, 0, 0)]
    assert found[2].words == (0x061A, 0x0F01, 0x0A1E)
    assert found[4].data == b"\x78\0"


def test_a_damaged_request_is_told() -> None:
    whole = write(67, 90)
    for index in range(20, len(whole)):
        broken = bytearray(whole)
        broken[index] ^= 0x10
        assert not cut(broken)[0].sound
    short = bytearray(write_multi(12, 1, 2, 3))
    short[36] = 4
    short[-2:] = modbus(bytes(short[20:-2])).to_bytes(2, "little")
    assert not cut(short)[0].sound


def test_redress_spoils_one_thing_and_keeps_the_crc_right() -> None:
    frame = STICK.block(READ_HOLD, "1234567890", 21, [0xF354])
    other = redress(frame, inverter=b"9999999999")
    assert other[22:32] == b"9999999999"
    assert modbus(other[20:-2]).to_bytes(2, "little") == other[-2:] != frame[-2:]
    assert redress(frame, value_length=40)[34] == 40
    assert redress(frame, data_length=0)[18:20] == b"\0\0"
    assert redress(frame, frame_length=65535)[4:6] == b"\xff\xff"
    assert redress(frame, datalog=b"ZZ00000000")[20:] == frame[20:]
    wrong = redress(frame, crc=True)
    assert wrong[:-2] == frame[:-2]
    assert wrong[-2:] != frame[-2:]


BLOCKS = {"read_hold_reply", "read_input_reply"}


def test_captured_blocks_come_out_of_the_same_words() -> None:
    seen = 0
    for vector in vectors("lxp")["frames"]:
        if vector["kind"] in BLOCKS:
            at = vector["frame"]
            stick = Dress(at["datalog"], at["protocol"], at["address"])
            made = stick.block(at["device_function"], at["inverter"], at["register"], vector["values_u16"])
            assert made.hex() == vector["hex"], vector["id"]
            seen += 1
    assert seen > 10


def acknowledgement(vector: dict[str, Any]) -> bytes | None:
    """What the simulated stick makes of a captured acknowledgement's meaning; None for other frames."""
    at, expect = vector["frame"], vector.get("expect", {})
    stick = Dress(at["datalog"], at["protocol"], at.get("address") or 0)
    match vector["kind"]:
        case "write_single_reply":
            return stick.written(at["inverter"], expect["register"], expect["value"])
        case "exception_reply":
            return stick.exception(expect["function"], at["inverter"], expect["register"], expect["exception"])
        case "write_param_reply":
            return stick.parameter_written(expect["param"], expect["status"])
        case "read_param_reply":
            return stick.parameter(expect["param"], expect["value"].to_bytes(2, "little"))
    return None


def test_captured_acknowledgements_come_out_the_same() -> None:
    frames = vectors("lxp")["frames"]
    made = {vector["hex"]: made.hex() for vector in frames if (made := acknowledgement(vector))}
    assert len(made) >= 4
    assert list(made) == list(made.values())


def test_captured_requests_are_understood() -> None:
    for vector in vectors("lxp")["frames"]:
        if not vector["kind"].endswith("request"):
            continue
        build = vector["build"]
        (request,) = cut(bytearray(bytes.fromhex(vector["hex"])))
        assert request.sound, vector["id"]
        assert request.datalog == build["datalog"].encode()
        assert request.number == build.get("register", build.get("param"))
        assert request.function == build.get("device_function", 0)
        assert request.words == tuple(build.get("values", [build["value"]] if "value" in build else []))
        assert request.data.hex() == build.get("data_hex", "")


def test_the_heartbeat_is_nineteen_bytes() -> None:
    assert (len(STICK.heartbeat()), STICK.heartbeat()[7]) == (19, HEARTBEAT)
    assert STICK.block(3, "1234567890", 0, [1])[7] == DATA
