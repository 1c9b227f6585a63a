"""Bottleneck adapters in the terms of `tuneforge.kit.bottleneck`."""

from __future__ import annotations

from tuneforge.kit.bottleneck import BottleneckConfig, outputs_of

from .bottleneck import Bottleneck
from .engine import Making


def bottleneck_config(options: Bottleneck, making: Making) -> BottleneckConfig:
    """Adapters behind the last layer of each part that the type names."""
    width = making.model.config.get_text_config().hidden_size
    return BottleneckConfig(
        **making.common(),
        size=options.size or max(1, width // options.reduction_factor),
        activation=options.activation,
        dropout=options.dropout,
        target_modules=sorted({name for part in options.after for name in outputs_of(making.model, part)}),
    )
