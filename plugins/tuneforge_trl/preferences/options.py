"""The options that methods of preferences share: those that learn from pairs, and those that have a reference."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, ClassVar

from tuneforge import Adapter, Align, Facts, Field, Finding, Known, Launch, Model, PreferenceData, Step
from tuneforge.artifacts import context_length
from tuneforge.kit.vocabularies import same_tokens

from ..checks import check_head
from ..options import NEEDS, Training
from ..spread.strategies import Ddp
from ..watching.options import Sampling

if TYPE_CHECKING:
    from .losses import Objective


class Preferring(Sampling, Training, Align):
    """What methods of preferences share: a pass over the data is usual, and dropout would blur what they compare."""

    needs = NEEDS

    full_rate: ClassVar[float] = 1e-6
    adapter_rate: ClassVar[float] = 1e-5
    """The learning rates where none is set."""

    epochs: float = Field(
        1.0, gt=0, also=("num_train_epochs", "num_epochs", "n_epochs"), description="Passes over the training rows."
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        also=("lr",),
        description="Highest learning rate; where it is not set, 1e-6, or for an adapter a twentieth of the usual one "
        "of its type (lora: 1e-5).",
    )

    @property
    def refers(self) -> bool:
        """Whether answers are compared with what a reference makes of them."""
        return False

    def check(self, facts: Known) -> Iterator[Finding]:
        yield from super().check(facts)
        if getattr(self.adapter, "dropout", 0):
            yield Finding(
                f"{self.name} compares how likely texts are, so it trains without dropout",
                "Leave dropout out of the adapter.",
                "warning",
                "adapter.dropout",
            )


class OnPairs(Preferring):
    """What methods of pairs share that have no reference."""

    engine = "tuneforge_trl.preferences.engine"

    def objective(self) -> "Objective":
        """What is made of the log-probabilities of pairs."""
        raise NotImplementedError

    def prepare(self, model: Model | Adapter, data: PreferenceData, step: Step) -> None:
        from .engine import prepare

        prepare(self, model, data, step)

    def run(self, model: Model | Adapter, data: PreferenceData, step: Step) -> None:
        from .engine import align

        align(self, model, None, step, self.objective())


class Referring(Preferring):
    """What methods with a reference share."""

    precompute: bool = Field(
        False,
        keyed=False,
        also=("precompute_ref_log_probs", "precompute_ref_logps"),
        description="Computes the reference's log-probabilities once, before the training, so that it need not be in "
        "memory beside the model; quicker, too, where rows are seen more than once.",
    )

    def check(self, facts: Known) -> Iterator[Finding]:
        yield from super().check(facts)
        if self.precompute and self.adapter is not None and self.adapter.quantizes:
            yield Finding(
                f"{self.adapter.kind} rounds the model, and precompute would ask the one that is not rounded",
                "Leave precompute out: the reference is the rounded model with its adapter switched off.",
                field="precompute",
            )
        models, references = facts.get("model", ()), facts.get("reference", ())
        for model, reference in zip(models, references, strict=False):
            yield from _check_reference(self, model, reference)

    def check_launch(self, launch: Launch, facts: Known) -> Iterable[Finding]:
        yield from super().check_launch(launch, facts)
        if self.precompute and not isinstance(launch.strategy, Ddp):
            yield Finding(
                f"the reference is computed by whole models, and {launch.strategy.name} cuts them up",
                "Leave precompute out, or set strategy: ddp.",
                field="precompute",
            )


def _check_reference(options: Training, model: Facts, reference: Facts) -> Iterator[Finding]:
    """Findings on a reference whose log-probabilities cannot be compared with the model's."""
    yield from check_head("the reference", reference)
    if not same_tokens(model.tokenizer, reference.tokenizer):
        yield Finding(
            "the reference has another tokenizer than the model: they do not give probabilities to the same tokens",
            "Take a reference with the model's tokenizer, or leave it out: then it is the model as it comes in.",
        )
    if reference.model.config.get("is_encoder_decoder"):
        kind = reference.model.config.get("model_type", "one")
        yield Finding(
            f"the reference is an encoder-decoder ({kind}), and answers are scored by causal language models",
            "Take a causal language model, or leave the reference out.",
        )
    longest, context = options.longest(model.model.config), context_length(reference.model.config)
    if model.model.config and context is not None and context < longest:
        yield Finding(
            f"rows may have {longest} tokens, and the reference's context has {context}",
            f"Set max_length: {context}, or take another reference.",
            field="max_length",
        )
