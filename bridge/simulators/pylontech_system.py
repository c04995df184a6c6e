"""The inverter-side set of a simulated Pylontech stack: 60h to 63h, totals of the whole stack.

Source: emulators and converters only (ai-republic/bms-to-inverter, dalathegreat/Battery-Emulator,
Fahmula/esphome-pylontech-rs485); the vendor's V3.5 paper could not be read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bridge.simulators.pylontech_frames import Entry, Info, da, dk, letters, mv
from bridge.simulators.pylontech_stack import Snapshot


def basic(snaps: Sequence[Snapshot]) -> Info:
    """Return 60h."""
    # unconfirmed: only one source describes this answer
    model = snaps[0].module.model
    info = [letters("device_name", model.identity, 10), letters("manufacturer", "Pylon", 20, b"-")]
    info += [Entry("software_version", 2, model.version), Entry("module_count", 1, len(snaps))]
    return info + [letters(f"module_{n}_serial", snap.module.serial, 16) for n, snap in enumerate(snaps, 1)]


def totals(snaps: Sequence[Snapshot]) -> Info:
    """Return 61h."""
    cells = [(raw, n, c) for n, snap in enumerate(snaps, 1) for c, raw in enumerate(snap.cells, 1)]
    heat = [(2731 + t, n, c) for n, snap in enumerate(snaps, 1) for c, t in enumerate(snap.temperatures[1:5], 1)]
    remaining = sum(snap.remaining for snap in snaps)
    capacity = sum(snap.module.model.capacity for snap in snaps)
    cycles = [snap.module.cycles for snap in snaps]
    health = [snap.module.soh for snap in snaps]
    info = [
        Entry("total_voltage", 2, sum(snap.voltage for snap in snaps) // len(snaps), mv),
        # unconfirmed: 0.1 A here, 0.01 A in other sources
        Entry("total_current", 2, round(sum(snap.current for snap in snaps) / 100), da),
        Entry("soc", 1, round(100 * remaining / capacity)),
        Entry("average_cycles", 2, sum(cycles) // len(cycles)),
        Entry("most_cycles", 2, max(cycles)),
        Entry("average_soh", 1, sum(health) // len(health)),
        Entry("lowest_soh", 1, min(health)),
    ]
    info += [*_place("highest_cell", max(cells), mv), *_place("lowest_cell", min(cells), mv)]
    info += [Entry("average_cell_temperature", 2, sum(t for t, _, _ in heat) // len(heat), dk)]
    info += [*_place("highest_cell_temperature", max(heat), dk), *_place("lowest_cell_temperature", min(heat), dk)]
    info += _sensors("mos", [2731 + snap.mos_temperature for snap in snaps])
    return info + _sensors("board", [2731 + snap.temperatures[0] for snap in snaps])


def warnings(_snaps: Sequence[Snapshot]) -> Info:
    """Return 62h: all is well, unless an override says otherwise."""
    return [Entry(name, 1, 0) for name in ("alarm_1", "alarm_2", "protection_1", "protection_2")]


def limits(snaps: Sequence[Snapshot]) -> Info:
    """Return 63h."""
    charge = sum(snap.module.limits()[0] for snap in snaps)
    discharge = sum(snap.module.limits()[1] for snap in snaps)
    return [
        Entry("charge_voltage_limit", 2, min(snap.module.model.advice.charge_voltage for snap in snaps), mv),
        Entry("discharge_voltage_limit", 2, max(snap.module.model.advice.discharge_voltage for snap in snaps), mv),
        # unconfirmed: 0.1 A here, 0.01 A in one source
        Entry("max_charge_current", 2, round(10 * charge), da),
        Entry("max_discharge_current", 2, -round(10 * discharge), da),
        Entry("management_status", 1, 0x80 * (charge > 0) | 0x40 * (discharge > 0)),
    ]


COMMANDS: dict[int, tuple[str, Callable[[Sequence[Snapshot]], Info]]] = {
    0x60: ("system basic", basic),
    0x61: ("system analog", totals),
    0x62: ("system alarm", warnings),
    0x63: ("system management", limits),
}


def _place(name: str, found: tuple[int, int, int], unit: Callable[[int], float]) -> Info:
    raw, module, cell = found
    return [Entry(name, 2, raw, unit), Entry(f"{name}_module", 1, module), Entry(f"{name}_number", 1, cell)]


def _sensors(name: str, raws: Sequence[int]) -> Info:
    """Return average, highest and lowest of one sensor of each module, the last two with the module's number."""
    info = [Entry(f"average_{name}_temperature", 2, sum(raws) // len(raws), dk)]
    for word, raw in (("highest", max(raws)), ("lowest", min(raws))):
        info += [Entry(f"{word}_{name}_temperature", 2, raw, dk)]
        info += [Entry(f"{word}_{name}_module", 2, raws.index(raw) + 1)]
    return info
