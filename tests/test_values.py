"""The documented values are those of the tables."""

from __future__ import annotations

from bridge.tools.values import configuration_document, document, settings_document
from tests.shared import REPOSITORY


def test_the_list_of_values_is_current() -> None:
    written = (REPOSITORY / "docs" / "values.md").read_text()
    assert written == document(), "python -m bridge.tools.values > docs/values.md"


def test_the_list_of_settings_is_current() -> None:
    written = (REPOSITORY / "docs" / "settings.md").read_text()
    assert written == settings_document(), "python -m bridge.tools.values settings > docs/settings.md"


def test_the_list_of_the_configuration_s_keys_is_current() -> None:
    written = (REPOSITORY / "docs" / "configuration.md").read_text()
    assert written == configuration_document(), "python -m bridge.tools.values configuration > docs/configuration.md"
    for key in ("source", "hysteresis_cell", "max_charge_current", "client_id", "also", "individual_input"):
        assert f"| `{key}` |" in written
