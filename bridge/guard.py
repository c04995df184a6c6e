"""The charge guard: what each module may be given, why not more, and how slowly a limit rises again (pure).

A limit starts from what the battery itself allows and only ever gets lower on its way: configured
caps, then curves by state of charge, cell voltage and temperature. It falls with one reading and rises
to no more than the last two readings, and those of the last `raise_after` seconds, all allowed.
Curves look at their value through a backlash: towards the strict side it counts at once, back
only after it has moved by the hysteresis.

Nothing rises because a number is not known: what was known before counts on. Flags and states that are not known
any more forbid nothing, once two readings agree: the battery's own limits decide then.
Nor because a module stands apart: the others may be given more without it, so as long as its readings
disagree about that the bank is given no more than with it, and no more than without it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import reduce
from itertools import pairwise
from typing import Any, Literal, TypeAlias

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
    """A limit and what keeps it from being higher. `apart`: the module takes no part, and the others go on.

    `giving`, of one that stands apart: what it would be given if it took part after all, which is not settled yet.
    """

    value: float
    reasons: tuple[str, ...]
    apart: bool = False
    giving: Limit | None = None

    def under(self, value: float, *reasons: str) -> Limit:
        """Return the lower one of this limit and another."""
        return self.lower(Limit(value, reasons))

    def lower(self, other: Limit) -> Limit:
        """Return the lower one of two limits of one reading; equal ones join their reasons."""
        if self.value != other.value:
            return self if self.value < other.value else other
        return Limit(self.value, _joined(self, other), self.apart or other.apart)

    def taking_part(self) -> Limit | None:
        """Return what the module is given if it takes part; None when it surely does not."""
        return self.giving if self.apart else self

    def until_agreed(self, other: Limit) -> Limit:
        """Return what holds while two readings count: the lower one, and apart when one of them says so."""
        giving = _lower(self.taking_part(), other.taking_part())
        aside = [limit for limit in (self, other) if limit.apart]
        return Limit(0.0, _joined(*aside), apart=True, giving=giving) if aside or giving is None else giving


def _joined(*limits: Limit) -> tuple[str, ...]:
    return tuple(dict.fromkeys(reason for limit in limits for reason in limit.reasons))


def _lower(first: Limit | None, second: Limit | None) -> Limit | None:
    return first.lower(second) if first is not None and second is not None else first or second


Sizes: TypeAlias = Mapping[str, tuple[float, float]]
"""The smallest and largest Ah that each module may have, 0 for not known."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a module may be given: V, A, A. No discharge limit: it was not told twice yet, `told_once` at most.

    `size` are the smallest and the largest capacity in Ah that its readings tell, 0 for one that tells none.
    """

    voltage: Limit
    charge: Limit
    discharge: Limit | None
    told_once: Limit | None
    size: tuple[float, float]


def _agreed(readings: Sequence[Allowed]) -> Allowed:
    """Return what all of some readings allow. A discharge limit needs two that know one."""
    discharge = [one.discharge for one in readings if one.discharge is not None]
    once = [limit for one in readings for limit in (one.discharge, one.told_once) if limit is not None]
    return Allowed(
        reduce(Limit.lower, (one.voltage for one in readings)),
        reduce(Limit.until_agreed, (one.charge for one in readings)),
        reduce(Limit.until_agreed, discharge) if len(discharge) >= 2 else None,
        reduce(Limit.until_agreed, once) if once else None,
        (min(one.size[0] for one in readings), max(one.size[1] for one in readings)),
    )


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


JUDGED_NUMBERS = (k.CHARGE_VOLTAGE_LIMIT, k.CHARGE_CURRENT_LIMIT, k.DISCHARGE_CURRENT_LIMIT, k.CHARGE_RATING,
                  k.DISCHARGE_RATING, k.TOTAL, k.COLDEST, k.HOTTEST)  # fmt: skip
Known: TypeAlias = dict[str, Value]
"""The numbers that are known of a module, by the names of their keys and of Felt; what is not known is not in it."""

SETTLED = 2
"""Readings without a discharge limit after which a 0 before the last one is over."""


class Recall:
    """The last two known values of every number: they fill in where a reading knows nothing.

    Two, since one alone raises nothing: with both of them the module is judged, and the lower limits count. But a
    battery that said 0 A, then 25, then nothing for SETTLED readings is not held at 0 for ever: that turns an off-grid
    house dark.
    """

    def __init__(self) -> None:
        self._last: Known = {}
        self._before: Known = {}
        self._discharge_missing = 0

    def knew(self, name: str) -> bool:
        """Whether it was ever known."""
        return name in self._last

    def take(self, known: Known) -> tuple[Known, Known]:
        """Take what a reading knows; return it filled up, once with each of the two."""
        self._before.update((name, self._last[name]) for name in known if name in self._last)
        self._last.update(known)
        name = k.DISCHARGE_CURRENT_LIMIT.key
        self._discharge_missing = 0 if name in known else self._discharge_missing + 1
        if self._discharge_missing >= SETTLED and self._before.get(name) == 0:
            self._before[name] = self._last[name]
        return dict(self._last), self._before | known


class ModuleGuard:
    """What one module may be given, from its readings as they come."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._soc_high, self._soc_low = _both(limits.hysteresis_soc)
        self._cell_high, self._cell_low = _both(limits.hysteresis_cell)
        self._hottest, self._coldest = _both(limits.hysteresis_temperature)
        self._window: deque[tuple[float, Allowed]] = deque()
        self._in_a_row = 0
        self._recall = Recall()
        self.felt = Felt(None, None, None, None, None, None)

    @property
    def confirmed(self) -> bool:
        """Whether two complete readings have been taken: one alone raises nothing."""
        return self._in_a_row >= 2

    def take(self, values: Mapping[str, Value], at: float, memory: float, *, complete: bool = True) -> None:
        """Take a reading of time `at`; one from more than `memory` seconds before it confirms nothing any more.

        One that is not `complete` does not confirm that the module is back. What was allowed before such a gap still
        holds until two new readings are there.
        """
        if self._window and at - self._window[-1][0] > memory:
            self._window = deque([(self._window[-1][0], self.allowed())])
            self._in_a_row = 0
        self._in_a_row += complete
        self.felt = self._feel(values)
        last, before = self._recall.take(self._known(values))
        judged = self._judge(values, last)
        other = judged if before == last else self._judge(values, before)
        self._window.append((at, _agreed([judged, other])))
        while len(self._window) > 2 and self._window[0][0] < at - self._limits.raise_after:
            self._window.popleft()

    def allowed(self) -> Allowed:
        """Return what every reading that counts would allow."""
        return _agreed([one for _, one in self._window])

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

    def _known(self, values: Mapping[str, Value]) -> Known:
        found: Known = {
            **{one.name: getattr(self.felt, one.name) for one in fields(Felt)},
            **{key.key: key.number(values) for key in JUDGED_NUMBERS},
            k.CELL_COUNT.key: k.cell_count(values),
        }
        for name, key in (("coldest", k.COLDEST), ("hottest", k.HOTTEST)):
            if found[key.key] is None and self._recall.knew(key.key):
                found[name] = None  # the temperature inside is not the one that was known
        return {name: value for name, value in found.items() if value is not None}

    def _judge(self, values: Mapping[str, Value], known: Known) -> Allowed:
        size = k.TOTAL.number(known) or 0.0
        discharge = self._discharge(values, known)
        return Allowed(self._voltage(values, known), self._charge(values, known), discharge, None, (size, size))

    def _voltage(self, values: Mapping[str, Value], known: Known) -> Limit:
        count = known.get(k.CELL_COUNT.key)
        limit = voltage_cap(self._limits, count if isinstance(count, int) else None)
        told, soc = k.CHARGE_VOLTAGE_LIMIT.number(known), known.get("soc_high")
        if told is not None:
            limit = limit.under(told, _battery(k.CHARGE_VOLTAGE_LIMIT, values))
        if self._limits.voltage_by_soc is not None and isinstance(soc, float):
            limit = limit.under(self._limits.voltage_by_soc.at(soc), "state of charge")
        return limit

    def _charge(self, values: Mapping[str, Value], known: Known) -> Limit:
        limits = self._limits
        if k.CHARGE_ENABLE.flag(values) is False:
            return Limit(0.0, ("charging not enabled",), apart=True)
        if k.CHARGE_FET.flag(values) is False:
            return Limit(0.0, ("charge MOSFET off",), apart=True)
        raised = [key.key.replace("_", " ") for key in STOPPING if key.flag(values)]
        raised += [told.key.text(values) for told in STOPPING_STATES if told.level(values)]
        if raised:
            return Limit(0.0, tuple(raised), apart=True)
        limit = self._start(values, known, k.CHARGE_CURRENT_LIMIT, k.CHARGE_RATING, limits.module_charge_current)
        # also where the limit is not known: the cells take their share of what the others are given
        giving = self._cut(limit or Limit(k.CHARGE_CURRENT_LIMIT.high, ()), known, (
            ("state of charge", limits.charge_by_soc, "soc_high"),
            ("cell voltage", limits.charge_by_cell, "cell_high"),
            ("temperature", limits.charge_by_temperature, "coldest"),
            ("temperature", limits.charge_by_temperature, "hottest"),
        ))  # fmt: skip
        if missing := self._not_known(values):
            return Limit(0.0, (missing,), apart=True, giving=giving.taking_part())
        return giving

    def _not_known(self, values: Mapping[str, Value]) -> str:
        """Return what should be known for charging and is not, "" for nothing."""
        limits = self._limits
        never_told = k.CHARGE_CURRENT_LIMIT.key not in values
        if limits.module_charge_current is None if never_told else k.CHARGE_CURRENT_LIMIT.number(values) is None:
            return "charge limit not known"
        if k.CELL_MAX.key in values and self.felt.cell_high is None and limits.charge_by_cell:
            return "cell voltage not known"
        if k.TEMPERATURE.key in values and self.felt.coldest is None and limits.charge_by_temperature:
            return "temperature not known"
        return ""

    def _discharge(self, values: Mapping[str, Value], known: Known) -> Limit | None:
        limits = self._limits
        if k.DISCHARGE_ENABLE.flag(values) is False:
            return Limit(0.0, ("discharging not enabled",), apart=True)
        if k.DISCHARGE_FET.flag(values) is False:
            return Limit(0.0, ("discharge MOSFET off",), apart=True)
        limit = self._start(
            values, known, k.DISCHARGE_CURRENT_LIMIT, k.DISCHARGE_RATING, limits.module_discharge_current
        )
        if limit is None:
            return None
        return self._cut(limit, known, (
            ("state of charge", limits.discharge_by_soc, "soc_low"),
            ("cell voltage", limits.discharge_by_cell, "cell_low"),
            ("temperature", limits.discharge_by_temperature, "coldest"),
            ("temperature", limits.discharge_by_temperature, "hottest"),
        ))  # fmt: skip

    def _start(
        self, values: Mapping[str, Value], known: Known, key: k.Key, rating: k.Key, configured: float | None
    ) -> Limit | None:
        """Return what battery and configuration allow together; None when the battery should tell and never did.

        What is configured stands for what a link never tells, also where another link told it before.
        """
        rated = rating.number(known)
        told = key.number(known if key.key in values or configured is None else values)
        limit = None if configured is None else Limit(configured, ("module limit configured",))
        if told is not None:
            limit = _lower(Limit(told, (_battery(key, values),), apart=told == 0), limit)
        elif key.key in values:
            return None
        share = None if rated is None else rated * self._limits.share_of_rating
        return limit if limit is None or share is None or share >= limit.value else limit.under(share, "rating")

    def _cut(self, limit: Limit, known: Known, curves: Iterable[tuple[str, Curve | None, str]]) -> Limit:
        """Return the lowest of a limit and what each curve makes of it, by what is felt now and by what is known."""
        result = limit
        for name, curve, what in curves:
            felt, last = getattr(self.felt, what), known.get(what)
            for value, reason in ((felt, name), (None if last == felt else last, f"last known {name}")):
                if curve is None or not isinstance(value, float):
                    continue
                amount = curve.at(value) if curve.unit == AMPERES else curve.at(value) * limit.value
                if amount < result.value or (amount == result.value and amount < limit.value):
                    result = result.under(amount, reason)
        return result


def _battery(key: k.Key, values: Mapping[str, Value]) -> str:
    return "battery" if key.number(values) is not None else "as last told"


def _both(play: float) -> tuple[Backlash, Backlash]:
    return Backlash(play, strict=1), Backlash(play, strict=-1)


def voltage_cap(limits: Limits, cells: int | None) -> Limit:
    """Return the highest charge voltage for a module of so many cells; one that does not tell counts as 15."""
    if limits.max_charge_voltage is not None:
        return Limit(limits.max_charge_voltage, ("configured maximum",))
    count = cells or 15
    return Limit(DEFAULT_CAP.get(count, round(CELL_CAP * count, 2)), ("cap for the number of cells",))


def lowest(modules: Mapping[str, Limit]) -> Limit:
    """Return the lowest limit, with the names of those that want it."""
    value = min(limit.value for limit in modules.values())
    return Limit(value, _reasons({name: one for name, one in modules.items() if one.value == value}, modules))


def discharge_of(one: Allowed) -> Limit:
    """Return a module's discharge limit; one that is not known gives nothing, and binds once it is told."""
    giving = one.told_once and one.told_once.taking_part()
    return one.discharge or Limit(0.0, ("discharge limit not known",), apart=True, giving=giving)


def before_silence(limit: Limit) -> Limit:
    """Return a limit of a module that fell silent, as one that says so."""
    return Limit(limit.value, tuple(f"{reason} before it fell silent" for reason in limit.reasons))


def still_binding(gone: Mapping[str, Limit]) -> dict[str, Limit]:
    """Return silent modules as ones that stand apart, but may not: what they took before still binds."""
    parts = {name: limit.taking_part() for name, limit in gone.items()}
    return {name: Limit(0.0, (), apart=True, giving=before_silence(part)) for name, part in parts.items() if part}


def total_current(modules: Mapping[str, Limit], sizes: Sizes, sharing: str, cap: float | None, silent: int) -> Limit:
    """Return the current of a bank: how much it can take until the first of its modules is at its own limit.

    `modules` are the limits by name. Those that stand apart give 0 A and do not count; one that a curve has cut to
    0 A stops all, since it still takes its share.
    Of one about which that is not settled the worse counts. With each further module the others could be given
    more, so the worst is without all of those, or with a single one of them.
    Never more than the sum. With even sharing it is lowest x number: the sum for modules that are alike.
    """
    sure = {name: limit for name, limit in modules.items() if not limit.apart}
    maybe = {name: limit.giving for name, limit in modules.items() if limit.apart and limit.giving}
    cases = [sure, *({**sure, name: giving} for name, giving in maybe.items())]
    known = {name: sizes[name] if sharing == "capacity" else (1.0, 1.0) for name in (*sure, *maybe)}
    total = min((_shared(giving, modules, known, sharing) for giving in cases), key=lambda one: one.value)
    if silent:
        total = Limit(total.value, (*total.reasons, f"{silent} silent"))
    return total if cap is None else total.under(cap, "configured maximum")


def _shared(giving: Mapping[str, Limit], modules: Mapping[str, Limit], sizes: Sizes, sharing: str) -> Limit:
    """Return the current of the modules that take part."""
    aside = _reasons({name: limit for name, limit in modules.items() if name not in giving}, modules)
    if not giving:
        return Limit(0.0, aside)
    amperes, binding = sum(limit.value for limit in giving.values()), giving
    if sharing != "sum":
        whole = {name: limit.value * _parts(name, giving, sizes) for name, limit in giving.items()}
        least = min(whole.values())
        amperes = min(amperes, least)
        binding = {name: giving[name] for name, value in whole.items() if value <= least + 1e-9}
    return Limit(amperes, (*_reasons(binding, modules), *aside))


def _parts(name: str, giving: Mapping[str, Limit], sizes: Sizes) -> float:
    """Return how many times a module's current the bank's current is, at the least that the sizes leave open.

    As long as one of them is not known: as by even sharing, or by the known ones alone, whichever is less.
    """
    number, largest = float(len(giving)), sizes[name][1]
    parts = 1.0 + sum(sizes[one][0] for one in giving if one != name) / largest if largest else number
    return min(parts, number) if any(not smallest for smallest, _ in sizes.values()) else parts


def _reasons(some: Mapping[str, Limit], modules: Mapping[str, Limit]) -> tuple[str, ...]:
    """Name each reason once, with its modules unless it is everyone's."""
    whose: dict[str, list[str]] = {}
    for name, limit in some.items():
        for reason in limit.reasons:
            whose.setdefault(reason, []).append(name)
    return tuple(
        reason if len(names) == len(modules) else f"{reason} ({', '.join(names)})" for reason, names in whose.items()
    )
