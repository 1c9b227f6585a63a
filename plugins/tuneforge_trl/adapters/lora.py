"""LoRA and what grew out of it."""

from typing import TYPE_CHECKING, Any, Literal

from tuneforge import Field

from .base import OnLayers

if TYPE_CHECKING:
    from peft import LoraConfig

    from .engine import Making
    from .process import Process


class LowRank(OnLayers):
    """A low-rank matrix beside each layer: the options that LoRA and its variants share."""

    peft_type = "LORA"

    r: int = Field(16, ge=1, also=("lora_r", "lora_rank", "rank"), description="Rank of the two added matrices.")
    alpha: int | None = Field(
        None,
        ge=1,
        also=("lora_alpha",),
        description="The adapter's output is scaled by alpha / r; twice r where it is not set.",
    )
    dropout: float = Field(
        0.0, ge=0, lt=1, also=("lora_dropout",), description="Share of the adapter's inputs left out at random."
    )

    @property
    def scale(self) -> int:
        """What is divided by r to scale the adapter's output."""
        return 2 * self.r if self.alpha is None else self.alpha

    def foretold(self) -> dict[str, Any]:
        return super().foretold() | {"r": self.r, "lora_alpha": self.scale}

    def peft_config(self, making: "Making") -> "LoraConfig":
        from .lora_engine import lora_config

        return lora_config(self, making)


class Lora(LowRank):
    """Low-rank adapters beside linear layers, trained while the model itself stays as it is.

    Hu et al. 2021, LoRA: Low-Rank Adaptation of Large Language Models, https://arxiv.org/abs/2106.09685
    """

    title = "low-rank matrices beside linear layers"
    paper = ("Hu et al. 2021", "https://arxiv.org/abs/2106.09685")

    type: Literal["lora"] = Field("lora", description="The type of adapter.")


class Dora(LowRank):
    """LoRA on the direction of each weight's columns, beside which their lengths are trained.

    Liu et al. 2024, DoRA: Weight-Decomposed Low-Rank Adaptation, https://arxiv.org/abs/2402.09353
    """

    title = "LoRA on the direction of weights, with their magnitude trained beside it"
    paper = ("Liu et al. 2024", "https://arxiv.org/abs/2402.09353")

    type: Literal["dora"] = Field(also=("use_dora", "peft_use_dora"), description="The type of adapter.")

    def foretold(self) -> dict[str, Any]:
        return super().foretold() | {"use_dora": True}

    def peft_config(self, making: "Making") -> "LoraConfig":
        from .lora_engine import lora_config

        return lora_config(self, making, use_dora=True)


class RsLora(LowRank):
    """LoRA scaled by alpha over the square root of r, so that high ranks learn as quickly as low ones.

    Kalajdzievski 2023, A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA, https://arxiv.org/abs/2312.03732
    """

    title = "LoRA scaled by the square root of its rank"
    paper = ("Kalajdzievski 2023", "https://arxiv.org/abs/2312.03732")

    type: Literal["rslora"] = Field(also=("use_rslora", "peft_use_rslora"), description="The type of adapter.")
    alpha: int | None = Field(
        None,
        ge=1,
        also=("lora_alpha",),
        description="The adapter's output is scaled by alpha / sqrt(r); 16 where it is not set, whatever the rank.",
    )

    @property
    def scale(self) -> int:
        return 16 if self.alpha is None else self.alpha

    def peft_config(self, making: "Making") -> "LoraConfig":
        from .lora_engine import lora_config

        return lora_config(self, making, use_rslora=True)


class Pissa(LowRank):
    """LoRA that begins as the largest singular vectors of each weight, and trains them.

    The result is a LoRA of twice the rank for the model as it was, so that it needs no changed base.
    Meng et al. 2024, PiSSA: Principal Singular Values and Singular Vectors Adaptation of Large Language Models,
    https://arxiv.org/abs/2404.02948
    """

    title = "LoRA that begins as the weights' largest singular vectors"
    paper = ("Meng et al. 2024", "https://arxiv.org/abs/2404.02948")
    on_quantized = False

    type: Literal["pissa"] = Field(also=("pissa_init", "pissa_iter"), description="The type of adapter.")
    alpha: int | None = Field(
        None,
        ge=1,
        also=("lora_alpha",),
        description="The adapter's output is scaled by alpha / r; as r where it is not set.",
    )

    @property
    def scale(self) -> int:
        return self.r if self.alpha is None else self.alpha

    def foretold(self) -> dict[str, Any]:
        # What was there to begin with is taken off by a second adapter of the same rank.
        return super().foretold() | {"r": 2 * self.r, "lora_alpha": 2 * self.scale}

    def peft_config(self, making: "Making") -> "LoraConfig":
        from .lora_engine import lora_config

        return lora_config(self, making, init_lora_weights="pissa")

    def process(self, making: "Making") -> "Process":
        from .lora_engine import FromPrincipal

        return FromPrincipal()
