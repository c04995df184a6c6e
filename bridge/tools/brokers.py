"""A broker for the demo: the installed mosquitto, else the one the `demo` extra brings along.

It listens on 127.0.0.1, on a port of its own; a broker that runs on 1883 already is left alone.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from bridge.errors import BridgeError


def free_port(wanted: int) -> int:
    """Return `wanted` if nobody listens there, else a port the kernel picks."""
    for port in (wanted, 0):
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(sock.getsockname()[1])
    raise BridgeError("no free port on 127.0.0.1")


class DemoBroker:
    """A broker process of our own. `name` says which one it is."""

    def __init__(self, folder: Path, port: int) -> None:
        mosquitto = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
        self.port = port
        self.name = "mosquitto" if mosquitto else "amqtt"
        if mosquitto:
            config = folder / "mosquitto.conf"
            config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n")
            command = [mosquitto, "-c", str(config)]
        else:
            command = [sys.executable, "-m", "bridge.tools.brokers", str(port)]
        with (folder / "broker.log").open("wb") as output:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        self._log = folder / "broker.log"

    def wait(self, seconds: float) -> None:
        """Wait until it takes connections; raises BridgeError with the end of its log when it does not."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._process.poll() is None:
            with socket.socket() as sock:
                sock.settimeout(0.5)
                if sock.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise BridgeError(f"the broker {self.name} did not start: {self._log.read_text(errors='replace')[-500:]}")

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(3)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def serve_amqtt(port: int) -> None:
    """Run the embedded broker until the process is terminated."""
    import asyncio

    from amqtt.broker import Broker

    config = {
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }

    async def serve() -> None:
        await Broker(config).start()
        await asyncio.Event().wait()

    asyncio.run(serve())


if __name__ == "__main__":
    serve_amqtt(int(sys.argv[1]))
