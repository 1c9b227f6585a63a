"""Held-out prompts, answered on the way and rewarded as the others are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from datasets import Dataset

from tuneforge.kit.generation import greedy

from ..rows.tokens import lengths
from ..watching.evaluation import HeldOutRows
from .judge import Judge

HELD_OUT_PROMPTS = 128
"""Held-out prompts that a training is measured on at most: the standard error of a share is then 4 points or less."""


@dataclass(frozen=True)
class Answered(HeldOutRows):
    """The mean reward of the likeliest answers, of at most `most` tokens, to held-out prompts, `at_once` of them at a
    time."""

    judge: Judge
    most: int
    at_once: int

    goal: ClassVar = "reward"
    rises: ClassVar = True
    cost: ClassVar = 1.0  # at most: an answer that is learnt from is drawn, too

    def sizes(self, rows: Dataset) -> list[int]:
        return [prompt + self.most for prompt in lengths(rows, "prompt")]

    def measure(self, trainer: Any, count: int) -> dict[str, float]:
        rows = self.tokens.dataset
        told: list[str] = []
        answers: list[list[int]] = []
        for start in range(0, count, self.at_once):
            batch = rows[start : min(start + self.at_once, count)]
            told += [text for (text,) in batch["told"]]
            answers += greedy(trainer.model, batch["prompt"], trainer.eos_token_ids, self.most)
        return figures(self.judge, told, answers)


def figures(judge: Judge, told: Sequence[str], answers: Sequence[Sequence[int]]) -> dict[str, float]:
    """The mean reward of answers, and of each reward alone, and their mean length in tokens, as `eval_...`."""
    given: Mapping[str, Sequence[float]] = judge(told, answers)
    means = {f"eval_reward_{name}": _mean(values) for name, values in given.items()}
    lengths = [len(answer) for answer in answers]
    return {"eval_reward": _mean(judge.total(given)), **means, "eval_answer_tokens": _mean(lengths)}


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
