"""Which answer of each pair a model finds the more likely."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from transformers import PreTrainedTokenizerBase

from tuneforge import Adapter, Model, PreferenceData, Step
from tuneforge.kit.chats import Tokens

from .likelihood import Likelihood, likelihoods
from .subjects import Row, answer_tokens, loaded, prepare
from .verdict import Scores, figure, write_report

if TYPE_CHECKING:
    from . import Preference

Pair = tuple[Tokens, Tokens]


def evaluate(method: Preference, models: Sequence[Model | Adapter], data: PreferenceData, step: Step) -> None:
    """Writes report.json."""
    subjects = {model.digest: model for model in models}
    measured = prepare(
        list(subjects.values()), data, method.limit, pair, lambda pair: max(len(tokens.ids) for tokens in pair), step
    )
    total = 2 * len(subjects) * len(measured.rows)
    done = 0

    def progress(rows: int) -> None:
        nonlocal done
        done += rows
        step.progress(done, total)

    scores: dict[str, Scores] = {}
    for digest, subject in subjects.items():
        with loaded(subject, method.dtype) as model:
            answers = [tokens for pair in measured.items[digest] for tokens in pair]
            known = likelihoods(model, answers, method.batch_size, progress)
        scores[digest] = score(known[0::2], known[1::2])
    write_report(scores, method.require, measured, _rank, step)


def pair(tokenizer: PreTrainedTokenizerBase, row: Row) -> Pair:
    """The chosen and the rejected answer, each after the prompt."""
    chosen, rejected = (answer_tokens(tokenizer, row, row["prompt"], row[name]) for name in ("chosen", "rejected"))
    return chosen, rejected


def score(chosen: Sequence[Likelihood], rejected: Sequence[Likelihood]) -> Scores:
    """Shares of pairs whose chosen answer is the more likely, and by how much it is. A tie is no preference."""
    pairs = list(zip(chosen, rejected, strict=True))
    return {
        "preference_accuracy": figure(sum(better.total > worse.total for better, worse in pairs) / len(pairs)),
        "preference_accuracy_per_token": figure(sum(better.mean > worse.mean for better, worse in pairs) / len(pairs)),
        "preference_margin": figure(sum(better.total - worse.total for better, worse in pairs) / len(pairs)),
    }


def _rank(scores: Scores) -> tuple[float, ...]:
    return scores["preference_accuracy"] or 0, scores["preference_margin"] or 0
