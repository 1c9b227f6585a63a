"""What a machine has to run processes on, found without torch."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from dataclasses import dataclass


@dataclass(frozen=True)
class Hardware:
    """What one machine has to run processes on."""

    gpus: int
    cores: int


def hardware() -> Hardware:
    """This machine's: the NVIDIA GPUs that may be used, counted without torch, and the processors."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    there = _nvidia_gpus()
    if there and visible is not None:
        named = [name for name in visible.split(",") if name.strip()]
        there = 0 if "-1" in named else min(there, len(named))
    return Hardware(there, cores)


def _nvidia_gpus() -> int:
    count = ctypes.c_uint()
    with suppress(OSError, AttributeError):  # no driver
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        if nvml.nvmlInit_v2() == 0:
            if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
                count.value = 0
            nvml.nvmlShutdown()
    return count.value
