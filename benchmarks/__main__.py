<<<<<<< HEAD
"""Run as: python -m benchmarks [startup] [share] [training] [adapters] [merging]"""
=======
"""Run as: python -m benchmarks [startup] [share] [training] [adapters] [gguf] [quantizing]"""
>>>>>>> gguf

from __future__ import annotations

import sys

<<<<<<< HEAD
from benchmarks import adapters, merging, share, startup, training
=======
from benchmarks import adapters, gguf, quantizing, share, startup, training
>>>>>>> gguf

ALL = {
    "startup": startup.main,
    "share": share.main,
    "training": training.main,
    "adapters": adapters.main,
<<<<<<< HEAD
    "merging": merging.main,
}
"""All but the first two are carried out only when they are named: they install tools, write a page, or take long."""
=======
    "gguf": gguf.main,
    "quantizing": quantizing.main,
}
"""All but the first two are carried out only when they are named: they install other tools, or write a page."""
>>>>>>> gguf

for name in sys.argv[1:] or ("startup", "share"):
    ALL[name]()
