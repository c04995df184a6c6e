"""What a console is asked beside the question of every round: how it is read, for how long it is true, when (pure)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from bridge.fields import TEXT, Field, Level
from bridge.pylontech import console, console_cells, stack
from bridge.pylontech.units import Source
from bridge.pylontech.values import Values

if TYPE_CHECKING:
    from bridge.pylontech.device import Options
    from bridge.pylontech.extra2000_device import Options as ExtraOptions

SILENT_FOR, REFUSED_FOR = 10.0, 3600.0
"""Seconds before a question is asked again that was not answered (doubled each time), or is not known there."""
EVENTS_INTERVAL, LIMITS_INTERVAL = 10.0, 5.0
"""Seconds at least between readings of events and of limits: on a console these share the line with `pwr`."""
LIMITS = "pwrsys"
"""The question that tells what the stack allows."""
FOREVER = float("inf")
ROUNDS_SHARE, OTHERS_SHARE, PROOFS_SHARE = 3.0, 2.0, 6.0
"""Which part of the age limit an answer may take to begin: of a round's own question, of all others, of who is there
behind a silence. So one of each may be lost, one after the other, before what the round told last is too old."""

CLOCK = Field("clock", TEXT, "Battery's clock", level=Level.HIDDEN)

Read: TypeAlias = Callable[[Sequence[str], int], Values]


@dataclass(frozen=True, slots=True)
class Settings:
    """How a console is read. Times in seconds; `modules` None: those that are there."""

    name: str
    port: str
    baud: int
    login: bool
    modules: tuple[int, ...] | None
    interval: float
    cells: float
    events: float
    limits: float
    counters: float
    identity: float
    max_age: float
    lengthened: bool = False
    """Whether readings stay true for longer where the cells of all modules take longer to be read."""


def settings_of(options: Options) -> Settings:
    """Return the settings of a `link: console`."""
    return settings(
        options,
        events=max(EVENTS_INTERVAL, options.alarms_interval),
        limits=max(LIMITS_INTERVAL, options.limits_interval),
        max_age=options.max_age or max(15.0, 3 * options.interval),
    )


def settings(
    options: Options | ExtraOptions, *, events: float, limits: float, max_age: float, lengthened: bool = False
) -> Settings:
    """Return the settings of a console, as far as every console has them from its options."""
    return Settings(
        name=options.name,
        port=options.port,
        baud=options.baud,
        login=options.login,
        modules=None if options.modules == "auto" else tuple(sorted(set(options.modules))),
        interval=options.interval,
        cells=options.cells_interval,
        events=events,
        limits=limits,
        counters=options.settings_interval,
        identity=options.identity_interval,
        max_age=max_age,
        lengthened=lengthened,
    )


def documented_fields() -> dict[str, tuple[Field, ...]]:
    """Return what each kind of unit publishes, for the list of values; a module as one of 16 cells."""
    module = {item.key: item for item in (*console_cells.module_fields(16), *console_cells.health_fields(16))}
    root = {item.key: item for item in (*stack.FIELDS, *console.PWRSYS_FIELDS, CLOCK)}
    return {"stack on the console": tuple(root.values()), "module on the console": tuple(module.values())}


@dataclass(frozen=True, slots=True)
class Question:
    """One command beside the round's own: how its lines are read, what they announce, how often it is asked.

    Its answer is true for `max_age` seconds.
    """

    name: str
    read: Read
    fields: Callable[[Values], Sequence[Field]]
    interval: float
    max_age: float
    of_module: bool = True

    @property
    def source(self) -> Source:
        return Source(f"{self.name} N", self.max_age, lasting=self.name == "info", watched=self.name == "pwr")


def questions_of(settings: Settings) -> tuple[Question, ...]:
    """Return the questions that are asked now and then, the most urgent first."""
    slow = {
        interval: max(60.0, 3 * settings.max_age, 4 * interval)
        for interval in (settings.cells, settings.events, settings.counters)
    }
    cells, events, counters = settings.cells, settings.events, settings.counters
    limits = max(settings.max_age, 3 * settings.limits)
    # fmt: off
    return (
        Question("info", console.identity, lambda _: console.INFO_FIELDS, settings.identity, FOREVER),
        Question(LIMITS, _system, lambda _: console.PWRSYS_FIELDS, settings.limits, limits, False),
        Question("pwr", console.module, lambda _: console.PWR_N_FIELDS, events, slow[events]),
        Question("bat", _cells, _cell_fields, cells, slow[cells]),
        Question("stat", console.statistics, lambda _: console.STAT_FIELDS, counters, slow[counters]),
        Question("soh", console_cells.health, _health_fields, counters, slow[counters]),
        Question("time", _clock, lambda _: (CLOCK,), counters, slow[counters], False),
    )
    # fmt: on


def _system(lines: Sequence[str], _position: int) -> Values:
    return console.system(lines)


def _cells(lines: Sequence[str], _position: int) -> Values:
    return console_cells.cells(lines)


def _clock(lines: Sequence[str], _position: int) -> Values:
    return {CLOCK.key: console.clock(lines)}


def _cell_fields(values: Values) -> Sequence[Field]:
    return console_cells.cell_fields(sum(key.endswith(f"_{console_cells.CELL_SOC.key}") for key in values))


def _health_fields(values: Values) -> Sequence[Field]:
    return console_cells.health_fields(sum(key.endswith(f"_{console_cells.SOH_COUNT.key}") for key in values))


@dataclass(slots=True)
class Task:
    """A question about one position (None: the stack): when it is due, and how long its answer took last time.

    Times are those of time.monotonic().
    """

    question: Question
    position: int | None
    due: float = 0.0
    pause: float = SILENT_FOR
    took: float = 0.2
    bare: bool = False
    """Whether the console knows the command only without a number, as a US3000D does for its master."""

    @property
    def failed(self) -> bool:
        return self.pause > SILENT_FOR

    def urgent(self, now: float) -> bool:
        """Whether chargers go by the answer, and it is a third as old as it may be."""
        question = self.question
        return question.name == LIMITS and now - self.due >= question.max_age / ROUNDS_SHARE - question.interval

    def answered(self, began: float, now: float) -> None:
        self.took, self.pause, self.due = now - began, SILENT_FOR, now + self.question.interval

    def put_off(self, now: float, most: float = REFUSED_FOR) -> None:
        self.due, self.pause = now + min(self.pause, most), min(2 * self.pause, REFUSED_FOR)

    def lost(self, now: float) -> None:
        """Note that there was no answer that can be read: it is asked behind the next round, then after pauses."""
        if self.failed:
            self.put_off(now)
        else:
            self.pause *= 2
