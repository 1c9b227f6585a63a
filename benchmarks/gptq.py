"""GPTQ of a model of 470 million random weights on 16 x 512 tokens, beside gptqmodel's own script in its environment.

Run as: python -m benchmarks gptq [LAYERS]     fewer layers than 24, to try it
"""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measure import BIN, run

_ROUNDS = 2
_LAYERS, _ROWS, _LENGTH = 24, 16, 512
_SCRIPT = Path(__file__).with_name("gptq_script.py")
_RECIPE = """name: gptq
steps:
  model: {{load_model: path, with: {{path: {folder}/model}}}}
  texts: {{format: completion, with: {{path: {folder}/texts.jsonl}}}}
  gptq:
    {{quantize: gptq, model: model, data: texts, with: {{group_size: 128, rows: {rows}, max_length: {length}}}}}
"""


def main() -> None:
    """Interleaved rounds; a first one, which is not counted, makes the environment and warms what is compiled."""
    layers = next((int(word) for word in sys.argv[1:] if word.isdigit()), _LAYERS)
    seen: dict[str, list[dict[str, float]]] = {"script": [], "tuneforge": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        total = write(folder, layers)
        print(f"\ngptq, {total / 1e6:.0f}M parameters, {_ROWS} x {_LENGTH} tokens", flush=True)
        for turn in range(_ROUNDS + 1):
            ours, python = _tuneforge(folder)
            theirs = _script(folder, python)
            print(f"  round {turn}: tuneforge {_told(ours)}; script {_told(theirs)}", flush=True)
            if turn:
                seen["tuneforge"].append(ours)
                seen["script"].append(theirs)
    pairs = list(zip(seen["tuneforge"], seen["script"], strict=True))
    share = statistics.median(ours["seconds"] / theirs["seconds"] for ours, theirs in pairs) - 1
    memory = statistics.median(ours["memory"] / theirs["memory"] for ours, theirs in pairs) - 1
    print(f"  ours on top, the comparison with the model aside: {share:+.1%} (budget: +10%)")
    print(f"  peak memory, that comparison included: {memory:+.1%} (budget: no more)")


def write(folder: Path, layers: int) -> int:
    """The model, its calibration rows as texts and as token ids; gives the number of parameters."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tuneforge_models import fresh

    words = ["".join(random.Random(place).choices("abcdefghijklmnopqrstuvwxyz", k=5)) for place in range(400)]
    tokenizer = fresh.make_tokenizer(words * 3, 2048)
    config = LlamaConfig(
        vocab_size=32_000,
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=layers,
        num_attention_heads=16,
        num_key_value_heads=16,
        max_position_embeddings=2048,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    made: Any = LlamaForCausalLM(config)
    model = made.to(torch.bfloat16)
    fresh.save(model, tokenizer, folder / "model")
    chance = random.Random(1)
    texts = [" ".join(chance.choices(words, k=_LENGTH)) for _ in range(_ROWS)]
    lines = [json.dumps({"text": text}) for text in texts]
    (folder / "texts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    rows: list[list[int]] = [tokenizer(text)["input_ids"][:_LENGTH] for text in texts]
    given = [{"input_ids": row, "attention_mask": [1] * len(row)} for row in rows]
    (folder / "rows.json").write_text(json.dumps(given), encoding="utf-8")
    (folder / "gptq.yaml").write_text(_RECIPE.format(folder=folder, rows=_ROWS, length=_LENGTH), encoding="utf-8")
    return sum(weight.numel() for weight in model.parameters())


def _tuneforge(folder: Path) -> tuple[dict[str, float], Path]:
    """The step as its record tells it, from nothing but the environment; and that environment's interpreter."""
    home = folder / "home"
    for made in home.glob("*"):
        if made.name != "envs":
            shutil.rmtree(made) if made.is_dir() else made.unlink()
    command = [
        str(BIN / "tuneforge"),
        "--home",
        str(home),
        "run",
        str(folder / "gptq.yaml"),
        "--json",
        "--threads",
        "1",
    ]
    settings = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=settings)
    if done.returncode:
        raise SystemExit(done.stderr[-4000:])
    (record,) = (json.loads(path.read_text(encoding="utf-8")) for path in (home / "runs").glob("*.json"))
    step = next(step for step in record["steps"] if step["name"] == "gptq")
    found = {
        "seconds": step["import_seconds"] + step["work_seconds"] - step["metrics"]["comparison_seconds"],
        "memory": step["peak_memory"],
    }
    return found, home / "envs" / step["environment"] / "bin" / "python"


def _script(folder: Path, python: Path) -> dict[str, float]:
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    script = [str(python), str(_SCRIPT), str(folder / "model"), str(folder / "rows.json"), str(out)]
    used = run(script, folder, {"TOKENIZERS_PARALLELISM": "false", "GPTQMODEL_CPU_WORKERS": "2"})
    return {"seconds": used.wall, "memory": used.memory}


def _told(found: dict[str, float]) -> str:
    return f"{found['seconds']:.1f} s, {found['memory'] / 2**30:.2f} GiB"
