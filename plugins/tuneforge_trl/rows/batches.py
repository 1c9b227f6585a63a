"""Which rows are in memory together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from accelerate.data_loader import SeedableRandomSampler
from torch.utils.data import Sampler


class ByLength(Sampler[int]):
    """Rows in the order of a random sampler, those of each optimisation step from the longest to the shortest.

    What a step learns from stays as it was, and its micro batches hold little padding. The longest come first, so that
    memory is short at the beginning or not at all; processes take micro batches in turns, and get about as much each.
    """

    def __init__(self, sampler: SeedableRandomSampler, lengths: Sequence[int], batch_size: int) -> None:
        self._sampler, self._lengths, self._batch_size = sampler, lengths, batch_size

    def __iter__(self) -> Iterator[int]:
        rows = iter(self._sampler)
        while batch := list(islice(rows, self._batch_size)):
            yield from sorted(batch, key=lambda row: -self._lengths[row])

    def __len__(self) -> int:
        return len(self._sampler)

    def set_epoch(self, epoch: int) -> None:
        self._sampler.set_epoch(epoch)


class Grouped:
    """A Trainer's part that takes the rows of a step by their lengths, which are to be set before it trains."""

    row_lengths: Sequence[int]

    def _get_train_sampler(self, train_dataset: Any = None) -> ByLength:
        args: Any = self.args  # type: ignore[attr-defined]
        rows = self.train_dataset if train_dataset is None else train_dataset  # type: ignore[attr-defined]
        # The very order that the Trainer's own sampler gives once it is prepared.
        order = SeedableRandomSampler(rows, data_seed=args.seed)
        batch_size = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        return ByLength(order, self.row_lengths, batch_size)
