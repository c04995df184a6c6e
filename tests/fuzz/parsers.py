"""Every parser of the program: what it is fed with, good examples, and the errors it may raise.

A row's `feed` takes bytes and does with them what the program would do with what it received; only `refuses` may come
out. Decoders are new for each input: what they keep between two is bounded, which their own tests show.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bridge import request
from bridge.audit import NAME, AuditLog
from bridge.config import Mqtt, load
from bridge.errors import CommandError, ConfigError, ProtocolError
from bridge.inbox import Foreign, Inbox
from bridge.ledger import Ledger
from bridge.luxpower import frame as lxp_frame
from bridge.luxpower import lxp_bridge
from bridge.pylontech import console, console_cells, console_frame, messages, questions, system_messages
from bridge.pylontech import frame as rs485
from bridge.sinks.mqtt import MqttSink
from bridge.sinks.session import Arrived
from bridge.statefile import StateFile
from bridge.tools.migrate import KINDS, converted
from bridge.transports import hidraw
from bridge.voltronic import frame, pi18
from bridge.voltronic.inquiries import PI30, PI41
from bridge.voltronic.pi18_inquiries import PI18
from tests.luxpower.captured import CAPTURES as LXP
from tests.luxpower.test_mutations import Consumer
from tests.pylontech.build import CAPTURES as PYLONTECH
from tests.pylontech.build import capture
from tests.shared import REPOSITORY
from tests.tools.test_migrate import EXTRA, MPP
from tests.tools.test_migrate import LXP as LXP_BRIDGE
from tests.voltronic.captures import CAPTURES as VOLTRONIC

MOST_STEPS = 20_000
"""Replies that a decoder may find in one input; more means that it turns on the spot."""


@dataclass(frozen=True)
class Parser:
    """One row."""

    name: str
    feed: Callable[[bytes], object]
    seeds: Callable[[], Sequence[bytes]]
    refuses: tuple[type[Exception], ...] = (ProtocolError,)


def drained(decoder: Any, following: Callable[[], object], data: bytes) -> None:
    """Feed a decoder in two pieces and take everything out of it."""
    for piece in (data[: len(data) // 2], data[len(data) // 2 :]):
        decoder.receive(piece)
        for _ in range(MOST_STEPS):
            try:
                if following() is None:
                    break
            except ProtocolError:
                continue
        else:
            raise AssertionError("the decoder turns on the spot")


# -- Voltronic


def voltronic_frames(data: bytes) -> None:
    for decoder in (frame.Decoder(), pi18.Decoder()):
        drained(decoder, decoder.next_reply, data)
        for _ in range(MOST_STEPS):
            try:
                if decoder.next_reply(timed_out=True) is None:
                    break
            except ProtocolError:
                continue


INQUIRIES = [inquiry for table in (PI30, PI41, PI18) for inquiry in table.values()]


def voltronic_replies(data: bytes) -> None:
    for inquiry in INQUIRIES:
        try:
            decoded = inquiry.decode(data.decode("latin-1"))
        except ProtocolError:
            continue
        json.dumps(inquiry.publish(decoded), allow_nan=False)
        inquiry.fields(decoded)


# -- Pylontech


def rs485_frames(data: bytes) -> None:
    decoder = rs485.Decoder()

    def following() -> object:
        found = decoder.next_frame()
        return found and rs485.reply_info(found, 2)

    drained(decoder, following, data)


_OF_ONE = (messages.analog, messages.alarm, messages.management, messages.serial_number, messages.firmware)
_OF_MANY = (
    messages.analog_group, messages.alarm_group, messages.management_group, messages.parameters, messages.identity,
    system_messages.system_analog, system_messages.system_alarm, system_messages.system_management,
)  # fmt: skip


def rs485_messages(info: bytes) -> None:
    readers: list[Callable[[], object]] = [lambda read=read: read(info, 2) for read in _OF_ONE]  # type: ignore[misc]
    readers += [lambda read=read: read(info) for read in _OF_MANY]  # type: ignore[misc]
    for command in questions.SIZES:
        questions.fits(command, info)
    for read in readers:
        try:
            json.dumps(read(), allow_nan=False)
        except ProtocolError:
            continue


def console_answers(data: bytes) -> None:
    decoder = console_frame.Decoder()

    def following() -> object:
        found = decoder.next_answer()
        return found and (found.body(f"{found.echo}\n".encode("ascii", "replace")) or found)

    drained(decoder, following, data)
    decoder.prompt(), decoder.begun(), decoder.ending()


_TEXTS: tuple[Callable[[list[str]], object], ...] = (
    console.modules, console_cells.cells, console.system, console_cells.local, console.clock,
    lambda lines: console.module(lines, 1), lambda lines: console.identity(lines, 1),
    lambda lines: console.identity(lines, None), lambda lines: console.statistics(lines, 1),
    lambda lines: console_cells.health(lines, 1),
)  # fmt: skip


def console_texts(data: bytes) -> None:
    lines = [line for line in data.decode("ascii", "ignore").splitlines() if line.strip()]
    for read in _TEXTS:
        try:
            read(lines)
        except ProtocolError:
            continue


# -- LuxPower


def lxp_stream(data: bytes) -> None:
    consumer = Consumer()
    consumer.feed(data, 1.0)
    consumer.inputs.snapshot(1.0)
    consumer.holds.snapshot(1.0)
    assert consumer.decoder.waiting <= lxp_frame.Decoder.MOST_WAITING


def lxp_bridge_commands(data: bytes) -> None:
    path, _, payload = data.partition(b" ")
    command = Foreign(path.decode("utf-8", "replace"), payload, 0.0, 1.0, "", None)
    for unit in (None, "%", "W"):
        try:
            lxp_bridge.translate(command, unit)
        except CommandError:
            continue


# -- what people and the broker send


@cache
def sink() -> tuple[MqttSink, Inbox]:
    """Return a sink that was never started: what it publishes stays in its bounded table."""
    inbox = Inbox()
    return MqttSink(Mqtt(host="localhost", base_topic="b"), {"one": inbox}), inbox


def topics(data: bytes) -> None:
    there, inbox = sink()
    topic, _, payload = data.partition(b" ")
    text = topic.decode("utf-8", "replace").replace("\0", "")
    for retained in (False, True):
        there._on_message(Arrived(f"b/{text}", payload, retained, payload.decode("latin-1"), payload, 5.0, text))
        while inbox.take() is not None:
            pass
    there._online.clear()
    there.broker.forget("b/")  # an "online" that nobody stands for is taken back and kept so, on up to 20,000 topics


# -- files


def with_file(name: str, use: Callable[[Path], object]) -> Callable[[bytes], None]:
    """Return what writes its input to a file in a folder of its own and lets it be read."""

    def feed(data: bytes) -> None:
        folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        try:
            path = folder / name
            path.write_bytes(data)
            os.chmod(path, 0o600)
            use(path)
        finally:
            shutil.rmtree(folder)

    return feed


def of_a_ledger(path: Path) -> None:
    ledger = Ledger(StateFile(path), 12, 100)
    for use in (lambda: ledger.check(["word 1"]), lambda: ledger.recall("a", "b")):
        try:
            use()
        except CommandError:
            continue


def migrated(path: Path) -> None:
    for kind in (None, *KINDS):
        try:
            converted(str(path), kind)
        except ConfigError:
            continue


def uevent(path: Path) -> None:
    node = path.parent / "class/hidraw/hidraw0/device"
    node.mkdir(parents=True)
    path.rename(node / "uevent")
    hidraw.nodes(str(path.parent))


# -- good examples


def _pylontech(start: str, *, console: bool) -> list[bytes]:
    names = sorted(path.stem for path in PYLONTECH.glob(f"{start}*.txt"))
    return [capture(name)[1] for name in names if name.startswith("console-") == console]


def _infos() -> list[bytes]:
    found = []
    for raw in _pylontech("", console=False):
        decoder = rs485.Decoder()
        decoder.receive(raw)
        answer = decoder.next_frame()
        found.append(answer.info if answer is not None else b"")
    return found


_LEDGER = {
    "spent": [[1.5, "word 1"]], "ids": {"a": [1.5, "0123456789abcdef", {"outcome": "done"}]},
    "pending": {"setting": "limit", "unit": "", "old": 1},
}  # fmt: skip
_TOPICS = (
    b"one/refresh ", b"one/set/limit 35",
    b'one/set/limit {"value": 35, "id": "e-1", "expires": "2026-11-26T21:00:00Z"}',
    b"one/read/hold/64 3", b"one/availability online", b"one/part/availability offline", b"status offline",
    b"one/part/set/hold/64 1", b"nobody/set/x 1", b"one/set/charge_window_1/start 05:30", b"one/part/availability ",
)  # fmt: skip
_COMMANDS = (
    b"read/inputs/2 ", b"read/hold/64 10", b"read/ac_charge/1 ", b"read/param/0 ", b"set/ac_charge on",
    b'set/ac_charge/1 {"start": "5:00", "end": "07:30"}', b"set/charge_rate_pct 60", b"set/hold/64 60",
)  # fmt: skip
_UEVENT = b"DRIVER=hid-generic\nHID_ID=0003:00000665:00005161\nHID_NAME=INNO TECH\nHID_UNIQ=A1\n"

_EVERY_TYPE = b"""mqtt: {host: h}
devices:
  - {name: a, type: axpert, port: hid, writes: true, allow: [output_mode], bounds: {battery_bulk_voltage: [50, 57]}}
  - {name: b, type: lxp, host: h, compat: lxp-bridge}
  - {name: c, type: pylontech, port: /dev/c}
  - {name: d, type: pylontech-extra2000, port: /dev/d, modules: [1, 2]}
banks:
  - {name: e, from: [c, d], topic: battery/data}
"""

PARSERS = (
    Parser("voltronic frames", voltronic_frames, lambda: [one.received for one in VOLTRONIC]),
    Parser("voltronic replies", voltronic_replies, lambda: [one.received[1:-3] for one in VOLTRONIC]
           + [one.received[5:-3] for one in VOLTRONIC if one.protocol == "PI18"]),
    Parser("pylontech frames", rs485_frames, lambda: _pylontech("", console=False)),
    Parser("pylontech messages", rs485_messages, _infos),
    Parser("pylontech console", console_answers, lambda: _pylontech("console-", console=True)),
    Parser("pylontech console texts", console_texts, lambda: _pylontech("console-", console=True)),
    Parser("luxpower stream", lxp_stream, lambda: [raw for one in LXP for raw in (*one.received, *one.sent)]),
    Parser("luxpower requests", lxp_frame.decode_request, lambda: [raw for one in LXP for raw in one.sent]),
    Parser("lxp-bridge commands", lxp_bridge_commands, lambda: _COMMANDS),
    Parser("requests", request.parse, lambda: [one.partition(b" ")[2] for one in _TOPICS], (CommandError,)),
    Parser("topics", topics, lambda: _TOPICS, ()),
    Parser("configuration", with_file("c.yaml", lambda path: load(str(path), {})),
           lambda: [(REPOSITORY / "config.example.yaml").read_bytes(), _EVERY_TYPE], (ConfigError,)),
    Parser("other programs' configurations", with_file("other", migrated),
           lambda: [text.encode() for text in (LXP_BRIDGE, EXTRA, MPP)], ()),
    Parser("ledger", with_file("writes.json", of_a_ledger), lambda: [json.dumps(_LEDGER).encode()], ()),
    Parser("audit log", with_file(NAME, lambda path: list(AuditLog(path.parent).entries())),
           lambda: [b'{"ts": "x", "event": "begin"}\n{"ts": "y", "event": "end", "n": 1.5}\n'], ()),
    Parser("what the kernel says of USB devices", with_file("uevent", uevent), lambda: [_UEVENT], ()),
)  # fmt: skip

