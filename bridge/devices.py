"""What a device must offer, what it is given, and the one list from a config `type` to its slice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from bridge.fields import Reading
from bridge.options import option

if TYPE_CHECKING:
    from bridge.inbox import Foreign, ReadRegisters, SetSetting
    from bridge.transports.base import Stop
    from bridge.writing import Records, Writer

SLICES = {
    "axpert": "bridge.voltronic.device",
    "lxp": "bridge.luxpower.device",
    "pylontech": "bridge.pylontech.device",
    "pylontech-extra2000": "bridge.pylontech.extra2000_device",
}
"""Config type -> module. The module offers `Options` (a frozen dataclass, a subclass of
DeviceOptions) and `build(options, context) -> Device`. It is imported when a config names the type,
so a bridge does not pay for makers it does not serve."""


@dataclass(frozen=True, kw_only=True)
class DeviceOptions:
    """What every entry under `devices:` has; each slice's Options adds its own keys."""

    name: str
    type: str


@dataclass(frozen=True, kw_only=True)
class WritableOptions(DeviceOptions):
    """What every entry has whose device can be set."""

    writes: bool = option(False, doc="whether settings may be written")
    allow: tuple[str, ...] = option((), doc="settings of class B and C that may be written, by name")
    writes_per_minute: int = option(12, minimum=1, maximum=60, doc="words written in a minute at most")
    writes_per_day: int = option(100, minimum=1, maximum=1000, doc="words written in a day at most, over restarts")
    time_sync: bool = option(False, doc="whether the device's clock is set when it is 2 minutes off; needs writes")

    @staticmethod
    def conflicts(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """What concerns writing is of no use while writing is off; a slice's own conflicts come on top of these."""
        for key in ("allow", "time_sync"):
            if values.get(key) and values.get("writes") is False:
                yield key, "is of no use without writes: true"


@dataclass
class Tally:
    """What happened on one device's line, for `{base}/health`. Written by the owning thread only."""

    polls: int = 0
    replies: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    """By kind: the kinds of ProtocolError, plus "no_reply" and "link"."""
    last_failure: str | None = None
    busy: float = 0.0
    """Seconds from the first byte of a request to the last byte of its reply, summed up."""

    def failed(self, kind: str, text: str) -> None:
        """Count one failure and remember its words."""
        self.failures[kind] += 1
        self.last_failure = text


class Context(NamedTuple):
    """What the program gives a device to live with.

    `beat` must be called at least every few seconds by anything that takes long, so that the
    supervisor can tell a busy thread from a hung one; transports waiting for bytes need not, since
    every wait has a deadline of seconds.
    """

    stop: Stop
    tally: Tally
    beat: Callable[[], None]
    records: Records | None = None
    """Where writes of settings are recorded; None where none are allowed."""


class Found(NamedTuple):
    """Who answered on a port that somebody looked at: in words, and as an entry of `devices` with a name to change.

    A slice whose devices are on ports offers ``sound_out_port(port, stop) -> list[Found]``.
    """

    words: str
    entry: Mapping[str, object]


class Device(Protocol):
    """One bus with all that lives on it. Every method is called by the owning thread alone."""

    @property
    def interval(self) -> float:
        """Seconds from the start of one poll to the start of the next."""

    def open(self) -> None:
        """Open the port. Raises LinkError."""

    def close(self) -> None:
        """Close the port; harmless when it is closed already."""

    def poll(self) -> Iterator[Reading | None]:
        """Ask one round of questions; yield each Reading as soon as its frame is decoded.

        Yields None where a question gave nothing to publish, so that the publisher gets its turn
        between any two exchanges: commands and stop are answered there. A single failed question is
        counted in the tally and does not end the round. Raises LinkError when the port must be
        reopened, NoReply when the whole round brought no answer.
        """

    def fileno(self) -> int | None:
        """The descriptor to watch between polls, or None when nothing comes unasked."""

    def receive(self) -> Iterator[Reading | None]:
        """Take what came unasked, after `fileno` became readable. Raises as `poll` does."""

    def refresh(self) -> None:
        """Let the next poll ask everything again, the slow questions too."""


@runtime_checkable
class Obedient(Protocol):
    """A device that takes further commands."""

    def obey(self, command: ReadRegisters | SetSetting | Foreign) -> Iterator[Reading | None]:
        """Note a command for the next poll, which comes at once; yield what can be said about it already.

        Called between any two exchanges, and while the port is closed. Raises CommandError for a kind of command that
        there is no answer to.
        """


@runtime_checkable
class Settable(Protocol):
    """A device whose settings can be written; its `obey` takes SetSetting, too."""

    writer: Writer


@runtime_checkable
class Patient(Protocol):
    """A device that knows better than the publisher how soon its port may be opened again."""

    def pause(self) -> float:
        """Return the seconds to wait after a failure."""


@runtime_checkable
class Lasting(Protocol):
    """A device that holds something from one opening to the next, such as a port on which it listens."""

    def give_up(self) -> None:
        """Let go of that, too: the object is not used again."""


def slice_of(device_type: str) -> Any:
    """Return the slice module of a config type (a key of SLICES)."""
    return import_module(SLICES[device_type])
