"""Raw registers that somebody wants to see: commands that wait for the line, and their answers."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping

from bridge.errors import LinkError
from bridge.fields import Channel, Reading, Unit, Value
from bridge.inbox import ReadRegisters
from bridge.luxpower.blocks import GROUP
from bridge.luxpower.frame import EXCEPTIONS, Parameter, Refused
from bridge.luxpower.inverter import MANUFACTURER, PARAMETER, TABLES, Inverter, raw_words
from bridge.luxpower.reader import Asking

COMMANDS, COMMAND_AGE = 16, 30.0
"""Reads on demand that wait at most, and for how many seconds."""


class Demands:
    """The reads on demand of one stick.

    `ask` asks an inverter (its serial, function, register, count), `ask_parameter` the stick (the parameter).
    """

    def __init__(
        self,
        name: str,
        max_age: float,
        ask: Callable[[str, int, int, int], Asking],
        ask_parameter: Callable[[int], Generator[Reading | None, None, Parameter | None]],
    ) -> None:
        self._nobody = Unit("", name, (), max_age, manufacturer=MANUFACTURER)
        self._ask = ask
        self._ask_parameter = ask_parameter
        self._commands: deque[tuple[float, ReadRegisters]] = deque()

    def waiting(self) -> int:
        """Return how many commands wait."""
        return len(self._commands)

    def full(self) -> bool:
        """Whether more would wait than the stick can answer."""
        return len(self._commands) >= COMMANDS

    def note(self, command: ReadRegisters) -> None:
        """Let a command wait for its turn."""
        self._commands.append((time.monotonic(), command))

    def answer(self, inverters: Iterable[Inverter]) -> Iterator[Reading | None]:
        """Carry out what has waited longest, for each of these inverters: those that are known by now."""
        if not self._commands:
            return
        asked_at, command = self._commands.popleft()
        known = list(inverters)
        if time.monotonic() - asked_at > COMMAND_AGE:
            yield self.refusal(command, "it waited for too long")
        elif not known:
            yield self.refusal(command, "the serial numbers are not known yet")
        else:
            try:
                yield from self._carry_out(command, known)
            except LinkError as err:  # the command is gone with the link: who asked would hear nothing
                yield self.refusal(command, str(err))
                raise

    def _carry_out(self, command: ReadRegisters, inverters: Iterable[Inverter]) -> Iterator[Reading | None]:
        if command.table == PARAMETER:
            yield from self._read_parameter(command)
            return
        for inverter in inverters:
            yield from self._read_out(inverter, command)

    def _read_parameter(self, command: ReadRegisters) -> Iterator[Reading | None]:
        reply = yield from self._ask_parameter(command.register)
        if reply is None:
            yield self.refusal(command, "no answer")
            return
        value = int.from_bytes(reply.data, "little")
        yield self._outcome(command, "done", None, {f"{PARAMETER}_{command.register}": value}, self._nobody)

    def _read_out(self, inverter: Inverter, command: ReadRegisters) -> Iterator[Reading | None]:
        """Read what one command asks for, in as many requests as it takes."""
        function, at, end = TABLES[command.table], command.register, command.register + command.count
        largest = max((piece.length for piece in inverter.inputs.pieces), default=GROUP)
        words: dict[str, Value] = {}
        reason: str | None = None
        while at < end and reason is None:
            length = min(end - at, largest if largest > GROUP else GROUP - at % GROUP)
            reply = yield from self._ask(inverter.serial, function, at, length)
            if reply is None:
                reason = "no answer"
            elif isinstance(reply, Refused):
                reason = f"refused: {EXCEPTIONS.get(reply.code, f'code {reply.code}')}"
            else:
                found = reply.words[:length]
                words |= raw_words(function, at, found)
                at += len(found)
        yield self._outcome(command, "failed" if reason else "done", reason, words, inverter.unit)

    def refusal(self, command: ReadRegisters, reason: str) -> Reading:
        """Return the answer to a command that is not carried out."""
        return self._outcome(command, "failed", reason, {}, self._nobody)

    def _outcome(
        self, command: ReadRegisters, outcome: str, reason: str | None, words: Mapping[str, Value], unit: Unit
    ) -> Reading:
        text = f"read/{command.table}/{command.register}"
        values = {"command": text, "count": command.count, "outcome": outcome, "reason": reason, **words}
        return Reading(unit, values, time.monotonic(), channel=Channel.REGISTERS, tag=command.tag)
