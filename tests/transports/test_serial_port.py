"""Serial links on real ptys: bytes, deadlines, stop, unplugging, other programs."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import serial  # noqa: F401 - a child without rights cannot import it

from bridge.errors import LinkError, Stopped
from bridge.transports import serial_port
from bridge.transports.base import Stop
from bridge.transports.serial_port import SerialLink, _finish, open_serial
from tests.rights import error_without_rights
from tests.transports.lines import Pty, Waiting, descriptors, far, soon

TIOCGEXCL = 0x80045440


@pytest.fixture
def line() -> Iterator[Pty]:
    line = Pty()
    yield line
    line.unplug()


@pytest.fixture
def stop() -> Stop:
    return Stop()


@pytest.fixture
def link(line: Pty, stop: Stop) -> Iterator[SerialLink]:
    link = open_serial(line.path, 2400, stop)
    yield link
    link.close()


def test_every_byte_passes_unchanged_both_ways(line: Pty, link: SerialLink) -> None:
    every = bytes(range(256)) * 2  # CR, LF, XON, XOFF, interrupt and end of file among them
    link.write(every, far())
    sent = b""
    while len(sent) < len(every):
        sent += os.read(line.master, 4096)
    assert sent == every
    os.write(line.master, every)
    received = b""
    while len(received) < len(every):
        received += link.read(far())
    assert received == every


def test_no_bytes_until_the_deadline_is_no_failure(link: SerialLink) -> None:
    deadline = soon()
    assert link.read(deadline) == b""
    assert time.monotonic() >= deadline


def test_bytes_that_are_there_are_read_even_past_the_deadline(line: Pty, link: SerialLink) -> None:
    os.write(line.master, b"x")
    assert link.read(time.monotonic() - 1) == b"x"
    assert link.read(time.monotonic() - 1) == b""


def test_a_waiting_read_takes_bytes_as_they_come(line: Pty, link: SerialLink) -> None:
    waiting = Waiting(lambda: link.read(far()))
    waiting.sleeps()
    os.write(line.master, b"(ACK")
    assert waiting.result() == b"(ACK"


def test_stop_wakes_a_waiting_read(link: SerialLink, stop: Stop) -> None:
    waiting = Waiting(lambda: link.read(far()))
    waiting.sleeps()
    stop.set()
    assert isinstance(waiting.result(), Stopped)


def at_its_pace(line: Pty, link: SerialLink) -> None:
    """Let the link see an answer that takes as long as its speed says, or longer."""
    link.write(b"QMOD", far())
    for byte in b"(B":
        os.write(line.master, bytes([byte]))
        assert link.read(far()) == bytes([byte])
        time.sleep(20 / 2400)
    link.write(b"QPIGS", far())


def test_a_slow_line_is_not_looked_at_before_the_expected_bytes_can_be_there(line: Pty, link: SerialLink) -> None:
    at_its_pace(line, link)
    waiting = Waiting(lambda: link.read(far(), 200))  # 0.8 s at 2400 baud
    waiting.sleeps()
    for _ in range(199):
        os.write(line.master, b"x")
    assert waiting.result() == b"x" * 199


def test_bytes_that_were_expected_and_do_not_come_are_no_failure(line: Pty, link: SerialLink) -> None:
    at_its_pace(line, link)
    waiting = Waiting(lambda: link.read(far(), 20))
    waiting.sleeps()
    os.write(line.master, b"(NAKss\r")
    assert waiting.result() == b"(NAKss\r"


def test_no_more_bytes_are_expected_than_can_come_before_the_deadline(line: Pty, link: SerialLink) -> None:
    at_its_pace(line, link)
    waiting = Waiting(lambda: link.read(time.monotonic() + 5, 2000))  # 8 s
    waiting.sleeps()
    os.write(line.master, b"x")
    assert waiting.result() == b"x"


def test_a_line_that_is_quicker_than_its_speed_is_not_waited_for(line: Pty, link: SerialLink) -> None:
    at_its_pace(line, link)
    link.write(b"QMOD", far())
    os.write(line.master, b"(B")
    assert link.read(far()) == b"(B"
    link.write(b"QPIGS", far())
    waiting = Waiting(lambda: link.read(far(), 2000))
    waiting.sleeps()
    os.write(line.master, b"x")
    assert waiting.result() == b"x"


def test_a_line_that_gives_no_more_before_it_is_read_is_not_waited_for_again(line: Pty, link: SerialLink) -> None:
    for twice in (1, 2):
        at_its_pace(line, link)
        os.write(line.master, b"(")
        assert link.read(far(), 30) == b"(", "0.12 s of waiting that brought one byte"
        for _ in range(twice):
            at_its_pace(line, link)
            waiting = Waiting(lambda: link.read(far(), 6000))  # 24 s
            waiting.sleeps()
            os.write(line.master, b"x")
            assert waiting.result() == b"x"


def test_stop_wakes_a_read_that_expects_many_bytes(line: Pty, link: SerialLink, stop: Stop) -> None:
    at_its_pace(line, link)
    waiting = Waiting(lambda: link.read(far(), 6000))  # 24 s
    waiting.sleeps()
    stop.set()
    assert isinstance(waiting.result(), Stopped)


def test_what_came_before_the_opening_is_thrown_away(line: Pty, stop: Stop) -> None:
    slave = os.open(line.path, os.O_RDWR | os.O_NOCTTY)
    os.write(line.master, b"old\n")
    link = open_serial(line.path, 2400, stop)
    os.close(slave)
    assert link.drain() == b""
    link.close()


def test_drain_takes_everything_and_does_not_wait(line: Pty, link: SerialLink) -> None:
    assert link.drain() == b""
    os.write(line.master, b"late answer")
    waiting = Waiting(lambda: link.read(far()))
    assert waiting.result() == b"late answer"
    os.write(line.master, b"a" * 1000)
    taken = link.drain()
    while len(taken) < 1000:
        taken += link.drain()
    assert taken == b"a" * 1000


def test_the_descriptor_becomes_readable_with_new_bytes(line: Pty, link: SerialLink) -> None:
    descriptor = link.fileno()
    assert descriptor is not None
    os.write(line.master, b"x")
    assert os.read(descriptor, 10) == b"x"


@pytest.mark.parametrize(
    "use",
    [lambda link: link.read(far()), lambda link: link.write(b"QPI\r", far()), lambda link: link.drain()],
    ids=["read", "write", "drain"],
)
def test_b1_an_unplugged_port_is_a_link_error(line: Pty, link: SerialLink, use: Callable[[SerialLink], object]) -> None:
    # a closed master gives EIO or the end of file, depending on what is done and when
    line.unplug()
    with pytest.raises(LinkError, match=line.path):
        use(link)
    link.close()
    link.close()


def test_unplugging_wakes_a_waiting_read(line: Pty, link: SerialLink) -> None:
    waiting = Waiting(lambda: link.read(far()))
    waiting.sleeps()
    line.unplug()
    assert isinstance(waiting.result(), LinkError)


def test_b4_a_port_that_takes_no_bytes_is_a_link_error_by_the_deadline(link: SerialLink) -> None:
    deadline = soon()
    with pytest.raises(LinkError, match="does not take bytes"):
        link.write(b"x" * 100_000, deadline)
    assert time.monotonic() >= deadline


def test_stop_wakes_a_waiting_write(link: SerialLink, stop: Stop) -> None:
    waiting = Waiting(lambda: link.write(b"x" * 100_000, far()))
    waiting.sleeps()
    stop.set()
    assert isinstance(waiting.result(), Stopped)


def test_a_port_with_unsent_bytes_closes_at_once(link: SerialLink) -> None:
    with pytest.raises(LinkError):
        link.write(b"x" * 100_000, soon())
    assert Waiting(link.close).result() is None


def test_b5_a_second_opening_is_refused_until_the_first_is_closed(line: Pty, link: SerialLink, stop: Stop) -> None:
    with pytest.raises(LinkError, match="in use by another program"):
        open_serial(line.path, 2400, stop)
    link.close()
    open_serial(line.path, 2400, stop).close()


def exclusive(descriptor: int) -> bool:
    return bool(struct.unpack("i", fcntl.ioctl(descriptor, TIOCGEXCL, b"\0\0\0\0"))[0])


def test_a_pty_keeps_no_exclusive_flag_that_outlives_a_killed_bridge(link: SerialLink) -> None:
    assert not exclusive(link.fileno() or -1)


def test_b5_a_real_port_is_closed_to_programs_that_do_not_lock(line: Pty) -> None:
    # no real port here: a pty's descriptor under the name of one
    descriptor = os.open(line.path, os.O_RDWR | os.O_NOCTTY)
    _finish(descriptor, "/dev/ttyUSB99")
    assert exclusive(descriptor)
    os.close(descriptor)


def test_b3_a_port_without_rights_names_the_group(line: Pty, stop: Stop) -> None:
    os.chmod(line.path, 0)
    text = error_without_rights(lambda: open_serial(line.path, 2400, stop))
    assert text == f"LinkError: {line.path}: no right to open it; add the bridge's user to the group dialout"


@pytest.mark.parametrize(
    ("port", "reason"),
    [
        ("{}/nothing", "not there"),
        ("{}/file/below", "not there"),
        ("{}/file", "not a serial port"),
        ("{}", "Is a directory"),
        ("/dev/null", "not a serial port"),
        ("{}/loop", "symbolic links"),
        ("{}/a\0b", "null byte"),
        ("", "not there"),
    ],
)
def test_b3_what_cannot_be_opened_tells_why_and_leaves_nothing_open(
    tmp_path: Path, stop: Stop, port: str, reason: str
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    before = descriptors()
    with pytest.raises(LinkError, match=reason):
        open_serial(port.format(tmp_path), 2400, stop)
    assert descriptors() == before


@pytest.mark.parametrize("baud", [-1, 1 << 40])
def test_an_impossible_speed_is_a_link_error(line: Pty, stop: Stop, baud: int) -> None:
    before = descriptors()
    with pytest.raises(LinkError):
        open_serial(line.path, baud, stop)
    assert descriptors() == before


def test_the_speed_of_an_open_port_can_be_changed(line: Pty, link: SerialLink) -> None:
    os.write(line.master, b"what came at the old speed")
    link.set_baud(19200)
    assert termios.tcgetattr(link.fileno())[4:6] == [termios.B19200, termios.B19200]
    assert link.drain() == b""
    os.write(line.master, b"new")
    assert link.read(far()) == b"new"


def test_a_speed_that_no_port_has_is_a_link_error(link: SerialLink) -> None:
    with pytest.raises(LinkError, match="cannot be set to 12345 baud"):
        link.set_baud(12345)
    assert termios.tcgetattr(link.fileno())[4] == termios.B2400


def test_b22_the_speed_of_an_unplugged_port_cannot_be_changed(line: Pty, link: SerialLink) -> None:
    line.unplug()
    with pytest.raises(LinkError):
        link.set_baud(9600)


def test_b22_a_port_that_breaks_while_it_is_set_up_is_a_link_error(line: Pty, stop: Stop) -> None:
    # termios.error is no OSError: this is what a port gives that is unplugged in that moment
    descriptor = os.open(line.path, os.O_RDWR | os.O_NOCTTY)
    line.unplug()
    with pytest.raises(LinkError, match="Input/output error"):
        open_serial(f"/dev/fd/{descriptor}", 2400, stop)
    os.close(descriptor)


def test_b1_opening_again_and_again_leaks_no_descriptor(line: Pty, stop: Stop) -> None:
    open_serial(line.path, 2400, stop).close()
    before = descriptors()
    for _ in range(20):
        link = open_serial(line.path, 2400, stop)
        assert descriptors() == before + 1
        link.close()
    assert descriptors() == before


def test_b2_a_replugged_port_is_found_under_its_link(tmp_path: Path, stop: Stop) -> None:
    by_id, first, second = tmp_path / "usb-adapter", Pty(), Pty()
    by_id.symlink_to(first.path)
    link = open_serial(str(by_id), 2400, stop)
    first.unplug()
    with pytest.raises(LinkError, match="usb-adapter"):
        link.read(far())
    link.close()
    by_id.unlink()
    with pytest.raises(LinkError, match="not there"):
        open_serial(str(by_id), 2400, stop)
    by_id.symlink_to(second.path)
    link = open_serial(str(by_id), 2400, stop)
    os.write(second.master, b"back")
    assert link.read(far()) == b"back"
    link.close()
    second.unplug()


@pytest.fixture
def by_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the system names adapters."""
    monkeypatch.setattr(serial_port, "BY_ID", str(tmp_path))
    monkeypatch.setattr(serial_port, "_lasting", {})
    monkeypatch.setattr(serial_port, "_found", {})
    monkeypatch.setattr(serial_port, "_adapters", list)
    return tmp_path / "usb-adapter"


def test_b2_an_adapter_that_comes_back_as_another_node_is_found_by_the_name_it_keeps(
    by_id: Path, stop: Stop, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = Pty(), Pty()
    by_id.symlink_to(first.path)
    open_serial(first.path, 2400, stop).close()
    first.unplug()
    by_id.unlink()
    with pytest.raises(LinkError, match="not there"):
        open_serial(first.path, 2400, stop)
    by_id.symlink_to(second.path)
    for _ in range(2):
        link = open_serial(first.path, 2400, stop)
        os.write(second.master, b"back")
        assert link.read(far()) == b"back"
        link.close()
    assert caplog.text.count(f"its adapter is at {second.path} now; best name it {by_id}") == 1
    second.unplug()


def test_b2_a_port_that_another_device_is_given_is_never_tried_for_one_that_is_gone(by_id: Path, stop: Stop) -> None:
    """Adapters without a serial number have one name between them, and it goes from one to the other."""
    gone, others = Pty(), Pty()
    by_id.symlink_to(gone.path)
    open_serial(gone.path, 2400, stop).close()
    open_serial(others.path, 2400, stop).close()
    gone.unplug()
    by_id.unlink()
    by_id.symlink_to(others.path)
    with pytest.raises(LinkError, match="not there"):
        open_serial(gone.path, 2400, stop)
    others.unplug()


@pytest.mark.parametrize("both", [True, False])
def test_b2_a_name_that_two_adapters_have_leads_nowhere_when_both_come_back(
    by_id: Path, stop: Stop, monkeypatch: pytest.MonkeyPatch, both: bool
) -> None:
    """The one that it leads to now may be the other device's, whose own port is not there either."""
    gone, others, back = Pty(), Pty(), Pty()
    by_id.symlink_to(gone.path)
    monkeypatch.setattr(serial_port, "_adapters", lambda: [gone.path, others.path])
    for one in (gone, others):
        open_serial(one.path, 2400, stop).close()
        one.unplug()
    by_id.unlink()
    by_id.symlink_to(back.path)
    monkeypatch.setattr(serial_port, "_adapters", lambda: [back.path, *["/dev/elsewhere"] * both])
    for one in (gone, others):
        with pytest.raises(LinkError, match="not there"):
            open_serial(one.path, 2400, stop)
    back.unplug()


def test_b2_a_name_that_another_adapter_came_to_share_leads_nowhere(
    by_id: Path, stop: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, others, back = Pty(), Pty(), Pty()
    by_id.symlink_to(gone.path)
    monkeypatch.setattr(serial_port, "_adapters", lambda: [gone.path])
    open_serial(gone.path, 2400, stop).close()
    monkeypatch.setattr(serial_port, "_adapters", lambda: [gone.path, others.path])
    open_serial(others.path, 2400, stop).close()
    gone.unplug()
    others.unplug()
    by_id.unlink()
    by_id.symlink_to(back.path)
    monkeypatch.setattr(serial_port, "_adapters", lambda: [back.path])
    with pytest.raises(LinkError, match="not there"):
        open_serial(gone.path, 2400, stop)
    back.unplug()
