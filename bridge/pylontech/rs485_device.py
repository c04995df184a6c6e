"""A stack of Pylontech modules on one RS485 pair.

A round asks every module that answers; the next question is on the wire before the last answer is decoded and
published, so the bus never waits for this program. What a module measures is asked last and published at once
with all that is known of it; the stack follows at the end of the round. After that come, one at a time, modules
whose identity is in doubt, one that was silent, and one address where a module may have been added.

Identity comes before names: a module's serial number is read before its values are believed: at first,
after silence, after each opening of the port, when a reading does not follow from the one before, and now and then.
After a silence of all, as between two rounds that are far apart, one of them speaks for the whole stack.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from math import ceil
from typing import Any

from bridge import battery as k
from bridge.errors import NoReply, ProtocolError
from bridge.fields import Reading
from bridge.pylontech import messages as m
from bridge.pylontech import values as v
from bridge.pylontech.connection import Answer
from bridge.pylontech.frame import SMALLEST, Refusal
from bridge.pylontech.questions import (
    DEAD_CODES,
    FIRST,
    LAST,
    PROTOCOL_VERSION,
    ROUTINE,
    Question,
    Station,
    group_question,
    named,
    question,
)
from bridge.pylontech.rs485_reader import VERSION_ASKED, StackReader, Steps

GIVE_UP_SCAN = 2
"""Silent addresses in a row after which the first look at a group ends."""
FOUND_WITHIN = 45.0
"""Seconds in which every address without a module is asked once."""
LEAST_BETWEEN_PROBES = 2.0
"""Seconds at least from one poll that looks for added modules to the next that does."""
LOOKING = 1.0
"""Seconds of silence after which a poll looks no further."""
WITNESSES = 2
"""Modules that are asked at most whether the stack is still the same; to ask all is as good then."""
NAMELESS = 12
"""Times that a module must keep its serial number to itself to be believed to have lost it."""


class StackDevice(StackReader):
    """All modules on one RS485 pair: who is asked what, and when. Owned by one thread."""

    def refresh(self) -> None:
        self._scan_wanted = True
        self._group_refused_until.clear()
        for station in self._stations.values():
            station.due.clear()
            station.refused_until.clear()
            station.retry_at = 0.0

    def poll(self) -> Iterator[Reading | None]:
        started = time.monotonic()
        self._good = 0
        line = self._the_line()
        line.noise = False
        yield from self._prove()
        yield from self._round()
        yield from self._look_after()
        if self._good == 0:
            yield from self._look_everywhere()
        if self._good == 0:
            noise = "bytes come, but no frames: is the baud rate right, and the polarity of the pair?"
            raise NoReply(noise if line.noise else "no module answers")
        self._note_duration(time.monotonic() - started)

    def _prove(self) -> Steps:
        """Where the cable may have been put into another stack, ask one who is known whether he is still there.

        If he is, so are the others; else each has to say who he is.
        """
        line = self._the_line()
        if self._in_flight is not None or not line.in_doubt:
            return
        known = [station for _, station in sorted(self._stations.items()) if station.verified]
        witnesses = [station for station in known if self._named(station)]
        for station in witnesses[:WITNESSES]:
            asked = question(m.SERIAL_NUMBER, station.address)
            heard = yield from self._ask(asked)
            try:
                if isinstance(heard, Answer):
                    self._take(asked, heard)
                    if not station.verified:
                        break
                    self._asked_now(station, m.SERIAL_NUMBER, time.monotonic())
                    line.trust()
                    return
            except ProtocolError as err:
                self._context.tally.failed(err.kind, f"{named(asked)}: {err}")
            station.doubt()
        if witnesses:
            self._doubt_all()
        else:
            line.trust()  # by their places alone nobody tells them from others

    # -- the round: everybody who answers, without a gap

    def _round(self) -> Iterator[Reading | None]:
        if self._in_flight is None:
            self._queue = self._plan()
        while True:
            held: tuple[Question, Answer] | None = None
            while self._in_flight is not None or self._queue:
                if self._in_flight is None:
                    self._send(self._queue.popleft())
                yield from self._tell(held)
                held = self._hear()
            if self._options.interval == 0 and self._good and not self._has_more_to_do():
                # the first question of the next round is on the wire while this one's end is published
                self._queue = self._plan()
                if self._queue:
                    self._send(self._queue.popleft())
            yield from self._tell(held, last=True)
            if self._in_flight is not None or not self._queue:
                return
            # a whole group's answer could not be read: its modules are asked one by one, in this round still

    def _plan(self) -> deque[Question]:
        """Return the questions of one round."""
        now = time.monotonic()
        ready = [station for _, station in sorted(self._stations.items()) if station.verified]
        queue: deque[Question] = deque()
        grouped = self._grouped(ready, now)
        queue += [self._of_group(*key, grouped[key], now) for key in sorted(grouped) if key[1] == m.ALARM]
        for station in ready:
            for command in ROUTINE:
                if (station.address >> 4, command) not in grouped and station.asks(command, now):
                    queue.append(question(command, station.address))
                    self._asked_now(station, command, now)
        queue += [self._of_group(*key, grouped[key], now) for key in sorted(grouped) if key[1] == m.ANALOG]
        rare = self._rare(ready, now)
        if rare is not None:
            queue.appendleft(rare)
        return queue

    def _of_group(self, group: int, command: int, count: int, now: float) -> Question:
        """Return the question to a whole group, as asked of each of its modules."""
        for station in self._members(group):
            self._asked_now(station, command, now)
        return group_question(command, group, count)

    def _grouped(self, ready: list[Station], now: float) -> dict[tuple[int, int], int]:
        """Return which questions go to whole groups, with the number of modules there.

        A group's answer names no addresses: it can be told apart only while every module of the group is there.
        """
        if self._options.request != "group":
            return {}
        found = {}
        for group in {station.address >> 4 for station in ready}:
            members = [station for station in self._stations.values() if station.address >> 4 == group]
            whole = all(station.verified for station in members)
            for command in (m.ALARM, m.ANALOG):
                refused = now < self._group_refused_until.get((group, command), 0.0)
                if whole and not refused and any(station.asks(command, now) for station in members):
                    found[group, command] = len(members)
        return found

    def _rare(self, ready: list[Station], now: float) -> Question | None:
        """Return the one slow question that is due for longest: a serial number, a version, a setting."""
        due: list[tuple[float, int, int]] = []
        for number, station in enumerate(ready):
            commands = (m.SERIAL_NUMBER, m.FIRMWARE, *(self._of_the_master if number == 0 else ()))
            due += [(station.due.get(c, 0.0), c, station.address) for c in commands if station.asks(c, now)]
        if not due:
            return None
        _, command, address = min(due)
        self._asked_now(self._stations[address], command, now)
        return question(command, address)

    def _asked_now(self, station: Station, command: int, now: float) -> None:
        """Note when a command is due again, if it is answered: half a round early, or it would come a round late."""
        every = self._every.get(command, 0.0)
        station.due[command] = now + every - min(every, self._options.interval) / 2 if every else 0.0

    # -- after the round, one at a time: who is in doubt, who was silent, who is new

    def _has_more_to_do(self) -> bool:
        now = time.monotonic()
        waiting = any(not s.verified and now >= s.retry_at for s in self._stations.values())
        return waiting or self._scan_wanted or self._stranger(now) is not None

    def _look_after(self) -> Iterator[Reading | None]:
        if self._in_flight is not None:
            return
        now = time.monotonic()
        doubtful = [s for s in self._stations.values() if not s.verified and now >= s.retry_at]
        for station in doubtful:
            if not station.misses:
                yield from self._find(station)
        silent = [s for s in doubtful if s.misses and not s.verified]
        if silent:
            yield from self._find(min(silent, key=lambda station: station.retry_at))
        if self._scan_wanted:
            yield from self._scan()
        yield from self._look_for_strangers()
        if self._root_news:
            yield from self._tell(None, last=True)

    def _look_for_strangers(self) -> Steps:
        """Ask addresses where a module may have been added: one, or as many as it takes where polls are rare."""
        began = time.monotonic()
        if self._stranger(began) is None:
            return
        count, pause = self._probes()
        for _ in range(count):
            self._probe_due = 0.0
            stranger = self._stranger(began)
            if stranger is None:
                break
            if self._gap_is_next():
                self._gap_last = stranger
            else:
                self._probe_last = stranger
            alive = yield from self._probe(stranger)
            if alive and stranger in self._stations:
                return  # where somebody is found, more may be: the next address is asked behind the next round
            self._gap_turn = not self._gap_turn
            if time.monotonic() - began >= LOOKING:
                break
        # at a line that is kept busy the pause is one without probes, else it is told by the polls
        self._probe_due = (began if self._options.interval else time.monotonic()) + pause

    def _look_everywhere(self) -> Iterator[Reading | None]:
        """Ask one more, whoever has waited longest: nobody answered, so the line has time."""
        silent = [s for s in self._stations.values() if time.monotonic() < s.retry_at]
        if silent:
            yield from self._find(min(silent, key=lambda station: station.retry_at))
        elif not self._stations:
            self._scan_wanted = True
            yield from self._scan()
        if self._root_news:
            yield from self._tell(None, last=True)

    def _strangers(self) -> list[int]:
        """Return the addresses where nobody is known, none where the configuration names the modules."""
        if self._options.modules != "auto":
            return []
        groups, numbers = sorted(set(self._options.groups)), range(FIRST, LAST + 1)
        every = (16 * group + number for group in groups for number in numbers)
        return [address for address in every if address not in self._stations]

    def _stranger(self, now: float) -> int | None:
        """Return the next address to look for an added module at, None while that is not due."""
        if now < self._probe_due or not self._stations:
            return None
        if self._gap_is_next():
            gaps = self._gaps()
            return next((a for a in gaps if a > self._gap_last), gaps[0])
        strangers = self._strangers()
        return next((a for a in strangers if a > self._probe_last), strangers[0]) if strangers else None

    def _gap_is_next(self) -> bool:
        return self._gap_turn and bool(self._gaps())

    def _gaps(self) -> list[int]:
        """Return the addresses in front of known ones in their group. Every other probe goes there.

        Modules number themselves along their cable without gaps, so somebody is there and was silent when this began.
        """
        last = {address >> 4: address for address in sorted(self._stations)}
        return [address for address in self._strangers() if address < last.get(address >> 4, 0)]

    def _probes(self) -> tuple[int, float]:
        """Return how many addresses to ask in one poll, and how soon again, so that each has its turn in FOUND_WITHIN.

        A line that is kept busy (no interval) is asked for one at a time, however long that takes.
        """
        probes = max(1, len(self._strangers()) * (2 if self._gaps() else 1))
        interval = self._options.interval
        if not interval:
            return 1, max(LEAST_BETWEEN_PROBES, FOUND_WITHIN / probes)
        count = ceil(probes * max(interval, LEAST_BETWEEN_PROBES) / FOUND_WITHIN)
        # the next poll that is due counts, and that comes an interval later at most
        return min(count, probes), max(LEAST_BETWEEN_PROBES - interval / 2, count * FOUND_WITHIN / probes - interval)

    def _scan(self) -> Steps:
        """Look at each group from its master on, until two in a row are silent."""
        self._scan_wanted = False
        if self._options.modules != "auto":
            return
        strangers = self._strangers()
        for group in sorted(set(self._options.groups)):
            silent = 0
            for address in range(16 * group + FIRST, 16 * group + LAST + 1):
                if address in strangers:
                    alive = yield from self._probe(address)
                    silent = 0 if alive else silent + 1
                if silent == GIVE_UP_SCAN:
                    break
        self._probe_due = time.monotonic() + LEAST_BETWEEN_PROBES

    def _probe(self, address: int) -> Steps:
        """Ask an address where nobody is known; return whether somebody answers."""
        version = m.request(m.VERSION_OF_PROTOCOL, address)
        answer = yield from self._ask(Question(address, m.VERSION_OF_PROTOCOL, version, SMALLEST, stranger=True))
        alive = isinstance(answer, Answer) or (isinstance(answer, Refusal) and answer.code not in DEAD_CODES)
        if not alive:
            return False
        self._note_version(answer)
        station = self._stations[address] = Station(address)
        yield from self._find(station)
        if not station.verified and str(address) not in self._units.places:
            del self._stations[address]
        return True

    def _note_version(self, answer: Any) -> None:
        if isinstance(answer, Answer):
            told: v.Values = {PROTOCOL_VERSION.key: m.protocol_version(answer.frame.version)}
            self._units.take_root(self._sources[VERSION_ASKED], told, answer.at)

    def _find(self, station: Station) -> Steps:
        """Learn who is at an address, and what it measures."""
        station.due.clear()
        yield from self._identify(station)
        if station.verified:
            answer = yield from self._ask(question(m.ANALOG, station.address))
            if isinstance(answer, Answer):
                yield from self._tell((question(m.ANALOG, station.address), answer))
            else:
                self._draw_consequences(question(m.ANALOG, station.address, again=True), answer)

    def _identify(self, station: Station) -> Steps:
        """Read the serial number until it can be believed; an address where none is told is known by its address."""
        asked = question(m.SERIAL_NUMBER, station.address)
        for _ in range(4):
            # one that told its number before is asked for it all the same: see _serial
            greeting = time.monotonic() < station.refused_until.get(m.SERIAL_NUMBER, 0.0) and not self._named(station)
            heard = yield from (self._greet(station) if greeting else self._ask(asked))
            if isinstance(heard, NoReply) or (isinstance(heard, Refusal) and heard.code in DEAD_CODES):
                self._units.vacant(station.place)
                break
            try:
                if self._believe(station, None if greeting else self._serial(station, heard)):
                    return
            except ProtocolError as err:
                self._context.tally.failed(err.kind, f"{named(asked)}: {err}")
        station.silent(time.monotonic())

    def _named(self, station: Station) -> bool:
        module = self._units.places.get(station.place)
        return module is not None and module.serial is not None

    def _serial(self, station: Station, heard: Any) -> str | None:
        """Return the serial number that was heard, None where the module tells none. Raises ProtocolError.

        A module that told one before is not believed to have none before it has refused many times.
        """
        told = None
        if isinstance(heard, Answer):
            told = m.serial_number(heard.frame.info, station.address)[k.SERIAL.key]
        elif isinstance(heard, Refusal):
            self._refused(station, question(m.SERIAL_NUMBER, station.address, again=True), heard)
        else:
            raise heard
        if told is None and self._named(station):
            station.nameless += 1
            if station.nameless < NAMELESS:
                raise ProtocolError("foreign", "no serial number any more")
        station.nameless = 0 if told is not None else station.nameless
        return None if told is None else str(told)

    def _greet(self, station: Station) -> Steps:
        """Ask a module without a serial number for a sign of life."""
        request = m.request(m.VERSION_OF_PROTOCOL, station.address)
        answer = yield from self._ask(Question(station.address, m.VERSION_OF_PROTOCOL, request, SMALLEST))
        return answer

    def _believe(self, station: Station, serial: str | None) -> bool:
        """Take note of a serial number; return whether it is settled who is there."""
        before = self._units.places.get(station.place)
        module = self._units.claim(station.place, serial)
        if module is None:
            return False
        if module is not before:
            station.begin()
        station.answered()
        if not any(other.verified for other in self._stations.values()):
            # the first to be back after a silence of all: the line was at fault, so nobody need be waited for
            self._the_line().trust()
            for other in self._stations.values():
                other.retry_at = 0.0
        station.verified = True
        station.due[m.SERIAL_NUMBER] = time.monotonic() + self._options.identity_interval
        for other in self._stations.values():
            # somebody who was believed to be there has turned up here
            other.verified &= other.place in self._units.places
        return True
