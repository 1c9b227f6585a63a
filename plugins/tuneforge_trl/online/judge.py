"""Answers of the model's own, and what each reward of a recipe says of them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from tuneforge import RewardAdapter, RewardModel, StepError
from tuneforge.kit.chats import ChatRefusedError, chat_ids
from tuneforge.kit.generation import answer_text
from tuneforge.kit.models import inference_dtype, load_tokenizer
from tuneforge.kit.rewards import load_reward_model
from tuneforge.kit.rewards import score as scores_of

from .options import Online
from .rewards import MODEL
from .rewards.base import Answer, Scorer

_AT_ONCE = 16
"""Conversations that a reward model scores at once."""

_SHOWN = 200
"""Characters of a prompt, or of an answer, in an error."""


@dataclass(frozen=True)
class Reward:
    """One reward: its name, its weight, and what it gives for each of several answers."""

    name: str
    weight: float
    give: Callable[[Sequence[Answer], Sequence[Any]], list[float]]


class Judge:
    """All rewards of a recipe. `stops` are the tokens that end an answer."""

    def __init__(
        self,
        options: Online,
        reward_model: RewardModel | RewardAdapter | None,
        tokenizer: PreTrainedTokenizerBase,
        stops: Sequence[int],
    ) -> None:
        self._tokenizer, self._stops = tokenizer, frozenset(stops)
        self.rewards = [_by_rule(rule.called, rule.weight, rule.scorer()) for rule in options.rewards]
        weight = options.reward_model_weight
        if reward_model is not None:
            self.rewards.append(_by_model(reward_model, weight))

    def __call__(self, told: Sequence[str], ids: Sequence[Sequence[int]]) -> dict[str, list[float]]:
        """What each reward gives for answers by their tokens, by its name; `told` is what the data tells of each."""
        answers, tools = self._read(told, ids)
        return {reward.name: reward.give(answers, tools) for reward in self.rewards}

    def total(self, given: Mapping[str, Sequence[float]]) -> list[float]:
        """The weighted sum of an answer's rewards, for each answer."""
        columns = [[reward.weight * value for value in given[reward.name]] for reward in self.rewards]
        return [math.fsum(row) for row in zip(*columns, strict=True)]

    @property
    def functions(self) -> list[Callable[..., list[float]]]:
        """The rewards as TRL's trainers call them."""
        return [self._function(reward) for reward in self.rewards]

    def _function(self, reward: Reward) -> Callable[..., list[float]]:
        def give(*, completion_ids: list[list[int]], told: list[list[str]], **_: Any) -> list[float]:
            return reward.give(*self._read([row for (row,) in told], completion_ids))

        give.__name__ = reward.name
        return give

    def _read(self, told: Sequence[str], ids: Sequence[Sequence[int]]) -> tuple[list[Answer], list[Any]]:
        answers, tools = [], []
        for row, tokens in zip(map(json.loads, told), ids, strict=True):
            written = [token for token in tokens if token not in self._stops]
            text = answer_text(self._tokenizer, written)
            answers.append(Answer(row["prompt"], text, row["reference"], len(tokens)))
            tools.append(row["tools"])
        return answers, tools


def tell(row: Mapping[str, Any]) -> str:
    """What a judge is told of a row of the data."""
    return json.dumps({name: row.get(name) for name in ("prompt", "reference", "tools")}, ensure_ascii=False)


def _by_rule(name: str, weight: float, scorer: Scorer) -> Reward:
    def give(answers: Sequence[Answer], _: Sequence[Any]) -> list[float]:
        return [_given(name, scorer, answer) for answer in answers]

    return Reward(name, weight, give)


def _given(name: str, scorer: Scorer, answer: Answer) -> float:
    """The reward of an answer. Raises StepError, with the answer, for what fails or is no finite number."""
    fix = "Mend the reward; for an answer that it cannot judge, it must say what that is worth."
    try:
        value = scorer(answer)
    except Exception as error:  # a person's own code
        raise StepError(f"the reward {name} raised {type(error).__name__}: {error} {_on(answer)}", fix) from error
    if not math.isfinite(value):
        raise StepError(f"the reward {name} gave {value} {_on(answer)}", fix)
    return value


def _on(answer: Answer) -> str:
    prompt = answer.prompt[-1].get("content") or ""
    return f"on the prompt {_shown(prompt)} and the answer {_shown(answer.text)}"


def _shown(text: Any) -> str:
    shown = str(text)
    return repr(shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}...")


def _by_model(artifact: RewardModel | RewardAdapter, weight: float) -> Reward:
    model, tokenizer = load_reward_model(artifact, dtype=inference_dtype(artifact)), load_tokenizer(artifact)

    def give(answers: Sequence[Answer], tools: Sequence[Any]) -> list[float]:
        conversations = []
        for answer, known in zip(answers, tools, strict=True):
            said = {"role": "assistant", "content": answer.text}
            try:
                conversations.append(chat_ids(tokenizer, [*answer.prompt, said], known))
            except ChatRefusedError as error:
                problem = f"the reward model cannot read a conversation: {error.finding.problem} {_on(answer)}"
                raise StepError(problem, error.finding.fix) from error
        given: list[float] = []
        for start in range(0, len(conversations), _AT_ONCE):
            given += scores_of(model, conversations[start : start + _AT_ONCE])
        return given

    return Reward(MODEL, weight, give)
