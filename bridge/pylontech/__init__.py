"""Pylontech batteries: the RS485 frames and the RS232 console, and what their values mean."""
