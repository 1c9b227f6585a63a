"""Writing a LoRA adapter as a GGUF file with llama.cpp's own converter, and comparing what it adds to its base."""

from __future__ import annotations

import json
import math
import runpy
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tuneforge import Adapter, Artifact, Step, StepError
from tuneforge.artifacts import read_json, read_tensors
from tuneforge.kit.llamacpp import loaded
from tuneforge.kit.models import full_model, load_model, load_tokenizer
from tuneforge.kit.texts import PLAIN

from .adapters import unsupported
from .answers import CONTEXT, compare
from .converter import fetch_converter
from .export import at_home, export, reported
from .making import exact_type
from .metadata import read


def make(adapter: Adapter, type: str, cache: Path, step: Step) -> None:
    """Writes the adapter into `step.out`; StepError if llama.cpp does not make of it and its base what PEFT does."""
    torch.set_num_threads(step.threads)
    base, converter = full_model(adapter), fetch_converter(cache, step.log)
    file = export_adapter(adapter, base, step.out, type, converter, log=print)
    try:
        with tempfile.TemporaryDirectory(dir=step.scratch) as scratch:
            whole = export(base.path, Path(scratch), exact_type(base.path), converter, log=print)
            figures = _modules(file, adapter) | _answers(file, whole, adapter, type, step.threads)
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    step.sits_on(base)
    step.metrics(bytes=file.stat().st_size, **figures)


def export_adapter(
    adapter: Adapter, base: Artifact, out: Path, type: str, converter: Path, *, log: Callable[[str], None]
) -> Path:
    """Writes a LoRA adapter as `adapter-<type>.gguf` into the folder `out` and returns the file's path.

    Raises StepError, with nothing left in `out`, for one that llama.cpp has no place for.
    """
    config = read_json(adapter.path / "adapter_config.json")
    if problem := unsupported(config):
        raise StepError(problem, "Merge the adapter (merge: adapter), and export the model.")
    if config.get("use_rslora"):
        # PEFT divides by the root of the rank then, llama.cpp always by the rank itself.
        config |= {"lora_alpha": config["lora_alpha"] * math.sqrt(config["r"])}
    file = out / f"adapter-{type}.gguf"
    try:
        # The converter makes a name of that of the folder that it reads.
        with tempfile.TemporaryDirectory(dir=out) as scratch, reported(log):
            staged = Path(scratch, "adapter")
            staged.mkdir()
            (staged / "adapter_config.json").write_text(json.dumps(config))
            (staged / "adapter_model.safetensors").symlink_to(adapter.path / "adapter_model.safetensors")
            Path(scratch, "model").symlink_to(base.path)
            arguments = ["--outtype", type, "--outfile", str(file), "--base", str(Path(scratch, "model")), str(staged)]
            with at_home(converter, "convert_lora_to_gguf", arguments):
                runpy.run_path(str(converter / "convert_lora_to_gguf.py"), run_name="__main__")
    except BaseException as error:
        file.unlink(missing_ok=True)
        if isinstance(error, Exception) and not isinstance(error, StepError):
            raise StepError(f"llama.cpp's converter failed: {error.__class__.__name__}: {error}") from error
        raise
    return file


def _modules(file: Path, adapter: Adapter) -> dict[str, float]:
    """Whether every pair of matrices has arrived."""
    pairs = sum(".lora_A." in name or ".lora_embedding_A" in name for name in read_tensors(adapter.path))
    found = sum(tensor.name.endswith(".lora_a") for tensor in read(file).tensors)
    if found != pairs:
        raise StepError(f"the GGUF file has {found} pairs of matrices, and the adapter {pairs}")
    return {"modules": found}


def _answers(file: Path, base: Path, adapter: Adapter, type: str, threads: int) -> dict[str, Any]:
    """llama.cpp's next tokens with base and adapter against those of PEFT; and how much the adapter moves."""
    tokenizer = load_tokenizer(adapter)
    network: Any = load_model(adapter, dtype=torch.float32, on=torch.device("cpu"))
    texts = [list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in PLAIN[:3]]
    (*_, answer) = tokenizer("a", add_special_tokens=False)["input_ids"]
    moved: list[float] = []

    def rows(tokens: Sequence[int], ends: Sequence[int]) -> Iterator[npt.NDArray[np.float32]]:
        ids = torch.tensor([tokens])
        with torch.inference_mode():
            logits = network(ids).logits[0].float()
            with network.disable_adapter():
                plain = network(ids).logits[0].float()
        moved.append(float((logits - plain).square().mean().sqrt() / logits.var().sqrt()))
        yield from (logits[end - 1].log_softmax(-1).numpy() for end in ends)

    with loaded(base, threads=threads, context=2 * CONTEXT, adapter=file) as llama:
        figures: dict[str, Any] = compare(llama, texts, rows, answer, type, "those of transformers and PEFT")
    figures["adapter_moves"] = sum(moved) / len(moved)
    # An adapter that moves little could be left out unnoticed.
    if figures["logits_error"] > max(0.5 * figures["adapter_moves"], 0.02):
        raise StepError(
            f"llama.cpp's logits differ from those of transformers and PEFT by {figures['logits_error']:.2g} of their "
            f"spread, and the adapter moves them by no more than {figures['adapter_moves']:.2g}"
        )
    return figures
