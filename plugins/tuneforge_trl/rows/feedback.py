"""Answers with a thumb up or down: out of data of both kinds, beside answers to other prompts, in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, groupby

import torch
from torch.nn.utils.rnn import pad_sequence

from tuneforge import FeedbackData, PreferenceData
from tuneforge.kit.rows import Split, read_rows

from .tokens import Columns, Row


def judged(data: FeedbackData | PreferenceData, split: Split) -> Iterator[Row]:
    """Rows with prompt, answer, label and tools; of each preference pair, one that is good and one that is not."""
    for row in read_rows(data, split):
        if isinstance(data, FeedbackData):
            yield row
            continue
        for side, label in (("chosen", True), ("rejected", False)):
            yield {"prompt": row["prompt"], "answer": row[side], "label": label, "tools": row.get("tools")}


def beside_others(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows, each with `other`: an answer to the next prompt, and for those of the last prompt to the first one."""
    groups = (list(group) for _, group in groupby(rows, lambda row: row["prompt"]))
    first = group = next(groups, [])
    for following in chain(groups, [first]):
        for place, row in enumerate(group):
            yield {**row, "other": following[place % len(following)]["answer"]}
        group = following


class FeedbackCollator:
    """Answers as one batch, padded on the right; with prefix `other_`, the same prompts with other answers."""

    def __init__(self, padding: int) -> None:
        self._padding = padding

    def __call__(self, rows: list[Columns]) -> dict[str, torch.Tensor]:
        batch = self._padded(rows, "", "input_ids", "answer_mask")
        batch["blank"] = torch.tensor(["blank" in row for row in rows])
        batch["label"] = torch.tensor([bool(row["label"][0]) for row in rows])
        if "other" in rows[0]:
            batch |= self._padded(rows, "other_", "other", "other_mask")
        if "reference" in rows[0]:
            for place, name in enumerate(("reference", "other_reference")[: len(rows[0]["reference"])]):
                batch[name] = torch.tensor([row["reference"][place] for row in rows])
        return batch

    def _padded(self, rows: list[Columns], prefix: str, ids: str, mask: str) -> dict[str, torch.Tensor]:
        tokens = [torch.tensor(row[ids]) for row in rows]
        answers = [torch.tensor(row[mask]) for row in rows]
        return {
            f"{prefix}input_ids": pad_sequence(tokens, batch_first=True, padding_value=self._padding),
            f"{prefix}attention_mask": pad_sequence([torch.ones_like(row) for row in tokens], batch_first=True),
            f"{prefix}completion_mask": pad_sequence(answers, batch_first=True),
        }
