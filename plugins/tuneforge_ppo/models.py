"""The models that PPO works with: the policy and its reference, the value model and the reward model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import GenerationConfig

from tuneforge import Adapter, Model, RewardAdapter, RewardModel, Step
from tuneforge.kit.models import device, load_model, load_tokenizer
from tuneforge.kit.rewards import load_reward_model

from .judge import Scorer
from .prompts import Prepared

if TYPE_CHECKING:
    from .ppo import Ppo

REFERENCE = "reference"
"""The adapter that stays as the trained one came in."""

_VALUE = "value"


@dataclass
class Cast:
    """Who takes part. `reference` is None where it is an adapter of the policy, of the name REFERENCE."""

    policy: Any
    reference: Any
    critic: Critic
    scorer: Scorer


class Critic(nn.Module):
    """A value model as TRL's trainer takes it: a backbone, and the head by which every token is given a value."""

    base_model_prefix = "backbone"

    def __init__(self, reward_model: Any) -> None:
        super().__init__()
        inner = reward_model.get_base_model() if hasattr(reward_model, "get_base_model") else reward_model
        self.backbone = getattr(inner, inner.base_model_prefix)
        self.score = inner.score


def compute_dtype(options: Ppo) -> torch.dtype:
    """As set, else bfloat16 where the GPU computes in it, else float32."""
    if options.precision != "auto":
        return torch.bfloat16 if options.precision == "bf16" else torch.float32
    supported = device().type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if supported else torch.float32


def load_cast(
    options: Ppo, model: Model | Adapter, reward_model: RewardModel | RewardAdapter, known: Prepared, step: Step
) -> Cast:
    """Loads them. Weights that change are float32, the others are in the precision that is computed in.

    A full policy has a second copy of itself as its reference, an adapter one of its own; a reward model that is an
    adapter shares its base with the value model.
    """
    dtype = compute_dtype(options)
    whole = isinstance(model, Model)
    policy: Any = load_model(model, dtype=torch.float32 if whole else dtype, trainable=True)
    # Answers end where TRL cuts them off, and are padded by what it takes for padding; nothing else counts of it.
    inner = policy if whole else policy.get_base_model()
    inner.generation_config = GenerationConfig(eos_token_id=known.stop, pad_token_id=known.padding)
    reference = load_model(model, dtype=dtype) if whole else None
    if not whole:
        policy.load_adapter(model.path, REFERENCE)
        policy.set_adapter("default")
    critic, scorer = _load_critic(reward_model, dtype)
    for part in (policy, critic):
        for weight in part.parameters():
            if weight.requires_grad:
                weight.data = weight.data.to(torch.float32)
    trained = sum(weight.numel() for weight in policy.parameters() if weight.requires_grad)
    step.metrics(
        trainable_parameters=trained,
        value_parameters=sum(weight.numel() for weight in critic.parameters() if weight.requires_grad),
    )
    return Cast(policy, reference, critic, scorer)


def _load_critic(reward_model: RewardModel | RewardAdapter, dtype: torch.dtype) -> tuple[Critic, Scorer]:
    tokenizer = load_tokenizer(reward_model)
    judging: Any = load_reward_model(reward_model, dtype=dtype)
    if isinstance(reward_model, RewardAdapter):
        judging.load_adapter(reward_model.path, _VALUE, is_trainable=True)
        judging.set_adapter(_VALUE)
        return Critic(judging), Scorer(judging, tokenizer, "default", _VALUE)
    judging.requires_grad_(False)
    learning = load_reward_model(reward_model, dtype=torch.float32)
    return Critic(learning.requires_grad_(True)), Scorer(judging, tokenizer)
