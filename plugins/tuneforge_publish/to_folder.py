"""What every publication into a folder shares: where it is written, and how long it holds."""

from __future__ import annotations

from collections.abc import Iterator

from tuneforge import Field, Finding, Known, Release, Target
from tuneforge.artifacts import read_json

from .carded import Carded


class ToFolder(Carded):
    """A publication into a folder, which appears whole or not at all."""

    to: Target = Field(description="The folder to write: a new one, an empty one, or an earlier release.")

    def check(self, facts: Known) -> Iterator[Finding]:
        from .release import obstacle

        problem = obstacle(self.to)
        if problem:
            yield Finding(*problem, field="to")
        yield from super().check(facts)

    def holds(self, receipt: Release) -> bool:
        from .release import unchanged

        return unchanged(self.to, read_json(receipt.path / "receipt.json")["files"])


class Served(ToFolder):
    """A publication for one engine that serves."""

    context: int | None = Field(
        None,
        ge=1,
        description="The longest conversation to serve, in tokens; by default what the model was made for, with GGUF "
        "files at most 8192, and with TGI what the GPU has room for.",
        also=("num_ctx", "n_ctx", "ctx_size", "max_model_len", "max_total_tokens"),
    )
