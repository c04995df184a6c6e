"""`python -m tests.soak --minutes 30 --report docs/soak.md`: runs the large house and says what came of it."""

from __future__ import annotations

import argparse
import json
import platform
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from re import fullmatch
from typing import Any

from tests.soak.mischief import Mischief
from tests.soak.world import BASE, SETTINGS, Size, World, world

SAMPLE_EVERY, COMMAND_EVERY = 5.0, 3.0
SETTLED = 60.0
"""Seconds at the start that do not count for memory: caches fill, modules are found."""
SEVERAL = "several at once"
PROVEN = ("done", "unchanged")
PATIENCE = 60.0
"""Seconds until a command has to be answered: several tries at a device that stands still, and the queue before it."""
SURE_AFTER = 5.0
"""Seconds after a fault of the broker or the bridge from which on a command is sure to arrive."""


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
class Command:
    """A setting that was asked for."""

    at: float
    device: str
    value: str
    sure: bool
    """Whether nothing stood between it and its answer: neither the broker nor the bridge was away."""
    answered: bool = False


class Commands:
    """Settings set at random: whether each is answered, and whether `done` was true."""

    def __init__(self, world: World, dice: random.Random) -> None:
        self._world, self._random = world, dice
        self._given: dict[str, Command] = {}
        self._pending: list[Command] = []
        self._held: dict[str, list[tuple[float, str]]] = {name: [] for name in (*world.houses, *world.roofs)}
        self._open_since = 0.0
        self._counted = 0
        self.outcomes: Counter[tuple[str, str]] = Counter({(setting, "done"): 0 for setting in SETTINGS})
        self.wrong: list[str] = []
        self.unanswered: list[str] = []

    def __len__(self) -> int:
        return len(self._given)

    def give(self, now: float) -> None:
        """Set something that can be set."""
        name = self._random.choice(list(self._held))
        setting, value = self._world.setting(name, self._random)
        identity = f"soak-{len(self._given)}"
        command = self._given[identity] = Command(now, name, value, now > self._open_since)
        self._pending.append(command)
        payload = json.dumps({"value": value, "id": identity})
        self._world.recorder.client.publish(f"{BASE}/{name}/set/{setting}", payload, 1)

    def look(self, now: float, way_is_open: bool) -> None:
        """Note what the devices hold, hold every new answer against that, and see who got none."""
        for name, held in self._held.items():
            value = self._world.held(name)
            if not held or held[-1][1] != value:
                held.append((now, value))
        if not way_is_open:
            self._open_since = now + SURE_AFTER
            for command in self._pending:
                command.sure = False
        results = self._world.judge.results
        for result in results[self._counted :]:
            self.outcomes[result["setting"] or SEVERAL, result["outcome"]] += 1
            self._judge(result, now)
        self._counted = len(results)
        for command in [one for one in self._pending if one.answered or one.at < now - PATIENCE]:
            self._pending.remove(command)
            if command.sure and not command.answered:
                self.unanswered.append(f"no answer within {PATIENCE:.0f} s: {command}")

    def _judge(self, result: dict[str, Any], now: float) -> None:
        if result["id"] is None and result["outcome"] == "refused":  # one answer for all that came in a flood
            for one in self._pending:
                one.answered |= one.device == result["device"]
            return
        command = self._given.get(result["id"])
        if command is None:
            self.wrong.append(f"nobody asked for {result}")
            return
        command.answered = True
        if result["outcome"] in PROVEN:
            held = self._held[command.device]
            before = [value for at, value in held if at <= command.at][-1:]
            while_at_it = before + [value for at, value in held if command.at < at <= now]
            if command.value not in while_at_it or str(result["read_back"]) != command.value:
                self.wrong.append(f"{result}, but it held {while_at_it}")

    def cut_off(self) -> int:
        """Return how many were not answered, because the broker or the bridge was away or the run was over."""
        return sum(not command.answered for command in self._given.values()) - len(self.unanswered)

    def elsewhere(self) -> list[Any]:
        """Return the writes that reached a device at something nobody asked for."""
        world = self._world
        return [
            *(write for stick in world.houses.values() for write in stick.writes if write.register != 64),
            *(text for roof in world.roofs.values() for text in roof.setters if not fullmatch("POP0[012]", text)),
            *(text for stack in world.stacks.values() for text in stack.writes),
        ]


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
        commands.look(now, mischief.way_is_open)
        if now > mischief_from:
            mischief.turn()
        if now > sample_due:
            sample_due = now + SAMPLE_EVERY
            samples.take(site, now)
        if now > command_due:
            command_due = now + COMMAND_EVERY
            commands.give(now)
        time.sleep(0.02)
    mischief.rest()
    commands.look(time.monotonic(), mischief.way_is_open)
    return report(site, mischief, samples, commands, seconds, seed)


def report(
    site: World, mischief: Mischief, samples: Samples, commands: Commands, seconds: float, seed: int
) -> tuple[str, bool]:
    size, judge = site.size, site.judge
    elsewhere, outcomes = commands.elsewhere(), sorted(commands.outcomes.items())
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
        f"| settings set at random | {len(commands)} |",
        *(f"| ... `{one}` answered `{outcome}` | {count} |" for (one, outcome), count in outcomes),
        f"| ... not answered: broker or bridge were away, or the run was over | {commands.cut_off()} |",
        f"| ... not answered, and they were there | {len(commands.unanswered)} |",
        f"| `done` or `unchanged` that the device did not hold | {len(commands.wrong)} |",
        f"| writes of anything else | {len(elsewhere)} |",
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
        "never seen is found by the search for new modules, the longest of all.",
    ]  # fmt: skip
    never = [f"nothing was ever done to {one}" for (one, outcome), count in outcomes if outcome == "done" and not count]
    complaints = (judge.wrong, commands.wrong, commands.unanswered, list(map(str, elsewhere)), never)
    for complaint in (one for several in complaints for one in several[:20]):
        lines.append(f"\n    {complaint}")
    good = not (any(complaints) or not_back)
    return "\n".join(lines) + "\n", good


if __name__ == "__main__":
    sys.exit(main())
