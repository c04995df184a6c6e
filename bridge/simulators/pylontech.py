"""A simulated Pylontech stack on RS485: any number of modules in any number of groups.

    with PylontechSimulator(modules=4, baud=115200, link="/tmp/batteries") as stack:
        stack.stack.modules[0x03].silent = True         # addresses as on the bus: 16 * group + 2 and up
        stack.stack.modules[0x04].override["cell_3"] = 0xFFFF
        stack.faults.swapped_digits = 1
        stack.swap(0x02, 0x05)

A frame's sequence number stands in its cells and pack voltages (pylontech_stack): 42h carries it modulo 1000; the
other answers have no room for it. In the truth log a frame is called by its command ("42" to "96"), `unit` is the
module's serial; a group's answer ("42 group") has unit "" and its keys begin with "serial/".
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Unpack

from bridge.simulators import pylontech_frames as frames
from bridge.simulators import pylontech_system as system
from bridge.simulators.living import DayClock
from bridge.simulators.pylontech_bus import BAUD, OfAStack, StackSimulator
from bridge.simulators.pylontech_faults import PylontechFaults
from bridge.simulators.pylontech_models import MODELS
from bridge.simulators.pylontech_stack import Module, Snapshot
from bridge.simulators.simulator import Reply, Simulator, on_a_line
from bridge.simulators.truth import Scalar, TruthLog

FIRST, PER_GROUP, GROUPS = 2, 12, 16
"""Number of a group's master, modules in a group by the vendor's paper, groups on a bus."""
LONGEST_REQUEST = 4200
WHOLE_GROUP = b"\xff"
WRITES = (0x91, 0x94, 0x95, 0x99)


class PylontechSimulator(StackSimulator):
    """Modules on one RS485 pair.

    Group `group` is filled from address 2 on, `per_group` to a group, then the next one; or `addresses` names each
    place. `inverter_set` answers 60h to 63h at each master, which most modules refuse.
    """

    faults: PylontechFaults

    def __init__(
        self,
        name: str = "batteries",
        *,
        group: int = 0,
        per_group: int = PER_GROUP,
        addresses: Sequence[int] | None = None,
        inverter_set: bool = False,
        **common: Unpack[OfAStack],
    ) -> None:
        super().__init__(name, PylontechFaults, **common)
        self._settle(addresses if addresses is not None else bus_addresses(len(self._made), group, per_group))
        self.inverter_set = inverter_set

    def _split(self, received: bytes) -> int:
        end = received.find(b"\r")
        if end < 0 and len(received) > LONGEST_REQUEST:
            self.line.discard(len(received))
        return end + 1

    def _answer(self, request: bytes) -> Reply | None:
        asked = frames.parse(request)
        if asked is None or not self._hears():
            return None
        if asked.command in WRITES and asked.code == frames.OK:
            self.writes.append(f"{asked.command:02X} {asked.info.hex().upper()}".rstrip())
        address = asked.address
        if self.faults.answer_from is not None and self.faults.only in request:
            address = self.faults.answer_from
        module = self.stack.modules.get(address)
        if module is None:
            return self._for_absent(asked)
        if module.silent:
            return None
        if asked.code != frames.OK:
            return self._refusal(address, asked, asked.code)
        if module.unreachable:
            return self._refusal(address, asked, frames.DEAD)
        if address != asked.address:
            info = asked.info if asked.info[:1] == WHOLE_GROUP else bytes([address])
            asked = asked._replace(address=address, info=info)
        return self._of_module(asked, module)

    def _for_absent(self, asked: frames.Asked) -> Reply | None:
        master = self.stack.modules.get(asked.address & 0xF0 | FIRST)
        if self.faults.absent_rtn is None or master is None or master.silent:
            return None
        return self._refusal(asked.address, asked, self.faults.absent_rtn)

    def _refusal(self, address: int, asked: frames.Asked, code: int) -> Reply:
        self.next_sequence()
        return Reply(frames.frame(address, code, ""), f"{asked.command:02X}", {"address": address, "rtn": code})

    def _of_module(self, asked: frames.Asked, module: Module) -> Reply | None:
        address, info = asked.address, asked.info
        if asked.command in (0x42, 0x44) and info[:1] == WHOLE_GROUP and address & 0xF == FIRST:
            # no answer at all is what users of such models see (python-pylontech issues 10, 23, 41)
            return self._group(asked) if module.model.groups else None
        answer = COMMANDS.get(asked.command)
        if answer is None and not (self.inverter_set and asked.command in system.COMMANDS and address & 0xF == FIRST):
            return self._refusal(address, asked, frames.BAD_COMMAND)
        # a second byte is tolerated, any INFO where none is wanted too; 93h is known to do without (python-pylontech)
        if asked.command in ADDRESSED and info[:1] != bytes([address]) and not (asked.command == 0x93 and not info):
            return self._refusal(address, asked, frames.BAD_DATA)
        self.next_sequence()
        entries = answer(self, address, module) if answer else self._system(asked.command)
        values: dict[str, Scalar] = {"address": address, **frames.values_of(entries, module.override)}
        data = frames.frame(address, frames.OK, frames.text_of(entries, module.override))
        return Reply(data, f"{asked.command:02X}", values, module.serial)

    def _group(self, asked: frames.Asked) -> Reply:
        """Answer for a whole group: the second byte counts the modules."""
        sequence = self.next_sequence()
        build = frames.analog if asked.command == 0x42 else frames.alarm
        text, count = "", 0
        values: dict[str, Scalar] = {"address": asked.address}
        for address, module in self.stack:
            if address & 0xF0 != asked.address & 0xF0:
                continue
            missing = module.silent or module.unreachable
            if missing and not self.faults.zero_filled:
                continue
            # unconfirmed: whether a dead module is left out or is all zeros
            entries = build(self.stack.snapshot(address, sequence))
            if missing:
                entries = [e if e.name.endswith("_count") or e.name == "items" else e._replace(raw=0) for e in entries]
            text += frames.text_of(entries, module.override)
            values |= frames.values_of(entries, module.override, f"{module.serial}/")
            count += 1
        data = frames.frame(asked.address, frames.OK, f"00{count:02X}{text}")
        return Reply(data, f"{asked.command:02X} group", values)

    def _system(self, command: int) -> frames.Info:
        snaps = [self.stack.snapshot(place, self.sequence) for place, module in self.stack if not module.silent]
        return system.COMMANDS[command][1](snaps)

    def measured(self, address: int, build: Callable[[Snapshot], frames.Info]) -> frames.Info:
        """Return a single answer to 42h or 44h: infoflag, the address, the module."""
        head = [frames.Entry("infoflag", 1, 0), frames.Entry("command_value", 1, address)]
        return head + build(self.stack.snapshot(address, self.sequence))

    def master_of(self, address: int) -> Module:
        """Return the first module of an address's group."""
        return min((a, m) for a, m in self.stack if a & 0xF0 == address & 0xF0)[1]


def _turned_off(_sim: PylontechSimulator, _address: int, module: Module) -> frames.Info:
    module.silent = True
    return []


COMMANDS: dict[int, Callable[[PylontechSimulator, int, Module], frames.Info]] = {
    0x42: lambda sim, address, _: sim.measured(address, frames.analog),
    0x44: lambda sim, address, _: sim.measured(address, frames.alarm),
    0x47: lambda _sim, _address, module: frames.parameters(module.model),
    0x4F: lambda _sim, _address, _module: [],
    # seen at every address: the identity of the master (Tomcat42/pylontech-python, martiby/ess)
    0x51: lambda sim, address, _: frames.manufacturer(sim.master_of(address).model),
    0x92: lambda _sim, address, module: frames.management(module, address),
    0x93: lambda _sim, address, module: frames.serial(module, address),
    0x94: lambda _sim, _address, _module: [],
    0x95: _turned_off,
    0x96: lambda _sim, address, module: frames.firmware(module.model, address),
}
ADDRESSED = (0x42, 0x44, 0x92, 0x93, 0x94, 0x95, 0x96)
"""Commands whose INFO begins with the address."""


def bus_addresses(count: int, group: int = 0, per_group: int = PER_GROUP) -> list[int]:
    """Return the addresses of so many modules, groups filled one after the other. Raises ValueError beyond the last."""
    if not 1 <= per_group <= 14 or group + (count + per_group - 1) // per_group > GROUPS:
        raise ValueError(f"{count} modules, {per_group} to a group from group {group} on, do not fit on one bus")
    return [16 * (group + i // per_group) + FIRST + i % per_group for i in range(count)]


def stack_options(options: argparse.Namespace, clock: DayClock, truth: TruthLog) -> OfAStack:
    """Return what the options say that every stack has."""
    modules = int(options.modules) if options.modules.isdigit() else options.modules.split(",")
    line = on_a_line(options, clock, truth)
    return {"modules": modules, "model": options.model, "soc": options.soc, "strict_speed": False, **line}


def add_model_arguments(parser: argparse.ArgumentParser, model: str) -> None:
    """Add what says which modules there are."""
    parser.add_argument("--modules", default="4", metavar="N|LIST", help="how many, or models: US5000,US2000,US2000")
    parser.add_argument("--model", choices=list(MODELS), default=model, help="of all modules (default: %(default)s)")
    parser.add_argument("--soc", type=float, default=62.0, metavar="PERCENT", help="state of charge at the start")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this simulator's own options to those every simulator has."""
    add_model_arguments(parser, "US2000C")
    parser.add_argument("--console", action="store_true", help="the RS232 console instead of RS485")
    parser.add_argument("--asleep", action="store_true", help="console: wants the wake-up at 1200 baud")
    parser.add_argument("--group", type=int, default=0, metavar="N", help="RS485: the first group")
    parser.add_argument("--per-group", type=int, default=PER_GROUP, metavar="N", help="RS485: modules in a group")
    parser.set_defaults(baud=BAUD)


def from_arguments(options: argparse.Namespace, clock: DayClock, truth: TruthLog) -> Simulator:
    """Build the simulator that the options describe."""
    common = stack_options(options, clock, truth)
    if options.console:
        from bridge.simulators.pylontech_console import ConsoleSimulator

        return ConsoleSimulator(asleep=options.asleep, **common)
    return PylontechSimulator(group=options.group, per_group=options.per_group, **common)
