"""Which prompts are held out: told by the prompt alone, so that all data steps of a recipe agree."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from .messages import Message


def is_held_out(prompt: Sequence[Message], share: float) -> bool:
    """Whether a conversation belongs to the held-out `share` (0 to 1) of prompts.

    The prompt is the first user message, whatever its letter case and white space. With one share everywhere no prompt
    is both trained on and held out; what a smaller share holds out, a larger one does, too.
    """
    text = next(message["content"] for message in prompt if message["role"] == "user")
    place = hashlib.sha256(" ".join(text.casefold().split()).encode()).digest()[:8]
    return int.from_bytes(place) < share * 2**64
