"""The device against a simulated stick: what it asks, learns, believes and publishes."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import json
import logging
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bridge.fields import Channel, Level, Reading
from bridge.inbox import BURST, REFILL, ReadRegisters, Refresh
from bridge.luxpower import connection
from bridge.luxpower.blocks import Piece
from bridge.luxpower.device import LxpDevice, documented_fields
from bridge.luxpower.frame import Function, Refused, Registers
from bridge.luxpower.inverter import MOST_HELD, Inverter
from bridge.luxpower.options import Options, manner_of
from bridge.luxpower.registers import HOLDS, INPUTS
from bridge.simulators.lxp import LxpSimulator
from tests.harness import Bridge, Mosquitto, Recorder, await_true, free_port
from tests.luxpower.rig import DATALOG, SECOND, SERIAL, Site, eager, quiet, short, site

__all__ = ["short"]
pytestmark = pytest.mark.usefixtures("short")

MODELS = ("acs", "hybrid", "sna", "lxp12k", "eg4")


@pytest.fixture
def stick() -> Iterator[LxpSimulator]:
    with eager() as one:
        yield one


# -- learning and asking


@pytest.mark.parametrize("model", MODELS)
def test_every_model_tells_all_it_has_by_pushes_and_by_polls(model: str) -> None:
    with eager(model=model) as one, site(one) as house:
        house.await_states(12)
        await_true(lambda: house.told(Channel.SETTINGS), 5, "the settings")
        state = house.states()[-1]
        assert list(state.values) == [field.key for field in state.unit.fields]
        assert state.values["max_chg_curr"] is not None, "its scale follows from the model"
        assert (state.unit.serial, state.unit.model) == (SERIAL, one.inverters[0].model.code.upper())
        settings = house.told(Channel.SETTINGS)[-1]
        assert settings.values["serial"] == SERIAL
        assert list(settings.values) == [field.key for field in settings.unit.settings]


def test_both_serials_are_learned_from_what_is_pushed(stick: LxpSimulator) -> None:
    with site(stick) as house:
        house.await_online()
        assert house.states()[0].unit.serial == SERIAL
        await_true(lambda: any(request.count for request in list(stick.requests)), 5, "a question")
        asked = {(request.datalog, request.inverter) for request in list(stick.requests) if request.count}
        assert asked == {(DATALOG.encode(), SERIAL.encode())}


@pytest.mark.parametrize("inverter", [None, SERIAL], ids=["learned", "configured"])
def test_a_replaced_stick_is_learned_anew(stick: LxpSimulator, inverter: str | None) -> None:
    with site(stick, inverter=inverter) as house:
        house.await_online()
        stick.datalog = "BB00000000"
        stick.drop()
        house.await_offline()
        house.await_online(seconds=15.0)


def test_configured_serials_are_asked_without_any_push() -> None:
    with quiet() as one, site(one, inverter=SERIAL, datalogger=DATALOG) as house:
        house.await_states(3)


def test_without_a_push_nothing_is_asked_of_an_unknown_inverter() -> None:
    with quiet() as one, site(one) as house:
        await_true(lambda: house.device is not None and house.device.datalog, 5, "the stick's serial")
        for _ in range(2):
            one.heartbeat()
        await_true(lambda: one.echoes >= 2, 5, "heartbeats answered")
        assert not [request for request in list(one.requests) if request.count]
        one.push()
        house.await_states(5)


def test_a_large_block_that_is_pushed_makes_for_large_questions() -> None:
    with eager(model="sna") as one, site(one) as house:
        house.await_states(5)
        await_true(lambda: any(request.count == 120 for request in list(one.requests)), 5, "a large question")


def test_small_sticks_are_asked_in_groups_of_forty() -> None:
    with eager(model="acs") as one, site(one) as house:
        await_true(lambda: house.told(Channel.SETTINGS), 5, "the settings")
        reads = [request for request in list(one.requests) if request.count]
        assert max(request.count for request in reads) == 40
        assert all(request.number // 40 == (request.number + request.count - 1) // 40 for request in reads)


def test_a_refused_register_costs_its_own_value_only() -> None:
    with eager(model="acs") as one, site(one) as house:
        await_true(lambda: house.told(Channel.SETTINGS), 5, "the settings")
        values = house.told(Channel.SETTINGS)[-1].values
        row = {row.register: row.key for row in HOLDS.rows}
        assert values[row[168]] is None
        assert None not in (values[row[167]], values[row[169]], values[row[232]])
        inputs = house.device.inverters[SERIAL].inputs
        await_true(lambda: [(p.first, p.length) for p in inputs.pieces] == [(0, 40), (40, 40), (80, 40)], 5,
                   "only what an ACS has is asked for")  # fmt: skip
        before = house.failures["refused"]
        house.await_more(6)
        assert house.failures["refused"] == before, "what was refused is not asked again"


@pytest.mark.parametrize(("inputs", "longest", "busy"), [(232, None, 0), (254, 80, 0), (254, None, 1)])
def test_the_strings_are_added_up_once_everything_was_asked_for(
    inputs: int, longest: int | None, busy: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Models with inputs 0 to 231, a stick that answers 120 with 80, and an inverter that is busy once."""
    with eager(model="lxp12k") as one:
        one.inverters[0].model = dataclasses.replace(one.inverters[0].model, inputs=inputs)
        one.shape = ((Function.READ_INPUT, 0, 120 if longest else 40),)
        one.faults.short_reads = longest
        refusals = ["busy"] * busy
        unreadable = one._unreadable
        monkeypatch.setattr(one, "_unreadable", lambda inverter, request: (
            6 if request.function == Function.READ_INPUT and request.number == 200 and refusals and refusals.pop()
            else unreadable(inverter, request)))  # fmt: skip
        with site(one, datalogger=DATALOG) as house:
            await_true(lambda: any(state.values["e_pv_all"] is not None for state in house.states()), 5, "a sum")
            for values in [state.values for state in house.states()]:
                for whole, part in (("p_pv", "p_pv_6"), ("e_pv_day", "e_pv_day_6"), ("e_pv_all", "e_pv_all_6")):
                    assert values[whole] is None or values[part] is not None


def test_a_short_reply_is_kept_and_the_rest_is_asked_for() -> None:
    with eager(model="lxp12k") as one:
        one.faults.short_reads = 25
        with site(one) as house:
            await_true(lambda: house.told(Channel.SETTINGS), 10, "the settings")
            house.await_more(12)
            assert house.states()[-1].values["p_load"] is not None, "register 170 was in a rest"
            assert house.told(Channel.SETTINGS)[-1].values["system_charge_soc_limit_pct"] is not None


def test_one_request_is_under_way_at_a_time() -> None:
    with quiet(turnaround=0.03) as one, site(one, inverter=SERIAL) as house:
        house.await_states(8)
        for _ in range(20):
            house.put(ReadRegisters("hold", 64, 1))
        await_true(lambda: len(house.told(Channel.REGISTERS)) > 5, 5, "answers")
        # each answer is on its way before the next question came: frames sent and requests taken alternate
        answers = [r.at for r in one.truth.records() if r.frame in ("input", "hold")]
        assert min(b - a for a, b in itertools.pairwise(answers)) >= 0.03
        assert house.failures.get("no_reply", 0) == 0


def test_settings_are_told_at_start_and_on_change_only() -> None:
    with eager() as one, site(one, settings_interval=0.2) as house:
        await_true(lambda: house.told(Channel.SETTINGS), 5, "the settings")
        house.await_more(20)
        assert len(house.told(Channel.SETTINGS)) == 1, "the clock alone is no news"
        one.foreign_write(67, 55)
        await_true(lambda: len(house.told(Channel.SETTINGS)) == 2, 5, "the changed settings")
        assert house.told(Channel.SETTINGS)[-1].values["ac_charge_soc_limit_pct"] == 55


def test_a_setting_that_somebody_writes_is_read_again_at_once() -> None:
    with eager() as one, site(one, settings_interval=3600) as house:
        await_true(lambda: house.told(Channel.SETTINGS), 5, "the settings")
        one.foreign_write(67, 44)
        await_true(lambda: house.told(Channel.SETTINGS)[-1].values["ac_charge_soc_limit_pct"] == 44, 5, "the change")


def test_a_refresh_asks_everything_now() -> None:
    with eager() as one, site(one, interval=60.0, settings_interval=3600) as house:
        await_true(lambda: house.told(Channel.SETTINGS), 5, "the first round")
        before = len(one.requests)
        house.put(Refresh())
        await_true(lambda: len(one.requests) >= before + 5, 2, "a new round")


def test_a_start_and_a_refresh_make_one_round_each() -> None:
    with eager(model="acs") as one, site(one, interval=60.0) as house:
        await_true(lambda: house.told(Channel.SETTINGS), 5, "the first round")
        house.put(Refresh())

        def rounds() -> int:
            return [(request.function, request.number) for request in list(one.requests)].count((4, 0))

        await_true(lambda: rounds() >= 2, 5, "the second")
        polls = house.publisher.tally.polls
        await_true(lambda: house.publisher.tally.polls > polls + 5, 5, "time for more")
        assert rounds() == 2


def test_nothing_is_asked_when_the_interval_is_zero(stick: LxpSimulator) -> None:
    with site(stick, interval=0.0) as house:
        house.await_states(3)
        house.await_after(stick.push, 3)
        assert not [request for request in list(stick.requests) if request.count]
        assert house.told(Channel.SETTINGS)[-1].values["serial"] == SERIAL, "settings as far as they are pushed"


def test_heartbeats_are_answered_unless_forbidden() -> None:
    with quiet() as one, site(one, interval=0.0), quiet() as other, site(other, interval=0.0, heartbeat=False):
        await_true(lambda: one.echoes == 1, 5, "an answer")
        other.heartbeat()
        one.heartbeat()
        await_true(lambda: one.echoes == 2, 5, "another")
        assert other.echoes == 0


def test_a_stick_without_its_cloud_pushes_to_a_bridge_that_answers() -> None:
    with eager(greeting=0.3) as one:
        one.cloud = False
        with site(one, interval=0.0) as house:
            house.await_states(2)


# -- units


def test_inverters_of_one_stick_are_told_apart_and_added_up() -> None:
    with eager(serials=(SERIAL, SECOND)) as one, site(one, inverter=(SERIAL, SECOND)) as house:
        for path in (SERIAL, SECOND, ""):
            house.await_states(3, path)
        house.await_states(6)
        single = [house.states(SERIAL), house.states(SECOND)]
        assert {r.unit.serial for r in single[0]} == {SERIAL}
        total = house.states()[-1]
        assert total.unit.serial is None
        for key in ("p_inv", "p_to_user", "e_pv_all"):
            first, second = ([r.values[key] for r in several if r.values[key] is not None] for several in single)
            sums = {round(a + b, 1) for a in first for b in second}  # type: ignore[operator]
            assert total.values[key] in sums
        assert "v_bat" not in total.values
        ages = [{reading.at for reading in readings} for readings in single]
        assert len(house.states()) <= min(map(len, ages)), "a total is of sets that are both new"


def test_the_total_is_silent_while_one_inverter_is() -> None:
    with eager(serials=(SERIAL,)) as one, site(one, inverter=(SERIAL, SECOND)) as house:
        house.await_states(8, SERIAL)
        assert house.states() == []
        assert ("", True) not in house.sink.presences


def test_a_silent_inverter_does_not_hold_up_the_other() -> None:
    with eager(serials=(SERIAL,)) as one, site(one, inverter=(SECOND, SERIAL)) as house:
        house.await_states(3, SERIAL)
        before = len(one.requests)
        house.await_states(len(house.states(SERIAL)) + 4, SERIAL, 10)
        asked = [request.inverter for request in list(one.requests)[before:] if request.count]
        assert asked.count(SECOND.encode()) <= asked.count(SERIAL.encode()) * 3


def test_b16_a_silent_inverter_leaves_the_other_its_rate_and_is_back_when_it_answers() -> None:
    """Rounds are counted at the stick, and held against those of another one whose only inverter answers."""

    def rounds(stick: LxpSimulator) -> int:
        asked = [(one.inverter, one.function, one.number) for one in list(stick.requests)]
        return asked.count((SERIAL.encode(), Function.READ_INPUT, 0))

    with ExitStack() as stack:
        sticks = [stack.enter_context(eager(serials=serials)) for serials in ((SERIAL, SECOND), (SERIAL,))]
        sticks[0].faults.only, sticks[0].faults.silent = SECOND.encode(), True
        house = stack.enter_context(site(sticks[0], inverter=(SERIAL, SECOND), interval=0.6))
        control = stack.enter_context(site(sticks[1], inverter=SERIAL, interval=0.6))
        asked = lambda: [one.inverter for one in list(sticks[0].requests)].count(SECOND.encode())  # noqa: E731
        # its first silence costs as much time as three answers may take, once
        await_true(lambda: asked() >= 3 and rounds(sticks[0]) >= 2, 10, "the first silence")
        before, since = [rounds(one) for one in sticks], time.monotonic()
        await_true(lambda: time.monotonic() > since + 6, 10, "some rounds")
        beside, alone = (rounds(one) - count for one, count in zip(sticks, before, strict=True))
        assert beside >= 0.95 * alone - 1
        assert control.states()
        assert asked() >= 5, "nobody asks it any more"
        sticks[0].faults.clear()
        house.await_online(SECOND, 10)


def test_battery_packs_are_units_of_their_own() -> None:
    with eager(model="eg4") as one, site(one, packs=True) as house:
        for serial in ("PACK01180001", "PACK01180002"):
            pack = house.await_states(1, serial)[-1]
            assert list(pack.values) == [field.key for field in pack.unit.fields]
            sent = [r.values[f"{serial}_cell_high"] for r in one.truth.records("packs")]
            assert pack.values["max_cell_voltage"] in sent


def test_what_the_configuration_says_of_the_model_counts_more_than_its_code() -> None:
    # told a tenth on purpose, so the judge is not asked
    with eager(model="sna") as one, Site(one, limit_divisor=100, power_unit="kw", phases="three") as house:
        await_true(lambda: house.told(Channel.SETTINGS), 5, "the settings")
        assert house.told(Channel.SETTINGS)[-1].values["power_unit"] == "kW"
        sent = {r.values["max_chg_curr"] for r in one.truth.records("input") if "max_chg_curr" in r.values}
        told = house.states()[-1].values["max_chg_curr"]
        assert any(told == pytest.approx(value / 10) for value in sent)
        assert told not in sent


def test_an_inverter_that_refuses_all_inputs_is_asked_for_packs_without_a_crash() -> None:
    with eager(model="eg4") as one:
        one.inverters[0].model = dataclasses.replace(one.inverters[0].model, inputs=0)
        with site(one, packs=True, inverter=SERIAL, datalogger=DATALOG) as house:
            await_true(lambda: {5002, 5062} <= {request.number for request in list(one.requests)}, 5, "the packs")
            assert house.publisher.crashes == 0


def test_an_inverter_that_is_busy_at_first_is_asked_for_its_model_again() -> None:
    with eager(model="lxp12k") as one:
        one.faults.holds_refused = 6
        with site(one) as house:
            house.await_failure("refused", 8)
            assert house.states()[-1].values["max_chg_curr"] is None, "its scale follows from the model"
            one.faults.holds_refused = None
            await_true(lambda: house.states()[-1].values["max_chg_curr"] is not None, 5, "the model")


def test_a_piece_that_is_refused_after_the_plan_changed_does_not_end_the_packs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with eager(model="eg4") as one, site(one, packs=True, interval=60.0) as house:
        house.await_online()
        inverter = next(iter(house.device.inverters.values()))
        refused = Refused(1, DATALOG, SERIAL, Function.READ_INPUT, 200, 2)

        def ask(*_: object) -> Iterator[None]:
            return refused
            yield

        monkeypatch.setattr(house.device, "_ask", ask)  # a stick whose plan changes between question and answer
        for first, there in ((200, True), (5002, False)):
            with pytest.raises(StopIteration):
                next(house.device._ask_piece(inverter, inverter.inputs, Function.READ_INPUT, Piece(first, 33)))
            assert inverter.has_battery_block is there


@pytest.mark.parametrize(("register", "word"), [(19, 50), (7, 0x4149)])
def test_a_gridboss_is_no_inverter(
    register: int, word: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with eager(model="eg4") as one:
        one.inverters[0].holds |= {register: word} | ({8: 0x4241} if register == 7 else {})
        with site(one, tmp_path, writes=True, packs=True, compat="lxp-bridge", inverter=SERIAL) as house:
            house.put(ReadRegisters("hold", 64, 1))
            await_true(lambda: "an EG4 GridBOSS" in caplog.text, 5, "a word about it")
            asked = len(one.requests)
            await_true(lambda: len(one.requests) > asked + 20, 5, "several rounds")
            assert {one.channel for one in list(house.sink.readings)} == {Channel.REGISTERS}, "what was asked for"
            assert house.sink.presences == []
            assert house.set("charge_rate_pct", "80")["outcome"] == "refused"
            assert house.device.root().controls == ()
            assert not [request for request in list(one.requests) if request.words]
            assert caplog.text.count("an EG4 GridBOSS") == 1
            caplog.set_level(logging.INFO)
            one.foreign_write(67, 55)
            await_true(lambda: house.device.inverters[SERIAL].hold(67) == 55, 5, "it is read")
            assert house.audit("changed") == [], "67 is another thing there"
            assert "not set from here" not in caplog.text


def test_nothing_is_told_before_the_model_was_read_and_nothing_is_lost_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with eager(model="acs") as one:
        house = Site(one, compat="lxp-bridge", interval=60.0)
        known, take = [], house.sink.take

        def note(device: str, reading: Reading) -> None:
            known.append(house.device.inverters[SERIAL].code)
            take(device, reading)

        monkeypatch.setattr(house.sink, "take", note)
        with house:
            await_true(lambda: house.told(Channel.SETTINGS), 5, "the first round is over")
            assert set(known) == {"BAAA"}
            first = one.truth.records("input")[0]
            assert house.states()[0].at == pytest.approx(first.at, abs=0.1), "what was pushed, as old as it is"
            assert first.at < one.truth.records("hold")[0].at
            assert {"inputs/1", "inputs/2", "inputs/all"} <= {reading.topic for reading in house.told(Channel.COMPAT)}
            pieces = [request for request in list(one.requests) if request.function == Function.READ_HOLD]
            assert len([request for request in pieces if request.number == 0]) == 1, "asked for once"


@pytest.mark.parametrize("code", [2, 6])
def test_an_inverter_that_does_not_tell_its_model_is_told_of_all_the_same(code: int) -> None:
    with eager(model="acs") as one:
        one.faults.holds_refused = code
        with site(one) as house:
            house.await_states(1, seconds=10.0)
            assert house.device.inverters[SERIAL].code is None


def test_a_model_that_nobody_tells_is_not_waited_for_for_ever() -> None:
    one = Inverter(SERIAL, "", manner_of(Options(name="house", type="lxp", host="stick")), asked_all=False)
    frame = Registers(2, DATALOG, SERIAL, Function.READ_INPUT, 0, bytes(80))
    for number in range(2 * MOST_HELD):
        assert one.hold_back(frame, float(number))
    assert one.let_go(-0.1) == []
    assert one.let_go(0.0) == [(frame, float(number)) for number in range(MOST_HELD)]
    assert not one.hold_back(frame, 99.0)


# -- registers on demand


def test_registers_are_read_on_demand(stick: LxpSimulator) -> None:
    with site(stick, interval=60.0) as house:
        house.await_online()
        house.put(ReadRegisters("hold", 64, 3))
        house.put(ReadRegisters("input", 0, 127))
        await_true(lambda: len(house.told(Channel.REGISTERS)) == 2, 5, "two answers")
        first, second = house.told(Channel.REGISTERS)
        holds = stick.inverters[0].holds
        assert first.values == {"command": "read/hold/64", "count": 3, "outcome": "done", "reason": None,
                                **{f"hold_{n}": holds[n] for n in (64, 65, 66)}}  # fmt: skip
        assert len([key for key in second.values if key.startswith("input_")]) == 127


def test_t8_the_password_of_the_panel_is_never_told() -> None:
    with eager(model="lxp12k") as one, site(one, raw=True) as house:
        one.inverters[0].holds[225] = 1234
        house.await_online()
        house.put(ReadRegisters("hold", 224, 3))
        asked = {"command": "read/hold/224", "count": 3, "outcome": "done"}
        await_true(lambda: any(asked.items() <= one.values.items() for one in house.told(Channel.REGISTERS)), 5, "it")
        words = {key for reading in list(house.sink.readings) for key in reading.values}
        assert {"hold_224", "hold_226"} <= words
        assert "hold_225" not in words


def test_what_is_asked_for_while_settings_are_read_does_not_wait_for_all_of_them() -> None:
    with quiet(model="lxp12k", turnaround=0.1) as one, site(
        one, inverter=SERIAL, datalogger=DATALOG, interval=60.0
    ) as house:
        await_true(lambda: (Function.READ_HOLD, 40) in [(r.function, r.number) for r in list(one.requests)], 5, "some")
        house.put(ReadRegisters("input", 4, 1))
        house.await_settings()
        assert len(house.told(Channel.REGISTERS)) == 1


def test_a_read_that_is_refused_says_why() -> None:
    with eager(model="acs") as one, site(one, interval=60.0) as house:
        house.await_online()
        house.put(ReadRegisters("hold", 168, 1))
        await_true(lambda: house.told(Channel.REGISTERS), 5, "an answer")
        values = house.told(Channel.REGISTERS)[0].values
        assert (values["outcome"], values["reason"]) == ("failed", "refused: illegal register")


def test_a_read_is_told_at_once_that_the_stick_is_away() -> None:
    with site(None, host="127.0.0.1", port=free_port()) as house:
        house.await_failure("link")
        house.put(ReadRegisters("hold", 21, 1))
        await_true(lambda: house.told(Channel.REGISTERS), 5, "an answer")
        assert house.told(Channel.REGISTERS)[0].values["reason"] == "not connected"
        assert house.sink.presences == []


@pytest.mark.parametrize("there", [True, False])
def test_e1_a_flood_of_reads_has_one_answer_for_the_rest(there: bool) -> None:
    with ExitStack() as stack:
        stick = stack.enter_context(eager()) if there else None
        way = {} if there else {"host": "127.0.0.1", "port": free_port()}
        house = stack.enter_context(site(stick, interval=60.0, **way))
        if there:
            house.await_settings()
        else:
            house.await_failure("link")
        taken, until = 0, time.monotonic() + 1.0
        while time.monotonic() < until:
            taken += house.put(ReadRegisters("hold", 21, 1))
        await_true(lambda: house.told(Channel.RESULT), 5, "one answer for the rest")
        assert "came faster than they can be taken" in str(house.told(Channel.RESULT)[0].values["reason"])
        await_true(lambda: len(house.told(Channel.REGISTERS)) == taken, 20, "and one for each that was taken")
        assert BURST <= taken <= BURST + 20 * REFILL


def test_raw_words_are_told_when_wanted(stick: LxpSimulator) -> None:
    with site(stick, raw=True, interval=0.0) as house:
        await_true(lambda: len(house.told(Channel.REGISTERS)) >= 3, 5, "words")
        words = {key for reading in house.told(Channel.REGISTERS) for key in reading.values}
        assert {"hold_7", "input_4", "input_253"} <= words


# -- the ways in


def test_a_stick_that_connects_to_us_is_read_and_asked() -> None:
    port = free_port()
    with site(None, listen=port) as house:
        with eager(tcp_port=None, dial=("127.0.0.1", port)) as one:
            one.ports.dial_pause = 0.1
            house.await_states(10)
            assert [request for request in list(one.requests) if request.count]
            one.drop()
            house.await_offline()
            house.await_online()
        house.await_offline()


def test_a_device_that_crashed_listens_again(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    with Site(None, listen=port) as house, eager(tcp_port=None, dial=("127.0.0.1", port)) as one:
        one.ports.dial_pause = 0.1
        house.await_states(1)
        crashed = house.device
        gc.collect()
        gc.freeze()  # as at a start: what is in a cycle by now is never collected
        monkeypatch.setattr(crashed, "poll", lambda: 1 / 0)
        await_true(lambda: house.device is not None and house.device is not crashed, 5, "a new device")
        house.await_more(2)
        assert house.publisher.crashes == 1
        house.publisher.crashes = 0  # the one that was made here
    gc.unfreeze()


def test_a_newer_connection_of_the_same_stick_takes_over() -> None:
    port = free_port()
    with site(None, listen=port, interval=0.0) as house, eager(tcp_port=None, dial=("127.0.0.1", port)) as dead:
        house.await_states(2)
        dead.faults.hang = True  # as if it had restarted without a goodbye
        with eager(tcp_port=None, dial=("127.0.0.1", port), model="hybrid") as alive:
            alive.ports.dial_pause = 0.1
            await_true(lambda: alive.truth.records("input"), 5, "the new one talks")
            house.await_more(2)
            assert alive.ports.peers


def test_a_connection_from_another_address_is_turned_away() -> None:
    port = free_port()
    with site(None, listen=port, source="127.0.0.1") as house, eager(tcp_port=None, dial=("127.0.0.1", port)):
        house.await_states(2)
        with socket.socket() as stranger:
            stranger.bind(("127.0.0.2", 0))
            stranger.connect(("127.0.0.1", port))
            stranger.settimeout(5)
            assert stranger.recv(10) == b"", "ended"
        house.await_failure("foreign")
        house.await_more(2)
        assert house.failures.get("link", 0) <= 1


def test_broadcasts_are_read_and_nothing_is_ever_sent() -> None:
    port = free_port()
    with site(None, udp=port) as house:
        await_true(lambda: house.device is not None and house.device.fileno() is not None, 5, "it listens")
        with quiet(tcp_port=None, udp=("127.0.0.1", port)) as one:
            one.push()
            house.await_states(2)
            house.put(ReadRegisters("hold", 1, 1))
            await_true(lambda: house.told(Channel.REGISTERS), 5, "an answer")
            assert house.told(Channel.REGISTERS)[0].values["reason"] == "broadcasts are for reading only"


# -- age


def test_what_waited_while_the_program_stood_still_is_thrown_away_and_asked_anew() -> None:
    """Row D2: the thread does not look at its socket for a while, as a stopped process would not."""
    with eager() as one, Site(one, interval=60.0, inverter=SERIAL) as house:
        house.await_states(3)
        await_true(lambda: house.told(Channel.SETTINGS), 5, "the first round is over")
        device: LxpDevice = house.device
        line = device._line
        assert line is not None
        seen, asked = len(house.states()), len(one.requests)

        def stood_still() -> bool:
            line._looked -= connection.STOOD_STILL + 1  # it last looked that long ago, unless it is just looking
            one.push()
            time.sleep(0.05)
            return house.failures.get("late", 0) >= 1

        await_true(stood_still, 5, "what waited is too old")
        await_true(lambda: len(one.requests) > asked, 5, "asked anew")
        await_true(lambda: len(house.states()) > seen, 5, "a state")


# -- tables and the whole way to a broker


def test_all_values_are_documented_from_the_tables() -> None:
    fields = documented_fields()
    keys = {field.key for title in fields.values() for field in title}
    assert {row.key for row in (*INPUTS.rows, *HOLDS.rows)} <= keys
    assert any(field.level is Level.HIDDEN for field in fields["the inverter"])


def test_a_user_sees_the_documented_topics(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker") as broker, Recorder(broker.port) as recorder, eager() as one:
        host, port = one.port.split(":")
        entry = {"name": "house", "type": "lxp", "host": host, "port": int(port)}
        config = json.dumps({"mqtt": {"host": "127.0.0.1", "port": broker.port}, "devices": [entry]})
        with Bridge(tmp_path / "bridge", config) as bridge:
            state = json.loads(recorder.wait("solarbridge/house/state").payload)
            assert state["soc"] == 60
            assert state["ts"]
            recorder.wait("solarbridge/house/settings", lambda m: json.loads(m.payload)["serial"] == SERIAL, seconds=20)
            recorder.wait_payload("solarbridge/house/availability", b"online")
            recorder.client.publish("solarbridge/house/read/hold/64", b"2")
            answer = json.loads(recorder.wait("solarbridge/house/registers").payload)
            assert (answer["outcome"], answer["hold_64"]) == ("done", one.inverters[0].holds[64])
            assert bridge.stop() == 0
        recorder.wait_payload("solarbridge/house/availability", b"offline")
