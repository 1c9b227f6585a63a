"""What a quantized model's configuration tells of how it is to be loaded."""

from __future__ import annotations

from typing import Any

import pytest

from tuneforge.kit.quantized import packed_zero_points

FOUR = {"num_bits": 4, "symmetric": False, "strategy": "group", "group_size": 32}
EIGHT = {"num_bits": 8, "symmetric": False, "strategy": "channel"}


def packed(*weights: dict[str, Any] | None, method: str = "compressed-tensors", **more: Any) -> dict[str, Any]:
    groups = {f"group_{place}": {"weights": each, "input_activations": None} for place, each in enumerate(weights)}
    return {"quantization_config": {"quant_method": method, "format": "pack-quantized", "config_groups": groups} | more}


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        (packed(FOUR), True),
        (packed(FOUR, FOUR), True),
        (packed(FOUR, EIGHT), False),  # all would be unpacked as the first is
        (packed({**FOUR, "symmetric": True}), False),
        (packed(FOUR, format="naive-quantized"), False),
        (packed(FOUR, config_groups={"W4A16": ["Linear"]}), False),
        (packed(FOUR, config_groups={"a": {"weights": FOUR, "input_activations": {"num_bits": 8}}}), False),
        (packed(FOUR, method="gptq"), False),
        (packed(None), False),
        (packed(config_groups=None), False),
        ({}, False),
    ],
)
def test_packed_zero_points_alone_are_unpacked_as_they_are_loaded(config: dict[str, Any], wanted: bool) -> None:
    assert packed_zero_points(config) is wanted
