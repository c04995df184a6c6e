"""The register tables: what every input and holding register means. One row, one line.

Names follow lxp-bridge where it has one. Power is positive by its name: `p_charge` into the battery, `p_to_grid`
out of the house; the signed values at the end of the inputs follow the rule of the whole program.

Not here, since their meaning is disputed or unknown: inputs 68, 72-76, 78, 79, 179, 211-216 (some are temperatures of
unproven scale) and from 233 on; the weekly schedule in holds 500-723. Hold 225 is a password.

Source: vendor's "Modbus RTU Protocol" 2025-03-13, tables 7 and 8; celsworth/lxp-bridge src/lxp/packet.rs;
joyfulhouse/pylxpweb and eg4_web_monitor registers; totaldebug/luxmodbus docs/discovered-registers.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from bridge.fields import (
    ACTIVE_POWER,
    APPARENT_POWER,
    CAPACITY,
    CELL_VOLTAGE,
    COUNT,
    CURRENT,
    CYCLES,
    DURATION,
    ENERGY_TOTAL,
    ENUM,
    FLAG,
    FREQUENCY,
    MINUTES,
    PERCENT,
    PLAIN,
    PROBLEM,
    REACTIVE_POWER,
    SOC,
    TEMPERATURE,
    TEXT,
    VOLTAGE,
    Level,
    Quantity,
    Value,
)
from bridge.luxpower.codes import (
    AC_CHARGE_TYPES,
    BMS_FAULTS,
    DISCHARGE_CONTROLS,
    FAULTS,
    GRID_TYPES,
    LANGUAGES,
    LINE_MODES,
    OFF_GRID,
    OUTPUT_PRIORITIES,
    PARALLEL_ROLES,
    PHASES,
    REACTIVE_POWER_MODES,
    SOC_OR_VOLTAGE,
    STATUS,
    SYSTEM_TYPES,
    VOLTAGE_OR_SOC,
    WARNINGS,
)
from bridge.luxpower.frame import Function
from bridge.luxpower.models import Family, Feature, Scale
from bridge.luxpower.rows import (
    Derived,
    Row,
    Table,
    Told,
    bit,
    bits,
    clock,
    high,
    i16,
    low,
    power_factor,
    text,
    u16,
    u32,
    window,
    word,
)

DIAGNOSTIC, HIDDEN = Level.DIAGNOSTIC, Level.HIDDEN
THREE, SPLIT, LEG_VA = Feature.THREE_PHASE, Feature.SPLIT_PHASE, Feature.LEG_APPARENT_POWER
GENERATOR, SINGLE = Feature.GENERATOR, Feature.SINGLE_FUNCTIONS
ENERGY_DAY = ENERGY_TOTAL
CURRENT_MA = Quantity("mA", "current")
POWER_FACTOR = Quantity(None, "power_factor", decimals=3)

# Limits of belief, wide enough for every model of these makers; inclusive
AC_VOLTS, PV_VOLTS, BUS_VOLTS, BATTERY_VOLTS, CELL_VOLTS = (0, 500), (0, 1100), (0, 1200), (0, 1000), (0, 5)
HERTZ, WATTS, WATTS_2WAY, CELSIUS = (0, 100), (0, 60_000), (-32_000, 32_000), (-60, 150)
AMPERES, BATTERY_AMPERES, LIMIT_AMPERES, HUNDRED = (0, 400), (-1000, 1000), (0, 600), (0, 100)
DAY_KWH, LIFETIME_KWH = (0, 2000), (0, 10_000_000)

# fmt: off
INPUT_ROWS = (
    Row("status", ENUM, "Status", 0, codes=STATUS, core=True),
    Row("v_pv_1", VOLTAGE, "PV 1 voltage", 1, u16, 10, within=PV_VOLTS),
    Row("v_pv_2", VOLTAGE, "PV 2 voltage", 2, u16, 10, within=PV_VOLTS),
    Row("v_pv_3", VOLTAGE, "PV 3 voltage", 3, u16, 10, within=PV_VOLTS, needs=Feature.THIRD_STRING),
    Row("v_bat", VOLTAGE, "Battery voltage", 4, u16, 10, within=BATTERY_VOLTS, core=True),
    Row("soc", SOC, "Battery state of charge", 5, low, within=HUNDRED, core=True),
    Row("soh", PERCENT, "Battery state of health", 5, high, within=HUNDRED, absent=0),  # old firmware leaves it 0
    Row("internal_fault", PLAIN, "Internal fault word", 6, level=HIDDEN),  # unconfirmed: noise on ACS units
    Row("p_pv_1", ACTIVE_POWER, "PV 1 power", 7, within=WATTS),  # on AC-coupled units the external CT
    Row("p_pv_2", ACTIVE_POWER, "PV 2 power", 8, within=WATTS),
    Row("p_pv_3", ACTIVE_POWER, "PV 3 power", 9, within=WATTS),  # unconfirmed: said to be a total on some models
    Row("p_charge", ACTIVE_POWER, "Battery charge power", 10, within=WATTS, core=True),
    Row("p_discharge", ACTIVE_POWER, "Battery discharge power", 11, within=WATTS, core=True),
    Row("v_ac_r", VOLTAGE, "Grid voltage", 12, u16, 10, within=AC_VOLTS),
    Row("v_ac_s", VOLTAGE, "Grid voltage S", 13, u16, 10, within=AC_VOLTS, needs=THREE),
    Row("v_ac_t", VOLTAGE, "Grid voltage T", 14, u16, 10, within=AC_VOLTS, needs=THREE),
    Row("f_ac", FREQUENCY, "Grid frequency", 15, u16, 100, within=HERTZ),
    Row("p_inv", ACTIVE_POWER, "Inverter output power", 16, within=WATTS),
    Row("p_rec", ACTIVE_POWER, "AC charge power", 17, within=WATTS),
    Row("i_inv_rms", CURRENT, "Inverter current", 18, u16, 100, within=AMPERES),
    Row("pf", POWER_FACTOR, "Power factor", 19, power_factor),
    Row("v_eps_r", VOLTAGE, "EPS voltage", 20, u16, 10, within=AC_VOLTS),
    Row("v_eps_s", VOLTAGE, "EPS voltage S", 21, u16, 10, within=AC_VOLTS, needs=THREE),
    Row("v_eps_t", VOLTAGE, "EPS voltage T", 22, u16, 10, within=AC_VOLTS, needs=THREE),
    Row("f_eps", FREQUENCY, "EPS frequency", 23, u16, 100, within=HERTZ),
    Row("p_eps", ACTIVE_POWER, "EPS active power", 24, within=WATTS),
    Row("s_eps", APPARENT_POWER, "EPS apparent power", 25, within=WATTS),
    Row("p_to_grid", ACTIVE_POWER, "Export power", 26, within=WATTS, core=True),
    Row("p_to_user", ACTIVE_POWER, "Import power", 27, within=WATTS, core=True),
    Row("e_pv_day_1", ENERGY_DAY, "PV 1 energy today", 28, u16, 10, within=DAY_KWH),
    Row("e_pv_day_2", ENERGY_DAY, "PV 2 energy today", 29, u16, 10, within=DAY_KWH),
    Row("e_pv_day_3", ENERGY_DAY, "PV 3 energy today", 30, u16, 10, within=DAY_KWH),
    Row("e_inv_day", ENERGY_DAY, "Inverter output energy today", 31, u16, 10, within=DAY_KWH),
    Row("e_rec_day", ENERGY_DAY, "AC charge energy today", 32, u16, 10, within=DAY_KWH),
    Row("e_chg_day", ENERGY_DAY, "Battery charge energy today", 33, u16, 10, within=DAY_KWH),
    Row("e_dischg_day", ENERGY_DAY, "Battery discharge energy today", 34, u16, 10, within=DAY_KWH),
    Row("e_eps_day", ENERGY_DAY, "EPS energy today", 35, u16, 10, within=DAY_KWH),
    Row("e_to_grid_day", ENERGY_DAY, "Export energy today", 36, u16, 10, within=DAY_KWH),
    Row("e_to_user_day", ENERGY_DAY, "Import energy today", 37, u16, 10, within=DAY_KWH),
    Row("v_bus_1", VOLTAGE, "Bus 1 voltage", 38, u16, 10, level=DIAGNOSTIC, within=BUS_VOLTS),
    Row("v_bus_2", VOLTAGE, "Bus 2 voltage", 39, u16, 10, level=DIAGNOSTIC, within=BUS_VOLTS),
    Row("e_pv_all_1", ENERGY_TOTAL, "PV 1 energy", 40, u32, 10, within=LIFETIME_KWH),
    Row("e_pv_all_2", ENERGY_TOTAL, "PV 2 energy", 42, u32, 10, within=LIFETIME_KWH),
    Row("e_pv_all_3", ENERGY_TOTAL, "PV 3 energy", 44, u32, 10, within=LIFETIME_KWH),
    Row("e_inv_all", ENERGY_TOTAL, "Inverter output energy", 46, u32, 10, within=LIFETIME_KWH),
    Row("e_rec_all", ENERGY_TOTAL, "AC charge energy", 48, u32, 10, within=LIFETIME_KWH),
    Row("e_chg_all", ENERGY_TOTAL, "Battery charge energy", 50, u32, 10, within=LIFETIME_KWH, first=True),
    Row("e_dischg_all", ENERGY_TOTAL, "Battery discharge energy", 52, u32, 10, within=LIFETIME_KWH, first=True),
    Row("e_eps_all", ENERGY_TOTAL, "EPS energy", 54, u32, 10, within=LIFETIME_KWH),
    Row("e_to_grid_all", ENERGY_TOTAL, "Export energy", 56, u32, 10, within=LIFETIME_KWH, first=True),
    Row("e_to_user_all", ENERGY_TOTAL, "Import energy", 58, u32, 10, within=LIFETIME_KWH, first=True),
    Row("fault", TEXT, "Faults", 60, u32, bit_names=FAULTS, level=DIAGNOSTIC),
    Row("warning", TEXT, "Warnings", 62, u32, bit_names=WARNINGS, level=DIAGNOSTIC),
    Row("t_inner", TEMPERATURE, "Internal temperature", 64, i16, level=DIAGNOSTIC, within=CELSIUS),
    Row("t_rad_1", TEMPERATURE, "Radiator 1 temperature", 65, i16, level=DIAGNOSTIC, within=CELSIUS),
    Row("t_rad_2", TEMPERATURE, "Radiator 2 temperature", 66, i16, level=DIAGNOSTIC, within=CELSIUS),
    Row("t_bat", TEMPERATURE, "Battery temperature", 67, i16, within=CELSIUS, absent=127),  # 0 without a sensor on ACS
    Row("runtime", DURATION, "Running time", 69, u32, level=DIAGNOSTIC, within=(0, 2_000_000_000)),
    Row("auto_test", PLAIN, "Auto test word", 71, level=HIDDEN),
    Row("ac_input_flags", PLAIN, "AC input flags", 77, word, level=HIDDEN),
    Row("ac_input_generator", FLAG, "AC input is a generator", 77, bit(0), level=HIDDEN),
    Row("ac_couple_flow", FLAG, "AC couple flows", 77, bit(1), level=HIDDEN),
    Row("ac_couple_enabled", FLAG, "AC couple enabled", 77, bit(2), level=HIDDEN),
    Row("smart_load_flow", FLAG, "Smart load flows", 77, bit(3), level=HIDDEN),
    Row("smart_load_on", FLAG, "Smart load on", 77, bit(4), level=HIDDEN),
    Row("bat_type_com", PLAIN, "Battery type and link word", 80, level=HIDDEN),  # unconfirmed: layout of its bits
    Row("max_chg_curr", CURRENT, "BMS charge current limit", 81, u16, Scale.BMS_LIMIT, within=LIMIT_AMPERES),
    Row("max_dischg_curr", CURRENT, "BMS discharge current limit", 82, u16, Scale.BMS_LIMIT, within=LIMIT_AMPERES),
    Row("charge_volt_ref", VOLTAGE, "BMS charge voltage", 83, u16, 10, within=BATTERY_VOLTS, absent=0),
    Row("dischg_cut_volt", VOLTAGE, "BMS cut-off voltage", 84, u16, 10, within=BATTERY_VOLTS, absent=0),
    Row("bat_status_0", PLAIN, "BMS status word 0", 85, level=HIDDEN),
    Row("bat_status_1", PLAIN, "BMS status word 1", 86, level=HIDDEN),
    Row("bat_status_2", PLAIN, "BMS status word 2", 87, level=HIDDEN),
    Row("bat_status_3", PLAIN, "BMS status word 3", 88, level=HIDDEN),
    Row("bat_status_4", PLAIN, "BMS status word 4", 89, level=HIDDEN),
    Row("bat_status_5", PLAIN, "BMS status word 5", 90, level=HIDDEN),
    Row("bat_status_6", PLAIN, "BMS status word 6", 91, level=HIDDEN),
    Row("bat_status_7", PLAIN, "BMS status word 7", 92, level=HIDDEN),
    Row("bat_status_8", PLAIN, "BMS status word 8", 93, level=HIDDEN),
    Row("bat_status_9", PLAIN, "BMS status word 9", 94, level=HIDDEN),
    Row("bat_status_inv", PLAIN, "Battery status word", 95, word, level=HIDDEN),
    Row("bat_charge_allowed", FLAG, "Battery allows charging", 95, bit(0), level=DIAGNOSTIC),  # unconfirmed
    Row("bat_discharge_allowed", FLAG, "Battery allows discharging", 95, bit(1), level=DIAGNOSTIC),  # unconfirmed
    Row("bat_force_charge", FLAG, "Battery wants a forced charge", 95, bit(5), level=DIAGNOSTIC),  # unconfirmed
    Row("bat_count", COUNT, "Batteries in parallel", 96, level=DIAGNOSTIC, within=(0, 64)),
    Row("bat_capacity", CAPACITY, "Battery capacity", 97, level=DIAGNOSTIC, within=(0, 30_000), absent=0),
    Row("bat_current", CURRENT, "Battery current", 98, i16, 10, within=BATTERY_AMPERES),  # unconfirmed: scale on BAAA
    Row("bms_event_1", ENUM, "BMS fault", 99, codes=BMS_FAULTS, level=DIAGNOSTIC),
    Row("bms_event_2", PLAIN, "BMS warning code", 100, level=HIDDEN),
    Row("max_cell_voltage", CELL_VOLTAGE, "Highest cell voltage", 101, u16, 1000, within=CELL_VOLTS, absent=0),
    Row("min_cell_voltage", CELL_VOLTAGE, "Lowest cell voltage", 102, u16, 1000, within=CELL_VOLTS, absent=0),
    Row("max_cell_temp", TEMPERATURE, "Highest cell temperature", 103, i16, 10, within=CELSIUS),
    Row("min_cell_temp", TEMPERATURE, "Lowest cell temperature", 104, i16, 10, within=CELSIUS),
    Row("bms_fw_update_state", PLAIN, "BMS firmware update state", 105, level=HIDDEN),
    Row("cycle_count", CYCLES, "Battery cycles", 106, level=DIAGNOSTIC, within=(0, 20_000)),
    Row("vbat_inv", VOLTAGE, "Battery voltage at the inverter", 107, u16, 10, within=BATTERY_VOLTS),
    Row("t1", TEMPERATURE, "Temperature 1", 108, i16, 10, level=HIDDEN, within=CELSIUS),  # unconfirmed: sign of 108-112
    Row("t2", TEMPERATURE, "Temperature 2", 109, i16, 10, level=HIDDEN, within=CELSIUS),
    Row("t3", TEMPERATURE, "Temperature 3", 110, i16, 10, level=HIDDEN, within=CELSIUS),
    Row("t4", TEMPERATURE, "Temperature 4", 111, i16, 10, level=HIDDEN, within=CELSIUS),
    Row("t5", TEMPERATURE, "Temperature 5", 112, i16, 10, level=HIDDEN, within=CELSIUS),
    Row("parallel_status", PLAIN, "Parallel word", 113, word, level=HIDDEN),
    Row("parallel_role", ENUM, "Parallel role", 113, bits(0, 2), codes=PARALLEL_ROLES, level=DIAGNOSTIC),
    Row("parallel_phase", ENUM, "Phase", 113, bits(2, 2), codes=PHASES, level=DIAGNOSTIC),
    Row("phase_sequence", PLAIN, "Phase sequence", 113, bits(4, 2), level=HIDDEN),
    Row("parallel_count", COUNT, "Inverters in parallel", 113, high, level=DIAGNOSTIC, absent=0),
    Row("p_load_ongrid_12k", ACTIVE_POWER, "On-grid load power", 114, within=WATTS, needs=Feature.ON_GRID_LOAD),
    Row("inverter_serial", TEXT, "Inverter serial number", 115, text(5), level=DIAGNOSTIC),
    Row("v_bus_half", VOLTAGE, "Half bus voltage", 120, u16, 10, level=DIAGNOSTIC, within=BUS_VOLTS),
    Row("v_gen", VOLTAGE, "Generator voltage", 121, u16, 10, within=AC_VOLTS),
    Row("f_gen", FREQUENCY, "Generator frequency", 122, u16, 100, within=HERTZ),
    Row("p_gen", ACTIVE_POWER, "Generator power", 123, within=WATTS, needs=GENERATOR),
    Row("e_gen_day", ENERGY_DAY, "Generator energy today", 124, u16, 10, within=DAY_KWH, needs=GENERATOR),
    Row("e_gen_all", ENERGY_TOTAL, "Generator energy", 125, u32, 10, within=LIFETIME_KWH, needs=GENERATOR),
    Row("v_eps_l1", VOLTAGE, "EPS voltage L1", 127, u16, 10, within=AC_VOLTS, needs=SPLIT),
    Row("v_eps_l2", VOLTAGE, "EPS voltage L2", 128, u16, 10, within=AC_VOLTS, needs=SPLIT),
    Row("p_eps_l1", ACTIVE_POWER, "EPS active power L1", 129, within=WATTS, needs=SPLIT),
    Row("p_eps_l2", ACTIVE_POWER, "EPS active power L2", 130, within=WATTS, needs=SPLIT),
    Row("s_eps_l1", APPARENT_POWER, "EPS apparent power L1", 131, within=WATTS, needs=LEG_VA),  # EG4 hybrids: disputed
    Row("s_eps_l2", APPARENT_POWER, "EPS apparent power L2", 132, within=WATTS, needs=LEG_VA),
    Row("e_eps_l1_day", ENERGY_DAY, "EPS energy L1 today", 133, u16, 10, within=DAY_KWH, needs=SPLIT),
    Row("e_eps_l2_day", ENERGY_DAY, "EPS energy L2 today", 134, u16, 10, within=DAY_KWH, needs=SPLIT),
    Row("e_eps_l1_all", ENERGY_TOTAL, "EPS energy L1", 135, u32, 10, within=LIFETIME_KWH, needs=SPLIT),
    Row("e_eps_l2_all", ENERGY_TOTAL, "EPS energy L2", 137, u32, 10, within=LIFETIME_KWH, needs=SPLIT),
    Row("q_inv", REACTIVE_POWER, "Inverter reactive power", 139, within=WATTS, level=HIDDEN),  # unconfirmed: sign
    Row("afci_curr_1", CURRENT_MA, "AFCI current 1", 140, level=HIDDEN),
    Row("afci_curr_2", CURRENT_MA, "AFCI current 2", 141, level=HIDDEN),
    Row("afci_curr_3", CURRENT_MA, "AFCI current 3", 142, level=HIDDEN),
    Row("afci_curr_4", CURRENT_MA, "AFCI current 4", 143, level=HIDDEN),
    Row("afci_flags", PLAIN, "AFCI flags", 144, word, level=HIDDEN),
    Row("afci_arc_1", PROBLEM, "AFCI arc alarm 1", 144, bit(0), level=DIAGNOSTIC),
    Row("afci_arc_2", PROBLEM, "AFCI arc alarm 2", 144, bit(1), level=DIAGNOSTIC),
    Row("afci_arc_3", PROBLEM, "AFCI arc alarm 3", 144, bit(2), level=DIAGNOSTIC),
    Row("afci_arc_4", PROBLEM, "AFCI arc alarm 4", 144, bit(3), level=DIAGNOSTIC),
    Row("afci_self_test_1", PROBLEM, "AFCI self test failed 1", 144, bit(4), level=HIDDEN),
    Row("afci_self_test_2", PROBLEM, "AFCI self test failed 2", 144, bit(5), level=HIDDEN),
    Row("afci_self_test_3", PROBLEM, "AFCI self test failed 3", 144, bit(6), level=HIDDEN),
    Row("afci_self_test_4", PROBLEM, "AFCI self test failed 4", 144, bit(7), level=HIDDEN),
    Row("afci_arc_level_1", PLAIN, "AFCI arc word 1", 145, level=HIDDEN),
    Row("afci_arc_level_2", PLAIN, "AFCI arc word 2", 146, level=HIDDEN),
    Row("afci_arc_level_3", PLAIN, "AFCI arc word 3", 147, level=HIDDEN),
    Row("afci_arc_level_4", PLAIN, "AFCI arc word 4", 148, level=HIDDEN),
    Row("afci_arc_max_1", PLAIN, "AFCI highest arc word 1", 149, level=HIDDEN),
    Row("afci_arc_max_2", PLAIN, "AFCI highest arc word 2", 150, level=HIDDEN),
    Row("afci_arc_max_3", PLAIN, "AFCI highest arc word 3", 151, level=HIDDEN),
    Row("afci_arc_max_4", PLAIN, "AFCI highest arc word 4", 152, level=HIDDEN),
    Row("p_ac_couple", ACTIVE_POWER, "AC couple power", 153, within=WATTS),  # unconfirmed: sign
    Row("auto_test_trip_1", PLAIN, "Auto test trip value 1", 154, level=HIDDEN),
    Row("auto_test_trip_2", PLAIN, "Auto test trip value 2", 155, level=HIDDEN),
    Row("auto_test_trip_3", PLAIN, "Auto test trip value 3", 156, level=HIDDEN),
    Row("auto_test_trip_4", PLAIN, "Auto test trip value 4", 157, level=HIDDEN),
    Row("auto_test_trip_5", PLAIN, "Auto test trip value 5", 158, level=HIDDEN),
    Row("auto_test_trip_6", PLAIN, "Auto test trip value 6", 159, level=HIDDEN),
    Row("auto_test_trip_7", PLAIN, "Auto test trip value 7", 160, level=HIDDEN),
    Row("auto_test_trip_8", PLAIN, "Auto test trip value 8", 161, level=HIDDEN),
    Row("auto_test_time_1", DURATION, "Auto test trip time 1", 162, u16, 1000, level=HIDDEN),
    Row("auto_test_time_2", DURATION, "Auto test trip time 2", 163, u16, 1000, level=HIDDEN),
    Row("auto_test_time_3", DURATION, "Auto test trip time 3", 164, u16, 1000, level=HIDDEN),
    Row("auto_test_time_4", DURATION, "Auto test trip time 4", 165, u16, 1000, level=HIDDEN),
    Row("auto_test_time_5", DURATION, "Auto test trip time 5", 166, u16, 1000, level=HIDDEN),
    Row("auto_test_time_6", DURATION, "Auto test trip time 6", 167, u16, 1000, level=HIDDEN),
    Row("auto_test_time_7", DURATION, "Auto test trip time 7", 168, u16, 1000, level=HIDDEN),
    Row("auto_test_time_8", DURATION, "Auto test trip time 8", 169, u16, 1000, level=HIDDEN),
    Row("p_load", ACTIVE_POWER, "Load power", 170, i16, within=WATTS_2WAY),  # unconfirmed: sign; 0 where not filled
    Row("e_load_day", ENERGY_DAY, "Load energy today", 171, u16, 10, within=DAY_KWH),
    Row("e_load_all", ENERGY_TOTAL, "Load energy", 172, u32, 10, within=LIFETIME_KWH, absent=0),  # 0 where not filled
    Row("switch_state", PLAIN, "Switch state word", 174, word, level=HIDDEN),
    Row("eps_switch", FLAG, "EPS switch", 174, bit(8), level=HIDDEN),
    Row("gen_dry_contact", FLAG, "Generator dry contact", 174, bit(9), level=HIDDEN),
    Row("quick_start", FLAG, "Quick start", 174, bit(10), level=HIDDEN),
    Row("switch_state_valid", FLAG, "Switch state valid", 174, bit(15), level=HIDDEN),
    Row("eps_overload_ctrl", DURATION, "EPS overload control time", 175, level=HIDDEN),
    Row("exception_reason_1", PLAIN, "Exception reason 1", 176, level=HIDDEN),
    Row("exception_reason_2", PLAIN, "Exception reason 2", 177, level=HIDDEN),
    Row("chg_dischg_disable_reason", PLAIN, "Reason for no charge or discharge", 178, level=HIDDEN),
    Row("p_inv_s", ACTIVE_POWER, "Inverter output power S", 180, within=WATTS, needs=THREE),
    Row("p_inv_t", ACTIVE_POWER, "Inverter output power T", 181, within=WATTS, needs=THREE),
    Row("p_rec_s", ACTIVE_POWER, "AC charge power S", 182, within=WATTS, needs=THREE),
    Row("p_rec_t", ACTIVE_POWER, "AC charge power T", 183, within=WATTS, needs=THREE),
    Row("p_to_grid_s", ACTIVE_POWER, "Export power S", 184, within=WATTS, needs=THREE),
    Row("p_to_grid_t", ACTIVE_POWER, "Export power T", 185, within=WATTS, needs=THREE),
    Row("p_to_user_s", ACTIVE_POWER, "Import power S", 186, within=WATTS, needs=THREE),
    Row("p_to_user_t", ACTIVE_POWER, "Import power T", 187, within=WATTS, needs=THREE),
    Row("p_gen_s", ACTIVE_POWER, "Generator power S", 188, within=WATTS, needs=THREE),
    Row("p_gen_t", ACTIVE_POWER, "Generator power T", 189, within=WATTS, needs=THREE),
    Row("i_inv_rms_s", CURRENT, "Inverter current S", 190, u16, 100, within=AMPERES, needs=THREE),
    Row("i_inv_rms_t", CURRENT, "Inverter current T", 191, u16, 100, within=AMPERES, needs=THREE),
    Row("pf_s", POWER_FACTOR, "Power factor S", 192, power_factor, needs=THREE),
    Row("v_ac_l1", VOLTAGE, "Grid voltage L1", 193, u16, 10, within=AC_VOLTS, needs=SPLIT),
    Row("v_ac_l2", VOLTAGE, "Grid voltage L2", 194, u16, 10, within=AC_VOLTS, needs=SPLIT),
    Row("v_gen_l1", VOLTAGE, "Generator voltage L1", 195, u16, 10, within=AC_VOLTS, needs=SPLIT),
    Row("v_gen_l2", VOLTAGE, "Generator voltage L2", 196, u16, 10, within=AC_VOLTS, needs=SPLIT),
    Row("p_inv_l1", ACTIVE_POWER, "Inverter output power L1", 197, within=WATTS, needs=SPLIT),
    Row("p_inv_l2", ACTIVE_POWER, "Inverter output power L2", 198, within=WATTS, needs=SPLIT),
    Row("p_rec_l1", ACTIVE_POWER, "AC charge power L1", 199, within=WATTS, needs=SPLIT),
    Row("p_rec_l2", ACTIVE_POWER, "AC charge power L2", 200, within=WATTS, needs=SPLIT),
    Row("p_to_grid_l1", ACTIVE_POWER, "Export power L1", 201, within=WATTS, needs=SPLIT),
    Row("p_to_grid_l2", ACTIVE_POWER, "Export power L2", 202, within=WATTS, needs=SPLIT),
    Row("p_to_user_l1", ACTIVE_POWER, "Import power L1", 203, within=WATTS, needs=SPLIT),
    Row("p_to_user_l2", ACTIVE_POWER, "Import power L2", 204, within=WATTS, needs=SPLIT),
    Row("pf_t", POWER_FACTOR, "Power factor T", 205, power_factor, needs=THREE),
    Row("p_ac_couple_s", ACTIVE_POWER, "AC couple power S", 206, i16, within=WATTS_2WAY, needs=THREE),  # unconfirmed
    Row("p_ac_couple_t", ACTIVE_POWER, "AC couple power T", 207, i16, within=WATTS_2WAY, needs=THREE),  # unconfirmed
    Row("p_load_ongrid_s", ACTIVE_POWER, "On-grid load power S", 208, within=WATTS, needs=THREE),
    Row("p_load_ongrid_t", ACTIVE_POWER, "On-grid load power T", 209, within=WATTS, needs=THREE),
    Row("quick_charge_remaining", DURATION, "Quick charge remaining", 210, level=HIDDEN),  # unconfirmed: s, or min
    Row("v_pv_4", VOLTAGE, "PV 4 voltage", 217, u16, 10, level=HIDDEN, within=PV_VOLTS),
    Row("v_pv_5", VOLTAGE, "PV 5 voltage", 218, u16, 10, level=HIDDEN, within=PV_VOLTS),
    Row("v_pv_6", VOLTAGE, "PV 6 voltage", 219, u16, 10, level=HIDDEN, within=PV_VOLTS),
    Row("p_pv_4", ACTIVE_POWER, "PV 4 power", 220, level=HIDDEN, within=WATTS),
    Row("p_pv_5", ACTIVE_POWER, "PV 5 power", 221, level=HIDDEN, within=WATTS),
    Row("p_pv_6", ACTIVE_POWER, "PV 6 power", 222, level=HIDDEN, within=WATTS),
    Row("e_pv_day_4", ENERGY_DAY, "PV 4 energy today", 223, u16, 10, level=HIDDEN, within=DAY_KWH),
    Row("e_pv_all_4", ENERGY_TOTAL, "PV 4 energy", 224, u32, 10, level=HIDDEN, within=LIFETIME_KWH),
    Row("e_pv_day_5", ENERGY_DAY, "PV 5 energy today", 226, u16, 10, level=HIDDEN, within=DAY_KWH),
    Row("e_pv_all_5", ENERGY_TOTAL, "PV 5 energy", 227, u32, 10, level=HIDDEN, within=LIFETIME_KWH),
    Row("e_pv_day_6", ENERGY_DAY, "PV 6 energy today", 229, u16, 10, level=HIDDEN, within=DAY_KWH),
    Row("e_pv_all_6", ENERGY_TOTAL, "PV 6 energy", 230, u32, 10, level=HIDDEN, within=LIFETIME_KWH),
    Row("p_smart_load", ACTIVE_POWER, "Smart load power", 232, level=HIDDEN, within=WATTS),  # unconfirmed off-grid
)
# fmt: on


Values: TypeAlias = Mapping[str, Value]


def _total(values: Values, old: Values) -> Value:
    """Return the sum of the strings: the first three must be known, the others count where they exist.

    A higher string that gave power in an earlier cycle makes the sum unknown until it is read again.
    """
    strings = list(values.values())
    if None in strings[:3] or any(old.values()):
        return None
    return round(sum(value for value in strings if isinstance(value, (int, float))), 1)


def _difference(values: Values, _: Values) -> Value:
    positive, negative = values.values()
    if isinstance(positive, int) and isinstance(negative, int):
        return positive - negative
    return None


def _house_power(values: Values, _: Values) -> Value:
    """Return the load register where the firmware fills it, else what the meters leave for the house."""
    status, imported, inverter, rectifier, exported, eps, load = values.values()
    if isinstance(load, int) and load > 0:
        return load
    if isinstance(status, int) and status >= OFF_GRID:
        return eps
    # unconfirmed: whether p_inv leaves out what EPS takes while on grid; adding p_eps could count it twice
    return _balance(imported, inverter, rectifier, exported)


def _house_energy(values: Values, _: Values) -> Value:
    """Return the load counter where the firmware fills it, else what the day's counters leave for the house."""
    imported, inverter, rectifier, exported, eps, load = values.values()
    if isinstance(load, float) and load > 0:
        return load
    balance = _balance(imported, inverter, rectifier, exported)
    if balance is None or not isinstance(eps, float):
        return None
    return round(balance + eps, 1)  # unconfirmed: counts twice what the grid fed through to EPS, if anything


def _balance(imported: Value, inverter: Value, rectifier: Value, exported: Value) -> float | None:
    """Return what is left for the house; None where one is not known or the meters contradict each other."""
    numbers = [value for value in (imported, inverter, rectifier, exported) if isinstance(value, (int, float))]
    if len(numbers) < 4:
        return None
    left = numbers[0] + numbers[1] - numbers[2] - numbers[3]
    return left if left >= 0 else None


def _firmware(values: Values, _: Values) -> Value:
    code, communication, control = values.values()
    if not isinstance(code, str) or not isinstance(communication, int) or not isinstance(control, int):
        return None
    return f"{code}-{communication:02X}{control:02X}"


def power_unit(family: Family) -> Value:
    """Return what the power settings of a family count in, None while that is not known."""
    return family.power_unit.value if family.power_unit else None


# fmt: off
PV_POWER = tuple(f"p_pv_{string}" for string in range(1, 7))
PV_ENERGY_DAY = tuple(f"e_pv_day_{string}" for string in range(1, 7))
PV_ENERGY_ALL = tuple(f"e_pv_all_{string}" for string in range(1, 7))
HOUSE_POWER = ("status_code", "p_to_user", "p_inv", "p_rec", "p_to_grid", "p_eps", "p_load")
HOUSE_ENERGY = ("e_to_user_day", "e_inv_day", "e_rec_day", "e_to_grid_day", "e_eps_day", "e_load_day")
VERSIONS = ("model_code", "communication_version", "control_version")

INPUT_DERIVED = (
    Derived("p_pv", ACTIVE_POWER, "PV power", PV_POWER, _total, first=True),
    Derived("p_battery", ACTIVE_POWER, "Battery power", ("p_charge", "p_discharge"), _difference, first=True),
    Derived("p_grid", ACTIVE_POWER, "Grid power", ("p_to_user", "p_to_grid"), _difference, first=True),
    Derived("p_house", ACTIVE_POWER, "House consumption", HOUSE_POWER, _house_power, first=True),
    Derived("e_pv_day", ENERGY_DAY, "PV energy today", PV_ENERGY_DAY, _total, first=True),
    Derived("e_house_day", ENERGY_DAY, "House energy today", HOUSE_ENERGY, _house_energy),
    Derived("e_pv_all", ENERGY_TOTAL, "PV energy", PV_ENERGY_ALL, _total, first=True),
)
# fmt: on

INPUTS = Table(Function.READ_INPUT, INPUT_ROWS, INPUT_DERIVED)

VOLTS, HZ, AMPS = (quantity._replace(state_class=None) for quantity in (VOLTAGE, FREQUENCY, CURRENT))
WATT, KILOWATT, HOURS = Quantity("W", "power", None), Quantity("kW", "power", None, 1), Quantity("h", "duration", None)
RATIO, CELSIUS_SET, AH = (quantity._replace(state_class=None) for quantity in (PERCENT, TEMPERATURE, CAPACITY))
SECONDS, MINUTE = DURATION._replace(state_class=None), MINUTES._replace(state_class=None)
DAYS = Quantity("d", "duration", None)
PERIODS, PER_HERTZ, MILLIOHM = PLAIN, Quantity("%/Hz", None, None), Quantity("mΩ", None, None)
RATE = Scale.RATE

# fmt: off
HOLD_ROWS = (
    Row("model_word_low", PLAIN, "Model word, low", 0, level=HIDDEN),
    Row("model_word_high", PLAIN, "Model word, high", 1, level=HIDDEN),  # unconfirmed: bit 0 as "US version"
    Row("serial", TEXT, "Inverter serial number", 2, text(5), level=DIAGNOSTIC),
    Row("model_code", TEXT, "Model code", 7, text(2, str.upper), level=DIAGNOSTIC),
    Row("slave_version", PLAIN, "Slave CPU version", 9, low, level=HIDDEN),
    Row("communication_version", PLAIN, "Communication CPU version", 9, high, level=HIDDEN),
    Row("control_version", PLAIN, "Control CPU version", 10, low, level=HIDDEN),
    Row("firmware_version", PLAIN, "External firmware version", 10, high, level=HIDDEN),
    Row("time", TEXT, "Inverter clock", 12, clock, level=DIAGNOSTIC),
    Row("bus_address", PLAIN, "Bus address", 15, level=HIDDEN),
    Row("language", ENUM, "Language", 16, codes=LANGUAGES, level=HIDDEN),
    Row("device_type", PLAIN, "Device type", 19, level=DIAGNOSTIC),
    Row("pv_input_model", PLAIN, "PV input model", 20, level=HIDDEN),  # the numbers mean other things on 12K and TriP
    Row("functions", PLAIN, "Function bits", 21, word, level=HIDDEN),
    Row("eps", FLAG, "EPS output", 21, bit(0)),
    Row("ovf_load_derate", FLAG, "Over-frequency load derating", 21, bit(1), level=HIDDEN),
    Row("drms", FLAG, "Demand response", 21, bit(2), level=HIDDEN),
    Row("lvrt", FLAG, "Low voltage ride through", 21, bit(3), level=HIDDEN),
    Row("anti_island", FLAG, "Anti-islanding", 21, bit(4), level=HIDDEN),
    Row("neutral_detect", FLAG, "Neutral detection", 21, bit(5), level=HIDDEN),
    Row("grid_on_power_soft_start", FLAG, "Soft start on grid", 21, bit(6), level=HIDDEN),
    Row("ac_charge", FLAG, "AC charge", 21, bit(7)),
    Row("seamless_eps", FLAG, "Seamless EPS switching", 21, bit(8)),
    Row("running", FLAG, "Running", 21, bit(9)),  # the vendor calls it SetToStandby; 0 is standby
    Row("forced_discharge", FLAG, "Forced discharge", 21, bit(10)),
    Row("charge_priority", FLAG, "Charge priority", 21, bit(11)),  # also called forced charge
    Row("iso_check", FLAG, "Insulation check", 21, bit(12), level=HIDDEN),
    Row("gfci_check", FLAG, "Leakage current check", 21, bit(13), level=HIDDEN),
    Row("dci_check", FLAG, "DC injection check", 21, bit(14), level=HIDDEN),
    Row("feed_in_grid", FLAG, "Feed in to the grid", 21, bit(15)),
    Row("start_pv_voltage_v", VOLTS, "PV start voltage", 22, u16, 10, level=DIAGNOSTIC),  # unconfirmed: on SNA
    Row("connect_time", SECONDS, "Grid connect wait", 23, level=HIDDEN),
    Row("reconnect_time", SECONDS, "Grid reconnect wait", 24, level=HIDDEN),
    Row("connect_voltage_low", VOLTS, "Grid connect voltage, low", 25, u16, 10, level=HIDDEN),
    Row("connect_voltage_high", VOLTS, "Grid connect voltage, high", 26, u16, 10, level=HIDDEN),
    Row("connect_frequency_low", HZ, "Grid connect frequency, low", 27, u16, 100, level=HIDDEN),
    Row("connect_frequency_high", HZ, "Grid connect frequency, high", 28, u16, 100, level=HIDDEN),
    Row("grid_voltage_limit_1_low", VOLTS, "Grid voltage limit 1, low", 29, u16, 10, level=HIDDEN),
    Row("grid_voltage_limit_1_high", VOLTS, "Grid voltage limit 1, high", 30, u16, 10, level=HIDDEN),
    Row("grid_voltage_limit_1_low_time", PERIODS, "Grid voltage limit 1, low, mains periods", 31, level=HIDDEN),
    Row("grid_voltage_limit_1_high_time", PERIODS, "Grid voltage limit 1, high, mains periods", 32, level=HIDDEN),
    Row("grid_voltage_limit_2_low", VOLTS, "Grid voltage limit 2, low", 33, u16, 10, level=HIDDEN),
    Row("grid_voltage_limit_2_high", VOLTS, "Grid voltage limit 2, high", 34, u16, 10, level=HIDDEN),
    Row("grid_voltage_limit_2_low_time", PERIODS, "Grid voltage limit 2, low, mains periods", 35, level=HIDDEN),
    Row("grid_voltage_limit_2_high_time", PERIODS, "Grid voltage limit 2, high, mains periods", 36, level=HIDDEN),
    Row("grid_voltage_limit_3_low", VOLTS, "Grid voltage limit 3, low", 37, u16, 10, level=HIDDEN),
    Row("grid_voltage_limit_3_high", VOLTS, "Grid voltage limit 3, high", 38, u16, 10, level=HIDDEN),
    Row("grid_voltage_limit_3_low_time", PERIODS, "Grid voltage limit 3, low, mains periods", 39, level=HIDDEN),
    Row("grid_voltage_limit_3_high_time", PERIODS, "Grid voltage limit 3, high, mains periods", 40, level=HIDDEN),
    Row("grid_voltage_average_high", VOLTS, "Grid voltage average, high", 41, u16, 10, level=HIDDEN),
    Row("grid_frequency_limit_1_low", HZ, "Grid frequency limit 1, low", 42, u16, 100, level=HIDDEN),
    Row("grid_frequency_limit_1_high", HZ, "Grid frequency limit 1, high", 43, u16, 100, level=HIDDEN),
    Row("grid_frequency_limit_1_low_time", PERIODS, "Grid frequency limit 1, low, mains periods", 44, level=HIDDEN),
    Row("grid_frequency_limit_1_high_time", PERIODS, "Grid frequency limit 1, high, mains periods", 45, level=HIDDEN),
    Row("grid_frequency_limit_2_low", HZ, "Grid frequency limit 2, low", 46, u16, 100, level=HIDDEN),
    Row("grid_frequency_limit_2_high", HZ, "Grid frequency limit 2, high", 47, u16, 100, level=HIDDEN),
    Row("grid_frequency_limit_2_low_time", PERIODS, "Grid frequency limit 2, low, mains periods", 48, level=HIDDEN),
    Row("grid_frequency_limit_2_high_time", PERIODS, "Grid frequency limit 2, high, mains periods", 49, level=HIDDEN),
    Row("grid_frequency_limit_3_low", HZ, "Grid frequency limit 3, low", 50, u16, 100, level=HIDDEN),
    Row("grid_frequency_limit_3_high", HZ, "Grid frequency limit 3, high", 51, u16, 100, level=HIDDEN),
    Row("grid_frequency_limit_3_low_time", PERIODS, "Grid frequency limit 3, low, mains periods", 52, level=HIDDEN),
    Row("grid_frequency_limit_3_high_time", PERIODS, "Grid frequency limit 3, high, mains periods", 53, level=HIDDEN),
    Row("q_of_v_max_q", RATIO, "Q(V) highest reactive power", 54, level=HIDDEN),
    Row("q_of_v_v2_low", VOLTS, "Q(V) voltage V2L", 55, u16, 10, level=HIDDEN),  # unconfirmed: 55 and 56 swapped?
    Row("q_of_v_v1_low", VOLTS, "Q(V) voltage V1L", 56, u16, 10, level=HIDDEN),
    Row("q_of_v_v1_high", VOLTS, "Q(V) voltage V1H", 57, u16, 10, level=HIDDEN),
    Row("q_of_v_v2_high", VOLTS, "Q(V) voltage V2H", 58, u16, 10, level=HIDDEN),
    Row("reactive_power_mode", ENUM, "Reactive power mode", 59, codes=REACTIVE_POWER_MODES, level=HIDDEN),
    Row("active_power_pct", RATIO, "Active power limit", 60, level=DIAGNOSTIC),
    Row("reactive_power_pct", RATIO, "Reactive power", 61, level=HIDDEN),
    Row("power_factor_set", PLAIN, "Power factor setting, raw", 62, level=HIDDEN),
    Row("soft_start_slope", PLAIN, "Soft start slope, raw", 63, level=HIDDEN),  # unconfirmed: unit
    Row("charge_rate_pct", RATIO, "Charge rate", 64),
    Row("discharge_rate_pct", RATIO, "Discharge rate", 65),
    Row("ac_charge_rate_raw", PLAIN, "AC charge rate, raw", 66, word, level=HIDDEN),
    Row("ac_charge_rate", PLAIN, "AC charge rate, in % or kW", 66, u16, RATE),
    Row("ac_charge_soc_limit_pct", RATIO, "AC charge SOC limit", 67),
    Row("ac_charge_window_1", TEXT, "AC charge window 1", 68, window),
    Row("ac_charge_window_2", TEXT, "AC charge window 2", 70, window),
    Row("ac_charge_window_3", TEXT, "AC charge window 3", 72, window),
    Row("charge_priority_rate_raw", PLAIN, "Charge priority rate, raw", 74, word, level=HIDDEN),
    Row("charge_priority_rate", PLAIN, "Charge priority rate, in % or kW", 74, u16, RATE),
    Row("charge_priority_soc_limit_pct", RATIO, "Charge priority SOC limit", 75),
    Row("charge_priority_window_1", TEXT, "Charge priority window 1", 76, window),
    Row("charge_priority_window_2", TEXT, "Charge priority window 2", 78, window),
    Row("charge_priority_window_3", TEXT, "Charge priority window 3", 80, window),
    Row("forced_discharge_rate_raw", PLAIN, "Forced discharge rate, raw", 82, word, level=HIDDEN),
    Row("forced_discharge_rate", PLAIN, "Forced discharge rate, in % or kW", 82, u16, RATE),
    Row("forced_discharge_soc_limit_pct", RATIO, "Forced discharge SOC limit", 83),
    Row("forced_discharge_window_1", TEXT, "Forced discharge window 1", 84, window),
    Row("forced_discharge_window_2", TEXT, "Forced discharge window 2", 86, window),
    Row("forced_discharge_window_3", TEXT, "Forced discharge window 3", 88, window),
    Row("eps_voltage", VOLTS, "EPS voltage setting", 90, level=DIAGNOSTIC),
    Row("eps_frequency", HZ, "EPS frequency setting", 91, level=DIAGNOSTIC),
    Row("pf_lock_in_voltage", VOLTS, "PF curve lock-in voltage", 92, u16, 10, level=HIDDEN),
    Row("pf_lock_out_voltage", VOLTS, "PF curve lock-out voltage", 93, u16, 10, level=HIDDEN),
    Row("q_of_v_lock_in_power", RATIO, "Q(V) lock-in power", 94, level=HIDDEN),
    Row("q_of_v_lock_out_power", RATIO, "Q(V) lock-out power", 95, level=HIDDEN),
    Row("q_of_v_delay", PERIODS, "Q(V) delay, mains periods", 96, level=HIDDEN),
    Row("over_frequency_delay", PERIODS, "Over-frequency derating delay, mains periods", 97, level=HIDDEN),
    Row("charge_voltage_v", VOLTS, "Charge voltage", 99, u16, 10, level=DIAGNOSTIC),
    Row("discharge_cutoff_voltage_v", VOLTS, "Discharge cut-off voltage", 100, u16, 10, level=DIAGNOSTIC),
    Row("charge_current_limit_a", AMPS, "Charge current limit", 101, level=DIAGNOSTIC),
    Row("discharge_current_limit_a", AMPS, "Discharge current limit", 102, level=DIAGNOSTIC),
    Row("feed_in_limit_raw", PLAIN, "Feed-in limit, raw", 103, word, level=HIDDEN),
    Row("feed_in_limit", PLAIN, "Feed-in limit, in % or kW", 103, u16, RATE, level=DIAGNOSTIC),
    Row("discharge_cutoff_soc_limit_pct", RATIO, "Discharge cut-off SOC", 105),
    Row("discharge_temperature_low", CELSIUS_SET, "Discharge temperature limit, low", 106, i16, 10, level=HIDDEN),
    Row("discharge_temperature_high", CELSIUS_SET, "Discharge temperature limit, high", 107, i16, 10, level=HIDDEN),
    Row("charge_temperature_low", CELSIUS_SET, "Charge temperature limit, low", 108, i16, 10, level=HIDDEN),
    Row("charge_temperature_high", CELSIUS_SET, "Charge temperature limit, high", 109, i16, 10, level=HIDDEN),
    Row("functions_1", PLAIN, "Function bits 1", 110, word, level=HIDDEN),
    Row("pv_grid_off", FLAG, "PV without grid", 110, bit(0), level=HIDDEN, needs=SINGLE),
    Row("fast_zero_export", FLAG, "Fast zero export", 110, bit(1), level=DIAGNOSTIC, needs=SINGLE),
    Row("micro_grid", FLAG, "Micro grid", 110, bit(2), level=HIDDEN, needs=SINGLE),
    Row("battery_shared", FLAG, "Battery shared", 110, bit(3), level=HIDDEN, needs=SINGLE),
    Row("charge_last", FLAG, "Charge last", 110, bit(4), level=DIAGNOSTIC, needs=SINGLE),  # or bit 6
    Row("buzzer", FLAG, "Buzzer", 110, bit(7), level=HIDDEN, needs=SINGLE),
    Row("take_load_together", FLAG, "Take load together", 110, bit(10), level=HIDDEN),  # seen toggling
    Row("charge_first", FLAG, "On grid: charge first", 110, bit(11), level=HIDDEN, needs=SINGLE),
    Row("green_mode", FLAG, "Green mode", 110, bit(14), level=DIAGNOSTIC, needs=Feature.GREEN_MODE),
    Row("eco_mode", FLAG, "Eco mode", 110, bit(15), level=HIDDEN, needs=SINGLE),
    Row("system_type", ENUM, "System type", 112, codes=SYSTEM_TYPES, level=DIAGNOSTIC),
    Row("eps_phase", PLAIN, "Off-grid phase", 113, low, level=HIDDEN),
    Row("detected_phase", PLAIN, "Detected phase", 113, high, level=HIDDEN),
    Row("over_frequency_start", HZ, "Over-frequency derating start", 115, u16, 100, level=HIDDEN),
    Row("start_discharge_import_w", WATT, "Import that starts discharging", 116),
    Row("start_charge_import_w", WATT, "Import that starts charging", 117, i16, level=HIDDEN),
    Row("derating_start_voltage_v", VOLTS, "Battery derating start voltage", 118, u16, 10, level=HIDDEN),
    Row("ct_offset_w", PLAIN, "CT offset, raw", 119, i16, level=DIAGNOSTIC),  # unconfirmed: steps of 1 W or 0.1 W
    Row("system_enable", PLAIN, "System enable word", 120, word, level=HIDDEN),
    Row("half_hour_ac_charge", FLAG, "Half-hour AC charge", 120, bit(0), level=HIDDEN),
    Row("ac_charge_type", ENUM, "AC charge type", 120, bits(1, 3), codes=AC_CHARGE_TYPES, level=HIDDEN, needs=SINGLE),
    Row("discharge_control_type", ENUM, "Discharge stops by", 120, bits(4, 2), codes=DISCHARGE_CONTROLS, level=HIDDEN),
    Row("ongrid_cutoff_type", ENUM, "On-grid cut-off by", 120, bits(6, 1), codes=VOLTAGE_OR_SOC, level=DIAGNOSTIC),
    Row("gen_charge_type", ENUM, "Generator charge by", 120, bits(7, 1), codes=VOLTAGE_OR_SOC, level=HIDDEN),
    Row("separate_zero_export", FLAG, "Separate zero export", 120, bit(8), level=HIDDEN),
    Row("maintenance_count", PLAIN, "Maintenance count", 122, level=HIDDEN),
    Row("over_frequency_end", HZ, "Over-frequency derating end", 124, u16, 100, level=HIDDEN),
    Row("eps_discharge_cutoff_soc_limit_pct", RATIO, "EPS discharge cut-off SOC", 125),
    Row("half_hours_1", PLAIN, "Half-hour plan 00:00-04:00", 126, level=HIDDEN),
    Row("half_hours_2", PLAIN, "Half-hour plan 04:00-08:00", 127, level=HIDDEN),
    Row("half_hours_3", PLAIN, "Half-hour plan 08:00-12:00", 128, level=HIDDEN),
    Row("half_hours_4", PLAIN, "Half-hour plan 12:00-16:00", 129, level=HIDDEN),
    Row("half_hours_5", PLAIN, "Half-hour plan 16:00-20:00", 130, level=HIDDEN),
    Row("half_hours_6", PLAIN, "Half-hour plan 20:00-24:00", 131, level=HIDDEN),
    Row("cell_voltage_low", VOLTS, "Cell voltage limit, low", 132, low, 10, level=HIDDEN),
    Row("cell_voltage_high", VOLTS, "Cell voltage limit, high", 132, high, 10, level=HIDDEN),
    Row("cells_in_series", PLAIN, "Cells in series", 133, low, level=HIDDEN),
    Row("cells_in_parallel", PLAIN, "Cells in parallel", 133, high, level=HIDDEN),
    Row("under_frequency_start", HZ, "Under-frequency derating start", 134, u16, 100, level=HIDDEN),
    Row("under_frequency_end", HZ, "Under-frequency derating end", 135, u16, 100, level=HIDDEN),
    Row("over_frequency_ratio", PER_HERTZ, "Over-frequency derating ratio", 136, level=HIDDEN),
    Row("special_load_compensation", WATT, "Special load compensation", 137, level=HIDDEN),
    Row("charge_rate_fine_pct", RATIO, "Charge rate, fine", 138, u16, 10, level=HIDDEN),
    Row("discharge_rate_fine_pct", RATIO, "Discharge rate, fine", 139, u16, 10, level=HIDDEN),
    Row("ac_charge_rate_fine_pct", RATIO, "AC charge rate, fine", 140, u16, 10, level=HIDDEN),
    Row("charge_priority_rate_fine_pct", RATIO, "Charge priority rate, fine", 141, u16, 10, level=HIDDEN),
    Row("forced_discharge_rate_fine_pct", RATIO, "Forced discharge rate, fine", 142, u16, 10, level=HIDDEN),
    Row("active_power_fine_pct", RATIO, "Active power limit, fine", 143, u16, 10, level=HIDDEN),
    Row("float_voltage_v", VOLTS, "Float voltage", 144, u16, 10, level=DIAGNOSTIC),
    Row("output_priority", ENUM, "Output priority", 145, codes=OUTPUT_PRIORITIES, level=DIAGNOSTIC),
    Row("line_mode", ENUM, "Line mode", 146, codes=LINE_MODES, level=DIAGNOSTIC),
    Row("battery_capacity", AH, "Battery capacity setting", 147, level=DIAGNOSTIC),
    Row("battery_nominal_voltage", VOLTS, "Battery nominal voltage", 148, u16, 10, level=DIAGNOSTIC),
    Row("equalization_voltage", VOLTS, "Equalization voltage", 149, u16, 10, level=HIDDEN),
    Row("equalization_interval", DAYS, "Equalization interval", 150, level=HIDDEN),
    Row("equalization_time", HOURS, "Equalization time", 151, level=HIDDEN),
    Row("ac_first_window_1", TEXT, "AC first window 1", 152, window),
    Row("ac_first_window_2", TEXT, "AC first window 2", 154, window),
    Row("ac_first_window_3", TEXT, "AC first window 3", 156, window),
    Row("ac_charge_start_voltage_v", VOLTS, "AC charge start voltage", 158, u16, 10, level=DIAGNOSTIC),
    Row("ac_charge_end_voltage_v", VOLTS, "AC charge end voltage", 159, u16, 10, level=DIAGNOSTIC),
    Row("ac_charge_start_soc_pct", RATIO, "AC charge start SOC", 160),
    Row("ac_charge_end_soc_pct", RATIO, "AC charge end SOC", 161),
    Row("battery_low_voltage", VOLTS, "Battery low voltage", 162, u16, 10, level=HIDDEN),
    Row("battery_low_back_voltage", VOLTS, "Battery low recovery voltage", 163, u16, 10, level=HIDDEN),
    Row("battery_low_soc", RATIO, "Battery low SOC", 164, level=HIDDEN),
    Row("battery_low_back_soc", RATIO, "Battery low recovery SOC", 165, level=HIDDEN),
    Row("battery_low_to_utility_voltage", VOLTS, "Battery low to utility voltage", 166, u16, 10, level=HIDDEN),
    Row("battery_low_to_utility_soc", RATIO, "Battery low to utility SOC", 167, level=HIDDEN),
    Row("ac_charge_current_a", AMPS, "AC charge battery current", 168, level=DIAGNOSTIC),
    Row("ongrid_cutoff_voltage_v", VOLTS, "On-grid cut-off voltage", 169, u16, 10, level=DIAGNOSTIC),
    Row("soc_curve_voltage_1", VOLTS, "SOC curve voltage 1", 171, u16, 10, level=HIDDEN),
    Row("soc_curve_voltage_2", VOLTS, "SOC curve voltage 2", 172, u16, 10, level=HIDDEN),
    Row("soc_curve_soc_1", RATIO, "SOC curve SOC 1", 173, level=HIDDEN),
    Row("soc_curve_soc_2", RATIO, "SOC curve SOC 2", 174, level=HIDDEN),
    Row("inner_resistance", MILLIOHM, "Battery inner resistance", 175, level=HIDDEN),
    Row("max_grid_input_raw", PLAIN, "Grid input power limit, raw", 176, level=HIDDEN),  # unconfirmed: W or 0.1 kW
    Row("gen_rated_power", WATT, "Generator rated power", 177, level=HIDDEN),
    Row("functions_2", PLAIN, "Function bits 2", 179, word, level=HIDDEN),
    Row("pv_sell_first", FLAG, "PV sell first", 179, bit(3), level=HIDDEN),  # unconfirmed outside 18kPV and FlexBOSS21
    Row("grid_peak_shaving", FLAG, "Grid peak shaving", 179, bit(7), level=DIAGNOSTIC),
    Row("charge_control", ENUM, "Charge control by", 179, bits(9, 1), codes=SOC_OR_VOLTAGE, level=HIDDEN),
    Row("discharge_control", ENUM, "Discharge control by", 179, bits(10, 1), codes=SOC_OR_VOLTAGE, level=HIDDEN),
    Row("ac_coupling", FLAG, "AC coupling", 179, bit(11), level=HIDDEN),
    Row("on_grid_always_on", FLAG, "On grid always on", 179, bit(15), level=HIDDEN),  # unconfirmed outside FlexBOSS21
    Row("afci_arc_threshold", PLAIN, "AFCI arc threshold", 180, level=HIDDEN),
    Row("volt_watt_v1", VOLTS, "Volt-watt voltage V1", 181, u16, 10, level=HIDDEN),
    Row("volt_watt_v2", VOLTS, "Volt-watt voltage V2", 182, u16, 10, level=HIDDEN),
    Row("volt_watt_delay", PLAIN, "Volt-watt delay, raw", 183, level=HIDDEN),  # unconfirmed: unit
    Row("volt_watt_p2", RATIO, "Volt-watt power P2", 184, level=HIDDEN),
    Row("q_of_v_reference", VOLTS, "Q(V) reference voltage", 185, u16, 10, level=HIDDEN),
    Row("q_of_v_filter", SECONDS, "Q(V) reference filter time", 186, level=HIDDEN),
    Row("q_of_v_q3", RATIO, "Q(V) reactive power Q3", 187, level=HIDDEN),
    Row("q_of_v_q4", RATIO, "Q(V) reactive power Q4", 188, level=HIDDEN),
    Row("q_of_p_p1", RATIO, "Q(P) power P1", 189, level=HIDDEN),
    Row("q_of_p_p2", RATIO, "Q(P) power P2", 190, level=HIDDEN),
    Row("q_of_p_p3", RATIO, "Q(P) power P3", 191, level=HIDDEN),
    Row("q_of_p_p4", RATIO, "Q(P) power P4", 192, level=HIDDEN),
    Row("under_frequency_ratio", PER_HERTZ, "Under-frequency increase ratio", 193, level=HIDDEN),
    Row("gen_charge_start_voltage", VOLTS, "Generator charge start voltage", 194, u16, 10, level=HIDDEN),
    Row("gen_charge_end_voltage", VOLTS, "Generator charge end voltage", 195, u16, 10, level=HIDDEN),
    Row("gen_charge_start_soc", RATIO, "Generator charge start SOC", 196, level=HIDDEN),
    Row("gen_charge_end_soc", RATIO, "Generator charge end SOC", 197, level=HIDDEN),
    Row("gen_charge_current", AMPS, "Generator charge current", 198, level=HIDDEN),
    Row("over_temperature_derating", CELSIUS_SET, "Over-temperature derating point", 199, u16, 10, level=HIDDEN),
    Row("charge_priority_end_voltage_v", VOLTS, "Charge priority end voltage", 201, u16, 10, level=HIDDEN),
    Row("forced_discharge_end_voltage_v", VOLTS, "Forced discharge end voltage", 202, u16, 10, level=HIDDEN),
    Row("grid_regulation", PLAIN, "Grid regulation", 203, level=HIDDEN),
    Row("lead_capacity", AH, "Lead acid capacity", 204, level=HIDDEN),
    Row("grid_type", ENUM, "Grid type", 205, codes=GRID_TYPES, level=DIAGNOSTIC),
    Row("peak_shaving_power_1", KILOWATT, "Peak shaving power 1", 206, u16, 10, level=HIDDEN),
    Row("peak_shaving_soc_1", RATIO, "Peak shaving SOC 1", 207, level=HIDDEN),
    Row("peak_shaving_voltage_1", VOLTS, "Peak shaving voltage 1", 208, u16, 10, level=HIDDEN),
    Row("peak_shaving_window_1", TEXT, "Peak shaving window 1", 209, window, level=HIDDEN),
    Row("peak_shaving_window_2", TEXT, "Peak shaving window 2", 211, window, level=HIDDEN),
    Row("smart_load_on_voltage", VOLTS, "Smart load on voltage", 213, u16, 10, level=HIDDEN),
    Row("smart_load_off_voltage", VOLTS, "Smart load off voltage", 214, u16, 10, level=HIDDEN),
    Row("smart_load_on_soc", RATIO, "Smart load on SOC", 215, level=HIDDEN),
    Row("smart_load_off_soc", RATIO, "Smart load off SOC", 216, level=HIDDEN),
    Row("smart_load_start_pv_power", KILOWATT, "Smart load start PV power", 217, u16, 10, level=HIDDEN),
    Row("peak_shaving_soc_2", RATIO, "Peak shaving SOC 2", 218, level=HIDDEN),
    Row("peak_shaving_voltage_2", VOLTS, "Peak shaving voltage 2", 219, u16, 10, level=HIDDEN),
    Row("ac_couple_start_soc", RATIO, "AC couple start SOC", 220, level=HIDDEN),
    Row("ac_couple_end_soc", RATIO, "AC couple end SOC", 221, level=HIDDEN),
    Row("ac_couple_start_voltage", VOLTS, "AC couple start voltage", 222, u16, 10, level=HIDDEN),
    Row("ac_couple_end_voltage", VOLTS, "AC couple end voltage", 223, u16, 10, level=HIDDEN),
    Row("lcd_word", PLAIN, "LCD word", 224, level=HIDDEN),
    Row("system_charge_soc_limit_pct", RATIO, "Stop charging at SOC", 227),
    Row("system_charge_voltage_limit_v", VOLTS, "Stop charging at voltage", 228, u16, 10, level=DIAGNOSTIC),
    Row("meter_config", PLAIN, "Meter configuration word", 230, level=HIDDEN),
    Row("peak_shaving_power_2", KILOWATT, "Peak shaving power 2", 232, u16, 10, level=HIDDEN),
    Row("functions_4", PLAIN, "Function bits 4", 233, word, level=HIDDEN),
    Row("quick_charge", FLAG, "Quick charge", 233, bit(0)),
    Row("battery_backup", FLAG, "Battery backup", 233, bit(1), level=DIAGNOSTIC),
    Row("weekly_schedule", FLAG, "Weekly schedule", 233, bit(3), level=HIDDEN),
    Row("quick_charge_minutes", MINUTE, "Quick charge time", 234),
    Row("days_without_full_charge", PLAIN, "Days without a full charge", 235, low, level=HIDDEN),
    Row("calibration_period", DAYS, "Calibration period", 235, high, level=HIDDEN),
    Row("float_charge_threshold", PLAIN, "Float charge threshold, 0.01 C", 236, level=HIDDEN),
    Row("gen_cool_down_time", MINUTE, "Generator cool-down time", 237, u16, 10, level=HIDDEN),
    Row("permit_service", PLAIN, "Permit service", 241, level=HIDDEN),
    Row("npe_threshold", VOLTS, "Neutral to earth threshold", 242, u16, 10, level=HIDDEN),
    Row("bootloader", PLAIN, "Bootloader word", 244, level=HIDDEN),
    Row("flash_size", PLAIN, "Flash size", 245, level=HIDDEN),
    Row("ct_amperes_1", AMPS, "Meter CT 1", 248, level=HIDDEN),
    Row("ct_amperes_2", AMPS, "Meter CT 2", 249, level=HIDDEN),
    Row("ct_amperes_3", AMPS, "Meter CT 3", 250, level=HIDDEN),
    Row("ct_directions", PLAIN, "Meter CT directions and rate", 251, level=HIDDEN),
    Row("bus_bar_limit", AMPS, "Bus bar limit", 252, level=HIDDEN),
    Row("soc_hysteresis", RATIO, "SOC hysteresis", 253, level=HIDDEN),
    Row("voltage_hysteresis", VOLTS, "Voltage hysteresis", 254, u16, 10, level=HIDDEN),
    Row("gen_window_1", TEXT, "Generator window 1", 256, window, level=HIDDEN),
    Row("gen_window_2", TEXT, "Generator window 2", 258, window, level=HIDDEN),
    Row("bus_voltage_alarm", VOLTS, "Bus voltage alarm", 260, level=HIDDEN),
    Row("discharge_recovery", PLAIN, "Discharge recovery word", 261, level=HIDDEN),  # unconfirmed: byte order
    Row("off_grid_window_1", TEXT, "Off-grid window 1", 269, window, level=HIDDEN),  # unconfirmed: EG4 hybrid only
    Row("off_grid_window_2", TEXT, "Off-grid window 2", 271, window, level=HIDDEN),
    Row("off_grid_window_3", TEXT, "Off-grid window 3", 273, window, level=HIDDEN),
)

HOLD_TOLD = (
    Told("power_unit", TEXT, "Unit of the power settings", power_unit, level=DIAGNOSTIC),
)

HOLD_DERIVED = (
    Derived("firmware", TEXT, "Firmware", VERSIONS, _firmware, level=DIAGNOSTIC),
)
# fmt: on

HOLDS = Table(Function.READ_HOLD, HOLD_ROWS, HOLD_DERIVED, HOLD_TOLD)
