"""The prompts of each step, in an order that depends on the seed and the step alone."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from accelerate.utils import set_seed

from .judge import Judge
from .prompts import Prompts

_BETWEEN = 1_000_003
"""A prime between the seeds of recipes, so that steps of two of them do not share theirs."""


class Rollouts:
    """Batches of prompts for TRL's trainer, from the step after `done` on, without an end.

    Each epoch has its own order; a batch may begin in one and end in the next. Whatever is drawn in a step is drawn
    from a seed of that step, so that a training that was killed goes on with the very answers it would have had.
    """

    def __init__(self, prompts: Prompts, judge: Judge, *, batch_size: int, seed: int, padding: int) -> None:
        self._prompts, self._judge = prompts, judge
        self._batch_size, self._seed, self._padding = batch_size, seed, padding
        self.done = 0

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        while True:
            start = self.done * self._batch_size
            set_seed((self._seed * _BETWEEN + self.done) % 2**32)
            chosen = [self._prompts[self._at(place)] for place in range(start, start + self._batch_size)]
            width = max(len(prompt.ids) for prompt in chosen)
            ids = torch.full((len(chosen), width), self._padding)
            for row, prompt in enumerate(chosen):
                ids[row, width - len(prompt.ids) :] = torch.tensor(prompt.ids)
            self._judge.expect(chosen, width)
            self.done += 1
            yield {"input_ids": ids}

    def _at(self, place: int) -> int:
        epoch, within = divmod(place, len(self._prompts))
        if getattr(self, "_epoch", None) != epoch:
            self._epoch = epoch
            drawn = torch.Generator().manual_seed(self._seed + epoch)
            self._order = torch.randperm(len(self._prompts), generator=drawn).tolist()
        return int(self._order[within])
