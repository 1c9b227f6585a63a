"""GPTQ of 471 million random weights on 16 x 512 tokens, beside gptqmodel's own script in its environment."""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

from benchmarks.large import WORDS, large_model, layers
from benchmarks.measure import BIN, run

_ROUNDS = 2
_ROWS, _LENGTH = 16, 512
_SCRIPT = Path(__file__).with_name("gptq_script.py")
_RECIPE = """name: gptq
extensions: {{parity: false}}
steps:
  model: {{load_model: path, with: {{path: {folder}/model}}}}
  texts: {{format: completion, with: {{path: {folder}/texts.jsonl}}}}
  gptq:
    {{quantize: gptq, model: model, data: texts, with: {{group_size: 128, rows: {rows}, max_length: {length}}}}}
"""


def main() -> None:
    """Interleaved rounds, after one with a model of one layer that makes the environment and warms the disk cache."""
    seen: dict[str, list[dict[str, float]]] = {"script": [], "tuneforge": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for turn in range(_ROUNDS + 1):
            if turn < 2:
                total = write(folder, layers() if turn else 1)
                print(f"\ngptq, {total / 1e6:.0f}M parameters, {_ROWS} x {_LENGTH} tokens", flush=True)
            ours, python = _tuneforge(folder)
            theirs = _script(folder, python)
            print(f"  tuneforge {_told(ours)}; script {_told(theirs)}", flush=True)
            if turn:
                seen["tuneforge"].append(ours)
                seen["script"].append(theirs)
    pairs = list(zip(seen["tuneforge"], seen["script"], strict=True))
    share = statistics.median(ours["seconds"] / theirs["seconds"] for ours, theirs in pairs) - 1
    memory = statistics.median(ours["memory"] / theirs["memory"] for ours, theirs in pairs) - 1
    print(f"  ours on top, the comparison with the model aside: {share:+.1%} (budget: +10%)")
    print(f"  peak memory, that comparison included: {memory:+.1%} (budget: no more)")


def write(folder: Path, depth: int) -> int:
    """The model, its calibration rows as texts and as token ids; gives the number of parameters."""
    from transformers import AutoTokenizer

    total = large_model(folder / "model", depth)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    chance = random.Random(1)
    texts = [" ".join(chance.choices(WORDS, k=_LENGTH)) for _ in range(_ROWS)]
    lines = [json.dumps({"text": text}) for text in texts]
    (folder / "texts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    rows: list[list[int]] = [tokenizer(text)["input_ids"][:_LENGTH] for text in texts]
    given = [{"input_ids": row, "attention_mask": [1] * len(row)} for row in rows]
    (folder / "rows.json").write_text(json.dumps(given), encoding="utf-8")
    (folder / "gptq.yaml").write_text(_RECIPE.format(folder=folder, rows=_ROWS, length=_LENGTH), encoding="utf-8")
    return total


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
