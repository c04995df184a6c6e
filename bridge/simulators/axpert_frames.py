"""How a simulated Axpert writes its answers: CRC, field formats, and what each model knows.

PI30: ``( fields separated by a space | CRC hi | CRC lo | CR``;  PI18: ``^D nnn fields separated by a comma | CRC | CR``
where nnn counts the bytes behind it. CRC-16/XMODEM; afterwards a byte equal to ``(``, CR or LF is increased by one.
Source: vendor papers in jblance/mpp-solar docs/protocols (PI30 2014, 2015, MAX 2021, PI18 2017).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bridge.simulators.truth import Scalar

RESERVED = b"(\r\n"


def crc(body: bytes) -> int:
    """Return CRC-16/XMODEM of `body`, bit by bit; 31C3 for b"123456789"."""
    value = 0
    for byte in body:
        value ^= byte << 8
        for _ in range(8):
            value = (value << 1 ^ 0x1021 if value & 0x8000 else value << 1) & 0xFFFF
    return value


def crc_bytes(body: bytes, bump_zero: bool = False) -> bytes:
    """Return the two CRC bytes as sent, reserved values increased by one; zero too with `bump_zero`."""
    reserved = RESERVED + (b"\0" if bump_zero else b"")
    return bytes(byte + 1 if byte in reserved else byte for byte in crc(body).to_bytes(2, "big"))


def frame(body: bytes) -> bytes:
    """Return a whole frame; a reply's zero CRC byte goes out as it is (esphome-pipsolar issue 87)."""
    return body + crc_bytes(body) + b"\r"


@dataclass(frozen=True, slots=True)
class Out:
    """One field of an answer: its name and how it is written. Numbers by `form`, texts as they are."""

    name: str
    form: str


Table = tuple[Out, ...]


def fill(table: Iterable[Out], state: Mapping[str, float | int | str], separator: str) -> tuple[str, dict[str, Scalar]]:
    """Return the answer's text and its values as the text carries them: rounded, texts unchanged."""
    texts: list[str] = []
    values: dict[str, Scalar] = {}
    for out in table:
        value = state[out.name]
        if isinstance(value, str):
            text = value
            values[out.name] = value
        else:
            text = format(value if "f" in out.form else round(value), out.form)
            values[out.name] = float(text) if "." in text else int(text)
        texts.append(text)
    return separator.join(texts), values


# fmt: off
QPIGS: Table = (
    Out("grid_voltage", "05.1f"),
    Out("grid_frequency", "04.1f"),
    Out("ac_output_voltage", "05.1f"),
    Out("ac_output_frequency", "04.1f"),
    Out("ac_output_apparent_power", "04d"),
    Out("ac_output_active_power", "04d"),
    Out("output_load_percent", "03d"),
    Out("bus_voltage", "03d"),
    Out("battery_voltage", "05.2f"),
    Out("battery_charging_current", "03d"),
    Out("battery_capacity", "03d"),
    Out("heatsink_temperature", "04d"),
    Out("pv1_current", "04d"),
    Out("pv1_voltage", "05.1f"),
    Out("battery_voltage_scc", "05.2f"),
    Out("battery_discharge_current", "05d"),
    Out("device_status", ""),
    Out("fan_on_voltage_offset_10mv", "02d"),
    Out("eeprom_version", "02d"),
    Out("pv1_power", "05d"),
    Out("device_status2", ""),
    Out("solar_feed_to_grid", "d"),
    Out("country_regulation", ""),
    Out("solar_feed_power", "04d"),
)

QPIGS2: Table = (
    Out("pv2_current", "04.1f"),
    Out("pv2_voltage", "05.1f"),
    Out("pv2_power", "05d"),
)

QPGS: Table = (
    Out("exists", "d"),
    Out("serial_number", ""),
    Out("mode", ""),
    Out("fault_code", ""),
    Out("grid_voltage", "05.1f"),
    Out("grid_frequency", "05.2f"),
    Out("ac_output_voltage", "05.1f"),
    Out("ac_output_frequency", "05.2f"),
    Out("ac_output_apparent_power", "04d"),
    Out("ac_output_active_power", "04d"),
    Out("load_percent", "03d"),
    Out("battery_voltage", "04.1f"),
    Out("battery_charging_current", "03d"),
    Out("battery_capacity", "03d"),
    Out("pv1_voltage", "05.1f"),
    Out("total_charging_current", "03d"),
    Out("total_ac_output_apparent_power", "05d"),
    Out("total_ac_output_active_power", "05d"),
    Out("total_ac_output_percent", "03d"),
    Out("inverter_status", ""),
    Out("output_mode", "d"),
    Out("charger_source_priority", "d"),
    Out("max_charger_current", "03d"),
    Out("max_charger_range", "03d"),
    Out("max_ac_charger_current", "02d"),
    Out("pv1_current", "02d"),
    Out("battery_discharge_current", "03d"),
    Out("pv2_voltage", "05.1f"),
    Out("pv2_current", "02d"),
)

QPIRI: Table = (
    Out("grid_rating_voltage", "05.1f"),
    Out("grid_rating_current", "04.1f"),
    Out("ac_output_rating_voltage", "05.1f"),
    Out("ac_output_rating_frequency", "04.1f"),
    Out("ac_output_rating_current", "04.1f"),
    Out("ac_output_rating_apparent_power", "04d"),
    Out("ac_output_rating_active_power", "04d"),
    Out("battery_rating_voltage", "04.1f"),
    Out("battery_recharge_voltage", "04.1f"),
    Out("battery_under_voltage", "04.1f"),
    Out("battery_bulk_voltage", "04.1f"),
    Out("battery_float_voltage", "04.1f"),
    Out("battery_type", "d"),
    Out("max_ac_charging_current", "02d"),
    Out("max_charging_current", "03d"),
    Out("input_voltage_range", "d"),
    Out("output_source_priority", "d"),
    Out("charger_source_priority", "d"),
    Out("parallel_max_num", "d"),
    Out("machine_type", ""),
    Out("topology", "d"),
    Out("output_mode", "d"),
    Out("battery_redischarge_voltage", "04.1f"),
    Out("pv_ok_condition", "d"),
    Out("pv_power_balance", "d"),
    Out("max_cv_charging_time", "03d"),
    Out("operation_logic", "d"),
    Out("max_discharging_current", "03d"),
)

QDI: Table = (
    Out("ac_output_voltage", "05.1f"),
    Out("ac_output_frequency", "04.1f"),
    Out("max_ac_charging_current", "04d"),
    Out("battery_under_voltage", "04.1f"),
    Out("battery_float_voltage", "04.1f"),
    Out("battery_bulk_voltage", "04.1f"),
    Out("battery_recharge_voltage", "04.1f"),
    Out("max_charging_current", "02d"),
    Out("input_voltage_range", "d"),
    Out("output_source_priority", "d"),
    Out("charger_source_priority", "d"),
    Out("battery_type", "d"),
    Out("buzzer_silenced", "d"),
    Out("power_saving", "d"),
    Out("overload_restart", "d"),
    Out("over_temperature_restart", "d"),
    Out("lcd_backlight", "d"),
    Out("primary_source_alarm", "d"),
    Out("fault_code_record", "d"),
    Out("overload_bypass", "d"),
    Out("lcd_default_page", "d"),
    Out("output_mode", "d"),
    Out("battery_redischarge_voltage", "04.1f"),
    Out("pv_ok_condition", "d"),
    Out("pv_power_balance", "d"),
    Out("max_cv_charging_time", "03d"),
    Out("max_discharging_current", "03d"),
)

QBEQI: Table = (
    Out("equalization_enabled", "d"),
    Out("equalization_time", "03d"),
    Out("equalization_period", "03d"),
    Out("equalization_max_current", "03d"),
    Out("equalization_reserved1", "03d"),
    Out("equalization_voltage", "05.2f"),
    Out("equalization_reserved2", "03d"),
    Out("equalization_over_time", "03d"),
    Out("equalization_active", "d"),
    Out("equalization_elapsed", "04d"),
)

PI18_GS: Table = (
    Out("grid_voltage_0v1", "04d"),
    Out("grid_frequency_0hz1", "03d"),
    Out("ac_output_voltage_0v1", "04d"),
    Out("ac_output_frequency_0hz1", "03d"),
    Out("ac_output_apparent_power", "04d"),
    Out("ac_output_active_power", "04d"),
    Out("output_load_percent", "03d"),
    Out("battery_voltage_0v1", "03d"),
    Out("battery_voltage_scc1_0v1", "03d"),
    Out("battery_voltage_scc2_0v1", "03d"),
    Out("battery_discharge_current", "03d"),
    Out("battery_charging_current", "03d"),
    Out("battery_capacity", "03d"),
    Out("heatsink_temperature", "03d"),
    Out("mppt1_temperature", "03d"),
    Out("mppt2_temperature", "03d"),
    Out("pv1_power", "04d"),
    Out("pv2_power", "04d"),
    Out("pv1_voltage_0v1", "04d"),
    Out("pv2_voltage_0v1", "04d"),
    Out("settings_changed", "d"),
    Out("mppt1_status", "d"),
    Out("mppt2_status", "d"),
    Out("load_connected", "d"),
    Out("battery_direction", "d"),
    Out("dc_ac_direction", "d"),
    Out("line_direction", "d"),
    Out("parallel_id", "d"),
)

PI18_PIRI: Table = (
    Out("grid_rating_voltage_0v1", "04d"),
    Out("grid_rating_current_0a1", "03d"),
    Out("ac_output_rating_voltage_0v1", "04d"),
    Out("ac_output_rating_frequency_0hz1", "03d"),
    Out("ac_output_rating_current_0a1", "03d"),
    Out("ac_output_rating_apparent_power", "04d"),
    Out("ac_output_rating_active_power", "04d"),
    Out("battery_rating_voltage_0v1", "03d"),
    Out("battery_recharge_voltage_0v1", "03d"),
    Out("battery_redischarge_voltage_0v1", "03d"),
    Out("battery_under_voltage_0v1", "03d"),
    Out("battery_bulk_voltage_0v1", "03d"),
    Out("battery_float_voltage_0v1", "03d"),
    Out("battery_type", "d"),
    Out("max_ac_charging_current", "03d"),
    Out("max_charging_current", "03d"),
    Out("input_voltage_range", "d"),
    Out("output_source_priority", "d"),
    Out("charger_source_priority", "d"),
    Out("parallel_max_num", "d"),
    Out("machine_type", "d"),
    Out("topology", "d"),
    Out("output_mode", "d"),
    Out("solar_priority", "d"),
    Out("mppt_strings", "d"),
    Out("unknown", ""),  # in no paper, seen on an LV5048 (syssi/esphome-pipsolar)
)
# fmt: on

ENERGY = frozenset({"QET", "QEY", "QEM", "QED", "QLT", "QLY", "QLM", "QLD"})
BASIC = frozenset({"QPI", "QID", "QVFW", "QPIRI", "QPIGS", "QMOD", "QPIWS", "QFLAG", "QDI"})
USUAL = BASIC | {"QVFW2", "QPGS", "QMCHGCR", "QMUCHGCR", "QBOOT", "QOPM", "QGMN"}


@dataclass(frozen=True, slots=True)
class Model:
    """What one kind of unit is and speaks.

    `fields` is how many of a table's fields it sends. `chargers` are the codes PCP takes. `forms` are the
    number formats ("query.field") in which it differs from the tables. `queries` are the
    commands a PI30 unit knows, without their dates and numbers; it says NAK to any other.
    """

    name: str
    protocol: str
    model_name: str
    machine: str
    firmware: str
    apparent_power: int
    active_power: int
    battery: float
    fields: Mapping[str, int]
    warnings: int
    queries: frozenset[str]
    chargers: tuple[int, ...]
    flags: str
    ac_currents: tuple[int, ...]
    currents: tuple[int, ...]
    forms: Mapping[str, str]
    trackers: int = 1
    low_voltage_tracker: bool = False

    def table(self, query: str, table: Table) -> Table:
        """Return the fields this model sends of `table`, in its own number formats."""
        fields = table[: self.fields[query]]
        return tuple(Out(out.name, self.forms.get(f"{query}.{out.name}", out.form)) for out in fields)


PI30 = Model(
    "pi30",
    "PI30",
    "MKS2-5000",
    "037",
    "00072.70",
    5000,
    4000,
    48.0,
    {"QPIGS": 21, "QPIRI": 25, "QPGS": 27, "QDI": 25},
    32,
    USUAL,
    (0, 1, 2, 3),
    "abjkuvxyz",
    (2, 10, 20, 30, 40, 50, 60),
    (10, 20, 30, 40, 50, 60, 70, 80),
    {},
)

MAX = Model(
    "max",
    "PI30",
    "MAX-8000",
    "049",
    "00041.17",
    8000,
    8000,
    48.0,
    {"QPIGS": 24, "QPIRI": 28, "QPGS": 29, "QDI": 27},
    36,
    USUAL | ENERGY | {"QMN", "QSID", "QPIGS2", "QBEQI", "QT", "QOPPT", "QCHPT", "QLED"},
    (1, 2, 3),
    "abdjkuvxyz",
    (2, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120),
    (10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120),
    {"QPIGS.pv1_current": "04.1f", "QPIRI.max_ac_charging_current": "03d", "QPGS.max_ac_charger_current": "03d"},
    trackers=2,
)

OLD = Model(
    "old",
    "PI30",
    "MKS-3000",
    "016",
    "00032.10",
    3000,
    2400,
    24.0,
    {"QPIGS": 17, "QPIRI": 25, "QDI": 25},
    32,
    BASIC | {"QMCHGCR", "QMUCHGCR"},
    (0, 1, 2, 3),
    "abjkuvxyz",
    (20, 30),
    (20, 30, 40, 50),
    {"QPIRI.max_charging_current": "02d"},
    low_voltage_tracker=True,
)

PI18 = Model(
    "pi18",
    "PI18",
    "5600",
    "018",
    "05220",
    5600,
    5600,
    48.0,
    {"GS": 28, "PIRI": 26},
    17,
    frozenset(),
    (0, 1, 2),
    "ABCDEFGH",
    (2, 10, 20, 30, 40, 50, 60, 80),
    (10, 20, 30, 40, 50, 60, 80),
    {},
    trackers=2,
)

MODELS = {model.name: model for model in (PI30, MAX, OLD, PI18)}
