"""The RS232 console's tables and what they mean; `console_frame` cuts the answers they stand in.

There is no checksum. A table is taken only when its header is known and its rows are complete. A lost
character shortens a number without a trace but one: the rest of its line moves. So columns must stand in line.
Columns are found by their header: firmware since 2024 has more of them, rows of absent modules keep the old
layout. "-" is "not available".
Voltages in mV, currents in mA (positive while charging), temperatures in 0.001 °C, charge in mAh.
Source: console captures of US2000C, US3000C, US5000 and US3000D, described in tests/captures/pylontech.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bridge import battery as k
from bridge.errors import ProtocolError
from bridge.fields import COUNT, FLAG, PLAIN, TEXT, Field, Level, Quantity, Value
from bridge.pylontech import console_text as t
from bridge.pylontech import stack
from bridge.pylontech import values as v
from bridge.pylontech.plausible import check_ranges, refuse
from bridge.pylontech.values import Values, number

DIAGNOSTIC, HIDDEN = Level.DIAGNOSTIC, Level.HIDDEN

# -- pwr: one row a module ---------------------------------------------------------------------------------------------


def _diagnostic(key: str, quantity: Quantity, name: str) -> Field:
    return Field(key, quantity, name, level=DIAGNOSTIC)


# fmt: off
PWR = (
    t.Column("Volt", k.VOLTAGE, t.milli),
    t.Column("Curr", k.CURRENT, t.milli),
    t.Column("Tempr", k.TEMPERATURE, t.milli),
    t.Column("Tlow", k.COLDEST, t.milli),
    t.Column("Tlow.Id", k.COLDEST_CELL, t.cell),
    t.Column("Thigh", k.HOTTEST, t.milli),
    t.Column("Thigh.Id", k.HOTTEST_CELL, t.cell),
    t.Column("Vlow", k.CELL_MIN, t.milli),
    t.Column("Vlow.Id", k.CELL_MIN_NUMBER, t.cell),
    t.Column("Vhigh", k.CELL_MAX, t.milli),
    t.Column("Vhigh.Id", k.CELL_MAX_NUMBER, t.cell),
    t.Column("Base.St", k.STATE, t.base),
    t.Column("Volt.St", k.VOLTAGE_STATE, t.condition),
    t.Column("Curr.St", k.CURRENT_STATE, t.condition),
    t.Column("Temp.St", k.TEMPERATURE_STATE, t.condition),
    t.Column("Coulomb", k.SOC, t.percent),
    t.Column("Time", Field("module_time", TEXT, "Module's clock", level=HIDDEN), t.words),
    t.Column("B.V.St", k.CELL_VOLTAGE_STATE, t.condition),
    t.Column("B.T.St", k.CELL_TEMPERATURE_STATE, t.condition),
    t.Column("MosTempr", k.MOS_TEMPERATURE, t.milli),
    t.Column("M.T.St", k.MOS_TEMPERATURE_STATE, t.condition),
    t.Column("SysAlarm.St", _diagnostic("system_alarm_state", TEXT, "System alarm state"), t.condition),
)
# fmt: on
PWR_NEEDED = {"Volt", "Curr", "Tempr", "Vlow", "Vhigh", "Base.St", "Coulomb"}
PWR_FIELDS = (*(column.field for column in PWR), k.POWER, k.CELL_SPREAD)


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
    columns, rows = t.table(lines, "Power")
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
            if any(token.text == t.ABSENT for token in tokens):
                absent.add(position)
            else:
                present[position] = _module_row(columns, tokens)
        except ProtocolError as err:
            refused.append(err)
    if not present and refused:
        raise refused[0]
    return Modules(present, frozenset(absent), tuple(refused))


def _position(token: str) -> int:
    position = t.integer(token)
    if position is None or position not in range(1, 33):
        raise ProtocolError("format", f"module position {token[:16]!r}")
    return position


def _module_row(columns: Sequence[t.Token], tokens: Sequence[t.Token]) -> Values:
    if len(tokens) != len(columns):
        raise ProtocolError("format", f"{len(tokens)} columns in a row, {len(columns)} in the header")
    _check_row(columns, tokens)
    cells = {column.text: token.text for column, token in zip(columns, tokens, strict=True)}
    values = {column.field.key: column.read(cells[column.header]) for column in PWR if column.header in cells}
    values.update(derived(values))
    check_ranges(values)
    check_low_high(values)
    return values


def _check_row(columns: Sequence[t.Token], tokens: Sequence[t.Token]) -> None:
    """Up to the time a row stands under its header; behind it some firmware is one blank off, so widths count."""
    names = [column.text for column in columns]
    until = names.index("Time") + 1 if "Time" in names else len(names)
    t.check_in_line(columns[:until], tokens[:until])
    if "MosTempr" in names[:-1]:
        at = names.index("MosTempr")
        if tokens[at + 1].start - tokens[at].start != columns[at + 1].start - columns[at].start:
            raise ProtocolError("format", f"{tokens[at].text[:24]!r} is narrower or wider than its column")


def derived(values: Values) -> Values:
    """Return power and cell spread, as far as what they follow from is known."""
    voltage, current = number(values, k.VOLTAGE), number(values, k.CURRENT)
    low, high = number(values, k.CELL_MIN), number(values, k.CELL_MAX)
    return {
        k.POWER.key: None if voltage is None or current is None else round(voltage * current, 2),
        k.CELL_SPREAD.key: None if low is None or high is None else round(high - low, 3),
    }


def check_low_high(values: Values) -> None:
    """Some whole number of cells between the lowest and the highest makes up the module's voltage."""
    voltage, low, high = (number(values, field) for field in (k.VOLTAGE, k.CELL_MIN, k.CELL_MAX))
    if low is None or high is None or voltage is None:
        return
    count = round(2 * voltage / (low + high))
    if low > high or not count * low * 0.995 <= voltage <= count * high * 1.005:
        raise refuse(f"cells of {low} to {high} V make no module of {voltage} V")
    cold, hot = number(values, k.COLDEST), number(values, k.HOTTEST)
    if cold is not None and hot is not None and cold > hot:
        raise refuse(f"the coldest cell has {cold} °C, the hottest {hot} °C")


# -- "name : value" ----------------------------------------------------------------------------------------------------

# fmt: off
BAT_EVENTS = Field("bat_events", PLAIN, "Battery events", level=HIDDEN)
POWER_EVENTS = Field("power_events", PLAIN, "Power events", level=HIDDEN)
FAULTS = Field("system_faults", PLAIN, "System fault bits", level=HIDDEN)


def _shown(key: str, name: str) -> Field:
    return Field(key, TEXT, name, level=HIDDEN)


# a US3000D says these instead of its events; unconfirmed: what their bits mean, so they are shown as they are
WORDS = (
    t.Label("Bat Volt Status", _shown("cell_voltage_word", "Cell voltage word"), t.words),
    t.Label("Bat Tmpr Status", _shown("cell_temperature_word", "Cell temperature word"), t.words),
    t.Label("Pwr Volt Status", _shown("voltage_word", "Voltage word"), t.words),
    t.Label("Pwr Tmpr Status", _shown("temperature_word", "Temperature word"), t.words),
    t.Label("Pwr Curr Status", _shown("current_word", "Current word"), t.words),
    t.Label("Pwr Base Status", _shown("base_word", "State word"), t.words),
    t.Label("Pwr Coul Status", _shown("coulomb_word", "Charge word"), t.words),
    t.Label("Mos Tmpr Status", _shown("mos_temperature_word", "MOSFET temperature word"), t.words),
    t.Label("Env Tmpr Status", _shown("environment_temperature_word", "Environment temperature word"), t.words),
)
PWR_N = (
    t.Label("Voltage", k.VOLTAGE, t.milli, "mV", needed=True),
    t.Label("Current", k.CURRENT, t.milli, "mA", needed=True),
    t.Label("Temperature", k.TEMPERATURE, t.milli, "mC", needed=True),
    t.Label("Coulomb", k.SOC, t.percent, "%", needed=True),
    t.Label("Total Coulomb", k.TOTAL, t.milli, "mAH", needed=True),
    t.Label("Max Voltage", _diagnostic("max_voltage", k.VOLTAGE.quantity, "Maximum voltage"), t.milli, "mV"),
    t.Label("Charge Times", Field("charge_times", COUNT, "Charge times, raw counter", level=HIDDEN)),
    t.Label("Basic Status", k.STATE, t.base, needed=True),
    t.Label("Volt Status", k.VOLTAGE_STATE, t.condition),
    t.Label("Current Status", k.CURRENT_STATE, t.condition),
    t.Label("Tmpr. Status", k.TEMPERATURE_STATE, t.condition),
    t.Label("Coul. Status", _diagnostic("coulomb_state", TEXT, "Charge state"), t.condition),
    t.Label("Soh. Status", _diagnostic("soh_state", TEXT, "Health state"), t.condition),
    t.Label("Heater Status", Field("heater", FLAG, "Heater on", level=HIDDEN), t.on),
    t.Label("Bat Events", BAT_EVENTS, t.hex_word),
    t.Label("Power Events", POWER_EVENTS, t.hex_word),
    t.Label("System Fault", FAULTS, t.hex_word, needed=True),
    *WORDS,
)


@dataclass(frozen=True, slots=True)
class Event:
    """Bits of the power events that raise one value; any of them is enough."""

    mask: int
    field: Field


# unconfirmed: all but "full", which a full US2000C shows; a charging or discharging one shows no event at all
EVENTS = (
    Event(0x00000001, k.MODULE_OVER_VOLTAGE),
    Event(0x00000002, k.HIGH_VOLTAGE),
    Event(0x00000008, k.LOW_VOLTAGE),
    Event(0x00000010, k.MODULE_UNDER_VOLTAGE),
    Event(0x00000100, k.OVER_TEMPERATURE),
    Event(0x00000200, k.HIGH_TEMPERATURE),
    Event(0x00000800, k.LOW_TEMPERATURE),
    Event(0x00001000, k.UNDER_TEMPERATURE),
    Event(0x00002000, v.FULLY_CHARGED),
    Event(0x00008000, k.LOW_CAPACITY),
    Event(0x00010000, k.SHORT_CIRCUIT),
    Event(0x000A0000, k.DISCHARGE_OVER_CURRENT),
    Event(0x00140000, k.CHARGE_OVER_CURRENT),
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
    *(label.field for label in PWR_N), k.POWER, *(event.field for event in EVENTS), k.SYSTEM_FAULT, FAULT_TEXT,
)

INFO = (
    t.Label("Device address", Field("address", PLAIN, "Position in the stack", level=HIDDEN), needed=True),
    t.Label("Manufacturer", v.MANUFACTURER, t.words),
    t.Label("Device name", v.MODEL, t.words),
    t.Label("Board version", Field("board_version", TEXT, "Board version", level=HIDDEN), t.words),
    t.Label("Main Soft version", Field("main_software_version", TEXT, "Main software version", level=HIDDEN), t.words),
    t.Label("Soft version", v.SOFTWARE, t.words),
    t.Label("Boot version", Field("boot_version", TEXT, "Boot version", level=HIDDEN), t.words),
    t.Label("Comm version", Field("communication_version", TEXT, "Communication version", level=HIDDEN), t.words),
    t.Label("Release Date", Field("release_date", TEXT, "Firmware release date", level=HIDDEN), t.words),
    t.Label("Barcode", k.SERIAL, t.words, needed=True),
    t.Label("Specification", Field("specification", TEXT, "Specification", level=HIDDEN), t.words),
    t.Label("Cell Number", k.CELL_COUNT),
    t.Label("Cell Count", k.CELL_COUNT),
    t.Label("Max Dischg Curr", k.DISCHARGE_RATING, t.milli_size, "mA"),
    t.Label("Max Charge Curr", k.CHARGE_RATING, t.milli_size, "mA"),
)
INFO_FIELDS = tuple({label.field.key: label.field for label in INFO}.values())


def _counter(label: str, key: str, name: str) -> t.Label:
    return t.Label(label, Field(key, COUNT, name, level=HIDDEN))


STAT = (
    t.Label("CYCLE Times", k.CYCLES, needed=True),
    t.Label("SOH", k.SOH, needed=True),
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

PWRSYS = (
    t.Label("Total Num", _diagnostic("modules_total", COUNT, "Modules"), needed=True),
    t.Label("Present Num", k.MODULES_ONLINE, needed=True),
    t.Label("Sleep Num", _diagnostic("modules_sleeping", COUNT, "Modules sleeping")),
    t.Label("System Volt", k.VOLTAGE, t.milli, "mV", needed=True),
    t.Label("System Curr", k.CURRENT, t.milli, "mA", needed=True),
    t.Label("System RC", k.REMAINING, t.milli, "mAH"),
    t.Label("System FCC", k.TOTAL, t.milli, "mAH"),
    t.Label("System SOC", k.SOC, t.percent, "%", needed=True),
    t.Label("System SOH", k.SOH, t.percent, "%"),
    t.Label("Highest voltage", k.CELL_MAX, t.milli, "mV"),
    t.Label("Average voltage", stack.CELL_AVERAGE, t.milli, "mV"),
    t.Label("Lowest voltage", k.CELL_MIN, t.milli, "mV"),
    t.Label("Highest temperature", k.HOTTEST, t.milli, "mC"),
    t.Label("Average temperature", k.TEMPERATURE, t.milli, "mC"),
    t.Label("Lowest temperature", k.COLDEST, t.milli, "mC"),
    t.Label("Recommend chg current", k.EACH_CHARGE_LIMIT, t.milli, "mA"),
    t.Label("Recommend dsg current", k.EACH_DISCHARGE_LIMIT, t.milli_size, "mA"),
    t.Label("system Recommend chg voltage", k.CHARGE_VOLTAGE_LIMIT, t.milli, "mV", needed=True),
    t.Label("system Recommend dsg voltage", k.DISCHARGE_VOLTAGE_LIMIT, t.milli, "mV", needed=True),
    t.Label("system Recommend chg current", k.CHARGE_CURRENT_LIMIT, t.milli, "mA", needed=True),
    t.Label("system Recommend dsg current", k.DISCHARGE_CURRENT_LIMIT, t.milli_size, "mA", needed=True),
)
PWRSYS_FIELDS = (*(label.field for label in PWRSYS), k.POWER, k.CELL_SPREAD)
# fmt: on


def module(lines: Sequence[str], position: int) -> Values:
    """Return one module's values from the lines of `pwr n`; keys: PWR_N_FIELDS, if it has them.

    Events are bits, each looked at by itself; a US3000D has none, and tells nothing of what they would raise.
    Raises ProtocolError: "foreign" when the title names another module, "format" for a missing or
    unreadable value, "implausible".
    """
    titles = [match.group(1) for line in lines if (match := t.TITLE.fullmatch(line))]
    if titles != [str(position)]:
        raise ProtocolError("foreign", f"titles {titles}, module {position} was asked")
    values = t.read_labels(PWR_N, t.labelled(lines))
    values.update(derived(values))
    del values[k.CELL_SPREAD.key]
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
    return {k.SYSTEM_FAULT.key: bool(names), FAULT_TEXT.key: ", ".join(names)}


def identity(lines: Sequence[str], position: int | None) -> Values:
    """Return who a module is from the lines of `info n`, or of `info` (position None); keys: of INFO_FIELDS.

    Raises ProtocolError: "foreign" for another module's answer, "format".
    """
    values = t.read_labels(INFO, t.labelled(lines))
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
    _check_position(t.integer(found[0]), position)
    counters = t.labelled(lines)
    t.check_right(STAT, counters)
    values = t.read_labels(STAT, counters)
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
    values = t.read_labels(PWRSYS, t.labelled(lines))
    values.update(derived(values))
    total = values["modules_total"]
    check_ranges(values, max(1, total) if isinstance(total, int) else 1)
    return values


def clock(lines: Sequence[str]) -> str:
    """Return the battery's clock from the lines of `time`, as "2024-02-29T12:00:00". Raises ProtocolError."""
    for line in lines:
        match = t.TIME.search(line)
        if match and line.startswith("RTC"):
            return f"{match.group(1)}T{match.group(2)}"
    raise ProtocolError("format", "no time in the answer")
