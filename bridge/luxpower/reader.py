"""Asks a stick: one request under way at a time, whatever else comes is digested as well."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TypeAlias

from bridge.devices import Context
from bridge.errors import LinkError, NoReply, ProtocolError
from bridge.fields import Reading
from bridge.luxpower.connection import Heard, Line
from bridge.luxpower.frame import (
    Parameter,
    Read,
    ReadParameter,
    Refused,
    Registers,
    Reply,
    Write,
    WriteMany,
    Written,
    WrittenMany,
)

ANSWER = 5.0
"""Seconds for an answer; real ones take up to one (luxpower_sna proxy log)."""
RETRIES, RETRY_PAUSE = 2, 1.0
BETWEEN = 0.5
"""Seconds from an answer to the next request."""
LATE = 60.0
"""Seconds in which a question without an answer may still get one, on the connection it was asked on."""
AT_ONCE = 64
"""Pieces of what was received that are taken before others get their turn."""

Asking: TypeAlias = Generator[Reading | None, None, Registers | Refused | None]
"""Yields what comes by the way, returns the answer."""
Digest: TypeAlias = Callable[[Heard, bool], Iterator[Reading | None]]
"""What is done with each whole frame; True says that it is the answer to our own question."""


class Asker:
    """Puts questions on the line that is open, and waits for their answers. Owned by the device's thread."""

    def __init__(self, context: Context, digest: Digest) -> None:
        self._context = context
        self._digest = digest
        self._line: Line | None = None
        self.begin(None)

    def begin(self, line: Line | None) -> None:
        """Work on this line from now on; None when there is none."""
        self._line = line
        self._free_at = time.monotonic()
        self._owed: dict[tuple[str, int, int], list[float]] = {}
        """When questions were given up on, by whom and what they asked."""
        self.unanswered = False
        """Whether the last question got no answer."""

    def _connected(self) -> Line:
        if self._line is None:
            raise LinkError("not connected")
        return self._line

    def listen_until(self, until: float) -> Iterator[Reading | None]:
        """Digest what comes until then."""
        while time.monotonic() < until:
            yield from self._digest_all(self._connected().listen(until) or ())

    def _digest_all(self, heard: Iterable[Heard]) -> Iterator[Reading | None]:
        for one in heard:
            yield from self._digest(one, False)

    def ask(self, request: Read, retries: int = RETRIES) -> Asking:
        """Ask for registers, up to three times; return the answer or None."""
        for attempt in range(1 + retries):
            if attempt:
                yield from self.listen_until(time.monotonic() + RETRY_PAUSE)
            yield from self.listen_until(self._free_at + BETWEEN)
            self._context.beat()
            reply = yield from self._exchange(request, lambda reply: _answers(request, reply))
            if isinstance(reply, (Registers, Refused)):
                return reply
            last = request.register + request.length - 1
            self._context.tally.failed("no_reply", f"registers {request.register} to {last}: no answer")
            self._owed[request[1:4]] = [*self._late(request), time.monotonic()]
        self.unanswered = True
        return None

    def ask_afresh(self, request: Read) -> Asking:
        """Ask as `ask` does, for an answer of which it is sure that it was given since; None where there is none.

        Nothing in an answer tells which question it is for, and those given up on may get theirs yet. So one answer
        more has to say the same than can be late.
        """
        needed, alike, last = len(self._late(request)) + 1, 0, None
        for _ in range(2 * needed):
            reply = yield from self.ask(request)
            if reply is None:
                return None
            alike = alike + 1 if reply == last else 1
            if alike == needed:
                return reply
            last = reply
        return None

    def _late(self, request: Read) -> list[float]:
        """Return when questions for the same were given up on whose answers may come yet."""
        since = time.monotonic() - LATE
        return [at for at in self._owed.get(request[1:4], ()) if at > since]

    def ask_parameter(self, request: ReadParameter) -> Generator[Reading | None, None, Parameter | None]:
        """Ask the stick itself for one of its parameters, once; return the answer or None."""
        yield from self.listen_until(self._free_at + BETWEEN)
        self._context.beat()
        reply = yield from self._exchange(request, request.answered_by)
        if isinstance(reply, Parameter):
            return reply
        self._context.tally.failed("no_reply", f"parameter {request.parameter}: no answer")
        return None

    def tell(self, request: Write | WriteMany) -> Generator[Reading | None, None, Written | WrittenMany | Refused]:
        """Send a write, once; return its acknowledgement or refusal.

        Raises NoReply when none came, and ProtocolError when only one with another value did: it may be another
        client's. Only reading back shows then what became of it.
        """
        others: list[Written] = []

        def fits(reply: Reply) -> bool:
            if isinstance(reply, Written) and isinstance(request, Write) and reply[1:4] == request[:3]:
                others.append(reply)
            return request.answered_by(reply)

        yield from self.listen_until(self._free_at + BETWEEN)
        self._context.beat()
        reply = yield from self._exchange(request, fits)
        if isinstance(reply, (Written, WrittenMany, Refused)):
            return reply
        if others:
            detail = f"acknowledged with {others[-1].value}, not {request[3]}"
            self._context.tally.failed("foreign", f"register {request.register}: {detail}")
            raise ProtocolError("foreign", detail)
        self._context.tally.failed("no_reply", f"writing register {request.register}: no answer")
        raise NoReply("the write was not acknowledged")

    def _exchange(
        self, request: Read | ReadParameter | Write | WriteMany, fits: Callable[[Reply], bool]
    ) -> Generator[Reading | None, None, Reply | None]:
        """Send a request; return its answer or None at the deadline. Everything else that comes is digested too."""
        line = self._connected()
        for _ in range(AT_ONCE):  # an old answer that waits in the socket is none to this question
            heard_before = line.listen(time.monotonic())
            if heard_before is None:
                break
            yield from self._digest_all(heard_before)
        sent = time.monotonic()
        line.send(request)
        answer: Reply | None = None
        while answer is None and (left := sent + ANSWER) > time.monotonic():
            for heard in line.listen(left) or ():
                fitting = answer is None and fits(heard.reply)
                if fitting:
                    answer = heard.reply
                yield from self._digest(heard, fitting)
        self._free_at = time.monotonic()
        self._context.tally.busy += self._free_at - sent
        if answer is not None:
            self._context.tally.replies += 1
            self.unanswered = False
        return answer


def _answers(request: Read, reply: Reply) -> bool:
    """Whether a reply is the answer; one of a single word only if a single word was asked for."""
    return request.answered_by(reply) and not (
        isinstance(reply, Registers) and reply.protocol == 1 and request.length != 1
    )
