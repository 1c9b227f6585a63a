"""REINFORCE with a leave-one-out baseline by TRL's RLOOTrainer, on prompts that are tokenized here."""

from __future__ import annotations

from trl import RLOOConfig, RLOOTrainer  # type: ignore[attr-defined]

from tuneforge import Adapter, Model, RewardAdapter, RewardModel, Step

from ..loop import Quiet
from . import engine
from .rloo import Rloo
from .rollouts import Rollouts


class _Trainer(Rollouts, Quiet, RLOOTrainer):
    pass


def align(options: Rloo, model: Model | Adapter, reward_model: RewardModel | RewardAdapter | None, step: Step) -> None:
    """Fits `model` to its rewards and writes what comes of it into `step.out`."""
    clip = options.clip_rewards
    engine.align(
        options,
        model,
        reward_model,
        step,
        _Trainer,
        RLOOConfig,
        **engine.of_groups(options),
        beta=options.beta,
        normalize_advantages=options.normalize_advantages,
        reward_clip_range=None if clip is None else (-clip, clip),
    )
