"""The frames other projects captured or tested with; skipped where they are not at hand."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from bridge.errors import ProtocolError
from bridge.fields import Value
from bridge.luxpower.codes import FAULTS, STATUS, WARNINGS, names_of_bits
from bridge.luxpower.frame import (
    Decoder,
    Heartbeat,
    Parameter,
    ParameterWritten,
    Read,
    ReadParameter,
    Refused,
    Registers,
    Write,
    WriteMany,
    WriteParameter,
    Written,
    decode_reply,
    decode_request,
)
from bridge.luxpower.models import Family, Feature, PowerUnit, family_of
from bridge.luxpower.registers import HOLDS, INPUTS
from bridge.luxpower.rows import Layout, power_factor, window
from bridge.luxpower.store import Store
from tests.luxpower.stream import decode_all, drain
from tests.shared import vectors

EVERYTHING = frozenset(Feature)


def frames(kind: str = "") -> list[Any]:
    return [frame for frame in vectors("lxp")["frames"] if kind in frame["kind"]]


def raw(vector: Any) -> bytes:
    return bytes.fromhex(vector["hex"])


def decoded(vector: Any) -> Any:
    return (decode_request if vector["kind"].endswith("_request") else decode_reply)(raw(vector))


def inputs_of(vector: Any, family: Family) -> dict[str, Value]:
    """Name and scale, judge nothing; the derived values of this frame alone."""
    frame = decoded(vector)
    values = Layout(INPUTS, family).decode(frame.register, frame.data)
    for row in INPUTS.derived:
        values[row.key] = row.rule([values.get(key) for key in row.inputs], [])
    return values


def scale_of(vector: Any) -> int:
    return 100 if vector.get("model_code") == "BAAA" else 10


def test_every_frame_has_the_header_it_should_have() -> None:
    for vector in frames():
        frame, expected = decoded(vector), vector["frame"]
        assert frame.protocol == expected["protocol"]
        assert frame.datalog_serial == expected["datalog"]
        if expected["tcp_function"] == 194:
            assert frame.inverter_serial == expected["inverter"]
            assert frame.register == expected["register"]


def test_every_read_reply_has_its_words() -> None:
    seen = 0
    for vector in frames():
        if "values_u16" in vector:
            frame = decoded(vector)
            assert isinstance(frame, Registers)
            assert frame.function == vector["frame"]["device_function"]
            assert list(frame.words) == vector["values_u16"]
            seen += 1
    assert seen > 10


def test_every_other_reply_says_what_it_should() -> None:
    for vector in frames():
        frame, expected = decoded(vector), vector.get("expect", {})
        if isinstance(frame, Written):
            assert (frame.register, frame.value) == (expected["register"], expected["value"])
        elif isinstance(frame, Refused):
            assert (frame.function, frame.code) == (expected["function"], expected["exception"])
        elif isinstance(frame, Parameter):
            assert (frame.parameter, int.from_bytes(frame.data, "little")) == (expected["param"], expected["value"])
        elif isinstance(frame, ParameterWritten):
            assert (frame.parameter, frame.status) == (expected["param"], expected["status"])
        elif isinstance(frame, Heartbeat):
            assert frame.raw == raw(vector)


def test_every_request_is_built_to_the_byte() -> None:
    for vector in frames("_request"):
        build = dict(vector["build"])
        protocol, datalog = build["protocol"], build["datalog"]
        if "data_hex" in build:
            request: Any = WriteParameter(datalog, build["param"], bytes.fromhex(build["data_hex"]), protocol)
        elif "param" in build:
            request = ReadParameter(datalog, build["param"], protocol)
        elif "values" in build:
            request = WriteMany(datalog, build["inverter"], build["register"], tuple(build["values"]), protocol)
        elif "value" in build:
            request = Write(datalog, build["inverter"], build["register"], build["value"], protocol)
        else:
            where = (build["device_function"], build["register"], build["count"])
            request = Read(datalog, build["inverter"], *where, protocol)
        assert request.encode() == raw(vector), vector["id"]
        assert decoded(vector) == request, vector["id"]


def test_every_input_frame_decodes_to_its_values() -> None:
    compared = 0
    for vector in frames("read_input_reply"):
        values = inputs_of(vector, Family(scale_of(vector), None, EVERYTHING))
        for key, expected in vector["decoded"].items():
            value = values[f"{key}_code"] if f"{key}_code" in values else values[key]
            assert value == expected, (vector["id"], key)
            assert type(value) is type(expected), (vector["id"], key)
            compared += 1
    assert compared > 500


def test_what_is_published_equals_it_or_is_not_known_for_a_reason() -> None:
    core = next(vector for vector in frames("read_input_reply") if vector["id"] == "input1-acs3600-discharging")
    gated = {key for row in INPUTS.rows if row.needs for key in (row.key,)}
    nothing = {(row.key, row.absent) for row in INPUTS.rows if row.absent is not None}
    nothing |= {(row.key, 0) for row in INPUTS.rows if row.told_with or row.zero_needs}
    for vector in frames("read_input_reply"):
        code = vector.get("model_code")
        store = Store(INPUTS, family_of(code, None) if code else Family(10))
        store.take(decoded(core), 0.0)
        store.take(decoded(vector), 100.0)
        snapshot = store.snapshot(100.0)
        assert snapshot is not None
        for key, expected in vector["decoded"].items():
            value = snapshot.values[key if f"{key}_code" not in snapshot.values else f"{key}_code"]
            allowed = key in gated or (key, expected) in nothing
            assert value == expected or (value is None and allowed), (vector["id"], key)


def test_the_generator_registers_of_an_sna_are_no_generator() -> None:
    vector = next(v for v in frames() if v["id"] == "sna-input-0-126-p5")
    store = Store(INPUTS, family_of("CBAA", 6))
    store.take(decoded(vector), 0.0)
    snapshot = store.snapshot(0.0)
    assert snapshot is not None
    assert vector["decoded"]["p_gen"] == 9109  # on a 6 kW unit without a generator
    assert snapshot.values["p_gen"] is snapshot.values["e_gen_all"] is snapshot.values["v_eps_s"] is None


def test_every_hold_frame_decodes_to_what_is_expected() -> None:
    names = {"model_code_regs_7_8": "model_code", "firmware_portal_style": "firmware"}
    names["serial_number_regs_2_6"] = "serial"
    for vector in frames("read_hold_reply"):
        store = Store(HOLDS, Family(10, PowerUnit.PERCENT, EVERYTHING))
        store.take(decoded(vector), 0.0)
        snapshot = store.snapshot(0.0)
        assert snapshot is not None or vector["register_count"] == 1
        if snapshot is None:
            continue
        for key, expected in vector.get("expect", {}).items():
            if key == "time":
                assert datetime.fromisoformat(str(snapshot.values["time"])) == datetime.fromisoformat(expected)
            elif key == "reg21_bits_set":
                bits = [row for row in HOLDS.rows if row.register == 21 and row.read.claims]
                found = [row.read.claims.bit_length() - 1 for row in bits if snapshot.values[row.key] is True]
                assert sorted(found) == expected
            elif key in names:
                assert snapshot.values[names[key]] == expected
        for register, word in vector.get("expect_registers", {}).items():
            stored = store.word(int(register))
            assert stored is not None
            assert stored.value == word


def test_every_stream_gives_its_frames() -> None:
    for stream in vectors("lxp")["streams"]:
        found, errors = decode_all(bytes.fromhex(chunk) for chunk in stream["chunks"])
        assert found == [decode_reply(bytes.fromhex(frame)) for frame in stream["frames"]], stream["id"]
        if "rejected" in stream:
            assert len(errors) == stream["rejected"]


@pytest.mark.parametrize("number", range(6))
def test_a_malformed_frame_is_never_delivered_and_costs_nothing_else(number: int) -> None:
    case = vectors("lxp")["malformed"][number]
    good = raw(next(v for v in frames() if v["id"] == "write-single-66-reply"))
    decoder = Decoder()
    decoder.receive(bytes.fromhex(case["hex"]))
    delivered, _ = drain(decoder)
    assert delivered == []
    decoder.give_up()
    drain(decoder)
    decoder.receive(good)
    delivered, _ = drain(decoder)
    assert delivered == [decode_reply(good)]


def test_a_malformed_frame_is_refused_by_its_kind() -> None:
    kinds = {"bad-crc": "checksum", "inner-length-disagrees": "length", "value-length-byte-disagrees": "length",
             "unknown-tcp-function": "format", "bad-prefix": "format", "truncated": "length"}  # fmt: skip
    for case in vectors("lxp")["malformed"]:
        with pytest.raises(ProtocolError) as caught:
            decode_reply(bytes.fromhex(case["hex"]))
        assert caught.value.kind == kinds[case["id"]], case["id"]


def test_status_codes_times_bits_and_power_factors_read_as_listed() -> None:
    listed = vectors("lxp")
    for status in listed["status_codes"]:
        assert STATUS[status["code"]] == status["name"]
    for time in listed["packed_times"]:
        assert window.convert is not None
        word = time["word"].to_bytes(2, "little")
        assert window.convert(word + word) == "{0:02}:{1:02}-{0:02}:{1:02}".format(time["hour"], time["minute"])
    for fault in listed["fault_words"]:
        names = FAULTS if fault["kind"] == "fault" else WARNINGS
        expected = ", ".join(names[bit] for bit in fault.get("bits", [])) or "none"
        assert names_of_bits(names, fault["value"]) == expected
    for factor in listed["power_factor"]:
        assert power_factor.convert is not None
        assert power_factor.convert(factor["raw"]) == factor["pf"]
