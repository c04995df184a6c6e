"""One command at a time over a console, until its whole answer or a deadline.

A console is a terminal: it works off what is typed, in its order, and shows its prompt when it is done. So nothing is
typed before a prompt was seen; after an answer that did not come the line must be quiet behind a new prompt before
anything else is asked, and whatever comes until then belongs to nobody. Only where an empty line brings no sign of
life is the console woken, at another speed. An answer does not say which stack it is of: the line is in doubt where
between two answers there was time to move the cable.

    asleep --(frame at 1200)--> awake --(login, if configured)--> prompt <--> command, answer
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from bridge.devices import Context
from bridge.errors import NoReply, ProtocolError
from bridge.pylontech.console_frame import (
    KNOCK,
    LOGGED_IN,
    LOGIN,
    WAKE_UP,
    WAKE_UP_BAUD,
    Answer,
    Decoder,
    Refusal,
    command,
)
from bridge.transports.base import MOVED_AFTER
from bridge.transports.serial_port import SerialLink

log = logging.getLogger(__name__)

T = TypeVar("T")

SENDING = 2.0
"""Seconds in which the port must take a command."""
THINKING = {"bat": 20.0}
OTHERS_THINKING, LEAST_THINKING = 10.0, 1.0
"""Seconds to the first line of an answer, at most. Usual are 0.2 to 1, 5 for `bat` of a far module; these are what
ned-kelly/extra200tomqtt waits, not what anybody has seen. Nothing else can be asked meanwhile, so who asks waits less
where other readings would grow too old (`patience`)."""
BETWEEN = 2.0
"""Seconds from one piece of an answer to the next, once it has begun."""
FOLLOWS = 1.0
"""Seconds for the answer that was asked to follow one that was not."""
KNOCKING, KNOCKS = 1.0, 2
"""Seconds for the prompt after an empty line, and how many empty lines are tried."""
RECENTLY = 3.0
"""Seconds for which a console that said something counts as awake, however silent it is now."""
QUIET = 0.15
"""Seconds of silence behind a prompt after which nothing more is on its way."""
WAKING, CHANGING = 0.5, 0.5
"""Seconds from the wake-up frame to the change of speed, and from there to the first empty line. Source: the
vendor's tool as nijel/pylontech-tools has it."""
GATHERED = 30
"""Characters for whose time an answer is left alone before its next piece is fetched: one that takes seconds would
wake this process at every other one. Its last line is longer, so the end is never waited for too long."""
LONGEST = 8192
"""Characters of the longest answer: `pwr` of sixteen modules has 3,700."""
SLICE, STANDSTILL = 1.0, 0.5
"""Seconds of a single wait, and by how much it may be late: later means that this process stood still."""
BITS_PER_BYTE = 10


@dataclass(frozen=True, slots=True)
class Reply(Generic[T]):
    """What an answer said, and the time.monotonic() of its last byte."""

    values: T
    at: float


class Console:
    """Types commands on one open port. Owned by one thread."""

    def __init__(self, link: SerialLink, context: Context, baud: int, *, login: bool) -> None:
        self._link = link
        self._context = context
        self._baud = baud
        self._login = login
        self._decoder = Decoder()
        self._prompt: str | None = None
        self._login_tried = False
        self._heard_at = self._answered_at = float("-inf")
        self._doubted = False
        self.woken = 0
        """How often it was woken: each time the modules may have changed places."""

    @property
    def logged_in(self) -> bool:
        """Whether the console shows the prompt of its debug mode."""
        return self._prompt == LOGGED_IN

    @property
    def in_doubt(self) -> bool:
        """Whether another stack may be there than the one that was trusted: no answer came for long, now or since."""
        return self._doubted or time.monotonic() - self._answered_at > MOVED_AFTER

    def trust(self) -> None:
        """Note that the stack is known, or that nothing is believed of any."""
        self._doubted, self._answered_at = False, time.monotonic()

    def close(self) -> None:
        """Close the port."""
        self._link.close()

    # -- asking

    def ask(
        self, name: str, module: int | None, read: Callable[[Sequence[str]], T], *,
        tries: int = 2, patience: float = float("inf"), total: bool = False,
    ) -> Reply[T]:  # fmt: skip
        """Return what `read` makes of the lines of a command's answer; a failed try is followed by one more.

        An answer that has not begun after `patience` seconds is lost; with `total` that is for all tries together,
        so that one follows only where the first failed early. `read` raises ProtocolError for lines that are no such
        answer. Raises Refusal when the console says no, ProtocolError, and NoReply when there is no answer, or no
        console.
        """
        tally, asked = self._context.tally, command(name, module)
        words = asked.decode("ascii").strip()
        end = time.monotonic() + patience if total else float("inf")
        for left in reversed(range(tries)):
            self.attend()
            try:
                reply = self._exchange(asked, read, max(LEAST_THINKING, min(patience, end - time.monotonic())))
            except ProtocolError as err:
                tally.failed(err.kind, f"{words}: {err}")
                if left == 0 or isinstance(err, Refusal) or time.monotonic() >= end:
                    raise
            except NoReply as err:
                tally.failed("no_reply", f"{words}: {err}")
                if left == 0 or time.monotonic() >= end:
                    raise
            else:
                tally.replies += 1
                return reply
        raise NoReply(f"{words}: not asked")

    def _exchange(self, asked: bytes, read: Callable[[Sequence[str]], T], patience: float) -> Reply[T]:
        """Type one command and return its answer. Raises ProtocolError, NoReply."""
        if self._link.drain().strip():
            self._prompt = None
            raise ProtocolError("late", "bytes nobody was waiting for")
        prompt, self._prompt = self._prompt, None  # it is typed over; only an answer brings another
        started = time.monotonic()
        self._write(asked)
        try:
            answer, at = self._listen(asked, started, patience)
        finally:
            self._context.tally.busy += time.monotonic() - started
        self._prompt = answer.prompt
        # whoever answers was there when the command went out, however long that took
        self._doubted |= started - self._answered_at > MOVED_AFTER
        self._answered_at = at
        if prompt == LOGGED_IN and not self.logged_in:
            self._login_tried = False  # it was switched off and on
        return Reply(read(answer.body(asked)), at)

    def _listen(self, asked: bytes, started: float, patience: float) -> tuple[Answer, float]:
        """Return the answer to `asked`, and when its last byte came. Raises ProtocolError, NoReply."""
        deadline = started + min(patience, THINKING.get(asked.split()[0].decode("ascii"), OTHERS_THINKING))
        end = deadline + self._wire(len(asked) + LONGEST)
        failure: ProtocolError | None = None
        while True:
            gather = self._wire(GATHERED) if self._decoder.begun() and not self._decoder.ending() else 0.0
            data, now = self._read(min(deadline, end), gather)
            if not data:
                raise failure or NoReply("no answer, or only a part of one")
            self._decoder.receive(data)
            try:
                while (answer := self._decoder.next_answer()) is not None:
                    answer.check_echo(asked)
                    return answer, now
            except ProtocolError as err:
                failure = err  # the answer itself may still follow
            if failure is not None:
                deadline = now + FOLLOWS
            elif self._decoder.begun():
                deadline = now + BETWEEN

    # -- getting to the prompt

    def attend(self) -> None:
        """See to it that the console waits for a command. Raises NoReply when it shows no prompt."""
        if self._prompt is None:
            self._login_tried = False
            if not self._knock():
                self._wake()
        if self._login and not self.logged_in and not self._login_tried:
            self._log_in()

    def is_awake(self) -> bool:
        """Whether a prompt comes when an empty line is typed; nothing is woken. Raises NoReply as `attend` does."""
        return self._knock()

    def _knock(self) -> bool:
        """Type empty lines until a prompt comes; return whether one came.

        Raises NoReply when something else did, now or a moment ago: no wake-up frame for a device that talks.
        """
        for _ in range(KNOCKS):
            self._type(KNOCK)
            if self._prompt is not None:
                return True
        if time.monotonic() - self._heard_at < RECENTLY:
            raise NoReply(f"something answers, but shows no prompt; does it talk at {self._baud} baud?")
        return False

    def _type(self, line: bytes) -> None:
        """Type a line that has no answer but the prompt, and note the prompt.

        It counts only on a line that is quiet behind it: everything else that was under way has passed then.
        """
        if waiting := self._link.drain():
            self._note(waiting)
        self._decoder.clear()
        self._prompt = None
        self._write(line)
        now = time.monotonic()
        deadline, end = now + KNOCKING, now + KNOCKING + self._wire(LONGEST)
        while True:
            self._context.beat()
            data = self._link.read(min(deadline, end))
            if not data or time.monotonic() > end:
                break
            self._note(data)
            self._decoder.receive(data)
            deadline = self._heard_at + (QUIET if self._decoder.prompt() else KNOCKING)
        self._prompt = self._decoder.prompt() if not data else None
        self._decoder.clear()

    def _wake(self) -> None:
        """Send the frame that wakes a console up. Raises NoReply when no prompt comes then."""
        self._link.set_baud(WAKE_UP_BAUD)
        try:
            self._write(WAKE_UP)
            self._rest(len(WAKE_UP) * BITS_PER_BYTE / WAKE_UP_BAUD + WAKING)
        finally:
            self._link.set_baud(self._baud)
        self._rest(CHANGING)
        if not self._knock():
            raise NoReply("no prompt, not even after the wake-up frame")
        self.woken += 1
        log.info("the console woke up")

    def _log_in(self) -> None:
        """Ask for the debug mode, which knows more commands. Raises NoReply when no prompt comes."""
        self._login_tried = True
        self._type(LOGIN)
        if self._prompt is None:
            raise NoReply("no prompt after the login")

    # -- bytes

    def _write(self, data: bytes) -> None:
        log.debug("tx %s", data.hex(" "))
        self._link.write(data, time.monotonic() + SENDING)

    def _read(self, deadline: float, gather: float) -> tuple[bytes, float]:
        """Return what came and when, b"" at the deadline; look only after `gather` seconds.

        Raises ProtocolError "late" for bytes after the deadline, or after this process stood still: nobody knows
        how old they are.
        """
        while True:
            began = time.monotonic()
            self._context.beat()
            if gather:
                self._context.stop.wait(gather)
                gather = 0.0
            data = self._link.read(min(deadline, began + SLICE))
            now = time.monotonic()
            if data:
                self._note(data)
                if now > min(deadline, began + SLICE + STANDSTILL):
                    raise ProtocolError("late", "complete only after its deadline", data)
                return data, now
            if now >= deadline:
                return b"", now

    def _note(self, data: bytes) -> None:
        log.debug("rx %s", data.hex(" "))
        self._heard_at = time.monotonic()

    def _rest(self, seconds: float) -> None:
        """Let so much time pass; what comes meanwhile is meant for nobody. Ends at once when the program stops."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._link.read(end)

    def _wire(self, count: int) -> float:
        """Return how many seconds so many characters take."""
        return count * BITS_PER_BYTE / self._baud
