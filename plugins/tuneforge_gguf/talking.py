"""Answers of llama.cpp to conversations."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tuneforge import Manner, Message
from tuneforge.kit.llamacpp import loaded

CONTEXT = 8192


class Loaded:
    """A GGUF file in a llama.cpp of its own, which ends with this process."""

    def __init__(self, folder: Path, threads: int, context: int | None) -> None:
        file = min(folder.glob("*.gguf"))  # of a model in several files, llama.cpp is given the first
        asked = context or CONTEXT
        self._open = ExitStack()  # as long as this is
        self._llama = self._open.enter_context(loaded(file, threads=threads, context=asked))
        self._context = min(asked, self._llama.trained_context())

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The tokens that llama.cpp makes of a conversation, up to the answer."""
        return self._llama.tokenize(self._llama.render(messages), special=True)

    def reply(self, messages: Sequence[Message], manner: Manner) -> Generator[str, None, str]:
        """See `tuneforge.Voice`."""
        prompt = self.prompt(messages)
        most, cut = manner.room(len(prompt), self._context)
        sampling: dict[str, Any] = {"temperature": manner.temperature, "top_p": manner.top_p, "seed": manner.seed}
        ended = yield from self._llama.answer(prompt, most, samplers=["temperature", "top_p"], **sampling)
        return "" if ended else cut
