"""How long rows are in tokens, as the model's own tokenizer and chat template write them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from transformers import AutoConfig, AutoTokenizer

from tuneforge import Adapter, Model
from tuneforge.kit.chats import ChatRefusedError, prompt_ids, tokenize_chat

from .messages import LeftOutError, Message


class AtMost:
    """Leaves out rows of more than `tokens` tokens, whole: an answer without its end would teach not to end."""

    def __init__(self, tokens: int, model: Model | Adapter) -> None:
        full = model.base or model
        folder = (model if (model.path / "tokenizer.json").exists() else full).path
        # An adapter has no config.json, and which tokenizer class is right depends on the model's.
        self._tokenizer = AutoTokenizer.from_pretrained(folder, config=AutoConfig.from_pretrained(full.path))
        self._tokens = tokens

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Raises LeftOutError for a row that is too long: a conversation, with either of its answers, or a prompt."""
        try:
            longest = max(self._lengths(row))
        except ChatRefusedError as error:
            raise LeftOutError("refused by the chat template") from error
        if longest > self._tokens:
            raise LeftOutError("overlength")

    def _lengths(self, row: Mapping[str, Any]) -> Iterator[int]:
        if "reference" in row:
            yield len(prompt_ids(self._tokenizer, row["prompt"], row["tools"]))
            return
        if "messages" in row:
            conversations: list[list[Message]] = [row["messages"]]
        else:
            answers = ("answer",) if "answer" in row else ("chosen", "rejected")
            conversations = [[*row["prompt"], *row[answer]] for answer in answers]
        for messages in conversations:
            yield len(tokenize_chat(self._tokenizer, messages, row["tools"]).ids)
