"""Kahneman-Tversky optimization, as a method of the align stage."""

from collections.abc import Iterator
from typing import ClassVar

from tuneforge import Adapter, FeedbackData, Field, Finding, Known, Model, PreferenceData, Step

from .options import Referring

BALANCED = (1.0, 4 / 3)
"""What the desirable rows should weigh of the undesirable ones, by the paper."""
_ABOUT = 0.05


class Kto(Referring):
    """Kahneman-Tversky optimization: from answers with a thumb up or down, which need not come in pairs.

    An answer with a thumb up gains, one with a thumb down loses, the less the further it is from the reference
    already: by the shape of people's value functions. What is a gain is told from `kl_answer`, how far the model is
    from the reference on answers to other prompts, measured on all rows of each step. The reference is the model as it
    comes in, or `reference`, as with dpo. Of preference pairs, the chosen answer has a thumb up, the rejected one a
    thumb down.
    Ethayarajh et al. 2024, https://arxiv.org/abs/2402.01306
    """

    name = "kto"
    engine = "tuneforge_trl.preferences.kto_engine"

    # The paper's 5e-7 to 5e-6.
    usual: ClassVar = {"learning_rate of full": (5e-7, 5e-6), "learning_rate of adapter": (1e-6, 5e-5)}

    beta: float = Field(
        0.1,
        gt=0,
        also=("pref_beta", "kto_beta", "rl_beta"),
        description="How soon an answer is far enough from the reference for more to be worth little.",
    )
    desirable_weight: float = Field(
        1.0,
        gt=0,
        also=("kto_chosen_weight", "kto_desirable_weight", "lambda_d"),
        description="Weight of answers with a thumb up. Where one kind is rarer, its weight should make up for that.",
    )
    undesirable_weight: float = Field(
        1.0,
        gt=0,
        also=("kto_rejected_weight", "kto_undesirable_weight", "lambda_u"),
        description="Weight of answers with a thumb down.",
    )

    @property
    def refers(self) -> bool:
        return True

    def prepare(
        self,
        *,
        model: Model | Adapter,
        data: FeedbackData | PreferenceData,
        reference: Model | Adapter | None = None,
        step: Step,
    ) -> None:
        from .kto_engine import prepare

        prepare(self, model, data, step)

    def run(
        self,
        *,
        model: Model | Adapter,
        data: FeedbackData | PreferenceData,
        reference: Model | Adapter | None = None,
        step: Step,
    ) -> None:
        from .kto_engine import align

        align(self, model, reference, step)

    def check(self, facts: Known) -> Iterator[Finding]:
        yield from super().check(facts)
        if any(issubclass(given.kind, PreferenceData) for given in facts.get("data", ())):
            yield from self.weighed(1, 1)

    def weighed(self, desirable: int, undesirable: int) -> Iterator[Finding]:
        """A warning if weights do not make up for how many rows of each kind there are."""
        if not (desirable and undesirable):
            thumb = "up" if desirable else "down"
            yield Finding(
                f"all answers have a thumb {thumb}, and kto learns from the difference",
                "Add answers with the other one, or use train: sft for good answers alone.",
                "warning",
            )
            return
        share = self.desirable_weight * desirable / (self.undesirable_weight * undesirable)
        low, high = BALANCED
        if not low - _ABOUT <= share <= high + _ABOUT:
            name, weight = (
                ("desirable_weight", self.undesirable_weight * undesirable / desirable)
                if share < low
                else ("undesirable_weight", self.desirable_weight * desirable / undesirable)
            )
            of_each = "as many of each" if desirable == undesirable else f"{desirable} and {undesirable} rows"
            yield Finding(
                f"answers with a thumb up weigh {share:.3g} times those with a thumb down ({of_each}); 1 to 1.33 is "
                "usual",
                f"Set {name}: {weight:.3g}. See Ethayarajh et al. 2024, https://arxiv.org/abs/2402.01306",
                "warning",
                name,
            )
