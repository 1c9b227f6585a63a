"""Next-token distributions as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

FLOOR = -50.0
"""The least log-probability that is told, in nats: runtimes differ in what they make of less."""

_LEAST_REST = 1e-4  # of a few hundred float32, each rounded, a sum is not more exact than that


@dataclass(frozen=True)
class Distribution:
    """The likeliest tokens with their log-probabilities, in nats, and that of the token which the data has there."""

    tokens: NDArray[np.int64]
    logprobs: NDArray[np.float32]
    target: float | None


@dataclass(frozen=True)
class Numbers:
    """Of each position the likeliest tokens, the likeliest first, and their log-probabilities: two arrays (n, k)."""

    tokens: NDArray[np.int32]
    logprobs: NDArray[np.float32]


def write(distributions: Sequence[Distribution], path: Path) -> None:
    """Writes tokens (n, k) as int32 and logprobs (n, k) as float32; the bytes follow from the numbers alone."""
    width = min((len(each.tokens) for each in distributions), default=0)
    tokens = np.zeros((len(distributions), width), np.int32)
    logprobs = np.zeros((len(distributions), width), np.float32)
    for place, each in enumerate(distributions):
        # What is equally likely comes in the order of tokens, whatever the runtime's is.
        order = np.lexsort((each.tokens, -each.logprobs))[:width]
        tokens[place] = each.tokens[order]
        logprobs[place] = np.maximum(each.logprobs[order], FLOOR)
    save_file({"tokens": tokens, "logprobs": logprobs}, path)


def read(path: Path) -> Numbers:
    found = load_file(path)
    return Numbers(found["tokens"], found["logprobs"])


def divergence(reference: Numbers, given: Numbers, row: int, other: int) -> float:
    """The Kullback-Leibler divergence of a position of `given` from one of `reference`, in nats.

    Over the tokens that both tell, and one more outcome for all others: of the full vocabulary that is the divergence,
    of a part of it a lower bound, as no merging of outcomes adds to it.
    """
    _, ours, theirs = np.intersect1d(reference.tokens[row], given.tokens[other], True, True)
    p = np.exp(reference.logprobs[row, ours].astype(np.float64))
    q = np.exp(given.logprobs[other, theirs].astype(np.float64))
    rest_p, rest_q = (max(1.0 - float(part.sum()), _LEAST_REST) for part in (p, q))
    told = float((p * (np.log(p) - np.log(q))).sum()) + rest_p * float(np.log(rest_p / rest_q))
    return max(told, 0.0)
