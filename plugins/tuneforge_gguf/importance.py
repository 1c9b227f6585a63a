"""The importance matrix: how much each input of a weight matters, by what a model makes of calibration data.

It is what llama.cpp's llama-imatrix computes: for every weight within a layer, and every one of its inputs, the mean
of the squares of what comes in. Quantizing then rounds those weights less that meet large inputs.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tuneforge import ChatData, StepError, TextData
from tuneforge.kit.llamacpp import LlamaCpp, LlamaCppRefusedError
from tuneforge.kit.rows import draw

from .quantizing import run

_SHORTEST = 8
"""Tokens that a row is taken to have at least: so many rows are looked at."""

_F32 = 0


def calibration_text(
    llama: LlamaCpp, data: ChatData | TextData, tokens: int, seed: int, log: Callable[[str], None]
) -> str:
    """Training rows in an order drawn from `seed`, as the file's chat template renders them: about so many tokens.

    Fewer where there are not so many. Conversations that the template refuses are left out; `log` is told how many.
    """
    texts, refused = [], 0
    for _, row in sorted(draw(data, max(1, tokens // _SHORTEST), seed), key=itemgetter(0)):
        if tokens <= 0:
            break
        try:
            texts.append(_text(llama, row))
        except LlamaCppRefusedError:
            refused += 1
            continue
        tokens -= len(llama.tokenize(texts[-1]))
    if refused:
        log(f"left out of {len(texts) + refused} rows: {refused} that the template refuses")
    return "".join(texts)


def _text(llama: LlamaCpp, row: dict[str, Any]) -> str:
    if "messages" in row:
        return llama.transcript(row["messages"], row.get("tools"))
    return f"{row['prompt'] or ''}{row['completion']}"


def chunks_of(llama: LlamaCpp, text: str, chunks: int, length: int) -> list[list[int]]:
    """The tokens of a text, cut into at most so many chunks of a length as llama-imatrix does.

    It has the model's BOS in the place of each chunk's first token, and wants enough for two chunks, though one may be
    all that is asked for: raises StepError when there are fewer.
    """
    bos = llama.tokenize("", special=True)[:1]
    tokens = llama.tokenize(text, special=True)
    if len(tokens) < 2 * length:
        raise StepError(
            f"the calibration data has {len(tokens)} tokens, and llama.cpp wants two pieces of {length}",
            "Take more of it, or a smaller calibration_length.",
        )
    starts = range(0, len(tokens) - length + 1, length)[:chunks]
    return [[*bos, *tokens[start + len(bos) : start + length]] for start in starts]


def importance(
    file: Path,
    chunks: Sequence[Sequence[int]],
    *,
    threads: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, npt.NDArray[np.float32]]:
    """For each weight of a layer the mean of its squared inputs, by running a GGUF file over chunks of token ids.

    The arrays have as many numbers as the weight has columns; of experts and heads with a matrix each, one after
    another. An expert that no token came to has ones.
    """
    import llama_cpp

    sums: dict[str, npt.NDArray[np.float64]] = {}
    counts: dict[str, npt.NDArray[np.int64]] = {}
    failed: list[BaseException] = []

    @llama_cpp.ggml_backend_sched_eval_callback  # type: ignore[untyped-decorator]
    def seen(address: int, ask: bool, _: object) -> bool:
        try:
            node = _Node.from_address(address)
            if ask:
                return _wanted(node)
            _add(node, sums, counts)
        except BaseException as error:  # Python would print it, and llama.cpp go on
            failed.append(error)
            return False
        return True

    longest = max(map(len, chunks))
    with _context(file, longest, threads, seen) as context:
        batch = llama_cpp.llama_batch_init(longest, 0, 1)
        try:
            for done, chunk in enumerate(chunks):
                progress(done, len(chunks))
                _fill(batch, chunk)
                llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
                code = llama_cpp.llama_decode(context, batch)
                if failed:
                    raise failed[0]
                if code:
                    raise StepError(f"llama.cpp cannot run the model over the calibration data (code {code})")
        finally:
            llama_cpp.llama_batch_free(batch)
    progress(len(chunks), len(chunks))
    return {name: _means(sums[name], counts[name]) for name in sorted(sums)}


def _means(sums: npt.NDArray[np.float64], counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    means = np.ones_like(sums)
    met = counts > 0
    means[met] = sums[met] / counts[met, None]
    return means.astype(np.float32).reshape(-1)


class _Node(ctypes.Structure):
    """A tensor of a graph that is being computed: the beginning of llama.cpp's ggml_tensor."""


_Node._fields_ = [
    ("type", ctypes.c_int),
    ("buffer", ctypes.c_void_p),
    ("ne", ctypes.c_int64 * 4),
    ("nb", ctypes.c_size_t * 4),
    ("op", ctypes.c_int),
    ("op_params", ctypes.c_int32 * 16),
    ("flags", ctypes.c_int32),
    ("src", ctypes.POINTER(_Node) * 10),
    ("view_src", ctypes.c_void_p),
    ("view_offs", ctypes.c_size_t),
    ("data", ctypes.c_void_p),
    ("name", ctypes.c_char * 64),
]


def _op(node: _Node) -> str:
    from llama_cpp._ggml import libggml

    libggml.ggml_op_name.restype = ctypes.c_char_p
    name: bytes = libggml.ggml_op_name(node.op)
    return name.decode()


def _wanted(node: _Node) -> bool:
    """Whether it multiplies by a weight within a layer: those outside are too few to matter, or too many."""
    operation = _op(node)
    if operation not in ("MUL_MAT", "MUL_MAT_ID"):
        return False
    return bool(node.src[0].contents.name.startswith(b"blk.") and node.src[1].contents.type == _F32)


def _add(node: _Node, sums: dict[str, npt.NDArray[np.float64]], counts: dict[str, npt.NDArray[np.int64]]) -> None:
    """Adds the squares of what is multiplied to those of its weight: (matrices, columns), and how many tokens each."""
    weight, inputs = node.src[0].contents, _values(node.src[1].contents, np.float32)
    name = weight.name.decode()
    matrices, columns = weight.ne[2] * weight.ne[3], weight.ne[0]
    total = sums.setdefault(name, np.zeros((matrices, columns)))
    count = counts.setdefault(name, np.zeros(matrices, np.int64))
    if _op(node) == "MUL_MAT":
        for outer, inner in np.ndindex(inputs.shape[:2]):
            # Of a weight with a matrix for each head, each meets its own.
            matrix = outer % weight.ne[3] * weight.ne[2] + inner % weight.ne[2]
            total[matrix] += np.square(inputs[outer, inner], dtype=np.float64).sum(axis=0)
            count[matrix] += inputs.shape[2]
        return
    chosen = _values(node.src[2].contents, np.int32)[0, 0]  # (tokens, experts used)
    tokens, used = chosen.shape
    given = np.broadcast_to(inputs[0], (tokens, used, columns))  # one input for all experts, or one for each
    squares = np.square(given, dtype=np.float64)
    for expert in np.unique(chosen):
        mine = chosen == expert
        total[expert] += squares[mine].sum(axis=0)
        count[expert] += int(mine.sum())


def _values(node: _Node, kind: Any) -> npt.NDArray[Any]:
    """A tensor's numbers where they lie, its last dimension first in llama.cpp's order."""
    shape, steps = tuple(node.ne)[::-1], tuple(node.nb)[::-1]
    size = sum((length - 1) * step for length, step in zip(shape, steps, strict=True)) + np.dtype(kind).itemsize
    return np.ndarray(shape, kind, (ctypes.c_char * size).from_address(node.data), strides=steps)


@contextmanager
def _context(file: Path, length: int, threads: int, callback: Any) -> Iterator[Any]:
    """A GGUF file in llama.cpp, with a callback for what it computes. Raises StepError when that fails."""
    import llama_cpp

    llama_cpp.llama_backend_init()
    settings = llama_cpp.llama_model_default_params()
    settings.n_gpu_layers = 0
    model = llama_cpp.llama_model_load_from_file(str(file).encode(), settings)
    if not model:
        raise StepError("llama-cpp-python does not load the GGUF file")
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = length
    params.n_threads = params.n_threads_batch = threads
    params.cb_eval = callback
    context = llama_cpp.llama_init_from_model(model, params)
    if not context:
        llama_cpp.llama_model_free(model)
        raise StepError("llama-cpp-python cannot run the GGUF file", "Take a smaller calibration_length.")
    try:
        yield context
    finally:
        llama_cpp.llama_free(context)
        llama_cpp.llama_model_free(model)


def _fill(batch: Any, tokens: Sequence[int]) -> None:
    batch.n_tokens = len(tokens)
    for place, token in enumerate(tokens):
        batch.token[place] = token
        batch.pos[place] = place
        batch.n_seq_id[place] = 1
        batch.seq_id[place][0] = 0
        batch.logits[place] = True  # else the last layer is computed for the last token alone


def importance_with(
    program: Path,
    file: Path,
    text: str,
    chunks: int,
    length: int,
    folder: Path,
    *,
    threads: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
    log: Callable[[str], None] = lambda text: None,
) -> Path:
    """`importance`, by the person's own llama-imatrix: the file that it writes into `folder`."""
    # It takes a line break off the end.
    (folder / "calibration.txt").write_text(f"{text}\n", encoding="utf-8")
    command = [str(program), "-m", str(file.absolute()), "-f", "calibration.txt", "-o", "imatrix.gguf"]
    command += ["-c", str(length), "--chunks", str(chunks), "-t", str(threads), "--parse-special", "--no-ppl"]
    run(command, folder, progress, log)
    return folder / "imatrix.gguf"
