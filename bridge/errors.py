"""The error tree, sorted by what the caller does next."""

from __future__ import annotations


class BridgeError(Exception):
    """Anything the bridge raises on purpose."""


class ConfigError(BridgeError):
    """The bridge cannot start as configured.

    `problems` holds one line each, with the place first:
    ``config.yaml:12: devices[1].port: ...``. The command line prints them all and ends with status 2.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class LinkError(BridgeError):
    """A port, socket or device node failed: the publisher closes it and reopens it later."""


class NoReply(BridgeError):
    """No whole reply came before the deadline: ask again at the next poll."""


class ProtocolError(BridgeError):
    """Received bytes broke the protocol and were dropped: ask again at the next poll.

    `kind` is one short word from a small set, under which such frames are counted: "length",
    "checksum", "format", "foreign" (another device's or another request's answer), "late",
    "implausible" (whole, but no device of this kind can mean it), "refused" (the device said no).
    """

    def __init__(self, kind: str, detail: str, raw: bytes = b"") -> None:
        super().__init__(f"{kind}: {detail}" + (f" [{raw[:48].hex(' ')}]" if raw else ""))
        self.kind = kind
        self.detail = detail
        self.raw = raw


class CommandError(BridgeError):
    """A command was not carried out, and why: the publisher tells whoever sent it."""


class Stopped(BridgeError):
    """The program is stopping; raised out of a waiting transport. The publisher leaves quietly."""
