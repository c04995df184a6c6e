"""Energy made of power, for devices that count none: what is integrated, and how (pure).

Charging, importing and producing are positive, as everywhere. Both directions are summed up apart, and neither ever
falls. Between two readings power is taken to change evenly; between two that are further apart than a reading stays
true nothing is assumed, so a gap adds nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, replace
from math import isfinite

from bridge.fields import Field, Quantity, Value

ESTIMATED = Quantity("kWh", "energy", "total_increasing", decimals=2)
JOULES = 3_600_000.0
"""In one kWh."""


@dataclass(frozen=True, slots=True)
class Meter:
    """Power values whose sum makes totals: of what is positive and, where that can be, of what is negative.

    It serves units that have the first key of `powers`, all of `needs` and none of `unless`; the other powers are
    those of further trackers or lines, as far as a unit has them.
    """

    powers: tuple[str, ...]
    positive: Field
    negative: Field | None = None
    needs: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    roots_only: bool = False

    @property
    def fields(self) -> tuple[Field, ...]:
        return (self.positive,) if self.negative is None else (self.positive, self.negative)

    def power(self, values: Mapping[str, Value]) -> float | None:
        """Return the whole power in W; None where a part of it is not known, since a part is not the whole."""
        whole = 0.0
        for key in self.powers:
            part = values.get(key)
            if isinstance(part, bool) or not isinstance(part, int | float) or not isfinite(part):
                return None
            whole += part
        return whole


def _total(key: str, name: str) -> Field:
    return Field(f"{key}_energy_estimated", ESTIMATED, f"{name} energy (estimated)")


# fmt: off
METERS = (
    Meter(("power",), _total("charge", "Charge"), _total("discharge", "Discharge"), roots_only=True),
    Meter(("battery_power",), _total("battery_charge", "Battery charge"),
          _total("battery_discharge", "Battery discharge")),
    Meter(("pv_total_power",), _total("pv", "PV"), unless=("pv_energy_total",)),
    Meter(("pv1_power", "pv2_power", "pv3_power"), _total("pv", "PV"), needs=("pv2_power",),
          unless=("pv_energy_total", "pv_total_power")),
    Meter(("pv1_power",), _total("pv", "PV"),
          unless=("pv_energy_total", "pv_total_power", "pv2_power", "pv2_current")),
    # a second tracker whose power is not told (QPIGS2 of PI41): the first alone is not the PV energy
    Meter(("pv1_power",), _total("pv1", "PV1"), needs=("pv2_current",),
          unless=("pv_energy_total", "pv_total_power", "pv2_power")),
    Meter(("ac_output_active_power", "l2_output_active_power"), _total("load", "Load"), unless=("load_energy_total",)),
)
# fmt: on
"""`power` is that of a whole battery; a stack's modules are not counted one by one."""


TELLING = frozenset(key for meter in METERS for key in (*meter.powers, *meter.needs, *meter.unless))
"""The keys of a unit that say which meters it needs."""


def meters_of(path: str, keys: Iterable[str]) -> tuple[Meter, ...]:
    """Return the meters for a unit at `path` that has these keys, each with the powers it has."""
    known = frozenset(keys)
    return tuple(
        replace(meter, powers=tuple(key for key in meter.powers if key in known)) for meter in METERS
        if known.issuperset((meter.powers[0], *meter.needs)) and not known.intersection(meter.unless)
        and not (path and meter.roots_only)
    )  # fmt: skip


class Integrator:
    """The totals of one unit in kWh by key, which it adds to."""

    def __init__(self, meters: Iterable[Meter], totals: MutableMapping[str, float]) -> None:
        self.meters = tuple(meters)
        self.totals = totals
        for meter in self.meters:
            for item in meter.fields:
                totals.setdefault(item.key, 0.0)
        self._before: dict[str, tuple[float, float]] = {}

    def told(self) -> dict[str, float]:
        """Return the totals of these meters with a resolution of 1 Wh."""
        return {item.key: round(self.totals[item.key], 3) for meter in self.meters for item in meter.fields}

    def take(self, values: Mapping[str, Value], at: float, max_age: float) -> None:
        """Add what came since the reading before. `at` is in s, `max_age` how far apart the two may be."""
        for meter in self.meters:
            power = meter.power(values)
            if power is None:
                self._before.pop(meter.positive.key, None)
                continue
            before = self._before.get(meter.positive.key)
            if before is not None and at <= before[1]:
                continue
            self._before[meter.positive.key] = (power, at)
            if before is not None and at - before[1] <= max_age:
                self._add(meter, before[0], power, at - before[1])

    def _add(self, meter: Meter, first: float, last: float, seconds: float) -> None:
        positive, negative = areas(first, last, seconds)
        self.totals[meter.positive.key] += positive / JOULES
        if meter.negative is not None:
            self.totals[meter.negative.key] += negative / JOULES


def areas(first: float, last: float, seconds: float) -> tuple[float, float]:
    """Return the energy in J above and below zero of power that goes evenly from `first` to `last` W."""
    if first >= 0 and last >= 0:
        return (first + last) / 2 * seconds, 0.0
    if first <= 0 and last <= 0:
        return 0.0, -(first + last) / 2 * seconds
    crossing = min(seconds * first / (first - last), seconds)  # rounding may pass the end
    above = first * crossing / 2 if first > 0 else last * (seconds - crossing) / 2
    below = -last * (seconds - crossing) / 2 if first > 0 else -first * crossing / 2
    return above, below
