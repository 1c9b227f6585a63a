"""What is asked of a form by default, by how many bits a weight its files claim."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .formats import allowed
from .options import Bars, Format, Formats

AT_MOST = frozenset({"kl_mean", "kl_p99", "perplexity_ratio", "bits", "score_error"})
"""Bars that are upper bounds; the others are lower ones."""

_SAME = {"template": 1.0, "prompt_ids": 1.0, "stop_tokens": 1.0}

# Measured on the built-in model, tuned with LoRA to record orders, on three seeds (16 prompts, 256 positions). The
# worst mean divergence of honest forms: float32 3e-9, bfloat16 5e-6, in llama.cpp f16 5e-6, bf16 1e-5, q8_0 2e-4;
# rounded to nearest in groups of 32, 6 bits 5e-4, 5 bits 2e-3, 4 bits 1e-2 (nf4 2e-2), 3 bits 4e-2, 2 bits 3e-1; fp8
# 1e-3. Of a merge onto the base rounded to nf4 it was 1e-3 to 1e-2, onto int8 7e-5, of the base without its adapter
# 1.6. So 16 bits are held to twenty times the worst honest form, a seventh of the least wrong one; fewer bits to more,
# as models are less sure of what they were not tuned on: of the untuned one on the built-in prompts, the divergence
# was 9e-2 in nf4, 1e-3 in int8. The 99th percentiles were ten to twenty times the means. Of answers
# and the likeliest token little is asked: where two tokens are nearly as likely, the least rounding turns them.
_SAYS: dict[Format, dict[str, float]] = {
    "float32": {"top1": 0.99, "kl_mean": 5e-5, "kl_p99": 1e-3, "perplexity_ratio": 1.002, "answers": 0.75},
    "float16": {"top1": 0.97, "kl_mean": 2e-4, "kl_p99": 0.004, "perplexity_ratio": 1.005, "answers": 0.5},
    "bits8": {"top1": 0.9, "kl_mean": 0.02, "kl_p99": 0.3, "perplexity_ratio": 1.05, "answers": 0.25},
    "bits6": {"top1": 0.9, "kl_mean": 0.04, "kl_p99": 0.5, "perplexity_ratio": 1.08},
    "bits5": {"top1": 0.88, "kl_mean": 0.08, "kl_p99": 1.0, "perplexity_ratio": 1.1},
    "bits4": {"top1": 0.8, "kl_mean": 0.4, "kl_p99": 4.0, "perplexity_ratio": 1.3},
    "bits3": {"top1": 0.7, "kl_mean": 1.0, "kl_p99": 8.0, "perplexity_ratio": 1.6},
    "bits2": {"top1": 0.5, "kl_mean": 3.0, "kl_p99": 15.0, "perplexity_ratio": 4.0},
}
# Where it is computed in 16 bits, that alone gave 1e-4.
_COMPUTED_IN_16 = {"top1": 0.95, "kl_mean": 1e-3, "kl_p99": 0.01, "perplexity_ratio": 1.01}

# Of reward models, three seeds: a merge in float32 moved a score by 1e-6 of their spread, in bfloat16 by 0.01.
_SCORE_ERROR: dict[Format, float] = {"float32": 0.001, "float16": 0.1, "bits8": 0.2, "bits6": 0.3, "bits5": 0.4}


def format_of(bits: float) -> Format:
    """The format that so many claimed bits a weight are: the nearest one that has no more of them."""
    least: dict[Format, float] = {
        "float32": 17,
        "float16": 9,
        "bits8": 8,
        "bits6": 6,
        "bits5": 5,
        "bits4": 4,
        "bits3": 3,
    }
    return next((name for name, wanted in least.items() if bits >= wanted), "bits2")


def bars(trained: Mapping[str, Any], form: Mapping[str, Any], formats: Formats, require: Bars) -> dict[str, float]:
    """What is asked of a form, by name: its format's defaults, changed by `formats`, and by `require`."""
    name = format_of(form["bits"])
    # llama.cpp reads rare Unicode a little differently in some tokenizers that it has always known; and before text of
    # SentencePiece tokenizers that begins with a space or follows a marker, it puts one of its own.
    strings = {"": 1.0, "gpt2": 0.98}.get(form["tokenizer"], 0.9)
    defaults = {**_SAME, "string_ids": strings, "bits": allowed(form["bits"])}
    defaults |= {**_SAYS[name], "score_error": _SCORE_ERROR.get(name, 0.6)}
    if form["bits"] >= 16 and {trained["computed"], form["computed"]} != {"float32"}:
        defaults |= _COMPUTED_IN_16
    for given in (formats.get(name, Bars()), require):
        told = {each: getattr(given, each) for each in type(given).model_fields}
        defaults |= {each: value for each, value in told.items() if value is not None}
    return defaults
