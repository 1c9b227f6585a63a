"""Continued pre-training, as a method of the train stage."""

from collections.abc import Iterator
from typing import ClassVar

from tuneforge import Adapter, Field, Finding, Known, Model, Step, TextData, Train

from .checks import check_packing
from .options import NEEDS, Training
from .speed.options import CrossEntropy
from .watching.options import Sampling


class Pretrain(Sampling, Training, CrossEntropy, Train):
    """Continued pre-training: the model learns to go on with plain text, on as much of it as there is.

    Documents are joined, each ended by the end-of-text token, which is learnt, and cut into sequences of `max_length`
    tokens; a document that does not fit goes on in the next one, so that nothing is lost. No chat template comes into
    it. Prompts are learnt like the completions that follow them. `batch_size` counts sequences.

    Gururangan et al. 2020, https://arxiv.org/abs/2004.10964; on documents blind to each other: Zhao et al. 2024,
    https://arxiv.org/abs/2402.13991
    """

    name = "pretrain"
    needs = NEEDS
    engine = "tuneforge_trl.pretrain_engine"
    usual: ClassVar = {**Training.usual, "learning_rate of full": (1e-6, 5e-4)}  # more text bears larger steps

    epochs: float = Field(
        1.0, gt=0, also=("num_train_epochs", "num_epochs", "n_epochs"), description="Passes over the training text."
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        also=("lr",),
        description="Highest learning rate; 2e-5, or 2e-4 for an adapter, where it is not set.",
    )
    max_length: int | None = Field(
        None,
        ge=2,
        also=("cutoff_len", "sequence_len", "max_seq_length", "max_seq_len", "model_max_length", "block_size"),
        description="Tokens of a sequence. Where it is not set, the model's context, at most 4096.",
    )
    across_documents: bool = Field(
        False,
        also=("cross_document_attention", "sample_packing_cross_attention"),
        description="Whether the documents of a sequence see those before them; else each is blind to the others.",
    )

    def check(self, facts: Known) -> Iterator[Finding]:
        yield from super().check(facts)
        yield from check_packing(self.adapter, facts, "adapter.type", "pretrain packs documents: take lora.")

    def prepare(self, model: Model | Adapter, data: TextData, step: Step) -> None:
        from .pretrain_engine import prepare

        prepare(self, model, data, step)

    def run(self, model: Model | Adapter, data: TextData, step: Step) -> None:
        from .pretrain_engine import pretrain

        pretrain(self, model, step)
