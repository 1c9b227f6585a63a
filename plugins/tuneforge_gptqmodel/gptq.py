"""GPTQ, as a method of the quantize stage."""

from __future__ import annotations

from typing import Any, Literal

from tuneforge import Field

from .backends import HALVED
from .layers import Rounding
from .options import Calibrated


class Gptq(Calibrated):
    """A model in 2, 3, 4 or 8 bits, for transformers, vLLM and TGI: every linear layer of its blocks is rounded weight
    by weight, and the weights that are still to come make up for the error.

    Frantar et al. 2022, GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers,
    https://arxiv.org/abs/2210.17323. Calibrated on training rows of `data`, rendered by the model's own template; or,
    with a warning, on what the model writes by itself. Embeddings, norms, routers and the output head stay as they are,
    in float16 where they were in float32.

    The result is looked at, layer by layer, then loaded again and compared with the model: `greedy_agreement` is the
    share of positions where both choose the same next token, `kl` the divergence in nats a token, `logits_error` the
    root mean square of the difference as a share of the spread of the logits.
    """

    name = "gptq"

    bits: Literal[2, 3, 4, 8] = Field(
        4, also=("wbits", "w_bit", "quantization_bit"), description="Bits a weight; vLLM reads 4 and 8."
    )
    symmetric: bool = Field(
        True, also=("sym",), description="Whether zero is in the middle of the numbers of a group; vLLM needs it."
    )
    act_order: bool = Field(
        False,
        also=("desc_act", "actorder", "activation_order"),
        description="Rounds the inputs that are used most first, groups following their order: better, slower to run.",
    )
    damping: float = Field(
        0.05,
        gt=0,
        lt=1,
        also=("damp_percent", "percdamp", "dampening_frac", "damp"),
        description="Added to the diagonal of the Hessian, as a share of its mean, so that it can be inverted.",
    )
    backend: Literal["gptqmodel", "auto-gptq"] = Field(
        "gptqmodel",
        description="The library: gptqmodel, or auto-gptq 0.7.1 (on a GPU) to make again what it once made.",
    )

    @property
    def rounding(self) -> Rounding:
        return Rounding("gptq", self.bits, self.group_size, "F16", HALVED[self.backend])

    def quantization_config(self) -> dict[str, Any]:
        return {
            "bits": self.bits,
            "checkpoint_format": "gptq",
            "damp_percent": self.damping,
            "desc_act": self.act_order,
            "group_size": self.group_size,
            "lm_head": False,
            "quant_method": "gptq",
            "sym": self.symmetric,
            "true_sequential": True,
            # By this gptqmodel knows that the zeros of an asymmetric model can be trusted.
            **({"meta": {"quantizer": ["gptqmodel:7.6.0"]}} if self.backend == "gptqmodel" else {}),
        }
