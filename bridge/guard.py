"""The charge guard: what each module may be given, why not more, and how slowly a limit rises again (pure).

A limit starts from what the battery itself allows and only ever gets lower on its way: configured
caps, then curves by state of charge, cell voltage and temperature. It falls with one reading and rises
to no more than the last two readings, and those of the last `raise_after` seconds, all allowed.
Curves look at their value through a backlash: towards the strict side it counts at once, back
only after it has moved by the hysteresis.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from bridge import battery as k
from bridge.fields import Value
from bridge.options import option

DEFAULT_CAP = {15: 52.4}
"""V for so many cells in series; for other counts CELL_CAP each. A GX holds Pylontech batteries of 15 cells on
CAN at this value, since their own 53.2 V sit too near their 54 V alarm; on MQTT that is left to us.
Source: victronenergy/dbus-systemcalc-py, delegates/batteryservice.py."""
CELL_CAP = 3.5

AMPERES, SHARE, VOLTS = "A", "share", "V"


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A limit that follows a measured value, as points [value, limit]; level beyond the first and the last.

    `share` is a part (0 to 1) of what the module would otherwise be given, `A` amperes for each module, `V` volts.
    `line` goes straight from point to point, `step` keeps each point's limit up to the next point.
    """

    points: tuple[tuple[float, ...], ...] = option(doc="pairs [value, limit], by rising value")
    unit: Literal["share", "A", "V"] = option(SHARE, doc="what the limits are")
    between: Literal["line", "step"] = option("line", doc="what holds between two points")

    @staticmethod
    def conflicts(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Pairs, by rising value, with limits that can be."""
        points = values.get("points")
        if points is None:
            return
        if not points or any(len(point) != 2 for point in points):
            yield "points", "expected pairs of numbers, [[value, limit], [value, limit]]"
            return
        if any(first[0] >= second[0] for first, second in pairwise(points)):
            yield "points", "the first numbers of the pairs must rise from pair to pair"
        highest = 1.0 if values.get("unit") == SHARE else 1000.0
        if any(not 0 <= limit <= highest for _, limit in points):
            yield "points", f"the second number of each pair must be 0 to {highest:g}"

    def at(self, value: float) -> float:
        """Return the limit that goes with a value."""
        low, limit = self.points[0]
        if value <= low:
            return limit
        for right, next_limit in self.points[1:]:
            if value < right:
                slope = (next_limit - limit) / (right - low) if self.between == "line" else 0.0
                return limit + slope * (value - low)
            low, limit = right, next_limit
        return limit

    def trend(self) -> Iterator[int]:
        """Yield +1 or -1 for each stretch on which the limit rises or falls."""
        for (_, left), (_, right) in pairwise(self.points):
            if left != right:
                yield 1 if right > left else -1


FALLS, RISES, HILL = "fall", "rise", "rise and then fall"


def wrong_shape(curve: Curve, shape: str) -> str | None:
    """Say what is wrong with a curve that has to fall, rise, or rise and then fall; None when nothing is."""
    trend = list(curve.trend())
    good = {FALLS: 1 not in trend, RISES: -1 not in trend, HILL: trend == sorted(trend, reverse=True)}[shape]
    return None if good else f"with a rising value the limits of this curve may only {shape}"


def _curve(*points: tuple[float, float]) -> Curve:
    return Curve(points=points)


_FALLING_SOC = _curve((90, 1), (100, 0.2))
_FALLING_CELL = _curve((3.45, 1), (3.50, 0.25), (3.55, 0.05), (3.60, 0))
_CHARGE_WARMTH = _curve((0, 0), (5, 0.25), (10, 1), (40, 1), (45, 0.5), (50, 0))
_RISING_CELL = _curve((2.80, 0.1), (3.00, 1))
_DISCHARGE_WARMTH = _curve((-10, 0.2), (0, 1), (45, 1), (55, 0.2))


# fmt: off
@dataclass(frozen=True, kw_only=True)
class Levels:
    """`alarms` of a bank: the measured values that raise an alarm by themselves, as [warning, alarm]."""

    low_soc: tuple[float, ...] = option((10.0, 5.0), doc="%")
    high_cell: tuple[float, ...] = option((3.60, 3.65), doc="V")
    low_cell: tuple[float, ...] = option((2.95, 2.85), doc="V")
    imbalance: tuple[float, ...] = option((0.1, 0.3), doc="V between the lowest and the highest cell of a module")
    high_temperature: tuple[float, ...] = option((50.0, 55.0), doc="°C")
    low_temperature: tuple[float, ...] = option((0.0, -10.0), doc="°C")

    @staticmethod
    def conflicts(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Two numbers each, the alarm beyond the warning."""
        for name, pair in values.items():
            if len(pair) != 2 or ((pair[1] < pair[0]) if name in ("high_cell", "imbalance", "high_temperature")
                                  else (pair[1] > pair[0])):
                yield name, "expected [warning, alarm], the alarm no less far out than the warning"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The keys of a bank that say what it may be given."""

    max_charge_voltage: float | None = option(None, minimum=10, maximum=70, doc="V; else 52.4 for 15 cells, 3.5 a cell")
    max_charge_current: float | None = option(None, minimum=0, maximum=5000, doc="A for the whole bank")
    max_discharge_current: float | None = option(None, minimum=0, maximum=5000, doc="A for the whole bank")
    module_charge_current: float | None = option(None, minimum=0, maximum=500, doc="A for each module")
    module_discharge_current: float | None = option(None, minimum=0, maximum=500, doc="A for each module")
    share_of_rating: float = option(1.0, minimum=0, maximum=1, doc="how much of a module's rated current may flow")
    current_sharing: Literal["even", "capacity", "sum"] = option("even", doc="how modules share a current")
    voltage_by_soc: Curve | None = option(None, doc="charge voltage by state of charge, in V")
    charge_by_soc: Curve | None = option(_FALLING_SOC, doc="charge current by state of charge")
    charge_by_cell: Curve | None = option(_FALLING_CELL, doc="charge current by the highest cell")
    charge_by_temperature: Curve | None = option(_CHARGE_WARMTH, doc="charge current by the coldest and hottest cell")
    discharge_by_soc: Curve | None = option(None, doc="discharge current by state of charge")
    discharge_by_cell: Curve | None = option(_RISING_CELL, doc="discharge current by the lowest cell")
    discharge_by_temperature: Curve | None = option(_DISCHARGE_WARMTH, doc="discharge current by the same two cells")
    hysteresis_soc: float = option(2.0, minimum=0, maximum=50, doc="% to go back before a limit rises")
    hysteresis_cell: float = option(0.02, minimum=0, maximum=0.5, doc="V to go back before a limit rises")
    hysteresis_temperature: float = option(2.0, minimum=0, maximum=20, doc="°C to go back before a limit rises")
    raise_after: float = option(5.0, minimum=0, maximum=600, doc="s that a higher limit must hold before it is given")
    alarms: Levels = option(Levels(), doc="levels of the alarms")

    @staticmethod
    def conflicts(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Each curve bends the right way and has a unit that fits."""
        for name, shape in SHAPES.items():
            curve = values.get(name)
            if curve is None:
                continue
            if (curve.unit == VOLTS) != (name == "voltage_by_soc"):
                yield name, "unit: a charge voltage is in V, a current in A or a share"
            if complaint := wrong_shape(curve, shape):
                yield name, complaint
# fmt: on


SHAPES = {
    "voltage_by_soc": FALLS,
    "charge_by_soc": FALLS,
    "charge_by_cell": FALLS,
    "charge_by_temperature": HILL,
    "discharge_by_soc": RISES,
    "discharge_by_cell": RISES,
    "discharge_by_temperature": HILL,
}


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit and what keeps it from being higher. `apart`: the module takes no part, and the others go on."""

    value: float
    reasons: tuple[str, ...]
    apart: bool = False

    def under(self, value: float, *reasons: str) -> Limit:
        """Return the lower one of this limit and another."""
        return self.lower(Limit(value, reasons))

    def lower(self, other: Limit) -> Limit:
        """Return the lower one; equal ones join their reasons."""
        if self.value != other.value:
            return self if self.value < other.value else other
        return Limit(self.value, tuple(dict.fromkeys(self.reasons + other.reasons)), self.apart or other.apart)


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a module may be given: V, A, A. None is not known: no voltage told, no discharge current ever told."""

    voltage: Limit | None
    charge: Limit
    discharge: Limit | None

    def lower(self, other: Allowed) -> Allowed:
        """Return the lower ones of each; of what only one of them knows, that one's."""
        discharge = _lower(self.discharge, other.discharge)
        return Allowed(_lower(self.voltage, other.voltage), self.charge.lower(other.charge), discharge)


def _lower(first: Limit | None, second: Limit | None) -> Limit | None:
    return first.lower(second) if first is not None and second is not None else first or second


class Backlash:
    """A value that follows at once in one direction, and in the other only when it has moved by `play`.

    >>> high = Backlash(2.0, strict=1)
    >>> [high.follow(value) for value in (95.0, 94.0, 92.0, 95.0)]
    [95.0, 95.0, 94.0, 95.0]
    """

    def __init__(self, play: float, strict: int) -> None:
        self._play = play
        self._strict = strict
        self.value: float | None = None

    def follow(self, value: float | None) -> float | None:
        """Take the newest value; return the one that counts, None while the newest is not known."""
        if value is None:
            return None
        if self.value is None:
            self.value = value
        elif self._strict > 0:
            self.value = max(value, min(self.value, value + self._play))
        else:
            self.value = min(value, max(self.value, value - self._play))
        return self.value


@dataclass(frozen=True, slots=True)
class Felt:
    """What a module measures as the guard and the alarms see it, through the backlash; None is not known."""

    soc_high: float | None
    soc_low: float | None
    cell_high: float | None
    cell_low: float | None
    hottest: float | None
    coldest: float | None


STOPPING = (k.MODULE_OVER_VOLTAGE, k.CELL_FAULT, k.CHARGE_OVER_TEMPERATURE, k.OVER_TEMPERATURE, k.UNDER_TEMPERATURE,
            k.CHARGE_OVER_CURRENT, k.SHORT_CIRCUIT)  # fmt: skip
"""Protections under which a module is given no charge. None of them stops discharging: there the battery's own
allowance decides, since a discharge limit of 0 blacks out an off-grid house."""


STOPPING_STATES = (
    k.Told(k.STATE, (), ("error",)),
    k.Told(k.VOLTAGE_STATE, (), ("over voltage",)),
    k.Told(k.CELL_VOLTAGE_STATE, (), ("over voltage",)),
    k.Told(k.TEMPERATURE_STATE, (), k.TOO_HOT + k.TOO_COLD),
    k.Told(k.CELL_TEMPERATURE_STATE, (), k.TOO_HOT + k.TOO_COLD),
    k.Told(k.MOS_TEMPERATURE_STATE, (), k.TOO_HOT + k.TOO_COLD),
    k.Told(k.CURRENT_STATE, (), ("charge over current", "charge over current 2", "short circuit")),
)
"""The same as a console says it."""


class ModuleGuard:
    """What one module may be given, from its readings as they come."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._soc_high, self._soc_low = _both(limits.hysteresis_soc)
        self._cell_high, self._cell_low = _both(limits.hysteresis_cell)
        self._hottest, self._coldest = _both(limits.hysteresis_temperature)
        self._window: deque[tuple[float, Allowed]] = deque()
        self._discharge_told: float | None = None
        self.felt = Felt(None, None, None, None, None, None)

    @property
    def confirmed(self) -> bool:
        """Whether two readings have been taken: one alone raises nothing."""
        return len(self._window) >= 2

    def take(self, values: Mapping[str, Value], at: float, memory: float) -> None:
        """Take a reading of time `at`; one from more than `memory` seconds before it confirms nothing any more."""
        if self._window and at - self._window[-1][0] > memory:
            self._window.clear()
        self.felt = self._feel(values)
        self._window.append((at, self._judge(values)))
        while len(self._window) > 2 and self._window[0][0] < at - self._limits.raise_after:
            self._window.popleft()

    def allowed(self) -> Allowed:
        """Return what every reading that counts would allow."""
        (_, result), *rest = self._window
        for _, one in rest:
            result = result.lower(one)
        # a limit that has become unknown since is no longer the one of then
        newest = self._window[-1][1]
        return Allowed(result.voltage if newest.voltage else None, result.charge, result.discharge)

    def _feel(self, values: Mapping[str, Value]) -> Felt:
        soc, inside = k.SOC.number(values), k.TEMPERATURE.number(values)
        cold, hot = k.COLDEST.number(values), k.HOTTEST.number(values)
        return Felt(
            self._soc_high.follow(soc),
            self._soc_low.follow(soc),
            self._cell_high.follow(k.CELL_MAX.number(values)),
            self._cell_low.follow(k.CELL_MIN.number(values)),
            self._hottest.follow(inside if hot is None else hot),
            self._coldest.follow(inside if cold is None else cold),
        )

    def _judge(self, values: Mapping[str, Value]) -> Allowed:
        return Allowed(self._voltage(values), self._charge(values), self._discharge(values))

    def _voltage(self, values: Mapping[str, Value]) -> Limit | None:
        told = k.CHARGE_VOLTAGE_LIMIT.number(values)
        limit = None if told is None else Limit(told, ("battery",))
        if self._limits.voltage_by_soc is not None and self.felt.soc_high is not None:
            limit = _lower(limit, Limit(self._limits.voltage_by_soc.at(self.felt.soc_high), ("state of charge",)))
        return limit

    def _charge(self, values: Mapping[str, Value]) -> Limit:
        limits, felt = self._limits, self.felt
        limit = self._start(values, k.CHARGE_CURRENT_LIMIT, k.CHARGE_RATING, limits.module_charge_current)
        if limit is None:
            return Limit(0.0, ("charge limit not known",), apart=True)
        if k.CHARGE_ENABLE.flag(values) is False:
            return Limit(0.0, ("charging not enabled",), apart=True)
        if k.CHARGE_FET.flag(values) is False:
            return Limit(0.0, ("charge MOSFET off",), apart=True)
        raised = [key.key.replace("_", " ") for key in STOPPING if key.flag(values)]
        raised += [told.key.text(values) for told in STOPPING_STATES if told.level(values)]
        if raised:
            return Limit(0.0, tuple(raised), apart=True)
        if k.CELL_MAX.key in values and felt.cell_high is None and limits.charge_by_cell:
            return Limit(0.0, ("cell voltage not known",), apart=True)
        if k.TEMPERATURE.key in values and felt.coldest is None and limits.charge_by_temperature:
            return Limit(0.0, ("temperature not known",), apart=True)
        return _cut(limit, (
            ("state of charge", limits.charge_by_soc, felt.soc_high),
            ("cell voltage", limits.charge_by_cell, felt.cell_high),
            ("temperature", limits.charge_by_temperature, felt.coldest),
            ("temperature", limits.charge_by_temperature, felt.hottest),
        ))  # fmt: skip

    def _discharge(self, values: Mapping[str, Value]) -> Limit | None:
        limits, felt = self._limits, self.felt
        limit = self._start(values, k.DISCHARGE_CURRENT_LIMIT, k.DISCHARGE_RATING, limits.module_discharge_current)
        if limit is None and self._discharge_told is not None:
            limit = Limit(self._discharge_told, ("as last told",))
        if k.DISCHARGE_ENABLE.flag(values) is False:
            return Limit(0.0, ("discharging not enabled",), apart=True)
        if k.DISCHARGE_FET.flag(values) is False:
            return Limit(0.0, ("discharge MOSFET off",), apart=True)
        if limit is None:
            return None
        if k.DISCHARGE_CURRENT_LIMIT.number(values) is not None:
            self._discharge_told = limit.value
        return _cut(limit, (
            ("state of charge", limits.discharge_by_soc, felt.soc_low),
            ("cell voltage", limits.discharge_by_cell, felt.cell_low),
            ("temperature", limits.discharge_by_temperature, felt.coldest),
            ("temperature", limits.discharge_by_temperature, felt.hottest),
        ))  # fmt: skip

    def _start(self, values: Mapping[str, Value], key: k.Key, rating: k.Key, configured: float | None) -> Limit | None:
        """Return what battery and configuration allow together; None when the battery should tell and does not."""
        rated = rating.number(values)
        cap = None if configured is None else Limit(configured, ("module limit configured",))
        if cap is not None and rated is not None:
            cap = cap.under(rated * self._limits.share_of_rating, "rating")
        if key.key not in values:
            return cap
        told = key.number(values)
        return None if told is None else _lower(Limit(told, ("battery",), apart=told == 0), cap)


def _both(play: float) -> tuple[Backlash, Backlash]:
    return Backlash(play, strict=1), Backlash(play, strict=-1)


def _cut(limit: Limit, curves: Iterable[tuple[str, Curve | None, float | None]]) -> Limit:
    """Return the lowest of a limit and what each curve makes of it."""
    result = limit
    for reason, curve, value in curves:
        if curve is not None and value is not None:
            amount = curve.at(value) if curve.unit == AMPERES else curve.at(value) * limit.value
            if amount < result.value or (amount == result.value and amount < limit.value):
                result = result.under(amount, reason)
    return result


def voltage_cap(limits: Limits, cells: Iterable[int | None]) -> Limit:
    """Return the highest charge voltage for modules of so many cells; one that does not tell counts as 15."""
    if limits.max_charge_voltage is not None:
        return Limit(limits.max_charge_voltage, ("configured maximum",))
    caps = [DEFAULT_CAP.get(count, round(CELL_CAP * count, 2)) for count in {count or 15 for count in cells}]
    return Limit(min(caps), ("cap for the number of cells",))


def total_current(
    modules: Mapping[str, Limit], capacities: Mapping[str, float | None], sharing: str, cap: float | None, silent: int
) -> Limit:
    """Return the current of a bank: how much it can take until the first of its modules is at its own limit.

    `modules` are the limits of the live ones by name, `capacities` their Ah. Those that stand apart give
    0 A and do not count; one that a curve has cut to 0 A stops all, since it still takes its share.
    Never more than the sum. With even sharing it is lowest x number: the sum for modules that are alike.
    """
    giving = {name: limit for name, limit in modules.items() if not limit.apart}
    if not giving:
        return Limit(0.0, _reasons(modules, modules))
    amperes = sum(limit.value for limit in giving.values())
    binding = giving
    sizes = {name: capacities.get(name) for name in giving}
    if sharing == "even" or (sharing == "capacity" and None in sizes.values()):
        sizes = dict.fromkeys(giving, 1.0)
    if sharing != "sum":
        whole = sum(size or 0.0 for size in sizes.values())
        per_module = {name: limit.value * whole / (sizes[name] or 1.0) for name, limit in giving.items()}
        lowest = min(per_module.values())
        amperes = min(amperes, lowest)
        binding = {name: giving[name] for name, value in per_module.items() if value <= lowest + 1e-9}
    aside = {name: limit for name, limit in modules.items() if limit.apart}
    reasons = (*_reasons(binding, modules), *_reasons(aside, modules))
    total = Limit(amperes, (*reasons, f"{silent} silent") if silent else reasons)
    return total if cap is None else total.under(cap, "configured maximum")


def _reasons(some: Mapping[str, Limit], modules: Mapping[str, Limit]) -> tuple[str, ...]:
    """Name each reason once, with its modules unless it is everyone's."""
    whose: dict[str, list[str]] = {}
    for name, limit in some.items():
        for reason in limit.reasons:
            whose.setdefault(reason, []).append(name)
    return tuple(
        reason if len(names) == len(modules) else f"{reason} ({', '.join(names)})" for reason, names in whose.items()
    )
