"""Whether the machine's wall clock has been set: many boards start in the past."""

from __future__ import annotations

import time

SANE_CLOCK = 1_767_225_600.0
"""2026-01-01T00:00:00Z as Unix time: before this no clock has been set."""
SANE_YEAR = time.gmtime(SANE_CLOCK).tm_year
"""The same for a clock that shows a date; by local time it is right to the day."""
