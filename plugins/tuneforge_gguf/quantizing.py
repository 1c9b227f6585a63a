"""GGUF files in fewer bits, by llama.cpp's own rules for which weight becomes what."""

from __future__ import annotations

import ctypes
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tuneforge import StepError

from .types import TYPES

Matrix = Mapping[str, npt.NDArray[np.float32]]
"""How much each input of a weight matters, by the weight's name: the mean of its squares over calibration data."""

_BUILD = re.compile(r"(?:^|: )(?:version: |build = )(.+)")
_AT = re.compile(r"\[ *(\d+)/ *(\d+)\]")


def quantize(
    source: Path,
    target: Path,
    type: str,
    *,
    matrix: Matrix | None = None,
    chunks: int = 0,
    threads: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
    log: Callable[[str], None] = lambda text: None,
) -> str:
    """Writes a GGUF file of f32, f16 or bf16 as one of `type` by llama-cpp-python's `llama_model_quantize`.

    `matrix` is what `importance` computed over so many `chunks`; `progress` is told of tensors. Returns what did it,
    and of which version. Raises StepError, with no `target` left, when llama.cpp refuses.
    """
    import llama_cpp
    from llama_cpp._logger import llama_log_callback as usual

    said, last = "", ""

    @llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
    def heard(level: int, text: bytes, _: object) -> None:
        nonlocal said, last
        said += text.decode(errors="replace")
        if at := _AT.match(said):
            progress(int(at[1]), int(at[2]))
        if said.endswith("\n"):  # it comes in pieces
            log(said.rstrip())
            said, last = "", said

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = TYPES[type].number
    params.nthread = threads
    kept = []  # what is pointed at must live until the end
    if matrix:
        entries = (llama_cpp.llama_model_imatrix_data * (len(matrix) + 1))()
        for entry, (name, values) in zip(entries, matrix.items(), strict=False):
            row = np.ascontiguousarray(values, dtype=np.float32)
            entry.name, entry.size = name.encode(), row.size
            entry.data = row.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
            kept.append(row)
        params.imatrix = entries
        params.kv_overrides = _notes({"entries_count": len(matrix), "chunks_count": chunks})
    llama_cpp.llama_log_set(heard, None)
    try:
        failed = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params))
    finally:
        llama_cpp.llama_log_set(usual, None)
    if failed:
        target.unlink(missing_ok=True)
        raise StepError(f"llama.cpp does not quantize the model to {type}: {' '.join((last + said).split())}")
    return f"llama-cpp-python {llama_cpp.__version__}"


def _notes(numbers: Mapping[str, int]) -> ctypes.Array[ctypes.Structure]:
    """What llama-quantize notes of an importance matrix in the file's metadata."""
    import llama_cpp

    notes: ctypes.Array[ctypes.Structure] = (llama_cpp.llama_model_kv_override * (len(numbers) + 1))()
    for note, (name, number) in zip(notes, numbers.items(), strict=False):
        note.tag, note.key = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_INT, f"quantize.imatrix.{name}".encode()
        note.value.val_i64 = number
    return notes


def quantize_with(
    program: Path,
    source: Path,
    target: Path,
    type: str,
    *,
    matrix: Path | None = None,
    threads: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
    log: Callable[[str], None] = lambda text: None,
) -> str:
    """`quantize`, by the person's own llama-quantize; `matrix` is a file that llama-imatrix has written."""
    # Named from within its folder: llama-quantize writes the name down in the file.
    given = ["--imatrix", matrix.name] if matrix else []
    command = [str(program), *given, str(source.absolute()), str(target.absolute()), type.upper(), str(threads)]
    builds: list[str] = []

    def heard(line: str) -> None:
        builds.extend(_BUILD.findall(line))
        log(line)

    try:
        run(command, matrix.parent if matrix else source.parent, progress, heard)
    except StepError:
        target.unlink(missing_ok=True)
        raise
    return " ".join((program.name, *builds[:1]))


def run(command: list[str], folder: Path, progress: Callable[[int, int], None], log: Callable[[str], None]) -> None:
    """Runs a program of llama.cpp's to its end. Raises StepError with its last words."""
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        last: list[str] = []
        for line in process.stdout or ():
            log(line.rstrip())
            last = [*last[-3:], line.strip()]
            if at := _AT.match(line):
                progress(int(at[1]), int(at[2]))
    if process.returncode:
        raise StepError(f"{Path(command[0]).name} ended with {process.returncode}: {' '.join(last)}")
