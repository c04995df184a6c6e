"""Each knob of the simulated Axpert does what it says, and nothing after clear()."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.simulators.axpert import AxpertSimulator
from tests.simulators.host import Host, command, holds, xmodem

NAK = b"(NAKss\r"
ACK = b"(ACK9 \r"


@pytest.fixture
def unit() -> Iterator[tuple[AxpertSimulator, Host]]:
    with AxpertSimulator(model="max", baud=None) as simulator:
        host = Host.tty(simulator.port)
        yield simulator, host
        host.close()


Pair = tuple[AxpertSimulator, Host]


def test_nak_to_everything(unit: Pair) -> None:
    simulator, host = unit
    simulator.faults.nak_all = True
    assert {host.ask(query) for query in ("QPI", "QPIGS", "POP02")} == {NAK}
    simulator.faults.clear()
    assert holds(host.ask("QPIGS"))
    assert host.fields("QPIRI")[16] == "0"


def test_a_bare_nak_has_no_crc(unit: Pair) -> None:
    simulator, host = unit
    simulator.faults.nak_bare = True
    assert host.ask("QBMS") == b"(NAK\r"
    assert holds(host.ask("QMOD"))


def test_silence_ends_when_it_is_lifted(unit: Pair) -> None:
    simulator, host = unit
    simulator.faults.silent = True
    host.write(command("QMOD"))
    assert host.silence() == b""
    simulator.faults.silent = False
    assert host.fields("QMOD") == ["L"]
    assert [record.whole for record in simulator.truth.records()] == [False, True]


def test_a_locked_unit_stays_silent_until_it_is_power_cycled_and_keeps_its_settings(unit: Pair) -> None:
    simulator, host = unit
    assert host.ask("POP02") == ACK
    simulator.faults.locked = True
    host.write(command("QMOD"))
    assert host.silence() == b""
    simulator.power_cycle()
    assert host.fields("QPIRI")[16] == "2"


def test_a_wrong_crc_is_wrong_and_the_truth_is_not_whole(unit: Pair) -> None:
    simulator, host = unit
    simulator.faults.wrong_crc = True
    reply = host.ask("QMOD")
    assert len(reply) == 5
    assert not holds(reply)
    assert not simulator.truth.wait(lambda record: record.frame == "QMOD").whole


@pytest.mark.parametrize("model", ["pi30", "old", "max"])
def test_a_zero_byte_in_the_crc_goes_out_as_it_is_or_as_one(model: str) -> None:
    with AxpertSimulator(model=model, baud=None) as simulator:
        host = Host.tty(simulator.port)
        simulator.faults.zero_crc = True
        reply = host.ask("QPIGS")
        assert 0 in reply[-3:-1]
        assert holds(reply)
        simulator.faults.bump_zero = True
        reply = host.ask("QPIGS")
        plain = xmodem(reply[:-3]).to_bytes(2, "big")
        assert 0 in plain
        assert reply[-3:-1] == bytes(byte + 1 if byte in b"\0(\r\n" else byte for byte in plain)
        host.close()


def test_line_feeds_behind_and_in_the_place_of_the_end(unit: Pair) -> None:
    simulator, host = unit
    simulator.faults.line_feed = True
    host.write(command("QMOD"))
    assert host.read_until(b"\n") == b"(L\x06\x07\r\n".replace(b"\x06\x07", xmodem(b"(L").to_bytes(2, "big"))
    simulator.faults.clear()
    simulator.faults.line_feed_end = True
    host.write(command("QMOD"))
    reply = host.read_until(b"\n")
    assert b"\r" not in reply
    assert holds(reply[:-1] + b"\r")


def test_an_unknown_command_can_be_echoed(unit: Pair) -> None:
    simulator, host = unit
    simulator.faults.echo_unknown = True
    assert host.ask("QBMS") == command("QBMS")


def zero_commands() -> tuple[bytes, bytes]:
    """A query with a zero byte in its CRC: with 1 in its place, and as computed."""
    for day in range(1, 2000):
        text = f"QED{20260000 + day:08d}".encode()
        plain = xmodem(text).to_bytes(2, "big")
        if 0 in plain:
            return command(text.decode()), text + plain + b"\r"
    raise AssertionError("no such day")


def test_a_unit_may_want_zero_bytes_of_a_command_one_way_only(unit: Pair) -> None:
    simulator, host = unit
    bumped, plain = zero_commands()
    assert bumped != plain
    for sent in (bumped, plain):
        host.write(sent)
        assert holds(host.read_until())
    simulator.faults.needs_bumped_zero = True
    host.write(plain)
    assert host.silence() == b""
    host.write(bumped)
    assert len(host.read_until()) == 12
    simulator.faults.clear()
    simulator.faults.needs_plain_zero = True
    host.write(bumped)
    assert host.read_until() == NAK
    host.write(plain)
    assert len(host.read_until()) == 12


def test_a_setting_can_be_acknowledged_and_forgotten(unit: Pair) -> None:
    simulator, host = unit
    simulator.faults.forget_settings = True
    assert host.ask("POP02") == host.ask("PEa") == host.ask("DAT200101000000") == ACK
    assert host.ask("POP07") == NAK
    assert host.fields("QPIRI")[16] == "0"
    assert host.fields("QFLAG") == ["EkxyzDabdjuv"]
    assert host.fields("QT")[0].startswith("2026")


def test_a_setting_can_be_stored_as_another_value(unit: Pair) -> None:
    simulator, host = unit
    simulator.faults.store_other = 33
    assert host.ask("MUCHGC020") == ACK
    assert host.fields("QPIRI")[13] == "033"


def test_a_setting_can_be_stored_without_a_word(unit: Pair) -> None:
    simulator, host = unit
    simulator.faults.mute_setters = True
    host.write(command("POP02"))
    assert host.silence() == b""
    assert host.fields("QPIRI")[16] == "2"


def test_a_reply_can_be_cut_at_one_report_and_the_next_one_joined_to_it(unit: Pair) -> None:
    simulator, host = unit
    simulator.faults.cut, simulator.faults.times = 8, 1
    host.write(command("QPIGS"))
    assert len(host.read_count(8)) == 8
    assert host.silence(0.05) == b""
    host.write(command("QPIGS"))
    assert holds(host.read_until())


def test_the_unit_vanishes_and_comes_back_under_another_name(tmp_path: Path) -> None:
    with AxpertSimulator(link=tmp_path / "hid0", transport="hid", baud=None) as simulator:
        first = Host.tty(simulator.port)
        serial = first.fields("QID")
        first.ask("POP01")
        simulator.unplug()
        assert not (tmp_path / "hid0").exists()
        simulator.replug(tmp_path / "hid1")
        second = Host.tty(str(tmp_path / "hid1"))
        assert second.fields("QID") == serial
        assert second.fields("QPIRI")[16] == "1"
        first.close()
        second.close()


def test_noise_from_the_host_is_thrown_away(unit: Pair) -> None:
    _, host = unit
    host.write(b"x" * 300)
    assert host.silence(0.05) == b""
    assert host.ask("QMOD") in (NAK, b"(L" + xmodem(b"(L").to_bytes(2, "big") + b"\r")
    assert host.fields("QMOD") == ["L"]
