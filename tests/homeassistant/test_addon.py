"""The add-on: its files against the supervisor's rules, and its start script run for real.

There is no supervisor and no container engine here. A small HTTP server on 127.0.0.1 answers /services/mqtt as the
supervisor's documentation says, and the script runs in an environment made as the Dockerfile makes the container's:
the same variables, the assembled package where Python looks for it. Bridge and broker are real.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import threading
import venv
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from bridge import __version__
from bridge.simulators.axpert import AxpertSimulator
from tests.harness import Mosquitto, Recorder, await_true
from tests.homeassistant.folder import FOLDER, load
from tests.shared import REPOSITORY
from tools.addon import FROM_ELSEWHERE, assemble

SOURCE = FOLDER / "addon" / "solarbridge"
PART = "Euso6ahphaiWei9"
"""The part of the password that no quoting changes; where it is not the password is not either."""
USER, PASSWORD, TOKEN = "addons", PART + "'$(id) \\\"q", "a-token-for-the-supervisor"  # no shell should see that

TEXT, LIST, BOOL = (str,), (list,), (bool,)
REQUIRED = {"name": TEXT, "version": TEXT, "slug": TEXT, "description": TEXT, "arch": LIST}
OPTIONAL = {
    "homeassistant": TEXT, "stage": TEXT, "startup": TEXT, "boot": TEXT, "backup": TEXT, "services": LIST, "map": LIST,
    "uart": BOOL, "usb": BOOL, "udev": BOOL, "ports": (dict,), "options": (dict,), "schema": (dict,),
}  # fmt: skip
"""Keys we use, of those that the supervisor knows, and what it takes for each."""
CHOICES = {
    "stage": {"stable", "experimental", "deprecated"}, "boot": {"auto", "manual", "manual_only"},
    "startup": {"initialize", "system", "services", "application", "once"}, "backup": {"hot", "cold"},
}  # fmt: skip
ELEMENT = re.compile(
    r"(bool|email|url|port|device(\(subsystem=[a-z]+\))?|(str|password|int|float)(\([\d.]*,[\d.]*\))?"
    r"|match\(.*\)|list\(.+\))\??"
)
"""What an entry of `schema` may be."""


@pytest.fixture(scope="module")
def addon(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The assembled folder of the add-on."""
    return assemble(tmp_path_factory.mktemp("store") / "repository")


# -- the files


def test_the_configuration_obeys_the_supervisors_rules() -> None:
    config = load(SOURCE / "config.yaml")
    assert REQUIRED.keys() <= config.keys() <= REQUIRED.keys() | OPTIONAL.keys()
    for key, value in config.items():
        assert isinstance(value, (REQUIRED | OPTIONAL)[key]), key
        assert key not in CHOICES or value in CHOICES[key], key
    assert re.fullmatch(r"[-_.A-Za-z0-9]+", config["slug"])
    assert set(config["arch"]) <= {"aarch64", "amd64"}
    assert all(re.fullmatch(r"(mqtt|mysql):(provide|want|need)", one) for one in config["services"])
    for one in config["map"]:
        assert one == {"type": "addon_config", "read_only": False}
    for port, host in config["ports"].items():
        assert re.fullmatch(r"\d+/(tcp|udp)", port)
        assert host is None  # closed until the user opens it


def test_every_option_has_a_type_and_a_default_that_fits_it() -> None:
    config = load(SOURCE / "config.yaml")
    assert config["options"].keys() == config["schema"].keys()
    for key, kind in config["schema"].items():
        assert ELEMENT.fullmatch(kind), key
        if choices := re.fullmatch(r"list\((.+)\)", kind):
            assert config["options"][key] in choices[1].split("|")


def test_there_are_packages_for_every_kind_of_machine_it_says() -> None:
    lock = (REPOSITORY / "requirements.lock").read_text()
    python = re.search(r"^FROM python:3\.(\d+)-slim$", (SOURCE / "Dockerfile").read_text(), re.MULTILINE)
    assert python
    machines = {"amd64": "x86_64", "aarch64": "aarch64"}
    for arch in load(SOURCE / "config.yaml")["arch"]:
        for name in ("hidapi", "pyyaml"):
            assert re.search(
                rf"^# \w+ {name}-\S+-cp3{python[1]}-manylinux\S+{machines[arch]}\.\S*whl$", lock, re.MULTILINE
            )


@pytest.mark.parametrize("language", ["en", "de"])
def test_a_translation_has_exactly_the_options_and_the_ports(language: str) -> None:
    config, told = load(SOURCE / "config.yaml"), load(SOURCE / "translations" / f"{language}.yaml")
    assert told.keys() == {"configuration", "network"}
    assert told["configuration"].keys() == config["schema"].keys()
    assert told["network"].keys() == config["ports"].keys()
    assert all(one.keys() == {"name", "description"} for one in told["configuration"].values())


def test_the_docs_name_every_option() -> None:
    text = (SOURCE / "DOCS.md").read_text()
    for key, kind in load(SOURCE / "config.yaml")["schema"].items():
        assert f"- `{key}`" in text
        assert all(f"`{choice}`" in text for choice in kind.removeprefix("list(").removesuffix(")").split("|"))


def test_the_icon_is_as_large_as_the_store_shows_it() -> None:
    data = (SOURCE / "icon.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", data[16:24]) == (128, 128)


def test_the_start_script_passes_shellcheck() -> None:
    done = subprocess.run(["shellcheck", SOURCE / "run.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


# -- the assembled folder


def test_the_assembled_folder_is_an_add_on_and_nothing_else(addon: Path) -> None:
    assert load(addon.parent / "repository.yaml").keys() >= {"name"}
    # the supervisor takes every such file in a repository for an add-on
    found = [one for one in addon.parent.rglob("config.*") if one.suffix in (".yaml", ".yml", ".json")]
    assert found == [addon / "config.yaml"]
    assert not [one for one in addon.parent.rglob("*") if one.name == "__pycache__" or one.suffix == ".pyc"]
    for name, new in FROM_ELSEWHERE.items():
        original = REPOSITORY / name
        assert original.is_dir() or (addon / new).read_bytes() == original.read_bytes()
    kept = {one.relative_to(SOURCE) for one in SOURCE.rglob("*") if one.is_file() and one.suffix != ".pyc"}
    assert {one for one in kept if not (addon / one).is_file()} == set()


def test_the_dockerfile_finds_all_it_copies_and_takes_packages_by_their_hashes(addon: Path) -> None:
    text = (addon / "Dockerfile").read_text()
    copied = [name for line in re.findall(r"^COPY (.*)$", text, re.MULTILINE) for name in line.split()[:-1]]
    assert "bridge" in copied
    assert [name for name in copied if not (addon / name).exists()] == []
    assert '"--require-hashes"' in text
    assert '"--no-deps"' in text


def test_the_versions_are_those_of_the_package(addon: Path) -> None:
    assert load(addon / "config.yaml")["version"] == __version__
    code = "import sys; sys.path.insert(0, sys.argv[1]); import bridge; print(bridge.__version__, bridge.__file__)"
    told = subprocess.run([sys.executable, "-I", "-c", code, str(addon)], capture_output=True, text=True, check=True)
    assert told.stdout.split() == [__version__, str(addon / "bridge" / "__init__.py")]


# -- the start script


class Supervisor:
    """A stand-in for the supervisor: GET /services/mqtt, for who has the token."""

    def __init__(self) -> None:
        self.service: dict[str, Any] | None = None
        self.asked = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            timeout: ClassVar[float] = 10.0

            def do_GET(self) -> None:
                outer.asked += 1
                status, body = outer.answer(self.path, self.headers.get("Authorization"))
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def answer(self, path: str, authorization: str | None) -> tuple[int, dict[str, Any]]:
        if authorization != f"Bearer {TOKEN}":
            return 401, {"result": "error", "message": "unauthorized"}
        if path != "/services/mqtt":
            return 404, {"result": "error", "message": "not found"}
        if self.service is None:
            return 400, {"result": "error", "message": "Service not enabled"}
        return 200, {"result": "ok", "data": self.service}

    def __enter__(self) -> Supervisor:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


@dataclass
class Container:
    """What the container would be: its folders, its variables, its Python."""

    addon: Path
    folder: Path
    supervisor: Supervisor
    process: subprocess.Popen[bytes] | None = None
    variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("data", "config"):
            (self.folder / name).mkdir()
        python = self.folder / "python"
        venv.create(python, with_pip=False, symlinks=True)
        packages = next((python / "lib").glob("python*")) / "site-packages"
        shutil.copytree(self.addon / "bridge", packages / "bridge")
        own = next(path for path in sys.path if path.endswith("site-packages"))
        (packages / "theirs.pth").write_text(own + "\n")  # a .pth in there is not followed, so `bridge` is the add-on's
        dockerfile = (self.addon / "Dockerfile").read_text()
        variables = dict(one.split("=", 1) for one in re.findall(r"^ENV (.*)$", dockerfile, re.MULTILINE)[0].split())
        assert variables.keys() == {"STATE_DIRECTORY", "CONFIGURATION_DIRECTORY", "SUPERVISOR_URL"}
        assert (variables["STATE_DIRECTORY"], variables["CONFIGURATION_DIRECTORY"]) == ("/data", "/config")
        self.variables = {
            "PATH": f"{python / 'bin'}:{os.environ['PATH']}", "SUPERVISOR_TOKEN": TOKEN, "HASSIO_TOKEN": TOKEN,
            "STATE_DIRECTORY": str(self.folder / "data"), "CONFIGURATION_DIRECTORY": str(self.folder / "config"),
            "SUPERVISOR_URL": self.supervisor.url,
        }  # fmt: skip
        self.options("home_assistant")

    @property
    def config(self) -> Path:
        return self.folder / "config" / "config.yaml"

    def options(self, broker: str) -> None:
        (self.folder / "data" / "options.json").write_text(json.dumps({"broker": broker}))

    def start(self) -> Container:
        command = re.findall(r"^CMD (.*)$", (self.addon / "Dockerfile").read_text(), re.MULTILINE)
        assert command == ['["/bin/sh", "/solarbridge/run.sh"]']
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["/bin/sh", str(self.addon / "run.sh")], env=self.variables, cwd="/", stdin=subprocess.DEVNULL,
                stdout=log, stderr=log,
            )  # fmt: skip
        return self

    def shell(self, word: str) -> str:
        """Run the command of DOCS.md with this word in it, as `docker exec` would; return what it prints."""
        text = (SOURCE / "DOCS.md").read_text()
        (command,) = (line for line in text.splitlines() if line.startswith("docker exec ") and word in line)
        for path, here in (("/solarbridge/", self.addon), ("/config/", self.folder / "config")):
            command = command.replace(path, f"{here}/")
        done = subprocess.run(
            command.split()[4:], env=self.variables, cwd="/", capture_output=True, text=True, timeout=60, check=False
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(30)


@pytest.fixture
def container(addon: Path, tmp_path: Path) -> Iterator[Container]:
    with Supervisor() as supervisor:
        made = Container(addon, tmp_path, supervisor)
        yield made
        if made.process is not None and made.process.poll() is None:
            made.process.kill()
            made.process.wait(10)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker that lets in who has the password."""
    folder = tmp_path / "broker"
    folder.mkdir()
    passwords = folder / "passwords"
    passwords.touch(0o600)
    search = os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin"
    tool = shutil.which("mosquitto_passwd", path=search)
    assert tool
    subprocess.run([tool, "-b", passwords, USER, PASSWORD], check=True, capture_output=True)
    with Mosquitto(folder, f"allow_anonymous false\npassword_file {passwords}") as made:
        yield made


def test_the_first_start_puts_an_example_in_place_and_says_so(container: Container) -> None:
    container.start()
    assert container.process is not None
    assert container.process.wait(30) == 1
    assert "An example is now config.yaml" in container.log()
    assert container.config.read_bytes() == (REPOSITORY / "config.example.yaml").read_bytes()
    assert container.config.stat().st_mode & 0o077 == 0
    assert container.supervisor.asked == 0


def test_the_bridge_comes_online_with_the_broker_that_the_supervisor_tells(
    container: Container, broker: Mosquitto
) -> None:
    with AxpertSimulator("roof", link=container.folder / "roof") as roof:
        # the example, with the port of the simulated inverter in the place of its own
        example = (REPOSITORY / "config.example.yaml").read_text()
        container.config.write_text(example.replace("    port: hid ", f"    port: {roof.port} "))
        container.config.chmod(0o600)
        container.start()
        await_true(lambda: "no add-on offers one" in container.log(), 20, "it waits for a broker")
        container.stop()
        container.supervisor.service = {
            "host": "127.0.0.1", "port": broker.port, "ssl": False, "protocol": "3.1.1", "username": USER,
            "password": PASSWORD, "addon": "core_mosquitto",
        }  # fmt: skip
        container.start()
        with Recorder(broker.port, username=USER, password=PASSWORD) as recorder:
            recorder.wait_payload("solarbridge/status", b"online", 20)
            recorder.wait("solarbridge/roof/state", seconds=20)
            assert "battery_voltage" in container.shell(" read roof ")
            assert container.process is not None
            proc = Path(f"/proc/{container.process.pid}")
            assert PART.encode() not in (proc / "cmdline").read_bytes()
            environment = dict(one.split(b"=", 1) for one in (proc / "environ").read_bytes().split(b"\0") if one)
            assert environment.keys().isdisjoint({b"SUPERVISOR_TOKEN", b"HASSIO_TOKEN"})
            assert environment[b"SOLARBRIDGE_MQTT_PASSWORD"].decode() == PASSWORD
            assert container.stop() == 0
            recorder.wait_payload("solarbridge/status", b"offline")
    for secret in (PART, TOKEN):
        assert secret not in container.log()
        left = [one for name in ("data", "config") for one in (container.folder / name).rglob("*") if one.is_file()]
        assert not [one for one in left if secret.encode() in one.read_bytes()]
    assert (container.folder / "data" / "energy.json").exists()  # where it outlives an update


def test_with_the_option_file_the_configuration_alone_counts(container: Container, broker: Mosquitto) -> None:
    container.options("file")
    container.config.write_text(
        f"mqtt: {{host: 127.0.0.1, port: {broker.port}, username: {USER}, password: {json.dumps(PASSWORD)}}}\n"
        "devices:\n  - {name: roof, type: axpert, port: hid}\n"
    )
    container.config.chmod(0o600)
    container.start()
    with Recorder(broker.port, username=USER, password=PASSWORD) as recorder:
        recorder.wait_payload("solarbridge/status", b"online", 20)
    assert container.stop() == 0
    assert container.supervisor.asked == 0
    assert PART not in container.log()


def test_a_broker_that_wants_tls_is_not_spoken_to_without(container: Container) -> None:
    container.config.write_text("devices:\n  - {name: roof, type: axpert, port: hid}\n")
    container.supervisor.service = {
        "host": "127.0.0.1",
        "port": 8883,
        "ssl": True,
        "username": USER,
        "password": PASSWORD,
    }
    container.start()
    assert container.process is not None
    assert container.process.wait(30) == 1
    assert "wants TLS" in container.log()
    assert PART not in container.log()


@pytest.mark.parametrize("service", [{"port": 1883}, {"host": "127.0.0.1"}])
def test_an_answer_without_an_address_is_no_broker(container: Container, service: dict[str, Any]) -> None:
    container.config.write_text("devices:\n  - {name: roof, type: axpert, port: hid}\n")
    container.supervisor.service = service
    container.start()
    await_true(lambda: "no answer to be understood (KeyError)" in container.log(), 20, "it says so and waits")
    assert container.process is not None
    assert container.process.poll() is None
