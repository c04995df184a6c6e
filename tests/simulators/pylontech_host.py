"""A host that asks a simulated stack on RS485, written from scratch: no code of the bridge takes part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bridge.simulators.pylontech import PylontechSimulator
from tests.simulators.host import Host


def sealed(body: str) -> bytes:
    """Return a frame around what stands between SOI and CHKSUM; the sum is made another way than the simulator's."""
    total = sum(ord(letter) for letter in body) % 65536
    return f"~{body}{(65536 - total) % 65536:04X}\r".encode()


def request(command: int, address: int = 2, info: str = "", version: str = "20") -> bytes:
    nibbles = sum(int(digit, 16) for digit in f"{len(info):03X}") % 16
    return sealed(f"{version}{address:02X}46{command:02X}{(16 - nibbles) % 16:X}{len(info):03X}{info}")


@dataclass
class Heard:
    """An answer whose checksums and length were found right."""

    address: int
    code: int
    info: bytes
    raw: bytes

    def word(self, at: int) -> int:
        return int.from_bytes(self.info[at : at + 2], "big")


def understood(raw: bytes) -> Heard:
    """Take a frame to pieces and check all of it."""
    text = raw.decode("ascii")
    assert text[0] == "~"
    assert text[-1] == "\r"
    assert set(text[1:-1]) <= set("0123456789ABCDEF"), text
    assert sealed(text[1:-5]) == raw
    length = int(text[10:13], 16)
    assert len(text) == 18 + length
    assert (int(text[9], 16) + sum(int(digit, 16) for digit in text[10:13])) % 16 == 0
    assert text[5:7] == "46"
    return Heard(int(text[3:5], 16), int(text[7:9], 16), bytes.fromhex(text[13:-5]), raw)


@dataclass
class Module:
    """One module's part of 42h, read by hand."""

    cells: list[int]
    temperatures: list[float]
    current: float
    voltage: int
    remaining: int
    total: int
    cycles: int
    size: int


def module_of(info: bytes, at: int = 2) -> Module:
    word = lambda i: int.from_bytes(info[i : i + 2], "big")  # noqa: E731
    count = info[at]
    cells = [word(at + 1 + 2 * i) for i in range(count)]
    heat = at + 1 + 2 * count
    sensors = info[heat]
    rest = heat + 1 + 2 * sensors
    current = int.from_bytes(info[rest : rest + 2], "big", signed=True) / 10
    temperatures = [(word(heat + 1 + 2 * i) - 2731) / 10 for i in range(sensors)]
    remaining, items, total = word(rest + 4), info[rest + 6], word(rest + 7)
    end = rest + 11
    if items == 4:
        assert (remaining, total) == (0xFFFF, 0xFFFF)
        remaining, total = (int.from_bytes(info[end + i : end + i + 3], "big") for i in (0, 3))
        end += 6
    return Module(cells, temperatures, current, word(rest + 2), remaining, total, word(rest + 9), end - at)


class Bench:
    """A started stack with a host on its port."""

    def __init__(self, **options: Any) -> None:
        self.unit = PylontechSimulator(**{"baud": None, **options}).start()
        self.host = Host.tty(self.unit.port)

    def raw(self, command: int, address: int = 2, info: str | None = None, timeout: float = 5.0) -> bytes:
        wanted = f"{address:02X}" if info is None and command in (0x42, 0x44, 0x92, 0x93, 0x96) else info or ""
        self.host.write(request(command, address, wanted))
        return self.host.read_until(b"\r", timeout)

    def ask(self, command: int, address: int = 2, info: str | None = None) -> Heard:
        return understood(self.raw(command, address, info))

    def close(self) -> None:
        self.host.close()
        self.unit.stop()
