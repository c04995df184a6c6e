"""What a simulated LuxPower datalogger and its inverter do wrong: knobs that any thread may turn at any time.

LxpFaults strike frames on their way, Lies strike what becomes of a write.
"""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field, fields

from bridge.simulators.faults import Faults, Plan
from bridge.simulators.lxp_frames import redress, serial_bytes


@dataclass(slots=True)
class SocketPlan(Plan):
    """How a frame goes into TCP: `segment` bytes at a time, and the link dropped after `drop_at` bytes."""

    segment: int = 0
    drop_at: int | None = None
    reset: bool = False


@dataclass
class LxpFaults(Faults):
    """Faults of a stick, besides those of any line; of those, `chatter` and `noise_*` are foreign text on the socket.

    `only` is looked for in the request, for pushes in the pushed frame itself.

    >>> faults = LxpFaults()
    >>> faults.drop_at, faults.times = 50, 1     # the next frame breaks off after 50 bytes, link and all
    """

    refuse: bool = False
    """Nobody listens: connections are refused."""
    reset_at_once: bool = False
    """A connection is accepted and reset: a locked stick."""
    hang: bool = False
    """The stick stands still: it neither accepts, reads nor sends. What was due goes out when it is over."""
    only_heartbeats: bool = False
    """No answers and no pushes, only heartbeats."""
    no_pushes: bool = False
    drop_at: int | None = None
    """The link is dropped after that many bytes of a frame; 0 before its first."""
    reset: bool = False
    """A dropped link ends with RST instead of FIN."""
    segment: int = 0
    """Bytes leave that many at a time, across the borders of frames held back by `merge`; 1 is byte by byte.
    They follow each other after 1 ms, or after `byte_pause`."""
    wrong_crc: bool = False
    frame_length: int | None = None
    """This in the place of the envelope's length."""
    data_length: int | None = None
    """This in the place of the data frame's length."""
    value_length: int | None = None
    """This in the place of a read reply's value-length byte; the CRC fits."""
    other_datalog: str | None = None
    """Frames carry this datalog serial."""
    other_inverter: str | None = None
    """Frames carry this inverter serial; the CRC fits."""
    foreign_block: tuple[int, int] | None = None
    """(register, count): a read is answered with this block instead, as for the cloud (eg4_web_monitor issue 158)."""
    short_reads: int | None = None
    """A read gets at most that many registers (ant0nkr/luxpower-ha-integration issue 52)."""
    holds_refused: int | None = None
    """Reads of holding registers get this exception code, 6 for busy."""
    late_block: tuple[int, float] | None = None
    """(register, seconds): the pushed block that begins there goes out that much later than it was sampled."""

    def _struck(self, reply: bytes) -> Plan:
        wrong = self._wrong()
        plan = super()._struck(redress(reply, **wrong) if wrong else reply)
        struck = [*wrong, *plan.struck]
        struck += [name for name in ("segment",) if self.segment]
        struck += ["drop_at"] if self.drop_at is not None else []
        return SocketPlan(
            plan.data,
            plan.delay,
            plan.byte_pause,
            plan.pause_at,
            plan.hold,
            tuple(struck),
            self.segment,
            self.drop_at,
            self.reset,
        )

    def _wrong(self) -> dict[str, int | bytes | bool]:
        """Return what redress() shall spoil."""
        wrong: dict[str, int | bytes | bool] = {}
        for name in ("frame_length", "data_length", "value_length"):
            if (value := getattr(self, name)) is not None:
                wrong[name] = value
        if self.other_datalog is not None:
            wrong["datalog"] = serial_bytes(self.other_datalog)
        if self.other_inverter is not None:
            wrong["inverter"] = serial_bytes(self.other_inverter)
        if self.wrong_crc:
            wrong["crc"] = True
        return wrong


@dataclass
class Lies:
    """What becomes of a write, other than what was asked and what is said of it.

    >>> lies = Lies()
    >>> lies.forget, lies.times = True, 1     # the next write is acknowledged, but not stored
    """

    forget: bool = False
    """Acknowledged, not stored."""
    store: int | None = None
    """Acknowledged, but this is stored."""
    clamp: tuple[int, int] | None = None
    """(lowest, highest): the value is brought into this range, then stored."""
    neighbours: int = 0
    """These bits of the register are inverted along with the write."""
    echo: int | None = None
    """The acknowledgement shows this value."""
    echo_stored: bool = False
    """The acknowledgement shows what was stored, not what was asked."""
    answer_other: tuple[int, int] | None = None
    """(register, value): what comes is the acknowledgement of another client's write of these; ours is lost."""
    interleave: tuple[int, int] | None = None
    """(register, value): another client's write is carried out and acknowledged to all just before ours."""
    mute: bool = False
    """Stored, never acknowledged."""
    drop: str = ""
    """The link is dropped when a write comes, "before" or "after" it was stored; no acknowledgement."""
    reset: bool = False
    """A link dropped so ends with RST instead of FIN."""
    late: float = 0.0
    """Seconds by which the acknowledgement is late; the value is stored at once."""
    store_late: float = 0.0
    """Seconds after the acknowledgement until the value can be read."""
    revert_after: float | None = None
    """Seconds after which the old value is back (ant0nkr/luxpower-ha-integration issue 140)."""
    exception: int | None = None
    """Refused with this code."""
    exception_stored: int | None = None
    """This code is answered, but the value was stored."""
    read_style: bool = False
    """The acknowledgement has a length byte, as a read reply has. unconfirmed: only pylxpweb reports it."""
    register: int | None = None
    """Lie about writes of this register only, such as the second one of a window."""
    chance: float = 1.0
    """Lie about each write with this probability."""
    times: int | None = None
    """Lie about that many writes, then clear(); None: for ever."""
    seed: int = 0

    _lock: threading.Lock = field(init=False, repr=False, compare=False, default_factory=threading.Lock)
    _random: random.Random = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def clear(self) -> None:
        """Be honest again."""
        for knob in fields(self):
            if knob.init and knob.name != "seed":
                setattr(self, knob.name, knob.default)

    def told(self, register: int) -> Lies:
        """Return the lies that a write of this register gets, honest ones if none; counts down what counts down."""
        with self._lock:
            now = Lies(**{knob.name: getattr(self, knob.name) for knob in fields(self) if knob.init})
            meant = self.register in (None, register) and now.names()
            if not meant or (self.chance < 1.0 and self._random.random() >= self.chance):
                return Lies()
            if self.times is not None:
                self.times -= 1
                if self.times <= 0:
                    self.clear()
            return now

    def names(self) -> tuple[str, ...]:
        """Return which lies are on."""
        spared = ("register", "chance", "times", "seed", "reset")
        knobs = [knob for knob in fields(self) if knob.init and knob.name not in spared]
        return tuple(knob.name for knob in knobs if getattr(self, knob.name) != knob.default)

    def keeps_out(self) -> bool:
        """Return whether nothing of the write is stored."""
        return self.forget or self.exception is not None or self.answer_other is not None or self.drop == "before"

    def stored(self, old: int, value: int) -> int:
        """Return what the register holds after a write of `value`."""
        if self.keeps_out():
            return old
        kept = value if self.store is None else self.store
        if self.clamp is not None:
            kept = min(max(kept, self.clamp[0]), self.clamp[1])
        return (kept ^ self.neighbours) & 0xFFFF
