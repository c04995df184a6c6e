"""The files of homeassistant/, read as strictly as Home Assistant reads YAML, and what they mention."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.shared import REPOSITORY

FOLDER = REPOSITORY / "homeassistant"


@dataclass(frozen=True)
class Input:
    """`!input name` of a blueprint."""

    name: str


class Loader(yaml.SafeLoader):
    """Knows Home Assistant's tags, and takes a key that is there twice for the mistake it is."""


def _mapping(loader: Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    loader.flatten_mapping(node)
    pairs = loader.construct_pairs(node, deep=True)
    found = dict(pairs)
    if len(found) < len(pairs):
        raise yaml.constructor.ConstructorError(None, None, "a key is there twice", node.start_mark)
    return found


Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)  # type: ignore[no-untyped-call]
Loader.add_constructor("!input", lambda loader, node: Input(node.value))  # type: ignore[no-untyped-call]


def load(path: Path) -> Any:
    """Return what a file says."""
    return yaml.load(path.read_text(encoding="utf-8"), Loader)


def walk(content: Any) -> Iterator[Any]:
    """Yield every value in a file's content, keys and values of mappings too."""
    yield content
    if isinstance(content, dict):
        for key, value in content.items():
            yield key
            yield from walk(value)
    elif isinstance(content, list):
        for value in content:
            yield from walk(value)


def slug(text: str) -> str:
    """Return a text as Home Assistant makes it a part of an entity id."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub("[^a-z0-9]+", "_", plain).strip("_")


def entity_id(platform: str, device: str, name: str) -> str:
    """Return the entity id that Home Assistant gives an entity with a device and a name at first."""
    return f"{platform}.{slug(f'{device} {name}')}"


NAMED = re.compile(r"\b(?:sensor|binary_sensor|number|switch|select|text|button)\.[a-z0-9_]+\b")


def named_entities(content: Any) -> set[str]:
    """Return every entity id that a file's content names, in templates too."""
    return {found for value in walk(content) if isinstance(value, str) for found in NAMED.findall(value)}
