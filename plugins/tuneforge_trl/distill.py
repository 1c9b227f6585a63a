"""Knowledge distillation, as a method of the align stage."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from tuneforge import Adapter, Align, ChatData, Facts, Field, Finding, Known, Model, Step, Strategy
from tuneforge.artifacts import context_length
from tuneforge.kit.adapters import is_prompt, peft_type
from tuneforge.kit.vocabularies import same_vocabulary

from .layers.targets import on_head
from .options import NEEDS, Training
from .watching.options import Sampling


class Distill(Sampling, Training, Align):
    """Knowledge distillation: a smaller model, the student, learns to give each next token the probability that a
    larger one, the teacher, gives it.

    It learns from answers to the prompts of conversations: its own, written anew in every step, so that it learns to go
    on from its own mistakes, or for a share of the steps (`on_policy` below 1) those of the data. The loss is the
    divergence of the two, in nats a token. The teacher is no reference that the student is held to but what it is to
    become; both must have the same vocabulary. The held-out loss is that of the data's own answers. Hinton et al. 2015,
    https://arxiv.org/abs/1503.02531; answers of its own: Agarwal et al. 2023, https://arxiv.org/abs/2306.13649
    """

    name = "distill"
    version = 2
    needs = NEEDS
    engine = "tuneforge_trl.distill_engine"
    # Answers are written for a whole batch at once, by one process.
    strategies: ClassVar[tuple[type[Strategy], ...]] = ()

    beta: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Which divergence: 0, forward KL: the student covers all that the teacher may say; 1, reverse KL: "
        "it says what the teacher finds likely; between them, the Jensen-Shannon divergence of that weight.",
    )
    on_policy: float = Field(
        1.0,
        ge=0,
        le=1,
        also=("lmbda", "student_data_fraction"),
        description="Share of the steps that learn from the student's own answers, the others from those of the data.",
    )
    temperature: float = Field(
        1.0, gt=0, description="Softens both distributions, in the loss and where the student writes its answers."
    )
    max_new_tokens: int = Field(
        256,
        ge=1,
        also=("max_completion_length", "max_tokens", "response_length"),
        description="Tokens after which an answer of the student is cut off.",
    )
    epochs: float = Field(
        1.0, gt=0, also=("num_train_epochs", "num_epochs", "n_epochs"), description="Passes over the conversations."
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        also=("lr",),
        description="Highest learning rate; where it is not set, 1e-5, or for an adapter the usual one of its type "
        "(lora: 1e-4).",
    )

    def prepare(self, model: Model | Adapter, teacher: Model | Adapter, data: ChatData, step: Step) -> None:
        from .distill_engine import prepare

        prepare(self, model, teacher, data, step)

    def run(self, model: Model | Adapter, teacher: Model | Adapter, data: ChatData, step: Step) -> None:
        from .distill_engine import align

        align(self, model, teacher, step)

    def check(self, facts: Known) -> Iterable[Finding]:
        return [*super().check(facts), *_check(self, facts)]


def common_context(configs: Iterable[Mapping[str, Any]]) -> int | None:
    """The longest row in tokens that models of these config.json can all read; None where none tells."""
    return min((length for length in map(context_length, configs) if length is not None), default=None)


def _check(options: Distill, facts: Known) -> Iterator[Finding]:
    for teacher in facts.get("teacher", ()):
        yield from _check_prompt("the teacher", teacher)
        for student in facts.get("model", ()):
            if not same_vocabulary(student, teacher):
                yield Finding(
                    "the teacher and the model have different vocabularies, so their probabilities of the next token "
                    "cannot be compared",
                    "Take a teacher of the same family as the model.",
                )
    for student in facts.get("model", ()):
        yield from _check_prompt("the model", student)
        context = common_context(each.model.config for each in (student, *facts.get("teacher", ())))
        if options.on_policy and context is not None and options.max_new_tokens >= context:
            yield Finding(
                f"max_new_tokens {options.max_new_tokens} leaves no room for a prompt in the {context} tokens that "
                "the model and its teacher can both read",
                f"Set it well below {context}.",
                field="max_new_tokens",
            )
    if on_head(getattr(options.adapter, "target_modules", None)):
        yield Finding(
            "an adapter on the output head is not trained by distillation, whose loss goes by the head's own weights",
            "Leave the head out of target_modules.",
            field="adapter.target_modules",
        )
    if options.adapter and is_prompt(options.adapter.peft_type):
        yield Finding(
            f"{options.adapter.kind} adapters stand before the text, where the loss of distillation does not look",
            "Take lora, or another adapter on layers.",
            field="adapter.type",
        )


def _check_prompt(who: str, given: Facts) -> Iterator[Finding]:
    if given.kind is Adapter and is_prompt(peft_type(given.config)):
        yield Finding(
            f"{who} is an adapter before the text ({peft_type(given.config)}), where the loss of distillation does not "
            "look",
            "Take a full model, or an adapter on layers, such as lora.",
        )
