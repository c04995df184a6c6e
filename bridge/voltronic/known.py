"""What the inverter on the cable has said so far, and what its state is made of. (pure)

A value goes into the state only while it is younger than the age limit of its question; after that its key says
null. Times are time.monotonic() of whoever asks.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from bridge.errors import NoReply
from bridge.fields import Field, Unit, Value
from bridge.voltronic.options import Options
from bridge.voltronic.plan import Ask, Pace, Plan

if TYPE_CHECKING:
    from bridge.voltronic.inquiry import Decoded, Inquiry

log = logging.getLogger(__name__)

SILENT_FOR = 30.0
"""Seconds before a question that was not answered is asked again; doubled each time."""
REFUSED_FOR = 3600.0
"""Seconds for which a refusal is believed; silence is not remembered longer either."""
LONGEST_PAUSE = 300.0
"""The longest of these pauses for a question of every round that has been answered before."""
OLDEST_SLOW = 30.0
"""Seconds a slow question's values stay true at least; else three times its interval."""
MANUFACTURER = "Voltronic Power"

SET, LONE = "(set)", "(lone)"
"""Names of what QPGS0 tells of the root unit; no commands."""


@dataclass(kw_only=True)
class Patience:
    """When a question is asked again that was not answered: the pause grows until it is.

    What is asked in every round has no pause behind its first silence: a value must not grow too old over one.
    """

    due: float = 0.0
    pause: float = SILENT_FOR

    def put_off(self, now: float, longest: float) -> None:
        """Note a silence."""
        self.due, self.pause = now + self.pause, min(max(1.0, 2 * self.pause), longest)


@dataclass
class Task(Patience):
    """One question of the plan with what is known from it. `command` is the one that was answered."""

    ask: Ask
    inquiry: Inquiry
    interval: float
    max_age: float
    first_pause: float
    command: str = ""
    at: float = 0.0
    decoded: Decoded | None = None
    values: dict[str, Value] = field(default_factory=dict)
    fields: dict[str, Field] = field(default_factory=dict)

    def announce(self, fields: tuple[Field, ...]) -> bool:
        """Add fields; return whether one of them is new."""
        before = len(self.fields)
        self.fields = {**self.fields, **{item.key: item for item in fields}}
        return len(self.fields) > before


class Known:
    """One inverter as far as it is known: its protocol, the tasks with their newest answers, the root unit.

    `former` is what was known before the line broke. Nothing of what it said is believed any more, but the keys it
    had are announced from the start, as null: a key that comes and goes breaks what people have built on it. They
    go when another serial number turns up.
    """

    def __init__(self, options: Options, max_age: float, former: Known | None = None) -> None:
        self.plan: Plan | None = None
        self.sure = True
        """False while PI30 is spoken and the unit has not said which member of that family it is."""
        self.tasks: dict[str, Task] = {}
        self.serial: str | None = None
        self.newest = 0.0
        self.controls: tuple[Field, ...] = former.controls if former is not None else ()
        """What can be set on the unit right now."""
        self._former_fields: tuple[Field, ...] = former.root.fields if former is not None else ()
        self._former_serial: str | None = (former.serial or former._former_serial) if former is not None else None
        self.root: Unit = Unit("", options.name, self._former_fields, max_age)
        self._options = options
        self._age = max_age
        self._nothing: dict[str, Value] = {}

    def speak(self, plan: Plan) -> None:
        """Take up a protocol: its tables, which may have to be loaded, and its questions."""
        from bridge.voltronic.inquiries import lone_unit, unit_of_set, whole_set

        self.plan = plan
        also = tuple(Ask(command, Pace.SETTINGS) for command in self._options.also if command in plan.table)
        self.tasks = {ask.name: self._task(ask, plan.table[ask.name]) for ask in plan.asks + also}
        if plan.parallel is not None:
            self.qpgs = plan.table[plan.parallel]
            self.unit_view = unit_of_set(self.qpgs)
            self.tasks[SET] = self._task(Ask(SET, Pace.SHARED), whole_set(self.qpgs))
            self.tasks[LONE] = self._task(Ask(LONE, Pace.SHARED), lone_unit(self.qpgs))
        self.renew_root()

    def _task(self, ask: Ask, inquiry: Inquiry) -> Task:
        interval = {
            Pace.FAST: 0.0,
            Pace.SHARED: 0.0,
            Pace.ALARMS: self._options.alarms_interval,
            Pace.SETTINGS: self._options.settings_interval,
            Pace.ENERGY: self._options.energy_interval,
            Pace.ONCE: math.inf,
        }[ask.pace]
        limit = self._age if interval == 0 else max(OLDEST_SLOW, self._age, 3 * interval)
        task = Task(ask, inquiry, interval, limit, SILENT_FOR if interval else 0.0)
        if ask.basic:
            task.announce(inquiry.fields())
        return task

    def renew_root(self) -> None:
        """Make the root unit anew: it learned a key, or who it is."""
        fields = {item.key: item for item in self._former_fields}
        fields.update((key, item) for task in self.tasks.values() for key, item in task.fields.items())
        self._nothing = dict.fromkeys(fields)
        firmware = self.told("QVFW", "raw") or self.told("VFW", "main")
        self.root = Unit(
            "",
            self._options.name,
            tuple(fields.values()),
            self._age,
            serial=self.serial,
            manufacturer=MANUFACTURER,
            model=self.told("QMN", "model_name") or self.told("QGMN", "general_model_number"),
            firmware=firmware.rpartition(":")[2] if firmware else None,
            controls=self.controls,
        )

    def identify(self, serial: str) -> None:
        """Note who is on the cable."""
        self.serial = serial
        if self._former_serial not in (None, serial):
            self._former_fields, self.controls = (), ()
        self.renew_root()

    def told(self, name: str, key: str) -> str | None:
        """Return a text of the newest answer to a question."""
        task = self.tasks.get(name)
        return task.decoded.get(key) if task is not None and task.decoded is not None else None

    def status(self) -> Task:
        """Return the task that is published at once. Raises NoReply while no protocol is known."""
        if self.plan is None:
            raise NoReply("no protocol is known yet")
        return self.tasks[self.plan.status]

    def ratings(self) -> Task | None:
        """Return the task that tells what the unit is rated for and set to."""
        return self.tasks.get(self.plan.ratings) if self.plan is not None else None

    def store(self, task: Task, decoded: Decoded, at: float, command: str) -> None:
        """Keep an answer, and announce what is new in it."""
        if task.decoded is None and "_extra_fields" in decoded:
            unknown = " ".join(decoded["_extra_fields"])
            log.info("%s: %s ends in fields nobody knows: %s", self._options.name, command, unknown)
        task.decoded, task.at, task.command, task.pause = decoded, at, command, task.first_pause
        task.values = task.inquiry.publish(decoded)
        self.newest = max(self.newest, at)
        if not self.sure and task is self.status():
            # PI41 gives the status bits another meaning: say nothing until the unit has named its protocol
            bits = {bit.key for row in task.inquiry.rows for bit in row.bits}
            task.values |= dict.fromkeys(bits & task.values.keys())
        new = not task.values.keys() <= task.fields.keys() and task.announce(task.inquiry.fields(decoded))
        if new or task.ask.pace is Pace.ONCE:
            self.renew_root()

    def clock(self, now: float) -> datetime | None:
        """Return what the inverter's own clock says, or None while that is not known."""
        told = self.told(self.plan.clock, "time") if self.plan is not None else None
        if told is None or self.plan is None:
            return None
        return datetime.fromisoformat(told) + timedelta(seconds=now - self.tasks[self.plan.clock].at)

    def command(self, task: Task, now: float) -> str | None:
        """Return the command to send for a task, with the inverter's day where it takes one."""
        if not task.ask.dated:
            return task.ask.command
        clock = self.clock(now)
        return task.ask.command.format(clock) if clock is not None else None

    def is_yesterdays(self, task: Task, now: float) -> bool:
        """Whether an answer belongs to a day, month or year that has passed."""
        return task.ask.dated and task.command != self.command(task, now)

    def state(self, now: float) -> Mapping[str, Value]:
        """Return the value of every announced key; null where nothing is known or it has grown too old."""
        values = self._nothing.copy()
        for task in self.tasks.values():
            if task.values and now - task.at <= task.max_age and not self.is_yesterdays(task, now):
                values.update(task.values)
        return values


LIVELY = frozenset({
    "equalization_active", "equalization_elapsed_hours", "output_priority_now", "charger_priority_now", "flags",
})  # fmt: skip
"""What stands beside settings and changes by itself, or says again what others say."""
TOLD_AGAIN = {
    "charger_source_priority": "charger_source_priority",
    "max_charging_current": "max_charger_current",
    "max_ac_charging_current": "max_ac_charger_current",
    "output_mode": "output_mode",
}
"""Settings of the unit on the cable, and the keys under which QPGSn tells them again."""
MOVED_ALONG = {"charger_source_priority": "QCHPT", "output_source_priority": "QOPPT"}
"""Settings of the unit on the cable, and questions whose answers change with them: the priorities of each hour."""
OF_A_UNIT = frozenset(TOLD_AGAIN.values())
"""What QPGSn tells of a unit's settings, among what it measures."""


def changes(
    before: Mapping[str, Value], after: Mapping[str, Value], only: frozenset[str] | None = None
) -> Iterator[tuple[str, Value, Value]]:
    """Yield key, old and new value of each setting that is another one now; what was or is not known is none."""
    for key, new in after.items():
        old = before.get(key)
        if key in LIVELY or key.endswith("_code") or (only is not None and key not in only):
            continue
        if old is not None and new is not None and old != new:
            yield key, old, new
