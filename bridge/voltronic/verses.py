"""Replies of the PI30 family that are no row of fields: lists, a clock, letters, warning bits.

What stands in them is in the tables of inquiries.py.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from bridge.errors import ProtocolError
from bridge.fields import FLAG, PROBLEM, TEXT, Field, Level, Value
from bridge.voltronic.inquiry import Decoded, Inquiry

DIAG, HIDE = Level.DIAGNOSTIC, Level.HIDDEN
SERIAL = r"[0-9A-Za-z_-]{1,32}"
WARNING, FAULT, EITHER = "warning", "fault", "either"
"""EITHER: a fault while bit 1 (inverter fault) is set, else a warning."""
INVERTER_FAULT_BIT = 1
OUTPUT_SHORT_BIT = 6
TEXT_PLACES = slice(31, 35)
"""In 36 characters these are digits of a fault code or bits, by a model that the length does not tell."""


class Verse(Inquiry, ABC):
    """A reply of one field whose text is taken apart by `_parts`; the rows take what that gives."""

    def decode(self, payload: str) -> Decoded:
        decoded = self._parts(payload.rstrip(" "))
        if decoded is None:
            raise ProtocolError("foreign", "the fields are not those of this inquiry", payload.encode())
        return decoded

    @abstractmethod
    def _parts(self, payload: str) -> Decoded | None:
        """Return what the text says, or None when it is no reply to this inquiry."""


class SerialVerse(Verse):
    """QSID: two digits of valid length, then 20 characters of which the rest is filler [MAX-2021]."""

    def _parts(self, payload: str) -> Decoded | None:
        found = re.fullmatch(rf"(\d\d)({SERIAL})", payload, re.ASCII)
        if not found or not 0 < int(found[1]) <= len(found[2]):
            return None
        return {"serial_number": found[2][: int(found[1])]}


class FirmwareVerse(Verse):
    """QVFW and its like: ``VERFW:`` and the version; in places with a space between [P30-2015, MAX-2021]."""

    def _parts(self, payload: str) -> Decoded | None:
        found = re.fullmatch(rf"(VER{self.command[2:]}:) ?([0-9A-Fa-f.]+)", payload, re.ASCII)
        return {"raw": found[1] + found[2]} if found else None


class ListVerse(Verse):
    """QMCHGCR and its like: the amperes that may be set."""

    def _parts(self, payload: str) -> Decoded | None:
        if not re.fullmatch(r"\d{2,3}( \d{2,3})*", payload, re.ASCII):
            return None
        return {"values": [int(token) for token in payload.split(" ")]}

    def publish(self, decoded: Decoded) -> dict[str, Value]:
        return {self.rows[0].key: " ".join(str(value) for value in decoded["values"])}


class ClockVerse(Verse):
    """QT: the inverter's own clock, YYYYMMDDHHMMSS, of no known time zone."""

    def _parts(self, payload: str) -> Decoded | None:
        if not re.fullmatch(r"\d{14}", payload, re.ASCII):
            return None
        try:
            told = datetime.strptime(payload, "%Y%m%d%H%M%S")
        except ValueError as err:
            raise ProtocolError("implausible", str(err), payload.encode()) from err
        if not 2000 <= told.year <= 2099:  # it is set by two digits (DAT), and what follows from it counts on
            raise ProtocolError("implausible", f"the year is {told.year}", payload.encode())
        return {"time": told.isoformat()}


class HoursVerse(Verse):
    """QOPPT and QCHPT: 24 hourly priorities, hour 0 first, the current one, three of selection order [MAX-2021]."""

    def _parts(self, payload: str) -> Decoded | None:
        if not re.fullmatch(r"\d( \d){27}", payload, re.ASCII):
            return None
        digits = [int(token) for token in payload.split(" ")]
        return {"hours": digits[:24], "current": digits[24], "order_selection": digits[25:]}

    def publish(self, decoded: Decoded) -> dict[str, Value]:
        values: dict[str, Value] = {}
        hours, current = self.rows
        hours.publish(" ".join(str(code) for code in decoded["hours"]), values)
        current.publish(decoded["current"], values)
        return values


class Flag(NamedTuple):
    """One letter of QFLAG. `usual` ones are on every unit."""

    letter: str
    key: str
    name: str
    usual: bool = True


@dataclass(frozen=True)
class FlagInquiry(Inquiry):
    """QFLAG: ``E`` enabled letters ``D`` disabled letters. Letters no paper names stay in `flags` as text."""

    flags: tuple[Flag, ...] = ()

    def decode(self, payload: str) -> Decoded:
        found = re.fullmatch(r"E([a-z]*)D([a-z]*)", payload.rstrip(" "), re.ASCII)
        if not found:
            raise ProtocolError("foreign", "the fields are not those of this inquiry", payload.encode())
        return {"enabled": list(found[1]), "disabled": list(found[2])}

    def publish(self, decoded: Decoded) -> dict[str, Value]:
        values: dict[str, Value] = {"flags": f"E{''.join(decoded['enabled'])}D{''.join(decoded['disabled'])}"}
        for flag in self._told(decoded):
            on, off = flag.letter in decoded["enabled"], flag.letter in decoded["disabled"]
            values[flag.key] = on if on != off else None
        return values

    def fields(self, decoded: Decoded | None = None) -> tuple[Field, ...]:
        flags = (Field(flag.key, FLAG, flag.name, level=DIAG) for flag in self._told(decoded))
        return Field("flags", TEXT, "Flags", level=HIDE), *flags

    def every_field(self) -> tuple[Field, ...]:
        return self.fields({"enabled": [flag.letter for flag in self.flags], "disabled": []})

    def _told(self, decoded: Decoded | None) -> list[Flag]:
        letters = decoded["enabled"] + decoded["disabled"] if decoded else []
        return [flag for flag in self.flags if flag.usual or flag.letter in letters]


class Alarm(NamedTuple):
    """One bit of QPIWS, counted from 0, in replies of these lengths; `pi41` True means on that protocol only."""

    bit: int
    key: str
    name: str
    kind: str
    lengths: tuple[int, ...] = (32, 36, 38)
    pi41: bool = False


@dataclass(frozen=True)
class AlarmInquiry(Inquiry):
    """QPIWS: one character a bit; 32 characters, 36 (MAX, VM) or 38 (P30-2015).

    `decode` gives "length" and "set_bits", and for 36 characters "digits" with the places 31 to 34 where they
    are not all 0. `publish` adds `fault` and `warning`, true while any bit of that class is set.
    """

    alarms: tuple[Alarm, ...] = ()
    pi41: bool = False

    def decode(self, payload: str) -> Decoded:
        payload = payload.rstrip(" ")
        marks = payload
        if len(payload) == 36:
            marks = payload[:31] + re.sub(r"[2-9]", "0", payload[TEXT_PLACES], flags=re.ASCII) + payload[35:]
        if len(payload) < 32 or len(payload) > 40 or marks.strip("01"):
            raise ProtocolError("foreign", "not 32 to 40 warning bits", payload.encode())
        decoded: Decoded = {"length": len(marks), "set_bits": [at for at, mark in enumerate(marks) if mark == "1"]}
        if len(payload) == 36 and payload[TEXT_PLACES] != "0000":
            decoded["digits"] = payload[TEXT_PLACES]
        return decoded

    def publish(self, decoded: Decoded) -> dict[str, Value]:
        bits, long = set(decoded["set_bits"]), decoded["length"] == 36
        alarms = self._told(decoded["length"])
        kinds = {self._kind(alarm, bits, long) for alarm in alarms if alarm.bit in bits}
        active = [alarm.key.removeprefix("alarm_") for alarm in alarms if alarm.bit in bits]
        values: dict[str, Value] = {"fault": FAULT in kinds, "warning": WARNING in kinds}
        values["alarms"] = ",".join(active) or "none"
        values["alarm_bits"] = " ".join(str(bit) for bit in decoded["set_bits"]) or "none"
        if long:
            values["alarm_digits"] = decoded.get("digits", "0000")
        return values | {alarm.key: alarm.bit in bits for alarm in alarms}

    def fields(self, decoded: Decoded | None = None) -> tuple[Field, ...]:
        length = decoded["length"] if decoded else 32
        digits = (Field("alarm_digits", TEXT, "Alarm digits", level=HIDE),) if length == 36 else ()
        return (
            Field("fault", PROBLEM, "Fault"),
            Field("warning", PROBLEM, "Warning"),
            Field("alarms", TEXT, "Alarms", level=DIAG),
            Field("alarm_bits", TEXT, "Alarm bits", level=HIDE),
            *digits,
            *(Field(alarm.key, PROBLEM, alarm.name, level=DIAG) for alarm in self._told(length)),
        )

    def every_field(self) -> tuple[Field, ...]:
        return tuple(item for length in (32, 36, 38) for item in self.fields({"length": length, "set_bits": []}))

    def _told(self, length: int) -> list[Alarm]:
        known = length if length in (32, 36, 38) else 32
        return [alarm for alarm in self.alarms if known in alarm.lengths and (self.pi41 or not alarm.pi41)]

    def _kind(self, alarm: Alarm, bits: set[int], long: bool) -> str:
        if alarm.kind == EITHER:
            return FAULT if INVERTER_FAULT_BIT in bits else WARNING
        if alarm.bit == OUTPUT_SHORT_BIT and long:
            return FAULT
        return alarm.kind
