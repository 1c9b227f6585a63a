"""What can be known to go wrong before PPO starts, from configurations and tensor headers alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tuneforge import Adapter, Facts, Finding, Known, RewardAdapter
from tuneforge.artifacts import context_length
from tuneforge.kit.adapters import is_prompt, peft_type
from tuneforge.kit.monitor.options import check_monitor
from tuneforge.kit.vocabularies import same_vocabulary

if TYPE_CHECKING:
    from .ppo import Ppo

_WHITENED = 8
"""Answers of a mini batch that TRL asks for before it scales rewards by their variance."""


def check(options: Ppo, facts: Known) -> Iterator[Finding]:
    """Findings on the monitor, on how a step is split up, and on the models."""
    yield from check_monitor(options.monitor)
    if options.batch_size % options.mini_batches:
        yield Finding(
            f"batch_size {options.batch_size} does not divide into {options.mini_batches} mini batches",
            "Make mini_batches a divisor of batch_size.",
            field="mini_batches",
        )
        return
    if options.mini_batch % options.micro_batch:
        yield Finding(
            f"a mini batch of {options.mini_batch} cannot be made of micro batches of {options.micro_batch}",
            f"Make micro_batch_size a divisor of {options.mini_batch}, which is batch_size over mini_batches.",
            field="micro_batch_size",
        )
    if options.whiten_rewards and options.mini_batch < _WHITENED:
        yield Finding(
            f"the variance of the rewards of {options.mini_batch} answers says little",
            f"Leave whiten_rewards out, or have {_WHITENED} answers in a mini batch.",
            field="whiten_rewards",
        )
    models, rewards = facts.get("model", ()), facts.get("reward_model", ())
    for given in models:
        yield from _check_policy(options, given)
    for given in rewards:
        yield from _check_reward(given)
        for policy in models:
            yield from _check_alike(policy, given)


def _check_policy(options: Ppo, given: Facts) -> Iterator[Finding]:
    if given.tokenizer is not None and given.template is None:
        yield Finding(
            "the model has no chat template, so prompts cannot be written as it would read them",
            "Take the model after SFT, or add a chat_template.jinja to its folder.",
        )
    if given.kind is Adapter and is_prompt(peft_type(given.config)):
        yield Finding(
            f"the adapter is a prompt ({peft_type(given.config)}), beside which TRL reads answers at the wrong places",
            "Take an adapter on layers, such as lora.",
        )
    if given.kind is not Adapter and "quantization_config" in given.config:
        yield Finding(
            "a quantized model cannot be trained as a whole",
            "Train an adapter on it first (train: sft with adapter: {type: lora}).",
        )
    context = context_length(given.model.config)
    if context is not None and options.max_new_tokens + (options.max_length or 1) > context:
        yield Finding(
            f"prompts and answers of {options.max_length or 1} and {options.max_new_tokens} tokens do not fit into the "
            f"model's context of {context}",
            "Set max_new_tokens lower." if options.max_length is None else "Set max_length or max_new_tokens lower.",
            field="max_new_tokens",
        )


def _check_reward(given: Facts) -> Iterator[Finding]:
    if given.kind is RewardAdapter and is_prompt(peft_type(given.config)):
        yield Finding(
            f"the reward model is a prompt ({peft_type(given.config)}), and a value model cannot begin as one",
            "Take a reward model, or one with an adapter on layers, such as lora.",
        )


def _check_alike(policy: Facts, reward: Facts) -> Iterator[Finding]:
    if not same_vocabulary(policy, reward):
        yield Finding(
            "the model and the reward model have different vocabularies, and the value model, which begins as the "
            "reward model, reads the very tokens that the model writes",
            "Train the reward model from the same base as the model.",
        )
