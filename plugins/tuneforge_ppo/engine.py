"""PPO by TRL's PPOTrainer, fed with what is tokenized here, from its answers' ends to its scores."""

from __future__ import annotations

import math
import os
from typing import Any

import torch
from datasets import disable_progress_bars
from transformers import PrinterCallback
from trl.experimental.ppo import PPOConfig, PPOTrainer

from tuneforge import Adapter, Model, RewardAdapter, RewardModel, Step
from tuneforge.kit.chats import terminator
from tuneforge.kit.models import (
    device,
    full_model,
    load_tokenizer,
    save_adapter,
    save_model,
    stored_dtype,
    tokenizer_folder,
)

from .judge import Judge
from .models import REFERENCE, Cast, compute_dtype, load_cast
from .ppo import Ppo
from .prompts import Prepared, read_prompts
from .rollouts import Rollouts
from .watch import HeldOut, Watch

_ROLLOUT = 64
"""Answers that are sampled at once."""


class _Trainer(PPOTrainer):  # type: ignore[misc]
    watch: Watch

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        self.watch.tell(logs, self.state)


class _Tokens:
    """All that the trainer asks of a tokenizer: a copy with other special tokens would tokenize otherwise."""

    def __init__(self, known: Prepared) -> None:
        self.pad_token_id, self.eos_token_id = known.padding, known.stop


def align(options: Ppo, model: Model | Adapter, reward_model: RewardModel | RewardAdapter, step: Step) -> None:
    """Fits `model` to the scores of its own answers and writes what comes of it into `step.out`."""
    _settle(step)
    known = read_prompts(step)
    tokenizer = load_tokenizer(model)
    steps = options.steps or math.ceil(options.epochs * len(known.train) / options.batch_size)
    step.metrics(prompts=len(known.train), left_out=known.left_out, steps=steps)
    cast = load_cast(options, model, reward_model, known, step)
    judge = Judge(cast.scorer, tokenizer, known.stop)
    prompts = [known.held_out[index] for index in range(len(known.held_out))]
    held_out = HeldOut(prompts, cast.policy, tokenizer, cast.scorer, options.max_new_tokens) if prompts else None
    watch = Watch(options, step, judge, held_out)
    trainer = _make_trainer(options, cast, judge, known, watch, steps, step)
    with torch.autocast(device().type, torch.bfloat16, enabled=compute_dtype(options) is torch.bfloat16):
        trainer.train()
    _save(cast.policy, model, step)


def _settle(step: Step) -> None:
    """Settles what a training's numbers depend on besides its options."""
    # One process on one GPU.
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    disable_progress_bars()
    torch.set_num_threads(step.threads)
    if device().type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)


def _make_trainer(
    options: Ppo, cast: Cast, judge: Judge, known: Prepared, watch: Watch, steps: int, step: Step
) -> _Trainer:
    adapter = cast.reference is None
    micro = options.micro_batch
    args = PPOConfig(
        output_dir=str(step.scratch / "trainer"),
        seed=step.seed,
        total_episodes=steps * options.batch_size,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=options.batch_size // micro,
        num_mini_batches=options.mini_batches,
        num_ppo_epochs=options.passes,
        local_rollout_forward_batch_size=min(_ROLLOUT, options.batch_size),
        learning_rate=options.learning_rate or (1e-5 if adapter else 3e-6),
        lr_scheduler_type={"constant": "constant_with_warmup"}.get(options.schedule, options.schedule),
        warmup_steps=int(options.warmup * steps),
        weight_decay=0.0,
        response_length=options.max_new_tokens,
        temperature=options.temperature,
        stop_token_id=known.stop,
        missing_eos_penalty=options.missing_eos_penalty,
        kl_coef=options.kl_coef,
        kl_estimator=options.kl_estimator,
        cliprange=options.clip_range,
        cliprange_value=options.value_clip_range,
        vf_coef=options.value_coef,
        gamma=options.gamma,
        lam=options.lam,
        whiten_rewards=options.whiten_rewards,
        model_adapter_name="default" if adapter else None,
        ref_adapter_name=REFERENCE if adapter else None,
        num_sample_generations=0,
        # All is computed under one autocast: what is sampled must have the probabilities that it is learnt from with.
        bf16=False,
        use_cpu=device().type == "cpu",
        gradient_checkpointing=False,
        save_strategy="no",
        eval_strategy="no",
        disable_tqdm=True,
        report_to="none",
    )
    trainer = _Trainer(
        args=args,
        processing_class=_Tokens(known),
        model=cast.policy,
        ref_model=cast.reference,
        reward_model=judge,
        value_model=cast.critic,
        train_dataset=known.train,
        data_collator=list,
        callbacks=[watch],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.watch = watch
    watch.trainer = trainer
    # Its own data loader draws from the random numbers that answers are drawn from, and cannot begin in the middle.
    trainer.dataloader = Rollouts(
        known.train, judge, batch_size=options.batch_size, seed=step.seed, padding=known.padding
    )
    # TRL accumulates gradients over all of a batch, whatever its mini batches, and so updates once a pass.
    trainer.accelerator.gradient_accumulation_steps = options.mini_batch // micro
    trainer.accelerator.print = lambda *_: None
    return trainer


def _save(policy: Any, model: Model | Adapter, step: Step) -> None:
    """Writes the result: an adapter where one was trained, else the whole model as the given one was stored."""
    base, tokenizer = full_model(model), tokenizer_folder(model)
    if isinstance(model, Adapter):
        save_adapter(policy, tokenizer, step.out, base)
        step.sits_on(base)
        return
    stop = terminator(load_tokenizer(model))
    save_model(policy, tokenizer, step.out, stored_dtype(model), like=base.path, terminator=stop)
