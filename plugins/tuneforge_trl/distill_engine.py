"""Knowledge distillation by TRL's DistillationTrainer, on prompts and answers that are tokenized here."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler
from trl import DistillationConfig, DistillationTrainer  # type: ignore[attr-defined]

from tuneforge import Adapter, ChatData, Model, Step, StepError
from tuneforge.artifacts import read_json
from tuneforge.kit.chats import IGNORED
from tuneforge.kit.models import full_model, load_model, load_tokenizer
from tuneforge.kit.rows import read_rows

from .distill import Distill, common_context
from .loading import load_for_training, longest_row, padding_tokenizer, settle_stops
from .loop import Quiet, fit, save
from .rows.labels import converter
from .rows.tokens import HELD_OUT_TOKENS, Columns, LeftOutError, Row, lengths, read_tokens, write_tokens
from .settings import arguments, compute_dtype, settle
from .watching.evaluation import HeldOut
from .watching.samples import before_answer, chat_prompts, write_prompts, written_chats


class _Trainer(Quiet, DistillationTrainer):
    """Takes rows that are tokens already: input_ids, and labels on the answer alone."""

    model: Any
    on_policy: float
    _given: list[list[int]] | None = None

    def _get_train_sampler(self, dataset: Any = None) -> Sampler[int]:
        accumulated = self.args.gradient_accumulation_steps
        batch_size = self.args.per_device_train_batch_size * accumulated
        return _Batches(len(self.train_dataset), batch_size, accumulated, self.args.seed)

    def _tokenize_prompts(self, prompts: list[Any]) -> Any:
        return prompts, None, {}

    def _generate_single_turn(self, prompt_ids: list[list[int]], *others: Any, **named: Any) -> Any:
        if self._given is not None:
            return self._given
        written: Any = super()._generate_single_turn
        training = self.model.training
        self.model.eval()  # an answer of its own is one without dropout
        try:
            return written(prompt_ids, *others, **named)
        finally:
            self.model.train(training)

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        parts = [parted(row) for row in inputs]
        training = self.model.training
        self._given = None if training and self._writes_itself() else [answer for _, answer in parts]
        found: dict[str, Any] = super()._generate_and_score_completions([{"prompt": prompt} for prompt, _ in parts])
        if training and self.watch is not None:
            answers = found["completion_mask"].sum()
            self.watch.count(found["prompt_mask"].sum() + answers, answers)
        return found

    def _writes_itself(self) -> bool:
        """Whether the student answers in this step: by a draw of its own, so that a resumed training draws alike."""
        return random.Random(f"{self.args.seed}-{self.state.global_step}").random() < self.on_policy


class _Batches(Sampler[int]):
    """The rows of each step as often as TRL's trainer asks for them, which writes all answers of a step at once.

    TRL's own sampler goes on from the random numbers of the epoch before, which a resumed training has not drawn.
    """

    def __init__(self, rows: int, batch_size: int, repeats: int, seed: int) -> None:
        self._rows, self._batch_size, self._repeats, self._seed = rows, batch_size, repeats, seed
        self._epoch = 0
        self._batches = -(-rows // batch_size)

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return self._batches * self._batch_size * self._repeats

    def __iter__(self) -> Iterator[int]:
        drawn = torch.Generator().manual_seed(self._seed + self._epoch)
        order = torch.randperm(self._rows, generator=drawn).tolist()
        for start in range(0, self._batches * self._batch_size, self._batch_size):
            # The last batch of an epoch is filled up from its beginning.
            batch = [order[place % self._rows] for place in range(start, start + self._batch_size)]
            for _ in range(self._repeats):
                yield from batch


def prepare(options: Distill, model: Model | Adapter, teacher: Model | Adapter, data: ChatData, step: Step) -> None:
    """Writes conversations up to the end of their last answer as tokens, with labels on it, into `step.scratch`."""
    tokenizer = padding_tokenizer(model)
    convert = converter(tokenizer, data, "last", longest_row(model, options))
    context = common_context(read_json(full_model(each).path / "config.json") for each in (model, teacher))

    def with_room(row: Row) -> Columns:
        columns = convert(row)
        prompt, answer = parted(columns)
        if context is not None and options.on_policy and len(prompt) + options.max_new_tokens > context:
            raise LeftOutError(f"without room for {options.max_new_tokens} new tokens")
        if context is not None and len(prompt) + len(answer) > context:
            raise LeftOutError("longer than the teacher's context")
        return columns

    write_tokens(read_rows(data, "train"), with_room, "train", step)
    write_tokens(read_rows(data, "held_out"), with_room, "held_out", step, HELD_OUT_TOKENS)
    asked = ((before_answer(row["messages"]), row.get("tools")) for row in read_rows(data, "held_out"))
    write_prompts(options, chat_prompts(tokenizer, asked), written_chats(tokenizer, options), step)


def align(options: Distill, model: Model | Adapter, teacher: Model | Adapter, step: Step) -> None:
    """Fits `model` to the teacher's probabilities and writes what comes of it into `step.out`."""
    settle(step)
    tokenizer = padding_tokenizer(model)
    if load_tokenizer(teacher).get_vocab() != tokenizer.get_vocab():
        raise StepError(
            "the teacher and the model have different vocabularies", "Take a teacher of the same family as the model."
        )
    train, held_out = read_tokens("train", step), read_tokens("held_out", step)
    rows = train.dataset
    tokens = lengths(rows, "input_ids")
    step.metrics(rows=train.kept, left_out=train.left_out)
    whole = options.adapter is None and isinstance(model, Model)
    rate = options.rate(full=1e-5, adapter=1e-4, is_adapter=not whole)
    longest = [size + options.max_new_tokens for size in tokens] if options.on_policy else tokens
    settings = arguments(options, step, lengths=longest, learning_rate=rate, model=model)
    args = DistillationConfig(
        **settings,
        beta=options.beta,
        temperature=options.temperature,
        max_completion_length=options.max_new_tokens,
    )
    adapted = load_for_training(model, options, step, settings["max_steps"])
    settle_stops(adapted.model, model, tokenizer)
    teaching: Any = load_model(teacher, dtype=compute_dtype(options))
    trainer = _Trainer(
        model=adapted.model,
        teacher_model=teaching.requires_grad_(False),
        args=args,
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=adapted.config,
        callbacks=adapted.callbacks,
    )
    trainer.on_policy = options.on_policy
    fit(trainer, options, step, HeldOut(held_out, _answer_tokens, {}))
    if held_out.kept:
        step.metrics(eval_rows=held_out.kept)
    save(trainer, model, step, adapted)


def parted(row: Mapping[str, Sequence[int]]) -> tuple[list[int], list[int]]:
    """The tokens of a row before its answer, and those of the answer with its end."""
    ids, labels = row["input_ids"], row["labels"]
    start = next(place for place, label in enumerate(labels) if label != IGNORED)
    return list(ids[:start]), [token for token, label in zip(ids, labels, strict=True) if label != IGNORED]


def _answer_tokens(batch: Any) -> int:
    return sum(len(parted(row)[1]) for row in batch)
