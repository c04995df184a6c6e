"""How a setting is written, for every maker: checked, read, compared, written, read back, reported.

The order of things, and nothing leaves it: writing is switched on -> the setting is in the table -> a risky one is
named in the configuration -> one spelling of the value -> no retained, expired or repeated command -> the budget ->
read fresh -> equal: done, nothing sent -> recorded on disk -> one frame -> its acknowledgement -> a pause -> read
back -> result and audit log. `done` means that the read-back showed it.

A frame whose acknowledgement is lost is never simply sent again: the setting is read first, and if it does not
hold, the whole read, change, write is done once more. When the link breaks behind a frame, the command stays open
and is settled by reading back as soon as there is a link again to the unit with the same serial number; so is one
that a power cut interrupted. Of a setting of several words the part that arrived is taken back, where what stands
there proves that it is a part of ours.

Runs in the device's own thread, as generators that yield the readings which come by the way.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Protocol, TypeVar

from bridge.audit import AuditLog
from bridge.clock import SANE_YEAR
from bridge.devices import WritableOptions
from bridge.errors import CommandError, LinkError, NoReply, ProtocolError, Stopped
from bridge.fields import Channel, Reading, Unit, Value
from bridge.inbox import SetSetting
from bridge.ledger import Ledger, digest
from bridge.request import Request, Unfit, parse
from bridge.settings import Risk, Setting

log = logging.getLogger(__name__)

T = TypeVar("T")
Wire = Generator[Reading | None, None, T]
"""Work on the line: yields what comes by the way, returns its outcome."""

SETTLE = 1.0
"""Seconds between a write and its read-back: some units acknowledge before they store."""
READS = 3
"""Attempts at a read-back; only after that is an outcome unknown."""
ATTEMPTS = 2
"""How often a write whose acknowledgement was lost, and which is not there, is done as a whole."""
WAITING = 16
"""Commands of one device that wait for the line at most."""
LONGEST_SHOWN = 100
STOPPED = "the bridge was stopped"


class Rejected(CommandError):
    """The device said no: nothing was stored, and asking again would not help."""


@dataclass(frozen=True, slots=True)
class Step:
    """One frame that sets something. `register` is the name under which it is counted, `body` what the slice made."""

    register: str
    body: Any
    undo: Any = None
    """The body of the frame that takes it back; None where a step stands alone, or what was before is no longer true:
    a clock goes on."""


class Target(Protocol):
    """One setting of one unit on the line: what a slice offers."""

    setting: Setting
    place: str
    """Where it stands, for the result: "hold 21 bit 7", "POP"."""
    registers: Sequence[str]
    """Every name that its steps can have."""

    def read(self) -> Wire[Any]:
        """Read it fresh from the device; return a snapshot. Raises NoReply, ProtocolError, CommandError."""

    def shown(self, snapshot: Any) -> Value:
        """Return the setting's value in a snapshot, None when that is none it can have."""

    def fits(self, snapshot: Any, wanted: Value) -> bool:
        """Whether a snapshot shows the wanted value: nothing is sent then, and a write was done."""

    def steps(self, snapshot: Any, wanted: Value) -> list[Step]:
        """Return the frames that lead from a snapshot to the wanted value, changing nothing else.

        Where they have an `undo` there is one for each word that is not as wanted, and none for the others. Raises
        CommandError where that must not be, as things stand.
        """

    def send(self, step: Step, body: Any) -> Wire[None]:
        """Send one frame once (`body` is the step's, or what takes it back); return when it was acknowledged.

        Raises Rejected when the device said no; NoReply or ProtocolError when nobody knows.
        """

    def pause(self, seconds: float) -> Wire[None]:
        """Let time pass on the line."""

    def disturbed(self, before: Any, after: Any) -> str | None:
        """Say what else changed between two snapshots that this write did not mean, or None."""


class Owner(Protocol):
    """The device whose settings are written."""

    def unit(self, path: str) -> Unit:
        """Return a unit that exists. Raises CommandError."""

    def target(self, path: str, name: str) -> Target:
        """Return a setting of a unit. Raises CommandError for one it does not have, and says which there are."""

    def away(self) -> str | None:
        """Say why the device cannot be reached now, or None."""


@dataclass(frozen=True, slots=True)
class Records:
    """Where writes are recorded."""

    ledger: Ledger
    audit: AuditLog

    def note_change(self, device: str, unit: str, change: Mapping[str, Value]) -> None:
        """Record what somebody else has set: its `setting`, `old` and `new`. Where that cannot be, the log says so."""
        try:
            self.audit.append({"event": "changed", "device": device, "unit": unit, **change})
        except OSError as err:
            log.error("%s: a change cannot be recorded: %s", device, err)


@dataclass(slots=True)
class _Job:
    command: SetSetting
    request: Request
    target: Target
    wanted: Value


@dataclass(frozen=True, slots=True)
class _Verdict:
    outcome: str
    reason: str | None = None
    old: Value = None
    read_back: Value = None


class Writer:
    """Takes the set commands of one device, in its thread."""

    def __init__(self, options: WritableOptions, owner: Owner, records: Records | None) -> None:
        self._options = options
        self._owner = owner
        self._records = records
        self._jobs: deque[_Job] = deque()
        self._open: _Job | None = None
        """The job under way, kept over a broken link."""

    @property
    def on(self) -> bool:
        """Whether settings of this device may be written at all."""
        return self._options.writes and self._records is not None

    def may(self, setting: Setting) -> bool:
        """Whether the configuration lets this setting be written."""
        named = {setting.key, *setting.groups} & set(self._options.allow)
        return self.on and (setting.risk is Risk.HARMLESS or bool(named))

    # -- taking commands

    def admit(self, command: SetSetting) -> Iterator[Reading | None]:
        """Take a command: note it for `work`, or yield why not. Touches no line."""
        request = Request(command.payload[:LONGEST_SHOWN].decode("ascii", "backslashreplace"))
        target: Target | None = None
        try:
            request = parse(command.payload)  # first, since every answer carries its sender's id
            self._check_switch()
            if command.objection is not None:
                raise CommandError(command.objection)
            target = self._owner.target(command.unit, command.setting)
            self._check_risk(target.setting)
            wanted = target.setting.spelling.read(request.text)
            self._check_age(command, request)
            if (known := self._known(command, request)) is not None:
                yield self._reading(command, {**known, "repeated": True})
                return
            self._check_room(target)
        except CommandError as err:
            if isinstance(err, Unfit):
                request = replace(request, id=err.id)
            yield self._finish(command, request, target, _Verdict("refused", str(err)), command.arrived)
        else:
            self._jobs.append(_Job(command, request, target, wanted))

    def _check_switch(self) -> None:
        if not self._options.writes:
            raise CommandError("writing is off for this device; writes: true in its configuration switches it on")
        if self._records is None:
            raise CommandError("there is no place to record writes")

    def _check_risk(self, setting: Setting) -> None:
        if not self.may(setting):
            raise CommandError(
                f"{setting.key} is a setting of class {setting.risk.value} and has to be named under allow: first"
            )

    def _check_age(self, command: SetSetting, request: Request) -> None:
        if command.retained:
            raise CommandError("the command was retained, so it may be old; send it without the retain flag")
        wall = time.time()
        if time.monotonic() > command.expires or (request.expires is not None and wall > request.expires):
            raise CommandError("the command has expired")
        if request.expires is not None and time.gmtime(wall).tm_year < SANE_YEAR:
            raise CommandError("the command may have expired: the bridge's own clock has not been set yet")

    def _known(self, command: SetSetting, request: Request) -> Mapping[str, Any] | None:
        """Return the result of the same command if it was given before. Raises CommandError."""
        if request.id is None or self._records is None:
            return None
        jobs = [*self._jobs, self._open] if self._open is not None else self._jobs
        pending = self._records.ledger.pending or {}
        if request.id == pending.get("id") or any(job.request.id == request.id for job in jobs):
            raise CommandError("a command with this id is under way")
        return self._records.ledger.recall(request.id, digest(command.unit, command.setting, request.text))

    def _check_room(self, target: Target) -> None:
        if (away := self._owner.away()) is not None:
            raise CommandError(f"the device cannot be reached: {away}")
        if len(self._jobs) >= WAITING:
            raise CommandError(f"{WAITING} commands are waiting already")
        if self._records is not None and len(target.registers) == 1:  # of several nobody knows yet which differ
            self._records.ledger.check(target.registers)

    # -- carrying them out

    def work(self, most: int = WAITING) -> Wire[None]:
        """Carry out what was admitted, `most` of it, and settle what a broken link or a power cut left open."""
        yield from self._settle_pending()
        for _ in range(most):  # others may be admitted meanwhile, on and on
            if self._jobs:
                yield from self._carry_out(self._jobs.popleft())

    def waiting(self) -> int:
        """Return how many commands wait for the line."""
        return len(self._jobs)

    def busy(self) -> bool:
        """Whether there is something for `work` to do."""
        return bool(self._jobs) or (self._records is not None and self._records.ledger.pending is not None)

    def overdue(self) -> Iterator[Reading | None]:
        """Answer what has waited past its expiry: the device may be away for hours. Touches no line."""
        for job in list(self._jobs):
            try:
                self._check_age(job.command, job.request)
            except CommandError as err:
                self._jobs.remove(job)
                yield self._finish(
                    job.command, job.request, job.target, _Verdict("refused", str(err)), job.command.arrived
                )

    def interrupted(self) -> bool:
        """Whether a command was interrupted behind its frame, which `work` settles only with the unit it went to."""
        return self._under_way()

    def end(self) -> Iterator[Reading | None]:
        """Answer everything that is open, since the bridge is stopping. Touches no line."""
        if (job := self._open) is not None:
            yield self._interrupted(job) if self._under_way() else self._close(job, _Verdict("refused", STOPPED))
        while self._jobs:
            job = self._jobs.popleft()
            yield self._finish(job.command, job.request, job.target, _Verdict("refused", STOPPED), job.command.arrived)

    def _carry_out(self, job: _Job) -> Wire[None]:
        self._open = job
        try:
            self._check_age(job.command, job.request)
            verdict = yield from self._write(job)
        except CommandError as err:
            verdict = _Verdict("failed" if self._under_way() else "refused", str(err))
        except (NoReply, ProtocolError) as err:
            verdict = _Verdict("failed", f"not written: the setting could not be read first: {err}")
        except LinkError as err:
            if not self._under_way():
                yield self._close(job, _Verdict("failed", str(err)))
            raise  # what is under way is settled when the link is back
        except Stopped:
            yield self._interrupted(job) if self._under_way() else self._close(job, _Verdict("refused", STOPPED))
            raise
        yield self._close(job, verdict)

    def _close(self, job: _Job, verdict: _Verdict) -> Reading:
        return self._finish(job.command, job.request, job.target, verdict, job.command.arrived, carried_out=True)

    def _interrupted(self, job: _Job) -> Reading:
        """Answer a command whose frame is out when the bridge stops. It stays on record: the next start settles it."""
        self._open = None
        verdict = _Verdict("unknown", f"{STOPPED} before the outcome was known; its next start will tell")
        return self._finish(job.command, job.request, job.target, verdict, job.command.arrived)

    def _under_way(self) -> bool:
        return self._records is not None and self._records.ledger.pending is not None

    def _write(self, job: _Job) -> Wire[_Verdict]:
        target, wanted = job.target, job.wanted
        before = yield from target.read()
        old = target.shown(before)
        if target.fits(before, wanted):
            return _Verdict("unchanged", None, old, old)
        if job.command.made_from not in (None, old):
            reason = f"the rest of it was taken from {job.command.made_from}; {_left_alone(old)}"
            return _Verdict("refused", reason, old, old)
        steps = target.steps(before, wanted)
        if self._records is not None:
            self._records.ledger.check([step.register for step in steps])
        after = before
        sent: dict[str, Step] = {}
        for _ in range(ATTEMPTS):
            trouble = yield from self._send_all(job, steps, old, sent)
            if not self._under_way():
                return _Verdict("refused", str(trouble), old, old)  # it could not be recorded: nothing was sent
            looked = yield from self._look(target)
            if looked is None:
                return _Verdict("unknown", _joined(trouble, "the setting could not be read back"), old)
            after = looked
            if target.fits(after, wanted):
                return _Verdict("done", target.disturbed(before, after), old, target.shown(after))
            if trouble is None or isinstance(trouble, CommandError):
                break
            steps = target.steps(after, wanted)
        return (yield from self._failed(job, before, after, sent, trouble))

    def _send_all(self, job: _Job, steps: Sequence[Step], old: Value, sent: dict[str, Step]) -> Wire[Exception | None]:
        """Send the steps until one fails; return the failure. Adds to `sent`, as first meant, what may have arrived."""
        for step in steps:
            try:
                self._begin(job, step, old)
                if not sent:  # reading and recording may have taken long: a slow card, a process that stood still
                    self._check_age(job.command, job.request)
                yield from job.target.send(step, step.body)
            except CommandError as err:  # it cannot be recorded, has expired, or the device said no
                return err
            except (NoReply, ProtocolError) as err:
                sent.setdefault(step.register, step)
                return err
            sent.setdefault(step.register, step)
        return None

    def _begin(self, job: _Job, step: Step, old: Value) -> None:
        """Record one frame before it goes out. Raises CommandError when it cannot be recorded."""
        if self._records is None:
            raise CommandError("there is no place to record writes")
        serial = self._owner.unit(job.command.unit).serial
        entry = {**self._identity(job.command, job.request), "frame": step.register, "old": old}
        try:
            self._records.audit.append({"event": "begin", "device": self._options.name, **entry})
        except OSError as err:
            raise CommandError(f"not written, since it cannot be recorded: {err}") from err
        self._records.ledger.begin({**entry, "text": job.request.text, "serial": serial}, step.register)

    def _look(self, target: Target) -> Wire[Any]:
        """Read back after a pause, several times if need be; return the snapshot or None."""
        for attempt in range(READS):
            yield from target.pause(SETTLE * (1 + attempt))
            try:
                return (yield from target.read())
            except (NoReply, ProtocolError, CommandError) as err:
                log.debug("%s: read-back: %s", self._options.name, err)
        return None

    def _failed(
        self, job: _Job, before: Any, after: Any, sent: Mapping[str, Step], trouble: Exception | None
    ) -> Wire[_Verdict]:
        """Say why a write did not do it; of several steps take back those that did."""
        target = job.target
        old, shown = target.shown(before), target.shown(after)
        if isinstance(trouble, CommandError):
            reason = str(trouble)
        elif trouble is not None:
            reason = f"{trouble}; read back, it is not as wanted"
        else:
            reason = "acknowledged, but the read-back shows something else"
        undone = [step for step in reversed(list(sent.values())) if step.undo is not None]
        if not undone or target.fits(after, old):
            return _Verdict("failed", reason, old, shown)
        if trouble is None:  # somebody else may have set it meanwhile, so it is told, not fought
            return _Verdict("failed", f"{reason}; it may be set in part", old, shown)
        if not _way_back(target, after, job.wanted, old):
            return _Verdict("failed", f"{reason}; {_left_alone(shown)}", old, shown)
        back = yield from self._take_back(job, undone, old)
        if back is None:
            return _Verdict("unknown", f"{reason}; it may be set in part, and could not be read back", old)
        restored = target.fits(back, old)
        reason += "; the part that was set was set back" if restored else "; it is set in part"
        return _Verdict("failed", reason, old, target.shown(back))

    def _take_back(self, job: _Job, steps: Sequence[Step], old: Value) -> Wire[Any]:
        for step in steps:
            try:
                self._begin(job, step, old)
                yield from job.target.send(step, step.undo)
            except (CommandError, NoReply, ProtocolError) as err:
                log.warning("%s: %s could not be set back: %s", self._options.name, step.register, err)
        return (yield from self._look(job.target))

    # -- what was left open

    def _settle_pending(self) -> Wire[None]:
        """Read back what a broken link or a power cut left open, and report it."""
        entry = self._records.ledger.pending if self._records is not None else None
        if entry is None:
            return
        command = SetSetting(
            str(entry.get("unit", "")), str(entry.get("setting", "")), b"", time.monotonic(), inf,
            source=str(entry.get("source", "")), tag=self._open.command.tag if self._open is not None else None,
        )  # fmt: skip
        request = Request(str(entry.get("text", "")), entry.get("id"))
        target: Target | None = None
        try:
            target = self._owner.target(command.unit, command.setting)
            wanted = target.setting.spelling.read(request.text)
            self._check_same_unit(command, entry)
        except CommandError as err:
            verdict = _Verdict("unknown", f"interrupted, and not to be read back: {err}", entry.get("old"))
        else:
            job = _Job(command, request, target, wanted)
            verdict = yield from self._settle(job, (yield from self._look(target)), entry.get("old"))
        yield self._finish(command, request, target, verdict, command.arrived, carried_out=True)

    def _check_same_unit(self, command: SetSetting, entry: Mapping[str, Any]) -> None:
        """See that the frame went to the unit that is there. Raises CommandError when it did not, or nobody knows."""
        there = self._owner.unit(command.unit).serial
        if there != entry.get("serial", there):
            raise CommandError(f"it went to unit {entry['serial'] or '?'}, and on the line is unit {there or '?'} now")

    def _settle(self, job: _Job, snapshot: Any, old: Value) -> Wire[_Verdict]:
        """Judge an interrupted command by what stands there now; of several words take back the part that arrived.

        Hours may have passed, and somebody else may have set it since: then it is told, not fought.
        """
        target = job.target
        verdict = self._judge_interrupted(target, snapshot, job.wanted, old)
        if verdict.outcome != "failed" or target.fits(snapshot, old):
            return verdict
        steps = _way_back(target, snapshot, job.wanted, old)
        if not steps:
            return replace(verdict, reason=f"{verdict.reason}; {_left_alone(verdict.read_back)}")
        yield from self._send_all(job, steps, old, {})
        back = yield from self._look(target)
        if back is None:
            return replace(verdict, outcome="unknown", reason=f"{verdict.reason}; it may be set in part")
        word = "the part that was set was set back" if target.fits(back, old) else "it is set in part"
        return replace(verdict, reason=f"{verdict.reason}; {word}", read_back=target.shown(back))

    def _judge_interrupted(self, target: Target, snapshot: Any, wanted: Value, old: Value) -> _Verdict:
        words = "the connection or the bridge was interrupted behind the frame"
        if snapshot is None:
            return _Verdict("unknown", f"{words}, and it could not be read back", old)
        shown = target.shown(snapshot)
        if target.fits(snapshot, wanted):
            return _Verdict("done", f"{words}; read back afterwards", old, shown)
        return _Verdict("failed", f"{words}; read back afterwards, it is not as wanted", old, shown)

    # -- telling

    def _identity(self, command: SetSetting, request: Request) -> dict[str, Any]:
        return {
            "id": request.id, "unit": command.unit, "setting": command.setting[:LONGEST_SHOWN],
            "source": command.source[:LONGEST_SHOWN],
        }  # fmt: skip

    def _finish(
        self, command: SetSetting, request: Request, target: Target | None, verdict: _Verdict, started: float,
        *, carried_out: bool = False,
    ) -> Reading:  # fmt: skip
        """Record the end of a command and return its result."""
        result = {
            **self._identity(command, request),
            "register": target.place if target is not None else None,
            "old": verdict.old,
            "wanted": request.text[:LONGEST_SHOWN],
            "read_back": verdict.read_back,
            "outcome": verdict.outcome,
            "reason": verdict.reason,
            "duration": round(time.monotonic() - started, 3),
        }
        if self._records is not None:
            self._record(self._records, command, request, result, carried_out)
        level = logging.WARNING if verdict.outcome in ("failed", "unknown") else logging.INFO
        log.log(level, "%s: %s -> %s: %s%s", self._options.name, ascii(result["setting"]), ascii(result["wanted"]),
                verdict.outcome, f" ({verdict.reason})" if verdict.reason else "")  # fmt: skip
        return self._reading(command, result)

    def _record(
        self, records: Records, command: SetSetting, request: Request, result: Mapping[str, Any], carried_out: bool
    ) -> None:
        try:
            if carried_out:
                # a refusal may be mended and sent again; what was tried is answered from here
                known = request.id if self._under_way() or result["outcome"] == "unchanged" else None
                self._open = None
                records.ledger.end(known, digest(command.unit, command.setting, request.text), result)
        except OSError as err:
            log.error("%s: the outcome of a command cannot be recorded, which is tried on: %s", self._options.name, err)
        try:
            records.audit.append({"event": "end", "device": self._options.name, **result})
        except OSError as err:
            log.error("%s: the outcome of a command cannot be recorded: %s", self._options.name, err)

    def _reading(self, command: SetSetting, values: Mapping[str, Any]) -> Reading:
        try:
            unit = self._owner.unit(command.unit)
        except CommandError:
            unit = self._owner.unit("")
        return Reading(unit, values, time.monotonic(), channel=Channel.RESULT, tag=command.tag)


def _way_back(target: Target, snapshot: Any, wanted: Value, old: Value) -> list[Step]:
    """Return the frames that take back the part of a write that arrived; none where nothing proves that it is one.

    The proof: each word is the old or the wanted one. A word that is on the way to neither was set by somebody else.
    """
    if old is None or len(target.registers) < 2:
        return []
    try:
        back = target.steps(snapshot, old)
        missing = {step.register for step in target.steps(snapshot, wanted)}
    except CommandError:
        return []
    return back if all(step.undo is not None and step.register not in missing for step in back) else []


def _left_alone(shown: Value) -> str:
    return f"it shows {'no value that it can have' if shown is None else shown} and is left as it is"


def _joined(trouble: Exception | None, text: str) -> str:
    return f"{trouble}; {text}" if trouble is not None else text
