"""Compressing a model by llm-compressor, and showing that what is written is rounded and computes the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modifiers.gptq import GPTQModifier
from llmcompressor.modifiers.quantization import QuantizationModifier
from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier
from transformers import AutoModelForCausalLM

from tuneforge import ChatData, Model, Step, StepError, TextData
from tuneforge.artifacts import context_length, read_json, read_tensors
from tuneforge.kit.agreement import agreement, largest_difference, logits, probes, tell
from tuneforge.kit.calibration import calibration
from tuneforge.kit.models import load_model, load_tokenizer, save_model, stored_dtype, tokenizer_folder
from tuneforge.kit.packed import check_packed, linear_layers

if TYPE_CHECKING:
    from .method import Compressed

_CPU = torch.device("cpu")
_TOLERANCE = 1e-3
"""Largest difference, as a share of the largest logit, that loading may make: the order of sums alone."""


def compress(method: Compressed, model: Model, data: ChatData | TextData | None, step: Step) -> None:
    """Writes `model` as a quantized model into `step.out`.

    Raises StepError for a layer that was left as it was, and for a file that does not compute what was written.
    """
    torch.set_num_threads(step.threads)
    tokenizer, dtype = load_tokenizer(model), stored_dtype(model)
    texts = probes(tokenizer)
    network: Any = load_model(model, dtype=torch.float32, on=_CPU)
    wanted = list(logits(network, texts))
    del network
    rows = None
    if method.measures and data is not None:
        context = context_length(read_json(model.path / "config.json")) or method.max_length
        longest = min(method.max_length, context)
        ids = calibration(data, tokenizer, step, most=method.rows, longest=longest)
        step.log(f"{method.measures}: measured on {len(ids)} rows, {sum(map(len, ids))} tokens")
        rows = Dataset.from_dict({"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids]})
    full = read_tensors(model.path)
    config = read_json(model.path / "config.json")
    rounded: Any = load_model(model, dtype=dtype, on=_CPU)
    head = next(name for name, module in rounded.named_modules() if module is rounded.get_output_embeddings())
    recipe = _recipe(method, method.settings(full, config, head), _Progress(method, rounded, step))
    oneshot(
        model=rounded,
        dataset=rows,
        recipe=recipe,
        num_calibration_samples=len(rows) if rows is not None else 1,
        max_seq_length=method.max_length,
        shuffle_calibration_samples=False,
    )
    direct = list(logits(rounded, texts))
    save_model(rounded, tokenizer_folder(model), step.out, None, like=model.path)
    del rounded
    (step.out / "recipe.yaml").unlink(missing_ok=True)  # the run's record has it
    tensors = read_tensors(step.out)
    check_packed(full, config, tensors, method.skip, "llm-compressor")
    reloaded = AutoModelForCausalLM.from_pretrained(step.out, dtype=dtype).eval()
    again = list(logits(reloaded, texts))
    difference, largest = largest_difference(again, direct), max(float(each.abs().max()) for each in direct)
    if not difference <= _TOLERANCE * largest:
        raise StepError(
            f"loaded again, the model's logits differ by {difference:.3g} from what they were before it was written",
            "Report this: compressed-tensors or transformers does not read what it writes.",
        )
    fix = "Take another scheme, or leave the layers that suffer most out of it (`skip`)."
    tell(step, full, tensors, len(linear_layers(full, config)), agreement(again, wanted, fix))
    step.metrics(reload_error=difference)


class _Progress:
    """Tells the step, whenever it is called, that one more part of the model is done."""

    def __init__(self, method: Compressed, network: Any, step: Step) -> None:
        # Measured by parts: each block, and what comes after them; once for every modifier.
        parts = network.config.get_text_config().num_hidden_layers + 1 if method.measures else 1
        self._step, self._done, self._total = step, 0, parts * (2 if method.strength else 1)

    def __call__(self) -> None:
        self._done += 1
        self._step.progress(self._done, self._total)


def _recipe(method: Compressed, settings: dict[str, Any], tell: Callable[[], None]) -> list[Any]:
    (group,) = settings["config_groups"].values()
    inputs = group["input_activations"]
    scheme = QuantizationScheme(
        targets=group["targets"],
        weights=QuantizationArgs(**group["weights"]),
        input_activations=QuantizationArgs(**_observed(inputs)) if inputs else None,
    )
    common: dict[str, Any] = {"config_groups": {"group_0": scheme}, "ignore": settings["ignore"]}
    recipe = []
    if method.strength:
        recipe.append(_telling(SmoothQuantModifier, tell, smoothing_strength=method.strength))
    if method.by_gptq:
        order = "static" if method.act_order else None
        recipe.append(_telling(GPTQModifier, tell, actorder=order, dampening_frac=method.damping, **common))
    else:
        recipe.append(_telling(QuantizationModifier, tell, **common))
    return recipe


def _observed(inputs: dict[str, Any]) -> dict[str, Any]:
    """Numbers of activations with what finds their range where it is fixed: the smallest and largest of all data."""
    return dict(inputs) if inputs["dynamic"] else {**inputs, "observer": "static_minmax"}


def _telling(kind: type[Any], tell: Callable[[], None], **options: Any) -> Any:
    """A modifier that tells of every part of the model that it is done with."""

    class Telling(kind):  # type: ignore[misc]  # the library is not typed
        def on_sequential_epoch_end(self, state: Any, event: Any, **more: Any) -> None:
            super().on_sequential_epoch_end(state, event, **more)
            tell()

    return Telling(**options)
