"""GGUF files, as llama.cpp itself reads them: its own template engine, tokenizer, weights and stop tokens."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import gguf
import numpy as np

from tuneforge import Artifact, StepError
from tuneforge.kit.llamacpp import loaded

from .formats import Form, claimed_by_gguf
from .numbers import Distribution
from .prompts import Messages

_KEYS = gguf.Keys.Tokenizer
_EMBEDDINGS = ("token_embd.", "output.", "position_embd.", "token_types.")


class WithLlamaCpp:
    """A GGUF file in a llama.cpp process of its own, with room for `context` tokens."""

    def __init__(self, artifact: Artifact, threads: int, context: int) -> None:
        files = sorted(artifact.path.glob("*.gguf"))  # of a model in several files, llama.cpp is given the first
        readers = [gguf.GGUFReader(file) for file in files]
        self._fields = readers[0]
        self.form = _form(readers)
        self._template = self._field(_KEYS.CHAT_TEMPLATE)
        self._open = ExitStack()
        self._llama = self._open.enter_context(loaded(files[0], threads=threads, context=context, dated=False))
        self.context: int | None = self._llama.trained_context()
        bos = self._field(_KEYS.BOS_ID)
        self.bos = self._token(bos) if bos is not None else ""
        self._whole = self.text("a")[-1]

    def __enter__(self) -> WithLlamaCpp:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def render(self, messages: Messages) -> str | None:
        """The prompt as text; None where the template refuses, or is not there."""
        if self._template is None:  # llama.cpp would take another model's
            return None
        try:
            return self._llama.render(messages)
        except StepError:
            return None

    def prompt(self, rendered: str) -> list[int]:
        """Token ids of what `render` gave, with the BOS token that llama.cpp leaves to its tokenizer."""
        return self._llama.tokenize(rendered, special=True)

    def text(self, text: str, *, begins: bool = False) -> list[int]:
        """Token ids of plain text; with what a text begins with, where it `begins`."""
        return self._llama.tokenize(text, special=begins)

    def distributions(self, ids: Sequence[int], at: Sequence[int], most: int) -> list[Distribution]:
        """What follows the first `at` tokens, for each of those."""
        found = []
        for place in at:
            follows = ids[place] if place < len(ids) else None
            told, target = self._llama.likelihood(ids[:place], follows, most, self._whole)
            tokens, logprobs = np.array([*told], np.int64), np.array([*told.values()], np.float32)
            found.append(Distribution(tokens, logprobs, target))
        return found

    def answer(self, ids: Sequence[int], most: int) -> tuple[str, bool]:
        """A greedy answer of at most so many tokens, and whether a stop token ended it."""
        pieces, answering = [], self._llama.answer(ids, most, temperature=0)
        while True:
            try:
                pieces.append(next(answering))
            except StopIteration as ended:
                return "".join(pieces).strip(), ended.value

    def stops(self, prompts: Sequence[Sequence[int]]) -> dict[str, Any]:
        """`eos`, the token that the file names; of all that the file names or the prompts hold as markers, those at
        which llama.cpp ends an answer, and those at which it goes on."""
        named = (self._field(key) for key in (_KEYS.EOS_ID, _KEYS.EOT_ID, _KEYS.EOM_ID))
        eos = self._field(_KEYS.EOS_ID)
        types = self._field(_KEYS.TOKEN_TYPE) or []
        markers = {
            token
            for prompt in prompts
            for token in prompt
            if token < len(types) and types[token] in (gguf.TokenType.CONTROL, gguf.TokenType.USER_DEFINED)
        }
        tried = sorted(markers | {token for token in named if token is not None})
        ending = [token for token in tried if self._llama.ends([self._whole], token)]
        return {"eos": eos, "end": ending, "go_on": [token for token in tried if token not in ending]}

    def scores(self, conversations: Sequence[Messages]) -> list[float]:
        raise NotImplementedError("no reward model is exported to GGUF")

    def _token(self, index: int) -> str:
        field = self._fields.get_field(_KEYS.LIST)
        return str(field.contents(index)) if field is not None else ""

    def _field(self, key: str) -> Any:
        field = self._fields.get_field(key)
        return field.contents() if field is not None else None


def _form(readers: Sequence[gguf.GGUFReader]) -> Form:
    field = readers[0].get_field(gguf.Keys.General.FILE_TYPE)
    if field is None:
        raise StepError("the GGUF file does not say in which type it is (general.file_type)", "Export it again.")
    kind = readers[0].get_field(_KEYS.MODEL)
    tokenizer = str(kind.contents()) if kind is not None else "none"
    name = gguf.LlamaFileType(field.contents()).name
    held = weights = 0
    for reader in readers:
        for tensor in reader.tensors:
            if len(tensor.shape) > 1 and not tensor.name.startswith(_EMBEDDINGS):
                held, weights = held + int(tensor.n_bytes), weights + int(tensor.n_elements)
    return Form(name.partition("_")[2], "llama.cpp", "float32", tokenizer, claimed_by_gguf(name), 8 * held / weights)
