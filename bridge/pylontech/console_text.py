"""How the RS232 console's text is read: words and numbers, tables in columns, "name : value" answers (pure).

There is no checksum. A lost character shortens a number without a trace but one: the rest of its line moves. So
columns must stand in line, and a row or label that does not fit is refused. "-" is "not available".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bridge.errors import ProtocolError
from bridge.fields import Field, Value
from bridge.pylontech.values import Values

# -- words -------------------------------------------------------------------------------------------------------------

BASE_STATES = {
    "Idle": "idle", "Charge": "charging", "Dischg": "discharging", "Balance": "balancing", "SysError": "error",
    "Sleep": "sleeping",
}  # fmt: skip
"""unconfirmed: Balance, SysError and Sleep are known from other programs only."""
CONDITIONS = {
    "Normal": "normal", "Low": "low", "High": "high", "OV": "over voltage", "UV": "under voltage",
    "OT": "over temperature", "UT": "under temperature", "SC": "short circuit", "COC": "charge over current",
    "COC2": "charge over current 2", "DOC": "discharge over current", "DOC2": "discharge over current 2",
    "COCAlm": "charge current warning", "DOCAlm": "discharge current warning", "Sleep": "sleeping", "Full": "full",
}  # fmt: skip
ABSENT = "Absent"


_STATE = re.compile(r"[A-Za-z][A-Za-z0-9.]{0,15}")


def word(text: str, words: Mapping[str, str]) -> str | None:
    """Return what a state means; an unknown one is shown as it is and called unknown. None for "-"."""
    if text == "-":
        return None
    parts = [part for part in re.split(r"[ ,|/]+", text) if part]
    if not parts or not all(_STATE.fullmatch(part) for part in parts):
        raise ProtocolError("format", f"{text[:40]!r} is no state")
    return ", ".join(words.get(part, f"unknown {part}") for part in parts)


def base(text: str) -> Value:
    """Return what a module does, in words."""
    return word(text, BASE_STATES)


def condition(text: str) -> Value:
    """Return whether a value is well, in words."""
    return word(text, CONDITIONS)


_INTEGER = re.compile(r"-?[0-9]{1,12}")


def integer(text: str) -> int | None:
    """Return a whole number, None for "-"; raises ProtocolError "format" for anything else."""
    if text == "-":
        return None
    if not _INTEGER.fullmatch(text):
        raise ProtocolError("format", f"{text[:40]!r} is no number")
    return int(text)


def milli(text: str) -> Value:
    """Return thousandths as whole units."""
    raw = integer(text)
    return None if raw is None else raw / 1000


def milli_size(text: str) -> Value:
    """Return thousandths as whole units, without their sign."""
    raw = integer(text)
    return None if raw is None else abs(raw) / 1000


def cell(text: str) -> Value:
    """Cells are counted from 0 on the console, from 1 everywhere else."""
    raw = integer(text)
    return None if raw is None else raw + 1


def percent(text: str) -> Value:
    """Return whole percent, with or without the sign behind them."""
    return None if text == "-" else integer(text.removesuffix("%"))


def words(text: str) -> Value:
    """Return a text as it is, None for "-" and for nothing. Raises ProtocolError "format" for what cannot be shown."""
    if not text.isprintable():
        raise ProtocolError("format", f"{text[:40]!r} is no text")
    return None if text in ("-", "") else text


def on(text: str) -> Value:
    """Return ON and Y as true, OFF and N as false. Raises ProtocolError "format"."""
    states = {"ON": True, "OFF": False, "-": None, "Y": True, "N": False}
    if text.upper() not in states:
        raise ProtocolError("format", f"{text[:40]!r} is neither on nor off")
    return states[text.upper()]


def hex_word(text: str) -> Value:
    """Return a hex number, whatever names stand behind it. Raises ProtocolError "format"."""
    head = text.split()[0] if text else ""
    if not re.fullmatch(r"0x[0-9A-Fa-f]{1,8}", head):
        raise ProtocolError("format", f"{text[:40]!r} is no hex number")
    return int(head, 16)


# -- tables ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Column:
    """One value of a table's row: under which header it stands, and how its text is read."""

    header: str
    field: Field
    read: Callable[[str], Value] = integer


@dataclass(frozen=True, slots=True)
class Token:
    """One word of a row and where it starts."""

    text: str
    start: int


SYNONYMS = {"No": "Power", "Vlowest": "Vlow", "Vhighest": "Vhigh"}
"""Other firmware's names of the same columns."""


def table(lines: Sequence[str], first: str) -> tuple[list[Token], list[list[Token]]]:
    """Return the header's names and the rows' tokens behind it; the two words of a time are one token."""
    for at, line in enumerate(lines):
        columns = [Token(SYNONYMS.get(name.text, name.text), name.start) for name in tokens(line)]
        if columns and columns[0].text == first and len(columns) > 2:
            if len({name.text for name in columns}) != len(columns):
                raise ProtocolError("format", "a column stands there twice")
            return columns, [tokens(row) for row in lines[at + 1 :]]
    raise ProtocolError("format", f"no table that begins with {first}")


TIME = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)")


def tokens(line: str) -> list[Token]:
    """Return the words of a line; the two of a time are one."""
    return [Token(match.group(), match.start()) for match in re.finditer(r"\S+", TIME.sub(r"\1T\2", line))]


def check_in_line(columns: Sequence[Token], tokens: Sequence[Token]) -> None:
    """Raise ProtocolError "format" unless each token starts under its header, or where a wider one pushed it."""
    end = -1
    for column, token in zip(columns, tokens, strict=True):
        if token.start != max(column.start, end + 1):
            raise ProtocolError("format", f"{token.text[:24]!r} does not stand under {column.text}")
        end = token.start + len(token.text)


# -- "name : value" ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Label:
    """One value of a "name : value unit" answer; `unit` is what must stand behind a number."""

    label: str
    field: Field
    read: Callable[[str], Value] = integer
    unit: str = ""
    needed: bool = False


def labelled(lines: Sequence[str]) -> dict[str, str]:
    """Return names and texts, blanks in names reduced to one.

    Raises ProtocolError "format" when a name stands there twice: two answers ran into each other; and
    when the colons behind padded names do not stand in line: something is lost between.
    """
    found: dict[str, str] = {}
    widths: set[int] = set()
    for line in lines:
        padded, colon, text = line.partition(":")
        if not colon:
            continue
        if padded.endswith(" "):
            widths.add(len(padded))
        name = " ".join(padded.split())
        if name in found:
            raise ProtocolError("format", f"{name!r} stands there twice")
        found[name] = text
    if len(widths) > 1:
        raise ProtocolError("format", f"colons stand in columns {sorted(widths)}")
    return found


def read_labels(labels: Sequence[Label], found: Mapping[str, str]) -> Values:
    """Return the values of the labels that are there.

    Raises ProtocolError "format" when a needed one is not, and when units do not stand in line.
    """
    _check_units(labels, found)
    values: Values = {}
    for label in labels:
        text = found.get(label.label)
        if text is not None:
            values[label.field.key] = label.read(_without_unit(text.strip(), label))
        elif label.needed:
            raise ProtocolError("format", f"{label.label!r} is missing")
    return values


def _check_units(labels: Sequence[Label], found: Mapping[str, str]) -> None:
    """Raise ProtocolError "format" unless all units stand in line, where the answer is padded at all."""
    texts = [(found[label.label], len(label.unit)) for label in labels if label.unit and label.label in found]
    widths = {len(text) - unit for text, unit in texts if text.strip() != "-"}
    padded = any("  " in text.strip() for text, _ in texts)
    if padded and len(widths) > 1:
        raise ProtocolError("format", f"units stand in columns {sorted(widths)}")


def check_right(labels: Sequence[Label], found: Mapping[str, str]) -> None:
    """Raise ProtocolError "format" unless all numbers end in one column; only a longer one may go beyond."""
    texts = [found[label.label] for label in labels if label.label in found]
    width = min((len(text) for text in texts), default=0)
    if any(len(text) > width and text.startswith("  ") for text in texts):
        raise ProtocolError("format", "the numbers do not end in one column")


def _without_unit(text: str, label: Label) -> str:
    """Return the number before its unit; a unit that is not there means a cut line."""
    if not label.unit or text == "-":
        return text
    if not text.lower().endswith(label.unit.lower()):
        raise ProtocolError("format", f"{label.label!r} without its unit: {text[:40]!r}")
    return text[: -len(label.unit)].strip()


TITLE = re.compile(r"Power +([0-9]{1,2})")
"""The line that names the module an answer is about."""
