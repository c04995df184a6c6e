"""How a simulated Pylontech battery writes its RS485 answers.

    ~ | VER | ADR | CID1 46 | RTN | LENGTH (LCHKSUM, LENID) | INFO | CHKSUM | CR     upper-case ASCII hex, big endian

An answer is a list of Entry: name, bytes, raw number, unit. The entries of one INFO, in order, are the frame's text and
the truth log's values at once; Module.override replaces raw numbers by name.
Source: vendor's RS485 protocol V3.3 (2018-08-21); 60h-63h: ai-republic/bms-to-inverter, dalathegreat/Battery-Emulator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from bridge.simulators.pylontech_models import Model
from bridge.simulators.pylontech_stack import THRESHOLD_MA, Module, Snapshot
from bridge.simulators.truth import Scalar

CID1 = 0x46
VERSION = 0x20
LENGTH_MAX = 0xFFF
UNUSED = 0xFFFF
"""What stands in the two-byte capacities of the four-item form."""
NOT_HEX = frozenset(range(256)) - frozenset(b"0123456789ABCDEF")

OK, BAD_VERSION, BAD_CHECKSUM, BAD_LENGTH, BAD_COMMAND, BAD_FORMAT, BAD_DATA = range(7)
BAD_ADDRESS, DEAD = 0x90, 0x91


def mv(raw: int) -> float:
    """Return V."""
    return raw / 1000


def da(raw: int) -> float:
    """Return A."""
    return (raw - 0x10000 if raw & 0x8000 else raw) / 10


def dk(raw: int) -> float:
    """Return °C."""
    return (raw - 2731) / 10


def mah(raw: int) -> float:
    """Return Ah."""
    return raw / 1000


def plain(raw: int) -> int:
    """Return the number itself."""
    return raw


class Entry(NamedTuple):
    """A number in an INFO."""

    name: str
    size: int
    raw: int
    unit: Callable[[int], Scalar] = plain


Info = list[Entry]


def frame(address: int, code: int, info: str, version: int = VERSION, claimed: int | None = None) -> bytes:
    """Return a whole frame; `claimed` is its LENID when it shall not be the true one."""
    length = (len(info) if claimed is None else claimed) & LENGTH_MAX
    body = f"{version:02X}{address:02X}{CID1:02X}{code:02X}{length_word(length):04X}{info}"
    return f"~{body}{checksum(body.encode()):04X}\r".encode()


def checksum(body: bytes) -> int:
    """Return CHKSUM of what stands between SOI and CHKSUM."""
    return -sum(body) & 0xFFFF


def length_word(length: int) -> int:
    """Return LENGTH: LCHKSUM in the upper four bits, LENID below; 0xD012 for 0x12."""
    return (-(length + (length >> 4) + (length >> 8)) & 0xF) << 12 | length


class Asked(NamedTuple):
    """A request as it came. `code` is what is wrong with it, OK when nothing is."""

    address: int
    command: int
    info: bytes
    code: int


def parse(request: bytes) -> Asked | None:
    """Take a request to pieces; None for what no module would know as one."""
    text = request[request.rfind(b"~") + 1 :].rstrip(b"\r")
    if b"~" not in request or len(text) < 16 or len(text) % 2 or not NOT_HEX.isdisjoint(text):
        return None
    raw = bytes.fromhex(text.decode())
    if raw[2] != CID1:
        return None
    length, info = int.from_bytes(raw[4:6], "big"), raw[6:-2]
    if checksum(text[:-4]) != int.from_bytes(raw[-2:], "big"):
        code = BAD_CHECKSUM
    elif length != length_word(length & LENGTH_MAX):
        code = BAD_LENGTH
    elif length & LENGTH_MAX != 2 * len(info):
        code = BAD_FORMAT
    elif raw[0] != VERSION and raw[3] != 0x4F:
        # unconfirmed: only of 4Fh is it documented that the request's version does not matter
        code = BAD_VERSION
    else:
        code = OK
    return Asked(raw[1], raw[3], info, code)


def text_of(info: Iterable[Entry], override: Mapping[str, int | str]) -> str:
    """Return an INFO as hex digits, with what the override puts in the place of raw numbers."""
    parts = []
    for name, size, raw, _ in info:
        new = override.get(name, raw) if override else raw
        parts.append(f"{int(new) & (1 << 8 * size) - 1:0{2 * size}X}")
    return "".join(parts)


def values_of(info: Iterable[Entry], override: Mapping[str, int | str], prefix: str = "") -> dict[str, Scalar]:
    """Return what the frame says, in V, A, °C and Ah, by name."""
    values: dict[str, Scalar] = {}
    for name, size, raw, unit in info:
        number = int(override.get(name, raw)) & (1 << 8 * size) - 1
        values[prefix + name] = unit(number)
    return values


def words(raw: int) -> str:
    """Return a text."""
    return raw.to_bytes((raw.bit_length() + 7) // 8, "big").rstrip(b"\0").decode("latin-1")


def letters(name: str, text: str, size: int, padding: bytes = b"\0") -> Entry:
    """Return a text as one entry of `size` bytes."""
    return Entry(name, size, int.from_bytes(text.encode()[:size].ljust(size, padding), "big"), words)


def analog(snap: Snapshot) -> Info:
    """Return one module's part of 42h."""
    model = snap.module.model
    cells = [Entry(f"cell_{i + 1}", 2, raw, mv) for i, raw in enumerate(snap.cells)]
    heat = [Entry(f"temperature_{i + 1}", 2, 2731 + tenths, dk) for i, tenths in enumerate(snap.temperatures)]
    info = [Entry("cell_count", 1, model.cells), *cells, Entry("temperature_count", 1, model.temperatures), *heat]
    info += [Entry("current", 2, round(snap.current / 100), da), Entry("voltage", 2, snap.voltage, mv)]
    remaining, total = snap.remaining, model.capacity
    cycles = Entry("cycles", 2, snap.module.cycles)
    if not model.wide:
        info += [Entry("remaining_capacity", 2, remaining, mah), Entry("items", 1, 2)]
        return [*info, Entry("total_capacity", 2, total, mah), cycles]
    info += [Entry("remaining_word", 2, UNUSED), Entry("items", 1, 4), Entry("total_word", 2, UNUSED), cycles]
    return [*info, Entry("remaining_capacity", 3, remaining, mah), Entry("total_capacity", 3, total, mah)]


def alarm(snap: Snapshot) -> Info:
    """Return one module's part of 44h: 00 normal, 01 below, 02 above its protection limits."""
    model, module = snap.module.model, snap.module
    safe = model.protection
    cells = [between(raw, safe.cell_under, safe.cell_high) for raw in snap.cells]
    heat = [between(t, int(safe.temperature_low * 10), int(safe.temperature_high * 10)) for t in snap.temperatures]
    voltage = between(snap.voltage, safe.module_under, safe.module_high)
    one = 0x80 * (voltage == 1) | 0x02 * (1 in cells) | 0x01 * (voltage == 2)
    three = 0x80 * (snap.current > THRESHOLD_MA) | 0x40 * (snap.current < -THRESHOLD_MA) | 0x08 * module.full
    four, five = (sum((raw > 4200 or raw < 1000) << i for i, raw in enumerate(part)) for part in halves(snap.cells))
    info = [Entry("cell_count", 1, model.cells)]
    info += [Entry(f"cell_{i + 1}_status", 1, raw) for i, raw in enumerate(cells)]
    info += [Entry("temperature_count", 1, model.temperatures)]
    info += [Entry(f"temperature_{i + 1}_status", 1, raw) for i, raw in enumerate(heat)]
    info += [Entry("charge_current_status", 1, 0), Entry("voltage_status", 1, voltage)]
    info += [Entry("discharge_current_status", 1, 0)]
    # 0E: powered from its own cells, both MOSFETs on
    info += [Entry(f"status_{i + 1}", 1, raw) for i, raw in enumerate((one, 0x0E, three, four, five))]
    # unconfirmed: that in a group's answer each module has its own extra byte
    return info + [Entry(f"tail_{i + 1}", 1, 0) for i in range(model.tail)]


def halves(cells: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    """Return the cells of status 4 and of status 5."""
    return cells[:8], cells[8:16]


def between(raw: int, lowest: int, highest: int) -> int:
    """Return the status code of a value against its limits."""
    return 1 if raw < lowest else 2 if raw > highest else 0


def parameters(model: Model) -> Info:
    """Return 47h: protection limits, in the vendor's order."""
    safe = model.protection
    high, low = (2731 + round(10 * celsius) for celsius in (safe.temperature_high, safe.temperature_low))
    return [
        Entry("infoflag", 1, 0),
        Entry("cell_high", 2, safe.cell_high, mv),
        Entry("cell_low", 2, safe.cell_low, mv),
        Entry("cell_under", 2, safe.cell_under, mv),
        Entry("charge_temperature_high", 2, high, dk),
        Entry("charge_temperature_low", 2, low, dk),
        Entry("charge_current_limit", 2, 10 * safe.charge, da),
        Entry("module_high", 2, safe.module_high, mv),
        Entry("module_low", 2, safe.module_low, mv),
        Entry("module_under", 2, safe.module_under, mv),
        Entry("discharge_temperature_high", 2, high, dk),
        Entry("discharge_temperature_low", 2, low, dk),
        Entry("discharge_current_limit", 2, -10 * safe.discharge, da),
    ]


def management(module: Module, address: int) -> Info:
    """Return 92h: what the module asks for now."""
    charge, discharge = module.limits()
    status = 0x80 * (charge > 0) | 0x40 * (discharge > 0)
    # the numbers of the US2000B-Plus and US3000B, V3.3 section 3.7
    status |= 0x20 * (5 <= module.soc < 10) | 0x10 * (9 <= module.soc < 14)
    return [
        Entry("command_value", 1, address),
        Entry("charge_voltage_limit", 2, module.model.advice.charge_voltage, mv),
        Entry("discharge_voltage_limit", 2, module.model.advice.discharge_voltage, mv),
        Entry("max_charge_current", 2, round(10 * charge), da),
        Entry("max_discharge_current", 2, -round(10 * discharge), da),
        Entry("management_status", 1, status),
    ]


def manufacturer(model: Model) -> Info:
    """Return 51h."""
    named = letters("device_name", model.identity, 10)
    return [named, Entry("software_version", 2, model.version), letters("manufacturer", "Pylon", 20, b"-")]


def serial(module: Module, address: int) -> Info:
    """Return 93h."""
    return [Entry("command_value", 1, address), letters("serial", module.serial, 16)]


def firmware(model: Model, address: int) -> Info:
    """Return 96h."""
    return [
        Entry("command_value", 1, address),
        Entry("manufacturer_version", 2, model.version),
        Entry("main_line_version", 3, 0x000605),
    ]
