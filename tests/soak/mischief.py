"""What is done to the large house: one fault at a time on a device, and how long until it is well again."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tests.harness import await_true
from tests.soak.world import World

UP, DOWN = 2.0, 6.0
"""Seconds that a fault lasts, at least and at most."""
HOUSE_WIDE = 0.05
"""How often the next fault strikes the broker or the bridge itself."""
RECOVERY = 90.0
"""Seconds after which a device that has not come back is given up: a stick is connected to again after up to 60 s."""


@dataclass
class Fault:
    """One kind of fault on one device: how it begins, how it ends, and which devices it strikes."""

    kind: str
    begin: Callable[[], None]
    end: Callable[[], None]
    strikes: list[str]


@dataclass
class Account:
    """What became of the faults of one kind."""

    times: int = 0
    worst: float = 0.0
    not_back: int = 0


@dataclass
class _Waiting:
    fault: Fault
    ended: float
    missing: set[str] = field(default_factory=set)


def knobs(simulator: Any, **values: Any) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return what turns a simulator's knobs, and what turns all of them back."""

    def begin() -> None:
        for name, value in values.items():
            setattr(simulator.faults, name, value)

    return begin, simulator.faults.clear


LINE = {
    "silent": {"silent": True},
    "one bit of each reply": {"flips": 1},
    "one bit of some replies": {"flips": 1, "chance": 0.3},
    "cut short": {"cut": 11},
    "noise around": {"noise_before": b"\x00\xff(~2", "noise_after": b"\r~\n"},
    "endless noise": {"chatter": True},
    "late answers": {"delay": 0.7},
    "joined answers": {"merge": 2},
    "told twice": {"duplicates": 1},
    "byte by byte": {"byte_pause": 0.0002},
}
AXPERT = {"three bits": {"flips": 3}, "NAK to everything": {"nak_all": True}, "wrong CRC": {"wrong_crc": True},
          "cut on a report": {"cut": 8}}  # fmt: skip
PYLONTECH = {"wrong checksum": {"wrong_checksum": True}, "wrong address": {"address": 5},
             "refused": {"rtn": 4}, "length that lies": {"claimed_length": 9}}  # fmt: skip
LXP = {
    "refused": {"refuse": True}, "reset at once": {"reset_at_once": True}, "stands still": {"hang": True},
    "only heartbeats": {"only_heartbeats": True}, "drops in a frame": {"drop_at": 60}, "wrong CRC": {"wrong_crc": True},
    "three bits": {"flips": 3}, "byte by byte": {"segment": 1}, "other serial": {"other_inverter": "9999999999"},
    "wrong length": {"data_length": 5}, "foreign block": {"foreign_block": (64, 8)},
}  # fmt: skip


class Mischief:
    """Chooses faults at random, begins and ends them, and watches the way back."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._random = random.Random(seed)
        self._running: list[tuple[float, Fault]] = []
        self._waiting: list[_Waiting] = []
        self.accounts: dict[str, Account] = {}
        self._quiet_until = 0.0
        self._house_wide: Fault | None = None

    # -- all there is

    def _device_faults(self) -> list[Fault]:
        world, found = self._world, []
        for simulators, kinds, maker in (
            (world.stacks, LINE | PYLONTECH, "Pylontech"),
            (world.roofs, LINE | AXPERT, "Axpert"),
            (world.houses, LXP, "LXP"),
        ):
            for name, simulator in simulators.items():
                for kind, values in kinds.items():
                    found.append(Fault(f"{maker}: {kind}", *knobs(simulator, **values), [name]))
                if maker != "LXP":
                    found.append(Fault(f"{maker}: unplugged", simulator.unplug, simulator.replug, [name]))
        for name, stack in world.stacks.items():
            for module in list(stack.stack.modules.values())[1:]:
                begin, end = partial(setattr, module, "silent", True), partial(setattr, module, "silent", False)
                found.append(Fault("Pylontech: one module silent", begin, end, [f"{name}/{module.serial}"]))
        return found

    def _house_faults(self) -> list[Fault]:
        world, every = self._world, list(self._world.devices)
        proxy = world.proxy
        return [
            Fault("broker: link cut", proxy.cut, proxy.resume, every),
            Fault("broker: black hole", partial(setattr, proxy, "mode", "hang"), lambda: (proxy.cut(), proxy.resume()),
                  every),
            Fault("broker: answers lost", partial(setattr, proxy, "mode", "drop-answers"),
                  lambda: (proxy.cut(), proxy.resume()), every),
            Fault("broker: nobody listens", proxy.refuse, proxy.resume, every),
            Fault("broker: stands still", partial(world.broker.send, signal.SIGSTOP),
                  partial(world.broker.send, signal.SIGCONT), every),
            Fault("bridge: frozen", partial(world.bridge.send, signal.SIGSTOP),
                  partial(world.bridge.send, signal.SIGCONT), every),
            Fault("bridge: killed", self._kill, self._start, every),
            Fault("bridge: stopped", self._stop, self._start, every),
        ]  # fmt: skip

    def _kill(self) -> None:
        self._world.bridge.send(signal.SIGKILL)
        assert self._world.bridge.process is not None
        self._world.bridge.process.wait(10)

    def _stop(self) -> None:
        assert self._world.bridge.stop() == 0, "a stop is clean"

    def _start(self) -> None:
        self._world.judge.restarted()
        self._world.bridge.start()

    # -- doing it

    @property
    def way_is_open(self) -> bool:
        """Whether the broker and the bridge are well, and all are back that were lost with them."""
        faults = [fault for _, fault in self._running] + [waiting.fault for waiting in self._waiting]
        return all(len(fault.strikes) == 1 for fault in faults)

    def turn(self) -> None:
        """End what is due, begin something new now and then, see who is back."""
        now = time.monotonic()
        for entry in [entry for entry in self._running if entry[0] <= now]:
            self._running.remove(entry)
            self._lift(entry[1])
        self._look_for_those_coming_back()
        if now < self._quiet_until:
            return
        if self._house_wide is None and self._random.random() < HOUSE_WIDE:
            self._house_wide = self._random.choice(self._house_faults())
        if self._house_wide is not None:
            if self._running or self._waiting:
                return  # its own way back could not be told from theirs
            fault, self._house_wide = self._house_wide, None
            wide = True
        elif len(self._running) >= max(2, len(self._world.devices) // 4):
            return
        else:
            fault, wide = self._random.choice(self._free_faults()), False
        fault.begin()
        seconds = self._random.uniform(UP, DOWN)
        self._running.append((now + seconds, fault))
        self.accounts.setdefault(fault.kind, Account()).times += 1
        self._quiet_until = now + (seconds + 3.0 if wide else self._random.uniform(0.1, 1.0))

    def _free_faults(self) -> list[Fault]:
        busy = {name.partition("/")[0] for _, fault in self._running for name in fault.strikes}
        busy |= {name.partition("/")[0] for waiting in self._waiting for name in waiting.missing}
        free = [fault for fault in self._device_faults() if fault.strikes[0].partition("/")[0] not in busy]
        kinds = sorted({fault.kind for fault in free})
        if not kinds:
            return self._device_faults()[:1]
        kind = self._random.choice(kinds)
        return [fault for fault in free if fault.kind == kind]

    def _lift(self, fault: Fault) -> None:
        fault.end()
        self._waiting.append(_Waiting(fault, time.monotonic(), set(fault.strikes)))

    def _look_for_those_coming_back(self) -> None:
        now = time.monotonic()
        for waiting in list(self._waiting):
            account = self.accounts[waiting.fault.kind]
            for name in list(waiting.missing):
                device, _, unit = name.partition("/")
                back = self._world.devices[device].told(unit or None, waiting.ended)
                if back is not None:
                    waiting.missing.discard(name)
                    account.worst = max(account.worst, back - waiting.ended)
            if not waiting.missing:
                self._waiting.remove(waiting)
            elif now - waiting.ended > RECOVERY:
                account.not_back += 1
                account.worst = max(account.worst, now - waiting.ended)
                self._waiting.remove(waiting)

    def rest(self) -> None:
        """End everything that is still going on, and wait until all are back."""
        for _, fault in self._running:
            self._lift(fault)
        self._running.clear()

        def back() -> bool:
            self._world.judge.look(self._world.recorder.messages)
            self._look_for_those_coming_back()
            return not self._waiting

        await_true(back, RECOVERY + 10, "everybody is back")
