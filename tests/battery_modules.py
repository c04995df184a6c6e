"""Battery modules for tests of the bank: plausible states under the keys that the battery slices use."""

from __future__ import annotations

from typing import Any

from bridge.fields import PLAIN, Field, Reading, Unit, Value


def state(**changes: Value) -> dict[str, Value]:
    """Return the state of a module of 15 cells and 50 Ah at rest, as RS485 tells it, with some values changed."""
    values: dict[str, Value] = {
        "voltage": 49.5, "current": 0.0, "power": 0.0, "soc": 60.0,
        "remaining_capacity": 30.0, "total_capacity": 50.0, "cycles": 120, "temperature": 22.0,
        "cell_min_voltage": 3.295, "cell_min_number": 4, "cell_max_voltage": 3.305, "cell_max_number": 9,
        "cell_spread": 0.01,
        "cell_min_temperature": 18.0, "cell_min_temperature_sensor": 2,
        "cell_max_temperature": 20.0, "cell_max_temperature_sensor": 5,
        "charge_voltage_limit": 53.25, "discharge_voltage_limit": 47.0,
        "charge_current_limit": 25.0, "discharge_current_limit": 25.0,
        "charge_enable": True, "discharge_enable": True,
        "charge_immediately_1": False, "charge_immediately_2": False, "full_charge_request": False,
        "charge_fet_on": True, "discharge_fet_on": True,
        "module_over_voltage": False, "module_under_voltage": False, "cell_under_voltage": False,
        "charge_over_current": False, "discharge_over_current": False,
        "charge_over_temperature": False, "discharge_over_temperature": False, "cell_fault": False,
        "cells_low": "", "cells_high": "", "cells_error": "",
        "temperatures_low": "", "temperatures_high": "", "temperatures_error": "",
        "charge_current_state": "normal", "discharge_current_state": "normal", "voltage_state": "normal",
        **{f"cell_{n}_voltage": 3.3 for n in range(1, 16)},
        "cell_4_voltage": 3.295, "cell_9_voltage": 3.305,
    }  # fmt: skip
    return values | changes


def without(values: dict[str, Value], *keys: str) -> dict[str, Value]:
    """Return a state as a link tells it that does not know these keys."""
    return {key: value for key, value in values.items() if key not in keys}


def reading(path: str, values: dict[str, Value], at: float, *, max_age: float = 10.0, **unit: Any) -> Reading:
    """Return a module's reading with its unit; `serial` and the like go to the unit."""
    fields = tuple(Field(key, PLAIN, key) for key in values)
    return Reading(Unit(path, path, fields, max_age, **unit), values, at)
