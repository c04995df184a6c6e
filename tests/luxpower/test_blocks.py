"""What is asked for: it adapts to what a stick answers, and never cuts a value in two."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.luxpower.blocks import GROUP, LARGEST, Blocks, Piece
from bridge.luxpower.registers import HOLDS, INPUTS
from bridge.luxpower.rows import Table

TABLES = pytest.mark.parametrize("table", [INPUTS, HOLDS], ids=["inputs", "holds"])


def covered(blocks: Blocks) -> list[int]:
    return sorted(register for piece in blocks.pieces for register in range(piece.first, piece.end))


@TABLES
def test_at_first_every_row_is_asked_for_in_groups_of_forty(table: Table) -> None:
    blocks = Blocks(table)
    registers = covered(blocks)
    assert registers == list(range(registers[-1] + 1))
    assert all(piece.length <= GROUP and piece.first % GROUP == 0 for piece in blocks.pieces)
    for row in table.rows:
        last = row.register + row.read.words
        assert any(piece.first <= row.register and last <= piece.end for piece in blocks.pieces), row.key


ANSWERS = st.tuples(st.integers(0, 30), st.sampled_from(["refuse", "short", "large"]), st.integers(1, 127))


@TABLES
@given(answers=st.lists(ANSWERS, max_size=60))
def test_whatever_a_stick_does_no_value_is_cut_and_nothing_is_asked_twice(
    table: Table, answers: list[tuple[int, str, int]]
) -> None:
    blocks = Blocks(table)
    inside = {row.register + word for row in table.rows for word in range(1, row.read.words)}
    for number, what, length in answers:
        if not blocks.pieces:
            break
        piece = blocks.pieces[number % len(blocks.pieces)]
        if what == "refuse":
            blocks.refused(piece)
        elif what == "large":
            blocks.saw(length)
        elif length < piece.length:
            blocks.shortened(piece, length)
        registers = covered(blocks)
        assert len(registers) == len(set(registers))
        assert all(1 <= piece.length <= LARGEST for piece in blocks.pieces)
        assert not {piece.first for piece in blocks.pieces} & inside or what == "short" or _after_a_short(answers)


def _after_a_short(answers: list[tuple[int, str, int]]) -> bool:
    """A reply may end inside a value that fills the whole piece; its rest is then asked for by itself."""
    return any(what == "short" for _, what, _ in answers)


def refuse(blocks: Blocks, bad: set[int]) -> int:
    """Let a stick refuse these registers until nothing is refused any more; return how often it did."""
    count = 0
    while True:
        for piece in list(blocks.pieces):
            if piece in blocks.pieces and bad & set(range(piece.first, piece.end)):
                blocks.refused(piece)
                count += 1
                break
        else:
            return count


def test_a_single_refused_register_is_alone_after_a_few_questions() -> None:
    blocks = Blocks(HOLDS)
    everything = covered(blocks)
    assert refuse(blocks, {168}) <= 8
    assert sorted(set(everything) - set(covered(blocks))) == [168]


def test_the_last_register_alone_costs_no_value_in_front_of_it() -> None:
    blocks = Blocks(INPUTS)
    everything = covered(blocks)
    refuse(blocks, {232})  # as where there are inputs 0 to 231
    assert sorted(set(everything) - set(covered(blocks))) == [232]


def test_a_range_that_is_not_there_costs_three_questions_a_group() -> None:
    blocks = Blocks(INPUTS)
    assert refuse(blocks, set(range(120, 400))) <= 3 * 3
    assert covered(blocks) == list(range(120))


def test_larger_blocks_keep_what_is_due() -> None:
    blocks = Blocks(HOLDS)
    for piece in blocks.pieces:
        piece.due = 50.0
    blocks.pieces[1].due = 7.0
    blocks.saw(127)
    assert [(p.first, p.length, p.due) for p in blocks.pieces][:2] == [(0, 120, 7.0), (120, 120, 50.0)]
    blocks.refused(blocks.pieces[0])
    blocks.saw(127)
    assert max(piece.length for piece in blocks.pieces if piece.first < 120) == GROUP, "not again what was refused"


def test_a_write_of_somebody_else_makes_its_piece_due() -> None:
    blocks = Blocks(HOLDS)
    for piece in blocks.pieces:
        piece.due = 50.0
    blocks.due_now(67)
    assert [piece.first for piece in blocks.pieces if piece.due == 0.0] == [40]
    assert isinstance(blocks.pieces[0], Piece)
