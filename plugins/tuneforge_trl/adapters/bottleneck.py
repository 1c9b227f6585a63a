"""Bottleneck adapters: small layers with an activation of their own, behind those of the model."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from tuneforge import Adapter, Facts, Field, Finding
from tuneforge.kit.adapters import BOTTLENECK

from .base import AdapterType

if TYPE_CHECKING:
    from peft import PeftConfig

    from .engine import Making


class Bottleneck(AdapterType):
    """A layer down to few dimensions, an activation, and a layer up again, added to what goes through."""

    peft_type = BOTTLENECK
    mergeable = False
    after: ClassVar[tuple[Literal["attention", "mlp"], ...]]
    """The parts of a decoder layer that it comes after: attention, mlp."""

    reduction_factor: int = Field(
        16,
        ge=1,
        also=("adapter_reduction_factor",),
        description="How many times fewer dimensions the adapter has than the model.",
    )
    size: int | None = Field(
        None,
        ge=1,
        also=("bottleneck_size", "adapter_size", "bottleneck_dim"),
        description="Dimensions of the adapter, in place of `reduction_factor`.",
    )
    activation: Literal["relu", "gelu", "silu", "tanh"] = Field(
        "relu", also=("non_linearity", "hidden_act"), description="What lies between its two layers."
    )
    dropout: float = Field(
        0.0, ge=0, lt=1, also=("adapter_dropout",), description="Share of the adapter's inputs left out at random."
    )

    def check(self, given: Facts) -> Iterator[Finding]:
        yield from super().check(given)
        names = {part for name in given.model.tensors for part in name.lower().split(".")}
        signs = {"attention": ("attn", "attention"), "mlp": ("mlp", "feed_forward", "ffn", "ff")}
        lacking = [part for part in self.after if not any(sign in name for name in names for sign in signs[part])]
        if names and lacking and given.kind is not Adapter:
            yield Finding(
                f"{self.kind} comes after a layer's {' and '.join(lacking)}, which is not found in a "
                f"{given.model.config.get('model_type', 'model')}",
                "Take lora.",
                field="adapter.type",
            )

    def peft_config(self, making: "Making") -> "PeftConfig":
        from .bottleneck_engine import bottleneck_config

        return bottleneck_config(self, making)


class Houlsby(Bottleneck):
    """Small layers behind the attention and behind the MLP of every layer of the model.

    Houlsby et al. 2019, Parameter-Efficient Transfer Learning for NLP, https://arxiv.org/abs/1902.00751
    """

    title = "small layers behind attention and MLP"
    paper = ("Houlsby et al. 2019", "https://arxiv.org/abs/1902.00751")
    after = ("attention", "mlp")

    type: Literal["houlsby"] = Field(also=("double_seq_bn", "bottleneck"), description="The type of adapter.")


class Pfeiffer(Bottleneck):
    """Small layers behind the MLP of every layer of the model.

    Pfeiffer et al. 2020, AdapterFusion: Non-Destructive Task Composition for Transfer Learning,
    https://arxiv.org/abs/2005.00247
    """

    title = "small layers behind the MLP"
    paper = ("Pfeiffer et al. 2020", "https://arxiv.org/abs/2005.00247")
    after = ("mlp",)

    type: Literal["pfeiffer"] = Field(also=("seq_bn",), description="The type of adapter.")
