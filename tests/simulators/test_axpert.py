"""What the simulated Axpert says, held against the vendor's papers: lengths, field counts, physics, settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from bridge.simulators.axpert import AxpertSimulator
from bridge.simulators.axpert_frames import crc, crc_bytes, frame
from bridge.simulators.living import DayClock
from tests.simulators.host import Host, command, holds, pi18, xmodem

Opened = tuple[AxpertSimulator, Host]


@pytest.fixture
def unit() -> Iterator[Any]:
    """Start an Axpert that answers at once and open its port."""
    opened: list[Opened] = []

    def build(model: str = "pi30", baud: float | None = None, **options: Any) -> Opened:
        simulator = AxpertSimulator(model=model, baud=baud, **options).start()
        opened.append((simulator, Host.tty(simulator.port)))
        return opened[-1]

    yield build
    for simulator, host in opened:
        host.close()
        simulator.stop()


class SetClock(DayClock):
    """A day clock that a test sets by hand."""

    def __init__(self, start: datetime) -> None:
        self.real = 0.0
        super().__init__(start, real=lambda: self.real)

    def forward(self, hours: float) -> None:
        self.real += hours * 3600


# fmt: off
PUBLISHED = [
    # (text, CRC as computed, CRC as sent): vendor papers and the seed scripts' comments
    ("QPI", "beac", "beac"), ("QPIGS", "b7a9", "b7a9"), ("QPIRI", "f854", "f854"), ("QMOD", "49c1", "49c1"),
    ("QPIWS", "b4da", "b4da"), ("QPGS0", "3fda", "3fda"), ("QGMN", "4928", "4929"), ("QBOOT", "0a88", "0b88"),
    ("POP02", "e20a", "e20b"), ("(NAK", "7373", "7373"), ("(ACK", "3920", "3920"), ("^1", "0bc2", "0bc2"),
    ("^0", "1be3", "1be3"),
]
# fmt: on


@pytest.mark.parametrize(("text", "computed", "sent"), PUBLISHED)
def test_the_crc_is_the_published_one(text: str, computed: str, sent: str) -> None:
    assert f"{crc(text.encode()):04x}" == computed
    assert frame(text.encode()) == text.encode() + bytes.fromhex(sent) + b"\r"


def test_the_crc_is_xmodem() -> None:
    assert crc(b"123456789") == xmodem(b"123456789") == 0x31C3


# fmt: off
ANSWERS = [
    # (model, command, bytes of the whole frame, fields)
    ("pi30", "QPI", 8, 1), ("pi30", "QID", 18, 1), ("pi30", "QVFW", 18, 1), ("pi30", "QVFW2", 19, 1),
    ("pi30", "QGMN", 7, 1), ("pi30", "QPIGS", 110, 21), ("pi30", "QPIRI", 98, 25), ("pi30", "QMOD", 5, 1),
    ("pi30", "QPIWS", 36, 1), ("pi30", "QFLAG", 15, 1), ("pi30", "QDI", 79, 25), ("pi30", "QPGS0", 133, 27),
    ("pi30", "QMCHGCR", 35, 8), ("pi30", "QMUCHGCR", 31, 7), ("pi30", "QOPM", 6, 1), ("pi30", "QBOOT", 5, 1),
    ("max", "QPIGS", 120, 24), ("max", "QPIGS2", 21, 3), ("max", "QPIRI", 109, 28), ("max", "QPIWS", 40, 1),
    ("max", "QPGS0", 143, 29), ("max", "QDI", 87, 27), ("max", "QBEQI", 42, 10), ("max", "QT", 18, 1),
    ("max", "QET", 12, 1), ("max", "QEY2026", 12, 1), ("max", "QEM202606", 12, 1), ("max", "QED20260601", 12, 1),
    ("max", "QLT", 12, 1), ("max", "QLY2026", 12, 1), ("max", "QLM202606", 12, 1), ("max", "QLD20260601", 12, 1),
    ("max", "QSID", 26, 1), ("max", "QOPPT", 59, 28), ("max", "QCHPT", 59, 28), ("max", "QMN", 12, 1),
    ("max", "QMUCHGCR", 55, 13), ("max", "QLED", 23, 6), ("max", "QFLAG", 16, 1),
    ("old", "QPIGS", 94, 17), ("old", "QPIRI", 97, 25), ("old", "QPIWS", 36, 1), ("old", "QDI", 79, 25),
]
UNKNOWN = [
    ("pi30", "QPIGS2"), ("pi30", "QET"), ("pi30", "QMN"), ("pi30", "QT"), ("pi30", "QPGS9"),
    ("pi30", "NONSENSE"), ("pi30", "Q"),
    ("old", "QPGS0"), ("old", "QVFW2"), ("old", "QPIGS2"), ("old", "QGMN"), ("old", "QBOOT"),
    ("max", "QED2026"), ("max", "QBMS"),
    ("pi30", "^P005PI"),
]
# fmt: on


@pytest.mark.parametrize(("model", "query", "length", "count"), ANSWERS)
def test_an_answer_has_the_length_and_fields_of_its_model(
    unit: Any, model: str, query: str, length: int, count: int
) -> None:
    _, host = unit(model)
    reply = host.ask(query)
    assert len(reply) == length
    assert holds(reply)
    assert len(reply[1:-3].decode().rstrip().split(" ")) == count
    assert b"\r" not in reply[:-1]
    assert b"(" not in reply[1:]


@pytest.mark.parametrize(("model", "query"), UNKNOWN)
def test_what_a_model_does_not_know_is_refused(unit: Any, model: str, query: str) -> None:
    _, host = unit(model)
    assert host.ask(query) == b"(NAKss\r"


def test_a_command_with_a_wrong_crc_is_refused(unit: Any) -> None:
    _, host = unit()
    host.write(b"QPIGS\xb7\xa8\r")
    assert host.read_until() == b"(NAKss\r"


def test_every_field_has_its_form_at_every_hour(unit: Any) -> None:
    clock = SetClock(datetime(2026, 6, 1, 0, 0))
    _, host = unit("max", clock=clock)
    host.ask("POP02")
    form = (
        r"\(\d{3}\.\d \d\d\.\d \d{3}\.\d \d\d\.\d \d{4} \d{4} \d{3} \d{3} \d\d\.\d\d \d{3} \d{3} \d{4} \d\d\.\d "
        r"\d{3}\.\d \d\d\.\d\d \d{5} [01]{8} \d\d \d\d \d{5} [01]{3} \d \d\d \d{4}"
    )
    for _ in range(48):
        reply = host.ask("QPIGS")
        assert re.fullmatch(form, reply[:-3].decode()), reply
        clock.forward(0.5)


def test_the_values_agree_with_each_other(unit: Any) -> None:
    clock = SetClock(datetime(2026, 6, 1, 0, 0))
    _, host = unit("pi30", clock=clock)
    host.ask("POP02")
    sunny = dark = 0
    for _ in range(96):
        f = host.fields("QPIGS")
        volts, watts, apparent = float(f[8]), int(f[5]), int(f[4])
        charge, discharge, pv = int(f[9]), int(f[15]), int(f[19])
        assert apparent >= watts > 0
        assert abs(int(f[6]) - max(watts / 40, apparent / 50)) <= 1
        assert charge == 0 or discharge == 0
        assert f[16][5] == ("1" if charge else f[16][5])
        if host.fields("QMOD") == ["B"]:
            # what the sun gives, the load takes (with 7 % lost) and the battery gives or takes must add up
            balance = pv - watts / 0.93 - (charge - discharge) * volts
            assert abs(balance) < 0.6 * volts + 5 or int(f[10]) >= 92
        if pv:
            sunny += 1
            assert abs(float(f[13]) * int(f[12]) - pv) <= float(f[13]) / 2 + 1
        else:
            dark += 1
            assert (f[12], f[13]) == ("0000", "000.0")
        clock.forward(0.25)
    assert sunny > 20
    assert dark > 20


def test_the_state_of_charge_moves_with_the_sun_and_the_counters_grow(unit: Any) -> None:
    clock = SetClock(datetime(2026, 6, 1, 20, 0))
    simulator, host = unit("max", clock=clock)
    host.ask("POP02")
    evening = int(host.fields("QPIGS")[10])
    clock.forward(9)
    morning = int(host.fields("QPIGS")[10])
    clock.forward(6)
    noon = int(host.fields("QPIGS")[10])
    assert morning < evening
    assert noon > morning
    day = int(host.fields("QED20260602")[0])
    assert day > 1000
    assert int(host.fields("QEM202606")[0]) == int(host.fields("QEY2026")[0]) >= day
    assert int(host.fields("QET")[0]) >= 7_000_000 + day
    assert int(host.fields("QLD20260602")[0]) > 1000
    assert host.fields("QED20250101") == ["00000000"]
    assert simulator.plant.battery.soc < 100.5


def test_the_same_seed_gives_the_same_answers_however_often_it_is_asked(unit: Any) -> None:
    def after_a_day(seed: int, steps: int) -> list[str]:
        clock = SetClock(datetime(2026, 6, 1, 12, 0))
        simulator, host = unit("pi30", clock=clock, seed=seed)
        host.ask("POP02")
        for _ in range(steps):
            clock.forward(24 / steps)
            host.ask("QPIGS")
        simulator.call(lambda: setattr(simulator, "sequence", 0))
        return host.fields("QPIGS")

    once = after_a_day(1, 2)
    assert after_a_day(1, 24) == once
    assert after_a_day(2, 2) != once


def test_without_grid_the_unit_runs_on_the_battery_and_stops_when_it_is_empty(unit: Any) -> None:
    simulator, host = unit()
    assert host.fields("QMOD") == ["L"]
    simulator.plant.grid_present = False
    assert host.fields("QMOD") == ["B"]
    f = host.fields("QPIGS")
    assert (f[0], f[1]) == ("000.0", "00.0")
    assert host.fields("QPIWS")[0][5] == "1"
    simulator.plant.battery.soc = 1.0
    assert host.fields("QMOD") == ["S"]
    f = host.fields("QPIGS")
    assert (f[2], f[5], f[16][3]) == ("000.0", "0000", "0")


def test_a_fault_shows_in_mode_warnings_and_parallel_status(unit: Any) -> None:
    simulator, host = unit(units=2)
    simulator.plant.fault_code = 51
    simulator.plant.warnings.add(18)
    assert host.fields("QMOD") == ["F"]
    warnings = host.fields("QPIWS")[0]
    assert (warnings[1], warnings[18]) == ("1", "1")
    assert host.fields("QPGS0")[3] == "51"


def test_three_units_share_load_and_totals_under_their_own_serial_numbers(unit: Any) -> None:
    _, host = unit("pi30", units=3, cable=1)
    rows = [host.fields(f"QPGS{n}") for n in range(3)]
    assert [row[0] for row in rows] == ["1", "1", "1"]
    assert len({row[1] for row in rows}) == 3
    assert all(re.fullmatch(r"\d{14}", row[1]) for row in rows)
    assert host.fields("QID") == [rows[1][1]]
    for total, part in ((15, 12), (16, 8), (17, 9)):
        assert {int(row[total]) for row in rows} == {sum(int(row[part]) for row in rows)}
    assert {row[20] for row in rows} == {"1"}
    absent = host.fields("QPGS3")
    assert absent[:2] == ["0", "0" * 14]
    assert absent[16] == rows[0][16]


def test_a_lone_unit_says_it_is_in_no_set_but_gives_a_good_record(unit: Any) -> None:
    _, host = unit()
    f = host.fields("QPGS0")
    assert (f[0], [f[1]]) == ("0", host.fields("QID"))
    assert float(f[11]) > 40


# fmt: off
SETTINGS = [
    # (model, setter, query that shows it, field, what it then says)
    ("pi30", "POP02", "QPIRI", 16, "2"), ("pi30", "POP00", "QPIRI", 16, "0"),
    ("pi30", "PCP03", "QPIRI", 17, "3"),
    ("pi30", "PGR01", "QPIRI", 15, "1"), ("pi30", "PBT01", "QPIRI", 12, "1"),
    ("pi30", "PBCV47.0", "QPIRI", 8, "47.0"),
    ("pi30", "PBDV00.0", "QPIRI", 22, "00.0"), ("pi30", "PBDV52.0", "QPIRI", 22, "52.0"),
    ("pi30", "PSDV44.1", "QPIRI", 9, "44.1"),
    ("pi30", "PCVV58.4", "QPIRI", 10, "58.4"), ("pi30", "PBFT53.6", "QPIRI", 11, "53.6"),
    ("pi30", "MUCHGC020", "QPIRI", 13, "20"),
    ("pi30", "MCHGC080", "QPIRI", 14, "080"), ("pi30", "MNCHGC0040", "QPIRI", 14, "040"),
    ("pi30", "PPVOKC1", "QPIRI", 23, "1"),
    ("pi30", "PSPB0", "QPIRI", 24, "0"), ("pi30", "F60", "QPIRI", 3, "60.0"),
    ("pi30", "V240", "QPIRI", 2, "240.0"),
    ("old", "PCVV29.2", "QPIRI", 10, "29.2"), ("old", "PBCV23.5", "QPIRI", 8, "23.5"),
    ("old", "MCHGC030", "QPIRI", 14, "30"),
    ("max", "PBT03", "QPIRI", 12, "3"), ("max", "PCVT480", "QPIRI", 25, "480"),
    ("max", "PBATMAXDISC070", "QPIRI", 27, "070"),
    ("max", "MUCHGC0120", "QPIRI", 13, "120"), ("max", "MNCHGC0110", "QPIRI", 14, "110"),
    ("max", "PBEQE1", "QBEQI", 0, "1"),
    ("max", "PBEQV57.65", "QBEQI", 5, "57.65"), ("max", "PBEQT045", "QBEQI", 1, "045"),
    ("max", "PBEQP007", "QBEQI", 2, "007"),
    ("max", "PBEQOT200", "QBEQI", 7, "200"), ("max", "PBEQA1", "QBEQI", 8, "1"),
    ("max", "PCP02", "QPIRI", 17, "2"),
]
REFUSED = [
    ("pi30", "POP03"), ("pi30", "POP2"), ("pi30", "PCVV58.5"), ("pi30", "PCVV47.9"), ("pi30", "PCVV9.0"),
    ("pi30", "PBCV46.5"),
    ("pi30", "PBT02"), ("pi30", "PBDV47.0"), ("pi30", "MUCHGC070"), ("pi30", "MUCHGC130"), ("pi30", "MCHGC095"),
    ("pi30", "PCVT100"),
    ("pi30", "PEd"), ("pi30", "PEA"), ("pi30", "PE"), ("pi30", "SID0512345"), ("pi30", "PBFT58.50"),
    ("pi30", "PSDV48.1"),
    ("max", "PCP00"), ("max", "MCHGC050"), ("max", "PSPB1"), ("max", "PBATMAXDISC020"), ("max", "PCVT007"),
    ("max", "MUCHGC100"),
    ("old", "PCVV56.4"), ("old", "PBEQE1"),
]
# fmt: on


@pytest.mark.parametrize(("model", "setter", "query", "place", "said"), SETTINGS)
def test_a_setting_is_acknowledged_and_read_back(
    unit: Any, model: str, setter: str, query: str, place: int, said: str
) -> None:
    _, host = unit(model)
    before = host.fields(query)
    assert host.ask(setter) == b"(ACK9 \r"
    after = host.fields(query)
    assert after[place] == said
    assert [a for i, a in enumerate(after) if i != place] == [b for i, b in enumerate(before) if i != place]


@pytest.mark.parametrize(("model", "setter"), REFUSED)
def test_a_setting_out_of_bounds_or_form_is_refused_and_changes_nothing(unit: Any, model: str, setter: str) -> None:
    _, host = unit(model)
    before = host.fields("QPIRI"), host.fields("QFLAG")
    assert host.ask(setter) == b"(NAKss\r"
    assert (host.fields("QPIRI"), host.fields("QFLAG")) == before


def test_flags_are_switched_one_or_several_at_a_time(unit: Any) -> None:
    _, host = unit()
    assert host.fields("QFLAG") == ["EkxyzDabjuv"]
    assert host.ask("PEa") == host.ask("PDxz") == host.ask("PEuvPDk") == b"(ACK9 \r"
    assert host.fields("QFLAG") == ["EauvyDbjkxz"]


def test_the_factory_reset_brings_back_what_the_defaults_say(unit: Any) -> None:
    _, host = unit("max")
    defaults = host.fields("QDI")
    first = host.fields("QPIRI")
    for setter in ("POP02", "PCVV55.0", "PEa", "MUCHGC010"):
        assert host.ask(setter) == b"(ACK9 \r"
    assert host.fields("QDI") == defaults
    assert host.ask("PF") == b"(ACK9 \r"
    assert host.fields("QPIRI") == first
    assert host.fields("QFLAG") == ["EkxyzDabdjuv"]
    assert (defaults[5], defaults[9], defaults[12]) == (first[10], first[16], "0")


def test_one_unit_of_a_set_takes_a_setting_of_its_own(unit: Any) -> None:
    _, host = unit(units=3)
    assert host.ask("PPCP103") == host.ask("MNCHGC2020") == b"(ACK9 \r"
    assert [host.fields(f"QPGS{n}")[21] for n in range(3)] == ["0", "3", "0"]
    assert [host.fields(f"QPGS{n}")[22] for n in range(3)] == ["060", "060", "020"]
    assert host.ask("PPCP303") == b"(NAKss\r"


def test_the_clock_is_set_and_runs_on(unit: Any) -> None:
    clock = SetClock(datetime(2026, 6, 1, 12, 0))
    _, host = unit("max", clock=clock)
    assert host.fields("QT") == ["20260601120000"]
    assert host.ask("DAT260704091500") == b"(ACK9 \r"
    clock.forward(1)
    assert host.fields("QT") == ["20260704101500"]
    assert host.ask("DAT261304091500") == b"(NAKss\r"


def test_a_changed_setting_raises_its_status_bit_once(unit: Any) -> None:
    _, host = unit()
    assert host.fields("QPIGS")[16][1] == "0"
    host.ask("POP01")
    assert [host.fields("QPIGS")[16][1] for _ in range(2)] == ["1", "0"]


def test_each_status_leads_back_to_its_frame_in_the_truth_log(unit: Any) -> None:
    simulator, host = unit(units=2)
    for _ in range(60):
        status, parallel = host.fields("QPIGS"), host.fields("QPGS1")
        host.ask("QMOD")
        truth = simulator.truth.wait(lambda record: record.frame == "QMOD" and record.sequence == simulator.sequence)
        *_, one, other, _ = simulator.truth.records()
        assert truth.values == {"text": "L"}
        assert (one.frame, other.frame) == ("QPIGS", "QPGS1")
        assert round(float(status[2]) * 10) % 100 == int(status[7]) % 100 == one.sequence % 100
        assert round(float(parallel[6]) * 10) % 100 == other.sequence % 100
        assert other.unit == parallel[1] == other.values["serial_number"]
        # the record says what the frame says, rounded as it is there
        assert [float(status[i]) for i in range(16)] == list(one.values.values())[:16]
        assert one.whole
    assert 225 <= float(status[2]) < 235


def test_a_poll_at_line_speed_takes_its_bytes_and_no_less(unit: Any) -> None:
    _, host = unit(baud=2400)
    asked = host.write(command("QMOD"))
    assert len(host.read_until()) == 5
    assert host.arrivals[-1][0] >= asked + (7 + 5) * 10 / 2400


def test_over_hid_a_command_goes_in_reports_and_the_answer_comes_in_reports() -> None:
    with AxpertSimulator(model="max", transport="hidraw", baud=None) as simulator:
        host = Host.hidraw(simulator.open_hidraw())
        for query, length in (("QPIGS", 120), ("QPIGS2", 21), ("QED20260601", 12), ("QMOD", 5)):
            host.arrivals.clear()
            host.write_reports(command(query))
            reply = host.read_until()
            assert holds(reply.rstrip(b"\0")), reply
            assert len(reply) == -(-length // 8) * 8
            assert {len(data) for _, data in host.arrivals} == {8}
        host.close()


def test_a_new_command_drops_the_answer_under_way_at_a_report_boundary() -> None:
    with AxpertSimulator(transport="hid", baud=9600) as simulator:
        host = Host.tty(simulator.port)
        host.write(command("QPIGS"))
        taken = host.read_count(16)
        host.write(command("QPIGS"))
        taken += host.read_until()
        start = taken.rindex(b"(")
        assert start % 8 == 0
        assert 16 <= start < 110
        assert holds(taken[start:].rstrip(b"\0"))
        host.close()


# fmt: off
PI18_ANSWERS = [
    # (query, fields, length that the frame declares)
    ("PI", 1, 5), ("ID", 1, 25), ("VFW", 3, 20), ("GS", 28, 106), ("PIRI", 26, 89), ("MOD", 1, 5), ("FWS", 17, 37),
    ("FLAG", 9, 20), ("ET", 1, 11), ("EY2026", 1, 11), ("EM202606", 1, 11), ("ED20260601", 1, 11), ("T", 1, 17),
    ("MCHGCR", 7, 30), ("MUCHGCR", 8, 34),
]
PI18_SETTINGS = [
    ("POP1", 17, "1"), ("PCP0,1", 18, "1"), ("MCHGV560,540", 11, "560"), ("BUCD470,000", 8, "470"),
    ("PSDV430", 10, "430"),
    ("PBT2", 13, "2"), ("MUCHGC0,040", 14, "040"), ("MCHGC0,080", 15, "080"), ("PSP1", 23, "1"),
    ("PGR1", 16, "1"),
]
# fmt: on


@pytest.mark.parametrize(("query", "count", "declared"), PI18_ANSWERS)
def test_a_pi18_unit_declares_the_length_it_sends(unit: Any, query: str, count: int, declared: int) -> None:
    _, host = unit("pi18")
    host.write(pi18("P", query))
    reply = host.read_until()
    assert holds(reply)
    assert reply[:5] == f"^D{declared:03d}".encode()
    assert len(reply) == declared + 5
    assert len(reply[5:-3].split(b",")) == count


@pytest.mark.parametrize(("setter", "place", "said"), PI18_SETTINGS)
def test_a_pi18_setting_is_read_back(unit: Any, setter: str, place: int, said: str) -> None:
    _, host = unit("pi18")
    host.write(pi18("S", setter))
    assert host.read_until() == bytes.fromhex("5e310bc20d")
    host.write(pi18("P", "PIRI"))
    assert host.read_until()[5:-3].decode().split(",")[place] == said


def test_a_pi18_unit_refuses_what_it_does_not_know(unit: Any) -> None:
    _, host = unit("pi18")
    for wrong in (command("QPI"), command("^P006PI"), pi18("P", "NO"), pi18("S", "POP2"), pi18("S", "MCHGV600,540")):
        host.write(wrong)
        assert host.read_until() == bytes.fromhex("5e301be30d")
    host.write(command("^P005FWS"))
    assert host.read_until().startswith(b"^D037")


def test_a_pi18_status_carries_its_sequence_and_a_flag_can_be_switched(unit: Any) -> None:
    simulator, host = unit("pi18")
    for setter in ("PDA", "PEB"):
        host.write(pi18("S", setter))
        assert host.read_until().startswith(b"^1")
    host.write(pi18("P", "FLAG"))
    assert host.read_until()[5:-3] == b"0,1,1,0,0,1,1,1,0"
    host.write(pi18("P", "GS"))
    fields = host.read_until()[5:-3].decode().split(",")
    record = simulator.truth.wait(lambda record: record.frame == "GS")
    assert int(fields[2]) % 100 == record.sequence % 100
    assert crc_bytes(b"^D00518") == xmodem(b"^D00518").to_bytes(2, "big")


def test_the_command_line_options_build_the_simulator_they_describe() -> None:
    import argparse

    from bridge import simulators

    parser = argparse.ArgumentParser()
    simulators.add_arguments(parser)
    words = "axpert --model max --units 3 --baud 0 --hour 13.5 --speed 60"
    options = parser.parse_args(words.split())
    built = simulators.from_arguments(options)
    assert isinstance(built, AxpertSimulator)
    assert (built.model.name, len(built.plant.units), built.line.baud) == ("max", 3, None)
    assert built.plant.date().hour == 13
    default = simulators.from_arguments(parser.parse_args(["axpert"]))
    assert isinstance(default, AxpertSimulator)
    assert default.line.baud == 2400
    with pytest.raises(SystemExit):
        parser.parse_args(["toaster"])
