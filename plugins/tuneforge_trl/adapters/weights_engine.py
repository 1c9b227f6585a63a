"""IA3, LoHa, VeRA and OFT in PEFT's terms."""

from __future__ import annotations

from peft import IA3Config, LoHaConfig, OFTConfig, VeraConfig

from tuneforge import StepError
from tuneforge.kit.bottleneck import outputs_of

from .engine import Making
from .lora_engine import targets
from .weights import Ia3, LoHa, Oft, Vera

_KEYS_AND_VALUES = ("k_proj", "v_proj", "qkv_proj", "query_key_value", "c_attn", "key", "value", "Wqkv")
"""What models call the layers that make keys and values; in some they make the queries too."""


def ia3_config(options: Ia3, making: Making) -> IA3Config:
    """IA3 on keys, values and the inputs of each MLP's last layer, or on the chosen layers."""
    inner = outputs_of(making.model, "mlp")
    if options.target_modules == "auto":
        ends = {name.rsplit(".", 1)[-1] for name, _ in making.model.named_modules()}
        chosen = [name for name in _KEYS_AND_VALUES if name in ends] + inner
        if chosen == inner:
            raise StepError("the model has no layers of keys and values by a known name", "Name target_modules.")
    else:
        chosen = list(options.target_modules)
    forward = [name for name in chosen if any(end == name or end.endswith(f".{name}") for end in inner)]
    return IA3Config(**making.common(), target_modules=chosen, feedforward_modules=forward)


def loha_config(options: LoHa, making: Making) -> LoHaConfig:
    """A LoHa."""
    return LoHaConfig(
        **making.common(),
        r=options.r,
        alpha=options.scale,
        rank_dropout=options.dropout,
        target_modules=targets(options, making),
    )


def vera_config(options: Vera, making: Making) -> VeraConfig:
    """A VeRA whose shared matrices are drawn from one seed, and written with it: another machine may draw others."""
    return VeraConfig(
        **making.common(),
        r=options.r,
        d_initial=options.initial,
        vera_dropout=options.dropout,
        projection_prng_key=0,
        save_projection=True,
        target_modules=targets(options, making),
    )


def oft_config(options: Oft, making: Making) -> OFTConfig:
    """An OFT whose rotations are exact: the quicker series that PEFT takes by itself only comes near one."""
    return OFTConfig(
        **making.common(),
        oft_block_size=options.block_size,
        module_dropout=options.dropout,
        use_cayley_neumann=False,
        target_modules=targets(options, making),
    )
