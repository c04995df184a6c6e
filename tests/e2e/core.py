"""One Home Assistant core as a process of our own, on 127.0.0.1, and what it says over HTTP and its WebSocket."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from tests.harness import await_true, free_port
from tests.shared import REPOSITORY

CONFIGURATION = """http:
  server_host: 127.0.0.1
  server_port: {port}
api:
websocket_api:
config:
history:
energy:
recorder:
  commit_interval: 1
automation: !include automations.yaml
logger:
  default: warning
"""
LINE = re.compile(r"^\S+ \S+ (WARNING|ERROR|CRITICAL) \([^)]*\) \[(homeassistant\.\S+)\] (.*)$")
JUDGED = re.compile(
    r"homeassistant\.(components\.(mqtt|sensor|binary_sensor|number|select|switch|button|text|time|recorder|energy"
    r"|automation|script|blueprint)\b"
    r"|helpers\.(template|entity|entity_platform|entity_registry|device_registry|script|condition|trigger)\b)"
)
"""Loggers from which not one line may come."""
BLUEPRINTS = REPOSITORY / "homeassistant" / "blueprints"
PEOPLE = {"name": "Test", "username": "test", "password": secrets.token_hex(8), "language": "en"}


class WebSocket:
    """The little of a WebSocket client that commands and their results need."""

    def __init__(self, port: int, token: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 60)
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        self._socket.sendall(
            f"GET /api/websocket HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self._stream = self._socket.makefile("rb")
        while self._stream.readline() not in (b"\r\n", b""):
            pass
        self._number = 0
        self._receive()
        self._send({"type": "auth", "access_token": token})
        if self._receive()["type"] != "auth_ok":
            raise AssertionError("core does not let us in")

    def ask(self, kind: str, **more: Any) -> Any:
        """Return the result of a command."""
        self._number += 1
        self._send({"id": self._number, "type": kind, **more})
        while True:
            told = self._receive()
            for one in told if isinstance(told, list) else [told]:
                if one.get("id") == self._number and one["type"] == "result":
                    if not one["success"]:
                        raise AssertionError(f"{kind}: {one['error']}")
                    return one["result"]

    def close(self) -> None:
        self._stream.close()
        self._socket.close()

    def _send(self, content: Any, opcode: int = 1) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        mask, size = secrets.token_bytes(4), len(data)
        head = bytes([0x80 | opcode])
        if size < 126:
            head += bytes([0x80 | size])
        else:
            head += bytes([0xFE]) + struct.pack(">H", size) if size < 65536 else bytes([0xFF]) + struct.pack(">Q", size)
        self._socket.sendall(head + mask + bytes(byte ^ mask[n & 3] for n, byte in enumerate(data)))

    def _receive(self) -> Any:
        text = b""
        while True:
            head = self._stream.read(2)
            if len(head) < 2:
                raise ConnectionError("core has hung up")
            first, second = head
            size = second & 127
            if size >= 126:
                kind, width = (">H", 2) if size == 126 else (">Q", 8)
                [size] = struct.unpack(kind, self._stream.read(width))
            data = self._stream.read(size)
            if first & 15 == 9:
                self._send(data, 10)
            elif first & 15 in (0, 1):
                text += data
                if first & 128:
                    return json.loads(text)


class Core:
    """Core with a fresh configuration, signed in and connected to a broker."""

    def __init__(self, executable: str, folder: Path, broker: int) -> None:
        self._executable = executable
        self._folder = folder
        self._broker = broker
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._token = ""
        self._socket: WebSocket | None = None
        self.version = ""

    def start(self) -> None:
        """Start it and wait until it is connected to the broker."""
        self._folder.mkdir(exist_ok=True)
        (self._folder / "configuration.yaml").write_text(CONFIGURATION.format(port=self._port))
        (self._folder / "automations.yaml").touch()
        shutil.copytree(BLUEPRINTS, self._folder / "blueprints", dirs_exist_ok=True)
        environ = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "UV_", "PYTHON"))}
        with (self._folder / "console.log").open("ab") as output:
            self._process = subprocess.Popen(
                [self._executable, "-c", str(self._folder), "--skip-pip", "--log-no-color",
                 "--log-file", str(self._folder / "core.log")],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environ, start_new_session=True,
            )  # fmt: skip
        await_true(self._answers, 180, "core opens its port")
        self._sign_in()
        self._socket = WebSocket(self._port, self._token)
        if not self._entries():
            self.ask("config/core/update", country="DE", time_zone="Europe/Berlin", unit_system="metric")
            self._add_broker()
        await_true(lambda: [one["state"] for one in self._entries()] == ["loaded"], 60, "core is at the broker")
        self.version = self.get("/api/config")["version"]

    def stop(self) -> None:
        """End it in order."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait(10)
            self._process = None

    def ask(self, kind: str, **more: Any) -> Any:
        """Return the result of a WebSocket command. Core hangs up on who does not read its pings for a minute."""
        assert self._socket is not None
        try:
            return self._socket.ask(kind, **more)
        except ConnectionError:
            self._socket.close()
            self._socket = WebSocket(self._port, self._token)
            return self._socket.ask(kind, **more)

    def get(self, path: str) -> Any:
        status, told = self._call("GET", path)
        assert status == 200, (path, status, told)
        return told

    def do(self, service: str, **data: Any) -> int:
        """Call a service; return the HTTP status."""
        return self._call("POST", f"/api/services/{service.replace('.', '/')}", data)[0]

    def states(self) -> dict[str, dict[str, Any]]:
        """Return every entity's state by its id."""
        return {one["entity_id"]: one for one in self.get("/api/states")}

    def entities(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Return the registry's MQTT entities by platform and unique id."""
        listed = [one for one in self.ask("config/entity_registry/list") if one["platform"] == "mqtt"]
        ids = [one["entity_id"] for one in listed]
        full = self.ask("config/entity_registry/get_entries", entity_ids=ids) if ids else {}
        return {(name.partition(".")[0], one["unique_id"]): one for name, one in full.items()}

    def devices(self) -> dict[str, dict[str, Any]]:
        """Return the registry's MQTT devices by identifier."""
        return {
            identifier[1]: one for one in self.ask("config/device_registry/list")
            for identifier in one["identifiers"] if identifier[0] == "mqtt"
        }  # fmt: skip

    def automate(self, blueprint: str, inputs: dict[str, Any]) -> None:
        """Make an automation of one of our blueprints, as its editor does, and wait until it is live."""
        body = {"alias": blueprint, "use_blueprint": {"path": f"solarbridge/{blueprint}.yaml", "input": inputs}}
        status, told = self._call("POST", f"/api/config/automation/config/{blueprint}", body)
        assert status == 200, (blueprint, status, told)
        await_true(lambda: self._automation_state(blueprint) == "on", 30, f"{blueprint} is live")

    def forget_automation(self, blueprint: str) -> None:
        """Remove it again."""
        status, told = self._call("DELETE", f"/api/config/automation/config/{blueprint}")
        assert status == 200, (blueprint, status, told)

    def automation(self, blueprint: str) -> str:
        """Return the entity id of the automation made of a blueprint."""
        found = [one["entity_id"] for one in self.states().values() if one["attributes"].get("id") == blueprint]
        assert len(found) == 1, (blueprint, found)
        return str(found[0])

    def is_running(self, blueprint: str) -> bool:
        """Whether a run of the automation made of a blueprint has not ended."""
        return bool(self.states()[self.automation(blueprint)]["attributes"]["current"])

    def _automation_state(self, blueprint: str) -> str | None:
        found = [one["state"] for one in self.states().values() if one["attributes"].get("id") == blueprint]
        return found[0] if found else None

    def notifications(self, title: str) -> list[str]:
        """Return the texts of the notifications with that title."""
        return [one["message"] for one in self.ask("persistent_notification/get") if one["title"] == title]

    def log(self) -> list[str]:
        """Return the warnings and errors that count."""
        found: list[str] = []
        counts = False
        for line in (self._folder / "core.log").read_text(errors="replace").splitlines():
            if match := LINE.match(line):
                counts = bool(JUDGED.match(match[2]))
                if counts:
                    found.append(f"{match[1]} {match[2]}: {match[3]}")
            elif counts and not re.match(r"\d{4}-\d\d-\d\d ", line):
                found[-1] += "\n" + line
            else:
                counts = False
        return found

    # -- setting up

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"core ended: {(self._folder / 'console.log').read_text(errors='replace')[-3000:]}")
        try:
            return self._call("GET", "/api/onboarding")[0] in (200, 401, 404)
        except OSError:
            return False

    def _entries(self) -> list[dict[str, Any]]:
        return [one for one in self.ask("config_entries/get") if one["domain"] == "mqtt"]

    def _sign_in(self) -> None:
        """Become the first user, or sign in again after a restart."""
        client = f"http://127.0.0.1:{self._port}/"
        status, steps = self._call("GET", "/api/onboarding")
        if status == 200 and not next((one["done"] for one in steps if one["step"] == "user"), False):
            _, told = self._call("POST", "/api/onboarding/users", {"client_id": client, **PEOPLE})
            code = told["auth_code"]
        else:
            self._token = ""
            flow = {"client_id": client, "handler": ["homeassistant", None], "redirect_uri": client}
            _, told = self._call("POST", "/auth/login_flow", flow)
            who = {"client_id": client, "username": PEOPLE["username"], "password": PEOPLE["password"]}
            _, told = self._call("POST", f"/auth/login_flow/{told['flow_id']}", who)
            code = told["result"]
        grant = {"client_id": client, "grant_type": "authorization_code", "code": code}
        self._token = self._call("POST", "/auth/token", grant, form=True)[1]["access_token"]

    def _add_broker(self) -> None:
        """Add the MQTT integration as a person does, with whatever its form suggests."""
        path = "/api/config/config_entries/flow"
        _, flow = self._call("POST", path, {"handler": "mqtt", "show_advanced_options": False})
        for _ in range(4):
            if flow["type"] == "menu":
                _, flow = self._call("POST", f"{path}/{flow['flow_id']}", {"next_step_id": "broker"})
            elif flow["type"] == "form":
                answers = {**_suggested(flow["data_schema"]), "broker": "127.0.0.1", "port": self._broker}
                _, flow = self._call("POST", f"{path}/{flow['flow_id']}", answers)
        assert flow["type"] == "create_entry", flow

    def _call(self, method: str, path: str, body: Any = None, *, form: bool = False) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        data = None
        if body is not None:
            data = (urllib.parse.urlencode(body) if form else json.dumps(body)).encode()
            headers["Content-Type"] = "application/x-www-form-urlencoded" if form else "application/json"
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}{path}", data, headers, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=60) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as err:
            status, text = err.code, err.read()
        try:
            return status, json.loads(text or b"null")
        except ValueError:
            return status, text.decode(errors="replace")


def _suggested(form: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a form's own defaults, and the first choice where a field is required and has none."""
    answers: dict[str, Any] = {}
    for one in form:
        selector = one.get("selector") or {}
        if one.get("type") == "expandable":
            answers[one["name"]] = _suggested(one["schema"])
        elif one.get("default") is not None:
            answers[one["name"]] = one["default"]
        elif (one.get("description") or {}).get("suggested_value") is not None:
            answers[one["name"]] = one["description"]["suggested_value"]
        elif one.get("required"):
            options = (selector.get("select") or {}).get("options") or ["off"]
            first = options[0]["value"] if isinstance(options[0], dict) else options[0]
            answers[one["name"]] = False if "boolean" in selector else "off" if "off" in options else first
    return answers
