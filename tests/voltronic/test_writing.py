"""Settings written to a simulated inverter that may lie, on a real pty: what is sent, proven, reported, recorded.

Deadlines and pauses are shortened, and the budget is wide, so that hundreds of commands take seconds.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta, tzinfo
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import pytest

from bridge import ledger as ledger_module
from bridge import writing
from bridge.audit import AuditLog
from bridge.devices import Context, Settable, Tally
from bridge.errors import CommandError, LinkError, NoReply, ProtocolError
from bridge.fields import Channel, Reading
from bridge.inbox import ReadRegisters, SetSetting
from bridge.ledger import Ledger
from bridge.settings import Choice, Number, Switch
from bridge.simulators import axpert, axpert_frames, axpert_setters
from bridge.simulators.axpert import LIES, AxpertSimulator
from bridge.statefile import StateFile
from bridge.transports.base import Stop
from bridge.transports.ports import open_port
from bridge.voltronic import connection, desk_device, frame, setter_device
from bridge.voltronic.device import Options, build
from bridge.voltronic.settings import every_setter, setters_of
from bridge.writing import Records
from tests.voltronic.peer import NAK, Answer, Peer, Surroundings, in_turn, reply
from tests.voltronic.test_device import ABSENT, UNIT0, UNIT1, USUAL, text_of
from tests.voltronic.test_settings import COMMANDS

COUNT = 300
NAMES = sorted({row.key for rows in every_setter().values() for row in rows})


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "FIRST_BYTE", 0.4)
    monkeypatch.setattr(connection, "BETWEEN", 0.2)
    monkeypatch.setattr(connection, "IN_ALL", 1.2)
    monkeypatch.setattr(connection, "SETTLED_AFTER", 0.5)
    monkeypatch.setattr(axpert, "LATE", 0.5)
    monkeypatch.setattr(writing, "SETTLE", 0.15)
    monkeypatch.setattr(ledger_module, "SAME_REGISTER", 0.0)


@pytest.fixture
def shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a deadline missed by a busy machine is one more thing that may happen, not a failure."""
    monkeypatch.setattr(connection, "FIRST_BYTE", 0.12)
    monkeypatch.setattr(connection, "BETWEEN", 0.06)
    monkeypatch.setattr(connection, "IN_ALL", 0.4)
    monkeypatch.setattr(connection, "SETTLED_AFTER", 0.25)
    monkeypatch.setattr(axpert, "LATE", 0.16)
    monkeypatch.setattr(writing, "SETTLE", 0.01)


class Rig:
    """One device on one simulator, its records in a folder, and what it told."""

    def __init__(self, simulator: AxpertSimulator, folder: Path, **options: Any) -> None:
        self.simulator = simulator
        self.folder = folder
        usual = {"interval": 0.0, "writes": True, "allow": tuple(NAMES)}
        given = {"name": "roof", "type": "axpert", "port": simulator.port} | usual | options
        self.options = Options(**given)
        self.stop, self.tally = Stop(), Tally()
        self.readings: list[Reading] = []
        self.start()

    def start(self) -> None:
        file = StateFile(self.folder / "writes.json")
        ledger = Ledger(file, 10_000, 100_000)
        self.records = Records(ledger, AuditLog(self.folder))
        self.device = build(self.options, Context(self.stop, self.tally, lambda: None, self.records))
        self.device.open()

    def run(self, rounds: int = 1) -> list[Reading]:
        before = len(self.readings)
        for _ in range(rounds):
            self.readings += (reading for reading in self.device.poll() if reading is not None)
        return self.readings[before:]

    def ready(self) -> Rig:
        """Poll until everything that is asked has been asked once."""
        end = time.monotonic() + 30
        while not self._is_ready():
            assert time.monotonic() < end, "not in time"
            self.device.refresh()
            self.device._name_due = 0.0
            with contextlib.suppress(NoReply):
                self.run()
        return self

    def _is_ready(self) -> bool:
        known, count = self.device.known, len(self.simulator.plant.units)
        wanted = {"QPIRI", "QFLAG", "QMCHGCR", "QMUCHGCR", "QBEQI", "QT", "PIRI", "FLAG", "MCHGCR", "MUCHGCR", "T"}
        asked = [task for name, task in known.tasks.items() if name in wanted and not self.device._asker.refuses(name)]
        members = count == 1 or len(self.device.members.units) == count
        return known.sure and members and bool(asked) and all(task.decoded is not None for task in asked)

    def plug_in_again(self) -> None:
        """Behind an unplugging: the port has another name now."""
        self.device.close()
        self.simulator.replug()
        object.__setattr__(self.options, "port", self.simulator.port)
        self.device.open()

    def command(self, setting: str, text: str, unit: str = "", **more: Any) -> SetSetting:
        now = time.monotonic()
        return SetSetting(unit, setting, text.encode(), now, now + 30, **more)

    def obey(self, command: SetSetting) -> dict[str, Any]:
        """Give a command and return its result."""
        before = len(self.readings)
        self.readings += [one for one in self.device.obey(command) if one is not None]
        for _ in range(8):
            results = [one for one in self.readings[before:] if one.channel is Channel.RESULT]
            if results:
                break
            with contextlib.suppress(NoReply):
                self.run()
        assert len(results) == 1, results
        return dict(results[0].values)

    def set(self, setting: str, text: str, unit: str = "") -> dict[str, Any]:
        return self.obey(self.command(setting, text, unit))

    def state(self) -> dict[str, Any]:
        states = [one for one in self.readings if one.channel is Channel.STATE and one.topic is None]
        return dict([one for one in states if not one.unit.path][-1].values)

    def audit(self, event: str) -> list[dict[str, Any]]:
        return [one for one in self.records.audit.entries() if one["event"] == event]

    @property
    def truth(self) -> dict[str, Any]:
        """What the unit on the cable is really set to."""
        unit = self.simulator.plant.units[self.simulator.cable]
        return unit.settings | {f"flag {letter}": on for letter, on in unit.flags.items()}


Make = Callable[..., Rig]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Make]:
    with ExitStack() as stack:

        def make(model: str = "max", *, units: int = 1, cable: int = 0, **options: Any) -> Rig:
            simulator = AxpertSimulator(model=model, units=units, cable=cable, baud=None)
            stack.enter_context(simulator)
            made = Rig(simulator, tmp_path, **options)
            stack.callback(made.device.close)
            return made

        yield make


class ScriptedRig(Rig):
    """The same on a peer that says what it is told to say."""

    def __init__(self, peer: Peer, folder: Path, **options: Any) -> None:
        self.peer = peer
        super().__init__(peer, folder, **options)  # type: ignore[arg-type]

    @property
    def setters(self) -> list[str]:
        """The settings that were sent."""
        return [command for command in self.peer.asked if not command.startswith("Q")]


Scripted = Callable[..., ScriptedRig]


@pytest.fixture
def scripted(tmp_path: Path) -> Iterator[Scripted]:
    with ExitStack() as stack:

        def make(answers: dict[str, Answer], **options: Any) -> ScriptedRig:
            made = ScriptedRig(stack.enter_context(Peer({**USUAL, **answers})), tmp_path, **options)
            stack.callback(made.device.close)
            made.run(20)
            return made

        yield make


SECOND = "94170312200072"
AMPERES: dict[str, Answer] = {"QMCHGCR": "010 020 030 040 050 060", "QMUCHGCR": "02 10 20 30 40 50 60"}
PARALLEL = str(USUAL["QPIRI"]).rsplit(" ", 4)[0] + " 1 27.0 0 1"


# -- one setting after the other


WRITTEN = [
    ("max", "output_source_priority", "solar_battery_utility", "POP02", "output_source_priority", 2),
    ("max", "charger_source_priority", "solar_only", "PCP03", "charger_source_priority", 3),
    ("max", "input_voltage_range", "ups", "PGR01", "input_voltage_range", 1),
    ("max", "battery_type", "pylontech", "PBT03", "battery_type", 3),
    ("max", "max_charging_current", "100", "MNCHGC0100", "max_charging_current", 100),
    ("max", "max_ac_charging_current", "100", "MUCHGC0100", "max_ac_charging_current", 100),
    ("max", "battery_recharge_voltage", "45", "PBCV45.0", "battery_recharge_voltage", 45.0),
    ("max", "battery_redischarge_voltage", "0", "PBDV00.0", "battery_redischarge_voltage", 0.0),
    ("max", "battery_under_voltage", "43.5", "PSDV43.5", "battery_under_voltage", 43.5),
    ("max", "battery_bulk_voltage", "55.1", "PCVV55.1", "battery_bulk_voltage", 55.1),
    ("max", "battery_float_voltage", "53.9", "PBFT53.9", "battery_float_voltage", 53.9),
    ("max", "max_cv_charging_time", "45", "PCVT045", "max_cv_charging_time", 45),
    ("max", "max_discharging_current", "120", "PBATMAXDISC120", "max_discharging_current", 120),
    ("max", "equalization_enabled", "on", "PBEQE1", "equalization_enabled", 1),
    ("max", "equalization_active", "on", "PBEQA1", "equalization_active", 1),
    ("max", "equalization_time", "75", "PBEQT075", "equalization_time", 75),
    ("max", "equalization_period", "14", "PBEQP014", "equalization_period", 14),
    ("max", "equalization_voltage", "58.25", "PBEQV58.25", "equalization_voltage", 58.25),
    ("max", "equalization_over_time", "200", "PBEQOT200", "equalization_over_time", 200),
    ("max", "flag_power_saving", "on", "PEj", "flag j", True),
    ("max", "flag_backlight", "off", "PDx", "flag x", False),
    ("max", "flag_overload_bypass", "on", "PEb", "flag b", True),
    ("max", "ac_output_rating_frequency", "60", "F60", "ac_output_frequency", 60.0),
    ("max", "ac_output_rating_voltage", "240", "V240", "ac_output_voltage", 240.0),
    ("pi30", "charger_source_priority", "utility_first", None, "charger_source_priority", 0),
    ("pi30", "pv_ok_condition", "all_units", "PPVOKC1", "pv_ok_condition", 1),
    ("pi30", "pv_power_balance", "charging_current", "PSPB0", "pv_power_balance", 0),
    ("pi30", "max_ac_charging_current", "40", "MUCHGC040", "max_ac_charging_current", 40),
    ("old", "battery_bulk_voltage", "28.8", "PCVV28.8", "battery_bulk_voltage", 28.8),
    ("old", "max_charging_current", "40", "MNCHGC0040", "max_charging_current", 40),
    ("pi18", "output_source_priority", "solar_battery_utility", "POP1", "output_source_priority", 1),
    ("pi18", "charger_source_priority", "solar_only", "PCP0,2", "charger_source_priority", 2),
    ("pi18", "solar_power_priority", "load_battery_utility", "PSP1", "solar_priority", 1),
    ("pi18", "battery_bulk_voltage", "57.5", "MCHGV575,540", "battery_bulk_voltage", 57.5),
    ("pi18", "battery_float_voltage", "53.5", "MCHGV575,535", "battery_float_voltage", 53.5),
    ("pi18", "battery_recharge_voltage", "47", "BUCD470,540", "battery_recharge_voltage", 47.0),
    ("pi18", "battery_under_voltage", "41.5", "PSDV415", "battery_under_voltage", 41.5),
    ("pi18", "max_charging_current", "80", "MCHGC0,080", "max_charging_current", 80),
    ("pi18", "max_ac_charging_current", "10", "MUCHGC0,010", "max_ac_charging_current", 10),
    ("pi18", "battery_type", "user", "PBT2", "battery_type", 2),
    ("pi18", "flag_overload_bypass", "on", "PEB", "flag B", True),
]  # fmt: skip


@pytest.mark.parametrize("model", ["max", "pi30", "old", "pi18"])
def test_each_setting_goes_out_as_one_frame_and_is_proven(rig: Make, model: str) -> None:
    one = rig(model).ready()
    for _, key, text, command, kept, value in [case for case in WRITTEN if case[0] == model]:
        already = one.truth[kept] == value
        sent = len(one.simulator.setters)
        result = one.set(key, text)
        assert (result["outcome"], result["reason"]) == ("unchanged" if already else "done", None), result
        assert one.truth[kept] == pytest.approx(value)
        if not already:
            assert one.simulator.setters[sent:] == [command]
        row = next(row for row in setters_of("PI18" if model == "pi18" else "PI30") if row.key == key)
        shown = one.state()[key]
        assert shown == result["read_back"]
        if isinstance(row.spelling, Number | Switch):
            assert float(shown) == pytest.approx(float(value))


def test_the_state_shows_the_read_back_before_the_result_is_told(rig: Make) -> None:
    one = rig().ready()
    list(one.device.obey(one.command("output_source_priority", "solar_first")))
    told = [r for r in one.run() if r.channel is Channel.RESULT or "output_source_priority" in r.values]
    at = next(n for n, r in enumerate(told) if r.channel is Channel.RESULT)
    assert told[at - 1].values["output_source_priority"] == "solar_first"


def test_a_value_that_is_there_already_costs_one_question_and_no_frame(rig: Make) -> None:
    one = rig().ready()
    result = one.set("output_source_priority", "utility_first")
    assert result["outcome"] == "unchanged"
    assert one.simulator.setters == []
    assert one.audit("begin") == []


def test_e1_commands_that_follow_each_other_without_an_end_leave_the_status_its_turn(rig: Make) -> None:
    one = rig().ready()
    status = one.simulator.line.truth.records
    before, results = len(status("QPIGS")), 0
    equal = one.command("output_source_priority", "utility_first")  # what it is set to already
    list(one.device.obey(equal))
    for _ in range(3):
        for reading in one.device.poll():
            if reading is not None and reading.channel is Channel.RESULT:
                results += 1
                list(one.device.obey(equal))
            assert results < 100, "nothing else gets its turn"
    assert len(status("QPIGS")) == before + 3
    assert results >= 6, "one between any two questions"


def test_e1_the_status_is_asked_in_time_however_many_settings_are_written(
    rig: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "SETTLE", 0.5)
    one = rig(max_age=4.0).ready()
    flags = [key for key, value in one.state().items() if key.startswith("flag_") and value is not None][:8]
    settings = {key: "off" if one.state()[key] else "on" for key in flags}
    one.readings.clear()
    for setting, text in settings.items():
        one.readings += [r for r in one.device.obey(one.command(setting, text)) if r is not None]
    results = lambda: [r.values["outcome"] for r in one.readings if r.channel is Channel.RESULT]  # noqa: E731
    while len(results()) < len(settings):
        one.run()
    one.run()
    assert results().count("done") >= 6, results()
    asked = [record.at for record in one.simulator.line.truth.records("QPIGS")]
    assert max(later - earlier for earlier, later in pairwise(asked)) < 4.0
    assert all(r.values["battery_voltage"] is not None for r in one.readings if "battery_voltage" in r.values)


def test_a_write_does_not_wait_for_the_rest_of_the_round(rig: Make) -> None:
    one = rig().ready()
    one.device.refresh()
    round_ = one.device.poll()
    next(reading for reading in round_ if reading is not None)
    assert not [r for r in one.device.obey(one.command("input_voltage_range", "ups")) if r is not None]
    seen = len(one.simulator.line.truth.records())
    result = next(r for r in round_ if r is not None and r.channel is Channel.RESULT)
    frames = [record.frame for record in one.simulator.line.truth.records()[seen:]]
    assert result.values["outcome"] == "done"
    assert [name for name in frames if name in ("QPIRI", "PGR01")] == ["QPIRI", "PGR01", "QPIRI"]
    assert len(frames) <= 5
    list(round_)


def test_writing_is_off_unless_it_is_switched_on(rig: Make) -> None:
    one = rig(writes=False, allow=()).ready()
    assert one.device._desk is None
    result = one.set("output_source_priority", "solar_first")
    assert result["outcome"] == "refused"
    assert "writes: true" in result["reason"]
    assert one.simulator.setters == []
    assert one.device.known.root.controls == ()


def test_a_risky_setting_has_to_be_named(rig: Make) -> None:
    one = rig(allow=()).ready()
    assert one.set("output_source_priority", "solar_first")["outcome"] == "done"
    for key, text in (("battery_type", "user"), ("charger_source_priority", "solar_only"), ("factory_reset", "press")):
        assert "allow:" in one.set(key, text)["reason"]
    assert one.simulator.setters == ["POP01"]


REFUSED = [
    ("nonsense", "1", "no setting here"),
    ("output_source_prioritty", "solar_first", "did you mean output_source_priority"),
    ("output_source_priority", "hybrid", "not among them"),
    ("output_source_priority", "2", "not among them"),
    ("charger_source_priority", "utility_first", "not among them"),
    ("max_charging_current", "55", "expected one of"),
    ("max_charging_current", "130", "out of range"),
    ("battery_bulk_voltage", "58.5", "out of range"),
    ("battery_bulk_voltage", "53.9", "battery_float_voltage would be 54.0 V"),
    ("battery_float_voltage", "57", "battery_bulk_voltage 56.4 V"),
    ("battery_under_voltage", "46", "battery_recharge_voltage"),
    ("battery_recharge_voltage", "51.5", "no number"),
    ("operation_logic", "eco", "unit of this kind"),
    ("pv_ok_condition", "all_units", "unit of this kind"),
    ("cv_time", "60", "unit of this kind"),
    ("flag_data_log_popup", "on", "unit of this kind"),
    ("output_mode", "parallel", "in standby only"),
    ("output_source_priority", "", "empty"),
    ("set/POP", "02", "no setting here"),
    ("hold/1", "1", "no setting here"),
]


def test_what_must_not_be_is_refused_and_no_frame_goes_out(rig: Make) -> None:
    one = rig().ready()
    for key, text, reason in REFUSED:
        result = one.set(key, text)
        assert result["outcome"] == "refused", result
        assert reason in result["reason"], result
        assert result["reason"].isascii()
    assert one.simulator.setters == []
    assert len(one.audit("end")) == len(REFUSED)
    assert one.audit("begin") == []


def test_a_flag_that_the_unit_does_not_show_is_not_set(rig: Make) -> None:
    one = rig("pi30").ready()
    result = one.set("flag_data_log_popup", "on")
    assert (result["outcome"], one.simulator.setters) == ("refused", [])
    assert "could not be proven" in result["reason"]


def test_without_bounds_for_its_battery_a_unit_is_refused_and_with_the_owners_served(rig: Make, tmp_path: Path) -> None:
    one = rig("old", bounds={"battery_float_voltage": (26.0, 27.5)}).ready()
    assert "26.0 to 27.5" in one.set("battery_float_voltage", "28")["reason"]
    assert one.set("battery_float_voltage", "27.2")["outcome"] == "done"


def test_the_output_mode_is_set_in_standby(rig: Make) -> None:
    one = rig()
    one.simulator.plant.grid_present = False
    one.simulator.plant.battery.soc = 1.0
    one.ready()
    assert one.set("output_mode", "parallel")["outcome"] == "done"
    assert one.simulator.setters == ["POPM01"]


def test_a_factory_reset_is_proven_by_the_units_own_defaults(rig: Make) -> None:
    one = rig().ready()
    assert one.set("factory_reset", "press")["outcome"] == "unchanged"
    one.set("battery_type", "user")
    one.set("flag_power_saving", "on")
    result = one.set("factory_reset", "press")
    assert (result["outcome"], result["read_back"]) == ("done", "press")
    assert set(str(result["old"]).split(", ")) == {"battery_type", "flag_power_saving"}
    one.simulator.faults.lie = "forgets"
    one.simulator.call(lambda: one.simulator.plant.units[0].settings.update(battery_type=2))
    assert one.set("factory_reset", "press")["outcome"] == "failed"


def test_what_can_be_set_is_announced_with_the_bounds_of_the_unit(rig: Make) -> None:
    one = rig("old", allow=("battery_bulk_voltage", "max_charging_current", "factory_reset")).ready()
    controls = {item.key: item for item in one.run()[0].unit.controls}
    assert {"output_source_priority", "battery_bulk_voltage", "max_charging_current", "factory_reset"} <= set(controls)
    assert "battery_type" not in controls
    assert "max_cv_charging_time" not in controls
    bulk, amperes = (controls[key].spelling for key in ("battery_bulk_voltage", "max_charging_current"))  # type: ignore[attr-defined]
    assert (float(bulk.minimum), float(bulk.maximum)) == (24.0, 29.2)
    assert [int(one) for one in amperes.among] == [20, 30, 40, 50]
    announced = {item.key for item in one.device.known.root.fields} | {"factory_reset"}
    assert set(controls) <= announced


def test_registers_are_not_for_an_axpert(rig: Make) -> None:
    one = rig().ready()
    with pytest.raises(CommandError, match="no registers"):
        list(one.device.obey(ReadRegisters("hold", 1, 1)))


# -- units of a set


def members(one: Rig) -> list[str]:
    return [unit.serial for unit in one.simulator.plant.units]


def test_a_unit_of_a_set_is_set_by_its_number_and_proven_by_its_own_answer(rig: Make) -> None:
    one = rig(units=3).ready()
    result = one.set("charger_source_priority", "solar_only", members(one)[1])
    assert result["outcome"] == "done", result
    assert one.simulator.setters == ["PPCP103"]
    assert [u.settings["charger_source_priority"] for u in one.simulator.plant.units] == [1, 3, 1]
    assert one.set("max_charger_current", "90", members(one)[2])["outcome"] == "done"
    assert one.simulator.setters[-1] == "MNCHGC2090"
    shown = [r for r in one.readings if r.unit.path == members(one)[2] and r.channel is Channel.STATE][-1]
    assert shown.values["max_charger_current"] == 90
    assert {item.key for item in shown.unit.controls} == {"charger_source_priority", "max_charger_current"}


def test_a_unit_that_is_not_reached_is_refused_with_a_reason(rig: Make) -> None:
    one = rig(units=2).ready()
    assert "no unit" in one.set("charger_source_priority", "solar_only", "99999999999999")["reason"]
    assert "no setting here" in one.set("output_source_priority", "solar_first", members(one)[1])["reason"]
    serial = members(one)[1]
    one.simulator.call(lambda: one.simulator.plant.units.pop())
    assert "not reached" in one.set("charger_source_priority", "solar_only", serial)["reason"]
    assert one.simulator.setters == []


def test_a_current_of_the_unit_on_the_cable_goes_to_its_own_number(rig: Make) -> None:
    one = rig(units=3, cable=1).ready()
    assert one.set("max_charging_current", "80")["outcome"] == "done"
    assert one.simulator.setters == ["MNCHGC1080"]
    assert "unit 0 of a set" in one.set("max_ac_charging_current", "20")["reason"]


def cable_on_unit_1(scripted: Scripted) -> ScriptedRig:
    """A set of two with the cable on unit 1, as far as it is known before something happens to unit 0."""
    return scripted({"QID": SECOND, "QPGS0": UNIT0, "QPGS1": UNIT1, "QPGS2": ABSENT, **AMPERES})


@pytest.mark.parametrize("now", [ABSENT, NAK], ids=["off", "refused"])
def test_a_current_goes_to_its_own_unit_when_unit_0_of_the_set_is_off(scripted: Scripted, now: Answer) -> None:
    one = cable_on_unit_1(scripted)
    one.peer.answers |= {"QPGS0": now, "MNCHGC1040": "ACK"}
    one.run(2)
    one.set("max_charging_current", "40")
    assert one.setters == ["MNCHGC1040"]
    assert "unit 0 of a set" in one.set("max_ac_charging_current", "30")["reason"]
    assert one.setters == ["MNCHGC1040"]


@pytest.mark.parametrize("now", [ABSENT, NAK, UNIT1.replace(SECOND, "94170312200073")], ids=["off", "refused", "moved"])
def test_a_current_is_not_set_while_the_number_in_the_set_is_not_confirmed(scripted: Scripted, now: Answer) -> None:
    one = cable_on_unit_1(scripted)
    one.peer.answers |= {"QPGS0": ABSENT, "QPGS1": now}
    for name in ("max_charging_current", "max_ac_charging_current"):
        result = one.set(name, "40")
        assert result["outcome"] == "refused"
        assert "not confirmed" in result["reason"]
    assert one.setters == []


def test_a_unit_that_left_its_set_is_set_as_a_lone_one(scripted: Scripted) -> None:
    one = cable_on_unit_1(scripted)
    one.peer.answers |= {"QPGS0": UNIT1.replace("1", "0", 1), "QPGS1": ABSENT, "MNCHGC0040": "ACK"}
    one.set("max_charging_current", "40")
    assert one.setters == ["MNCHGC0040"]


def test_a_unit_whose_output_mode_is_that_of_a_set_is_not_taken_for_a_lone_one(scripted: Scripted) -> None:
    """After a start while unit 0 is off no set has been seen, but a lone unit would tell of itself under QPGS0."""
    one = scripted({"QID": SECOND, "QPGS0": ABSENT, **AMPERES})
    one.peer.answers["QPIRI"] = PARALLEL
    one.device.refresh()
    one.run()
    result = one.set("max_charging_current", "40")
    assert (result["outcome"], one.setters) == ("refused", [])
    assert "its number in it is not known" in result["reason"]


@pytest.mark.parametrize("later", [UNIT0, NAK], ids=["heard again", "refused again"])
def test_a_refused_question_for_unit_0_does_not_make_the_unit_on_the_cable_a_lone_one(
    scripted: Scripted, later: Answer
) -> None:
    """The question may have been damaged on its way; MNCHGC0040 would set the charging current of unit 0."""
    one = scripted({"QID": SECOND, "QPGS0": NAK, "QPGS1": UNIT1, "QPGS2": ABSENT, **AMPERES, "MNCHGC0040": "ACK"})
    one.peer.answers["QPIRI"] = PARALLEL
    one.device.refresh()
    one.run()
    one.peer.answers["QPGS0"] = later
    result = one.set("max_charging_current", "40")
    assert (result["outcome"], one.setters) == ("refused", [])
    assert "its number in it is not known" in result["reason"]


# -- lies

PROVEN = {"done", "unchanged"}
LIED = [
    ("forgets", "failed", 1), ("clamps", "failed", 1), ("jumps", "failed", 1), ("denies", "done", 1),
    ("mute", "done", 1), ("deaf", "failed", 2), ("late", "done", 1), ("garbles", "done", 1), ("bare", "failed", 2),
    ("nudges", "done", 1), ("chats", "done", 1),
]  # fmt: skip


@pytest.mark.parametrize("model", ["max", "pi18"])
@pytest.mark.parametrize(("lie", "outcome", "frames"), LIED, ids=[one[0] for one in LIED])
def test_the_read_back_decides_whatever_is_answered(rig: Make, model: str, lie: str, outcome: str, frames: int) -> None:
    one = rig(model).ready()
    one.simulator.faults.lie = lie
    result = one.set("battery_float_voltage", "53.5")
    stored = one.truth["battery_float_voltage"]
    assert result["outcome"] == outcome, result
    assert (stored == 53.5) == (outcome == "done")
    assert result["read_back"] == pytest.approx(stored)
    assert len(one.simulator.setters) == frames
    assert one.state()["battery_float_voltage"] == pytest.approx(stored)
    if lie == "nudges":
        assert "changed too: input_voltage_range from appliance to ups" in result["reason"]


def test_a_setter_that_was_not_heard_is_done_again_as_a_whole_after_a_look(rig: Make) -> None:
    one = rig().ready()
    one.simulator.faults.lie, one.simulator.faults.lies = "deaf", 1
    seen = len(one.simulator.line.truth.records())
    assert one.set("input_voltage_range", "ups")["outcome"] == "done"
    frames = [record.frame for record in one.simulator.line.truth.records()[seen:]]
    assert [name for name in frames if name in ("QPIRI", "PGR01")] == ["QPIRI", "QPIRI", "PGR01", "QPIRI"]
    assert one.simulator.setters == ["PGR01", "PGR01"]
    assert len(one.audit("begin")) == 2


def test_a_refusal_is_reported_and_not_argued_with(rig: Make) -> None:
    one = rig("pi30").ready()
    assert one.device.known.tasks["QMCHGCR"].decoded is not None
    result = one.set("battery_type", "user")  # this model takes 00 and 01 only
    assert result["outcome"] == "failed"
    assert "NAK" in result["reason"]
    assert one.simulator.setters == ["PBT02"]


@pytest.mark.parametrize("knob", ["needs_plain_zero", "needs_bumped_zero"])
def test_a_zero_in_the_checksum_has_two_spellings_and_the_second_comes_after_a_look(rig: Make, knob: str) -> None:
    assert 0 in axpert_frames.crc(b"PBFT48.8").to_bytes(2, "big")
    one = rig().ready()
    setattr(one.simulator.faults, knob, True)
    seen = len(one.simulator.line.truth.records())
    result = one.set("battery_float_voltage", "48.8")
    assert result["outcome"] == "done", result
    assert one.truth["battery_float_voltage"] == pytest.approx(48.8)
    frames = [record.frame for record in one.simulator.line.truth.records()[seen:]]
    looks = ["QPIRI", "PBFT48.8", "QPIRI"]
    wanted = ["QPIRI", "PBFT48.8", *looks] if knob == "needs_plain_zero" else looks
    assert [name for name in frames if name in looks] == wanted
    assert len(one.audit("begin")) == len(wanted) // 2


def test_a_unit_that_wants_one_digit_more_gets_it_after_a_refusal(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    only_four = [s for s in axpert_setters.PI30_SETTERS if s.form != r"MUCHGC(?P<unit>\d)(\d\d)"]
    monkeypatch.setattr(axpert_setters, "PI30_SETTERS", tuple(only_four))
    one = rig().ready()
    assert one.set("max_ac_charging_current", "40")["outcome"] == "done"
    assert one.simulator.setters == ["MUCHGC040", "MUCHGC0040"]


def test_a_read_back_that_never_comes_leaves_the_outcome_unknown(rig: Make) -> None:
    one = rig().ready()
    real = one.simulator._carries_out

    def then_silent(command: str) -> bool:
        one.simulator.faults.silent = True
        return real(command)

    one.simulator._carries_out = then_silent  # type: ignore[method-assign]
    result = one.set("input_voltage_range", "ups")
    assert (result["outcome"], result["read_back"]) == ("unknown", None)
    assert one.truth["input_voltage_range"] == 1
    assert one.simulator.setters == ["PGR01"]


def test_a_device_that_cannot_be_read_first_is_not_written(rig: Make) -> None:
    one = rig().ready()
    one.simulator.faults.silent = True
    result = one.set("input_voltage_range", "ups")
    assert result["outcome"] == "failed"
    assert "not written" in result["reason"]
    assert one.simulator.setters == []


# -- away, broken off, started again


def test_a_command_while_the_port_is_closed_is_refused_at_once(rig: Make) -> None:
    one = rig().ready()
    one.device.close()
    (result,) = [r for r in one.device.obey(one.command("input_voltage_range", "ups")) if r is not None]
    assert (result.values["outcome"], result.values["reason"]) == (
        "refused", "the device cannot be reached: its port is not open",
    )  # fmt: skip


def test_what_waited_when_the_line_broke_is_done_when_it_is_back_unless_it_expired(rig: Make) -> None:
    one = rig().ready()
    now = time.monotonic()
    commands = [one.command("input_voltage_range", "ups"), SetSetting("", "flag_backlight", b"off", now, now + 0.2)]
    for command in commands:
        assert not [r for r in one.device.obey(command) if r is not None]
    one.device.close()
    time.sleep(0.25)
    one.device.open()
    results = [r.values for r in one.run(3) if r.channel is Channel.RESULT]
    assert [(r["setting"], r["outcome"]) for r in results] == [
        ("input_voltage_range", "done"), ("flag_backlight", "refused"),
    ]  # fmt: skip
    assert one.simulator.setters == ["PGR01"]


def test_what_waits_when_the_bridge_stops_is_answered_and_recorded(rig: Make) -> None:
    one = rig().ready()
    assert isinstance(one.device, Settable)
    list(one.device.obey(one.command("input_voltage_range", "ups")))
    (result,) = [r for r in one.device.writer.end() if r is not None]
    assert result.values["outcome"] == "refused"
    assert len(one.audit("end")) == 1


@pytest.mark.parametrize("stored", [True, False])
def test_a_link_that_breaks_behind_the_frame_is_settled_by_reading_back(rig: Make, stored: bool) -> None:
    one = rig().ready()
    real = one.simulator._carries_out

    def then_gone(command: str) -> bool:
        done = real(command) if stored else True
        one.simulator.line.unplug()
        return done

    one.simulator._carries_out = then_gone  # type: ignore[method-assign]
    list(one.device.obey(one.command("input_voltage_range", "ups", tag="mine")))
    with pytest.raises(LinkError):
        one.run()
    one.simulator._carries_out = real  # type: ignore[method-assign]
    one.plug_in_again()
    (result,) = [r for r in one.run(2) if r.channel is Channel.RESULT]
    assert result.values["outcome"] == ("done" if stored else "failed")
    assert result.values["read_back"] == ("ups" if stored else "appliance")
    assert result.tag == "mine"
    assert len(one.audit("end")) == 1


@pytest.mark.parametrize("wanted_there", [True, False])
def test_a_link_that_breaks_behind_the_frame_is_not_settled_with_another_unit(rig: Make, wanted_there: bool) -> None:
    one = rig().ready()
    real = one.simulator._carries_out

    def then_moved(_command: str) -> bool:
        one.simulator.line.unplug()
        unit = one.simulator.plant.units[0]
        unit.serial = "92932600000099"
        unit.settings.update(input_voltage_range=int(wanted_there))
        return True

    one.simulator._carries_out = then_moved  # type: ignore[method-assign]
    list(one.device.obey(one.command("input_voltage_range", "ups")))
    with pytest.raises(LinkError):
        one.run()
    one.simulator._carries_out = real  # type: ignore[method-assign]
    one.plug_in_again()
    (result,) = [r for r in one.run(3) if r.channel is Channel.RESULT]
    assert (result.values["outcome"], result.values["read_back"]) == ("unknown", None)
    assert result.unit.serial == "92932600000099"
    assert one.simulator.setters == [], "nothing is sent to the other"


def test_a_broken_link_is_settled_although_the_unit_says_late_who_it_is(rig: Make) -> None:
    one = rig().ready()
    serial = one.simulator.plant.units[0].serial
    entry = {"unit": "", "setting": "input_voltage_range", "old": "appliance", "text": "ups", "serial": serial}
    one.records.ledger.begin(entry, "PGR")
    one.simulator.call(lambda: one.simulator.plant.units[0].settings.update(input_voltage_range=1))
    one.device.close()
    one.device.open()
    one.simulator.faults.only, one.simulator.faults.swallow = b"QID", 2
    (result,) = [r for r in one.run(3) if r.channel is Channel.RESULT]
    assert result.values["outcome"] == "done"


@pytest.mark.parametrize("wanted_there", [True, False])
def test_a_cable_moved_behind_the_frame_proves_nothing_and_the_other_unit_gets_no_command(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch, wanted_there: bool
) -> None:
    one = scripted({})
    monkeypatch.setattr(connection, "MOVED_AFTER", 0.3)
    ratings = str(USUAL["QPIRI"]).split(" ")
    assert ratings[15] == "1", "ups"
    there = " ".join([*ratings[:15], str(int(not wanted_there)), *ratings[16:]])

    def moved(_question: bytes) -> None:
        one.peer.answers.update(QID=SECOND, QPIRI=there)

    one.peer.answers["PGR00"] = moved
    list(one.device.obey(one.command("input_voltage_range", "appliance")))
    with pytest.raises(LinkError, match="another inverter"):
        one.run()
    one.device.close()
    one.device.open()
    (result,) = [r for r in one.run(3) if r.channel is Channel.RESULT]
    assert result.values["outcome"] == "unknown"
    assert one.peer.count("PGR00") == 1


def test_a_cable_moved_before_the_frame_takes_no_command_to_the_other_unit(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To record a command may take seconds, on a card that is slow."""
    one = scripted({"PGR00": reply("ACK")})
    monkeypatch.setattr(connection, "MOVED_AFTER", 0.3)
    real = one.records.ledger.begin

    def slowly(entry: Any, register: str) -> None:
        real(entry, register)
        one.peer.answers["QID"] = SECOND
        time.sleep(0.4)

    monkeypatch.setattr(one.records.ledger, "begin", slowly)
    list(one.device.obey(one.command("input_voltage_range", "appliance")))
    with pytest.raises(LinkError, match="another inverter"):
        one.run()
    assert one.setters == []


def test_a_write_cut_off_by_a_power_cut_is_settled_at_the_next_start(rig: Make) -> None:
    one = rig().ready()
    entry = {"id": "e1", "unit": "", "setting": "input_voltage_range", "source": "x", "old": "appliance", "text": "ups"}
    one.records.ledger.begin(entry, "PGR")
    one.simulator.call(lambda: one.simulator.plant.units[0].settings.update(input_voltage_range=1))
    one.device.close()
    one.start()
    (result,) = [r for r in one.run(2) if r.channel is Channel.RESULT]
    assert (result.values["outcome"], result.values["id"]) == ("done", "e1")
    assert one.simulator.setters == []
    assert one.obey(one.command("input_voltage_range", json.dumps({"value": "ups", "id": "e1"})))["repeated"] is True


def test_the_budget_holds_over_a_restart(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "SAME_REGISTER", 10.0)
    one = rig().ready()
    assert one.set("input_voltage_range", "ups")["outcome"] == "done"
    assert "a moment ago" in one.set("input_voltage_range", "appliance")["reason"]
    one.device.close()
    one.start()
    one.ready()
    assert "a moment ago" in one.set("input_voltage_range", "appliance")["reason"]
    for _ in range(5):
        one.set("input_voltage_range", "ups")  # what is there already
    assert one.simulator.setters == ["PGR01"]


# -- what others change


def test_a_setting_changed_by_others_is_logged_and_recorded(rig: Make, caplog: pytest.LogCaptureFixture) -> None:
    one = rig().ready()
    unit = one.simulator.plant.units[0]

    def change() -> None:
        unit.settings["battery_type"] = 2
        unit.flags["j"] = True

    one.simulator.call(change)
    one.device.refresh()
    with caplog.at_level("INFO"):
        one.run()
    (battery, saving) = sorted(one.audit("changed"), key=lambda entry: entry["setting"])
    assert {key: battery[key] for key in ("device", "unit", "setting", "old", "new")} == {
        "device": "roof", "unit": "", "setting": "battery_type", "old": "agm", "new": "user",
    }  # fmt: skip
    assert (saving["setting"], saving["old"], saving["new"]) == ("flag_power_saving", False, True)
    assert "battery_type was changed from agm to user" in caplog.text


def test_what_is_measured_beside_the_settings_is_no_change_by_others(scripted: Scripted) -> None:
    """Temperatures and times left: each reading of them would be a dozen changes in the audit log."""
    first = text_of("q1-17")
    later = first.replace("00420", "00415", 1).replace(" 051 ", " 052 ", 1)
    assert later != first
    one = scripted({"Q1": in_turn(first, later)}, also=("Q1",))
    one.run(2)
    one.device.refresh()
    one.run()
    assert one.state()["absorb_seconds_left"] == 415
    assert one.audit("changed") == []


def test_what_we_change_ourselves_is_no_change_by_others(rig: Make) -> None:
    one = rig(units=2).ready()
    one.set("battery_type", "user")
    one.set("charger_source_priority", "solar_only", members(one)[1])
    one.device.refresh()
    one.run(2)
    assert one.audit("changed") == []


OWN = [
    ("max", "", "charger_source_priority", "solar_only"),
    ("pi30", "", "charger_source_priority", "solar_only"),
    ("max", "", "max_charging_current", "80"),
    ("max", "", "max_ac_charging_current", "20"),
    ("max", "own", "charger_source_priority", "solar_only"),
    ("max", "own", "max_charger_current", "80"),
    ("max", "other", "charger_source_priority", "solar_only"),
    ("max", "other", "max_charger_current", "80"),
]


@pytest.mark.parametrize(("model", "unit", "key", "text"), OWN)
def test_a_setting_of_ours_is_no_change_by_others_where_else_it_is_told(
    rig: Make, model: str, unit: str, key: str, text: str
) -> None:
    one = rig(model, units=2).ready()
    path = {"": "", "own": members(one)[0], "other": members(one)[1]}[unit]
    assert one.set(key, text, path)["outcome"] == "done"
    for _ in range(2):
        one.device.refresh()
        one.run()
    assert one.audit("changed") == []


def changed(one: Rig) -> list[tuple[str, str, Any, Any]]:
    return [(entry["unit"], entry["setting"], entry["old"], entry["new"]) for entry in one.audit("changed")]


def test_what_others_change_beside_a_setting_of_ours_is_still_recorded(rig: Make) -> None:
    one = rig(units=3).ready()
    first, second, third = members(one)
    units = one.simulator.plant.units

    def before() -> None:
        units[0].settings["battery_type"] = 2
        units[1].settings["max_charging_current"] = 90

    one.simulator.call(before)
    assert one.set("charger_source_priority", "solar_only")["outcome"] == "done"
    assert one.set("charger_source_priority", "solar_first", second)["outcome"] == "done"
    one.simulator.call(lambda: units[2].settings.update(charger_source_priority=2, max_ac_charging_current=20))
    for _ in range(2):
        one.device.refresh()
        one.run()
    assert sorted(changed(one)) == [
        ("", "battery_type", "agm", "user"),
        (second, "max_charger_current", 60, 90),
        (third, "charger_source_priority", "solar_only", "solar_and_utility"),
        (third, "max_ac_charger_current", 30, 20),
    ]
    one.simulator.call(lambda: units[0].settings.update(charger_source_priority=2))
    one.device.refresh()
    one.run()
    assert {entry for entry in changed(one)[4:] if entry[1] == "charger_source_priority"} == {
        ("", "charger_source_priority", "solar_only", "solar_and_utility"),
        (first, "charger_source_priority", "solar_only", "solar_and_utility"),
    }


def test_a_factory_reset_of_ours_is_no_change_by_others(rig: Make) -> None:
    one = rig(units=2).ready()
    for key, text in (("battery_type", "user"), ("charger_source_priority", "solar_only"), ("flag_backlight", "off")):
        assert one.set(key, text)["outcome"] == "done"
    one.set("factory_reset", "press")  # not "done": the simulated set keeps its output mode, which is no default
    for _ in range(2):
        one.device.refresh()
        one.run()
    assert one.truth["battery_type"] != 2
    assert changed(one) == []


def test_what_a_setting_of_ours_moves_is_no_change_by_others(scripted: Scripted) -> None:
    fields = str(USUAL["QPIRI"]).split(" ")
    moved = [*fields[:10], "29.2", "28.0", "0", *fields[13:]]
    one = scripted({"PBT00": "ACK"})
    one.peer.answers["QPIRI"] = lambda _: " ".join(moved if "PBT00" in one.peer.asked else fields)
    result = one.set("battery_type", "agm")
    assert (result["outcome"], "battery_float_voltage from 27.2 to 28.0" in result["reason"]) == ("done", True)
    assert one.audit("changed") == []
    moved[11] = "27.0"
    one.device.refresh()
    one.run()
    assert changed(one) == [("", "battery_float_voltage", 28.0, 27.0)]


def test_a_unit_of_the_set_may_tell_late_what_was_set_for_all(scripted: Scripted) -> None:
    """And somebody who then sets it back is somebody else."""
    later = UNIT1.replace(" 2 060 ", " 3 060 ")
    assert later != UNIT1
    fields = str(USUAL["QPIRI"]).split(" ")
    one = scripted({"QPGS0": UNIT0, "QPGS1": UNIT1, "QPGS2": ABSENT, "PCP03": "ACK"})
    one.peer.answers["QPIRI"] = lambda _: " ".join(
        [*fields[:17], "3" if "PCP03" in one.peer.asked else "1", *fields[18:]]
    )
    assert one.set("charger_source_priority", "solar_only")["outcome"] == "done"
    one.run(2)
    one.peer.answers |= {"QPGS0": UNIT0.replace(" 2 060 ", " 3 060 "), "QPGS1": later}
    one.run(2)
    assert one.audit("changed") == []
    one.peer.answers["QPGS1"] = UNIT1
    one.run(2)
    assert changed(one) == [(SECOND, "charger_source_priority", "solar_only", "solar_and_utility")]


def test_a_change_by_others_is_seen_even_where_nothing_may_be_written(
    rig: Make, caplog: pytest.LogCaptureFixture
) -> None:
    one = rig("pi30", units=2, writes=False, allow=()).ready()
    one.simulator.call(lambda: one.simulator.plant.units[1].settings.update(charger_source_priority=3))
    with caplog.at_level("INFO"):
        one.run(2)
    assert "charger_source_priority was changed from utility_first to solar_only" in caplog.text


# -- the clock


def off(one: Rig, seconds: float) -> float:
    """Set the unit's clock off, and return how far it is off afterwards."""
    wanted = datetime.now() + timedelta(seconds=seconds)

    def move() -> None:
        one.simulator.plant.clock_offset += (wanted - one.simulator.plant.date()).total_seconds()

    one.simulator.call(move)
    return distance(one)


def distance(one: Rig) -> float:
    return abs((one.simulator.call(one.simulator.plant.date) - datetime.now()).total_seconds())


@pytest.mark.parametrize("model", ["max", "pi18"])
def test_the_clock_is_set_to_now_or_to_a_moment(rig: Make, model: str) -> None:
    one = rig(model).ready()
    off(one, 7200)
    assert one.set("clock", "now")["outcome"] == "done"
    assert distance(one) < 6
    assert one.set("clock", "now")["outcome"] == "unchanged"
    assert one.set("clock", "2026-11-26T21:05:09")["outcome"] == "done"
    assert one.simulator.setters[-1] == "DAT261126210509"
    one.simulator.faults.lie = "jumps"
    assert one.set("clock", "now")["outcome"] == "failed"


def test_a_clock_that_is_off_is_set_once_a_day_when_it_is_asked_for(rig: Make) -> None:
    one = rig(time_sync=True)
    off(one, 60)
    one.ready()
    assert one.simulator.setters == []
    off(one, -600)
    one.device.refresh()
    one.run(2)
    assert len(one.simulator.setters) == 1
    assert distance(one) < 6
    assert [entry["source"] for entry in one.audit("end")] == ["time_sync"]
    off(one, 900)
    one.device.refresh()
    one.run(2)
    one.device.close()
    one.start()
    one.ready()
    assert len(one.simulator.setters) == 1, "a second time on one day"


class Unset(datetime):
    """The clock of a board that has not asked for the time yet."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return cls(1970, 1, 1, 0, 12, 5, tzinfo=tz)


def test_d1_no_clock_is_set_by_one_that_has_not_been_set_itself(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (setter_device, desk_device):
        monkeypatch.setattr(module, "datetime", Unset)
    one = rig(time_sync=True).ready()
    result = one.set("clock", "now")
    assert (result["outcome"], "own clock has not been set" in result["reason"]) == ("refused", True)
    assert one.simulator.setters == []
    assert len(one.audit("end")) == 1, "time_sync tries it, and then not for a day"


def test_a_clock_is_left_alone_unless_it_is_asked_for(rig: Make) -> None:
    one = rig()
    off(one, 86_400)
    one.ready()
    assert one.simulator.setters == []


def test_a_unit_that_refuses_its_clock_is_not_asked_again(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one = rig(time_sync=True)
    off(one, 900)
    monkeypatch.setattr(one.simulator, "_carries_out", one.simulator.setters.append)  # returns None: refused
    one.ready()
    assert len(one.simulator.setters) >= 1
    count = len(one.simulator.setters)
    one.device._desk._sync_due = 0.0  # type: ignore[union-attr]
    one.device.refresh()
    one.run(2)
    assert len(one.simulator.setters) == count


# -- anything at all


def any_text(dice: random.Random, spelling: Any) -> str:
    """Return a text that is often a value, and sometimes anything."""
    if dice.random() < 0.15:
        return dice.choice(["", "on", "0", "-1", "99999", "solar_first", "56.4", "00:00-01:00", "now", "press", "1e3"])
    if isinstance(spelling, Choice):
        return dice.choice(spelling.options)
    if isinstance(spelling, Switch):
        return dice.choice(["on", "off"])
    if isinstance(spelling, Number):
        among = spelling.among or tuple(spelling.minimum + spelling.step * dice.randrange(
            int((spelling.maximum - spelling.minimum) / spelling.step) + 1) for _ in range(1))  # fmt: skip
        return str(dice.choice([*among, *spelling.also]))
    return dice.choice(["now", "press"])


def truth_of(one: Rig, setting: str) -> Any:
    """Return what the simulator holds for a setting, in the words of its state."""
    rows = setters_of(one.simulator.model.protocol)
    row = next(row for row in rows if row.key == setting)
    if setting.startswith("flag_"):
        return one.truth[f"flag {row.form[3:]}"]
    key = {"solar_power_priority": "solar_priority"}.get(setting, setting).replace("ac_output_rating", "ac_output")
    value = one.truth[key]
    if isinstance(row.spelling, Choice):
        codes = next(item for item in row.source.rows if item.key == setting).codes
        return codes.get(value)
    return bool(value) if isinstance(row.spelling, Switch) else value


def hammer(make: Make, count: int, seed: int) -> None:
    """Give `count` random commands to a lying inverter and hold every result against what it really holds."""
    dice = random.Random(seed)
    model = dice.choice(["max", "pi30", "pi18"])
    one = make(model).ready()
    rows = setters_of("PI18" if model == "pi18" else "PI30")
    outcomes: dict[str, int] = {}
    for number in range(count):
        row = dice.choice(rows)
        lies = dice.choice([*LIES, *[""] * 8])
        one.simulator.faults.lie, one.simulator.faults.lies = lies, dice.choice([1, 1, 2])
        text = any_text(dice, row.spelling)
        payload = json.dumps({"value": text, "id": f"n{number}"}) if text else ""
        result = one.obey(one.command(row.key, payload))
        outcomes[result["outcome"]] = outcomes.get(result["outcome"], 0) + 1
        if result["outcome"] in PROVEN and row.key not in ("clock", "factory_reset"):
            held = truth_of(one, row.key)
            assert held == row.spelling.read(text), (row.key, text, lies, result, held)
            assert result["read_back"] == held
        elif result["outcome"] in PROVEN and row.key == "clock" and text == "now":
            assert distance(one) < 8
    with_more = r"DAT\d{12}|MCHGV\d{3},\d{3}|BUCD\d{3},\d{3}"  # a moment, or what else is set
    sent = {command for command in one.simulator.setters if not re.fullmatch(with_more, command)}
    assert sent - COMMANDS[one.simulator.model.protocol] == set()
    ends = one.audit("end")
    assert len(ends) == count
    assert len(one.audit("begin")) == len(one.simulator.setters)
    assert {entry["outcome"] for entry in ends} == set(outcomes)
    assert outcomes.get("done", 0) > count / 10, outcomes
    assert outcomes.get("failed", 0) > 0, outcomes


@pytest.mark.usefixtures("shorter")
@pytest.mark.parametrize("seed", [1, 2, 5])
def test_random_commands_to_a_lying_inverter_are_never_said_to_be_done_when_they_are_not(rig: Make, seed: int) -> None:
    hammer(rig, COUNT // 3, seed)


@pytest.mark.soak
@pytest.mark.usefixtures("shorter")
@pytest.mark.parametrize("seed", range(100, 120))
def test_many_random_commands_to_a_lying_inverter(rig: Make, seed: int) -> None:
    hammer(rig, 500, seed)


ANSWERS = [
    (reply("ACK"), None), (NAK, "refused"), (b"(NAK\r", "format"), (b"(ACK\r", "checksum"), (reply("L"), "foreign"),
    (reply("ACK")[:-3] + b"\x39\x21\r", "checksum"), (reply("L") + reply("ACK"), None), (b"PGR01xx\r", "format"),
    (None, "silence"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "kind"), ANSWERS, ids=str)
def test_only_an_acknowledgement_with_the_right_checksum_is_one(said: bytes | None, kind: str | None) -> None:
    world = Surroundings()
    with Peer({"PGR01": said}) as peer:
        line = connection.Line(open_port(peer.port, 2400, world.stop), world.tally)
        try:
            if kind is None:
                line.set(connection.PI30_SPEECH, "PGR01", frame.encode("PGR01"))
            elif kind == "silence":
                with pytest.raises(NoReply):
                    line.set(connection.PI30_SPEECH, "PGR01", frame.encode("PGR01"))
            else:
                with pytest.raises(ProtocolError) as caught:
                    line.set(connection.PI30_SPEECH, "PGR01", frame.encode("PGR01"))
                assert caught.value.kind == kind
            assert peer.asked == ["PGR01"], "sent once, whatever is said"
        finally:
            line.close()
