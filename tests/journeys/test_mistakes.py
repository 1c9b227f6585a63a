"""Mistakes are refused by `plan`, all at once, with place, problem and fix, and nothing is written."""

from __future__ import annotations

import pytest

from tests.journeys.conftest import Person

ROWS = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
PAIRS = '{"prompt": "a", "chosen": "b", "rejected": "c"}\n'
HEAD = """\
steps:
  base:  {load_model: builtin}
  chats: {format: chat, with: {path: rows.jsonl}}
  pairs: {format: preference, with: {path: pairs.jsonl}}
  sft:   {train: sft, model: base, data: chats, with: {adapter: {type: lora}}}
"""

MISTAKES = {
    "misspelt key": ("train: sft, model: base, data: chats, with: {epocs: 1}", "no option epocs", "epochs"),
    "another tool's name": (
        "train: sft, model: base, data: chats, with: {num_train_epochs: 1, adapter: {lora_r: 8}}",
        "no option num_train_epochs",
        "called epochs here",
    ),
    "wrong type": ("train: sft, model: base, data: chats, with: {epochs: many}", "epochs: ", "'many'"),
    "out of range": ("align: dpo, model: sft, data: pairs, with: {beta: -1}", "beta: ", "-1"),
    "max_length 0": ("train: sft, model: base, data: chats, with: {max_length: 0}", "max_length: ", "0"),
    "missing file": ("format: chat, with: {path: nowhere.jsonl}", "nowhere.jsonl", ""),
    "other columns": ("format: chat, with: {path: other.csv}", "question", "columns: {"),
    "unknown method": ("train: sftt, model: base, data: chats", "offers train: sftt", "sft"),
    "method of another stage": ("train: dpo, model: base, data: chats", "offers train: dpo", "align: dpo"),
    "no such plugin": ("align: galore, model: sft, data: pairs", "offers align: galore", "plugins:"),
    "unknown template": (
        "load_model: path, with: {path: ., template: nowhere.jinja}",
        "nowhere.jinja",
        "",
    ),
    "unknown LoRA target": (
        "train: sft, model: base, data: chats, with: {adapter: {type: lora, target_modules: [q_prj]}}",
        "q_prj",
        "q_proj",
    ),
    "preference data to SFT": ("train: sft, model: base, data: pairs", "data takes chat-data", "chats"),
    "adapter for a model": ("quantize: gguf, model: sft", "model takes model", "base"),
    "slerp of three": ("merge: slerp, models: [base, base, base]", "slerp merges 2 models, not 3", "Wire 2 models"),
    "a weight short": (
        "merge: ties, models: [sft, base], base: base, with: {weights: [1]}",
        "1 value for 2",
        "one for",
    ),
    "mergekit's word": ("merge: slerp, models: [sft, base], with: {tokenizer_source: union}", "no option", "tokenizer"),
    "no such builtin": ("load_model: builtin, with: {model: tinny}", "tinny", "tiny"),
    "no such folder": ("load_model: path, with: {path: no-model}", "no-model", ""),
    "no such step": ("merge: adapter, model: stf", "no step stf", "sft"),
    "missing input": ("train: sft, model: base", "needs the input data", "Add data:"),
    "cycle": ("merge: adapter, model: last", "wait for each other", ""),
    "unwritable": ("publish: folder, artifacts: [base], with: {to: rows.jsonl/release}", "rows.jsonl", ""),
    "foreign folder": ("publish: folder, artifacts: [base], with: {to: .}", "release", ""),
}


@pytest.fixture
def folder(person: Person) -> Person:
    person.write("rows.jsonl", ROWS * 20)
    person.write("pairs.jsonl", PAIRS * 20)
    person.write("other.csv", "question,reply\na,b\n" * 20)
    return person


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_refused_with_place_problem_and_fix(folder: Person, mistake: str) -> None:
    body, problem, fix = MISTAKES[mistake]
    folder.write("recipe.yaml", f"{HEAD}  last: {{{body}}}\n")
    answer = folder.tuneforge("plan", "recipe.yaml")
    assert answer.code == 2, answer.out
    assert answer.err.startswith("recipe.yaml:6:"), answer.err
    assert problem in answer.err
    assert fix in answer.err
    found = answer.err.splitlines()
    for line, after in zip(found, [*found[1:], ""], strict=True):
        if not line.startswith("    "):
            assert after.startswith("    ") and after.strip(), f"no fix for: {line}"
    assert "Traceback" not in answer.err
    assert not (folder.folder / ".tuneforge").exists()
    assert folder.tuneforge("run", "recipe.yaml").code == 2
    assert not (folder.folder / ".tuneforge").exists()


def test_all_mistakes_of_a_recipe_are_told_at_once(folder: Person) -> None:
    together = [(number, body) for number, (name, (body, _, _)) in enumerate(MISTAKES.items()) if name != "cycle"]
    lines = "".join(f"  last{number}: {{{body}}}\n" for number, body in together)
    folder.write("recipe.yaml", HEAD + lines)
    answer = folder.tuneforge("plan", "recipe.yaml")
    assert answer.code == 2
    for line, _ in enumerate(together, 6):
        assert f"recipe.yaml:{line}:" in answer.err, f"nothing on line {line}:\n{answer.err}"
