"""What the processes of one training do together: each takes its share of every batch, and rank 0 decides."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate.data_loader import prepare_data_loader
from datasets import Dataset
from torch.utils.data import DataLoader, Sampler

from tuneforge import Step
from tuneforge.kit.chats import IGNORED

from .. import checkpoints

Row = dict[str, Any]


class Spread:
    """A trainer whose ranks together learn from the very rows that one process would, in the same steps.

    accelerate would repeat rows of the beginning where the last step of an epoch does not fill all ranks.
    """

    args: Any
    train_dataset: Any
    eval_dataset: Any
    data_collator: Any

    def blank(self, row: Row) -> Row:
        """A row in place of one that is not there, from which nothing is learnt: this one without labels."""
        return row | {"labels": [IGNORED] * len(row["input_ids"])}

    def get_train_dataloader(self) -> Any:
        if self.args.world_size == 1:
            return super().get_train_dataloader()  # type: ignore[misc]
        rows: Any = _Rows(self._used(self.train_dataset), self.blank)
        share = Share(
            len(self.train_dataset),
            micro=self.args.per_device_train_batch_size,
            accumulated=self.args.gradient_accumulation_steps,
            rank=self.args.process_index,
            world_size=self.args.world_size,
            seed=self.args.seed,
        )
        return self._here(DataLoader(rows, batch_sampler=share, collate_fn=self.data_collator))

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """Held-out rows are few: every rank measures all of them, so that all know the figures."""
        if self.args.world_size == 1:
            return super().get_eval_dataloader(eval_dataset)  # type: ignore[misc]
        rows: Any = self._used(self.eval_dataset if eval_dataset is None else eval_dataset)
        size = self.args.per_device_eval_batch_size
        return self._here(DataLoader(rows, batch_size=size, collate_fn=self.data_collator))

    def _used(self, rows: Any) -> Any:
        if not isinstance(rows, Dataset):
            return rows
        return self._remove_unused_columns(rows, description="rows")  # type: ignore[attr-defined]

    def _here(self, loader: Any) -> Any:
        """Batches on this rank's device, as they are: shared out they are already."""
        return prepare_data_loader(loader, self.args.device, num_processes=1, process_index=0, put_on_device=True)


class Share(Sampler[list[int]]):
    """The micro batches of one rank, by row numbers; a number that is too large by all rows stands for a blank row.

    In each step the ranks have as many micro batches of as many rows each, which is what collectives ask for. The order
    is the one in which accelerate has one process take them.
    """

    batch_size = 1  # accelerate takes off what is beyond a multiple of it, and nothing here is

    def __init__(self, rows: int, *, micro: int, accumulated: int, rank: int, world_size: int, seed: int) -> None:
        self._rows, self._micro, self._accumulated = rows, micro, accumulated
        self._rank, self._world_size = rank, world_size
        self._seed, self._epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        whole, rest = divmod(self._rows, self._micro * self._accumulated * self._world_size)
        return whole * self._accumulated + self._micro_batches(rest)

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.randperm(self._rows, generator=torch.Generator().manual_seed(self._seed + self._epoch)).tolist()
        self._epoch += 1
        batch = self._micro * self._accumulated * self._world_size
        for start in range(0, self._rows, batch):
            rows = order[start : start + batch]
            count = self._micro_batches(len(rows))
            size = math.ceil(len(rows) / (count * self._world_size))
            rows += [self._rows + rows[0]] * (count * self._world_size * size - len(rows))
            for number in range(count):
                at = (number * self._world_size + self._rank) * size
                yield rows[at : at + size]

    def _micro_batches(self, rows: int) -> int:
        return math.ceil(rows / (self._micro * self._world_size))


class _Rows:
    def __init__(self, rows: Any, blank: Callable[[Row], Row]) -> None:
        self._rows, self._blank = rows, blank

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Row:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[Row]:
        there = len(self._rows)
        rows = self._rows.__getitems__([index % there for index in indices])
        return [self._blank(row) if index >= there else row for index, row in zip(indices, rows, strict=True)]


def agreed(value: Any) -> Any:
    """Rank 0's value, on every rank: what depends on a clock or a disk must not be decided by each."""
    if not spread():
        return value
    told = [value]
    dist.broadcast_object_list(told)
    return told[0]


def total(value: float) -> float:
    """The sum of the ranks' values."""
    if not spread():
        return value
    told: list[float] = [0.0] * dist.get_world_size()
    dist.all_gather_object(told, value)
    return math.fsum(told)


def gathered(values: Mapping[str, list[float]]) -> dict[str, list[float]]:
    """The ranks' lists by name, one after the other; not every rank need have every name."""
    if not spread():
        return dict(values)
    told: list[Mapping[str, list[float]]] = [{}] * dist.get_world_size()
    dist.all_gather_object(told, dict(values))
    names = dict.fromkeys(name for theirs in told for name in theirs)
    return {name: [value for theirs in told for value in theirs.get(name, ())] for name in names}


def met() -> None:
    """Waits until every rank is here."""
    if spread():
        dist.barrier()


def spread() -> bool:
    """Whether there are other ranks."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def newest_checkpoint(folder: Path, step: Step) -> Path | None:
    """The newest whole checkpoint, as rank 0 finds it: others would find what it is removing."""
    found: Path | None = agreed(checkpoints.newest(folder, step.log) if step.rank == 0 else None)
    return found


def finish_checkpoint(checkpoint: Path) -> None:
    """Marks a checkpoint as finished once every rank has written its part."""
    met()
    if not spread() or dist.get_rank() == 0:
        checkpoints.finish(checkpoint)


def whole_state(trainer: Any) -> Mapping[str, torch.Tensor] | None:
    """All weights, on rank 0, where no process holds them all; None where the model itself has them.

    Every rank takes part.
    """
    if not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        return None
    state: Mapping[str, torch.Tensor] = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    return state
