"""The RS232 console's tables and what they mean; `console_frame` cuts the answers they stand in.

There is no checksum. A table is taken only when its header is known and its rows are complete. A lost
character shortens a number without a trace but one: the rest of its line moves. So columns must stand in line.
Columns are found by their header: firmware since 2024 has more of them, rows of absent modules keep the old
layout. "-" is "not available".
Voltages in mV, currents in mA (positive while charging), temperatures in 0.001 °C, charge in mAh.
Source: console captures of US2000C, US3000C, US5000 and US3000D, described in tests/captures/pylontech.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from bridge.errors import ProtocolError
from bridge.fields import (
    CAPACITY,
    COUNT,
    CURRENT,
    FLAG,
    PLAIN,
    SOC,
    TEMPERATURE,
    TEXT,
    Field,
    Level,
    Quantity,
    Value,
)
from bridge.pylontech import stack
from bridge.pylontech import values as v
from bridge.pylontech.plausible import check_ranges, refuse
from bridge.pylontech.values import Values, number

DIAGNOSTIC, HIDDEN = Level.DIAGNOSTIC, Level.HIDDEN

# -- words -------------------------------------------------------------------------------------------------------------

BASE_STATES = {
    "Idle": "idle", "Charge": "charging", "Dischg": "discharging", "Balance": "balancing", "SysError": "error",
    "Sleep": "sleeping",
}  # fmt: skip
"""unconfirmed: Balance, SysError and Sleep are known from other programs only."""
CONDITIONS = {
    "Normal": "normal", "Low": "low", "High": "high", "OV": "over voltage", "UV": "under voltage",
    "OT": "over temperature", "UT": "under temperature", "SC": "short circuit", "COC": "charge over current",
    "COC2": "charge over current 2", "DOC": "discharge over current", "DOC2": "discharge over current 2",
    "COCAlm": "charge current warning", "DOCAlm": "discharge current warning", "Sleep": "sleeping", "Full": "full",
}  # fmt: skip
ABSENT = "Absent"


_STATE = re.compile(r"[A-Za-z][A-Za-z0-9.]{0,15}")


def _word(text: str, words: Mapping[str, str]) -> str | None:
    """Return what a state means; an unknown one is shown as it is and called unknown. None for "-"."""
    if text == "-":
        return None
    parts = [part for part in re.split(r"[ ,|/]+", text) if part]
    if not parts or not all(_STATE.fullmatch(part) for part in parts):
        raise ProtocolError("format", f"{text[:40]!r} is no state")
    return ", ".join(words.get(part, f"unknown {part}") for part in parts)


def _base(text: str) -> Value:
    return _word(text, BASE_STATES)


def _condition(text: str) -> Value:
    return _word(text, CONDITIONS)


_INTEGER = re.compile(r"-?[0-9]{1,12}")


def _integer(text: str) -> int | None:
    """Return a whole number, None for "-"; raises ProtocolError "format" for anything else."""
    if text == "-":
        return None
    if not _INTEGER.fullmatch(text):
        raise ProtocolError("format", f"{text[:40]!r} is no number")
    return int(text)


def _milli(text: str) -> Value:
    raw = _integer(text)
    return None if raw is None else raw / 1000


def _milli_size(text: str) -> Value:
    raw = _integer(text)
    return None if raw is None else abs(raw) / 1000


def _cell(text: str) -> Value:
    """Cells are counted from 0 on the console, from 1 everywhere else."""
    raw = _integer(text)
    return None if raw is None else raw + 1


def _percent(text: str) -> Value:
    return None if text == "-" else _integer(text.removesuffix("%"))


def _words(text: str) -> Value:
    return None if text in ("-", "") else text


def _on(text: str) -> Value:
    states = {"ON": True, "OFF": False, "-": None, "Y": True, "N": False}
    if text.upper() not in states:
        raise ProtocolError("format", f"{text[:40]!r} is neither on nor off")
    return states[text.upper()]


def _hex(text: str) -> int:
    head = text.split()[0] if text else ""
    if not re.fullmatch(r"0x[0-9A-Fa-f]{1,8}", head):
        raise ProtocolError("format", f"{text[:40]!r} is no hex number")
    return int(head, 16)


def _event_word(text: str) -> Value:
    return _hex(text)


# -- pwr: one row a module ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Column:
    """One value of a table's row: under which header it stands, and how its text is read."""

    header: str
    field: Field
    read: Callable[[str], Value] = _integer


def _diagnostic(key: str, quantity: Quantity, name: str) -> Field:
    return Field(key, quantity, name, level=DIAGNOSTIC)


BASE_STATE = Field("state", TEXT, "State")
CURRENT_STATE = _diagnostic("current_state", TEXT, "Current state")
TEMPERATURE_STATE = _diagnostic("temperature_state", TEXT, "Temperature state")

# fmt: off
PWR = (
    Column("Volt", v.VOLTAGE, _milli),
    Column("Curr", v.MODULE_CURRENT, _milli),
    Column("Tempr", v.MODULE_TEMPERATURE, _milli),
    Column("Tlow", v.CELL_COLDEST, _milli),
    Column("Tlow.Id", _diagnostic("cell_min_temperature_number", PLAIN, "Cell with the lowest temperature"), _cell),
    Column("Thigh", v.CELL_HOTTEST, _milli),
    Column("Thigh.Id", _diagnostic("cell_max_temperature_number", PLAIN, "Cell with the highest temperature"), _cell),
    Column("Vlow", v.CELL_MIN, _milli),
    Column("Vlow.Id", v.CELL_MIN_NUMBER, _cell),
    Column("Vhigh", v.CELL_MAX, _milli),
    Column("Vhigh.Id", v.CELL_MAX_NUMBER, _cell),
    Column("Base.St", BASE_STATE, _base),
    Column("Volt.St", v.VOLTAGE_STATE, _condition),
    Column("Curr.St", CURRENT_STATE, _condition),
    Column("Temp.St", TEMPERATURE_STATE, _condition),
    Column("Coulomb", v.STATE_OF_CHARGE, _percent),
    Column("Time", _diagnostic("module_time", TEXT, "Module's clock"), _words),
    Column("B.V.St", _diagnostic("cell_voltage_state", TEXT, "Cell voltage state"), _condition),
    Column("B.T.St", _diagnostic("cell_temperature_state", TEXT, "Cell temperature state"), _condition),
    Column("MosTempr", v.MOS_TEMPERATURE, _milli),
    Column("M.T.St", _diagnostic("mos_temperature_state", TEXT, "MOSFET temperature state"), _condition),
    Column("SysAlarm.St", _diagnostic("system_alarm_state", TEXT, "System alarm state"), _condition),
)
# fmt: on
PWR_NEEDED = {"Volt", "Curr", "Tempr", "Vlow", "Vhigh", "Base.St", "Coulomb"}
SYNONYMS = {"No": "Power", "Vlowest": "Vlow", "Vhighest": "Vhigh"}
PWR_FIELDS = (*(column.field for column in PWR), v.POWER, v.CELL_SPREAD)


@dataclass(frozen=True, slots=True)
class Modules:
    """A `pwr` answer: the modules that are there, the positions that are empty, and the rows refused."""

    present: Mapping[int, Values]
    absent: frozenset[int]
    refused: tuple[ProtocolError, ...]


def modules(lines: Sequence[str]) -> Modules:
    """Return the modules of a `pwr` answer's lines, by position from 1; keys: those of PWR_FIELDS in its header.

    A row that does not fit the header or does not make sense is left out and named; the others hold.
    A position that is neither present nor absent has told nothing.
    Raises ProtocolError "format" when there is no table, or no row of it that holds.
    """
    columns, rows = _table(lines, "Power")
    if missing := PWR_NEEDED - {column.text for column in columns}:
        raise ProtocolError("format", f"columns {', '.join(sorted(missing))} are missing")
    present: dict[int, Values] = {}
    absent: set[int] = set()
    refused: list[ProtocolError] = []
    for tokens in rows:
        try:
            position = _position(tokens[0].text)
            if position in present or position in absent:
                raise ProtocolError("format", f"position {position} stands there twice")
            if any(token.text == ABSENT for token in tokens):
                absent.add(position)
            else:
                present[position] = _module_row(columns, tokens)
        except ProtocolError as err:
            refused.append(err)
    if not present and refused:
        raise refused[0]
    return Modules(present, frozenset(absent), tuple(refused))


@dataclass(frozen=True, slots=True)
class _Token:
    """One word of a row and where it starts."""

    text: str
    start: int


def _table(lines: Sequence[str], first: str) -> tuple[list[_Token], list[list[_Token]]]:
    """Return the header's names and the rows' tokens behind it; the two words of a time are one token."""
    for at, line in enumerate(lines):
        columns = [_Token(SYNONYMS.get(name.text, name.text), name.start) for name in _tokens(line)]
        if columns and columns[0].text == first and len(columns) > 2:
            if len({name.text for name in columns}) != len(columns):
                raise ProtocolError("format", "a column stands there twice")
            return columns, [_tokens(row) for row in lines[at + 1 :]]
    raise ProtocolError("format", f"no table that begins with {first}")


_TIME = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)")


def _tokens(line: str) -> list[_Token]:
    return [_Token(match.group(), match.start()) for match in re.finditer(r"\S+", _TIME.sub(r"\1T\2", line))]


def _check_in_line(columns: Sequence[_Token], tokens: Sequence[_Token]) -> None:
    """Raise ProtocolError "format" unless each token starts under its header, or where a wider one pushed it."""
    end = -1
    for column, token in zip(columns, tokens, strict=True):
        if token.start != max(column.start, end + 1):
            raise ProtocolError("format", f"{token.text[:24]!r} does not stand under {column.text}")
        end = token.start + len(token.text)


def _position(token: str) -> int:
    position = _integer(token)
    if position is None or position not in range(1, 33):
        raise ProtocolError("format", f"module position {token[:16]!r}")
    return position


def _module_row(columns: Sequence[_Token], tokens: Sequence[_Token]) -> Values:
    if len(tokens) != len(columns):
        raise ProtocolError("format", f"{len(tokens)} columns in a row, {len(columns)} in the header")
    _check_row(columns, tokens)
    cells = {column.text: token.text for column, token in zip(columns, tokens, strict=True)}
    values = {column.field.key: column.read(cells[column.header]) for column in PWR if column.header in cells}
    values.update(_derived(values))
    check_ranges(values)
    _check_low_high(values)
    return values


def _check_row(columns: Sequence[_Token], tokens: Sequence[_Token]) -> None:
    """Up to the time a row stands under its header; behind it some firmware is one blank off, so widths count."""
    names = [column.text for column in columns]
    until = names.index("Time") + 1 if "Time" in names else len(names)
    _check_in_line(columns[:until], tokens[:until])
    if "MosTempr" in names[:-1]:
        at = names.index("MosTempr")
        if tokens[at + 1].start - tokens[at].start != columns[at + 1].start - columns[at].start:
            raise ProtocolError("format", f"{tokens[at].text[:24]!r} is narrower or wider than its column")


def _derived(values: Values) -> Values:
    voltage, current = number(values, v.VOLTAGE), number(values, v.MODULE_CURRENT)
    low, high = number(values, v.CELL_MIN), number(values, v.CELL_MAX)
    return {
        v.POWER.key: None if voltage is None or current is None else round(voltage * current, 2),
        v.CELL_SPREAD.key: None if low is None or high is None else round(high - low, 3),
    }


def _check_low_high(values: Values) -> None:
    """Some whole number of cells between the lowest and the highest makes up the module's voltage."""
    voltage, low, high = (number(values, field) for field in (v.VOLTAGE, v.CELL_MIN, v.CELL_MAX))
    if low is None or high is None or voltage is None:
        return
    count = round(2 * voltage / (low + high))
    if low > high or not count * low * 0.995 <= voltage <= count * high * 1.005:
        raise refuse(f"cells of {low} to {high} V make no module of {voltage} V")
    cold, hot = number(values, v.CELL_COLDEST), number(values, v.CELL_HOTTEST)
    if cold is not None and hot is not None and cold > hot:
        raise refuse(f"the coldest cell has {cold} °C, the hottest {hot} °C")


# -- "name : value" ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Label:
    """One value of a "name : value unit" answer; `unit` is what must stand behind a number."""

    label: str
    field: Field
    read: Callable[[str], Value] = _integer
    unit: str = ""
    needed: bool = False


def _labelled(lines: Sequence[str]) -> dict[str, str]:
    """Return names and texts, blanks in names reduced to one.

    Raises ProtocolError "format" when a name stands there twice: two answers ran into each other; and
    when the colons behind padded names do not stand in line: something is lost between.
    """
    found: dict[str, str] = {}
    widths: set[int] = set()
    for line in lines:
        padded, colon, text = line.partition(":")
        if not colon:
            continue
        if padded.endswith(" "):
            widths.add(len(padded))
        name = " ".join(padded.split())
        if name in found:
            raise ProtocolError("format", f"{name!r} stands there twice")
        found[name] = text
    if len(widths) > 1:
        raise ProtocolError("format", f"colons stand in columns {sorted(widths)}")
    return found


def _read_labels(labels: Sequence[Label], found: Mapping[str, str]) -> Values:
    """Return the values of the labels that are there.

    Raises ProtocolError "format" when a needed one is not, and when units do not stand in line.
    """
    _check_units(labels, found)
    values: Values = {}
    for label in labels:
        text = found.get(label.label)
        if text is not None:
            values[label.field.key] = label.read(_without_unit(text.strip(), label))
        elif label.needed:
            raise ProtocolError("format", f"{label.label!r} is missing")
    return values


def _check_units(labels: Sequence[Label], found: Mapping[str, str]) -> None:
    """Raise ProtocolError "format" unless all units stand in line, where the answer is padded at all."""
    texts = [(found[label.label], len(label.unit)) for label in labels if label.unit and label.label in found]
    widths = {len(text) - unit for text, unit in texts if text.strip() != "-"}
    padded = any("  " in text.strip() for text, _ in texts)
    if padded and len(widths) > 1:
        raise ProtocolError("format", f"units stand in columns {sorted(widths)}")


def _check_right(labels: Sequence[Label], found: Mapping[str, str]) -> None:
    """Raise ProtocolError "format" unless all numbers end in one column; only a longer one may go beyond."""
    texts = [found[label.label] for label in labels if label.label in found]
    width = min((len(text) for text in texts), default=0)
    if any(len(text) > width and text.startswith("  ") for text in texts):
        raise ProtocolError("format", "the numbers do not end in one column")


def _without_unit(text: str, label: Label) -> str:
    """Return the number before its unit; a unit that is not there means a cut line."""
    if not label.unit or text == "-":
        return text
    if not text.lower().endswith(label.unit.lower()):
        raise ProtocolError("format", f"{label.label!r} without its unit: {text[:40]!r}")
    return text[: -len(label.unit)].strip()


# fmt: off
BAT_EVENTS = Field("bat_events", PLAIN, "Battery events", level=HIDDEN)
POWER_EVENTS = Field("power_events", PLAIN, "Power events", level=HIDDEN)
FAULTS = Field("system_faults", PLAIN, "System fault bits", level=HIDDEN)


def _shown(key: str, name: str) -> Field:
    return Field(key, TEXT, name, level=HIDDEN)


# a US3000D says these instead of its events; unconfirmed: what their bits mean, so they are shown as they are
WORDS = (
    Label("Bat Volt Status", _shown("cell_voltage_word", "Cell voltage word"), _words),
    Label("Bat Tmpr Status", _shown("cell_temperature_word", "Cell temperature word"), _words),
    Label("Pwr Volt Status", _shown("voltage_word", "Voltage word"), _words),
    Label("Pwr Tmpr Status", _shown("temperature_word", "Temperature word"), _words),
    Label("Pwr Curr Status", _shown("current_word", "Current word"), _words),
    Label("Pwr Base Status", _shown("base_word", "State word"), _words),
    Label("Pwr Coul Status", _shown("coulomb_word", "Charge word"), _words),
    Label("Mos Tmpr Status", _shown("mos_temperature_word", "MOSFET temperature word"), _words),
    Label("Env Tmpr Status", _shown("environment_temperature_word", "Environment temperature word"), _words),
)
PWR_N = (
    Label("Voltage", v.VOLTAGE, _milli, "mV", needed=True),
    Label("Current", v.MODULE_CURRENT, _milli, "mA", needed=True),
    Label("Temperature", v.MODULE_TEMPERATURE, _milli, "mC", needed=True),
    Label("Coulomb", v.STATE_OF_CHARGE, _percent, "%", needed=True),
    Label("Total Coulomb", v.TOTAL, _milli, "mAH", needed=True),
    Label("Max Voltage", _diagnostic("max_voltage", v.VOLTAGE.quantity, "Maximum voltage"), _milli, "mV"),
    Label("Charge Times", Field("charge_times", COUNT, "Charge times, raw counter", level=HIDDEN)),
    Label("Basic Status", BASE_STATE, _base, needed=True),
    Label("Volt Status", v.VOLTAGE_STATE, _condition),
    Label("Current Status", CURRENT_STATE, _condition),
    Label("Tmpr. Status", TEMPERATURE_STATE, _condition),
    Label("Coul. Status", _diagnostic("coulomb_state", TEXT, "Charge state"), _condition),
    Label("Soh. Status", _diagnostic("soh_state", TEXT, "Health state"), _condition),
    Label("Heater Status", Field("heater", FLAG, "Heater on", level=HIDDEN), _on),
    Label("Bat Events", BAT_EVENTS, _event_word),
    Label("Power Events", POWER_EVENTS, _event_word),
    Label("System Fault", FAULTS, _event_word, needed=True),
    *WORDS,
)


@dataclass(frozen=True, slots=True)
class Event:
    """Bits of the power events that raise one value; any of them is enough."""

    mask: int
    field: Field


# unconfirmed: all but "full", which a full US2000C shows; a charging or discharging one shows no event at all
EVENTS = (
    Event(0x00000001, v.MODULE_OVER_VOLTAGE),
    Event(0x00000002, v.HIGH_VOLTAGE),
    Event(0x00000008, v.LOW_VOLTAGE),
    Event(0x00000010, v.MODULE_UNDER_VOLTAGE),
    Event(0x00000100, v.OVER_TEMPERATURE),
    Event(0x00000200, v.HIGH_TEMPERATURE),
    Event(0x00000800, v.LOW_TEMPERATURE),
    Event(0x00001000, v.UNDER_TEMPERATURE),
    Event(0x00002000, v.FULLY_CHARGED),
    Event(0x00008000, v.LOW_CAPACITY),
    Event(0x00010000, v.SHORT_CIRCUIT),
    Event(0x000A0000, v.DISCHARGE_OVER_CURRENT),
    Event(0x00140000, v.CHARGE_OVER_CURRENT),
)
FAULT_NAMES = {
    0x00000001: "input reversed",
    0x00000002: "input over voltage",
    0x00000020: "temperature sensor",
    0x00000040: "voltage sensor",
    0x00000100: "address allocation",
    0x00000200: "internal communication",
    0x00000400: "charge MOSFET",
    0x00000800: "discharge MOSFET",
}
"""Only what two sources agree on; the other bits keep their numbers."""
FAULT_STATES = 0x08000000 | 0x20000000
"""Shutdown requested, reset in progress: states, no faults."""
FAULT_TEXT = _diagnostic("system_fault_text", TEXT, "System faults")
PWR_N_FIELDS = (
    *(label.field for label in PWR_N), v.POWER, *(event.field for event in EVENTS), v.SYSTEM_FAULT, FAULT_TEXT,
)

INFO = (
    Label("Device address", Field("address", PLAIN, "Position in the stack", level=HIDDEN), needed=True),
    Label("Manufacturer", v.MANUFACTURER, _words),
    Label("Device name", v.MODEL, _words),
    Label("Board version", Field("board_version", TEXT, "Board version", level=HIDDEN), _words),
    Label("Main Soft version", Field("main_software_version", TEXT, "Main software version", level=HIDDEN), _words),
    Label("Soft version", v.SOFTWARE, _words),
    Label("Boot version", Field("boot_version", TEXT, "Boot version", level=HIDDEN), _words),
    Label("Comm version", Field("communication_version", TEXT, "Communication version", level=HIDDEN), _words),
    Label("Release Date", Field("release_date", TEXT, "Firmware release date", level=HIDDEN), _words),
    Label("Barcode", v.SERIAL, _words, needed=True),
    Label("Specification", Field("specification", TEXT, "Specification", level=HIDDEN), _words),
    Label("Cell Number", v.CELL_COUNT),
    Label("Cell Count", v.CELL_COUNT),
    Label("Max Dischg Curr", v.MAX_DISCHARGE_CURRENT, _milli_size, "mA"),
    Label("Max Charge Curr", v.MAX_CHARGE_CURRENT, _milli_size, "mA"),
)
INFO_FIELDS = tuple({label.field.key: label.field for label in INFO}.values())


def _counter(label: str, key: str, name: str) -> Label:
    return Label(label, Field(key, COUNT, name, level=HIDDEN))


STAT = (
    Label("CYCLE Times", v.CYCLE_COUNT, needed=True),
    Label("SOH", v.STATE_OF_HEALTH, needed=True),
    _counter("COC Times", "charge_over_current_times", "Charge over current, times"),
    _counter("DOC Times", "discharge_over_current_times", "Discharge over current, times"),
    _counter("SC Times", "short_circuit_times", "Short circuit, times"),
    _counter("Bat OV Times", "cell_over_voltage_times", "Cell over voltage, times"),
    _counter("Bat UV Times", "cell_under_voltage_times", "Cell under voltage, times"),
    _counter("Pwr OV Times", "module_over_voltage_times", "Module over voltage, times"),
    _counter("Pwr UV Times", "module_under_voltage_times", "Module under voltage, times"),
    _counter("COT Times", "charge_over_temperature_times", "Charge over temperature, times"),
    _counter("CUT Times", "charge_under_temperature_times", "Charge under temperature, times"),
    _counter("DOT Times", "discharge_over_temperature_times", "Discharge over temperature, times"),
    _counter("DUT Times", "discharge_under_temperature_times", "Discharge under temperature, times"),
    _counter("Shut Times", "shutdown_times", "Shutdowns"),
    _counter("Reset Times", "reset_times", "Resets"),
)
STAT_FIELDS = tuple(label.field for label in STAT)

MODULE_CHARGE_LIMIT = _diagnostic("module_charge_current_limit", CURRENT, "Charge current limit of a module")
MODULE_DISCHARGE_LIMIT = _diagnostic("module_discharge_current_limit", CURRENT, "Discharge current limit of a module")
PWRSYS = (
    Label("Total Num", _diagnostic("modules_total", COUNT, "Modules"), needed=True),
    Label("Present Num", stack.MODULES_ONLINE, needed=True),
    Label("Sleep Num", _diagnostic("modules_sleeping", COUNT, "Modules sleeping")),
    Label("System Volt", v.VOLTAGE, _milli, "mV", needed=True),
    Label("System Curr", v.MODULE_CURRENT, _milli, "mA", needed=True),
    Label("System RC", v.REMAINING, _milli, "mAH"),
    Label("System FCC", v.TOTAL, _milli, "mAH"),
    Label("System SOC", v.STATE_OF_CHARGE, _percent, "%", needed=True),
    Label("System SOH", v.STATE_OF_HEALTH, _percent, "%"),
    Label("Highest voltage", v.CELL_MAX, _milli, "mV"),
    Label("Average voltage", stack.CELL_AVERAGE, _milli, "mV"),
    Label("Lowest voltage", v.CELL_MIN, _milli, "mV"),
    Label("Highest temperature", v.CELL_HOTTEST, _milli, "mC"),
    Label("Average temperature", v.MODULE_TEMPERATURE, _milli, "mC"),
    Label("Lowest temperature", v.CELL_COLDEST, _milli, "mC"),
    Label("Recommend chg current", MODULE_CHARGE_LIMIT, _milli, "mA"),
    Label("Recommend dsg current", MODULE_DISCHARGE_LIMIT, _milli_size, "mA"),
    Label("system Recommend chg voltage", v.CHARGE_VOLTAGE_LIMIT, _milli, "mV", needed=True),
    Label("system Recommend dsg voltage", v.DISCHARGE_VOLTAGE_LIMIT, _milli, "mV", needed=True),
    Label("system Recommend chg current", v.CHARGE_CURRENT_LIMIT, _milli, "mA", needed=True),
    Label("system Recommend dsg current", v.DISCHARGE_CURRENT_LIMIT, _milli_size, "mA", needed=True),
)
PWRSYS_FIELDS = (*(label.field for label in PWRSYS), v.POWER, v.CELL_SPREAD)
# fmt: on

_TITLE = re.compile(r"Power +([0-9]{1,2})")


def module(lines: Sequence[str], position: int) -> Values:
    """Return one module's values from the lines of `pwr n`; keys: PWR_N_FIELDS, if it has them.

    Events are bits, each looked at by itself; a US3000D has none, and tells nothing of what they would raise.
    Raises ProtocolError: "foreign" when the title names another module, "format" for a missing or
    unreadable value, "implausible".
    """
    titles = [match.group(1) for line in lines if (match := _TITLE.fullmatch(line))]
    if titles != [str(position)]:
        raise ProtocolError("foreign", f"titles {titles}, module {position} was asked")
    values = _read_labels(PWR_N, _labelled(lines))
    values.update(_derived(values))
    del values[v.CELL_SPREAD.key]
    _check_events(values)
    events, faults = values.get(POWER_EVENTS.key), values[FAULTS.key]
    if events is not None:
        values.update(raised_events(int(str(events))))
    values.update(_faults(int(str(faults))))
    check_ranges(values)
    return values


def _check_events(values: Values) -> None:
    """Raise ProtocolError "format" unless both event words are there, or all words of a US3000D instead.

    Source: chinezbrun/pytes_serial issue 47, a US3000D's `pwr 1` and `pwr 2`.
    """
    events = [field.key for field in (BAT_EVENTS, POWER_EVENTS) if field.key in values]
    words = [label.field.key for label in WORDS if label.field.key in values]
    if (len(events), len(words)) not in ((2, 0), (0, len(WORDS))):
        raise ProtocolError("format", f"{len(events)} of 2 events and {len(words)} of {len(WORDS)} status words")


def raised_events(word: int) -> Values:
    """Return which values the power events raise, bit by bit."""
    return {event.field.key: bool(word & event.mask) for event in EVENTS}


def _faults(word: int) -> Values:
    names = [name for bit, name in FAULT_NAMES.items() if word & bit]
    others = word & ~FAULT_STATES & ~sum(FAULT_NAMES)
    if others:
        names.append(f"bits {others:#x}")
    return {v.SYSTEM_FAULT.key: bool(names), FAULT_TEXT.key: ", ".join(names)}


def identity(lines: Sequence[str], position: int | None) -> Values:
    """Return who a module is from the lines of `info n`, or of `info` (position None); keys: of INFO_FIELDS.

    Raises ProtocolError: "foreign" for another module's answer, "format".
    """
    values = _read_labels(INFO, _labelled(lines))
    _check_position(values["address"], position)
    check_ranges(values)
    return values


def statistics(lines: Sequence[str], position: int | None) -> Values:
    """Return cycles, health and counters from the lines of `stat n`, or of `stat`; keys: of STAT_FIELDS.

    Raises ProtocolError: "foreign", "format", "implausible".
    """
    found = [line.split()[-1] for line in lines if line.startswith("Device address") and ":" not in line]
    if len(found) != 1:
        raise ProtocolError("format", f"{len(found)} device addresses")
    _check_position(_integer(found[0]), position)
    counters = _labelled(lines)
    _check_right(STAT, counters)
    values = _read_labels(STAT, counters)
    check_ranges(values)
    return values


def _check_position(found: Value, asked: int | None) -> None:
    if asked is not None and found != asked:
        raise ProtocolError("foreign", f"module {found} answers, {asked} was asked")


def system(lines: Sequence[str]) -> Values:
    """Return the stack's values and its live limits from the lines of `pwrsys`; keys: of PWRSYS_FIELDS.

    Only a console in debug mode knows the command. It has no enable bits: a limit of 0 is the sign.
    Raises ProtocolError: "format", "implausible".
    """
    values = _read_labels(PWRSYS, _labelled(lines))
    values.update(_derived(values))
    total = values["modules_total"]
    check_ranges(values, max(1, total) if isinstance(total, int) else 1)
    return values


def clock(lines: Sequence[str]) -> str:
    """Return the battery's clock from the lines of `time`, as "2024-02-29T12:00:00". Raises ProtocolError."""
    for line in lines:
        match = _TIME.search(line)
        if match and line.startswith("RTC"):
            return f"{match.group(1)}T{match.group(2)}"
    raise ProtocolError("format", "no time in the answer")


# -- bat, soh, getpwr: one row a cell ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CellField:
    """One value that every cell has: its part of the key, and of the name."""

    key: str
    quantity: Quantity
    name: str

    def of(self, cell: int) -> Field:
        """Return the field of one cell, counted from 1."""
        return _cell_field(self, cell)


@cache
def _cell_field(part: CellField, cell: int) -> Field:
    return Field(f"cell_{cell}_{part.key}", part.quantity, f"Cell {cell} {part.name}", level=HIDDEN)


CELL_TEMPERATURE = CellField("temperature", TEMPERATURE, "temperature")
CELL_SOC = CellField("soc", SOC, "state of charge")
CELL_CAPACITY = CellField("capacity", CAPACITY, "charge")
CELL_BALANCING = CellField("balancing", FLAG, "balancing")
CELL_ROW = (CELL_TEMPERATURE, CELL_SOC, CELL_CAPACITY, CELL_BALANCING)
SOH_COUNT = CellField("soh_count", PLAIN, "health count")
SOH_STATE = CellField("soh_state", TEXT, "health state")
BALANCING = Field("balancing", FLAG, "Balancing", level=DIAGNOSTIC)
BAT_LEAST = 8
"""Tokens of the shortest row: index, voltage, current, temperature, three states, SOC."""


@cache
def cell_fields(cells: int) -> tuple[Field, ...]:
    """Return every field that `bat n` fills, for so many cells."""
    rows = tuple(part.of(cell) for cell in range(1, cells + 1) for part in CELL_ROW)
    return (*v.cell_voltages(cells), *rows, *v.CELL_EXTREMES, v.CELL_COLDEST, v.CELL_HOTTEST, BALANCING)


@cache
def health_fields(cells: int) -> tuple[Field, ...]:
    """Return every field that `soh n` fills, for so many cells."""
    return tuple(part.of(cell) for cell in range(1, cells + 1) for part in (SOH_COUNT, SOH_STATE))


def cells(lines: Sequence[str]) -> Values:
    """Return a module's cells from the lines of `bat n`; keys: cell_fields, for as many as there are.

    A state of charge stands where a token ends in %, the charge behind it, balancing last: so the
    extra state column of a US3000D shifts nothing. Charge 0 beside a state of charge above 0 is not
    known: a US3000D says so for its slaves. Raises ProtocolError: "format" when a row is cut or one is
    missing, "implausible".
    """
    columns, rows = _cell_rows(lines, "Battery", BAT_LEAST)
    names = [column.text for column in columns]
    numbers = names[: names.index("Base")] if "Base" in names else []
    if numbers not in (["Battery", "Volt", "Curr", "Tempr"], ["Battery", "Volt", "Tempr"]):
        raise ProtocolError("format", f"columns {numbers} before the states")
    values: Values = {}
    millivolts, degrees, balancing = [], [], []
    for cell, tokens in enumerate(rows, 1):
        _check_in_line(columns[: len(numbers)], tokens[: len(numbers)])
        row = _cell_row([token.text for token in tokens])
        millivolts.append(_needed(tokens[numbers.index("Volt")].text))
        degrees.append(_needed(tokens[numbers.index("Tempr")].text) / 1000)
        balancing.append(row[CELL_BALANCING.key])
        values[f"cell_{cell}_voltage"] = millivolts[-1] / 1000
        values[f"cell_{cell}_{CELL_TEMPERATURE.key}"] = degrees[-1]
        values.update((f"cell_{cell}_{key}", value) for key, value in row.items())
    values.update(v.cell_extremes(millivolts))
    values[v.CELL_COLDEST.key], values[v.CELL_HOTTEST.key] = min(degrees), max(degrees)
    values[BALANCING.key] = None if None in balancing else any(balancing)
    check_ranges(values)
    _check_charges(values, len(rows))
    return values


def _check_charges(values: Values, count: int) -> None:
    """The cells of a module are of one size: charge and state of charge tell the same one for each, but for a quarter.

    Neither is padded, so a lost digit shows here only.
    """
    least, most = 0.0, float("inf")
    for cell in range(1, count + 1):
        soc, charge = number(values, CELL_SOC.of(cell)), number(values, CELL_CAPACITY.of(cell))
        if soc is not None and not 0 <= soc <= 100:
            raise refuse(f"cell {cell} with a state of charge of {soc:g} %")
        if soc is None or charge is None or soc <= 1:
            continue
        least, most = max(least, charge / (soc + 1)), min(most, charge / (soc - 1))
    if least > 1.25 * most:
        raise refuse("the cells' charges do not fit their states of charge")


def _cell_rows(lines: Sequence[str], first: str, least: int) -> tuple[list[_Token], list[list[_Token]]]:
    """Return a header's words and the rows under it, which count the cells from 0 without a gap, all alike."""
    heads = [at for at, line in enumerate(lines) if line.split()[0] == first]
    if len(heads) != 1:
        raise ProtocolError("format", f"{len(heads)} headers that begin with {first}")
    rows = [_tokens(line) for line in lines[heads[0] + 1 :]]
    if not rows or [row[0].text for row in rows] != [str(n) for n in range(len(rows))]:
        raise ProtocolError("format", "the cells are not counted from 0 without a gap")
    if len({len(row) for row in rows}) != 1 or len(rows[0]) < least:
        raise ProtocolError("format", "rows of different or too small width")
    if len({tuple(token.start for token in row[:least]) for row in rows}) != 1:
        raise ProtocolError("format", "rows that do not stand in line")
    return _tokens(lines[heads[0]]), rows


def _cell_row(tokens: Sequence[str]) -> Values:
    percents = [at for at, token in enumerate(tokens) if token.endswith("%")]
    if len(percents) != 1:
        raise ProtocolError("format", f"{len(percents)} percentages in a cell's row")
    soc = _percent(tokens[percents[0]])
    behind = tokens[percents[0] + 1 :]
    if behind and (len(behind) not in (2, 3) or behind[1].lower() != "mah"):
        raise ProtocolError("format", f"{' '.join(behind)!r} behind the state of charge")
    charge = _milli(behind[0]) if behind else None
    return {
        CELL_SOC.key: soc,
        CELL_CAPACITY.key: None if not charge and soc else charge,
        CELL_BALANCING.key: _on(behind[2]) if len(behind) == 3 else None,
    }


def _needed(text: str) -> int:
    raw = _integer(text)
    if raw is None:
        raise ProtocolError("format", "a cell without a value")
    return raw


def health(lines: Sequence[str], position: int) -> Values:
    """Return each cell's health from the lines of `soh n`; keys: health_fields.

    unconfirmed: what the count counts. Not every firmware has the command. Raises ProtocolError.
    """
    titles = [match.group(1) for line in lines if (match := _TITLE.fullmatch(line))]
    if titles not in ([], [str(position)]):
        raise ProtocolError("foreign", f"titles {titles}, module {position} was asked")
    values: Values = {}
    for cell, tokens in enumerate(_cell_rows(lines, "Battery", 3)[1], 1):
        values[SOH_COUNT.of(cell).key] = _needed(tokens[2].text)
        values[SOH_STATE.of(cell).key] = _condition(tokens[3].text) if len(tokens) > 3 else None
    return values


def local(lines: Sequence[str]) -> Values:
    """Return the console's own module from the lines of `getpwr`: a record, cells, error code, cycles.

    Raises ProtocolError: "format", "implausible".
    """
    records = [[part.strip() for part in line.split("#")[:-1]] for line in lines]
    if len(records) < 4 or [len(records[n]) for n in (0, -2, -1)] != [8, 1, 1]:
        raise ProtocolError("format", "the records are not those of getpwr")
    first, rows = records[0], records[1:-2]
    if any(len(row) != 4 for row in rows):
        raise ProtocolError("format", "a cell's record is cut")
    millivolts, degrees = [_needed(row[0]) for row in rows], [_needed(row[1]) / 1000 for row in rows]
    values: Values = {
        v.VOLTAGE.key: _milli(first[0]),
        v.MODULE_CURRENT.key: _milli(first[1]),
        v.MODULE_TEMPERATURE.key: _milli(first[2]),
        v.REMAINING.key: _milli(first[3]),
        BASE_STATE.key: _base(first[4]),
        v.CYCLE_COUNT.key: _integer(records[-1][0]),
        FAULTS.key: _integer(records[-2][0]),
    }
    values.update((field.key, raw / 1000) for field, raw in zip(v.cell_voltages(len(rows)), millivolts, strict=True))
    values.update(v.cell_extremes(millivolts))
    values[v.POWER.key] = _derived(values)[v.POWER.key]
    values[v.CELL_COLDEST.key], values[v.CELL_HOTTEST.key] = min(degrees), max(degrees)
    check_ranges(values)
    _check_low_high(values)
    return values


def module_fields(count: int) -> tuple[Field, ...]:
    """Return every field of a module read over the console, for its cells; each key once."""
    fields = (*PWR_FIELDS, *PWR_N_FIELDS, *cell_fields(count), *STAT_FIELDS, *INFO_FIELDS)
    return tuple({field.key: field for field in fields}.values())
