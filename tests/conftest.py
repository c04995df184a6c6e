"""Settings for every test: properties may take their time, since several tests share a core."""

import signal

from hypothesis import HealthCheck, settings

settings.register_profile("shared-core", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared-core")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell lets what it starts in the background ignore SIGINT; the programs under test would inherit that, and a
    # shell script cannot even trap it then
    signal.signal(signal.SIGINT, signal.default_int_handler)
