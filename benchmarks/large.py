"""The model that merging and quantizing are measured on: a Llama of 471 million random weights."""

from __future__ import annotations

import random
import sys
from pathlib import Path

WORDS = tuple("".join(random.Random(place).choices("abcdefghijklmnopqrstuvwxyz", k=5)) for place in range(400))

_VOCABULARY = 10_000
_LAYERS = 35


def layers() -> int:
    """Of how many layers it is: a number on the command line makes it smaller, to try a benchmark."""
    return next((int(word) for word in sys.argv[1:] if word.isdigit()), _LAYERS)


def large_model(folder: Path, depth: int) -> int:
    """Writes it in bfloat16, `depth` layers of it; gives how many parameters it has."""
    import torch

    from tuneforge_models import fresh

    numbers = (f"{number:x} {number * 7919 % 65_521:x}" for number in range(32_000))
    tokenizer = fresh.make_tokenizer([*WORDS * 3, *numbers], _VOCABULARY)
    model = fresh.make_model(
        "llama",
        tokenizer,
        hidden_size=1024,
        intermediate_size=2816,
        layers=depth,
        heads=16,
        kv_heads=16,
        context=2048,
        tied=False,
        dtype=torch.bfloat16,
        seed=1,
    )
    fresh.save(model, tokenizer, folder)
    parameters: int = model.num_parameters()
    return parameters
