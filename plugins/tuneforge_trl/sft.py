"""Supervised fine-tuning, as a method of the train stage."""

from tuneforge import Adapter, ChatData, Field, Model, Step, Train

from .options import NEEDS, Training
from .speed import CrossEntropy


class Sft(Training, CrossEntropy, Train):
    """Supervised fine-tuning: the model learns to write the assistant's turns of conversations.

    Loss is on the assistant's turns and the terminator of each, on nothing else; rows longer than `max_length` are left
    out and counted. The whole model is trained, or with `adapter:` a small addition to it (LoRA, Hu et al. 2021); an
    adapter given as the model is trained on. Ouyang et al. 2022, https://arxiv.org/abs/2203.02155
    """

    name = "sft"
    version = 2
    needs = NEEDS
    engine = "tuneforge_trl.sft_engine"

    learning_rate: float | None = Field(
        None,
        gt=0,
        also=("lr",),
        description="Highest learning rate; 2e-5, or 2e-4 for an adapter, where it is not set.",
    )
    packing: bool = Field(
        False,
        also=("sample_packing", "neat_packing"),
        description="Puts several whole rows into one sequence of `max_length` tokens, each blind to the others; "
        "`batch_size` then counts such sequences.",
    )

    def prepare(self, model: Model | Adapter, data: ChatData, step: Step) -> None:
        from .sft_engine import prepare

        prepare(self, model, data, step)

    def run(self, model: Model | Adapter, data: ChatData, step: Step) -> None:
        from .sft_engine import fine_tune

        fine_tune(self, model, step)
