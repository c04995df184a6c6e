"""What differs between the model families: scales, units, and which registers mean anything.

An input frame does not say which model it comes from; holding registers 7, 8 and 19 do. Until they are known,
or where they are empty, a value that depends on the family is not known either, unless the configuration says.

Source: vendor's "Modbus RTU Protocol" 2025-03-13; joyfulhouse/pylxpweb docs/DEVICE_TYPES.md; totaldebug/luxmodbus;
scales of 81 and 82: celsworth/lxp-bridge fixtures and #242, luxpower_sna proxy log.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Feature(Enum):
    """Groups of registers that hold something else, or noise, on the models without the feature."""

    THREE_PHASE = "three phases"
    SPLIT_PHASE = "two legs, L1 and L2"
    LEG_APPARENT_POWER = "apparent power of each leg"
    PV_START = "a PV start voltage in holding register 22; an SNA has 65 there, and others function bits"
    THIRD_STRING = "a third PV string; elsewhere its voltage is a floating input"
    BATTERY_SENSOR = "a battery temperature that is 0 at 0 °C alone: the LXP 3600 ACS tells 0 without a sensor, too"
    GENERATOR = "a generator input"
    ON_GRID_LOAD = "load power while on grid in input 114"
    SINGLE_FUNCTIONS = "the bits of holding registers 110 and 120 as on small models"
    GREEN_MODE = "bit 14 of holding register 110 as green (off-grid) mode: not the 12K"


class Scale(Enum):
    """Divisors that only the family tells."""

    BMS_LIMIT = "current limits of the BMS, inputs 81 and 82"
    RATE = "power settings, holds 66, 74, 82 and 103"


class PowerUnit(Enum):
    """What the power settings count in."""

    PERCENT = "%"
    HUNDRED_WATTS = "kW"
    """Raw 55 is 5.5 kW."""


@dataclass(frozen=True, slots=True)
class Family:
    """What is known about the model behind the registers. None is not known."""

    limit_divisor: int | None = None
    """Raw steps of one ampere in inputs 81 and 82: 10 or 100."""
    power_unit: PowerUnit | None = None
    features: frozenset[Feature] = frozenset()
    stranger: str | None = None
    """What it is, where its registers mean something else than those of an inverter."""

    def divisor(self, scale: Scale) -> int | None:
        """Return what to divide a raw word by, or None while that is not known."""
        if scale is Scale.BMS_LIMIT:
            return self.limit_divisor
        return {None: None, PowerUnit.PERCENT: 1, PowerUnit.HUNDRED_WATTS: 10}[self.power_unit]


ACS = ("BAAA", "BAAB")
"""LXP 3600 ACS."""
SMALL = ("AAAA", "AAAB", *ACS)
"""LXP 3-6K hybrid and LXP 3600 ACS."""
LB = ("ACAB", "HAAA")
"""GEN-LB-EU 3-6K and GEB-LB-EU 7-10K."""
LARGE = ("EAAB", "FAAB")
"""LXP-LB, LXP-EU 12K; also EG4 12kPV, 18kPV and FlexBOSS."""
OFF_GRID_US = ("CCAA", "CEAA")
"""SNA-US 6000 and SNA12K-US, sold as EG4 6000XP and 12000XP."""

SNA = ("CBAA", "CFAA", *OFF_GRID_US)

LARGE_TYPES = (12, 44)
"""Holding register 19 of the LXP-EU 12K and of the LXP-LB."""
EG4_HYBRID_TYPES = (2092, 10284)
GRIDBOSS, GRIDBOSS_TYPE = "IAAB", 50
"""A switchboard behind the same stick, with a register map of its own (joyfulhouse/pylxpweb)."""
EG4_OFF_GRID_TYPES = (38, 54)


def family_of(code: str | None, device_type: int | None) -> Family:
    """Return the family of a model code (holds 7 and 8, "BAAA") and a device type (hold 19).

    A unit that reads its code as zeros gets an empty Family. The letters alone do not tell EG4 from
    LXP, so both are asked for. Bit 0 of hold 1, said to mean "US version", is not used: it is set in
    captures of 230 V units too. No code is known for three phases: the configuration says so.
    """
    if code == GRIDBOSS or device_type == GRIDBOSS_TYPE:
        return Family(stranger="an EG4 GridBOSS")
    if code is None or not (len(code) == 4 and code.isalpha()):
        return Family()
    eg4_off_grid = code in OFF_GRID_US or device_type in EG4_OFF_GRID_TYPES
    eg4_hybrid = device_type in EG4_HYBRID_TYPES
    large = not eg4_off_grid and (code in LARGE or device_type in LARGE_TYPES or eg4_hybrid)
    features: set[Feature] = set()
    if large:
        features |= {Feature.GENERATOR, Feature.ON_GRID_LOAD}
    else:
        features |= {Feature.SINGLE_FUNCTIONS, Feature.GREEN_MODE}
    if code not in ACS:
        features.add(Feature.BATTERY_SENSOR)
    if code not in SMALL and code not in SNA:
        features.add(Feature.THIRD_STRING)
    if large or code in (*SMALL, *LB):
        features.add(Feature.PV_START)
    if eg4_hybrid:
        features.add(Feature.GREEN_MODE)
    if eg4_off_grid or eg4_hybrid:
        features.add(Feature.SPLIT_PHASE)
        if not eg4_hybrid:
            features.add(Feature.LEG_APPARENT_POWER)
    unit = PowerUnit.HUNDRED_WATTS if large else PowerUnit.PERCENT if code in SMALL else None
    return Family(100 if code in SMALL else 10, unit, frozenset(features))
