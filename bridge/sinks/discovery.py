"""When Home Assistant is told of what: learns units from their readings, and sends their device messages.

A message is sent when a unit is settled (SETTLED s without news of what it is), and again at a new connection, when
Home Assistant starts (its birth message) and on request; a different one for the same device never within SPACING s,
since Home Assistant loses most of the second. What a unit has once announced in this run stays announced: an
inverter that is asked anew after a broken link learns its values one by one.

Who is who: a unit is known to Home Assistant by its serial number, else by its name. That is decided once and kept
on disk: a unit that was announced by its name stays so when it tells a serial number later, and one known by its
serial number is not announced anew before it has told it. Another serial number in the same place is another device,
and the message of the one before is taken back. While it cannot be read who is who nothing is announced, since Home
Assistant would see devices twice; what it knows it goes on with.

`take` and `presence` come from the devices' threads and only note; all else happens in the main thread's rounds.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

from bridge.fields import Channel, Field, Reading, Unit, topic_level
from bridge.sinks import homeassistant as ha
from bridge.statefile import StateFile

if TYPE_CHECKING:
    from bridge.sinks.session import Arrived

log = logging.getLogger(__name__)

SETTLED = 10.0
"""Seconds without news after which a unit counts as known, or PATIENCE after its first reading."""
PATIENCE = 60.0
"""The same while something is missing that was announced in an earlier run."""
VANISHED = 600.0
"""Seconds online without news after which what is still missing is taken back."""
SPACING = 5.0
"""Seconds between two different messages of one device."""
STATES_AFTER = 1.0
"""Seconds from discovery to the states, when Home Assistant starts."""
SAVE_AGAIN = 60.0
"""Seconds from a saving that failed to the next attempt."""
SPREAD = 1.5
"""Seconds at most by which an answer to a birth message or a new connection is put off, at random."""

Energies = Callable[[str, str], tuple[Field, ...]]


class Outlet(Protocol):
    """Where messages go (MqttSink)."""

    def connection(self) -> int:
        """Return the number of the connection there is, 0 while there is none."""

    def announce(self, topic: str, payload: bytes) -> None:
        """Publish a retained message that is not kept in memory."""

    def availability_again(self) -> None:
        """Publish everyone's availability once more."""

    def states_again(self) -> None:
        """Publish every state once more that is true still."""

    def settings_again(self, device: str, unit: Unit) -> None:
        """Publish a unit's settings once more."""


@dataclass(slots=True)
class Kept:
    """What outlives a restart of one unit: its identity, its serial number, its components' names."""

    identity: str
    serial: str | None = None
    components: str = ""


@dataclass(slots=True)
class Place:
    """One unit of one device, and what was sent of it."""

    device: str
    path: str
    unit: Unit
    changed_at: float
    waiting_since: float
    """When the oldest news came that is not announced yet."""
    serial: str | None = None
    fields: dict[str, Field] = field(default_factory=dict)
    settings: dict[str, Field] = field(default_factory=dict)
    controls: dict[str, Field] = field(default_factory=dict)
    energy: tuple[Field, ...] = ()
    online_at: float = inf
    digest: bytes = b""
    sent_at: float = -inf
    changed: bool = True
    """There is news to be sent."""
    again: bool = False
    """It is to be sent, be it the same as before."""
    missing: bool | None = None
    """Whether something that was announced once is not there (yet); None while nobody has looked."""
    parent: str = ""

    @property
    def name(self) -> str:
        return f"{self.device}/{topic_level(self.path)}" if self.path else self.device

    def learn(self, unit: Unit, now: float) -> None:
        """Take up what a unit says of itself; what it said before stays, and what is news starts the wait anew."""
        before = (self.serial, self.unit.model, self.unit.firmware, self.unit.title)
        tables = (self.fields, self.settings, self.controls)
        self.fields = _merged(unit.fields, self.fields)
        self.settings = _merged(unit.settings, self.settings)
        self.controls = _merged(unit.controls, self.controls)
        self.serial = unit.serial or self.serial
        self.unit = unit
        # a model that is not known for a moment, after a broken link, is no news
        after = (self.serial, unit.model or before[1], unit.firmware or before[2], unit.title)
        if after != before or tables != (self.fields, self.settings, self.controls):
            self.waiting_since = self.waiting_since if self.changed else now
            self.changed, self.changed_at, self.missing = True, now, None

    def settled(self, now: float, seconds: float) -> bool:
        """Whether there was no news for so many seconds, or the oldest has waited long enough."""
        return now - self.changed_at >= seconds or now - self.waiting_since >= PATIENCE

    def vanished(self, now: float) -> bool:
        """Whether what is still missing will not come any more."""
        return now - max(self.changed_at, self.online_at) >= VANISHED


def _merged(new: Iterable[Field], old: dict[str, Field]) -> dict[str, Field]:
    """Return the new rows in their order, and behind them the old ones whose keys they lack."""
    found = {item.key: item for item in new}
    return {**found, **{key: item for key, item in old.items() if key not in found}} if old else found


class Discovery:
    """A sink that announces what it sees. `energies` tells which estimated energies a unit has."""

    def __init__(self, site: ha.Site, file: StateFile, birth: str = "online", energies: Energies | None = None) -> None:
        self._site = site
        self._file = file
        self._birth_payload = birth.encode()
        self._energies = energies or (lambda _device, _path: ())
        self._outlet: Outlet | None = None
        self._units: dict[str, dict[str, Unit]] = {}
        self._places: dict[tuple[str, str], Place] = {}
        self._lock = threading.Lock()
        self._forgotten: deque[tuple[str, str]] = deque()
        self._kept: dict[str, Kept] = {}
        self._saved: dict[str, Any] = {}
        self._loaded = False
        self._trouble: str | None = None
        self._saving_fails = False
        self._save_at = -inf
        self._connection = 0
        self._again_at = self._states_at = inf
        self._with_states = False
        self._bridge = Place("", "", Unit("", site.base, (), inf), changed_at=-inf, waiting_since=-inf)
        self._load()

    def attach(self, outlet: Outlet) -> None:
        """Say where messages go, before the first round."""
        self._outlet = outlet

    # -- from the devices' threads

    def take(self, device: str, reading: Reading) -> None:
        if reading.channel is Channel.STATE:
            known = self._units.get(device)
            if known is None or known.get(reading.unit.path) is not reading.unit:
                self._note(device, reading.unit)
        elif reading.channel is Channel.RESULT and self._outlet is not None:
            # a control that was moved and refused goes back to what is true
            self._outlet.settings_again(device, reading.unit)

    def presence(self, device: str, unit: Unit, online: bool) -> None:
        with self._lock:
            place = self._places.get((device, unit.path))
            if place is not None:
                place.online_at = time.monotonic() if online else inf

    def _note(self, device: str, unit: Unit) -> None:
        now = time.monotonic()
        with self._lock:
            self._units.setdefault(device, {})[unit.path] = unit
            place = self._places.get((device, unit.path))
            if place is None:
                place = self._places[device, unit.path] = Place(device, unit.path, unit, now, now, online_at=now)
            place.learn(unit, now)

    # -- from the broker's thread

    def birth(self, message: Arrived) -> None:
        """Take what Home Assistant says of itself: it starts, so it is told everything again."""
        if message.payload == self._birth_payload and not message.retained:
            self._with_states = True
            self._again_at = min(self._again_at, time.monotonic() + _random(SPREAD))

    def asked(self, message: Arrived) -> None:
        """Take a wish to have everything announced again."""
        if not message.retained:
            self._again_at = min(self._again_at, time.monotonic() + _random(SPREAD))

    def forget(self, device: str, path: str) -> None:
        """Drop a unit that is gone for good; its messages were taken off the broker by whoever says so."""
        self._forgotten.append((device, path))

    # -- from the main thread

    def round(self) -> None:
        """Send what is due."""
        now = time.monotonic()
        while self._forgotten:
            self._drop(*self._forgotten.popleft())
        connection = self._outlet.connection() if self._outlet is not None else 0
        if self._outlet is None or not connection or not self._load():
            return
        if connection != self._connection:
            self._connection, self._again_at = connection, min(self._again_at, now + _random(SPREAD))
        places = self._in_order()
        if now >= self._again_at:
            self._everything_again(self._outlet, places, now)
        for place in places:
            self._look_after(place, now)
            if (place.changed or place.again) and now - place.sent_at >= SPACING and self._ready(place, now):
                self._send(self._outlet, place, now)
        if now >= self._states_at:
            self._states_at = inf
            self._outlet.states_again()
        self._save()

    def _in_order(self) -> list[Place]:
        """Return all there is, parents first."""
        with self._lock:
            return [self._bridge, *sorted(self._places.values(), key=lambda place: place.path != "")]

    def _drop(self, device: str, path: str) -> None:
        with self._lock:
            self._places.pop((device, path), None)
            self._units.get(device, {}).pop(path, None)
        self._kept.pop(f"{device}/{path}" if path else device, None)

    def _everything_again(self, outlet: Outlet, places: Iterable[Place], now: float) -> None:
        """Begin to tell all of it once more: availability before discovery, the states behind it."""
        self._again_at = inf
        if self._with_states:
            self._with_states = False
            outlet.availability_again()
            self._states_at = now + STATES_AFTER
        for place in places:
            place.again = True

    def _look_after(self, place: Place, now: float) -> None:
        """Note what comes from elsewhere: estimated energies, a parent announced since, something that vanished."""
        energy = self._energies(place.device, place.path)
        if energy != place.energy:
            place.energy, place.changed, place.missing = energy, True, None
        elif place.digest and (place.parent != self._parent(place) or (place.missing and place.vanished(now))):
            place.changed = True

    def _ready(self, place: Place, now: float) -> bool:
        """Whether a unit is known well enough to be announced."""
        if place is self._bridge or (place.digest and not place.changed):
            return True
        if not place.settled(now, SETTLED):
            return False
        if place.digest:
            return True
        root = self._places.get((place.device, "")) if place.path else place
        if (root is None or not root.digest) and root is not place and not place.settled(now, PATIENCE):
            return False  # the parent first
        kept = self._kept.get(place.name)
        if kept is None:
            return True
        if place.serial is None and kept.serial is not None and not self._is_claimed(place, kept.serial):
            return False
        if place.missing is None:
            names = {name for name, _ in self._components(place, kept.identity)}
            place.missing = not names.issuperset(kept.components.split())
        return not place.missing or place.settled(now, PATIENCE)

    # -- who is who

    def _is_claimed(self, place: Place, serial: str) -> bool:
        """Whether another unit of the same device has told this serial number, which once was this one's."""
        return any(
            other is not place and other.device == place.device and other.serial == serial for other in self._in_order()
        )

    def _identity(self, place: Place) -> str:
        """Return the identity of a unit, decided once."""
        if place is self._bridge:
            return self._site.id
        kept = self._kept.get(place.name)
        if kept is not None and (
            kept.serial == place.serial
            or kept.serial is None
            or (place.serial is None and not self._is_claimed(place, kept.serial))
        ):
            return kept.identity
        wanted = ha.identity_by_name(self._site, place.device, place.path)
        if any(other.identity == wanted for name, other in self._kept.items() if name != place.name):
            # module 2 of "garage" and the device "garage_2": one has to be told from the other by more
            wanted = ha.safe_id(f"{self._site.base}/{place.name}")
        if place.serial is not None:
            wanted = self._by_serial(place, place.serial, wanted)
        return wanted

    def _by_serial(self, place: Place, serial: str, by_name: str) -> str:
        """Return the identity that a serial number gives, if no other unit has it and still lives."""
        wanted = ha.identity_by_serial(place.unit.manufacturer, serial)
        owners = (name for name, kept in self._kept.items() if kept.identity == wanted and name != place.name)
        owner = next(owners, None)
        if owner is None:
            return wanted
        living = next((other for other in self._in_order() if other.name == owner), None)
        if living is None or living.serial != serial:
            del self._kept[owner]  # it has moved here, with its history
            return wanted
        if living.device == place.device:
            return f"{wanted}_unit"  # the inverter on the cable as one of its parallel set
        log.warning("%s: %s has the same serial number; Home Assistant sees it by its name", place.name, owner)
        return by_name

    def _parent(self, place: Place) -> str:
        """Return the identity of what a unit belongs to: its device, or the bridge as long as that is not known."""
        root = self._places.get((place.device, "")) if place.path else None
        kept = self._kept.get(place.device) if root is not None and root.digest else None
        return kept.identity if kept is not None else self._site.id

    # -- sending

    def _described(self, place: Place, identity: str) -> ha.Described:
        if place is self._bridge:
            return ha.bridge(self._site)
        unit = place.unit
        return ha.Described(
            identity, place.name, unit.title, place.parent, tuple(place.fields.values()),
            settings=tuple(place.settings.values()), controls=tuple(place.controls.values()), energy=place.energy,
            serial=place.serial, manufacturer=unit.manufacturer, model=unit.model, firmware=unit.firmware,
            root=not place.path and unit.manufacturer != ha.NAME,
        )  # fmt: skip

    def _components(self, place: Place, identity: str) -> Iterable[tuple[str, ha.Component]]:
        if place is self._bridge:
            return ha.bridge_components(self._site).items()
        return ha.components_of(self._site, self._described(place, identity))

    def _send(self, outlet: Outlet, place: Place, now: float) -> None:
        with self._lock:
            # before anything of it is read: what is learned from here on is news for the next message
            place.changed, serial = False, place.serial
        identity = self._identity(place)
        kept = self._kept.get(place.name)
        if kept is not None and kept.identity != identity:
            self._take_back(outlet, place, kept.identity)
            kept = None
        place.parent = self._parent(place)
        announced = set(kept.components.split()) if kept is not None else set()
        names: set[str] = set()
        gone: set[str] = set()

        def components() -> Iterator[tuple[str, ha.Component]]:
            for name, component in self._components(place, identity):
                names.add(name)
                yield name, component
            gone.update(announced - names if place.vanished(now) else _replaced(announced - names, names))
            yield from ha.removals(sorted(gone)).items()

        payload = ha.message(self._site, self._described(place, identity), components())
        digest = hashlib.blake2b(payload, digest_size=16).digest()
        if place.again or digest != place.digest:
            outlet.announce(self._site.config_topic(identity), payload)
            place.digest, place.sent_at = digest, now
        place.again = False
        if gone:
            place.changed = True  # once more, without what was to vanish
        place.missing = bool(announced - names - gone)
        told = " ".join(sorted((announced | names) - gone))
        self._kept[place.name] = Kept(identity, serial or (kept.serial if kept else None), told)

    def _take_back(self, outlet: Outlet, place: Place, identity: str) -> None:
        """Remove the device that was in this place before, unless it is in another one now."""
        for other in self._in_order():
            serial = other.serial if other is not place else None
            if serial is not None and ha.identity_by_serial(other.unit.manufacturer, serial) == identity:
                return
        if not any(kept.identity == identity for name, kept in self._kept.items() if name != place.name):
            outlet.announce(self._site.config_topic(identity), b"")

    # -- on disk

    def _load(self) -> bool:
        """Take up who is who, unless that was done; return whether it is known."""
        if self._loaded:
            return True
        try:
            self._kept = _read(self._file)
        except OSError as err:
            if err.strerror != self._trouble:
                log.error("%s cannot be read (%s), so it is not known who is who and nothing is announced to Home "
                          "Assistant; mend that, or remove the file", self._file.path, err.strerror)  # fmt: skip
            self._trouble = err.strerror
            return False
        if self._trouble is not None:
            log.info("%s can be read again", self._file.path)
        self._saved, self._loaded = self._contents(), True
        return True

    def _contents(self) -> dict[str, Any]:
        return {
            name: {"id": kept.identity, "serial": kept.serial, "components": kept.components}
            for name, kept in self._kept.items()
        }

    def _save(self) -> None:
        """Keep who is who, when that has changed; what could not be kept is tried again after a while."""
        now = time.monotonic()
        if now < self._save_at:
            return
        contents = self._contents()
        if contents == self._saved:
            return
        try:
            self._file.save(contents)
        except OSError as err:
            self._save_at = now + SAVE_AGAIN
            if not self._saving_fails:
                log.warning("%s: %s; it is not kept who is who, and Home Assistant may see a device twice",
                            self._file.path, err.strerror)  # fmt: skip
            self._saving_fails = True
            return
        self._saved = contents
        if self._saving_fails:
            log.info("%s: it is kept again who is who", self._file.path)
        self._saving_fails = False


def _replaced(missing: Iterable[str], components: Iterable[str]) -> set[str]:
    """Return what of the missing components is there in another form: a control that became a sensor, say."""
    keys = {ha.key_of(name) for name in components}
    return {name for name in missing if ha.key_of(name) in keys}


def _random(most: float) -> float:
    return most * os.urandom(1)[0] / 255


def _read(file: StateFile) -> dict[str, Kept]:
    """Return what was saved; whatever is none of ours is left out."""
    found: dict[str, Kept] = {}
    for name, told in file.load().items():
        if isinstance(told, dict) and isinstance(told.get("id"), str) and isinstance(told.get("components"), str):
            serial = told.get("serial")
            found[name] = Kept(told["id"], serial if isinstance(serial, str) else None, told["components"])
    return found
