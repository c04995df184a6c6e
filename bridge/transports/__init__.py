"""Bytes with a deadline; no protocol."""
