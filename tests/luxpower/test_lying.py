"""Random commands to a stick that lies, breaks and is interrupted by others: 300 here, 10,000 in `make soak`.

What may change is written down here once more, by hand: the judge shares no table with the bridge. Its witnesses are
the writes that the simulator received, and what its registers hold in the end.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bridge import inbox
from bridge.luxpower import device as device_module
from bridge.luxpower import reader
from bridge.simulators.lxp import LxpSimulator, Write
from tests.harness import await_true
from tests.luxpower.rig import SERIAL, Site, eager, hasty, short, site

__all__ = ["hasty", "short"]

WHOLE = 0xFFFF
ALLOWED = ("feed_in_grid", "charge_voltage_v", "quick_charge", "quick_charge_minutes", "charge_current_limit_a")
MAY_CHANGE = {
    21: 1 << 7 | 1 << 10 | 1 << 11 | 1 << 15, 99: WHOLE, 101: WHOLE, 233: 1, 234: WHOLE,
    **dict.fromkeys((12, 13, 14, 64, 65, 66, 67, 74, 75, 82, 83, 105, 116, 125, 160, 161, 227), WHOLE),
    **dict.fromkeys((*range(68, 74), *range(76, 82), *range(84, 90)), WHOLE),
}  # fmt: skip
"""Register -> bits that class A and the settings of ALLOWED can change on an LXP 12K."""

NUMBERS = {
    # name: register, lowest, highest, raw steps of one
    "charge_rate_pct": (64, 0, 100, 1), "discharge_rate_pct": (65, 0, 100, 1), "ac_charge_rate": (66, 0, 150, 10),
    "ac_charge_soc_limit_pct": (67, 0, 100, 1), "charge_priority_rate": (74, 0, 150, 10),
    "forced_discharge_rate": (82, 0, 255, 10), "forced_discharge_soc_limit_pct": (83, 0, 100, 1),
    "start_discharge_import_w": (116, 50, 10000, 1), "system_charge_soc_limit_pct": (227, 10, 101, 1),
    "discharge_cutoff_soc_limit_pct": (105, 10, 90, 1), "eps_discharge_cutoff_soc_limit_pct": (125, 0, 90, 1),
    "ac_charge_start_soc_pct": (160, 1, 90, 1), "ac_charge_end_soc_pct": (161, 20, 100, 1),
    "charge_voltage_v": (99, 500, 590, 10), "charge_current_limit_a": (101, 0, 140, 1),
    "quick_charge_minutes": (234, 1, 1440, 1),
}  # fmt: skip
SWITCHES = {"ac_charge": (21, 7), "forced_discharge": (21, 10), "charge_priority": (21, 11), "feed_in_grid": (21, 15),
            "quick_charge": (233, 0)}  # fmt: skip
WINDOWS = {"ac_charge_window_1": 68, "ac_charge_window_3": 72, "charge_priority_window_2": 78,
           "forced_discharge_window_1": 84}  # fmt: skip
ODD = ("", "on ", "0x10", "1e2", "-1", "99999", "24:00-01:00", "NaN", "true", "\u0663", "{", '{"value":1,"value":2}')


class Chance:
    """Commands, lies and faults at random, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def command(self, holds: dict[int, int]) -> tuple[str, str, dict[int, tuple[int, int]]]:
        """Return a setting, a text, and what has to stand where if it is done: register -> bits, word."""
        chance = self._random
        kind = chance.random()
        if kind < 0.4:
            name = chance.choice(list(NUMBERS))
            register, lowest, highest, steps = NUMBERS[name]
            raw = chance.randint(lowest - 2, highest + 2) if chance.random() < 0.2 else chance.randint(lowest, highest)
            return name, f"{raw / steps:.1f}" if steps > 1 else str(raw), {register: (WHOLE, raw)}
        if kind < 0.6:
            name = chance.choice(list(SWITCHES))
            register, bit = SWITCHES[name]
            on = chance.random() < 0.5
            return name, "on" if on else "off", {register: (1 << bit, on << bit)}
        if kind < 0.75:
            name = chance.choice(list(WINDOWS))
            times = [(chance.randrange(24), chance.randrange(60)) for _ in range(2)]
            text = "-".join(f"{hour:02}:{minute:02}" for hour, minute in times)
            return name, text, {WINDOWS[name] + i: (WHOLE, h | m << 8) for i, (h, m) in enumerate(times)}
        if kind < 0.95:
            register = chance.choice([*MAY_CHANGE, 21, 21, 110, 120, 179, chance.randrange(700)])
            near = chance.random() < 0.7
            word = holds.get(register, 0) ^ 1 << chance.randrange(16) if near else chance.randrange(300)
            return f"hold/{register}", str(word), {register: (WHOLE, word)}
        names = [*NUMBERS, *SWITCHES, *WINDOWS, "time", "nonsense", "hold/", "hold/21x"]
        return chance.choice(names), chance.choice(ODD), {}

    def trouble(self, stick: LxpSimulator, register: int) -> None:
        """Let the next write, or some answers, go wrong in one of many ways, or not at all."""
        chance = self._random
        stick.lies.clear()
        stick.faults.clear()
        lies: dict[str, Any] = chance.choice([
            {}, {}, {}, {}, {"forget": True}, {"mute": True}, {"mute": True, "forget": True},
            {"store": chance.randrange(200)}, {"clamp": (20, 60)}, {"clamp": (20, 60), "echo_stored": True},
            {"neighbours": 1 << chance.randrange(16)}, {"echo": chance.randrange(100)},
            {"echo": 3, "forget": True}, {"answer_other": (register, chance.randrange(100))},
            {"answer_other": (65, 3)}, {"interleave": (chance.choice([21, 64, register]), chance.randrange(100))},
            {"drop": "before"}, {"drop": "after"}, {"drop": "after", "reset": True}, {"late": 0.02}, {"late": 0.12},
            {"store_late": 0.003}, {"exception": chance.choice([1, 2, 3, 4, 6])},
            {"exception_stored": 4}, {"read_style": True},
        ])  # fmt: skip
        if register in (12, 13, 14):
            lies.pop("interleave", None)
        for knob, value in lies.items():
            setattr(stick.lies, knob, value)
        stick.lies.times = 1 if "drop" in lies else chance.choice([1, 1, 2, None])
        stick.lies.register = chance.choice([None, None, register + 1]) if chance.random() < 0.3 else None
        fault: dict[str, Any] = chance.choice([
            *[{}] * 8, {"swallow": 1}, {"wrong_crc": True}, {"flips": 3}, {"other_inverter": "4512670199"},
            {"foreign_block": (40, 40)}, {"delay": 0.12}, {"duplicates": 1}, {"segment": 5},
        ])  # fmt: skip
        for knob, value in fault.items():
            setattr(stick.faults, knob, value)
        stick.faults.times = chance.choice([1, 2])


def judge(command: tuple[str, str, dict[int, tuple[int, int]]], result: dict[str, Any], writes: list[Write],
          holds: dict[int, int]) -> None:  # fmt: skip
    """See that the result is true of the inverter, and that nothing was written that had not to be."""
    setting, text, wanted = command
    words = f"{setting} {text}: {result}, {writes}"
    if result["outcome"] in ("done", "unchanged") and wanted and 234 not in wanted:
        assert all(holds[at] & mask == word & mask for at, (mask, word) in wanted.items()), f"not true: {words}"
    if result["outcome"] == "done" and 234 in wanted:
        assert holds[233] & 1, f"not true: {words}"
        assert 0 <= wanted[234][1] - holds[234] <= 1, f"what is left counts down, but no more than that: {words}"
    if result["outcome"] in ("unchanged", "refused"):
        assert not writes, f"nothing had to be written: {words}"
    for write in writes:
        assert write.register in MAY_CHANGE or write.register == 12, f"outside the table: {words}"
        if "interleave" in write.lies:
            continue  # what was read before is no more what was overwritten
        for register, (old, new) in enumerate(zip(write.old, write.wanted, strict=True), write.register):
            assert not (old ^ new) & ~MAY_CHANGE[register], f"bits of others: {words}"
            if setting in SWITCHES:
                assert not (old ^ new) & ~wanted[register][0], f"bits beside the wanted one: {words}"


def run(folder: Path, count: int, seed: int) -> Counter[str]:
    """Give so many commands, one after the other, and judge each; return how often each outcome was."""
    chance, outcomes = Chance(seed), Counter[str]()
    with eager(model="lxp12k", seed=seed) as stick, site(
        stick, folder, writes=True, allow=ALLOWED, raw_writes=True, interval=0.0, datalogger="BA24500731",
        inverter=SERIAL, writes_per_minute=10**6, writes_per_day=10**6,
    ) as house:  # fmt: skip
        learn(house)
        for number in range(count):
            give(chance, stick, house, number, outcomes)
        ends = house.audit("end")
        assert len(ends) == count, "every attempt is in the audit log"
        known = [entry["id"] for entry in ends if entry["id"] is not None]
        assert len(known) == len(set(known)), "and once"
    return outcomes


def learn(house: Site) -> None:
    """Let the device learn the model: registers 7, 8 and 19 are read as if somebody asked for them."""
    house.await_states(1)
    house.put(inbox.ReadRegisters("hold", 0, 40))
    await_true(lambda: house.device.inverters[SERIAL].code, 10, "the model")


def give(chance: Chance, stick: LxpSimulator, house: Site, number: int, outcomes: Counter[str]) -> None:
    holds = stick.inverters[0].holds
    setting, text, wanted = command = chance.command(holds)
    await_true(lambda: house.device.connected, 10, "a connection")
    chance.trouble(stick, next(iter(wanted), 64))
    before = len(stick.writes)
    name = f"n{number}"
    payload = text if text.startswith("{") else f'{{"value":"{text}","id":"{name}"}}'
    if text.startswith("{"):
        payload = f'{{"value":{text},"id":"{name}"}}'
    result = house.set(setting, payload.encode())
    writes = [write for write in list(stick.writes)[before:] if "foreign" not in write.lies]
    judge(command, result, writes, dict(holds))
    outcomes[result["outcome"]] += 1
    begun = sum(entry["id"] == name for entry in house.audit("begin")) if number % 20 == 0 or writes else 0
    assert begun >= len(writes), "a frame went out that is in no log"


@pytest.fixture(autouse=True)
def _hastier(hasty: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "ANSWER", 0.08)
    monkeypatch.setattr(reader, "RETRY_PAUSE", 0.01)
    for name, value in (("GREETING", 0.01), ("REOPEN", (0.01, 0.02)), ("KICKED", 10**9)):
        monkeypatch.setattr(device_module, name, value)
    monkeypatch.setattr(inbox, "REFILL", 1e6)
    monkeypatch.setattr("bridge.writing.SETTLE", 0.01)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_100_commands_to_a_stick_that_lies_are_never_done_unless_they_are(tmp_path: Path, seed: int) -> None:
    outcomes = run(tmp_path, 100, seed)
    assert min(outcomes[outcome] for outcome in ("done", "failed", "refused")) > 3, outcomes


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(11, 21))
def test_1000_commands_to_a_stick_that_lies_are_never_done_unless_they_are(tmp_path: Path, seed: int) -> None:
    run(tmp_path, 1000, seed)
