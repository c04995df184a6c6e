"""Several batteries -> one: which modules count, when there is something to say, and what (pure).

A bank is complete or it says nothing. At the start it waits until every module it knows of, and as many
as the configuration expects, has been read twice; after `startup` seconds it goes on with those it has.
From then on a module whose last good reading is too old lends nothing, but is counted offline. It still
binds: what it was last allowed keeps the bank as low as with it, since it may hang on the same rails yet and take
its share, until it is read again or `bound_for` is over. Then the bank goes on with those that answer, as it does at
a start: a module that was taken out must not bind for ever, and that one is missing is an alarm all the time. When
the last one has gone the bank says once that it must not be charged, and then nothing: that silence is
what a GX understands. Back again, or after the whole process stood still, it waits as at the start.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from bridge import battery as k
from bridge import summary as s
from bridge.fields import Field, Reading, Value
from bridge.guard import (
    Allowed,
    Limit,
    Limits,
    ModuleGuard,
    before_silence,
    discharge_of,
    lowest,
    still_binding,
    total_current,
)
from bridge.summary import Values

Readings: TypeAlias = Mapping[tuple[str, str], Reading]
"""Newest reading by device and unit path; path "" is the device itself."""

SETTLED = 10.0
"""s without a new module after which none is expected any more, where no number is configured."""
LATE = 2.0
"""s by which a round may be late; later means the process stood still, and no reading was its fault."""
GRACE = 5.0
"""s after that in which the modules are to be read again before one of them counts as silent."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a bank is made of.

    `devices` in the order in which they are believed, should two of them read the same module.
    `expected` modules, None when any number will do. Times in seconds: a reading older than `max_age`
    (or than its unit's own limit) is not true any more, `startup` is how long missing modules are waited for.
    """

    devices: tuple[str, ...]
    limits: Limits
    expected: int | None = None
    interval: float = 1.0
    max_age: float = 30.0
    startup: float = 60.0
    stop_discharge_when_silent: bool = False
    full_charge_is_wanted: bool = False

    def age_limit(self, reading: Reading) -> float:
        """Return for how long a reading is true."""
        return min(self.max_age, reading.unit.max_age)

    @property
    def bound_for(self) -> float:
        """s for which a module that fell silent binds the bank: as long as a missing one is waited for.

        In twice max_age each of the others has been read twice, so the higher limit is confirmed like any other.
        """
        return max(self.startup, 2 * self.max_age, self.limits.raise_after)


@dataclass(frozen=True, slots=True)
class Layout:
    """Which keys the messages of one run have; settled with the first one, since a consumer keeps what is left out.

    `optional` are keys of summary.FIELDS that not every link can tell, `cells` how many cells are shown.
    """

    optional: frozenset[str]
    cells: int


@dataclass(frozen=True, slots=True)
class Data:
    """One message for chargers: the bank's values, complete, and its cells in V where they are shown.

    It must not be sent after `until` (time.monotonic()): then it would be older than its age limit.
    """

    values: Values
    cells: tuple[float | None, ...]
    until: float


@dataclass(frozen=True, slots=True)
class Round:
    """What a bank has to say: its own state, with every key of summary.FIELDS, and data or nothing for chargers."""

    state: Values
    data: Data | None


class _Member:
    """One physical module, wherever it is read."""

    def __init__(self, limits: Limits) -> None:
        self.guard = ModuleGuard(limits)
        self.values: Values = {}
        self.at = self._seen_at = _LONG_AGO
        self._age_limit = 0.0
        self.silent_since = _LONG_AGO
        """When it was first found silent: never while it counts, long ago for one that never did."""

    @property
    def silent_at(self) -> float:
        return self.at + self._age_limit

    def live(self, now: float) -> bool:
        return now <= self.silent_at and self.guard.confirmed

    def look(self, now: float, replaced: bool) -> bool:
        """Return whether it counts, and note when it falls silent."""
        live = self.live(now) and not replaced
        self.silent_since = _NEVER if live else min(self.silent_since, now)
        return live

    def take(self, reading: Reading, inherited: Values, age_limit: float) -> None:
        """Take a reading unless it is the last one again.

        Where it lacks what a bank needs the measured values before it stay, with their own age: a
        limit that falls with it falls all the same.
        """
        if reading.at <= self._seen_at:
            return
        self._seen_at = reading.at
        values: Values = {**inherited, **reading.values}
        if usable := k.usable(values):
            self.at, self._age_limit = reading.at, age_limit
        elif reading.at <= self.silent_at:
            values.update((key.key, self.values.get(key.key)) for key in k.MEASURED)
        else:
            return
        self.values = values
        self.guard.take(values, reading.at, age_limit, complete=usable)


class Bank:
    """Makes one battery of many; keeps what has to outlive a round."""

    def __init__(self, rules: Rules) -> None:
        self.layout: Layout | None = None
        self.duplicates: list[str] = []
        """Modules that are read on two ways at once, in words."""
        self._rules = rules
        self._members: dict[str, _Member] = {}
        self._left: dict[str, _Member] = {}
        """Members that their device does not count any more."""
        self._stack_sizes: dict[str, int] = {}
        """How many modules each device says it has, there or not."""
        self._silent: dict[str, int] = dict.fromkeys(rules.devices, 1)
        """How many modules of each device are not there; a device without any misses one."""
        self._successors: dict[str, str] = {}
        """Who has the place of a module that its device does not count any more, though its values are young yet."""
        self._stacks: dict[str, list[Reading]] = {device: [] for device in rules.devices}
        self._stating: set[str] = set()
        """Devices that stated limits for each of their modules twice."""
        self._speaking = False
        self._last: Data | None = None
        self._patience_ends: float | None = None
        self._newest_module_at = _LONG_AGO
        self._round_due: float | None = None
        self._hold_until = _LONG_AGO

    def round(self, readings: Readings, now: float) -> Round:
        """Return what is to be said at `now` (time.monotonic()), from the newest reading of every unit."""
        if self._round_due is not None and now > self._round_due + LATE:
            self._hold_until = now + GRACE
        self._round_due = now + self._rules.interval
        self._take(readings, now)
        names = {f"M{n}": member for n, member in enumerate(self._members.values(), 1)}
        live = {name: member for name, member in names.items() if member.look(now, self._replaced(member, now))}
        if waiting_for := self._waiting_for(live, now):
            return self._quiet(live, s.WAITING, waiting_for)
        if live:
            others = ((name, one) for name, one in (names | self._left).items() if name not in live)
            binding = {name: one for name, one in others if now - one.silent_since <= self._rules.bound_for}
            return self._speak(live, binding)
        if self._speaking and now < self.silent_at():
            return self._quiet(live, s.WAITING, "a second reading")
        return self._last_word(now) if self._speaking else self._quiet(live, s.SILENT, "a module that answers")

    def silent_at(self) -> float:
        """Return when there will be silence to tell of, at the latest; infinity when nothing is being published.

        Not before the modules had the time to be read that they get after a standstill, nor while the one reading is
        young that one of them has given since.
        """
        if not self._speaking:
            return _NEVER
        return max([self._hold_until, *(member.silent_at for member in self._members.values())])

    # -- who is there

    def _take(self, readings: Readings, now: float) -> None:
        """Bring every module up to date, in the order of devices and paths: so names are the same at each start."""
        self._take_stacks(readings, now)
        chosen = self._chosen(readings, now)
        known, members = self._left | self._members, {}
        for identity, (device, reading) in chosen.items():
            # a module first read without its serial number goes on as itself when that is known
            names = (identity, f"{device}/{reading.unit.path}", f"{device}/{reading.unit.place}")
            member = next((known[name] for name in names if name in known), None)
            if member is None:
                member = _Member(self._rules.limits)
                self._newest_module_at = now
            members[identity] = member
            member.take(reading, self._inherited(device, reading.values), self._rules.age_limit(reading))
        self._members = members
        self._left = {identity: member for identity, member in known.items() if member not in members.values()}
        for identity, member in list(self._left.items()):
            member.silent_since = min(member.silent_since, now)
            if now - member.silent_since > self._rules.bound_for:
                del self._left[identity]

    def _young(self, reading: Reading, now: float) -> bool:
        return now - reading.at <= self._rules.age_limit(reading)

    def _modules_of(self, device: str, readings: Readings, now: float) -> list[Reading]:
        """Return the readings of a device's modules by path; counts those that are silent.

        A name that it no longer counts is gone: a module first read by its address has its serial number now, or
        another one has its place.
        """
        found = [reading for (owner, path), reading in readings.items() if owner == device and path]
        there = {_place(one): one for one in sorted(found, key=lambda one: one.at)}
        # whom the place alone names goes on as the one that has it now: however young, they are not both there
        found = [one for one in found if there[_place(one)] is one or not _is_of_place(device, one)]
        size = self._stack_sizes.get(device, max(1, len(found)))
        found.sort(key=lambda one: (there[_place(one)] is one, self._young(one, now), bool(_serial(one)), one.at))
        surplus = found[: max(0, len(found) - size)]
        gone = [one for one in surplus if not self._young(one, now)]
        displaced = [one for one in surplus if one not in gone and there[_place(one)] is not one]
        self._successors |= {_identity(device, one): _identity(device, there[_place(one)]) for one in displaced}
        kept = [one for one in found if one not in gone]
        self._silent[device] = max(0, size - sum(self._young(one, now) for one in kept))
        return sorted(kept, key=lambda one: _natural(one.unit.path))

    def _chosen(self, readings: Readings, now: float) -> dict[str, tuple[str, Reading]]:
        """Return for each physical module, told apart by serial number, one device and its reading.

        Of a module that is read twice the first device's counts, as long as it is young enough.
        """
        self._successors = {}
        sources: dict[str, list[tuple[str, Reading]]] = {}
        for device in self._rules.devices:
            for reading in self._modules_of(device, readings, now):
                sources.setdefault(_identity(device, reading), []).append((device, reading))
        chosen = {}
        self.duplicates = []
        for identity, found in sources.items():
            young = [one for one in found if self._young(one[1], now)]
            if len(young) > 1:
                places = " and ".join(f"{device}/{reading.unit.path}" for device, reading in young)
                self.duplicates.append(f"{identity} on {places}")
            chosen[identity] = young[0] if young else max(found, key=lambda one: one[1].at)
        return chosen

    def _replaced(self, member: _Member, now: float) -> bool:
        """Return whether another one counts in a member's place: they are not both there."""
        pairs = ((self._members.get(old), self._members.get(new)) for old, new in self._successors.items())
        return any(old is member is not new and new is not None and new.live(now) for old, new in pairs)

    def _take_stacks(self, readings: Readings, now: float) -> None:
        """Keep the last two readings of each device itself: a limit that it states for all its modules needs both.

        As long as the last one is young, if the one before was when it came: rounds may take half of the age limit.
        """
        for device, kept in self._stacks.items():
            newest = readings.get((device, ""))
            if newest is not None and (not kept or newest.at > kept[-1].at):
                kept[:] = [*(one for one in kept[-1:] if self._young(one, newest.at)), newest]
            if kept and not self._young(kept[-1], now):
                kept.clear()
            if kept:
                counts = [key.number(kept[-1].values) for key in (k.MODULES_ONLINE, k.MODULES_OFFLINE)]
                if None not in counts:
                    self._stack_sizes[device] = int(sum(count for count in counts if count is not None))

    def _inherited(self, device: str, values: Mapping[str, Value]) -> Values:
        """Return the limits that a stack states for each of its modules, where those do not tell their own.

        One that stated them once has not begun to: until it is confirmed, what is configured stands as before.
        """
        known = self._stacks[device]
        stating = [one for one in known if any(stack_key.key in one.values for stack_key, _ in k.INHERITED[:2])]
        if len(stating) == 2:
            self._stating.add(device)
        if not stating or device not in self._stating:
            return {}
        result: Values = {}
        for stack_key, key in k.INHERITED:
            if key.key not in values:
                found = [k.inherited(one.values, stack_key, key) for one in known]
                told = [number for number in found if number is not None]
                result[key.key] = min(told) if len(told) == 2 else None
        return result

    # -- whether there is something to say

    def _waiting_for(self, live: Mapping[str, _Member], now: float) -> str:
        """Return what has to come before anything is published, in words; "" for nothing."""
        missing = self._missing(live)
        if self._speaking:
            return missing if now < self._hold_until else ""
        if not live:
            self._patience_ends = None
            return "" if self._last else missing or "the first module"
        if self._patience_ends is None:
            self._patience_ends = now + self._rules.startup
        if all(member.guard.allowed().discharge is None for member in live.values()):
            return "a discharge limit; where the battery tells none, set module_discharge_current"
        if not missing and self._rules.expected is None and now - self._newest_module_at < SETTLED:
            missing = "further modules"
        return missing if now < self._patience_ends else ""

    def _missing(self, live: Mapping[str, _Member]) -> str:
        offline = self._offline(len(live))
        absent = ", ".join(device for device, silent in self._silent.items() if silent)
        where = f" ({absent})" if absent else ""
        return f"{offline} of {offline + len(live)} modules{where}" if offline else ""

    def _offline(self, online: int) -> int:
        """Return how many modules are not there of those expected, or known: more may be known than are expected."""
        expected = self._rules.expected
        missing = sum(self._silent.values()) if expected is None else expected - online
        return max(missing, len(self._members) - online)

    # -- what is said

    def _quiet(self, live: Mapping[str, _Member], phase: str, waiting_for: str) -> Round:
        state = self._blank(phase, len(live))
        state[s.WAITING_FOR.key] = waiting_for
        return Round(state, None)

    def _last_word(self, now: float) -> Round:
        """The battery must not be charged; nothing follows until modules answer again."""
        self._speaking = False
        state, offline = self._blank(s.SILENT, 0), self._offline(0)
        last: Values = {
            k.MODULES_ONLINE.key: 0, k.MODULES_OFFLINE.key: offline, k.BLOCKING_CHARGE.key: offline,
            s.CHARGE_CURRENT.key: 0.0, s.CHARGE_CURRENT_WHY.key: "no module answers",
            k.ALARM.key: True, s.CABLE.key: 2, s.FAILURE.field.key: 2,
        }  # fmt: skip
        if self._rules.stop_discharge_when_silent:
            last |= {s.DISCHARGE_CURRENT.key: 0.0, s.DISCHARGE_CURRENT_WHY.key: "no module answers"}
            last[k.BLOCKING_DISCHARGE.key] = offline
        said = self._last or Data({}, (), now)
        self._last = Data(said.values | last, said.cells, now + self._rules.max_age)
        return Round(state | last, self._last)

    def _speak(self, live: Mapping[str, _Member], binding: Mapping[str, _Member]) -> Round:
        self._speaking, self._patience_ends = True, None
        states = {name: member.values for name, member in live.items()}
        state = self._blank(s.PUBLISHING, len(live))
        s.put_totals(state, states)
        s.put_extremes(state, states)
        self._put_limits(state, live, binding)
        felt = {name: member.guard.felt for name, member in live.items()}
        s.put_alarms(state, states, felt, self._rules.limits.alarms, self._offline(len(live)))
        if self.layout is None:
            self.layout = self._settle_layout(states)
        cells = k.cell_voltages(next(iter(states.values()))) if len(live) == 1 else []
        shown = (*cells, *[None] * self.layout.cells)[: self.layout.cells]
        self._last = Data(state, shown, min(member.silent_at for member in live.values()))
        return Round(state, self._last)

    def _blank(self, phase: str, online: int) -> Values:
        state: Values = {field.key: None for field in s.FIELDS}
        state[s.PHASE.key] = phase
        state[k.MODULES_ONLINE.key], state[k.MODULES_OFFLINE.key] = online, self._offline(online)
        state[s.MODULES.key] = ", ".join(f"M{n} {identity}" for n, identity in enumerate(self._members, 1))
        state[s.DUPLICATES.key] = "; ".join(self.duplicates)
        return state

    def _put_limits(self, state: Values, live: Mapping[str, _Member], binding: Mapping[str, _Member]) -> None:
        rules, states = self._rules.limits, {name: member.values for name, member in live.items()}
        allowed = {name: member.guard.allowed() for name, member in live.items()}
        gone = {name: member.guard.allowed() for name, member in binding.items()}
        _put(state, s.CHARGE_VOLTAGE, s.CHARGE_VOLTAGE_WHY, _voltage(allowed, gone), 2)
        sizes = {name: one.size for name, one in (allowed | gone).items()}
        offline = self._offline(len(live))
        charge = {name: one.charge for name, one in allowed.items()}
        discharge = {name: discharge_of(one) for name, one in allowed.items()}
        bound = still_binding({name: one.charge for name, one in gone.items()}) | charge
        total = total_current(bound, sizes, rules.current_sharing, rules.max_charge_current, offline)
        _put(state, s.CHARGE_CURRENT, s.CHARGE_CURRENT_WHY, total, 1)
        bound = still_binding({name: discharge_of(one) for name, one in gone.items()}) | discharge
        total = total_current(bound, sizes, rules.current_sharing, rules.max_discharge_current, offline)
        if all(one.discharge is None for one in allowed.values()):
            once = {name: one.told_once for name, one in allowed.items() if one.told_once}
            total = self._as_published(total)
            total = total.lower(total_current(once, sizes, rules.current_sharing, None, offline)) if once else total
        _put(state, s.DISCHARGE_CURRENT, s.DISCHARGE_CURRENT_WHY, total, 1)
        for limits, blocking in ((charge, k.BLOCKING_CHARGE), (discharge, k.BLOCKING_DISCHARGE)):
            state[blocking.key] = sum(limit.value == 0 for limit in limits.values())
        ends = s.known(states, k.DISCHARGE_VOLTAGE_LIMIT.number)
        state[k.DISCHARGE_VOLTAGE_LIMIT.key] = max(ends) if ends else None
        wishes = (k.CHARGE_IMMEDIATELY_1, k.CHARGE_IMMEDIATELY_2)
        full = s.any_flag(k.FULL_CHARGE_REQUEST.flag(values) for values in states.values())
        urgent = [key.flag(values) for values in states.values() for key in wishes]
        state[k.FULL_CHARGE_REQUEST.key] = full
        state[s.CHARGE_WANTED.key] = s.any_flag([*urgent, full] if self._rules.full_charge_is_wanted else urgent)

    def _as_published(self, unknown: Limit) -> Limit:
        """Return the discharge limit as it was, where no module tells one: 0 would turn an off-grid house dark."""
        amperes = self._last.values[s.DISCHARGE_CURRENT.key] if self._last else None
        return Limit(amperes, ("as last published", *unknown.reasons)) if isinstance(amperes, float) else unknown

    def _settle_layout(self, states: s.States) -> Layout:
        told = {key for values in states.values() for key in values}
        pairs = ((k.SOH, k.SOH), (k.BALANCING, k.BALANCING), (k.MOS_TEMPERATURE, s.MOS_WARMTH))
        optional = frozenset(field.key for key, field in pairs if key.key in told)
        cells = k.cell_count(next(iter(states.values()))) if self._rules.expected == 1 else None
        return Layout(optional, min(cells or 0, MOST_CELLS))


MOST_CELLS = 24
"""A GX shows no more."""

_NEVER, _LONG_AGO = float("inf"), float("-inf")


def _voltage(live: Mapping[str, Allowed], gone: Mapping[str, Allowed]) -> Limit:
    """Return the lowest charge voltage, also of the modules that fell silent and still bind."""
    among = lowest({name: one.voltage for name, one in live.items()})
    lower = {name: before_silence(one.voltage) for name, one in gone.items() if one.voltage.value < among.value}
    return lowest({**dict.fromkeys(live, among), **lower}) if lower else among


def _put(state: Values, field: Field, why: Field, limit: Limit, decimals: int) -> None:
    """Fill in a limit, rounded down: a limit of 24.98 A is not one of 25.0 A."""
    scale = 10**decimals
    state[field.key] = int(limit.value * scale + 1e-6) / scale
    state[why.key] = "; ".join(limit.reasons)


def _serial(reading: Reading) -> str:
    return reading.unit.serial or k.SERIAL.text(reading.values)


def _identity(device: str, reading: Reading) -> str:
    return _serial(reading) or f"{device}/{reading.unit.path}"


def _is_of_place(device: str, reading: Reading) -> bool:
    """Whether nothing but its place tells a module from others."""
    return _identity(device, reading) == f"{device}/{_place(reading)}"


def _place(reading: Reading) -> str:
    return reading.unit.place or reading.unit.path


def _natural(path: str) -> tuple[tuple[int, str], ...]:
    """Return a sort key by which "10" comes after "9"."""
    return tuple((int(part) if part.isdigit() else 0, part) for part in re.findall(r"[0-9]+|[^0-9]+", path))
