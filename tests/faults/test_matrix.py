"""Every row of the fault matrix has its tests, and how the table of a repetition is made."""

from __future__ import annotations

import ast
import subprocess
import sys
from datetime import date
from pathlib import Path

from tests.faults.ledger import Account, Ledger, table
from tests.faults.rows import ROWS, rows_of
from tests.shared import REPOSITORY


def named_tests() -> dict[str, list[str]]:
    """Return the tests of each row, as file::name: what pytest collects are the functions called test_."""
    found: dict[str, list[str]] = {row: [] for row in ROWS}
    for path in sorted((REPOSITORY / "tests").rglob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef):
                for row in rows_of(node.name):
                    found[row].append(f"{path.name}::{node.name}")
    return found


def test_every_row_has_a_test_that_carries_its_id() -> None:
    assert [row for row, tests in named_tests().items() if not tests] == []


def test_the_rows_are_those_of_the_matrix() -> None:
    assert {letter: sum(row[0] == letter for row in ROWS) for letter in "ABCDEG"} == {
        "A": 12, "B": 22, "C": 13, "D": 14, "E": 15, "G": 9,
    }  # fmt: skip


def test_a_name_or_a_case_tells_the_rows() -> None:
    assert rows_of("test_a10_nothing_below_tls_1_2_is_spoken") == ["A10"]
    assert rows_of("test_g1_and_g2_modules_fall_silent[2]") == ["G1", "G2"]
    assert rows_of("test_b6_to_b17_no_wrong_value[B9 length 0]") == ["B9"]
    assert rows_of("test_t7_t8_the_password_works") == []
    assert rows_of("test_61h_is_asked_without_info") == []


def test_the_table_tells_the_worst_of_each_row() -> None:
    ledger = Ledger()
    for number, recovery in enumerate((1.25, 0.5)):
        ledger.add(f"tests/x.py::test_a1_it[{number}]", "passed", [("recovery", recovery), ("memory", 0.1)])
    ledger.add("tests/x.py::test_a1_it[2]", "failed", [("wrong", 2), ("recovery", 9.0)])
    ledger.add("tests/x.py::test_nothing", "passed", [])
    assert ledger.accounts["A1"] == Account(tests={"tests/x.py::test_a1_it"}, runs=3, failed=1, wrong=2,
                                            recovery=9.0, memory=0.1)  # fmt: skip
    text = table(ledger, 20, date(2026, 1, 2), 60.0)
    assert "| A1 | no broker at the start | 1 | 3 | 1 | 2 | – | 9.0 s | 0.1 MiB |" in text.splitlines()
    assert "| A2 | the broker dies and comes back, with and without its database | – |" in text


def test_a_repetition_runs_each_case_so_often_and_writes_the_table(tmp_path: Path) -> None:
    (tmp_path / "test_x.py").write_text(
        "from tests.faults.ledger import note\n"
        "import pytest\n"
        "def test_nothing(): raise AssertionError('not a row')\n"
        "@pytest.mark.parametrize('case', [1, 2])\n"
        "def test_a1_it(case): note(recovery=0.5 + case)\n"
        "def test_a1_left_out(): pytest.skip('something is not here')\n"
    )
    report = tmp_path / "faults.md"
    options = ["-p", "tests.faults.ledger", "--repeat-rows", "3", "--rows-report", str(report)]
    where = ["-c", str(REPOSITORY / "pyproject.toml"), "--rootdir", str(tmp_path), str(tmp_path)]
    command = [sys.executable, "-m", "pytest", *options, *where]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
    assert "6 passed" in done.stdout, done.stdout + done.stderr
    assert "| A1 | no broker at the start | 1 | 6 | 0 | – | – | 2.5 s | – |" in report.read_text()
