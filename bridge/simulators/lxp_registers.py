"""What stands in which register of a simulated LuxPower inverter, and what its holding registers accept.

Numbers, units and scales: the vendor's "Modbus RTU Protocol" of 2025-03-13, tables 7 and 8; names as in
celsworth/lxp-bridge src/lxp/packet.rs. Where models differ, a Model says how.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bridge.simulators.lxp_frames import READ_HOLD, READ_INPUT
from bridge.simulators.truth import Scalar

Block = tuple[int, int, int]
"""Device function, first register, number of registers."""

# fmt: off
SHAPES: dict[str, tuple[Block, ...]] = {
    "40": ((READ_INPUT, 0, 40), (READ_INPUT, 40, 40), (READ_INPUT, 80, 40)),
    "80": ((READ_HOLD, 0, 80), (READ_INPUT, 0, 80), (READ_INPUT, 80, 80)),
    "120": ((READ_INPUT, 0, 120), (READ_INPUT, 120, 120)),
    "125": ((READ_INPUT, 0, 125), (READ_INPUT, 125, 125)),
    "127": ((READ_HOLD, 0, 80), (READ_INPUT, 0, 127), (READ_INPUT, 127, 127), (READ_INPUT, 254, 127)),
}
"""The blocks of one set of pushes, under the size of the larger ones."""


@dataclass(frozen=True, slots=True)
class Model:
    """A kind of inverter. `strings` 0 is AC-coupled: PV1 is then the measured power of a foreign PV inverter."""

    name: str
    code: str
    """Holding registers 7 and 8."""
    device_type: int
    """Holding register 19."""
    shape: str
    inputs: int
    """How many input registers there are."""
    largest_read: int
    strings: int
    rated: int
    """W."""
    pv_peak: int
    """W."""
    hundred_watts: bool
    """Registers 66, 74, 82 and 103 are in units of 100 W, else percent."""
    limit_divisor: int
    """Of input registers 81 and 82."""
    split_phase: bool = False
    packs: int = 0
    """Battery packs told one by one from input register 5000 on."""
    refused: tuple[int, ...] = ()
    """Holding registers that the firmware refuses with code 2."""


MODELS = {model.name: model for model in (
    #     name      code    type  shape  in.  read str. rated  peak   100 W  divisor
    Model("acs",    "BAAA", 4,    "40",  120, 40,  0,   3600,  4000,  False, 100, refused=(168, 233, 234)),
    Model("hybrid", "AAAA", 4,    "40",  120, 40,  2,   5000,  6000,  False, 100, refused=(233, 234)),
    Model("sna",    "cBaa", 6,    "127", 381, 127, 2,   6000,  7500,  False, 10),
    Model("lxp12k", "FAAB", 12,   "125", 254, 127, 3,   12000, 14000, True,  10),
    Model("eg4",    "EAAB", 2092, "120", 240, 127, 3,   12000, 15000, True,  10, split_phase=True, packs=2),
)}


@dataclass(frozen=True, slots=True)
class Row:
    """One value among the input registers: raw = value x divisor. `form`: u16, i16, u32 (low word first), low, high."""

    register: int
    name: str
    divisor: int = 1
    form: str = "u16"


ROWS = (
    Row(0, "status"),
    Row(1, "v_pv_1", 10), Row(2, "v_pv_2", 10), Row(3, "v_pv_3", 10),
    Row(4, "v_bat", 10),
    Row(5, "soc", 1, "low"), Row(5, "soh", 1, "high"),
    Row(6, "internal_fault"),
    Row(7, "p_pv_1"), Row(8, "p_pv_2"), Row(9, "p_pv_3"),
    Row(10, "p_charge"), Row(11, "p_discharge"),
    Row(12, "v_ac_r", 10), Row(13, "v_ac_s", 10), Row(14, "v_ac_t", 10),
    Row(15, "f_ac", 100),
    Row(16, "p_inv"), Row(17, "p_rec"),
    Row(18, "i_inv_rms", 100),
    Row(19, "pf", 1000),
    Row(20, "v_eps_r", 10), Row(21, "v_eps_s", 10), Row(22, "v_eps_t", 10),
    Row(23, "f_eps", 100),
    Row(24, "p_eps"), Row(25, "s_eps"),
    Row(26, "p_to_grid"), Row(27, "p_to_user"),
    Row(28, "e_pv_day_1", 10), Row(29, "e_pv_day_2", 10), Row(30, "e_pv_day_3", 10),
    Row(31, "e_inv_day", 10), Row(32, "e_rec_day", 10),
    Row(33, "e_chg_day", 10), Row(34, "e_dischg_day", 10),
    Row(35, "e_eps_day", 10),
    Row(36, "e_to_grid_day", 10), Row(37, "e_to_user_day", 10),
    Row(38, "v_bus_1", 10), Row(39, "v_bus_2", 10),
    Row(40, "e_pv_all_1", 10, "u32"), Row(42, "e_pv_all_2", 10, "u32"), Row(44, "e_pv_all_3", 10, "u32"),
    Row(46, "e_inv_all", 10, "u32"), Row(48, "e_rec_all", 10, "u32"),
    Row(50, "e_chg_all", 10, "u32"), Row(52, "e_dischg_all", 10, "u32"),
    Row(54, "e_eps_all", 10, "u32"),
    Row(56, "e_to_grid_all", 10, "u32"), Row(58, "e_to_user_all", 10, "u32"),
    Row(60, "fault_code", 1, "u32"), Row(62, "warning_code", 1, "u32"),
    Row(64, "t_inner", 1, "i16"), Row(65, "t_rad_1", 1, "i16"), Row(66, "t_rad_2", 1, "i16"),
    Row(67, "t_bat", 1, "i16"),
    Row(69, "runtime", 1, "u32"),
    Row(77, "ac_input_flags"),
    Row(80, "bat_type_com"),
    Row(81, "max_chg_curr", 10), Row(82, "max_dischg_curr", 10),
    Row(83, "charge_volt_ref", 10), Row(84, "dischg_cut_volt", 10),
    Row(85, "bat_status_0"), Row(86, "bat_status_1"), Row(87, "bat_status_2"), Row(88, "bat_status_3"),
    Row(89, "bat_status_4"), Row(90, "bat_status_5"), Row(91, "bat_status_6"), Row(92, "bat_status_7"),
    Row(93, "bat_status_8"), Row(94, "bat_status_9"), Row(95, "bat_status_inv"),
    Row(96, "bat_count"),
    Row(97, "bat_capacity"),
    Row(98, "bat_current", 10, "i16"),
    Row(99, "bms_event_1"), Row(100, "bms_event_2"),
    Row(101, "max_cell_voltage", 1000), Row(102, "min_cell_voltage", 1000),
    Row(103, "max_cell_temp", 10, "i16"), Row(104, "min_cell_temp", 10, "i16"),
    Row(105, "bms_fw_update_state"),
    Row(106, "cycle_count"),
    Row(107, "vbat_inv", 10),
    Row(108, "t1", 10, "i16"),
    Row(113, "parallel_status"),
    Row(114, "p_load_ongrid_12k"),
    Row(120, "v_bus_half", 10),
    Row(121, "v_gen", 10), Row(122, "f_gen", 100), Row(123, "p_gen"),
    Row(124, "e_gen_day", 10), Row(125, "e_gen_all", 10, "u32"),
    Row(127, "v_eps_l1", 10), Row(128, "v_eps_l2", 10),
    Row(129, "p_eps_l1"), Row(130, "p_eps_l2"),
    Row(131, "s_eps_l1"), Row(132, "s_eps_l2"),
    Row(139, "q_inv"),
    Row(153, "p_ac_couple"),
    Row(170, "p_load", 1, "i16"),
    Row(171, "e_load_day", 10), Row(172, "e_load_all", 10, "u32"),
    Row(193, "v_ac_l1", 10), Row(194, "v_ac_l2", 10),
    Row(197, "p_inv_l1"), Row(198, "p_inv_l2"),
    Row(199, "p_rec_l1"), Row(200, "p_rec_l2"),
    Row(201, "p_to_grid_l1"), Row(202, "p_to_grid_l2"),
    Row(203, "p_to_user_l1"), Row(204, "p_to_user_l2"),
    Row(210, "quick_charge_remaining"),
)
SERIAL_REGISTER = 115


@dataclass(frozen=True, slots=True)
class Hold:
    """A holding register that may be written. Anything outside `low` to `high` is refused with code 3.

    `form`: u16; i16 (bounds are signed); time (hour in the low byte, minute in the high one).
    """

    register: int
    default: int
    low: int = 0
    high: int = 0xFFFF
    form: str = "u16"


def times(first: int, *boundaries: str) -> tuple[Hold, ...]:
    """Return the registers of time windows, one for each boundary."""
    return tuple(
        Hold(first + i, int(text[:2]) | int(text[3:]) << 8, form="time") for i, text in enumerate(boundaries)
    )


UNUSED = ("00:00",) * 2

HOLDS = {hold.register: hold for hold in (
    Hold(11, 0), Hold(15, 1, 0, 150), Hold(16, 0, 0, 1), Hold(20, 4, 0, 7),
    Hold(21, 0xF354), Hold(22, 1200, 900, 5000),
    Hold(23, 60, 30, 600), Hold(24, 60, 0, 900),
    Hold(25, 1955), Hold(26, 2530), Hold(27, 4750), Hold(28, 5050),
    *(Hold(29 + i, value) for i, value in enumerate((1840, 2645, 125, 6, 1840, 2645, 125, 6, 1840, 2645, 125, 6))),
    Hold(41, 2530),
    *(Hold(42 + i, value) for i, value in enumerate((4750, 5150, 25, 25, 4750, 5150, 25, 25, 4750, 5150, 25, 25))),
    Hold(54, 44), Hold(55, 2070), Hold(56, 2185), Hold(57, 2415), Hold(58, 2530),
    Hold(59, 0, 0, 7), Hold(60, 100, 0, 100), Hold(61, 60, 0, 100), Hold(62, 1000), Hold(63, 100, 1, 4000),
    Hold(64, 100, 0, 100), Hold(65, 100, 0, 100),
    Hold(66, 50, 0, 150), Hold(67, 90, 0, 101), *times(68, "00:00", "00:00", *UNUSED, *UNUSED),
    Hold(74, 50, 0, 150), Hold(75, 100, 0, 101), *times(76, *UNUSED, *UNUSED, *UNUSED),
    Hold(82, 50, 0, 255), Hold(83, 20, 0, 100), *times(84, *UNUSED, *UNUSED, *UNUSED),
    Hold(90, 230, 208, 277), Hold(91, 50, 50, 60),
    Hold(92, 2415), Hold(93, 2300), Hold(94, 20), Hold(95, 5), Hold(96, 0), Hold(97, 0), Hold(98, 0, 0, 1),
    Hold(99, 560, 500, 590), Hold(100, 440, 400, 520), Hold(101, 100, 0, 250), Hold(102, 100, 0, 250),
    Hold(103, 100, 0, 255), Hold(104, 0, 0, 2), Hold(105, 15, 10, 90),
    Hold(106, 0xFF38, -500, 1000, "i16"), Hold(107, 600, -500, 1000, "i16"),
    Hold(108, 0, -500, 1000, "i16"), Hold(109, 550, -500, 1000, "i16"),
    Hold(110, 0x0002), Hold(112, 0, 0, 4), Hold(113, 0), Hold(115, 5020, 5000, 5200),
    Hold(116, 50, 50, 10000), Hold(117, 0xFFCE, -10000, 10000, "i16"), Hold(118, 470),
    Hold(119, 0, -1000, 1000, "i16"), Hold(120, 0), Hold(124, 5150, 5000, 5200), Hold(125, 10, 0, 90),
    *(Hold(126 + i, 0) for i in range(6)), Hold(132, 0), Hold(133, 0),
    Hold(134, 4980, 4500, 5000), Hold(135, 4750, 4500, 5000), Hold(136, 40, 1, 100), Hold(137, 0),
    *(Hold(138 + i, 1000, 0, 1000) for i in range(6)),
    Hold(144, 540, 500, 560), Hold(145, 0, 0, 2), Hold(146, 1, 0, 2), Hold(147, 200, 0, 10000),
    Hold(148, 512, 400, 590),
    Hold(149, 560, 500, 590), Hold(150, 0, 0, 365), Hold(151, 0, 0, 24), *times(152, *UNUSED, *UNUSED, *UNUSED),
    Hold(158, 480, 385, 520), Hold(159, 540, 480, 590), Hold(160, 20, 0, 90), Hold(161, 90, 20, 100),
    Hold(162, 440, 400, 500), Hold(163, 480, 420, 520), Hold(164, 10, 0, 90), Hold(165, 25, 20, 100),
    Hold(166, 460, 444, 514), Hold(167, 20, 0, 100), Hold(168, 30, 0, 140), Hold(169, 440, 400, 560),
    Hold(176, 80), Hold(177, 6000), Hold(179, 0), Hold(180, 0),
    *(Hold(181 + i, 0) for i in range(13)),
    Hold(194, 480, 384, 520), Hold(195, 540, 480, 590), Hold(196, 20, 0, 90), Hold(197, 90, 20, 100),
    Hold(198, 30, 0, 60), Hold(199, 700, 600, 900),
    Hold(201, 560, 480, 590), Hold(202, 460, 400, 560), Hold(203, 0), Hold(204, 200, 50, 5000), Hold(205, 3, 0, 8),
    Hold(206, 0, 0, 255), Hold(207, 50, 0, 100), Hold(208, 520, 480, 590), *times(209, *UNUSED, *UNUSED),
    Hold(218, 50, 0, 100), Hold(219, 520, 480, 590),
    Hold(225, 0), Hold(227, 101, 10, 101), Hold(228, 580, 400, 600),
    Hold(230, 0), Hold(231, 0, 0, 1), Hold(232, 0, 0, 255), Hold(233, 0), Hold(234, 60, 1, 1440),
    *times(256, *UNUSED, *UNUSED), Hold(260, 580, 550, 595),
    *times(269, *UNUSED, *UNUSED, *UNUSED),
)}
READ_ONLY = {0: 0x8A86, 1: 1, 9: 0x0A01, 10: 0x010A, 19: 0, 122: 0, 224: 0, 235: 0}
"""Holding registers that no client can write, and what they hold where the model does not say."""
# fmt: on

HOLD_COUNT = 381
"""From here on reading is refused. unconfirmed: a cloud was seen to read 254 to 380, nobody read beyond."""


def accepts(hold: Hold, word: int) -> bool:
    """Return whether a holding register takes this word."""
    if hold.form == "time":
        return word & 0xFF < 24 and word >> 8 < 60
    value = word - 0x10000 if hold.form == "i16" and word & 0x8000 else word
    return hold.low <= value <= hold.high


def ascii_words(text: str) -> list[int]:
    """Return a text as register words, two characters each, the first in the low byte."""
    data = text.encode("ascii")
    return [data[i] | data[i + 1] << 8 for i in range(0, len(data), 2)]


def divisor(row: Row, model: Model) -> int:
    """Return a row's divisor as this model has it."""
    return model.limit_divisor if row.register in (81, 82) else row.divisor


def input_words(state: Mapping[str, float], serial: str, model: Model) -> dict[int, int]:
    """Return all input registers; a row without a value in `state` is 0."""
    words: dict[int, int] = {}
    for row in ROWS:
        raw = round(state.get(row.name, 0) * divisor(row, model))
        if row.form == "high":
            words[row.register] = words[row.register] & 0xFF | (raw & 0xFF) << 8
            continue
        words[row.register] = raw & (0xFF if row.form == "low" else 0xFFFF)
        if row.form == "u32":
            words[row.register + 1] = raw >> 16 & 0xFFFF
    words.update(zip(range(SERIAL_REGISTER, SERIAL_REGISTER + 5), ascii_words(serial), strict=True))
    return words


def named(words: Mapping[int, int], first: int, count: int, model: Model) -> dict[str, Scalar]:
    """Return the values that stand wholly in this block, as whoever reads the words correctly sees them."""
    values: dict[str, Scalar] = {}
    for row in ROWS:
        last = row.register + (row.form == "u32")
        if row.register < first or last >= first + count:
            continue
        raw = words[row.register]
        if row.form in ("low", "high"):
            raw = raw & 0xFF if row.form == "low" else raw >> 8
        elif row.form == "u32":
            raw |= words[last] << 16
        elif row.form == "i16" and raw & 0x8000:
            raw -= 0x10000
        scale = divisor(row, model)
        values[row.name] = raw if scale == 1 else raw / scale
    return values


PACKS_AT = 5002
PACK_WORDS = 30


@dataclass(frozen=True, slots=True)
class Pack:
    """One battery pack in the block from 5000 on. Source: joyfulhouse/pylxpweb registers/battery.py."""

    serial: str
    volts: float
    amps: float
    """Positive while charging."""
    soc: float
    cell_high: float
    cell_low: float

    def words(self, packs: int) -> list[int]:
        """Return the 30 words of its slot."""
        low, high = round(self.cell_low * 1000), round(self.cell_high * 1000)
        # fmt: off
        head = [
            0xC000 | packs, 100, 560, 1000, 1000, 480, round(self.volts * 100), round(self.amps * 10),
            round(self.soc) | 100 << 8, 42, 231, 224, high, low, 1 | 9 << 8, 3 | 12 << 8, 2 << 8 | 17,
        ]
        # fmt: on
        body = [word & 0xFFFF for word in head] + ascii_words(self.serial.ljust(16, "\0"))
        return body + [0] * (PACK_WORDS - len(body))


def pack_words(packs: Iterable[Pack]) -> dict[int, int]:
    """Return the input registers of up to four packs, 5000 to 5121."""
    slots = list(packs)
    words = dict.fromkeys(range(5000, 5122), 0)
    for slot, pack in enumerate(slots[:4]):
        start = PACKS_AT + PACK_WORDS * slot
        words.update(zip(range(start, start + PACK_WORDS), pack.words(len(slots)), strict=True))
    return words
