"""The documented values are those of the tables."""

from __future__ import annotations

from bridge.tools.values import document
from tests.shared import REPOSITORY


def test_the_list_of_values_is_current() -> None:
    written = (REPOSITORY / "docs" / "values.md").read_text()
    assert written == document(), "python -m bridge.tools.values > docs/values.md"
