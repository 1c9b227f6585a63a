"""Supervised fine-tuning by TRL's SFTTrainer, on rows that are tokenized and masked here."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.compute as pc
from datasets import Dataset, disable_progress_bars
from trl import SFTConfig, SFTTrainer, pack_dataset  # type: ignore[attr-defined]

from tuneforge import Adapter, ChatData, Model, Step, TextData
from tuneforge.disk import persist
from tuneforge.kit.chats import IGNORED, terminator
from tuneforge.kit.rows import read_rows

from .adapters.engine import Adapted
from .advice import packing_gain
from .loading import load_for_training, longest_row, padding_tokenizer
from .loop import Quiet, fit, save
from .pretrain import Pretrain
from .rows.batches import Grouped
from .rows.labels import converter
from .rows.texts import end_of_text
from .rows.tokens import HELD_OUT_TOKENS, lengths, read_tokens, write_tokens
from .settings import arguments, settle
from .sft import Sft
from .speed.token_loss import TokenLoss
from .spread.sharding import strategy_arguments
from .watching.evaluation import HeldOut, tokens_under_loss
from .watching.samples import before_answer, chat_prompts, write_prompts, write_text_prompts, written_chats


class _Trainer(Quiet, Grouped, TokenLoss, SFTTrainer):
    pass


def prepare(options: Sft, model: Model | Adapter, data: ChatData | TextData, step: Step) -> None:
    """Writes the rows of `data` as tokens, each with its label, into `step.scratch`."""
    tokenizer = padding_tokenizer(model)
    if isinstance(data, ChatData) and terminator(tokenizer) is None:
        step.warn(
            "the chat template ends the assistant's turns with no special token: the model may not learn where to stop",
            "Give the model a template that ends a turn with its end-of-turn or end-of-text token.",
        )
    convert = converter(tokenizer, data, options.loss_on, longest_row(model, options))
    write_tokens(read_rows(data, "train"), convert, "train", step)
    write_tokens(read_rows(data, "held_out"), convert, "held_out", step, HELD_OUT_TOKENS)
    if options.packing:
        _write_packs(longest_row(model, options), step)
    rows = read_rows(data, "held_out")
    if isinstance(data, ChatData):
        asked = ((before_answer(row["messages"]), row.get("tools")) for row in rows)
        write_prompts(options, chat_prompts(tokenizer, asked), written_chats(tokenizer, options), step)
    else:
        write_text_prompts(options, tokenizer, rows, step)


def _write_packs(longest: int, step: Step) -> None:
    """Puts the tokens of several rows into one sequence each, unless that was done before."""
    folder = _packs(step)
    if folder.exists():
        return
    disable_progress_bars()
    # Neighbours in the data are often alike; packed together they would fill whole batches.
    packs = pack_dataset(read_tokens("train", step).dataset.shuffle(seed=step.seed), longest)
    beside = folder.with_suffix(".new")
    shutil.rmtree(beside, ignore_errors=True)  # its writer was killed
    packs.save_to_disk(beside)
    persist(beside)
    beside.rename(folder)


def _packs(step: Step) -> Path:
    return step.scratch / "rows" / "packs"


def fine_tune(options: Sft, model: Model | Adapter, data: ChatData | TextData, step: Step) -> None:
    """Fits `model` to the rows that were prepared and writes what comes of it into `step.out`."""
    settle(step)
    train, held_out = read_tokens("train", step), read_tokens("held_out", step)
    rows = train.dataset
    step.metrics(
        rows=train.kept,
        tokens=sum(lengths(rows, "input_ids")),
        tokens_under_loss=pc.sum(pc.not_equal(pc.list_flatten(rows.data.column("labels")), IGNORED)).as_py(),
        left_out=train.left_out,
    )
    if options.packing:
        rows = Dataset.load_from_disk(_packs(step))
        step.metrics(packs=len(rows))
        finding = packing_gain(train.kept, len(rows))
        if finding:
            step.warn(finding.problem, finding.fix)
    rate = options.rate(full=2e-5, adapter=2e-4, is_adapter=options.adapter is not None or isinstance(model, Adapter))
    trainer, adapted = make_trainer(options, model, rows, step, learning_rate=rate, packed=options.packing)
    fit(trainer, options, step, HeldOut(held_out, tokens_under_loss, {}))
    if held_out.kept:
        step.metrics(eval_rows=held_out.kept)
    stop = end_of_text(padding_tokenizer(model)) if isinstance(data, TextData) else None
    save(trainer, model, step, adapted, stop)


def make_trainer(
    options: Sft | Pretrain, model: Model | Adapter, rows: Dataset, step: Step, *, learning_rate: float, packed: bool
) -> tuple[SFTTrainer, Adapted]:
    """A trainer of `model` on token columns; `packed` ones have seq_lengths of their parts, blind to each other."""
    settings = arguments(options, step, lengths=lengths(rows, "input_ids"), learning_rate=learning_rate, model=model)
    # Before the model: how it is loaded depends on how it will be spread.
    args = SFTConfig(
        **(settings | strategy_arguments(step, model)),
        max_length=longest_row(model, options),
        packing=packed,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    adapted = load_for_training(model, options, step, settings["max_steps"])
    trainer = _Trainer(
        cross_entropy=options.cross_entropy,
        model=adapted.model,
        args=args,
        train_dataset=rows,
        processing_class=padding_tokenizer(model),
        peft_config=adapted.config,
        callbacks=adapted.callbacks,
    )
    trainer.row_lengths = lengths(rows, "input_ids")
    return trainer, adapted
