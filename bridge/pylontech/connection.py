"""One question at a time on an RS485 pair, read to the end of its answer: nothing here waits for a fixed time.

A reply says who answers, not what: so it is matched by address, and by the form of what was asked. Another
module's late answer is passed over and the line listened on; an answer complete after its deadline is
dropped, since this process stood still and nobody knows how old it is. `send` and `listen` are apart, so that
the next question is on the wire while the last answer is being decoded and published. Nor does a reply say which
stack it is of: the line is in doubt where between two answers there was time to move the cable.
"""

from __future__ import annotations

import logging
import math
import time
from typing import NamedTuple

from bridge.devices import Tally
from bridge.errors import NoReply, ProtocolError
from bridge.pylontech.frame import SMALLEST, Decoder, Frame, reply_info
from bridge.pylontech.questions import Question, fits
from bridge.transports.base import BITS, MOVED_AFTER, Link

log = logging.getLogger(__name__)

IN_FRAME = 1.0
"""Seconds that a reply which has begun may take beyond its bytes: adapters and busy modules pause in the middle."""
IN_ALL = 3.0
"""Seconds beyond the wire time after which no answer is waited for, whatever else is talking on the line."""
QUIET, TALKING = 0.02, 0.3
"""Seconds without a byte before a question is sent on a line that was talking, and how long that is waited for."""
SENDING = 2.0
"""Seconds in which the port must take a question."""
MOST_PATIENCE = 1.0
"""Seconds a module may think at most: one reply is known to have taken 0.25 s."""
SLACK, STRANGERS = 1.5, 3.0
"""How much longer than the slowest module lately an answer may take: of a known module, of an unknown one."""
LEAST_PATIENCE = 0.03
FADING = 0.99
"""By how much the slowest answer is forgotten with each new one."""


class Answer(NamedTuple):
    """A reply that has the form of what was asked, and the time.monotonic() of its last byte."""

    frame: Frame
    at: float


class Line:
    """Puts questions on one open link. Owned by one thread. `patience` is how long a module may think, in seconds."""

    def __init__(self, link: Link, baud: int, patience: float, tally: Tally) -> None:
        self.noise = False
        """Whether bytes came that were no part of any frame, since this was last set to False."""
        self._link = link
        self._byte = BITS / baud
        self._patience = patience
        self._slowest = 0.0
        self._tally = tally
        self._decoder = Decoder()
        self._question: Question | None = None
        self._sent = 0.0
        self._owed: dict[int, float] = {}
        self._heard = -math.inf
        self.doubted = False
        """Whether an answer came behind such a silence, and nobody has proved since that it is the same stack."""

    @property
    def in_doubt(self) -> bool:
        """Whether another stack may be there than the one that was trusted: no answer came for long, now or since."""
        return self.doubted or time.monotonic() - self._heard > MOVED_AFTER

    def trust(self) -> None:
        """Note that the stack is known, or that nobody there can tell it from another."""
        self.doubted, self._heard = False, time.monotonic()

    def close(self) -> None:
        """Close the link."""
        self._link.close()

    def send(self, question: Question) -> None:
        """Send a question; what had come unasked is thrown away. Raises LinkError."""
        unasked = self._link.drain()
        if unasked:
            self._settle(unasked)
        self._decoder.clear()
        if log.isEnabledFor(logging.DEBUG):
            log.debug("tx %s", question.request.hex(" "))
        self._question, self._sent = question, time.monotonic()
        self._link.write(question.request, self._sent + SENDING)

    def listen(self) -> Answer:
        """Return the answer to the question sent.

        Raises NoReply when none began in time; ProtocolError "refused" (a frame.Refusal), "late", or as the
        codec for a damaged reply; LinkError.
        """
        question, self._question = self._question, None
        if question is None:
            raise NoReply("nothing was asked")
        try:
            return self._listen(question)
        finally:
            self._tally.busy += time.monotonic() - self._sent

    def _listen(self, question: Question) -> Answer:
        deadline = self._sent + self._allowed(question)
        end = deadline + IN_ALL
        begun = False
        while True:
            # a damaged LENGTH must not make us wait for what no answer has
            data = self._link.read(min(deadline, end), min(self._decoder.missing(), question.size))
            now = time.monotonic()
            if not data:
                raise self._nothing(question)
            if log.isEnabledFor(logging.DEBUG):
                log.debug("rx %s", data.hex(" "))
            if now > min(deadline, end):
                raise ProtocolError("late", "complete only after its deadline", data)
            self._decoder.receive(data)
            while (frame := self._next_frame()) is not None:
                if self._fits(frame, question, now):
                    self._note_pace(question, frame, now)
                    return Answer(frame, now)
                begun = False
                deadline = max(deadline, now + self._allowed(question))
            if not begun and self._decoder.unfinished() == "incomplete":
                begun = True
                deadline = max(deadline, now + IN_FRAME + question.size * self._byte)

    def _next_frame(self) -> Frame | None:
        """Return the next whole frame; noise that looks like the ends of one is passed over. Raises ProtocolError."""
        while True:
            try:
                return self._decoder.next_frame()
            except ProtocolError as err:
                if len(err.raw) >= SMALLEST:
                    raise
                self._tally.failed(err.kind, str(err))

    def _allowed(self, question: Question) -> float:
        """Return the seconds from a question's first byte to the first one of its answer, at most."""
        patience = max(self._patience, min(MOST_PATIENCE, SLACK * self._slowest))
        if question.stranger and self._slowest:
            patience = min(patience, max(LEAST_PATIENCE, STRANGERS * self._slowest))
        return len(question.request) * self._byte + patience

    def _fits(self, frame: Frame, question: Question, now: float) -> bool:
        """Whether a frame answers the question; raises ProtocolError for a refusal and for other dialects."""
        if frame.code == question.command and frame.address == question.address:
            return False  # an adapter that hears its own sending
        # whoever answers was there when the question went out, however long that took
        self.doubted |= self._sent - self._heard > MOVED_AFTER
        self._heard = now
        if frame.address != question.address:
            self._note_late(frame, now)
            self._tally.failed("foreign", f"address {frame.address} answers, {question.address} was asked")
            return False
        info = reply_info(frame, question.address)
        if not question.group and not fits(question.command, info):
            self._note_late(frame, now)
            self._tally.failed("foreign", f"address {frame.address}: no answer to {question.command:02X}h")
            return False
        return True

    def _note_late(self, frame: Frame, now: float) -> None:
        """Be more patient from now on with who does answer, only later than was waited for."""
        asked_at = self._owed.pop(frame.address, None)
        if asked_at is not None:
            self._slowest = max(self._slowest, min(MOST_PATIENCE, now - asked_at))

    def _note_pace(self, question: Question, frame: Frame, now: float) -> None:
        characters = len(question.request) + 18 + 2 * len(frame.info)
        thought = max(0.0, now - self._sent - characters * self._byte)
        self._slowest = max(thought, self._slowest * FADING, 1e-4)
        self._owed.pop(question.address, None)

    def _nothing(self, question: Question) -> NoReply | ProtocolError:
        reason = self._decoder.unfinished()
        if reason == "incomplete":
            return ProtocolError("length", "the reply ends before its CR")
        if reason == "no frame":
            self.noise = True
            if not question.stranger:  # where nobody is, some adapters hear their own turning round
                self._tally.failed("format", f"address {question.address}: bytes that are no frame")
        self._owed[question.address] = self._sent
        return NoReply(f"address {question.address}: {reason} to {question.command:02X}h")

    def _settle(self, unasked: bytes) -> None:
        """Let whoever is talking come to an end: two at a time on a pair are understood by nobody."""
        log.debug("rx %s", unasked.hex(" "))
        self._tally.failed("late", "bytes nobody was waiting for")
        give_up = time.monotonic() + TALKING
        while not unasked.endswith(b"\r") and time.monotonic() < give_up:
            unasked = self._link.read(time.monotonic() + QUIET)
            if not unasked:
                return
