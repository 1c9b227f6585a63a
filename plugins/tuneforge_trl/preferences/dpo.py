"""Direct preference optimization, as a method of the align stage."""

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

from tuneforge import Adapter, Field, Finding, Known, Model, PreferenceData, Step

from .options import Referring

LossName = Literal[
    "sigmoid",
    "sigmoid_norm",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "apo_zero",
    "apo_down",
    "discopop",
    "sft",
]
SMOOTHED = ("sigmoid", "robust", "exo_pair")


class Dpo(Referring):
    """Direct preference optimization: chosen answers become more likely than rejected ones, against a reference.

    The reference is the model as it comes in: the base with the adapter switched off, the adapter as it was, or a
    second copy of a full model; or another artifact, given as `reference`, which is loaded beside the model only where
    it is no base or adapter that the model in memory can stand in for. With `reference_free` there is none. Rafailov et
    al. 2023, https://arxiv.org/abs/2305.18290

    - sigmoid: the paper's; with `label_smoothing` the conservative one of its authors
    - sigmoid_norm: the same of means over tokens, Meng et al. 2024, https://arxiv.org/abs/2405.14734
    - hinge: Zhao et al. 2023 (SLiC), https://arxiv.org/abs/2305.10425
    - ipo: Azar et al. 2023, https://arxiv.org/abs/2310.12036
    - exo_pair: Ji et al. 2024, https://arxiv.org/abs/2402.00856
    - nca_pair: Chen et al. 2024, https://arxiv.org/abs/2402.05369
    - robust: for labels of which a share is wrong, Chowdhury et al. 2024, https://arxiv.org/abs/2403.00409
    - bco_pair: Jung et al. 2024, https://arxiv.org/abs/2404.04656
    - sppo_hard: Wu et al. 2024, https://arxiv.org/abs/2405.00675
    - apo_zero, apo_down: D'Oosterlinck et al. 2024, https://arxiv.org/abs/2408.06266
    - discopop: Lu et al. 2024, https://arxiv.org/abs/2406.08414; for models that prefer the chosen answers already, as
      without a margin its slope leads to the rejected ones
    - sft: the likelihood of the chosen answers, to add to another one, Pang et al. 2024,
      https://arxiv.org/abs/2404.19733; sigmoid, bco_pair and sft together are MPO, Wang et al. 2024,
      https://arxiv.org/abs/2411.10442
    """

    name = "dpo"
    version = 3
    engine = "tuneforge_trl.preferences.engine"

    # Tunstall et al. 2023 (5e-7 for a full model), https://arxiv.org/abs/2310.16944
    usual: ClassVar = {"learning_rate of full": (5e-7, 5e-6), "learning_rate of adapter": (1e-6, 5e-5)}

    beta: float = Field(
        0.1,
        gt=0,
        also=("pref_beta", "dpo_beta", "rl_beta"),
        description="How closely the model is held to the reference; with ipo, the regularization called tau.",
    )
    loss: LossName | dict[LossName, float] = Field(
        "sigmoid",
        also=("loss_type", "pref_loss", "dpo_loss", "rl", "loss_weights"),
        description="What is made of the preference margin; several by their weights: {sigmoid: 0.8, sft: 1}.",
    )
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=0.5,
        also=("dpo_label_smoothing", "rl_label_smoothing"),
        description="The share of pairs whose answers may be the wrong way round; read by sigmoid, robust and "
        "exo_pair.",
    )
    reference_free: bool = Field(
        False, description="Compares the answers with each other alone, as if all were alike to the reference."
    )

    @property
    def refers(self) -> bool:
        return not self.reference_free

    @property
    def weights(self) -> Mapping[str, float]:
        """The weight of each loss."""
        return {self.loss: 1.0} if isinstance(self.loss, str) else {str(name): by for name, by in self.loss.items()}

    def prepare(
        self, *, model: Model | Adapter, data: PreferenceData, reference: Model | Adapter | None = None, step: Step
    ) -> None:
        from .engine import prepare

        prepare(self, model, data, step)

    def run(
        self, *, model: Model | Adapter, data: PreferenceData, reference: Model | Adapter | None = None, step: Step
    ) -> None:
        from . import losses
        from .engine import align

        align(self, model, reference, step, losses.Dpo(self.weights, self.beta, self.label_smoothing))

    def check(self, facts: Known) -> Iterator[Finding]:
        yield from super().check(facts)
        weights = self.weights
        if not weights or min(weights.values()) <= 0:
            yield Finding(
                "loss needs a weight above 0 for each that is named", "Name one, or its weight.", field="loss"
            )
        if "exo_pair" in weights and not self.label_smoothing:
            yield Finding(
                "exo_pair compares with a preference that is not quite certain, and label_smoothing is 0",
                "Set label_smoothing: 0.001, as its paper has it.",
                field="label_smoothing",
            )
        if self.label_smoothing and not set(weights) & set(SMOOTHED):
            yield Finding(
                f"label_smoothing is read by {', '.join(SMOOTHED)}, and none of them is the loss",
                "Leave it out, or take one of them.",
                field="label_smoothing",
            )
        if [*weights] == ["sft"]:
            yield Finding(
                "sft alone does not look at the rejected answers", "Add another loss, or use train: sft.", field="loss"
            )
        if self.reference_free:
            for name, given in (("reference", bool(facts.get("reference"))), ("precompute", self.precompute)):
                if given:
                    yield Finding(f"{name} is given, and reference_free says there is none", "Leave out one of them.")
