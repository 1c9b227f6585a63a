"""Run as: python -m benchmarks [startup] [share] [adapters]"""

from __future__ import annotations

import sys

from benchmarks import adapters, share, startup

ALL = {"startup": startup.main, "share": share.main, "adapters": adapters.main}
"""The last writes a page of the documentation, and is carried out when it is asked for."""

for name in sys.argv[1:] or ("startup", "share"):
    ALL[name]()
