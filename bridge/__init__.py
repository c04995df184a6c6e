"""solarbridge: batteries and inverters of a home, spoken to over their cables, published by MQTT."""

__version__ = "0.1.0"
