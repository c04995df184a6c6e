"""``python -m bridge`` is the same as ``solarbridge``."""

import sys

from bridge.cli import main

sys.exit(main())
