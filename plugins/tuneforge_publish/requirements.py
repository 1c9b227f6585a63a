"""What servers of transformers models ask of a model and of adapters on it: told from facts, without a GPU."""

from __future__ import annotations

from collections.abc import Iterator

from tuneforge import Adapter, Facts, Finding, Known
from tuneforge.artifacts import context_length
from tuneforge.kit.vllm_adapters import unserved

_MERGE = "Merge the adapter with `merge: adapter`, and publish the merged model."


def common(engine: str, facts: Known, context: int | None) -> Iterator[Finding]:
    """Findings that every such server has."""
    given = facts["artifacts"]
    if sum(known.kind is not Adapter for known in given) > 1:
        yield Finding(
            f"a server of {engine} has one model, with adapters on it, and there are several models here",
            "Publish each into a folder of its own.",
        )
    for known in given:
        if known.kind is Adapter:
            why = unserved(known.config)
            if why:
                yield Finding(f"{engine} cannot serve the adapter: {why}", _MERGE)
    templates = {known.template for known in given if known.template}
    if len(templates) > 1:
        yield Finding(
            f"the artifacts have different chat templates, and a server of {engine} has one",
            "Publish each into a folder of its own.",
        )
    yield from _too_long(engine, given[0].model, context)


def _too_long(engine: str, model: Facts, context: int | None) -> Iterator[Finding]:
    made_for = context_length(model.config)
    if context and made_for and context > made_for:
        yield Finding(
            f"the model was made for {made_for} tokens, and {engine} is to serve {context}",
            f"Set context to {made_for} or less.",
            field="context",
        )
