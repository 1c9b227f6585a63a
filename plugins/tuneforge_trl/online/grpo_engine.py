"""Group relative policy optimization by TRL's GRPOTrainer, on prompts that are tokenized here."""

from __future__ import annotations

from trl import GRPOConfig, GRPOTrainer  # type: ignore[attr-defined]

from tuneforge import Adapter, Model, RewardAdapter, RewardModel, Step

from ..loop import Quiet
from . import engine
from .grpo import Grpo
from .rollouts import Rollouts

_CISPO = 5.0
"""Khatri et al. 2025, https://arxiv.org/abs/2510.13786"""


class _Trainer(Rollouts, Quiet, GRPOTrainer):
    pass


def align(options: Grpo, model: Model | Adapter, reward_model: RewardModel | RewardAdapter | None, step: Step) -> None:
    """Fits `model` to its rewards and writes what comes of it into `step.out`."""
    engine.align(
        options,
        model,
        reward_model,
        step,
        _Trainer,
        GRPOConfig,
        **engine.of_groups(options),
        loss_type=options.loss,
        beta=options.beta,
        epsilon_high=options.epsilon_high or (_CISPO if options.loss == "cispo" else None),
        scale_rewards=options.scale_rewards,
        importance_sampling_level=options.importance_sampling,
    )
