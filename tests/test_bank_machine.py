"""The bank against a model of the driver behind it, with anything happening to its modules.

Rows G1 to G5, G8, G9, A3, B20 and D2: whatever is read, lost, frozen or absurd, the GX is never frozen, never killed,
never charging on what is no longer true.
"""

from __future__ import annotations

import json
import math
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
    )
    def begin(self, expected: int | None, modules: int, sharing: Any, stop: bool, raise_after: float) -> None:
        self.now = 1000.0
        limits = Limits(current_sharing=sharing, raise_after=raise_after)
        self.stop_discharge = stop
        self.bank = Bank(Rules(("bus",), limits, expected, max_age=MAX_AGE, startup=8.0,
                               stop_discharge_when_silent=stop))  # fmt: skip
        self.driver = Driver()
        self.board: dict[tuple[str, str], Reading] = {}
        self.history: dict[int, list[tuple[float, float]]] = {}
        self.states: dict[int, dict[str, Value]] = {module: state() for module in range(modules)}
        self.talking: set[int] = set(self.states)
        self.round_due = self.tick_due = self.now
        self.keys: set[str] | None = None
        self.last: dict[str, Any] | None = None
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

    @rule(module=MODULES, cell=st.floats(2.5, 3.8), soc=st.floats(0, 100), degrees=st.floats(-20, 60))
    def module_warms_fills_and_empties(self, module: int, cell: float, soc: float, degrees: float) -> None:
        self.states[module] = state(cell_max_voltage=cell, cell_min_voltage=cell - 0.05, soc=soc,
                                    cell_min_temperature=degrees, cell_max_temperature=degrees + 2)  # fmt: skip
        self._pass(2.0)

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
                seen.append((one.at, worth if one.values.get("charge_enable") is True else 0.0))
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
        assert 30 < found["Info.MaxChargeVoltage"] <= 52.4
        self.last, self.last_word_said = found, safe

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


BankMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
test_the_gx_is_safe_whatever_happens = BankMachine.TestCase
