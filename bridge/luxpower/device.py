"""A LuxPower datalogger ("stick") with its inverter: listens to what it pushes, asks beside it, tells what is new.

One request is under way at a time. A reply is its answer only if both serials, function and register agree; any
other whole frame of our inverters is still a reading. Nothing is published under a serial number before a frame
with that number came, and frames with other serials are counted and left.

Ways in: TCP to the stick, a port on which we wait for the stick (`listen`), its broadcasts (`udp`, reading only).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Generator, Iterable, Iterator
from typing import TYPE_CHECKING

from bridge.backoff import Backoff
from bridge.devices import Context
from bridge.errors import CommandError, LinkError, NoReply, ProtocolError
from bridge.fields import Channel, Reading, Unit
from bridge.inbox import Foreign, ReadRegisters, SetSetting
from bridge.luxpower.blocks import GROUP, Blocks, Piece
from bridge.luxpower.changes import Changed, Herald
from bridge.luxpower.connection import LOCKED, Heard, Line, sound_out
from bridge.luxpower.demand_reader import Demands
from bridge.luxpower.frame import (
    EXCEPTIONS,
    Function,
    Parameter,
    Read,
    ReadParameter,
    Refused,
    Registers,
    Written,
    WrittenMany,
)
from bridge.luxpower.inverter import BATTERY_BLOCK, MANUFACTURER, TABLES, Inverter, Totals, documented_fields
from bridge.luxpower.options import SERIAL, Options, manner_of
from bridge.luxpower.reader import AT_ONCE, RETRIES, Asker, Asking
from bridge.transports.base import Link
from bridge.transports.tcp import ConnectError, Failure, Listener, open_tcp
from bridge.transports.udp import DatagramLink, open_udp

if TYPE_CHECKING:
    from bridge.luxpower.lxp_bridge import Mirror
    from bridge.luxpower.settable_device import Settable
    from bridge.settings import Documented
    from bridge.writing import Writer

__all__ = ["LxpDevice", "Options", "build", "documented_fields", "documented_settings", "sound_out"]

log = logging.getLogger(__name__)

TICK = 10.0
"""Seconds between two looks at the clock at most, whatever the interval."""
GREETING = 1.0
"""Seconds after connecting in which nothing is asked: what comes then is pushed."""
ROOM = 2.0
"""Seconds that must be left before the next round for one more slow question."""
COMMANDS_SHARE = 0.25
"""For which part of the age limit commands may put off a round."""
SILENT_POLLING = 45.0
"""Seconds without any whole frame after which an unanswered question means that the stick is gone."""
SILENT_PASSIVE = 290.0
"""The same while nothing is asked: sticks send a heartbeat about once a minute."""
FOREIGN_ONLY = 90.0
"""Seconds after which a stick that only tells of other inverters is said not to be ours."""
REOPEN, LISTEN_AGAIN = (5.0, 60.0), (0.5, 5.0)
"""Shortest and longest pause in s before a stick is connected to again, and before it is listened for again."""
STABLE = 30.0
"""A connection that lasted so many seconds was a good one."""
KICKED = 3
"""So many short connections in a row look like a fight for the stick's only slot."""
WAITING = 20.0
"""Seconds in one go to wait for a stick that connects to us."""
MODELS = 25.0
"""Seconds in which commands wait for the models to be read, and the first inputs of an inverter for its own: less than
a command is good for."""
UNREADABLE = (1, 2, 3)
"""Exception codes that say the same tomorrow; the others are a matter of time."""


def build(options: Options, context: Context) -> LxpDevice:
    """Return the device for one entry of the configuration; nothing is connected yet."""
    return LxpDevice(options, context)


def documented_settings() -> dict[str, tuple[Documented, ...]]:
    """Return what can be set on such a device, by the words for its parts; for docs/settings.md."""
    from bridge.luxpower import settings

    return settings.documented_settings()


class LxpDevice:
    """One stick and its inverters. Owned by one thread."""

    writer: Writer
    """There from the first command on, or from the start where settings may be written."""

    def __init__(self, options: Options, context: Context) -> None:
        self._options = options
        self._context = context
        self._manner = manner_of(options)
        self._asking = options.interval if options.udp is None else 0.0
        self._line: Line | None = None
        self._link: Link | None = None
        self._listener: Listener | None = None
        self._backoff = Backoff(*(REOPEN if options.host is not None else LISTEN_AGAIN))
        self._short = 0
        self._warned: set[str] = set()
        self._herald = Herald(options.name, context)
        self.asker = Asker(context, self._digest)
        self._demands = Demands(options.name, self._manner.max_age, self._ask, self._ask_parameter)
        self.datalog = options.datalogger
        self._datalog_sure = options.datalogger is not None
        self.inverters: dict[str, Inverter] = {}
        self._first: tuple[str | None, str] | None = None
        """The stick and its inverter that were learned first: whom commands are meant for."""
        self._totals: Totals | None = None
        self._mirror: Mirror | None = None
        self._know(options.inverter)
        self._settable: Settable | None = self._make_settable() if options.writes else None
        self._begin()

    def _know(self, serials: str | tuple[str, ...] | None) -> None:
        """Take up the inverters that are configured; of several, each is a unit of its own."""
        several = serials if isinstance(serials, tuple) else (serials,) if serials else ()
        for serial in several:
            self.inverters[serial] = self._new_inverter(serial, serial if len(several) > 1 else "")
        if len(several) > 1:
            self._totals = Totals(self._manner)

    def _make_settable(self) -> Settable:
        from bridge.luxpower.settable_device import Settable

        settable = Settable(self._options, self, self._context.records)
        self.writer = settable.writer
        return settable

    def _new_inverter(self, serial: str, path: str) -> Inverter:
        return Inverter(serial, path, self._manner, asked_all=not self._asking)

    def _begin(self) -> None:
        """Start with what belongs to one connection."""
        self._round_due = self._own_at = time.monotonic()
        self._heard_foreign: set[str] = set()
        self._heard_own = False

    @property
    def _where(self) -> str:
        options = self._options
        if options.host is not None:
            return f"{options.host}:{options.port}"
        return f"port {options.listen}" if options.listen else f"UDP port {options.udp}"

    def root(self) -> Unit:
        """Return the unit of the device itself: its only inverter, several together, or nobody yet."""
        if self._totals is not None:
            return self._totals.unit
        for inverter in self.inverters.values():
            return inverter.unit
        return Unit("", self._options.name, (), self._manner.max_age, manufacturer=MANUFACTURER)

    @property
    def connected(self) -> bool:
        """Whether there is a line to the stick."""
        return self._line is not None

    # -- what the publisher calls

    @property
    def interval(self) -> float:
        if not self.inverters:
            return min(1.0, TICK)  # a round begins soon after the serials are learned
        return self._asking / math.ceil(self._asking / TICK) if self._asking else TICK

    def open(self) -> None:
        self.close()
        self._begin()
        self._link = self._open_link()
        self._line = Line(
            self._link, self._context.tally, answer=self._options.heartbeat, datagrams=self._options.udp is not None,
            unheard=LOCKED if self._options.host is not None else None,
        )  # fmt: skip
        self.asker.begin(self._line)
        self._round_due = self._own_at = self._line.opened_at
        for inverter in self.inverters.values():
            inverter.ask_anew()
            inverter.held.clear()
        if self._settable is not None:
            self._settable.look_at_clocks_anew()

    def _open_link(self) -> Link:
        options, stop = self._options, self._context.stop
        if options.host is not None:
            try:
                return open_tcp(options.host, options.port, stop)
            except ConnectError as err:
                hint = {
                    Failure.RESET: LOCKED,
                    Failure.REFUSED: "the stick's local port is off or closed by its firmware, or has another number",
                }.get(err.failure)
                raise LinkError(f"{err}: {hint}" if hint else str(err)) from err
        if options.listen is not None:
            if self._listener is None:
                self._listener = Listener(options.listen, options.bind, options.source, stop, self._strange)
            return self._listener.accept(time.monotonic() + WAITING)
        return open_udp(options.udp or 0, options.bind, options.source, stop, self._strange)

    def close(self) -> None:
        if self._line is None:
            return
        self._line.close()
        self._line = None
        self.asker.begin(None)
        if self._heard_foreign and not self._heard_own:  # what was learned lives here no more
            if self._options.inverter is None:
                self.inverters.clear()
            self.datalog = self._options.datalogger
            self._datalog_sure = self.datalog is not None

    def is_another(self, inverter: Inverter) -> bool:
        """Whether it and its stick are both others than were learned first: a router gave the address to them."""
        return self._first is not None and self.datalog != self._first[0] and inverter.serial != self._first[1]

    def give_up(self) -> None:
        self.close()
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def pause(self) -> float:
        """Return the seconds until the next attempt: more and more, and the most when others take our place."""
        line = self._line
        if line is not None and line.heard_at is not None:
            if time.monotonic() - line.opened_at >= STABLE:
                self._backoff.reset()
                self._short = 0
            else:
                self._short += 1
        if self._short >= KICKED:
            if self._short == KICKED:
                log.warning("%s: the stick ends the connection again and again. Most serve one program at a time: "
                            "an app or another integration may be taking our place", self._options.name)  # fmt: skip
            for _ in range(4):
                self._backoff.pause()
        return self._backoff.pause()

    def fileno(self) -> int | None:
        return self._line.fileno() if self._line is not None else None

    def receive(self) -> Iterator[Reading | None]:
        line = self._connected()
        for _ in range(AT_ONCE):
            heard = line.listen(time.monotonic())
            if heard is None:
                break
            yield from self._digest_all(heard)
        if line.lost_time:
            line.lost_time = False
            self._round_due = 0.0

    def refresh(self) -> None:
        self._round_due = 0.0
        for inverter in self.inverters.values():
            inverter.ask_anew()

    def obey(self, command: ReadRegisters | SetSetting | Foreign) -> Iterator[Reading | None]:
        """Note which registers somebody wants to see, or set; say at once if that cannot be done."""
        if isinstance(command, Foreign):
            yield from self._obey_foreign(command)
        elif isinstance(command, SetSetting):
            if self._settable is None:  # it says why not
                self._settable = self._make_settable()
            yield from self._settable.writer.admit(command)
        elif self._options.udp is not None:
            yield self._demands.refusal(command, "broadcasts are for reading only")
        elif self._line is None:
            yield self._demands.refusal(command, "not connected")
        elif self._demands.full():
            self._context.tally.failed("refused", "more reads on demand than the stick can answer")
            yield self._demands.refusal(command, "too many reads on demand are waiting already")
        else:
            self._demands.note(command)

    def _obey_foreign(self, command: Foreign) -> Iterator[Reading | None]:
        """Carry out a command in lxp-bridge's words."""
        from bridge.luxpower.lxp_bridge import translate

        inverter = next(iter(self.inverters.values()), None)
        try:
            ours = translate(command, inverter.power_unit if inverter is not None else None)
        except CommandError as err:
            yield self._refusal(command.path, command.tag, str(err))
            return
        if isinstance(ours, ReadRegisters) and ours.table in TABLES and self._mirror is not None:
            self._mirror.again(TABLES[ours.table], ours.register, ours.register + ours.count)
        yield from self.obey(ours)

    def _refusal(self, setting: str, tag: object, reason: str) -> Reading:
        unit = Unit("", self._options.name, (), self._manner.max_age, manufacturer=MANUFACTURER)
        values = {"id": None, "unit": "", "setting": setting[:100], "outcome": "refused", "reason": reason}
        return Reading(unit, values, time.monotonic(), channel=Channel.RESULT, tag=tag)

    def poll(self) -> Iterator[Reading | None]:
        line = self._connected()
        yield from self.receive()
        yield from self.asker.listen_until(line.opened_at + GREETING)
        if self._settable is not None and self.datalog is not None:
            yield from self._settable.keep_time()
        yield from self._answer_all()
        try:
            if self._is_round_due():
                yield from self._round()
                yield from self._answer_all()
        finally:
            self._watch(line)

    # -- what comes in

    def _connected(self) -> Line:
        if self._line is None:
            raise LinkError(f"{self._where}: not connected")
        return self._line

    def _digest_all(self, heard: Iterable[Heard]) -> Iterator[Reading | None]:
        for one in heard:
            yield from self._digest(one, wanted=False)

    def _digest(self, heard: Heard, wanted: bool) -> Iterator[Reading | None]:
        """Take one whole frame; `wanted` says that it is the answer to our own question."""
        reply, at = heard
        if not self._is_our_stick(reply.datalog_serial):
            return
        if isinstance(reply, Parameter) and wanted and self._mirror is not None:
            yield self._mirror.parameter(reply.parameter, reply.data, at)
        if not isinstance(reply, (Registers, Written, WrittenMany, Refused)):
            return
        inverter = self._inverter_of(reply)
        if inverter is None:
            return
        inverter.heard()
        self._own_at, self._heard_own = at, True
        if isinstance(self._link, DatagramLink):
            self._link.pin()
        if isinstance(reply, Registers):
            yield from self._take(inverter, reply, at, wanted)
        elif isinstance(reply, Written) and not wanted:
            inverter.holds.due_now(reply.register)  # somebody changed a setting: look what it is now
            self._tell_changes(inverter, inverter.changes.saw(reply.register, (reply.value,), inverter.family))
        elif isinstance(reply, WrittenMany) and not wanted:
            for register in range(reply.register, reply.register + min(reply.length, GROUP)):
                inverter.holds.due_now(register)

    def _take(self, inverter: Inverter, frame: Registers, at: float, wanted: bool) -> Iterator[Reading | None]:
        if frame.protocol == 1 and not wanted:
            # a request of another client, sent back, looks the same
            self._context.tally.failed("foreign", f"a single word of register {frame.register} that was not asked for")
        elif not inverter.hold_back(frame, at):
            yield from self._tell(inverter, frame, at)
            yield from self._let_go()

    def _let_go(self) -> Iterator[Reading | None]:
        """Tell what was held back of those of whom it is known by now what they are, or of whom it took too long."""
        for inverter in list(self.inverters.values()):
            for frame, at in inverter.let_go(time.monotonic() - MODELS):
                yield from self._tell(inverter, frame, at)

    def _tell(self, inverter: Inverter, frame: Registers, at: float) -> Iterator[Reading | None]:
        """Take the words of one frame and tell what is new."""
        tally = self._context.tally
        try:
            readings, refused = inverter.take(frame, at, time.monotonic())
        except ProtocolError as err:
            tally.failed(err.kind, err.detail)
            return
        for text in refused:
            tally.failed("implausible", text)
        if frame.function == Function.READ_HOLD:
            self._tell_changes(inverter, inverter.changes.saw(frame.register, frame.words, inverter.family))
            if self._settable is not None:
                self._settable.announce(inverter)
            self._say_stranger(inverter)
        for reading in readings:
            yield reading
            if reading is inverter.reading and self._totals is not None:
                yield self._totals.add_up(list(self.inverters.values()), time.monotonic())
        if self._options.compat and self._datalog_sure and not (inverter.puzzling or inverter.family.stranger):
            yield from self._mirror_of(inverter, frame.datalog_serial).of(frame, at, inverter.state_in(readings))

    def _say_stranger(self, inverter: Inverter) -> None:
        """Say, once, why nothing is published of what is no inverter."""
        what = inverter.family.stranger
        if what is not None and inverter.serial not in self._warned:
            self._warned.add(inverter.serial)
            log.error("%s: this is %s, whose registers mean something else; nothing of it is published or written",
                      inverter.unit.title, what)  # fmt: skip

    def _mirror_of(self, inverter: Inverter, datalog: str) -> Mirror:
        """Return what tells of the inverter in lxp-bridge's words, made when it is first needed."""
        if self._mirror is None or self._mirror.unit.path != datalog:
            from bridge.luxpower.lxp_bridge import Mirror
            from bridge.lxp_bridge import LxpBridge

            self._mirror = Mirror(inverter.unit, datalog, self._options.lxp_bridge or LxpBridge())
        if inverter.asked_all:
            self._mirror.settled(inverter.power_unit)
        return self._mirror

    def _tell_changes(self, inverter: Inverter, changed: Iterable[Changed]) -> None:
        """Say what somebody else has set. Of what is no inverter nobody knows."""
        if not inverter.family.stranger:
            self._herald.tell(inverter.unit, changed, time.monotonic())

    def _is_our_stick(self, serial: str) -> bool:
        """Whether a frame is from the stick we know; the first two that agree make it known."""
        if self.datalog is None or (serial != self.datalog and not self._datalog_sure):
            self.datalog = serial
            log.info("%s: datalogger %s", self._options.name, serial)
        elif serial == self.datalog:
            self._datalog_sure = True
        else:
            self._foreign("datalogger", serial, self.datalog)
            return False
        return True

    def _inverter_of(self, reply: Registers | Written | WrittenMany | Refused) -> Inverter | None:
        serial = reply.inverter_serial
        inverter = self.inverters.get(serial)
        if inverter is not None:
            return inverter
        if self.inverters:
            self._foreign("inverter", serial, ", ".join(self.inverters))
            return None
        if not isinstance(reply, Registers) or reply.protocol == 1 or not SERIAL.fullmatch(serial):
            return None
        log.info("%s: inverter %s", self._options.name, serial)
        inverter = self.inverters[serial] = self._new_inverter(serial, "")
        self._first = self._first or (self.datalog, serial)
        if self._settable is not None and self.is_another(inverter):
            log.warning("%s: another stick with another inverter, %s, is there now. It is read, but not written to: "
                        "give its serial in the configuration, or restart the bridge",
                        self._options.name, serial)  # fmt: skip
        self._round_due = 0.0
        return inverter

    def _foreign(self, what: str, serial: str, ours: str) -> None:
        """Count a frame with another serial; say so loudly, once each."""
        self._context.tally.failed("foreign", f"{what} {serial}, not {ours}")
        self._heard_foreign.add(f"{what} {serial}")
        if len(self._heard_foreign) > 16:
            self._heard_foreign.pop()
        if serial not in self._warned and len(self._warned) < 16:
            self._warned.add(serial)
            log.warning("%s: frames of %s %s are left out; this device is %s. If it is yours, give its serial in the "
                        "configuration", self._options.name, what, serial, ours)  # fmt: skip

    def _strange(self, address: str) -> None:
        """Count bytes or a connection from an address that is not the stick's."""
        self._context.tally.failed("foreign", f"{self._where}: something from {address}, not taken")

    def _watch(self, line: Line) -> None:
        """Raise LinkError when the stick is silent for too long, or tells of nobody but others."""
        now = time.monotonic()
        heard = line.heard_at
        silent = now - (heard if heard is not None else line.opened_at)
        eager = self._asking and (self.asker.unanswered or heard is None)
        limit = SILENT_POLLING if eager else max(SILENT_PASSIVE, 2 * self._asking)
        if self._options.udp is not None:
            limit = self._manner.max_age
        if self._heard_foreign and (now - self._own_at > FOREIGN_ONLY or (silent > limit and not self._heard_own)):
            raise LinkError(f"{self._where}: answers with other serials: {', '.join(sorted(self._heard_foreign))}")
        if silent > limit:
            words = "" if heard is not None else f", since it was connected: {LOCKED}, or not a stick"
            raise LinkError(f"{self._where}: silent{words}")

    # -- questions

    def _round(self) -> Iterator[Reading | None]:
        """Ask for all inputs, then for as many holding registers as are due and fit. Raises NoReply."""
        started = time.monotonic()
        wanted_now = started - self._round_due > self._asking  # and not as the next in time
        self._round_due = (started if wanted_now else self._round_due) + self._asking
        answered: list[Inverter] = []
        silent: list[Inverter] = []
        for inverter in [one for one in self.inverters.values() if one.ask_at <= started]:
            complete = True
            for piece in self._due_inputs(inverter, started):
                yield from self._ask_model(inverter)
                reply = yield from self._ask_piece(inverter, inverter.inputs, Function.READ_INPUT, piece)
                yield from self._answer_commands()
                if reply is None:
                    if inverter not in answered:
                        silent.append(inverter)
                    break  # it would only hold up the others
                answered.append(inverter)
                complete &= isinstance(reply, Registers) or reply.code in UNREADABLE
            else:
                if complete:
                    yield from inverter.end_round(time.monotonic())
        if not answered:
            for inverter in self.inverters.values():
                inverter.heard()  # none of them is to blame: it may be the stick
            raise NoReply("no answer")
        for inverter in silent:
            inverter.put_off(time.monotonic(), self._asking)
        yield from self._ask_holds(started + self._asking - ROOM)

    def _due_inputs(self, inverter: Inverter, started: float) -> Iterator[Piece]:
        """Yield what a round asks for: what it finds out to come in parts in these, and the packs last."""
        blocks = inverter.inputs  # a refresh makes a new plan, for the next round
        while due := [piece for piece in blocks.pieces if piece.due < started]:
            due[0].due = started
            yield due[0]
        if self._options.packs:
            yield from inverter.battery()

    def _ask_holds(self, until: float) -> Iterator[Reading | None]:
        for inverter in [one for one in self.inverters.values() if not one.silent]:
            while due := [piece for piece in inverter.holds.pieces if piece.due <= time.monotonic()]:
                yield from self._ask_hold(inverter, due[0])
                yield from self._answer_commands()
                if time.monotonic() > until:
                    break
            else:
                yield from inverter.settings(time.monotonic(), complete=True)
                if self._settable is not None:
                    self._settable.announce(inverter)

    def _ask_model(self, inverter: Inverter) -> Iterator[Reading | None]:
        """Ask one that answers what it is before all else, while nothing is told of it for want of that."""
        piece = inverter.model_piece
        if inverter.held and piece is not None and piece.due <= time.monotonic():
            reply = yield from self._ask_hold(inverter, piece)
            if isinstance(reply, Refused):
                piece.due = 0.0  # it may only be busy

    def _ask_hold(self, inverter: Inverter, piece: Piece) -> Asking:
        reply = yield from self._ask_piece(inverter, inverter.holds, Function.READ_HOLD, piece)
        told = isinstance(reply, Registers) or (isinstance(reply, Refused) and reply.code in UNREADABLE)
        piece.due = time.monotonic() + (self._options.settings_interval if told else self._asking)
        return reply

    def _ask(self, serial: str, function: int, first: int, length: int, retries: int = RETRIES) -> Asking:
        return self.asker.ask(Read(self.datalog or "", serial, function, first, length), retries)

    def _ask_parameter(self, parameter: int) -> Generator[Reading | None, None, Parameter | None]:
        return self.asker.ask_parameter(ReadParameter(self.datalog or "", parameter))

    def _is_round_due(self) -> bool:
        """Whether to begin a round; it can wait while there are commands, since they expire, but not for long."""
        known = self.datalog is not None and bool(self.inverters)
        patience = COMMANDS_SHARE * self._manner.max_age if self._waiting() else 0.0
        return bool(self._asking) and known and time.monotonic() >= self._round_due + patience

    def _answer_all(self) -> Iterator[Reading | None]:
        """Do what people asked for until nothing is left that can be done, or a round is due."""
        yield from self._answer_commands()
        before = math.inf
        while 0 < self._waiting() < before and not self._is_round_due():
            before = self._waiting()
            yield from self._answer_commands()

    def _waiting(self) -> int:
        """Return how many commands wait for the line alone, and for no round that would tell the models first."""
        settable = self._settable.writer.waiting() if self._settable is not None else 0
        known = list(self.inverters.values())
        return self._demands.waiting() + (settable if known and self._models_are_known(known) else 0)

    def _answer_commands(self) -> Iterator[Reading | None]:
        """Read what somebody asked for, and set one thing, between any two questions of our own.

        One of each: more may follow without an end, and what the inverter tells has its turn, too.
        """
        yield None  # a question may have given nothing to tell, and what they ask for is heard here alone
        yield from self._let_go()
        known = list(self.inverters.values()) if self.datalog is not None else []
        yield from self._demands.answer(known)
        # what is set, and how, depends on the models, and so does what was interrupted; a silent one holds up nobody
        if self._settable is not None and known and self._models_are_known(known):
            yield from self._settable.work()

    def _models_are_known(self, inverters: Iterable[Inverter]) -> bool:
        """Whether all models were read, or there was time enough for that."""
        late = time.monotonic() - self._connected().opened_at > MODELS
        return all(one.known or (late and not one.held) for one in inverters)

    def _ask_piece(self, inverter: Inverter, blocks: Blocks, function: int, piece: Piece) -> Asking:
        """Ask for one piece; let the plan learn from what comes. One that was silent is not asked three times."""
        retries = 0 if inverter.silent else RETRIES
        reply = yield from self._ask(inverter.serial, function, piece.first, piece.length, retries)
        planned = piece in blocks.pieces
        if isinstance(reply, Refused):
            text = EXCEPTIONS.get(reply.code, f"code {reply.code}")
            self._context.tally.failed("refused", f"registers {piece.first} to {piece.end - 1}: {text}")
            if reply.code in UNREADABLE and planned:
                blocks.refused(piece)
            elif reply.code in UNREADABLE and piece.first >= BATTERY_BLOCK:
                inverter.has_battery_block = False
        elif reply is not None and planned and len(reply.data) // 2 < piece.length:
            blocks.shortened(piece, len(reply.data) // 2)
        return reply
