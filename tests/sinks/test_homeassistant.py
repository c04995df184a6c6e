"""Device messages against the rules of Home Assistant, for every value of every maker and every kind of setting."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from decimal import Decimal
from importlib import import_module
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import summary
from bridge.devices import SLICES
from bridge.energy import METERS
from bridge.fields import CURRENT, ENUM, FLAG, PERCENT, PLAIN, PROBLEM, SOC, TEXT, TIMESTAMP, VOLTAGE, Field, Level
from bridge.settings import Choice, Clock, Number, Press, Risk, Setting, Switch, Window, scaled, whole
from bridge.sinks import homeassistant as ha
from bridge.sinks.controls import entities
from bridge.voltronic.settings import every_setter, only, steps
from tests.sinks.ha_rules import complaints, expanded

SITE = ha.Site("solarbridge", "0.1.0")
KEY = re.compile(r"value_json\.get\('([a-z0-9_]+)'\)")


def documented() -> dict[str, tuple[Field, ...]]:
    """Return every table of every maker, each key once."""
    tables = {"a bank": summary.FIELDS}
    for device_type, module in SLICES.items():
        for title, fields in import_module(module).documented_fields().items():
            tables[f"{device_type}: {title}"] = fields
    return {title: tuple({item.key: item for item in fields}.values()) for title, fields in tables.items()}


def described(**changes: Any) -> ha.Described:
    return replace(
        ha.Described("luxpower_123", "house", "house", SITE.id, (), serial="123", manufacturer="LuxPower", model="X",
                     firmware="1.10"),
        **changes,
    )  # fmt: skip


def message(device: ha.Described, site: ha.Site = SITE) -> bytes:
    return ha.message(site, device, ha.components_of(site, device))


def found(device: ha.Described, site: ha.Site = SITE, *, newest: bool = False) -> list[str]:
    return complaints(site.config_topic(device.identity), message(device, site), newest=newest)


def components(device: ha.Described, site: ha.Site = SITE) -> dict[str, dict[str, Any]]:
    components: dict[str, dict[str, Any]] = expanded(message(device, site))["components"]
    return components


@pytest.mark.parametrize("title", documented())
def test_every_documented_value_makes_an_entity_by_the_rules(title: str) -> None:
    fields = documented()[title]
    device = described(fields=fields)
    assert found(device) == []
    assert len(components(device)) == len(fields) + 1  # and the button


@pytest.mark.parametrize("title", documented())
def test_values_of_a_settings_topic_are_diagnostic(title: str) -> None:
    device = described(settings=documented()[title])
    assert found(device) == []
    made = [one for one in components(device).values() if one["platform"] != "button"]
    assert {one["entity_category"] for one in made} == {"diagnostic"}
    assert {one["state_topic"] for one in made} == {"solarbridge/house/settings"}


@pytest.mark.parametrize("title", documented())
def test_every_entity_looks_up_one_key_that_its_topic_carries(title: str) -> None:
    fields = documented()[title]
    half = len(fields) // 2
    energy = METERS[0].fields
    device = described(fields=fields[:half], settings=fields[half:], energy=energy)
    carried = {
        "solarbridge/house/state": {item.key for item in fields[:half]},
        "solarbridge/house/settings": {item.key for item in fields[half:]},
        "solarbridge/house/energy": {item.key for item in energy},
    }
    payload = expanded(message(device))
    for name, component in payload["components"].items():
        if component["platform"] != "button":
            [key] = KEY.findall(component["value_template"])
            topic = component.get("state_topic", payload["state_topic"])
            assert key in carried[topic], name


def test_the_bridge_itself_is_a_device_by_the_rules() -> None:
    device = ha.bridge(SITE)
    payload = ha.message(SITE, device, ha.bridge_components(SITE).items())
    assert complaints(SITE.config_topic(device.identity), payload) == []
    told = expanded(payload)
    assert "via_device" not in told["device"]
    assert "availability" not in told["components"]["binary_sensor_connection"]  # it says itself that it is away
    assert told["components"]["button_republish"]["command_topic"] == "solarbridge/discovery"


def test_a_unit_is_available_when_the_bridge_and_the_unit_are() -> None:
    told = expanded(message(described(topic="stack/P1", parent="pylontech_stack")))
    assert told["availability"] == [{"t": "solarbridge/status"}, {"t": "solarbridge/stack/P1/availability"}]
    assert told["device"]["via_device"] == "pylontech_stack"
    assert told["device"]["sw_version"] == "1.10"


def test_more_main_values_than_fit_are_diagnostic_but_the_telling_ones_stay() -> None:
    fields = documented()["lxp: the inverter"]
    made = components(described(fields=fields, energy=METERS[0].fields))
    plain = [name for name, one in made.items() if "entity_category" not in one]
    assert len(plain) == 20
    telling = {"soc", "status", "p_pv", "p_battery", "p_grid", "p_house", "e_to_user_all", "e_to_grid_all", "e_pv_all"}
    assert {f"sensor_{key}" for key in telling} <= set(plain)
    assert components(described(fields=fields, energy=METERS[0].fields)) == made


@pytest.mark.parametrize("title", [one for one in documented() if one.startswith("pylontech") and "module" in one])
def test_the_bits_of_an_alarm_word_are_diagnostic(title: str) -> None:
    made = components(described(fields=documented()[title]))
    alarms = [one for one in made.values() if one.get("device_class") == "problem"]
    assert len(alarms) > 2
    assert {one.get("entity_category") for one in alarms} == {"diagnostic"}


def test_what_sums_up_the_alarms_is_not_one_of_their_bits() -> None:
    stack, more = (documented()[f"pylontech: stack on RS485{with_more}"] for with_more in ("", ", with inverter_set"))
    made = components(described(fields=(*stack, *more)))
    assert "entity_category" not in made["binary_sensor_alarm"]
    assert made["binary_sensor_high_voltage_warning"]["entity_category"] == "diagnostic"


def test_an_alarm_or_two_stand_on_the_first_card() -> None:
    fields = tuple(Field(key, PROBLEM, key) for key in ("Fault", "Warning"))
    assert [one.get("entity_category") for one in components(described(fields=fields)).values()][:2] == [None, None]


def test_what_is_hidden_is_there_but_disabled() -> None:
    cell = Field("cell_1_voltage", VOLTAGE, "Cell 1 voltage", level=Level.HIDDEN)
    made = components(described(fields=(cell,)))["sensor_cell_1_voltage"]
    assert made["enabled_by_default"] is False
    assert made["entity_category"] == "diagnostic"


@pytest.mark.parametrize(("title", "key"), [("module", "module_time"), ("stack", "clock")])
def test_a_battery_s_clock_makes_no_history_before_somebody_wants_it(title: str, key: str) -> None:
    """Each of its seconds is a new state, for each module."""
    made = components(described(fields=documented()[f"pylontech: {title} on the console"]))[f"sensor_{key}"]
    assert (made["entity_category"], made["enabled_by_default"]) == ("diagnostic", False)


def test_a_flag_reads_the_words_that_json_becomes() -> None:
    made = components(described(fields=(Field("on", FLAG, "On"),)))["binary_sensor_on"]
    assert (made["payload_on"], made["payload_off"]) == ("True", "False")


def test_a_text_is_cut_where_home_assistant_would_complain() -> None:
    made = components(described(fields=(Field("why", TEXT, "Why"), Field("code", PLAIN, "Code"))))
    assert made["sensor_why"]["value_template"] == "{{ (value_json.get('why')|string)[:255] }}"
    assert made["sensor_code"]["value_template"] == "{{ value_json.get('code') }}"


def test_a_time_has_a_class_and_no_unit() -> None:
    device = described(fields=(Field("seen", TIMESTAMP, "Seen"),))
    assert found(device) == []
    assert components(device)["sensor_seen"]["device_class"] == "timestamp"


def test_entities_of_one_name_are_told_apart() -> None:
    fields = (Field("a", SOC, "Charge"), Field("b", SOC, "charge"))
    device = described(fields=fields)
    assert found(device) == []
    assert components(device)["sensor_b"]["name"] == "charge (b)"


def test_a_key_that_comes_twice_makes_one_entity() -> None:
    fields = (Field("soc", SOC, "State of charge"), Field("soc", SOC, "Again"))
    assert message(described(fields=fields)).count(b'"sensor_soc":') == 1


# -- controls

BATTERY_TYPES = Field("battery_type", ENUM, "Battery type", options=("agm", "user", "other"))


def setting(key: str, spelling: Any, quantity: Any = PLAIN, **more: Any) -> Setting:
    return Setting(key, quantity, key.replace("_", " ").capitalize(), spelling=spelling, risk=Risk.CAUTION, **more)


SETTINGS = (
    setting("limit", whole(10, 90), PERCENT),
    setting("soc_limit", whole(10, 90), SOC),
    setting("volts", scaled(480, 584, 10), VOLTAGE),
    setting("amperes", Number(Decimal(2), Decimal(60), among=(Decimal(2), Decimal(10), Decimal(60))), CURRENT),
    setting("steps", Number(Decimal(0), Decimal(1), Decimal("0.5"), (Decimal(0), Decimal("0.5"))), VOLTAGE),
    setting("back", steps("48", "58", "1", "0"), VOLTAGE),
    setting("back_finer", steps("24", "29", "0.5", "0"), VOLTAGE),
    setting("back_listed", only("12 12.3 14.5", "0"), VOLTAGE),
    setting("many", steps("1", "9000", "1", "0"), VOLTAGE),
    setting("charge", Switch(), FLAG),
    setting("battery_type", Choice(("agm", "user")), ENUM),
    setting("window", Window(), TEXT, level=Level.HIDDEN),
    setting("clock", Clock(), TEXT),
    setting("reset", Press(), PLAIN),
)


def controlled(**changes: Any) -> ha.Described:
    settings = tuple(Field(one.key, one.quantity, one.name) for one in SETTINGS if one.key != "battery_type")
    return described(**{"fields": (BATTERY_TYPES,), "settings": settings, "controls": SETTINGS, **changes})


def test_every_kind_of_setting_makes_a_control_by_the_rules() -> None:
    device = controlled()
    assert found(device) == []
    assert set(components(device)) == {
        "number_limit", "number_soc_limit", "number_volts", "select_amperes", "select_steps", "switch_charge",
        "select_back", "select_back_finer", "select_back_listed", "number_many",
        "select_battery_type", "text_window", "button_clock", "button_reset", "sensor_last_command", "button_refresh",
    }  # fmt: skip


def test_a_control_sends_our_spelling_and_shows_what_was_read_back() -> None:
    made = components(controlled())
    assert made["number_volts"]["command_topic"] == "solarbridge/house/set/volts"
    assert made["number_volts"]["state_topic"] == "solarbridge/house/settings"
    assert [made["number_volts"][key] for key in ("min", "max", "step")] == [48, 58.4, 0.1]
    assert "48 <= v <= 58.4" in made["number_volts"]["value_template"]
    assert (made["switch_charge"]["payload_on"], made["switch_charge"]["payload_off"]) == ("on", "off")
    assert (made["switch_charge"]["state_on"], made["switch_charge"]["state_off"]) == ("True", "False")
    assert made["select_battery_type"]["options"] == ["agm", "user", "other"]
    assert made["select_battery_type"]["state_topic"] == "solarbridge/house/state"
    assert made["button_reset"]["payload_press"] == "press"
    assert made["button_clock"]["payload_press"] == "now"
    assert made["text_window"]["enabled_by_default"] is False
    assert "device_class" not in made["number_soc_limit"]  # a limit is no battery
    assert not any("retain" in one or "optimistic" in one for one in made.values())


@pytest.mark.parametrize("key", ["amperes", "steps", "back", "back_finer", "back_listed"])
def test_what_a_choice_of_numbers_sends_is_taken_and_shown_by_its_template(key: str) -> None:
    spelling = next(one.spelling for one in SETTINGS if one.key == key)
    made = components(controlled())[f"select_{key}"]
    shown = re.fullmatch(
        r"\{% set v = value_json\.get\('(\w+)'\) %\}\{\{ v\|(int|float) if v in (\[.*\]) else none \}\}",
        made["value_template"],
    )
    assert shown is not None
    assert shown[1] == key
    rendered = [str((int if shown[2] == "int" else float)(value)) for value in json.loads(shown[3])]
    assert rendered == made["options"]
    assert [spelling.read(text) for text in made["options"]] == json.loads(shown[3])


def test_what_stands_outside_of_a_number_s_bounds_can_be_chosen() -> None:
    made = components(controlled())
    assert made["select_back"]["options"] == ["0", *map(str, range(48, 59))]
    assert made["select_back_finer"]["options"][:3] == ["0.0", "24.0", "24.5"]
    assert made["select_back_finer"]["options"][-1] == "29.0"
    assert made["select_back_listed"]["options"] == ["0.0", "12.0", "12.3", "14.5"]


def test_every_setting_of_an_axpert_can_be_set_to_all_it_allows() -> None:
    for rows in every_setter().values():
        for row in rows:
            for bounds in ({}, {row.key: (0.0, 500.0)}):
                for volts in row.by_volts or ():
                    spelling = row.bounded(volts, bounds).spelling
                    assert isinstance(spelling, Number)
                    [component] = entities(SITE, replace(row, spelling=spelling), "b/roof", "b/roof/state", ())
                    assert (component["p"] == "select") == bool(spelling.also or spelling.among), (row.key, volts)


def test_a_window_takes_what_the_bridge_takes_and_the_word_for_not_known() -> None:
    made = components(controlled())["text_window"]
    pattern = re.compile(made["pattern"])
    assert pattern.fullmatch("23:30-05:00")
    assert pattern.fullmatch("unknown")
    for wrong in ("24:00-05:00", "5:00-06:00", "05:00", "", "unknown-05:00"):
        assert not pattern.fullmatch(wrong)


def test_two_times_of_the_day_only_where_they_are_asked_for() -> None:
    site = replace(SITE, time_entities=True)
    device = controlled()
    assert found(device, site, newest=True) == []
    assert any("platform time" in text for text in found(device, site))  # the floor would refuse it
    made = components(device, site)
    assert made["time_window_start"]["command_topic"] == "solarbridge/house/set/window/start"
    assert made["time_window_end"]["name"] == "Window end"


def test_without_controls_the_same_values_are_diagnostic_sensors() -> None:
    made = components(controlled(controls=()))
    assert made["sensor_volts"]["entity_category"] == "diagnostic"
    assert not any(name.startswith(("number", "switch", "select", "text")) for name in made)
    assert "sensor_last_command" not in made


def test_a_row_that_is_no_setting_is_no_control() -> None:
    with pytest.raises(TypeError, match="settings table"):
        components(described(controls=(BATTERY_TYPES,)))


# -- what devices and people call themselves


@given(name=st.text(), serial=st.text(min_size=1), model=st.text(max_size=300), path=st.text(max_size=80))
def test_no_text_of_a_device_breaks_a_message(name: str, serial: str, model: str, path: str) -> None:
    for identity in (ha.identity_by_serial(model, serial), ha.identity_by_name(SITE, name, path)):
        device = described(
            identity=identity, name=name, serial=serial, model=model, firmware=model, manufacturer=model,
            fields=(Field("soc", SOC, "State of charge"),),
        )  # fmt: skip
        assert found(device) == []


@given(st.text(), st.text())
def test_different_texts_have_different_identities(one: str, other: str) -> None:
    assert (ha.safe_id(one) == ha.safe_id(other)) == (one == other)
    assert re.fullmatch("[A-Za-z0-9_-]{1,60}", ha.safe_id(one))


@pytest.mark.parametrize("text", ["+/#", "a\nb", "\x1b[31mred", "x" * 500, "", " ", "\u202e", "P1;DROP"])
def test_hostile_serial_numbers_are_shown_harmlessly(text: str) -> None:
    device = described(identity=ha.identity_by_serial("Pylontech", text), serial=text, model=text, name=text)
    assert found(device) == []


def test_the_rules_catch_what_home_assistant_refuses() -> None:
    device = described(fields=(Field("soc", SOC, "State of charge"), BATTERY_TYPES))
    good = json.loads(message(device))
    topic = SITE.config_topic(device.identity)

    def with_change(change: Any) -> list[str]:
        bad = json.loads(json.dumps(good))
        change(bad)
        return complaints(topic, json.dumps(bad).encode())

    soc = "sensor_soc"
    assert with_change(lambda _: None) == []
    assert with_change(lambda bad: bad.update(cdevs={}))
    assert with_change(lambda bad: bad.pop("o"))
    assert with_change(lambda bad: bad["dev"].update(colour="red"))
    assert with_change(lambda bad: bad["cmps"][soc].update(unit_of_meas="kWh"))
    assert with_change(lambda bad: bad["cmps"][soc].update(stat_t=None))
    assert with_change(lambda bad: bad["cmps"][soc].pop("uniq_id"))
    assert with_change(lambda bad: bad["cmps"][soc].update(p="time"))
    assert with_change(lambda bad: bad["cmps"][soc].update(ent_cat="config"))
    assert with_change(lambda bad: bad["cmps"]["sensor_battery_type"].update(ops=[]))
    assert with_change(lambda bad: bad.update(avty_mode="latest"))
