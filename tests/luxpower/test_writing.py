"""Settings written through a stick that is honest, lies or breaks, on real sockets; the simulator is the judge."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from math import inf
from pathlib import Path
from typing import Any

import pytest

from bridge import inbox, ledger
from bridge.fields import Channel, Reading
from bridge.luxpower import timekeeping
from bridge.luxpower.frame import Function
from bridge.luxpower.settable_device import _Wires
from bridge.settings import Number
from bridge.simulators.lxp import LxpSimulator
from bridge.simulators.lxp_faults import Lies
from tests.harness import await_true, free_port
from tests.luxpower.rig import DATALOG, SECOND, SERIAL, Site, eager, hasty, quiet, short, site

__all__ = ["hasty", "short"]
pytestmark = pytest.mark.usefixtures("hasty")

CAUTIOUS = ("feed_in_grid", "charge_voltage_v", "quick_charge", "quick_charge_minutes", "charge_current_limit_a",
            "ac_charge_type", "eps_voltage")  # fmt: skip


@pytest.fixture
def stick() -> Iterator[LxpSimulator]:
    with eager(model="lxp12k") as one:
        yield one


@pytest.fixture
def house(stick: LxpSimulator, tmp_path: Path) -> Iterator[Site]:
    with site(stick, tmp_path, **MAY) as one:
        one.await_settings()
        yield one


MAY: dict[str, Any] = {"writes": True, "allow": CAUTIOUS, "raw_writes": True, "writes_per_minute": 60, "interval": 10.0}


def written(stick: LxpSimulator) -> list[tuple[int, tuple[int, ...]]]:
    """What arrived as a write, in order, but for those of other clients."""
    return [(one.register, one.wanted) for one in list(stick.writes) if "foreign" not in one.lies]


def hold(stick: LxpSimulator, register: int, inverter: int = 0) -> int:
    return stick.inverters[inverter].holds[register]


# -- what is done


@pytest.mark.parametrize(
    ("setting", "text", "register", "word", "shown"),
    [
        ("ac_charge", "on", 21, 0xF3D4, True),
        ("charge_rate_pct", "80", 64, 80, 80),
        ("ac_charge_rate", "5.5", 66, 55, 5.5),
        ("ac_charge_soc_limit_pct", "70", 67, 70, 70),
        ("feed_in_grid", "off", 21, 0x7354, False),
        ("charge_voltage_v", "55.5", 99, 555, 55.5),
        ("discharge_cutoff_soc_limit_pct", "25", 105, 25, 25),
        ("start_discharge_import_w", "10000", 116, 10000, 10000),
        ("hold/65", "40", 65, 40, 40),
        ("hold/21", "62420", 21, 0xF3D4, 62420),
    ],
)
def test_a_setting_is_read_written_once_read_back_and_shown(
    stick: LxpSimulator, house: Site, setting: str, text: str, register: int, word: int, shown: object
) -> None:
    result = house.set(setting, text)
    assert (result["outcome"], result["reason"], result["read_back"]) == ("done", None, shown)
    assert written(stick) == [(register, (word,))]
    assert hold(stick, register) == word
    asked = [(request.function, request.number) for request in list(stick.requests) if request.count or request.words]
    at = asked.index((Function.WRITE_SINGLE, register))
    assert (Function.READ_HOLD, register) in asked[at - 2 : at], "read fresh before"
    assert (Function.READ_HOLD, register) in asked[at + 1 :], "and read back"
    if "/" not in setting:
        assert house.told(Channel.SETTINGS)[-1].values[setting] == shown
    begin, end = house.audit("begin"), house.audit("end")
    assert [entry["setting"] for entry in (*begin, *end)] == [setting, setting]
    assert end[0]["outcome"] == "done"


@pytest.mark.parametrize("model", ["acs", "hybrid", "sna", "lxp12k", "eg4"])
def test_every_control_of_every_model_can_be_set_within_its_bounds(model: str, tmp_path: Path) -> None:
    with eager(model=model) as one, site(one, tmp_path, **MAY | {"writes_per_day": 1000}) as house:
        house.await_settings()
        await_true(lambda: house.device.root().controls, 5, "what can be set")
        controls = house.device.root().controls
        assert {"ac_charge", "charge_rate_pct", "ac_charge_window_1", "time", "quick_charge"} - {
            control.key for control in controls
        } == ({"quick_charge"} if model in ("acs", "hybrid") else set())
        settings = house.told(Channel.SETTINGS)[-1].values
        for control in controls:
            assert control.key in settings
            if isinstance(control.spelling, Number):
                assert control.spelling.maximum >= control.spelling.minimum
        result = house.set("charge_rate_pct", "77")
        assert (result["outcome"], hold(one, 64)) == ("done", 77)


def test_the_same_value_costs_nothing(stick: LxpSimulator, house: Site) -> None:
    assert house.set("charge_rate_pct", "100")["outcome"] == "unchanged"
    assert house.set("ac_charge_window_1", "00:00-00:00")["outcome"] == "unchanged"
    assert written(stick) == []
    assert house.audit("begin") == []


def test_the_words_are_those_freshly_read_not_those_known(stick: LxpSimulator, house: Site) -> None:
    stick.inverters[0].holds[21] ^= 1 << 11  # somebody changed it, and nobody told
    assert house.set("ac_charge", "on")["outcome"] == "done"
    assert hold(stick, 21) == 0xF354 ^ 1 << 11 ^ 1 << 7


def test_pushes_and_heartbeats_are_taken_while_a_write_waits(
    stick: LxpSimulator, house: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.writing.SETTLE", 1.5)
    house.send("charge_rate_pct", "80")
    await_true(lambda: written(stick), 5, "the write")
    states, echoes = len(house.states()), stick.echoes
    stick.push()
    stick.heartbeat()
    await_true(lambda: len(house.states()) > states and stick.echoes > echoes, 1.4, "both within the pause")
    assert not house.told(Channel.RESULT)
    assert house.await_results(1)[0]["outcome"] == "done"


# -- windows


def test_a_window_is_two_words_start_first(stick: LxpSimulator, house: Site) -> None:
    result = house.set("ac_charge_window_2", "23:30-05:45")
    assert (result["outcome"], result["read_back"], result["register"]) == ("done", "23:30-05:45", "hold 70-71")
    assert written(stick) == [(70, (23 | 30 << 8,)), (71, (5 | 45 << 8,))]
    result = house.set("ac_charge_window_2", "23:30-06:00")
    assert result["outcome"] == "done"
    assert written(stick)[2:] == [(71, (6,))], "only the word that differs"


def test_half_a_window_is_not_set_with_a_rest_that_somebody_else_has_changed(stick: LxpSimulator, house: Site) -> None:
    assert house.set("ac_charge_window_1", "01:00-05:00")["outcome"] == "done"
    stick.inverters[0].holds[69] = 4  # over the cloud, and nobody told
    result = house.set("ac_charge_window_1", "02:00-05:00", made_from="01:00-05:00")
    assert (result["outcome"], result["old"]) == ("refused", "01:00-04:00")
    assert "taken from 01:00-05:00; it shows 01:00-04:00" in result["reason"]
    assert (hold(stick, 68), hold(stick, 69)) == (1, 4)
    assert house.told(Channel.SETTINGS)[-1].values["ac_charge_window_1"] == "01:00-04:00", "so the next one fits"
    assert house.set("ac_charge_window_1", "02:00-04:00", made_from="01:00-04:00")["outcome"] == "done"


def test_a_window_whose_end_is_refused_is_set_back(stick: LxpSimulator, house: Site) -> None:
    house.set("ac_charge_window_1", "01:00-02:00")
    stick.lies.register, stick.lies.exception = 69, 4
    result = house.set("ac_charge_window_1", "03:00-04:00")
    assert (result["outcome"], result["read_back"]) == ("failed", "01:00-02:00")
    assert "read or write failed" in result["reason"]
    assert "set back" in result["reason"]
    assert (hold(stick, 68), hold(stick, 69)) == (1, 2)


def test_a_window_whose_end_is_not_stored_is_told_as_it_is(stick: LxpSimulator, house: Site) -> None:
    stick.lies.register, stick.lies.forget = 69, True
    result = house.set("ac_charge_window_1", "03:00-04:00")
    assert (result["outcome"], result["read_back"]) == ("failed", "03:00-00:00")
    assert "in part" in result["reason"]


class Script(Lies):
    """Lies told one after the other, one a write; honest behind the last."""

    def __init__(self, *turns: Lies) -> None:
        super().__init__()
        self._turns = list(turns)

    def told(self, register: int) -> Lies:
        return self._turns.pop(0) if self._turns else Lies()


def test_a_window_that_can_be_neither_set_nor_set_back_says_so(stick: LxpSimulator, house: Site) -> None:
    stick.lies = Script(Lies(), Lies(exception=4), Lies(exception=4))
    result = house.set("ac_charge_window_1", "03:00-04:00")
    assert (result["outcome"], result["read_back"]) == ("failed", "03:00-00:00")
    assert "set in part" in result["reason"]


def test_a_window_with_a_lost_acknowledgement_goes_on_after_a_look(stick: LxpSimulator, house: Site) -> None:
    stick.lies = Script(Lies(mute=True))
    assert house.set("ac_charge_window_1", "03:00-04:00")["outcome"] == "done"
    assert written(stick) == [(68, (3,)), (69, (4,))]


# -- the clock


def simulated_clock(stick: LxpSimulator) -> datetime:
    plant = stick.plant
    return stick.call(lambda: plant.date(stick.inverters[0], plant.advance()))


def test_the_clock_is_set_to_local_time_in_one_frame(stick: LxpSimulator, house: Site) -> None:
    result = house.set("time", "now")
    assert result["outcome"] == "done"
    assert [(register, len(words)) for register, words in written(stick)] == [(12, 3)]
    assert abs(simulated_clock(stick) - datetime.now()) < timedelta(seconds=5)
    assert house.set("time", "now")["outcome"] == "unchanged"


def test_the_clock_is_set_to_any_date(stick: LxpSimulator, house: Site) -> None:
    assert house.set("time", "2031-02-28T23:58:00")["outcome"] == "done"
    assert abs(simulated_clock(stick) - datetime(2031, 2, 28, 23, 58)) < timedelta(seconds=30)


def test_a_clock_that_was_not_set_is_not_done(stick: LxpSimulator, house: Site) -> None:
    stick.lies.forget = True
    assert house.set("time", "now")["outcome"] == "failed"


def test_a_clock_that_is_off_is_set_by_itself_when_asked_to(stick: LxpSimulator, tmp_path: Path) -> None:
    with site(stick, tmp_path, **MAY | {"time_sync": True}) as house:
        result = house.await_results(1)[0]
        assert (result["setting"], result["source"], result["outcome"]) == ("time", "time_sync", "done")
        assert abs(simulated_clock(stick) - datetime.now()) < timedelta(seconds=5)
        house.set("charge_rate_pct", "80")
        assert len(written(stick)) == 2


def test_a_clock_that_others_set_back_is_set_once_a_day_however_often_the_link_breaks(
    stick: LxpSimulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timekeeping, "LOOK_AGAIN", 0.2)
    with site(stick, tmp_path, **MAY | {"time_sync": True, "interval": 0.2}) as house:
        house.await_results(1)
        polls = house.publisher.tally.polls
        await_true(lambda: house.publisher.tally.polls > polls + 5, 5, "the look that shows that it helped")
        stick.inverters[0].clock_offset -= 3600  # the cloud's time zone
        for _ in range(2):
            stick.drop()
            house.await_offline()
            house.await_online()
            polls = house.publisher.tally.polls
            await_true(lambda before=polls: house.publisher.tally.polls > before + 5, 5, "time for more")
        assert [register for register, _ in written(stick)] == [12]


def test_d1_no_clock_is_set_by_one_that_has_not_been_set_itself(
    stick: LxpSimulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A board starts in 1970: an inverter told so would charge at the wrong hours, in 2070."""
    local = [datetime(1970, 1, 1, 0, 12, 5)]
    monkeypatch.setattr(_Wires, "local", lambda _wires: local[0])
    monkeypatch.setattr(timekeeping, "LOOK_AGAIN", 0.2)
    with site(stick, tmp_path, **MAY | {"time_sync": True, "interval": 0.2}) as house:
        house.await_more()  # while the stick is away a command is refused for that
        result = house.set("time", "now")
        assert result["outcome"] == "refused"
        assert "own clock has not been set" in result["reason"]
        await_true(lambda: house.publisher.tally.polls > 5, 5, "some rounds")
        assert written(stick) == []
        local[0] = simulated_clock(stick) + timedelta(hours=3, minutes=10)
        await_true(lambda: written(stick), 5, "it has been set, and sets the inverter's")
        assert abs(simulated_clock(stick) - local[0]) < timedelta(seconds=5)


def test_a_clock_is_left_alone_unless_asked_for(stick: LxpSimulator, house: Site) -> None:
    house.set("charge_rate_pct", "80")
    assert written(stick) == [(64, (80,))]


# -- quick charge


def test_quick_charge_is_switched_on_then_given_its_minutes(stick: LxpSimulator, house: Site) -> None:
    result = house.set("quick_charge_minutes", "30")
    assert (result["outcome"], "quick charge is off" in result["reason"]) == ("refused", True)
    assert written(stick) == []
    stick.inverters[0].holds[233] = 0x1002
    assert house.set("quick_charge", "on")["outcome"] == "done"
    assert hold(stick, 233) == 0x1003
    assert house.set("quick_charge_minutes", "30")["read_back"] == 30
    assert house.set("quick_charge", "off")["outcome"] == "done"
    assert written(stick) == [(233, (0x1003,)), (234, (30,)), (233, (0x1002,))]


def test_minutes_that_are_left_by_chance_are_no_proof(stick: LxpSimulator, house: Site) -> None:
    house.set("quick_charge", "on")
    house.set("quick_charge_minutes", "20")
    stick.lies.forget = True
    result = house.set("quick_charge_minutes", "30")
    assert (result["outcome"], result["read_back"]) == ("failed", 20)


def test_a_unit_without_quick_charge_refuses_and_says_so(tmp_path: Path) -> None:
    with eager(model="hybrid") as one, site(one, tmp_path, **MAY) as house:
        house.await_settings()
        result = house.set("quick_charge", "on")
        assert (result["outcome"], "illegal register" in result["reason"]) == ("refused", True)
        assert written(one) == []


# -- what is refused (E9): no byte of a write on the line

REFUSED = {
    "unknown setting": ("ac_charg", "on", "did you mean ac_charge"),
    "not named": ("running", "off", "named under allow"),
    "dangerous, not named": ("active_power_pct", "50", "named under allow"),
    "above its bound": ("charge_rate_pct", "101", "expected 0 to 100"),
    "below its bound": ("discharge_cutoff_soc_limit_pct", "9", "expected 10 to 90"),
    "between its steps": ("ac_charge_rate", "5.55", "between the values"),
    "another spelling": ("charge_rate_pct", "080", "expected 0 to 100"),
    "a word for a switch": ("ac_charge", "1", "expected on or off"),
    "no window": ("ac_charge_window_1", "24:00-05:00", "expected HH:MM-HH:MM"),
    "no such date": ("time", "2027-02-30T00:00:00", "expected now or"),
    "below the EPS cut-off": ("discharge_cutoff_soc_limit_pct", "10", "at least eps_discharge_cutoff"),
    "above what the BMS allows": ("charge_current_limit_a", "140", "the battery's own limit"),
    "another model's": ("ac_first_window_1", "01:00-02:00", "off-grid models only"),
    "too large a step": ("eps_voltage", "277", "go there in steps"),
    "never, by number": ("hold/11", "128", "never written"),
    "dangerous, by number": ("hold/90", "240", "by its name only"),
    "not named, by number": ("hold/16", "1", "named under allow"),
    "out of bounds, by number": ("hold/64", "101", "expected 0 to 100"),
    "a bit that never changes": ("hold/21", str(0xF354 ^ 1 << 4), "bits 4 must stay"),
    "a bit that is not named": ("hold/21", str(0xF354 ^ 1 << 9), "bits 9 must stay"),
    "no time of day": ("hold/68", str(24), "no time of day"),
    "no register": ("hold/0x40", "1", "names no register"),
    "no register at all": ("hold/", "1", "names no register"),
    "beyond all": ("hold/99999", "1", "not in the table"),
    "no such inverter": ("charge_rate_pct", "80", "no inverter"),
    "empty": ("ac_charge", "", "empty"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_e9_what_is_refused_sends_no_write(stick: LxpSimulator, house: Site, case: str) -> None:
    setting, text, words = REFUSED[case]
    stick.call(lambda: stick.inverters[0].holds.update({125: 20}))
    result = house.set(setting, text, "9999999999" if case == "no such inverter" else "")
    assert (result["outcome"], words in result["reason"]) == ("refused", True), result
    assert written(stick) == []
    assert house.audit("begin") == []
    assert [entry["outcome"] for entry in house.audit("end")] == ["refused"]


def test_a_refusal_carries_the_id_of_its_sender_and_the_value_alone(house: Site) -> None:
    result = house.set("no_such_thing", b'{"value": 5, "id": "x-1"}')
    assert (result["outcome"], result["id"], result["wanted"]) == ("refused", "x-1", "5")


def test_e9_what_cannot_be_meant_puts_no_byte_on_the_line(stick: LxpSimulator, tmp_path: Path) -> None:
    with site(stick, tmp_path, **MAY | {"interval": 3600.0, "settings_interval": 86400.0}) as house:
        house.await_settings()
        polls = house.publisher.tally.polls
        await_true(lambda: house.publisher.tally.polls > polls + 5, 10, "all questions of its own are over")
        before = len(stick.requests)
        late = ("below the EPS", "above what", "too large", "a bit that")
        for case, (setting, text, _) in REFUSED.items():
            if not case.startswith(late):  # these follow from what is read
                house.set(setting, text, "9999999999" if case == "no such inverter" else "")
        assert [request.raw.hex(" ") for request in list(stick.requests)[before:]] == []


@pytest.mark.parametrize("options", [{}, {"writes": True, "raw_writes": False}])
def test_t1_without_the_switch_nothing_is_written(stick: LxpSimulator, tmp_path: Path, options: dict[str, Any]) -> None:
    with site(stick, tmp_path if options else None, interval=10.0, **options) as house:
        house.await_settings()
        result = house.set("hold/64" if options else "charge_rate_pct", "80")
        assert result["outcome"] == "refused"
        assert ("raw_writes: true" if options else "writes: true") in result["reason"]
        assert written(stick) == []


def test_a_power_whose_unit_is_not_known_is_refused_until_the_configuration_tells_it(tmp_path: Path) -> None:
    with eager(model="sna") as one:
        with Site(one, tmp_path, **MAY) as house:
            house.await_settings()
            assert "power_unit" in house.set("ac_charge_rate", "50")["reason"]
            assert "ac_charge_rate" not in {control.key for control in house.device.root().controls}
        with Site(one, tmp_path, **MAY | {"power_unit": "kw"}) as house:
            house.await_settings()
            assert house.set("ac_charge_rate", "2.5")["read_back"] == 2.5
            assert hold(one, 66) == 25


# -- several inverters


def test_of_several_inverters_one_is_named(tmp_path: Path) -> None:
    with eager(model="lxp12k", serials=(SERIAL, SECOND)) as one, site(
        one, tmp_path, inverter=(SERIAL, SECOND), **MAY
    ) as house:
        await_true(lambda: len({r.unit.path for r in house.told(Channel.SETTINGS)}) == 2, 10, "both settings")
        result = house.set("charge_rate_pct", "80")
        assert result["outcome"] == "refused"
        assert f"house/{SERIAL}/set/" in result["reason"]
        assert f"house/{SECOND}/set/" in result["reason"]
        assert written(one) == []
        assert house.set("charge_rate_pct", "80", SECOND)["outcome"] == "done"
        assert house.told(Channel.RESULT)[-1].unit.path == SECOND
        assert (hold(one, 64, 0), hold(one, 64, 1)) == (100, 80)


def test_a_command_before_the_inverter_is_known_is_refused(tmp_path: Path) -> None:
    with quiet() as one, site(one, tmp_path, **MAY) as house:
        await_true(lambda: house.device is not None and house.device.connected, 5, "a connection")
        assert "no inverter is known yet" in house.set("charge_rate_pct", "80")["reason"]


# -- E10, E11: others, lost and wrong answers


def test_e10_two_switches_of_one_word_given_at_once_leave_each_other_alone(stick: LxpSimulator, house: Site) -> None:
    for setting in ("ac_charge", "forced_discharge", "charge_priority"):
        house.send(setting, "on")
    assert [result["outcome"] for result in house.await_results(3)] == ["done"] * 3
    assert hold(stick, 21) == 0xF354 | 1 << 7 | 1 << 10 | 1 << 11


def test_e10_another_client_that_writes_the_same_word_in_between_is_not_undone_in_silence(
    stick: LxpSimulator, house: Site
) -> None:
    stick.lies.interleave, stick.lies.times = (21, 0xF354 | 1 << 11), 1
    result = house.set("ac_charge", "on")
    assert result["outcome"] == "done"
    assert hold(stick, 21) == 0xF354 | 1 << 7
    told = [(entry["setting"], entry["old"], entry["new"]) for entry in house.audit("changed")]
    assert told == [("charge_priority", False, True), ("charge_priority", True, False)], "what it set, and its end"


LIES: dict[str, tuple[dict[str, Any], str]] = {
    "acknowledged, not stored": ({"forget": True}, "failed"),
    "stored, not acknowledged": ({"mute": True}, "done"),
    "acknowledged too late": ({"late": 0.6}, "done"),
    "another client's acknowledgement": ({"answer_other": (65, 3)}, "failed"),
    "an acknowledgement with another value": ({"echo": 7}, "done"),
    "another value acknowledged, nothing stored": ({"echo": 7, "forget": True}, "failed"),
    "clamped": ({"clamp": (90, 100)}, "failed"),
    "clamped and says so": ({"clamp": (90, 100), "echo_stored": True}, "failed"),
    "stored late": ({"store_late": 5.0}, "failed"),
    "refused": ({"exception": 4}, "failed"),
    "refused but stored": ({"exception_stored": 4}, "done"),
    "a foreign style": ({"read_style": True}, "done"),
    "the link drops before it is stored": ({"drop": "before"}, "failed"),
    "the link drops after it was stored": ({"drop": "after"}, "done"),
    "the link is reset after it was stored": ({"drop": "after", "reset": True}, "done"),
}


@pytest.mark.parametrize("case", LIES)
def test_e11_the_outcome_is_what_the_inverter_holds(stick: LxpSimulator, house: Site, case: str) -> None:
    lies, outcome = LIES[case]
    stick.lies.times = 1 if "drop" in lies else None
    for knob, value in lies.items():
        setattr(stick.lies, knob, value)
    result = house.set("charge_rate_pct", "80")
    assert result["outcome"] == outcome, result
    assert (hold(stick, 64) == 80) == (outcome == "done") or "late" in case
    assert result["read_back"] == (80 if outcome == "done" else hold(stick, 64) if "late" not in case else 100)
    assert 1 <= len(written(stick)) <= 2, "at most once more, after a look"


def test_e11_a_write_that_was_lost_is_done_once_more_after_a_look(stick: LxpSimulator, house: Site) -> None:
    stick.lies.forget = stick.lies.mute = True
    stick.lies.times = 1
    result = house.set("charge_rate_pct", "80")
    assert (result["outcome"], written(stick)) == ("done", [(64, (80,))] * 2)
    asked = [(request.function, request.number) for request in list(stick.requests) if request.count or request.words]
    first = asked.index((Function.WRITE_SINGLE, 64))
    assert asked[first + 1] == (Function.READ_HOLD, 64)


def test_e11_neighbours_that_change_along_are_told(stick: LxpSimulator, house: Site) -> None:
    stick.lies.neighbours = 1 << 12
    result = house.set("ac_charge", "on")
    assert result["outcome"] == "done"
    assert "bits 12 are not of this command" in result["reason"]


def test_e11_an_outcome_that_nobody_can_read_is_unknown(stick: LxpSimulator, house: Site) -> None:
    stick.lies.late = 0.3  # the write is noticed before the read-back
    house.send("charge_rate_pct", "80")
    await_true(lambda: written(stick), 5, "the write")
    stick.faults.only, stick.faults.silent = bytes((0, 3)) + SERIAL.encode(), True
    result = house.await_results(1, 30)[0]
    assert (result["outcome"], result["read_back"]) == ("unknown", None)
    assert written(stick) == [(64, (80,))]


def test_e11_an_answer_to_an_earlier_question_that_comes_late_is_not_what_stands_there_now(
    stick: LxpSimulator, house: Site
) -> None:
    stick.faults.delay, stick.faults.times = 1.5, 1
    house.put(inbox.ReadRegisters("hold", 64, 1))
    await_true(lambda: house.failures.get("no_reply"), 3, "a question without an answer")
    await_true(lambda: house.told(Channel.REGISTERS), 3, "the answer to the next one")
    before = hold(stick, 64)
    stick.turnaround = 0.2
    began = time.monotonic()
    while time.monotonic() < began + 1.5:  # somewhere in it the late answer comes, with the value of before
        stick.inverters[0].holds[64] = before - 50
        result = house.set("charge_rate_pct", str(before))
        assert (result["outcome"], result["old"], hold(stick, 64)) == ("done", before - 50, before)


def test_e11_broadcasts_and_foreign_frames_confirm_nothing(stick: LxpSimulator, house: Site) -> None:
    stick.lies.mute = stick.lies.forget = True
    foreign = [
        stick._dress.written("4512670199", 64, 80),
        stick._dress.written(SERIAL, 65, 80),
        stick._dress.written_multi(SERIAL, 64, 1),
    ]
    house.send("charge_rate_pct", "80")
    await_true(lambda: written(stick), 5, "the write")
    for frame in foreign:
        stick.say(frame)
    assert house.await_results(1)[0]["outcome"] == "failed"


# -- E12, E13 and restarts


# -- E1: commands without an end


@pytest.mark.parametrize(
    ("channel", "command"),
    [
        (Channel.RESULT, inbox.SetSetting("", "charge_rate_pct", b"100", 0.0, inf)),  # what it is set to already
        (Channel.REGISTERS, inbox.ReadRegisters("hold", 64, 1)),
    ],
    ids=["settings", "reads"],
)
def test_e1_commands_that_follow_each_other_without_an_end_leave_the_readings_their_turn(
    stick: LxpSimulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channel: Channel, command: inbox.Command
) -> None:
    for limit in ("BURST", "REFILL"):
        monkeypatch.setattr(inbox, limit, 1e6)
    with site(stick, tmp_path, **MAY | {"interval": 0.3, "max_age": 2.0}) as house:
        house.await_settings()
        take = house.sink.take

        def insatiable(device: str, reading: Reading) -> None:
            take(device, reading)
            if reading.channel is channel:
                house.put(command)

        house.sink.take = insatiable  # type: ignore[method-assign]
        for _ in range(3):
            house.put(command)
        await_true(lambda: len(house.told(channel)) > 20, 10, "they are answered")
        house.await_more(5)
        assert not [1 for path, online in house.sink.presences if not online], "it was offline"
        answered = len(house.told(channel))
        await_true(lambda: len(house.told(channel)) > answered + 20, 10, "and so are those that follow")


def test_a_command_that_waits_for_the_first_round_does_not_put_it_off(tmp_path: Path) -> None:
    with quiet(model="lxp12k") as stick, site(
        stick, tmp_path, **MAY | {"interval": 3600.0}, inverter=SERIAL, datalogger=DATALOG
    ) as house:
        await_true(lambda: house.device is not None and house.device.connected, 5, "a connection")
        house.send("charge_rate_pct", "80")
        house.await_states(1)
        assert house.await_results(1)[0]["outcome"] == "done"


def test_e12_one_register_is_written_once_in_ten_seconds(
    stick: LxpSimulator, house: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "SAME_REGISTER", 10.0)
    assert house.set("ac_charge", "on")["outcome"] == "done"
    result = house.set("forced_discharge", "on")
    assert (result["outcome"], "written a moment ago" in result["reason"]) == ("refused", True)
    assert len(written(stick)) == 1


def test_e12_a_window_whose_start_was_written_a_moment_ago_may_have_another_end(
    stick: LxpSimulator, house: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "SAME_REGISTER", 10.0)
    assert house.set("ac_charge_window_1", "01:00-00:00")["outcome"] == "done"
    assert house.set("ac_charge_window_1", "01:00-05:00")["outcome"] == "done"
    assert house.set("ac_charge_window_1", "01:00-05:00")["outcome"] == "unchanged"
    result = house.set("ac_charge_window_1", "02:00-05:00")
    assert (result["outcome"], "hold 68 was written a moment ago" in result["reason"]) == ("refused", True)
    assert written(stick) == [(68, (1,)), (69, (5,))]


def test_e13_a_command_while_the_stick_is_away_is_refused_at_once(stick: LxpSimulator, house: Site) -> None:
    stick.faults.refuse = True
    stick.drop()
    house.await_offline()
    result = house.set("charge_rate_pct", "80")
    assert (result["outcome"], "cannot be reached" in result["reason"]) == ("refused", True)
    stick.faults.refuse = False
    house.await_online()
    assert written(stick) == []


def test_e13_what_still_waits_when_the_stick_goes_is_answered_when_it_expires(
    stick: LxpSimulator, house: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.writing.SETTLE", 2.0)
    wake = house.publisher.inbox._wake
    with monkeypatch.context() as patch:
        patch.setattr(type(wake), "set", lambda _: None)  # it is to find both at once
        house.send("charge_rate_pct", "80")
        house.send("discharge_rate_pct", "70", expires=time.monotonic() + 2.5)
    wake.set()
    await_true(lambda: written(stick), 5, "the first write")
    stick.faults.refuse = True
    stick.drop()
    house.await_offline()
    result = house.await_results(1, 10)[0]
    assert (result["setting"], result["outcome"]) == ("discharge_rate_pct", "refused")
    assert "expired" in result["reason"]
    assert house.audit("end")[-1]["outcome"] == "refused"
    stick.faults.refuse = False
    assert house.await_results(2)[1]["outcome"] == "done"
    assert written(stick) == [(64, (80,))]


def exchange(stick: LxpSimulator, house: Site, serial: str, datalog: str) -> None:
    """Let another stick have the address; wait until its inverter is taken up."""
    stick.inverters[0].serial, stick.datalog = serial, datalog
    seen = len(house.states())
    stick.drop()
    await_true(lambda: any(one.unit.serial == serial for one in house.states()[seen:]), 15, "the other one")


def test_another_stick_at_the_same_address_is_not_written_to(stick: LxpSimulator, house: Site) -> None:
    """A router may give two sticks each other's address: a command is meant for the inverter that had it."""
    exchange(stick, house, SECOND, "BB00000000")
    result = house.set("charge_rate_pct", "80")
    assert (result["outcome"], SECOND in result["reason"], "restart" in result["reason"]) == ("refused", True, True)
    assert written(stick) == []
    exchange(stick, house, SERIAL, DATALOG)
    assert house.set("charge_rate_pct", "80")["outcome"] == "done"


@pytest.mark.parametrize(("serial", "datalog"), [(SECOND, DATALOG), (SERIAL, "BB00000000")])
def test_an_exchanged_inverter_or_stick_can_be_written_to(
    stick: LxpSimulator, house: Site, serial: str, datalog: str
) -> None:
    exchange(stick, house, serial, datalog)
    assert house.set("charge_rate_pct", "80")["outcome"] == "done"


def test_a_write_that_a_stop_interrupted_is_settled_at_the_next_start(stick: LxpSimulator, tmp_path: Path) -> None:
    entry = {"id": "a", "unit": "", "setting": "charge_rate_pct", "source": "mqtt", "frame": "hold 64", "old": 100,
             "text": "80"}  # fmt: skip
    (tmp_path / "ledger.json").write_text(json.dumps({"spent": [], "ids": {}, "pending": entry}))
    stick.inverters[0].holds[64] = 80
    with site(stick, tmp_path, **MAY) as house:
        result = house.await_results(1)[0]
        assert (result["outcome"], result["id"], result["read_back"]) == ("done", "a", 80)
        assert written(stick) == []


def test_what_depends_on_the_model_is_settled_once_that_was_read(tmp_path: Path) -> None:
    entry = {"id": "a", "unit": "", "setting": "ac_charge_rate", "source": "mqtt", "frame": "hold 66", "old": 3.0,
             "text": "4.5"}  # fmt: skip
    (tmp_path / "ledger.json").write_text(json.dumps({"spent": [], "ids": {}, "pending": entry}))
    with eager(model="lxp12k") as one:
        one.inverters[0].holds[66] = 45
        with site(one, tmp_path, **MAY) as house:
            result = house.await_results(1)[0]
            assert (result["outcome"], result["id"], result["read_back"]) == ("done", "a", 4.5)
            assert written(one) == []


def test_a_silent_inverter_holds_up_no_command_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.luxpower.device.MODELS", 1.0)
    with eager(serials=(SERIAL,)) as one, site(one, tmp_path, **MAY, inverter=(SERIAL, SECOND)) as house:
        house.await_states(1, SERIAL)
        result = house.set("charge_rate_pct", "80", SERIAL)
        assert (result["outcome"], hold(one, 64)) == ("done", 80)


def test_a_model_that_is_not_known_yet_is_no_wrong_model(tmp_path: Path) -> None:
    with eager(model="lxp12k") as one:
        one.faults.holds_refused = 6
        with site(one, tmp_path, **MAY | {"interval": 60.0}) as house:
            house.await_states(1)
            inverter = next(iter(house.device.inverters.values()))
            inverter.asked_all = False  # its first round takes long
            result = house.set("ac_charge_rate", "4.5")
            assert (result["outcome"], "not known yet" in result["reason"]) == ("refused", True)


@pytest.mark.parametrize("sync", [False, True])
def test_a_command_that_waits_for_the_model_is_not_carried_out_on_a_gridboss(tmp_path: Path, sync: bool) -> None:
    with quiet(model="eg4", turnaround=0.2) as one:
        one.inverters[0].holds[19] = 50
        one.inverters[0].clock_offset = -3600.0
        with site(one, tmp_path, **MAY, inverter=SERIAL, datalogger=DATALOG, time_sync=sync) as house:
            await_true(lambda: house.device is not None and house.device.connected, 5, "a connection")
            result = house.set("charge_rate_pct", "80")
            assert (result["outcome"], "GridBOSS" in result["reason"]) == ("refused", True)
            await_true(lambda: house.publisher.tally.polls > 5, 5, "time for more")
            assert written(one) == []


def test_where_nothing_is_polled_the_model_is_read_before_a_setting_is_written(tmp_path: Path) -> None:
    with eager(model="eg4") as one, site(one, tmp_path, **MAY | {"interval": 0.0}) as house:
        house.await_states(1)
        assert house.set("charge_rate_pct", "80")["outcome"] == "done"
        assert house.device.inverters[SERIAL].device_type == 2092
        one.inverters[0].holds[19] = 50
        with site(one, tmp_path / "other", **MAY | {"interval": 0.0}) as other:
            other.await_states(1)
            result = other.set("charge_rate_pct", "70")
            assert (result["outcome"], "GridBOSS" in result["reason"]) == ("refused", True)
    assert written(one) == [(64, (80,))]


def interrupt(folder: Path, stick: LxpSimulator, setting: str, text: str) -> None:
    """Have the frame of a command lost with the link, and the bridge end before the stick is back."""
    with site(stick, folder, **MAY) as house:
        house.await_settings()
        stick.lies.drop, stick.lies.times, stick.faults.refuse = "before", 1, True
        house.send(setting, text)
        await_true(lambda: written(stick), 5, "the frame")
        house.await_offline()
    stick.faults.refuse = False
    stick.writes.clear()


NIGHT = {68: 23, 69: 6}  # 23:00-06:00


@pytest.mark.parametrize(
    ("found", "window", "words", "frames"),
    [
        ({68: 1}, "23:00-06:00", "the part that was set was set back", [(68, (23,))]),
        ({68: 12, 69: 14}, "12:00-14:00", "it shows 12:00-14:00 and is left as it is", []),
        ({}, "23:00-06:00", "it is not as wanted", []),
    ],
    ids=["half of it arrived", "set at the panel since", "nothing arrived"],
)
def test_e15_a_window_interrupted_is_set_back_only_where_half_of_it_arrived(
    stick: LxpSimulator, tmp_path: Path, found: dict[int, int], window: str, words: str, frames: list[Any]
) -> None:
    stick.inverters[0].holds.update(NIGHT)
    interrupt(tmp_path, stick, "ac_charge_window_1", "01:00-05:00")
    stick.inverters[0].holds.update(found)
    with site(stick, tmp_path, **MAY) as house:
        result = house.await_results(1)[0]
        assert (result["outcome"], result["read_back"]) == ("failed", window)
        assert words in result["reason"]
        assert written(stick) == frames


def test_e15_a_clock_interrupted_is_not_set_to_what_it_showed_hours_ago(stick: LxpSimulator, tmp_path: Path) -> None:
    stick.inverters[0].clock_offset = -180.0
    interrupt(tmp_path, stick, "time", "now")
    file = tmp_path / "ledger.json"
    content = json.loads(file.read_text())
    earlier = datetime.fromisoformat(content["pending"]["old"]) - timedelta(hours=4)
    content["pending"]["old"] = earlier.isoformat()  # as if the bridge had been down for so long
    file.write_text(json.dumps(content))
    with site(stick, tmp_path, **MAY) as house:
        result = house.await_results(1)[0]
        assert (result["outcome"], result["read_back"][:4]) == ("failed", str(datetime.now().year))
        assert f"it shows {result['read_back']} and is left as it is" in result["reason"]
        assert written(stick) == []


# -- T23: what others change


def test_t23_what_somebody_else_sets_is_logged_and_recorded(
    stick: LxpSimulator, house: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    stick.foreign_write(67, 55)
    await_true(lambda: house.audit("changed"), 5, "the change")
    entry = house.audit("changed")[0]
    assert (entry["setting"], entry["old"], entry["new"]) == ("ac_charge_soc_limit_pct", 90, 55)
    assert "ac_charge_soc_limit_pct went from 90 to 55, not set from here" in caplog.text


def test_t23_a_stick_that_changes_without_end_fills_no_disk(
    stick: LxpSimulator, house: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.luxpower.changes.CHANGES_PER_HOUR", 5)
    for number in range(20):
        stick.foreign_write(75, number)
    house.await_failure("implausible", 10)
    assert len(house.audit("changed")) == 5


def test_t23_our_own_writes_are_no_change_by_others(stick: LxpSimulator, house: Site) -> None:
    house.set("charge_rate_pct", "80")
    house.set("ac_charge", "on")
    house.set("ac_charge_window_1", "01:00-02:00")
    stick.foreign_write(75, 60)
    await_true(lambda: house.audit("changed"), 5, "the change of somebody else")
    assert [entry["setting"] for entry in house.audit("changed")] == ["charge_priority_soc_limit_pct"]


def test_t23_a_change_while_the_stick_was_away_is_seen_afterwards(stick: LxpSimulator, house: Site) -> None:
    stick.faults.refuse = True
    stick.drop()
    house.await_offline()
    stick.inverters[0].holds[75] = 44
    stick.faults.refuse = False
    await_true(lambda: house.audit("changed"), 10, "the change")
    assert house.audit("changed")[0]["new"] == 44


# -- ways in


def test_a_stick_that_connects_to_us_can_be_written_too(tmp_path: Path) -> None:
    port = free_port()
    with site(None, tmp_path, listen=port, **MAY) as house, eager(
        model="lxp12k", tcp_port=None, dial=("127.0.0.1", port)
    ) as one:
        house.await_settings()
        assert house.set("charge_rate_pct", "80")["outcome"] == "done"
        assert hold(one, 64) == 80


def test_a_stick_that_is_only_listened_to_can_be_written_too(stick: LxpSimulator, tmp_path: Path) -> None:
    with site(stick, tmp_path, **MAY | {"interval": 0.0}) as house:
        house.await_states(1)
        assert house.set("charge_rate_pct", "80")["outcome"] == "done"


