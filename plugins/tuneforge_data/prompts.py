"""`format: prompts`: prompts that a model answers by itself while it is aligned."""

from __future__ import annotations

from typing import Literal

from tuneforge import Field, PromptData

from .asking import PROMPT_SHAPES
from .options import Columns, Conversations


class PromptColumns(Columns):
    """What a data set of prompts calls its columns."""

    prompt: str | None = Field(
        None,
        description="The user's message, or a list of messages that an answer follows.",
        also=("question", "query", "user", "problem", "input_text", "text"),
    )
    reference: str | None = Field(
        None,
        description="What a reward compares the answer with: a text, a number or a record.",
        also=("answer", "solution", "ground_truth", "target", "final_answer", "label", "expected_answer"),
    )
    messages: str | None = Field(
        None,
        description="Messages of role and content, or from and value: a list, or JSON text of one.",
        also=("dialog", "dialogue", "chat", "turns"),
    )
    conversations: str | None = Field(
        None, description="The same, as ShareGPT calls it.", also=("conversation", "items", "chatml")
    )
    instruction: str | None = Field(None, description="The prompt as Alpaca's instruction.", also=("task",))
    input: str | None = Field(
        None, description="Alpaca's input, which follows the instruction.", also=("context", "field_input")
    )
    output: str | None = Field(None, description="Alpaca's answer.", also=("field_output",))
    history: str | None = Field(None, description="Alpaca's earlier turns: a list of (prompt, answer) pairs.")
    completion: str | None = Field(None, description="The answer to prompt.", also=("response", "reply"))
    chosen: str | None = Field(
        None, description="The better answer of a preference pair.", also=("preferred", "accepted", "winner")
    )
    rejected: str | None = Field(
        None, description="The worse one, which is not used.", also=("dispreferred", "loser")
    )
    system: str | None = Field(None, description="The system prompt of a row.", also=("field_system",))
    tools: str | None = Field(
        None, description="The tools of a row: a list of JSON schemas, or JSON text of one.", also=("functions",)
    )


class Prompts(Conversations):
    """Prompts out of raw rows, whose shape is recognised by itself, each with the answer that is right, if it is there.

    - prompts: {"prompt", "reference"}, a text or messages, and what a reward compares the answer with
    - every shape of `format: chat`: the assistant's turn at the end is the reference, what comes before it the prompt
    - every shape of `format: preference`: the chosen answer is the reference

    A conversation that ends with the user is a prompt without a reference. A column `reference` goes before the
    assistant's turn; of a turn that calls tools, the reference is the call as JSON. A row may also have "system" and
    "tools". A row that cannot be used (no prompt, turns out of order, broken JSON) is left out, counted by reason in
    data.json; nothing is ever cut. `max_length` counts the prompt alone.
    """

    name = "prompts"
    output = PromptData
    shapes = PROMPT_SHAPES

    shape: Literal["auto", "prompts", "messages", "sharegpt", "alpaca", "completion", "explicit", "implicit"] = Field(
        "auto",
        description="How rows are written; auto tells it of every row by its columns.",
        also=("formatting", "prompt_strategy", "chat_format", "data_format"),
    )
    columns: PromptColumns = Field(
        PromptColumns(),
        description="What the data set calls its columns, where it has other names: {prompt: question, reference: "
        "answer}.",
        also=("column_mapping", "field_mapping", "features"),
    )
