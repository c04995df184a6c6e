"""The repetition of the fault matrix: `pytest -p tests.faults.ledger --repeat-rows 20 --rows-report docs/faults.md`.

Runs every test of a row so many times, file by file at random, and nothing else; writes what came of it as a table. A
test tells figures by `note(...)`, from wherever it has them; the worst of a row stands in its line.
"""

from __future__ import annotations

import os
import platform
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from tests.faults.rows import EXACT, ROWS, rows_of

FIGURES = ("wrong", "lost", "recovery", "memory")
_noted: list[tuple[str, float]] = []


def note(**figures: float) -> None:
    """Note figures of the running test: wrong and lost values, seconds of recovery, MiB that memory grew by."""
    for name, value in figures.items():
        if name not in FIGURES:
            raise ValueError(f"{name}: expected one of {FIGURES}")
        _noted.append((name, value))


@dataclass
class Account:
    """What came of one row. None: no test of it told."""

    tests: set[str] = field(default_factory=set)
    runs: int = 0
    failed: int = 0
    wrong: float | None = None
    lost: float | None = None
    recovery: float | None = None
    memory: float | None = None


class Ledger:
    """The accounts of all rows."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}

    def add(self, test: str, outcome: str, figures: Sequence[tuple[str, float]]) -> None:
        """Take in one run of a test (its node id)."""
        for row in rows_of(test.rpartition("::")[2]):
            account = self.accounts.setdefault(row, Account())
            account.tests.add(test.partition("[")[0])
            account.runs += 1
            account.failed += outcome == "failed"
            for name, value in figures:
                before = getattr(account, name)
                if name in ("wrong", "lost"):
                    setattr(account, name, int(value) + (before or 0))
                else:
                    setattr(account, name, value if before is None else max(before, value))


def table(ledger: Ledger, times: int, day: date, seconds: float) -> str:
    """Return the page."""
    lines = [
        "# Faults, and what came of them", "",
        f"Made by `make soak` on {day:%Y-%m-%d}: every test of a row, each of its cases, {times} times in random order "
        f"in {seconds / 60:.0f} minutes (Python {platform.python_version()}, load {os.getloadavg()[2]:.0f} on "
        f"{os.cpu_count()} processors); those without a "
        "line, a clock or a broker, which do the same each time, once.", "",
        "On simulated devices on pseudo-terminals and sockets, a TCP proxy, a real mosquitto. A test fails on any "
        "wrong value, lost message, unproven `done` or missed time; *wrong* and *lost* are counted where a judge "
        "compares all that was published with the simulators' truth logs. *Recovery* is from the end of the fault to "
        "the first right value, *memory* what the bridge's grew by; the worst of all runs is shown, – where a row has "
        "no such figure. On a crowded machine promised rates fail for want of a processor. "
        "The tests of a row carry its id in their name: `grep -rn test_a1_ tests`.", "",
        "| row | what happens | tests | runs | failed | wrong | lost | recovery, worst | memory, worst |",
        "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    lines += [_line(row, title, ledger.accounts.get(row, Account())) for row, title in ROWS.items()]
    return "\n".join(lines) + "\n"


def _line(row: str, title: str, account: Account) -> str:
    def shown(value: float | None, form: str) -> str:
        return "–" if value is None else form.format(max(0.0, value))

    cells = [row, title, f"{len(account.tests) or '–'}", f"{account.runs or '–'}"]
    cells += [str(account.failed) if account.runs else "–", shown(account.wrong, "{:.0f}"),
              shown(account.lost, "{:.0f}"), shown(account.recovery, "{:.1f} s"),
              shown(account.memory, "{:.1f} MiB")]  # fmt: skip
    return f"| {' | '.join(cells)} |"


# -- the plugin


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("rows of the fault matrix")
    group.addoption("--repeat-rows", type=int, default=0, metavar="N", help="run only the tests of rows, N times each")
    group.addoption("--rows-report", type=Path, default=None, metavar="FILE", help="write the table there")
    group.addoption("--rows-seed", type=int, default=1, help="of the order")


@pytest.fixture(scope="session")
def repetition(request: pytest.FixtureRequest) -> int:
    """Return which run of its repetition a test is in."""
    return int(request.param)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    times = metafunc.config.getoption("--repeat-rows")
    if times and rows_of(metafunc.function.__name__) and not _soak(metafunc.definition):
        metafunc.fixturenames.append("repetition")
        times = 1 if metafunc.definition.nodeid.startswith(EXACT) else times
        metafunc.parametrize("repetition", range(times), indirect=True, ids=[f"run{n + 1}" for n in range(times)])


def _soak(item: pytest.Item | pytest.Function) -> bool:
    return item.get_closest_marker("soak") is not None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--repeat-rows"):
        return
    wanted = [item for item in items if hasattr(item, "callspec") and "repetition" in item.callspec.params]
    left = set(items) - set(wanted)
    config.hook.pytest_deselected(items=[item for item in items if item in left])
    items[:] = mixed(wanted, random.Random(config.getoption("--rows-seed")))


def mixed(items: list[pytest.Function], rng: random.Random) -> list[pytest.Item]:
    """Return the tests in random order, those of one file and repetition together: they share what they set up."""
    groups: dict[tuple[str, int], list[pytest.Item]] = {}
    for item in items:
        groups.setdefault((item.path.name, item.callspec.params["repetition"]), []).append(item)
    order = list(groups.values())
    rng.shuffle(order)
    return [item for group in order for item in group]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call() -> None:
    _noted.clear()  # what was noted while things were set up belongs to no test in particular


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    if call.when == "call":
        item.user_properties += _noted  # they travel with the report, from a worker too


class Collector:
    """Takes in every report, in the process that has all of them, and writes the table at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._ledger = Ledger()
        self._begun = time.monotonic()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if (report.when == "call" and not report.skipped) or report.failed:  # what was left out is no run
            figures = [(name, value) for name, value in report.user_properties if name in FIGURES]
            self._ledger.add(report.nodeid, report.outcome, figures)  # type: ignore[arg-type]

    def pytest_sessionfinish(self) -> None:
        path, times = self._config.getoption("--rows-report"), self._config.getoption("--repeat-rows")
        if path is not None:
            seconds = time.monotonic() - self._begun
            path.write_text(table(self._ledger, times, datetime.now(UTC).date(), seconds))


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--repeat-rows") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Collector(config))
