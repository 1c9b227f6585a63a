"""The options that every method of this plugin has: the optimisation, and the adapter."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict

from tuneforge import Adapter, Artifact, Facts, Field, Finding, Kinds, Known, Launch, Model, Strategy
from tuneforge.artifacts import context_length

from .adapters import AnyAdapter
from .checks import check_launch, check_training, divisor
from .speed.options import Speed, check_speed
from .spread.strategies import Ddp, DeepSpeed, Fsdp
from .watching.options import Watching, check_watching

NEEDS = (
    "accelerate>=1.10",
    "datasets>=4",
    "peft>=0.20",
    "pyarrow>=18",
    "torch>=2.9",
    "transformers>=5.21",
    "trl>=1.16,<2",
)

LONGEST = 4096
"""The longest sequence, in tokens, where none is set and the model's context allows more."""


class Training(Watching, Speed):
    """How a model is fitted: the optimisation, and whether the whole model is trained or an adapter."""

    # What is not used in a recipe need not be compiled for it.
    model_config = ConfigDict(defer_build=True)

    strategies: ClassVar[tuple[type[Strategy], ...]] = (Ddp, Fsdp, DeepSpeed)
    usual: ClassVar[Mapping[str, tuple[float, float]]] = {"learning_rate of adapter": (1e-5, 5e-4)}
    """Where a method's usual ranges differ from those in advice.py: by option, and by what is trained."""
    loss_falls: ClassVar[bool] = True
    """Whether a lower loss is a better one, as the monitor takes it to be."""

    adapter: AnyAdapter | None = Field(
        None,
        also=("peft", "peft_config", "finetuning_type", "lora", "use_peft"),
        description="Trains a new adapter in place of the whole model. An adapter as input is trained on without it.",
    )
    freeze: list[str] = Field(
        [],
        also=("freeze_layers", "frozen_layers", "frozen_parameters"),
        description="Weights that stay as they are while the rest of the model is trained: embeddings, layers 0-7, or "
        "names such as model.layers.0.mlp or *.mlp.*",
    )
    epochs: float = Field(
        3.0, gt=0, also=("num_train_epochs", "num_epochs", "n_epochs"), description="Passes over the training rows."
    )
    steps: int | None = Field(None, ge=1, also=("max_steps",), description="Optimisation steps, in place of `epochs`.")
    batch_size: int = Field(
        16,
        ge=1,
        also=(
            "gradient_accumulation_steps",
            "global_batch_size",
            "train_batch_size",
            "effective_batch_size",
            "batch_size_training",
        ),
        description="Rows that one optimisation step learns from.",
    )
    micro_batch_size: int | None = Field(
        None,
        ge=1,
        keyed=False,
        also=("per_device_train_batch_size", "per_device_batch_size"),
        description="Rows in memory at once, a divisor of `batch_size`; as many as are quick where it is not set.",
    )
    learning_rate: float | None = Field(None, gt=0, also=("lr",), description="Highest learning rate.")
    optimizer: Literal["adamw", "muon"] = Field(
        "adamw",
        also=("optim", "optimizer_type"),
        description="AdamW, or Muon for matrices with AdamW for the rest, which learns from fewer tokens.",
    )
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine",
        also=("lr_scheduler_type", "lr_scheduler"),
        description="How the learning rate falls after the warm-up, to zero or not at all.",
    )
    warmup: float = Field(
        0.03,
        ge=0,
        lt=1,
        also=("warmup_ratio", "warmup_steps"),
        description="Share of the steps over which the learning rate rises to its highest.",
    )
    weight_decay: float = Field(0.0, ge=0, description="Decoupled weight decay of the optimizer.")
    max_grad_norm: float = Field(
        1.0, gt=0, also=("gradient_clipping", "max_grad_clip"), description="Gradients longer than this are clipped."
    )
    max_length: int | None = Field(
        None,
        ge=1,
        also=("cutoff_len", "sequence_len", "max_seq_length", "max_seq_len", "model_max_length", "block_size"),
        description="Longest row in tokens; longer ones are left out and counted, never cut. "
        f"Where it is not set, the model's context, at most {LONGEST}.",
    )
    precision: Literal["auto", "bf16", "fp16", "fp32"] = Field(
        "auto",
        also=("bf16", "fp16", "mixed_precision", "compute_dtype"),
        description="What is computed in; auto: bf16 where the hardware has it, else fp32. Weights that change are "
        "kept in fp32 whatever it is.",
    )
    gradient_checkpointing: bool | None = Field(
        None,
        keyed=False,
        also=("use_gradient_checkpointing", "activation_checkpointing"),
        description="Saves memory by computing activations twice; on with a GPU where it is not set.",
    )
    log_every: int = Field(
        10, ge=1, keyed=False, also=("logging_steps",), description="Steps between lines of the log."
    )
    save_every: int = Field(
        200,
        ge=1,
        keyed=False,
        also=("save_steps",),
        description="Steps between checkpoints, from which a run resumes; where these take long, there is one every "
        "ten minutes.",
    )

    @property
    def rows_a_step(self) -> float:
        """How many rows of the data one optimisation step learns from."""
        return self.batch_size

    def rate(self, *, full: float, adapter: float, is_adapter: bool) -> float:
        """The learning rate: as set, or the usual one for a full model or for an adapter of this type."""
        usual = self.adapter.usual_rate if self.adapter else 1.0
        return self.learning_rate or (adapter * usual if is_adapter else full)

    def micro(self, most: int, world_size: int = 1) -> int:
        """Rows in a process's memory at once: as set, or the largest divisor of its share that is at most `most`."""
        return self.micro_batch_size or divisor(self.batch_size // world_size, most)

    def longest(self, config: Mapping[str, Any]) -> int:
        """The longest row in tokens, given the model's config.json; a prompt before the text takes of its context."""
        context = (context_length(config) or 2 * LONGEST) - getattr(self.adapter, "tokens", 0)
        return self.max_length or max(1, min(LONGEST, context))

    def requires(self, facts: Known) -> tuple[str, ...]:
        return (*NEEDS, *(self.adapter.needs if self.adapter else ()))

    def writes(self, kinds: Kinds) -> type[Artifact]:
        given = kinds.get("model", ())
        return Adapter if self.adapter or any(issubclass(kind, Adapter) for kind in given) else Model

    def foresee(self, facts: Known) -> Facts:
        given = next(iter(facts.get("model", ())), None)
        if given is None:
            return Facts(self.writes({}))
        if self.adapter is None or given.kind is Adapter:
            return given
        return Facts(Adapter, self.adapter.foretold(), {}, given.tokenizer, given.template, given)

    def check(self, facts: Known) -> Iterable[Finding]:
        return [*check_watching(self), *check_training(self, facts), *check_speed(self)]

    def check_launch(self, launch: Launch, facts: Known) -> Iterable[Finding]:
        return check_launch(self, launch, facts)
