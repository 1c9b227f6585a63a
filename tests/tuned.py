"""The built-in model after it has learnt the colours of a few things: what quantized forms of it are compared with."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.trl.colours import COLOURS
from tuneforge import Model, QuantizedModel
from tuneforge.kit.chats import prompt_ids, tokenize_chat
from tuneforge.kit.models import load_model, load_tokenizer, save_model
from tuneforge_models.shipped import SHIPPED


def tune(folder: Path, steps: int = 25) -> Model:
    """Trains the built-in model on the colours until it knows them, and writes it into `folder`."""
    torch.set_num_threads(1)
    base = Model(SHIPPED / "tiny", "b" * 64)
    tokenizer = load_tokenizer(base)
    model = load_model(base, dtype=torch.float32, trainable=True, on=torch.device("cpu"))
    rows = [
        tokenize_chat(tokenizer, [{"role": "user", "content": thing}, {"role": "assistant", "content": colour}])
        for thing, colour in COLOURS.items()
    ]
    longest = max(len(row.ids) for row in rows)
    ids = torch.tensor([row.ids + [0] * (longest - len(row.ids)) for row in rows])
    labels = torch.tensor([row.labels + [-100] * (longest - len(row.labels)) for row in rows])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(steps):
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    save_model(model, base.path, folder, torch.bfloat16, like=base.path)
    return Model(folder, "a" * 64)


def answers(model: torch.nn.Module, of: Model | QuantizedModel) -> list[str]:
    """The greedy answer to each thing whose colour was learnt."""
    tokenizer = load_tokenizer(of)
    found = []
    for thing in COLOURS:
        ids = torch.tensor([prompt_ids(tokenizer, [{"role": "user", "content": thing}])])
        written = model.generate(input_ids=ids, max_new_tokens=8, do_sample=False)  # type: ignore[operator]
        found.append(tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True).strip())
    return found
