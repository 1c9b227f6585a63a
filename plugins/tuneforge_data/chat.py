"""`format: chat`: conversations to be tuned on."""

from __future__ import annotations

from typing import Literal

from tuneforge import ChatData, Field

from .options import Columns, Conversations
from .shapes import CHAT_SHAPES


class ChatColumns(Columns):
    """What a chat data set calls its columns."""

    messages: str | None = Field(
        None,
        description="Messages of role and content, or from and value: a list, or JSON text of one.",
        also=("dialog", "dialogue", "dialogs", "chat", "turns", "field_messages"),
    )
    conversations: str | None = Field(
        None, description="The same, as ShareGPT calls it.", also=("conversation", "items", "chatml")
    )
    instruction: str | None = Field(None, description="Alpaca's instruction.", also=("task", "field_instruction"))
    input: str | None = Field(
        None, description="Alpaca's input, which follows the instruction.", also=("context", "field_input")
    )
    output: str | None = Field(
        None, description="Alpaca's answer.", also=("answer", "response", "target", "field_output")
    )
    history: str | None = Field(None, description="Alpaca's earlier turns: a list of (prompt, answer) pairs.")
    prompt: str | None = Field(
        None,
        description="The user's message, or a list of messages that an answer follows.",
        also=("question", "query", "user", "problem", "text"),
    )
    completion: str | None = Field(
        None,
        description="The answer to prompt.",
        also=("answer", "response", "reply", "assistant", "solution", "target", "label"),
    )
    system: str | None = Field(None, description="The system prompt of a row.", also=("field_system",))
    tools: str | None = Field(
        None, description="The tools of a row: a list of JSON schemas, or JSON text of one.", also=("functions",)
    )


class Chat(Conversations):
    """Conversations out of raw rows, whose shape is recognised by itself.

    - messages (ChatML): {"messages": [{"role", "content"}, ...]}
    - sharegpt: {"conversations": [{"from", "value"}, ...]}, function_call and observation included
    - alpaca: {"instruction", "input", "output", "history"}
    - completion: {"prompt", "completion"}

    A row may also have "system" and "tools". A row that no model could be trained on (no answer at the end, turns
    out of order, broken JSON) is left out, counted by reason in data.json; nothing is ever cut.
    """

    name = "chat"
    version = 2
    output = ChatData
    shapes = CHAT_SHAPES

    shape: Literal["auto", "messages", "sharegpt", "alpaca", "completion"] = Field(
        "auto",
        description="How rows are written; auto tells it of every row by its columns.",
        also=("formatting", "prompt_strategy", "chat_format", "data_format"),
    )
    columns: ChatColumns = Field(
        ChatColumns(),
        description="What the data set calls its columns, where it has other names: {prompt: question}.",
        also=("column_mapping", "field_mapping", "features", "message_property_mappings"),
    )
