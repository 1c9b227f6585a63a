"""What a form must reach, as options."""

from __future__ import annotations

from typing import Literal

from tuneforge import Config, Field


class Bars(Config):
    """What is asked of a form; what is left out is asked as its format's default is."""

    template: float | None = Field(None, ge=0, le=1, description="Least share of prompts rendered to the same text.")
    prompt_ids: float | None = Field(None, ge=0, le=1, description="Least share of prompts with the same token ids.")
    string_ids: float | None = Field(None, ge=0, le=1, description="Least share of plain strings with the same ids.")
    stop_tokens: float | None = Field(None, ge=0, le=1, description="1: answers end at the same tokens; 0: whatever.")
    top1: float | None = Field(None, ge=0, le=1, description="Least share of positions with the same likeliest token.")
    kl_mean: float | None = Field(None, ge=0, description="Greatest mean Kullback-Leibler divergence, in nats.")
    kl_p99: float | None = Field(None, ge=0, description="Greatest 99th percentile of the divergences, in nats.")
    perplexity_ratio: float | None = Field(
        None, ge=1, description="Greatest ratio of the two perplexities, the larger over the smaller."
    )
    answers: float | None = Field(None, ge=0, le=1, description="Least share of greedy answers that are the same.")
    bits: float | None = Field(None, gt=0, description="Greatest number of bits a weight, measured in the files.")
    score_error: float | None = Field(
        None, ge=0, description="Of a reward model, the greatest difference of a score, as a share of their spread."
    )


Format = Literal["float32", "float16", "bits8", "bits6", "bits5", "bits4", "bits3", "bits2"]
"""By bits a weight: models in 32 or 16 (bfloat16 is one), and rounded ones (q8_0, int8, fp8; q4_k_m, nf4, gptq)."""

Formats = dict[Format, Bars]
"""Bars by format, for steps that are added before it is known which it is."""
