"""Rows of supervised fine-tuning: conversations and texts as tokens, and which of them are under loss."""

from __future__ import annotations

from collections.abc import Callable

from transformers import PreTrainedTokenizerBase

from tuneforge import ChatData, StepError, TextData
from tuneforge.kit.chats import Messages, Tokens, TurnsUntoldError, chat_ids, tokenize_chat

from ..sft import LossOn
from .texts import tokenize_text
from .tokens import Columns, Row, check_fit


def converter(
    tokenizer: PreTrainedTokenizerBase, data: ChatData | TextData, loss_on: LossOn, longest: int
) -> Callable[[Row], Columns]:
    """What makes token columns of a row of `data`: input_ids and, of the same length, labels."""
    tokens_of = _text if isinstance(data, TextData) else _conversation

    def convert(row: Row) -> Columns:
        tokens = tokens_of(tokenizer, row, loss_on)
        check_fit(tokens.ids, tokens.labels, longest)
        return {"input_ids": tokens.ids, "labels": tokens.labels}

    return convert


def _text(tokenizer: PreTrainedTokenizerBase, row: Row, loss_on: LossOn) -> Tokens:
    tokens = tokenize_text(tokenizer, row["prompt"], row["completion"])
    return Tokens(tokens.ids, tokens.ids) if loss_on == "all" else tokens


def _conversation(tokenizer: PreTrainedTokenizerBase, row: Row, loss_on: LossOn) -> Tokens:
    messages, tools = row["messages"], row.get("tools")
    if loss_on == "all":
        ids = chat_ids(tokenizer, messages, tools)
        return Tokens(ids, ids)
    try:
        return tokenize_chat(tokenizer, messages, tools, since(messages, loss_on))
    except TurnsUntoldError as error:
        # Not one row among others: a template that hides its turns does so in all rows that have several.
        fix = (
            "Set loss_on: last, which learns the last answer of each conversation; or give the model a template with "
            "{% generation %} ... {% endgeneration %} around the assistant's turns."
        )
        raise StepError(error.finding.problem, fix if loss_on == "assistant" else error.finding.fix) from error


def since(messages: Messages, loss_on: LossOn) -> int:
    """The index of the message from which on the assistant's turns are under loss."""
    if loss_on == "assistant":
        return 0
    roles = [message["role"] for message in messages]
    if loss_on == "last":
        return max((index for index, role in enumerate(roles) if role == "assistant"), default=len(roles))
    return max((index + 1 for index, role in enumerate(roles) if role == "user"), default=0)
