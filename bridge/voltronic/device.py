"""An Axpert or kin on one cable: asks, reads, and tells what changed.

A round asks the status (QPIGS, GS) first and publishes it at once; then the other fast questions, the units of a
parallel set, and as many slow questions as fit before the next round is due, one at least. What was refused is
remembered for an hour, what was not answered is asked again with growing pauses. A setting is written between any two
questions: however many are to be, the status is asked in time.

A value goes into the state topic only while it is younger than the age limit of its question; after that its
key says null. Identity comes before names: nothing is published under a serial number before the unit on the cable
gave it, after each opening anew, and (reader.py) after each silence in which the cable may have been moved.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from bridge.devices import Context, Found
from bridge.errors import CommandError, NoReply, ProtocolError, Stopped
from bridge.fields import Field, Reading, Unit, Value
from bridge.inbox import Foreign, ReadRegisters, SetSetting
from bridge.voltronic.connection import Answer, Line, Speech
from bridge.voltronic.known import (
    LONE,
    LONGEST_PAUSE,
    OF_A_UNIT,
    REFUSED_FOR,
    SET,
    SILENT_FOR,
    Known,
    Patience,
    Task,
    changes,
)
from bridge.voltronic.members import Members
from bridge.voltronic.options import Options, Topics
from bridge.voltronic.plan import MEASURED, PI18_PLAN, PI30_PLAN, PI41_PLAN, PLANS, Pace, Plan
from bridge.voltronic.reader import Asker

if TYPE_CHECKING:
    from bridge.settings import Documented
    from bridge.transports.base import Stop
    from bridge.voltronic.desk_device import Desk
    from bridge.voltronic.inquiry import Decoded, Inquiry
    from bridge.voltronic.setter_device import Read
    from bridge.writing import Writer

__all__ = ["AxpertDevice", "Options", "Topics", "build", "documented_fields", "documented_settings", "sound_out_port"]

log = logging.getLogger(__name__)

ROOM = 1.0
"""Seconds that must be left before the next round for one more slow question."""
COMMANDS_SHARE = 0.25
"""For which part of the age limit commands may put off the next status, but for the one before each round."""


def documented_fields() -> dict[str, tuple[Field, ...]]:
    """Return every field a device of this type can announce, by kind of unit."""
    from bridge.voltronic import documents

    return documents.documented_fields()


def documented_settings() -> dict[str, tuple[Documented, ...]]:
    """Return everything that can be set on a device of this type, by kind of unit."""
    from bridge.voltronic import documents

    return documents.documented_settings()


def sound_out_port(port: str, stop: Stop) -> list[Found]:
    """Return the inverter that answers on a port, if any; see sounding.py."""
    from bridge.voltronic import sounding

    return sounding.sound_out_port(port, stop)


def build(options: Options, context: Context) -> AxpertDevice:
    """Return the device for one entry of the configuration; its port is still closed."""
    return AxpertDevice(options, context)


class AxpertDevice:
    """The inverter on one port, with the parallel set it belongs to. Owned by one thread."""

    writer: Writer
    """Not there until something is to be written."""

    def __init__(self, options: Options, context: Context) -> None:
        self._options = options
        self._context = context
        self._age = options.max_age or max(10.0, 3 * options.interval)
        self._pi18_first = False
        self._desk: Desk | None = None
        self._learn_anew()
        if options.writes:
            self._open_desk()

    @property
    def interval(self) -> float:
        return self._options.interval

    def open(self) -> None:
        from bridge.transports.ports import open_port

        self.close()
        link = open_port(self._options.port, self._options.baud, self._context.stop)
        self._learn_anew(self.known, Line(link, self._context.tally))

    def close(self) -> None:
        self._asker.close()

    def fileno(self) -> int | None:
        return None  # nothing comes unasked

    def receive(self) -> Iterator[Reading | None]:
        return iter(())

    def refresh(self) -> None:
        self._everything = True
        self._asker.forget_refusals()

    def obey(self, command: ReadRegisters | SetSetting | Foreign) -> Iterator[Reading | None]:
        if isinstance(command, SetSetting):
            yield from self._open_desk().writer.admit(command)
        else:
            raise CommandError("an axpert has no registers to read")

    def _open_desk(self) -> Desk:
        """Return where settings are written; loaded only where somebody writes, or tries to."""
        if self._desk is None:
            from bridge.voltronic.desk_device import Desk

            self._desk = Desk(self._options, self, self._context.records)
            self.writer = self._desk.writer
        return self._desk

    def poll(self) -> Iterator[Reading | None]:
        until = time.monotonic() + self._options.interval
        yield from self._serve(first=True)
        for reading in self._round():
            yield reading
            if self._has_time():
                yield from self._serve(first=False)
        yield from self._serve_on(until)

    def _serve(self, *, first: bool) -> Iterator[Reading | None]:
        """Let one command have its turn: before a round, and between any two of its questions."""
        if self._desk is not None:
            yield from self._desk.serve(first=first)

    def _has_time(self) -> bool:
        """Whether the status is so young that a command may come before it; each of them takes seconds."""
        return self.known.plan is not None and time.monotonic() - self.known.status().at < self._age * COMMANDS_SHARE

    def _serve_on(self, until: float) -> Iterator[Reading | None]:
        """Carry out what still waits, until the next round is due: that may be an hour away."""
        before = math.inf
        while self._desk is not None and 0 < self._desk.writer.waiting() < before and time.monotonic() < until:
            before = self._desk.writer.waiting()
            yield from self._serve(first=False)

    def _round(self) -> Iterator[Reading | None]:
        started = time.monotonic()
        self._asker.begin_round()
        if self.known.plan is None:
            yield from self._find_protocol()
        else:
            yield from self._ask_fast(self.known.status())
        yield from self._identify()
        yield from self._ask_others()
        yield from self._slow(started)
        if self._desk is not None:
            yield from self._desk.keep_time()
        if self._asker.good == 0:
            raise NoReply("no answer but refusals and damaged ones" if self._asker.failed else "no answer")
        yield self._if_changed(self.known.newest)

    # -- what is known

    def _learn_anew(self, former: Known | None = None, line: Line | None = None) -> None:
        """Forget everything that the unit on the cable said; of a `former` one the announced keys stay."""
        self.known = Known(self._options, self._age, former)
        self._asker = Asker(self._options, self._context, self.known, line)
        self._identify_due = self._name_due = 0.0
        self.members = Members(self._options.name, self._age, self._options.parallel, self._options.settings_interval)
        self._unit_news: list[tuple[int, Answer]] = []
        self._everything = False
        self._published: Mapping[str, Value] = {}
        if self._desk is not None:
            self._desk.meant.forget()
        if self._options.protocol != "auto":
            self.known.speak(PLANS[self._options.protocol])

    def _store(self, task: Task, answer: Answer, command: str) -> None:
        before = task.values
        self.known.store(task, answer.decoded, answer.at, command)
        if task.ask.pace is Pace.SETTINGS and task.ask.name not in MEASURED:
            self._tell_changes("", task.ask.name, before, task.values, answer.at)
        if self._desk is not None and task.ask.pace in (Pace.SETTINGS, Pace.ENERGY):
            self._offer(self._desk)

    def _offer(self, desk: Desk) -> None:
        """Bring what can be set up to date: the unit has told its ratings, or what it lists."""
        controls = desk.controls({item.key for item in self.known.root.fields})
        if controls != self.known.controls:
            self.known.controls = controls
            self.known.renew_root()
        self.members.controls = desk.controls(OF_A_UNIT, of_member=True)

    def _tell_changes(
        self, path: str, question: str, before: Mapping[str, Value], after: Mapping[str, Value], at: float
    ) -> None:
        """Log and record what somebody else has set: the panel, another program."""
        found: Iterable[tuple[str, Value, Value]] = changes(before, after, OF_A_UNIT if path else None)
        if self._desk is not None:
            found = self._desk.meant.others(path, question, after, found, at)
        for key, old, new in found:
            name = f"{self._options.name} {path}".rstrip()
            log.info("%s: %s was changed from %s to %s, not by a command of ours", name, key, old, new)
            if (records := self._context.records) is not None:
                records.note_change(self._options.name, path, {"setting": key, "old": old, "new": new})

    # -- readings

    def _reading(self, at: float) -> Reading:
        self._published = self.known.state(time.monotonic())
        return Reading(self.known.root, self._published, at)

    def _if_changed(self, at: float) -> Reading | None:
        """Return the state if it says something new since it was last published."""
        changed = self._published and self.known.state(time.monotonic()) != self._published
        return self._reading(at) if changed else None

    def _unit_contract(self) -> Reading | None:
        """Return the status as the Hassio add-on publishes it, once the serial number is known."""
        name, task = self._options.topics.unit, self.known.status()
        if name is None or task.decoded is None or ("{sn}" in name and self.known.serial is None):
            return None
        values = task.inquiry.contract(task.decoded)
        told = name.replace("{sn}", self.known.serial or "")
        return Reading(self.known.root, values, task.at, told) if values else None

    # -- which protocol, which unit

    def _find_protocol(self) -> Iterator[Reading | None]:
        """Take up the protocol whose status question is answered. Raises NoReply when none is.

        The status is asked before the protocol's name, so that it is published after the very first answer.
        """
        plans = (PI18_PLAN, PI30_PLAN) if self._pi18_first else (PI30_PLAN, PI18_PLAN)
        self._pi18_first = not self._pi18_first  # a unit may be dumb to what it does not know: begin with the other
        found = False
        try:
            for plan in plans:
                yield from self._try_pi18() if plan is PI18_PLAN else self._try_pi30()
                found = self.known.status().decoded is not None or (self.known.sure and plan is PI30_PLAN)
                if found:
                    return
        finally:
            if not found:
                self.known.plan = None
        raise NoReply("neither PI30 nor PI18 is answered")

    def _try_pi30(self) -> Iterator[Reading | None]:
        """Ask for the status; where that says nothing, for the protocol's name.

        This is the first question of most starts. What answers mean is loaded when it is out: the line is busy then.
        """
        self.known.plan, self.known.sure = None, False
        speak = partial(self.known.speak, PI30_PLAN)
        answer = self._asker.question(
            PI30_PLAN.status, lambda text: self.known.status().inquiry.decode(text), meanwhile=speak
        )
        yield from self._take_fast(self.known.status(), answer)
        if self.known.status().decoded is None:
            yield from self._name_protocol()

    def _try_pi18(self) -> Iterator[Reading | None]:
        """Ask for the protocol's name, since other units know some of its questions; then for the status."""
        self.known.speak(PI18_PLAN)
        self.known.sure = True
        answer = self._asker.question("PI", PI18_PLAN.table["PI"].decode)
        if answer is None or answer.decoded["protocol_id"] != "18":
            yield None
        else:
            yield from self._ask_fast(self.known.status())

    def _name_protocol(self) -> Iterator[Reading | None]:
        """Ask which member of the PI30 family it is, and take up its tables."""
        self._name_due = time.monotonic() + SILENT_FOR
        answer = self._asker.question("QPI", PI30_PLAN.table["QPI"].decode, "QPI")
        if answer is None and not self._asker.refuses("QPI"):
            yield None
            return
        name = answer.decoded["protocol_id"] if answer is not None else "PI30"
        if name not in ("PI30", "PI41"):
            self.known.plan = None
            raise NoReply(f"speaks {name}, which is not read here")
        self.known.sure = True
        before = self.known.status()
        if name == "PI41":
            self.known.speak(PI41_PLAN)
        if before.decoded is not None:
            self._store(self.known.status(), Answer(before.decoded, before.at), before.command)
        yield self._if_changed(before.at)

    def _identify(self) -> Iterator[Reading | None]:
        """Learn protocol and serial number, and see now and then that it is still the same unit."""
        now = time.monotonic()
        if not self.known.sure and now >= self._name_due:
            yield from self._name_protocol()
        if self.known.plan is None or now < self._identify_due or self._asker.refuses(self.known.plan.serial):
            return
        inquiry = self.known.plan.table[self.known.plan.serial]
        if self._asker.out_of_step(inquiry):
            return
        answer = self._asker.question(self.known.plan.serial, inquiry.decode, self.known.plan.serial)
        self._identify_due = now + (SILENT_FOR if answer is None else self._options.settings_interval)
        if answer is None:
            yield None
            return
        serial = answer.decoded["serial_number"]
        if self.known.serial is None:
            self.known.identify(serial)
            self._asker.line.trust()
            yield self._unit_contract()
        elif serial != self.known.serial:
            raise self._asker.another_inverter()

    # -- the parts of a round

    def _is_fast(self, task: Task) -> bool:
        """Whether a task is asked in every round: a basic one, or one that has been answered."""
        answered = task.at > 0 and not self._asker.refuses(task.ask.name)
        return task.ask.pace is Pace.FAST and (task.ask.basic or answered)

    def _is_due(self, patience: Patience) -> bool:
        return patience.due <= time.monotonic() or self._everything

    def _ask_fast(self, task: Task) -> Iterator[Reading | None]:
        """Ask one of the questions of every round and publish what it changed; the status always."""
        silent = self._asker.silent
        answer = self._asker.question(task.ask.command, task.inquiry.decode, None if task.ask.basic else task.ask.name)
        if answer is None and not task.ask.basic and self._asker.silent > silent:
            task.put_off(time.monotonic(), LONGEST_PAUSE)
        yield from self._take_fast(task, answer)

    def _take_fast(self, task: Task, answer: Answer | None) -> Iterator[Reading | None]:
        if answer is None:
            yield None
            return
        self._store(task, answer, task.ask.command)
        if task is not self.known.status():
            yield self._if_changed(answer.at)
            return
        yield self._reading(answer.at)
        contract = self._unit_contract()
        if contract is not None:
            yield contract

    def _ask_others(self) -> Iterator[Reading | None]:
        """Ask what is asked in every round beside the status."""
        for task in list(self.known.tasks.values()):
            if task is not self.known.status() and self._is_fast(task) and self._is_due(task):
                yield from self._ask_fast(task)
        yield from self._walk()

    def _slow(self, started: float) -> Iterator[Reading | None]:
        """Ask the slow questions that are due: all that fit before the next round, one at least.

        Where everything is wanted at once they take many seconds: what every round tells is asked in between.
        """
        everything, self._everything = self._everything, False
        asked, fast_at = 0, started
        for task in self._due(everything):
            if asked and not everything and time.monotonic() + ROOM > started + self._options.interval:
                return
            if everything and time.monotonic() - fast_at > self._age / 2:
                fast_at = time.monotonic()
                yield from self._ask_fast(self.known.status())
                yield from self._ask_others()
            command = self.known.command(task, time.monotonic())
            if command is None or self._asker.out_of_step(task.inquiry) or self._asker.refuses(task.ask.name):
                continue
            asked += 1
            answer = self._asker.question(command, task.inquiry.decode, None if task.ask.basic else task.ask.name)
            now = time.monotonic()
            if answer is None:
                task.put_off(now, REFUSED_FOR)
                yield None
            else:
                task.due = now + task.interval
                self._store(task, answer, command)
                yield self._if_changed(answer.at)

    def _due(self, everything: bool) -> list[Task]:
        """Return the slow tasks to ask, longest overdue first; what belongs to another day is due at once."""
        now = time.monotonic()
        own = [task for task in self.known.tasks.values() if task.ask.pace is not Pace.SHARED]
        slow = [task for task in own if not self._is_fast(task)]
        due = [task for task in slow if everything or task.due <= now or self._is_of_another_day(task)]
        return sorted(due, key=lambda task: task.due)

    def _is_of_another_day(self, task: Task) -> bool:
        return self.known.is_yesterdays(task, time.monotonic()) and task.at > 0 and task.pause == SILENT_FOR

    # -- the parallel set

    def _walk(self) -> Iterator[Reading | None]:
        """Ask the units of the set; now and then look for units that joined it."""
        if self.known.plan is None or self.known.plan.parallel is None:
            return
        now = time.monotonic()
        looking = self.members.due_to_look(now)
        count = self.members.count(looking)
        if self._options.topics.parallel is not None or (self.members.searched and self._tells_alone(now)):
            count = max(count, 1)  # QPGS0 is wanted even of a lone inverter
        known, size, seen = self.members.last_known(), 0, set[str]()
        sure = True
        for place in range(count):
            answer = self._ask_place(place)
            yield from self._unit_readings(place, answer, seen) if answer is not None else (None,)
            sure &= answer is not None or self._asker.refuses(f"{self.known.plan.parallel}{place}")
            if answer is not None and answer.decoded["exists"] == 1:
                size = place + 1
            elif looking and place >= known:
                break  # the set ends here, or nobody knows
        if looking:
            self.members.looked(size, sure, now)

    def _tells_alone(self, now: float) -> bool:
        """Whether it is time to ask a lone inverter for what QPGS0 alone tells.

        That is measured, so its age limit is that of fast values, but on the line it is longer than the status: it is
        asked when half of its time is over, which leaves it a second attempt.
        """
        lone = self.known.tasks[LONE]
        return lone.at > 0 and now - lone.at >= lone.max_age / 2

    def _ask_place(self, place: int) -> Answer | None:
        """Ask the unit with this number in the set; None when it gave no answer or is not expected to give one."""
        if self.known.plan is None or self.known.plan.parallel is None:
            return None
        command = f"{self.known.plan.parallel}{place}"
        if self._asker.refuses(command) or not self._is_due(self.members.patience(place)):
            return None
        silent = self._asker.silent
        answer = self._asker.question(command, self.known.plan.table[self.known.plan.parallel].decode, command)
        if answer is not None:
            self.members.answered(place)
        elif self._asker.silent > silent:
            self.members.silent(place, time.monotonic())
        return answer

    def _unit_readings(self, place: int, answer: Answer, seen: set[str]) -> Iterator[Reading | None]:
        """Publish one unit of the set; an absent one says nothing, a lone one only what belongs to the root."""
        decoded, serial = answer.decoded, answer.decoded["serial_number"]
        if serial is None or not serial.strip("0") or (decoded["exists"] != 1 and place > 0):
            yield None
            return
        if serial in seen or (self.members.is_elsewhere(serial, place) and not self._asker.line.settled):
            self._context.tally.failed("foreign", f"QPGS{place}: the answer of another unit")
            yield None
            return
        self.members.found(serial, place)
        if not seen:
            self._store(self.known.tasks[SET], answer, SET)
        seen.add(serial)
        unit = self.known.root
        if decoded["exists"] == 1:
            values = self.known.unit_view.publish(decoded)
            before = self.members.values.get(serial, {})
            unit = self.members.told(serial, values, partial(self.known.unit_view.fields, decoded))
            self._tell_changes(serial, self.known.qpgs.command, before, values, answer.at)
            yield Reading(unit, values, answer.at)
        else:
            self._store(self.known.tasks[LONE], answer, LONE)
        if place == 0 and self._options.topics.parallel is not None:
            yield Reading(unit, self.known.qpgs.contract(decoded), answer.at, self._options.topics.parallel)
        yield self._if_changed(answer.at)

    # -- what a command of ours needs (setter_device.Hands)

    @property
    def speech(self) -> Speech:
        return self._asker.speech

    @property
    def root(self) -> Unit:
        return self.known.root

    def away(self) -> str | None:
        if not self._asker.connected:
            return "its port is not open"
        if self.known.plan is None or not self.known.sure:
            return "it has not said yet what it is"
        return "it does not answer" if time.monotonic() - self.known.newest > self._age else None

    def ask(self, command: str, inquiry: Inquiry, read: Read | None = None) -> Answer:
        answer = self._asker.ask(command, read or inquiry.decode)
        self._asker.good += 1
        task = self.known.tasks.get(command)
        if task is not None:
            self._store(task, answer, command)
            task.due = time.monotonic() + task.interval
        elif self.known.plan is not None and inquiry is self.known.plan.table.get(self.known.plan.parallel or ""):
            place = int(command.removeprefix(inquiry.command))
            self.members.answered(place)
            self._unit_news.append((place, answer))
        return answer

    def send(self, command: str, data: bytes) -> None:
        try:
            self._asker.prove()  # to record it on a slow card may have taken long
        except (NoReply, ProtocolError) as err:
            raise CommandError(f"not sent: {err}") from err
        self._context.beat()
        self._asker.line.set(self.speech, command, data)
        self._asker.good += 1

    def identify(self) -> Iterator[Reading | None]:
        self.until_settled()
        self._identify_due = 0.0
        yield from self._identify()

    def until_settled(self) -> None:
        while (seconds := self._asker.line.settles_in) > 0:
            self.wait(seconds)

    def wait(self, seconds: float) -> None:
        self._context.beat()
        if self._context.stop.wait(seconds):
            raise Stopped

    def number_on_cable(self) -> int:
        plan, own = self.known.plan, self.known.serial
        if plan is None or plan.parallel is None:
            return int(self.known.told("GS", "local_parallel_id") or 0)
        told: Decoded = {}
        for number in dict.fromkeys((self.members.place_of(own), 0)):
            told = self._told_of(plan, number)
            if own is not None and told.get("serial_number") == own and (told["exists"] == 1 or number == 0):
                return number
        if self.members.units:
            raise CommandError("the unit on the cable belongs to a set, and its number in it is not confirmed now")
        if told.get("exists") == 1 or self._is_of_a_set(plan, told):
            raise CommandError("the unit on the cable belongs to a set, and its number in it is not known")
        return 0

    def _told_of(self, plan: Plan, place: int) -> Decoded:
        """Return what is told now of the unit with this number in the set; nothing for a refusal."""
        try:
            return self.ask(f"{plan.parallel}{place}", plan.table[plan.parallel or ""]).decoded
        except ProtocolError as err:
            if err.kind != "refused":
                raise
            return {}

    def _is_of_a_set(self, plan: Plan, first: Decoded) -> bool:
        """Whether unit 0 is one of a set, and switched off or not heard: a lone unit would have told its own number."""
        # PI41 lists no mode for a lone unit, so its mode proves nothing
        mode = self.known.told(plan.ratings, "output_mode") if plan is PI30_PLAN else None
        return bool(mode) and not (first.get("serial_number") or "").strip("0")

    def counterparts(self, path: str, key: str) -> Iterator[tuple[str, str]]:
        return self.members.counterparts(path, key, self.known.serial)

    def news(self) -> Iterator[Reading]:
        told, self._unit_news = self._unit_news, []
        for place, answer in told:
            yield from (one for one in self._unit_readings(place, answer, set()) if one is not None)
        changed = self._if_changed(self.known.newest)
        if changed is not None:
            yield changed
