"""Puts questions to the unit on the cable, and sees to it that the unit that is known answers them.

What was refused is remembered for an hour. Identity comes before answers: where there was time to put the cable into
another unit, the serial number is asked first, and again where that time passed while an answer was waited for.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from bridge.devices import Context
from bridge.errors import LinkError, NoReply, ProtocolError
from bridge.voltronic.connection import PI18_SPEECH, PI30_SPEECH, Answer, Line, Speech
from bridge.voltronic.known import REFUSED_FOR, Known
from bridge.voltronic.options import Options

if TYPE_CHECKING:
    from bridge.voltronic.inquiry import Decoded, Inquiry

log = logging.getLogger(__name__)


class Asker:
    """The questions of one connection; `line` is None while there is none. Owned by the device's thread."""

    def __init__(self, options: Options, context: Context, known: Known, line: Line | None) -> None:
        self._options = options
        self._context = context
        self._known = known
        self._line = line
        self._refused: dict[str, float] = {}
        self._answered: set[str] = set()
        self.begin_round()

    def begin_round(self) -> None:
        """Count anew how questions end."""
        self.good = self.failed = self.silent = 0

    # -- the line

    @property
    def connected(self) -> bool:
        """Whether the port is open."""
        return self._line is not None

    @property
    def line(self) -> Line:
        """The line that is open. Raises LinkError."""
        if self._line is None:
            raise LinkError(f"{self._options.port}: not open")
        return self._line

    def close(self) -> None:
        """Close the line."""
        if self._line is not None:
            self._line.close()
            self._line = None

    @property
    def speech(self) -> Speech:
        """How the unit is spoken to."""
        plan = self._known.plan
        return PI18_SPEECH if plan is not None and plan.protocol == "PI18" else PI30_SPEECH

    # -- asking

    def question(
        self,
        command: str,
        read: Callable[[str], Decoded],
        remember: str | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> Answer | None:
        """Return the answer to one question, or None; a refusal is kept under the name `remember`.

        Raises NoReply when the line seems dead: nothing at all was answered in this round.
        """
        line = self.line
        try:
            answer = self.ask(command, read, meanwhile)
        except ProtocolError as err:
            self.failed += 1
            # a unit that refuses everything is sick, and a refusal may be a late one: nothing is learned from these
            if err.kind == "refused" and remember is not None and self.good and line.settled:
                self._note_refusal(remember)
            return None
        except NoReply:
            self.silent += 1
            if self.good == 0 and self.failed == 0 and self.silent >= 2:
                raise
            return None
        self.good += 1
        if remember is not None:
            self._answered.add(remember)
        return answer

    def ask(self, command: str, read: Callable[[str], Decoded], meanwhile: Callable[[], None] | None = None) -> Answer:
        """Return the answer of the unit whose serial number is known, and of nobody else.

        Raises LinkError when another one is there, ProtocolError and NoReply where there is none that can be believed.
        """
        self.prove()
        self._context.beat()
        answer = self.line.ask(self.speech, command, read, meanwhile)
        self.prove()  # a first try may have been lost
        return answer

    def prove(self) -> None:
        """Where the cable may have been put into another unit, ask who is there.

        What looks like another serial number may be a late answer, until the line has settled; the right one is proof.
        Raises LinkError when it is another unit, ProtocolError and NoReply while nobody knows.
        """
        line, plan = self.line, self._known.plan
        if plan is None or self._known.serial is None or not line.in_doubt:
            return
        self._context.beat()
        try:
            answer = line.ask(self.speech, plan.serial, plan.table[plan.serial].decode)
        except ProtocolError as err:
            raise ProtocolError("foreign", f"it is not certain who answers: {err}") from err
        if answer.decoded["serial_number"] == self._known.serial:
            line.trust()
        elif line.settled:
            raise self.another_inverter()
        else:
            self._context.tally.failed("foreign", f"{plan.serial}: another serial number, or a late answer")
            raise ProtocolError("foreign", "it is not certain who answers")

    def another_inverter(self) -> LinkError:
        """Return the error that ends this connection: all that is known is of another unit."""
        return LinkError(f"{self._options.port}: another inverter is on the cable")

    def out_of_step(self, inquiry: Inquiry) -> bool:
        """Whether a late reply to another question could be taken for the answer to this one."""
        return inquiry.twin and self._line is not None and not self._line.settled

    # -- what the unit does not know

    def refuses(self, name: str) -> bool:
        """Whether a question was refused within the last hour."""
        since = self._refused.get(name)
        return since is not None and time.monotonic() - since < REFUSED_FOR

    def forget_refusals(self) -> None:
        """Ask everything again."""
        self._refused.clear()

    def _note_refusal(self, name: str) -> None:
        """Note that the unit does not know a question. Of one that it has answered only a second refusal is believed.

        A question that is damaged on its way is refused, too.
        """
        if name in self._answered:
            self._answered.remove(name)
            return
        self._refused[name] = time.monotonic()
        log.debug("%s: does not know %s; asking again in an hour", self._options.name, name)
