"""What each protocol is asked, and how often: tables. (pure)"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import NamedTuple

from bridge.voltronic.inquiries import PI30, PI41
from bridge.voltronic.inquiry import Inquiry


class Pace(Enum):
    """How often a question is asked; the seconds are the device's options."""

    FAST = "fast"
    """Every round."""
    ALARMS = "alarms"
    SETTINGS = "settings"
    ENERGY = "energy"
    ONCE = "once"
    """Once after each opening: what the unit is."""
    SHARED = "shared"
    """Not asked: part of the answer to another question."""


class Ask(NamedTuple):
    """One question of a plan. `basic` ones every unit answers: announced before the first answer.

    A command with a date in braces (``QED{:%Y%m%d}``) is asked for the inverter's own day.
    """

    command: str
    pace: Pace
    basic: bool = False

    @property
    def name(self) -> str:
        """The command without its date."""
        return self.command.partition("{")[0]

    @property
    def dated(self) -> bool:
        return "{" in self.command


class Plan(NamedTuple):
    """A protocol's tables and questions. `status` comes first in a round, and is what is published at once."""

    protocol: str
    table: Mapping[str, Inquiry]
    asks: tuple[Ask, ...]
    status: str
    serial: str
    clock: str
    ratings: str
    parallel: str | None = None


# fmt: off
_PI30_ASKS = (
    Ask("QPIGS", Pace.FAST, basic=True),
    Ask("QMOD", Pace.FAST, basic=True),
    Ask("QPIWS", Pace.ALARMS, basic=True),
    Ask("QPIRI", Pace.SETTINGS, basic=True),
    Ask("QFLAG", Pace.SETTINGS, basic=True),
    Ask("QVFW", Pace.ONCE),
    Ask("QMN", Pace.ONCE),
    Ask("QGMN", Pace.ONCE),
    Ask("QPIGS2", Pace.FAST),
    Ask("QBMS", Pace.ALARMS),
    Ask("QT", Pace.ENERGY),
    Ask("QET", Pace.ENERGY),
    Ask("QLT", Pace.ENERGY),
    Ask("QED{:%Y%m%d}", Pace.ENERGY),
    Ask("QLD{:%Y%m%d}", Pace.ENERGY),
    Ask("QEM{:%Y%m}", Pace.ENERGY),
    Ask("QLM{:%Y%m}", Pace.ENERGY),
    Ask("QEY{:%Y}", Pace.ENERGY),
    Ask("QLY{:%Y}", Pace.ENERGY),
    Ask("QBEQI", Pace.SETTINGS),
    Ask("QMCHGCR", Pace.ENERGY),
    Ask("QMUCHGCR", Pace.ENERGY),
    Ask("QMSCHGCR", Pace.ENERGY),
    Ask("QCST", Pace.SETTINGS),
    Ask("QCVT", Pace.SETTINGS),
    Ask("QOPPT", Pace.SETTINGS),
    Ask("QCHPT", Pace.SETTINGS),
    Ask("QDI", Pace.ENERGY),
)
_PI18_ASKS = (
    Ask("GS", Pace.FAST, basic=True),
    Ask("MOD", Pace.FAST, basic=True),
    Ask("FWS", Pace.ALARMS, basic=True),
    Ask("PIRI", Pace.SETTINGS, basic=True),
    Ask("FLAG", Pace.SETTINGS, basic=True),
    Ask("VFW", Pace.ONCE),
    Ask("T", Pace.ENERGY),
    Ask("ET", Pace.ENERGY),
    Ask("ED{:%Y%m%d}", Pace.ENERGY),
    Ask("EM{:%Y%m}", Pace.ENERGY),
    Ask("EY{:%Y}", Pace.ENERGY),
    Ask("MCHGCR", Pace.ENERGY),
    Ask("MUCHGCR", Pace.ENERGY),
    Ask("ACCT", Pace.SETTINGS),
    Ask("ACLT", Pace.SETTINGS),
    Ask("DI", Pace.ENERGY),
)
# fmt: on

PI30_PLAN = Plan("PI30", PI30, _PI30_ASKS, "QPIGS", "QID", "QT", "QPIRI", "QPGS")
PI41_PLAN = Plan("PI41", PI41, _PI30_ASKS, "QPIGS", "QID", "QT", "QPIRI", "QPGS")
PROTOCOLS = ("PI30", "PI41", "PI18")


@cache
def plan_of(protocol: str) -> Plan:
    """Return the plan of one of PROTOCOLS. PI18's tables are loaded only when they are wanted: few units need them."""
    if protocol != "PI18":
        return {"PI30": PI30_PLAN, "PI41": PI41_PLAN}[protocol]
    from bridge.voltronic.pi18_inquiries import PI18

    return Plan("PI18", PI18, _PI18_ASKS, "GS", "ID", "T", "PIRI")

ALSO = ("Q1", "QBOOT", "QLED")
"""Questions that are asked only where the configuration names them: undocumented, or of no daily use."""
