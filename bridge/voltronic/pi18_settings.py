"""What can be set on a unit that speaks PI18: a table as in settings.py. (pure)

Only setters whose read-back P18-2017 names. Its voltage bounds are for 48 V. The papers know a unit's number in its
set; commands for others than number 0 are not sent, since PIRI shows unit 0.
"""

from __future__ import annotations

from bridge.fields import FLAG, TEXT, Level
from bridge.settings import Clock, Number, Risk, Switch
from bridge.voltronic.pi18_inquiries import FLAGS, PIRI, T
from bridge.voltronic.settings import (
    CHARGE,
    CURRENTS,
    PI18_ONLY,
    RECHARGE,
    REDISCHARGE,
    A,
    B,
    C,
    Setter,
    choice,
    enable_or_disable,
    moment,
    number,
    steps,
    tenths,
    token_of,
    volts,
)

UNDER: dict[int, Number] = {48: steps("40.0", "48.0", "0.1")}
ONLY_48: dict[str, dict[int, Number]] = {
    "charge": {48: CHARGE[48]},
    "recharge": {48: RECHARGE[48]},
    "redischarge": {48: REDISCHARGE[48]},
}
CHARGES = "MCHGV{battery_bulk_voltage:03d},{battery_float_voltage:03d}"
DISCHARGES = "BUCD{battery_recharge_voltage:03d},{battery_redischarge_voltage:03d}"


def _flag(letter: str, key: str, risk: Risk) -> Setter:
    return Setter(
        key, FLAG, token_of(FLAGS, key).name, level=Level.DIAGNOSTIC, spelling=Switch(), risk=risk, source=FLAGS,
        form="P{}" + letter, encode=enable_or_disable, kinds=PI18_ONLY,
    )  # fmt: skip


# fmt: off
PI18_SETTERS: tuple[Setter, ...] = (
    choice(PIRI, "output_source_priority", "POP{:d}", (0, 1), A, PI18_ONLY),
    choice(PIRI, "charger_source_priority", "PCP{m},{:d}", (0, 1, 2), B, PI18_ONLY, lone=True),
    choice(PIRI, "solar_power_priority", "PSP{:d}", (0, 1), A, PI18_ONLY),
    choice(PIRI, "input_voltage_range", "PGR{:d}", (0, 1), A, PI18_ONLY),
    choice(PIRI, "battery_type", "PBT{:d}", (0, 1, 2), C, PI18_ONLY),
    number(PIRI, "max_charging_current", "MCHGC{m},{:03d}", CURRENTS, B, PI18_ONLY, listed="MCHGCR", lone=True),
    number(PIRI, "max_ac_charging_current", "MUCHGC{m},{:03d}", CURRENTS, B, PI18_ONLY, listed="MUCHGCR", lone=True),
    volts(PIRI, "battery_bulk_voltage", CHARGES, ONLY_48["charge"], C, PI18_ONLY, encode=tenths),
    volts(PIRI, "battery_float_voltage", CHARGES, ONLY_48["charge"], C, PI18_ONLY, encode=tenths),
    volts(PIRI, "battery_recharge_voltage", DISCHARGES, ONLY_48["recharge"], B, PI18_ONLY, encode=tenths),
    volts(PIRI, "battery_redischarge_voltage", DISCHARGES, ONLY_48["redischarge"], B, PI18_ONLY, encode=tenths),
    volts(PIRI, "battery_under_voltage", "PSDV{:03d}", UNDER, C, PI18_ONLY, encode=tenths),
    _flag("A", "flag_buzzer", A),
    _flag("B", "flag_overload_bypass", B),
    _flag("C", "flag_lcd_default_page", A),
    _flag("D", "flag_overload_restart", B),
    _flag("E", "flag_over_temperature_restart", B),
    _flag("F", "flag_backlight", A),
    _flag("G", "flag_primary_source_alarm", A),
    _flag("H", "flag_fault_code_record", A),
    Setter("clock", TEXT, "Clock", level=Level.DIAGNOSTIC, spelling=Clock(), risk=A, source=T,
           form="DAT{:%y%m%d%H%M%S}", encode=moment, kinds=PI18_ONLY),
)
# fmt: on
