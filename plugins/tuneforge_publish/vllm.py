"""`publish: vllm`: a folder that `vllm serve` takes."""

from __future__ import annotations

from collections.abc import Iterator

from tuneforge import Adapter, Finding, Known, Model, QuantizedModel, Report, Step

from .to_folder import Served


class Vllm(Served):
    """A model, quantized or not, or LoRA adapters beside their base, with what serves them by vLLM.

    The folder has the command, a docker compose file, and the card, lineage and checksums of `publish: folder`. It is
    refused for the same reasons, and for what vLLM would refuse when it starts: a quantization that it does not read,
    adapters other than LoRA, several chat templates; and for an answer that no stop token would end. What vLLM
    0.33 asks of the model is looked up in its configuration and the headers of its weights.
    """

    name = "vllm"
    version = 3

    def check(self, facts: Known) -> Iterator[Finding]:
        from tuneforge.kit.vllm_checks import vllm_findings

        from .requirements import common

        yield from super().check(facts)
        yield from common("vLLM", facts, self.context)
        for known in facts["artifacts"]:
            yield from vllm_findings(known)

    def run(
        self, artifacts: list[Model | QuantizedModel | Adapter], reports: list[Report] | None = None, *, step: Step
    ) -> None:
        from .bundle import Bundle, Dressing
        from .server import server_of
        from .vllm_bundle import compose_file, usage

        bundle = Bundle(self, artifacts, reports or [], step)
        server = server_of(bundle, "vLLM")
        use = list(usage(bundle, server, self.context))
        bundle.release(self.to, Dressing(use, {"compose.yaml": compose_file(bundle, server, self.context)}))
