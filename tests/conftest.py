"""Settings for every test: properties may take their time, since several tests share a core."""

from hypothesis import HealthCheck, settings

settings.register_profile("shared-core", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared-core")
