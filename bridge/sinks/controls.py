"""What can be set, as Home Assistant's controls: number, select, switch, button, text and time (pure).

None of them is optimistic: what is shown is what was read back from the device. What cannot be shown, a value beyond
the bounds of its number or none of the options, is shown as unknown; Home Assistant would log it at every message.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from decimal import Decimal

from bridge.fields import Field, Level
from bridge.settings import NOW, OFF, ON, PRESS, WINDOW_PATTERN, Choice, Clock, Number, Press, Setting, Switch, Window
from bridge.sinks.homeassistant import Component, Site, _literal, button, look_up

NUMBER_CLASSES = frozenset({"voltage", "current", "power", "apparent_power", "frequency", "temperature", "duration"})
"""Device classes that say as much of a wish as of a measurement: a limit of the state of charge is no battery."""

MOST_OPTIONS = 250
"""What a choice of numbers may have at most."""

OUTCOMES = ("done", "unchanged", "refused", "failed", "unknown")
HALVES = (("start", 0), ("end", 6))
"""The two times of a window, by their level in the topic (halves.py takes them) and where they stand in it."""


def entities(site: Site, item: Field, place: str, state: str, options: Collection[str]) -> Iterator[Component]:
    """Yield the controls of one setting of a unit; one that has a `key` is known by that.

    `place` is what the unit's topics begin with, `state` the topic that shows the setting, `options` every word
    it may show there.
    """
    if not isinstance(item, Setting):
        raise TypeError(f"{item.key}: controls are rows of a settings table")
    common: Component = {"name": item.name, "cmd_t": f"{place}/set/{item.key}", "qos": 1, "ent_cat": "config"}
    if item.level is Level.HIDDEN:
        common["en"] = False
    shown = {**common, "stat_t": state}
    spelling = item.spelling
    if isinstance(spelling, Switch):
        yield {"p": "switch", **shown, **_on_off(item.key)}
    elif isinstance(spelling, Choice):
        words = list(dict.fromkeys((*spelling.options, *item.options, *options)))
        yield {"p": "select", **shown, "val_tpl": _among(item.key, words), "ops": words}
    elif isinstance(spelling, Window):
        yield from _window(site, item, shown)
    elif isinstance(spelling, Number):
        yield {**shown, **_number(item, spelling)}
    elif isinstance(spelling, Clock):
        yield {**button(f"{item.name}: set to now", common["cmd_t"], NOW), **_enabled(common), "qos": 1}
    elif isinstance(spelling, Press):
        yield {**button(item.name, common["cmd_t"], PRESS), **_enabled(common), "qos": 1}


def _enabled(common: Component) -> Component:
    return {"en": False} if "en" in common else {}


def _on_off(key: str) -> Component:
    return {"val_tpl": look_up(key), "pl_on": ON, "pl_off": OFF, "stat_on": "True", "stat_off": "False"}


def _number(item: Field, spelling: Number) -> Component:
    if spelling.among or spelling.also:
        # a number could not show what stands outside of its bounds, nor be set to it
        steps = int((spelling.maximum - spelling.minimum) // spelling.step) + 1
        if spelling.among or steps <= MOST_OPTIONS:
            within = spelling.among or (spelling.minimum + at * spelling.step for at in range(steps))
            return _numbers(item.key, spelling, (*spelling.also, *within))
    low, high = _plain(spelling.minimum), _plain(spelling.maximum)
    unit, device_class = item.quantity.unit, item.quantity.device_class
    found: Component = {
        "p": "number",
        "val_tpl": f"{{% set v = value_json.get({_literal(item.key)}) %}}"
        f"{{{{ v if v is number and {low} <= v <= {high} else none }}}}",
        "min": low,
        "max": high,
        "step": _plain(spelling.step),
        "mode": "box",
    }
    if unit is not None:
        found["unit_of_meas"] = unit
    if device_class in NUMBER_CLASSES:
        found["dev_cla"] = device_class
    return found


def _numbers(key: str, spelling: Number, numbers: Sequence[Decimal]) -> Component:
    """Return a choice of numbers, each spelled as the template renders it."""
    kind = "float" if spelling.decimals else "int"
    values = [_plain(one) for one in numbers]
    words = [str(float(one)) if spelling.decimals else str(one) for one in values]
    template = (
        f"{{% set v = value_json.get({_literal(key)}) %}}{{{{ v|{kind} if v in {json.dumps(values)} else none }}}}"
    )
    return {"p": "select", "val_tpl": template, "ops": words}


def _plain(number: Decimal) -> int | float:
    return int(number) if number == number.to_integral_value() else float(number)


def _among(key: str, words: Sequence[str]) -> str:
    listed = ",".join(_literal(word) for word in words)
    return f"{{% set v = value_json.get({_literal(key)}) %}}{{{{ v if v in [{listed}] else none }}}}"


def _window(site: Site, item: Setting, shown: Component) -> Iterator[Component]:
    """Yield a window as one text or, where that is wanted, as two times of the day.

    A text entity knows no "unknown" and fails over a state that its pattern does not match, so the word is allowed.
    """
    value = f"value_json.get({_literal(item.key)})"
    if site.time_entities:
        for half, at in HALVES:
            yield {
                "p": "time", **shown, "key": f"{item.key}_{half}", "name": f"{item.name} {half}",
                "cmd_t": f"{shown['cmd_t']}/{half}",
                "val_tpl": f"{{% set v = {value} %}}{{{{ v[{at}:{at + 5}] ~ ':00' if v else none }}}}",
            }  # fmt: skip
        return
    pattern = f"^(?:unknown|{WINDOW_PATTERN.strip('^$')})$"
    yield {
        "p": "text", **shown, "val_tpl": f"{{{{ {value} or 'unknown' }}}}", "min": 7, "max": 11, "ptrn": pattern,
    }  # fmt: skip


def last_command(place: str) -> Component:
    """Return the sensor that tells what became of the last command: its state, and the whole result beside it."""
    return {
        "p": "sensor", "name": "Last command", "dev_cla": "enum", "ops": list(OUTCOMES), "ent_cat": "diagnostic",
        "stat_t": f"{place}/result", "val_tpl": look_up("outcome"), "json_attr_t": f"{place}/result",
    }  # fmt: skip
