"""`format: prompts`: what every shape of row becomes, and why one is left out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tuneforge import Model, PromptData
from tuneforge_data import Chat, Prompts

from .conftest import CarryOut, Converted, Written
from .test_lengths import model  # noqa: F401 - a fixture
from .test_shapes import SHARED_TALK, TALK, WRAPPED, assistant, call, calling, said, system, user

RECORD = '{"item":"bolts","quantity":28}'

ROWS: dict[str, tuple[dict[str, Any], list[dict[str, Any]], str | None]] = {
    "prompts": ({"prompt": "2 + 2?", "reference": "4"}, [user("2 + 2?")], "4"),
    "prompts, a number": ({"prompt": "2 + 2?", "reference": 4}, [user("2 + 2?")], "4"),
    "prompts, a record": (
        {"prompt": "Record it.", "reference": {"item": "bolts", "quantity": 28}},
        [user("Record it.")],
        RECORD,
    ),
    "prompts, alone": ({"prompt": "Hi"}, [user("Hi")], None),
    "prompts, an empty reference": ({"prompt": "Hi", "reference": " "}, [user("Hi")], None),
    "prompts, messages": ({"prompt": TALK[:3], "reference": "So long"}, TALK[:3], "So long"),
    "prompts, with a system prompt": (
        {"prompt": "Hi", "system": "Short."},
        [system("Short."), user("Hi")],
        None,
    ),
    "messages": ({"messages": TALK}, TALK[:3], "So long"),
    "messages, that end with the user": ({"messages": TALK[:3]}, TALK[:3], None),
    "messages, with a reference": ({"messages": TALK, "reference": "Bye"}, TALK[:3], "Bye"),
    "messages, with an empty answer": ({"messages": [*TALK[:3], assistant("")]}, TALK[:3], None),
    "messages, ending in a call": (
        {"messages": [user("Rain?"), calling(call("weather", at="Bonn"))]},
        [user("Rain?")],
        '{"name":"weather","arguments":{"at":"Bonn"}}',
    ),
    "messages, ending in calls after a text": (
        {"messages": [user("Rain?"), calling(call("a"), call("b"), text="Let me see")]},
        [user("Rain?")],
        'Let me see\n[{"name":"a","arguments":{}},{"name":"b","arguments":{}}]',
    ),
    "sharegpt": ({"conversations": SHARED_TALK}, TALK[:3], "So long"),
    "alpaca": ({"instruction": "Add.", "input": "1 2", "output": "3"}, [user("Add.\n1 2")], "3"),
    "alpaca, without an answer": ({"instruction": "Add.", "input": "1 2", "output": ""}, [user("Add.\n1 2")], None),
    "completion": ({"prompt": "Hi", "completion": "Hello"}, TALK[:1], "Hello"),
    "completion, beside a null answer": ({"prompt": "Hi", "completion": None}, TALK[:1], None),
    "explicit": ({"prompt": "Hi", "chosen": "Hello", "rejected": "No"}, TALK[:1], "Hello"),
    "implicit": ({"chosen": TALK, "rejected": [*TALK[:3], assistant("No")]}, TALK[:3], "So long"),
    "sharegpt's pairs": (
        {"conversations": SHARED_TALK[:3], "chosen": said("gpt", "So long"), "rejected": said("gpt", "No")},
        TALK[:3],
        "So long",
    ),
    "alpaca's pairs": (
        {"instruction": "Add.", "input": "1 2", "chosen": "3", "rejected": "4", "system": "Short."},
        [system("Short."), user("Add.\n1 2")],
        "3",
    ),
}


@pytest.mark.parametrize("case", ROWS)
def test_rows(case: str, converted: Converted) -> None:
    raw, prompt, reference = ROWS[case]
    assert converted(Prompts, raw) == {"prompt": prompt, "reference": reference, "tools": None}


def test_tools_come_along(converted: Converted) -> None:
    assert converted(Prompts, {"prompt": "Rain?", "tools": json.dumps([WRAPPED])})["tools"] == [WRAPPED]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": ""}, "empty prompt"),
        ({"prompt": []}, "empty prompt"),
        ({"messages": [assistant("Hello")]}, "empty prompt"),
        ({"prompt": [system("Short.")]}, "turns out of order"),
        ({"prompt": [user("Hi"), user("Hi")]}, "turns out of order"),
        ({"prompt": "Hi", "tools": "[{"}, "broken tools"),
        ({"text": "Hi"}, "columns of no known shape"),
    ],
)
def test_rows_that_cannot_be_used(row: dict[str, Any], reason: str, carry_out: CarryOut, written: Written) -> None:
    outcome = carry_out(Prompts(path=written([row, {"prompt": "Hi"}])))
    assert outcome.summary["left_out"] == {reason: 1}


def test_the_columns_of_math_sets_are_suggested_and_taken(written: Written, converted: Converted) -> None:
    row = {"question": "2 + 2?", "answer": "It is 4.\n#### 4"}
    (finding,) = Prompts(path=written([row])).check({})
    assert finding.fix.startswith("Add `columns: {prompt: question, reference: answer}`.")
    found = converted(Prompts, row, columns={"prompt": "question", "reference": "answer"})
    assert found == {"prompt": [user("2 + 2?")], "reference": "It is 4.\n#### 4", "tools": None}


def test_a_default_system_prompt(converted: Converted) -> None:
    for row in ({"prompt": "Hi"}, {"messages": TALK[:2]}, {"prompt": "Hi", "chosen": "Hello", "rejected": "No"}):
        assert converted(Prompts, row, system="Be brief.")["prompt"] == [system("Be brief."), user("Hi")]


def test_prompts_are_held_out_as_chats_are(carry_out: CarryOut, written: Written) -> None:
    path = written([{"prompt": f"Question {number}?", "completion": "Yes"} for number in range(100)])
    prompts, chats = (carry_out(kind(path=path, holdout=0.2)) for kind in (Prompts, Chat))
    assert prompts.held_out and [row["prompt"] for row in prompts.held_out] == [
        row["messages"][:1] for row in chats.held_out
    ]


def test_max_length_counts_the_prompt_alone(carry_out: CarryOut, written: Written, model: Model) -> None:  # noqa: F811
    # (user, n words, end) and the assistant's beginning.
    rows = [{"prompt": "word " * words, "reference": "word " * 50} for words in range(1, 8)]
    outcome = carry_out(Prompts(path=written(rows), max_length=7), model)
    assert len(outcome.train) == 4
    assert outcome.summary["left_out"] == {"overlength": 3}


def test_what_is_expected_is_what_comes(carry_out: CarryOut, written: Written) -> None:
    method = Prompts(path=written([{"prompt": f"Is {number} even?", "reference": "Yes"} for number in range(60)]))
    expected, outcome = method.foresee({}), carry_out(method)
    found = PromptData.facts(outcome.folder)
    assert (expected.kind, expected.rows, found.rows) == (PromptData, 60, 60)
    assert found.row_bytes == pytest.approx(expected.row_bytes, rel=0.02)


def test_rows_of_prompts_are_told_to_other_methods(written: Written) -> None:
    (finding,) = Chat(path=written([{"prompt": "Hi", "difficulty": 3}])).check({})
    assert finding.fix == "These are rows for `format: prompts`."
