"""Prefix tuning, prompt tuning and p-tuning in PEFT's terms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import (
    PeftConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    PromptTuningInit,
    get_peft_model_state_dict,
)
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from .engine import Making
from .process import Process
from .prompts import Prefix, Prompt, PTuning

_ENCODER = "prompt_encoder.safetensors"


def prefix_config(options: Prefix, making: Making) -> PrefixTuningConfig:
    """A prefix of keys and values that are trained themselves."""
    return PrefixTuningConfig(task_type=making.task, num_virtual_tokens=options.tokens)


def prompt_config(options: Prompt, making: Making) -> PromptTuningConfig:
    """A prompt that begins as words: of a text, or drawn from the vocabulary."""
    if options.text is None:
        begin: dict[str, Any] = {"prompt_tuning_init": PromptTuningInit.SAMPLE_VOCAB}
    else:
        begin = {
            "prompt_tuning_init": PromptTuningInit.TEXT,
            "prompt_tuning_init_text": options.text,
            "tokenizer_name_or_path": str(making.tokenizer),
        }
    return PromptTuningConfig(task_type=making.task, num_virtual_tokens=options.tokens, **begin)


def p_tuning_config(options: PTuning, making: Making) -> PromptEncoderConfig:
    """A prompt written by an MLP."""
    width = options.hidden_size or making.model.config.get_text_config().hidden_size
    return PromptEncoderConfig(task_type=making.task, num_virtual_tokens=options.tokens, encoder_hidden_size=width)


class AsPrompt(Process):
    """Writes the vectors alone, without how they began: a path to a tokenizer is part of that."""

    def result(
        self, model: PeftModel, state: Mapping[str, torch.Tensor] | None
    ) -> tuple[PeftConfig, dict[str, torch.Tensor]]:
        own: Any = model.peft_config["default"]
        config = PromptTuningConfig(
            task_type=own.task_type,
            num_virtual_tokens=own.num_virtual_tokens,
            token_dim=own.token_dim,
            num_transformer_submodules=own.num_transformer_submodules,
            num_attention_heads=own.num_attention_heads,
            num_layers=own.num_layers,
        )
        return config, get_peft_model_state_dict(model, adapter_name="default", save_embedding_layers=False)


class ByEncoder(AsPrompt):
    """Keeps the network that writes the prompt in checkpoints, in which PEFT has what it writes alone."""

    def callbacks(self) -> list[TrainerCallback]:
        return [_EncoderKept()]


class _EncoderKept(TrainerCallback):
    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        inner = model if isinstance(model, PeftModel) else model.module
        self._encoder: Any = inner.prompt_encoder["default"]
        if state.global_step:
            folder = Path(args.output_dir or "") / f"checkpoint-{state.global_step}"
            self._encoder.load_state_dict(load_file(folder / _ENCODER))

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.is_world_process_zero:
            folder = Path(args.output_dir or "") / f"checkpoint-{state.global_step}"
            save_file(self._encoder.state_dict(), folder / _ENCODER)
