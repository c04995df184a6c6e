"""A stack of battery modules that lives: charge follows current, cells follow charge, everything adds up.

The cell voltages of a snapshot sum up to its pack voltage to the millivolt. A frame's sequence number stands in it:
its ones, tens and hundreds are the last digits (mV) of cells 1, 2 and 3, and modulo 100 it is the last two digits
of the pack voltage in mV. So cells differ by some millivolts from frame to frame, as they do in life.

Charge and temperatures move on a fixed grid of GRID simulated seconds: same seed, same settings, same values at
the same simulated time, however often they are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bridge.simulators.living import Battery, DayClock, House
from bridge.simulators.pylontech_models import MODELS, Model

GRID = 2.0
FULL_AT, NOT_FULL_BELOW, EMPTY_AT = 99.0, 97.0, 2.0
"""State of charge in % at which a module refuses charge, takes it again, and refuses to give."""
PEAK_POWER, HOUSE_ENERGY = 4000.0, 9600.0
"""W of sun for so many Wh of battery."""
RESISTANCE = 0.0008
"""Ohms of one cell of 50 Ah."""
THRESHOLD_MA = 100
"""Current below which a module calls itself idle."""


@dataclass(eq=False)
class Module:
    """One module. What it is named by stays with it wherever it is plugged in.

    `override` replaces what a frame says, checksum right: raw numbers by the field names of pylontech_frames
    (`{"cell_3": 0xFFFF, "status_1": 0x80}`), texts by column or label on the console (`{"Coulomb": "130%"}`).
    `unreachable` is listed but dead: its master answers 91h for it.
    """

    model: Model
    serial: str
    soc: float = 60.0
    cycles: int = 120
    soh: int = 98
    silent: bool = False
    unreachable: bool = False
    balancing: frozenset[int] = frozenset()
    bat_events: int = 0
    power_events: int = 0
    system_fault: int = 0
    override: dict[str, int | str] = field(default_factory=dict)
    current: float = 0.0
    """A, positive while charging; what the stack decided last."""
    full: bool = False

    @property
    def energy(self) -> float:
        """Wh when full."""
        return self.model.capacity / 1000 * self.model.cells * 3.2

    def cell_at_rest(self) -> float:
        """Return one cell's voltage without current, in V."""
        return Battery(soc=self.soc, nominal=48.0 / 16).rest_voltage()

    def limits(self) -> tuple[float, float]:
        """Return the largest charge and discharge current it allows now, in A, magnitudes."""
        advice = self.model.advice
        charge = 0.0 if self.full else advice.charge * Battery(soc=self.soc).acceptance()
        return round(charge, 1), 0.0 if self.soc <= EMPTY_AT else advice.discharge

    def flow(self, seconds: float) -> None:
        """Let `current` flow for that long."""
        self.soc += 100.0 * self.current * seconds / 3.6 / self.model.capacity
        self.soc = min(100.0, max(0.0, self.soc))

    def judge(self) -> None:
        """Decide whether it is full, with some hysteresis."""
        self.full = self.soc >= (NOT_FULL_BELOW if self.full else FULL_AT)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one module measures at one moment, in the digits of its frames: mV, mA, tenths of °C, mAh, %.

    `temperatures` are the board, then the groups of four cells, then a sixth sensor where the model has it.
    """

    module: Module
    cells: Sequence[int]
    voltage: int
    current: int
    temperatures: Sequence[int]
    mos_temperature: int
    remaining: int

    @property
    def soc(self) -> int:
        return min(100, round(100 * self.remaining / self.module.model.capacity))

    def cell_temperature(self, index: int) -> int:
        """Return what the sensor beside the cell with that index (from 0) measures."""
        return self.temperatures[1 + min(index // 4, 3)]

    @property
    def state(self) -> str:
        """In the console's words."""
        if self.current > THRESHOLD_MA:
            return "Charge"
        return "Dischg" if self.current < -THRESHOLD_MA else "Idle"


class Stack:
    """Modules by place: their RS485 address, or their number on the console.

    `power` is what flows in, in W (negative: out); None takes what the sun leaves after the house.
    """

    def __init__(self, clock: DayClock, seed: int = 1) -> None:
        self.clock = clock
        self.house = House(seed)
        self.modules: dict[int, Module] = {}
        self._power_set: float | None = None
        self._slot = int(clock.seconds() // GRID)
        self._settled = False

    def __iter__(self) -> Iterator[tuple[int, Module]]:
        """Places and modules, lowest place first."""
        return iter(sorted(self.modules.items()))

    @property
    def power(self) -> float | None:
        return self._power_set

    @power.setter
    def power(self, watts: float | None) -> None:
        self._power_set = watts
        self.changed()

    def advance(self) -> None:
        """Catch up with the clock."""
        now = int(self.clock.seconds() // GRID)
        if now == self._slot and self._settled:
            return
        self._settled = True
        self._share(self._slot)
        while self._slot < now:
            for module in self.modules.values():
                module.flow(GRID)
            self._slot += 1
            self._share(self._slot)

    def changed(self) -> None:
        """Divide the current anew at the next question: something was set by hand."""
        self._settled = False

    def snapshot(self, place: int, sequence: int) -> Snapshot:
        """Return what the module at `place` measures; `sequence` goes into cells 1 to 3 and the pack voltage."""
        self.advance()
        module = self.modules[place]
        seconds, number = self._slot * GRID, hash_of(module.serial)
        cells = self._cells(module, seconds, number)
        carry(cells, sequence)
        board, *others = self._temperatures(module, seconds, number)
        return Snapshot(
            module,
            cells,
            sum(cells),
            round(module.current * 1000),
            [board, *others][: module.model.temperatures],
            board - 14,
            round(module.model.capacity * module.soc / 100),
        )

    def _share(self, slot: int) -> None:
        """Divide the stack's power among the modules that take or give any."""
        if not self.modules:
            return
        seconds = slot * GRID
        for module in self.modules.values():
            module.judge()
        power = self._power(seconds)
        voltage = sum(m.cell_at_rest() * m.model.cells for m in self.modules.values()) / len(self.modules)
        weights = {place: self._weight(module, power, seconds) for place, module in self.modules.items()}
        total = sum(weights.values())
        for place, module in self.modules.items():
            most = module.limits()[0 if power > 0 else 1]
            wanted = power / voltage * weights[place] / total if total else 0.0
            module.current = max(-most, min(most, wanted))

    def _weight(self, module: Module, power: float, seconds: float) -> float:
        uneven = 1.0 + 0.08 * (self.house.wave(seconds / 300, hash_of(module.serial)) - 0.5)
        return module.model.capacity * uneven if module.limits()[0 if power > 0 else 1] else 0.0

    def _power(self, seconds: float) -> float:
        if self._power_set is not None:
            return self._power_set
        energy = sum(module.energy for module in self.modules.values())
        return (PEAK_POWER * self.house.sun(seconds) - self.house.load(seconds)) * energy / HOUSE_ENERGY

    def _cells(self, module: Module, seconds: float, number: int) -> list[int]:
        """Return the cell voltages in mV without the sequence's digits."""
        drop = module.current * RESISTANCE * 50_000 / module.model.capacity
        middle = 1000 * (module.cell_at_rest() + drop)
        spread = 16.0 if module.soc > 97 or module.soc < 5 else 4.0
        noise, wave = self.house.noise, self.house.wave
        return [
            round(middle + spread * (noise(index, number) - 0.5) + wave(seconds / 20, number + index) - 0.5)
            for index in range(module.model.cells)
        ]

    def _temperatures(self, module: Module, seconds: float, number: int) -> list[int]:
        """Return board, four groups of cells and the sixth sensor in tenths of °C."""
        ambient = 190 + 40 * self.house.sun(seconds) + 10 * self.house.wave(seconds / 1800, number)
        warmth = 0.04 * abs(module.current) * 50_000 / module.model.capacity * 10
        cells = [round(ambient + 20 + warmth + 6 * self.house.noise(group, number + 7)) for group in range(4)]
        return [round(ambient + 55 + 2 * warmth), *cells, round(ambient + 25 + warmth)]


def carry(cells: list[int], sequence: int) -> None:
    """Write the sequence number into the cells (mV) and into their sum, moving each as little as possible."""
    for index in range(3):
        wanted = sequence // 10**index % 10
        cells[index] += (wanted - cells[index] + 5) % 10 - 5
    left = (sequence - sum(cells) + 50) % 100 - 50
    others = len(cells) - 3
    for index in range(others):
        share = (left * (index + 1)) // others - (left * index) // others
        cells[3 + index] += share


def hash_of(serial: str) -> int:
    """Return a number that depends on the serial alone: what makes one module differ from its neighbour."""
    return sum((position + 1) * ord(letter) for position, letter in enumerate(serial)) % 9973


def make_modules(modules: int | Sequence[str], model: str, seed: int, soc: float) -> list[Module]:
    """Return so many modules of `model`, or one for each model named. Raises ValueError for an unknown one."""
    names = [model] * modules if isinstance(modules, int) else list(modules)
    made = []
    for index, name in enumerate(names):
        if name not in MODELS:
            raise ValueError(f"{name}: unknown model; known are {', '.join(MODELS)}")
        # the serials are invented; the vendor's have sixteen characters too
        serial = f"PPTSIM{seed % 10_000:04d}{index + 1:06d}"
        made.append(Module(MODELS[name], serial, soc - 0.4 * (index % 4), 120 + 17 * index, 98 - index % 3))
    return made
