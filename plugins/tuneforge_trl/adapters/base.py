"""What the types of adapters have in common: what each declares of itself, and the layers that it sits on."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import ConfigDict

from tuneforge import Adapter, Config, Facts, Field, Finding

if TYPE_CHECKING:
    from peft import PeftConfig

    from .engine import Making
    from .process import Process

CONV1D = ("gpt2", "openai-gpt")
"""Model types whose layers between the embedding and the output head are transformers' Conv1D, not torch's Linear."""


class AdapterType(Config):
    """One type of adapter: its fields are its options, its class attributes what it can be combined with.

    Plans, pages and the table in docs/adapters.md are made from these attributes.
    """

    model_config = ConfigDict(defer_build=True)

    peft_type: ClassVar[str]
    """What the trained adapter is, in PEFT's terms; loading, merging and exporting go by it."""
    title: ClassVar[str]
    """What it is, in a few words."""
    paper: ClassVar[tuple[str, str]]
    """Authors and year, and the link."""
    mergeable: ClassVar[bool] = True
    """Whether the trained adapter can be merged into its base."""
    packable: ClassVar[bool] = True
    """Whether it can be trained on packed rows."""
    checkpointable: ClassVar[bool] = True
    """Whether it can be trained with gradient checkpointing."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Requirement strings besides those of the method."""
    quantizes: ClassVar[bool] = False
    """Whether the base is rounded to fewer bits while the adapter is trained."""
    on_quantized: ClassVar[bool] = True
    """Whether it can be trained on a base that is quantized."""
    on_conv1d: ClassVar[bool] = True
    """Whether it can be put on the Conv1D layers of GPT-2."""
    usual_rate: ClassVar[float] = 1.0
    """The usual learning rate, as a multiple of LoRA's."""

    @property
    def shardable(self) -> bool:
        """Whether a model with it can be cut up among processes while it is trained."""
        return True

    @property
    def kind(self) -> str:
        """The type's name, as in `type: lora`."""
        return str(self.__dict__["type"])

    def settled(self, steps: int) -> int:
        """The step, of a training of that many, from which on the adapter has the shape that its result is to have."""
        return 0

    def foretold(self) -> dict[str, Any]:
        """What adapter_config.json will say, as far as later steps read it."""
        return {"peft_type": self.peft_type}

    def check(self, given: Facts) -> Iterator[Finding]:
        """What of this type does not suit the model it is put on."""
        model = given.model
        kind = str(model.config.get("model_type", ""))
        if not self.on_conv1d and kind in CONV1D:
            yield Finding(
                f"{self.kind} cannot be put on the Conv1D layers of a {kind} model",
                "Take lora, which can.",
                field="adapter.type",
            )
        if not self.on_quantized and given.kind is not Adapter and "quantization_config" in model.config:
            yield Finding(
                f"{self.kind} cannot be trained on a quantized model",
                "Take lora, or start from the model's full-precision version.",
                field="adapter.type",
            )

    def peft_config(self, making: "Making") -> "PeftConfig":
        """PEFT's configuration of a new adapter for the model in `making`."""
        raise NotImplementedError

    def process(self, making: "Making") -> "Process":
        """What is done for it around a training, besides what PEFT does by itself."""
        from .process import Process

        return Process()


class OnLayers(AdapterType):
    """An adapter on chosen layers of the model."""

    target_modules: Literal["auto"] | list[str] = Field(
        "auto",
        also=("lora_target", "lora_target_modules", "lora_target_linear"),
        description="Layers that get an adapter, by the last parts of their names, such as [q_proj, v_proj]; "
        "auto: every linear layer but the output head.",
    )
