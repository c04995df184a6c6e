"""`python -m tests.soak --minutes 30 --report docs/soak.md`: runs the large house and says what came of it."""

from __future__ import annotations

import argparse
import platform
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.soak.mischief import Mischief
from tests.soak.world import BASE, Size, World, world

SAMPLE_EVERY, COMMAND_EVERY = 5.0, 3.0
SETTLED = 60.0
"""Seconds at the start that do not count for memory: caches fill, modules are found."""


@dataclass
class Samples:
    """Memory, descriptors and threads of the bridge over time; a restart begins anew."""

    taken: list[tuple[float, int, int, int]] = field(default_factory=list)

    def take(self, world: World, at: float) -> None:
        try:
            bridge = world.bridge
            self.taken.append((at, bridge.memory_kib(), bridge.descriptors(), bridge.threads()))
        except OSError:
            pass  # between two starts

    def largest(self) -> tuple[int, int, int]:
        return tuple(max(column) for column in list(zip(*self.taken, strict=True))[1:])  # type: ignore[return-value]

    def of(self, share: slice) -> tuple[float, float, float]:
        part = self.taken[share]
        columns = list(zip(*part, strict=True))[1:]
        return tuple(sum(column) / len(column) for column in columns)  # type: ignore[return-value]


@dataclass
class Commands:
    """Settings set at random, and whether `done` was true."""

    world: World
    random: random.Random
    given: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    false_done: list[str] = field(default_factory=list)
    counted: int = 0

    def give(self) -> None:
        """Set something that can be set."""
        world = self.world
        name = self.random.choice([*world.houses, *world.roofs])
        if name in world.houses:
            setting, value = "charge_rate_pct", str(self.random.randrange(20, 101))
        else:
            setting, value = "output_source_priority", self.random.choice(("utility first", "solar first", "SBU"))
        self.given += 1
        world.recorder.client.publish(f"{BASE}/{name}/set/{setting}", value, 1)

    def look(self) -> None:
        """Hold every new `done` against what the device really keeps."""
        results = self.world.judge.results
        for result in results[self.counted :]:
            self.outcomes[result["outcome"]] = self.outcomes.get(result["outcome"], 0) + 1
            if result["outcome"] == "done" and result["wanted"] != str(result["read_back"]):
                self.false_done.append(str(result))
        self.counted = len(results)

    def frames_outside(self) -> list[Any]:
        """Return the writes that reached a stick at a register nobody asked for."""
        return [write for stick in self.world.houses.values() for write in stick.writes if write.register != 64]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--speed", type=float, default=3.0)
    parser.add_argument("--small", action="store_true", help="one stack of 4, two inverters of each kind")
    parser.add_argument("--report", type=Path, help="write the report there, too")
    options = parser.parse_args()
    size = Size(1, 4, 2, options.speed) if options.small else Size(speed=options.speed)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, world(Path(folder), size, options.seed) as site:
        text, good = run(site, options.minutes * 60, options.seed)
        log = site.bridge.log()
    print(text)
    if "Traceback" in log:
        print(log[-4000:], file=sys.stderr)
        good = False
    if options.report:
        options.report.write_text(text)
    return 0 if good else 1


def run(site: World, seconds: float, seed: int) -> tuple[str, bool]:
    """Let it run; return the report and whether nothing was wrong."""
    mischief, samples = Mischief(site, seed), Samples()
    commands = Commands(site, random.Random(seed + 1))
    site.recorder.wait_payload(f"{BASE}/status", b"online", 30)
    begun = time.monotonic()
    sample_due, command_due = begun + min(SETTLED, seconds / 4), begun + 10
    mischief_from = begun + 15
    while (now := time.monotonic()) < begun + seconds:
        site.judge.look(site.recorder.messages)
        commands.look()
        if now > mischief_from:
            mischief.turn()
        if now > sample_due:
            sample_due = now + SAMPLE_EVERY
            samples.take(site, now)
        if now > command_due:
            command_due = now + COMMAND_EVERY
            commands.give()
        time.sleep(0.02)
    mischief.rest()
    commands.look()
    return report(site, mischief, samples, commands, seconds, seed)


def report(
    site: World, mischief: Mischief, samples: Samples, commands: Commands, seconds: float, seed: int
) -> tuple[str, bool]:
    size, judge = site.size, site.judge
    outside = commands.frames_outside()
    not_back = sum(account.not_back for account in mischief.accounts.values())
    quarter = max(1, len(samples.taken) // 4)
    early, late = samples.of(slice(0, quarter)), samples.of(slice(-quarter, None))
    ages = sorted(judge.largest_age.items())
    lines = [
        "# Soak", "",
        f"Made by `make soak` on {datetime.now(UTC):%Y-%m-%d}: {seconds / 60:.0f} minutes, seed {seed}, "
        f"{size.speed:g} times the speed of life, {platform.machine()}, Python {platform.python_version()}.", "",
        f"{size.stacks} Pylontech stacks of {size.modules} modules, {size.inverters} Axpert and {size.inverters} LXP "
        "inverters, one bank, a broker behind a proxy; faults at random on up to a quarter of the devices at once. "
        "Every state that arrived was held against the simulators' truth logs.", "",
        "| what | figure |", "|---|---|",
        *(f"| messages judged, {name} | {count} |" for name, count in sorted(judge.judged.items())),
        f"| wrong values | {len(judge.wrong)} |",
        *(f"| oldest frame behind a message, {name} | {age:.1f} s |" for name, age in ages),
        f"| settings set at random | {commands.given} |",
        *(f"| ... {outcome} | {count} |" for outcome, count in sorted(commands.outcomes.items())),
        f"| false `done` | {len(commands.false_done)} |",
        f"| writes at other registers | {len(outside)} |",
        f"| faults | {sum(account.times for account in mischief.accounts.values())} |",
        f"| devices that did not come back within 90 s | {not_back} |",
        f"| memory of the bridge, first and last quarter | {early[0] / 1024:.1f} MiB, {late[0] / 1024:.1f} MiB |",
        f"| descriptors, threads, first quarter | {early[1]:.1f}, {early[2]:.1f} |",
        f"| descriptors, threads, last quarter | {late[1]:.1f}, {late[2]:.1f} |",
        "", "| fault | times | worst recovery |", "|---|---|---|",
        *(f"| {kind} | {one.times} | {one.worst:.1f} s |" for kind, one in sorted(mischief.accounts.items())),
        "", "Recovery is counted from the end of the fault to the arrival of a state made of a frame sent after it.",
        "A fault of the broker or the bridge waits for the slowest of all devices: an LXP is asked every 10 s, and a "
        "stick that was lost is connected to again with growing pauses. A silent module that a restarted bridge has "
        "never seen is found by the search for new modules, once a minute.",
    ]  # fmt: skip
    for complaint in (*judge.wrong[:20], *commands.false_done[:20], *map(str, outside[:20])):
        lines.append(f"\n    {complaint}")
    good = not (judge.wrong or commands.false_done or outside or not_back)
    return "\n".join(lines) + "\n", good


if __name__ == "__main__":
    sys.exit(main())
