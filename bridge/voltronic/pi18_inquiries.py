"""The inquiries of PI18 and what their replies mean: tables, one row a field.

Fields are scaled whole numbers separated by commas, an empty one is reserved. `decode` puts the length the
frame declared under "_declared_length": the papers' own lengths are wrong in places. Keys are those of
inquiries.py wherever the value is the same.

Source: PI18_InfiniSolar-V 2017 in jblance/mpp-solar docs/protocols; syssi/esphome-pipsolar docs/pdus/pi18.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from bridge.errors import ProtocolError
from bridge.fields import (
    ACTIVE_POWER,
    APPARENT_POWER,
    BATTERY_VOLTAGE,
    COUNT,
    CURRENT,
    ENERGY_TOTAL,
    FLAG,
    FREQUENCY,
    PERCENT,
    PLAIN,
    PROBLEM,
    SOC,
    TEMPERATURE,
    TEXT,
    VOLTAGE,
    Field,
    Level,
    Quantity,
    Value,
)
from bridge.voltronic.inquiries import (
    BATTERY_FLOWS,
    BATTERY_TYPES,
    FAULTS,
    INPUT_RANGES,
    RATED_FREQUENCY,
    RATED_VOLTAGE,
    SET_LIMITS,
    TOPOLOGIES,
)
from bridge.voltronic.inquiry import Code, Decoded, Inquiry, Token, tenth, text, whole
from bridge.voltronic.verses import SERIAL, ClockVerse, ListVerse, SerialVerse

DIAG = Level.DIAGNOSTIC
HIDE = Level.HIDDEN

MODES: Mapping[Code, str] = {0: "power_on", 1: "standby", 2: "bypass", 3: "battery", 4: "fault", 5: "hybrid"}
OUTPUT_PRIORITIES: Mapping[Code, str] = {0: "solar_first", 1: "solar_battery_utility"}
CHARGER_PRIORITIES: Mapping[Code, str] = {0: "solar_first", 1: "solar_and_utility", 2: "solar_only"}
MACHINE_TYPES: Mapping[Code, str] = {0: "off_grid", 1: "grid_tie"}
SOLAR_PRIORITIES: Mapping[Code, str] = {0: "battery_load_utility", 1: "load_battery_utility"}
TRACKER_STATES: Mapping[Code, str] = {0: "abnormal", 1: "idle", 2: "charging"}
BATTERY_DIRECTIONS: Mapping[Code, str] = {0: "idle", 1: "charging", 2: "discharging"}
CONVERTER_DIRECTIONS: Mapping[Code, str] = {0: "idle", 1: "ac_to_dc", 2: "dc_to_ac"}
LINE_DIRECTIONS: Mapping[Code, str] = {0: "idle", 1: "input", 2: "output"}


class CommaInquiry(Inquiry):
    """An inquiry whose reply reads ``D nnn`` and fields separated by commas."""

    separator: ClassVar[str] = ","

    def decode(self, payload: str) -> Decoded:
        declared, body = undress(payload)
        tokens = body.split(",")
        decoded = self._layout(body, tokens).decode(body, tokens)
        decoded["_declared_length"] = declared
        return decoded


def undress(payload: str) -> tuple[int, str]:
    """Return the declared length and the fields of a data reply. Raises ProtocolError for any other."""
    found = re.fullmatch(r"D(\d{3})(.*)", payload, re.ASCII)
    if not found:
        raise ProtocolError("foreign", "not a data reply", payload.encode())
    return int(found[1]), found[2]


class _Undressed:
    """For replies of one field: takes the ``D nnn`` away before a PI30 text of the same kind is read."""

    def decode(self, payload: str) -> Decoded:
        declared, body = undress(payload)
        decoded: Decoded = super().decode(body.replace(",", " "))  # type: ignore[misc]
        return {**decoded, "_declared_length": declared}


class Pi18Serial(SerialVerse):
    """ID: two digits of valid length, then 20 characters."""

    def decode(self, payload: str) -> Decoded:
        return super().decode(undress(payload)[1])


class Pi18List(_Undressed, ListVerse):
    """MCHGCR and MUCHGCR: the amperes that may be set."""


class Pi18Clock(_Undressed, ClockVerse):
    """T: the inverter's own clock."""


# fmt: off
def coded(key: str, name: str, codes: Mapping[Code, str], **more: Any) -> Token:
    """A field whose number is a code."""
    return Token(key, PLAIN, name, whole, codes=codes, **more)


GS = CommaInquiry("GS", (
    Token("grid_voltage",              VOLTAGE, "Grid voltage", tenth, shape=r"\d{4}"),
    Token("grid_frequency",            FREQUENCY, "Grid frequency", tenth),
    Token("ac_output_voltage",         VOLTAGE, "AC output voltage", tenth),
    Token("ac_output_frequency",       FREQUENCY, "AC output frequency", tenth),
    Token("ac_output_apparent_power",  APPARENT_POWER, "AC output apparent power", whole),
    Token("ac_output_active_power",    ACTIVE_POWER, "AC output active power", whole),
    Token("output_load_percent",       PERCENT, "Load", whole),
    Token("battery_voltage",           BATTERY_VOLTAGE, "Battery voltage", tenth),
    Token("battery_voltage_scc1",      BATTERY_VOLTAGE, "Charge controller battery voltage", tenth, level=DIAG),
    Token("battery_voltage_scc2",      BATTERY_VOLTAGE, "Charge controller 2 battery voltage", tenth, level=DIAG),
    Token("battery_discharge_current", CURRENT, "Battery discharge current", whole),
    Token("battery_charging_current",  CURRENT, "Battery charging current", whole),
    Token("battery_capacity",          SOC, "Battery state of charge", whole),
    Token("heatsink_temperature",      TEMPERATURE, "Heat sink temperature", whole, loose=True),
    Token("mppt1_temperature",         TEMPERATURE, "MPPT1 temperature", whole, loose=True),
    Token("mppt2_temperature",         TEMPERATURE, "MPPT2 temperature", whole, loose=True),
    Token("pv1_power",                 ACTIVE_POWER, "PV1 power", whole),
    Token("pv2_power",                 ACTIVE_POWER, "PV2 power", whole),
    Token("pv1_voltage",               VOLTAGE, "PV1 voltage", tenth),
    Token("pv2_voltage",               VOLTAGE, "PV2 voltage", tenth),
    Token("configuration_changed",     FLAG, "Configuration changed", whole, wire="settings_changed", level=DIAG),
    coded("mppt1_status",              "MPPT1 status", TRACKER_STATES, level=DIAG),
    coded("mppt2_status",              "MPPT2 status", TRACKER_STATES, level=DIAG),
    Token("load_on",                   FLAG, "Load on", whole, wire="load_connected", level=DIAG),
    coded("battery_direction",         "Battery direction", BATTERY_DIRECTIONS, level=DIAG),
    coded("dc_ac_direction",           "DC/AC direction", CONVERTER_DIRECTIONS, level=DIAG),
    coded("line_direction",            "Line direction", LINE_DIRECTIONS, level=DIAG),
    Token("local_parallel_id",         PLAIN, "Number in the parallel set", whole, level=HIDE),
), more=4, derived=BATTERY_FLOWS)

MOD = CommaInquiry("MOD", (coded("mode", "Mode", MODES, shape=r"\d\d"),))

PIRI = CommaInquiry("PIRI", more=2, rows=tuple(replace(row, level=DIAG) for row in (
    Token("grid_rating_voltage",             VOLTAGE, "Grid rating voltage", tenth, limits=RATED_VOLTAGE),
    Token("grid_rating_current",             CURRENT, "Grid rating current", tenth),
    Token("ac_output_rating_voltage",        VOLTAGE, "AC output rating voltage", tenth, limits=RATED_VOLTAGE),
    Token("ac_output_rating_frequency",      FREQUENCY, "AC output rating frequency", tenth, limits=RATED_FREQUENCY),
    Token("ac_output_rating_current",        CURRENT, "AC output rating current", tenth),
    Token("ac_output_rating_apparent_power", APPARENT_POWER, "AC output rating apparent power", whole),
    Token("ac_output_rating_active_power",   ACTIVE_POWER, "AC output rating active power", whole),
    Token("battery_rating_voltage",          BATTERY_VOLTAGE, "Battery rating voltage", tenth),
    Token("battery_recharge_voltage",        BATTERY_VOLTAGE, "Battery recharge voltage", tenth),
    # before the cut-off voltage, unlike PI30
    Token("battery_redischarge_voltage",     BATTERY_VOLTAGE, "Battery redischarge voltage", tenth),
    Token("battery_under_voltage",           BATTERY_VOLTAGE, "Battery cut-off voltage", tenth),
    Token("battery_bulk_voltage",            BATTERY_VOLTAGE, "Battery bulk voltage", tenth),
    Token("battery_float_voltage",           BATTERY_VOLTAGE, "Battery float voltage", tenth),
    coded("battery_type",                    "Battery type", BATTERY_TYPES),
    Token("max_ac_charging_current",         CURRENT, "Maximum AC charging current", whole),
    Token("max_charging_current",            CURRENT, "Maximum charging current", whole),
    coded("input_voltage_range",             "Input voltage range", INPUT_RANGES),
    coded("output_source_priority",          "Output source priority", OUTPUT_PRIORITIES),
    coded("charger_source_priority",         "Charger source priority", CHARGER_PRIORITIES),
    Token("parallel_max_num",                COUNT, "Units a parallel set may have", whole),
    coded("machine_type",                    "Machine type", MACHINE_TYPES),
    coded("topology",                        "Topology", TOPOLOGIES),
    Token("output_mode",                     PLAIN, "Output mode code", whole),
    coded("solar_power_priority",            "Solar power priority", SOLAR_PRIORITIES),
    Token("mppt_strings",                    COUNT, "Trackers", whole),
)))
"""25 fields in the paper; a 26th of unknown meaning was seen."""


def _flag(key: str, name: str, wire: str) -> Token:
    shape = "" if wire == "reserved" else "[01]?"  # else nine amperes of MCHGCR could be meant
    return Token(key, FLAG, name, whole, wire=wire, shape=shape, level=DIAG, published=wire != "reserved")


FLAGS = CommaInquiry("FLAG", (
    _flag("flag_buzzer",                   "Buzzer flag", "buzzer_silenced"),
    _flag("flag_overload_bypass",          "Overload bypass", "overload_bypass"),
    _flag("flag_lcd_default_page",         "LCD returns to first page", "lcd_default_page"),
    _flag("flag_overload_restart",         "Overload restart", "overload_restart"),
    _flag("flag_over_temperature_restart", "Over temperature restart", "over_temperature_restart"),
    _flag("flag_backlight",                "Backlight", "backlight"),
    _flag("flag_primary_source_alarm",     "Alarm when the primary source is interrupted", "primary_source_alarm"),
    _flag("flag_fault_code_record",        "Fault code record", "fault_code_record"),
    _flag("flag_reserved",                 "Reserved", "reserved"),
))


def _alarm(wire: str, name: str) -> Token:
    return Token(f"alarm_{wire}", PROBLEM, name, whole, wire=wire, shape=r"\d?", level=DIAG)


@dataclass(frozen=True)
class FaultInquiry(CommaInquiry):
    """FWS: the fault code and one field an alarm; `publish` adds `fault` and `warning`, as QPIWS does."""

    def publish(self, decoded: Decoded) -> dict[str, Value]:
        values = super().publish(decoded)
        alarms = {row.key: values[row.key] for row in self.rows if row.quantity is PROBLEM}
        active = [key.removeprefix("alarm_") for key, on in alarms.items() if on]
        values["fault"] = values["active_fault"] not in ("none", None)
        return values | {"warning": bool(active), "alarms": ",".join(active) or "none"}

    def fields(self, decoded: Decoded | None = None) -> tuple[Field, ...]:
        own = (Field("fault", PROBLEM, "Fault"), Field("warning", PROBLEM, "Warning"))
        return *own, Field("alarms", TEXT, "Alarms", level=DIAG), *super().fields(decoded)


FWS = FaultInquiry("FWS", (
    Token("active_fault", TEXT, "Active fault", text, wire="fault_code", shape=r"\d\d", codes=FAULTS),
    _alarm("line_fail",        "Line fail"),
    _alarm("output_short",     "Output short circuit"),
    _alarm("over_temperature", "Over temperature"),
    _alarm("fan_lock",         "Fan locked"),
    _alarm("battery_high",     "Battery voltage high"),
    _alarm("battery_low",      "Battery low"),
    _alarm("battery_under",    "Battery under shutdown"),
    _alarm("over_load",        "Overload"),
    _alarm("eeprom_fail",      "EEPROM fault"),
    _alarm("power_limit",      "Power limit"),
    _alarm("pv1_high",         "PV voltage high"),
    _alarm("pv2_high",         "PV2 voltage high"),
    _alarm("mppt1_overload",   "MPPT overload"),
    _alarm("mppt2_overload",   "MPPT2 overload"),
    _alarm("battery_low_scc1", "Battery too low to charge"),
    _alarm("battery_low_scc2", "Battery too low to charge 2"),
), more=2)
"""17 fields in the paper, 18 seen."""


def _set(key: str, quantity: Quantity, name: str) -> Token:
    return Token(key, quantity, name, whole, limits=SET_LIMITS.get(quantity), shared=True)


PGS = CommaInquiry("PGS", (
    Token("exists",                    PLAIN, "In a parallel set", whole, shape=r"\d", published=False),
    coded("mode",                      "Mode", MODES),
    Token("active_fault",                TEXT, "Active fault", text, wire="fault_code", codes=FAULTS),
    Token("grid_voltage",              VOLTAGE, "Grid voltage", tenth),
    Token("grid_frequency",            FREQUENCY, "Grid frequency", tenth),
    Token("ac_output_voltage",         VOLTAGE, "AC output voltage", tenth),
    Token("ac_output_frequency",       FREQUENCY, "AC output frequency", tenth),
    Token("ac_output_apparent_power",  APPARENT_POWER, "AC output apparent power", whole),
    Token("ac_output_active_power",    ACTIVE_POWER, "AC output active power", whole),
    _set("total_ac_output_apparent_power", APPARENT_POWER, "Total apparent power"),
    _set("total_ac_output_active_power",   ACTIVE_POWER, "Total active power"),
    Token("load_percent",              PERCENT, "Load", whole),
    _set("total_load_percent",             PERCENT, "Total load"),
    Token("battery_voltage",           BATTERY_VOLTAGE, "Battery voltage", tenth),
    Token("battery_discharge_current", CURRENT, "Battery discharge current", whole),
    Token("battery_charging_current",  CURRENT, "Battery charging current", whole),
    _set("total_battery_charging_current", CURRENT, "Total charging current"),
    Token("battery_capacity",          SOC, "Battery state of charge", whole),
    Token("pv1_power",                 ACTIVE_POWER, "PV1 power", whole),
    Token("pv2_power",                 ACTIVE_POWER, "PV2 power", whole),
    Token("pv1_voltage",               VOLTAGE, "PV1 voltage", tenth),
    Token("pv2_voltage",               VOLTAGE, "PV2 voltage", tenth),
    coded("mppt1_status",              "MPPT1 status", TRACKER_STATES, level=DIAG),
    coded("mppt2_status",              "MPPT2 status", TRACKER_STATES, level=DIAG),
    Token("load_on",                   FLAG, "Load on", whole, wire="load_connected", level=DIAG),
    coded("battery_direction",         "Battery direction", BATTERY_DIRECTIONS, level=DIAG),
    coded("dc_ac_direction",           "DC/AC direction", CONVERTER_DIRECTIONS, level=DIAG),
    coded("line_direction",            "Line direction", LINE_DIRECTIONS, level=DIAG),
    Token("max_temperature",           TEMPERATURE, "Highest temperature", whole, loose=True),
), derived=BATTERY_FLOWS)

PRI = CommaInquiry("PRI", (
    Token("exists",                  PLAIN, "In a parallel set", whole, published=False),
    Token("serial_length",           PLAIN, "Length of the serial number", whole, published=False),
    Token("serial_number",           TEXT, "Serial number", text, shape=SERIAL, published=False),
    coded("charger_source_priority", "Charger source priority", CHARGER_PRIORITIES, level=DIAG),
    Token("max_charging_current",    CURRENT, "Maximum charging current", whole, level=DIAG),
    Token("max_ac_charging_current", CURRENT, "Maximum AC charging current", whole, level=DIAG),
    Token("output_mode",             PLAIN, "Output mode code", whole, level=DIAG),
))


def _default(name: str, quantity: Quantity, words: str, read: Any = whole, **more: Any) -> Token:
    return Token(f"default_{name}", quantity, f"Default {words}", read, wire=name, level=HIDE, **more)


DI = CommaInquiry("DI", (
    _default("ac_output_voltage",           VOLTAGE, "AC output voltage", tenth, limits=RATED_VOLTAGE),
    _default("ac_output_frequency",         FREQUENCY, "AC output frequency", tenth, limits=RATED_FREQUENCY),
    _default("input_voltage_range",         PLAIN, "input voltage range", codes=INPUT_RANGES),
    _default("battery_under_voltage",       BATTERY_VOLTAGE, "battery cut-off voltage", tenth),
    _default("battery_float_voltage",       BATTERY_VOLTAGE, "battery float voltage", tenth),
    _default("battery_bulk_voltage",        BATTERY_VOLTAGE, "battery bulk voltage", tenth),
    _default("battery_recharge_voltage",    BATTERY_VOLTAGE, "battery recharge voltage", tenth),
    _default("battery_redischarge_voltage", BATTERY_VOLTAGE, "battery redischarge voltage", tenth),
    _default("max_charging_current",        CURRENT, "maximum charging current"),
    _default("max_ac_charging_current",     CURRENT, "maximum AC charging current"),
    _default("battery_type",                PLAIN, "battery type", codes=BATTERY_TYPES),
    _default("output_source_priority",      PLAIN, "output source priority", codes=OUTPUT_PRIORITIES),
    _default("charger_source_priority",     PLAIN, "charger source priority", codes=CHARGER_PRIORITIES),
    _default("solar_power_priority",        PLAIN, "solar power priority", codes=SOLAR_PRIORITIES),
    _default("machine_type",                PLAIN, "machine type", codes=MACHINE_TYPES),
    _default("output_mode",                 PLAIN, "output mode code"),
    _default("buzzer_silenced",             FLAG, "buzzer silenced"),
    _default("overload_restart",            FLAG, "overload restart"),
    _default("over_temperature_restart",    FLAG, "over temperature restart"),
    _default("backlight",                   FLAG, "backlight"),
    _default("primary_source_alarm",        FLAG, "primary source alarm"),
    _default("fault_code_record",           FLAG, "fault code record"),
    _default("overload_bypass",             FLAG, "overload bypass"),
    _default("lcd_default_page",            FLAG, "LCD default page"),
))


def _hours(command: str, prefix: str, words: str) -> CommaInquiry:
    """Times of day as HHMM, as text."""
    row = {"quantity": TEXT, "read": text, "shape": r"\d{4}", "level": HIDE}
    return CommaInquiry(command, (
        Token(f"{prefix}_start", name=f"{words} start", wire="start", **row),  # type: ignore[arg-type]
        Token(f"{prefix}_end", name=f"{words} end", wire="end", **row),  # type: ignore[arg-type]
    ), twin=True)


ACCT = _hours("ACCT", "ac_charging", "AC charging time")
ACLT = _hours("ACLT", "ac_supply", "AC supply time")

PI = CommaInquiry("PI", (Token("protocol_id", TEXT, "Protocol", text, shape=r"\d\d", published=False),), twin=True)
ID = Pi18Serial("ID", (Token("serial_number", TEXT, "Serial number", text, published=False),), twin=True)
VFW = CommaInquiry("VFW", tuple(
    Token(key, TEXT, name, text, shape=r"[0-9A-Fa-f.]*", published=False)
    for key, name in (("main", "Firmware"), ("slave1", "Firmware of CPU 1"), ("slave2", "Firmware of CPU 2"))
), twin=True)
T = Pi18Clock("T", (Token("clock", TEXT, "Clock", text, wire="time", level=HIDE),), twin=True)


def _choices(command: str, key: str, words: str) -> Pi18List:
    return Pi18List(command, (Token(key, TEXT, words, text, wire="values", level=HIDE),), twin=True)


MCHGCR = _choices("MCHGCR", "max_charging_current_choices", "Maximum charging currents offered")
MUCHGCR = _choices("MUCHGCR", "max_ac_charging_current_choices", "Maximum AC charging currents offered")


def _energy(command: str, key: str, words: str) -> CommaInquiry:
    # Wh for all four: the paper says kWh for ET, EY and EM, yet 802946 was seen of a 5.6 kW unit.
    # unconfirmed: one vendor paper stands against it
    row = Token(key, ENERGY_TOTAL, words, whole, wire="energy_raw", divisor=1000, shape=r"\d{1,15}")
    return CommaInquiry(command, (row,), twin=True)


ET = _energy("ET", "pv_energy_total", "PV energy total")
EY = _energy("EY", "pv_energy_year", "PV energy this year")
EM = _energy("EM", "pv_energy_month", "PV energy this month")
ED = _energy("ED", "pv_energy_today", "PV energy today")
# fmt: on

_ALL = (PI, ID, VFW, GS, MOD, PIRI, FLAGS, FWS, PGS, PRI, DI, ACCT, ACLT, T, MCHGCR, MUCHGCR, ET, EY, EM, ED)
PI18: Mapping[str, Inquiry] = {inquiry.command: inquiry for inquiry in _ALL}
"""By command, without the number of a unit (PGS0) or a date (EY2026)."""
