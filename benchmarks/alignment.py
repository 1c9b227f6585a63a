"""What every method of alignment changes, on orders drawn anew and with other seeds than any setting was chosen by.

The number on the command line is that of the draws. TUNEFORGE_HOME keeps what is made.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.measure import BIN

_RECIPES = Path(__file__).parents[1] / "recipes"
_SEEDS = (11, 12, 13)

Scores = Mapping[str, Mapping[str, float]]
"""What a report tells: scores by the name of the step that made the model."""


class Figure(NamedTuple):
    """What a method is for: a score of a report, and what to call it."""

    name: str
    report: str
    score: str


class Case(NamedTuple):
    """A method in a recipe, and the step whose model it begins with."""

    method: str
    recipe: str
    before: str
    after: str
    figure: Figure
    task: str = "task"
    settings: tuple[str, ...] = ()


PREFERENCES = {
    "dpo": "{align: dpo, model: sft, data: pairs, with: {learning_rate: 4e-4, batch_size: 8, steps: 20}}",
    "kto": "{align: kto, model: sft, data: judged, with: {learning_rate: 4e-4, batch_size: 16, steps: 20}}",
    "orpo": "{align: orpo, model: sft, data: pairs, with: {learning_rate: 1e-3, batch_size: 8, steps: 30}}",
    "cpo": "{align: cpo, model: sft, data: pairs, with: {learning_rate: 4e-4, batch_size: 8, steps: 20}}",
    "simpo": "{align: simpo, model: sft, data: pairs, with: {learning_rate: 4e-4, batch_size: 8, steps: 20}}",
}
"""The methods of preferences, each as a step that goes on from the same tuned model."""

_MANNERS = Figure("pairs whose chosen answer is likelier", "manners", "preference_accuracy")
_RECORDS = Figure("records right", "task", "record_match")
# Without the penalty, which the recipe's grpo has not either.
_RLOO = ("--set", "steps.grpo.align=rloo", "--set", "steps.grpo.with.beta=0")
_DRAW = """
import random, sys
from pathlib import Path

import orders, words
from draws import compact, names, shuffled

folder, seed = Path(sys.argv[1]), int(sys.argv[2])
first, rng = random.Random(0), random.Random(seed)
parts = [(words.NAME_STARTS, words.NAME_ENDS), (words.PLACE_STARTS, words.PLACE_ENDS)]
pools = [names(first, starts, ends) for starts, ends in parts]
customers, places = (shuffled(rng, pool[: orders.CHATS + orders.PREFERENCES]) for pool in pools)
chats, pairs = slice(orders.CHATS), slice(orders.CHATS, None)
for name, rows in {
    "chat": orders.chats(rng, customers[chats], places[chats]),
    "preferences": orders.preferences(rng, customers[pairs], places[pairs]),
    "feedback": orders.feedback(rng, customers[pairs], places[pairs]),
}.items():
    orders.write(folder / f"orders-{name}.jsonl", map(compact, rows))
"""

CASES = (
    *(Case(method, "preferences", "sft", method, _MANNERS) for method in PREFERENCES),
    Case("grpo", "grpo-json", "sft", "grpo", _RECORDS),
    Case("rloo", "grpo-json", "sft", "grpo", _RECORDS, settings=_RLOO),
    Case("online_dpo", "online-dpo", "sft", "online", _MANNERS),
    Case("ppo", "rlhf-ppo", "sft", "ppo", Figure("mean score", "scores", "reward"), "scores"),
    Case(
        "distill",
        "distill",
        "student",
        "distilled",
        Figure("perplexity, the lower the better", "scores", "perplexity"),
        "scores",
    ),
)


def preferences(data: Path) -> str:
    """A recipe in which all of them begin with one tuned model, on the demonstration's files in `data`."""
    aligned = ", ".join(["sft", *PREFERENCES])
    return f"""seed: 1
steps:
  base: {{load_model: builtin}}
  chats: {{format: chat, with: {{path: {data}/orders-chat.jsonl, holdout: 0.1}}}}
  pairs: {{format: preference, with: {{path: {data}/orders-preferences.jsonl, holdout: 0.1}}}}
  judged: {{format: feedback, with: {{path: {data}/orders-feedback.jsonl, holdout: 0.1}}}}
  sft:
    train: sft
    model: base
    data: chats
    with: {{adapter: {{type: lora, r: 16}}, learning_rate: 4e-3, batch_size: 8, steps: 200, max_length: 512}}
{"".join(f"  {name}: {method}{chr(10)}" for name, method in PREFERENCES.items())}
  task: {{evaluate: generation, models: [{aligned}], data: chats, with: {{limit: 100, max_new_tokens: 64}}}}
  manners: {{evaluate: preference, models: [{aligned}], data: pairs}}
"""


def main() -> None:
    """Runs every recipe on each draw; the table holds means over the draws, and their range."""
    seen: dict[str, list[tuple[float, float, float, float]]] = {case.method: [] for case in CASES}
    seeds = _SEEDS[: next((int(word) for word in sys.argv[1:] if word.isdigit()), None)]
    with tempfile.TemporaryDirectory() as name:
        for seed in seeds:
            folder = Path(name, str(seed))
            draw(folder / "data", seed)
            runs = dict.fromkeys((case.recipe, case.settings) for case in CASES)
            reports = {run: _carry_out(folder, run[0], ("--set", f"seed={seed}", *run[1])) for run in runs}
            for case in CASES:
                found = _figures(case, reports[case.recipe, case.settings])
                seen[case.method].append(found)
                print(f"seed {seed}: {case.method}: {' '.join(f'{each:.3f}' for each in found)}", flush=True)
    print(f"\n{len(seeds)} draws")
    print("| method | what it optimises | before | after | records right |\n|---|---|---|---|---|")
    for case in CASES:
        columns = [*zip(*seen[case.method], strict=True)]
        before, after, right, then = map(_told, columns)
        print(f"| `{case.method}` | {case.figure.name} | {before} | {after} | {right} to {then} |")


def draw(folder: Path, seed: int) -> None:
    """The demonstration's files with other orders, of the customers and places that the built-in model has not seen."""
    folder.mkdir(parents=True)
    subprocess.run([sys.executable, "-c", _DRAW, folder, str(seed)], check=True, cwd=_RECIPES / "data")


def _carry_out(folder: Path, recipe: str, settings: Sequence[str]) -> Callable[[str], Scores]:
    """Runs a recipe with these settings on the data in the folder; gives what tells a report of it."""
    path = folder / f"{recipe}.yaml"
    if recipe == "preferences":
        text = preferences(folder / "data")
    else:
        text = (_RECIPES / path.name).read_text(encoding="utf-8")
    path.write_text(text, encoding="utf-8")
    command = [str(BIN / "tuneforge"), "--home", os.environ.get("TUNEFORGE_HOME") or str(folder / "home")]
    run = [*command, "run", str(path), *settings, "--json"]
    done = subprocess.run(run, check=True, cwd=folder, stdout=subprocess.PIPE, text=True)
    digests = {step["name"]: step["digest"] for step in json.loads(done.stdout)["steps"]}

    def scores(step: str) -> Scores:
        told = [*command, "registry", "path", digests[step]]
        place = subprocess.run(told, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        report = json.loads(Path(place, "report.json").read_text(encoding="utf-8"))
        return {name: report["scores"][digest] for name, digest in digests.items() if digest in report["scores"]}

    return scores


def _figures(case: Case, scores: Callable[[str], Scores]) -> tuple[float, float, float, float]:
    """Before and after: what is optimised, then the share of records that are right."""
    optimised, task = scores(case.figure.report), scores(case.task)
    names = (case.before, case.after)
    first, last = (optimised[name][case.figure.score] for name in names)
    right, then = (task[name]["record_match"] for name in names)
    return first, last, right, then


def _told(values: Sequence[float]) -> str:
    spread = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"
