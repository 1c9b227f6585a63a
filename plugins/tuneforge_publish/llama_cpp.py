"""`publish: llama_cpp`: GGUF files, ready for llama.cpp's own server."""

from __future__ import annotations

from tuneforge import Gguf, GgufAdapter, Report, Step

from .to_folder import Served


class LlamaCpp(Served):
    """GGUF files for llama.cpp, with the commands that chat with them and serve them.

    Each model is loaded in llama.cpp first: it has to have a chat template, and llama.cpp has to make of conversations,
    by that template and its own tokenizer, what transformers makes of them. An adapter in GGUF comes with the GGUF
    file of the model that it was trained on, which has to be among the artifacts.

    The folder has the card, lineage and checksums of `publish: folder`, and is refused for the same reasons.
    """

    name = "llama_cpp"
    version = 3
    needs = ("filelock>=4", "gguf>=0.19", "jinja2>=3.1", "pyyaml>=6.0", "xllamacpp>=2026.10")

    def run(self, artifacts: list[Gguf | GgufAdapter], reports: list[Report] | None = None, *, step: Step) -> None:
        from .bundle import Bundle, Dressing
        from .gguf_bundle import served
        from .llama_cpp_file import verify_template

        bundle = Bundle(self, artifacts, reports or [], step)
        use = ["Run these from within this folder, with [llama.cpp](https://github.com/ggml-org/llama.cpp) installed."]
        for model in served(bundle, self.context):
            if not model.base:  # which is served by itself as well
                verify_template(model.file, threads=step.threads)
            use += model.usage(self.context)
        bundle.release(self.to, Dressing(use))
