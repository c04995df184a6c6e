"""What an entry of `devices` with `type: axpert` can hold. (pure)"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from bridge.config import topic
from bridge.devices import DeviceOptions
from bridge.options import option
from bridge.voltronic.plan import ALSO


def _parallel(value: Any) -> str | None:
    return "expected auto, false, or the number of units" if value is True else None


def _writes(value: Any) -> str | None:
    return "settings of an axpert cannot be written yet; expected false" if value else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    """`topics`: the JSON of the Hassio add-on that many dashboards read. null switches one off."""

    parallel: str | None = option("power/axpert", check=topic, doc="where QPGS0 is published")
    unit: str | None = option("power/axpert{sn}", check=topic, doc="where QPIGS goes; {sn} is the serial number")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(DeviceOptions):
    """One entry of `devices` with `type: axpert`."""

    port: str = option(doc="hid, hid:SERIAL, /dev/hidraw0 or a serial port")
    baud: int = option(2400, minimum=300, maximum=115200, doc="of a serial port")
    protocol: Literal["auto", "PI30", "PI41", "PI18"] = option("auto", doc="what the inverter speaks")
    interval: float = option(1.0, minimum=0, maximum=3600, doc="s from one round to the next; 0 keeps the line busy")
    alarms_interval: float = option(30.0, minimum=1, maximum=3600, doc="s between readings of warnings and faults")
    settings_interval: float = option(300.0, minimum=10, maximum=86400, doc="s between readings of ratings, settings")
    energy_interval: float = option(300.0, minimum=10, maximum=86400, doc="s between readings of energy counters")
    max_age: float | None = option(None, minimum=2, maximum=86400, doc="s a reading stays true; 10 or three intervals")
    parallel: Literal["auto"] | int | bool = option("auto", minimum=1, maximum=9, check=_parallel, doc="units")
    topics: Topics = option(Topics(), doc="topics other software expects")
    writes: bool = option(False, check=_writes, doc="whether settings may be written")
    also: tuple[str, ...] = option((), choices=ALSO, doc="questions nobody needs every day")
