"""`solarbridge scan --lxp`: every way in which a stick does not answer has words of its own."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from bridge.simulators.lxp import LxpSimulator
from bridge.tools.scan import host_and_port
from tests.harness import free_port
from tests.luxpower.rig import eager, quiet
from tests.shared import REPOSITORY


def scan(address: str, seconds: float = 1.0) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "bridge", "scan", "--lxp", address, "--seconds", str(seconds)],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_a_stick_that_answers_tells_its_serials() -> None:
    with eager() as stick:
        status, words = scan(stick.port)
        assert "answers; datalogger BA24500731, inverter 4512670118" in words
        assert not stick.requests, "nothing was asked"
    assert status == 0


def test_a_stick_with_heartbeats_only_answers_without_its_inverters_serial() -> None:
    with quiet() as stick:
        status, words = scan(stick.port)
    assert (status, "only heartbeats so far" in words) == (0, True)


def test_a_closed_port_is_refused() -> None:
    status, words = scan(f"127.0.0.1:{free_port()}")
    assert (status, "refused, nothing listens on that port" in words) == (1, True)


def test_a_locked_stick_resets_at_once() -> None:
    with LxpSimulator() as stick:
        stick.faults.reset_at_once = True
        status, words = scan(stick.port)
    assert (status, "reset at once: a locked stick, or its only slot is taken" in words) == (1, True)


def test_whatever_is_silent_is_called_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        status, words = scan(f"127.0.0.1:{listener.getsockname()[1]}", 0.3)
    assert (status, "connected, but silent for 0.3 s" in words) == (1, True)


def test_a_name_that_does_not_resolve_is_called_so() -> None:
    status, words = scan("no-such-stick.invalid")
    assert (status, "the name does not resolve" in words) == (1, True)


@pytest.mark.parametrize(
    ("text", "parts"),
    [("stick", ("stick", 8000)), ("stick:4346", ("stick", 4346)), ("::1", ("::1", 8000)), ("[::1]:9", ("::1", 9))],
)
def test_an_address_has_a_host_and_perhaps_a_port(text: str, parts: tuple[str, int]) -> None:
    assert host_and_port(text) == parts


@pytest.mark.parametrize("text", ["", ":8000", "a:", "a:x", "a:0", "a:65536", "a b", "a:٣", "a:999999"])
def test_what_is_no_address_is_refused(text: str) -> None:
    status, words = scan(text)
    assert (status, "expected HOST or HOST:PORT" in words) == (2, True)
