"""Models in 4 or 8 bits, in the format of bitsandbytes."""

from tuneforge import Quantize, hookimpl

from .method import BitsAndBytes


@hookimpl
def register_quantize() -> list[type[Quantize]]:
    return [BitsAndBytes]
