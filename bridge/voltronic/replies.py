"""Any reply of the family to values, for captures, tools and tests: the device itself knows what it asked."""

from __future__ import annotations

from bridge.errors import ProtocolError
from bridge.voltronic import frame, pi18
from bridge.voltronic.inquiries import PI30, PI41, inquiry_of
from bridge.voltronic.inquiry import Decoded
from bridge.voltronic.pi18_inquiries import PI18, undress

TABLES = {"PI30": PI30, "PI41": PI41, "PI18": PI18}


def decode(protocol: str, command: str, raw: bytes) -> Decoded:
    """Return what the whole reply `raw` to `command` says, by wire name.

    Answers to settings and refusals give {"answer": "ACK"} or, on PI18, {"accepted": True}. Replies of protocols
    without a table here (PI16, PI17) give their texts as {"_fields": [...]}. Raises ProtocolError.
    """
    payload = whole_reply(protocol, raw)
    if payload in ("ACK", "NAK"):
        return {"answer": payload}
    if protocol in ("PI17", "PI18") and payload in ("0", "1"):
        return {"accepted": payload == "1"}
    table = TABLES.get(protocol)
    inquiry = inquiry_of(command, table) if table else None
    if inquiry is not None:
        return inquiry.decode(payload)
    if protocol in ("PI17", "PI18"):
        declared, body = undress(payload)
        return {"_fields": body.split(","), "_declared_length": declared}
    return {"_fields": payload.rstrip(" ").split(" ")}


def whole_reply(protocol: str, raw: bytes) -> str:
    """Return the text of the one reply in `raw`. Raises ProtocolError when there is none."""
    decoder = pi18.Decoder() if protocol in ("PI17", "PI18") else frame.Decoder()
    decoder.receive(raw)
    payload = decoder.next_reply(timed_out=True)
    if payload is None:
        raise ProtocolError("length", "no end of a reply", raw)
    return payload
