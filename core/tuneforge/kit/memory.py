"""Memory that a library has taken and does not need any more."""

from __future__ import annotations

import contextlib
import ctypes
import gc


def give_back() -> None:
    """Gives the system what was freed, cycles included: glibc would keep it, and what comes next would be on top."""
    gc.collect()
    with contextlib.suppress(AttributeError):  # where another C library is used
        ctypes.CDLL(None).malloc_trim(0)
