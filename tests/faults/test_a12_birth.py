"""Row A12: Home Assistant starts anew, and finds everything within seconds."""

from __future__ import annotations

import time
from pathlib import Path

from tests.faults.ledger import note
from tests.faults.rig import BASE, house
from tests.harness import Stopwatch, await_true

WITHIN = 10.0


def test_a12_after_its_birth_message_all_is_told_again(tmp_path: Path) -> None:
    with house(tmp_path, {"one": {"parts": 2}, "two": {}}) as site:
        site.await_up()
        topics = ["one", "one/part0", "one/part1", "two"]

        def announced(since: float) -> set[str]:
            return {m.topic for m in list(site.recorder.messages) if m.topic.startswith("homeassistant/device/")
                    and m.at >= since and m.payload and not m.retained}  # fmt: skip

        await_true(lambda: len(announced(0.0)) == len(topics) + 1, 30, "every unit and the bridge are announced")
        before = announced(0.0)
        time.sleep(0.5)
        watch = Stopwatch(site.bridge.pid)
        site.recorder.client.publish("homeassistant/status", b"online", 1)
        await_true(lambda: announced(watch.began) == before, WITHIN, "all are announced again")
        for topic in topics:
            for leaf in ("availability", "state"):
                site.recorder.wait(f"{BASE}/{topic}/{leaf}", lambda m: m.at >= watch.began, WITHIN)
        last = max(m.at for m in site.recorder.messages if m.topic in before)
        note(recovery=watch.seconds(last))
        assert watch.seconds(last) <= WITHIN
