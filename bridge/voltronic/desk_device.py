"""Where set commands of one Axpert arrive: which settings its unit has, with which bounds; its clock kept in time."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Set
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from bridge.clock import SANE_YEAR
from bridge.errors import CommandError, NoReply, ProtocolError
from bridge.fields import Channel, Reading, Unit
from bridge.inbox import SetSetting
from bridge.settings import NOW, Number, Press
from bridge.voltronic.meant import Meant
from bridge.voltronic.options import Options
from bridge.voltronic.setter_device import Hands, MemberTarget, Target, target_for
from bridge.voltronic.settings import PI30_UNIT_SETTERS, Setter, kind_of, nearest, setters_of
from bridge.writing import Records, Writer

log = logging.getLogger(__name__)

DRIFT = 120.0
"""Seconds that the unit's clock may be off before it is set."""
DAY = 86_400.0
COMMAND_AGE = 30.0


class Desk:
    """The writing of one device's settings. Owned by the device's thread."""

    def __init__(self, options: Options, hands: Hands, records: Records | None) -> None:
        self.writer = Writer(options, self, records)
        self._options = options
        self.meant = Meant(hands.counterparts)
        self._hands = hands
        self._sync_due = 0.0
        self._clock_refused = False

    # -- what bridge.writing asks

    def unit(self, path: str) -> Unit:
        return self._hands.members.member(path)[0] if path else self._hands.root

    def away(self) -> str | None:
        return self._hands.away()

    def target(self, path: str, name: str) -> Target:
        if path:
            _, number = self._hands.members.member(path)
            return MemberTarget(self._hands, self._row(PI30_UNIT_SETTERS, name), self.meant, path, number)
        return target_for(self._hands, self._row(setters_of(self._protocol()), name), self.meant)

    def _protocol(self) -> str:
        plan = self._hands.known.plan
        if plan is None or not self._hands.known.sure:
            raise CommandError("the unit has not said yet which protocol it speaks")
        return plan.protocol

    def _row(self, rows: tuple[Setter, ...], name: str) -> Setter:
        """Return the row of a setting with the bounds of this unit. Raises CommandError."""
        named = [row for row in rows if row.key == name]
        if not named:
            raise CommandError(f"{name[:40]!a} is no setting here; {nearest(name, rows)}")
        ratings = self._hands.known.ratings()
        if ratings is None or ratings.decoded is None:
            raise CommandError("the unit's ratings have not been read yet; in a moment they will be")
        kind = kind_of(self._protocol(), ratings.decoded)
        fitting = [row for row in named if row.fits(kind, ratings.decoded.get("ac_output_rating_voltage"))]
        if not fitting:
            raise CommandError(f"{name} cannot be set on a unit of this kind ({kind.value})")
        row = fitting[0].bounded(ratings.decoded.get("battery_rating_voltage"), self._options.bounds)
        return self._narrowed(row)

    def _narrowed(self, row: Setter) -> Setter:
        """Return a row of listed values with those that the unit listed, once it did."""
        task = self._hands.known.tasks.get(row.listed)
        if task is None or task.decoded is None or not isinstance(row.spelling, Number):
            return row
        amperes = [Decimal(value) for value in task.decoded["values"]]
        among = tuple(one for one in amperes if row.spelling.minimum <= one <= row.spelling.maximum)
        if not among:
            return row
        return replace(row, spelling=Number(min(among), max(among), Decimal(1), among))

    # -- what the device asks

    def controls(self, announced: Set[str], *, of_member: bool = False) -> tuple[Setter, ...]:
        """Return what may be set on the unit on the cable, or on one of its set, with its bounds."""
        if not self.writer.on or self._hands.away() is not None:
            return ()
        return tuple(self._offered(PI30_UNIT_SETTERS if of_member else setters_of(self._protocol()), announced))

    def _offered(self, rows: tuple[Setter, ...], announced: Set[str]) -> Iterator[Setter]:
        for key in dict.fromkeys(row.key for row in rows):
            try:
                row = self._row(rows, key)
            except CommandError:
                continue
            if self.writer.may(row) and (key in announced or isinstance(row.spelling, Press)):
                yield row

    def serve(self, *, first: bool) -> Iterator[Reading | None]:
        """Carry out one command that was admitted, and settle what was interrupted; `first` of all in a round."""
        if not self.writer.busy() or self._hands.away() is not None:
            return
        if not self._ratings_known(ask=first):
            yield None
            return
        if self.writer.interrupted() and self._hands.known.serial is None:
            yield from self._hands.identify()
        for reading in self.writer.work(1):
            yield from self._tell(reading)

    def _ratings_known(self, *, ask: bool) -> bool:
        """Whether it is known what the unit is rated for: its bounds, and after a restart what to read back."""
        task = self._hands.known.ratings()
        if task is None or (task.decoded is None and not ask):
            return False
        if task.decoded is None:
            try:
                self._hands.ask(task.ask.command, task.inquiry)
            except (NoReply, ProtocolError) as err:
                log.debug("%s: ratings: %s", self._options.name, err)
        return task.decoded is not None

    def _tell(self, reading: Reading | None) -> Iterator[Reading | None]:
        """Pass a result on, behind the state that already shows it; first of all when the program may be stopping."""
        if reading is None or reading.channel is not Channel.RESULT:
            yield reading
            return
        if reading.tag is self and reading.values["outcome"] == "failed":
            self._clock_refused = "NAK" in str(reading.values["reason"])
        if reading.values["outcome"] in ("unknown", "refused"):
            yield reading
            yield from self._hands.news()
        else:
            yield from self._hands.news()
            yield reading

    def keep_time(self) -> Iterator[Reading | None]:
        """Have the unit's clock set when it is off, once a day at most, and not again once it was refused."""
        now = time.monotonic()
        if not self._options.time_sync or not self.writer.on or self._clock_refused or now < self._sync_due:
            return
        told, own = self._hands.known.clock(now), datetime.now()
        if told is None or own.year < SANE_YEAR or abs((told - own).total_seconds()) <= DRIFT:
            return
        self._sync_due = now + DAY
        # the id makes it once a day over restarts too
        payload = json.dumps({"value": NOW, "id": f"time-sync-{own:%Y-%m-%d}"}).encode()
        command = SetSetting("", "clock", payload, now, now + COMMAND_AGE, source="time_sync", tag=self)
        yield from self.writer.admit(command)
