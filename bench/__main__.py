"""`make bench`: measure, print ratios, write docs/bench.md.

Usage: python -m bench [--no-write] [axpert] [core] ...
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
from importlib import import_module

from bench.kit import kit
from tests.shared import REPOSITORY

ALL = ("axpert", "pylontech", "console", "luxpower", "setting", "core")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("names", nargs="*", default=ALL, help=f"of {', '.join(ALL)}")
    parser.add_argument("--no-write", action="store_true", help="leave docs/bench.md as it is")
    arguments = parser.parse_args()
    parts = []
    for name in arguments.names:
        with kit() as one:
            for table in import_module(f"bench.{name}").run(one):
                print(table.markdown(), flush=True)
                parts.append(table.markdown())
    if not arguments.no_write and set(arguments.names) == set(ALL):
        head = (
            "# Benchmarks\n\nMade by `make bench`; only the ratios of one run mean anything. "
            f"{datetime.date.today()}, Python {platform.python_version()}, {os.cpu_count()} cores, "
            f"{platform.machine()}, simulated devices on paced ptys, mosquitto on loopback.\n\n"
        )
        (REPOSITORY / "docs" / "bench.md").write_text(head + "\n".join(parts))


main()
