"""`publish: folder`: everything that others need, for any engine."""

from __future__ import annotations

from tuneforge import Adapter, Gguf, GgufAdapter, Model, QuantizedModel, Report, Step

from .to_folder import ToFolder


class Folder(ToFolder):
    """A folder with everything that others need: weights, tokenizer and chat template, a model card, the lineage.

    A single artifact lies at the top of the folder, several lie in subfolders named after their steps. An adapter
    brings its base model along, unless `base_model` names it on the Hub. The card, README.md, has the metadata that
    the Hugging Face Hub reads; it tells how to run the release with transformers and llama.cpp, the scores of the
    given reports, how many rows of data were used and why others were not, and every parameter. `lineage.json` tells
    the same to programs, and `sha256sum -c SHA256SUMS` checks the files.

    The folder appears whole or not at all and replaces nothing but an earlier release. An artifact that failed one of
    the reports is refused, and so is the same model in another form, such as the GGUF file of a model that failed;
    unless the report is named under `despite`.
    """

    name = "folder"
    version = 3

    def run(
        self,
        artifacts: list[Model | Adapter | QuantizedModel | Gguf | GgufAdapter],
        reports: list[Report] | None = None,
        *,
        step: Step,
    ) -> None:
        from .bundle import Bundle, Dressing
        from .usage import usage

        bundle = Bundle(self, artifacts, reports or [], step)
        bundle.release(self.to, Dressing(["Run these from within this folder.", *usage(bundle.parts, bundle.lineage)]))
