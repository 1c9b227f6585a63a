"""The model, tokenizer and adapter that a training begins with."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig, PeftModel
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from tuneforge import Adapter, Model, StepError
from tuneforge.artifacts import read_json
from tuneforge.kit.models import full_model, load_model, load_tokenizer

from .acceleration import speed_up
from .options import Lora, Training
from .settings import compute_dtype


def padding_tokenizer(model: Model | Adapter) -> PreTrainedTokenizerBase:
    """The tokenizer, with a token to pad by: its end-of-text token where it has no other."""
    tokenizer = load_tokenizer(model)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise StepError(
            "the tokenizer has neither a padding nor an end-of-text token",
            "Name one as pad_token in the model's tokenizer_config.json.",
        )
    return tokenizer


def load_for_training(model: Model | Adapter, options: Training) -> PreTrainedModel | PeftModel:
    """The model to be trained. Weights that change are float32: steps of training are too small for bfloat16."""
    whole = options.adapter is None and isinstance(model, Model)
    loaded: Any = load_model(model, dtype=torch.float32 if whole else compute_dtype(), trainable=True)
    speed_up(loaded, options)
    # Trainers change it and then cannot save it in a checkpoint; the result gets the original's.
    loaded.generation_config = GenerationConfig()
    return loaded  # type: ignore[no-any-return]


def longest_row(model: Model | Adapter, options: Training) -> int:
    """The longest row in tokens: as set, else by the model's context."""
    return options.longest(read_json(full_model(model).path / "config.json"))


def lora_config(adapter: Lora | None) -> LoraConfig | None:
    """PEFT's settings for the `adapter:` block; None where there is none."""
    if adapter is None:
        return None
    auto = adapter.target_modules == "auto"
    return LoraConfig(
        task_type="CAUSAL_LM",
        peft_type=adapter.type.upper(),
        r=adapter.r,
        lora_alpha=adapter.scale,
        lora_dropout=adapter.dropout,
        target_modules="all-linear" if auto else list(adapter.target_modules),
    )
