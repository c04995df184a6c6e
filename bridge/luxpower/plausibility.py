"""What can be believed of values whose frame passed every check.

A stick can hand out another client's answer with a good CRC (eg4_web_monitor#158: currents of 2996 A). So:

- A value that its family does not have, or that stands for "not reported", is not known.
- A value outside its row's limits is not known, and counted. When the row is a core one, the frame is refused:
  it holds something else.
- A lifetime counter never goes back and never grows faster than the power that can flow. One that does is not
  known, and counted; when two or more of one frame go back, the frame is refused.
- Counters may really start anew (records cleared, an inverter replaced): three readings in a row that follow from
  each other are believed again.

The last good value never takes the place of a refused one.
"""

from __future__ import annotations

from dataclasses import dataclass

from bridge.errors import ProtocolError
from bridge.fields import Value
from bridge.luxpower.rows import Plan

AGREEING = 3
"""So many readings in a row begin a counter anew."""
SLACK = 0.3
"""kWh by which a counter may run ahead: its resolution at both ends, and time spent on the way."""
WRONG_FRAME = 2
"""So many counters of one frame going back mean that the frame is not what it says."""


@dataclass(slots=True)
class _Point:
    value: float
    at: float
    agreeing: int = 1


class Counters:
    """Follows the lifetime counters of one inverter. `max_power` in W is the most that can flow through any meter."""

    def __init__(self, max_power: float) -> None:
        self._rate = max_power / 1000 / 3600
        self._believed: dict[str, _Point] = {}
        self._doubted: dict[str, _Point] = {}

    def refusal(self, key: str, value: float, at: float) -> str | None:
        """Return what is wrong with this reading, or None: then it is the one to follow from now on."""
        last = self._believed.get(key)
        if last is None or self._follows(last, value, at):
            self._believe(key, value, at)
            return None
        doubted = self._doubted.get(key)
        agreeing = doubted.agreeing + 1 if doubted and self._follows(doubted, value, at) else 1
        if agreeing >= AGREEING:
            self._believe(key, value, at)
            return None
        self._doubted[key] = _Point(value, at, agreeing)
        return "went back" if value < last.value else "jumped"

    def _follows(self, last: _Point, value: float, at: float) -> bool:
        return 0 <= value - last.value <= self._rate * max(0.0, at - last.at) + SLACK

    def _believe(self, key: str, value: float, at: float) -> None:
        point = self._believed.get(key)
        if point is None:
            self._believed[key] = _Point(value, at)
        else:
            point.value, point.at = value, at
        if self._doubted:
            self._doubted.pop(key, None)


def keep_possible(plan: Plan, values: dict[str, Value]) -> list[str]:
    """Set to None what cannot be, in place; return the refusals in words.

    Raises ProtocolError "implausible" when a core value is impossible.
    """
    within = plan.all_within(values)
    for key in plan.unsupported:
        values[key] = None
    for key, nothing in plan.absent:
        if values[key] == nothing:
            values[key] = None
    refusals: list[str] = []
    for key, lowest, highest, row in () if within else plan.limits:
        value = values[key]
        if isinstance(value, (int, float)) and not lowest <= value <= highest:
            if row.core:
                raise ProtocolError("implausible", f"{key} {value:g}")
            values[key] = None
            refusals.append(f"{key} {value:g}")
    return refusals


def keep_following(plan: Plan, values: dict[str, Value], at: float, counters: Counters) -> dict[str, str]:
    """Set to None the lifetime counters that cannot follow, in place; return the refusals in words, by key.

    Raises ProtocolError "implausible" when so many go back that the frame cannot be this inverter's.
    """
    refusals: dict[str, str] = {}
    gone_back = 0
    for key in plan.lifetime:
        value = values[key]
        if isinstance(value, (int, float)):
            refusal = counters.refusal(key, value, at)
            if refusal is not None:
                values[key] = None
                refusals[key] = f"{key} {refusal} to {value:g}"
                gone_back += refusal == "went back"
    if gone_back >= WRONG_FRAME:
        raise ProtocolError("implausible", ", ".join(refusals.values()))
    return refusals
