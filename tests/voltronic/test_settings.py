"""The tables of what can be set: every command they can make, their bounds, and what is never sent."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import CommandError
from bridge.fields import Value
from bridge.settings import NOW, Choice, Clock, Number, Press, Risk, Switch
from bridge.simulators import axpert_setters
from bridge.voltronic import frame, pi18
from bridge.voltronic.inquiries import PI30, PI41
from bridge.voltronic.options import Options
from bridge.voltronic.pi18_inquiries import PI18
from bridge.voltronic.settings import (
    NEVER,
    PI30_SETTERS,
    PI30_UNIT_SETTERS,
    Kind,
    Setter,
    contradiction,
    every_setter,
    kind_of,
    nearest,
    setters_of,
)

PI18_SETTERS = setters_of("PI18")
ROWS = [row for rows in every_setter().values() for row in rows]
NOW_SET: dict[str, Value] = {
    "battery_bulk_voltage": 56.4, "battery_float_voltage": 54.0,
    "battery_recharge_voltage": 46.0, "battery_redischarge_voltage": 54.0,
}  # fmt: skip


def values_of(row: Setter) -> list[Value]:
    """Return every value that a row takes, for the widest battery it knows."""
    spelling = row.spelling
    if isinstance(spelling, Choice):
        return list(spelling.options)
    if isinstance(spelling, Switch):
        return [True, False]
    if isinstance(spelling, Press):
        return ["press"]
    if isinstance(spelling, Clock):
        return ["2026-11-26T21:05:09", "2031-01-02T03:04:05"]
    count = int((spelling.maximum - spelling.minimum) / spelling.step) + 1
    numbers = spelling.among or tuple(spelling.minimum + spelling.step * n for n in range(count))
    return [spelling.read(spelling.write(float(one))) for one in (*numbers, *spelling.also)]


def every_command() -> dict[str, set[str]]:
    """Return all that can ever go out, by protocol: every row, battery, value and place in the set."""
    made: dict[str, set[str]] = {"PI30": set(), "PI18": set()}
    for row in ROWS:
        protocol = "PI18" if row.kinds == (Kind.P18,) else "PI30"
        batteries = row.by_volts or {0: row.spelling}
        for volts in batteries:
            bounded = row.bounded(float(volts), {}) if row.by_volts else row
            places = range(9) if row in PI30_UNIT_SETTERS else (0,)
            for value in values_of(bounded):
                made[protocol] |= {text for m in places for text in bounded.commands(value, NOW_SET, m)}
    return made


COMMANDS = every_command()
FORMS = {
    "PI30": r"POP0[0-2]|PCP0[0-3]|PPCP\d0[0-3]|PGR0[01]|MUCHGC0\d\d\d?|MNCHGC\d\d{3}|P(BCV|BDV|SDV|CVV|BFT)\d\d\.\d"
            r"|PBT0\d|PCVT\d{3}|PCST0[0-2]|POPLG0[0-2]|PPVOKC[01]|PSPB[01]|PBATMAXDISC\d{3}|PBEQ[EA][01]|PBEQ(T|P|OT)\d{3}"
            r"|PBEQV\d\d\.\d\d|P[ED][abdjkluvxyz]|F(50|60)|V(110|120|127|220|230|240)|POPM0[0-7]|DAT\d{12}|PF",
    "PI18": r"POP[01]|PCP0,[0-2]|PSP[01]|PGR[01]|PBT[0-2]|M(U?)CHGC0,\d{3}|MCHGV\d{3},\d{3}|BUCD\d{3},\d{3}|PSDV\d{3}"
            r"|P[ED][A-H]|DAT\d{12}",
}  # fmt: skip
"""Written down from the papers, not from the tables."""


@pytest.mark.parametrize("protocol", ["PI30", "PI18"])
def test_every_command_has_a_form_of_the_papers(protocol: str) -> None:
    assert [one for one in sorted(COMMANDS[protocol]) if not re.fullmatch(FORMS[protocol], one)] == []
    assert len(COMMANDS[protocol]) > 200


NEVER_SENT = [
    "PSAVE", "PSDF", "PMID", "PBATH", "PBATL", "BTA0", "BTA1", "BTA2", "BTA+01", "PVA0", "PVA1", "CF01", "PBF0123",
    "SID14" + "1" * 20, "ID14" + "1" * 20, "ATE1", "ATE0", "RTEY", "RTDL", "CLE", "LON1", "LON0", "PEI", "PDI",
]  # fmt: skip


@pytest.mark.parametrize("command", NEVER_SENT)
def test_what_must_never_be_sent_is_on_the_list_and_nothing_makes_it(command: str) -> None:
    assert NEVER.fullmatch(command)
    assert not any(command in made for made in COMMANDS.values())


def test_no_command_of_the_tables_is_on_the_list() -> None:
    assert not [one for made in COMMANDS.values() for one in made if NEVER.fullmatch(one)]


def test_a_row_that_makes_a_forbidden_command_sends_nothing() -> None:
    from dataclasses import replace

    bad = replace(PI30_SETTERS[0], form="PBF0{:03d}")
    with pytest.raises(CommandError, match="never sent"):
        bad.commands("utility_first", {})


def test_each_kind_of_unit_has_one_row_a_key() -> None:
    for rows in every_setter().values():
        for kind in Kind:
            for volts in (120.0, 230.0):
                keys = [row.key for row in rows if row.fits(kind, volts)]
                assert len(keys) == len(set(keys)), (kind, volts)


def test_each_row_is_shown_by_its_inquiry_under_its_key() -> None:
    tables = {"PI18": PI18, "PI41": PI41}
    for row in ROWS:
        if row.key in ("clock", "factory_reset"):
            continue
        table = tables["PI18" if row.kinds == (Kind.P18,) else "PI41" if row.kinds == (Kind.P41,) else "none"] \
            if row.kinds in ((Kind.P18,), (Kind.P41,)) else PI30
        shown = {item.key: item for item in table[row.source.command].every_field()}
        assert row.key in shown, row.key
        assert set(row.options) <= set(shown[row.key].options)
        assert row.name == shown[row.key].name


def test_dangerous_settings_are_of_class_c() -> None:
    dangerous = {
        "battery_under_voltage", "battery_bulk_voltage", "battery_float_voltage", "battery_type", "factory_reset",
        "equalization_enabled", "equalization_active", "equalization_time", "equalization_period", "output_mode",
        "equalization_voltage", "equalization_over_time", "flag_solar_feed_to_grid", "ac_output_rating_frequency",
        "ac_output_rating_voltage",
    }  # fmt: skip
    assert {row.key for row in ROWS if row.risk is Risk.DANGEROUS} == dangerous
    for key in dangerous:
        assert {row.risk for row in ROWS if row.key == key} == {Risk.DANGEROUS}, key


def row_of(key: str, kind: Kind = Kind.P30, volts: float = 230.0) -> Setter:
    rows = PI18_SETTERS if kind is Kind.P18 else PI30_SETTERS
    return next(row for row in rows if row.key == key and row.fits(kind, volts))


BOUNDS = [
    ("battery_recharge_voltage", 12, ["11", "11.3", "12.8"], ["11.1", "10.9", "13"]),
    ("battery_recharge_voltage", 24, ["22", "25.5"], ["21.5", "26", "22.3"]),
    ("battery_recharge_voltage", 48, ["44", "51"], ["43", "52", "44.5"]),
    ("battery_redischarge_voltage", 12, ["0", "12", "14.5"], ["11.8", "1", "14.6"]),
    ("battery_redischarge_voltage", 48, ["0", "48", "58"], ["47", "59"]),
    ("battery_under_voltage", 24, ["21", "21.0", "24"], ["20.9", "24.1"]),
    ("battery_under_voltage", 48, ["42", "48"], ["41.9", "48.1", "40"]),
    ("battery_bulk_voltage", 24, ["24", "29.2"], ["29.3", "23.9"]),
    ("battery_bulk_voltage", 48, ["48", "58.4"], ["58.5", "47.9", "58.45"]),
    ("battery_float_voltage", 48, ["48", "58.4"], ["58.5"]),
    ("equalization_voltage", 48, ["48", "61.00"], ["61.01"]),
    ("max_discharging_current", 48, ["0", "30", "150"], ["29", "151", "1"]),
]


@pytest.mark.parametrize(("key", "battery", "taken", "refused"), BOUNDS, ids=lambda one: str(one))
def test_volts_are_those_of_the_papers_for_the_battery(
    key: str, battery: int, taken: list[str], refused: list[str]
) -> None:
    kind = Kind.MAX if key == "max_discharging_current" else Kind.P30
    spelling = row_of(key, kind).bounded(float(battery), {}).spelling
    for text in taken:
        spelling.read(text)
    for text in refused:
        with pytest.raises(CommandError):
            spelling.read(text)


@pytest.mark.parametrize("key", ["battery_under_voltage", "battery_bulk_voltage", "battery_float_voltage"])
@pytest.mark.parametrize("battery", [12.0, 36.0, None])
def test_where_no_paper_gives_bounds_nothing_is_taken(key: str, battery: float | None) -> None:
    with pytest.raises(CommandError, match="bounds"):
        row_of(key).bounded(battery, {})


@pytest.mark.parametrize("row", [row for row in ROWS if row.by_volts], ids=lambda row: f"{row.key}-{row.kinds[0].name}")
def test_bounds_of_ones_own_are_proposed_only_where_the_configuration_takes_them(row: Setter) -> None:
    with pytest.raises(CommandError) as caught:
        row.bounded(36.0, {})
    taken = not [words for key, words in Options.conflicts({"bounds": {row.key: (40.0, 50.0)}}) if key == "bounds"]
    assert ("under bounds:" in str(caught.value)) is taken


def test_the_owners_bounds_take_the_place_of_the_papers_but_not_of_all_reason() -> None:
    row = row_of("battery_bulk_voltage")
    own = row.bounded(12.0, {"battery_bulk_voltage": (12.0, 14.6)}).spelling
    assert isinstance(own, Number)
    assert (own.minimum, own.maximum, own.step) == (Decimal(12), Decimal("14.6"), Decimal("0.1"))
    wide = row.bounded(48.0, {"battery_bulk_voltage": (10.0, 99.0)}).spelling
    assert isinstance(wide, Number)
    assert (wide.minimum, wide.maximum) == (Decimal(40), Decimal(63))
    with pytest.raises(CommandError, match="none for a battery"):
        row.bounded(48.0, {"battery_bulk_voltage": (12.0, 14.6)})


def test_the_owners_bounds_between_two_steps_are_never_widened() -> None:
    own = row_of("battery_under_voltage").bounded(48.0, {"battery_under_voltage": (45.75, 47.25)}).spelling
    assert isinstance(own, Number)
    assert (own.minimum, own.maximum) == (Decimal("45.8"), Decimal("47.2"))


def test_a_hundred_amperes_from_the_grid_need_a_unit_that_is_known() -> None:
    assert row_of("max_ac_charging_current", Kind.MAX).commands(100, {})[0] == "MUCHGC0100"
    assert row_of("max_ac_charging_current", Kind.MAX).commands(60, {})[0] == "MUCHGC060"
    for kind in (Kind.P30, Kind.GKMK, Kind.KING, Kind.P41, Kind.ODD):
        with pytest.raises(CommandError):
            row_of("max_ac_charging_current", kind).spelling.read("100")


COMMAND_CASES = [
    ("output_source_priority", Kind.P30, "solar_battery_utility", "POP02"),
    ("battery_redischarge_voltage", Kind.P30, 0.0, "PBDV00.0"),
    ("battery_bulk_voltage", Kind.P30, 56.4, "PCVV56.4"),
    ("battery_bulk_voltage", Kind.P18, 56.0, "MCHGV560,540"),
    ("battery_float_voltage", Kind.P18, 53.9, "MCHGV564,539"),
    ("battery_redischarge_voltage", Kind.P18, 0, "BUCD460,000"),
    ("battery_under_voltage", Kind.P18, 42.1, "PSDV421"),
    ("flag_buzzer", Kind.P30, True, "PEa"),
    ("flag_buzzer", Kind.P18, False, "PDA"),
    ("equalization_voltage", Kind.MAX, 58.4, "PBEQV58.40"),
    ("clock", Kind.MAX, "2026-11-26T21:05:09", "DAT261126210509"),
    ("ac_output_rating_frequency", Kind.P30, 60, "F60"),
    ("max_charging_current", Kind.P18, 60, "MCHGC0,060"),
]


@pytest.mark.parametrize(("key", "kind", "value", "command"), COMMAND_CASES, ids=lambda one: str(one))
def test_a_value_becomes_the_command_of_the_papers(key: str, kind: Kind, value: Value, command: str) -> None:
    assert row_of(key, kind).commands(value, NOW_SET)[0] == command


@given(st.sampled_from(ROWS), st.data())
def test_what_a_row_sends_a_unit_of_the_papers_stores_as_that_value(row: Setter, data: st.DataObject) -> None:
    """The simulator's own table is the judge: what it stores of a command is the value that was meant."""
    value = data.draw(st.sampled_from(values_of(row)))
    command = row.commands(value, NOW_SET)[0]
    models = {"PI18": "pi18"} if row.kinds == (Kind.P18,) else {"max": "max", "pi30": "pi30"}
    stored: dict[str, object] = {}

    def store(key: str, kept: object) -> object:
        stored[key] = kept
        return kept

    from bridge.simulators.axpert_frames import MODELS
    from bridge.simulators.axpert_plant import Unit

    for name in models.values():
        unit = Unit(MODELS[name], "1", {}, {})
        unit.reset()
        axpert_setters.apply(command, [unit], store)  # type: ignore[arg-type]
        key = {"solar_power_priority": "solar_priority"}.get(row.key, row.key).replace("ac_output_rating", "ac_output")
        key = "max_charging_current" if key == "max_charger_current" else key
        if key in stored and isinstance(row.spelling, Number | Switch):
            assert float(stored[key]) == pytest.approx(float(value))  # type: ignore[arg-type]


KINDS = [
    ("PI18", {}, Kind.P18), ("PI41", {"max_cv_charging_time": 0}, Kind.P41), ("PI30", {}, Kind.P30),
    ("PI30", {"max_cv_charging_time": 0}, Kind.KING), ("PI30", {"operation_logic": 0}, Kind.GKMK),
    ("PI30", {"operation_logic": 0, "max_discharging_current": 0}, Kind.MAX),
    ("PI30", {"max_discharging_current": 0, "_extra_fields": ["1"]}, Kind.ODD),
]  # fmt: skip


@pytest.mark.parametrize(("protocol", "decoded", "kind"), KINDS, ids=str)
def test_a_unit_is_known_by_the_form_of_its_ratings(protocol: str, decoded: dict[str, object], kind: Kind) -> None:
    assert kind_of(protocol, decoded) is kind


CONTRADICTIONS = [
    ("battery_float_voltage", 57.0, True), ("battery_float_voltage", 56.4, False),
    ("battery_bulk_voltage", 53.9, True), ("battery_bulk_voltage", 54.0, False),
    ("battery_under_voltage", 46.0, True), ("battery_under_voltage", 45.9, False),
    ("battery_recharge_voltage", 55, True), ("battery_recharge_voltage", 54, False),
    ("battery_recharge_voltage", 42, True),
    ("battery_redischarge_voltage", 45, True), ("battery_redischarge_voltage", 0, False),
    ("battery_type", "agm", False),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value", "refused"), CONTRADICTIONS, ids=str)
def test_voltages_that_make_no_sense_beside_each_other_are_refused(key: str, value: Value, refused: bool) -> None:
    now = {**NOW_SET, "battery_under_voltage": 42.0}
    assert (contradiction(key, value, now) is not None) is refused


def test_a_voltage_is_refused_while_its_neighbour_is_not_known() -> None:
    assert contradiction("battery_bulk_voltage", 56.0, {"battery_float_voltage": None}) is not None


def test_a_misspelled_name_is_told_the_nearest_one() -> None:
    assert nearest("charger-source-priorty", PI30_SETTERS) == "did you mean charger_source_priority?"
    assert "output_source_priority" in nearest("xyz", PI30_SETTERS)


@given(st.sampled_from(sorted(COMMANDS["PI30"])), st.booleans())
def test_a_setter_is_framed_with_a_right_checksum(command: str, second: bool) -> None:
    forms = frame.forms(command)
    data = forms[-1] if second else forms[0]
    assert frame.matches(data[:-3], data[-3:-1])
    assert data.count(b"\r") == 1
    assert b"\n" not in data


def test_a_setter_of_pi18_counts_its_bytes() -> None:
    assert pi18.setters("POP1")[0][:-3] == b"^S007POP1"
    assert pi18.setters("MCHGC0,060")[0][:5] == b"^S013"
    assert pi18.setters("DAT261126210509")[0][:5] == b"^S018"


def test_now_is_a_moment_by_the_time_it_is_sent() -> None:
    with pytest.raises(ValueError, match="isoformat"):
        row_of("clock", Kind.MAX).commands(NOW, {})
