"""The inquiries of the PI30 family and what their replies mean: tables, one row a field.

Names are those of the vendor papers as later projects spell them. Papers, by the short names used below, are in
jblance/mpp-solar docs/protocols: P30-2014 (HS/MS/MSX), P30-2015, MAX-2021 (PI30MAX), P41-2019 (LV5048),
GKMK (PIP-GK/MK). What no two sources agree on is marked "unconfirmed".

Signs: the device gives charging and discharging current apart, both positive; `battery_current` is the one minus
the other, so positive while charging. PI30 measures no grid power, so none is published.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bridge.fields import (
    ACTIVE_POWER,
    APPARENT_POWER,
    BATTERY_VOLTAGE,
    COUNT,
    CURRENT,
    DURATION,
    ENERGY_TOTAL,
    FLAG,
    FREQUENCY,
    MINUTES,
    PERCENT,
    PLAIN,
    SOC,
    TEMPERATURE,
    TEXT,
    VOLTAGE,
    Level,
    Quantity,
)
from bridge.voltronic.inquiry import Bit, Code, Contract, Decoded, Derived, Inquiry, Reader, Token, number, text
from bridge.voltronic.verses import (
    EITHER,
    FAULT,
    SERIAL,
    WARNING,
    Alarm,
    AlarmInquiry,
    ClockVerse,
    FirmwareVerse,
    Flag,
    FlagInquiry,
    HoursVerse,
    ListVerse,
    SerialVerse,
)

DIAG = Level.DIAGNOSTIC
HIDE = Level.HIDDEN

RATED_FREQUENCY = (45.0, 66.0)
RATED_VOLTAGE = (90.0, 300.0)
SET_LIMITS = {ACTIVE_POWER: (0.0, 99_999.0), APPARENT_POWER: (0.0, 99_999.0)}

BITS = r"[01]{3,8}|-+"
LETTER = r"[A-Z]"


# -- what codes mean

MODES: Mapping[Code, str] = {
    "P": "power_on",
    "S": "standby",
    "L": "line",
    "B": "battery",
    "F": "fault",
    "H": "power_saving",
    "D": "shutdown",
    "C": "charge",
    "Y": "bypass",
    "E": "eco",
}
"""Source: P30-2014, MAX-2021; D in MAX and GKMK, C, Y and E in GKMK."""

# fmt: off
FAULTS: Mapping[Code, str] = {
    "00": "none",
    "01": "fan_locked",
    "02": "over_temperature",
    "03": "battery_voltage_high",
    "04": "battery_voltage_low",
    "05": "output_short",
    "06": "output_voltage_high",
    "07": "overload_timeout",
    "08": "bus_voltage_high",
    "09": "bus_soft_start",
    "10": "pv_over_current",
    "11": "main_relay_or_pv_over_voltage",               # PI30: main relay, MAX: PV over voltage
    "12": "dc_dc_over_current",
    "13": "battery_discharge_over_current",
    "51": "over_current",
    "52": "bus_soft_start_or_bus_voltage_low",           # PI30: bus soft start, MAX: bus voltage low
    "53": "inverter_soft_start",
    "54": "self_test",
    "55": "dc_in_ac_output",
    "56": "battery_open",
    "57": "current_sensor",
    "58": "output_voltage_low",
    "59": "pv_voltage_high",
    "60": "negative_power",
    "71": "firmware_versions_differ",
    "72": "output_circuit_or_current_sharing",           # PI30: output circuit, MAX: current sharing
    "80": "can",
    "81": "host_lost",
    "82": "synchronization_lost",
    "83": "battery_voltages_differ",
    "84": "ac_input_differs",
    "85": "ac_current_unbalanced",
    "86": "output_modes_differ",
}
# fmt: on

BATTERY_TYPES: Mapping[Code, str] = {
    0: "agm",
    1: "flooded",
    2: "user",
    3: "pylontech",
    4: "shinheung",
    5: "weco",
    6: "soltaro",
    7: "bak",
    8: "lib",
    9: "lic",
}
INPUT_RANGES: Mapping[Code, str] = {0: "appliance", 1: "ups"}
OUTPUT_PRIORITIES: Mapping[Code, str] = {0: "utility_first", 1: "solar_first", 2: "solar_battery_utility"}
CHARGER_PRIORITIES: Mapping[Code, str] = {
    0: "utility_first",
    1: "solar_first",
    2: "solar_and_utility",
    3: "solar_only",
}
"""Unconfirmed for clones: some are said to swap 2 and 3 (softwarecrash/Solar2MQTT-ESP8266 issue 278)."""
MACHINE_TYPES: Mapping[Code, str] = {
    "00": "grid_tie",
    "01": "off_grid",
    "10": "hybrid",
    "11": "off_grid_two_trackers",
    "20": "off_grid_three_trackers",
}
TOPOLOGIES: Mapping[Code, str] = {0: "transformerless", 1: "transformer"}
OUTPUT_MODES: Mapping[Code, str] = {
    0: "single",
    1: "parallel",
    2: "phase_1_of_3",
    3: "phase_2_of_3",
    4: "phase_3_of_3",
    5: "phase_1_of_2",
    6: "phase_2_of_2_120",
    7: "phase_2_of_2_180",
}
PI41_OUTPUT_MODES: Mapping[Code, str] = {
    1: "parallel",
    2: "phase_1_of_3",
    3: "phase_2_of_3",
    4: "phase_3_of_3",
    5: "parallel_120",
    6: "parallel_180",
}
PV_OK_CONDITIONS: Mapping[Code, str] = {0: "one_unit", 1: "all_units"}
PV_BALANCES: Mapping[Code, str] = {0: "charging_current", 1: "charging_and_load"}
OPERATION_LOGICS: Mapping[Code, str] = {0: "automatic", 1: "online", 2: "eco"}
ROLES: Mapping[Code, str] = {"00": "new", "01": "slave", "02": "master"}
STAGES: Mapping[Code, str] = {"10": "none", "11": "bulk", "12": "absorb", "13": "float"}
CHARGING_STAGES: Mapping[Code, str] = {0: "automatic", 1: "two_stage", 2: "three_stage"}


# -- rules of the contract (monitor.py of Interster/AxpertInverterLogScriptPython)


def same(key: str) -> Contract:
    """The value as it is: an int where the field had no point, else a float; texts unchanged."""
    return ((key, lambda value: value),)


def floats(key: str) -> Contract:
    """Always a float: templates may print its ".0"."""
    return ((key, float),)


def _serial(value: str) -> int | None:
    return int(value) if value.isascii() and value.isdigit() else None


SERIAL_NUMBER: Contract = (("SerialNumber", _serial),)
"""A number, as it always was: leading zeros are lost."""
MODE_FLAGS: Contract = (
    ("Gridmode", lambda mode: int(mode == "L")),
    ("Solarmode", lambda mode: int(mode == "B")),
)


# -- rows of a kind

def bits(key: str, name: str, table: tuple[Bit, ...] = (), contract: Contract = ()) -> Token:
    """A field of bits: its text, for whoever wants it, and each bit of `table`."""
    return Token(key, TEXT, name, text, shape=BITS, bits=table, level=HIDE, contract=contract)


def coded(key: str, name: str, codes: Mapping[Code, str], **more: Any) -> Token:
    """A field whose number is a code."""
    return Token(key, PLAIN, name, codes=codes, **more)


def shared(key: str, quantity: Quantity, name: str, contract: str) -> Token:
    """A field that says the same in the reply of every unit of a set."""
    return Token(key, quantity, name, limits=SET_LIMITS.get(quantity), shared=True, contract=same(contract))


def of_pi41(inquiry: Inquiry) -> Inquiry:
    """Return an inquiry in which the output mode has the codes of PI41."""

    def own(rows: tuple[Token, ...]) -> tuple[Token, ...]:
        return tuple(replace(row, codes=PI41_OUTPUT_MODES) if row.wire_name == "output_mode" else row for row in rows)

    return replace(inquiry, rows=own(inquiry.rows), forms={key: own(rows) for key, rows in inquiry.forms.items()})


# -- status bits, first character first

# fmt: off
DEVICE_STATUS = (
    Bit(0, "sbu_priority_version",  "SBU priority version present"),
    Bit(1, "configuration_changed", "Configuration changed"),
    Bit(2, "scc_firmware_updated",  "Charge controller firmware updated"),
    Bit(3, "load_on",               "Load on"),
    Bit(4, "battery_steady",        "Battery voltage steady while charging"),
    Bit(5, "charging",              "Charging"),
    Bit(6, "charging_solar",        "Charging from solar"),
    Bit(7, "charging_ac",           "Charging from AC"),
)
DEVICE_STATUS2 = (
    Bit(0, "charging_float",      "Float charging"),
    Bit(1, "switch_on",           "Switch on"),
    Bit(2, "dustproof_installed", "Dust-proof kit installed"),  # MAX and Axpert V; reserved elsewhere
)
INVERTER_STATUS = (
    Bit(0, "scc_ok",                "Charge controller OK"),
    Bit(1, "charging_ac",           "Charging from AC"),
    Bit(2, "charging_solar",        "Charging from solar"),
    Bit(3, "battery_open",          "Battery open"),
    Bit(4, "battery_under",         "Battery under voltage"),
    Bit(5, "line_lost",             "Line lost"),
    Bit(6, "load_on",               "Load on"),
    Bit(7, "configuration_changed", "Configuration changed"),
)
L2_STATUS = (
    Bit(0, "scc2_ok",           "Charge controller 2 OK"),
    Bit(1, "l2_charging_ac",    "L2 charging from AC"),
    Bit(2, "l2_charging_solar", "L2 charging from solar"),
    Bit(5, "l2_line_lost",      "L2 line lost"),
    Bit(6, "l2_load_on",        "L2 load on"),
)
SCC_STATUS = (
    Bit(0, "scc2_charging", "Charge controller 2 charging"),
    Bit(1, "scc3_charging", "Charge controller 3 charging"),
)


# -- general status

def battery_current(charging: float, discharging: float) -> float:
    """Return A, positive while charging: one of the two is 0 on a real unit."""
    return charging - discharging


def battery_power(volts: float, charging: float, discharging: float) -> int:
    """Return W, positive while charging: battery volts times `battery_current`, no finer than its whole amps."""
    return round(volts * (charging - discharging))


_AMPERES = ("battery_charging_current", "battery_discharge_current")
BATTERY_FLOWS = (
    Derived("battery_current", CURRENT, "Battery current", _AMPERES, battery_current),
    Derived("battery_power", ACTIVE_POWER, "Battery power", ("battery_voltage", *_AMPERES), battery_power),
)

_HEAT_SINK = floats("InverterHeatsinkTemperature")
_SCC = floats("BatteryVoltageFromScc")

QPIGS = Inquiry("QPIGS", (
    Token("grid_voltage",              VOLTAGE, "Grid voltage"),
    Token("grid_frequency",            FREQUENCY, "Grid frequency"),
    Token("ac_output_voltage",         VOLTAGE, "AC output voltage"),
    Token("ac_output_frequency",       FREQUENCY, "AC output frequency"),
    Token("ac_output_apparent_power",  APPARENT_POWER, "AC output apparent power"),
    Token("ac_output_active_power",    ACTIVE_POWER, "AC output active power"),
    Token("output_load_percent",       PERCENT, "Load"),
    Token("bus_voltage",               VOLTAGE, "Bus voltage", level=DIAG, contract=floats("BusVoltage")),
    Token("battery_voltage",           BATTERY_VOLTAGE, "Battery voltage"),
    Token("battery_charging_current",  CURRENT, "Battery charging current", contract=same("BatteryChargingCurrent")),
    Token("battery_capacity",          SOC, "Battery state of charge"),
    # a raw A/D value on units of 1 to 3 kVA
    Token("heatsink_temperature",      TEMPERATURE, "Heat sink temperature", loose=True, contract=_HEAT_SINK),
    Token("pv1_current",               CURRENT, "PV1 current", contract=same("PvInputCurrent")),
    Token("pv1_voltage",               VOLTAGE, "PV1 voltage", contract=floats("PvInputVoltage")),
    Token("battery_voltage_scc",       BATTERY_VOLTAGE, "Charge controller battery voltage", level=DIAG, contract=_SCC),
    Token("battery_discharge_current", CURRENT, "Battery discharge current", contract=same("BatteryDischargeCurrent")),
    bits("device_status",             "Device status bits", DEVICE_STATUS, contract=same("DeviceStatus")),
    Token("fan_on_voltage_offset_10mv", PLAIN, "Battery voltage offset for fans on", level=HIDE),
    Token("eeprom_version",            PLAIN, "EEPROM version", level=HIDE),
    Token("pv1_power",                 ACTIVE_POWER, "PV1 power", contract=same("PvInputPower")),
    bits("device_status2",            "Device status bits 2", DEVICE_STATUS2),
    Token("solar_feed_to_grid",        FLAG, "Solar feed to grid", level=DIAG),
    Token("country_regulation",        TEXT, "Country regulation", text, level=HIDE),
    Token("solar_feed_power",          ACTIVE_POWER, "Solar feed power", level=DIAG),
), minimum=17, refused=(22,), more=8, derived=BATTERY_FLOWS, runs_of_spaces=True)
"""17 fields in P30-2014, 21 in P30-2015, 24 in MAX-2021. 22 fields are PI16's reply of the same name.

A Sorotec Revo [PI30REVO V03] answers in this form, too, but with PV watts for pv1_current and the day's Wh for
battery_discharge_current, and its QPIRI has the alarm voltage for battery_recharge_voltage. It is not told apart here.
"""

PI41_QPIGS = replace(QPIGS, rows=tuple(
    replace(row, bits=INVERTER_STATUS) if row.wire_name == "device_status" else row for row in QPIGS.rows
))
"""LV5048: line 1 of the split phase, and the status bits of its QPGSn [P41-2019]."""

_PV2_CURRENT = Token("pv2_current", CURRENT, "PV2 current")
_PV2_VOLTAGE = Token("pv2_voltage", VOLTAGE, "PV2 voltage")
_PV2_POWER = Token("pv2_power", ACTIVE_POWER, "PV2 power")

QPIGS2 = Inquiry("QPIGS2", (_PV2_CURRENT, _PV2_VOLTAGE, _PV2_POWER), forms={
    12: (
        _PV2_CURRENT,
        _PV2_VOLTAGE,
        Token("battery_voltage_scc2", BATTERY_VOLTAGE, "Charge controller 2 battery voltage", level=DIAG),
        _PV2_POWER,
        bits("scc_status",           "Charge controller status bits", SCC_STATUS),
        Token("ac_charging_current",  CURRENT, "AC charging current"),
        Token("ac_charging_power",    ACTIVE_POWER, "AC charging power"),
        Token("pv3_current",          CURRENT, "PV3 current"),
        Token("pv3_voltage",          VOLTAGE, "PV3 voltage"),
        Token("battery_voltage_scc3", BATTERY_VOLTAGE, "Charge controller 3 battery voltage", level=DIAG),
        Token("pv3_power",            ACTIVE_POWER, "PV3 power"),
        Token("pv_total_power",       ACTIVE_POWER, "PV total power"),
    ),
    11: (
        Token("l2_grid_voltage",          VOLTAGE, "L2 grid voltage"),
        Token("l2_grid_frequency",        FREQUENCY, "L2 grid frequency"),
        Token("l2_output_voltage",        VOLTAGE, "L2 output voltage"),
        Token("l2_output_frequency",      FREQUENCY, "L2 output frequency"),
        Token("l2_output_apparent_power", APPARENT_POWER, "L2 output apparent power"),
        Token("l2_output_active_power",   ACTIVE_POWER, "L2 output active power"),
        Token("l2_load_percent",          PERCENT, "L2 load"),
        _PV2_CURRENT,
        _PV2_VOLTAGE,
        Token("l2_battery_voltage",       BATTERY_VOLTAGE, "L2 battery voltage"),
        # all eight, which tell it from eleven amperes of QMUCHGCR that end in 100
        replace(bits("l2_inverter_status", "L2 status bits", L2_STATUS), shape=r"[01]{8}|-+"),
    ),
})
"""3 fields in MAX-2021, 12 in P30-2015 (PIP4048MST), 11 in P41-2019 (line 2)."""

QMOD = Inquiry("QMOD", (
    Token("mode", TEXT, "Mode", text, shape=LETTER, codes=MODES),
))


# -- parallel sets

_PRIORITY = same("ChargerSourcePriority")

QPGS = Inquiry("QPGS", (
    Token("exists",                    PLAIN, "In a parallel set", shape=r"\d", published=False),
    Token("serial_number", TEXT, "Serial number", text, shape=SERIAL, published=False, contract=SERIAL_NUMBER),
    Token("mode",                      TEXT, "Mode", text, shape=LETTER, codes=MODES, contract=MODE_FLAGS),
    Token("active_fault",                TEXT, "Active fault", text, wire="fault_code", codes=FAULTS),
    Token("grid_voltage",              VOLTAGE, "Grid voltage", contract=floats("GridVoltage")),
    Token("grid_frequency",            FREQUENCY, "Grid frequency", contract=floats("GridFrequency")),
    Token("ac_output_voltage",         VOLTAGE, "AC output voltage", contract=floats("OutputVoltage")),
    Token("ac_output_frequency",       FREQUENCY, "AC output frequency", contract=floats("OutputFrequency")),
    Token("ac_output_apparent_power",  APPARENT_POWER, "AC output apparent power", contract=same("OutputAparentPower")),
    Token("ac_output_active_power",    ACTIVE_POWER, "AC output active power", contract=same("OutputActivePower")),
    Token("load_percent",              PERCENT, "Load", contract=same("LoadPercentage")),
    Token("battery_voltage",           BATTERY_VOLTAGE, "Battery voltage", contract=floats("BatteryVoltage")),
    Token("battery_charging_current",  CURRENT, "Battery charging current", contract=same("BatteryChargingCurrent")),
    Token("battery_capacity",          SOC, "Battery state of charge", contract=floats("BatteryCapacity")),
    Token("pv1_voltage",               VOLTAGE, "PV1 voltage", contract=floats("PvInputVoltage")),
    shared("total_charging_current",    CURRENT, "Total charging current", "TotalChargingCurrent"),
    shared("total_ac_output_apparent_power", APPARENT_POWER, "Total apparent power", "TotalAcOutputApparentPower"),
    shared("total_ac_output_active_power", ACTIVE_POWER, "Total active power", "TotalAcOutputActivePower"),
    shared("total_ac_output_percent",   PERCENT, "Total load", "TotalAcOutputPercentage"),
    bits("inverter_status",           "Inverter status bits", INVERTER_STATUS),
    coded("output_mode", "Output mode", OUTPUT_MODES, level=DIAG, contract=same("OutputMode")),
    coded("charger_source_priority", "Charger source priority", CHARGER_PRIORITIES, level=DIAG, contract=_PRIORITY),
    Token("max_charger_current", CURRENT, "Charging limit", level=DIAG, contract=same("MaxChargeCurrent")),
    Token("max_charger_range", CURRENT, "Largest charging current", level=DIAG, contract=same("MaxChargerRange")),
    Token("max_ac_charger_current", CURRENT, "AC charging limit", level=DIAG, contract=same("MaxAcChargerCurrent")),
    Token("pv1_current",               CURRENT, "PV1 current", contract=same("PvInputCurrentForBattery")),
    Token("battery_discharge_current", CURRENT, "Battery discharge current", contract=same("BatteryDischargeCurrent")),
    Token("pv2_voltage",               VOLTAGE, "PV2 voltage"),
    Token("pv2_current",               CURRENT, "PV2 current"),
), minimum=27, more=8, derived=BATTERY_FLOWS)
"""27 fields in P30-2014 and P30-2015, 29 in MAX-2021."""

PI41_QPGS = of_pi41(QPGS)

QP2GS = Inquiry("QP2GS", (
    Token("exists",      PLAIN, "In a parallel set", shape=r"\d", published=False),
    Token("pv1_power",   ACTIVE_POWER, "PV1 power"),
    _PV2_VOLTAGE,
    _PV2_CURRENT,
    _PV2_POWER,
    Token("pv3_voltage", VOLTAGE, "PV3 voltage"),
    Token("pv3_current", CURRENT, "PV3 current"),
    Token("pv3_power",   ACTIVE_POWER, "PV3 power"),
    bits("scc_status",  "Charge controller status bits"),
), minimum=8, forms={
    17: (
        Token("exists_raw", TEXT, "In a parallel set", text, published=False),  # unconfirmed: 11 in a capture
        Token("serial_number",            TEXT, "Serial number", text, shape=SERIAL, published=False),
        Token("mode",                     TEXT, "Mode", text, shape=LETTER, codes=MODES),
        Token("active_fault",               TEXT, "Active fault", text, wire="fault_code", codes=FAULTS),
        Token("l2_grid_voltage",          VOLTAGE, "L2 grid voltage"),
        Token("l2_grid_frequency",        FREQUENCY, "L2 grid frequency"),
        Token("l2_output_voltage",        VOLTAGE, "L2 output voltage"),
        Token("l2_output_frequency",      FREQUENCY, "L2 output frequency"),
        Token("l2_output_apparent_power", APPARENT_POWER, "L2 output apparent power"),
        Token("l2_output_active_power",   ACTIVE_POWER, "L2 output active power"),
        Token("l2_load_percent",          PERCENT, "L2 load"),
        Token("l2_battery_voltage",       BATTERY_VOLTAGE, "L2 battery voltage"),
        Token("l2_battery_charging_current", CURRENT, "L2 battery charging current"),
        Token("l2_battery_capacity",      SOC, "L2 battery state of charge"),
        _PV2_VOLTAGE,
        _PV2_CURRENT,
        bits("l2_inverter_status",       "L2 status bits", L2_STATUS),
    ),
})
"""P30-2015 (SCC 2 and 3 of unit n) and P41-2019 (line 2 of unit n), which is told apart by its 17 fields."""


# -- ratings and settings


def _all(level: Level, *rows: Token) -> tuple[Token, ...]:
    """Return rows that share a level."""
    return tuple(replace(row, level=level) for row in rows)


QPIRI_KNOWN = 25


def qpiri_form(tokens: list[str]) -> int:
    """Return QPIRI_KNOWN where the fields behind the 25th are not those of the papers.

    Two units end in ``23.5 12 22.0`` and ``46.0 10 44.0`` (syssi/esphome-pipsolar issues 234 and 180); nobody knows
    what that means. CV minutes are three digits without a point.
    """
    return QPIRI_KNOWN if len(tokens) > QPIRI_KNOWN and not re.fullmatch(r"\d{3}|-+", tokens[QPIRI_KNOWN]) else 0


def overflown(decoded: Decoded) -> tuple[str, ...]:
    """Name the rated powers that are below half of volts times amperes: a fifth digit did not fit (10200 as 0200)."""
    volts, amperes = decoded["ac_output_rating_voltage"], decoded["ac_output_rating_current"]
    if volts is None or amperes is None:
        return ()
    powers = ("ac_output_rating_apparent_power", "ac_output_rating_active_power")
    return tuple(name for name in powers if decoded[name] is not None and decoded[name] < volts * amperes / 2)


_QPIRI_ROWS = _all(DIAG,
    Token("grid_rating_voltage",             VOLTAGE, "Grid rating voltage", limits=RATED_VOLTAGE),
    Token("grid_rating_current",             CURRENT, "Grid rating current"),
    Token("ac_output_rating_voltage",        VOLTAGE, "AC output rating voltage", limits=RATED_VOLTAGE),
    Token("ac_output_rating_frequency",      FREQUENCY, "AC output rating frequency", limits=RATED_FREQUENCY),
    Token("ac_output_rating_current",        CURRENT, "AC output rating current"),
    Token("ac_output_rating_apparent_power", APPARENT_POWER, "AC output rating apparent power"),
    Token("ac_output_rating_active_power",   ACTIVE_POWER, "AC output rating active power"),
    Token("battery_rating_voltage",          BATTERY_VOLTAGE, "Battery rating voltage"),
    Token("battery_recharge_voltage",        BATTERY_VOLTAGE, "Battery recharge voltage"),
    Token("battery_under_voltage",           BATTERY_VOLTAGE, "Battery cut-off voltage"),
    Token("battery_bulk_voltage",            BATTERY_VOLTAGE, "Battery bulk voltage"),
    Token("battery_float_voltage",           BATTERY_VOLTAGE, "Battery float voltage"),
    coded("battery_type",                    "Battery type", BATTERY_TYPES),
    Token("max_ac_charging_current",         CURRENT, "Maximum AC charging current"),
    Token("max_charging_current",            CURRENT, "Maximum charging current"),
    coded("input_voltage_range",             "Input voltage range", INPUT_RANGES),
    coded("output_source_priority",          "Output source priority", OUTPUT_PRIORITIES),
    coded("charger_source_priority",         "Charger source priority", CHARGER_PRIORITIES),
    Token("parallel_max_num",                COUNT, "Units a parallel set may have"),
    Token("machine_type",                    TEXT, "Machine type", text, codes=MACHINE_TYPES),
    coded("topology",                        "Topology", TOPOLOGIES),
    coded("output_mode",                     "Output mode", OUTPUT_MODES),
    Token("battery_redischarge_voltage",     BATTERY_VOLTAGE, "Battery redischarge voltage"),
    coded("pv_ok_condition",                 "PV OK condition", PV_OK_CONDITIONS),
    coded("pv_power_balance",                "PV power balance", PV_BALANCES),
    Token("max_cv_charging_time",            MINUTES, "Longest constant-voltage charging"),
    coded("operation_logic",                 "Operation logic", OPERATION_LOGICS),
    Token("max_discharging_current",         CURRENT, "Maximum discharging current"),
)
_QPIRI_ODD = {QPIRI_KNOWN: _QPIRI_ROWS[:QPIRI_KNOWN]}
QPIRI = Inquiry("QPIRI", _QPIRI_ROWS, minimum=24, more=8, form=qpiri_form, forms=_QPIRI_ODD, doubtful=overflown)
"""25 fields in P30-2014 and P30-2015, 26 in PI41 and King, 27 in GKMK, 28 in MAX-2021; 24 were seen by powermon."""

PI41_QPIRI = of_pi41(QPIRI)


def _default(name: str, quantity: Quantity, words: str, read: Reader = number, **more: Any) -> Token:
    """A row of QDI: the factory's value of a setting, so as not to be taken for the setting itself."""
    return Token(f"default_{name}", quantity, f"Default {words}", read, wire=name, level=HIDE, **more)


_QDI_ROWS = (
    _default("ac_output_voltage",           VOLTAGE, "AC output voltage", limits=RATED_VOLTAGE),
    _default("ac_output_frequency",         FREQUENCY, "AC output frequency", limits=RATED_FREQUENCY),
    # on Plus Duo this and max_charging_current are swapped [P30-2015]; not told apart here
    _default("max_ac_charging_current",     CURRENT, "maximum AC charging current", shape=r"\d{1,15}"),
    _default("battery_under_voltage",       BATTERY_VOLTAGE, "battery cut-off voltage"),
    _default("battery_float_voltage",       BATTERY_VOLTAGE, "battery float voltage"),
    _default("battery_bulk_voltage",        BATTERY_VOLTAGE, "battery bulk voltage"),
    _default("battery_recharge_voltage",    BATTERY_VOLTAGE, "battery recharge voltage"),
    _default("max_charging_current",        CURRENT, "maximum charging current"),
    _default("input_voltage_range",         PLAIN, "input voltage range", codes=INPUT_RANGES),
    _default("output_source_priority",      PLAIN, "output source priority", codes=OUTPUT_PRIORITIES),
    _default("charger_source_priority",     PLAIN, "charger source priority", codes=CHARGER_PRIORITIES),
    _default("battery_type",                PLAIN, "battery type", codes=BATTERY_TYPES),
    _default("buzzer_silenced",             FLAG, "buzzer silenced"),
    _default("power_saving",                FLAG, "power saving"),
    _default("overload_restart",            FLAG, "overload restart"),
    _default("over_temperature_restart",    FLAG, "over temperature restart"),
    _default("lcd_backlight",               FLAG, "LCD backlight"),
    _default("primary_source_alarm",        FLAG, "primary source alarm"),
    _default("fault_code_record",           FLAG, "fault code record"),
    _default("overload_bypass",             FLAG, "overload bypass"),
    _default("lcd_default_page",            FLAG, "LCD default page"),
    _default("output_mode",                 PLAIN, "output mode", codes=OUTPUT_MODES),
    _default("battery_redischarge_voltage", BATTERY_VOLTAGE, "battery redischarge voltage"),
    _default("pv_ok_condition",             PLAIN, "PV OK condition", codes=PV_OK_CONDITIONS),
    _default("pv_power_balance",            PLAIN, "PV power balance", codes=PV_BALANCES),
    _default("max_cv_charging_time",        MINUTES, "longest constant-voltage charging"),
    _default("max_discharging_current",     CURRENT, "maximum discharging current"),
)
QDI_GKMK, QDI_ODD = -27, -25


def qdi_form(tokens: list[str]) -> int:
    """Return which form these fields have: QDI_GKMK where the 27th is one digit, its operation logic.

    A number of fields that no paper has says nothing of those behind the 25th: QDI_ODD.
    """
    if len(tokens) == 27 and len(tokens[26]) == 1:
        return QDI_GKMK
    return QDI_ODD if len(tokens) == 28 or len(tokens) > 29 else len(tokens)


QDI = Inquiry("QDI", _QDI_ROWS, minimum=25, more=8, form=qdi_form, forms={
    29: (
        *_QDI_ROWS[:25],
        _default("charging_stage",             PLAIN, "charging stage", codes=CHARGING_STAGES),
        _default("data_log_popup",             FLAG, "data log pop-up"),
        _default("max_solar_charging_current", CURRENT, "maximum solar charging current"),
        _default("cv_time",                    MINUTES, "constant-voltage time"),  # 255 is automatic
    ),
    QDI_ODD: _QDI_ROWS[:25],
    QDI_GKMK: (*_QDI_ROWS[:26], _default("operation_logic", PLAIN, "operation logic", codes=OPERATION_LOGICS)),
})
"""25 fields in P30-2014, 26 in King and PI41, 27 in MAX-2021 and GKMK, 29 in P30-2015."""

PI41_QDI = of_pi41(QDI)

# its flags tell it from ten amperes of QMCHGCR
QBEQI = Inquiry("QBEQI", _all(DIAG,
    Token("equalization_enabled",       FLAG, "Equalization enabled", wire="enabled", shape="[01]"),
    Token("equalization_time",          MINUTES, "Equalization time", wire="time_min"),
    Token("equalization_period",        Quantity("d", "duration"), "Equalization period", wire="period_days"),
    Token("equalization_max_current",   CURRENT, "Equalization maximum current", wire="max_current"),
    Token("equalization_reserved1",     TEXT, "Equalization reserved 1", text, wire="reserved1", published=False),
    Token("equalization_voltage",       BATTERY_VOLTAGE, "Equalization voltage", wire="voltage"),
    Token("equalization_reserved2",     TEXT, "Equalization reserved 2", text, wire="reserved2", published=False),
    Token("equalization_over_time",     MINUTES, "Equalization time-out", wire="over_time_min"),
    Token("equalization_active",        FLAG, "Equalization active", wire="active", shape="[01]"),
    Token("equalization_elapsed_hours", Quantity("h", "duration"), "Equalization elapsed time", wire="elapsed_hours"),
))

TENTHS = Quantity("V", "voltage", decimals=1)
"""Volts that come as whole tenths."""


def _tenths(name: str, words: str) -> Token:
    """A row of QBMS in tenths of a volt; figures that are no battery's in those, but in volts, are not known."""
    return Token(f"bms_{name}", TENTHS, words, wire=f"{name}_0v1", divisor=10, limits=(80, 1000), loose=True)


QBMS = Inquiry("QBMS", _all(DIAG,
    Token("bms_battery_disconnected",  FLAG, "BMS: battery disconnected", wire="battery_disconnected"),
    Token("bms_battery_percent",       SOC, "BMS: state of charge", wire="battery_percent"),
    Token("bms_force_charge",          FLAG, "BMS: charge forced", wire="force_charge"),
    Token("bms_stop_discharge",        FLAG, "BMS: discharging stopped", wire="stop_discharge"),
    Token("bms_stop_charge",           FLAG, "BMS: charging stopped", wire="stop_charge"),
    _tenths("cv_voltage",              "BMS: constant voltage"),
    _tenths("float_voltage",           "BMS: float voltage"),
    _tenths("cutoff_voltage",          "BMS: cut-off voltage"),
    Token("bms_max_charge_current",    CURRENT, "BMS: maximum charging current", wire="max_charge_current"),
    Token("bms_max_discharge_current", CURRENT, "BMS: maximum discharging current", wire="max_discharge_current"),
), twin=True)
"""Unconfirmed: the layout is PBMS's [MAX-2021], which says volts; the tenths of a volt are from mpp-solar's sample."""

_STAGES = coded("charging_stages", "Charging stages", CHARGING_STAGES, shape=r"\d\d", level=DIAG)
QCST = Inquiry("QCST", (_STAGES,), twin=True)
QCVT = Inquiry("QCVT", _all(DIAG, Token("cv_time", MINUTES, "Constant-voltage time", shape=r"\d{3}")), twin=True)
QBOOT = Inquiry("QBOOT", (Token("dsp_bootstrap", FLAG, "DSP has a bootstrap", shape="[01]", level=HIDE),), twin=True)
QOPM = Inquiry("QOPM", (Token("output_mode", TEXT, "Output mode", text, shape=r"\d\d", published=False),), twin=True)

QLED = Inquiry("QLED", _all(HIDE,
    Token("led_enabled",      FLAG, "LED ring on"),
    Token("led_speed",        PLAIN, "LED ring speed"),
    Token("led_effect",       PLAIN, "LED ring effect", codes={0: "breathing", 2: "solid", 3: "scrolling"}),
    Token("led_brightness",   PLAIN, "LED ring brightness"),
    Token("led_colour_count", PLAIN, "LED ring colours"),
), twin=True, more=32)
"""MAX-2021; the colours, nine digits each, stay as text behind the known fields."""

Q1 = Inquiry("Q1", _all(HIDE,
    Token("absorb_seconds_left",      DURATION, "Absorption time left", shape=r"\d{1,15}"),
    Token("float_seconds_left",       DURATION, "Float time left", shape=r"\d{1,15}"),
    Token("scc_ok_flag",              TEXT, "Charge controller OK", text, shape=r"\d\d"),
    Token("allow_scc_on_flag",        TEXT, "Charge controller allowed on", text, shape=r"\d\d"),
    Token("charge_average_current",   TEXT, "Average charging current", text),
    Token("scc_temperature",          TEMPERATURE, "Charge controller temperature", loose=True),
    Token("inverter_temperature",     TEMPERATURE, "Inverter temperature", loose=True),
    Token("battery_side_temperature", TEMPERATURE, "Battery side temperature", loose=True),
    Token("transformer_temperature",  TEMPERATURE, "Transformer temperature", loose=True),
    Token("parallel_role",            TEXT, "Parallel role", text, wire="parallel_role_raw", codes=ROLES),
    Token("fan_lock",                 TEXT, "Fan lock", text),
    Token("fan_pwm_duty_unused",      TEXT, "Fan duty", text, published=False),
    Token("fan_speed_percent",        PERCENT, "Fan speed", limits=(0, 9999)),
    # unconfirmed: tenths of a watt on firmware 52.30
    Token("scc_charge_power",         ACTIVE_POWER, "Charge controller power"),
    Token("parallel_warning",         TEXT, "Parallel warning", text),
    Token("sync_frequency",           FREQUENCY, "Synchronization frequency"),
    Token("charge_stage",             TEXT, "Charge stage", text, wire="charge_stage_raw", codes=STAGES),
), more=10)
"""Undocumented; 17 fields, 27 on firmware 74.40. Source: jblance/mpp-solar docs/protocols/PI30_Q1 definition.md."""


# -- identity

QPI = Inquiry("QPI", (Token("protocol_id", TEXT, "Protocol", text, shape=r"PI\d\d", published=False),))
QID = Inquiry("QID", (Token("serial_number", TEXT, "Serial number", text, shape=SERIAL, published=False),), twin=True)
QVFW = FirmwareVerse("QVFW", (Token("raw", TEXT, "Firmware", text, published=False),))
QVFW2 = FirmwareVerse("QVFW2", (Token("raw", TEXT, "Firmware 2", text, published=False),))
QVFW3 = FirmwareVerse("QVFW3", (Token("raw", TEXT, "Firmware 3", text, published=False),))
QVFW4 = FirmwareVerse("QVFW4", (Token("raw", TEXT, "Firmware 4", text, published=False),))
QMN = Inquiry("QMN", (Token("model_name", TEXT, "Model", text, published=False),), twin=True)
_GENERAL_MODEL = Token("general_model_number", TEXT, "Model number", text, shape=r"\d{3}", published=False)
QGMN = Inquiry("QGMN", (_GENERAL_MODEL,), twin=True)


# -- energy, Wh on the wire

def _energy(command: str, key: str, words: str) -> Inquiry:
    row = Token(key, ENERGY_TOTAL, words, wire="energy_wh", divisor=1000, shape=r"\d{1,15}")
    return Inquiry(command, (row,), twin=True)


QET = _energy("QET", "pv_energy_total", "PV energy total")
QEY = _energy("QEY", "pv_energy_year", "PV energy this year")
QEM = _energy("QEM", "pv_energy_month", "PV energy this month")
QED = _energy("QED", "pv_energy_today", "PV energy today")
QLT = _energy("QLT", "load_energy_total", "Load energy total")
QLY = _energy("QLY", "load_energy_year", "Load energy this year")
QLM = _energy("QLM", "load_energy_month", "Load energy this month")
QLD = _energy("QLD", "load_energy_today", "Load energy today")
# fmt: on


# -- replies that are no row of fields


def _choices(command: str, key: str, words: str) -> ListVerse:
    return ListVerse(command, (Token(key, TEXT, words, text, wire="values", level=HIDE),), twin=True)


# fmt: off
QSID = SerialVerse("QSID", (Token("serial_number", TEXT, "Serial number", text, published=False),), twin=True)
QMCHGCR = _choices("QMCHGCR", "max_charging_current_choices", "Maximum charging currents offered")
QMUCHGCR = _choices("QMUCHGCR", "max_ac_charging_current_choices", "Maximum AC charging currents offered")
QMSCHGCR = _choices("QMSCHGCR", "max_solar_charging_current_choices", "Maximum solar charging currents offered")
QT = ClockVerse("QT", (Token("clock", TEXT, "Clock", text, wire="time", level=HIDE),), twin=True)
QOPPT = HoursVerse("QOPPT", (
    Token("output_priority_hours", TEXT, "Output priority by hour", text, wire="hours", level=HIDE),
    coded("output_priority_now",   "Output priority now", OUTPUT_PRIORITIES, wire="current", level=HIDE),
), twin=True)
QCHPT = HoursVerse("QCHPT", (
    Token("charger_priority_hours", TEXT, "Charger priority by hour", text, wire="hours", level=HIDE),
    coded("charger_priority_now",   "Charger priority now", CHARGER_PRIORITIES, wire="current", level=HIDE),
), twin=True)


# -- flags

FLAGS = (
    Flag("a", "flag_buzzer",                   "Buzzer flag"),  # unconfirmed: enabled may mean silenced
    Flag("b", "flag_overload_bypass",          "Overload bypass"),
    Flag("d", "flag_solar_feed_to_grid",       "Solar feed to grid allowed", usual=False),
    Flag("j", "flag_power_saving",             "Power saving"),
    Flag("k", "flag_lcd_default_page",         "LCD returns to first page"),
    Flag("l", "flag_data_log_popup",           "Data log pop-up", usual=False),
    Flag("u", "flag_overload_restart",         "Overload restart"),
    Flag("v", "flag_over_temperature_restart", "Over temperature restart"),
    Flag("x", "flag_backlight",                "Backlight"),
    Flag("y", "flag_primary_source_alarm",     "Alarm when the primary source is interrupted"),
    Flag("z", "flag_fault_code_record",        "Fault code record"),
)
# fmt: on


QFLAG = FlagInquiry("QFLAG", (), flags=FLAGS)


# -- warnings

# fmt: off
ALARMS = (
    Alarm(0,  "alarm_pv_loss",                  "PV loss", WARNING, (36,)),
    Alarm(1,  "alarm_inverter_fault",           "Inverter fault", FAULT),
    Alarm(2,  "alarm_bus_over",                 "Bus voltage over", FAULT),
    Alarm(3,  "alarm_bus_under",                "Bus voltage under", FAULT),
    Alarm(4,  "alarm_bus_soft_fail",            "Bus soft start failed", FAULT),
    Alarm(5,  "alarm_line_fail",                "Line fail", WARNING),
    Alarm(6,  "alarm_output_short",             "Output short circuit", WARNING),  # a fault in MAX-2021 and GKMK, below
    Alarm(7,  "alarm_inverter_voltage_low",     "Inverter voltage too low", FAULT),
    Alarm(8,  "alarm_inverter_voltage_high",    "Inverter voltage too high", FAULT),
    Alarm(9,  "alarm_over_temperature",         "Over temperature", EITHER),
    Alarm(10, "alarm_fan_locked",               "Fan locked", EITHER),
    Alarm(11, "alarm_battery_voltage_high",     "Battery voltage high", EITHER),
    Alarm(12, "alarm_battery_low",              "Battery low", WARNING),
    Alarm(13, "alarm_overcharge",               "Overcharge", FAULT, (32,), pi41=True),
    Alarm(14, "alarm_battery_under_shutdown",   "Battery under shutdown", WARNING),
    Alarm(15, "alarm_battery_derating",         "Battery derating", WARNING, (36,)),
    Alarm(15, "alarm_battery_derating",         "Battery derating", WARNING, (32,), pi41=True),
    Alarm(16, "alarm_overload",                 "Overload", EITHER),
    Alarm(17, "alarm_eeprom_fault",             "EEPROM fault", WARNING),
    Alarm(18, "alarm_inverter_over_current",    "Inverter over current", FAULT),
    Alarm(19, "alarm_inverter_soft_fail",       "Inverter soft start failed", FAULT),
    Alarm(20, "alarm_self_test_fail",           "Self test failed", FAULT),
    Alarm(21, "alarm_dc_in_output",             "DC voltage in output", FAULT),
    Alarm(22, "alarm_battery_open",             "Battery open", FAULT),
    Alarm(23, "alarm_current_sensor_fail",      "Current sensor failed", FAULT),
    Alarm(24, "alarm_battery_short",            "Battery short circuit", FAULT),  # 24 to 30: reserved in MAX-2021
    Alarm(25, "alarm_power_limit",              "Power limit", WARNING),
    Alarm(26, "alarm_pv_voltage_high",          "PV voltage high", WARNING),
    Alarm(27, "alarm_mppt_overload_fault",      "MPPT overload fault", WARNING),
    Alarm(28, "alarm_mppt_overload_warning",    "MPPT overload warning", WARNING),
    Alarm(29, "alarm_battery_too_low_to_charge", "Battery too low to charge", WARNING),
    Alarm(30, "alarm_slave_warning",            "Slave warning", WARNING, (32,), pi41=True),
    Alarm(30, "alarm_pv2_voltage_high",         "PV2 voltage high", WARNING, (38,)),
    Alarm(31, "alarm_mppt2_overload_fault",     "MPPT2 overload fault", WARNING, (38,)),
    Alarm(32, "alarm_mppt2_overload_warning",   "MPPT2 overload warning", WARNING, (38,)),
    Alarm(33, "alarm_battery_too_low_to_charge2", "Battery too low to charge 2", WARNING, (38,)),
    Alarm(34, "alarm_pv3_voltage_high",         "PV3 voltage high", WARNING, (38,)),
    Alarm(35, "alarm_battery_equalization",     "Battery equalization", WARNING, (36,)),
    Alarm(35, "alarm_mppt3_overload_fault",     "MPPT3 overload fault", WARNING, (38,)),
    Alarm(36, "alarm_mppt3_overload_warning",   "MPPT3 overload warning", WARNING, (38,)),
    Alarm(37, "alarm_battery_too_low_to_charge3", "Battery too low to charge 3", WARNING, (38,)),
)
# fmt: on

QPIWS = AlarmInquiry("QPIWS", (), alarms=ALARMS)
PI41_QPIWS = AlarmInquiry("QPIWS", (), alarms=ALARMS, pi41=True)


# -- everything

_ALL: tuple[Inquiry, ...] = (
    *(QPI, QID, QSID, QVFW, QVFW2, QVFW3, QVFW4, QMN, QGMN),
    *(QPIGS, QPIGS2, QMOD, QPGS, QP2GS, QPIWS, QPIRI, QFLAG, QDI, QBEQI, QBMS),
    *(QMCHGCR, QMUCHGCR, QMSCHGCR, QT, QET, QEY, QEM, QED, QLT, QLY, QLM, QLD),
    *(QOPM, QBOOT, QCST, QCVT, QOPPT, QCHPT, QLED, Q1),
)
PI30: Mapping[str, Inquiry] = {inquiry.command: inquiry for inquiry in _ALL}
"""By command, without the number of a unit (QPGS0) or a date (QED20260101)."""
_PI41_OWN = (PI41_QPIGS, PI41_QPGS, PI41_QPIRI, PI41_QDI, PI41_QPIWS)
PI41: Mapping[str, Inquiry] = {**PI30, **{inquiry.command: inquiry for inquiry in _PI41_OWN}}


def unit_of_set(qpgs: Inquiry) -> Inquiry:
    """Return what a unit of a parallel set publishes of its QPGSn reply."""
    return qpgs.view(lambda row: not row.shared, qpgs.derived)


def whole_set(qpgs: Inquiry) -> Inquiry:
    """Return what belongs to the whole set, the same in every unit's reply: published once."""
    return qpgs.view(lambda row: row.shared)


def lone_unit(qpgs: Inquiry) -> Inquiry:
    """Return what QPGS0 tells of a lone inverter that QPIGS does not."""
    return qpgs.view(lambda row: row.wire_name == "fault_code")


def inquiry_of(command: str, known: Mapping[str, Inquiry] = PI30) -> Inquiry | None:
    """Return the inquiry of a command as sent: "QPGS1" and "QED20260101" too."""
    return known.get(command) or known.get(re.sub(r"\d+\Z", "", command))
