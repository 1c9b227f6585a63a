"""What the options of `speed` do to a model."""

from __future__ import annotations

from typing import Any

import torch
from transformers.utils.import_utils import is_flash_attn_2_available, is_flash_attn_3_available

from tuneforge import StepError
from tuneforge.kit.models import device

from ..options import Training
from ..settings import compute_dtype


def speed_up(model: Any, options: Training) -> None:
    """Has a loaded model attend as the options say, and its layers compiled if they say so.

    Raises StepError for what this machine does not have.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if device().type != "cuda":
        for name, wanted in (("liger", options.liger), ("attention", options.attention.startswith("flash"))):
            if wanted:
                raise StepError(f"{name} as set needs a GPU, and there is none", f"Leave {name} out.")
    attention = _attention(base, options)
    if attention is not None:
        base.set_attn_implementation(attention)
    if options.compile:
        # Layer by layer: all share one graph, which is compiled once, and nothing is wrapped that checkpoints name.
        names = set(base._no_split_modules or ())
        for module in base.modules():
            if type(module).__name__ in names:
                module.compile()


def is_flash(model: Any) -> bool:
    """Whether a model attends by flash attention, which takes rows of all lengths one after the other."""
    return str(model.config._attn_implementation).startswith("flash")


def _attention(model: Any, options: Training) -> str | None:
    """None: what transformers has chosen, sdpa where the model has it."""
    if options.attention != "auto":
        return options.attention
    # Flash attention computes in half precision alone.
    if compute_dtype(options) is torch.float32 or not model._supports_flash_attn:
        return None
    if is_flash_attn_3_available():
        return "flash_attention_3"
    return "flash_attention_2" if is_flash_attn_2_available() else None
