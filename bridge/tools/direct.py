"""A device asked by a tool itself, while no bridge has it: the same slice, without its thread and without a broker."""

from __future__ import annotations

import os
import pwd
import select
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from bridge.devices import Context, Device, DeviceOptions, Obedient, Settable, Tally, WritableOptions, slice_of
from bridge.errors import CommandError, LinkError, NoReply
from bridge.fields import Channel, Reading
from bridge.inbox import SetSetting
from bridge.statefile import state_directory
from bridge.transports.base import Stop

READY = 20.0
"""Seconds in which a device may learn what it is before a command is given all the same."""
REOPEN = 1.0
"""Seconds between two attempts to open a device whose link broke."""
QUIET = 2
"""Rounds in a row that bring nothing new, after which a device has told all it tells: one may have been spent on a
question that it refuses."""
BETWEEN = 0.2
"""Seconds between two such rounds at most."""


SERVICE = (Path("/var/lib/solarbridge"), Path("/data/var/lib/solarbridge"))
"""The service's folder; the other one on Venus OS."""


class Direct:
    """One device, opened for as long as a tool needs it. Raises LinkError like the device itself."""

    def __init__(self, options: DeviceOptions, folder: Path, stop: Stop) -> None:
        records = None
        if isinstance(options, WritableOptions) and options.writes:
            from bridge.records import records_of

            records = records_of(options, folder)
        self._stop = stop
        context = Context(stop=stop, tally=Tally(), beat=lambda: None, records=records)
        self._device: Device = slice_of(options.type).build(options, context)
        self._taken: list[Reading] = []
        self._known: set[tuple[str, Channel, str]] = set()
        """Unit, channel and key of every value that was told."""

    def __enter__(self) -> Self:
        self._device.open()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._device.close()

    def readings(
        self, enough: Callable[[list[Reading]], bool], seconds: float, *, whole: bool = False
    ) -> list[Reading]:
        """Poll until what was read is enough, or the time is over; return it. Everything is asked at once.

        With `whole` a round that has begun is heard to its end, and others follow as long as they bring something new:
        a device tells its state as soon as there is one, and a battery tells what it is rarely asked one by one.
        """
        self._device.refresh()
        until, quiet = time.monotonic() + seconds, 0

        def that_is_all(taken: list[Reading]) -> bool:
            return time.monotonic() > until if whole else enough(taken)

        def goes_on() -> bool:
            return time.monotonic() < until and (not enough(self._taken) or (whole and quiet < QUIET))

        while goes_on():
            before = len(self._known)
            try:
                self._take(self._device.poll(), that_is_all)
            except NoReply:
                continue
            quiet = quiet + 1 if len(self._known) == before else 0
            if goes_on():
                pause = min(self._device.interval, BETWEEN) if whole else self._device.interval
                self._wait(min(pause, max(0.0, until - time.monotonic())))
        return self._taken

    def set(self, command: SetSetting, seconds: float) -> Reading | None:
        """Carry out one command; return its result, or None when there was none in time. Raises CommandError."""
        device = self._device
        if not isinstance(device, Obedient):
            raise CommandError("it is for reading only")
        if not self.readings(self._is_ready, min(READY, seconds)):
            return None
        self._taken.clear()
        self._take(device.obey(command._replace(tag=self)), self._has_result)
        until = time.monotonic() + seconds
        try:
            self.readings(self._has_result, seconds)
        except LinkError:
            if not isinstance(device, Settable) or not device.writer.interrupted():
                raise
            self._read_back(until)
            self._take(device.writer.end(), lambda _taken: False)
        return next((one for one in self._taken if self._is_result(one)), None)

    def _read_back(self, until: float) -> None:
        """See, as the bridge does, what became of a frame behind which the link broke, once there is a link again."""
        while time.monotonic() < until and not self._stop.wait(REOPEN):
            self._device.close()
            try:
                self._device.open()
                self.readings(self._has_result, until - time.monotonic())
                return
            except LinkError:
                continue

    def _has_result(self, taken: list[Reading]) -> bool:
        return any(self._is_result(one) for one in taken)

    def _is_result(self, reading: Reading) -> bool:
        """Whether it is that of our command: one that was left open before is settled and told of, too."""
        return reading.channel is Channel.RESULT and reading.tag is self

    def _is_ready(self, taken: list[Reading]) -> bool:
        """Whether the device has said what it is and what can be set; where nothing may be set, that it is there."""
        if isinstance(self._device, Settable) and self._device.writer.on:
            # an LXP tells its settings once all of them are read, and its next state only at the next round
            return any(one.unit.controls or one.channel is Channel.SETTINGS for one in taken)
        return any(one.channel is Channel.STATE for one in taken)

    def _take(self, readings: Iterable[Reading | None], enough: Callable[[list[Reading]], bool]) -> None:
        for reading in readings:
            if reading is not None:
                self._taken.append(reading)
                place = reading.unit.path, reading.channel
                self._known.update((*place, key) for key, value in reading.values.items() if value is not None)
            if enough(self._taken):
                break

    def _wait(self, seconds: float) -> None:
        """Wait for the next round, or for what comes unasked."""
        descriptor = self._device.fileno()
        if descriptor is None:
            self._stop.wait(seconds)
            return
        ready, _, _ = select.select([descriptor, self._stop.fileno()], [], [], seconds)
        if descriptor in ready:
            self._take(self._device.receive(), lambda _taken: False)


def records_folder(configured: str | None, environ: Mapping[str, str]) -> Path:
    """Return where writes are recorded. Root records where the service does, as the service's user.

    So there is one budget and one audit log, whoever asks the device. A file of root's among them would lock the
    service out, so root's rights are given up for good.
    """
    folder = state_directory(configured, environ)
    if os.geteuid() != 0:
        return folder
    service = next((path for path in SERVICE if path.is_dir()), None)
    if configured or environ.get("STATE_DIRECTORY") or service is None:
        _become_owner(next(path for path in (folder, *folder.absolute().parents) if path.exists()))
        return folder
    _become_owner(service)
    home = state_directory(None, {"HOME": str(service)})  # started by a script it is a user like any other
    return home if home.is_dir() else service


def _become_owner(folder: Path) -> None:
    owner = folder.stat()
    if owner.st_uid == 0:
        return
    try:
        os.initgroups(pwd.getpwuid(owner.st_uid).pw_name, owner.st_gid)
    except KeyError:
        raise LinkError(f"{folder} belongs to user {owner.st_uid}, whom this machine does not know") from None
    os.setgid(owner.st_gid)
    os.setuid(owner.st_uid)
    if not all(os.access(file, os.R_OK) for file in (__file__, os.__file__)):  # what it needs is loaded bit by bit
        raise LinkError(f"the owner of {folder} may not read this program; use the one that is installed for all")
