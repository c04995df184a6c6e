"""The fault matrix: every row, in words of our own, and which tests belong to it.

A test belongs to the rows that its name begins with: `test_a1_...`, `test_g1_and_g2_...`; of a test with cases each
case may name its own row, by an id such as `B6 bytes one by one`.
"""

from __future__ import annotations

import re

# fmt: off
ROWS = {
    "A1": "no broker at the start",
    "A2": "the broker dies and comes back, with and without its database",
    "A3": "the broker stops answering, its socket open",
    "A4": "the link swallows everything, or one direction",
    "A5": "a link of 1 kB/s",
    "A6": "a refused login, topics that are not allowed",
    "A7": "another client with the same id",
    "A8": "the broker lost its retained messages",
    "A9": "a message larger than the broker takes",
    "A10": "TLS: expired, wrong name, wrong authority, plain, no client certificate",
    "A11": "a name that does not resolve, or moves",
    "A12": "Home Assistant starts anew",
    "B1": "the adapter is unplugged and comes back under its name",
    "B2": "it comes back under another name, or another device does",
    "B3": "the port is busy, forbidden or not there",
    "B4": "the port takes no bytes",
    "B5": "another program on the same port",
    "B6": "bytes one by one, pauses inside a frame",
    "B7": "noise before, between, after, and without an end",
    "B8": "a frame cut off at any place",
    "B9": "absurd lengths",
    "B10": "flipped bits",
    "B11": "damage that the checksum does not see",
    "B12": "two answers joined",
    "B13": "the begin of an answer before a whole one",
    "B14": "the answer of another unit",
    "B15": "an answer too late",
    "B16": "one unit silent, all silent",
    "B17": "an error code for an answer",
    "B18": "modules added, taken out, swapped",
    "B19": "a console asleep at another speed",
    "B20": "a right checksum around absurd values",
    "B21": "a restart in mid-frame, a firmware with other lengths",
    "B22": "errors of odd kinds from a closed port",
    "C1": "the stick refuses, is out of reach, has no name",
    "C2": "the stick accepts and is silent",
    "C3": "the link drops in mid-frame",
    "C4": "one byte at a time, 2.5 frames to a segment",
    "C5": "noise between frames",
    "C6": "absurd length fields",
    "C7": "a wrong CRC",
    "C8": "the serial number of another inverter or stick",
    "C9": "the answer to another client",
    "C10": "nothing but heartbeats",
    "C11": "blocks of one set from different times",
    "C12": "a forged broadcast",
    "C13": "a stick that throws clients out",
    "D1": "the wall clock jumps",
    "D2": "the process stood still",
    "D3": "the log's disk is full",
    "D4": "the state's disk is full, its files cut",
    "D5": "a broken configuration",
    "D6": "SIGTERM and SIGINT at any moment",
    "D7": "a kill or power cut in a write",
    "D8": "a reader crashes",
    "D9": "a reader hangs",
    "D10": "the MQTT thread dies or blocks",
    "D11": "no descriptors or threads left",
    "D12": "no processor time left",
    "D13": "stdout and stderr blocked or closed",
    "D14": "a long run of a large house",
    "E1": "a flood of commands",
    "E2": "malformed payloads",
    "E3": "a huge payload",
    "E4": "a retained command at the start",
    "E5": "a command that is retained while we listen",
    "E6": "commands sent while we were away",
    "E7": "a command delivered twice",
    "E8": "an old id",
    "E9": "unknown, read-only, out of range",
    "E10": "two who write one word",
    "E11": "an answer lost, wrong, late or somebody else's",
    "E12": "too many writes",
    "E13": "the device is away",
    "E14": "a sender without rights",
    "E15": "a command at the start or the end",
    "G1": "one module of a bank silent",
    "G2": "all modules silent",
    "G3": "a value that is not known",
    "G4": "the bridge dies",
    "G5": "an old message after a freeze or reconnect",
    "G6": "another publisher on the topic",
    "G7": "two alarms at once",
    "G8": "the form of numbers",
    "G9": "a limit that jumps",
}
"""Row -> what happens in it."""
# fmt: on

EXACT = (
    "tests/voltronic/test_frame.py", "tests/voltronic/test_replies.py", "tests/pylontech/test_frame.py",
    "tests/test_bank.py", "tests/test_guard.py", "tests/test_ledger.py", "tests/test_statefile.py",
    "tests/sinks/test_victron.py", "tests/faults/test_d5_config.py",
)  # fmt: skip
"""Tests without a line, a clock or a broker, which go through all cases and do the same each time: run once."""

_HEAD = re.compile(r"test_((?:[a-z]\d+_(?:(?:and|to)_)?)+)")
_CASE = re.compile(r"\[([A-G]\d+) ")


def rows_of(name: str) -> list[str]:
    """Return the rows of a test by its name, with its case in brackets if it has one; none for most tests."""
    if case := _CASE.search(name):
        return [case[1]]
    head = _HEAD.match(name)
    found = re.findall(r"[a-z]\d+", head[1]) if head else []
    return [row for row in map(str.upper, found) if row in ROWS]
