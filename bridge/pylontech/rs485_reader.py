"""One question to a stack on RS485 and what becomes of its answer: values of a module, a refusal, silence.

`rs485_device` decides what is asked, and when. An answer is held against what is known before it is believed:
what a module measures shows whether it is the same module, and only then does the rest count that it told since.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from bridge import battery as k
from bridge.devices import Context
from bridge.errors import LinkError, NoReply, ProtocolError
from bridge.fields import Reading
from bridge.pylontech import messages as m
from bridge.pylontech import system_messages as sm
from bridge.pylontech import values as v
from bridge.pylontech.connection import Answer, Line
from bridge.pylontech.frame import Refusal
from bridge.pylontech.questions import (
    ADDRESS,
    ASKS,
    DAMAGED_CODES,
    DEAD_CODES,
    INVERTER_SET,
    OF_THE_MASTER,
    ROOT_FIELDS,
    ROUTINE,
    Question,
    Station,
    fields_of,
    members_meant,
    named,
    question,
    record_size,
)
from bridge.pylontech.units import Module, Source, Units, age_limit

if TYPE_CHECKING:
    from bridge.pylontech.device import Options

log = logging.getLogger(__name__)

REFUSED_FOR, MEASURING_REFUSED_FOR = 3600.0, 5.0
"""Seconds for which a refusal is believed that was heard twice."""
WARNINGS_INTERVAL = 10.0
"""Seconds between questions of the inverter's set."""
UNANSWERED_FOR = 30.0
"""Seconds after which a slow question that was not answered is asked again."""
GROUP_PAUSE = 10.0
"""Seconds in which each module is asked by itself where the whole group did not answer, though it can, or where its
answer could not be read: of one absurd module all others would be silent too."""
SICK_AFTER = 3
"""Damaged answers in a row after which a module is asked as rarely as a silent one."""
LEAST_AGE = 10.0
ROUNDS = 3
"""The shortest of how many rounds counts as their pace: one that was held up tells nothing of the next."""
AGES = 4.0
"""For how many rounds readings stay true where a round takes long."""
VERSION_ASKED = "version"

Steps: TypeAlias = Generator[Reading | None, None, Any]
"""A run of exchanges; returns what came of it."""


class StackReader:
    """The line to a stack, and what is known of it. Owned by one thread."""

    def __init__(self, options: Options, context: Context) -> None:
        self._options = options
        self._context = context
        self._line: Line | None = None
        self._in_flight: Question | None = None
        self._queue: deque[Question] = deque()
        self._good = 0
        self._dialect_told = False
        self._scan_wanted = True
        self._probe_due = 0.0
        self._probe_last = self._gap_last = 0
        self._gap_turn = False
        self._group_refused_until: dict[tuple[int, int], float] = {}
        self._heard: set[int] = set()
        """What the master has answered at least once."""
        self._group_answered: set[tuple[int, int]] = set()
        self._stations: dict[int, Station] = {}
        self._news: list[Module] = []
        self._root_news = False
        self._every = {m.ALARM: options.alarms_interval, m.MANAGEMENT: options.limits_interval}
        self._every |= {m.SERIAL_NUMBER: options.identity_interval}
        self._every |= dict.fromkeys((m.FIRMWARE, *OF_THE_MASTER), options.settings_interval)
        self._every |= dict.fromkeys(INVERTER_SET, WARNINGS_INTERVAL)
        self._of_the_master = OF_THE_MASTER + INVERTER_SET * options.inverter_set
        self._least_age = self._age = options.max_age or max(LEAST_AGE, 3 * options.interval)
        self._durations: deque[float] = deque(maxlen=ROUNDS)
        self._units = Units(options.name, self._age, ROOT_FIELDS + sm.TOLD * options.inverter_set)
        self._set_sources()
        if options.modules != "auto":
            self._stations = {address: Station(address) for address in options.modules}
            self._units.expect(str(address) for address in options.modules)

    def _set_sources(self) -> None:
        def age(interval: float) -> float:
            return max(self._age, 3 * interval)

        options = self._options
        self._sources = {
            "measured": Source("measured", self._age, watched=True),
            "alarms": Source("alarms", age(options.alarms_interval)),
            "limits": Source("limits", age(options.limits_interval)),
            "serial": Source("serial", float("inf"), lasting=True),
            **{
                name: Source(name, age(options.settings_interval), lasting=True)
                for name in ("firmware", "identity", "parameters")
            },
            **{name: Source(name, age(WARNINGS_INTERVAL), lasting=True) for name in ("system", "warnings")},
            VERSION_ASKED: Source(VERSION_ASKED, float("inf"), lasting=True),
        }

    @property
    def interval(self) -> float:
        return self._options.interval

    def open(self) -> None:
        from bridge.transports.ports import open_port

        self.close()
        link = open_port(self._options.port, self._options.baud, self._context.stop)
        self._line = Line(link, self._options.baud, self._options.turnaround, self._context.tally)
        for station in self._stations.values():
            station.verified, station.misses, station.retry_at = False, 0, 0.0

    def close(self) -> None:
        self._in_flight = None
        self._queue.clear()
        if self._line is not None:
            self._line.close()
            self._line = None

    def fileno(self) -> int | None:
        return None  # nothing comes unasked

    def receive(self) -> Iterator[Reading | None]:
        return iter(())

    # -- a question, and what comes of it

    def _the_line(self) -> Line:
        if self._line is None:
            raise LinkError(f"{self._options.port}: not open")
        return self._line

    def _send(self, asked: Question) -> None:
        self._context.beat()
        self._the_line().send(asked)
        self._in_flight = asked

    def _hear(self) -> tuple[Question, Answer] | None:
        """Wait for the answer under way; None when there is none, whose consequences are drawn here."""
        asked, self._in_flight = self._in_flight, None
        if asked is None:
            return None
        heard = self._listen(asked)
        if isinstance(heard, Answer):
            if not self._the_line().doubted:
                return asked, heard
            self._doubt_all()
            return None
        self._draw_consequences(asked, heard)
        return None

    def _listen(self, asked: Question) -> Answer | ProtocolError | NoReply:
        """Return the answer, or why there is none, and count it."""
        try:
            answer = self._the_line().listen()
        except ProtocolError as err:
            self._context.tally.failed(err.kind, f"{named(asked)}: {err}")
            if isinstance(err, Refusal):
                self._good += 1
            elif "lookalike" in err.detail and not self._dialect_told:
                self._dialect_told = True
                log.warning("%s: %s; such frames are not read", self._options.name, err.detail)
            return err
        except NoReply as err:
            self._context.tally.failed("no_reply", str(err))
            return err
        self._context.tally.replies += 1
        self._good += 1
        return answer

    def _draw_consequences(self, asked: Question, err: ProtocolError | NoReply) -> None:
        """Ask again, ask more rarely, or count the module as silent."""
        if asked.group:
            self._group_failed(asked, err)
            return
        station = self._stations[asked.address]
        station.due[asked.command] = time.monotonic() + (0.0 if asked.command in ROUTINE else UNANSWERED_FOR)
        silent = isinstance(err, NoReply)
        if silent and asked.command in INVERTER_SET:
            if asked.command not in self._heard:
                station.refused_until[asked.command] = time.monotonic() + REFUSED_FOR
                log.info("%s: %s is not answered; asking again in an hour", self._options.name, named(asked))
            return
        if isinstance(err, Refusal):
            self._refused(station, asked, err)
            silent = err.code in DEAD_CODES
        elif isinstance(err, ProtocolError):
            station.failures += 1
            silent = station.failures >= SICK_AFTER
            if not asked.again and not silent:
                self._queue.appendleft(replace(asked, again=True))
        if silent:
            self._silent(station)
            self._queue = deque(other for other in self._queue if other.address != station.address or other.group)

    def _silent(self, station: Station) -> None:
        """Note that nobody answers at an address."""
        station.silent(time.monotonic())
        self._units.vacant(station.place)

    def _doubt_all(self) -> None:
        """Believe nothing of anybody who does not say first who he is: the cable may be in another stack."""
        self._queue.clear()
        for station in self._stations.values():
            station.doubt()

    def _refused(self, station: Station, asked: Question, err: Refusal) -> None:
        """Remember a refusal that was heard twice."""
        if err.code in DEAD_CODES:
            return
        if err.code in DAMAGED_CODES and not asked.again:
            self._queue.appendleft(replace(asked, again=True))
            return
        count = station.refusals[asked.command] = station.refusals.get(asked.command, 0) + 1
        if count >= 2:
            pause = MEASURING_REFUSED_FOR if asked.command == m.ANALOG else REFUSED_FOR
            station.refused_until[asked.command] = time.monotonic() + pause
            if count == 2:
                log.info("%s: %s is refused (%s)", self._options.name, named(asked), err.detail)

    def _group_failed(self, asked: Question, err: ProtocolError | NoReply) -> None:
        """Ask the modules one by one; for long where the model does not know the question to all."""
        if not asked.again:
            self._queue.appendleft(replace(asked, again=True))
            return
        key = (asked.address >> 4, asked.command)
        if isinstance(err, Refusal | NoReply):
            pause = GROUP_PAUSE if key in self._group_answered else REFUSED_FOR
            self._group_refused_until[key] = time.monotonic() + pause
            log.info("%s: %s is not answered; asking each module", self._options.name, named(asked))
        self._queue.extendleft(question(asked.command, station.address) for station in reversed(self._members(key[0])))

    def _members(self, group: int) -> list[Station]:
        return [s for _, s in sorted(self._stations.items()) if s.address >> 4 == group and s.verified]

    def _source(self, command: int) -> Source:
        return self._sources[ASKS[command].source]

    # -- answers become readings

    def _tell(self, held: tuple[Question, Answer] | None, *, last: bool = False) -> Iterator[Reading | None]:
        """Decode an answer and yield what it changed; at the end of the round the stack after its last module."""
        if held is not None:
            asked, answer = held
            try:
                self._take(asked, answer)
            except ProtocolError as err:
                self._context.tally.failed(err.kind, f"{named(asked)}: {err}")
        now = time.monotonic()
        news, self._news = self._news, []
        for module in news:
            if (reading := module.reading(now)) is not None:
                yield reading
        if last and self._root_news and (reading := self._units.root_reading(now)) is not None:
            self._root_news = False
            yield reading
        yield None

    def _take(self, asked: Question, answer: Answer) -> None:
        """Decode and keep an answer. Raises ProtocolError, of kind "implausible" where its module is in doubt then."""
        if asked.group:
            self._take_group(asked, answer)
            return
        station, ask = self._stations[asked.address], ASKS[asked.command]
        station.answered()
        station.refusals.pop(asked.command, None)
        values = ask.decode(answer.frame.info, asked.address)
        if not station.verified:
            return  # it fell into doubt while this answer was under way
        if asked.command == m.SERIAL_NUMBER:
            self._check_serial(station, values)
        elif asked.command in self._of_the_master:
            self._heard.add(asked.command)
            self._units.take_root(self._source(asked.command), values, answer.at)
            self._units.learn_root(model=values.get(v.MODEL.key), firmware=values.get(v.SOFTWARE.key))
            self._root_news = True
        else:
            self._keep(station, asked.command, values, answer)

    def _keep(self, station: Station, command: int, values: v.Values, answer: Answer, shape: bytes = b"") -> None:
        """Keep what a module said; all but its measurement only once that has shown that it is the same module."""
        module = self._units.places.get(station.place)
        if module is None:
            station.doubt()
            return
        if command != m.ANALOG:
            station.held[command] = values, answer.at
            return
        values[ADDRESS.key] = station.address
        info = shape or answer.frame.info[2:]
        try:
            module.take(self._source(command), values, answer.at, fields_of(info[0], info[1 + 2 * info[0]]))
        except ProtocolError:
            station.doubt()
            raise
        for other, (told, at) in station.held.items():
            module.take(self._source(other), told, at)
            if other == m.FIRMWARE:
                module.learn(firmware=told.get("mainline_version"))
        station.held.clear()
        self._news.append(module)
        self._root_news = True

    def _take_group(self, asked: Question, answer: Answer) -> None:
        """Keep the answer of a whole group, if it holds as many modules as are there."""
        members = self._members(asked.address >> 4)
        info = answer.frame.info
        try:
            records = m.analog_group(info) if asked.command == m.ANALOG else m.alarm_group(info)
        except ProtocolError as err:
            self._group_refused_until[asked.address >> 4, asked.command] = time.monotonic() + GROUP_PAUSE
            self._group_failed(replace(asked, again=True), err)
            raise
        if len(records) != len(members) or len(members) != members_meant(asked):
            miscount = ProtocolError("format", f"{len(records)} modules in a group of {len(members)}", info)
            self._group_failed(replace(asked, again=True), miscount)
            raise miscount
        self._group_answered.add((asked.address >> 4, asked.command))
        at = 2
        for station, values in zip(members, records, strict=True):
            shape = info[at:]
            if asked.command == m.ANALOG:
                at += record_size(shape)
            if values is None:
                self._silent(station)
                continue
            station.answered()
            try:
                self._keep(station, asked.command, values, answer, shape)
            except ProtocolError as err:
                self._context.tally.failed(err.kind, f"{station.place}: {err}")

    def _check_serial(self, station: Station, values: v.Values) -> None:
        """See that the module at an address is still the one it is taken for."""
        serial, module = values[k.SERIAL.key], self._units.places.get(station.place)
        if module is None or self._units.claim(station.place, None if serial is None else str(serial)) is not module:
            station.doubt()

    def _ask(self, asked: Question) -> Steps:
        """Ask and return the Answer, or the error that says why there is none."""
        self._send(asked)
        self._in_flight = None
        heard = self._listen(asked)
        yield None
        return heard

    def _note_duration(self, seconds: float) -> None:
        """Let readings stay true for some rounds at least, as long as rounds take long."""
        self._durations.append(seconds)
        if self._options.max_age is not None:
            return
        age = age_limit(AGES * min(self._durations), self._age, self._least_age)
        if age != self._age:
            self._age = age
            self._units.set_max_age(age)
            self._set_sources()
