"""What an entry of `devices` with `type: axpert` can hold. (pure)"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bridge.config import any_port, fixed_topic, topic
from bridge.devices import WritableOptions
from bridge.options import option
from bridge.voltronic.plan import ALSO


def _parallel(value: Any) -> str | None:
    return "expected auto, false, or the number of units" if value is True else None


@dataclass(frozen=True, kw_only=True)
class Topics:
    """`topics`: the JSON of the Hassio add-on that many dashboards read. null switches one off."""

    parallel: str | None = option("power/axpert", check=fixed_topic, doc="where QPGS0 is published")
    unit: str | None = option("power/axpert{sn}", check=topic, doc="where QPIGS goes; {sn} is the serial number")


@dataclass(frozen=True, kw_only=True)
class Options(WritableOptions):
    """One entry of `devices` with `type: axpert`."""

    port: str = option(
        check=any_port, doc="hid, hid:SERIAL, /dev/solarbridge/axpert-..., /dev/hidraw0 or a serial port"
    )
    baud: int = option(2400, minimum=300, maximum=115200, doc="of a serial port")
    protocol: Literal["auto", "PI30", "PI41", "PI18"] = option("auto", doc="what the inverter speaks")
    interval: float = option(1.0, minimum=0, maximum=3600, doc="s from one round to the next; 0 keeps the line busy")
    alarms_interval: float = option(30.0, minimum=1, maximum=3600, doc="s between readings of warnings and faults")
    settings_interval: float = option(300.0, minimum=10, maximum=86400, doc="s between readings of ratings, settings")
    energy_interval: float = option(300.0, minimum=10, maximum=86400, doc="s between readings of energy counters")
    max_age: float | None = option(
        None, minimum=2, maximum=86400, doc="s a reading stays true; three intervals, at least 10"
    )
    parallel: Literal["auto"] | int | bool = option(
        "auto", minimum=1, maximum=9, check=_parallel,
        doc="auto: a parallel set is looked for; a number: so many units; false: a lone one; true is refused",
    )
    topics: Topics = option(Topics(), doc="topics other software expects")
    bounds: dict[str, tuple[float, ...]] = option({}, doc="your own lowest and highest volts of a setting")
    also: tuple[str, ...] = option((), choices=ALSO, doc="questions nobody needs every day")

    @staticmethod
    def conflicts(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """What is wrong between the keys, or with a setting named in one of them."""
        yield from WritableOptions.conflicts(values)
        allow, bounds = values.get("allow", ()), values.get("bounds", {})
        if not allow and not bounds:
            return
        from bridge.voltronic.settings import every_setter, nearest  # most bridges do without the table

        rows = [row for some in every_setter().values() for row in some]
        for name in allow:
            if name not in {row.key for row in rows}:
                yield "allow", f"{name!a} is no setting; {nearest(name, rows)}"
        in_volts = [row for row in rows if row.takes_bounds]
        for name, pair in bounds.items():
            if name not in {row.key for row in in_volts}:
                yield "bounds", f"{name!a} takes no bounds; {nearest(name, in_volts)}"
            elif len(pair) != 2 or not 0 < pair[0] < pair[1]:
                yield "bounds", f"{name}: expected [lowest, highest] in V"
