"""Whole replies to values: our own captures, those of other projects, and a field log of 2020."""

from __future__ import annotations

import csv
import gzip
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import ProtocolError
from bridge.fields import Field
from bridge.voltronic import frame, replies
from bridge.voltronic.inquiries import PI30, PI41, QPGS, QPIGS, inquiry_of
from bridge.voltronic.inquiry import Inquiry
from bridge.voltronic.plan import ALSO, PLANS, Plan
from tests.shared import shared_file, vectors
from tests.voltronic.captures import BY_CASE, CAPTURES, Capture
from tests.voltronic.test_frame import heard

READABLE = [capture for capture in CAPTURES if "answer" not in capture.decoded and "accepted" not in capture.decoded]


def same(got: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Equal, and 5 is not 5.0, and in the order of the fields."""
    return repr(got) == repr(wanted)


def inquiry_for(capture: Capture) -> Inquiry:
    inquiry = inquiry_of(capture.command, replies.TABLES[capture.protocol])
    assert inquiry is not None
    return inquiry


def framed(text: str) -> bytes:
    body = b"(" + text.encode()
    return body + frame.crc(body) + b"\r"


# -- our own captures


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda capture: capture.case)
def test_a_capture_says_what_its_file_says(capture: Capture) -> None:
    decoded = replies.decode(capture.protocol, capture.command, capture.received)
    assert same(decoded, capture.decoded)
    if capture.state is not None:
        state = inquiry_for(capture).publish(decoded)
        assert same({key: state[key] for key in capture.state}, capture.state)
    if capture.contract is not None:
        assert inquiry_for(capture).contract(decoded) == capture.contract


@pytest.mark.parametrize("capture", READABLE, ids=lambda capture: capture.case)
def test_what_is_published_is_exactly_what_is_announced(capture: Capture) -> None:
    inquiry = inquiry_for(capture)
    decoded = inquiry.decode(heard_text(capture))
    values, announced = inquiry.publish(decoded), inquiry.fields(decoded)
    assert sorted(values) == sorted(field.key for field in announced)
    for field in announced:
        check_value(field, values[field.key])


def check_value(field: Field, value: object) -> None:
    if value is None:
        return
    if field.options:
        assert value in field.options
    elif field.quantity.unit is not None:
        assert type(value) in (int, float)
    elif field.quantity.device_class in ("flag", "problem"):
        assert type(value) is bool
    else:
        assert type(value) in (int, float, str)


def heard_text(capture: Capture) -> str:
    return replies.whole_reply(capture.protocol, capture.received)


def test_every_inquiry_has_a_capture() -> None:
    for protocol in ("PI30", "PI18"):
        shown = {inquiry_for(capture).command for capture in READABLE if capture.protocol in (protocol, "PI41")}
        assert shown >= set(replies.TABLES[protocol]), protocol


@pytest.mark.parametrize("capture", READABLE, ids=lambda capture: capture.case)
def test_no_other_distinct_inquiry_takes_a_capture_for_its_own(capture: Capture) -> None:
    mine = inquiry_for(capture)
    if mine.twin:
        return
    text = heard_text(capture)
    for inquiry in replies.TABLES[capture.protocol].values():
        if inquiry.command == mine.command or inquiry.twin:
            continue
        with pytest.raises(ProtocolError):
            inquiry.decode(text)


AMPERES = [
    [*first, *range(step, 301, step)][:count] for first in ([], [2]) for step in (5, 10, 20) for count in range(4, 15)
]
"""What QMCHGCR and its like may list. Three of them could be a second tracker, whose units list more."""


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_nothing_distinct_that_is_asked_takes_a_list_or_a_counter_for_its_answer(plan: Plan) -> None:
    asked = {*(ask.name for ask in plan.asks), plan.serial, plan.parallel, *ALSO} & plan.table.keys()
    lists = [(" " if plan.parallel else ",").join(f"{one:03d}" for one in amperes) for amperes in AMPERES]
    for text in (*lists, *(f"{number:08d}" for number in range(1_000, 10_000_000, 98_765))):
        payload = text if plan.parallel else f"D{len(text) + 3:03d}{text}"
        for inquiry in (plan.table[name] for name in asked if not plan.table[name].twin):
            with pytest.raises(ProtocolError):
                pytest.fail(f"{text} is an answer to {inquiry.command}: {inquiry.decode(payload)}")


@pytest.mark.parametrize("capture", READABLE, ids=lambda capture: capture.case)
def test_a_reply_with_its_last_field_missing_is_refused_or_a_known_shorter_form(capture: Capture) -> None:
    if capture.protocol == "PI18" or " " not in heard_text(capture).strip():
        return
    shorter = heard_text(capture).strip().rpartition(" ")[0]
    try:
        decoded = inquiry_for(capture).decode(shorter)
    except ProtocolError:
        return
    whole = inquiry_for(capture).decode(heard_text(capture))
    assert all(same({"": whole.get(key)}, {"": value}) or isinstance(value, list) for key, value in decoded.items())


@given(st.sampled_from(READABLE), st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=200))
def test_any_text_is_decoded_or_refused_and_nothing_else(capture: Capture, text: str) -> None:
    inquiry = inquiry_for(capture)
    try:
        decoded = inquiry.decode(text)
    except ProtocolError:
        return
    assert sorted(inquiry.publish(decoded)) == sorted(field.key for field in inquiry.fields(decoded))
    inquiry.contract(decoded)


@given(st.sampled_from(READABLE), st.data())
def test_a_changed_reply_with_a_right_checksum_is_decoded_or_refused(capture: Capture, data: st.DataObject) -> None:
    text = heard_text(capture)
    at = data.draw(st.integers(0, len(text) - 1))
    changed = text[:at] + data.draw(st.sampled_from(list("09 -.,AZ"))) + text[at + 1 :]
    inquiry = inquiry_for(capture)
    try:
        decoded = inquiry.decode(changed)
    except ProtocolError:
        return
    for field in inquiry.fields(decoded):
        check_value(field, inquiry.publish(decoded)[field.key])


# -- what cannot be

STATUS = heard_text(BY_CASE["qpigs-24"])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("231.4", "6553.5"),  # 0xFFFF tenths
        ("49.9", "655.35"),
        ("51.20", "655.3"),
        (" 081 ", " 130 "),  # a state of charge of 130 %
        ("00743", "65535"),
        ("00013", "65535"),
    ],
)
def test_a_value_no_inverter_can_have_refuses_the_frame_and_is_never_clipped(old: str, new: str) -> None:
    assert old in STATUS
    with pytest.raises(ProtocolError) as caught:
        replies.decode("PI30", "QPIGS", framed(STATUS.replace(old, new, 1)))
    assert caught.value.kind == "implausible"


def test_a_temperature_below_absolute_zero_is_null() -> None:
    decoded = replies.decode("PI30", "QPIGS", framed(STATUS.replace(" 0036 ", " -273 ")))
    assert decoded["heatsink_temperature"] is None
    assert decoded["battery_voltage"] == 51.2
    assert replies.decode("PI30", "QPIGS", framed(STATUS.replace(" 0036 ", " -012 ")))["heatsink_temperature"] == -12


@pytest.mark.parametrize("volts", [("53.6", "53.2", "46.5"), ("054", "053", "046"), ("000", "000", "000")])
def test_volts_of_a_bms_that_are_none_in_tenths_are_null(volts: tuple[str, str, str]) -> None:
    text = heard_text(BY_CASE["qbms"])
    assert " 536 532 465 " in text
    decoded = PI30["QBMS"].decode(text.replace(" 536 532 465 ", f" {' '.join(volts)} "))
    values = PI30["QBMS"].publish(decoded)
    assert [values[f"bms_{key}_voltage"] for key in ("cv", "float", "cutoff")] == [None] * 3
    assert (values["bms_battery_percent"], values["bms_max_charge_current"]) == (64, 120)


def test_a_status_of_another_protocol_is_not_read_by_our_table() -> None:
    with pytest.raises(ProtocolError) as caught:
        QPIGS.decode(" ".join(STATUS.split(" ")[:22]))
    assert caught.value.kind == "foreign"


@pytest.mark.parametrize("text", ["nan", "inf", "1e5", "1_0", "0x10", "+5", "٣", ""])
def test_only_plain_digits_are_numbers(text: str) -> None:
    with pytest.raises(ProtocolError):
        QPIGS.decode(STATUS.replace(" 081 ", f" {text} "))


@pytest.mark.parametrize("number", ["", "2", "3", "4"])
def test_a_firmware_version_may_stand_behind_a_space(number: str) -> None:
    for space in ("", " "):
        decoded = replies.decode("PI30", f"QVFW{number}", framed(f"VERFW{number}:{space}00072.70"))
        assert decoded == {"raw": f"VERFW{number}:00072.70"}
    for text in (f"VERFW{number}:", "VERFW5:00072.70", f"VERFW{number}: 00072 70", f"VERFW{number}:  00072.70"):
        with pytest.raises(ProtocolError, match="fields"):
            replies.decode("PI30", f"QVFW{number}", framed(text))


@pytest.mark.parametrize("year", ["0001", "1970", "1999", "2100", "9999"])
def test_a_clock_in_a_year_that_none_can_be_set_to_is_refused(year: str) -> None:
    with pytest.raises(ProtocolError, match="the year is") as caught:
        replies.decode("PI30", "QT", framed(f"{year}1231235959"))
    assert caught.value.kind == "implausible"
    for sane in ("2000", "2099"):
        assert replies.decode("PI30", "QT", framed(f"{sane}1231235959")) == {"time": f"{sane}-12-31T23:59:59"}


def test_pi41_tells_its_factory_output_mode_in_its_own_words() -> None:
    told = {}
    for command, case in (("QDI", "qdi-26"), ("QPIRI", "qpiri-pi41"), ("QPGS", "qpgs-27")):
        inquiry = PI41[command]
        decoded = inquiry.decode(heard_text(BY_CASE[case])) | {"output_mode": 6}
        told |= {key: value for key, value in inquiry.publish(decoded).items() if key.endswith("output_mode")}
    assert told == {"default_output_mode": "parallel_180", "output_mode": "parallel_180"}


def test_pi41_does_not_name_fields_that_nobody_knows_either() -> None:
    decoded = PI41["QPIRI"].decode(heard_text(BY_CASE["qpiri-odd-tail"]))
    assert "max_cv_charging_time" not in decoded
    assert decoded["_extra_fields"]


def test_a_field_too_few_is_refused() -> None:
    for command, least in (("QPIGS", 17), ("QPGS", 27), ("QPIRI", 24), ("QDI", 25)):
        whole = next(capture for capture in READABLE if inquiry_for(capture).command == command)
        tokens = heard_text(whole).split(" ")
        PI30[command].decode(" ".join(tokens[:least]))
        with pytest.raises(ProtocolError) as caught:
            PI30[command].decode(" ".join(tokens[: least - 1]))
        assert caught.value.kind == "length"


def test_a_thousand_fields_are_refused() -> None:
    with pytest.raises(ProtocolError):
        QPIGS.decode(STATUS + " 0" * 1000)


# -- the contract


def test_an_int_of_the_contract_becomes_a_float_only_where_the_field_has_a_point() -> None:
    contract = QPIGS.contract(QPIGS.decode(STATUS))
    assert same({"": contract["PvInputCurrent"]}, {"": 3.6})
    contract = QPIGS.contract(QPIGS.decode(heard_text(BY_CASE["qpigs-21"])))
    assert same({"": contract["PvInputCurrent"]}, {"": 9})


def test_a_serial_number_that_is_no_number_is_left_out_of_the_contract() -> None:
    text = heard_text(BY_CASE["qpgs-27"]).replace("94170312200071", "AB170312200071")
    assert "SerialNumber" not in QPGS.contract(QPGS.decode(text))


def test_the_contract_of_other_projects_is_kept() -> None:
    for example in vectors("axpert")["contract"]:
        inquiry = inquiry_of(example["command"])
        assert inquiry is not None
        decoded = replies.decode("PI30", example["command"], bytes.fromhex(example["raw_hex"]))
        made, wanted = inquiry.contract(decoded), example["expected_json"]
        assert made == wanted
        assert {key: type(value) for key, value in made.items()} == {key: type(v) for key, v in wanted.items()}


# -- the captures of other projects


def test_every_reply_of_other_projects_decodes_to_its_values() -> None:
    for vector in vectors("axpert")["replies"]:
        raw = bytes.fromhex(vector["raw_hex"])
        assert same(replies.decode(vector["protocol"], vector["command"], raw), vector["expected"]), vector["id"]


def test_every_cut_stream_is_recovered() -> None:
    for stream in vectors("axpert")["resync"]:
        texts = heard(frame.Decoder(), bytes.fromhex(stream["stream_hex"]))
        assert texts == [stream["expected_body"].removeprefix("(")]
        whole = framed(texts[0])
        assert same(replies.decode("PI30", stream["command"], whole), stream["expected"])


def test_replies_in_reports_of_eight_bytes_are_read() -> None:
    data = vectors("axpert")
    known = {vector["id"]: vector for vector in data["replies"]}
    for stream in data["hid_streams"]:
        vector = known[stream["vector"]]
        texts = heard(frame.Decoder(), *(bytes.fromhex(report) for report in stream["reports_hex"]))
        assert [inquiry_of(vector["command"]).decode(text) for text in texts] == [vector["expected"]]  # type: ignore[union-attr]


# -- a field log


def field_log() -> list[str]:
    """The second column of each record; what follows the first line's heading."""
    path = shared_file("data/axpert-qpigs-field-log-2020-08-23.csv.gz")
    with gzip.open(path, "rt", encoding="latin-1", newline="") as file:
        return [row[1] for row in csv.reader(file) if len(row) > 1]


def test_b13_every_recoverable_record_of_a_field_log_is_recovered_and_none_is_wrong() -> None:
    recovered, refused = 0, []
    for record in field_log():
        begun, _, last = record.rpartition("(")
        # the log kept the text alone, without CRCs: the last reply gets its own, what was cut off before it has none
        stream = (b"(" if begun else b"") + begun.encode("latin-1") + framed(last)
        assert heard(frame.Decoder(), stream) == [last]
        try:
            decoded = QPIGS.decode(last)
        except ProtocolError:
            refused.append(last)
            continue
        numbers = [token for token in last.split(" ") if token]
        assert len(decoded) == len(numbers) == 21, record
        for (name, value), token in zip(decoded.items(), numbers, strict=True):
            assert value == (token if name.startswith("device_status") else float(token)), record
        recovered += 1
    # the refused ones are answers to commands of another process on the same device
    assert set(refused) <= {"ACK", "NAK"}
    assert (recovered, len(refused)) == (9259, 2)
