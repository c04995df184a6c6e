"""A real Home Assistant core against the demo's house: `make test-homeassistant`. Not part of `make test`."""
