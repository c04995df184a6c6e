"""What is asked over RS485, one row a command, and what is known of each address on the bus."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache

from bridge.fields import PLAIN, TEXT, Field, Level
from bridge.pylontech import messages as m
from bridge.pylontech import stack
from bridge.pylontech import system_messages as sm
from bridge.pylontech import values as v
from bridge.pylontech.frame import SMALLEST

FIRST, LAST = 2, 13
"""Numbers of a group's master and of the last module that is looked for. unconfirmed: that a 13th and 14th follow, so
they are asked only where they are listed; where a 15th would be nobody knows."""
LONGEST_PAUSE = 8.0
"""Seconds between two questions to a module that stays silent; before that 1, 2 and 4."""
DEAD_CODES = (0x90, 0x91)
"""Return codes by which a master says that a module is not there, or not to be reached."""
DAMAGED_CODES = (0x01, 0x02, 0x03)
"""Return codes that say the question arrived damaged."""


PROTOCOL_VERSION = Field("protocol_version", TEXT, "Protocol version", level=Level.HIDDEN)
ADDRESS = Field("address", PLAIN, "Address on the bus", level=Level.HIDDEN)
ROOT_FIELDS = (*m.IDENTITY_ROWS.fields, PROTOCOL_VERSION, *m.PARAMETER_ROWS.fields)
"""What the master tells beside the stack's own values: who it is, and the model's protection levels."""


def published_fields() -> dict[str, tuple[Field, ...]]:
    """Return what each kind of unit publishes, for the list of values; a module as one of 16 cells and 6 sensors."""
    return {
        "stack on RS485": (*stack.FIELDS, *ROOT_FIELDS),
        "stack on RS485, with inverter_set": sm.TOLD,
        "module on RS485": (*m.module_fields(16, 6), ADDRESS),
    }


@lru_cache(maxsize=v.SHAPES)
def fields_of(cells: int, sensors: int) -> tuple[Field, ...]:
    """Return the fields of a module with so many cells and temperatures."""
    return (*m.module_fields(cells, sensors), ADDRESS)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of an address. `size` is the likely length of the whole reply in characters."""

    address: int
    command: int
    request: bytes
    size: int
    group: bool = False
    stranger: bool = False
    again: bool = False


SIZES = {
    m.PARAMETERS: 1 + m.PARAMETER_ROWS.size,
    m.VERSION_OF_PROTOCOL: 0,
    m.IDENTITY: m.IDENTITY_ROWS.size,
    m.MANAGEMENT: 2 + m.MANAGEMENT_ROWS.size,
    m.SERIAL_NUMBER: 1 + m.SERIAL_ROWS.size,
    m.FIRMWARE: 1 + m.FIRMWARE_ROWS.size,
    m.SYSTEM_ANALOG: sm.SYSTEM_ANALOG_ROWS.size,
    m.SYSTEM_ALARM: 4,
}
"""Bytes of INFO in a reply."""


LOWEST_CELL = 1000
"""mV; no protection level of a cell is that low."""


def fits(command: int, info: bytes) -> bool:
    """Whether the INFO of a reply has the size of an answer of one module to `command`.

    The sizes of 42h and 44h follow from the counts in them and never meet, whatever the module.
    """
    if command in (m.ANALOG, m.ALARM):
        width = 2 if command == m.ANALOG else 1
        if len(info) < 4 or len(info) < 4 + width * info[2]:
            return False
        rest = len(info) - (4 + width * (info[2] + info[3 + width * info[2]]))
        return 11 <= rest <= 33 if command == m.ANALOG else 8 <= rest <= 8 + m.EXTRA
    if command == m.IDENTITY and info[:1] < b" ":
        return False  # alarms of some models have its length; a name begins with a letter
    if command == m.PARAMETERS and len(info) == SIZES[command]:
        high, low, under = (int.from_bytes(info[at : at + 2], "big") for at in (1, 3, 5))
        return high > low > under > LOWEST_CELL  # alarms of an 8-cell model have its length
    return len(info) == SIZES[command]


@dataclass(frozen=True, slots=True)
class Ask:
    """One command in the round: how its reply is read, and which answers (with the state's own names) it holds."""

    command: int
    source: str
    decode: Callable[[bytes, int], v.Values]
    size: int


def _size(info: int) -> int:
    return SMALLEST + 2 * info


# fmt: off
ASKS = {ask.command: ask for ask in (
    Ask(m.ALARM,         "alarms",     m.alarm,                              _size(33)),
    Ask(m.MANAGEMENT,    "limits",     m.management,                         _size(SIZES[m.MANAGEMENT])),
    Ask(m.ANALOG,        "measured",   m.analog,                             _size(63)),
    Ask(m.SERIAL_NUMBER, "serial",     m.serial_number,                      _size(SIZES[m.SERIAL_NUMBER])),
    Ask(m.FIRMWARE,      "firmware",   m.firmware,                           _size(SIZES[m.FIRMWARE])),
    Ask(m.IDENTITY,      "identity",   lambda info, _: m.identity(info),     _size(SIZES[m.IDENTITY])),
    Ask(m.PARAMETERS,    "parameters", lambda info, _: m.parameters(info),   _size(SIZES[m.PARAMETERS])),
    Ask(m.SYSTEM_ANALOG, "system",     lambda info, _: sm.told(sm.system_analog(info)), _size(SIZES[m.SYSTEM_ANALOG])),
    Ask(m.SYSTEM_ALARM,  "warnings",   lambda info, _: sm.told(sm.system_alarm(info)),  _size(SIZES[m.SYSTEM_ALARM])),
)}
# fmt: on
ROUTINE = (m.ALARM, m.MANAGEMENT, m.ANALOG)
"""What every module is asked, in this order: what it measures last, so that its state is published whole."""
OF_THE_MASTER = (m.IDENTITY, m.PARAMETERS)
INVERTER_SET = (m.SYSTEM_ANALOG, m.SYSTEM_ALARM)
"""What only newer masters answer, asked where it is configured; others may stay silent to it."""


@dataclass(slots=True)
class Station:
    """One address where a module is, was, or should be by the configuration."""

    address: int
    verified: bool = False
    """Whether the identity of who answers there is known at this moment."""
    misses: int = 0
    failures: int = 0
    retry_at: float = 0.0
    due: dict[int, float] = field(default_factory=dict)
    refusals: dict[int, int] = field(default_factory=dict)
    refused_until: dict[int, float] = field(default_factory=dict)
    held: dict[int, tuple[v.Values, float]] = field(default_factory=dict)
    """Answers, and their times, that wait for the measurement which shows whose they are."""
    nameless: int = 0

    @property
    def place(self) -> str:
        return str(self.address)

    def answered(self) -> None:
        """Note that it is there."""
        self.misses = self.failures = 0

    def silent(self, now: float) -> None:
        """Note that it did not answer: ask again at once, then after 1, 2, 4 and 8 s."""
        self.doubt()
        self.misses += 1
        self.retry_at = now + (0.0 if self.misses == 1 else min(LONGEST_PAUSE, 2.0 ** (self.misses - 2)))

    def doubt(self) -> None:
        """Somebody else may be there: what was held back is nobody's."""
        self.verified = False
        self.held.clear()

    def begin(self) -> None:
        """Note that another module is there: what the one before refused to tell, this one may."""
        self.refusals = {c: count for c, count in self.refusals.items() if c == m.SERIAL_NUMBER}
        self.refused_until = {c: until for c, until in self.refused_until.items() if c == m.SERIAL_NUMBER}

    def asks(self, command: int, now: float) -> bool:
        """Whether a command is due and not refused."""
        return now >= self.due.get(command, 0.0) and now >= self.refused_until.get(command, 0.0)


def question(command: int, address: int, *, again: bool = False) -> Question:
    """Return what asks one module; `again` marks the second try."""
    return replace(_plain(command, address), again=True) if again else _plain(command, address)


@cache
def _plain(command: int, address: int) -> Question:
    return Question(address, command, m.request(command, address), ASKS[command].size)


@cache
def group_question(command: int, group: int, members: int) -> Question:
    """Return what asks a group of so many modules at once."""
    size = SMALLEST + members * (ASKS[command].size - SMALLEST)
    return Question(16 * group + FIRST, command, m.group_request(command, group), size, group=True)


def members_meant(asked: Question) -> int:
    """Return how many modules a group's question was meant for."""
    return (asked.size - SMALLEST) // (ASKS[asked.command].size - SMALLEST)


def record_size(record: bytes) -> int:
    """Return how long a module's part of a group's 42h answer is."""
    items_at = 2 + 2 * record[0] + 2 * record[1 + 2 * record[0]] + 6
    return items_at + (11 if record[items_at] >= 4 else 5)


def named(asked: Question) -> str:
    """Return a question's words for the log."""
    whole = " of the group" if asked.group else ""
    return f"address {asked.address}{whole}, {asked.command:02X}h"
