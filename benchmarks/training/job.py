"""The one job that every tool is given: the model, the rows, and the settings that are the same for all."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import NamedTuple

from tuneforge.recipe import recipe_folders

RANK, ALPHA, RATE, LENGTH, SEED = 16, 32, 2e-4, 512, 1


class Job(NamedTuple):
    """LoRA on all linear layers, without dropout, by AdamW in float32 on one thread; loss on the assistant's turns."""

    folder: Path
    rows: int = 400
    steps: int = 30
    micro: int = 4
    accumulation: int = 4

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def data(self) -> Path:
        return self.folder / "chats.jsonl"

    @property
    def warmup(self) -> int:
        """Steps, as tuneforge makes them of its default share."""
        return int(0.03 * self.steps)


def write(job: Job) -> None:
    """A Llama of 4.9M random parameters, with a tokenizer of its own, and rows of the demonstration."""
    # As the recipes do it: the benchmark needs no torch but for this.
    import torch

    from tuneforge_models import fresh

    chats = next(folder / "data/orders-chat.jsonl" for folder in recipe_folders() if (folder / "data").is_dir())
    with chats.open(encoding="utf-8") as lines:
        rows = list(islice(lines, job.rows))
    job.data.write_text("".join(rows), encoding="utf-8")
    tokenizer = fresh.make_tokenizer(rows, 2048)
    sizes = {"hidden_size": 256, "intermediate_size": 768, "layers": 6, "heads": 8, "kv_heads": 4, "context": 1024}
    model = fresh.make_model("llama", tokenizer, **sizes, tied=False, dtype=torch.float32, seed=SEED)
    fresh.save(model, tokenizer, job.model)
