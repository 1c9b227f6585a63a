"""The reward model as TRL's trainer sees it, and what was seen of the answers that it scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from tuneforge.kit.generation import answer_text
from tuneforge.kit.rewards import judge

from .prompts import Prompt

_AT_ONCE = 16
"""Conversations in memory at once while they are scored."""


@dataclass
class Seen:
    """The answers of a step: the score of each, its length in tokens, its end included, and whether it had one."""

    scores: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    finished: list[bool] = field(default_factory=list)


class Scorer:
    """A reward model with its own tokenizer. Where it shares its weights with the value model, `adapter` is its own."""

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase, adapter: str = "", other: str = "") -> None:
        self._model, self._tokenizer, self._adapter, self._other = model, tokenizer, adapter, other

    def __call__(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:
        """The score of each prompt with its answer."""
        conversations = [
            ([*prompt.messages, {"role": "assistant", "content": answer}], prompt.tools)
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        with self._own():
            training = self._model.training
            self._model.eval()
            try:
                return judge(self._model, self._tokenizer, conversations, _AT_ONCE)
            finally:
                self._model.train(training)

    @contextmanager
    def _own(self) -> Iterator[None]:
        if not self._adapter:
            yield
            return
        self._model.set_adapter(self._adapter)
        try:
            yield
        finally:
            self._model.set_adapter(self._other)


class Judge(nn.Module):
    """Stands where TRL expects a reward model that reads the policy's tokens, one score for each.

    TRL takes the score at the answer's last token. A reward model learnt to give it at the end of a conversation as its
    template writes it, which goes on after that: so the conversation is rendered anew and scored as a whole, and all
    tokens are given that score. TRL asks for the answers of a step in their order, `expect` having told their prompts.
    """

    base_model_prefix = "reader"

    def __init__(self, scorer: Scorer, tokenizer: PreTrainedTokenizerBase, stop: int) -> None:
        super().__init__()
        self._scorer, self._tokenizer, self._stop = scorer, tokenizer, stop
        self._waiting: list[Prompt] = []
        self._width = 0
        self.seen = Seen()

    def expect(self, prompts: Sequence[Prompt], width: int) -> None:
        """Says which prompts the next answers are to, all padded to `width` tokens."""
        self._waiting, self._width, self.seen = list(prompts), width, Seen()

    @property
    def reader(self) -> Any:
        return self._read

    def score(self, hidden: torch.Tensor) -> torch.Tensor:
        """TRL's last step from hidden states to scores, which these are already."""
        return hidden

    def _read(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: Any) -> Any:
        count, length = input_ids.shape
        prompts, self._waiting = self._waiting[:count], self._waiting[count:]
        texts = []
        for ids, mask in zip(
            input_ids[:, self._width :].tolist(), attention_mask[:, self._width :].tolist(), strict=True
        ):
            answer = ids[: mask.index(0)] if 0 in mask else ids
            finished = bool(answer) and answer[-1] == self._stop
            self.seen.tokens.append(len(answer))
            self.seen.finished.append(finished)
            texts.append(answer_text(self._tokenizer, answer))
        scores = self._scorer(prompts, texts)
        self.seen.scores += scores
        each = torch.tensor(scores, device=input_ids.device).view(count, 1, 1)
        return SimpleNamespace(hidden_states=(each.expand(count, length, 1),))
