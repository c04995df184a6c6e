"""What a message on a set topic asks for: the text of a value, and perhaps an id and an expiry (pure).

The payload is the value as plain text, or a JSON object::

    {"value": 35, "id": "evening-1", "expires": "2026-11-26T21:00:00Z"}

`value` is a JSON number or text and means the same text as without the object. Anything else is refused: nothing
here guesses, since these texts end in the settings of inverters.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

from bridge.errors import CommandError

LARGEST = 1024
"""Bytes of a payload. The longest there is any sense in has about a hundred."""
LONGEST_ID = 64

_ID = re.compile(r"[!-~]+")
_EXPIRY = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Request:
    """A value's text as sent, the sender's id if any, and the Unix time after which it must not be done, if any."""

    text: str
    id: str | None = None
    expires: float | None = None


class Unfit(CommandError):
    """A payload that asks for nothing, but tells whose it is: `id` is the sender's."""

    def __init__(self, reason: str, request_id: str | None) -> None:
        super().__init__(reason)
        self.id = request_id


class _Figure(str):
    """A JSON number, as it was spelled."""

    __slots__ = ()


def parse(payload: bytes) -> Request:
    """Return what a payload asks for. Raises CommandError, and nothing else, for anything but the forms above."""
    if not payload:
        raise CommandError("the payload is empty; expected a value")
    if len(payload) > LARGEST:
        raise CommandError(f"the payload has {len(payload)} bytes; more than {LARGEST} are never needed")
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError:
        raise CommandError("the payload is not UTF-8 text") from None
    if text.lstrip().startswith("{"):
        return _from_object(text)
    if not text.isascii() or not text.isprintable():
        raise CommandError("the payload holds characters that no value has")
    return Request(text)


def id_in(payload: bytes) -> str | None:
    """Return the id that a payload's sender gave, whatever else is wrong with it; None for none."""
    try:
        return parse(payload).id
    except Unfit as err:
        return err.id
    except CommandError:
        return None


def _from_object(text: str) -> Request:
    try:
        found = json.loads(
            text, parse_int=_Figure, parse_float=_Figure, parse_constant=_no_number, object_pairs_hook=_unique
        )
    except RecursionError:
        raise CommandError("the JSON is nested too deeply") from None
    except ValueError as err:
        raise CommandError(f"not valid JSON: {ascii(str(err))[1:80]}") from None
    request_id = _id(found.get("id"))  # first: whatever is said of the rest is said to its sender
    try:
        _check_keys(found)
        return Request(_value(found["value"]), request_id, _expires(found.get("expires")))
    except CommandError as err:
        raise Unfit(str(err), request_id) from None


def _check_keys(found: dict[str, Any]) -> None:
    if unknown := found.keys() - {"value", "id", "expires"}:
        names = ", ".join(sorted(ascii(name)[:40] for name in unknown))
        raise CommandError(f"unknown key {names}; known are value, id, expires")
    if "value" not in found:
        raise CommandError("value is missing")


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a key is there twice")
    return result


def _value(found: Any) -> str:
    if not isinstance(found, str) or not found.isascii() or not found.isprintable() or not found:
        raise CommandError("value: expected a number or a text, spelled like the plain payload")
    return str(found)


def _id(found: Any) -> str | None:
    if found is None:
        return None
    if isinstance(found, _Figure) or not isinstance(found, str) or len(found) > LONGEST_ID or not _ID.fullmatch(found):
        raise CommandError(f"id: expected a text of 1 to {LONGEST_ID} letters, digits and signs without blanks")
    return found


def _expires(found: Any) -> float | None:
    if found is None:
        return None
    if isinstance(found, str) and not isinstance(found, _Figure) and _EXPIRY.fullmatch(found):
        try:
            return datetime.fromisoformat(found).timestamp()
        except (ValueError, OverflowError):
            pass
    raise CommandError("expires: expected a moment with its zone, as 2026-11-26T21:00:00Z")
