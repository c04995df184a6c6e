"""Where writes are recorded, and what keeps them from being allowed: a record that cannot be read or kept (row D4)."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.devices import WritableOptions
from bridge.ledger import Ledger
from bridge.records import records_of
from bridge.statefile import StateFile
from tests.harness import no_descriptors

OPTIONS = WritableOptions(name="house", type="lxp", writes=True, writes_per_day=2)


def test_d4_a_record_that_cannot_be_read_switches_writing_off_and_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = StateFile(tmp_path / "writes-house.json")
    Ledger(file, 12, 2).begin({"id": "n1"}, "hold 64")
    before = file.path.read_bytes()
    with no_descriptors(but=1):  # enough for the lock
        assert records_of(OPTIONS, tmp_path) is None
    text = f"house: writing is off, since its record cannot be read: {file.path}: Too many open files"
    assert text in caplog.text
    assert file.path.read_bytes() == before
    records = records_of(OPTIONS, tmp_path)
    assert records is not None
    assert records.ledger.pending == {"id": "n1"}, "what was under way is still known"
