"""What is known of a stack and of each of its modules, whichever link brings it: identity, ages, readings (pure).

A module is known by its serial number, read twice before it is believed; by its place (address or position)
where it tells none. A module that turns up at another place takes its name and its history along.

Every answer stays true for as long as its Source says; after that its keys are null, and a module none of whose
living answers is true any more takes part in nothing. What two readings have in common is judged by a Watch.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf

from bridge import battery as k
from bridge.fields import Field, Reading, Unit, Value
from bridge.pylontech import stack
from bridge.pylontech.plausible import Watch, refuse
from bridge.pylontech.values import Values

log = logging.getLogger(__name__)

MANUFACTURER = "Pylontech"
_FIT = re.compile(r"(?![0-9]{1,3}$)[A-Za-z0-9?.:_-]{1,64}")
"""A serial number that can be the level of a topic, and is no place."""
AGE_STEP, AGE_BACK = 5.0, 1.25
"""Seconds in which an age limit goes up and down, and by how much a lower one must suffice: it does not flicker."""


def age_limit(wanted: float, limit: float, least: float) -> float:
    """Return the age limit in place of `limit` where `wanted` seconds are needed, `least` at least."""
    if wanted > limit:
        return AGE_STEP * (wanted // AGE_STEP + 1)
    fitting = AGE_STEP * (AGE_BACK * wanted // AGE_STEP + 1)
    return max(least, fitting) if fitting < limit else limit


@dataclass(frozen=True, slots=True)
class Source:
    """One kind of question: its name, and for how many seconds its answer is true.

    A `lasting` answer tells who a module is; it is no sign that the module lives. `watched` answers are held
    against the one before, and the newest of them dates the module's readings.
    """

    name: str
    max_age: float
    lasting: bool = False
    watched: bool = False


@dataclass(slots=True)
class _Told:
    """The newest answer from one source."""

    source: Source
    values: Values
    at: float


class Module:
    """One physical module: its unit, its newest answers, and where it is plugged in (`place`, None: nowhere)."""

    def __init__(self, device: str, path: str, serial: str | None, max_age: float) -> None:
        self.place: str | None = None
        self.serial = serial
        self.unit = Unit(path, f"{device} {path}", (), max_age, serial=serial, manufacturer=MANUFACTURER)
        self._told: dict[str, _Told] = {}
        self._watches: dict[str, Watch] = {}
        self._blank: Values = {}
        self._new_keys: dict[str, frozenset[str]] = {}
        self._state: Values | None = None
        self._state_until = -inf

    @property
    def path(self) -> str:
        return self.unit.path

    def take(self, source: Source, values: Values, at: float, fields: Sequence[Field] = ()) -> bool:
        """Take an answer of time `at` that holds (some of) the keys of `fields`; return whether it says something new.

        `fields` may hold more than `values`: all are announced from now on. Keys that the same source never had
        before are believed when two answers in a row have them. Raises ProtocolError "implausible"; nothing is
        taken then.
        """
        self._announce(source, values, fields)
        if source.watched:
            self._watches.setdefault(source.name, Watch()).admit(values, at)
        before = self._told.pop(source.name, None)  # the newest stands last: of what two sources tell, it counts
        self._told[source.name] = _Told(source, values, at)
        self._state_until = -inf
        return before is None or before.values != values

    def announce(self, fields: Iterable[Field]) -> None:
        """Announce fields before anything is known of them, for a key set that is constant from the first reading."""
        merged = {item.key: item for item in (*self.unit.fields, *fields)}
        if len(merged) > len(self.unit.fields):
            self.unit = self.unit._replace(fields=tuple(merged.values()))
            self._blank = dict.fromkeys(merged)
            self._state_until = -inf

    def put(self, place: str) -> None:
        """Note where the module is plugged in."""
        self.place = place
        self.unit = self.unit._replace(place=place)

    def learn(self, *, model: Value = None, firmware: Value = None) -> None:
        """Note who the module is; its unit is made anew only when that is news."""
        model = self.unit.model if model is None else str(model)
        firmware = self.unit.firmware if firmware is None else str(firmware)
        if (model, firmware) != (self.unit.model, self.unit.firmware):
            self.unit = self.unit._replace(model=model, firmware=firmware)

    def forget(self, source: Source) -> None:
        """Forget the answer from one source: it is known to hold no more."""
        self._told.pop(source.name, None)
        self._state_until = -inf

    def set_max_age(self, max_age: float) -> None:
        """Set how long readings stay true."""
        self.unit = self.unit._replace(max_age=max_age)
        self._state_until = -inf

    def age(self, source: Source, now: float) -> float:
        """Return how old the newest answer from a source is; infinite when there is none."""
        told = self._told.get(source.name)
        return now - told.at if told is not None else float("inf")

    def alive_at(self, now: float) -> float | None:
        """Return the time that dates the module's state, None when the module is not there any more.

        That is the newest answer that is watched, or where those are too old, the newest that lives.
        """
        found = [(told.source.watched, told.at) for told in self._told.values() if self._holds(told, now)]
        return max(found)[1] if found else None

    def state(self, now: float) -> Values | None:
        """Return the value of every announced key, None for what is not known or too old; None when not alive.

        Made anew only when an answer came or grew too old since: a stack's summary asks for every module's.
        """
        if now > self._state_until:
            ends = [told.at + min(told.source.max_age, limit) for told in self._told.values()
                    for limit in (inf, self.unit.max_age)]  # fmt: skip
            self._state_until = min((end for end in ends if end >= now), default=inf)
            self._state = self._make_state(now)
        return self._state

    def _make_state(self, now: float) -> Values | None:
        if self.alive_at(now) is None:
            return None
        values = dict(self._blank)
        for told in self._told.values():
            if now - told.at <= told.source.max_age:
                values.update(told.values)
        if k.SERIAL.key in values:
            values[k.SERIAL.key] = self.serial
        return values

    def reading(self, now: float) -> Reading | None:
        """Return the module's state as a reading, None when it is not alive or has announced nothing."""
        at, values = self.alive_at(now), self.state(now)
        return None if at is None or not values else Reading(self.unit, values, at)

    def _holds(self, told: _Told, now: float) -> bool:
        return not told.source.lasting and now - told.at <= min(told.source.max_age, self.unit.max_age)

    def _announce(self, source: Source, values: Values, fields: Sequence[Field]) -> None:
        keys = frozenset(values.keys() - self._blank.keys())
        expected = self._new_keys.pop(source.name, None)
        if not keys:
            return
        if source.name in self._told and expected != keys:
            self._new_keys[source.name] = keys
            raise refuse(f"values it never had before: {', '.join(sorted(keys)[:3])}")
        self.announce(fields)
        if missing := values.keys() - self._blank.keys():
            raise ValueError(f"no field announces {', '.join(sorted(missing))}")


class Units:
    """The modules of one device by place and by serial number, and the stack they make.

    `root_fields` are announced beside those of the stack; what `take_root` took of them goes into the root's state.
    Places are numbers as text: addresses on RS485, positions on a console.
    """

    def __init__(self, device: str, max_age: float, root_fields: Sequence[Field] = ()) -> None:
        self.places: dict[str, Module] = {}
        self._device = device
        self._max_age = max_age
        self._modules: dict[str, Module] = {}
        self._expected: set[str] = set()
        self._most = 0
        """How many places were expected, or held at once."""
        self._claims: dict[str, str | None] = {}
        self._stolen: dict[str, str] = {}
        self._ambiguous: set[str] = set()
        self._root_told: dict[str, _Told] = {}
        fields = {item.key: item for item in (*stack.FIELDS, *root_fields)}
        self.root = Unit("", device, tuple(fields.values()), max_age, manufacturer=MANUFACTURER)

    # -- who is where

    def expect(self, places: Iterable[str]) -> None:
        """Count these places offline as long as no module is known there."""
        self._expected.update(places)
        self._note_places()

    def claim(self, place: str, serial: str | None) -> Module | None:
        """Note the serial number (None: it tells none) read at a place; return the module that is there.

        None when it has to be read once more to be believed: one reading is enough where it confirms what is
        known, two that agree are needed for anything else.
        """
        here = self.places.get(place)
        if serial is None or serial in self._ambiguous:
            serial = None
        if here is not None and here.serial == serial:
            self._claims.pop(place, None)
            self._stolen.pop(place, None)
            return here
        if place not in self._claims or self._claims[place] != serial:
            self._claims[place] = serial
            return None
        del self._claims[place]
        return self._settle(place, serial)

    def vacant(self, place: str) -> None:
        """Note that nobody answers at a place: whose number was told there has gone elsewhere, and may come back."""
        self._stolen.pop(place, None)

    def _settle(self, place: str, serial: str | None) -> Module:
        if serial is not None and self._stolen.pop(place, None) == serial:
            log.warning("%s: serial number %s answers at several places, so it names none", self._device, serial)
            self._ambiguous.add(serial)
            gone = self._modules.pop(serial, None)
            if gone is not None and gone.place is not None:
                self.places.pop(gone.place, None)
            serial = None
        known = serial is not None and _FIT.fullmatch(serial)
        path = serial if known and serial is not None else place
        module = self._modules.get(path)
        if module is None:
            module = self._modules[path] = Module(self._device, path, serial, self._max_age)
            log.info("%s: module %s at %s", self._device, path, place)
        elif module.place is not None and module.place != place:
            log.info("%s: module %s moved from %s to %s", self._device, path, module.place, place)
            self.places.pop(module.place, None)
            if serial is not None:
                self._stolen[module.place] = serial
        self._put(place, module)
        return module

    def _put(self, place: str, module: Module) -> None:
        displaced = self.places.get(place)
        if displaced is not None and displaced is not module:
            if place == min(self.places, key=_in_order):
                self._root_told.clear()  # what the master before told of its stack
            displaced.place = None
            # without a serial number it has a name of its own now, so nobody else is there
            self._modules.pop(displaced.path, None)
            if displaced.serial is not None:
                self._modules[displaced.path] = displaced  # at the end: the last one to be displaced stands last
                log.info("%s: module %s is at %s, in place of %s", self._device, module.path, place, displaced.path)
        module.put(place)
        self.places[place] = module
        self._note_places()

    def _note_places(self) -> None:
        self._most = max(self._most, len(self._expected | self.places.keys()))

    # -- what the stack says

    def take_root(self, source: Source, values: Values, at: float) -> None:
        """Take an answer that is about the stack as a whole; its keys are among the root's."""
        self._root_told[source.name] = _Told(source, values, at)

    def root_told(self, now: float) -> Values:
        """Return what is true still of the answers about the stack as a whole."""
        young = [told.values for told in self._root_told.values() if now - told.at <= told.source.max_age]
        return {key: value for values in young for key, value in values.items()}

    def learn_root(self, *, model: Value = None, firmware: Value = None) -> None:
        """Note what the stack's master is."""
        model = self.root.model if model is None else str(model)
        firmware = self.root.firmware if firmware is None else str(firmware)
        if (model, firmware) != (self.root.model, self.root.firmware):
            self.root = self.root._replace(model=model, firmware=firmware)

    def set_max_age(self, max_age: float) -> None:
        """Set how long readings stay true, for every unit."""
        if max_age != self._max_age:
            self._max_age = max_age
            self.root = self.root._replace(max_age=max_age)
            for module in self._modules.values():
                module.set_max_age(max_age)

    def states(self, now: float) -> dict[str, Values | None]:
        """Return the state of every module by its place, None for one that is offline; for `stack.summary`."""
        counted = self._counted()
        empty = self._expected - self.places.keys()
        states: dict[str, Values | None] = dict.fromkeys(sorted(empty, key=_in_order)[: self._most - len(counted)])
        states |= {module.place or f"{module.path} (gone)": module.state(now) for module in counted}
        return {place: states[place] for place in sorted(states, key=_in_order)}

    def _counted(self) -> list[Module]:
        """Return the modules that the stack is made of, or misses.

        One whose place another holds is elsewhere or gone. It is missed while fewer places are held than once
        were, as when those behind a removed module move up; with all of them held again it was replaced.
        """
        displaced = [module for module in self._modules.values() if module.place is None]
        missed = self._most - len(self.places)
        return [*self.places.values(), *displaced[max(0, len(displaced) - missed) :]]

    def root_reading(self, now: float) -> Reading | None:
        """Return the stack's state as of its newest answer, None when no module is online."""
        times = [at for module in self._counted() if (at := module.alive_at(now)) is not None]
        if not times:
            return None
        values: Values = dict.fromkeys(item.key for item in self.root.fields)
        values.update(self.root_told(now))
        values.update((key, value) for key, value in stack.summary(self.states(now)).items() if value is not None)
        return Reading(self.root, values, max(times))


def _in_order(place: str) -> tuple[int, str]:
    """Sort numbers by their size, before all else."""
    return (int(place), "") if place.isdigit() else (1 << 30, place)
