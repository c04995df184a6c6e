"""What a simulated PI30 unit answers: one function for each query, text and values by their names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bridge.simulators.axpert_frames import QBEQI, QDI, QPGS, QPIGS, QPIGS2, QPIRI, Model, fill
from bridge.simulators.axpert_plant import (
    Plant,
    Setting,
    Unit,
    default_values,
    unit_state,
    warning_bits,
)
from bridge.simulators.truth import Scalar

Answer = tuple[str, dict[str, Scalar]]
"""The text behind the ``(`` and its values."""
MOST_UNITS = 9
ABSENT_SERIAL = "0" * 14


@dataclass(slots=True)
class Asked:
    """One query as it reached the set: which unit is on the cable, the digits behind the name, the frame's number."""

    plant: Plant
    cable: int
    digits: str
    sequence: int

    @property
    def unit(self) -> Unit:
        return self.plant.units[self.cable]

    @property
    def model(self) -> Model:
        return self.unit.model

    def state(self) -> dict[str, Setting]:
        """Return everything the unit on the cable can say now."""
        return unit_state(self.plant, self.cable, self.sequence)


def general_status(asked: Asked) -> Answer:
    """QPIGS."""
    table = asked.model.table("QPIGS", QPIGS)
    answer = fill(table, asked.state(), " ")
    asked.unit.changed = False
    return answer


def zero_crc_status(asked: Asked, has_zero: Callable[[bytes], bool]) -> Answer:
    """QPIGS whose CRC holds a zero byte: two unimportant fields take what it needs."""
    spare = ("fan_on_voltage_offset_10mv", "eeprom_version")
    if asked.model.fields["QPIGS"] < 21:
        spare = ("heatsink_temperature", "battery_capacity")
    table, state = asked.model.table("QPIGS", QPIGS), asked.state()
    for number in range(10_000):
        state |= {spare[0]: number % 100, spare[1]: number // 100}
        answer = fill(table, state, " ")
        if has_zero(f"({answer[0]}".encode()):
            break
    return answer


def second_tracker(asked: Asked) -> Answer:
    """QPIGS2; this one ends with a space."""
    text, values = fill(QPIGS2, asked.state(), " ")
    return text + " ", values


def parallel_status(asked: Asked) -> Answer | None:
    """QPGSn; a unit that is not there answers with zeros, but with the totals of the set."""
    index = int(asked.digits or "0")
    count = len(asked.plant.units)
    if index >= MOST_UNITS:
        return None
    state = unit_state(asked.plant, min(index, count - 1), asked.sequence)
    table = asked.model.table("QPGS", QPGS)
    if index >= count:
        totals = {name: value for name, value in state.items() if name.startswith("total_")}
        texts = {"serial_number": ABSENT_SERIAL, "mode": "P", "fault_code": "00", "inverter_status": "0" * 8}
        state = {**{out.name: 0 for out in table}, **texts, **totals}
    return fill(table, state, " ")


def ratings(asked: Asked) -> Answer:
    """QPIRI."""
    return fill(asked.model.table("QPIRI", QPIRI), asked.state(), " ")


def defaults(asked: Asked) -> Answer:
    """QDI; its currents have the paper's digits on every model."""
    return fill(QDI[: asked.model.fields["QDI"]], default_values(asked.model), " ")


def equalization(asked: Asked) -> Answer:
    """QBEQI."""
    return fill(QBEQI, asked.state(), " ")


def warnings(asked: Asked) -> Answer:
    """QPIWS."""
    on = warning_bits(asked.plant)
    text = "".join("1" if bit in on else "0" for bit in range(asked.model.warnings))
    return text, {"warnings": text}


def flags(asked: Asked) -> Answer:
    """QFLAG."""
    enabled = "".join(letter for letter, on in asked.unit.flags.items() if on)
    disabled = "".join(letter for letter, on in asked.unit.flags.items() if not on)
    return f"E{enabled}D{disabled}", {"enabled": enabled, "disabled": disabled}


def amps(currents: Callable[[Model], tuple[int, ...]]) -> Callable[[Asked], Answer]:
    """QMCHGCR and QMUCHGCR."""

    def answer(asked: Asked) -> Answer:
        text = " ".join(f"{current:03d}" for current in currents(asked.model))
        return text, {"amps": text}

    return answer


def energy(kind: str) -> Callable[[Asked], Answer]:
    """QET, QLT and kin: Wh of the whole life, or of the year, month or day whose digits are asked for."""

    def answer(asked: Asked) -> Answer:
        asked.plant.advance()
        wh = asked.plant.energy(kind, asked.digits)
        return f"{wh:08d}", {f"{kind}_energy": wh}

    return answer


def text(make: Callable[[Asked], str]) -> Callable[[Asked], Answer]:
    """An answer that is one text."""

    def answer(asked: Asked) -> Answer:
        said = make(asked)
        return said, {"text": said}

    return answer


def mode(asked: Asked) -> str:
    """QMOD."""
    return str(asked.state()["mode"])


def hours(key: str) -> Callable[[Asked], str]:
    """QOPPT and QCHPT: the same priority for each hour, the current one, then the order of choice."""
    return lambda asked: " ".join([str(asked.unit.settings[key])] * 25 + ["0", "2", "1"])


# fmt: off
QUERIES: dict[str, tuple[int, Callable[[Asked], Answer | None]]] = {
    # name: (how many digits follow it, what answers it)
    "QPI":      (0, text(lambda _: "PI30")),
    "QID":      (0, text(lambda asked: asked.unit.serial)),
    "QSID":     (0, text(lambda asked: f"{len(asked.unit.serial):02d}{asked.unit.serial:0<20}")),
    "QVFW":     (0, text(lambda asked: f"VERFW:{asked.model.firmware}")),
    "QVFW2":    (0, text(lambda _: "VERFW2:00000.00")),
    "QMN":      (0, text(lambda asked: asked.model.model_name)),
    "QGMN":     (0, text(lambda asked: asked.model.machine)),
    "QPIGS":    (0, general_status),
    "QPIGS2":   (0, second_tracker),
    "QPGS":     (1, parallel_status),
    "QPIRI":    (0, ratings),
    "QMOD":     (0, text(mode)),
    "QPIWS":    (0, warnings),
    "QFLAG":    (0, flags),
    "QDI":      (0, defaults),
    "QMCHGCR":  (0, amps(lambda model: model.currents)),
    "QMUCHGCR": (0, amps(lambda model: model.ac_currents)),
    "QOPM":     (0, text(lambda asked: f"{asked.state()['output_mode']:02d}")),
    "QBOOT":    (0, text(lambda _: "0")),
    "QBEQI":    (0, equalization),
    "QOPPT":    (0, text(hours("output_source_priority"))),
    "QCHPT":    (0, text(hours("charger_source_priority"))),
    "QLED":     (0, text(lambda _: "1 1 2 5 1 000255000")),
    "QT":       (0, text(lambda asked: asked.plant.date().strftime("%Y%m%d%H%M%S"))),
    "QET":      (0, energy("pv")),
    "QEY":      (4, energy("pv")),
    "QEM":      (6, energy("pv")),
    "QED":      (8, energy("pv")),
    "QLT":      (0, energy("load")),
    "QLY":      (4, energy("load")),
    "QLM":      (6, energy("load")),
    "QLD":      (8, energy("load")),
}
# fmt: on


def find(command: str, model: Model) -> tuple[str, str] | None:
    """Return the query's name and the digits behind it, or None when this model does not know it."""
    name = command if command in QUERIES else command.rstrip("0123456789")
    digits = command[len(name) :]
    if name not in model.queries or name not in QUERIES or len(digits) != QUERIES[name][0]:
        return None
    return name, digits
