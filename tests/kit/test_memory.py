"""Memory goes back to the system."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

HOLDING = """
import ctypes
import os
from pathlib import Path

from tuneforge.kit.memory import keep_little

SIZE = 16_000_000
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def filled() -> int:
    block = libc.malloc(SIZE)
    ctypes.memset(block, 1, SIZE)
    return block


{call}
libc.free(filled())  # which has glibc keep the next ones
before = resident()
block = filled()
above = libc.malloc(1000)
libc.free(block)
print(resident() - before)
"""


def told(source: str) -> str:
    return subprocess.run([sys.executable, "-c", source], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told how much to keep")
def test_large_blocks_are_given_back_when_they_are_freed() -> None:
    kept = int(told(HOLDING.format(call="")))
    assert kept > 15_000_000, "without it they are kept, or there would be nothing to do"
    assert int(told(HOLDING.format(call="keep_little()"))) < 1_000_000
