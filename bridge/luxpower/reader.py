"""Asks a stick: one request under way at a time, whatever else comes is digested as well."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TypeAlias

from bridge.devices import Context
from bridge.errors import LinkError
from bridge.fields import Reading
from bridge.luxpower.connection import Heard, Line
from bridge.luxpower.frame import Read, Refused, Registers, Reply

ANSWER = 5.0
"""Seconds for an answer; real ones take up to one (luxpower_sna proxy log)."""
RETRIES, RETRY_PAUSE = 2, 1.0
BETWEEN = 0.5
"""Seconds from an answer to the next request."""

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

    def ask(self, request: Read) -> Asking:
        """Ask for registers, up to three times; return the answer or None."""
        for attempt in range(1 + RETRIES):
            if attempt:
                yield from self.listen_until(time.monotonic() + RETRY_PAUSE)
            yield from self.listen_until(self._free_at + BETWEEN)
            self._context.beat()
            reply = yield from self._exchange(request)
            if reply is not None:
                return reply
            last = request.register + request.length - 1
            self._context.tally.failed("no_reply", f"registers {request.register} to {last}: no answer")
        self.unanswered = True
        return None

    def _exchange(self, request: Read) -> Asking:
        """Send a request; return its answer or None at the deadline. Everything else that comes is digested too."""
        line, sent = self._connected(), time.monotonic()
        line.send(request)
        answer: Registers | Refused | None = None
        while answer is None and (left := sent + ANSWER) > time.monotonic():
            for heard in line.listen(left) or ():
                fits = answer is None and _answers(request, heard.reply)
                if fits and isinstance(heard.reply, (Registers, Refused)):
                    answer = heard.reply
                yield from self._digest(heard, fits)
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
