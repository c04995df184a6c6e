"""The procedure of a write against a device that lies, breaks and forgets; the wire alone is made up here."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bridge import writing
from bridge.audit import AuditLog
from bridge.devices import WritableOptions
from bridge.errors import CommandError, LinkError, NoReply, ProtocolError, Stopped
from bridge.fields import ENUM, PERCENT, TEXT, Channel, Reading, Unit, Value
from bridge.inbox import SetSetting
from bridge.ledger import Ledger
from bridge.settings import Choice, Risk, Setting, Window, whole
from bridge.statefile import StateFile
from bridge.writing import Records, Rejected, Step, Target, Wire, Writer

RATE = Setting("rate", PERCENT, "Rate", spelling=whole(0, 100), risk=Risk.HARMLESS)
MODE = Setting("mode", ENUM, "Mode", spelling=Choice(("solar", "grid")), risk=Risk.CAUTION, groups=("modes",))
RESET = Setting("volts", PERCENT, "Volts", spelling=whole(0, 300), risk=Risk.DANGEROUS)
WINDOW = Setting("window", TEXT, "Window", spelling=Window(), risk=Risk.HARMLESS)
SETTINGS = {one.key: one for one in (RATE, MODE, RESET, WINDOW)}
NAMES = {"rate": ("rate",), "mode": ("mode",), "volts": ("volts",), "window": ("from", "to")}


@dataclass
class Machine:
    """What stands in the device, what arrived, and how it answers: words for the frames to come, then "ok".

    "deaf": neither stores nor answers; "mute": stores, does not answer; "lies": answers, does not store; "clamps":
    stores something else and answers; "no": refuses; "breaks": stores, then the link is gone; "stops": the program
    ends while its answer is awaited.
    """

    words: dict[str, Value] = field(default_factory=lambda: {
        "rate": 50, "mode": "solar", "volts": 230, "from": "00:00", "to": "00:00", "other": 1,
    })  # fmt: skip
    frames: list[tuple[str, Value]] = field(default_factory=list)
    manners: list[str] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)
    away: str | None = None
    on_read: Callable[[], None] | None = None


class Line:
    """One setting of the machine, as a slice would offer it."""

    def __init__(self, machine: Machine, name: str) -> None:
        self.machine, self.name = machine, name
        self.setting = SETTINGS[name]
        self.place = f"word {name}"
        self.registers: Sequence[str] = NAMES[name]

    def read(self) -> Wire[Any]:
        yield None
        if self.machine.on_read is not None:
            self.machine.on_read()
        match self.machine.reads.pop(0) if self.machine.reads else "ok":
            case "silent":
                raise NoReply("no answer")
            case "link":
                raise LinkError("the cable is out")
        return dict(self.machine.words)

    def shown(self, snapshot: Any) -> Value:
        return (
            "-".join(str(snapshot[name]) for name in NAMES[self.name]) if self.name == "window" else snapshot[self.name]
        )

    def fits(self, snapshot: Any, wanted: Value) -> bool:
        return self.shown(snapshot) == wanted

    def steps(self, snapshot: Any, wanted: Value) -> list[Step]:
        if self.name != "window":
            return [Step(self.name, wanted)]
        parts = zip(NAMES["window"], str(wanted).split("-"), strict=True)
        return [Step(name, part, snapshot[name]) for name, part in parts if snapshot[name] != part]

    def send(self, step: Step, body: Any) -> Wire[None]:
        machine = self.machine
        machine.frames.append((step.register, body))
        manner = machine.manners.pop(0) if machine.manners else "ok"
        if manner in ("ok", "mute", "breaks"):
            machine.words[step.register] = body
        elif manner == "clamps":
            machine.words[step.register] = 77
        yield None
        match manner:
            case "deaf" | "mute":
                raise NoReply("no answer")
            case "no":
                raise Rejected("refused: code 3")
            case "breaks":
                raise LinkError("closed by the other side")
            case "mixed up":
                raise ProtocolError("foreign", "another register was acknowledged")
            case "stops":
                raise Stopped

    def pause(self, _seconds: float) -> Wire[None]:
        yield None

    def disturbed(self, before: Any, after: Any) -> str | None:
        return "other changed meanwhile" if before["other"] != after["other"] else None


class House:
    """A device with a machine behind it, and what it told."""

    def __init__(self, folder: Path, *, writes: bool = True, allow: tuple[str, ...] = (), per_day: int = 100) -> None:
        self.options = WritableOptions(name="house", type="t", writes=writes, allow=allow, writes_per_day=per_day)
        self.folder = folder
        self.machine = Machine()
        self.results: list[dict[str, Any]] = []
        self.tags: list[object] = []
        self.now = 0.0
        self.serial: str | None = "A1"
        self.restart()

    def restart(self) -> None:
        ledger = Ledger(StateFile(self.folder / "w.json"), 12, self.options.writes_per_day, clock=lambda: self.now)
        self.audit = AuditLog(self.folder)
        self.writer = Writer(self.options, self, Records(ledger, self.audit))

    # what a device offers to its writer

    def unit(self, path: str) -> Unit:
        if path:
            raise CommandError("no such unit")
        return Unit("", "House", (), 60, self.serial)

    def target(self, path: str, name: str) -> Target:
        self.unit(path)
        if name not in SETTINGS:
            raise CommandError(f"there is no {name!a}; there are {', '.join(SETTINGS)}")
        return Line(self.machine, name)

    def away(self) -> str | None:
        return self.machine.away

    # what a test does

    def send(self, setting: str, payload: bytes | str, **more: Any) -> dict[str, Any]:
        """Give one command and carry it out; return its result."""
        before = len(self.results)
        self.give(setting, payload, **more)
        self.work()
        assert len(self.results) == before + 1, "one result for each command"
        return self.results[-1]

    def give(self, setting: str, payload: bytes | str, **more: Any) -> None:
        data = payload if isinstance(payload, bytes) else payload.encode()
        command = SetSetting("", setting, data, time.monotonic(), time.monotonic() + 30)._replace(**more)
        self.take(self.writer.admit(command))

    def work(self) -> None:
        self.take(self.writer.work())

    def take(self, readings: Iterator[Reading | None]) -> None:
        for reading in readings:
            if reading is not None:
                assert reading.channel is Channel.RESULT
                self.results.append(dict(reading.values))
                self.tags.append(reading.tag)

    def audited(self, event: str) -> list[dict[str, Any]]:
        return [entry for entry in self.audit.entries() if entry["event"] == event]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_a_write_is_done_when_the_read_back_shows_it(house: House) -> None:
    result = house.send("rate", b'{"value": 80, "id": "a1"}', tag="t", source="mqtt x")
    assert result.pop("duration") >= 0
    assert result == {
        "id": "a1", "unit": "", "setting": "rate", "source": "mqtt x", "register": "word rate", "old": 50,
        "wanted": "80", "read_back": 80, "outcome": "done", "reason": None,
    }  # fmt: skip
    assert house.machine.frames == [("rate", 80)]
    assert house.tags == ["t"]
    assert [entry["frame"] for entry in house.audited("begin")] == ["rate"]
    assert house.audited("end")[0]["outcome"] == "done"


def test_an_equal_value_costs_nothing(house: House) -> None:
    result = house.send("rate", "50")
    assert (result["outcome"], result["read_back"]) == ("unchanged", 50)
    assert house.machine.frames == []
    assert house.send("rate", "51")["outcome"] == "done", "and no budget"


def test_writing_is_off_by_default(tmp_path: Path) -> None:
    house = House(tmp_path, writes=False)
    result = house.send("rate", "80")
    assert result["outcome"] == "refused"
    assert "writes: true" in result["reason"]
    assert house.machine.frames == []


@pytest.mark.parametrize(("allow", "outcome"), [((), "refused"), (("mode",), "done"), (("modes",), "done")])
def test_a_risky_setting_has_to_be_named(allow: tuple[str, ...], outcome: str, tmp_path: Path) -> None:
    house = House(tmp_path, allow=allow)
    assert house.send("mode", "grid")["outcome"] == outcome
    assert house.send("volts", "220")["outcome"] == "refused"
    assert house.send("rate", "60")["outcome"] == "done"


@pytest.mark.parametrize(
    ("setting", "payload", "more", "reason"),
    [
        ("nothing", "1", {}, "there are rate, mode"),
        ("rate", "101", {}, "expected 0 to 100"),
        ("rate", "", {}, "empty"),
        ("rate", b"\xff", {}, "UTF-8"),
        ("rate", "80", {"retained": True}, "retained"),
        ("rate", "80", {"expires": 0.0}, "expired"),
        ("rate", '{"value": 80, "expires": "2026-01-01T00:00:00Z"}', {}, "expired"),
        ("rate", "80", {"unit": "part"}, "no such unit"),
    ],
)
def test_e9_what_is_refused_costs_no_byte_on_the_line(
    setting: str, payload: bytes | str, more: dict[str, Any], reason: str, house: House
) -> None:
    result = house.send(setting, payload, **more)
    assert result["outcome"] == "refused"
    assert reason in result["reason"]
    assert house.machine.frames == []
    assert house.audited("end")[0]["reason"] == result["reason"]
    assert house.audited("begin") == []


@pytest.mark.parametrize(
    "payload", ['{"value": true, "id": "a"}', '{"value": "", "id": "a"}', '{"id": "a"}',
                '{"value": 80, "id": "a", "expires": "tomorrow"}', '{"value": 80, "id": "a", "unit": "%"}'],
)  # fmt: skip
def test_e2_whoever_gives_an_id_is_answered_with_it_whatever_the_rest_is(payload: str, house: House) -> None:
    result = house.send("rate", payload)
    assert (result["outcome"], result["id"]) == ("refused", "a")
    assert house.send("rate", '{"value": 80, "id": "a"}')["outcome"] == "done"


def test_what_was_objected_to_on_its_way_is_answered_and_recorded(house: House) -> None:
    assert house.send("window/start", "noon", objection="expected a time of the day")["outcome"] == "refused"
    assert [entry["reason"] for entry in house.audited("end")] == ["expected a time of the day"]
    assert house.machine.frames == []


def test_e13_a_command_for_a_device_that_is_away_is_refused_at_once(house: House) -> None:
    house.machine.away = "not connected"
    assert house.send("rate", "80")["outcome"] == "refused"
    house.machine.away = None
    house.work()
    assert house.machine.frames == []


def test_e13_a_command_that_waited_past_its_expiry_is_not_carried_out(house: House) -> None:
    house.give("rate", "80", expires=time.monotonic() + 0.05)
    time.sleep(0.06)  # the expiry is wall time of the machine, and short
    house.work()
    assert house.results[-1]["outcome"] == "refused"
    assert house.machine.frames == []


@pytest.mark.parametrize(
    ("manners", "outcome", "read_back", "frames"),
    [
        (["mute"], "done", 80, 1),
        (["deaf", "ok"], "done", 80, 2),
        (["deaf", "deaf"], "failed", 50, 2),
        (["lies"], "failed", 50, 1),
        (["clamps"], "failed", 77, 1),
        (["no"], "failed", 50, 1),
        (["mixed up", "ok"], "done", 80, 2),
        (["mixed up", "lies"], "failed", 50, 2),
    ],
)
def test_e11_the_outcome_is_what_the_read_back_shows(
    manners: list[str], outcome: str, read_back: Value, frames: int, house: House
) -> None:
    house.machine.manners = list(manners)
    result = house.send("rate", "80")
    assert (result["outcome"], result["read_back"]) == (outcome, read_back)
    assert len(house.machine.frames) == frames
    assert (result["reason"] is None) == (outcome == "done")


def test_e11_what_cannot_be_read_back_is_unknown(house: House) -> None:
    house.machine.reads = ["ok", *["silent"] * writing.READS]
    result = house.send("rate", "80")
    assert (result["outcome"], result["old"], result["read_back"]) == ("unknown", 50, None)
    assert house.audited("end")[0]["outcome"] == "unknown"


def test_what_cannot_be_read_first_is_not_written(house: House) -> None:
    house.machine.reads = ["silent"]
    assert house.send("rate", "80")["outcome"] == "failed"
    assert house.machine.frames == []


def test_a_change_beside_it_is_reported(house: House) -> None:
    reads = iter(range(9))
    house.machine.on_read = lambda: house.machine.words.update(other=next(reads))
    result = house.send("rate", "80")
    assert (result["outcome"], result["reason"]) == ("done", "other changed meanwhile")


@pytest.mark.parametrize(
    ("manners", "outcome", "word", "window"),
    [
        ([], "done", None, "23:30-05:30"),
        (["ok", "no"], "failed", "set back", "00:00-00:00"),
        (["ok", "deaf", "ok"], "done", None, "23:30-05:30"),
        (["ok", "deaf", "deaf"], "failed", "set back", "00:00-00:00"),
        (["ok", "no", "lies"], "failed", "set in part", "23:30-00:00"),
        (["no"], "failed", "code 3", "00:00-00:00"),
    ],
)
def test_a_window_is_set_whole_or_set_back_or_said_to_be_partial(
    manners: list[str], outcome: str, word: str | None, window: str, house: House
) -> None:
    house.machine.manners = list(manners)
    result = house.send("window", "23:30-05:30")
    assert result["outcome"] == outcome
    assert result["read_back"] == window
    assert f"{house.machine.words['from']}-{house.machine.words['to']}" == window
    assert word is None or word in result["reason"]


def test_only_the_word_that_differs_is_written(house: House) -> None:
    house.machine.words["from"] = "23:30"
    assert house.send("window", "23:30-05:30")["outcome"] == "done"
    assert house.machine.frames == [("to", "05:30")]


def test_e12_a_second_write_of_a_register_has_to_wait(house: House) -> None:
    assert house.send("rate", "80")["outcome"] == "done"
    result = house.send("rate", "81")
    assert result["outcome"] == "refused"
    assert "a moment ago" in result["reason"]
    house.now += 11
    assert house.send("rate", "81")["outcome"] == "done"


def test_e12_the_days_budget_holds_over_a_restart(tmp_path: Path) -> None:
    house = House(tmp_path, per_day=2)
    for value in ("1", "2"):
        assert house.send("rate", value)["outcome"] == "done"
        house.now += 100
    house.restart()
    house.now += 100
    assert "a day" in house.send("rate", "3")["reason"]
    assert len(house.machine.frames) == 2


def test_e7_the_same_command_twice_is_carried_out_once_and_answered_twice(house: House) -> None:
    payload = b'{"value": 80, "id": "a1"}'
    first = house.send("rate", payload)
    house.machine.words["rate"] = 50  # somebody set it back; a duplicate must not undo that
    second = house.send("rate", payload)
    assert second == {**first, "repeated": True}
    assert len(house.machine.frames) == 1
    house.restart()
    assert house.send("rate", payload)["repeated"]
    assert len(house.machine.frames) == 1


def test_e8_an_id_that_was_used_for_another_command_is_refused(house: House) -> None:
    house.send("rate", b'{"value": 80, "id": "a1"}')
    house.now += 11
    result = house.send("rate", b'{"value": 81, "id": "a1"}')
    assert result["outcome"] == "refused"
    assert "another command" in result["reason"]


def test_a_refused_command_may_be_sent_again_with_its_id(house: House) -> None:
    house.machine.away = "not connected"
    payload = b'{"value": 80, "id": "a1"}'
    assert house.send("rate", payload)["outcome"] == "refused"
    house.machine.away = None
    assert house.send("rate", payload)["outcome"] == "done"


def test_the_same_id_twice_at_once_is_done_once(house: House) -> None:
    payload = b'{"value": 80, "id": "a1"}'
    house.give("rate", payload)
    house.give("rate", payload)
    house.work()
    assert [result["outcome"] for result in house.results] == ["refused", "done"]
    assert len(house.machine.frames) == 1


def test_e7_the_same_id_again_while_it_is_carried_out_sends_nothing(house: House) -> None:
    """A line on which nothing is answered takes its time: by then the register itself may be written again."""
    payload = b'{"value": 80, "id": "a1"}'
    house.machine.manners = ["deaf", "deaf"]
    house.give("rate", payload)
    work = house.writer.work()
    house.take(iter([next(work)]))  # it is read first
    house.give("rate", payload)
    for reading in work:
        house.now += 11
        house.take(iter([reading]))
    assert [(one["outcome"], "under way" in one["reason"]) for one in house.results] == [
        ("refused", True), ("failed", False),
    ]  # fmt: skip
    assert len(house.machine.frames) == 2, "the one repetition that a lost frame has"


@pytest.mark.parametrize("restarted", [False, True])
def test_e7_the_same_id_again_behind_a_link_that_broke_sends_nothing(house: House, restarted: bool) -> None:
    payload = b'{"value": 80, "id": "a1"}'
    house.machine.manners = ["breaks"]
    house.give("rate", payload)
    with pytest.raises(LinkError):
        house.work()
    house.machine.words["rate"] = 50  # it never arrived
    if restarted:
        house.restart()
    house.now += 11
    house.give("rate", payload)
    assert "under way" in house.results[-1]["reason"]
    house.work()
    assert house.results[-1]["outcome"] == "failed"
    assert house.send("rate", payload)["repeated"], "it is answered from the record from then on"
    assert len(house.machine.frames) == 1


def test_e11_a_link_that_breaks_behind_the_frame_is_settled_by_reading_back(house: House) -> None:
    house.machine.manners = ["breaks"]
    house.give("rate", "80", tag="t")
    with pytest.raises(LinkError):
        house.work()
    assert house.results == [], "nobody knows yet"
    house.work()
    assert (house.results[-1]["outcome"], house.results[-1]["read_back"]) == ("done", 80)
    assert house.tags == ["t"]
    assert len(house.machine.frames) == 1, "it was not sent again"
    house.work()
    assert len(house.results) == 1


@pytest.mark.parametrize("there", ["B2", None], ids=["another", "not known"])
@pytest.mark.parametrize("restarted", [False, True])
def test_e11_a_broken_link_is_settled_with_the_same_unit_only(house: House, there: str | None, restarted: bool) -> None:
    house.machine.manners = ["breaks"]
    house.give("rate", "80")
    with pytest.raises(LinkError):
        house.work()
    house.serial = there
    if restarted:
        house.restart()
    house.work()
    (result,) = house.results
    assert (result["outcome"], result["old"], result["read_back"]) == ("unknown", 50, None)
    assert "A1" in result["reason"]
    house.now += 60.0
    assert house.send("rate", "70")["outcome"] == "done", "the next one is not held up"


def test_d7_a_power_cut_behind_the_frame_is_settled_by_the_next_start(house: House) -> None:
    house.machine.manners = ["breaks"]
    house.give("rate", b'{"value": 80, "id": "a1"}')
    with pytest.raises(LinkError):
        house.work()
    house.machine.words["rate"] = 50  # it never arrived
    house.restart()
    house.work()
    assert (house.results[-1]["outcome"], house.results[-1]["id"]) == ("failed", "a1")
    assert [entry["outcome"] for entry in house.audited("end")] == ["failed"]
    assert len(house.machine.frames) == 1


def test_a_refusal_meanwhile_does_not_close_the_command_under_way(house: House) -> None:
    house.machine.manners = ["breaks"]
    house.give("rate", "80")
    with pytest.raises(LinkError):
        house.work()
    house.give("rate", "999")
    assert house.results[-1]["outcome"] == "refused"
    house.restart()
    house.work()
    assert house.results[-1]["outcome"] == "done"


def test_a_link_that_breaks_in_front_of_the_frame_is_a_failure(house: House) -> None:
    house.machine.reads = ["link"]
    house.give("rate", "80")
    with pytest.raises(LinkError):
        house.work()
    assert house.results[-1]["outcome"] == "failed"
    assert house.machine.frames == []


def test_d6_a_stop_behind_the_frame_is_recorded_as_unknown(house: House) -> None:
    house.machine.manners = ["stops"]
    house.give("rate", "80")
    with pytest.raises(Stopped):
        house.work()
    assert house.results[-1]["outcome"] == "unknown"
    assert house.audited("end")[-1]["outcome"] == "unknown"
    house.restart()
    house.work()
    assert house.results[-1]["outcome"] == "failed", "it was read back by the next start"


def test_d6_whatever_is_open_at_the_end_is_answered(house: House) -> None:
    house.give("rate", "80")
    house.give("window", "01:00-02:00")
    work = house.writer.work()
    while not house.machine.frames:
        house.take(iter([next(work)]))
    house.take(house.writer.end())
    assert [result["outcome"] for result in house.results] == ["unknown", "refused"]
    work.close()
    house.restart()
    house.work()
    assert (house.results[-1]["outcome"], house.results[-1]["read_back"]) == ("done", 80), "the next start tells"
    house.restart()
    house.work()
    assert len(house.results) == 3, "once"


def test_d6_a_command_whose_setting_is_being_read_at_the_end_is_answered_too(house: House) -> None:
    house.give("rate", "80")
    work = house.writer.work()
    assert next(work) is None  # something came by the way, and the bridge is to stop
    work.close()
    house.take(house.writer.end())
    assert [(one["outcome"], one["reason"]) for one in house.results] == [("refused", writing.STOPPED)]
    assert house.machine.frames == []
    house.take(house.writer.end())
    assert len(house.results) == 1, "once"


@pytest.mark.parametrize("manners", [["ok", "breaks"], ["ok", "stops"]])
def test_e15_a_window_whose_second_word_did_not_arrive_is_set_back_by_the_next_start(
    manners: list[str], house: House
) -> None:
    house.machine.manners = list(manners)
    house.give("window", "23:30-05:30")
    with pytest.raises((LinkError, Stopped)):
        house.work()
    house.machine.words["to"] = "00:00"  # it never arrived
    house.restart()
    house.work()
    result = house.results[-1]
    assert (result["outcome"], result["read_back"]) == ("failed", "00:00-00:00")
    assert "set back" in result["reason"]
    assert (house.machine.words["from"], house.machine.words["to"]) == ("00:00", "00:00")


@pytest.mark.parametrize("window", ["12:00-14:00", "12:00-00:00", "23:30-14:00", "12:00-05:30"])
def test_a_window_that_somebody_else_set_since_is_told_and_left(window: str, house: House) -> None:
    house.machine.manners = ["breaks"]
    house.give("window", "23:30-05:30")
    with pytest.raises(LinkError):
        house.work()
    house.machine.words["from"], house.machine.words["to"] = window.split("-")  # a word of it at least is not ours
    house.restart()
    house.work()
    result = house.results[-1]
    assert (result["outcome"], result["read_back"]) == ("failed", window)
    assert f"it shows {window} and is left as it is" in result["reason"]
    assert len(house.machine.frames) == 1, "nothing was written behind the frame that was lost"


def test_a_window_that_somebody_else_sets_during_the_write_is_told_and_left(house: House) -> None:
    def owner() -> None:
        if len(house.machine.frames) == 2:
            house.machine.words |= {"from": "12:00", "to": "14:00"}

    house.machine.manners, house.machine.on_read = ["ok", "no"], owner
    result = house.send("window", "23:30-05:30")
    assert (result["outcome"], result["read_back"]) == ("failed", "12:00-14:00")
    assert "code 3; it shows 12:00-14:00 and is left as it is" in result["reason"]
    assert len(house.machine.frames) == 2


def test_what_is_no_value_is_told_and_left(house: House) -> None:
    house.machine.manners = ["breaks"]
    house.give("rate", "80")
    with pytest.raises(LinkError):
        house.work()
    house.machine.words["rate"] = None
    house.restart()
    house.work()
    assert "it shows no value that it can have and is left as it is" in house.results[-1]["reason"]
    assert len(house.machine.frames) == 1


def test_d4_nothing_is_written_that_cannot_be_recorded(house: House, tmp_path: Path) -> None:
    house.give("rate", "80")
    house.audit.path = tmp_path / "file" / "audit.jsonl"
    (tmp_path / "file").write_text("in the way")
    house.work()
    assert house.results[-1]["outcome"] == "refused"
    assert "cannot be recorded" in house.results[-1]["reason"]
    assert house.machine.frames == []


def test_e13_and_d1_what_nobody_can_call_young_before_the_clock_is_set_is_not_carried_out(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("time.time", lambda: 60.0)
        result = house.send("rate", '{"value": 80, "expires": "2026-01-01T00:00:00Z"}')
        assert (result["outcome"], "clock has not been set" in result["reason"]) == ("refused", True)
        assert house.machine.frames == []
        assert house.send("rate", "80")["outcome"] == "done", "without a moment none has to be told"


def test_e13_a_command_that_expires_while_it_is_recorded_is_not_carried_out(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = house.audit.append

    def slowly(entry: dict[str, Any]) -> None:  # a card that takes its time
        time.sleep(0.3)
        append(entry)

    monkeypatch.setattr(house.audit, "append", slowly)
    result = house.send("rate", "80", expires=time.monotonic() + 0.2)
    assert (result["outcome"], result["reason"], result["read_back"]) == ("failed", "the command has expired", 50)
    assert house.machine.frames == []
    house.now += 20
    assert house.send("rate", "81")["outcome"] == "done"


def test_commands_that_wait_are_bounded(house: House) -> None:
    for _ in range(writing.WAITING + 5):
        house.give("rate", "80")
    assert len(house.results) == 5
    assert "waiting" in house.results[0]["reason"]


MANNERS = ("ok", "ok", "ok", "deaf", "mute", "lies", "clamps", "no", "mixed up", "breaks")


def test_no_manner_of_lying_makes_a_false_done(tmp_path: Path) -> None:
    """A thousand commands at random: `done` and `unchanged` are always what stands in the device."""
    rng = random.Random(7)
    house = House(tmp_path, allow=("mode", "volts"), per_day=1000)
    house.audit._largest = 1 << 30
    given = 0
    for _ in range(1000):
        house.now += 100
        house.machine.manners = [rng.choice(MANNERS) for _ in range(4)]
        house.machine.reads = [rng.choice(("ok", "ok", "ok", "silent")) for _ in range(8)]
        name = rng.choice(("rate", "mode", "volts", "window", "nothing"))
        payload = rng.choice(("0", "50", "100", "101", "solar", "grid", "01:00-02:00", "22:00-06:00", "x"))
        given += 1
        house.give(name, payload)
        for _ in range(20):
            try:
                house.work()
                break
            except LinkError:
                continue
        assert len(house.results) == given
        result = house.results[-1]
        if result["outcome"] in ("done", "unchanged"):
            line = Line(house.machine, name)
            assert line.shown(house.machine.words) == result["read_back"] == line.setting.spelling.read(payload)
        if house.now % 8_600 < 100:
            house.restart()
    assert all(name in ("rate", "mode", "volts", "from", "to") for name, _ in house.machine.frames)
    assert len(house.audited("end")) == given
    assert len(house.audited("begin")) == len(house.machine.frames)
    assert {"done", "unchanged", "failed", "unknown", "refused"} == {result["outcome"] for result in house.results}
