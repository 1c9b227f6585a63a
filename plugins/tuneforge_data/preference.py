"""`format: preference`: prompts with a better and a worse answer, to be aligned on."""

from __future__ import annotations

from typing import Literal

from tuneforge import Field, PreferenceData

from .options import Columns, Conversations
from .shapes import PREFERENCE_SHAPES


class PreferenceColumns(Columns):
    """What a preference data set calls its columns."""

    prompt: str | None = Field(
        None,
        description="The user's message, or a list of messages that the answers follow.",
        also=("question", "query", "user", "input", "context", "problem"),
    )
    conversations: str | None = Field(
        None,
        description="The prompt as messages, as ShareGPT calls it.",
        also=("conversation", "messages", "history_messages"),
    )
    instruction: str | None = Field(None, description="The prompt as Alpaca's instruction.", also=("task",))
    input: str | None = Field(None, description="Alpaca's input, which follows the instruction.")
    history: str | None = Field(None, description="Alpaca's earlier turns: a list of (prompt, answer) pairs.")
    chosen: str | None = Field(
        None,
        description="The better answer: a text, a message, a list of them, or the whole conversation.",
        also=("preferred", "accepted", "winner", "response_chosen", "chosen_response", "pos", "better"),
    )
    rejected: str | None = Field(
        None,
        description="The worse answer, in the same form.",
        also=("dispreferred", "loser", "response_rejected", "rejected_response", "neg", "worse"),
    )
    margin: str | None = Field(
        None,
        description="By how much the chosen answer is the better one; reward models are held to it.",
        also=("score_difference", "score_diff", "delta", "preference_strength"),
    )
    system: str | None = Field(None, description="The system prompt of a row.")
    tools: str | None = Field(
        None, description="The tools of a row: a list of JSON schemas, or JSON text of one.", also=("functions",)
    )


class Preference(Conversations):
    """Preference pairs out of raw rows, whose shape is recognised by itself.

    - explicit: {"prompt", "chosen", "rejected"}, each a text or messages
    - implicit: {"chosen", "rejected"}, whole conversations; the prompt is what they share
    - sharegpt: {"conversations": [{"from", "value"}, ...], "chosen": {"from", "value"}, "rejected": ...}
    - alpaca: {"instruction", "input", "chosen", "rejected"}

    A row may also have "system", "tools" and "margin", by how much the chosen answer is the better one. A row that no
    model could be trained on (an empty answer, chosen equal to rejected, broken JSON) is left out, counted by reason in
    data.json; nothing is ever cut.
    """

    name = "preference"
    version = 2
    output = PreferenceData
    shapes = PREFERENCE_SHAPES

    shape: Literal["auto", "explicit", "implicit", "sharegpt", "alpaca"] = Field(
        "auto",
        description="How rows are written; auto tells it of every row by its columns.",
        also=("formatting", "prompt_strategy", "chat_format", "data_format"),
    )
    columns: PreferenceColumns = Field(
        PreferenceColumns(),
        description="What the data set calls its columns, where it has other names: {chosen: better}.",
        also=("column_mapping", "field_mapping", "features"),
    )
