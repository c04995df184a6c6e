"""Row A10: a broker whose certificate does not hold never gets the password, and no plain connection is tried."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Authority, Certificate
from tests.fake_slice import PRELUDE
from tests.faults.rig import BASE, configuration
from tests.harness import Bridge, Mosquitto, Proxy, Recorder, await_true, free_port

PASSWORD = "planted-secret-4711"
LOCAL = "DNS:localhost,IP:127.0.0.1"


class Certificates:
    """Everything the cases need, made once."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder, "ca")
        self.other = Authority(folder, "otherca")
        self.good = self.authority.issue("good", LOCAL)
        self.expired = self.authority.issue("expired", LOCAL, days=-1)
        self.elsewhere = self.authority.issue("elsewhere", "DNS:broker.example")
        self.client = self.authority.issue("client", "DNS:bridge")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def broker_lines(made: Certificates, server: Certificate, more: str = "") -> str:
    return (f"certfile {server.certificate}\nkeyfile {server.key}\ncafile {made.authority.certificate}\n"
            f"allow_anonymous true\n{more}\n")  # fmt: skip


def refused(folder: Path, lines: str, tls: Mapping[str, Any], words: str) -> None:
    """Start a bridge against that broker; it must name `words` and never send its password or a plain CONNECT."""
    with ExitStack() as stack:
        broker = stack.enter_context(Mosquitto(folder / "broker", lines))
        proxy = stack.enter_context(Proxy(broker.port, record=True))
        mqtt = {"username": "bridge", "password": PASSWORD, "tls": tls}
        config = configuration(folder, proxy.port, {"one": {}}, mqtt)
        bridge = stack.enter_context(Bridge(folder / "bridge", config, prelude=PRELUDE))
        await_true(lambda: words in bridge.log(), 10, f"{words!r} in the log: {bridge.log()}")
        until = time.monotonic() + 1.0
        await_true(lambda: time.monotonic() > until, 5, "a moment in which a fall-back could happen")
        assert PASSWORD.encode() not in proxy.seen
        assert b"MQTT" not in proxy.seen, "a plain CONNECT"
        assert proxy.seen[:1] in (b"", b"\x16"), "something other than a TLS handshake went out"
        assert PASSWORD not in bridge.log()
        assert len(proxy.accepted) <= 2, "hammers a broker that only a person can mend"
        assert "connected to" not in bridge.log()
        assert bridge.process is not None
        assert bridge.process.poll() is None


def test_a10_an_expired_certificate_is_refused(made: Certificates, tmp_path: Path) -> None:
    refused(tmp_path, broker_lines(made, made.expired), {"ca": str(made.authority.certificate)}, "has expired")


def test_a10_a_certificate_for_another_name_is_refused(made: Certificates, tmp_path: Path) -> None:
    tls = {"ca": str(made.authority.certificate)}
    refused(tmp_path, broker_lines(made, made.elsewhere), tls, "IP address mismatch")


def test_a10_a_certificate_of_another_authority_is_refused(made: Certificates, tmp_path: Path) -> None:
    tls = {"ca": str(made.other.certificate)}
    words = "its certificate was refused: self-signed certificate in certificate chain"
    refused(tmp_path, broker_lines(made, made.good), tls, words)


def test_a10_without_an_authority_given_the_systems_count(made: Certificates, tmp_path: Path) -> None:
    refused(tmp_path, broker_lines(made, made.good), {}, "its certificate was refused")


def test_a10_a_plain_broker_behind_a_tls_configuration_is_refused(made: Certificates, tmp_path: Path) -> None:
    refused(tmp_path, "allow_anonymous true", {"ca": str(made.authority.certificate)}, "no TLS:")


@pytest.mark.parametrize("protocol", [5, "3.1.1"])
def test_a10_a_missing_client_certificate_is_named(made: Certificates, tmp_path: Path, protocol: int | str) -> None:
    """Under TLS 1.3 the broker judges it after our handshake: what went out by then is encrypted."""
    with ExitStack() as stack:
        lines = broker_lines(made, made.good, "require_certificate true")
        broker = stack.enter_context(Mosquitto(tmp_path / "broker", lines))
        proxy = stack.enter_context(Proxy(broker.port, record=True))
        mqtt = {"username": "bridge", "password": PASSWORD, "tls": {"ca": str(made.authority.certificate)},
                "protocol": protocol}  # fmt: skip
        config = configuration(tmp_path, proxy.port, {"one": {}}, mqtt)
        bridge = stack.enter_context(Bridge(tmp_path / "bridge", config, prelude=PRELUDE))
        await_true(lambda: "client certificate" in bridge.log(), 10, "a word about the client certificate")
        assert PASSWORD.encode() not in proxy.seen
        assert "connected to" not in bridge.log()


@pytest.mark.parametrize("version", ["tlsv1.2", "tlsv1.3"])
def test_a10_with_everything_right_it_connects(made: Certificates, tmp_path: Path, version: str) -> None:
    with ExitStack() as stack:
        lines = broker_lines(made, made.good, f"require_certificate true\ntls_version {version}")
        plain = free_port()
        lines = f"per_listener_settings true\n{lines}listener {plain} 127.0.0.1\nallow_anonymous true\n"
        broker = Mosquitto(tmp_path / "broker", lines)
        stack.enter_context(broker)
        recorder = stack.enter_context(Recorder(plain))
        proxy = stack.enter_context(Proxy(broker.port, record=True))
        tls = {"ca": str(made.authority.certificate), "certificate": str(made.client.certificate),
               "key": str(made.client.key)}  # fmt: skip
        mqtt = {"username": "bridge", "password": PASSWORD, "tls": tls}
        config = configuration(tmp_path, proxy.port, {"one": {"padding": 20_000}}, mqtt)
        bridge = stack.enter_context(Bridge(tmp_path / "bridge", config, prelude=PRELUDE))
        recorder.wait_payload(f"{BASE}/status", b"online")
        await_true(lambda: len(recorder.on(f"{BASE}/one/state")) > 10, 10, "states come through TLS")
        recorder.client.publish(f"{BASE}/one/refresh", b"")
        recorder.wait(f"{BASE}/one/state", lambda m: b'"count":1' in m.payload and len(m.payload) > 20_000)
        assert PASSWORD.encode() not in proxy.seen
        assert bridge.stop() == 0
        recorder.wait_payload(f"{BASE}/status", b"offline", 2)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_a10_nothing_below_tls_1_2_is_spoken(made: Certificates, tmp_path: Path) -> None:
    """A server of ours, since today's mosquitto does not speak the old versions either."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.good.certificate, made.good.key)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_server(("127.0.0.1", 0)) as server:
        tls = {"ca": str(made.authority.certificate)}
        config = configuration(tmp_path, server.getsockname()[1], {"one": {}}, {"tls": tls, "password": PASSWORD})
        with Bridge(tmp_path / "bridge", config, prelude=PRELUDE) as bridge:
            server.settimeout(10)
            connection, _ = server.accept()
            connection.settimeout(5)
            with pytest.raises((ssl.SSLError, ConnectionError)), context.wrap_socket(connection, server_side=True):
                pass
            await_true(lambda: "no TLS:" in bridge.log(), 10, "a word about TLS in the log")
