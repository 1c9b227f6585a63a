"""Answers generated from prompts, and compared with those of the data."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedTokenizerBase

from tuneforge import Adapter, ChatData, Model, QuantizedModel, RewardAdapter, RewardModel, Step
from tuneforge.kit.chats import IGNORED, Tokens, prompt_ids, tokenize_chat
from tuneforge.kit.generation import Answer, answer_text, generate
from tuneforge.kit.models import load_tokenizer
from tuneforge.kit.records import find_record, is_right
from tuneforge.kit.rewards import judge, load_reward_model

from .likelihood import likelihoods
from .subjects import (
    WITHOUT_ANSWER,
    LeftOutError,
    Measured,
    Progress,
    Row,
    answer_labels,
    dtype_of,
    free,
    load,
    prepare,
)
from .verdict import Scores, figure, write_report

if TYPE_CHECKING:
    from . import Generation


@dataclass(frozen=True)
class Exercise:
    """A prompt, the conversation it begins with its labels on all assistant turns, and the last of those as text."""

    prompt: list[int]
    conversation: Tokens
    reference: str


def evaluate(
    method: Generation,
    models: Sequence[Model | Adapter | QuantizedModel],
    data: ChatData,
    reward_model: RewardModel | RewardAdapter | None,
    step: Step,
) -> None:
    """Writes report.json and answers.jsonl."""
    subjects = {model.digest: model for model in models}
    measured = prepare(
        list(subjects.values()),
        data,
        method.limit,
        exercise,
        lambda item: max(len(item.conversation.ids), len(item.prompt) + method.max_new_tokens),
        step,
    )
    progress = Progress(step, (3 if reward_model else 2) * len(subjects) * len(measured.rows))
    answers, scores = {}, {}
    for digest, subject in subjects.items():
        answers[digest], scores[digest] = _measure(subject, measured.items[digest], method, progress)
        free()
    rewards = _rewards(reward_model, measured.rows, answers, method, progress) if reward_model else {}
    for digest, given in rewards.items():
        scores[digest]["reward"] = figure(sum(given) / len(given))
    _write_answers(measured, answers, rewards, step)
    records = sum(find_record(item.reference) is not None for item in next(iter(measured.items.values())))
    write_report(scores, method.require, measured, _rank, step, **({"records": records} if records else {}))


def _measure(
    subject: Model | Adapter | QuantizedModel, exercises: Sequence[Exercise], method: Generation, progress: Progress
) -> tuple[list[Answer], Scores]:
    model, tokenizer = load(subject, method.dtype), load_tokenizer(subject)
    prompts = [exercise.prompt for exercise in exercises]
    answers = generate(model, tokenizer, prompts, method.max_new_tokens, method.batch_size, progress)
    conversations = [exercise.conversation for exercise in exercises]
    known = likelihoods(model, conversations, method.batch_size, progress)
    loss = -sum(row.total for row in known) / sum(row.tokens for row in known)
    scores = score([exercise.reference for exercise in exercises], answers)
    return answers, scores | {"perplexity": _exp(loss)}


def _rewards(
    reward_model: RewardModel | RewardAdapter,
    rows: Sequence[Row],
    answers: Mapping[str, Sequence[Answer]],
    method: Generation,
    progress: Progress,
) -> dict[str, list[float]]:
    """What the reward model finds of each answer, as the end of its conversation."""
    model = load_reward_model(reward_model, dtype=dtype_of(reward_model, method.dtype))
    tokenizer = load_tokenizer(reward_model)
    found = {}
    for digest, given in answers.items():
        conversations = [
            ([*split_row(row)[0], {"role": "assistant", "content": answer.text}], row["tools"])
            for row, answer in zip(rows, given, strict=True)
        ]
        found[digest] = judge(model, tokenizer, conversations, method.batch_size)
        progress(len(rows))
    return found


def exercise(tokenizer: PreTrainedTokenizerBase, row: Row) -> Exercise:
    """What a row asks of a model. Raises LeftOutError for a row without an assistant turn after a prompt."""
    messages, answer = split_row(row)
    conversation = tokenize_chat(tokenizer, messages + answer, row["tools"])
    prompt = prompt_ids(tokenizer, messages, row["tools"])
    reference = [label for label in answer_labels(conversation, prompt) if label != IGNORED]
    return Exercise(prompt, conversation, answer_text(tokenizer, reference))


def split_row(row: Row) -> tuple[list[Any], list[Any]]:
    """The messages up to the last assistant turn, and that turn."""
    messages = row["messages"]
    turns = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    if not turns or turns[-1] == 0:
        raise LeftOutError(WITHOUT_ANSWER)
    return messages[: turns[-1]], [messages[turns[-1]]]


def score(references: Sequence[str], answers: Sequence[Answer]) -> Scores:
    """Shares of answers that match, what counts most first, and what they are like."""
    records = [find_record(reference) is not None for reference in references]
    pairs = list(zip(references, records, answers, strict=True))
    text: Scores = {"exact_match": _share([reference == answer.text for reference, _, answer in pairs])}
    matches = [is_right(reference, answer.text) for reference, is_record, answer in pairs if is_record]
    record: Scores = {"record_match": _share(matches)} if matches else {}
    # Where every reference is a record, how it is worded counts less.
    scores = record | text if all(records) else text | record
    scores["finished"] = _share([answer.finished for answer in answers])
    scores["new_tokens"] = figure(sum(answer.tokens for answer in answers) / len(answers))
    return scores


def _share(found: Sequence[bool]) -> float | None:
    return figure(sum(found) / len(found))


def _exp(loss: float) -> float | None:
    try:
        return figure(math.exp(loss))
    except OverflowError:
        return None


def _rank(scores: Scores) -> tuple[float, ...]:
    first, perplexity = next(iter(scores.values())), scores["perplexity"]
    return first or 0, scores["exact_match"] or 0, -math.inf if perplexity is None else -perplexity


def _write_answers(
    measured: Measured[Exercise], answers: dict[str, list[Answer]], rewards: dict[str, list[float]], step: Step
) -> None:
    """answers.jsonl, a line a row: the prompt, the expected text, each subject's answer, whether right, its reward."""
    first = next(iter(measured.items.values()))
    with (step.out / "answers.jsonl").open("w", encoding="utf-8") as file:
        for index, row in enumerate(measured.rows):
            line = {
                "prompt": split_row(row)[0],
                "tools": row["tools"],
                "expected": first[index].reference,
                "answers": {digest: given[index].text for digest, given in answers.items()},
                "right": {
                    digest: is_right(measured.items[digest][index].reference, given[index].text)
                    for digest, given in answers.items()
                },
            }
            if rewards:
                line["rewards"] = {digest: figure(given[index]) for digest, given in rewards.items()}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
