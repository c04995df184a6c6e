"""Frames and texts that other projects captured, where they lie beside the checkout."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.errors import ProtocolError
from bridge.fields import Value
from bridge.pylontech import console, console_cells, console_frame, messages, system_messages
from bridge.pylontech.frame import REFUSALS, Decoder, Frame, Refusal, decode, encode, reply_info
from bridge.pylontech.messages import ALLOWANCES, BITS
from bridge.pylontech.values import Values
from tests.shared import vectors

REASONS = {
    "chksum": ("checksum", "CHKSUM"),
    "lchksum": ("checksum", "LCHKSUM"),
    "lchksum_or_chksum": ("checksum", "CHKSUM"),
    "length": ("length", "LENID"),
    "short_payload": ("length", "past the end"),
    "charset": ("format", "upper-case hex"),
    "no_reply": "no reply",
    "no_frame": "no frame",
    "incomplete": "incomplete",
}
ALARM_BITS = {
    (1, 7): "module_under_voltage", (1, 6): "charge_over_temperature", (1, 5): "discharge_over_temperature",
    (1, 4): "discharge_over_current", (1, 2): "charge_over_current", (1, 1): "cell_under_voltage",
    (1, 0): "module_over_voltage", (2, 3): "on_battery_power", (2, 2): "discharge_fet_on", (2, 1): "charge_fet_on",
    (2, 0): "pre_charge_fet_on", (3, 7): "effective_charge_current", (3, 6): "effective_discharge_current",
    (3, 5): "heater", (3, 3): "fully_charged", (3, 0): "buzzer",
}  # fmt: skip


def test_the_bits_stand_where_the_document_says() -> None:
    assert {(bit.byte, bit.bit): bit.field.key for bit in BITS} == ALARM_BITS


def frame_of(raw: str) -> Frame:
    decoder = Decoder()
    decoder.receive(raw.encode("latin-1"))
    frame = decoder.next_frame()
    assert frame is not None
    return frame


def check_analog(values: messages.Values, wanted: dict[str, Any]) -> None:
    cells = wanted["cell_voltages_mv"]
    assert [values[f"cell_{n}_voltage"] for n in range(1, len(cells) + 1)] == [mv / 1000 for mv in cells]
    assert f"cell_{len(cells) + 1}_voltage" not in values
    sensors = ["temperature", *(f"temperature_{n}" for n in range(2, wanted["temp_count"] + 1))]
    assert [values[sensor] for sensor in sensors] == wanted["temps_c"]
    assert values["current"] == wanted["current_a"]
    assert values["voltage"] == wanted["voltage_mv"] / 1000
    assert values["cycles"] == wanted["cycles"]
    assert values["remaining_capacity"] == wanted["remaining_mah"] / 1000
    assert values["total_capacity"] == wanted["total_mah"] / 1000
    assert values["soc"] == wanted["soc_pct"]
    assert values["power"] == pytest.approx(wanted["power_w"], abs=0.011)


def numbers(codes: list[int], code: int) -> str:
    return " ".join(str(n) for n, found in enumerate(codes, 1) if found == code)


def check_alarm(values: messages.Values, wanted: dict[str, Any]) -> None:
    set_bits = {*wanted["status1"], *wanted["status2"], *wanted["status3"]}
    assert {key for key in ALARM_BITS.values() if values[key]} == set_bits
    assert values["faulty_cells"] == " ".join(str(n) for n in wanted["cell_error"])
    for code, state in ((1, "low"), (2, "high"), (0xF0, "error")):
        assert values[f"cells_{state}"] == numbers(wanted["cells"], code)
        assert values[f"temperatures_{state}"] == numbers(wanted["temps"], code)
    singles = {"charge_current_state": "charge_current", "voltage_state": "module_voltage",
               "discharge_current_state": "discharge_current"}  # fmt: skip
    for key, name in singles.items():
        assert values[key] == {0: "normal", 1: "low", 2: "high", 0xF0: "error"}[wanted[name]]


def check_management(values: messages.Values, wanted: dict[str, Any]) -> None:
    assert values["charge_voltage_limit"] == wanted["charge_v_limit_mv"] / 1000
    assert values["discharge_voltage_limit"] == wanted["discharge_v_limit_mv"] / 1000
    assert values["charge_current_limit"] == wanted["charge_current_limit_a"]
    assert values["discharge_current_limit"] == -wanted["discharge_current_limit_a"]
    for bit in ALLOWANCES:
        assert values[bit.field.key] is wanted[bit.field.key]


def check_parameters(values: messages.Values, wanted: dict[str, Any]) -> None:
    names = (
        "cell_high_v_mv", "cell_low_v_alarm_mv", "cell_under_v_protect_mv",
        "charge_temp_high_c", "charge_temp_low_c", "charge_current_limit_a",
        "module_high_v_mv", "module_low_v_alarm_mv", "module_under_v_protect_mv",
        "discharge_temp_high_c", "discharge_temp_low_c", "discharge_current_limit_a",
    )  # fmt: skip
    expected = [wanted[name] / 1000 if name.endswith("_mv") else wanted[name] for name in names]
    expected[-1] = -expected[-1]
    assert list(values.values()) == expected


def check_frame(vector: dict[str, Any]) -> None:
    frame, kind, wanted = frame_of(vector["frame"]), vector["kind"], vector["expected"]
    if kind in ("request", "console_wakeup"):
        assert (frame.version, frame.address, frame.code) == (wanted["ver"], wanted["adr"], wanted["cid2"])
        assert frame.info.hex().upper() == wanted["info"]
        assert encode(frame.address, frame.code, frame.info).decode() == vector["frame"]
        return
    header = wanted["header"]
    assert (frame.version, frame.address, frame.cid1, frame.code, 2 * len(frame.info)) == (
        header["ver"], header["adr"], header["cid1"], header["rtn"], header["lenid"],
    )  # fmt: skip
    if kind == "error_reply":
        with pytest.raises(Refusal) as refusal:
            reply_info(frame, frame.address)
        assert refusal.value.code == header["rtn"]
        assert REFUSALS[header["rtn"]]
        return
    info = reply_info(frame, header["adr"])
    if kind == "42h_reply_group":
        for found, module in zip(messages.analog_group(info), wanted["modules"], strict=True):
            assert found is not None
            check_analog(found, module)
    elif kind == "44h_reply_group":
        for alarms, module in zip(messages.alarm_group(info), wanted["modules"], strict=True):
            check_alarm(alarms, module)
    elif kind == "92h_reply_group":
        for limits, module in zip(messages.management_group(info), wanted["packs"], strict=True):
            check_management(limits, module)
    elif kind == "42h_reply_single":
        check_analog(messages.analog(info, frame.address), wanted["modules"][0])
    elif kind == "44h_reply_single":
        check_alarm(messages.alarm(info, frame.address), wanted["modules"][0])
    elif kind == "92h_reply":
        check_management(messages.management(info, frame.address), wanted)
    elif kind == "47h_reply":
        check_parameters(messages.parameters(info), wanted)
    else:
        check_texts(kind, frame, info, wanted)


def check_texts(kind: str, frame: Frame, info: bytes, wanted: dict[str, Any]) -> None:
    expected: dict[str, Value]
    if kind == "93h_reply":
        values, expected = messages.serial_number(info, frame.address), {"serial": wanted["serial"]}
    elif kind == "51h_reply":
        values = messages.identity(info)
        expected = {"model": wanted["device_name"], "software_version": wanted["software_version"],
                    "manufacturer": wanted["manufacturer_name"]}  # fmt: skip
    elif kind == "96h_reply":
        values = messages.firmware(info, frame.address)
        expected = {"manufacturer_version": wanted["manufacture_version"],
                    "mainline_version": wanted["mainline_version"]}  # fmt: skip
    elif kind == "4Fh_reply":
        values, expected = {"": messages.protocol_version(frame.version)}, {"": wanted["protocol_version"]}
    else:
        assert kind == "62h_reply"
        values = system_messages.system_alarm(info)
        expected = dict.fromkeys(values, False)
    assert values == expected


def test_all_captured_frames_decode_to_their_values() -> None:
    for vector in vectors("pylontech")["frames"]:
        try:
            check_frame(vector)
        except (AssertionError, ProtocolError) as err:
            raise AssertionError(f"{vector['id']}: {err}") from err


def read_first(decoder: Decoder, name: str) -> None:
    frame = decoder.next_frame()
    assert frame is not None
    if "group" in name:
        messages.analog_group(frame.info)
    else:
        messages.analog(frame.info, 2)


def test_all_invalid_frames_are_refused_for_the_right_reason() -> None:
    for vector in vectors("pylontech")["invalid"]:
        reason = REASONS[vector["expect_error"]]
        decoder = Decoder()
        decoder.receive(vector["frame"].encode("latin-1"))
        if isinstance(reason, str):
            assert decoder.next_frame() is None, vector["id"]
            assert decoder.unfinished() == reason, vector["id"]
            continue
        with pytest.raises(ProtocolError) as refusal:
            read_first(decoder, vector["id"])
        assert (refusal.value.kind, reason[1] in refusal.value.detail) == (reason[0], True), vector["id"]


def test_noise_around_captured_frames_is_survived() -> None:
    for vector in vectors("pylontech")["noise"]:
        raw, wanted = bytes.fromhex(vector["bytes_hex"]), vector["expected"]
        decoder = Decoder()
        frames = []
        for byte in raw:
            decoder.receive(bytes([byte]))
            frame = decoder.next_frame()
            if frame is not None:
                frames.append(frame)
        assert len(frames) == wanted.get("frames", 1), vector["id"]
        if "lenid" in wanted:
            assert 2 * len(frames[-1].info) == wanted["lenid"]
        if "modules" in wanted:
            check_analog(messages.analog(frames[0].info, 2), wanted["modules"][0])
        if "adr" in wanted:
            assert [frame.address for frame in frames] == wanted["adr"]


PWR_KEYS = {
    "voltage_mv": "voltage", "current_ma": "current", "temp_mc": "temperature", "tlow_mc": "cell_min_temperature",
    "thigh_mc": "cell_max_temperature", "vlow_mv": "cell_min_voltage", "vhigh_mv": "cell_max_voltage", "soc_pct": "soc",
    "mos_temp_mc": "mos_temperature",
}  # fmt: skip


def check_pwr(found: console.Modules, wanted: dict[str, Any]) -> None:
    assert not found.refused
    assert found.absent == {module["address"] for module in wanted["modules"] if not module["present"]}
    assert set(found.present) == {module["address"] for module in wanted["modules"] if module["present"]}
    for module in wanted["modules"]:
        values = found.present.get(module["address"])
        for name, key in PWR_KEYS.items():
            if values is not None:
                value = module[name]
                scaled = value / 1000 if value is not None and not name.endswith("pct") else value
                assert values.get(key) == scaled, (module["address"], key)
        if values is not None and "Vlow.Id" in module:
            assert values["cell_min_number"] == module["Vlow.Id"] + 1
            assert values["cell_max_number"] == module["Vhigh.Id"] + 1


def check_cells(values: Values, wanted: list[dict[str, Any]]) -> None:
    for cell in wanted:
        n = cell["cell"] + 1
        assert values[f"cell_{n}_voltage"] == cell["voltage_mv"] / 1000
        assert values[f"cell_{n}_temperature"] == cell["temp_mc"] / 1000
        assert values[f"cell_{n}_soc"] == cell["soc_pct"]
        assert values[f"cell_{n}_capacity"] == cell["coulomb_mah"] / 1000
        assert values[f"cell_{n}_balancing"] is cell["balancing"]
    assert f"cell_{len(wanted) + 1}_voltage" not in values


def in_si(text: str) -> float:
    return int(text.split()[0]) / 1000


def check_answer(command: str, lines: tuple[str, ...], wanted: dict[str, Any]) -> None:
    name, _, tail = command.partition(" ")
    position = int(tail) if tail else None
    if name == "pwr" and position is None:
        check_pwr(console.modules(lines), wanted)
    elif name == "pwr" and position is not None:
        values, fields = console.module(lines, position), wanted["fields"]
        assert values["voltage"] == in_si(fields["Voltage"])
        assert values["current"] == in_si(fields["Current"])
        assert values["temperature"] == in_si(fields["Temperature"])
        assert values["soc"] == int(fields["Coulomb"].split()[0])
        assert values["total_capacity"] == in_si(fields["Total Coulomb"])
        assert values["power_events"] == int(fields["Power Events"].split()[0], 16)
        assert values["fully_charged"] is ("COULFULL" in fields["Power Events"])
    elif name == "bat":
        check_cells(console_cells.cells(lines), wanted["cells"])
    elif name == "info":
        values = console.identity(lines, position)
        assert values["serial"] == wanted["fields"]["Barcode"]
        assert values["model"] == wanted["fields"]["Device name"]
    elif name == "stat":
        values = console.statistics(lines, position)
        assert values["cycles"] == int(wanted["fields"]["CYCLE Times"])
        assert values["soh"] == int(wanted["fields"]["SOH"])
    elif name == "time":
        assert console.clock(lines) == wanted["rtc"].replace(" ", "T")
    elif name == "getpwr":
        values = console_cells.local(lines)
        assert values["remaining_capacity"] == wanted["capacity_mah"] / 1000
        assert [values[f"cell_{n}_voltage"] for n in range(1, 16)] == [mv / 1000 for mv in wanted["cells_mv"]]
    else:
        values, fields = console.system(lines), wanted["fields"]
        assert values["remaining_capacity"] == in_si(fields["System RC"])
        assert values["charge_current_limit"] == in_si(fields["system Recommend chg current"])
        assert values["discharge_current_limit"] == -in_si(fields["system Recommend dsg current"])


def test_all_captured_console_answers_decode_to_their_values() -> None:
    for vector in vectors("pylontech")["console"]:
        decoder = console_frame.Decoder()
        decoder.receive(vector["text"].encode())
        answer = decoder.next_answer()
        assert answer is not None, vector["id"]
        try:
            check_answer(vector["command"], answer.body(vector["command"].encode() + b"\n"), vector["expected"])
        except (AssertionError, ProtocolError) as err:
            raise AssertionError(f"{vector['id']}: {err}") from err


def test_captured_console_words_are_told_apart() -> None:
    for vector in vectors("pylontech")["console_control"]:
        decoder = console_frame.Decoder()
        decoder.receive(bytes.fromhex(vector["bytes_hex"]) if "bytes_hex" in vector else vector["text"].encode())
        answer = decoder.next_answer()
        assert answer is not None
        assert f"{answer.prompt}>" == vector["expected"]["prompt"]
        asked = answer.echo.encode() + b"\n"
        if vector["expected"]["ok"]:
            assert answer.body(asked) == ()
        else:
            with pytest.raises(ProtocolError, match="refused: Unknown command"):
                answer.body(asked)


def test_the_misprinted_example_of_the_document_decodes_with_a_right_checksum() -> None:
    vector = next(one for one in vectors("pylontech")["invalid"] if one["id"] == "v33-document-example")
    raw = vector["frame"].encode()
    frame = decode(raw[:-5] + b"E27A\r")
    assert messages.analog(frame.info, 2)["total_capacity"] == 74.0
