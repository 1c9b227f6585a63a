"""Continued pre-training by TRL's SFTTrainer, on documents that are tokenized and packed here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from tuneforge import Adapter, Model, Step, TextData
from tuneforge.kit.rows import read_rows

from .loading import longest_row, padding_tokenizer
from .loop import fit, save
from .pretrain import Pretrain
from .rows.packing import pack
from .rows.texts import end_of_text, tokenize_text
from .rows.tokens import HELD_OUT_TOKENS, Columns, Row, lengths, read_tokens, write_tokens
from .settings import settle
from .sft_engine import make_trainer
from .watching.evaluation import HeldOut, tokens_under_loss
from .watching.samples import write_text_prompts


def prepare(options: Pretrain, model: Model | Adapter, data: TextData, step: Step) -> None:
    """Writes the documents of `data` as sequences of tokens into `step.scratch`."""
    tokenizer = padding_tokenizer(model)
    longest = longest_row(model, options)

    def convert(row: Row) -> Columns:
        return {"input_ids": tokenize_text(tokenizer, None, (row["prompt"] or "") + row["completion"]).ids}

    def arrange(documents: Iterable[Columns]) -> Iterator[Columns]:
        return pack(documents, longest, options.across_documents)

    write_tokens(read_rows(data, "train"), convert, "train", step, arrange=arrange)
    write_tokens(read_rows(data, "held_out"), convert, "held_out", step, HELD_OUT_TOKENS, arrange)
    write_text_prompts(options, tokenizer, read_rows(data, "held_out"), step)


def pretrain(options: Pretrain, model: Model | Adapter, step: Step) -> None:
    """Fits `model` to the sequences that were prepared and writes what comes of it into `step.out`."""
    settle(step)
    train, held_out = read_tokens("train", step), read_tokens("held_out", step)
    sequences = train.dataset
    step.metrics(
        documents=train.kept,
        sequences=len(sequences),
        tokens=sum(lengths(sequences, "input_ids")),
        left_out=train.left_out,
    )
    rate = options.rate(full=2e-5, adapter=2e-4, is_adapter=options.adapter is not None or isinstance(model, Adapter))
    trainer, adapted = make_trainer(options, model, sequences, step, learning_rate=rate, packed=True)
    fit(trainer, options, step, HeldOut(held_out, tokens_under_loss, {}))
    if held_out.kept:
        loss = step.figures["eval_loss"]
        step.metrics(eval_perplexity=math.exp(min(loss, 700)), eval_documents=held_out.kept)
    save(trainer, model, step, adapted, end_of_text(padding_tokenizer(model)))
