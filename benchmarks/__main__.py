"""Run as: python -m benchmarks [startup] [share] [training] [adapters] [merging] [gguf] [gptq] [quantizing]
                               [registry] [alignment] [NUMBER]

NUMBER is that of the layers of the large model, of the registry's artifacts, or of draws: fewer, to try one.
"""

from __future__ import annotations

import sys

from benchmarks import adapters, alignment, gguf, gptq, merging, quantizing, registry, share, startup, training

ALL = {
    "startup": startup.main,
    "share": share.main,
    "training": training.main,
    "adapters": adapters.main,
    "merging": merging.main,
    "gguf": gguf.main,
    "gptq": gptq.main,
    "quantizing": quantizing.main,
    "registry": registry.main,
    "alignment": alignment.main,
}
"""All but the first two are carried out only when they are named: they install tools, write a page, or take long."""

for name in [word for word in sys.argv[1:] if not word.isdigit()] or ("startup", "share"):
    ALL[name]()
