"""The consoles of simulated stacks, read by a host that knows what is documented of them."""

from __future__ import annotations

import os
import termios
import threading
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from bridge.simulators.living import DayClock
from bridge.simulators.pylontech_console import ConsoleSimulator, Extra2000Simulator
from tests.shared import vectors
from tests.simulators.host import Host

WAKE = b"~20014682C0048520FCC3\r"
SPEEDS = {1200: termios.B1200, 19200: termios.B19200, 115200: termios.B115200}


class Console:
    """A started console with a host on its port."""

    def __init__(self, unit: ConsoleSimulator) -> None:
        self.unit = unit.start()
        self.host = Host.tty(unit.port)

    def speed(self, baud: int) -> None:
        attributes = termios.tcgetattr(self.host.fd)
        attributes[4] = attributes[5] = SPEEDS[baud]
        termios.tcsetattr(self.host.fd, termios.TCSANOW, attributes)

    def raw(self, command: str, timeout: float = 5.0) -> bytes:
        self.host.write(command.encode() + b"\n")
        return self.host.read_until(b">", timeout)

    def ask(self, command: str) -> list[str]:
        """Return the lines between the marks, without the success line."""
        said = self.raw(command).decode()
        echo, _, rest = said.partition("@")
        assert echo == f"{command}\n\r"
        body, mark, prompt = rest.rpartition("$$")
        assert mark == "$$"
        assert prompt in ("\r\n\rpylon>", "\r\n\rpylon_debug>")
        lines = [line for line in body.replace("\r", "\n").split("\n") if line.strip()]
        assert lines[-1] == "Command completed successfully", lines
        return lines[:-1]

    def fields(self, command: str) -> dict[str, str]:
        """Return the lines of `name : value`."""
        found = (line.split(":", 1) for line in self.ask(command) if ":" in line)
        return {name.strip(): value.strip() for name, value in found}

    def table(self, command: str = "pwr") -> list[dict[str, str]]:
        """Return the present rows of `pwr` by header."""
        head, *rows = (line.split() for line in self.ask(command))
        present = [[*row[: head.index("Time")], " ".join(row[head.index("Time") :][:2]), *row[head.index("Time") + 2 :]]
                   for row in rows if "Absent" not in row]  # fmt: skip
        return [dict(zip(head, row, strict=True)) for row in present]

    def close(self) -> None:
        self.host.close()
        self.unit.stop()


@pytest.fixture
def console() -> Iterator[Any]:
    made: list[Console] = []

    def build(kind: type[ConsoleSimulator] = ConsoleSimulator, **options: Any) -> Console:
        made.append(Console(kind(**{"baud": None, "clock": DayClock(datetime(2026, 6, 1, 10)), **options})))
        return made[-1]

    yield build
    for one in made:
        one.close()


def test_an_answer_has_the_line_ends_of_the_wire(console: Any) -> None:
    assert console().raw("fly") == (
        b"fly\n\r@\r\r\nUnknown command 'fly' - try 'help'\r\r\n\r$$\r\n\rpylon>"
    )  # fmt: skip


def test_an_empty_line_brings_the_prompt(console: Any) -> None:
    assert console().raw("") == b"\n\rpylon>"


@pytest.mark.parametrize(
    ("layout", "columns", "rows"), [("2019", 16, 8), ("c", 18, 16), ("us3000d", 22, 16), ("2024", 23, 16)]
)
def test_every_layout_of_pwr_has_its_columns_and_rows(console: Any, layout: str, columns: int, rows: int) -> None:
    unit = console(modules=["US2000C", "US2000"], layout=layout)
    head, *lines = unit.ask("pwr")
    assert (len(head.split()), len(lines)) == (columns, rows)
    # absent rows keep the old columns, so Absent does not stand under Base.St of the newer ones
    assert {line.index("Absent") for line in lines[2:]} == {55}
    assert (head.index("Base.St") == 55) == (layout in ("2019", "c"))
    first, second = unit.table()
    assert int(first["Vlow"]) <= int(first["Vhigh"])
    if "MosTempr" in first:
        assert (first["MosTempr"] != "-", second["MosTempr"]) == (True, "-")


@pytest.mark.parametrize(("master", "layout"), [("US2000", 16), ("US2000C", 18), ("US3000D", 22), ("US5000", 23)])
def test_the_master_decides_on_the_layout(console: Any, master: str, layout: int) -> None:
    assert len(console(modules=[master, "US2000"]).ask("pwr")[0].split()) == layout


def test_pwr_rows_and_blocks_carry_the_sequence_in_the_voltage(console: Any) -> None:
    unit = console(modules=3)
    for _ in range(12):
        rows = unit.table()
        assert {int(row["Volt"]) % 100 for row in rows} == {unit.unit.sequence % 100}
        assert int(unit.fields("pwr 2")["Voltage"].split()[0]) % 100 == unit.unit.sequence % 100


def test_bat_rows_add_up_and_carry_the_sequence(console: Any) -> None:
    unit = console(modules=["US5000", "16-cell"])
    for number, count in ((1, 15), (2, 16)):
        rows = [line.split() for line in unit.ask(f"bat {number}")[1:]]
        cells = [int(row[1]) for row in rows]
        sequence = unit.unit.sequence
        assert [int(row[0]) for row in rows] == list(range(count))
        assert [mv % 10 for mv in cells[:3]] == [sequence % 10, sequence // 10 % 10, sequence // 100 % 10]
        assert sum(cells) % 100 == sequence % 100
        assert rows[0][-4].endswith("%")
        assert rows[0][-2:] == ["mAH", "N"]
        record = unit.unit.truth.records("bat")[-1]
        assert [record.values[f"cell_{i + 1}"] for i in range(count)] == [mv / 1000 for mv in cells]
        assert record.unit == unit.unit.stack.modules[number].serial


def test_the_us3000d_has_two_temperature_states_and_knows_fewer_commands(console: Any) -> None:
    unit = console(modules=["US3000D", "US3000C"])
    head, first, *_ = unit.ask("bat 2")
    assert "DTemp. State CTemp. State SOC" in head
    assert first.split()[4:9] == [first.split()[4], *4 * ["Normal"]]
    assert "B+B-.Volt" in unit.fields("pwr 1")
    assert "Device name" in unit.fields("info")
    assert b"Invalid command" in unit.raw("info 2")
    assert b"Unknown command" in unit.raw("soh 1")


def test_pwr_n_tells_charge_state_and_events(console: Any) -> None:
    unit = console(modules=2, model="US2000C", soc=99.9)
    unit.unit.stack.modules[2].system_fault = 0x400
    first, second = unit.fields("pwr 1"), unit.fields("pwr 2")
    assert (first["Coul. Status"], first["Power Events"].split()) == ("Full", ["0x2000", "COULFULL"])
    assert (first["Coulomb"].split(), first["Total Coulomb"].split()) == (["100", "%"], ["50000", "mAH"])
    assert (second["System Fault"], second["Charge Times"]) == ("0x400", "0")


def test_info_and_stat_name_the_module(console: Any) -> None:
    unit = console(modules=["US5000", "US2000C"])
    said = unit.fields("info 2")
    assert (said["Device address"], said["Device name"], said["Cell Number"]) == ("2", "US2000C", "15")
    assert said["Barcode"] == unit.unit.stack.modules[2].serial
    assert (said["Max Dischg Curr"], said["Max Charge Curr"]) == ("-90000mA", "90000mA")
    stat = unit.fields("stat 2")
    module = unit.unit.stack.modules[2]
    assert (stat["CYCLE Times"], stat["SOH"]) == (str(module.cycles), str(module.soh))
    assert unit.ask("stat")[0].split() == ["Device", "address", "1"]
    assert len(unit.ask("soh 1")) == 2 + 15


def test_the_systems_block_wants_debug_mode_and_adds_up(console: Any) -> None:
    unit = console(modules=3)
    assert b"Unknown command" in unit.raw("pwrsys")
    assert unit.raw("login debug").endswith(b"pylon_debug>")
    unit.unit.stack.modules[3].silent = True
    said = unit.fields("pwrsys")
    assert (said["Total Num"], said["Present Num"], said["Sleep Num"]) == ("3", "2", "1")
    assert said["Recommend chg current"].split() == ["25000", "mA"]
    assert said["system Recommend chg current"].split() == ["50000", "mA"]
    assert said["system Recommend dsg current"].split() == ["-50000", "mA"]
    current = sum(int(row["Curr"]) for row in unit.table())
    assert int(said["System Curr"].split()[0]) == pytest.approx(current, abs=600)
    assert b"Invalid command" in unit.raw("login debug")
    assert len(unit.ask("getpwr")) == 1 + 15 + 2


def test_time_tells_the_clock_and_setting_it_is_noted(console: Any) -> None:
    unit = console()
    assert unit.ask("time")[0].startswith("RTC 2026-06-01 10:00:")
    unit.raw("time 26 1 1 0 0 0")
    unit.raw("shut")
    assert unit.unit.writes == ["time 26 1 1 0 0 0", "shut"]


def test_absent_and_busy_modules_are_named(console: Any) -> None:
    unit = console(modules=2)
    assert b"@\r\r\nDevice 9 is not present\r" in unit.raw("bat 9")
    unit.unit.stack.modules[2].silent = True
    assert b"Device 2 is not present" in unit.raw("pwr 2")
    assert len(unit.table()) == 1
    unit.unit.faults.busy = frozenset({1})
    assert b"Target device is Busy\r\r\n\r$$" in unit.raw("bat 1")
    unit.unit.faults.busy_with_success = True
    assert unit.ask("bat 1") == ["Target device is Busy"]
    unit.unit.stack.modules[1].silent = True
    assert unit.raw("pwr", timeout=0.15) == b""


def test_a_sleeping_console_wants_the_frame_at_1200_and_commands_at_its_speed(console: Any) -> None:
    unit = console(asleep=True)
    unit.speed(115200)
    assert unit.raw("pwr", timeout=0.15) == b""
    unit.host.write(WAKE)
    assert unit.raw("", timeout=0.15) == b""
    unit.speed(1200)
    unit.host.write(WAKE)
    assert unit.raw("pwr", timeout=0.15) == b""
    unit.speed(115200)
    assert unit.raw("") == b"\n\rpylon>"
    assert len(unit.table()) == 4
    assert unit.unit.wakes == 2
    unit.unit.restart()
    assert unit.raw("", timeout=0.15) == b""


def test_a_console_that_is_awake_ignores_the_frame(console: Any) -> None:
    unit = console()
    unit.host.write(WAKE)
    assert unit.host.silence() == b""
    assert unit.raw("") == b"\n\rpylon>"
    assert (unit.unit.wakes, unit.unit.writes) == (1, [])


def test_an_extra2000_wakes_at_1200_and_talks_at_19200(console: Any) -> None:
    unit = console(Extra2000Simulator)
    unit.speed(1200)
    unit.host.write(WAKE)
    assert unit.host.silence() == b""
    unit.speed(19200)
    assert unit.raw("login debug").endswith(b"pylon_debug>")
    info = unit.fields("info 1")
    assert (info["Cell Count"], info["Console Port rate"], len(info["Barcode"])) == ("15", "19200", 16)
    unit.unit.call(lambda: setattr(unit.unit.stack, "power", -3000.0))
    said = unit.fields("pwr 3")
    assert int(said["Current"].split()[0]) < -5000
    assert int(said["Power Events"], 16) == 0x800000
    assert len(unit.ask("bat 5")) == 16


def test_overrides_show_in_tables_and_blocks(console: Any) -> None:
    unit = console(modules=2)
    unit.unit.stack.modules[2].override |= {"Coulomb": "130%", "cell_3": 65535, "Volt.St": "OV", "Voltage": "0"}
    assert (unit.table()[1]["Coulomb"], unit.table()[1]["Volt.St"]) == ("130%", "OV")
    assert unit.ask("bat 2")[3].split()[1] == "65535"
    assert unit.fields("pwr 2")["Voltage"].split() == ["0", "mV"]
    assert unit.unit.truth.records("bat")[-1].values["cell_3"] == 65.535
    assert unit.table()[0]["Volt.St"] == "Normal"


def test_the_frame_can_be_odd_or_broken(console: Any) -> None:
    unit = console(modules=1)
    faults = unit.unit.faults
    faults.stray = True
    assert unit.host.write(b"time\n")
    assert unit.host.silence().startswith(b"pylon>\r\n>time\n\r@")
    faults.clear()
    faults.no_prompt = True
    unit.host.write(b"time\n")
    assert unit.host.silence().endswith(b"\r$$\r\n\r")
    faults.clear()
    faults.no_end = True
    unit.host.write(b"time\n")
    assert unit.host.silence().endswith(b"Test result:pass\r\r\n")
    faults.clear()
    faults.plain_lines = True
    assert b"pass\r\nCommand" in unit.raw("time")
    faults.clear()
    faults.locked = True
    assert unit.raw("time", timeout=0.15) == b""
    assert unit.raw("") == b"\n\rpylon>"
    assert unit.ask("time")[1] == "Test result:pass"


def test_no_byte_comes_before_its_end_on_the_wire(console: Any) -> None:
    unit = console(baud=115200, turnaround=0.02)
    asked = unit.host.write(b"bat 2\n")
    said = unit.host.read_until(b">")
    count = 0
    for at, data in unit.host.arrivals:
        count += len(data)
        assert at >= asked + 0.02 + (6 + count) * 10 / 115200
    assert count == len(said) > 1500


def test_nothing_is_left_behind() -> None:
    descriptors, threads = set(os.listdir("/proc/self/fd")), threading.active_count()
    for kind in (ConsoleSimulator, Extra2000Simulator):
        unit = Console(kind(baud=None, asleep=False))
        unit.ask("pwr")
        unit.close()
    assert set(os.listdir("/proc/self/fd")) == descriptors
    assert threading.active_count() == threads


# --- against captured text ----------------------------------------------------------------------------------------


def captured(case: str) -> list[str]:
    """Return the lines between the marks of a captured text."""
    text = {one["id"]: one["text"] for one in vectors("pylontech")["console"]}[case]
    body = text.split("@", 1)[1].split("Command completed")[0]
    return [line.rstrip() for line in body.replace("\r", "\n").split("\n") if line.strip()]


@pytest.mark.parametrize(
    ("case", "command", "layout"),
    [
        ("pwr-5modules-mixed", "pwr", "c"),
        ("pwr-2019-no-mos", "pwr", "2019"),
        ("pwr-US5000-fw2.3", "pwr", "2024"),
        ("bat1-15cells", "bat 1", "c"),
    ],
)  # fmt: skip
def test_tables_have_the_columns_of_captured_ones(console: Any, case: str, command: str, layout: str) -> None:
    ours, theirs = console(layout=layout).ask(command), captured(case)
    assert ours[0].split() == theirs[0].split()
    if command == "pwr":
        assert ours[-1].split()[1:] == theirs[-1].split()[1:]
    else:
        assert len(ours) == len(theirs)


@pytest.mark.parametrize(
    ("case", "command"), [("pwr1-discharging", "pwr 1"), ("info2", "info 2"), ("pwrsys-5", "pwrsys"), ("stat", "stat")]
)
def test_blocks_have_the_labels_of_captured_ones(console: Any, case: str, command: str) -> None:
    unit = console(modules=5, model="US2000C", debug=True)
    unit.unit.call(lambda: setattr(unit.unit.stack, "power", -2000.0))
    labels = lambda lines: [line.split(":")[0].strip() for line in lines if ":" in line]  # noqa: E731
    assert set(labels(captured(case))) - set(labels(unit.ask(command))) <= {"LifeAlarm Times"}
