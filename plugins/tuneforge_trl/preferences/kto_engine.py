"""Alignment on answers with a thumb up or down, which are tokenized and masked here."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tuneforge import Adapter, FeedbackData, Model, PreferenceData, Step
from tuneforge.kit.chats import IGNORED, ChatRefusedError, Tokens, after_prompt, prompt_ids, tokenize_chat

from ..loading import load_for_training, longest_row, padding_tokenizer
from ..loop import fit, save
from ..rows.feedback import FeedbackCollator, beside_others, judged
from ..rows.pairs import real_count
from ..rows.tokens import HELD_OUT_TOKENS, Columns, Row, check_fit, lengths, read_tokens, write_tokens
from ..settings import compute_dtype, settle
from ..spread.ranks import total
from ..watching.evaluation import HeldOut
from ..watching.samples import chat_prompts, write_prompts, written_chats
from . import losses
from .answers import Answers, logps
from .engine import stand, training_arguments
from .kto import Kto
from .precompute import Precomputing
from .trainer import FIGURES, TOKENS, AnswerTrainer, Batch, Figures

_OTHER = "other_"


class _Trainer(AnswerTrainer):
    """Measures, before each step, how far the model is from the reference: on all of the step's rows, on all ranks.

    So the loss of a row depends neither on the micro batch that it is in nor on the process.
    """

    def __init__(self, objective: losses.Kto, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._objective = objective
        self._kl = 0.0  # held-out rows are measured by the last step's

    def get_batch_samples(self, *args: Any) -> Any:
        batches, rows = super().get_batch_samples(*args)
        if batches:
            self._kl = max(0.0, total(self._divergence(batches)) / rows)
        return batches, rows

    @torch.no_grad()
    def _divergence(self, batches: Sequence[Batch]) -> float:
        """The sum over rows of log(p / reference's p), of the answers to other prompts, in nats."""
        sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled
        model = self.model_wrapped if sharded else self.model
        found = 0.0
        with self.compute_loss_context_manager():
            for given in batches:
                batch: Any = self._prepare_inputs(dict(given))
                reference = self.reference_logps(batch, _OTHER)
                ratio = logps(model, *(batch[_OTHER + name] for name in TOKENS)) - reference
                found += float(ratio[~batch["blank"]].double().sum())
        return found

    def judge(self, found: Answers, reference: Tensor, batch: Batch, real: Tensor) -> tuple[Tensor, Figures]:
        desirable, ratio = batch["label"], found.logps - reference
        liked, disliked = desirable & real, ~desirable & real
        rewards = self._objective.beta * ratio
        figures = {
            "rewards/chosen": rewards[liked],
            "rewards/rejected": rewards[disliked],
            "logps/chosen": found.logps[liked],
            "logps/rejected": found.logps[disliked],
            "kl_answer": torch.tensor([self._kl]),
        }
        return self._objective.losses(ratio, self._kl, desirable), figures

    def summary(self, found: Mapping[str, list[float]]) -> dict[str, float]:
        told = super().summary(found)
        better, worse = found.get("rewards/chosen"), sorted(found.get("rewards/rejected", ()))
        if better and worse:
            # Of all pairs that could be made of them, the share in which the good answer has the higher reward; a tie
            # is half of one, as in the area under a curve.
            above = sum(bisect_left(worse, reward) + bisect_right(worse, reward) for reward in better)
            told["rewards/accuracies"] = above / (2 * len(better) * len(worse))
        return told


def prepare(options: Kto, model: Model | Adapter, data: FeedbackData | PreferenceData, step: Step) -> None:
    """Writes the rows as tokens, with a mask of the answer, into `step.scratch`."""
    tokenizer = padding_tokenizer(model)
    longest = longest_row(model, options)

    def tokens_of(row: Row, answer: str) -> Tokens:
        prompt = prompt_ids(tokenizer, row["prompt"], row.get("tools"))
        return after_prompt(tokenize_chat(tokenizer, [*row["prompt"], *row[answer]], row.get("tools")), prompt)

    def convert(row: Row) -> Columns:
        tokens = tokens_of(row, "answer")
        check_fit(tokens.ids, tokens.labels, longest)
        columns = {"input_ids": tokens.ids, "answer_mask": _mask(tokens), "label": [int(row["label"])]}
        if "other" not in row:
            return columns
        try:
            other = tokens_of(row, "other")
        except ChatRefusedError:  # it calls a tool that this prompt does not offer
            other = tokens
        # What it is for is a mean over many answers, which does not need the end of each.
        return columns | {"other": other.ids[:longest], "other_mask": _mask(other)[:longest]}

    write_tokens(beside_others(judged(data, "train")), convert, "train", step)
    write_tokens(judged(data, "held_out"), convert, "held_out", step, HELD_OUT_TOKENS)
    labels = _labels(read_tokens("train", step).dataset)
    for finding in options.weighed(sum(labels), len(labels) - sum(labels)):
        step.warn(finding.problem, finding.fix)
    asked = ((row["prompt"], row.get("tools")) for row in judged(data, "held_out"))
    write_prompts(options, chat_prompts(tokenizer, asked), written_chats(tokenizer, options), step)


def _mask(tokens: Tokens) -> list[int]:
    return [int(label != IGNORED) for label in tokens.labels]


def _labels(rows: Any) -> list[int]:
    return [label for (label,) in rows.data.column("label").to_pylist()]


def align(options: Kto, model: Model | Adapter, reference: Model | Adapter | None, step: Step) -> None:
    """Fits `model` to the answers that were prepared and writes what comes of it into `step.out`."""
    settle(step)
    tokenizer = padding_tokenizer(model)
    train, held_out = read_tokens("train", step), read_tokens("held_out", step)
    tokens = lengths(train.dataset, "input_ids")
    desirable = sum(_labels(train.dataset))
    step.metrics(
        rows=train.kept,
        desirable=desirable,
        undesirable=train.kept - desirable,
        tokens=sum(tokens),
        left_out=train.left_out,
    )
    args = training_arguments(options, model, step, tokens)
    collator = FeedbackCollator(tokenizer.pad_token_id)
    if options.precompute:
        computing = Precomputing(reference or model, compute_dtype(options), step, args.per_device_train_batch_size)
        train, held_out = (
            computing.of(rows, lambda model, some: _both(model, collator(some))) for rows in (train, held_out)
        )
        computing.done()
    adapted = load_for_training(model, options, step, args.max_steps)
    where, beside = stand(options, model, reference, adapted, step)
    trainer = _Trainer(
        losses.Kto(options.beta, options.desirable_weight, options.undesirable_weight),
        adapted,
        where,
        beside,
        args=args,
        tokenizer=tokenizer,
        rows=train.dataset,
        collator=collator,
    )
    trainer.row_lengths = tokens
    fit(trainer, options, step, HeldOut(held_out, real_count, FIGURES, trainer.summary))
    if held_out.kept:
        step.metrics(eval_rows=held_out.kept)
    save(trainer, model, step, adapted)


def _both(model: Any, batch: Batch) -> list[list[float]]:
    """What the reference gives to the answer of each row and, in training, to the other one."""
    prefixes = ("", _OTHER) if _OTHER + TOKENS[0] in batch else ("",)
    found = [logps(model, *(batch[prefix + name].to(model.device) for name in TOKENS)) for prefix in prefixes]
    return [list(each) for each in zip(*(values.float().tolist() for values in found), strict=True)]
