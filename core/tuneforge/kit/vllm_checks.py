"""What vLLM makes of a model, told from its configuration and the headers of its weights: no GPU and no vLLM needed.

As vLLM 0.33 has it, in vllm/model_executor/layers/quantization and vllm/model_executor/models/registry.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tuneforge import Facts, Finding

from .packed import Tensors, examples, is_packed, linear_layers, packed_layers
from .quantized import quant_method
from .vllm_models import OWN, THROUGH_TRANSFORMERS

VERSION = "0.33"
"""The release that this was read from."""

Settings = Mapping[str, Any]

_GROUPS = (-1, 32, 64, 128)
"""Weights that share a scale, as the Marlin and Triton kernels have it; -1: all of an output."""
_OTHERS = frozenset({"fp8", "modelopt", "modelopt_fp4", "mxfp4", "mxfp8", "quark", "torchao", "inc", "auto-round"})
"""Methods that vLLM reads, and of which nothing is known here."""
_FUSED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Layers that vLLM makes one of: all of them are quantized alike, or none."""
_AGAIN = "Quantize the full-precision model again"


def vllm_findings(facts: Facts) -> Iterator[Finding]:
    """What vLLM would refuse of a model, quantized or not, and, as warnings, what it would read otherwise."""
    config = facts.model.config
    yield from _check_model(facts)
    method = quant_method(config)
    if not method:
        return
    settings = config["quantization_config"]
    if method not in _METHODS:
        if method not in _OTHERS:
            yield Finding(f"vLLM does not know the quantization {method}", f"It reads {', '.join(_METHODS)}.")
        return
    missing = [" or ".join(names) for names in _REQUIRED[method] if not any(name in settings for name in names)]
    if missing:
        yield Finding(
            f"quantization_config lacks {', '.join(missing)}, without which vLLM does not read {method}", f"{_AGAIN}."
        )
        return
    yield from _METHODS[method](settings, facts.model.tensors)
    if facts.model.tensors:
        yield from _check_packed(method, facts.model.config, facts.model.tensors)


def _check_model(facts: Facts) -> Iterator[Finding]:
    config = facts.model.config
    architecture = next(iter(config.get("architectures") or ()), None)
    if architecture is None:
        yield Finding("config.json names no architecture, and vLLM goes by that", "Add `architectures` to it.")
    elif architecture in THROUGH_TRANSFORMERS:
        yield _told(f"vLLM runs {architecture} through transformers' own code, slower than its own models")
    elif architecture not in OWN:
        yield _told(
            f"vLLM {VERSION} has no {architecture} of its own: it tries transformers' code, which not every model fits"
        )
    if facts.tokenizer is not None and facts.template is None:
        yield _told(
            "the model has no chat template, without which vLLM refuses chat completions",
            "Add a chat_template.jinja, or serve it for plain completions.",
        )
    text = config.get("text_config", config)
    width, heads = text.get("hidden_size"), text.get("num_attention_heads")
    head = text.get("head_dim") or (width // heads if width and heads else None)
    if head and head % 8:
        yield _told(f"heads of {head} are no multiple of 8, so that vLLM cannot use FlashAttention")
    if _dtype(text) == "float32":
        yield _told(
            "the model is stored in float32, which vLLM rounds to 16 bits while it loads it",
            "Serve it with --dtype float32 if it shall not.",
        )


def _check_packed(method: str, config: Settings, tensors: Tensors) -> Iterator[Finding]:
    """Findings on what is stored: nothing in fewer bits, layers that are not, layers of which some parts are."""
    packed, full = packed_layers(tensors), linear_layers(tensors, config)
    if not packed:
        yield Finding(
            f"config.json says {method}, and not one layer is stored in fewer bits", f"{_AGAIN}: this one is not."
        )
        return
    # GPTQ and AWQ name no layers: vLLM takes those for quantized that are stored so.
    if method in ("bitsandbytes", "compressed-tensors"):
        surprising = [layer for layer in full if not _ignored(layer, config["quantization_config"], method)]
        if surprising:
            yield Finding(
                f"{len(surprising)} layers are stored in full and vLLM expects them {method}: {examples(surprising)}",
                f"{_AGAIN}, with these named as skipped.",
            )
    for layer in sorted({_fused(layer) for layer in (*packed, *full)} - {""}):
        parts = _parts(layer)
        stored = {is_packed(part, tensors) for part in parts if f"{part}.weight" in tensors or part in packed}
        if len(stored) > 1:
            yield Finding(
                f"vLLM makes one layer of {', '.join(part.rpartition('.')[2] for part in parts)} of "
                f"{layer.rpartition('.')[0]}, of which some are quantized and some are not",
                f"{_AGAIN}, with all of them skipped or none.",
            )
            return


def _gptq(settings: Settings, tensors: Tensors) -> Iterator[Finding]:
    bits, symmetric, group = settings["bits"], settings["sym"], settings["group_size"]
    if (bits, bool(symmetric)) not in ((4, True), (8, True)):
        shape = "symmetric" if symmetric else "asymmetric"
        yield Finding(f"vLLM has no GPTQ of {bits} bits, {shape}", f"{_AGAIN}, with 4 or 8 bits, symmetric.")
    if settings["desc_act"] and group != -1:
        yield Finding(
            "vLLM has given up GPTQ whose groups are in the order of activations (desc_act)",
            f"{_AGAIN}, without act-order.",
        )
    yield from _check_group(group)
    for layer in _with(tensors, "qweight"):
        lacking = [name for name in ("qzeros", "scales") if f"{layer}.{name}" not in tensors]
        rows = tensors[f"{layer}.qweight"].shape[0] * 32 // bits
        yield from _check_layer(layer, lacking, rows, group)
        if lacking or _indivisible(rows, group):
            return


def _awq(settings: Settings, tensors: Tensors) -> Iterator[Finding]:
    bits = settings.get("w_bit", settings.get("bits"))
    group = settings.get("q_group_size", settings.get("group_size"))
    if bits != 4:
        yield Finding(f"vLLM has AWQ of 4 bits, not of {bits}", f"{_AGAIN}, with 4 bits.")
        return
    yield from _check_group(group)
    if not settings["zero_point"]:
        yield _told("vLLM computes symmetric AWQ without Marlin, much slower", f"{_AGAIN}, asymmetric (zero points).")
    for layer in _with(tensors, "qweight"):
        lacking = [name for name in ("qzeros", "scales") if f"{layer}.{name}" not in tensors]
        rows, columns = tensors[f"{layer}.qweight"].shape
        yield from _check_layer(layer, lacking, rows, group)
        scales = tensors.get(f"{layer}.scales")
        wrong = scales is not None and scales.shape[-1] != columns * 8
        if wrong:
            yield Finding(f"{layer} is not packed as vLLM reads AWQ: along its outputs", f"{_AGAIN}, in format gemm.")
        if lacking or wrong or _indivisible(rows, group):
            return


def _bitsandbytes(settings: Settings, tensors: Tensors) -> Iterator[Finding]:
    yield _told(
        f"vLLM {VERSION} reads bitsandbytes through a plugin of its own, and on one GPU: not in tensor parallel",
        "Install vllm-bnb-plugin beside it.",
    )
    storage = settings.get("bnb_4bit_quant_storage") or "uint8"
    if storage != "uint8":
        yield Finding(f"vLLM reads 4-bit weights stored as uint8, not as {storage}", f"{_AGAIN}.")
    if settings.get("load_in_8bit") and any("experts" in name.split(".") for name in tensors):
        yield Finding("vLLM does not read experts in 8 bits of bitsandbytes", f"{_AGAIN}, as nf4.")


def _compressed(settings: Settings, tensors: Tensors) -> Iterator[Finding]:
    if (settings.get("sparsity_config") or {}).get("targets"):
        yield Finding("vLLM has given up sparse weights of compressed-tensors", f"{_AGAIN}, without sparsity.")
    for name, group in settings["config_groups"].items():
        weights, inputs = group.get("weights"), group.get("input_activations")
        if not group.get("targets") or not weights:
            yield Finding(f"{name} of quantization_config has no targets or no weights", f"{_AGAIN}.")
            continue
        if weights.get("actorder") in ("group", "dynamic"):
            yield Finding(
                "vLLM has given up groups in the order of activations (actorder)", f"{_AGAIN}, with act_order: static."
            )
        yield from _check_scheme(weights, inputs, group.get("format") or settings["format"])
        size = weights.get("group_size")
        for layer in _with(tensors, "weight_packed"):
            packed, scale = tensors[f"{layer}.weight_packed"], f"{layer}.weight_scale"
            lacking = [part for part in ("weight_scale", "weight_shape") if f"{layer}.{part}" not in tensors]
            rows = packed.shape[1] * 32 // weights["num_bits"]
            yield from _check_layer(layer, lacking, rows, size or -1)
            if lacking or _indivisible(rows, size or -1) or scale not in tensors:
                break


def _check_scheme(weights: Settings, inputs: Settings | None, form: str) -> Iterator[Finding]:
    """Findings on weights and activations that no scheme of vLLM's computes."""
    bits, kind, strategy = weights.get("num_bits"), weights.get("type"), weights.get("strategy")
    told = f"{bits}-bit {kind} weights by {strategy}" + (
        f" with {inputs.get('num_bits')}-bit {inputs.get('type')} activations" if inputs else ""
    )
    problem = Finding(f"vLLM has no scheme for {told} in {form}", f"{_AGAIN}, as w4a16, w8a8 or fp8_dynamic.")
    if inputs is None and kind == "int" and form == "pack-quantized":
        bits_known = (4, 8) if weights.get("symmetric") else (4,)
        if bits not in bits_known or strategy not in ("group", "channel"):
            yield problem
        elif strategy == "group":
            yield from _check_group(weights.get("group_size"))
        return
    if bits != 8 or not weights.get("symmetric") or weights.get("dynamic"):
        yield problem
        return
    dynamic, by = (inputs or {}).get("dynamic"), (inputs or {}).get("strategy")
    if kind == "int" and inputs and form in ("int-quantized", "naive-quantized"):
        if strategy not in ("channel", "tensor") or by != ("token" if dynamic else "tensor"):
            yield problem
        else:
            yield _told("vLLM computes in 8-bit integers on GPUs of compute capability 7.5 (Turing) and newer")
    elif kind == "float" and form in ("float-quantized", "naive-quantized"):
        static = inputs is not None and not dynamic
        if strategy not in ("channel", "tensor", "block") or (static and by != "tensor"):
            yield problem
        else:
            yield _told(
                "vLLM computes in FP8 on GPUs of compute capability 8.9 (Ada, Hopper) and newer; older ones save "
                "memory alone"
            )
    else:
        yield problem


def _check_group(size: Any) -> Iterator[Finding]:
    if size not in _GROUPS:
        known = ", ".join(map(str, _GROUPS))
        yield Finding(f"vLLM has no kernel for groups of {size} weights", f"{_AGAIN}, with one of {known}.")


def _check_layer(layer: str, lacking: list[str], rows: int, group: int) -> Iterator[Finding]:
    if lacking:
        yield Finding(f"{layer} lacks {', '.join(lacking)}, which vLLM loads with it", f"{_AGAIN}.")
    if _indivisible(rows, group):
        yield Finding(
            f"groups of {group} do not divide the {rows} inputs of {layer}", f"{_AGAIN}, with smaller groups."
        )


def _indivisible(rows: int, group: int) -> bool:
    return group > 0 and rows % group != 0


def _with(tensors: Tensors, last: str) -> list[str]:
    return [name.removesuffix(f".{last}") for name in tensors if name.endswith(f".{last}")]


def _ignored(layer: str, settings: Settings, method: str) -> bool:
    """Whether vLLM takes a layer for one that is not quantized, by the names in the configuration."""
    if method == "bitsandbytes":
        parts = layer.split(".")
        skipped = set(settings.get("llm_int8_skip_modules") or ())
        # Of layers that it makes one of, it never asks for the parts by name.
        beginnings = parts[:-1] if _fused(layer) else parts
        return bool(skipped & {*beginnings, *(".".join(parts[: end + 1]) for end in range(len(beginnings)))})
    for name in settings.get("ignore") or ():
        if name == layer or (name.startswith("re:") and re.match(name[3:], layer)):
            return True
    return False


def _fused(layer: str) -> str:
    """A name for the layer that vLLM makes of this one and others; empty if it makes none."""
    block, _, last = layer.rpartition(".")
    return next((f"{block}.{'+'.join(parts)}" for parts in _FUSED if last in parts), "")


def _parts(fused: str) -> list[str]:
    block, _, last = fused.rpartition(".")
    return [f"{block}.{part}" for part in last.split("+")]


def _dtype(config: Mapping[str, Any]) -> str:
    return str(config.get("dtype") or config.get("torch_dtype") or "float32").removeprefix("torch.")


def _told(problem: str, fix: str = "") -> Finding:
    return Finding(problem, fix, "warning")


_REQUIRED: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "awq": (("bits", "w_bit"), ("group_size", "q_group_size"), ("zero_point",)),
    "bitsandbytes": (("load_in_4bit", "load_in_8bit"),),
    "compressed-tensors": (("config_groups",), ("format",)),
    "gptq": (("bits",), ("group_size",), ("desc_act",), ("sym",)),
}
_METHODS: Mapping[str, Callable[[Settings, Tensors], Iterator[Finding]]] = {
    "awq": _awq,
    "bitsandbytes": _bitsandbytes,
    "compressed-tensors": _compressed,
    "gptq": _gptq,
}
