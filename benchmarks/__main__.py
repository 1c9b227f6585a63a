"""Run as: python -m benchmarks [startup] [share] [training]; training only when named, as it installs other tools."""

from __future__ import annotations

import sys

from benchmarks import share, startup, training

ALL = {"startup": startup.main, "share": share.main, "training": training.main}

for name in sys.argv[1:] or ("startup", "share"):
    ALL[name]()
