"""What is known of one inverter behind a stick, and the readings made of it. Pure: times come from the caller."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bridge.fields import Channel, Field, Reading, Unit, Value
from bridge.luxpower.blocks import GROUP, Blocks, Piece
from bridge.luxpower.changes import Changes
from bridge.luxpower.derived import power_unit
from bridge.luxpower.frame import Function, Registers
from bridge.luxpower.models import Family, Feature, family_of
from bridge.luxpower.packs import FIRST_SLOT, PACKS, SLOT_WORDS, SLOTS, packs_in
from bridge.luxpower.registers import HOLDS, INPUTS
from bridge.luxpower.rows import clock
from bridge.luxpower.store import SET_SPREAD, Store

MANUFACTURER = "LuxPower"
BATTERY_BLOCK = 5000
"""Input registers from here on tell of battery packs."""
MOST_PACKS = 64
MODEL = (7, 8, 19)
"""The holding registers that tell the model."""
MOST_HELD = 32
"""Frames that are held back at most."""
LONGEST_PAUSE = 300.0
"""Seconds before an inverter is asked again that is silent while others answer, at most."""
PHASES = frozenset({Feature.THREE_PHASE, Feature.SPLIT_PHASE, Feature.LEG_APPARENT_POWER})

TOTALS: tuple[Field, ...] = (
    *(field for field in INPUTS.fields if field.quantity.unit in ("W", "VA", "kWh")),
    SET_SPREAD,
)
"""What the root tells of several inverters: whatever adds up, and how far apart their sets are."""

_MOVING = frozenset(row.key for row in HOLDS.rows if row.read is clock)
"""Settings that change by themselves; they alone are no news."""
_SAFE = re.compile(r"[A-Za-z0-9_-]*[0-9][A-Za-z0-9_-]*")
"""A pack's serial number that can be a level of a topic; with a digit it is none of our own levels."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How the readings of a device are made: its name, the age limit in s, and what the configuration overrides."""

    name: str
    max_age: float
    overrides: Mapping[str, Any]
    """Attributes of Family that the configuration gives."""
    phases: frozenset[Feature] | None = None
    """What the configuration says about them, None to go by the model."""
    packs: bool = False
    raw: bool = False

    def family(self, code: str | None, device_type: int | None) -> Family:
        """Return what is known of a model, with what the configuration says in the first place."""
        told = family_of(code, device_type)
        if self.phases is not None:
            told = replace(told, features=(told.features - PHASES) | self.phases)
        return replace(told, **self.overrides)


class Inverter:
    """One inverter, told apart by its serial number. `path` is "" when it is the only one of its device."""

    def __init__(self, serial: str, path: str, manner: Manner, *, asked_all: bool) -> None:
        self.serial = serial
        self.asked_all = asked_all
        """Whether every holding register has been asked for once, or never will be."""
        self.held: list[tuple[Registers, float]] = []
        """Inputs that came while it may still be no inverter, with their times."""
        self._waited = False
        """Whether the time to find out is over."""
        self.ask_anew()
        self.reading: Reading | None = None
        """Its newest state."""
        self._manner = manner
        family = manner.family(None, None)
        self._inputs = Store(INPUTS, family, max_age=manner.max_age)
        self._holds = Store(HOLDS, family)
        self.code: str | None = None
        self.device_type: int | None = None
        """Its model, holds 7, 8 and 19, once they are known."""
        self.changes = Changes()
        self._settings: dict[str, Value] = {}
        self._packs: dict[str, Unit] = {}
        title = f"{manner.name} {serial}" if path else manner.name
        self.unit = Unit(
            path, title, self._inputs.fields, manner.max_age, serial, MANUFACTURER, settings=self._holds.fields
        )

    @property
    def silent(self) -> bool:
        """Whether it gave no answer when it was asked last, while others on its stick did."""
        return bool(self._pause)

    def heard(self) -> None:
        """Note a sign of life."""
        self.ask_at = self._pause = 0.0

    def put_off(self, now: float, first: float) -> None:
        """Note a silence: it is asked again in `first` seconds, then in twice as many."""
        self._pause = min(2 * self._pause or first, LONGEST_PAUSE)
        self.ask_at = now + self._pause

    @property
    def known(self) -> bool:
        """Whether its model was read, or never will be."""
        return self.asked_all or self.model_read

    @property
    def model_read(self) -> bool:
        """Whether its model was read, also as nothing."""
        return self.code is not None or all(self.hold(at) is not None for at in MODEL)

    @property
    def model_piece(self) -> Piece | None:
        """What to ask for to hear of its model; nothing once that was refused."""
        return next((piece for piece in self.holds.pieces if piece.first <= MODEL[0] < piece.end), None)

    @property
    def puzzling(self) -> bool:
        """Whether nothing is to be told of it yet: it may be no inverter, and there is still time to find out."""
        return not (self.known or self._waited or self.model_piece is None)

    @property
    def power_unit(self) -> Value:
        """What its power settings count in, None while that is not known."""
        return power_unit(self._holds.family)

    def state_in(self, readings: Iterable[Reading]) -> Mapping[str, Value] | None:
        """Return its state if it is among `readings`."""
        return next((reading.values for reading in readings if reading is self.reading), None)

    def ask_anew(self) -> None:
        """Forget what was refused, and let everything be asked for."""
        self.heard()
        self.inputs, self.holds = Blocks(INPUTS), Blocks(HOLDS)
        self.has_battery_block = True

    def hold_back(self, frame: Registers, at: float) -> bool:
        """Keep inputs that may mean something else, since nobody knows yet what this is; return whether they do."""
        if frame.function != Function.READ_INPUT or not self.puzzling:
            return False
        self._learn_size(frame)
        if len(self.held) < MOST_HELD:
            self.held.append((frame, at))
        return True

    def let_go(self, since: float) -> list[tuple[Registers, float]]:
        """Return what was held back once the model is known, or cannot be read, or was waited for `since` then."""
        if not self.held or (self.puzzling and self.held[0][1] > since):
            return []
        self._waited = True
        held, self.held = self.held, []
        return held

    def _learn_size(self, frame: Registers) -> None:
        for blocks in (self.inputs, self.holds):
            blocks.saw(len(frame.data) // 2)

    def take(self, frame: Registers, at: float, now: float) -> tuple[list[Reading], list[str]]:
        """Store one frame; return the readings that follow, and in words what of it cannot be believed.

        Raises ProtocolError "implausible" when nothing of it can.
        """
        self._learn_size(frame)
        readings = [self._raw(frame, at)] if self._manner.raw else []
        if frame.function == Function.READ_HOLD:
            refused = list(self._holds.take(frame, at))
            self._learn(now)
            readings += self.settings(now)
        elif frame.register >= BATTERY_BLOCK:
            packs, refused = packs_in(frame) if self._manner.packs and not self.family.stranger else ([], [])
            readings += self._of_packs(packs, at, refused)
        else:
            refused = list(self._inputs.take(frame, at))
            readings += self._state(now)
        return readings, refused

    def end_round(self, now: float) -> Iterator[Reading]:
        """Take note that all inputs were asked for; return the state again where it says more for that."""
        if self._inputs.end_round():
            yield from self._state(now)

    def settings(self, now: float, *, complete: bool = False) -> list[Reading]:
        """Return the settings when they are news; for the first time when all that can be read is `complete`."""
        self.asked_all |= complete
        snapshot = self._holds.snapshot(now) if self.asked_all and not self.family.stranger else None
        if snapshot is None or not self._is_news(snapshot.values):
            return []
        self._settings = snapshot.values
        return [Reading(self.unit, snapshot.values, snapshot.at, channel=Channel.SETTINGS)]

    @property
    def family(self) -> Family:
        return self._holds.family

    def hold(self, register: int) -> int | None:
        """Return a holding register as it was read last, None when it never was."""
        word = self._holds.word(register)
        return word.value if word is not None else None

    def facts(self, now: float) -> Mapping[str, Value]:
        """Return what it measures, as far as that is young enough to be believed."""
        snapshot = self._inputs.snapshot(now)
        return snapshot.values if snapshot is not None else {}

    def battery(self) -> list[Piece]:
        """Return what to ask for to hear of the battery packs, whole slots each; nothing once that was refused."""
        if not self.has_battery_block:
            return []
        largest = max((piece.length for piece in self.inputs.pieces), default=GROUP)
        at_once = min(max(largest // SLOT_WORDS, 1), SLOTS)
        slots = range(0, SLOTS, at_once)
        return [Piece(FIRST_SLOT + slot * SLOT_WORDS, min(at_once, SLOTS - slot) * SLOT_WORDS) for slot in slots]

    def _is_news(self, values: Mapping[str, Value]) -> bool:
        return any(self._settings.get(key, _MOVING) != value for key, value in values.items() if key not in _MOVING)

    def _state(self, now: float) -> Iterator[Reading]:
        snapshot = self._inputs.snapshot(now)
        if snapshot is not None and not self.family.stranger:
            self.reading = Reading(self.unit, snapshot.values, snapshot.at)
            yield self.reading

    def _learn(self, now: float) -> None:
        """Take up what the holding registers say about the model."""
        snapshot = self._holds.snapshot(now)
        if snapshot is None:
            return
        code, kind, firmware = (snapshot.values[key] for key in ("model_code", "device_type", "firmware"))
        model = code if isinstance(code, str) else None
        self.code, self.device_type = model, kind if isinstance(kind, int) else None
        family = self._manner.family(model, self.device_type)
        if family != self._inputs.family:
            self._inputs.learn(family)
            self._holds.learn(family)
        firmware = firmware if isinstance(firmware, str) else None
        if (model, firmware) != (self.unit.model, self.unit.firmware):
            self.unit = self.unit._replace(model=model, firmware=firmware)

    def _of_packs(self, packs: list[dict[str, Value]], at: float, refused: list[str]) -> Iterator[Reading]:
        for values in packs:
            serial = str(values["serial"])
            unit = self._packs.get(serial)
            if unit is None:
                if not _SAFE.fullmatch(serial) or len(self._packs) >= MOST_PACKS:
                    refused.append(f"a battery pack called {serial!r}")
                    continue
                unit = self._packs[serial] = Unit(
                    serial, f"{self._manner.name} battery {serial}", PACKS.fields, self._manner.max_age, serial
                )
            yield Reading(unit, {field.key: values[field.key] for field in PACKS.fields}, at)

    def _raw(self, frame: Registers, at: float) -> Reading:
        return Reading(self.unit, raw_words(frame.function, frame.register, frame.words), at, channel=Channel.REGISTERS)


TABLES = {"hold": Function.READ_HOLD, "input": Function.READ_INPUT}
"""What the registers are called in topics."""
PARAMETER = "param"
"""What a parameter of the stick itself is called there."""


PASSWORD = 225
"""The holding register with the panel's password, which is never told."""


def raw_words(function: int, register: int, words: tuple[int, ...]) -> dict[str, Value]:
    """Return words by name and number, "hold_64", but for the password."""
    name = next(name for name, known in TABLES.items() if known == function)
    secret = PASSWORD if function == Function.READ_HOLD else None
    return {f"{name}_{number}": word for number, word in enumerate(words, register) if number != secret}


class Totals:
    """Several inverters as one: what adds up, once each of them has told something new."""

    def __init__(self, manner: Manner) -> None:
        self.unit = Unit("", manner.name, TOTALS, manner.max_age, manufacturer=MANUFACTURER)
        self._told: dict[str, float] = {}

    def add_up(self, inverters: list[Inverter], now: float) -> Reading | None:
        """Return the sum when every inverter is known anew and young enough, else None: a part is no total."""
        readings = [inverter.reading for inverter in inverters if inverter.reading is not None]
        young = [r for r in readings if now - r.at <= self.unit.max_age and r.at > self._told.get(r.unit.path, 0.0)]
        if len(young) < len(inverters):
            return None
        self._told = {reading.unit.path: reading.at for reading in young}
        values: dict[str, Value] = {
            field.key: _sum([reading.values[field.key] for reading in young]) for field in TOTALS[:-1]
        }
        times = list(self._told.values())
        values[SET_SPREAD.key] = round(max(times) - min(times), 1)
        return Reading(self.unit, values, min(times))


def _sum(values: list[Value]) -> Value:
    numbers = [value for value in values if isinstance(value, (int, float))]
    return round(sum(numbers), 1) if len(numbers) == len(values) else None


def documented_fields() -> dict[str, tuple[Field, ...]]:
    """Return what every unit of such a device can publish, by the words for it; for docs/values.md."""
    return {
        "the inverter": (*INPUTS.fields, SET_SPREAD),
        "its settings, on `{device}/settings`": HOLDS.fields,
        "a battery pack (`packs: true`)": PACKS.fields,
        "several inverters of one stick together": TOTALS,
    }
