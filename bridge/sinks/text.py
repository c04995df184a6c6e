"""Values as JSON text, quickly: a topic's messages hardly change their shape, only their numbers (pure).

The standard encoder quotes some hundred keys and writes as many nulls anew for every message. Here that is done once
for a shape (the keys in their order, and the type of each value); a further message of that shape is its numbers put
into a text that stands ready. The result is, byte for byte, what the standard encoder gives.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from json.encoder import encode_basestring
from math import isfinite
from operator import itemgetter
from typing import Any, TypeAlias

Getter: TypeAlias = Callable[[Mapping[str, Any]], tuple[Any, ...]]

_to_json = json.JSONEncoder(allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode


def encode(values: Mapping[str, Any]) -> bytes:
    """Return strict JSON: no NaN, no infinity (ValueError, which is a bug of whoever made the value)."""
    return _to_json(values).encode()


class Shape:
    """The text of all messages with these keys, in this order, and these types of values."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.keys = tuple(values)
        self.types = tuple(map(type, values.values()))
        known = [key for key in self.keys if values[key] is not None]
        numbers = {key for key in known if type(values[key]) in (int, float)}
        self._take = _getter(known)
        self._take_numbers = _getter([key for key in known if key in numbers])
        self._words = [place for place, key in enumerate(known) if key not in numbers]
        """Which of the known values are no numbers."""
        parts = []
        for key in self.keys:
            part = "null" if values[key] is None else "%r" if key in numbers else "%s"
            parts.append(f"{encode_basestring(key).replace('%', '%%')}:{part}")
        self._text = "{" + ",".join(parts) + "}"

    def fits(self, values: Mapping[str, Any]) -> bool:
        """Whether these values have this shape."""
        return tuple(values) == self.keys and tuple(map(type, values.values())) == self.types

    def encode(self, values: Mapping[str, Any]) -> bytes:
        """Return the JSON of values that fit. Raises ValueError as the module's `encode` does."""
        numbers = self._take_numbers(values)
        # one such number makes the sum one; a sum too large to be one is told from that by the second look
        if not isfinite(sum(numbers)) and not all(map(isfinite, numbers)):
            raise ValueError("infinity and NaN are not JSON compliant")
        taken = list(self._take(values))
        for place in self._words:
            word = taken[place]
            if type(word) is bool:
                taken[place] = "true" if word else "false"
            else:
                taken[place] = encode_basestring(word) if type(word) is str else _to_json(word)
        return (self._text % tuple(taken)).encode()


def _getter(keys: list[str]) -> Getter:
    if len(keys) > 1:
        return itemgetter(*keys)
    return lambda values: tuple([values[key] for key in keys])


class Texts:
    """Encodes the messages of many topics. Any thread may use it, one at a time for each topic."""

    MOST = 4096
    """Topics whose shape is kept; past it all are learned anew."""

    def __init__(self) -> None:
        self._shapes: dict[str, Shape] = {}
        self._last: dict[str, tuple[type, ...]] = {}
        """The types of a topic's last message that had another shape: one seen twice in a row is worth learning."""

    def encode(self, topic: str, values: Mapping[str, Any]) -> bytes:
        """Return the strict JSON of a topic's values. Raises ValueError as the module's `encode` does."""
        shape = self._shapes.get(topic)
        if shape is not None and shape.fits(values):
            return shape.encode(values)
        text = encode(values)
        types = tuple(map(type, values.values()))
        if self._last.get(topic) == types:
            self._shapes[topic] = Shape(values)
        if len(self._last) >= self.MOST:
            self._last.clear()
            self._shapes.clear()
        self._last[topic] = types
        return text
