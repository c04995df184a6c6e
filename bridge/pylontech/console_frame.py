r"""The RS232 console's answers: where one ends, and whether it answers what was asked.

    echo LF  CR '@' CR CR LF, lines, 'Command completed successfully' CR LF CR '$$' CR LF CR 'pylon>'

There is no checksum. An answer is taken only when it stands whole between '@' and '$$', its echo is the
command, and it says it succeeded. Line ends vary, so lines are split at any run of CR and LF.
Source: the hex log in irekzielinski/Pylontech-Battery-Monitoring issue 1; captures in tests/captures/pylontech.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bridge.errors import ProtocolError
from bridge.pylontech.frame import encode

WAKE_UP = encode(1, 0x82, b"\x85\x20")
"""Sent once at WAKE_UP_BAUD when no prompt comes; the console then talks at its own speed.
Source: irekzielinski/Pylontech-Battery-Monitoring; newer firmware needs no waking."""
WAKE_UP_BAUD = 1200
KNOCK = b"\n"
"""Makes an idle console show its prompt."""
LOGIN = b"login debug\n"
"""Reads nothing and changes nothing but the prompt; `pwrsys` and `getpwr` are unknown without it."""
LOGGED_IN = "pylon_debug"
"""The prompt's name behind a login."""
LARGEST = 1 << 16

COMMANDS = ("pwr", "bat", "info", "stat", "soh", "pwrsys", "getpwr", "time")
"""All this bridge ever types, each alone or with a module's number: about a hundred others write, test or erase.
`time` with arguments sets the clock, so it never gets any."""


def command(name: str, module: int | None = None) -> bytes:
    """Return the line that asks `name`, for one module or for all."""
    numbered = name not in ("pwrsys", "getpwr", "time")
    if name not in COMMANDS or (module is not None and not (numbered and module in range(1, 17))):
        raise ValueError(f"not a command of this bridge: {name} {module}")
    return (name if module is None else f"{name} {module}").encode() + b"\n"


_ANSWER = re.compile(rb"\$\$[ \r\n]+([A-Za-z_]{1,16})>")
_PROMPT = re.compile(rb"(?:^|[\r\n>])([A-Za-z_]{1,16})>[ \r\n]*$")
_LINES = re.compile(r"[\r\n]+")
_LAST_LINE = b"\nCommand"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a console wrote between '@' and '$$': the echo before it, and its lines without the empty ones."""

    echo: str
    lines: tuple[str, ...]
    prompt: str

    def check_echo(self, asked: bytes) -> None:
        """Raise ProtocolError "foreign" when this answers something else than `asked`."""
        wanted = asked.decode("ascii").strip()
        if self.echo != wanted:
            raise ProtocolError("foreign", f"the console answers {self.echo!r}, {wanted!r} was asked")

    def body(self, asked: bytes) -> tuple[str, ...]:
        """Return the lines of a successful answer to `asked`, without the success line.

        Raises ProtocolError: "foreign" when the echo is another command, "format" when no success is stated;
        Refusal when the console does not know the command, is busy or the module is absent.
        """
        self.check_echo(asked)
        for line in self.lines:
            for words, unsupported in REFUSING.items():
                if line.startswith(words) or line.endswith(words):
                    raise Refusal(line, unsupported)
        if not self.lines or self.lines[-1] != SUCCESS:
            raise ProtocolError("format", "the answer does not end in its success line")
        return self.lines[:-1]


SUCCESS = "Command completed successfully"
REFUSING = {
    "Unknown command": True,
    "Invalid command": True,
    "This version do not support": True,
    "Target device is Busy": False,
    "is not present": False,
}
"""How a console says no, and whether that holds for good. A busy or absent module may carry the success line too."""


class Refusal(ProtocolError):
    """The console said no. `unsupported`: it does not have this command, at least not for this module."""

    def __init__(self, line: str, unsupported: bool) -> None:
        super().__init__("refused", line)
        self.unsupported = unsupported


class Decoder:
    r"""Cuts a console's bytes into answers.

    >>> decoder = Decoder()
    >>> decoder.receive(b"time\n\r@\r\r\nRTC 2024-02-29 12:00:00\r\r\n")
    >>> decoder.receive(b"Command completed successfully\r\n\r$$\r\n\rpylon>")
    >>> decoder.next_answer().lines[0]
    'RTC 2024-02-29 12:00:00'
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def receive(self, data: bytes) -> None:
        """Take bytes as they come; of an endless stream without a prompt the newest part is kept."""
        self._buffer += data
        if len(self._buffer) > LARGEST and not _ANSWER.search(self._buffer):
            del self._buffer[: -LARGEST // 2]

    def next_answer(self) -> Answer | None:
        """Return the next answer, or None until more bytes are received.

        Raises ProtocolError "format" for one without a beginning, with two beginnings (two answers ran
        into each other) or with bytes that are no text; it is dropped.
        """
        end = _ANSWER.search(self._buffer)
        if end is None:
            return None
        raw, prompt = bytes(self._buffer[: end.end()]), end.group(1).decode("ascii")
        del self._buffer[: end.end()]
        text = raw[: end.start()].decode("ascii", "replace")
        if "\ufffd" in text.partition("@")[2]:
            raise ProtocolError("format", "bytes that are no text", raw)
        lines = [line.strip() for line in _LINES.split(text) if line.strip()]
        if lines.count("@") != 1:
            raise ProtocolError("format", f"{lines.count('@')} beginnings in one answer", raw)
        begin = lines.index("@")
        echo = lines[begin - 1].rpartition(">")[2].strip() if begin else ""
        return Answer(echo, tuple(lines[begin + 1 :]), prompt)

    def prompt(self) -> str | None:
        """Return the name of the prompt that the received bytes end in: the console is awake and idle."""
        found = _PROMPT.search(self._buffer[-32:])
        return found.group(1).decode("ascii") if found else None

    def begun(self) -> bool:
        """Return whether an answer has begun and is not whole yet."""
        return b"@" in self._buffer

    def ending(self) -> bool:
        """Return whether the answer has come to its success line."""
        return _LAST_LINE in self._buffer

    def clear(self) -> None:
        """Forget what came so far."""
        self._buffer.clear()
