"""Run as: python -m benchmarks [startup] [share] [training] [adapters]"""

from __future__ import annotations

import sys

from benchmarks import adapters, share, startup, training

ALL = {"startup": startup.main, "share": share.main, "training": training.main, "adapters": adapters.main}
"""The last two are carried out only when they are named: they install other tools, and write a page."""

for name in sys.argv[1:] or ("startup", "share"):
    ALL[name]()
