"""Settings for every test: properties may take their time, since several tests share a core.

The same code gets the same examples, so that a change is judged by what it changes; `make soak` looks for new ones.
"""

import os
import signal

from hypothesis import HealthCheck, settings

settings.register_profile(
    "shared-core",
    deadline=None,
    derandomize="NEW_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("shared-core")

for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        # started in the background, or by nohup: the programs under test would inherit that, and a shell script
        # cannot even trap it then. With a handler here, however idle, they begin as usual
        signal.signal(_number, lambda *_: None)
