"""AWQ, as a method of the quantize stage."""

from __future__ import annotations

from typing import Any, Literal

from tuneforge import Field

from .backends import HALVED
from .layers import Rounding
from .options import Calibrated


class Awq(Calibrated):
    """A model in 4 bits, for transformers, vLLM and TGI: the channels that matter most by their activations are scaled
    up before every linear layer of its blocks is rounded.

    Lin et al. 2023, AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration,
    https://arxiv.org/abs/2306.00978. Calibrated on training rows of `data`, rendered by the model's own template; or,
    with a warning, on what the model writes by itself. Embeddings, norms, routers and the output head stay as they are,
    in float16 where they were in float32.

    The result is looked at, layer by layer, then loaded again and compared with the model: `greedy_agreement` is the
    share of positions where both choose the same next token, `kl` the divergence in nats a token, `logits_error` the
    root mean square of the difference as a share of the spread of the logits.
    """

    name = "awq"

    bits: Literal[4] = Field(4, also=("w_bit", "wbits"), description="Bits a weight: AWQ's kernels read 4 only.")
    zero_point: bool = Field(
        True, description="Whether a group has a zero point of its own; without it vLLM's AWQ refuses the model."
    )
    backend: Literal["gptqmodel", "autoawq"] = Field(
        "gptqmodel", description="The library: gptqmodel, or autoawq 0.2.9 to make again what it once made."
    )

    @property
    def rounding(self) -> Rounding:
        scales = "F16" if self.backend == "autoawq" else ""
        return Rounding("awq", self.bits, self.group_size, scales, HALVED[self.backend])

    def quantization_config(self) -> dict[str, Any]:
        return {
            "bits": self.bits,
            "group_size": self.group_size,
            "modules_to_not_convert": None,
            "quant_method": "awq",
            "version": "gemm",
            "zero_point": self.zero_point,
        }
