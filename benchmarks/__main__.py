"""Run as: python -m benchmarks [startup] [share] [training] [adapters] [merging] [gguf] [gptq] [quantizing] [LAYERS]

LAYERS are those of the large model that merging, gptq and quantizing take: fewer, to try one of them.
"""

from __future__ import annotations

import sys

from benchmarks import adapters, gguf, gptq, merging, quantizing, share, startup, training

ALL = {
    "startup": startup.main,
    "share": share.main,
    "training": training.main,
    "adapters": adapters.main,
    "merging": merging.main,
    "gguf": gguf.main,
    "gptq": gptq.main,
    "quantizing": quantizing.main,
}
"""All but the first two are carried out only when they are named: they install tools, write a page, or take long."""

for name in [word for word in sys.argv[1:] if not word.isdigit()] or ("startup", "share"):
    ALL[name]()
