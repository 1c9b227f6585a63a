"""Which answer of each pair a model finds the more likely, or a reward model the better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from transformers import PreTrainedTokenizerBase

from tuneforge import PreferenceData, RewardAdapter, RewardModel, Step
from tuneforge.kit.chats import Tokens, prompt_ids, tokenize_chat
from tuneforge.kit.generation import by_length
from tuneforge.kit.rewards import load_reward_model
from tuneforge.kit.rewards import score as scores_of

from .likelihood import Likelihood, likelihoods
from .subjects import Progress, Row, Subject, answer_labels, dtype_of, free, load, prepare
from .verdict import Scores, figure, write_report

if TYPE_CHECKING:
    from . import Preference

Pair = tuple[Tokens, Tokens]


def evaluate(method: Preference, models: Sequence[Subject], data: PreferenceData, step: Step) -> None:
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


def _measure(subject: Subject, pairs: Sequence[Pair], method: Preference, progress: Progress) -> Scores:
    answers = [tokens for pair in pairs for tokens in pair]
    if isinstance(subject, (RewardModel, RewardAdapter)):
        given = _scores(subject, answers, method, progress)
        return compare(given[0::2], given[1::2])
    known = likelihoods(load(subject, method.dtype), answers, method.batch_size, progress)
    return score(known[0::2], known[1::2])


def _scores(
    subject: RewardModel | RewardAdapter, answers: Sequence[Tokens], method: Preference, progress: Progress
) -> list[float]:
    model = load_reward_model(subject, dtype=dtype_of(subject, method.dtype))
    found: dict[int, float] = {}
    for batch in by_length([len(answer.ids) for answer in answers], method.batch_size):
        found.update(zip(batch, scores_of(model, [answers[index].ids for index in batch]), strict=True))
        progress(len(batch))
    return [found[index] for index in range(len(answers))]


def pair(tokenizer: PreTrainedTokenizerBase, row: Row) -> Pair:
    """The chosen and the rejected answer, each after the prompt."""
    prompt = prompt_ids(tokenizer, row["prompt"], row["tools"])
    conversations = (
        tokenize_chat(tokenizer, row["prompt"] + row[name], row["tools"]) for name in ("chosen", "rejected")
    )
    chosen, rejected = (Tokens(tokens.ids, answer_labels(tokens, prompt)) for tokens in conversations)
    return chosen, rejected


def score(chosen: Sequence[Likelihood], rejected: Sequence[Likelihood]) -> Scores:
    """Shares of pairs whose chosen answer is the more likely, and by how much it is."""
    total = compare([answer.total for answer in chosen], [answer.total for answer in rejected])
    each = compare([answer.mean for answer in chosen], [answer.mean for answer in rejected])
    return {
        "preference_accuracy": total["preference_accuracy"],
        "preference_accuracy_per_token": each["preference_accuracy"],
        "preference_margin": total["preference_margin"],
    }


def compare(chosen: Sequence[float], rejected: Sequence[float]) -> Scores:
    """The share of pairs whose chosen answer has the higher value, and by how much. A tie is no preference."""
    pairs = list(zip(chosen, rejected, strict=True))
    return {
        "preference_accuracy": figure(sum(better > worse for better, worse in pairs) / len(pairs)),
        "preference_margin": figure(sum(better - worse for better, worse in pairs) / len(pairs)),
    }


def _rank(scores: Scores) -> tuple[float, ...]:
    return scores["preference_accuracy"] or 0, scores["preference_margin"] or 0
