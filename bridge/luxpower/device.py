"""A LuxPower datalogger ("stick") with its inverter: listens to what it pushes, asks beside it, tells what is new.

One request is under way at a time. A reply is its answer only if both serials, function and register agree; any
other whole frame of our inverters is still a reading. Nothing is published under a serial number before a frame
with that number came, and frames with other serials are counted and left.

Ways in: TCP to the stick, a port on which we wait for the stick (`listen`), its broadcasts (`udp`, reading only).
"""

from __future__ import annotations

import ipaddress
import logging
import math
import re
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from bridge.backoff import Backoff
from bridge.config import option
from bridge.devices import Context, DeviceOptions
from bridge.errors import LinkError, NoReply, ProtocolError
from bridge.fields import Channel, Reading, Unit, Value
from bridge.inbox import ReadRegisters
from bridge.luxpower.blocks import GROUP, Blocks, Piece
from bridge.luxpower.connection import LOCKED, Heard, Line, sound_out
from bridge.luxpower.frame import EXCEPTIONS, Function, Read, Refused, Registers, Reply, Written, WrittenMany
from bridge.luxpower.inverter import MANUFACTURER, TABLES, Inverter, Manner, Totals, documented_fields, raw_words
from bridge.luxpower.models import Feature, PowerUnit
from bridge.transports.base import Link
from bridge.transports.tcp import ConnectError, Failure, Listener, open_tcp
from bridge.transports.udp import DatagramLink, open_udp

__all__ = ["LxpDevice", "Options", "build", "documented_fields", "sound_out"]

log = logging.getLogger(__name__)

TICK = 10.0
"""Seconds between two looks at the clock at most, whatever the interval."""
GREETING = 1.0
"""Seconds after connecting in which nothing is asked: what comes then is pushed."""
ANSWER = 5.0
"""Seconds for an answer; real ones take up to one (luxpower_sna proxy log)."""
RETRIES, RETRY_PAUSE = 2, 1.0
BETWEEN = 0.5
"""Seconds from an answer to the next request."""
ROOM = 2.0
"""Seconds that must be left before the next round for one more slow question."""
SILENT_POLLING = 45.0
"""Seconds without any whole frame after which an unanswered question means that the stick is gone."""
SILENT_PASSIVE = 290.0
"""The same while nothing is asked: sticks send a heartbeat about once a minute."""
FOREIGN_ONLY = 90.0
"""Seconds after which a stick that only tells of other inverters is said not to be ours."""
PUSH_AGE = 630.0
"""Default age limit in s when nothing is asked: two pushes of the slowest sticks."""
REOPEN, LISTEN_AGAIN = (5.0, 60.0), (0.5, 5.0)
"""Shortest and longest pause in s before a stick is connected to again, and before it is listened for again."""
STABLE = 30.0
"""A connection that lasted so many seconds was a good one."""
KICKED = 3
"""So many short connections in a row look like a fight for the stick's only slot."""
WAITING = 20.0
"""Seconds in one go to wait for a stick that connects to us."""
COMMANDS, COMMAND_AGE = 16, 30.0
"""Reads on demand that wait at most, and for how many seconds."""
UNREADABLE = (1, 2, 3)
"""Exception codes that say the same tomorrow; the others are a matter of time."""
AT_ONCE = 64
"""Pieces of what was received that are taken before others get their turn."""

_SERIAL = re.compile(r"[A-Za-z0-9]{10}")
_UNITS = {"percent": PowerUnit.PERCENT, "kw": PowerUnit.HUNDRED_WATTS}
_PHASES = {
    "one": frozenset[Feature](),
    "split": frozenset({Feature.SPLIT_PHASE}),
    "three": frozenset({Feature.THREE_PHASE}),
}

Asking: TypeAlias = Generator[Reading | None, None, Registers | Refused | None]
"""Yields what comes by the way, returns the answer."""


def _serial(text: str) -> str | None:
    return None if _SERIAL.fullmatch(text) else "expected the 10 letters and digits of a serial number"


def _interval(seconds: float) -> str | None:
    return "expected 10 or more, or 0 to ask nothing" if 0 < seconds < 10 else None


def _writes(value: Any) -> str | None:
    return "settings of an lxp cannot be written yet; expected false" if value else None


def _address(text: str) -> str | None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return "expected an IP address"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(DeviceOptions):
    """One entry of `devices` with `type: lxp`."""

    host: str | None = option(None, doc="the stick's address, to connect to it")
    port: int = option(8000, minimum=1, maximum=65535, doc="the stick's port")
    listen: int | None = option(None, minimum=1, maximum=65535, doc="port on which to wait for the stick, 4346")
    udp: int | None = option(None, minimum=1, maximum=65535, doc="port of the stick's broadcasts, 4346; reading only")
    bind: str = option("0.0.0.0", check=_address, doc="address of ours for listen and udp")  # noqa: S104 (meant so)
    source: str | None = option(None, check=_address, doc="the only address to take anything from, listen and udp")
    datalogger: str | None = option(None, check=_serial, doc="the stick's serial number; learned when left out")
    inverter: str | tuple[str, ...] | None = option(
        None, check=_serial, doc="the inverter's serial number, learned when left out; a list of them on one stick"
    )
    interval: float = option(30.0, minimum=0, maximum=3600, check=_interval, doc="s between rounds; 0 asks nothing")
    settings_interval: float = option(600.0, minimum=60, maximum=86400, doc="s between readings of the settings")
    heartbeat: bool = option(True, doc="whether heartbeats are answered; a stick without its cloud wants that")
    max_age: float | None = option(None, minimum=10, maximum=86400, doc="s a reading stays true; three intervals")
    power_unit: Literal["auto", "percent", "kw"] = option("auto", doc="what power settings count in; auto: by model")
    limit_divisor: Literal["auto", 10, 100] = option("auto", doc="steps of one ampere in the BMS limits")
    phases: Literal["auto", "one", "split", "three"] = option("auto", doc="of the grid; auto: by model, never three")
    packs: bool = option(False, doc="whether to read the battery packs behind the inverter")
    raw: bool = option(False, doc="whether to publish every received word by number, too")
    writes: bool = option(False, check=_writes, doc="whether settings may be written")

    @staticmethod
    def conflicts(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """One way to the stick; a list of inverters has no double."""
        ways = [key for key in ("host", "listen", "udp") if values.get(key) is not None]
        if len(ways) != 1 and {"host", "listen", "udp"} <= values.keys():
            yield ways[-1] if ways else "host", "expected exactly one of host, listen and udp"
        if values.get("source") and ways == ["host"]:
            yield "source", "is for listen and udp"
        serials = values.get("inverter")
        if isinstance(serials, tuple) and (not serials or len(set(serials)) < len(serials)):
            yield "inverter", "expected different serial numbers, at least one"


def build(options: Options, context: Context) -> LxpDevice:
    """Return the device for one entry of the configuration; nothing is connected yet."""
    return LxpDevice(options, context)


def _manner(options: Options) -> Manner:
    asking = options.interval if options.udp is None else 0.0
    overrides: dict[str, Any] = {}
    if options.power_unit != "auto":
        overrides["power_unit"] = _UNITS[options.power_unit]
    if options.limit_divisor != "auto":
        overrides["limit_divisor"] = options.limit_divisor
    phases = _PHASES[options.phases] if options.phases != "auto" else None
    age = options.max_age or (max(90.0, 3 * asking) if asking else PUSH_AGE)
    return Manner(options.name, age, overrides, phases, options.packs, options.raw)


class LxpDevice:
    """One stick and its inverters. Owned by one thread."""

    def __init__(self, options: Options, context: Context) -> None:
        self._options = options
        self._context = context
        self._manner = _manner(options)
        self._asking = options.interval if options.udp is None else 0.0
        self._line: Line | None = None
        self._link: Link | None = None
        self._listener: Listener | None = None
        self._backoff = Backoff(*(REOPEN if options.host is not None else LISTEN_AGAIN))
        self._short = 0
        self._warned: set[str] = set()
        self._commands: deque[tuple[float, ReadRegisters]] = deque()
        self._datalog = options.datalogger
        self._datalog_sure = options.datalogger is not None
        self._inverters: dict[str, Inverter] = {}
        self._totals: Totals | None = None
        self._know(options.inverter)
        self._begin()

    def _know(self, serials: str | tuple[str, ...] | None) -> None:
        """Take up the inverters that are configured; of several, each is a unit of its own."""
        several = serials if isinstance(serials, tuple) else (serials,) if serials else ()
        for serial in several:
            self._inverters[serial] = self._new_inverter(serial, serial if len(several) > 1 else "")
        if len(several) > 1:
            self._totals = Totals(self._manner)

    def _new_inverter(self, serial: str, path: str) -> Inverter:
        return Inverter(serial, path, self._manner, asked_all=not self._asking)

    def _begin(self) -> None:
        """Start with what belongs to one connection."""
        self._round_due = self._free_at = self._own_at = time.monotonic()
        self._unanswered = False
        self._heard_foreign: set[str] = set()
        self._heard_own = False

    @property
    def _where(self) -> str:
        options = self._options
        if options.host is not None:
            return f"{options.host}:{options.port}"
        return f"port {options.listen}" if options.listen else f"UDP port {options.udp}"

    # -- what the publisher calls

    @property
    def interval(self) -> float:
        if not self._inverters:
            return min(1.0, TICK)  # a round begins soon after the serials are learned
        return self._asking / math.ceil(self._asking / TICK) if self._asking else TICK

    def open(self) -> None:
        self.close()
        self._begin()
        self._link = self._open_link()
        self._line = Line(
            self._link, self._context.tally, answer=self._options.heartbeat, datagrams=self._options.udp is not None
        )
        self._round_due = self._own_at = self._line.opened_at
        for inverter in self._inverters.values():
            inverter.ask_anew()

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
        if self._heard_foreign and not self._heard_own and self._options.inverter is None:
            self._inverters.clear()  # what was learned lives here no more
            self._datalog = self._options.datalogger
            self._datalog_sure = self._datalog is not None

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
        for inverter in self._inverters.values():
            inverter.ask_anew()

    def obey(self, command: ReadRegisters) -> Iterator[Reading | None]:
        """Note which registers somebody wants to see; say at once if that cannot be done."""
        if self._options.udp is not None:
            yield self._outcome(command, "failed", "broadcasts are for reading only")
        elif self._line is None:
            yield self._outcome(command, "failed", "not connected")
        elif len(self._commands) >= COMMANDS:
            self._context.tally.failed("refused", "more reads on demand than the stick can answer")
        else:
            self._commands.append((time.monotonic(), command))

    def poll(self) -> Iterator[Reading | None]:
        line = self._connected()
        yield from self.receive()
        yield from self._listen_until(line.opened_at + GREETING)
        yield from self._answer_commands()
        try:
            if self._asking and time.monotonic() >= self._round_due and self._datalog and self._inverters:
                yield from self._round()
        finally:
            self._watch(line)

    # -- what comes in

    def _connected(self) -> Line:
        if self._line is None:
            raise LinkError(f"{self._where}: not connected")
        return self._line

    def _listen_until(self, until: float) -> Iterator[Reading | None]:
        while time.monotonic() < until:
            yield from self._digest_all(self._connected().listen(until) or ())

    def _digest_all(self, heard: Iterable[Heard]) -> Iterator[Reading | None]:
        for one in heard:
            yield from self._digest(one)

    def _digest(self, heard: Heard, *, wanted: bool = False) -> Iterator[Reading | None]:
        """Take one whole frame; `wanted` says that it is the answer to our own question."""
        reply, at = heard
        if not self._is_our_stick(reply.datalog_serial) or not isinstance(
            reply, (Registers, Written, WrittenMany, Refused)
        ):
            return
        inverter = self._inverter_of(reply)
        if inverter is None:
            return
        self._own_at, self._heard_own = at, True
        if isinstance(self._link, DatagramLink):
            self._link.pin()
        if isinstance(reply, Registers):
            yield from self._take(inverter, reply, at, wanted)
        elif isinstance(reply, (Written, WrittenMany)):
            inverter.holds.due_now(reply.register)  # somebody changed a setting: look what it is now

    def _take(self, inverter: Inverter, frame: Registers, at: float, wanted: bool) -> Iterator[Reading | None]:
        tally = self._context.tally
        if frame.protocol == 1 and not wanted:
            # a request of another client, sent back, looks the same
            tally.failed("foreign", f"a single word of register {frame.register} that was not asked for")
            return
        try:
            readings, refused = inverter.take(frame, at, time.monotonic())
        except ProtocolError as err:
            tally.failed(err.kind, err.detail)
            return
        for text in refused:
            tally.failed("implausible", text)
        for reading in readings:
            yield reading
            if reading is inverter.reading and self._totals is not None:
                yield self._totals.add_up(list(self._inverters.values()), time.monotonic())

    def _is_our_stick(self, serial: str) -> bool:
        """Whether a frame is from the stick we know; the first two that agree make it known."""
        if self._datalog is None or (serial != self._datalog and not self._datalog_sure):
            self._datalog = serial
            log.info("%s: datalogger %s", self._options.name, serial)
        elif serial == self._datalog:
            self._datalog_sure = True
        else:
            self._foreign("datalogger", serial, self._datalog)
            return False
        return True

    def _inverter_of(self, reply: Registers | Written | WrittenMany | Refused) -> Inverter | None:
        serial = reply.inverter_serial
        inverter = self._inverters.get(serial)
        if inverter is not None:
            return inverter
        if self._inverters:
            self._foreign("inverter", serial, ", ".join(self._inverters))
            return None
        if not isinstance(reply, Registers) or reply.protocol == 1 or not _SERIAL.fullmatch(serial):
            return None
        log.info("%s: inverter %s", self._options.name, serial)
        inverter = self._inverters[serial] = self._new_inverter(serial, "")
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
        eager = self._asking and (self._unanswered or heard is None)
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
        self._round_due = max(self._round_due + self._asking, started)
        answered = False
        for inverter in list(self._inverters.values()):
            for piece in [*inverter.inputs.pieces, *(inverter.battery() if self._options.packs else ())]:
                reply = yield from self._ask_piece(inverter, inverter.inputs, Function.READ_INPUT, piece)
                yield from self._answer_commands()
                if reply is None:
                    break  # it would only hold up the others
                answered = True
        if not answered:
            raise NoReply("no answer")
        yield from self._ask_holds(started + self._asking - ROOM)

    def _ask_holds(self, until: float) -> Iterator[Reading | None]:
        for inverter in list(self._inverters.values()):
            while due := [piece for piece in inverter.holds.pieces if piece.due <= time.monotonic()]:
                reply = yield from self._ask_piece(inverter, inverter.holds, Function.READ_HOLD, due[0])
                due[0].due = time.monotonic() + (self._options.settings_interval if reply else self._asking)
                yield from self._answer_commands()
                if time.monotonic() > until:
                    break
            else:
                yield from inverter.settings(time.monotonic(), complete=True)

    def _ask_piece(self, inverter: Inverter, blocks: Blocks, function: int, piece: Piece) -> Asking:
        """Ask for one piece; let the plan learn from what comes."""
        reply = yield from self._ask(inverter.serial, function, piece.first, piece.length)
        planned = piece in blocks.pieces
        if isinstance(reply, Refused):
            text = EXCEPTIONS.get(reply.code, f"code {reply.code}")
            self._context.tally.failed("refused", f"registers {piece.first} to {piece.end - 1}: {text}")
            if reply.code in UNREADABLE and planned:
                blocks.refused(piece)
            elif reply.code in UNREADABLE:
                inverter.has_battery_block = False
        elif reply is not None and planned and len(reply.data) // 2 < piece.length:
            blocks.shortened(piece, len(reply.data) // 2)
        return reply

    def _ask(self, serial: str, function: int, first: int, length: int) -> Asking:
        """Ask for registers, up to three times; return the answer or None."""
        request = Read(self._datalog or "", serial, function, first, length)
        for attempt in range(1 + RETRIES):
            if attempt:
                yield from self._listen_until(time.monotonic() + RETRY_PAUSE)
            yield from self._listen_until(self._free_at + BETWEEN)
            self._context.beat()
            reply = yield from self._exchange(request)
            if reply is not None:
                return reply
            self._context.tally.failed("no_reply", f"registers {first} to {first + length - 1}: no answer")
        self._unanswered = True
        return None

    def _exchange(self, request: Read) -> Asking:
        """Send a request; return its answer or None at the deadline. Everything else that comes is digested too."""
        line, sent = self._connected(), time.monotonic()
        line.send(request)
        answer: Registers | Refused | None = None
        while answer is None and (left := sent + ANSWER) > time.monotonic():
            for heard in line.listen(left) or ():
                fits = answer is None and _answers(request, heard.reply)
                if fits and isinstance(heard.reply, (Registers, Refused)):
                    answer = heard.reply
                yield from self._digest(heard, wanted=fits)
        self._free_at = time.monotonic()
        self._context.tally.busy += self._free_at - sent
        if answer is not None:
            self._context.tally.replies += 1
            self._unanswered = False
        return answer

    # -- raw registers on demand

    def _answer_commands(self) -> Iterator[Reading | None]:
        while self._commands:
            asked_at, command = self._commands.popleft()
            if time.monotonic() - asked_at > COMMAND_AGE:
                yield self._outcome(command, "failed", "it waited for too long")
            elif not self._inverters or self._datalog is None:
                yield self._outcome(command, "failed", "the serial numbers are not known yet")
            else:
                for inverter in list(self._inverters.values()):
                    yield from self._read_out(inverter, command)

    def _read_out(self, inverter: Inverter, command: ReadRegisters) -> Iterator[Reading | None]:
        """Read what one command asks for, in as many requests as it takes."""
        function, at, end = TABLES[command.table], command.register, command.register + command.count
        largest = max((piece.length for piece in inverter.inputs.pieces), default=GROUP)
        words: dict[str, Value] = {}
        reason: str | None = None
        while at < end and reason is None:
            length = min(end - at, largest if largest > GROUP else GROUP - at % GROUP)
            reply = yield from self._ask(inverter.serial, function, at, length)
            if reply is None:
                reason = "no answer"
            elif isinstance(reply, Refused):
                reason = f"refused: {EXCEPTIONS.get(reply.code, f'code {reply.code}')}"
            else:
                found = reply.words[:length]
                words |= raw_words(function, at, found)
                at += len(found)
        yield self._outcome(command, "failed" if reason else "done", reason, words, inverter.unit)

    def _outcome(
        self,
        command: ReadRegisters,
        outcome: str,
        reason: str | None,
        words: Mapping[str, Value] | None = None,
        unit: Unit | None = None,
    ) -> Reading:
        if unit is None:
            unit = Unit("", self._options.name, (), self._manner.max_age, manufacturer=MANUFACTURER)
        text = f"read/{command.table}/{command.register}"
        values = {"command": text, "count": command.count, "outcome": outcome, "reason": reason, **(words or {})}
        return Reading(unit, values, time.monotonic(), channel=Channel.REGISTERS)


def _answers(request: Read, reply: Reply) -> bool:
    """Whether a reply is the answer; one of a single word only if a single word was asked for."""
    return request.answered_by(reply) and not (
        isinstance(reply, Registers) and reply.protocol == 1 and request.length != 1
    )
