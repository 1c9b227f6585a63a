"""Which answer of each pair a model finds the more likely."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from transformers import PreTrainedTokenizerBase

from tuneforge import Adapter, Model, PreferenceData, Step
from tuneforge.kit.chats import Tokens, prompt_ids, tokenize_chat

from .likelihood import Likelihood, likelihoods
from .subjects import Progress, Row, answer_labels, free, load, prepare
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
    progress = Progress(step, 2 * len(subjects) * len(measured.rows))
    scores = {}
    for digest, subject in subjects.items():
        scores[digest] = _measure(subject, measured.items[digest], method, progress)
        free()
    write_report(scores, method.require, measured, _rank, step)


def _measure(subject: Model | Adapter, pairs: Sequence[Pair], method: Preference, progress: Progress) -> Scores:
    answers = [tokens for pair in pairs for tokens in pair]
    known = likelihoods(load(subject, method.dtype), answers, method.batch_size, progress)
    return score(known[0::2], known[1::2])


def pair(tokenizer: PreTrainedTokenizerBase, row: Row) -> Pair:
    """The chosen and the rejected answer, each after the prompt."""
    prompt = prompt_ids(tokenizer, row["prompt"], row["tools"])
    conversations = (
        tokenize_chat(tokenizer, row["prompt"] + row[name], row["tools"]) for name in ("chosen", "rejected")
    )
    chosen, rejected = (Tokens(tokens.ids, answer_labels(tokens, prompt)) for tokens in conversations)
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
