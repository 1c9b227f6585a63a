"""A home with an environment for gptqmodel, which is made in the first run of all, and small facts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.core.bench import Bench, new
from tuneforge import ChatData, Facts, Model
from tuneforge.artifacts import Tensor

ORDERS = Path(__file__).parents[2] / "recipes" / "data" / "orders-chat.jsonl"


@pytest.fixture(scope="session")
def environments(pytestconfig: pytest.Config) -> Path:
    """Where environments are kept: they cost minutes and a gigabyte."""
    given = os.environ.get("TUNEFORGE_TEST_CACHE")
    return Path(given) if given else pytestconfig.cache.mkdir("environments")


@pytest.fixture
def workshop(tmp_path: Path, environments: Path) -> Bench:
    """A bench whose home has the environments that were made before."""
    made = new(tmp_path)
    (environments / "envs").mkdir(parents=True, exist_ok=True)
    made.home.mkdir(exist_ok=True)
    (made.home / "envs").symlink_to(environments / "envs")
    return made


def model(layers: dict[str, tuple[int, int]] | None = None, stored: str = "BF16", **config: Any) -> Facts:
    """The facts of a Llama of one layer with an output head."""
    shapes = layers or {"self_attn.q_proj": (256, 256), "mlp.gate_proj": (512, 256), "mlp.down_proj": (256, 512)}
    tensors = {f"model.layers.0.{name}.weight": Tensor(stored, shape) for name, shape in shapes.items()}
    tensors |= {
        "model.embed_tokens.weight": Tensor(stored, (1000, 256)),
        "model.layers.0.input_layernorm.weight": Tensor(stored, (256,)),
        "lm_head.weight": Tensor(stored, (1000, 256)),
    }
    return Facts(Model, {"model_type": "llama", **config}, tensors, Path("/tokenizer"), "{{ messages }}")


def chats(rows: int | None = 1000) -> Facts:
    return Facts(ChatData, rows=rows)
