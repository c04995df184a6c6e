"""What can be set on an Axpert or kin, and how a command says it: tables, one row a setting. (pure)

A row's key is the key under which the state shows what is set; `source` is the inquiry that fills it, and so the
read-back. Bounds are those of the vendor papers; where they differ, the narrower. Voltages follow the battery's
rated voltage (QPIRI 7): a row gives bounds for some of 12, 24 and 48 V, and for the others a unit is refused unless
its owner gave bounds of his own.

Not here, though there are commands:

- MSCHGC (solar charging current) and PBATCD (battery control): no query shows what they set.
- MCHGC: MNCHGC sets the same, and is clear about its digits.
- PLED*: the LED ring. RTEY, RTDL, CLE: they erase counters for good. LON: switches the output.
- PI18's ACCT and ACLT (its papers disagree on their length), F, V, POPM and PF (no query is known to show them).
- PEI, PDI of PI18 (grid tie): no query is sure to show it.
- calibration and the writing of serial numbers: NEVER.

Source: section names P30-2014, P30-2015, MAX-2021, P41-2019, GKMK, P18-2017 as in inquiries.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import ROUND_CEILING, Decimal
from enum import Enum
from typing import Any

from bridge.errors import CommandError
from bridge.fields import ENUM, FLAG, TEXT, Level, Value
from bridge.settings import AnySpelling, Choice, Clock, Number, Press, Risk, Setting, Switch, whole
from bridge.voltronic.inquiries import (
    FLAGS,
    PI41_QPIRI,
    QBEQI,
    QCST,
    QCVT,
    QDI,
    QFLAG,
    QPGS,
    QPIRI,
    QT,
)
from bridge.voltronic.inquiry import Code, Decoded, Inquiry, Token

A, B, C = Risk.HARMLESS, Risk.CAUTION, Risk.DANGEROUS

NEVER = re.compile(
    r"PSAVE|PSDF|PMID|PBATH|PBATL|BTA.*|PVA.*|CF.*|PBF\d.*|SID.*|ID.*|ATE.*|RTEY|RTDL|CLE|LON.*|P[ED]I"
)
"""What no program may send: calibration, serial numbers, erased counters, the output's switch, the grid tie."""


class Kind(Enum):
    """Which paper a unit follows, as its protocol and the form of its QPIRI tell."""

    P30 = "PI30"
    """25 fields or 24 [P30-2014, P30-2015]."""
    KING = "King"
    """26 fields."""
    GKMK = "PIP-GK, PIP-MK"
    """27 fields."""
    MAX = "MAX"
    """28 fields [MAX-2021]."""
    P41 = "PI41"
    ODD = "odd"
    """PI30 with fields that no paper has: only what all papers agree on."""
    P18 = "PI18"


def kind_of(protocol: str, ratings: Decoded) -> Kind:
    """Return which paper a unit follows; `ratings` is its decoded QPIRI (PIRI)."""
    if protocol == "PI18":
        return Kind.P18
    if protocol == "PI41":
        return Kind.P41
    if "_extra_fields" in ratings:
        return Kind.ODD
    by_last = {"max_discharging_current": Kind.MAX, "operation_logic": Kind.GKMK, "max_cv_charging_time": Kind.KING}
    return next((kind for name, kind in by_last.items() if name in ratings), Kind.P30)


ANY_PI30 = (Kind.P30, Kind.KING, Kind.GKMK, Kind.MAX, Kind.P41, Kind.ODD)
NOT_MAX = (Kind.P30, Kind.KING, Kind.GKMK, Kind.P41, Kind.ODD)
PI18_ONLY = (Kind.P18,)
LOW_VOLTAGE = 150.0
"""Rated output volts below which a unit is one for 110 to 127 V."""
LOWEST, HIGHEST = Decimal("40.0"), Decimal("63.0")
"""Volts of a 48 V battery between which an owner's own bounds must be; others in proportion [P30-2014, GKMK]."""


# -- how a value is put into a command


def as_is(value: Any) -> Any:
    """A number, formatted by the command."""
    return value


def tenths(value: Any) -> int:
    """Volts as a whole number of tenths."""
    return round(float(value) * 10)


def one_or_zero(value: Any) -> int:
    """on is 1, off is 0."""
    return int(value)


def enable_or_disable(value: Any) -> str:
    """on is E, off is D."""
    return "E" if value else "D"


def moment(value: Any) -> datetime:
    """A date and time."""
    return datetime.fromisoformat(str(value))


# -- rows


@dataclass(frozen=True, slots=True)
class Setter(Setting):
    """One setting and its command.

    `form` is a format string: the first place takes what `encode` makes of the value, ``{m}`` the number of the
    unit in its set, any other name what is set under that key now: a command of two values repeats the other one.
    `by_volts` are the spellings by the battery's rated voltage, `listed` the inquiry that lists the only values there
    are. `low` says whether the row is for units of 110 to 127 V (True), of 220 to 240 V (False) or for both (None);
    `standby` that the unit must be in that mode, `lone` that it must be number 0 of its set or alone. `wider` is
    another form for units that show this number with three digits, tried after a refusal.
    """

    source: Inquiry = field(kw_only=True)
    form: str = field(kw_only=True)
    encode: Callable[[Any], Any] = field(default=as_is, kw_only=True)
    kinds: tuple[Kind, ...] = field(default=ANY_PI30, kw_only=True)
    by_volts: Mapping[int, Number] | None = field(default=None, kw_only=True)
    listed: str = field(default="", kw_only=True)
    low: bool | None = field(default=None, kw_only=True)
    standby: bool = field(default=False, kw_only=True)
    lone: bool = field(default=False, kw_only=True)
    wider: str = field(default="", kw_only=True)

    @property
    def name_on_line(self) -> str:
        """The command without its value: "POP", "PCP", "PEa"; under this name a write is counted."""
        return self.form.partition("{")[0].rstrip(",") if not self.form.startswith("P{}") else f"PE/PD {self.form[3:]}"

    def commands(self, value: Value, now: Mapping[str, Value], unit: int = 0) -> tuple[str, ...]:
        """Return the command that sets `value`, and the one for units that refuse it, if any.

        `now` is what is set, by key, `unit` the number of the unit in its set. Raises CommandError.
        """
        others = {key: tenths(other) for key, other in now.items() if f"{{{key}:" in self.form}
        own = self.encode(value)
        forms = (self.form, self.wider) if self.wider else (self.form,)
        made = tuple(form.format(own, m=unit, **{**others, self.key: own}) for form in forms)
        if any(NEVER.fullmatch(command) for command in made):
            raise CommandError(f"{made[0]} is never sent")
        return made

    def fits(self, kind: Kind, output_volts: float | None) -> bool:
        """Whether a unit of that kind, rated for so many volts of output, has this setting."""
        if kind not in self.kinds:
            return False
        return self.low is None or (output_volts is not None and (output_volts < LOW_VOLTAGE) is self.low)

    @property
    def takes_bounds(self) -> bool:
        """Whether its owner may give bounds of his own: it is in volts that follow the battery's."""
        return self.by_volts is not None and self.key.endswith("_voltage")

    def bounded(self, battery_volts: float | None, bounds: Mapping[str, Sequence[float]]) -> Setter:
        """Return the row with the bounds of a unit: its owner's, or those of the papers for its battery.

        Raises CommandError where there are none.
        """
        if self.by_volts is None:
            return self
        own = bounds.get(self.key)
        if own is not None and battery_volts is not None:
            return replace(self, spelling=self._own(battery_volts, own))
        papers = self.by_volts.get(round(battery_volts or 0))
        if papers is None:
            hint = "; yours can stand under bounds:" if self.takes_bounds else ""
            raise CommandError(f"no paper gives bounds of {self.key} for a battery of {battery_volts} V{hint}")
        return replace(self, spelling=papers)

    def _own(self, battery_volts: float, own: Sequence[float]) -> Number:
        """Return the owner's bounds, no wider than what any paper allows anywhere."""
        rated = Decimal(str(battery_volts))
        low = max(Decimal(str(own[0])), LOWEST * rated / 48)
        high = min(Decimal(str(own[1])), HIGHEST * rated / 48)
        like = next(iter((self.by_volts or {}).values()))
        step = min(like.step, Decimal("0.1"))
        low, high = (low / step).to_integral_value(ROUND_CEILING) * step, high // step * step
        if low > high:
            raise CommandError(f"the bounds given for {self.key} are none for a battery of {battery_volts} V")
        return Number(low, high, step, also=like.also)


def contradiction(key: str, value: Value, now: Mapping[str, Value]) -> str | None:
    """Say what else is set so that `value` would make no sense beside it, or None."""
    wanted = {**now, key: value}
    for low, high, equal, unless in ORDER:
        if key not in (low, high):
            continue
        below, above = wanted.get(low), wanted.get(high)
        if not isinstance(below, int | float) or not isinstance(above, int | float):
            return f"it is not known what {high if key == low else low} is set to"
        if unless and above == 0:
            continue
        if below > above or (below == above and not equal):
            return f"{low} would be {below} V and {high} {above} V"
    return None


ORDER = (
    ("battery_under_voltage", "battery_recharge_voltage", False, False),
    ("battery_recharge_voltage", "battery_redischarge_voltage", True, True),
    ("battery_float_voltage", "battery_bulk_voltage", True, False),
)
"""(lower, higher, whether they may be equal, whether 0 in the higher means something of its own)."""


# -- rows of a kind


def token_of(source: Inquiry, key: str) -> Token:
    """Return the row of an inquiry that fills a key."""
    return next(row for row in source.rows if row.key == key)


def choice(
    source: Inquiry, key: str, form: str, codes: Sequence[int], risk: Risk, kinds: tuple[Kind, ...] = ANY_PI30,
    **more: Any,
) -> Setter:  # fmt: skip
    """A setting of a few words: the codes that its command takes of those that the state shows."""
    token = token_of(source, key)
    words: Mapping[Code, str] = token.codes or {}
    by_word = {words[code]: code for code in codes}
    return Setter(
        key, ENUM, token.name, level=Level.DIAGNOSTIC, options=tuple(by_word), spelling=Choice(tuple(by_word)),
        risk=risk, source=source, form=form, encode=by_word.__getitem__, kinds=kinds, **more,
    )  # fmt: skip


def number(
    source: Inquiry, key: str, form: str, spelling: AnySpelling, risk: Risk, kinds: tuple[Kind, ...] = ANY_PI30,
    **more: Any,
) -> Setter:  # fmt: skip
    """A setting that is a number, or on and off."""
    token = token_of(source, key)
    return Setter(
        key, token.quantity, token.name, level=Level.DIAGNOSTIC, spelling=spelling, risk=risk, source=source, form=form,
        kinds=kinds, **more,
    )  # fmt: skip


def volts(
    source: Inquiry, key: str, form: str, by_volts: Mapping[int, Number], risk: Risk,
    kinds: tuple[Kind, ...] = ANY_PI30, **more: Any,
) -> Setter:  # fmt: skip
    """A setting whose bounds follow from the battery's rated voltage."""
    return number(source, key, form, by_volts[48], risk, kinds, by_volts=by_volts, **more)


def _flag(letter: str, risk: Risk, kinds: tuple[Kind, ...] = ANY_PI30) -> Setter:
    flag = next(one for one in FLAGS if one.letter == letter)
    return Setter(
        flag.key, FLAG, flag.name, level=Level.DIAGNOSTIC, spelling=Switch(), risk=risk, source=QFLAG,
        form="P{}" + letter, encode=enable_or_disable, kinds=kinds,
    )  # fmt: skip


def steps(low: str, high: str, step: str, *also: str) -> Number:
    """A number of volts from `low` to `high`."""
    return Number(Decimal(low), Decimal(high), Decimal(step), also=tuple(map(Decimal, also)))


def only(values: str, *also: str) -> Number:
    """One of a few numbers."""
    numbers = tuple(map(Decimal, values.split()))
    step = min(int(one.as_tuple().exponent) for one in numbers)
    return Number(min(numbers), max(numbers), Decimal(1).scaleb(step), numbers, tuple(map(Decimal, also)))


RECHARGE = {
    12: only("11 11.3 11.5 11.8 12 12.3 12.5 12.8"), 24: steps("22", "25.5", "0.5"), 48: steps("44", "51", "1"),
}  # fmt: skip
"""P30-2014, P30-2015, P41, GKMK. MAX-2021 gives no list. unconfirmed: finer steps on units with a lithium type."""
REDISCHARGE = {
    12: only("12 12.3 12.5 12.8 13 13.3 13.5 13.8 14 14.3 14.5", "0"), 24: steps("24", "29", "0.5", "0"),
    48: steps("48", "58", "1", "0"),
}  # fmt: skip
"""The same papers; 0 is "when full"."""
UNDER = {24: steps("21.0", "24.0", "0.1"), 48: steps("42.0", "48.0", "0.1")}
"""GKMK; P30-2014, P30-2015 and P41 begin at 40 V."""
CHARGE = {24: steps("24.0", "29.2", "0.1"), 48: steps("48.0", "58.4", "0.1")}
"""P30-2014, P30-2015, P41. GKMK allows 63 V."""
EQUALIZE = {24: steps("24.00", "31.50", "0.01"), 48: steps("48.00", "61.00", "0.01")}
"""P41, GKMK; MAX-2021 lost its list."""
DISCHARGE = {48: steps("30", "150", "1", "0")}
"""MAX-2021; 0 is off."""
CURRENTS = whole(0, 300)
"""Only those that the unit lists."""

# fmt: off
PI30_SETTERS: tuple[Setter, ...] = (
    choice(QPIRI, "output_source_priority", "POP{:02d}", (0, 1, 2), A),
    choice(QPIRI, "charger_source_priority", "PCP{:02d}", (0, 1, 2, 3), B, (Kind.P30, Kind.KING, Kind.P41, Kind.ODD)),
    choice(QPIRI, "charger_source_priority", "PCP{:02d}", (1, 2, 3), B, (Kind.MAX, Kind.GKMK)),
    choice(QPIRI, "input_voltage_range", "PGR{:02d}", (0, 1), A),
    number(QPIRI, "max_charging_current", "MNCHGC{m}{:03d}", CURRENTS, B, listed="QMCHGCR"),
    number(QPIRI, "max_ac_charging_current", "MUCHGC{m}{:02d}", whole(0, 99), B, NOT_MAX, listed="QMUCHGCR", lone=True,
            wider="MUCHGC{m}{:03d}"),                     # MUCHGC100 could mean unit 1 at 0 A
    number(QPIRI, "max_ac_charging_current", "MUCHGC{m}{:02d}", CURRENTS, B, (Kind.MAX,), listed="QMUCHGCR", lone=True,
            wider="MUCHGC{m}{:03d}"),                     # there 100 and more take one digit more
    volts(QPIRI, "battery_recharge_voltage", "PBCV{:04.1f}", RECHARGE, B),
    volts(QPIRI, "battery_redischarge_voltage", "PBDV{:04.1f}", REDISCHARGE, B),
    volts(QPIRI, "battery_under_voltage", "PSDV{:04.1f}", UNDER, C),
    volts(QPIRI, "battery_bulk_voltage", "PCVV{:04.1f}", CHARGE, C),
    volts(QPIRI, "battery_float_voltage", "PBFT{:04.1f}", CHARGE, C),
    # unconfirmed: 02 (user) on the units of P30-2014, P30-2015 and P41, whose papers list 00 and 01
    choice(QPIRI, "battery_type", "PBT{:02d}", (0, 1, 2), C, NOT_MAX),
    choice(QPIRI, "battery_type", "PBT{:02d}", tuple(range(10)), C, (Kind.MAX,)),
    number(QPIRI, "max_cv_charging_time", "PCVT{:03d}", whole(0, 900, 5), B, (Kind.MAX, Kind.P41)),
    # there 255 is automatic and 0 no time at all
    number(QCVT, "cv_time", "PCVT{:03d}", only("0 10 20 40 60 90 120 150 180 210 240 255"), B, (Kind.P30,)),
    choice(QCST, "charging_stages", "PCST{:02d}", (0, 1, 2), B, (Kind.P30,)),
    choice(QPIRI, "operation_logic", "POPLG{:02d}", (0, 1, 2), B, (Kind.GKMK,)),
    choice(QPIRI, "pv_ok_condition", "PPVOKC{:d}", (0, 1), A, (Kind.P30, Kind.P41, Kind.GKMK)),
    choice(QPIRI, "pv_power_balance", "PSPB{:d}", (0, 1), A, (Kind.P30, Kind.P41, Kind.GKMK)),
    volts(QPIRI, "max_discharging_current", "PBATMAXDISC{:03d}", DISCHARGE, B, (Kind.MAX,)),
    number(QBEQI, "equalization_enabled", "PBEQE{:d}", Switch(), C, encode=one_or_zero),
    number(QBEQI, "equalization_active", "PBEQA{:d}", Switch(), C, encode=one_or_zero),
    number(QBEQI, "equalization_time", "PBEQT{:03d}", whole(5, 900, 5), C),
    number(QBEQI, "equalization_period", "PBEQP{:03d}", whole(0, 90), C),
    volts(QBEQI, "equalization_voltage", "PBEQV{:05.2f}", EQUALIZE, C),
    number(QBEQI, "equalization_over_time", "PBEQOT{:03d}", whole(5, 900, 5), C),
    _flag("a", A),
    _flag("b", B),
    _flag("d", C, (Kind.MAX,)),                          # needs the leave of the grid's operator
    _flag("j", B),                                       # small loads lose their supply
    _flag("k", A),
    _flag("l", A, (Kind.P30,)),
    _flag("u", B),
    _flag("v", B),
    _flag("x", A),
    _flag("y", A),
    _flag("z", A),
    number(QPIRI, "ac_output_rating_frequency", "F{:d}", only("50 60"), C),
    number(QPIRI, "ac_output_rating_voltage", "V{:03d}", only("220 230 240"), C, low=False),
    number(QPIRI, "ac_output_rating_voltage", "V{:03d}", only("110 120 127"), C, (Kind.MAX,), low=True),
    # P30-2014 writes unit and mode, others two digits of mode: only where it is known which
    choice(QPIRI, "output_mode", "POPM{:02d}", tuple(range(5)), C, (Kind.MAX,), low=False, standby=True),
    choice(QPIRI, "output_mode", "POPM{:02d}", tuple(range(8)), C, (Kind.MAX,), low=True, standby=True),
    choice(PI41_QPIRI, "output_mode", "POPM{:02d}", tuple(range(1, 7)), C, (Kind.P41,), standby=True),
    Setter("clock", TEXT, "Clock", level=Level.DIAGNOSTIC, spelling=Clock(), risk=A, source=QT,
           form="DAT{:%y%m%d%H%M%S}", encode=moment),    # unconfirmed: mpp-solar has a form of 14 digits beside it
    Setter("factory_reset", TEXT, "Factory reset", spelling=Press(), risk=C, source=QDI, form="PF"),
)
PI30_UNIT_SETTERS: tuple[Setter, ...] = (
    choice(QPGS, "charger_source_priority", "PPCP{m}{:02d}", (0, 1, 2, 3), B, (Kind.P30, Kind.KING, Kind.P41)),
    choice(QPGS, "charger_source_priority", "PPCP{m}{:02d}", (1, 2, 3), B, (Kind.MAX, Kind.GKMK)),
    number(QPGS, "max_charger_current", "MNCHGC{m}{:03d}", CURRENTS, B, (Kind.P30, Kind.KING, Kind.P41, Kind.MAX),
            listed="QMCHGCR"),
)
"""Of a unit of a parallel set, by its number in the set. MUCHGC is not among them: MUCHGC130 could mean 130 A."""
# fmt: on


def setters_of(protocol: str) -> tuple[Setter, ...]:
    """Return the rows for the unit on the cable. PI18's are loaded only when they are wanted."""
    if protocol != "PI18":
        return PI30_SETTERS
    from bridge.voltronic.pi18_settings import PI18_SETTERS

    return PI18_SETTERS


def every_setter() -> dict[str, tuple[Setter, ...]]:
    """Return all rows there are, by kind of unit."""
    return {
        "PI30 and PI41": PI30_SETTERS,
        "PI18": setters_of("PI18"),
        "a unit of a parallel set (PI30)": PI30_UNIT_SETTERS,
    }


def nearest(name: str, rows: Sequence[Setter]) -> str:
    """Return words that help somebody who misspelled a setting."""
    from difflib import get_close_matches  # not needed where names are right

    keys = list(dict.fromkeys(row.key for row in rows))
    near = get_close_matches(name.lower().replace("-", "_"), keys, 1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(keys)}"
