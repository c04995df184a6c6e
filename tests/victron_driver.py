"""A model of dbus-mqtt-battery and of the GX behind it, from what the driver was seen to do.

Keys that are not sent keep their old value; any text that is JSON refreshes the time-out, useful or not;
null in power, voltage or SOC stops its timer for good, values and all; a text in a number's place ends
it; NaN is taken; true, false, lists and unknown keys are warned of and passed over. It is judged by
this model alone, which shares no table with the bridge.
Source: mr-manuel/venus-os_dbus-mqtt-battery 1.0.12, its README and its behaviour.
"""

from __future__ import annotations

import json
from typing import Any

MINIMUM = ("Dc.Power", "Dc.Voltage", "Soc")
TEXTS = {f"System.{name}CellId" for name in ("MinVoltage", "MaxVoltage", "MinTemperature", "MaxTemperature")}
ALARMS = {
    "LowVoltage", "HighVoltage", "LowSoc", "HighChargeCurrent", "HighDischargeCurrent", "HighCurrent", "CellImbalance",
    "HighChargeTemperature", "LowChargeTemperature", "LowCellVoltage", "LowTemperature", "HighTemperature", "FuseBlown",
    "BmsCable", "HighCellVoltage", "HighInternalTemperature", "InternalFailure", "StateOfHealth",
}  # fmt: skip
FLAGS = {"Balancing", "Heating", "SystemSwitch", "Info.ChargeRequest", "Io.AllowToCharge", "Io.AllowToDischarge"}
NUMBERS = {
    "Dc.Power", "Dc.Voltage", "Dc.Current", "Dc.Temperature", "Soc", "Soh", "InstalledCapacity", "Capacity",
    "ConsumedAmphours", "TimeToGo",
    "Info.MaxChargeVoltage", "Info.MaxChargeCurrent", "Info.MaxDischargeCurrent", "Info.BatteryLowVoltage",
    "History.ChargeCycles", "System.MinCellVoltage", "System.MaxCellVoltage", "System.MinCellTemperature",
    "System.MaxCellTemperature", "System.MOSTemperature", "System.NrOfCellsPerBattery", "System.NrOfModulesOnline",
    "System.NrOfModulesOffline", "System.NrOfModulesBlockingCharge", "System.NrOfModulesBlockingDischarge",
    "Voltages.Sum", "Voltages.Diff",
    *(f"Voltages.Cell{n}" for n in range(1, 25)), *(f"Alarms.{name}" for name in ALARMS), *FLAGS,
}  # fmt: skip


def leaves(message: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of a message by dotted path."""
    found: dict[str, Any] = {}
    for key, value in message.items():
        if isinstance(value, dict):
            found |= leaves(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


class Driver:
    """One running driver; `tick` is its timer of one second."""

    def __init__(self, timeout: float = 60.0) -> None:
        self.timeout = timeout
        self.values: dict[str, Any] = {}
        self.on_dbus = self.frozen = self.killed = False
        self.warnings: list[str] = []
        self._last: float | None = None
        self._fresh = False

    def receive(self, payload: bytes, now: float) -> None:
        """Take a message."""
        if self.killed:
            return
        try:
            message = json.loads(payload)
        except ValueError:
            return
        self._last, self._fresh = now, True
        if not isinstance(message, dict) or not isinstance(message.get("Dc"), dict):
            self.warnings.append("minimum required")
            return
        found = leaves(message)
        if any(key not in found for key in MINIMUM):
            self.warnings.append("minimum required")
            return
        for key, value in found.items():
            self._store(key, value)

    def _store(self, key: str, value: Any) -> None:
        if key in TEXTS and (value is None or isinstance(value, str)):
            self.values[key] = value
        elif key not in NUMBERS or isinstance(value, bool | list):
            self.warnings.append(f"{key}: {value!r}")
        elif isinstance(value, str):
            self.killed, self.on_dbus = True, False
        else:
            self.values[key] = value
            self.frozen = self.frozen or (value is None and key in MINIMUM)

    def tick(self, now: float) -> None:
        """Let its timer run: what has come goes on the D-Bus, silence ends it and it starts anew, knowing nothing."""
        if self.frozen or self.killed:
            return
        if self._last is not None and now - self._last > self.timeout:
            self.values, self.on_dbus, self._last = {}, False, None
        elif self._fresh and self.values:
            self.on_dbus, self._fresh = True, False

    def charge_current(self) -> float:
        """Return the charge current that a GX allows now; without a battery on the D-Bus none."""
        if not self.on_dbus or self.values.get("Info.MaxChargeVoltage") is None:
            return 0.0
        limit = self.values.get("Info.MaxChargeCurrent")
        return float("inf") if limit is None else float(limit)
