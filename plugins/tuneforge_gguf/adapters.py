"""`quantize: gguf_lora`: a LoRA adapter for llama.cpp."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from tuneforge import Adapter, Facts, Field, Finding, GgufAdapter, Known, Quantize, Step
from tuneforge.kit.adapters import peft_type

from .togguf import ToGguf


class ToGgufLora(Quantize):
    """A LoRA adapter as a GGUF file, for llama.cpp to add to a GGUF file of its base: `--lora FILE`.

    Written by llama.cpp's own converter. Afterwards base and adapter are loaded in llama.cpp and compared with what
    transformers and PEFT make of them. To merge the adapter first and export the model is what most others want.
    """

    name = "gguf_lora"
    output = GgufAdapter
    needs = (*ToGguf.needs, "accelerate>=1.10", "peft>=0.20")
    engine = "tuneforge_gguf.lora"

    type: Literal["f32", "f16", "bf16"] = Field(
        "f16", description="How the adapter's weights are stored.", also=("outtype",)
    )

    def foresee(self, facts: Known) -> Facts:
        adapter = next(iter(facts.get("model", ())), None)
        return Facts(GgufAdapter, base=adapter.base if adapter else None)

    def check(self, facts: Known) -> Iterable[Finding]:
        from .convertible import unconvertible

        for adapter in facts["model"]:
            if adapter.config and (problem := unsupported(adapter.config)):
                yield Finding(problem, "Merge the adapter (merge: adapter), and export the model.")
            yield from unconvertible(adapter.model)
            if "quantization_config" in adapter.model.config:
                yield Finding(
                    "the adapter sits on a quantized model, which no GGUF file can be made of to compare it on",
                    "Take the adapter on the full-precision version of that model.",
                )

    def run(self, model: Adapter, step: Step) -> None:
        from .converter import converter_cache
        from .lora import make

        make(model, self.type, converter_cache(), step)


def unsupported(config: dict[str, Any] | Any) -> str:
    """What of an adapter, by its adapter_config.json, llama.cpp has no place for; empty if it has for all."""
    kind = peft_type(config)
    if kind != "LORA":
        return f"llama.cpp knows LoRA adapters alone, not {kind or 'this one'}"
    if config.get("use_dora"):
        return "llama.cpp has no place for the magnitudes of DoRA"
    if config.get("alpha_pattern"):
        return "llama.cpp has one alpha for an adapter, not one for each module (alpha_pattern)"
    if config.get("use_rslora") and config.get("rank_pattern"):
        return "llama.cpp has one alpha for an adapter, which with rslora every rank needs its own of (rank_pattern)"
    if config.get("bias", "none") != "none" or config.get("lora_bias"):
        return "llama.cpp has no place for an adapter's biases"
    for name in ("modules_to_save", "trainable_token_indices", "target_parameters"):
        if config.get(name):
            return f"llama.cpp has no place for what {name} holds"
    return ""
