"""Axpert and kin: inverters that speak the Voltronic protocols PI30, PI41 and PI18."""
