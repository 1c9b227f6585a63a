"""What a GGUF file says of the model in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf

from tuneforge import StepError

from .memory import Needs, cache_bytes
from .templates import answer_end

MOST = 8192
"""Tokens of a conversation where nobody says, as `tuneforge serve` has it: engines set memory aside for all of them."""

_ENDS = ("eos", "eot", "eom")
_MARKERS = (gguf.TokenType.CONTROL, gguf.TokenType.USER_DEFINED)


class GgufFile:
    """A GGUF model; of one in several files, the first. Raises StepError for a file that is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._reader = gguf.GGUFReader(path)
        except (ValueError, IndexError, KeyError) as error:
            raise StepError(f"{path.name} cannot be read as GGUF: {error}", "Make it again.") from error

    def get(self, key: str) -> Any:
        field = self._reader.get_field(key.replace("{arch}", self._architecture))
        return field.contents() if field is not None else None

    @property
    def template(self) -> str:
        """Its chat template. Raises StepError when it has none: each engine would take another for it."""
        template = self.get("tokenizer.chat_template")
        if not template:
            raise StepError(f"{self.path.name} has no chat template", "Export a model that has one.")
        return str(template)

    @property
    def adds_bos(self) -> bool:
        """Whether the BOS token is put ahead of every prompt, whatever the template writes."""
        return bool(self.get("tokenizer.ggml.add_bos_token"))

    def token(self, name: str) -> str:
        """The token called so (bos, eos), or nothing."""
        index = self.get(f"tokenizer.ggml.{name}_token_id")
        return str(self.get("tokenizer.ggml.tokens")[index]) if index is not None else ""

    @property
    def stops(self) -> list[str]:
        """The tokens at which an answer is over: those that the file names, and the one its template ends it with."""
        tokens, kinds = self.get("tokenizer.ggml.tokens"), self.get("tokenizer.ggml.token_type") or []
        special = [str(token) for token, kind in zip(tokens, kinds, strict=False) if kind in _MARKERS]
        own = [self.token(name) for name in _ENDS]
        own.append(answer_end(self.template, special, bos=self.token("bos"), eos=self.token("eos")) or "")
        return list(dict.fromkeys(token for token in own if token))

    @property
    def made_for(self) -> int | None:
        """The longest conversation that the model was made for, in tokens."""
        length = self.get("{arch}.context_length")
        return int(length) if length else None

    def needs(self, context: int | None) -> Needs:
        """Of memory, for conversations of `context` tokens or what the model was made for, but at most 8192."""
        length = context or min(self.made_for or MOST, MOST)
        heads = self.get("{arch}.attention.head_count")
        shared = self.get("{arch}.attention.head_count_kv") or heads
        width = self.get("{arch}.embedding_length")
        size = self.get("{arch}.attention.key_length") or (width // heads if isinstance(heads, int) else None)
        per_layer = shared if isinstance(shared, int) else max(shared)  # some have a number for each layer
        weights = sum(file.stat().st_size for file in self.path.parent.glob("*.gguf"))
        return Needs(length, weights, cache_bytes(self.get("{arch}.block_count"), per_layer, size, length))

    @property
    def _architecture(self) -> str:
        field = self._reader.get_field("general.architecture")
        return str(field.contents()) if field is not None else ""
