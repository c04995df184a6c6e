"""What the modules of a simulated RS485 stack do wrong: whole frames with right checksums that are no good."""

from __future__ import annotations

import random
from dataclasses import dataclass, fields, replace

from bridge.simulators import pylontech_frames as frames
from bridge.simulators.faults import Faults, Plan

INFO_AT, INFO_END = 13, -5
"""Where a frame's INFO begins and ends."""


@dataclass
class PylontechFaults(Faults):
    """What a module does wrong besides the faults of its line. Unless said otherwise both checksums are right."""

    address: int | None = None
    """Answers carry this address."""
    answer_from: int | None = None
    """The module at this address answers in the place of the one that was asked (until cleared)."""
    rtn: int | None = None
    """Nothing but this return code."""
    wrong_checksum: bool = False
    wrong_length_checksum: bool = False
    claimed_length: int | None = None
    """LENID says this, whatever the INFO is."""
    info_length: int | None = None
    """INFO is cut or filled with zeros to that many characters, and LENID says so (modulo 4096)."""
    info_tail: str = ""
    """Hex digits that a new firmware appends to every INFO."""
    lower_case: bool = False
    swapped_digits: int = 0
    """So many pairs of different digits of the INFO change places: the sum cannot see it."""
    cancelling: int = 0
    """So many pairs of digits of the INFO change by +1 and -1: the sum cannot see it."""
    absent_rtn: int | None = None
    """What a group's master says for an address where there is no module; None: silence."""
    zero_filled: bool = False
    """In a group's answer silent modules are zeros instead of missing."""

    def _struck(self, reply: bytes) -> Plan:
        data, struck = self._dressed(reply)
        plan = super()._struck(data)
        return replace(plan, struck=(*struck, *plan.struck))

    def _dressed(self, reply: bytes) -> tuple[bytes, tuple[str, ...]]:
        """Write the frame anew the way the knobs ask for; leaves alone what is no frame."""
        struck = tuple(f.name for f in fields(self) if f.name in DRESS and getattr(self, f.name) != f.default)
        if not struck or reply[:1] != b"~":
            return reply, ()
        address, code = int(reply[3:5], 16), int(reply[7:9], 16)
        info = "" if self.rtn is not None else self._info(reply[INFO_AT:INFO_END].decode())
        data = frames.frame(
            address if self.address is None else self.address,
            code if self.rtn is None else self.rtn,
            info,
            claimed=self.claimed_length,
        )
        return self._checks(data), struck

    def _info(self, info: str) -> str:
        info += self.info_tail
        if self.info_length is not None:
            info = info[: self.info_length].ljust(self.info_length, "0")
        digits = list(info)
        for _ in range(self.swapped_digits):
            swap_two(digits, self._random)
        for _ in range(self.cancelling):
            cancel_two(digits, self._random)
        return "".join(digits)

    def _checks(self, data: bytes) -> bytes:
        body = data[1:INFO_END]
        if self.wrong_length_checksum:
            body = body[:8] + f"{int(body[8:9], 16) ^ 1:X}".encode() + body[9:]
        if self.lower_case:
            body = body.lower()
        digits = f"{frames.checksum(body) ^ (0x0101 if self.wrong_checksum else 0):04X}".encode()
        return b"~" + body + (digits.lower() if self.lower_case else digits) + b"\r"


DRESS = (
    "address", "rtn", "wrong_checksum", "wrong_length_checksum", "claimed_length", "info_length", "info_tail",
    "lower_case", "swapped_digits", "cancelling",
)  # fmt: skip
"""Knobs that write the frame anew."""


def swap_two(digits: list[str], chance: random.Random) -> None:
    """Let two different digits change places; nothing happens where all are equal."""
    if len(set(digits)) < 2:
        return
    while True:
        one, other = chance.sample(range(len(digits)), 2)
        if digits[one] != digits[other]:
            digits[one], digits[other] = digits[other], digits[one]
            return


def cancel_two(digits: list[str], chance: random.Random) -> None:
    """Change the character codes of two digits by +1 and -1; both stay hex digits."""
    up = [i for i, digit in enumerate(digits) if digit not in "9F"]
    down = [i for i, digit in enumerate(digits) if digit not in "0A"]
    if not up:
        return
    one = chance.choice(up)
    if down := [i for i in down if i != one]:
        other = chance.choice(down)
        digits[one], digits[other] = chr(ord(digits[one]) + 1), chr(ord(digits[other]) - 1)
