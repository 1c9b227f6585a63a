"""Run as: python -m benchmarks [startup] [share] [training] [adapters] [gguf] [quantizing]"""

from __future__ import annotations

import sys

from benchmarks import adapters, gguf, quantizing, share, startup, training

ALL = {
    "startup": startup.main,
    "share": share.main,
    "training": training.main,
    "adapters": adapters.main,
    "gguf": gguf.main,
    "quantizing": quantizing.main,
}
"""All but the first two are carried out only when they are named: they install other tools, or write a page."""

for name in sys.argv[1:] or ("startup", "share"):
    ALL[name]()
