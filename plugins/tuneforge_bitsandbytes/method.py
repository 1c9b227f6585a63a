"""Rounding by bitsandbytes, as a method of the quantize stage."""

from collections.abc import Iterator
from typing import Any, Literal

from tuneforge import Facts, Field, Finding, Known, Model, Quantize, QuantizedModel, Step
from tuneforge.kit.packed import Config, Tensors, apart_layers, check_full, check_skipped, experts, named, roundable
from tuneforge.kit.unread import unread


class BitsAndBytes(Quantize):
    """A model in 4-bit floats or 8-bit integers of bitsandbytes, loaded by transformers, TGI and vLLM as it is.

    It needs no data: 4-bit weights are rounded in blocks of 64 (Dettmers et al. 2023, QLoRA,
    https://arxiv.org/abs/2305.14314), 8-bit ones by rows, with outliers of the activations computed in full (Dettmers
    et al. 2022, LLM.int8(), https://arxiv.org/abs/2208.07339). Embeddings and the output head stay as they are. The
    result is loaded again and must give the very logits it had before; how far these are from the full model's is told.
    """

    name = "bitsandbytes"
    output = QuantizedModel
    needs = ("accelerate>=1.10", "bitsandbytes>=0.46.1", "peft>=0.20", "torch>=2.6", "transformers>=5.20")
    engine = "tuneforge_bitsandbytes.engine"

    type: Literal["nf4", "fp4", "int8"] = Field(
        "nf4",
        also=("bnb_4bit_quant_type", "load_in_4bit", "load_in_8bit", "quantization_bit", "bits"),
        description="What weights are rounded to: 4-bit normal floats, 4-bit floats, or 8-bit integers.",
    )
    double_quant: bool = Field(
        True,
        also=("bnb_4bit_use_double_quant", "double_quantization"),
        description="Rounds the scales of 4-bit weights too, which saves 0.4 bits a weight.",
    )
    compute_dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto",
        also=("bnb_4bit_compute_dtype",),
        description="The type that 4-bit weights are computed in; auto: the one that the full model is stored in.",
    )
    threshold: float = Field(
        6.0,
        ge=0,
        also=("llm_int8_threshold",),
        description="Activations beyond this are outliers, which int8 computes in 16 bits; 0: none is.",
    )
    skip: list[str] = Field(
        [],
        also=("llm_int8_skip_modules", "modules_to_not_convert", "ignore"),
        description="Linear layers that stay as they are, besides the output head: names such as down_proj or "
        "model.layers.0, or *.mlp.*",
    )

    def settings(self, stored: str, head: str, tensors: Tensors, config: Config) -> dict[str, Any]:
        """What transformers is to be told, given the type the model is stored in, its output head and its tensors."""
        # Full names for transformers, and what was asked for, as vLLM knows no parts of what it makes one layer of.
        plain = [pattern for pattern in self.skip if not set(pattern) & set("*?[")]
        skipped = [
            head,
            *dict.fromkeys([*apart_layers(tensors), *plain, *named(self.skip, roundable(tensors, config))]),
        ]
        if self.type == "int8":
            return {"load_in_8bit": True, "llm_int8_threshold": self.threshold, "llm_int8_skip_modules": skipped}
        return {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": self.type,
            "bnb_4bit_use_double_quant": self.double_quant,
            "bnb_4bit_compute_dtype": stored if self.compute_dtype == "auto" else self.compute_dtype,
            "llm_int8_skip_modules": skipped,
        }

    def foresee(self, facts: Known) -> Facts:
        full = next(iter(facts.get("model", ())), None)
        if full is None:
            return super().foresee(facts)
        stored = str(full.config.get("dtype") or full.config.get("torch_dtype") or "float32")
        settings = self.settings(stored, "lm_head", full.tensors, full.config)
        config = {**full.config, "quantization_config": {"quant_method": "bitsandbytes", **settings}}
        return Facts(QuantizedModel, config, tokenizer=full.tokenizer, template=full.template)

    def check(self, facts: Known) -> Iterator[Finding]:
        modes = {"int8": ("double_quant", "compute_dtype")}
        yield from unread(self, modes.get(self.type, ("threshold",)), self.type)
        for model in facts.get("model", ()):
            layers = roundable(model.tensors, model.config)
            yield from check_full(model)
            yield from check_skipped(self.skip, layers, "skip")
            kept = named(self.skip, layers)
            left = [layer for layer in experts(model.tensors, model.config) if layer not in kept]
            if left:
                yield Finding(
                    f"bitsandbytes would leave all experts as they are, such as {left[0]}: transformers holds them "
                    "as one tensor, which is no linear layer",
                    "Take another method, or `skip: [experts]` if that is what you want.",
                )

    def run(self, model: Model, step: Step) -> None:
        from .engine import quantize

        quantize(self, model, step)
