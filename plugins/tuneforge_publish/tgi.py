"""`publish: tgi`: a folder that Hugging Face's text-generation-inference takes."""

from __future__ import annotations

from collections.abc import Iterator

from tuneforge import Adapter, Finding, Known, Model, QuantizedModel, Report, Step

from .to_folder import Served


class Tgi(Served):
    """A model, quantized or not, or LoRA adapters beside their base, for text-generation-inference (TGI).

    TGI is in maintenance mode, and 3.3.7 its last version: for something new take `publish: vllm`. It reads a model as
    transformers 4.51 wrote it, so what newer versions write otherwise is written as it expects: rotary embeddings in
    config.json, the tokenizer's class, and the chat template, which has to write in TGI's own template engine what it
    writes in transformers. The folder has the docker command, a compose file, and the card, lineage and checksums of
    `publish: folder`. It is refused for the same reasons, and for what TGI would refuse or, worse, pass over: weights
    of bitsandbytes, adapters other than LoRA, layers that it puts no adapter on.
    """

    name = "tgi"
    version = 3
    # TGI has minijinja 2.8, as Python has it from 2.12 on with Python's methods; newer ones write `True`, this `true`.
    needs = ("filelock>=4", "jinja2>=3.1", "minijinja~=2.12.0", "pyyaml>=6.0")

    def check(self, facts: Known) -> Iterator[Finding]:
        from .requirements import common
        from .tgi_support import findings

        yield from super().check(facts)
        yield from common("text-generation-inference", facts, self.context)
        for known in facts["artifacts"]:
            yield from findings(known)

    def run(
        self, artifacts: list[Model | QuantizedModel | Adapter], reports: list[Report] | None = None, *, step: Step
    ) -> None:
        from .bundle import Bundle, Dressing
        from .server import server_of
        from .tgi_bundle import NAME, files, usage

        bundle = Bundle(self, artifacts, reports or [], step)
        server = server_of(bundle, NAME)
        bundle.release(self.to, Dressing(list(usage(server, self.context)), files(server, self.context)))
