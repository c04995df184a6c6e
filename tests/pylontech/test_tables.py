"""The tables themselves: keys once, meanings once."""

from __future__ import annotations

import re
from collections import defaultdict

import pytest

from bridge.fields import Field
from bridge.pylontech import console, console_cells, messages, stack, system_messages
from bridge.pylontech import values as v
from tests.pylontech.build import capture

SETS = {
    "RS485 module": messages.module_fields(16, 6),
    "console module": console_cells.module_fields(16),
    "console health": console_cells.health_fields(16),
    "stack": stack.FIELDS,
    "parameters": messages.PARAMETER_ROWS.fields,
    "pwrsys": console.PWRSYS_FIELDS,
    "system analog": system_messages.SYSTEM_ANALOG_ROWS.fields,
}


@pytest.mark.parametrize("name", SETS)
def test_keys_are_unique_and_plain(name: str) -> None:
    keys = [field.key for field in SETS[name]]
    assert len(keys) == len(set(keys))
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", key) for key in keys)


def test_a_key_means_the_same_whatever_brings_it() -> None:
    meanings: dict[str, set[Field]] = defaultdict(set)
    for fields in SETS.values():
        for field in fields:
            meanings[field.key].add(field)
    assert {key: found for key, found in meanings.items() if len(found) > 1} == {}


def test_no_two_rows_claim_the_same_bit() -> None:
    whole = (system_messages.SYSTEM_ALARM_BITS, system_messages.SYSTEM_ALLOWANCES)
    for bits in (messages.BITS, messages.ALLOWANCES, *whole):
        places = [(bit.byte, bit.bit) for bit in bits]
        assert len(places) == len(set(places))
    masks = [event.mask for event in console.EVENTS]
    assert sum(masks) == sum(1 << n for n in range(32) if any(mask >> n & 1 for mask in masks))


@pytest.mark.parametrize(
    ("payload", "size"),
    [(messages.MANAGEMENT_ROWS, 8), (messages.PARAMETER_ROWS, 24), (messages.IDENTITY_ROWS, 32),
     (messages.SERIAL_ROWS, 16), (messages.FIRMWARE_ROWS, 5), (system_messages.SYSTEM_ANALOG_ROWS, 49),
     (system_messages.SYSTEM_MANAGEMENT_ROWS, 8)],
    ids=lambda value: value.name if isinstance(value, messages.Payload) else str(value),
)  # fmt: skip
def test_a_payload_has_its_documented_size(payload: messages.Payload, size: int) -> None:
    assert payload.size == size


def test_what_a_module_reports_over_rs485_is_announced() -> None:
    announced = {field.key for field in messages.module_fields(15, 5)}
    info = bytes.fromhex("0002" + capture("analog-15-cells")[1][17:-5].decode())
    reported = set(messages.analog(info, 2))
    reported |= set(messages.alarm(bytes.fromhex(capture("alarm-quiet")[1][13:-5].decode()), 2))
    reported |= set(messages.management(bytes.fromhex(capture("management")[1][13:-5].decode()), 2))
    assert reported <= announced
    assert announced - reported == {"serial", "manufacturer_version", "mainline_version"}


def test_what_a_module_reports_over_the_console_is_announced() -> None:
    from tests.pylontech.test_console import body

    announced = {field.key for field in console_cells.module_fields(15)}
    found = console.modules(body("console-pwr-new")).present[1]
    reported = {*found, *console.module(body("console-pwr-1"), 1), *console_cells.cells(body("console-bat-1"))}
    reported |= {*console.statistics(body("console-stat-3"), 3), *console.identity(body("console-info-2"), 2)}
    reported |= set(console_cells.local(body("console-getpwr")))
    assert reported <= announced | {"remaining_capacity"}


def test_the_same_value_has_the_same_key_on_both_links() -> None:
    shared = {field.key for field in messages.module_fields(15, 5)} & {f.key for f in console_cells.module_fields(15)}
    assert shared >= {
        "voltage", "current", "power", "soc", "total_capacity", "cycles", "temperature", "cell_1_voltage",
        "cell_15_voltage", "cell_min_voltage", "cell_max_voltage", "cell_spread", "cell_min_temperature",
        "fully_charged", "module_over_voltage", "charge_over_current", "voltage_state", "serial",
    }  # fmt: skip


def test_a_blank_state_is_null_throughout() -> None:
    state = v.blank(messages.module_fields(15, 5))
    assert set(state.values()) == {None}
