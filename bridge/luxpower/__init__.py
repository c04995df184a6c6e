"""LuxPower LXP, EG4 and GSL inverters behind their WiFi datalogger."""
