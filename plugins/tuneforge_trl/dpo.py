"""Direct preference optimization, as a method of the align stage."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from tuneforge import Adapter, Align, Field, Finding, Known, Model, PreferenceData, Step

from .options import NEEDS, Training
from .watching.options import Sampling


class Dpo(Sampling, Training, Align):
    """Direct preference optimization: chosen answers become more likely than rejected ones, against a reference.

    The reference is the model as it comes in: the base with the adapter switched off, the adapter as it was, or a
    second copy of a full model. Rafailov et al. 2023, https://arxiv.org/abs/2305.18290; hinge: Zhao et al. 2023 (SLiC),
    https://arxiv.org/abs/2305.10425; ipo: Azar et al. 2023, https://arxiv.org/abs/2310.12036
    """

    name = "dpo"
    version = 2
    needs = NEEDS
    engine = "tuneforge_trl.dpo_engine"

    # Tunstall et al. 2023 (5e-7 for a full model), https://arxiv.org/abs/2310.16944
    usual: ClassVar = {"learning_rate of full": (5e-7, 5e-6), "learning_rate of adapter": (1e-6, 5e-5)}

    beta: float = Field(
        0.1,
        gt=0,
        also=("pref_beta", "dpo_beta", "rl_beta"),
        description="How closely the model is held to the reference; with ipo, the regularization called tau.",
    )
    loss: Literal["sigmoid", "hinge", "ipo"] = Field(
        "sigmoid",
        also=("loss_type", "pref_loss", "dpo_loss", "rl"),
        description="What is made of the preference margin.",
    )
    epochs: float = Field(
        1.0, gt=0, also=("num_train_epochs", "num_epochs", "n_epochs"), description="Passes over the training pairs."
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        also=("lr",),
        description="Highest learning rate; where it is not set, 1e-6, or for an adapter a twentieth of the usual one "
        "of its type (lora: 1e-5).",
    )

    def prepare(self, model: Model | Adapter, data: PreferenceData, step: Step) -> None:
        from .dpo_engine import prepare

        prepare(self, model, data, step)

    def run(self, model: Model | Adapter, data: PreferenceData, step: Step) -> None:
        from .dpo_engine import align

        align(self, model, step)

    def check(self, facts: Known) -> Iterator[Finding]:
        yield from super().check(facts)
        if getattr(self.adapter, "dropout", 0):
            yield Finding(
                "dpo compares two models on the same text, so it trains without dropout",
                "Leave dropout out of the adapter.",
                "warning",
                "adapter.dropout",
            )
