"""Models in the format of compressed-tensors, by llm-compressor."""

from tuneforge import Quantize, hookimpl

from .method import Compressed


@hookimpl
def register_quantize() -> list[type[Quantize]]:
    return [Compressed]
