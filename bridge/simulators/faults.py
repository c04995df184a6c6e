"""What can be done to a reply on its way: knobs that any thread may turn while a simulator runs.

Every knob is an attribute of Faults; `clear()` puts all of them back. A simulator's own knobs (NAK to
everything, wrong CRC ...) are fields of a subclass, so that one object holds them all.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields


@dataclass(slots=True)
class Plan:
    """How one reply is sent. `data` None: not at all. `struck` names the faults that were applied."""

    data: bytes | None
    delay: float = 0.0
    byte_pause: float = 0.0
    pause_at: tuple[int, float] | None = None
    hold: int = 1
    struck: tuple[str, ...] = ()


@dataclass
class Faults:
    """Faults of a line. Times are seconds; a negative byte index counts from the end of the reply.

    >>> faults = Faults()
    >>> faults.cut, faults.times = 8, 1     # the next reply ends after eight bytes, then all is well again
    """

    silent: bool = False
    """No reply at all, for as long as it is set."""
    swallow: int = 0
    """The next n replies are lost; counts down."""
    delay: float = 0.0
    """Replies start that much later. A late reply is not dropped by a new request, it comes before the next one."""
    flip: tuple[int, int] | None = None
    """(byte, mask): these bits of that byte are inverted."""
    flips: int = 0
    """That many random bits are inverted, all different."""
    swap: tuple[int, int] | None = None
    """Two bytes change places: what a sum cannot see."""
    overwrite: tuple[int, bytes] | None = None
    """From that byte on, these bytes instead."""
    cut: int | None = None
    """Only the first n bytes are sent; 8 is one HID report."""
    noise_before: bytes = b""
    noise_inside: bytes = b""
    """Goes into the middle of the reply."""
    noise_after: bytes = b""
    chatter: bool = False
    """Random bytes without end, at line rate, whenever no reply is under way."""
    merge: int = 1
    """Replies are held back until there are n, then sent joined."""
    duplicates: int = 0
    """Each reply is sent that many more times."""
    byte_pause: float = 0.0
    """Bytes come one by one, with this pause before each."""
    pause_at: tuple[int, float] | None = None
    """(n, seconds): a pause after n bytes."""
    mutate: Callable[[bytes], bytes] | None = None
    """Anything else: the reply becomes what this function makes of it."""
    only: bytes = b""
    """Strike only replies to requests that contain these bytes."""
    chance: float = 1.0
    """Strike each reply with this probability."""
    times: int | None = None
    """Strike that many replies, then clear(); None: for ever."""
    seed: int = 0

    _lock: threading.Lock = field(init=False, repr=False, compare=False, default_factory=threading.Lock)
    _random: random.Random = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def clear(self) -> None:
        """Put every knob back to "no fault"."""
        for knob in fields(self):
            if knob.init and knob.name != "seed" and knob.default is not MISSING:
                setattr(self, knob.name, knob.default)

    def noise(self, count: int) -> bytes:
        """Return that many random bytes, the same ones for the same seed."""
        return self._random.randbytes(count)

    def plan(self, request: bytes, reply: bytes) -> Plan:
        """Return how this reply is to be sent, counting down what counts down."""
        with self._lock:
            if self.only not in request or (self.chance < 1.0 and self._random.random() >= self.chance):
                return Plan(reply)
            plan = self._struck(reply)
            if plan.struck and self.times is not None:
                self.times -= 1
                if self.times <= 0:
                    self.clear()
            return plan

    def _struck(self, reply: bytes) -> Plan:
        if self.silent:
            return Plan(None, struck=("silent",))
        if self.swallow > 0:
            self.swallow -= 1
            return Plan(None, struck=("swallow",))
        struck: list[str] = []
        data = reply
        for name, damage in DAMAGES:
            if (knob := getattr(self, name)) or (name == "cut" and knob is not None):
                data = damage(self, data)
                struck.append(name)
        for name in ("delay", "byte_pause", "pause_at"):
            if getattr(self, name):
                struck.append(name)
        if self.merge > 1:
            struck.append("merge")
        return Plan(data, self.delay, self.byte_pause, self.pause_at, self.merge, tuple(struck))

    def _mutated(self, data: bytes) -> bytes:
        return self.mutate(data) if self.mutate else data

    def _flipped(self, data: bytes) -> bytes:
        index, mask = self.flip or (0, 0)
        out = bytearray(data)
        if -len(out) <= index < len(out):
            out[index] ^= mask
        return bytes(out)

    def _flipped_anywhere(self, data: bytes) -> bytes:
        out = bytearray(data)
        for bit in self._random.sample(range(len(out) * 8), min(self.flips, len(out) * 8)):
            out[bit // 8] ^= 1 << bit % 8
        return bytes(out)

    def _swapped(self, data: bytes) -> bytes:
        one, other = self.swap or (0, 0)
        out = bytearray(data)
        if max(one, other) < len(out) and min(one, other) >= -len(out):
            out[one], out[other] = out[other], out[one]
        return bytes(out)

    def _overwritten(self, data: bytes) -> bytes:
        start, new = self.overwrite or (0, b"")
        start = start if start >= 0 else max(0, len(data) + start)
        return data[:start] + new + data[start + len(new) :]

    def _with_noise_inside(self, data: bytes) -> bytes:
        middle = len(data) // 2
        return data[:middle] + self.noise_inside + data[middle:]


# In the order they are applied: first the frame's own bytes, then what surrounds it.
DAMAGES: tuple[tuple[str, Callable[[Faults, bytes], bytes]], ...] = (
    ("mutate", Faults._mutated),
    ("flip", Faults._flipped),
    ("flips", Faults._flipped_anywhere),
    ("swap", Faults._swapped),
    ("overwrite", Faults._overwritten),
    ("noise_inside", Faults._with_noise_inside),
    ("cut", lambda faults, data: data[: faults.cut]),
    ("duplicates", lambda faults, data: data * (1 + faults.duplicates)),
    ("noise_before", lambda faults, data: faults.noise_before + data),
    ("noise_after", lambda faults, data: data + faults.noise_after),
)
