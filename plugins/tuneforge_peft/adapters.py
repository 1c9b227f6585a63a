"""Combining several adapters of one model, as a method of the merge stage."""

from collections.abc import Iterator
from typing import Literal

from tuneforge import Adapter, Facts, Field, Finding, Known, Merge, Step
from tuneforge.kit.adapters import peft_type
from tuneforge.kit.unread import unread

from .combinable import TRIMMED, VOTED, apart, narrowest, uncombinable


class MergeAdapters(Merge):
    """Makes one adapter of several that were trained on one model, each counting by its weight, by PEFT's own means.

    - cat: the weighted sum itself; its rank is the sum of theirs
    - svd: the weighted sum as near as `rank` comes to it
    - linear: the two matrices of each are summed apart, which is quick and only like the sum; of IA3, its factors
    - ties, dare_linear, dare_ties, magnitude_prune: trimmed to `density` first, ties also freed of what is outvoted
      sign by sign; the two matrices apart, or with _svd at the end the products, as near as `rank` comes to them

    All but cat and those with svd ask for equal ranks. Base, tokenizer and chat template are those of the first.
    TIES: Yadav et al. 2023, https://arxiv.org/abs/2306.01708; DARE: Yu et al. 2023, https://arxiv.org/abs/2311.03099
    """

    name = "adapters"
    output = Adapter
    needs = ("accelerate>=1.10", "peft>=0.20", "torch>=2.6", "transformers>=5.20")
    engine = "tuneforge_peft.combining"

    combination: Literal[
        "cat",
        "svd",
        "linear",
        "ties",
        "ties_svd",
        "dare_linear",
        "dare_linear_svd",
        "dare_ties",
        "dare_ties_svd",
        "magnitude_prune",
        "magnitude_prune_svd",
    ] = Field("cat", also=("combination_type", "merge_method"), description="How they are combined.")
    weights: list[float] = Field(
        [],
        description="One an adapter, also negative. Left out, they are equal: of ties combinations, which take a mean "
        "themselves, 1; else their sum is 1.",
    )
    density: float = Field(
        0.5, gt=0, le=1, description="Share of the numbers that ties, dare and magnitude_prune keep: the others are 0."
    )
    rank: int | None = Field(
        None, ge=1, also=("svd_rank",), description="Rank of an svd combination; the highest of theirs if not set."
    )
    sign: Literal["total", "frequency"] = Field(
        "total",
        also=("majority_sign_method",),
        description="What elects a sign in ties combinations: the sum of the numbers, or how many have it.",
    )

    @property
    def trimmed(self) -> bool:
        """Whether small or random numbers are left out."""
        return self.combination in TRIMMED

    @property
    def voted(self) -> bool:
        """Whether a sign is elected for each number."""
        return self.combination in VOTED

    @property
    def decomposed(self) -> bool:
        """Whether the result is cut to a rank by its singular values."""
        return self.combination.endswith("svd")

    def shares(self, adapters: int) -> list[float]:
        """The weight of each adapter."""
        return self.weights or [1.0 if self.voted else 1 / adapters] * adapters

    def run(self, adapters: list[Adapter], step: Step) -> None:
        from .combining import combine

        combine(self, adapters, step)

    def foresee(self, facts: Known) -> Facts:
        given = facts.get("adapters", ())
        if not given:
            return super().foresee(facts)
        first = given[0]
        config: dict[str, object] = {"peft_type": peft_type(first.config)}
        ranks = [int(adapter.config["r"]) for adapter in given if "r" in adapter.config]
        if len(ranks) == len(given):
            rank = sum(ranks) if self.combination == "cat" else max(ranks)
            rank = self.rank if self.decomposed and self.rank else rank
            config |= {"r": rank, "lora_alpha": rank}
        return Facts(Adapter, config, {}, first.tokenizer, first.template, first.base)

    def check(self, facts: Known) -> Iterator[Finding]:
        given = facts.get("adapters", ())
        if len(given) < 2:
            yield Finding("one adapter alone cannot be combined", "List two or more.")
            return
        if self.weights and len(self.weights) != len(given):
            yield Finding(
                f"{len(self.weights)} weights for {len(given)} adapters",
                "Give one an adapter, or none.",
                field="weights",
            )
        without = {"density": not self.trimmed, "rank": not self.decomposed, "sign": not self.voted}
        useless = (name for name, unused in without.items() if unused)
        yield from unread(self, useless, f"the combination {self.combination}")
        alone = [uncombinable(adapter.config, self.combination) for adapter in given]
        together = ["", *(apart(given[0], adapter, self.combination) for adapter in given[1:])]
        for place, (own, beside) in enumerate(zip(alone, together, strict=True), 1):
            if own or beside:
                which = f"adapter {place} of adapters cannot be combined" + (" with the first" if not own else "")
                yield Finding(f"{which}: {own or beside}", "Leave it out, or merge each by itself (merge: adapter).")
        if any(adapter.template != given[0].template for adapter in given[1:] if adapter.tokenizer is not None):
            yield Finding(
                "the adapters were trained with different chat templates, and the result has the first one's",
                "Train them with one template.",
                "warning",
            )
        narrow = min((side for adapter in given if (side := narrowest(adapter)) is not None), default=None)
        if self.decomposed and self.rank and narrow is not None and self.rank > narrow:
            yield Finding(
                f"rank {self.rank} is more than the smallest changed weight has, {narrow}",
                f"Set it to {narrow} or less.",
                field="rank",
            )
