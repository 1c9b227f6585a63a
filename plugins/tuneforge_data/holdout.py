"""Which prompts are held out: told by the prompt alone, so that all data steps of a recipe agree."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from .messages import Message


def is_held_out(prompt: Sequence[Message] | str, share: float) -> bool:
    """Whether a conversation, or a text, belongs to the held-out `share` (0 to 1) of prompts.

    The prompt of a conversation is its first user message, whatever its letter case and white space. With one share
    everywhere no prompt is both trained on and held out; what a smaller share holds out, a larger one does, too.
    """
    text = prompt if isinstance(prompt, str) else next(turn["content"] for turn in prompt if turn["role"] == "user")
    place = hashlib.sha256(" ".join(text.casefold().split()).encode()).digest()[:8]
    return int.from_bytes(place) < share * 2**64
