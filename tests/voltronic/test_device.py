"""The device against a scripted inverter on a real pty: what it asks, believes, publishes and forgets.

Deadlines are shortened so that silence does not take seconds; nothing else is changed.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from bridge.devices import Tally
from bridge.errors import LinkError, NoReply, ProtocolError, Stopped
from bridge.fields import Reading
from bridge.simulators.axpert import AxpertSimulator
from bridge.transports.base import DescriptorLink, Link
from bridge.voltronic import connection, reader
from bridge.voltronic.device import AxpertDevice, Options, Topics, build
from bridge.voltronic.known import SILENT_FOR, Patience
from tests.harness import PATIENCE
from tests.voltronic.captures import BY_CASE
from tests.voltronic.peer import NAK, PI18_NO, Answer, Peer, Surroundings, after, crc, in_turn, pi18, reply

FIRST, BETWEEN, IN_ALL, SETTLED = 0.25, 0.1, 0.7, 0.4


@pytest.fixture(autouse=True)
def short_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "FIRST_BYTE", FIRST)
    monkeypatch.setattr(connection, "BETWEEN", BETWEEN)
    monkeypatch.setattr(connection, "IN_ALL", IN_ALL)
    monkeypatch.setattr(connection, "SETTLED_AFTER", SETTLED)


def text_of(case: str) -> str:
    return BY_CASE[case].received[1:-3].decode()


STATUS = text_of("qpigs-21")
SERIAL = "94170312200071"
UNIT0 = text_of("qpgs-27")
UNIT1 = UNIT0.replace(SERIAL, "94170312200072")
ABSENT = "0 00000000000000 " + text_of("qpgs-lone").split(" ", 2)[2].replace("B 00", "P 00", 1)
LONE = text_of("qpgs-lone")

USUAL: dict[str, Answer] = {
    "QPI": "PI30",
    "QID": SERIAL,
    "QVFW": "VERFW:00043.21",
    "QPIGS": STATUS,
    "QMOD": "L",
    "QPIWS": text_of("qpiws-none"),
    "QPIRI": text_of("qpiri-25"),
    "QFLAG": text_of("qflag-9"),
}


class Rig:
    """One device on one peer."""

    def __init__(self, peer: Peer, **options: Any) -> None:
        self.peer = peer
        self.world = Surroundings()
        self.options = Options(**{"name": "roof", "type": "axpert", "port": peer.port, "interval": 0.0} | options)
        self.device = build(self.options, self.world.context)

    def poll(self, rounds: int = 1) -> list[Reading]:
        return [reading for _ in range(rounds) for reading in self.device.poll() if reading is not None]

    def poll_until(self, done: Callable[[], bool], seconds: float = 5.0) -> list[Reading]:
        """Poll until `done`; at the deadline the test fails."""
        readings = []
        end = time.monotonic() + seconds * PATIENCE
        while not done():
            assert time.monotonic() < end, "not in time"
            readings += self.poll()
        return readings


@pytest.fixture
def rig() -> Iterator[Callable[..., Rig]]:
    rigs: list[Rig] = []

    def make(answers: dict[str, Answer] | None = None, otherwise: Answer = NAK, **options: Any) -> Rig:
        made = Rig(Peer({**USUAL, **(answers or {})}, otherwise).__enter__(), **options)
        rigs.append(made)
        made.device.open()
        return made

    yield make
    for made in rigs:
        made.device.close()
        made.peer.__exit__(None, None, None)


Make = Callable[..., Rig]


def states(readings: list[Reading], path: str = "") -> list[dict[str, Any]]:
    return [dict(r.values) for r in readings if r.topic is None and r.unit.path == path]


def on(readings: list[Reading], topic: str) -> list[dict[str, Any]]:
    return [dict(r.values) for r in readings if r.topic == topic]


# -- the first round


def test_the_first_state_comes_after_one_answer(rig: Make) -> None:
    one = rig()
    first = next(reading for reading in one.device.poll() if reading is not None)
    assert one.peer.asked == ["QPIGS"]
    assert first.values["battery_voltage"] == 51.2
    assert first.unit.serial is None


def test_status_bits_are_unknown_until_the_unit_names_its_protocol(rig: Make) -> None:
    round_one = states(rig().poll())
    assert round_one[0]["load_on"] is None
    assert round_one[0]["device_status"] == "00010110"
    assert round_one[-1]["load_on"] is True


def test_status_bits_are_known_at_once_when_the_configuration_names_the_protocol(rig: Make) -> None:
    one = rig(protocol="PI30")
    assert states(one.poll())[0]["load_on"] is True
    assert "QPI" not in one.peer.asked


def test_a_split_phase_unit_gets_its_own_meaning_of_the_bits(rig: Make) -> None:
    one = rig({"QPI": "PI41", "QPIGS": text_of("qpigs-pi41"), "QPIRI": text_of("qpiri-pi41")})
    last = states(one.poll(12))[-1]
    assert (last["scc_ok"], last["line_lost"], last["output_mode"]) == (True, False, "parallel_180")
    assert "sbu_priority_version" not in last


def test_a_unit_that_does_not_know_qpi_counts_as_pi30(rig: Make) -> None:
    one = rig({"QPI": NAK})
    assert states(one.poll(3))[-1]["load_on"] is True
    assert one.peer.count("QPI") == 1


def test_nothing_is_published_under_a_serial_number_before_the_unit_gave_it(rig: Make) -> None:
    one = rig({"QID": in_turn(None, None, SERIAL)})
    readings = one.poll()
    assert not on(readings, f"power/axpert{SERIAL}")
    assert all(reading.unit.serial is None for reading in readings)
    one.device._identify_due = 0.0
    readings = one.poll_until(lambda: one.device.known.root.serial is not None)
    readings += one.poll()
    assert on(readings, f"power/axpert{SERIAL}")[-1] == BY_CASE["qpigs-21"].contract


def test_a_unit_without_a_serial_number_still_has_its_state(rig: Make) -> None:
    one = rig({"QID": NAK})
    readings = one.poll(3)
    assert states(readings)
    assert {reading.topic for reading in readings} == {None}
    assert one.peer.count("QID") == 1


def test_identity_goes_into_the_unit(rig: Make) -> None:
    one = rig({"QMN": "VMII-NXPW5KW"})
    one.poll(12)
    unit = one.poll()[0].unit
    assert (unit.serial, unit.firmware, unit.model) == (SERIAL, "00043.21", "VMII-NXPW5KW")


def test_a_firmware_version_behind_a_space_is_known(rig: Make) -> None:
    one = rig({"QVFW": "VERFW: 00072.70"})
    one.poll_until(lambda: one.device.known.root.firmware == "00072.70")


def test_identity_is_learned_anew_after_each_opening(rig: Make) -> None:
    one = rig()
    one.poll()
    one.device.close()
    one.peer.answers["QID"] = "94170312200099"
    one.device.open()
    assert [r.topic for r in one.poll() if r.topic] == ["power/axpert94170312200099"]


def test_b2_another_inverter_on_the_cable_makes_the_port_be_opened_anew(rig: Make) -> None:
    one = rig(settings_interval=0.0)
    one.poll()
    one.peer.answers["QID"] = "94170312200099"
    with pytest.raises(LinkError, match="another inverter"):
        one.poll()


OTHER: dict[str, Answer] = {**USUAL, "QID": "94170312200099", "QPIGS": STATUS.replace("51.20", "48.88", 1)}
"""What the unit says into which the cable is put."""


@pytest.fixture
def swift(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a cable be moved within as little as the deadlines of these tests."""
    monkeypatch.setattr(connection, "MOVED_AFTER", FIRST / 2)


def move_cable(one: Rig) -> None:
    one.peer.answers = dict(OTHER)
    one.peer.otherwise = NAK


def readings_until_noticed(one: Rig) -> list[Reading]:
    """Poll until another inverter is noticed; return what was told before. At the deadline the test fails."""
    readings: list[Reading] = []
    end = time.monotonic() + 5.0 * PATIENCE
    while time.monotonic() < end:
        try:
            readings.extend(reading for reading in one.device.poll() if reading is not None)
        except NoReply:
            continue
        except LinkError as err:
            if "another inverter" not in str(err):
                raise
            return readings
    raise AssertionError("not noticed in time")


def assert_nothing_of_the_other(readings: list[Reading]) -> None:
    assert not [state for state in states(readings) if state["battery_voltage"] == 48.88]
    assert all(told == BY_CASE["qpigs-21"].contract for told in on(readings, f"power/axpert{SERIAL}"))


@pytest.mark.usefixtures("swift")
def test_a_cable_moved_in_a_silent_round_brings_nothing_under_the_former_number(rig: Make) -> None:
    """A serial cable can be put into another unit without the port noticing, within less than its reopening takes."""
    one = rig(settings_interval=3600.0)
    one.poll(3)
    one.peer.answers.clear()
    one.peer.otherwise = None
    with pytest.raises(NoReply):
        one.poll()
    move_cable(one)
    assert_nothing_of_the_other(readings_until_noticed(one))


@pytest.mark.usefixtures("swift")
@pytest.mark.parametrize("question", ["QPIGS", "QMOD"])
def test_a_cable_moved_between_two_tries_brings_nothing_under_the_former_number(rig: Make, question: str) -> None:
    one = rig(settings_interval=3600.0)
    one.poll(3)

    def moved(_question: bytes) -> None:
        move_cable(one)

    one.peer.answers[question] = moved
    assert_nothing_of_the_other(readings_until_noticed(one))


@pytest.mark.usefixtures("swift")
def test_a_cable_moved_between_two_rounds_brings_nothing_under_the_former_number(rig: Make) -> None:
    one = rig(settings_interval=3600.0)
    one.poll(3)
    time.sleep(FIRST)
    move_cable(one)
    assert readings_until_noticed(one) == []


@pytest.mark.usefixtures("swift")
def test_behind_a_lost_answer_the_same_unit_goes_on_at_once(rig: Make) -> None:
    one = rig()
    one.poll(3)
    one.peer.answers["QPIGS"] = in_turn(None, STATUS)
    asked = one.peer.count("QID")
    assert states(one.poll())
    assert one.peer.count("QID") > asked


def test_while_all_is_answered_nobody_asks_who_is_there(rig: Make) -> None:
    one = rig()
    one.poll(25)
    assert one.peer.count("QID") == 1


def test_b10_answers_damaged_one_after_the_other_cost_no_question_more(
    rig: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is there need not be asked: what comes is as long as the unit's answers are, however often."""
    monkeypatch.setattr(connection, "MOVED_AFTER", 1.0)
    one = rig(settings_interval=3600.0)
    one.poll(12)
    one.peer.answers |= {"QPIGS": in_turn(*[damaged(STATUS)] * 30, STATUS), "QMOD": damaged("L")}
    end = time.monotonic() + 2 * connection.MOVED_AFTER
    while time.monotonic() < end:
        with contextlib.suppress(NoReply):
            one.poll()
    assert one.peer.count("QID") == 1


@pytest.mark.usefixtures("swift")
def test_a_late_answer_that_looks_like_a_serial_number_takes_nobody_offline(
    rig: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "SETTLED_AFTER", 10.0)
    one = rig()
    one.poll(3)
    one.peer.answers |= {"QPIGS": in_turn(None, STATUS), "QID": in_turn("20261127201500", SERIAL)}
    asked = one.peer.count("QID")
    assert states(one.poll(2))[-1]["battery_voltage"] == 51.2
    assert one.peer.count("QID") >= asked + 2


@pytest.mark.usefixtures("swift")
@pytest.mark.parametrize("said", [NAK, None], ids=["refuses", "silent"])
def test_a_unit_that_does_not_say_any_more_who_it_is_goes_on_without_a_number(rig: Make, said: bytes | None) -> None:
    one = rig()
    one.poll(3)
    one.peer.answers |= {"QPIGS": in_turn(None, STATUS), "QID": said}
    for _ in range(3):  # then the publisher opens the port anew
        with pytest.raises(NoReply):
            one.poll()
    one.device.close()
    one.device.open()
    readings = one.poll()
    assert states(readings)[-1]["battery_voltage"] == 51.2
    assert {reading.unit.serial for reading in readings} == {None}


# -- keys


def test_a_state_has_every_announced_key_every_time_and_never_loses_one(rig: Make) -> None:
    more: dict[str, Answer] = {
        "QPIGS": in_turn(text_of("qpigs-17"), text_of("qpigs-24"), STATUS),
        "QPIGS2": text_of("qpigs2-3"),
        "QPIRI": in_turn(text_of("qpiri-25"), text_of("qpiri-28"), NAK),
        "QFLAG": in_turn(text_of("qflag-9"), text_of("qflag-max")),
        "QPIWS": in_turn(text_of("qpiws-32"), text_of("qpiws-36")),
        "QBEQI": text_of("qbeqi"),
        "QPGS0": UNIT0,
        "QPGS1": in_turn(UNIT1, NAK),
    }
    one = rig(more, alarms_interval=0.0, settings_interval=0.0)
    readings = one.poll(30)
    known: dict[str, set[str]] = {}
    for reading in readings:
        if reading.topic is None:
            assert set(reading.values) == {field.key for field in reading.unit.fields}
            assert known.get(reading.unit.path, set()) <= set(reading.values)
            known[reading.unit.path] = set(reading.values)
    assert {"pv2_power", "equalization_voltage", "max_discharging_current", "flag_data_log_popup"} <= known[""]


def test_the_keys_stay_when_the_line_breaks_and_nothing_old_is_in_them(rig: Make) -> None:
    one = rig({"QPIGS2": text_of("qpigs2-3"), "QPIRI": text_of("qpiri-28")})
    known = set(states(one.poll(12))[-1])
    assert {"pv2_power", "max_discharging_current"} <= known
    one.device.close()
    one.device.open()
    first = states(one.poll())[0]
    assert set(first) == known
    assert first["max_discharging_current"] is None, "not asked yet"
    assert states(one.poll(12))[-1]["max_discharging_current"] is not None


def test_the_keys_of_another_inverter_do_not_stay(rig: Make) -> None:
    one = rig({"QPIGS2": text_of("qpigs2-3"), "QPIRI": text_of("qpiri-28")})
    one.poll(12)
    one.device.close()
    one.peer.answers |= {"QID": "94170312200099", "QPIGS2": NAK, "QPIRI": text_of("qpiri-25")}
    one.device.open()
    assert not {"pv2_power", "max_discharging_current"} & set(states(one.poll(12))[-1])


def test_the_unit_is_the_same_object_while_nothing_new_is_learned(rig: Make) -> None:
    one = rig({"QPGS0": UNIT0, "QPGS1": UNIT1, "QPGS2": ABSENT})
    one.poll(30)
    units = {(reading.unit.path, id(reading.unit)) for reading in one.poll(5)}
    assert len(units) == 3


def test_an_unchanged_round_publishes_the_state_once(rig: Make) -> None:
    one = rig(alarms_interval=60.0)
    one.poll(30)
    assert len(states(one.poll())) == 1
    one.peer.answers["QMOD"] = "B"
    assert [state["mode"] for state in states(one.poll())] == ["line", "battery"]


# -- failures of one question


def damaged(text: str) -> bytes:
    raw = bytearray(reply(text))
    raw[3] ^= 0x01
    return bytes(raw)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (damaged(STATUS), "checksum"),
        (reply(STATUS)[:50], "no_reply"),
        (None, "no_reply"),
        (b"(NAK\r", "format"),
        (reply(STATUS.replace("51.20", "655.3")), "implausible"),
        (reply("B"), "length"),
    ],
)
def test_a_failed_question_is_counted_and_asked_once_more(rig: Make, said: bytes | None, kind: str) -> None:
    one = rig({"QPIGS": in_turn(said, STATUS)}, protocol="PI30")
    assert states(one.poll())[0]["battery_voltage"] == 51.2
    assert one.peer.asked[:2] == ["QPIGS", "QPIGS"]
    assert one.world.tally.failures[kind] == 1


def test_a_question_is_not_asked_a_third_time_in_a_round(rig: Make) -> None:
    one = rig({"QMOD": damaged("L")})
    state = states(one.poll())[-1]
    assert one.peer.count("QMOD") == 2
    assert (state["mode"], state["mode_code"]) == (None, None)


def test_silence_ends_the_round_early_and_nothing_is_published(rig: Make) -> None:
    one = rig(otherwise=None)
    one.peer.answers.clear()
    with pytest.raises(NoReply):
        one.poll()
    assert len(one.peer.asked) == 4  # two questions, each with its second try
    assert one.world.tally.failures["no_reply"] == 4


def test_an_inverter_that_refuses_everything_publishes_nothing_and_teaches_nothing(rig: Make) -> None:
    one = rig(protocol="PI30")
    answers = dict(one.peer.answers)
    one.peer.answers.clear()
    with pytest.raises(NoReply, match="refusals"):
        one.poll()
    one.peer.answers.update(answers)
    last = states(one.poll(12))[-1]
    assert (last["battery_type"], last["mode"]) == ("user", "line")


def test_b17_an_unknown_question_is_asked_again_after_an_hour(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one = rig()
    one.poll(40)
    assert one.peer.count("QPIGS2") == 1
    assert one.peer.count("QPGS0") == 1
    monkeypatch.setattr(reader, "REFUSED_FOR", 0.0)
    one.device.known.tasks["QPIGS2"].due = 0.0
    one.poll(2)
    assert one.peer.count("QPIGS2") >= 2


@pytest.mark.parametrize(("name", "said"), [("QPGS0", UNIT0), ("QPIGS2", text_of("qpigs2-3")), ("QID", SERIAL)])
def test_b17_one_refusal_of_what_was_answered_is_not_believed_a_second_is(rig: Make, name: str, said: str) -> None:
    """An inverter refuses a question that is damaged on its way: so that unit, that tracker was gone for an hour."""
    one = rig({name: in_turn(said, NAK, said, NAK, NAK, said)}, settings_interval=0.0)

    def asked(times: int) -> None:
        end = time.monotonic() + 5 * PATIENCE
        while one.peer.count(name) < times:
            assert time.monotonic() < end, "not in time"
            one.device._identify_due = 0.0
            one.poll()

    asked(5)
    for _ in range(5):
        one.device._identify_due = 0.0
        one.poll()
    assert one.peer.count(name) == 5


@pytest.mark.parametrize("name", ["QPIWS", "QPIRI", "QFLAG"])
def test_what_every_unit_answers_is_asked_again_with_pauses_after_a_refusal(rig: Make, name: str) -> None:
    """Not after an hour, for which no setting could be written, no alarm be seen."""
    said = USUAL[name]
    assert isinstance(said, str)
    one = rig({name: in_turn(NAK, said)})
    one.poll(5)
    assert one.peer.count(name) == 1
    task = one.device.known.tasks[name]
    assert task.due <= time.monotonic() + SILENT_FOR
    task.due = 0.0
    one.poll()
    assert one.peer.count(name) == 2
    assert task.decoded is not None


def test_an_echo_counts_as_a_refusal(rig: Make) -> None:
    one = rig({"QPGS0": lambda question: question})
    one.poll(10)
    assert one.peer.count("QPGS0") == 1


def test_a_refusal_without_its_checksum_is_not_remembered(rig: Make) -> None:
    one = rig({"QPGS0": b"(NAK\r"})
    one.poll()
    assert one.peer.count("QPGS0") == 2
    one.poll()
    assert one.peer.count("QPGS0") == 4


def test_an_unanswered_slow_question_is_asked_again_with_growing_pauses(
    rig: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = rig({"QPIRI": None})
    one.poll(5)
    assert one.peer.count("QPIRI") == 2
    task = one.device.known.tasks["QPIRI"]
    assert task.pause == 2 * SILENT_FOR
    task.due = 0.0
    one.poll()
    assert one.peer.count("QPIRI") == 4
    assert task.pause == 4 * SILENT_FOR


def test_a_unit_silent_to_qpgs0_takes_nobody_elses_turn(rig: Make) -> None:
    """Each silence disturbs the line, so that questions whose answers look alike would wait for ever."""
    one = rig({"QPGS0": None, "QT": "20261121120000", "QET": "00012345", "QMN": "MKS2-8000"})
    one.poll_until(lambda: {"QT", "QET", "QMN"} <= set(one.peer.asked))
    state = states(one.poll())[-1]
    assert (state["clock"], state["pv_energy_total"]) == ("2026-11-21T12:00:00", 12.345)
    assert one.device.known.root.model == "MKS2-8000"
    assert one.peer.count("QPGS0") == 2
    one.device.refresh()
    one.poll()
    assert one.peer.count("QPGS0") == 4


@pytest.mark.parametrize("silent", ["QPGS1", "QPIGS2"])
def test_what_falls_silent_is_asked_again_with_growing_pauses_until_it_answers(rig: Make, silent: str) -> None:
    answers: dict[str, Answer] = {"QPGS0": UNIT0, "QPGS1": UNIT1, "QPGS2": ABSENT, "QPIGS2": text_of("qpigs2-3")}
    one = rig(answers)
    one.poll_until(lambda: one.peer.count("QPIGS2") > 1)
    one.peer.asked.clear()
    one.peer.answers[silent] = None
    patience: Patience = one.device.members.patience(1) if silent == "QPGS1" else one.device.known.tasks["QPIGS2"]
    for pause in (1.0, 2.0, 4.0):
        before = one.peer.count(silent)
        patience.due = min(patience.due, time.monotonic())
        one.poll()
        assert one.peer.count(silent) == before + 2
        assert patience.pause == pause
    patience.due = time.monotonic() + 60
    one.poll(3)
    assert one.peer.count(silent) == 6
    one.peer.answers[silent] = answers[silent]
    patience.due = 0.0
    one.poll(3)
    assert (one.peer.count(silent), patience.pause) == (9, 0.0)


def test_a_value_is_null_while_its_question_is_in_a_pause(rig: Make) -> None:
    one = rig({"QPIGS2": text_of("qpigs2-3")}, max_age=0.3)
    one.poll_until(lambda: one.device._published.get("pv2_power") == 825)
    one.peer.answers["QPIGS2"] = None
    one.poll_until(lambda: one.device._published["pv2_power"] is None)
    one.device.known.tasks["QPIGS2"].due = time.monotonic() + 60
    state = states(one.poll())[0]
    assert (state["battery_voltage"], state["pv2_power"]) == (51.2, None)


def test_refresh_asks_everything_in_the_next_round(rig: Make) -> None:
    one = rig()
    one.poll(40)
    one.peer.asked.clear()
    one.device.refresh()
    one.poll()
    assert {"QPIGS", "QMOD", "QPIWS", "QPIRI", "QFLAG", "QPIGS2", "QPGS0"} <= set(one.peer.asked)


def test_a_refresh_lets_nothing_grow_old_that_every_round_tells(rig: Make) -> None:
    one = rig({"QPGS0": UNIT0, "QPGS1": UNIT1, "QPGS2": ABSENT}, after(0.04, NAK), max_age=0.6)
    one.poll_until(lambda: one.device.members.last_known() == 1)
    one.poll(5)
    for question in ("QMOD", "QPIWS", "QPIRI", "QFLAG"):
        one.peer.answers[question] = after(0.04, one.peer.answers[question])  # type: ignore[arg-type]
    one.peer.asked.clear()
    one.device.refresh()
    readings = one.poll()
    assert len(set(one.peer.asked)) > 20, "everything was asked"
    assert all(state["battery_voltage"] is not None for state in states(readings))
    for path in (SERIAL, "94170312200072"):
        told = [reading.at for reading in readings if reading.unit.path == path and reading.topic is None]
        assert len(told) > 1
        assert max(later - earlier for earlier, later in pairwise(told)) < 0.6


# -- out of step


def test_b15_an_answer_after_its_deadline_is_thrown_away_and_never_taken_for_another(rig: Make) -> None:
    one = rig({"QPIGS": after(FIRST * 1.4, STATUS), "QMOD": "L"}, protocol="PI30")
    for _ in range(2):
        for state in states(one.poll()):
            assert state["mode"] in (None, "line")
            assert state["battery_voltage"] in (None, 51.2)
            assert state["pv_energy_total"] is None if "pv_energy_total" in state else True


def test_questions_whose_answers_look_alike_wait_until_the_line_has_settled(rig: Make) -> None:
    """The answer to QLT comes late, while QET is asked: both are eight digits."""
    one = rig({"QET": "00011111", "QLT": "00022222", "QT": NAK})
    one.poll(2)
    one.device._asker.line.disturb()
    asked = len(one.peer.asked)
    end = time.monotonic() + SETTLED * 0.6
    while time.monotonic() < end:
        one.poll()
    assert not {"QET", "QLT", "QMCHGCR"} & set(one.peer.asked[asked:])
    readings = one.poll_until(lambda: one.peer.count("QET") > 0 and one.peer.count("QLT") > 0)
    assert states(readings)[-1]["pv_energy_total"] == 11.111
    assert states(readings)[-1]["load_energy_total"] == 22.222


def test_a_late_answer_to_a_counter_is_never_another_counters_value(rig: Make) -> None:
    one = rig({"QET": "00011111", "QLT": after(FIRST * 2.6, "00022222")})
    seen = []
    for _ in range(25):
        seen += [state.get("pv_energy_total") for state in states(one.poll())]
    assert set(seen) <= {None, 11.111}
    assert 22.222 not in seen


def test_bytes_that_come_unasked_are_thrown_away(rig: Make) -> None:
    one = rig()
    one.poll(3)
    one.peer.say(reply(STATUS.replace("51.20", "44.40")))
    deadline = time.monotonic() + 5
    while not one.world.tally.failures["late"] and time.monotonic() < deadline:
        assert {state["battery_voltage"] for state in states(one.poll())} == {51.2}
    assert one.world.tally.failures["late"] == 1


def test_b12_of_two_joined_answers_the_one_that_fits_is_taken(rig: Make) -> None:
    one = rig({"QPIGS": reply("B") + reply(STATUS), "QMOD": reply("L") + reply(STATUS)})
    state = states(one.poll(2))[-1]
    assert (state["battery_voltage"], state["mode"]) == (51.2, "line")


def test_b12_of_two_joined_answers_that_fit_the_newest_is_taken(rig: Make) -> None:
    one = rig({"QPIGS": reply(STATUS.replace("51.20", "44.40")) + reply(STATUS)})
    assert {state["battery_voltage"] for state in states(one.poll(2))} == {51.2}


@pytest.mark.parametrize("cut", [8, 16, 56, 104])
def test_b13_a_reply_cut_off_before_a_whole_one_is_left_out(rig: Make, cut: int) -> None:
    one = rig({"QPIGS": reply(STATUS.replace("51.20", "44.40"))[:cut] + reply(STATUS)})
    assert {state["battery_voltage"] for state in states(one.poll())} == {51.2}
    assert not one.world.tally.failures["checksum"]


def test_an_answer_to_somebody_elses_setting_is_no_measurement(rig: Make) -> None:
    one = rig({"QMOD": reply("ACK") + reply("L")})
    assert states(one.poll())[-1]["mode"] == "line"


def test_a_reply_that_ends_in_line_feed_is_taken_after_the_time_out(rig: Make) -> None:
    one = rig({"QMOD": reply("L")[:-1] + b"\n", "QPIGS": reply(STATUS) + b"\n"})
    assert states(one.poll())[-1]["mode"] == "line"
    assert not one.world.tally.failures["late"]


class Noise:
    """A link on which noise never ends, and its own clock: the machine has no part in when it is given up."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.asked: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def drain(self) -> bytes:
        return b""

    def write(self, data: bytes, deadline: float) -> None:
        self.asked.append(self.now)

    def read(self, deadline: float, expected: int = 1, /) -> bytes:
        self.now += 0.01
        return bytes(range(0x80, 0xA0)) if self.now <= deadline else b""


def test_b7_endless_noise_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = Noise()
    monkeypatch.setattr(connection, "time", noise)
    line = connection.Line(noise, Tally())  # type: ignore[arg-type]
    with pytest.raises((NoReply, ProtocolError)):
        line.ask(connection.PI30_SPEECH, "QMOD", str)
    first, second = noise.asked
    assert second - first == pytest.approx(IN_ALL, abs=0.02)
    assert noise.now - second == pytest.approx(IN_ALL, abs=0.02)


class Listened:
    """A link that notes how many bytes each read expects; its answers come in pieces of so many."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces
        self.expected: list[int] = []

    def drain(self) -> bytes:
        return b""

    def write(self, data: bytes, deadline: float) -> None:
        pass

    def read(self, deadline: float, expected: int = 1, /) -> bytes:
        self.expected.append(expected)
        return self._pieces.pop(0)


def test_what_an_answer_lacks_is_known_from_the_one_before() -> None:
    whole = reply(STATUS)
    pieces = [whole[:1], whole[1:20], whole[20:]]
    link = Listened(pieces * 2)
    line = connection.Line(link, Tally())  # type: ignore[arg-type]
    line.ask(connection.PI30_SPEECH, "QPIGS", str)
    assert link.expected == [1, len(NAK) - 1, 1], "the first one may be as long as it likes, but not shorter than no"
    link.expected.clear()
    line.ask(connection.PI30_SPEECH, "QPIGS", str)
    assert link.expected == [1, len(NAK) - 1, len(whole) - 20]


class Paced(Listened):
    """The same with a clock of its own, and with seconds before each piece."""

    def __init__(self, *pieces: tuple[float, bytes]) -> None:
        super().__init__([data for _, data in pieces])
        self.now = 1000.0
        self._due = [seconds for seconds, _ in pieces]

    def monotonic(self) -> float:
        return self.now

    def read(self, deadline: float, expected: int = 1, /) -> bytes:
        if self.now + self._due[0] > deadline:
            self._due[0] -= deadline - self.now
            self.now = deadline
            return b""
        self.now += self._due.pop(0)
        return super().read(deadline, expected)


@pytest.mark.parametrize("between", [b"\n", bytes(8)], ids=["line feed", "filling"])
def test_what_ends_the_reply_before_does_not_begin_the_next(monkeypatch: pytest.MonkeyPatch, between: bytes) -> None:
    """It may come behind the next question, whose answer has all of its time nevertheless."""
    link = Paced((0.001, between), (FIRST * 0.9, reply("L")))
    monkeypatch.setattr(connection, "time", link)
    line = connection.Line(link, Tally())  # type: ignore[arg-type]
    assert line.ask(connection.PI30_SPEECH, "QMOD", lambda text: {"mode": text}).decoded == {"mode": "L"}
    assert link.expected == [1, 1]
    assert line.settled


def test_b7_after_endless_noise_the_next_question_is_answered(rig: Make) -> None:
    one = rig(protocol="PI30")

    def drip(_question: bytes) -> None:
        """Noise, until the device has had enough and puts the next question."""
        end = time.monotonic() + 60
        while not select.select([one.peer._master], [], [], 0.005)[0] and time.monotonic() < end:
            one.peer.say(bytes(range(0x80, 0xA0)))

    one.peer.answers["QMOD"] = drip
    state = states(one.poll())[-1]
    assert one.peer.count("QMOD") == 2, "given up, asked again, given up"
    assert (state["battery_voltage"], state["mode"]) == (51.2, None)
    one.peer.answers["QMOD"] = "L"
    one.poll_until(lambda: one.device._published["mode"] == "line")


def test_one_question_is_under_way_at_a_time(rig: Make) -> None:
    one = rig({"QPGS0": UNIT0, "QPGS1": UNIT1, "QPIRI": None})
    one.poll(20)
    assert one.peer.overlaps == 0


class StandsStill:
    """A link of a process that is stopped while it waits, and goes on later: what arrived is read long after.

    Stands for SIGSTOP and SIGCONT, which would stop the test as well.
    """

    def __init__(self, link: Link, seconds: float) -> None:
        self._link = link
        self._seconds = seconds

    def read(self, deadline: float, expected: int = 1, /) -> bytes:
        if self._seconds:
            time.sleep(self._seconds)
            self._seconds = 0.0
        return self._link.read(deadline, expected)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)


def test_what_was_received_before_the_process_stood_still_is_not_published(rig: Make) -> None:
    one = rig({"QPIGS": in_turn(STATUS.replace("51.20", "44.40"), STATUS)}, protocol="PI30")
    line = one.device._asker.line
    line._link = StandsStill(line._link, FIRST * 2)  # type: ignore[assignment]
    assert {state["battery_voltage"] for state in states(one.poll())} == {51.2}
    assert one.world.tally.failures["late"] == 1


# -- the two forms of a zero checksum


def test_a_command_with_a_zero_checksum_is_sent_both_ways_and_the_good_one_remembered(rig: Make) -> None:
    plain = b"QED20240615" + bytes.fromhex("00900d")
    one = rig(
        {
            "QT": "20240615101500",
            "QED20240615": lambda question: "00012345" if question == plain else NAK,
        },
        energy_interval=0.0,
    )
    readings = one.poll_until(lambda: one.peer.count("QED20240615") >= 3, 10)
    assert states(readings)[-1]["pv_energy_today"] == 12.345
    questions = [question for question in one.peer.questions if question.startswith(b"QED")]
    assert questions[0] == b"QED20240615" + bytes.fromhex("01900d")
    assert questions[1:] == [plain] * (len(questions) - 1)


@pytest.mark.parametrize("otherwise", [PI18_NO, None], ids=["refused", "silent"])
def test_a_pi18_query_with_a_zero_checksum_is_sent_both_ways_too(rig: Make, otherwise: bytes | None) -> None:
    plain = b"^P013ED20240626" + bytes.fromhex("32000d")
    answers: dict[str, Answer] = {
        "ID": BY_CASE["pi18-id"].received,
        "GS": BY_CASE["pi18-gs"].received,
        "MOD": BY_CASE["pi18-mod-3"].received,
        "T": pi18("20240626101500"),
        "ED20240626": lambda question: pi18("00012345") if question == plain else otherwise,
    }
    one = rig(answers, PI18_NO, protocol="PI18", energy_interval=0.0)
    readings = one.poll_until(lambda: one.peer.count("ED20240626") >= 3, 10)
    assert states(readings)[-1]["pv_energy_today"] == 12.345
    questions = [question for question in one.peer.questions if question.startswith(b"^P013ED")]
    assert questions[0] == plain[:-2] + b"\x01\r"
    assert questions[1:] == [plain] * (len(questions) - 1)


@pytest.mark.parametrize(("right", "fault"), [("006", "damaged"), ("006", "silent"), ("005", "damaged")])
def test_a_lost_reply_does_not_send_a_query_to_the_form_that_is_refused(rig: Make, right: str, fault: str) -> None:
    """That refusal would count for an hour, for which nobody would know of the alarms of a PI18 unit."""
    good = BY_CASE["pi18-fws-18"].received
    lost = bytes([*good[:8], good[8] ^ 1, *good[9:]]) if fault == "damaged" else None
    said = in_turn(*[good] * (right == "006"), lost, good)  # 005 is tried first
    answers: dict[str, Answer] = {
        "ID": BY_CASE["pi18-id"].received,
        "GS": BY_CASE["pi18-gs"].received,
        "MOD": BY_CASE["pi18-mod-3"].received,
        "FWS": lambda question: said(question) if question[2:5] == right.encode() else PI18_NO,
    }
    one = rig(answers, PI18_NO, protocol="PI18", alarms_interval=0.0)
    readings = one.poll_until(lambda: one.peer.count("FWS") >= 5)
    assert states(readings)[-1]["warning"] is not None
    forms = [question[2:5].decode() for question in one.peer.questions if b"FWS" in question]
    assert forms == ["005", *[right] * (len(forms) - 1)]


# -- energy and the inverter's own day


def test_counters_of_a_day_are_asked_for_the_inverters_own_day_and_end_with_it(rig: Make) -> None:
    one = rig({"QT": "20261121235959", "QED20261121": "00005000", "QED20261122": in_turn(None, None, "00000010")})
    readings = one.poll_until(lambda: one.peer.count("QED20261121") > 0)
    assert states(readings)[-1]["pv_energy_today"] == 5.0
    readings = one.poll_until(lambda: one.peer.count("QED20261122") > 0)
    assert states(readings + one.poll())[-1]["pv_energy_today"] is None  # yesterday's count is not today's
    one.device.known.tasks["QED"].due = 0.0
    one.device.known.tasks["QED"].pause = SILENT_FOR
    readings = one.poll_until(lambda: one.peer.count("QED20261122") > 2)
    assert states(readings)[-1]["pv_energy_today"] == 0.01


@pytest.mark.parametrize(("protocol", "question"), [("PI30", "QT"), ("PI18", "T")])
def test_a_clock_at_the_end_of_all_years_does_no_harm(rig: Make, protocol: str, question: str) -> None:
    last = "99991231235959"
    answers: dict[str, Answer] = {"QT": last, "QET": "00005000", "GS": BY_CASE["pi18-gs"].received}
    one = rig(answers | {"T": pi18(last)}, NAK if protocol == "PI30" else PI18_NO, protocol=protocol)
    one.poll_until(lambda: one.peer.count(question) > 0)
    time.sleep(1.1)
    assert states(one.poll(3))[-1]["battery_voltage"] is not None
    assert one.world.tally.failures["implausible"] == 2
    assert not [command for command in one.peer.asked if command.startswith(("QED", "ED"))]


def test_without_the_inverters_clock_no_day_is_asked(rig: Make) -> None:
    one = rig({"QET": "00005000"})
    one.poll(40)
    assert not [command for command in one.peer.asked if command.startswith("QED")]


# -- ageing


def test_a_value_that_is_not_renewed_becomes_null_and_the_key_stays(rig: Make) -> None:
    one = rig({"QMOD": in_turn("L", NAK)}, max_age=0.3)
    assert states(one.poll())[-1]["mode"] == "line"
    readings = one.poll_until(lambda: one.device._published["mode"] is None)
    assert states(readings)[-1]["battery_voltage"] == 51.2


def test_a_status_that_falls_silent_becomes_null_while_the_rest_goes_on(rig: Make) -> None:
    one = rig({"QPIGS": in_turn(STATUS, None)}, max_age=0.4, protocol="PI30")
    one.poll()
    readings = one.poll_until(lambda: one.device._published["battery_voltage"] is None)
    assert states(readings)[-1]["mode"] == "line"
    assert states(readings)[-1]["battery_power"] is None


def test_slow_values_have_an_age_limit_of_their_own(rig: Make) -> None:
    one = rig(max_age=0.2)
    one.poll_until(lambda: one.device._published.get("battery_type") is not None)
    time.sleep(0.3)
    assert states(one.poll())[-1]["battery_type"] == "user"
    one.device.known.tasks["QPIRI"].max_age = 0.1
    assert states(one.poll())[-1]["battery_type"] is None


# -- pace


def test_the_fast_rate_stays_even_one_slow_question_a_round(rig: Make) -> None:
    one = rig({"QT": "20261121120000"}, protocol="PI30", parallel=False, topics=Topics(parallel=None))
    one.poll()
    for _ in range(10):
        asked = len(one.peer.asked)
        one.poll()
        assert len(one.peer.asked) - asked <= 3


def test_a_long_interval_leaves_room_for_all_slow_questions(rig: Make) -> None:
    one = rig(interval=60.0)
    one.poll()
    assert {"QPIWS", "QPIRI", "QFLAG", "QVFW", "QPIGS2", "QDI"} <= set(one.peer.asked)


def test_the_second_tracker_is_asked_in_every_round_once_it_has_answered(rig: Make) -> None:
    one = rig({"QPIGS2": text_of("qpigs2-3")})
    one.poll_until(lambda: one.peer.count("QPIGS2") > 0)
    before = one.peer.count("QPIGS2")
    assert states(one.poll(5))[-1]["pv2_power"] == 825
    assert one.peer.count("QPIGS2") == before + 5


def test_the_supervisor_is_shown_a_sign_of_life_at_every_question(rig: Make) -> None:
    one = rig()
    one.poll(3)
    assert one.world.beats >= len(one.peer.asked) - 2
    assert one.world.tally.replies > 5
    assert one.world.tally.busy > 0


# -- parallel sets


def test_each_unit_of_a_set_is_published_by_its_serial_number_and_the_totals_once(rig: Make) -> None:
    one = rig({"QPGS0": UNIT0, "QPGS1": UNIT1, "QPGS2": ABSENT})
    readings = one.poll(2)
    for serial in (SERIAL, "94170312200072"):
        state = states(readings, serial)[-1]
        assert (state["mode"], state["active_fault"], state["ac_output_active_power"]) == ("line", "none", 588)
        assert "total_ac_output_active_power" not in state
    assert states(readings)[-1]["total_ac_output_active_power"] == 1166
    assert {reading.unit.path for reading in readings} == {"", SERIAL, "94170312200072"}
    assert one.peer.count("QPGS2") == 1
    assert one.peer.count("QPGS1") == 2


def test_the_contract_of_the_set_comes_from_its_first_unit(rig: Make) -> None:
    one = rig({"QPGS0": UNIT0, "QPGS1": UNIT1, "QPGS2": ABSENT})
    assert on(one.poll(), "power/axpert") == [BY_CASE["qpgs-27"].contract]


def test_a_lone_inverter_publishes_the_contract_and_no_second_unit(rig: Make) -> None:
    one = rig({"QPGS0": LONE})
    readings = one.poll(3)
    assert on(readings, "power/axpert")[-1] == BY_CASE["qpgs-lone"].contract
    assert {reading.unit.path for reading in readings} == {""}
    assert states(readings)[-1]["active_fault"] == "none"
    assert one.peer.count("QPGS0") == 3
    assert one.peer.count("QPGS1") == 0


def test_a_lone_inverter_is_not_asked_in_every_round_when_nobody_wants_the_topic(rig: Make) -> None:
    one = rig({"QPGS0": LONE}, topics=Topics(parallel=None, unit=None))
    readings = one.poll(6)
    assert one.peer.count("QPGS0") == 1
    assert {reading.topic for reading in readings} == {None}


def test_what_only_qpgs0_tells_of_a_lone_inverter_stays_known_when_nobody_wants_the_topic(rig: Make) -> None:
    one = rig({"QPGS0": LONE}, topics=Topics(parallel=None), max_age=2.0)
    one.poll()
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        state = states(one.poll())[-1]
        assert (state["active_fault"], state["total_charging_current"]) == ("none", 35)
        time.sleep(0.05)
    assert 2 < one.peer.count("QPGS0") < 6
    one.peer.answers["QPGS0"] = None
    one.poll_until(lambda: one.device._published["active_fault"] is None)


def test_an_absent_unit_publishes_nothing(rig: Make) -> None:
    one = rig({"QPGS0": ABSENT})
    readings = one.poll(3)
    assert not on(readings, "power/axpert")
    assert {reading.unit.path for reading in readings} == {""}


def test_topics_are_the_configured_ones(rig: Make) -> None:
    one = rig({"QPGS0": UNIT0}, topics=Topics(parallel="a/b", unit="c/{sn}/d"))
    assert {reading.topic for reading in one.poll(2)} == {None, "a/b", f"c/{SERIAL}/d"}


def test_b18_a_unit_that_joins_the_set_is_found(rig: Make) -> None:
    one = rig({"QPGS0": UNIT0, "QPGS1": in_turn(ABSENT, UNIT1), "QPGS2": ABSENT})
    one.poll(2)
    one.device.members._look_due = 0.0
    assert states(one.poll(), "94170312200072")


def test_a_unit_that_fails_once_is_not_left_out_of_the_set(rig: Make) -> None:
    one = rig({"QPGS0": UNIT0, "QPGS1": UNIT1, "QPGS2": ABSENT})
    one.poll()
    one.peer.answers["QPGS1"] = in_turn(None, None, UNIT1)
    one.device.members._look_due = 0.0
    one.poll()
    assert states(one.poll(), "94170312200072")


@pytest.mark.parametrize("off", [0, 1], ids=["first", "middle"])
def test_the_units_behind_one_that_is_switched_off_go_on(rig: Make, off: int) -> None:
    third = "94170312200073"
    units = [(SERIAL, UNIT0), ("94170312200072", UNIT1), (third, UNIT0.replace(SERIAL, third))]
    one = rig({f"QPGS{place}": text for place, (_, text) in enumerate(units)} | {"QPGS3": ABSENT})
    one.poll(2)
    one.peer.answers[f"QPGS{off}"] = ABSENT
    # what stands in the totals comes from the first unit that answers, and is none of an absent one's zeros
    live = next(place for place in range(3) if place != off)
    one.peer.answers[f"QPGS{live}"] = str(one.peer.answers[f"QPGS{live}"]).replace(" 01166 ", " 00777 ")
    for _ in range(2):
        one.device.members._look_due = 0.0
        one.poll()
        readings = one.poll()
        assert {reading.unit.path for reading in readings} == {"", *(serial for serial, _ in units)} - {units[off][0]}
        assert states(readings)[-1]["total_ac_output_active_power"] == 777
    one.peer.answers[f"QPGS{off}"] = units[off][1]
    assert states(one.poll(), units[off][0])


def test_the_last_unit_is_not_asked_in_every_round_while_it_is_off_and_found_when_it_is_back(rig: Make) -> None:
    one = rig({"QPGS0": UNIT0, "QPGS1": UNIT1, "QPGS2": ABSENT})
    one.poll(2)
    one.peer.answers["QPGS1"] = ABSENT
    one.device.members._look_due = 0.0
    one.poll()
    asked = one.peer.count("QPGS1")
    one.poll(3)
    assert one.peer.count("QPGS1") == asked
    one.peer.answers["QPGS1"] = UNIT1
    one.device.members._look_due = 0.0
    assert states(one.poll(), "94170312200072")


def test_the_number_of_units_may_be_configured(rig: Make) -> None:
    one = rig({"QPGS0": UNIT0, "QPGS1": NAK, "QPGS2": UNIT1}, parallel=3)
    readings = one.poll(2)
    assert states(readings, "94170312200072")
    assert one.peer.count("QPGS3") == 0


def test_b14_one_unit_is_never_published_with_the_answer_of_another(rig: Make) -> None:
    """QPGS1 gets the answer of QPGS0: a serial number stands for one unit only."""
    one = rig({"QPGS0": UNIT0, "QPGS1": UNIT0, "QPGS2": ABSENT})
    readings = one.poll(2)
    assert one.world.tally.failures["foreign"] >= 1
    assert {reading.unit.path for reading in readings} == {"", SERIAL}


def test_b15_a_late_answer_of_another_unit_does_not_become_the_first_units_contract(rig: Make) -> None:
    one = rig({"QPGS0": UNIT0, "QPGS1": UNIT1, "QPGS2": ABSENT})
    one.poll(2)
    one.peer.answers["QPGS0"] = UNIT1
    one.device._asker.line.disturb()
    assert not on(one.poll(), "power/axpert")


# -- protocols


def test_a_pi18_unit_is_found(rig: Make) -> None:
    answers: dict[str, Answer] = {
        "PI": BY_CASE["pi18-pi"].received,
        "ID": BY_CASE["pi18-id"].received,
        "GS": BY_CASE["pi18-gs"].received,
        "MOD": BY_CASE["pi18-mod-3"].received,
        "FWS": lambda question: pi18(text_of("pi18-fws-17")[4:]) if b"^P006" in question else PI18_NO,
        "PIRI": BY_CASE["pi18-piri-26"].received,
    }
    one = rig(dict.fromkeys(USUAL, PI18_NO) | answers, otherwise=PI18_NO)
    state = states(one.poll(12))[-1]
    assert (state["battery_power"], state["mode"], state["alarms"]) == (1107, "battery", "battery_low")
    assert state["charger_source_priority"] == "solar_only"
    assert one.device.known.root.serial == "95170312200081"


@pytest.mark.parametrize("named", ["PI16", "PI17"])
def test_a_protocol_without_tables_publishes_nothing(rig: Make, named: str) -> None:
    sixteen = "224.6 000000 49.9 0006.8 232.4 01594 49.9 006.8 029 415.0 415.0 057.9 ---.- 100 0 0 0 0 0 0 0 D--"
    one = rig({"QPI": named, "QPIGS": sixteen})
    with pytest.raises(NoReply, match=named):
        one.poll()


def test_a_unit_dumb_to_the_other_protocol_is_found_in_the_second_round(rig: Make) -> None:
    silent: dict[str, Answer] = dict.fromkeys(USUAL)
    one = rig(silent | {"PI": BY_CASE["pi18-pi"].received, "GS": BY_CASE["pi18-gs"].received}, otherwise=PI18_NO)
    with pytest.raises(NoReply):
        one.poll()
    assert states(one.poll())[0]["battery_voltage"] == 52.7


# -- ending


def test_stop_ends_a_waiting_question_at_once(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "FIRST_BYTE", 30.0)
    monkeypatch.setattr(connection, "IN_ALL", 60.0)
    one = rig({"QPIGS": None})
    threading.Timer(0.1, one.world.stop.set).start()
    started = time.monotonic()
    with pytest.raises(Stopped):
        one.poll()
    assert time.monotonic() - started < 5


def test_b1_an_unplugged_adapter_is_a_link_error(rig: Make) -> None:
    master, slave = os.openpty()
    one = rig()
    one.device.close()
    link = DescriptorLink(os.dup(slave), "pty", one.world.stop)
    one.device._learn_anew(None, connection.Line(link, one.world.tally))
    os.close(slave)
    os.close(master)
    with pytest.raises(LinkError):
        one.poll()


def test_a_closed_device_says_so(rig: Make) -> None:
    one = rig()
    one.device.close()
    one.device.close()
    with pytest.raises(LinkError):
        one.poll()


# -- against the simulator, which encodes by itself


@pytest.mark.parametrize(
    ("model", "transport"),
    [("pi30", "serial"), ("max", "serial"), ("old", "serial"), ("pi18", "serial"), ("pi30", "hid"), ("pi18", "hid")],
)
def test_every_model_of_the_simulator_is_read(model: str, transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # it answers everything: the real deadlines cost no time
    world = Surroundings()
    with AxpertSimulator(model=model, transport=transport, baud=None) as simulator:
        options = Options(name="roof", type="axpert", port=simulator.port, interval=0.0)
        device = AxpertDevice(options, world.context)
        device.open()
        last: dict[str, Any] = {}
        for _ in range(40):
            for reading in device.poll():
                if reading is not None and reading.topic is None:
                    last = dict(reading.values)
        device.close()
    assert set(world.tally.failures) <= {"refused"}
    assert sum(value is None for value in last.values()) <= 1
    assert last["battery_type"] == "agm"


def test_the_checksum_helper_of_these_tests_agrees_with_a_published_value() -> None:
    assert crc(b"123456789") == bytes.fromhex("31c3")
