"""Run as: python -m benchmarks [startup] [share]"""

from __future__ import annotations

import sys

from benchmarks import share, startup

ALL = {"startup": startup.main, "share": share.main}

for name in sys.argv[1:] or ALL:
    ALL[name]()
