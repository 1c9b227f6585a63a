"""GPTQ and AWQ: models in few bits that transformers, vLLM and TGI load."""

from tuneforge import Quantize, hookimpl

from .awq import Awq
from .gptq import Gptq


@hookimpl
def register_quantize() -> list[type[Quantize]]:
    return [Awq, Gptq]
