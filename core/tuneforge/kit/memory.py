"""Memory that a library has taken and does not need any more, or never needed."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Iterator
from typing import Any

_MMAP_THRESHOLD = -3
"""What mallopt(3) calls it."""
_LARGE = 8_000_000
"""Bytes of a block that is given back as soon as it is freed: smaller ones are asked for anew too often."""


def give_back() -> None:
    """Gives the system what was freed, cycles included: glibc would keep it, and what comes next would be on top."""
    gc.collect()
    with contextlib.suppress(AttributeError):  # where another C library is used
        ctypes.CDLL(None).malloc_trim(0)


def keep_little() -> None:
    """From here on large blocks are given back when they are freed, for the price of asking for them anew.

    glibc keeps blocks of up to 32 MB once it has seen such ones freed, in an arena for each thread, between smaller
    ones that hold them in place.
    """
    with contextlib.suppress(AttributeError):  # where another C library is used
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _LARGE)


@contextlib.contextmanager
def without_compiler() -> Iterator[None]:
    """For what imports parts of transformers, in a process that compiles nothing.

    As they are imported, they name functions that are not to be compiled, for which torch loads all of its compiler:
    24 MB, and a second. Models are not among these parts: they load it themselves.
    """
    import torch

    def disable(fn: Any = None, recursive: Any = True, *, reason: Any = None) -> Any:
        return (lambda fn: fn) if fn is None else fn

    kept = torch.compiler.disable
    torch.compiler.disable = disable
    try:
        yield
    finally:
        torch.compiler.disable = kept
