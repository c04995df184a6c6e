"""A simulated LuxPower datalogger ("stick") with one inverter behind it, or several told apart by their serials.

Models: `acs` (LXP 3600 ACS, blocks of 40), `hybrid` (LXP 3-6K, 40), `sna` (127), `lxp12k` (125), `eg4` (120, and
battery packs from input register 5000 on). It listens on TCP, dials out (`dial`) and broadcasts its pushes by UDP
(`udp`).

A frame's sequence number stands, modulo 100, in the last two digits of v_bus_1 (register 38), runtime (69, 70),
max_cell_voltage (101) and v_bus_half (120), and of v_eps_l1 (127) and v_ac_l1 (193) while these are not 0; so every
pushed block of input registers below 254 carries it, and of the battery packs too (highest cell voltage). Holding
registers, acknowledgements, exceptions, parameters and heartbeats carry none. A frame that goes to several clients is
one record; it enters the truth log just after its last byte was handed over, so await it there (truth.wait, call).

    with LxpSimulator(model="sna", greeting=0.0, pace=0.01) as stick:
        stick.port                                  # "127.0.0.1:40123"
        stick.faults.drop_at, stick.faults.times = 50, 1
        stick.lies.forget = True
        stick.plant.battery.soc = 20.0
        stick.truth.records("input")
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import struct
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from bridge.simulators import lxp_settings as settings
from bridge.simulators.faults import Plan
from bridge.simulators.living import Battery, DayClock, House
from bridge.simulators.lxp_faults import Lies, LxpFaults, SocketPlan
from bridge.simulators.lxp_frames import (
    DATA,
    HEARTBEAT,
    ILLEGAL_ADDRESS,
    ILLEGAL_FUNCTION,
    ILLEGAL_VALUE,
    READ_HOLD,
    READ_INPUT,
    READ_PARAMETER,
    WRITE_MULTI,
    WRITE_PARAMETER,
    WRITE_SINGLE,
    Dress,
    Request,
    cut,
)
from bridge.simulators.lxp_plant import Inverter, Plant, packs, state
from bridge.simulators.lxp_ports import Address, Peer, Ports
from bridge.simulators.lxp_registers import MODELS, SHAPES, Block, input_words, named, pack_words
from bridge.simulators.simulator import Simulator
from bridge.simulators.truth import Record, Scalar, TruthLog

CHATTER, CHATTER_PAUSE = 256, 0.01
"""Bytes of endless noise at a time, and the seconds between them."""
SEGMENT_PAUSE = 0.001
"""Seconds between two segments, so that the kernel keeps them apart while the other side reads."""
PACKS = range(5000, 5122)


@dataclass(frozen=True, slots=True)
class Write:
    """A write that came in, by a client or as if by another one: what was there, asked and stored.

    `code` is the exception it was refused with, `lies` what was done to it.
    """

    at: float
    inverter: str
    register: int
    old: tuple[int, ...]
    wanted: tuple[int, ...]
    stored: tuple[int, ...]
    code: int | None = None
    lies: tuple[str, ...] = ()


@dataclass(slots=True)
class _Parcel:
    """A frame on its way to some peers, with its record."""

    data: bytes
    record: Record
    peers: list[Peer]
    udp: bool


class LxpSimulator(Simulator):
    """A stick and its inverters; every attribute may be changed while it runs.

    `tcp_port` 0 is any free one, None no listener. `shape` is a key of SHAPES or a tuple of blocks, the model's own
    when left out. A client that connects gets a heartbeat at once and a set of blocks after `greeting` seconds;
    all clients get one every `push_interval` seconds, its blocks `pace` seconds apart.
    """

    faults: LxpFaults

    def __init__(
        self,
        name: str = "lxp",
        *,
        model: str = "sna",
        serials: Sequence[str] = ("4512670118",),
        datalog: str = "BA24500731",
        host: str = "127.0.0.1",
        tcp_port: int | None = 0,
        dial: Address | None = None,
        udp: Address | None = None,
        shape: str | Sequence[Block] | None = None,
        greeting: float = 2.0,
        pace: float = 1.0,
        push_interval: float = 120.0,
        heartbeat_interval: float = 60.0,
        turnaround: float = 0.0,
        clock: DayClock | None = None,
        seed: int = 1,
        truth: TruthLog | None = None,
    ) -> None:
        super().__init__(name, LxpFaults(seed=seed), truth)
        kind = MODELS[model]
        self.lies = Lies(seed=seed)
        self.plant = Plant(
            [Inverter(kind, serial) for serial in serials],
            House(seed),
            clock if clock is not None else DayClock(),
            Battery(10_240.0 * len(serials), 60.0),
        )
        self.ports = Ports(host, tcp_port, dial, udp, self.faults)
        self.datalog = datalog
        self.protocol = 2
        """Of what the stick sends: 1, 2 or 5, whatever a client uses."""
        self.address = 1
        """First byte of its data frames; some sticks say 0."""
        self.shape: str | Sequence[Block] = shape if shape is not None else kind.shape
        self.greeting = greeting
        self.pace = pace
        self.push_interval = push_interval
        self.heartbeat_interval = heartbeat_interval
        self.turnaround = turnaround
        self.broadcast = True
        """Answers go to every client, as real sticks do; False: only to who asked."""
        self.cloud = True
        """The stick reaches its cloud; without it, it pushes only to clients that answer heartbeats."""
        self.parameters = {7: b"\0\0", 6: b"198.51.100.7,4346"}
        """Those of the stick itself; 0 is `push_interval`."""
        self.requests: deque[Request] = deque(maxlen=100_000)
        """All whole frames that clients sent, refused ones included."""
        self.writes: deque[Write] = deque(maxlen=100_000)
        self.echoes = 0
        """Heartbeats that came back as they were sent."""
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._held: list[_Parcel] = []
        self._out: deque[tuple[float, Callable[[], None]]] = deque()
        """What goes out at which time, in this order whatever the time is."""
        self._busy_until = 0.0
        self._heartbeat_at = self._push_at = self._chatter_at = self._given_at = 0.0

    @property
    def port(self) -> str:
        """host:port of the listener, or of the program it dials when it does not listen, or of its UDP target."""
        if self.ports.port is not None:
            return f"{self.ports.host}:{self.ports.port}"
        host, number = self.ports.dial or self.ports.udp or ("", 0)
        return f"{host}:{number}"

    @property
    def inverters(self) -> list[Inverter]:
        return self.plant.inverters

    def push(self) -> None:
        """Send a set of blocks to all clients now."""
        self.call(self._push_set)

    def heartbeat(self) -> None:
        """Send a heartbeat to all clients now."""
        self.call(lambda: self._beat(list(self.ports.peers)))

    def say(self, data: bytes) -> None:
        """Send any bytes to all clients, such as the stray text b"AT+QUIT\\r"."""
        self.call(lambda: self._give(list(self.ports.peers), data))

    def drop(self, reset: bool = False) -> None:
        """End all connections."""
        self.call(lambda: self._drop(list(self.ports.peers), reset))

    def forge(self, data: bytes, source: str = "127.0.0.2") -> None:
        """Send a datagram to the UDP target from another address."""
        self.call(lambda: self.ports.datagram(data, source))

    def frame(self, function: int, first: int, count: int, inverter: int = 0) -> bytes:
        """Return a block as it would be sent now, without sending it: for what a test wants to spoil by itself."""
        return self.call(lambda: self._block(inverter, function, first, count)[0])

    def foreign_read(self, function: int, first: int, count: int, inverter: int = 0) -> None:
        """Send all clients the answer to a read of another one, or of the cloud."""

        def answer() -> None:
            frame, record = self._block(inverter, function, first, count)
            self._emit(frame, record, frame, list(self.ports.peers))

        self.call(answer)

    def foreign_write(self, register: int, value: int, inverter: int = 0) -> None:
        """Let another client write a holding register; all clients get the acknowledgement."""
        self.call(lambda: self._foreign_write(self.inverters[inverter], register, value))

    def fast_forward(self, seconds: float) -> None:
        """Let that many simulated seconds pass at once; a day takes about half a second."""

        def skip() -> None:
            self.plant.advance()
            self.plant.skipped += seconds
            self.plant.advance()

        self.call(skip)

    # --- the thread ---

    def _open(self) -> None:
        self.ports.open()
        now = time.monotonic()
        self._heartbeat_at, self._push_at = now, now

    def _close(self) -> None:
        self.ports.close()
        self._agenda.clear()
        self._held.clear()
        self._out.clear()
        self._busy_until = 0.0

    def _step(self, wake: int, until: float) -> None:
        if not self.faults.hang:
            self._do_what_is_due()
            dues = [due for due, _, _ in self._agenda[:1]] + [due for due, _ in itertools.islice(self._out, 1)]
            dues += [self._heartbeat_at + self.heartbeat_interval, self._push_at + self.push_interval]
            dues += [self._chatter_at] if self.faults.chatter and not self._out else []
            until = min([until, *dues])
        for peer in self.ports.step(wake, until):
            self._hear(peer)
        while self.ports.fresh:
            self._greet(self.ports.fresh.popleft())

    def _do_what_is_due(self) -> None:
        self._send_what_is_due()
        now = time.monotonic()
        while self._agenda and self._agenda[0][0] <= now:
            heapq.heappop(self._agenda)[2]()
        if now >= self._heartbeat_at + self.heartbeat_interval:
            self._heartbeat_at = now
            self._beat(list(self.ports.peers))
        if now >= self._push_at + self.push_interval:
            self._push_at = now
            self._push_set()
        if self.faults.chatter and now >= self._chatter_at and not self._out:
            self._chatter_at = now + CHATTER_PAUSE
            self._give(list(self.ports.peers), self.faults.noise(CHATTER))

    def _at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (when, next(self._order), action))

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do it after that time; at once when that is 0."""
        if seconds <= 0:
            action()
        else:
            self._at(time.monotonic() + seconds, action)

    # --- what comes unasked ---

    def _greet(self, peer: Peer) -> None:
        self._beat([peer])
        self._later(self.greeting, partial(self._push_set, peer))

    def _beat(self, peers: list[Peer]) -> None:
        if not peers:
            return
        frame = self._dress.heartbeat()
        for peer in peers:
            peer.answered = peer.answered and not peer.pending
            peer.pending, peer.heartbeat = True, frame
        record = self._record("heartbeat", self.datalog, {})
        if self.faults.only_heartbeats:
            self._transmit([_Parcel(frame, record, peers, False)], Plan(frame))
        else:
            self._emit(frame, record, frame, peers)

    def _push_set(self, peer: Peer | None = None) -> None:
        blocks = SHAPES[self.shape] if isinstance(self.shape, str) else self.shape
        turns = itertools.product(range(len(self.inverters)), blocks)
        for turn, (inverter, block) in enumerate(turns):
            self._later(turn * self.pace, partial(self._push, inverter, block, peer))

    def _push(self, inverter: int, block: Block, peer: Peer | None) -> None:
        peers = [known for known in self.ports.peers if peer in (None, known) and (self.cloud or known.answered)]
        udp = peer is None and self.ports.udp is not None
        if self.faults.only_heartbeats or self.faults.no_pushes or not (peers or udp):
            return
        frame, record = self._block(inverter, *block)
        late = self.faults.late_block
        if late is not None and block[0] == READ_INPUT and block[1] == late[0]:
            record = replace(record, faults=("late_block",))
            self._later(late[1], lambda: self._emit(frame, record, frame, peers, udp))
        else:
            self._emit(frame, record, frame, peers, udp)

    # --- what is asked ---

    def _hear(self, peer: Peer) -> None:
        for request in cut(peer.received):
            self.requests.append(request)
            if request.tcp_function == HEARTBEAT:
                if request.raw == peer.heartbeat:
                    self.echoes += 1
                    peer.pending, peer.answered = False, True
            elif request.sound and request.datalog == self.datalog.encode() and not self.faults.only_heartbeats:
                self._later(self.turnaround, partial(self._answer, peer, request))

    def _answer(self, peer: Peer, request: Request) -> None:
        if request.tcp_function == READ_PARAMETER:
            self._answer_parameter(peer, request)
        elif request.tcp_function == WRITE_PARAMETER:
            self._write_parameter(peer, request)
        elif request.tcp_function == DATA:
            found = [i for i, known in enumerate(self.inverters) if known.serial.encode() == request.inverter]
            if not found:
                # unconfirmed: an inverter keeps silent when the serial is not its own (lxp-packet)
                return
            if request.function in (READ_HOLD, READ_INPUT):
                self._answer_read(peer, request, found[0])
            elif request.function in (WRITE_SINGLE, WRITE_MULTI):
                self._answer_write(peer, request, self.inverters[found[0]])
            else:
                self._refuse(peer, request, self.inverters[found[0]], ILLEGAL_FUNCTION)

    def _answer_read(self, peer: Peer, request: Request, index: int) -> None:
        if request.count == 0:
            return
        inverter, first = self.inverters[index], request.number
        code = self._unreadable(inverter, request)
        if code is not None:
            self._refuse(peer, request, inverter, code)
            return
        count = min(request.count, self.faults.short_reads or request.count)
        if self.faults.foreign_block is not None:
            first, count = self.faults.foreign_block
        frame, record = self._block(index, request.function, first, count)
        self._reply(peer, request, frame, record)

    def _unreadable(self, inverter: Inverter, request: Request) -> int | None:
        """Return the exception code that a read gets, None when it is answered.

        unconfirmed: the codes, but for those of a refused holding register and of 5122 on (pylxpweb).
        """
        model, first, last = inverter.model, request.number, request.number + request.count - 1
        if request.count > model.largest_read or (model.largest_read == 40 and first // 40 != last // 40):
            return ILLEGAL_VALUE
        if request.function == READ_HOLD and self.faults.holds_refused is not None:
            return self.faults.holds_refused
        if request.function == READ_HOLD:
            return None if settings.readable(inverter, first, request.count) else ILLEGAL_ADDRESS
        if model.packs and first >= PACKS.start:
            return None if last in PACKS else ILLEGAL_VALUE
        return None if last < model.inputs else ILLEGAL_ADDRESS

    def _answer_write(self, peer: Peer, request: Request, inverter: Inverter) -> None:
        lies = self.lies.told(request.number)
        if lies.interleave is not None:
            self._foreign_write(inverter, *lies.interleave)
        first, wanted = request.number, request.words
        old = tuple(settings.read(self.plant, inverter, first, len(wanted)))
        code = lies.exception
        if code is None:
            code = settings.refusal(self.plant, inverter, dict(enumerate(wanted, first)))
        stored = old if code is not None else tuple(map(lies.stored, old, wanted))
        if code is None and not lies.keeps_out():
            self._store(inverter, first, old, stored, lies)
        code = lies.exception_stored if code is None else code
        self.writes.append(
            Write(time.monotonic(), inverter.serial, first, old, wanted, stored, code, lies.names())
        )  # fmt: skip
        if lies.drop:
            self.ports.drop(peer, lies.reset)
        elif not lies.mute:
            frame, record = self._acknowledgement(request, inverter, stored, code, lies)
            self._later(lies.late, lambda: self._reply(peer, request, frame, record))

    def _store(self, inverter: Inverter, first: int, old: Sequence[int], stored: Sequence[int], lies: Lies) -> None:
        put = partial(settings.store, self.plant, inverter)
        self._later(lies.store_late, partial(put, dict(enumerate(stored, first))))
        if lies.revert_after is not None:
            self._later(lies.store_late + lies.revert_after, partial(put, dict(enumerate(old, first))))

    def _acknowledgement(
        self, request: Request, inverter: Inverter, stored: Sequence[int], code: int | None, lies: Lies
    ) -> tuple[bytes, Record]:
        """Return what a write is answered with, and its record."""
        dress, serial, register = self._dress, inverter.serial, request.number
        if code is not None:
            frame = dress.exception(request.function, serial, register, code)
            record = self._record("exception", serial, _exception(request, code))
        elif lies.answer_other is not None:
            frame = dress.written(serial, *lies.answer_other)
            record = self._record("write", serial, dict(zip(("register", "value"), lies.answer_other, strict=True)))
        elif request.function == WRITE_MULTI:
            frame = dress.written_multi(serial, register, len(stored))
            record = self._record("write_multi", serial, {"register": register, "count": len(stored)})
        else:
            value = stored[0] if lies.echo_stored else request.words[0]
            value = value if lies.echo is None else lies.echo
            frame = dress.written(serial, register, value, lies.read_style)
            record = self._record("write", serial, {"register": register, "value": value})
        return frame, replace(record, faults=lies.names())

    def _foreign_write(self, inverter: Inverter, register: int, value: int) -> None:
        old = settings.read(self.plant, inverter, register, 1)[0]
        settings.store(self.plant, inverter, {register: value})
        self.writes.append(
            Write(time.monotonic(), inverter.serial, register, (old,), (value,), (value,), None, ("foreign",))
        )  # fmt: skip
        record = self._record("write", inverter.serial, {"register": register, "value": value})
        frame = self._dress.written(inverter.serial, register, value)
        self._emit(frame, replace(record, faults=("foreign",)), frame, list(self.ports.peers))

    def _refuse(self, peer: Peer, request: Request, inverter: Inverter, code: int) -> None:
        frame = self._dress.exception(request.function, inverter.serial, request.number, code)
        self._reply(peer, request, frame, self._record("exception", inverter.serial, _exception(request, code)))

    def _answer_parameter(self, peer: Peer, request: Request) -> None:
        value = struct.pack("<H", round(self.push_interval)) if request.number == 0 else b""
        value = value or self.parameters.get(request.number, b"")
        if value:
            record = self._record("parameter", self.datalog, {"parameter": request.number, "value": value.hex()})
            self._reply(peer, request, self._dress.parameter(request.number, value), record)

    def _write_parameter(self, peer: Peer, request: Request) -> None:
        if request.number == 0 and len(request.data) == 2:
            self.push_interval = float(struct.unpack("<H", request.data)[0])
        self.parameters[request.number] = request.data
        record = self._record("parameter_written", self.datalog, {"parameter": request.number, "status": 0})
        self._reply(peer, request, self._dress.parameter_written(request.number), record)

    # --- frames and their way out ---

    @property
    def _dress(self) -> Dress:
        return Dress(self.datalog, self.protocol, self.address)

    def _record(self, frame: str, unit: str, values: Mapping[str, Scalar]) -> Record:
        return Record(0.0, self.name, unit, frame, self.next_sequence(), values)

    def _block(self, index: int, function: int, first: int, count: int) -> tuple[bytes, Record]:
        """Return a block of registers as they are now, and its record."""
        inverter = self.inverters[index]
        place: dict[str, Scalar] = {"register": first, "count": count}
        if function == READ_HOLD:
            words = settings.read(self.plant, inverter, first, count)
            values = {f"hold_{register}": word for register, word in enumerate(words, first)}
            record = self._record("hold", inverter.serial, place | values)
        elif first >= PACKS.start:
            found = packs(self.plant, index, self.sequence + 1)
            slots = pack_words(found)
            words = [slots.get(register, 0) for register in range(first, first + count)]
            cells: dict[str, Scalar] = {f"{pack.serial}_cell_high": pack.cell_high for pack in found}
            record = self._record("packs", inverter.serial, place | cells)
        else:
            told = input_words(state(self.plant, index, self.sequence + 1), inverter.serial, inverter.model)
            words = [told.get(register, 0) for register in range(first, first + count)]
            record = self._record("input", inverter.serial, place | named(told, first, count, inverter.model))
        return self._dress.block(function, inverter.serial, first, words), record

    def _reply(self, peer: Peer, request: Request, frame: bytes, record: Record) -> None:
        self._emit(frame, record, request.raw, list(self.ports.peers) if self.broadcast else [peer])

    def _emit(self, frame: bytes, record: Record, request: bytes, peers: list[Peer], udp: bool = False) -> None:
        """Send a frame to these peers, with what the faults do to it."""
        plan = self.faults.plan(request, frame)
        record = replace(record, faults=(*record.faults, *plan.struck))
        if plan.data is None:
            self.truth.add(replace(record, at=time.monotonic(), whole=False))
            return
        dropped = isinstance(plan, SocketPlan) and plan.drop_at is not None
        parcel = _Parcel(plan.data, replace(record, whole=frame in plan.data and not dropped), peers, udp)
        self._later(plan.delay, lambda: self._hold(parcel, plan))

    def _hold(self, parcel: _Parcel, plan: Plan) -> None:
        """Keep frames back until there are as many as shall go out joined."""
        self._held.append(parcel)
        if len(self._held) >= plan.hold:
            held, self._held = self._held, []
            self._transmit(held, plan)

    def _transmit(self, parcels: list[_Parcel], plan: Plan) -> None:
        """Send joined frames piece by piece, behind what is being sent already."""
        peers = list(dict.fromkeys(peer for parcel in parcels for peer in parcel.peers))
        socket_plan = plan if isinstance(plan, SocketPlan) else SocketPlan(plan.data)
        data = b"".join(parcel.data for parcel in parcels)[: socket_plan.drop_at]
        start = self._busy_until = max(time.monotonic(), self._busy_until)
        *pieces, (last_at, last) = _pieces(data, socket_plan) or [(0.0, b"")]
        for offset, piece in pieces:
            self._out.append((start + offset, partial(self._give, peers, piece)))
        self._busy_until = start + last_at
        self._out.append((self._busy_until, partial(self._finish, parcels, peers, last, socket_plan)))
        self._send_what_is_due()

    def _send_what_is_due(self) -> None:
        while self._out and self._out[0][0] <= time.monotonic() and not self.faults.hang:
            self._out.popleft()[1]()

    def _give(self, peers: list[Peer], piece: bytes) -> None:
        self._given_at = time.monotonic()
        for peer in peers:
            self.ports.send(peer, piece)

    def _drop(self, peers: list[Peer], reset: bool) -> None:
        for peer in peers:
            self.ports.drop(peer, reset)

    def _finish(self, parcels: list[_Parcel], peers: list[Peer], last: bytes, plan: SocketPlan) -> None:
        """Log frames, then send the end of them: nobody shall ever hold a frame that is not in the log."""
        for parcel in parcels:
            record = replace(parcel.record, at=self._given_at)
            if not parcel.udp and not any(peer in self.ports.peers for peer in parcel.peers):
                record = replace(record, whole=False, faults=(*record.faults, "lost"))
            self.truth.add(record)
        self._give(peers, last)
        for parcel in parcels:
            if parcel.udp:
                self.ports.datagram(parcel.data)
        if plan.drop_at is not None:
            self._drop(peers, plan.reset)


def _pieces(data: bytes, plan: SocketPlan) -> list[tuple[float, bytes]]:
    """Return the segments of `data` with the seconds after which each is sent."""
    size = plan.segment or (1 if plan.byte_pause else len(data))
    step = plan.byte_pause or SEGMENT_PAUSE
    stop, pause = plan.pause_at or (len(data), 0.0)
    borders = sorted({*range(0, len(data), size or 1), min(stop, len(data)), len(data)})
    pieces = []
    for number, (first, last) in enumerate(itertools.pairwise(borders)):
        pieces.append((number * step + (pause if first >= stop else 0.0), data[first:last]))
    return pieces


def _exception(request: Request, code: int) -> dict[str, Scalar]:
    return {"function": request.function, "register": request.number, "code": code}


def _address(text: str) -> Address:
    host, _, number = text.rpartition(":")
    return host or "127.0.0.1", int(number)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this simulator's own options to those every simulator has."""
    parser.add_argument("--model", choices=list(MODELS), default="sna", help="kind of inverter (default: %(default)s)")
    parser.add_argument("--inverters", type=int, choices=range(1, 11), default=1, metavar="N", help="on one stick")
    parser.add_argument("--datalog", default="BA24500731", metavar="SERIAL", help="the stick's serial")
    parser.add_argument("--tcp-port", type=int, default=0, metavar="PORT", help="where it listens, 0 for a free one")
    parser.add_argument("--dial", type=_address, metavar="HOST:PORT", help="connect to a listening bridge instead")
    parser.add_argument("--udp", type=_address, metavar="HOST:PORT", help="send pushes there as datagrams, too")
    parser.add_argument("--push-interval", type=float, default=120.0, metavar="S", help="seconds between pushes")


def from_arguments(options: argparse.Namespace, clock: DayClock, truth: TruthLog) -> LxpSimulator:
    """Build the simulator that the options describe."""
    return LxpSimulator(
        model=options.model,
        serials=[f"45126701{18 + i:02d}" for i in range(options.inverters)],
        datalog=options.datalog,
        tcp_port=None if options.dial else options.tcp_port,
        dial=options.dial,
        udp=options.udp,
        push_interval=options.push_interval,
        turnaround=options.turnaround,
        clock=clock,
        seed=options.seed,
        truth=truth,
    )
