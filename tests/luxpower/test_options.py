"""What the configuration says about writing to an inverter, by the real loader; and a set topic from end to end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bridge.config import load
from bridge.errors import ConfigError
from bridge.luxpower.options import Options
from tests.harness import Bridge, Mosquitto, Recorder, await_true
from tests.luxpower.rig import eager


def read(folder: Path, **keys: object) -> Options:
    entry = {"name": "house", "type": "lxp", "host": "192.0.2.1"} | keys
    (folder / "config.yaml").write_text(json.dumps({"mqtt": {"host": "localhost"}, "devices": [entry]}))
    options = load(folder / "config.yaml", {}).devices[0]
    assert isinstance(options, Options)
    return options


def test_writing_is_off_by_itself(tmp_path: Path) -> None:
    options = read(tmp_path)
    assert (options.writes, options.raw_writes, options.time_sync, options.allow) == (False, False, False, ())


def test_settings_and_groups_can_be_allowed(tmp_path: Path) -> None:
    names = ["ac_charge", "charge_windows", "eps_voltage"]
    options = read(tmp_path, writes=True, allow=names, raw_writes=True, max_battery_current=250)
    assert (list(options.allow), options.max_battery_current) == (names, 250)


@pytest.mark.parametrize(
    ("keys", "place", "words"),
    [
        ({"writes": True, "allow": ["charge_window"]}, "allow", "no such setting, did you mean charge_windows?"),
        ({"writes": True, "allow": ["xyzzy"]}, "allow", "no such setting; docs/settings.md"),
        ({"writes": True, "allow": ["hold/64"]}, "allow", "no such setting"),
        ({"allow": ["eps"]}, "allow", "of no use without writes: true"),
        ({"raw_writes": True}, "raw_writes", "of no use without writes: true"),
        ({"time_sync": True}, "time_sync", "of no use without writes: true"),
        ({"writes": True, "host": None, "udp": 4346}, "writes", "for reading only"),
        ({"writes": True, "max_battery_current": 251}, "max_battery_current", "250"),
    ],
)
def test_what_makes_no_sense_for_writing_is_refused(
    tmp_path: Path, keys: dict[str, object], place: str, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, **keys)
    assert f"devices[0].{place}" in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize("address", ["192.168.0.30:8000", "http://192.168.0.30", "192.168.0.30 "])
def test_what_is_more_than_the_stick_s_address_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigError, match=r"devices\[0\]\.host: expected a host name or an IP address alone"):
        read(tmp_path, host=address)


def test_a_source_without_an_address_is_not_any_address(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("mqtt: {host: h}\ndevices:\n  - name: house\n    type: lxp\n    udp: 4346\n    source:\n")
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert caught.value.problems == [
        f"{path}:6: devices[0].source: found nothing; write the stick's address, or leave source out to take what "
        "comes from any"
    ]


def test_a_user_sets_something_by_topic(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker") as broker, Recorder(broker.port) as recorder, eager(model="lxp12k") as one:
        host, port = one.port.split(":")
        entry = {"name": "house", "type": "lxp", "host": host, "port": int(port), "writes": True}
        config = json.dumps({"mqtt": {"host": "127.0.0.1", "port": broker.port}, "devices": [entry]})
        base = "solarbridge/house"
        with Bridge(tmp_path / "bridge", config) as bridge:
            recorder.wait(f"{base}/settings", seconds=20)
            payload = json.dumps({"value": "23:30-05:30", "id": "night"})
            recorder.client.publish(f"{base}/set/ac_charge_window_1", payload)
            recorder.client.publish(f"{base}/set/eps", b"off")
            results = [json.loads(recorder.wait(f"{base}/result", lambda m, key=key: key in m.payload).payload)  # type: ignore[misc]
                       for key in (b'"ac_charge_window_1"', b'"eps"')]  # fmt: skip
            assert [result["outcome"] for result in results] == ["done", "refused"]
            assert (results[0]["id"], results[0]["read_back"]) == ("night", "23:30-05:30")
            recorder.wait(f"{base}/settings", lambda m: b'"ac_charge_window_1":"23:30-05:30"' in m.payload)
            await_true(lambda: [(w.register, w.wanted) for w in list(one.writes)] == [(68, (7703,)), (69, (7685,))], 5,
                       f"two writes; there are {list(one.writes)}")  # fmt: skip
            assert bridge.stop() == 0
