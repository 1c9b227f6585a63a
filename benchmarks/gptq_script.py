"""GPTQ as gptqmodel's own page shows it, for `benchmarks.gptq`: MODEL ROWS OUT. It runs in gptqmodel's environment."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from gptqmodel import GPTQModel, QuantizeConfig

model, rows, out = sys.argv[1:4]
given = json.loads(Path(rows).read_text(encoding="utf-8"))
loaded = GPTQModel.load(model, QuantizeConfig(bits=4, group_size=128))
loaded.quantize(given, batch_size=1)
loaded.save(out)
