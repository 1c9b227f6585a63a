"""LoRA on a base that is rounded to 4 or 8 bits while it is trained."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from tuneforge import Adapter, Facts, Field, Finding

from .lora import LowRank

if TYPE_CHECKING:
    from .engine import Making
    from .process import Process


class QLora(LowRank):
    """LoRA on a base that is rounded to 4 or 8 bits while it is trained; the result sits on the base as it was.

    Dettmers et al. 2023, QLoRA: Efficient Finetuning of Quantized LLMs, https://arxiv.org/abs/2305.14314; int8:
    Dettmers et al. 2022, LLM.int8(), https://arxiv.org/abs/2208.07339
    """

    title = "LoRA on a base rounded to 4 or 8 bits while it is trained"
    paper = ("Dettmers et al. 2023", "https://arxiv.org/abs/2305.14314")
    quantizes = True
    needs = ("bitsandbytes>=0.46",)

    type: Literal["qlora"] = Field(
        also=("load_in_4bit", "load_in_8bit", "quantization_bit"), description="The type of adapter."
    )
    base: Literal["nf4", "fp4", "int8"] = Field(
        "nf4",
        also=("bnb_4bit_quant_type", "quantization_type", "bits"),
        description="What the base's weights are rounded to: 4-bit normal floats, 4-bit floats, or 8-bit integers.",
    )
    double_quant: bool = Field(
        True,
        also=("bnb_4bit_use_double_quant", "double_quantization"),
        description="Rounds the scales of the 4-bit weights too, which saves 0.4 bits a weight.",
    )
    compute_dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto",
        also=("bnb_4bit_compute_dtype",),
        description="The type that 4-bit weights are computed in; auto: bfloat16 where the hardware has it, else "
        "float32.",
    )

    def foretold(self) -> dict[str, Any]:
        return super().foretold() | {"auto_mapping": {"quantized_base": self.base}}

    def check(self, given: Facts) -> Iterator[Finding]:
        yield from super().check(given)
        if given.kind is Adapter:
            return
        layers = [tensor for name, tensor in given.tensors.items() if any(part.isdigit() for part in name.split("."))]
        if given.tensors and not any(len(tensor.shape) == 2 for tensor in layers):
            yield Finding(
                f"a {given.config.get('model_type', 'model')} has no linear layers to round to {self.base}",
                "Take lora.",
                field="adapter.type",
            )
        quantized = given.config.get("quantization_config")
        if isinstance(quantized, dict) and not self._is(quantized):
            yield Finding(
                f"the model is quantized already, by {quantized.get('quant_method', 'another method')}, and cannot be "
                f"rounded to {self.base}",
                "Take lora, or start from the model's full-precision version.",
                field="adapter.base",
            )

    def _is(self, quantized: dict[str, Any]) -> bool:
        if self.base == "int8":
            return bool(quantized.get("load_in_8bit"))
        return bool(quantized.get("load_in_4bit")) and quantized.get("bnb_4bit_quant_type", "fp4") == self.base

    @property
    def shardable(self) -> bool:
        return self.base != "int8"

    def process(self, making: "Making") -> "Process":
        from .qlora_engine import OnRounded

        return OnRounded(self, making)
