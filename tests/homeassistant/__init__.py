"""Tests of the folder homeassistant/."""
