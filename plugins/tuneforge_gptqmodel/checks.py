"""What can be known of a quantization before it is carried out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tuneforge import ChatData, Facts, Finding, Known, StepError
from tuneforge.kit.packed import check_full, fused_experts
from tuneforge.kit.quantized import quant_method
from tuneforge.launch.hardware import hardware

from .architectures import KNOWN, RENAMED
from .backends import unfit
from .layers import WORD, Rounding, shapes
from .older import older_config

if TYPE_CHECKING:
    from .options import Calibrated

_CUT = 64
"""Outputs that both libraries look for the best clipping of at a time; they fail where these do not come out even."""
_UNCLIPPED = frozenset({"q_proj", "k_proj"})
"""Layers that they do not clip."""


def check(options: Calibrated, facts: Known) -> Iterator[Finding]:
    """Findings on the model, the data and the machine."""
    if options.backend != "gptqmodel":
        yield from unfit(options.backend, hardware())
    if options.backend == "auto-gptq" and options.bits == 3:
        yield Finding(
            "what auto-gptq packs in 3 bits is not read here, so it could not be looked at",
            "Take 2, 4 or 8 bits, or backend: gptqmodel.",
            field="bits",
        )
    for model in facts.get("model", ()):
        yield from _check_model(options, model, chats=any(given.kind is ChatData for given in facts.get("data", ())))
    data = facts.get("data", ())
    if not data:
        from .options import OWN_LENGTH, OWN_ROWS

        rows, length = min(options.rows, OWN_ROWS), min(options.max_length, OWN_LENGTH)
        yield Finding(
            f"there is no data to calibrate on: the model writes {rows} rows of {length} tokens for itself",
            "Wire the data that it was trained on, or is made for: data: NAME.",
            "warning",
        )
    for given in data:
        yield from _check_rows(options, given.rows)


def _check_rows(options: Calibrated, rows: int | None) -> Iterator[Finding]:
    from .options import FEW_ROWS, LEAST_ROWS

    used = options.rows if rows is None else min(rows, options.rows)
    if used < LEAST_ROWS:
        yield Finding(f"the data has only {rows} training rows to calibrate on", f"Take data with {FEW_ROWS} or more.")
    elif used < FEW_ROWS:
        yield Finding(
            f"calibrated on {used} rows only, the result hangs on which ones they are",
            f"Set rows to 128, or {FEW_ROWS} at least." if used == options.rows else "Take data with more rows.",
            "warning",
            "rows",
        )


def _check_model(options: Calibrated, model: Facts, chats: bool) -> Iterator[Finding]:
    yield from check_full(model)
    if quant_method(model.config):
        return
    kind = model.config.get("model_type")
    if kind and kind not in KNOWN[options.backend]:
        yield Finding(
            f"{options.backend} does not know models of the type {kind}",
            "Take quantize: gguf or bitsandbytes, which go by no list, or leave this step out.",
            field="" if options.backend == "gptqmodel" else "backend",
        )
    renamed = kind in RENAMED and options.backend == "gptqmodel"
    if renamed or fused_experts(model.tensors):
        yield Finding(
            f"{options.backend} does not keep to the layers that a {kind or 'model'} is stored with: "
            + ("it gives them other names" if renamed else "its experts are one tensor, of which it makes many"),
            "Take quantize: gguf or bitsandbytes, or leave this step out.",
            field="" if options.backend == "gptqmodel" else "backend",
        )
    if chats and model.tokenizer is not None and model.template is None:
        yield Finding(
            "the model has no chat template, so conversations cannot be rendered to calibrate on",
            "Take text data, or add a chat_template.jinja to the model's folder.",
        )
    if options.backend != "gptqmodel" and model.config:
        try:
            older_config(model.config)
        except StepError as error:
            yield Finding(error.finding.problem, error.finding.fix, field="backend")
    yield from _check_shapes(options, model)


def _check_shapes(options: Calibrated, model: Facts) -> Iterator[Finding]:
    layers = shapes(model)
    rounding = options.rounding
    size = rounding.group_size
    uneven = {name: inputs for name, (inputs, _) in layers.items() if size > 0 and inputs % size}
    if uneven:
        name, inputs = next(iter(uneven.items()))
        fits = [smaller for smaller in (64, 32, 16) if all(given % smaller == 0 for given, _ in layers.values())]
        yield Finding(
            f"group_size {size} does not divide the {inputs} inputs of {name}, nor those of {len(uneven) - 1} others",
            f"Set group_size: {fits[0] if fits else -1}.",
            field="group_size",
        )
    odd = {name: shape for name, shape in layers.items() if not _packs(rounding, *shape)}
    if odd:
        name, (inputs, outputs) = next(iter(odd.items()))
        yield Finding(
            f"{name}, of {inputs} inputs and {outputs} outputs, does not pack into 32-bit words at {rounding.bits} "
            f"bits, nor do {len(odd) - 1} others",
            "Take another number of bits, or quantize: gguf.",
            field="bits",
        )
        return
    clipped = {name: outputs for name, (_, outputs) in layers.items() if not _UNCLIPPED & {*name.split(".")}}
    uncut = [name for name, outputs in clipped.items() if outputs % _CUT]
    if rounding.quant_method == "awq" and uncut:
        yield Finding(
            f"AWQ takes {_CUT} outputs of a layer at a time, and {uncut[0]} has {clipped[uncut[0]]}",
            "Take quantize: gptq, which takes any number.",
        )


def _packs(rounding: Rounding, inputs: int, outputs: int) -> bool:
    whole = outputs * rounding.bits % WORD == 0
    return whole and (rounding.quant_method == "awq" or inputs * rounding.bits % WORD == 0)
