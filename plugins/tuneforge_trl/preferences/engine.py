"""Alignment on pairs of answers, which are tokenized and masked here."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from trl import DPOConfig  # type: ignore[attr-defined]

from tuneforge import Adapter, Model, PreferenceData, Step
from tuneforge.kit.chats import IGNORED, after_prompt, prompt_ids, tokenize_chat
from tuneforge.kit.models import load_model
from tuneforge.kit.rows import read_rows

from ..loading import load_for_training, longest_row, padding_tokenizer, placed
from ..loop import fit, save
from ..rows.pairs import SIDES, Collator, real_count, sizes
from ..rows.tokens import HELD_OUT_TOKENS, Columns, Row, check_fit, read_tokens, write_tokens
from ..settings import arguments, compute_dtype, settle
from ..spread.sharding import strategy_arguments
from ..watching.evaluation import HeldOut
from ..watching.samples import chat_prompts, write_prompts, written_chats
from .answers import Answers, logps
from .losses import Objective, Pairs
from .options import Preferring, Referring
from .precompute import Precomputing
from .reference import Place, place
from .trainer import FIGURES, TOKENS, AnswerTrainer, Batch, Figures


class _Trainer(AnswerTrainer):
    def __init__(self, objective: Objective, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._objective = objective

    def judge(self, found: Answers, reference: Tensor, batch: Batch, real: Tensor) -> tuple[Tensor, Figures]:
        # The chosen answers are the first half of a batch.
        (chosen, rejected), counts = found.logps.chunk(2), found.tokens.chunk(2)
        pairs = Pairs(chosen, rejected, *counts, *reference.chunk(2))
        better, worse = self._objective.rewards(pairs)
        figures = {
            "rewards/chosen": better[real],
            "rewards/rejected": worse[real],
            "rewards/accuracies": (better > worse)[real],
            "logps/chosen": chosen[real],
            "logps/rejected": rejected[real],
        }
        return self._objective.losses(pairs), figures


def prepare(options: Preferring, model: Model | Adapter, data: PreferenceData, step: Step) -> None:
    """Writes both answers of each pair as tokens, with a mask of what the assistant wrote, into `step.scratch`."""
    tokenizer = padding_tokenizer(model)
    longest = longest_row(model, options)

    def convert(row: Row) -> Columns:
        prompt = prompt_ids(tokenizer, row["prompt"], row.get("tools"))
        columns: Columns = {}
        for side in SIDES:
            conversation = tokenize_chat(tokenizer, [*row["prompt"], *row[side]], row.get("tools"))
            tokens = after_prompt(conversation, prompt)
            check_fit(tokens.ids, tokens.labels, longest)
            columns |= {side: tokens.ids, f"{side}_mask": [int(label != IGNORED) for label in tokens.labels]}
        return columns

    write_tokens(read_rows(data, "train"), convert, "train", step)
    write_tokens(read_rows(data, "held_out"), convert, "held_out", step, HELD_OUT_TOKENS)
    asked = ((row["prompt"], row.get("tools")) for row in read_rows(data, "held_out"))
    write_prompts(options, chat_prompts(tokenizer, asked), written_chats(tokenizer, options), step)


def align(
    options: Preferring,
    model: Model | Adapter,
    reference: Model | Adapter | None,
    step: Step,
    objective: Objective,
) -> None:
    """Fits `model` to the pairs that were prepared and writes what comes of it into `step.out`."""
    settle(step)
    tokenizer = padding_tokenizer(model)
    train, held_out = read_tokens("train", step), read_tokens("held_out", step)
    tokens = sizes(train.dataset)
    step.metrics(pairs=train.kept, tokens=sum(tokens), left_out=train.left_out)
    args = training_arguments(options, model, step, tokens)
    collator = Collator(tokenizer.pad_token_id)
    if isinstance(options, Referring) and options.refers and options.precompute:
        computing = Precomputing(reference or model, compute_dtype(options), step, args.per_device_train_batch_size)
        train, held_out = (
            computing.of(rows, lambda model, some: _both(model, collator(some))) for rows in (train, held_out)
        )
        computing.done()
    adapted = load_for_training(model, options, step, args.max_steps)
    where, beside = stand(options, model, reference, adapted, step)
    trainer = _Trainer(
        objective, adapted, where, beside, args=args, tokenizer=tokenizer, rows=train.dataset, collator=collator
    )
    trainer.row_lengths = tokens
    fit(trainer, options, step, HeldOut(held_out, real_count, FIGURES, trainer.summary))
    if held_out.kept:
        step.metrics(eval_pairs=held_out.kept)
    save(trainer, model, step, adapted)


def _both(model: Any, batch: Batch) -> list[list[float]]:
    """What the reference gives to the chosen and to the rejected answer of each pair."""
    found = logps(model, *(batch[name].to(model.device) for name in TOKENS))
    return [list(pair) for pair in zip(*(half.tolist() for half in found.float().chunk(2)), strict=True)]


def training_arguments(options: Preferring, model: Model | Adapter, step: Step, lengths: list[int]) -> Any:
    """The Trainer's settings; to be asked for before a model is loaded, which depends on how it will be spread."""
    whole = options.adapter is None and isinstance(model, Model)
    rate = options.rate(full=options.full_rate, adapter=options.adapter_rate, is_adapter=not whole)
    settings = arguments(options, step, lengths=lengths, learning_rate=rate, model=model)
    # Of it nothing is taken but what the configurations of all of TRL's trainers share.
    return DPOConfig(**(settings | strategy_arguments(step, model)), remove_unused_columns=False)


def stand(
    options: Preferring, model: Model | Adapter, reference: Model | Adapter | None, adapted: Any, step: Step
) -> tuple[Place | None, Any]:
    """Where the reference is, and the model that it is where that is one of its own."""
    if not options.refers:
        return None, None
    if isinstance(options, Referring) and options.precompute:
        return "off", None  # nothing is to be put on the model: its log-probabilities are in the rows
    where = place(model, reference, adapted)
    if not isinstance(where, (Model, Adapter)):
        return where, None
    return where, load_model(where, dtype=compute_dtype(options), on=placed(step))
