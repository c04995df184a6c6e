"""The settings a simulated Axpert takes, with the formats and bounds of the vendor's papers.

A command that fits no row, or whose value its row refuses, gets a NAK. The calibration commands are not here:
a unit would take them, but nothing of ours may ever send them, so the simulator refuses them loudly.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from bridge.simulators.axpert_frames import Model
from bridge.simulators.axpert_plant import Setting, Unit

Check = Callable[[str, Model], Setting | None]
"""(digits, model) -> the value to store, or None to refuse it."""


def codes(*allowed: int) -> Check:
    """Take only these codes."""
    return lambda text, _: int(text) if int(text) in allowed else None


def charger(text: str, model: Model) -> Setting | None:
    """Take the charger priorities that this model knows."""
    return int(text) if int(text) in model.chargers else None


def ac_amps(text: str, model: Model) -> Setting | None:
    """Take the currents that QMUCHGCR lists."""
    return int(text) if int(text) in model.ac_currents else None


def amps(text: str, model: Model) -> Setting | None:
    """Take the currents that QMCHGCR lists."""
    return int(text) if int(text) in model.currents else None


def volts(low: float, high: float, step: float = 0.1, full: bool = False) -> Check:
    """Take volts of a 48 V unit from `low` to `high`, of others in proportion; with `full`, also 00.0."""

    def check(text: str, model: Model) -> Setting | None:
        value = float(text)
        scaled = value * 48.0 / model.battery
        fits = low <= scaled <= high and abs(scaled / step - round(scaled / step)) < 1e-6
        return value if fits or (full and value == 0) else None

    return check


def tenths(check: Check) -> Check:
    """The same for PI18, where volts are written in tenths."""
    return lambda text, model: check(str(int(text) / 10), model)


def steps(low: int, high: int, step: int) -> Check:
    """Take every `step`-th number."""
    return lambda text, _: int(text) if low <= int(text) <= high and int(text) % step == 0 else None


@dataclass(frozen=True, slots=True)
class Setter:
    """One command: its form, what it stores, and which models have it ("" is all of that protocol).

    The groups of the form are the values, in the order of `keys`; a group named `unit` is the unit's number
    in a parallel set, without it every unit takes the value.
    """

    form: str
    keys: tuple[str, ...]
    checks: tuple[Check, ...]
    models: str = ""


RECHARGE = volts(44.0, 51.0, 1.0)
REDISCHARGE = volts(48.0, 58.0, 1.0, full=True)
UNDER = volts(40.0, 48.0)
CHARGE = volts(48.0, 58.4)
EQUALIZATION = volts(48.0, 61.0, 0.01)

# fmt: off
PI30_SETTERS = (
    Setter(r"POP(\d\d)", ("output_source_priority",), (codes(0, 1, 2),)),
    Setter(r"PCP(\d\d)", ("charger_source_priority",), (charger,)),
    Setter(r"PPCP(?P<unit>\d)(\d\d)", ("charger_source_priority",), (charger,), "pi30 max"),
    Setter(r"PGR(\d\d)", ("input_voltage_range",), (codes(0, 1),)),
    Setter(r"PBT(\d\d)", ("battery_type",), (codes(0, 1),), "pi30 old"),
    Setter(r"PBT(\d\d)", ("battery_type",), (codes(*range(10)),), "max"),
    Setter(r"PBCV(\d\d\.\d)", ("battery_recharge_voltage",), (RECHARGE,)),
    Setter(r"PBDV(\d\d\.\d)", ("battery_redischarge_voltage",), (REDISCHARGE,)),
    Setter(r"PSDV(\d\d\.\d)", ("battery_under_voltage",), (UNDER,)),
    Setter(r"PCVV(\d\d\.\d)", ("battery_bulk_voltage",), (CHARGE,)),
    Setter(r"PBFT(\d\d\.\d)", ("battery_float_voltage",), (CHARGE,)),
    Setter(r"MUCHGC(?P<unit>\d)(\d\d)", ("max_ac_charging_current",), (ac_amps,)),
    Setter(r"MUCHGC(?P<unit>\d)(\d\d\d)", ("max_ac_charging_current",), (ac_amps,), "max"),
    Setter(r"MCHGC(?P<unit>\d)(\d\d)", ("max_charging_current",), (amps,), "pi30 old"),
    Setter(r"MNCHGC(?P<unit>\d)(\d\d\d)", ("max_charging_current",), (amps,)),
    Setter(r"PPVOKC(\d)", ("pv_ok_condition",), (codes(0, 1),), "pi30 old"),
    Setter(r"PSPB(\d)", ("pv_power_balance",), (codes(0, 1),), "pi30 old"),
    Setter(r"PCVT(\d\d\d)", ("max_cv_charging_time",), (steps(0, 900, 5),), "max"),
    Setter(r"PBATMAXDISC(\d\d\d)", ("max_discharging_current",), (codes(0, *range(30, 151)),), "max"),
    Setter(r"PBEQE(\d)", ("equalization_enabled",), (codes(0, 1),), "max"),
    Setter(r"PBEQA(\d)", ("equalization_active",), (codes(0, 1),), "max"),
    Setter(r"PBEQT(\d\d\d)", ("equalization_time",), (steps(5, 900, 5),), "max"),
    Setter(r"PBEQP(\d\d\d)", ("equalization_period",), (steps(0, 90, 1),), "max"),
    Setter(r"PBEQV(\d\d\.\d\d)", ("equalization_voltage",), (EQUALIZATION,), "max"),
    Setter(r"PBEQOT(\d\d\d)", ("equalization_over_time",), (steps(5, 900, 5),), "max"),
    Setter(r"POPM(\d\d)", ("output_mode",), (codes(0, 1, 2, 3, 4),), "max"),
    Setter(r"F(50|60)", ("ac_output_frequency",), (lambda text, _: float(text),)),
    Setter(r"V(220|230|240)", ("ac_output_voltage",), (lambda text, _: float(text),)),
)

PI18_SETTERS = (
    Setter(r"POP(\d)", ("output_source_priority",), (codes(0, 1),)),
    Setter(r"PCP(?P<unit>\d),(\d)", ("charger_source_priority",), (charger,)),
    Setter(r"PSP(\d)", ("solar_priority",), (codes(0, 1),)),
    Setter(r"MCHGC(?P<unit>\d),(\d\d\d)", ("max_charging_current",), (amps,)),
    Setter(r"MUCHGC(?P<unit>\d),(\d\d\d)", ("max_ac_charging_current",), (ac_amps,)),
    Setter(r"MCHGV(\d\d\d),(\d\d\d)", ("battery_bulk_voltage", "battery_float_voltage"), (tenths(CHARGE),) * 2),
    Setter(r"BUCD(\d\d\d),(\d\d\d)", ("battery_recharge_voltage", "battery_redischarge_voltage"), (tenths(RECHARGE), tenths(REDISCHARGE))),  # noqa: E501
    Setter(r"PSDV(\d\d\d)", ("battery_under_voltage",), (tenths(UNDER),)),
    Setter(r"PBT(\d)", ("battery_type",), (codes(0, 1, 2),)),
    Setter(r"PGR(\d)", ("input_voltage_range",), (codes(0, 1),)),
    Setter(r"F(50|60)", ("ac_output_frequency",), (lambda text, _: float(text),)),
    Setter(r"V(2020|2080|2200|2300|2400)", ("ac_output_voltage",), (lambda text, _: int(text) / 10,)),
)
# fmt: on

SWITCHES = {"PI30": r"(?:P[ED][a-z]+)+", "PI18": r"P[ED][A-Z]"}
"""The form of PE and PD: the letters of QFLAG."""


def apply(command: str, units: list[Unit], store: Callable[[str, Setting], Setting]) -> bool:
    """Obey a setter; return whether it is accepted (True is ACK).

    `store` makes the value that is kept of the value that was sent: faults of the memory go in there.
    """
    model = units[0].model
    if re.fullmatch(SWITCHES[model.protocol], command):
        return _switch(command, units, store)
    if command == "PF":
        for unit in units:
            unit.reset()
        return True
    for setter in PI30_SETTERS if model.protocol == "PI30" else PI18_SETTERS:
        match = re.fullmatch(setter.form, command)
        if match and (not setter.models or model.name in setter.models.split()):
            return _store(setter, match, units, store)
    return False


def _store(setter: Setter, match: re.Match[str], units: list[Unit], store: Callable[[str, Setting], Setting]) -> bool:
    number = match.groupdict().get("unit")
    texts = match.groups()[1:] if number is not None else match.groups()
    values = [check(text, units[0].model) for check, text in zip(setter.checks, texts, strict=True)]
    chosen = units if number is None else units[int(number) : int(number) + 1]
    if not chosen or any(value is None for value in values):
        return False
    for unit in chosen:
        for key, value in zip(setter.keys, values, strict=True):
            if value is not None:
                unit.settings[key] = store(key, value)
        unit.changed = True
    return True


def _switch(command: str, units: list[Unit], store: Callable[[str, Setting], Setting]) -> bool:
    groups = re.findall(r"P([ED])([a-z]+|[A-Z])", command)
    if any(letter not in units[0].flags for _, letters in groups for letter in letters):
        return False
    for unit in units:
        for verb, letters in groups:
            for letter in letters:
                unit.flags[letter] = bool(store(letter, int(verb == "E")))
        unit.changed = True
    return True
