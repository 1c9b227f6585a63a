"""Which prompts are answered together, and in which order."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice

import torch
from torch.utils.data import Sampler


class Rounds(Sampler[int]):
    """The prompts of a whole training, a round of answers after the other, as TRL's trainers want them.

    Each round has the next `prompts` rows of shuffles without an end, so that none is left out where a shuffle does not
    fill its last round, and a training that goes on from a checkpoint finds the order that it had. A row is given
    `generations` times in a row, and a round `repeats` times: once for every micro batch that its answers are used in.
    """

    def __init__(self, rows: int, *, prompts: int, generations: int, repeats: int, rounds: int, seed: int) -> None:
        self._rows, self._prompts, self._generations = rows, prompts, generations
        self._repeats, self._rounds, self._seed = repeats, rounds, seed

    def __len__(self) -> int:
        return self._rounds * self._repeats * self._prompts * self._generations

    def __iter__(self) -> Iterator[int]:
        order = self._order()
        for _ in range(self._rounds):
            chosen = list(islice(order, self._prompts))
            for _ in range(self._repeats):
                for row in chosen:
                    yield from [row] * self._generations

    def _order(self) -> Iterator[int]:
        for shuffle in count():
            generator = torch.Generator().manual_seed(self._seed + shuffle)
            yield from torch.randperm(self._rows, generator=generator).tolist()
