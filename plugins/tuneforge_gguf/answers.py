"""What llama.cpp takes for the next token, against what another form of the model does."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from tuneforge import StepError
from tuneforge.kit.llamacpp import FLOOR, LlamaCpp

Rows = Callable[[Sequence[int], Sequence[int]], Iterable[npt.NDArray[np.float32]]]
"""For the beginnings of some tokens that end there, the log probabilities of all tokens that might come next."""

CONTEXT = 128
"""Tokens of a text that are looked at."""

_STRIDE, _TOP = 8, 32

# Of the spread of the logits: half more than was measured at worst on small models, trained ones and random ones of
# four families and three scales of weights. A wrong rotary base or epsilon makes 0.8 and more, a random answer 1.4:
# below four bits, random weights do that too, and it is the comparison of weights that tells whether a file is right.
BOUNDS = {
    "f32": 0.1,
    "f16": 0.1,
    "bf16": 0.1,
    "q8_0": 0.2,
    "q6_k": 0.45,
    "q5_k_m": 0.8,
    "q5_k_s": 0.8,
    "q4_k_m": 1.2,
    "q4_k_s": 1.2,
    "iq4_xs": 1.4,
    "q4_0": 1.7,
    "q3_k_m": 1.9,
    "q2_k": 2.5,
}


def compare(
    llama: LlamaCpp,
    texts: Iterable[Sequence[int]],
    rows: Rows,
    answer: int,
    type: str,
    whose: str,
    fix: str = "",
) -> dict[str, float]:
    """Figures of the next tokens after beginnings of texts, given as token ids, every few of them.

    They are `logits_error` (root mean square over the tokens that llama.cpp finds likeliest, as a share of the spread
    of the logits) and `greedy_agreement`, the share of positions where both choose the same. `answer` is any token of
    whole characters. Raises StepError where the error is beyond what the type explains.
    """
    squares, spread, agreeing, positions = 0.0, 0.0, 0, 0
    for text in texts:
        tokens = list(text[:CONTEXT])
        ends = sorted({*range(_STRIDE, len(tokens), _STRIDE), len(tokens)})
        for end, given in zip(ends, rows(tokens, ends), strict=True):
            row = np.maximum(given, FLOOR)
            told = llama.next_token(tokens[:end], _TOP, answer)
            squares += float(np.square(np.array(list(told.values())) - row[list(told)]).mean())
            spread += float(row.var(ddof=1))
            agreeing += int(row.argmax()) == next(iter(told))
            positions += 1
    error = math.sqrt(squares / spread) if spread else math.inf
    if not error <= BOUNDS[type]:
        raise StepError(
            f"llama.cpp's logits differ from {whose} by {error:.2g} of their spread, not {BOUNDS[type]:.2g}", fix
        )
    return {"logits_error": error, "greedy_agreement": agreeing / positions}
