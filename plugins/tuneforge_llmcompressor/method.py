"""Compressing by llm-compressor, as a method of the quantize stage."""

from collections.abc import Iterator
from typing import Any, Literal

from tuneforge import ChatData, Facts, Field, Finding, Known, Model, Quantize, QuantizedModel, Step, TextData
from tuneforge.kit.packed import (
    Config,
    Tensors,
    apart_layers,
    check_full,
    check_skipped,
    examples,
    experts,
    linear_layers,
    named,
    roundable,
)
from tuneforge.kit.unread import unread

from .schemes import SCHEMES, SMOOTHED


class Compressed(Quantize):
    """A model in the format of compressed-tensors for vLLM, by llm-compressor: fewer bits for weights, or for both.

    `w4a16` has weights of 4 bits and saves memory; `w8a8` computes in 8-bit integers and `fp8_dynamic` and `fp8_static`
    in 8-bit floats, which is faster too. Integers are rounded by GPTQ (Frantar et al. 2022,
    https://arxiv.org/abs/2210.17323), with activations smoothed into weights first for w8a8 (Xiao et al. 2022,
    https://arxiv.org/abs/2211.10438): these, and the scales of fp8_static, are measured on rows of `data` that are like
    what the model will be asked. Embeddings, the output head and routers stay as they are.
    """

    name = "compressed"
    output = QuantizedModel
    needs = ("llmcompressor>=0.14,<0.15", "peft>=0.20", "pyarrow>=18", "torch>=2.9", "transformers>=5")
    engine = "tuneforge_llmcompressor.engine"

    scheme: Literal["w4a16", "w8a8", "fp8_dynamic", "fp8_static"] = Field(
        "w4a16",
        also=("quantization_scheme", "format"),
        description="Bits of weights and activations: 4 and 16, 8 and 8 in integers, or 8-bit floats, the scales of "
        "whose activations are found for each token (dynamic) or once on data (static).",
    )
    rounding: Literal["auto", "nearest", "gptq"] = Field(
        "auto",
        also=("algorithm", "modifier"),
        description="How integers are found: the nearest, or by GPTQ, which makes up for the error of one weight with "
        "others; auto: gptq. Floats are always the nearest.",
    )
    smoothing: float | None = Field(
        None,
        ge=0,
        le=1,
        also=("smoothing_strength", "smoothquant"),
        description="How much of the range of activations is moved into weights (SmoothQuant); where it is not set, "
        "0.8 for w8a8, else 0: not at all.",
    )
    group_size: Literal[-1, 32, 64, 128] = Field(
        128,
        also=("q_group_size", "groupsize"),
        description="4-bit weights of an output that share a scale, as vLLM has kernels for; -1: all of them.",
    )
    symmetric: bool = Field(
        True, also=("sym", "zero_point"), description="Whether 4-bit weights have scales alone, without zero points."
    )
    act_order: bool = Field(
        True,
        also=("desc_act", "actorder", "activation_order"),
        description="GPTQ rounds the weights of large activations first. It costs nothing when the model is served.",
    )
    damping: float = Field(
        0.01,
        gt=0,
        lt=1,
        also=("dampening_frac", "damp_percent", "percdamp"),
        description="What GPTQ adds to the diagonal of its Hessian, as a share of its mean.",
    )
    rows: int = Field(
        512,
        ge=1,
        also=("num_calibration_samples", "num_samples", "nsamples", "calibration_rows"),
        description="Rows of `data` that are measured on, drawn by the seed of the run.",
    )
    max_length: int = Field(
        2048,
        ge=1,
        also=("max_seq_length", "cutoff_len", "seqlen"),
        description="Tokens of a row that are measured on, from its beginning.",
    )
    skip: list[str] = Field(
        [],
        also=("ignore", "modules_to_not_convert"),
        description="Linear layers that stay as they are, besides the output head: names such as down_proj or "
        "model.layers.0, or *.mlp.*",
    )

    @property
    def by_gptq(self) -> bool:
        return SCHEMES[self.scheme].integers and self.rounding != "nearest"

    @property
    def strength(self) -> float:
        """The strength of SmoothQuant; 0 where it is not used."""
        return self.smoothing if self.smoothing is not None else 0.8 if self.scheme == "w8a8" else 0.0

    @property
    def measures(self) -> str:
        """What is measured on data; empty if nothing is."""
        wanted = {"GPTQ": self.by_gptq, "SmoothQuant": self.strength > 0, self.scheme: self.scheme == "fp8_static"}
        return " and ".join(name for name, needed in wanted.items() if needed)

    def settings(self, tensors: Tensors, config: Config, head: str = "lm_head") -> dict[str, Any]:
        """The quantization_config of the result, as far as the library does not fill it in."""
        scheme = SCHEMES[self.scheme]
        weights = dict(scheme.weights)
        if self.scheme == "w4a16":
            by_group = {"strategy": "group", "group_size": self.group_size}
            weights |= {"symmetric": self.symmetric, **(by_group if self.group_size > 0 else {"strategy": "channel"})}
        group = {"targets": ["Linear"], "weights": weights, "input_activations": scheme.activations}
        return {
            "quant_method": "compressed-tensors",
            "format": scheme.form,
            "config_groups": {"group_0": group},
            "ignore": [head, *apart_layers(tensors), *named(self.skip, roundable(tensors, config))],
        }

    def foresee(self, facts: Known) -> Facts:
        full = next(iter(facts.get("model", ())), None)
        if full is None:
            return super().foresee(facts)
        config = {**full.config, "quantization_config": self.settings(full.tensors, full.config)}
        return Facts(QuantizedModel, config, tokenizer=full.tokenizer, template=full.template)

    def check(self, facts: Known) -> Iterator[Finding]:
        data = facts.get("data", ())
        if self.measures and not data:
            yield Finding(
                f"{self.measures} is measured on data, and there is none",
                "Add `data:` with the step whose rows are like what the model will be asked, or take "
                + ("`rounding: nearest`." if self.by_gptq else "fp8_dynamic."),
            )
        elif data and not self.measures:
            yield Finding(f"{self.scheme} measures nothing, so that data is not used", "Leave data out.", "warning")
        if self.rounding == "gptq" and not self.by_gptq:
            yield Finding(
                f"{self.scheme} has floats, and gptq rounds integers", "Leave rounding out.", field="rounding"
            )
        without = {"group_size": self.scheme != "w4a16", "symmetric": self.scheme != "w4a16"}
        without |= dict.fromkeys(("act_order", "damping"), not self.by_gptq)
        yield from unread(self, (name for name, useless in without.items() if useless), self.scheme)
        if SCHEMES[self.scheme].hardware:
            yield Finding(f"{self.scheme}: {SCHEMES[self.scheme].hardware}", "", "warning", "scheme")
        for model in facts.get("model", ()):
            yield from check_full(model)
            yield from check_skipped(self.skip, roundable(model.tensors, model.config), "skip")
            yield from self._check_model(model, chats=any(issubclass(given.kind, ChatData) for given in data))

    def _check_model(self, model: Facts, chats: bool) -> Iterator[Finding]:
        layers = linear_layers(model.tensors, model.config)
        rounded = [layer for layer in layers if layer not in named(self.skip, layers)]
        wide = {layer: model.tensors[f"{layer}.weight"].shape[1] for layer in rounded}
        odd = [layer for layer, width in wide.items() if self.group_size > 0 and width % self.group_size]
        if odd and self.scheme == "w4a16":
            sizes = [size for size in (128, 64, 32) if all(width % size == 0 for width in wide.values())]
            yield Finding(
                f"groups of {self.group_size} do not divide the {wide[odd[0]]} inputs of {examples(odd, 2)}",
                f"Set it to {sizes[0]}, or skip these layers." if sizes else "Set it to -1, or skip these layers.",
                field="group_size",
            )
        architecture = next(iter(model.config.get("architectures") or ()), None)
        if self.strength and architecture is not None and architecture not in SMOOTHED:
            yield Finding(
                f"of {architecture} it is not known which norms feed which layers, so that smoothing may spoil it",
                "Set smoothing: 0.",
                field="smoothing",
            )
        kept = named(self.skip, roundable(model.tensors, model.config))
        left = [layer for layer in experts(model.tensors, model.config) if layer not in kept]
        if left:
            yield Finding(
                f"llm-compressor may leave the experts as they are, such as {left[0]}, and the step fails then",
                "`skip: [experts]` leaves them so on purpose.",
                "warning",
                "skip",
            )
        if chats and self.measures and model.tokenizer is not None and model.template is None:
            yield Finding(
                "the model has no chat template, so conversations cannot be written as it would read them",
                "Take data of texts, or a model with a template.",
            )

    def run(self, model: Model, data: ChatData | TextData | None = None, *, step: Step) -> None:
        from .engine import compress

        compress(self, model, data, step)
