"""Settings of the made-up device of fake_slice.py: words in a JSON file, each frame a line in another.

The file `NAME.manner` beside it says how the device takes a frame: "ok", or "slow" (it answers after 0.5 s), or
"hang" (stores, then never answers while the word stands there).
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bridge.errors import CommandError, NoReply, Stopped
from bridge.fields import PERCENT, Value
from bridge.settings import Risk, Setting, whole
from bridge.transports.base import Stop
from bridge.writing import Step, Wire

LIMIT = Setting("limit", PERCENT, "Limit", spelling=whole(0, 100), risk=Risk.HARMLESS)
VOLTS = Setting("volts", PERCENT, "Volts", spelling=whole(0, 300), risk=Risk.DANGEROUS)
SETTINGS = {one.key: one for one in (LIMIT, VOLTS)}
START = {"limit": 50, "volts": 230}


class Memory:
    """The settings a fake device keeps, and what arrived there."""

    def __init__(self, control: str, stop: Stop) -> None:
        self._words = Path(f"{control}.words")
        self._frames = Path(f"{control}.frames")
        self._manner = Path(f"{control}.manner")
        self._stop = stop

    def words(self) -> dict[str, Value]:
        return json.loads(self._words.read_text()) if self._words.exists() else dict(START)

    def manner(self) -> str:
        return self._manner.read_text() if self._manner.exists() else "ok"

    def store(self, name: str, value: Value) -> None:
        with self._frames.open("a") as file:
            file.write(f"{name} {value}\n")
        new = self._words.with_suffix(".new")
        new.write_text(json.dumps({**self.words(), name: value}))
        new.replace(self._words)

    def wait(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise Stopped

    def frames(self) -> list[str]:
        return self._frames.read_text().splitlines() if self._frames.exists() else []


class Word:
    """One word of the memory as a target of a write."""

    def __init__(self, memory: Memory, name: str) -> None:
        if name not in SETTINGS:
            raise CommandError(f"there is no setting {name[:40]!a}; there are {', '.join(SETTINGS)}")
        self._memory = memory
        self.setting = SETTINGS[name]
        self.place = f"word {name}"
        self.registers: Sequence[str] = (name,)

    def read(self) -> Wire[Any]:
        yield None
        return self._memory.words()

    def shown(self, snapshot: Any) -> Value:
        value: Value = snapshot[self.setting.key]
        return value

    def fits(self, snapshot: Any, wanted: Value) -> bool:
        return self.shown(snapshot) == wanted

    def steps(self, _snapshot: Any, wanted: Value) -> list[Step]:
        return [Step(self.setting.key, wanted)]

    def send(self, step: Step, body: Any) -> Wire[None]:
        self._memory.store(step.register, body)
        yield None
        if self._memory.manner() == "slow":
            self._memory.wait(0.5)
        if self._memory.manner() == "hang":
            while self._memory.manner() == "hang":
                self._memory.wait(0.05)
            raise NoReply("no answer")

    def pause(self, seconds: float) -> Wire[None]:
        until = time.monotonic() + min(seconds, 0.05)
        while time.monotonic() < until:
            self._memory.wait(0.01)
            yield None

    def disturbed(self, _before: Any, _after: Any) -> str | None:
        return None
