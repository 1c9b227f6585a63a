"""Merging an adapter into its base, and showing that the result computes the same."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from tuneforge import Adapter, Model, RewardAdapter, RewardModel, StepError
from tuneforge.artifacts import read_json

from .adapters import ON_QUANTIZED
from .agreement import largest_difference, logits, probes
from .chats import terminator
from .models import (
    full_model,
    load_model,
    load_tokenizer,
    save_model,
    stored_dtype,
    tokenizer_folder,
)
from .rewards import load_reward_model

TOLERANCE = 1e-3
"""Largest difference between two logits that float32 arithmetic in another order explains, of the largest logit."""

ROUNDING = 0.1
"""Largest difference between two logits that storing the sums in the base's type may make, of the largest logit: far
above what rounding to bfloat16 does, far below what a weight beyond float16's range does."""

_CPU = torch.device("cpu")
"""Where it is merged: in float32, a model that was trained in bfloat16 may not fit into the accelerator's memory."""

_PARTS = 4


def merge(adapter: Adapter | RewardAdapter, out: Path) -> dict[str, Any]:
    """Writes base + adapter as a model into the folder `out`; StepError if it does not give the adapter's logits.

    What is said of logits here goes for the scores of a reward model, too. Gives how far the sum and its rounding moved
    them (`merge_error`, `rounding_error`), the largest of them, and the type that the weights are stored in.
    """
    base, dtype = full_model(adapter), stored_dtype(adapter)
    if "quantization_config" in read_json(base.path / "config.json"):  # of which the plan may have known nothing
        raise StepError(*ON_QUANTIZED)
    tokenizer = load_tokenizer(adapter)
    scores = isinstance(adapter, RewardAdapter)
    what = "scores" if scores else "logits"
    texts = probes(tokenizer)
    if scores:  # of a text there is one score alone: beginnings of it have others
        texts = [ids[: len(ids) * part // _PARTS] for ids in texts for part in range(1, _PARTS + 1)]
    model = _load(adapter)
    wanted = list(logits(model, texts))
    largest = max(float(each.abs().max()) for each in wanted)
    model = model.merge_and_unload(safe_merge=True)
    error = largest_difference(logits(model, texts), wanted)
    if math.isinf(error) or error > TOLERANCE * largest:
        raise StepError(
            f"the merged model's {what} differ from the adapter's by {error:.3g} (the largest is {largest:.3g})",
            "Use the adapter without merging it, and report this: the merge does not compute what the adapter does.",
        )
    if scores:
        save_model(model, tokenizer_folder(adapter), out, dtype)
    else:
        stop = terminator(tokenizer)
        save_model(model, tokenizer_folder(adapter), out, dtype, like=base.path, terminator=stop)
    del model
    stored = _load((RewardModel if scores else Model)(out, ""))
    rounding = largest_difference(logits(stored, texts), wanted)
    if math.isinf(rounding) or rounding > ROUNDING * largest:
        raise StepError(
            f"stored as {dtype}, the merged model's {what} differ from the adapter's by {rounding:.3g} (the largest "
            f"is {largest:.3g})",
            "Use the adapter without merging it, or train it on the base stored in a type of more range or precision.",
        )
    return {
        "merge_error": error,
        "rounding_error": rounding,
        "stored_as": str(dtype).split(".")[-1],
        "largest_score" if scores else "largest_logit": largest,
    }


def _load(artifact: Any) -> Any:
    if isinstance(artifact, (RewardAdapter, RewardModel)):
        return load_reward_model(artifact, dtype=torch.float32, on=_CPU)
    return load_model(artifact, dtype=torch.float32, on=_CPU)
