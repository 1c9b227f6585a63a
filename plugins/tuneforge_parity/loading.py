"""Loading what transformers runs, in the precision that shows most of a difference."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from tuneforge import Artifact, QuantizedModel, RewardAdapter, RewardModel
from tuneforge.artifacts import read_tensors

_SHARE = 0.7  # of the accelerator's free memory that weights may take; the rest is for what is computed


def folder_of(artifact: Artifact) -> Path:
    """The folder with the full weights: the artifact's own, or that of the model which an adapter sits on."""
    return folder_of(artifact.base) if artifact.base is not None else artifact.path


def load(artifact: Artifact) -> tuple[Any, PreTrainedTokenizerBase]:
    """A model ready for inference, and its tokenizer."""
    if isinstance(artifact, QuantizedModel):
        # Without `kit.models`: PEFT need not be where this one runs.
        from tuneforge.kit.quantized_models import load_quantized

        config = AutoConfig.from_pretrained(artifact.path)
        return load_quantized(artifact, dtype="auto"), AutoTokenizer.from_pretrained(artifact.path, config=config)
    from tuneforge.kit.models import load_model, load_tokenizer
    from tuneforge.kit.rewards import load_reward_model

    loader: Any = load_reward_model if isinstance(artifact, (RewardModel, RewardAdapter)) else load_model
    return loader(artifact, dtype=_precision(artifact)), load_tokenizer(artifact)


def _precision(artifact: Artifact) -> torch.dtype:
    """float32 where the weights fit into memory in it: what 16 bits add to an answer is more than a merge may."""
    from tuneforge.kit.models import device, inference_dtype

    if device().type != "cuda":
        return inference_dtype(artifact)
    weights = sum(math.prod(tensor.shape) for tensor in read_tensors(folder_of(artifact)).values())
    free, _ = torch.cuda.mem_get_info()
    return torch.float32 if 4 * weights < _SHARE * free else inference_dtype(artifact)
