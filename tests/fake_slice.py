"""A device type that exists only in tests: it obeys a control file, so that faults can be made at will.

Words in the file: "ok" (a reading at each poll), "silent" (NoReply), "link" (LinkError), "raise" (a
bug), "hang" (blocks without an end), "slow" (a poll takes 0.2 s). `count` in the state rises with each reading.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bridge.devices import Context, DeviceOptions
from bridge.errors import LinkError, NoReply
from bridge.fields import COUNT, VOLTAGE, Field, Reading, Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(DeviceOptions):
    port: str = "/nowhere"
    control: str = ""
    interval: float = 0.1
    max_age: float = 1.0
    parts: int = 0
    padding: int = 0


class FakeDevice:
    def __init__(self, options: Options, context: Context) -> None:
        self._options = options
        self._context = context
        self._count = 0
        self.interval = options.interval
        fields = (Field("count", COUNT, "Count"), Field("voltage", VOLTAGE, "Voltage"))
        if options.padding:
            fields += (Field("padding", COUNT, "Padding"),)
        self._units = [Unit("", options.name, fields, options.max_age)]
        self._units += [Unit(f"part{n}", f"Part {n}", fields, options.max_age) for n in range(options.parts)]

    def _word(self) -> str:
        try:
            return Path(self._options.control).read_text().strip() if self._options.control else "ok"
        except OSError:
            return "ok"

    def open(self) -> None:
        if self._word() == "link":
            raise LinkError("the cable is out")

    def close(self) -> None:
        pass

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
        self._count += 1
        self._context.tally.replies += 1
        for unit in self._units:
            values: dict[str, float | int | str] = {"count": self._count, "voltage": 52.5}
            if self._options.padding:
                values["padding"] = "x" * self._options.padding
            yield Reading(unit, values, time.monotonic())


def build(options: Options, context: Context) -> FakeDevice:
    return FakeDevice(options, context)


PRELUDE = 'from bridge import devices\ndevices.SLICES["fake"] = "tests.fake_slice"'
"""Registers the type in a bridge process."""
