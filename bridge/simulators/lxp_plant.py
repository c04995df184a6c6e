"""What simulated LuxPower inverters do with sun, house, battery and grid, and what they are set to.

Powers are whole W. The balances hold to the watt, as an inverter's own meters would have it:
load - ac_pv = inv - rec + to_user - to_grid (+ eps while off-grid). Battery, counters and timers move on a fixed
grid of GRID simulated seconds, so the same seed, settings and simulated time give the same values, however
often they are read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime

from bridge.simulators.living import Battery, DayClock, House
from bridge.simulators.lxp_registers import HOLDS, READ_ONLY, Model, Pack, ascii_words

GRID = 10.0
EFFICIENCY = 0.94
STANDBY_BIT, AC_CHARGE_BIT, DISCHARGE_BIT, CHARGE_FIRST_BIT, EPS_BIT, FEED_IN_BIT = 9, 7, 10, 11, 0, 15
QUICK_CHARGE = 233
METERS = ("pv_1", "pv_2", "pv_3", "inv", "rec", "chg", "dischg", "eps", "to_grid", "to_user", "load")
# fmt: off
LIFE = (
    8_412_300, 6_120_900, 2_015_400, 11_206_700, 911_300, 5_130_800, 4_706_200, 84_300, 5_903_100, 3_402_600, 13_102_500
)
# fmt: on
"""Wh that each meter had counted before the first simulated day."""
RUNTIME = 39_412_000
"""Seconds of life before the first simulated day."""


@dataclass(frozen=True, slots=True)
class Flows:
    """Where one inverter's power goes at one moment, in W; none is negative."""

    load: int = 0
    pv: int = 0
    charge: int = 0
    discharge: int = 0
    inv: int = 0
    rec: int = 0
    eps: int = 0
    to_user: int = 0
    to_grid: int = 0
    ac_pv: int = 0
    """What a foreign PV inverter gives on the AC side (AC-coupled models)."""


class Inverter:
    """One inverter behind a stick: its serial, settings and counters. `holds` may be changed at any time."""

    def __init__(self, model: Model, serial: str) -> None:
        self.model = model
        self.serial = serial
        self.holds = READ_ONLY | {register: hold.default for register, hold in HOLDS.items()}
        for first, words in ((2, ascii_words(serial)), (7, ascii_words(model.code))):
            self.holds.update(enumerate(words, first))
        self.holds[19] = model.device_type
        self.faults: set[int] = set()
        """Fault bits that are on; any of them stops the inverter."""
        self.warnings: set[int] = set()
        """Warning bits besides those that follow from the state."""
        self.clock_offset = 0.0
        """Seconds by which its clock was set off."""
        self.quick_until = 0.0
        self.today = dict.fromkeys(METERS, 0.0)
        self.life = dict(zip(METERS, map(float, LIFE), strict=True))
        self.runtime_told = 0
        self._day = ""

    def bit(self, register: int, number: int) -> bool:
        return bool(self.holds[register] >> number & 1)

    def power(self, register: int) -> float:
        """Return the W that a charge or discharge power setting stands for, in this model's unit."""
        value = self.holds[register]
        return value * 100.0 if self.model.hundred_watts else self.model.rated * value / 100.0

    def in_window(self, first: int, now: datetime) -> bool:
        """Return whether the time is in one of the three windows from that register on; equal ends are unused."""
        minute = now.hour * 60 + now.minute
        for register in range(first, first + 6, 2):
            start, end = ((word & 0xFF) * 60 + (word >> 8) for word in (self.holds[register], self.holds[register + 1]))
            inside = start <= minute < end if start <= end else minute >= start or minute < end
            if start != end and inside:
                return True
        return False

    def count(self, flows: Flows, pv: tuple[int, ...], seconds: float, day: str) -> None:
        """Add what flowed in that many seconds to the meters; the day's start anew with another day."""
        if day != self._day:
            self.today = dict.fromkeys(METERS, 0.0)
            self._day = day
        watts = {f"pv_{i + 1}": value for i, value in enumerate(pv)}
        watts |= {"chg": flows.charge, "dischg": flows.discharge}
        watts |= {name: getattr(flows, name) for name in METERS if name not in watts}
        for name, value in watts.items():
            self.today[name] += value * seconds / 3600
            self.life[name] += value * seconds / 3600

    def traced_runtime(self, seconds: float, sequence: int) -> int:
        """Return the running time in s: the first above the last told, and not too low, that ends in `sequence`."""
        least = max(RUNTIME + int(seconds), self.runtime_told + 1)
        self.runtime_told = least + (sequence - least) % 100
        return self.runtime_told


@dataclass(slots=True)
class Plant:
    """Inverters around one battery. `grid_present`, `battery.soc` and the inverters may be changed at any time."""

    inverters: list[Inverter]
    house: House
    clock: DayClock
    battery: Battery
    grid_present: bool = True
    skipped: float = 0.0
    """Simulated seconds that were passed over by fast_forward."""
    _until: float = field(init=False)

    def __post_init__(self) -> None:
        # from the day's start on, not from the first look at it: so the looks make no difference
        start = self.clock.start
        self._until = start.hour * 3600.0 + start.minute * 60 + start.second

    def now(self) -> float:
        """Return the simulated seconds since the first midnight."""
        return self.clock.seconds() + self.skipped

    def date(self, inverter: Inverter, seconds: float) -> datetime:
        """Return what the inverter's clock shows."""
        return self.clock.date(seconds + inverter.clock_offset)

    def advance(self) -> float:
        """Let the plant live up to now; return the simulated time."""
        now = self.now()
        while self._until + GRID <= now:
            self._live(self._until)
            self._until += GRID
        return now

    def _live(self, at: float) -> None:
        net = 0
        for inverter in self.inverters:
            if inverter.bit(QUICK_CHARGE, 0) and at >= inverter.quick_until:
                inverter.holds[QUICK_CHARGE] &= ~1
            flows = self.flows(inverter, at)
            day = self.date(inverter, at).strftime("%Y%m%d")
            inverter.count(flows, strings(flows, inverter.model), GRID, day)
            net += flows.charge - flows.discharge
        self.battery.flow(net, GRID)

    def flows(self, inverter: Inverter, seconds: float) -> Flows:
        """Return where this inverter's power goes at that moment, with the battery as it is now."""
        model = inverter.model
        load = round(self.house.load(seconds) / len(self.inverters))
        sun = round(self.house.sun(seconds) * model.pv_peak)
        pv, ac_pv = (sun, 0) if model.strings else (0, sun)
        if inverter.faults or not inverter.bit(21, STANDBY_BIT):
            return self._grid_only(load, ac_pv)
        room = self.charge_room(inverter)
        reserve = self.discharge_room(inverter)
        if not self.grid_present:
            return self._off_grid(inverter, load, pv, room, reserve)
        # an AC-coupled inverter takes the foreign PV's surplus out of the house's wires
        from_grid = max(self._wanted_from_grid(inverter, seconds), ac_pv - load)
        if from_grid > 0:
            charge_pv = min(pv, room)
            rec = round(min(from_grid, (room - charge_pv) / EFFICIENCY, model.rated))
            charge = charge_pv + math.floor(rec * EFFICIENCY)
            if rec:
                return _balanced(Flows(load, charge_pv, charge, 0, 0, rec, ac_pv=ac_pv))
        pv, charge, discharge = self._shares(inverter, seconds, max(0, load - ac_pv), pv, room, reserve)
        inv = math.floor(EFFICIENCY * (pv + discharge - charge))
        return _balanced(Flows(load, pv, charge, discharge, inv, ac_pv=ac_pv))

    def _shares(
        self, inverter: Inverter, seconds: float, load: int, pv: int, room: int, reserve: int
    ) -> tuple[int, int, int]:
        """Return PV, charge and discharge in W while the inverter feeds the house from the DC side."""
        now, holds = self.date(inverter, seconds), inverter.holds
        most = math.floor(inverter.model.rated / EFFICIENCY)
        need = min(math.ceil(load / EFFICIENCY), most)
        if inverter.bit(21, DISCHARGE_BIT) and inverter.in_window(84, now) and self.battery.soc > holds[83]:
            wanted = round(inverter.power(82) / EFFICIENCY)
            pv = min(pv, most)
            return pv, 0, min(wanted, reserve, most - pv)
        first = inverter.bit(21, CHARGE_FIRST_BIT) and inverter.in_window(76, now) and self.battery.soc < holds[75]
        charge = min(pv, room, round(inverter.power(74))) if first else min(max(0, pv - need), room)
        left = pv - charge
        if left < need:
            # the battery that is to be charged first does not serve the house
            return pv, charge, 0 if charge else min(need - left, reserve)
        export = round(inverter.power(103) / EFFICIENCY) if inverter.bit(21, FEED_IN_BIT) else 0
        return charge + min(left, need + export, most), charge, 0

    def _off_grid(self, inverter: Inverter, load: int, pv: int, room: int, reserve: int) -> Flows:
        """Return the flows without a grid: the house hangs on the EPS output, if that is on."""
        if not inverter.bit(21, EPS_BIT) or load > inverter.model.rated:
            charge = min(pv, room)
            return Flows(0, charge, charge)
        need = math.ceil(load / EFFICIENCY)
        if pv >= need:
            charge = min(pv - need, room)
            return Flows(load, need + charge, charge, eps=load)
        if need - pv > reserve:
            charge = min(pv, room)
            return Flows(0, charge, charge)
        return Flows(load, pv, 0, need - pv, eps=load)

    def _grid_only(self, load: int, ac_pv: int) -> Flows:
        return _balanced(Flows(load, ac_pv=ac_pv)) if self.grid_present else Flows()

    def _wanted_from_grid(self, inverter: Inverter, seconds: float) -> float:
        """Return the W that shall be taken from the grid into the battery; 0 when nothing asks for it."""
        holds, soc = inverter.holds, self.battery.soc
        if inverter.bit(QUICK_CHARGE, 0) and seconds < inverter.quick_until:
            return float(inverter.model.rated)
        timed = inverter.bit(21, AC_CHARGE_BIT) and inverter.in_window(68, self.date(inverter, seconds))
        return inverter.power(66) if timed and soc < holds[67] else 0.0

    def charge_room(self, inverter: Inverter) -> int:
        """Return the W that this inverter may put into the battery."""
        holds, battery = inverter.holds, self.battery
        if battery.soc >= min(holds[227], 100):
            return 0
        by_rate = inverter.model.rated * holds[64] / 100
        by_current = holds[101] * battery.rest_voltage()
        return math.floor(min(by_rate, by_current) * battery.acceptance())

    def discharge_room(self, inverter: Inverter) -> int:
        """Return the W that this inverter may take out of the battery."""
        holds, battery = inverter.holds, self.battery
        if battery.soc <= (holds[105] if self.grid_present else holds[125]):
            return 0
        return math.floor(min(inverter.model.rated * holds[65] / 100, holds[102] * battery.rest_voltage()))


def strings(flows: Flows, model: Model) -> tuple[int, ...]:
    """Return the W of each PV string; on an AC-coupled model the foreign inverter's stand in the first."""
    if not model.strings:
        return flows.ac_pv, 0, 0
    first = flows.pv * 6 // 10 if model.strings == 2 else flows.pv * 4 // 10
    second = flows.pv - first if model.strings == 2 else flows.pv * 35 // 100
    return first, second, flows.pv - first - second


def _balanced(flows: Flows) -> Flows:
    """Let the grid give or take what is missing."""
    missing = flows.load - flows.ac_pv - flows.inv + flows.rec
    return Flows(
        flows.load,
        flows.pv,
        flows.charge,
        flows.discharge,
        flows.inv,
        flows.rec,
        flows.eps,
        max(0, missing),
        max(0, -missing),
        flows.ac_pv,
    )


def status(flows: Flows, inverter: Inverter, grid: bool) -> int:
    """Return the run state code of input register 0."""
    if inverter.faults:
        return 1
    if not grid:
        if not flows.eps:
            return 0
        if flows.charge:
            return 136
        return (64 if not flows.pv else 192) if flows.discharge else 128
    charging = 8 if flows.pv and flows.charge else 0
    if flows.rec:
        return 32 | charging
    out = 4 if flows.pv and flows.inv else 0
    return out | charging | (16 if flows.discharge else 0)


def state(plant: Plant, index: int, sequence: int) -> dict[str, float]:
    """Return everything one inverter can say of itself, under the names of its input registers.

    `sequence` % 100 stands in the last two digits of v_bus_1, runtime, max_cell_voltage and v_bus_half, and of
    v_eps_l1 and v_ac_l1 while there is any such voltage.
    """
    seconds = plant.advance()
    inverter = plant.inverters[index]
    flows = plant.flows(inverter, seconds)
    grid = plant.grid_present
    count = len(plant.inverters)
    share = 0 if count == 1 else (1 if index == 0 else 2) | 1 << 2 | count << 8
    warnings = inverter.warnings | (set() if grid else {16})
    out: dict[str, float] = {
        "status": status(flows, inverter, grid),
        "p_charge": flows.charge,
        "p_discharge": flows.discharge,
        "p_inv": flows.inv,
        "p_rec": flows.rec,
        "pf": 1.0 if flows.inv else 0.0,
        "p_eps": flows.eps,
        "s_eps": round(flows.eps / 0.95),
        "p_to_grid": flows.to_grid,
        "p_to_user": flows.to_user,
        "fault_code": sum(1 << bit for bit in inverter.faults),
        "warning_code": sum(1 << bit for bit in warnings),
        "runtime": inverter.traced_runtime(seconds, sequence),
        "parallel_status": share,
        "p_load": flows.load,
        "p_load_ongrid_12k": flows.load if grid else 0,
        "quick_charge_remaining": max(0.0, inverter.quick_until - seconds) if inverter.bit(QUICK_CHARGE, 0) else 0,
    }
    out.update(_voltages(plant, inverter, flows, seconds, sequence))
    out.update(_battery(plant, inverter, _net(plant), flows.charge - flows.discharge, sequence))
    for number, watts in enumerate(strings(flows, inverter.model), 1):
        out[f"p_pv_{number}"] = watts
        out[f"v_pv_{number}"] = 300.0 + 15 * number - watts / 400 if watts > 5 and inverter.model.strings else 0.0
    for name in METERS:
        day, life = (f"e_{name}_day", f"e_{name}_all")
        if name.startswith("pv_"):
            day, life = f"e_pv_day_{name[-1]}", f"e_pv_all_{name[-1]}"
        # meters count whole tenths, they do not round up
        out[day] = math.floor(inverter.today[name] / 100) / 10
        out[life] = math.floor(inverter.life[name] / 100) / 10
    return out


def _voltages(plant: Plant, inverter: Inverter, flows: Flows, seconds: float, sequence: int) -> dict[str, float]:
    """Return what is measured on the AC side, on the bus and on the heat sinks."""
    wave, low = plant.house.wave, sequence % 100 / 10
    grid, split = plant.grid_present, inverter.model.split_phase
    output = grid or flows.eps > 0
    volts = (229.0 + 6 * wave(seconds / 60, 11)) * (1.04 if split else 1.0) if grid else 0.0
    hertz = (60.0 if split else 50.0) + 0.08 * wave(seconds / 20, 12) - 0.04
    eps_volts = volts if grid else float(inverter.holds[90]) if output else 0.0
    leg = (110.0 if split else 230.0) + low
    heat = round(28 + 22 * max(flows.inv, flows.rec, flows.eps) / inverter.model.rated)
    return {
        "v_ac_r": volts,
        "f_ac": hertz if grid else 0.0,
        "i_inv_rms": flows.inv / volts if grid else 0.0,
        "v_eps_r": eps_volts,
        "f_eps": (hertz if grid else float(inverter.holds[91])) if output else 0.0,
        "v_bus_1": 370.0 + low,
        "v_bus_2": 301.5,
        "v_bus_half": 190.0 + low,
        "v_eps_l1": leg if output else 0.0,
        "v_eps_l2": leg - low + 4.0 if output else 0.0,
        "p_eps_l1": flows.eps // 2 if split else 0,
        "p_eps_l2": flows.eps - flows.eps // 2 if split else 0,
        "v_ac_l1": leg if grid else 0.0,
        "v_ac_l2": leg - low + 4.0 if grid else 0.0,
        "t_inner": heat + 6,
        "t_rad_1": heat,
        "t_rad_2": heat - 1,
    }


def _battery(plant: Plant, inverter: Inverter, net: int, own: int, sequence: int) -> dict[str, float]:
    """Return what the BMS says; `net` W flow into the battery, `own` of them through this inverter."""
    battery, old = plant.battery, inverter.model.limit_divisor == 100
    volts = battery.voltage(net)
    cell = math.ceil(volts / 16 * 1000)
    charge = plant.charge_room(inverter) > 0
    return {
        "v_bat": volts,
        "vbat_inv": volts,
        "soc": math.floor(battery.soc),
        # old firmware does not tell it, nor the current
        "soh": 0 if old else 100,
        "bat_current": 0.0 if old else own / volts,
        "t_bat": 0 if old else 22,
        "bat_type_com": 1,
        "max_chg_curr": min(100.0, 0.5 * battery.capacity_wh / 51.2) if charge else 0.0,
        "max_dischg_curr": min(100.0, 0.5 * battery.capacity_wh / 51.2),
        "charge_volt_ref": 56.0,
        "dischg_cut_volt": 47.0,
        "bat_status_5": 192,
        "bat_status_inv": 2 | charge,
        "bat_count": 2,
        "bat_capacity": round(battery.capacity_wh / 51.2),
        "max_cell_voltage": (cell + (sequence - cell) % 100) / 1000,
        "min_cell_voltage": (cell - 4) / 1000,
        "max_cell_temp": 23.1,
        "min_cell_temp": 22.4,
        "cycle_count": 42,
    }


def packs(plant: Plant, index: int, sequence: int) -> list[Pack]:
    """Return the battery's packs as one inverter tells them; max_cell_voltage of each carries `sequence` % 100."""
    inverter = plant.inverters[index]
    count = inverter.model.packs
    net = _net(plant)
    bms = _battery(plant, inverter, net, net, sequence)
    return [
        Pack(
            f"PACK{inverter.serial[-4:]}{number:04d}",
            bms["v_bat"],
            net / bms["v_bat"] / count,
            plant.battery.soc,
            bms["max_cell_voltage"],
            bms["min_cell_voltage"],
        )
        for number in range(1, count + 1)
    ]


def _net(plant: Plant) -> int:
    seconds = plant.advance()
    return sum(f.charge - f.discharge for f in (plant.flows(inverter, seconds) for inverter in plant.inverters))
