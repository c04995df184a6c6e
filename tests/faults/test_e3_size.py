"""Row E3: a payload as large as a broker lets through."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.ledger import note
from tests.faults.rig import BASE, MEMORY_GROWTH_KIB, house
from tests.harness import Recorder, await_true

SIZES = (1_000_000, *((60_000_000,) if "FLOOD" in os.environ else ()))
"""Bytes; the larger ones in `make soak`."""


@pytest.mark.parametrize("size", SIZES)
def test_e3_a_huge_command_is_kept_back_by_the_broker_and_the_link_stays(tmp_path: Path, size: int) -> None:
    with house(tmp_path, {"one": {"writes": True}}) as site:
        site.await_up()
        memory, connections = site.bridge.memory_kib(), len(site.proxy.accepted)
        with Recorder(site.broker.port, "nothing") as other:
            other.client.publish(f"{BASE}/one/set/limit", b"8" * size, 1).wait_for_publish(60)
            other.client.publish(f"{BASE}/one/set/limit", b"80", 1).wait_for_publish(60)
            result = site.recorder.wait(f"{BASE}/one/result", seconds=20)
        assert b'"done"' in result.payload
        grown = site.bridge.memory_kib() - memory
        note(memory=grown / 1024)
        assert grown < MEMORY_GROWTH_KIB
        assert len(site.proxy.accepted) == connections, "the link did not stay"


def test_e3_over_mqtt_3_1_1_it_is_refused_or_the_brokers_limit_keeps_it_back(tmp_path: Path) -> None:
    """The older protocol has no limit of a client's own: what docs/mosquitto sets keeps it small."""
    lines = "allow_anonymous true\nmessage_size_limit 524288"
    with house(tmp_path, {"one": {"writes": True}}, mqtt={"protocol": "3.1.1"}, broker_lines=lines) as site:
        site.await_up()
        with Recorder(site.broker.port, "nothing") as other:
            other.client.publish(f"{BASE}/one/set/limit", b"8" * 60_000, 0)
            other.client.publish(f"{BASE}/one/set/limit", b"8" * 1_000_000, 0)
        result = site.recorder.wait(f"{BASE}/one/result", seconds=20)
        assert b'"refused"' in result.payload
        with Recorder(site.broker.port, "nothing") as other:
            other.client.publish(f"{BASE}/one/set/limit", b"80", 1).wait_for_publish(10)
            await_true(lambda: b'"done"' in site.recorder.on(f"{BASE}/one/result")[-1].payload, 10, "the good one")
        assert len(site.recorder.on(f"{BASE}/one/result")) == 2
