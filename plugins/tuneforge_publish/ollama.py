"""`publish: ollama`: a GGUF file with the Modelfile that makes it one of Ollama's models."""

from __future__ import annotations

from collections.abc import Iterator

from tuneforge import Field, Finding, Gguf, GgufAdapter, Known, Report, Step

from .to_folder import Served


class Ollama(Served):
    """GGUF files for Ollama, each with a Modelfile: template, stop tokens, context, and the commands to run it.

    Ollama's templates are Go's, and without one in the Modelfile it takes the one of its own that looks most like the
    model's. So the model's is translated, where it is fixed text around each message, as ChatML is: the translation
    has to write what the model's template writes, over conversations of every shape. Any other template is refused,
    and so is a file to which a BOS token is added that its template does not write. Tools are left out.

    The folder has the card, lineage and checksums of `publish: folder`, and is refused for the same reasons.
    """

    name = "ollama"
    version = 3
    needs = ("filelock>=4", "gguf>=0.19", "jinja2>=3.1", "pyyaml>=6.0")

    system: str = Field("", description="What the model is told ahead of each conversation that does not say itself.")

    def check(self, facts: Known) -> Iterator[Finding]:
        yield from super().check(facts)
        kinds = [known.kind for known in facts["artifacts"]]
        if GgufAdapter in kinds:
            yield Finding(
                "Ollama takes no adapters from version 0.34.1 on",
                "Merge the adapter and quantize the merged model, unless who is to run it has an older Ollama.",
                level="warning",
            )
        templates = {known.template for known in facts["artifacts"] if known.kind is Gguf and known.template}
        if templates or self.system:
            from .modelfile import unsayable
            from .templates import turns_of

            problem = unsayable(self.system)
            if problem:
                yield Finding(f"a Modelfile cannot have this text: {problem}", "Say it otherwise.", field="system")
            for template in sorted(templates):
                turns = turns_of(template, bos="<s>", eos="</s>")
                if isinstance(turns, str):
                    yield Finding(f"{turns}, so Ollama has no like of it", REMEDY)

    def run(self, artifacts: list[Gguf | GgufAdapter], reports: list[Report] | None = None, *, step: Step) -> None:
        from .bundle import Bundle, Dressing
        from .gguf_bundle import served
        from .modelfile import modelfile, usage

        bundle = Bundle(self, artifacts, reports or [], step)
        use = ["Run these from within this folder, with [Ollama](https://ollama.com) installed."]
        files = {}
        for model in served(bundle, self.context):
            path = model.part.path("Modelfile")
            files[path] = modelfile(model, self.context, self.system)
            use += usage(model, path, bundle, self.context)
        bundle.release(self.to, Dressing(use, files))


REMEDY = "Serve it with `publish: llama_cpp`, which renders the model's own template, or train with a simpler one."
