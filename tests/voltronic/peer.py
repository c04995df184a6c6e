"""The other end of the cable, on a real pty: it says what a test tells it to say, and remembers what it was asked."""

from __future__ import annotations

import os
import select
import threading
import time
import tty
from collections.abc import Callable
from types import TracebackType
from typing import TypeAlias

from bridge.devices import Context, Tally
from bridge.transports.base import Stop


def crc(body: bytes) -> bytes:
    """CRC-16/XMODEM with the reserved bytes increased; on its own, so that the codec is not its own judge."""
    value = 0
    for byte in body:
        value ^= byte << 8
        for _ in range(8):
            value = (value << 1 ^ 0x1021 if value & 0x8000 else value << 1) & 0xFFFF
    return bytes(byte + 1 if byte in b"(\r\n" else byte for byte in value.to_bytes(2, "big"))


def reply(text: str) -> bytes:
    """Return a whole PI30 reply."""
    body = b"(" + text.encode()
    return body + crc(body) + b"\r"


def pi18(text: str) -> bytes:
    """Return a whole PI18 data reply."""
    body = f"^D{len(text) + 3:03d}{text}".encode()
    return body + crc(body) + b"\r"


PI18_NO = b"^0" + crc(b"^0") + b"\r"
NAK = reply("NAK")

Said: TypeAlias = bytes | str | None
Answer: TypeAlias = Said | Callable[[bytes], Said]
"""A str is framed as a PI30 reply, bytes go out as they are, None is silence; a function gets the whole question."""


class Peer:
    """Answers each question as `answers` says, by command without CRC; what is not listed gets a NAK."""

    def __init__(self, answers: dict[str, Answer], otherwise: Answer = NAK) -> None:
        self.answers = answers
        self.otherwise = otherwise
        self.asked: list[str] = []
        self.questions: list[bytes] = []
        self.overlaps = 0
        self._master, slave = os.openpty()
        tty.setraw(slave)
        self.port = os.ttyname(slave)
        self._slave = slave
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="peer", daemon=True)

    def __enter__(self) -> Peer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join(5)
        assert not self._thread.is_alive()
        self.unplug()

    def unplug(self) -> None:
        for fd in (self._slave, self._master):
            if fd >= 0:
                os.close(fd)
        self._slave = self._master = -1

    def say(self, data: bytes) -> None:
        """Put bytes on the line unasked."""
        os.write(self._master, data)

    def count(self, command: str) -> int:
        return self.asked.count(command)

    def _run(self) -> None:
        buffer = b""
        while not self._ended.is_set():
            if not select.select([self._master], [], [], 0.02)[0]:
                continue
            buffer += os.read(self._master, 4096)
            while b"\r" in buffer and not self._ended.is_set():
                question, _, buffer = buffer.partition(b"\r")
                self.overlaps += bool(buffer)
                self._serve(question + b"\r")

    def _serve(self, question: bytes) -> None:
        command = question[:-3].decode("latin-1")
        command = command[5:] if command.startswith("^P") else command
        self.asked.append(command)
        self.questions.append(question)
        said = self.answers.get(command, self.otherwise)
        if callable(said):
            said = said(question)
        if said is not None:
            os.write(self._master, reply(said) if isinstance(said, str) else said)


def in_turn(*said: Said) -> Callable[[bytes], Said]:
    """Say one after the other, and the last for good."""
    left = list(said)
    return lambda _question: left.pop(0) if len(left) > 1 else left[0]


def after(seconds: float, said: Said) -> Callable[[bytes], Said]:
    """Say it late."""

    def wait(_question: bytes) -> Said:
        time.sleep(seconds)
        return said

    return wait


class Surroundings:
    """What a program gives a device."""

    def __init__(self) -> None:
        self.stop = Stop()
        self.tally = Tally()
        self.beats = 0
        self.context = Context(self.stop, self.tally, self._beat)

    def _beat(self) -> None:
        self.beats += 1
