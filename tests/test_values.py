"""The documented values are those of the tables."""

from __future__ import annotations

from bridge.tools.values import document, settings_document
from tests.shared import REPOSITORY


def test_the_list_of_values_is_current() -> None:
    written = (REPOSITORY / "docs" / "values.md").read_text()
    assert written == document(), "python -m bridge.tools.values > docs/values.md"


def test_the_list_of_settings_is_current() -> None:
    written = (REPOSITORY / "docs" / "settings.md").read_text()
    assert written == settings_document(), "python -m bridge.tools.values settings > docs/settings.md"
