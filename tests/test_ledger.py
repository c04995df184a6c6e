"""Budgets, ids and the command under way, over restarts and clocks that jump (rows E7, E8, E12)."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.errors import CommandError
from bridge.ledger import IDS, SAVE_AGAIN, Ledger, digest
from bridge.statefile import StateFile


class World:
    """Two clocks and a disk."""

    def __init__(self, folder: Path) -> None:
        self.file = StateFile(folder / "writes.json")
        self.now = 1000.0
        self.wall = 1.8e9

    def ledger(self, per_minute: int = 12, per_day: int = 100) -> Ledger:
        return Ledger(self.file, per_minute, per_day, lambda: self.now, lambda: self.wall)

    def passes(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds

    def restarts(self) -> Ledger:
        self.now = 5.0  # the machine's clock begins anew
        return self.ledger()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def write(ledger: Ledger, register: str, request_id: str | None = None) -> None:
    ledger.check([register])
    ledger.begin({"setting": register}, register)
    ledger.end(request_id, digest("", register, "1"), {"outcome": "done"})


def test_e12_a_register_is_written_once_in_ten_seconds(world: World) -> None:
    ledger = world.ledger()
    write(ledger, "hold 64")
    world.passes(9.9)
    with pytest.raises(CommandError, match="hold 64 was written a moment ago"):
        ledger.check(["hold 64"])
    ledger.check(["hold 65"])
    world.passes(0.2)
    ledger.check(["hold 64"])


def test_e12_a_minute_and_a_day_have_their_limits(world: World) -> None:
    ledger = world.ledger(per_minute=3, per_day=5)
    for register in "abc":
        write(ledger, register)
    with pytest.raises(CommandError, match="3 words a minute"):
        ledger.check(["d"])
    world.passes(61)
    with pytest.raises(CommandError, match="a day"):
        ledger.check(["d", "e", "f"])
    write(ledger, "d")
    write(ledger, "e")
    world.passes(61)
    with pytest.raises(CommandError, match=r"5 words a day.* again in 862\d\d s"):
        ledger.check(["f"])
    with pytest.raises(CommandError, match="a day"):
        ledger.begin({}, "f")  # not even as a repetition
    world.passes(86_400)
    ledger.check(["f"])


def test_e12_a_restart_renews_nothing(world: World) -> None:
    ledger = world.ledger(per_day=2)
    write(ledger, "a")
    world.passes(3600)
    write(ledger, "b")
    world.now, world.wall = 5.0, world.wall + 30
    with pytest.raises(CommandError, match="2 words a day"):
        world.ledger(per_day=2).check(["c"])


@pytest.mark.parametrize("years", [-60, -10, 10])
def test_d1_and_e12_a_wall_clock_that_jumps_changes_no_limit_and_no_id_of_a_running_bridge(
    world: World, years: int
) -> None:
    ledger = world.ledger(per_day=2)
    write(ledger, "a", "id-1")
    write(ledger, "b")
    world.wall += years * 365 * 86_400
    with pytest.raises(CommandError, match="2 words a day"):
        ledger.check(["c"])
    assert ledger.recall("id-1", digest("", "a", "1")) == {"outcome": "done"}
    ledger.end("id-2", "x", {})  # saved by the other clock
    again = world.restarts()
    with pytest.raises(CommandError, match="a moment ago"):
        again.check(["a"])
    assert again.recall("id-1", digest("", "a", "1")) == {"outcome": "done"}
    world.passes(86_401)
    again.check(["a", "b"])


@pytest.mark.parametrize("wall", [60.0, 1.8e9 - 5 * 86_400], ids=["1970", "the last shutdown"])
def test_d1_and_e12_what_was_written_before_the_clock_was_set_counts_behind_a_restart(
    world: World, wall: float
) -> None:
    world.wall = wall
    ledger = world.ledger(per_day=1)
    write(ledger, "a", "id-1")
    world.passes(20)
    world.wall = 1.8e9
    ledger.save_again()
    world.passes(3600)
    again = world.restarts()
    with pytest.raises(CommandError, match="1 words a day"):
        Ledger(world.file, 12, 1, lambda: world.now, lambda: world.wall).check(["b"])
    again.check(["a"])
    assert again.recall("id-1", digest("", "a", "1")) == {"outcome": "done"}
    world.passes(86_400 - 3600)
    again.check(["a"])
    assert again.recall("id-1", digest("", "a", "1")) is None, "its age is right, too"


def test_d1_a_clock_that_is_set_behind_a_start_makes_nothing_younger(world: World) -> None:
    write(world.ledger(), "a", "id-1")
    world.wall = 60.0
    again = world.restarts()  # all that is on disk is from the future, so it counts as of now
    world.wall = 1.8e9 + 86_000
    again.save_again()
    world.passes(500)
    world.restarts().check(["a"])
    assert world.restarts().recall("id-1", digest("", "a", "1")) is None


def test_a_wall_clock_that_was_set_back_renews_nothing(world: World) -> None:
    write(world.ledger(), "a")
    world.wall -= 10 * 365 * 86_400
    with pytest.raises(CommandError, match="a moment ago"):
        world.restarts().check(["a"])


def test_e7_a_command_with_the_same_id_is_answered_from_the_record(world: World) -> None:
    ledger = world.ledger()
    write(ledger, "a", "id-1")
    assert ledger.recall("id-1", digest("", "a", "1")) == {"outcome": "done"}
    assert world.restarts().recall("id-1", digest("", "a", "1")) == {"outcome": "done"}
    assert ledger.recall("id-2", digest("", "a", "1")) is None


def test_e8_an_id_is_not_taken_for_another_command(world: World) -> None:
    ledger = world.ledger()
    write(ledger, "a", "id-1")
    with pytest.raises(CommandError, match="another command"):
        ledger.recall("id-1", digest("", "a", "2"))


def test_ids_are_bounded_and_forgotten(world: World) -> None:
    ledger = world.ledger(per_day=1000, per_minute=60)
    for n in range(IDS + 1):
        ledger.end(f"id-{n}", "x", {})
    assert ledger.recall("id-0", "x") is None
    assert ledger.recall("id-1", "x") == {}
    world.passes(86_401)
    assert ledger.recall("id-200", "x") is None


def test_d7_a_power_cut_behind_a_frame_leaves_the_command_to_be_settled(world: World) -> None:
    world.ledger().begin({"setting": "ac_charge", "text": "on"}, "hold 21")
    again = world.restarts()
    assert again.pending == {"setting": "ac_charge", "text": "on"}
    again.end(None, "", {})
    assert world.restarts().pending is None
    with pytest.raises(CommandError):
        world.restarts().check(["hold 21"])


def test_d4_nothing_begins_that_cannot_be_recorded(world: World, tmp_path: Path) -> None:
    ledger = world.ledger()
    world.file.path = tmp_path / "file" / "writes.json"
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CommandError, match="cannot be recorded"):
        ledger.begin({"setting": "a"}, "a")
    assert ledger.pending is None
    ledger.check(["a"])


def test_d4_an_end_that_could_not_be_saved_is_saved_later(world: World, tmp_path: Path) -> None:
    ledger = world.ledger()
    ledger.begin({"setting": "a"}, "a")
    path, world.file.path = world.file.path, tmp_path / "file" / "writes.json"
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="exists"):
        ledger.end("id-1", "x", {"outcome": "done"})
    world.passes(SAVE_AGAIN)
    ledger.save_again()
    world.file.path = path
    ledger.save_again()
    assert world.ledger().pending is not None, "not at every look: it may go on for long"
    world.passes(SAVE_AGAIN)
    ledger.save_again()
    assert world.restarts().pending is None
    assert world.restarts().recall("id-1", "x") == {"outcome": "done"}
    world.file.path.unlink()
    world.passes(SAVE_AGAIN)
    ledger.save_again()
    assert not world.file.path.exists(), "once is enough"


@pytest.mark.parametrize(
    "content", [{"spent": 5}, {"spent": [["x", "a"]]}, {"ids": []}, {"pending": 7}, {"ids": {"a": 1}}]
)
def test_a_file_with_other_content_counts_as_empty(content: dict[str, object], world: World) -> None:
    world.file.save(content)
    ledger = world.ledger()
    ledger.check(["a"])
    assert ledger.pending is None
