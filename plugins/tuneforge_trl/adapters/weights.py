"""Adapters that change the weights of layers by other means than a low-rank sum."""

from typing import TYPE_CHECKING, Any, Literal

from tuneforge import Field

from .base import AdapterType, OnLayers

if TYPE_CHECKING:
    from peft import IA3Config, LoHaConfig, OFTConfig, VeraConfig

    from .engine import Making


class Ia3(AdapterType):
    """A factor for each key, each value and each activation within the MLP.

    Liu et al. 2022, Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning,
    https://arxiv.org/abs/2205.05638
    """

    peft_type = "IA3"
    title = "a factor for each key, value and inner activation"
    paper = ("Liu et al. 2022", "https://arxiv.org/abs/2205.05638")
    usual_rate = 15.0

    type: Literal["ia3"] = Field(description="The type of adapter.")
    target_modules: Literal["auto"] | list[str] = Field(
        "auto",
        also=("ia3_target", "ia3_target_modules"),
        description="Layers whose outputs, or of an MLP's last layer inputs, get factors; auto: those of keys and "
        "values and the last of each MLP.",
    )

    def peft_config(self, making: "Making") -> "IA3Config":
        from .weights_engine import ia3_config

        return ia3_config(self, making)


class LoHa(OnLayers):
    """A product, element by element, of two low-rank matrices beside each layer: of rank r squared.

    Hyeon-Woo et al. 2021, FedPara: Low-Rank Hadamard Product for Communication-Efficient Federated Learning,
    https://arxiv.org/abs/2108.06098
    """

    peft_type = "LOHA"
    title = "the element-wise product of two low-rank matrices"
    paper = ("Hyeon-Woo et al. 2021", "https://arxiv.org/abs/2108.06098")
    on_quantized = False
    on_conv1d = False

    type: Literal["loha"] = Field(description="The type of adapter.")
    r: int = Field(8, ge=1, also=("rank", "network_dim"), description="Rank of the multiplied matrices.")
    alpha: int | None = Field(
        None,
        ge=1,
        also=("network_alpha",),
        description="The adapter's output is scaled by alpha / r; twice r where it is not set.",
    )
    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        also=("rank_dropout",),
        description="Share of the added weight's rows left out at random.",
    )

    @property
    def scale(self) -> int:
        """What is divided by r to scale the adapter's output."""
        return 2 * self.r if self.alpha is None else self.alpha

    def foretold(self) -> dict[str, Any]:
        return super().foretold() | {"r": self.r}

    def peft_config(self, making: "Making") -> "LoHaConfig":
        from .weights_engine import loha_config

        return loha_config(self, making)


class Vera(OnLayers):
    """LoRA with random matrices that all layers share and that stay as they are; what is trained is their scaling.

    Kopiczko et al. 2023, VeRA: Vector-based Random Matrix Adaptation, https://arxiv.org/abs/2310.11454
    """

    peft_type = "VERA"
    title = "trained scalings of random matrices that all layers share"
    paper = ("Kopiczko et al. 2023", "https://arxiv.org/abs/2310.11454")
    usual_rate = 20.0

    type: Literal["vera"] = Field(description="The type of adapter.")
    r: int = Field(256, ge=1, also=("rank", "vera_rank"), description="Rank of the two shared matrices.")
    initial: float = Field(
        0.1, gt=0, also=("d_initial",), description="What the scalings of the ranks are to begin with."
    )
    dropout: float = Field(
        0.0, ge=0, lt=1, also=("vera_dropout",), description="Share of the adapter's inputs left out at random."
    )

    def foretold(self) -> dict[str, Any]:
        return super().foretold() | {"r": self.r}

    def peft_config(self, making: "Making") -> "VeraConfig":
        from .weights_engine import vera_config

        return vera_config(self, making)


class Oft(OnLayers):
    """A rotation of each layer's inputs, block by block, which keeps the angles between its neurons.

    Qiu et al. 2023, Controlling Text-to-Image Diffusion by Orthogonal Finetuning, https://arxiv.org/abs/2306.07280;
    on the inputs: Qiu et al. 2025, Orthogonal Finetuning Made Scalable, https://arxiv.org/abs/2506.19847
    """

    peft_type = "OFT"
    title = "a rotation of each layer's inputs"
    paper = ("Qiu et al. 2023", "https://arxiv.org/abs/2306.07280")
    on_conv1d = False

    type: Literal["oft"] = Field(description="The type of adapter.")
    block_size: int = Field(
        32,
        ge=2,
        also=("oft_block_size",),
        description="Inputs that are rotated together; where it does not divide a layer's inputs, the nearest number "
        "that does.",
    )
    dropout: float = Field(
        0.0, ge=0, lt=1, also=("module_dropout",), description="Share of the blocks left as they are at random."
    )

    def peft_config(self, making: "Making") -> "OFTConfig":
        from .weights_engine import oft_config

        return oft_config(self, making)
