"""Run as: python -m benchmarks [startup] [share] [training] [adapters] [gptq]"""

from __future__ import annotations

import sys

from benchmarks import adapters, gptq, share, startup, training

ALL = {
    "startup": startup.main,
    "share": share.main,
    "training": training.main,
    "adapters": adapters.main,
    "gptq": gptq.main,
}
"""The last three are carried out only when they are named: they install other tools, write a page, or take long."""

for name in [word for word in sys.argv[1:] if not word.isdigit()] or ("startup", "share"):
    ALL[name]()
