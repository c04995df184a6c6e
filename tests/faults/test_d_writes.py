"""Rows D4, D6, D7, E12 and T23 with the running bridge on a simulated Axpert: settings over a real broker and a pty."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.simulators.axpert import AxpertSimulator
from tests.faults.rig import BASE, REPEATS
from tests.harness import Bridge, Mosquitto, Recorder, await_true
from tests.small_disk import small_disk

SET, RESULT = f"{BASE}/roof/set", f"{BASE}/roof/result"


class Roof:
    """A simulated inverter, a broker, and the bridge between them."""

    def __init__(self, folder: Path, simulator: AxpertSimulator, recorder: Recorder, bridge: Bridge) -> None:
        self.folder, self.simulator, self.recorder, self.bridge = folder, simulator, recorder, bridge

    def await_ready(self) -> None:
        """Wait until the ratings have been read: from then on settings are taken."""
        self.recorder.wait(
            f"{BASE}/roof/state",
            lambda m: not m.retained and json.loads(m.payload).get("input_voltage_range") is not None,
            20,
        )

    def command(self, setting: str, text: str) -> None:
        self.recorder.client.publish(f"{SET}/{setting}", text, 1).wait_for_publish(10)

    def results(self) -> list[dict[str, Any]]:
        return [json.loads(message.payload) for message in self.recorder.on(RESULT)]

    def await_results(self, count: int) -> list[dict[str, Any]]:
        await_true(lambda: len(self.results()) >= count, 20, f"{count} results")
        return self.results()

    def audit(self) -> list[dict[str, Any]]:
        path = self.folder / "state/solarbridge/audit.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def begun(self) -> bool:
        return any(entry["event"] == "begin" for entry in self.audit())

    def ended(self) -> bool:
        return any(entry["event"] == "end" for entry in self.audit())

    def kept(self, key: str) -> Any:
        return self.simulator.plant.units[0].settings[key]

    def restart(self) -> None:
        self.recorder.forget()
        self.bridge.start()


@contextmanager
def roof(folder: Path, **options: Any) -> Iterator[Roof]:
    with ExitStack() as stack:
        simulator = stack.enter_context(AxpertSimulator(model="max", baud=None))
        broker = stack.enter_context(Mosquitto(folder / "broker"))
        recorder = stack.enter_context(Recorder(broker.port))
        device = {"name": "roof", "type": "axpert", "port": simulator.port, "interval": 0.2, "writes": True, **options}
        config = {"mqtt": {"host": "127.0.0.1", "port": broker.port, "base_topic": BASE}, "devices": [device]}
        environ = {"XDG_STATE_HOME": str(folder / "state")}
        bridge = stack.enter_context(Bridge(folder / "bridge", json.dumps(config), environ))
        site = Roof(folder, simulator, recorder, bridge)
        site.await_ready()
        yield site


def test_a_set_topic_is_a_proven_write_and_the_state_shows_it(tmp_path: Path) -> None:
    with roof(tmp_path, allow=["max_charging_current"]) as site:
        site.command("max_charging_current", '{"value": 80, "id": "a1"}')
        (result,) = site.await_results(1)
        assert (result["outcome"], result["old"], result["read_back"], result["register"]) == ("done", 60, 80, "MNCHGC")
        assert site.simulator.setters == ["MNCHGC0080"]
        shown = [json.loads(m.payload)["max_charging_current"] for m in site.recorder.on(f"{BASE}/roof/state")]
        assert shown[-1] == 80
        (begin, end) = site.audit()
        assert (begin["event"], end["event"], end["outcome"]) == ("begin", "end", "done")
        site.command("battery_type", "user")
        assert "allow" in site.await_results(2)[1]["reason"]
        assert site.simulator.setters == ["MNCHGC0080"]


@pytest.mark.parametrize("lie", ["mute", "deaf"])
def test_d6_a_sigterm_in_a_write_ends_it_in_time_with_its_outcome_recorded(tmp_path: Path, lie: str) -> None:
    with roof(tmp_path) as site:
        site.simulator.faults.lie = lie
        site.command("input_voltage_range", "ups")
        await_true(lambda: site.simulator.setters, 10, "the frame is out")
        assert site.bridge.stop() == 0
        assert [entry["event"] for entry in site.audit()] == ["begin", "end"]
        assert site.audit()[-1]["outcome"] == "unknown"
        assert site.results()[-1]["outcome"] == "unknown"
        assert site.recorder.on(f"{BASE}/roof/availability")[-1].payload == b"offline"
        assert site.simulator.setters == ["PGR01"]


@pytest.mark.parametrize("lie", ["mute", "deaf"])
def test_d7_a_kill_in_a_write_is_read_back_and_reported_by_the_next_start(tmp_path: Path, lie: str) -> None:
    with roof(tmp_path) as site:
        site.simulator.faults.lie = lie
        site.command("input_voltage_range", '{"value": "ups", "id": "k1"}')
        await_true(lambda: site.simulator.setters, 10, "the frame is out")
        site.bridge.send(signal.SIGKILL)
        assert site.bridge.process is not None
        site.bridge.process.wait(5)
        site.simulator.faults.lie = ""
        site.restart()
        (result,) = site.await_results(1)
        stored = lie == "mute"
        assert (result["id"], result["outcome"]) == ("k1", "done" if stored else "failed")
        assert result["read_back"] == ("ups" if stored else "appliance")
        assert site.kept("input_voltage_range") == int(stored)
        assert [entry["event"] for entry in site.audit()] == ["begin", "end"]
        assert site.simulator.setters == ["PGR01"], "nothing was sent again"


@pytest.fixture
def switch(tmp_path: Path) -> Iterator[Callable[[str], object]]:
    """Make the state folder "full", "ro" or "rw": a file system of its own for root, whom no mode of a folder stops."""
    folder = tmp_path / "state"
    if os.geteuid() != 0:
        folder.mkdir()
        yield lambda word: (folder / "solarbridge").chmod(0o700 if word == "rw" else 0o500)
        return

    def turn(word: str) -> None:
        filler = folder / "of somebody else"
        if word == "full":
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while file.write(bytes(1024)):
                    pass
        else:
            subprocess.run(["mount", "-o", f"remount,{word}", folder], check=True)
            if word == "rw":
                filler.unlink(missing_ok=True)

    with small_disk(folder, 64 * 1024):
        yield turn


def test_d4_a_state_folder_that_cannot_be_written_costs_settings_and_nothing_else(
    tmp_path: Path, switch: Callable[[str], object]
) -> None:
    with roof(tmp_path) as site:
        switch("full")
        site.command("input_voltage_range", "ups")
        assert "not written, since it cannot be recorded" in site.await_results(1)[0]["reason"]
        assert site.bridge.stop() == 0
        switch("ro")
        site.restart()
        site.await_ready()
        site.command("input_voltage_range", "ups")
        assert "no place to record writes" in site.await_results(1)[0]["reason"]
        assert "writing is off, since its record cannot be kept" in site.bridge.log()
        assert "Traceback" not in site.bridge.log()
        assert site.simulator.setters == []
        assert site.bridge.stop() == 0
        switch("rw")
        site.restart()
        site.await_ready()
        site.command("input_voltage_range", "ups")
        assert site.await_results(1)[0]["outcome"] == "done"


def test_d4_state_files_that_a_power_cut_left_empty_or_cut_are_set_aside_and_the_start_goes_on(tmp_path: Path) -> None:
    with roof(tmp_path) as site:
        site.command("input_voltage_range", "ups")
        assert site.await_results(1)[0]["outcome"] == "done"
        assert site.bridge.stop() == 0
        files = [one for one in (tmp_path / "state").rglob("*.json") if one.is_file()]
        assert files
        for number, file in enumerate(files):
            data = file.read_bytes()
            file.write_bytes(data[: len(data) // 2] if number % 2 else b"")
        site.restart()
        site.await_ready()
        assert site.bridge.log().count("was damaged, by a power cut perhaps") == len(files)
        assert all(file.with_name(f"{file.name}.bad").exists() for file in files)
        site.command("input_voltage_range", "appliance")
        assert site.await_results(1)[0]["outcome"] == "done"


def test_e12_neither_the_days_budget_nor_a_registers_pause_is_renewed_by_a_restart(tmp_path: Path) -> None:
    with roof(tmp_path, writes_per_day=2) as site:
        for setting, text in (("input_voltage_range", "ups"), ("flag_backlight", "off"), ("flag_buzzer", "on")):
            site.command(setting, text)
        assert [one["outcome"] for one in site.await_results(3)] == ["done", "done", "refused"]
        assert site.bridge.stop() == 0
        site.restart()
        site.await_ready()
        for setting, text in (("flag_buzzer", "on"), ("input_voltage_range", "appliance"), ("flag_backlight", "off")):
            site.command(setting, text)
        third, again, equal = site.await_results(3)
        assert (third["outcome"], again["outcome"]) == ("refused", "refused")
        assert equal["outcome"] in ("unchanged", "refused")
        assert site.simulator.setters == ["PGR01", "PDx"]


def test_t23_what_somebody_sets_at_the_panel_is_logged_and_recorded(tmp_path: Path) -> None:
    with roof(tmp_path, settings_interval=10) as site:
        site.simulator.call(lambda: site.simulator.plant.units[0].settings.update(output_source_priority=2))
        site.recorder.client.publish(f"{BASE}/roof/refresh", b"", 1).wait_for_publish(10)
        await_true(lambda: any(entry["event"] == "changed" for entry in site.audit()), 15, "the change is recorded")
        (entry,) = (one for one in site.audit() if one["event"] == "changed")
        assert (entry["setting"], entry["old"], entry["new"]) == (
            "output_source_priority", "utility_first", "solar_battery_utility",
        )  # fmt: skip
        assert "output_source_priority was changed from utility_first" in site.bridge.log()


@pytest.mark.soak
def test_d6_and_d7_at_random_phase_many_times(tmp_path: Path) -> None:
    dice = random.Random(7)
    for number in range(REPEATS):
        folder = tmp_path / str(number)
        folder.mkdir()
        with roof(folder) as site:
            site.simulator.faults.lie = dice.choice(["", "mute", "deaf", "late", "forgets", "denies"])
            site.command("input_voltage_range", '{"value": "ups", "id": "r1"}')
            time.sleep(dice.uniform(0, 2.5))
            if dice.random() < 0.5:
                assert site.bridge.stop() == 0
            else:
                site.bridge.send(signal.SIGKILL)
                assert site.bridge.process is not None
                site.bridge.process.wait(5)
            site.simulator.faults.lie = ""
            before = len(site.simulator.setters)
            site.restart()
            site.await_ready()
            await_true(lambda site=site: site.ended() or not site.begun(), 20, "every beginning has its end")
            assert len(site.simulator.setters) == before, "a start sends nothing again"
            for entry in site.audit():
                if entry.get("outcome") == "done":
                    assert site.kept("input_voltage_range") == 1
