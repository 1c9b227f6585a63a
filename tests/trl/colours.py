"""A dozen sentences that a tiny model can learn by heart: as conversations, and as preferences."""

from typing import Any

COLOURS = {
    "sky": "blue",
    "grass": "green",
    "snow": "white",
    "coal": "black",
    "blood": "red",
    "the sun": "yellow",
    "an orange": "orange",
}


def _chats(colours: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "messages": [
                {"role": "user", "content": thing},
                {"role": "assistant", "content": colour},
            ],
            "tools": None,
        }
        for thing, colour in colours.items()
    ]


CHATS = _chats(COLOURS)
MISTAKEN = _chats(dict(zip(COLOURS, [*COLOURS.values()][3:] + [*COLOURS.values()][:3], strict=True)))
"""The same questions with other answers."""
PAIRS = [
    {
        "prompt": chat["messages"][:1],
        "chosen": chat["messages"][1:],
        "rejected": [{"role": "assistant", "content": "I do not know."}],
        "tools": None,
    }
    for chat in CHATS
]
FEEDBACK = [
    {"prompt": pair["prompt"], "answer": pair[side], "label": label, "tools": None}
    for place, pair in enumerate(PAIRS)
    for side, label in (("chosen", True), ("rejected", False))
    if label or place % 2
]
"""The same as single answers: seven with a thumb up, three with a thumb down."""
PROMPTS = [
    {"prompt": chat["messages"][:1], "reference": chat["messages"][1]["content"], "tools": None} for chat in CHATS
]
