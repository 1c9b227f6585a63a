<<<<<<< HEAD
"""Run as: python -m benchmarks [startup] [share] [training] [adapters] [merging] [gguf] [quantizing]"""
=======
"""Run as: python -m benchmarks [startup] [share] [training] [adapters] [gptq]"""
>>>>>>> gptq

from __future__ import annotations

import sys

<<<<<<< HEAD
from benchmarks import adapters, gguf, merging, quantizing, share, startup, training
=======
from benchmarks import adapters, gptq, share, startup, training
>>>>>>> gptq

ALL = {
    "startup": startup.main,
    "share": share.main,
    "training": training.main,
    "adapters": adapters.main,
<<<<<<< HEAD
    "merging": merging.main,
    "gguf": gguf.main,
    "quantizing": quantizing.main,
}
"""All but the first two are carried out only when they are named: they install tools, write a page, or take long."""
=======
    "gptq": gptq.main,
}
"""The last three are carried out only when they are named: they install other tools, write a page, or take long."""
>>>>>>> gptq

for name in [word for word in sys.argv[1:] if not word.isdigit()] or ("startup", "share"):
    ALL[name]()
