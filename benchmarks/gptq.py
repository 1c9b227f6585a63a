"""GPTQ of 471 million random weights on 16 x 512 tokens, beside gptqmodel's own script in its environment."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import tempfile
from pathlib import Path

from benchmarks.large import WORDS, large_model, layers
from benchmarks.measure import BIN, Used, least, run

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


# What the step does but for comparing, which is parity: the same rows, in the same environment.
_OURS = """
import json
import sys
from pathlib import Path

import torch
from tuneforge import Model, Step
from tuneforge_gptqmodel import engine, library
from tuneforge_gptqmodel.gptq import Gptq

model, rows, out = map(Path, sys.argv[1:])
scratch = out.with_name("scratch")
for folder in (out, scratch):
    folder.mkdir(exist_ok=True)
torch.set_num_threads(1)
step = Step("gptq", out, scratch, seed=1, threads=1, send=print)
ids = [row["input_ids"] for row in json.loads(rows.read_text())]
engine.write(library, Gptq(group_size=128), Model(model, ""), ids, step)
"""


def main() -> None:
    """Interleaved rounds, once a model of one layer has warmed the disk cache and compiled what is compiled once."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder, 1)
        environment = _environment(folder)
        _round(folder, environment)
        parameters = _write(folder, layers())
        seen = [_round(folder, environment) for _ in range(_ROUNDS)]
    theirs, ours = (least(rounds) for rounds in zip(*seen, strict=True))
    print(f"\ngptq, {parameters / 1e6:.0f}M parameters, {_ROWS} x {_LENGTH} tokens, least of {_ROUNDS} rounds")
    print(f"  script {_told(theirs)}\n  ours   {_told(ours)}")
    wall, cpu, memory = (mine / other - 1 for mine, other in zip(ours, theirs, strict=True))
    print(f"  on top {wall:+.1%}, {cpu:+.1%} of processors, {memory:+.1%} of memory")


def _round(folder: Path, environment: Path) -> tuple[Used, Used]:
    """What their script takes, and what ours does."""
    python, given = str(environment / "bin" / "python"), [str(folder / "model"), str(folder / "rows.json")]
    settings = {"TOKENIZERS_PARALLELISM": "false", "GPTQMODEL_CPU_WORKERS": "2"}
    lent = settings | {"PYTHONPATH": str(environment / "lent")}
    theirs = run([python, str(_SCRIPT), *given, str(folder / "theirs")], folder, settings)
    ours = run([python, "-c", _OURS, *given, str(folder / "ours")], folder, lent)
    print(f"  script {_told(theirs)}; ours {_told(ours)}", flush=True)
    for name in ("theirs", "ours", "scratch"):
        shutil.rmtree(folder / name)
    return theirs, ours


def _told(used: Used) -> str:
    return f"{used.wall:.1f} s, {used.cpu:.1f} s of processors, {used.memory / 1e6:.0f} MB"


def _environment(folder: Path) -> Path:
    """The environment that the core makes for the step."""
    home = Path(os.environ.get("TUNEFORGE_HOME") or folder / "home")
    command = [
        str(BIN / "tuneforge"),
        "--home",
        str(home),
        "run",
        str(folder / "gptq.yaml"),
        "--again",
        "gptq",
        "--json",
    ]
    document = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    steps = json.loads((home / "runs" / f"{document['run']}.json").read_text(encoding="utf-8"))["steps"]
    (step,) = (step for step in steps if step["name"] == "gptq")
    return home / "envs" / str(step["environment"])


def _write(folder: Path, depth: int) -> int:
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
