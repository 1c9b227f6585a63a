"""Serving models and LoRA adapters with vLLM, where a person has installed it."""

from __future__ import annotations

from collections.abc import Iterator

from tuneforge import Adapter, Artifact, Facts, Finding, Model, QuantizedModel, Server, Terms, hookimpl
from tuneforge.launch.hardware import hardware

QUANTIZED = frozenset({"awq", "bitsandbytes", "compressed-tensors", "gptq"})


class VLlm(Server):
    """Models, quantized ones too, and LoRA adapters on the models they were trained on, by vLLM.

    Many requests at a time, on a GPU. vLLM is never installed for it, as it brings a torch of its own: the `vllm`
    command is taken from beside this interpreter or from PATH. The chat template is the model's, an adapter's own if it
    has one; the model's settings of sampling do not count.
    """

    name = "vllm"
    kinds = (Model, QuantizedModel, Adapter)
    tells = r'" \d{3} |" \d{3}$|WARNING|ERROR'

    def preference(self) -> int:
        return 1 if hardware().gpus else -1

    def check(self, facts: Facts, terms: Terms) -> Iterator[Finding]:
        from .command import executable

        if executable() is None:
            yield Finding(
                "vLLM is not installed here",
                "Install it into an environment of its own and put its `vllm` on PATH, or give another --engine.",
            )
        if len(terms.keys) > 1:
            yield Finding("vLLM takes one API key, and the file has more", "Leave one in it, or give another --engine.")
        if facts.template is None:
            yield Finding(f"the {facts.kind.kind} has no chat template", "Serve the model's chat version.")
        settings = facts.model.config.get("quantization_config")
        if settings and settings.get("quant_method") not in QUANTIZED:
            yield Finding(
                f"vLLM loads no weights quantized by {settings.get('quant_method')}", "Give another --engine."
            )
        if issubclass(facts.kind, Adapter):
            for problem in adapter_problems(facts):
                yield Finding(problem, "Merge it and serve the merged model, or give another --engine.")

    def serve(self, artifact: Artifact, base: Artifact | None, terms: Terms) -> None:
        from .command import run

        run(artifact, terms)


def adapter_problems(facts: Facts) -> Iterator[str]:
    """What vLLM would not take of an adapter, by its adapter_config.json."""
    config = facts.config
    if config.get("peft_type") != "LORA":
        yield f"vLLM serves no {config.get('peft_type')} adapters, but LoRA alone"
        return
    if config.get("use_dora"):
        yield "vLLM serves no DoRA adapters"
    if config.get("bias", "none") != "none":
        yield "vLLM serves no LoRA adapter that has trained biases"
    if config.get("modules_to_save") or config.get("trainable_token_indices"):
        yield "vLLM serves no LoRA adapter that has trained whole modules or tokens (modules_to_save)"
    if config.get("rank_pattern") or config.get("alpha_pattern") or config.get("target_parameters"):
        yield "vLLM would pass over rank_pattern, alpha_pattern and target_parameters of a LoRA adapter"


@hookimpl
def register_server() -> list[type[Server]]:
    return [VLlm]
