"""What each kind of battery module is and knows, one row a model.

Sources: vendor's RS485 protocol V3.3 (2018-08-21) section 3; frames in Frankkkkk/python-pylontech (issues 2, 10, 31),
Tomcat42/pylontech-python, martiby/ess; console texts in Hrabovszki1023/pylontech-console.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Protection(NamedTuple):
    """Where a module cuts off by itself: mV, °C and A, as command 47h tells them."""

    cell_high: int
    cell_low: int
    cell_under: int
    temperature_high: float
    temperature_low: float
    charge: int
    module_high: int
    module_low: int
    module_under: int
    discharge: int


class Advice(NamedTuple):
    """What a module asks of its chargers and loads: mV and A, magnitudes, as command 92h tells them."""

    charge_voltage: int
    discharge_voltage: int
    charge: float
    discharge: float


@dataclass(frozen=True, slots=True)
class Model:
    """A kind of module.

    `capacity` is in mAh; `wide` is the four-item form of 42h with three-byte capacities; `tail` counts the bytes that
    44h carries behind status 5; `groups` tells whether a master of this kind answers for the whole group (INFO FF).
    """

    name: str
    identity: str
    cells: int
    temperatures: int
    capacity: int
    wide: bool
    tail: int
    groups: bool
    version: int
    layout: str
    mos_sensor: bool
    protection: Protection
    advice: Advice


# fmt: off
_US2000 = Protection(3650, 3050, 2900, 61.0, -11.0, 102, 54000, 46000, 44500, 100)
_US2000C = Protection(3650, 3050, 2800, 60.0, -10.0, 90, 54000, 46000, 43500, 90)
_US5000 = Protection(3650, 3050, 2800, 60.0, -10.0, 100, 54000, 46000, 43000, 100)
# unconfirmed: no source shows the limits of these two
_UP2500 = Protection(3650, 3050, 2800, 60.0, -10.0, 111, 28800, 24500, 23200, 111)
_SIXTEEN = Protection(3650, 3050, 2800, 60.0, -10.0, 100, 57600, 49000, 45800, 100)


_A2000, _A2000C = Advice(53250, 47000, 25.0, 25.0), Advice(53250, 46000, 25.0, 25.0)
_A3000, _A3000C = Advice(53250, 47000, 37.0, 37.0), Advice(53250, 46000, 37.0, 37.0)
_A5000 = Advice(53250, 45000, 80.0, 80.0)
_A2500, _A16 = Advice(28400, 23200, 55.5, 55.5), Advice(56800, 48000, 50.0, 50.0)

_ROWS = (
    # name, 51h identity, cells, temperatures, mAh, wide, tail, groups, version, console, MOS sensor, 47h, 92h
    # unconfirmed: what a US3000 says to 47h and 92h, and whether a US5000 has a byte behind status 5
    Model("US2000", "US2KBPL", 15, 5, 50_000, False, 0, True, 0x0204, "2019", False, _US2000, _A2000),
    Model("US2000C", "US2000C", 15, 5, 50_000, False, 1, False, 0x0107, "c", True, _US2000C, _A2000C),
    Model("US3000", "US3000", 15, 5, 74_000, True, 0, True, 0x0204, "2019", False, _US2000, _A3000),
    Model("US3000C", "US3000C", 15, 5, 74_000, True, 1, False, 0x0104, "c", True, _US2000C, _A3000C),
    Model("US3000D", "US3000D", 15, 5, 74_000, True, 1, False, 0x0101, "us3000d", True, _US2000C, _A3000C),
    Model("US5000", "US5000", 15, 6, 100_000, True, 0, False, 0x0200, "2024", True, _US5000, _A5000),
    Model("UP2500", "UP2500", 8, 5, 111_000, True, 0, True, 0x0102, "c", False, _UP2500, _A2500),
    Model("16-cell", "LV16S", 16, 6, 100_000, True, 0, True, 0x0100, "c", True, _SIXTEEN, _A16),
    # unconfirmed: whether an Extra2000 speaks RS485; only its console is known (ned-kelly/extra200tomqtt)
    Model("Extra2000", "EXTRA2000", 15, 5, 50_000, False, 0, True, 0x0105, "2019", False, _US2000C, _A2000C),
)
# fmt: on

MODELS = {model.name: model for model in _ROWS}
