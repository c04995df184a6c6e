"""What a set of simulated inverters does with sun, load, grid and battery, and what it is set to.

Powers are W, currents A, voltages V, temperatures °C. Everything is a function of the simulated time and the
settings; the battery and the energy counters move on a fixed grid of GRID simulated seconds, so a run with
the same seed and the same settings says the same at the same simulated time, however often it is asked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from bridge.simulators.axpert_frames import Model
from bridge.simulators.living import Battery, DayClock, House

GRID = 10.0
EFFICIENCY = 0.93
POWER_FACTOR = 0.94
SHARES = (0.0, 0.02, -0.03, 0.01, -0.01, 0.025, -0.015, 0.005, -0.02)
"""By how much each unit of a set takes more or less than its equal share of the load."""
LIFE_PV, LIFE_LOAD = 7_412_300, 6_120_900
"""Wh that were counted before the first simulated day."""

Setting = float | int | str

PRIORITIES = {"PI30": ("utility", "solar", "battery"), "PI18": ("solar", "battery")}
"""Who carries the load first, by the code of the output source priority."""
AC_CHARGERS = {"PI30": (0, 2), "PI18": (1,)}
"""The codes of the charger source priority with which the grid charges the battery."""


def default_settings(model: Model) -> dict[str, Setting]:
    """Return what a unit is set to when it leaves the factory, under the names of QPIRI, QDI and QBEQI."""
    cells = model.battery / 48.0
    return {
        "ac_output_voltage": 230.0,
        "ac_output_frequency": 50.0,
        "battery_recharge_voltage": 46.0 * cells,
        "battery_under_voltage": 42.0 * cells,
        "battery_bulk_voltage": 56.4 * cells,
        "battery_float_voltage": 54.0 * cells,
        "battery_redischarge_voltage": 54.0 * cells,
        "battery_type": 0,
        "max_ac_charging_current": 30,
        "max_charging_current": min(60, model.currents[-1]),
        "input_voltage_range": 0,
        "output_source_priority": 0,
        "charger_source_priority": model.chargers[0],
        "output_mode": 0,
        "pv_ok_condition": 0,
        "pv_power_balance": 1,
        "max_cv_charging_time": 0,
        "operation_logic": 0,
        "max_discharging_current": 0,
        "solar_priority": 0,
        "equalization_enabled": 0,
        "equalization_time": 60,
        "equalization_period": 30,
        "equalization_max_current": 80,
        "equalization_reserved1": 0,
        "equalization_voltage": 58.4 * cells,
        "equalization_reserved2": 0,
        "equalization_over_time": 120,
        "equalization_active": 0,
        "equalization_elapsed": 0,
    }


FLAG_DEFAULTS = "kxyz"
PI18_FLAG_DEFAULTS = "ACFGH"


@dataclass(slots=True)
class Unit:
    """One inverter: its serial number, settings and flags (letter -> enabled)."""

    model: Model
    serial: str
    settings: dict[str, Setting]
    flags: dict[str, bool]
    changed: bool = False
    """A setting changed since the status was last read."""

    def reset(self) -> None:
        """Go back to the defaults."""
        self.settings = default_settings(self.model)
        enabled = PI18_FLAG_DEFAULTS if self.model.protocol == "PI18" else FLAG_DEFAULTS
        self.flags = {letter: letter in enabled for letter in self.model.flags}


@dataclass(frozen=True, slots=True)
class Flows:
    """Where the power goes at one moment, for the whole set. `battery` is positive while charging."""

    mode: str
    load: float
    pv: float
    battery: float
    ac_charge: float
    on: bool
    grid: bool


@dataclass(slots=True)
class Plant:
    """A set of inverters of one model around one battery; `grid_present` and the rest may be set at any time."""

    units: list[Unit]
    house: House
    clock: DayClock
    battery: Battery
    pv_peak: float
    grid_present: bool = True
    fault_code: int = 0
    warnings: set[int] = field(default_factory=set)
    """Bits of QPIWS that are on besides those that follow from the state."""
    clock_offset: float = 0.0
    """Seconds by which the units' own clock was set off."""
    pv_wh: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    load_wh: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Wh of each day, by YYYYMMDD."""
    _until: float = -1.0
    _discharging: bool = True

    def advance(self) -> float:
        """Let the plant live up to now; return the simulated time."""
        now = self.clock.seconds()
        if self._until < 0:
            self._until = now - now % GRID
        while self._until + GRID <= now:
            flows = self.flows(self._until)
            day = self.clock.date(self._until).strftime("%Y%m%d")
            self.pv_wh[day] += flows.pv * GRID / 3600
            self.load_wh[day] += flows.load * GRID / 3600
            self.battery.flow(flows.battery, GRID)
            self._choose()
            self._until += GRID
        return now

    def date(self) -> datetime:
        """Return what the units' clock shows."""
        return self.clock.date(self.clock.seconds() + self.clock_offset)

    def energy(self, kind: str, prefix: str) -> int:
        """Return the Wh counted on all days that begin with `prefix`; "" is the whole life."""
        days, before = (self.pv_wh, LIFE_PV) if kind == "pv" else (self.load_wh, LIFE_LOAD)
        counted = sum(wh for day, wh in days.items() if day.startswith(prefix))
        return int(counted) + (before if not prefix else 0)

    def flows(self, seconds: float) -> Flows:
        """Return where the power goes at that moment, with the battery as it is now."""
        unit = self.units[0]
        count = len(self.units)
        mode = self._mode()
        on = mode in "LBY"
        load = min(self.house.load(seconds), 0.95 * count * unit.model.active_power) if on else 0.0
        sun = self.house.sun(seconds) * self.pv_peak * count
        room = self.battery.acceptance() * self.battery.rest_voltage() * count
        total_limit = _number(unit.settings["max_charging_current"]) * room
        if mode == "B":
            spare = sun - load / EFFICIENCY
            charge = min(spare, total_limit) if spare > 0 else spare
            used = min(sun, load / EFFICIENCY + max(0.0, charge))
            return Flows(mode, load, used, charge, 0.0, True, self.grid_present)
        from_sun = min(sun, total_limit)
        ac = 0.0
        if mode == "L" and unit.settings["charger_source_priority"] in AC_CHARGERS[unit.model.protocol]:
            ac = min(_number(unit.settings["max_ac_charging_current"]) * room, total_limit - from_sun)
        to_load = min(sun - from_sun, load / EFFICIENCY) if self._priority() == "solar" else 0.0
        return Flows(mode, load, from_sun + to_load, from_sun + ac, ac, on, self.grid_present)

    def _mode(self) -> str:
        if self.fault_code:
            return "F"
        if not self.grid_present:
            return "B" if self.battery.soc > 2.0 else "S"
        return "B" if self._priority() == "battery" and self._discharging else "L"

    def _priority(self) -> str:
        return PRIORITIES[self.units[0].model.protocol][int(self.units[0].settings["output_source_priority"])]

    def _choose(self) -> None:
        """Leave the battery below the recharge voltage, take it again above the redischarge voltage."""
        settings, volts = self.units[0].settings, self.battery.rest_voltage()
        again = _number(settings["battery_redischarge_voltage"])
        if volts <= _number(settings["battery_recharge_voltage"]):
            self._discharging = False
        elif (again and volts >= again) or self.battery.soc >= 99.5:
            self._discharging = True


def shares(total: float, count: int) -> list[int]:
    """Return `total` spread over the units, whole numbers that add up to round(total)."""
    parts = [round(total / count * (1 + SHARES[i % len(SHARES)])) for i in range(count)]
    parts[-1] += round(total) - sum(parts)
    return parts


def unit_state(plant: Plant, index: int, sequence: int) -> dict[str, Setting]:
    """Return everything a unit can say of itself, under the names of its answers.

    The sequence's last two digits stand in the output voltage (in tenths of a volt) while the output is on,
    and in the bus voltage, always.
    """
    seconds = plant.advance()
    flows = plant.flows(seconds)
    unit, count = plant.units[index], len(plant.units)
    volts = plant.battery.voltage(flows.battery)
    watts = shares(flows.load, count)
    apparent = [round(w / POWER_FACTOR) for w in watts]
    amps = shares(flows.battery / volts, count)
    rated = unit.model
    state: dict[str, Setting] = {
        **unit.settings,
        **ratings(unit, count),
        "exists": int(count > 1),
        "serial_number": unit.serial,
        "mode": flows.mode,
        "fault_code": f"{plant.fault_code:02d}",
        "grid_voltage": 229.0 + 6 * plant.house.wave(seconds / 60, 11) if flows.grid else 0.0,
        "grid_frequency": 49.96 + 0.08 * plant.house.wave(seconds / 20, 12) if flows.grid else 0.0,
        "ac_output_voltage": traced_tenths(sequence) / 10 if flows.on else 0.0,
        "ac_output_frequency": _number(unit.settings["ac_output_frequency"]) if flows.on else 0.0,
        "ac_output_apparent_power": apparent[index],
        "ac_output_active_power": watts[index],
        "bus_voltage": 400 + sequence % 100,
        "battery_voltage": volts,
        "battery_charging_current": max(0, amps[index]),
        "battery_discharge_current": max(0, -amps[index]),
        "battery_capacity": plant.battery.soc,
        "total_charging_current": sum(max(0, a) for a in amps),
        "total_ac_output_apparent_power": sum(apparent),
        "total_ac_output_active_power": sum(watts),
        "total_ac_output_percent": load_percent(sum(watts), sum(apparent), rated, count),
        "fan_on_voltage_offset_10mv": 0,
        "eeprom_version": 0,
        "solar_feed_to_grid": 0,
        "country_regulation": "00",
        "solar_feed_power": 0,
    }
    percent = load_percent(watts[index], apparent[index], rated, 1)
    state["load_percent"] = state["output_load_percent"] = percent
    state["heatsink_temperature"] = 27 + 0.3 * percent + 6 * plant.house.wave(seconds / 300, 13)
    state.update(_trackers(plant, flows, index, volts))
    state.update(_status(flows, unit, float(flows.pv)))
    return state


def load_percent(watts: int, apparent: int, rated: Model, count: int) -> int:
    """Return the larger of the W and the VA percentage."""
    return round(max(100 * watts / (rated.active_power * count), 100 * apparent / (rated.apparent_power * count)))


def traced_tenths(sequence: int) -> int:
    """Return an output voltage in tenths of a volt, 225.0 to 234.9 V, whose last two digits are the sequence's."""
    low = sequence % 100
    return (2200 if low >= 50 else 2300) + low


def ratings(unit: Unit, count: int) -> dict[str, Setting]:
    """Return what stands on the nameplate, under the names of QPIRI and QPGS."""
    model = unit.model
    amps = model.apparent_power / 230.0
    return {
        "grid_rating_voltage": 230.0,
        "grid_rating_current": amps,
        "ac_output_rating_voltage": unit.settings["ac_output_voltage"],
        "ac_output_rating_frequency": unit.settings["ac_output_frequency"],
        "ac_output_rating_current": amps,
        "ac_output_rating_apparent_power": model.apparent_power,
        "ac_output_rating_active_power": model.active_power,
        "battery_rating_voltage": model.battery,
        "parallel_max_num": "-" if model.name == "old" else 9 if model.name == "max" else 6,
        "machine_type": "01",
        "topology": 0,
        "output_mode": 1 if count > 1 else unit.settings["output_mode"],
        "max_charger_current": unit.settings["max_charging_current"],
        "max_charger_range": model.currents[-1],
        "max_ac_charger_current": unit.settings["max_ac_charging_current"],
    }


def _trackers(plant: Plant, flows: Flows, index: int, volts: float) -> dict[str, Setting]:
    """Return voltage, current and power of a unit's PV trackers; all zero while the sun gives nothing."""
    model = plant.units[index].model
    power = shares(flows.pv, len(plant.units))[index]
    first = power if model.trackers == 1 else round(power * 0.6)
    out: dict[str, Setting] = {"battery_voltage_scc": volts if model.low_voltage_tracker and power > 5 else 0.0}
    for number, watts in ((1, first), (2, power - first)):
        string = 92.0 if model.low_voltage_tracker else 310.0 + 20 * number + 3 * index
        panel = string - 8 * min(1.0, watts / plant.pv_peak) if watts > 5 else 0.0
        # low-voltage trackers report the current into the battery
        divisor = volts if model.low_voltage_tracker else panel
        out[f"pv{number}_voltage"] = panel
        out[f"pv{number}_current"] = watts / divisor if watts > 5 else 0.0
        out[f"pv{number}_power"] = watts if watts > 5 else 0
    return out


def _status(flows: Flows, unit: Unit, pv: float) -> dict[str, Setting]:
    """Return the status bits, first character the highest bit."""
    charging = flows.battery > 1
    solar = charging and pv > 5
    bits = [0, unit.changed, 0, flows.on, 0, charging, solar, flows.ac_charge > 1]
    # b7 SCC ok, b6 AC charging, b5 SCC charging, b4 b3 battery normal, b2 line lost, b1 load on, b0 changed
    parallel = [pv > 5, flows.ac_charge > 1, solar, 0, 0, not flows.grid, flows.on, unit.changed]
    return {
        "device_status": "".join("01"[bool(bit)] for bit in bits),
        "inverter_status": "".join("01"[bool(bit)] for bit in parallel),
        "device_status2": "010",
    }


def warning_bits(plant: Plant) -> set[int]:
    """Return the QPIWS bits that are on now."""
    flows = plant.flows(plant.advance())
    bits = set(plant.warnings)
    rated = plant.units[0].model.active_power * len(plant.units)
    for bit, on in (
        (1, plant.fault_code > 0),
        (5, not flows.grid),
        (12, plant.battery.soc < 10),
        (14, plant.battery.soc < 3),
        (16, flows.load > rated),
    ):
        if on:
            bits.add(bit)
    return bits


def default_values(model: Model) -> Mapping[str, Setting]:
    """Return what QDI says."""
    switches = {
        "buzzer_silenced": "a",
        "power_saving": "j",
        "overload_restart": "u",
        "over_temperature_restart": "v",
        "lcd_backlight": "x",
        "primary_source_alarm": "y",
        "fault_code_record": "z",
        "overload_bypass": "b",
        "lcd_default_page": "k",
    }
    return {**default_settings(model), **{name: int(letter in FLAG_DEFAULTS) for name, letter in switches.items()}}


def _number(value: Setting) -> float:
    return float(value)
