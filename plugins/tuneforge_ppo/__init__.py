"""Reinforcement learning from a reward model by PPO, with the last TRL that has it."""

from tuneforge import Align, hookimpl

from .ppo import Ppo


@hookimpl
def register_align() -> list[type[Align]]:
    return [Ppo]
