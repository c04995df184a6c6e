"""One question at a time over a link, until its answer or a deadline.

A reply says nothing about the question it answers, so what is received is judged by three things: nothing is
under way when a question is sent (what had come unasked is thrown away), the reply must have the form of what
was asked, and it must be complete before its deadline. Inquiries whose replies look alike (`twin`) are asked
only on a settled line: where nothing came late, unasked or out of turn for SETTLED_AFTER seconds. Nor does a reply
say who gave it: the line is in doubt where between two answers there was time to move the cable.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from bridge.devices import Tally
from bridge.errors import NoReply, ProtocolError
from bridge.transports.base import MOVED_AFTER, Link
from bridge.voltronic import frame, pi18

if TYPE_CHECKING:
    from bridge.voltronic.inquiry import Decoded

log = logging.getLogger(__name__)

FIRST_BYTE = 3.0
"""Seconds to the first byte of a reply; 2 s were too short on an EASun SMV III (ned-kelly issue 90)."""
BETWEEN = 1.0
"""Seconds from one piece of a reply to the next."""
IN_ALL = 6.0
"""Seconds for a whole reply, however it drips."""
SENDING = 2.0
"""Seconds in which the port must take a question."""
SETTLED_AFTER = 10.0
"""Longer than any answer to an earlier question can take."""

REFUSED = len(b"(NAKss\r")
"""Bytes of the shortest answer, a refusal with its CRC."""

_BETWEEN_REPLIES = b"\x00\n"
"""Filling of USB reports, and the LF some firmwares send behind CR: no sign of trouble."""


class Speech(NamedTuple):
    """How one protocol puts a question, sets something and says no. Its `decoder` is made anew for each question."""

    forms: Callable[[str], tuple[bytes, ...]]
    setters: Callable[[str], tuple[bytes, ...]]
    decoder: Callable[[], frame.Decoder | pi18.Decoder]
    refusal: str
    consent: str


PI30_SPEECH = Speech(frame.forms, frame.forms, frame.Decoder, "NAK", "ACK")
PI18_SPEECH = Speech(pi18.forms, pi18.setters, pi18.Decoder, "0", "1")


class Answer(NamedTuple):
    """What a reply said, and the time.monotonic() of its last byte."""

    decoded: Decoded
    at: float


class Line:
    """Puts questions to the inverter on one open link. Owned by one thread."""

    def __init__(self, link: Link, tally: Tally) -> None:
        self._link = link
        self._tally = tally
        self._form: dict[str, int] = {}
        self._sizes: dict[str, int] = {}
        self._settled_from = 0.0
        self._heard = -math.inf
        self._doubted = False

    @property
    def in_doubt(self) -> bool:
        """Whether another unit may be there than the one that was trusted: no answer came for long, now or since."""
        return self._doubted or time.monotonic() - self._heard > MOVED_AFTER

    def trust(self) -> None:
        """Note that whoever has just answered is known."""
        self._doubted = False

    @property
    def settled(self) -> bool:
        """Whether no answer to an earlier question can still be on its way."""
        return time.monotonic() >= self._settled_from

    @property
    def settles_in(self) -> float:
        """Seconds until then; 0 or less when it is so."""
        return self._settled_from - time.monotonic()

    def disturb(self) -> None:
        """Note that question and answer may be out of step."""
        self._settled_from = time.monotonic() + SETTLED_AFTER

    def close(self) -> None:
        """Close the link."""
        self._link.close()

    def ask(
        self,
        speech: Speech,
        command: str,
        read: Callable[[str], Decoded],
        meanwhile: Callable[[], None] | None = None,
    ) -> Answer:
        """Return the answer to `command`, asked a second time when the first try fails.

        Where a command has two forms the second try takes the other one only where the form can be the fault: it was
        refused, or it was never answered and now met silence or a bare NAK. Whose reply came damaged was understood.

        `read` turns a reply's text into values and raises ProtocolError for a reply that is not meant. `meanwhile` is
        called as soon as the question is out, before anything is read: there is time then.
        Raises ProtocolError, of kind "refused" when the inverter does not know the command, and NoReply.
        """
        frames = speech.forms(command)
        number = self._form.get(command, 0)
        of_form = {"refused"} if command in self._form else {"refused", "format", "no_reply"}
        failure: ProtocolError | NoReply
        for _ in range(2):
            try:
                answer = self._exchange(Hearing(speech, command, read), frames[number], meanwhile)
            except ProtocolError as err:
                self._tally.failed(err.kind, f"{command}: {err}")
                failure, kind = err, err.kind
                if kind == "refused" and len(frames) == 1:
                    break
            except NoReply as err:
                self._tally.failed("no_reply", str(err))
                self.disturb()
                failure, kind = err, "no_reply"
            else:
                self._form[command] = number
                self._tally.replies += 1
                return answer
            if kind in of_form:
                number = (number + 1) % len(frames)
        raise failure

    def set(self, speech: Speech, command: str, data: bytes) -> None:
        """Send one of the frames of a setter, once; return when it was acknowledged.

        Raises ProtocolError of kind "refused" when the inverter said no; any other, or NoReply, when nobody knows.
        """
        try:
            self._exchange(Consent(speech, command, _nothing), data)
        except ProtocolError as err:
            self._tally.failed(err.kind, f"{command}: {err}")
            raise
        except NoReply as err:
            # an answer that comes yet looks like no other: it cannot be taken for that to a later question
            self._tally.failed("no_reply", str(err))
            raise
        self._tally.replies += 1

    def _exchange(self, hearing: Hearing, question: bytes, meanwhile: Callable[[], None] | None = None) -> Answer:
        """Send one question and return the newest whole reply that fits it. Raises ProtocolError, NoReply."""
        if self._link.drain().strip(_BETWEEN_REPLIES):
            self._tally.failed("late", f"{hearing.command}: bytes nobody was waiting for")
            self.disturb()
        log.debug("tx %s", question.hex(" "))
        sent = time.monotonic()
        self._link.write(question, sent + SENDING)
        try:
            if meanwhile is not None:
                meanwhile()
            return self._listen(hearing, sent)
        finally:
            self._tally.busy += time.monotonic() - sent
            if hearing.foreign:
                self.disturb()

    def _listen(self, hearing: Hearing, sent: float) -> Answer:
        deadline, end = sent + FIRST_BYTE, sent + IN_ALL
        received = 0
        while True:
            data = self._link.read(min(deadline, end), self._expected(hearing.command, received))
            now = time.monotonic()
            if data:
                log.debug("rx %s", data.hex(" "))
                if now > min(deadline, end):
                    # this process stood still, or the inverter did: nobody knows how old that answer is
                    self.disturb()
                    raise ProtocolError("late", "complete only after its deadline", data)
            if received or data.strip(_BETWEEN_REPLIES):  # else it ends the reply before, and this one has not begun
                received += len(data)
                deadline = now + BETWEEN
            decoded = hearing.hear(data)
            if decoded is not None:
                self._note_heard(sent, now)
                self._sizes[hearing.command] = received
                return Answer(decoded, now)
            if not data or now >= end:
                if hearing.is_damaged and received == self._sizes.get(hearing.command):
                    self._note_heard(sent, deadline - BETWEEN)  # by its length no noise of an open cable
                raise hearing.failure or NoReply(f"{hearing.command}: no answer")

    def _note_heard(self, sent: float, at: float) -> None:
        """Note that an answer came: whoever gave it was there when the question was `sent`, however long that took."""
        self._doubted |= sent - self._heard > MOVED_AFTER
        self._heard = at

    def _expected(self, command: str, received: int) -> int:
        """Return how many bytes are to come if the answer is as long as the last one; it may be a refusal, too."""
        if not received:
            return 1
        size = REFUSED if received < REFUSED else self._sizes.get(command, 0)
        return max(1, size - received)


def _nothing(_payload: str) -> Decoded:
    return {}


class Hearing:
    """What came after one question: cut into replies, the last one that fits is the answer."""

    def __init__(self, speech: Speech, command: str, read: Callable[[str], Decoded]) -> None:
        self.command = command
        self.failure: ProtocolError | None = None
        self.foreign = False
        self._speech = speech
        self._decoder = speech.decoder()
        self._read = read

    @property
    def is_damaged(self) -> bool:
        """Whether the last reply had both ends and a wrong CRC."""
        return self.failure is not None and self.failure.kind == "checksum"

    def hear(self, data: bytes) -> Decoded | None:
        """Return the answer if `data` completes it; b"" says that no more is coming.

        Raises ProtocolError of kind "refused"; any other failure is kept, since the answer itself may follow.
        """
        self._decoder.receive(data)
        found = None
        while True:
            try:
                payload = self._decoder.next_reply(timed_out=not data)
                if payload is None:
                    break
                found = self._judge(payload)
            except ProtocolError as err:
                self.failure = err
                self.foreign |= err.kind == "foreign"
        if found is None and self.failure is not None and self.failure.kind == "refused":
            raise self.failure
        return found

    def _judge(self, payload: str) -> Decoded:
        if payload == self._speech.refusal:
            raise ProtocolError("refused", "the inverter does not know or allow it")
        if payload == self._speech.consent:
            raise ProtocolError("foreign", "an answer to somebody's setting", payload.encode())
        return self._read(payload)


class Consent(Hearing):
    """What came after a setter: only yes is an answer; values are those of an earlier question."""

    def _judge(self, payload: str) -> Decoded:
        if payload == self._speech.refusal:
            raise ProtocolError("refused", "the inverter does not know or allow it")
        if payload != self._speech.consent:
            raise ProtocolError("foreign", "an answer to another question", payload.encode())
        return self._read(payload)
