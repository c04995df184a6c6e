"""What a device's owning thread is told from outside: commands, in a bounded queue with a descriptor."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from bridge.wake import Wake

CAPACITY = 64
"""Commands waiting for one device. A flood past it is refused: whoever sends faster than a bus can
answer gets no queue that grows, and readings go on."""

BURST, REFILL = 32, 4.0
"""Settings that may come at once, and how many more in each second; so many reads of registers beside them. Each costs
an answer, even when it is refused, and each setting a line on disk; what comes faster is counted and told in one."""


class Refresh:
    """Read everything again, now."""


@dataclass(frozen=True)
class ReadRegisters:
    """Read `count` raw registers from `register` on, of the table "hold" or "input", and tell them."""

    # no named tuple: those have a method `count`

    table: str
    register: int
    count: int
    tag: object = None
    """Comes back with the answer (Reading.tag)."""


class SetSetting(NamedTuple):
    """Set one setting of one unit: what came on a set topic, unread.

    `setting` is the topic's end, "ac_charge" or "hold/64"; `arrived` the time.monotonic() of its arrival, `expires`
    the one after which it must not be carried out any more. `tag` comes back with the result (Reading.tag).
    """

    unit: str
    setting: str
    payload: bytes
    arrived: float
    expires: float
    retained: bool = False
    source: str = "mqtt"
    """Where it came from, for the audit log: the topic and what the sender says of itself."""
    tag: object = None
    made_from: str | None = None
    """Where only a part of the value is meant: the whole from which the rest was taken, and which has to hold still."""
    objection: str | None = None
    """Why it is refused, where that is known already; so it is answered and recorded like any other."""


class Foreign(NamedTuple):
    """A command in the words of another program whose scheme a device offers; its slice says what is meant.

    `path` is the topic's end, "set/ac_charge"; the rest as in SetSetting.
    """

    path: str
    payload: bytes
    arrived: float
    expires: float
    source: str
    tag: object


Command: TypeAlias = Refresh | ReadRegisters | SetSetting | Foreign


class _Allowance:
    """How many commands of one kind are taken."""

    def __init__(self) -> None:
        self._tokens = float(BURST)
        self._refilled = time.monotonic()

    def take(self) -> bool:
        """Return whether one more is taken."""
        # written by the broker's thread alone, or by a few that now and then lose a token to each other
        now = time.monotonic()
        self._tokens = min(BURST, self._tokens + (now - self._refilled) * REFILL)
        self._refilled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Inbox:
    """A bounded queue any thread may put into, and one thread waits on beside its port.

    The event descriptor is readable while there may be something to take, so the owner can poll it
    together with its device.
    """

    def __init__(self) -> None:
        self._items: deque[Command] = deque()
        self._wake = Wake()
        self.refused = 0
        """How many commands found the queue full, or came too fast."""
        self._settings, self._reads = _Allowance(), _Allowance()

    def put(self, item: Command) -> bool:
        """Queue a command; False (and counted) when the queue is full, or settings or reads come too fast."""
        if len(self._items) >= CAPACITY or not self._affords(item):
            self.refused += 1
            return False
        self._items.append(item)
        self._wake.set()
        return True

    def refuse(self) -> None:
        """Count a command that is not taken, for the answer that sums them up."""
        self.refused += 1

    def affords_answer(self) -> bool:
        """Take what the answer costs to a read that is refused before it comes here; False (and counted) when such come
        too fast.
        """
        if self._reads.take():
            return True
        self.refuse()
        return False

    def _affords(self, item: Command) -> bool:
        if isinstance(item, Refresh):
            return True
        return (self._reads if isinstance(item, ReadRegisters) else self._settings).take()

    def take(self) -> Command | None:
        """Return the oldest command, or None when there is none. For the owning thread only."""
        self._wake.clear()
        try:
            item = self._items.popleft()
        except IndexError:
            return None
        if self._items:
            self._wake.set()
        return item

    def __len__(self) -> int:
        return len(self._items)

    def fileno(self) -> int:
        return self._wake.fileno()
