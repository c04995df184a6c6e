"""The RS232 console's tables of cells: `bat`, `soh` and `getpwr`, one row a cell.

Units as in `console`. Source: console captures of US2000C, US3000C, US5000 and US3000D, described in
tests/captures/pylontech.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from bridge import battery as k
from bridge.errors import ProtocolError
from bridge.fields import CAPACITY, FLAG, PLAIN, SOC, TEMPERATURE, TEXT, Field, Level, Quantity
from bridge.pylontech import console
from bridge.pylontech import console_text as t
from bridge.pylontech import values as v
from bridge.pylontech.plausible import check_ranges, refuse
from bridge.pylontech.values import Values, number

DIAGNOSTIC, HIDDEN = Level.DIAGNOSTIC, Level.HIDDEN


@dataclass(frozen=True, slots=True)
class CellField:
    """One value that every cell has: its part of the key, and of the name."""

    key: str
    quantity: Quantity
    name: str

    def of(self, cell: int) -> Field:
        """Return the field of one cell, counted from 1."""
        return _cell_field(self, cell)


@cache
def _cell_field(part: CellField, cell: int) -> Field:
    return Field(f"cell_{cell}_{part.key}", part.quantity, f"Cell {cell} {part.name}", level=HIDDEN)


CELL_TEMPERATURE = CellField("temperature", TEMPERATURE, "temperature")
CELL_SOC = CellField("soc", SOC, "state of charge")
CELL_CAPACITY = CellField("capacity", CAPACITY, "charge")
CELL_BALANCING = CellField("balancing", FLAG, "balancing")
CELL_ROW = (CELL_TEMPERATURE, CELL_SOC, CELL_CAPACITY, CELL_BALANCING)
SOH_COUNT = CellField("soh_count", PLAIN, "health count")
SOH_STATE = CellField("soh_state", TEXT, "health state")
BAT_LEAST = 8
"""Tokens of the shortest row: index, voltage, current, temperature, three states, SOC."""


@cache
def cell_fields(cells: int) -> tuple[Field, ...]:
    """Return every field that `bat n` fills, for so many cells."""
    rows = tuple(part.of(cell) for cell in range(1, cells + 1) for part in CELL_ROW)
    return (*v.cell_voltages(cells), *rows, *v.CELL_EXTREMES, k.COLDEST, k.HOTTEST, k.BALANCING)


@cache
def health_fields(cells: int) -> tuple[Field, ...]:
    """Return every field that `soh n` fills, for so many cells."""
    return tuple(part.of(cell) for cell in range(1, cells + 1) for part in (SOH_COUNT, SOH_STATE))


def cells(lines: Sequence[str]) -> Values:
    """Return a module's cells from the lines of `bat n`; keys: cell_fields, for as many as there are.

    A state of charge stands where a token ends in %, the charge behind it, balancing last: so the
    extra state column of a US3000D shifts nothing. Charge 0 beside a state of charge above 0 is not
    known: a US3000D says so for its slaves. Raises ProtocolError: "format" when a row is cut or one is
    missing, "implausible".
    """
    columns, rows = _cell_rows(lines, "Battery", BAT_LEAST)
    names = [column.text for column in columns]
    numbers = names[: names.index("Base")] if "Base" in names else []
    # unconfirmed: that it is the current that a form with one column less lacks
    if numbers not in (["Battery", "Volt", "Curr", "Tempr"], ["Battery", "Volt", "Tempr"]):
        raise ProtocolError("format", f"columns {numbers} before the states")
    values: Values = {}
    millivolts, degrees, balancing = [], [], []
    for cell, tokens in enumerate(rows, 1):
        t.check_in_line(columns[: len(numbers)], tokens[: len(numbers)])
        row = _cell_row([token.text for token in tokens])
        millivolts.append(_needed(tokens[numbers.index("Volt")].text))
        degrees.append(_needed(tokens[numbers.index("Tempr")].text) / 1000)
        balancing.append(row[CELL_BALANCING.key])
        values[f"cell_{cell}_voltage"] = millivolts[-1] / 1000
        values[f"cell_{cell}_{CELL_TEMPERATURE.key}"] = degrees[-1]
        values.update((f"cell_{cell}_{key}", value) for key, value in row.items())
    values.update(v.cell_extremes(millivolts))
    values[k.COLDEST.key], values[k.HOTTEST.key] = min(degrees), max(degrees)
    values[k.BALANCING.key] = None if None in balancing else any(balancing)
    check_ranges(values)
    _check_charges(values, len(rows))
    return values


def _check_charges(values: Values, count: int) -> None:
    """The cells of a module are of one size: charge and state of charge tell the same one for each, but for a quarter.

    Neither is padded, so a lost digit shows here only.
    """
    least, most = 0.0, float("inf")
    for cell in range(1, count + 1):
        soc, charge = number(values, CELL_SOC.of(cell)), number(values, CELL_CAPACITY.of(cell))
        if soc is not None and not 0 <= soc <= 100:
            raise refuse(f"cell {cell} with a state of charge of {soc:g} %")
        if soc is None or charge is None or soc <= 1:
            continue
        least, most = max(least, charge / (soc + 1)), min(most, charge / (soc - 1))
    if least > 1.25 * most:
        raise refuse("the cells' charges do not fit their states of charge")


def _cell_rows(lines: Sequence[str], first: str, least: int) -> tuple[list[t.Token], list[list[t.Token]]]:
    """Return a header's words and the rows under it, which count the cells from 0 without a gap, all alike."""
    heads = [at for at, line in enumerate(lines) if line.split()[0] == first]
    if len(heads) != 1:
        raise ProtocolError("format", f"{len(heads)} headers that begin with {first}")
    rows = [t.tokens(line) for line in lines[heads[0] + 1 :]]
    if not rows or [row[0].text for row in rows] != [str(n) for n in range(len(rows))]:
        raise ProtocolError("format", "the cells are not counted from 0 without a gap")
    if len({len(row) for row in rows}) != 1 or len(rows[0]) < least:
        raise ProtocolError("format", "rows of different or too small width")
    if len({tuple(token.start for token in row[:least]) for row in rows}) != 1:
        raise ProtocolError("format", "rows that do not stand in line")
    return t.tokens(lines[heads[0]]), rows


def _cell_row(tokens: Sequence[str]) -> Values:
    percents = [at for at, token in enumerate(tokens) if token.endswith("%")]
    if len(percents) != 1:
        raise ProtocolError("format", f"{len(percents)} percentages in a cell's row")
    soc = t.percent(tokens[percents[0]])
    behind = tokens[percents[0] + 1 :]
    if behind and (len(behind) not in (2, 3) or behind[1].lower() != "mah"):
        raise ProtocolError("format", f"{' '.join(behind)!r} behind the state of charge")
    charge = t.milli(behind[0]) if behind else None
    return {
        CELL_SOC.key: soc,
        CELL_CAPACITY.key: None if not charge and soc else charge,
        CELL_BALANCING.key: t.on(behind[2]) if len(behind) == 3 else None,
    }


def _needed(text: str) -> int:
    raw = t.integer(text)
    if raw is None:
        raise ProtocolError("format", "a cell without a value")
    return raw


def health(lines: Sequence[str], position: int) -> Values:
    """Return each cell's health from the lines of `soh n`; keys: health_fields.

    unconfirmed: what the count counts. Not every firmware has the command. Raises ProtocolError.
    """
    titles = [match.group(1) for line in lines if (match := t.TITLE.fullmatch(line))]
    if titles not in ([], [str(position)]):
        raise ProtocolError("foreign", f"titles {titles}, module {position} was asked")
    values: Values = {}
    for cell, tokens in enumerate(_cell_rows(lines, "Battery", 3)[1], 1):
        values[SOH_COUNT.of(cell).key] = _needed(tokens[2].text)
        values[SOH_STATE.of(cell).key] = t.condition(tokens[3].text) if len(tokens) > 3 else None
    return values


def local(lines: Sequence[str]) -> Values:
    """Return the console's own module from the lines of `getpwr`: a record, cells, error code, cycles.

    Raises ProtocolError: "format", "implausible".
    """
    records = [[part.strip() for part in line.split("#")[:-1]] for line in lines]
    if len(records) < 4 or [len(records[n]) for n in (0, -2, -1)] != [8, 1, 1]:
        raise ProtocolError("format", "the records are not those of getpwr")
    first, rows = records[0], records[1:-2]
    if any(len(row) != 4 for row in rows):
        raise ProtocolError("format", "a cell's record is cut")
    millivolts, degrees = [_needed(row[0]) for row in rows], [_needed(row[1]) / 1000 for row in rows]
    values: Values = {
        k.VOLTAGE.key: t.milli(first[0]),
        k.CURRENT.key: t.milli(first[1]),
        k.TEMPERATURE.key: t.milli(first[2]),
        k.REMAINING.key: t.milli(first[3]),
        k.STATE.key: t.base(first[4]),
        k.CYCLES.key: t.integer(records[-1][0]),
        console.FAULTS.key: t.integer(records[-2][0]),
    }
    values.update((field.key, raw / 1000) for field, raw in zip(v.cell_voltages(len(rows)), millivolts, strict=True))
    values.update(v.cell_extremes(millivolts))
    values[k.POWER.key] = console.derived(values)[k.POWER.key]
    values[k.COLDEST.key], values[k.HOTTEST.key] = min(degrees), max(degrees)
    check_ranges(values)
    console.check_low_high(values)
    return values


def module_fields(count: int) -> tuple[Field, ...]:
    """Return every field of a module read over the console, for its cells; each key once."""
    fields = (
        *console.PWR_FIELDS,
        *console.PWR_N_FIELDS,
        *cell_fields(count),
        *console.STAT_FIELDS,
        *console.INFO_FIELDS,
    )
    return tuple({field.key: field for field in fields}.values())
