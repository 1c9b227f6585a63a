"""A reward model, as a method of the train stage."""

from collections.abc import Iterator
from dataclasses import replace

from tuneforge import (
    Artifact,
    Facts,
    Field,
    Finding,
    Kinds,
    Known,
    Launch,
    Model,
    PreferenceData,
    RewardAdapter,
    RewardModel,
    Step,
    Train,
)
from tuneforge.artifacts import Tensor

from .adapters.prompts import Prompt, PTuning
from .layers.targets import is_head
from .options import NEEDS, Training


class Reward(Training, Train):
    """A reward model: the model learns to score conversations, the chosen answer of each pair above the rejected one.

    A score head with one output takes the place of the output head and is read at the conversation's last token. The
    loss is -log sigmoid(score of chosen - score of rejected), of pairs with a margin less that margin (Bradley and
    Terry 1952; Stiennon et al. 2020, https://arxiv.org/abs/2009.01325; Ouyang et al. 2022,
    https://arxiv.org/abs/2203.02155; margins: Touvron et al. 2023, https://arxiv.org/abs/2307.09288). With `adapter:`
    the head is trained as a whole, beside the adapter.
    """

    name = "reward"
    needs = NEEDS
    engine = "tuneforge_trl.reward_engine"

    center: float = Field(
        0.0,
        ge=0,
        also=("center_rewards_coefficient", "center_rewards", "reward_centering"),
        description="How strongly the two scores of a pair are drawn to a mean of zero, which their difference leaves "
        "open; 0.01 is usual. Eisenstein et al. 2023, https://arxiv.org/abs/2312.09244",
    )
    epochs: float = Field(
        1.0, gt=0, also=("num_train_epochs", "num_epochs", "n_epochs"), description="Passes over the training pairs."
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        also=("lr",),
        description="Highest learning rate; 1e-5, or 1e-4 for an adapter, where it is not set.",
    )

    def check(self, facts: Known) -> Iterator[Finding]:
        yield from super().check({**facts, "model": [_scoring(given) for given in facts.get("model", ())]})
        if isinstance(self.adapter, (Prompt, PTuning)):
            # Transformers finds the last token by the ids, and a prompt hands it embedded words in their place.
            yield Finding(
                f"{self.adapter.kind} adapters hide where a conversation ends, so that scores are read at its padding",
                "Take prefix, or lora.",
                field="adapter.type",
            )

    def check_launch(self, launch: Launch, facts: Known) -> Iterator[Finding]:
        yield from super().check_launch(launch, facts)
        if self.center:
            yield Finding(
                "center draws the scores of every pair to zero, also of those that fill up the last batch of several "
                "processes",
                "Leave center out, or train in one process.",
                field="center",
            )

    def prepare(self, model: Model, data: PreferenceData, step: Step) -> None:
        from .reward_engine import prepare

        prepare(self, model, data, step)

    def run(self, model: Model, data: PreferenceData, step: Step) -> None:
        from .reward_engine import train

        train(self, model, step)

    def writes(self, kinds: Kinds) -> type[Artifact]:
        return RewardAdapter if self.adapter else RewardModel

    def foresee(self, facts: Known) -> Facts:
        return replace(super().foresee(facts), kind=self.writes({}))


def _scoring(model: Facts) -> Facts:
    """A language model with a score in place of its output head, as it is trained."""
    if not model.tensors:
        return model
    kept = {name: tensor for name, tensor in model.tensors.items() if not is_head(name.rpartition(".")[0])}
    config = {**model.config, "tie_word_embeddings": False}
    return replace(model, config=config, tensors={**kept, "score.weight": Tensor("F32", (1, 1))})
