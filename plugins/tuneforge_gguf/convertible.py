"""What a plan can tell of llama.cpp's converter and a model."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

from tuneforge import Facts, Finding

from .converter import PACKAGE, VERSION, converter_cache, present_converter
from .support import architecture_supported, tokenizer_support


def unconvertible(model: Facts) -> Iterator[Finding]:
    """Why the converter will not be there, or not take a full model."""
    here = present_converter(converter_cache())
    offline = "1" in (os.environ.get("UV_OFFLINE"), os.environ.get("HF_HUB_OFFLINE"))
    if offline and not os.environ.get("UV_FIND_LINKS") and here is None:
        yield Finding(
            "llama.cpp's converter is not here yet and the network is switched off",
            "Switch it on for the first export, "
            f"or name a folder with the source archive of {PACKAGE} {VERSION} in UV_FIND_LINKS.",
            level="warning",
        )
    architecture = next(iter(model.config.get("architectures", ())), None)
    if architecture and architecture_supported(architecture, here) is False:
        yield Finding(f"llama.cpp's converter does not know the architecture {architecture}", "Leave this step out.")
    file = model.tokenizer / "tokenizer.json" if model.tokenizer else None
    if file is not None and file.exists():
        sentencepiece = (file.parent / "tokenizer.model").exists()
        problem = tokenizer_support(json.loads(file.read_text(encoding="utf-8")), sentencepiece=sentencepiece)
        if problem:
            yield Finding(problem, "Leave this step out, or start from a model with another tokenizer.")
