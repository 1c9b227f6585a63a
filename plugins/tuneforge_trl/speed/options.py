"""Options that change how long a training takes, and what it gives only in the last digits."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from tuneforge import Config, Field, Finding


class Speed(Config):
    """How the model is computed."""

    attention: Literal["auto", "sdpa", "eager", "flash_attention_2", "flash_attention_3"] = Field(
        "auto",
        keyed=False,
        also=("attn_implementation", "flash_attn", "flash_attention", "sdp_attention"),
        description="How attention is computed; auto: by flash attention where it is installed and the GPU has "
        "bfloat16, else by torch's own sdpa.",
    )
    compile: bool = Field(
        False,
        keyed=False,
        also=("torch_compile",),
        description="Compiles the model's layers with torch.compile: the first steps wait for it, the others are "
        "quicker. Needs a C++ compiler.",
    )
    liger: bool = Field(
        False,
        keyed=False,
        also=("use_liger_kernel", "enable_liger_kernel"),
        description="Liger's kernels for normalization, rotary positions and gated layers; needs a GPU and "
        "liger-kernel. Its fused loss has a counterpart in `cross_entropy`.",
    )


class CrossEntropy(Config):
    """How the loss of tokens is computed."""

    cross_entropy: Literal["auto", "plain", "chunked"] = Field(
        "auto",
        keyed=False,
        also=("use_fused_ce", "cut_cross_entropy", "liger_fused_linear_cross_entropy"),
        description="plain: the logits of all tokens under loss are in memory at once. chunked: of some thousand at a "
        "time, and computed again for the gradient. auto: chunked where the logits could be more than a gigabyte.",
    )


def check_speed(options: Speed) -> Iterator[Finding]:
    """Findings on what is asked for and cannot be had on this machine."""
    if options.compile and not _compiler():
        yield Finding(
            "torch.compile needs a C++ compiler, and there is none",
            "Install g++ or clang, name yours as $CXX, or leave compile out.",
            field="compile",
        )
    wanted = {"attention": _FLASH.get(options.attention), "liger": "liger_kernel" if options.liger else None}
    for field, module in wanted.items():
        if module is None:
            continue
        if find_spec(module) is None:
            package = module.replace("_", "-")
            yield Finding(f"{package} is not installed", f"Install it, or leave {field} out.", field=field)
        elif not any(Path(sign).exists() for sign in _SIGNS_OF_A_GPU):
            # A warning, as the plan may be made on one machine and carried out on another.
            yield Finding(
                f"{field} as set needs a GPU, and none is seen here",
                f"Leave {field} out, unless the training runs elsewhere.",
                "warning",
                field,
            )


_FLASH = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}

_SIGNS_OF_A_GPU = ("/proc/driver/nvidia", "/dev/dxg", "/dev/kfd")
"""NVIDIA's driver, a GPU that Windows lends, AMD's driver."""


def _compiler() -> bool:
    named = os.environ.get("CXX")
    return any(shutil.which(name) for name in ([named] if named else ["c++", "g++", "clang++", "cl"]))
