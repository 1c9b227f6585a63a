"""How a training is spread over several processes: the strategies it can be launched with, and their settings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from tuneforge import Field, Finding, Hardware, Launch, Strategy


class Ddp(Strategy):
    """Every process holds the whole model and learns from its share of each batch; gradients are averaged.

    Li et al. 2020, PyTorch Distributed, https://arxiv.org/abs/2006.15704
    """

    name = "ddp"


class Fsdp(Strategy):
    """Weights, gradients and optimizer states are cut up among the processes (FSDP2, `fully_shard`).

    Each block of the model is gathered when it is computed. Zhao et al. 2023, https://arxiv.org/abs/2304.11277
    """

    name = "fsdp"
    alone = True  # a single GPU gains by offload

    shard: Literal["full", "grad_op"] = Field(
        "full",
        also=("sharding_strategy", "reshard_after_forward"),
        description="full: weights are gathered again for the backward pass; grad_op: they are kept from the forward "
        "pass on, which takes more memory and less communication.",
    )
    offload: bool = Field(
        False, also=("cpu_offload", "offload_params"), description="Keeps weights and optimizer states in main memory."
    )
    wrap: Literal["auto"] | list[str] = Field(
        "auto",
        also=("auto_wrap_policy", "transformer_layer_cls_to_wrap"),
        description="Classes of modules that are gathered as one; auto: the model's repeated blocks.",
    )

    def check(self, launch: Launch, hardware: Hardware) -> Iterable[Finding]:
        if not hardware.gpus:
            yield Finding(
                "fsdp needs a GPU: on a CPU, accelerate leaves it out and trains by plain ddp",
                "Set strategy: ddp here.",
            )


class DeepSpeed(Strategy):
    """DeepSpeed's ZeRO: optimizer states (1), gradients (2) and weights (3) are cut up among the processes.

    Rajbhandari et al. 2020, https://arxiv.org/abs/1910.02054; offload: Ren et al. 2021,
    https://arxiv.org/abs/2101.06840
    """

    name = "deepspeed"
    needs = ("deepspeed>=0.18",)
    alone = True

    zero: Literal[1, 2, 3] = Field(2, also=("zero_stage", "stage"), description="How much is cut up.")
    offload: Literal["none", "cpu"] = Field(
        "none",
        also=("offload_optimizer", "offload_param", "cpu_offload"),
        description="cpu: optimizer states, and with zero 3 weights too, are kept in main memory.",
    )
