"""What the simulated stacks have in common, whichever port they are read by: modules come, go and change places."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from bridge.simulators.faults import Faults
from bridge.simulators.living import DayClock
from bridge.simulators.pylontech_stack import Module, Stack, make_modules
from bridge.simulators.simulator import LineSimulator, OnALine
from bridge.simulators.truth import TruthLog
from bridge.simulators.wire import Line, Pty

BAUD = 115200


class OfAStack(OnALine, total=False):
    """What every stack takes besides: a number of modules (all of `model`) or a list of models, the master first."""

    modules: int | Sequence[str]
    model: str
    soc: float
    strict_speed: bool


class StackSimulator(LineSimulator):
    """A stack behind one port. `stack.modules` may be read at any time; change it by the methods here.

    `baud` None answers at once. With `strict_speed` it hears nothing from a host that has set another speed than
    `speed`, as on a real line.
    """

    def __init__(
        self,
        name: str,
        faults: type[Faults],
        *,
        modules: int | Sequence[str] = 4,
        model: str = "US2000C",
        soc: float = 62.0,
        link: str | Path | None = None,
        baud: float | None = BAUD,
        speed: int = BAUD,
        turnaround: float = 0.0,
        clock: DayClock | None = None,
        seed: int = 1,
        truth: TruthLog | None = None,
        strict_speed: bool = False,
    ) -> None:
        self._pty = Pty(link)
        log = truth if truth is not None else TruthLog()
        super().__init__(name, Line(self._pty, log, baud=baud, turnaround=turnaround, faults=faults(seed=seed)))
        self.stack = Stack(clock if clock is not None else DayClock(), seed)
        self._made = make_modules(modules, model, seed, soc)
        self.speed = int(baud or speed)
        self.strict_speed = strict_speed
        self.writes: list[str] = []
        """Requests that would have changed something, in the order they came: there should be none."""
        self._boots_until = 0.0

    def _settle(self, places: Sequence[int]) -> None:
        """Plug the modules in, one at each place, as it was before the start."""
        self.stack.modules.update(zip(places, self._made, strict=True))

    def add(self, place: int, module: Module) -> None:
        """Plug a module in at a free place."""
        if place in self.stack.modules:
            raise ValueError(f"place {place} is taken")
        self.call(lambda: self._put(place, module))

    def remove(self, place: int) -> Module:
        """Take the module at a place out and return it. Raises ValueError where there is none."""
        if place not in self.stack.modules:
            raise ValueError(f"no module at place {place}")
        return self.call(lambda: self._take(place))

    def swap(self, one: int, other: int) -> None:
        """Let two modules change places; each keeps its serial, charge and history."""
        first, second = self.stack.modules[one], self.stack.modules[other]
        self.call(lambda: self.stack.modules.update({one: second, other: first}))

    def restart(self, boot: float = 0.0) -> None:
        """Switch off and on: an answer under way ends where it is, and for `boot` seconds nothing is heard."""
        self.call(lambda: self._restart(boot))

    def _restart(self, boot: float) -> None:
        self.line.forget()
        self._boots_until = time.monotonic() + boot

    def _hears(self) -> bool:
        """Return whether a request that came now is understood as bytes at all."""
        if time.monotonic() < self._boots_until:
            return False
        return not self.strict_speed or self._pty.host_baud() == self.speed

    def _put(self, place: int, module: Module) -> None:
        self.stack.modules[place] = module
        self.stack.changed()

    def _take(self, place: int) -> Module:
        self.stack.changed()
        return self.stack.modules.pop(place)
