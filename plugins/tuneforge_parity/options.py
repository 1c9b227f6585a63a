"""What a form must reach, as options."""

from __future__ import annotations

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


class Formats(Config):
    """The same by format, for steps that are added before it is known which it is."""

    float32: Bars = Field(Bars(), description="Of models in 32 bits.")
    float16: Bars = Field(Bars(), description="Of models in 16 bits: float16 and bfloat16.")
    bits8: Bars = Field(Bars(), description="Of 8 bits a weight: q8_0, int8, fp8.")
    bits6: Bars = Field(Bars(), description="Of 6 bits a weight.")
    bits5: Bars = Field(Bars(), description="Of 5 bits a weight.")
    bits4: Bars = Field(Bars(), description="Of 4 bits a weight: q4_k_m, nf4, gptq, awq.")
    bits3: Bars = Field(Bars(), description="Of 3 bits a weight.")
    bits2: Bars = Field(Bars(), description="Of 2 bits a weight.")
