"""Layers put upon each other stay what they were, though architectures tell them by their place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from tests.mergekit.conftest import Merged, make
from tuneforge import Model
from tuneforge.artifacts import read_json
from tuneforge.kit.folders import write_json
from tuneforge_mergekit.layers import Passthrough

Merge = Callable[..., Merged]


def settings(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = AutoConfig.from_pretrained(folder).to_dict()
    return found


def stacked(merge: Merge, model: Model, parts: Sequence[tuple[int, int]]) -> tuple[dict[str, Any], list[int]]:
    """What transformers reads of a stack of layers, and which they were."""
    method = Passthrough(stack=[{"layers": part} for part in parts])
    return settings(merge(method, [model]).model.path), [layer for part in parts for layer in range(*part)]


def test_of_a_pattern_each_keeps_its_attention(merge: Merge, tmp_path: Path) -> None:
    model = make(tmp_path / "gemma", architecture="gemma3_text", layers=8)
    written = read_json(model.path / "config.json")
    kinds = ["full_attention" if n % 3 == 2 else "sliding_attention" for n in range(8)]
    older = {name: value for name, value in written.items() if name != "layer_types"} | {"sliding_window_pattern": 3}
    write_json(model.path / "config.json", older)
    assert settings(model.path)["layer_types"] == kinds
    found, layers = stacked(merge, model, [(0, 3), (1, 8)])
    assert found["layer_types"] == [kinds[layer] for layer in layers]


@pytest.mark.parametrize("parts", [[(1, 4)], [(0, 3), (1, 4)]], ids=["shallower", "deeper"])
def test_those_without_positions_stay_without(parts: list[tuple[int, int]], merge: Merge, tmp_path: Path) -> None:
    model = make(tmp_path / "smol", architecture="smollm3", layers=4)
    before = settings(model.path)["no_rope_layers"]
    assert before == [1, 1, 1, 0]
    found, layers = stacked(merge, model, parts)
    assert found["no_rope_layers"] == [before[layer] for layer in layers]
    assert len(found["layer_types"]) == len(layers)
