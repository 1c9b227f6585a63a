"""The parts of PPO that are not TRL's: prompts as tokens, their order, and scores as they were learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trl.colours import COLOURS
from tuneforge import Model, PromptData, Step, StepError
from tuneforge.kit.chats import prompt_ids, terminator
from tuneforge.kit.models import load_tokenizer
from tuneforge.kit.rows import write_rows
from tuneforge_ppo.judge import Judge
from tuneforge_ppo.ppo import Ppo
from tuneforge_ppo.prompts import Prompt, Prompts, prepare, read_prompts
from tuneforge_ppo.rollouts import Rollouts


def step_in(folder: Path, events: list[Any]) -> Step:
    for name in ("out", "scratch"):
        (folder / name).mkdir()
    return Step("ppo", folder / "out", folder / "scratch", 1, 1, events.append)


def test_prompts_are_what_the_template_writes_up_to_the_answer(
    base: Model, prompts: PromptData, tmp_path: Path
) -> None:
    step = step_in(tmp_path, [])
    prepare(Ppo(), base, prompts, step)
    known, tokenizer = read_prompts(step), load_tokenizer(base)
    assert (len(known.train), len(known.held_out), known.left_out) == (7, 7, {})
    for index, thing in enumerate(COLOURS):
        messages = [{"role": "user", "content": thing}]
        assert known.train[index] == Prompt(prompt_ids(tokenizer, messages), messages, None)
    assert known.stop == terminator(tokenizer)
    used = {token for index in range(7) for token in known.train[index].ids}
    assert known.padding not in used | {known.stop}, "TRL takes every such token for padding"


def test_long_prompts_are_left_out_and_counted(base: Model, tmp_path: Path) -> None:
    rows = [
        {"prompt": [{"role": "user", "content": text}], "reference": None, "tools": None}
        for text in ("sky", "snow", "sky " * 90)
    ]
    write_rows(tmp_path, "train", rows)
    (tmp_path / "step").mkdir()
    events: list[Any] = []
    step = step_in(tmp_path / "step", events)
    prepare(Ppo(max_length=40), base, PromptData(tmp_path, ""), step)
    assert read_prompts(step).left_out == {"longer than 40 tokens": 1}
    assert events[0]["text"] == "of 3 prompts are left out: 1 longer than 40 tokens"
    (tmp_path / "other").mkdir()
    with pytest.raises(StepError, match="too little to learn from: 3 of 3 prompts"):
        prepare(Ppo(max_length=2), base, PromptData(tmp_path, ""), step_in(tmp_path / "other", []))


class Told:
    """Stands for the judge, which is told whose answers come next."""

    def __init__(self) -> None:
        self.prompts: list[Any] = []

    def expect(self, prompts: Any, width: int) -> None:
        self.prompts.append([prompt.messages[0]["content"] for prompt in prompts])


@pytest.fixture
def known(base: Model, prompts: PromptData, tmp_path: Path) -> Prompts:
    step = step_in(tmp_path, [])
    prepare(Ppo(), base, prompts, step)
    return read_prompts(step).train


def test_each_epoch_has_all_prompts_in_its_own_order_wherever_it_begins(known: Prompts) -> None:
    def steps(done: int, count: int) -> tuple[list[list[str]], list[torch.Tensor], list[float]]:
        told: Any = Told()
        rollouts = Rollouts(known, told, batch_size=4, seed=3, padding=9)
        rollouts.done = done
        drawn, batches = [], []
        for batch, _ in zip(rollouts, range(count), strict=False):
            batches.append(batch["input_ids"])
            drawn.append(torch.rand(1).item())
        return told.prompts[:count], batches, drawn

    asked, batches, drawn = steps(0, 7)
    flat = [thing for batch in asked for thing in batch]
    epochs = [flat[start : start + 7] for start in range(0, 28, 7)]
    assert all(sorted(epoch) == sorted(COLOURS) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert len(set(drawn)) == 7
    later, again, drawn_again = steps(3, 4)
    assert later == asked[3:] and drawn_again == drawn[3:]
    assert all(torch.equal(one, other) for one, other in zip(batches[3:], again, strict=True))
    for batch in batches:
        assert all(row[-1] != 9 for row in batch.tolist()), "prompts are padded on the left"


def test_the_judge_scores_conversations_and_counts_their_answers(base: Model) -> None:
    tokenizer = load_tokenizer(base)
    stop = terminator(tokenizer)
    assert stop is not None
    asked: list[Any] = []

    def scorer(prompts: Any, answers: Any) -> list[float]:
        asked.extend((prompt.messages[0]["content"], answer) for prompt, answer in zip(prompts, answers, strict=True))
        return [float(len(answer)) for answer in answers]

    answers = {"sky": "blue", "coal": "black black", "snow": ""}
    prompts = [Prompt([5] * 4, [{"role": "user", "content": thing}], None) for thing in answers]
    rows = [tokenizer(text)["input_ids"] for text in answers.values()]
    rows[0] = [*rows[0], stop]
    width = max(map(len, rows)) + 1
    ids = torch.tensor([[5] * 4 + row + [0] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * (4 + len(row)) + [0] * (width - len(row)) for row in rows])
    judge = Judge(scorer, tokenizer, stop)  # type: ignore[arg-type]
    judge.expect(prompts, 4)
    # In two parts, as TRL asks for them.
    for part in (slice(0, 2), slice(2, 3)):
        hidden = judge.reader(input_ids=ids[part], attention_mask=mask[part], use_cache=False).hidden_states[-1]
        found = judge.score(hidden)
        assert found.shape == (len(ids[part]), 4 + width, 1)
        assert [row[0, 0].item() for row in found.unsqueeze(1)] == [len(a) for a in list(answers.values())[part]]
    assert asked == [*answers.items()]
    assert judge.seen.tokens == list(map(len, rows))
    assert judge.seen.finished == [True, False, False]
