"""llama.cpp's own server, by xllamacpp."""

from __future__ import annotations

import threading
from pathlib import Path

from xllamacpp import CommonAdapterLoraInfo, CommonParams, Server

from tuneforge import Artifact, StepError, Terms
from tuneforge.kit.llamacpp import template_of, template_options

from .talking import CONTEXT


def serve(model: Artifact, adapter: Artifact | None, terms: Terms) -> None:
    """Serves a GGUF file, with a GGUF adapter on it if one is given. Does not return."""
    file = min(model.path.glob("*.gguf"))  # of a model in several files, llama.cpp is given the first
    if not template_of(file):  # llama.cpp would take another model's; of an adapter, nobody has looked
        raise StepError("the GGUF file has no chat template", "Export a model that has one.")
    try:
        server = Server(_settings(file, min(adapter.path.glob("*.gguf")) if adapter else None, terms))
    except RuntimeError as error:  # it says no more
        raise StepError("llama.cpp does not load the GGUF file", "--debug before `serve` shows why.") from error
    threading.Event().wait()
    del server


def _settings(file: Path, adapter: Path | None, terms: Terms) -> CommonParams:
    params = CommonParams()
    params.model.path = str(file)
    if adapter is not None:
        params.lora_adapters = [CommonAdapterLoraInfo(str(adapter), 1.0)]
    params.hostnames, params.port = [terms.host], terms.port
    params.api_keys = list(terms.keys)
    params.model_alias = {terms.name}
    params.default_template_kwargs = template_options(template_of(file))
    params.n_ctx = terms.context or CONTEXT
    params.n_parallel = 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = terms.threads
    params.ui = False
    params.cors_origins = ""  # at "*" every page that is open in a browser could use the model
    # OpenAI's own defaults, not llama.cpp's taste.
    sampling = params.sampling
    sampling.temp, sampling.top_p, sampling.top_k, sampling.min_p = 1.0, 1.0, 0, 0.0
    return params
