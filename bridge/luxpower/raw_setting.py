"""Setting a holding register by its number: what the rows of settings.py allow in it, and nothing more (pure)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal

from bridge.errors import CommandError
from bridge.fields import PLAIN, Value
from bridge.luxpower.rows import window
from bridge.luxpower.settings import CLOCK_REGISTERS, SETTINGS, A, C, LxpSetting, Model
from bridge.settings import Number, Setting, scaled


@dataclass(frozen=True, slots=True)
class TimeWord(Number):
    """A time of day as one word, hour + 256 x minute."""

    def read(self, text: str) -> Value:
        raw = super(TimeWord, self).read(text)
        if not isinstance(raw, int) or raw & 0xFF > 23 or raw >> 8 > 59:
            raise CommandError(f"{text} is no time of day; {self.allowed}")
        return raw

    @property
    def allowed(self) -> str:
        return "expected hour + 256 x minute"


@dataclass(frozen=True, slots=True)
class RawWord(Setting):
    """A holding register of several rows, or half a window, set by its number."""

    register: int = field(kw_only=True)
    rows: tuple[LxpSetting, ...] = field(kw_only=True)
    """The rows in it that may be changed, as this model has them; every other bit stays as it is."""

    def objection(self, old: int, new: int) -> str | None:
        """Say why this word must not follow that one, or None."""
        allowed = 0
        for row in self.rows:
            allowed |= row.mask
            codes = row.row.codes
            if codes is not None and row.raw({self.register: new}) not in codes:
                return f"{row.key} cannot be {row.raw({self.register: new})}"
        if wrong := (old ^ new) & ~allowed & 0xFFFF:
            bits = ", ".join(str(bit) for bit in range(16) if wrong >> bit & 1)
            return f"bits {bits} must stay as they are; the word is {old} now"
        return None


def raw_setting(register: int, model: Model, may: Callable[[LxpSetting], bool]) -> LxpSetting | RawWord:
    """Return what can be set of a register by its number. Raises CommandError, which says why nothing can.

    Class A, and class B as far as it is named (`may`), with the bounds and conditions of the rows; class C only ever
    by its own name.
    """
    inside = [setting for setting in SETTINGS if register in setting.registers]
    if not inside:
        raise CommandError(f"hold {register} is not in the table of settings and is never written")
    if register in CLOCK_REGISTERS:
        raise CommandError(f"hold {register} is a part of the clock, which is set as a whole: setting time")
    if not any(setting.risk is not C and may(setting) for setting in inside):
        why = "can be set by its name only" if inside[0].risk is C else "has to be named under allow: first"
        raise CommandError(f"hold {register} is {', '.join(setting.key for setting in inside)}, which {why}")
    rows: list[LxpSetting] = []
    trouble: CommandError | None = None
    for setting in inside:
        try:
            rows += [setting.for_model(model)] if setting.risk is not C and may(setting) else []
        except CommandError as err:
            trouble = err
    if not rows and trouble is not None:
        raise trouble
    # who may write it is settled by now, row by row, so the whole is of class A
    key, one = f"hold/{register}", rows[0]
    if one.mask == 0xFFFF and one.row.read is not window:
        lowest, highest = (min(one.row.codes), max(one.row.codes)) if one.row.codes else (one.lowest, one.highest)
        return replace(one, key=key, risk=A, by_number=True, spelling=scaled(lowest, highest, 1))
    spelling = TimeWord(Decimal(0), Decimal(59 << 8 | 23)) if one.row.read is window else scaled(0, 0xFFFF, 1)
    return RawWord(
        key, PLAIN, f"Holding register {register}", spelling=spelling, risk=A, register=register, rows=tuple(rows)
    )
