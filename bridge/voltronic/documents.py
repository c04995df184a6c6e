"""What documentation says of this slice, out of its tables. (pure)"""

from __future__ import annotations

from collections.abc import Iterator

from bridge.fields import Field
from bridge.settings import Documented
from bridge.voltronic.inquiries import PI30, lone_unit, unit_of_set, whole_set
from bridge.voltronic.plan import ALSO, PLANS
from bridge.voltronic.settings import ANY_PI30, ORDER, Kind, Setter, every_setter


def documented_fields() -> dict[str, tuple[Field, ...]]:
    """Return every field a device of this type can announce, by kind of unit."""
    root: list[Field] = []
    for plan in PLANS.values():
        names = [*(ask.name for ask in plan.asks), *ALSO]
        root += [item for name in names if name in plan.table for item in plan.table[name].every_field()]
    qpgs = PI30["QPGS"]
    root += [*lone_unit(qpgs).every_field(), *whole_set(qpgs).every_field()]
    return {"the inverter on the cable": tuple(root), "a unit of a parallel set": unit_of_set(qpgs).every_field()}


def documented_settings() -> dict[str, tuple[Documented, ...]]:
    """Return everything that can be set, by kind of unit."""
    return {title: tuple(map(_documented, rows)) for title, rows in every_setter().items()}


def _documented(row: Setter) -> Documented:
    allowed = "; ".join(_allowed(row))
    return Documented(row, row.name_on_line, allowed, "; ".join(_conditions(row)))


def _allowed(row: Setter) -> Iterator[str]:
    if row.listed:
        yield f"what the unit lists in {row.listed}" + ("" if Kind.MAX in row.kinds else _below(row))
        return
    if row.by_volts is None:
        yield row.spelling.allowed.removeprefix("expected ").removeprefix("one of ")
        return
    for volts, spelling in row.by_volts.items():
        words = spelling.allowed.removeprefix("expected ").removeprefix("one of ")
        yield f"{words} ({volts} V battery)"


def _below(row: Setter) -> str:
    return ", below 100" if row.spelling.allowed == "expected 0 to 99" else ""


def _conditions(row: Setter) -> Iterator[str]:
    if row.kinds not in (ANY_PI30, (Kind.P18,)):
        yield f"only {', '.join(kind.value for kind in row.kinds)}"
    if row.low is not None:
        yield "units of 110 to 127 V" if row.low else "units of 220 to 240 V"
    if row.standby:
        yield "in standby only"
    if row.lone:
        yield "a lone unit, or unit 0 of its set"
    for low, high, equal, _ in ORDER:
        if row.key == low:
            yield f"{'not above' if equal else 'below'} {high}"
        if row.key == high:
            yield f"{'not below' if equal else 'above'} {low}"
    if row.takes_bounds:
        yield "or as `bounds` says"
