"""Real parts for tests: a mosquitto of our own, a TCP proxy that breaks links, a recorder, the bridge as a process.

Everything listens on 127.0.0.1, on ports of its own, and ends only what it started.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.shared import REPOSITORY

_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_PORTS = 1_500
_LOWEST = 20_000 + _PORTS * (_WORKER % 8)
"""Workers of one run have ports of their own: one that is free for a moment is free for several who look at once."""
_next_port = itertools.count(os.getpid() * 211)


def free_port() -> int:
    """Return a port nobody listens on right now, and that this process has not had before.

    Not one the kernel would pick: it gives a freed port to the next who asks, and a bridge that still looks for its
    dead broker there would join another test.
    """
    for number in itertools.islice(_next_port, _PORTS):
        port = _LOWEST + number % _PORTS
        with socket.socket() as sock, contextlib.suppress(OSError):
            # a program that another thread starts at this moment keeps the socket until its exec: not in the way then
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


PATIENCE = 4.0
"""How many times as long an awaited event may take as the test says, which thinks of an idle machine: several
programs share few cores here. It costs nothing while all is well. What the program promises to do in time is
measured by a Stopwatch instead, without this."""


def await_true(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Wait until `condition()` holds; fail with `what` when it does not in time (PATIENCE times `seconds`)."""
    deadline = time.monotonic() + seconds * PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.01)


@contextlib.contextmanager
def no_descriptors(but: int = 0) -> Iterator[None]:
    """Let this process open nothing more, or `but` descriptors at once; what is open stays."""
    free = [os.open(os.devnull, os.O_RDONLY) for _ in range(but + 1)]
    for descriptor in free:
        os.close(descriptor)
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[-1], most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


def starved(pid: int) -> float:
    """Return the seconds in which threads of a process were ready to run and no processor was free for them.

    0 for a process that has ended, and where the kernel does not tell.
    """
    waited = 0
    with contextlib.suppress(OSError, IndexError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            waited += int((task / "schedstat").read_text().split()[1])
    return waited / 1e9


class Stopwatch:
    """Measures a promise of the program: the time that went by, less what the machine kept it from running.

    On an idle machine that is the time on the wall. Counted are the processes with these ids and the test's own,
    since proxies, recorders and simulated devices live in it.
    """

    def __init__(self, *pids: int) -> None:
        self._before = {pid: starved(pid) for pid in (*pids, os.getpid())}
        self.starved = 0.0
        """Seconds of that, as seen when it was looked at last."""
        self.began = time.monotonic()

    def look(self) -> None:
        """Note how long was waited for a processor so far: of a process that ends it is not known any more."""
        self.starved = max(self.starved, sum(max(0.0, starved(pid) - was) for pid, was in self._before.items()))

    def seconds(self, until: float | None = None) -> float:
        """Return the seconds from the start to `until` (time.monotonic()), else to now."""
        self.look()
        return (until or time.monotonic()) - self.began - self.starved


class Mosquitto:
    """A mosquitto of our own. `lines` are further lines of its configuration; `log` sees every packet if `verbose`."""

    def __init__(
        self, folder: Path, lines: str = "allow_anonymous true", port: int | None = None, *, verbose: bool = True
    ) -> None:
        binary = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
        if binary is None:
            raise AssertionError("mosquitto is not installed; `make test` installs it")
        self._command = [binary, "-v"] if verbose else [binary]
        self.port = port or free_port()
        self._folder = folder
        self._lines = lines
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Mosquitto:
        self._folder.mkdir(exist_ok=True)
        config = self._folder / "mosquitto.conf"
        user = "user root\n" if os.geteuid() == 0 else ""
        config.write_text(f"listener {self.port} 127.0.0.1\nset_tcp_nodelay true\n{user}{self._lines}\n")
        with (self._folder / "mosquitto.log").open("ab") as output:
            self._process = subprocess.Popen([*self._command, "-c", str(config)], stdout=output, stderr=output)
        await_true(self._listens, 10, "mosquitto listens")
        return self

    def _listens(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise AssertionError(f"mosquitto ended: {self.log()[-2000:]}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.2):
            return True
        return False

    def log(self) -> str:
        return (self._folder / "mosquitto.log").read_text(errors="replace")

    def send(self, number: int) -> None:
        """Send a signal: STOP and CONT make a half-open link, KILL a death."""
        if self._process is not None:
            self._process.send_signal(number)

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(number)
            self._process.wait(10 * PATIENCE)
            self._process = None

    def __enter__(self) -> Mosquitto:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGKILL)


@dataclass
class Message:
    """What the recorder saw."""

    at: float
    topic: str
    payload: bytes
    retained: bool


def _connects(client: paho.Client, port: int) -> bool:
    with contextlib.suppress(ConnectionRefusedError):
        client.connect("127.0.0.1", port, keepalive=60)
        return True
    return False


class Recorder:
    """A subscriber with a direct link to the broker, which no fault touches."""

    def __init__(self, port: int, *topics: str, **credentials: str) -> None:
        self.messages: list[Message] = []
        self._topics = topics or ("#",)
        self._subscribed = threading.Event()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, f"recorder-{port}-{id(self)}", clean_session=False)
        if credentials:
            self.client.username_pw_set(credentials["username"], credentials["password"])
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = lambda client, *_: client.subscribe([(topic, 1) for topic in self._topics])
        self.client.on_subscribe = lambda *_: self._subscribed.set()
        self.client.on_message = self._note
        await_true(lambda: _connects(self.client, port), 10, "somebody listens for the recorder")
        self.client.loop_start()
        if not self._subscribed.wait(10 * PATIENCE):
            raise AssertionError("the recorder could not subscribe")

    def _note(self, _client: object, _userdata: object, message: paho.MQTTMessage) -> None:
        self.messages.append(Message(time.monotonic(), message.topic, message.payload, message.retain))

    def on(self, topic: str) -> list[Message]:
        """Return the messages seen on one topic so far."""
        return [m for m in list(self.messages) if m.topic == topic]

    def wait(self, topic: str, wanted: Callable[[Message], bool] = lambda _: True, seconds: float = 10) -> Message:
        """Return the first message on `topic` that is wanted, waiting for it; messages seen already count."""
        deadline = time.monotonic() + seconds * PATIENCE
        seen = 0
        while True:
            messages = self.on(topic)
            for message in messages[seen:]:
                if wanted(message):
                    return message
            seen = len(messages)
            if time.monotonic() > deadline:
                raise AssertionError(f"nothing wanted on {topic} within {seconds} s; seen: {messages[-3:]}")
            time.sleep(0.01)

    def wait_payload(self, topic: str, payload: bytes, seconds: float = 10) -> Message:
        return self.wait(topic, lambda m: m.payload == payload, seconds)

    def forget(self) -> None:
        """Drop what was seen so far."""
        self.messages.clear()

    def forget_topic(self, topic: str) -> None:
        """Drop what was seen so far on one topic."""
        self.messages = [m for m in self.messages if m.topic != topic]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Proxy:
    """A TCP proxy whose link can be broken while it runs.

    `mode`: "pass", "refuse" (nobody listens), "hang" (accepts and holds everything), "hang-answers"
    (only what comes back is held), "drop-answers" (what comes back is lost).
    `bytes_per_second` throttles; `chunk` splits what passes into pieces of that many bytes. `accepted`
    holds the time of each connection, `seen` what came from the near side if `record` is set.
    """

    def __init__(
        self, target: int, port: int | None = None, *, record: bool = False, address: str = "127.0.0.1"
    ) -> None:
        self.port = port or free_port()
        self._address = address
        self.mode = "pass"
        self.bytes_per_second: float | None = None
        self.chunk: int | None = None
        self.accepted: list[float] = []
        self.seen = bytearray()
        self._record = record
        self._target = target
        self._stop = threading.Event()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None

    def start(self) -> Proxy:
        self._listen()
        self._spawn(self._accept)
        return self

    def cut(self) -> None:
        """End every connection there is with a reset."""
        for pair in self._pairs[:]:
            for sock in pair:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    sock.shutdown(socket.SHUT_RDWR)
        self._pairs.clear()

    def refuse(self) -> None:
        """Stop listening, as if nobody were there, and end what is connected."""
        self.mode = "refuse"
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self.cut()

    def resume(self) -> None:
        """Pass everything again."""
        self.mode = "pass"
        self.bytes_per_second = self.chunk = None
        if self._listener is None:
            self._listen()

    def stop(self) -> None:
        self._stop.set()
        self.refuse()
        for thread in self._threads:
            thread.join(5)

    def __enter__(self) -> Proxy:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _listen(self) -> None:
        # the listener of before may live on for a moment, in a program that another thread is about to start
        await_true(self._may_listen, 2, f"port {self.port} is free")

    def _may_listen(self) -> bool:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self._address, self.port))
            listener.listen()
        except OSError:
            listener.close()
            return False
        listener.settimeout(0.1)
        self._listener = listener
        return True

    def _spawn(self, body: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=body, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stop.is_set():
            listener = self._listener
            if listener is None:
                time.sleep(0.02)
                continue
            try:
                near, _ = listener.accept()
            except OSError:
                continue
            self.accepted.append(time.monotonic())
            try:
                far = socket.create_connection(("127.0.0.1", self._target), 2)
            except OSError:
                near.close()
                continue
            for sock in (near, far):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.settimeout(None)
            self._pairs.append((near, far))
            self._spawn(self._pump, near, far, False)
            self._spawn(self._pump, far, near, True)

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while not self._stop.is_set():
                if self.mode == "hang" or (answers and self.mode == "hang-answers"):
                    time.sleep(0.02)
                    continue
                if not select.select([source], [], [], 0.1)[0]:
                    continue
                data = source.recv(self.chunk or 65536)
                if not data:
                    break
                if self._record and not answers:
                    self.seen += data
                if answers and self.mode == "drop-answers":
                    continue
                if self.bytes_per_second:
                    time.sleep(len(data) / self.bytes_per_second)
                sink.sendall(data)
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        source.close()


ENDS_WITHIN = 3.0
"""Seconds in which the bridge promises to end, whatever its devices and the broker do."""


@dataclass
class Bridge:
    """The bridge as a user starts it: a process with a config file."""

    folder: Path
    config: str
    environ: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    prelude: str = ""
    """Python run before the program, to register device types that exist only in tests."""
    stderr: int | None = None
    """A descriptor for its stderr instead of the file that `log` reads."""

    def start(self) -> Bridge:
        self.folder.mkdir(exist_ok=True)
        path = self.folder / "config.yaml"
        path.write_text(self.config)
        path.chmod(0o600)
        code = f"{self.prelude}\nimport sys\nfrom bridge.cli import main\nsys.exit(main())"
        command = [sys.executable, "-c", code, "run", "--config", str(path)]
        with (self.folder / "bridge.log").open("ab") as output:
            self.process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env={**os.environ, "XDG_STATE_HOME": str(self.folder / "state"), **self.environ},
                stdin=subprocess.DEVNULL,
                stderr=output if self.stderr is None else self.stderr,
            )
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def log(self) -> str:
        return (self.folder / "bridge.log").read_text(errors="replace")

    def send(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> int:
        """End it as a service manager would, within the promised time; return its exit status."""
        watch = Stopwatch(self.pid)
        self.send(signal.SIGTERM)
        return self.await_end(watch)

    def await_end(self, watch: Stopwatch) -> int:
        """Wait until it has ended, within the promised time since the watch was started; return its exit status."""
        process = self.process
        assert process is not None

        def ended() -> bool:
            watch.look()
            return process.poll() is not None

        await_true(ended, ENDS_WITHIN, f"the bridge ends; its log: {self.log()[-2000:]}")
        assert watch.seconds() <= ENDS_WITHIN, "it took too long to end"
        return int(process.returncode)

    def threads(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/task").iterdir()))

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def memory_kib(self) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1])
        return 0

    def cpu_seconds(self) -> float:
        """Return the processor time it has used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __enter__(self) -> Bridge:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(5 * PATIENCE)


class Manager:
    """A datagram socket in the service manager's place; `path` goes into NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.settimeout(0.05)
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while True:
            try:
                self.lines += self._socket.recv(4096).decode().split("\n")
            except TimeoutError:
                continue
            except OSError:
                return

    def close(self) -> None:
        self._socket.close()
        self._thread.join(1)


@contextlib.contextmanager
def broker_with_recorder(folder: Path, *topics: str) -> Iterator[tuple[Mosquitto, Recorder]]:
    """A broker and a recorder on it, for the length of a test."""
    with Mosquitto(folder / "broker") as broker, Recorder(broker.port, *topics) as recorder:
        yield broker, recorder
