"""The model, tokenizer and adapter that a training begins with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from tuneforge import Adapter, Model, Step, StepError
from tuneforge.artifacts import read_json
from tuneforge.kit.chats import stop_tokens
from tuneforge.kit.folders import stored_stops
from tuneforge.kit.models import full_model, load_model, load_tokenizer, tokenizer_folder

from .adapters.engine import Adapted, Making, adapted
from .adapters.process import Process
from .layers.parameters import freeze
from .options import Training
from .settings import compute_dtype
from .speed.acceleration import speed_up
from .spread.strategies import Ddp


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


def load_for_training(
    model: Model | Adapter,
    options: Training,
    step: Step,
    steps: int,
    *,
    task: str = "CAUSAL_LM",
    load: Callable[..., Any] = load_model,
) -> Adapted:
    """The model to be trained in `steps` steps, and the adapter that it gets, if any.

    Weights that change are float32: steps of training are too small for bfloat16. `task` is PEFT's task type, and
    `load` what loads the model, with the arguments of `load_model`.
    """
    new, place = options.adapter, placed(step)
    whole = new is None and isinstance(model, Model)
    dtype = torch.float32 if whole else compute_dtype(options)
    making = Making(
        task=task,
        steps=steps,
        tokenizer=tokenizer_folder(model),
        dtype=dtype,
        sharded=place is not None,
        warn=step.warn,
    )
    process = Process() if new is None else new.process(making)
    already = "quantization_config" in read_json(full_model(model).path / "config.json")
    quantization = None if already else process.quantization()
    loaded = load(model, dtype=dtype, trainable=True, on=place, quantization=quantization)
    freeze(loaded, options.freeze, step)
    speed_up(loaded, options)
    # Trainers change it and then cannot save it in a checkpoint; the result gets the original's.
    loaded.generation_config = GenerationConfig()
    return Adapted(loaded) if new is None else adapted(loaded, new, making, process)


def settle_stops(loaded: Any, model: Model | Adapter, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens at which answers end that a trainer draws: those of the model as it will be served, and the one that
    ends a turn. Trainers take them from what is `loaded`."""
    loaded.generation_config = GenerationConfig(eos_token_id=stored_stops(full_model(model).path) or None)
    stops = stop_tokens(loaded, tokenizer)
    loaded.generation_config.eos_token_id = stops
    return stops


def placed(step: Step) -> torch.device | None:
    """Where a model is loaded to: what is cut up among processes is brought to their GPUs a share at a time."""
    return None if step.launch is None or isinstance(step.launch.strategy, Ddp) else torch.device("cpu")


def longest_row(model: Model | Adapter, options: Training) -> int:
    """The longest row in tokens: as set, else by the model's context."""
    return options.longest(read_json(full_model(model).path / "config.json"))
