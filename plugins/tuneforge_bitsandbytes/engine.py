"""Rounding a model by bitsandbytes, and showing that what is written is rounded and computes the same."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from bitsandbytes.nn.modules import Linear4bit
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from tuneforge import Model, Step, StepError
from tuneforge.artifacts import read_json, read_tensors
from tuneforge.kit.agreement import agreement, largest_difference, logits, probes, tell
from tuneforge.kit.models import load_model, load_tokenizer, save_model, stored_dtype, tokenizer_folder
from tuneforge.kit.packed import check_packed, linear_layers

if TYPE_CHECKING:
    from .method import BitsAndBytes

_CPU = torch.device("cpu")
"""Where it is rounded: there, the same model gives the same bytes whatever the machine has besides."""

_PARTS = 4


def quantize(method: BitsAndBytes, model: Model, step: Step) -> None:
    """Writes `model` as a quantized model into `step.out`.

    Raises StepError for a layer that was left as it was, and for a file that does not compute what was written.
    """
    torch.set_num_threads(step.threads)
    texts, dtype = probes(load_tokenizer(model)), stored_dtype(model)
    step.progress(0, _PARTS)
    network: Any = load_model(model, dtype=torch.float32, on=_CPU)
    wanted = list(logits(network, texts))
    head = next(name for name, module in network.named_modules() if module is network.get_output_embeddings())
    del network
    step.progress(1, _PARTS)
    full = read_tensors(model.path)
    config = read_json(model.path / "config.json")
    settings = BitsAndBytesConfig(**method.settings(str(dtype).removeprefix("torch."), head, full, config))
    rounded = _plain(load_model(model, dtype=dtype, on=_CPU, quantization=settings))
    # Before it computes anything: that may pack 4-bit weights anew, for this CPU alone.
    save_model(rounded, tokenizer_folder(model), step.out, None, like=model.path)
    tensors = read_tensors(step.out)
    check_packed(full, config, tensors, method.skip, "bitsandbytes")
    step.progress(2, _PARTS)
    direct = list(logits(rounded, texts))
    del rounded
    step.progress(3, _PARTS)
    again = list(logits(_loaded(step.out, dtype), texts))
    difference = largest_difference(again, direct)
    if difference:
        raise StepError(
            f"loaded again, the model's logits differ by {difference:.3g} from what they were before it was written",
            "Report this: bitsandbytes or transformers does not read what it writes.",
        )
    figures = agreement(again, wanted, "Take int8, or leave the layers that suffer most out of it (`skip`).")
    tell(step, full, tensors, len(linear_layers(full, config)), figures)
    step.progress(4, _PARTS)


def _loaded(folder: Path, dtype: torch.dtype) -> Any:
    return _plain(AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, device_map={"": _CPU}).eval())


def _plain(model: Any) -> Any:
    """The model, to be computed alike on every CPU: for some, bitsandbytes rounds the scales once more to be fast."""
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.train()  # a layer in training is never packed for the CPU
    return model
