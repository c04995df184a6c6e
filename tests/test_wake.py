"""The descriptor that wakes a waiting thread."""

from __future__ import annotations

import select

from bridge.inbox import Inbox
from bridge.transports.base import Stop
from bridge.wake import Wake
from tests.transports.lines import descriptors


def ready(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


def test_it_is_readable_from_set_to_clear() -> None:
    wake = Wake()
    wake.clear()
    assert not ready(wake.fileno())
    wake.set()
    wake.set()
    assert ready(wake.fileno())
    wake.clear()
    assert not ready(wake.fileno())


def test_descriptors_go_with_those_who_have_them() -> None:
    before = descriptors()
    for _ in range(50):
        Wake(), Inbox(), Stop()
    assert descriptors() == before
