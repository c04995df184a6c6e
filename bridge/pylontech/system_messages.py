"""The RS485 commands 61h to 63h: what newer batteries tell an inverter, for the whole stack at once.

    61h  voltage 2 | current 2s | soc | cycles 2, 2 | soh, lowest | cells and temperatures with their places
    62h  warnings 2 | protections 2
    63h  charge voltage 2 | discharge voltage 2 | charge current 2 | discharge current 2s | status

60h is not read: its layout rests on one emulator. 61h to 63h rest on emulators and converters that agree, but for the
unit of their currents (10 mA or 100 mA), which are therefore not read.
Of their values the ones are published (TOLD) that the modules do not tell one by one: 63h has none of those, so it is
only read where it was recorded.
Source: ai-republic/bms-to-inverter, dalathegreat/Battery-Emulator, Fahmula/esphome-pylontech-rs485.
"""

from __future__ import annotations

from bridge import battery as k
from bridge.fields import PROBLEM, TEMPERATURE, Field, Level, Value
from bridge.pylontech import messages as m
from bridge.pylontech import stack
from bridge.pylontech.plausible import RANGES, check_ranges, ranges_of_all
from bridge.pylontech.values import Values

DIAGNOSTIC = Level.DIAGNOSTIC



def _celsius(raw: int) -> Value:
    """Return 0.1 K above -273.1 °C as °C, None where a battery that has no such value fills its place."""
    return None if raw in m.ABSENT_SENSOR else m.celsius(raw)


# fmt: off
SYSTEM_ANALOG_ROWS = m.Payload("system analog values", (
    m.Row(k.VOLTAGE, "H", m.milli),
    # unconfirmed: the current behind it counts in 10 mA or in 100 mA, the sources differ; so it is not read
    m.Row(k.SOC, "2xB"),
    m.Row(stack.CYCLES_AVERAGE, "H"),
    m.Row(k.CYCLES, "H"),
    m.Row(k.SOH, "B"),
    m.Row(stack.SOH_MIN, "B"),
    m.Row(k.CELL_MAX, "H", m.milli),
    m.Row(stack.CELL_MAX_MODULE, "B", str),
    m.Row(k.CELL_MAX_NUMBER, "B"),
    m.Row(k.CELL_MIN, "H", m.milli),
    m.Row(stack.CELL_MIN_MODULE, "B", str),
    m.Row(k.CELL_MIN_NUMBER, "B"),
    m.Row(Field("cell_average_temperature", TEMPERATURE, "Average cell temperature", level=DIAGNOSTIC), "H", _celsius),
    m.Row(k.HOTTEST, "H", _celsius),
    m.Row(stack.HOTTEST_MODULE, "Bx", str),
    m.Row(k.COLDEST, "H", _celsius),
    m.Row(stack.COLDEST_MODULE, "Bx", str),
    m.Row(k.MOS_TEMPERATURE, "H", _celsius),
    m.Row(Field("mos_max_temperature", TEMPERATURE, "Highest MOSFET temperature", level=DIAGNOSTIC), "H2x", _celsius),
    m.Row(Field("mos_min_temperature", TEMPERATURE, "Lowest MOSFET temperature", level=DIAGNOSTIC), "H2x", _celsius),
    m.Row(k.TEMPERATURE, "H", _celsius),
    m.Row(Field("max_temperature", TEMPERATURE, "Highest module temperature", level=DIAGNOSTIC), "H2x", _celsius),
    m.Row(Field("min_temperature", TEMPERATURE, "Lowest module temperature", level=DIAGNOSTIC), "H2x", _celsius),
))
SYSTEM_RANGES = ranges_of_all(SYSTEM_ANALOG_ROWS.fields) | {
    stack.SOH_MIN.key: RANGES[k.SOH.key],
    stack.CYCLES_AVERAGE.key: RANGES[k.CYCLES.key],
    "mos_max_temperature": RANGES[k.MOS_TEMPERATURE.key],
    "mos_min_temperature": RANGES[k.MOS_TEMPERATURE.key],
}
SYSTEM_MANAGEMENT_ROWS = m.Payload("system management", (
    m.Row(k.CHARGE_VOLTAGE_LIMIT, "H", m.milli),
    # unconfirmed: both current limits behind them count in 10 mA or in 100 mA; so they are not read
    m.Row(k.DISCHARGE_VOLTAGE_LIMIT, "H4x", m.milli),
))
SYSTEM_ALARM_BITS = (
    m.Bit(1, 7, Field("high_voltage_warning", PROBLEM, "High voltage warning")),
    m.Bit(1, 6, Field("low_voltage_warning", PROBLEM, "Low voltage warning")),
    m.Bit(1, 5, Field("cell_high_voltage_warning", PROBLEM, "Cell high voltage warning")),
    m.Bit(1, 4, Field("cell_low_voltage_warning", PROBLEM, "Cell low voltage warning")),
    m.Bit(1, 3, Field("high_temperature_warning", PROBLEM, "High temperature warning")),
    m.Bit(1, 2, Field("low_temperature_warning", PROBLEM, "Low temperature warning")),
    m.Bit(1, 1, Field("mos_temperature_warning", PROBLEM, "MOSFET temperature warning")),
    m.Bit(1, 0, Field("cell_imbalance_warning", PROBLEM, "Cell imbalance warning")),
    m.Bit(2, 7, Field("temperature_difference_warning", PROBLEM, "Temperature difference warning")),
    m.Bit(2, 6, Field("charge_current_warning", PROBLEM, "Charge current warning")),
    m.Bit(2, 5, Field("discharge_current_warning", PROBLEM, "Discharge current warning")),
    m.Bit(2, 4, Field("internal_communication_warning", PROBLEM, "Internal communication warning")),
    m.Bit(3, 7, k.MODULE_OVER_VOLTAGE),
    m.Bit(3, 6, k.MODULE_UNDER_VOLTAGE),
    m.Bit(3, 5, Field("cell_over_voltage", PROBLEM, "Cell over voltage")),
    m.Bit(3, 4, k.CELL_UNDER_VOLTAGE),
    m.Bit(3, 3, k.OVER_TEMPERATURE),
    m.Bit(3, 2, k.UNDER_TEMPERATURE),
    m.Bit(3, 1, Field("mos_over_temperature", PROBLEM, "MOSFET over temperature")),
    m.Bit(4, 6, k.CHARGE_OVER_CURRENT),
    m.Bit(4, 5, k.DISCHARGE_OVER_CURRENT),
    m.Bit(4, 3, k.SYSTEM_FAULT),
)
SYSTEM_ALLOWANCES = (
    m.Bit(1, 7, k.CHARGE_ENABLE),
    m.Bit(1, 6, k.DISCHARGE_ENABLE),
    m.Bit(1, 5, stack.CHARGE_WANTED),
)
# fmt: on


def system_analog(info: bytes) -> Values:
    """Return a stack's values from a 61h reply overheard between an inverter and a battery. Raises ProtocolError."""
    m.check_end(info, SYSTEM_ANALOG_ROWS.size, 0)
    values = SYSTEM_ANALOG_ROWS.decode(info)
    check_ranges(values, ranges=SYSTEM_RANGES)
    return values


def system_alarm(info: bytes) -> Values:
    """Return a stack's warnings and protections from a 62h reply. Raises ProtocolError."""
    m.check_end(info, 4, 0)
    return {bit.field.key: bool(info[bit.byte - 1] >> bit.bit & 1) for bit in SYSTEM_ALARM_BITS}


def system_management(info: bytes) -> Values:
    """Return a stack's voltage limits and allowances from a 63h reply. Raises ProtocolError."""
    m.check_end(info, SYSTEM_MANAGEMENT_ROWS.size + 1, 0)
    values = SYSTEM_MANAGEMENT_ROWS.decode(info)
    check_ranges(values)
    values.update((bit.field.key, bool(info[-1] >> bit.bit & 1)) for bit in SYSTEM_ALLOWANCES)
    return values


# fmt: off
TOLD = tuple(
    row.field for row in SYSTEM_ANALOG_ROWS.rows if row.field in (k.SOH, stack.SOH_MIN) or row.field not in stack.FIELDS
) + tuple(bit.field for bit in SYSTEM_ALARM_BITS)
# fmt: on
_TOLD_KEYS = frozenset(field.key for field in TOLD)


def told(values: Values) -> Values:
    """Return those values of a reply that are published: what the modules tell by themselves is truer."""
    return {key: value for key, value in values.items() if key in _TOLD_KEYS}
