"""The battery block of EG4 and some LXP inverters: up to four packs in inputs 5002 to 5121.

A slot is 30 registers: a header, whose high byte is C0h while a pack is there, and the rows below, numbered from the
header. More than four packs take turns in the slots, so they are told apart by their serial numbers.

Source: joyfulhouse/pylxpweb registers/battery.py; ant0nkr/luxpower-ha-integration; eg4_web_monitor #170, #258.
unconfirmed: no capture of these registers is known to us.
"""

from __future__ import annotations

from bridge.errors import ProtocolError
from bridge.fields import (
    BATTERY_VOLTAGE,
    CAPACITY,
    CELL_VOLTAGE,
    CURRENT,
    CYCLES,
    PERCENT,
    PLAIN,
    SOC,
    TEMPERATURE,
    TEXT,
    VOLTAGE,
    Level,
    Value,
)
from bridge.luxpower.frame import Function, Registers
from bridge.luxpower.models import Family
from bridge.luxpower.plausibility import keep_possible
from bridge.luxpower.rows import Layout, Reader, Row, Table, high, i16, low, text, u16

FIRST_SLOT, SLOTS, SLOT_WORDS, USED_WORDS = 5002, 4, 30, 25
PRESENT = 0xC0
DIAGNOSTIC, HIDDEN = Level.DIAGNOSTIC, Level.HIDDEN

version = Reader("H", 1, 0xFFFF, lambda word: f"{word >> 8}.{word & 0xFF}")

# fmt: off
PACKS = Table(Function.READ_INPUT, (
    Row("capacity", CAPACITY, "Full capacity", 1, level=DIAGNOSTIC, within=(0, 30_000)),
    Row("charge_voltage", VOLTAGE, "Charge voltage", 2, u16, 10, level=DIAGNOSTIC, within=(0, 1000)),
    Row("charge_current_limit", CURRENT, "Charge current limit", 3, u16, 10, level=DIAGNOSTIC, within=(0, 600)),
    Row("discharge_current_limit", CURRENT, "Discharge current limit", 4, u16, 10, level=DIAGNOSTIC, within=(0, 600)),
    Row("cutoff_voltage", VOLTAGE, "Cut-off voltage", 5, u16, 10, level=DIAGNOSTIC, within=(0, 1000)),
    Row("voltage", BATTERY_VOLTAGE, "Voltage", 6, u16, 100, within=(0, 600), core=True),
    Row("current", CURRENT, "Current", 7, i16, 10, within=(-600, 600), core=True),
    Row("soc", SOC, "State of charge", 8, low, within=(0, 100), core=True),
    Row("soh", PERCENT, "State of health", 8, high, within=(0, 100), absent=0),
    Row("cycles", CYCLES, "Cycles", 9, level=DIAGNOSTIC, within=(0, 20_000)),
    Row("max_cell_temp", TEMPERATURE, "Highest cell temperature", 10, i16, 10, within=(-60, 150)),
    Row("min_cell_temp", TEMPERATURE, "Lowest cell temperature", 11, i16, 10, within=(-60, 150)),
    Row("max_cell_voltage", CELL_VOLTAGE, "Highest cell voltage", 12, u16, 1000, within=(0, 5), absent=0),
    Row("min_cell_voltage", CELL_VOLTAGE, "Lowest cell voltage", 13, u16, 1000, within=(0, 5), absent=0),
    Row("max_temp_cell", PLAIN, "Warmest cell", 14, low, level=HIDDEN),
    Row("min_temp_cell", PLAIN, "Coldest cell", 14, high, level=HIDDEN),
    Row("max_voltage_cell", PLAIN, "Fullest cell", 15, low, level=HIDDEN),
    Row("min_voltage_cell", PLAIN, "Emptiest cell", 15, high, level=HIDDEN),
    Row("firmware", TEXT, "Firmware", 16, version, level=DIAGNOSTIC),
    Row("serial", TEXT, "Serial number", 17, text(8), level=DIAGNOSTIC),
))
# fmt: on

_LAYOUT = Layout(PACKS, Family())


def packs_in(frame: Registers) -> tuple[list[dict[str, Value]], list[str]]:
    """Return the packs whose slots lie wholly in a frame of inputs, with all keys each; and what was refused, in words.

    A pack without a serial number, or with an impossible core value, is left out.
    """
    packs, refusals = [], []
    for slot in range(SLOTS):
        offset = 2 * (FIRST_SLOT + slot * SLOT_WORDS - frame.register)
        data = frame.data[offset : offset + 2 * USED_WORDS] if offset >= 0 else b""
        if len(data) < 2 * USED_WORDS or data[1] != PRESENT:
            continue
        values = _LAYOUT.decode(0, data)
        try:
            refusals += keep_possible(_LAYOUT.plan(0, len(data)), values)
        except ProtocolError as err:
            refusals.append(err.detail)
            continue
        if values["serial"] is not None:
            packs.append(values)
    return packs, refusals
