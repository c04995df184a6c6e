"""An Extra2000 stack read over its master's console, with the topics of extra200tomqtt for who comes from it.

A round asks `pwr N` of every module, one after the other; `bat N`, `info N` and `stat N` of each follow in what time
is left, as on any console. A module that does not answer is asked again after growing pauses, so that it does not
hold up the others, and takes part in nothing once its last reading is too old.

The compatible topics are off unless configured. Their messages are complete or not sent: a module's as soon as its
cells are known, the bank's while one module lives at least. What chargers may do is judged by the bank's own guard.
Source: ned-kelly/extra200tomqtt, the only program known to read this model.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from bridge import battery as k
from bridge.config import fixed_topic, option, serial_port, topic
from bridge.devices import Context, DeviceOptions
from bridge.errors import NoReply, ProtocolError
from bridge.fields import Field, Reading, Unit
from bridge.guard import Allowed, Levels, Limits, ModuleGuard, discharge_of, still_binding, total_current
from bridge.pylontech import console, console_tasks, extra2000, stack
from bridge.pylontech import values as v
from bridge.pylontech.console_connection import Reply
from bridge.pylontech.console_device import ConsoleReader
from bridge.pylontech.console_frame import Refusal
from bridge.pylontech.console_tasks import ROUNDS_SHARE, Settings, Task
from bridge.pylontech.values import Values

MOST_MODULES = 16
PROBE_PAUSE, PROBE_SHARE = 10.0, 10.0
"""Seconds between two looks for a module where nobody is known, and how many times as long as the last look took at
least: where modules are not listed. Every other look goes where one is likely to be, behind the last or in a gap."""
BEHIND = 2
"""How many numbers behind the last module are likely ones."""
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 60.0
"""Seconds before a silent module is asked again: at first, and at last."""
BINDING = 60.0
"""Seconds for which a module that fell silent binds the others, at least: as in a bank."""


def _positions(value: Any) -> str | None:
    return None if value == "auto" or value in range(1, MOST_MODULES + 1) else "expected auto or numbers from 1 to 16"


def _numbered(value: Any) -> str | None:
    if "{n}" not in str(value):
        return "expected {n} in it, where the module's number goes"
    return topic(str(value).replace("{n}", "1"))


# fmt: off
@dataclass(frozen=True, kw_only=True)
class Topics:
    """`topics`: where extra200tomqtt published; left out, nothing is published there."""

    battery: str | None = option(None, check=_numbered, doc="where each module goes; {n} is its number")
    bank: str | None = option(None, check=fixed_topic, doc="where all modules together go")


@dataclass(frozen=True, kw_only=True)
class Options(DeviceOptions):
    """One entry of `devices` with `type: pylontech-extra2000`."""

    port: str = option(check=serial_port, doc="a serial port, best its name under /dev/serial/by-id")
    baud: int = option(extra2000.BAUD, minimum=1200, maximum=115200, doc="of the console, once it is awake")
    login: bool = option(True, doc="whether to log in to the debug mode after waking")
    modules: Literal["auto"] | tuple[int, ...] = option("auto", check=_positions, doc="numbers set by DIP switches")
    interval: float = option(1.0, minimum=0, maximum=3600, doc="s from one round to the next; 0 keeps the line busy")
    cells_interval: float = option(
        5.0, minimum=0, maximum=20, doc="s between readings of a module's cells; chargers go by them"
    )
    identity_interval: float = option(60.0, minimum=5, maximum=86400, doc="s after which a serial number is read again")
    settings_interval: float = option(3600.0, minimum=10, maximum=86400, doc="s between readings of counters")
    max_age: float | None = option(
        None, minimum=2, maximum=86400, doc="s a reading stays true; three intervals, at least 30; more for many cells"
    )
    topics: Topics = option(Topics(), doc="topics of extra200tomqtt")
    limits: Limits = option(Limits(), doc="what those topics allow chargers, as in a bank")

    @staticmethod
    def conflicts(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """This console tells no limits, so they have to be given where they are to be published."""
        if values.get("modules") == ():
            yield "modules", "found an empty list; expected auto or at least one number"
        topics, limits = values.get("topics"), values.get("limits")
        if limits is not None and limits.alarms != Levels():
            yield "limits.alarms", "is of no use here: these topics have extra200tomqtt's levels, a bank has its own"
        if topics is None or limits is None or (topics.battery is None and topics.bank is None):
            return
        for name in ("module_charge_current", "module_discharge_current"):
            if getattr(limits, name) is None:
                yield f"limits.{name}", "missing; the topics name it to chargers, and this console does not tell it"
# fmt: on


def build(options: Options, context: Context) -> Extra2000Device:
    """Return the device for one entry of the configuration; its port is still closed."""
    return Extra2000Device(options, context)


def documented_fields() -> dict[str, tuple[Field, ...]]:
    """Return what each kind of unit publishes, for the list of values; a module as one of 16 cells."""
    whole, module = console_tasks.documented_fields().values()
    return {"stack": whole, "module": module}


def _settings_of(options: Options) -> Settings:
    return console_tasks.settings(
        options,
        events=options.interval,
        limits=options.cells_interval,
        max_age=options.max_age or max(30.0, 3 * options.interval, 3 * options.cells_interval),
        lengthened=options.max_age is None,
    )


@dataclass(slots=True)
class _Silence:
    """A position that did not answer: when it is asked again, and how long the next pause is."""

    due: float
    pause: float


class Extra2000Device(ConsoleReader):
    """A stack of Extra2000 modules: each is asked by its number."""

    ROUND_FIELDS = console.PWR_N_FIELDS
    ASKED = frozenset(("info", "pwrsys", "bat", "stat"))
    URGENT = None  # nothing else tells of the cells
    TOLD_LATER = (*ConsoleReader.TOLD_LATER, *v.CELL_EXTREMES, k.COLDEST, k.HOTTEST)
    """Chargers go by the last ones: until they are told they are not known, rather than such as nobody ever tells."""

    def __init__(self, options: Options, context: Context) -> None:
        self._topics = options.topics
        self._limits = options.limits
        self._guards: dict[str, ModuleGuard] = {}
        self._judged_at: dict[str, float] = {}
        super().__init__(_settings_of(options), context)

    def _learn_anew(self) -> None:
        super()._learn_anew()
        self._silent: dict[int, _Silence] = {}
        self._look_everywhere = True
        self._probe_due = 0.0
        self._probe_last = self._likely_last = 0
        self._likely_turn = True

    def refresh(self) -> None:
        super().refresh()
        self._silent.clear()
        self._look_everywhere = True

    # -- the round

    def _ask_round(self) -> Iterator[Reading | None]:
        looking = self._look_everywhere or not self._known()
        asking, told, waited, asked = deque(self._to_ask()), False, False, set[int]()
        while asking:
            position = asking.popleft()
            asked.add(position)
            if waited and (position in self._silent or (self._is_stray(position) and not looking)):
                continue  # waiting for one takes long enough: the others grow older meanwhile
            try:
                reply = self._ask_module(position)
            except Refusal as err:
                self._note_silence(position)
                if not err.unsupported:
                    self._absent(position)
                yield None
                continue
            except ProtocolError:
                yield None
                continue
            except NoReply:
                waited = True
                self._note_silence(position)
                if not self._still_there():
                    raise
                yield None
                continue
            stray = self._is_stray(position)
            self._silent.pop(position, None)
            self._present(position)
            if stray:
                asking += [likely for likely in self._likely() if likely not in asked and likely not in asking]
            self._rows[position] = reply
            told = True
            yield from self._readings(position)
        whole = self._stack_reading() if told else None
        yield whole
        if whole is not None and self._topics.bank is not None:
            yield self._bank_reading(whole, self._topics.bank)

    def _to_ask(self) -> list[int]:
        """Return whom to ask in this round: who is not in a pause, and now and then where nobody is known."""
        now = time.monotonic()
        listed = list(self._settings.modules or self._known())
        resting = {position for position, silence in self._silent.items() if silence.due > now}
        strangers = self._strangers(now) if self._settings.modules is None else []
        return [*(position for position in listed if position not in resting), *strangers]

    def _known(self) -> list[int]:
        """Return the numbers where modules are, or were."""
        return sorted({*self._positions(), *(int(place) for place in self._units.places)})

    def _likely(self) -> list[int]:
        """Return the numbers where nobody is known and somebody may be: gaps, and behind the last."""
        known = self._known()
        last = min(MOST_MODULES, max(known, default=0) + BEHIND)
        return [position for position in range(1, last + 1) if position not in known]

    def _strangers(self, now: float) -> list[int]:
        """Return at which numbers to look for a module in this round: all likely ones at first, then one at a time."""
        likely, known = self._likely(), self._known()
        looking, self._look_everywhere = self._look_everywhere, False
        if looking and known:
            return likely
        others = [position for position in range(1, MOST_MODULES + 1) if position not in known]
        if now < self._probe_due or not others:
            return [] if known else likely
        if known and self._likely_turn and likely:
            position = self._likely_last = next((one for one in likely if one > self._likely_last), likely[0])
        else:
            position = self._probe_last = next((one for one in others if one > self._probe_last), others[0])
        self._likely_turn = not self._likely_turn
        return [position] if known else [*likely, *{position}.difference(likely)]

    def _is_stray(self, position: int) -> bool:
        """Whether it is a number where nobody is known or listed."""
        return self._settings.modules is None and position not in self._known()

    def _ask_module(self, position: int) -> Reply[Values]:
        stray = self._is_stray(position)
        tries = 1 if position in self._silent or stray else 2
        read: Callable[[Sequence[str]], Values] = lambda lines: console.module(lines, position)  # noqa: E731
        began = time.monotonic()
        try:
            return self._ask("pwr", position, read, tries=tries, share=ROUNDS_SHARE)
        finally:
            if stray:
                now = time.monotonic()
                self._probe_due = now + max(PROBE_PAUSE, PROBE_SHARE * (now - began))

    def _may_ask(self, task: Task) -> bool:
        return super()._may_ask(task) and task.position not in self._silent

    def _note_silence(self, position: int) -> None:
        self._units.vacant(str(position))
        if self._is_stray(position):
            return  # nobody is missed there; that it is asked again is settled by _strangers
        self._doubt(position)
        before = self._silent.get(position)
        pause = min(LONGEST_PAUSE, 2 * before.pause) if before is not None else FIRST_PAUSE
        self._silent[position] = _Silence(time.monotonic() + pause, pause)

    def _still_there(self) -> bool:
        """Whether the console answers although a module did not."""
        try:
            self._line().attend()
        except NoReply:
            return self._good
        self._good = True
        return True

    # -- extra200tomqtt's topics

    def _readings(self, position: int) -> Iterator[Reading | None]:
        """File what a module told; publish its state and its message."""
        reading = self._file_row(position)
        yield reading
        if reading is None or (self._topics.battery is None and self._topics.bank is None):
            return
        path = reading.unit.path
        if path not in self._guards and reading.values[k.CELL_MAX.key] is None:
            return  # nothing goes out before its cells are known, so nothing of now need be confirmed
        guard = self._guards.setdefault(path, ModuleGuard(self._limits))
        guard.take({**self._stated(), **reading.values}, reading.at, self._max_age)
        self._judged_at[path] = reading.at
        cells, state = stack.cell_count(dict(reading.values)), dict(reading.values)
        if self._topics.battery is None or not guard.confirmed or not cells or state.get("cell_1_voltage") is None:
            return
        message = extra2000.battery_message(state, _of_one(guard), cells)
        if message is not None:
            yield _on_topic(reading.unit, message, reading.at, self._topics.battery.replace("{n}", str(position)))

    def _stated(self) -> Values:
        """Return the limits that the stack states for each of its modules, where its console ever told any.

        None for what is not known any more.
        """
        fields = self._units.root.fields
        if k.EACH_CHARGE_LIMIT not in fields and k.EACH_DISCHARGE_LIMIT not in fields:
            return {}
        told = self._units.root_told(time.monotonic())
        return {key.key: k.inherited(told, stack_key, key) for stack_key, key in k.INHERITED if stack_key in fields}

    def _bank_reading(self, whole: Reading, where: str) -> Reading | None:
        """Return the message of all modules that live, None until each of them has been read twice, and its cells.

        Nor where no discharge limit is known: 0 would turn an off-grid house dark. It is as old as its oldest module.
        """
        now = time.monotonic()
        states = self._units.states(now)
        live = {place: state for place, state in states.items() if state is not None}
        cells = [stack.cell_count(state) or 0 for state in live.values()]
        allowed = {place: guard.allowed() for place in live if (guard := self._guard_at(place)) is not None}
        if not live or len(allowed) < len(live) or 0 in cells or all(one.discharge is None for one in allowed.values()):
            return None
        blocking = (
            sum(one.charge.value == 0 for one in allowed.values()),
            sum(one.discharge is not None and one.discharge.value == 0 for one in allowed.values()),
        )
        limits = self._of_all(allowed, self._binding(live), len(states) - len(live))
        message = extra2000.bank_message(states, limits, max(cells), blocking)
        oldest = min(at for module in self._units.places.values() if (at := module.alive_at(now)) is not None)
        return None if message is None else _on_topic(whole.unit, message, oldest, where)

    def _guard_at(self, place: str) -> ModuleGuard | None:
        """Return the guard of the module at a place, None until it has been read twice."""
        module = self._units.places.get(place)
        guard = self._guards.get(module.path) if module is not None else None
        return guard if guard is not None and guard.confirmed else None

    def _binding(self, live: Container[str]) -> dict[str, Allowed]:
        """Return what the modules were allowed that fell silent not long ago: they may take their share yet."""
        now, bound_for = time.monotonic(), max(BINDING, 2 * self._max_age, self._limits.raise_after)
        here = {module.path for place, module in self._units.places.items() if place in live}
        gone = {path for path, at in self._judged_at.items() if now - at <= self._max_age + bound_for} - here
        return {f"{path}, silent": self._guards[path].allowed() for path in gone}

    def _of_all(self, allowed: Mapping[str, Allowed], gone: Mapping[str, Allowed], silent: int) -> extra2000.Limits:
        """Return what all live modules may be given: the lowest charge voltage, and currents as they share them.

        `gone` are those that fell silent: losing a module never gives the others more.
        """
        limits = self._limits
        sizes = {place: one.size for place, one in (*allowed.items(), *gone.items())}
        charging = {place: one.charge for place, one in allowed.items()}
        charging |= still_binding({place: one.charge for place, one in gone.items()})
        giving = {place: discharge_of(one) for place, one in allowed.items()}
        giving |= still_binding({place: discharge_of(one) for place, one in gone.items()})
        charge = total_current(charging, sizes, limits.current_sharing, limits.max_charge_current, silent)
        discharge = total_current(giving, sizes, limits.current_sharing, limits.max_discharge_current, silent)
        voltage = min(one.voltage.value for one in (*allowed.values(), *gone.values()))
        return extra2000.Limits(round(voltage, 2), round(charge.value, 1), round(discharge.value, 1))


def _of_one(guard: ModuleGuard) -> extra2000.Limits:
    """Return what one module may be given."""
    allowed = guard.allowed()
    discharge = None if allowed.discharge is None else round(allowed.discharge.value, 1)
    return extra2000.Limits(round(allowed.voltage.value, 2), round(allowed.charge.value, 1), discharge)


def _on_topic(unit: Unit, message: extra2000.Message, at: float, where: str) -> Reading:
    # other software's shape has sections, where a state has plain values only
    return Reading(unit, cast(Values, message), at, where)
