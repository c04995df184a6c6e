"""The thread of one device: poll, obey, reconnect.

The threads of the program, and what each may touch:

- ``main``: signals, the supervisor's rounds (supervisor.py). Touches no port and no socket but the
  service manager's; takes silent units offline through Presence, which is locked.
- one thread per device, named after it (this file): owns the device object and its port alone, reads,
  decodes, and publishes through the sinks itself. Told what to do through its Inbox, told to end
  through Stop.
- one thread per bank, named after it (keeper.py): reads the newest readings from its Board, computes and
  publishes; owns nothing else. Device threads fill the Board, ``mqtt`` its Watch; both are locked.
- ``resolve NAME``: looks a host name up for a device (transports/tcp.py) and ends by itself; touches
  nothing but its own result.
- ``mqtt NAMESPACE`` (sinks/lxp_bridge.py), for devices with ``compat: lxp-bridge``: the same as ``mqtt`` below for a
  connection of its own, made while no other program holds the namespace.
- ``mqtt`` (sinks/broker.py): owns the broker's connection: connects, receives, and sends what could
  not be sent at once. Device threads send through the same connection under its lock, without a hop.
"""

from __future__ import annotations

import logging
import select
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from bridge.backoff import Backoff
from bridge.damage import Damage
from bridge.devices import Context, Device, Lasting, Obedient, Patient, Settable, Tally
from bridge.errors import CommandError, LinkError, NoReply, ProtocolError, Stopped
from bridge.fields import Channel, Reading, Unit, Value
from bridge.inbox import CAPACITY, Command, Foreign, Inbox, ReadRegisters, Refresh, SetSetting
from bridge.presence import Presence
from bridge.sinks.base import Sink
from bridge.transports.base import Stop

if TYPE_CHECKING:
    from bridge.writing import Records

log = logging.getLogger(__name__)

LATE_AFTER = 30.0
"""Seconds without a heartbeat after which a device's thread counts as hung: the longest thing a device
does between two beats is one exchange with its retry, about 12 s."""

SILENT_ROUNDS = 3
"""After this many rounds without any answer the port is closed and opened again: an adapter may have
come back under another name, or its buffers may be out of step."""

TELL_EVERY = 10.0
"""Seconds between two answers that sum up commands which came too fast, and between two lines about refused ones."""


class Publisher:
    """Owns one device for the program's life; `run` is the body of its thread."""

    late_after = LATE_AFTER

    def __init__(
        self,
        name: str,
        build: Callable[[Context], Device],
        sinks: Iterable[Sink],
        stop: Stop,
        records: Callable[[], Records | None] = lambda: None,
    ) -> None:
        self.name = name
        self.inbox = Inbox()
        self.tally = Tally()
        self.presence = Presence(name, sinks)
        self.beat_at = time.monotonic()
        self.crashes = 0
        self._build = build
        self._make_records = records
        self._records: Records | None = None
        self._device: Device | None = None
        self._sinks = sinks
        self._stop = stop
        self._link_trouble: str | None = None
        self._damage = Damage(self.beat_at)
        self._refresh_wanted = False
        self._told_refused = 0
        self._tell_due = self._refusal_due = 0.0
        self._reopen = Backoff(1.0, 5.0)
        self._recover = Backoff(1.0, 60.0)

    def beat(self) -> None:
        """Show the supervisor that this thread is alive."""
        self.beat_at = time.monotonic()

    def run(self) -> None:
        """Serve the device until the program stops; whatever fails is closed, counted and tried again."""
        try:
            while not self._stop.is_set():
                self._pause(self._attend())
        except Stopped:
            self._refuse_the_rest()
        finally:
            self.presence.lost()

    def _refuse_the_rest(self) -> None:
        """Answer, at the end, every command that was not carried out."""
        if isinstance(self._device, Settable):
            self._tell(self._device.writer.end())
        for _ in range(CAPACITY):
            command = self.inbox.take()
            if isinstance(command, SetSetting | Foreign) and isinstance(self._device, Obedient):
                self._tell(self._device.obey(command))  # its port is closed, so it says no
            elif command is None:
                break
        if self._records is not None:
            self._records.ledger.save_again(now=True)

    def _attend(self) -> float:
        """Open the device and serve it until something fails; return the seconds to wait then."""
        try:
            if self._device is None:
                self._records = self._records or self._make_records()
                context = Context(stop=self._stop, tally=self.tally, beat=self.beat, records=self._records)
                self._device = self._build(context)
            self._device.open()
            self._serve(self._device)
        except (LinkError, NoReply, ProtocolError) as err:
            self._note_trouble(err)
            return self._device.pause() if isinstance(self._device, Patient) else self._reopen.pause()
        except Stopped:
            raise
        except Exception:  # the one broad except: a bug in one slice must not silence the others
            self.crashes += 1
            self.tally.failed("crash", "see the log")
            log.exception("%s: crashed, starting it anew later", self.name)
            self._close()
            if isinstance(self._device, Lasting):
                self._device.give_up()
            self._device = None
            return self._recover.pause()
        finally:
            self._close()
            self.presence.lost()
        return 0.0

    def _close(self) -> None:
        if self._device is not None:
            self._device.close()

    def _note_trouble(self, err: Exception) -> None:
        """Count a failed link; log it when it is news, not at every attempt."""
        text = str(err)
        self.tally.failed("link" if isinstance(err, LinkError) else "no_reply", text)
        if text != self._link_trouble:
            log.warning("%s: %s; trying again on and on", self.name, text)
            self._link_trouble = text

    def _look_for_damage(self) -> None:
        """Tell of a line on which much is damaged: rounds that bring less are no trouble of the link yet."""
        told = self._damage.look(time.monotonic(), self.tally.failures, self.tally.replies)
        if told is not None:
            log.log(logging.WARNING if self._damage.much else logging.INFO, "%s: %s", self.name, told)

    def _pause(self, seconds: float) -> None:
        """Wait before the next attempt. A refresh ends the wait, since it wants the device now."""
        until = time.monotonic() + seconds
        while seconds and time.monotonic() < until:
            self._wait(None, until)
            while (command := self.inbox.take()) is not None:
                if isinstance(command, Refresh):
                    until = 0.0  # nothing else to do: the next open reads everything
                elif isinstance(self._device, Obedient):
                    self._pass_on(self._device, command)
                else:
                    self._refuse(command, "it cannot be reached")
            self._keep_up()

    def _serve(self, device: Device) -> None:
        """Poll and obey until stopped or something fails."""
        due = time.monotonic()
        silent = 0
        while True:
            if self._wait(device.fileno(), min(due, self.presence.next_expiry())):
                self._deliver_all(device, device.receive())
            self._obey(device)
            self.presence.expire()
            now = time.monotonic()
            if now < due and not self._refresh_wanted:
                continue
            self._refresh_wanted = False
            due = max(due + device.interval, now)
            try:
                self._deliver_all(device, device.poll())
                silent = 0
            except NoReply:
                silent += 1
                if silent >= SILENT_ROUNDS:
                    raise
            self.tally.polls += 1
            self._look_for_damage()

    def _deliver_all(self, device: Device, readings: Iterator[Reading | None]) -> None:
        for reading in readings:
            self.beat()
            if reading is not None:
                self._deliver(reading)
            self._obey(device)

    def _deliver(self, reading: Reading) -> None:
        """Publish one reading, unless it has grown old on the way (the process was frozen)."""
        if time.monotonic() - reading.at > reading.unit.max_age:
            self.tally.failed("late", "a reading was older than its age limit and not published")
            return
        for sink in self._sinks:
            sink.take(self.name, reading)
        if reading.channel is not Channel.STATE:
            return
        self.presence.fresh(reading)
        if self._link_trouble is not None:
            log.info("%s: answers again", self.name)
            self._link_trouble = None
        self._reopen.reset()
        self._recover.reset()

    def _obey(self, device: Device) -> None:
        """Do what the inbox says; called between any two exchanges."""
        if self._stop.is_set():
            raise Stopped
        for _ in range(CAPACITY):  # a flood that comes as fast as it is taken must not keep the device waiting
            command = self.inbox.take()
            if command is None:
                break
            self._carry_out(device, command)
            self._refresh_wanted = True
        self._keep_up()

    def _carry_out(self, device: Device, command: Command) -> None:
        if isinstance(command, Refresh):
            device.refresh()
        elif isinstance(device, Obedient):
            self._pass_on(device, command)
        else:
            self._refuse(command, "it takes no such command")

    def _pass_on(self, device: Obedient, command: ReadRegisters | SetSetting | Foreign) -> None:
        try:
            self._tell(device.obey(command))
        except CommandError as err:
            self._refuse(command, str(err))

    def _refuse(self, command: Command, reason: str) -> None:
        """Answer a command that no device object takes."""
        if isinstance(command, SetSetting | Foreign):
            if isinstance(command, Foreign):
                known_by, unit, setting = None, "", command.path
            else:
                from bridge.request import id_in  # most bridges never need it

                known_by, unit, setting = id_in(command.payload), command.unit, command.setting
            values = {"id": known_by, "unit": unit, "setting": setting[:100], "outcome": "refused"}
            self._answer({**values, "reason": reason}, command.tag)
        elif not isinstance(command, Refresh) and time.monotonic() >= self._refusal_due:
            self._refusal_due = time.monotonic() + TELL_EVERY
            log.warning("%s: %s", self.name, reason)

    def _keep_up(self) -> None:
        """Do what is due beside the commands."""
        self._sum_up()
        if self._records is not None:
            self._records.ledger.save_again()
            if isinstance(self._device, Settable):
                self._tell(self._device.writer.overdue())

    def _sum_up(self) -> None:
        """Tell, in one answer now and then, of commands that came faster than they are taken."""
        excess = self.inbox.refused - self._told_refused
        if excess and time.monotonic() >= self._tell_due:
            self._tell_due = time.monotonic() + TELL_EVERY
            self._told_refused += excess
            log.warning("%s: %d commands came faster than they can be taken; refused", self.name, excess)
            reason = f"{excess} commands came faster than they can be taken"
            self._answer({"id": None, "setting": None, "outcome": "refused", "reason": reason}, None)

    def _answer(self, values: dict[str, Value], tag: object) -> None:
        unit = Unit("", self.name, (), LATE_AFTER)
        self._deliver(Reading(unit, values, time.monotonic(), channel=Channel.RESULT, tag=tag))

    def _tell(self, readings: Iterator[Reading | None]) -> None:
        for reading in readings:
            if reading is not None:
                self._deliver(reading)

    def _wait(self, device_fd: int | None, until: float) -> bool:
        """Wait for the inbox, the device or the time; return whether the device has something."""
        poller = select.poll()
        poller.register(self._stop.fileno(), select.POLLIN)
        poller.register(self.inbox.fileno(), select.POLLIN)
        if device_fd is not None:
            poller.register(device_fd, select.POLLIN)
        while True:
            left = until - time.monotonic()
            self.beat()
            events = poller.poll(min(max(left, 0.0), LATE_AFTER / 3) * 1000)
            if self._stop.is_set():
                raise Stopped
            if events or left <= 0:
                return any(fd == device_fd for fd, _ in events)
