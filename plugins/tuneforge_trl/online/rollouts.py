"""What TRL's online trainers are made to do otherwise: prompts that are tokens, an order and answers that survive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from .. import checkpoints
from ..spread.ranks import Spread
from .rounds import Rounds

_ANSWERS = "answers-{}.pt"
"""In a checkpoint: the answers of a rank that are still to be learnt from, where it lies between two rounds of them."""


class Rollouts:
    """A trainer's part: its rows have `prompt`, token ids, and `told`, what a judge is told of the row."""

    args: Any
    watch: Any
    _step: int
    _buffered_inputs: Any

    def _tokenize_prompts(self, prompts: list[list[int]]) -> tuple[list[list[int]], None, dict[str, Any]]:
        """They are what the model was tuned on: to render them here once more could only make them other ones."""
        return prompts, None, {}

    def get_train_dataloader(self) -> Any:
        """As TRL has it, which gives each rank its share of every round."""
        return super(Spread, self).get_train_dataloader()  # type: ignore[misc]

    def _get_train_sampler(self, dataset: Any = None) -> Rounds:
        args = self.args
        rows = self.train_dataset if dataset is None else dataset  # type: ignore[attr-defined]
        batches = args.max_steps * args.gradient_accumulation_steps
        return Rounds(
            len(rows),
            prompts=args.generation_batch_size // args.num_generations,
            generations=args.num_generations,
            repeats=self._uses,
            rounds=-(-batches // self._uses),
            seed=args.seed,
        )

    @property
    def _uses(self) -> int:
        """The micro batches that learn from one round of answers."""
        return int(self.args.steps_per_generation * self.args.num_iterations)

    def get_batch_samples(self, *args: Any) -> Any:
        found = super().get_batch_samples(*args)  # type: ignore[misc]
        self._seen: tuple[Any, Any] = (0, 0)
        return found

    def compute_loss(self, model: Any, inputs: dict[str, torch.Tensor], *args: Any, **more: Any) -> Any:
        if self.watch is not None:
            answers = inputs["completion_mask"].sum()
            tokens, under_loss = self._seen
            self._seen = tokens + inputs["prompt_mask"].sum() + answers, under_loss + answers
            self.watch.count(*self._seen)
        return super().compute_loss(model, inputs, *args, **more)  # type: ignore[misc]

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)  # type: ignore[misc]
        if self._step % self._uses:
            steps = self.state.global_step  # type: ignore[attr-defined]
            folder = Path(self.args.output_dir) / f"checkpoint-{steps}"
            torch.save(self._buffered_inputs, folder / _ANSWERS.format(self.args.process_index))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc]
        if checkpoint is None:
            return
        # TRL would begin to count anew, and draw other answers in the middle of a round.
        self._step = checkpoints.steps(Path(checkpoint)) * self.args.gradient_accumulation_steps
        answers = Path(checkpoint) / _ANSWERS.format(self.args.process_index)
        if answers.exists():
            kept = torch.load(answers, map_location="cpu", weights_only=True)
            self._buffered_inputs = [
                {name: tensor.to(self.args.device) for name, tensor in batch.items()} for batch in kept
            ]
