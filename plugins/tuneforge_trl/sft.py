"""Supervised fine-tuning, as a method of the train stage."""

from collections.abc import Iterator
from typing import Literal

from tuneforge import Adapter, ChatData, Field, Finding, Known, Model, Step, TextData, Train

from .options import NEEDS, Training
from .rows.templates import hides_turns
from .speed.options import CrossEntropy
from .watching.options import Sampling

LossOn = Literal["assistant", "last", "completion", "all"]


class Sft(Sampling, Training, CrossEntropy, Train):
    """Supervised fine-tuning: the model learns to write the assistant's turns of conversations, or completions.

    Loss is on the assistant's turns and the terminator of each, or as `loss_on` says; of texts without a template, on
    the completion, or the whole document, and the end-of-text token. Rows longer than `max_length` are left out and
    counted. The whole model is trained, or with `adapter:` a small addition to it (LoRA, Hu et al. 2021); an
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
        description="Highest learning rate; where it is not set, 2e-5, or for an adapter the usual one of its type "
        "(lora: 2e-4).",
    )
    loss_on: LossOn = Field(
        "assistant",
        also=(
            *("train_on_inputs", "assistant_only_loss", "completion_only_loss", "train_on_prompt", "mask_history"),
            *("mask_prompt", "roles_to_train", "train_on_responses_only", "train_only_on_last_turn", "train_on_eos"),
        ),
        description="What is learnt: every turn of the assistant; its last one; what it writes after the last user "
        "message, tool calls included (completion); or every token (all). The token that ends a turn is part of it.",
    )
    packing: bool = Field(
        False,
        also=("sample_packing", "neat_packing"),
        description="Puts several whole rows into one sequence of `max_length` tokens, each blind to the others; "
        "`batch_size` then counts such sequences.",
    )

    def prepare(self, model: Model | Adapter, data: ChatData | TextData, step: Step) -> None:
        from .sft_engine import prepare

        prepare(self, model, data, step)

    def run(self, model: Model | Adapter, data: ChatData | TextData, step: Step) -> None:
        from .sft_engine import fine_tune

        fine_tune(self, model, data, step)

    def check(self, facts: Known) -> Iterator[Finding]:
        yield from super().check(facts)
        data = facts.get("data", ())
        if self.loss_on != "assistant" or any(issubclass(given.kind, TextData) for given in data):
            return
        for given in facts.get("model", ()):
            if given.template is not None and hides_turns(given.template):
                yield Finding(
                    "the chat template renders the beginning of a conversation differently once more of it follows, "
                    "and has no {% generation %} markers: a conversation with several answers ends the step",
                    "Set loss_on: last, or give the model a template with markers; one answer a row is fine as it is.",
                    "warning",
                    "loss_on",
                )
