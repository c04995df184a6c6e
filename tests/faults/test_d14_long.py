"""Row D14: a large house at many times the speed of life, for minutes; `python -m tests.soak` makes it long."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.faults.ledger import note
from tests.soak.__main__ import run
from tests.soak.world import Size, world

MINUTES = float(os.environ.get("SOAK_MINUTES", "2"))


@pytest.mark.soak
def test_d14_a_house_of_every_maker_stays_right_and_flat(tmp_path: Path) -> None:
    seed = random.randrange(1 << 30)
    with world(tmp_path, Size(1, 4, 2, 5.0), seed) as site:
        text, good = run(site, min(MINUTES, 5.0) * 60, seed)
        log = site.bridge.log()
    print(text)
    note(wrong=0 if good else 1)
    assert good, text
    assert "Traceback" not in log
