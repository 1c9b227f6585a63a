"""Serving models and LoRA adapters with vLLM, where a person has installed it."""

from __future__ import annotations

from collections.abc import Iterator

from tuneforge import Adapter, Artifact, Facts, Finding, Model, QuantizedModel, Server, Terms, hookimpl
from tuneforge.launch.hardware import hardware


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
        from tuneforge.kit.vllm_adapters import unserved
        from tuneforge.kit.vllm_checks import vllm_findings

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
        yield from (finding for finding in vllm_findings(facts) if finding.level == "error")
        if issubclass(facts.kind, Adapter) and (why := unserved(facts.config)):
            yield Finding(
                f"vLLM cannot serve the adapter: {why}",
                "Merge it and serve the merged model, or give another --engine.",
            )

    def serve(self, artifact: Artifact, base: Artifact | None, terms: Terms) -> None:
        from .command import run

        run(artifact, terms)


@hookimpl
def register_server() -> list[type[Server]]:
    return [VLlm]
