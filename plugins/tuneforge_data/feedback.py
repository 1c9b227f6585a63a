"""`format: feedback`: prompts with one answer each, and whether it was a good one."""

from __future__ import annotations

from typing import Literal

from tuneforge import FeedbackData, Field

from .options import Columns, Conversations
from .shapes import FEEDBACK_SHAPES


class FeedbackColumns(Columns):
    """What a feedback data set calls its columns."""

    prompt: str | None = Field(
        None,
        description="The user's message, or a list of messages that the answer follows.",
        also=("question", "query", "user", "problem", "text"),
    )
    completion: str | None = Field(
        None,
        description="The answer to prompt: a text, a message, or a list of them.",
        also=("answer", "response", "reply", "assistant", "solution", "generation"),
    )
    messages: str | None = Field(
        None,
        description="Messages of role and content, or from and value, the last of which is the answer that was judged.",
        also=("dialog", "dialogue", "dialogs", "chat", "turns"),
    )
    conversations: str | None = Field(
        None, description="The same, as ShareGPT calls it.", also=("conversation", "items", "chatml")
    )
    instruction: str | None = Field(None, description="The prompt as Alpaca's instruction.", also=("task",))
    input: str | None = Field(None, description="Alpaca's input, which follows the instruction.")
    output: str | None = Field(None, description="Alpaca's answer.", also=("answer", "response", "target"))
    history: str | None = Field(None, description="Alpaca's earlier turns: a list of (prompt, answer) pairs.")
    label: str | None = Field(
        None,
        description="Whether the answer was a good one: true or false, or 1 or 0.",
        also=("thumbs_up", "liked", "is_good", "desirable", "feedback", "good"),
    )
    kto_tag: str | None = Field(None, description="The same, as LLaMA-Factory calls it.")
    system: str | None = Field(None, description="The system prompt of a row.")
    tools: str | None = Field(
        None, description="The tools of a row: a list of JSON schemas, or JSON text of one.", also=("functions",)
    )


class Feedback(Conversations):
    """Answers with a thumb up or down out of raw rows, whose shape is recognised by itself.

    - completion: {"prompt", "completion", "label"}, the first two each a text or messages; all of completion was judged
    - messages: {"messages": [{"role", "content"}, ...], "label"}; the last turn is what was judged
    - sharegpt: {"conversations": [{"from", "value"}, ...], "kto_tag"}
    - alpaca: {"instruction", "input", "output", "kto_tag"}

    The label may be called label or kto_tag, and is true or false, or 1 or 0. A row may also have "system" and "tools".
    A row that no model could be trained on (an empty answer, a label that is neither, broken JSON) is left out, counted
    by reason in data.json; nothing is ever cut.
    """

    name = "feedback"
    output = FeedbackData
    shapes = FEEDBACK_SHAPES

    shape: Literal["auto", "completion", "messages", "sharegpt", "alpaca"] = Field(
        "auto",
        description="How rows are written; auto tells it of every row by its columns.",
        also=("formatting", "prompt_strategy", "chat_format", "data_format"),
    )
    columns: FeedbackColumns = Field(
        FeedbackColumns(),
        description="What the data set calls its columns, where it has other names: {label: thumbs_up}.",
        also=("column_mapping", "field_mapping", "features"),
    )
