"""Rows G1, G2, G4, G5, G6, G8, A3 and D2 on the running bridge: simulated stacks, a broker, a model of the driver."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import paho.mqtt.publish as publish

from bridge.simulators.pylontech import PylontechSimulator
from bridge.simulators.pylontech_bus import StackSimulator
from bridge.simulators.pylontech_console import ConsoleSimulator, Extra2000Simulator
from tests.faults.ledger import note
from tests.harness import Bridge, Message, Mosquitto, Proxy, Recorder, Stopwatch, await_true
from tests.victron_driver import Driver, leaves

BASE, TOPIC = "sb", "battery/data"
MAX_AGE = 3.0
Console: TypeAlias = tuple[StackSimulator, dict[str, Any]]
"""A simulated stack and its entry in the configuration, but for name and port."""


@dataclass
class Yard:
    """A running bridge with stacks behind it and a driver on its topic."""

    broker: Mosquitto
    proxy: Proxy
    recorder: Recorder
    bridge: Bridge
    stacks: list[StackSimulator]

    def data(self, since: float = 0.0) -> list[Message]:
        return [message for message in self.recorder.on(TOPIC) if message.at >= since]

    def state(self) -> dict[str, Any]:
        messages = self.recorder.on(f"{BASE}/bank/state")
        return json.loads(messages[-1].payload) if messages else {}

    def await_data(self, key: str, value: object, seconds: float = 15.0) -> dict[str, Any]:
        """Wait for a message from now on in which a key has a value."""
        return self.await_data_with(lambda said: said.get(key) == value, seconds)

    def await_data_with(self, wanted: Callable[[dict[str, Any]], bool], seconds: float = 15.0) -> dict[str, Any]:
        """Wait for a message from now on whose leaves are as wanted."""
        since = time.monotonic()
        fits = lambda m: m.at >= since and wanted(leaves(json.loads(m.payload)))  # noqa: E731
        return leaves(json.loads(self.recorder.wait(TOPIC, fits, seconds).payload))

    def await_published(self) -> dict[str, Any]:
        """Wait for the bank's own state of its first message; it goes out a moment after it."""
        published = lambda m: json.loads(m.payload)["phase"] == "publishing"  # noqa: E731
        return dict(json.loads(self.recorder.wait(f"{BASE}/bank/state", published).payload))

    def await_charge(self) -> float:
        """Wait until every module's charge limit is known; return how many amperes the bank takes."""

        def known(message: Message) -> bool:
            state = json.loads(message.payload)
            return state["phase"] == "publishing" and "not known" not in state["charge_current_reason"]

        full = float(json.loads(self.recorder.wait(f"{BASE}/bank/state", known).payload)["charge_current_limit"])
        assert full > 0
        return full

    def assert_all_back(self, count: int, full: float) -> None:
        """Wait until so many modules count again and the bank may be charged as before.

        A module tells its limits a question later than its values. Until two readings in a row have them it is
        given nothing, and the bank says why.
        """
        back = time.monotonic()
        self.await_data("System.NrOfModulesOnline", count, 60)
        self.await_data("Info.MaxChargeCurrent", full)
        note(recovery=time.monotonic() - back)
        given = {leaves(json.loads(message.payload))["Info.MaxChargeCurrent"] for message in self.data(back)}
        assert max(given) == full, "never more than before"
        states = [json.loads(m.payload) for m in self.recorder.on(f"{BASE}/bank/state") if m.at >= back]
        idle = [state for state in states if state["phase"] == "publishing" and state["charge_current_limit"] == 0]
        assert all("charge limit not known" in state["charge_current_reason"] for state in idle)

    def mark(self) -> None:
        """Let what is read from now on tell itself apart from what was read before."""
        for stack in self.stacks:
            for module in stack.stack.modules.values():
                module.override["cycles"] = module.cycles + 1

    def assert_marked(self, since: float) -> None:
        """Every message that came since then is made of what was read after the mark."""
        cycles = max(module.cycles for stack in self.stacks for module in stack.stack.modules.values()) + 1
        found = [leaves(json.loads(message.payload))["History.ChargeCycles"] for message in self.data(since)]
        assert set(found) == {cycles}, "something old was said"

    def replayed(self) -> Driver:
        """Return a driver that has got every message at its time, and whose timer ran beside; it must be well."""
        driver, messages = Driver(), self.data()
        keys = {frozenset(leaves(json.loads(message.payload))) for message in messages}
        assert len(keys) == 1, "the key set changed"
        tick = messages[0].at
        for message in messages:
            assert not message.retained
            while tick < message.at:
                driver.tick(tick)
                tick += 1.0
            driver.receive(message.payload, message.at)
        driver.tick(tick)
        assert (driver.frozen, driver.killed, driver.warnings) == (False, False, [])
        return driver


@contextmanager
def yard(folder: Path, *sizes: int, consoles: Sequence[Console] = (), **bank: Any) -> Iterator[Yard]:
    """Build it, one stack on RS485 for each size and the consoles, and wait until the bank publishes."""
    with ExitStack() as parts:
        broker = parts.enter_context(Mosquitto(folder / "broker"))
        proxy = parts.enter_context(Proxy(broker.port))
        recorder = parts.enter_context(Recorder(broker.port))
        buses = [
            PylontechSimulator(f"stack{n}", modules=size, link=folder / f"stack{n}", seed=n, baud=None)
            for n, size in enumerate(sizes)
        ]
        bus = {"type": "pylontech", "interval": 0.2, "turnaround": 0.1, "limits_interval": 0.2, "max_age": MAX_AGE}
        entries: list[Console] = [*((stack, bus) for stack in buses), *consoles]
        stacks = [parts.enter_context(stack) for stack, _ in entries]
        devices = [{"name": stack.name, "port": str(stack.port), **entry} for stack, entry in entries]
        count = sum(len(stack.stack.modules) for stack in stacks)
        banks = [{"name": "bank", "from": [stack.name for stack in stacks], "modules": count, "interval": 0.5,
                  "raise_after": 0, **bank}]  # fmt: skip
        mqtt = {"host": "127.0.0.1", "port": proxy.port, "base_topic": BASE, "keepalive": 5}
        config = json.dumps({"mqtt": mqtt, "devices": devices, "banks": banks})
        bridge = parts.enter_context(Bridge(folder / "bridge", config))
        site = Yard(broker, proxy, recorder, bridge, stacks)
        recorder.wait(TOPIC, seconds=30)
        yield site


def test_g1_and_g2_modules_of_two_stacks_fall_silent_one_by_one_and_come_back(tmp_path: Path) -> None:
    with yard(tmp_path, 2, 1) as site:
        first = leaves(json.loads(site.data()[0].payload))
        assert first["System.NrOfModulesOnline"] == 3
        assert first["Info.MaxChargeVoltage"] == 52.4
        state = site.await_published()
        assert state["charge_current_limit"] == first["Info.MaxChargeCurrent"]
        assert state["charge_current_reason"]
        site.recorder.wait_payload(f"{BASE}/bank/availability", b"online")
        told = lambda m: json.loads(m.payload)["banks"]["bank"]["phase"] == "publishing"  # noqa: E731
        health = json.loads(site.recorder.wait(f"{BASE}/health", told, 35).payload)["banks"]["bank"]
        assert (health["modules_online"], health["other_publisher"]) == (3, False)
        one_module = first["Info.MaxDischargeCurrent"] / 3
        full = site.await_charge()

        site.stacks[0].stack.modules[0x03].silent = True
        found = site.await_data("System.NrOfModulesOffline", 1)
        assert found["Info.MaxDischargeCurrent"] <= 2 * one_module + 0.1
        assert found["Alarms.BmsCable"] == 1

        for stack in site.stacks:
            for module in stack.stack.modules.values():
                module.silent = True
        muted = Stopwatch(site.bridge.pid)
        found = site.await_data("System.NrOfModulesOnline", 0)
        assert muted.seconds(site.data()[-1].at) <= MAX_AGE + 1
        assert (found["Info.MaxChargeCurrent"], found["Io.AllowToCharge"], found["Alarms.InternalFailure"]) == (0, 0, 2)
        assert found["Info.MaxDischargeCurrent"] > 0
        said = len(site.data())
        site.recorder.wait(f"{BASE}/bank/state", lambda m: m.at > time.monotonic() - 0.1 and b'"silent"' in m.payload)
        time.sleep(3)  # a silence cannot be awaited
        assert len(site.data()) == said, "something was said after the safe message"
        assert site.recorder.on(f"{BASE}/bank/availability")[-1].payload == b"offline"
        assert site.replayed().charge_current() == 0

        for stack in site.stacks:
            for module in stack.stack.modules.values():
                module.silent = False
        site.assert_all_back(3, full)
        assert site.replayed().charge_current() > 0


def test_g1_and_g2_hold_for_a_bank_of_a_bus_a_console_and_an_extra2000(tmp_path: Path) -> None:
    quick = {"interval": 0.2, "cells_interval": 0.5, "max_age": MAX_AGE}
    cellar = ConsoleSimulator("cellar", modules=2, link=tmp_path / "cellar", seed=11, baud=None)
    garage = Extra2000Simulator("garage", modules=1, link=tmp_path / "garage", seed=12, baud=None, asleep=False)
    consoles: list[Console] = [
        (cellar, {"type": "pylontech", "link": "console", "login": True, **quick}),
        (garage, {"type": "pylontech-extra2000", **quick}),
    ]
    with yard(tmp_path, 1, consoles=consoles, module_charge_current=20, module_discharge_current=30) as site:
        first = leaves(json.loads(site.data()[0].payload))
        assert first["System.NrOfModulesOnline"] == 4
        assert 0 < first["Info.MaxDischargeCurrent"] <= 4 * 30
        full = site.await_charge()
        known = lambda m: "not known" not in (json.loads(m.payload)["discharge_current_reason"] or "not known")  # noqa: E731
        told = json.loads(site.recorder.wait(f"{BASE}/bank/state", known).payload)
        one_module = told["discharge_current_limit"] / 4
        everybody = [module for stack in site.stacks for module in stack.stack.modules.values()]
        state = site.await_published()
        assert all(module.serial in state["modules"] for module in everybody)
        assert state["total_capacity"] == sum(module.model.capacity for module in everybody) / 1000

        cellar.stack.modules[2].silent = True
        found = site.await_data("System.NrOfModulesOffline", 1, 30)
        assert found["Info.MaxDischargeCurrent"] <= 3 * one_module + 0.1
        garage.unplug()
        found = site.await_data("System.NrOfModulesOnline", 2, 30)
        assert found["Info.MaxDischargeCurrent"] <= 2 * one_module + 0.1
        cellar.unplug()
        site.stacks[0].unplug()
        found = site.await_data("System.NrOfModulesOnline", 0, 30)
        assert (found["Info.MaxChargeCurrent"], found["Io.AllowToCharge"]) == (0, 0)
        assert found["Info.MaxDischargeCurrent"] > 0

        cellar.stack.modules[2].silent = False
        for stack in site.stacks:
            stack.replug()
        site.assert_all_back(4, full)
        assert site.replayed().charge_current() > 0


def test_g4_nothing_of_it_is_retained_when_the_bridge_dies(tmp_path: Path) -> None:
    with yard(tmp_path, 1) as site:
        site.bridge.send(signal.SIGKILL)
        site.recorder.wait_payload(f"{BASE}/status", b"offline", 20)
        with Recorder(site.broker.port, TOPIC, f"{BASE}/status") as late:
            late.wait_payload(f"{BASE}/status", b"offline")
            assert late.on(TOPIC) == []


def test_g6_another_publisher_on_the_topic_is_seen(tmp_path: Path) -> None:
    with yard(tmp_path, 1) as site:
        site.recorder.wait(TOPIC, lambda m: m.at > time.monotonic() - 0.3)
        assert site.state()["other_publisher"] is False
        for number in range(3):
            publish.single(TOPIC, json.dumps({"Dc": {"Power": number}}), hostname="127.0.0.1", port=site.broker.port)
        site.recorder.wait(f"{BASE}/bank/state", lambda m: json.loads(m.payload)["other_publisher"])
        assert "someone else publishes there too" in site.bridge.log()


def test_g5_and_a3_a_broker_that_stood_still_gets_nothing_old_afterwards(tmp_path: Path) -> None:
    with yard(tmp_path, 2) as site:
        site.proxy.mode = "hang"
        site.mark()
        time.sleep(MAX_AGE + 3)  # the fault lasts
        went_on = time.monotonic()
        site.proxy.resume()
        await_true(lambda: len(site.data(went_on)) > 3, 20, "data again")
        site.assert_marked(went_on)
        site.replayed()


def test_d2_after_a_freeze_only_what_was_read_since_is_said(tmp_path: Path) -> None:
    with yard(tmp_path, 2) as site:
        site.bridge.send(signal.SIGSTOP)
        site.mark()
        time.sleep(MAX_AGE + 2.5)  # the fault lasts
        went_on = time.monotonic()
        site.bridge.send(signal.SIGCONT)
        await_true(lambda: len(site.data(went_on)) > 3, 15, "data again")
        site.assert_marked(went_on)
        assert leaves(json.loads(site.data()[-1].payload))["System.NrOfModulesOnline"] == 2
        assert all(b'"BmsCable":0' in message.payload for message in site.data()), "an alarm for our own freeze"
        site.replayed()


def test_d2_after_a_freeze_that_no_module_survived_it_waits_in_peace_and_then_tells(tmp_path: Path) -> None:
    with yard(tmp_path, 2) as site:
        site.bridge.send(signal.SIGSTOP)
        for module in site.stacks[0].stack.modules.values():
            module.silent = True
        time.sleep(MAX_AGE + 2.5)  # the fault lasts
        went_on = time.monotonic()
        site.bridge.send(signal.SIGCONT)
        found = site.await_data("System.NrOfModulesOnline", 0)
        assert (found["Info.MaxChargeCurrent"], found["Io.AllowToCharge"]) == (0, 0)
        assert len(site.data(went_on)) == 1
        rounds = [message for message in site.recorder.on(f"{BASE}/bank/state") if message.at >= went_on]
        assert len(rounds) <= 2 * (site.data()[-1].at - went_on) / 0.5 + 5, "rounds without a pause"


def test_a_module_on_two_cables_counts_once_in_the_running_bridge(tmp_path: Path) -> None:
    with ExitStack() as parts:
        site = parts.enter_context(yard(tmp_path, 1, 1, modules=1))
        serial = next(iter(site.stacks[0].stack.modules.values())).serial
        next(iter(site.stacks[1].stack.modules.values())).serial = serial
        site.stacks[1].unplug()
        site.stacks[1].replug()
        await_true(lambda: site.state().get("duplicate_modules"), 30, "the duplicate is named")
        assert serial in site.state()["duplicate_modules"]
        assert "the same module is read twice, counted once" in site.bridge.log()
