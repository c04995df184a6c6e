"""How a simulated LuxPower inverter reads and takes its holding registers: bounds, clock, quick charge."""

from __future__ import annotations

import math
from datetime import datetime

from bridge.simulators.lxp_frames import ILLEGAL_ADDRESS, ILLEGAL_VALUE
from bridge.simulators.lxp_plant import Inverter, Plant
from bridge.simulators.lxp_registers import HOLD_COUNT, HOLDS, accepts

CLOCK = (12, 13, 14)
"""Year and month, day and hour, minute and second: the first of each pair in the low byte."""
POWERS = (66, 74, 82, 103)
"""Percent up to 100 on models that do not count in 100 W."""
QUICK_CHARGE, QUICK_MINUTES = 233, 234


def readable(inverter: Inverter, first: int, count: int) -> bool:
    """Return whether these holding registers can be read."""
    return first + count <= HOLD_COUNT and not any(first <= r < first + count for r in inverter.model.refused)


def read(plant: Plant, inverter: Inverter, first: int, count: int) -> list[int]:
    """Return the words of these holding registers, all of one moment."""
    seconds = plant.advance()
    now = dict(zip(CLOCK, _clock_words(plant.date(inverter, seconds)), strict=True))
    if inverter.bit(QUICK_CHARGE, 0):
        now[QUICK_MINUTES] = math.ceil(max(0.0, inverter.quick_until - seconds) / 60)
    return [now.get(register, inverter.holds.get(register, 0)) for register in range(first, first + count)]


def refusal(plant: Plant, inverter: Inverter, words: dict[int, int]) -> int | None:
    """Return the exception code with which this inverter refuses a write, None when it takes it.

    unconfirmed: which code read-only registers answer; 2 and 3 were seen for others (ant0nkr/luxpower-ha-integration
    issue 136, lxp-packet).
    """
    if any(register not in HOLDS and register not in CLOCK for register in words):
        return ILLEGAL_ADDRESS
    if any(register in inverter.model.refused for register in words):
        return ILLEGAL_ADDRESS
    if not all(_takes(inverter, register, word, words) for register, word in words.items()):
        return ILLEGAL_VALUE
    return None if _clock_after(plant, inverter, words) else ILLEGAL_VALUE


def _takes(inverter: Inverter, register: int, word: int, words: dict[int, int]) -> bool:
    """Return whether a register takes this word while the others of `words` are written with it."""
    if register in CLOCK:
        return True
    if register in POWERS and not inverter.model.hundred_watts and word > 100:
        return False
    if register == 21 and not inverter.model.strings and (word ^ inverter.holds[21]) & 1:
        return False
    if register == QUICK_MINUTES and not words.get(QUICK_CHARGE, inverter.holds[QUICK_CHARGE]) & 1:
        return False
    return accepts(HOLDS[register], word)


def store(plant: Plant, inverter: Inverter, words: dict[int, int]) -> None:
    """Put words into holding registers, whatever they are, with what follows from it."""
    seconds = plant.advance()
    clock = {register: word for register, word in words.items() if register in CLOCK}
    if clock and (wanted := _clock_after(plant, inverter, clock)):
        inverter.clock_offset += (wanted - plant.date(inverter, seconds)).total_seconds()
    was_on = inverter.bit(QUICK_CHARGE, 0)
    inverter.holds.update({register: word for register, word in words.items() if register not in CLOCK})
    if inverter.bit(QUICK_CHARGE, 0) and (QUICK_MINUTES in words or not was_on):
        # whoever sets the bit alone gets the length that the firmware remembers
        inverter.quick_until = seconds + 60.0 * inverter.holds[QUICK_MINUTES]


def _clock_words(now: datetime) -> tuple[int, int, int]:
    return now.year % 100 | now.month << 8, now.day | now.hour << 8, now.minute | now.second << 8


def _clock_after(plant: Plant, inverter: Inverter, words: dict[int, int]) -> datetime | None:
    """Return the clock with these words put in, None when that is no date."""
    current = plant.date(inverter, plant.advance())
    parts: list[int] = []
    for register, word in zip(CLOCK, _clock_words(current), strict=True):
        new = words.get(register, word)
        parts += [new & 0xFF, new >> 8]
    year, month, day, hour, minute, second = parts
    try:
        return datetime(2000 + year, month, day, hour, minute, second, current.microsecond)
    except ValueError:
        return None
