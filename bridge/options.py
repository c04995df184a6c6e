"""Strict reading: YAML nodes -> frozen dataclasses, driven by the dataclasses' own type hints.

Own code instead of a validation library: the dataclass is the only description of a key (name, type,
default, bounds, words), there is no second schema to keep in step, and every message carries its
line, since PyYAML's nodes know where they stand and a validator of plain dicts does not. These dataclasses have no
slots, for which Python makes each class twice: 0.2 ms of every start, for an object or two.

Stricter than YAML 1.1 where that guesses: yes/no/on/off are no booleans, 010 is no 8, 12:30 is no
750, and a text that another reader could take for a number, a date or a boolean has to be quoted. Anchors,
aliases, tags, merge keys and duplicate keys are refused. A value that may be a secret is never shown.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import MISSING, Field, field, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, NamedTuple, NoReturn, Union, get_args, get_origin, get_type_hints

import yaml

MAX_DEPTH = 20
"""Deeper nesting is refused: no configuration needs it, and the parser's recursion stays bounded."""

MAX_PROBLEMS = 100

_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})(\.[0-9]+)?([eE][-+]?[0-9]{1,2})?")
_NULLS = ("", "~", "null", "Null", "NULL")
_BOOLEANS = ("true", "false", "yes", "no", "on", "off", "y", "n")
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
_UNFIT_SECRET = re.compile("[\x00\ud800-\udfff]")
_KEY_WORTH_SHOWING = re.compile(r"[A-Za-z_<][\w.<-]{0,40}", re.ASCII)

_REFUSED = "!refused"
"""The tag of a node that has been complained about already."""

_MISMATCH = object()


class Secret:
    """A text that is never shown: not by repr, str, format, JSON or pickle. `reveal()` gives it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself."""
        return self._text

    def __repr__(self) -> str:
        return "'***'"

    def __str__(self) -> str:
        return "***"

    def __format__(self, _spec: str) -> str:
        return "***"

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, _memo: object) -> Secret:
        return self

    def __getstate__(self) -> NoReturn:
        raise TypeError("a secret is not stored")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not stored")


class Rule(NamedTuple):
    """What a key's value must be beyond its type. Lists and mappings apply it to each of their scalars."""

    doc: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[Any, ...] = ()
    check: Callable[[Any], str | None] | None = None
    path: bool = False
    key: bool = True
    empty: str = ""


_NO_RULE = Rule()


def option(
    default: Any = MISSING,
    *,
    doc: str,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[Any, ...] = (),
    check: Callable[[Any], str | None] | None = None,
    path: bool = False,
    key: bool = True,
    empty: str = "",
) -> Any:
    """Declare one key of a dataclass that `Reader` reads; without a default the key is required.

    Types: str, int, float, bool, Secret, Literal, list[T], tuple[T, ...], dict[str, T], dataclasses,
    and unions of them with each other and None. `doc` says in a few words what the key is for and is
    shown when it is missing. Bounds are inclusive. `check` returns what is wrong with a value of the
    right type, or None. `path` makes a text a file name relative to the configuration's folder.
    `key` False means the program sets the field, not the file. `empty` says what to write where a key stands without
    a value, which is then refused: for what guards something, and would be off as if the key were left out.

    What concerns several keys goes into a static method of the dataclass, `conflicts(values)`, that
    yields (key, what is wrong); `values` holds the good keys and the defaults, and lacks the bad ones.
    A key that is a word of Python gets a field with _ behind it.
    """
    metadata = {"rule": Rule(doc, minimum, maximum, choices, check, path, key, empty)}
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: copy(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def rule_of(item: Field[Any]) -> Rule:
    """Return the rule of a dataclass field, declared with `option` or not."""
    rule: Rule = item.metadata.get("rule", _NO_RULE)
    return rule


def key_of(item: Field[Any]) -> str:
    """Return the key that a dataclass field has in the file."""
    return item.name.removesuffix("_")


class Variable(yaml.ScalarNode):
    """A value that an environment variable puts in the place of the file's."""

    def __init__(self, name: str, value: str, style: str | None) -> None:
        super().__init__("tag:yaml.org,2002:str", value, style=style)
        self.name = name


class Refused(Exception):
    """A value is no good; the problem has been reported already."""


class Reader:
    """Turns the text of one file into dataclasses and collects everything that is wrong with it."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._folder = os.path.dirname(os.path.abspath(file))
        self._problems: list[tuple[int, str]] = []

    # -- problems

    def problems(self) -> list[str]:
        """Return all problems, sorted by line; of a file that is something else altogether the first ones."""
        texts = [text for _, text in sorted(self._problems, key=lambda problem: problem[0])]
        more = [f"{self._file}: and {len(texts) - MAX_PROBLEMS} more"] if len(texts) > MAX_PROBLEMS else []
        return texts[:MAX_PROBLEMS] + more

    def report(self, node: yaml.Node | int | None, place: str, text: str) -> Refused:
        """Note a problem with `node` (or on a line, counted from 1; None means the whole file)."""
        text = f"{place}: {text}" if place else text
        if isinstance(node, Variable):
            self._problems.append((0, f"{node.name}: {text}"))
        elif node is None:
            self._problems.append((0, f"{self._file}: {text}"))
        else:
            line = node if isinstance(node, int) else node.start_mark.line + 1
            self._problems.append((line, f"{self._file}:{line}: {text}"))
        return Refused()

    # -- text -> nodes

    def compose(self, text: str) -> yaml.Node | None:
        """Return the document's root node, None for an empty one. Raises Refused for a syntax error."""
        try:
            loader = _Loader(text)
            try:
                root: yaml.Node | None = loader.get_single_node()
            finally:
                for line, complaint in loader.complaints:
                    self.report(line, "", complaint)
        except yaml.reader.ReaderError as err:
            line = text.count("\n", 0, err.position) + 1
            raise self.report(line, "", f"a character that no text holds (U+{err.character:04X})") from None
        except yaml.MarkedYAMLError as err:
            raise self._syntax(err, text.splitlines()) from None
        except (ValueError, OverflowError):  # an escape beyond Unicode, an absurd %YAML version
            raise self.report(1, "", "syntax: a number or an escape in quotes that YAML does not know") from None
        return root

    def _syntax(self, err: yaml.MarkedYAMLError, lines: list[str]) -> Refused:
        """Report where the parser gave up. Quotes no more than a character: it may stand in a password."""
        # an open quote or bracket is noticed much later, often at the end of the file: point at where it opens
        opened = err.context and ("quoted scalar" in err.context or "flow" in err.context)
        mark = err.context_mark if opened else err.problem_mark or err.context_mark
        line = min(mark.line + 1, max(1, len(lines))) if mark else 1
        here = lines[line - 1] if lines else ""
        if "\t" in _indent(here) or "'\\t'" in str(err.problem):
            tabs = [number for number, text in enumerate(lines, 1) if "\t" in _indent(text) and text.strip()]
            for number in tabs or [line]:
                self.report(number, "", "a tab; indent with spaces only")
            return Refused()
        words = f"{err.context}, {err.problem}" if opened else f"{err.problem}"
        problem = re.sub(r"'[^']{3,}'|\"[^\"]{3,}\"", "...", words)
        if isinstance(err, yaml.composer.ComposerError) and "single document" in str(err.context):
            problem = "a second document begins (---); only one is allowed"
        advice = "; a text with ': ', ' #', or a first character out of *&!%@`[]{}|>?-'\"# has to be quoted"
        if "block end" in problem or "mapping values" in problem:  # mostly a blank too many or too few
            advice = f"; keys of one entry have to begin in one column, entries of one list too{advice}"
        return self.report(line, "", f"syntax: {problem}{advice if 'document' not in problem else ''}")

    # -- nodes -> values

    def read(self, hint: Any, node: yaml.Node, place: str, rule: Rule = _NO_RULE) -> Any:
        """Return the value of `node` as type `hint`. Raises Refused, after reporting all that is wrong in it."""
        if node.tag == _REFUSED:
            raise Refused
        arms = _arms(hint)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(arms, node, place, rule)
        for arm in arms:
            if isinstance(node, yaml.SequenceNode) and get_origin(arm) in (list, tuple):
                return self._sequence(arm, node, place, rule)
            if isinstance(node, yaml.MappingNode) and get_origin(arm) is dict:
                return self._dict(get_args(arm)[1], node, place, rule)
            if isinstance(node, yaml.MappingNode) and is_dataclass(arm):
                return self.mapping(arm, node, place)
        raise self.report(node, place, f"found {_found(node, arms)}; expected {_expected(arms, rule)}")

    def mapping(self, declared: Any, node: yaml.MappingNode, place: str) -> Any:
        """Return an instance of the dataclass `declared` (or of what `variant` makes of it)."""
        entries = self.entries(node, place)
        cls = self.variant(declared, node, entries, place)
        hints = get_type_hints(cls)
        known = {key_of(item): item for item in fields(cls) if rule_of(item).key}
        self._report_unknown(node, place, entries, list(known))
        good, values = True, dict[str, Any]()
        for name, item in known.items():
            inner = f"{place}.{name}" if place else name
            try:
                if name in entries:
                    values[item.name] = self.read(hints[item.name], entries[name], inner, self.rule(cls, item))
                elif item.default is MISSING and item.default_factory is MISSING:
                    doc = f" ({rule_of(item).doc})" if rule_of(item).doc else ""
                    wanted = _expected(_arms(hints[item.name]), self.rule(cls, item))
                    raise self.report(node, inner, f"missing; expected {wanted}{doc}")
            except Refused:
                good = False
        for name, text in _conflicts(cls, values, known, entries):
            self.report(entries.get(name, node), f"{place}.{name}" if place else name, text)
            good = False
        if not good:
            raise Refused
        return cls(**values)

    def variant(self, declared: Any, _node: yaml.MappingNode, _entries: Mapping[str, Any], _place: str) -> Any:
        """Return the dataclass to read; overridden where a key of the mapping decides. Raises Refused."""
        return declared

    def rule(self, _cls: Any, item: Field[Any]) -> Rule:
        """Return the rule of a field; overridden where a contract class declares none."""
        return rule_of(item)

    def entries(self, node: yaml.MappingNode, place: str) -> dict[str, yaml.Node]:
        """Return the value nodes by key; a second value of one key is reported and left out."""
        found: dict[str, yaml.Node] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == _REFUSED:
                if key_node.tag != _REFUSED:
                    self.report(key_node, place, "a key must be a plain word")
                continue
            key = key_node.value
            if key not in found:
                found[key] = value_node
                lines[key] = key_node.start_mark.line + 1
            elif not isinstance(found[key], Variable):
                again = f"{place}.{_shown_key(key)}" if place else _shown_key(key)
                self.report(key_node, again, f"given twice, first on line {lines[key]}; give each key once")
        return found

    def _report_unknown(
        self, node: yaml.MappingNode, place: str, entries: Mapping[str, yaml.Node], known: list[str]
    ) -> None:
        """Report keys that are not known, each with the nearest that is."""
        lines = {key.value: key for key, _ in reversed(node.value) if isinstance(key, yaml.ScalarNode)}
        for key in entries:
            if key in known:
                continue
            from difflib import get_close_matches  # 0.5 MB that a right configuration does without

            near = get_close_matches(key.lower().replace("-", "_"), known, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            inner = f"{place}.{_shown_key(key)}" if place else _shown_key(key)
            self.report(lines[key], inner, f"unknown key; {hint}known are {', '.join(known)}")

    def _sequence(self, arm: Any, node: yaml.SequenceNode, place: str, rule: Rule) -> Any:
        items: list[Any] = []
        for number, child in enumerate(node.value):
            try:
                items.append(self.read(get_args(arm)[0], child, f"{place}[{number}]", rule))
            except Refused:
                continue
        if len(items) < len(node.value):
            raise Refused
        return tuple(items) if get_origin(arm) is tuple else items

    def _dict(self, hint: Any, node: yaml.MappingNode, place: str, rule: Rule) -> dict[str, Any]:
        entries = self.entries(node, place)
        values: dict[str, Any] = {}
        for key, child in entries.items():
            try:
                if not key or _UNFIT.search(key):
                    raise self.report(child, place, "a key must be a text without control characters")
                values[key] = self.read(hint, child, f"{place}.{_shown_key(key)}", rule)
            except Refused:
                continue
        if len(values) < len(entries):
            raise Refused
        return values

    def _scalar(self, arms: tuple[Any, ...], node: yaml.ScalarNode, place: str, rule: Rule) -> Any:
        if rule.empty and node.style is None and not node.value:
            raise self.report(node, place, f"found nothing; {rule.empty}")
        value = _match(arms, node)
        if value is _MISMATCH or not _in_bounds(value, rule):
            advice = _advice(arms, node)
            wanted = _expected(arms, rule) + (f"; {advice}" if advice else "")
            raise self.report(node, place, f"found {_found(node, arms)}; expected {wanted}")
        if isinstance(value, str):
            if not value or _UNFIT.search(value):
                text = "holds a control character" if value else "is empty"
                raise self.report(node, place, f"the text {text}; expected {_expected(arms, rule)}")
            if rule.path:
                value = os.path.join(self._folder, os.path.expanduser(value))
        if isinstance(value, Secret) and (not value or _UNFIT_SECRET.search(value.reveal())):
            raise self.report(node, place, "the text is empty or holds a character that cannot be sent")
        complaint = rule.check(value) if rule.check and value is not None else None
        if complaint:
            raise self.report(node, place, complaint)
        return value


class _Loader(yaml.SafeLoader):
    """Composes nodes without guessing types; refuses aliases, anchors and tags, and goes on."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.complaints: list[tuple[int, str]] = []
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            self.get_event()  # type: ignore[no-untyped-call]
            self.complaints.append((line, "an alias (*...) is not allowed; write the value out, or quote the text"))
            return _refused(event)
        if event.anchor is not None:
            event.anchor = None
            self.complaints.append((line, "an anchor (&...) is not allowed; remove it, or quote the text"))
        tagged, event.tag = event.tag is not None, None
        if tagged:
            self.complaints.append((line, "a tag (!...) is not allowed; remove it, or quote the text"))
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, "nested too deeply", event.start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return _refused(event) if tagged else node


def _refused(event: Any) -> yaml.ScalarNode:
    return yaml.ScalarNode(_REFUSED, "", event.start_mark, event.end_mark)


_STOCK = yaml.resolver.Resolver()
"""How YAML 1.1 would take a plain scalar; only to see which texts need quotes."""


def is_nothing(node: yaml.Node) -> bool:
    """Whether a value stands for none: null, or nothing at all."""
    return isinstance(node, yaml.ScalarNode) and node.style is None and node.value in _NULLS


def _is_plain_text(text: str) -> bool:
    tag = _STOCK.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    return bool(tag == "tag:yaml.org,2002:str")


def _arms(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the one type."""
    if get_origin(hint) in (Union, UnionType):
        return tuple(arm for member in get_args(hint) for arm in _arms(member))
    return (hint,)


def _match(arms: tuple[Any, ...], node: yaml.ScalarNode) -> Any:
    """Return the scalar's value as the first type that takes it, or _MISMATCH."""
    plain, text = node.style is None, node.value
    for arm in sorted(arms, key=_is_literal, reverse=True):
        if _is_literal(arm):
            for literal in get_args(arm):
                if str(literal) == text:
                    return literal
        elif arm is NoneType and plain and text in _NULLS:
            return None
        elif arm is bool and plain and text in ("true", "false"):
            return text == "true"
        elif arm is int and plain and _INT.fullmatch(text):
            return int(text)
        elif arm is float and plain and _FLOAT.fullmatch(text):
            return float(text)
        elif arm in (str, Secret) and (not plain or _is_plain_text(text)):
            return arm(text)
    return _MISMATCH


def _in_bounds(value: Any, rule: Rule) -> bool:
    if rule.choices and value is not None:
        return value in rule.choices
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        low = rule.minimum is None or value >= rule.minimum
        return low and (rule.maximum is None or value <= rule.maximum)
    return True


def _found(node: yaml.Node, arms: tuple[Any, ...]) -> str:
    """Say what stands there; a text that may be a secret, or a line run together with one, is not shown."""
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    if not isinstance(node, yaml.ScalarNode):
        return "a mapping"
    plain, text = node.style is None, node.value
    if plain and text in _NULLS:
        return "nothing"
    number = plain and _FLOAT.fullmatch(text)
    if Secret in arms or not any(_takes_scalar(arm) for arm in arms):
        return "a number" if number else "a text"
    shown = text if len(text) <= 40 else text[:40] + "..."
    return f"the number {shown}" if number else f"{shown!a}" if plain else f"the text {shown!a}"


def _takes_scalar(arm: Any) -> bool:
    return arm in (str, int, float, bool) or _is_literal(arm)


def _is_literal(arm: Any) -> bool:
    return get_origin(arm) in (Literal,)


def _expected(arms: tuple[Any, ...], rule: Rule) -> str:
    """Say in words what is allowed."""
    if rule.choices and not any(get_origin(arm) in (list, tuple) for arm in arms):  # of a list they are its items
        return "one of " + ", ".join(str(choice) for choice in rule.choices)
    return " or ".join(word for arm in arms for word in _words(arm, rule))


def expected(hint: Any, rule: Rule) -> str:
    """Say in words what a key with this type may hold."""
    return _expected(_arms(hint), rule)


def parts_of(hint: Any) -> list[type]:
    """Return the dataclasses a key with this type may hold, or a list of them."""
    inner = [found for arm in _arms(hint) for found in (get_args(arm) if get_origin(arm) in (list, tuple) else (arm,))]
    return [found for found in inner if isinstance(found, type) and is_dataclass(found)]


def _words(arm: Any, rule: Rule) -> Iterator[str]:
    if _is_literal(arm):
        yield from (str(literal) for literal in get_args(arm))
    elif get_origin(arm) in (list, tuple):
        yield "a list, [first, second], of " + _expected(_arms(get_args(arm)[0]), rule)
    elif get_origin(arm) is dict or is_dataclass(arm):
        yield "a mapping (indented lines of key: value)"
    elif arm in (int, float):
        yield ("a whole number" if arm is int else "a number") + _range(rule)
    else:
        yield {str: "text", Secret: "text", bool: "true or false", NoneType: "null"}[arm]


def _range(rule: Rule) -> str:
    if rule.minimum is not None and rule.maximum is not None:
        return f", {rule.minimum} to {rule.maximum}"
    if rule.minimum is not None:
        return f", at least {rule.minimum}"
    return "" if rule.maximum is None else f", at most {rule.maximum}"


def _advice(arms: tuple[Any, ...], node: yaml.ScalarNode) -> str:
    """Say how to write what was probably meant, or nothing."""
    plain, text = node.style is None, node.value
    if bool in arms and text.lower() in _BOOLEANS:
        return "write the word true or false, unquoted"
    if {int, float} & set(arms) and not plain and _FLOAT.fullmatch(text):
        return "write the number without quotes"
    if {int, float} & set(arms) and plain and re.match(r"[-+.]?[0-9]", text) and not _FLOAT.fullmatch(text):
        return "write a plain decimal number"
    if {str, Secret} & set(arms) and plain and text not in _NULLS and not _is_plain_text(text):
        return "if it is meant as text, put it in quotes"
    return ""


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _shown_key(key: str) -> str:
    """Return a key as messages show it; one that is no word may be half a password."""
    return key if _KEY_WORTH_SHOWING.fullmatch(key) else "(no word)"


def _conflicts(
    cls: Any, values: Mapping[str, Any], known: Mapping[str, Field[Any]], entries: Mapping[str, yaml.Node]
) -> Iterator[tuple[str, str]]:
    """Yield what the dataclass itself finds wrong between its keys."""
    if hasattr(cls, "conflicts"):
        absent = [item for name, item in known.items() if name not in entries]
        defaults = {item.name: item.default for item in absent if item.default is not MISSING}
        factories = {item.name: item.default_factory() for item in absent if item.default_factory is not MISSING}
        yield from cls.conflicts({**defaults, **factories, **values})


def plain(value: Any) -> Any:
    """Return dataclasses, tuples and secrets as what YAML and JSON can show; a secret as ``***``."""
    if is_dataclass(value) and not isinstance(value, type):
        return {key_of(item): plain(getattr(value, item.name)) for item in fields(value) if rule_of(item).key}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return "***" if isinstance(value, Secret) else value


def secrets_in(value: Any) -> list[str]:
    """Return every secret text in a dataclass, for the filter that masks them."""
    if isinstance(value, Secret):
        return [value.reveal()]
    if is_dataclass(value) and not isinstance(value, type):
        return [text for item in fields(value) for text in secrets_in(getattr(value, item.name))]
    if isinstance(value, dict):
        return [text for item in value.values() for text in secrets_in(item)]
    return [text for item in value for text in secrets_in(item)] if isinstance(value, (list, tuple)) else []
