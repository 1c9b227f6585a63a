"""`load_model: path`: a model in a folder of one's own."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import replace

from tuneforge import Facts, Field, Finding, Known, LoadModel, Model, Source, Step

from . import folders, pickled


class Local(LoadModel):
    """A model in a folder, as transformers' `save_pretrained` writes it: config.json, safetensors, tokenizer.json.

    The folder is copied, not linked: what a person may still write into cannot be part of a registry.
    """

    name = "path"

    path: Source = Field(description="The model's folder.", also=("model_name_or_path", "base_model"))
    template: Source | None = Field(
        None, description="A Jinja file with the chat template to use in place of the model's.", also=("chat_template",)
    )

    pickles: tuple[str, ...] = pickled.PICKLES

    def requires(self, facts: Known) -> tuple[str, ...]:
        return (*self.needs, *pickled.NEEDS) if self.pickles else self.needs

    def foresee(self, facts: Known) -> Facts:
        return Facts(Model) if list(self.check(facts)) else folders.facts(self.path, self.template)

    def check(self, facts: Known) -> Iterable[Finding]:
        if not self.path.is_dir():
            found = "is a file" if self.path.exists() else "is not there"
            yield Finding(f"{self.path} {found}", "Name the folder that save_pretrained wrote.", field="path")
            return
        wrong = pickled.Pickled(self.pickles).problems(self.path) if self.pickles else folders.problems(self.path)
        for finding in wrong:
            yield replace(finding, field=finding.field or "path")
        yield from folders.unreadable(self.template)

    def run(self, step: Step) -> None:
        if self.pickles:
            pickled.take_over(self.path, self.pickles, step.out, shutil.copyfile, self.template)
        else:
            folders.take_over(self.path, step.out, template=self.template)
