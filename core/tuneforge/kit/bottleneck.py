"""Bottleneck adapters as a tuner of PEFT, which has none: loaded, switched off, copied and saved like any other.

Houlsby et al. 2019, https://arxiv.org/abs/1902.00751; Pfeiffer et al. 2020, https://arxiv.org/abs/2005.00247
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from peft import PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import nn
from transformers.activations import ACT2FN

from tuneforge import StepError

from .adapters import BOTTLENECK

Part = Literal["attention", "mlp"]

_PARTS: dict[Part, tuple[str, ...]] = {"attention": ("attn", "attention"), "mlp": ("mlp", "feed_forward", "ffn")}
"""What the attention and the MLP of a decoder layer have in their names."""


@dataclass
class BottleneckConfig(PeftConfig):
    """`size` is the adapter's inner dimension; `target_modules` are the layers it comes after."""

    size: int = field(default=64)
    activation: str = field(default="relu")
    dropout: float = field(default=0.0)
    target_modules: Sequence[str] | None = field(default=None)
    exclude_modules: Sequence[str] | None = field(default=None)
    modules_to_save: list[str] | None = field(default=None)

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[no-untyped-call]
        self.peft_type = BOTTLENECK


class BottleneckLayer(nn.Module, BaseTunerLayer):
    """A layer of the model, and behind it x + up(activation(down(dropout(x)))) for a trained `down` and `up`.

    `up` is zero to begin with, so that the model computes as before. x is (..., width), of any floating-point type.
    """

    adapter_layer_names = ("bottleneck_down", "bottleneck_up")
    other_param_names = ("bottleneck_activation", "bottleneck_dropout")

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: BottleneckConfig) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.bottleneck_down = nn.ModuleDict()
        self.bottleneck_up = nn.ModuleDict()
        self.bottleneck_activation = nn.ModuleDict()
        self.bottleneck_dropout = nn.ModuleDict()
        self._disable_adapters = False
        self.merged_adapters: list[str] = []
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, config)

    def update_layer(self, adapter_name: str, config: BottleneckConfig) -> None:
        """Adds an adapter of that name."""
        width = _width(self.get_base_layer()) or 0
        self.bottleneck_down[adapter_name] = nn.Linear(width, config.size)
        self.bottleneck_up[adapter_name] = nn.Linear(config.size, width)
        self.bottleneck_activation[adapter_name] = ACT2FN[config.activation]
        self.bottleneck_dropout[adapter_name] = nn.Dropout(config.dropout)
        for weight in self.bottleneck_up[adapter_name].parameters():
            nn.init.zeros_(weight)
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        raise ValueError("a bottleneck adapter has an activation of its own and cannot be merged into a weight")

    def unmerge(self) -> None:
        raise ValueError("a bottleneck adapter is never merged")

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        found: torch.Tensor = self.base_layer(*args, **kwargs)
        if self.disable_adapters:
            return found
        for name in self.active_adapters:
            if name in self.bottleneck_down:
                down: Any = self.bottleneck_down[name]
                inner = down(self.bottleneck_dropout[name](found.to(down.weight.dtype)))
                added = self.bottleneck_up[name](self.bottleneck_activation[name](inner))
                found = found + added.to(found.dtype)
        return found


class BottleneckModel(BaseTuner):
    """A model with bottleneck adapters behind chosen layers."""

    prefix = "bottleneck_"
    tuner_layer_cls = BottleneckLayer
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012 - PEFT's attribute

    def _create_and_replace(
        self,
        peft_config: Any,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        if isinstance(target, BottleneckLayer):
            target.update_layer(adapter_name, peft_config)
            return
        layer = BottleneckLayer(target, adapter_name, peft_config)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)


def outputs_of(model: nn.Module, part: Part) -> list[str]:
    """The names, within a decoder layer, of the layers by which its attention or its MLP ends: `self_attn.o_proj`.

    Found in the module tree: the last layer of that part whose output is as wide as the model. Raises StepError if a
    decoder layer has none.
    """
    config: Any = model.config
    hidden = config.get_text_config().hidden_size
    found = set()
    for _, layers in model.named_modules():
        if not isinstance(layers, nn.ModuleList) or not any(_parts(layer, "attention") for layer in layers):
            continue
        for layer in layers:
            ends = [
                f"{part_name}.{name}" if name else part_name
                for part_name, module in _parts(layer, part)
                for name, inner in module.named_modules()
                if _width(inner) == hidden and not isinstance(inner, BaseTunerLayer)
            ]
            if not ends:
                raise StepError(
                    f"the {part} of the model's layers does not end in a linear layer of {hidden} outputs",
                    "Take lora, which needs none.",
                )
            found.add(ends[-1].removesuffix(".base_layer"))
    if not found:
        raise StepError(f"the model has no layers with a part called {part}", "Take lora, which needs none.")
    return sorted(found)


def _parts(layer: nn.Module, part: Part) -> list[tuple[str, nn.Module]]:
    return [
        (name, module)
        for name, module in layer.named_children()
        if any(sign in name.lower() for sign in _PARTS[part]) and any(True for _ in module.children())
    ]


def _width(layer: nn.Module) -> int | None:
    """How many outputs a linear layer has, torch's or transformers' Conv1D; None for other layers."""
    found = getattr(layer, "out_features", getattr(layer, "nf", None))
    return found if isinstance(found, int) else None


def register() -> None:
    """Makes these adapters known to PEFT."""
    # PEFT's own registration takes the names of an enumeration of its alone; the tables it fills take any.
    tables: tuple[tuple[Any, Any], ...] = (
        (PEFT_TYPE_TO_CONFIG_MAPPING, BottleneckConfig),
        (PEFT_TYPE_TO_TUNER_MAPPING, BottleneckModel),
        (PEFT_TYPE_TO_PREFIX_MAPPING, BottleneckModel.prefix),
    )
    for table, entry in tables:
        table[BOTTLENECK] = entry
