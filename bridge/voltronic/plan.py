"""What each protocol is asked, and how often: tables. (pure)"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
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


class Plan:
    """A protocol's questions. `status` comes first in a round, and is what is published at once."""

    def __init__(
        self,
        protocol: str,
        asks: tuple[Ask, ...],
        *,
        status: str,
        serial: str,
        clock: str,
        ratings: str,
        parallel: str | None = None,
    ) -> None:
        self.protocol = protocol
        self.asks = asks
        self.status = status
        self.serial = serial
        self.clock = clock
        self.ratings = ratings
        self.parallel = parallel

    @cached_property
    def table(self) -> Mapping[str, Inquiry]:
        """What the answers mean, by command. Loaded when it is first wanted: nobody needs it to put a question."""
        if self.protocol == "PI18":
            from bridge.voltronic.pi18_inquiries import PI18

            return PI18
        from bridge.voltronic.inquiries import PI30, PI41

        return PI41 if self.protocol == "PI41" else PI30


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

PI30_PLAN, PI41_PLAN = (
    Plan(name, _PI30_ASKS, status="QPIGS", serial="QID", clock="QT", ratings="QPIRI", parallel="QPGS")
    for name in ("PI30", "PI41")
)
PI18_PLAN = Plan("PI18", _PI18_ASKS, status="GS", serial="ID", clock="T", ratings="PIRI")
PLANS = {plan.protocol: plan for plan in (PI30_PLAN, PI41_PLAN, PI18_PLAN)}

ALSO = ("Q1", "QBOOT", "QLED")
"""Questions that are asked only where the configuration names them: undocumented, or of no daily use."""
MEASURED = frozenset({"Q1"})
"""Of these, those that tell what is measured rather than what is set."""
