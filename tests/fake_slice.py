"""A device type that exists only in tests: it obeys a control file, so that faults can be made at will.

Words in the file: "ok" (a reading at each poll), "silent" (NoReply), "link" (LinkError), "raise" (a
bug), "hang" (blocks without an end), "slow" (a poll takes 0.2 s), "held" (a reading is passed on 0.2 s
after its frame came in), "chatty" (forty lines in the log at each poll).

`count` in the state rises with each reading, `voltage` follows from it, `made` is the time.monotonic()
of the frame: so a message tells how old it is, and whether it is of one piece.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bridge.devices import Context, WritableOptions
from bridge.errors import CommandError, LinkError, NoReply
from bridge.fields import COUNT, DURATION, VOLTAGE, Channel, Field, Reading, Unit
from bridge.inbox import ReadRegisters, SetSetting
from bridge.writing import Target, Writer
from tests.fake_settings import SETTINGS, Memory, Word

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(WritableOptions):
    port: str = "/nowhere"
    control: str = ""
    interval: float = 0.1
    max_age: float = 1.0
    parts: int = 0
    padding: int = 0
    bank: str | None = None
    """A topic of other software's making, on which every reading is published too, never retained."""


def voltage_of(count: int) -> float:
    """Return the voltage that goes with a count."""
    return 50 + count % 1000 / 100


class FakeDevice:
    def __init__(self, options: Options, context: Context) -> None:
        self._options = options
        self._context = context
        self._count = 0
        self._open = False
        self.interval = options.interval
        fields: tuple[Field, ...] = (
            Field("count", COUNT, "Count"),
            Field("voltage", VOLTAGE, "Voltage"),
            Field("made", DURATION, "Made"),
        )
        if options.padding:
            fields += (Field("padding", COUNT, "Padding"),)
        self._memory = Memory(options.control, context.stop)
        self.writer = Writer(options, self, context.records)
        self._shown: object = None
        settings = tuple(SETTINGS.values())
        controls = tuple(one for one in settings if self.writer.may(one))
        self._units = [Unit("", options.name, fields, options.max_age, settings=settings, controls=controls)]
        self._units += [Unit(f"part{n}", f"Part {n}", fields, options.max_age) for n in range(options.parts)]

    def _word(self) -> str:
        try:
            return Path(self._options.control).read_text().strip() if self._options.control else "ok"
        except OSError:
            return "ok"

    def open(self) -> None:
        if self._word() == "link":
            raise LinkError("the cable is out")
        self._open = True

    def close(self) -> None:
        self._open = False

    def fileno(self) -> int | None:
        return None

    def receive(self) -> Iterator[Reading | None]:
        return iter(())

    def refresh(self) -> None:
        self._count += 1000

    def poll(self) -> Iterator[Reading | None]:
        word = self._word()
        if word == "link":
            raise LinkError("the cable is out")
        if word == "silent":
            raise NoReply("nothing came")
        if word == "raise":
            raise ValueError("a bug in this slice")
        while word == "hang" and self._word() == "hang":
            time.sleep(0.05)
        if word == "slow":
            time.sleep(0.2)
        if word == "chatty":
            for number in range(40):
                log.warning("line %d of many: %s", number, "x" * 200)
        self._count += 1
        self._context.tally.replies += 1
        at = time.monotonic()
        if word == "held":
            time.sleep(0.2)
        for unit in self._units:
            values: dict[str, float | int | str] = {
                "count": self._count,
                "voltage": voltage_of(self._count),
                "made": at,
            }
            if self._options.padding:
                values["padding"] = "x" * (self._options.padding + self._count % 7)
            yield Reading(unit, values, at)
            if self._options.bank:
                yield Reading(unit, values, at, topic=self._options.bank)
        yield from self._settings()
        if self.writer.busy():
            yield from self.writer.work()
            yield from self._settings()

    # -- what can be set

    def obey(self, command: ReadRegisters | SetSetting) -> Iterator[Reading | None]:
        if isinstance(command, SetSetting):
            yield from self.writer.admit(command)

    def unit(self, path: str) -> Unit:
        for unit in self._units:
            if unit.path == path:
                return unit
        raise CommandError(f"there is no unit {path[:40]!a}")

    def target(self, path: str, name: str) -> Target:
        if path:
            raise CommandError("a part has no settings")
        return Word(self._memory, name)

    def away(self) -> str | None:
        return None if self._open and self._word() != "link" else "the cable is out"

    def _settings(self) -> Iterator[Reading | None]:
        words = self._memory.words()
        if self._options.writes and words != self._shown:
            self._shown = words
            yield Reading(self._units[0], words, time.monotonic(), channel=Channel.SETTINGS)


def build(options: Options, context: Context) -> FakeDevice:
    return FakeDevice(options, context)


PRELUDE = 'from bridge import devices\ndevices.SLICES["fake"] = "tests.fake_slice"'
"""Registers the type in a bridge process."""
