"""Rules of the values that no register holds: what the rows of INPUT_DERIVED and HOLD_DERIVED are made by (pure).

Each takes the values of its row's inputs in their order, None where one is not known in this cycle, and those that are
known of another cycle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from bridge.fields import Value
from bridge.luxpower.codes import OFF_GRID
from bridge.luxpower.models import Family

Values: TypeAlias = Sequence[Value]


def total(values: Values, old: Values) -> Value:
    """Return the sum of the strings: the first three must be known, the others count where they exist.

    A higher string that gave power in an earlier cycle makes the sum unknown until it is read again.
    """
    if None in values[:3] or any(old):
        return None
    return round(sum([value for value in values if isinstance(value, (int, float))]), 1)


def difference(values: Values, _: Values) -> Value:
    """Return the first without the second, which the device tells apart, both positive."""
    positive, negative = values
    if isinstance(positive, int) and isinstance(negative, int):
        return positive - negative
    return None


def house_power(values: Values, _: Values) -> Value:
    """Return what the meters leave for the house."""
    status, imported, inverter, rectifier, exported, eps = values
    if isinstance(status, int) and status >= OFF_GRID:
        return eps
    # unconfirmed: whether p_inv leaves out what EPS takes while on grid; adding p_eps could count it twice
    return _balance(imported, inverter, rectifier, exported)


def house_energy(values: Values, _: Values) -> Value:
    """Return what the day's counters leave for the house."""
    imported, inverter, rectifier, exported, eps = values
    balance = _balance(imported, inverter, rectifier, exported)
    if balance is None or not isinstance(eps, float):
        return None
    return round(balance + eps, 1)  # unconfirmed: counts twice what the grid fed through to EPS, if anything


def _balance(imported: Value, inverter: Value, rectifier: Value, exported: Value) -> float | None:
    """Return what is left for the house; None where one is not known or the meters contradict each other."""
    numbers = [value for value in (imported, inverter, rectifier, exported) if isinstance(value, (int, float))]
    if len(numbers) < 4:
        return None
    left = numbers[0] + numbers[1] - numbers[2] - numbers[3]
    return left if left >= 0 else None


def firmware(values: Values, _: Values) -> Value:
    """Return the version as the maker writes it: model code, then communication and control in hex."""
    code, communication, control = values
    if not isinstance(code, str) or not isinstance(communication, int) or not isinstance(control, int):
        return None
    return f"{code}-{communication:02X}{control:02X}"


def power_unit(family: Family) -> Value:
    """Return what the power settings of a family count in, None while that is not known."""
    return family.power_unit.value if family.power_unit else None
