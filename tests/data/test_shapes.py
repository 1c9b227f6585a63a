"""Every shape of row, and what exactly it becomes or why it is left out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tuneforge_data import Chat, Feedback, Preference

from .conftest import CarryOut, Converted, Written

TOOL = {"name": "weather", "description": "Of a place.", "parameters": {"type": "object", "properties": {}}}
WRAPPED = {"type": "function", "function": TOOL}


def system(text: str) -> dict[str, Any]:
    return {"role": "system", "content": text}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def tool(text: str) -> dict[str, Any]:
    return {"role": "tool", "content": text}


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def calling(*calls: dict[str, Any], text: str = "") -> dict[str, Any]:
    return {"role": "assistant", "content": text, "tool_calls": list(calls)}


def said(role: str, value: object) -> dict[str, Any]:
    return {"from": role, "value": value}


TALK = [user("Hi"), assistant("Hello"), user("Bye"), assistant("So long")]
SHARED_TALK = [said("human", "Hi"), said("gpt", "Hello"), said("human", "Bye"), said("gpt", "So long")]

CHAT_ROWS: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "messages": ({"messages": TALK}, TALK),
    "messages, as JSON text": ({"messages": json.dumps(TALK)}, TALK),
    "messages, in the column conversations": ({"conversations": TALK}, TALK),
    "messages, by ShareGPT's keys": ({"messages": SHARED_TALK}, TALK),
    "messages, beside null columns": ({"instruction": None, "output": None, "messages": TALK}, TALK),
    "completion, beside null columns": (
        {"messages": None, "conversations": None, "prompt": "Hi", "completion": "Hello", "system": None},
        TALK[:2],
    ),
    "messages, with null keys": (
        {"messages": [{**turn, "from": turn["role"], "role": None, "weight": None} for turn in TALK]},
        TALK,
    ),
    "messages, marked as to be learnt": (
        {"messages": [{**turn, "weight": int(turn["role"] == "assistant"), "train": True} for turn in TALK]},
        TALK,
    ),
    "messages, beside other columns": ({"id": 7, "source": "web", "prompt": "Hi", "messages": TALK}, TALK),
    "messages, with a developer": (
        {"messages": [{"role": "developer", "content": "Short."}, *TALK]},
        [system("Short."), *TALK],
    ),
    "messages, with an empty system prompt": ({"messages": [system(""), *TALK]}, TALK),
    "messages, with a column system": ({"system": "Short.", "messages": TALK}, [system("Short."), *TALK]),
    "messages, with two system prompts": (
        {"system": "Long.", "messages": [system("Short."), *TALK]},
        [system("Short."), *TALK],
    ),
    "messages, in parts": (
        {"messages": [user("Hi"), {"role": "assistant", "content": [{"type": "text", "text": t} for t in ("a", "b")]}]},
        [user("Hi"), assistant("ab")],
    ),
    "messages, with white space kept": (
        {"messages": [user(" Hi\n"), assistant("\n\nx\t")]},
        [user(" Hi\n"), assistant("\n\nx\t")],
    ),
    "messages, with reasoning": (
        {"messages": [user("Hi"), {**assistant("x"), "reasoning_content": "Hm."}]},
        [user("Hi"), {**assistant("x"), "reasoning_content": "Hm."}],
    ),
    "messages, with a call as OpenAI writes it": (
        {
            "messages": [
                user("Rain?"),
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"at": "Bonn"}'}}
                    ],
                },
                {"role": "tool", "tool_call_id": "c1", "name": "weather", "content": '{"rain": true}'},
                assistant("Yes"),
            ]
        },
        [
            user("Rain?"),
            calling({**call("weather", at="Bonn"), "id": "c1"}),
            {**tool('{"rain": true}'), "name": "weather", "tool_call_id": "c1"},
            assistant("Yes"),
        ],
    ),
    "messages, with the older function_call": (
        {
            "messages": [
                user("Rain?"),
                {"role": "assistant", "content": "", "function_call": {"name": "weather", "arguments": "{}"}},
                {"role": "function", "name": "weather", "content": {"rain": True}},
                assistant("Yes"),
            ]
        },
        [user("Rain?"), calling(call("weather")), {**tool('{"rain": true}'), "name": "weather"}, assistant("Yes")],
    ),
    "messages, ending in a call": (
        {"messages": [user("Rain?"), calling(call("weather"))]},
        [user("Rain?"), calling(call("weather"))],
    ),
    "sharegpt": ({"conversations": SHARED_TALK}, TALK),
    "sharegpt, with system turn": (
        {"conversations": [said("system", "Short."), *SHARED_TALK]},
        [system("Short."), *TALK],
    ),
    "sharegpt, with a call": (
        {
            "conversations": [
                said("human", "Rain?"),
                said("function_call", '{"name": "weather", "arguments": {"at": "Bonn", "days": [1, 2]}}'),
                said("observation", '{"rain": true}'),
                said("gpt", "Yes"),
            ]
        },
        [user("Rain?"), calling(call("weather", at="Bonn", days=[1, 2])), tool('{"rain": true}'), assistant("Yes")],
    ),
    "sharegpt, with a text before a call": (
        {
            "conversations": [
                said("human", "Rain?"),
                said("gpt", "Let me see"),
                said("function_call", {"name": "weather"}),
            ]
        },
        [user("Rain?"), calling(call("weather"), text="Let me see")],
    ),
    "sharegpt, with several calls": (
        {
            "conversations": [
                said("human", "Rain?"),
                said("function_call", '{"name": "a", "arguments": {"x": 1}}'),
                said("function_call", '[{"name": "b", "arguments": "{\\"x\\": 2}"}, {"name": "c"}]'),
                said("observation", "1"),
                said("observation", ""),
                said("gpt", "Yes"),
            ]
        },
        [
            user("Rain?"),
            calling(call("a", x=1), call("b", x=2), call("c")),
            tool("1"),
            tool(""),
            assistant("Yes"),
        ],
    ),
    "sharegpt, with the call in the text": (
        {"conversations": [said("human", "Rain?"), said("gpt", "<call>"), said("tool", "yes"), said("gpt", "Yes")]},
        [user("Rain?"), assistant("<call>"), tool("yes"), assistant("Yes")],
    ),
    "alpaca": ({"instruction": "Add.", "input": "1 2", "output": "3"}, [user("Add.\n1 2"), assistant("3")]),
    "alpaca, without input": ({"instruction": "Hi", "input": "", "output": "Hello"}, TALK[:2]),
    "alpaca, without the column input": ({"instruction": "Hi", "output": "Hello"}, TALK[:2]),
    "alpaca, with all": (
        {"instruction": "Bye", "input": None, "output": "So long", "system": "Short.", "history": [["Hi", "Hello"]]},
        [system("Short."), *TALK],
    ),
    "completion": ({"prompt": "Hi", "completion": "Hello"}, TALK[:2]),
    "completion, in messages": ({"prompt": TALK[:3], "completion": TALK[3:]}, TALK),
    "completion, text that looks like JSON": (
        {"prompt": '["Hi"]', "completion": '{"a": 1}'},
        [user('["Hi"]'), assistant('{"a": 1}')],
    ),
}


@pytest.mark.parametrize("case", CHAT_ROWS)
def test_chat_rows(case: str, converted: Converted) -> None:
    raw, messages = CHAT_ROWS[case]
    assert converted(Chat, raw) == {"messages": messages, "tools": None}


@pytest.mark.parametrize(
    ("tools", "expected"),
    [
        ([TOOL], [WRAPPED]),
        ([WRAPPED], [WRAPPED]),
        (TOOL, [WRAPPED]),
        (json.dumps([TOOL, TOOL]), [WRAPPED, WRAPPED]),
        ("[]", None),
        ("", None),
        ([], None),
        (None, None),
    ],
)
def test_tools(tools: object, expected: object, converted: Converted) -> None:
    assert converted(Chat, {"conversations": SHARED_TALK, "tools": tools})["tools"] == expected
    pair = {"prompt": "Hi", "chosen": "a", "rejected": "b", "tools": tools}
    assert converted(Preference, pair)["tools"] == expected


def test_the_default_system_prompt_is_for_rows_without_one(converted: Converted) -> None:
    assert converted(Chat, {"messages": TALK}, system="Be kind.")["messages"] == [system("Be kind."), *TALK]
    own = {"messages": TALK, "system": "Short."}
    assert converted(Chat, own, system="Be kind.")["messages"][0] == system("Short.")
    pair = {"prompt": "Hi", "chosen": "a", "rejected": "b"}
    assert converted(Preference, pair, system="Be kind.")["prompt"] == [system("Be kind."), user("Hi")]


def test_columns_are_renamed(converted: Converted) -> None:
    talk = {"messages": TALK[:2], "tools": None}
    renamed = {"question": "Hi", "answer": "Hello", "messages": "of another kind"}
    assert converted(Chat, renamed, columns={"prompt": "question", "completion": "answer"}) == talk
    assert converted(Chat, {"dialog": TALK[:2]}, columns={"messages": "dialog"}) == talk
    swapped = {"output": "Hi", "instruction": "Hello"}
    assert converted(Chat, swapped, columns={"instruction": "output", "output": "instruction"}) == talk


def test_a_renamed_column_is_not_read_twice(converted: Converted) -> None:
    row = {"instruction": "Hi", "input": "Hello"}
    assert converted(Chat, row, columns={"output": "input"})["messages"] == TALK[:2]


def test_the_shape_can_be_named(converted: Converted) -> None:
    row = {"messages": TALK, "instruction": "Hi", "output": "Hello"}
    assert converted(Chat, row)["messages"] == TALK
    assert converted(Chat, row, shape="alpaca")["messages"] == TALK[:2]


A, B = [assistant("a")], [assistant("b")]
PAIR = {"prompt": [user("Hi")], "chosen": A, "rejected": B, "tools": None, "margin": None}
LONG_PAIR = {**PAIR, "prompt": TALK[:3]}

PREFERENCE_ROWS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "explicit": ({"prompt": "Hi", "chosen": "a", "rejected": "b"}, PAIR),
    "explicit, answers as messages": ({"prompt": "Hi", "chosen": A[0], "rejected": B}, PAIR),
    "explicit, all as messages": ({"prompt": TALK[:3], "chosen": A, "rejected": B}, LONG_PAIR),
    "explicit, answers with their prompt": (
        {"prompt": "Hi", "chosen": [user("Hi"), *A], "rejected": [user("Hi"), *B]},
        PAIR,
    ),
    "explicit, with system": (
        {"prompt": "Hi", "chosen": "a", "rejected": "b", "system": "Short."},
        {**PAIR, "prompt": [system("Short."), user("Hi")]},
    ),
    "implicit": ({"chosen": [*TALK[:3], *A], "rejected": [*TALK[:3], *B]}, LONG_PAIR),
    "implicit, as JSON text": (
        {"chosen": json.dumps([user("Hi"), *A]), "rejected": json.dumps([user("Hi"), *B])},
        PAIR,
    ),
    "implicit, parting for several turns": (
        {"chosen": [user("Hi"), *A, user("x"), *A], "rejected": [user("Hi"), *B]},
        {**PAIR, "chosen": [*A, user("x"), *A]},
    ),
    "implicit, parting in a user's turn": (
        {"chosen": [user("Hi"), *A, user("x"), *A], "rejected": [user("Hi"), *A, user("y"), *A]},
        {**PAIR, "chosen": [*A, user("x"), *A], "rejected": [*A, user("y"), *A]},
    ),
    "implicit, one longer than the other": (
        {"chosen": [user("Hi"), *A, user("x"), *A], "rejected": [user("Hi"), *A]},
        {**PAIR, "chosen": [*A, user("x"), *A], "rejected": A},
    ),
    "sharegpt": (
        {"conversations": SHARED_TALK[:3], "chosen": said("gpt", "a"), "rejected": said("gpt", "b")},
        LONG_PAIR,
    ),
    "sharegpt, answers as text": ({"conversations": SHARED_TALK[:1], "chosen": "a", "rejected": "b"}, PAIR),
    "alpaca": (
        {"instruction": "Add.", "input": "1 2", "chosen": "a", "rejected": "b"},
        {**PAIR, "prompt": [user("Add.\n1 2")]},
    ),
}


@pytest.mark.parametrize("case", PREFERENCE_ROWS)
def test_preference_rows(case: str, converted: Converted) -> None:
    raw, pair = PREFERENCE_ROWS[case]
    assert converted(Preference, raw) == pair


FEEDBACK_ROWS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "completion": ({"prompt": "Hi", "completion": "a", "label": True}, {"prompt": [user("Hi")], "label": True}),
    "completion, as messages": (
        {"prompt": TALK[:3], "completion": A, "label": False},
        {"prompt": TALK[:3], "label": False},
    ),
    "messages": ({"messages": [*TALK[:3], *A], "label": 1}, {"prompt": TALK[:3], "label": True}),
    "messages, with a tag": (
        {"messages": [user("Hi"), *A], "kto_tag": "false"},
        {"prompt": [user("Hi")], "label": False},
    ),
    "sharegpt, with a tag": (
        {"conversations": [said("human", "Hi"), said("gpt", "a")], "kto_tag": False, "system": "Short."},
        {"prompt": [system("Short."), user("Hi")], "label": False},
    ),
    "alpaca": (
        {"instruction": "Hi", "input": "there", "output": "a", "kto_tag": "True"},
        {"prompt": [user("Hi\nthere")], "label": True},
    ),
    "completion, beside a null column": (
        {"messages": None, "prompt": "Hi", "completion": "a", "kto_tag": None, "label": 0},
        {"prompt": [user("Hi")], "label": False},
    ),
}


@pytest.mark.parametrize("case", FEEDBACK_ROWS)
def test_feedback_rows(case: str, converted: Converted) -> None:
    raw, judged = FEEDBACK_ROWS[case]
    assert converted(Feedback, raw) == {**judged, "answer": A, "tools": None}


LEFT_OUT: list[tuple[str, object]] = [
    ("not an object", ["Hi", "Hello"]),
    ("columns of no known shape", {"text": "Hi"}),
    ("messages of no known form", {"messages": "Hi"}),
    ("messages of no known form", {"messages": 3}),
    ("messages of no known form", {"messages": ["Hi", "Hello"]}),
    ("messages of no known form", {"messages": [{"content": "Hi"}]}),
    ("unknown role", {"messages": [{"role": "narrator", "content": "Once"}, *TALK]}),
    ("content is not text", {"messages": [user("Hi"), {"role": "assistant", "content": 3}]}),
    ("content is not text", {"messages": [{"role": "user", "content": [{"type": "image", "url": "x"}]}, TALK[1]]}),
    ("no answer at the end", {"messages": []}),
    ("no answer at the end", {"messages": TALK[:3]}),
    ("no answer at the end", {"messages": [*TALK[:2], tool("x")]}),
    ("turns out of order", {"messages": TALK[1:]}),
    ("turns out of order", {"messages": [user("Hi"), user("Hi"), assistant("Hello")]}),
    ("turns out of order", {"messages": [user("Hi"), assistant("Hello"), assistant("Hello")]}),
    ("turns out of order", {"messages": [user("Hi"), tool("x"), assistant("Hello")]}),
    ("turns out of order", {"messages": [*TALK[:2], system("Short."), *TALK[2:]]}),
    ("turns out of order", {"messages": [system("Short."), assistant("Hello")]}),
    ("empty prompt", {"messages": [user(" \n"), assistant("Hello")]}),
    ("empty answer", {"messages": [user("Hi"), assistant(" ")]}),
    ("empty answer", {"messages": [user("Hi"), assistant(""), *TALK[2:]]}),
    ("empty prompt", {"instruction": "", "input": " ", "output": "x"}),
    ("empty answer", {"instruction": "Hi", "input": "", "output": ""}),
    ("empty answer", {"instruction": "Hi", "output": None}),
    ("history is not a list of pairs", {"instruction": "Hi", "output": "x", "history": [["a"]]}),
    ("broken tool call", {"conversations": [said("human", "Hi"), said("function_call", "{'name': 'x'}")]}),
    ("broken tool call", {"conversations": [said("human", "Hi"), said("function_call", "[]")]}),
    ("broken tool call", {"conversations": [said("human", "Hi"), said("function_call", '{"arguments": {}}')]}),
    ("broken tool call", {"messages": [user("Hi"), calling({"name": "x", "arguments": "[1]"})]}),
    ("broken tools", {"messages": TALK, "tools": "[{"}),
    ("broken tools", {"messages": TALK, "tools": [{"description": "nameless"}]}),
    ("turns marked as not to be learnt", {"messages": [*TALK[:3], {**TALK[3], "weight": 0}]}),
    ("turns marked as not to be learnt", {"messages": [*TALK[:1], {**TALK[1], "train": False}, *TALK[2:]]}),
    ("not expressible as JSON", {"messages": [user("Hi"), assistant("\ud83d")]}),
]


@pytest.mark.parametrize(("reason", "raw"), LEFT_OUT)
def test_chat_rows_left_out(reason: str, raw: object, carry_out: CarryOut, written: Written) -> None:
    outcome = carry_out(Chat(path=written([raw, {"messages": TALK}])))
    assert outcome.summary["left_out"] == {reason: 1}
    assert [row["messages"] for row in outcome.train] == [TALK]


@pytest.mark.parametrize(
    ("reason", "raw"),
    [
        ("chosen equals rejected", {"prompt": "Hi", "chosen": "a", "rejected": "a"}),
        ("chosen equals rejected", {"chosen": TALK, "rejected": TALK}),
        ("empty answer", {"prompt": "Hi", "chosen": "a", "rejected": " "}),
        ("empty answer", {"prompt": TALK, "chosen": [], "rejected": "b"}),
        ("empty prompt", {"prompt": "", "chosen": "a", "rejected": "b"}),
        ("empty prompt", {"prompt": [], "chosen": "a", "rejected": "b"}),
        ("turns out of order", {"prompt": TALK, "chosen": "a", "rejected": "b"}),
        ("turns out of order", {"prompt": "Hi", "chosen": [user("x"), *A], "rejected": "b"}),
        ("turns out of order", {"prompt": [system("Short.")], "chosen": "a", "rejected": "b"}),
        ("chosen and rejected share no prompt", {"chosen": [user("Hi"), *A], "rejected": [user("Ho"), *A]}),
        ("messages of no known form", {"chosen": "[", "rejected": "["}),
        ("columns of no known shape", {"chosen": "a", "rejected": "b"}),
        ("columns of no known shape", {"prompt": "Hi", "completion": "a"}),
    ],
)
def test_preference_rows_left_out(reason: str, raw: object, carry_out: CarryOut, written: Written) -> None:
    outcome = carry_out(Preference(path=written([raw, {"prompt": "Hi", "chosen": "a", "rejected": "b"}])))
    assert outcome.summary["left_out"] == {reason: 1}
    assert outcome.train == [PAIR]


@pytest.mark.parametrize(
    ("reason", "raw"),
    [
        ("label is neither true nor false", {"prompt": "Hi", "completion": "a", "label": 4.5}),
        ("label is neither true nor false", {"prompt": "Hi", "completion": "a", "label": "maybe"}),
        ("label is neither true nor false", {"prompt": "Hi", "completion": "a", "label": None}),
        ("empty answer", {"prompt": "Hi", "completion": "", "label": True}),
        ("turns out of order", {"messages": A, "label": True}),
        ("no answer at the end", {"messages": [user("Hi")], "label": True}),
        ("turns out of order", {"prompt": [user("Hi")], "completion": [user("Hi"), *A], "label": True}),
        ("turns out of order", {"prompt": TALK[:2], "completion": [user("Hi"), *A], "label": True}),
        ("empty answer", {"prompt": TALK[:2], "completion": [], "label": True}),
    ],
)
def test_feedback_rows_left_out(reason: str, raw: object, carry_out: CarryOut, written: Written) -> None:
    outcome = carry_out(Feedback(path=written([raw, {"prompt": "Hi", "completion": "a", "label": True}])))
    assert outcome.summary["left_out"] == {reason: 1}
    assert len(outcome.train) == 1


def test_all_turns_of_an_answer_are_judged(converted: Converted) -> None:
    answer = [calling(call("weather", at="Bonn")), tool("wet"), assistant("Rain")]
    row = converted(Feedback, {"prompt": "Rain?", "completion": answer, "label": True})
    assert (row["prompt"], row["answer"]) == ([user("Rain?")], answer)


def test_feedback_columns_are_renamed(converted: Converted) -> None:
    row = {"question": "Hi", "reply": "a", "thumbs_up": True}
    renamed = converted(Feedback, row, columns={"prompt": "question", "completion": "reply", "label": "thumbs_up"})
    assert (renamed["answer"], renamed["label"]) == (A, True)
