"""What lxp-bridge's MQTT scheme consists of, for the slice that fills it and the sink that carries it (pure).

Its values have no list here: their keys are those of our register rows, see luxpower/lxp_bridge.py.
Source: celsworth/lxp-bridge src/mqtt.rs, src/home_assistant.rs, src/lxp/packet.rs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from bridge.config import topic
from bridge.fields import Value
from bridge.options import option

LXP_BRIDGE = "lxp-bridge"
"""The word under `compat` in the configuration."""


# fmt: off
@dataclass(frozen=True, kw_only=True)
class LxpBridge:
    """`lxp_bridge` of a device with `compat: lxp-bridge`: the keys that lxp-bridge has under `mqtt`."""

    namespace: str = option("lxp", check=topic, doc="first level of its topics")
    discovery: bool = option(True, doc="whether its Home Assistant entities are announced")
    prefix: str = option("homeassistant", check=topic, doc="discovery prefix of Home Assistant")
    individual_input: bool = option(False, doc="whether each input register is published by number, too")
# fmt: on


SWITCHES = ("ac_charge", "charge_priority", "forced_discharge")
"""What it switches on and off; our settings have the same names."""

WINDOWS = ("ac_charge", "ac_first", "charge_priority", "forced_discharge")
"""Families of three time windows each; {family}/{n} is our setting {family}_window_{n}."""


class Number(NamedTuple):
    """A percentage that its Home Assistant entities set, by its own name, with the register and our setting."""

    name: str
    register: int
    setting: str


NUMBERS = (
    Number("ChargePowerPercentCmd", 64, "charge_rate_pct"),
    Number("DischgPowerPercentCmd", 65, "discharge_rate_pct"),
    Number("AcChargePowerCmd", 66, "ac_charge_rate"),
    Number("AcChargeSocLimit", 67, "ac_charge_soc_limit_pct"),
    Number("ChargePriorityPowerCmd", 74, "charge_priority_rate"),
    Number("ChargePrioritySocLimit", 75, "charge_priority_soc_limit_pct"),
    Number("ForcedDischgSocLimit", 83, "forced_discharge_soc_limit_pct"),
    Number("DischgCutOffSocEod", 105, "discharge_cutoff_soc_limit_pct"),
    Number("EpsDischgCutoffSocEod", 125, "eps_discharge_cutoff_soc_limit_pct"),
    Number("AcChargeStartSocLimit", 160, "ac_charge_start_soc_pct"),
    Number("AcChargeEndSocLimit", 161, "ac_charge_end_soc_pct"),
)

PERCENT_COMMANDS = {
    "charge_rate_pct": 64,
    "discharge_rate_pct": 65,
    "ac_charge_rate_pct": 66,
    "ac_charge_soc_limit_pct": 67,
    "discharge_cutoff_soc_limit_pct": 105,
}
"""Its set commands with a name of their own -> the register."""

NO_SENSOR = frozenset({
    "soh", "internal_fault", "v_ac_s", "v_ac_t", "pf", "v_eps_s", "v_eps_t", "v_bus_1", "v_bus_2", "charge_volt_ref",
    "dischg_cut_volt", *(f"bat_status_{number}" for number in range(10)), "bat_status_inv", "bat_count",
    "bat_capacity", "bat_current", "bms_event_1", "bms_event_2", "bms_fw_update_state", "cycle_count", "vbat_inv",
})  # fmt: skip
"""Keys of its JSON that never were entities of Home Assistant."""

PARSED = {"status": "input/0", "fault_code": "input/fault_code", "warning_code": "input/warning_code"}
"""Keys whose entities show a text -> the topic that has it, under {topic}/parsed."""

BARE = ""
"""The one key of a reading that is published as it is, not as JSON."""


def is_retained(path: str) -> bool:
    """Whether a topic below {namespace}/{datalog}/ is retained: settings are, measurements are not."""
    return not path.startswith("input")


def bare(value: Value) -> Mapping[str, Value]:
    """Return the values of a reading that is one value, published as it is."""
    return {BARE: value}
