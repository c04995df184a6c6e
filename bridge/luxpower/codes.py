"""Words for the codes and bits that inverters report.

Source: vendor's "Modbus RTU Protocol" 2025-03-13, tables 9 to 12; celsworth/lxp-bridge; pylxpweb constants.
"""

from __future__ import annotations

OTHER = "other"
"""The text of every code without a word of its own; the code itself is published beside it."""


def _numbered(letter: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{letter}{number:03} {name}" for number, name in enumerate(names))


STATUS = {
    0x00: "standby",
    0x01: "fault",
    0x02: "programming",
    0x04: "pv_on_grid",
    0x08: "pv_charging",
    0x0C: "pv_charging_on_grid",
    0x10: "battery_on_grid",
    0x11: "bypass",  # unconfirmed: not in the vendor's table; lxp-bridge and luxmodbus agree, another reads a fault
    0x14: "pv_battery_on_grid",
    0x19: "pv_charging_bypass",  # unconfirmed: only lxp-bridge names it
    0x20: "ac_charging",
    0x28: "pv_ac_charging",
    0x40: "battery_off_grid",
    0x60: "off_grid_battery_charging",
    0x80: "pv_off_grid",
    0x88: "pv_charging_off_grid",
    0xC0: "pv_battery_off_grid",
}
"""State code of input 0."""

OFF_GRID = 0x40
"""State codes from here on are off-grid. Source: eg4_web_monitor."""

FAULTS = _numbered(
    "E",
    "internal communication 1",
    "model fault",
    "battery MOS",  # unconfirmed: reserved in the vendor's table, named by lxp-bridge
    "CT",  # unconfirmed: as bit 2
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "parallel CAN communication",
    "parallel: no primary",
    "parallel: several primaries or different ratings",
    "parallel: AC or safety setting differs",
    "UPS output short circuit",
    "UPS reverse current",
    "DC bus short",
    "phase error in a three-phase system",
    "relay check",
    "internal communication 2",
    "internal communication 3",
    "DC bus overvoltage",
    "EPS connection",
    "PV overvoltage",
    "over current",
    "neutral",
    "PV short",
    "heat sink temperature",
    "internal, bus sampling",
    "main and redundant CPU disagree",
    "parallel sync lost or generator connection",
    "parallel sync trigger lost",
    "reserved",
    "internal communication 4",
)
"""Bits of inputs 60 and 61, lowest first: E000 to E031."""

WARNINGS = _numbered(
    "W",
    "no communication with battery",
    "AFCI communication",
    "AFCI alarm or battery low temperature",
    "no communication with meter",
    "battery forbids charge and discharge",
    "auto test failed",
    "RSD active",
    "LCD communication",
    "firmware versions mismatch",
    "fan stuck",
    "grid overload",  # unconfirmed: reserved but on TriP models
    "parallel: too many units",
    "battery MOS, or phase missing in parallel",
    "over temperature, or parallel: no primary",
    "parallel: several primaries",
    "battery reversed",
    "no grid",
    "grid voltage out of range",
    "grid frequency out of range",
    "parallel: AC inconsistent",  # unconfirmed: reserved in the newer table
    "PV insulation low",
    "leakage current high",
    "DC injection high",
    "PV short",
    "GFCI module",  # unconfirmed: reserved but on TriP models
    "battery overvoltage",
    "battery undervoltage",
    "battery open",
    "EPS overload",
    "EPS voltage high",
    "meter reversed",
    "DC voltage on EPS high",
)
"""Bits of inputs 62 and 63, lowest first: W000 to W031."""

BMS_FAULTS = {
    0: "none",
    1: "cell overvoltage",
    2: "cell undervoltage",
    3: "pack overvoltage",
    4: "pack undervoltage",
    5: "charge overtemperature",
    6: "charge undertemperature",
    7: "discharge overtemperature",
    8: "low temperature",
    9: "charge overcurrent",
    10: "discharge overcurrent",
    11: "short circuit",
    12: "MOSFET temperature",
    13: "unbalance",
    14: "overcapacity",
}
"""Input 99. unconfirmed: only pylxpweb reads it as an enumeration, and calls that provisional."""

PARALLEL_ROLES = {1: "primary", 2: "secondary"}
PHASES = {1: "R", 2: "S", 3: "T"}

AC_CHARGE_TYPES = {0: "off", 1: "time", 2: "voltage", 3: "soc", 4: "voltage_and_time", 5: "soc_and_time"}
"""Hold 120 bits 1 to 3 on small models; the 12K counts differently."""
DISCHARGE_CONTROLS = {0: "voltage", 1: "soc", 2: "both"}
VOLTAGE_OR_SOC = {0: "voltage", 1: "soc"}
SOC_OR_VOLTAGE = {0: "soc", 1: "voltage"}
OUTPUT_PRIORITIES = {0: "battery_first", 1: "pv_first", 2: "ac_first"}
LINE_MODES = {0: "apl", 1: "ups", 2: "gen"}
LANGUAGES = {0: "english", 1: "german"}
SYSTEM_TYPES = {
    0: "single",
    1: "parallel_primary",
    2: "parallel_secondary",
    3: "three_phase_primary",
    4: "two_leg_208_primary",
}
GRID_TYPES = {
    0: "split_240_120",
    1: "three_phase_208_120",
    2: "single_240",
    3: "single_230",
    4: "split_200_100",
}
REACTIVE_POWER_MODES = {
    0: "unity",
    1: "fixed_pf",
    2: "default_curve",
    3: "custom_curve",
    4: "capacitive_percent",
    5: "inductive_percent",
    6: "q_of_v",
    7: "q_of_v_dynamic",
}


def names_of_bits(names: tuple[str, ...], word: int) -> str:
    """Return all set bits in words, "E016 relay check, E020 EPS connection", or "none"."""
    if not word:
        return "none"
    return ", ".join(name for bit, name in enumerate(names) if word >> bit & 1) or "none"
