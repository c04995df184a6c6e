"""One open connection to a stick: whole frames with their times, heartbeats answered, trouble counted.

A frame is as old as its last byte, but only if this thread stood by: after the process stood still nobody knows how
long bytes have waited in the socket, so they are thrown away and everything is asked anew. Nobody can tell what the
network held back from what is new: that is a minute's at most, since one that stands still for longer ends the
connection, by what is not acknowledged or by keep-alive (`tcp.py`), sooner where an answer is waited for.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import NamedTuple

from bridge.devices import Tally
from bridge.errors import LinkError, ProtocolError
from bridge.luxpower.frame import Decoder, Heartbeat, Read, ReadParameter, Registers, Reply, Write, WriteMany
from bridge.transports.base import Link, Stop
from bridge.transports.tcp import ConnectError, Failure, open_tcp

log = logging.getLogger(__name__)

REST = 2.0
"""Seconds that the rest of a frame may take from one piece to the next."""
SENDING = 2.0
"""Seconds in which the link must take a request."""
STOOD_STILL = 20.0
"""Seconds between two looks at the link after which what waits there is of unknown age. The device looks every ten."""
LATE_WAKE = 5.0
"""Seconds after its deadline at which a wait shows the same."""
LOCKED = "a locked stick, or its only slot is taken by another program"
"""What a connection means that is ended before a word."""


class Heard(NamedTuple):
    """A whole frame and the time.monotonic() of its last byte."""

    reply: Reply
    at: float


class Line:
    """Frames over one link, owned by one thread. `datagrams`: each read is one frame, and nothing can be sent.

    `unheard` says what it means when the link ends before a whole frame came.
    """

    def __init__(
        self, link: Link, tally: Tally, *, answer: bool, datagrams: bool = False, unheard: str | None = None
    ) -> None:
        self._link = link
        self._tally = tally
        self._unheard = unheard
        self._answer = answer and not datagrams
        self._datagrams = datagrams
        self._decoder = Decoder()
        self._bytes_at = self._looked = self.opened_at = time.monotonic()
        self.heard_at: float | None = None
        """When the last whole frame came, whosever it was."""
        self.lost_time = False
        """Whether bytes of unknown age were thrown away; the reader puts it back."""

    def fileno(self) -> int | None:
        return self._link.fileno()

    def close(self) -> None:
        """Close the link."""
        self._link.close()

    def send(self, request: Read | ReadParameter | Write | WriteMany) -> None:
        """Send a request. Raises LinkError."""
        data = request.encode()
        log.debug("tx %s", data.hex(" "))
        self._link.write(data, time.monotonic() + SENDING)

    def listen(self, deadline: float) -> list[Heard] | None:
        """Wait for bytes and return the whole frames in them; None when nothing came before the deadline.

        Raises LinkError, Stopped.
        """
        began = time.monotonic()
        try:
            data = self._link.read(deadline)
        except LinkError as err:
            if self.heard_at is None and self._unheard is not None:
                raise LinkError(f"{err}: {self._unheard}") from err
            raise
        now = time.monotonic()
        stood_still = began - self._looked > STOOD_STILL or now > max(began, deadline) + LATE_WAKE
        self._looked = now
        if stood_still and data:
            self._throw_away(data)
            return []
        heard: list[Heard] = []
        if self._decoder.waiting and now - self._bytes_at > REST:
            self._decoder.give_up()
            heard = self._frames(self._bytes_at)
        if data:
            if log.isEnabledFor(logging.DEBUG):
                log.debug("rx %s", data.hex(" "))
            self._bytes_at = now
            self._decoder.receive(data)
            heard += self._frames(now)
            if self._datagrams and self._decoder.waiting:
                self._decoder.give_up()  # a frame does not go on in the next datagram
                heard += self._frames(now)
        return heard if data or heard else None

    def _frames(self, at: float) -> list[Heard]:
        """Return what the decoder has; count what it refuses."""
        heard: list[Heard] = []
        while True:
            try:
                reply = self._decoder.next_frame()
            except ProtocolError as err:
                self._tally.failed(err.kind, str(err))
                continue
            if reply is None:
                return heard
            self.heard_at = at
            if isinstance(reply, Heartbeat) and self._answer:
                self._link.write(reply.raw, time.monotonic() + SENDING)
            heard.append(Heard(reply, at))

    def _throw_away(self, data: bytes) -> None:
        count = len(data) + len(self._link.drain())
        self._decoder = Decoder()
        self._tally.failed("late", f"{count} bytes of unknown age: this program stood still")
        self.lost_time = True


@dataclass(slots=True)
class Finding:
    """What is to be said of a stick that somebody looked at. `answers`: it speaks the protocol."""

    answers: bool
    words: str
    datalog_serials: list[str] = field(default_factory=list)
    inverter_serials: list[str] = field(default_factory=list)


def sound_out(host: str, port: int, seconds: float, stop: Stop) -> Finding:
    """Connect and listen for so long, or until both serials are known; nothing is asked. Raises Stopped."""
    where = f"{host}:{port}"
    try:
        link = open_tcp(host, port, stop)
    except ConnectError as err:
        hint = f": {LOCKED}" if err.failure is Failure.RESET else ""
        return Finding(False, f"{err}{hint}")
    finding, line = Finding(False, ""), Line(link, Tally(), answer=False)
    try:
        _overhear(line, finding, time.monotonic() + seconds)
    except LinkError as err:
        if not finding.answers:
            return Finding(False, f"{where}: reset at once: {LOCKED} ({err})")
    finally:
        line.close()
    if not finding.answers:
        return Finding(False, f"{where}: connected, but silent for {seconds:g} s: not a stick, or a locked one")
    inverters = ", ".join(finding.inverter_serials)
    finding.words = f"{where}: answers; datalogger {', '.join(finding.datalog_serials)}" + (
        f", inverter {inverters}" if inverters else "; only heartbeats so far, the inverter tells its serial at a push"
    )
    return finding


def _overhear(line: Line, finding: Finding, until: float) -> None:
    while time.monotonic() < until and not finding.inverter_serials:
        for heard in line.listen(until) or ():
            finding.answers = True
            if heard.reply.datalog_serial not in finding.datalog_serials:
                finding.datalog_serials.append(heard.reply.datalog_serial)
            if isinstance(heard.reply, Registers) and heard.reply.inverter_serial not in finding.inverter_serials:
                finding.inverter_serials.append(heard.reply.inverter_serial)
