"""A look at a port by somebody who does not know yet what is on it: whether an Axpert or kin answers there."""

from __future__ import annotations

from bridge.devices import Found, Tally
from bridge.errors import NoReply, ProtocolError
from bridge.transports.base import Stop
from bridge.transports.ports import open_port
from bridge.voltronic.connection import PI18_SPEECH, PI30_SPEECH, Line, Speech
from bridge.voltronic.plan import PI18_PLAN, PI30_PLAN, Plan

BAUD = 2400


def sound_out_port(port: str, stop: Stop) -> list[Found]:
    """Ask who is there, in one protocol after the other; return the inverter that answers, if any.

    `port` is what a configuration could name, free of anybody else: it is opened for this program alone. Silence
    takes half a minute. Raises LinkError when it cannot be opened or breaks, Stopped.
    """
    line = Line(open_port(port, BAUD, stop), Tally())
    try:
        for speech, hello, plan in ((PI30_SPEECH, "QPI", PI30_PLAN), (PI18_SPEECH, "PI", PI18_PLAN)):
            spoken = _told(line, speech, plan, hello, "protocol_id")
            serial = _told(line, speech, plan, plan.serial, "serial_number") if spoken is not None else None
            if spoken is not None and (spoken or serial):
                named = f"serial number {serial}" if serial else "its serial number it does not tell"
                words = f"an Axpert or kin that speaks {_protocol(spoken) or plan.protocol}; {named}"
                return [Found(words, {"name": "inverter", "type": "axpert", "port": port})]
    finally:
        line.close()
    return []


def _told(line: Line, speech: Speech, plan: Plan, command: str, key: str) -> str | None:
    """Return what a question brought, "" where the inverter is there but does not know it, None for no inverter."""
    try:
        return str(line.ask(speech, command, plan.table[command].decode).decoded[key] or "")
    except ProtocolError as err:
        return "" if err.kind == "refused" else None
    except NoReply:
        return None


def _protocol(spoken: str) -> str:
    """Return a protocol's name; PI18 tells its number alone."""
    return f"PI{spoken}" if spoken.isdecimal() else spoken
