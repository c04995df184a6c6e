"""What can be set on a LuxPower inverter: rows beside those of the holding registers, and what must never be (pure).

A row adds to the row of the same key in registers.py who may set it, which raw words are allowed and under which
conditions; where it stands, its bits, name, unit, scale and words are that row's. Bounds are the narrowest that the
sources agree on, since a refused value costs less than a wrong one.

Source: vendor's "Modbus RTU Protocol" 2025-03-13, table 8, and its 18K edition; celsworth/lxp-bridge;
joyfulhouse/pylxpweb; joyfulhouse/eg4_web_monitor (const/limits.py, registers.md); ant0nkr/luxpower-ha-integration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple

from bridge.errors import CommandError
from bridge.fields import Value
from bridge.luxpower.codes import OFF_GRID
from bridge.luxpower.models import ACS, EG4_HYBRID_TYPES, EG4_OFF_GRID_TYPES, OFF_GRID_US, SNA, Family, PowerUnit, Scale
from bridge.luxpower.registers import HOLDS, KILOWATT, RATIO
from bridge.luxpower.rows import Row, clock, i16, window
from bridge.settings import AnySpelling, Choice, Clock, Documented, Number, Risk, Setting, Switch, Window, scaled

A, B, C = Risk.HARMLESS, Risk.CAUTION, Risk.DANGEROUS
BATTERY_VOLTS, NOMINAL_WORDS = (40.0, 60.0), (400, 600)
"""What a 48 V battery measures, and its nominal voltage in hold 148: the bounds of voltages are made for it."""
NOMINAL_VOLTAGE = 148
LARGEST_CURRENT = 140
"""A that can be set where the configuration allows no more."""


class On(Enum):
    """The models that have a setting."""

    ALL = "every model"
    OFF_GRID = "off-grid models only (SNA, EG4 6000XP and 12000XP)"
    EG4_HYBRID = "EG4 hybrids only (12kPV, 18kPV, FlexBOSS)"
    NOT_ACS = "not on the LXP 3600 ACS"
    NOT_EG4_OFF_GRID = "not on the EG4 6000XP and 12000XP"
    NOT_ACAB = "not on the GEN-LB-EU (ACAB)"


@dataclass(frozen=True, slots=True)
class Model:
    """What decides about the settings of one inverter: holds 7, 8 and 19, its family, and the configuration."""

    code: str | None
    device_type: int | None
    family: Family
    largest_current: int = LARGEST_CURRENT
    """A that may be set as the battery's current limits."""

    def has(self, on: On) -> bool:
        """Whether this is one of these models. An unknown model is none where only some have a setting."""
        if self.family.stranger is not None:
            return False
        off_grid_us = self.code in OFF_GRID_US or self.device_type in EG4_OFF_GRID_TYPES
        return {
            On.ALL: True,
            On.OFF_GRID: self.code in SNA or off_grid_us,
            On.EG4_HYBRID: self.device_type in EG4_HYBRID_TYPES,
            On.NOT_ACS: self.code not in ACS,
            On.NOT_EG4_OFF_GRID: not off_grid_us,
            On.NOT_ACAB: self.code != "ACAB",
        }[on]


class Beside(NamedTuple):
    """How a raw word must stand to another register, freshly read: `sense` is one of <, <=, >, >=."""

    sense: str
    register: int
    margin: int = 0
    """Added to the other one."""

    def holds(self, raw: int, other: int) -> bool:
        """Whether it does."""
        left, right = (raw, other + self.margin) if self.sense[0] == "<" else (other + self.margin, raw)
        return left < right or (left == right and self.sense[1:] == "=")

    @property
    def words(self) -> str:
        name = next(row.key for row in HOLDS.rows if row.register == self.register)
        relation = {"<": "below", "<=": "at most", ">": "above", ">=": "at least"}[self.sense]
        return f"{relation} {name}" + (f" and {self.margin} raw steps more" if self.margin else "")


Facts = Mapping[str, Value]
"""What the inverter measures, by the keys of its state; a missing one is not known, or too old."""


class LxpClock(Clock):
    """A date from 2017 on."""

    __slots__ = ()

    def read(self, text: str) -> Value:
        if text.startswith("20") and text[2:4] < "17":
            raise CommandError(f"a year before 2017; {self.allowed}")
        return super().read(text)


@dataclass(frozen=True, slots=True)
class LxpSetting(Setting):
    """One row: bounds are raw words, signed where the register is, both included."""

    row: Row = field(kw_only=True)
    lowest: int = field(default=0, kw_only=True)
    highest: int = field(default=0, kw_only=True)
    among: tuple[int, ...] = field(default=(), kw_only=True)
    divisor: int = field(default=1, kw_only=True)
    highest_kw: int | None = field(default=None, kw_only=True)
    """The highest word where power settings count in 100 W."""
    highest_hybrid: int | None = field(default=None, kw_only=True)
    """The highest word on EG4 hybrids."""
    is_current: bool = field(default=False, kw_only=True)
    """A battery current: the configuration may allow more."""
    is_voltage: bool = field(default=False, kw_only=True)
    """A battery voltage: only for batteries of 48 V."""
    bms: str | None = field(default=None, kw_only=True)
    """Key of the state with the BMS's own limit: no more than that while a BMS speaks."""
    largest_step: int | None = field(default=None, kw_only=True)
    on_grid: bool = field(default=False, kw_only=True)
    """Only while the inverter is not off-grid."""
    beside: Beside | None = field(default=None, kw_only=True)
    on: On = field(default=On.ALL, kw_only=True)
    by_number: bool = field(default=False, kw_only=True)
    """Set and shown as the raw number, for `set/hold/N`."""

    @property
    def registers(self) -> range:
        """The registers it stands in."""
        return range(self.row.register, self.row.register + self.row.read.words)

    @property
    def mask(self) -> int:
        """The bits it claims in each of them."""
        return self.row.read.claims & 0xFFFF

    @property
    def place(self) -> str:
        """Where it stands, in words."""
        first, last = self.registers[0], self.registers[-1]
        if last > first:
            return f"hold {first}-{last}"
        bits = [bit for bit in range(16) if self.mask >> bit & 1]
        if len(bits) == 16:
            return f"hold {first}"
        return f"hold {first} bit {bits[0]}" if len(bits) == 1 else f"hold {first} bits {bits[0]}-{bits[-1]}"

    def for_model(self, model: Model) -> LxpSetting:
        """Return the row with the bounds of this model. Raises CommandError where it has no such setting."""
        needs = self.row.needs
        if not model.has(self.on) or (needs is not None and needs not in model.family.features):
            reason = self.on.value if self.on is not On.ALL else "what stands there differs between models"
            raise CommandError(f"{self.key} cannot be set on this model: {reason}")
        highest, divisor, quantity = self.highest, self.divisor, self.quantity
        if self.highest_kw is not None:
            unit = model.family.power_unit
            if unit is None:
                raise CommandError(
                    f"{self.key}: whether this model counts in % or kW is not known; power_unit in the configuration "
                    "tells it"
                )
            quantity = RATIO if unit is PowerUnit.PERCENT else KILOWATT
            divisor = model.family.divisor(Scale.RATE) or 1
            highest = highest if unit is PowerUnit.PERCENT else self.highest_kw
        if self.highest_hybrid is not None and model.has(On.EG4_HYBRID):
            highest = self.highest_hybrid
        if self.is_current:
            highest = model.largest_current
        if (highest, divisor, quantity) == (self.highest, self.divisor, self.quantity):
            return self
        spelling = _spelling(self.row, self.lowest, highest, divisor, self.among)
        return replace(self, highest=highest, divisor=divisor, quantity=quantity, spelling=spelling)

    # -- words

    def raw(self, words: Mapping[int, int]) -> int:
        """Return the number in its bits of a single word, with its sign."""
        raw = words[self.row.register] & self.mask
        if self.row.read is i16:
            return raw - 0x10000 if raw & 0x8000 else raw
        return raw // _lowest_bit(self.mask)

    def value(self, words: Mapping[int, int]) -> Value:
        """Return what it is set to, in its unit; None when that is nothing it can mean."""
        if self.row.read in (window, clock):
            data = b"".join(words[register].to_bytes(2, "little") for register in self.registers)
            return self.row.read.convert(data) if self.row.read.convert else None
        raw = self.raw(words)
        if isinstance(self.spelling, Switch):
            return raw == 1
        if self.row.codes is not None and not self.by_number:
            return self.row.codes.get(raw)
        return raw if self.divisor == 1 or self.by_number else raw / self.divisor

    def encode(self, value: Value, words: Mapping[int, int]) -> dict[int, int]:
        """Return its words with this value, every other bit as it is in `words`."""
        if self.row.read is window:
            hours = str(value).split("-")
            return {
                register: int(text[:2]) | int(text[3:]) << 8
                for register, text in zip(self.registers, hours, strict=True)
            }
        word = words[self.row.register] & ~self.mask
        return {self.row.register: word | self.number(value) * _lowest_bit(self.mask) & self.mask}

    def number(self, value: Value) -> int:
        """Return the raw number that stands for a value that its spelling has read."""
        if self.row.codes is not None and not self.by_number:
            return next(code for code, name in self.row.codes.items() if name == value)
        if not isinstance(value, (int, float)):
            raise ValueError(f"{value!r} is no value of {self.key}")
        return round(value if self.by_number else value * self.divisor)

    # -- conditions

    @property
    def looks_at(self) -> tuple[int, ...]:
        """Other holding registers that decide whether it may be set."""
        return (self.beside.register,) if self.beside is not None else ()

    def objection(self, raw: int, words: Mapping[int, int], facts: Facts, nominal: int | None) -> str | None:
        """Say why the raw number must not be written as things stand, or None.

        `words` are freshly read, its own and those it looks at; `nominal` is hold 148, None when not known.
        """
        if self.beside is not None and not self.beside.holds(raw, words[self.beside.register]):
            return f"it has to be {self.beside.words}, which is {words[self.beside.register] / self.divisor:g} now"
        if self.largest_step is not None and abs(raw - self.raw(words)) > self.largest_step:
            return f"more than {self.largest_step} from the {self.raw(words)} it is now; go there in steps"
        if self.on_grid and not _is_on_grid(facts):
            return "only while the inverter is known to be on grid"
        if self.is_voltage and (reason := _other_battery(facts, nominal)):
            return reason
        limit = facts.get(self.bms) if self.bms is not None and _bms_speaks(facts) else None
        if isinstance(limit, (int, float)) and raw / self.divisor > limit:
            return f"more than the battery's own limit, {limit:g} now"
        return None

    def conditions(self) -> list[str]:
        """Return all conditions in words, for the documentation."""
        texts = [self.on.value] if self.on is not On.ALL else []
        texts += ["as the model counts, or `power_unit`"] if self.highest_kw is not None else []
        texts += [self.beside.words] if self.beside is not None else []
        texts += [f"up to {self.highest_hybrid} on EG4 hybrids"] if self.highest_hybrid is not None else []
        texts += ["not above the limit of the battery's BMS"] if self.bms is not None else []
        texts += ["more with `max_battery_current`"] if self.is_current else []
        texts += ["48 V batteries"] if self.is_voltage else []
        texts += [f"at most {self.largest_step} {self.quantity.unit} at once"] if self.largest_step is not None else []
        texts += ["while on grid"] if self.on_grid else []
        return texts


def _lowest_bit(mask: int) -> int:
    return mask & -mask


def _is_on_grid(facts: Facts) -> bool:
    status = facts.get("status_code")
    return isinstance(status, int) and status < OFF_GRID


def _other_battery(facts: Facts, nominal: int | None) -> str | None:
    volts = facts.get("v_bat")
    if not isinstance(volts, (int, float)):
        return "the battery's voltage is not known now, so a voltage for it cannot be checked"
    if not BATTERY_VOLTS[0] <= volts <= BATTERY_VOLTS[1]:
        return f"voltages are for batteries of 48 V; this one has {volts:g} V"
    if nominal and not NOMINAL_WORDS[0] <= nominal <= NOMINAL_WORDS[1]:
        return f"voltages are for batteries of 48 V; this one is set to {nominal / 10:g} V"
    return None


def _bms_speaks(facts: Facts) -> bool:
    return any(facts.get(key) for key in BMS_KEYS)


CHARGE_AMPERES, DISCHARGE_AMPERES, CHARGE_VOLTS = BMS_KEYS = ("max_chg_curr", "max_dischg_curr", "charge_volt_ref")


def _spelling(row: Row, lowest: int, highest: int, divisor: int, among: tuple[int, ...]) -> AnySpelling:
    if row.read is window:
        return Window()
    if row.read is clock:
        return LxpClock()
    if row.codes is not None:
        return Choice(tuple(row.codes.values()))
    if among:
        return Number(Decimal(min(among)), Decimal(max(among)), among=tuple(map(Decimal, among)))
    return scaled(lowest, highest, divisor) if highest > lowest else Switch()


_ROWS = {row.key: row for row in HOLDS.rows}


def _set(key: str, risk: Risk, lowest: int = 0, highest: int = 0, group: str = "", **more: Any) -> LxpSetting:
    row = _ROWS[key]
    divisor = row.divisor if isinstance(row.divisor, int) else 1
    spelling = _spelling(row, lowest, highest, divisor, more.get("among", ()))
    return LxpSetting(
        key, row.quantity, row.name, level=row.level, options=spelling.options if isinstance(spelling, Choice) else (),
        spelling=spelling, risk=risk, groups=(group,) if group else (), row=row, lowest=lowest, highest=highest,
        divisor=divisor, **more,
    )  # fmt: skip


def _volts(key: str, lowest: int, highest: int, **more: Any) -> LxpSetting:
    """A voltage of the battery."""
    return _set(key, B, lowest, highest, is_voltage=True, **more)


def _rate(key: str, risk: Risk, highest_kw: int) -> LxpSetting:
    """A power, in % or 100 W."""
    return _set(key, risk, 0, 100, highest_kw=highest_kw)


# fmt: off
SETTINGS = (
    _set("time", A),
    _set("language", B),
    _set("eps", B, on=On.NOT_ACS),
    _set("ac_charge", A),
    _set("seamless_eps", B),
    _set("running", B),  # unconfirmed: what standby does to the off-grid output
    _set("forced_discharge", A),
    _set("charge_priority", A),
    _set("feed_in_grid", B),
    _set("start_pv_voltage_v", C, 1400, 5000),
    _set("active_power_pct", C, 0, 100),
    _set("charge_rate_pct", A, 0, 100),
    _set("discharge_rate_pct", A, 0, 100),  # unconfirmed: what 0 does off-grid
    _rate("ac_charge_rate", A, 150),
    _set("ac_charge_soc_limit_pct", A, 0, 100, highest_hybrid=101, on=On.NOT_EG4_OFF_GRID),
    _set("ac_charge_window_1", A, group="charge_windows"),
    _set("ac_charge_window_2", A, group="charge_windows"),
    _set("ac_charge_window_3", A, group="charge_windows"),
    _rate("charge_priority_rate", A, 150),
    _set("charge_priority_soc_limit_pct", A, 0, 100),
    _set("charge_priority_window_1", A, group="charge_windows"),
    _set("charge_priority_window_2", A, group="charge_windows"),
    _set("charge_priority_window_3", A, group="charge_windows"),
    _rate("forced_discharge_rate", A, 255),
    _set("forced_discharge_soc_limit_pct", A, 0, 100),
    _set("forced_discharge_window_1", A, group="discharge_windows"),
    _set("forced_discharge_window_2", A, group="discharge_windows"),
    _set("forced_discharge_window_3", A, group="discharge_windows"),
    _set("eps_voltage", C, among=(208, 220, 230, 240, 277), largest_step=20, on_grid=True),
    _set("eps_frequency", C, among=(50, 60), on_grid=True),
    _volts("charge_voltage_v", 500, 590, beside=Beside(">=", 144), bms=CHARGE_VOLTS),
    _volts("discharge_cutoff_voltage_v", 400, 500),
    _set("charge_current_limit_a", B, 0, LARGEST_CURRENT, is_current=True, bms=CHARGE_AMPERES),
    _set("discharge_current_limit_a", B, 0, LARGEST_CURRENT, is_current=True, bms=DISCHARGE_AMPERES),
    _rate("feed_in_limit", B, 255),
    _set("discharge_cutoff_soc_limit_pct", A, 10, 90, beside=Beside(">=", 125)),
    _set("discharge_temperature_low", B, -400, 1000),
    _set("discharge_temperature_high", B, -400, 1000),
    _set("charge_temperature_low", B, -400, 1000),
    _set("charge_temperature_high", B, -400, 1000),
    _set("fast_zero_export", B),
    _set("charge_last", B),  # unconfirmed: another source has it at bit 6
    _set("start_discharge_import_w", A, 50, 10000),
    _set("start_charge_import_w", B, -10000, 10000),
    _volts("derating_start_voltage_v", 400, 560, beside=Beside(">", 100, 20)),
    _set("ct_offset_w", B, -199, 199),  # unconfirmed: steps of 1 W or 0.1 W; both readings allow this range
    _set("ac_charge_type", B),
    _set("discharge_control_type", B),
    _set("ongrid_cutoff_type", B),
    _set("gen_charge_type", B),
    _set("eps_discharge_cutoff_soc_limit_pct", A, 0, 90, beside=Beside("<=", 105)),
    _set("charge_rate_fine_pct", B, 0, 1000),  # finer twins of 64, 65, 66, 74 and 82: set one or the other
    _set("discharge_rate_fine_pct", B, 0, 1000),
    _set("ac_charge_rate_fine_pct", B, 0, 1000),
    _set("charge_priority_rate_fine_pct", B, 0, 1000),
    _set("forced_discharge_rate_fine_pct", B, 0, 1000),
    _volts("float_voltage_v", 500, 560, beside=Beside("<=", 99), bms=CHARGE_VOLTS),
    _set("output_priority", B, on=On.OFF_GRID),
    _set("line_mode", B, on=On.OFF_GRID),
    _set("battery_capacity", B, 0, 10000),
    _volts("equalization_voltage", 500, 590),
    _set("equalization_interval", B, 0, 365),
    _set("equalization_time", B, 0, 24),
    _set("ac_first_window_1", A, group="ac_first_windows", on=On.OFF_GRID),
    _set("ac_first_window_2", A, group="ac_first_windows", on=On.OFF_GRID),
    _set("ac_first_window_3", A, group="ac_first_windows", on=On.OFF_GRID),
    _volts("ac_charge_start_voltage_v", 385, 520, beside=Beside("<", 159)),
    _volts("ac_charge_end_voltage_v", 480, 590, beside=Beside(">", 158)),
    _set("ac_charge_start_soc_pct", A, 1, 90, beside=Beside("<", 161)),
    _set("ac_charge_end_soc_pct", A, 20, 100, beside=Beside(">", 160)),
    _volts("battery_low_voltage", 400, 500),
    _volts("battery_low_back_voltage", 420, 520),
    _set("battery_low_soc", B, 0, 90),
    _set("battery_low_back_soc", B, 20, 100),
    _volts("battery_low_to_utility_voltage", 444, 514),
    _set("battery_low_to_utility_soc", B, 0, 100),
    _set("ac_charge_current_a", B, 0, 140, on=On.NOT_ACAB),
    _volts("ongrid_cutoff_voltage_v", 400, 560),
    _volts("soc_curve_voltage_1", 400, 600),
    _volts("soc_curve_voltage_2", 400, 600),
    _set("soc_curve_soc_1", B, 0, 100),
    _set("soc_curve_soc_2", B, 0, 100),
    _set("grid_peak_shaving", B),
    _volts("gen_charge_start_voltage", 384, 520),
    _volts("gen_charge_end_voltage", 480, 590),
    _set("gen_charge_start_soc", B, 0, 90),
    _set("gen_charge_end_soc", B, 20, 100),
    _set("gen_charge_current", B, 0, 60),
    _volts("charge_priority_end_voltage_v", 480, 590),
    _volts("forced_discharge_end_voltage_v", 400, 560),
    _set("lead_capacity", B, 50, 5000),
    _set("peak_shaving_power_1", B, 0, 255),  # stays 0 while peak shaving is off
    _set("peak_shaving_soc_1", B, 0, 100, on=On.EG4_HYBRID),
    _volts("peak_shaving_voltage_1", 480, 590),
    _set("peak_shaving_window_1", B, group="peak_shaving_windows", on=On.EG4_HYBRID),
    _set("peak_shaving_window_2", B, group="peak_shaving_windows", on=On.EG4_HYBRID),
    _volts("smart_load_on_voltage", 480, 590),
    _volts("smart_load_off_voltage", 400, 520),
    _set("smart_load_on_soc", B, 0, 100),
    _set("smart_load_off_soc", B, 0, 100),
    _set("smart_load_start_pv_power", B, 0, 120),
    _set("peak_shaving_soc_2", B, 0, 100, on=On.EG4_HYBRID),
    _volts("peak_shaving_voltage_2", 480, 590),
    _set("ac_couple_start_soc", B, 0, 100),
    _set("ac_couple_end_soc", B, 0, 100),
    _volts("ac_couple_start_voltage", 400, 595),
    _volts("ac_couple_end_voltage", 420, 800),
    _set("system_charge_soc_limit_pct", A, 10, 101),
    _volts("system_charge_voltage_limit_v", 480, 595),
    _set("peak_shaving_power_2", B, 0, 255),
    _set("quick_charge", B, on=On.NOT_EG4_OFF_GRID),
    _set("battery_backup", B, on=On.NOT_EG4_OFF_GRID),
    _set("quick_charge_minutes", B, 1, 1440, on=On.NOT_EG4_OFF_GRID),
    _set("float_charge_threshold", B, 1, 255),
    _set("gen_cool_down_time", B, 1, 255),
    _set("soc_hysteresis", B, 5, 80),
    _volts("voltage_hysteresis", 20, 100),
    _set("gen_window_1", B, group="generator_windows"),
    _set("gen_window_2", B, group="generator_windows"),
    _set("off_grid_window_1", B, group="off_grid_windows", on=On.EG4_HYBRID),
    _set("off_grid_window_2", B, group="off_grid_windows", on=On.EG4_HYBRID),
    _set("off_grid_window_3", B, group="off_grid_windows", on=On.EG4_HYBRID),
)

NEVER: tuple[tuple[int, int, int], ...] = (
    (0, 11, 0xFFFF), (15, 15, 0xFFFF), (17, 20, 0xFFFF), (21, 21, 0x707E), (23, 59, 0xFFFF), (61, 63, 0xFFFF),
    (92, 98, 0xFFFF), (104, 104, 0xFFFF), (110, 110, 0x3360), (111, 115, 0xFFFF), (120, 120, 0xFE00),
    (121, 124, 0xFFFF), (134, 136, 0xFFFF), (170, 170, 0xFFFF), (178, 178, 0xFFFF), (179, 179, 0x7177),
    (180, 193, 0xFFFF), (199, 200, 0xFFFF), (203, 203, 0xFFFF), (205, 205, 0xFFFF), (224, 226, 0xFFFF),
    (229, 231, 0xFFFF), (233, 233, 0xFFF4), (235, 235, 0xFFFF), (238, 252, 0xFFFF), (255, 255, 0xFFFF),
    (260, 260, 0xFFFF), (262, 268, 0xFFFF), (275, 0xFFFF, 0xFFFF),
)
"""First and last register, and the bits of them that no command of any entrance ever changes: model, serial and bus
address, resets, grid protection, CT ratios, calibration, password."""
# fmt: on

KEYS = {setting.key: setting for setting in SETTINGS}
NAMES = frozenset({*KEYS, *(group for setting in SETTINGS for group in setting.groups)})
"""What `allow` can list."""
CLOCK_REGISTERS = range(12, 15)


def never(register: int) -> int:
    """Return the bits of a register that are never changed."""
    return next((mask for first, last, mask in NEVER if first <= register <= last), 0)


def writable(register: int) -> int:
    """Return the bits of a register that some row claims."""
    mask = 0
    for setting in SETTINGS:
        if register in setting.registers:
            mask |= setting.mask
    return mask


def permit(first: int, old: tuple[int, ...], new: tuple[int, ...]) -> None:
    """See whether these words may go out, against the ones freshly read. Raises CommandError.

    The last gate, behind every entrance: whatever was checked before, nothing passes that changes a bit which is
    never changed or that no setting has; several words in one frame are for the clock alone.
    """
    if len(old) != len(new) or not new or (len(new) > 1 and range(first, first + len(new)) != CLOCK_REGISTERS):
        raise CommandError(f"hold {first}: no frame with {len(new)} words is ever written there")
    for register, (before, after) in enumerate(zip(old, new, strict=True), first):
        changed = before ^ after
        if changed & never(register) or changed & ~writable(register):
            raise CommandError(f"hold {register}: bits {changed & (never(register) | ~writable(register)):#06x} "
                               "are never changed")  # fmt: skip


def find(name: str) -> LxpSetting:
    """Return the row of a name. Raises CommandError, which says what was meant perhaps."""
    if name in KEYS:
        return KEYS[name]
    raise CommandError(f"{name[:40]!a} is no setting{meant(name, KEYS)}; docs/settings.md lists them")


def meant(name: str, known: Mapping[str, object] | frozenset[str]) -> str:
    """Return ", did you mean ...?" when a known name is near, else nothing."""
    from difflib import get_close_matches

    near = get_close_matches(name[:40], sorted(known), 1, 0.6)
    return f", did you mean {near[0]}?" if near else ""


def documented_settings() -> dict[str, tuple[Documented, ...]]:
    """Return all rows with their places, values and conditions; for docs/settings.md."""
    return {"the inverter": tuple(_documented(setting) for setting in SETTINGS)}


def _documented(setting: LxpSetting) -> Documented:
    allowed = setting.spelling.allowed.removeprefix("expected ").removeprefix("one of ")
    if setting.highest_kw is not None:
        allowed = f"{allowed} %, or 0 to {setting.highest_kw / 10:g} kW in steps of 0.1"
    return Documented(setting, setting.place, allowed, "; ".join(setting.conditions()))


def settings_of(
    model: Model, may: Callable[[LxpSetting], bool], known: Callable[[int], bool]
) -> tuple[LxpSetting, ...]:
    """Return what can be set on one inverter, with its bounds: of what may be, where its registers are `known`."""
    found = []
    for setting in SETTINGS:
        if may(setting) and all(map(known, setting.registers)):
            try:
                found.append(setting.for_model(model))
            except CommandError:
                continue
    return tuple(found)

