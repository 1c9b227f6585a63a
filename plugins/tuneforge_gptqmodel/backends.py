"""The libraries that quantize: what each needs, and what it cannot do on a machine like this one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tuneforge import Finding, Hardware
from tuneforge.kit.quantized import GPTQMODEL

_COMMON = ("pyarrow>=18", "torch>=2.6")
_OLD = (*_COMMON, "sentencepiece>=0.2", "transformers==4.51.*")
"""The last transformers that the two dead libraries were tried with."""

NEEDS: Mapping[str, tuple[str, ...]] = {
    # peft, so that what loads the result, an evaluation say, finds its own environment to be this one.
    "gptqmodel": (*GPTQMODEL, *_COMMON, "peft>=0.20", "transformers>=5.20"),
    "auto-gptq": ("auto-gptq==0.7.1", "peft==0.14.*", *_OLD),
    "autoawq": ("autoawq==0.2.9", *_OLD),
}

HALVED: Mapping[str, frozenset[str]] = {
    "gptqmodel": frozenset({"F32"}),  # its kernels compute in 16 bits
    "auto-gptq": frozenset({"BF16", "F32"}),  # its kernels know nothing else
    "autoawq": frozenset(),
}
"""Types, as safetensors calls them, of models that a library is told to hold in float16."""


def unfit(backend: str, machine: Hardware) -> Iterator[Finding]:
    """What a library cannot do on a machine."""
    if backend == "auto-gptq" and not machine.gpus:
        yield Finding(
            "auto-gptq 0.7.1 quantizes on an NVIDIA GPU only, and there is none here",
            "Take backend: gptqmodel, which writes the same format on a CPU, or run this recipe where there is a GPU.",
            field="backend",
        )
    if backend == "autoawq" and not machine.gpus:
        yield Finding(
            "autoawq 0.2.9 quantizes on this CPU, but does not run what it made without an NVIDIA GPU: its result is "
            "unpacked and compared in plain torch instead",
            "backend: gptqmodel quantizes and runs AWQ on a CPU.",
            "warning",
            "backend",
        )
