"""`solarbridge scan --lxp`: whether a stick answers, in plain words. It only listens; nothing is asked or changed."""

from __future__ import annotations

import signal
import sys

from bridge.devices import slice_of
from bridge.errors import Stopped
from bridge.transports.base import Stop

LXP_PORT = 8000


def lxp(address: str, seconds: float) -> int:
    """Look at a LuxPower stick and say what it is; 0 when it answers, 1 when it does not, 2 for no address at all.

    Connecting takes the stick's only slot on most of them: a bridge that runs meanwhile is thrown out for a moment.
    """
    try:
        host, port = host_and_port(address)
    except ValueError:
        print(f"{address[:100]!a}: expected HOST or HOST:PORT", file=sys.stderr)
        return 2
    stop = Stop()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        finding = slice_of("lxp").sound_out(host, port, seconds, stop)
    except Stopped:
        return 130
    print(finding.words)
    return 0 if finding.answers else 1


def host_and_port(address: str) -> tuple[str, int]:
    """Return the parts of HOST, HOST:PORT, an IPv6 address or [IPv6]:PORT. Raises ValueError."""
    host, colon, number = address.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        host, number = address, str(LXP_PORT)
    host = host.removeprefix("[").removesuffix("]")
    if not host or any(c.isspace() for c in host) or not number.isascii() or not number.isdecimal() or len(number) > 5:
        raise ValueError(address)
    port = int(number)
    if not 1 <= port <= 65535:
        raise ValueError(address)
    return host, port
