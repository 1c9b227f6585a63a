"""A quantization from beginning to end, whichever library rounds the layers."""

from __future__ import annotations

import os
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from transformers import PreTrainedTokenizerBase

from tuneforge import ChatData, Model, Step, StepError, TextData
from tuneforge.artifacts import read_json, read_tensors
from tuneforge.kit.agreement import agreement, logits, tell
from tuneforge.kit.folders import clean_json, copy_tokenizer, write_json
from tuneforge.kit.memory import give_back, keep_little
from tuneforge.kit.packed import FLOATS

from .calibration import Rows, calibration_rows, own_rows, probe_rows
from .layers import differences, shapes
from .numbers import empty_layers

if TYPE_CHECKING:
    from .options import Calibrated

_LIBRARIES = {"gptqmodel": ".library", "auto-gptq": ".legacy_gptq", "autoawq": ".legacy_awq"}


class Library(Protocol):
    """What a module for one of the libraries holds."""

    def tokenizer(self, folder: Path) -> PreTrainedTokenizerBase:
        """The tokenizer of a model's folder, with its template."""

    def full(self, folder: Path, scratch: Path) -> Any:
        """The model as it is, in the type its weights are stored in."""

    def quantize(self, options: Any, folder: Path, dtype: torch.dtype, rows: Rows, out: Path, step: Step) -> None:
        """Writes the weights, held in `dtype`, as quantized ones into `out`, in safetensors files."""

    def quantized(self, options: Any, out: Path, folder: Path, scratch: Path) -> Any:
        """The quantized model as this environment can run it."""


def quantize(options: Calibrated, model: Model, data: ChatData | TextData | None, step: Step) -> None:
    """Writes the quantized model into `step.out`; StepError if a layer is not as it should be, or it says nothing."""
    torch.set_num_threads(step.threads)
    library: Library = import_module(_LIBRARIES[options.backend], __package__)
    tokenizer = library.tokenizer(model.path)
    started = time.monotonic()
    full = library.full(model.path, step.scratch)
    comparing = time.monotonic() - started
    if data is None:
        step.log("there is no data: the model writes what it is calibrated on")
        rows = own_rows(options, full, tokenizer, step.seed, step.progress)
        probes = rows[:4]
    else:
        rows = calibration_rows(options, data, tokenizer, step)
        probes = probe_rows(data, tokenizer, rows)
    started = time.monotonic()
    kept = step.scratch / "logits.pt"  # not in memory, where they would be beside what the quantization takes
    torch.save(list(logits(full, probes)), kept)
    del full
    comparing += time.monotonic() - started
    tokens = sum(map(len, rows))
    step.log(f"calibrating on {len(rows)} rows, {tokens} tokens")
    write(library, options, model, rows, step)
    written = time.monotonic()
    wanted = torch.load(kept, mmap=True)
    found = agreement(
        logits(library.quantized(options, step.out, model.path, step.scratch), probes),
        wanted,
        "Take more bits, a smaller group_size, or data that is more like what the model is asked.",
    )
    comparing += time.monotonic() - written
    full_tensors, packed_tensors = read_tensors(model.path), read_tensors(step.out)
    tell(step, full_tensors, packed_tensors, len(shapes(Model.facts(model.path))), found)
    step.metrics(calibration_rows=len(rows), calibration_tokens=tokens)
    step.metrics(comparison_seconds=comparing)


def write(library: Library, options: Calibrated, model: Model, rows: Rows, step: Step) -> None:
    """Writes the quantized model into `step.out` and looks at every layer of it: all of `quantize` but comparing."""
    # Its pools ask for two workers where a machine of two processors grants one.
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", str(max(2, step.threads)))
    dtype = getattr(torch, FLOATS[options.rounding.held(read_tensors(model.path))])
    keep_little()
    library.quantize(options, model.path, dtype, rows, step.out, step)
    give_back()
    _clean(step.out, model.path, options)
    _look_at(options, model.path, step.out)


def _clean(out: Path, model: Path, options: Calibrated) -> None:
    """Leaves of what a library wrote its weights alone, and puts the model's own files beside them."""
    for path in out.iterdir():
        if path.is_file() and not path.name.endswith((".safetensors", ".safetensors.index.json")):
            path.unlink()
    for index in out.glob("*.index.json"):
        clean_json(index)
    for weights in out.glob("*.safetensors"):
        weights.chmod(0o644)
    write_json(out / "config.json", options.config_of(read_json(model / "config.json"), read_tensors(model)))
    generation = read_json(model / "generation_config.json")
    if generation:
        write_json(out / "generation_config.json", generation)
    copy_tokenizer(model, out)


def _look_at(options: Calibrated, model: Path, out: Path) -> None:
    """Raises StepError unless every layer that should be is packed as it should be, and holds numbers."""
    wrong = empty_layers(out) | differences(Model.facts(model), options.rounding, read_tensors(out))
    if wrong:
        name = min(wrong)
        raise StepError(
            f"{options.backend} left {len(wrong)} tensors that are not quantized as asked: {name} is {wrong[name]}"
            + (f"; and {', '.join(sorted(wrong)[1:6])}" if len(wrong) > 1 else ""),
            "Nothing is published of it. Take quantize: gguf, or report the model's architecture.",
        )
