"""One conversation, written in every way that data sets know, always becomes the same row."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tuneforge_data import Chat, Preference

from .conftest import CarryOut, Written
from .test_rows import json_values

Talk = list[dict[str, Any]]

texts = st.text(min_size=1, max_size=20).filter(str.strip)
calls = st.fixed_dictionaries(
    {
        "type": st.just("function"),
        "function": st.fixed_dictionaries(
            {"name": texts, "arguments": st.dictionaries(st.text(max_size=5), json_values, max_size=3)}
        ),
    }
)


@st.composite
def talks(draw: st.DrawFn, tools: bool = True) -> Talk:
    talk: Talk = [{"role": "system", "content": draw(texts)}] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        talk.append({"role": "user", "content": draw(texts)})
        for _ in range(draw(st.integers(0, 2)) if tools else 0):
            asked = draw(st.lists(calls, min_size=1, max_size=2))
            talk.append({"role": "assistant", "content": draw(texts | st.just("")), "tool_calls": asked})
            talk.extend({"role": "tool", "content": draw(st.text(max_size=20))} for _ in asked)
        talk.append({"role": "assistant", "content": draw(texts)})
    return talk


def as_openai(talk: Talk) -> Talk:
    """Arguments as JSON text, and no content beside a call."""
    written = []
    for message in talk:
        message = dict(message)
        if "tool_calls" in message:
            functions = [call["function"] for call in message["tool_calls"]]
            message["tool_calls"] = [
                {"function": {"name": function["name"], "arguments": json.dumps(function["arguments"])}}
                for function in functions
            ]
            message["content"] = message["content"] or None
        written.append(message)
    return written


def arguments_of(talk: Talk) -> list[str]:
    """The arguments of all calls as text, with the order of their keys, which templates show."""
    asked = [call for message in talk for call in message.get("tool_calls", ())]
    return [json.dumps(call["function"]["arguments"]) for call in asked]


def as_sharegpt(talk: Talk) -> Talk:
    names = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}
    written = []
    for message in talk:
        if message["content"] or "tool_calls" not in message:
            written.append({"from": names[message["role"]], "value": message["content"]})
        for call in message.get("tool_calls", ()):
            written.append({"from": "function_call", "value": json.dumps(call["function"])})
    return written


def as_alpaca(talk: Talk) -> dict[str, Any]:
    system = talk[0]["content"] if talk[0]["role"] == "system" else ""
    contents = [message["content"] for message in talk if message["role"] != "system"]
    *history, (instruction, output) = zip(contents[::2], contents[1::2], strict=True)
    return {"instruction": instruction, "input": "", "output": output, "system": system, "history": history}


@settings(max_examples=60, deadline=None)
@given(talks())
def test_a_conversation_is_the_same_row_in_every_shape(carry_out: CarryOut, written: Written, talk: Talk) -> None:
    rows: list[object] = [
        {"messages": talk},
        {"messages": as_openai(talk)},
        {"messages": json.dumps(as_openai(talk))},
        {"conversations": as_sharegpt(talk)},
        {"conversations": json.dumps(as_sharegpt(talk))},
        {"prompt": talk[:-1], "completion": talk[-1]},
    ]
    outcome = carry_out(Chat(path=written(rows)))
    assert [row["messages"] for row in outcome.train] == [talk] * len(rows)
    for row in outcome.train:
        assert arguments_of(row["messages"]) == arguments_of(talk)


@settings(max_examples=30, deadline=None)
@given(talks(tools=False))
def test_a_plain_conversation_is_an_alpaca_row_too(carry_out: CarryOut, written: Written, talk: Talk) -> None:
    outcome = carry_out(Chat(path=written([as_alpaca(talk)])))
    assert [row["messages"] for row in outcome.train] == [talk]


@settings(max_examples=40, deadline=None)
@given(talks(), texts, texts)
def test_a_pair_is_the_same_row_in_every_shape(
    carry_out: CarryOut, written: Written, talk: Talk, one: str, other: str
) -> None:
    prompt = talk[:-1]
    chosen, rejected = ([{"role": "assistant", "content": text}] for text in (one, f"{other} or {one}"))
    rows: list[object] = [
        {"prompt": prompt, "chosen": chosen, "rejected": rejected},
        {"prompt": as_openai(prompt), "chosen": chosen[0], "rejected": rejected[0]["content"]},
        {"prompt": prompt, "chosen": prompt + chosen, "rejected": prompt + rejected},
        {"chosen": as_openai(prompt + chosen), "rejected": as_openai(prompt + rejected)},
        {
            "conversations": as_sharegpt(prompt),
            "chosen": as_sharegpt(chosen)[0],
            "rejected": as_sharegpt(rejected)[0],
        },
    ]
    outcome = carry_out(Preference(path=written(rows)))
    expected = {"prompt": prompt, "chosen": chosen, "rejected": rejected, "tools": None, "margin": None}
    assert outcome.train == [expected] * len(rows)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        json_values
        | st.fixed_dictionaries({"messages": json_values})
        | st.fixed_dictionaries(
            {"conversations": st.lists(st.fixed_dictionaries({"from": texts, "value": json_values}))}
        )
        | st.fixed_dictionaries({"messages": talks()})
        | st.fixed_dictionaries({"messages": talks(), "tools": json_values}),
        max_size=8,
    ),
    st.sampled_from([0, 0.2, 0.5]),
)
def test_every_row_is_kept_or_counted(
    carry_out: CarryOut, written: Written, rows: list[object], holdout: float
) -> None:
    # Enough prompts that some are trained on and some held out, whatever the rest is.
    good = [{"prompt": f"Number {number}?", "completion": "Yes"} for number in range(20)]
    outcome = carry_out(Chat(path=written([*rows, *good]), holdout=holdout, max_left_out=1))
    summary = outcome.summary
    assert summary["read"] == len(rows) + len(good)
    assert summary["kept"] == {"train": len(outcome.train), "held_out": len(outcome.held_out)}
    assert summary["read"] == sum(summary["kept"].values()) + sum(summary["left_out"].values())
    assert 0 not in summary["left_out"].values()
    assert outcome.metrics == summary
    for row in outcome.train + outcome.held_out:
        roles = [message["role"] for message in row["messages"]]
        assert roles[-1] == "assistant" and ("user", "user") not in pairwise(roles)
