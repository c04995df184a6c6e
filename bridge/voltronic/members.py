"""Who is in a parallel set, as its units told over one cable: their numbers and when each is asked (pure).

A set's units are numbered from 0 on. They are looked for now and then; one that is known keeps its place while it is
switched off, and those behind it are asked all the same. Times are time.monotonic().
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from bridge.errors import CommandError
from bridge.fields import Field, Unit, Value
from bridge.voltronic.known import LONGEST_PAUSE, MANUFACTURER, REFUSED_FOR, SILENT_FOR, TOLD_AGAIN, Patience

MOST_UNITS = 9
"""A parallel set has no more."""


class Members:
    """The units of a set that were heard of. `wanted` is how many there are, or "auto" to look for them."""

    def __init__(self, name: str, max_age: float, wanted: int | str, look_every: float) -> None:
        self.units: dict[str, Unit] = {}
        """By serial number."""
        self.values: dict[str, Mapping[str, Value]] = {}
        """What each of them told last."""
        self.controls: tuple[Field, ...] = ()
        """What can be set on each of them."""
        self._name, self._age, self._wanted, self._look_every = name, max_age, wanted, look_every
        self._places: dict[str, int] = {}
        self._patience: dict[int, Patience] = {}
        self._size = 0
        self._look_due = 0.0

    # -- who is asked

    @property
    def searched(self) -> bool:
        """Whether nobody said how many there are."""
        return self._wanted == "auto"

    def due_to_look(self, now: float) -> bool:
        """Whether units that joined the set are to be looked for."""
        return self.searched and now >= self._look_due

    def count(self, looking: bool) -> int:
        """Return how many places to ask, from 0 on."""
        if not self.searched:
            return int(self._wanted)
        return MOST_UNITS if looking else self._size

    def last_known(self) -> int:
        """Return the largest place of a unit of the set: before it there may be a gap."""
        return max((self._places[serial] for serial in self.units), default=0)

    def looked(self, size: int, sure: bool, now: float) -> None:
        """Note that the set was looked through; not `sure` when a place gave no answer at all."""
        self._size = size if sure else max(size, self._size)
        self._look_due = now + (self._look_every if sure else SILENT_FOR)

    def patience(self, place: int) -> Patience:
        """Return when a place is asked again."""
        return self._patience.setdefault(place, Patience(pause=0.0) if self._is_expected(place) else Patience())

    def silent(self, place: int, now: float) -> None:
        """Note that a place gave no answer."""
        self.patience(place).put_off(now, LONGEST_PAUSE if self._is_expected(place) else REFUSED_FOR)

    def answered(self, place: int) -> None:
        """Note that a place gave an answer."""
        patience = self.patience(place)
        patience.due = patience.pause = 0.0

    def _is_expected(self, place: int) -> bool:
        """Whether the question is known there; where no set is known, unit 0 may be one that does not know it."""
        return place > 0 or not self.searched or place in self._places.values()

    # -- who is who

    def is_elsewhere(self, serial: str, place: int) -> bool:
        """Whether a unit was found at another place."""
        return self._places.get(serial, place) != place

    def found(self, serial: str, place: int) -> None:
        """Note where a unit is; it may stand alone."""
        self._places[serial] = place

    def told(self, serial: str, values: Mapping[str, Value], fields: Callable[[], tuple[Field, ...]]) -> Unit:
        """Take what a unit of the set told, and return it, made anew when it has other keys or controls."""
        self.values[serial] = values
        unit = self.units.get(serial)
        if unit is None or len(unit.fields) != len(values) or unit.controls != self.controls:
            unit = self.units[serial] = Unit(
                serial, f"{self._name} {serial}", fields(), self._age, serial=serial, manufacturer=MANUFACTURER,
                controls=self.controls,
            )  # fmt: skip
        return unit

    def place_of(self, serial: str | None) -> int:
        """Return the number of a unit of the set, 0 of one that is none."""
        return self._places[serial] if serial is not None and serial in self.units else 0

    def member(self, serial: str) -> tuple[Unit, int]:
        """Return a unit of the set and its number. Raises CommandError."""
        unit = self.units.get(serial)
        if unit is None:
            known = ", ".join(self.units) or "none"
            raise CommandError(f"no unit {serial[:40]!a} of a set is reached over this cable; there are {known}")
        return unit, self._places[serial]

    def counterparts(self, path: str, key: str, own: str | None) -> Iterator[tuple[str, str]]:
        """Return where else a setting of a unit is told, paths and keys. `own` is who is on the cable."""
        if path:
            if own in (path, None):
                yield from (("", name) for name, again in TOLD_AGAIN.items() if again == key)
        elif key in TOLD_AGAIN:
            every = key == "charger_source_priority"  # it holds for the whole set
            yield from ((serial, TOLD_AGAIN[key]) for serial in self.units if every or own in (serial, None))
