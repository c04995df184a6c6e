"""One inverter in lxp-bridge's words: its topics made of our registers, its commands turned into ours (pure).

The keys of its JSON are those of our rows, but for those in ITS_NAME and ITS_CODE. It knows the input registers up to
138 without SKIPPED, single bits not at all, and of our derived values those in DERIVED. What cannot be believed is
left out, where lxp-bridge tells whatever stands there. Its scales are wrong in three places, which are not copied:
bat_current (there 0.01 A), max_chg_curr and max_dischg_curr on large models, temperatures below zero.

Source: celsworth/lxp-bridge src/lxp/packet.rs, src/mqtt.rs, src/command.rs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from bridge.errors import CommandError
from bridge.fields import Channel, Field, Reading, Unit, Value
from bridge.inbox import Foreign, ReadRegisters, SetSetting
from bridge.luxpower.frame import Function, Registers
from bridge.luxpower.inverter import PARAMETER, PASSWORD
from bridge.luxpower.models import PowerUnit
from bridge.luxpower.registers import HOLDS, INPUTS
from bridge.luxpower.rows import Row, window
from bridge.lxp_bridge import NUMBERS, PERCENT_COMMANDS, SWITCHES, WINDOWS, LxpBridge, bare
from bridge.settings import OFF, ON

BLOCKS = ((0, 40), (40, 80), (80, 120), (120, 160))
"""Its inputs/1 to inputs/4: first register, and the one behind the last."""
LAST = 138
SKIPPED = frozenset({18, 71, 77, 80, *range(108, 121)})
"""Registers up to LAST that it does not tell."""
DERIVED = ("p_pv", "p_battery", "p_grid", "e_pv_day", "e_pv_all")
ITS_NAME = {"fault": "fault_code", "warning": "warning_code"}
"""Our key -> its own, where they differ."""
PUSH_INTERVAL = 0
"""Of the stick's own parameters the seconds between two pushes are read, and none is ever written."""
WORDS_OF_A_WINDOW = 2
MOST_REGISTERS = 127

BITS: Mapping[int, tuple[str, ...]] = {
    21: (
        "eps_en", "ovf_load_derate_en", "drms_en", "lvrt_en", "anti_island_en", "neutral_detect_en",
        "grid_on_power_ss_en", "ac_charge_en", "sw_seamless_en", "set_to_standby", "forced_discharge_en",
        "charge_priority_en", "iso_en", "gfci_en", "dci_en", "feed_in_grid_en",
    ),
    110: ("ub_pv_grid_off_en", "ub_run_without_grid", "ub_micro_grid_en"),
}  # fmt: skip
"""Its names of the bits of two holding registers, lowest first."""

_ROWS = {row.key: row for row in HOLDS.rows}
WINDOW_TOPICS = {
    _ROWS[f"{family}_window_{number}"].register: f"{family}/{number}" for family in WINDOWS for number in (1, 2, 3)
}
"""First register of a time window -> its topic."""

_SWITCH_WORDS = {
    **dict.fromkeys(("1", "t", "true", "on", "y", "yes"), ON),
    **dict.fromkeys(("0", "f", "false", "off", "n", "no"), OFF),
}
_COUNT = re.compile(r"0*[1-9][0-9]{0,4}")
_REGISTER = re.compile(r"0|[1-9][0-9]{0,4}")


def _its_rows() -> Iterator[tuple[int, Field, str]]:
    """Yield every value it tells: the block from 0 on, the field under its key, and the key of our value."""
    first = {row.key: row.register for row in INPUTS.rows}
    for row in INPUTS.rows:
        if row.register > LAST or row.register in SKIPPED or not _is_whole(row):
            continue
        ours = f"{row.key}_code" if row.coded else row.key
        yield row.register // 40, replace(row, key=ITS_NAME.get(row.key, row.key)), ours
    for derived in INPUTS.derived:
        if derived.key in DERIVED:
            yield first[derived.inputs[0]] // 40, derived, derived.key


def _is_whole(row: Row) -> bool:
    """Whether a row is no single bit of a word that has a row of its own."""
    others = [other for other in INPUTS.rows if other.register == row.register and other is not row]
    return all(other.read.claims for other in others)


ITS_ROWS = tuple(_its_rows())
ITS_FIELDS = tuple(field for _, field, _ in ITS_ROWS)
KEYS = tuple({field.key: ours for block, field, ours in ITS_ROWS if block == number} for number in range(len(BLOCKS)))
"""Of each block: its key -> ours."""
NEEDED = tuple((low, min(high, LAST + 1) if number == 3 else high) for number, (low, high) in enumerate(BLOCKS))


class Mirror:
    """What lxp-bridge would tell of one inverter behind one stick."""

    def __init__(self, unit: Unit, datalog: str, options: LxpBridge) -> None:
        self.unit = Unit(
            datalog, f"lxp_{datalog}", ITS_FIELDS, unit.max_age, datalog, unit.manufacturer or "LuxPower"
        )
        """Its `path` is the stick's serial number, as in its topics; `settings` the numbers that can be offered."""
        self._individual = options.individual_input
        self._told: dict[int, int] = {}
        self._asked: set[tuple[int, int]] = set()
        self._run = (0, 0)
        """The input registers that came in one go, over several frames: the first, and the one behind the last."""
        self._seen: set[int] = set()

    def again(self, function: int, first: int, end: int) -> None:
        """Somebody asks for registers: tell them, changed or not."""
        self._asked |= {(function, number) for number in range(first, end)}

    def settled(self, power_unit: Value) -> None:
        """Take what the power settings count in, once all settings that can be read were read."""
        percent = power_unit == PowerUnit.PERCENT.value
        rows = [_ROWS[number.setting] for number in NUMBERS]
        offered = zip(NUMBERS, rows, strict=True)
        fields = tuple(replace(row, key=number.name) for number, row in offered if percent or row.divisor == 1)
        if fields != self.unit.settings:
            self.unit = self.unit._replace(settings=fields)

    def of(self, frame: Registers, at: float, state: Mapping[str, Value] | None) -> Iterator[Reading]:
        """Yield what follows from one believed frame; `state` is the inverter's whole state with it, if it has one."""
        if frame.function == Function.READ_HOLD:
            yield from self._holds(frame, at)
            return
        for number, word in enumerate(frame.words, frame.register):
            if self._individual or (frame.function, number) in self._asked:
                self._asked.discard((frame.function, number))
                yield self._reading(f"input/{number}", bare(word), at)
        if state is not None:
            yield from self._inputs(frame, at, state)

    def _inputs(self, frame: Registers, at: float, state: Mapping[str, Value]) -> Iterator[Reading]:
        first, end = frame.register, frame.register + len(frame.words)
        self._run = (self._run[0] if first == self._run[1] else first, end)
        yield from self._texts(first, end, at, state)
        complete = [n for n, (low, high) in enumerate(NEEDED) if self._run[0] <= low and first < high <= end]
        for number in complete:
            self._seen.add(number)
            yield self._json(f"inputs/{number + 1}", KEYS[number], at, state)
        # lxp-bridge waits for a fourth block that many inverters do not have
        if complete and {0, 1} <= self._seen:
            keys = {its: ours for block in KEYS for its, ours in block.items()}
            yield self._json("inputs/all", keys, at, state)

    def _texts(self, first: int, end: int, at: float, state: Mapping[str, Value]) -> Iterator[Reading]:
        for key, topic, register in (("status", "0", 0), ("fault", "fault_code", 60), ("warning", "warning_code", 62)):
            if first <= register < end and state[key] is not None:
                yield self._reading(f"input/{topic}/parsed", bare(state[key]), at)

    def _json(self, topic: str, keys: Mapping[str, str], at: float, state: Mapping[str, Value]) -> Reading:
        values = {its: state[ours] for its, ours in keys.items() if state[ours] is not None}
        return self._reading(topic, {**values, "datalog": self.unit.path}, at)

    def _holds(self, frame: Registers, at: float) -> Iterator[Reading]:
        words = dict(enumerate(frame.words, frame.register))
        words.pop(PASSWORD, None)
        news = {number for number, word in words.items() if self._told.get(number) != word}
        news |= {number for number in words if (frame.function, number) in self._asked}
        self._asked -= {(frame.function, number) for number in words}
        for number in sorted(news):
            self._told[number] = words[number]
            yield self._reading(f"hold/{number}", bare(words[number]), at)
            if number in BITS:
                word = words[number]
                states = {name: "ON" if word >> bit & 1 else "OFF" for bit, name in enumerate(BITS[number])}
                yield self._reading(f"hold/{number}/bits", states, at)
        for first, topic in WINDOW_TOPICS.items():
            if {first, first + 1} & news and {first, first + 1} <= words.keys():
                yield from self._window(topic, words[first], words[first + 1], at)

    def parameter(self, number: int, data: bytes, at: float) -> Reading:
        """Return what a parameter of the stick makes, one that was asked for."""
        return self._reading(f"{PARAMETER}/{number}", bare(int.from_bytes(data, "little")), at)

    def _window(self, topic: str, start: int, end: int, at: float) -> Iterator[Reading]:
        read = window.convert
        text = read(start.to_bytes(2, "little") + end.to_bytes(2, "little")) if read else None
        if isinstance(text, str):
            yield self._reading(topic, dict(zip(("start", "end"), text.split("-"), strict=True)), at)

    def _reading(self, topic: str, values: Mapping[str, Value], at: float) -> Reading:
        return Reading(self.unit, values, at, topic, Channel.COMPAT)


def translate(command: Foreign, power_unit: Value) -> ReadRegisters | SetSetting:
    """Return what one of its commands means here. Raises CommandError for a reading that there is not.

    A command to set something is always passed on, also when it makes no sense: it is refused where every other is,
    with its reason in the result and the audit log. `power_unit` is what the power settings count in, if known.
    """
    match command.path.split("/"):
        case ["read", *what]:
            table, first, count = _read(what, command.payload)
            return ReadRegisters(table, first, count, command.tag)
        case ["set", *what]:
            setting, payload = _set(what, command.payload, power_unit)
        case _:
            setting, payload = command.path, command.payload
    return SetSetting(
        "", setting, payload, command.arrived, command.expires, source=command.source, tag=command.tag
    )  # fmt: skip


def _read(what: list[str], payload: bytes) -> tuple[str, int, int]:
    match what:
        case ["inputs", ("1" | "2" | "3" | "4") as number]:
            low, high = BLOCKS[int(number) - 1]
            return "input", low, high - low
        case [("input" | "hold") as table, register] if _REGISTER.fullmatch(register):
            text = payload.decode("latin-1")
            count = int(text) if _COUNT.fullmatch(text) else 1
            if count <= MOST_REGISTERS and int(register) + count <= 0x10000:
                return table, int(register), count
            raise CommandError(f"expected registers 0 to 65535, {MOST_REGISTERS} at most")
        case [family, number] if (row := _ROWS.get(f"{family}_window_{number}")) and family in WINDOWS:
            return "hold", row.register, WORDS_OF_A_WINDOW
        case ["param", register]:
            if register == str(PUSH_INTERVAL):
                return PARAMETER, PUSH_INTERVAL, 1
            raise CommandError(f"of the stick's parameters only {PUSH_INTERVAL} is read")
    raise CommandError("there is no such command")


def _set(what: list[str], payload: bytes, power_unit: Value) -> tuple[str, bytes]:
    """Return the setting and the payload as our own set topic takes them."""
    match what:
        case [switch] if switch in SWITCHES:
            word = _SWITCH_WORDS.get(payload.decode("latin-1").lower())
            return switch, word.encode() if word else payload
        case [family, number] if family in WINDOWS and number in ("1", "2", "3"):
            return f"{family}_window_{number}", _window_text(payload)
        case [name] if name in PERCENT_COMMANDS:
            return _number(PERCENT_COMMANDS[name], payload, power_unit, name)
        case ["hold", register] if _REGISTER.fullmatch(register):
            return _number(int(register), payload, power_unit, f"hold/{register}")
    return "/".join(what), payload


def _number(register: int, payload: bytes, power_unit: Value, otherwise: str) -> tuple[str, bytes]:
    """Return the setting that a whole register in % is; `otherwise` (a raw write, or no setting) for any other."""
    for number in NUMBERS:
        row = _ROWS[number.setting]
        if number.register == register and (row.divisor == 1 or power_unit == PowerUnit.PERCENT.value):
            return number.setting, payload
    return otherwise, payload


def _window_text(payload: bytes) -> bytes:
    """Return {"start": "HH:MM", "end": "HH:MM"} as HH:MM-HH:MM; anything else as it is, to be refused."""
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        return payload
    if not isinstance(found, dict) or not {"start", "end"} <= found.keys():
        return payload
    times = [found["start"], found["end"]]
    if not all(isinstance(text, str) for text in times):
        return payload
    # half a character, as "\ud800" in JSON, has no UTF-8 form; it is no time either way
    return "-".join(_two_digits(text) for text in times).encode("utf-8", "replace")


def _two_digits(time: str) -> str:
    """Return 5:00 as 05:00: it takes one digit for an hour or a minute, too."""
    return ":".join(part.zfill(2) if part.isascii() and part.isdigit() else part for part in time.split(":"))
