"""The broker that Home Assistant has, for the bridge: asked of the supervisor, handed on in the environment.

`broker.py COMMAND ...` becomes COMMAND once the supervisor has told of a broker, or at once where the add-on's option
says that the broker is in the configuration file. The password is in no argument, no file and no line of the log.

Source: developers.home-assistant.io, "App communication" (GET /services/mqtt with the token as Bearer, no further right
needed) and "App configuration" (/data/options.json).
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NoReturn

PAUSE = 10.0
"""Seconds between two questions, while there is no broker."""
TIMEOUT = 10.0
VARIABLES = {
    "host": "SOLARBRIDGE_MQTT_HOST",
    "port": "SOLARBRIDGE_MQTT_PORT",
    "username": "SOLARBRIDGE_MQTT_USERNAME",
    "password": "SOLARBRIDGE_MQTT_PASSWORD",
}
"""Key of the supervisor's answer -> variable of the bridge."""
TOKENS = ("SUPERVISOR_TOKEN", "HASSIO_TOKEN")
"""The right to ask the supervisor, which the bridge has no use for."""


class NoBroker(Exception):
    """The supervisor tells of no broker now; the text says why."""


def option() -> str:
    """Return where the broker's address is from: `home_assistant`, or `file`."""
    options = json.loads((Path(os.environ["STATE_DIRECTORY"]) / "options.json").read_bytes())
    return str(options["broker"])


def service() -> dict[str, Any]:
    """Return the supervisor's MQTT service: host, port, ssl, username, password. Raises NoBroker."""
    token = os.environ.get(TOKENS[0], "")
    request = urllib.request.Request(
        os.environ["SUPERVISOR_URL"] + "/services/mqtt", headers={"Authorization": f"Bearer {token}"}
    )
    try:
        # no proxy: it would be shown the token
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=TIMEOUT) as answer:
            data = json.loads(answer.read())["data"]
            return {**data, "host": data["host"], "port": data["port"]}
    except urllib.error.HTTPError as err:
        reason = f"HTTP status {err.code}"
        if err.code == 400:  # that is how "Service not enabled" is told
            reason = 'no add-on offers one; install and start "Mosquitto broker", or set the option `broker` to `file`'
        raise NoBroker(reason) from None
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise NoBroker(f"the supervisor gave no answer to be understood ({type(err).__name__})") from None


def environment(told: dict[str, Any]) -> dict[str, str]:
    """Return the environment for the bridge: this one, with the broker and without the supervisor's token."""
    found = {key: value for key, value in os.environ.items() if key not in TOKENS}
    return {**found, **{name: str(told[key]) for key, name in VARIABLES.items() if told.get(key)}}


def await_service() -> dict[str, Any]:
    """Return the supervisor's MQTT service, waiting for it; say once what is waited for."""
    said = ""
    while True:
        try:
            return service()
        except NoBroker as err:
            if str(err) != said:
                said = str(err)
                print(f"Home Assistant tells of no MQTT broker: {said}. Asking again.", flush=True)
            time.sleep(PAUSE)


def main(command: list[str]) -> NoReturn:
    """Become `command`."""
    told: dict[str, Any] = {}
    if option() == "home_assistant":
        told = await_service()
        if told.get("ssl"):
            sys.exit(
                "This broker wants TLS: set the option `broker` to `file`, and write it under mqtt in config.yaml."
            )
        print(f"The broker is the one of Home Assistant, {told['host']}:{told['port']}.", flush=True)
    os.execvpe(command[0], command, environment(told))


if __name__ == "__main__":
    main(sys.argv[1:])
