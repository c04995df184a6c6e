"""The bank against a model of the driver behind it, with anything happening to its modules.

Rows G1 to G5, G8, G9, A3, B11, B20 and D2: whatever is read, lost, frozen or absurd, the GX is never frozen, never
killed, never charging on what is no longer true. No limit is ever higher than a bank would give by each of the last
two readings of every module, what is not known taken as it was known before, and with a module as well as without it
while that has not been silent for long; and nothing is held back when all have been well for a while.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bridge import summary as s
from bridge.bank import GRACE, Bank, Rules
from bridge.fields import Reading, Value
from bridge.guard import Limits
from bridge.sinks.text import encode
from bridge.sinks.victron import document
from tests.battery_modules import reading, state, without
from tests.victron_driver import Driver, leaves

MAX_AGE = 5.0
STEP = 0.5
MODULES = st.integers(0, 3)
AMPERES = st.sampled_from([0.0, 5.0, 10.0, 25.0, 37.0])
ABSURD = st.sampled_from([math.nan, math.inf, -math.inf, -1.0, 6553.5, 1e30, "25", True, None])
MEASURED = ["voltage", "current", "soc", "remaining_capacity", "total_capacity", "cell_max_voltage", "temperature",
            "cell_min_temperature", "cell_min_voltage", "cell_count", "cycles", "soh"]  # fmt: skip
LIMITS = ["charge_current_limit", "discharge_current_limit", "charge_voltage_limit", "discharge_voltage_limit"]
DISCHARGE = "discharge_current_limit"
FLAGS = ["charge_enable", "discharge_enable", "charge_fet_on", "discharge_fet_on", "cell_fault", "module_over_voltage"]
NEEDED, STAYING = MEASURED[:3], MEASURED[:5]
JUDGED = [*MEASURED[:10], "cell_max_temperature", *LIMITS, *FLAGS]
RANGES = {"voltage": (5, 80), "current": (-500, 500), "soc": (0, 105), "cell_max_voltage": (0.5, 5),
          "cell_min_voltage": (0.5, 5), "temperature": (-40, 120), "cell_min_temperature": (-40, 120),
          "cell_max_temperature": (-40, 120), "charge_voltage_limit": (10, 80), "discharge_voltage_limit": (10, 80),
          "charge_current_limit": (0, 500), "discharge_current_limit": (0, 500), "remaining_capacity": (0, 2000),
          "total_capacity": (0.001, 2000), "cell_count": (1, 64)}  # fmt: skip
NOT_TOLD = "not told"
STARTUP = 8.0
BOUND = max(STARTUP, 2 * MAX_AGE)
GIVEN = {"charge_current_limit": "Info.MaxChargeCurrent", "discharge_current_limit": "Info.MaxDischargeCurrent",
         "charge_voltage_limit": "Info.MaxChargeVoltage"}  # fmt: skip
State = dict[str, Value]
WRONG = st.sampled_from([3.4, 3.56, 3.62, 12.0, 25.0, 50.0, 100.0])


def _changes(keys: list[str]) -> st.SearchStrategy[State]:
    # a coldest cell that is warmer than the hottest bends the same curve the other way: temperatures are only lost here
    lost = st.sampled_from([NOT_TOLD, None, math.nan])
    each = {key: lost if "temperature" in key else st.one_of(lost, ABSURD, st.booleans(), WRONG) for key in keys}
    return st.fixed_dictionaries(each)


BINDING = st.sampled_from([
    {}, {"cell_max_voltage": 3.56}, {"cell_max_voltage": 3.62}, {"cell_min_voltage": 2.85}, {"total_capacity": 100.0},
    {"charge_voltage_limit": 50.0}, {"charge_current_limit": 5.0}, {"discharge_current_limit": 5.0},
    {"charge_enable": False}, {"discharge_fet_on": False},
])  # fmt: skip
"""What may keep the limits of a bank low."""
LOST = st.sets(st.sampled_from([*JUDGED[3:], "charge_enable", "cell_max_voltage", "charge_current_limit"]), max_size=5)
CHANGES = st.lists(st.sampled_from([*JUDGED, "cell_max_voltage", "charge_enable"]), min_size=1, max_size=4).flatmap(
    _changes
)


def changed(values: State, changes: dict[str, Value]) -> State:
    """Return a state with some values changed, or not told."""
    gone = [key for key, value in changes.items() if value == NOT_TOLD]
    return without(values | changes, *gone)


def known(key: str, value: Value) -> bool:
    """Whether a value can be believed."""
    if key in FLAGS:
        return isinstance(value, bool)
    low, high = RANGES[key]
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


@dataclass
class Story:
    """What a module told, as the bank must see it: what is not known as it was known before."""

    readings: list[tuple[float, tuple[State, State]]] = field(default_factory=list)
    seen_at: float = -math.inf
    usable_at: float = -math.inf
    in_a_row: int = 0
    silent_since: float = -math.inf
    last: State = field(default_factory=dict)
    before: State = field(default_factory=dict)
    missing: int = 0
    """Readings in a row without a discharge limit."""

    def take(self, values: State, at: float) -> None:
        if at <= self.seen_at:
            return
        self.seen_at = at
        if usable := all(known(key, values.get(key)) for key in NEEDED):
            self.usable_at = at
        elif at > self.usable_at + MAX_AGE:
            return
        if self.readings and at - self.readings[-1][0] > MAX_AGE:
            self.in_a_row = 0
        self.in_a_row += usable
        told = {key: values[key] for key in JUDGED if key in values and known(key, values[key])}
        if not usable:  # what it measures stays as it was
            told |= {key: self.last[key] for key in STAYING if key in self.last}
        self.before |= {key: self.last[key] for key in told if key in self.last}
        self.last |= {key: value for key, value in told.items() if key not in FLAGS}  # one not known forbids nothing
        self.missing = 0 if DISCHARGE in told else self.missing + 1
        if self.missing >= 2 and self.before.get(DISCHARGE) == 0:
            self.before[DISCHARGE] = self.last[DISCHARGE]
        rest = {key: value for key, value in values.items() if key not in JUDGED or key in told}
        self.readings.append((at, ({**self.last, **rest}, {**self.before, **rest})))

    def live(self, now: float) -> bool:
        found = now <= self.usable_at + MAX_AGE and self.in_a_row >= 2
        self.silent_since = math.inf if found else min(self.silent_since, now)
        return found

    def states(self) -> list[State]:
        """Return what each of the last two readings tells."""
        found: list[State] = []
        for _, pair in self.readings[-2:]:
            found += [one for one in pair if one not in found]
        return found


def believed(value: Value) -> float:
    """Return what a reported limit is worth; what no battery says is worth nothing."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 500
    return float(value) if good and isinstance(value, int | float) else 0.0


class BankMachine(RuleBasedStateMachine):
    """Time passes in small steps; the bank makes a round a second, the driver's timer runs beside it."""

    @initialize(
        expected=st.sampled_from([None, 1, 2]),
        modules=st.integers(0, 3),
        sharing=st.sampled_from(["even", "capacity", "sum"]),
        stop=st.booleans(),
        raise_after=st.sampled_from([0.0, 2.0]),
        reticent=st.integers(-1, 2),
    )
    def begin(
        self, expected: int | None, modules: int, sharing: Any, stop: bool, raise_after: float, reticent: int
    ) -> None:
        self.now = 1000.0
        limits = Limits(current_sharing=sharing, raise_after=raise_after)
        self.stop_discharge, self.limits = stop, limits
        self.stories: dict[int, Story] = {}
        self.ceiling: dict[str, float] | None = None
        self.given: dict[tuple[int, ...], dict[str, float] | None] = {}
        self.kept: list[State] = []
        self.bank = Bank(Rules(("bus",), limits, expected, max_age=MAX_AGE, startup=STARTUP,
                               stop_discharge_when_silent=stop))  # fmt: skip
        self.driver = Driver()
        self.board: dict[tuple[str, str], Reading] = {}
        self.history: dict[int, list[tuple[float, float]]] = {}
        self.states: dict[int, dict[str, Value]] = {module: state() for module in range(modules)}
        if reticent in self.states:
            self.states[reticent] = without(state(), "discharge_current_limit") | {"discharge_current_limit": None}
        self.talking: set[int] = set(self.states)
        self.round_due = self.tick_due = self.now
        self.keys: set[str] | None = None
        self.last: dict[str, Any] | None = None
        self.last_at = -math.inf
        self.wrong: tuple[int, State] | None = None
        self.thawed_at = -math.inf
        self.silent_since: float | None = self.now
        self.last_word_said = False
        self._pass(20.0)

    # -- what happens

    @rule(module=MODULES)
    def module_answers(self, module: int) -> None:
        self.states.setdefault(module, state())
        self.talking.add(module)
        self._pass(2.0)

    @rule(module=MODULES)
    def module_falls_silent(self, module: int) -> None:
        self.talking.discard(module)
        self._pass(2.0)

    @rule()
    def all_fall_silent(self) -> None:
        self.talking.clear()
        self._pass(2.0)

    @rule(module=MODULES, amperes=AMPERES, enable=st.booleans())
    def limits_change(self, module: int, amperes: float, enable: bool) -> None:
        if module in self.states:
            self.states[module] |= {"charge_current_limit": amperes, "charge_enable": enable}
        self._pass(2.0)

    @rule(module=MODULES, key=st.sampled_from(MEASURED + LIMITS), value=ABSURD)
    def value_is_absurd(self, module: int, key: str, value: Value) -> None:
        if module in self.states:
            self.states[module][key] = value
        self._pass(2.0)

    @rule(module=MODULES, key=st.sampled_from(MEASURED[3:] + LIMITS))
    def value_is_not_told(self, module: int, key: str) -> None:
        if module in self.states:
            self.states[module] = without(self.states[module], key)
        self._pass(2.0)

    @rule(module=MODULES, cell=st.floats(2.5, 3.8), soc=st.floats(0, 100), degrees=st.floats(-20, 60),
          capacity=st.sampled_from([50.0, 100.0]))  # fmt: skip
    def module_warms_fills_and_empties(
        self, module: int, cell: float, soc: float, degrees: float, capacity: float
    ) -> None:
        self.states[module] = state(cell_max_voltage=cell, cell_min_voltage=cell - 0.05, soc=soc,
                                    total_capacity=capacity,
                                    cell_min_temperature=degrees, cell_max_temperature=degrees + 2)  # fmt: skip
        self._pass(2.0)

    @rule(module=MODULES, bound=BINDING, changes=CHANGES, then_lost=st.booleans())
    def one_reading_is_wrong(self, module: int, bound: State, changes: State, then_lost: bool) -> None:
        """One alone never raises anything, nor when what it told is not known after it."""
        if self._settle(module, bound):
            self.wrong = module, changes
            self._pass(1.0)
            self.wrong = (module, dict.fromkeys(set(changes).difference(FLAGS))) if then_lost else None
            self._pass(6.0)
            self.wrong = None
        self.ceiling = None

    @rule(module=MODULES, bound=BINDING, keys=LOST, told=st.booleans())
    def values_are_not_known_for_long(self, module: int, bound: State, keys: set[str], told: bool) -> None:
        """A number that is not known never raises anything, however long that lasts."""
        if self._settle(module, bound):
            self.wrong = module, dict.fromkeys({*keys, *bound}.difference(FLAGS), None if told else NOT_TOLD)
            self._pass(12.0)
            self.wrong = None
        self.ceiling = None

    @rule(module=MODULES, bound=BINDING)
    def module_is_lost(self, module: int, bound: State) -> None:
        """Its limits bind for some time after it fell silent, and one reading that it then brings changes nothing."""
        if self._settle(module, bound):
            self.talking.discard(module)
            self._pass(MAX_AGE + BOUND - 3.0)
            self.states[module] = state()
            self.talking.add(module)
            self._pass(1.0)
        self.ceiling = None

    @rule(others=st.booleans())
    def all_are_well_for_a_while(self, others: bool) -> None:
        """Nothing is held back for ever."""
        if not self.states:
            return
        self.states = {module: state() for module in self.states}
        if others or not self.talking:
            self.talking = set(self.states)
        self._pass(4.0)
        self._pass(MAX_AGE + BOUND + STARTUP + GRACE)
        assert self.last is not None
        assert not self.last_word_said
        count = len(self.talking)
        assert [self.last[key] for key in GIVEN.values()] == [25.0 * count, 25.0 * count, 52.4]

    def _settle(self, module: int, bound: State) -> bool:
        """Let time pass until nothing changes any more; from then on nothing may rise. Return whether that is so."""
        if module in self.states:
            self.states[module] |= bound
        self._pass(9.0)
        self._pass(0.0 if not self._binding() else BOUND)
        if self.last is None or self.last_word_said or module not in self.talking or self.last_at < self.now - 1.5:
            return False
        self.ceiling = {key: self.last[key] for key in GIVEN.values()}
        return True

    @rule(module=MODULES)
    def module_is_well_again(self, module: int) -> None:
        self.states[module] = state()
        self._pass(2.0)

    @rule(seconds=st.sampled_from([4.0, 7.0, 20.0, 80.0]))
    def time_passes(self, seconds: float) -> None:
        self._pass(seconds)

    def _pass(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += STEP
            self._modules_speak()
            if self.now >= self.round_due:
                self.round_due = self.now + 1.0
                self._round()
            self._tick()

    @rule(seconds=st.sampled_from([1.5, 6.0, 30.0, 70.0]))
    def process_freezes(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += STEP
            self._tick()
        self.thawed_at = self.now
        self.round_due = self.now + 1.0
        self._round()  # before any device is read again: the worst order
        self._modules_speak()

    def _modules_speak(self) -> None:
        for module in sorted(self.talking):
            values = dict(self.states[module])
            if self.wrong is not None and self.wrong[0] == module:
                values = changed(values, self.wrong[1])
            place = ("bus", str(module))
            self.board[place] = reading(str(module), values, self.now, max_age=MAX_AGE + 1)

    def _tick(self) -> None:
        if self.now >= self.tick_due:
            self.tick_due = self.now + 1.0
            self.driver.tick(self.now)

    def _round(self) -> None:
        for (_, path), one in self.board.items():
            seen = self.history.setdefault(int(path), [])
            if not seen or seen[-1][0] < one.at:
                worth = believed(one.values.get("charge_current_limit"))
                seen.append((one.at, worth if one.values.get("charge_enable") is not False else 0.0))
            self.stories.setdefault(int(path), Story()).take(dict(one.values), one.at)
        self.live = {module for module, story in self.stories.items() if story.live(self.now)}
        found = self.bank.round(self.board, self.now)
        assert set(found.state) == {field.key for field in s.FIELDS}
        encode(found.state)
        self._note_silence()
        if found.data is None:
            return
        assert self.bank.layout is not None
        made = document(found.data.values, found.data.cells, self.bank.layout.optional, controls=True)
        payload = encode(made)
        assert found.data.until >= self.now
        self._check(leaves(json.loads(payload)), found.state[s.PHASE.key] == s.SILENT)
        self.driver.receive(payload, self.now)

    def _note_silence(self) -> None:
        if any(self.now - one.at <= MAX_AGE for one in self.board.values()):
            self.silent_since = None
        elif self.silent_since is None:
            self.silent_since = self.now

    # -- what must hold

    def _check(self, found: dict[str, Any], safe: bool) -> None:
        assert self.keys is None or self.keys == set(found), "the key set changed"
        self.keys = set(found)
        assert all(math.isfinite(v) for v in found.values() if isinstance(v, float))
        limit = found["Info.MaxChargeCurrent"]
        if safe:
            assert not self.last_word_said, "the last word is said once"
            assert limit == 0
            assert found["Io.AllowToCharge"] == 0
            assert found["Alarms.InternalFailure"] == 2
            expected = 0.0 if self.stop_discharge else self.last and self.last["Info.MaxDischargeCurrent"]
            assert found["Info.MaxDischargeCurrent"] == expected
        else:
            assert self.silent_since is None, "something is said though all are silent"
            assert limit <= self._most() + 1e-6, "more than the live modules together allow"
            assert found["System.NrOfModulesOnline"] >= 1
        assert found["Io.AllowToCharge"] == int(limit > 0)
        assert 10 <= found["Info.MaxChargeVoltage"] <= 52.4
        if self.ceiling is not None:
            assert all(found[key] <= most + 1e-6 for key, most in self.ceiling.items()), (found, self.ceiling)
        knows = any("discharge_current_limit" in self.stories[module].last for module in self.live)
        if not safe and not knows and self.last is not None and not self.last_word_said:
            key = "Info.MaxDischargeCurrent"
            assert found[key] == self.last[key], "the house goes dark because nothing is known"
        if not safe:
            self._check_against_each_reading(found)
        self.last, self.last_word_said, self.last_at = found, safe, self.now

    def _binding(self) -> dict[int, Story]:
        gone = {module: story for module, story in self.stories.items() if module not in self.live}
        return {module: story for module, story in gone.items() if self.now - story.silent_since < BOUND - 0.1}

    def _check_against_each_reading(self, found: dict[str, Any]) -> None:
        """No limit is higher than what follows of any of the readings that count, with and without who is silent."""
        gone = self._binding()
        for number in range(len(gone) + 1):
            for some in itertools.combinations(gone, number):
                for given_ in self._given(sorted((*self.live, *some))):
                    for key, most in given_.items():
                        assert found[GIVEN[key]] <= most + 1e-6, f"{key} above what a reading that counts allows"

    def _given(self, modules: list[int]) -> Iterator[dict[str, float]]:
        """Yield what a bank gives by each combination of their readings that count."""
        for chosen in itertools.product(*(self.stories[module].states() for module in modules)):
            given_ = self._given_by(chosen)
            if given_ is not None:
                yield given_

    def _given_by(self, states: tuple[State, ...]) -> dict[str, float] | None:
        """Return what a bank gives to modules that never told anything else; None where no discharge limit is known."""
        numbers = []
        for one in states:
            if one not in self.kept:
                self.kept.append(one)
            numbers.append(self.kept.index(one))
        key = tuple(numbers)
        if key not in self.given:
            bank = Bank(Rules(("bus",), self.limits, len(states), max_age=MAX_AGE))
            for now in (0.0, 1.0):
                board = {("bus", str(n)): reading(str(n), one, now) for n, one in enumerate(states)}
                said = bank.round(board, now)
            numbers_ = {name: said.state[name] for name in GIVEN}
            self.given[key] = {name: float(v) for name, v in numbers_.items() if isinstance(v, float)} or None
        return self.given[key]

    def _most(self) -> float:
        """The sum over modules whose last reading is young of what their last two readings both allow."""
        total = 0.0
        for seen in self.history.values():
            if self.now - seen[-1][0] <= MAX_AGE and len(seen) > 1 and seen[-1][0] - seen[-2][0] <= MAX_AGE:
                total += min(seen[-1][1], seen[-2][1])
        return total

    @invariant()
    def the_driver_lives(self) -> None:
        if hasattr(self, "driver"):
            assert not self.driver.frozen
            assert not self.driver.killed
            assert self.driver.warnings == []

    @invariant()
    def nothing_charges_on_what_is_no_longer_true(self) -> None:
        if not hasattr(self, "driver") or self.silent_since is None:
            return
        since = max(self.silent_since, self.thawed_at)
        if self.now >= since + GRACE + 2.0:
            assert self.driver.charge_current() == 0


BankMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
test_the_gx_is_safe_whatever_happens = BankMachine.TestCase
