"""`solarbridge migrate`: three programs' files as ours, and what is wrong with a file, with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bridge.cli import main
from bridge.config import Config, load
from bridge.errors import ConfigError
from bridge.lxp_bridge import LxpBridge
from bridge.tools.migrate import converted

LXP = """\
loglevel: warn
inverters:
  - enabled: true
    host: 192.168.0.30
    port: 8000
    serial: 0555555555
    datalog: BA24500731
    heartbeats: true
    read_timeout: 900
  - enabled: false
    host: 192.168.0.31
    port: 8000
    serial: 4512670119
    datalog: BA24500732
mqtt:
  host: broker.lan
  port: 1884
  username: me
  password: 'on: # "quoted" 010'
  namespace: attic/lxp
  homeassistant: {enabled: no, prefix: ha}
  publish_individual_input: true
influx: {enabled: false, url: "http://u:hidden@h", database: lxp}
scheduler:
  timesync_cron: "1 0 * * *"
"""

EXTRA = """\
mqtt: {active: true, broker: 192.168.0.10, port: 1883, username: "", password: "", topic_base: vbm}
serial:
  port: /dev/ttyUSB0
  reading_freq: 1
battery:
  addresses: [1, 2, 3]
  num_cells: 15
  max_charge_voltage: 51.0
  max_charge_current: 50.0
  max_discharge_current: 45
logging: {level: DEBUG, file_path: /run/x/a.log, file_max_size_kb: 1500, file_max_files: 5}
"""

MPP = """\
[SETUP]
pause=5
mqtt_broker=localhost
mqtt_port=1883
mqtt_user=me
mqtt_pass=50%%

# two questions of one inverter
[Roof 1]
port=/dev/hidraw0
protocol=PI30MAX
command=QPIGS#QMOD
outputs=mqtt

[Roof_2]
port=/dev/hidraw0
protocol=PI30
command=QPIRI
tag=ratings

[barn]
type=mppsolar
port=/dev/ttyUSB1
baud=2400
protocol=PI18

[bms]
type=jkbms
port=C8:47:8C:00:00:00
"""


def migrated(tmp_path: Path, text: str | bytes, kind: str | None = None) -> str:
    file = tmp_path / "theirs"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return converted(str(file), kind)


def read(tmp_path: Path, text: str) -> Config:
    file = tmp_path / "ours.yaml"
    file.write_text(migrated(tmp_path, text))
    return load(file, {})


def device(config: Config, number: int = 0) -> Any:
    return config.devices[number]


def test_lxp_bridge_keeps_its_broker_serials_namespace_and_prefix(tmp_path: Path) -> None:
    config = read(tmp_path, LXP)
    assert (config.mqtt.host, config.mqtt.port, config.mqtt.username) == ("broker.lan", 1884, "me")
    assert config.mqtt.password is not None
    assert config.mqtt.password.reveal() == 'on: # "quoted" 010'
    assert len(config.devices) == 1, "the other was not enabled"
    one = device(config)
    assert (one.type, one.host, one.port, one.heartbeat) == ("lxp", "192.168.0.30", 8000, True)
    assert (one.datalogger, one.inverter) == ("BA24500731", "0555555555")
    assert one.compat == "lxp-bridge"
    assert one.lxp_bridge == LxpBridge(namespace="attic/lxp", discovery=False, prefix="ha", individual_input=True)
    assert not one.writes
    assert config.logging.level == "warning"


def test_extra200tomqtt_keeps_its_topics_modules_and_currents(tmp_path: Path) -> None:
    config = read(tmp_path, EXTRA)
    one = device(config)
    assert (one.type, one.port, one.modules, one.interval) == (
        "pylontech-extra2000", "/dev/ttyUSB0", (1, 2, 3), 1,
    )  # fmt: skip
    assert (one.topics.battery, one.topics.bank) == ("vbm/battery_{n}", "vbm/pylon")
    assert (one.limits.module_charge_current, one.limits.module_discharge_current) == (40, 45)
    assert one.limits.max_charge_voltage is None, "it never held there"
    assert (config.logging.directory, config.logging.max_megabytes) == ("/run/x", 8)
    assert config.mqtt.password is None


def test_mpp_solar_makes_one_device_of_each_port(tmp_path: Path) -> None:
    config = read(tmp_path, MPP)
    assert config.mqtt.password is not None
    assert config.mqtt.password.reveal() == "50%"
    roof, barn = device(config, 0), device(config, 1)
    assert len(config.devices) == 2
    assert (roof.name, roof.port, roof.interval, roof.protocol) == ("roof-1", "/dev/hidraw0", 5, "auto")
    assert (barn.name, barn.port, barn.interval, barn.protocol) == ("barn", "/dev/ttyUSB1", 5, "PI18")
    assert (roof.topics.parallel, barn.topics.parallel) == ("power/axpert", None), "which has room for one"


def test_a_revo_of_mpp_solar_is_named_and_left_though_it_calls_itself_pi30(tmp_path: Path) -> None:
    text = MPP.replace("protocol=PI18", "protocol=PI30Revo")
    assert [one.port for one in read(tmp_path, text).devices] == ["/dev/hidraw0"]  # type: ignore[attr-defined]
    assert "[barn] (line 21): a Revo is not read" in migrated(tmp_path, text)


def test_sections_of_mpp_solar_that_would_be_one_topic_stay_two_inverters(tmp_path: Path) -> None:
    sections = "".join(f"[{name}]\nport=/dev/{name}\n" for name in ("Roof", "roof", "roof-2", "ROOF"))
    config = read(tmp_path, f"[SETUP]\nmqtt_broker=h\n{sections}")
    assert [(device(config, number).name, device(config, number).port) for number in range(4)] == [
        ("roof", "/dev/Roof"), ("roof-2", "/dev/roof"), ("roof-2-2", "/dev/roof-2"), ("roof-3", "/dev/ROOF"),
    ]  # fmt: skip


@pytest.mark.parametrize(("text", "names"), [
    (LXP, ["inverters[1] (line 10)", "inverters[0].read_timeout (line 9)", "influx (line 23)", "scheduler (line 24)"]),
    (EXTRA, ["battery.max_charge_voltage (line 8)", "battery.num_cells (line 7)", "logging.level"]),
    (MPP, ["[Roof_2].tag (line 19)", "[bms] (line 27)"]),
])  # fmt: skip
def test_what_has_no_counterpart_is_named_with_its_line_and_without_its_value(
    tmp_path: Path, text: str, names: list[str]
) -> None:
    made = migrated(tmp_path, text)
    gone = made.partition("# Without a counterpart:\n")[2].partition("\n\n")[0].splitlines()
    assert all(line.startswith("# - ") for line in gone)
    assert [name for name in names if not any(name in line for line in gone)] == []
    assert len(gone) == len(names)
    assert "hidden" not in made


def test_no_password_is_written_where_there_was_none(tmp_path: Path) -> None:
    assert "password" not in migrated(tmp_path, EXTRA)
    assert "password_file" in migrated(tmp_path, LXP), "advice beside the one that was there"


def test_a_name_with_a_line_break_stays_in_its_comment(tmp_path: Path) -> None:
    made = migrated(tmp_path, LXP + '"x\\ndevices: []\\u2028": 1\n')
    assert "x?devices: []?" in made


@pytest.mark.parametrize(("text", "complaint"), [
    ("", ":1: expected lines of key: value"),
    ("- a\n", ":1: expected lines of key: value"),
    ("a: [\n", ":2: not YAML"),
    ("a: 1\n", "not recognised"),
    ("mqtt: {host: h}\ndevices: []\n", ":2: this is a configuration of solarbridge already"),
    (b"a: \xff\n", ":1: not UTF-8"),
    ("a: &x 1\nb: *x\n", ":2: an alias"),
    (LXP.replace("8000", "80000"), ":5: inverters[0].port: expected a number from 1 to 65535"),
    (LXP.replace("datalog: BA24500731", "datalog: BA2450073"), ":7: inverters[0].datalog: expected the 10 letters"),
    (LXP.replace("    host: 192.168.0.30\n", ""), ":3: inverters[0].host: missing"),
    (LXP.replace("  host: broker.lan\n", ""), "mqtt.host: missing; expected the broker's host name"),
    (LXP.replace("heartbeats: true", "heartbeats: perhaps"), ":8: inverters[0].heartbeats: expected true or false"),
    (LXP.replace("enabled: true", "enabled: false"), ":2: inverters: expected at least one"),
    (LXP.replace("host: broker.lan", "host: [a]"), "mqtt.host: expected a single value"),
    (LXP.replace("namespace: attic/lxp", "namespace: 'a/#'"), "what it says does not fit here: devices[0].lxp_bridge"),
    ("inverters: 5\nmqtt: {host: h}\n", ":1: inverters: expected further lines"),
    ("inverters: []\nmqtt: {host: h}\n", ":1: inverters: expected"),
    (EXTRA.replace("[1, 2, 3]", "[1, 20]"), ":6: battery.addresses: expected numbers from 1 to 16"),
    (EXTRA.replace("192.168.0.10", "0.0.0.0"), ":1: mqtt.broker: 0.0.0.0 is no address"),
    (EXTRA.replace("reading_freq: 1", "reading_freq: .nan"), ":4: serial.reading_freq: expected a number"),
    (MPP.replace("50%%", "50%"), ":6: mqtt_pass: a % has to be written %%"),
    (MPP.replace("pause=5", "pause=five"), ":2: [SETUP].pause: expected a number"),
    (MPP.replace("[SETUP]", "[setting]"), "[SETUP]: missing"),
    (MPP.replace("baud=2400", "baud"), ":24: expected key = value"),
    (MPP.replace("[barn]", "[Roof_2]"), "given twice"),
    (MPP.partition("[Roof 1]")[0], "expected a section with an inverter"),
])  # fmt: skip
def test_what_is_wrong_with_a_file_is_said_with_its_line(tmp_path: Path, text: str | bytes, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        migrated(tmp_path, text)
    assert len(caught.value.problems) == 1
    assert complaint in caught.value.problems[0]
    assert caught.value.problems[0].startswith(str(tmp_path / "theirs"))
    assert "quoted" not in str(caught.value)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        converted(str(tmp_path / "nothing"))


def test_the_command_prints_a_file_that_check_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs, ours = tmp_path / "config.yaml", tmp_path / "ours.yaml"
    theirs.write_text(LXP)
    assert main(["migrate", "--from", "lxp-bridge", str(theirs)]) == 0
    ours.write_text(capsys.readouterr().out)
    ours.chmod(0o600)
    assert main(["check", "--config", str(ours)]) == 0
    theirs.write_text("a: 1\n")
    assert main(["migrate", str(theirs)]) == 2
    assert "not recognised" in capsys.readouterr().err
