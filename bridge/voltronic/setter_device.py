"""One setting of one inverter on the line: what is read, sent and read back, as bridge.writing wants it.

The fresh read is the inquiry that shows the setting, asked now and checked as always. While an answer to an earlier
question may still be on its way nothing is believed: the line is left alone until it has settled. One frame is sent
once. A refusal with the right checksum is one; where the command has another form (a zero byte in its CRC left as
it is, one digit more) the setting is read back, and that form tried when it is still as before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, TypeAlias

from bridge.clock import SANE_YEAR
from bridge.errors import CommandError, NoReply, ProtocolError
from bridge.fields import Reading, Unit, Value
from bridge.settings import NOW, PRESS, Setting
from bridge.voltronic.connection import Answer, Speech
from bridge.voltronic.inquiry import OTHER, Decoded, Inquiry
from bridge.voltronic.known import MOVED_ALONG, OF_A_UNIT, Known, changes
from bridge.voltronic.meant import Meant
from bridge.voltronic.members import Members
from bridge.voltronic.plan import Pace
from bridge.voltronic.settings import Setter, contradiction
from bridge.writing import Rejected, Step, Wire

CLOCK_OFF_BY = 5.0
"""Seconds by which a clock just set may differ: it counts whole ones, and its answer takes its time."""

Read: TypeAlias = Callable[[str], Decoded]
Frames: TypeAlias = tuple[tuple[str, bytes], ...]
"""The forms of one command, each with its text, the likelier first."""


class Hands(Protocol):
    """What a device does for its writes; what uses the line may raise LinkError, NoReply and ProtocolError."""

    @property
    def known(self) -> Known:
        """What the unit on the cable has said so far."""

    @property
    def members(self) -> Members:
        """The units of the set that it belongs to."""

    @property
    def speech(self) -> Speech:
        """How the unit is spoken to."""

    @property
    def root(self) -> Unit:
        """The unit on the cable."""

    def away(self) -> str | None:
        """Say why nothing can be set now, or None."""

    def ask(self, command: str, inquiry: Inquiry, read: Read | None = None) -> Answer:
        """Ask one question now; the answer is kept as that of any round. `read` takes the place of inquiry.decode."""

    def send(self, command: str, data: bytes) -> None:
        """Send one frame of a setter, once; return when it was acknowledged.

        Raises CommandError while it is not certain that the unit is there which was read.
        """

    def identify(self) -> Iterator[Reading | None]:
        """Ask who is on the cable, as soon as the line has settled; it may refuse to say."""

    def until_settled(self) -> None:
        """Wait until no answer to an earlier question can come any more."""

    def wait(self, seconds: float) -> None:
        """Let time pass."""

    def number_on_cable(self) -> int:
        """Ask which number in its set the unit on the cable has, 0 for a lone one. Raises CommandError."""

    def counterparts(self, path: str, key: str) -> Iterator[tuple[str, str]]:
        """Return where else a setting of a unit is told: paths and keys."""

    def news(self) -> Iterator[Reading]:
        """Return the states that say something new by what was asked meanwhile."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the unit said of its settings at one moment, by key of its state."""

    values: Mapping[str, Value]
    at: float
    digits: int = 0
    """How many digits the setting's own number has, where that matters."""


class Target:
    """One row of the table on the unit on the cable. Made for one command."""

    def __init__(self, hands: Hands, row: Setter, meant: Meant) -> None:
        self.setting: Setting = row
        self._path = ""
        self._sent = False
        self._row, self._hands, self._meant = row, hands, meant
        self._wanted: Value = None
        self._number = 0
        self._allowed: list[int] | None = None
        self._mode: str | None = None
        self._form = 0
        self.place = row.name_on_line
        self.registers: Sequence[str] = (self.place,)

    # -- reading

    def read(self) -> Wire[Snapshot]:
        yield from ()
        self._hands.until_settled()
        snapshot = self._look()
        if not self._sent:
            self._learn()
        return snapshot

    def _look(self) -> Snapshot:
        inquiry = self._inquiry(self._row.source.command)
        place = [row.key for row in inquiry.rows].index(self._row.key) if self._row.wider else -1
        digits = 0

        def read(payload: str) -> Decoded:
            nonlocal digits
            decoded = inquiry.decode(payload)
            digits = len(payload.split(inquiry.separator)[place])
            return decoded

        answer = self._hands.ask(inquiry.command, inquiry, read)
        return Snapshot(inquiry.publish(answer.decoded), answer.at, digits)

    def _inquiry(self, name: str) -> Inquiry:
        plan = self._hands.known.plan
        if plan is None:
            raise NoReply("no protocol is known yet")
        return plan.table[name]

    def _learn(self) -> None:
        """Ask what else decides whether the setting may be sent."""
        row = self._row
        if row.listed:
            self._allowed = self._list_of(row.listed)
        if row.standby:
            mode = self._inquiry("QMOD")
            self._mode = str(mode.publish(self._hands.ask("QMOD", mode).decoded)["mode"])
        if "{m}" in row.form:
            self._number = self._hands.number_on_cable()

    def _list_of(self, name: str) -> list[int] | None:
        """Return the values that the unit lists; None when it lists none. What it said once is believed."""
        task = self._hands.known.tasks.get(name)
        if task is None:
            return None
        try:
            decoded = task.decoded or self._hands.ask(name, task.inquiry).decoded
        except ProtocolError as err:
            if err.kind == "refused":
                return None
            raise
        return [int(value) for value in decoded["values"]]

    # -- comparing

    def shown(self, snapshot: Snapshot) -> Value:
        value = snapshot.values.get(self._row.key)
        return None if value == OTHER else value

    def fits(self, snapshot: Snapshot, wanted: Value) -> bool:
        return wanted is not None and self.shown(snapshot) == wanted

    def disturbed(self, before: Snapshot, after: Snapshot) -> str | None:
        only = OF_A_UNIT if self._row.source.command == "QPGS" else None
        others = [one for one in changes(before.values, after.values, only) if one[0] != self._row.key]
        told = ", ".join(f"{key} from {old} to {new}" for key, old, new in others)
        return f"changed too: {told}" if told else None

    # -- sending

    def steps(self, snapshot: Snapshot, wanted: Value) -> list[Step]:
        row = self._row
        if snapshot.values.get(row.key) is None:
            raise CommandError(f"the unit does not say what {row.key} is set to, so a write could not be proven")
        if row.listed and (self._allowed is None or wanted not in self._allowed):
            offered = "nothing" if not self._allowed else ", ".join(map(str, self._allowed))
            raise CommandError(f"{wanted} is not among what the unit lists in {row.listed}: {offered}")
        if row.standby and self._mode != "standby":
            raise CommandError(f"{row.key} is set in standby only; the unit's mode is {self._mode}")
        if row.lone and self._number:
            raise CommandError(f"{row.key} can only be set on unit 0 of a set; on the cable is unit {self._number}")
        if (trouble := contradiction(row.key, wanted, snapshot.values)) is not None:
            raise CommandError(f"not written, since {trouble}")
        self._wanted = wanted
        return [self._step(snapshot, wanted)]

    def _step(self, snapshot: Snapshot, wanted: Value) -> Step:
        commands = self._row.commands(wanted, snapshot.values, self._number)
        if self._row.wider and snapshot.digits != 3:
            commands = commands[:1]
        frames = tuple(
            (command, data)
            for command in dict.fromkeys(commands)
            for data in self._hands.speech.setters(command)
        )  # fmt: skip
        return Step(self.place, frames)

    def send(self, _step: Step, body: Frames) -> Wire[None]:
        yield from ()
        at = min(self._form, len(body) - 1)
        command, data = body[at]
        self._sent = True
        self._meant.sent(self._path, self._row.key, self._wanted, self._proofs(), time.monotonic())
        try:
            self._hands.send(command, data)
        except ProtocolError as err:
            if err.kind != "refused":
                self._try_plain(body, at)
                raise
            self._form = at + 1
            if self._form >= len(body):
                raise Rejected("the inverter refused it (NAK)") from err
            raise
        except NoReply:
            self._try_plain(body, at)
            raise

    def _proofs(self) -> Iterable[tuple[str, str]]:
        """Return the questions whose next answers show what the command changed, each with the path of its unit."""
        yield self._path, self._row.source.command
        for path, key in ((self._path, self._row.key), *self._hands.counterparts(self._path, self._row.key)):
            if not path and key in MOVED_ALONG:
                yield path, MOVED_ALONG[key]

    def _try_plain(self, body: Frames, at: int) -> None:
        """Where silence can be the fault of a byte in the CRC, let the next attempt be the same with the other byte."""
        if at + 1 < len(body) and body[at + 1][0] == body[at][0]:
            self._form = at + 1

    def pause(self, seconds: float) -> Wire[None]:
        yield from ()
        self._hands.wait(seconds)


class MemberTarget(Target):
    """A setting of a unit of the set that is not on the cable, or not alone on it."""

    def __init__(self, hands: Hands, row: Setter, meant: Meant, serial: str, number: int) -> None:
        super().__init__(hands, row, meant)
        self._path = self._serial = serial
        self._number = number
        self.place = f"{row.name_on_line} of unit {number}"
        self.registers = (self.place,)

    def _look(self) -> Snapshot:
        inquiry = self._inquiry("QPGS")
        answer = self._hands.ask(f"QPGS{self._number}", inquiry)
        if answer.decoded["exists"] != 1 or answer.decoded["serial_number"] != self._serial:
            raise CommandError(f"unit {self._serial} is not number {self._number} of the set now, so it is not reached")
        return Snapshot(inquiry.publish(answer.decoded), answer.at)

    def _learn(self) -> None:
        if self._row.listed:
            self._allowed = self._list_of(self._row.listed)


class ClockTarget(Target):
    """The unit's clock, which goes on while it is read."""

    def __init__(self, hands: Hands, row: Setter, meant: Meant) -> None:
        super().__init__(hands, row, meant)
        self._sent_at: float | None = None

    def fits(self, snapshot: Snapshot, wanted: Value) -> bool:
        told = self.shown(snapshot)
        if told is None or wanted is None:
            return False
        meant = self._moment(wanted, snapshot.at)
        return abs((datetime.fromisoformat(str(told)) - meant).total_seconds()) <= CLOCK_OFF_BY

    def _moment(self, wanted: Value, at: float) -> datetime:
        """Return what the clock should say at the time.monotonic() `at`."""
        if wanted == NOW:
            return datetime.now() - timedelta(seconds=time.monotonic() - at)
        passed = at - self._sent_at if self._sent_at is not None else 0.0
        return datetime.fromisoformat(str(wanted)) + timedelta(seconds=passed)

    def _step(self, snapshot: Snapshot, wanted: Value) -> Step:
        if wanted == NOW and datetime.now().year < SANE_YEAR:
            raise CommandError("the bridge's own clock has not been set yet")
        now = time.monotonic()
        moment = self._moment(NOW, now) if wanted == NOW else datetime.fromisoformat(str(wanted))
        return super()._step(snapshot, moment.isoformat(timespec="seconds"))

    def send(self, step: Step, body: Frames) -> Wire[None]:
        self._sent_at = time.monotonic()
        yield from super().send(step, body)


class ResetTarget(Target):
    """Everything back to what the unit itself calls its defaults: done when all that it tells of them holds."""

    def _proofs(self) -> Iterable[tuple[str, str]]:
        tasks = self._hands.known.tasks.values()
        return [(self._path, task.ask.name) for task in tasks if task.ask.pace is Pace.SETTINGS]

    def _look(self) -> Snapshot:
        defaults, ratings, flags = (self._inquiry(name) for name in ("QDI", "QPIRI", "QFLAG"))
        told = defaults.publish(self._hands.ask("QDI", defaults).decoded)
        rated = self._hands.ask("QPIRI", ratings)
        answer = self._hands.ask("QFLAG", flags)
        now = {**ratings.publish(rated.decoded), **flags.publish(answer.decoded)}
        differing = [key for key, default in self._pairs(told, now) if now[key] != default]
        return Snapshot({self._row.key: PRESS if not differing else ", ".join(differing)}, answer.at)

    def _pairs(self, told: Mapping[str, Value], now: Mapping[str, Value]) -> list[tuple[str, Value]]:
        pairs = [(DEFAULT_OF.get(key, key.removeprefix("default_")), value) for key, value in told.items()]
        flags = [(f"flag_{key}", value) for key, value in pairs]
        return [one for one in (*pairs, *flags) if one[0] in now and not one[0].endswith("_code")]

    def disturbed(self, before: Snapshot, after: Snapshot) -> str | None:  # noqa: ARG002
        return None  # to change everything was meant


DEFAULT_OF = {
    "default_ac_output_voltage": "ac_output_rating_voltage",
    "default_ac_output_frequency": "ac_output_rating_frequency",
    "default_lcd_backlight": "flag_backlight",
}
"""Keys of QDI whose setting has another name. The buzzer's two are not compared: they may mean the opposite."""


def target_for(hands: Hands, row: Setter, meant: Meant) -> Target:
    """Return the target of a row on the unit on the cable."""
    kind = {"clock": ClockTarget, "factory_reset": ResetTarget}.get(row.key, Target)
    return kind(hands, row, meant)
