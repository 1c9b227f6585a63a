"""What is told of a training while it goes on, and the checkpoints that it resumes from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedTokenizerBase, TrainerCallback

from tuneforge import Step, StepError
from tuneforge.kit.generation import generate
from tuneforge.kit.monitor.moments import Moment, Settings
from tuneforge.kit.monitor.monitor import Guard

from . import checkpoint
from .judge import Judge, Scorer
from .prompts import Prompt

if TYPE_CHECKING:
    from .ppo import Ppo

_AT_ONCE = 32
"""Held-out prompts that are answered at once."""


class HeldOut:
    """The mean reward of greedy answers to held-out prompts."""

    def __init__(
        self, prompts: Sequence[Prompt], policy: Any, tokenizer: PreTrainedTokenizerBase, scorer: Scorer, most: int
    ) -> None:
        self.prompts, self._policy, self._tokenizer, self._scorer, self._most = prompts, policy, tokenizer, scorer, most

    def measure(self) -> tuple[dict[str, float], list[str]]:
        """Figures, and the answers."""
        given = generate(self._policy, self._tokenizer, [prompt.ids for prompt in self.prompts], self._most, _AT_ONCE)
        texts = [answer.text for answer in given]
        scores = self._scorer(self.prompts, texts)
        return {
            "eval_reward": math.fsum(scores) / len(scores),
            "eval_answer_tokens": sum(answer.tokens for answer in given) / len(given),
        }, texts


class Watch(TrainerCallback):
    """Reports each step, measures on the way, saves checkpoints, and begins from one if it is there.

    TRL's trainer has no way to resume: it is told here, before its first step, that so many are done.
    """

    def __init__(self, options: Ppo, step: Step, judge: Judge, held_out: HeldOut | None) -> None:
        self._options, self._step, self._judge, self._held_out = options, step, judge, held_out
        self.trainer: Any = None
        self._norms: list[float] = []
        self._guard: Guard | None = None
        self._told: dict[str, Any] = {"moments": []}  # what later steps, and the record, must know of earlier ones

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.trainer.optimizer.optimizer.register_step_pre_hook(self._clip)
        settings = Settings(args.num_total_batches, args.learning_rate, self._options.max_grad_norm, loss_falls=False)
        self._guard = Guard(self._options.monitor, settings, self._step)
        found = checkpoint.find(self._step)
        if found is None:
            self._measure(0)
            return
        done, folder = found
        self._step.log(f"resuming after step {done}")
        checkpoint.restore(self.trainer, folder)
        self._told = checkpoint.told(folder)
        for moment in self._told["moments"]:
            self._guard.recall(_moment(*moment))
        state.global_step, state.episode = done, done * self._options.batch_size
        args.num_total_batches -= done
        self.trainer.dataloader.done = done

    def tell(self, metrics: Mapping[str, float], state: Any) -> None:
        """Is told what TRL has measured of a step. Raises StepError once that is no number any more."""
        figures = self._figures(metrics)
        for name in ("reward", "kl", "loss"):
            if not math.isfinite(figures[name]):
                raise StepError(
                    f"{name} is no finite number after step {state.global_step}",
                    "Lower learning_rate, or raise kl_coef; on a GPU, try precision: fp32.",
                )
        done, total = state.global_step, state.max_steps
        every = self._options.evaluate_every
        if done == total or (every and done % every == 0):
            figures |= self._measure(done)
        self._step.progress(done, total, **figures)
        if done % self._options.log_every == 0 or done == total:
            told = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in figures.items())
            self._step.log(f"step {done} of {total}: {told}")
        self._told["moments"].append((done, figures))
        assert self._guard is not None
        self._guard.see(_moment(done, figures))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % self._options.save_every == 0 and state.global_step < state.max_steps:
            checkpoint.save(self.trainer, state.global_step, self._told, self._step)

    def _figures(self, metrics: Mapping[str, float]) -> dict[str, float]:
        seen, options = self._judge.seen, self._options
        count = len(seen.scores)
        tokens = sum(seen.tokens) / count
        # Its means are over as many places for each mini batch as a whole batch fills.
        policy_loss, value_loss, clipped = (
            metrics[name] * options.mini_batches
            for name in ("loss/policy_avg", "loss/value_avg", "policy/clipfrac_avg")
        )
        figures = {
            "loss": policy_loss + options.value_coef * value_loss,
            "reward": math.fsum(seen.scores) / count,
            "kl": metrics["objective/kl"] / tokens,
            "entropy": metrics["objective/entropy"] / tokens,
            "answer_tokens": tokens,
            "finished": sum(seen.finished) / count,
            "value_loss": value_loss,
            "clipped": clipped,
            "learning_rate": metrics["lr"],
            "gradient_norm": math.fsum(self._norms) / len(self._norms),
        }
        self._norms.clear()
        return figures

    def _measure(self, done: int) -> dict[str, float]:
        """Measures held-out prompts, of which the first few are shown with their answers."""
        if self._held_out is None:
            return {}
        found, texts = self._held_out.measure()
        for prompt, text in zip(self._held_out.prompts[: self._options.samples], texts, strict=False):
            shown = prompt.messages[-1].get("content")
            self._step.sample(done, str(shown), text)
        self._told.setdefault("eval_reward_before", found["eval_reward"])
        self._step.metrics(eval_reward_before=self._told["eval_reward_before"], **found)
        return found

    def _clip(self, optimizer: Any, *_: Any) -> None:
        """TRL's PPO has a max_grad_norm, and does not look at it."""
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        self._norms.append(float(torch.nn.utils.clip_grad_norm_(weights, self._options.max_grad_norm)))


def _moment(done: int, figures: Mapping[str, float]) -> Moment:
    return Moment(done, figures["loss"], figures["learning_rate"], figures["gradient_norm"], figures=figures)
