"""Held-out prompts: stable, the same for all data steps, and a warning where they are not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneforge import LoadModel
from tuneforge.stages import Method
from tuneforge_data import Chat, Preference, extend_plan
from tuneforge_data.holdout import is_held_out

from .conftest import CarryOut, Written


def held_out(text: str, share: float) -> bool:
    return is_held_out([{"role": "system", "content": "Short."}, {"role": "user", "content": text}], share)


def test_which_prompts_are_held_out_never_changes() -> None:
    # Another hash would move rows between the training and the evaluation of those who have done one of them.
    assert [number for number in range(40) if held_out(f"prompt {number}", 0.1)] == [14, 15, 19]


def test_the_share_is_kept() -> None:
    for share in (0.01, 0.1, 0.5, 0.9):
        assert sum(held_out(f"prompt {number}", share) for number in range(10_000)) == pytest.approx(
            10_000 * share, abs=200
        )
    assert not any(held_out(f"prompt {number}", 0) for number in range(1000))


@given(st.text(), st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
def test_a_larger_share_holds_out_what_a_smaller_one_does(text: str, one: float, other: float) -> None:
    assert held_out(text, min(one, other)) <= held_out(text, max(one, other))


@pytest.mark.parametrize("other", ["hello  WORLD", " Hello\nworld\t", "HELLO WORLD"])
def test_case_and_white_space_do_not_tell_prompts_apart(other: str) -> None:
    differ = [
        share / 100 for share in range(100) if held_out("Hello world", share / 100) != held_out(other, share / 100)
    ]
    assert differ == []


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_no_prompt_of_one_step_is_trained_on_and_held_out_by_another(
    carry_out: CarryOut, written: Written, share: float
) -> None:
    prompts = [f"Question {number}?" for number in range(300)]
    chats = carry_out(
        Chat(
            path=written([{"instruction": "Question", "input": f"{n}?", "output": "Yes"} for n in range(0, 300, 2)]),
            holdout=share,
        )
    )
    pairs = carry_out(
        Preference(
            path=written([{"prompt": prompt.upper(), "chosen": "Yes", "rejected": "No"} for prompt in prompts]),
            holdout=share,
            system="Be kind.",
        )
    )

    def texts(rows: list[dict[str, list[dict[str, str]]]], column: str) -> set[str]:
        turns = (row[column] for row in rows)
        firsts = (next(turn for turn in messages if turn["role"] == "user") for messages in turns)
        return {" ".join(first["content"].lower().split()) for first in firsts}

    assert chats.held_out and pairs.held_out
    assert not texts(chats.train, "messages") & texts(pairs.held_out, "prompt")
    assert not texts(pairs.train, "prompt") & texts(chats.held_out, "messages")
    assert texts(chats.held_out, "messages") <= texts(pairs.held_out, "prompt")


class Other(LoadModel):
    """Not of this plugin."""

    name = "other"


@dataclass
class Planned:
    name: str
    method: Method
    place: str = ""


def test_different_shares_in_one_plan_are_warned_of(tmp_path: Path) -> None:
    def chat(share: float) -> Chat:
        return Chat(path=tmp_path, holdout=share)

    def pairs(share: float) -> Preference:
        return Preference(path=tmp_path, holdout=share)

    base = Planned("base", Other())
    assert extend_plan([base, Planned("chats", chat(0.1)), Planned("pairs", pairs(0.1))]) == []
    assert extend_plan([base, Planned("chats", chat(0.1))]) == []
    (finding,) = extend_plan(
        [base, Planned("chats", chat(0.1), "r.yaml:3:1"), Planned("pairs", pairs(0), "r.yaml:4:1")]
    )
    assert finding.level == "warning"
    assert finding.place == "r.yaml:4:1"
    assert finding.problem.startswith("chats holds out 0.1 of the prompts, pairs 0:")
