"""The console: whole answers or none."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import ProtocolError
from bridge.pylontech import console, console_cells, console_connection, console_frame, console_text
from bridge.pylontech.values import Values
from tests.pylontech.build import capture
from tests.pylontech.build import console as answer_text

TEXTS = ("console-pwr-old", "console-pwr-new", "console-pwr-1", "console-bat-1", "console-info-2", "console-pwrsys")


def lines_of(raw: bytes, asked: str) -> tuple[str, ...]:
    decoder = console_frame.Decoder()
    decoder.receive(raw)
    answer = decoder.next_answer()
    assert answer is not None
    return answer.body(asked.encode() + b"\n")


def body(name: str) -> list[str]:
    sent, received, _ = capture(name)
    return list(lines_of(received, sent.decode().strip()))


def test_the_wake_up_frame_is_the_known_one() -> None:
    assert console_frame.WAKE_UP == b"~20014682C0048520FCC3\r"


def test_only_reading_commands_can_be_typed() -> None:
    assert console_frame.command("pwr") == b"pwr\n"
    assert console_frame.command("bat", 16) == b"bat 16\n"
    for name, module in (("shut", None), ("time", 1), ("pwrsys", 1), ("bat", 0), ("bat", 17), ("pwr; shut", None)):
        with pytest.raises(ValueError, match="not a command"):
            console_frame.command(name, module)


@pytest.mark.parametrize("name", TEXTS)
def test_an_answer_is_found_byte_by_byte_and_only_when_whole(name: str) -> None:
    _, received, _ = capture(name)
    decoder = console_frame.Decoder()
    for place, byte in enumerate(received):
        assert decoder.next_answer() is None, place
        decoder.receive(bytes([byte]))
    assert decoder.next_answer() is not None
    assert decoder.next_answer() is None


@given(st.data())
def test_answers_come_out_the_same_however_they_are_cut(data: st.DataObject) -> None:
    stream = b"".join(capture(name)[1] for name in TEXTS)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    decoder, echoes = console_frame.Decoder(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        decoder.receive(stream[start:end])
        while (answer := decoder.next_answer()) is not None:
            echoes.append(answer.echo)
    assert echoes == ["pwr", "pwr", "pwr 1", "bat 1", "info 2", "pwrsys"]


@given(st.binary(max_size=200))
def test_noise_gives_errors_and_nothing_else(noise: bytes) -> None:
    decoder = console_frame.Decoder()
    decoder.receive(noise + b"\r@\r\n" + noise + b"\r$$\r\n\rpylon>")
    for _ in range(4):
        try:
            answer = decoder.next_answer()
            if answer is not None:
                answer.body(b"pwr\n")
        except ProtocolError:
            continue


def test_an_endless_stream_does_not_grow_the_buffer() -> None:
    decoder = console_frame.Decoder()
    for _ in range(100):
        decoder.receive(b"garbage > $ @ " * 1000)
        assert decoder.next_answer() is None
        assert len(decoder._buffer) <= console_frame.LARGEST + 14000


def test_an_answer_to_another_command_is_foreign() -> None:
    _, received, _ = capture("console-pwr-1")
    with pytest.raises(ProtocolError, match="foreign"):
        lines_of(received, "pwr 2")


def test_two_answers_that_ran_into_each_other_are_refused() -> None:
    _, first, _ = capture("console-pwr-1")
    _, second, _ = capture("console-bat-1")
    for end in range(10, first.index(b"$$"), 7):
        decoder = console_frame.Decoder()
        decoder.receive(first[:end] + second)
        with pytest.raises(ProtocolError, match="2 beginnings"):
            decoder.next_answer()


def test_an_answer_that_does_not_say_it_succeeded_is_refused() -> None:
    with pytest.raises(ProtocolError, match="success line"):
        lines_of(answer_text("time", "RTC 2024-02-29 12:00:00", success=False), "time")


@pytest.mark.parametrize(
    "words",
    ["Unknown command 'soh' - try 'help'", "Invalid command or fail to excute.", "Target device is Busy",
     "Target device is not present", "Device 9 is not present", "This version do not support this command!"],
)  # fmt: skip
def test_every_way_of_saying_no_is_a_refusal(words: str) -> None:
    for success in (True, False):
        with pytest.raises(console_frame.Refusal) as refusal:
            lines_of(answer_text("soh 9", words, success=success), "soh 9")
        assert refusal.value.kind == "refused"
        # busy or absent is so now, the others for good
        assert refusal.value.unsupported == (not words.startswith(("Target", "Device")))


def test_prompts_are_seen_at_the_end_only() -> None:
    decoder = console_frame.Decoder()
    for raw, prompt in ((b"\n\rpylon>", "pylon"), (b"\n\rpylon_debug>", "pylon_debug"), (b"\n\rpylon>\r\nbat", None)):
        decoder.clear()
        decoder.receive(raw)
        assert decoder.prompt() == prompt
    decoder.clear()
    assert decoder.prompt() is None


def test_an_answer_under_way_has_begun() -> None:
    decoder = console_frame.Decoder()
    for piece, begun in ((b"pwr 1\n\r", False), (b"@\r\r\n", True), (b"Voltage", True)):
        decoder.receive(piece)
        assert decoder.begun() is begun
    decoder.clear()
    assert not decoder.begun()


def test_an_old_prompt_before_the_echo_does_not_matter() -> None:
    assert lines_of(b"pylon>" + answer_text("time", "RTC 2024-02-29 12:00:00"), "time")
    assert lines_of(b">pylon_debug>" + answer_text("time", "RTC 2024-02-29 12:00:00"), "time")


def numbers(values: Values) -> Values:
    return {key: value for key, value in values.items() if isinstance(value, int | float)}


def without(raw: bytes, start: int, size: int) -> console_frame.Answer | None:
    decoder = console_frame.Decoder()
    decoder.receive(raw[:start] + raw[start + size :])
    return decoder.next_answer()


@pytest.mark.parametrize("size", [1, 2, 3, 5, 10, 24, 60])
@pytest.mark.parametrize(
    "name", ["console-pwr-1", "console-pwrsys", "console-stat-3", "console-bat-1", "console-bat-US3000D",
             "console-pwr-1-US3000D"],
)  # fmt: skip
def test_characters_lost_from_an_answer_never_give_another_number(name: str, size: int) -> None:
    sent, received, wanted = capture(name)
    read = getattr(console, wanted["read"], None) or getattr(console_cells, wanted["read"])
    asked = [wanted["position"]] if "position" in wanted else []
    whole = read(body(name), *asked)
    # Nothing pads these, or their neighbours may be missing; none of them steers anything.
    loose = {"charge_times", "bat_events", "power_events", "system_faults", "system_fault",
             "modules_total", "modules_online", "modules_sleeping",
             *(field.key for field in console.STAT_FIELDS[2:])}  # fmt: skip
    for start in range(len(received)):
        try:
            answer = without(received, start, size)
            values = {} if answer is None else read(answer.body(sent), *asked)
        except ProtocolError:
            continue
        wrong = {key: value for key, value in numbers(values).items() if value != whole[key] and key not in loose}
        assert not wrong, (start, received[start : start + size])


@pytest.mark.parametrize("size", [1, 2, 3, 5, 10, 25, 60, 200])
@pytest.mark.parametrize("name", ["console-pwr-old", "console-pwr-mos", "console-pwr-new", "console-pwr-US3000D"])
def test_characters_lost_from_a_module_table_never_give_another_number(name: str, size: int) -> None:
    sent, received, _ = capture(name)
    whole = console.modules(body(name))
    for start in range(received.index(console_text.ABSENT.encode())):
        try:
            answer = without(received, start, size)
            found = {} if answer is None else console.modules(answer.body(sent)).present
        except ProtocolError:
            continue
        for position, values in found.items():
            wrong = {k: value for k, value in numbers(values).items() if value != whole.present[position].get(k)}
            assert not wrong, (start, received[start : start + size])


@pytest.mark.parametrize("name", ["console-pwr-old", "console-pwr-mos", "console-pwr-new", "console-pwr-US3000D"])
def test_a_row_with_a_token_missing_is_left_out_and_named(name: str) -> None:
    lines = body(name)
    good = console.modules(lines)
    for place in range(1, len(lines[1].split())):
        tokens = re.sub(r"(\d\d-\d\d) (\d\d:)", r"\1T\2", lines[1]).split()
        if place < len(tokens):
            del tokens[place]
        broken = [lines[0], " ".join(tokens).replace("T", " "), *lines[2:]]
        try:
            found = console.modules(broken)
        except ProtocolError:
            continue
        assert 1 not in found.present or found.present[1] == good.present[1]


def test_a_damaged_row_costs_only_its_own_module() -> None:
    lines = body("console-pwr-old")
    lines[1] = lines[1].replace("49830", "49?30")
    found = console.modules(lines)
    assert set(found.present) == {2}
    assert [err.kind for err in found.refused] == ["format"]


def test_a_row_whose_cells_make_no_such_module_is_refused() -> None:
    lines = body("console-pwr-old")
    lines[1] = lines[1].replace("49830", "41830")
    assert [err.kind for err in console.modules(lines).refused] == ["implausible"]


def test_a_position_that_stands_there_twice_is_refused() -> None:
    lines = body("console-pwr-old")
    assert [err.kind for err in console.modules([*lines, lines[1]]).refused] == ["format"]


def test_a_dash_is_null_and_never_zero() -> None:
    lines = body("console-pwr-mos")
    assert console.modules(lines).present[2]["mos_temperature"] is None
    lines[1] = lines[1].replace("27100 ", "-     ")
    assert console.modules(lines).present[1]["temperature"] is None


def test_an_unknown_state_is_shown_and_called_unknown() -> None:
    lines = body("console-pwr-old")
    lines[1] = lines[1].replace("Dischg", "Hiber ").replace("Normal   Normal", "COC,OV   Normal", 1)
    values = console.modules(lines).present[1]
    assert values["state"] == "unknown Hiber"
    assert values["voltage_state"] == "charge over current, over voltage"


def test_a_table_without_its_header_is_refused() -> None:
    with pytest.raises(ProtocolError, match="no table"):
        console.modules(body("console-pwr-old")[1:])
    lines = body("console-pwr-old")
    with pytest.raises(ProtocolError, match="Coulomb"):
        console.modules([lines[0].replace("Coulomb", "C0ulomb"), *lines[1:]])


def test_other_header_names_mean_the_same() -> None:
    lines = body("console-pwr-old")
    other = [line.replace("Power", "No   ").replace("Vlow   Vhigh  Base", "Vlowest Vhighest Base") for line in lines]
    other = [re.sub(r"(33\d\d)   (33\d\d)   ", r"\1    \2     ", line) for line in other]
    assert console.modules(other).present == console.modules(lines).present


@pytest.mark.parametrize("name", ["console-bat-1", "console-bat-US3000D"])
def test_cells_with_a_row_missing_doubled_or_cut_are_refused(name: str) -> None:
    lines = body(name)
    for place in range(1, len(lines) - 1):
        with pytest.raises(ProtocolError):
            console_cells.cells([*lines[:place], *lines[place + 1 :]])
        with pytest.raises(ProtocolError):
            console_cells.cells([*lines[:place], lines[place], *lines[place:]])
        with pytest.raises(ProtocolError):
            console_cells.cells([*lines[:place], " ".join(lines[place].split()[:-1]), *lines[place + 1 :]])


def test_a_charge_of_zero_beside_a_state_of_charge_is_not_known() -> None:
    lines = [line.replace("68700", "0    ") for line in body("console-bat-US3000D")]
    values = console_cells.cells(lines)
    assert (values["cell_1_capacity"], values["cell_1_soc"]) == (None, 92)


def test_two_modules_merged_into_one_answer_are_refused() -> None:
    lines = body("console-pwr-1")
    with pytest.raises(ProtocolError, match="twice"):
        console.module([*lines, *[line for line in lines if not line.startswith("Power ")]], 1)
    with pytest.raises(ProtocolError, match="foreign"):
        console.module(lines, 2)


def test_a_module_tells_both_events_or_all_words_of_a_us3000d() -> None:
    for name in ("console-pwr-1", "console-pwr-1-US3000D"):
        lines = body(name)
        kept = [line for line in lines if "Events" in line or re.match("(Bat|Pwr|Mos|Env) .* Status", line)]
        assert len(kept) == (2 if name == "console-pwr-1" else 9)
        for line in kept:
            with pytest.raises(ProtocolError, match="events"):
                console.module([other for other in lines if other != line], 1)
        with pytest.raises(ProtocolError, match="0 of 2 events and 0 of 9"):
            console.module([line for line in lines if line not in kept], 1)


@pytest.mark.parametrize("label", ["Voltage", "Current", "Temperature", "Coulomb", "Total Coulomb", "System Fault"])
def test_a_module_without_a_needed_value_is_refused(label: str) -> None:
    lines = [line for line in body("console-pwr-1") if not line.startswith(f"{label} ")]
    with pytest.raises(ProtocolError, match="missing"):
        console.module(lines, 1)


def test_a_value_without_its_unit_is_a_cut_line() -> None:
    lines = [line.replace("49830       mV", "49830") for line in body("console-pwr-1")]
    with pytest.raises(ProtocolError, match="unit"):
        console.module(lines, 1)


@pytest.mark.parametrize("event", console.EVENTS, ids=lambda event: event.field.key)
def test_each_event_bit_raises_its_value_whatever_else_is_set(event: console.Event) -> None:
    others = sum(other.mask for other in console.EVENTS if other is not event)
    for bit in (1 << n for n in range(32) if event.mask >> n & 1):
        assert console.raised_events(bit)[event.field.key] is True
        assert console.raised_events(bit | others)[event.field.key] is True
        assert sum(value is True for value in console.raised_events(bit).values()) == 1
    assert console.raised_events(others)[event.field.key] is False


def test_charging_and_idle_bits_raise_nothing() -> None:
    assert not any(console.raised_events(0x00E00000 | 0x4000 | 0x4).values())


def test_unknown_fault_bits_keep_their_number_and_states_are_no_faults() -> None:
    lines = [line.replace("System Fault    : 0x0", "System Fault    : 0x28000005") for line in body("console-pwr-1")]
    values = console.module(lines, 1)
    assert (values["system_fault"], values["system_fault_text"]) == (True, "input reversed, bits 0x4")
    quiet = [line.replace("System Fault    : 0x0", "System Fault    : 0x08000000") for line in body("console-pwr-1")]
    assert console.module(quiet, 1)["system_fault"] is False


def test_identity_and_statistics_of_another_module_are_foreign() -> None:
    with pytest.raises(ProtocolError, match="foreign"):
        console.identity(body("console-info-2"), 1)
    with pytest.raises(ProtocolError, match="foreign"):
        console.statistics(body("console-stat-3"), 1)
    assert console.identity(body("console-info-2"), None)["address"] == 2


def test_cells_are_counted_under_either_label() -> None:
    lines = [line.replace("Cell Number ", "Cell Count  ") for line in body("console-info-2")]
    assert console.identity(lines, 2)["cell_count"] == 15


def test_health_rows_without_a_state_are_read() -> None:
    rows = [f"{n:<11}3361       00000000" for n in range(16)]
    values = console_cells.health(["Power   1", "Battery  Voltage  SOHCount  SOHStatus", *rows], 1)
    assert (values["cell_16_soh_count"], values["cell_16_soh_state"]) == (0, None)


READERS = {
    "console-pwr-new": console.modules, "console-bat-1": console_cells.cells, "console-pwrsys": console.system,
    "console-getpwr": console_cells.local, "console-time": console.clock,
    "console-pwr-1": lambda lines: console.module(lines, 1), "console-info-2": lambda lines: console.identity(lines, 2),
    "console-stat-3": lambda lines: console.statistics(lines, 3),
    "console-soh-1": lambda lines: console_cells.health(lines, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
def test_any_change_of_the_text_is_read_or_refused_and_nothing_else_happens(name: str, data: st.DataObject) -> None:
    lines = body(name)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(lines) - 1))
        at = data.draw(st.integers(0, len(lines[place])))
        piece = data.draw(st.text(alphabet=" :#%-0123456789.xabzN", max_size=6))
        changed = (lines[place][:at] + piece + lines[place][at + data.draw(st.integers(0, 12)) :]).strip()
        lines[place : place + 1] = [changed] if changed else []
        if not lines:
            break
    try:
        READERS[name](lines)
    except ProtocolError:
        return


def test_the_end_of_an_answer_is_announced_before_it_can_be_missed() -> None:
    whole = answer_text("time", ["RTC 2024-02-29 12:00:00"])
    for first in range(whole.index(b"@"), len(whole)):
        decoder = console_frame.Decoder()
        decoder.receive(whole[:first])
        while not decoder.ending():
            first += console_connection.GATHERED
            assert first < len(whole), "it would sleep over the prompt"
            decoder.receive(whole[first - console_connection.GATHERED : first])


@pytest.mark.parametrize("character", ["\0", "\x1b", "\x07", "\x7f"])
def test_a_name_with_a_control_character_is_refused(character: str) -> None:
    said = ["Device address      : 1", "Manufacturer        : Pylon", f"Barcode             : PPT{character}CR"]
    with pytest.raises(ProtocolError, match="is no text"):
        console.identity(said, 1)
    assert console.identity([line.replace(character, "1") for line in said], 1)["serial"] == "PPT1CR"
