"""Payloads of the RS485 frames: requests, and what each reply's INFO means.

    42h  infoflag | count or echo | per module: M | cells 2 each | N | temperatures 2 each | current 2s | voltage 2 |
         remaining 2 | items | total 2 | cycles 2 | with items >= 4: remaining 3 | total 3
    44h  dataflag | count or echo | per module: M | cell states | N | temperature states | 3 states | status 1 to 5
    92h  echo | charge voltage 2 | discharge voltage 2 | charge current 2s | discharge current 2s | status

Voltages in mV, currents in 0.1 A (positive while charging), temperatures in 0.1 K above 273.1 K,
capacities in mAh; big-endian. The second byte is the number of modules when a whole group was asked
(INFO FF), else the echo of the asked byte: the request decides, and the length must fit exactly.
Source: vendor's RS485 protocol, low voltage, V3.3, section 3; the captures of tests/captures/pylontech.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from bridge import battery as k
from bridge.errors import ProtocolError
from bridge.fields import (
    BATTERY_VOLTAGE,
    CELL_VOLTAGE,
    CURRENT,
    FLAG,
    TEMPERATURE,
    TEXT,
    Field,
    Level,
    Quantity,
    Value,
)
from bridge.pylontech import values as v
from bridge.pylontech.frame import encode
from bridge.pylontech.plausible import (
    RANGES,
    check_capacity,
    check_cells,
    check_ranges,
    ranges_of,
    ranges_of_all,
    refuse,
)
from bridge.pylontech.values import Values

DIAGNOSTIC, HIDDEN = Level.DIAGNOSTIC, Level.HIDDEN

ANALOG, ALARM, PARAMETERS, VERSION_OF_PROTOCOL = 0x42, 0x44, 0x47, 0x4F
IDENTITY, MANAGEMENT, SERIAL_NUMBER, FIRMWARE = 0x51, 0x92, 0x93, 0x96
SYSTEM_ANALOG, SYSTEM_ALARM = 0x61, 0x62

BARE = frozenset({PARAMETERS, VERSION_OF_PROTOCOL, IDENTITY, SYSTEM_ANALOG, SYSTEM_ALARM})
"""Commands without INFO; the others name the module again in one byte."""
READING = BARE | {ANALOG, ALARM, MANAGEMENT, SERIAL_NUMBER, FIRMWARE}
"""All this bridge ever sends: 94h (set limits), 95h (turn off) and 99h (buzzer) write and are not among them."""
WHOLE_GROUP = b"\xff"


def request(command: int, address: int) -> bytes:
    """Return the frame that asks one module: `address` is group * 16 + number, the master's number is 2."""
    if command not in READING:
        raise ValueError(f"command {command:02X}h is not one that reads")
    return encode(address, command, b"" if command in BARE else bytes([address]))


def group_request(command: int, group: int) -> bytes:
    """Return the frame that asks all modules of a group (0 to 15) at once; not every model answers it."""
    if command not in (ANALOG, ALARM, MANAGEMENT) or group not in range(16):
        raise ValueError(f"command {command:02X}h to group {group} does not exist")
    return encode(group * 16 + 2, command, WHOLE_GROUP)


# -- 42h: analog values ------------------------------------------------------------------------------------------------

LAST_CELL_SENSOR = max(v.TEMPERATURE_GROUPS)
ABSENT_SENSOR = (0x0000, 0xFFFF)

MEASURED = (
    k.VOLTAGE,
    k.CURRENT,
    k.POWER,
    k.SOC,
    k.REMAINING,
    k.TOTAL,
    k.CYCLES,
    k.TEMPERATURE,
    *v.CELL_EXTREMES,
    k.COLDEST,
    k.COLDEST_SENSOR,
    k.HOTTEST,
    k.HOTTEST_SENSOR,
)
MEASURED_RANGES = ranges_of(MEASURED)


@dataclass(frozen=True, slots=True)
class _Shape:
    """A module's 42h record with so many cells and temperatures: how it is unpacked, and the keys of its values."""

    record: struct.Struct
    cells: int
    sensors: int
    keys: tuple[str, ...]


@lru_cache(maxsize=v.SHAPES)
def _shape(cells: int, sensors: int) -> _Shape:
    fields = (*MEASURED, *v.temperatures(sensors)[1:], *v.cell_voltages(cells))
    return _Shape(
        struct.Struct(f">x{cells}Hx{sensors}HhHHBHH"), cells, sensors, tuple(field.key for field in fields)
    )


def analog(info: bytes, address: int) -> Values:
    """Return what one module measures, from the INFO of its own 42h reply.

    Keys: `MEASURED`, the cells and the temperatures, as many as the frame announces. `soc` is None
    when the total capacity is 0; a temperature is None where the sensor is absent.
    Raises ProtocolError: "length" when the counts do not fit, "foreign" when another module is echoed,
    "format" for contradicting capacities, "implausible" for what no module can mean.
    """
    _check_echo(info, 1, address)
    values, end, items = _analog_record(info, 2)
    # Items beyond the fourth are not documented; a reply without them ends right behind its last value.
    check_end(info, end, 16 if items > 4 else 0)
    return values


def analog_group(info: bytes) -> list[Values | None]:
    """Return what each module of a group measures, master first, from the reply to INFO FF.

    unconfirmed: a module that sleeps may stand there filled with zeros; it is given as None.
    """
    modules: list[Values | None] = []
    end = 2
    for _ in range(_module_count(info)):
        asleep = _zero_record_end(info, end)
        if asleep is None:
            values, end, _items = _analog_record(info, end)
            modules.append(values)
        else:
            modules.append(None)
            end = asleep
    check_end(info, end, 0)
    return modules


def _zero_record_end(info: bytes, at: int) -> int | None:
    """Return the end of a record that has counts but no other byte than 0, None for any other record."""
    try:
        sensors_at = at + 1 + 2 * info[at]
        items_at = sensors_at + 1 + 2 * info[sensors_at] + 6
        end = items_at + (11 if info[items_at] >= 4 else 5)
        known = {at, sensors_at, items_at}
    except IndexError:
        return None
    return None if any(info[n] for n in range(at, min(end, len(info))) if n not in known) else end


def _analog_record(info: bytes, at: int) -> tuple[Values, int, int]:
    """Return one module's values, where its record ends and its item count."""
    try:
        shape = _shape(info[at], info[at + 1 + 2 * info[at]])
        raw = shape.record.unpack_from(info, at)
    except (IndexError, struct.error) as err:
        raise ProtocolError("length", "the announced cells and temperatures run past the end", info) from err
    if not shape.cells or not shape.sensors:
        raise refuse(f"{shape.cells} cells and {shape.sensors} temperatures")
    end = at + shape.record.size
    current, voltage, remaining, items, total, cycles = raw[-6:]
    if items != 2:
        remaining, total, end = _long_capacities(info, end, remaining, items, total)
    elif remaining == 0xFFFF or total == 0xFFFF:
        raise ProtocolError("format", "two capacity items, but one of them says to look further", info)
    millivolts = raw[: shape.cells]
    check_cells(millivolts, voltage)
    check_capacity(remaining, total)
    degrees = [None if kelvin in ABSENT_SENSOR else (kelvin - 2731) / 10 for kelvin in raw[shape.cells : -6]]
    low, high = min(millivolts), max(millivolts)
    # In the order of _Shape.keys, which begins with MEASURED.
    values: Values = dict(zip(shape.keys, (
        voltage / 1000, current / 10, round(voltage * current / 10000, 2),
        round(100 * remaining / total, 2) if total else None, remaining / 1000, total / 1000, cycles, degrees[0],
        low / 1000, millivolts.index(low) + 1, high / 1000, millivolts.index(high) + 1, (high - low) / 1000,
        *_cell_temperatures(degrees), *degrees[1:], *[value / 1000 for value in millivolts],
    ), strict=True))  # fmt: skip
    check_ranges(values, ranges=MEASURED_RANGES)
    return values, end, items


def _long_capacities(info: bytes, end: int, remaining: int, items: int, total: int) -> tuple[int, int, int]:
    """Return the three-byte capacities of modules over 65 Ah, and where they end."""
    if items < 4 or remaining != 0xFFFF or total != 0xFFFF:
        raise ProtocolError("format", f"{items} capacity items with {remaining} of {total} mAh in the short ones", info)
    if len(info) < end + 6:
        raise ProtocolError("length", f"{items} capacity items, but the reply ends before them", info)
    return int.from_bytes(info[end : end + 3], "big"), int.from_bytes(info[end + 3 : end + 6], "big"), end + 6


def _cell_temperatures(degrees: Sequence[float | None]) -> tuple[Value, Value, Value, Value]:
    """Return lowest and its sensor, highest and its sensor, of the sensors that sit at cells; None without any.

    Raises ProtocolError "implausible" for any sensor that is neither absent nor in range.
    """
    lowest, highest = RANGES[k.TEMPERATURE.key]
    for value in degrees:
        if value is not None and not lowest <= value <= highest:
            raise refuse(f"a temperature of {value} °C")
    known = [value for value in degrees[1:LAST_CELL_SENSOR] if value is not None]
    if not known:
        return None, None, None, None
    low, high = min(known), max(known)
    return low, degrees.index(low, 1) + 1, high, degrees.index(high, 1) + 1


def _check_echo(info: bytes, place: int, address: int) -> None:
    """Raise ProtocolError "foreign" unless the reply echoes the asked module.

    unconfirmed: in groups above 0 a battery may echo its number without the group.
    """
    if len(info) <= place:
        raise ProtocolError("length", f"{len(info)} bytes of INFO", info)
    if info[place] not in (address, address & 0x0F):
        raise ProtocolError("foreign", f"module {info[place]:02X}h echoed, {address:02X}h was asked", info)


def _module_count(info: bytes) -> int:
    if len(info) < 2:
        raise ProtocolError("length", f"{len(info)} bytes of INFO", info)
    if not 1 <= info[1] <= 16:
        raise refuse(f"a group of {info[1]} modules")
    return info[1]


def check_end(info: bytes, end: int, tolerated: int) -> None:
    """Raise ProtocolError "length" unless INFO ends there, or by at most so many bytes later."""
    if not 0 <= len(info) - end <= tolerated:
        raise ProtocolError("length", f"{len(info)} bytes of INFO, {end} of them explained", info)


# -- 44h: alarms and states --------------------------------------------------------------------------------------------

STATES = {0x00: "normal", 0x01: "low", 0x02: "high", 0xF0: "error"}
"""State of a cell, a temperature, a current or the voltage: codes, not bits. Low and high already protect."""
LISTED = tuple(STATES.values())[1:]
EXTRA = 8
"""Bytes tolerated behind a module's status 5: C models append one that no document explains."""

# fmt: off
CELL_LISTS = (k.CELLS_LOW, k.CELLS_HIGH, k.CELLS_ERROR)
SENSOR_LISTS = (k.TEMPERATURES_LOW, k.TEMPERATURES_HIGH, k.TEMPERATURES_ERROR)
"""In the order of LISTED."""
SINGLE_STATES = (k.CHARGE_CURRENT_STATE, k.VOLTAGE_STATE, k.DISCHARGE_CURRENT_STATE)
FAULTY_CELLS = Field("faulty_cells", TEXT, "Faulty cells", level=DIAGNOSTIC)
# fmt: on


@dataclass(frozen=True, slots=True)
class Bit:
    """One bit of a status byte (1 to 3); `short` is its name on the battery monitors of old."""

    byte: int
    bit: int
    field: Field
    short: str = ""


# fmt: off
BITS = (
    Bit(1, 7, k.MODULE_UNDER_VOLTAGE, "UV"),
    Bit(1, 6, k.CHARGE_OVER_TEMPERATURE, "CHG_OT"),
    Bit(1, 5, k.DISCHARGE_OVER_TEMPERATURE, "DIS_OT"),
    Bit(1, 4, k.DISCHARGE_OVER_CURRENT, "DIS_OC"),
    Bit(1, 2, k.CHARGE_OVER_CURRENT, "CHG_OC"),
    Bit(1, 1, k.CELL_UNDER_VOLTAGE, "CELL_UV"),
    Bit(1, 0, k.MODULE_OVER_VOLTAGE, "OV"),
    Bit(2, 3, Field("on_battery_power", FLAG, "Powered from its own cells", level=DIAGNOSTIC), "ONBAT"),
    Bit(2, 2, k.DISCHARGE_FET, "DIS_FET"),
    Bit(2, 1, k.CHARGE_FET, "CHG_FET"),
    Bit(2, 0, Field("pre_charge_fet_on", FLAG, "Pre-charge MOSFET on", level=HIDDEN)),
    Bit(3, 7, Field("effective_charge_current", FLAG, "Effective charge current", level=DIAGNOSTIC), "ECC"),
    Bit(3, 6, Field("effective_discharge_current", FLAG, "Effective discharge current", level=DIAGNOSTIC), "EDC"),
    Bit(3, 5, Field("heater", FLAG, "Heater on", level=HIDDEN)),
    Bit(3, 3, v.FULLY_CHARGED, "FULL"),
    Bit(3, 0, Field("buzzer", FLAG, "Buzzer sounding", level=DIAGNOSTIC), "BUZ"),
)
# fmt: on
ALARM_FIELDS = (
    *(bit.field for bit in BITS),
    k.CELL_FAULT,
    FAULTY_CELLS,
    *CELL_LISTS,
    *SENSOR_LISTS,
    *SINGLE_STATES,
)


def alarm(info: bytes, address: int) -> Values:
    """Return one module's alarms and states, from the INFO of its own 44h reply; keys: ALARM_FIELDS.

    Lists of cells and sensors are their numbers from 1, "" when there is none.
    Raises ProtocolError: "length", "foreign", and "implausible" for a state code that does not exist
    or a fault of a cell that does not.
    """
    _check_echo(info, 1, address)
    values, end = _alarm_record(info, 2)
    check_end(info, end, EXTRA)
    return values


def alarm_group(info: bytes) -> list[Values]:
    """Return the alarms of each module of a group, master first, from the reply to INFO FF.

    Modules with a byte behind status 5 are told by the length: it divides by their number and each
    record starts with the same counts. unconfirmed: that each module of a group has such a byte, not the group one.
    Raises as `alarm` does, "length" when no reading fits.
    """
    count = _module_count(info)
    size, rest = divmod(len(info) - 2, count)
    starts = [2 + n * size for n in range(count)]
    if not rest and size and len({info[start] for start in starts}) == 1:
        records = [_alarm_record(info, start) for start in starts]
        if all(start + size - EXTRA <= end <= start + size for start, (_, end) in zip(starts, records, strict=True)):
            return [values for values, _ in records]
    modules, end = [], 2
    for _ in range(count):
        values, end = _alarm_record(info, end)
        modules.append(values)
    check_end(info, end, 0)
    return modules


def _alarm_record(info: bytes, at: int) -> tuple[Values, int]:
    try:
        sensors_at = at + 1 + info[at]
        singles_at = sensors_at + 1 + info[sensors_at]
    except IndexError as err:
        raise ProtocolError("length", "the announced cells and temperatures run past the end", info) from err
    end = singles_at + 8
    if len(info) < end:
        raise ProtocolError("length", "the announced cells and temperatures run past the end", info)
    cells, sensors = info[at + 1 : sensors_at], info[sensors_at + 1 : singles_at]
    status = info[singles_at + 3 : end]
    values: Values = {bit.field.key: bool(status[bit.byte - 1] >> bit.bit & 1) for bit in BITS}
    faulty = status[3] | status[4] << 8
    if not cells or faulty >> len(cells):
        raise refuse(f"fault bits {faulty:04X}h with {len(cells)} cells")
    values[k.CELL_FAULT.key] = bool(faulty)
    values[FAULTY_CELLS.key] = " ".join(str(n + 1) for n in range(16) if faulty >> n & 1)
    values.update(_lists(CELL_LISTS, cells))
    values.update(_lists(SENSOR_LISTS, sensors))
    for field, code in zip(SINGLE_STATES, info[singles_at:], strict=False):
        values[field.key] = _state(code)
    return values, end


def _lists(fields: Sequence[Field], codes: bytes) -> Values:
    if not any(codes):
        return {field.key: "" for field in fields}
    states = [_state(code) for code in codes]
    numbers = ((field, [str(n) for n, state in enumerate(states, 1) if state == name])
               for field, name in zip(fields, LISTED, strict=True))  # fmt: skip
    return {field.key: " ".join(found) for field, found in numbers}


def _state(code: int) -> str:
    state = STATES.get(code)
    if state is None:
        raise refuse(f"state code {code:02X}h")
    return state


# -- fixed payloads ----------------------------------------------------------------------------------------------------


def plain(raw: int) -> Value:
    """Return the number as it is."""
    return raw


def milli(raw: int) -> Value:
    """Return mV, mA or mAh as V, A or Ah."""
    return raw / 1000


def tenth(raw: int) -> Value:
    """Return a count of 0.1 as a number."""
    return raw / 10


def magnitude(raw: int) -> Value:
    """Return 0.1 A in either direction as A: batteries send discharge limits negative."""
    return abs(raw) / 10


def celsius(raw: int) -> Value:
    """Return 0.1 K above -273.1 °C as °C."""
    return (raw - 2731) / 10


def text(raw: bytes) -> Value:
    """Return ASCII without its padding of NUL, blank or dash; None when nothing else is there.

    Raises ProtocolError "implausible" for bytes that are no printable ASCII.
    """
    stripped = raw.rstrip(b"\0 -").lstrip(b"\0 ")
    if not stripped:
        return None
    decoded = stripped.decode("ascii", "replace")
    if not decoded.isascii() or not decoded.isprintable():
        raise refuse(f"a name or serial number of {raw.hex(' ')}")
    return decoded


def version(raw: bytes) -> Value:
    """Return version bytes as numbers with dots: 02 03 is "2.3"."""
    return ".".join(str(part) for part in raw)


@dataclass(frozen=True, slots=True)
class Row:
    """One value of a fixed payload: what it is, how struct unpacks it, how its raw form is read."""

    field: Field
    code: str
    read: Callable[..., Value] = plain


class Payload:
    """A payload of fixed size, one row a value, in the order of the frame; big-endian."""

    def __init__(self, name: str, rows: Sequence[Row]) -> None:
        self.name = name
        self.rows = tuple(rows)
        self.fields = tuple(row.field for row in rows)
        self._struct = struct.Struct(">" + "".join(row.code for row in rows))
        self.size = self._struct.size

    def decode(self, info: bytes, at: int = 0) -> Values:
        """Return the values at `at`; raises ProtocolError "length" when they are not all there."""
        if len(info) < at + self.size:
            raise ProtocolError("length", f"{len(info)} bytes are too short for {self.name}", info)
        raw = self._struct.unpack_from(info, at)
        return {row.field.key: row.read(value) for row, value in zip(self.rows, raw, strict=True)}


def _hidden(key: str, quantity: Quantity, name: str) -> Field:
    return Field(key, quantity, name, level=HIDDEN)


# fmt: off
MANAGEMENT_ROWS = Payload("charge and discharge management", (
    Row(k.CHARGE_VOLTAGE_LIMIT, "H", milli),
    Row(k.DISCHARGE_VOLTAGE_LIMIT, "H", milli),
    Row(k.CHARGE_CURRENT_LIMIT, "h", tenth),
    Row(k.DISCHARGE_CURRENT_LIMIT, "h", magnitude),
))
ALLOWANCES = (
    Bit(1, 7, k.CHARGE_ENABLE, "CE"),
    Bit(1, 6, k.DISCHARGE_ENABLE, "DE"),
    Bit(1, 5, k.CHARGE_IMMEDIATELY_1, "CI1"),
    Bit(1, 4, k.CHARGE_IMMEDIATELY_2, "CI2"),
    Bit(1, 3, k.FULL_CHARGE_REQUEST, "FCR"),
)
"""Bits of the status byte behind MANAGEMENT_ROWS. CI1 and CI2 stand for other SOC ranges on other models and
are no severities. Source: V3.3 section 3.6."""

PARAMETER_ROWS = Payload("system parameters", (
    Row(_hidden("cell_high_voltage_protection", CELL_VOLTAGE, "Cell high voltage protection"), "H", milli),
    Row(_hidden("cell_low_voltage_alarm", CELL_VOLTAGE, "Cell low voltage alarm level"), "H", milli),
    Row(_hidden("cell_under_voltage_protection", CELL_VOLTAGE, "Cell under voltage protection"), "H", milli),
    Row(_hidden("charge_high_temperature_protection", TEMPERATURE, "Charge high temperature"), "H", celsius),
    Row(_hidden("charge_low_temperature_protection", TEMPERATURE, "Charge low temperature"), "H", celsius),
    Row(_hidden("charge_current_protection", CURRENT, "Charge current protection"), "h", tenth),
    Row(_hidden("module_high_voltage_protection", BATTERY_VOLTAGE, "Module high voltage protection"), "H", milli),
    Row(_hidden("module_low_voltage_alarm", BATTERY_VOLTAGE, "Module low voltage alarm level"), "H", milli),
    Row(_hidden("module_under_voltage_protection", BATTERY_VOLTAGE, "Module under voltage protection"), "H", milli),
    Row(_hidden("discharge_high_temperature_protection", TEMPERATURE, "Discharge high temperature"), "H", celsius),
    Row(_hidden("discharge_low_temperature_protection", TEMPERATURE, "Discharge low temperature"), "H", celsius),
    Row(_hidden("discharge_current_protection", CURRENT, "Discharge current protection"), "h", magnitude),
))
"""Fixed protection levels, not the live limits; answered for the model, not for one module."""
PARAMETER_RANGES = ranges_of_all(PARAMETER_ROWS.fields)

IDENTITY_ROWS = Payload("manufacturer", (
    Row(v.MODEL, "10s", text),
    Row(v.SOFTWARE, "2s", version),
    Row(v.MANUFACTURER, "20s", text),
))
"""Of the master, whichever address is asked."""
SERIAL_ROWS = Payload("serial number", (Row(k.SERIAL, "16s", text),))
FIRMWARE_ROWS = Payload("firmware", (
    Row(Field("manufacturer_version", TEXT, "Manufacturer version", level=HIDDEN), "2s", version),
    Row(Field("mainline_version", TEXT, "Main line version", level=DIAGNOSTIC), "3s", version),
))
# fmt: on
MANAGEMENT_FIELDS = (*MANAGEMENT_ROWS.fields, *(bit.field for bit in ALLOWANCES))


def management(info: bytes, address: int) -> Values:
    """Return what one module allows and wishes, from its 92h reply; keys: MANAGEMENT_FIELDS.

    Limits are of this module alone. Raises ProtocolError: "length", "foreign", "implausible".
    """
    _check_echo(info, 0, address)
    check_end(info, 10, 0)
    return _management_record(info, 1)


def management_group(info: bytes) -> list[Values]:
    """Return what each module allows, from the reply to INFO FF over the RS232 port: a count, then records.

    Source: vendor's RS232 protocol V2.8, section 3.9; no capture of it is known.
    """
    if not info or not 1 <= info[0] <= 16:
        raise ProtocolError("length", f"{len(info)} bytes of INFO", info)
    check_end(info, 1 + 9 * info[0], 0)
    return [_management_record(info, 1 + 9 * n) for n in range(info[0])]


def _management_record(info: bytes, at: int) -> Values:
    values = MANAGEMENT_ROWS.decode(info, at)
    check_ranges(values)
    status = info[at + MANAGEMENT_ROWS.size]
    if status & 0x07:
        raise refuse(f"management status {status:02X}h")
    values.update((bit.field.key, bool(status >> bit.bit & 1)) for bit in ALLOWANCES)
    return values


def parameters(info: bytes) -> Values:
    """Return the protection levels of a 47h reply; keys: PARAMETER_ROWS.fields.

    Raises ProtocolError: "length", "implausible".
    """
    check_end(info, 1 + PARAMETER_ROWS.size, 0)
    values = PARAMETER_ROWS.decode(info, 1)
    check_ranges(values, ranges=PARAMETER_RANGES)
    return values


def identity(info: bytes) -> Values:
    """Return model, software version and manufacturer of a 51h reply. Raises ProtocolError."""
    check_end(info, IDENTITY_ROWS.size, 0)
    return IDENTITY_ROWS.decode(info)


def serial_number(info: bytes, address: int) -> Values:
    """Return the serial number of a 93h reply, None when it is blank. Raises ProtocolError."""
    _check_echo(info, 0, address)
    check_end(info, 1 + SERIAL_ROWS.size, 0)
    return SERIAL_ROWS.decode(info, 1)


def firmware(info: bytes, address: int) -> Values:
    """Return the versions of a 96h reply. Raises ProtocolError."""
    _check_echo(info, 0, address)
    check_end(info, 1 + FIRMWARE_ROWS.size, 0)
    return FIRMWARE_ROWS.decode(info, 1)


def protocol_version(frame_version: int) -> str:
    """Return the version that a 4Fh reply carries in its VER byte: 20h is "2.0"."""
    return f"{frame_version >> 4}.{frame_version & 15}"


def module_fields(cells: int, sensors: int) -> tuple[Field, ...]:
    """Return every field of a module read over RS485, for its cells and temperatures."""
    return (
        *MEASURED,
        *v.temperatures(sensors)[1:],
        *v.cell_voltages(cells),
        *MANAGEMENT_FIELDS,
        *ALARM_FIELDS,
        *SERIAL_ROWS.fields,
        *FIRMWARE_ROWS.fields,
    )
