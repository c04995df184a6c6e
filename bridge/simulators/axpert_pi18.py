"""What a simulated PI18 unit answers; the frame around it is built here too, since it counts its bytes.

unconfirmed: the length that FWS is asked with; the paper prints 005, its own rule gives 006. Both are taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from bridge.simulators.axpert_frames import PI18_GS, PI18_PIRI, Out, Table, fill
from bridge.simulators.axpert_pi30 import Answer, Asked
from bridge.simulators.axpert_plant import Setting, warning_bits

MODES = {"P": "00", "S": "01", "B": "03", "F": "04", "L": "05"}
SCALES = {"_0v1": 10, "_0hz1": 10, "_0a1": 10}
"""Ending of a field's name -> what its value is multiplied by on the wire."""
FAULT_BITS = {5: 0, 2: 1, 9: 2, 10: 3, 11: 4, 12: 5, 14: 6, 16: 7, 17: 8, 25: 9}
"""QPIWS bit -> place in FWS behind the fault code."""


def scaled(table: Table, state: dict[str, Setting]) -> dict[str, Setting]:
    """Return the state with the whole numbers that stand for tenths."""
    return {out.name: _scaled(out, state) for out in table}


def _scaled(out: Out, state: dict[str, Setting]) -> Setting:
    for ending, factor in SCALES.items():
        if out.name.endswith(ending):
            return round(float(state[out.name.removesuffix(ending)]) * factor)
    return state[out.name]


def general_status(asked: Asked) -> Answer:
    """GS."""
    state = asked.state()
    charging, discharging = float(state["battery_charging_current"]), float(state["battery_discharge_current"])
    state |= {
        "battery_voltage_scc1": 0,
        "battery_voltage_scc2": 0,
        "mppt1_temperature": 30,
        "mppt2_temperature": 30,
        "settings_changed": int(asked.unit.changed),
        "mppt1_status": 2 if float(state["pv1_power"]) else 1,
        "mppt2_status": 2 if float(state["pv2_power"]) else 1,
        "load_connected": int(float(state["ac_output_voltage"]) > 0),
        "battery_direction": 1 if charging else 2 if discharging else 0,
        "dc_ac_direction": 2 if state["mode"] == "B" else 1,
        "line_direction": 1 if state["mode"] == "L" else 0,
        "parallel_id": asked.cable,
    }
    asked.unit.changed = False
    return fill(PI18_GS, scaled(PI18_GS, state), ",")


def ratings(asked: Asked) -> Answer:
    """PIRI."""
    state = asked.state() | {"machine_type": 0, "mppt_strings": 1, "unknown": "00"}
    return fill(PI18_PIRI, scaled(PI18_PIRI, state), ",")


def warnings(asked: Asked) -> Answer:
    """FWS: fault code and sixteen flags."""
    on = {FAULT_BITS[bit] for bit in warning_bits(asked.plant) if bit in FAULT_BITS}
    said = ",".join([f"{asked.plant.fault_code:02d}", *("1" if place in on else "0" for place in range(16))])
    return said, {"text": said}


def flags(asked: Asked) -> Answer:
    """FLAG: eight switches and one reserved."""
    said = ",".join([*("1" if on else "0" for on in asked.unit.flags.values()), "0"])
    return said, {"text": said}


def amps(values: Callable[[Asked], tuple[int, ...]]) -> Callable[[Asked], Answer]:
    """MCHGCR and MUCHGCR."""

    def answer(asked: Asked) -> Answer:
        said = ",".join(f"{value:03d}" for value in values(asked))
        return said, {"amps": said}

    return answer


def energy(asked: Asked) -> Answer:
    """ET, EY, EM, ED: Wh in all four (unconfirmed: one paper says kWh for the first three)."""
    asked.plant.advance()
    wh = asked.plant.energy("pv", asked.digits)
    return f"{wh:08d}", {"pv_energy": wh}


def text(make: Callable[[Asked], str]) -> Callable[[Asked], Answer]:
    """An answer that is one text."""

    def answer(asked: Asked) -> Answer:
        said = make(asked)
        return said, {"text": said}

    return answer


# fmt: off
QUERIES: dict[str, tuple[int, Callable[[Asked], Answer]]] = {
    "PI":      (0, text(lambda _: "18")),
    "ID":      (0, text(lambda asked: f"{len(asked.unit.serial):02d}{asked.unit.serial:0<20}")),
    "VFW":     (0, text(lambda asked: f"{asked.model.firmware},00000,00000")),
    "GS":      (0, general_status),
    "PIRI":    (0, ratings),
    "MOD":     (0, text(lambda asked: MODES.get(str(asked.state()["mode"]), "00"))),
    "FWS":     (0, warnings),
    "FLAG":    (0, flags),
    "ET":      (0, energy),
    "EY":      (4, energy),
    "EM":      (6, energy),
    "ED":      (8, energy),
    "T":       (0, text(lambda asked: asked.plant.date().strftime("%Y%m%d%H%M%S"))),
    "MCHGCR":  (0, amps(lambda asked: asked.model.currents)),
    "MUCHGCR": (0, amps(lambda asked: asked.model.ac_currents)),
}
# fmt: on


def command(body: str) -> tuple[str, str] | None:
    """Return ("P" or "S", the text behind the length) of a command without CRC and CR; None when it is malformed."""
    match = re.fullmatch(r"\^([PS])(\d{3})(.+)", body)
    if match is None:
        return None
    kind, length, said = match.group(1), int(match.group(2)), match.group(3)
    if length != len(said) + 3 and not (said == "FWS" and length == 5):
        return None
    return kind, said


def find(said: str) -> tuple[str, str] | None:
    """Return the query's name and the digits behind it, or None for an unknown one."""
    name = said.rstrip("0123456789")
    if name not in QUERIES or len(said) - len(name) != QUERIES[name][0]:
        return None
    return name, said[len(name) :]


def data_body(said: str) -> bytes:
    """Return an answer's text with type and length in front: CRC and CR count."""
    return f"^D{len(said) + 3:03d}{said}".encode()
