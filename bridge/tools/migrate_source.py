"""Another program's configuration, YAML or INI, as sections whose values know their line and whether they were used."""

from __future__ import annotations

import configparser
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn

import yaml

from bridge.errors import ConfigError

LARGEST = 1 << 20
_TRUE, _FALSE = ("true", "yes", "on", "1", "y"), ("false", "no", "off", "0", "n")
_NOTHING = ("", "~", "null", "Null", "NULL")


@dataclass(slots=True)
class Section:
    """A mapping: texts, lists of texts, and further sections by key. `place` is its name in messages."""

    file: str
    place: str
    line: int
    values: dict[str, str] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)
    sections: dict[str, list[Section]] = field(default_factory=dict)
    """A single mapping, or the mappings of a list."""
    lines: dict[str, int] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def fail(self, key: str, text: str) -> NoReturn:
        """Raise ConfigError for what stands at a key, or for the section itself where there is none."""
        line = self.lines.get(key, self.line)
        raise ConfigError([f"{self.file}:{line}: {self._named(key)}: {text}"])

    def text(self, key: str) -> str | None:
        """Return a text, None where there is none."""
        self.used.add(key)
        if key in self.lists or key in self.sections:
            self.fail(key, "expected a single value")
        return self.values.get(key) or None

    def needed(self, key: str, what: str) -> str:
        """Return a text that must be there."""
        value = self.text(key)
        if value is None:
            self.fail(key, f"missing; expected {what}")
        return value

    def number(self, key: str, lowest: float, highest: float) -> float | None:
        """Return a number within bounds, None where there is none."""
        text = self.text(key)
        if text is None:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not lowest <= value <= highest:
            self.fail(key, f"expected a number from {lowest:g} to {highest:g}")
        return value

    def whole(self, key: str, lowest: int, highest: int) -> int | None:
        """Return a whole number within bounds, None where there is none."""
        value = self.number(key, lowest, highest)
        if value is not None and not value.is_integer():
            self.fail(key, f"expected a whole number from {lowest} to {highest}")
        return None if value is None else int(value)

    def flag(self, key: str, default: bool) -> bool:
        text = self.text(key)
        if text is None:
            return default
        if text.lower() not in (*_TRUE, *_FALSE):
            self.fail(key, "expected true or false")
        return text.lower() in _TRUE

    def all(self, key: str) -> list[Section]:
        """Return the mappings under a key: one, or those of a list."""
        self.used.add(key)
        if self.values.get(key) or key in self.lists:
            self.fail(key, "expected further lines of key: value")
        return self.sections.get(key, [])

    def one(self, key: str) -> Section:
        """Return the mapping under a key, an empty one where there is none."""
        found = self.all(key)
        if len(found) > 1:
            self.fail(key, "expected one mapping, not a list")
        return found[0] if found else Section(self.file, self._named(key), self.lines.get(key, self.line))

    def left(self) -> Iterator[tuple[str, int]]:
        """Yield what was not asked for: its name and line. No value: it may be a secret."""
        for key, line in self.lines.items():
            if key not in self.used:
                yield self._named(key), line
            else:
                for section in self.sections.get(key, []):
                    yield from section.left()

    def _named(self, key: str) -> str:
        return f"{self.place}.{key}" if self.place and key else self.place or key


def read_file(path: str) -> str:
    """Return a file's text. Raises ConfigError."""
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as err:
        raise ConfigError([f"{path}: cannot be read: {os.strerror(err.errno) if err.errno else err}"]) from None
    if len(data) > LARGEST:
        raise ConfigError([f"{path}: larger than {LARGEST} bytes; this is no configuration"])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        line = data.count(b"\n", 0, err.start) + 1
        raise ConfigError([f"{path}:{line}: not UTF-8 text; save it as UTF-8"]) from None


def looks_like_ini(text: str) -> bool:
    """Whether the first line that says something is a [section]."""
    lines = (line.strip() for line in text.splitlines())
    first = next((line for line in lines if line and line[0] not in "#;"), "")
    return bool(re.fullmatch(r"\[[^\]]+\].*", first))


def read_yaml(file: str, text: str) -> Section:
    """Return a YAML file's top mapping. Raises ConfigError."""
    try:
        for event in yaml.parse(text, yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):  # a few of them can stand for a million lines
                line = event.start_mark.line + 1 if event.start_mark else 1
                raise ConfigError([f"{file}:{line}: an alias (*...); write the value out"])
        root = yaml.compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as err:
        mark = err.problem_mark or err.context_mark
        raise ConfigError([f"{file}:{mark.line + 1 if mark else 1}: not YAML: {err.problem}"]) from None
    except (yaml.YAMLError, ValueError, OverflowError) as err:  # a character beyond all of Unicode is the latter
        raise ConfigError([f"{file}: not YAML: {ascii(str(err))[1:100]}"]) from None
    except RecursionError:
        raise ConfigError([f"{file}: nested too deeply"]) from None
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError([f"{file}:1: expected lines of key: value"])
    return _section(file, "", root, 0)


def _section(file: str, place: str, node: yaml.MappingNode, depth: int) -> Section:
    section = Section(file, place, node.start_mark.line + 1)
    if depth > 20:
        raise ConfigError([f"{file}:{section.line}: nested too deeply"])
    for key_node, value in node.value:
        key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "?"
        section.lines[key] = key_node.start_mark.line + 1
        inner = f"{place}.{key}" if place else key
        if isinstance(value, yaml.ScalarNode):
            section.values[key] = "" if value.style is None and value.value in _NOTHING else value.value
        elif isinstance(value, yaml.MappingNode):
            section.sections[key] = [_section(file, inner, value, depth + 1)]
        elif all(isinstance(item, yaml.ScalarNode) for item in value.value):
            section.lists[key] = [item.value for item in value.value]
        else:
            section.sections[key] = [
                _section(file, f"{inner}[{number}]", item, depth + 1)
                for number, item in enumerate(value.value)
                if isinstance(item, yaml.MappingNode)
            ]
    return section


def read_ini(file: str, text: str) -> Section:
    """Return an INI file, each of its sections under its name. Raises ConfigError."""
    parser = configparser.ConfigParser()
    try:
        parser.read_string(text)
        found = {name: dict(parser.items(name)) for name in parser.sections()}
    except configparser.MissingSectionHeaderError as err:  # a ParsingError without a list of errors
        raise ConfigError([f"{file}:{err.lineno}: expected a [section] first"]) from None
    except configparser.ParsingError as err:
        raise ConfigError([f"{file}:{err.errors[0][0] if err.errors else 1}: expected key = value"]) from None
    except configparser.InterpolationError as err:
        line = _line_of(text, err.section, err.option)
        raise ConfigError([f"{file}:{line}: {err.option}: a % has to be written %%"]) from None
    except (configparser.DuplicateSectionError, configparser.DuplicateOptionError) as err:
        raise ConfigError([f"{file}:{err.lineno}: given twice"]) from None
    except configparser.Error as err:
        raise ConfigError([f"{file}:{getattr(err, 'lineno', 1)}: expected a [section] first"]) from None
    root = Section(file, "", 1)
    for name, values in found.items():
        root.lines[name] = _line_of(text, name, None)
        lines = {key: _line_of(text, name, key) for key in values}
        root.sections[name] = [Section(file, f"[{name}]", root.lines[name], values, lines=lines)]
    return root


def _line_of(text: str, section: str, key: str | None) -> int:
    """Return the line of a section, or of a key in it."""
    current, section_line = "", 1
    for number, line in enumerate(text.splitlines(), 1):
        words = line.strip()
        if words.startswith("[") and "]" in words:
            current = words[1 : words.index("]")]
            section_line = number if current == section else section_line
        elif key and current == section and re.split("[=:]", words, maxsplit=1)[0].strip().lower() == key.lower():
            return number
    return section_line
