"""Messages as chat templates know them, from the many ways in which data sets write them.

A message is {"role", "content"}, with role system, user, assistant or tool; an assistant's may have "tool_calls":
[{"type": "function", "function": {"name", "arguments": {...}}}]. Its text is never altered.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

Message = dict[str, Any]

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "tool_response": "tool",
    "function_response": "tool",
}
_CALLS = ("function_call", "tool_call")
_CARRIED = ("name", "tool_call_id", "reasoning_content")

# What templates agree on. A tool may answer a plain assistant turn: some data sets write the call into its text.
_FOLLOWS = {
    "": ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("tool", "assistant"),
}


class LeftOutError(Exception):
    """A row that cannot be used. Its text is the reason under which the row is counted."""


def read_messages(value: object, text_is: str = "") -> list[Message]:
    """A list of messages, a single one, or JSON text of either; a text is a message of the role `text_is`, if given.

    Keys may be role and content or from and value. A `function_call` joins the assistant's turn that it follows.
    """
    if isinstance(value, str) and text_is:
        return [{"role": text_is, "content": value}]
    turns = from_json(value, "messages of no known form")
    if isinstance(turns, Mapping):
        turns = [turns]
    if not isinstance(turns, list):
        raise LeftOutError("messages of no known form")
    messages: list[Message] = []
    for turn in turns:
        name, message = _read_message(turn)
        if name in _CALLS and messages and messages[-1]["role"] == "assistant":
            messages[-1].setdefault("tool_calls", []).extend(message["tool_calls"])
        else:
            messages.append(message)
    return messages


def from_json(value: object, reason: str) -> Any:
    """A value that may be written as JSON text, as in CSV; a text that is none is left out for the given reason."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise LeftOutError(reason) from error


def read_text(value: object) -> str:
    """A text; a missing one is empty."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise LeftOutError("content is not text")
    return value


def read_tools(value: object) -> list[dict[str, Any]] | None:
    """The tools of a row, each {"type": "function", "function": {...}}: from a list or its JSON text; None for none."""
    tools = from_json(value, "broken tools") if value else None
    if not tools:
        return None
    return [_read_tool(tool) for tool in (tools if isinstance(tools, list) else [tools])]


def with_system(messages: list[Message], of_row: object, default: str | None) -> list[Message]:
    """The messages, begun by their own system message, else by the row's, else by the default one, if there is any."""
    if messages and messages[0]["role"] == "system":
        if messages[0]["content"].strip():
            return messages
        messages = messages[1:]
    text = next((text for text in (read_text(of_row), default or "") if text.strip()), "")
    return [{"role": "system", "content": text}, *messages] if text else messages


def check_turns(messages: Sequence[Message]) -> None:
    """Raises LeftOutError unless the turns follow each other as templates want it, have text, and end in an answer."""
    before = ""
    for message in messages:
        role, text = message["role"], message["content"].strip()
        if role not in _FOLLOWS[before]:
            raise LeftOutError("turns out of order")
        if role == "user" and not text:
            raise LeftOutError("empty prompt")
        if role == "assistant" and not text and "tool_calls" not in message:
            raise LeftOutError("empty answer")
        before = role
    if before != "assistant":
        raise LeftOutError("no answer at the end")


def _read_message(turn: object) -> tuple[str, Message]:
    if not isinstance(turn, Mapping):
        raise LeftOutError("messages of no known form")
    turn = {key: value for key, value in turn.items() if value is not None}
    name, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
    if not isinstance(name, str):
        raise LeftOutError("messages of no known form")
    name = name.strip().lower()
    if name not in _ROLES:
        raise LeftOutError("unknown role")
    message: Message = {"role": _ROLES[name]}
    # OpenAI's and axolotl's marks.
    if message["role"] == "assistant" and (turn.get("weight") == 0 or turn.get("train") is False):
        raise LeftOutError("turns marked as not to be learnt")
    if name in _CALLS:
        return name, message | {"content": "", "tool_calls": _read_calls(content)}
    message["content"] = _read_content(content, message["role"])
    calls = turn.get("tool_calls") or turn.get("function_call")
    if calls and message["role"] == "assistant":
        message["tool_calls"] = _read_calls(calls)
    return name, message | {key: turn[key] for key in _CARRIED if isinstance(turn.get(key), str) and turn[key]}


def _read_content(content: object, role: str) -> str:
    parts = content if isinstance(content, list) else []
    if parts and all(isinstance(part, Mapping) and part.get("type") == "text" for part in parts):
        return "".join(read_text(part.get("text")) for part in parts)
    if role == "tool" and content is not None and not isinstance(content, str):
        return json.dumps(content, ensure_ascii=False)
    return read_text(content)


def _read_calls(value: object) -> list[dict[str, Any]]:
    calls = from_json(value, "broken tool call")
    read = [_read_call(call) for call in (calls if isinstance(calls, list) else [calls])]
    if not read:
        raise LeftOutError("broken tool call")
    return read


def _read_call(call: object) -> dict[str, Any]:
    inner = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str):
        raise LeftOutError("broken tool call")
    arguments = from_json(inner.get("arguments") or {}, "broken tool call")
    if not isinstance(arguments, Mapping):
        raise LeftOutError("broken tool call")
    read: dict[str, Any] = {"type": "function", "function": {"name": inner["name"], "arguments": dict(arguments)}}
    identity = call.get("id") if isinstance(call, Mapping) else None
    return read | {"id": identity} if isinstance(identity, str) and identity else read


def _read_tool(tool: object) -> dict[str, Any]:
    inner = tool.get("function", tool) if isinstance(tool, Mapping) else None
    if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str):
        raise LeftOutError("broken tools")
    return {"type": "function", "function": dict(inner)}
