"""One GGUF file of a type, out of a model or of a GGUF file with a model's full weights."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneforge import ChatData, Gguf, Model, Step, StepError, TextData
from tuneforge.artifacts import read_tensors
from tuneforge.kit.llamacpp import loaded
from tuneforge.kit.memory import give_back

from .converter import fetch_converter
from .installed import IMATRIX, QUANTIZE, programs
from .metadata import file_type, read
from .quantizing import quantize, quantize_with
from .types import CONVERTED, FULL

if TYPE_CHECKING:
    from .togguf import ToGguf

_EXACT = {"F32": "f32", "F16": "f16", "BF16": "bf16"}


def make(asked: ToGguf, model: Model | Gguf, data: ChatData | TextData | None, cache: Path, step: Step) -> None:
    """Writes the file that is asked for into `step.out` and compares it with what it was made of."""
    file = step.out / f"model-{asked.type}.gguf"
    # The only place that is this step's own: in `out` nothing may be left when it is killed.
    with tempfile.TemporaryDirectory(dir=step.scratch) as scratch:
        if isinstance(model, Gguf):
            source = _file(model)
            _quantize(asked, source, file, data, Path(scratch), step)
        elif asked.type in CONVERTED:
            _convert(model.path, step.out, asked.type, cache, step)
        else:
            source = _convert(model.path, Path(scratch), exact_type(model.path), cache, step)
            give_back()
            _quantize(asked, source, file, data, Path(scratch), step)
    figures = _verified(file, model, step)
    step.metrics(bytes=file.stat().st_size, **figures)
    if others := figures["tensors_fallen_back"]:
        step.warn(
            f"{sum(others.values())} of the model's weights have rows that are no multiple of 256, as {asked.type} "
            f"cuts them, and are stored as {_listed(others)}",
            "The file is larger than others of its type; q8_0 and q4_0 take rows that are multiples of 32.",
        )


def exact_type(model: Path) -> str:
    """The type of GGUF file that holds a model's weights as they are."""
    sizes: Counter[str] = Counter()
    for tensor in read_tensors(model).values():
        sizes[tensor.dtype] += tensor.bytes
    return _EXACT.get(max(sizes, key=lambda name: sizes[name], default=""), "f32")


def _convert(model: Path, folder: Path, type: str, cache: Path, step: Step) -> Path:
    from .export import export

    return export(model, folder, type, fetch_converter(cache, step.log), log=print)  # its many words: the step's log


def _verified(file: Path, model: Model | Gguf, step: Step) -> dict[str, Any]:
    if isinstance(model, Gguf):
        from .against import verify_against

        return verify_against(file, _file(model), threads=step.threads)
    from .verify import verify

    return verify(file, model.path, threads=step.threads, log=step.log)


def _file(model: Gguf) -> Path:
    files = sorted(model.path.glob("*.gguf"))
    if len(files) > 1:
        raise StepError("the model's GGUF file is in several parts", "Join them with llama-gguf-split --merge.")
    found = file_type(read(files[0]))
    if found not in FULL:
        raise StepError(f"the GGUF file is of {found} already: what that took away stays lost", "Take its source.")
    return files[0]


def _quantize(
    asked: ToGguf, source: Path, file: Path, data: ChatData | TextData | None, scratch: Path, step: Step
) -> None:
    own = programs(asked.llama_cpp, QUANTIZE, *([IMATRIX] if data else []))
    matrix, chunks = _importance(asked, source, data, own, scratch, step) if data is not None else (None, 0)
    watched: Any = {"matrix": matrix, "threads": step.threads, "progress": step.progress, "log": print}
    if own:
        step.log(f"quantizing with {own[0]}")
        by = quantize_with(own[0], source, file, asked.type, **watched)
    else:
        by = quantize(source, file, asked.type, chunks=chunks, **watched)
    step.metrics(quantized_by=by)


def _importance(
    asked: ToGguf, source: Path, data: ChatData | TextData, own: Sequence[Path] | None, scratch: Path, step: Step
) -> tuple[Any, int]:
    """The matrix, as a file where the person's own programs are used, and over how many chunks it is."""
    from .importance import calibration_text, chunks_of, importance, importance_with  # and pyarrow, for the rows

    length = asked.calibration_length
    with loaded(source, threads=step.threads, context=length) as llama:
        text = calibration_text(llama, data, (asked.calibration_chunks + 1) * length, step.seed, step.log)
        chunks = chunks_of(llama, text, asked.calibration_chunks, length)
    step.log(f"computing the importance matrix over {len(chunks)} chunks of {length} tokens")
    step.metrics(calibration_chunks=len(chunks))
    watched: Any = {"threads": step.threads, "progress": step.progress}
    if own:
        return importance_with(own[1], source, text, len(chunks), length, scratch, log=print, **watched), len(chunks)
    return importance(source, chunks, **watched), len(chunks)


def _listed(types: Mapping[str, int]) -> str:
    return ", ".join(f"{name.lower()} ({count})" for name, count in types.items())
