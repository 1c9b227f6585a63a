"""AdaLoRA, which gives each layer the rank that it needs."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from tuneforge import Facts, Field, Finding

from .base import OnLayers

if TYPE_CHECKING:
    from peft import AdaLoraConfig

    from .engine import Making
    from .process import Process


class AdaLora(OnLayers):
    """LoRA as a singular value decomposition, whose least important singular values are taken away while it is trained.

    The result is a LoRA with a rank of its own for each layer, `target_r` on average.
    Zhang et al. 2023, AdaLoRA: Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning,
    https://arxiv.org/abs/2303.10512
    """

    peft_type = "LORA"
    title = "LoRA whose ranks shrink, layer by layer, to what is needed"
    paper = ("Zhang et al. 2023", "https://arxiv.org/abs/2303.10512")
    usual_rate = 5.0

    type: Literal["adalora"] = Field(description="The type of adapter.")
    target_r: int = Field(8, ge=1, description="Average rank of a layer at the end.")
    init_r: int | None = Field(
        None, ge=1, description="Rank of each layer to begin with; one and a half times target_r where it is not set."
    )
    alpha: int | None = Field(
        None,
        ge=1,
        also=("lora_alpha",),
        description="The adapter's output is scaled by alpha / init_r; twice init_r where it is not set.",
    )
    dropout: float = Field(
        0.0, ge=0, lt=1, also=("lora_dropout",), description="Share of the adapter's inputs left out at random."
    )
    begin: float = Field(
        0.1, ge=0, lt=1, also=("tinit",), description="Share of the steps before the first rank is taken away."
    )
    end: float = Field(
        0.3, ge=0, lt=1, also=("tfinal",), description="Share of the steps after the last rank is taken away."
    )
    interval: int = Field(1, ge=1, also=("deltaT", "delta_t"), description="Steps from one taking away to the next.")
    orthogonality: float = Field(
        0.5,
        ge=0,
        also=("orth_reg_weight",),
        description="Weight of the penalty that keeps the singular vectors apart; it is not part of the loss told.",
    )

    @property
    def shardable(self) -> bool:
        return False

    @property
    def first_r(self) -> int:
        """The rank of each layer to begin with."""
        return self.init_r or -(-3 * self.target_r // 2)

    @property
    def scale(self) -> int:
        """What is divided by the first rank to scale the adapter's output."""
        return 2 * self.first_r if self.alpha is None else self.alpha

    def schedule(self, steps: int) -> tuple[int, int]:
        """Of a training's steps, how many there are before the first rank is taken away, and after the last one is."""
        first = int(self.begin * steps)
        return first, min(int(self.end * steps), steps - first - 1)

    def settled(self, steps: int) -> int:
        return steps - self.schedule(steps)[1]

    def foretold(self) -> dict[str, Any]:
        # Which layer will have which rank is not known before; that they differ is.
        return super().foretold() | {"r": self.target_r, "rank_pattern": {"*": self.target_r}}

    def check(self, given: Facts) -> Iterator[Finding]:
        yield from super().check(given)
        if self.first_r < self.target_r:
            yield Finding(
                f"adalora takes ranks away, but init_r {self.first_r} is less than target_r {self.target_r}",
                f"Set init_r to more than {self.target_r}, or leave it out.",
                field="adapter.init_r",
            )
        if self.begin + self.end >= 1:
            yield Finding(
                f"with begin {self.begin:g} and end {self.end:g} there is no step left to take ranks away in",
                "Make their sum less than 1.",
                field="adapter.end",
            )

    def peft_config(self, making: "Making") -> "AdaLoraConfig":
        from .adalora_engine import adalora_config

        return adalora_config(self, making)

    def process(self, making: "Making") -> "Process":
        from .adalora_engine import Shrinking

        return Shrinking(self)
