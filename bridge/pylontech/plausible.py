"""What a module can mean and what it cannot: the check behind the checksum.

The frame's checksum is a sum: two exchanged characters always pass it, and 6 % of random double bit
errors do. The console has no checksum at all. So ranges are checked, the cells are held against the
module's voltage, and each reading against the one before it. What fails is refused as "implausible"
with its reason, never repaired: a value is taken as it is or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bridge import battery as k
from bridge.errors import ProtocolError
from bridge.fields import BATTERY_VOLTAGE, CELL_VOLTAGE, CURRENT, TEMPERATURE, Field
from bridge.pylontech import values as v
from bridge.pylontech.values import Values, number

# fmt: off
RANGES = {
    # A battery shuts down at 1 V a cell and opens its charge MOSFET at 4.2 V; models have 8 (24 V) to 16 cells.
    k.VOLTAGE.key:                 (5.0, 80.0),
    k.CELL_MIN.key:                (0.5, 4.5),
    k.CELL_MAX.key:                (0.5, 4.5),
    k.CURRENT.key:          (-300.0, 300.0),
    k.TEMPERATURE.key:      (-40.0, 100.0),
    k.COLDEST.key:            (-40.0, 100.0),
    k.HOTTEST.key:            (-40.0, 100.0),
    k.MOS_TEMPERATURE.key:         (-40.0, 150.0),
    k.SOC.key:         (0.0, 105.0),
    k.SOH.key:         (0.0, 110.0),
    k.TOTAL.key:                   (0.0, 1000.0),
    k.REMAINING.key:               (0.0, 1050.0),
    k.CYCLES.key:             (0.0, 30000.0),
    k.CHARGE_VOLTAGE_LIMIT.key:    (10.0, 65.0),
    k.DISCHARGE_VOLTAGE_LIMIT.key: (10.0, 65.0),
    k.CHARGE_CURRENT_LIMIT.key:    (0.0, 400.0),
    k.DISCHARGE_CURRENT_LIMIT.key: (0.0, 400.0),
    k.CHARGE_RATING.key:      (5.0, 400.0),
    k.DISCHARGE_RATING.key:   (5.0, 400.0),
    k.CELL_COUNT.key:              (4.0, 32.0),
}
"""Lowest and highest value a module can have, in the value's own unit."""
KINDS = {
    CELL_VOLTAGE: RANGES[k.CELL_MAX.key],
    BATTERY_VOLTAGE: RANGES[k.VOLTAGE.key],
    CURRENT:        (-400.0, 400.0),
    TEMPERATURE: RANGES[k.TEMPERATURE.key],
}
"""The same for any other value of a kind, but not for differences."""
# fmt: on

CELL_MISMATCH = 0.033
"""V a cell by which the module's voltage may differ from the sum of its cells: 1 %. In every capture it
is that sum to the millivolt, but another model may measure it apart."""

# How far a value may move between two readings: at once, and a second.
CELL_STEP, CELL_PER_AMPERE, CELL_PER_SECOND = 0.030, 0.004, 0.005
MISMATCH_STEP = 0.012
TEMPERATURE_STEP, TEMPERATURE_PER_SECOND = 1.5, 0.2
SOC_STEP, SOC_PER_SECOND = 2.5, 0.1
CYCLE_STEP = 2
EXACT, EXACT_AFTER = 0.0005, 3
"""V within which cells and module voltage are equal, and after how many such readings they must stay so."""


def refuse(reason: str) -> ProtocolError:
    """Return the error for a frame that is whole, but that no battery can mean."""
    return ProtocolError("implausible", reason)


SUMMED = {
    field.key for field in (k.CURRENT, k.REMAINING, k.TOTAL, k.CHARGE_CURRENT_LIMIT, k.DISCHARGE_CURRENT_LIMIT)
}


def ranges_of(fields: Iterable[Field]) -> dict[str, tuple[float, float]]:
    """Return those of RANGES that values of such fields can have."""
    return {field.key: RANGES[field.key] for field in fields if field.key in RANGES}


def ranges_of_all(fields: Iterable[Field]) -> dict[str, tuple[float, float]]:
    """Return the ranges of such fields: their own, else what is possible for their kind."""
    found = {field.key: RANGES.get(field.key) or KINDS.get(field.quantity) for field in fields}
    return {key: ends for key, ends in found.items() if ends is not None}


def check_ranges(values: Values, modules: int = 1, ranges: Mapping[str, tuple[float, float]] = RANGES) -> None:
    """Raise ProtocolError "implausible" when a known value is out of range, for that many modules together."""
    for key, (low, high) in ranges.items():
        value = values.get(key)
        if value is None or isinstance(value, str) or low <= value <= high:
            continue
        if modules == 1 or key not in SUMMED or not modules * low <= value <= modules * high:
            raise refuse(f"{key} {value:g} is not within {low:g} to {high:g}")


def check_cells(millivolts: Sequence[int], voltage: int) -> None:
    """Raise ProtocolError "implausible" when the cells cannot make up the module's voltage, all in mV."""
    low, high = RANGES[k.CELL_MIN.key]
    if min(millivolts) < 1000 * low or max(millivolts) > 1000 * high:
        raise refuse(f"cells of {min(millivolts)} to {max(millivolts)} mV")
    if abs(sum(millivolts) - voltage) > 1000 * CELL_MISMATCH * len(millivolts):
        raise refuse(f"cells sum up to {sum(millivolts)} mV, the module says {voltage} mV")


def check_capacity(remaining: float, total: float) -> None:
    """Raise ProtocolError "implausible" when more is left than fits in, both in mAh."""
    if remaining > 1.05 * total:
        raise refuse(f"{remaining:g} mAh left of {total:g} mAh")


def check_change(before: Values, after: Values, seconds: float) -> None:
    """Raise ProtocolError "implausible" when a module cannot get from one reading to the next in that time.

    Both are states of the same module; values that one of them does not know are passed over.
    """
    _check_steps(before, after, seconds)
    _check_mismatch(_mismatch(before), _mismatch(after))


def _check_steps(before: Values, after: Values, seconds: float) -> None:
    drift = max(0.0, seconds)
    amperes = _moved(before, after, k.CURRENT.key) or 0.0
    cell_step = CELL_STEP + CELL_PER_AMPERE * amperes + CELL_PER_SECOND * drift
    cells = _cells(after)
    _limit(before, after, v.CELL_KEYS[:cells], cell_step)
    _limit(before, after, CELL_EXTREMES, cell_step)
    _limit(before, after, (k.VOLTAGE.key,), cell_step * max(1, cells or 16))
    warming = TEMPERATURE_STEP + TEMPERATURE_PER_SECOND * drift
    _limit(before, after, TEMPERATURE_KEYS[: _sensors(after)], warming)
    _limit(before, after, TEMPERATURE_EXTREMES, warming)
    _limit(before, after, (k.SOC.key,), SOC_STEP + SOC_PER_SECOND * drift)
    _limit(before, after, (k.TOTAL.key,), 0.0)
    _limit(before, after, (k.CYCLES.key,), CYCLE_STEP)


CELL_EXTREMES = (k.CELL_MIN.key, k.CELL_MAX.key)
TEMPERATURE_EXTREMES = (k.COLDEST.key, k.HOTTEST.key)
TEMPERATURE_KEYS = tuple(field.key for field in v.temperatures(16))


def _check_mismatch(was: float | None, now: float | None) -> None:
    """The difference between cells and module voltage belongs to the model, so it stays what it was."""
    if was is None or now is None:
        return
    if abs(now - was) > MISMATCH_STEP + 0.1 * max(abs(was), abs(now)):
        raise refuse(f"cells and module voltage differ by {now * 1000:.0f} mV, before by {was * 1000:.0f} mV")


def _mismatch(values: Values) -> float | None:
    voltage = number(values, k.VOLTAGE)
    total = 0.0
    count = 0
    for key in v.CELL_KEYS:
        cell = values.get(key)
        if not isinstance(cell, float | int):
            break
        total += cell
        count += 1
    return total - voltage if count and voltage is not None else None


def _cells(values: Values) -> int:
    """How many cell voltages a state holds; they are numbered from 1 without a gap."""
    count = 0
    for key in v.CELL_KEYS:
        if values.get(key) is None:
            break
        count += 1
    return count


def _sensors(values: Values) -> int:
    """How many temperatures a state holds, at least the module's own; they are numbered from 2 without a gap."""
    count = 1
    while count < len(TEMPERATURE_KEYS) and TEMPERATURE_KEYS[count] in values:
        count += 1
    return count


def _moved(before: Values, after: Values, key: str) -> float | None:
    was, now = before.get(key), after.get(key)
    return abs(now - was) if isinstance(was, float | int) and isinstance(now, float | int) else None


def _limit(before: Values, after: Values, keys: Sequence[str], most: float) -> None:
    for key in keys:
        was, now = before.get(key), after.get(key)
        if not isinstance(was, float | int) or not isinstance(now, float | int):
            continue
        if abs(now - was) > most + 1e-9:
            raise refuse(f"{key} moved by {abs(now - was):g}, at most {most:g} is possible in that time")


class Watch:
    """Holds each reading of one module against the one before it.

    A step that looks impossible may still be true: after a recalibration, or when a module was
    exchanged. So a reading is also taken when it agrees with the refused one right before it: one
    damaged frame never gets through, a real step is one reading late.
    """

    def __init__(self) -> None:
        self._taken: _Seen | None = None
        self._refused: _Seen | None = None
        self._exact = 0

    def admit(self, values: Values, at: float) -> None:
        """Take a reading of time `at` (seconds) as the new one to compare with.

        Raises ProtocolError "implausible" when it agrees neither with the last one taken nor with the
        one refused right before.
        """
        seen = _Seen(values, at, _mismatch(values))
        try:
            self._compare(seen)
        except ProtocolError:
            if self._refused is None or not _agree(self._refused, seen):
                self._refused = seen
                raise
            self._exact = 0
        self._taken, self._refused = seen, None
        self._exact = self._exact + 1 if seen.mismatch is not None and abs(seen.mismatch) <= EXACT else 0

    def forget(self) -> None:
        """Compare with nothing at the next reading: another module answers now."""
        self._taken = self._refused = None
        self._exact = 0

    def _compare(self, seen: _Seen) -> None:
        if self._taken is not None:
            _check_seen(self._taken, seen)
        if self._exact >= EXACT_AFTER and seen.mismatch is not None and abs(seen.mismatch) > EXACT:
            raise refuse(f"cells and module voltage differ by {seen.mismatch * 1000:.0f} mV, they never did before")


@dataclass(frozen=True, slots=True)
class _Seen:
    """One reading, its time, and by how much the module's voltage is not the sum of its cells."""

    values: Values
    at: float
    mismatch: float | None


def _check_seen(earlier: _Seen, later: _Seen) -> None:
    _check_steps(earlier.values, later.values, later.at - earlier.at)
    _check_mismatch(earlier.mismatch, later.mismatch)


def _agree(earlier: _Seen, later: _Seen) -> bool:
    try:
        _check_seen(earlier, later)
    except ProtocolError:
        return False
    return True
