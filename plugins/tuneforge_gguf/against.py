"""A GGUF file in fewer bits against the GGUF file that it was made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from tuneforge import StepError
from tuneforge.kit.llamacpp import loaded
from tuneforge.kit.texts import CONVERSATIONS, PLAIN

from .answers import CONTEXT, compare
from .metadata import field, file_type, read
from .storage import stored
from .weights import bound, error, rows_of, shape_of

# What a file of another type has otherwise.
_OWN = ("general.file_type", "general.quantization_version", "quantize.", "GGUF.")


def verify_against(file: Path, source: Path, *, threads: int = 1) -> dict[str, Any]:
    """Compares a quantized GGUF file with its source; raises StepError and deletes the file where they disagree.

    All metadata must be the same, vocabulary and template included, and so need no comparing in a runtime. Returns the
    figures of `stored` and `compare`, and the largest `weights_error`: see `weights.error`.
    """
    try:
        reader, given = read(file), read(source)
        _metadata(reader, given)
        figures = stored(reader) | {"weights_error": _weights(reader, given)}
        return figures | _answers(reader, file, source, threads)
    except BaseException:
        file.unlink(missing_ok=True)
        raise


def _metadata(reader: gguf.GGUFReader, source: gguf.GGUFReader) -> None:
    names = [{name for name in each.fields if not name.startswith(_OWN)} for each in (reader, source)]
    if different := names[0] ^ names[1]:
        raise StepError(f"{min(different)} is in the metadata of one of the two GGUF files alone")
    for name in sorted(names[0]):
        if field(reader, name) != field(source, name):
            raise StepError(f"{name} of the metadata is not that of the file it was made of")


def _weights(reader: gguf.GGUFReader, source: gguf.GGUFReader) -> float:
    given, worst = {tensor.name: tensor for tensor in source.tensors}, 0.0
    if different := given.keys() ^ {tensor.name for tensor in reader.tensors}:
        raise StepError(f"the tensor {min(different)} is in one of the two GGUF files alone")
    for tensor in reader.tensors:
        want = given[tensor.name]
        off = error(tensor, rows_of(want)) if shape_of(want) == shape_of(tensor) else np.inf
        if not off <= bound(tensor):
            raise StepError(f"{tensor.name} of the GGUF file is off by {off:.2g}, not {bound(tensor):.2g}")
        worst = max(worst, off)
    return float(worst)


def _answers(reader: gguf.GGUFReader, file: Path, source: Path, threads: int) -> dict[str, float]:
    vocabulary = len(field(reader, "tokenizer.ggml.tokens"))
    with ExitStack() as both:
        llama, other = (
            both.enter_context(loaded(each, threads=threads, context=2 * CONTEXT)) for each in (file, source)
        )
        (*_, answer) = llama.tokenize("a")
        # A plain question is what any template takes.
        prompts = [llama.render(CONVERSATIONS[0])] if field(reader, "tokenizer.chat_template") else []

        def rows(tokens: Sequence[int], ends: Sequence[int]) -> Iterator[npt.NDArray[np.float32]]:
            for end in ends:
                yield np.array(other.log_probabilities(tokens[:end], vocabulary, answer), np.float32)

        texts = [llama.tokenize(text) for text in (*PLAIN[:3], *prompts)]
        return compare(llama, texts, rows, answer, file_type(reader), "those of the file it was made of")
