"""What documentation says of this slice, out of its tables. (pure)"""

from __future__ import annotations

from bridge.fields import Field
from bridge.voltronic.inquiries import PI30, lone_unit, unit_of_set, whole_set
from bridge.voltronic.plan import ALSO, PROTOCOLS, plan_of


def documented_fields() -> dict[str, tuple[Field, ...]]:
    """Return every field a device of this type can announce, by kind of unit."""
    root: list[Field] = []
    for plan in map(plan_of, PROTOCOLS):
        names = [*(ask.name for ask in plan.asks), *ALSO]
        root += [item for name in names if name in plan.table for item in plan.table[name].every_field()]
    qpgs = PI30["QPGS"]
    root += [*lone_unit(qpgs).every_field(), *whole_set(qpgs).every_field()]
    return {"the inverter on the cable": tuple(root), "a unit of a parallel set": unit_of_set(qpgs).every_field()}
