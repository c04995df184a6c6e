"""A stack read over its master's console: `pwr` in every round, all else in what time is left before the next.

`pwr` tells what every module measures in one answer; `bat N` is most of what a stack can say and is asked in turn,
module after module; who a module is, its counters and the stack's clock are asked rarely. A round asks one of
these at least, so that none is put off for ever. What a console refuses for good is asked again after an hour,
what it does not answer after growing pauses.

Identity comes before names: nothing is filed under a module before the console named its serial number twice, once
where that is known already: after opening, waking, absence, and when a reading does not follow from the one before.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from bridge import battery as k
from bridge.devices import Context
from bridge.errors import LinkError, NoReply, ProtocolError
from bridge.fields import Field, Reading
from bridge.pylontech import console, stack
from bridge.pylontech import values as v
from bridge.pylontech.console_connection import Console, Reply
from bridge.pylontech.console_frame import Refusal
from bridge.pylontech.console_tasks import (
    LIMITS,
    OTHERS_SHARE,
    PROOFS_SHARE,
    REFUSED_FOR,
    ROUNDS_SHARE,
    SILENT_FOR,
    Settings,
    Task,
    questions_of,
    settings_of,
)
from bridge.pylontech.plausible import Watch, check_cells
from bridge.pylontech.units import Module, Source, Units, age_limit
from bridge.pylontech.values import Values, number

if TYPE_CHECKING:
    from bridge.pylontech.device import Options

log = logging.getLogger(__name__)

CELLS_SHARE = 5.0
"""How much longer than their answers alone the cells of all modules take to be read once: half of the time belongs to
the rounds, and others are asked too."""
URGENT = frozenset(field.key for field in (*v.CELL_EXTREMES, k.COLDEST, k.HOTTEST))
"""What chargers go by of all that cells tell."""
WITNESSES = 2
"""Modules that are asked at most whether the stack is still the same; to ask all is as good then."""
SIZE_LASTS = 3600.0
"""Seconds for which a module's capacity is true, which hardly ever changes."""
TOGETHER = 5.0
"""Seconds within which cells and the module's voltage belong together."""

T = TypeVar("T")


class ConsoleReader(ABC):
    """What every console has: modules at positions, and questions that are asked in turn. Owned by one thread."""

    ROUND_FIELDS: Sequence[Field] = ()
    """What the questions of every round tell of a module."""
    ASKED = frozenset(("info", "pwrsys", "pwr", "bat", "stat", "soh", "time"))
    """What is asked besides, now and then."""
    TOLD_LATER: Sequence[Field] = (k.SOH, k.BALANCING)
    """What a module's first state has as keys, though `stat` and `bat` tell it only later: with that state a bank
    settles what it will ever show a GX."""
    URGENT: frozenset[str] | None = URGENT
    """What of the cells' answer is no longer true than the module's reading is, None for all of it."""

    def __init__(self, settings: Settings, context: Context) -> None:
        self._settings = settings
        self._context = context
        self._max_age = settings.max_age
        self._questions = [
            question
            for question in questions_of(settings)
            if question.name in self.ASKED and (settings.login or question.name != LIMITS)
        ]
        self._units = Units(settings.name, settings.max_age)
        self._units.expect(str(position) for position in settings.modules or ())
        self._console: Console | None = None
        self._learn_anew()

    @property
    def interval(self) -> float:
        return self._settings.interval

    def open(self) -> None:
        from bridge.transports.serial_port import open_serial

        self.close()
        link = open_serial(self._settings.port, self._settings.baud, self._context.stop)
        settings = self._settings
        self._console = Console(link, self._context, settings.baud, login=settings.login)
        self._learn_anew()

    def close(self) -> None:
        if self._console is not None:
            self._console.close()
            self._console = None

    def fileno(self) -> int | None:
        return None  # nothing comes unasked

    def receive(self) -> Iterator[Reading | None]:
        return iter(())

    def refresh(self) -> None:
        self._everything = True
        for task in self._tasks.values():
            task.due, task.pause = min(task.due, time.monotonic()), SILENT_FOR

    def poll(self) -> Iterator[Reading | None]:
        started = time.monotonic()
        self._good = False
        yield from self._ask_round()
        yield from self._ask_slow(started)
        if not self._good:
            raise NoReply("no answer but refusals and damaged ones")

    @abstractmethod
    def _ask_round(self) -> Iterator[Reading | None]:
        """Ask what is asked in every round. Raises NoReply when nobody is there."""

    # -- what is known

    def _learn_anew(self) -> None:
        """Forget who is where: another stack may be on the cable."""
        self._sure: set[int] = set()
        self._rows: dict[int, Reply[Values]] = {}
        self._tasks: dict[tuple[str, int | None], Task] = {}
        self._watches: dict[int, Watch] = {}
        self._everything = False
        self._good = False
        self._woken = 0
        self._allowed: dict[str, float] = {}
        for question in self._questions:
            if not question.of_module:
                self._tasks[question.name, None] = Task(question, None)

    def _line(self) -> Console:
        if self._console is None:
            raise LinkError(f"{self._settings.port}: not open")
        return self._console

    def _ask(
        self, name: str, module: int | None, read: Callable[[Sequence[str]], T], *,
        tries: int = 2, share: float = OTHERS_SHARE, total: bool = True,
    ) -> Reply[T]:  # fmt: skip
        """Return the answer to one command, of the stack that is known. Raises ProtocolError, NoReply."""
        line, names = self._line(), name == "info"
        if not names:
            self._prove()
        reply = line.ask(name, module, read, tries=tries, patience=self._max_age / share, total=total)
        self._good = True
        if line.woken != self._woken:
            # it was switched off and on: the modules may have changed places
            self._woken = line.woken
            self._doubt_all()
        if names and line.in_doubt:
            self._rows.clear()  # they may be another stack's than the one that says who it is
        elif not names and not self._prove():  # a first try may have been lost
            self._context.tally.failed("foreign", f"{name}: it is not certain who answered")
            raise ProtocolError("foreign", "it is not certain who answered")
        return reply

    def _prove(self) -> bool:
        """Where the cable may have been put into another stack, ask a module that is known whether it is still there.

        If it is, so are the others; one whose answer is lost is followed by another one. Else each has to say who it
        is, and False is returned.
        """
        line = self._line()
        if not line.in_doubt:
            return True
        sure = ((position, self._module(position)) for position in sorted(self._sure))
        witnesses = [(position, module.serial) for position, module in sure if module is not None and module.serial]
        if not witnesses:
            line.trust()  # nobody is believed, or by their places alone nobody tells them from others
            return True
        for position, serial in witnesses[:WITNESSES]:
            try:
                reply = self._put(self._tasks["info", position], tries=1, share=PROOFS_SHARE)
            except (ProtocolError, NoReply):
                self._doubt(position)
                continue
            if _serial_of(reply.values) != serial:
                self._learn_anew()
                return False
            line.trust()
            return True
        self._doubt_all()
        return False

    def _present(self, position: int) -> None:
        """Note that a module is at a position: from now on it is asked everything."""
        if ("info", position) not in self._tasks:
            for rank, question in enumerate(self._questions):
                if question.of_module:
                    self._tasks[question.name, position] = Task(question, position, due=float(rank))

    def _absent(self, position: int) -> None:
        """Note that nobody is at a position; whoever comes has to say who it is."""
        self._doubt(position)
        self._watches.pop(position, None)
        for question in self._questions:
            self._tasks.pop((question.name, position), None)

    def _doubt(self, position: int) -> None:
        """Believe nothing from a position until its serial number was read again, at once."""
        self._sure.discard(position)
        self._rows.pop(position, None)
        if task := self._tasks.get(("info", position)):
            task.due = 0.0

    def _doubt_all(self) -> None:
        for position in self._positions():
            self._doubt(position)

    def _module(self, position: int) -> Module | None:
        """Return the module that is at a position for sure."""
        return self._units.places.get(str(position)) if position in self._sure else None

    def _file(self, position: int, source: Source, reply: Reply[Values], fields: Sequence[Field]) -> Reading | None:
        """Take an answer for the module at a position; return its state, None when nobody is known there yet.

        An answer that cannot be true is counted and puts the module's identity in doubt.
        """
        module = self._module(position)
        if module is None:
            return None
        try:
            module.take(source, reply.values, reply.at, [item for item in fields if item.key in reply.values])
        except ProtocolError as err:
            self._context.tally.failed(err.kind, f"{source.name}, module {position}: {err}")
            self._doubt(position)
            return None
        return module.reading(time.monotonic())

    def _stack_reading(self) -> Reading | None:
        """Return the stack's state, None as long as it would lack a module whose name is just being asked."""
        for position in self._positions():
            if str(position) not in self._units.places:
                if not self._tasks["info", position].failed:
                    return None
                self._units.expect([str(position)])
        return self._units.root_reading(time.monotonic())

    def _positions(self) -> list[int]:
        """Return where modules are known to be."""
        return sorted(position for name, position in self._tasks if name == "info" and position is not None)

    # -- the questions in between

    def _ask_slow(self, started: float) -> Iterator[Reading | None]:
        """Ask the questions that are due, the longest overdue first: one, and those that fit before the next round.

        Where that is due already they may take as long as the round's own questions took. The limits are asked before
        all others and beside that one as soon as they are a third as old as they may be: in a large stack more is
        due than can be asked, and chargers go by them.
        What is wanted at once does not wait for the next round, but for so long only as the last one's readings allow.
        """
        everything, self._everything = self._everything, False
        asked, now = 0, time.monotonic()
        end = max(started + self._settings.interval, 2 * now - started)
        due = [task for task in self._tasks.values() if task.due <= now]
        for task in sorted(due, key=lambda task: (not task.urgent(now), task.due)):
            if not self._may_ask(task):
                continue
            now = time.monotonic()
            wanted = now - started < self._max_age / ROUNDS_SHARE and (everything or self._is_stranger(task))
            if asked and now + task.took > end and not wanted:
                return
            asked += not task.urgent(now)
            try:
                yield self._identify(task) if task.question.name == "info" else self._ask_task(task)
            except Refusal as err:
                yield self._refused(task, err)
            except ProtocolError:
                task.lost(time.monotonic())
                yield None
            except NoReply as err:
                log.debug("%s: %s", self._settings.name, err)
                task.lost(time.monotonic())
                return  # there may be nobody to talk to: the next round sees

    def _may_ask(self, task: Task) -> bool:
        """Whether the task is still there, and its module is known: who it is comes first."""
        if self._tasks.get((task.question.name, task.position)) is not task:
            return False
        return task.position is None or task.question.name == "info" or task.position in self._sure

    def _is_stranger(self, task: Task) -> bool:
        """Whether it is asked who a module is that nobody knows yet: until then all that is read of it is lost."""
        return task.question.name == "info" and not task.failed and str(task.position) not in self._units.places

    def _put(self, task: Task, *, tries: int = 2, share: float = OTHERS_SHARE) -> Reply[Values]:
        """Ask a task's question. Raises ProtocolError, NoReply."""
        question, position = task.question, task.position
        began = time.monotonic()
        read: Callable[[Sequence[str]], Values] = lambda lines: question.read(lines, position or 0)  # noqa: E731
        tries = 1 if task.failed else tries
        reply = self._ask(question.name, None if task.bare else position, read, tries=tries, share=share)
        task.answered(began, time.monotonic())
        return reply

    def _ask_task(self, task: Task) -> Reading | None:
        reply, question = self._put(task), task.question
        if task.position is None:
            if question.name == LIMITS:
                reply = self._confirm_limits(task, reply)
            self._announce([item for item in question.fields(reply.values) if item.key in reply.values])
            self._units.take_root(question.source, reply.values, reply.at)
            return None
        fields = question.fields(reply.values)
        if question.name == "bat":
            return self._file_cells(task.position, question.source, reply, fields)
        if question.name == "pwr":
            return self._file_size(task.position, question.source, reply, fields)
        return self._file(task.position, question.source, reply, fields)

    def _file_size(
        self, position: int, source: Source, reply: Reply[Values], fields: Sequence[Field]
    ) -> Reading | None:
        """Take what `pwr n` told; its capacity stays true when the rest is too old.

        By capacities the modules' states of charge make the stack's: it must not jump when a module is asked late.
        """
        reading, size = self._file(position, source, reply, fields), reply.values.get(k.TOTAL.key)
        if reading is None or size is None:
            return reading
        lasting = Source("size", SIZE_LASTS, lasting=True)
        return self._file(position, lasting, Reply({k.TOTAL.key: size}, reply.at), fields)

    def _confirm_limits(self, task: Task, reply: Reply[Values]) -> Reply[Values]:
        """Return limits as told; where one is higher than before, it is asked at once again and the lower one counts.

        They hold for some seconds, in many readings: to whom two readings make a limit sure, one answer would do.
        """
        first = _limits_in(reply.values)
        if any(told > self._allowed.get(key, 0.0) for key, told in first.items()):
            task.due = 0.0
            reply = self._put(task)
            reply.values.update(
                (key, min(told, first[key]) if key in first else None) for key, told in _limits_in(reply.values).items()
            )
        self._allowed = _limits_in(reply.values)
        return reply

    def _file_cells(
        self, position: int, source: Source, reply: Reply[Values], fields: Sequence[Field]
    ) -> Reading | None:
        """Take a module's cells; what chargers go by is not shown under a date much younger than it is."""
        if not self._believe_cells(position, reply):
            return None
        if self._settings.lengthened:
            self._lengthen_age()
        urgent = {key: value for key, value in reply.values.items() if self.URGENT is None or key in self.URGENT}
        rest = {key: value for key, value in reply.values.items() if key not in urgent}
        if rest:
            self._file(position, source, Reply(rest, reply.at), fields)
        return self._file(position, Source(f"{source.name}, urgent", self._max_age), Reply(urgent, reply.at), fields)

    def _lengthen_age(self) -> None:
        """Let readings stay true until the cells of all modules were read again; unread ones take as long as others."""
        tasks = [task for task in self._tasks.values() if task.question.name == "bat"]
        took = [task.took for task in tasks if task.position in self._watches]
        every = len(tasks) * sum(took) / len(took) if took else 0.0
        self._max_age = age_limit(CELLS_SHARE * every, self._max_age, self._settings.max_age)
        self._units.set_max_age(self._max_age)

    def _announce(self, fields: Sequence[Field]) -> None:
        """Let the stack's state have these keys: not before the console told them, null would mean "not known now"."""
        merged = {item.key: item for item in (*self._units.root.fields, *fields)}
        if len(merged) > len(self._units.root.fields):
            self._units.root = self._units.root._replace(fields=tuple(merged.values()))

    def _believe_cells(self, position: int, reply: Reply[Values]) -> bool:
        """Hold the cells against the module's voltage and against the cells before; count them if they cannot be."""
        row = self._rows.get(position)
        current: Values = {}
        try:
            if row is not None and reply.at - row.at <= TOGETHER:
                voltage = number(row.values, k.VOLTAGE)
                cells = [number(reply.values, field) for field in v.cell_voltages(stack.cell_count(reply.values) or 0)]
                if voltage is not None:
                    check_cells([round(1000 * cell) for cell in cells if cell is not None], round(1000 * voltage))
                current = {k.CURRENT.key: row.values.get(k.CURRENT.key)}
            self._watches.setdefault(position, Watch()).admit({**reply.values, **current}, reply.at)
        except ProtocolError as err:
            self._context.tally.failed(err.kind, f"bat {position}: {err}")
            self._doubt(position)
            return False
        return True

    # -- who is where

    def _identify(self, task: Task) -> Reading | None:
        """Read a module's serial number, twice where it is not the one that is known."""
        position = task.position or 0
        for _ in range(2):
            reply = self._put(task)
            before = self._units.places.get(str(position))
            module = self._units.claim(str(position), _serial_of(reply.values))
            if module is not None:
                if module is not before:
                    self._watches.pop(position, None)
                return self._identified(position, module, reply)
            self._sure.discard(position)
        task.due = 0.0
        return None

    def _identified(self, position: int, module: Module, reply: Reply[Values]) -> Reading | None:
        """Note who is at a position, and file what it told before."""
        if not self._sure:
            self._line().trust()
        self._sure.add(position)
        module.announce(self.TOLD_LATER)
        model, firmware = reply.values.get(v.MODEL.key), reply.values.get(v.SOFTWARE.key)
        module.learn(model=model, firmware=firmware)
        if position == self._positions()[0]:
            self._units.learn_root(model=model, firmware=firmware)
        self._file(position, self._tasks["info", position].question.source, reply, console.INFO_FIELDS)
        return self._file_row(position)

    def _file_row(self, position: int) -> Reading | None:
        row = self._rows.get(position)
        if row is None or time.monotonic() - row.at > self._max_age:
            return None
        return self._file(position, Source("pwr", self._max_age, watched=True), row, self.ROUND_FIELDS)

    def _refused(self, task: Task, err: Refusal) -> Reading | None:
        """Take a no: one for now is heard again soon, one for good rarely; without `info` there is no serial number."""
        if not err.unsupported or task.position is None:
            task.put_off(time.monotonic(), REFUSED_FOR if err.unsupported else 6 * SILENT_FOR)
            return None
        # nobody may be known any more: another stack is on the cable since the question before
        if not task.bare and task.question.name in ("info", "stat") and [task.position] == self._positions()[:1]:
            task.bare, task.due = True, 0.0
            return None
        task.bare, task.due = False, time.monotonic() + REFUSED_FOR
        if task.question.name == "info":
            return self._nameless(task, task.position)
        return None

    def _nameless(self, task: Task, position: int) -> Reading | None:
        """Know a module by its position, once it has refused twice to say who it is."""
        known = self._units.places.get(str(position))
        if known is not None and known.serial is not None:
            task.put_off(time.monotonic())  # it has said who it is before
            return None
        module = self._units.claim(str(position), None)
        if module is None:
            task.due = 0.0
            return None
        module.announce(self.TOLD_LATER)
        self._sure.add(position)
        return self._file_row(position)


def _limits_in(values: Values) -> dict[str, float]:
    """Return the limits that a stack's answer tells, but for the one that is stricter the higher it is."""
    keys = (k.EACH_CHARGE_LIMIT, k.EACH_DISCHARGE_LIMIT, k.CHARGE_VOLTAGE_LIMIT, k.CHARGE_CURRENT_LIMIT,
            k.DISCHARGE_CURRENT_LIMIT)  # fmt: skip
    return {key.key: told for key in keys if (told := number(values, key)) is not None}


def _serial_of(values: Values) -> str | None:
    serial = values.get(k.SERIAL.key)
    return str(serial) if serial else None


class ConsoleDevice(ConsoleReader):
    """A stack of US-series modules: one `pwr` tells of all of them."""

    ROUND_FIELDS = console.PWR_FIELDS

    def __init__(self, options: Options, context: Context) -> None:
        super().__init__(settings_of(options), context)

    def _ask_round(self) -> Iterator[Reading | None]:
        try:
            reply = self._ask("pwr", None, console.modules, share=ROUNDS_SHARE, total=False)
        except ProtocolError:
            yield None  # counted; what else is asked shows whether anybody is there
            return
        found = reply.values
        for err in found.refused:
            self._context.tally.failed(err.kind, f"pwr: {err}")
        for position in found.absent:
            self._units.vacant(str(position))
        for position in self._positions():
            # of a row that could not be read nobody knows whose it was
            if position in found.absent or (position not in found.present and not found.refused):
                self._absent(position)
        for position, values in found.present.items():
            if self._settings.modules is None or position in self._settings.modules:
                self._present(position)
                self._rows[position] = Reply(values, reply.at)
                if (reading := self._file_row(position)) is not None:
                    yield reading
        yield self._stack_reading()
