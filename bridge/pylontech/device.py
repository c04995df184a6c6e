"""A stack of Pylontech modules on one cable: how it is configured, and which device serves which link."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from bridge.config import option, serial_port
from bridge.devices import Context, Device, DeviceOptions, Found
from bridge.fields import Field

if TYPE_CHECKING:
    from bridge.transports.base import Stop

LOWEST = 2
"""Number of a group's master."""


def _address(value: Any) -> str | None:
    return None if value == "auto" or value in range(1, 256) else "expected auto or addresses from 1 to 255"


# fmt: off
@dataclass(frozen=True, kw_only=True)
class Options(DeviceOptions):
    """One entry of `devices` with `type: pylontech`."""

    port: str = option(check=serial_port, doc="a serial port, best its name under /dev/serial/by-id")
    link: Literal["rs485", "console"] = option("rs485", doc="which of the master's sockets the cable is in")
    baud: int = option(115200, minimum=1200, maximum=500000, doc="of the port; RS485: 9600 with DIP switch 1 on")
    groups: tuple[int, ...] = option((0,), minimum=0, maximum=15, doc="RS485: where modules are looked for, 0 to 15")
    modules: Literal["auto"] | tuple[int, ...] = option("auto", check=_address, doc="addresses; on a console positions")
    interval: float = option(1.0, minimum=0, maximum=3600, doc="s from one round to the next; 0 keeps the line busy")
    alarms_interval: float = option(
        0.0, minimum=0, maximum=3600, doc="s between readings of alarms; 0 in every round (console: 10 at least)"
    )
    limits_interval: float = option(
        2.0, minimum=0, maximum=3600, doc="s between readings of what a module allows (console: 5 at least)"
    )
    cells_interval: float = option(10.0, minimum=0, maximum=3600, doc="console: s between readings of a module's cells")
    identity_interval: float = option(60.0, minimum=5, maximum=86400, doc="s after which a serial number is read again")
    settings_interval: float = option(3600.0, minimum=10, maximum=86400, doc="s between readings of versions")
    request: Literal["single", "group"] = option("single", doc="RS485: ask each module, or a whole group")
    inverter_set: bool = option(False, doc="RS485: ask for health and warnings as newer inverters do (61h, 62h)")
    turnaround: float = option(0.15, minimum=0.02, maximum=1, doc="s a module may think; longer is learned")
    login: bool = option(False, doc="console: whether to log in to its debug mode, which alone tells the limits")
    max_age: float | None = option(
        None, minimum=2, maximum=86400,
        doc="s a reading stays true; three intervals, at least 10, more for slow rounds (console: at least 15)",
    )

    @staticmethod
    def conflicts(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """What does not fit the kind of link."""
        modules = values.get("modules", "auto")
        if values.get("groups") == ():
            yield "groups", "found an empty list; expected at least one group"
        if modules == ():
            yield "modules", "found an empty list; expected auto or at least one address"
        if modules == "auto":
            return
        if values.get("link") == "console" and any(position > 16 for position in modules):
            yield "modules", "positions on a console are 1 to 16"
        if values.get("link") != "console" and any(address % 16 < LOWEST for address in modules):
            yield "modules", "the master of a group is 16 * group + 2; lower numbers do not exist in it"
# fmt: on


def build(options: Options, context: Context) -> Device:
    """Return the device for one entry of the configuration; its port is still closed."""
    if options.link == "console":
        from bridge.pylontech.console_device import ConsoleDevice

        console: Device = ConsoleDevice(options, context)
        return console
    from bridge.pylontech.rs485_device import StackDevice

    return StackDevice(options, context)


def sound_out_port(port: str, stop: Stop) -> list[Found]:
    """Return the stack that answers on a serial port, if any; see sounding.py."""
    from bridge.pylontech import sounding

    return sounding.sound_out_port(port, stop)


def documented_fields() -> dict[str, tuple[Field, ...]]:
    """Return what each kind of unit publishes, for the list of values: over RS485, and over the console."""
    from bridge.pylontech import console_tasks, questions

    return {**questions.published_fields(), **console_tasks.documented_fields()}
