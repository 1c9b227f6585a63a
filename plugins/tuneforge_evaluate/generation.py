"""Answers generated from prompts, and compared with those of the data."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from tuneforge import Adapter, ChatData, Model, QuantizedModel, Step
from tuneforge.kit.chats import IGNORED, Tokens, prompt_ids, stop_tokens, tokenize_chat
from tuneforge.kit.models import load_tokenizer
from tuneforge.kit.records import find_record, is_right

from .likelihood import likelihoods
from .subjects import (
    WITHOUT_ANSWER,
    LeftOutError,
    Measured,
    Progress,
    Row,
    answer_labels,
    by_length,
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


@dataclass(frozen=True)
class Answer:
    """What was generated: its text, its length in tokens, and whether it ended by itself."""

    text: str
    tokens: int
    finished: bool


def evaluate(
    method: Generation, models: Sequence[Model | Adapter | QuantizedModel], data: ChatData, step: Step
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
    progress = Progress(step, 2 * len(subjects) * len(measured.rows))
    answers, scores = {}, {}
    for digest, subject in subjects.items():
        answers[digest], scores[digest] = _measure(subject, measured.items[digest], method, progress)
        free()
    _write_answers(measured, answers, step)
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


def exercise(tokenizer: PreTrainedTokenizerBase, row: Row) -> Exercise:
    """What a row asks of a model. Raises LeftOutError for a row without an assistant turn after a prompt."""
    messages, answer = split_row(row)
    conversation = tokenize_chat(tokenizer, messages + answer, row["tools"])
    prompt = prompt_ids(tokenizer, messages, row["tools"])
    reference = [label for label in answer_labels(conversation, prompt) if label != IGNORED]
    return Exercise(prompt, conversation, _text(tokenizer, reference))


def split_row(row: Row) -> tuple[list[Any], list[Any]]:
    """The messages up to the last assistant turn, and that turn."""
    messages = row["messages"]
    turns = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    if not turns or turns[-1] == 0:
        raise LeftOutError(WITHOUT_ANSWER)
    return messages[: turns[-1]], [messages[turns[-1]]]


@torch.inference_mode()
def generate(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[list[int]],
    max_new_tokens: int,
    batch_size: int,
    done: Callable[[int], None],
) -> list[Answer]:
    """A greedy answer to each prompt; `done` is told how many rows each batch had.

    Prompts are padded on the left, so that each is followed by its answer.
    """
    inner: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    stops = stop_tokens(inner, tokenizer)
    # generate() fills in what is not set from the model's own settings: sampling, penalties and the like.
    inner.generation_config = GenerationConfig()
    config = GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=stops or None,
        pad_token_id=stops[0] if stops else 0,
    )
    answers: dict[int, Answer] = {}
    for batch in by_length([len(prompt) for prompt in prompts], batch_size):
        longest = max(len(prompts[index]) for index in batch)
        ids = torch.full((len(batch), longest), config.pad_token_id, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for place, index in enumerate(batch):
            ids[place, longest - len(prompts[index]) :] = torch.tensor(prompts[index])
            mask[place, longest - len(prompts[index]) :] = 1
        output = model.generate(  # type: ignore[operator]
            input_ids=ids.to(model.device), attention_mask=mask.to(model.device), generation_config=config
        )
        for index, generated in zip(batch, output[:, longest:].tolist(), strict=True):
            end = next((place for place, token in enumerate(generated) if token in stops), None)
            written = generated if end is None else generated[:end]
            answers[index] = Answer(_text(tokenizer, written), len(written) + (end is not None), end is not None)
        done(len(batch))
    return [answers[index] for index in range(len(prompts))]


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


def _text(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)).strip()


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


def _write_answers(measured: Measured[Exercise], answers: dict[str, list[Answer]], step: Step) -> None:
    """answers.jsonl: a line a row: the prompt as messages, the expected text, each subject's answer, if it is right."""
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
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
