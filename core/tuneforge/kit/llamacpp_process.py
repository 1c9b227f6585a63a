"""llama.cpp as a process of its own, by xllamacpp: what it cannot stand ends it, and not the step.

Run as: python llamacpp_process.py JSON, an object of the arguments of `main`.
Prints where it listens, and serves until its standard input ends: with whoever started it, however that one ended.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping

from xllamacpp import CommonAdapterLoraInfo, CommonParams, Server


def main(
    file: str, threads: int, context: int, adapter: str, template: str, template_options: Mapping[str, str]
) -> None:
    """An empty `template` is the file's own."""
    params = CommonParams()
    params.model.path = file
    if adapter:
        params.lora_adapters = [CommonAdapterLoraInfo(adapter)]
    params.chat_template = template
    params.default_template_kwargs = dict(template_options)
    params.n_ctx = context
    params.n_parallel = 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.n_threads_http = 1
    params.n_gpu_layers = 0
    params.cache_ram_mib = 0
    params.prefill_assistant = False  # an answer is whole, and not to be written on
    params.fit_params = params.warmup = params.ui = False
    params.verbosity = 1
    params.port = 0
    server = Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()
    os._exit(0)  # there is nothing to put away, and the server's own end may wait for its threads for ever


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
