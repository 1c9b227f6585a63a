"""Online direct preference optimization: pairs that TRL's GRPOTrainer draws and rewards, and the losses of DPO."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn.functional import logsigmoid
from trl import GRPOConfig, GRPOTrainer  # type: ignore[attr-defined]
from trl.trainer.utils import split_tensor_dict

from tuneforge import Adapter, Model, RewardAdapter, RewardModel, Step

from ..loop import Quiet
from . import engine
from .online_dpo import OnlineDpo
from .rollouts import Rollouts

LOSSES: Mapping[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "sigmoid": lambda margins, beta: -logsigmoid(beta * margins),
    "hinge": lambda margins, beta: torch.relu(1 - beta * margins),
    "ipo": lambda margins, beta: (margins - 1 / (2 * beta)) ** 2,
}
"""The loss of each pair by its margin: by how much more likely the model makes the better answer than the worse one,
both against the reference, in nats; with ipo, in nats a token."""


class _Trainer(Rollouts, Quiet, GRPOTrainer):
    """The two answers to a prompt are rows 2 i and 2 i + 1 of a batch, and stay so."""

    loss: str

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        if self._step % self._uses == 0 or self._buffered_inputs is None:
            answers = self._generate_and_score_completions(generation_batch)
            self._buffered_inputs = split_tensor_dict(answers, self._uses)
        return self._buffered_inputs[self._step % self._uses]

    def _compute_loss(self, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        mask = inputs["completion_mask"]
        logps, entropies, _ = self._get_per_token_logps_and_entropies(
            model,
            torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1),
            torch.cat([inputs["prompt_mask"], mask], dim=1),
            mask.size(1),
            compute_entropy=True,
        )
        ratios = ((logps - inputs["ref_per_token_logps"]) * mask).sum(1)
        scores = ratios / mask.sum(1) if self.loss == "ipo" else ratios
        # An answer's advantage is its reward less the mean of both; of equally good ones it is zero.
        advantages = inputs["advantages"].view(-1, 2)
        decided = advantages[:, 0] != advantages[:, 1]
        chosen = advantages.argmax(1, keepdim=True)
        better, worse = _sides(scores, chosen)
        losses = LOSSES[self.loss](better - worse, self.beta)
        self._tell("entropy", (entropies * mask).sum() / mask.sum())
        self._tell("kl", ratios.sum() / mask.sum())
        if decided.any():
            margins = (better - worse)[decided]
            self._tell("rewards/accuracies", (margins > 0).float().mean())
            self._tell("rewards/margins", self.beta * margins.mean())
            for name, answers in zip(("chosen", "rejected"), _sides((logps * mask).sum(1), chosen), strict=True):
                self._tell(f"logps/{name}", answers[decided].mean())
        return (losses * decided).mean() / self.current_gradient_accumulation_steps

    def _tell(self, name: str, value: torch.Tensor) -> None:
        self._metrics["train"][name].append(value.item())


def _sides(values: torch.Tensor, chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the values of answers, those of the better and those of the worse one of each pair."""
    pairs = values.view(-1, 2)
    return pairs.gather(1, chosen).squeeze(1), pairs.gather(1, 1 - chosen).squeeze(1)


def align(
    options: OnlineDpo, model: Model | Adapter, reward_model: RewardModel | RewardAdapter | None, step: Step
) -> None:
    """Fits `model` to what its rewards prefer and writes what comes of it into `step.out`."""
    trainer = type("_OfLoss", (_Trainer,), {"loss": options.loss})
    engine.align(options, model, reward_model, step, trainer, GRPOConfig, beta=options.beta, scale_rewards="none")
