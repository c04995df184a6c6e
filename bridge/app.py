"""The running bridge: configuration -> sinks, devices and threads; an orderly end on SIGTERM."""

from __future__ import annotations

import gc
import logging
import os
import signal
import time
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

from bridge import __version__, devices, logs
from bridge.clock import SANE_CLOCK
from bridge.config import Config, digest
from bridge.devices import Context, Device, DeviceOptions, WritableOptions
from bridge.notify import Notifier
from bridge.publisher import Publisher
from bridge.sinks.base import Sinks
from bridge.supervisor import Supervisor
from bridge.transports.base import Stop

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bridge.energy_keeper import EnergyKeeper
    from bridge.fields import Field
    from bridge.inbox import Inbox
    from bridge.keeper import Keeper
    from bridge.sinks.discovery import Discovery
    from bridge.sinks.lxp_bridge import LxpBridgeSink, Served
    from bridge.sinks.mqtt import MqttSink
    from bridge.sinks.session import Arrived
    from bridge.statefile import StateFile
    from bridge.writing import Records

log = logging.getLogger(__name__)

HEAD_START = 0.02
"""Seconds in which the devices' threads open their ports and put their first question, undisturbed by imports."""

HEALTH_EVERY = 30.0
"""Seconds between two messages on {base}/health."""

CLOCK_SET = 2.0
"""Seconds by which the wall clock has to be moved for `info` to be told anew."""

DEVICES_END = 1.0
"""Seconds the devices' threads get to end; their waits notice the stop at once."""

FLUSH = 1.5
"""Seconds to bring the last messages to the broker. Together with DEVICES_END under the 3 s promised."""


class App:
    """One run of the bridge."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stop = Stop()
        self._notifier = Notifier()
        self._began = time.monotonic()
        self._started: float | None = None
        """The same as Unix time, as it was told; None while the clock is not set."""
        self._health_due = time.monotonic() + 2.0
        self._status = ""
        self._sinks = Sinks()
        self.publishers = [
            Publisher(options.name, partial(_build, options), self._sinks, self._stop, partial(self._records, options))
            for options in config.devices
        ]
        self.keepers: list[Keeper] = []
        self.namespaces: list[LxpBridgeSink] = []
        self._energy: EnergyKeeper | None = None
        self._companions: list[Discovery | EnergyKeeper] = []
        """The sinks that have something to do in each of the supervisor's rounds."""
        self.supervisor = Supervisor(self._stop, self._notifier, self._round)

    def run(self) -> int:
        """Work until SIGTERM, SIGINT or SIGHUP; return the exit status."""
        for number in _endings():
            signal.signal(number, self._on_signal)
        log.info("solarbridge %s: %s", __version__, ", ".join(p.name for p in self.publishers))
        for warning in self._config.warnings:
            log.warning("%s", warning)
        # the devices first: what else has to be loaded is loaded while their first bytes are on the wire
        for publisher in self.publishers:
            self.supervisor.start(publisher)
        self._stop.wait(HEAD_START)
        self.mqtt = self._make_sinks()
        gc.freeze()  # what is loaded stays: no collection looks at it again
        gc.enable()
        self._started = self._start()
        self.mqtt.publish_info(self._info())
        self.supervisor.start(self.mqtt.broker)
        for namespace in self.namespaces:
            self.supervisor.start(namespace.broker)
        for keeper in self.keepers:
            self.supervisor.start(keeper)
        self._notifier.send("READY=1")
        self.supervisor.watch()
        return self._end()

    def _make_sinks(self) -> MqttSink:
        from bridge.sinks.mqtt import MqttSink

        inboxes = {p.name: p.inbox for p in self.publishers}
        self.namespaces = self._make_namespaces(inboxes)
        watched: dict[str, Callable[[Arrived], None]] = {one.lwt_topic: one.heard for one in self.namespaces}
        elsewhere = [namespace.namespace for namespace in self.namespaces]
        discovery = self._make_discovery(watched)
        if not self._config.banks:
            mqtt = MqttSink(self._config.mqtt, inboxes, watched, elsewhere)
        else:
            from bridge.bank_options import banks_of, steers
            from bridge.keeper import Keeper, Watch

            banks = banks_of(self._config)
            watches = {bank.topic: Watch(bank.topic) for bank in banks}
            watched.update((topic, watch.arrived) for topic, watch in watches.items())
            mqtt = MqttSink(self._config.mqtt, inboxes, watched, elsewhere)
            for number, bank in enumerate(banks):
                keeper = Keeper(bank, steers(bank, number), watches[bank.topic], mqtt, self._sinks, self._stop)
                self.keepers.append(keeper)
        self._companions = [one for one in (discovery, self._make_energy(mqtt)) if one is not None]
        mqtt.on_forgotten.extend(companion.forget for companion in self._companions)
        if discovery is not None:
            discovery.attach(mqtt)
            if self._config.homeassistant.time_entities:
                from bridge.sinks.halves import Halves

                mqtt.halves = Halves()
        self._sinks.complete(mqtt, *self.namespaces, *(keeper.board for keeper in self.keepers), *self._companions)
        return mqtt

    def _make_namespaces(self, inboxes: Mapping[str, Inbox]) -> list[LxpBridgeSink]:
        """Return a sink for each namespace of lxp-bridge that devices want."""
        wanted = [options for options in self._config.devices if getattr(options, "compat", None)]
        if not wanted:
            return []
        from bridge.sinks.lxp_bridge import LxpBridgeSink, served

        groups: dict[str, dict[str, Served]] = {}
        for options in wanted:
            one = served(options, inboxes[options.name])
            groups.setdefault(one.options.namespace, {})[options.name] = one
        return [LxpBridgeSink(self._config.mqtt, group, self._is_connected) for group in groups.values()]

    def _is_connected(self) -> bool:
        return self.mqtt.broker.connected

    def _make_discovery(self, watched: dict[str, Callable[[Arrived], None]]) -> Discovery | None:
        """Return what announces devices to Home Assistant, and note the topics it listens on."""
        options = self._config.homeassistant
        if not options.discovery:
            return None
        from bridge.sinks.discovery import Discovery
        from bridge.sinks.homeassistant import Site

        site = Site(self._config.mqtt.base_topic, __version__, options.prefix, options.time_entities)
        discovery = Discovery(site, self._state_file("homeassistant.json"), options.birth_payload, self._energies)
        watched[options.birth_topic or f"{options.prefix}/status"] = discovery.birth
        watched[site.republish] = discovery.asked
        return discovery

    def _make_energy(self, mqtt: MqttSink) -> EnergyKeeper | None:
        if not self._config.energy:
            return None
        from bridge.energy_keeper import EnergyKeeper

        self._energy = EnergyKeeper(self._state_file("energy.json"), mqtt)
        return self._energy

    def _energies(self, device: str, path: str) -> tuple[Field, ...]:
        return self._energy.fields(device, path) if self._energy is not None else ()

    def _records(self, options: DeviceOptions) -> Records | None:
        """Return where writes of one device are recorded, when it may be written to. Called in its thread."""
        if not isinstance(options, WritableOptions) or not options.writes:
            return None
        from bridge.records import records_of
        from bridge.statefile import state_directory

        return records_of(options, state_directory(self._config.state_directory, os.environ))

    def _state_file(self, name: str) -> StateFile:
        from bridge.statefile import StateFile, state_directory

        return StateFile(state_directory(self._config.state_directory, os.environ) / name)

    def stop(self) -> None:
        """Let `run` end, from any thread."""
        self._stop.set()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stop.set()

    def _end(self) -> int:
        """Stop the devices, say offline, leave."""
        for number in _endings():
            signal.signal(number, signal.SIG_IGN)  # one more would kill the interpreter on its last steps
        log.info("stopping")
        self._notifier.send("STOPPING=1")
        owners = self._owners()
        stuck = self.supervisor.join(owners, DEVICES_END)
        for name in stuck:
            log.error("%s: its thread does not end", name)
        for owner in owners:
            owner.presence.lost()  # nothing new for a thread that ended; a stuck one cannot say it itself
        if self._energy is not None:
            self._energy.close()
        connected = self.mqtt.broker.connected
        until = time.monotonic() + FLUSH
        for namespace in self.namespaces:
            namespace.close(FLUSH / 3)
        if not self.mqtt.close(until - time.monotonic()) and connected:
            log.warning("not everything reached the broker before the end")
        # a thread inside the resolver or a TCP handshake cannot be hurried, and has nothing to lose
        brokers = [self.mqtt.broker, *(namespace.broker for namespace in self.namespaces)]
        left = self.supervisor.join(brokers, 0.4)
        if connected:
            stuck += left
        self._notifier.close()
        log.info("stopped")
        return 1 if stuck else 0

    def _owners(self) -> list[Publisher | Keeper]:
        return [*self.publishers, *self.keepers]

    def _round(self) -> None:
        """Once a second, from the supervisor: ages, health, the service manager's status line."""
        for owner in self._owners():
            owner.presence.expire()
        for companion in self._companions:
            companion.round()
        self.mqtt.complaints.sum_up()
        self.mqtt.put_right()
        for namespace in self.namespaces:
            namespace.complaints.sum_up()
            namespace.put_right()
        self._look_at_clock()
        if time.monotonic() >= self._health_due:
            self._health_due = time.monotonic() + HEALTH_EVERY
            try:
                self.mqtt.publish_health(self._health())
            except (ImportError, MemoryError) as err:  # no descriptor or no memory left for it just now
                log.warning("no health message this time: %s", err)
        online = sum(p.presence.online() for p in self.publishers)
        broker = "connected" if self.mqtt.broker.connected else "not connected"
        status = f"{online} of {len(self.publishers)} devices online, broker {broker}"
        if status != self._status:
            self._status = status
            self._notifier.send(f"STATUS={status}")

    def _start(self) -> float | None:
        """Return when the bridge started as Unix time, by the clock of now; None while that is not set."""
        start = time.time() - (time.monotonic() - self._began)
        return start if start >= SANE_CLOCK else None

    def _look_at_clock(self) -> None:
        """Tell once more when the bridge started, if the clock was set since: many boards start in the past."""
        start, told = self._start(), self._started
        if start != told and (start is None or told is None or abs(start - told) > CLOCK_SET):
            self._started = start
            self.mqtt.publish_info(self._info())

    def _info(self) -> dict[str, Any]:
        started = time.gmtime(self._started) if self._started is not None else None
        return {
            "version": __version__,
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", started) if started is not None else None,
            "config": digest(self._config),
            "devices": {options.name: options.type for options in self._config.devices},
            "banks": {keeper.name: keeper.topic for keeper in self.keepers},
        }

    def _health(self) -> dict[str, Any]:
        from resource import RUSAGE_SELF, getrusage

        broker = self.mqtt.broker
        return {
            "devices": {p.name: self._device_health(p) for p in self.publishers},
            "banks": {keeper.name: keeper.health() for keeper in self.keepers},
            "lxp_bridge": {namespace.namespace: namespace.state for namespace in self.namespaces},
            "mqtt": {
                "protocol": broker.protocol_name(),
                "connects": broker.connects,
                "last_trouble": broker.ending.text if broker.ending else None,
                "waiting": broker.waiting(),
                "dropped": broker.dropped(),
                "too_large": sorted(broker.too_large),
                "denied": sorted(broker.denied),
            },
            "late_threads": self.supervisor.late(),
            "log_lines_dropped": logs.dropped(),
            "memory_kib": getrusage(RUSAGE_SELF).ru_maxrss,
        }

    def _device_health(self, publisher: Publisher) -> dict[str, Any]:
        tally = publisher.tally
        return {
            "online": publisher.presence.online(),
            "age": publisher.presence.ages(),
            "polls": tally.polls,
            "replies": tally.replies,
            "failures": dict(tally.failures),
            "last_failure": tally.last_failure,
            "busy_seconds": round(tally.busy, 1),
            "crashes": publisher.crashes,
            "restarts": self.supervisor.restarts(publisher),
            "waiting_commands": len(publisher.inbox),
            "refused_commands": publisher.inbox.refused,
        }


def _endings() -> list[signal.Signals]:
    """Return the signals that end the program: SIGHUP, which a closed terminal sends, only where `nohup` lets it."""
    hangup = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGTERM, signal.SIGINT, *hangup]


def _build(options: DeviceOptions, context: Context) -> Device:
    device: Device = devices.slice_of(options.type).build(options, context)
    return device
